//! Values as JSON, both ways, and as text that people read.
//!
//! Reading and writing have stacks of their own, so that they can be interrupted, and that no input
//! can overflow the host's.

use std::sync::Arc;

use super::{
    ARRAY, Array, ENTRY, ErrorValue, LONGEST_LIST, LONGEST_MAP, MAP, MAX_DEPTH, Map, REDACTED,
    TEXT, Text, VALUE, Value, duration_text, float_text, itoa, time_text,
};

/// What is done about values that JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
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
    to_json_text(value, limit).map(|text| text.len() as u64)
}

/// A value as compact JSON text of at most `limit` bytes, keys in their order.
pub fn to_json_text(value: &Value, limit: u64) -> Result<String, ErrorValue> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut writer = Writer::json(value, limit);
    writer.go_on(usize::MAX).map_err(|why| why.error(limit))?;
    Ok(writer.into_text())
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
    from_json_text(&json.to_string())
}

/// JSON text as a value.
pub fn from_json_text(text: &str) -> Result<Value, ErrorValue> {
    let mut reader = Reader::new(text.into());
    loop {
        if let Some(value) = reader.go_on(usize::MAX)? {
            return Ok(value);
        }
    }
}

/// The longest number that is read. Longer ones have no place in a float.
const LONGEST_NUMBER: usize = 4_096;

/// JSON text that is being read.
#[derive(Debug)]
pub(crate) struct Reader {
    text: Text,
    at: usize,
    /// The containers around it, the innermost last.
    open: Vec<Open>,
    next: Next,
    /// A text of which the rest is still to be read; whether it is a key.
    partial: Option<(String, bool)>,
    /// What is left when all containers are closed.
    whole: Value,
    /// Bytes of what has been made.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
enum Open {
    Array(Array),
    Map(Map, Arc<str>),
}

/// What has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of an array without any.
    Element,
    Key,
    /// A key, or the end of a map without any.
    Field,
    Colon,
    /// A comma, or the end of the container.
    Comma,
    /// Nothing any more: this is the value.
    End,
}

impl Reader {
    pub(crate) fn new(text: Text) -> Reader {
        Reader {
            text,
            at: 0,
            open: Vec::new(),
            next: Next::Value,
            partial: None,
            whole: Value::Null,
            bytes: 0,
        }
    }

    /// How far it has come.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[cold]
    fn wrong<T>(&self, what: impl std::fmt::Display) -> Result<T, ErrorValue> {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let message = format!("no JSON: {what} at line {line} column {column}");
        Err(ErrorValue::new("ParseError", message))
    }

