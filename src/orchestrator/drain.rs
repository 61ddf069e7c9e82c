//! Waiting until nobody uses a registration any more.
//!
//! **Invariant:** counters are read as final only after every data thread has acknowledged a
//! generation in which the registration was draining, and after the process that this one took
//! over from is gone; a wall clock that is set meanwhile makes no drain shorter or longer.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::step::{DRAIN_POLL, Drain};
use crate::clock::{self, Instant, Timestamp};
use crate::model::{
    DEREGISTRATION_DELAY, DiscoveryInstance, Generation, InstanceKey, RECORD_TTL, Registration,
    RegistrationId, Target, Task,
};
use crate::routing::SILENCE;
use crate::state::{Key, State, StoreError};

/// For how long a name of an instance may be cached.
fn ttl(state: &State, instance: &InstanceKey) -> Duration {
    let service = state.discovery_services.get(&instance.service);
    service.map_or(RECORD_TTL, |service| service.ttl)
}

/// What is being drained, as it was when the drain began.
#[derive(Debug)]
pub(super) struct Draining {
    generation: Generation,
    targets: Vec<RegistrationId>,
    instances: Vec<InstanceKey>,
    pub since: Timestamp,
    deadline: Timestamp,
    silent_until: Timestamp,
    forgotten_at: Timestamp,
    /// The longest time for which one of the instances may be cached.
    ttl: Duration,
    /// Answers that an earlier process gave are on no record: until when they may be cached.
    told_before: Timestamp,
    acknowledged: bool,
    /// The same moment by both clocks.
    began: (Timestamp, Instant),
}

impl Draining {
    /// Of all registrations of a task. `state` has them draining already; this process began at
    /// `began`.
    pub(super) fn of_task(state: &State, task: &Task, began: Timestamp, now: Timestamp) -> Self {
        let since = task.stopping_at.unwrap_or(now);
        let (targets, instances) =
            (state.targets_of_task(&task.id), state.instances_of_task(&task.id));
        let mut draining = Self::new(state, targets, instances, since, now);
        if task.created_at < began {
            draining.told_before = began + draining.ttl;
        }
        draining
    }

    fn new<'a>(
        state: &State,
        targets: impl Iterator<Item = &'a Target>,
        instances: impl Iterator<Item = &'a DiscoveryInstance>,
        since: Timestamp,
        now: Timestamp,
    ) -> Self {
        let (mut delay, mut names) = (None, None);
        let (mut ids, mut keys) = (Vec::new(), Vec::new());
        for target in targets {
            let group = state.target_groups.get(&target.group);
            delay = delay.max(Some(group.map_or(Duration::ZERO, |g| g.deregistration_delay)));
            ids.push(target.id);
        }
        for instance in instances {
            names = names.max(Some(ttl(state, &instance.key)));
            keys.push(instance.key.clone());
        }
        // A silent thread may answer from what it has for as long as it may pick from it.
        let delay_of_silent = delay.unwrap_or(DEREGISTRATION_DELAY).max(SILENCE);
        // A clock that was set back must not lengthen the delay.
        let since = since.min(now);
        Self {
            generation: state.generation,
            targets: ids,
            instances: keys,
            since,
            deadline: since + delay.unwrap_or_default(),
            silent_until: delay.map_or(since, |_| since + SILENCE),
            forgotten_at: names.map_or(since, |ttl| since + delay_of_silent + ttl),
            ttl: names.unwrap_or_default(),
            told_before: Timestamp(0),
            acknowledged: false,
            began: (now, clock::instant()),
        }
    }

    pub(super) fn facts(&self, shared: &Shared) -> Drain {
        let routing = shared.reader.load();
        let endpoints = self.targets.iter().filter_map(|id| routing.endpoints.get(id));
        let cached = self.instances.iter().map(|key| routing.zones.cached_until(key));
        let cached = cached.max().unwrap_or_default().max(self.told_before);
        // What the wall clock was set by since is no time that has passed.
        let (wall, passed) = (shared.clock.now(), self.began.0 + self.began.1.elapsed());
        let told = |at: Timestamp| (at + wall.since(passed)).minus(passed.since(wall));
        Drain {
            acknowledged: self.acknowledged,
            in_flight: endpoints.map(|endpoint| endpoint.in_flight()).sum(),
            cached_until: told(cached),
            deadline: told(self.deadline),
            silent_until: told(self.silent_until),
            forgotten_at: told(self.forgotten_at),
            registered: !self.targets.is_empty() || !self.instances.is_empty(),
        }
    }

    /// Waits for the data threads, the silent ones too, and for the process before this one.
    pub(super) async fn acknowledge(&mut self, shared: &Shared) {
        while shared.reader.wait_for(self.generation).await.is_err() {}
        if !shared.reader.is_alone() {
            shared.reader.alone().await;
            self.told_before = shared.clock.now() + self.ttl;
        }
        self.acknowledged = true;
    }

    /// Measures a drain that ended at `now`.
    pub(super) fn measure(&self, shared: &Shared, now: Timestamp) {
        let drain = self.facts(shared);
        if !drain.registered {
            return;
        }
        let cell = shared.metrics.control();
        shared.meters.drain_seconds.observe(cell, now.since(self.since));
        let busy = drain.in_flight > 0 || !drain.acknowledged;
        if busy && now >= drain.deadline {
            shared.meters.drains_cut.add(cell, 1);
        }
    }
}

