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

/// The page of a method of a type, which is named as `type_of` does. Ints and floats have the methods
/// of `number`.
pub fn method(receiver: &str, name: &str) -> Option<&'static Page> {
    let receiver = match receiver {
        "int" | "float" => "number",
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
    Method "methods/string" "string": "length" "len" "is_empty" "trim" "lower" "upper" "lines"
        "chars" "reverse" "to_int" "to_float" "to_string" "split" "contains" "starts_with"
        "ends_with" "replace" "contains_pattern" "slice" "repeat";
    Method "methods/array" "array": "length" "len" "is_empty" "first" "last" "get" "contains"
        "sort" "reverse" "sum" "join" "slice" "map" "filter" "find" "any" "all" "reduce"
        "append" "push" "remove";
    Method "methods/map" "map": "length" "len" "is_empty" "keys" "values" "entries" "get"
        "contains" "remove" "merge";
    Method "methods/bytes" "bytes": "length" "len" "is_empty" "base64";
    Method "methods/number" "number": "abs" "round" "floor" "ceil" "sqrt" "to_int" "to_float"
        "to_string" "is_nan" "pow" "min" "max";
    Method "methods/duration" "duration": "milliseconds" "seconds" "minutes" "hours" "days"
        "as_seconds" "to_string";
    Method "methods/size" "size": "bytes" "kilobytes" "megabytes" "gigabytes" "to_string";
    Method "methods/time" "time": "year" "month" "day" "hour" "minute" "second" "weekday" "unix"
        "unix_ms" "to_string" "plus" "minus" "since";
    Method "methods/option" "option": "is_some" "is_none" "unwrap" "unwrap_or";
    Method "methods/result" "result": "is_ok" "is_err" "unwrap" "unwrap_or" "error";
    Method "methods/error" "error": "kind" "message" "operation" "retryable";
    Method "methods/any" "any": "to_string";
    Call "calls" "": "exec" "fs.read" "fs.exists" "fs.list" "fs.write" "fs.remove" "http.get"
        "http.post" "http.put" "http.delete" "http.request" "secret.read" "spawn" "delegate"
        "schedule" "send" "ask" "broadcast" "publish" "receive" "memory.get" "memory.set"
        "memory.remove" "memory.keys" "memory.search" "memory_search" "memory_write" "reason"
        "tool" "request_approval" "sleep" "now" "random" "uuid" "generate_id" "time_since" "log"
        "print" "emit" "checkpoint";
    Keyword "keywords" "": "metadata" "agent" "policy" "type" "function" "schedule" "channel"
        "memory" "webhook" "capabilities" "use" "on" "with" "allow" "deny" "require" "audit"
        "let" "if" "else" "for" "while" "match" "try" "catch" "return" "break" "continue" "in"
        "Some" "None" "Ok" "Err" "vault";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::machine::methods_of;
    use crate::value::{ErrorValue, Map, Value};

    #[test]
    fn every_method_has_a_page_and_every_page_of_one_a_method() {
        let mut types = BTreeSet::new();
        for value in [
            Value::from("a"),
            Value::array([]),
            Value::Range(0, 1),
            Value::from(Map::default()),
            Value::Bytes(Arc::from(&b"a"[..])),
            Value::Int(1),
            Value::Float(1.0),
            Value::Duration(Duration::ZERO),
            Value::Size(1),
            Value::Time(0),
            Value::None,
            Value::Ok(Arc::new(Value::Null)),
            Value::from(ErrorValue::new("Error", "no")),
            Value::Bool(true),
            Value::Any,
        ] {
            let name = value.type_name();
            let known: BTreeSet<&str> = methods_of(&value).iter().copied().collect();
            let receiver = known.iter().map(|method| {
                super::method(name, method).unwrap_or_else(|| panic!("no page of {name}.{method}"))
            });
            let receiver: BTreeSet<&str> = receiver.map(|page| page.receiver).collect();
            assert_eq!(receiver.len(), 1, "{name}");
            for receiver in receiver {
                let pages: BTreeSet<&str> = methods(receiver).map(|page| page.name).collect();
                assert_eq!(pages, known, "{name}");
                types.insert(receiver);
            }
        }
        let pages = all().iter().filter(|page| page.kind == Kind::Method);
        assert_eq!(types, pages.map(|page| page.receiver).collect());
    }

    #[test]
    fn keys_and_attributes_are_found_in_the_page_that_lists_them() {
        let check = |keyword, key, want: Option<&str>| {
            assert_eq!(find(Kind::Keyword, keyword).and_then(|page| page.item(key)), want);
        };
        check("schedule", "every", Some("a duration between two times"));
        check("with", "max_memory_mb", Some("from 1 to 16,777,216"));
        check("with", "nothing", None);
    }
}