    /// Reads about so many bytes. Gives the value when it is complete.
    pub(crate) fn go_on(&mut self, bytes: usize) -> Result<Option<Value>, ErrorValue> {
        let text = self.text.clone();
        let source = text.as_bytes();
        let stop = self.at.saturating_add(bytes);
        while self.at < stop {
            if let Some((part, is_key)) = self.partial.take() {
                self.rest_of_text(&text, stop, part, is_key)?;
                continue;
            }
            let Some(&byte) = source.get(self.at) else {
                return match self.next {
                    Next::End => Ok(Some(std::mem::take(&mut self.whole))),
                    Next::Value => self.wrong("EOF while parsing a value"),
                    _ if matches!(self.open.last(), Some(Open::Map(..))) => {
                        self.wrong("EOF while parsing an object")
                    }
                    _ => self.wrong("EOF while parsing a list"),
                };
            };
            self.at += 1;
            match (byte, self.next) {
                (b' ' | b'\n' | b'\t' | b'\r', _) => {}
                (_, Next::End) => return self.wrong("trailing characters"),
                (b'"', Next::Key | Next::Field) => {
                    self.partial = Some((String::new(), true));
                }
                (b'}', Next::Field | Next::Comma) | (b']', Next::Element | Next::Comma) => {
                    let value = match (byte, self.open.pop()) {
                        (b']', Some(Open::Array(array))) => Value::Array(Arc::new(array)),
                        (b'}', Some(Open::Map(map, _))) => Value::Map(Arc::new(map)),
                        _ => return self.wrong("expected `,` or the other bracket"),
                    };
                    self.take(value)?;
                }
                (b',', Next::Comma) => {
                    self.next = match self.open.last() {
                        Some(Open::Map(..)) => Next::Key,
                        _ => Next::Value,
                    };
                }
                (_, Next::Comma) => return self.wrong("expected `,` or a closing bracket"),
                (b':', Next::Colon) => self.next = Next::Value,
                (_, Next::Colon) => return self.wrong("expected `:`"),
                (_, Next::Key | Next::Field) => return self.wrong("key must be a string"),
                (b'[' | b'{', _) => {
                    if self.open.len() >= MAX_DEPTH as usize {
                        return self.wrong(format_args!("nested more than {MAX_DEPTH} deep"));
                    }
                    if byte == b'[' {
                        self.bytes += ARRAY;
                        self.open.push(Open::Array(Array::new(Vec::new())));
                        self.next = Next::Element;
                    } else {
                        self.bytes += MAP;
                        self.open.push(Open::Map(Map::new(), Arc::default()));
                        self.next = Next::Field;
                    }
                }
                (b'"', _) => self.partial = Some((String::new(), false)),
                (b'-' | b'0'..=b'9', _) => {
                    let value = self.number(&text)?;
                    self.take(value)?;
                }
                _ => {
                    self.at -= 1;
                    let words =
                        [("null", Value::Null), ("true", true.into()), ("false", false.into())];
                    let rest = &source[self.at..];
                    let word =
                        words.into_iter().find(|(word, _)| rest.starts_with(word.as_bytes()));
                    let Some((word, value)) = word else {
                        self.at += 1;
                        return self.wrong("expected value");
                    };
                    self.at += word.len();
                    self.take(value)?;
                }
            }
        }
        Ok(None)
    }

    /// Puts a value where it belongs.
    fn take(&mut self, value: Value) -> Result<(), ErrorValue> {
        self.next = Next::Comma;
        let long = |most: usize, what: &str| {
            Err(ErrorValue::new("LimitExceeded", format!("{what} has at most {most} elements")))
        };
        match self.open.last_mut() {
            None => {
                self.whole = value;
                self.next = Next::End;
            }
            Some(Open::Array(array)) => {
                if array.len() >= LONGEST_LIST {
                    return long(LONGEST_LIST, "an array");
                }
                self.bytes += VALUE;
                array.push(value);
            }
            Some(Open::Map(map, key)) => {
                if map.len() >= LONGEST_MAP {
                    return long(LONGEST_MAP, "a map");
                }
                self.bytes += ENTRY;
                map.insert(std::mem::take(key), value);
            }
        }
        Ok(())
    }

    /// A text, or a key, has been read.
    fn take_text(&mut self, text: Arc<str>, is_key: bool) -> Result<(), ErrorValue> {
        self.bytes += text.len() as u64;
        if is_key {
            if let Some(Open::Map(_, key)) = self.open.last_mut() {
                *key = text;
            }
            self.next = Next::Colon;
            return Ok(());
        }
        self.bytes += TEXT;
        self.take(Value::from(text))
    }

