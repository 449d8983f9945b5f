//! Loops as other languages write them.

use super::*;

impl Parser<'_> {
    // `for`.

    /// The `in` of a `for`.
    pub(in crate::syntax::parser) fn in_word(&mut self) {
        if self.at_word("of") {
            self.foreign("`of` is written `in`", self.span(), "in");
            self.bump();
        } else if !self.eat_word("in") {
            self.expected("`in`");
        }
    }

    /// `for (x in xs) { }`, `for (let i = 0; i < 9; i++) { }`, `for k, v in xs { }` and other heads of
    /// other languages, behind the word; `None` where the head is one of ours.
    pub(in crate::syntax::parser) fn foreign_for(&mut self, word: Span) -> Option<StmtKind> {
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
            let end = if parenthesized { closing } else { self.at };
            self.counted(from, end).map(|counted| (counted, self.counts_on(from, end)))
        } else {
            None
        };
        let diagnostic = match &counted {
            _ if several => Diagnostic::error("E0115", "a `for` has one name", word)
                .label("several names")
                .note("`for key in map` walks through the keys, and `map[key]` is what is there; `for i in range(0, len(xs))` counts"),
            Some((head, true)) => Diagnostic::error("E0115", "a `for` walks through values", word)
                .label("expected `for x in xs`")
                .fix(start_of(self.tokens, open)..end_of(self.tokens, if parenthesized { closing } else { self.at - 1 }), head.as_str(), "count through a range"),
            Some((_, false)) | None => Diagnostic::error("E0115", "a `for` walks through values", word)
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

    /// Whether the block that stands here changes nothing of what counts it: neither the variable, which is
    /// the token `from`, nor what else is named up to the token `to`.
    fn counts_on(&self, from: usize, to: usize) -> bool {
        let end = match self.closing[self.at] as usize {
            0 => return false,
            end => end,
        };
        let kind = |at: usize| self.tokens.get(at).map_or(SyntaxKind::End, |token| token.kind);
        let names: BTreeSet<&str> = (from..to)
            .filter(|at| kind(*at) == SyntaxKind::Name)
            .map(|at| self.text_of(at))
            .collect();
        use SyntaxKind::*;
        // A call other than that of a length may give something else each time.
        let calls = |at: usize| {
            kind(at + 1) == LeftParen && !matches!(self.text_of(at), "len" | "length" | "size")
        };
        let stepped = |at: usize| matches!(kind(at), Plus | Minus) && kind(at) == kind(at + 1);
        let changes = |mut at: usize| {
            if at >= 2 && stepped(at - 2) {
                return true;
            }
            // What is changed may be a part of it.
            loop {
                at = match (kind(at + 1), kind(at + 2)) {
                    (Dot, Name) if kind(at + 3) == LeftParen => {
                        let changing = ["append", "push", "remove", "merge", "pop", "insert"];
                        return changing.contains(&self.text_of(at + 2));
                    }
                    (Dot, Name) => at + 2,
                    (LeftBracket, _) => (self.closing[at + 1] as usize).max(at + 1),
                    (
                        Equals | PlusEquals | MinusEquals | StarEquals | SlashEquals
                        | PercentEquals,
                        _,
                    ) => return true,
                    _ => return stepped(at + 1),
                };
            }
        };
        !(from..to).any(|at| kind(at) == Name && calls(at))
            && !(self.at..end)
                .any(|at| kind(at) == Name && names.contains(self.text_of(at)) && changes(at))
    }

    // Names of loops.

    /// Passes over the name of a loop in front of it, with a complaint.
    pub(in crate::syntax::parser) fn named_loop(&mut self) {
        let loops = matches!(self.word_ahead(2), "while" | "for" | "loop" | "do");
        if self.at(SyntaxKind::Name) && self.kind_ahead(1) == SyntaxKind::Colon && loops {
            let span = self.span().start..start_of(self.tokens, self.at + 2);
            let diagnostic = no_label(self.span()).fix(span, "", "leave it out");
            self.report(diagnostic);
            self.bump();
            self.bump();
        }
    }

    /// Passes over the name of a loop behind `break` or `continue`, with a complaint.
    pub(in crate::syntax::parser) fn loop_name(&mut self) {
        let ends = matches!(self.kind_ahead(1), SyntaxKind::Semicolon | SyntaxKind::RightBrace);
        if self.at(SyntaxKind::Name) && !self.first_on_line() && ends {
            self.report(no_label(self.span()));
            self.bump();
        }
    }

    // Other loops.

    /// `loop { }` and `for { }`, read as `while true { }`.
    pub(super) fn endless(&mut self) -> StmtKind {
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
    pub(super) fn do_while(&mut self) -> StmtKind {
        let (start, place) = (self.at, self.span());
        self.bump();
        let open = self.at;
        let body = self.block();
        // It would pass over the condition at the end.
        let skips = (open..self.at).any(|at| self.text_of(at) == "continue");
        let block = &self.source[body.span.clone()];
        let mut block = block.strip_suffix('}').unwrap_or(block).trim_end().to_owned();
        if !block.ends_with([';', '{', '}']) {
            block.push(';');
        }
        let mut diagnostic = Diagnostic::error("E0115", "there is no `do`", place)
            .label("expected `while`")
            .note("`while true { .. if done { break; } }` does something once at least");
        let mut until = self.boolean(true);
        if self.eat_word("while") {
            let condition = self.head();
            let meant =
                format!("while true {block} if !({}) {{ break; }} }}", self.written(&condition));
            if !skips {
                let span = self.span_from(start);
                diagnostic = diagnostic.fix(span, meant, "leave a `while` at its end");
            }
            until = condition;
        }
        self.sink.push(diagnostic);
        self.node(SyntaxKind::While, start);
        StmtKind::While { condition: until, body }
    }

    /// `repeat { } until c`, and without the braces, read as a `while`.
    pub(super) fn repeat_until(&mut self, braced: bool) -> StmtKind {
        let (start, place) = (self.at, self.span());
        let noted = self.mends.len();
        self.bump();
        let body = if braced { self.block() } else { self.up_to_until() };
        self.mends.truncate(noted);
        let mut condition = self.boolean(true);
        if self.eat_word("until") {
            condition = self.head();
            self.ended_at = Some(self.at);
        }
        let diagnostic = Diagnostic::error("E0115", "there is no `repeat`", place)
            .label("expected `while`")
            .note("`while true { .. if done { break; } }` does something once at least");
        self.sink.push(diagnostic);
        self.node(SyntaxKind::While, start);
        StmtKind::While { condition, body }
    }

    /// Statements up to an `until`.
    fn up_to_until(&mut self) -> Block {
        let start = self.at;
        let mut block = Block::default();
        if self.enter() {
            self.unbraced += 1;
            while !self.at_word("until")
                && !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End)
                && !self.at_declaration()
            {
                if self.eat(SyntaxKind::Semicolon) {
                    continue;
                }
                let (begin, kind) = (self.at, self.statement());
                let span = self.span_from(begin);
                match self.at_word("until") && self.at > begin {
                    true => block.statements.push(Stmt { kind, span }),
                    false => self.end_statement(begin, kind, span, &mut block),
                }
            }
            self.unbraced -= 1;
        }
        self.leave();
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    /// `while let p = e { }`, of which the `while` has been read.
    pub(in crate::syntax::parser) fn while_let(&mut self, start: usize) -> StmtKind {
        let place = self.span();
        let (pattern, value, asks) = self.let_in_head();
        let head = self.span_from(start);
        let diagnostic = Diagnostic::error("E0115", "a `while` has no `let`", place)
            .label("expected a condition");
        let text = format!(
            "while true {{ if let {} = {}",
            self.pattern_text(&pattern),
            self.written(&value)
        );
        if !asks {
            self.report(diagnostic.clone().note(NO_QUESTION));
        }
        let condition = self.boolean(true);
        let then = self.body();
        let span = self.span_from(start);
        if asks {
            let end = self.after_last();
            self.mend_of(diagnostic, head, text);
            self.mend(end, " else { break; } }", "");
        }
        let leave = Stmt { kind: StmtKind::Break, span: span.clone() };
        let otherwise = Some(Block { statements: vec![leave], value: None, span: span.clone() });
        let condition_of = Box::new(Condition::Let(pattern, value));
        let kind = ExprKind::If { condition: condition_of, then, otherwise };
        let inner = Some(Box::new(Expr { kind, span: span.clone() }));
        StmtKind::While { condition, body: Block { statements: Vec::new(), value: inner, span } }
    }
}
