//! What a run uses, and what becomes of one that uses too much.

use std::sync::Arc;

use super::long::Long;
pub(super) use crate::value::{ARRAY, ENTRY, MAP, TEXT, VALUE};
use crate::value::{ErrorValue, LONGEST_LIST, LONGEST_MAP, Value};

/// Why an instruction did not succeed.
#[derive(Debug)]
pub(super) enum Raise {
    /// An error that the program may catch.
    Error(Box<ErrorValue>),
    /// The run is over.
    Fatal(Box<ErrorValue>),
    /// The instruction needs work that goes on when there is fuel, and is done again after it. All
    /// that it has taken is where it was.
    Unfinished,
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

/// The longest text, whatever the run's memory: one is made in one go, which nothing interrupts.
pub(super) const LONGEST_TEXT: u64 = 16 << 20;

/// Steps and bytes of a run.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) steps: u64,
    pub(super) step_limit: u64,
    /// Bytes promised since the last count; never less than what is live.
    pub(super) charged: u64,
    pub(super) memory_limit: u64,
    /// The work of the instruction in progress.
    pub(super) long: Long,
    /// Which values may be asked to be equal, or to be among others: for the rest that is an error. All,
    /// in a program.
    pub(super) comparable: Option<fn(&Value, &Value) -> bool>,
}

impl Meter {
    pub(super) fn new(step_limit: u64, memory_limit: u64) -> Meter {
        let long = Long::default();
        Meter { steps: 0, step_limit, charged: 0, memory_limit, long, comparable: None }
    }

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
            let message = format!("an array has at most {LONGEST_LIST} elements");
            return Err(raise("LimitExceeded", message));
        }
        Ok(())
    }

    /// Refuses a map of this length if it is too long.
    #[inline]
    pub(super) fn entries(&self, length: usize) -> Result {
        if length > LONGEST_MAP {
            let message = format!("a map has at most {LONGEST_MAP} elements");
            return Err(raise("LimitExceeded", message));
        }
        self.list(length)
    }

    /// Pays for a new array.
    pub(super) fn array(&mut self, length: usize) -> Result {
        self.list(length)?;
        self.bulk(length)?;
        self.allocate(ARRAY + VALUE * length as u64)
    }

    /// Pays for a new map.
    pub(super) fn map(&mut self, entries: usize) -> Result {
        self.entries(entries)?;
        self.work(entries as u64 / 4)?;
        self.allocate(MAP + ENTRY * entries as u64)
    }
}
