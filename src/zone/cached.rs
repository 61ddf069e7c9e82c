//! Until when somebody's cache may still name an instance: the DNS side of a drain.
//!
//! **Invariant:** one [`CachedUntil`] per discovery instance for as long as any generation knows
//! it, moved by each answer before the answer leaves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::clock::Timestamp;

/// One cell per data thread: the latest moment at which an answer of that thread may still be
/// cached.
#[derive(Debug)]
pub struct CachedUntil(Box<[CachePadded<AtomicU64>]>);

impl CachedUntil {
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| CachePadded::default()).collect())
    }

    /// An answer with `ttl` is about to leave.
    pub fn answered(&self, thread: usize, now: Timestamp, ttl: Duration) {
        self.0[thread].fetch_max((now + ttl).0, Ordering::AcqRel);
    }

    /// Zero when it was never asked for.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Acquire));
        Timestamp(cells.max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_the_maximum_over_threads() {
        let cached = CachedUntil::new(2);
        assert_eq!(cached.latest(), Timestamp(0));
        cached.answered(0, Timestamp::from_millis(10), Duration::from_millis(5));
        cached.answered(1, Timestamp::from_millis(1), Duration::from_millis(5));
        assert_eq!(cached.latest(), Timestamp::from_millis(15));
    }
}
