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
    pub(super) fn let_in_head(&mut self) -> (Pattern, Expr, bool) {
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

    pub(super) fn pattern_text(&self, pattern: &Pattern) -> &str {
        &self.source[pattern.span.clone()]
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
