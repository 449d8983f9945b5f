//! The reference: a page for each builtin, method, host call and keyword.
//!
//! The pages are files of Markdown under `docs/`, embedded, for whoever shows help: an editor, the
//! command, the site. Each begins with a line of signatures in backticks, goes on with what it does
//! and which errors it raises, and ends in examples.
//!
//! # What holds
//!
//! - Every builtin, host call and method that the machine knows has a page, and every page is one of
//!   those or a keyword: the tests compare the tables.
//! - Every example runs in the tests, and gives what stands behind `// =>`.
//!
//! # What is not here
//!
//! The language as a whole is in `docs/language.md`; codes of diagnostics are explained elsewhere.

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A function that only computes.
    Builtin,
    /// A method of the values of one type.
    Method,
    /// A call that reaches the host.
    Call,
    /// A word that begins a declaration, an item, a statement, a rule or an expression.
    Keyword,
}

/// A page of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// What it is about.
    pub kind: Kind,
    /// The type whose method it is, as `type_of` names it; empty for all others.
    pub receiver: &'static str,
    /// The name: `len`, `split`, `fs.read`, `while`.
    pub name: &'static str,
    /// The page itself, in Markdown.
    pub text: &'static str,
}

impl Page {
    /// The line of signatures, in Markdown: one or several in backticks.
    pub fn signatures(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The first signature, as plain text.
    pub fn signature(&self) -> &'static str {
        self.signatures().split('`').nth(1).unwrap_or_default()
    }

    /// The first paragraph after the signatures.
    pub fn summary(&self) -> &'static str {
        self.text.split("\n\n").nth(1).unwrap_or_default()
    }

    /// What the page says of a key, an attribute or a parameter that it lists: the rest of its line
    /// beginning with `- ` and the key in backticks.
    pub fn item(&self, key: &str) -> Option<&'static str> {
        self.text.lines().find_map(|line| {
            let (names, text) = line.strip_prefix("- `")?.split_once("`: ")?;
            names.split("`, `").any(|name| name == key).then_some(text)
        })
    }
}

/// All pages: builtins, methods by type, calls, keywords.
pub fn all() -> &'static [Page] {
    PAGES
}

/// The page of a builtin, a host call or a keyword.
pub fn find(kind: Kind, name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.kind == kind && page.receiver.is_empty() && page.name == name)
}

/// The page of a method of a type, which is named as `type_of` does. A range has the methods of an
/// array, `any` what every value has.
pub fn method(receiver: &str, name: &str) -> Option<&'static Page> {
    let receiver = match receiver {
        "range" => "array",
        "null" | "bool" | "function" | "secret" | "memory" => "any",
        other => other,
    };
    methods(receiver).find(|page| page.name == name)
}

/// The pages of the methods of a type.
pub fn methods(receiver: &str) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(move |page| page.kind == Kind::Method && page.receiver == receiver)
}

/// Every page of that name, whatever it is about: a method may be one of several types.
pub fn named(name: &str) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(move |page| page.name == name)
}

macro_rules! pages {
    ($($kind:ident $folder:literal $receiver:literal: $($name:literal)*;)*) => {
        const PAGES: &[Page] = &[$($(Page {
            kind: Kind::$kind,
            receiver: $receiver,
            name: $name,
            text: include_str!(concat!("../docs/", $folder, "/", $name, ".md")),
        },)*)*];
    };
}

pages! {
    Builtin "builtins" "": "len" "length" "format" "parse_json" "to_json" "parse_csv" "type_of" "range"
        "min" "max" "abs" "round" "floor" "ceil" "sum" "sort" "reverse" "zip" "keys" "values" "entries"
        "hash" "base64" "regex_match" "error" "assert";
}
