//! What may be written at a place of a document.
//!
//! The text is read again with a word put in at the place: around a word the parser makes the tree
//! that it would make of the finished text, however unfinished this one is.

use symbiont_dsl::hir::Span;
use symbiont_dsl::syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use super::layout::{span, token_at};
use super::role::{Role, role};
use super::words::{self, Keys};
use crate::document::Document;

/// The word that is put in. No word of the language is like it, so that it is taken for none.
const WORD: &str = "zzzzzzzzzzzz";

/// What may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A declaration.
    Declaration,
    /// An item of an agent.
    Item,
    /// An event, behind `on`.
    Event,
    /// `policy` and a name, behind `use`; or the name alone.
    Policy { whole: bool },
    /// A name of what an agent may do.
    Capability,
    /// A verb of a rule.
    Verb,
    /// What a rule speaks of; what stands before the dot, if there is one.
    Operation { before: String },
    /// A key of a block.
    Key { block: &'static str, node: SyntaxKind },
    /// The value of a key of a block.
    Value { block: &'static str, node: SyntaxKind, key: String },
    /// The name of an agent.
    Agent,
    /// A type.
    Type,
    /// The kind of error that a `catch` takes.
    ErrorKind,
    /// A pattern.
    Pattern,
    /// What is behind a dot, and where what is before it stands.
    Member { receiver: Span },
    /// A key in a record of options of a call, or in a record of this type.
    Field { of: Option<String>, call: Option<String> },
    /// An expression; perhaps a statement, perhaps an argument of a call.
    Expression { statement: bool, call: Option<Called> },
}

/// The call in whose parentheses a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// What is called, as it is written.
    pub(super) name: String,
    /// Where that stands.
    pub(super) span: Span,
    /// Where the last word of it stands.
    pub(super) last: Span,
    /// The names of the arguments that are given by name.
    pub(super) named: Vec<String>,
    /// How many arguments are before the place.
    pub(super) position: usize,
    /// How many of those are given by position.
    pub(super) positional: usize,
    /// The name of the argument at the place, if it has one.
    pub(super) at: Option<String>,
}

/// A place, and the text around it.
pub(super) struct Context {
    /// What may be written.
    pub(super) place: Place,
    /// What of the text is replaced.
    pub(super) replaced: Span,
    /// The document with the word put in.
    pub(super) document: Document,
    /// The place in it.
    pub(super) offset: usize,
}

/// What may be written at a place; `None` where nothing can be known.
pub(super) fn context(document: &Document, offset: usize) -> Option<Context> {
    let source = document.source();
    let mut text = String::with_capacity(source.len() + WORD.len());
    text.push_str(&source[..offset]);
    text.push_str(WORD);
    text.push_str(&source[offset..]);
    let text = crate::text::Text::new(text, document.text.encoding());
    let patched = Document::with(document.uri.clone(), document.version, text);
    let word = token_at(patched.tree(), offset + 1)?;
    let found = span(word.text_range());
    // In a comment, a number or a long text the word became a part of that.
    let (place, inside) = match word.kind() {
        SyntaxKind::Name => (place(&word)?, found),
        SyntaxKind::String => (in_text(&word)?, found.start + 1..found.end - 1),
        _ => return None,
    };
    let replaced = inside.start..inside.end - WORD.len();
    Some(Context { place, replaced, document: patched, offset: inside.start })
}

/// What may be written inside a text.
fn in_text(token: &SyntaxToken) -> Option<Place> {
    let literal = token.parent()?;
    let outer = literal.parent()?;
    match outer.kind() {
        SyntaxKind::Entry => value(&outer),
        SyntaxKind::ArrayExpression if outer.parent()?.kind() == SyntaxKind::Capabilities => {
            Some(Place::Capability)
        }
        SyntaxKind::Capabilities => Some(Place::Capability),
        SyntaxKind::Rule => Some(Place::Operation { before: String::new() }),
        SyntaxKind::Argument => {
            let call = called(&outer)?;
            let slot = match call.name.as_str() {
                "spawn" | "delegate" | "schedule" => "agent",
                "send" | "ask" => "to",
                _ => return None,
            };
            let here = match &call.at {
                Some(name) => name == slot,
                None => call.position == 0,
            };
            here.then_some(Place::Agent)
        }
        _ => None,
    }
}

