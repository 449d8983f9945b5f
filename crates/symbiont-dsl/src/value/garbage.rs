//! Letting go of what is large, piece by piece.
//!
//! Freeing an array of a million arrays takes as long as making it. While a machine runs, containers
//! that are long, or that hold others, are taken apart a bounded number of values at a time, and the
//! rest is kept for later. That is not part of what a run means: nothing that a program can see
//! depends on when something is freed.
//!
//! # What holds
//!
//! - Outside of [`Garbage::within`] everything is freed at once, as everywhere in Rust.
//! - One value that is let go frees at most [`AT_ONCE`] others, and they count as well.
//!
//! # What is not here
//!
//! No count of the bytes: whoever made them was charged for them, until they are freed.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use super::{Array, Entries, Map, Value};

/// How many values are freed at once.
const AT_ONCE: usize = 512;

/// How many bytes an allocator takes for much.
const LARGE: usize = 128 << 10;

thread_local! {
    /// The garbage of the machine that this thread is running, while it does.
    static KEPT: RefCell<Option<Garbage>> = const { RefCell::new(None) };
}

/// What has been let go and not been freed yet.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    parts: Vec<Part>,
    /// Somebody further out is freeing: what it finds in what it frees comes here.
    freeing: bool,
}

#[derive(Debug)]
enum Part {
    Array(Vec<Value>),
    Map(Entries),
}

/// Puts what was kept before back, however the work ends.
struct Within<'g>(&'g mut Garbage);

impl Drop for Within<'_> {
    fn drop(&mut self) {
        *self.0 = KEPT.take().unwrap_or_default();
    }
}

impl Garbage {
    /// Does something, and keeps what is let go meanwhile.
    pub(crate) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        KEPT.set(Some(mem::take(self)));
        let _within = Within(self);
        work()
    }

    /// Whether everything has been freed that this thread has let go.
    pub(crate) fn is_gone() -> bool {
        KEPT.with_borrow(|kept| kept.as_ref().is_none_or(|kept| kept.parts.is_empty()))
    }

    /// Frees about so many values, and says whether that was all.
    pub(crate) fn free(most: usize) -> bool {
        let mut left = most;
        while left > 0 {
            // What is freed may come back here, so nothing is borrowed meanwhile.
            let next = KEPT.with_borrow_mut(|kept| {
                let kept = kept.as_mut()?;
                let (value, key) = match kept.parts.last_mut()? {
                    Part::Array(items) => (items.pop(), None),
                    Part::Map(entries) => entries.pop().map(|(k, v)| (v, k)).unzip(),
                };
                if value.is_none() {
                    return Some((kept.parts.pop(), None, None));
                }
                Some((None, value, key))
            });
            let Some((_, value, _)) = &next else { return true };
            left = left.saturating_sub(value.as_ref().map_or(1, weight));
        }
        // Allocators put small pieces aside as they are freed, and glibc joins them all when something
        // large is allocated or freed: that is done here, while they are few.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
        Garbage::is_gone()
    }

    fn keep(part: Part) {
        // Threads that end have no such variable any more.
        let first = KEPT.try_with(|kept| match kept.borrow_mut().as_mut() {
            Some(kept) => {
                kept.parts.push(part);
                !mem::replace(&mut kept.freeing, true)
            }
            None => false,
        });
        if first == Ok(true) {
            Garbage::free(AT_ONCE);
            KEPT.with_borrow_mut(|kept| {
                if let Some(kept) = kept {
                    kept.freeing = false;
                }
            });
        }
    }
}

/// How many plain values take as long to free as this one with what is in it, as far as nobody else has that,
/// and as far as it is not kept for later.
fn weight(value: &Value) -> usize {
    match value {
        Value::Array(array) if Arc::strong_count(array) == 1 => 2 + array.items.len().min(AT_ONCE),
        Value::Map(map) if Arc::strong_count(map) == 1 => 8 + 2 * map.entries.len().min(AT_ONCE),
        _ => 1,
    }
}

/// Whether a container may take long to free: those of plain values are freed at once if short.
fn takes_long(length: usize, depth: u32) -> bool {
    length > AT_ONCE || (depth > 1 && length > 0)
}

impl Drop for Array {
    fn drop(&mut self) {
        if takes_long(self.items.len(), self.depth) {
            Garbage::keep(Part::Array(mem::take(&mut self.items)));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if takes_long(self.entries.len(), self.depth) {
            Garbage::keep(Part::Map(mem::take(&mut self.entries)));
        }
    }
}
