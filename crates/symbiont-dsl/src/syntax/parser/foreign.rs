//! What other languages write.
//!
//! People bring habits along. What they write is told once, as what stands here in its place, with a fix
//! where one means the same; and it is read as what was meant, as far as it can be, so that nothing else
//! has to be told of it.
//!
//! # What is not here
//!
//! Names that mean something elsewhere (`True`, `console.log`) are the checker's: they may be anybody's.

mod blocks;
mod expressions;
mod loops;
mod statements;

use std::collections::BTreeSet;

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::formula::replaced;
use crate::hir::{
    Arg, BinaryOp, Block, Condition, Expr, ExprKind, Literal, Param, Pattern, PatternKind, Span,
    Spanned, Stmt, StmtKind, UnaryOp,
};
use crate::negation;
use crate::operations::{BUILTINS, is_host_call};
use crate::syntax::SyntaxKind;
use crate::syntax::lexer::no_label;
use crate::syntax::literal::{filled, raw, short};
use crate::types::is_builtin;

/// Words that begin statements, and what begins them here.
const STATEMENTS: [(&str, &str); 12] = [
    ("const", "let"),
    ("var", "let"),
    ("val", "let"),
    ("mut", "let"),
    ("final", "let"),
    ("static", "let"),
    ("auto", "let"),
    ("local", "let"),
    ("my", "let"),
    ("foreach", "for"),
    ("switch", "match"),
    ("select", "match"),
];

/// Words that begin statements for which there is no word here, and what there is.
const ELSEWHERE: [(&str, &str); 12] = [
    ("yield", "put the values into an array, and return it"),
    ("defer", "what is to happen at the end stands at the end"),
    ("go", "one call follows the other; `spawn(agent, input)` starts another agent"),
    ("goto", "`while` and functions go where it would"),
    ("global", "assigning to a name declares it for the whole handler, function or `with` block"),
    ("nonlocal", "assigning to a name declares it for the whole handler, function or `with` block"),
    (
        "del",
        "`m.remove(key)` takes a key out of a map, and `xs.remove(index)` an element out of an array",
    ),
    (
        "delete",
        "`m.remove(key)` takes a key out of a map, and `xs.remove(index)` an element out of an array",
    ),
    ("import", "all that an agent needs stands in its file, is a builtin or a tool"),
    ("from", "all that an agent needs stands in its file, is a builtin or a tool"),
    ("class", "records are written `{ name: value }`, and functions stand beside them"),
    ("with", "nothing has to be closed: a file is read by `fs.read(path)`"),
];

/// Words that begin declarations for which there is no word here, and what there is.
const NO_DECLARATIONS: [(&str, &str); 14] = [
    ("import", IMPORTS),
    ("from", IMPORTS),
    ("use", IMPORTS),
    ("require", IMPORTS),
    ("include", IMPORTS),
    ("using", IMPORTS),
    ("package", "a file needs no name of its own"),
    ("module", "a file needs no name of its own"),
    ("mod", "a file needs no name of its own"),
    ("enum", "one of a few words is a `String`, which a `match` tells apart"),
    ("impl", "functions stand by themselves, and take what they work on as a parameter"),
    ("let", VARIABLES),
    ("const", VARIABLES),
    ("var", VARIABLES),
];

const IMPORTS: &str = "all that an agent needs stands in its file, is a builtin or a tool";
const VARIABLES: &str =
    "what is the same for all is what a function gives: `function limit() { 5 }`";

/// Words in front of declarations that say nothing here.
const MODIFIERS: [&str; 9] =
    ["async", "pub", "public", "private", "protected", "export", "default", "static", "abstract"];

