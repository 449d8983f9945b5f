//! What a run uses, and what becomes of one that uses too much.

use std::collections::HashSet;
use std::sync::Arc;

use crate::value::{Array, ErrorValue, Map, Text, Value};

/// Why an instruction did not succeed.
#[derive(Debug)]
pub(super) enum Raise {
    /// An error that the program may catch.
    Error(Box<ErrorValue>),
    /// The run is over.
    Fatal(Box<ErrorValue>),
}

pub(super) type Result<T = ()> = std::result::Result<T, Raise>;

/// An error that the program may catch.
#[cold]
pub(super) fn raise(kind: &str, message: impl Into<Arc<str>>) -> Raise {
    Raise::Error(Box::new(ErrorValue::new(kind, message)))
}

#[cold]
pub(super) fn type_error(message: impl Into<Arc<str>>) -> Raise {
    raise("TypeError", message)
}

#[cold]
pub(super) fn arithmetic(message: impl Into<Arc<str>>) -> Raise {
    raise("ArithmeticError", message)
}

impl From<ErrorValue> for Raise {
    fn from(error: ErrorValue) -> Self {
        Raise::Error(Box::new(error))
    }
}

/// Bytes of an array's own.
pub(super) const ARRAY: u64 = 48;
/// Bytes of a map's own.
pub(super) const MAP: u64 = 96;
/// Bytes of one value where it stands.
pub(super) const VALUE: u64 = size_of::<Value>() as u64;
/// Bytes of one entry of a map, without its key's text.
pub(super) const ENTRY: u64 = VALUE + 56;
/// Bytes of a text's own.
pub(super) const TEXT: u64 = 40;

/// The longest text, whatever the run's memory: one is made in one go, which nothing interrupts.
pub(super) const LONGEST_TEXT: u64 = 16 << 20;

/// The most elements of an array, and entries of a map, for the same reason.
pub(super) const LONGEST_LIST: usize = 1 << 20;

/// Steps and bytes of a run.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) steps: u64,
    pub(super) step_limit: u64,
    /// Bytes promised since the last count; never less than what is live.
    pub(super) charged: u64,
    pub(super) memory_limit: u64,
}

impl Meter {
    /// Pays for work before it is done.
    pub(super) fn work(&mut self, steps: u64) -> Result {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > self.step_limit { Err(self.out_of_steps()) } else { Ok(()) }
    }

    /// Pays for work on so many bytes or values, of which one step does several.
    pub(super) fn bulk(&mut self, length: usize) -> Result {
        self.work(length as u64 / 16)
    }

    #[cold]
    pub(super) fn out_of_steps(&mut self) -> Raise {
        self.steps = self.step_limit;
        let message = format!("the run has used its {} steps", self.step_limit);
        Raise::Fatal(Box::new(ErrorValue::new("LimitExceeded", message)))
    }

    /// Pays for bytes before they are allocated. A single thing beyond the limit is refused here;
    /// a sum beyond it is found by the machine, which then counts what is really live.
    pub(super) fn allocate(&mut self, bytes: u64) -> Result {
        if bytes > self.memory_limit {
            return Err(self.out_of_memory());
        }
        self.charged = self.charged.saturating_add(bytes);
        Ok(())
    }

    #[cold]
    pub(super) fn out_of_memory(&self) -> Raise {
        let message = format!("the run needs more than its {} bytes of memory", self.memory_limit);
        raise("LimitExceeded", message)
    }

    /// How many more steps there are.
    pub(super) fn left(&self) -> u64 {
        self.step_limit.saturating_sub(self.steps)
    }

    /// How long a text that is yet to be written may get.
    pub(super) fn text_limit(&self) -> usize {
        let by_steps = self.left().saturating_mul(16);
        usize::try_from(self.memory_limit.min(by_steps).min(LONGEST_TEXT)).unwrap_or(usize::MAX)
    }

