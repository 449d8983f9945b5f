//! Where a name comes from, where else it stands, and giving it another.

use lsp_types::{
    DocumentHighlight, DocumentHighlightKind, Location, PrepareRenameResponse, TextEdit,
    WorkspaceEdit,
};
use symbiont_dsl::analysis::{Analysis, Meaning, Place, Role, Symbol};
use symbiont_dsl::hir::{Span, Type, TypeKind};
use symbiont_dsl::operations::{BUILTINS, NAMESPACES, is_host_call};
use symbiont_dsl::syntax::{SyntaxKind, parse, tree};

use super::{Client, edit};
use crate::document::Document;

/// Where the name at a place is declared, or the field of a declared type.
pub fn definition(document: &Document, offset: usize) -> Option<Location> {
    let declared = match document.names().analysis.symbol_at(offset) {
        Some(symbol) => symbol.span.clone(),
        None => document.names().analysis.member_at(offset)?.declared.clone()?,
    };
    Some(location(document, &declared))
}

/// Every place where the name is meant that stands at a place.
pub fn references(document: &Document, offset: usize, declared: bool) -> Option<Vec<Location>> {
    let analysis = &document.names().analysis;
    let Some(symbol) = analysis.symbol_at(offset) else {
        let field = field_at(document, offset)?;
        let mut found = analysis.field_references(&field);
        found.extend(declared.then_some(field));
        found.sort_by_key(|span| span.start);
        return Some(found.iter().map(|span| location(document, span)).collect());
    };
    let found = analysis.references(symbol).iter();
    let found = found.filter(|span| declared || **span != symbol.span);
    Some(found.map(|span| location(document, span)).collect())
}

/// Where the field is declared that is named at a place, which may be its declaration.
fn field_at(document: &Document, offset: usize) -> Option<Span> {
    let names = document.names();
    if let Some(member) = names.analysis.member_at(offset) {
        return member.declared.clone();
    }
    let mut types: Vec<&Type> = names.program.types.iter().map(|declared| &declared.ty).collect();
    while let Some(ty) = types.pop() {
        match &ty.kind {
            TypeKind::Named(_, arguments) => types.extend(arguments),
            TypeKind::Record(fields) => {
                let here = |span: &Span| span.start <= offset && offset <= span.end;
                if let Some((key, _)) = fields.iter().find(|(key, _)| here(&key.span)) {
                    return Some(key.span.clone());
                }
                types.extend(fields.iter().map(|(_, ty)| ty));
            }
        }
    }
    None
}

fn location(document: &Document, span: &Span) -> Location {
    Location { uri: document.uri.clone(), range: document.text.range(span) }
}

/// The same, with what is done there. A name that the file does not declare is found by what it
/// means.
pub fn highlight(document: &Document, offset: usize) -> Option<Vec<DocumentHighlight>> {
    let analysis = &document.names().analysis;
    let here = analysis.place_at(offset)?;
    let text = |place: &Place| document.source().get(place.span.clone());
    let same = |place: &&Place| match here.meaning {
        Meaning::Symbol(_) => place.meaning == here.meaning,
        _ => place.meaning == here.meaning && text(place) == text(here),
    };
    let told = |place: &Place| DocumentHighlight {
        range: document.text.range(&place.span),
        kind: Some(match place.role {
            Role::Read => DocumentHighlightKind::READ,
            Role::Definition | Role::Write | Role::Update => DocumentHighlightKind::WRITE,
        }),
    };
    Some(analysis.places().iter().filter(same).map(told).collect())
}

/// What would be renamed, or why it can't be.
pub fn prepare_rename(document: &Document, offset: usize) -> Result<PrepareRenameResponse, String> {
    let (_, span) = renamed(document, offset)?;
    let placeholder = document.source()[span.clone()].to_owned();
    let range = document.text.range(&span);
    Ok(PrepareRenameResponse::RangeWithPlaceholder { range, placeholder })
}

fn renamed(document: &Document, offset: usize) -> Result<(&Symbol, Span), String> {
    let analysis = &document.names().analysis;
    let nothing = || "there is no name here that could be changed".to_owned();
    let place = analysis.place_at(offset).ok_or_else(nothing)?;
    let name = document.source().get(place.span.clone()).unwrap_or_default();
    match place.meaning {
        Meaning::Symbol(id) => Ok((&analysis.symbols()[id], place.span.clone())),
        Meaning::Builtin | Meaning::HostCall | Meaning::Namespace => {
            Err(format!("`{name}` belongs to the language, and keeps its name"))
        }
        Meaning::Ambient | Meaning::Any => Err(format!("the runtime fills `{name}` by that name")),
        Meaning::KnownType => Err(format!("the type `{name}` belongs to the language")),
        Meaning::Tool => Err(format!("`{name}` is a tool, which is declared elsewhere")),
        Meaning::OpaqueType | Meaning::Undefined => {
            Err(format!("nothing in this file declares `{name}`"))
        }
    }
}

