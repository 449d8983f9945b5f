//! What may be written next.

use std::collections::HashSet;

use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, InsertTextFormat, TextEdit,
};
use symbiont_dsl::analysis::{Symbol, SymbolKind};
use symbiont_dsl::docs::{self, Kind, Page};
use symbiont_dsl::operations::{self, AMBIENT, OPERATIONS, SYNONYMS};
use symbiont_dsl::syntax::SyntaxKind;

use super::Client;
use super::context::{Called, Context, Place, context};
use super::hover::{fields, receiver};
use super::signature::{callable, functions, markdown, parameters};
use super::words::{self, Word};
use crate::document::Document;

/// How many names of one kind are offered.
const MOST: usize = 2000;

/// What may be written at a place.
pub fn completion(document: &Document, offset: usize, client: &Client) -> Vec<CompletionItem> {
    let Some(context) = context(document, offset) else { return Vec::new() };
    let range = document.text.range(&context.replaced);
    let offers = Offers { context: &context, list: Vec::new(), said: HashSet::new() }.made();
    let indent = indent(document.source(), context.replaced.start);
    let item = |(number, offer): (usize, Offer)| {
        let Offer { label, kind, detail, insert, page, preselected } = offer;
        let snippet = client.snippets && insert.contains('$');
        let text = match (snippet, insert.is_empty()) {
            (_, true) => label.clone(),
            (true, false) => insert.replace('\n', &format!("\n{indent}")),
            // What stands before the first place to fill in is right without snippets as well.
            (false, false) => plain(&insert, &label),
        };
        CompletionItem {
            label,
            kind: Some(kind),
            detail,
            sort_text: Some(format!("{number:05}")),
            text_edit: Some(CompletionTextEdit::Edit(TextEdit { range, new_text: text })),
            insert_text_format: snippet.then_some(InsertTextFormat::SNIPPET),
            data: page
                .map(|page| serde_json::json!([page.receiver, page.name, number_of(page.kind)])),
            preselect: preselected.then_some(true),
            ..CompletionItem::default()
        }
    };
    offers.into_iter().enumerate().map(item).collect()
}

/// The same item with its page of the reference.
pub fn resolve(mut item: CompletionItem) -> CompletionItem {
    let key = item.data.as_ref().map(|data| (data[0].as_str(), data[1].as_str(), data[2].as_u64()));
    if let Some((Some(receiver), Some(name), Some(kind))) = key {
        let page = docs::named(name)
            .find(|page| page.receiver == receiver && number_of(page.kind) == kind);
        item.documentation = page.map(|page| markdown(page.text.to_owned()));
    }
    item
}

fn number_of(kind: Kind) -> u64 {
    match kind {
        Kind::Builtin => 0,
        Kind::Method => 1,
        Kind::Call => 2,
        Kind::Keyword => 3,
    }
}

/// The layout before the line of a place.
fn indent(source: &str, at: usize) -> &str {
    let start = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = &source[start..at];
    &line[..line.len() - line.trim_start().len()]
}

/// What is inserted where the client has no snippets: what stands before the first place to fill in.
fn plain(insert: &str, label: &str) -> String {
    let text = insert.split('$').next().unwrap_or_default();
    match text.contains('\n') {
        true => label.to_owned(),
        false => text.trim_end_matches(['(', '"']).to_owned(),
    }
}

struct Offer {
    label: String,
    kind: CompletionItemKind,
    detail: Option<String>,
    /// What is inserted, if not the label.
    insert: String,
    page: Option<&'static Page>,
    preselected: bool,
}

/// What is offered, the likeliest first, and nothing twice.
struct Offers<'a> {
    context: &'a Context,
    list: Vec<Offer>,
    said: HashSet<String>,
}

