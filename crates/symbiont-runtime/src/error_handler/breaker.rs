//! When to stop trying: a circuit breaker as a plain machine, with time as an argument.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use symbiont_types::{BreakerState, BreakerStatus, ErrorType};

/// The longest that a breaker stays open, however often it has opened.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What a breaker is set to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) threshold: u32,
    pub(crate) window: Duration,
    pub(crate) open_for: Duration,
}

/// Opens at `threshold` failures inside the window without a success; lets one probe through after
/// `open_for`; closes when the probe succeeds and opens for twice as long when it does not, or when
/// nothing is heard of it for `open_for`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    failures: VecDeque<SystemTime>,
    open_until: Option<SystemTime>,
    probe_until: Option<SystemTime>,
    /// How often it has opened since it was last closed.
    opened: u32,
}

impl Breaker {
    fn open_time(&self, setting: Setting) -> Duration {
        let doublings = self.opened.saturating_sub(1).min(16);
        setting.open_for.saturating_mul(1 << doublings).min(LONGEST.max(setting.open_for))
    }

    fn open(&mut self, setting: Setting, now: SystemTime) {
        self.opened += 1;
        self.probe_until = None;
        self.open_until = now.checked_add(self.open_time(setting)).or(Some(now));
    }

    /// A failure at `now`. Returns whether recovery may be tried: yes while it is closed, once when
    /// it lets a probe through, no while it is open.
    pub(crate) fn failure(&mut self, setting: Setting, now: SystemTime) -> bool {
        if let Some(until) = self.open_until {
            if now < until {
                return false;
            }
            if self.probe_until.is_some() {
                // The probe failed, or was never heard of again.
                self.open(setting, now);
                return false;
            }
            self.probe_until = now.checked_add(self.open_time(setting)).or(Some(now));
            return true;
        }
        self.failures.push_back(now);
        let in_window =
            |at: &SystemTime| now.duration_since(*at).unwrap_or_default() <= setting.window;
        self.failures.retain(in_window);
        if self.failures.len() >= setting.threshold as usize {
            self.failures.clear();
            self.open(setting, now);
            return false;
        }
        true
    }

    /// A success: whatever was wrong is over.
    pub(crate) fn success(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn status(&self, error_type: ErrorType, now: SystemTime) -> BreakerStatus {
        let state = match (self.open_until, self.probe_until) {
            (None, _) => BreakerState::Closed,
            (Some(_), Some(until)) if now < until => BreakerState::HalfOpen,
            (Some(_), _) => BreakerState::Open,
        };
        BreakerStatus {
            error_type,
            state,
            failures: u32::try_from(self.failures.len()).unwrap_or(u32::MAX),
            retry_at: self.open_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Plays `F` failure and `S` success at seconds; `want` says what each failure was told and the
    /// state afterwards.
    #[track_caller]
    fn check(events: &[(char, u64)], want: &str) {
        let setting = Setting {
            threshold: 3,
            window: Duration::from_secs(60),
            open_for: Duration::from_secs(10),
        };
        let mut breaker = Breaker::default();
        let mut said = Vec::new();
        for (event, second) in events {
            let now = UNIX_EPOCH + Duration::from_secs(*second);
            let word = match event {
                'F' if breaker.failure(setting, now) => "try",
                'F' => "stop",
                _ => {
                    breaker.success();
                    "ok"
                }
            };
            said.push(format!("{word}:{:?}", breaker.status(ErrorType::SystemError, now).state));
        }
        assert_eq!(said.join(" "), want);
    }

    #[test]
    fn it_opens_at_the_threshold_and_only_within_the_window() {
        check(&[('F', 0), ('F', 1), ('F', 2)], "try:Closed try:Closed stop:Open");
        check(&[('F', 0), ('F', 1), ('F', 62)], "try:Closed try:Closed try:Closed");
        check(
            &[('F', 0), ('F', 1), ('S', 2), ('F', 3)],
            "try:Closed try:Closed ok:Closed try:Closed",
        );
    }

    #[test]
    fn it_probes_once_and_closes_on_success() {
        let open = [('F', 0), ('F', 0), ('F', 0)];
        check(
            &[&open[..], &[('F', 5), ('F', 10), ('S', 11), ('F', 12)]].concat(),
            "try:Closed try:Closed stop:Open stop:Open try:HalfOpen ok:Closed try:Closed",
        );
    }

    #[test]
    fn a_failed_probe_doubles_the_wait_and_a_lost_one_does_not_hold_it_for_ever() {
        let open = [('F', 0), ('F', 0), ('F', 0)];
        check(
            &[&open[..], &[('F', 10), ('F', 11), ('F', 30), ('F', 31)]].concat(),
            "try:Closed try:Closed stop:Open try:HalfOpen stop:Open stop:Open try:HalfOpen",
        );
        check(
            &[&open[..], &[('F', 10), ('F', 500), ('F', 530)]].concat(),
            "try:Closed try:Closed stop:Open try:HalfOpen stop:Open try:HalfOpen",
        );
    }
}
