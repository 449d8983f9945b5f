//! What is known of the word at a place.

use std::collections::HashSet;

use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};
use symbiont_dsl::analysis::{Meaning, Place, Symbol, SymbolKind};
use symbiont_dsl::diagnostic::codes;
use symbiont_dsl::docs::{self, Kind};
use symbiont_dsl::hir::{Span, TypeKind};
use symbiont_dsl::syntax::{SyntaxKind, SyntaxToken};

use super::layout::{span, token_at};
use super::role::{Role, role};
use super::signature::{declaration, functions};
use super::words::{KEYS, key_docs};
use crate::document::Document;

/// How much of a declaration is shown.
const MOST_SHOWN: usize = 2000;

/// What is known of the word at a place, and what is wrong there.
pub fn hover(document: &Document, offset: usize) -> Option<Hover> {
    let token = token_at(document.tree(), offset);
    let word = token.and_then(|token| {
        let value = said(document, &token, offset)?;
        Some((value, span(token.text_range())))
    });
    let wrong = wrong(document, offset);
    let here = wrong.as_ref().or(word.as_ref()).map(|(_, here)| here.clone())?;
    let parts = word.into_iter().chain(wrong).map(|(value, _)| value);
    let value = parts.collect::<Vec<_>>().join("\n\n---\n\n");
    Some(Hover {
        contents: HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value }),
        range: Some(document.text.range(&here)),
    })
}

/// The page of what is wrong at a place: of several faults, of the one that is told of the least.
fn wrong(document: &Document, offset: usize) -> Option<(String, Span)> {
    let here = document.diagnostics().iter();
    let here = here.filter(|found| found.span.start <= offset && offset <= found.span.end);
    let found = here.min_by_key(|found| found.span.len())?;
    let page = codes::page(found.code)?;
    let value = format!("**{}**: {}\n\n{}", page.code, page.title(), clipped(page.body()));
    Some((value, found.span.clone()))
}

/// What is said of a word.
fn said(document: &Document, token: &SyntaxToken, offset: usize) -> Option<String> {
    let here = span(token.text_range());
    let names = document.names();
    let keyword = |word: &str| Some(docs::find(Kind::Keyword, word)?.text.to_owned());
    match token.kind() {
        SyntaxKind::Secret => return keyword("vault"),
        SyntaxKind::Name | SyntaxKind::String => {}
        SyntaxKind::Int | SyntaxKind::Float | SyntaxKind::Quantity => {
            return names.analysis.type_at(here.start).map(|ty| code(&ty));
        }
        _ => return None,
    }
    let touches = |place: &&Place| place.span.start < here.end && here.start < place.span.end;
    if let Some(place) = names.analysis.place_at(offset).filter(touches) {
        let word = document.source().get(place.span.clone())?;
        match place.meaning {
            Meaning::Symbol(id) => return Some(of_symbol(document, &names.analysis.symbols()[id])),
            Meaning::Builtin => return Some(docs::find(Kind::Builtin, word)?.text.to_owned()),
            Meaning::HostCall => return Some(docs::find(Kind::Call, word)?.text.to_owned()),
            Meaning::Namespace => return namespace(word),
            Meaning::Ambient => {
                return Some(format!(
                    "`{word}`\n\nFilled by the runtime; `null` where it has nothing to put there."
                ));
            }
            Meaning::Any => return Some("`any`\n\nWhatever there is.".to_owned()),
            Meaning::Tool => {
                return Some(format!(
                    "`{word}`\n\nA tool of that name, if the runtime knows one; else `ToolNotFound`."
                ));
            }
            Meaning::OpaqueType => {
                return Some(format!("{}\n\nNobody defined this type: anything fits.", code(word)));
            }
            Meaning::KnownType => return Some(code(word)),
            Meaning::Undefined => {}
        }
    }
    match role(token) {
        Role::Keyword | Role::Constant => keyword(token.text()),
        Role::Key => {
            let field = || {
                let member = names.analysis.member_at(here.start)?;
                Some(code(&format!("{}: {}", member.name, member.detail)))
            };
            of_key(token)
                .or_else(field)
                .or_else(|| names.analysis.type_at(here.start).map(|ty| code(&ty)))
        }
        Role::Member { .. } => of_member(document, token),
        _ => names.analysis.type_at(here.start).map(|ty| code(&ty)),
    }
}

