//! The lossless tree, from tokens and the parser's notes.

use rowan::{GreenNode, GreenToken, Language, NodeOrToken};

use crate::syntax::kind::{SymbiontLanguage, SyntaxKind, SyntaxNode};
use crate::syntax::lexer::{Lexed, Token};
use crate::syntax::parser::Node;

type Element = NodeOrToken<GreenNode, GreenToken>;

/// Makes the tree. `nodes` are in the order in which they ended, so that children come before
/// their parents. Layout and comments before a node's first token belong to its parent.
pub(super) fn build(source: &str, lexed: &Lexed, nodes: &[Node]) -> SyntaxNode {
    let mut builder = Builder { source, lexed, stack: Vec::new(), token: 0, trivia: 0 };
    for node in nodes {
        builder.take_tokens(node.end as usize);
        builder.wrap(node.kind, 2 * node.start as usize + 1);
    }
    builder.take_tokens(lexed.tokens.len());
    builder.wrap(SyntaxKind::Root, 0);
    let root = match builder.stack.pop() {
        Some((_, NodeOrToken::Node(root))) => root,
        Some(_) | None => GreenNode::new(raw(SyntaxKind::Root), []),
    };
    SyntaxNode::new_root(root)
}

/// A tree in which the source is one token.
pub(super) fn unread(source: &str) -> SyntaxNode {
    let token = GreenToken::new(raw(SyntaxKind::Unknown), source);
    SyntaxNode::new_root(GreenNode::new(raw(SyntaxKind::Root), [NodeOrToken::Token(token)]))
}

struct Builder<'a> {
    source: &'a str,
    lexed: &'a Lexed,
    /// What has no parent yet, with its place: twice the number of its first token plus one, or
    /// twice the number of the token that it precedes for layout and comments.
    stack: Vec<(usize, Element)>,
    token: usize,
    trivia: usize,
}

impl Builder<'_> {
    /// Puts the tokens before number `end` on the stack, and what precedes each.
    fn take_tokens(&mut self, end: usize) {
        while self.token < end {
            let token = self.lexed.tokens[self.token];
            while let Some(trivia) = self.lexed.trivia.get(self.trivia)
                && trivia.start < token.start
            {
                self.push(2 * self.token, *trivia);
                self.trivia += 1;
            }
            if token.kind != SyntaxKind::End {
                self.push(2 * self.token + 1, token);
            }
            self.token += 1;
        }
    }

    fn push(&mut self, place: usize, token: Token) {
        let text = &self.source[token.start as usize..token.end as usize];
        self.stack.push((place, NodeOrToken::Token(GreenToken::new(raw(token.kind), text))));
    }

    /// Makes what stands at `place` and after it one node.
    fn wrap(&mut self, kind: SyntaxKind, place: usize) {
        let first = self.stack.iter().rposition(|(at, _)| *at < place).map_or(0, |at| at + 1);
        let children: Vec<Element> =
            self.stack.drain(first..).map(|(_, element)| element).collect();
        self.stack.push((place, NodeOrToken::Node(GreenNode::new(raw(kind), children))));
    }
}

fn raw(kind: SyntaxKind) -> rowan::SyntaxKind {
    SymbiontLanguage::kind_to_raw(kind)
}
