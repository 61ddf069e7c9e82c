//! Outlier ejection: a target that fails too often is left alone for a while, though its health
//! checks pass.
//!
//! The measures are Envoy's: failures in a row, and the share of failures in an interval. Pure
//! counting over atomics. Not here: how many of a group may be ejected at a time (`Group::note`).
//! **Invariant:** nobody waits, and every ejection ends by itself.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::model::OutlierEjection;

/// What came of one exchange with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// An answer below 500.
    Good,
    /// 500 or above.
    ServerError,
    /// No connection, or one that ended or stayed silent before an answer.
    Failure,
}

/// Why a target is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Consecutive5xx,
    ConsecutiveFailures,
    SuccessRate,
}

impl Reason {
    pub const ALL: [Self; 3] = [Self::Consecutive5xx, Self::ConsecutiveFailures, Self::SuccessRate];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

/// What is known of one target.
#[derive(Debug, Default)]
pub struct Record {
    server_errors: AtomicU32,
    failures: AtomicU32,
    /// Of the current interval, which began then, in microseconds since the Unix epoch.
    began: AtomicU64,
    good: AtomicU32,
    all: AtomicU32,
    /// Ejected until then; 0: never was.
    until: AtomicU64,
    /// Ejections that are not forgotten.
    times: AtomicU32,
}

impl Record {
    /// Counts one exchange; why the target should be ejected, if it should.
    #[must_use]
    pub fn note(&self, came: Came, rules: &OutlierEjection, now: Timestamp) -> Option<Reason> {
        let rate = self.count(came == Came::Good, rules, now);
        if came == Came::Good {
            // Most are: nothing is written where nothing changes.
            for count in [&self.server_errors, &self.failures] {
                if count.load(Ordering::Relaxed) != 0 {
                    count.store(0, Ordering::Relaxed);
                }
            }
            return rate;
        }
        let reached = |most: u32, count: u32| most > 0 && count >= most;
        // A failure is also one in the row of server errors: the client saw a 502.
        let errors = self.server_errors.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = match came {
            Came::Failure => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
            Came::Good | Came::ServerError => {
                self.failures.store(0, Ordering::Relaxed);
                0
            }
        };
        if reached(rules.consecutive_failures, failures) {
            return Some(Reason::ConsecutiveFailures);
        }
        if reached(rules.consecutive_5xx, errors) {
            return Some(Reason::Consecutive5xx);
        }
        rate
    }

    /// Counts it in its interval; at the end of one says whether too few were good.
    fn count(&self, is_good: bool, rules: &OutlierEjection, now: Timestamp) -> Option<Reason> {
        if rules.success_rate == 0 {
            return None;
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        self.good.fetch_add(u32::from(is_good), Ordering::Relaxed);
        let began = self.began.load(Ordering::Relaxed);
        if began != 0 && now.since(Timestamp(began)) < rules.interval {
            return None;
        }
        let turned =
            self.began.compare_exchange(began, now.0, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_err() || began == 0 {
            return None;
        }
        let (all, good) =
            (self.all.swap(0, Ordering::Relaxed), self.good.swap(0, Ordering::Relaxed));
        let is_low = u64::from(good) * 100 < u64::from(all) * u64::from(rules.success_rate);
        (all >= rules.minimum_requests && is_low).then_some(Reason::SuccessRate)
    }

    /// Ejects it, each time for longer; times spent well since are taken off.
    pub fn eject(&self, rules: &OutlierEjection, now: Timestamp) {
        let base = rules.base_time.as_micros().max(1);
        let until = self.until.load(Ordering::Relaxed);
        let well = now.since(Timestamp(until)).as_micros() / base;
        let well = u32::try_from(well).unwrap_or(u32::MAX);
        let times = self.times.load(Ordering::Relaxed).saturating_sub(well).saturating_add(1);
        let time = rules.base_time.saturating_mul(times).min(rules.max_time);
        self.times.store(times, Ordering::Relaxed);
        self.server_errors.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.until.store((now + time).0, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_ejected(&self, now: Timestamp) -> bool {
        self.until(now).is_some()
    }

    /// When its ejection ends; none where it is not ejected.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.until.load(Ordering::Relaxed);
        (now.0 < until).then_some(Timestamp(until))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULES: OutlierEjection = OutlierEjection {
        consecutive_5xx: 5,
        consecutive_failures: 3,
        success_rate: 50,
        minimum_requests: 10,
        interval: Duration::from_secs(10),
        base_time: Duration::from_secs(30),
        max_time: Duration::from_secs(100),
        max_percent: 50,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    /// One letter an exchange, one second apart where a blank stands: good, error, failure.
    fn check(exchanges: &str, expected: Option<(usize, Reason)>) {
        let (record, mut second) = (Record::default(), 0);
        let found = exchanges.char_indices().find_map(|(place, c)| {
            let came = match c {
                'g' => Came::Good,
                'e' => Came::ServerError,
                'f' => Came::Failure,
                _ => {
                    second += 1;
                    return None;
                }
            };
            record.note(came, &RULES, at(second)).map(|reason| (place, reason))
        });
        assert_eq!(found, expected, "{exchanges}");
    }

    #[test]
    fn failures_in_a_row_eject() {
        check("eeeee", Some((4, Reason::Consecutive5xx)));
        check("eeeegeeeeg", None);
        check("fff", Some((2, Reason::ConsecutiveFailures)));
        check("ffgffg", None);
        check("ffeff", Some((4, Reason::Consecutive5xx)));
        check("geegeg", None);
    }

    #[test]
    fn a_low_success_rate_ejects_at_the_end_of_an_interval() {
        check("gegeegeegee          g", Some((21, Reason::SuccessRate)));
        check("gegegegegeg          g", None);
        // Too few to say so.
        check("geege          g", None);
    }

    #[test]
    fn each_ejection_is_longer_until_time_is_spent_well() {
        let record = Record::default();
        let check = |second: u64, length: u64| {
            record.eject(&RULES, at(second));
            assert_eq!(record.until(at(second)), Some(at(second + length)), "at {second}");
            assert!(record.is_ejected(at(second + length - 1)));
            assert!(!record.is_ejected(at(second + length)));
        };
        check(0, 30);
        check(31, 60);
        check(92, 90);
        check(183, 100);
        // 95 s well behind that: three times less, then once more.
        check(183 + 100 + 95, 60);
        check(10_000, 30);
    }
}
