//! The shape of a document: its symbols, what can be folded, what encloses what, and its layout.

use lsp_types::{
    DocumentSymbol, DocumentSymbolResponse, FoldingRange, FoldingRangeKind, Location, Position,
    SelectionRange, SymbolInformation, SymbolKind, TextEdit,
};

use symbiont_dsl::hir::Span;
use symbiont_dsl::syntax::{SyntaxKind, SyntaxNode};

use super::Client;
use super::role::declared;
use crate::document::Document;

/// The span of a node or a token.
pub(super) fn span(range: rowan::TextRange) -> Span {
    range.start().into()..range.end().into()
}

// Symbols.

/// What the document declares.
pub fn symbols(document: &Document, client: &Client) -> DocumentSymbolResponse {
    let nested = within(document, document.tree());
    if client.nested_symbols {
        return DocumentSymbolResponse::Nested(nested);
    }
    let mut flat = Vec::new();
    flatten(document, nested, None, &mut flat);
    DocumentSymbolResponse::Flat(flat)
}

/// Declarations stand in the file, in agents and in blocks of settings, and nowhere else.
fn within(document: &Document, node: &SyntaxNode) -> Vec<DocumentSymbol> {
    node.children().filter_map(|child| symbol(document, &child)).collect()
}

fn symbol(document: &Document, node: &SyntaxNode) -> Option<DocumentSymbol> {
    use SyntaxKind::*;
    let (kind, word) = match node.kind() {
        Metadata => (SymbolKind::NAMESPACE, "metadata"),
        Agent => (SymbolKind::CLASS, "agent"),
        Policy => (SymbolKind::INTERFACE, "policy"),
        TypeDeclaration => (SymbolKind::STRUCT, "type"),
        Function => (SymbolKind::FUNCTION, "function"),
        Schedule => (SymbolKind::EVENT, "schedule"),
        Channel => (SymbolKind::MODULE, "channel"),
        Memory => (SymbolKind::OBJECT, "memory"),
        Webhook => (SymbolKind::EVENT, "webhook"),
        Handler => (SymbolKind::EVENT, "on"),
        With => (SymbolKind::CONSTRUCTOR, "with"),
        _ => return None,
    };
    let whole = span(node.text_range());
    let (name, selected) = match (node.kind(), declared(node)) {
        (Handler, Some(event)) => (format!("on {}", event.text()), span(event.text_range())),
        (Metadata | With, _) | (_, None) => {
            (word.to_owned(), whole.start..whole.start + word.len())
        }
        (_, Some(name)) => (name.text().to_owned(), span(name.text_range())),
    };
    let children = match node.kind() {
        Agent | Channel => within(document, node),
        _ => Vec::new(),
    };
    #[expect(deprecated, reason = "the protocol's struct has the field; it is left empty")]
    Some(DocumentSymbol {
        name,
        detail: Some(word.to_owned()),
        kind,
        tags: None,
        deprecated: None,
        range: document.text.range(&whole),
        selection_range: document.text.range(&selected),
        children: (!children.is_empty()).then_some(children),
    })
}

/// For clients that show no symbols inside symbols.
fn flatten(
    document: &Document,
    symbols: Vec<DocumentSymbol>,
    container: Option<&str>,
    flat: &mut Vec<SymbolInformation>,
) {
    for symbol in symbols {
        #[expect(deprecated, reason = "the protocol's struct has the field; it is left empty")]
        flat.push(SymbolInformation {
            name: symbol.name.clone(),
            kind: symbol.kind,
            tags: None,
            deprecated: None,
            location: Location { uri: document.uri.clone(), range: symbol.range },
            container_name: container.map(str::to_owned),
        });
        flatten(document, symbol.children.unwrap_or_default(), Some(&symbol.name), flat);
    }
}

// Folding.

