//! Text to tokens.
//!
//! Every byte of the source is in exactly one token. What the parser reads and what it passes over
//! (layout, comments, characters that mean nothing) come in two lists, both in order. One pass,
//! each byte is looked at a bounded number of times.

use crate::diagnostic::{Diagnostic, Sink, Told};
use crate::syntax::SyntaxKind::{self, *};
use crate::syntax::literal::{DURATION_WORDS, filled, short};

/// A token: its kind and its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: SyntaxKind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Whether it is the first on its line.
    pub(crate) first_on_line: bool,
    /// Whether it is a text that lacks its closing quotes, or the end of a source in a comment.
    pub(crate) unclosed: bool,
}

/// What the lexer made of a source.
pub(crate) struct Lexed {
    /// What the parser reads. The last one is [`End`], with no text.
    pub(crate) tokens: Vec<Token>,
    /// The rest.
    pub(crate) trivia: Vec<Token>,
}

/// Splits the source, which has to be shorter than 4 GiB.
pub(crate) fn lex(source: &str, sink: &mut Sink) -> Lexed {
    read(source, usize::MAX, sink)
}

/// The first so many tokens of the source, and what stands between them. One that is not there is the
/// [`End`].
pub(crate) fn lex_first(source: &str, count: usize) -> Lexed {
    read(source, count, &mut Sink::default())
}

fn read(source: &str, most: usize, sink: &mut Sink) -> Lexed {
    let capacity = (source.len() / 4 + 1).min(most);
    let mut lexer = Lexer {
        source,
        bytes: source.as_bytes(),
        start: 0,
        at: 0,
        suspect: None,
        quotes_run_out: false,
        unquoted: (0, 0),
        unclosed: false,
        cut: false,
        lexed: Lexed { tokens: Vec::with_capacity(capacity), trivia: Vec::new() },
        fresh_line: true,
        sink,
    };
    while lexer.at < source.len() {
        if lexer.lexed.tokens.len() >= most {
            return lexer.lexed;
        }
        lexer.start = lexer.at;
        let kind = lexer.token();
        lexer.push(kind);
    }
    lexer.start = source.len();
    lexer.unclosed = lexer.cut;
    lexer.push(End);
    lexer.lexed
}

/// How far the lexer was before a text.
struct Mark {
    at: usize,
    tokens: usize,
    trivia: usize,
    fresh_line: bool,
    told: Told,
}

struct Lexer<'a> {
    source: &'a str,
    bytes: &'a [u8],
    /// Where the current token starts.
    start: usize,
    at: usize,
    /// Before the first text that goes over several lines and has what begins texts right behind it:
    /// if the quotes run out, what closes it was most likely meant to open another.
    suspect: Option<Mark>,
    /// A string was not closed before the end: from here on strings end with their line at the
    /// latest, so that the rest of the source is not searched again and again.
    quotes_run_out: bool,
    /// A quote of other languages, and up to where none of it closes a text.
    unquoted: (u8, usize),
    /// Whether the text that was just read lacks its closing quotes.
    unclosed: bool,
    /// Whether the source ends in a comment that is not closed.
    cut: bool,
    lexed: Lexed,
    fresh_line: bool,
    sink: &'a mut Sink,
}

