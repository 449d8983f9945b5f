//! Blocks and statements.

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::hir::{BinaryOp, Block, Catch, Expr, ExprKind, Spanned, Stmt, StmtKind};
use crate::syntax::SyntaxKind;

/// Whether this word begins a statement.
pub(super) fn begins_statement(word: &str) -> bool {
    matches!(
        word,
        "let" | "if" | "for" | "while" | "match" | "try" | "return" | "break" | "continue"
    )
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
        let mut block = Block::default();
        if !self.enter() {
            // What was too deep has been passed over, its closing brace included or not there.
        } else if self.expect(SyntaxKind::LeftBrace, "`{`") {
            self.statements(&mut block);
            self.expect_closing(start, SyntaxKind::RightBrace);
        }
        self.leave();
        self.in_head = head;
        self.node(SyntaxKind::Block, start);
        block.span = self.span_from(start);
        block
    }

    fn statements(&mut self, block: &mut Block) {
        while !self.at(SyntaxKind::RightBrace) && !self.at_end() && !self.at_declaration() {
            if self.eat(SyntaxKind::Semicolon) {
                continue;
            }
            let start = self.at;
            let kind = self.statement();
            let span = self.span_from(start);
            if self.at == start {
                self.expected("a statement");
                self.skip_statement();
                continue;
            }
            match kind {
                // What ends in a block is complete; as the last of the block it is its value.
                StmtKind::Expr(value) if self.at(SyntaxKind::RightBrace) => {
                    block.value = Some(Box::new(value));
                    return;
                }
                kind => {
                    self.statement_end();
                    block.statements.push(Stmt { kind, span });
                }
            }
        }
    }

    /// The `;` after a statement, which may be left out after and before `}`.
    fn statement_end(&mut self) {
        let after_brace = self.at > 0 && self.tokens[self.at - 1].kind == SyntaxKind::RightBrace;
        if self.eat(SyntaxKind::Semicolon) || self.at(SyntaxKind::RightBrace) || after_brace {
            return;
        }
        if self.reported_at != Some(self.at) {
            let place = self.after_last();
            let diagnostic = if self.first_on_line() || self.at_end() {
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

    fn statement(&mut self) -> StmtKind {
        let start = self.at;
        let (kind, node) = match self.word() {
            "let" if self.kind_ahead(1) == SyntaxKind::Name => (self.let_(), SyntaxKind::Let),
            "for" if self.kind_ahead(1) == SyntaxKind::Name => (self.for_(), SyntaxKind::For),
            "while" => (self.while_(), SyntaxKind::While),
            "try" if self.kind_ahead(1) == SyntaxKind::LeftBrace => (self.try_(), SyntaxKind::Try),
            "return" => (self.return_(), SyntaxKind::Return),
            "break" => {
                self.bump();
                (StmtKind::Break, SyntaxKind::Break)
            }
            "continue" => {
                self.bump();
                (StmtKind::Continue, SyntaxKind::Continue)
            }
            "let" => {
                self.bump();
                self.expected("a name");
                self.skip_statement();
                (StmtKind::Expr(self.missing()), SyntaxKind::Let)
            }
            "if" => (StmtKind::Expr(self.if_expression()), SyntaxKind::ExpressionStatement),
            "match" => (StmtKind::Expr(self.match_expression()), SyntaxKind::ExpressionStatement),
            _ => return self.expression_statement(),
        };
        self.node(node, start);
        kind
    }

    /// An expression, or an assignment to one.
    fn expression_statement(&mut self) -> StmtKind {
        let start = self.at;
        let target = self.expression();
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

    fn let_(&mut self) -> StmtKind {
        self.bump();
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        let ty = self.eat(SyntaxKind::Colon).then(|| self.ty());
        self.expect(SyntaxKind::Equals, "`=` and a value");
        let value = self.expression();
        StmtKind::Let { name, ty, value }
    }

    fn for_(&mut self) -> StmtKind {
        self.bump();
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        if !self.eat_word("in") {
            self.expected("`in`");
        }
        let iterable = self.head();
        let body = self.block();
        StmtKind::For { name, iterable, body }
    }

    fn while_(&mut self) -> StmtKind {
        self.bump();
        let condition = self.head();
        let body = self.block();
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
        let body = self.block();
        let mut catches = Vec::new();
        while self.at_word("catch") {
            let start = self.at;
            catches.push(self.catch());
            self.node(SyntaxKind::Catch, start);
        }
        if catches.is_empty() {
            let message = "a `try` needs a `catch`";
            self.sink.push(Diagnostic::error("E0101", message, span).label("nothing catches"));
        }
        StmtKind::Try { body, catches }
    }

    /// `catch (Kind e) { }`, `catch (e) { }`, `catch { }`; the parentheses may be left out. One
    /// name alone is a kind if it begins like one, with a capital letter.
    fn catch(&mut self) -> Catch {
        self.bump();
        let open = self.at;
        let parenthesized = self.eat(SyntaxKind::LeftParen);
        let mut names: Vec<Spanned<String>> = Vec::new();
        while names.len() < 2 && self.at(SyntaxKind::Name) {
            names.extend(self.name("a name"));
        }
        if parenthesized {
            self.expect_closing(open, SyntaxKind::RightParen);
        }
        let body = self.block();
        let second = names.pop();
        let (kind, name) = match (names.pop(), second) {
            (None, Some(only)) if only.node.starts_with(char::is_uppercase) => (Some(only), None),
            (first, second) => (first, second),
        };
        Catch { kind, name, body }
    }
}

/// Whether this can be assigned to.
fn is_place(target: &Expr) -> bool {
    match &target.kind {
        ExprKind::Name(_) => true,
        ExprKind::Member(of, _) | ExprKind::Index(of, _) => is_place(of),
        _ => false,
    }
}
