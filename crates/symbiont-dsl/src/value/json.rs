//! Values as JSON, both ways.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Array, ErrorValue, MAX_DEPTH, Map, REDACTED, Value, duration_text, time_text};

/// What is done about values that JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// They are errors.
    Data,
    /// They are shown as well as can be.
    Show,
}

/// Why a value could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// The text would be longer than allowed.
    TooLong,
    /// A number that is none.
    NotANumber,
    /// A function.
    Function,
}

impl Unwritable {
    /// The error for the program.
    pub(crate) fn error(self, limit: usize) -> ErrorValue {
        match self {
            Unwritable::TooLong => {
                ErrorValue::new("LimitExceeded", format!("JSON of more than {limit} bytes"))
            }
            Unwritable::NotANumber => ErrorValue::new(
                "ArithmeticError",
                "NaN and infinity cannot be written as JSON; check the number first",
            ),
            Unwritable::Function => {
                ErrorValue::new("TypeError", "a function cannot be written as JSON")
            }
        }
    }
}

/// How many bytes a value takes as JSON, if that is not more than `limit`.
pub fn json_length(value: &Value, limit: u64) -> Result<u64, ErrorValue> {
    let mut counter = Counter(0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    write(value, &mut counter, limit, Strictness::Data).map_err(|why| why.error(limit))?;
    Ok(counter.0 as u64)
}

/// A value as compact JSON text of at most `limit` bytes, keys in their order.
pub fn to_json_text(value: &Value, limit: u64) -> Result<String, ErrorValue> {
    let mut text = String::new();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    write(value, &mut text, limit, Strictness::Data).map_err(|why| why.error(limit))?;
    Ok(text)
}

/// A value as JSON, for those who need it as a tree. It is bounded by 64 MiB of text.
pub fn to_json(value: &Value) -> Result<serde_json::Value, ErrorValue> {
    json_length(value, 64 << 20)?;
    tree(value)
}

fn tree(value: &Value) -> Result<serde_json::Value, ErrorValue> {
    Ok(match value {
        Value::Null | Value::None => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Size(value) => (*value).into(),
        Value::Float(value) => serde_json::Number::from_f64(*value)
            .ok_or_else(|| Unwritable::NotANumber.error(0))?
            .into(),
        Value::Some(inner) | Value::Ok(inner) => tree(inner)?,
        Value::Array(items) => items.iter().map(tree).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Map(entries) => {
            let mut map = serde_json::Map::new();
            for (key, value) in entries.iter() {
                map.insert(key.to_string(), tree(value)?);
            }
            map.into()
        }
        Value::Range(from, to) => (*from..*to).collect::<Vec<_>>().into(),
        Value::Err(inner) => {
            serde_json::Value::Object([("error".to_owned(), tree(inner)?)].into_iter().collect())
        }
        Value::Error(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Time(_)
        | Value::Function(_)
        | Value::Any
        | Value::Secret(_)
        | Value::Memory(_) => {
            let text = to_json_text(value, 64 << 20)?;
            serde_json::from_str(&text)
                .map_err(|error| ErrorValue::new("TypeError", error.to_string()))?
        }
    })
}

/// JSON as a value. Whole numbers beyond 64 bits become floats.
pub fn from_json(json: &serde_json::Value) -> Result<Value, ErrorValue> {
    Seed { depth: 0 }.deserialize(json).map_err(|error| parse_error(&error))
}

/// JSON text as a value.
pub fn from_json_text(text: &str) -> Result<Value, ErrorValue> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed { depth: 0 }.deserialize(&mut reader).map_err(|error| parse_error(&error))?;
    reader.end().map_err(|error| parse_error(&error))?;
    Ok(value)
}

fn parse_error(error: &serde_json::Error) -> ErrorValue {
    ErrorValue::new("ParseError", format!("no JSON: {error}"))
}

/// Where JSON is written.
pub(crate) trait Sink {
    fn text(&mut self, text: &str);
    fn length(&self) -> usize;
}

impl Sink for String {
    fn text(&mut self, text: &str) {
        self.push_str(text);
    }

    fn length(&self) -> usize {
        self.len()
    }
}

struct Counter(usize);

impl Sink for Counter {
    fn text(&mut self, text: &str) {
        self.0 = self.0.saturating_add(text.len());
    }

    fn length(&self) -> usize {
        self.0
    }
}

/// Writes a value as compact JSON.
pub(crate) fn write(
    value: &Value,
    out: &mut impl Sink,
    limit: usize,
    strictness: Strictness,
) -> Result<(), Unwritable> {
    match value {
        Value::Null | Value::None => out.text("null"),
        Value::Bool(true) => out.text("true"),
        Value::Bool(false) => out.text("false"),
        Value::Int(number) => out.text(super::itoa(*number, &mut [0; 20])),
        Value::Size(bytes) => out.text(&bytes.to_string()),
        Value::Float(number) if number.is_finite() => out.text(&super::float_text(*number)),
        Value::Float(number) => match strictness {
            Strictness::Data => return Err(Unwritable::NotANumber),
            Strictness::Show => out.text(&super::float_text(*number)),
        },
        Value::String(text) => write_text(text, out),
        Value::Bytes(bytes) => {
            if out.length().saturating_add(bytes.len()) > limit {
                return Err(Unwritable::TooLong);
            }
            write_text(&base64_text(bytes), out);
        }
        Value::Duration(duration) => write_text(&duration_text(*duration), out),
        Value::Time(nanoseconds) => write_text(&time_text(*nanoseconds), out),
        Value::Some(inner) | Value::Ok(inner) => write(inner, out, limit, strictness)?,
        Value::Err(inner) => {
            out.text("{\"error\":");
            write(inner, out, limit, strictness)?;
            out.text("}");
        }
        Value::Error(error) => {
            out.text("{\"kind\":");
            write_text(&error.kind, out);
            out.text(",\"message\":");
            write_text(&error.message, out);
            out.text(",\"operation\":");
            match &error.operation {
                Some(operation) => write_text(operation, out),
                None => out.text("null"),
            }
            out.text(if error.retryable {
                ",\"retryable\":true}"
            } else {
                ",\"retryable\":false}"
            });
        }
        Value::Array(items) => {
            out.text("[");
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.text(",");
                }
                write(item, out, limit, strictness)?;
            }
            out.text("]");
        }
        Value::Map(entries) => {
            out.text("{");
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.text(",");
                }
                write_text(key, out);
                out.text(":");
                write(value, out, limit, strictness)?;
            }
            out.text("}");
        }
        Value::Range(from, to) => {
            let length = range_length(*from, *to).saturating_add(out.length() as u128);
            if length > limit as u128 {
                return Err(Unwritable::TooLong);
            }
            out.text("[");
            for number in *from..*to {
                if number > *from {
                    out.text(",");
                }
                out.text(super::itoa(number, &mut [0; 20]));
            }
            out.text("]");
        }
        Value::Function(_) => match strictness {
            Strictness::Data => return Err(Unwritable::Function),
            Strictness::Show => out.text("\"function\""),
        },
        Value::Any => out.text("\"any\""),
        Value::Secret(_) => write_text(REDACTED, out),
        Value::Memory(name) => write_text(name, out),
    }
    if out.length() > limit { Err(Unwritable::TooLong) } else { Ok(()) }
}

