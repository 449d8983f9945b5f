//! How long the last transactions took.

use std::time::Duration;

/// How many transactions are remembered.
const KEPT: usize = 1_024;

/// The times of the last transactions, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    last: Vec<Duration>,
    count: u64,
}

impl Durations {
    pub(crate) fn add(&mut self, took: Duration) {
        if self.last.len() < KEPT {
            self.last.push(took);
        } else {
            let oldest = self.count % KEPT as u64;
            self.last[usize::try_from(oldest).expect("it is below KEPT")] = took;
        }
        self.count += 1;
    }

    /// How many transactions there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time within which 99 of 100 were done.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let mut sorted = self.last.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_last_ones() {
        let cases: [(Vec<u64>, Option<u64>); 5] = [
            (vec![], None),
            (vec![7], Some(7)),
            ((1..=100).rev().collect(), Some(99)),
            // The slow ones were long ago.
            ([9_999; 500].into_iter().chain([1; KEPT]).collect(), Some(1)),
            ([1; KEPT].into_iter().chain([9_999; 500]).collect(), Some(9_999)),
        ];
        for (millis, expected) in cases {
            let mut durations = Durations::default();
            for millis in &millis {
                durations.add(Duration::from_millis(*millis));
            }
            assert_eq!(durations.p99(), expected.map(Duration::from_millis), "{millis:?}");
            assert_eq!(durations.count(), millis.len() as u64);
        }
    }
}
