//! The functions that every program has.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::jobs::{Change, Csv, Fold, Form, How, Write};
use super::meter::{Meter, Raise, Result, VALUE, arithmetic, raise, type_error};
use super::methods;
use super::operators::{apply, clipped};
use super::pattern::{Pattern, Search};
use crate::hir::BinaryOp;
use crate::value::{ErrorValue, Reader, Text, Value};

/// Methods that change the variable, member or element that they are called on.
pub(super) const MUTATORS: [&str; 4] = ["append", "push", "remove", "merge"];

macro_rules! builtins {
    ($($variant:ident $name:literal $least:literal..=$most:literal,)*) => {
        /// A function that every program has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Builtin { $($variant),* }

        impl Builtin {
            /// The builtin of that name.
            pub(super) fn named(name: &str) -> Option<Builtin> {
                match name {
                    $($name => Some(Builtin::$variant),)*
                    "length" => Some(Builtin::Len),
                    _ => None,
                }
            }

            /// How many arguments it takes.
            fn arity(self) -> (&'static str, usize, usize) {
                match self { $(Builtin::$variant => ($name, $least, $most)),* }
            }
        }
    };
}

builtins! {
    Len "len" 1..=1,
    Format "format" 1..=65_535,
    ParseJson "parse_json" 1..=1,
    ToJson "to_json" 1..=1,
    ParseCsv "parse_csv" 1..=1,
    TypeOf "type_of" 1..=1,
    Range "range" 1..=2,
    Min "min" 1..=65_535,
    Max "max" 1..=65_535,
    Abs "abs" 1..=1,
    Round "round" 1..=2,
    Floor "floor" 1..=1,
    Ceil "ceil" 1..=1,
    Sum "sum" 1..=1,
    Sort "sort" 1..=1,
    Reverse "reverse" 1..=1,
    Zip "zip" 2..=2,
    Keys "keys" 1..=1,
    Values "values" 1..=1,
    Entries "entries" 1..=1,
    Hash "hash" 1..=1,
    Base64 "base64" 1..=1,
    RegexMatch "regex_match" 2..=2,
    Error "error" 1..=2,
    Assert "assert" 1..=2,
}

/// That a call has as many arguments as it should.
pub(super) fn arity(name: &str, args: &[Value], least: usize, most: usize) -> Result {
    if (least..=most).contains(&args.len()) {
        return Ok(());
    }
    let wanted = match (least, most) {
        (0, 0) => "no arguments".to_owned(),
        (1, 1) => "1 argument".to_owned(),
        (least, most) if least == most => format!("{least} arguments"),
        (least, 65_535) => format!("{least} or more arguments"),
        (least, most) => format!("{least} to {most} arguments"),
    };
    Err(type_error(format!("`{name}` takes {wanted}, not {}", args.len())))
}

/// The argument as text.
pub(super) fn text<'v>(name: &str, args: &'v [Value], at: usize) -> Result<&'v str> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(name, "a string", other)),
    }
}

/// The argument as a whole number.
pub(super) fn int(name: &str, args: &[Value], at: usize) -> Result<i64> {
    match args.get(at) {
        Some(Value::Int(number)) => Ok(*number),
        other => Err(wrong(name, "an int", other)),
    }
}

#[cold]
pub(super) fn wrong(name: &str, wanted: &str, got: Option<&Value>) -> Raise {
    let got = got.map_or("nothing", Value::type_name);
    type_error(format!("`{name}` wants {wanted}, not {got}"))
}

/// Patterns that have been read: what is lost when a run moves is read again.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<(String, Arc<Pattern>)>);

impl Patterns {
    /// Whether a pattern matches somewhere in a text. Linear in the text.
    pub(super) fn matches(
        &mut self,
        text: &Text,
        pattern: &str,
        meter: &mut Meter,
    ) -> Result<Value> {
        // The cost does not depend on what happens to have been read already.
        meter.work(200 + pattern.len() as u64)?;
        let known = self.0.iter().find(|(known, _)| known == pattern);
        let read = match known {
            Some((_, read)) => Arc::clone(read),
            None => {
                let read = Arc::new(Pattern::new(pattern)?);
                if self.0.len() >= 16 {
                    self.0.remove(0);
                }
                self.0.push((pattern.to_owned(), Arc::clone(&read)));
                read
            }
        };
        meter.long(|| Search::new(&read, text))
    }
}

