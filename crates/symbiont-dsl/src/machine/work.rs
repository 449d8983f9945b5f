//! Methods whose work is done piece by piece.
//!
//! What walks through a long array or text would keep a host waiting if it were one instruction.
//! So it is a function of its own, like those of the prelude, whose one instruction does a stride
//! and is done again until nothing is left. All that it knows between two strides is in its slots:
//! it can be interrupted, and saved, like any other function. Short ones are done at once, by the
//! same code.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::builtins::shown;
use super::meter::{ARRAY, Meter, Result, TEXT, VALUE, raise, type_error};
use super::operators::{check_depth, no_order};
use crate::value::{Array, Map, Text, Value};

/// How many elements are gone through in one go.
const STRIDE: usize = 4_096;

/// What is done piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Sort,
    Reverse,
    Zip,
    Entries,
    Lines,
    Chars,
    Join,
}

impl Work {
    /// All, by number.
    pub(super) const ALL: [Work; 7] =
        [Work::Sort, Work::Reverse, Work::Zip, Work::Entries, Work::Lines, Work::Chars, Work::Join];

    /// Its name, and how many values it takes, the one that it is a method of included.
    pub(super) fn face(self) -> (&'static str, usize) {
        match self {
            Work::Sort => ("sort", 1),
            Work::Reverse => ("reverse", 1),
            Work::Zip => ("zip", 2),
            Work::Entries => ("entries", 1),
            Work::Lines => ("lines", 1),
            Work::Chars => ("chars", 1),
            Work::Join => ("join", 2),
        }
    }

    /// The work that a call of this name means, if there is so much of it that it is done piece by
    /// piece. What is wrong with the arguments is found where it is done at once.
    pub(super) fn of(name: &str, values: &[Value]) -> Option<Work> {
        let long = match values.first()? {
            Value::Map(map) => map.len() > STRIDE,
            Value::String(text) => text.len() > STRIDE,
            list => list.list_length().is_some_and(|length| length > STRIDE),
        };
        if !long {
            return None;
        }
        let list = |value: &Value| value.list_length().is_some();
        let text = |value: &Value| matches!(value, Value::String(text) if !text.is_empty());
        Work::ALL.into_iter().find(|work| {
            work.face() == (name, values.len())
                && match work {
                    Work::Sort | Work::Reverse => list(&values[0]),
                    Work::Zip => values.iter().all(list),
                    Work::Entries => matches!(values[0], Value::Map(_)),
                    Work::Lines | Work::Chars => text(&values[0]),
                    Work::Join => list(&values[0]) && matches!(values[1], Value::String(_)),
                }
        })
    }

    /// Does one stride. Its slots are what it was given, how far it has come, and what it has made.
    /// Gives the result when nothing is left.
    pub(super) fn stride(self, slots: &mut [Value], meter: &mut Meter) -> Result<Option<Value>> {
        let [whole, other, at, made, rest] = slots else {
            return Err(type_error("work without its slots"));
        };
        let start = match at {
            Value::Int(at) => usize::try_from(*at).unwrap_or(usize::MAX),
            _ => {
                *made = match self {
                    Work::Join => Value::from(String::new()),
                    _ => Value::from(Vec::new()),
                };
                0
            }
        };
        let next = match (self, &mut *made) {
            (Work::Sort, Value::Array(array)) => {
                let array = Arc::make_mut(array);
                return sort(whole, other, at, start, array, rest, meter);
            }
            (Work::Join, Value::String(text)) => join(whole, other, start, text, meter)?,
            (_, Value::Array(array)) => {
                let array = Arc::make_mut(array);
                match (self, &*whole, &*other) {
                    (Work::Lines, Value::String(text), _) => lines(text, start, array, meter)?,
                    (Work::Chars, Value::String(text), _) => chars(text, start, array, meter)?,
                    (Work::Entries, Value::Map(map), _) => entries(map, start, array, meter)?,
                    (Work::Zip, ..) => zip(whole, other, start, array, meter)?,
                    _ => reverse(whole, start, array, meter)?,
                }
            }
            _ => return Err(type_error("work without its slots")),
        };
        *at = next.map_or(Value::Null, |next| Value::Int(i64::try_from(next).unwrap_or(i64::MAX)));
        if next.is_some() {
            return Ok(None);
        }
        let made = std::mem::take(made);
        check_depth(made.depth())?;
        Ok(Some(made))
    }
}

/// The length of an array.
pub(super) fn length(list: &Value) -> usize {
    list.list_length().unwrap_or(0)
}

/// An element of an array.
pub(super) fn element(list: &Value, at: usize) -> Value {
    list.element(at).unwrap_or_default()
}

