//! The one form of a source text.
//!
//! [`format()`] prints a program from its syntax tree, [`edits`] gives the same as changes of what
//! stands between the tokens. There are no options. Lines have 100 characters where that can be had,
//! and four spaces a level; settings are `key = value`, rules, records and types `key: value`.
//! Whatever stands in braces keeps to one line if it was written so and fits; what stands in other
//! brackets is on one line whenever it fits. Of several empty lines one is left, and one is put
//! between declarations.
//!
//! # What holds
//!
//! - The program is the same, and what was formatted once is not changed again.
//! - Comments are all there, in their order, and texts are as they were.
//! - Linear time; the stack is bounded, as what nests is.
//!
//! # What is not here
//!
//! A source with syntax errors is refused: there is no telling what it should look like.

mod layout;

use std::iter::Peekable;
// The kind of token is `SyntaxKind::String`.
use std::string::String;

use rowan::NodeOrToken;

use crate::diagnostic::{Diagnostic, Severity, Sink};
use crate::hir::Span;
use crate::syntax::SyntaxKind::{self, *};
use crate::syntax::literal::DURATION_WORDS;
use crate::syntax::{self, SyntaxNode, SyntaxToken, Token, lex};
use layout::{Layout, Op};

/// The source in its one form; its errors, if it has any.
pub fn format(source: &str) -> Result<String, Vec<Diagnostic>> {
    let mut errors = syntax::parse(source).diagnostics;
    errors.retain(|found| found.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(errors);
    }
    let lexed = lex(source, &mut Sink::default());
    let mut printer = Printer {
        source,
        tokens: &lexed.tokens,
        trivia: &lexed.trivia,
        at: 0,
        passed: 0,
        comments: Vec::new(),
        newlines: 0,
        begun: false,
        layout: Layout::default(),
    };
    printer.root(&syntax::tree(source));
    Ok(printer.layout.print())
}

/// The changes that give the source its one form, in order: each replaces what stands between two
/// tokens, or a part of it. None touches a name, a literal or an operator, so that whoever is at
/// one stays there.
pub fn edits(source: &str) -> Result<Vec<(Span, String)>, Vec<Diagnostic>> {
    let formatted = format(source)?;
    let (old, new) = (between(source), between(&formatted));
    if old.len() != new.len() {
        // Tokens differ in number only if a bug has changed the program: better not to touch it.
        debug_assert!(false, "formatting has changed the tokens");
        return Ok(Vec::new());
    }
    let changes = old.into_iter().zip(new).filter_map(|(old, new)| {
        let (was, is) = (&source[old.clone()], &formatted[new]);
        let same = was.bytes().zip(is.bytes()).take_while(|(a, b)| a == b).count();
        let start = (0..=same).rev().find(|at| was.is_char_boundary(*at)).unwrap_or(0);
        let (was, is) = (&was[start..], &is[start..]);
        let same = was.bytes().rev().zip(is.bytes().rev()).take_while(|(a, b)| a == b).count();
        let back = (0..=same).rev().find(|back| was.is_char_boundary(was.len() - back));
        let back = back.unwrap_or(0);
        let (span, text) = (old.start + start..old.end - back, &is[..is.len() - back]);
        (!span.is_empty() || !text.is_empty()).then(|| (span, text.to_owned()))
    });
    Ok(changes.collect())
}

/// What stands before, between and after the tokens that formatting leaves as they are.
fn between(source: &str) -> Vec<Span> {
    let tokens = lex(source, &mut Sink::default()).tokens;
    let mut start = 0;
    tokens
        .iter()
        .filter(|token| !matches!(token.kind, Comma | Semicolon | Colon | Equals))
        .map(|token| {
            let gap = start..token.start as usize;
            start = token.end as usize;
            gap
        })
        .collect()
}

/// A comment that was passed and is not printed yet.
struct Comment<'a> {
    text: &'a str,
    /// The line breaks between what is before it and it.
    newlines: usize,
    /// Whether it ends with its line.
    to_line_end: bool,
}

