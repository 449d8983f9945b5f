//! What types, values, functions and methods are called in other languages.
//!
//! What other languages write otherwise, and not only call otherwise, is the parser's
//! (`syntax/parser/foreign.rs`).

use crate::diagnostic::Diagnostic;

/// What types are called elsewhere, in small letters, and here.
pub(crate) const TYPES: &[(&str, &str)] = &[
    ("str", "String"),
    ("text", "String"),
    ("char", "String"),
    ("integer", "int"),
    ("long", "int"),
    ("i32", "int"),
    ("i64", "int"),
    ("u32", "int"),
    ("u64", "int"),
    ("usize", "int"),
    ("number", "float"),
    ("double", "float"),
    ("decimal", "float"),
    ("f32", "float"),
    ("f64", "float"),
    ("boolean", "bool"),
    ("vec", "Array"),
    ("vector", "Array"),
    ("slice", "Array"),
    ("dict", "Map"),
    ("dictionary", "Map"),
    ("hashmap", "Map"),
    ("object", "Map"),
    ("timedelta", "duration"),
    ("interval", "duration"),
    ("date", "time"),
    ("datetime", "time"),
    ("timestamp", "time"),
    ("instant", "time"),
    ("dynamic", "any"),
    ("unknown", "any"),
    ("blob", "bytes"),
];

/// What values and modules are called elsewhere, and what is written or helps here.
pub(crate) const NAMES: &[(&str, Instead)] = &[
    ("True", Instead::Write("true")),
    ("TRUE", Instead::Write("true")),
    ("False", Instead::Write("false")),
    ("FALSE", Instead::Write("false")),
    ("nil", Instead::Write("null")),
    ("NULL", Instead::Write("null")),
    ("Null", Instead::Write("null")),
    ("none", Instead::Write("None")),
    ("undefined", Instead::Write("null")),
    ("NaN", Instead::Know("`x.is_nan()` asks a number whether it is one")),
    ("this", Instead::Know("functions take what they work on as a parameter")),
    ("self", Instead::Know("functions take what they work on as a parameter")),
    ("pass", Instead::Know("a block may be empty: `{ }`")),
    ("console.log", Instead::Write("print")),
    ("console.info", Instead::Write("print")),
    ("console.warn", Instead::Write("print")),
    ("console.error", Instead::Write("print")),
    ("console.debug", Instead::Write("print")),
    ("fmt.Println", Instead::Write("print")),
    (
        "fmt.Sprintf",
        Instead::Know("`format(\"{} of {}\", a, b)` fills each `{}` with the next value"),
    ),
    ("JSON.parse", Instead::Write("parse_json")),
    ("JSON.stringify", Instead::Write("to_json")),
    ("json.loads", Instead::Write("parse_json")),
    ("json.dumps", Instead::Write("to_json")),
    ("Math.max", Instead::Write("max")),
    ("Math.min", Instead::Write("min")),
    ("Math.abs", Instead::Write("abs")),
    ("Math.round", Instead::Write("round")),
    ("Math.floor", Instead::Write("floor")),
    ("Math.ceil", Instead::Write("ceil")),
    ("Math.random", Instead::Write("random")),
    ("Object.keys", Instead::Write("keys")),
    ("Object.values", Instead::Write("values")),
    ("Object.entries", Instead::Write("entries")),
    ("Date.now", Instead::Write("now")),
    ("datetime.now", Instead::Write("now")),
    ("time.sleep", Instead::Know("`sleep(5s)` waits for five seconds")),
    ("time.time", Instead::Write("now")),
    (
        "os.getenv",
        Instead::Know("`vault://path` is a secret, and parameters bring whatever else a run needs"),
    ),
    (
        "process.env",
        Instead::Know("`vault://path` is a secret, and parameters bring whatever else a run needs"),
    ),
];

/// What functions are called elsewhere that nobody would call a tool.
pub(crate) const CALLS: &[(&str, Instead)] = &[
    ("println", Instead::Write("print")),
    (
        "printf",
        Instead::Know("`print(format(\"{} of {}\", a, b))` prints a text with values in it"),
    ),
    ("puts", Instead::Write("print")),
    ("str", Instead::Know("`x.to_string()` gives the text of a value")),
    ("String", Instead::Know("`x.to_string()` gives the text of a value")),
    ("int", Instead::Know("`x.to_int()` makes an int of a text or a number")),
    ("parseInt", Instead::Know("`x.to_int()` makes an int of a text or a number")),
    ("float", Instead::Know("`x.to_float()` makes a float of a text or a number")),
    ("parseFloat", Instead::Know("`x.to_float()` makes a float of a text or a number")),
    ("type", Instead::Write("type_of")),
    ("isinstance", Instead::Know("`type_of(x) == \"string\"` asks for the type of a value")),
    ("enumerate", Instead::Know("`for i in range(0, len(xs))` counts, and `zip` pairs")),
    ("sorted", Instead::Write("sort")),
    ("reversed", Instead::Write("reverse")),
    ("any", Instead::Know("`xs.any(x => x > 1)` is a method of arrays")),
    ("all", Instead::Know("`xs.all(x => x > 1)` is a method of arrays")),
    ("map", Instead::Know("`xs.map(x => x + 1)` is a method of arrays")),
    ("filter", Instead::Know("`xs.filter(x => x > 1)` is a method of arrays")),
];

/// What methods are called elsewhere, and those here that may be meant.
pub(crate) const METHODS: &[(&str, &[&str])] = &[
    ("toUpperCase", &["upper"]),
    ("to_uppercase", &["upper"]),
    ("to_upper", &["upper"]),
    ("toLowerCase", &["lower"]),
    ("to_lowercase", &["lower"]),
    ("to_lower", &["lower"]),
    ("strip", &["trim"]),
    ("substring", &["slice"]),
    ("substr", &["slice"]),
    ("size", &["length"]),
    ("count", &["length"]),
    ("includes", &["contains"]),
    ("has", &["contains"]),
    ("add", &["push"]),
    ("forEach", &["map"]),
    ("each", &["map"]),
    ("some", &["any"]),
    ("every", &["all"]),
    ("fold", &["reduce"]),
    ("toString", &["to_string"]),
    ("str", &["to_string"]),
    ("getOrElse", &["unwrap_or"]),
    ("or_else", &["unwrap_or"]),
    ("isSome", &["is_some"]),
    ("parse", &["to_int"]),
];

/// What is done about something that only other languages have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Instead {
    /// This stands in its place.
    Write(&'static str),
    /// There is nothing that could stand in its place, and this helps.
    Know(&'static str),
}

impl Instead {
    pub(crate) fn of(table: &[(&str, Instead)], name: &str) -> Option<Instead> {
        table.iter().find(|(foreign, _)| *foreign == name).map(|(_, instead)| *instead)
    }

    pub(crate) fn tell(self, diagnostic: Diagnostic) -> Diagnostic {
        match self {
            Instead::Write(meant) => diagnostic.did_you_mean(Some(meant)),
            Instead::Know(note) => diagnostic.note(note),
        }
    }
}
