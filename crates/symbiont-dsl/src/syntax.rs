//! Source text to tree, program and diagnostics.
//!
//! One pass over the tokens builds the program ([`crate::hir`]) and notes, for each node of the
//! syntax tree, which tokens it spans. The lossless tree is made from those notes when somebody
//! asks for it, so that running an agent does not pay for what only an editor needs.
//!
//! # What holds
//!
//! - The parser never stops at the first fault and never panics; every source gives a program.
//! - Every byte of the source is in the tree, in order.
//! - Time and memory are linear in the source. What nests is bounded by [`MAX_DEPTH`], and what
//!   is read at all by [`MAX_SOURCE`]; beyond either there is a diagnostic.
//! - A program without error diagnostics has no [`Missing`](crate::hir::ExprKind::Missing) in it.
//!
//! # What is not here
//!
//! Names, types and values out of range are the checker's ([`crate::definition::check`]).

mod kind;
mod lexer;
pub(crate) mod literal;
mod parser;
mod tree;

use crate::diagnostic::{Diagnostic, Sink};
use crate::hir;

pub use kind::{SymbiontLanguage, SyntaxKind, SyntaxNode, SyntaxToken};
pub(crate) use lexer::{Lexed, Token, lex, lex_first};
pub(crate) use parser::{KEYWORDS, is_function};

/// How deep brackets, blocks, types, patterns and expressions may nest. A chain of operators or
/// members counts a level for each link.
pub const MAX_DEPTH: usize = 256;

/// How many bytes a source may have: 1 MiB.
pub const MAX_SOURCE: usize = 1 << 20;

/// What the parser made of a source.
#[derive(Debug)]
pub struct Parsed {
    /// The program, as far as it could be read.
    pub program: hir::Program,
    /// What was found on the way, in the order of the source.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a source into a program.
pub fn parse(source: &str) -> Parsed {
    let mut sink = Sink::default();
    let program = parse_into(source, &mut sink);
    Parsed { program, diagnostics: sink.finish() }
}

/// Reads a source into a program; what is found goes into the sink.
pub(crate) fn parse_into(source: &str, sink: &mut Sink) -> hir::Program {
    parse_within(source, source.len(), sink)
}

/// The same of a source of which somebody wrote what stands before `end`: what follows is told as
/// the end of the text.
pub(crate) fn parse_within(source: &str, end: usize, sink: &mut Sink) -> hir::Program {
    if source.len() > MAX_SOURCE {
        sink.push(too_large(source));
        return hir::Program::default();
    }
    let lexed = lex(source, sink);
    parser::parse(source, &lexed.tokens, end, sink).program
}

/// What is told of the bracket, the text or the comment in a source that is still open at its end, if
/// one is: whoever is asked for more lines may go on there.
pub fn unclosed(source: &str) -> Option<Diagnostic> {
    if source.len() > MAX_SOURCE {
        return None;
    }
    let mut sink = Sink::default();
    let lexed = lex(source, &mut sink);
    let mut told = sink.finish().into_iter();
    told.find(|found| matches!(found.code, "E0104" | "E0105"))
        .or_else(|| parser::open_bracket(source, &lexed.tokens))
}

/// Reads a source into its lossless syntax tree. A source that is too large is a tree with one
/// token.
pub fn tree(source: &str) -> SyntaxNode {
    let mut sink = Sink::default();
    if source.len() > MAX_SOURCE {
        return tree::unread(source);
    }
    let lexed = lex(source, &mut sink);
    let output = parser::parse(source, &lexed.tokens, source.len(), &mut sink);
    tree::build(source, &lexed, &output.nodes)
}

fn too_large(source: &str) -> Diagnostic {
    let message =
        format!("the source has {} bytes, and at most {MAX_SOURCE} are read", source.len());
    Diagnostic::error("E0108", message, 0..0).label("nothing of it was read")
}
