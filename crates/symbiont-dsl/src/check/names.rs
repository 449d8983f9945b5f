//! Names in bodies: those that nobody defined, those that nobody uses, and calls of functions.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{
    Arg, Arm, Block, BlockKind, Condition, Expr, ExprKind, Function, Literal, Param, Pattern,
    PatternKind, Program, Span, Spanned, Stmt, StmtKind,
};
use crate::operations::{self, AMBIENT, BUILTINS, Given, Misplaced, NAMESPACES, Place, Shape};
use crate::syntax::literal::short;
use crate::tools::Tools;

/// How many names of tools are compared with those of functions, in one file.
const HINTS: usize = 1000;

/// Checks the bodies of a program.
pub(super) fn check(program: &Program, tools: Option<&Tools>, sink: &mut Sink) {
    let mut faults = sink.syntax_faults();
    faults.sort_unstable_by_key(|span| span.start);
    let memories: HashSet<&str> = (program.blocks.iter())
        .filter(|block| block.kind == BlockKind::Memory)
        .map(|block| block.name.node.as_str())
        .collect();
    let agents = program.agents.iter().map(|agent| agent.name.node.as_str()).collect();
    let called = HashSet::new();
    let mut file = File { faults, memories, agents, tools, called, hints: HINTS, sink };

    let shared = by_name(&program.functions);
    let outside = Functions { own: HashMap::new(), shared: &shared };
    for function in &program.functions {
        file.function(function, &outside);
    }
    for agent in &program.agents {
        let functions = Functions { own: by_name(&agent.functions), shared: &shared };
        for function in &agent.functions {
            file.function(function, &functions);
        }
        let items = (agent.handlers.iter().map(|handler| handler.span.start))
            .chain(agent.with.iter().map(|with| with.span.start))
            .chain(agent.policies.iter().map(|policy| policy.span.start));
        let header = agent.span.start..items.min().unwrap_or(agent.span.end);
        let header = file.is_whole(&header);
        for handler in &agent.handlers {
            let whole = header && file.is_whole(&handler.span);
            file.body(whole, &[&handler.params, &agent.params], &handler.body, &functions);
        }
        if let Some(with) = &agent.with {
            let whole = header && file.is_whole(&with.span);
            file.body(whole, &[&agent.params], &with.body, &functions);
        }
        file.unused_functions(&agent.functions);
    }
    file.unused_functions(&program.functions);
}

fn by_name(functions: &[Function]) -> HashMap<&str, &Function> {
    functions.iter().map(|function| (function.name.node.as_str(), function)).collect()
}

/// The functions that can be called from a place: those of its agent, then those of the file.
struct Functions<'a, 'f> {
    own: HashMap<&'a str, &'a Function>,
    shared: &'f HashMap<&'a str, &'a Function>,
}

impl<'a> Functions<'a, '_> {
    fn get(&self, name: &str) -> Option<&'a Function> {
        self.own.get(name).or_else(|| self.shared.get(name)).copied()
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.own.keys().chain(self.shared.keys()).copied()
    }
}

/// What is known of the file.
struct File<'a, 's> {
    /// Where something could not be read, in order.
    faults: Vec<Span>,
    memories: HashSet<&'a str>,
    agents: HashSet<&'a str>,
    /// The tools that there are, if that is known.
    tools: Option<&'s Tools>,
    /// The functions that something calls or names.
    called: HashSet<&'a str>,
    /// How many more names of tools are compared with those of functions.
    hints: usize,
    sink: &'s mut Sink,
}

