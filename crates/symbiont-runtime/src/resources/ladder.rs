//! What is done about an agent that uses more than it was promised, and when alerts are raised:
//! plain functions of what was seen, sample after sample.

use std::time::{Duration, SystemTime};

use symbiont_types::{
    AgentId, ErrorAction, ResourceKind, ResourceLimits, ResourceViolation, Threshold,
    ViolationAction, ViolationSeverity,
};
use tokio::time::Instant;

use super::ledger;
use super::reading::Reading;

/// Samples over a limit before anything is done about it.
const GRACE: u32 = 3;
/// Samples over a limit that an agent is given whose sandbox the kernel slows down.
const SLOWED: u32 = 6;
/// Samples over a limit before an agent that could not be suspended is ended.
const PATIENCE: u32 = 10;
/// How far a rate may be over its limit and still count as held to it: the kernel accounts in
/// slices that do not line up with samples.
const SLACK: f64 = 1.1;

/// One sample of one agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) agent_id: AgentId,
    pub(crate) reading: &'a Reading,
    pub(crate) limits: &'a ResourceLimits,
    pub(crate) now: SystemTime,
    /// `enforcement_enabled`
    pub(crate) enforcing: bool,
    /// Whether the agent is suspended, by whomever.
    pub(crate) suspended: bool,
}

/// A violation that goes on.
#[derive(Debug)]
pub(crate) struct Ongoing {
    pub(crate) violation: ResourceViolation,
    /// Somebody has been asked to act, and has not answered yet.
    pub(crate) asked: bool,
    /// A sample found the agent suspended.
    held: bool,
}

/// What a sample gives rise to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// The violation is put on record.
    Note(ResourceViolation),
    /// This is to be done; the violation says so once it has been.
    Act(ResourceViolation, ErrorAction),
}

/// What is used of a kind in comparison with its limit, without slack. Zero of a limit of zero is
/// none of it.
pub(crate) fn ratio(used: f64, limit: f64) -> f64 {
    if used <= 0.0 { 0.0 } else { used / limit }
}

/// The limit of a kind, in the kind's unit.
pub(crate) fn limit(limits: &ResourceLimits, kind: ResourceKind) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "compared with a slack, or shown")]
    let of = |amount: u64| amount as f64;
    match kind {
        ResourceKind::Memory => of(limits.memory_mb) * of(ledger::MIB),
        ResourceKind::Cpu => limits.cpu_cores,
        ResourceKind::Disk => of(limits.disk_io_mbps) * 1e6,
        ResourceKind::Network => of(limits.network_io_mbps) * 1e6,
    }
}

fn slack(kind: ResourceKind) -> f64 {
    match kind {
        ResourceKind::Memory => 1.0,
        ResourceKind::Cpu | ResourceKind::Disk | ResourceKind::Network => SLACK,
    }
}

/// Takes a sample into account. A kind that could not be measured stays as it was.
pub(crate) fn judge(ongoing: &mut Vec<Ongoing>, seen: Seen<'_>) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for kind in ResourceKind::ALL {
        let Some(used) = seen.reading.of(kind) else { continue };
        let limit = limit(seen.limits, kind);
        let at = ongoing.iter().position(|there| there.violation.kind == kind);
        if used <= limit * slack(kind) {
            if let Some(at) = at {
                ongoing.swap_remove(at);
            }
            continue;
        }
        let begun = |action| ResourceViolation {
            agent_id: seen.agent_id,
            kind,
            used,
            limit,
            ratio: ratio(used, limit),
            since: seen.now,
            samples: 0,
            severity: ViolationSeverity::Warning,
            action,
        };
        let there = match at {
            Some(at) => &mut ongoing[at],
            None => {
                let violation = begun(ViolationAction::Observed);
                ongoing.push(Ongoing { violation, asked: false, held: false });
                ongoing.last_mut().expect("it was pushed a line ago")
            }
        };
        if there.held && !seen.suspended {
            // Somebody let it go on: its grace begins anew.
            there.violation = begun(ViolationAction::Observed);
        }
        there.held = seen.suspended;
        let violation = &mut there.violation;
        violation.samples += 1;
        (violation.used, violation.limit, violation.ratio) = (used, limit, ratio(used, limit));
        if violation.samples > GRACE {
            violation.severity = ViolationSeverity::Critical;
        }
        let slowed = kind == ResourceKind::Cpu && seen.reading.held_back;
        let wanted = rung(seen, violation.samples, slowed, violation.action);
        let act = match wanted {
            ViolationAction::Observed | ViolationAction::Notified | ViolationAction::Throttled => {
                if wanted != violation.action || violation.samples == 1 {
                    violation.action = wanted;
                    deeds.push(Deed::Note(violation.clone()));
                }
                continue;
            }
            ViolationAction::Suspended => ErrorAction::Suspend,
            ViolationAction::Terminated => ErrorAction::Terminate,
        };
        if wanted != violation.action && !there.asked {
            there.asked = true;
            let violation = ResourceViolation { action: wanted, ..there.violation.clone() };
            deeds.push(Deed::Act(violation, act));
        }
    }
    deeds
}

