//! A run's input, fitted to an agent's parameters.
//!
//! # What holds
//!
//! - A written type is kept: what does not fit is refused, with the words for whoever gave it.
//! - What JSON can't say is read from text as the language reads it: durations (`30s`, ISO 8601, a
//!   number of milliseconds), sizes (`512MB`, a number of bytes), times (RFC 3339), bytes (base64).
//! - Nothing of an input is dropped in silence.

use base64::Engine as _;
use jiff::{Span, Timestamp};
use serde_json::Value as Json;
use std::time::Duration;

use crate::diagnostic::nearest;
use crate::hir::{Agent, Param, Program, Type, TypeKind};
use crate::syntax::literal::{parse_duration, parse_size, short};
use crate::types::{Types, is_option};
use crate::value::{Map, Value, from_json};

/// How deeply types are followed; values are bounded before that.
const MAX_DEPTH: u32 = 300;

/// A run's input, fitted to an agent's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The parameters in order, each with its value.
    pub values: Vec<(String, Value)>,
    /// What of the input no parameter takes, in words.
    pub unused: Option<String>,
}

/// Fits a run's input to the parameters of an agent of the program.
///
/// No input (`null`) is `{}`. A key gives the parameter of its name. An agent with exactly one
/// parameter takes the whole input when that is no object with its key and fits its type. A
/// parameter that is missing is `None` if its type is an `Option`.
///
/// # Errors
///
/// The words for whoever gave the input, when a parameter is missing or its type is another.
pub fn bind_input(program: &Program, agent: &Agent, input: &Json) -> Result<Bound, String> {
    let types = Types::of(program);
    let empty = serde_json::Map::new();
    let object = match input {
        Json::Null => Some(&empty),
        Json::Object(object) => Some(object),
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => None,
    };
    if let [param] = agent.params.as_slice()
        && let Some(value) = types.whole(agent, param, input, object)?
    {
        return Ok(Bound { values: vec![(param.name.node.clone(), value)], unused: None });
    }
    let Some(object) = object else {
        return match agent.params.len() {
            0 => Ok(Bound {
                values: Vec::new(),
                unused: Some(format!("the agent has no parameters, and was given {}", kind(input))),
            }),
            many => Err(format!(
                "agent `{}` has {many} parameters: the input must be an object with their names",
                agent.name.node
            )),
        };
    };
    let mut values = Vec::with_capacity(agent.params.len());
    for param in &agent.params {
        let name = &param.name.node;
        let value = match object.get(name) {
            Some(given) => types.param(agent, param, given)?,
            None if types.is_optional(param.ty.as_ref()) => Value::None,
            None => return Err(missing(agent, name, object)),
        };
        values.push((name.clone(), value));
    }
    let taken = |key: &&String| agent.params.iter().any(|param| param.name.node == **key);
    let unused: Vec<String> =
        object.keys().filter(|key| !taken(key)).map(|key| short(key)).collect();
    let unused = (!unused.is_empty())
        .then(|| format!("the input has keys that no parameter takes: {}", unused.join(", ")));
    Ok(Bound { values, unused })
}

fn missing(agent: &Agent, name: &str, object: &serde_json::Map<String, Json>) -> String {
    let hint = nearest(name, object.keys().map(String::as_str))
        .map(|near| format!("; the input has `{}`", short(near)))
        .unwrap_or_default();
    format!(
        "agent `{}` needs the parameter `{name}`, which the input does not give{hint}",
        agent.name.node
    )
}

/// Something in an input that is not of its type.
struct Mismatch {
    /// Where in the parameter: `.items[2]`.
    path: String,
    /// What would fit.
    expected: String,
    /// What came.
    came: String,
}

impl Mismatch {
    fn new(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self { path: String::new(), expected: expected.into(), came: came.into() }
    }

    fn within(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }

    fn words(&self, agent: &Agent, param: &Param) -> String {
        format!(
            "agent `{}` takes {} as `{}{}`, and the input gives {}",
            agent.name.node, self.expected, param.name.node, self.path, self.came
        )
    }
}

