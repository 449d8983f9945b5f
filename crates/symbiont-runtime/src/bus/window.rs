//! Which of the numbered messages from one sender to one receiver have ended, in little space.
//!
//! Receipts tell it message by message for as long as they are kept. When there are too many of them
//! before the messages' times to live are over, the oldest are folded into a window: ranges of the
//! sender's numbers in which nothing waits any more. A kept letter with a number in one of them is a
//! copy of something that was delivered, or given up, before.
//!
//! # What holds
//!
//! - A number that waits is in no range: mail that was accepted is never taken for a copy.
//! - The ranges are sorted, apart from each other, and at most 64: of more, the lowest is forgotten.

use std::collections::BTreeSet;
use std::time::SystemTime;

const MOST_RANGES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Numbers of messages that are being sent, wait, or are being handed over.
    waiting: BTreeSet<u64>,
    /// First and last numbers, both ended.
    ended: Vec<(u64, u64)>,
    /// When the last message in the ranges expires: no copy can be delivered from then on.
    until: SystemTime,
}

impl Default for Window {
    fn default() -> Self {
        Self::of(Vec::new(), SystemTime::UNIX_EPOCH)
    }
}

impl Window {
    /// A window that was kept.
    pub(crate) fn of(ended: Vec<(u64, u64)>, until: SystemTime) -> Self {
        Self { waiting: BTreeSet::new(), ended, until }
    }

    pub(crate) fn ranges(&self) -> &[(u64, u64)] {
        &self.ended
    }

    pub(crate) fn until(&self) -> SystemTime {
        self.until
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ended.is_empty()
    }

    pub(crate) fn wait(&mut self, number: u64) {
        self.waiting.insert(number);
    }

    /// It does not wait any more, or never came to.
    pub(crate) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    pub(crate) fn has_ended(&self, number: u64) -> bool {
        self.ended.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Takes in a message that has ended, for when its receipt is forgotten, and with it every
    /// number below it down to one that waits: what is not waiting has ended, or went to others.
    pub(crate) fn fold(&mut self, number: u64, expires_at: SystemTime) {
        if self.waiting.contains(&number) {
            return;
        }
        let mut first = self.waiting.range(..number).next_back().map_or(0, |below| below + 1);
        let mut last = number;
        self.ended.retain(|&(a, b)| {
            let touches = a <= last.saturating_add(1) && first <= b.saturating_add(1);
            if touches {
                (first, last) = (first.min(a), last.max(b));
            }
            !touches
        });
        let place = self.ended.partition_point(|(a, _)| *a < first);
        self.ended.insert(place, (first, last));
        if self.ended.len() > MOST_RANGES {
            self.ended.remove(0);
        }
        self.until = self.until.max(expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(waiting: &[u64], folded: &[u64], want: &[(u64, u64)]) {
        let mut window = Window::default();
        waiting.iter().for_each(|number| window.wait(*number));
        folded.iter().for_each(|number| window.fold(*number, SystemTime::UNIX_EPOCH));
        assert_eq!(window.ranges(), want);
        for number in waiting {
            assert!(!window.has_ended(*number), "{number} waits");
        }
        for number in folded {
            assert!(waiting.contains(number) || window.has_ended(*number), "{number} has ended");
        }
    }

    #[test]
    fn ranges_grow_together_around_what_waits() {
        check(&[], &[], &[]);
        check(&[], &[5], &[(0, 5)]);
        check(&[], &[5, 9, 7], &[(0, 9)]);
        check(&[3], &[5], &[(4, 5)]);
        check(&[3], &[5, 2], &[(0, 2), (4, 5)]);
        check(&[3, 7], &[9, 5, 2], &[(0, 2), (4, 5), (8, 9)]);
        check(&[3], &[3], &[]);
    }

    #[test]
    fn what_ends_later_closes_the_gap() {
        let mut window = Window::default();
        window.wait(3);
        for number in [2, 5] {
            window.fold(number, SystemTime::UNIX_EPOCH);
        }
        window.leave(3);
        window.fold(3, SystemTime::UNIX_EPOCH);
        assert_eq!(window.ranges(), [(0, 5)]);
    }

    #[test]
    fn there_are_at_most_so_many_ranges() {
        let waiting: Vec<u64> = (0..200).map(|n| n * 2).collect();
        let mut window = Window::default();
        waiting.iter().for_each(|number| window.wait(*number));
        for number in &waiting {
            window.fold(number + 1, SystemTime::UNIX_EPOCH);
            assert!(window.ranges().len() <= MOST_RANGES);
        }
        assert!(window.has_ended(399) && !window.has_ended(1));
    }
}
