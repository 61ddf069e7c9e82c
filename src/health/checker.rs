//! The loop: one small task per active registration, one writer for their verdicts.
//!
//! Level-triggered: a pass compares the registrations with the tasks that probe them; a new State
//! only wakes it. **Invariant:** verdicts never wait for the disk, and many at once are one
//! commit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::log::{HealthLog, Probed};
use super::probe::{Probe, probe};
use super::rounds::{self, Due, Rounds};
use super::verdict::{Change, Machine, Occasion, Outcome};
use crate::clock::{self, Clock, Instant};
use crate::metrics::{Counter, Metrics, names};
use crate::model::{
    HealthCheck, RegistrationId, Target, TargetGroupName, Verdict, VerdictState, label,
};
use crate::state::{Key, State, Store};

/// Probes under way at once, each one socket; the others queue in the order they came.
const PROBES_AT_ONCE: usize = 512;
/// The wait after the first early probe; it doubles.
const EARLY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between early probes.
const EARLY_LONGEST: Duration = Duration::from_secs(1);
/// Found and not yet written; a task with one more waits.
const WAITING: usize = 1024;
/// What is written here, for the log.
const WRITTEN: &str = "verdicts";

/// Probes targets until it is stopped.
#[derive(Debug)]
pub struct Checker {
    store: Store,
    metrics: Metrics,
    clock: Clock,
    rng: fastrand::Rng,
    permits: Arc<Semaphore>,
    groups: HashMap<TargetGroupName, Group>,
    probing: HashMap<RegistrationId, Probing>,
    tasks: JoinSet<()>,
    log: Option<HealthLog>,
}

/// What the tasks of one target group share.
#[derive(Debug)]
struct Group {
    check: watch::Sender<Arc<HealthCheck>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Probing {
    task: AbortHandle,
    group: TargetGroupName,
}

#[derive(Debug)]
struct Counters {
    control: usize,
    passed: Counter,
    failed: Counter,
    healthy: Counter,
    unhealthy: Counter,
}

/// A verdict on its way to the State.
#[derive(Debug)]
struct Found {
    target: RegistrationId,
    /// The state before it.
    from: VerdictState,
    change: Change,
}

impl Checker {
    /// `rng` spreads the first probes, so that many targets are not probed in step.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics, clock: Clock, rng: fastrand::Rng) -> Self {
        Self {
            store,
            metrics,
            clock,
            rng,
            permits: Arc::new(Semaphore::new(PROBES_AT_ONCE)),
            groups: HashMap::new(),
            probing: HashMap::new(),
            tasks: JoinSet::new(),
            log: None,
        }
    }

    /// Tells every probe to `log`.
    #[must_use]
    pub fn with_log(self, log: Option<HealthLog>) -> Self {
        Self { log, ..self }
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

    fn start(&mut self, state: &State, target: &Target, sender: &mpsc::Sender<Found>) {
        let Some(group) = self.groups.get(&target.group) else { return };
        let prober = Prober {
            target: target.id,
            address: target.socket_address(),
            machine: Machine::new(state.verdict_state(target.id)),
            check: group.check.subscribe(),
            counters: Arc::clone(&group.counters),
            permits: Arc::clone(&self.permits),
            found: sender.clone(),
            log: self.log.clone(),
            group: state.target_groups.get(&target.group).map(|group| group.id.clone()),
        };
        let task = self.tasks.spawn(prober.run(self.rng.f64()));
        self.probing.insert(target.id, Probing { task, group: target.group.clone() });
    }

    fn count(&self, found: &Found) {
        let Found { target, from, change } = found;
        let probing = self.probing.get(target);
        let Some(group) = probing.and_then(|p| self.groups.get(&p.group)) else { return };
        if *from != change.state {
            group.counters.verdict(change.state);
        }
        let state = change.state.as_str();
        tracing::info!(%target, state, reason = change.description, "target health changed");
    }

    fn drop_verdicts(&self, stale: &[RegistrationId]) {
        rounds::write(&self.store, WRITTEN, |tx| {
            stale.iter().for_each(|id| tx.remove(Key::Verdict(*id)))
        });
    }

    /// Makes the tasks what the State's registrations want.
    fn pass(&mut self, state: &State, sender: &mpsc::Sender<Found>) {
        let active = |id: &RegistrationId| state.targets.get(id).is_some_and(|t| t.is_active());
        self.probing.retain(|id, probing| {
            let kept = active(id) && !probing.task.is_finished();
            if !kept {
                probing.task.abort();
            }
            kept
        });
        self.groups.retain(|name, _| state.target_groups.contains_key(name));
        for (name, group) in state.target_groups.iter() {
            let check = Arc::new(group.health_check.clone());
            let metrics = &self.metrics;
            let known = self.groups.entry(name.clone()).or_insert_with(|| Group {
                check: watch::Sender::new(Arc::clone(&check)),
                counters: Arc::new(Counters::new(metrics, name)),
            });
            known.check.send_if_modified(|old| {
                let differs = *old != check;
                *old = check;
                differs
            });
        }
        for target in state.targets.values().filter(|target| target.is_active()) {
            if !self.probing.contains_key(&target.id) {
                self.start(state, target, sender);
            }
        }
        let stale: Vec<_> = state.verdicts.keys().filter(|id| !active(id)).copied().collect();
        if !stale.is_empty() {
            self.drop_verdicts(&stale);
        }
    }

    fn commit(&self, batch: &[Found]) {
        let now = self.clock.now();
        let written = rounds::write(&self.store, WRITTEN, |tx| {
            for Found { target, change, .. } in batch {
                if !tx.state().targets.get(target).is_some_and(|target| target.is_active()) {
                    continue;
                }
                let old = tx.state().verdict(*target).filter(|old| old.state == change.state);
                let verdict = Verdict {
                    target: *target,
                    state: change.state,
                    reason: change.reason,
                    description: change.description.clone(),
                    since: old.map_or(now, |old| old.since),
                };
                tx.put(verdict);
            }
        });
        if written {
            batch.iter().for_each(|found| self.count(found));
        }
    }
}

/// Whether both say the same of what is looked at: what was found is no reason to look again.
fn same(old: &State, new: &State) -> bool {
    Arc::ptr_eq(&old.targets, &new.targets) && Arc::ptr_eq(&old.target_groups, &new.target_groups)
}

impl Counters {
    fn new(metrics: &Metrics, group: &TargetGroupName) -> Self {
        let group = label(group);
        let probes = |outcome| metrics.counter(&names::PROBES, &[&group, outcome]);
        let verdicts =
            |state: VerdictState| metrics.counter(&names::VERDICTS, &[&group, state.as_str()]);
        Self {
            control: metrics.control(),
            passed: probes("passed"),
            failed: probes("failed"),
            healthy: verdicts(VerdictState::Healthy),
            unhealthy: verdicts(VerdictState::Unhealthy),
        }
    }