    /// Reads a text on to its end, or a bit beyond `stop`.
    fn rest_of_text(
        &mut self,
        text: &str,
        stop: usize,
        mut part: String,
        is_key: bool,
    ) -> Result<(), ErrorValue> {
        let source = text.as_bytes();
        let mut plain = self.at;
        loop {
            let Some(&byte) = source.get(self.at) else {
                return self.wrong("EOF while parsing a string");
            };
            match byte {
                b'"' => {
                    let rest = &text[plain..self.at];
                    self.at += 1;
                    let whole = match part.is_empty() {
                        true => Arc::from(rest),
                        false => {
                            part.push_str(rest);
                            Arc::from(part)
                        }
                    };
                    return self.take_text(whole, is_key);
                }
                b'\\' => {
                    part.push_str(&text[plain..self.at]);
                    self.at += 1;
                    part.push(self.escape(text)?);
                    plain = self.at;
                }
                0..=0x1f => {
                    return self.wrong("control character (\\u0000-\\u001F) found in a string");
                }
                _ => self.at += 1,
            }
            if self.at >= stop && text.is_char_boundary(self.at) {
                part.push_str(&text[plain..self.at]);
                self.partial = Some((part, is_key));
                return Ok(());
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self, text: &str) -> Result<char, ErrorValue> {
        let letter = text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit(text)?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).map_or_else(|| self.wrong("lone surrogate"), Ok);
                }
                if text.get(self.at..self.at + 2) != Some("\\u") {
                    return self.wrong("lone surrogate");
                }
                self.at += 2;
                let second = self.unit(text)?;
                let low = second.wrapping_sub(0xdc00);
                let both = 0x10000 + ((first - 0xd800) << 10) + low;
                match char::from_u32(both) {
                    Some(letter) if low < 0x400 => letter,
                    _ => return self.wrong("lone surrogate"),
                }
            }
            _ => return self.wrong("invalid escape"),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self, text: &str) -> Result<u32, ErrorValue> {
        let digits = text.get(self.at..self.at + 4).unwrap_or_default();
        self.at += digits.len();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return self.wrong("invalid escape");
        }
        u32::from_str_radix(digits, 16).or_else(|_| self.wrong("invalid escape"))
    }

    /// A number, whose first byte has been read.
    fn number(&mut self, text: &str) -> Result<Value, ErrorValue> {
        let start = self.at - 1;
        let digits = |at: usize| {
            let rest = &text.as_bytes()[at..];
            at + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let byte = |at: usize| text.as_bytes().get(at).copied();
        let whole = start + usize::from(byte(start) == Some(b'-'));
        let mut end = digits(whole);
        let mut valid = end == whole + 1 || (end > whole && byte(whole) != Some(b'0'));
        let int = end;
        if valid && byte(end) == Some(b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            valid = end > fraction;
        }
        if valid && matches!(byte(end), Some(b'e' | b'E')) {
            let exponent = end + 1 + usize::from(matches!(byte(end + 1), Some(b'+' | b'-')));
            end = digits(exponent);
            valid = end > exponent;
        }
        self.at = end;
        if !valid {
            return self.wrong("invalid number");
        }
        let number = &text[start..end];
        if number.len() > LONGEST_NUMBER {
            return self.wrong("number too long");
        }
        if int == end
            && let Ok(number) = number.parse()
        {
            return Ok(Value::Int(number));
        }
        match number.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => self.wrong("number out of range"),
        }
    }
}

/// How much of a text is written in one go.
const PIECE: usize = 4_096;

/// A value that is being written, as compact JSON or as people read it.
#[derive(Debug)]
pub(crate) struct Writer {
    out: String,
    limit: usize,
    strictness: Strictness,
    /// What is being written, the innermost last, and how much of it has been.
    open: Vec<(Value, i64)>,
    /// How many brackets of `Some(...)` and the like are to be closed.
    brackets: usize,
    /// What went wrong at once.
    failed: Option<Unwritable>,
}

impl Writer {
    /// Writes a value as JSON of at most `limit` bytes.
    pub(crate) fn json(value: &Value, limit: usize) -> Writer {
        let (out, open) = (String::new(), Vec::new());
        let strictness = Strictness::Data;
        let mut writer = Writer { out, limit, strictness, open, brackets: 0, failed: None };
        writer.failed = writer.put(value).err();
        writer
    }