/// Where the next stride starts, if there is more.
fn onward(start: usize, length: usize) -> (usize, Option<usize>) {
    let end = start.saturating_add(STRIDE).min(length);
    (end, (end < length).then_some(end))
}

fn reverse(
    list: &Value,
    start: usize,
    out: &mut Array,
    meter: &mut Meter,
) -> Result<Option<usize>> {
    let length = length(list);
    let (end, next) = onward(start, length);
    let count = end.saturating_sub(start);
    meter.list(length)?;
    meter.bulk(count)?;
    meter.allocate(VALUE * count as u64)?;
    (start..end).for_each(|at| out.push(element(list, length - 1 - at)));
    Ok(next)
}

fn zip(
    a: &Value,
    b: &Value,
    start: usize,
    out: &mut Array,
    meter: &mut Meter,
) -> Result<Option<usize>> {
    let length = length(a).min(length(b));
    let (end, next) = onward(start, length);
    let count = end.saturating_sub(start) as u64;
    meter.list(length)?;
    meter.work(count)?;
    meter.allocate((ARRAY + 3 * VALUE) * count)?;
    (start..end).for_each(|at| out.push(Value::array([element(a, at), element(b, at)])));
    Ok(next)
}

fn entries(map: &Map, start: usize, out: &mut Array, meter: &mut Meter) -> Result<Option<usize>> {
    let (end, next) = onward(start, map.len());
    let count = end.saturating_sub(start) as u64;
    meter.work(count)?;
    meter.allocate((ARRAY + 3 * VALUE) * count)?;
    for (key, value) in (start..end).filter_map(|at| map.get_index(at)) {
        out.push(Value::array([Value::from(Arc::clone(key)), value.clone()]));
    }
    Ok(next)
}

/// Pays for a piece of a text, and takes it in.
pub(super) fn piece(piece: &str, out: &mut Array, meter: &mut Meter) -> Result {
    meter.allocate(VALUE + TEXT + piece.len() as u64)?;
    out.push(Value::from(piece));
    Ok(())
}

/// The text from where the last stride ended. Every stride ends between two characters.
fn rest_of(text: &str, start: usize) -> &str {
    text.get(start..).unwrap_or_default()
}

fn lines(text: &str, start: usize, out: &mut Array, meter: &mut Meter) -> Result<Option<usize>> {
    let mut at = start;
    for line in rest_of(text, start).split_inclusive('\n').take(STRIDE) {
        at += line.len();
        let line = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
        piece(line, out, meter)?;
    }
    meter.bulk(at - start)?;
    meter.work((STRIDE / 4) as u64)?;
    meter.list(out.len())?;
    Ok((at < text.len()).then_some(at))
}

fn chars(text: &str, start: usize, out: &mut Array, meter: &mut Meter) -> Result<Option<usize>> {
    let mut at = start;
    meter.work((STRIDE / 2) as u64)?;
    for letter in rest_of(text, start).chars().take(STRIDE) {
        at += letter.len_utf8();
        piece(letter.encode_utf8(&mut [0; 4]), out, meter)?;
    }
    meter.list(out.len())?;
    Ok((at < text.len()).then_some(at))
}

fn join(
    list: &Value,
    separator: &Value,
    start: usize,
    out: &mut Text,
    meter: &mut Meter,
) -> Result<Option<usize>> {
    let (end, next) = onward(start, length(list));
    let separator = separator.as_str().unwrap_or_default();
    if let Value::Range(..) = list {
        meter.fits(length(list))?; // A number has a digit at least.
    }
    // An element may take long itself, and then all of this is done again.
    let mut joined = String::new();
    meter.work(end.saturating_sub(start) as u64 / 4)?;
    for at in start..end {
        if at > 0 {
            joined.push_str(separator);
        }
        match element(list, at) {
            Value::String(part) => joined.push_str(&part),
            other => joined.push_str(&shown(&other, meter)?),
        }
        meter.fits(out.len() + joined.len())?;
    }
    meter.bulk(joined.len())?;
    meter.allocate(joined.len() as u64)?;
    out.push_str(&joined);
    Ok(next)
}

// Sorting: strides are sorted each by itself, and then merged, all at once.

/// The most bytes of text that are put in order.
const MOST_TEXT: usize = 8 << 20;

/// That all texts together are short enough to be put in order: each is compared as a whole.
pub(super) fn orderable(values: &[Value]) -> Result {
    let total: usize = values.iter().map(|value| value.as_str().map_or(0, str::len)).sum();
    if total > MOST_TEXT {
        let message = format!("texts of more than {} MiB in all have no order", MOST_TEXT >> 20);
        return Err(raise("LimitExceeded", message));
    }
    Ok(())
}

