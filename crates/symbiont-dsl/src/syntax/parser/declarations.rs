//! Declarations, their items and their blocks of settings.

use super::{Parser, foreign};
use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{
    Agent, BlockDecl, BlockKind, Entry, Event, Expr, ExprKind, Function, Handler, Literal,
    PolicyBlock, Program, Rule, Spanned, Type, TypeDecl, TypeKind, Verb, With,
};
use crate::syntax::SyntaxKind;
use crate::syntax::literal::short;

/// The words that begin declarations.
pub(crate) const KEYWORDS: [&str; 9] =
    ["metadata", "agent", "policy", "type", "function", "schedule", "channel", "memory", "webhook"];

/// The words that begin items of an agent.
const ITEMS: [&str; 6] = ["capabilities", "policy", "use", "function", "on", "with"];

/// The words that begin rules.
const VERBS: [(&str, Verb); 4] = [
    ("allow", Verb::Allow),
    ("deny", Verb::Deny),
    ("require", Verb::Require),
    ("audit", Verb::Audit),
];

/// The words that begin such things in other languages.
const FOREIGN: [(&str, &str); 7] = [
    ("fn", "function"),
    ("func", "function"),
    ("fun", "function"),
    ("def", "function"),
    ("struct", "type"),
    ("interface", "type"),
    ("class", "agent"),
];

/// Whether this word begins a function, here or elsewhere.
pub(crate) fn is_function(word: &str) -> bool {
    word == "function" || FOREIGN.contains(&(word, "function"))
}

/// Whether this word begins an item of an agent.
pub(super) fn is_item(word: &str) -> bool {
    ITEMS.contains(&word)
}

/// Whether this word begins a declaration.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

