//! The methods of values.
//!
//! Methods are looked up by the receiver's type and their name. One that takes no arguments can be
//! read like a member. The four that change their receiver are in [`mutate`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::builtins::{Patterns, arity, int, shown, text, wrong};
use super::jobs::{Change, How, Join, Split};
use super::meter::{ARRAY, ENTRY, Meter, Result, TEXT, VALUE, arithmetic, raise, type_error};
use super::operators::{
    MANY, check_depth, clipped, contains, finder, own, own_map, position, spread,
};
use super::work::{comparing, mixable, orderable, sort_order};
use crate::diagnostic::nearest;
use crate::value::{Array, Map, Text, Value, moment, time_text};

/// The names of the methods of a value, those without arguments first, to suggest one.
pub(crate) fn known(value: &Value) -> &'static [&'static str] {
    match value {
        Value::String(_) => &[
            "length",
            "len",
            "is_empty",
            "trim",
            "lower",
            "upper",
            "lines",
            "chars",
            "reverse",
            "to_int",
            "to_float",
            "to_string",
            "split",
            "contains",
            "starts_with",
            "ends_with",
            "replace",
            "contains_pattern",
            "slice",
            "repeat",
        ],
        Value::Array(_) | Value::Range(..) => &[
            "length", "len", "is_empty", "first", "last", "sort", "reverse", "sum", "contains",
            "join", "slice", "get", "map", "filter", "find", "any", "all", "reduce", "append",
            "push", "remove",
        ],
        Value::Map(_) => &[
            "length", "len", "is_empty", "keys", "values", "entries", "get", "contains", "remove",
            "merge",
        ],
        Value::Bytes(_) => &["length", "len", "is_empty", "base64"],
        Value::Int(_) | Value::Float(_) => &[
            "abs",
            "round",
            "floor",
            "ceil",
            "sqrt",
            "to_int",
            "to_float",
            "to_string",
            "is_nan",
            "pow",
            "min",
            "max",
        ],
        Value::Duration(_) => {
            &["milliseconds", "seconds", "minutes", "hours", "days", "as_seconds", "to_string"]
        }
        Value::Size(_) => &["bytes", "kilobytes", "megabytes", "gigabytes", "to_string"],
        Value::Time(_) => &[
            "year",
            "month",
            "day",
            "hour",
            "minute",
            "second",
            "weekday",
            "unix",
            "unix_ms",
            "to_string",
            "plus",
            "minus",
            "since",
        ],
        Value::Some(_) | Value::None => &["is_some", "is_none", "unwrap", "unwrap_or"],
        Value::Ok(_) | Value::Err(_) => &["is_ok", "is_err", "unwrap", "unwrap_or", "error"],
        Value::Error(_) => &["kind", "message", "operation", "retryable"],
        Value::Null
        | Value::Bool(_)
        | Value::Function(_)
        | Value::Any
        | Value::Secret(_)
        | Value::Memory(_) => &["to_string"],
    }
}

/// That a value has no such method, naming the nearest that it has.
#[cold]
pub(super) fn no_method(receiver: &Value, name: &str) -> super::meter::Raise {
    let nearest = nearest(name, known(receiver).iter().copied());
    let hint = nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    let (kind, name) = (receiver.type_name(), clipped(name));
    type_error(format!("{kind} has no member or method `{name}`{hint}"))
}

/// An array as a value, unless it is nested too deeply.
pub(super) fn finished(array: Array) -> Result<Value> {
    let value = Value::Array(Arc::new(array));
    check_depth(value.depth())?;
    Ok(value)
}

/// How long a value is, if it has a length.
pub(super) fn length(value: &Value, meter: &mut Meter) -> Result<Option<Value>> {
    let length = match value {
        Value::String(text) => {
            meter.bulk(text.len() / 4)?;
            text.chars().count() as u64
        }
        Value::Map(map) => map.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        list => match list.list_length() {
            Some(length) => length as u64,
            None => return Ok(None),
        },
    };
    i64::try_from(length)
        .map(|length| Some(Value::Int(length)))
        .map_err(|_| arithmetic("`length` overflows"))
}

