//! Statements as other languages write them.

use super::*;

impl Parser<'_> {
    /// A statement that begins as none does here.
    pub(in crate::syntax::parser) fn foreign_statement(&mut self) -> Option<StmtKind> {
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
            "repeat" if opens || (next == SyntaxKind::Name && !is_infix(self.word_ahead(1))) => {
                Some(self.repeat_until(opens))
            }
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
        // What is declared in it would reach beyond it, and what it gives would lack its end.
        let declares = then.statements.iter().any(|one| matches!(one.kind, StmtKind::Let { .. }));
        let gives = then.value.is_some() && !self.at(SyntaxKind::RightBrace);
        if declares || gives {
            let place = span.start..span.start;
            diagnostic = diagnostic.fix(place, "if true ", "an `if` decides about it");
        } else if let Some(inner) =
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
        let source = self.source;
        let text = |of: &Expr| source[of.span.clone()].to_owned();
        let meant = match &value.kind {
            ExprKind::Err(_) => text(&value),
            ExprKind::Name(kind) if kind.starts_with(char::is_uppercase) => {
                format!("error(\"{kind}\", \"{kind}\")")
            }
            // It may be an error, or the text of one.
            ExprKind::Name(name) => format!("Err({name})"),
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
        let message = match self.tried {
            0 => format!("`{word}` is written `return`"),
            _ => format!("there is no `{word}`"),
        };
        if self.eat_word("from") {
            self.expression();
        }
        let diagnostic = Diagnostic::error("E0115", message, place);
        self.sink.push(match self.tried {
            0 => diagnostic.fix(
                self.span_from(start),
                format!("return {meant}"),
                "an error that is returned fails the run, or the call of the function",
            ),
            // A `return` would leave the function, and nothing would catch it.
            _ => diagnostic
                .label("nothing is thrown")
                .note("`assert(condition, \"message\")` fails within a `try`, and `catch` sees it"),
        });
        if matches!(&value.kind, ExprKind::Name(name) if name.starts_with(char::is_uppercase)) {
            let kind = ExprKind::Literal(Literal::String(text(&value)));
            value = Expr { kind, span: value.span };
        }
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
    fn repeat_until(&mut self, braced: bool) -> StmtKind {
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
        let otherwise = if once { self.otherwise_of_if() } else { None };
        if !once {
            self.node(SyntaxKind::While, start);
            return StmtKind::While { condition, body };
        }
        self.node(SyntaxKind::ExpressionStatement, start);
        let condition = Box::new(Condition::Expr(condition));
        let span = self.span_from(start);
        StmtKind::Expr(Expr { kind: ExprKind::If { condition, then: body, otherwise }, span })
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
    pub(in crate::syntax::parser) fn several(&mut self, start: usize) -> StmtKind {
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
            _ if names.is_empty() => None,
            [] if bracketed => None,
            [] => Some(lets(vec!["null".to_owned(); names.len()])),
            [value] => Some(self.parts(&names, value, by_name)),
            values if values.len() == names.len() => {
                let values: Vec<String> = values.iter().map(|value| self.written(value)).collect();
                // None of them speaks of what another is to be.
                let mixed = values
                    .iter()
                    .skip(1)
                    .any(|value| names.iter().any(|name| value.contains(name)));
                (!mixed).then(|| lets(values))
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

    /// `, b = 2` behind `let a = 1`.
    pub(in crate::syntax::parser) fn more_lets(&mut self) {
        while self.at(SyntaxKind::Comma)
            && self.kind_ahead(1) == SyntaxKind::Name
            && self.kind_ahead(2) == SyntaxKind::Equals
        {
            let comma = self.span();
            self.mend(comma.clone(), "; let", "a `let` declares one name");
            (0..3).for_each(|_| self.bump());
            self.expression();
            // What is declared here has no statement of its own.
            self.sink.lost(comma);
        }
    }

    /// One `let` for each of several names of what is in a value. It needs no name of its own: the first
    /// one has the whole until the others have their parts.
    fn parts(&self, names: &[String], value: &Expr, by_name: bool) -> String {
        let part = |whole: &str, at: usize| match by_name {
            true => format!("{whole}.{}", names[at]),
            false => format!("{whole}[{at}]"),
        };
        let named: Vec<usize> = (0..names.len()).filter(|at| names[*at] != "_").collect();
        let whole = self.written(value);
        if matches!(&value.kind, ExprKind::Name(name) if !names.contains(name)) {
            let lets = named.iter().map(|at| format!("let {} = {}", names[*at], part(&whole, *at)));
            return lets.collect::<Vec<_>>().join("; ");
        }
        let Some((first, others)) = named.split_first() else { return whole };
        let holder = &names[*first];
        let mut parts = vec![format!("let {holder} = {whole}")];
        parts.extend(others.iter().map(|at| format!("let {} = {}", names[*at], part(holder, *at))));
        parts.push(format!("{holder} = {}", part(holder, *first)));
        parts.join("; ")
    }

    // `let` in conditions.

    /// Whether `(let p = e)` stands here, which other languages write as a condition.
    pub(in crate::syntax::parser) fn at_parenthesized_let(&self) -> bool {
        self.at(SyntaxKind::LeftParen)
            && self.closing[self.at] > 0
            && self.word_ahead(1) == "let"
            && self.kind_ahead(2) == SyntaxKind::Name
    }

    /// `let p = e` and `(let p = e)`, and whether a fix with the same pattern means the same: a name
    /// takes whatever there is.
    fn let_in_head(&mut self) -> (Pattern, Expr, bool) {
        let open = self.at;
        let parenthesized = self.eat(SyntaxKind::LeftParen);
        self.bump();
        let pattern = self.pattern();
        self.expect(SyntaxKind::Equals, "`=`");
        let value = if parenthesized {
            let head = std::mem::replace(&mut self.in_head, false);
            let value = self.expression();
            self.in_head = head;
            self.expect_closing(open, SyntaxKind::RightParen);
            value
        } else {
            self.head()
        };
        let asks = !matches!(pattern.kind, PatternKind::Name(_) | PatternKind::Wildcard);
        (pattern, value, asks)
    }

    /// `(let p = e)` behind `if`.
    pub(in crate::syntax::parser) fn parenthesized_let(&mut self) -> Condition {
        let start = self.at;
        let place = self.tokens[start + 1];
        let (pattern, value, asks) = self.let_in_head();
        let diagnostic = Diagnostic::error(
            "E0115",
            "a `let` has no parentheses around it",
            place.start as usize..place.end as usize,
        );
        if asks {
            let span = self.span_from(start);
            let meant = format!("let {} = {}", self.pattern_text(&pattern), self.written(&value));
            self.mend_of(diagnostic, span, meant);
        } else {
            self.report(diagnostic.note(NO_QUESTION));
        }
        Condition::Let(pattern, value)
    }

    fn pattern_text(&self, pattern: &Pattern) -> &str {
        &self.source[pattern.span.clone()]
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

    // Rules.

    /// `*` and `fs.*` for what a rule speaks of, which are texts here.
    pub(in crate::syntax::parser) fn stars(&mut self) -> Option<Expr> {
        let start = self.at;
        let mut ahead = 0;
        while self.kind_ahead(ahead) == SyntaxKind::Name
            && self.kind_ahead(ahead + 1) == SyntaxKind::Dot
        {
            ahead += 2;
        }
        if self.kind_ahead(ahead) != SyntaxKind::Star {
            return None;
        }
        (0..=ahead).for_each(|_| self.bump());
        let span = self.span_from(start);
        let pattern = self.source[span.clone()].to_owned();
        let meant = format!("\"{pattern}\"");
        self.foreign_read("a pattern of operations is a text", span.clone(), span.clone(), &meant);
        self.node(SyntaxKind::LiteralExpression, start);
        Some(Expr { kind: ExprKind::Literal(Literal::String(pattern)), span })
    }

    /// `when c`, `unless c` and the like behind what a rule speaks of.
    pub(in crate::syntax::parser) fn foreign_condition(&mut self) -> Option<Expr> {
        let (start, word, place) = (self.at, self.word(), self.span());
        let (_, negated) = CONDITIONS.iter().find(|(foreign, _)| *foreign == word)?;
        if matches!(self.kind_ahead(1), SyntaxKind::Colon | SyntaxKind::Equals) {
            return None;
        }
        self.bump();
        let condition = self.expression();
        if !negated {
            self.foreign_read(&format!("`{word}` is written `if`"), place.clone(), place, "if");
            return Some(condition);
        }
        let span = self.span_from(start);
        let meant = format!("if !({})", self.written(&condition));
        let message = format!("`{word}` is written `if !(..)`");
        self.foreign_read(&message, place, span.clone(), &meant);
        Some(Expr { kind: ExprKind::Unary(UnaryOp::Not, Box::new(condition)), span })
    }

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

    // Blocks.

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

    /// What stands here of [`ASSIGNMENTS`].
    pub(in crate::syntax::parser) fn foreign_assign(&self) -> Option<&'static str> {
        use SyntaxKind::{AndAnd, Greater, Less, OrOr, Question, Star};
        if !matches!(self.kind(), AndAnd | Greater | Less | OrOr | Question | Star) {
            return None;
        }
        let rest = &self.source[self.span().start..];
        ASSIGNMENTS.into_iter().find(|op| rest.starts_with(op))
    }

    /// `x ||= e`, behind the `x`.
    pub(in crate::syntax::parser) fn foreign_assignment(
        &mut self,
        start: usize,
        target: Expr,
        op: &str,
    ) -> StmtKind {
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
    pub(in crate::syntax::parser) fn at_step(&self) -> bool {
        use SyntaxKind::{Comma, End, LeftBrace, RightBrace, RightBracket, RightParen, Semicolon};
        let after = self.tokens.get(self.at + 2);
        // What is taken away may stand on the next line; there is no `+` in front of a value.
        let added = self.at_both(SyntaxKind::Plus, SyntaxKind::Plus);
        (added || self.at_both(SyntaxKind::Minus, SyntaxKind::Minus))
            && after.is_none_or(|after| {
                added && after.first_on_line
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
    pub(in crate::syntax::parser) fn at_step_before(&self) -> bool {
        self.kind_ahead(2) == SyntaxKind::Name
            && (self.at_both(SyntaxKind::Plus, SyntaxKind::Plus)
                || self.at_both(SyntaxKind::Minus, SyntaxKind::Minus)
                    && self.kind_ahead(3) == SyntaxKind::Semicolon)
    }

    /// `i++` and `++i`, read as `i += 1`.
    pub(in crate::syntax::parser) fn step(
        &mut self,
        start: usize,
        target: Option<Expr>,
    ) -> StmtKind {
        let (op, meant) = match self.kind() {
            SyntaxKind::Minus => (BinaryOp::Subtract, "-= 1"),
            _ => (BinaryOp::Add, "+= 1"),
        };
        let written = if op == BinaryOp::Add { "++" } else { "--" };
        let signs = self.span().start..end_of(self.tokens, self.at + 1);
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
}
