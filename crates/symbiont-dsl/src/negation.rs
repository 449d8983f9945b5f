//! `not` before a comparison.
//!
//! In other languages `not a in b` says that `a` is not in `b`. Here `not` and `!` are read first, as of
//! `a` alone; what was meant has another form.

use crate::hir::{BinaryOp, Expr, ExprKind, UnaryOp};

/// What is negated by a `not` or a `!` with no parentheses around both.
pub(crate) fn bare<'e>(source: &str, of: &'e Expr) -> Option<&'e Expr> {
    match &of.kind {
        ExprKind::Unary(UnaryOp::Not, inner) if !source[of.span.clone()].starts_with('(') => {
            Some(inner)
        }
        _ => None,
    }
}

/// What says of a whole comparison what stands in it of its first part; nothing where that is another.
pub(crate) fn of_whole(source: &str, op: BinaryOp, left: &Expr, right: &Expr) -> Option<String> {
    use BinaryOp::{Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotEqual, NotIn};
    let inner = bare(source, left)?;
    let between = &source[inner.span.end..right.span.start];
    let turned = match (op, between.trim()) {
        (In, "in") => Some(between.replace("in", "not in")),
        (Equal, "==") => Some(between.replace("==", "!=")),
        (NotEqual, "!=") => Some(between.replace("!=", "==")),
        (NotIn, "not in") => Some(between.replace("not in", "in")),
        (Equal | NotEqual | In | NotIn | Less | LessOrEqual | Greater | GreaterOrEqual, _) => None,
        _ => return None,
    };
    Some(match turned {
        Some(between) => {
            let (inner, right) = (&source[inner.span.clone()], &source[right.span.clone()]);
            format!("{inner}{between}{right}")
        }
        None => format!("!({})", &source[inner.span.start..right.span.end]),
    })
}