/// The elements of an array, which is short if it is a range: what is done with many is done piece
/// by piece.
pub(super) fn items<'v>(value: &'v Value, meter: &mut Meter) -> Result<Option<Cow<'v, [Value]>>> {
    Ok(match value {
        Value::Array(items) => Some(Cow::Borrowed(items)),
        Value::Range(from, to) => {
            meter.array(value.list_length().unwrap_or(0))?;
            Some(Cow::Owned((*from..*to).map(Value::Int).collect()))
        }
        _ => None,
    })
}

/// The keys, values or entries of a map.
pub(super) fn of_map(value: &Value, what: &str, meter: &mut Meter) -> Result<Option<Value>> {
    let Value::Map(map) = value else { return Ok(None) };
    meter.array(map.len())?;
    let key = |key: &Arc<str>| Value::from(Arc::clone(key));
    let array: Array = match what {
        "keys" => map.keys().map(key).collect(),
        "values" => map.values().cloned().collect(),
        _ => {
            meter.array(map.len())?;
            meter.allocate((ARRAY + VALUE) * map.len() as u64)?;
            map.iter().map(|(k, v)| Value::array([key(k), v.clone()])).collect()
        }
    };
    finished(array).map(Some)
}

pub(super) fn abs(value: &Value) -> Option<Result<Value>> {
    Some(match value {
        Value::Int(number) => {
            number.checked_abs().map(Value::Int).ok_or_else(|| arithmetic("`abs` overflows"))
        }
        Value::Float(number) => Ok(Value::Float(number.abs())),
        _ => return None,
    })
}

/// `round`, `floor` and `ceil` give an int; `round` with a number of digits gives a float.
pub(super) fn round(name: &str, value: &Value, digits: Option<&Value>) -> Result<Value> {
    let number = match value {
        Value::Int(number) => return Ok(Value::Int(*number)),
        Value::Float(number) => *number,
        other => return Err(wrong(name, "a number", Some(other))),
    };
    match digits {
        None => {}
        Some(Value::Int(digits @ 0..=15)) => {
            let scale = 10_i64.pow(u32::try_from(*digits).unwrap_or(0)) as f64;
            let scaled = (number * scale).round() / scale;
            return Ok(Value::Float(if scaled.is_finite() { scaled } else { number }));
        }
        Some(other) => return Err(wrong(name, "0 to 15 digits", Some(other))),
    }
    let whole = match name {
        "floor" => number.floor(),
        "ceil" => number.ceil(),
        _ => number.round(),
    };
    let overflow = || arithmetic(format!("`{name}` of {number:?} is no int"));
    whole_number(whole).map(Value::Int).ok_or_else(overflow)
}

/// The number without its fraction, if it is an int.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn whole_number(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    (-LIMIT..LIMIT).contains(&number).then_some(number as i64)
}

pub(super) fn sort(value: &Value, meter: &mut Meter) -> Result<Option<Value>> {
    let Some(items) = items(value, meter)? else { return Ok(None) };
    let length = items.len() as u64;
    let levels = u64::from(length.max(1).ilog2()) + 1;
    meter.work((length + comparing(&items)) * levels / 4)?;
    meter.array(items.len())?;
    mixable(&items)?;
    orderable(&items)?;
    let mut items = items.into_owned();
    items.sort_by(sort_order);
    finished(Array::new(items)).map(Some)
}

pub(super) fn reverse(value: &Value, meter: &mut Meter) -> Result<Option<Value>> {
    if let Value::String(_) = value {
        return meter.long(|| Change::of(value, How::Reverse)).map(Some);
    }
    let Some(items) = items(value, meter)? else { return Ok(None) };
    meter.array(items.len())?;
    finished(items.iter().rev().cloned().collect()).map(Some)
}

