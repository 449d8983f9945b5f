//! What type everything in a program has.
//!
//! A walk gives every expression a type. A mismatch is an error only against a type that somebody
//! wrote, and only where what stands there can never fit: `any`, types that nobody defined, and
//! variables whose value changes fit everywhere. For editors a second walk trusts more: that a
//! variable keeps the type of all that is assigned to it, and that calls give what they give as a
//! rule.
//!
//! # What holds
//!
//! - Nothing here changes what a program does: the machine never hears of these types.
//! - Whatever an input may give a parameter is accepted from a program too, and more: a value for an
//!   `Option` of it, an `int` for a `float`, an error wherever something is returned.
//! - Each expression is walked once in a walk.
//!
//! # What is not here
//!
//! Names and how many arguments a function takes: those are the resolver's findings.

mod store;

pub(crate) use store::{Store, Ty, TyId};

use std::collections::BTreeMap;

use crate::check::names;
use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::foreign;
use crate::hir::{
    Arg, BinaryOp, Block, Condition, Expr, ExprKind, Function, Literal, Param, Pattern,
    PatternKind, Program, Span, Spanned, Stmt, StmtKind, Type, UnaryOp,
};
use crate::negation;
use crate::operations::{self, Place as Slot, Taken};
use crate::resolve::{Binding, Meaning, Names, Origin, Resolution, SymbolKind};
use crate::signatures::{self, Receiver, Signature};
use crate::syntax::literal::short;
use crate::value::Value;
use store::{Field, Inside};

/// Compares what a program does with the types that are written in it. Of places that `broken`
/// holds nothing is said.
pub(crate) fn check<'a>(
    program: &'a Program,
    names: &Resolution<'a>,
    source: &str,
    broken: &dyn Fn(usize) -> bool,
    sink: &mut Sink,
) {
    let mut walk = Infer::new(program, names);
    walk.report = Some(Report { source, broken, sink });
    walk.program(program);
}

/// The types of a program, for people.
pub(crate) struct Inferred<'a> {
    pub(crate) store: Store<'a>,
    /// The type of each expression.
    pub(crate) expressions: Vec<(Span, TyId)>,
    /// Each name of a member, be it behind a dot or a key of a record, with what it is a member of.
    pub(crate) members: Vec<(&'a Spanned<String>, TyId)>,
    /// The type of each binding; that of a function is what it gives.
    pub(crate) bindings: Vec<TyId>,
}

/// The types of everything in a program.
pub(crate) fn infer<'a>(program: &'a Program, names: &Resolution<'a>) -> Inferred<'a> {
    let mut walk = Infer::new(program, names);
    walk.program(program);
    // What was assigned to each variable, and what each function returned, is known now.
    for (id, joined) in std::mem::take(&mut walk.joined).into_iter().enumerate() {
        let written = matches!(names.bindings[id].origin, Origin::Typed(_));
        if !written && joined != TyId::Never {
            walk.types[id] = joined;
        }
    }
    walk.joined = vec![TyId::Never; names.bindings.len()];
    walk.trusting = true;
    walk.expressions = Some(Vec::new());
    walk.program(program);
    for (id, binding) in names.bindings.iter().enumerate() {
        if let Origin::Function(function) = binding.origin {
            walk.types[id] = match &function.result {
                Some(result) => walk.store.lower(result),
                None => walk.joined[id],
            };
        }
    }
    Inferred {
        store: walk.store,
        expressions: walk.expressions.unwrap_or_default(),
        members: walk.members,
        bindings: walk.types,
    }
}

/// A written type that something has to fit.
#[derive(Debug, Clone, Copy)]
struct Want<'a> {
    ty: TyId,
    place: Place<'a>,
}

