//! Reading manifests: TOML, with every fault in its place.
//!
//! Each table is read against the list of its keys, so that a key which nobody knows is an error
//! with the nearest one that somebody does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::template::{Body, Document, Group, Template};
use super::{Action, Kind, Output, Parameter, Risk, Tool};
use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::hir::Span;
use crate::operations::{self, AMBIENT, BUILTINS, EffectClass, NAMESPACES};
use crate::syntax::KEYWORDS;
use crate::syntax::literal::{parse_duration, short};
use crate::url::Url;
use crate::value::Value;

/// The largest manifest, in bytes.
pub const LARGEST_MANIFEST: usize = 64 * 1024;

/// What stands around a pattern, so that it matches the whole of a text.
pub(super) const PATTERN_OPEN: &str = r"\A(?:";
pub(super) const PATTERN_CLOSE: &str = r")\z";
pub(super) const PATTERN_CLOSE_COMMENT: &str = "\n)\\z";

const LONGEST_NAME: usize = 64;
const MOST_PARAMETERS: usize = 32;
const MOST_ARGUMENTS: usize = 64;
/// Characters of a text where its parameter does not say, and the most that it can say.
const USUAL_LENGTH: i64 = 4096;
const LONGEST_TEXT: i64 = 1 << 20;
/// Elements of an array, likewise.
const USUAL_ITEMS: i64 = 64;
const MOST_ITEMS: i64 = 1024;
/// How long a call takes where its manifest does not say, and the most that it can say.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// Bytes of output, likewise.
const USUAL_OUTPUT: i64 = 1 << 20;
const LARGEST_OUTPUT: i64 = 16 << 20;
/// The size of a compiled pattern.
const LARGEST_PATTERN: usize = 1 << 20;

/// A manifest that was read.
#[derive(Debug)]
pub struct Reading {
    /// What is wrong with it, in its order.
    pub diagnostics: Vec<Diagnostic>,
    /// The tool, if nothing is.
    pub tool: Option<Tool>,
}

/// Reads a manifest.
pub fn read(source: &str) -> Reading {
    let mut reader = Reader { found: Vec::new() };
    let tool = if source.len() > LARGEST_MANIFEST {
        let message = format!("a manifest has at most {LARGEST_MANIFEST} bytes");
        reader.error("E0401", message, 0..0, "too long");
        None
    } else {
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in errors.iter().take(20) {
            let span = error.span().unwrap_or(0..0);
            reader.error("E0401", error.message().to_owned(), span, "");
        }
        match errors.is_empty() {
            true => reader.tool(document.get_ref(), source),
            false => None,
        }
    };
    let Reader { found: mut diagnostics } = reader;
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    let faulty = diagnostics.iter().any(|found| found.severity == Severity::Error);
    Reading { diagnostics, tool: tool.filter(|_| !faulty) }
}

/// A table of the manifest.
#[derive(Clone, Copy)]
struct Section<'a> {
    table: &'a DeTable<'a>,
    /// Where it is, for what is missing in it.
    start: usize,
    end: usize,
    /// What it is, for people.
    what: &'static str,
}

type Item<'a> = &'a Spanned<DeValue<'a>>;

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<Item<'a>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn span(&self) -> Span {
        self.start..self.end
    }
}

/// The keys of a tool, and those of its tables.
const TOOL: &[&str] = &[
    "name",
    "description",
    "effect",
    "risk",
    "capability",
    "output",
    "timeout",
    "max_output",
    "success",
    "parameters",
    "exec",
    "http",
    "errors",
];
const PARAMETER: &[&str] = &[
    "name",
    "type",
    "description",
    "required",
    "default",
    "allowed",
    "min",
    "max",
    "min_length",
    "max_length",
    "pattern",
    "min_items",
    "max_items",
    "allow_leading_dash",
];
const EXEC: &[&str] = &["command", "stdin"];
const HTTP: &[&str] = &["method", "url", "query", "headers", "body", "json"];

