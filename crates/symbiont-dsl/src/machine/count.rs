//! What is live: counting it, and copying what crosses between a machine and its host.
//!
//! Changing a value costs more when somebody else holds it too, so whoever else holds one would be
//! seen in a run's steps. Hence machine and host share nothing that can be changed: what crosses is
//! copied at the border, and what was one thing before the copy is one thing after it.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::long::Job;
use super::meter::{ARRAY, ENTRY, MAP, Meter, Result, TEXT, VALUE};
use crate::value::{Array, Closure, Form, LONGEST_LIST, Map, Text, Value};

/// How many values are gone through in one go.
const STRIDE: usize = 4_096;

/// Of how many values what is live is counted when a host asks.
const FEW: usize = 16 * STRIDE;

/// What is known of addresses, in many small tables: a large one takes long to grow.
#[derive(Debug)]
struct Seen<V>(Vec<HashMap<usize, V, RandomState>>);

impl<V> Default for Seen<V> {
    fn default() -> Self {
        Seen(Vec::new())
    }
}

impl<V> Seen<V> {
    fn table(&mut self, address: usize) -> &mut HashMap<usize, V, RandomState> {
        const TABLES: usize = 256;
        if self.0.is_empty() {
            self.0.resize_with(TABLES, HashMap::default);
        }
        &mut self.0[(address >> 4) % TABLES]
    }
}

fn address<T: ?Sized>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).cast::<u8>().addr()
}

/// The value at a position in another one, whatever it is.
fn inside(value: &Value, at: usize) -> Option<&Value> {
    match value {
        Value::Array(array) => array.get(at),
        Value::Map(map) => map.get_index(at).map(|(_, value)| value),
        Value::Function(closure) => closure.captured.get(at),
        Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) if at == 0 => Some(inner),
        _ => None,
    }
}

/// Counts the bytes behind values, what is shared only once.
#[derive(Debug)]
pub(super) struct Count {
    open: Vec<(Value, usize)>,
    bytes: u64,
    seen: Seen<()>,
}

impl Count {
    /// A count of what is behind these values.
    pub(super) fn of(values: impl Iterator<Item = Value>) -> Count {
        let roots = Value::array(values);
        Count { open: vec![(roots, 0)], bytes: 0, seen: Seen::default() }
    }

    fn first_time<T: ?Sized>(&mut self, shared: &Arc<T>) -> bool {
        let address = address(shared);
        Arc::strong_count(shared) == 1 || self.seen.table(address).insert(address, ()).is_none()
    }

    /// Counts so many values at most, and says how many it was.
    fn go_on(&mut self, most: usize) -> usize {
        for number in 0..most {
            let Some((value, at)) = self.open.last_mut() else { return number };
            let Some(next) = inside(value, *at) else {
                self.open.pop();
                continue;
            };
            if let Value::Map(map) = &*value
                && let Some((key, _)) = map.get_index(*at)
            {
                self.bytes += ENTRY - VALUE + key.len() as u64;
            }
            let next = next.clone();
            *at += 1;
            self.bytes += VALUE;
            self.meet(next);
        }
        most
    }

    /// Counts what a value holds, but not what that holds in turn.
    fn meet(&mut self, value: Value) {
        // It is held once more than it was.
        let first = match &value {
            Value::Bytes(bytes) => self.first_time(bytes),
            Value::Array(array) => self.first_time(array),
            Value::Map(map) => self.first_time(map),
            Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => self.first_time(inner),
            Value::Function(closure) => self.first_time(closure),
            Value::Error(error) => self.first_time(error),
            Value::Secret(secret) => self.first_time(secret),
            Value::String(text) => match text.form() {
                Form::Fixed(text) => self.first_time(text),
                Form::Grown(text) => self.first_time(text),
            },
            _ => return,
        };
        if !first {
            return;
        }
        let opened = match &value {
            Value::String(text) => {
                self.bytes += TEXT + text.len() as u64;
                false
            }
            Value::Bytes(bytes) => {
                self.bytes += TEXT + bytes.len() as u64;
                false
            }
            Value::Error(error) => {
                let operation = error.operation.as_ref().map_or(0, |text| text.len());
                self.bytes += 2 * TEXT + (error.message.len() + operation) as u64;
                false
            }
            Value::Secret(secret) => {
                self.bytes += 2 * TEXT + (secret.path.len() + secret.text.len()) as u64;
                false
            }
            Value::Map(_) => {
                self.bytes += MAP;
                true
            }
            Value::Some(_) | Value::Ok(_) | Value::Err(_) => {
                self.bytes += TEXT - VALUE;
                true
            }
            _ => {
                self.bytes += ARRAY;
                true
            }
        };
        if opened {
            self.open.push((value, 0));
        }
    }

