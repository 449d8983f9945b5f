//! Tokens to program.
//!
//! A recursive descent over the tokens. Each function reads one construct from the current token
//! on, builds its part of the program and notes its node. Where something else is found than was
//! expected, that is reported once per place, and the function that owns the list around it skips
//! to where its next entry may begin.

mod declarations;
mod expressions;
mod foreign;
mod statements;
mod types;

pub(crate) use declarations::{KEYWORDS, is_function};

use crate::diagnostic::{Diagnostic, Sink};
use crate::hir::{self, Span, Spanned};
use crate::syntax::lexer::Token;
use crate::syntax::literal::short;
use crate::syntax::{MAX_DEPTH, SyntaxKind, literal};

/// A node of the syntax tree: its kind, and its tokens from `start` up to and without `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: SyntaxKind,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What the parser made.
pub(super) struct Output {
    pub(super) program: hir::Program,
    /// In the order in which they ended.
    pub(super) nodes: Vec<Node>,
}

/// Reads the tokens, of which the last is [`SyntaxKind::End`]. What stands from `end` on is nobody's
/// text: it is told as the end.
pub(super) fn parse(source: &str, tokens: &[Token], end: usize, sink: &mut Sink) -> Output {
    let mut parser = Parser {
        source,
        tokens,
        end,
        closing: brackets(tokens).0,
        at: 0,
        nodes: Vec::with_capacity(tokens.len()),
        sink,
        depth: 0,
        deepest: 0,
        reported_at: None,
        in_head: false,
        in_value: false,
        asks: None,
        may_step: false,
        mends: Vec::new(),
        unbraced: 0,
        tried: 0,
        ended_at: None,
    };
    let program = parser.program();
    Output { program, nodes: parser.nodes }
}

/// For each opening bracket the number of the token that closes it; 0 where there is none, and for
/// all other tokens. And the brackets that are open at the end.
fn brackets(tokens: &[Token]) -> (Vec<u32>, Vec<usize>) {
    use SyntaxKind::{LeftBrace, LeftBracket, LeftParen, RightBrace, RightBracket, RightParen};
    let mut closing = vec![0; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let opener = match token.kind {
            LeftParen | LeftBracket | LeftBrace => {
                open.push(at);
                continue;
            }
            RightParen => LeftParen,
            RightBracket => LeftBracket,
            // A brace also ends the parentheses and brackets that somebody forgot to close in it.
            RightBrace => {
                while open.last().is_some_and(|open| tokens[*open].kind != LeftBrace) {
                    open.pop();
                }
                LeftBrace
            }
            _ => continue,
        };
        if let Some(last) = open.last()
            && tokens[*last].kind == opener
        {
            closing[*last] = u32::try_from(at).unwrap_or(0);
            open.pop();
        }
    }
    (closing, open)
}

/// What is told of the innermost bracket that is open at the end, if one is.
pub(super) fn open_bracket(source: &str, tokens: &[Token]) -> Option<Diagnostic> {
    let (_, open) = brackets(tokens);
    let token = tokens[*open.last()?];
    let end = tokens.iter().rev().nth(1).map_or(0, |last| last.end as usize);
    Some(not_closed(source, token, end..end, "the end of the text"))
}

/// What is told of a bracket that lacks its other half, which would stand at `place`.
fn not_closed(source: &str, opening: Token, place: Span, found: &str) -> Diagnostic {
    let bracket = match opening.kind {
        SyntaxKind::LeftParen => ")",
        SyntaxKind::LeftBracket => "]",
        _ => "}",
    };
    let span = opening.start as usize..opening.end as usize;
    let written = &source[span.clone()];
    let message = format!("`{written}` is not closed: expected `{bracket}`, found {found}");
    Diagnostic::error("E0103", message, span).label("opened here").fix(
        place,
        bracket,
        format!("add `{bracket}`"),
    )
}

