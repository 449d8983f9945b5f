//! Expressions.

use super::Parser;
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{
    Arg, Arm, BinaryOp, Block, Condition, Expr, ExprKind, Literal, Param, Spanned, Stmt, StmtKind,
    UnaryOp,
};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::{self, short};

impl Parser<'_> {
    /// An expression.
    pub(super) fn expression(&mut self) -> Expr {
        let start = self.at;
        let expression = if !self.enter() {
            self.missing()
        } else if self.at_lambda() {
            self.lambda()
        } else {
            let value = self.binary(0);
            self.foreign_choice(value, start)
        };
        self.leave();
        expression
    }

    /// `c ? a : b` and `a ?? b`, which other languages write.
    fn foreign_choice(&mut self, value: Expr, start: usize) -> Expr {
        let block = |value: Expr| {
            let span = value.span.clone();
            Block { statements: Vec::new(), value: Some(Box::new(value)), span }
        };
        if self.at_both(SyntaxKind::Question, SyntaxKind::Question) {
            let span = self.span().start..self.span().end + 1;
            let diagnostic = Diagnostic::error("E0115", "there is no operator `??`", span)
                .label("expected `if`")
                .note("`if x != null { x } else { y }` gives `y` where `x` is `null`");
            self.report(diagnostic);
            self.bump();
            self.bump();
            let other = self.expression();
            let kind = ExprKind::Binary(BinaryOp::Or, Box::new(value), Box::new(other));
            self.node(SyntaxKind::BinaryExpression, start);
            return Expr { kind, span: self.span_from(start) };
        }
        if !self.at(SyntaxKind::Question) {
            return value;
        }
        let mark = self.span();
        self.bump();
        let then = self.expression();
        self.expect(SyntaxKind::Colon, "`:` and what holds otherwise");
        let otherwise = self.expression();
        self.node(SyntaxKind::IfExpression, start);
        let span = self.span_from(start);
        let text = |of: &Expr| &self.source[of.span.clone()];
        let meant =
            format!("if {} {{ {} }} else {{ {} }}", text(&value), text(&then), text(&otherwise));
        let meant = if self.in_head { format!("({meant})") } else { meant };
        let diagnostic = Diagnostic::error("E0115", "there is no operator `? :`", mark)
            .label("expected `if`")
            .fix(span.clone(), meant, "an `if` has a value");
        self.sink.push(diagnostic);
        let condition = Box::new(Condition::Expr(value));
        let kind = ExprKind::If { condition, then: block(then), otherwise: Some(block(otherwise)) };
        Expr { kind, span }
    }

    /// The expression in the head of a statement, where `{` opens the statement's block.
    pub(super) fn head(&mut self) -> Expr {
        let outer = std::mem::replace(&mut self.in_head, true);
        let expression = self.expression();
        self.in_head = true;
        self.no_assignment();
        self.in_head = outer;
        expression
    }

    /// Whether the `{` that stands `ahead` of here, in a head, opens a record and not the block: the
    /// block or more of the expression follows it.
    fn record_in_head(&self, ahead: usize) -> bool {
        use SyntaxKind::*;
        let open = self.at + ahead;
        if !self.in_head || self.kind_ahead(ahead) != LeftBrace || self.closing[open] == 0 {
            return false;
        }
        // A block may begin with `name =`, and never with `name:`.
        let is_record = self.opens_record(ahead) && self.kind_ahead(ahead + 2) == Colon;
        let next = self.tokens[self.closing[open] as usize + 1];
        let goes_on = !next.first_on_line
            && matches!(
                next.kind,
                LeftBrace | Dot | LeftBracket | EqualsEquals | BangEquals | AndAnd | OrOr
            );
        if ahead == 0 { is_record || goes_on } else { is_record && goes_on }
    }

    /// Reads the record whose `{` stands here, in a head, with a complaint; `start` is its first token.
    fn parenthesized_record(&mut self, start: usize, name: Option<Spanned<String>>) -> ExprKind {
        let begin = self.tokens[start].start as usize;
        let closing = self.tokens[self.closing[self.at] as usize];
        let span = begin..closing.end as usize;
        let text = format!("({})", &self.source[span.clone()]);
        let diagnostic =
            Diagnostic::error("E0121", "a record needs parentheses here", span.clone())
                .label("a `{` here would open the block")
                .fix(span, text, "put it into parentheses");
        self.report(diagnostic);
        self.record(name)
    }

    /// Reports a `=` after a condition, and reads what stands behind it.
    pub(super) fn no_assignment(&mut self) {
        if self.at(SyntaxKind::Equals) {
            self.foreign("`=` assigns, and `==` compares", self.span(), "==");
            self.bump();
            self.expression();
        }
    }

    /// What could not be read.
    pub(super) fn missing(&self) -> Expr {
        let start = self.span().start;
        Expr { kind: ExprKind::Missing, span: start..start }
    }

    /// Whether an expression may begin with the current token.
    pub(super) fn begins_expression(&self) -> bool {
        use SyntaxKind::*;
        matches!(
            self.kind(),
            Name | Int
                | Float
                | Quantity
                | String
                | LongString
                | Secret
                | LeftParen
                | LeftBracket
                | LeftBrace
                | Bang
                | Minus
        )
    }

    /// Operators of precedence `least` and above, 0 being the loosest.
    fn binary(&mut self, least: u8) -> Expr {
        let start = self.at;
        let outer = std::mem::replace(&mut self.deepest, self.depth);
        let mut left = self.unary();
        while let Some((op, precedence, tokens)) = self.operator() {
            if precedence < least || !self.link() {
                break;
            }
            for _ in 0..tokens {
                self.bump();
            }
            self.depth += 1;
            let right = self.binary(precedence + 1);
            self.depth -= 1;
            let kind = ExprKind::Binary(op, Box::new(left), Box::new(right));
            self.node(SyntaxKind::BinaryExpression, start);
            left = Expr { kind, span: self.span_from(start) };
        }
        self.deepest = self.deepest.max(outer);
        left
    }

    /// The operator at the current token, its precedence and its number of tokens.
    fn operator(&mut self) -> Option<(BinaryOp, u8, usize)> {
        let one = |op, precedence| Some((op, precedence, 1));
        match (self.kind(), self.text()) {
            (SyntaxKind::OrOr, "|") => self.foreign("there is no operator `|`", self.span(), "||"),
            (SyntaxKind::AndAnd, "&") => {
                self.foreign("there is no operator `&`", self.span(), "&&");
            }
            _ => {}
        }
        match self.kind() {
            SyntaxKind::OrOr => one(BinaryOp::Or, 0),
            SyntaxKind::AndAnd => one(BinaryOp::And, 1),
            SyntaxKind::EqualsEquals => one(BinaryOp::Equal, 2),
            SyntaxKind::BangEquals => one(BinaryOp::NotEqual, 2),
            SyntaxKind::Less => one(BinaryOp::Less, 3),
            SyntaxKind::LessEquals => one(BinaryOp::LessOrEqual, 3),
            SyntaxKind::Greater => {
                let adjacent = matches!(self.kind_ahead(1), SyntaxKind::Equals)
                    && self.tokens[self.at].end == self.tokens[self.at + 1].start;
                if adjacent {
                    Some((BinaryOp::GreaterOrEqual, 3, 2))
                } else {
                    one(BinaryOp::Greater, 3)
                }
            }
            SyntaxKind::Plus | SyntaxKind::Minus if self.at_step() => None,
            SyntaxKind::Plus => one(BinaryOp::Add, 4),
            SyntaxKind::Minus => one(BinaryOp::Subtract, 4),
            SyntaxKind::Star => one(BinaryOp::Multiply, 5),
            SyntaxKind::Slash => one(BinaryOp::Divide, 5),
            SyntaxKind::Percent => one(BinaryOp::Remainder, 5),
            SyntaxKind::Name => match self.text() {
                "in" => one(BinaryOp::In, 2),
                "not" if self.word_ahead(1) == "in" => Some((BinaryOp::NotIn, 2, 2)),
                "and" => self.spelt_out("&&", BinaryOp::And, 1),
                "or" => self.spelt_out("||", BinaryOp::Or, 0),
                _ => None,
            },
            _ => None,
        }
    }

    /// `and` and `or`, which are read as what they mean, with a complaint, where no key or name
    /// can be meant.
    fn spelt_out(
        &mut self,
        meant: &str,
        op: BinaryOp,
        precedence: u8,
    ) -> Option<(BinaryOp, u8, usize)> {
        use SyntaxKind::*;
        if !matches!(self.kind_ahead(1), Name | Int | Float | String | LeftParen | Bang | Minus) {
            return None;
        }
        let message = format!("`{}` is written `{meant}`", self.text());
        let diagnostic = Diagnostic::error("E0115", message, self.span()).did_you_mean(Some(meant));
        self.report(diagnostic);
        Some((op, precedence, 1))
    }

    fn unary(&mut self) -> Expr {
        let start = self.at;
        let op = match self.kind() {
            SyntaxKind::Bang => UnaryOp::Not,
            SyntaxKind::Minus => UnaryOp::Negate,
            SyntaxKind::Name if self.text() == "not" => UnaryOp::Not,
            _ => return self.postfix(),
        };
        self.bump();
        // The least int has no positive counterpart that `-` could be applied to.
        if op == UnaryOp::Negate
            && self.at(SyntaxKind::Int)
            && literal::int(self.text(), false).is_none()
            && let Some(value) = literal::int(self.text(), true)
        {
            self.bump();
            self.node(SyntaxKind::LiteralExpression, start);
            return Expr {
                kind: ExprKind::Literal(Literal::Int(value)),
                span: self.span_from(start),
            };
        }
        let operand = if self.enter() { self.unary() } else { self.missing() };
        self.leave();
        self.node(SyntaxKind::UnaryExpression, start);
        Expr { kind: ExprKind::Unary(op, Box::new(operand)), span: self.span_from(start) }
    }

    pub(super) fn postfix(&mut self) -> Expr {
        let start = self.at;
        let mut expression = self.primary();
        loop {
            let (kind, node) = match self.kind() {
                SyntaxKind::Dot | SyntaxKind::LeftBracket | SyntaxKind::LeftParen
                    if !self.link() =>
                {
                    break;
                }
                SyntaxKind::Dot if self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) => {
                    expression = self.foreign_range(expression, start);
                    continue;
                }
                SyntaxKind::Dot => (self.member(expression), SyntaxKind::MemberExpression),
                SyntaxKind::LeftBracket => (self.index(expression), SyntaxKind::IndexExpression),
                SyntaxKind::LeftParen => (self.call(expression), SyntaxKind::CallExpression),
                SyntaxKind::Question if self.foreign_mark() => continue,
                _ => break,
            };
            self.node(node, start);
            expression = Expr { kind, span: self.span_from(start) };
        }
        expression
    }

    /// The `?` of `a?.b`, and a `?` that nothing follows; false where it may be that of `c ? a : b`.
    fn foreign_mark(&mut self) -> bool {
        let member = self.at_both(SyntaxKind::Question, SyntaxKind::Dot);
        let nothing = matches!(
            self.kind_ahead(1),
            SyntaxKind::Semicolon
                | SyntaxKind::Comma
                | SyntaxKind::RightParen
                | SyntaxKind::RightBracket
                | SyntaxKind::RightBrace
                | SyntaxKind::End
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

    fn member(&mut self, of: Expr) -> ExprKind {
        self.bump();
        let name = self.name("a name after `.`").unwrap_or_else(|| self.no_name());
        ExprKind::Member(Box::new(of), name)
    }

    /// `a..b` and `a..=b`, which other languages write for a range. It is read as what has elements.
    fn foreign_range(&mut self, from: Expr, start: usize) -> Expr {
        let mark = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        let inclusive = self.eat(SyntaxKind::Equals);
        let to = self.postfix();
        self.node(SyntaxKind::ArrayExpression, start);
        let span = self.span_from(start);
        let [first, last] = [&from, &to].map(|end| &self.source[end.span.clone()]);
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

    fn index(&mut self, of: Expr) -> ExprKind {
        let open = self.at;
        self.bump();
        let head = std::mem::replace(&mut self.in_head, false);
        let start = self.at;
        let first = (!self.at(SyntaxKind::Colon)).then(|| self.expression());
        let index = match first {
            Some(first) if !self.at(SyntaxKind::Colon) => first,
            first => self.foreign_slice(first, open, start),
        };
        self.in_head = head;
        self.expect_closing(open, SyntaxKind::RightBracket);
        ExprKind::Index(Box::new(of), Box::new(index))
    }

    /// The `a:b` of `x[a:b]`, which other languages write for a part of a list.
    fn foreign_slice(&mut self, first: Option<Expr>, open: usize, start: usize) -> Expr {
        let colon = self.span();
        self.bump();
        let last = (!self.at(SyntaxKind::RightBracket)).then(|| self.expression());
        let text = |of: &Expr| self.source[of.span.clone()].to_owned();
        let ends: Vec<String> = match (&first, &last) {
            (None, None) => vec!["0".to_owned()],
            (None, Some(last)) => vec!["0".to_owned(), text(last)],
            (Some(first), last) => std::iter::once(first).chain(last).map(text).collect(),
        };
        let mut diagnostic = Diagnostic::error("E0115", "there are no slices in brackets", colon)
            .label("expected `]`");
        if self.at(SyntaxKind::RightBracket) {
            let whole = self.tokens[open].start as usize..self.span().end;
            let meant = format!(".slice({})", ends.join(", "));
            diagnostic = diagnostic.fix(whole, meant, "a part of an array or of a text");
        }
        self.report(diagnostic);
        first.unwrap_or_else(|| Expr {
            kind: ExprKind::Literal(Literal::Int(0)),
            span: self.span_from(start),
        })
    }

    fn call(&mut self, callee: Expr) -> ExprKind {
        let mut args = Vec::new();
        self.list(SyntaxKind::LeftParen, SyntaxKind::RightParen, "`(`", |parser| {
            args.push(parser.arg());
        });
        ExprKind::Call { callee: Box::new(callee), args }
    }

    fn arg(&mut self) -> Arg {
        let start = self.at;
        let named = self.at(SyntaxKind::Name)
            && matches!(self.kind_ahead(1), SyntaxKind::Equals | SyntaxKind::Colon);
        let name = if named { self.name("a name") } else { None };
        if named {
            self.bump();
        }
        let value = self.expression();
        self.node(SyntaxKind::Argument, start);
        Arg { name, value }
    }

    fn primary(&mut self) -> Expr {
        let start = self.at;
        let (kind, node) = match self.kind() {
            SyntaxKind::Name => return self.named(),
            SyntaxKind::LeftParen => return self.parenthesized(),
            SyntaxKind::LeftBracket => (self.array(), SyntaxKind::ArrayExpression),
            SyntaxKind::LeftBrace if !self.in_head => {
                (self.record(None), SyntaxKind::RecordExpression)
            }
            SyntaxKind::LeftBrace if self.record_in_head(0) => {
                (self.parenthesized_record(start, None), SyntaxKind::RecordExpression)
            }
            SyntaxKind::OrOr if self.at_bars() => return self.barred_lambda(),
            SyntaxKind::Secret => (self.secret(), SyntaxKind::SecretExpression),
            _ => match self.literal() {
                Some(literal) => (ExprKind::Literal(literal), SyntaxKind::LiteralExpression),
                None => {
                    self.expected("an expression");
                    return self.missing();
                }
            },
        };
        self.node(node, start);
        Expr { kind, span: self.span_from(start) }
    }

    /// What begins with a name or a word.
    fn named(&mut self) -> Expr {
        let start = self.at;
        let wraps = self.kind_ahead(1) == SyntaxKind::LeftParen;
        let (kind, node) = match self.text() {
            "if" => return self.if_expression(),
            "match" => return self.match_expression(),
            // In whatever line it stands.
            _ if self.at_plain_statement() => {
                self.expected("an expression");
                return self.missing();
            }
            "Some" if wraps => (ExprKind::Some(self.wrapped()), SyntaxKind::WrapExpression),
            "Ok" if wraps => (ExprKind::Ok(self.wrapped()), SyntaxKind::WrapExpression),
            "Err" if wraps => (ExprKind::Err(self.wrapped()), SyntaxKind::WrapExpression),
            "None" => {
                self.bump();
                (ExprKind::None, SyntaxKind::LiteralExpression)
            }
            "true" | "false" | "null" => {
                let literal = self.literal().unwrap_or(Literal::Null);
                (ExprKind::Literal(literal), SyntaxKind::LiteralExpression)
            }
            name if !self.in_head && self.opens_record(1) => {
                let name = Spanned { node: name.to_owned(), span: self.span() };
                self.bump();
                (self.record(Some(name)), SyntaxKind::RecordExpression)
            }
            name if self.record_in_head(1) => {
                let name = Spanned { node: name.to_owned(), span: self.span() };
                self.bump();
                (self.parenthesized_record(start, Some(name)), SyntaxKind::RecordExpression)
            }
            name => {
                self.bump();
                (ExprKind::Name(name.to_owned()), SyntaxKind::NameExpression)
            }
        };
        self.node(node, start);
        Expr { kind, span: self.span_from(start) }
    }

    /// `(e)` after `Some`, `Ok` or `Err`.
    fn wrapped(&mut self) -> Box<Expr> {
        self.bump();
        let open = self.at;
        self.bump();
        let head = std::mem::replace(&mut self.in_head, false);
        let inner = self.expression();
        self.in_head = head;
        self.expect_closing(open, SyntaxKind::RightParen);
        Box::new(inner)
    }

    fn parenthesized(&mut self) -> Expr {
        let start = self.at;
        self.bump();
        let head = std::mem::replace(&mut self.in_head, false);
        let inner = self.expression();
        if self.at(SyntaxKind::Comma) {
            let tuple = self.foreign_tuple(inner, start);
            self.in_head = head;
            return tuple;
        }
        self.in_head = head;
        self.expect_closing(start, SyntaxKind::RightParen);
        self.node(SyntaxKind::ParenthesizedExpression, start);
        Expr { kind: inner.kind, span: self.span_from(start) }
    }

    /// `(a, b)`, which other languages write for several values in one.
    fn foreign_tuple(&mut self, first: Expr, start: usize) -> Expr {
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

    fn array(&mut self) -> ExprKind {
        let mut elements = Vec::new();
        self.list(SyntaxKind::LeftBracket, SyntaxKind::RightBracket, "`[`", |parser| {
            elements.push(parser.expression());
        });
        ExprKind::Array(elements)
    }

    /// Whether the token `ahead` opens a record: `{}`, `{ name:`, `{ "text":`, or those with `=`.
    pub(super) fn opens_record(&self, ahead: usize) -> bool {
        self.kind_ahead(ahead) == SyntaxKind::LeftBrace
            && match self.kind_ahead(ahead + 1) {
                SyntaxKind::RightBrace => true,
                SyntaxKind::Name | SyntaxKind::String => {
                    matches!(self.kind_ahead(ahead + 2), SyntaxKind::Colon | SyntaxKind::Equals)
                }
                _ => false,
            }
    }

    /// Whether a statement begins here and no field of a record.
    fn at_no_field(&self) -> bool {
        self.at_plain_statement() || self.at_use_of_name()
    }

    /// Whether a statement begins here and no arm.
    fn at_no_arm(&self) -> bool {
        self.at_plain_statement()
            || (self.at_use_of_name() && !matches!(self.word(), "Some" | "Ok" | "Err"))
    }

    /// Whether a member of something, or a call that is a statement of its own, stands here.
    fn at_use_of_name(&self) -> bool {
        self.at(SyntaxKind::Name)
            && match self.kind_ahead(1) {
                SyntaxKind::Dot => true,
                SyntaxKind::LeftParen => {
                    let closing = self.closing[self.at + 1] as usize;
                    closing > 0 && self.tokens[closing + 1].kind == SyntaxKind::Semicolon
                }
                _ => false,
            }
    }

    fn record(&mut self, name: Option<Spanned<String>>) -> ExprKind {
        let mut fields = Vec::new();
        // Of several keys in a row that have no value, the first is told of.
        let mut lost = false;
        self.braced_until(Self::at_no_field, |parser| {
            let start = parser.at;
            let Some(key) = parser.key() else { return false };
            let lacks = !parser.eat(SyntaxKind::Colon) && !parser.eat(SyntaxKind::Equals);
            if lacks && lost {
                parser.reported_at = Some(parser.at);
            } else if lacks {
                parser.expected("`:` and a value");
            }
            lost = lacks;
            let value = parser.expression();
            parser.node(SyntaxKind::Field, start);
            fields.push((key, value));
            true
        });
        ExprKind::Record { name, fields }
    }

    fn secret(&mut self) -> ExprKind {
        const SCHEME: &str = "vault://";
        let path = self.text().strip_prefix(SCHEME).unwrap_or_default().to_owned();
        if path.is_empty() {
            let diagnostic = Diagnostic::error("E0101", "the secret has no path", self.span())
                .label("expected `vault://path/to/secret`");
            self.report(diagnostic);
        }
        self.bump();
        ExprKind::Secret(path)
    }

    /// A literal, if there is one here.
    pub(super) fn literal(&mut self) -> Option<Literal> {
        let (text, span) = (self.text(), self.span());
        let literal = match self.kind() {
            SyntaxKind::Int => literal::int_literal(text, span, self.sink),
            SyntaxKind::Float => literal::float_literal(text, span, self.sink),
            SyntaxKind::Quantity => literal::quantity_literal(text, span, self.sink),
            SyntaxKind::String => {
                Literal::String(literal::string_value(text, 1, span.start, self.sink))
            }
            SyntaxKind::LongString => {
                Literal::String(literal::string_value(text, 3, span.start, self.sink))
            }
            SyntaxKind::Name => match text {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ => return None,
            },
            _ => return None,
        };
        let number = matches!(self.kind(), SyntaxKind::Int | SyntaxKind::Float);
        let start = self.span().start;
        self.bump();
        if number && let Some(quantity) = self.apart(text, start) {
            return Some(quantity);
        }
        Some(literal)
    }

    /// A unit that stands apart from its number, on the same line, and is no key.
    fn apart(&mut self, number: &str, start: usize) -> Option<Literal> {
        let unit = self.word();
        let begins = matches!(
            self.kind_ahead(1),
            SyntaxKind::Equals | SyntaxKind::Colon | SyntaxKind::LeftParen | SyntaxKind::Dot
        );
        if begins || self.first_on_line() || !literal::is_unit(unit) {
            return None;
        }
        let together = literal::together(number, unit);
        let span = start..self.span().end;
        let diagnostic = Diagnostic::error(
            "E0115",
            "a unit is written behind its number",
            span.clone(),
        )
        .fix(span.clone(), together.as_str(), format!("write `{together}`"));
        self.report(diagnostic);
        self.bump();
        Some(literal::quantity_literal(&together, span, self.sink))
    }

    // Lambdas.

    fn at_lambda(&self) -> bool {
        match self.kind() {
            SyntaxKind::Name => is_arrow(self.kind_ahead(1)),
            SyntaxKind::LeftParen => {
                let closing = self.closing[self.at] as usize;
                closing > 0 && is_arrow(self.tokens[closing + 1].kind)
            }
            _ => false,
        }
    }

    /// Whether `|x|` stands here, which begins a lambda in other languages.
    fn at_bars(&self) -> bool {
        let at_bar = |ahead: usize| self.text_of(self.at + ahead) == "|";
        let mut ahead = 1;
        while at_bar(0) && self.kind_ahead(ahead) == SyntaxKind::Name {
            ahead += 1 + usize::from(self.kind_ahead(ahead + 1) == SyntaxKind::Comma);
        }
        at_bar(0) && ahead > 1 && at_bar(ahead)
    }

    /// `|a, b| e`, read as `(a, b) => e`.
    fn barred_lambda(&mut self) -> Expr {
        let start = self.at;
        self.bump();
        let mut params = Vec::new();
        while self.at(SyntaxKind::Name) {
            params.extend(self.name("a name").map(|name| Param { name, ty: None }));
            self.eat(SyntaxKind::Comma);
        }
        self.bump();
        let head = self.span_from(start);
        let names: Vec<&str> = params.iter().map(|param| param.name.node.as_str()).collect();
        let meant = format!("({}) =>", names.join(", "));
        let message = format!("`{}` is written `{meant}`", short(&self.source[head.clone()]));
        let diagnostic = Diagnostic::error("E0115", message, head).did_you_mean(Some(&meant));
        self.sink.push(diagnostic);
        let body = Box::new(self.arm_body());
        self.node(SyntaxKind::LambdaExpression, start);
        Expr { kind: ExprKind::Lambda { params, body }, span: self.span_from(start) }
    }

    fn lambda(&mut self) -> Expr {
        let start = self.at;
        let params = if self.at(SyntaxKind::LeftParen) {
            self.params()
        } else {
            self.name("a name").map(|name| Param { name, ty: None }).into_iter().collect()
        };
        self.fat_arrow();
        let body = Box::new(self.arm_body());
        self.node(SyntaxKind::LambdaExpression, start);
        Expr { kind: ExprKind::Lambda { params, body }, span: self.span_from(start) }
    }

    /// The `=>` of a lambda or an arm.
    fn fat_arrow(&mut self) {
        if self.at(SyntaxKind::ThinArrow) {
            self.foreign("`->` is written `=>` here", self.span(), "=>");
            self.bump();
        } else {
            self.expect(SyntaxKind::FatArrow, "`=>`");
        }
    }

    /// What an arm or a lambda gives: `{ name:` and `{ "text":` open a record, any other `{` and
    /// `{}` a block.
    fn arm_body(&mut self) -> Block {
        let empty = self.kind_ahead(1) == SyntaxKind::RightBrace;
        let record = self.opens_record(0) && self.kind_ahead(2) == SyntaxKind::Colon;
        if self.at(SyntaxKind::LeftBrace) && (empty || !record) {
            return self.block();
        }
        if matches!(self.word(), "return" | "break" | "continue") {
            return self.bare_statement();
        }
        let head = std::mem::replace(&mut self.in_head, false);
        let value = self.expression();
        self.in_head = head;
        let span = value.span.clone();
        Block { statements: Vec::new(), value: Some(Box::new(value)), span }
    }

    /// `return e`, `break` or `continue` where an expression or a block should be.
    fn bare_statement(&mut self) -> Block {
        let (start, word) = (self.at, self.word());
        let place = self.span();
        self.bump();
        let head = std::mem::replace(&mut self.in_head, false);
        let value = (word == "return" && self.begins_expression()).then(|| self.expression());
        self.in_head = head;
        let span = self.span_from(start);
        let statement = &self.source[span.clone()];
        self.sink.push(
            Diagnostic::error("E0120", format!("`{word}` needs a block here"), place)
                .label("expected an expression or `{`")
                .fix(span.clone(), format!("{{ {statement}; }}"), "put it into a block"),
        );
        let kind = match word {
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            _ => StmtKind::Return(value),
        };
        Block { statements: vec![Stmt { kind, span: span.clone() }], value: None, span }
    }

    // `if` and `match`.

    pub(super) fn if_expression(&mut self) -> Expr {
        let start = self.at;
        let kind = if self.enter() { self.if_parts() } else { ExprKind::Missing };
        self.leave();
        self.node(SyntaxKind::IfExpression, start);
        Expr { kind, span: self.span_from(start) }
    }

    fn if_parts(&mut self) -> ExprKind {
        self.bump();
        let condition = if self.at_word("let") {
            self.bump();
            let pattern = self.pattern();
            self.expect(SyntaxKind::Equals, "`=`");
            Condition::Let(pattern, self.head())
        } else {
            Condition::Expr(self.head())
        };
        let then = self.block();
        let elif = matches!(self.word(), "elif" | "elsif" | "elseif");
        if elif {
            let message = format!("`{}` is written `else if`", self.word());
            self.foreign(message, self.span(), "else if");
        }
        let otherwise = (elif || self.else_word()).then(|| {
            if elif || self.at_word("if") {
                let value = self.if_expression();
                let span = value.span.clone();
                Block { statements: Vec::new(), value: Some(Box::new(value)), span }
            } else {
                self.block()
            }
        });
        ExprKind::If { condition: Box::new(condition), then, otherwise }
    }

    /// Reads an `else`, or what is meant to be one.
    fn else_word(&mut self) -> bool {
        let next = self.kind_ahead(1);
        let misspelt = self.at(SyntaxKind::Name)
            && !self.at_word("else")
            && (next == SyntaxKind::LeftBrace || self.word_ahead(1) == "if")
            && nearest(self.word(), ["else"]).is_some();
        if misspelt {
            let message = format!("expected `else`, found {}", self.found());
            let diagnostic =
                Diagnostic::error("E0111", message, self.span()).did_you_mean(Some("else"));
            self.report(diagnostic);
            self.bump();
        }
        misspelt || self.eat_word("else")
    }

    pub(super) fn match_expression(&mut self) -> Expr {
        let start = self.at;
        let kind = if self.enter() { self.match_parts() } else { ExprKind::Missing };
        self.leave();
        self.node(SyntaxKind::MatchExpression, start);
        Expr { kind, span: self.span_from(start) }
    }

    /// `if condition` behind a pattern, which other languages write.
    fn guard(&mut self) {
        if !self.at_word("if") {
            return;
        }
        let diagnostic = Diagnostic::error("E0115", "a pattern has no condition", self.span())
            .label("expected `=>`")
            .note("what an arm does may be an `if`: `x => if x > 1 { 2 } else { 3 }`");
        self.report(diagnostic);
        self.bump();
        let head = std::mem::replace(&mut self.in_head, true);
        self.binary(0);
        self.in_head = head;
    }

    fn match_parts(&mut self) -> ExprKind {
        self.bump();
        let subject = Box::new(self.head());
        let mut arms = Vec::new();
        self.braced_until(Self::at_no_arm, |parser| {
            let start = parser.at;
            let pattern = parser.pattern();
            if parser.at == start {
                return false;
            }
            parser.guard();
            parser.fat_arrow();
            let body = parser.arm_body();
            parser.node(SyntaxKind::Arm, start);
            arms.push(Arm { pattern, body });
            true
        });
        ExprKind::Match { subject, arms }
    }
}

/// Whether this is the arrow of a lambda, here or in other languages.
fn is_arrow(kind: SyntaxKind) -> bool {
    matches!(kind, SyntaxKind::FatArrow | SyntaxKind::ThinArrow)
}
