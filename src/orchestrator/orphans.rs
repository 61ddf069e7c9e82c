//! Containers of ours whose task nobody knows, or that should be gone with it.
//!
//! **Invariant:** one is removed only after it was seen without a break for the whole grace, and
//! never by a process that began with a store without tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::shared::{Look, Post, Shared};
use crate::clock::{self, Instant};
use crate::model::{STOP_TIMEOUT, TaskId, TaskStatus};
use crate::state::State;

/// What could not be removed is tried again after this (ours).
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Orphans {
    /// When each may be removed.
    ripe_at: BTreeMap<TaskId, Instant>,
    addresses: BTreeSet<IpAddr>,
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
        let ripe_at = BTreeMap::new();
        Self { ripe_at, addresses: BTreeSet::new(), grace, kept: None, began_empty }
    }

    /// Addresses that they hold: no new task may get one.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied()
    }

    /// Those whose grace is over, with the names of their containers.
    pub(super) fn ripe(&mut self, state: &State, look: &Look) -> Vec<(TaskId, Vec<String>)> {
        let unknown =
            |id: &TaskId| state.tasks.get(id).is_none_or(|task| task.known == TaskStatus::Stopped);
        let shown: Vec<_> = look.containers.iter().filter(|(id, _)| unknown(id)).collect();
        self.ripe_at.retain(|id, _| shown.iter().any(|(other, _)| *other == id));
        let addresses: BTreeSet<IpAddr> =
            shown.iter().flat_map(|(_, c)| c.iter()).filter_map(|c| c.address).collect();
        self.addresses = addresses;
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
            let ripe_at = *self.ripe_at.entry(id.clone()).or_insert(now + self.grace);
            let is_kept = self.kept.as_ref().is_some_and(|kept| kept.contains(id));
            if !is_kept && now >= ripe_at {
                ripe.push((id.clone(), containers.iter().map(|c| c.container.clone()).collect()));
            }
        }
        ripe
    }

    /// A removal has ended, well or not. The last look still shows the containers: it must not
    /// begin the next one.
    pub(super) fn tried(&mut self, task: TaskId) {
        self.ripe_at.insert(task, clock::instant() + AGAIN);
    }
}

/// Stops and removes the containers. What fails is tried again after [`AGAIN`].
pub(super) async fn remove(
    shared: Arc<Shared>,
    post: Arc<Post>,
    task: TaskId,
    containers: Vec<String>,
) {
    for container in containers {
        let stopped = post.runtime.stop(&task, &container, STOP_TIMEOUT).await;
        let removed = match stopped {
            Ok(()) => post.runtime.remove(&task, &container).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            post.errors.remove.add(shared.metrics.control(), 1);
            tracing::warn!(%task, container, %error, "container of an unknown task not removed");
        }
    }
    post.sight.ask();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Observed, ObservedState};

    #[tokio::test(start_paused = true)]
    async fn an_old_look_begins_no_second_removal() {
        let (grace, state) = (Duration::from_secs(15), State::default());
        let mut orphans = Orphans::new(&state, grace);
        // The store knew a task when the process began.
        orphans.began_empty = false;
        let task = TaskId::new("1");
        let shown =
            Observed::new(task.clone(), "app".into(), "r".into(), ObservedState::Created, None);
        let containers = BTreeMap::from([(task.clone(), vec![shown])]);
        let look = Look { started: 1, containers };
        let ripe = vec![(task.clone(), vec!["app".to_owned()])];
        let is = |orphans: &mut Orphans, expected: &[(TaskId, Vec<String>)]| {
            assert_eq!(orphans.ripe(&state, &look), expected);
        };

        is(&mut orphans, &[]);
        tokio::time::advance(grace).await;
        is(&mut orphans, &ripe);
        orphans.tried(task);
        is(&mut orphans, &[]);
        tokio::time::advance(AGAIN).await;
        is(&mut orphans, &ripe);
    }
}