impl<'a> File<'a, '_> {
    /// Whether there is no error in it so far.
    fn is_whole(&self, span: &Span) -> bool {
        let first = self.faults.partition_point(|fault| fault.start < span.start);
        self.faults.get(first).is_none_or(|fault| fault.start >= span.end)
    }

    fn function(&mut self, function: &'a Function, functions: &Functions<'a, '_>) {
        let whole = self.is_whole(&(function.name.span.start..function.body.span.end));
        self.body(whole, &[&function.params], &function.body, functions);
    }

    fn body(
        &mut self,
        whole: bool,
        params: &[&'a Vec<Param>],
        block: &'a Block,
        functions: &Functions<'a, '_>,
    ) {
        let mut assigned = HashSet::new();
        assigned_in(block, &mut assigned);
        let mut body = Body {
            file: self,
            functions,
            whole,
            scopes: vec![Scope::default()],
            assigned,
            read_early: HashSet::new(),
            loops: 0,
        };
        for param in params.iter().copied().flatten() {
            body.bind(&param.name, false);
        }
        body.block(block);
        body.close();
    }

    fn unused_functions(&mut self, functions: &[Function]) {
        for function in functions {
            let name = &function.name;
            if !self.called.contains(name.node.as_str()) && !name.node.starts_with('_') {
                let message = format!("nothing calls the function `{}`", short(&name.node));
                self.sink.push(
                    Diagnostic::warning("W0301", message, name.span.clone()).label("never called"),
                );
            }
        }
    }
}

/// A name and what became of it.
struct Variable<'a> {
    span: &'a Span,
    used: bool,
    /// Whether it is worth saying that nobody uses it.
    reported: bool,
}

#[derive(Default)]
struct Scope<'a> {
    variables: HashMap<&'a str, Variable<'a>>,
}

/// A walk through one body.
struct Body<'a, 'f, 's> {
    file: &'f mut File<'a, 's>,
    functions: &'f Functions<'a, 'f>,
    whole: bool,
    /// The outermost is that of the body itself, where assignments declare names.
    scopes: Vec<Scope<'a>>,
    /// Every name that the body assigns to somewhere.
    assigned: HashSet<&'a str>,
    /// Names that were read before an assignment declared them.
    read_early: HashSet<&'a str>,
    loops: usize,
}

impl<'a> Body<'a, '_, '_> {
    fn bind(&mut self, name: &'a Spanned<String>, reported: bool) {
        self.bind_in(self.scopes.len() - 1, &name.node, &name.span, reported, false);
    }

    fn bind_in(&mut self, scope: usize, name: &'a str, span: &'a Span, reported: bool, used: bool) {
        let variable = Variable { span, used, reported };
        if let Some(hidden) = self.scopes[scope].variables.insert(name, variable) {
            self.unused(name, &hidden);
        }
    }

    fn open(&mut self) {
        self.scopes.push(Scope::default());
    }

    fn close(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        let mut variables: Vec<_> = scope.variables.iter().collect();
        variables.sort_by_key(|(_, variable)| variable.span.start);
        for (name, variable) in variables {
            self.unused(name, variable);
        }
    }

    fn unused(&mut self, name: &str, variable: &Variable<'_>) {
        if variable.used || !variable.reported || !self.whole || name.starts_with('_') {
            return;
        }
        if name.is_empty() {
            return;
        }
        let message = format!("nothing uses `{}`", short(name));
        self.file.sink.push(
            Diagnostic::warning("W0301", message, variable.span.clone())
                .label("never used")
                .note("a name that begins with `_` may stay unused"),
        );
    }

