//! What a call takes, while its arguments are written.

use lsp_types::{
    Documentation, MarkupContent, MarkupKind, ParameterInformation, ParameterLabel, SignatureHelp,
    SignatureInformation,
};
use symbiont_dsl::analysis::{Meaning, SymbolKind};
use symbiont_dsl::docs::{self, Kind, Page};
use symbiont_dsl::hir::{Function, Program, Span};
use symbiont_dsl::syntax::{SyntaxKind, SyntaxNode};

use super::context::{Called, called};
use super::hover::receiver;
use super::layout::{span, token_at};
use crate::document::Document;

/// What can be called by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Callable {
    /// How it is called, each way on its own.
    pub(super) signatures: Vec<String>,
    /// What it does, in Markdown.
    pub(super) docs: String,
}

/// What a call takes.
pub fn signature(document: &Document, offset: usize) -> Option<SignatureHelp> {
    let (call, open) = enclosing(document, offset)?;
    let position = position(&call, &open, offset);
    let called = at(&call, offset, position)?;
    let callable = callable(document, &called)?;
    let informed = |signature: &String| {
        let parameters = parameters(signature);
        let active = active(&parameters, signature, &called);
        let labels = parameters.iter().map(|span| ParameterInformation {
            label: ParameterLabel::Simple(signature[span.clone()].to_owned()),
            documentation: None,
        });
        SignatureInformation {
            label: signature.clone(),
            documentation: Some(markdown(callable.docs.clone())),
            parameters: Some(labels.collect()),
            active_parameter: active,
        }
    };
    let signatures: Vec<_> = callable.signatures.iter().map(informed).collect();
    let fits = |it: &SignatureInformation| {
        it.parameters.as_ref().is_some_and(|parameters| parameters.len() > called.position)
    };
    let active = signatures.iter().position(fits).unwrap_or(0);
    let active_parameter = signatures.get(active)?.active_parameter;
    let active_signature = Some(crate::text::number(active));
    Some(SignatureHelp { signatures, active_signature, active_parameter })
}

/// The innermost call in whose parentheses a place is, and where those open.
fn enclosing(document: &Document, offset: usize) -> Option<(SyntaxNode, Span)> {
    let token = token_at(document.tree(), offset)?;
    token.parent_ancestors().find_map(|node| {
        if node.kind() != SyntaxKind::CallExpression {
            // Another body is another matter.
            return None;
        }
        let tokens = || node.children_with_tokens().filter_map(|it| it.into_token());
        let open = tokens().find(|token| token.kind() == SyntaxKind::LeftParen)?;
        let close = tokens().find(|token| token.kind() == SyntaxKind::RightParen);
        let open = span(open.text_range());
        let within = open.end <= offset
            && close.is_none_or(|close| offset <= usize::from(close.text_range().start()));
        within.then_some((node, open))
    })
}

/// How many commas of the call are before a place.
fn position(call: &SyntaxNode, open: &Span, offset: usize) -> usize {
    call.children_with_tokens()
        .filter(|it| it.kind() == SyntaxKind::Comma)
        .map(|it| usize::from(it.text_range().start()))
        .filter(|comma| (open.end..offset).contains(comma))
        .count()
}

fn at(call: &SyntaxNode, offset: usize, position: usize) -> Option<Called> {
    let arguments = || call.children().filter(|it| it.kind() == SyntaxKind::Argument);
    let here = arguments().find(|it| {
        let span = span(it.text_range());
        span.start <= offset && offset <= span.end
    });
    let callee = call.first_child()?;
    let mut found = match here.or_else(|| arguments().next()) {
        Some(argument) => called(&argument)?,
        None => Called {
            name: callee.text().to_string(),
            span: span(callee.text_range()),
            last: span(callee.last_token()?.text_range()),
            named: Vec::new(),
            position,
            positional: position,
            at: None,
        },
    };
    if found.position != position {
        (found.position, found.at) = (position, None);
    }
    Some(found)
}

/// The number of the parameter that is being written.
fn active(parameters: &[Span], signature: &str, called: &Called) -> Option<u32> {
    let name = |span: &Span| signature[span.clone()].split([':', ' ']).next().unwrap_or_default();
    let at = match &called.at {
        Some(named) => {
            parameters.iter().position(|span| name(span).trim_end_matches('?') == named)?
        }
        None => called.position,
    };
    (at < parameters.len()).then(|| crate::text::number(at))
}

/// What is called, if that is known.
pub(super) fn callable(document: &Document, called: &Called) -> Option<Callable> {
    let names = document.names();
    let place = names.analysis.place_at(called.last.start);
    let memory = || {
        let root = names.analysis.symbol_at(called.span.start)?;
        let (_, method) = called.name.split_once('.')?;
        (root.kind == SymbolKind::Memory)
            .then(|| docs::find(Kind::Call, &format!("memory.{method}")))?
    };
    match place.map(|place| place.meaning) {
        Some(Meaning::Symbol(id)) => {
            let symbol = &names.analysis.symbols()[id];
            let function =
                functions(&names.program).find(|function| function.name.span == symbol.span)?;
            let docs = super::hover::comment(document, symbol.span.start).unwrap_or_default();
            let signatures = vec![declaration(document, function)];
            Some(Callable { signatures, docs })
        }
        Some(Meaning::Builtin) => docs::find(Kind::Builtin, &called.name).map(of_page),
        Some(Meaning::HostCall) => docs::find(Kind::Call, &called.name).map(of_page),
        Some(_) => None,
        None => memory().map(of_page).or_else(|| method(document, called)),
    }
}

fn method(document: &Document, called: &Called) -> Option<Callable> {
    let (before, name) = called.name.rsplit_once('.')?;
    let end = called.span.start + before.trim_end().len();
    let kinds = receiver(document, end);
    let page = match kinds {
        Some(kind) => docs::method(kind, name.trim()),
        None => docs::named(name.trim()).find(|page| page.kind == Kind::Method),
    };
    page.map(of_page)
}

fn of_page(page: &Page) -> Callable {
    let signatures = page.signatures().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Callable { signatures, docs: page.summary().to_owned() }
}

/// Every function of a program.
pub(super) fn functions(program: &Program) -> impl Iterator<Item = &Function> {
    program.functions.iter().chain(program.agents.iter().flat_map(|agent| &agent.functions))
}

/// A function's first line, as it is written.
pub(super) fn declaration(document: &Document, function: &Function) -> String {
    let end = function.body.span.start.max(function.name.span.end);
    let text = document.source().get(function.name.span.start..end).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The parameters in a signature: what is between its first parentheses, commas in brackets apart.
pub(super) fn parameters(signature: &str) -> Vec<Span> {
    let Some(open) = signature.find('(') else { return Vec::new() };
    let (mut found, mut depth, mut start) = (Vec::new(), 0usize, open + 1);
    let mut before = ' ';
    for (at, char) in signature.char_indices().skip_while(|(at, _)| *at <= open) {
        match char {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ',' if depth == 0 => {
                let text = &signature[start..at];
                let lead = text.len() - text.trim_start().len();
                if !text.trim().is_empty() {
                    found.push(start + lead..start + text.trim_end().len());
                }
                start = at + 1;
                if char == ')' {
                    return found;
                }
            }
            // The head of an arrow closes nothing.
            '>' if matches!(before, '-' | '=') => {}
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = char;
    }
    found
}

/// Markdown for the client.
pub(super) fn markdown(value: String) -> Documentation {
    Documentation::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value })
}
