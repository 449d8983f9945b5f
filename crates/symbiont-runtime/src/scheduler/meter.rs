//! How fast it goes.

use std::collections::VecDeque;
use std::time::Duration;

use symbiont_types::TimingSummary;
use tokio::time::Instant;

/// The last durations, and their percentiles.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    last: VecDeque<Duration>,
}

/// How many durations count.
const KEPT: usize = 1024;

impl Timings {
    pub(crate) fn add(&mut self, duration: Duration) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(duration);
    }

    pub(crate) fn summary(&self) -> TimingSummary {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest rank: the smallest that so many are not above.
        let rank = |percent: usize| {
            let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().unwrap_or_default()
        };
        TimingSummary { p50: rank(50), p95: rank(95), p99: rank(99), max: rank(100) }
    }
}

/// Ends in each of the last 900 seconds.
#[derive(Debug)]
pub(crate) struct Throughput {
    began: Instant,
    seconds: VecDeque<(u64, u64)>,
}

impl Throughput {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), seconds: VecDeque::new() }
    }

    pub(crate) fn add(&mut self) {
        let second = self.began.elapsed().as_secs();
        match self.seconds.back_mut() {
            Some((there, count)) if *there == second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        while self.seconds.front().is_some_and(|(there, _)| second - there >= 900) {
            self.seconds.pop_front();
        }
    }

    /// Ends per second over the last 1, 5 and 15 minutes, or since the start if that is less.
    pub(crate) fn rates(&self) -> [f64; 3] {
        let now = self.began.elapsed();
        [60, 300, 900].map(|window: u64| {
            let from = now.as_secs().saturating_sub(window);
            let recent = self.seconds.iter().filter(|(second, _)| *second >= from);
            let count: u64 = recent.map(|(_, count)| count).sum();
            #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
            let rate = count as f64 / now.as_secs_f64().clamp(1.0, window as f64);
            rate
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_added() {
        let mut timings = Timings::default();
        assert_eq!(timings.summary(), TimingSummary::default());
        for millis in 1..=100 {
            timings.add(Duration::from_millis(millis));
        }
        let ms = Duration::from_millis;
        let want = TimingSummary { p50: ms(50), p95: ms(95), p99: ms(99), max: ms(100) };
        assert_eq!(timings.summary(), want);
    }

    #[tokio::test(start_paused = true)]
    async fn throughput_is_over_the_window_or_the_time_there_was() {
        let mut throughput = Throughput::new();
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..50 {
            throughput.add();
        }
        assert_eq!(throughput.rates(), [5.0; 3]);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(throughput.rates(), [0.0, 0.5, 0.5]);
    }
}
