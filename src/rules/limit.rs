//! Rate limits: how many requests may come for each value of a key.
//!
//! GCRA (ITU-T I.371, the virtual scheduling algorithm): one number per key, the time at which it
//! would be as if nothing had come. All threads share one table of atomics of fixed size; where a
//! set is full, the key that is nearest to having its whole burst again makes room. **Invariant:**
//! nobody waits, and as long as its place lasts no key gets more than its burst and its rate.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Facts;
use crate::clock::Timestamp;
use crate::metrics::Counter;
use crate::model::{RateKey, RateLimit};

/// Keys that are told apart at a time (ours: 256 KiB per limit).
const KEYS: usize = SETS * WAYS;
const SETS: usize = 2048;
/// Places that a key may have.
const WAYS: usize = 8;

/// One limit, and what came for each of its keys.
#[derive(Debug)]
pub struct Limiter {
    limit: RateLimit,
    /// What was refused.
    refused: Counter,
    hasher: RandomState,
    /// Nanoseconds from one request to the next, and those that a burst may be ahead.
    interval: u64,
    ahead: u64,
    places: Box<[Place]>,
}

#[derive(Debug, Default)]
struct Place {
    /// A key's hash; 0: free.
    key: AtomicU64,
    /// In nanoseconds since the Unix epoch.
    whole_at: AtomicU64,
}

impl Limiter {
    #[must_use]
    pub fn new(limit: RateLimit, refused: Counter) -> Self {
        let per = u64::try_from(limit.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(limit.requests.max(1))).max(1);
        Self {
            ahead: interval.saturating_mul(u64::from(limit.burst.saturating_sub(1))),
            limit,
            refused,
            hasher: RandomState::new(),
            interval,
            places: (0..KEYS).map(|_| Place::default()).collect(),
        }
    }

    #[must_use]
    pub const fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// Counts one request; where it may not come, how long it would have to wait, which is counted
    /// by `thread`.
    #[must_use]
    pub fn meet(&self, facts: &Facts<'_>, now: Timestamp, thread: usize) -> Option<Duration> {
        let wait = self.take(self.key(facts), now.0.saturating_mul(1000));
        if wait.is_some() {
            self.refused.add(thread, 1);
        }
        wait
    }

    /// Requests without the header share one key.
    fn key(&self, facts: &Facts<'_>) -> u64 {
        let hash = match &self.limit.key {
            RateKey::All => 1,
            RateKey::SourceIp => self.hasher.hash_one(facts.source.map_or([0; 16], network)),
            RateKey::Host => {
                let mut hasher = self.hasher.build_hasher();
                let letters = facts.host_name().bytes();
                letters.for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
                hasher.finish()
            }
            RateKey::Header(name) => {
                let mut hash = 1;
                facts.headers.any(name, |value| {
                    hash = self.hasher.hash_one(value);
                    true
                });
                hash
            }
        };
        hash.max(1)
    }

    fn take(&self, key: u64, now: u64) -> Option<Duration> {
        let place = self.place(key);
        let mut whole_at = place.whole_at.load(Ordering::Relaxed);
        loop {
            let from = whole_at.max(now);
            let wait = (from - now).saturating_sub(self.ahead);
            if wait > 0 {
                return Some(Duration::from_nanos(wait));
            }
            let next = from.saturating_add(self.interval);
            let cell = &place.whole_at;
            match cell.compare_exchange(whole_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return None,
                Err(moved) => whole_at = moved,
            }
        }
    }

    /// The key's place; where it has none, the one that is whole first.
    fn place(&self, key: u64) -> &Place {
        #[allow(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let set = key as usize % SETS * WAYS;
        let places = &self.places[set..set + WAYS];
        let mine = places.iter().find(|place| place.key.load(Ordering::Relaxed) == key);
        if let Some(place) = mine {
            return place;
        }
        let whole_at = |place: &&Place| place.whole_at.load(Ordering::Relaxed);
        let place = places.iter().min_by_key(whole_at).unwrap_or(&places[0]);
        let old = place.key.load(Ordering::Relaxed);
        let taken = place.key.compare_exchange(old, key, Ordering::Relaxed, Ordering::Relaxed);
        // Where another thread was faster, this one request counts on its key.
        if taken.is_ok() {
            place.whole_at.store(0, Ordering::Relaxed);
        }
        place
    }
}

