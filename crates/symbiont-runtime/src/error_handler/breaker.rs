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
/// nothing is heard of it for as long as it was open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    pub(super) failures: VecDeque<SystemTime>,
    pub(super) open_until: Option<SystemTime>,
    pub(super) probe_until: Option<SystemTime>,
    /// How often it has opened since it was last closed.
    pub(super) opened: u32,
}

impl Breaker {
    fn open_time(&self, setting: Setting) -> Duration {
        let doublings = self.opened.saturating_sub(1).min(16);
        setting.open_for.saturating_mul(1 << doublings).min(LONGEST.max(setting.open_for))
    }

    fn open(&mut self, setting: Setting, now: SystemTime) {
        self.opened = self.opened.saturating_add(1);
        self.probe_until = None;
        self.open_until = now.checked_add(self.open_time(setting)).or(Some(now));
    }

    /// What time alone has changed by `now`: a probe that nothing was heard of counts as failed at
    /// its deadline.
    fn pass(&mut self, setting: Setting, now: SystemTime) {
        if let Some(deadline) = self.probe_until
            && now >= deadline
        {
            self.open(setting, deadline);
        }
    }

    /// A failure at `now`. Returns whether recovery may be tried: yes while it is closed, once when
    /// it lets a probe through, no while it is open.
    pub(crate) fn failure(&mut self, setting: Setting, now: SystemTime) -> bool {
        self.pass(setting, now);
        if let Some(until) = self.open_until {
            if now < until {
                return false;
            }
            if self.probe_until.is_some() {
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

    pub(crate) fn status(
        &self,
        error_type: ErrorType,
        setting: Setting,
        now: SystemTime,
    ) -> BreakerStatus {
        let mut there = self.clone();
        there.pass(setting, now);
        let retry_at = there.open_until.filter(|until| now < *until);
        let state = match (there.open_until, retry_at) {
            (None, _) => BreakerState::Closed,
            (Some(_), Some(_)) => BreakerState::Open,
            // The next attempt is the probe, or it is out.
            (Some(_), None) => BreakerState::HalfOpen,
        };
        BreakerStatus {
            error_type,
            state,
            failures: u32::try_from(there.failures.len()).unwrap_or(u32::MAX),
            retry_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Plays `F` failure, `S` success and `L` a look at seconds; `want` says what each failure was
    /// told and the state afterwards.
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
                'L' => "look",
                _ => {
                    breaker.success();
                    "ok"
                }
            };
            let status = breaker.status(ErrorType::SystemError, setting, now);
            assert_eq!(status.retry_at.is_some(), status.state == BreakerState::Open);
            assert!(status.retry_at.is_none_or(|at| at > now));
            said.push(format!("{word}:{:?}", status.state));
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
        // The probe of 10 is given up at 20, and that of 45 at 65.
        check(
            &[&open[..], &[('F', 10), ('L', 20), ('L', 40), ('F', 45), ('F', 66)]].concat(),
            "try:Closed try:Closed stop:Open try:HalfOpen look:Open look:HalfOpen try:HalfOpen \
             stop:Open",
        );
    }

    #[test]
    fn an_open_breaker_is_half_open_once_its_time_is_over_though_nothing_fails() {
        let open = [('F', 0), ('F', 0), ('F', 0)];
        check(
            &[&open[..], &[('L', 9), ('L', 10), ('L', 5000)]].concat(),
            "try:Closed try:Closed stop:Open look:Open look:HalfOpen look:HalfOpen",
        );
    }
}
