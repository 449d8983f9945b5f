//! What builtins, host calls and methods take and give, as an editor shows it and inference knows it.
//!
//! Results are written as types of the language, in which `T` is what an array or an option holds and
//! `Self` what a method is called on, or a function's first argument.
//!
//! # What holds
//!
//! - Every builtin, every host call and every method has a row.
//! - A result is what the call always gives; or what it gives as a rule, which inference shows to
//!   people and holds nobody to.
//!
//! # What is not here
//!
//! What the arguments of host calls are checked against: that is
//! [`crate::operations::arrange`]'s.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::hir::Type;
use crate::syntax::parse;

/// What a function, a host call or a method takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Its name; that of a host call with its namespace.
    pub name: &'static str,
    /// Its parameters, as people read them.
    pub params: &'static str,
    /// The type of what it gives.
    pub result: &'static str,
    /// Whether it gives that always, and not only as a rule.
    pub always: bool,
}

impl Signature {
    /// The types of its parameters, as they are written.
    pub(crate) fn each_param(&self) -> impl Iterator<Item = &'static str> {
        // The parameters of a function have parentheses of their own, and no parameter has another.
        let plain = self.params.replace("(sum, item)", "item");
        let count = if plain.is_empty() { 0 } else { plain.split(", ").count() };
        let mut rest = self.params;
        (0..count).map(move |_| {
            let from = rest.find(": ").map_or(rest.len(), |at| at + 2);
            let after = &rest[from..];
            let end = if after.starts_with('(') {
                after.find("=>").and_then(|arrow| after[arrow..].find(", ").map(|end| arrow + end))
            } else {
                after.find(", ")
            };
            let (ty, next) = match end {
                Some(end) => (&after[..end], &after[end + 2..]),
                None => (after, ""),
            };
            rest = next;
            ty
        })
    }

    /// How many arguments it takes, at least and at most: those with `?` behind their name may be left
    /// out, and `...` stands for any number.
    pub(crate) fn arity(&self) -> (usize, usize) {
        let count = self.each_param().count();
        let rest = self.params.contains("...");
        let optional = self.params.matches("?:").count() + usize::from(rest && count > 1);
        (count - optional, if rest { usize::MAX } else { count })
    }

    /// What is wrong with as many arguments, if it does not take them.
    pub(crate) fn refuses(&self, given: usize) -> Option<String> {
        let (least, most) = self.arity();
        if (least..=most).contains(&given) {
            return None;
        }
        let count = |number: usize| match number {
            0 => "no arguments".to_owned(),
            1 => "1 argument".to_owned(),
            number => format!("{number} arguments"),
        };
        let takes = match (least, most) {
            (least, usize::MAX) => format!("at least {}", count(least)),
            (least, most) if least == most => count(most),
            (least, most) => format!("{least} to {}", count(most)),
        };
        Some(format!("`{}` takes {takes}, and is given {given}", self.name))
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({}) -> {}", self.name, self.params, self.result)
    }
}

const fn gives(name: &'static str, params: &'static str, result: &'static str) -> Signature {
    Signature { name, params, result, always: true }
}

const fn mostly(name: &'static str, params: &'static str, result: &'static str) -> Signature {
    Signature { name, params, result, always: false }
}

