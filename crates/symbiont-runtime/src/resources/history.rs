//! What an agent used, sample after sample, in little memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_types::{ResourceKind, ResourceLimits, ResourceSnapshot, ResourceUsage, UsageSource};

use super::reading::Reading;
use crate::clock::{from_micros, micros};

/// The most samples that are kept of one agent.
const SAMPLES: usize = 3600;
/// The most samples that are kept altogether, at about 80 bytes each.
const ALL_SAMPLES: usize = 1_000_000;

/// How many samples each of so many agents may keep.
pub(crate) fn share(agents: usize) -> usize {
    (ALL_SAMPLES / agents.max(1)).clamp(1, SAMPLES)
}

/// An agent's samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
    /// The limits of the newest sample, which most others share.
    limits: Option<Arc<ResourceLimits>>,
}

/// One sample. Durations and times are in microseconds.
#[derive(Debug)]
struct Sample {
    at: i64,
    uptime: u64,
    memory: u64,
    disk: u64,
    network: u64,
    throttled: Option<u64>,
    cpu: f32,
    oom_kills: Option<u32>,
    source: UsageSource,
    /// One bit for each kind that was not measured.
    unmeasured: u8,
    limits: Arc<ResourceLimits>,
}

impl History {
    /// Adds a sample, and drops the oldest beyond `most`.
    pub(crate) fn push(
        &mut self,
        at: SystemTime,
        reading: &Reading,
        limits: &ResourceLimits,
        most: usize,
    ) {
        let limits = match &self.limits {
            Some(there) if **there == *limits => Arc::clone(there),
            Some(_) | None => Arc::clone(self.limits.insert(Arc::new(limits.clone()))),
        };
        let whole = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let unmeasured = ResourceKind::ALL
            .into_iter()
            .filter(|kind| reading.of(*kind).is_none())
            .fold(0, |bits, kind| bits | 1 << kind as u8);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough")]
        let cpu = reading.cpu.unwrap_or_default() as f32;
        self.samples.push_back(Sample {
            at: micros(at),
            uptime: whole(reading.uptime),
            memory: reading.memory.unwrap_or_default(),
            disk: reading.disk.unwrap_or_default(),
            network: reading.network.unwrap_or_default(),
            throttled: reading.throttled.map(whole),
            cpu,
            oom_kills: reading.oom_kills.map(|kills| u32::try_from(kills).unwrap_or(u32::MAX)),
            source: reading.source,
            unmeasured,
            limits,
        });
        while self.samples.len() > most {
            self.samples.pop_front();
        }
        if self.samples.capacity() / 4 > self.samples.len() {
            self.samples.shrink_to(self.samples.len() * 2);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of the last `duration` before `now`.
    pub(crate) fn last(&self, now: SystemTime, duration: Duration) -> Vec<ResourceSnapshot> {
        let recent = |sample: &&Sample| {
            now.duration_since(from_micros(sample.at)).unwrap_or_default() <= duration
        };
        self.samples.iter().filter(recent).map(Sample::snapshot).collect()
    }
}

impl Sample {
    fn snapshot(&self) -> ResourceSnapshot {
        let is_unmeasured = |kind: &ResourceKind| self.unmeasured & 1 << *kind as u8 != 0;
        ResourceSnapshot {
            at: from_micros(self.at),
            usage: ResourceUsage {
                memory_used: self.memory,
                cpu_usage: f64::from(self.cpu),
                disk_io_rate: self.disk,
                network_io_rate: self.network,
                uptime: Duration::from_micros(self.uptime),
            },
            unmeasured: ResourceKind::ALL.into_iter().filter(is_unmeasured).collect(),
            limits: (*self.limits).clone(),
            source: self.source,
            throttled: self.throttled.map(Duration::from_micros),
            oom_kills: self.oom_kills.map(u64::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_bounded_and_gives_back_what_was_measured() {
        let mut history = History::default();
        let reading = Reading {
            memory: Some(5),
            cpu: Some(0.5),
            disk: None,
            throttled: Some(Duration::from_secs(2)),
            ..Reading::nothing(Duration::from_secs(9))
        };
        let limits = ResourceLimits::default();
        let now = from_micros(0);
        for second in 0..1000 {
            history.push(now + Duration::from_secs(second), &reading, &limits, 500);
        }
        let samples = history.last(now + Duration::from_secs(999), Duration::MAX);
        assert_eq!(samples.len(), 500);
        let newest = samples.last().expect("there are some");
        assert_eq!(newest.at, now + Duration::from_secs(999));
        assert_eq!((newest.usage.memory_used, newest.usage.cpu_usage), (5, 0.5));
        assert_eq!(newest.unmeasured, [ResourceKind::Disk]);
        assert_eq!((newest.throttled, newest.oom_kills), (Some(Duration::from_secs(2)), None));
        assert_eq!(newest.limits, limits);
        assert_eq!(history.last(now + Duration::from_secs(999), Duration::from_secs(9)).len(), 10);
        history.push(now + Duration::from_secs(1000), &reading, &limits, 10);
        assert!(history.samples.capacity() < 100, "{}", history.samples.capacity());
        assert!(size_of::<Sample>() <= 80, "{}", size_of::<Sample>());
    }

    #[test]
    fn all_histories_together_are_bounded() {
        for agents in [0, 1, 100, 10_000, 1_000_000] {
            assert!(share(agents) * agents <= ALL_SAMPLES, "{agents}");
        }
        assert_eq!((share(1), share(10_000)), (3600, 100));
    }
}