    /// Writes a value as `print`, and text joined with `+`, show it; about `limit` bytes of it.
    pub(crate) fn shown(value: &Value, limit: usize) -> Writer {
        let (out, open) = (String::new(), Vec::new());
        let strictness = Strictness::Show;
        let mut writer = Writer { out, limit, strictness, open, brackets: 0, failed: None };
        let mut value = value;
        loop {
            let (name, inner) = match value {
                Value::Some(inner) => ("Some(", inner),
                Value::Ok(inner) => ("Ok(", inner),
                Value::Err(inner) => ("Err(", inner),
                _ => break,
            };
            writer.out.push_str(name);
            writer.brackets += 1;
            value = inner;
        }
        let out = &mut writer.out;
        match value {
            Value::String(text) => out.push_str(text),
            Value::Duration(duration) => out.push_str(&duration_text(*duration)),
            Value::Time(nanoseconds) => out.push_str(&time_text(*nanoseconds)),
            Value::Error(error) => {
                out.push_str(&error.kind);
                out.push_str(": ");
                out.push_str(&error.message);
            }
            Value::Function(_) => out.push_str("function"),
            Value::Any => out.push_str("any"),
            Value::Secret(_) => out.push_str(REDACTED),
            Value::Memory(name) => out.push_str(name),
            Value::None => out.push_str("None"),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::Size(_)
            | Value::Array(_)
            | Value::Range(..)
            | Value::Map(_)
            | Value::Some(_)
            | Value::Ok(_)
            | Value::Err(_) => writer.failed = writer.put(value).err(),
        }
        writer
    }

    /// How much has been written.
    pub(crate) fn length(&self) -> usize {
        self.out.len()
    }

    /// What has been written.
    pub(crate) fn into_text(self) -> String {
        self.out
    }

    fn within(&self) -> Result<(), Unwritable> {
        if self.out.len() > self.limit { Err(Unwritable::TooLong) } else { Ok(()) }
    }