/// Whether an empty line is put where one may stand.
#[derive(Debug, Clone, Copy)]
enum Blank {
    Never,
    /// If there is one in the source.
    Kept,
    Always,
}

/// What becomes of empty lines around comments and a token.
#[derive(Debug, Clone, Copy)]
struct Lines {
    /// Before the first thing that stands on a line of its own.
    before: Blank,
    /// Between comments.
    within: Blank,
    /// Whether one may stand right before the token.
    last: bool,
}

impl Lines {
    const PLAIN: Self = Self { before: Blank::Never, within: Blank::Never, last: false };
    const FIRST: Self = Self { before: Blank::Never, within: Blank::Kept, last: true };
    const NEXT: Self = Self { before: Blank::Kept, ..Self::FIRST };
    const DECLARATION: Self = Self { before: Blank::Always, ..Self::FIRST };
    const CLOSE: Self = Self { last: false, ..Self::NEXT };
    const CLOSE_EMPTY: Self = Self { last: false, ..Self::FIRST };
}

/// Which commas stand between entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commas {
    /// Between them, and after the last where each is on its own line.
    All,
    /// Only where they share a line.
    OnOneLine,
    None,
}

/// How the entries between two brackets are laid out.
#[derive(Debug, Clone, Copy)]
struct Shape {
    commas: Commas,
    /// Braces: a space inside them, written breaks are kept, empty lines too.
    braces: bool,
    /// Whether more than one entry never share a line.
    one: bool,
}

impl Shape {
    const LIST: Self = Self { commas: Commas::All, braces: false, one: false };
    const SINGLE: Self = Self { commas: Commas::None, ..Self::LIST };
    const FIELDS: Self = Self { commas: Commas::All, braces: true, one: false };
    const SETTINGS: Self = Self { commas: Commas::OnOneLine, ..Self::FIELDS };
    const ITEMS: Self = Self { commas: Commas::None, braces: true, one: true };

    /// The shape of what this bracket opens in such a node, if it opens a list of entries.
    fn of(node: SyntaxKind, bracket: SyntaxKind) -> Option<Self> {
        match (bracket, node) {
            (LeftParen, CallExpression | Parameters) => Some(Self::LIST),
            (LeftParen, WrapExpression | ParenthesizedExpression | Pattern) => Some(Self::SINGLE),
            (LeftBracket, IndexExpression) => Some(Self::SINGLE),
            (LeftBracket, _) => Some(Self::LIST),
            (LeftBrace, Metadata | Schedule | Channel | Memory | Webhook | InnerBlock) => {
                Some(Self::SETTINGS)
            }
            (LeftBrace, Agent | Policy | Block) => Some(Self::ITEMS),
            (LeftBrace, _) => Some(Self::FIELDS),
            (_, _) => None,
        }
    }
}

/// What the separator between a key and its value becomes in such a node.
fn separator(node: SyntaxKind) -> Option<&'static str> {
    match node {
        Entry | Argument | Capabilities | TypeDeclaration => Some(" ="),
        Rule | Field | FieldType => Some(":"),
        _ => None,
    }
}

type Part = NodeOrToken<SyntaxNode, SyntaxToken>;

/// The children of a node, without layout and comments.
fn parts(node: &SyntaxNode) -> Peekable<impl Iterator<Item = Part> + use<>> {
    node.children_with_tokens().filter(|part| !part.kind().is_trivia()).peekable()
}

/// Walks through the tree and the tokens side by side.
struct Printer<'a> {
    source: &'a str,
    tokens: &'a [Token],
    trivia: &'a [Token],
    /// The number of the next token.
    at: usize,
    /// How much of the trivia has been passed.
    passed: usize,
    /// Comments that wait for the next token.
    comments: Vec<Comment<'a>>,
    /// The line breaks after the last of them, or after the last token.
    newlines: usize,
    /// Whether a token was printed.
    begun: bool,
    layout: Layout<'a>,
}

impl<'a> Printer<'a> {
    // Tokens and comments.

