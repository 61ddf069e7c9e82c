//! Peak EWMA: how long a target takes to answer lately, where one slow answer counts at once and is
//! forgotten over time.
//!
//! Source: Finagle's and linkerd's load balancers. A target's load is that time, times the
//! exchanges it has and one more; of two targets by chance the one with less gets the next
//! exchange. **Invariant:** nobody waits; two threads that tell of answers at once may lose one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// Over this the past fades to a third (Finagle's and linkerd's).
const DECAY: Duration = Duration::from_secs(10);
/// What is taken of a target that nobody has heard of (linkerd's).
const UNKNOWN: Duration = Duration::from_millis(30);

/// How long one target takes.
#[derive(Debug, Default)]
pub struct Ewma {
    /// Nanoseconds, as the bits of a float.
    cost: AtomicU64,
    /// When that was, in microseconds since the Unix epoch; 0: never.
    at: AtomicU64,
}

impl Ewma {
    /// An answer came, or did not, after this time.
    pub fn tell(&self, took: Duration, now: Timestamp) {
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let took = took.as_nanos() as f64;
        let before = f64::from_bits(self.cost.load(Ordering::Relaxed));
        let cost = if took >= before {
            took
        } else {
            let kept = self.kept(now);
            before * kept + took * (1.0 - kept)
        };
        self.cost.store(cost.to_bits(), Ordering::Relaxed);
        self.at.store(now.0.max(1), Ordering::Relaxed);
    }

    /// What one more exchange is expected to cost, with so many under way. What nobody has told of
    /// for long fades, so that a target that was slow once is tried again.
    #[must_use]
    pub fn load(&self, in_flight: i64, now: Timestamp) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let exchanges = (in_flight.max(0) + 1) as f64;
        let cost = match self.at.load(Ordering::Relaxed) {
            0 => UNKNOWN.as_secs_f64() * 1e9,
            _ => f64::from_bits(self.cost.load(Ordering::Relaxed)) * self.kept(now),
        };
        // Of those that have faded altogether the one with fewer exchanges.
        cost.max(1.0) * exchanges
    }

    /// The share of the past that is left.
    fn kept(&self, now: Timestamp) -> f64 {
        let elapsed = now.since(Timestamp(self.at.load(Ordering::Relaxed)));
        (-elapsed.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::E;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    /// In milliseconds, rounded.
    fn check(ewma: &Ewma, in_flight: i64, millis: u64, expected: f64) {
        let load = ewma.load(in_flight, at(millis)) / 1e6;
        assert!((load - expected).abs() < 0.5, "{load} for {expected} at {millis}");
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let ewma = Ewma::default();
        check(&ewma, 0, 0, 30.0);
        check(&ewma, 3, 0, 120.0);
        ewma.tell(Duration::from_millis(100), at(0));
        check(&ewma, 0, 0, 100.0);
        check(&ewma, 4, 0, 500.0);
        ewma.tell(Duration::from_millis(500), at(1));
        check(&ewma, 0, 1, 500.0);
        ewma.tell(Duration::from_millis(10), at(2));
        check(&ewma, 0, 2, 500.0);
        // After 10 s a third of it is left, and the rest is what is told then.
        ewma.tell(Duration::from_millis(10), at(10_002));
        check(&ewma, 0, 10_002, 500.0 / E + 10.0 * (1.0 - 1.0 / E));
    }

    #[test]
    fn silence_is_forgiven() {
        let ewma = Ewma::default();
        ewma.tell(Duration::from_secs(5), at(0));
        check(&ewma, 0, 10_000, 5_000.0 / E);
        check(&ewma, 0, 100_000, 0.2);
        assert!(ewma.load(1, at(10_000_000)) > ewma.load(0, at(10_000_000)));
    }
}
