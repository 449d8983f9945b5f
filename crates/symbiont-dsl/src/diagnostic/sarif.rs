//! Diagnostics as SARIF 2.1.0, which code hosts and editors show beside the source.
//!
//! # What holds
//!
//! - Every code is a rule with its page as help; a result names its rule by id and by index.
//! - Lines and columns count from 1, columns in characters, which the log says (`columnKind`).
//! - The end of a region is the first column that is no longer in it.

use serde_json::{Value, json};

use super::codes::{Page, pages};
use super::{Diagnostic, Severity, line_and_column, within};
use crate::hir::Span;

/// A source that was checked.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where it is: a URI relative to the root of the sources, or an absolute one.
    pub uri: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What was found in it.
    pub diagnostics: &'a [Diagnostic],
}

/// A SARIF log of one run of the command, which has this version; `whole` says whether every file
/// could be read.
pub fn to_sarif(sources: &[Source<'_>], version: &str, whole: bool) -> Value {
    let results: Vec<Value> = sources
        .iter()
        .enumerate()
        .flat_map(|(index, source)| {
            source.diagnostics.iter().map(move |d| result(source, index, d))
        })
        .collect();
    let artifacts: Vec<Value> =
        sources.iter().map(|source| json!({ "location": location(source.uri) })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "symbiont",
                "semanticVersion": version,
                "rules": pages().iter().map(rule).collect::<Vec<_>>(),
            } },
            "invocations": [{ "executionSuccessful": whole }],
            "columnKind": "unicodeCodePoints",
            "artifacts": artifacts,
            "results": results,
        }],
    })
}

fn rule(page: &Page) -> Value {
    json!({
        "id": page.code,
        "shortDescription": { "text": page.title() },
        "fullDescription": { "text": page.body().split("\n\n").next().unwrap_or_default() },
        "help": { "text": page.body(), "markdown": page.body() },
        "defaultConfiguration": { "level": if page.code.starts_with('E') { "error" } else { "warning" } },
    })
}

fn result(source: &Source<'_>, index: usize, diagnostic: &Diagnostic) -> Value {
    let artifact = || {
        let mut location = location(source.uri);
        location["index"] = index.into();
        location
    };
    let mut text = diagnostic.message.clone();
    for more in [&diagnostic.label].into_iter().chain(&diagnostic.notes) {
        if !more.is_empty() {
            text.push('\n');
            text.push_str(more);
        }
    }
    let mut result = json!({
        "ruleId": diagnostic.code,
        "level": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": { "text": text },
        "locations": [{ "physicalLocation": {
            "artifactLocation": artifact(),
            "region": region(source.text, &diagnostic.span),
        } }],
    });
    if let Some(rule) = pages().iter().position(|page| page.code == diagnostic.code) {
        result["ruleIndex"] = rule.into();
    }
    if let Some(fix) = &diagnostic.fix {
        result["fixes"] = json!([{
            "description": { "text": fix.message },
            "artifactChanges": [{
                "artifactLocation": artifact(),
                "replacements": [{
                    "deletedRegion": region(source.text, &fix.span),
                    "insertedContent": { "text": fix.replacement },
                }],
            }],
        }]);
    }
    result
}

fn location(uri: &str) -> Value {
    // An absolute URI begins with its scheme; in a relative one no `:` is left unescaped.
    match uri.contains(':') {
        true => json!({ "uri": uri }),
        false => json!({ "uri": uri, "uriBaseId": "%SRCROOT%" }),
    }
}

fn region(text: &str, span: &Span) -> Value {
    let span = within(span, text);
    let (start_line, start_column) = line_and_column(text, span.start);
    let (end_line, end_column) = line_and_column(text, span.end);
    json!({
        "startLine": start_line,
        "startColumn": start_column,
        "endLine": end_line,
        "endColumn": end_column,
    })
}
