//! What is wrong, and what would mend it.

use lsp_types::{
    CodeAction, CodeActionKind, CodeActionOrCommand, CodeActionParams, DiagnosticSeverity,
    DiagnosticTag, NumberOrString, TextEdit,
};
use serde_json::json;
use symbiont_dsl::diagnostic::{Diagnostic, Severity};

use super::{Client, edit};
use crate::document::Document;

/// Warnings about what the program could do without.
const UNNECESSARY: &[&str] = &["W0301", "W0311"];

/// What is wrong with a document.
pub fn diagnostics(document: &Document) -> Vec<lsp_types::Diagnostic> {
    document.diagnostics().iter().map(|found| told(document, found)).collect()
}

fn told(document: &Document, found: &Diagnostic) -> lsp_types::Diagnostic {
    let label = Some(&found.label).filter(|label| !label.is_empty());
    let lines = std::iter::once(&found.message).chain(label).chain(&found.notes);
    let message = lines.map(String::as_str).collect::<Vec<_>>().join("\n");
    let fix = found.fix.as_ref().map(|fix| {
        json!({
            "message": fix.message,
            "range": document.text.range(&fix.span),
            "newText": fix.replacement,
        })
    });
    lsp_types::Diagnostic {
        range: document.text.range(&found.span),
        severity: Some(match found.severity {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
        }),
        code: Some(NumberOrString::String(found.code.to_owned())),
        source: Some("symbiont".to_owned()),
        message,
        tags: UNNECESSARY.contains(&found.code).then(|| vec![DiagnosticTag::UNNECESSARY]),
        data: Some(json!({ "explain": format!("symbiont explain {}", found.code), "fix": fix })),
        ..lsp_types::Diagnostic::default()
    }
}

/// The changes that would mend what is wrong in a range.
pub fn actions(
    document: &Document,
    params: &CodeActionParams,
    client: &Client,
) -> Vec<CodeActionOrCommand> {
    let only = params.context.only.as_deref();
    let wanted = |kind: &CodeActionKind| {
        kind.as_str().is_empty() || CodeActionKind::QUICKFIX.as_str().starts_with(kind.as_str())
    };
    if only.is_some_and(|only| !only.iter().any(wanted)) {
        return Vec::new();
    }
    let asked = document.text.span(params.range);
    let touched = |found: &&Diagnostic| {
        let touches =
            |span: &std::ops::Range<usize>| span.start <= asked.end && asked.start <= span.end;
        touches(&found.span) || found.fix.as_ref().is_some_and(|fix| touches(&fix.span))
    };
    let mended = |found: &Diagnostic| {
        let fix = found.fix.as_ref()?;
        let range = document.text.range(&fix.span);
        let change = TextEdit { range, new_text: fix.replacement.clone() };
        Some(CodeActionOrCommand::CodeAction(CodeAction {
            title: title(&fix.message, &fix.replacement),
            kind: Some(CodeActionKind::QUICKFIX),
            diagnostics: Some(vec![told(document, found)]),
            edit: Some(edit(document, vec![change], client)),
            is_preferred: Some(true),
            ..CodeAction::default()
        }))
    };
    document.diagnostics().iter().filter(touched).filter_map(mended).collect()
}

/// The change in words that say what is going to be done.
fn title(message: &str, replacement: &str) -> String {
    match message.starts_with("did you mean") {
        true => format!("change to `{replacement}`"),
        false => message.to_owned(),
    }
}
