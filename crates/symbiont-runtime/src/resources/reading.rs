//! What an agent uses at one moment, from what it has used so far.

use std::time::Duration;

use symbiont_types::{Measured, ResourceKind, ResourceUsage, UsageDetail, UsageSource};
use tokio::time::Instant;

use crate::directory::Usage;

/// The shortest time that rates are computed over.
pub(crate) const SHORTEST: Duration = Duration::from_millis(10);

/// What an agent uses at one moment; what nobody can tell is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Cores.
    pub(crate) cpu: Option<f64>,
    /// Bytes/s.
    pub(crate) disk: Option<u64>,
    /// Bytes/s.
    pub(crate) network: Option<u64>,
    pub(crate) uptime: Duration,
    pub(crate) source: UsageSource,
    pub(crate) throttled: Option<Duration>,
    pub(crate) oom_kills: Option<u64>,
    /// Whether the kernel held the agent's sandbox back since the sample before.
    pub(crate) held_back: bool,
}

impl Reading {
    /// Of an agent that nobody runs: it can't use anything.
    pub(crate) fn nothing(uptime: Duration) -> Self {
        Self {
            memory: Some(0),
            cpu: Some(0.0),
            disk: Some(0),
            network: Some(0),
            uptime,
            source: UsageSource::NothingRuns,
            throttled: None,
            oom_kills: None,
            held_back: false,
        }
    }

    /// What is used at `now`, with rates since the sample before; before there is one they are over
    /// the agent's whole life.
    pub(crate) fn of_usage(before: Option<&(Instant, Usage)>, now: Instant, usage: &Usage) -> Self {
        let elapsed = before.map_or(usage.uptime, |(at, _)| now.duration_since(*at)).max(SHORTEST);
        let rate = |total: fn(&Usage) -> Option<u64>| {
            let base = match before {
                Some((_, last)) => total(last)?,
                None => 0,
            };
            #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
            let grown = total(usage)?.saturating_sub(base) as f64;
            Some(grown / elapsed.as_secs_f64())
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is never negative"
        )]
        let whole = |rate: f64| rate as u64;
        let throttled_before = before.and_then(|(_, last)| last.throttled).unwrap_or_default();
        Self {
            memory: usage.memory,
            cpu: rate(|usage| usage.cpu_nanos).map(|nanos| nanos / 1e9),
            disk: rate(|usage| usage.disk_bytes).map(whole),
            network: rate(|usage| usage.network_bytes).map(whole),
            uptime: usage.uptime,
            source: usage.source,
            throttled: usage.throttled,
            oom_kills: usage.oom_kills,
            held_back: usage.throttled.is_some_and(|time| time > throttled_before),
        }
    }

    /// The figure of a kind, in its unit.
    pub(crate) fn of(&self, kind: ResourceKind) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "compared with a slack, or shown")]
        let of = |amount: u64| amount as f64;
        match kind {
            ResourceKind::Memory => self.memory.map(of),
            ResourceKind::Cpu => self.cpu,
            ResourceKind::Disk => self.disk.map(of),
            ResourceKind::Network => self.network.map(of),
        }
    }

    pub(crate) fn detail(&self) -> UsageDetail {
        let source = self.source;
        let measured = |value: u64| Measured { value, source };
        UsageDetail {
            memory_used: self.memory.map(measured),
            cpu_usage: self.cpu.map(|value| Measured { value, source }),
            disk_io_rate: self.disk.map(measured),
            network_io_rate: self.network.map(measured),
            uptime: self.uptime,
        }
    }

    /// The same as the reference has it, or the first kind that nobody can tell.
    pub(crate) fn usage(&self) -> Result<ResourceUsage, ResourceKind> {
        Ok(ResourceUsage {
            memory_used: self.memory.ok_or(ResourceKind::Memory)?,
            cpu_usage: self.cpu.ok_or(ResourceKind::Cpu)?,
            disk_io_rate: self.disk.ok_or(ResourceKind::Disk)?,
            network_io_rate: self.network.ok_or(ResourceKind::Network)?,
            uptime: self.uptime,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_since_the_sample_before_and_what_is_not_known_stays_so() {
        let usage = |cpu_nanos, disk_bytes| Usage {
            memory: Some(7),
            cpu_nanos: Some(cpu_nanos),
            disk_bytes,
            network_bytes: Some(0),
            throttled: Some(Duration::from_nanos(cpu_nanos)),
            oom_kills: None,
            source: UsageSource::Kernel,
            uptime: Duration::from_secs(10),
        };
        let now = Instant::now();
        let first = Reading::of_usage(None, now, &usage(5_000_000_000, Some(100)));
        assert_eq!((first.cpu, first.disk, first.held_back), (Some(0.5), Some(10), true));
        let before = (now, usage(5_000_000_000, Some(100)));
        let later = now + Duration::from_secs(2);
        let then = Reading::of_usage(Some(&before), later, &usage(9_000_000_000, Some(500)));
        assert_eq!((then.cpu, then.disk, then.held_back), (Some(2.0), Some(200), true));
        let blind = Reading::of_usage(Some(&before), later, &usage(5_000_000_000, None));
        assert_eq!((blind.cpu, blind.disk, blind.held_back), (Some(0.0), None, false));
        assert_eq!(blind.usage(), Err(ResourceKind::Disk));
        let detail = blind.detail();
        assert_eq!(detail.disk_io_rate, None);
        let memory = Measured { value: 7, source: UsageSource::Kernel };
        assert_eq!(detail.memory_used, Some(memory));
    }
}
