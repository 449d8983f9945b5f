//! Operators, members, elements and places.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem::Finder;

use super::builtins::shown;
use super::code::{Part, Place};
use super::jobs::{Append, Change, Find, How, Join};
use super::meter::{ENTRY, Meter, Raise, Result, TEXT, VALUE, arithmetic, raise, type_error};
use super::methods;
use crate::hir::BinaryOp;
use crate::value::{Array, MAX_DEPTH, Map, Reader, Same, Secret, Text, Value, Writer};

/// More elements than are put into an array or a map in one go.
pub(super) const MANY: usize = 1 << 14;

/// The longest text that others are searched for.
const LONGEST_PART: usize = 1 << 20;

/// A value that holds others of this depth.
pub(super) fn check_depth(depth: u32) -> Result {
    if depth > MAX_DEPTH {
        let message = format!("values nested more than {MAX_DEPTH} deep");
        return Err(raise("LimitExceeded", message));
    }
    Ok(())
}

/// Integers on both sides: the common case. `None` where the general way has to say what is wrong.
#[inline(always)]
pub(super) fn integers(op: BinaryOp, a: i64, b: i64) -> Option<Value> {
    Some(match op {
        BinaryOp::Add => Value::Int(a.checked_add(b)?),
        BinaryOp::Subtract => Value::Int(a.checked_sub(b)?),
        BinaryOp::Multiply => Value::Int(a.checked_mul(b)?),
        BinaryOp::Divide => Value::Int(a.checked_div(b)?),
        BinaryOp::Remainder => Value::Int(a.checked_rem(b)?),
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::Greater
        | BinaryOp::LessOrEqual
        | BinaryOp::GreaterOrEqual => Value::Bool(integers_compare(op, a, b)?),
        BinaryOp::Or | BinaryOp::And | BinaryOp::In | BinaryOp::NotIn => return None,
    })
}

#[inline(always)]
pub(super) fn integers_compare(op: BinaryOp, a: i64, b: i64) -> Option<bool> {
    Some(match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::Greater => a > b,
        BinaryOp::LessOrEqual => a <= b,
        BinaryOp::GreaterOrEqual => a >= b,
        BinaryOp::Or
        | BinaryOp::And
        | BinaryOp::In
        | BinaryOp::NotIn
        | BinaryOp::Add
        | BinaryOp::Subtract
        | BinaryOp::Multiply
        | BinaryOp::Divide
        | BinaryOp::Remainder => return None,
    })
}

/// `left = left op right`. On an error `left` is as it was.
pub(super) fn apply(op: BinaryOp, left: &mut Value, right: &Value, meter: &mut Meter) -> Result {
    if let (Value::Int(a), Value::Int(b)) = (&*left, right)
        && let Some(value) = integers(op, *a, *b)
    {
        *left = value;
        return Ok(());
    }
    *left = match op {
        BinaryOp::Add => return add(left, right, meter),
        BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
            arithmetic_of(op, left, right)?
        }
        BinaryOp::Equal => Value::Bool(equal(left, right, meter)?),
        BinaryOp::NotEqual => Value::Bool(!equal(left, right, meter)?),
        BinaryOp::In => Value::Bool(contains(right, left, meter)?),
        BinaryOp::NotIn => Value::Bool(!contains(right, left, meter)?),
        BinaryOp::Less | BinaryOp::Greater | BinaryOp::LessOrEqual | BinaryOp::GreaterOrEqual => {
            Value::Bool(compare(op, left, right, meter)?)
        }
        BinaryOp::And => Value::Bool(left.is_true() && right.is_true()),
        BinaryOp::Or => Value::Bool(left.is_true() || right.is_true()),
    };
    Ok(())
}

/// Equality, paid for.
pub(super) fn equal(a: &Value, b: &Value, meter: &mut Meter) -> Result<bool> {
    comparable(a, b, meter)?;
    meter.long(|| Same::new(a, b)).map(|same| same.is_true())
}