    /// A text that got longer than it may.
    #[cold]
    pub(super) fn too_long(&self) -> Raise {
        if self.memory_limit < LONGEST_TEXT {
            return self.out_of_memory();
        }
        raise("LimitExceeded", format!("a text has at most {} MiB", LONGEST_TEXT >> 20))
    }

    /// Refuses a text of this length if it is too long.
    pub(super) fn fits(&self, length: usize) -> Result {
        match length as u64 > self.memory_limit.min(LONGEST_TEXT) {
            true => Err(self.too_long()),
            false => Ok(()),
        }
    }

    /// Pays for a new text.
    pub(super) fn text(&mut self, length: usize) -> Result {
        self.fits(length)?;
        self.bulk(length)?;
        self.allocate(TEXT + length as u64)
    }

    /// Refuses an array or a map of this length if it is too long.
    #[inline]
    pub(super) fn list(&self, length: usize) -> Result {
        if length as u64 > self.memory_limit / VALUE {
            return Err(self.out_of_memory());
        }
        if length > LONGEST_LIST {
            let message = format!("an array or a map has at most {LONGEST_LIST} elements");
            return Err(raise("LimitExceeded", message));
        }
        Ok(())
    }

    /// Pays for a new array.
    pub(super) fn array(&mut self, length: usize) -> Result {
        self.list(length)?;
        self.bulk(length)?;
        self.allocate(ARRAY + VALUE * length as u64)
    }

    /// Pays for a new map.
    pub(super) fn map(&mut self, entries: usize) -> Result {
        self.list(entries)?;
        self.work(entries as u64 / 4)?;
        self.allocate(MAP + ENTRY * entries as u64)
    }
}

/// Counts the bytes behind values, what is shared only once.
#[derive(Default)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) visited: u64,
    seen: HashSet<*const u8>,
}

impl Count {
    fn first_time<T: ?Sized>(&mut self, shared: &Arc<T>) -> bool {
        Arc::strong_count(shared) == 1 || self.seen.insert(Arc::as_ptr(shared).cast())
    }

    fn text(&mut self, text: &Text) {
        if !text.is_shared() || self.seen.insert(text.address()) {
            self.bytes += TEXT + text.len() as u64;
        }
    }

    fn array(&mut self, array: &Array) {
        self.bytes += ARRAY + VALUE * array.len() as u64;
        array.iter().for_each(|item| self.value(item));
    }

    fn map(&mut self, map: &Map) {
        self.bytes += MAP;
        for (key, value) in map.iter() {
            self.bytes += ENTRY + key.len() as u64;
            self.value(value);
        }
    }

    /// Counts what a value holds, beside itself.
    pub(super) fn value(&mut self, value: &Value) {
        self.visited += 1;
        match value {
            Value::String(text) => self.text(text),
            Value::Bytes(bytes) => {
                if self.first_time(bytes) {
                    self.bytes += TEXT + bytes.len() as u64;
                }
            }
            Value::Array(array) => {
                if self.first_time(array) {
                    self.array(array);
                }
            }
            Value::Map(map) => {
                if self.first_time(map) {
                    self.map(map);
                }
            }
            Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => {
                if self.first_time(inner) {
                    self.bytes += TEXT;
                    self.value(inner);
                }
            }
            Value::Function(closure) => {
                if self.first_time(closure) {
                    self.array(&closure.captured);
                }
            }
            Value::Error(error) => {
                if self.first_time(error) {
                    let operation = error.operation.as_ref().map_or(0, |text| text.len());
                    self.bytes += 2 * TEXT + (error.message.len() + operation) as u64;
                }
            }
            Value::Secret(secret) => {
                if self.first_time(secret) {
                    self.bytes += 2 * TEXT + (secret.path.len() + secret.text.len()) as u64;
                }
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
            // Its name is the program's own.
            | Value::Memory(_)
            | Value::Any => {}
        }
    }
}
