//! Expressions as other languages write them.

use super::*;
use crate::syntax::parser::expressions::LOOSER_THAN_SUMS;

impl Parser<'_> {
    /// What other languages write behind an expression: `c ? a : b`, `a ?? b`, `a if c else b`, `x for x
    /// in xs`, `i++`.
    pub(in crate::syntax::parser) fn foreign_tail(
        &mut self,
        value: Expr,
        start: usize,
        may_step: bool,
    ) -> Expr {
        match self.kind() {
            SyntaxKind::Question if self.foreign_assign().is_some() => value,
            SyntaxKind::Question if self.at_both(SyntaxKind::Question, SyntaxKind::Question) => {
                self.otherwise(value, start)
            }
            SyntaxKind::Question => self.choice(value, start),
            SyntaxKind::Plus | SyntaxKind::Minus if !may_step && self.at_step() => {
                let written = if self.at(SyntaxKind::Plus) { "++" } else { "--" };
                let span = self.span().start..end_of(self.tokens, self.at + 1);
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
        let mark = self.span().start..end_of(self.tokens, self.at + 1);
        self.bump();
        self.bump();
        let other = self.expression();
        let span = self.span_from(start);
        let mut diagnostic = Diagnostic::error("E0115", "there is no operator `??`", mark)
            .label("expected `if`")
            .note("`if x != null { x } else { y }` gives `y` where `x` is `null`");
        if crate::syntax::parser::statements::is_place(&value) {
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
        if !self.eat(SyntaxKind::Colon) {
            let diagnostic = Diagnostic::error("E0115", "there is no operator `?`", mark)
                .label("expected `if c { a } else { b }`")
                .note("an `if` has a value");
            self.sink.push(diagnostic);
            return value;
        }
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
        while self.at_word("for") && self.kind_ahead(1) == SyntaxKind::Name {
            several = true;
            self.bump();
            self.binary(0);
            if self.eat_word("if") {
                self.binary(0);
            }
        }
        let mut diagnostic =
            Diagnostic::error("E0115", "arrays are not written with `for`", mark.clone())
                .label("expected `map` or `filter`")
                .note("`xs.filter(x => x > 1).map(x => x * 2)`");
        let before = start.checked_sub(1).map(|before| self.tokens[before].kind);
        let bracketed =
            before == Some(SyntaxKind::LeftBracket) && self.at(SyntaxKind::RightBracket);
        let called = before == Some(SyntaxKind::LeftParen) && self.at(SyntaxKind::RightParen);
        // `any(.. for x in xs)`, where that is a method.
        let asks = (called && start >= 2)
            .then(|| self.text_of(start - 2))
            .filter(|name| matches!(*name, "any" | "all"));
        if !several && (bracketed || called) && self.is_lambda_body(&value) {
            let mut meant = self.operand(&items);
            if let Some(condition) = &condition {
                meant += &format!(".filter({name} => {})", self.written(condition));
            }
            let value = self.written(&value);
            if let Some(asks) = asks {
                meant += &format!(".{asks}({name} => {value})");
            } else if value != name {
                meant += &format!(".map({name} => {value})");
            }
            let open = start - 1 - usize::from(asks.is_some());
            let span = match bracketed || asks.is_some() {
                true => start_of(self.tokens, open)..self.span().end,
                false => self.span_from(start),
            };
            diagnostic = diagnostic.fix(span, meant, "write it like this");
        }
        if asks.is_some() {
            self.asks = Some(start - 1);
        }
        self.sink.push(diagnostic);
        self.sink.lost(mark);
        value
    }

    /// Whether this is read as the same behind the `=>` of a lambda: `{}` is a block there.
    fn is_lambda_body(&self, of: &Expr) -> bool {
        !matches!(&of.kind, ExprKind::Record { name: None, fields } if fields.is_empty())
    }

    /// What other languages write in front of an expression; nothing where there is none of it.
    pub(in crate::syntax::parser) fn foreign_prefix(&mut self) -> Option<Expr> {
        let (start, word, place) = (self.at, self.text(), self.span());
        let to_next = place.start..self.tokens.get(start + 1)?.start as usize;
        let leave_out = |message: &str, note: &str| {
            let diagnostic = Diagnostic::error("E0115", message, place.clone()).label("not needed");
            let diagnostic = if note.is_empty() { diagnostic } else { diagnostic.note(note) };
            diagnostic.fix(to_next.clone(), "", "leave it out")
        };
        match self.kind_ahead(1) {
            SyntaxKind::String | SyntaxKind::LongString => {
                self.at_prefixed_text().then(|| self.prefixed_text())
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
                let is_function = crate::syntax::parser::declarations::is_function(word);
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
    pub(super) fn foreign_read(&mut self, message: &str, at: Span, span: Span, meant: &str) {
        let diagnostic = Diagnostic::error("E0115", message, at);
        let help = match meant {
            "" => "leave it out".to_owned(),
            meant => format!("did you mean `{}`?", short(meant)),
        };
        self.sink.push(diagnostic.fix(span, meant, help));
    }

    /// Whether a text with a letter before it stands here.
    pub(in crate::syntax::parser) fn at_prefixed_text(&self) -> bool {
        matches!(self.kind_ahead(1), SyntaxKind::String | SyntaxKind::LongString)
            && self.adjacent(1)
            && matches!(self.text(), "f" | "F" | "r" | "R" | "b" | "B" | "u" | "s")
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
        let place = self.span().start..end_of(self.tokens, self.at + 1);
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
    pub(in crate::syntax::parser) fn at_bars(&self) -> bool {
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
    pub(in crate::syntax::parser) fn barred_lambda(&mut self) -> Expr {
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
    pub(in crate::syntax::parser) fn foreign_sign(&mut self) {
        let dots = self.at_both(SyntaxKind::Dot, SyntaxKind::Dot)
            && self.kind_ahead(2) == SyntaxKind::Dot
            && self.adjacent(2);
        let begins = matches!(
            self.kind_ahead(1),
            SyntaxKind::Name | SyntaxKind::LeftParen | SyntaxKind::LeftBracket
        );
        if dots {
            let span = self.span().start..end_of(self.tokens, self.at + 2);
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

    /// What other languages write behind a value: `a?.b`, `a!`, `a::b`, `a ** b`. It gives what
    /// was read, with the value, where there is some of it.
    pub(in crate::syntax::parser) fn foreign_suffix(
        &mut self,
        value: &mut Expr,
        start: usize,
    ) -> bool {
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
                let mark = self.span().start..end_of(self.tokens, self.at + 1);
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
            _ => false,
        }
    }

    /// `a as T` behind the `a`, signs and all; whether there was one.
    pub(in crate::syntax::parser) fn foreign_cast(
        &mut self,
        value: &mut Expr,
        start: usize,
    ) -> bool {
        if !self.at_word("as") || self.first_on_line() || self.kind_ahead(1) != SyntaxKind::Name {
            return false;
        }
        let place = self.span();
        self.bump();
        let ty = self.one_type();
        let cast = CASTS.iter().find(|(types, _)| types.contains(&&self.source[ty.span.clone()]));
        let diagnostic = Diagnostic::error("E0115", "there is no `as`", place);
        let diagnostic = match cast {
            Some((_, method)) => {
                let meant = format!("{}{method}", self.operand(value));
                let span = value.span.start..ty.span.end;
                diagnostic.fix(span, meant, format!("`{method}` does that"))
            }
            None => diagnostic
                .note("a value is what it is; `let x: T = e` says what it has to be")
                .fix(value.span.end..ty.span.end, "", "leave it out"),
        };
        self.report(diagnostic);
        value.span = self.span_from(start);
        true
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
    pub(in crate::syntax::parser) fn numbered(&mut self, of: Expr) -> Result<ExprKind, Expr> {
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
    /// A `not` before `left` is of the whole, as it is where `is` is an operator.
    pub(in crate::syntax::parser) fn foreign_operator(
        &mut self,
        left: &mut Expr,
        least: u8,
    ) -> Option<(BinaryOp, u8, usize)> {
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
        if words[0] == "is"
            && *precedence >= least
            && let Some(of) = negation::bare(self.source, left).cloned()
        {
            let whole = left.span.start..span.end;
            *left = of;
            let (op, sign) = match op {
                BinaryOp::Equal => (BinaryOp::NotEqual, "!="),
                _ => (BinaryOp::Equal, "=="),
            };
            let message = format!("`not x {written} y` is written `x {sign} y`");
            let meant = format!("{} {sign}", self.written(left));
            self.foreign_read(&message, span, whole, &meant);
            return Some((op, *precedence, count));
        }
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
            (_, "&" | "|") if self.kind_ahead(count) == SyntaxKind::Int => {
                let message = format!("there is no operator `{written}`");
                self.report(
                    Diagnostic::error("E0115", message, span).label("no operators on bits"),
                );
            }
            (meant, "&" | "|") => {
                self.foreign(format!("there is no operator `{written}`"), span, meant);
            }
            (meant, _) => self.foreign(format!("`{written}` is written `{meant}`"), span, meant),
        }
        Some((*op, *precedence, count))
    }

    /// Whether the `->` that stands `ahead` leads to a member of the name before it, and begins no body
    /// of a lambda, which would speak of its parameter.
    pub(in crate::syntax::parser) fn at_arrow_member(&self, ahead: usize) -> bool {
        use SyntaxKind::{Comma, End, LeftBrace, RightBrace, RightBracket, RightParen, Semicolon};
        let member = self.kind_ahead(ahead) == SyntaxKind::ThinArrow
            && self.kind_ahead(ahead + 1) == SyntaxKind::Name
            && self.adjacent(ahead)
            && self.adjacent(ahead + 1);
        let name = self.text_of((self.at + ahead).saturating_sub(1));
        let ends = |kind| {
            matches!(
                kind,
                Comma | Semicolon | RightParen | RightBracket | RightBrace | LeftBrace | End
            )
        };
        member
            && (ahead + 1..ahead + FAR)
                .take_while(|ahead| !ends(self.kind_ahead(*ahead)))
                .all(|ahead| self.word_ahead(ahead) != name)
    }

    /// Whether `..` stands between the brackets of which the token `open` is the first, and in none of
    /// those within.
    pub(in crate::syntax::parser) fn dots_within(&self, open: usize) -> bool {
        let mut at = open + 1;
        while at < self.closing[open] as usize {
            let [token, next] = [at, at + 1].map(|at| self.tokens[at]);
            if token.kind == SyntaxKind::Dot
                && next.kind == SyntaxKind::Dot
                && token.end == next.start
            {
                return true;
            }
            at = (self.closing[at] as usize).max(at) + 1;
        }
        false
    }

    /// Reads the `..` of a range, `..=` or `...`; whether its end is part of it, if one can know.
    fn dots(&mut self) -> Option<bool> {
        self.bump();
        self.bump();
        // Of three dots, some languages leave the end out.
        if self.at(SyntaxKind::Dot) && self.adjacent(0) {
            self.bump();
            return None;
        }
        Some(self.eat(SyntaxKind::Equals))
    }

    /// `a..b` and `a..=b`, for a range, behind the `a`. It is read as what has elements.
    pub(in crate::syntax::parser) fn foreign_range(&mut self, value: &mut Expr, start: usize) {
        if !self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) || self.at == start {
            return;
        }
        let from = std::mem::replace(value, self.missing());
        let begin = self.span().start;
        let inclusive = self.dots();
        let mark = begin..self.after_last().end;
        let to = self.binary(LOOSER_THAN_SUMS);
        self.node(SyntaxKind::ArrayExpression, start);
        let span = self.span_from(start);
        let [first, last] = [&from, &to].map(|end| self.written(end));
        let last = match inclusive {
            Some(true) => format!("{} + 1", self.operand(&to)),
            _ => last,
        };
        let message = format!("there is no operator `{}`", &self.source[mark.clone()]);
        let fix = format!("range({first}, {last})");
        let diagnostic = Diagnostic::error("E0115", message, mark).label("expected `range`");
        let whole = ![&from, &to].iter().any(|end| matches!(end.kind, ExprKind::Missing));
        self.report(match whole && inclusive.is_some() {
            true => diagnostic.fix(span.clone(), fix, "a range leaves its end out"),
            false => {
                diagnostic.note("`range(a, b)` has the numbers from `a` up to and without `b`")
            }
        });
        *value = Expr { kind: ExprKind::Array(vec![from, to]), span };
    }

    /// The `a:b` and `a..b` of `x[a:b]`, for a part of a list; `first` is the `a`.
    pub(in crate::syntax::parser) fn foreign_slice(
        &mut self,
        first: Option<Expr>,
        open: usize,
        start: usize,
    ) -> Expr {
        let begin = self.span().start;
        let mut inclusive = Some(false);
        if self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) {
            inclusive = self.dots();
        } else {
            self.bump();
        }
        let mark = begin..self.after_last().end;
        let last = (!self.at(SyntaxKind::RightBracket)).then(|| self.binary(LOOSER_THAN_SUMS));
        let written = |last: &Expr| match inclusive == Some(true) {
            true => format!("{} + 1", self.operand(last)),
            false => self.written(last),
        };
        let ends: Vec<String> = match (&first, &last) {
            (None, None) => vec!["0".to_owned()],
            (None, Some(last)) => vec!["0".to_owned(), written(last)],
            (Some(first), last) => {
                std::iter::once(self.written(first)).chain(last.as_ref().map(written)).collect()
            }
        };
        let mut diagnostic = Diagnostic::error("E0115", "there are no slices in brackets", mark)
            .label("expected `]`");
        if self.at(SyntaxKind::RightBracket) && inclusive.is_some() {
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
    pub(in crate::syntax::parser) fn foreign_tuple(&mut self, first: Expr, start: usize) -> Expr {
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
    pub(in crate::syntax::parser) fn foreign_field(&mut self) -> bool {
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