fn place(word: &SyntaxToken) -> Option<Place> {
    use SyntaxKind::*;
    let parent = word.parent()?;
    match role(word) {
        Role::Type if parent.kind() == NamedType => return Some(Place::Type),
        Role::Type if parent.kind() == Catch => return Some(Place::ErrorKind),
        Role::Event => return Some(Place::Event),
        Role::Policy => return Some(Place::Policy { whole: false }),
        Role::Declared => return None,
        Role::Key | Role::Member { .. } | Role::Used | Role::Argument => {}
        Role::Type | Role::Keyword | Role::Constant | Role::Bound | Role::Unread => {}
    }
    match parent.kind() {
        NameExpression => expression(&parent),
        MemberExpression => {
            let receiver = span(parent.first_child()?.text_range());
            let before = parent.first_child()?.text().to_string();
            match enclosing(&parent) {
                Some(Place::Operation { .. }) => Some(Place::Operation { before }),
                Some(Place::Capability) => Some(Place::Operation { before }),
                _ => Some(Place::Member { receiver }),
            }
        }
        RecordExpression => Some(Place::Type),
        Entry => key(&parent),
        Field => field(&parent),
        Pattern => Some(Place::Pattern),
        Catch => Some(Place::ErrorKind),
        // `use` and a word that is not `policy`.
        Use => Some(Place::Policy { whole: true }),
        Rule => Some(Place::Verb),
        InnerBlock => key(&parent),
        Argument => expression(&parent),
        Error => match parent.parent()?.kind() {
            Root => Some(Place::Declaration),
            Agent => Some(Place::Item),
            Policy => Some(Place::Verb),
            Block => Some(Place::Expression { statement: true, call: None }),
            With | Metadata | Schedule | Channel | Memory | Webhook => key(&parent),
            _ => None,
        },
        Root => Some(Place::Declaration),
        _ => None,
    }
}

/// What an expression may be that stands here.
fn expression(node: &SyntaxNode) -> Option<Place> {
    if let Some(place) = enclosing(node) {
        return Some(place);
    }
    let outer = node.parent()?;
    // The first word of a statement, whatever follows it.
    let start = node.text_range().start();
    let beginning = node.ancestors().take_while(|it| it.text_range().start() == start);
    let statement = beginning.into_iter().any(|it| it.kind() == SyntaxKind::ExpressionStatement);
    let argument = if node.kind() == SyntaxKind::Argument { Some(node) } else { Some(&outer) };
    let call = argument.filter(|it| it.kind() == SyntaxKind::Argument).and_then(called);
    Some(Place::Expression { statement, call })
}

/// The places in which a name is no expression though it is read as one.
fn enclosing(node: &SyntaxNode) -> Option<Place> {
    use SyntaxKind::*;
    let outer = node.parent()?;
    match outer.kind() {
        Entry => value(&outer),
        Capabilities => Some(Place::Capability),
        Rule => {
            let start = node.text_range().start();
            let names = outer.children_with_tokens().filter_map(|it| it.into_token());
            let condition = names
                .filter(|token| token.kind() == Name && token.text_range().end() <= start)
                .any(|token| token.text() == "if");
            (!condition).then(|| Place::Operation { before: <_>::default() })
        }
        ArrayExpression => match enclosing(&outer) {
            Some(place @ Place::Operation { .. }) => Some(place),
            _ => None,
        },
        _ => None,
    }
}

/// The block of keys that a node is in.
fn block(node: &SyntaxNode) -> Option<&'static Keys> {
    node.ancestors().skip(1).find_map(|outer| match outer.kind() {
        SyntaxKind::InnerBlock => words::keys(&first_name(&outer)?, outer.kind()),
        kind => words::KEYS.iter().find(|keys| keys.node == kind && kind != SyntaxKind::InnerBlock),
    })
}

fn key(node: &SyntaxNode) -> Option<Place> {
    let Keys { block, node, .. } = block(node)?;
    Some(Place::Key { block, node: *node })
}

fn value(entry: &SyntaxNode) -> Option<Place> {
    let key = first_name(entry)?;
    let Keys { block, node, .. } = block(entry)?;
    match key.as_str() {
        "agent" | "default_agent" => Some(Place::Agent),
        _ => Some(Place::Value { block, node: *node, key }),
    }
}

fn first_name(node: &SyntaxNode) -> Option<String> {
    let mut tokens = node.children_with_tokens().filter_map(|it| it.into_token());
    tokens.find(|token| token.kind() == SyntaxKind::Name).map(|token| token.text().to_owned())
}

/// A key of a record: of the options of a call, or of a record with a name.
fn field(field: &SyntaxNode) -> Option<Place> {
    let record = field.parent()?;
    if record.kind() != SyntaxKind::RecordExpression {
        return None;
    }
    let of = first_name(&record);
    let argument = record.parent().filter(|outer| outer.kind() == SyntaxKind::Argument);
    let call = argument.as_ref().and_then(called).map(|called| called.name);
    Some(Place::Field { of, call })
}

/// The call of which a node is an argument.
pub(super) fn called(argument: &SyntaxNode) -> Option<Called> {
    let call = argument.parent().filter(|call| call.kind() == SyntaxKind::CallExpression)?;
    let callee = call.first_child()?;
    let arguments = || call.children().filter(|it| it.kind() == SyntaxKind::Argument);
    let before = || arguments().take_while(|it| it != argument);
    Some(Called {
        name: callee.text().to_string(),
        span: span(callee.text_range()),
        last: span(callee.last_token()?.text_range()),
        named: arguments().filter(|it| it != argument).filter_map(|it| named(&it)).collect(),
        position: before().count(),
        positional: before().filter(|it| named(it).is_none()).count(),
        at: named(argument),
    })
}

/// The name of an argument, if it is given by name.
fn named(argument: &SyntaxNode) -> Option<String> {
    let first = argument.first_token()?;
    (first.kind() == SyntaxKind::Name && first.parent().as_ref() == Some(argument))
        .then(|| first.text().to_owned())
}