    /// The bytes, if there are few values.
    pub(super) fn soon(mut self) -> Option<u64> {
        (self.go_on(FEW) < FEW).then_some(self.bytes)
    }

    /// The bytes, however many there are.
    pub(super) fn whole(mut self) -> u64 {
        self.go_on(usize::MAX);
        self.bytes
    }
}

impl Job for Count {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let done = self.go_on(STRIDE);
        meter.work(done as u64 / 4)?;
        Ok((done < STRIDE).then(|| Value::Size(self.bytes)))
    }
}

/// Copies a value, so that it shares nothing with anyone who held it, and takes none that is longer
/// than a program can make one.
#[derive(Debug)]
pub(super) struct Detach {
    /// It keeps the addresses of all that is copied.
    _whole: Value,
    open: Vec<Copying>,
    /// What has been copied as a whole.
    copied: Option<Value>,
    /// Copies of what is shared.
    copies: Seen<Value>,
    /// Whether the run pays for the bytes, because it keeps them.
    keeps: bool,
    /// Whether ranges are copied as the arrays that they stand for. For those the run pays always:
    /// they are more than it has.
    spreads: bool,
    /// How many numbers of ranges have been written out and are not paid for.
    spread: usize,
    /// The lengths of the longest array and of the longest map.
    longest: (usize, usize),
}

/// A container that is being copied: what it is, and what there is of the copy.
#[derive(Debug)]
struct Copying {
    original: Value,
    values: Vec<Value>,
    shared: Option<usize>,
}

/// The address of what the clones of a value share, if it can be changed.
fn shared(value: &Value) -> Option<usize> {
    fn part<T: ?Sized>(shared: &Arc<T>) -> Option<usize> {
        (Arc::strong_count(shared) > 1).then(|| address(shared))
    }
    match value {
        Value::String(text) => match text.form() {
            Form::Grown(text) => part(text),
            Form::Fixed(_) => None,
        },
        Value::Array(array) => part(array),
        Value::Map(map) => part(map),
        Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => part(inner),
        Value::Function(closure) => part(closure),
        _ => None,
    }
}

impl Detach {
    pub(super) fn new(value: Value, keeps: bool) -> Detach {
        let (open, copies) = (Vec::new(), Seen::default());
        let mut detach = Detach {
            _whole: value.clone(),
            open,
            copied: None,
            copies,
            keeps,
            spreads: false,
            spread: 0,
            longest: (0, 0),
        };
        detach.copied = detach.meet(value, None, &mut 0);
        detach
    }

    /// What is given to a host, which knows of no ranges.
    pub(super) fn given(values: Value) -> Detach {
        Detach { spreads: true, ..Detach::new(values, false) }
    }

