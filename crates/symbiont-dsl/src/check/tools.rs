//! Calls of tools, against the manifests of those that there are.
//!
//! What the source tells of an argument is compared with its parameter; what only the run will know
//! fits everything here, and is looked at when the call is made.

use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{Arg, Expr, ExprKind, Literal, Span, UnaryOp};
use crate::operations::BUILTINS;
use crate::syntax::literal::short;
use crate::tools::{Given, Refusal, Tools};
use crate::value::Value;

/// Checks a call by a bare name that is nothing in the file.
pub(super) fn call<'a>(
    name: &str,
    args: &[Arg],
    span: &Span,
    tools: &Tools,
    functions: impl Iterator<Item = &'a str>,
    sink: &mut Sink,
) {
    if tools.get(name).is_none() {
        if sink.is_full(Severity::Warning) {
            return;
        }
        let builtins = BUILTINS.iter().copied();
        let meant = tools.nearest(name).or_else(|| nearest(name, functions.chain(builtins)));
        return unknown(name, span, meant.map(str::to_owned).as_deref(), sink);
    }
    let values: Vec<Option<Value>> = args.iter().map(|arg| value(&arg.value)).collect();
    let names = args.iter().map(|arg| arg.name.as_ref().map(|name| name.node.as_str()));
    let given: Vec<Given<'_>> =
        names.zip(&values).map(|(name, value)| Given { name, value: value.as_ref() }).collect();
    let places: Vec<&Span> = args
        .iter()
        .map(|arg| arg.name.as_ref().map_or(&arg.value.span, |name| &name.span))
        .collect();
    let values: Vec<&Span> = args.iter().map(|arg| &arg.value.span).collect();
    arguments(name, &given, &places, &values, span, tools, sink);
}

/// Checks `tool(name, args)`, as far as the source tells them.
pub(super) fn named_call(args: &[Arg], tools: &Tools, sink: &mut Sink) {
    let [first, rest @ ..] = args else { return };
    let ExprKind::Literal(Literal::String(name)) = &first.value.kind else { return };
    let span = &first.value.span;
    if tools.get(name).is_none() {
        let meant = tools.nearest(name).map(|meant| format!("\"{meant}\""));
        return unknown(name, span, meant.as_deref(), sink);
    }
    match rest {
        [] => arguments(name, &[], &[], &[], span, tools, sink),
        [Arg { value: Expr { kind: ExprKind::Record { fields, .. }, .. }, .. }] => {
            let values: Vec<Option<Value>> = fields.iter().map(|(_, of)| value(of)).collect();
            let given: Vec<Given<'_>> = fields
                .iter()
                .zip(&values)
                .map(|((key, _), value)| Given { name: Some(&key.node), value: value.as_ref() })
                .collect();
            let places: Vec<&Span> = fields.iter().map(|(key, _)| &key.span).collect();
            let values: Vec<&Span> = fields.iter().map(|(_, value)| &value.span).collect();
            arguments(name, &given, &places, &values, span, tools, sink);
        }
        _ => {}
    }
}

fn unknown(name: &str, span: &Span, meant: Option<&str>, sink: &mut Sink) {
    sink.push(
        Diagnostic::warning("W0410", format!("there is no tool `{}`", short(name)), span.clone())
            .label("will fail with `ToolNotFound`")
            .did_you_mean(meant),
    );
}

fn arguments(
    name: &str,
    given: &[Given<'_>],
    places: &[&Span],
    values: &[&Span],
    span: &Span,
    tools: &Tools,
    sink: &mut Sink,
) {
    let Some(tool) = tools.get(name) else { return };
    let checked = tool.arguments(given).and_then(|values| {
        // Where everything is known, so is what becomes of it.
        match given.iter().all(|given| given.value.is_some()) {
            true => tool.prepare(&values).map(|_| ()),
            false => Ok(()),
        }
    });
    let Err(Refusal { argument, kind, message, nearest }) = checked else { return };
    // A name that is wrong is shown, or else the value.
    let spans = if nearest.is_some() { places } else { values };
    let place = argument.and_then(|at| spans.get(at).copied()).unwrap_or(span);
    sink.push(
        Diagnostic::error("E0411", message, place.clone())
            .label(format!("would fail with `{kind}`"))
            .note(format!("the tool is `{tool}`"))
            .did_you_mean(nearest.as_deref()),
    );
}

/// The value of an expression that tells it.
fn value(expr: &Expr) -> Option<Value> {
    Some(match &expr.kind {
        ExprKind::Literal(literal) => match literal {
            Literal::String(text) => Value::from(text.as_str()),
            Literal::Int(number) => Value::Int(*number),
            Literal::Float(number) => Value::Float(*number),
            Literal::Bool(flag) => Value::Bool(*flag),
            Literal::Null => Value::Null,
            Literal::Duration(duration) => Value::Duration(*duration),
            Literal::Size(bytes) => Value::Size(*bytes),
        },
        ExprKind::Unary(UnaryOp::Negate, of) => match value(of)? {
            Value::Int(number) => Value::Int(number.checked_neg()?),
            Value::Float(number) => Value::Float(-number),
            _ => return None,
        },
        ExprKind::None => Value::None,
        ExprKind::Array(elements) => {
            let elements: Option<Vec<Value>> = elements.iter().map(value).collect();
            Value::array(elements?)
        }
        _ => return None,
    })
}
