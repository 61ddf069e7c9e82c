//! The loop that both checkers run: looks at each State that matters to them, and writes what
//! their probes have found in batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::state::{Commit, Listener, State, Store, Tx};

/// A full pass comes this often, whatever woke or did not wake us.
const FULL_PASS: Duration = Duration::from_secs(10);
/// Tries to write while what is written about goes at the same moment.
const TRIES: usize = 8;

/// What is to be done next.
pub(super) enum Due<F> {
    /// Make the tasks what this State wants.
    Look(Arc<State>),
    /// Write what was found.
    Write(Vec<F>),
}

/// What wakes somebody who has one small task each for what he looks after.
pub(super) struct Rounds<F> {
    store: Store,
    stop: CancellationToken,
    changed: Listener<Commit>,
    /// What a task has found goes here; one with more than may wait waits itself.
    pub(super) sender: mpsc::Sender<F>,
    found: mpsc::Receiver<F>,
    full: Interval,
    seen: Option<Arc<State>>,
}

impl<F> Rounds<F> {
    /// Until `stop`; so much that was found may wait.
    pub(super) fn new(store: Store, stop: CancellationToken, waiting: usize) -> Self {
        let changed = store.watch();
        let (sender, found) = mpsc::channel(waiting);
        let mut full = tokio::time::interval(FULL_PASS);
        full.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { store, stop, changed, sender, found, full, seen: None }
    }

    /// None: no more. Drops those of `tasks` that have ended; `same`: both States say the same of
    /// what is looked after.
    pub(super) async fn next(
        &mut self,
        tasks: &mut JoinSet<()>,
        same: fn(&State, &State) -> bool,
    ) -> Option<Due<F>> {
        let (mut batch, most) = (Vec::new(), self.found.max_capacity());
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = self.full.tick() => self.seen = None,
                woken = self.changed.changed() => if woken.is_err() { return None },
                _ = self.found.recv_many(&mut batch, most) => return Some(Due::Write(batch)),
                Some(_) = tasks.join_next() => continue,
            }
            let state = self.store.read();
            if !self.seen.as_ref().is_some_and(|old| same(old, &state)) {
                self.seen = Some(Arc::clone(&state));
                return Some(Due::Look(state));
            }
        }
    }
}

/// Writes `what` without waiting for the disk; whether it was taken. What goes in the same moment
/// refuses the commit; the next try sees that it is gone.
pub(super) fn write(store: &Store, what: &str, change: impl Fn(&mut Tx<'_>)) -> bool {
    for _ in 0..TRIES {
        match store.update_riding(&change) {
            Ok(_) => return true,
            Err(refused) => tracing::debug!(%refused, what, "again"),
        }
    }
    tracing::error!(what, "refused again and again");
    false
}
