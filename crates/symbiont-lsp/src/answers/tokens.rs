//! What each piece of the text is, for colouring it.

use lsp_types::{
    SemanticToken, SemanticTokenModifier, SemanticTokenType, SemanticTokens, SemanticTokensDelta,
    SemanticTokensEdit, SemanticTokensFullDeltaResult, SemanticTokensLegend,
};
use symbiont_dsl::analysis::{Meaning, Role as Use, SymbolKind};
use symbiont_dsl::hir::Span;
use symbiont_dsl::syntax::{SyntaxKind, SyntaxToken};

use super::layout::span;
use super::role::{Role, role};
use crate::document::Document;
use crate::text::{Text, number};

macro_rules! legend {
    ($name:ident $type:ty: $($variant:ident)*) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[expect(clippy::upper_case_acronyms, non_camel_case_types, reason = "the protocol's names")]
        #[repr(u8)]
        enum $name { $($variant),* }

        impl $name {
            fn all() -> Vec<$type> {
                vec![$(<$type>::$variant),*]
            }
        }
    };
}

legend! { Colour SemanticTokenType:
    COMMENT STRING NUMBER KEYWORD OPERATOR TYPE CLASS INTERFACE EVENT NAMESPACE FUNCTION METHOD
    VARIABLE PARAMETER PROPERTY ENUM_MEMBER
}

legend! { Shade SemanticTokenModifier:
    DECLARATION MODIFICATION DEFAULT_LIBRARY ASYNC
}

/// The colours, by their numbers.
pub(super) fn legend() -> SemanticTokensLegend {
    SemanticTokensLegend { token_types: Colour::all(), token_modifiers: Shade::all() }
}

/// The colours of a document or of a part of it, as the protocol counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens(Vec<SemanticToken>);

impl Tokens {
    /// For whoever will not ask for changes.
    pub fn plain(self) -> SemanticTokens {
        SemanticTokens { result_id: None, data: self.0 }
    }

    /// Under a number, so that the client can ask what has changed since.
    pub fn told(&self, id: u64) -> SemanticTokens {
        SemanticTokens { result_id: Some(id.to_string()), data: self.0.clone() }
    }

    /// What makes these of others: what is between the same beginning and the same end.
    pub fn since(&self, before: &Tokens, id: u64) -> SemanticTokensFullDeltaResult {
        let (old, new) = (&before.0, &self.0);
        let front = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[front..], &new[front..]);
        let back =
            old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[..old.len() - back], &new[..new.len() - back]);
        let edit = SemanticTokensEdit {
            start: number(front * 5),
            delete_count: number(old.len() * 5),
            data: Some(new.to_vec()),
        };
        let nothing = old.is_empty() && new.is_empty();
        let edits = if nothing { Vec::new() } else { vec![edit] };
        SemanticTokensDelta { result_id: Some(id.to_string()), edits }.into()
    }
}

/// The colours of a document, or of the part of it that the client sees.
pub fn tokens(document: &Document, within: Option<Span>) -> Tokens {
    let mut out = Out { text: &document.text, told: Vec::new(), line: 0, character: 0 };
    let all = document.tree().descendants_with_tokens().filter_map(|it| it.into_token());
    for token in all {
        let span = span(token.text_range());
        if within
            .as_ref()
            .is_some_and(|within| span.end <= within.start || span.start >= within.end)
        {
            continue;
        }
        if let Some((colour, shades)) = coloured(document, &token, &span) {
            out.push(&span, token.text(), colour, shades);
        }
    }
    Tokens(out.told)
}

struct Out<'a> {
    text: &'a Text,
    told: Vec<SemanticToken>,
    line: u32,
    character: u32,
}

impl Out<'_> {
    /// A token of several lines is told line by line: not every client knows those of several.
    fn push(&mut self, span: &Span, text: &str, colour: Colour, shades: u32) {
        let mut start = span.start;
        for line in text.split_inclusive(['\n', '\r']) {
            let shown = line.trim_end_matches(['\n', '\r']).len();
            if shown > 0 {
                self.one(&(start..start + shown), colour, shades);
            }
            start += line.len();
        }
    }

    fn one(&mut self, span: &Span, colour: Colour, shades: u32) {
        let place = self.text.position(span.start);
        let delta_line = place.line - self.line;
        let before = if delta_line == 0 { self.character } else { 0 };
        self.told.push(SemanticToken {
            delta_line,
            delta_start: place.character - before,
            length: self.text.length(span),
            token_type: colour as u32,
            token_modifiers_bitset: shades,
        });
        (self.line, self.character) = (place.line, place.character);
    }
}