/// From and to, as `slice` understands them: negative ones from the end, never outside.
fn bounds(name: &str, args: &[Value], length: usize) -> Result<std::ops::Range<usize>> {
    let at = |index: i64| match position(index, length) {
        Some(at) => at,
        None if index < 0 => 0,
        None => length,
    };
    let from = at(int(name, args, 0)?);
    let to = if args.len() > 1 { at(int(name, args, 1)?) } else { length };
    Ok(from..to.max(from))
}

/// Calls a method that changes nothing. `None`: the value has no such method.
pub(super) fn call(
    receiver: &Value,
    name: &str,
    args: &[Value],
    patterns: &mut Patterns,
    meter: &mut Meter,
) -> Result<Option<Value>> {
    if !known(receiver).contains(&name) {
        return Ok(None);
    }
    if matches!(name, "length" | "len") {
        arity(name, args, 0, 0)?;
        return length(receiver, meter);
    }
    match receiver {
        Value::String(text) => of_string(text, receiver, name, args, patterns, meter),
        Value::Array(_) | Value::Range(..) => of_array(receiver, name, args, meter),
        Value::Map(map) => match name {
            "is_empty" => {
                arity(name, args, 0, 0)?;
                Ok(Some(Value::Bool(map.is_empty())))
            }
            "keys" | "values" | "entries" => {
                arity(name, args, 0, 0)?;
                of_map(receiver, name, meter)
            }
            "get" => {
                arity(name, args, 1, 2)?;
                let found = map.get(text(name, args, 0)?);
                meter.allocate(TEXT)?;
                Ok(Some(option(found.cloned(), args.get(1))?))
            }
            "contains" => {
                arity(name, args, 1, 1)?;
                Ok(Some(Value::Bool(contains(receiver, &args[0], meter)?)))
            }
            _ => Ok(None),
        },
        Value::Bytes(bytes) => {
            arity(name, args, 0, 0)?;
            match name {
                "is_empty" => Ok(Some(Value::Bool(bytes.is_empty()))),
                "base64" => meter.long(|| Change::of(receiver, How::Base64)).map(Some),
                _ => Ok(None),
            }
        }
        Value::Int(_) | Value::Float(_) => of_number(receiver, name, args, meter).map(Some),
        Value::Duration(duration) => {
            arity(name, args, 0, 0)?;
            of_duration(*duration, name).transpose()
        }
        Value::Size(size) => {
            arity(name, args, 0, 0)?;
            let unit = match name {
                "kilobytes" => 1_000,
                "megabytes" => 1_000_000,
                "gigabytes" => 1_000_000_000,
                "to_string" => return Ok(Some(Value::from(size.to_string()))),
                _ => 1,
            };
            i64::try_from(size / unit)
                .map(|size| Some(Value::Int(size)))
                .map_err(|_| arithmetic(format!("`{name}` overflows")))
        }
        Value::Time(time) => of_time(*time, name, args),
        Value::Some(_) | Value::None | Value::Ok(_) | Value::Err(_) => {
            of_wrapper(receiver, name, args)
        }
        Value::Error(error) => {
            arity(name, args, 0, 0)?;
            Ok(Some(match name {
                "kind" => Value::from(Arc::clone(&error.kind)),
                "message" => Value::from(Arc::clone(&error.message)),
                "operation" => error.operation.clone().map_or(Value::Null, Value::from),
                _ => Value::Bool(error.retryable),
            }))
        }
        Value::Null if name == "to_string" => Err(type_error("null has no members")),
        Value::Null
        | Value::Bool(_)
        | Value::Function(_)
        | Value::Any
        | Value::Secret(_)
        | Value::Memory(_) => {
            arity(name, args, 0, 0)?;
            Ok(Some(Value::String(shown(receiver, meter)?)))
        }
    }
}