/// Headers that are the connection's own.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a text can be the name of a header that a program or a manifest sets.
///
/// # Errors
///
/// Why it can't be, in words.
pub fn header_name(name: &str) -> Result<(), &'static str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err("is no name of a header");
    }
    match RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        true => Err("is a header that the connection sets itself"),
        false => Ok(()),
    }
}

struct Reader {
    found: Vec<Diagnostic>,
}

impl Reader {
    fn push(&mut self, diagnostic: Diagnostic) {
        // No more than anyone could read.
        if self.found.len() < 200 {
            self.found.push(diagnostic);
        }
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span, label: &str) {
        self.push(Diagnostic::error(code, message, span).label(label));
    }

    // Values of a section.

    /// Says of each key that nobody knows that it is one.
    fn keys(&mut self, section: Section<'_>, known: &'static [&'static str]) {
        for (key, _) in section.table {
            if !known.contains(&key.get_ref().as_ref()) {
                let message = format!("{} has no key `{}`", section.what, short(key.get_ref()));
                let diagnostic = Diagnostic::error("E0402", message, key.span())
                    .label("not known here")
                    .did_you_mean(nearest(key.get_ref(), known.iter().copied()));
                self.push(diagnostic);
            }
        }
    }

    fn missing(&mut self, section: Section<'_>, key: &str) {
        let message = format!("{} needs a `{key}`", section.what);
        self.error("E0403", message, section.span(), "missing here");
    }

    fn wrong(&mut self, key: &str, wanted: &str, item: Item<'_>) {
        let message = format!("`{key}` is {wanted}");
        self.error("E0404", message, item.span(), "not this");
    }

    fn text<'a>(&mut self, section: Section<'a>, key: &str) -> Option<(&'a str, Span)> {
        let item = section.get(key)?;
        match item.get_ref().as_str() {
            Some(text) => Some((text, item.span())),
            None => {
                self.wrong(key, "a text", item);
                None
            }
        }
    }