/// Calls a builtin.
pub(super) fn call(
    builtin: Builtin,
    args: &[Value],
    patterns: &mut Patterns,
    meter: &mut Meter,
) -> Result<Value> {
    let (name, least, most) = builtin.arity();
    arity(name, args, least, most)?;
    let first = &args[0];
    match builtin {
        Builtin::Len => methods::length(first, meter)?
            .ok_or_else(|| wrong(name, "a string, an array, a map or bytes", Some(first))),
        Builtin::Format => format_text(args, meter),
        Builtin::ParseJson => {
            text(name, args, 0)?;
            let Value::String(source) = first else { return Ok(Value::Null) };
            meter.long(|| Reader::new(source.clone()))
        }
        Builtin::ToJson => json(first, meter),
        Builtin::ParseCsv => {
            text(name, args, 0)?;
            let Value::String(source) = first else { return Ok(Value::Null) };
            meter.long(|| Csv::new(source))
        }
        Builtin::TypeOf => Ok(Value::from(first.type_name())),
        Builtin::Range => match args.len() {
            1 => Ok(Value::Range(0, int(name, args, 0)?)),
            _ => Ok(Value::Range(int(name, args, 0)?, int(name, args, 1)?)),
        },
        Builtin::Min => extreme(name, args, Ordering::Less, meter),
        Builtin::Max => extreme(name, args, Ordering::Greater, meter),
        Builtin::Abs => {
            methods::abs(first).unwrap_or_else(|| Err(wrong(name, "a number", Some(first))))
        }
        Builtin::Round => methods::round(name, first, args.get(1)),
        Builtin::Floor | Builtin::Ceil => methods::round(name, first, None),
        Builtin::Sum => sum(first, meter),
        Builtin::Sort => {
            methods::sort(first, meter)?.ok_or_else(|| wrong(name, "an array", Some(first)))
        }
        Builtin::Reverse => methods::reverse(first, meter)?
            .ok_or_else(|| wrong(name, "an array or a string", Some(first))),
        Builtin::Zip => {
            let length = |at: usize| {
                let length = args[at].list_length();
                length.ok_or_else(|| wrong(name, "an array", args.get(at)))
            };
            let count = length(0)?.min(length(1)?);
            meter.array(count)?;
            meter.allocate((super::meter::ARRAY + 2 * VALUE) * count as u64)?;
            let pair = |at| Some(Value::array([first.element(at)?, args[1].element(at)?]));
            methods::finished((0..count).filter_map(pair).collect())
        }
        Builtin::Keys | Builtin::Values | Builtin::Entries => {
            methods::of_map(first, name, meter)?.ok_or_else(|| wrong(name, "a map", Some(first)))
        }
        Builtin::Hash => {
            let of = match first {
                Value::String(_) | Value::Bytes(_) => first.clone(),
                Value::Secret(_) => {
                    return Err(wrong(name, "something that may be shown", Some(first)));
                }
                other => json(other, meter)?,
            };
            meter.work(20)?;
            meter.long(|| Change::of(&of, How::Hash(Sha256::new())))
        }
        Builtin::Base64 => match first {
            Value::String(_) | Value::Bytes(_) => meter.long(|| Change::of(first, How::Base64)),
            other => Err(wrong(name, "a string or bytes", Some(other))),
        },
        Builtin::RegexMatch => {
            text(name, args, 0)?;
            let pattern = text(name, args, 1)?;
            let Value::String(subject) = first else { return Ok(Value::Null) };
            patterns.matches(subject, pattern, meter)
        }
        Builtin::Error => {
            let message = shown(first, meter)?;
            let kind = if args.len() > 1 { text(name, args, 1)? } else { "Error" };
            Ok(Value::from(ErrorValue::new(kind, message)))
        }
        Builtin::Assert => {
            if first.is_true() {
                return Ok(Value::Null);
            }
            let message = match args.get(1) {
                Some(message) => shown(message, meter)?,
                None => Text::from("the assertion does not hold"),
            };
            Err(raise("AssertionFailed", message))
        }
    }
}