/// Where something has to fit.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Variable(&'a str),
    Parameter { function: &'a str, name: &'a str },
    Field(&'a str),
    Element,
    Inside(&'static str),
    FunctionResult(&'a str),
    AgentResult(&'a str),
}

/// Whom mismatches are told.
struct Report<'r> {
    source: &'r str,
    broken: &'r dyn Fn(usize) -> bool,
    sink: &'r mut Sink,
}

struct Infer<'a, 'r> {
    names: &'r Resolution<'a>,
    store: Store<'a>,
    /// The type of each binding, as far as it is known.
    types: Vec<TyId>,
    /// What all values of a binding have in common; of a function, what it returns.
    joined: Vec<TyId>,
    /// Whether what holds as a rule is taken as known.
    trusting: bool,
    expressions: Option<Vec<(Span, TyId)>>,
    members: Vec<(&'a Spanned<String>, TyId)>,
    report: Option<Report<'r>>,
    /// What the body around is declared to give.
    result: Option<Want<'a>>,
    /// What the body around returned so far.
    returned: TyId,
    /// What was negated last.
    negated: TyId,
    /// The parameters of the lambdas that names stand for.
    lambdas: BTreeMap<usize, &'a [Param]>,
}

impl<'a, 'r> Infer<'a, 'r> {
    fn new(program: &'a Program, names: &'r Resolution<'a>) -> Self {
        let mut store = Store::of(program);
        let types = (names.bindings.iter())
            .map(|binding| match (binding.origin, binding.kind) {
                (Origin::Typed(ty), _) => store.lower(ty),
                (_, SymbolKind::Memory) => TyId::Memory,
                _ => TyId::Any,
            })
            .collect();
        Self {
            names,
            store,
            types,
            joined: vec![TyId::Never; names.bindings.len()],
            trusting: false,
            expressions: None,
            members: Vec::new(),
            report: None,
            result: None,
            returned: TyId::Never,
            negated: TyId::Any,
            lambdas: BTreeMap::new(),
        }
    }

    fn program(&mut self, program: &'a Program) {
        self.functions(&program.functions);
        for agent in &program.agents {
            self.functions(&agent.functions);
            for handler in &agent.handlers {
                self.body(&handler.body, None);
            }
            if let Some(with) = &agent.with {
                let place = Place::AgentResult(&agent.name.node);
                let want = self.want(agent.result.as_ref(), place);
                self.body(&with.body, want);
            }
            // What a condition can be is the policy compiler's to say.
            let report = self.report.take();
            for rule in agent.policies.iter().flat_map(|policy| &policy.rules) {
                rule.condition.iter().for_each(|condition| _ = self.expr(condition));
            }
            self.report = report;
        }
    }

    fn functions(&mut self, functions: &'a [Function]) {
        for function in functions {
            let place = Place::FunctionResult(&function.name.node);
            let want = self.want(function.result.as_ref(), place);
            let given = self.body(&function.body, want);
            if let Some(id) = self.symbol(function.name.span.start) {
                self.joined[id] = given;
            }
        }
    }

    fn want(&mut self, ty: Option<&'a Type>, place: Place<'a>) -> Option<Want<'a>> {
        ty.map(|ty| Want { ty: self.store.lower(ty), place })
    }

    /// A whole body, and what it gives.
    fn body(&mut self, body: &'a Block, want: Option<Want<'a>>) -> TyId {
        let result = std::mem::replace(&mut self.result, want);
        let returned = std::mem::replace(&mut self.returned, TyId::Never);
        let value = self.block(body, want);
        self.result = result;
        let returned = std::mem::replace(&mut self.returned, returned);
        self.store.join(returned, value)
    }

    // Bindings.

    fn symbol(&self, start: usize) -> Option<usize> {
        match self.names.starting_at(start)? {
            Meaning::Symbol(id) => Some(id),
            _ => None,
        }
    }

    fn binding(&self, start: usize) -> Option<&'r Binding<'a>> {
        let names: &'r Resolution<'a> = self.names;
        self.symbol(start).map(|id| &names.bindings[id])
    }

    /// What is known of a variable wherever it is read.
    fn known(&self, id: usize) -> TyId {
        let binding = &self.names.bindings[id];
        match binding.origin {
            Origin::Typed(_) => self.types[id],
            Origin::Function(_) => TyId::Function,
            Origin::Value if binding.writes == 0 || self.trusting => self.types[id],
            Origin::Assigned if self.trusting => self.types[id],
            Origin::Value | Origin::Assigned => TyId::Any,
            Origin::Other => self.types[id],
        }
    }

    /// A variable gets a value of this type.
    fn assign(&mut self, id: usize, ty: TyId) {
        let binding = &self.names.bindings[id];
        self.joined[id] = self.store.join(self.joined[id], ty);
        if matches!(binding.origin, Origin::Value) && binding.writes == 0 {
            self.types[id] = ty;
        }
    }

    fn define(&mut self, start: usize, ty: TyId) {
        if let Some(id) = self.symbol(start) {
            self.assign(id, ty);
        }
    }

    // Reports.

    fn tell(
        &mut self,
        severity: Severity,
        at: usize,
        diagnostic: impl FnOnce(&Store<'a>) -> Diagnostic,
    ) {
        if let Some(Report { broken, sink, .. }) = &mut self.report
            && !sink.is_full(severity)
            && !broken(at)
        {
            sink.push(diagnostic(&self.store));
        }
    }

    /// That what stands at `span` fits what is wanted there.
    fn compare(&mut self, got: TyId, want: Want<'a>, expr: &Expr) {
        self.compare_at(got, want, &expr.span, is_null(expr));
    }

    /// The same of what stands at `span`, whether it is a `null` that somebody wrote.
    fn compare_at(&mut self, got: TyId, want: Want<'a>, span: &Span, null: bool) {
        if self.report.is_none() || self.store.fits(got, want.ty) {
            return;
        }
        let head = self.store.head(got);
        match (want.place, head) {
            // Returning an error fails the run with it, whatever was declared.
            (Place::FunctionResult(_) | Place::AgentResult(_), Ty::Error) => return,
            (Place::FunctionResult(_), Ty::Null) if !null => return,
            // A run shows what is in an option or a result, and nothing as `null`.
            (Place::AgentResult(_), Ty::Null) => return,
            (Place::AgentResult(_), Ty::Option(inner) | Ty::Result(inner, _))
            | (Place::FunctionResult(_), Ty::Result(inner, _))
                if self.store.fits(inner, want.ty) =>
            {
                return;
            }
            _ => {}
        }
        self.tell(Severity::Error, span.start, |store| {
            let (ty, got) = (store.show(want.ty), store.show(got));
            let message = match want.place {
                Place::Variable(name) => {
                    format!("`{}` is declared as `{ty}`, and is given `{got}`", short(name))
                }
                Place::Parameter { function, name } => format!(
                    "`{}` takes `{ty}` as `{}`, and is given `{got}`",
                    short(function),
                    short(name)
                ),
                Place::Field(name) => {
                    format!("the field `{}` is `{ty}`, and is given `{got}`", short(name))
                }
                Place::Element => format!("an element here is `{ty}`, and is given `{got}`"),
                Place::Inside(what) => {
                    format!("what is in this `{what}` is `{ty}`, and is given `{got}`")
                }
                Place::FunctionResult(name) | Place::AgentResult(name) => {
                    format!("`{}` is declared to give `{ty}`, and gives `{got}`", short(name))
                }
            };
            Diagnostic::error("E0221", message, span.clone()).label(format!("expected `{ty}`"))
        });
    }

    // Statements.

    fn block(&mut self, block: &'a Block, want: Option<Want<'a>>) -> TyId {
        block.statements.iter().for_each(|statement| self.statement(statement));
        if let Some(value) = &block.value {
            return self.wanted(value, want);
        }
        let leaves = |statement: &Stmt| {
            matches!(statement.kind, StmtKind::Return(_) | StmtKind::Break | StmtKind::Continue)
        };
        if block.statements.last().is_some_and(leaves) { TyId::Never } else { TyId::Null }
    }

    fn statement(&mut self, statement: &'a Stmt) {
        match &statement.kind {
            StmtKind::Let { name, ty, value } => {
                let want = self.want(ty.as_ref(), Place::Variable(&name.node));
                let got = self.wanted(value, want);
                self.define(name.span.start, got);
                if let (ExprKind::Lambda { params, .. }, Some(id)) =
                    (&value.kind, self.symbol(name.span.start))
                    && self.names.bindings[id].writes == 0
                {
                    self.lambdas.insert(id, params);
                }
            }
            StmtKind::Assign { target, op, value } => self.assignment(target, *op, value),
            StmtKind::Expr(value) => _ = self.expr(value),
            StmtKind::For { name, iterable, body } => {
                let walked = self.expr(iterable);
                let element = match self.store.head(walked) {
                    Ty::Array(element) => element,
                    Ty::String | Ty::Map(_) | Ty::Record { .. } => TyId::String,
                    _ => TyId::Any,
                };
                self.define(name.span.start, element);
                self.block(body, None);
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                self.block(body, None);
            }
            StmtKind::Try { body, catches } => {
                self.block(body, None);
                for catch in catches {
                    if let Some(name) = &catch.name {
                        self.define(name.span.start, TyId::Error);
                    }
                    self.block(&catch.body, None);
                }
            }
            StmtKind::Return(value) => {
                let got = match value {
                    Some(value) => self.wanted(value, self.result),
                    None => TyId::Null,
                };
                self.returned = self.store.join(self.returned, got);
            }
            StmtKind::Break | StmtKind::Continue => {}
        }
    }

    fn assignment(&mut self, target: &'a Expr, op: Option<BinaryOp>, value: &'a Expr) {
        let ExprKind::Name(name) = &target.kind else {
            let (ty, want) = self.target(target);
            match op {
                None => _ = self.wanted(value, want),
                Some(op) => {
                    let right = self.expr(value);
                    let got = self.operation(op, target, ty, value, right, &value.span);
                    if let Some(want) = want {
                        self.compare(got, want, value);
                    }
                }
            }
            return;
        };
        let Some(id) = self.symbol(target.span.start) else {
            self.expr(value);
            return;
        };
        let ty = match self.names.bindings[id].origin {
            Origin::Typed(_) => Some(self.types[id]),
            _ => None,
        };
        let want = ty.map(|ty| Want { ty, place: Place::Variable(name) });
        let got = match op {
            None => self.wanted(value, want),
            Some(op) => {
                let right = self.expr(value);
                let got = self.operation(op, target, self.known(id), value, right, &value.span);
                if let Some(want) = want {
                    self.compare(got, want, value);
                }
                got
            }
        };
        self.assign(id, got);
        self.note(&target.span, got);
    }

    /// The type of what is assigned to, and what is wanted there if somebody wrote it.
    fn target(&mut self, target: &'a Expr) -> (TyId, Option<Want<'a>>) {
        let (of, key, place) = match &target.kind {
            ExprKind::Member(of, name) => (of, Some(name.node.as_str()), Place::Field(&name.node)),
            ExprKind::Index(of, index) => (of, text(index), Place::Element),
            _ => return (self.expr(target), None),
        };
        let receiver = self.expr(of);
        let ty = match &target.kind {
            ExprKind::Member(_, name) => self.member_of(receiver, name),
            ExprKind::Index(_, index) => self.element_at(receiver, index),
            _ => TyId::Any,
        };
        self.note(&target.span, ty);
        let head = self.store.head(receiver);
        let wanted = match (head, key) {
            (Ty::Record { written: true, .. }, Some(key)) => self.field(head, key),
            (Ty::Map(value), _) | (Ty::Array(value), None) if self.is_written(of) => Some(value),
            _ => None,
        };
        (ty, wanted.map(|ty| Want { ty, place }))
    }

    // Expressions.

    fn note(&mut self, span: &Span, ty: TyId) {
        if let Some(expressions) = &mut self.expressions {
            expressions.push((span.clone(), ty));
        }
    }

    fn note_member(&mut self, name: &'a Spanned<String>, of: TyId) {
        if self.expressions.is_some() {
            self.members.push((name, of));
        }
    }

    fn expr(&mut self, expr: &'a Expr) -> TyId {
        self.wanted(expr, None)
    }

    /// The type of an expression, after comparing it with what is wanted, part by part where it is
    /// written in parts.
    fn wanted(&mut self, expr: &'a Expr, want: Option<Want<'a>>) -> TyId {
        let head = want.map(|want| self.store.head(want.ty));
        let within = |ty, place| Some(Want { ty, place });
        let ty = match (&expr.kind, head) {
            (ExprKind::Array(_) | ExprKind::Record { name: None, .. }, Some(Ty::Option(inner))) => {
                return self.wanted(expr, want.map(|want| Want { ty: inner, ..want }));
            }
            (ExprKind::Array(items), Some(Ty::Array(element))) => {
                for item in items {
                    self.wanted(item, within(element, Place::Element));
                }
                want.map_or(TyId::Any, |want| want.ty)
            }
            (ExprKind::Record { name: None, fields }, Some(Ty::Map(value))) => {
                for (key, field) in fields {
                    self.wanted(field, within(value, Place::Field(&key.node)));
                }
                want.map_or(TyId::Any, |want| want.ty)
            }
            (
                ExprKind::Record { name: None, fields },
                Some(Ty::Record { fields: wanted, written: true }),
            ) => {
                let ty = want.map_or(TyId::Any, |want| want.ty);
                self.literal(fields, ty, wanted, false, &expr.span);
                ty
            }
            (ExprKind::Some(of), Some(Ty::Option(inner))) => {
                self.wanted(of, within(inner, Place::Inside("Some")));
                want.map_or(TyId::Any, |want| want.ty)
            }
            (ExprKind::Ok(of), Some(Ty::Result(ok, _))) => {
                self.wanted(of, within(ok, Place::Inside("Ok")));
                want.map_or(TyId::Any, |want| want.ty)
            }
            (ExprKind::Err(of), Some(Ty::Result(_, err))) => {
                self.wanted(of, within(err, Place::Inside("Err")));
                want.map_or(TyId::Any, |want| want.ty)
            }
            (ExprKind::If { .. } | ExprKind::Match { .. }, _) => self.branches(expr, want),
            _ => {
                let got = self.bare(expr);
                let returns = |want: &Want<'_>| {
                    matches!(want.place, Place::FunctionResult(_) | Place::AgentResult(_))
                };
                match want {
                    // Returning an `Err` fails the run, whatever was declared.
                    Some(want) if returns(&want) && matches!(expr.kind, ExprKind::Err(_)) => {}
                    Some(want) => self.compare(got, want, expr),
                    None => {}
                }
                got
            }
        };
        self.note(&expr.span, ty);
        ty
    }

    fn branches(&mut self, expr: &'a Expr, want: Option<Want<'a>>) -> TyId {
        match &expr.kind {
            ExprKind::If { condition, then, otherwise } => {
                match &**condition {
                    Condition::Expr(condition) => _ = self.expr(condition),
                    Condition::Let(pattern, value) => {
                        let ty = self.expr(value);
                        self.pattern(pattern, ty);
                    }
                }
                let then = self.block(then, want);
                let otherwise = match otherwise {
                    Some(otherwise) => self.block(otherwise, want),
                    None => TyId::Null,
                };
                self.store.join(then, otherwise)
            }
            ExprKind::Match { subject, arms } => {
                let subject = self.expr(subject);
                let mut given = TyId::Never;
                // Of several arms that never match for one reason the first is told of.
                let mut plain = false;
                for arm in arms {
                    let literal = matches!(arm.pattern.kind, PatternKind::Literal(_));
                    if !(literal && plain) {
                        self.pattern(&arm.pattern, subject);
                    }
                    plain |= literal;
                    let one = self.block(&arm.body, want);
                    given = self.store.join(given, one);
                }
                given
            }
            _ => TyId::Any,
        }
    }

    fn pattern(&mut self, pattern: &'a Pattern, ty: TyId) {
        match (&pattern.kind, self.store.head(ty)) {
            (PatternKind::Name(_), _) => {
                self.define(pattern.span.start, ty);
                self.note(&pattern.span, ty);
            }
            (PatternKind::Some(inner), Ty::Option(of))
            | (PatternKind::Ok(inner), Ty::Result(of, _)) => {
                self.pattern(inner, of);
            }
            (PatternKind::Err(inner), Ty::Result(_, of)) => self.pattern(inner, of),
            (PatternKind::Some(inner) | PatternKind::Ok(inner) | PatternKind::Err(inner), _) => {
                self.pattern(inner, TyId::Any);
            }
            (PatternKind::Record(fields), head) => {
                for (key, inner) in fields {
                    self.note_member(key, ty);
                    let ty = self.field(head, &key.node).unwrap_or(TyId::Any);
                    self.pattern(inner, ty);
                }
            }
            (PatternKind::Literal(literal), Ty::Option(_) | Ty::Result(..)) => {
                self.comparable(ty, of_literal(literal), &pattern.span, "never matches");
            }
            (PatternKind::Wildcard | PatternKind::Literal(_) | PatternKind::None, _) => {}
        }
    }

    /// The type of a field, where the type has one of that name.
    fn field(&self, of: Ty<'a>, name: &'a str) -> Option<TyId> {
        match of {
            Ty::Record { fields, .. } => self.store.field(fields, name),
            Ty::Map(value) if self.trusting => Some(value),
            _ => None,
        }
    }

    /// The fields of a record that is written out where a record of this type is wanted. Behind the
    /// type's own name (`exact`) there are no others; elsewhere a record may have more than its type
    /// says, and one that is unknown is told where another lacks: that one was probably misspelt.
    fn literal(
        &mut self,
        given: &'a [(Spanned<String>, Expr)],
        ty: TyId,
        wanted: u32,
        exact: bool,
        span: &Span,
    ) {
        let mut unknown = Vec::new();
        for (key, value) in given {
            self.note_member(key, ty);
            match self.store.field(wanted, &key.node) {
                Some(field) => {
                    self.wanted(value, Some(Want { ty: field, place: Place::Field(&key.node) }));
                }
                None => {
                    unknown.push(key);
                    self.expr(value);
                }
            }
        }
        let missing = self.missing(given, wanted);
        for key in unknown.iter().filter(|_| exact || !missing.is_empty()) {
            self.tell(Severity::Error, key.span.start, |store| {
                let shown = store.show(ty);
                let message = format!("`{shown}` has no field `{}`", short(&key.node));
                let known = store.fields(wanted).iter().map(|(name, _)| *name);
                Diagnostic::error("E0222", message, key.span.clone())
                    .label("no such field")
                    .did_you_mean(nearest(&key.node, known))
            });
        }
        if unknown.is_empty() && !missing.is_empty() {
            self.tell(Severity::Error, span.start, |store| {
                let names: Vec<String> =
                    missing.iter().take(5).map(|name| format!("`{}`", short(name))).collect();
                let (names, plural) = (names.join(", "), if missing.len() == 1 { "" } else { "s" });
                let message = format!("`{}` lacks the field{plural} {names}", store.show(ty));
                Diagnostic::error("E0222", message, span.clone())
                    .label("lacks what its type demands")
            });
        }
    }

    /// The fields that a type demands and a record does not have.
    fn missing(&mut self, given: &[(Spanned<String>, Expr)], wanted: u32) -> Vec<&'a str> {
        let count = self.store.fields(wanted).len();
        if self.report.is_none() || !self.store.affords(count) {
            return Vec::new();
        }
        let given: Names<&str, ()> = given.iter().map(|(key, _)| (key.node.as_str(), ())).collect();
        let mut missing = Vec::new();
        for at in 0..count {
            let (name, field) = self.store.fields(wanted)[at];
            if !given.contains_key(name) && !self.store.may_be_missing(field) {
                missing.push(name);
            }
        }
        missing
    }

    /// The type of an expression by itself.
    fn bare(&mut self, expr: &'a Expr) -> TyId {
        match &expr.kind {
            ExprKind::Literal(literal) => of_literal(literal),
            ExprKind::Secret(_) => TyId::Secret,
            ExprKind::Missing => TyId::Any,
            ExprKind::Name(_) => match self.names.starting_at(expr.span.start) {
                Some(Meaning::Symbol(id)) => self.known(id),
                Some(Meaning::Builtin) => TyId::Function,
                _ => TyId::Any,
            },
            ExprKind::Array(items) => {
                let mut element = TyId::Never;
                for item in items {
                    let item = self.expr(item);
                    element = self.store.join(element, item);
                }
                self.store.array(if element == TyId::Never { TyId::Any } else { element })
            }
            ExprKind::Record { name, fields } => self.record(name.as_ref(), fields, &expr.span),
            ExprKind::Unary(UnaryOp::Not, of) => {
                self.negated = self.expr(of);
                TyId::Bool
            }
            ExprKind::Unary(UnaryOp::Negate, of) => match self.expr(of) {
                number @ (TyId::Int | TyId::Float) => number,
                _ => TyId::Any,
            },
            ExprKind::Binary(op, left, right) => {
                let a = self.expr(left);
                let negated = self.negated;
                let b = self.expr(right);
                match self.partly_negated(*op, (left, negated), (right, b), &expr.span) {
                    true => TyId::Bool,
                    false => self.operation(*op, left, a, right, b, &expr.span),
                }
            }
            ExprKind::Member(of, name) => {
                let of = self.expr(of);
                self.member_of(of, name)
            }
            ExprKind::Index(of, index) => {
                let of = self.expr(of);
                self.element_at(of, index)
            }
            ExprKind::Call { callee, args } => self.call(callee, args),
            ExprKind::Lambda { params, body } => {
                self.lambda(params, body, &[]);
                TyId::Function
            }
            ExprKind::Some(of) => {
                let of = self.expr(of);
                self.store.make(Ty::Option(of))
            }
            ExprKind::None => self.store.make(Ty::Option(TyId::Any)),
            ExprKind::Ok(of) => {
                let of = self.expr(of);
                self.store.make(Ty::Result(of, TyId::Any))
            }
            ExprKind::Err(of) => {
                let of = self.expr(of);
                self.store.make(Ty::Result(TyId::Any, of))
            }
            ExprKind::If { .. } | ExprKind::Match { .. } => self.branches(expr, None),
        }
    }

    fn record(
        &mut self,
        name: Option<&'a Spanned<String>>,
        fields: &'a [(Spanned<String>, Expr)],
        span: &Span,
    ) -> TyId {
        if let Some(binding) = name.and_then(|name| self.binding(name.span.start)) {
            let ty = match binding.origin {
                Origin::Typed(_) => self.store.declared(binding.name),
                _ => TyId::Any,
            };
            if let Ty::Record { fields: wanted, written: true } = self.store.head(ty) {
                self.literal(fields, ty, wanted, true, span);
            } else {
                fields.iter().for_each(|(_, value)| _ = self.expr(value));
            }
            return ty;
        }
        let typed = fields.iter().map(|(key, value)| (key.node.as_str(), self.expr(value)));
        let typed: Vec<Field<'a>> = typed.collect();
        match name {
            // Nobody defined it, and anything fits.
            Some(_) => TyId::Any,
            None => self.store.record(typed, false),
        }
    }

    /// What stands in the brackets behind a value, and what is there.
    fn element_at(&mut self, of: TyId, index: &'a Expr) -> TyId {
        self.expr(index);
        let head = self.store.head(of);
        match (head, text(index)) {
            (Ty::Array(element), _) => element,
            (Ty::Map(value), _) => value,
            (Ty::String, _) => TyId::String,
            (Ty::Record { .. }, Some(name)) => self.field(head, name).unwrap_or(TyId::Any),
            _ => TyId::Any,
        }
    }

    fn member_of(&mut self, receiver: TyId, name: &'a Spanned<String>) -> TyId {
        self.note_member(name, receiver);
        let head = self.store.head(receiver);
        if let Some(field) = self.field(head, &name.node) {
            return field;
        }
        if let Some(row) = signatures::method(kind(head), &name.node) {
            return self.gives(row, receiver, 0);
        }
        self.no_method(receiver, name);
        if let Ty::Record { fields, written: true } = head
            && !name.node.is_empty()
        {
            self.tell(Severity::Warning, name.span.start, |store| {
                let known = store.fields(fields).iter().map(|(name, _)| *name);
                let message =
                    format!("`{}` has no field `{}`", store.show(receiver), short(&name.node));
                Diagnostic::warning("W0321", message, name.span.clone())
                    .label("gives `null` unless the value has more than its type says")
                    .did_you_mean(nearest(&name.node, known))
            });
        }
        TyId::Any
    }

    // Calls.

    fn call(&mut self, callee: &'a Expr, args: &'a [Arg]) -> TyId {
        match (&callee.kind, self.names.starting_at(callee.span.start)) {
            (ExprKind::Name(_), Some(Meaning::Symbol(id))) => {
                if let Origin::Function(function) = self.names.bindings[id].origin {
                    return self.call_function(id, function, args);
                }
                match self.lambdas.get(&id) {
                    Some(params) => self.call_lambda(params, callee, args),
                    None => _ = self.arguments(args),
                }
                TyId::Any
            }
            (ExprKind::Name(name), Some(Meaning::Builtin)) => {
                let types: Vec<TyId> = args.iter().map(|arg| self.expr(&arg.value)).collect();
                let row = signatures::function(name);
                if let Some(row) = row {
                    self.given(row, args, &types, &callee.span);
                }
                let first = types.first().copied().unwrap_or(TyId::Any);
                row.map_or(TyId::Any, |row| self.gives(row, first, args.len()))
            }
            (ExprKind::Name(name), Some(Meaning::HostCall)) => self.hosted(name, callee, args),
            (ExprKind::Member(of, name), meaning) => {
                let meant = match (&of.kind, meaning) {
                    (ExprKind::Name(root), Some(Meaning::HostCall)) => {
                        Some(format!("{root}.{}", name.node))
                    }
                    (ExprKind::Name(_), Some(Meaning::Symbol(id)))
                        if self.names.bindings[id].kind == SymbolKind::Memory =>
                    {
                        Some(format!("memory.{}", name.node))
                    }
                    (ExprKind::Name(_), Some(Meaning::Tool)) => Some(String::new()),
                    _ => None,
                };
                match meant {
                    Some(host) => self.hosted(&host, callee, args),
                    None => self.method(of, name, args),
                }
            }
            (ExprKind::Name(_), _) => {
                self.arguments(args);
                TyId::Any
            }
            _ => {
                self.expr(callee);
                self.arguments(args);
                TyId::Any
            }
        }
    }

    /// A call of the host, or of a tool, of which nothing is known here.
    fn hosted(&mut self, call: &str, callee: &Expr, args: &'a [Arg]) -> TyId {
        let types: Vec<TyId> = args.iter().map(|arg| self.expr(&arg.value)).collect();
        self.taken(call, callee, args, &types);
        let first = types.first().copied().unwrap_or(TyId::Any);
        signatures::function(call).map_or(TyId::Any, |row| self.gives(row, first, args.len()))
    }

    /// That a call of the host is given what it can't do without, and nothing that it refuses.
    fn taken(&mut self, call: &str, callee: &Expr, args: &[Arg], types: &[TyId]) {
        let Some(source) = self.report.as_ref().map(|report| report.source) else { return };
        let shapes = names::given(args);
        let Some(Ok(arranged)) = operations::arrange(call, &shapes) else { return };
        let refused = |message: String, span: &Span| {
            Diagnostic::warning("W0313", message, span.clone()).label("will fail with `TypeError`")
        };
        for &Taken { parameter, ty, needed } in arranged.takes() {
            let slot = arranged.slot(parameter).map(Slot::Slot);
            let mut given =
                (arranged.places.iter().zip(args).zip(types)).filter_map(|((place, arg), ty)| {
                    let named = || arg.name.as_ref().is_some_and(|name| name.node == parameter);
                    let here = Some(*place) == slot || *place == Slot::Option && named();
                    match (&arg.value.kind, place) {
                        _ if here => Some((*ty, &arg.value)),
                        (ExprKind::Record { fields, .. }, Slot::Options) => {
                            let of = fields.iter().find(|(key, _)| key.node == parameter)?;
                            let head = self.store.head(*ty);
                            let ty = self.field(head, parameter)?;
                            Some((ty, &of.1))
                        }
                        _ => None,
                    }
                });
            let Some((got, value)) = given.next() else {
                if needed {
                    let message = format!("`{call}` needs `{parameter}`");
                    self.tell(Severity::Warning, callee.span.start, |_| {
                        refused(message, &callee.span)
                    });
                    return;
                }
                continue;
            };
            let head = self.store.head(got);
            // What may be nothing leaves out what may be left out.
            if matches!(head, Ty::Option(_)) && !needed {
                continue;
            }
            let nothing = needed && ty != "any" && source.get(value.span.clone()) == Some("null");
            if nothing || !ty.split(" | ").any(|wanted| takes(wanted, head)) {
                self.tell(Severity::Warning, value.span.start, |store| {
                    let got = store.show(got);
                    let message =
                        format!("`{call}` takes `{ty}` as `{parameter}`, and is given `{got}`");
                    refused(message, &value.span)
                });
            }
        }
    }

    /// The arguments of a call, and the type of the first.
    fn arguments(&mut self, args: &'a [Arg]) -> TyId {
        let mut first = None;
        for arg in args {
            let ty = self.expr(&arg.value);
            first.get_or_insert(ty);
        }
        first.unwrap_or(TyId::Any)
    }

    fn call_function(&mut self, id: usize, function: &'a Function, args: &'a [Arg]) -> TyId {
        let mut position = 0;
        for arg in args {
            let param = match &arg.name {
                Some(name) => self.names.parameter(id, &name.node),
                None => {
                    let param = function.params.get(position);
                    position += 1;
                    param.and_then(|param| self.names.parameter(id, &param.name.node))
                }
            };
            let want = param.and_then(|param| {
                let binding = &self.names.bindings[param];
                let (function, name) = (function.name.node.as_str(), binding.name);
                let place = Place::Parameter { function, name };
                matches!(binding.origin, Origin::Typed(_))
                    .then_some(Want { ty: self.types[param], place })
            });
            let given = self.wanted(&arg.value, want);
            if let (Some(param), None) = (param, want) {
                self.joined[param] = self.store.join(self.joined[param], given);
            }
        }
        match &function.result {
            Some(result) => self.store.lower(result),
            None if self.trusting => self.types[id],
            None => TyId::Any,
        }
    }

    /// A call of a lambda by the only name that it has.
    fn call_lambda(&mut self, params: &'a [Param], callee: &Expr, args: &'a [Arg]) {
        for (at, arg) in args.iter().enumerate() {
            let param = match &arg.name {
                Some(name) => params.iter().find(|param| param.name.node == name.node),
                None => params.get(at),
            };
            let want = param.and_then(Self::wants_of_lambda).map(|(ty, place)| {
                let ty = self.store.lower(ty);
                Want { ty, place }
            });
            self.wanted(&arg.value, want);
        }
        if args.len() != params.len() {
            let count = |count: usize| match count {
                1 => "1 argument".to_owned(),
                count => format!("{count} arguments"),
            };
            let message = format!("the lambda takes {}, not {}", count(params.len()), args.len());
            self.tell(Severity::Warning, callee.span.start, |_| {
                Diagnostic::warning("W0313", message, callee.span.clone())
                    .label("will fail with `TypeError`")
            });
        }
    }

    /// What somebody wrote that a parameter of a lambda takes.
    fn wants_of_lambda(param: &'a Param) -> Option<(&'a Type, Place<'a>)> {
        let place = Place::Parameter { function: "lambda", name: &param.name.node };
        param.ty.as_ref().map(|ty| (ty, place))
    }

    fn method(&mut self, of: &'a Expr, name: &'a Spanned<String>, args: &'a [Arg]) -> TyId {
        let receiver = self.expr(of);
        self.note_member(name, receiver);
        let head = self.store.head(receiver);
        // A key that holds a function is what is called.
        let own = self.field(head, &name.node).map(|field| self.store.head(field));
        let is_own = matches!(own, Some(Ty::Function | Ty::Any));
        let row = signatures::method(kind(head), &name.node).filter(|_| !is_own);
        let Some(row) = row else {
            self.no_method(receiver, name);
            self.arguments(args);
            return TyId::Any;
        };
        let element = self.element(head);
        // What a lambda is given is known where the method says whom it calls.
        let given: &[TyId] = match row.name {
            "map" | "filter" | "find" | "any" | "all" => &[element],
            "reduce" => &[TyId::Any, element],
            _ => &[],
        };
        let want = match (row.name, head) {
            ("append" | "push", Ty::Array(ty)) if self.is_written(of) => {
                Some(Want { ty, place: Place::Element })
            }
            _ => None,
        };
        let mut mapped = TyId::Any;
        let mut types = Vec::with_capacity(args.len());
        for arg in args {
            types.push(match &arg.value.kind {
                _ if want.is_some() => self.wanted(&arg.value, want),
                _ if row.name == "contains" && matches!(head, Ty::Array(_)) => {
                    let item = self.expr(&arg.value);
                    self.comparable(item, element, &arg.value.span, "never in it");
                    item
                }
                ExprKind::Lambda { params, body } => {
                    mapped = self.lambda(params, body, given);
                    self.note(&arg.value.span, TyId::Function);
                    TyId::Function
                }
                _ => self.expr(&arg.value),
            });
        }
        self.given(row, args, &types, &name.span);
        match row.name {
            "map" => self.store.array(mapped),
            _ => self.gives(row, receiver, args.len()),
        }
    }

    /// That a builtin or a method takes as many arguments as it is given, and such.
    fn given(&mut self, row: &'static Signature, args: &'a [Arg], types: &[TyId], name: &Span) {
        if self.report.is_none() || args.iter().any(|arg| arg.name.is_some()) {
            return;
        }
        let refused = |message: String, span: &Span| {
            Diagnostic::warning("W0313", message, span.clone())
                .label("will fail with `TypeError`")
                .note(format!("`{row}`"))
        };
        if let Some(message) = row.refuses(args.len()) {
            self.tell(Severity::Warning, name.start, |_| refused(message, name));
            return;
        }
        if LENIENT.contains(&row.name) {
            return;
        }
        for ((arg, ty), wanted) in args.iter().zip(types).zip(row.each_param()) {
            let head = self.store.head(*ty);
            if !wanted.split(" | ").any(|wanted| takes(wanted, head)) {
                self.tell(Severity::Warning, arg.value.span.start, |store| {
                    let got = store.show(*ty);
                    let message = format!("`{}` takes `{wanted}`, and is given `{got}`", row.name);
                    refused(message, &arg.value.span)
                });
            }
        }
    }

    /// That what is known of a value leaves no doubt that it has no such method.
    fn no_method(&mut self, receiver: TyId, name: &Spanned<String>) {
        let head = self.store.head(receiver);
        let of = kind(head);
        // A record may hold what is called, and a map as well.
        if self.report.is_none()
            || name.node.is_empty()
            || matches!(of, Receiver::Other | Receiver::Map)
            || signatures::method(of, &name.node).is_some()
            || name.node == "to_string"
        {
            return;
        }
        let inside = self.element(head);
        let inside = kind(self.store.head(inside));
        let wraps = matches!(of, Receiver::Option | Receiver::Result)
            && signatures::method(inside, &name.node).is_some();
        self.tell(Severity::Warning, name.span.start, |store| {
            let message = format!("`{}` has no `{}`", store.show(receiver), short(&name.node));
            let diagnostic = Diagnostic::warning("W0313", message, name.span.clone())
                .label("will fail with `TypeError`");
            if wraps {
                return diagnostic.note("take the value out first: `.unwrap_or(...)`");
            }
            let has = |meant: &&str| signatures::method(of, meant).is_some();
            let foreign = foreign::METHODS.iter().find(|(foreign, _)| *foreign == name.node);
            let meant = foreign.and_then(|(_, meant)| meant.iter().copied().find(has));
            let known = of.methods().iter().map(|row| row.name);
            match meant.or_else(|| nearest(&name.node, known.clone())) {
                Some(meant) => diagnostic.did_you_mean(Some(meant)),
                None => {
                    let known: Vec<&str> = known.collect();
                    diagnostic.note(format!("there are `{}`", known.join("`, `")))
                }
            }
        });
    }

    /// A lambda, whose parameters are given what is known of them; what it gives.
    fn lambda(&mut self, params: &'a [Param], body: &'a Block, given: &[TyId]) -> TyId {
        for (param, given) in params.iter().zip(given) {
            self.define(param.name.span.start, *given);
            if let Some((ty, place)) = Self::wants_of_lambda(param) {
                let want = Want { ty: self.store.lower(ty), place };
                self.compare_at(*given, want, &param.name.span, false);
            }
        }
        self.body(body, None)
    }

    /// What is in an array, a map, an option or a result.
    fn element(&self, head: Ty<'a>) -> TyId {
        match head {
            Ty::Array(inner) | Ty::Map(inner) | Ty::Option(inner) | Ty::Result(inner, _) => inner,
            _ => TyId::Any,
        }
    }

    /// What a call gives, on this receiver or with this first argument.
    fn gives(&mut self, row: &'static Signature, first: TyId, args: usize) -> TyId {
        if !row.always && !self.trusting {
            return TyId::Any;
        }
        let head = self.store.head(first);
        let element = self.element(head);
        if row.name == "get" && args == 2 {
            return element;
        }
        let inside = Inside { element, itself: first };
        self.store.lower_in(signatures::result(row), Some(inside))
    }

    // Operators.

    fn operation(
        &mut self,
        op: BinaryOp,
        left: &'a Expr,
        a: TyId,
        right: &'a Expr,
        b: TyId,
        span: &Span,
    ) -> TyId {
        let (x, y) = (self.store.head(a), self.store.head(b));
        if y != Ty::Bool && self.chained(op, left, right, span) {
            return TyId::Bool;
        }
        self.settled(op, left, right, span);
        match (op, y) {
            (BinaryOp::Equal, _) => self.comparable(a, b, span, "always false"),
            (BinaryOp::NotEqual, _) => self.comparable(a, b, span, "always true"),
            (BinaryOp::In, Ty::Array(of)) => self.comparable(a, of, span, "always false"),
            (BinaryOp::NotIn, Ty::Array(of)) => self.comparable(a, of, span, "always true"),
            _ => {}
        }
        if let Some(ty) = operate(op, x, y) {
            return ty;
        }
        if self.report.is_some() && self.is_written(left) && self.is_written(right) {
            self.tell(Severity::Error, span.start, |store| {
                let (a, b) = (store.show(a), store.show(b));
                let message = format!("`{}` does not go with `{a}` and `{b}`", sign(op));
                Diagnostic::error("E0223", message, span.clone())
                    .label("would fail with `TypeError`")
            });
        }
        TyId::Any
    }

    /// That a `not` is not taken for one of the whole comparison; whether it was told. Bools may be
    /// compared with bools, and with what only the run knows.
    fn partly_negated(
        &mut self,
        op: BinaryOp,
        (left, negated): (&Expr, TyId),
        (right, b): (&Expr, TyId),
        span: &Span,
    ) -> bool {
        let Some(source) = self.report.as_ref().map(|report| report.source) else { return false };
        if negation::bare(source, left).is_none() {
            return false;
        }
        let known =
            |ty| !matches!(ty, Ty::Bool | Ty::Any | Ty::Never | Ty::Declared(_) | Ty::Opaque(_));
        let no_bool = self.store.head(negated) != Ty::Bool;
        let told = match (op, self.store.head(b)) {
            (BinaryOp::In | BinaryOp::NotIn, Ty::Array(of)) => match self.store.head(of) {
                Ty::Any => no_bool && !has_bool(right),
                of => known(of),
            },
            (BinaryOp::In | BinaryOp::NotIn, Ty::Any) => no_bool,
            (BinaryOp::In | BinaryOp::NotIn, _) => true,
            (BinaryOp::Equal | BinaryOp::NotEqual, y) => known(y),
            (
                BinaryOp::Less
                | BinaryOp::LessOrEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterOrEqual,
                y,
            ) => known(y),
            _ => false,
        };
        if told {
            self.tell(Severity::Warning, span.start, |_| {
                let word = if source[left.span.clone()].starts_with('!') { "!" } else { "not" };
                let message = format!("`{word}` is read before `{}`", sign(op));
                let label = match op {
                    BinaryOp::In | BinaryOp::NotIn => "looks for a bool",
                    _ => "compares a bool",
                };
                let diagnostic = Diagnostic::warning("W0325", message, span.clone()).label(label);
                match negation::of_whole(source, op, left, right) {
                    Some(meant) => {
                        let help = format!("did you mean `{}`?", short(&meant));
                        diagnostic.fix(span.clone(), meant, help)
                    }
                    None => diagnostic,
                }
            });
        }
        told
    }

    /// That what a comparison gives is not compared as if it were one of its sides; whether it was told.
    fn chained(&mut self, op: BinaryOp, left: &Expr, right: &Expr, span: &Span) -> bool {
        let ordered = |op| {
            use BinaryOp::{Greater, GreaterOrEqual, Less, LessOrEqual};
            matches!(op, Less | LessOrEqual | Greater | GreaterOrEqual)
        };
        let ExprKind::Binary(inner, first, middle) = &left.kind else { return false };
        let parenthesized = first.span.start != left.span.start;
        let Some(source) = self.report.as_ref().map(|report| report.source) else { return false };
        if !ordered(op) || !ordered(*inner) || parenthesized {
            return false;
        }
        self.tell(Severity::Warning, span.start, |_| {
            let texts = [first, middle, right].map(|of| source.get(of.span.clone()));
            let both = match texts {
                [Some(a), Some(b), Some(c)] => {
                    Some(format!("{a} {} {b} && {b} {} {c}", sign(*inner), sign(op)))
                }
                _ => None,
            };
            let diagnostic = Diagnostic::warning("W0327", "comparisons do not chain", span.clone())
                .label("compares a bool");
            match (&middle.kind, both) {
                (ExprKind::Name(_) | ExprKind::Literal(_) | ExprKind::Member(..), Some(both)) => {
                    diagnostic.fix(span.clone(), both, "compare twice")
                }
                _ => diagnostic.note("`a < b && b < c` compares twice"),
            }
        });
        true
    }

    /// That two values that are written out compare in the same way whenever it is done.
    fn settled(&mut self, op: BinaryOp, left: &Expr, right: &Expr, span: &Span) {
        use std::cmp::Ordering;
        let (ExprKind::Literal(a), ExprKind::Literal(b)) = (&left.kind, &right.kind) else {
            return;
        };
        let [a, b] = [a, b].map(literal_value);
        let ordered = |is: fn(Ordering) -> bool| a.order(&b).map(is);
        let outcome = match op {
            BinaryOp::Equal => Some(a == b),
            BinaryOp::NotEqual => Some(a != b),
            BinaryOp::Less => ordered(Ordering::is_lt),
            BinaryOp::LessOrEqual => ordered(Ordering::is_le),
            BinaryOp::Greater => ordered(Ordering::is_gt),
            BinaryOp::GreaterOrEqual => ordered(Ordering::is_ge),
            _ => None,
        };
        if let Some(outcome) = outcome {
            self.tell(Severity::Warning, span.start, |_| {
                let message = format!("this comparison is always {outcome}");
                Diagnostic::warning("W0326", message, span.clone())
                    .label("both values are written out")
            });
        }
    }

    /// That what is in an option or a result is not compared with the option or the result.
    fn comparable(&mut self, a: TyId, b: TyId, span: &Span, outcome: &str) {
        let (x, y) = (self.store.head(a), self.store.head(b));
        let wrapped = |ty| match ty {
            Ty::Option(_) => Some("Some"),
            Ty::Result(..) => Some("Ok"),
            _ => None,
        };
        let known = |ty| !matches!(ty, Ty::Any | Ty::Never | Ty::Null | Ty::Opaque(_));
        let wrapper = match (wrapped(x), wrapped(y)) {
            (Some(wrapper), None) if known(y) => wrapper,
            (None, Some(wrapper)) if known(x) => wrapper,
            _ => return,
        };
        self.tell(Severity::Warning, span.start, |store| {
            let message = format!("`{}` and `{}` are never equal", store.show(a), store.show(b));
            let note = format!(
                "compare with `{wrapper}(...)`, or take the value out first: `.unwrap_or(...)`"
            );
            Diagnostic::warning("W0324", message, span.clone()).label(outcome).note(note)
        });
    }

    /// Whether somebody wrote the type of what stands here.
    fn is_written(&self, expr: &Expr) -> bool {
        let binding = |expr: &Expr| self.binding(expr.span.start);
        match &expr.kind {
            ExprKind::Name(_) => {
                binding(expr).is_some_and(|binding| matches!(binding.origin, Origin::Typed(_)))
            }
            ExprKind::Call { callee, .. } => matches!(
                (&callee.kind, binding(callee).map(|binding| binding.origin)),
                (ExprKind::Name(_), Some(Origin::Function(function))) if function.result.is_some()
            ),
            ExprKind::Member(of, _) | ExprKind::Index(of, _) => self.is_written(of),
            _ => false,
        }
    }
}

/// Whether a bool is written in an array.
fn has_bool(array: &Expr) -> bool {
    let is_bool = |item: &Expr| matches!(item.kind, ExprKind::Literal(Literal::Bool(_)));
    matches!(&array.kind, ExprKind::Array(items) if items.iter().any(is_bool))
}

/// What takes more than its row says.
const LENIENT: [&str; 3] = ["round", "plus", "since"];

/// Whether a parameter of this type, as a signature writes it, may take such a value.
fn takes(wanted: &str, ty: Ty<'_>) -> bool {
    let name = wanted.split(['<', ' ']).next().unwrap_or_default();
    match ty {
        // Only the run knows.
        Ty::Any
        | Ty::Never
        | Ty::Null
        | Ty::Declared(_)
        | Ty::Opaque(_)
        | Ty::Secret
        | Ty::Memory => true,
        _ if wanted.contains("=>") => ty == Ty::Function,
        _ => match name {
            "String" => ty == Ty::String,
            "int" => ty == Ty::Int,
            "float" => ty == Ty::Float,
            "bytes" => ty == Ty::Bytes,
            "bool" => ty == Ty::Bool,
            "duration" => ty == Ty::Duration,
            "time" => ty == Ty::Time,
            "Array" => matches!(ty, Ty::Array(_)),
            "Map" => matches!(ty, Ty::Map(_) | Ty::Record { .. }),
            _ => true,
        },
    }
}

fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Float(value) => Value::Float(*value),
        Literal::String(text) => Value::from(text.as_str()),
        Literal::Duration(value) => Value::Duration(*value),
        Literal::Size(value) => Value::Size(*value),
    }
}