/// Builtins and host calls.
#[rustfmt::skip]
pub(crate) const FUNCTIONS: &[Signature] = &[
    gives("len",         "value: String | Array | Map | bytes",      "int"),
    gives("length",      "value: String | Array | Map | bytes",      "int"),
    mostly("format",     "pattern: String, ...values",               "String"),
    gives("parse_json",  "text: String",                             "any"),
    gives("to_json",     "value: any",                               "String"),
    gives("parse_csv",   "text: String",                             "Array<Map<String, String>>"),
    gives("type_of",     "value: any",                               "String"),
    gives("range",       "from: int, to?: int",                      "Array<int>"),
    gives("min",         "...values",                                "any"),
    gives("max",         "...values",                                "any"),
    gives("abs",         "x: int | float",                           "Self"),
    mostly("round",      "x: int | float, digits?: int",             "int"),
    gives("floor",       "x: int | float",                           "int"),
    gives("ceil",        "x: int | float",                           "int"),
    mostly("sum",        "items: Array<T>",                          "T"),
    gives("sort",        "items: Array<T>",                          "Self"),
    gives("reverse",     "items: Array<T> | String",                 "Self"),
    gives("zip",         "a: Array, b: Array",                       "Array<Array>"),
    gives("keys",        "map: Map",                                 "Array<String>"),
    gives("values",      "map: Map",                                 "Array<T>"),
    gives("entries",     "map: Map",                                 "Array<Array>"),
    gives("hash",        "value: any",                               "String"),
    gives("base64",      "value: String | bytes",                    "String"),
    gives("regex_match", "text: String, pattern: String",            "bool"),
    gives("error",       "message: any, kind?: String",              "error"),
    gives("assert",      "condition: any, message?: any",            "null"),
    gives("exec",        "command: String, args: Array<String>, { stdin, env, timeout, cwd }",
          "{ exit_code: int, signal: int, stdout: String, stderr: String, timed_out: bool, truncated: bool }"),
    mostly("fs.read",    "path: String",                             "String"),
    gives("fs.exists",   "path: String",                             "bool"),
    gives("fs.list",     "path: String",                             "Array<String>"),
    gives("fs.write",    "path: String, content: String | bytes",    "null"),
    gives("fs.remove",   "path: String",                             "null"),
    mostly("http.get",   "url: String, { query, headers, body, timeout, verify_tls, idempotency_key }",
           "{ status: int, headers: Map<String, String>, body: String }"),
    mostly("http.post",  "url: String, { query, headers, body, timeout, verify_tls, idempotency_key }",
           "{ status: int, headers: Map<String, String>, body: String }"),
    mostly("http.put",   "url: String, { query, headers, body, timeout, verify_tls, idempotency_key }",
           "{ status: int, headers: Map<String, String>, body: String }"),
    mostly("http.delete", "url: String, { query, headers, body, timeout, verify_tls, idempotency_key }",
           "{ status: int, headers: Map<String, String>, body: String }"),
    mostly("http.request", "method: String, url: String, { query, headers, body, timeout, verify_tls, idempotency_key }",
           "{ status: int, headers: Map<String, String>, body: String }"),
    mostly("secret.read", "path: String",                            "secret"),
    mostly("spawn",      "agent: String, input: any",                "String"),
    gives("delegate",    "agent: String, input: any",                "any"),
    mostly("schedule",   "agent: String, when: String | time | duration, input: any", "String"),
    mostly("send",       "to: String, topic: String, payload: any",  "String"),
    gives("ask",         "to: String, payload: any, timeout: duration", "any"),
    mostly("broadcast",  "topic: String, payload: any",              "Array<String>"),
    mostly("publish",    "topic: String, payload: any",              "Array<String>"),
    gives("memory.get",  "key: String",                              "any"),
    gives("memory.set",  "key: String, value: any",                  "null"),
    gives("memory.remove", "key: String",                            "null"),
    gives("memory.keys", "",                                         "Array<String>"),
    gives("memory.search", "query: String, { limit }",               "Array<{ key: String, value: any }>"),
    gives("memory_search", "store: String, query: String, { limit }", "Array<{ key: String, value: any }>"),
    gives("memory_write", "store: String, key: String, value: any",  "null"),
    mostly("reason",     "prompt: String, { model, system, tools, schema, max_tokens }", "String"),
    gives("tool",        "name: String, args: any",                  "any"),
    mostly("request_approval", "{ action, reason, ... }",
           "{ verified: bool, expired: bool, approver: String, reason: String }"),
    mostly("receive",    "timeout: duration",
           "{ id: String, from: String, topic: String, payload: any }"),
    gives("sleep",       "duration: duration",                       "null"),
    gives("now",         "",                                         "time"),
    gives("random",      "",                                         "float"),
    gives("uuid",        "",                                         "String"),
    gives("generate_id", "",                                         "String"),
    gives("time_since",  "t: time",                                  "duration"),
    gives("log",         "level: String, message: any, ...",         "null"),
    gives("print",       "...values",                                "null"),
    gives("emit",        "name: String, value: any, ...",            "null"),
    gives("checkpoint",  "value: any, name: String, ...",            "null"),
];