/// Whether a method can be read like a member: it takes no arguments.
pub(super) fn reads(receiver: &Value, name: &str) -> bool {
    let takes_some = match receiver {
        Value::String(_) => matches!(
            name,
            "split"
                | "contains"
                | "starts_with"
                | "ends_with"
                | "replace"
                | "contains_pattern"
                | "slice"
                | "repeat"
        ),
        Value::Array(_) | Value::Range(..) => matches!(
            name,
            "contains"
                | "slice"
                | "get"
                | "map"
                | "filter"
                | "find"
                | "any"
                | "all"
                | "reduce"
                | "append"
                | "push"
                | "remove"
        ),
        Value::Map(_) => matches!(name, "get" | "contains" | "remove" | "merge"),
        Value::Int(_) | Value::Float(_) => matches!(name, "pow" | "min" | "max"),
        Value::Time(_) => matches!(name, "plus" | "minus" | "since"),
        _ => name == "unwrap_or",
    };
    !takes_some && known(receiver).contains(&name)
}

fn option(found: Option<Value>, default: Option<&Value>) -> Result<Value> {
    let value = match (found, default) {
        (Some(value), Some(_)) => value,
        (None, Some(default)) => default.clone(),
        (Some(value), None) => Value::some(value),
        (None, None) => Value::None,
    };
    check_depth(value.depth())?;
    Ok(value)
}

fn of_string(
    string: &Text,
    receiver: &Value,
    name: &str,
    args: &[Value],
    patterns: &mut Patterns,
    meter: &mut Meter,
) -> Result<Option<Value>> {
    // What goes on by strides pays for itself.
    const BY_STRIDES: [&str; 7] =
        ["lower", "upper", "reverse", "split", "replace", "contains", "contains_pattern"];
    if !BY_STRIDES.contains(&name) && !matches!(name, "is_empty" | "to_string") {
        meter.bulk(string.len())?;
    }
    let (least, most) = match name {
        "split" | "contains" | "starts_with" | "ends_with" | "contains_pattern" | "repeat" => {
            (1, 1)
        }
        "replace" => (2, 2),
        "slice" => (1, 2),
        _ => (0, 0),
    };
    arity(name, args, least, most)?;
    Ok(Some(match name {
        "is_empty" => Value::Bool(string.is_empty()),
        "trim" => new_text(trimmed(string), meter)?,
        "lower" => meter.long(|| Change::of(receiver, How::Lower))?,
        "upper" => meter.long(|| Change::of(receiver, How::Upper))?,
        "lines" => pieces(string.lines(), meter)?,
        "chars" => {
            let mut buffer = [0; 4];
            meter.allocate((TEXT + VALUE).saturating_mul(string.len() as u64))?;
            meter.work(string.len() as u64 / 2)?;
            finished(string.chars().map(|c| Value::from(&*c.encode_utf8(&mut buffer))).collect())?
        }
        "reverse" => return reverse(receiver, meter),
        "to_string" => receiver.clone(),
        "to_int" => match number_in(string).parse() {
            Ok(number) => Value::Int(number),
            Err(_) => return Err(raise("ParseError", format!("`{}` is no int", clipped(string)))),
        },
        "to_float" => match number_in(string).parse() {
            Ok(number) => Value::Float(number),
            Err(_) => {
                return Err(raise("ParseError", format!("`{}` is no float", clipped(string))));
            }
        },
        "split" => match text(name, args, 0)? {
            "" => return Err(type_error("`split` wants something to split at; see `chars`")),
            separator => {
                let finder = finder(separator)?;
                meter.long(|| Split::new(string, finder))?
            }
        },
        "contains" => {
            text(name, args, 0)?;
            Value::Bool(contains(receiver, &args[0], meter)?)
        }
        "starts_with" => Value::Bool(string.starts_with(text(name, args, 0)?)),
        "ends_with" => Value::Bool(string.ends_with(text(name, args, 0)?)),
        "contains_pattern" => patterns.matches(string, text(name, args, 0)?, meter)?,
        "replace" => {
            let (from, to) = (text(name, args, 0)?, text(name, args, 1)?);
            let (finder, to) = (finder(from)?, Arc::from(to));
            meter.long(|| Change::of(receiver, How::Replace(finder, to)))?
        }
        "slice" => {
            let range = bounds(name, args, string.chars().count())?;
            // Whoever skips letters finds where the others begin sooner than whoever takes them.
            let after = |text: &'_ str, letters: usize| {
                let mut rest = text.chars();
                if let Some(last) = letters.checked_sub(1) {
                    rest.nth(last);
                }
                text.len() - rest.as_str().len()
            };
            let rest = &string[after(string, range.start)..];
            new_text(&rest[..after(rest, range.len())], meter)?
        }
        "repeat" => {
            let times = usize::try_from(int(name, args, 0)?.max(0)).unwrap_or(usize::MAX);
            let length = string.len().saturating_mul(times);
            meter.text(length)?;
            Value::from(string.repeat(if string.is_empty() { 0 } else { times }))
        }
        _ => return Ok(None),
    }))
}

