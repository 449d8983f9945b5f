//! Work that no instruction does in one go.
//!
//! An instruction that needs something of which there may be much asks for it with [`Meter::long`].
//! A little of it is done at once. Of what is more the work is kept beside the state, the instruction
//! ends as [`Raise::Unfinished`] with nothing changed, the work goes on stride by stride as long as
//! there is fuel, and then the instruction is done again and finds what it needs.
//!
//! # What holds
//!
//! - The steps and bytes of an instruction are those that it would have taken in one go: what it
//!   paid before it was left is given back, and paid when it is done again.
//! - Work in progress is no part of a run's state. A saved run is one before the instruction, and
//!   how far the work had come: restoring it does the same work again.
//!
//! # What is not here
//!
//! No work itself: see [`super::jobs`].

use std::fmt;

use super::meter::{Meter, Raise, Result};
use crate::value::{ErrorValue, Garbage, Value};

/// Work that is done piece by piece.
pub(super) trait Job: fmt::Debug + Send + Sync {
    /// Does a stride, pays for it, and gives what it was all for when nothing is left.
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>>;
}

/// What the instruction in progress has asked for.
#[derive(Debug, Default)]
pub(super) struct Long {
    /// Steps and bytes before the instruction.
    began: (u64, u64),
    /// The instruction that asks, by its steps, and how often it has asked.
    asks: (u64, usize),
    /// What is known of each question, once one of them is not answered at once.
    parts: Vec<Option<Part>>,
    /// Steps and bytes of all that.
    spent: (u64, u64),
    /// Whether it waits until what was let go is freed.
    pub(super) waits: bool,
}

#[derive(Debug)]
struct Part {
    stands: Stands,
    spent: (u64, u64),
}

#[derive(Debug)]
enum Stands {
    Begun(Box<dyn Job>),
    Done(std::result::Result<Value, Box<ErrorValue>>),
}

impl Meter {
    /// Notes that an instruction begins here.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.long.began = (self.steps, self.charged);
    }

    /// Does work, or finds it done.
    pub(super) fn long<J: Job + 'static>(&mut self, job: impl FnOnce() -> J) -> Result<Value> {
        if self.long.asks.0 != self.long.began.0 {
            self.long.asks = (self.long.began.0, 0);
        }
        let number = self.long.asks.1;
        self.long.asks.1 += 1;
        if let Some(Some(part)) = self.long.parts.get(number) {
            let Stands::Done(done) = &part.stands else { return Err(Raise::Unfinished) };
            let done = done.clone();
            self.charged = self.charged.saturating_add(part.spent.1);
            self.work(part.spent.0)?;
            return done.map_err(Raise::Error);
        }
        let (steps, charged) = (self.steps, self.charged);
        let mut job = job();
        let value = job.stride(self)?;
        let stands = match &value {
            None => Stands::Begun(Box::new(job)),
            // Nobody will ask again.
            Some(_) if self.long.parts.is_empty() => return Ok(value.unwrap_or_default()),
            Some(value) => Stands::Done(Ok(value.clone())),
        };
        let spent = (self.steps - steps, self.charged.saturating_sub(charged));
        self.long.parts.resize_with(number + 1, || None);
        self.long.parts[number] = Some(Part { stands, spent });
        self.long.spent.0 += spent.0;
        self.long.spent.1 += spent.1;
        value.ok_or(Raise::Unfinished)
    }

    /// Waits until everything is freed that was let go: only then it is known who shares what.
    pub(super) fn alone(&mut self) -> Result {
        if Garbage::is_gone() {
            return Ok(());
        }
        self.long.waits = true;
        Err(Raise::Unfinished)
    }

    /// Makes what the instruction has changed so far, and paid for it, a part of the state.
    pub(super) fn commit(&mut self) {
        self.finish();
        self.begin();
        self.long.asks = (self.steps, 0);
    }

    /// Gives back what an unfinished instruction has paid.
    pub(super) fn undo(&mut self) {
        (self.steps, self.charged) = self.long.began;
        self.long.asks.1 = 0;
    }

    /// Forgets the work of an instruction that is done.
    pub(super) fn finish(&mut self) {
        self.long.parts.clear();
        self.long.spent = (0, 0);
        self.long.asks.1 = 0;
    }

    /// Whether an instruction is to be done again.
    pub(super) fn retries(&self) -> bool {
        !self.long.parts.is_empty()
    }

    /// Steps of the work in progress.
    pub(super) fn spent(&self) -> u64 {
        self.long.spent.0
    }

    /// Goes on with the work in progress until the steps reach `stop`. Whether it is done.
    pub(super) fn go_on(&mut self, stop: u64) -> Result<bool> {
        loop {
            let Some(Some(Part { stands: Stands::Begun(job), spent })) = self.long.parts.last_mut()
            else {
                return Ok(true);
            };
            if self.steps.saturating_add(self.long.spent.0) >= stop {
                return Ok(false);
            }
            // Whoever does it pays for it now, to be stopped where the limits are.
            let mut paid = Meter::new(self.step_limit, self.memory_limit);
            paid.steps = self.steps.saturating_add(self.long.spent.0);
            paid.charged = self.charged.saturating_add(self.long.spent.1);
            let before = (paid.steps, paid.charged);
            let mut outcome = job.stride(&mut paid);
            let stride = (paid.steps - before.0, paid.charged.saturating_sub(before.1));
            spent.0 += stride.0;
            spent.1 += stride.1;
            if spent.1 > self.memory_limit && outcome.is_ok() {
                outcome = Err(paid.out_of_memory());
            }
            self.long.spent.0 += stride.0;
            self.long.spent.1 += stride.1;
            let done = match outcome {
                Ok(None) => continue,
                Ok(Some(value)) => Ok(value),
                Err(Raise::Error(error)) => Err(error),
                Err(other) => {
                    self.steps = paid.steps;
                    self.finish();
                    return Err(other);
                }
            };
            if let Some(Some(part)) = self.long.parts.last_mut() {
                part.stands = Stands::Done(done);
            }
        }
    }
}