impl Offers<'_> {
    fn made(mut self) -> Vec<Offer> {
        match &self.context.place {
            Place::Declaration => self.words(words::DECLARATIONS),
            Place::Item => self.words(words::ITEMS),
            Place::Event => self.words(words::EVENTS),
            Place::Verb => self.words(words::VERBS),
            Place::Policy { whole } => {
                self.symbols(SymbolKind::Policy, if *whole { "policy " } else { "" });
            }
            Place::Agent => self.symbols(SymbolKind::Agent, ""),
            Place::Capability => self.capabilities(),
            Place::Operation { before } => self.operations(before),
            Place::Key { block, node } => self.keys(block, *node),
            Place::Value { block, node, key } => self.values(block, *node, key),
            Place::Type => self.types(),
            Place::ErrorKind => {
                for kind in words::ERROR_KINDS {
                    self.add(kind, CompletionItemKind::CLASS, "", None);
                }
            }
            Place::Pattern => {
                self.words(words::CONSTANTS);
                self.add("_", CompletionItemKind::KEYWORD, "", None);
            }
            Place::Member { receiver } => self.members(receiver.start, receiver.end),
            Place::Field { of, call } => self.fields(of.as_deref(), call.as_deref()),
            Place::Expression { statement, call } => self.expression(*statement, call.as_ref()),
        }
        self.list
    }

    fn add(
        &mut self,
        label: &str,
        kind: CompletionItemKind,
        insert: &str,
        page: Option<&'static Page>,
    ) {
        let detail = page.map(Page::signature).filter(|text| !text.is_empty()).map(str::to_owned);
        self.offer(label, kind, insert, detail, page);
    }

    fn offer(
        &mut self,
        label: &str,
        kind: CompletionItemKind,
        insert: &str,
        detail: Option<String>,
        page: Option<&'static Page>,
    ) {
        if self.said.insert(label.to_owned()) {
            let (label, insert) = (label.to_owned(), insert.to_owned());
            self.list.push(Offer { label, kind, detail, insert, page, preselected: false });
        }
    }

    fn words(&mut self, words: &[Word]) {
        for Word { word, snippet } in words {
            let page = docs::find(Kind::Keyword, word);
            self.add(word, CompletionItemKind::KEYWORD, snippet, page);
        }
    }

    /// What the file declares of a kind.
    fn symbols(&mut self, kind: SymbolKind, before: &str) {
        let context = self.context;
        let symbols = context.document.names().analysis.symbols().iter();
        for symbol in symbols.filter(|symbol| symbol.kind == kind).take(MOST) {
            let insert = format!("{before}{}", symbol.name);
            self.offer(&symbol.name, item_kind(symbol), &insert, None, None);
        }
    }

    fn capabilities(&mut self) {
        for name in OPERATIONS {
            self.add(name, CompletionItemKind::CONSTANT, "", None);
        }
        for (synonym, meant) in SYNONYMS.iter().filter(|(synonym, _)| *synonym != "any") {
            let detail = Some(format!("= {}", meant.join(", ")));
            self.offer(synonym, CompletionItemKind::CONSTANT, "", detail, None);
        }
    }

    /// What policies and capabilities speak of.
    fn operations(&mut self, before: &str) {
        if !before.is_empty() {
            let prefix = format!("{before}.");
            let known = OPERATIONS.iter().copied().chain(operations::host_calls());
            for last in known.filter_map(|name| name.strip_prefix(&prefix)) {
                let page = docs::find(Kind::Call, &format!("{prefix}{last}"));
                self.add(last, CompletionItemKind::CONSTANT, "", page);
            }
            return;
        }
        for name in OPERATIONS {
            self.add(name, CompletionItemKind::CONSTANT, "", None);
        }
        for name in operations::host_calls() {
            self.add(name, CompletionItemKind::FUNCTION, "", docs::find(Kind::Call, name));
        }
        self.capabilities();
        self.add("any", CompletionItemKind::CONSTANT, "", None);
    }

    fn keys(&mut self, block: &str, node: SyntaxKind) {
        let Some(keys) = words::keys(block, node) else { return };
        let separator = match node {
            SyntaxKind::With | SyntaxKind::Metadata => " = ",
            SyntaxKind::Memory | SyntaxKind::Webhook | SyntaxKind::InnerBlock => " ",
            _ => ": ",
        };
        for (key, _) in keys.keys {
            let values = words::values(keys, key);
            let detail = words::key_docs(block, key).map(str::to_owned);
            let insert = match values.is_empty() {
                true => format!("{key}{separator}$0"),
                false => format!("{key}{separator}${{1|{}|}}$0", values.join(",")),
            };
            self.offer(key, CompletionItemKind::PROPERTY, &insert, detail, None);
        }
        for inner in keys.inner {
            let insert = format!("{inner} {{\n    $0\n}}");
            let detail = words::key_docs(block, inner).map(str::to_owned);
            self.offer(inner, CompletionItemKind::PROPERTY, &insert, detail, None);
        }
    }

    fn values(&mut self, block: &str, node: SyntaxKind, key: &str) {
        let Some(keys) = words::keys(block, node) else { return };
        for value in words::values(keys, key) {
            self.add(value, CompletionItemKind::ENUM_MEMBER, "", None);
        }
    }

    fn types(&mut self) {
        self.symbols(SymbolKind::Type, "");
        for Word { word, snippet } in words::TYPES {
            self.add(word, CompletionItemKind::CLASS, snippet, None);
        }
    }

    // Members.

    fn members(&mut self, start: usize, end: usize) {
        let context = self.context;
        let document = &context.document;
        let text = document.source().get(start..end).unwrap_or_default();
        let names = &document.names().analysis;
        let symbol = names.symbol_at(start).filter(|symbol| symbol.name == text);
        let namespace = match symbol {
            Some(symbol) if symbol.kind == SymbolKind::Memory => Some("memory"),
            Some(_) => None,
            None => operations::NAMESPACES.iter().copied().find(|namespace| *namespace == text),
        };
        if let Some(namespace) = namespace {
            let prefix = format!("{namespace}.");
            for call in operations::host_calls() {
                let Some(last) = call.strip_prefix(&prefix) else { continue };
                let page = docs::find(Kind::Call, call);
                let insert = calling(last, page.map(Page::signature));
                self.add(last, CompletionItemKind::FUNCTION, &insert, page);
            }
            return;
        }
        let members = names.members_at(end);
        let kind = receiver(document, end);
        for member in members.iter().filter(|member| !member.is_method) {
            let detail = Some(member.detail.clone());
            self.offer(&member.name, CompletionItemKind::FIELD, "", detail, None);
        }
        for member in members.iter().filter(|member| member.is_method) {
            let page = kind.and_then(|kind| docs::method(kind, &member.name));
            let insert = calling(&member.name, Some(&member.detail));
            let detail = Some(member.detail.clone());
            self.offer(&member.name, CompletionItemKind::METHOD, &insert, detail, page);
        }
        if members.is_empty() {
            for page in docs::all().iter().filter(|page| page.kind == Kind::Method) {
                let insert = calling(page.name, Some(page.signature()));
                self.add(page.name, CompletionItemKind::METHOD, &insert, Some(page));
            }
        }
    }

    fn fields(&mut self, of: Option<&str>, call: Option<&str>) {
        if let Some(of) = of {
            for (field, ty) in fields(&self.context.document, of).unwrap_or_default() {
                let insert = format!("{field}: $0");
                self.offer(&field, CompletionItemKind::FIELD, &insert, Some(ty), None);
            }
        }
        let Some(call) = call else { return };
        for option in operations::options(call) {
            let page = docs::find(Kind::Call, call);
            let detail = page.and_then(|page| page.item(option)).map(str::to_owned);
            let insert = format!("{option}: $0");
            self.offer(option, CompletionItemKind::PROPERTY, &insert, detail, None);
        }
    }

    // Expressions.

    fn expression(&mut self, statement: bool, call: Option<&Called>) {
        if let Some(call) = call {
            self.arguments(call);
        }
        let context = self.context;
        let names = &context.document.names().analysis;
        let visible = names.scope_at(context.offset);
        let in_bodies = visible.into_iter().filter(|symbol| {
            matches!(
                symbol.kind,
                SymbolKind::Variable
                    | SymbolKind::Parameter
                    | SymbolKind::Part
                    | SymbolKind::Function
                    | SymbolKind::Memory
            )
        });
        // The word that was put in may have been read as a variable.
        let own = in_bodies.filter(|symbol| symbol.span.start != context.offset);
        for symbol in own.take(MOST) {
            let signature = functions(&context.document.names().program)
                .find(|function| function.name.span == symbol.span)
                .map(|function| super::signature::declaration(&context.document, function));
            let insert = match &signature {
                Some(signature) => calling(&symbol.name, Some(signature)),
                None => String::new(),
            };
            let detail = signature.or_else(|| names.type_at(symbol.span.start));
            self.offer(&symbol.name, item_kind(symbol), &insert, detail, None);
        }
        if statement {
            self.words(words::STATEMENTS);
        }
        self.words(words::EXPRESSIONS);
        for page in docs::all().iter().filter(|page| page.kind == Kind::Builtin) {
            let insert = calling(page.name, Some(page.signature()));
            self.add(page.name, CompletionItemKind::FUNCTION, &insert, Some(page));
        }
        for namespace in operations::NAMESPACES {
            self.add(namespace, CompletionItemKind::MODULE, "", None);
        }
        for name in operations::host_calls().filter(|name| !name.contains('.')) {
            let page = docs::find(Kind::Call, name);
            let insert = calling(name, page.map(Page::signature));
            self.add(name, CompletionItemKind::FUNCTION, &insert, page);
        }
        self.words(words::CONSTANTS);
        for name in AMBIENT {
            self.add(name, CompletionItemKind::VARIABLE, "", None);
        }
    }

    /// The names of the arguments that are not given yet.
    fn arguments(&mut self, call: &Called) {
        if call.at.is_some() {
            return;
        }
        let Some(callable) = callable(&self.context.document, call) else { return };
        // Builtins and methods know their arguments by position only.
        let named = match self.context.document.names().analysis.place_at(call.last.start) {
            Some(place) => !matches!(place.meaning, symbiont_dsl::analysis::Meaning::Builtin),
            None => false,
        };
        for signature in callable.signatures.iter().take(usize::from(named)) {
            for span in parameters(signature).into_iter().skip(call.positional) {
                let parameter = &signature[span];
                let name = parameter.split([':', ' ', '?']).next().unwrap_or_default();
                if !call.named.iter().any(|given| given == name) && name != "options" {
                    let label = format!("{name} = ");
                    let detail = Some(parameter.to_owned());
                    self.offer(&label, CompletionItemKind::PROPERTY, "", detail, None);
                }
            }
        }
        for option in operations::options(&call.name) {
            if !call.named.iter().any(|given| given == option) {
                let label = format!("{option} = ");
                self.offer(&label, CompletionItemKind::PROPERTY, "", None, None);
            }
        }
    }
}

/// A call of a name: the place to go on is inside the parentheses if anything belongs there.
fn calling(name: &str, signature: Option<&str>) -> String {
    match signature.map(parameters) {
        Some(parameters) if parameters.is_empty() => format!("{name}()$0"),
        Some(_) | None => format!("{name}($0)"),
    }
}

fn item_kind(symbol: &Symbol) -> CompletionItemKind {
    match symbol.kind {
        SymbolKind::Agent => CompletionItemKind::CLASS,
        SymbolKind::Function => CompletionItemKind::FUNCTION,
        SymbolKind::Parameter | SymbolKind::Variable | SymbolKind::Part => {
            CompletionItemKind::VARIABLE
        }
        SymbolKind::Type => CompletionItemKind::STRUCT,
        SymbolKind::Policy => CompletionItemKind::INTERFACE,
        SymbolKind::Memory => CompletionItemKind::MODULE,
        SymbolKind::Channel | SymbolKind::Schedule | SymbolKind::Webhook => {
            CompletionItemKind::EVENT
        }
    }
}