/// A draining row that no stopping task will take along: a fixed target, or one somebody
/// deregistered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leftover {
    Target(RegistrationId),
    Instance(InstanceKey),
}

impl Leftover {
    /// All of them in `state`.
    pub(super) fn all(state: &State) -> Vec<Self> {
        let alone = |task: Option<&crate::model::TaskId>| {
            task.and_then(|id| state.tasks.get(id)).is_none_or(|task| {
                task.is_live() || task.known == crate::model::TaskStatus::Stopped
            })
        };
        let draining = |registration| matches!(registration, Registration::Draining { .. });
        let targets = state.targets.values().filter(|t| draining(t.registration));
        let instances = state.discovery_instances.values().filter(|i| draining(i.registration));
        targets
            .filter(|target| alone(target.task.as_ref()))
            .map(|target| Self::Target(target.id))
            .chain(
                instances
                    .filter(|instance| alone(instance.task.as_ref()))
                    .map(|instance| Self::Instance(instance.key.clone())),
            )
            .collect()
    }

    fn draining(&self, state: &State, now: Timestamp) -> Option<Draining> {
        let since = |registration| match registration {
            Registration::Draining { since } => Some(since),
            Registration::Active => None,
        };
        match self {
            Self::Target(id) => {
                let target = state.targets.get(id)?;
                let since = since(target.registration)?;
                let targets = std::iter::once(&**target);
                Some(Draining::new(state, targets, std::iter::empty(), since, now))
            }
            Self::Instance(key) => {
                let instance = state.discovery_instances.get(key)?;
                let since = since(instance.registration)?;
                let instances = std::iter::once(&**instance);
                Some(Draining::new(state, std::iter::empty(), instances, since, now))
            }
        }
    }

    /// Waits until nobody uses it, then removes its row. The next pass tries again what could not
    /// be written.
    pub(super) async fn reap(self, shared: Arc<Shared>) {
        let drained = self.draining(&shared.store.read(), shared.clock.now());
        let Some(mut draining) = drained else { return };
        loop {
            let now = shared.clock.now();
            let drain = draining.facts(&shared);
            let Some(until) = drain.busy_until(now) else { break };
            let left = until.since(now);
            if drain.acknowledged {
                tokio::time::sleep(DRAIN_POLL.min(left)).await;
            } else {
                let _ = tokio::time::timeout(left, draining.acknowledge(&shared)).await;
            }
        }
        draining.measure(&shared, shared.clock.now());
        let removed = shared.store.update(move |tx| {
            match self {
                Self::Target(id) => {
                    tx.remove(Key::Verdict(id));
                    tx.remove(Key::Target(id));
                }
                // It may have been registered again in the meantime.
                Self::Instance(key) => {
                    let row = tx.state().discovery_instances.get(&key);
                    if row.is_some_and(|row| !row.is_active()) {
                        tx.remove(Key::DiscoveryInstance(key));
                    }
                }
            }
            Ok::<_, StoreError>(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "a drained registration could not be removed");
            // The next pass begins it again; on a full disk it must not do so at once.
            tokio::time::sleep(super::WRITE_AGAIN).await;
        }
    }
}