/// Operators that are words or marks of ours, what is written here (nothing where there is none such),
/// and as what they are read.
const OPERATORS: [(&[&str], &str, BinaryOp, u8); 10] = [
    (&["and"], "&&", BinaryOp::And, 1),
    (&["or"], "||", BinaryOp::Or, 0),
    (&["is", "not"], "!=", BinaryOp::NotEqual, 2),
    (&["is"], "==", BinaryOp::Equal, 2),
    (&["instanceof"], "", BinaryOp::Equal, 2),
    (&["&"], "&&", BinaryOp::And, 1),
    (&["|"], "||", BinaryOp::Or, 0),
    (&["<", ">"], "!=", BinaryOp::NotEqual, 2),
    (&["<", "<"], "", BinaryOp::Multiply, 5),
    (&[">", ">"], "", BinaryOp::Multiply, 5),
];

/// What assigns the outcome of an operator that has no such form here.
const ASSIGNMENTS: [&str; 8] = ["&&=", "||=", "??=", "**=", "<<=", ">>=", "|=", "&="];

/// The macros and functions that are called something else here.
const CALLS: [(&str, &str); 7] = [
    ("println", "print"),
    ("eprintln", "print"),
    ("eprint", "print"),
    ("dbg", "print"),
    ("echo", "print"),
    ("puts", "print"),
    ("panic", "error"),
];

/// The types that `as` makes of a value, and the methods that do so here.
const CASTS: [(&[&str], &str); 3] = [
    (&["int", "i32", "i64", "u32", "u64", "usize", "integer", "number"], ".to_int()"),
    (&["float", "f32", "f64", "double"], ".to_float()"),
    (&["String", "string", "str"], ".to_string()"),
];

/// What helps where a name is compared with something in a condition.
const NO_QUESTION: &str = "`let Some(x) = e` asks whether there is something in `e`; a name alone takes whatever there is";

/// How many tokens are looked through for what would make sense of one.
pub(super) const FAR: usize = 64;

/// A piece of a statement that is written otherwise here.
pub(super) struct Mend {
    span: Span,
    instead: String,
    /// What is told where nothing else of the statement is written otherwise, without its fix.
    diagnostic: Diagnostic,
}

/// What begins with this word elsewhere begins with another here.
pub(super) fn statement(word: &str) -> Option<&'static str> {
    STATEMENTS.iter().find(|(foreign, _)| *foreign == word).map(|(_, meant)| *meant)
}

/// Whether this word declares a variable, here or in languages that have `catch` as well.
pub(super) fn declares(word: &str) -> bool {
    matches!(word, "let" | "const" | "var")
}

/// What there is in place of a declaration that begins with this word elsewhere.
pub(super) fn no_declaration(word: &str) -> Option<&'static str> {
    NO_DECLARATIONS.iter().find(|(foreign, _)| *foreign == word).map(|(_, note)| *note)
}

pub(super) fn is_modifier(word: &str) -> bool {
    MODIFIERS.contains(&word)
}

/// Words between what a rule speaks of and its condition, whether they negate it, and what stands there
/// here.
pub(super) const CONDITIONS: [(&str, bool); 4] =
    [("when", false), ("where", false), ("unless", true), ("except", true)];

/// Whether a word between two operands is an operator, here or elsewhere, and no operand.
fn is_infix(word: &str) -> bool {
    matches!(word, "in" | "not" | "and" | "or" | "is" | "as" | "if" | "else" | "instanceof")
}