/// What can be folded: brackets, comments and texts over several lines.
pub fn folding(document: &Document) -> Vec<FoldingRange> {
    use SyntaxKind::{
        BlockComment, LeftBrace, LeftBracket, LeftParen, LineComment, LongString, RightBrace,
        RightBracket, RightParen, Whitespace,
    };
    let line = |offset: usize| document.text.position(offset).line;
    let mut folds: Vec<FoldingRange> = Vec::new();
    let mut fold = |start: u32, end: u32, kind: Option<FoldingRangeKind>| {
        if end > start {
            let (start_line, end_line) = (start, end);
            folds.push(FoldingRange { start_line, end_line, kind, ..FoldingRange::default() });
        }
    };
    let mut open: Vec<u32> = Vec::new();
    // The lines of the line comments that follow one another.
    let mut comments: Option<(u32, u32)> = None;
    let tokens = document.tree().descendants_with_tokens().filter_map(|it| it.into_token());
    for token in tokens.filter(|token| token.kind() != Whitespace) {
        let Span { start, end } = span(token.text_range());
        let first = line(start);
        let comment = token.kind() == LineComment;
        match &mut comments {
            Some((_, last)) if comment && first == *last + 1 => *last = first,
            _ => {
                if let Some((from, to)) = comments.take() {
                    fold(from, to, Some(FoldingRangeKind::Comment));
                }
                comments = comment.then_some((first, first));
            }
        }
        match token.kind() {
            BlockComment => fold(first, line(end), Some(FoldingRangeKind::Comment)),
            LongString => fold(first, line(end), None),
            LeftBrace | LeftBracket | LeftParen => open.push(first),
            // The line of the closing bracket stays in sight.
            RightBrace | RightBracket | RightParen => {
                if let Some(from) = open.pop() {
                    fold(from, first.saturating_sub(1), None);
                }
            }
            _ => {}
        }
    }
    if let Some((from, to)) = comments {
        fold(from, to, Some(FoldingRangeKind::Comment));
    }
    // Of two that begin on one line the client shows one: the longer.
    folds.sort_by_key(|fold| (fold.start_line, std::cmp::Reverse(fold.end_line)));
    folds.dedup_by_key(|fold| fold.start_line);
    folds
}

// Selection.

/// What encloses each place, from the inside out.
pub fn selection(document: &Document, positions: &[Position]) -> Vec<SelectionRange> {
    positions.iter().map(|position| enclosing(document, *position)).collect()
}

fn enclosing(document: &Document, position: Position) -> SelectionRange {
    let offset = document.text.offset(position);
    let token = token_at(document.tree(), offset);
    let own = token.as_ref().map(|token| span(token.text_range()));
    let nodes = token.iter().flat_map(|token| token.parent_ancestors());
    let mut spans: Vec<Span> =
        own.into_iter().chain(nodes.map(|it| span(it.text_range()))).collect();
    spans.dedup();
    let mut outer = None;
    for span in spans.iter().rev() {
        let range = document.text.range(span);
        outer = Some(SelectionRange { range, parent: outer.map(Box::new) });
    }
    let here = lsp_types::Range { start: position, end: position };
    outer.unwrap_or(SelectionRange { range: here, parent: None })
}

/// The token at a place; of two that meet there the one that says more.
pub(super) fn token_at(
    tree: &SyntaxNode,
    offset: usize,
) -> Option<symbiont_dsl::syntax::SyntaxToken> {
    let offset = u32::try_from(offset).ok()?;
    if offset > u32::from(tree.text_range().end()) {
        return None;
    }
    let weight = |token: &symbiont_dsl::syntax::SyntaxToken| match token.kind() {
        SyntaxKind::Whitespace => 0,
        SyntaxKind::Name | SyntaxKind::Secret => 3,
        SyntaxKind::String | SyntaxKind::LongString | SyntaxKind::Quantity => 2,
        _ => 1,
    };
    tree.token_at_offset(offset.into()).max_by_key(weight)
}

// Layout.

/// The changes that give the document its layout; `None` where it can't be read without errors.
pub fn formatting(document: &Document) -> Option<Vec<TextEdit>> {
    let edits = symbiont_dsl::format::edits(document.source()).ok()?;
    let told = |(span, new_text)| TextEdit { range: document.text.range(&span), new_text };
    Some(edits.into_iter().map(told).collect())
}