const STRINGS: &[Signature] = &[
    gives("length", "", "int"),
    gives("len", "", "int"),
    gives("is_empty", "", "bool"),
    gives("trim", "", "String"),
    gives("lower", "", "String"),
    gives("upper", "", "String"),
    gives("lines", "", "Array<String>"),
    gives("chars", "", "Array<String>"),
    gives("reverse", "", "String"),
    gives("to_int", "", "int"),
    gives("to_float", "", "float"),
    gives("to_string", "", "String"),
    gives("split", "separator: String", "Array<String>"),
    gives("contains", "part: String", "bool"),
    gives("starts_with", "part: String", "bool"),
    gives("ends_with", "part: String", "bool"),
    gives("replace", "from: String, to: String", "String"),
    gives("contains_pattern", "pattern: String", "bool"),
    gives("slice", "from: int, to?: int", "String"),
    gives("repeat", "times: int", "String"),
];

const ARRAYS: &[Signature] = &[
    gives("length", "", "int"),
    gives("len", "", "int"),
    gives("is_empty", "", "bool"),
    gives("first", "", "Option<T>"),
    gives("last", "", "Option<T>"),
    gives("sort", "", "Self"),
    gives("reverse", "", "Self"),
    mostly("sum", "", "T"),
    gives("contains", "item: T", "bool"),
    gives("join", "separator?: String", "String"),
    gives("slice", "from: int, to?: int", "Self"),
    mostly("get", "index: int, default?: T", "Option<T>"),
    gives("map", "f: item => any", "Array"),
    gives("filter", "f: item => bool", "Self"),
    gives("find", "f: item => bool", "Option<T>"),
    gives("any", "f: item => bool", "bool"),
    gives("all", "f: item => bool", "bool"),
    gives("reduce", "f: (sum, item) => any, start: any", "any"),
    mostly("append", "item: T", "Self"),
    mostly("push", "item: T", "Self"),
    gives("remove", "index: int", "Self"),
];

const MAPS: &[Signature] = &[
    gives("length", "", "int"),
    gives("len", "", "int"),
    gives("is_empty", "", "bool"),
    gives("keys", "", "Array<String>"),
    gives("values", "", "Array<T>"),
    gives("entries", "", "Array<Array>"),
    mostly("get", "key: String, default?: any", "Option<T>"),
    gives("contains", "key: any", "bool"),
    mostly("remove", "key: String", "Self"),
    mostly("merge", "other: Map", "Self"),
];

const BYTES: &[Signature] = &[
    gives("length", "", "int"),
    gives("len", "", "int"),
    gives("is_empty", "", "bool"),
    gives("base64", "", "String"),
];

const NUMBERS: &[Signature] = &[
    gives("abs", "", "Self"),
    mostly("round", "digits?: int", "int"),
    gives("floor", "", "int"),
    gives("ceil", "", "int"),
    gives("sqrt", "", "float"),
    gives("to_int", "", "int"),
    gives("to_float", "", "float"),
    gives("to_string", "", "String"),
    gives("is_nan", "", "bool"),
    mostly("pow", "exponent: int | float", "Self"),
    mostly("min", "...others", "Self"),
    mostly("max", "...others", "Self"),
];

const DURATIONS: &[Signature] = &[
    gives("milliseconds", "", "int"),
    gives("seconds", "", "int"),
    gives("minutes", "", "int"),
    gives("hours", "", "int"),
    gives("days", "", "int"),
    gives("as_seconds", "", "float"),
    gives("to_string", "", "String"),
];

const SIZES: &[Signature] = &[
    gives("bytes", "", "int"),
    gives("kilobytes", "", "int"),
    gives("megabytes", "", "int"),
    gives("gigabytes", "", "int"),
    gives("to_string", "", "String"),
];

