//! Which names a piece of program uses and assigns: what lambdas capture, and which variables
//! belong to a whole function.

use std::collections::HashMap;

use indexmap::IndexSet;

use crate::hir::{Block, Condition, Expr, ExprKind, Pattern, PatternKind, Stmt, StmtKind};

/// The names found.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Names read or called, whether bound inside or not.
    pub(super) used: IndexSet<&'a str>,
    /// Names assigned where nothing inside binds them. Lambdas inside keep theirs to themselves.
    pub(super) assigned: IndexSet<&'a str>,
    bound: HashMap<&'a str, u32>,
    scopes: Vec<Vec<&'a str>>,
    lambdas: u32,
}

impl<'a> Names<'a> {
    /// The names of a body.
    pub(super) fn of(body: &'a Block) -> Self {
        let mut names = Names::default();
        names.block(body);
        names
    }

    fn bind(&mut self, name: &'a str) {
        *self.bound.entry(name).or_default() += 1;
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(name);
        }
    }

    fn open(&mut self) {
        self.scopes.push(Vec::new());
    }

    fn close(&mut self) {
        for name in self.scopes.pop().unwrap_or_default() {
            if let Some(count) = self.bound.get_mut(name) {
                *count -= 1;
            }
        }
    }

    fn block(&mut self, block: &'a Block) {
        self.open();
        for statement in &block.statements {
            self.statement(statement);
        }
        if let Some(value) = &block.value {
            self.expr(value);
        }
        self.close();
    }

    fn statement(&mut self, statement: &'a Stmt) {
        match &statement.kind {
            StmtKind::Let { name, ty: _, value } => {
                self.expr(value);
                self.bind(&name.node);
            }
            StmtKind::Assign { target, op: _, value } => {
                self.expr(value);
                let mut root = target;
                while let ExprKind::Member(inner, _) | ExprKind::Index(inner, _) = &root.kind {
                    root = inner;
                }
                if let ExprKind::Name(name) = &root.kind
                    && self.lambdas == 0
                    && self.bound.get(name.as_str()).copied().unwrap_or(0) == 0
                {
                    self.assigned.insert(name);
                }
                self.expr(target);
            }
            StmtKind::Expr(expr) => self.expr(expr),
            StmtKind::For { name, iterable, body } => {
                self.expr(iterable);
                self.open();
                self.bind(&name.node);
                self.block(body);
                self.close();
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                self.block(body);
            }
            StmtKind::Try { body, catches } => {
                self.block(body);
                for catch in catches {
                    self.open();
                    if let Some(name) = &catch.name {
                        self.bind(&name.node);
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
            StmtKind::Break | StmtKind::Continue => {}
        }
    }

    fn pattern(&mut self, pattern: &'a Pattern) {
        match &pattern.kind {
            PatternKind::Name(name) => self.bind(name),
            PatternKind::Some(inner) | PatternKind::Ok(inner) | PatternKind::Err(inner) => {
                self.pattern(inner);
            }
            PatternKind::Record(fields) => {
                for (_, inner) in fields {
                    self.pattern(inner);
                }
            }
            PatternKind::Wildcard | PatternKind::Literal(_) | PatternKind::None => {}
        }
    }

    fn expr(&mut self, expr: &'a Expr) {
        let mut expr = expr;
        // A long sum leans to the left; walking down that side needs no recursion.
        while let ExprKind::Binary(_, left, right) = &expr.kind {
            self.expr(right);
            expr = left;
        }
        match &expr.kind {
            ExprKind::Name(name) => {
                self.used.insert(name);
            }
            ExprKind::Lambda { params, body } => {
                self.lambdas += 1;
                self.open();
                params.iter().for_each(|param| self.bind(&param.name.node));
                self.block(body);
                self.close();
                self.lambdas -= 1;
            }
            ExprKind::If { condition, then, otherwise } => {
                self.open();
                match &**condition {
                    Condition::Expr(expr) => self.expr(expr),
                    Condition::Let(pattern, expr) => {
                        self.expr(expr);
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
                for arm in arms {
                    self.open();
                    self.pattern(&arm.pattern);
                    self.block(&arm.body);
                    self.close();
                }
            }
            ExprKind::Literal(_)
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
            | ExprKind::Missing => expr.each_part(|part| self.expr(part)),
        }
    }
}
