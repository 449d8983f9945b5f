//! The only source of time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The farthest that a timer is set ahead; a longer wait is waited in steps of this.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where a component takes the time of day from.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Option<(SystemTime, Instant)>,
}

impl Clock {
    /// The host's clock.
    pub const fn system() -> Self {
        Self { anchor: None }
    }

    /// A clock that shows `now` at this moment and then goes with the timers of the async runtime,
    /// so that a test that pauses and advances those moves the time of day with them.
    pub fn anchored(now: SystemTime) -> Self {
        Self { anchor: Some((now, Instant::now())) }
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match self.anchor {
            None => SystemTime::now(),
            Some((wall, instant)) => wall + instant.elapsed(),
        }
    }

    /// The moment on the timers' scale at which the time of day will be `at`; now if it has passed,
    /// and at most a month ahead.
    pub(crate) fn instant_of(&self, at: SystemTime) -> Instant {
        let ahead = at.duration_since(self.now()).unwrap_or_default();
        Instant::now() + ahead.min(FAR)
    }

    /// A moment `after` from now on the timers' scale, at most a month ahead.
    pub(crate) fn instant_in(after: Duration) -> Instant {
        Instant::now() + after.min(FAR)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// Microseconds since 1970, negative before, at the ends of the range where it does not fit.
pub(crate) fn micros(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            // The moment lies within a microsecond after the whole number, so that times order.
            let whole = before.duration().as_nanos().div_ceil(1000);
            i64::try_from(whole).map_or(i64::MIN, |micros| -micros)
        }
    }
}

/// The time of `micros` since 1970; the nearest that the host can express.
pub(crate) fn from_micros(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let at = if micros >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    at.unwrap_or(UNIX_EPOCH)
}

/// RFC 3339 in UTC with microseconds; times that no calendar reaches are numbers.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    match jiff::Timestamp::from_microsecond(micros(at)) {
        Ok(timestamp) => format!("{timestamp:.6}"),
        Err(_) => format!("{}us", micros(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_micros_on_both_sides_of_1970() {
        for micros_in in [0, 1, -1, 1_700_000_000_000_000, -5_000_001, i64::MAX, i64::MIN + 1] {
            assert_eq!(micros(from_micros(micros_in)), micros_in, "{micros_in}");
        }
        assert_eq!(micros(UNIX_EPOCH - Duration::from_nanos(1)), -1);
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn an_anchored_clock_goes_with_the_timers() {
        let clock = Clock::anchored(UNIX_EPOCH);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(5));
        let due = clock.instant_of(UNIX_EPOCH + Duration::from_secs(7));
        assert_eq!(due - Instant::now(), Duration::from_secs(2));
        let past = clock.instant_of(UNIX_EPOCH);
        assert_eq!(past - Instant::now(), Duration::ZERO);
    }
}