fn code(text: &str) -> String {
    format!("```symbi\n{text}\n```")
}

fn namespace(word: &str) -> Option<String> {
    let prefix = format!("{word}.");
    let pages = docs::all().iter();
    let calls = pages.filter(|page| page.kind == Kind::Call && page.name.starts_with(&prefix));
    let list: Vec<String> = calls.map(|page| format!("- {}", page.signatures())).collect();
    (!list.is_empty())
        .then(|| format!("`{word}`: calls that reach the host\n\n{}", list.join("\n")))
}

/// How something of the file is declared, what its type is, and what its comment says.
fn of_symbol(document: &Document, symbol: &Symbol) -> String {
    let names = document.names();
    let ty = || names.analysis.type_at(symbol.span.start);
    let typed = |word: &str| match ty() {
        Some(ty) => format!("{word}{}: {ty}", symbol.name),
        None => format!("{word}{}", symbol.name),
    };
    let shown = match symbol.kind {
        SymbolKind::Function => functions(&names.program)
            .find(|function| function.name.span == symbol.span)
            .map_or_else(
                || format!("function {}", symbol.name),
                |function| format!("function {}", declaration(document, function)),
            ),
        SymbolKind::Agent => {
            names.program.agents.iter().find(|agent| agent.name.span == symbol.span).map_or_else(
                || format!("agent {}", symbol.name),
                |agent| {
                    let text = &document.source()[agent.span.clone()];
                    head(text)
                },
            )
        }
        SymbolKind::Type => {
            let types = &names.program.types;
            types.iter().find(|ty| ty.name.span == symbol.span).map_or_else(
                || format!("type {}", symbol.name),
                |ty| {
                    let text = document.source().get(ty.ty.span.clone()).unwrap_or_default();
                    format!("type {} = {}", symbol.name, clipped(text))
                },
            )
        }
        SymbolKind::Parameter => typed("(parameter) "),
        SymbolKind::Variable => typed("let "),
        SymbolKind::Part => format!("(argument of the call) {}", symbol.name),
        SymbolKind::Policy => format!("policy {}", symbol.name),
        SymbolKind::Memory => format!("memory {}", symbol.name),
        SymbolKind::Channel => format!("channel {}", symbol.name),
        SymbolKind::Schedule => format!("schedule {}", symbol.name),
        SymbolKind::Webhook => format!("webhook {}", symbol.name),
    };
    match comment(document, symbol.span.start) {
        Some(comment) => format!("{}\n\n{comment}", code(&shown)),
        None => code(&shown),
    }
}

