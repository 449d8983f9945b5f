//! Blocks as other languages write them: after a colon, `then` or `do`, or with nothing around them.

use super::*;

impl Parser<'_> {
    /// The block of a statement, which other languages begin with a colon, `then` or `do`, or leave the
    /// braces of out where it is one statement.
    pub(in crate::syntax::parser) fn body(&mut self) -> Block {
        let needless = matches!(self.word(), "then" | "do");
        let beside = self.tokens.get(self.at + 1).is_some_and(|next| !next.first_on_line);
        if self.at_word("then") && beside && self.kind_ahead(1) != SyntaxKind::LeftBrace {
            let span = self.after_last().start..start_of(self.tokens, self.at + 1);
            self.mend_at(self.span(), span, " { ", "a block stands in braces");
            self.bump();
            return self.unbraced_block();
        }
        if self.at(SyntaxKind::Colon) || (needless && self.kind_ahead(1) != SyntaxKind::LeftBrace) {
            return self.indented();
        }
        if needless {
            let message = format!("a block needs no `{}`", self.word());
            let span = self.span().start..self.tokens[self.at + 1].start as usize;
            self.mend(span, "", message);
            self.bump();
        }
        if self.at_lines_of_else() {
            let place = self.after_last();
            return self.lines(place, self.at - 1);
        }
        if self.at_unbraced() { self.unbraced() } else { self.block() }
    }

    /// Whether the one statement of a block stands here, behind a condition in parentheses or `else`.
    fn at_unbraced(&self) -> bool {
        use SyntaxKind::{Bang, Float, Int, LongString, Minus, Name, Quantity, RightParen, String};
        let before = self.at.checked_sub(1);
        let behind_else = before.is_some_and(|before| self.text_of(before) == "else");
        let behind_head = before.is_some_and(|before| self.tokens[before].kind == RightParen);
        !self.first_on_line()
            && match self.kind() {
                Name => {
                    crate::syntax::parser::statements::begins_statement(self.word())
                        || behind_else
                        || behind_head
                }
                Int | Float | Quantity | String | LongString | Bang => behind_else || behind_head,
                Minus => behind_else,
                _ => false,
            }
    }

    /// Whether the lines of an `else` begin here, which has no braces, and neither has what is before it.
    fn at_lines_of_else(&self) -> bool {
        let word = self.at.checked_sub(1);
        word.is_some_and(|word| {
            let before = word.checked_sub(1).map(|before| self.tokens[before].kind);
            self.text_of(word) == "else"
                && before != Some(SyntaxKind::RightBrace)
                && self.at(SyntaxKind::Name)
                && self.first_on_line()
                && self.indent(self.at) > self.indent_of_line(word)
        })
    }

    fn unbraced(&mut self) -> Block {
        let begin = self.span().start;
        self.mend_at(self.span(), begin..begin, "{ ", "a block stands in braces");
        self.unbraced_block()
    }

    /// The one statement of a block whose `{` was noted.
    fn unbraced_block(&mut self) -> Block {
        let start = self.at;
        let mut block = Block::default();
        if self.enter() {
            self.unbraced += 1;
            self.lone_statement(&mut block);
            self.unbraced -= 1;
        }
        self.leave();
        let place = self.after_last();
        self.mend(place, " }", "");
        if self.at_word("end") && !self.first_on_line() {
            self.mend(self.span(), "", "");
            self.bump();
        }
        self.ended_at = Some(self.at);
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    /// A statement that ends before an `else`, or where what the `if` around it is a value of goes on.
    fn lone_statement(&mut self, block: &mut Block) {
        let start = self.at;
        let value = self.in_value;
        let kind = self.statement();
        let span = self.span_from(start);
        use SyntaxKind::{Comma, End, RightBrace, RightBracket, RightParen, Semicolon};
        let outer = value
            && (self.first_on_line()
                || matches!(
                    self.kind(),
                    Comma | End | RightBrace | RightBracket | RightParen | Semicolon
                ));
        let elif = matches!(self.word(), "elif" | "elsif" | "elseif") && self.heads_block();
        let ended = self.at_word("else") || self.at_word("end") || elif || outer;
        if !ended || self.at == start {
            return self.end_statement(start, kind, span, block);
        }
        match kind {
            StmtKind::Expr(value) => block.value = Some(Box::new(value)),
            kind => block.statements.push(Stmt { kind, span }),
        }
    }

    /// `: statements`, up to what is indented as far as the line that it begins in.
    pub(in crate::syntax::parser) fn indented(&mut self) -> Block {
        let head = self.at;
        let span = self.after_last().start..self.span().end;
        self.bump();
        self.lines(span, head)
    }

    /// What is indented further than the line of the token `head`; its `{` stands in the place of `span`.
    fn lines(&mut self, span: Span, head: usize) -> Block {
        let start = self.at;
        let least = self.indent_of_line(head);
        let at = start_of(self.tokens, head)..end_of(self.tokens, head);
        self.mend_at(at, span, " {", "a block stands in braces");
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

    /// How far the first token of the line of another is indented; of a long line, one in its middle.
    fn indent_of_line(&self, token: usize) -> usize {
        let least = token.saturating_sub(FAR);
        let first = (least..=token).rev().find(|at| self.tokens[*at].first_on_line);
        first.map_or(0, |first| self.indent(first))
    }

    /// Passes over `case 1: statements` in the braces of a `match`.
    pub(in crate::syntax::parser) fn cases(&mut self, word: &str, span: Span) {
        let diagnostic = Diagnostic::error("E0115", format!("`{word}` is written in another way"), span)
            .label("expected `match` and arms")
            .note("`match x { 1 => print(\"one\"), 2 => { print(\"two\"); }, _ => print(\"another\") }`: no arm goes on into the next");
        self.sink.push(diagnostic);
        let start = self.at;
        if self.at(SyntaxKind::Colon) {
            let least = self.indent_of_line(self.at);
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
    pub(in crate::syntax::parser) fn at_cases(&self) -> bool {
        let colon = |ahead| self.kind_ahead(ahead) == SyntaxKind::Colon;
        self.at(SyntaxKind::Colon)
            || self.at(SyntaxKind::LeftBrace)
                && match self.word_ahead(1) {
                    "case" => colon(3) || (colon(4) && self.kind_ahead(2) == SyntaxKind::Minus),
                    "default" => colon(2),
                    _ => false,
                }
    }
}