/// How many bytes the numbers of a range take, with brackets and commas.
fn range_length(from: i64, to: i64) -> u128 {
    if from >= to {
        return 2;
    }
    // The digits of all numbers from 0 up to and without `end`.
    let digits = |end: u128| {
        let (mut total, mut first, mut width) = (0, 1_u128, 1);
        while first < end {
            total += width * (end.min(first * 10) - first);
            (first, width) = (first * 10, width + 1);
        }
        total + u128::from(end > 0)
    };
    let (low, high) = (i128::from(from), i128::from(to));
    let below = |number: i128| digits(number.max(0).unsigned_abs());
    let positive = below(high) - below(low);
    // Those below zero have a sign as well; zero itself is among the others.
    let negative = |number: i128| (number.min(0)).unsigned_abs() + 1;
    let signs = negative(low) - negative(high);
    let negative = digits(negative(low)) - digits(negative(high)) + signs;
    let commas = (high - low - 1).unsigned_abs();
    positive + negative + commas + 2
}

fn write_text(text: &str, out: &mut impl Sink) {
    out.text("\"");
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..=0x1f => &format!("\\u{byte:04x}"),
            _ => continue,
        };
        out.text(&text[plain..at]);
        out.text(escape);
        plain = at + 1;
    }
    out.text(&text[plain..]);
    out.text("\"");
}

/// Bytes as base64, with padding.
pub(crate) fn base64_text(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads JSON into a value, no deeper than values may be.
#[derive(Clone, Copy)]
struct Seed {
    depth: u32,
}

impl Seed {
    fn inner<E: serde::de::Error>(self) -> Result<Seed, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(Seed { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 64 bits a float is what remains")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut array = Array::new(Vec::new());
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(Arc::new(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Map(Arc::new(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_range_is_known_before_it_is_written() {
        let ends =
            [-1001, -1000, -101, -100, -99, -11, -10, -9, -1, 0, 1, 9, 10, 11, 99, 100, 1001];
        for from in ends {
            for to in ends {
                let text = to_json_text(&Value::Range(from, to), 1 << 20).unwrap();
                assert_eq!(range_length(from, to), text.len() as u128, "{from} to {to}: {text}");
            }
        }
        assert_eq!(range_length(i64::MIN, i64::MAX) >> 68, 1);
    }
}