/// The text without white space around it, of which there may be much.
fn trimmed(text: &str) -> &str {
    const CHUNK: usize = 64;
    let white = |chunk: &[u8]| {
        // Blanks are the most frequent, and compared all at once.
        chunk == &[b' '; CHUNK][..chunk.len()] || chunk.iter().all(u8::is_ascii_whitespace)
    };
    let before = text.as_bytes().chunks(CHUNK).take_while(|chunk| white(chunk)).count();
    let text = text.get(before * CHUNK..).unwrap_or_default();
    let after = text.as_bytes().rchunks(CHUNK).take_while(|chunk| white(chunk)).count();
    text.get(..text.len().saturating_sub(after * CHUNK)).unwrap_or_default().trim()
}

/// What stands for a number in a text: nothing if it is far too long for one.
fn number_in(text: &str) -> &str {
    const LONGEST: usize = 4_096;
    let text = trimmed(text);
    if text.len() > LONGEST { "" } else { text }
}

fn new_text(text: &str, meter: &mut Meter) -> Result<Value> {
    meter.text(text.len())?;
    Ok(Value::from(text))
}

fn pieces<'t>(pieces: impl Iterator<Item = &'t str>, meter: &mut Meter) -> Result<Value> {
    let mut array = Array::new(Vec::new());
    for (number, piece) in pieces.enumerate() {
        meter.allocate(VALUE + TEXT + piece.len() as u64)?;
        if number % 4 == 0 {
            meter.work(1)?;
        }
        if meter.charged > meter.memory_limit.saturating_mul(2) {
            return Err(meter.out_of_memory());
        }
        meter.list(number)?;
        array.push(Value::from(piece));
    }
    Ok(Value::Array(Arc::new(array)))
}

fn of_array(
    receiver: &Value,
    name: &str,
    args: &[Value],
    meter: &mut Meter,
) -> Result<Option<Value>> {
    let (least, most) = match name {
        "contains" => (1, 1),
        "get" | "slice" => (1, 2),
        "join" => (0, 1),
        _ => (0, 0),
    };
    arity(name, args, least, most)?;
    let length = receiver.list_length().unwrap_or(0);
    Ok(Some(match name {
        "is_empty" => Value::Bool(length == 0),
        "first" => option(receiver.element(0), None)?,
        "last" => option(length.checked_sub(1).and_then(|at| receiver.element(at)), None)?,
        "get" => {
            let at = position(int(name, args, 0)?, length);
            option(at.and_then(|at| receiver.element(at)), args.get(1))?
        }
        "contains" => Value::Bool(contains(receiver, &args[0], meter)?),
        "sort" => return sort(receiver, meter),
        "reverse" => return reverse(receiver, meter),
        "sum" => {
            return super::builtins::call(
                super::builtins::Builtin::Sum,
                std::slice::from_ref(receiver),
                &mut Patterns::default(),
                meter,
            )
            .map(Some);
        }
        "slice" => {
            let part = bounds(name, args, length)?;
            if let Value::Range(from, _) = receiver {
                let [from, to] =
                    [part.start, part.end].map(|at| from.saturating_add_unsigned(at as u64));
                return Ok(Some(Value::Range(from, to)));
            }
            meter.array(part.len())?;
            meter.long(|| Join::slice(receiver, part))?
        }
        "join" => {
            let Some(items) = items(receiver, meter)? else { return Ok(None) };
            let separator = if args.is_empty() { "" } else { text(name, args, 0)? };
            let mut joined = String::new();
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    joined.push_str(separator);
                }
                match item {
                    Value::String(part) => {
                        meter.bulk(part.len() + separator.len() + 4)?;
                        joined.push_str(part);
                    }
                    other => joined.push_str(&shown(other, meter)?),
                }
                meter.fits(joined.len())?;
            }
            meter.text(joined.len())?;
            Value::from(joined)
        }
        _ => return Ok(None),
    }))
}

