//! What nothing gets to, and values that no arm takes.
//!
//! # What holds
//!
//! - A statement is called unreachable only where every way before it has left the block.
//! - Each block and each `match` is told about once, and not at all where something in it could not
//!   be read.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Sink};
use crate::hir::{
    Arm, Block, Condition, Expr, ExprKind, Function, Literal, Pattern, PatternKind, Program, Span,
    Stmt, StmtKind, Type, TypeKind,
};
use crate::syntax::literal::short;
use crate::types::{Types, is_builtin, is_option};

/// Checks the bodies of a program.
pub(super) fn check(program: &Program, sink: &mut Sink) {
    let mut faults = sink.syntax_faults();
    faults.sort_unstable_by_key(|span| span.start);
    let types = Types::of(program);
    let mut flow = Flow { faults, loops: Vec::new(), empty: Vec::new(), sink };
    let of_agents = program.agents.iter().flat_map(|agent| &agent.functions);
    for function in program.functions.iter().chain(of_agents) {
        flow.function(function, &types);
    }
    for agent in &program.agents {
        let handlers = agent.handlers.iter().map(|handler| &handler.body);
        for body in handlers.chain(agent.with.iter().map(|with| &with.body)) {
            flow.block(body);
        }
    }
}

/// How a construct ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing gets past it.
    Leaves,
    /// With a value.
    Gives,
    /// Without one, on one of its ways at least.
    Nothing,
}

impl End {
    /// That of a construct with two ways.
    fn or(self, other: End) -> End {
        match (self, other) {
            (End::Leaves, end) | (end, End::Leaves) => end,
            (End::Gives, End::Gives) => End::Gives,
            _ => End::Nothing,
        }
    }
}

/// A walk through bodies, in which a construct *leaves* when nothing gets past it.
struct Flow<'s> {
    /// Where something could not be read, in order.
    faults: Vec<Span>,
    /// The loops around this place, and whether something breaks out of them.
    loops: Vec<bool>,
    /// The `return`s without a value of the function at hand.
    empty: Vec<Span>,
    sink: &'s mut Sink,
}

