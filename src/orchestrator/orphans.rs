//! Containers of ours whose task nobody knows, or that should be gone with it.
//!
//! **Invariant:** one is removed only after it was seen without a break for the whole grace, and
//! never by a process that began with a store without tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::shared::{Look, Shared};
use crate::clock::{self, Instant};
use crate::model::{STOP_TIMEOUT, TaskId, TaskStatus};
use crate::state::State;

#[derive(Debug)]
pub(super) struct Orphans {
    /// Since when each was seen.
    seen: BTreeMap<TaskId, Instant>,
    addresses: Arc<BTreeSet<IpAddr>>,
    grace: Duration,
    /// What the first look showed of a world that the store knows nothing of; None: it knew
    /// something, or there was no look yet.
    kept: Option<BTreeSet<TaskId>>,
    /// The store had no task when this process began.
    began_empty: bool,
}

impl Orphans {
    pub(super) fn new(state: &State, grace: Duration) -> Self {
        let began_empty = state.tasks.is_empty();
        let seen = BTreeMap::new();
        Self { seen, addresses: Arc::default(), grace, kept: None, began_empty }
    }

    /// Addresses that they hold: no new task may get one.
    pub(super) fn addresses(&self) -> Arc<BTreeSet<IpAddr>> {
        Arc::clone(&self.addresses)
    }

    /// Those whose grace is over, with the names of their containers.
    pub(super) fn ripe(&mut self, state: &State, look: &Look) -> Vec<(TaskId, Vec<String>)> {
        let unknown =
            |id: &TaskId| state.tasks.get(id).is_none_or(|task| task.known == TaskStatus::Stopped);
        let shown: Vec<_> = look.containers.iter().filter(|(id, _)| unknown(id)).collect();
        self.seen.retain(|id, _| shown.iter().any(|(other, _)| *other == id));
        let addresses: BTreeSet<IpAddr> =
            shown.iter().flat_map(|(_, c)| c.iter()).filter_map(|c| c.address).collect();
        if *self.addresses != addresses {
            self.addresses = Arc::new(addresses);
        }
        if self.kept.is_none() {
            let kept = shown.iter().filter(|_| self.began_empty).map(|(id, _)| (*id).clone());
            let kept: BTreeSet<TaskId> = kept.collect();
            for task in &kept {
                tracing::warn!(%task, "unknown task kept: the store was empty");
            }
            self.kept = Some(kept);
        }
        let now = clock::instant();
        let mut ripe = Vec::new();
        for (id, containers) in shown {
            let since = *self.seen.entry(id.clone()).or_insert(now);
            let is_kept = self.kept.as_ref().is_some_and(|kept| kept.contains(id));
            if !is_kept && now.duration_since(since) >= self.grace {
                ripe.push((id.clone(), containers.iter().map(|c| c.container.clone()).collect()));
            }
        }
        ripe
    }
}

/// Stops and removes the containers. What fails is tried again after a later look.
pub(super) async fn remove(shared: Arc<Shared>, task: TaskId, containers: Vec<String>) {
    for container in containers {
        let stopped = shared.runtime.stop(&task, &container, STOP_TIMEOUT).await;
        let removed = match stopped {
            Ok(()) => shared.runtime.remove(&task, &container).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            shared.meters.remove_errors.add(shared.metrics.control(), 1);
            tracing::warn!(%task, container, %error, "container of an unknown task not removed");
        }
    }
    shared.sight.ask();
}