/// What an agent's declaration says before its items.
fn head(text: &str) -> String {
    let mut depth = 0usize;
    let end = text.char_indices().find(|(_, char)| {
        match char {
            '(' | '<' => depth += 1,
            ')' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        *char == '{' && depth == 0
    });
    let text = end.map_or(text, |(at, _)| &text[..at]);
    clipped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The comments right above a declaration, and at the end of the line above nothing else.
pub(super) fn comment(document: &Document, name: usize) -> Option<String> {
    let token = token_at(document.tree(), name)?;
    let declaration = token.parent()?;
    let mut lines = Vec::new();
    let mut newlines = 0;
    let mut before = declaration.first_token()?.prev_token();
    while let Some(token) = before {
        match token.kind() {
            SyntaxKind::Whitespace => {
                newlines = token.text().matches('\n').count();
                if newlines > 1 {
                    break;
                }
            }
            SyntaxKind::LineComment | SyntaxKind::BlockComment if newlines == 1 => {
                // A comment behind something on its line speaks of that.
                let alone = token.prev_token().is_none_or(|before| {
                    before.kind() == SyntaxKind::Whitespace
                        && (before.text().contains('\n') || before.prev_token().is_none())
                });
                if !alone {
                    break;
                }
                lines.push(uncommented(token.text()));
                newlines = 0;
            }
            _ => break,
        }
        before = token.prev_token();
    }
    lines.reverse();
    let text = lines.join("\n");
    (!text.trim().is_empty()).then(|| clipped(text.trim()))
}

fn uncommented(text: &str) -> String {
    if let Some(inner) = text.strip_prefix("/*") {
        let inner = inner.strip_suffix("*/").unwrap_or(inner);
        let lines = inner.lines().map(|line| line.trim().trim_start_matches('*').trim());
        return lines.collect::<Vec<_>>().join("\n");
    }
    text.trim_start_matches(['/', '#']).trim().to_owned()
}

fn of_key(token: &SyntaxToken) -> Option<String> {
    let nodes = token.parent_ancestors().skip(1);
    let found = nodes.filter_map(|node| {
        let keys = KEYS.iter().find(|keys| keys.node == node.kind())?;
        let text = key_docs(keys.block, token.text())?;
        Some(format!("`{}`, of `{}`\n\n{text}", token.text(), keys.block))
    });
    found.take(1).next()
}

/// A method, or a field of a record.
/// The end of the expression whose member a name is.
fn owner(name: &SyntaxToken) -> Option<usize> {
    let Role::Member { .. } = role(name) else { return None };
    Some(span(name.parent()?.first_child()?.text_range()).end)
}

fn of_member(document: &Document, token: &SyntaxToken) -> Option<String> {
    let end = owner(token)?;
    let name = token.text();
    let member = document.names().analysis.member_at(span(token.text_range()).start);
    if let Some(member) = member.filter(|member| !member.is_method) {
        return Some(code(&format!("{name}: {}", member.detail)));
    }
    match (receiver(document, end).and_then(|kind| docs::method(kind, name)), member) {
        (Some(page), _) => Some(page.text.to_owned()),
        (None, Some(method)) => Some(code(&method.detail)),
        // Of whichever type it is.
        (None, None) => {
            let pages = docs::named(name).filter(|page| page.kind == Kind::Method);
            let signatures: Vec<&str> = pages.map(docs::Page::signatures).collect();
            (!signatures.is_empty()).then(|| signatures.join("\n\n"))
        }
    }
}

/// Whose methods the expression has that ends at a place, as the reference names it: those whose
/// pages are all among its members, and of several the most. `None` where that is not known.
pub(super) fn receiver(document: &Document, end: usize) -> Option<&'static str> {
    const KINDS: &[&str] = &[
        "string", "array", "map", "number", "duration", "size", "bytes", "time", "option",
        "result", "error", "any",
    ];
    let members = document.names().analysis.members_at(end);
    let known: HashSet<&str> =
        members.iter().filter(|it| it.is_method).map(|it| it.name.as_str()).collect();
    let fits = |kind: &&&str| docs::methods(kind).all(|page| known.contains(page.name));
    let kinds = KINDS.iter().filter(|_| !known.is_empty()).filter(fits);
    kinds.copied().max_by_key(|kind| docs::methods(kind).count())
}

/// The fields of a record type that is declared in the file, with their types as written.
pub(super) fn fields(document: &Document, name: &str) -> Option<Vec<(String, String)>> {
    let program = &document.names().program;
    let mut name = name;
    // An alias of an alias of a record; a ring of aliases has an end here.
    for _ in 0..16 {
        let declared = program.types.iter().find(|ty| ty.name.node == name)?;
        match &declared.ty.kind {
            TypeKind::Named(next, _) => name = next,
            TypeKind::Record(fields) => {
                let written = |span: &Span| document.source().get(span.clone()).unwrap_or_default();
                let told =
                    fields.iter().map(|(key, ty)| (key.node.clone(), written(&ty.span).to_owned()));
                return Some(told.collect());
            }
        }
    }
    None
}