fn compare(op: BinaryOp, a: &Value, b: &Value, meter: &mut Meter) -> Result<bool> {
    if let (Value::String(a), Value::String(b)) = (a, b) {
        meter.bulk(a.len().min(b.len()) / 4)?;
    }
    let is_nan = |value: &Value| matches!(value, Value::Float(number) if number.is_nan());
    let Some(order) = a.order(b) else {
        if is_nan(a) || is_nan(b) {
            return Ok(false);
        }
        return Err(no_order(a, b));
    };
    Ok(match op {
        BinaryOp::Less => order == Ordering::Less,
        BinaryOp::Greater => order == Ordering::Greater,
        BinaryOp::LessOrEqual => order != Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// That neither of two values comes before the other.
#[cold]
pub(super) fn no_order(a: &Value, b: &Value) -> super::meter::Raise {
    let (of_a, of_b) = (a.type_name(), b.type_name());
    type_error(match (a, b) {
        (Value::Null, Value::Null) => "null is neither less nor greater than null".to_owned(),
        (Value::Null, _) => format!("null is neither less nor greater than {of_b}"),
        (_, Value::Null) => format!("null is neither less nor greater than {of_a}"),
        _ if of_a == of_b => format!("{of_a} has no order"),
        _ => format!("{of_a} and {of_b} have no order"),
    })
}

/// That two values are not to be compared, where that is asked.
fn comparable(a: &Value, b: &Value, meter: &Meter) -> Result {
    match meter.comparable {
        Some(comparable) if !comparable(a, b) => {
            let (a, b) = (a.type_name(), b.type_name());
            Err(type_error(format!("{a} is not compared with {b} here")))
        }
        Some(_) | None => Ok(()),
    }
}

/// `item in whole`
pub(super) fn contains(whole: &Value, item: &Value, meter: &mut Meter) -> Result<bool> {
    let found = is_in(whole, item, meter)?;
    if found || meter.comparable.is_none() {
        return Ok(found);
    }
    match whole {
        Value::Array(items) => {
            meter.bulk(items.len())?;
            items.iter().try_for_each(|other| comparable(item, other, meter))?;
        }
        Value::Range(from, to) if from < to => comparable(item, &Value::Int(*from), meter)?,
        Value::Map(_) => comparable(item, &Value::String(Text::default()), meter)?,
        _ => {}
    }
    Ok(false)
}

fn is_in(whole: &Value, item: &Value, meter: &mut Meter) -> Result<bool> {
    match (whole, item) {
        (Value::Array(items), _) => meter.long(|| Find::new(items, item)).map(|is| is.is_true()),
        (Value::Range(from, to), item) => {
            let number = match item {
                Value::Int(number) => Some(*number),
                Value::Float(number) => methods::whole_number(*number),
                Value::Size(bytes) => i64::try_from(*bytes).ok(),
                _ => None,
            };
            let same = |number: &i64| Value::Int(*number).order(item) == Some(Ordering::Equal);
            Ok(number.filter(same).is_some_and(|number| *from <= number && number < *to))
        }
        (Value::Map(map), Value::String(key)) => Ok(map.contains_key(key.as_str())),
        (Value::Map(_), _) => Ok(false),
        (Value::String(_), Value::String(part)) => {
            let finder = finder(part)?;
            meter.long(|| Change::of(whole, How::Holds(finder))).map(|holds| holds.is_true())
        }
        (whole, item) => Err(type_error(format!(
            "`in` asks an array, a map or a string, not {} for {}",
            whole.type_name(),
            item.type_name()
        ))),
    }
}

/// What finds a part of a text. It takes longer to make than to use.
pub(super) fn finder(part: &str) -> Result<Box<Finder<'static>>> {
    if part.len() > LONGEST_PART {
        let message = format!("what is looked for in a text has at most {LONGEST_PART} bytes");
        return Err(raise("LimitExceeded", message));
    }
    Ok(Box::new(Finder::new(part.as_bytes()).into_owned()))
}

/// The text of what may stand beside a string with `+`.
fn beside_text(value: &Value) -> Option<String> {
    match value {
        Value::Int(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Time(_) => {
            let mut writer = Writer::shown(value, 256);
            writer.go_on(256).ok()?;
            Some(writer.into_text())
        }
        _ => None,
    }
}

/// How long a text is whose copy is not made in one go.
const LARGE: usize = 1 << 20;

/// Appends to a text; `own` makes a text of its own of what is appended, for work that goes on.
fn append(left: &mut Text, right: &str, own: impl FnOnce() -> Text, meter: &mut Meter) -> Result {
    if left.append_copies() {
        if left.is_shared() {
            meter.alone()?;
        }
        if left.len() + right.len() > LARGE {
            meter.fits(left.len() + right.len())?;
            let joined = meter.long(|| Append::new(left.clone(), own()))?;
            meter.allocate(TEXT + (left.len() + right.len()) as u64)?;
            if let Value::String(joined) = joined {
                *left = joined;
            }
            return Ok(());
        }
        meter.text(left.len() + right.len())?;
    } else {
        meter.bulk(right.len())?;
        meter.allocate(right.len() as u64)?;
        meter.fits(left.len() + right.len())?;
    }
    left.push_str(right);
    Ok(())
}

fn secret(path: &Arc<str>, parts: [&str; 2], meter: &mut Meter) -> Result<Value> {
    meter.text(parts[0].len() + parts[1].len())?;
    let text = parts.concat();
    Ok(Value::Secret(Arc::new(Secret { path: Arc::clone(path), text: Arc::from(text) })))
}

fn add(left: &mut Value, right: &Value, meter: &mut Meter) -> Result {
    let sum = match (&mut *left, right) {
        (Value::String(a), Value::String(b)) => return append(a, b, || b.clone(), meter),
        (Value::Array(_) | Value::Range(..), Value::Array(_) | Value::Range(..)) => {
            return add_lists(left, right, meter);
        }
        (Value::Secret(a), Value::Secret(b)) => secret(&a.path, [&a.text, &b.text], meter)?,
        (Value::Secret(a), Value::String(b)) => secret(&a.path, [&a.text, b], meter)?,
        (Value::String(a), Value::Secret(b)) => secret(&b.path, [a, &b.text], meter)?,
        (Value::String(a), b) => match beside_text(b) {
            Some(text) => return append(a, &text, || Text::from(text.as_str()), meter),
            None => return Err(mismatch("+", left, right)),
        },
        (a, Value::String(b)) => match beside_text(a) {
            Some(mut text) => {
                meter.text(text.len() + b.len())?;
                text.push_str(b);
                Value::from(text)
            }
            None => return Err(mismatch("+", left, right)),
        },
        (a, b) => arithmetic_of(BinaryOp::Add, a, b)?,
    };
    *left = sum;
    Ok(())
}

fn add_lists(left: &mut Value, right: &Value, meter: &mut Meter) -> Result {
    let [a, b] = [&*left, right].map(|list| list.list_length().unwrap_or(0));
    let length = a.saturating_add(b);
    check_depth(right.depth())?;
    meter.list(length)?;
    match (&mut *left, right) {
        (Value::Array(array), Value::Array(more)) if b <= MANY => {
            meter.array(b)?;
            own(array, meter)?;
            let array = Arc::make_mut(array);
            array.deepen(more.deepest());
            array.items_mut().extend_from_slice(more);
        }
        (left, right) => {
            let sum = meter.long(|| Join::arrays(left, right))?;
            meter.allocate(VALUE * length as u64)?;
            *left = sum;
        }
    }
    Ok(())
}

#[cold]
fn mismatch(sign: &str, a: &Value, b: &Value) -> super::meter::Raise {
    type_error(format!("`{sign}` does not go with {} and {}", a.type_name(), b.type_name()))
}

#[expect(clippy::cast_precision_loss, reason = "an int beside a float becomes a float")]
fn arithmetic_of(op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
    let sign = match op {
        BinaryOp::Add => "+",
        BinaryOp::Subtract => "-",
        BinaryOp::Multiply => "*",
        BinaryOp::Divide => "/",
        _ => "%",
    };
    let overflow = || overflow(sign);
    let by_zero = || arithmetic("division by zero");
    let divides = matches!(op, BinaryOp::Divide | BinaryOp::Remainder);
    let float = |a: f64, b: f64| {
        if divides && b == 0.0 {
            return Err(by_zero());
        }
        Ok(Value::Float(match op {
            BinaryOp::Add => a + b,
            BinaryOp::Subtract => a - b,
            BinaryOp::Multiply => a * b,
            BinaryOp::Divide => a / b,
            _ => a % b,
        }))
    };
    match (a, b) {
        (Value::Int(_), Value::Int(0)) if divides => Err(by_zero()),
        // The rest of what `integers` gave up on.
        (Value::Int(_), Value::Int(_)) => Err(overflow()),
        (Value::Float(a), Value::Float(b)) => float(*a, *b),
        (Value::Int(a), Value::Float(b)) => float(*a as f64, *b),
        (Value::Float(a), Value::Int(b)) => float(*a, *b as f64),
        (Value::Duration(a), Value::Duration(b)) => {
            let duration = match op {
                BinaryOp::Add => a.checked_add(*b),
                BinaryOp::Subtract => {
                    return a
                        .checked_sub(*b)
                        .map(Value::Duration)
                        .ok_or_else(|| negative("duration"));
                }
                BinaryOp::Divide => return float(a.as_secs_f64(), b.as_secs_f64()),
                BinaryOp::Remainder if b.is_zero() => return Err(by_zero()),
                BinaryOp::Remainder => nanoseconds(a.as_nanos() % b.as_nanos()),
                _ => return Err(mismatch(sign, &Value::Duration(*a), &Value::Duration(*b))),
            };
            duration.map(Value::Duration).ok_or_else(overflow)
        }
        (Value::Size(a), Value::Size(b)) => {
            let size = match op {
                BinaryOp::Add => a.checked_add(*b),
                BinaryOp::Subtract => {
                    return a.checked_sub(*b).map(Value::Size).ok_or_else(|| negative("size"));
                }
                BinaryOp::Divide => return float(*a as f64, *b as f64),
                BinaryOp::Remainder if *b == 0 => return Err(by_zero()),
                BinaryOp::Remainder => a.checked_rem(*b),
                _ => return Err(mismatch(sign, &Value::Size(*a), &Value::Size(*b))),
            };
            size.map(Value::Size).ok_or_else(overflow)
        }
        (Value::Duration(duration), Value::Int(n)) | (Value::Int(n), Value::Duration(duration))
            if op == BinaryOp::Multiply =>
        {
            let n = u128::try_from(*n).map_err(|_| negative("duration"))?;
            let product = duration.as_nanos().checked_mul(n);
            product.and_then(nanoseconds).map(Value::Duration).ok_or_else(overflow)
        }
        (Value::Duration(_), Value::Int(0)) if divides => Err(by_zero()),
        (Value::Duration(duration), Value::Int(n)) if op == BinaryOp::Divide => {
            let n = u128::try_from(*n).map_err(|_| negative("duration"))?;
            let quotient = duration.as_nanos().checked_div(n);
            quotient.and_then(nanoseconds).map(Value::Duration).ok_or_else(overflow)
        }
        (Value::Duration(duration), Value::Float(x))
        | (Value::Float(x), Value::Duration(duration))
            if op == BinaryOp::Multiply =>
        {
            scaled(duration.as_secs_f64() * x, sign)
        }
        (Value::Duration(_) | Value::Size(_), Value::Float(0.0)) if divides => Err(by_zero()),
        (Value::Duration(duration), Value::Float(x)) if op == BinaryOp::Divide => {
            scaled(duration.as_secs_f64() / x, sign)
        }
        (Value::Size(size), Value::Float(x)) | (Value::Float(x), Value::Size(size))
            if op == BinaryOp::Multiply =>
        {
            bytes(*size as f64 * x, sign)
        }
        (Value::Size(size), Value::Float(x)) if op == BinaryOp::Divide => {
            bytes(*size as f64 / x, sign)
        }
        (Value::Size(size), Value::Int(n)) | (Value::Int(n), Value::Size(size))
            if op == BinaryOp::Multiply =>
        {
            let n = u64::try_from(*n).map_err(|_| negative("size"))?;
            let product = size.checked_mul(n);
            product.map(Value::Size).ok_or_else(overflow)
        }
        (Value::Size(_), Value::Int(0)) if divides => Err(by_zero()),
        (Value::Size(size), Value::Int(n)) if op == BinaryOp::Divide => {
            let n = u64::try_from(*n).map_err(|_| negative("size"))?;
            let quotient = size.checked_div(n);
            quotient.map(Value::Size).ok_or_else(overflow)
        }
        (Value::Time(time), Value::Duration(duration))
        | (Value::Duration(duration), Value::Time(time))
            if op == BinaryOp::Add =>
        {
            let duration = i64::try_from(duration.as_nanos()).ok();
            duration.and_then(|d| time.checked_add(d)).map(Value::Time).ok_or_else(overflow)
        }
        (Value::Time(time), Value::Duration(duration)) if op == BinaryOp::Subtract => {
            let duration = i64::try_from(duration.as_nanos()).ok();
            duration.and_then(|d| time.checked_sub(d)).map(Value::Time).ok_or_else(overflow)
        }
        (Value::Time(a), Value::Time(b)) if op == BinaryOp::Subtract => {
            let between = u128::try_from(i128::from(*a) - i128::from(*b))
                .map_err(|_| negative("duration"))?;
            nanoseconds(between).map(Value::Duration).ok_or_else(overflow)
        }
        (a, b) => Err(mismatch(sign, a, b)),
    }
}

fn overflow(sign: &str) -> Raise {
    arithmetic(format!("`{sign}` overflows"))
}

fn negative(what: &str) -> Raise {
    arithmetic(format!("a {what} can't be negative"))
}

/// So many seconds, to the nearest nanosecond.
fn scaled(seconds: f64, sign: &str) -> Result<Value> {
    Duration::try_from_secs_f64(seconds)
        .map(Value::Duration)
        .map_err(|_| if seconds < 0.0 { negative("duration") } else { overflow(sign) })
}

/// So many bytes, to the nearest one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked first")]
fn bytes(bytes: f64, sign: &str) -> Result<Value> {
    const LIMIT: f64 = 18_446_744_073_709_551_616.0; // 2^64
    let nearest = bytes.round();
    match (0.0..LIMIT).contains(&nearest) {
        true => Ok(Value::Size(nearest as u64)),
        false if nearest < 0.0 => Err(negative("size")),
        false => Err(overflow(sign)),
    }
}

fn nanoseconds(nanoseconds: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanoseconds % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// `-value`
pub(super) fn negate(value: &Value) -> Result<Value> {
    match value {
        Value::Int(number) => {
            number.checked_neg().map(Value::Int).ok_or_else(|| arithmetic("`-` overflows"))
        }
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Duration(_) | Value::Size(_) => {
            Err(type_error(format!("a {} can't be negative", value.type_name())))
        }
        other => Err(type_error(format!("`-` does not go with {}", other.type_name()))),
    }
}

/// The position that an index means, if it is within `length`.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    let from_end = || length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
    let at = if index < 0 { from_end()? } else { usize::try_from(index).ok()? };
    (at < length).then_some(at)
}

#[cold]
fn out_of_range(index: i64, length: usize) -> super::meter::Raise {
    raise("IndexError", format!("no element {index} among {length}"))
}

/// `whole[index]`
pub(super) fn index(whole: &Value, index: &Value, meter: &mut Meter) -> Result<Value> {
    match (whole, index) {
        (Value::Array(items), Value::Int(index)) => position(*index, items.len())
            .map(|at| items[at].clone())
            .ok_or_else(|| out_of_range(*index, items.len())),
        (Value::Map(map), Value::String(key)) => map
            .get(key.as_str())
            .cloned()
            .ok_or_else(|| raise("KeyError", format!("no key `{}`", clipped(key)))),
        (Value::String(text), Value::Int(index)) => {
            meter.bulk(text.len())?;
            let found = if text.is_ascii() {
                position(*index, text.len()).and_then(|at| text.get(at..=at)).map(Value::from)
            } else {
                let at = position(*index, text.chars().count());
                at.and_then(|at| text.chars().nth(at)).map(|c| Value::from(String::from(c)))
            };
            meter.allocate(TEXT)?;
            found.ok_or_else(|| out_of_range(*index, text.chars().count()))
        }
        (Value::Range(..), Value::Int(index)) => {
            let length = whole.list_length().unwrap_or(0);
            let at = position(*index, length).and_then(|at| whole.element(at));
            at.ok_or_else(|| out_of_range(*index, length))
        }
        (Value::Secret(secret), Value::String(key)) => {
            meter.bulk(secret.text.len())?;
            let missing =
                || raise("KeyError", format!("the secret has no part `{}`", clipped(key)));
            let text = Text::from(Arc::clone(&secret.text));
            let json = meter.long(|| Reader::new(text)).map_err(|raise| match raise {
                // What is wrong with it would tell of it.
                Raise::Error(_) => missing(),
                other => other,
            })?;
            let Value::Map(map) = json else { return Err(missing()) };
            let part = map.get(key.as_str()).ok_or_else(missing)?;
            let text = Arc::from(shown(part, meter)?.as_str());
            Ok(Value::Secret(Arc::new(Secret { path: Arc::clone(&secret.path), text })))
        }
        (Value::Array(_) | Value::String(_) | Value::Range(..), other) => {
            Err(type_error(format!("an index is an int, not {}", other.type_name())))
        }
        (Value::Map(_) | Value::Secret(_), other) => {
            Err(type_error(format!("a key is a string, not {}", other.type_name())))
        }
        (other, _) => Err(type_error(format!("{} has no elements", other.type_name()))),
    }
}

/// A text for a message, not too long.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Makes a shared array this machine's own, and pays for the copy.
pub(super) fn own(array: &mut Arc<Array>, meter: &mut Meter) -> Result {
    if Arc::strong_count(array) > 1 {
        meter.alone()?;
        let copy = meter.long(|| Join::array(&Value::Array(Arc::clone(array))))?;
        meter.array(array.len())?;
        if let Value::Array(copy) = copy {
            *array = copy;
        }
        meter.commit();
    }
    Ok(())
}

/// Makes a range the array that it stands for, because that is to be changed, and pays for it.
pub(super) fn spread(value: &mut Value, meter: &mut Meter) -> Result {
    if let Value::Range(..) = value {
        let length = value.list_length().unwrap_or(0);
        meter.list(length)?;
        let array = meter.long(|| Join::array(value))?;
        meter.array(length)?;
        *value = array;
        meter.commit();
    }
    Ok(())
}

/// Makes a shared map this machine's own, and pays for the copy.
pub(super) fn own_map(map: &mut Arc<Map>, meter: &mut Meter) -> Result {
    if Arc::strong_count(map) > 1 {
        meter.alone()?;
        let none = Arc::default();
        let copy = meter.long(|| Join::maps(map, &none))?;
        meter.map(map.len())?;
        if let Value::Map(copy) = copy {
            *map = copy;
        }
        meter.commit();
    }
    Ok(())
}

/// Finds a place to put something of a depth into, or to change. `indexes` are what stood in
/// brackets, in order. With `create`, the last key is made where it is missing.
///
/// Nothing on the way is changed before it is known that the way exists.
pub(super) fn reach<'v>(
    root: &'v mut Value,
    place: &Place,
    indexes: &[Value],
    depth: u32,
    create: bool,
    meter: &mut Meter,
) -> Result<&'v mut Value> {
    let mut below = u32::try_from(place.parts.len()).unwrap_or(u32::MAX).saturating_add(depth);
    check_depth(below)?;
    let mut indexes = indexes.iter();
    let mut value = root;
    for (number, part) in place.parts.iter().enumerate() {
        if let Part::Index = part {
            spread(value, meter)?;
        }
        let last = number + 1 == place.parts.len();
        let bracket = match part {
            Part::Key(_) => None,
            Part::Index => indexes.next(),
        };
        value = match (value, part, bracket) {
            (Value::Map(map), part, bracket) => {
                let key: &str = match (part, bracket) {
                    (Part::Key(key), _) => key,
                    (Part::Index, Some(Value::String(key))) => key,
                    (Part::Index, other) => {
                        let other = other.map_or("nothing", Value::type_name);
                        return Err(type_error(format!("a key is a string, not {other}")));
                    }
                };
                own_map(map, meter)?;
                let present = map.contains_key(key);
                let made = last && create;
                if !present && !made {
                    // A missing member is null, and a missing element an error of its own.
                    return Err(match part {
                        Part::Key(_) => {
                            type_error(format!("`{}` is null: there is no such key", clipped(key)))
                        }
                        Part::Index => raise("KeyError", format!("no key `{}`", clipped(key))),
                    });
                }
                let map = Arc::make_mut(map);
                map.deepen(below);
                if present {
                    match map.entries_mut().get_mut(key) {
                        Some(value) => value,
                        None => return Err(raise("KeyError", "no such key")),
                    }
                } else {
                    meter.entries(map.len() + 1)?;
                    meter.allocate(ENTRY + key.len() as u64)?;
                    let key: Arc<str> = match (part, bracket) {
                        (Part::Key(key), _) => Arc::clone(key),
                        (Part::Index, Some(Value::String(key))) => key.to_key(),
                        (Part::Index, _) => Arc::from(key),
                    };
                    map.entries_mut().entry(key).or_insert(Value::Null)
                }
            }
            (Value::Array(array), Part::Index, Some(Value::Int(index))) => {
                let length = array.len();
                let at = position(*index, length).ok_or_else(|| out_of_range(*index, length))?;
                own(array, meter)?;
                let array = Arc::make_mut(array);
                array.deepen(below);
                &mut array.items_mut()[at]
            }
            (Value::Array(_), Part::Index, Some(other)) => {
                return Err(type_error(format!("an index is an int, not {}", other.type_name())));
            }
            (other, Part::Key(key), _) => {
                let other = other.type_name();
                return Err(type_error(format!("{other} has no member `{key}` to change")));
            }
            (other, Part::Index, _) => {
                let other = other.type_name();
                return Err(type_error(format!("{other} has no elements to change")));
            }
        };
        below -= 1;
    }
    Ok(value)
}
