//! Expressions.

use super::Parser;
use super::statements::{begins_statement, is_place};
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{
    Arg, Arm, BinaryOp, Block, Condition, Expr, ExprKind, Literal, Param, Spanned, Stmt, StmtKind,
    UnaryOp,
};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::{self, short};

/// The precedence of comparisons, which bind looser than sums.
pub(super) const LOOSER_THAN_SUMS: u8 = 3;

impl Parser<'_> {
    /// An expression.
    pub(super) fn expression(&mut self) -> Expr {
        let (start, may_step) = (self.at, std::mem::take(&mut self.may_step));
        let expression = if !self.enter() {
            self.missing()
        } else if self.at_lambda() {
            self.lambda()
        } else {
            let mut value = self.binary(0);
            self.foreign_range(&mut value, start);
            self.foreign_tail(value, start, may_step)
        };
        self.leave();
        expression
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

    /// Reports a `=` after a condition, and reads what stands behind it; whether there was one.
    pub(super) fn no_assignment(&mut self) -> bool {
        let found = self.at(SyntaxKind::Equals);
        if found {
            self.foreign("`=` assigns, and `==` compares", self.span(), "==");
            self.bump();
            self.expression();
        }
        found
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
    pub(super) fn binary(&mut self, least: u8) -> Expr {
        let start = self.at;
        let outer = std::mem::replace(&mut self.deepest, self.depth);
        let mut left = self.unary();
        while self.foreign_cast(&mut left, start) {}
        while let Some((op, precedence, tokens)) = self.operator(&mut left, least) {
            if precedence < least || !self.link() {
                break;
            }
            for _ in 0..tokens {
                self.bump();
            }
            self.depth += 1;
            let begin = self.at;
            let mut right = self.binary(precedence + 1);
            if matches!(op, BinaryOp::In | BinaryOp::NotIn) {
                self.foreign_range(&mut right, begin);
            }
            self.depth -= 1;
            let kind = ExprKind::Binary(op, Box::new(left), Box::new(right));
            self.node(SyntaxKind::BinaryExpression, start);
            left = Expr { kind, span: self.span_from(start) };
        }
        self.deepest = self.deepest.max(outer);
        left
    }

    /// The operator at the current token, its precedence and its number of tokens.
    fn operator(&mut self, left: &mut Expr, least: u8) -> Option<(BinaryOp, u8, usize)> {
        let one = |op, precedence| Some((op, precedence, 1));
        if self.foreign_assign().is_some() {
            return None;
        }
        match self.kind() {
            SyntaxKind::OrOr if self.text() == "||" => one(BinaryOp::Or, 0),
            SyntaxKind::AndAnd if self.text() == "&&" => one(BinaryOp::And, 1),
            SyntaxKind::OrOr | SyntaxKind::AndAnd | SyntaxKind::Dot => {
                self.foreign_operator(left, least)
            }
            SyntaxKind::EqualsEquals => one(BinaryOp::Equal, 2),
            SyntaxKind::BangEquals => one(BinaryOp::NotEqual, 2),
            SyntaxKind::Less | SyntaxKind::Greater
                if matches!(self.kind_ahead(1), SyntaxKind::Less | SyntaxKind::Greater)
                    && self.adjacent(1) =>
            {
                self.foreign_operator(left, least)
            }
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
            SyntaxKind::Plus | SyntaxKind::Minus
                if self.at_step() || (self.first_on_line() && self.at_step_before()) =>
            {
                None
            }
            SyntaxKind::Plus => one(BinaryOp::Add, 4),
            SyntaxKind::Minus => one(BinaryOp::Subtract, 4),
            SyntaxKind::Star => one(BinaryOp::Multiply, 5),
            SyntaxKind::Slash => one(BinaryOp::Divide, 5),
            SyntaxKind::Percent => one(BinaryOp::Remainder, 5),
            SyntaxKind::Name => match self.text() {
                "in" => one(BinaryOp::In, 2),
                "not" if self.word_ahead(1) == "in" => Some((BinaryOp::NotIn, 2, 2)),
                _ => self.foreign_operator(left, least),
            },
            _ => None,
        }
    }

    pub(super) fn unary(&mut self) -> Expr {
        if matches!(self.kind(), SyntaxKind::Star | SyntaxKind::AndAnd | SyntaxKind::Dot) {
            self.foreign_sign();
        }
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
                SyntaxKind::Dot
                    if self.at_both(SyntaxKind::Dot, SyntaxKind::Dot)
                        || matches!(
                            self.kind_ahead(1),
                            SyntaxKind::String | SyntaxKind::LongString
                        ) =>
                {
                    break;
                }
                SyntaxKind::Colon
                    if self.at_both(SyntaxKind::Colon, SyntaxKind::Colon)
                        && self.kind_ahead(2) == SyntaxKind::Name
                        && self.link() =>
                {
                    (self.foreign_member(expression), SyntaxKind::MemberExpression)
                }
                SyntaxKind::Dot => (self.member(expression), SyntaxKind::MemberExpression),
                SyntaxKind::ThinArrow
                    if self.at > start && self.at_arrow_member(0) && self.link() =>
                {
                    (self.foreign_member(expression), SyntaxKind::MemberExpression)
                }
                SyntaxKind::LeftBracket => (self.index(expression), SyntaxKind::IndexExpression),
                SyntaxKind::LeftParen => (self.call(expression), SyntaxKind::CallExpression),
                SyntaxKind::Question | SyntaxKind::Bang | SyntaxKind::Star
                    if self.foreign_suffix(&mut expression, start) =>
                {
                    continue;
                }
                _ => break,
            };
            self.node(node, start);
            expression = Expr { kind, span: self.span_from(start) };
        }
        expression
    }

    /// `a::b` and `a->b`
    fn foreign_member(&mut self, of: Expr) -> ExprKind {
        if self.at(SyntaxKind::ThinArrow) {
            self.foreign("`->` is written `.`", self.span(), ".");
        } else {
            let span = self.span().start..self.span().end + 1;
            let diagnostic =
                Diagnostic::error("E0115", "`::` leads nowhere", span).label("expected `.`");
            self.report(diagnostic);
            self.bump();
        }
        self.member(of)
    }

    fn member(&mut self, of: Expr) -> ExprKind {
        self.bump();
        let of = match self.numbered(of) {
            Ok(index) => return index,
            Err(of) => of,
        };
        let name = self.name("a name after `.`").unwrap_or_else(|| self.no_name());
        ExprKind::Member(Box::new(of), name)
    }

    fn index(&mut self, of: Expr) -> ExprKind {
        let open = self.at;
        self.bump();
        let head = std::mem::replace(&mut self.in_head, false);
        let start = self.at;
        let dotted = self.dots_within(open);
        let first = match self.kind() {
            SyntaxKind::Colon => None,
            SyntaxKind::Dot if dotted => None,
            _ if dotted => Some(self.binary(LOOSER_THAN_SUMS)),
            _ => Some(self.expression()),
        };
        let index = match first {
            Some(first) if !self.at(SyntaxKind::Colon) && !dotted => first,
            first => self.foreign_slice(first, open, start),
        };
        self.in_head = head;
        self.expect_closing(open, SyntaxKind::RightBracket);
        ExprKind::Index(Box::new(of), Box::new(index))
    }

    pub(super) fn call(&mut self, callee: Expr) -> ExprKind {
        let open = self.at;
        let mut args = Vec::new();
        self.list(SyntaxKind::LeftParen, SyntaxKind::RightParen, "`(`", |parser| {
            args.push(parser.arg());
        });
        ExprKind::Call { callee: self.meant_callee(callee, open), args }
    }

    /// What is called by the call whose `(` is the token `open`.
    fn meant_callee(&mut self, mut callee: Expr, open: usize) -> Box<Expr> {
        if self.asks.take_if(|asks| *asks == open).is_some()
            && let ExprKind::Name(node) = &callee.kind
        {
            let name = Spanned { node: node.clone(), span: callee.span.clone() };
            callee.kind = ExprKind::Member(Box::new(self.missing()), name);
        }
        Box::new(callee)
    }

    fn arg(&mut self) -> Arg {
        let start = self.at;
        let named = self.at(SyntaxKind::Name)
            && matches!(self.kind_ahead(1), SyntaxKind::Equals | SyntaxKind::Colon)
            && self.kind_ahead(2) != SyntaxKind::Colon;
        let name = if named { self.name("a name") } else { None };
        if named {
            self.bump();
        }
        let value = self.expression();
        self.node(SyntaxKind::Argument, start);
        Arg { name, value }
    }

    pub(super) fn primary(&mut self) -> Expr {
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
        if let Some(foreign) = self.foreign_prefix() {
            return foreign;
        }
        let wraps = self.kind_ahead(1) == SyntaxKind::LeftParen;
        let (kind, node) = match self.text() {
            "if" => return self.if_value(),
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
            let Some(key) = parser.key() else { return parser.foreign_field() };
            let lacks = !parser.eat(SyntaxKind::Colon) && !parser.eat(SyntaxKind::Equals);
            if lacks && lost {
                parser.reported_at = Some(parser.at);
            } else if lacks {
                parser.lacks_value(&key);
            }
            lost = lacks;
            let value = parser.expression();
            parser.node(SyntaxKind::Field, start);
            fields.push((key, value));
            true
        });
        ExprKind::Record { name, fields }
    }

    /// Reports a key that no value follows, which other languages write where a name is its value.
    fn lacks_value(&mut self, key: &Spanned<String>) {
        let ends = matches!(self.kind(), SyntaxKind::Comma | SyntaxKind::RightBrace);
        let plain = self.source.get(key.span.clone()) == Some(key.node.as_str());
        if !ends || !plain {
            return self.expected("`:` and a value");
        }
        let (message, place) =
            (format!("expected `:` and a value, found {}", self.found()), key.span.end);
        let diagnostic = Diagnostic::error("E0101", message, self.span())
            .label("expected `:` and a value")
            .fix(place..place, format!(": {}", key.node), "a key and its value are both written");
        self.report(diagnostic);
        self.sink.lost(key.span.clone());
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
            SyntaxKind::Name => is_arrow(self.kind_ahead(1)) && !self.at_arrow_member(1),
            SyntaxKind::LeftParen => {
                let closing = self.closing[self.at] as usize;
                closing > 0 && is_arrow(self.tokens[closing + 1].kind)
            }
            _ => false,
        }
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

    /// The `=>` of a lambda.
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
    pub(super) fn arm_body(&mut self) -> Block {
        let empty = self.kind_ahead(1) == SyntaxKind::RightBrace;
        let record = self.opens_record(0) && self.kind_ahead(2) == SyntaxKind::Colon;
        if self.at(SyntaxKind::LeftBrace) && (empty || !record) {
            return self.block();
        }
        if matches!(self.word(), "return" | "break" | "continue") {
            return self.bare_statement();
        }
        let start = self.at;
        let head = std::mem::replace(&mut self.in_head, false);
        if self.at_plain_statement() {
            let kind = self.statement();
            self.in_head = head;
            return self.needs_block(start, kind);
        }
        let value = self.expression();
        if self.at_assignment() && is_place(&value) {
            self.bump();
            let assigned = self.expression();
            self.in_head = head;
            let kind = StmtKind::Assign { target: value, op: None, value: assigned };
            return self.needs_block(start, kind);
        }
        self.in_head = head;
        let span = value.span.clone();
        Block { statements: Vec::new(), value: Some(Box::new(value)), span }
    }

    /// Whether something is assigned here, by `=` or the like.
    fn at_assignment(&self) -> bool {
        use SyntaxKind::{Equals, MinusEquals, PercentEquals, PlusEquals, SlashEquals, StarEquals};
        matches!(
            self.kind(),
            Equals | PlusEquals | MinusEquals | StarEquals | SlashEquals | PercentEquals
        )
    }

    /// Reports a statement, read from token `start`, where an expression or a block should be.
    fn needs_block(&mut self, start: usize, kind: StmtKind) -> Block {
        let span = self.span_from(start);
        let word = match &kind {
            StmtKind::Assign { .. } => "an assignment".to_owned(),
            _ => format!("`{}`", short(self.text_of(start))),
        };
        let place = self.tokens[start].start as usize..self.tokens[start].end as usize;
        let statement = &self.source[span.clone()];
        let end = if statement.ends_with('}') { "" } else { ";" };
        self.sink.push(
            Diagnostic::error("E0120", format!("{word} needs a block here"), place)
                .label("expected an expression or `{`")
                .fix(span.clone(), format!("{{ {statement}{end} }}"), "put it into a block"),
        );
        Block { statements: vec![Stmt { kind, span: span.clone() }], value: None, span }
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

    /// An `if` whose statement goes on behind it.
    fn if_value(&mut self) -> Expr {
        let outer = std::mem::replace(&mut self.in_value, true);
        let value = self.if_expression();
        self.in_value = outer;
        value
    }

    pub(super) fn if_expression(&mut self) -> Expr {
        self.if_with(true)
    }

    /// An `if`, whose word may lack.
    fn if_with(&mut self, word: bool) -> Expr {
        let start = self.at;
        let kind = if self.enter() { self.if_parts(word) } else { ExprKind::Missing };
        self.leave();
        self.node(SyntaxKind::IfExpression, start);
        Expr { kind, span: self.span_from(start) }
    }

    /// Whether `Some(p) =` or the like stands here.
    fn at_pattern(&self) -> bool {
        let closing = match self.kind_ahead(1) {
            SyntaxKind::LeftParen => self.closing[self.at + 1] as usize,
            _ => 0,
        };
        matches!(self.word(), "Some" | "Ok" | "Err")
            && closing > 0
            && self.tokens[closing + 1].kind == SyntaxKind::Equals
    }

    fn condition(&mut self) -> Box<Condition> {
        Box::new(if self.at_word("let") {
            self.bump();
            let pattern = self.pattern();
            self.expect(SyntaxKind::Equals, "`=`");
            Condition::Let(pattern, self.head())
        } else if self.at_parenthesized_let() {
            self.parenthesized_let()
        } else if self.at_pattern() {
            let start = self.span().start;
            self.mend_at(self.span(), start..start, "let ", "a pattern stands behind `let`");
            let pattern = self.pattern();
            self.bump();
            Condition::Let(pattern, self.head())
        } else {
            Condition::Expr(self.head())
        })
    }

    fn if_parts(&mut self, word: bool) -> ExprKind {
        if word {
            self.bump();
        }
        let condition = self.condition();
        let then = self.body();
        let otherwise = self.otherwise_of_if();
        ExprKind::If { condition, then, otherwise }
    }

    /// The `else` of an `if`, where there is one.
    pub(super) fn otherwise_of_if(&mut self) -> Option<Block> {
        let elif = matches!(self.word(), "elif" | "elsif" | "elseif") && self.heads_block();
        if elif {
            let message = format!("`{}` is written `else if`", self.word());
            self.mend(self.span(), "else if", message);
        } else if !self.else_word() {
            return None;
        }
        // The word of an `if`, and what of it is missing.
        let lacks_if = !elif && self.at_condition_of_else();
        if lacks_if {
            let start = self.span().start;
            let message = "an `else` with a condition is an `else if`";
            self.mend_at(self.span(), start..start, "if ", message);
        }
        if !elif && !lacks_if && !self.at_word("if") {
            return Some(self.body());
        }
        let value = self.if_with(!lacks_if);
        let span = value.span.clone();
        Some(Block { statements: Vec::new(), value: Some(Box::new(value)), span })
    }

    /// Whether what stands here, behind `else`, is no statement and has a block behind it on its line.
    fn at_condition_of_else(&self) -> bool {
        use SyntaxKind::*;
        if matches!(self.kind(), LeftBrace | Colon | End)
            || self.first_on_line()
            || begins_statement(self.word())
        {
            return false;
        }
        let mut at = self.at;
        loop {
            let Some(token) = self.tokens.get(at).filter(|token| !token.first_on_line) else {
                return false;
            };
            match token.kind {
                LeftBrace => return at > self.at && !self.opens_record(at - self.at),
                Semicolon | RightBrace | FatArrow | ThinArrow | End => return false,
                Name if matches!(self.text_of(at), "do" | "then") => return false,
                _ => at = (self.closing[at] as usize).max(at) + 1,
            }
        }
    }

    /// Whether the word here, which is a name as good as any other, is followed by what can't follow a name, but
    /// may head a block.
    pub(super) fn heads_block(&self) -> bool {
        let infix = |ahead| matches!(self.word_ahead(ahead), "in" | "and" | "or" | "as" | "is");
        match self.kind_ahead(1) {
            SyntaxKind::Name => match self.word_ahead(1) {
                "not" => self.word_ahead(2) != "in",
                _ => !infix(1),
            },
            SyntaxKind::Int | SyntaxKind::Float | SyntaxKind::String | SyntaxKind::Colon => true,
            SyntaxKind::LeftBrace => !self.opens_record(1),
            SyntaxKind::LeftParen => {
                let closing = self.closing.get(self.at + 1).map_or(0, |closing| *closing as usize);
                closing > 0
                    && match self.tokens.get(closing + 1).map(|token| token.kind) {
                        Some(SyntaxKind::LeftBrace | SyntaxKind::Colon) => true,
                        Some(SyntaxKind::Name) => {
                            matches!(self.text_of(closing + 1), "as" | "then" | "do")
                        }
                        _ => false,
                    }
            }
            _ => false,
        }
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

    /// Passes over what stands before the `=>` of an arm, if it has one.
    fn skip_to_arrow(&mut self) {
        use SyntaxKind::{Comma, End, FatArrow, RightBrace, Semicolon};
        let mut at = self.at;
        while let Some(token) = self.tokens.get(at).filter(|token| !token.first_on_line) {
            match token.kind {
                FatArrow => {
                    self.at = at + 1;
                    return;
                }
                Comma | Semicolon | RightBrace | End => return,
                _ => at = (self.closing[at] as usize).max(at) + 1,
            }
        }
    }

    fn match_parts(&mut self) -> ExprKind {
        let (word, place) = (self.word(), self.span());
        self.bump();
        let subject = Box::new(self.head());
        if !self.at(SyntaxKind::LeftBrace) && !self.at_cases() {
            self.expected("`{`");
            return subject.kind;
        }
        let mut arms = Vec::new();
        if self.at_cases() {
            self.cases(word, place);
            return ExprKind::Match { subject, arms };
        }
        if word != "match" {
            self.mend(place, "match", format!("`{word}` is written `match`"));
        }
        self.braced_until(Self::at_no_arm, |parser| {
            let start = parser.at;
            let arrow = |kind| matches!(kind, SyntaxKind::FatArrow | SyntaxKind::ThinArrow);
            if parser.at_word("case") && !arrow(parser.kind_ahead(1)) {
                let span = parser.span().start..parser.tokens[parser.at + 1].start as usize;
                parser.mend(span, "", "an arm needs no `case`");
                parser.bump();
            }
            let pattern = parser.pattern();
            if parser.at == start {
                return false;
            }
            parser.guard();
            if parser.at(SyntaxKind::ThinArrow) {
                parser.mend(parser.span(), "=>", "`->` is written `=>` here");
                parser.bump();
            } else if !parser.expect(SyntaxKind::FatArrow, "`=>`") {
                parser.skip_to_arrow();
            }
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