fn of_literal(literal: &Literal) -> TyId {
    match literal {
        Literal::Null => TyId::Null,
        Literal::Bool(_) => TyId::Bool,
        Literal::Int(_) => TyId::Int,
        Literal::Float(_) => TyId::Float,
        Literal::String(_) => TyId::String,
        Literal::Duration(_) => TyId::Duration,
        Literal::Size(_) => TyId::Size,
    }
}

/// A text that is written out.
fn text(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Literal(Literal::Null))
}

/// What has the methods of a type.
pub(crate) fn kind(ty: Ty<'_>) -> Receiver {
    match ty {
        Ty::String => Receiver::String,
        Ty::Array(_) => Receiver::Array,
        Ty::Map(_) | Ty::Record { .. } => Receiver::Map,
        Ty::Bytes => Receiver::Bytes,
        Ty::Int | Ty::Float => Receiver::Number,
        Ty::Duration => Receiver::Duration,
        Ty::Size => Receiver::Size,
        Ty::Time => Receiver::Time,
        Ty::Option(_) => Receiver::Option,
        Ty::Result(..) => Receiver::Result,
        Ty::Error => Receiver::Error,
        Ty::Any
        | Ty::Never
        | Ty::Null
        | Ty::Bool
        | Ty::Secret
        | Ty::Function
        | Ty::Memory
        | Ty::Declared(_)
        | Ty::Opaque(_) => Receiver::Other,
    }
}