impl Types<'_> {
    /// The value of an agent's only parameter, if it takes the whole input.
    fn whole(
        &self,
        agent: &Agent,
        param: &Param,
        input: &Json,
        object: Option<&serde_json::Map<String, Json>>,
    ) -> Result<Option<Value>, String> {
        let Some(object) = object else { return self.param(agent, param, input).map(Some) };
        let name = &param.name.node;
        let optional = self.is_optional(param.ty.as_ref());
        if object.contains_key(name) || (object.is_empty() && optional) {
            return Ok(None);
        }
        match self.fit(param.ty.as_ref(), &Json::Object(object.clone()), MAX_DEPTH) {
            Ok(value) => Ok(Some(value)),
            // What is said of a part means that the whole was meant.
            Err(mismatch)
                if !mismatch.path.is_empty()
                    && !optional
                    && nearest(name, object.keys().map(String::as_str)).is_none() =>
            {
                Err(mismatch.words(agent, param))
            }
            Err(_) => Ok(None),
        }
    }

    fn param(&self, agent: &Agent, param: &Param, given: &Json) -> Result<Value, String> {
        self.fit(param.ty.as_ref(), given, MAX_DEPTH)
            .map_err(|mismatch| mismatch.words(agent, param))
    }

    fn fit(&self, ty: Option<&Type>, json: &Json, depth: u32) -> Result<Value, Mismatch> {
        let any = || from_json(json).map_err(|error| Mismatch::new("a value", &*error.message));
        let Some(ty) = ty.and_then(|ty| self.resolve(ty)) else { return any() };
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Mismatch::new("a value that is not nested so deeply", kind(json)));
        };
        let (name, arguments) = match &ty.kind {
            TypeKind::Named(name, arguments) => (name.as_str(), arguments.as_slice()),
            TypeKind::Record(fields) => {
                let Json::Object(object) = json else {
                    return Err(Mismatch::new("a record", kind(json)));
                };
                let mut map = Map::new();
                for (key, value) in object {
                    let ty = fields.iter().find(|(name, _)| name.node == *key).map(|(_, ty)| ty);
                    let value = self
                        .fit(ty, value, depth)
                        .map_err(|mismatch| mismatch.within(&format!(".{}", short(key))))?;
                    map.insert(key.as_str(), value);
                }
                for (name, ty) in fields.iter().filter(|(name, _)| !object.contains_key(&name.node))
                {
                    if !self.is_optional(Some(ty)) {
                        let mismatch = Mismatch::new(expected(self.resolve(ty)), "nothing");
                        return Err(mismatch.within(&format!(".{}", name.node)));
                    }
                    map.insert(name.node.as_str(), Value::None);
                }
                return Ok(Value::from(map));
            }
        };
        let wrong = || Mismatch::new(expected(Some(ty)), kind(json));
        let inner = arguments.first();
        Ok(match (name, json) {
            (name, Json::Null) if is_option(name) => Value::None,
            (name, json) if is_option(name) => match self.fit(inner, json, depth)? {
                value @ (Value::Some(_) | Value::None) => value,
                value => Value::some(value),
            },
            ("Array" | "List", Json::Array(items)) => {
                let fitted = items.iter().enumerate().map(|(at, item)| {
                    self.fit(inner, item, depth)
                        .map_err(|mismatch| mismatch.within(&format!("[{at}]")))
                });
                Value::array(fitted.collect::<Result<Vec<_>, _>>()?)
            }
            ("Map", Json::Object(object)) => {
                let mut map = Map::new();
                for (key, value) in object {
                    let value = self
                        .fit(arguments.get(1), value, depth)
                        .map_err(|mismatch| mismatch.within(&format!(".{}", short(key))))?;
                    map.insert(key.as_str(), value);
                }
                Value::from(map)
            }
            ("String", Json::String(text)) => Value::from(text.as_str()),
            ("bool", Json::Bool(value)) => Value::Bool(*value),
            ("int", Json::Number(number)) => Value::Int(number.as_i64().ok_or_else(wrong)?),
            ("float", Json::Number(number)) => Value::Float(number.as_f64().ok_or_else(wrong)?),
            ("duration", Json::Number(number)) => {
                Value::Duration(Duration::from_millis(number.as_u64().ok_or_else(wrong)?))
            }
            ("duration", Json::String(text)) => Value::Duration(duration(text).ok_or_else(wrong)?),
            ("size", Json::Number(number)) => Value::Size(number.as_u64().ok_or_else(wrong)?),
            ("size", Json::String(text)) => Value::Size(parse_size(text).ok_or_else(wrong)?),
            ("time", Json::String(text)) => {
                let time: Timestamp = text.parse().map_err(|_| wrong())?;
                Value::Time(i64::try_from(time.as_nanosecond()).map_err(|_| wrong())?)
            }
            ("bytes", Json::String(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                Value::Bytes(bytes.map_err(|_| wrong())?.into())
            }
            (
                "Array" | "List" | "Map" | "String" | "bool" | "int" | "float" | "duration"
                | "size" | "time" | "bytes",
                _,
            ) => return Err(wrong()),
            // `any`, `Result` and what nobody defined.
            _ => any()?,
        })
    }
}

/// A duration as the language reads it, or in ISO 8601, in which results show it.
fn duration(text: &str) -> Option<Duration> {
    if !text.starts_with('P') {
        return parse_duration(text);
    }
    const DAY: i128 = 86_400_000_000_000;
    let span: Span = text.parse().ok()?;
    // As elsewhere in the language, a month has 30 days and a year 365.
    let days = i128::from(span.get_years()) * 365
        + i128::from(span.get_months()) * 30
        + i128::from(span.get_weeks()) * 7
        + i128::from(span.get_days());
    let seconds = i128::from(span.get_hours()) * 3_600
        + i128::from(span.get_minutes()) * 60
        + i128::from(span.get_seconds());
    let fraction = i128::from(span.get_milliseconds()) * 1_000_000
        + i128::from(span.get_microseconds()) * 1_000
        + i128::from(span.get_nanoseconds());
    let nanoseconds = u128::try_from(days * DAY + seconds * 1_000_000_000 + fraction).ok()?;
    let whole = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanoseconds % 1_000_000_000).ok()?;
    Some(Duration::new(whole, rest))
}

/// What would fit, for people.
fn expected(ty: Option<&Type>) -> String {
    let name = match ty.map(|ty| &ty.kind) {
        Some(TypeKind::Named(name, _)) => name.as_str(),
        Some(TypeKind::Record(_)) => return "a record".to_owned(),
        None => return "a value".to_owned(),
    };
    match name {
        "String" => "a string",
        "int" => "an int",
        "float" => "a number",
        "bool" => "a bool",
        "duration" => "a duration (such as \"30s\" or \"PT30S\", or a number of milliseconds)",
        "size" => "a size (such as \"512MB\", or a number of bytes)",
        "time" => "a time (such as \"2030-01-31T08:00:00Z\")",
        "bytes" => "bytes (as base64)",
        "Array" | "List" => "an array",
        "Map" => "an object",
        other => return format!("a value of type `{}`", short(other)),
    }
    .to_owned()
}

/// What came, for people.
fn kind(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the string \"{}\"", short(text)),
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    }
}
