//! How control flows through bodies: loops that are left, what nothing reaches, values that fit no
//! arm.

use super::names::Broken;
use crate::diagnostic::{Diagnostic, Sink};
use crate::hir::{
    Arm, Block, Condition, Expr, ExprKind, Literal, Pattern, PatternKind, Program, Span, Stmt,
    StmtKind,
};

/// Checks the bodies of a program.
pub(super) fn check(program: &Program, broken: &Broken, sink: &mut Sink) {
    let mut walk = Walk { broken, loops: 0, sink };
    program.functions.iter().for_each(|function| walk.block(&function.body));
    for agent in &program.agents {
        agent.functions.iter().for_each(|function| walk.block(&function.body));
        agent.handlers.iter().for_each(|handler| walk.block(&handler.body));
        agent.with.iter().for_each(|with| walk.block(&with.body));
    }
}

struct Walk<'b, 's> {
    broken: &'b Broken,
    /// How many loops stand around.
    loops: usize,
    sink: &'s mut Sink,
}

impl Walk<'_, '_> {
    fn block(&mut self, block: &Block) {
        let leaves = |statement: &Stmt| {
            matches!(statement.kind, StmtKind::Return(_) | StmtKind::Break | StmtKind::Continue)
        };
        let left = block.statements.iter().position(leaves);
        let after = left.and_then(|left| match block.statements.get(left + 1) {
            Some(statement) => Some(&statement.span),
            None => block.value.as_ref().map(|value| &value.span),
        });
        if let Some(span) = after {
            self.sink.push(
                Diagnostic::warning("W0311", "nothing gets here", span.clone())
                    .label("after the block was left"),
            );
        }
        block.statements.iter().for_each(|statement| self.statement(statement));
        if let Some(value) = &block.value {
            self.expr(value);
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match &statement.kind {
            StmtKind::Let { value, .. } | StmtKind::Expr(value) => self.expr(value),
            StmtKind::Assign { target, op: _, value } => {
                self.expr(value);
                self.expr(target);
            }
            StmtKind::For { iterable: head, body, .. }
            | StmtKind::While { condition: head, body } => {
                self.expr(head);
                self.loops += 1;
                self.block(body);
                self.loops -= 1;
            }
            StmtKind::Try { body, catches } => {
                self.block(body);
                catches.iter().for_each(|catch| self.block(&catch.body));
            }
            StmtKind::Return(value) => value.iter().for_each(|value| self.expr(value)),
            StmtKind::Break => self.in_loop("break", &statement.span),
            StmtKind::Continue => self.in_loop("continue", &statement.span),
        }
    }

    fn in_loop(&mut self, word: &str, span: &Span) {
        if self.loops == 0 {
            self.sink.push(
                Diagnostic::error("E0204", format!("`{word}` stands in no loop"), span.clone())
                    .label("not inside a `for` or a `while`"),
            );
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Literal(_)
            | ExprKind::Name(_)
            | ExprKind::None
            | ExprKind::Secret(_)
            | ExprKind::Missing => {}
            ExprKind::Array(items) => items.iter().for_each(|item| self.expr(item)),
            ExprKind::Record { fields, .. } => {
                fields.iter().for_each(|(_, value)| self.expr(value));
            }
            ExprKind::Unary(_, of)
            | ExprKind::Member(of, _)
            | ExprKind::Some(of)
            | ExprKind::Ok(of)
            | ExprKind::Err(of) => self.expr(of),
            ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
                self.expr(left);
                self.expr(right);
            }
            ExprKind::Call { callee, args } => {
                self.expr(callee);
                args.iter().for_each(|arg| self.expr(&arg.value));
            }
            ExprKind::Lambda { body, .. } => {
                // A lambda leaves no loop but its own.
                let loops = std::mem::take(&mut self.loops);
                self.block(body);
                self.loops = loops;
            }
            ExprKind::If { condition, then, otherwise } => {
                let (Condition::Expr(condition) | Condition::Let(_, condition)) = &**condition;
                self.expr(condition);
                self.block(then);
                otherwise.iter().for_each(|otherwise| self.block(otherwise));
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                self.exhaustive(arms, &expr.span);
                arms.iter().for_each(|arm| self.block(&arm.body));
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
        if complete || self.broken.holds(span.start) {
            return;
        }
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
}
