//! Blocks and statements.

use super::{Parser, declarations, foreign};
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{BinaryOp, Block, Catch, Expr, ExprKind, Span, Spanned, Stmt, StmtKind, Type};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::short;

/// The words that begin statements.
const STATEMENTS: [&str; 9] =
    ["let", "if", "for", "while", "match", "try", "return", "break", "continue"];

/// Whether this word begins a statement.
pub(super) fn begins_statement(word: &str) -> bool {
    STATEMENTS.contains(&word)
}

impl Parser<'_> {
    /// Whether what begins here can only be a statement: no expression, and no key or name of an
    /// argument either.
    pub(super) fn at_plain_statement(&self) -> bool {
        let next = self.kind_ahead(1);
        match self.word() {
            "let" | "for" => next == SyntaxKind::Name,
            "try" => next == SyntaxKind::LeftBrace,
            "break" | "continue" => next == SyntaxKind::Semicolon,
            "while" | "return" => !matches!(next, SyntaxKind::Colon | SyntaxKind::Equals),
            _ => false,
        }
    }

    /// `{ statements }`
    pub(super) fn block(&mut self) -> Block {
        let start = self.at;
        let head = std::mem::replace(&mut self.in_head, false);
        let value = std::mem::replace(&mut self.in_value, false);
        let mut block = Block::default();
        if !self.enter() {
            // What was too deep has been passed over, its closing brace included or not there.
        } else if self.expect(SyntaxKind::LeftBrace, "`{`") {
            self.statements(&mut block);
            self.expect_closing(start, SyntaxKind::RightBrace);
        }
        self.leave();
        self.in_head = head;
        self.in_value = value;
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    fn statements(&mut self, block: &mut Block) {
        while !self.at(SyntaxKind::RightBrace) && !self.at_end() && !self.at_declaration() {
            if self.eat(SyntaxKind::Semicolon) {
                continue;
            }
            self.one_statement(block);
            if block.value.is_some() {
                return;
            }
        }
    }

    pub(super) fn one_statement(&mut self, block: &mut Block) {
        let start = self.at;
        let kind = self.statement();
        let span = self.span_from(start);
        self.end_statement(start, kind, span, block);
    }

    /// Puts a statement that began at token `start` into its block, and reads its end.
    pub(super) fn end_statement(
        &mut self,
        start: usize,
        kind: StmtKind,
        span: Span,
        block: &mut Block,
    ) {
        if self.at == start {
            self.expected("a statement");
            self.skip_statement();
            return;
        }
        match kind {
            // What ends in a block is complete; as the last of the block it is its value.
            StmtKind::Expr(value)
                if self.at(SyntaxKind::RightBrace) && value.kind != ExprKind::Missing =>
            {
                block.value = Some(Box::new(value));
            }
            kind => {
                self.statement_end();
                block.statements.push(Stmt { kind, span });
            }
        }
    }

    /// The `;` after a statement, which may be left out after and before `}`.
    fn statement_end(&mut self) {
        let after_brace = self.at > 0 && self.tokens[self.at - 1].kind == SyntaxKind::RightBrace;
        let ended = after_brace || self.ended_at == Some(self.at);
        if self.eat(SyntaxKind::Semicolon) || self.at(SyntaxKind::RightBrace) || ended {
            return;
        }
        if self.reported_at != Some(self.at) {
            let place = self.after_last();
            let ends = self.first_on_line() || self.at_end();
            // A block without braces ends its statements with their lines.
            if ends && self.unbraced > 0 {
                self.mend(place, ";", "");
                return;
            }
            if self.halved() {
                return;
            }
            let diagnostic = if ends {
                Diagnostic::error("E0102", "a statement ends with `;`", place.clone())
                    .label("expected `;`")
                    .fix(place, ";", "add `;`")
            } else {
                let message = format!("expected `;`, found {}", self.found());
                Diagnostic::error("E0101", message, self.span()).label("expected `;` before this")
            };
            self.report(diagnostic);
        }
        if !self.first_on_line() || !self.begins_expression() {
            self.skip_statement();
        }
    }

    /// Passes over the rest of a statement, to where the next one may begin.
    fn skip_statement(&mut self) {
        let start = self.at;
        loop {
            match self.kind() {
                SyntaxKind::End | SyntaxKind::RightBrace => break,
                SyntaxKind::Semicolon => {
                    self.bump();
                    break;
                }
                _ => self.skip_one(),
            }
            if self.first_on_line() && (self.at(SyntaxKind::Name) || self.at_declaration()) {
                break;
            }
        }
        self.node(SyntaxKind::Error, start);
    }

    /// The word that begins the statement here, as it was meant, and the empty text where none does.
    fn statement_word(&mut self) -> &'static str {
        const OPERATORS: [&str; 4] = ["in", "not", "and", "or"];
        let word = self.word();
        if let Some(part) = self.part_word() {
            return part;
        }
        if let Some(known) = STATEMENTS.iter().find(|known| **known == word) {
            return known;
        }
        let next = self.tokens.get(self.at + 1);
        let on_this_line = next.is_some_and(|next| !next.first_on_line);
        // Two operands side by side are no expression, and what would be a call is none where a block
        // follows it.
        let statement = match self.kind_ahead(1) {
            _ if word.is_empty() || !on_this_line => false,
            SyntaxKind::Name => !OPERATORS.contains(&self.word_ahead(1)),
            SyntaxKind::String | SyntaxKind::LongString if self.at_prefixed_text() => false,
            SyntaxKind::Int | SyntaxKind::Float | SyntaxKind::String | SyntaxKind::Quantity => true,
            SyntaxKind::LeftBrace | SyntaxKind::LeftBracket => {
                let closing = self.closing[self.at + 1] as usize;
                let assigned = closing > 0
                    && self.kind_ahead(1) == SyntaxKind::LeftBrace
                    && self.tokens[closing + 1].kind == SyntaxKind::Equals;
                foreign::statement(word) == Some("let")
                    && (assigned || self.kind_ahead(3) == SyntaxKind::Comma)
            }
            SyntaxKind::LeftParen => {
                let closing = self.closing[self.at + 1] as usize;
                closing > 0 && self.tokens[closing + 1].kind == SyntaxKind::LeftBrace
            }
            _ => false,
        };
        if !statement {
            return "";
        }
        if let Some(meant) = foreign::statement(word) {
            // Of a `match`, and of several names, all is told at once.
            if meant != "match" && self.kind_ahead(1) == SyntaxKind::Name {
                self.mend(self.span(), meant, format!("`{word}` is written `{meant}`"));
            }
            return meant;
        }
        let Some(meant) = nearest(word, STATEMENTS) else { return "" };
        let message = format!("there is no statement `{}`", short(word));
        let diagnostic = Diagnostic::error("E0111", message, self.span())
            .label("no such statement")
            .did_you_mean(Some(meant));
        self.report(diagnostic);
        STATEMENTS.iter().find(|known| **known == meant).copied().unwrap_or_default()
    }

    pub(super) fn statement(&mut self) -> StmtKind {
        let kind = self.any_statement();
        self.tell_mends();
        kind
    }

    fn any_statement(&mut self) -> StmtKind {
        let start = self.at;
        self.named_loop();
        if let Some(foreign) = self.foreign_statement() {
            return foreign;
        }
        if declarations::is_function(self.word())
            && self.kind_ahead(1) == SyntaxKind::Name
            && self.kind_ahead(2) == SyntaxKind::LeftParen
        {
            return self.inner_function();
        }
        let (kind, node) = match self.statement_word() {
            "let" if self.kind_ahead(1) == SyntaxKind::Name => (self.let_(), SyntaxKind::Let),
            "for" if matches!(self.kind_ahead(1), SyntaxKind::Name | SyntaxKind::LeftParen) => {
                (self.for_(), SyntaxKind::For)
            }
            "while" => (self.while_(), SyntaxKind::While),
            "try" if matches!(self.kind_ahead(1), SyntaxKind::LeftBrace | SyntaxKind::Colon) => {
                (self.try_(), SyntaxKind::Try)
            }
            "return" => (self.return_(), SyntaxKind::Return),
            "break" => {
                self.bump();
                self.loop_name();
                (StmtKind::Break, SyntaxKind::Break)
            }
            "continue" => {
                self.bump();
                self.loop_name();
                (StmtKind::Continue, SyntaxKind::Continue)
            }
            "let" => {
                self.bump();
                use SyntaxKind::{LeftBrace, LeftBracket, LeftParen};
                if matches!(self.kind(), LeftParen | LeftBracket | LeftBrace) {
                    return self.several(start);
                }
                self.expected("a name");
                if self.eat(SyntaxKind::Equals) {
                    self.expression();
                }
                (StmtKind::Expr(self.missing()), SyntaxKind::Let)
            }
            "else" | "elif" | "catch" | "finally" => (self.lost_part(), SyntaxKind::Error),
            "if" => (StmtKind::Expr(self.if_expression()), SyntaxKind::ExpressionStatement),
            "match" => (StmtKind::Expr(self.match_expression()), SyntaxKind::ExpressionStatement),
            _ => return self.expression_statement(),
        };
        self.node(node, start);
        kind
    }

    /// The word of a part of an `if` or a `try` that stands here without them.
    fn part_word(&self) -> Option<&'static str> {
        const PARTS: [&str; 4] = ["else", "elif", "catch", "finally"];
        let part = PARTS.iter().find(|part| self.at_word(part))?;
        let opens = match *part {
            "else" => self.kind_ahead(1) == SyntaxKind::LeftBrace || self.word_ahead(1) == "if",
            "elif" => self.kind_ahead(1) == SyntaxKind::Name && self.heads_block(),
            "catch" => {
                let closing = self.closing.get(self.at + 1).map_or(0, |closing| *closing as usize);
                closing > 0 && self.tokens[closing + 1].kind == SyntaxKind::LeftBrace
                    || self.kind_ahead(1) == SyntaxKind::LeftBrace
            }
            _ => self.kind_ahead(1) == SyntaxKind::LeftBrace,
        };
        // `else { a: 1 }` is a record of that name.
        (opens && !self.opens_record(1)).then_some(part)
    }

    /// An `else` or a `catch` of nothing: reports it, and reads on behind it.
    fn lost_part(&mut self) -> StmtKind {
        let word = self.word();
        let (article, whole) =
            if matches!(word, "else" | "elif") { ("an", "if") } else { ("a", "try") };
        let message = format!("`{word}` stands behind the block of {article} `{whole}`");
        let diagnostic = Diagnostic::error("E0101", message, self.span())
            .label(format!("there is no `{whole}` right before this"));
        self.report(diagnostic);
        match word {
            "catch" => drop(self.catch()),
            "else" if self.word_ahead(1) != "if" => {
                self.bump();
                self.block();
            }
            "else" => {
                self.bump();
                self.if_expression();
            }
            "elif" => drop(self.if_expression()),
            _ => {
                self.bump();
                self.block();
            }
        }
        StmtKind::Expr(self.missing())
    }

    /// A function in a block, which is read and belongs elsewhere.
    fn inner_function(&mut self) -> StmtKind {
        let diagnostic = Diagnostic::error("E0111", "a function can't stand in a block", self.span())
            .label("expected a statement")
            .note("functions stand in the agent, beside `with`, or outside of it; `x => x + 1` is one without a name");
        self.report(diagnostic);
        self.function();
        StmtKind::Expr(self.missing())
    }

    /// An expression, or an assignment to one.
    fn expression_statement(&mut self) -> StmtKind {
        let start = self.at;
        if self.at_step_before() {
            return self.step(start, None);
        }
        self.may_step = true;
        let target = self.expression();
        if self.at_step() {
            return self.step(start, Some(target));
        }
        if let Some(op) = self.foreign_assign() {
            return self.foreign_assignment(start, target, op);
        }
        self.walrus();
        let op = match self.kind() {
            SyntaxKind::Equals => None,
            SyntaxKind::PlusEquals => Some(BinaryOp::Add),
            SyntaxKind::MinusEquals => Some(BinaryOp::Subtract),
            SyntaxKind::StarEquals => Some(BinaryOp::Multiply),
            SyntaxKind::SlashEquals => Some(BinaryOp::Divide),
            SyntaxKind::PercentEquals => Some(BinaryOp::Remainder),
            _ => {
                self.node(SyntaxKind::ExpressionStatement, start);
                return StmtKind::Expr(target);
            }
        };
        if !is_place(&target) && target.kind != ExprKind::Missing {
            let diagnostic =
                Diagnostic::error("E0112", "this cannot be assigned to", target.span.clone())
                    .label("no name, member or element");
            self.report(diagnostic);
        }
        self.bump();
        let value = self.expression();
        self.node(SyntaxKind::Assign, start);
        StmtKind::Assign { target, op, value }
    }

    pub(super) fn let_(&mut self) -> StmtKind {
        let start = self.at;
        self.bump();
        if self.kind_ahead(1) == SyntaxKind::Comma {
            // The word is told of with the names.
            let word = self.tokens[start].start as usize..self.tokens[start].end as usize;
            self.forget_mend(&word);
            return self.several(start);
        }
        if self.at_word("mut") && self.kind_ahead(1) == SyntaxKind::Name {
            let span = self.span().start..self.tokens[self.at + 1].start as usize;
            let diagnostic = Diagnostic::error("E0115", "every variable may change", self.span())
                .label("not needed")
                .fix(span, "", "leave it out");
            self.report(diagnostic);
            self.bump();
        }
        let told = self.sink.told();
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.walrus();
        let ty = self.eat(SyntaxKind::Colon).then(|| self.ty());
        let line = ty.is_none()
            && self.first_on_line()
            && !matches!(self.kind(), SyntaxKind::Equals | SyntaxKind::Colon);
        let ends = matches!(self.kind(), SyntaxKind::Semicolon | SyntaxKind::RightBrace) || line;
        if ends && self.sink.told() == told && !name.node.is_empty() {
            return self.without_value(name, ty);
        }
        self.expect(SyntaxKind::Equals, "`=` and a value");
        let value = self.expression();
        self.more_lets();
        StmtKind::Let { name, ty, value }
    }

    fn for_(&mut self) -> StmtKind {
        let word = self.span();
        self.bump();
        if let Some(foreign) = self.foreign_for(word) {
            return foreign;
        }
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.in_word();
        let iterable = self.head();
        let body = self.body();
        StmtKind::For { name, iterable, body }
    }

    /// `let x;`
    fn without_value(&mut self, name: Spanned<String>, ty: Option<Type>) -> StmtKind {
        let message = format!("expected `=` and a value, found {}", self.found());
        let diagnostic =
            Diagnostic::error("E0101", message, self.span()).label("expected `=` and a value");
        match ty {
            None if self.at(SyntaxKind::Semicolon) || self.at(SyntaxKind::RightBrace) => {
                self.mend_of(diagnostic, self.after_last(), " = null");
            }
            None => {
                self.mend_of(diagnostic, self.after_last(), " = null;");
                self.ended_at = Some(self.at);
            }
            // No value of every type comes to mind.
            Some(_) => {
                self.mends.clear();
                self.report(diagnostic);
            }
        }
        StmtKind::Let { name, ty, value: self.missing() }
    }

    fn while_(&mut self) -> StmtKind {
        let start = self.at;
        self.bump();
        if self.at_word("let") && self.kind_ahead(1) == SyntaxKind::Name
            || self.at_parenthesized_let()
        {
            return self.while_let(start);
        }
        let condition = self.head();
        let body = self.body();
        StmtKind::While { condition, body }
    }

    fn return_(&mut self) -> StmtKind {
        self.bump();
        let nothing = matches!(self.kind(), SyntaxKind::Semicolon | SyntaxKind::RightBrace)
            || (self.first_on_line()
                && begins_statement(self.word())
                && !self.at_word("if")
                && !self.at_word("match"));
        StmtKind::Return((!nothing).then(|| self.expression()))
    }

    fn try_(&mut self) -> StmtKind {
        let span = self.span();
        self.bump();
        self.tried += 1;
        let body = self.body();
        self.tried -= 1;
        let mut catches = Vec::new();
        let mut finally = false;
        loop {
            let start = self.at;
            match self.word() {
                "catch" => {}
                "except" | "rescue" if self.heads_block() => {}
                "finally"
                    if matches!(self.kind_ahead(1), SyntaxKind::LeftBrace | SyntaxKind::Colon) =>
                {
                    let diagnostic =
                        Diagnostic::error("E0115", "there is no `finally`", self.span())
                            .label("expected `catch` or the next statement")
                            .note("what is to happen in any case stands after the `try`");
                    self.report(diagnostic);
                    finally = true;
                    self.bump();
                    self.body();
                    continue;
                }
                _ => break,
            }
            catches.push(self.catch());
            self.node(SyntaxKind::Catch, start);
        }
        if catches.is_empty() && !finally {
            let message = "a `try` needs a `catch`";
            self.sink.push(Diagnostic::error("E0101", message, span).label("nothing catches"));
        }
        StmtKind::Try { body, catches }
    }

    /// `catch (Kind e) { }`, `catch (e) { }`, `catch { }`; the parentheses may be left out. One
    /// name alone is a kind if it begins like one, with a capital letter.
    fn catch(&mut self) -> Catch {
        let noted = self.mends.len();
        let (kind, name, several) = self.catch_head();
        let body = self.body();
        // There is no one form for the whole.
        if several {
            self.mends.truncate(noted);
        }
        Catch { kind, name, body }
    }

    /// The kind, the name of the error, and whether there are several kinds, which is told.
    fn catch_head(&mut self) -> (Option<Spanned<String>>, Option<Spanned<String>>, bool) {
        let (start, word) = (self.at, self.word());
        self.bump();
        let open = self.at;
        let parenthesized = self.eat(SyntaxKind::LeftParen);
        if foreign::declares(self.word()) && self.kind_ahead(1) == SyntaxKind::Name && parenthesized
        {
            let span = self.span().start..self.tokens[self.at + 1].start as usize;
            self.mend(span, "", "the error needs no declaration");
            self.bump();
        }
        let first = if self.at(SyntaxKind::Name) { self.name("a name") } else { None };
        // `A, B` and `A | B` elsewhere.
        let mut several = false;
        while parenthesized
            && matches!(self.kind(), SyntaxKind::Comma | SyntaxKind::OrOr)
            && self.kind_ahead(1) == SyntaxKind::Name
        {
            several = true;
            self.bump();
            self.bump();
        }
        // `Kind as e` and `e: Kind` elsewhere.
        let named = self.at_word("as") && self.kind_ahead(1) == SyntaxKind::Name;
        let typed = parenthesized && self.at(SyntaxKind::Colon);
        if named || typed {
            self.bump();
        }
        let more = first.is_some() && self.at(SyntaxKind::Name);
        let mut second = if more { self.name("a name") } else { None };
        if parenthesized {
            self.expect_closing(open, SyntaxKind::RightParen);
        }
        // `(Kind) as e`
        let behind = second.is_none() && self.at_word("as");
        if behind && self.kind_ahead(1) == SyntaxKind::Name {
            self.bump();
            second = self.name("a name");
        }
        let (kind, name) = match (first, second) {
            (Some(_), name) if several => (None, name),
            (Some(name), kind) if typed => (kind, Some(name)),
            (Some(only), None) if only.node.starts_with(char::is_uppercase) => (Some(only), None),
            (only, None) => (None, only),
            both => both,
        };
        if several {
            let diagnostic =
                Diagnostic::error("E0115", "a `catch` has one kind", self.span_from(open))
                    .label("several kinds")
                    .note("write a `catch` for each of them; `catch (e)` takes any");
            self.report(diagnostic);
        } else if named || typed || behind || word != "catch" {
            let written: Vec<&str> =
                kind.iter().chain(&name).map(|name| name.node.as_str()).collect();
            let meant = match written.as_slice() {
                [] => "catch".to_owned(),
                written => format!("catch ({})", written.join(" ")),
            };
            let message = match word {
                "catch" => "the kind stands before the name of the error".to_owned(),
                word => format!("`{word}` is written `catch`"),
            };
            self.mend(self.span_from(start), meant, message);
        }
        (kind, name, several)
    }
}

/// Whether this can be assigned to.
pub(super) fn is_place(target: &Expr) -> bool {
    match &target.kind {
        ExprKind::Name(_) => true,
        ExprKind::Member(of, _) | ExprKind::Index(of, _) => is_place(of),
        _ => false,
    }
}