    fn needed<'a>(&mut self, section: Section<'a>, key: &str) -> Option<(&'a str, Span)> {
        if section.get(key).is_none() {
            self.missing(section, key);
        }
        self.text(section, key)
    }

    fn flag(&mut self, section: Section<'_>, key: &str) -> Option<bool> {
        let item = section.get(key)?;
        let flag = item.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, "`true` or `false`", item);
        }
        flag
    }

    /// A whole number within bounds, or what it usually is.
    fn number(&mut self, section: Section<'_>, key: &str, usual: i64, bounds: (i64, i64)) -> usize {
        let number = match section.get(key) {
            None => usual,
            Some(item) => {
                let number = integer(item.get_ref()).filter(|n| (bounds.0..=bounds.1).contains(n));
                if number.is_none() {
                    let wanted = format!("a whole number from {} to {}", bounds.0, bounds.1);
                    self.wrong(key, &wanted, item);
                }
                number.unwrap_or(usual)
            }
        };
        usize::try_from(number).unwrap_or_default()
    }

    fn section<'a>(
        &mut self,
        section: Section<'a>,
        key: &str,
        what: &'static str,
    ) -> Option<Section<'a>> {
        let item = section.get(key)?;
        let span = item.span();
        match item.get_ref().as_table() {
            Some(table) => Some(Section { table, start: span.start, end: span.end, what }),
            None => {
                self.wrong(key, "a table", item);
                None
            }
        }
    }

    fn array<'a>(&mut self, section: Section<'a>, key: &str) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let item = section.get(key)?;
        let array = item.get_ref().as_array();
        if array.is_none() {
            self.wrong(key, "an array", item);
        }
        array.map(|array| &array[..])
    }

    /// One of some words.
    fn word<T: Copy>(
        &mut self,
        section: Section<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<(T, Span)> {
        let (text, span) = self.text(section, key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some((*value, span));
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`{key}` is one of {}", known.join(", "));
        let meant = nearest(text, words.iter().map(|(word, _)| *word));
        let meant = meant.map(|meant| format!("\"{meant}\""));
        let diagnostic = Diagnostic::error("E0404", message, span).label("none of them");
        self.push(diagnostic.did_you_mean(meant.as_deref()));
        None
    }

    // The tool.

    fn tool(&mut self, table: &DeTable<'_>, source: &str) -> Option<Tool> {
        let first = source.find('\n').unwrap_or(source.len());
        let root = Section { table, start: 0, end: first, what: "a tool" };
        self.keys(root, TOOL);
        let name = self.needed(root, "name");
        if let Some((name, span)) = &name {
            self.name(name, span.clone());
        }
        let description = self.needed(root, "description");
        let risk = [
            ("low", Risk::Low),
            ("medium", Risk::Medium),
            ("high", Risk::High),
            ("critical", Risk::Critical),
        ];
        if root.get("risk").is_none() {
            self.missing(root, "risk");
        }
        let risk = self.word(root, "risk", &risk);
        let class = self.class(root);
        let capability = self.text(root, "capability").map(|(name, _)| name.to_owned());
        let output = [("text", Output::Text), ("lines", Output::Lines), ("json", Output::Json)];
        let output = self.word(root, "output", &output).map_or(Output::Text, |(output, _)| output);
        let timeout = self.timeout(root);
        let max_output = self.number(root, "max_output", USUAL_OUTPUT, (1, LARGEST_OUTPUT));
        let parameters = self.parameters(root);
        let action = self.action(root, &parameters);
        let outcomes = match root.get("http").is_some() {
            true => Outcomes { what: "a status, from 100 to 599", all: 100..=599, good: 200..=299 },
            false => Outcomes { what: "an exit code, from 0 to 255", all: 0..=255, good: 0..=0 },
        };
        let success = self.success(root, &outcomes);
        let errors = self.errors(root, &outcomes, &success);
        let ((name, name_span), (description, _)) = (name?, description?);
        Some(Tool {
            name: name.to_owned(),
            description: description.trim().to_owned(),
            parameters,
            class,
            risk: risk?.0,
            capability,
            output,
            timeout,
            max_output,
            digest: hex(&Sha256::digest(source.as_bytes())),
            success,
            errors,
            action: action?,
            name_span,
        })
    }

    fn name(&mut self, name: &str, span: Span) {
        if !is_name(name) {
            let message = "a tool's name has letters, digits and `_`, begins with no digit, and has \
                           at most 64 characters";
            self.error("E0404", message, span, "not this");
            return;
        }
        let meaning = match name {
            _ if operations::is_host_call(name) => "a host call",
            _ if BUILTINS.contains(&name) => "a builtin",
            _ if NAMESPACES.contains(&name) => "a name of host calls",
            _ if AMBIENT.contains(&name) => "a name that the runtime fills",
            _ if KEYWORDS.contains(&name) => "a word of the language",
            // What a policy means by the name has to be the tool.
            _ if !operations::meant_by(name).contains(&format!("tool.call:{name}")) => {
                "a name that means something else in a policy"
            }
            _ => return,
        };
        let message = format!("`{name}` is {meaning}, and can't be a tool's");
        self.error("E0405", message, span, "taken");
    }

    fn class(&mut self, root: Section<'_>) -> EffectClass {
        let words = [
            ("read", EffectClass::Read),
            ("idempotent", EffectClass::Idempotent),
            ("checkable", EffectClass::Checkable),
            ("non_repeatable", EffectClass::NonRepeatable),
        ];
        match self.word(root, "effect", &words) {
            Some((EffectClass::Checkable, span)) => {
                let message = "whether a call of a tool has happened is looked at by nobody yet";
                let diagnostic = Diagnostic::warning("W0401", message, span);
                self.push(diagnostic.label("treated as `non_repeatable`"));
                EffectClass::NonRepeatable
            }
            Some((class, _)) => class,
            None => EffectClass::NonRepeatable,
        }
    }

    fn timeout(&mut self, root: Section<'_>) -> Duration {
        let Some((text, _)) = self.text(root, "timeout") else { return USUAL_TIMEOUT };
        let within = |timeout: &Duration| !timeout.is_zero() && *timeout <= LONGEST_TIMEOUT;
        match (parse_duration(text).filter(within), root.get("timeout")) {
            (Some(timeout), _) => timeout,
            (None, item) => {
                if let Some(item) = item {
                    self.wrong("timeout", "a duration of at most an hour, such as \"10s\"", item);
                }
                USUAL_TIMEOUT
            }
        }
    }

    fn success(&mut self, root: Section<'_>, outcomes: &Outcomes) -> Vec<i64> {
        let mut codes = Vec::new();
        for item in self.array(root, "success").unwrap_or_default() {
            match integer(item.get_ref()).filter(|code| outcomes.all.contains(code)) {
                Some(code) => codes.push(code),
                None => {
                    self.wrong("success", &format!("an array, each of it {}", outcomes.what), item);
                }
            }
        }
        codes
    }

    fn errors(
        &mut self,
        root: Section<'_>,
        outcomes: &Outcomes,
        success: &[i64],
    ) -> BTreeMap<i64, String> {
        let mut kinds = BTreeMap::new();
        let Some(section) = self.section(root, "errors", "`errors`") else { return kinds };
        for (key, item) in section.table {
            let code = key.get_ref().parse::<i64>().ok().filter(|code| outcomes.all.contains(code));
            let Some(code) = code else {
                let message = format!("a key of `errors` is {}", outcomes.what);
                self.error("E0404", message, key.span(), "not this");
                continue;
            };
            let good = match success {
                [] => outcomes.good.contains(&code),
                codes => codes.contains(&code),
            };
            if good {
                let message = format!("{code} is no error: it is a success");
                self.error("E0404", message, key.span(), "never happens");
                continue;
            }
            match item.get_ref().as_str().filter(|kind| is_name(kind)) {
                Some(kind) => {
                    kinds.insert(code, kind.to_owned());
                }
                None => self.wrong(key.get_ref(), "the name of a kind of error", item),
            }
        }
        kinds
    }

    // Parameters.

    fn parameters(&mut self, root: Section<'_>) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut optional = false;
        for item in self.array(root, "parameters").unwrap_or_default() {
            let span = item.span();
            let Some(table) = item.get_ref().as_table() else {
                self.wrong("parameters", "an array of tables (`[[parameters]]`)", item);
                continue;
            };
            if parameters.len() == MOST_PARAMETERS {
                let message = format!("a tool has at most {MOST_PARAMETERS} parameters");
                self.error("E0404", message, span, "one too many");
                break;
            }
            let section = Section { table, start: span.start, end: span.end, what: "a parameter" };
            let Some(parameter) = self.parameter(section) else { continue };
            let name = section.get("name").map_or(span.clone(), Spanned::span);
            if parameters.iter().any(|earlier| earlier.name == parameter.name) {
                let message = format!("there are two parameters `{}`", parameter.name);
                self.error("E0406", message, name.clone(), "this is the second");
            }
            if parameter.required && optional {
                let message = "a parameter that is required stands before those that are not";
                self.error("E0404", message, name, "after one that may be left out");
            }
            optional |= !parameter.required;
            parameters.push(parameter);
        }
        parameters
    }

    fn parameter(&mut self, section: Section<'_>) -> Option<Parameter> {
        self.keys(section, PARAMETER);
        let name = self.needed(section, "name");
        if let Some((name, span)) = &name
            && !is_name(name)
        {
            let message = "a parameter's name has letters, digits and `_`, begins with no digit, \
                           and has at most 64 characters";
            self.error("E0404", message, span.clone(), "not this");
        }
        let types = [
            ("string", ("string", false)),
            ("int", ("int", false)),
            ("float", ("float", false)),
            ("bool", ("bool", false)),
            ("enum", ("enum", false)),
            ("array<string>", ("string", true)),
            ("array<int>", ("int", true)),
            ("array<float>", ("float", true)),
            ("array<bool>", ("bool", true)),
            ("array<enum>", ("enum", true)),
        ];
        if section.get("type").is_none() {
            self.missing(section, "type");
        }
        let ((word, is_array), type_span) = self.word(section, "type", &types)?;
        let kind = self.kind(section, word);
        let items = is_array.then(|| {
            let max = self.number(section, "max_items", USUAL_ITEMS, (1, MOST_ITEMS));
            let most = i64::try_from(max).unwrap_or(MOST_ITEMS);
            (self.number(section, "min_items", 0, (0, most)), max)
        });
        self.unfit_keys(section, word, is_array);
        let mut parameter = Parameter {
            name: name.map(|(name, _)| name.to_owned()).unwrap_or_default(),
            description: self
                .text(section, "description")
                .map(|(text, _)| text.trim().to_owned())
                .unwrap_or_default(),
            required: false,
            default: None,
            allowed: Vec::new(),
            kind,
            items: None,
            leading_dash: self.flag(section, "allow_leading_dash").unwrap_or_default(),
        };
        let mut allowed = Vec::new();
        for item in self.array(section, "allowed").unwrap_or_default().iter().take(MOST_ARGUMENTS) {
            allowed.extend(self.fitting(&parameter, "allowed", item));
        }
        if word == "enum" && allowed.is_empty() {
            let message = "an `enum` needs `allowed`, its values";
            self.error("E0403", message, type_span, "has no values");
        }
        parameter.allowed = allowed;
        parameter.items = items;
        if let Some(item) = section.get("default") {
            parameter.default = self.fitting(&parameter, "default", item);
        }
        let has_default = section.get("default").is_some();
        let required = self.flag(section, "required");
        if required == Some(true) && has_default {
            let message = "a parameter that is required has no use for a default";
            self.error("E0404", message, section.span(), "has both");
        }
        parameter.required = required.unwrap_or(!has_default);
        Some(parameter)
    }

    /// A value of the manifest that has to fit the parameter.
    fn fitting(&mut self, parameter: &Parameter, key: &str, item: Item<'_>) -> Option<Value> {
        let fit = match value(item.get_ref()) {
            Some(value) => parameter.fit(&value).map_err(|(_, words)| words),
            None => Err(parameter.type_name()),
        };
        match fit {
            Ok(value) => Some(value),
            Err(words) => {
                let message = format!("`{key}` does not fit the parameter, which takes {words}");
                self.error("E0404", message, item.span(), "does not fit");
                None
            }
        }
    }

    fn kind(&mut self, section: Section<'_>, word: &str) -> Kind {
        match word {
            "int" => {
                let mut bound = |key: &str, open: i64| {
                    let Some(item) = section.get(key) else { return open };
                    integer(item.get_ref()).unwrap_or_else(|| {
                        self.wrong(key, "a whole number", item);
                        open
                    })
                };
                let (min, max) = (bound("min", i64::MIN), bound("max", i64::MAX));
                self.in_order(section, min <= max);
                Kind::Int { min, max }
            }
            "float" => {
                let mut bound = |key: &str, open: f64| {
                    let Some(item) = section.get(key) else { return open };
                    match value(item.get_ref()) {
                        Some(Value::Float(bound)) if bound.is_finite() => bound,
                        #[expect(clippy::cast_precision_loss, reason = "an int stands for a float")]
                        Some(Value::Int(bound)) => bound as f64,
                        _ => {
                            self.wrong(key, "a number", item);
                            open
                        }
                    }
                };
                let (min, max) = (bound("min", f64::MIN), bound("max", f64::MAX));
                self.in_order(section, min <= max);
                Kind::Float { min, max }
            }
            "bool" => Kind::Bool,
            _ => {
                let max = self.number(section, "max_length", USUAL_LENGTH, (0, LONGEST_TEXT));
                let most = i64::try_from(max).unwrap_or(LONGEST_TEXT);
                let min = self.number(section, "min_length", 0, (0, most));
                Kind::Text { min, max, pattern: self.pattern(section) }
            }
        }
    }

    /// Says of bounds that nothing is between them.
    fn in_order(&mut self, section: Section<'_>, ordered: bool) {
        if let Some(item) = section.get("max").filter(|_| !ordered) {
            self.error("E0404", "`max` is less than `min`", item.span(), "nothing fits");
        }
    }

    fn pattern(&mut self, section: Section<'_>) -> Option<Regex> {
        let (text, span) = self.text(section, "pattern")?;
        let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build();
        // By itself first, so that no parenthesis in it can close the one around it.
        let whole = |close: &str| build(&format!("{PATTERN_OPEN}{text}{close}"));
        // A comment at its end, which `(?x)` allows, ends with its line.
        let built = build(text).and_then(|_| {
            whole(PATTERN_CLOSE).or_else(|error| whole(PATTERN_CLOSE_COMMENT).map_err(|_| error))
        });
        match built {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let words = error.to_string();
                let last = words.lines().last().unwrap_or_default().trim();
                let last = last.strip_prefix("error: ").unwrap_or(last);
                let message = format!("the pattern can't be used: {}", short(last));
                self.error("E0404", message, span, "no pattern");
                None
            }
        }
    }

    /// Says of limits that they are none for this type.
    fn unfit_keys(&mut self, section: Section<'_>, word: &str, is_array: bool) {
        let fits = |key: &str| match key {
            "min" | "max" => matches!(word, "int" | "float"),
            "min_length" | "max_length" | "pattern" => matches!(word, "string" | "enum"),
            "min_items" | "max_items" => is_array,
            "allow_leading_dash" => word != "bool",
            _ => true,
        };
        for (key, _) in section.table {
            if PARAMETER.contains(&key.get_ref().as_ref()) && !fits(key.get_ref()) {
                let message = format!("`{}` is no limit of this type", key.get_ref());
                self.error("E0404", message, key.span(), "limits nothing");
            }
        }
    }

    // What a call does.

    fn action(&mut self, root: Section<'_>, parameters: &[Parameter]) -> Option<Action> {
        let exec = self.section(root, "exec", "`exec`");
        let http = self.section(root, "http", "`http`");
        match (exec, http) {
            (Some(exec), None) => self.exec(exec, parameters),
            (None, Some(http)) => self.http(http, parameters),
            (None, None) => {
                if root.get("exec").is_none() && root.get("http").is_none() {
                    self.error(
                        "E0403",
                        "a tool needs `[exec]` or `[http]`",
                        root.span(),
                        "does nothing",
                    );
                }
                None
            }
            (Some(_), Some(http)) => {
                let message = "a tool has `[exec]` or `[http]`, not both";
                self.error("E0404", message, http.span(), "the second");
                None
            }
        }
    }

    fn template(
        &mut self,
        text: &str,
        span: Span,
        parameters: &[Parameter],
        arrays: Arrays,
    ) -> Option<Template> {
        match Template::parse(text, parameters) {
            Ok(template) => {
                let is_array = |parameter: &usize| parameters[*parameter].items.is_some();
                let array = template.uses().find(is_array);
                let spliced = arrays == Arrays::Spliced && template.lone().is_some();
                if let Some(array) = array.filter(|_| !spliced) {
                    let name = &parameters[array].name;
                    let message = match arrays {
                        Arrays::Spliced => format!("the array `{name}` stands alone or not at all"),
                        Arrays::Refused => format!("the array `{name}` can't stand here"),
                    };
                    self.error("E0407", message, span, "an array in a text");
                    return None;
                }
                Some(template)
            }
            Err((message, unknown)) => {
                let known = parameters.iter().map(|parameter| parameter.name.as_str());
                let meant = unknown.and_then(|name| nearest(name, known));
                let mut diagnostic =
                    Diagnostic::error("E0407", message, span).label("in this text");
                if let Some(meant) = meant {
                    diagnostic = diagnostic.note(format!("did you mean `{{{meant}}}`?"));
                }
                self.push(diagnostic);
                None
            }
        }
    }

    fn exec(&mut self, section: Section<'_>, parameters: &[Parameter]) -> Option<Action> {
        self.keys(section, EXEC);
        if section.get("command").is_none() {
            self.missing(section, "command");
        }
        let command = self.array(section, "command")?;
        if command.len() > MOST_ARGUMENTS {
            let message = format!("a command has at most {MOST_ARGUMENTS} elements");
            self.error("E0404", message, section.span(), "too many");
            return None;
        }
        let mut groups: Vec<Group> = Vec::new();
        for item in command {
            let lone = std::slice::from_ref(item);
            let parts = item.get_ref().as_array().map_or(lone, |array| &array[..]);
            let mut group = Group::new();
            for part in parts {
                let Some(text) = part.get_ref().as_str() else {
                    self.wrong("command", "an array of texts, and of arrays of texts", part);
                    continue;
                };
                if text.contains('\0') {
                    self.wrong("command", "an array of texts without NUL characters", part);
                }
                group.extend(self.template(text, part.span(), parameters, Arrays::Spliced));
            }
            groups.push(group);
        }
        let stdin = self
            .text(section, "stdin")
            .and_then(|(text, span)| self.template(text, span, parameters, Arrays::Refused));
        let program = match groups.first().map(Vec::as_slice) {
            Some([program]) => program.fixed().filter(|program| !program.is_empty()),
            _ => None,
        };
        let Some(program) = program else {
            let message = "`command` begins with the name of a program, which no argument changes";
            let span = command.first().map_or(section.span(), Spanned::span);
            self.error("E0407", message, span, "no fixed name");
            return None;
        };
        groups.remove(0);
        Some(Action::Exec { program, args: groups, stdin })
    }

    fn http(&mut self, section: Section<'_>, parameters: &[Parameter]) -> Option<Action> {
        self.keys(section, HTTP);
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(|name| (name, name));
        let method = match section.get("method") {
            None => "GET",
            Some(_) => self.word(section, "method", &methods).map_or("GET", |(name, _)| name),
        };
        let url = self.needed(section, "url");
        let query = self.entries(section, "query", "`query`", parameters, Arrays::Spliced);
        let headers = self.entries(section, "headers", "`headers`", parameters, Arrays::Refused);
        if let Some(table) = section.get("headers").and_then(|item| item.get_ref().as_table()) {
            let mut known = BTreeSet::new();
            for (name, item) in table {
                if let Err(words) = header_name(name.get_ref()) {
                    let message = format!("`{}` {words}", short(name.get_ref()));
                    self.error("E0404", message, name.span(), "can't be set");
                }
                if !known.insert(name.get_ref().to_ascii_lowercase()) {
                    let message = format!("there are two headers `{}`", short(name.get_ref()));
                    self.error("E0406", message, name.span(), "capitals make no difference");
                }
                let held =
                    item.get_ref().as_str().is_none_or(|text| text.bytes().all(is_of_header));
                if !held {
                    let message = format!(
                        "the header `{}` holds visible ASCII and spaces only",
                        short(name.get_ref())
                    );
                    self.error("E0404", message, item.span(), "holds something else");
                }
            }
        }
        let body = match (section.get("body"), section.get("json")) {
            (Some(_), Some(item)) => {
                self.error(
                    "E0404",
                    "a request has `body` or `json`, not both",
                    item.span(),
                    "the second",
                );
                None
            }
            (Some(_), None) => {
                let (text, span) = self.text(section, "body")?;
                Some(Body::Text(self.template(text, span, parameters, Arrays::Refused)?))
            }
            (None, Some(item)) => Some(Body::Json(self.document(item, parameters)?)),
            (None, None) => None,
        };
        let (url, span) = url?;
        let (origin, path) = self.url(url, span, parameters)?;
        Some(Action::Http { method: method.to_owned(), origin, path, query, headers, body })
    }

    /// The origin of a URL and the parts of its path.
    fn url(
        &mut self,
        text: &str,
        span: Span,
        parameters: &[Parameter],
    ) -> Option<(String, Vec<Template>)> {
        let start = text.find("://").map_or(0, |at| at + 3);
        let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
        let (origin, rest) = text.split_at(end);
        let parsed = match origin.contains(['{', '}']) {
            true => Err("no argument changes where it leads"),
            false => Url::parse(origin),
        };
        let origin = match parsed {
            Ok(url) => url.to_string().trim_end_matches('/').to_owned(),
            Err(words) => {
                self.error(
                    "E0407",
                    format!("the URL can't be used: {words}"),
                    span,
                    "no fixed host",
                );
                return None;
            }
        };
        if rest.contains(['?', '#']) {
            let message = "the URL ends with its path: what follows `?` is written under `query`";
            self.error("E0407", message, span, "has more than a path");
            return None;
        }
        let mut parts = Vec::new();
        for part in rest.split('/').skip(1) {
            let plain = part.to_ascii_lowercase().replace("%2e", ".");
            if matches!(plain.as_str(), "." | "..") {
                let message = "`.` and `..` lead elsewhere than the URL says";
                self.error("E0407", message, span, "in its path");
                return None;
            }
            parts.push(self.template(part, span.clone(), parameters, Arrays::Refused)?);
        }
        Some((origin, parts))
    }

    fn entries(
        &mut self,
        section: Section<'_>,
        key: &str,
        what: &'static str,
        parameters: &[Parameter],
        arrays: Arrays,
    ) -> Vec<(String, Template)> {
        let mut entries = Vec::new();
        let Some(section) = self.section(section, key, what) else { return entries };
        for (name, item) in section.table {
            let Some(text) = item.get_ref().as_str() else {
                self.wrong(name.get_ref(), "a text", item);
                continue;
            };
            let template = self.template(text, item.span(), parameters, arrays);
            entries.extend(template.map(|template| (name.get_ref().to_string(), template)));
        }
        entries
    }

    fn document(&mut self, item: Item<'_>, parameters: &[Parameter]) -> Option<Document> {
        Some(match item.get_ref() {
            DeValue::String(text) => {
                Document::Text(self.template(text, item.span(), parameters, Arrays::Spliced)?)
            }
            DeValue::Array(items) => Document::Array(
                items.iter().filter_map(|item| self.document(item, parameters)).collect(),
            ),
            DeValue::Table(table) => Document::Object(
                table
                    .iter()
                    .filter_map(|(key, item)| {
                        Some((key.get_ref().to_string(), self.document(item, parameters)?))
                    })
                    .collect(),
            ),
            other => match value(other).and_then(|value| crate::value::to_json(&value).ok()) {
                Some(value) => Document::Fixed(value),
                None => {
                    self.wrong("json", "a document without times of day", item);
                    return None;
                }
            },
        })
    }
}

/// What a call of a tool can end with.
struct Outcomes {
    /// One of it, in words.
    what: &'static str,
    all: RangeInclusive<i64>,
    /// Those that are no errors if nothing is said.
    good: RangeInclusive<i64>,
}

/// Whether a byte can stand in the value of a header.
pub(super) fn is_of_header(byte: u8) -> bool {
    byte == b'\t' || (b' '..=b'~').contains(&byte)
}

/// Where an array may stand in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrays {
    /// As all of it.
    Spliced,
    Refused,
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A value of TOML as one of the language.
fn value(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Integer(_) => Value::Int(integer(value)?),
        DeValue::Float(float) => Value::Float(float.as_str().parse().ok()?),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Array(items) => {
            let items: Option<Vec<Value>> =
                items.iter().map(|item| self::value(item.get_ref())).collect();
            Value::array(items?)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
