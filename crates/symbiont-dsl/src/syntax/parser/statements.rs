//! Blocks and statements.

use super::{Parser, declarations};
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{BinaryOp, Block, Catch, Expr, ExprKind, Literal, Spanned, Stmt, StmtKind};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::short;

/// The words that begin statements.
const STATEMENTS: [&str; 9] =
    ["let", "if", "for", "while", "match", "try", "return", "break", "continue"];

/// The words that begin them in other languages.
const FOREIGN: [(&str, &str); 5] =
    [("const", "let"), ("var", "let"), ("val", "let"), ("foreach", "for"), ("switch", "match")];

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
            SyntaxKind::Int | SyntaxKind::Float | SyntaxKind::String | SyntaxKind::Quantity => true,
            SyntaxKind::LeftParen => {
                let closing = self.closing[self.at + 1] as usize;
                closing > 0 && self.tokens[closing + 1].kind == SyntaxKind::LeftBrace
            }
            _ => false,
        };
        if !statement {
            return "";
        }
        if let Some((_, meant)) = FOREIGN.iter().find(|(foreign, _)| *foreign == word) {
            self.foreign(format!("`{word}` is written `{meant}`"), self.span(), meant);
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

    fn statement(&mut self) -> StmtKind {
        let start = self.at;
        if declarations::is_function(self.word())
            && self.kind_ahead(1) == SyntaxKind::Name
            && self.kind_ahead(2) == SyntaxKind::LeftParen
        {
            return self.inner_function();
        }
        let (kind, node) = match self.statement_word() {
            "let" if self.kind_ahead(1) == SyntaxKind::Name => (self.let_(), SyntaxKind::Let),
            "for" if self.kind_ahead(1) == SyntaxKind::Name => (self.for_(), SyntaxKind::For),
            "for" if self.kind_ahead(1) == SyntaxKind::LeftParen => {
                (self.parenthesized_for(), SyntaxKind::For)
            }
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
            "elif" => self.kind_ahead(1) == SyntaxKind::Name,
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

    /// Whether `++` or `--` stands here, and is no sum.
    pub(super) fn at_step(&self) -> bool {
        let after = self.tokens.get(self.at + 2);
        (self.at_both(SyntaxKind::Plus, SyntaxKind::Plus)
            || self.at_both(SyntaxKind::Minus, SyntaxKind::Minus))
            && after.is_none_or(|after| {
                after.first_on_line
                    || matches!(
                        after.kind,
                        SyntaxKind::Semicolon
                            | SyntaxKind::RightBrace
                            | SyntaxKind::RightParen
                            | SyntaxKind::End
                    )
            })
    }

    /// `i++` and `++i`, read as `i += 1`.
    fn step(&mut self, start: usize, target: Option<Expr>) -> StmtKind {
        let (op, meant) = match self.kind() {
            SyntaxKind::Minus => (BinaryOp::Subtract, "-= 1"),
            _ => (BinaryOp::Add, "+= 1"),
        };
        let written = if op == BinaryOp::Add { "++" } else { "--" };
        let signs = self.span().start..self.span().end + 1;
        self.bump();
        self.bump();
        let target = target.unwrap_or_else(|| self.postfix());
        let text = format!("{} {meant}", &self.source[target.span.clone()]);
        let span = target.span.start.min(signs.start)..target.span.end.max(signs.end);
        self.foreign(format!("there is no operator `{written}`"), span, &text);
        self.node(SyntaxKind::Assign, start);
        let one = Expr { kind: ExprKind::Literal(Literal::Int(1)), span: signs };
        StmtKind::Assign { target, op: Some(op), value: one }
    }

    /// An expression, or an assignment to one.
    fn expression_statement(&mut self) -> StmtKind {
        let start = self.at;
        if self.at_both(SyntaxKind::Plus, SyntaxKind::Plus)
            && self.kind_ahead(2) == SyntaxKind::Name
        {
            return self.step(start, None);
        }
        let target = self.expression();
        if self.at_step() {
            return self.step(start, Some(target));
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

    fn let_(&mut self) -> StmtKind {
        self.bump();
        if self.at_word("mut") && self.kind_ahead(1) == SyntaxKind::Name {
            let span = self.span().start..self.tokens[self.at + 1].start as usize;
            let diagnostic = Diagnostic::error("E0115", "every variable may change", self.span())
                .label("not needed")
                .fix(span, "", "leave it out");
            self.report(diagnostic);
            self.bump();
        }
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.walrus();
        let ty = self.eat(SyntaxKind::Colon).then(|| self.ty());
        self.expect(SyntaxKind::Equals, "`=` and a value");
        let value = self.expression();
        StmtKind::Let { name, ty, value }
    }

    fn for_(&mut self) -> StmtKind {
        self.bump();
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.in_word();
        let iterable = self.head();
        let body = self.block();
        StmtKind::For { name, iterable, body }
    }

    /// The `in` of a `for`.
    fn in_word(&mut self) {
        if self.at_word("of") {
            self.foreign("`of` is written `in`", self.span(), "in");
            self.bump();
        } else if !self.eat_word("in") {
            self.expected("`in`");
        }
    }

    /// `for (x in xs) { }` and `for (let i = 0; i < 9; i++) { }`, which other languages write.
    fn parenthesized_for(&mut self) -> StmtKind {
        let span = self.span();
        self.bump();
        let open = self.at;
        let closing = self.closing[open] as usize;
        self.bump();
        if matches!(self.word(), "let" | "const" | "var") {
            self.bump();
        }
        let walks = self.at(SyntaxKind::Name) && matches!(self.word_ahead(1), "in" | "of");
        if !walks || closing == 0 {
            let diagnostic = Diagnostic::error("E0115", "a `for` walks through values", span)
                .label("expected `for x in xs`")
                .note("`for i in range(0, 10) { }` counts, and `while` repeats as long as something holds");
            self.report(diagnostic);
            self.at = open;
            self.skip_one();
            self.node(SyntaxKind::Error, open);
            // That the block lacks as well is part of it.
            self.reported_at = Some(self.at);
            let (name, iterable) = (self.no_name(), self.missing());
            return StmtKind::For { name, iterable, body: self.block() };
        }
        let name = self.name("a name").unwrap_or_else(|| self.no_name());
        self.bump();
        let iterable = self.expression();
        let whole = self.tokens[open].start as usize..self.tokens[closing].end as usize;
        let meant = format!("{} in {}", name.node, &self.source[iterable.span.clone()]);
        let diagnostic = Diagnostic::error("E0115", "a `for` has no parentheses", whole.clone())
            .fix(whole, meant, "leave them out");
        self.sink.push(diagnostic);
        self.expect_closing(open, SyntaxKind::RightParen);
        StmtKind::For { name, iterable, body: self.block() }
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
        let mut finally = false;
        loop {
            let start = self.at;
            match self.word() {
                "catch" => {}
                word @ ("except" | "rescue") => {
                    self.foreign(format!("`{word}` is written `catch`"), self.span(), "catch");
                }
                "finally" if self.kind_ahead(1) == SyntaxKind::LeftBrace => {
                    let diagnostic =
                        Diagnostic::error("E0115", "there is no `finally`", self.span())
                            .label("expected `catch` or the next statement")
                            .note("what is to happen in any case stands after the `try`");
                    self.report(diagnostic);
                    finally = true;
                    self.bump();
                    self.block();
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