    /// Writes about so many bytes, and says whether that was all.
    pub(crate) fn go_on(&mut self, bytes: usize) -> Result<bool, Unwritable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let stop = self.out.len().saturating_add(bytes);
        while let Some((value, at)) = self.open.last_mut() {
            if self.out.len() >= stop {
                return Ok(false);
            }
            let number = *at;
            *at += 1;
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            match value {
                Value::Array(items) => match items.get(index) {
                    Some(item) => {
                        self.out.push(if index == 0 { '[' } else { ',' });
                        let item = item.clone();
                        self.put(&item)?;
                    }
                    None => self.close(']'),
                },
                // Keys have even numbers, and the values behind them odd ones.
                Value::Map(map) => match map.get_index(index / 2) {
                    Some((key, _)) if index.is_multiple_of(2) => {
                        self.out.push(if index == 0 { '{' } else { ',' });
                        let key = Arc::clone(key);
                        self.text(&key);
                    }
                    Some((_, value)) => {
                        self.out.push(':');
                        let value = value.clone();
                        self.put(&value)?;
                    }
                    None => self.close('}'),
                },
                Value::Range(from, to) => {
                    let next = *from;
                    if next < *to {
                        *from += 1;
                        self.out.push(if number == 0 { '[' } else { ',' });
                        self.out.push_str(itoa(next, &mut [0; 20]));
                    } else {
                        self.close(']');
                    }
                }
                Value::Err(inner) => {
                    let inner = Arc::clone(inner);
                    if number == 0 {
                        self.out.push_str("{\"error\":");
                        self.put(&inner)?;
                    } else {
                        self.close('}');
                    }
                }
                Value::Error(error) => {
                    let error = Arc::clone(error);
                    match (number, &error.operation) {
                        (0, _) => {
                            self.out.push_str("{\"kind\":");
                            self.text(&error.kind);
                        }
                        (1, _) => {
                            self.out.push_str(",\"message\":");
                            self.text(&error.message);
                        }
                        (2, Some(operation)) => {
                            self.out.push_str(",\"operation\":");
                            self.text(operation);
                        }
                        (2, None) => self.out.push_str(",\"operation\":null"),
                        _ => {
                            let retryable = error.retryable;
                            self.out.push_str(&format!(",\"retryable\":{retryable}"));
                            self.close('}');
                        }
                    }
                }
                Value::String(text) => {
                    // A text is numbered by its bytes.
                    let start = index;
                    let mut end = (start + PIECE).min(text.len());
                    while !text.is_char_boundary(end) {
                        end += 1;
                    }
                    *at = i64::try_from(end).unwrap_or(i64::MAX);
                    let last = end == text.len();
                    let text = text.clone();
                    escape_into(&text[start..end], &mut self.out);
                    if last {
                        self.close('"');
                    }
                }
                _ => drop(self.open.pop()),
            }
            self.within()?;
        }
        for _ in 0..std::mem::take(&mut self.brackets) {
            self.out.push(')');
        }
        self.within()?;
        Ok(true)
    }

    fn close(&mut self, bracket: char) {
        self.open.pop();
        self.out.push(bracket);
    }

    fn text(&mut self, text: &Arc<str>) {
        self.out.push('"');
        if text.len() <= PIECE {
            escape_into(text, &mut self.out);
            self.out.push('"');
        } else {
            self.open.push((Value::from(Arc::clone(text)), 0));
        }
    }

    /// Writes a value, or what comes before the parts of one that is long.
    fn put(&mut self, value: &Value) -> Result<(), Unwritable> {
        let out = &mut self.out;
        let data = self.strictness == Strictness::Data;
        let mut value = value;
        while let Value::Some(inner) | Value::Ok(inner) = value {
            value = inner;
        }
        match value {
            Value::Null | Value::None => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(number) => out.push_str(itoa(*number, &mut [0; 20])),
            Value::Size(bytes) => out.push_str(&bytes.to_string()),
            Value::Float(number) if data && !number.is_finite() => {
                return Err(Unwritable::NotANumber);
            }
            Value::Float(number) => out.push_str(&float_text(*number)),
            Value::String(text) if text.len() > PIECE => {
                out.push('"');
                self.open.push((value.clone(), 0));
            }
            Value::String(text) => {
                out.push('"');
                escape_into(text, out);
                out.push('"');
            }
            Value::Bytes(bytes) => {
                if out.len().saturating_add(bytes.len()) > self.limit {
                    return Err(Unwritable::TooLong);
                }
                out.push('"');
                out.push_str(&base64_text(bytes));
                out.push('"');
            }
            Value::Duration(duration) => {
                out.push('"');
                out.push_str(&duration_text(*duration));
                out.push('"');
            }
            Value::Time(nanoseconds) => {
                out.push('"');
                out.push_str(&time_text(*nanoseconds));
                out.push('"');
            }
            Value::Array(items) if items.is_empty() => out.push_str("[]"),
            Value::Map(map) if map.is_empty() => out.push_str("{}"),
            Value::Range(from, to) if from >= to => out.push_str("[]"),
            Value::Range(from, to) => {
                let length = range_length(*from, *to).saturating_add(out.len() as u128);
                if length > self.limit as u128 {
                    return Err(Unwritable::TooLong);
                }
                self.open.push((value.clone(), 0));
            }
            Value::Array(_) | Value::Map(_) | Value::Err(_) | Value::Error(_) => {
                self.open.push((value.clone(), 0));
            }
            Value::Function(_) if data => return Err(Unwritable::Function),
            Value::Function(_) => out.push_str("\"function\""),
            Value::Any => out.push_str("\"any\""),
            Value::Secret(_) => out.push_str(&format!("\"{REDACTED}\"")),
            Value::Memory(name) => self.text(name),
            Value::Some(_) | Value::Ok(_) => {}
        }
        self.within()
    }
}

fn escape_into(text: &str, out: &mut String) {
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
        out.push_str(&text[plain..at]);
        out.push_str(escape);
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
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

/// Bytes as base64, with padding.
pub(crate) fn base64_text(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
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