impl Parser<'_> {
    pub(super) fn program(&mut self) -> Program {
        let mut program = Program::default();
        // Whether something was told of what stands right before.
        let mut faulty = false;
        while !self.at_end() {
            if self.eat(SyntaxKind::Semicolon) || self.eat(SyntaxKind::Comma) {
                continue;
            }
            let start = self.at;
            let told = self.sink.told();
            // A brace too many is what it left.
            if faulty && self.at(SyntaxKind::RightBrace) {
                self.bump();
                continue;
            }
            self.modifiers(&KEYWORDS);
            let elsewhere = foreign::no_declaration(self.word()).is_some();
            let keyword = self.keyword(&KEYWORDS, "a declaration");
            match keyword {
                Some(keyword) => self.declaration(keyword, &mut program),
                None if elsewhere => self.skip_line(),
                None => self.skip_declaration(),
            }
            self.tell_mends();
            if self.at == start {
                self.bump();
            }
            faulty = self.sink.told() != told;
        }
        program
    }

    /// The keyword that the current word is, or is a misspelling of.
    fn keyword(&mut self, known: &[&'static str], what: &str) -> Option<&'static str> {
        let word = self.word();
        if let Some(keyword) = known.iter().find(|keyword| **keyword == word) {
            return Some(keyword);
        }
        let foreign =
            FOREIGN.iter().find(|(foreign, meant)| *foreign == word && known.contains(meant));
        let elsewhere = foreign::no_declaration(word).filter(|_| known == KEYWORDS);
        let meant = match foreign {
            Some((_, meant)) => Some(*meant),
            None if elsewhere.is_some() => None,
            None => nearest(word, known.iter().copied()),
        };
        let message = format!("expected {what}, found {}", self.found());
        let diagnostic = Diagnostic::error("E0111", message, self.span())
            .label(format!("no such {}", what.trim_start_matches("a ").trim_start_matches("an ")));
        // `struct Name {`
        let record = foreign.is_some()
            && meant == Some("type")
            && self.kind_ahead(1) == SyntaxKind::Name
            && self.kind_ahead(2) == SyntaxKind::LeftBrace;
        let diagnostic = match (meant, elsewhere) {
            (Some(_), _) if record => {
                let meant = format!("type {} =", self.word_ahead(1));
                let span = self.span().start..self.tokens[self.at + 1].end as usize;
                diagnostic.fix(span, meant.as_str(), format!("did you mean `{meant}`?"))
            }
            (Some(_), _) => diagnostic.did_you_mean(meant),
            (None, Some(note)) => diagnostic.note(note),
            (None, None) => diagnostic.note(format!("there are `{}`", known.join("`, `"))),
        };
        let follows = matches!(
            self.kind_ahead(1),
            SyntaxKind::Name | SyntaxKind::LeftBrace | SyntaxKind::Equals | SyntaxKind::Colon
        );
        match meant {
            // What else of its head is written otherwise is told with it.
            Some("function") if follows && self.reported_at != Some(self.at) => {
                let diagnostic = Diagnostic { fix: None, ..diagnostic };
                self.mend_of(diagnostic, self.span(), "function");
            }
            _ => self.report(diagnostic),
        }
        if record {
            // That `=` lacks is part of it.
            self.reported_at = Some(self.at + 2);
        }
        // A misspelt keyword is read as what was meant where what follows looks like it.
        meant
            .filter(|_| follows)
            .and_then(|meant| known.iter().find(|known| **known == meant))
            .copied()
    }

    /// Passes over `pub`, `async` and the like before a keyword, with a complaint.
    fn modifiers(&mut self, known: &[&'static str]) {
        let mut count = 0;
        while foreign::is_modifier(self.word_ahead(count))
            && self.kind_ahead(count + 1) == SyntaxKind::Name
        {
            count += 1;
        }
        let word = self.word_ahead(count);
        let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == word);
        if count == 0 || !(known.contains(&word) || foreign.is_some()) {
            return;
        }
        let keyword = self.tokens[self.at + count];
        let written =
            &self.source[self.span().start..self.tokens[self.at + count - 1].end as usize];
        let message = format!("`{written}` says nothing here");
        let diagnostic = Diagnostic::error("E0115", message, self.span()).label("not needed");
        let (end, meant) = match foreign {
            Some((_, meant)) => (keyword.end, *meant),
            None => (keyword.start, ""),
        };
        let span = self.span().start..end as usize;
        self.report(diagnostic.fix(span, meant, "leave it out"));
        self.at += count;
        // What a foreign keyword means is part of it.
        self.reported_at = Some(self.at);
    }

    fn skip_line(&mut self) {
        let start = self.at;
        loop {
            self.skip_one();
            if self.at_end() || self.first_on_line() {
                break;
            }
        }
        self.node(SyntaxKind::Error, start);
    }

    fn declaration(&mut self, keyword: &str, program: &mut Program) {
        match keyword {
            "metadata" => self.metadata(&mut program.metadata),
            "agent" => program.agents.extend(self.agent()),
            "policy" => program.policies.extend(self.policy()),
            "type" => program.types.extend(self.type_declaration()),
            "function" => program.functions.extend(self.function()),
            "schedule" => program.blocks.extend(self.settings(BlockKind::Schedule)),
            "channel" => program.blocks.extend(self.settings(BlockKind::Channel)),
            "memory" => program.blocks.extend(self.settings(BlockKind::Memory)),
            _ => program.blocks.extend(self.settings(BlockKind::Webhook)),
        }
    }

    /// Passes over what is no declaration: to the next keyword at the beginning of a line, to what
    /// stands there and looks like a declaration, or past the next block.
    fn skip_declaration(&mut self) {
        let start = self.at;
        while !self.at_end() {
            let block = self.at(SyntaxKind::LeftBrace);
            self.skip_one();
            let word = self.word();
            let next = self.first_on_line()
                && (is_keyword(word)
                    || FOREIGN.iter().any(|(foreign, _)| *foreign == word)
                    || (!word.is_empty() && self.opens_block()));
            if block || next {
                break;
            }
        }
        self.node(SyntaxKind::Error, start);
    }

    /// Whether a word with `{`, or one with a name and `{` or `(`, stands here.
    fn opens_block(&self) -> bool {
        match self.kind_ahead(1) {
            SyntaxKind::LeftBrace => true,
            SyntaxKind::Name => {
                matches!(self.kind_ahead(2), SyntaxKind::LeftBrace | SyntaxKind::LeftParen)
            }
            _ => false,
        }
    }

    /// `{ entry entry }`, where a comma, a semicolon or nothing stands between entries. `entry`
    /// gives false, having read nothing, where none can begin.
    pub(super) fn braced(&mut self, entry: impl FnMut(&mut Self) -> bool) {
        self.braced_until(|_| false, entry);
    }

    /// The same, of entries among which `ends` says that a statement begins here, in a line of its own:
    /// somebody forgot to close the brace.
    pub(super) fn braced_until(
        &mut self,
        ends: impl Fn(&Self) -> bool,
        mut entry: impl FnMut(&mut Self) -> bool,
    ) {
        let open = self.at;
        if !self.expect(SyntaxKind::LeftBrace, "`{`") {
            return;
        }
        let head = std::mem::replace(&mut self.in_head, false);
        // Of several in a row that are no entries, the first is told of.
        let mut lost = false;
        while !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End) {
            if self.eat(SyntaxKind::Comma) || self.eat(SyntaxKind::Semicolon) {
                continue;
            }
            // A declaration of the outermost level in here means that a brace is missing.
            if self.at_declaration() || (self.first_on_line() && ends(self)) {
                break;
            }
            let (start, told) = (self.at, self.sink.told());
            let read = entry(self);
            if !read || self.at == start {
                if !lost {
                    self.expected("an entry or `}`");
                }
                self.skip_entry();
                lost = true;
            } else if self.sink.told() == told {
                lost = false;
            }
        }
        self.in_head = head;
        self.expect_closing(open, SyntaxKind::RightBrace);
    }

    /// Passes over the rest of an entry.
    fn skip_entry(&mut self) {
        let start = self.at;
        loop {
            match self.kind() {
                SyntaxKind::End | SyntaxKind::RightBrace => break,
                SyntaxKind::Comma | SyntaxKind::Semicolon => break,
                _ => self.skip_one(),
            }
            if self.first_on_line() {
                break;
            }
        }
        self.node(SyntaxKind::Error, start);
    }

    fn metadata(&mut self, entries: &mut Vec<Entry>) {
        let start = self.at;
        self.bump();
        self.braced(|parser| match parser.entry(false) {
            Some(entry) => {
                entries.push(entry);
                true
            }
            None => false,
        });
        self.node(SyntaxKind::Metadata, start);
    }

    /// `key = value`. With `bare` the separator may be left out.
    fn entry(&mut self, bare: bool) -> Option<Entry> {
        let start = self.at;
        let key = self.key()?;
        self.separator(bare, " =");
        let value = self.value(self.kind_ahead(1) == SyntaxKind::Equals);
        self.node(SyntaxKind::Entry, start);
        Some(Entry { key, value })
    }

    /// What stands behind a key. A word that is followed by `:`, or that is known to begin something
    /// else, is no value: that is missing.
    fn value(&mut self, begins: bool) -> Expr {
        let next_key =
            self.at(SyntaxKind::Name) && (begins || self.kind_ahead(1) == SyntaxKind::Colon);
        if !next_key {
            return self.expression();
        }
        self.expected("a value");
        self.missing()
    }

    /// `=` or `:` after a key; `mark` is the one that people write there.
    fn separator(&mut self, bare: bool, mark: &str) {
        self.walrus();
        if self.eat(SyntaxKind::Equals) || self.eat(SyntaxKind::Colon) || bare {
            return;
        }
        let place = self.after_last();
        let message = format!("expected `=` or `:` after the key, found {}", self.found());
        let diagnostic = Diagnostic::error("E0113", message, self.span())
            .label(format!("expected `{}` before this", mark.trim()))
            .fix(place, mark, format!("add `{}`", mark.trim()));
        self.report(diagnostic);
    }

    /// Whether a declaration stands here and no type, however its keyword is spelt.
    fn begins_declaration(&self) -> bool {
        if !self.at(SyntaxKind::Name) {
            return false;
        }
        let beside = self.tokens.get(self.at + 1).filter(|next| !next.first_on_line);
        let next = beside.map_or(SyntaxKind::End, |next| next.kind);
        match next {
            SyntaxKind::Name => {
                is_keyword(self.word())
                    || foreign::is_modifier(self.word())
                    || !is_keyword(self.word_ahead(1))
            }
            SyntaxKind::String | SyntaxKind::LeftBrace => true,
            _ => false,
        }
    }

    fn type_declaration(&mut self) -> Option<TypeDecl> {
        let start = self.at;
        self.bump();
        let name = self.name("the type's name")?;
        self.separator(false, " =");
        let next = self.first_on_line() && self.begins_declaration();
        let ty = if next {
            self.lacks("a type");
            // The keyword in the next line may be misspelt as well.
            self.reported_at = None;
            let place = self.after_last();
            Type { kind: TypeKind::Named(String::new(), Vec::new()), span: place }
        } else {
            self.ty()
        };
        self.node(SyntaxKind::TypeDeclaration, start);
        Some(TypeDecl { name, ty })
    }

    pub(super) fn function(&mut self) -> Option<Function> {
        let start = self.at;
        let told = self.reported_at == Some(start);
        self.bump();
        let name = self.name("the function's name")?;
        let params = self.params();
        let result = self.result();
        let body = if self.at(SyntaxKind::Colon) {
            self.indented()
        } else {
            self.tell_mends();
            self.block()
        };
        if told {
            // Whoever writes `async def` also writes the colon.
            self.mends.clear();
        }
        self.node(SyntaxKind::Function, start);
        Some(Function { name, params, result, body })
    }

    // Agents.

    fn agent(&mut self) -> Option<Agent> {
        let start = self.at;
        self.bump();
        let name = self.name("the agent's name")?;
        let params = if self.at(SyntaxKind::LeftParen) { self.params() } else { Vec::new() };
        let result = self.result();
        let mut agent = Agent {
            name,
            params,
            result,
            capabilities: None,
            policies: Vec::new(),
            uses: Vec::new(),
            functions: Vec::new(),
            handlers: Vec::new(),
            with: None,
            span: 0..0,
        };
        self.tell_mends();
        if self.at(SyntaxKind::LeftBrace) || (self.at_item() && !is_keyword(self.word())) {
            self.items(&mut agent);
        } else if !self.at_end() && !is_keyword(self.word()) && !self.at(SyntaxKind::Semicolon) {
            self.expected("`{`, `(`, `->` or the next declaration");
        }
        self.node(SyntaxKind::Agent, start);
        agent.span = self.span_from(start);
        Some(agent)
    }

    fn items(&mut self, agent: &mut Agent) {
        let open = self.at;
        let opened = self.eat(SyntaxKind::LeftBrace);
        if !opened {
            let message = format!("expected `{{`, found {}", self.found());
            let place = self.after_last();
            let diagnostic = Diagnostic::error("E0101", message, self.span())
                .label("expected `{` before this")
                .fix(place, " {", "add `{`");
            self.report(diagnostic);
            // The keyword itself is as it should be.
            self.reported_at = None;
        }
        // Whether what stands right before is no item: of several in a row the first is told of.
        let mut lost = false;
        while !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End) {
            if self.eat(SyntaxKind::Comma) || self.eat(SyntaxKind::Semicolon) {
                continue;
            }
            // `policy` and `function` are items as well.
            if self.at_declaration() && !matches!(self.word(), "policy" | "function") {
                break;
            }
            let start = self.at;
            if lost && !ITEMS.contains(&self.word()) {
                self.reported_at = Some(self.at);
            }
            self.modifiers(&ITEMS);
            let item = self.keyword(&ITEMS, "an item of the agent");
            lost = item.is_none();
            match item {
                Some(item) => self.item(item, agent),
                None => self.skip_item(),
            }
            self.tell_mends();
            if self.at == start {
                self.bump();
            }
        }
        match opened {
            true => self.expect_closing(open, SyntaxKind::RightBrace),
            false => _ = self.eat(SyntaxKind::RightBrace),
        }
    }

    fn item(&mut self, item: &str, agent: &mut Agent) {
        let start = self.at;
        match item {
            "capabilities" => {
                let span = self.span();
                let list = self.capabilities();
                self.once("capabilities", span, agent.capabilities.is_some());
                agent.capabilities.get_or_insert_default().extend(list);
            }
            "policy" => agent.policies.extend(self.policy()),
            "use" => {
                self.bump();
                if !self.eat_word("policy") {
                    self.expected("`policy` and a name");
                }
                agent.uses.extend(self.name("the policy's name"));
                self.node(SyntaxKind::Use, start);
            }
            "function" => agent.functions.extend(self.function()),
            "on" => agent.handlers.extend(self.handler()),
            _ => {
                let span = self.span();
                let with = self.with();
                self.once("with", span, agent.with.is_some());
                agent.with.get_or_insert(with);
            }
        }
    }

    /// Reports an item that an agent has already.
    fn once(&mut self, item: &str, span: crate::hir::Span, already: bool) {
        if already {
            let message = format!("an agent has at most one `{item}`");
            self.sink.push(Diagnostic::error("E0116", message, span).label("here is another"));
        }
    }

    fn skip_item(&mut self) {
        let start = self.at;
        while !matches!(self.kind(), SyntaxKind::RightBrace | SyntaxKind::End) {
            let ends = matches!(self.kind(), SyntaxKind::LeftBrace | SyntaxKind::Semicolon);
            self.skip_one();
            if ends || (self.first_on_line() && ITEMS.contains(&self.word())) {
                break;
            }
        }
        self.node(SyntaxKind::Error, start);
    }

    /// `capabilities = [name, "name", dotted.name]`
    fn capabilities(&mut self) -> Vec<Spanned<String>> {
        let start = self.at;
        self.bump();
        if !self.eat(SyntaxKind::Equals) {
            self.eat(SyntaxKind::Colon);
        }
        let mut names = Vec::new();
        self.list(SyntaxKind::LeftBracket, SyntaxKind::RightBracket, "`[`", |parser| {
            let value = parser.expression();
            match dotted(&value) {
                Some(node) => names.push(Spanned { node, span: value.span }),
                None if value.kind == ExprKind::Missing => {}
                None => {
                    let diagnostic =
                        Diagnostic::error("E0101", "a capability is a name or a text", value.span)
                            .label("neither of them");
                    parser.sink.push(diagnostic);
                }
            }
        });
        self.node(SyntaxKind::Capabilities, start);
        names
    }

    fn handler(&mut self) -> Option<Handler> {
        const EVENTS: [(&str, Event); 3] =
            [("message", Event::Message), ("start", Event::Start), ("stop", Event::Stop)];
        let start = self.at;
        self.bump();
        let word = self.word();
        let known = EVENTS.iter().find(|(name, _)| *name == word);
        if known.is_none() {
            let message = format!("there is no event {}", self.found());
            let meant = nearest(word, EVENTS.iter().map(|(name, _)| *name));
            let diagnostic = Diagnostic::error("E0111", message, self.span())
                .label("expected `message`, `start` or `stop`")
                .did_you_mean(meant);
            self.report(diagnostic);
        }
        if self.at(SyntaxKind::Name) {
            self.bump();
        }
        let params = if self.at(SyntaxKind::LeftParen) { self.params() } else { Vec::new() };
        self.tell_mends();
        let body = self.block();
        self.node(SyntaxKind::Handler, start);
        let event = known.map(|(_, event)| *event)?;
        Some(Handler { event, params, body, span: self.span_from(start) })
    }

    /// `with key = value, ... { statements }`
    fn with(&mut self) -> With {
        let start = self.at;
        self.bump();
        let mut attributes = Vec::new();
        let head = std::mem::replace(&mut self.in_head, true);
        while self.at(SyntaxKind::Name) || self.at(SyntaxKind::String) {
            attributes.extend(self.entry(false));
            self.eat(SyntaxKind::Comma);
        }
        self.in_head = head;
        if !self.at(SyntaxKind::LeftBrace) {
            self.expected("an attribute or the block of `with`");
            while !matches!(
                self.kind(),
                SyntaxKind::LeftBrace | SyntaxKind::RightBrace | SyntaxKind::End
            ) && !self.at_declaration()
            {
                self.bump();
            }
        }
        let body = if self.at(SyntaxKind::LeftBrace) {
            self.block()
        } else {
            crate::hir::Block::default()
        };
        self.node(SyntaxKind::With, start);
        With { attributes, body, span: self.span_from(start) }
    }

    // Policies.

    fn policy(&mut self) -> Option<PolicyBlock> {
        let start = self.at;
        self.bump();
        let name = self.name("the policy's name")?;
        let mut rules = Vec::new();
        self.braced_until(Self::at_item, |parser| {
            if !parser.at(SyntaxKind::Name) {
                return false;
            }
            rules.extend(parser.rule());
            true
        });
        self.node(SyntaxKind::Policy, start);
        Some(PolicyBlock { name, rules, span: self.span_from(start) })
    }

    /// Whether an item of an agent stands here, and no rule.
    pub(super) fn at_item(&self) -> bool {
        let next = self.kind_ahead(1);
        match self.word() {
            "with" => {
                next == SyntaxKind::Name || (next == SyntaxKind::LeftBrace && !self.opens_record(1))
            }
            "on" | "function" | "policy" => next == SyntaxKind::Name,
            "use" => self.word_ahead(1) == "policy",
            "capabilities" => self.kind_ahead(2) == SyntaxKind::LeftBracket,
            _ => false,
        }
    }

    /// Whether a line begins here, and with the verb of a rule.
    pub(super) fn at_rule(&self) -> bool {
        self.first_on_line() && VERBS.iter().any(|(verb, _)| self.at_word(verb))
    }

    /// `verb: what if condition`
    fn rule(&mut self) -> Option<Rule> {
        let start = self.at;
        let word = self.word();
        let known = VERBS.iter().find(|(name, _)| *name == word);
        if known.is_none() {
            let message = format!("there is no rule `{}`", short(word));
            let meant = nearest(word, VERBS.iter().map(|(name, _)| *name));
            let diagnostic = Diagnostic::error("E0111", message, self.span())
                .label("expected `allow`, `deny`, `require` or `audit`")
                .did_you_mean(meant);
            // That a value lacks before it is another fault.
            self.sink.push(diagnostic);
        }
        self.bump();
        self.separator(false, ":");
        let what = self.stars().unwrap_or_else(|| self.value(self.at_rule()));
        let mut condition = match self.foreign_condition() {
            None => self.eat_word("if").then(|| self.value(self.at_rule())),
            foreign => foreign,
        };
        // Of what is compared, this is one side.
        if condition.is_some() && self.no_assignment() {
            condition = Some(self.missing());
        }
        self.node(SyntaxKind::Rule, start);
        let verb = known.map(|(_, verb)| *verb)?;
        Some(Rule { verb, what, condition, span: self.span_from(start) })
    }

    // Blocks of settings.

    fn settings(&mut self, kind: BlockKind) -> Option<BlockDecl> {
        let start = self.at;
        self.bump();
        let name = self.name("a name")?;
        let (bare, node) = match kind {
            BlockKind::Schedule => (false, SyntaxKind::Schedule),
            BlockKind::Channel => (false, SyntaxKind::Channel),
            BlockKind::Memory => (true, SyntaxKind::Memory),
            BlockKind::Webhook => (true, SyntaxKind::Webhook),
        };
        let mut block = BlockDecl {
            kind,
            name,
            entries: Vec::new(),
            inner: Vec::new(),
            policies: Vec::new(),
            span: 0..0,
        };
        self.braced(|parser| {
            let named = parser.kind_ahead(1) == SyntaxKind::Name
                && parser.kind_ahead(2) == SyntaxKind::LeftBrace;
            if parser.at_word("policy") && named {
                block.policies.extend(parser.policy());
            } else if parser.kind_ahead(1) == SyntaxKind::LeftBrace {
                let Some(inner) = parser.inner_block(bare) else { return false };
                block.inner.push(inner);
            } else {
                let Some(entry) = parser.entry(bare) else { return false };
                block.entries.push(entry);
            }
            true
        });
        self.node(node, start);
        block.span = self.span_from(start);
        Some(block)
    }

    /// `search { key value }`
    fn inner_block(&mut self, bare: bool) -> Option<(Spanned<String>, Vec<Entry>)> {
        let start = self.at;
        let name = self.key()?;
        let mut entries = Vec::new();
        self.braced(|parser| match parser.entry(bare) {
            Some(entry) => {
                entries.push(entry);
                true
            }
            None => false,
        });
        self.node(SyntaxKind::InnerBlock, start);
        Some((name, entries))
    }
}

/// `name`, `dotted.name` or `"text"` as text.
fn dotted(value: &Expr) -> Option<String> {
    match &value.kind {
        ExprKind::Name(name) | ExprKind::Literal(Literal::String(name)) => Some(name.clone()),
        ExprKind::Member(of, name) => Some(format!("{}.{}", dotted(of)?, name.node)),
        _ => None,
    }
}