impl Lexer<'_> {
    fn push(&mut self, kind: SyntaxKind) {
        let start = self.start;
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let token = Token {
            kind,
            start: offset(start),
            end: offset(self.at),
            first_on_line: self.fresh_line,
            unclosed: std::mem::take(&mut self.unclosed),
        };
        if kind.is_trivia() {
            if kind == Unknown
                && let Some(last) = self.lexed.trivia.last_mut()
                && (last.kind, last.end) == (Unknown, token.start)
            {
                last.end = token.end;
                return;
            }
            self.fresh_line |= self.bytes[start..self.at].contains(&b'\n');
            self.lexed.trivia.push(token);
        } else {
            self.fresh_line = false;
            self.lexed.tokens.push(token);
        }
    }

    /// The byte `ahead` of the next one; 0 after the end, which is no token's byte.
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> SyntaxKind {
        let (first, second) = (self.peek(0), self.peek(1));
        let (length, kind) = match (first, second) {
            (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => return self.name(),
            (b' ' | b'\t' | b'\r' | b'\n', _) => return self.whitespace(),
            (b'0'..=b'9', _) => return self.number(),
            (b'"', _) => return self.string(),
            (quote @ (b'\'' | b'`'), _) => return self.other_quotes(quote),
            (b'#', _) | (b'/', b'/') => return self.line_comment(),
            (b'/', b'*') => return self.block_comment(),
            (b'(', _) => (1, LeftParen),
            (b')', _) => (1, RightParen),
            (b'{', _) => (1, LeftBrace),
            (b'}', _) => (1, RightBrace),
            (b'[', _) => (1, LeftBracket),
            (b']', _) => (1, RightBracket),
            (b',', _) => (1, Comma),
            (b';', _) => (1, Semicolon),
            (b':', _) => (1, Colon),
            (b'.', b'0'..=b'9') if !self.behind_value() => return self.fraction(),
            (b'.', _) => (1, Dot),
            (b'?', _) => (1, Question),
            (b'=', b'>') => (2, FatArrow),
            (b'=', b'=') if self.peek(2) == b'=' => {
                return self.foreign("===", "==", EqualsEquals);
            }
            (b'=', b'=') => (2, EqualsEquals),
            (b'=', b'~') => {
                let note = "`regex_match(text, pattern)` asks for a pattern";
                return self.no_operator("=~", note, EqualsEquals);
            }
            (b'~', _) => {
                return self.no_operator("~", "`!` is for bools, and nothing works on bits", Bang);
            }
            (b'^', _) => {
                let note = "`n.pow(2)` is a power, `a != b` is true where one of two bools is";
                return match (self.peek(1), self.peek(2)) {
                    (b'=', next) if next != b'=' => self.no_operator("^=", note, StarEquals),
                    (b'^', _) => self.no_operator("^^", note, Star),
                    _ => self.no_operator("^", note, Star),
                };
            }
            (b'$', b'a'..=b'z' | b'A'..=b'Z' | b'_') => return self.dollar(),
            (b'@', b'a'..=b'z' | b'A'..=b'Z' | b'_') if self.fresh_line => return self.decorator(),
            (b'=', _) => (1, Equals),
            (b'!', b'=') if self.peek(2) == b'=' => {
                return self.foreign("!==", "!=", BangEquals);
            }
            (b'!', b'=') => (2, BangEquals),
            (b'!', _) => (1, Bang),
            (b'<', b'=') => (2, LessEquals),
            (b'<', _) => (1, Less),
            (b'>', _) => (1, Greater),
            (b'+', b'=') => (2, PlusEquals),
            (b'+', _) => (1, Plus),
            (b'-', b'=') => (2, MinusEquals),
            (b'-', b'>') => (2, ThinArrow),
            (b'-', _) => (1, Minus),
            (b'*', b'=') => (2, StarEquals),
            (b'*', _) => (1, Star),
            (b'/', b'=') => (2, SlashEquals),
            (b'/', _) => (1, Slash),
            (b'%', b'=') => (2, PercentEquals),
            (b'%', _) => (1, Percent),
            (b'&', b'&') => (2, AndAnd),
            (b'|', b'|') => (2, OrOr),
            // What these mean where they stand, the parser knows.
            (b'&', _) => (1, AndAnd),
            (b'|', _) => (1, OrOr),
            (128.., _) => return self.other(),
            (_, _) => return self.unknown(1),
        };
        self.at += length;
        kind
    }

    fn whitespace(&mut self) -> SyntaxKind {
        while matches!(self.peek(0), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        Whitespace
    }

    /// A character beyond ASCII at the start of a token.
    fn other(&mut self) -> SyntaxKind {
        let Some(c) = self.source[self.at..].chars().next() else { return Unknown };
        if c.is_alphabetic() {
            self.name()
        } else if c.is_whitespace() || c == '\u{feff}' {
            self.at += c.len_utf8();
            Whitespace
        } else {
            self.unknown(c.len_utf8())
        }
    }

    fn unknown(&mut self, length: usize) -> SyntaxKind {
        let span = self.at..self.at + length;
        let goes_on = (self.lexed.trivia.last())
            .is_some_and(|last| (last.kind, last.end as usize) == (Unknown, self.at));
        if !goes_on {
            let c = self.source[span.clone()].escape_debug();
            self.sink.push(
                Diagnostic::error("E0106", format!("the character `{c}` means nothing here"), span)
                    .label("unknown character"),
            );
        }
        self.at += length;
        Unknown
    }

    /// An operator of other languages, read as ours.
    fn foreign(&mut self, written: &str, meant: &str, kind: SyntaxKind) -> SyntaxKind {
        let span = self.at..self.at + written.len();
        self.sink.push(
            Diagnostic::error("E0115", format!("there is no operator `{written}`"), span)
                .did_you_mean(Some(meant)),
        );
        self.at += written.len();
        kind
    }

    /// An operator of other languages for which there is none.
    fn no_operator(&mut self, written: &str, note: &str, kind: SyntaxKind) -> SyntaxKind {
        let span = self.at..self.at + written.len();
        let message = format!("there is no operator `{written}`");
        self.sink
            .push(Diagnostic::error("E0115", message, span).label("no such operator").note(note));
        self.at += written.len();
        kind
    }

    /// The `$` of `$name`.
    fn dollar(&mut self) -> SyntaxKind {
        let span = self.at..self.at + 1;
        let diagnostic = Diagnostic::error("E0115", "a name has no `$` before it", span.clone());
        self.sink.push(diagnostic.fix(span, "", "leave it out"));
        self.at += 1;
        Unknown
    }

    /// `@name` and what stands behind it on its line.
    fn decorator(&mut self) -> SyntaxKind {
        let start = self.at;
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
        let name = start
            + 1
            + self.source[start + 1..self.at]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(self.at - start - 1);
        let message = format!("there is no `{}`", short(&self.source[start..name]));
        let diagnostic = Diagnostic::error("E0115", message, start..name)
            .label("nothing is said before a declaration");
        self.sink.push(diagnostic.fix(start..self.at, "", "leave it out"));
        Unknown
    }

    /// Whether what stands right before may have a member.
    fn behind_value(&self) -> bool {
        let before = self.at.checked_sub(1).map(|before| self.bytes[before]);
        before.is_some_and(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'.' | b')' | b']' | b'}' | b'"' | 128..)
        })
    }

    /// `.5`
    fn fraction(&mut self) -> SyntaxKind {
        let start = self.at;
        self.at += 1;
        let kind = self.number();
        let meant = format!("0{}", &self.source[start..self.at]);
        let message = "a number begins with a digit";
        let diagnostic = Diagnostic::error("E0115", message, start..self.at);
        self.sink.push(diagnostic.did_you_mean(Some(&meant)));
        if kind == Int { Float } else { kind }
    }

    fn name(&mut self) -> SyntaxKind {
        let start = self.at;
        self.skip_name();
        if &self.bytes[start..self.at] == b"vault" && self.bytes[self.at..].starts_with(b"://") {
            self.at += 3;
            while matches!(self.peek(0),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'/')
            {
                self.at += 1;
            }
            return Secret;
        }
        Name
    }

    fn skip_name(&mut self) {
        loop {
            match self.peek(0) {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => self.at += 1,
                128.. => match self.source[self.at..].chars().next() {
                    Some(c) if c.is_alphanumeric() => self.at += c.len_utf8(),
                    Some(_) | None => return,
                },
                _ => return,
            }
        }
    }

    fn digits(&mut self) {
        while matches!(self.peek(0), b'0'..=b'9' | b'_') {
            self.at += 1;
        }
    }

    fn number(&mut self) -> SyntaxKind {
        let mut kind = Int;
        self.digits();
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.digits();
            kind = Float;
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                self.digits();
                kind = Float;
            }
        }
        let end = self.at;
        self.skip_name();
        if self.at > end {
            return Quantity;
        }
        // `30.seconds` and `1.5.seconds` are one literal each; `30.abs` is a member.
        if self.peek(0) == b'.' {
            self.at += 1;
            let word = self.at;
            self.skip_name();
            if DURATION_WORDS.contains(&&self.source[word..self.at]) && self.peek(0) != b'(' {
                return Quantity;
            }
            self.at = end;
        }
        kind
    }

    fn string(&mut self) -> SyntaxKind {
        let before = self.mark();
        let long = self.bytes[before.at..].starts_with(b"\"\"\"");
        let quote: &[u8] = if long { b"\"\"\"" } else { b"\"" };
        self.at += quote.len();
        let mut line_end = None;
        while self.at < self.bytes.len() {
            if self.bytes[self.at..].starts_with(quote) {
                self.at += quote.len();
                if line_end.is_some() && !long && self.suspect.is_none() && self.at_text() {
                    self.suspect = Some(before);
                }
                return if long { LongString } else { String };
            }
            match self.peek(0) {
                b'\\' => self.at += 1,
                b'\n' if line_end.is_none() => {
                    line_end = Some(self.at);
                    if self.quotes_run_out {
                        break;
                    }
                }
                _ => {}
            }
            // The byte after a backslash may begin a longer character; its other bytes are none of
            // the ones looked for here.
            self.at = (self.at + 1).min(self.bytes.len());
        }
        if let Some(suspect) = self.suspect.take_if(|_| !self.quotes_run_out && !long) {
            return self.again(&suspect);
        }
        self.quotes_run_out = true;
        self.end_with_line(before.at, quote, line_end.unwrap_or(self.bytes.len()));
        if long { LongString } else { String }
    }

    fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            tokens: self.lexed.tokens.len(),
            trivia: self.lexed.trivia.len(),
            fresh_line: self.fresh_line,
            told: self.sink.told(),
        }
    }

    /// Whether what stands here seldom stands right behind a text, and often begins one.
    fn at_text(&self) -> bool {
        !matches!(
            self.peek(0),
            0 | b' '
                | b'\t'
                | b'\r'
                | b'\n'
                | b','
                | b';'
                | b':'
                | b'.'
                | b')'
                | b']'
                | b'}'
                | b'='
                | b'!'
                | b'<'
                | b'>'
                | b'+'
                | b'?'
        )
    }

    /// Goes back to a text and ends it with its line: from there the quotes of the rest are pairs.
    fn again(&mut self, text: &Mark) -> SyntaxKind {
        self.lexed.tokens.truncate(text.tokens);
        self.lexed.trivia.truncate(text.trivia);
        self.sink.forget(text.told);
        self.fresh_line = text.fresh_line;
        let line = self.source[text.at..].find('\n');
        self.end_with_line(
            text.at,
            b"\"",
            line.map_or(self.source.len(), |length| text.at + length),
        );
        self.start = text.at;
        String
    }

    /// Reports a text that is not closed, and ends it at the end of its line.
    fn end_with_line(&mut self, start: usize, quote: &[u8], line_end: usize) {
        self.unclosed = true;
        self.at = line_end;
        // What closes at the end of the line was most likely meant to stand after the text.
        let content = start + quote.len();
        while self.at > content
            && matches!(
                self.bytes[self.at - 1],
                b' ' | b'\t' | b'\r' | b')' | b']' | b'}' | b',' | b';'
            )
        {
            self.at -= 1;
        }
        let closing = if quote.len() > 1 { "\"\"\"" } else { "\"" };
        self.sink.push(
            Diagnostic::error("E0104", "the text is not closed", start..content)
                .label("it starts here")
                .fix(self.at..self.at, closing, format!("add `{closing}` where the text ends")),
        );
    }

    /// `'text'`, or the same in backticks, which is read as a text with a complaint.
    fn other_quotes(&mut self, quote: u8) -> SyntaxKind {
        let start = self.at;
        let three = [quote; 3];
        if self.bytes[start..].starts_with(&three)
            && let Some(length) =
                self.source[start + 3..].find(if quote == b'`' { "```" } else { "'''" })
        {
            let inner = start + 3..start + 3 + length;
            self.at = inner.end + 3;
            let meant = format!("\"\"\"{}\"\"\"", &self.source[inner]);
            self.sink.push(
                Diagnostic::error("E0115", "text stands in double quotes", start..start + 3)
                    .label("other quotes")
                    .fix(start..self.at, meant, "use double quotes"),
            );
            return LongString;
        }
        if quote == b'\'' && self.label() {
            return Unknown;
        }
        if !self.skip_quoted(quote) {
            self.at = start;
            return self.unknown(1);
        }
        let inner = &self.source[start + 1..self.at - 1];
        let diagnostic = if quote == b'`' && inner.contains("${") {
            let diagnostic =
                Diagnostic::error("E0115", "a text is filled by `format`", start..self.at)
                    .note("`format(\"{} of {}\", a, b)` fills each `{}` with the next value");
            match filled(inner, "${", "\"") {
                Some(meant) => diagnostic.fix(start..self.at, meant, "write it like this"),
                None => diagnostic,
            }
        } else {
            Diagnostic::error("E0115", "text stands in double quotes", start..self.at)
                .label(if quote == b'`' { "backticks" } else { "single quotes" })
                .fix(start..self.at, requoted(inner), "use double quotes")
        };
        self.sink.push(diagnostic);
        String
    }

    /// Passes over a text in such quotes, up to the end of its line; false where that is none. A quote
    /// that stands twice is one of the text.
    fn skip_quoted(&mut self, quote: u8) -> bool {
        let start = self.at;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut inner = 0;
        if self.unquoted.0 == quote && start < self.unquoted.1 {
            return false;
        }
        self.at += 1;
        loop {
            match (self.peek(0), self.peek(1)) {
                (0 | b'\n', _) => {
                    self.unquoted = (quote, self.at);
                    return false;
                }
                (b'\\', next) if next == quote || next == b'"' => self.at += 2,
                (here, next) if here == quote => {
                    if quote != b'\'' || next != quote || self.at == start + 1 {
                        break;
                    }
                    self.at += 2;
                }
                (here, _) => {
                    inner += usize::from(here == b'"');
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        // With double quotes in it, it may as well be an apostrophe and a text behind it.
        let before = start.checked_sub(1).map_or(b' ', |before| self.bytes[before]);
        inner == 0 || (inner % 2 == 0 && !is_word(before) && !is_word(self.peek(0)))
    }

    /// `'name` in front of a loop, and behind `break`, where other languages write which loop is meant;
    /// false where it is something else.
    fn label(&mut self) -> bool {
        let start = self.at;
        self.at += 1;
        self.skip_name();
        let named = self.at;
        let rest = &self.source[named..];
        let begins = |text: &str| {
            ["while", "for", "loop", "{"].iter().any(|word| text.trim_start().starts_with(word))
        };
        let before = self.source[..start].trim_end_matches([' ', '\t']);
        let names = rest.strip_prefix(':').is_some_and(begins);
        let leaves = before.ends_with("break") || before.ends_with("continue");
        if named == start + 1 || !(names || leaves && !rest.starts_with('\'')) {
            self.at = start;
            return false;
        }
        let diagnostic = no_label(start..named);
        self.sink.push(if names {
            let end = rest[1..].find(|c: char| !c.is_whitespace()).unwrap_or(0);
            diagnostic.fix(start..named + 1 + end, "", "leave it out")
        } else {
            diagnostic
        });
        self.at += usize::from(names);
        true
    }

    fn line_comment(&mut self) -> SyntaxKind {
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
        LineComment
    }

    fn block_comment(&mut self) -> SyntaxKind {
        let start = self.at;
        let mut open = 0_usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    open += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    open -= 1;
                    self.at += 2;
                    if open == 0 {
                        return BlockComment;
                    }
                }
                (_, _) => self.at += 1,
            }
        }
        let end = self.source.trim_end().len();
        self.sink.push(
            Diagnostic::error("E0105", "the comment is not closed", start..start + 2)
                .label("it starts here")
                .fix(end..end, " */", "add `*/` where the comment ends"),
        );
        self.cut = true;
        BlockComment
    }
}

/// What is told of the name of a loop, of which other languages say which one to leave.
pub(crate) fn no_label(span: crate::hir::Span) -> Diagnostic {
    Diagnostic::error("E0115", "loops have no names", span).label("not needed").note(
        "`break` leaves the loop around it; a `return` from a function leaves all of its loops",
    )
}

/// A text of single quotes in double ones.
fn requoted(inner: &str) -> std::string::String {
    let mut out = std::string::String::from("\"");
    let mut escaped = false;
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if !escaped => out.push_str("\\\""),
            // A quote that stands twice is one.
            '\'' if !escaped && chars.peek() == Some(&'\'') => {
                chars.next();
                out.push(c);
            }
            c => out.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    out.push('"');
    out
}