    fn text_of(&self, token: Token) -> &'a str {
        &self.source[token.start as usize..token.end as usize]
    }

    /// The text of the next token.
    fn next_text(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| self.text_of(*token))
    }

    /// Passes over what is before the next token.
    fn look(&mut self) {
        let Some(next) = self.tokens.get(self.at) else { return };
        while let Some(trivia) = self.trivia.get(self.passed)
            && trivia.start < next.start
        {
            let text = self.text_of(*trivia);
            if trivia.kind == Whitespace {
                self.newlines += text.matches('\n').count();
            } else {
                let to_line_end = trivia.kind == LineComment;
                self.comments.push(Comment { text, newlines: self.newlines, to_line_end });
                self.newlines = 0;
            }
            self.passed += 1;
        }
    }

    /// Leaves the next token out. What was before it comes before the one after it.
    fn skip(&mut self) {
        self.look();
        self.at += 1;
    }

    /// Prints the next token, and the comments before it.
    fn token(&mut self) {
        self.comments(Lines::PLAIN);
        let text = self.next_text();
        self.layout.push(Op::Text(text));
        self.begun = true;
        self.newlines = 0;
        self.at += 1;
    }

    /// Whether there are comments before the next token, and a line break between them and it.
    fn comments_end_lines(&mut self) -> bool {
        self.look();
        let ends = |comment: &Comment<'_>| comment.to_line_end || comment.newlines > 0;
        !self.comments.is_empty() && (self.newlines > 0 || self.comments.iter().any(ends))
    }

    /// Prints the comments before the next token, and decides about empty lines.
    fn comments(&mut self, lines: Lines) {
        self.look();
        let comments = std::mem::take(&mut self.comments);
        let mut before = lines.before;
        let mut rest = comments.as_slice();
        let at_end = self.tokens.get(self.at).is_none_or(|token| token.kind == End);
        while let Some(first) = rest.first() {
            // Comments on one line belong together: to what is before them on that line, to what
            // is after them, or to nothing but themselves.
            let more = rest[1..].iter().take_while(|comment| comment.newlines == 0).count();
            let (run, others) = rest.split_at(1 + more);
            let after = others.first().map_or(self.newlines, |comment| comment.newlines);
            let ends = after > 0 || run.iter().any(|comment| comment.to_line_end);
            let ends = ends || (others.is_empty() && at_end);
            let trails = first.newlines == 0 && self.begun;
            if !trails {
                self.blank(before, first.newlines);
                before = lines.within;
            }
            for (at, comment) in run.iter().enumerate() {
                self.layout.push(match (trails || at > 0, ends) {
                    (_, false) => Op::Inline(comment.text),
                    (true, true) => Op::Trailing(comment.text),
                    (false, true) => Op::Own(comment.text),
                });
            }
            rest = others;
        }
        if lines.last {
            self.blank(before, self.newlines);
        }
        self.newlines = 0;
    }

    fn blank(&mut self, blank: Blank, newlines: usize) {
        match blank {
            Blank::Never => {}
            Blank::Kept if newlines < 2 => {}
            Blank::Kept | Blank::Always => self.layout.push(Op::Blank),
        }
    }

    // Nodes.

    fn root(&mut self, root: &SyntaxNode) {
        let mut lines = Lines::FIRST;
        for part in parts(root) {
            match part {
                NodeOrToken::Token(_) => self.skip(),
                NodeOrToken::Node(declaration) => {
                    self.layout.push(Op::Hard);
                    self.comments(lines);
                    self.node(&declaration);
                    lines = Lines::DECLARATION;
                }
            }
        }
        self.layout.push(Op::Hard);
        self.comments(Lines::CLOSE);
    }

    fn node(&mut self, node: &SyntaxNode) {
        match node.kind() {
            MemberExpression | IndexExpression | CallExpression => self.chain(node),
            BinaryExpression => self.binary(node),
            With => self.with(node),
            // Its blocks are all on one line, or none is.
            IfExpression | Try => {
                self.layout.open();
                self.sequence(node);
                self.layout.close();
            }
            _ => self.sequence(node),
        }
    }

    /// A node whose parts follow each other.
    fn sequence(&mut self, node: &SyntaxNode) {
        let kind = node.kind();
        let mut parts = parts(node);
        let mut last = None;
        let (mut separated, mut after_else) = (false, false);
        while let Some(part) = parts.peek() {
            let next = part.kind();
            if let Some(separator) = separator(kind)
                && !separated
                && matches!(
                    (next, last),
                    (Equals | Colon, _) | (_, Some(Name | SyntaxKind::String))
                )
                && !(kind == TypeDeclaration && next == Name)
            {
                // Written or not, it is put behind the key.
                self.layout.push(Op::Text(separator));
                (last, separated) = (Some(Equals), true);
                if matches!(next, Equals | Colon) {
                    self.skip();
                    parts.next();
                }
                continue;
            }
            let is_else = kind == IfExpression && next == Name && last == Some(Block);
            let opens = matches!(next, Block | LeftBrace) && last.is_some();
            if (is_else || next == Catch || opens) && self.comments_end_lines() {
                self.layout.push(Op::Hard);
                self.comments(Lines::PLAIN);
                self.layout.push(Op::Hard);
            } else if last.is_some_and(|last| spaced(kind, last, next)) {
                self.layout.push(Op::Space);
            }
            last = Some(next);
            if Shape::of(kind, next).is_some() {
                self.entries(kind, &mut parts, true);
                continue;
            }
            match parts.next() {
                Some(NodeOrToken::Token(_)) if next == Comma && closes_type(&mut parts) => {
                    self.skip();
                }
                Some(NodeOrToken::Token(_)) => self.token(),
                // The blocks of an `if` and a `try` are all on one line, or none is.
                Some(NodeOrToken::Node(part)) => match (kind, next) {
                    (IfExpression | Try | Catch, Block) => {
                        self.entries(Block, &mut self::parts(&part), false);
                    }
                    (IfExpression, IfExpression) if after_else => self.sequence(&part),
                    (_, _) => self.node(&part),
                },
                None => {}
            }
            after_else = is_else;
        }
    }

    /// What is between two brackets, and the brackets: a group of its own, or a part of the one
    /// that is open.
    fn entries(
        &mut self,
        kind: SyntaxKind,
        parts: &mut Peekable<impl Iterator<Item = Part>>,
        own: bool,
    ) {
        let shape = parts.next().and_then(|bracket| Shape::of(kind, bracket.kind()));
        let shape = shape.unwrap_or(Shape::LIST);
        let (space, mut lines) = match shape.braces {
            true => (" ", Lines::FIRST),
            false => ("", Lines::PLAIN),
        };
        if own {
            self.layout.open();
        }
        self.token();
        self.look();
        let first = self.comments.first().map_or(self.newlines, |first| first.newlines);
        let broken = shape.braces && first > 0;
        let mut count = 0;
        self.separators(parts);
        while let Some(NodeOrToken::Node(entry)) = parts.next_if(|part| part.as_node().is_some()) {
            if count == 0 {
                self.layout.push(Op::Indent);
            }
            self.layout.push(Op::Line(if count == 0 { space } else { " " }));
            if (count == 0 && broken) || (count == 1 && shape.one) {
                self.layout.push(Op::Break);
            }
            self.comments(lines);
            if own && !shape.braces {
                self.layout.last_part(breaks_well(&entry));
            }
            self.node(&entry);
            let ended = self.separators(parts);
            let another = parts.peek().is_some_and(|part| part.as_node().is_some());
            self.end_entry(shape, &entry, ended, another);
            if shape.braces {
                lines = Lines::NEXT;
            }
            count += 1;
        }
        self.look();
        if count > 0 || !self.comments.is_empty() {
            if count == 0 {
                self.layout.push(Op::Indent);
                self.layout.push(Op::Line(space));
            } else if !self.comments.is_empty() {
                self.layout.last_part(false);
                self.layout.push(Op::Line(" "));
            }
            self.comments(match (shape.braces, count) {
                (true, 0) => Lines::CLOSE_EMPTY,
                (true, _) => Lines::CLOSE,
                (false, _) => Lines::PLAIN,
            });
            self.layout.push(Op::Dedent);
            self.layout.push(Op::Line(space));
        }
        self.token();
        parts.next();
        if own {
            self.layout.close();
        }
    }

    /// Passes over commas and semicolons; whether there were any. A comment between an entry and its
    /// separator, all on one line, is the entry's.
    fn separators(&mut self, parts: &mut Peekable<impl Iterator<Item = Part>>) -> bool {
        let mut any = false;
        while parts.next_if(|part| matches!(part.kind(), Comma | Semicolon)).is_some() {
            self.look();
            let here = |comment: &Comment<'_>| comment.newlines == 0 && !comment.to_line_end;
            if self.newlines == 0 && self.comments.iter().all(here) {
                self.comments(Lines::PLAIN);
            }
            self.skip();
            any = true;
        }
        any
    }

    /// What stands between an entry and the next, or the bracket. `ended` says whether a comma or a
    /// semicolon is written there.
    fn end_entry(&mut self, shape: Shape, entry: &SyntaxNode, ended: bool, another: bool) {
        // Words that would go on with the entry before them.
        let glued = matches!(self.next_text(), "in" | "not" | "and" | "or" | "else" | "catch");
        let semicolon = match entry.kind() {
            Let | Assign | Return | Break | Continue => true,
            For | While | Try => another && glued,
            // Without it, the last expression is the value of the block.
            ExpressionStatement => match entry.first_child().map(|child| child.kind()) {
                Some(IfExpression | MatchExpression) => ended && (!another || glued),
                Some(_) | None => ended || another,
            },
            _ => false,
        };
        let op = match shape.commas {
            Commas::All if another => Op::Text(","),
            Commas::All => Op::IfBroken(","),
            Commas::OnOneLine if another && glued => Op::Text(","),
            Commas::OnOneLine if another => Op::IfFlat(","),
            Commas::None if semicolon => Op::Text(";"),
            Commas::OnOneLine | Commas::None => return,
        };
        self.layout.push(op);
    }

    /// `with key = value, ... { statements }`
    fn with(&mut self, with: &SyntaxNode) {
        let mut parts = parts(with);
        self.layout.open();
        self.token();
        parts.next();
        let mut count = 0;
        while let Some(NodeOrToken::Node(entry)) = parts.next_if(|part| part.kind() == Entry) {
            if count == 0 {
                self.layout.push(Op::Indent);
            }
            self.layout.push(Op::Line(" "));
            self.node(&entry);
            self.separators(&mut parts);
            let another = parts.peek().is_some_and(|part| part.kind() == Entry);
            self.layout.push(if another { Op::Text(",") } else { Op::IfBroken(",") });
            count += 1;
        }
        self.comments(Lines::PLAIN);
        if count > 0 {
            self.layout.push(Op::Dedent);
            self.layout.push(Op::Line(" "));
        } else {
            self.layout.push(Op::Space);
        }
        self.layout.close();
        for part in parts.filter_map(NodeOrToken::into_node) {
            self.node(&part);
        }
    }

    /// `a.b(c)[d].e(f)`: on one line, or its calls each on their own.
    fn chain(&mut self, node: &SyntaxNode) {
        let mut links = Vec::new();
        let mut root = node.clone();
        while matches!(root.kind(), MemberExpression | IndexExpression | CallExpression)
            && let Some(of) = root.first_child()
        {
            links.push(std::mem::replace(&mut root, of));
        }
        links.reverse();
        let called = |at: usize| {
            links[at].kind() == MemberExpression
                && links.get(at + 1).is_some_and(|link| link.kind() == CallExpression)
        };
        let breaks = (0..links.len()).filter(|at| called(*at)).count() > 1;
        // `memory.get` is one word.
        let one_word = root.kind() == NameExpression && self.next_text().len() <= 8;
        if breaks {
            self.layout.open();
        }
        self.node(&root);
        if breaks {
            self.layout.push(Op::Indent);
        }
        for (at, link) in links.iter().enumerate() {
            let mut parts = parts(link);
            parts.next();
            if link.kind() == MemberExpression {
                if breaks && called(at) && !(at == 0 && one_word) {
                    self.layout.push(Op::Line(""));
                } else if self.would_swallow_dot() {
                    self.layout.push(Op::Space);
                }
                self.token();
                self.token();
            } else {
                let last = at + 1 == links.len();
                if breaks && last && link.last_child().is_some_and(|entry| breaks_well(&entry)) {
                    self.layout.last_part(true);
                }
                self.entries(link.kind(), &mut parts, true);
            }
        }
        if breaks {
            self.layout.push(Op::Dedent);
            self.layout.close();
        }
    }

    /// Whether the last token would take a `.` and the word after it for a part of itself.
    fn would_swallow_dot(&self) -> bool {
        let Some(last) = self.at.checked_sub(1).map(|at| self.tokens[at]) else { return false };
        let word = self.tokens.get(self.at + 1).map_or("", |token| self.text_of(*token));
        last.kind == Secret || (last.kind == Int && DURATION_WORDS.contains(&word))
    }

    /// `a + b - c`: on one line, or each operator at the beginning of its own.
    fn binary(&mut self, node: &SyntaxNode) {
        let level = precedence(node);
        let mut links = Vec::new();
        let mut root = node.clone();
        while root.kind() == BinaryExpression
            && precedence(&root) == level
            && let Some(left) = root.first_child()
        {
            links.push(std::mem::replace(&mut root, left));
        }
        self.layout.open();
        self.node(&root);
        self.layout.push(Op::Indent);
        for link in links.iter().rev() {
            let mut last = None;
            for part in parts(link).skip(1) {
                match (last, part.kind()) {
                    (None, _) => self.layout.push(Op::Line(" ")),
                    // The two halves of `>=`.
                    (Some(Greater), Equals) => {}
                    (Some(_), _) => self.layout.push(Op::Space),
                }
                last = Some(part.kind());
                match part {
                    NodeOrToken::Token(_) => self.token(),
                    NodeOrToken::Node(right) => self.node(&right),
                }
            }
        }
        self.layout.push(Op::Dedent);
        self.layout.close();
    }
}