impl Flow<'_> {
    fn is_whole(&self, span: &Span) -> bool {
        let first = self.faults.partition_point(|fault| fault.start < span.start);
        self.faults.get(first).is_none_or(|fault| fault.start >= span.end)
    }

    /// A function, which gives something on every way if it is declared to.
    fn function(&mut self, function: &Function, types: &Types<'_>) {
        self.empty.clear();
        let end = self.block(&function.body);
        let body = &function.body.span;
        let is_declared = function.result.as_ref().is_some_and(|ty| !may_be_null(types, ty));
        if !is_declared || !self.is_whole(body) {
            return;
        }
        let mut places = std::mem::take(&mut self.empty);
        let label = match places.first() {
            Some(_) => "gives no value",
            None => "a way leads here that gives no value",
        };
        if end == End::Nothing {
            places.push(body.end.saturating_sub(1).max(body.start)..body.end);
        }
        if let Some(place) = places.into_iter().next() {
            let name = short(&function.name.node);
            let message = format!("`{name}` is declared to give a value, and may give `null`");
            let note = "`-> Option<...>` says that there may be none";
            self.sink.push(Diagnostic::warning("W0323", message, place).label(label).note(note));
        }
    }

    fn block(&mut self, block: &Block) -> End {
        let mut unreached: Option<&Span> = None;
        let mut left = false;
        for statement in &block.statements {
            if left {
                unreached.get_or_insert(&statement.span);
            }
            left |= self.statement(statement) == End::Leaves;
        }
        let mut end = End::Nothing;
        if let Some(value) = &block.value {
            if left {
                unreached.get_or_insert(&value.span);
            }
            end = self.expr(value);
        }
        if let Some(span) = unreached
            && self.is_whole(&block.span)
        {
            self.dead(span, "after the block was left");
        }
        if left { End::Leaves } else { end }
    }

    fn dead(&mut self, span: &Span, label: &str) {
        self.sink
            .push(Diagnostic::warning("W0311", "nothing gets here", span.clone()).label(label));
    }

    fn statement(&mut self, statement: &Stmt) -> End {
        match &statement.kind {
            StmtKind::Let { value, .. } | StmtKind::Expr(value) => self.expr(value),
            StmtKind::Assign { target, value, .. } => {
                self.expr(target);
                self.expr(value)
            }
            StmtKind::For { iterable, body, .. } => {
                self.expr(iterable);
                self.looped(body);
                End::Nothing
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                let broken = self.looped(body);
                let ends = condition.kind != ExprKind::Literal(Literal::Bool(true)) || broken;
                if ends { End::Nothing } else { End::Leaves }
            }
            StmtKind::Try { body, catches } => {
                let end = self.block(body);
                catches.iter().fold(end, |end, catch| self.block(&catch.body).or(end))
            }
            StmtKind::Return(value) => {
                self.all(value);
                if value.is_none() {
                    self.empty.push(statement.span.clone());
                }
                End::Leaves
            }
            StmtKind::Break => {
                if let Some(broken) = self.loops.last_mut() {
                    *broken = true;
                }
                self.in_loop("break", &statement.span)
            }
            StmtKind::Continue => self.in_loop("continue", &statement.span),
        }
    }

    /// Whether there is a loop to leave; in none, such a statement leaves nothing.
    fn in_loop(&mut self, word: &str, span: &Span) -> End {
        if self.loops.is_empty() {
            self.sink.push(
                Diagnostic::error("E0204", format!("`{word}` stands in no loop"), span.clone())
                    .label("not inside a `for` or a `while`"),
            );
        }
        if self.loops.is_empty() { End::Nothing } else { End::Leaves }
    }

    /// Walks the body of a loop; whether something breaks out of it.
    fn looped(&mut self, body: &Block) -> bool {
        self.loops.push(false);
        self.block(body);
        self.loops.pop().unwrap_or(false)
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: &Expr) -> End {
        match &expr.kind {
            ExprKind::If { condition, then, otherwise } => {
                let (Condition::Expr(head) | Condition::Let(_, head)) = &**condition;
                self.expr(head);
                let end = self.block(then);
                let otherwise = otherwise.as_ref();
                end.or(otherwise.map_or(End::Nothing, |block| self.block(block)))
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                let complete = self.arms(arms, &expr.span);
                let end = if complete { End::Leaves } else { End::Nothing };
                arms.iter().fold(end, |end, arm| self.block(&arm.body).or(end))
            }
            ExprKind::Lambda { body, .. } => {
                let loops = std::mem::take(&mut self.loops);
                let empty = std::mem::take(&mut self.empty);
                self.block(body);
                (self.loops, self.empty) = (loops, empty);
                End::Gives
            }
            ExprKind::Literal(_)
            | ExprKind::Name(_)
            | ExprKind::Array(_)
            | ExprKind::Record { .. }
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Member(..)
            | ExprKind::Index(..)
            | ExprKind::Call { .. }
            | ExprKind::Some(_)
            | ExprKind::None
            | ExprKind::Ok(_)
            | ExprKind::Err(_)
            | ExprKind::Secret(_)
            | ExprKind::Missing => {
                expr.each_part(|part| {
                    self.expr(part);
                });
                End::Gives
            }
        }
    }

    /// Looks at the patterns of a `match`; whether every value fits one of them.
    fn arms(&mut self, arms: &[Arm], span: &Span) -> bool {
        let complete = is_complete(arms);
        if !self.is_whole(span) {
            return complete;
        }
        if !complete {
            self.sink.push(
                Diagnostic::warning(
                    "W0315",
                    "this `match` has no arm for everything else",
                    span.start..span.start + "match".len(),
                )
                .label("gives `null` where no arm fits")
                .note("an arm `_ => ...` takes what no other does"),
            );
        }
        let mut taken: HashSet<String> = HashSet::new();
        let mut rest = arms.iter();
        for arm in rest.by_ref() {
            match &arm.pattern.kind {
                PatternKind::Wildcard | PatternKind::Name(_) => break,
                PatternKind::Literal(literal) if !taken.insert(format!("{literal:?}")) => {
                    self.dead(&arm.pattern.span, "an earlier arm takes this");
                }
                _ => {}
            }
        }
        if let Some(arm) = rest.next() {
            self.dead(&arm.pattern.span, "an earlier arm takes everything");
        }
        complete
    }
}

/// Whether `null` may stand where a type is written.
fn may_be_null(types: &Types<'_>, ty: &Type) -> bool {
    match types.resolve(ty).map(|ty| &ty.kind) {
        Some(TypeKind::Record(_)) => false,
        Some(TypeKind::Named(name, arguments)) => match name.as_str() {
            "any" | "JSON" | "Value" => true,
            "Result" => arguments.first().is_none_or(|ok| may_be_null(types, ok)),
            name => is_option(name) || !is_builtin(name),
        },
        None => true,
    }
}

/// Whether every value fits one of the arms.
fn is_complete(arms: &[Arm]) -> bool {
    let all =
        |pattern: &Pattern| matches!(pattern.kind, PatternKind::Wildcard | PatternKind::Name(_));
    let has =
        |wanted: &dyn Fn(&PatternKind) -> bool| arms.iter().any(|arm| wanted(&arm.pattern.kind));
    let is = |value| {
        has(&|kind| matches!(kind, PatternKind::Literal(Literal::Bool(is)) if *is == value))
    };
    arms.iter().any(|arm| all(&arm.pattern))
        || (is(true) && is(false))
        || (has(&|kind| matches!(kind, PatternKind::None))
            && has(&|kind| matches!(kind, PatternKind::Some(inner) if all(inner))))
        || (has(&|kind| matches!(kind, PatternKind::Ok(inner) if all(inner)))
            && has(&|kind| matches!(kind, PatternKind::Err(inner) if all(inner))))
}
