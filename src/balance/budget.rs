//! A retry budget: retries are a share of the requests that came lately, and a few more, so that
//! they cannot multiply the load of targets that fail because of it.
//!
//! What may be spent grows with the group's own counter of requests, so a request that is not
//! retried costs nothing here. Nobody waits: all is atomics. **Invariant:** within any stretch of
//! time no more is spent than [`WINDOW`]'s worth of saved budget and what came in since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::RetryBudget;

/// How far back requests count, and how much of the minimum may be saved (Finagle's and linkerd's
/// default).
const WINDOW: Duration = Duration::from_secs(10);
/// A retry in hundredths of itself, which is what one request brings per percent.
const RETRY: u64 = 100;

/// What one target group may spend on retries.
#[derive(Debug)]
pub struct Budget {
    limits: RetryBudget,
    since: Timestamp,
    /// The counter's value then.
    base: u64,
    /// Of all that came in, in hundredths.
    spent: AtomicU64,
    /// When the current window began, in microseconds after `since`.
    began: AtomicU64,
    /// The counter's value then, and what came in the window before it, scaled to its length.
    counted: AtomicU64,
    before: AtomicU64,
}

impl Budget {
    /// A whole one; `requests` is what its group has counted by now.
    #[must_use]
    pub fn new(limits: RetryBudget, since: Timestamp, requests: u64) -> Self {
        Self {
            limits,
            since,
            base: requests,
            spent: AtomicU64::new(0),
            began: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            before: AtomicU64::new(0),
        }
    }

    #[must_use]
    pub const fn limits(&self) -> RetryBudget {
        self.limits
    }

    /// Spends one retry. `requests`: what the group has counted by now. False: nothing is left.
    #[must_use]
    pub fn spend(&self, now: Timestamp, requests: u64) -> bool {
        let window = micros(WINDOW);
        let (elapsed, requests) =
            (micros(now.since(self.since)), requests.saturating_sub(self.base));
        let percent = u64::from(self.limits.percent);
        let minimum = u64::from(self.limits.minimum_per_second) * RETRY;
        let saved = minimum * WINDOW.as_secs();
        let came = saved + minimum * elapsed / 1_000_000 + percent * requests;
        let most = saved + percent * self.recent(elapsed, requests, window);
        let mut spent = self.spent.load(Ordering::Relaxed);
        loop {
            let paid = spent.max(came.saturating_sub(most)) + RETRY;
            if paid > came {
                return false;
            }
            let swapped =
                self.spent.compare_exchange(spent, paid, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return true,
                Err(now) => spent = now,
            }
        }
    }

    /// Requests of the last window: those of the current one, and the last one's for the part of
    /// it that is not over yet.
    fn recent(&self, elapsed: u64, requests: u64, window: u64) -> u64 {
        let began = self.began.load(Ordering::Relaxed);
        let counted = self.counted.load(Ordering::Relaxed);
        let (age, fresh) = (elapsed.saturating_sub(began), requests.saturating_sub(counted));
        if age < window {
            let before = self.before.load(Ordering::Relaxed);
            return fresh + before * (window - age) / window;
        }
        let scaled = u128::from(fresh) * u128::from(window) / u128::from(age);
        let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
        let turned =
            self.began.compare_exchange(began, elapsed, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() {
            self.counted.store(requests, Ordering::Relaxed);
            self.before.store(scaled, Ordering::Relaxed);
        }
        scaled
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps: at this second, with so many requests counted, so many of this many retries pass.
    fn check(limits: (u32, u32), steps: &[(u64, u64, u32, u32)]) {
        let limits = RetryBudget { percent: limits.0, minimum_per_second: limits.1 };
        let budget = Budget::new(limits, Timestamp::from_millis(5_000), 1_000);
        for (second, requests, tries, expected) in steps {
            let now = Timestamp::from_millis(5_000 + second * 1_000);
            let passed = (0..*tries).filter(|_| budget.spend(now, 1_000 + requests)).count();
            assert_eq!(passed as u64, u64::from(*expected), "{limits:?} at {second}: {steps:?}");
        }
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried() {
        check((20, 0), &[(0, 0, 5, 0), (0, 100, 100, 20), (1, 200, 100, 20), (1, 204, 5, 0)]);
        check((20, 0), &[(1, 104, 100, 20), (1, 105, 5, 1)]);
        check((100, 0), &[(0, 10, 100, 10)]);
    }

    #[test]
    fn a_few_per_second_always_may() {
        check((0, 10), &[(0, 0, 200, 100), (1, 0, 20, 10), (3, 50, 40, 20)]);
        check((0, 10), &[(100, 0, 200, 100)]);
        check((20, 10), &[(0, 50, 200, 110)]);
        check((0, 0), &[(9, 1_000, 5, 0)]);
    }

    #[test]
    fn threads_share_one_budget() {
        let limits = RetryBudget { percent: 10, minimum_per_second: 0 };
        let budget = Budget::new(limits, Timestamp::from_millis(5_000), 0);
        let spend = || {
            let now = Timestamp::from_millis(6_000);
            (0..200).filter(|_| budget.spend(now, 3_000)).count()
        };
        let spent = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(spent, 300);
    }

    #[test]
    fn what_came_long_ago_is_forgotten() {
        // 1,000 requests in 100 s are 100 in the last ten.
        check((20, 0), &[(100, 1_000, 500, 20), (100, 1_000, 5, 0)]);
        check((20, 0), &[(0, 1_000, 1, 1), (200, 1_000, 500, 10), (230, 1_000, 5, 0)]);
    }
}