/// What a list of parameters is called where one is missing.
const PARAMETERS: &str = "`(` and parameters";

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    /// Where the text ends that somebody wrote.
    end: usize,
    closing: Vec<u32>,
    /// The number of the current token.
    at: usize,
    nodes: Vec<Node>,
    sink: &'a mut Sink,
    /// How deep the parser is.
    depth: usize,
    /// How deep the program got in what is being read.
    deepest: usize,
    /// The token at which the last fault was reported: nothing more is said about it.
    reported_at: Option<usize>,
    /// Whether this is the head of an `if`, `while`, `for`, `match` or `with`, where `{` opens the
    /// block and no record.
    in_head: bool,
    /// Whether this is within an `if` that is a value, whose statement goes on behind it.
    in_value: bool,
    /// The `(` of a call that is meant to be one of a method of what stands in it.
    asks: Option<usize>,
    /// Whether the next expression is a statement, behind which `++` may stand.
    may_step: bool,
    /// What of the statement at hand is written otherwise here, and was not told yet.
    mends: Vec<foreign::Mend>,
    /// How many blocks around this place lack their braces.
    unbraced: usize,
    /// How many `try` there are around this place, whose `catch` is yet to come.
    tried: usize,
    /// The token before which a statement ended that has no `;` and no brace at its end.
    ended_at: Option<usize>,
}

impl<'a> Parser<'a> {
    // Looking.

    fn kind(&self) -> SyntaxKind {
        self.tokens[self.at].kind
    }

    /// The kind of the token `ahead` of the current one.
    fn kind_ahead(&self, ahead: usize) -> SyntaxKind {
        self.tokens.get(self.at + ahead).map_or(SyntaxKind::End, |token| token.kind)
    }

    fn at(&self, kind: SyntaxKind) -> bool {
        self.kind() == kind
    }

    fn at_end(&self) -> bool {
        self.at(SyntaxKind::End)
    }

