//! Health checks of names: one small task per endpoint, and the checks that follow from others.
//!
//! Level-triggered, as the checker of targets is. Not here: what an unhealthy name loses (`zone`
//! reads the status). **Invariant:** a status changes only when what it says does, and never waits
//! for the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::name_probe::{Result, probe};
use super::rounds::{self, Due, Rounds};
use crate::clock::{Clock, Timestamp};
use crate::model::{
    AlarmState, NameCheck, NameCheckId, NameEndpoint, NameStatus, NameSubject, WithoutData,
};
use crate::state::{Key, State, Store};

/// Probes under way at once, each one socket.
const PROBES_AT_ONCE: usize = 128;
/// Found and not yet written; a task with one more waits.
const WAITING: usize = 256;
/// What is written here, for the log.
const WRITTEN: &str = "statuses of names";

/// Looks after the health of names until it is stopped.
#[derive(Debug)]
pub struct NameChecker {
    store: Store,
    clock: Clock,
    rng: fastrand::Rng,
    permits: Arc<Semaphore>,
    probing: HashMap<NameCheckId, Probing>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Probing {
    task: AbortHandle,
    endpoint: NameEndpoint,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    check: NameCheckId,
    passes: bool,
    text: String,
    failed: bool,
}

/// Counts results in a row.
#[derive(Clone, Debug)]
struct Streak {
    passes: bool,
    /// Results in a row that say otherwise.
    against: u32,
}

impl Streak {
    /// Whether the check passes after a result.
    fn observe(&mut self, passed: bool, threshold: u32) -> bool {
        self.against = if passed == self.passes { 0 } else { self.against.saturating_add(1) };
        if self.against >= threshold {
            (self.passes, self.against) = (passed, 0);
        }
        self.passes
    }
}

impl NameChecker {
    /// `rng` spreads the probes of a start.
    #[must_use]
    pub fn new(store: Store, clock: Clock, rng: fastrand::Rng) -> Self {
        let permits = Arc::new(Semaphore::new(PROBES_AT_ONCE));
        let (probing, tasks) = (HashMap::new(), JoinSet::new());
        Self { store, clock, rng, permits, probing, tasks }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut rounds = Rounds::new(self.store.clone(), stop, WAITING);
        let sender = rounds.sender.clone();
        while let Some(due) = rounds.next(&mut self.tasks, same).await {
            match due {
                Due::Look(state) => self.pass(&state, &sender),
                Due::Write(found) => self.commit(&found),
            }
        }
    }

    fn start(
        &mut self,
        state: &State,
        id: &NameCheckId,
        endpoint: NameEndpoint,
        sender: &mpsc::Sender<Found>,
    ) {
        let status = state.name_statuses.get(id);
        let streak = Streak { passes: status.is_none_or(|status| status.passes), against: 0 };
        // One that is known is probed within its first interval, a new one at once.
        let wait = match status {
            Some(_) => endpoint.interval.mul_f64(self.rng.f64()),
            None => Duration::ZERO,
        };
        let (permits, found) = (Arc::clone(&self.permits), sender.clone());
        let run = probing(id.clone(), endpoint.clone(), (streak, wait), permits, found);
        let task = self.tasks.spawn(run);
        self.probing.insert(id.clone(), Probing { task, endpoint });
    }

    /// Makes the tasks what the State's checks want, and those that follow from others true.
    fn pass(&mut self, state: &State, sender: &mpsc::Sender<Found>) {
        let wanted = |id: &NameCheckId| {
            let check = state.name_checks.get(id).filter(|check| !check.disabled)?;
            match &check.subject {
                NameSubject::Endpoint(endpoint) => Some(endpoint),
                _ => None,
            }
        };
        self.probing.retain(|id, probing| {
            let same = wanted(id) == Some(&probing.endpoint) && !probing.task.is_finished();
            if !same {
                probing.task.abort();
            }
            same
        });
        for id in state.name_checks.keys() {
            if let Some(endpoint) = wanted(id)
                && !self.probing.contains_key(id)
            {
                self.start(state, id, endpoint.clone(), sender);
            }
        }
        let derived: Vec<_> =
            state.name_checks.values().filter_map(|check| derived(state, check)).collect();
        self.commit(&derived);
        let gone = state.name_statuses.keys().filter(|id| !state.name_checks.contains_key(*id));
        let gone: Vec<_> = gone.cloned().collect();
        if !gone.is_empty() {
            rounds::write(&self.store, WRITTEN, |tx| {
                gone.iter().for_each(|id| tx.remove(Key::NameStatus(id.clone())))
            });
        }
    }