/// The order that sorting goes by, of values that have passed [`mixable`]. NaN is put last, so that
/// there is one order.
pub(super) fn sort_order(a: &Value, b: &Value) -> Ordering {
    let is_nan = |value: &Value| matches!(value, Value::Float(number) if number.is_nan());
    a.order(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

/// That values can all be put in one order. An int has one with floats and with sizes, and a float
/// has none with a size.
pub(super) fn mixable(values: &[Value]) -> Result {
    let kind = |value: &Value| match value {
        Value::Int(_) => 0,
        Value::Float(_) => 1,
        Value::Size(_) => 2,
        Value::String(_) => 3,
        Value::Duration(_) => 4,
        Value::Time(_) => 5,
        Value::Bool(_) => 6,
        _ => 7,
    };
    // An int says nothing of what may be beside it.
    let Some(first) = values.iter().find(|value| kind(value) != 0).or_else(|| values.first())
    else {
        return Ok(());
    };
    let numbers = kind(first) <= 2;
    let odd = values.iter().find(|value| match kind(value) {
        0 => !numbers,
        7 => values.len() > 1,
        kind_of_it => kind_of_it != kind(first),
    });
    match odd {
        Some(odd) => Err(no_order(odd, first)),
        None => Ok(()),
    }
}

/// The first of what is left of a stride, in a heap that gives the least.
struct Head<'v> {
    value: &'v Value,
    run: usize,
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Among equals the one that stood first: sorting is stable.
        sort_order(self.value, other.value).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

/// What comparing values with others costs once, in steps beyond one for each.
pub(super) fn comparing(values: &[Value]) -> u64 {
    values.iter().map(|value| value.as_str().map_or(0, str::len) as u64 / 64).sum()
}

/// One stride of sorting. While `rest` is no array, `whole` is copied into `made` in sorted runs,
/// and `witness` is one of those values that says what can be beside it; then `whole` is those runs, `rest` says how far each of them has been taken, and `made` is what
/// has been merged.
fn sort(
    whole: &mut Value,
    witness: &mut Value,
    at: &mut Value,
    start: usize,
    made: &mut Array,
    rest: &mut Value,
    meter: &mut Meter,
) -> Result<Option<Value>> {
    let length = length(whole);
    let (end, next) = onward(start, length);
    let count = end.saturating_sub(start);
    let number = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let Value::Array(taken) = rest else {
        meter.list(length)?;
        if let (0, Value::Array(items)) = (start, &*whole) {
            orderable(items)?;
        }
        meter.allocate(2 * VALUE * count as u64)?;
        let mut run: Vec<Value> = (start..end).map(|at| element(whole, at)).collect();
        meter.work((count as u64 + comparing(&run)) * 3)?;
        // Whoever has an order with the witness has one with all that came before.
        if start > 0 {
            run.push(std::mem::take(witness));
        }
        mixable(&run)?;
        *witness =
            run.iter().find(|v| !matches!(v, Value::Int(_))).unwrap_or(&Value::Int(0)).clone();
        run.truncate(count);
        run.sort_by(sort_order);
        run.into_iter().for_each(|value| made.push(value));
        match next {
            Some(next) => *at = number(next),
            None => {
                *whole = Value::from(std::mem::take(made).into_items());
                *rest = Value::array((0..length.div_ceil(STRIDE)).map(|_| Value::Int(0)));
                *at = Value::Int(0);
            }
        }
        return Ok(None);
    };
    let Value::Array(runs) = &*whole else { return Err(type_error("work without its slots")) };
    let mut taken: Vec<usize> = (taken.iter())
        .map(|taken| match taken {
            Value::Int(taken) => usize::try_from(*taken).unwrap_or(usize::MAX),
            _ => usize::MAX,
        })
        .collect();
    let run_of = |run: usize| runs.chunks(STRIDE).nth(run).unwrap_or_default();
    let levels = u64::from(taken.len().max(1).ilog2()) + 1;
    let mut heap: BinaryHeap<Reverse<Head<'_>>> = (taken.iter().enumerate())
        .filter_map(|(run, taken)| Some(Reverse(Head { value: run_of(run).get(*taken)?, run })))
        .collect();
    meter.work((taken.len() + count) as u64 * levels / 4)?;
    for _ in 0..count {
        let Some(Reverse(head)) = heap.pop() else { break };
        meter.work(comparing(std::slice::from_ref(head.value)) * levels / 4)?;
        made.push(head.value.clone());
        taken[head.run] += 1;
        if let Some(value) = run_of(head.run).get(taken[head.run]) {
            heap.push(Reverse(Head { value, run: head.run }));
        }
    }
    *rest = Value::array(taken.into_iter().map(number));
    match next {
        Some(next) => {
            *at = number(next);
            Ok(None)
        }
        None => Ok(Some(Value::from(std::mem::take(made).into_items()))),
    }
}