/// How tightly the operator of a binary expression binds, as a number.
fn precedence(node: &SyntaxNode) -> u8 {
    let operator = parts(node).find_map(NodeOrToken::into_token).map(|token| token.kind());
    match operator {
        Some(OrOr) => 0,
        Some(AndAnd) => 1,
        Some(Less | Greater | LessEquals) => 3,
        Some(Plus | Minus) => 4,
        Some(Star | Slash | Percent) => 5,
        // `==`, `!=`, `in`, `not in`
        Some(_) | None => 2,
    }
}

/// Whether a space stands between two parts of such a node.
fn spaced(node: SyntaxKind, last: SyntaxKind, next: SyntaxKind) -> bool {
    match (last, next) {
        (_, Colon | Comma | RightParen | Less | Greater | Parameters) => false,
        // Two of them would be a `--`.
        (Minus, UnaryExpression) => true,
        (LeftParen | Less | Minus | Bang, _) => false,
        (_, LeftParen) => node == Catch,
        (_, _) => true,
    }
}

/// Whether what comes after a comma closes the arguments of a type.
fn closes_type(parts: &mut Peekable<impl Iterator<Item = Part>>) -> bool {
    parts.peek().is_some_and(|part| part.kind() == Greater)
}

/// Whether a last argument looks well broken over lines while those before it stand on the first.
fn breaks_well(entry: &SyntaxNode) -> bool {
    let value = match entry.kind() {
        Argument => entry.last_child(),
        _ => Some(entry.clone()),
    };
    value.is_some_and(|value| match value.kind() {
        RecordExpression | ArrayExpression => true,
        LambdaExpression => {
            let body = value.last_child().map(|body| body.kind());
            matches!(body, Some(Block | RecordExpression))
        }
        _ => false,
    })
}