impl Parser<'_> {
    // Telling.

    /// Notes that what stands at `span` is written otherwise. What is noted in a statement is told at its
    /// end, as one message with one fix.
    pub(super) fn mend(
        &mut self,
        span: Span,
        instead: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.mend_at(span.clone(), span, instead, message);
    }

    pub(super) fn mend_at(
        &mut self,
        at: Span,
        span: Span,
        instead: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.mend_of(Diagnostic::error("E0115", message, at), span, instead);
    }

    pub(super) fn mend_of(
        &mut self,
        diagnostic: Diagnostic,
        span: Span,
        instead: impl Into<String>,
    ) {
        self.mends.push(Mend { span, instead: instead.into(), diagnostic });
    }

    /// Forgets what was noted last, if it stands at `span`.
    pub(super) fn forget_mend(&mut self, span: &Span) {
        self.mends.pop_if(|mend| mend.span == *span);
    }

    /// Tells what was noted, unless the statement is part of one that is written otherwise itself.
    pub(super) fn tell_mends(&mut self) {
        if self.mends.is_empty() || self.unbraced > 0 {
            return;
        }
        let mut mends = std::mem::take(&mut self.mends);
        mends.sort_by_key(|mend| (mend.span.start, mend.span.end));
        let [first, .., last] = mends.as_slice() else {
            let only = mends.swap_remove(0);
            self.sink.push(match only.instead.as_str() {
                "" => only.diagnostic.label("not needed").fix(only.span, "", "leave it out"),
                meant => {
                    let help = match only.span.is_empty() {
                        true => format!("add `{}`", meant.trim()),
                        false => format!("did you mean `{}`?", short(meant.trim())),
                    };
                    only.diagnostic.fix(only.span, meant, help)
                }
            });
            return;
        };
        let whole = first.span.start..last.span.end.max(first.span.end);
        let places = mends.iter().map(|mend| (mend.span.clone(), mend.instead.clone())).collect();
        let instead = replaced(&self.source[whole.clone()], whole.start, places);
        let diagnostic = first.diagnostic.clone();
        self.sink.push(diagnostic.fix(whole, instead, "write it like this"));
    }

    /// The text of something that was read.
    fn written(&self, of: &Expr) -> String {
        self.source[of.span.clone()].to_owned()
    }

    /// The same as an operand of whatever operator.
    fn operand(&self, of: &Expr) -> String {
        match of.kind {
            ExprKind::Binary(..)
            | ExprKind::Unary(..)
            | ExprKind::Lambda { .. }
            | ExprKind::If { .. }
            | ExprKind::Match { .. } => format!("({})", self.written(of)),
            _ => self.written(of),
        }
    }

    /// Whether something that a call without parentheses would be given stands `ahead`, on this line.
    fn operand_ahead(&self, ahead: usize) -> bool {
        use SyntaxKind::*;
        let token = self.tokens.get(self.at + ahead);
        token.is_some_and(|token| !token.first_on_line)
            && match self.kind_ahead(ahead) {
                Int | Float | Quantity | String | LongString | Secret => true,
                Name => !is_infix(self.word_ahead(ahead)),
                _ => false,
            }
    }

    /// Whether the token `ahead` stands right behind the one before it.
    pub(super) fn adjacent(&self, ahead: usize) -> bool {
        let at = self.at + ahead;
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        matches!((before, self.tokens.get(at)), (Some(before), Some(at)) if before.end == at.start)
    }

    fn boolean(&self, value: bool) -> Expr {
        let start = self.span().start;
        Expr { kind: ExprKind::Literal(Literal::Bool(value)), span: start..start }
    }

    /// Tells of a `/` that somebody doubled, and so made the rest of the line a comment, between the last
    /// token and this one; false where there is none.
    pub(super) fn halved(&mut self) -> bool {
        if self.ended_at == Some(self.at) {
            return true;
        }
        let start = self.after_last().start;
        let between = self.source.get(start..self.span().start).unwrap_or_default();
        let Some((before, line)) = between.split_once("//") else { return false };
        let line = line.lines().next().unwrap_or_default().trim();
        let divides = before.trim_matches(' ').is_empty()
            && line.strip_suffix(';').is_some_and(|of| {
                of.starts_with(|c: char| c.is_alphanumeric() || c == '(')
                    && of.chars().all(|c| c.is_alphanumeric() || "_.()[]".contains(c))
            });
        if divides {
            let span = start + before.len()..start + before.len() + 2;
            let diagnostic = Diagnostic::error("E0115", "`//` begins a comment", span.clone())
                .label("the rest of the line is passed over")
                .fix(span, "/", "`/` of two ints gives an int");
            self.sink.push(diagnostic);
            self.ended_at = Some(self.at);
        }
        divides
    }
}

fn start_of(tokens: &[crate::syntax::Token], at: usize) -> usize {
    tokens.get(at).map_or(0, |token| token.start as usize)
}

fn end_of(tokens: &[crate::syntax::Token], at: usize) -> usize {
    tokens.get(at).map_or(0, |token| token.end as usize)
}