    fn text_of(&self, token: usize) -> &'a str {
        let Some(token) = self.tokens.get(token) else { return "" };
        &self.source[token.start as usize..token.end as usize]
    }

    fn text(&self) -> &'a str {
        self.text_of(self.at)
    }

    /// The current token's text if it is a name, and the empty text if not.
    fn word(&self) -> &'a str {
        self.word_ahead(0)
    }

    fn word_ahead(&self, ahead: usize) -> &'a str {
        match self.kind_ahead(ahead) {
            SyntaxKind::Name => self.text_of(self.at + ahead),
            _ => "",
        }
    }

    fn at_word(&self, word: &str) -> bool {
        self.word() == word
    }

    fn first_on_line(&self) -> bool {
        self.tokens[self.at].first_on_line
    }

    fn span(&self) -> Span {
        let token = self.tokens[self.at];
        token.start as usize..token.end as usize
    }

    /// From token `start` to the last one read; where nothing was read, the place before `start`.
    fn span_from(&self, start: usize) -> Span {
        let begin = self.tokens[start].start as usize;
        match self.at.checked_sub(1) {
            Some(last) if last >= start => begin..self.tokens[last].end as usize,
            Some(_) | None => begin..begin,
        }
    }

    /// Right after the last token read.
    fn after_last(&self) -> Span {
        let end = self.at.checked_sub(1).map_or(0, |last| self.tokens[last].end as usize);
        end..end
    }

    // Going on.

    fn bump(&mut self) {
        if !self.at_end() {
            self.at += 1;
        }
        // Nobody knows what was meant to stand between a text that has no end and this.
        if self.after_unclosed() {
            self.reported_at = Some(self.at);
        }
    }

    /// Whether the last token read is a text that lacks its closing quotes.
    fn after_unclosed(&self) -> bool {
        self.at > 0 && self.tokens[self.at - 1].unclosed
    }

    fn eat(&mut self, kind: SyntaxKind) -> bool {
        let found = self.at(kind);
        if found {
            self.bump();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.bump();
        }
        found
    }

    /// Notes that the tokens from `start` to the last one read are a node.
    fn node(&mut self, kind: SyntaxKind, start: usize) {
        if self.at > start {
            let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            self.nodes.push(Node { kind, start: number(start), end: number(self.at) });
        }
    }

    /// Passes over the current token, and over all that is in it if it is a bracket.
    fn skip_one(&mut self) {
        match self.closing[self.at] {
            0 => self.bump(),
            closing => self.at = closing as usize + 1,
        }
    }

    // Faults.

    /// Reports a fault at the current token, unless one was reported there already.
    fn report(&mut self, diagnostic: Diagnostic) {
        // Behind a comment that never ends nobody knows what there is.
        let cut = self.at_end() && self.tokens[self.at].unclosed;
        if self.reported_at != Some(self.at) && !cut {
            self.reported_at = Some(self.at);
            // What is missing here may be what means nothing, which was told.
            let before = self.after_last().start..self.span().start;
            match self.sink.is_told("E0106", &before) {
                true => self.sink.lost(before),
                false => self.sink.push(diagnostic),
            }
        }
    }

    /// The current token in words.
    fn found(&self) -> String {
        match self.kind() {
            _ if self.tokens[self.at].start as usize >= self.end => {
                "the end of the text".to_owned()
            }
            SyntaxKind::String | SyntaxKind::LongString => "a text".to_owned(),
            _ => format!("`{}`", short(self.text())),
        }
    }

    /// Reports what other languages write here; `meant` is what ours writes in its place.
    fn foreign(&mut self, message: impl Into<String>, span: Span, meant: &str) {
        let diagnostic = Diagnostic::error("E0115", message, span).did_you_mean(Some(meant));
        self.report(diagnostic);
    }

    /// Whether the current token and the one after it are these, with nothing in between.
    fn at_both(&self, first: SyntaxKind, second: SyntaxKind) -> bool {
        self.kind() == first
            && self.kind_ahead(1) == second
            && self.tokens[self.at].end == self.tokens[self.at + 1].start
    }

    /// Reads the `:` of `:=`, which is meant to be `=`.
    fn walrus(&mut self) {
        if self.at_both(SyntaxKind::Colon, SyntaxKind::Equals) {
            let span = self.span().start..self.tokens[self.at + 1].end as usize;
            self.foreign("`:=` is written `=`", span, "=");
            self.bump();
        }
    }

    /// Reports that `what` should be here.
    fn expected(&mut self, what: &str) {
        let message = format!("expected {what}, found {}", self.found());
        let diagnostic =
            Diagnostic::error("E0101", message, self.span()).label(format!("expected {what}"));
        self.report(diagnostic);
    }

    /// Reports that `what` should stand behind the last token, whose line something else follows.
    fn lacks(&mut self, what: &str) {
        let message = format!("expected {what}, found {}", self.found());
        let place = self.after_last();
        let diagnostic =
            Diagnostic::error("E0101", message, place).label(format!("expected {what}"));
        self.report(diagnostic);
    }

    /// Reads a token of this kind; reports and reads nothing if there is another.
    fn expect(&mut self, kind: SyntaxKind, what: &str) -> bool {
        let found = self.eat(kind);
        if !found {
            self.expected(what);
        }
        found
    }

    /// Reads the bracket that closes the one with number `open`.
    fn expect_closing(&mut self, open: usize, kind: SyntaxKind) {
        if self.eat(kind) {
            return;
        }
        if self.halved() {
            return;
        }
        let diagnostic =
            not_closed(self.source, self.tokens[open], self.after_last(), &self.found());
        self.report(diagnostic);
    }

    /// Reads a name; `what` is it for.
    fn name(&mut self, what: &str) -> Option<Spanned<String>> {
        if !self.at(SyntaxKind::Name) {
            self.expected(what);
            return None;
        }
        let name = Spanned { node: self.text().to_owned(), span: self.span() };
        self.bump();
        Some(name)
    }

    /// A name that is not there.
    fn no_name(&self) -> Spanned<String> {
        let start = self.span().start;
        Spanned { node: String::new(), span: start..start }
    }

    /// Reads a key: a name or a text.
    fn key(&mut self) -> Option<Spanned<String>> {
        let span = self.span();
        let node = match self.kind() {
            SyntaxKind::Name => self.text().to_owned(),
            SyntaxKind::String => literal::string_value(self.text(), 1, span.start, self.sink),
            _ => return None,
        };
        self.bump();
        Some(Spanned { node, span })
    }

    // Depth.

    /// Goes a level deeper. Where that is too deep, it reports, passes over what is there, and
    /// gives false; `leave` follows in both cases.
    fn enter(&mut self) -> bool {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth <= MAX_DEPTH {
            return true;
        }
        self.too_deep();
        false
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Counts one more link of a chain whose left side was read; false where that is too deep.
    fn link(&mut self) -> bool {
        self.deepest += 1;
        if self.deepest <= MAX_DEPTH {
            return true;
        }
        self.too_deep();
        false
    }

    /// Reports that it nests too deep here, and passes over the rest of it.
    fn too_deep(&mut self) {
        use SyntaxKind::{Comma, End, RightBrace, RightBracket, RightParen, Semicolon};
        let diagnostic = Diagnostic::error("E0107", "this nests too deep", self.span())
            .label(format!("more than {MAX_DEPTH} levels"))
            .note("give parts of it names with `let`, or put them into functions");
        self.report(diagnostic);
        let start = self.at;
        while !matches!(
            self.kind(),
            Comma | Semicolon | RightParen | RightBracket | RightBrace | End
        ) {
            self.skip_one();
        }
        self.node(SyntaxKind::Error, start);
        // What is missing here was just explained.
        self.reported_at = Some(self.at);
    }

    // Lists.

    /// Reads `open entry, entry close`, where commas are needed between entries and one may follow
    /// the last. Parameters end at the `{` or `->` after them even if nobody closed them.
    fn list(
        &mut self,
        open: SyntaxKind,
        close: SyntaxKind,
        what: &str,
        mut entry: impl FnMut(&mut Self),
    ) {
        let opened = self.at;
        if !self.expect(open, what) {
            return;
        }
        let params = what == PARAMETERS;
        let head = std::mem::replace(&mut self.in_head, false);
        // Of several entries in a row without a comma, the first is told of.
        let mut lost = false;
        while !self.at(close) && !self.at_list_end(opened, params) {
            let before = self.at;
            entry(self);
            if self.eat(SyntaxKind::Comma) || self.at(close) {
                lost = false;
                continue;
            }
            if self.at_list_end(opened, params) {
                break;
            }
            if self.halved() {
                break;
            }
            let diagnostic = {
                let place = self.after_last();
                let message =
                    format!("expected `,` or the end of the list, found {}", self.found());
                Diagnostic::error("E0101", message, self.span())
                    .label("expected `,`")
                    .fix(place, ",", "add `,`")
            };
            if !std::mem::replace(&mut lost, true) {
                self.report(diagnostic);
            }
            // An entry that begins right here is read as one; else this is passed over.
            if self.at == before || !self.begins_expression() {
                let start = self.at;
                while !matches!(self.kind(), SyntaxKind::Comma)
                    && !self.at(close)
                    && !self.at_list_end(opened, params)
                {
                    self.skip_one();
                }
                self.node(SyntaxKind::Error, start);
                self.eat(SyntaxKind::Comma);
            }
        }
        self.in_head = head;
        self.expect_closing(opened, close);
    }

    /// Whether a list that is still open cannot go on here: somebody forgot to close it.
    fn at_list_end(&self, opened: usize, params: bool) -> bool {
        use SyntaxKind::{End, RightBrace, RightBracket, RightParen, Semicolon};
        if params && matches!(self.kind(), SyntaxKind::LeftBrace | SyntaxKind::ThinArrow) {
            return true;
        }
        // Only where its other half lacks may something end it that could be an entry.
        let lost = self.closing[opened] == 0
            && if self.first_on_line() {
                self.after_unclosed() || self.at_item() || self.at_rule()
            } else {
                self.at_condition(opened)
            };
        lost || matches!(self.kind(), End | Semicolon | RightBrace | RightBracket | RightParen)
            || (self.first_on_line() && self.at_plain_statement())
            || self.at_declaration()
    }

    /// Whether an `if` stands right behind an entry of a list.
    fn at_condition(&self, opened: usize) -> bool {
        self.at_word("if")
            && self.at > opened + 1
            && self.tokens[self.at - 1].kind != SyntaxKind::Comma
    }

    /// Whether a declaration of the outermost level begins here: its keyword and a name stand at
    /// the very beginning of a line. Inside a block that means that the block was not closed.
    fn at_declaration(&self) -> bool {
        let start = self.span().start;
        self.first_on_line()
            && (start == 0 || self.source.as_bytes()[start - 1] == b'\n')
            && declarations::is_keyword(self.word())
            && (self.kind_ahead(1) == SyntaxKind::Name
                || (self.at_word("metadata") && self.kind_ahead(1) == SyntaxKind::LeftBrace))
            && matches!(
                self.kind_ahead(2),
                SyntaxKind::LeftBrace
                    | SyntaxKind::LeftParen
                    | SyntaxKind::ThinArrow
                    | SyntaxKind::Equals
                    | SyntaxKind::Name
            )
    }
}