    fn probe(&self, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed.add(self.control, 1),
            Outcome::NotSent => {
                tracing::warn!("a probe could not be sent; its target keeps its verdict")
            }
            _ => self.failed.add(self.control, 1),
        }
    }

    fn verdict(&self, state: VerdictState) {
        match state {
            VerdictState::Initial => {}
            VerdictState::Healthy => self.healthy.add(self.control, 1),
            VerdictState::Unhealthy => self.unhealthy.add(self.control, 1),
        }
    }
}

/// Probes one registration.
struct Prober {
    target: RegistrationId,
    address: SocketAddr,
    machine: Machine,
    check: watch::Receiver<Arc<HealthCheck>>,
    counters: Arc<Counters>,
    permits: Arc<Semaphore>,
    found: mpsc::Sender<Found>,
    log: Option<HealthLog>,
    /// The target group's id.
    group: Option<String>,
}

/// When the next probes are due.
struct Schedule {
    /// None: something has passed, or the verdict came from the journal.
    early: Option<Instant>,
    early_wait: Duration,
    regular: Instant,
}

impl Schedule {
    /// `spread` is 0 to 1. A new target is probed at once, and its first regular probe comes half
    /// to one and a half intervals later; one with a verdict is probed within its first interval.
    fn new(state: VerdictState, now: Instant, interval: Duration, spread: f64) -> Self {
        let new = state == VerdictState::Initial;
        let first = interval.mul_f64(if new { 0.5 + spread } else { spread });
        Self { early: new.then_some(now), early_wait: EARLY_FIRST, regular: now + first }
    }

    fn next(&self) -> (Instant, Occasion) {
        match self.early {
            Some(early) if early < self.regular => (early, Occasion::Early),
            _ => (self.regular, Occasion::Regular),
        }
    }

    /// After a probe that was due at `due` and has ended at `now`.
    fn done(&mut self, occasion: Occasion, state: VerdictState, now: Instant, interval: Duration) {
        match occasion {
            Occasion::Early => {
                self.early = Some(now + self.early_wait);
                self.early_wait = (self.early_wait * 2).min(EARLY_LONGEST);
            }
            // From due time to due time, so that slow answers do not stretch the interval; never
            // a burst.
            Occasion::Regular => self.regular = (self.regular + interval).max(now),
        }
        if state != VerdictState::Initial {
            self.early = None;
        }
    }
}

impl Prober {
    async fn run(mut self, spread: f64) {
        let mut check = Arc::clone(&self.check.borrow_and_update());
        let start = clock::instant();
        let mut schedule = Schedule::new(self.machine.state(), start, check.interval, spread);
        loop {
            let (due, occasion) = schedule.next();
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                changed = self.check.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    check = Arc::clone(&self.check.borrow_and_update());
                    let soonest = clock::instant() + check.interval.mul_f64(spread);
                    schedule.regular = schedule.regular.min(soonest);
                    continue;
                }
            }
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            let port = check.port.unwrap_or_else(|| self.address.port());
            let target = SocketAddr::new(self.address.ip(), port);
            let (time, begun) = (clock::now(), clock::instant());
            let Probe { outcome, code } = probe(target, &check).await;
            drop(permit);
            if let Some(log) = &self.log {
                let (protocol, latency) = (check.protocol, begun.elapsed());
                let group = self.group.as_deref().unwrap_or("-");
                let line = Probed { protocol, time, latency, target, group, outcome, code };
                log.log(&line);
            }
            self.counters.probe(outcome);
            let from = self.machine.state();
            if let Some(change) = self.machine.observe(outcome, occasion, &check) {
                let found = Found { target: self.target, from, change };
                if self.found.send(found).await.is_err() {
                    return;
                }
            }
            schedule.done(occasion, self.machine.state(), clock::instant(), check.interval);
        }
    }
}

#[cfg(test)]
mod tests;