const TIMES: &[Signature] = &[
    gives("year", "", "int"),
    gives("month", "", "int"),
    gives("day", "", "int"),
    gives("hour", "", "int"),
    gives("minute", "", "int"),
    gives("second", "", "int"),
    gives("weekday", "", "int"),
    gives("unix", "", "int"),
    gives("unix_ms", "", "int"),
    gives("to_string", "", "String"),
    mostly("plus", "d: duration", "time"),
    mostly("minus", "d: duration | time", "time"),
    mostly("since", "t: time", "duration"),
];

const OPTIONS: &[Signature] = &[
    gives("is_some", "", "bool"),
    gives("is_none", "", "bool"),
    gives("unwrap", "", "T"),
    mostly("unwrap_or", "default: T", "T"),
];

const RESULTS: &[Signature] = &[
    gives("is_ok", "", "bool"),
    gives("is_err", "", "bool"),
    gives("unwrap", "", "T"),
    mostly("unwrap_or", "default: T", "T"),
    gives("error", "", "any"),
];

const ERRORS: &[Signature] = &[
    gives("kind", "", "String"),
    gives("message", "", "String"),
    mostly("operation", "", "String"),
    gives("retryable", "", "bool"),
];

const OTHERS: &[Signature] = &[gives("to_string", "", "String")];

/// The kinds of values that have methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Receiver {
    String,
    Array,
    Map,
    Bytes,
    Number,
    Duration,
    Size,
    Time,
    Option,
    Result,
    Error,
    Other,
}

impl Receiver {
    /// Every kind.
    pub const ALL: [Receiver; 12] = [
        Receiver::String,
        Receiver::Array,
        Receiver::Map,
        Receiver::Bytes,
        Receiver::Number,
        Receiver::Duration,
        Receiver::Size,
        Receiver::Time,
        Receiver::Option,
        Receiver::Result,
        Receiver::Error,
        Receiver::Other,
    ];

    /// The methods of values of this kind.
    pub fn methods(self) -> &'static [Signature] {
        match self {
            Receiver::String => STRINGS,
            Receiver::Array => ARRAYS,
            Receiver::Map => MAPS,
            Receiver::Bytes => BYTES,
            Receiver::Number => NUMBERS,
            Receiver::Duration => DURATIONS,
            Receiver::Size => SIZES,
            Receiver::Time => TIMES,
            Receiver::Option => OPTIONS,
            Receiver::Result => RESULTS,
            Receiver::Error => ERRORS,
            Receiver::Other => OTHERS,
        }
    }
}

/// The signature of a builtin or a host call.
pub fn function(name: &str) -> Option<&'static Signature> {
    FUNCTIONS.iter().find(|row| row.name == name)
}

/// The signature of a method.
pub fn method(receiver: Receiver, name: &str) -> Option<&'static Signature> {
    receiver.methods().iter().find(|row| row.name == name)
}

/// The type that a row writes as its result.
pub(crate) fn result(row: &'static Signature) -> &'static Type {
    static TYPES: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(|| {
        let methods = Receiver::ALL.into_iter().flat_map(Receiver::methods);
        let rows = FUNCTIONS.iter().chain(methods);
        let mut types = HashMap::new();
        for row in rows {
            types.entry(row.result).or_insert_with(|| {
                let mut program = parse(&format!("type Result = {}", row.result)).program;
                program.types.swap_remove(0).ty
            });
        }
        types
    });
    &TYPES[row.result]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{BUILTINS, host_calls};

    #[test]
    fn every_function_has_one_row() {
        let rows: Vec<&str> = FUNCTIONS.iter().map(|row| row.name).collect();
        let known: Vec<&str> = BUILTINS.iter().copied().chain(host_calls()).collect();
        assert_eq!(rows.len(), known.len());
        for name in known {
            assert!(function(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_result_is_a_type() {
        let methods = Receiver::ALL.into_iter().flat_map(Receiver::methods);
        for row in FUNCTIONS.iter().chain(methods) {
            let parsed = parse(&format!("type Result = {}", row.result));
            assert_eq!(parsed.diagnostics, [], "{row}");
            let _ = result(row);
        }
    }
}