    fn commit(&self, batch: &[Found]) {
        let state = self.store.read();
        let now = self.clock.now();
        let news: Vec<_> = batch.iter().filter_map(|found| told(&state, found, now)).collect();
        if news.is_empty() {
            return;
        }
        let written = rounds::write(&self.store, WRITTEN, |tx| {
            let known = |row: &&NameStatus| tx.state().name_checks.contains_key(&row.check);
            let rows: Vec<_> = news.iter().filter(known).cloned().collect();
            rows.into_iter().for_each(|row| tx.put(row));
        });
        for row in news.iter().filter(|_| written) {
            let old = state.name_statuses.get(&row.check).is_none_or(|old| old.passes);
            if old != row.passes {
                let NameStatus { check, passes, text, .. } = row;
                tracing::info!(%check, passes, %text, "the health of a name changed");
            }
        }
    }
}

/// Whether both say the same of what is looked at: what was found is no reason to look again.
fn same(old: &State, new: &State) -> bool {
    Arc::ptr_eq(&old.name_checks, &new.name_checks)
        && Arc::ptr_eq(&old.name_statuses, &new.name_statuses)
        && Arc::ptr_eq(&old.alarms, &new.alarms)
}

/// Probes one endpoint for ever.
async fn probing(
    check: NameCheckId,
    endpoint: NameEndpoint,
    (mut streak, wait): (Streak, Duration),
    permits: Arc<Semaphore>,
    found: mpsc::Sender<Found>,
) {
    tokio::time::sleep(wait).await;
    let mut due = tokio::time::interval(endpoint.interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let Ok(permit) = permits.acquire().await else { return };
        let result = probe(&check, &endpoint).await;
        drop(permit);
        let (text, passed) = match result {
            Result::Passed(text) => (text, true),
            Result::Failed(text) => (text, false),
            Result::NotSent => {
                tracing::warn!(%check, "a probe could not be sent; its name keeps its status");
                continue;
            }
        };
        let passes = streak.observe(passed, endpoint.threshold);
        let one = Found { check: check.clone(), passes, text, failed: !passed };
        if found.send(one).await.is_err() {
            return;
        }
    }
}

/// The status that a result makes; none when it says what is known.
fn told(state: &State, found: &Found, now: Timestamp) -> Option<NameStatus> {
    let Found { check, passes, text, failed } = found;
    let old = state.name_statuses.get(check);
    if old.is_some_and(|old| old.passes == *passes && old.text == *text) {
        return None;
    }
    let failure = match failed {
        true => Some((text.clone(), now)),
        false => old.and_then(|old| old.failure.clone()),
    };
    let (check, text) = (check.clone(), text.clone());
    Some(NameStatus { check, passes: *passes, text, at: now, failure })
}

/// What a check comes to that looks at no endpoint. Pure.
fn derived(state: &State, check: &NameCheck) -> Option<Found> {
    let (passes, text) = match &check.subject {
        NameSubject::Endpoint(_) => return None,
        NameSubject::Calculated { children, threshold } => {
            let is_healthy = |id: &&NameCheckId| {
                let child = state.name_checks.get(*id);
                let status = state.name_statuses.get(*id).map(AsRef::as_ref);
                child.is_none_or(|child| child.is_healthy(status))
            };
            let healthy = children.iter().filter(is_healthy).count();
            let words = format!(
                "{healthy} of {} health checks are healthy, at least {threshold} have to be",
                children.len()
            );
            (u32::try_from(healthy).is_ok_and(|healthy| healthy >= *threshold), words)
        }
        NameSubject::Alarm { name, without_data, .. } => {
            let last = || state.name_statuses.get(&check.id).is_none_or(|status| status.passes);
            let state = state.alarms.get(name).map(|alarm| alarm.state);
            let passes = match (state, without_data) {
                (Some(AlarmState::Ok), _) => true,
                (Some(AlarmState::Alarm), _) => false,
                (_, WithoutData::Healthy) => true,
                (_, WithoutData::Unhealthy) => false,
                (_, WithoutData::LastKnown) => last(),
            };
            let words = state.map_or("gone", AlarmState::as_str);
            (passes, format!("the alarm {name} is {words}"))
        }
    };
    let text = format!("{}: {text}", if passes { "Success" } else { "Failure" });
    Some(Found { check: check.id.clone(), passes, text, failed: !passes })
}

#[cfg(test)]
mod tests;