    /// The copy of a value that is none or is known; otherwise begins one.
    fn meet(&mut self, value: Value, shared: Option<usize>, bytes: &mut u64) -> Option<Value> {
        if let Some(address) = shared
            && let Some(copy) = self.copies.table(address).get(&address)
            && std::mem::discriminant(copy) == std::mem::discriminant(&value)
        {
            return Some(copy.clone());
        }
        let room = match &value {
            Value::String(text) => {
                *bytes += TEXT + text.len() as u64;
                let Form::Grown(grown) = text.form() else { return Some(value) };
                let copy = Value::String(Text::from(String::clone(grown)));
                if let Some(address) = shared {
                    self.copies.table(address).insert(address, copy.clone());
                }
                return Some(copy);
            }
            Value::Array(array) => {
                *bytes += ARRAY;
                self.longest.0 = self.longest.0.max(array.len());
                array.len()
            }
            Value::Range(..) if self.spreads => {
                let length = value.list_length().unwrap_or(0);
                self.longest.0 = self.longest.0.max(length);
                length.min(LONGEST_LIST)
            }
            Value::Map(map) => {
                *bytes += MAP;
                self.longest.1 = self.longest.1.max(map.len());
                map.len()
            }
            Value::Function(closure) => {
                *bytes += ARRAY;
                closure.captured.len()
            }
            Value::Some(_) | Value::Ok(_) | Value::Err(_) => 1,
            Value::Bytes(part) => {
                *bytes += TEXT + part.len() as u64;
                return Some(value);
            }
            // What cannot be changed may be shared.
            Value::Error(error) => {
                *bytes += 2 * TEXT + error.message.len() as u64;
                return Some(value);
            }
            Value::Secret(secret) => {
                *bytes += 2 * TEXT + (secret.path.len() + secret.text.len()) as u64;
                return Some(value);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Duration(_)
            | Value::Size(_)
            | Value::Time(_)
            | Value::None
            | Value::Range(..)
            | Value::Any
            | Value::Memory(_) => return Some(value),
        };
        self.open.push(Copying { original: value, values: Vec::with_capacity(room), shared });
        None
    }

    /// Copies so many values at most, and says how many it was.
    fn go_on(&mut self, most: usize, bytes: &mut u64) -> usize {
        for number in 0..most {
            // What is too long is refused before it is written out.
            if self.spreads && self.longest.0 > LONGEST_LIST {
                return number;
            }
            let Some(innermost) = self.open.last_mut() else { return number };
            if let Some(next) = match &innermost.original {
                range @ Value::Range(..) => range.element(innermost.values.len()),
                _ => None,
            } {
                innermost.values.push(next);
                self.spread += 1;
                continue;
            }
            let copy = match inside(&innermost.original, innermost.values.len()) {
                Some(next) => {
                    *bytes += VALUE;
                    if let (Value::Map(map), at) = (&innermost.original, innermost.values.len())
                        && let Some((key, _)) = map.get_index(at)
                    {
                        *bytes += ENTRY - VALUE + key.len() as u64;
                    }
                    let shared = shared(next);
                    let next = next.clone();
                    self.meet(next, shared, bytes)
                }
                None => self.close(),
            };
            if let Some(copy) = copy {
                match self.open.last_mut() {
                    Some(around) => around.values.push(copy),
                    None => self.copied = Some(copy),
                }
            }
        }
        most
    }

    /// Makes the copy of the innermost container of the copies of what is in it.
    fn close(&mut self) -> Option<Value> {
        let Copying { original, mut values, shared } = self.open.pop()?;
        let copy = match &original {
            Value::Map(map) => Value::from(map.keys().cloned().zip(values).collect::<Map>()),
            Value::Function(closure) => Value::Function(Arc::new(Closure {
                function: closure.function,
                captured: Array::with_deepest(values, closure.captured.deepest()),
            })),
            Value::Some(_) => Value::Some(Arc::new(values.pop().unwrap_or_default())),
            Value::Ok(_) => Value::Ok(Arc::new(values.pop().unwrap_or_default())),
            Value::Err(_) => Value::Err(Arc::new(values.pop().unwrap_or_default())),
            // How deep it is need not be found out again.
            Value::Array(array) => {
                Value::Array(Arc::new(Array::with_deepest(values, array.deepest())))
            }
            Value::Range(..) => Value::Array(Arc::new(Array::with_deepest(values, 1))),
            _ => Value::Null,
        };
        if let Some(address) = shared {
            self.copies.table(address).insert(address, copy.clone());
        }
        Some(copy)
    }

    /// The whole copy.
    pub(super) fn whole(mut self) -> Value {
        self.go_on(usize::MAX, &mut 0);
        self.copied.unwrap_or_default()
    }
}

impl Job for Detach {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let mut bytes = 0;
        let done = self.go_on(STRIDE, &mut bytes);
        meter.work(done as u64 / 2)?;
        meter.list(self.longest.0)?;
        meter.allocate(VALUE * std::mem::take(&mut self.spread) as u64)?;
        if self.keeps {
            meter.allocate(bytes)?;
            meter.entries(self.longest.1)?;
        }
        Ok(self.copied.take())
    }
}