fn of_number(value: &Value, name: &str, args: &[Value], meter: &mut Meter) -> Result<Value> {
    match name {
        "pow" => arity(name, args, 1, 1)?,
        "round" => arity(name, args, 0, 1)?,
        "min" | "max" => arity(name, args, 1, 65_535)?,
        _ => arity(name, args, 0, 0)?,
    }
    let float = match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        other => return Err(wrong(name, "a number", Some(other))),
    };
    match name {
        "abs" => abs(value).unwrap_or(Ok(Value::Null)),
        "round" | "floor" | "ceil" => round(name, value, args.first()),
        "sqrt" if float < 0.0 => Err(arithmetic("`sqrt` of a negative number")),
        "sqrt" => Ok(Value::Float(float.sqrt())),
        "to_int" => match value {
            Value::Int(_) => Ok(value.clone()),
            _ => whole_number(float)
                .map(Value::Int)
                .ok_or_else(|| arithmetic(format!("{float:?} is no int"))),
        },
        "to_float" => Ok(Value::Float(float)),
        "to_string" => shown(value, meter).map(Value::String),
        "is_nan" => Ok(Value::Bool(float.is_nan())),
        "pow" => match (value, &args[0]) {
            (Value::Int(base), Value::Int(exponent @ 0..)) => u32::try_from(*exponent)
                .ok()
                .and_then(|exponent| base.checked_pow(exponent))
                .map(Value::Int)
                .ok_or_else(|| arithmetic("`pow` overflows")),
            (_, Value::Int(exponent)) => Ok(Value::Float(float.powf(*exponent as f64))),
            (_, Value::Float(exponent)) => Ok(Value::Float(float.powf(*exponent))),
            (_, other) => Err(wrong(name, "a number", Some(other))),
        },
        _ => {
            let mut all = vec![value.clone()];
            all.extend_from_slice(args);
            let builtin =
                super::builtins::Builtin::named(name).ok_or_else(|| no_method(value, name))?;
            super::builtins::call(builtin, &all, &mut Patterns::default(), meter)
        }
    }
}

/// Whole units, cut off; `as_seconds` with its fraction.
fn of_duration(duration: Duration, name: &str) -> Option<Result<Value>> {
    let seconds = u128::from(duration.as_secs());
    let whole = match name {
        "milliseconds" => duration.as_millis(),
        "seconds" => seconds,
        "minutes" => seconds / 60,
        "hours" => seconds / 3_600,
        "days" => seconds / 86_400,
        "as_seconds" => return Some(Ok(Value::Float(duration.as_secs_f64()))),
        "to_string" => return Some(Ok(Value::from(crate::value::duration_text(duration)))),
        _ => return None,
    };
    let overflow = |_| arithmetic(format!("`{name}` overflows"));
    Some(i64::try_from(whole).map(Value::Int).map_err(overflow))
}

/// Parts of a moment in UTC; `weekday` is 1 on Monday.
fn of_time(time: i64, name: &str, args: &[Value]) -> Result<Option<Value>> {
    let count = usize::from(matches!(name, "plus" | "minus" | "since"));
    arity(name, args, count, count)?;
    let zoned = moment(time).to_zoned(jiff::tz::TimeZone::UTC);
    Ok(Some(Value::Int(match name {
        "year" => zoned.year().into(),
        "month" => zoned.month().into(),
        "day" => zoned.day().into(),
        "hour" => zoned.hour().into(),
        "minute" => zoned.minute().into(),
        "second" => zoned.second().into(),
        "weekday" => zoned.weekday().to_monday_one_offset().into(),
        "unix" => time.div_euclid(1_000_000_000),
        "unix_ms" => time.div_euclid(1_000_000),
        "to_string" => return Ok(Some(Value::from(time_text(time)))),
        _ => {
            let mut meter = Meter::new(1, 1);
            let op = if name == "plus" {
                crate::hir::BinaryOp::Add
            } else {
                crate::hir::BinaryOp::Subtract
            };
            let mut value = Value::Time(time);
            super::operators::apply(op, &mut value, &args[0], &mut meter)?;
            return Ok(Some(value));
        }
    })))
}

