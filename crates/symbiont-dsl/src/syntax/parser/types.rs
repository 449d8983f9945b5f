//! Types, parameters and patterns.

use super::declarations::{is_item, is_keyword};
use super::foreign::FAR;
use super::{PARAMETERS, Parser};
use crate::diagnostic::Diagnostic;
use crate::hir::{Literal, Param, Pattern, PatternKind, Span, Spanned, Type, TypeKind};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::{self, short};
use crate::types::is_builtin;

impl Parser<'_> {
    /// `String`, `Array<int>`, `{ field: Type }`
    pub(super) fn ty(&mut self) -> Type {
        let start = self.at;
        let ty = self.one_type();
        if self.at(SyntaxKind::OrOr) { self.union(ty, start) } else { ty }
    }

    /// The rest of `A | B`, which other languages write.
    fn union(&mut self, first: Type, start: usize) -> Type {
        let bar = self.span();
        let mut all = vec![first];
        while self.eat(SyntaxKind::OrOr) {
            all.push(self.one_type());
        }
        let span = self.span_from(start);
        let is_nothing = |ty: &Type| {
            let nothing = ["null", "None", "nil", "undefined", "void"];
            matches!(&ty.kind, TypeKind::Named(name, _) if nothing.contains(&name.as_str()))
        };
        let mut something = all.iter().filter(|ty| !is_nothing(ty));
        let meant = match (something.next(), something.next(), all.iter().any(is_nothing)) {
            (Some(only), None, true) => format!("Option<{}>", &self.source[only.span.clone()]),
            _ => "any".to_owned(),
        };
        let diagnostic = Diagnostic::error("E0115", "there are no union types", bar)
            .label("a value has one type")
            .note("`any` takes whatever comes, `Option<T>` a value or none, and `Result<T>` a value or an error")
            .fix(span.clone(), meant.as_str(), format!("write `{}`", short(&meant)));
        self.sink.push(diagnostic);
        Type { kind: TypeKind::Named("any".to_owned(), Vec::new()), span }
    }

    pub(super) fn one_type(&mut self) -> Type {
        if self.at(SyntaxKind::AndAnd) {
            self.foreign_sign();
        }
        let start = self.at;
        let may_lack = self.at(SyntaxKind::Question) && self.kind_ahead(1) == SyntaxKind::Name;
        if may_lack {
            self.bump();
        }
        let kind = if !self.enter() {
            TypeKind::Named(String::new(), Vec::new())
        } else if self.at(SyntaxKind::LeftBrace) {
            self.record_type(start)
        } else {
            self.named_type(start)
        };
        self.leave();
        let ty = Type { kind, span: self.span_from(start) };
        if may_lack {
            let written = &self.source[ty.span.clone()];
            let meant = format!("Option<{}>", written.trim_start_matches('?'));
            let message = format!("`{}` is written `{}`", short(written), short(&meant));
            let diagnostic = Diagnostic::error("E0115", message, ty.span.clone());
            self.sink.push(diagnostic.did_you_mean(Some(&meant)));
        }
        self.foreign_type(ty, start)
    }

    /// `T?` and `T[]`, which other languages write.
    fn foreign_type(&mut self, ty: Type, start: usize) -> Type {
        let array = self.at_both(SyntaxKind::LeftBracket, SyntaxKind::RightBracket);
        let outer = match self.kind() {
            SyntaxKind::Question => "Option",
            SyntaxKind::LeftBracket if array => "Array",
            _ => return ty,
        };
        let of = &self.source[ty.span.clone()];
        let written = if array { "[]" } else { "?" };
        let message = format!("`{}{written}` is written `{outer}<{}>`", short(of), short(of));
        let span = ty.span.start..self.span().start + written.len();
        self.foreign(message, span, &format!("{outer}<{of}>"));
        for _ in 0..written.len() {
            self.bump();
        }
        let kind = TypeKind::Named(outer.to_owned(), vec![ty]);
        Type { kind, span: self.span_from(start) }
    }

    fn named_type(&mut self, start: usize) -> TypeKind {
        if self.first_on_line() && (self.at_declaration() || self.at_plain_statement()) {
            self.lacks("a type");
            return TypeKind::Named(String::new(), Vec::new());
        }
        if self.at(SyntaxKind::LeftBracket) {
            return self.foreign_array_type(start);
        }
        let Some(name) = self.name("a type") else {
            return TypeKind::Named(String::new(), Vec::new());
        };
        let mut arguments = Vec::new();
        if self.eat(SyntaxKind::Less) {
            loop {
                arguments.push(self.ty());
                if !self.eat(SyntaxKind::Comma) || self.at(SyntaxKind::Greater) {
                    break;
                }
            }
            self.expect(SyntaxKind::Greater, "`,` or `>`");
        }
        self.node(SyntaxKind::NamedType, start);
        TypeKind::Named(name.node, arguments)
    }

    /// `[T]`, which other languages write for an array.
    fn foreign_array_type(&mut self, start: usize) -> TypeKind {
        let open = self.at;
        self.bump();
        let of = self.ty();
        let closes = self.at(SyntaxKind::RightBracket);
        self.expect_closing(open, SyntaxKind::RightBracket);
        self.node(SyntaxKind::NamedType, start);
        if closes {
            let text = self.source[of.span.clone()].to_owned();
            let span = self.span_from(start);
            let message = format!("`[{0}]` is written `Array<{0}>`", short(&text));
            let meant = format!("Array<{text}>");
            let diagnostic = Diagnostic::error("E0115", message, span);
            self.sink.push(diagnostic.did_you_mean(Some(&meant)));
        }
        TypeKind::Named("Array".to_owned(), vec![of])
    }

    fn record_type(&mut self, start: usize) -> TypeKind {
        let mut fields = Vec::new();
        self.braced_until(Self::at_plain_statement, |parser| {
            let field = parser.at;
            let Some(key) = parser.key() else { return false };
            if !parser.eat(SyntaxKind::Equals) {
                parser.expect(SyntaxKind::Colon, "`:` and the field's type");
            }
            let ty = parser.ty();
            parser.node(SyntaxKind::FieldType, field);
            fields.push((key, ty));
            true
        });
        self.node(SyntaxKind::RecordType, start);
        TypeKind::Record(fields)
    }

    /// `(a: Type, b)`
    pub(super) fn params(&mut self) -> Vec<Param> {
        let start = self.at;
        let mut params = Vec::new();
        self.list(SyntaxKind::LeftParen, SyntaxKind::RightParen, PARAMETERS, |parser| {
            if let Some(param) = parser.param() {
                params.push(param);
            }
        });
        self.node(SyntaxKind::Parameters, start);
        params
    }

    fn param(&mut self) -> Option<Param> {
        let start = self.at;
        if self.at_plain_statement() {
            self.expected("a parameter's name");
            return None;
        }
        self.rest_of_arguments();
        self.foreign_sign();
        let name = self.name("a parameter's name")?;
        let optional = self.at(SyntaxKind::Question).then(|| self.span());
        if optional.is_some() {
            self.bump();
        }
        if self.at(SyntaxKind::Name)
            && !self.first_on_line()
            && matches!(
                self.kind_ahead(1),
                SyntaxKind::Comma | SyntaxKind::RightParen | SyntaxKind::Less
            )
        {
            return Some(self.foreign_param(name, start));
        }
        let ty = self.eat(SyntaxKind::Colon).then(|| self.ty());
        if let Some(mark) = optional {
            self.optional(&name, mark, ty.as_ref());
        }
        if self.at(SyntaxKind::Equals) {
            let diagnostic =
                Diagnostic::error("E0119", "a parameter has no value of its own", self.span())
                    .label("expected `,` or `)`")
                    .note("make its type an `Option`, and decide in the body what `None` means");
            self.report(diagnostic);
            self.bump();
            self.expression();
        }
        self.node(SyntaxKind::Parameter, start);
        Some(Param { name, ty })
    }

    /// Reports the `*` of `*xs` and the `...` of `...xs`, which other languages write for the rest of what is
    /// given.
    fn rest_of_arguments(&mut self) {
        use SyntaxKind::{Dot, Star};
        if !self.at(Star) && !self.at_both(Dot, Dot) {
            return;
        }
        let start = self.span().start;
        let end = (self.at..self.at + 3)
            .find(|at| !matches!(self.tokens[*at].kind, Dot | Star))
            .unwrap_or(self.at + 3);
        let span = start..self.tokens[end - 1].end as usize;
        let message = "a function is given as many values as it has parameters";
        let diagnostic = Diagnostic::error("E0115", message, span)
            .label("expected a parameter's name")
            .note("an array holds any number of values: `f([1, 2])`");
        self.report(diagnostic);
        self.at = end;
    }

    /// Reports the `?` of `a?: T`, which other languages write.
    fn optional(&mut self, name: &Spanned<String>, mark: Span, ty: Option<&Type>) {
        let (end, of) = match ty {
            Some(ty) => (ty.span.end, &self.source[ty.span.clone()]),
            None => (mark.end, "any"),
        };
        let span = name.span.start..end;
        let meant = format!("{}: Option<{of}>", name.node);
        let diagnostic = Diagnostic::error("E0115", "a parameter is never left out", mark)
            .label("not written like this")
            .note("a call gives `Some(x)` or `None`")
            .fix(span, meant.as_str(), format!("did you mean `{}`?", short(&meant)));
        self.sink.push(diagnostic);
    }

    /// `a int` and `int a`, which other languages write.
    fn foreign_param(&mut self, first: Spanned<String>, start: usize) -> Param {
        // Two names in lower case may be two parameters.
        let is_type = |name: &str| is_builtin(name) || name.starts_with(char::is_uppercase);
        if !is_type(&first.node) && !is_type(self.word()) {
            return Param { name: first, ty: None };
        }
        let second = self.one_type();
        let span = self.span_from(start);
        let (name, ty) = match second.kind {
            TypeKind::Named(name, _) if is_builtin(&first.node) => {
                let kind = TypeKind::Named(first.node, Vec::new());
                (Spanned { node: name, span: second.span }, Type { kind, span: first.span })
            }
            kind => (first, Type { kind, span: second.span }),
        };
        let meant = format!("{}: {}", name.node, &self.source[ty.span.clone()]);
        self.mend(span, meant, "the type of a parameter stands behind `:`");
        self.node(SyntaxKind::Parameter, start);
        Param { name, ty: Some(ty) }
    }

    /// Whether a type and a block stand `ahead`, on this line.
    fn type_and_block(&self, ahead: usize) -> bool {
        use SyntaxKind::{
            Comma, Greater, LeftBrace, LeftBracket, Less, Name, Question, RightBracket,
        };
        let of_type = |kind| {
            matches!(kind, Comma | Greater | LeftBracket | Less | Name | Question | RightBracket)
        };
        let beside = |at: usize| self.tokens.get(at).filter(|token| !token.first_on_line);
        let first = self.at + ahead;
        let begins = beside(first).is_some_and(|token| matches!(token.kind, Name | LeftBracket))
            && !is_item(self.text_of(first))
            && !is_keyword(self.text_of(first));
        let end =
            (first..first + FAR).find(|at| !beside(*at).is_some_and(|token| of_type(token.kind)));
        // No name stands right behind another in a type.
        let names = |at: usize| self.tokens[at].kind == Name && self.tokens[at + 1].kind == Name;
        begins
            && end.is_some_and(|end| {
                beside(end).is_some_and(|token| token.kind == LeftBrace) && !(first..end).any(names)
            })
    }

    /// `-> Type`, which may be left out.
    pub(super) fn result(&mut self) -> Option<Type> {
        let after_params = self
            .at
            .checked_sub(1)
            .is_some_and(|last| self.tokens[last].kind == SyntaxKind::RightParen);
        if after_params && self.at(SyntaxKind::Colon) && self.type_and_block(1) {
            let span = self.after_last().start..self.span().end;
            self.mend_at(self.span(), span, " ->", "a result stands behind `->`");
            self.bump();
            return Some(self.ty());
        }
        if after_params && self.type_and_block(0) {
            let start = self.span().start;
            self.mend_at(self.span(), start..start, "-> ", "a result stands behind `->`");
            return Some(self.ty());
        }
        if !self.eat(SyntaxKind::ThinArrow) {
            return None;
        }
        // What opens no record is the body, and the type is missing.
        if self.at(SyntaxKind::LeftBrace) && !self.opens_record(0) {
            self.expected("a type");
            return None;
        }
        Some(self.ty())
    }

    /// What an arm or an `if let` looks for.
    pub(super) fn pattern(&mut self) -> Pattern {
        let start = self.at;
        let kind = if self.enter() { self.pattern_kind() } else { PatternKind::Wildcard };
        self.leave();
        let pattern = Pattern { kind, span: self.span_from(start) };
        self.no_range();
        self.one_pattern();
        self.node(SyntaxKind::Pattern, start);
        pattern
    }

    /// Reports the rest of `a | b`, which other languages write, and reads it.
    fn one_pattern(&mut self) {
        if !self.at(SyntaxKind::OrOr) {
            return;
        }
        let diagnostic = Diagnostic::error("E0115", "an arm has one pattern", self.span())
            .label("expected `=>`")
            .note("write an arm for each of them; what they do may be a function that both call");
        self.report(diagnostic);
        while self.eat(SyntaxKind::OrOr) {
            if self.enter() {
                self.pattern_kind();
            }
            self.leave();
        }
    }

    /// Reports the rest of `a..b`, which other languages write, and reads it.
    fn no_range(&mut self) {
        if !self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) {
            return;
        }
        let span = self.span().start..self.span().end + 1;
        let diagnostic = Diagnostic::error("E0115", "a pattern is no range", span)
            .label("expected `=>`")
            .note("what an arm does may be an `if`: `x => if x > 1 && x < 5 { 2 } else { 3 }`");
        self.report(diagnostic);
        self.bump();
        self.bump();
        if !self.eat(SyntaxKind::Equals) {
            self.eat(SyntaxKind::Dot);
        }
        if self.eat(SyntaxKind::Minus) {
            self.negative_pattern();
        } else {
            self.literal();
        }
    }

    fn pattern_kind(&mut self) -> PatternKind {
        let wrapped = self.kind_ahead(1) == SyntaxKind::LeftParen;
        match self.word() {
            "" => {}
            "_" => {
                self.bump();
                return PatternKind::Wildcard;
            }
            "None" => {
                self.bump();
                return PatternKind::None;
            }
            "Some" if wrapped => return PatternKind::Some(self.inner_pattern()),
            "Ok" if wrapped => return PatternKind::Ok(self.inner_pattern()),
            "Err" if wrapped => return PatternKind::Err(self.inner_pattern()),
            "true" | "false" | "null" => {}
            name => {
                self.bump();
                return PatternKind::Name(name.to_owned());
            }
        }
        if self.at(SyntaxKind::LeftBrace) {
            return self.record_pattern();
        }
        if self.at_both(SyntaxKind::Dot, SyntaxKind::Dot) {
            self.no_range();
            return PatternKind::Wildcard;
        }
        if self.eat(SyntaxKind::Minus) {
            return self.negative_pattern();
        }
        match self.literal() {
            Some(literal) => PatternKind::Literal(literal),
            None => {
                self.expected("a pattern");
                PatternKind::Wildcard
            }
        }
    }

    /// `(p)` after `Some`, `Ok` or `Err`.
    fn inner_pattern(&mut self) -> Box<Pattern> {
        self.bump();
        let open = self.at;
        self.bump();
        let inner = self.pattern();
        if self.at(SyntaxKind::Comma) && self.closing[open] > 0 {
            let word = self.text_of(open - 1);
            let message = format!("there is one value in `{word}`");
            let diagnostic = Diagnostic::error("E0115", message, self.span())
                .label("expected `)`")
                .note("what is in it may be a record: `Some({ name, age })`");
            self.report(diagnostic);
            self.at = self.closing[open] as usize;
        }
        self.expect_closing(open, SyntaxKind::RightParen);
        Box::new(inner)
    }

    /// A number after `-`.
    fn negative_pattern(&mut self) -> PatternKind {
        if self.at(SyntaxKind::Int)
            && let Some(value) = literal::int(self.text(), true)
        {
            self.bump();
            return PatternKind::Literal(Literal::Int(value));
        }
        match self.literal() {
            Some(Literal::Int(value)) => PatternKind::Literal(Literal::Int(-value)),
            Some(Literal::Float(value)) => PatternKind::Literal(Literal::Float(-value)),
            Some(_) | None => {
                self.expected("a number");
                PatternKind::Wildcard
            }
        }
    }

    fn record_pattern(&mut self) -> PatternKind {
        let mut fields = Vec::new();
        self.braced_until(Self::at_plain_statement, |parser| {
            let field = parser.at;
            let Some(key) = parser.key() else { return false };
            let pattern = if parser.eat(SyntaxKind::Colon) || parser.eat(SyntaxKind::Equals) {
                parser.pattern()
            } else {
                // Of a text, the name is what stands between the quotes.
                let inner = key.span.start + 1..key.span.end.max(key.span.start + 2) - 1;
                let quoted = parser.source.get(inner.clone()) == Some(key.node.as_str());
                let span = if quoted { inner } else { key.span.clone() };
                Pattern { kind: PatternKind::Name(key.node.clone()), span }
            };
            parser.node(SyntaxKind::Field, field);
            fields.push((key, pattern));
            true
        });
        PatternKind::Record(fields)
    }
}