/// Where on the ladder an agent belongs: told, slowed down by the kernel, suspended, and ended if it
/// could not be suspended. A suspension that holds is enough.
fn rung(seen: Seen<'_>, samples: u32, slowed: bool, before: ViolationAction) -> ViolationAction {
    match (seen.enforcing, samples) {
        (false, _) => ViolationAction::Observed,
        (true, _) if seen.suspended => before.max(ViolationAction::Notified),
        (true, ..=GRACE) => ViolationAction::Notified,
        (true, ..=SLOWED) if slowed => ViolationAction::Throttled,
        (true, ..=PATIENCE) => ViolationAction::Suspended,
        (true, _) => ViolationAction::Terminated,
    }
}

/// How far one kind of one agent is from an alert.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Alert {
    /// Samples in a row at the warning, and at the critical level.
    warned: u32,
    critical: u32,
    raised_at: Option<Instant>,
    active: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warning,
    Critical,
}

impl Alert {
    /// Takes a sample into account; `warning`, `critical` or `recovered`, if one of them is news.
    pub(crate) fn sample(
        &mut self,
        ratio: f64,
        threshold: Threshold,
        consecutive: u32,
        cooldown: Duration,
        now: Instant,
    ) -> Option<&'static str> {
        let count =
            |samples: u32, is_there: bool| if is_there { samples.saturating_add(1) } else { 0 };
        self.warned = count(self.warned, ratio >= threshold.warn);
        self.critical = count(self.critical, ratio >= threshold.critical);
        let reached = if self.critical >= consecutive {
            Some(Level::Critical)
        } else if self.warned >= consecutive {
            Some(Level::Warning)
        } else {
            None
        };
        let quiet = self.raised_at.is_none_or(|at| now.duration_since(at) >= cooldown);
        if reached > self.active && (quiet || self.active.is_some()) {
            self.active = reached;
            self.raised_at = Some(now);
            return reached.map(|level| match level {
                Level::Warning => "warning",
                Level::Critical => "critical",
            });
        }
        // Five hundredths below, so that one at the threshold does not flicker.
        if self.active.is_some() && ratio < threshold.warn - 0.05 {
            self.active = None;
            return Some("recovered");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays samples of an agent of one core: `u` uses two, `t` the same while the kernel slows it,
    /// `s` the same while it is suspended, `.` nothing. `want` is what each gave rise to: a letter
    /// for what was noted, or a letter in upper case for what was to be done, which `succeeds`.
    #[track_caller]
    fn check(enforcing: bool, succeeds: bool, samples: &str, want: &str) {
        let (agent_id, limits) = (AgentId::new(), ResourceLimits::default());
        let mut ongoing = Vec::new();
        let mut said = String::new();
        for sample in samples.chars() {
            let reading = Reading {
                cpu: Some(if sample == '.' { 0.0 } else { 2.0 }),
                held_back: sample == 't',
                ..Reading::nothing(Duration::ZERO)
            };
            let seen = Seen {
                agent_id,
                reading: &reading,
                limits: &limits,
                now: SystemTime::UNIX_EPOCH,
                enforcing,
                suspended: sample == 's',
            };
            let deeds = judge(&mut ongoing, seen);
            let letter = |action: ViolationAction| match action {
                ViolationAction::Observed => 'o',
                ViolationAction::Notified => 'n',
                ViolationAction::Throttled => 't',
                ViolationAction::Suspended => 'S',
                ViolationAction::Terminated => 'T',
            };
            said.push(match &deeds[..] {
                [] => '-',
                [Deed::Note(violation)] => letter(violation.action),
                [Deed::Act(violation, _)] => {
                    let there = &mut ongoing[0];
                    there.asked = false;
                    if succeeds {
                        there.violation.action = violation.action;
                    }
                    letter(violation.action)
                }
                more => panic!("{more:?}"),
            });
        }
        assert_eq!(said, want);
    }

    #[test]
    fn the_ladder_is_climbed_only_as_far_as_it_takes() {
        check(false, true, "uuuuuuuuuuuuuu", "o-------------");
        check(true, true, "uuu.uuuu", "n---n--S");
        check(true, true, "uuuusssssssssssss", "n--S-------------");
        check(true, true, "uuuussuuuu", "n--S--n--S");
        check(true, true, "ttttttu", "n--t--S");
        check(true, true, "uuut..", "n--t--");
        check(true, false, "uuuuuuuuuuuu", "n--SSSSSSSTT");
        check(true, true, "uuuuuuuuuuu", "n--S------T");
        check(true, true, "ssssssssssssss", "n-------------");
    }

    #[test]
    fn what_could_not_be_measured_stays_as_it_was_and_a_limit_of_zero_allows_nothing() {
        let limits = ResourceLimits { disk_io_mbps: 0, network_io_mbps: 0, ..Default::default() };
        let mut ongoing = Vec::new();
        let mut seen = |disk| {
            let reading = Reading { disk, ..Reading::nothing(Duration::ZERO) };
            let seen = Seen {
                agent_id: AgentId::new(),
                reading: &reading,
                limits: &limits,
                now: SystemTime::UNIX_EPOCH,
                enforcing: true,
                suspended: false,
            };
            judge(&mut ongoing, seen);
            ongoing.iter().map(|there| (there.violation.samples, there.violation.ratio)).next()
        };
        assert_eq!(seen(Some(0)), None);
        assert_eq!(seen(Some(1)), Some((1, f64::INFINITY)));
        assert_eq!(seen(None), Some((1, f64::INFINITY)));
        assert_eq!(seen(Some(1)), Some((2, f64::INFINITY)));
        assert_eq!(seen(Some(0)), None);
    }

    #[test]
    fn an_alert_is_raised_once_for_each_crossing_and_again_when_it_becomes_critical() {
        let threshold = Threshold { warn: 0.8, critical: 0.95 };
        let cases: [(&[f64], u32, u64, &str); 6] = [
            (&[0.9, 0.9, 0.9], 2, 0, "- warning -"),
            (&[0.9, 0.97, 0.97, 0.97], 1, 60, "warning critical - -"),
            (&[0.97, 0.9, 0.97], 1, 0, "critical - -"),
            (&[0.9, 0.78, 0.74, 0.9], 1, 60, "warning - recovered -"),
            (&[0.9, 0.7, 0.9], 1, 1, "warning recovered warning"),
            (&[0.9, f64::INFINITY, 0.0], 2, 0, "- warning recovered"),
        ];
        for (ratios, consecutive, cooldown, want) in cases {
            let (mut alert, mut now) = (Alert::default(), Instant::now());
            let mut said = Vec::new();
            for ratio in ratios {
                let cooldown = Duration::from_secs(cooldown);
                let news = alert.sample(*ratio, threshold, consecutive, cooldown, now);
                said.push(news.unwrap_or("-"));
                now += Duration::from_secs(1);
            }
            assert_eq!(said.join(" "), want, "{ratios:?}");
        }
    }
}