/// The changes that give the name at a place another one, or why that can't be.
///
/// What the names of the changed text mean is compared with what they meant: a new name that is
/// taken, hides another or is hidden by one is refused, whatever the rules are that make it so.
pub fn rename(
    document: &Document,
    offset: usize,
    name: &str,
    client: &Client,
) -> Result<WorkspaceEdit, String> {
    let (symbol, _) = renamed(document, offset)?;
    if !is_name(name) {
        return Err(format!("`{}` is no name", short(name)));
    }
    if BUILTINS.contains(&name) || NAMESPACES.contains(&name) || is_host_call(name) {
        return Err(format!("`{name}` belongs to the language"));
    }
    let analysis = &document.names().analysis;
    let spans = places(document, analysis, symbol)?;
    let text = with(document.source(), &spans, name);
    let after = Analysis::of(&text, &parse(&text).program);
    if let Some(place) = first_change(analysis, &after, &spans, name.len()) {
        let at = document.text.position(place);
        return Err(format!(
            "`{name}` would mean something else in line {}, column {}",
            at.line + 1,
            at.character + 1
        ));
    }
    let told =
        |span: &Span| TextEdit { range: document.text.range(span), new_text: name.to_owned() };
    Ok(edit(document, spans.iter().map(told).collect(), client))
}

/// Where a symbol is named, each place holding its name as it is.
fn places(document: &Document, analysis: &Analysis, symbol: &Symbol) -> Result<Vec<Span>, String> {
    let mut spans = analysis.references(symbol).to_vec();
    spans.sort_by_key(|span| span.start);
    spans.dedup();
    // `{ key }` in a pattern names a key and a variable at once.
    let shorthand = spans.iter().any(|span| is_shorthand(document, span));
    if shorthand {
        let words = "`{}` is also the key that a pattern looks for: write `key: name` there first";
        return Err(words.replace("{}", &symbol.name));
    }
    Ok(spans)
}

fn is_shorthand(document: &Document, span: &Span) -> bool {
    let token = super::layout::token_at(document.tree(), span.start + 1);
    let token = token.or_else(|| super::layout::token_at(document.tree(), span.start));
    let parent = token.and_then(|token| token.parent());
    parent.is_some_and(|parent| {
        parent.kind() == SyntaxKind::Field
            && parent.parent().is_some_and(|outer| outer.kind() == SyntaxKind::Pattern)
    })
}

/// The text with another name in some places.
fn with(source: &str, spans: &[Span], name: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut last = 0;
    for span in spans {
        out.push_str(&source[last..span.start]);
        out.push_str(name);
        last = span.end;
    }
    out.push_str(&source[last..]);
    out
}

/// Where a name means something else than it did, once `spans` have been replaced by texts of
/// `length` bytes.
fn first_change(
    before: &Analysis,
    after: &Analysis,
    spans: &[Span],
    length: usize,
) -> Option<usize> {
    let moved = |offset: usize| {
        let earlier = spans.partition_point(|span| span.end <= offset);
        let removed: usize = match spans.first() {
            Some(first) => earlier * first.len(),
            None => 0,
        };
        offset + earlier * length - removed
    };
    let meaning = |analysis: &Analysis, place: &Place| match place.meaning {
        Meaning::Symbol(id) => Ok(analysis.symbols()[id].span.start),
        other => Err(other),
    };
    let (old, new) = (before.places(), after.places());
    let changed = old.iter().zip(new).find(|(old, new)| {
        moved(old.span.start) != new.span.start
            || meaning(before, old).map(moved) != meaning(after, new)
    });
    match changed {
        Some((old, _)) => Some(old.span.start),
        None if old.len() != new.len() => {
            Some(old.get(new.len()).map_or(0, |place| place.span.start))
        }
        None => None,
    }
}

/// Words that are something else than a name wherever an expression may stand.
const RESERVED: &[&str] = &[
    "let", "if", "else", "for", "while", "match", "try", "catch", "return", "break", "continue",
    "in", "not", "true", "false", "null", "None", "Some", "Ok", "Err", "any", "_",
];

/// Whether this can be the name of something.
fn is_name(text: &str) -> bool {
    let tree = tree(text);
    let mut tokens = tree.descendants_with_tokens().filter_map(|it| it.into_token());
    let first = tokens.next().is_some_and(|token| token.kind() == SyntaxKind::Name);
    first && tokens.next().is_none() && !RESERVED.contains(&text)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
