//! What a word is, by where it stands in the tree: which words are keywords depends on that.

use symbiont_dsl::syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

/// What a name is in the place where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A word of the language.
    Keyword,
    /// `Some`, `None`, `Ok`, `Err`, `true`, `false`, `null`
    Constant,
    /// The name of what is declared here.
    Declared,
    /// A parameter or a variable where it is introduced.
    Bound,
    /// A name in an expression.
    Used,
    /// What is behind a dot; whether it is called.
    Member { called: bool },
    /// A type, or a kind of error.
    Type,
    /// The name of an argument.
    Argument,
    /// A key of a record, a block or `with`.
    Key,
    /// An event behind `on`.
    Event,
    /// A policy behind `use policy`.
    Policy,
    /// Nothing that could be read.
    Unread,
}

/// What a name is.
pub(super) fn role(name: &SyntaxToken) -> Role {
    use SyntaxKind::*;
    let Some(parent) = name.parent() else { return Role::Unread };
    let index = || index(name, &parent);
    let text = name.text();
    match parent.kind() {
        NameExpression => Role::Used,
        RecordExpression | NamedType => Role::Type,
        LiteralExpression | WrapExpression => Role::Constant,
        UnaryExpression | BinaryExpression | IfExpression | MatchExpression => Role::Keyword,
        MemberExpression => {
            let called = parent.parent().is_some_and(|outer| {
                outer.kind() == CallExpression && outer.first_child().as_ref() == Some(&parent)
            });
            Role::Member { called }
        }
        Argument => Role::Argument,
        Field | FieldType | Entry => Role::Key,
        InnerBlock if index() == 0 => Role::Key,
        Parameter | LambdaExpression => Role::Bound,
        Pattern => match text {
            "Some" | "None" | "Ok" | "Err" | "true" | "false" | "null" => Role::Constant,
            _ => Role::Bound,
        },
        Agent | Policy | TypeDeclaration | Function | Schedule | Channel | Memory | Webhook
            if index() == 1 =>
        {
            Role::Declared
        }
        Handler if index() == 1 => Role::Event,
        Use if index() == 2 => Role::Policy,
        Let | For if index() == 1 => Role::Bound,
        Catch => match index() {
            0 => Role::Keyword,
            _ if text.starts_with(char::is_uppercase) => Role::Type,
            _ => Role::Bound,
        },
        Error | Root => Role::Unread,
        _ => Role::Keyword,
    }
}

/// How many names of the same parent are before it.
fn index(name: &SyntaxToken, parent: &SyntaxNode) -> usize {
    let names = parent.children_with_tokens().filter_map(|child| child.into_token());
    names.filter(|token| token.kind() == SyntaxKind::Name).take_while(|token| token != name).count()
}

/// The first name that a node has as its own, keywords passed over.
pub(super) fn declared(node: &SyntaxNode) -> Option<SyntaxToken> {
    let tokens = node.children_with_tokens().filter_map(|child| child.into_token());
    tokens.filter(|token| token.kind() == SyntaxKind::Name).nth(1)
}