/// A value as text, paid for. What was written before it got too long is paid for as well, or
/// catching the error would make it free.
pub(super) fn shown(value: &Value, meter: &mut Meter) -> Result<Text> {
    let limit = meter.text_limit();
    match meter.long(|| Write::new(value, Form::Shown, limit))? {
        Value::String(text) => Ok(text),
        _ => Ok(Text::default()),
    }
}

/// A value as JSON, paid for in the same way.
fn json(value: &Value, meter: &mut Meter) -> Result<Value> {
    let limit = meter.text_limit();
    meter.long(|| Write::new(value, Form::Json, limit))
}

fn format_text(args: &[Value], meter: &mut Meter) -> Result<Value> {
    let pattern = text("format", args, 0)?;
    meter.bulk(pattern.len())?;
    let mut values = args[1..].iter();
    let mut out = String::new();
    let mut secret = None;
    let mut rest = pattern;
    let braces = memchr::memmem::Finder::new("{}");
    while let Some(at) = braces.find(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        match values.next() {
            Some(Value::Secret(part)) => {
                secret.get_or_insert_with(|| Arc::clone(&part.path));
                out.push_str(&part.text);
            }
            Some(value) => out.push_str(&shown(value, meter)?),
            None => return Err(type_error("`format` has more braces than values")),
        }
        meter.fits(out.len())?;
    }
    if values.next().is_some() {
        return Err(type_error("`format` has more values than braces"));
    }
    out.push_str(rest);
    meter.text(out.len())?;
    Ok(match secret {
        Some(path) => Value::Secret(Arc::new(crate::value::Secret { path, text: out.into() })),
        None => Value::from(out),
    })
}

fn extreme(name: &str, args: &[Value], wanted: Ordering, meter: &mut Meter) -> Result<Value> {
    let nothing = || type_error(format!("`{name}` of nothing"));
    let better: fn(&mut Value, &Value, &mut Meter) -> Result = match wanted {
        Ordering::Less => |best, next, _| prefer(best, next, Ordering::Less),
        _ => |best, next, _| prefer(best, next, Ordering::Greater),
    };
    match args {
        [Value::Range(from, to)] if from < to => {
            Ok(Value::Int(if wanted == Ordering::Less { *from } else { to - 1 }))
        }
        [Value::Range(..)] => Err(nothing()),
        [Value::Array(items)] => {
            super::work::orderable(items)?;
            let first = items.first().ok_or_else(nothing)?;
            meter.long(|| Fold::new(items, 1, first.clone(), better))
        }
        several => {
            super::work::orderable(several)?;
            let (first, others) = several.split_first().ok_or_else(nothing)?;
            meter.work(others.len() as u64 / 2)?;
            let mut best = first.clone();
            others.iter().try_for_each(|next| better(&mut best, next, meter))?;
            Ok(best)
        }
    }
}

/// Takes the next value for the best one if it is on the wanted side of it.
fn prefer(best: &mut Value, next: &Value, wanted: Ordering) -> Result {
    let order = next.order(best).ok_or_else(|| super::operators::no_order(next, best))?;
    if order == wanted {
        *best = next.clone();
    }
    Ok(())
}

fn sum(value: &Value, meter: &mut Meter) -> Result<Value> {
    if let Value::Range(from, to) = value {
        let count = (i128::from(*to) - i128::from(*from)).max(0);
        // Neighbours from both ends: half as many pairs of the same sum.
        let total = (i128::from(*from) + i128::from(*to) - 1) * count / 2;
        return i64::try_from(total).map(Value::Int).map_err(|_| arithmetic("`+` overflows"));
    }
    let Value::Array(items) = value else { return Err(wrong("sum", "an array", Some(value))) };
    let nothing = match items.first() {
        Some(Value::Duration(_)) => Value::Duration(Duration::ZERO),
        Some(Value::Size(_)) => Value::Size(0),
        _ => Value::Int(0),
    };
    let add = |total: &mut Value, item: &Value, meter: &mut Meter| match item {
        Value::Int(_) | Value::Float(_) | Value::Duration(_) | Value::Size(_) => {
            apply(BinaryOp::Add, total, item, meter)
        }
        other => {
            let shown = clipped(other.type_name());
            Err(type_error(format!("`sum` adds numbers, not {shown}")))
        }
    };
    meter.long(|| Fold::new(items, 0, nothing, add))
}
