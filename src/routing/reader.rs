//! The published pointer, and who has seen what of it.
//!
//! **Invariant:** `wait_for(g)` returns only when every registered data thread stored a generation
//! of at least `g` in its slot, which it does after loading that snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::CancellationToken;

use super::Routing;
use crate::metrics::{Counter, Metrics, names};
use crate::model::Generation;
use crate::state::{Bell, Listener};

/// A data thread that has not acknowledged within this time counts as silent (ours; a pass of its
/// loop takes microseconds).
pub const SILENCE: Duration = Duration::from_secs(5);

/// Wakes at every new generation.
pub type Generations = Listener<Generation>;

/// What a plane holds of the world: the newest [`Routing`], nothing else. Clones share it.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Published>);

#[derive(Debug)]
struct Published {
    routing: ArcSwap<Routing>,
    /// Only wakes; readers load the pointer.
    generation: Bell<Generation>,
    slots: Mutex<Vec<Arc<AtomicU64>>>,
    /// Wakes whoever waits for acknowledgements.
    acknowledged: Bell<()>,
    /// Processes before this one that still carry exchanges.
    predecessors: Mutex<usize>,
    relieved: Bell<()>,
    /// Wakes whoever can see to it that a group without a target gets one.
    wanted: Bell<()>,
    silent: Counter,
}

/// A process before this one that still carries exchanges, until dropped.
#[derive(Debug)]
pub struct Predecessor(Arc<Published>);

/// A data thread's own slot; dropping it takes the thread out of every wait.
#[derive(Debug)]
pub struct Slot {
    cell: Arc<AtomicU64>,
    published: Arc<Published>,
}

/// Some data thread did not acknowledge within [`SILENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a data thread has not acknowledged generation {0}")]
pub struct Silent(pub Generation);

/// What every plane of one data thread shares.
#[derive(Clone, Debug)]
pub struct DataThread {
    /// Index of this thread's cells.
    pub index: usize,
    pub reader: Reader,
    /// Cancelled when the process begins to stop: connections end after their current exchange.
    pub closing: CancellationToken,
}

impl Reader {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Published {
            routing: ArcSwap::default(),
            generation: Bell::new(Generation::default()),
            slots: Mutex::default(),
            acknowledged: Bell::new(()),
            predecessors: Mutex::default(),
            relieved: Bell::new(()),
            wanted: Bell::new(()),
            silent: metrics.counter(&names::SILENT_SLOTS, &[]),
        }))
    }

    /// The newest snapshot. Never hold the guard over an await.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Routing>> {
        self.0.routing.load()
    }

    /// Wakes at every new generation.
    #[must_use]
    pub fn watch(&self) -> Generations {
        self.0.generation.subscribe()
    }

    pub(super) fn publish(&self, routing: Routing) {
        let generation = routing.generation;
        let old = self.0.routing.swap(Arc::new(routing));
        self.0.generation.send_replace(generation);
        // Freeing a large snapshot takes a while; nobody waits for it.
        drop(old);
    }

    /// A request begins to wait for the first target of its group.
    pub fn want(&self) {
        self.0.wanted.send_replace(());
    }

    /// Wakes when [`want`](Self::want) was called; how many wait is at the groups' gates.
    #[must_use]
    pub fn wanted(&self) -> Listener<()> {
        self.0.wanted.subscribe()
    }

    /// A slot for the calling data thread; it has acknowledged nothing yet.
    #[must_use]
    pub fn register(&self) -> Slot {
        let cell = Arc::new(AtomicU64::new(0));
        self.slots().push(Arc::clone(&cell));
        Slot { cell, published: Arc::clone(&self.0) }
    }

    /// From now on [`alone`](Self::alone) waits.
    #[must_use]
    pub fn predecessor(&self) -> Predecessor {
        *self.0.predecessors.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Predecessor(Arc::clone(&self.0))
    }

    /// No process before this one carries exchanges any more.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        *self.0.predecessors.lock().unwrap_or_else(PoisonError::into_inner) == 0
    }

    /// Returns when no process before this one carries exchanges any more: it picks from its last
    /// snapshot, and acknowledges nothing.
    pub async fn alone(&self) {
        let mut relieved = self.0.relieved.subscribe();
        while !self.is_alone() {
            if relieved.changed().await.is_err() {
                return;
            }
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest generation that is published and that every data thread has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Generation {
        let published = self.load().generation;
        let slowest = self.slots().iter().map(|cell| cell.load(Ordering::Acquire)).min();
        slowest.map_or(published, |slowest| published.min(Generation(slowest)))
    }

    /// Returns when `generation` is published and acknowledged by every data thread.
    ///
    /// # Errors
    /// Some thread stayed silent for [`SILENCE`]; it is counted.
    pub async fn wait_for(&self, generation: Generation) -> Result<(), Silent> {
        let mut acknowledged = self.0.acknowledged.subscribe();
        let mut published = self.watch();
        let wait = async {
            while self.acknowledged() < generation {
                tokio::select! {
                    changed = acknowledged.changed() => if changed.is_err() { break },
                    changed = published.changed() => if changed.is_err() { break },
                }
            }
        };
        tokio::time::timeout(SILENCE, wait).await.map_err(|_| {
            self.0.silent.add(0, 1);
            tracing::error!(%generation, "a data thread has not acknowledged a generation for 5 s");
            Silent(generation)
        })
    }
}

impl Slot {
    /// Says that this thread decides by `generation` or newer from now on.
    pub fn acknowledge(&self, generation: Generation) {
        self.cell.store(generation.0, Ordering::Release);
        self.published.acknowledged.send_replace(());
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        *self.0.predecessors.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.relieved.send_replace(());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.published.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|cell| !Arc::ptr_eq(cell, &self.cell));
        drop(slots);
        self.published.acknowledged.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(generation: u64) -> Routing {
        Routing { generation: Generation(generation), ..Routing::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_with_the_slowest_slot() {
        let reader = Reader::new(&Metrics::new(2));
        let (fast, slow) = (reader.register(), reader.register());
        reader.publish(routing(7));
        fast.acknowledge(Generation(7));
        assert_eq!(reader.wait_for(Generation(7)).await, Err(Silent(Generation(7))));
        slow.acknowledge(Generation(7));
        assert_eq!(reader.wait_for(Generation(7)).await, Ok(()));
        assert_eq!(reader.acknowledged(), Generation(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_predecessor_is_waited_for_until_it_is_gone() {
        let reader = Reader::new(&Metrics::new(1));
        reader.alone().await;
        let predecessor = reader.predecessor();
        let waiting = tokio::spawn({
            let reader = reader.clone();
            async move { reader.alone().await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        drop(predecessor);
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_ended_is_waited_for_no_more() {
        let reader = Reader::new(&Metrics::new(1));
        let slot = reader.register();
        reader.publish(routing(3));
        let waiting = tokio::spawn({
            let reader = reader.clone();
            async move { reader.wait_for(Generation(3)).await }
        });
        drop(slot);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_not_published_yet_is_waited_for() {
        let reader = Reader::new(&Metrics::new(1));
        assert_eq!(reader.wait_for(Generation(1)).await, Err(Silent(Generation(1))));
    }
}
