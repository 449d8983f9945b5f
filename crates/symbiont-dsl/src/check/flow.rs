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
    Arm, Block, Condition, Expr, ExprKind, Literal, Pattern, PatternKind, Program, Span, Stmt,
    StmtKind,
};

/// Checks the bodies of a program.
pub(super) fn check(program: &Program, sink: &mut Sink) {
    let mut faults = sink.syntax_faults();
    faults.sort_unstable_by_key(|span| span.start);
    let mut flow = Flow { faults, loops: Vec::new(), sink };
    let of_agents = program.agents.iter().flat_map(|agent| &agent.functions);
    for function in program.functions.iter().chain(of_agents) {
        flow.block(&function.body);
    }
    for agent in &program.agents {
        let handlers = agent.handlers.iter().map(|handler| &handler.body);
        for body in handlers.chain(agent.with.iter().map(|with| &with.body)) {
            flow.block(body);
        }
    }
}

/// A walk through bodies, in which a construct *leaves* when nothing gets past it.
struct Flow<'s> {
    /// Where something could not be read, in order.
    faults: Vec<Span>,
    /// The loops around this place, and whether something breaks out of them.
    loops: Vec<bool>,
    sink: &'s mut Sink,
}

impl Flow<'_> {
    fn is_whole(&self, span: &Span) -> bool {
        let first = self.faults.partition_point(|fault| fault.start < span.start);
        self.faults.get(first).is_none_or(|fault| fault.start >= span.end)
    }

    fn block(&mut self, block: &Block) -> bool {
        let mut unreached: Option<&Span> = None;
        let mut left = false;
        for statement in &block.statements {
            if left {
                unreached.get_or_insert(&statement.span);
            }
            left |= self.statement(statement);
        }
        if let Some(value) = &block.value {
            if left {
                unreached.get_or_insert(&value.span);
            }
            left |= self.expr(value);
        }
        if let Some(span) = unreached
            && self.is_whole(&block.span)
        {
            self.dead(span, "after the block was left");
        }
        left
    }

    fn dead(&mut self, span: &Span, label: &str) {
        self.sink
            .push(Diagnostic::warning("W0311", "nothing gets here", span.clone()).label(label));
    }

    fn statement(&mut self, statement: &Stmt) -> bool {
        match &statement.kind {
            StmtKind::Let { value, .. } | StmtKind::Expr(value) => self.expr(value),
            StmtKind::Assign { target, value, .. } => {
                self.expr(target);
                self.expr(value)
            }
            StmtKind::For { iterable, body, .. } => {
                self.expr(iterable);
                self.looped(body);
                false
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                let broken = self.looped(body);
                condition.kind == ExprKind::Literal(Literal::Bool(true)) && !broken
            }
            StmtKind::Try { body, catches } => {
                let left = self.block(body);
                catches.iter().fold(left, |left, catch| self.block(&catch.body) && left)
            }
            StmtKind::Return(value) => {
                self.all(value);
                true
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
    fn in_loop(&mut self, word: &str, span: &Span) -> bool {
        if self.loops.is_empty() {
            self.sink.push(
                Diagnostic::error("E0204", format!("`{word}` stands in no loop"), span.clone())
                    .label("not inside a `for` or a `while`"),
            );
        }
        !self.loops.is_empty()
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

    fn expr(&mut self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::If { condition, then, otherwise } => {
                let (Condition::Expr(head) | Condition::Let(_, head)) = &**condition;
                self.expr(head);
                let left = self.block(then);
                otherwise.as_ref().is_some_and(|block| self.block(block)) && left
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                let complete = self.arms(arms, &expr.span);
                arms.iter().fold(complete, |left, arm| self.block(&arm.body) && left)
            }
            ExprKind::Lambda { body, .. } => {
                let loops = std::mem::take(&mut self.loops);
                self.block(body);
                self.loops = loops;
                false
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
                false
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