/// What an operator gives; `None` where it can give nothing but an error.
fn operate(op: BinaryOp, a: Ty<'_>, b: Ty<'_>) -> Option<TyId> {
    use BinaryOp::{Add, Divide, Multiply, Remainder, Subtract};
    use Ty::{Array, Duration, Float, Int, Map, Record, Size, String, Time};
    let is_plain = |ty| {
        matches!(
            ty,
            Ty::Bool
                | Int
                | Float
                | String
                | Duration
                | Size
                | Ty::Bytes
                | Time
                | Array(_)
                | Map(_)
        ) || matches!(ty, Record { written: true, .. })
    };
    let has_text = |ty| matches!(ty, Int | Float | Ty::Bool | Duration | Size | Time | String);
    match op {
        BinaryOp::Or | BinaryOp::And | BinaryOp::Equal | BinaryOp::NotEqual => {
            return Some(TyId::Bool);
        }
        BinaryOp::In | BinaryOp::NotIn => {
            let asks_in_vain = match b {
                String => is_plain(a) && a != String,
                Int | Float | Ty::Bool | Duration | Size | Time | Ty::Bytes => is_plain(a),
                _ => false,
            };
            return (!asks_in_vain).then_some(TyId::Bool);
        }
        BinaryOp::Less | BinaryOp::Greater | BinaryOp::LessOrEqual | BinaryOp::GreaterOrEqual => {
            let ordered = |ty| matches!(ty, Int | Float | String | Duration | Time);
            let number = |ty| matches!(ty, Int | Float);
            let in_vain = ordered(a) && ordered(b) && a != b && !(number(a) && number(b));
            return (!in_vain).then_some(TyId::Bool);
        }
        Add | Subtract | Multiply | Divide | Remainder => {}
    }
    Some(match (op, a, b) {
        (_, Int, Int) => TyId::Int,
        (_, Int | Float, Int | Float) => TyId::Float,
        (Add, String, other) | (Add, other, String) if has_text(other) => TyId::String,
        (Add, Ty::Secret, Ty::Secret | String) | (Add, String, Ty::Secret) => TyId::Secret,
        (Add, Array(_), Array(_)) => TyId::Any,
        (Add | Subtract | Remainder, Duration, Duration) => TyId::Duration,
        (Add | Subtract | Remainder, Size, Size) => TyId::Size,
        (Divide, Duration, Duration) | (Divide, Size, Size) => TyId::Float,
        (Multiply, Duration, Int | Float) | (Multiply, Int | Float, Duration) => TyId::Duration,
        (Multiply, Size, Int | Float) | (Multiply, Int | Float, Size) => TyId::Size,
        (Divide, Duration, Int | Float) => TyId::Duration,
        (Divide, Size, Int | Float) => TyId::Size,
        (Add, Time, Duration) | (Add, Duration, Time) | (Subtract, Time, Duration) => TyId::Time,
        (Subtract, Time, Time) => TyId::Duration,
        (_, a, b) if is_plain(a) && is_plain(b) => return None,
        _ => TyId::Any,
    })
}

fn sign(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Or => "||",
        BinaryOp::And => "&&",
        BinaryOp::Equal => "==",
        BinaryOp::NotEqual => "!=",
        BinaryOp::In => "in",
        BinaryOp::NotIn => "not in",
        BinaryOp::Less => "<",
        BinaryOp::Greater => ">",
        BinaryOp::LessOrEqual => "<=",
        BinaryOp::GreaterOrEqual => ">=",
        BinaryOp::Add => "+",
        BinaryOp::Subtract => "-",
        BinaryOp::Multiply => "*",
        BinaryOp::Divide => "/",
        BinaryOp::Remainder => "%",
    }
}