    fn find(&mut self, name: &str) -> Option<&mut Variable<'a>> {
        self.scopes.iter_mut().rev().find_map(|scope| scope.variables.get_mut(name))
    }

    // Reading.

    fn read(&mut self, name: &'a str, span: &Span) {
        if let Some(variable) = self.find(name) {
            variable.used = true;
        } else if self.functions.get(name).is_some() {
            self.file.called.insert(name);
        } else if self.assigned.contains(name) {
            self.read_early.insert(name);
        } else if !is_known(name) && !self.file.memories.contains(name) {
            self.undefined(name, span);
        }
    }

    fn undefined(&mut self, name: &str, span: &Span) {
        if !self.whole || name.is_empty() || self.file.sink.is_full(Severity::Error) {
            return;
        }
        let message = format!("nobody defined `{}`", short(name));
        let diagnostic = Diagnostic::error("E0201", message, span.clone()).label("not known here");
        let diagnostic = if self.file.agents.contains(name) {
            let text = format!("\"{name}\"");
            diagnostic.fix(span.clone(), text, "an agent is named by a text")
        } else {
            let variables = self.scopes.iter().rev().flat_map(|scope| scope.variables.keys());
            let known = variables.copied().chain(self.functions.names());
            let known = known.chain(AMBIENT.iter().map(|name| -> &'a str { name }));
            let meant = nearest(name, known).map(str::to_owned);
            diagnostic.did_you_mean(meant.as_deref())
        };
        self.file.sink.push(diagnostic);
    }

    fn call(&mut self, name: &'a str, callee: &Expr, args: &'a [Arg], span: &Span) {
        if let Some(variable) = self.find(name) {
            variable.used = true;
        } else if let Some(function) = self.functions.get(name) {
            self.file.called.insert(name);
            self.arity(function, args, span);
        } else if operations::is_host_call(name) {
            self.host_call(name, args, span);
            if let ("tool", Some(tools)) = (name, self.file.tools) {
                super::tools::named_call(args, tools, self.file.sink);
            }
        } else if !BUILTINS.contains(&name) {
            self.tool(name, args, &callee.span);
        }
    }

    /// What a host call is given and does not take.
    fn host_call(&mut self, call: &str, args: &[Arg], span: &Span) {
        let Some(arranged) = operations::arrange(call, &given(args)) else { return };
        let places = match arranged {
            Ok(arranged) => arranged.places,
            Err(Misplaced { argument, message, nearest }) => {
                let place = args.get(argument).map_or(span, |arg| match &arg.name {
                    Some(name) => &name.span,
                    None => &arg.value.span,
                });
                self.refused(message, place, nearest);
                return;
            }
        };
        for (arg, place) in args.iter().zip(&places) {
            let (Place::Options, ExprKind::Record { fields, .. }) = (place, &arg.value.kind) else {
                continue;
            };
            for (key, _) in fields {
                if let Err((message, nearest)) = operations::option(call, &key.node) {
                    self.refused(message, &key.span, nearest);
                }
            }
        }
    }

    fn refused(&mut self, message: String, span: &Span, nearest: Option<&str>) {
        self.file.sink.push(
            Diagnostic::warning("W0313", message, span.clone())
                .label("will fail with `TypeError`")
                .did_you_mean(nearest),
        );
    }

    fn arity(&mut self, function: &Function, args: &[Arg], span: &Span) {
        let takes = function.params.len();
        let unknown = args
            .iter()
            .filter_map(|arg| arg.name.as_ref())
            .find(|name| !function.params.iter().any(|param| param.name.node == name.node));
        if let Some(name) = unknown {
            let message =
                format!("`{}` has no parameter `{}`", function.name.node, short(&name.node));
            let known = function.params.iter().map(|param| param.name.node.as_str());
            self.file.sink.push(
                Diagnostic::error("E0203", message, name.span.clone())
                    .label("no such parameter")
                    .did_you_mean(nearest(&name.node, known)),
            );
        } else if args.len() != takes {
            let plural = if takes == 1 { "" } else { "s" };
            let message = format!(
                "`{}` takes {takes} argument{plural}, and {} are given",
                short(&function.name.node),
                args.len()
            );
            let names: Vec<_> =
                function.params.iter().map(|param| param.name.node.as_str()).collect();
            self.file.sink.push(
                Diagnostic::error("E0203", message, span.clone())
                    .label(format!("expected ({})", names.join(", "))),
            );
        }
    }

    /// A call of a name that is nothing in the file is a tool; it may be a misspelling.
    fn tool(&mut self, name: &str, args: &[Arg], span: &Span) {
        if let Some(tools) = self.file.tools {
            let functions = self.functions.names();
            return super::tools::call(name, args, span, tools, functions, self.file.sink);
        }
        let Some(hints) = self.file.hints.checked_sub(1) else { return };
        self.file.hints = hints;
        let fixed = BUILTINS.iter().copied().chain(operations::host_calls());
        let known = self.functions.names().chain(fixed.map(|name| -> &'a str { name }));
        let meant = nearest(name, known.filter(|known| known.len() > 3)).map(str::to_owned);
        if let Some(meant) = meant {
            let message = format!("`{}` is called as a tool", short(name));
            self.file.sink.push(
                Diagnostic::warning("W0312", message, span.clone())
                    .label("no function of this file, no builtin")
                    .did_you_mean(Some(&meant)),
            );
        }
    }

    fn namespaced(
        &mut self,
        namespace: &str,
        of: &Expr,
        member: &Spanned<String>,
        args: &[Arg],
        span: &Span,
    ) {
        let name = format!("{namespace}.{}", member.node);
        if operations::is_host_call(&name) {
            self.host_call(&name, args, span);
            return;
        }
        if member.node.is_empty() || self.file.sink.is_full(Severity::Warning) {
            return;
        }
        let span = of.span.start..member.span.end;
        let message = format!("`{}` is called as a tool", short(&name));
        let known = operations::host_calls().filter(|call| call.starts_with(namespace));
        self.file.sink.push(
            Diagnostic::warning("W0312", message, span)
                .label("no such host call")
                .did_you_mean(nearest(&name, known)),
        );
    }

    // Walking.

    fn block(&mut self, block: &'a Block) {
        self.open();
        let leaves = |statement: &Stmt| {
            matches!(statement.kind, StmtKind::Return(_) | StmtKind::Break | StmtKind::Continue)
        };
        let left = block.statements.iter().position(leaves);
        for (at, statement) in block.statements.iter().enumerate() {
            if left.is_some_and(|left| at == left + 1) {
                self.unreachable(&statement.span);
            }
            self.statement(statement);
        }
        if let Some(value) = &block.value {
            if left.is_some_and(|left| left + 1 == block.statements.len()) {
                self.unreachable(&value.span);
            }
            self.expr(value);
        }
        self.close();
    }

    fn unreachable(&mut self, span: &Span) {
        self.file.sink.push(
            Diagnostic::warning("W0311", "nothing gets here", span.clone())
                .label("after the block was left"),
        );
    }

    fn statement(&mut self, statement: &'a Stmt) {
        match &statement.kind {
            StmtKind::Let { name, ty: _, value } => {
                self.expr(value);
                self.bind(name, true);
            }
            StmtKind::Assign { target, op, value } => {
                self.expr(value);
                self.assign(target, op.is_some());
            }
            StmtKind::Expr(value) => self.expr(value),
            StmtKind::For { name, iterable, body } => {
                self.expr(iterable);
                self.open();
                self.bind(name, false);
                self.looped(body);
                self.close();
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                self.looped(body);
            }
            StmtKind::Try { body, catches } => {
                self.block(body);
                for catch in catches {
                    self.open();
                    if let Some(name) = &catch.name {
                        self.bind(name, false);
                    }
                    self.block(&catch.body);
                    self.close();
                }
            }
            StmtKind::Return(value) => {
                if let Some(value) = value {
                    self.expr(value);
                }
            }
            StmtKind::Break => self.in_loop("break", &statement.span),
            StmtKind::Continue => self.in_loop("continue", &statement.span),
        }
    }

    fn looped(&mut self, body: &'a Block) {
        self.loops += 1;
        self.block(body);
        self.loops -= 1;
    }

    fn in_loop(&mut self, word: &str, span: &Span) {
        if self.loops == 0 {
            self.file.sink.push(
                Diagnostic::error("E0204", format!("`{word}` stands in no loop"), span.clone())
                    .label("not inside a `for` or a `while`"),
            );
        }
    }

    fn assign(&mut self, target: &'a Expr, reads: bool) {
        let ExprKind::Name(name) = &target.kind else {
            self.expr(target);
            return;
        };
        if let Some(variable) = self.find(name) {
            variable.used |= reads;
        } else {
            let used = reads || self.read_early.contains(name.as_str());
            self.bind_in(0, name, &target.span, true, used);
        }
    }

    fn expr(&mut self, expr: &'a Expr) {
        match &expr.kind {
            ExprKind::Literal(_) | ExprKind::None | ExprKind::Secret(_) | ExprKind::Missing => {}
            ExprKind::Name(name) => self.read(name, &expr.span),
            ExprKind::Array(elements) => elements.iter().for_each(|element| self.expr(element)),
            ExprKind::Record { name: _, fields } => {
                fields.iter().for_each(|(_, value)| self.expr(value));
            }
            ExprKind::Unary(_, of) => self.expr(of),
            ExprKind::Some(of) | ExprKind::Ok(of) | ExprKind::Err(of) => self.expr(of),
            ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
                self.expr(left);
                self.expr(right);
            }
            ExprKind::Member(of, _) => self.expr(of),
            ExprKind::Call { callee, args } => self.called(callee, args, &expr.span),
            ExprKind::Lambda { params, body } => self.lambda(params, body),
            ExprKind::If { condition, then, otherwise } => {
                self.open();
                match &**condition {
                    Condition::Expr(condition) => self.expr(condition),
                    Condition::Let(pattern, value) => {
                        self.expr(value);
                        self.pattern(pattern);
                    }
                }
                self.block(then);
                self.close();
                if let Some(otherwise) = otherwise {
                    self.block(otherwise);
                }
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                self.exhaustive(arms, &expr.span);
                for arm in arms {
                    self.open();
                    self.pattern(&arm.pattern);
                    self.block(&arm.body);
                    self.close();
                }
            }
        }
    }

    /// Says of a `match` that some value may fit none of its arms.
    fn exhaustive(&mut self, arms: &[Arm], span: &Span) {
        let all = |pattern: &Pattern| {
            matches!(pattern.kind, PatternKind::Wildcard | PatternKind::Name(_))
        };
        let has = |wanted: &dyn Fn(&PatternKind) -> bool| {
            arms.iter().any(|arm| wanted(&arm.pattern.kind))
        };
        let is = |value| {
            has(&|kind| matches!(kind, PatternKind::Literal(Literal::Bool(is)) if *is == value))
        };
        let complete = arms.iter().any(|arm| all(&arm.pattern))
            || (is(true) && is(false))
            || (has(&|kind| matches!(kind, PatternKind::None))
                && has(&|kind| matches!(kind, PatternKind::Some(inner) if all(inner))))
            || (has(&|kind| matches!(kind, PatternKind::Ok(inner) if all(inner)))
                && has(&|kind| matches!(kind, PatternKind::Err(inner) if all(inner))));
        if complete || !self.whole {
            return;
        }
        self.file.sink.push(
            Diagnostic::warning(
                "W0315",
                "this `match` has no arm for everything else",
                span.start..span.start + "match".len(),
            )
            .label("gives `null` where no arm fits")
            .note("an arm `_ => ...` takes what no other does"),
        );
    }

    fn called(&mut self, callee: &'a Expr, args: &'a [Arg], span: &Span) {
        args.iter().for_each(|arg| self.expr(&arg.value));
        match &callee.kind {
            ExprKind::Name(name) => self.call(name, callee, args, span),
            ExprKind::Member(of, member) => match &of.kind {
                ExprKind::Name(namespace)
                    if NAMESPACES.contains(&namespace.as_str())
                        && self.find(namespace).is_none() =>
                {
                    self.namespaced(namespace, of, member, args, span);
                }
                ExprKind::Name(name)
                    if self.file.memories.contains(name.as_str()) && self.find(name).is_none() =>
                {
                    self.host_call(&format!("memory.{}", member.node), args, span);
                }
                _ => self.expr(of),
            },
            _ => self.expr(callee),
        }
    }

    /// A lambda has a scope of its own, in which what it assigns is declared.
    fn lambda(&mut self, params: &'a [Param], body: &'a Block) {
        let loops = std::mem::take(&mut self.loops);
        self.open();
        for param in params {
            self.bind(&param.name, false);
        }
        let mut assigned = HashSet::new();
        assigned_in(body, &mut assigned);
        let scope = self.scopes.len() - 1;
        for name in assigned {
            if self.find(name).is_none() {
                self.bind_in(scope, name, &body.span, false, false);
            }
        }
        self.block(body);
        self.close();
        self.loops = loops;
    }

    fn pattern(&mut self, pattern: &'a Pattern) {
        match &pattern.kind {
            PatternKind::Wildcard | PatternKind::Literal(_) | PatternKind::None => {}
            PatternKind::Name(name) => {
                let scope = self.scopes.len() - 1;
                self.bind_in(scope, name, &pattern.span, false, false);
            }
            PatternKind::Some(inner) | PatternKind::Ok(inner) | PatternKind::Err(inner) => {
                self.pattern(inner);
            }
            PatternKind::Record(fields) => {
                fields.iter().for_each(|(_, pattern)| self.pattern(pattern));
            }
        }
    }
}

/// The arguments of a call, as far as their places depend on them.
pub(super) fn given(args: &[Arg]) -> Vec<Given<'_>> {
    args.iter()
        .map(|arg| Given {
            name: arg.name.as_ref().map(|name| name.node.as_str()),
            shape: match &arg.value.kind {
                ExprKind::Record { .. } => Shape::Record,
                ExprKind::Literal(Literal::Null) | ExprKind::None | ExprKind::Missing => {
                    Shape::Open
                }
                ExprKind::Literal(_)
                | ExprKind::Array(_)
                | ExprKind::Lambda { .. }
                | ExprKind::Secret(_)
                | ExprKind::Some(_)
                | ExprKind::Ok(_)
                | ExprKind::Err(_)
                | ExprKind::Unary(..)
                | ExprKind::Binary(..) => Shape::Other,
                ExprKind::Name(_)
                | ExprKind::Member(..)
                | ExprKind::Index(..)
                | ExprKind::Call { .. }
                | ExprKind::If { .. }
                | ExprKind::Match { .. } => Shape::Open,
            },
        })
        .collect()
}

/// Whether a name is known everywhere.
fn is_known(name: &str) -> bool {
    name == "any"
        || AMBIENT.contains(&name)
        || BUILTINS.contains(&name)
        || NAMESPACES.contains(&name)
        || operations::is_host_call(name)
}

/// Gathers the names that a body assigns to, lambdas apart.
fn assigned_in<'a>(block: &'a Block, names: &mut HashSet<&'a str>) {
    for statement in &block.statements {
        match &statement.kind {
            StmtKind::Assign { target, .. } => {
                if let ExprKind::Name(name) = &target.kind {
                    names.insert(name);
                }
            }
            StmtKind::Expr(value) => assigned_in_expr(value, names),
            StmtKind::Let { value, .. } => assigned_in_expr(value, names),
            StmtKind::For { body, .. } | StmtKind::While { body, .. } => assigned_in(body, names),
            StmtKind::Try { body, catches } => {
                assigned_in(body, names);
                catches.iter().for_each(|catch| assigned_in(&catch.body, names));
            }
            StmtKind::Return(_) | StmtKind::Break | StmtKind::Continue => {}
        }
    }
    if let Some(value) = &block.value {
        assigned_in_expr(value, names);
    }
}

/// Blocks with statements stand in `if` and `match`.
fn assigned_in_expr<'a>(expr: &'a Expr, names: &mut HashSet<&'a str>) {
    match &expr.kind {
        ExprKind::If { then, otherwise, .. } => {
            assigned_in(then, names);
            if let Some(otherwise) = otherwise {
                assigned_in(otherwise, names);
            }
        }
        ExprKind::Match { arms, .. } => {
            arms.iter().for_each(|arm| assigned_in(&arm.body, names));
        }
        _ => {}
    }
}