/// An address of IPv4, or the /64 of one of IPv6, of which a client has as many as it likes.
fn network(address: IpAddr) -> [u8; 16] {
    let mut bytes = match address.to_canonical() {
        IpAddr::V4(address) => return address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    bytes[8..].fill(0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Headers;
    use super::*;
    use crate::metrics::{Metrics, names};

    fn limiter(key: RateKey, (requests, per): (u32, u64), burst: u32) -> Limiter {
        let refused = Metrics::new(1).counter(&names::LISTENER_RATE_LIMITED, &["l", "-"]);
        let limit = RateLimit { key, requests, per: Duration::from_secs(per), burst };
        Limiter::new(limit, refused)
    }

    fn from<'a>(source: &str, host: &'a str, head: &'a [u8]) -> Facts<'a> {
        let source = source.parse().ok();
        Facts { source, host, headers: Headers::Head(head), ..Facts::default() }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(RateKey::SourceIp, (10, 1), 3);
        let facts = from("10.0.0.1", "", b"");
        let meet = |millis: u64| limiter.meet(&facts, Timestamp::from_millis(1_000 + millis), 0);
        assert_eq!([meet(0), meet(0), meet(0)], [None; 3]);
        assert_eq!(meet(0), Some(Duration::from_millis(100)));
        assert_eq!(meet(60), Some(Duration::from_millis(40)));
        assert_eq!([meet(100), meet(200)], [None; 2]);
        assert_eq!(meet(299), Some(Duration::from_millis(1)));
        assert_eq!([meet(10_000), meet(10_000), meet(10_000)], [None; 3], "the burst is back");
        assert!(meet(10_000).is_some());
        assert_eq!(limiter.refused.total(), 4);
    }

    #[test]
    fn keys_are_counted_apart() {
        let check = |key: RateKey, one: Facts<'_>, same: Facts<'_>, other: Facts<'_>| {
            let limiter = limiter(key, (1, 60), 1);
            let met = [one, same, other]
                .map(|facts| limiter.meet(&facts, Timestamp::from_millis(1_000), 0).is_none());
            assert_eq!(met, [true, false, true], "{:?}", limiter.limit);
        };
        let plain = |source| from(source, "", b"");
        check(RateKey::SourceIp, plain("10.0.0.1"), plain("::ffff:10.0.0.1"), plain("10.0.0.2"));
        check(RateKey::SourceIp, plain("fd00::1"), plain("fd00::2:3"), plain("fd00:0:0:1::1"));
        let host = |host| from("10.0.0.1", host, b"");
        check(RateKey::Host, host("a.test"), host("A.test:80"), host("b.test"));
        let head = |head: &'static [u8]| from("10.0.0.1", "", head);
        let key = || RateKey::Header("X-Key".into());
        let (one, other) = (b"G\r\nx-key: 1\r\n\r\n", b"G\r\nx-key: 2\r\n\r\n");
        check(key(), head(one), head(b"G\r\nA: b\r\nX-Key:1 \r\n\r\n"), head(other));
        check(key(), head(b"G\r\n\r\n"), head(b"G\r\na: b\r\n\r\n"), head(other));
    }

    #[test]
    fn all_requests_may_share_one_limit() {
        let limiter = limiter(RateKey::All, (1, 60), 1);
        let now = Timestamp::from_millis(1_000);
        assert!(limiter.meet(&from("10.0.0.1", "a", b""), now, 0).is_none());
        assert!(limiter.meet(&from("10.0.0.2", "b", b""), now, 0).is_some());
    }

    #[test]
    fn threads_share_one_burst() {
        let limiter = limiter(RateKey::SourceIp, (1, 3_600), 1_000);
        let (facts, now) = (from("10.0.0.1", "", b""), Timestamp::from_millis(1_000));
        let passed = std::thread::scope(|scope| {
            let meet = || (0..600).filter(|_| limiter.meet(&facts, now, 0).is_none()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!((passed, limiter.refused.total()), (1_000, 1_400));
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_room() {
        let limiter = limiter(RateKey::SourceIp, (1, 60), 1);
        for n in 0..4 * KEYS as u64 {
            let _ = limiter.take(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 5);
        }
        assert_eq!(limiter.places.len(), KEYS);
        assert!(limiter.take(0x1234_5671, 5).is_none(), "a new key still has its burst");
        assert!(limiter.take(0x1234_5671, 5).is_some());
    }

    proptest! {
        #[test]
        fn no_more_pass_than_burst_and_rate(
            steps in prop::collection::vec(0u64..400, 1..200),
            requests in 1u32..50,
            burst in 1u32..20,
        ) {
            let limiter = limiter(RateKey::All, (requests, 1), burst);
            let facts = Facts::default();
            let (mut now, mut passed) = (1_000, 0u64);
            for step in steps {
                now += step;
                passed += u64::from(limiter.meet(&facts, Timestamp::from_millis(now), 0).is_none());
                let most = u64::from(burst) + (now - 1_000) * u64::from(requests) / 1_000 + 1;
                prop_assert!(passed <= most, "{passed} of {most}");
            }
        }
    }
}