fn of_wrapper(receiver: &Value, name: &str, args: &[Value]) -> Result<Option<Value>> {
    let count = usize::from(name == "unwrap_or");
    arity(name, args, count, count)?;
    Ok(Some(match (receiver, name) {
        (_, "is_some") => Value::Bool(matches!(receiver, Value::Some(_))),
        (_, "is_none") => Value::Bool(matches!(receiver, Value::None)),
        (_, "is_ok") => Value::Bool(matches!(receiver, Value::Ok(_))),
        (_, "is_err") => Value::Bool(matches!(receiver, Value::Err(_))),
        (Value::Some(inner) | Value::Ok(inner), "unwrap" | "unwrap_or") => Value::clone(inner),
        (_, "unwrap_or") => args[0].clone(),
        (Value::Err(inner), "unwrap") => return Err(super::failure_of(inner).into()),
        (_, "unwrap") => return Err(type_error("`unwrap` of None")),
        (Value::Err(inner), "error") => Value::clone(inner),
        (_, "error") => Value::Null,
        _ => return Ok(None),
    }))
}

/// Calls a method that changes its receiver. `false`: the value has no such method.
pub(super) fn mutate(
    receiver: &mut Value,
    name: &str,
    args: &mut Vec<Value>,
    meter: &mut Meter,
) -> Result<bool> {
    match (&mut *receiver, name) {
        (Value::Range(..), "append" | "push" | "remove") => {
            spread(receiver, meter)?;
            mutate(receiver, name, args, meter)
        }
        (Value::Array(array), "append" | "push") => {
            arity(name, args, 1, 1)?;
            own(array, meter)?;
            meter.list(array.len() + 1)?;
            meter.allocate(VALUE)?;
            if let Some(value) = args.pop() {
                check_depth(value.depth() + 1)?;
                Arc::make_mut(array).push(value);
            }
            Ok(true)
        }
        (Value::Array(array), "remove") => {
            arity(name, args, 1, 1)?;
            let index = int(name, args, 0)?;
            let at = position(index, array.len()).ok_or_else(|| {
                raise("IndexError", format!("no element {index} among {}", array.len()))
            })?;
            own(array, meter)?;
            meter.bulk(array.len() - at)?;
            Arc::make_mut(array).items_mut().remove(at);
            Ok(true)
        }
        (Value::Map(map), "remove") => {
            arity(name, args, 1, 1)?;
            let key = text(name, args, 0)?;
            if let Some(at) = map.get_index_of(key) {
                own_map(map, meter)?;
                meter.bulk(map.len() - at)?;
                Arc::make_mut(map).entries_mut().shift_remove_index(at);
            }
            Ok(true)
        }
        (Value::Map(map), "merge") => {
            arity(name, args, 1, 1)?;
            let Some(Value::Map(other)) = args.first() else {
                return Err(wrong(name, "a map", args.first()));
            };
            if other.len() > MANY {
                let joined = meter.long(|| Join::maps(map, other))?;
                meter.map(map.len() + other.len())?;
                if let Value::Map(joined) = joined {
                    *map = joined;
                }
                return Ok(true);
            }
            own_map(map, meter)?;
            meter.entries(map.len() + other.len())?;
            meter.work(other.len() as u64 / 2)?;
            let map: &mut Map = Arc::make_mut(map);
            for (key, value) in other.iter() {
                meter.allocate(ENTRY + key.len() as u64)?;
                map.insert(Arc::clone(key), value.clone());
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}
