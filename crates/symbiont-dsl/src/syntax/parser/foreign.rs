//! What other languages write.
//!
//! People bring habits along. What they write is told once, as what stands here in its place, with a fix
//! where one means the same; and it is read as what was meant, as far as it can be, so that nothing else
//! has to be told of it.
//!
//! # What is not here
//!
//! Names that mean something elsewhere (`True`, `console.log`) are the checker's: they may be anybody's.

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::formula::replaced;
use crate::hir::{
    Arg, BinaryOp, Block, Condition, Expr, ExprKind, Literal, Param, Span, Spanned, StmtKind,
    UnaryOp,
};
use crate::operations::{BUILTINS, is_host_call};
use crate::syntax::SyntaxKind;
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

/// How many tokens are looked through for what would make sense of one.
const FAR: usize = 64;

/// A piece of a statement that is written otherwise here.
pub(super) struct Mend {
    /// Where it is shown.
    at: Span,
    span: Span,
    instead: String,
    message: String,
}

/// What begins with this word elsewhere begins with another here.
pub(super) fn statement(word: &str) -> Option<&'static str> {
    STATEMENTS.iter().find(|(foreign, _)| *foreign == word).map(|(_, meant)| *meant)
}

/// What there is in place of a declaration that begins with this word elsewhere.
pub(super) fn no_declaration(word: &str) -> Option<&'static str> {
    NO_DECLARATIONS.iter().find(|(foreign, _)| *foreign == word).map(|(_, note)| *note)
}

