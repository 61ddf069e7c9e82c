//! The publisher: compiles each new State and swaps the pointer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Context, Reader, compile};
use crate::clock;
use crate::metrics::{Gauge, Histogram, names};
use crate::state::{Commit, Store};

/// How long a slow data thread may hold up the next generation (ours: ten times a slow
/// acknowledgement).
const PACE: Duration = Duration::from_millis(100);

/// Runs on the control runtime; the only one that publishes.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    reader: Reader,
    context: Context,
    compile_seconds: Histogram,
    propagation_seconds: Histogram,
    generation: Gauge,
}

impl Publisher {
    #[must_use]
    pub fn new(store: Store, reader: Reader, context: Context) -> Self {
        let metrics = &context.metrics;
        Self {
            compile_seconds: metrics.histogram(&names::COMPILE_SECONDS, &[]),
            propagation_seconds: metrics.histogram(&names::PROPAGATION_SECONDS, &[]),
            generation: metrics.gauge(&names::GENERATION, &[]),
            store,
            reader,
            context,
        }
    }

    /// Compiles the current State and publishes it, unless that was done.
    pub fn publish(&self) {
        let state = self.store.read();
        let previous = self.reader.load();
        if previous.generation == state.generation {
            return;
        }
        let started = clock::instant();
        let routing = compile(&state, &previous, &self.context);
        drop(previous);
        self.reader.publish(routing);
        self.compile_seconds.observe(self.context.metrics.control(), started.elapsed());
    }

    /// Publishes every new State until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut commits = self.store.watch();
        loop {
            let commit = commits.borrow_and_update();
            self.publish();
            let followed = tokio::select! {
                followed = self.follow(commit) => followed,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return },
                // Late, but now: the next round measures it.
                Ok(()) = self.reader.wait_for(commit.generation), if !followed => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Waits for the data threads, so that a burst of commits is compiled as often as they can
    /// follow, no more; but never longer than [`PACE`] for a thread that hangs. Whether they all
    /// have followed.
    async fn follow(&self, commit: Commit) -> bool {
        let waiting = self.reader.wait_for(commit.generation);
        if !matches!(tokio::time::timeout(PACE, waiting).await, Ok(Ok(()))) {
            return false;
        }
        let took = commit.at.elapsed();
        self.propagation_seconds.observe(self.context.metrics.control(), took);
        self.generation.set(i64::try_from(commit.generation.0).unwrap_or(i64::MAX));
        true
    }
}
