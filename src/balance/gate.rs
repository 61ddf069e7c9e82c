//! Requests that wait: for a target that may take one more, or for the first target there is.
//!
//! Bounded, first come first served. Nobody is handed a target here: whoever is woken decides
//! again. **Invariant:** whoever waits is counted until its place is dropped, and each place that
//! becomes free while somebody waits for it wakes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::metrics::{Counter, Gauge, Metrics, names};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// All targets have as many exchanges as they may.
    Slot,
    /// There is no target.
    Target,
}

impl Want {
    const ALL: [Self; 2] = [Self::Slot, Self::Target];

    /// The option that lets requests wait.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slot => "queue",
            Self::Target => "hold",
        }
    }
}

/// Who waits in one target group; outlives snapshots.
#[derive(Debug)]
pub struct Gate {
    waiting: [AtomicI64; 2],
    freed: Notify,
    shown: [Gauge; 2],
    refused: [Counter; 2],
}

/// Counts one request that waits.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    want: Want,
    is_behind: bool,
}

impl Gate {
    #[must_use]
    pub fn new(metrics: &Metrics, group: &str) -> Self {
        Self {
            waiting: Default::default(),
            freed: Notify::new(),
            shown: Want::ALL
                .map(|want| metrics.gauge(&names::GROUP_WAITING, &[group, want.as_str()])),
            refused: Want::ALL
                .map(|want| metrics.counter(&names::GROUP_WAIT_REFUSED, &[group, want.as_str()])),
        }
    }

    /// A place among those who wait; none where `most` do. It keeps its turn if it was notified.
    #[must_use]
    pub fn enter(self: &Arc<Self>, want: Want, most: u32) -> Option<Place> {
        let waiting = &self.waiting[want as usize];
        let before = waiting.fetch_add(1, Ordering::SeqCst);
        self.shown[want as usize].set(before + 1);
        let place = Place { gate: Arc::clone(self), want, is_behind: before > 0 };
        (before < i64::from(most)).then_some(place)
    }

    /// How many wait for a slot.
    #[must_use]
    pub fn queued(&self) -> i64 {
        self.waiting[Want::Slot as usize].load(Ordering::SeqCst)
    }

    /// How many wait for a target, where there is none.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.waiting[Want::Target as usize].load(Ordering::SeqCst)
    }

    /// A target may take one more.
    pub fn free(&self) {
        if self.queued() > 0 {
            self.freed.notify_one();
        }
    }

    /// One that may not wait, or has waited for too long; `thread` is the data thread's index.
    pub fn refuse(&self, want: Want, thread: usize) {
        self.refused[want as usize].add(thread, 1);
    }
}

impl Place {
    #[must_use]
    pub const fn want(&self) -> Want {
        self.want
    }

    /// Whether others waited for the same when it was taken.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether it is a place at this gate.
    #[must_use]
    pub fn is_at(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }

    /// Returns when a target may take one more. Dropping it passes the turn on.
    pub async fn freed(&self) {
        self.gate.freed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = &self.gate.waiting[self.want as usize];
        let left = waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        self.gate.shown[self.want as usize].set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let gate = Arc::new(Gate::new(&Metrics::new(1), "g"));
        let places: Vec<_> = (0..2).map(|_| gate.enter(Want::Slot, 2).unwrap()).collect();
        assert_eq!([places[0].is_behind(), places[1].is_behind()], [false, true]);
        assert!(gate.enter(Want::Slot, 2).is_none());
        let held = gate.enter(Want::Target, 1);
        assert!(held.is_some(), "others are counted apart");
        assert_eq!((gate.queued(), gate.held()), (2, 1));
        drop(held);
        assert_eq!(gate.held(), 0);
        assert_eq!((gate.queued(), gate.shown[0].value()), (2, 2));
        drop(places);
        assert_eq!((gate.queued(), gate.shown[0].value()), (0, 0));
        assert!(gate.enter(Want::Slot, 0).is_none());
        assert_eq!(gate.queued(), 0, "whoever is refused leaves nothing behind");
    }

    #[tokio::test]
    async fn a_slot_wakes_who_came_first_and_a_turn_is_passed_on() {
        let gate = Arc::new(Gate::new(&Metrics::new(1), "g"));
        gate.free();
        let [one, two] = [(); 2].map(|()| gate.enter(Want::Slot, 9).unwrap());
        let (mut first, mut second) = (Box::pin(one.freed()), Box::pin(two.freed()));
        assert!(!futures_util::poll!(first.as_mut()).is_ready(), "what was free before is no turn");
        assert!(!futures_util::poll!(second.as_mut()).is_ready());
        gate.free();
        assert!(!futures_util::poll!(second.as_mut()).is_ready());
        drop(first);
        assert!(futures_util::poll!(second.as_mut()).is_ready());
    }
}