pub(super) fn is_modifier(word: &str) -> bool {
    MODIFIERS.contains(&word)
}

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

    fn mend_at(
        &mut self,
        at: Span,
        span: Span,
        instead: impl Into<String>,
        message: impl Into<String>,
    ) {
        let (instead, message) = (instead.into(), message.into());
        self.mends.push(Mend { at, span, instead, message });
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
            let diagnostic = Diagnostic::error("E0115", only.message, only.at);
            self.sink.push(match only.instead.as_str() {
                "" => diagnostic.label("not needed").fix(only.span, "", "leave it out"),
                meant => {
                    let help = format!("did you mean `{meant}`?");
                    diagnostic.fix(only.span, meant, help)
                }
            });
            return;
        };
        let whole = first.span.start..last.span.end.max(first.span.end);
        let places = mends.iter().map(|mend| (mend.span.clone(), mend.instead.clone())).collect();
        let instead = replaced(&self.source[whole.clone()], whole.start, places);
        let diagnostic = Diagnostic::error("E0115", first.message.as_str(), first.at.clone()).fix(
            whole,
            instead,
            "write it like this",
        );
        self.sink.push(diagnostic);
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
            && line.ends_with(';')
            && line.starts_with(|c: char| c.is_alphanumeric() || c == '(');
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

    // Statements.

    /// A statement that begins as none does here.
    pub(super) fn foreign_statement(&mut self) -> Option<StmtKind> {
        let start = self.at;
        let next = self.kind_ahead(1);
        if self.at(SyntaxKind::LeftBrace) {
            return (!self.opens_record(0)).then(|| self.bare_block());
        }
        let word = self.word();
        let opens = next == SyntaxKind::LeftBrace && !self.opens_record(1);
        match word {
            "" => None,
            "throw" | "raise" if self.operand_ahead(1) => Some(self.thrown()),
            "loop" | "forever" | "for" if opens => Some(self.endless()),
            "do" if opens => Some(self.do_while()),
            "unless" | "until" if self.operand_ahead(1) || next == SyntaxKind::Bang => {
                Some(self.negated(word == "unless"))
            }
            _ if next != SyntaxKind::Name && !self.operand_ahead(1) => None,
            ty if is_builtin(ty) && self.kind_ahead(2) == SyntaxKind::Equals => {
                let span = start_of(self.tokens, start)..end_of(self.tokens, start + 1);
                let meant = format!("let {}: {ty}", self.word_ahead(1));
                let message = format!("a variable is declared by `{meant}`");
                self.foreign(message, span, &meant);
                Some(self.let_())
            }
            word => {
                let call = CALLS.iter().find(|(foreign, _)| *foreign == word);
                let callee = call.map_or(word, |(_, meant)| *meant);
                if !self.operand_ahead(1) {
                    return None;
                }
                if BUILTINS.contains(&callee) || is_host_call(callee) {
                    return Some(self.bare_call(callee));
                }
                let (_, note) = ELSEWHERE.iter().find(|(foreign, _)| *foreign == word)?;
                let message = format!("there is no `{word}`");
                let diagnostic = Diagnostic::error("E0115", message, self.span());
                self.report(diagnostic.label("no such statement").note(*note));
                let skipped = self.at;
                use SyntaxKind::{End, RightBrace, Semicolon};
                while self.at == skipped
                    || !(self.first_on_line()
                        || matches!(self.kind(), End | RightBrace | Semicolon))
                {
                    self.skip_one();
                }
                self.node(SyntaxKind::Error, skipped);
                self.ended_at = Some(self.at);
                Some(StmtKind::Expr(self.missing()))
            }
        }
    }

    /// `{ statements }` by itself.
    fn bare_block(&mut self) -> StmtKind {
        let start = self.at;
        let condition = Box::new(Condition::Expr(self.boolean(true)));
        // As deep as the `if` that it is read as.
        let then = if self.enter() { self.block() } else { Block::default() };
        self.leave();
        self.node(SyntaxKind::ExpressionStatement, start);
        let span = self.span_from(start);
        let mut diagnostic = Diagnostic::error(
            "E0115",
            "a block stands behind something that decides about it",
            start_of(self.tokens, start)..end_of(self.tokens, start),
        )
        .label("a block by itself");
        if let Some(inner) =
            self.source[span.clone()].strip_prefix('{').and_then(|text| text.strip_suffix('}'))
        {
            diagnostic = diagnostic.fix(span.clone(), inner, "leave the braces out");
        }
        self.sink.push(diagnostic);
        StmtKind::Expr(Expr { kind: ExprKind::If { condition, then, otherwise: None }, span })
    }

    /// `throw e` and `raise e`, read as what returns an error.
    fn thrown(&mut self) -> StmtKind {
        let (start, word, place) = (self.at, self.word(), self.span());
        self.bump();
        if self.at_word("new") {
            self.bump();
        }
        let mut value = self.expression();
        let text = |of: &Expr| self.source[of.span.clone()].to_owned();
        let meant = match &value.kind {
            ExprKind::Name(_) | ExprKind::Err(_) => text(&value),
            ExprKind::Call { callee, args } => match &callee.kind {
                ExprKind::Name(name) if name == "error" => text(&value),
                ExprKind::Name(name) if name.starts_with(char::is_uppercase) => {
                    let message =
                        args.first().map_or_else(|| format!("\"{name}\""), |arg| text(&arg.value));
                    match name.as_str() {
                        "Error" | "Exception" => format!("error({message})"),
                        kind => format!("error({message}, \"{kind}\")"),
                    }
                }
                _ => format!("error({})", text(&value)),
            },
            _ => format!("error({})", text(&value)),
        };
        let message = format!("`{word}` is written `return`");
        let diagnostic = Diagnostic::error("E0115", message, place).fix(
            self.span_from(start),
            format!("return {meant}"),
            "an error that is returned fails the run, or the call of the function",
        );
        self.sink.push(diagnostic);
        if let ExprKind::Call { args, .. } = value.kind {
            // What is called is the kind of the error.
            let given = args.into_iter().next().map_or_else(|| self.missing(), |arg| arg.value);
            value = Expr { kind: ExprKind::Err(Box::new(given)), span: value.span };
        }
        self.node(SyntaxKind::Return, start);
        StmtKind::Return(Some(value))
    }

    /// `loop { }` and `for { }`, read as `while true { }`.
    fn endless(&mut self) -> StmtKind {
        let start = self.at;
        let message = format!("`{}` is written `while true`", self.word());
        self.foreign(message, self.span(), "while true");
        self.bump();
        let condition = self.boolean(true);
        let body = self.block();
        self.node(SyntaxKind::While, start);
        StmtKind::While { condition, body }
    }

    /// `do { } while (c)`, read as a `while`.
    fn do_while(&mut self) -> StmtKind {
        let (start, place) = (self.at, self.span());
        self.bump();
        let body = self.block();
        let block = self.source[body.span.clone()].trim_end_matches('}').trim_end().to_owned();
        let mut diagnostic = Diagnostic::error("E0115", "there is no `do`", place)
            .label("expected `while`")
            .note("`while true { .. if done { break; } }` does something once at least");
        let mut until = self.boolean(true);
        if self.eat_word("while") {
            let condition = self.head();
            let meant =
                format!("while true {block} if !({}) {{ break; }} }}", self.written(&condition));
            diagnostic = diagnostic.fix(self.span_from(start), meant, "leave a `while` at its end");
            until = condition;
        }
        self.sink.push(diagnostic);
        self.node(SyntaxKind::While, start);
        StmtKind::While { condition: until, body }
    }

    /// `unless c { }` and `until c { }`.
    fn negated(&mut self, once: bool) -> StmtKind {
        let (start, word, place) = (self.at, self.word(), self.span());
        self.bump();
        let condition = self.head();
        let meant = if once { "if" } else { "while" };
        let text = format!("{meant} !({})", self.written(&condition));
        let message = format!("`{word}` is written `{meant} !(..)`");
        let diagnostic = Diagnostic::error("E0115", message, place);
        self.sink.push(diagnostic.fix(self.span_from(start), text, "negate the condition"));
        let span = condition.span.clone();
        let condition = Expr { kind: ExprKind::Unary(UnaryOp::Not, Box::new(condition)), span };
        let body = self.body();
        if !once {
            self.node(SyntaxKind::While, start);
            return StmtKind::While { condition, body };
        }
        self.node(SyntaxKind::ExpressionStatement, start);
        let condition = Box::new(Condition::Expr(condition));
        let span = self.span_from(start);
        StmtKind::Expr(Expr { kind: ExprKind::If { condition, then: body, otherwise: None }, span })
    }

    /// `print "a", b`
    fn bare_call(&mut self, callee: &str) -> StmtKind {
        let (start, word) = (self.at, self.span());
        self.bump();
        let mut args = Vec::new();
        loop {
            let value = self.expression();
            args.push(Arg { name: None, value });
            if !self.eat(SyntaxKind::Comma) {
                break;
            }
        }
        let span = self.span_from(start);
        let given: Vec<String> = args.iter().map(|arg| self.written(&arg.value)).collect();
        let meant = format!("{callee}({})", given.join(", "));
        let diagnostic = Diagnostic::error("E0115", "a call has parentheses", word.clone()).fix(
            span.clone(),
            meant,
            "put what is given into parentheses",
        );
        self.sink.push(diagnostic);
        self.node(SyntaxKind::ExpressionStatement, start);
        let callee = Box::new(Expr { kind: ExprKind::Name(callee.to_owned()), span: word });
        StmtKind::Expr(Expr { kind: ExprKind::Call { callee, args }, span })
    }

    /// `let (a, b) = e`, `let [a, b] = e`, `let { a, b } = e` and `let a, b = e, f`, of which the `let`
    /// has been read.
    pub(super) fn several(&mut self, start: usize) -> StmtKind {
        let (open, place) = (self.at, self.span());
        let bracketed = !self.at(SyntaxKind::Name);
        let by_name = self.at(SyntaxKind::LeftBrace);
        let end = match self.closing[open] as usize {
            0 => open,
            closing => closing,
        };
        let mut names = Vec::new();
        if bracketed {
            let inner = open + 1..end.max(open + 1);
            names.extend(inner.clone().step_by(2).map(|at| self.text_of(at).to_owned()));
            let is_list = inner.clone().all(|at| {
                let wanted = if (at - inner.start).is_multiple_of(2) {
                    SyntaxKind::Name
                } else {
                    SyntaxKind::Comma
                };
                self.tokens[at].kind == wanted
            });
            if !is_list {
                names.clear();
            }
            self.skip_one();
        } else {
            names.extend(self.name("a name").map(|name| name.node));
            while self.eat(SyntaxKind::Comma) {
                names.extend(self.name("a name").map(|name| name.node));
            }
        }
        let mut values = Vec::new();
        if self.eat(SyntaxKind::Equals) {
            values.push(self.expression());
            while !bracketed && self.eat(SyntaxKind::Comma) {
                values.push(self.expression());
            }
        }
        let mut diagnostic =
            Diagnostic::error("E0115", "a `let` declares one name", place).label("several names");
        let lets = |parts: Vec<String>| {
            let lets = names.iter().zip(parts).map(|(name, part)| format!("let {name} = {part}"));
            lets.collect::<Vec<_>>().join("; ")
        };
        let meant = match values.as_slice() {
            [] => None,
            _ if names.is_empty() => None,
            [value] => {
                let plain = matches!(value.kind, ExprKind::Name(_));
                let whole = if plain { self.written(value) } else { "parts".to_owned() };
                let part = |(at, name): (usize, &String)| match by_name {
                    true => format!("{whole}.{name}"),
                    false => format!("{whole}[{at}]"),
                };
                let first = if plain {
                    String::new()
                } else {
                    format!("let parts = {}; ", self.written(value))
                };
                Some(first + &lets(names.iter().enumerate().map(part).collect()))
            }
            values if values.len() == names.len() => {
                Some(lets(values.iter().map(|value| self.written(value)).collect()))
            }
            _ => None,
        };
        let span = self.span_from(start);
        if let Some(meant) = meant {
            diagnostic = diagnostic.fix(span.clone(), meant, "declare them one by one");
        }
        self.report(diagnostic);
        self.sink.lost(span);
        self.node(SyntaxKind::Let, start);
        StmtKind::Expr(values.into_iter().next().unwrap_or_else(|| self.missing()))
    }

    // `for`.

    /// The `in` of a `for`.
    pub(super) fn in_word(&mut self) {
        if self.at_word("of") {
            self.foreign("`of` is written `in`", self.span(), "in");
            self.bump();
        } else if !self.eat_word("in") {
            self.expected("`in`");
        }
    }

    /// `for (x in xs) { }`, `for (let i = 0; i < 9; i++) { }`, `for k, v in xs { }` and other heads of
    /// other languages, behind the word; `None` where the head is one of ours.
    pub(super) fn foreign_for(&mut self, word: Span) -> Option<StmtKind> {
        let open = self.at;
        let closing = self.closing[open] as usize;
        let parenthesized = self.at(SyntaxKind::LeftParen) && closing > 0;
        let mut from = open + usize::from(parenthesized);
        let declares = matches!(self.text_of(from), "let" | "const" | "var")
            && self.tokens[from].kind == SyntaxKind::Name;
        from += usize::from(declares);
        let kind = |at: usize| self.tokens.get(at).map_or(SyntaxKind::End, |token| token.kind);
        let walks = kind(from) == SyntaxKind::Name && matches!(self.text_of(from + 1), "in" | "of");
        if parenthesized && walks {
            return Some(self.parenthesized_for(from));
        }
        let named = kind(from) == SyntaxKind::Name;
        let assigns = named
            && (kind(from + 1) == SyntaxKind::Equals
                || kind(from + 1) == SyntaxKind::Colon && kind(from + 2) == SyntaxKind::Equals);
        let several =
            named && kind(from + 1) == SyntaxKind::Comma || kind(from) == SyntaxKind::LeftBracket;
        if assigns
            && !parenthesized
            && self.text_of(from + 3) == "range"
            && kind(from + 4) != SyntaxKind::LeftParen
        {
            let span = start_of(self.tokens, from + 1)..end_of(self.tokens, from + 3);
            let name = self.name("a name")?;
            self.foreign("`:= range` is written `in`", span, "in");
            self.at = from + 4;
            let iterable = self.head();
            return Some(StmtKind::For { name, iterable, body: self.body() });
        }
        if !parenthesized && !assigns && !several && !self.at(SyntaxKind::LeftParen) {
            return None;
        }
        // Where the block begins.
        if parenthesized {
            self.at = closing + 1;
        }
        let end = self.at;
        loop {
            use SyntaxKind::{Colon, End, Equals, LeftBrace, RightBrace, Semicolon};
            match self.kind() {
                LeftBrace | RightBrace | End => break,
                Colon if !self.at_both(Colon, Equals) => break,
                Semicolon if parenthesized => break,
                _ if self.first_on_line() && self.at > end => break,
                _ => self.skip_one(),
            }
        }
        let counted = if assigns {
            self.counted(from, if parenthesized { closing } else { self.at })
        } else {
            None
        };
        let diagnostic = match &counted {
            _ if several => Diagnostic::error("E0115", "a `for` has one name", word)
                .label("several names")
                .note("`for key in map` walks through the keys, and `map[key]` is what is there; `for i in range(0, len(xs))` counts"),
            Some(head) => Diagnostic::error("E0115", "a `for` walks through values", word)
                .label("expected `for x in xs`")
                .fix(start_of(self.tokens, open)..end_of(self.tokens, if parenthesized { closing } else { self.at - 1 }), head.as_str(), "count through a range"),
            None => Diagnostic::error("E0115", "a `for` walks through values", word)
                .label("expected `for x in xs`")
                .note("`for i in range(0, 10) { }` counts, and `while` repeats as long as something holds"),
        };
        self.sink.push(diagnostic);
        self.node(SyntaxKind::Error, open);
        // That the block lacks as well is part of it.
        self.reported_at = Some(self.at);
        let name = match counted {
            Some(_) => Spanned {
                node: self.text_of(from).to_owned(),
                span: start_of(self.tokens, from)..end_of(self.tokens, from),
            },
            None => self.no_name(),
        };
        Some(StmtKind::For { name, iterable: self.missing(), body: self.block() })
    }

    /// `(x in xs)` behind `for`; its name is the token `from`.
    fn parenthesized_for(&mut self, from: usize) -> StmtKind {
        let open = self.at;
        let whole = start_of(self.tokens, open)..end_of(self.tokens, self.closing[open] as usize);
        self.at = from;
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.bump();
        let iterable = self.expression();
        let meant = format!("{} in {}", name.node, self.written(&iterable));
        let diagnostic = Diagnostic::error("E0115", "a `for` has no parentheses", whole.clone())
            .fix(whole, meant, "leave them out");
        self.sink.push(diagnostic);
        self.expect_closing(open, SyntaxKind::RightParen);
        StmtKind::For { name, iterable, body: self.body() }
    }

    /// `i = 0; i < n; i++` between these tokens, as `i in range(0, n)`.
    fn counted(&self, from: usize, to: usize) -> Option<String> {
        let mut ends = Vec::new();
        let mut at = from;
        while at < to {
            match self.closing[at] as usize {
                closing if closing > at => at = closing,
                _ if self.tokens[at].kind == SyntaxKind::Semicolon => ends.push(at),
                _ => {}
            }
            at += 1;
        }
        let [first, second] = ends[..] else { return None };
        let text = |from: usize, to: usize| {
            (from < to).then(|| {
                self.source[start_of(self.tokens, from)..end_of(self.tokens, to - 1)].to_owned()
            })
        };
        let name = self.text_of(from);
        let value = from + 2 + usize::from(self.tokens[from + 1].kind == SyntaxKind::Colon);
        let more = match self.tokens.get(first + 2)?.kind {
            SyntaxKind::Less => "",
            SyntaxKind::LessEquals => " + 1",
            _ => return None,
        };
        let step = text(second + 1, to)?.replace(' ', "");
        let by_one =
            [format!("{name}++"), format!("++{name}"), format!("{name}+=1")].contains(&step);
        if self.text_of(first + 1) != name || !by_one {
            return None;
        }
        Some(format!(
            "{name} in range({}, {}{more})",
            text(value, first)?,
            text(first + 3, second)?
        ))
    }

    // Blocks.

    /// The block of a statement, which other languages begin with a colon, `then` or `do`, or leave the
    /// braces of out where it is one statement.
    pub(super) fn body(&mut self) -> Block {
        let needless = matches!(self.word(), "then" | "do");
        if self.at(SyntaxKind::Colon) || (needless && self.kind_ahead(1) != SyntaxKind::LeftBrace) {
            return self.indented();
        }
        if needless {
            let message = format!("a block needs no `{}`", self.word());
            let span = self.span().start..self.tokens[self.at + 1].start as usize;
            self.mend(span, "", message);
            self.bump();
        }
        if self.at_unbraced() { self.unbraced() } else { self.block() }
    }

    /// Whether the one statement of a block stands here, behind a condition in parentheses or `else`.
    fn at_unbraced(&self) -> bool {
        let before = self.at.checked_sub(1);
        self.at(SyntaxKind::Name)
            && !self.first_on_line()
            && (super::statements::begins_statement(self.word())
                || before.is_some_and(|before| {
                    self.tokens[before].kind == SyntaxKind::RightParen
                        || self.text_of(before) == "else"
                }))
    }

    fn unbraced(&mut self) -> Block {
        let start = self.at;
        let begin = self.span().start;
        self.mend_at(self.span(), begin..begin, "{ ", "a block stands in braces");
        let mut block = Block::default();
        if self.enter() {
            self.unbraced += 1;
            self.one_statement(&mut block);
            self.unbraced -= 1;
        }
        self.leave();
        let place = self.after_last();
        self.mend(place, " }", "");
        self.ended_at = Some(self.at);
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    /// `: statements`, up to what is indented as far as the line that it begins in.
    pub(super) fn indented(&mut self) -> Block {
        let start = self.at;
        let least = self.indent_of_line();
        let before = self.after_last().start;
        let span = before..self.span().end;
        self.mend_at(self.span(), span, " {", "a block stands in braces");
        self.bump();
        let mut block = Block::default();
        if self.enter() {
            self.unbraced += 1;
            while !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End)
                && !self.at_declaration()
                && (!self.first_on_line() || self.indent(self.at) > least)
            {
                if !self.eat(SyntaxKind::Semicolon) {
                    self.one_statement(&mut block);
                }
            }
            self.unbraced -= 1;
        }
        self.leave();
        let place = self.after_last();
        self.mend(place, " }", "");
        if self.at_word("end") && self.first_on_line() {
            self.mend(self.span(), "", "");
            self.bump();
        }
        self.ended_at = Some(self.at);
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    /// How far from the beginning of its line a token stands.
    fn indent(&self, token: usize) -> usize {
        let start = start_of(self.tokens, token);
        start - self.source[..start].rfind('\n').map_or(0, |end| end + 1)
    }

    /// How far the first token of this line is indented; of a long line, one in its middle.
    fn indent_of_line(&self) -> usize {
        let least = self.at.saturating_sub(FAR);
        let first = (least..=self.at).rev().find(|at| self.tokens[*at].first_on_line);
        first.map_or(0, |first| self.indent(first))
    }

    /// Passes over `case 1: statements` in the braces of a `match`.
    pub(super) fn cases(&mut self, word: &str, span: Span) {
        let diagnostic = Diagnostic::error("E0115", format!("`{word}` is written in another way"), span)
            .label("expected `match` and arms")
            .note("`match x { 1 => print(\"one\"), 2 => { print(\"two\"); }, _ => print(\"another\") }`: no arm goes on into the next");
        self.sink.push(diagnostic);
        let start = self.at;
        if self.at(SyntaxKind::Colon) {
            let least = self.indent_of_line();
            self.bump();
            while !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End)
                && (!self.first_on_line() || self.indent(self.at) > least)
            {
                self.skip_one();
            }
        } else {
            self.skip_one();
        }
        self.ended_at = Some(self.at);
        self.node(SyntaxKind::Error, start);
    }

    /// Whether a `match` goes on with a colon, or with `{ case 1: ` or `{ default:`.
    pub(super) fn at_cases(&self) -> bool {
        let colon = |ahead| self.kind_ahead(ahead) == SyntaxKind::Colon;
        self.at(SyntaxKind::Colon)
            || self.at(SyntaxKind::LeftBrace)
                && match self.word_ahead(1) {
                    "case" => colon(3) || (colon(4) && self.kind_ahead(2) == SyntaxKind::Minus),
                    "default" => colon(2),
                    _ => false,
                }
    }

    // Expressions.

    /// What other languages write behind an expression: `c ? a : b`, `a ?? b`, `a if c else b`, `x for x
    /// in xs`, `i++`.
    pub(super) fn foreign_tail(&mut self, value: Expr, start: usize, may_step: bool) -> Expr {
        match self.kind() {
            SyntaxKind::Question if self.foreign_assign().is_some() => value,
            SyntaxKind::Question if self.at_both(SyntaxKind::Question, SyntaxKind::Question) => {
                self.otherwise(value, start)
            }
            SyntaxKind::Question => self.choice(value, start),
            SyntaxKind::Plus | SyntaxKind::Minus if !may_step && self.at_step() => {
                let written = if self.at(SyntaxKind::Plus) { "++" } else { "--" };
                let span = self.span().start..self.span().end + 1;
                let diagnostic =
                    Diagnostic::error("E0115", format!("there is no operator `{written}`"), span)
                        .label("changes what it is written behind")
                        .note("`i += 1;` is a statement of its own");
                self.report(diagnostic);
                self.bump();
                self.bump();
                value
            }
            SyntaxKind::Name if self.first_on_line() || value.kind == ExprKind::Missing => value,
            SyntaxKind::Name if self.at_word("if") && self.else_ahead() => {
                self.postponed(value, start)
            }
            SyntaxKind::Name
                if self.at_word("for")
                    && self.kind_ahead(1) == SyntaxKind::Name
                    && (self.word_ahead(2) == "in" || self.kind_ahead(2) == SyntaxKind::Comma) =>
            {
                self.comprehension(value, start)
            }
            _ => value,
        }
    }

    /// `a ?? b`
    fn otherwise(&mut self, value: Expr, start: usize) -> Expr {
        let mark = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        let other = self.expression();
        let span = self.span_from(start);
        let mut diagnostic = Diagnostic::error("E0115", "there is no operator `??`", mark)
            .label("expected `if`")
            .note("`if x != null { x } else { y }` gives `y` where `x` is `null`");
        if super::statements::is_place(&value) {
            let (value, other) = (self.written(&value), self.written(&other));
            let meant = format!("if {value} != null {{ {value} }} else {{ {other} }}");
            let meant = if self.in_head { format!("({meant})") } else { meant };
            diagnostic = diagnostic.fix(span.clone(), meant, "an `if` has a value");
        }
        self.sink.push(diagnostic);
        self.node(SyntaxKind::BinaryExpression, start);
        let kind = ExprKind::Binary(BinaryOp::Or, Box::new(value), Box::new(other));
        Expr { kind, span }
    }

    /// `c ? a : b`
    fn choice(&mut self, value: Expr, start: usize) -> Expr {
        let mark = self.span();
        self.bump();
        let then = self.expression();
        self.expect(SyntaxKind::Colon, "`:` and what holds otherwise");
        let otherwise = self.expression();
        self.chosen("there is no operator `? :`", mark, start, [value, then, otherwise])
    }

    /// `a if c else b`
    fn postponed(&mut self, then: Expr, start: usize) -> Expr {
        let mark = self.span();
        self.bump();
        let condition = self.binary(0);
        if !self.eat_word("else") {
            self.expected("`else`");
        }
        let otherwise = self.expression();
        self.chosen("an `if` begins with its condition", mark, start, [condition, then, otherwise])
    }

    fn chosen(&mut self, message: &str, mark: Span, start: usize, parts: [Expr; 3]) -> Expr {
        self.node(SyntaxKind::IfExpression, start);
        let span = self.span_from(start);
        let [value, then, otherwise] = parts;
        let [c, a, b] = [&value, &then, &otherwise].map(|of| self.written(of));
        let meant = format!("if {c} {{ {a} }} else {{ {b} }}");
        let meant = if self.in_head { format!("({meant})") } else { meant };
        let diagnostic = Diagnostic::error("E0115", message, mark)
            .label("expected `if c { a } else { b }`")
            .fix(span.clone(), meant, "an `if` has a value");
        self.sink.push(diagnostic);
        let block = |value: Expr| {
            let span = value.span.clone();
            Block { statements: Vec::new(), value: Some(Box::new(value)), span }
        };
        let condition = Box::new(Condition::Expr(value));
        let kind = ExprKind::If { condition, then: block(then), otherwise: Some(block(otherwise)) };
        Expr { kind, span }
    }

    /// Whether an `else` follows on this line, with no block before it.
    fn else_ahead(&self) -> bool {
        let mut at = self.at + 1;
        for _ in 0..FAR {
            let Some(token) = self.tokens.get(at).filter(|token| !token.first_on_line) else {
                return false;
            };
            match token.kind {
                SyntaxKind::Name if self.text_of(at) == "else" => return true,
                SyntaxKind::Semicolon
                | SyntaxKind::LeftBrace
                | SyntaxKind::RightBrace
                | SyntaxKind::End => return false,
                _ => at = (self.closing[at] as usize).max(at) + 1,
            }
        }
        false
    }

    /// `e for x in xs if c`
    fn comprehension(&mut self, value: Expr, start: usize) -> Expr {
        let mark = self.span();
        self.bump();
        let name = self.text().to_owned();
        let mut several = false;
        while self.at(SyntaxKind::Name) && !self.at_word("in") {
            self.bump();
            several |= self.eat(SyntaxKind::Comma);
        }
        self.bump();
        let items = self.binary(0);
        let condition = self.eat_word("if").then(|| self.binary(0));
        let mut diagnostic =
            Diagnostic::error("E0115", "arrays are not written with `for`", mark.clone())
                .label("expected `map` or `filter`")
                .note("`xs.filter(x => x > 1).map(x => x * 2)`");
        let before = start.checked_sub(1).map(|before| self.tokens[before].kind);
        let bracketed =
            before == Some(SyntaxKind::LeftBracket) && self.at(SyntaxKind::RightBracket);
        if !several
            && before != Some(SyntaxKind::Colon)
            && (bracketed || before == Some(SyntaxKind::LeftParen))
        {
            let mut meant = self.operand(&items);
            if let Some(condition) = &condition {
                meant += &format!(".filter({name} => {})", self.written(condition));
            }
            let value = self.written(&value);
            if value != name {
                meant += &format!(".map({name} => {value})");
            }
            let span = match bracketed {
                true => start_of(self.tokens, start - 1)..self.span().end,
                false => self.span_from(start),
            };
            diagnostic = diagnostic.fix(span, meant, "write it like this");
        }
        self.sink.push(diagnostic);
        self.sink.lost(mark);
        value
    }

    /// What other languages write in front of an expression; nothing where there is none of it.
    pub(super) fn foreign_prefix(&mut self) -> Option<Expr> {
        let (start, word, place) = (self.at, self.text(), self.span());
        let to_next = place.start..self.tokens.get(start + 1)?.start as usize;
        let leave_out = |message: &str, note: &str| {
            let diagnostic = Diagnostic::error("E0115", message, place.clone()).label("not needed");
            let diagnostic = if note.is_empty() { diagnostic } else { diagnostic.note(note) };
            diagnostic.fix(to_next.clone(), "", "leave it out")
        };
        match self.kind_ahead(1) {
            SyntaxKind::String | SyntaxKind::LongString if self.adjacent(1) => {
                matches!(word, "f" | "F" | "r" | "R" | "b" | "B" | "u" | "s")
                    .then(|| self.prefixed_text())
            }
            SyntaxKind::Bang if self.adjacent(1) && self.adjacent(2) => {
                matches!(self.kind_ahead(2), SyntaxKind::LeftParen | SyntaxKind::LeftBracket)
                    .then(|| self.macro_call())
            }
            SyntaxKind::LeftParen => {
                let closing = self.closing[start + 1] as usize;
                let after =
                    if closing > 0 { self.tokens[closing + 1].kind } else { SyntaxKind::End };
                if word == "async" && after == SyntaxKind::FatArrow {
                    self.report(leave_out("a call waits by itself", ""));
                    self.bump();
                    return Some(self.expression());
                }
                let is_function = super::declarations::is_function(word);
                (is_function && after == SyntaxKind::LeftBrace && !self.in_head)
                    .then(|| self.anonymous())
            }
            SyntaxKind::Name if self.operand_ahead(1) => match word {
                "await" | "async" => {
                    self.report(leave_out("a call waits by itself", ""));
                    self.bump();
                    Some(if word == "async" { self.expression() } else { self.prefixed() })
                }
                "new" => {
                    let note = "a record of a type is written `T { field: value }`, and a map `{ key: value }`";
                    let error = self.word_ahead(1).ends_with("Error");
                    if error {
                        let span = place.start..end_of(self.tokens, start + 1);
                        self.foreign("nothing needs `new`", span, "error");
                    } else {
                        let diagnostic = Diagnostic::error("E0115", "nothing needs `new`", place);
                        self.report(diagnostic.label("not needed").note(note));
                    }
                    self.bump();
                    Some(self.prefixed())
                }
                "typeof" => {
                    self.bump();
                    let of = self.prefixed();
                    let meant = format!("type_of({})", self.written(&of));
                    let span = self.span_from(start);
                    self.foreign_read("`typeof` is written `type_of(..)`", place, span, &meant);
                    Some(of)
                }
                "lambda" => Some(self.lambda_word()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What stands behind a word of other languages.
    fn prefixed(&mut self) -> Expr {
        let value = if self.enter() { self.postfix() } else { self.missing() };
        self.leave();
        value
    }

    /// Reports what was read over a whole span, of which `at` is shown.
    fn foreign_read(&mut self, message: &str, at: Span, span: Span, meant: &str) {
        let diagnostic = Diagnostic::error("E0115", message, at);
        let help = format!("did you mean `{}`?", short(meant));
        self.sink.push(diagnostic.fix(span, meant, help));
    }

    /// `f"a {b}"`, `r"a\d"` and other texts with a letter before them.
    fn prefixed_text(&mut self) -> Expr {
        let (start, letter, place) = (self.at, self.text(), self.span());
        self.bump();
        let text = self.text();
        let quotes = if self.at(SyntaxKind::LongString) { 3 } else { 1 };
        let inner = text.get(quotes..text.len().saturating_sub(quotes)).unwrap_or_default();
        let (message, meant) = match letter {
            "f" | "F" => (
                "a text is filled by `format`",
                filled(inner, "{", &text[..quotes.min(text.len())]),
            ),
            "r" | "R" => ("a text has no letter before it", Some(raw(text))),
            _ => ("a text has no letter before it", Some(text.to_owned())),
        };
        self.bump();
        let span = self.span_from(start);
        let diagnostic = Diagnostic::error("E0115", message, place)
            .note("`format(\"{} of {}\", a, b)` fills each `{}` with the next value");
        let diagnostic = match meant {
            Some(meant) => diagnostic.fix(span.clone(), meant, "write it like this"),
            None => diagnostic,
        };
        self.report(diagnostic);
        self.node(SyntaxKind::LiteralExpression, start);
        Expr { kind: ExprKind::Literal(Literal::String(inner.to_owned())), span }
    }

    /// `println!("{}", a)`, `vec![a]`
    fn macro_call(&mut self) -> Expr {
        let (start, name) = (self.at, self.text());
        let place = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        if self.at(SyntaxKind::LeftBracket) {
            let span = place.start..self.span().start;
            self.foreign_read("an array needs no name", place, span, "");
            return self.primary();
        }
        let callee =
            CALLS.iter().find(|(foreign, _)| *foreign == name).map_or(name, |(_, meant)| *meant);
        let span = self.span_from(start);
        let head = Expr {
            kind: ExprKind::Name(callee.to_owned()),
            span: start_of(self.tokens, start)..end_of(self.tokens, start),
        };
        let kind = self.call(head);
        let whole = self.span_from(start);
        let given = match &kind {
            ExprKind::Call { args, .. } => {
                args.iter().map(|arg| self.written(&arg.value)).collect()
            }
            _ => Vec::new(),
        };
        let all = given.join(", ");
        let meant = match callee {
            "print" if given.len() > 1 => format!("print(format({all}))"),
            "error" if given.len() > 1 => format!("error(format({all}))"),
            callee => format!("{callee}({all})"),
        };
        let meant = if name == "panic" { format!("return {meant}") } else { meant };
        let message = format!("`{name}!` is a call without `!` here");
        self.foreign_read(&message, span, whole.clone(), &meant);
        self.node(SyntaxKind::CallExpression, start);
        Expr { kind, span: whole }
    }

    /// `function(x) { return x; }` without a name, read as a lambda.
    fn anonymous(&mut self) -> Expr {
        let start = self.at;
        let word = self.text();
        self.bump();
        let params = self.params();
        let head = self.span_from(start);
        let meant = format!("{} =>", &self.source[start_of(self.tokens, start + 1)..head.end]);
        self.foreign(format!("a `{word}` without a name is written `(a, b) => ..`"), head, &meant);
        let body = Box::new(self.block());
        self.node(SyntaxKind::LambdaExpression, start);
        Expr { kind: ExprKind::Lambda { params, body }, span: self.span_from(start) }
    }

    /// `lambda a, b: e`
    fn lambda_word(&mut self) -> Expr {
        let start = self.at;
        self.bump();
        let params = self.loose_params();
        self.expect(SyntaxKind::Colon, "`:`");
        self.barless(start, params)
    }

    /// Whether `|x|` or `||` stands here, which begins a lambda in other languages.
    pub(super) fn at_bars(&self) -> bool {
        if self.text() == "||" {
            return true;
        }
        use SyntaxKind::{Colon, Comma, Greater, Less, Name};
        let of_params =
            |ahead| matches!(self.kind_ahead(ahead), Name | Comma | Colon | Less | Greater);
        let end = (1..FAR).find(|ahead| !of_params(*ahead));
        end.is_some_and(|end| end > 1 && self.text_of(self.at + end) == "|")
    }

    /// `|a, b| e` and `|| e`, read as `(a, b) => e`.
    pub(super) fn barred_lambda(&mut self) -> Expr {
        let start = self.at;
        let none = self.text() == "||";
        self.bump();
        let params = if none { Vec::new() } else { self.loose_params() };
        if !none {
            self.bump();
        }
        self.barless(start, params)
    }

    fn loose_params(&mut self) -> Vec<Param> {
        let mut params = Vec::new();
        while self.at(SyntaxKind::Name) {
            let name = self.name("a name");
            // A colon ends what follows `lambda`, and begins a type between bars.
            let typed = self.at(SyntaxKind::Colon) && self.kind_ahead(1) == SyntaxKind::Name && {
                let barred = |ahead| {
                    self.text_of(self.at + ahead) == "|"
                        || self.kind_ahead(ahead) == SyntaxKind::Comma
                        || self.kind_ahead(ahead) == SyntaxKind::Less
                };
                barred(2)
            };
            let ty = if typed {
                self.bump();
                Some(self.one_type())
            } else {
                None
            };
            params.extend(name.map(|name| Param { name, ty }));
            self.eat(SyntaxKind::Comma);
        }
        params
    }

    /// The body of a lambda, whose head was read from `start`.
    fn barless(&mut self, start: usize, params: Vec<Param>) -> Expr {
        let head = self.span_from(start);
        let names: Vec<String> = (params.iter())
            .map(|param| match &param.ty {
                Some(ty) => format!("{}: {}", param.name.node, &self.source[ty.span.clone()]),
                None => param.name.node.clone(),
            })
            .collect();
        let meant = format!("({}) =>", names.join(", "));
        let message = format!("`{}` is written `{meant}`", short(&self.source[head.clone()]));
        self.sink.push(Diagnostic::error("E0115", message, head).did_you_mean(Some(&meant)));
        let body = Box::new(self.arm_body());
        self.node(SyntaxKind::LambdaExpression, start);
        Expr { kind: ExprKind::Lambda { params, body }, span: self.span_from(start) }
    }

    /// `...xs`, `&x` and `*x` in front of an expression.
    pub(super) fn foreign_sign(&mut self) {
        let dots =
            self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) && self.kind_ahead(2) == SyntaxKind::Dot;
        let begins = matches!(
            self.kind_ahead(1),
            SyntaxKind::Name | SyntaxKind::LeftParen | SyntaxKind::LeftBracket
        );
        if dots {
            let span = self.span().start..self.span().end + 2;
            let diagnostic = Diagnostic::error("E0115", "there is no `...`", span)
                .label("expected an expression")
                .note("`xs + ys` joins two arrays, and `a.merge(b)` two maps");
            self.report(diagnostic);
            (0..3).for_each(|_| self.bump());
        } else if matches!(self.text(), "*" | "&") && begins {
            let mutable = self.word_ahead(1) == "mut" && self.operand_ahead(2);
            let next = self.at + 1 + usize::from(mutable);
            let span = self.span().start..start_of(self.tokens, next);
            let diagnostic = Diagnostic::error("E0115", "there are no references", self.span())
                .label("not needed: passing a value copies it")
                .fix(span, "", "leave it out");
            self.report(diagnostic);
            self.at = next;
        }
    }

    /// What other languages write behind a value: `a?.b`, `a!`, `a::b`, `a as T`, `a ** b`. It gives what
    /// was read, with the value, where there is some of it.
    pub(super) fn foreign_suffix(&mut self, value: &mut Expr, start: usize) -> bool {
        match self.kind() {
            SyntaxKind::Question => self.foreign_mark(),
            SyntaxKind::Bang => {
                use SyntaxKind::{Comma, Dot, RightBracket, RightParen, Semicolon};
                let ends = matches!(
                    self.kind_ahead(1),
                    Comma | Dot | RightBracket | RightParen | Semicolon
                );
                let found = self.adjacent(0) && ends;
                if found {
                    let diagnostic =
                        Diagnostic::error("E0115", "nothing needs a `!` behind it", self.span())
                            .fix(self.span(), "", "leave it out");
                    self.report(diagnostic);
                    self.bump();
                }
                found
            }
            SyntaxKind::Star
                if self.at_both(SyntaxKind::Star, SyntaxKind::Star)
                    && self.foreign_assign().is_none() =>
            {
                let mark = self.span().start..self.span().end + 1;
                self.bump();
                self.bump();
                let by = if self.enter() { self.unary() } else { self.missing() };
                self.leave();
                let span = self.span_from(start);
                let meant = format!("{}.pow({})", self.written(value), self.written(&by));
                self.foreign_read("there is no operator `**`", mark.clone(), span.clone(), &meant);
                self.node(SyntaxKind::CallExpression, start);
                let of = Box::new(std::mem::replace(value, self.missing()));
                let name = Spanned { node: "pow".to_owned(), span: mark };
                let callee = Expr { kind: ExprKind::Member(of, name), span: span.clone() };
                let args = vec![Arg { name: None, value: by }];
                *value = Expr { kind: ExprKind::Call { callee: Box::new(callee), args }, span };
                true
            }
            SyntaxKind::Name
                if self.at_word("as")
                    && !self.first_on_line()
                    && self.kind_ahead(1) == SyntaxKind::Name =>
            {
                let (place, end) = (self.span(), self.after_last().end);
                self.bump();
                let ty = self.one_type();
                let written = &self.source[ty.span.clone()];
                let cast = CASTS.iter().find(|(types, _)| types.contains(&written));
                let diagnostic = Diagnostic::error("E0115", "there is no `as`", place);
                let diagnostic = match cast {
                    Some((_, method)) => {
                        let help = format!("`{method}` does that");
                        diagnostic.fix(end..ty.span.end, *method, help)
                    }
                    None => diagnostic
                        .note("a value is what it is; `let x: T = e` says what it has to be")
                        .fix(end..ty.span.end, "", "leave it out"),
                };
                self.report(diagnostic);
                true
            }
            _ => false,
        }
    }

    /// The `?` of `a?.b`, and a `?` that nothing follows; false where it may be that of `c ? a : b`.
    fn foreign_mark(&mut self) -> bool {
        use SyntaxKind::{Comma, End, RightBrace, RightBracket, RightParen, Semicolon};
        let member = self.at_both(SyntaxKind::Question, SyntaxKind::Dot);
        let nothing = matches!(
            self.kind_ahead(1),
            Semicolon | Comma | RightParen | RightBracket | RightBrace | End
        );
        if !member && !nothing {
            return false;
        }
        let (message, note) = match member {
            true => ("`?.` is written `.`", "`.name` of a record that lacks the key is `null`"),
            false => {
                ("an error needs no `?`", "an error that nobody catches is passed on by itself")
            }
        };
        let span = self.span();
        let diagnostic = Diagnostic::error("E0115", message, span.clone()).note(note).fix(
            span,
            "",
            "leave it out",
        );
        self.report(diagnostic);
        self.bump();
        true
    }

    /// `n.0` behind a value, of which the dot has been read, as an index.
    pub(super) fn numbered(&mut self, of: Expr) -> Result<ExprKind, Expr> {
        if !self.at(SyntaxKind::Int) || !self.adjacent(0) {
            return Err(of);
        }
        let (dot, number) = (self.after_last().start - 1, self.span());
        let text = self.text();
        let meant = format!("[{text}]");
        self.foreign(format!("`.{text}` is written `{meant}`"), dot..number.end, &meant);
        let index = self.literal().unwrap_or(Literal::Int(0));
        let index = Expr { kind: ExprKind::Literal(index), span: number };
        Ok(ExprKind::Index(Box::new(of), Box::new(index)))
    }

    /// An operator of another language: what it is read as, how tight it binds, and how many tokens it is.
    pub(super) fn foreign_operator(&mut self) -> Option<(BinaryOp, u8, usize)> {
        use SyntaxKind::*;
        if self.at(Dot) {
            let text = matches!(self.kind_ahead(1), String | LongString);
            if text {
                self.foreign("`.` joins no texts", self.span(), "+");
            }
            return text.then_some((BinaryOp::Add, 4, 1));
        }
        let row = OPERATORS.iter().find(|(words, ..)| {
            words.iter().enumerate().all(|(ahead, word)| {
                self.text_of(self.at + ahead) == *word
                    && (ahead == 0 || self.at(Name) || self.adjacent(ahead))
            })
        });
        let (words, meant, op, precedence) = row?;
        let count = words.len();
        // A word may be a key or a name.
        let operand = matches!(
            self.kind_ahead(count),
            Name | Int | Float | String | LeftParen | Bang | Minus | LeftBracket
        );
        if self.at(Name) && !operand {
            return None;
        }
        let span = self.span().start..end_of(self.tokens, self.at + count - 1);
        let written = &self.source[span.clone()];
        match (*meant, words[0]) {
            ("", "instanceof") => {
                let diagnostic = Diagnostic::error("E0115", "there is no `instanceof`", span)
                    .label("no operator")
                    .note("`type_of(x) == \"string\"` asks for the type of a value");
                self.report(diagnostic);
            }
            ("", _) => {
                let message = format!("there is no operator `{written}`");
                let diagnostic = Diagnostic::error("E0115", message, span)
                    .label("no operators on bits")
                    .note("`n * 2.pow(k)` and `n / 2.pow(k)` shift");
                self.report(diagnostic);
            }
            (meant, "&" | "|") => {
                self.foreign(format!("there is no operator `{written}`"), span, meant);
            }
            (meant, _) => self.foreign(format!("`{written}` is written `{meant}`"), span, meant),
        }
        Some((*op, *precedence, count))
    }

    /// What stands here of [`ASSIGNMENTS`].
    pub(super) fn foreign_assign(&self) -> Option<&'static str> {
        use SyntaxKind::{AndAnd, Greater, Less, OrOr, Question, Star};
        if !matches!(self.kind(), AndAnd | Greater | Less | OrOr | Question | Star) {
            return None;
        }
        let rest = &self.source[self.span().start..];
        ASSIGNMENTS.into_iter().find(|op| rest.starts_with(op))
    }

    /// `x ||= e`, behind the `x`.
    pub(super) fn foreign_assignment(&mut self, start: usize, target: Expr, op: &str) -> StmtKind {
        let mark = self.span().start..self.span().start + op.len();
        while !self.at_end() && self.span().start < mark.end {
            self.bump();
        }
        let value = self.expression();
        let (x, v) = (self.written(&target), self.operand(&value));
        let meant = match op {
            "&&=" | "&=" => Some(format!("{x} = {x} && {v}")),
            "||=" | "|=" => Some(format!("{x} = {x} || {v}")),
            "**=" => Some(format!("{x} = {x}.pow({v})")),
            "??=" => Some(format!("if {x} == null {{ {x} = {v}; }}")),
            _ => None,
        };
        let message = format!("there is no operator `{op}`");
        match meant {
            Some(meant) => self.foreign_read(&message, mark, self.span_from(start), &meant),
            None => self
                .sink
                .push(Diagnostic::error("E0115", message, mark).label("no operators on bits")),
        }
        self.node(SyntaxKind::Assign, start);
        StmtKind::Assign { target, op: None, value }
    }

    /// Whether `++` or `--` stands here, and is no sum.
    pub(super) fn at_step(&self) -> bool {
        use SyntaxKind::{Comma, End, LeftBrace, RightBrace, RightBracket, RightParen, Semicolon};
        let after = self.tokens.get(self.at + 2);
        (self.at_both(SyntaxKind::Plus, SyntaxKind::Plus)
            || self.at_both(SyntaxKind::Minus, SyntaxKind::Minus))
            && after.is_none_or(|after| {
                after.first_on_line
                    || matches!(
                        after.kind,
                        Semicolon
                            | RightBrace
                            | RightParen
                            | RightBracket
                            | Comma
                            | LeftBrace
                            | End
                    )
            })
    }

    /// Whether `++n` or `--n` stands here as a whole statement.
    pub(super) fn at_step_before(&self) -> bool {
        self.kind_ahead(2) == SyntaxKind::Name
            && (self.at_both(SyntaxKind::Plus, SyntaxKind::Plus)
                || self.at_both(SyntaxKind::Minus, SyntaxKind::Minus)
                    && self.kind_ahead(3) == SyntaxKind::Semicolon)
    }

    /// `i++` and `++i`, read as `i += 1`.
    pub(super) fn step(&mut self, start: usize, target: Option<Expr>) -> StmtKind {
        let (op, meant) = match self.kind() {
            SyntaxKind::Minus => (BinaryOp::Subtract, "-= 1"),
            _ => (BinaryOp::Add, "+= 1"),
        };
        let written = if op == BinaryOp::Add { "++" } else { "--" };
        let signs = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        let target = target.unwrap_or_else(|| self.postfix());
        let text = format!("{} {meant}", self.written(&target));
        let span = target.span.start.min(signs.start)..target.span.end.max(signs.end);
        self.foreign(format!("there is no operator `{written}`"), span, &text);
        self.node(SyntaxKind::Assign, start);
        let one = Expr { kind: ExprKind::Literal(Literal::Int(1)), span: signs };
        StmtKind::Assign { target, op: Some(op), value: one }
    }

    /// `a..b` and `a..=b`, for a range. It is read as what has elements.
    pub(super) fn foreign_range(&mut self, from: Expr, start: usize) -> Expr {
        let mark = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        let inclusive = self.eat(SyntaxKind::Equals);
        let to = self.postfix();
        self.node(SyntaxKind::ArrayExpression, start);
        let span = self.span_from(start);
        let [first, last] = [&from, &to].map(|end| self.written(end));
        let more = if inclusive { " + 1" } else { "" };
        let written = if inclusive { "..=" } else { ".." };
        let fix = format!("range({first}, {last}{more})");
        let diagnostic =
            Diagnostic::error("E0115", format!("there is no operator `{written}`"), mark)
                .label("expected `range`")
                .fix(span.clone(), fix, "a range leaves its end out");
        self.report(diagnostic);
        Expr { kind: ExprKind::Array(vec![from, to]), span }
    }

    /// The `a:b` of `x[a:b]`, for a part of a list.
    pub(super) fn foreign_slice(&mut self, first: Option<Expr>, open: usize, start: usize) -> Expr {
        let colon = self.span();
        self.bump();
        let last = (!self.at(SyntaxKind::RightBracket)).then(|| self.expression());
        let ends: Vec<String> = match (&first, &last) {
            (None, None) => vec!["0".to_owned()],
            (None, Some(last)) => vec!["0".to_owned(), self.written(last)],
            (Some(first), last) => {
                std::iter::once(first).chain(last).map(|of| self.written(of)).collect()
            }
        };
        let mut diagnostic = Diagnostic::error("E0115", "there are no slices in brackets", colon)
            .label("expected `]`");
        if self.at(SyntaxKind::RightBracket) {
            let whole = start_of(self.tokens, open)..self.span().end;
            let meant = format!(".slice({})", ends.join(", "));
            diagnostic = diagnostic.fix(whole, meant, "a part of an array or of a text");
        }
        self.report(diagnostic);
        first.unwrap_or_else(|| Expr {
            kind: ExprKind::Literal(Literal::Int(0)),
            span: self.span_from(start),
        })
    }

    /// `(a, b)`, for several values in one.
    pub(super) fn foreign_tuple(&mut self, first: Expr, start: usize) -> Expr {
        let mut elements = vec![first];
        while self.eat(SyntaxKind::Comma) && !self.at(SyntaxKind::RightParen) {
            elements.push(self.expression());
        }
        let closes = self.at(SyntaxKind::RightParen);
        self.expect_closing(start, SyntaxKind::RightParen);
        self.node(SyntaxKind::ArrayExpression, start);
        let span = self.span_from(start);
        if closes {
            let inside = &self.source[span.start + 1..span.end - 1];
            let meant = format!("[{inside}]");
            let diagnostic = Diagnostic::error("E0115", "there are no tuples", span.clone())
                .label("several values in parentheses")
                .fix(span.clone(), meant, "an array holds several values");
            self.sink.push(diagnostic);
        }
        Expr { kind: ExprKind::Array(elements), span }
    }

    /// A key of a record that is no name and no text: `...xs`, `1:` and `[e]:`. Nothing where something
    /// else stands.
    pub(super) fn foreign_field(&mut self) -> bool {
        match self.kind() {
            SyntaxKind::Dot => {
                self.foreign_sign();
                self.expression();
                true
            }
            SyntaxKind::Int if self.kind_ahead(1) == SyntaxKind::Colon => {
                let meant = format!("\"{}\"", self.text());
                self.foreign("a key is a name or a text", self.span(), &meant);
                self.bump();
                self.bump();
                self.expression();
                true
            }
            SyntaxKind::LeftBracket if self.closing[self.at] > 0 => {
                let diagnostic =
                    Diagnostic::error("E0115", "a key is a name or a text", self.span())
                        .label("a key that is worked out")
                        .note("`let m = {}; m[key] = value;` puts a value under it");
                self.report(diagnostic);
                self.skip_one();
                if self.eat(SyntaxKind::Colon) {
                    self.expression();
                }
                true
            }
            _ => false,
        }
    }
}

fn start_of(tokens: &[crate::syntax::Token], at: usize) -> usize {
    tokens.get(at).map_or(0, |token| token.start as usize)
}

fn end_of(tokens: &[crate::syntax::Token], at: usize) -> usize {
    tokens.get(at).map_or(0, |token| token.end as usize)
}
