//! The one place that reads a clock.
//!
//! Everything that decides gets `now` passed in; whoever runs a loop holds a [`Clock`] and asks it.
//! Wall time ([`Timestamp`]) goes into records and logs, monotonic time ([`Instant`]) measures. A
//! simulation uses [`Clock::paused`], whose wall time follows tokio's paused clock.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
pub use tokio::time::Instant;

/// Wall time in microseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1000)
    }

    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// Time from `earlier` to `self`; zero when the wall clock went backwards in between.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// So much earlier, the epoch at the earliest.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// RFC 3339 with microseconds in UTC, the form of ALB's access logs.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => f.write_str("-"),
        }
    }
}

/// As headers have it: RFC 9110, section 5.6.7.
#[must_use]
pub fn http_date(at: Timestamp) -> Cow<'static, str> {
    let seconds = i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => Cow::Owned(at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        Err(_) => Cow::Borrowed("Fri, 31 Dec 9999 23:59:59 GMT"),
    }
}

/// Where wall time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    System,
    /// Wall time that starts at `origin` and moves with tokio's clock.
    Paused {
        origin: Timestamp,
        start: Instant,
    },
    /// Likewise, and set forward or back by so many seconds.
    Set {
        origin: Timestamp,
        start: Instant,
        by: &'static AtomicI64,
    },
}

impl Clock {
    /// A clock for simulations; call it inside a runtime whose time is paused.
    #[must_use]
    pub fn paused(origin: Timestamp) -> Self {
        Self::Paused { origin, start: Instant::now() }
    }

    /// Likewise, but `by` says by how many seconds it is set.
    #[must_use]
    pub fn set(origin: Timestamp, by: &'static AtomicI64) -> Self {
        Self::Set { origin, start: Instant::now(), by }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => now(),
            Self::Paused { origin, start } => *origin + start.elapsed(),
            Self::Set { origin, start, by } => {
                let (by, now) = (by.load(Ordering::Relaxed), *origin + start.elapsed());
                let distance = Duration::from_secs(by.unsigned_abs());
                if by < 0 { now.minus(distance) } else { now + distance }
            }
        }
    }
}

/// Wall time of the system.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this module is the clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Monotonic time; follows tokio's paused clock in a simulation.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this module is the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_prints_rfc_3339_with_microseconds() {
        assert_eq!(Timestamp(1_700_000_000_123_456).to_string(), "2023-11-14T22:13:20.123456Z");
    }

    #[test]
    fn dates_are_those_of_http() {
        let date = http_date(Timestamp::from_millis(784_111_777_000));
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(Timestamp(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn time_since_a_later_moment_is_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