fn coloured(document: &Document, token: &SyntaxToken, span: &Span) -> Option<(Colour, u32)> {
    use SyntaxKind::*;
    let plain = |colour| Some((colour, 0));
    match token.kind() {
        LineComment | BlockComment => plain(Colour::COMMENT),
        String | LongString | Secret => plain(Colour::STRING),
        Int | Float | Quantity => plain(Colour::NUMBER),
        Name => name(document, token, span),
        Whitespace | Unknown | LeftParen | RightParen | LeftBrace | RightBrace | LeftBracket
        | RightBracket | Comma | Semicolon | Colon | Dot => None,
        _ => plain(Colour::OPERATOR),
    }
}

fn name(document: &Document, token: &SyntaxToken, span: &Span) -> Option<(Colour, u32)> {
    let shade = |shades: &[Shade]| shades.iter().map(|shade| 1 << *shade as u32).sum::<u32>();
    let library = shade(&[Shade::DEFAULT_LIBRARY]);
    let (plain, host) = (0, shade(&[Shade::DEFAULT_LIBRARY, Shade::ASYNC]));
    let role = role(token);
    let fixed = match role {
        Role::Keyword => (Colour::KEYWORD, plain),
        Role::Constant => (Colour::ENUM_MEMBER, library),
        Role::Event => (Colour::EVENT, library),
        Role::Unread => return None,
        Role::Argument => (Colour::PARAMETER, plain),
        Role::Key | Role::Member { called: false } => (Colour::PROPERTY, plain),
        Role::Member { called: true } => (Colour::METHOD, plain),
        Role::Type => (Colour::TYPE, plain),
        Role::Policy => (Colour::INTERFACE, plain),
        Role::Declared | Role::Bound | Role::Used => (Colour::VARIABLE, plain),
    };
    let analysis = &document.names().analysis;
    let Some(found) = analysis.place_at(span.start) else {
        // A value of `with` or of a block that is a word: `tier1`.
        let value = role == Role::Used && in_entry(token);
        return Some(if value { (Colour::ENUM_MEMBER, plain) } else { fixed });
    };
    if matches!(role, Role::Keyword | Role::Constant | Role::Argument) {
        return Some(fixed);
    }
    let how = match found.role {
        Use::Definition => shade(&[Shade::DECLARATION]),
        Use::Read => plain,
        Use::Write | Use::Update => shade(&[Shade::MODIFICATION]),
    };
    Some(match found.meaning {
        Meaning::Symbol(id) => match analysis.symbols()[id].kind {
            SymbolKind::Agent => (Colour::CLASS, how),
            SymbolKind::Function => (Colour::FUNCTION, how),
            SymbolKind::Parameter | SymbolKind::Part => (Colour::PARAMETER, how),
            SymbolKind::Variable => (Colour::VARIABLE, how),
            SymbolKind::Type => (Colour::TYPE, how),
            SymbolKind::Policy => (Colour::INTERFACE, how),
            SymbolKind::Memory => (Colour::NAMESPACE, how),
            SymbolKind::Channel | SymbolKind::Schedule | SymbolKind::Webhook => {
                (Colour::EVENT, how)
            }
        },
        Meaning::Builtin => (Colour::FUNCTION, library),
        // The place of `fs.read` is both of its words.
        Meaning::HostCall if found.span.end > span.end => (Colour::NAMESPACE, library),
        Meaning::HostCall => (Colour::FUNCTION, host),
        Meaning::Namespace => (Colour::NAMESPACE, library),
        Meaning::Ambient | Meaning::Any => (Colour::VARIABLE, library),
        Meaning::KnownType => (Colour::TYPE, library),
        Meaning::OpaqueType => (Colour::TYPE, plain),
        Meaning::Tool => (Colour::FUNCTION, shade(&[Shade::ASYNC])),
        Meaning::Undefined => fixed,
    })
}

fn in_entry(token: &SyntaxToken) -> bool {
    let expression = token.parent().and_then(|name| name.parent());
    expression.is_some_and(|node| node.kind() == SyntaxKind::Entry)
}
