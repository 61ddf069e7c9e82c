//! The orchestrator: desired counts → tasks → containers.
//!
//! Two levels. A pass ([`plan`]) is instant and pure and writes only the State: which tasks there
//! should be. A worker per task performs [`next`] one step at a time: records, and calls of the
//! runtime. Both are level-triggered: an event only wakes them, and a full pass comes anyway. Not
//! here: how a container is run (`runtime`), who is healthy (`health` writes the verdicts), what
//! gets traffic (`routing` compiles that from the State).
//!
//! After a restart nothing is special. Containers of known tasks are found by their task's id and
//! adopted; a task whose container is gone died; containers of tasks that nobody knows are removed
//! after a grace, unless the store had no task at all when this process began: then it was most
//! likely lost, and those containers are kept and named in the log. **Invariant:** nothing is
//! stopped because a runtime does not answer, and stopping this process stops no task.

mod apply;
mod autoscaling;
mod drain;
mod failpoint;
mod hooks;
mod metadata;
mod meters;
mod name_server;
mod order;
mod orphans;
pub mod placement;
mod plan;
mod record;
mod rollout;
mod sampler;
mod settings;
mod shared;
mod step;
mod traffic;
mod variables;
mod words;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::drain::Leftover;
use self::hooks::HookCall;
use self::meters::ServiceMeters;
use self::orphans::Orphans;
use self::shared::{Look, Meters, Post, Shared};
use self::worker::{Desk, Worker};
use crate::clock::{self, Clock, Timestamp};
use crate::metrics::{Counter, Histogram, Metrics, names};
use crate::model::{InstanceName, Task, TaskId, TaskStatus};
use crate::routing::Reader;
use crate::runtime::Fleet;
use crate::state::{State, Store, StoreError, Table, changed};

pub use autoscaling::{BadSchedule, Scaling, Schedule, Surroundings, alarm};
pub use hooks::shares;
pub use metadata::Endpoint;
pub use name_server::NameServer;
pub use plan::{Event, Heard, Move, Plan, View, Why, plan};
pub use settings::{Curve, Settings};
pub use step::{Drain, Facts, Record, Seen, Step, next};
pub use words::Action;

/// After a plan that could not be written, the next pass comes this soon (ours).
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// A long pass rests as long as it took before the next, but no longer than this (ours).
const REST: Duration = Duration::from_millis(100);
/// A pass this short needs no rest: the timer itself would take longer.
const BRIEF: Duration = Duration::from_micros(200);

/// Turns services into running tasks. One per store.
#[derive(Debug)]
pub struct Orchestrator {
    shared: Arc<Shared>,
    rng: fastrand::Rng,
    leaving: Arc<watch::Sender<bool>>,
    work: JoinSet<()>,
    /// What the tasks of `work` are for.
    jobs: BTreeMap<Id, Job>,
    /// The same, to look them up.
    busy: BTreeSet<Job>,
    desks: BTreeMap<TaskId, Arc<Desk>>,
    /// By instance.
    orphans: BTreeMap<InstanceName, Orphans>,
    service_meters: ServiceMeters,
    passes: Counter,
    pass_seconds: Histogram,
}

/// Tells a running [`Orchestrator`] to stop every task. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// From now on nothing is started and every task is stopped, in order; `run` returns when none
    /// is left. There is no way back. After a restart, services get their tasks again.
    pub fn stop_everything(&self) {
        self.0.send_replace(true);
    }
}

type Looks = BTreeMap<InstanceName, Arc<Look>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Task(TaskId),
    Leftover(Leftover),
    Hook(HookCall),
    Orphan(InstanceName, TaskId),
    /// These two end only by accident.
    Listen(InstanceName),
    Look(InstanceName),
}

impl Orchestrator {
    #[must_use]
    pub fn new(
        store: Store,
        reader: Reader,
        fleet: &Fleet,
        settings: Settings,
        clock: Clock,
        rng: fastrand::Rng,
        metrics: Metrics,
    ) -> Self {
        let meters = Meters::new(&metrics);
        let (passes, pass_seconds) =
            (metrics.counter(&names::PASSES, &[]), metrics.histogram(&names::PASS_SECONDS, &[]));
        let state = store.read();
        let kind = |name: &InstanceName| {
            state.instances.get(name).map_or("unknown", |row| row.kind.as_str())
        };
        let post = |(name, runtime)| Post::new(name, runtime, kind(name), &metrics);
        let posts = fleet.iter().map(post).map(|post| (post.name.clone(), post)).collect();
        let grace = settings.orphan_grace;
        let orphans = fleet.iter().map(|(name, _)| (name.clone(), Orphans::new(&state, grace)));
        let orphans = orphans.collect();
        let shared = Arc::new(Shared {
            store,
            reader,
            posts,
            looked: watch::Sender::default(),
            settings: Arc::new(settings),
            clock,
            began: clock.now(),
            metrics,
            meters,
        });
        Self {
            shared,
            rng,
            leaving: Arc::new(watch::Sender::new(false)),
            work: JoinSet::new(),
            jobs: BTreeMap::new(),
            busy: BTreeSet::new(),
            desks: BTreeMap::new(),
            orphans,
            service_meters: ServiceMeters::default(),
            passes,
            pass_seconds,
        }
    }

    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.leaving))
    }

    /// Works until `stop`, or until [`Stopper::stop_everything`] has stopped the last task. Tasks
    /// outlive it otherwise.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.reconcile() => {}
        }
        // Whatever a worker was about to do, the next process does: abort, and wait until they are
        // gone.
        self.work.shutdown().await;
    }

    async fn reconcile(&mut self) {
        // Events first, so that nothing falls between the first look and them.
        for name in self.shared.posts.keys().cloned().collect::<Vec<_>>() {
            self.listen(&name);
            self.look(&name);
        }
        let mut commits = self.shared.store.watch();
        let mut looks = self.shared.looked.subscribe();
        let mut leaving = self.leaving.subscribe();
        let (mut state, mut shown) = (Arc::new(State::default()), Looks::new());
        loop {
            commits.borrow_and_update();
            looks.borrow_and_update();
            let new_shown = self.looks();
            let is_leaving = *leaving.borrow_and_update();
            let began = clock::instant();
            let revisit = self.pass(is_leaving).await;
            let new_state = self.shared.store.read();
            self.hire(&state, &new_state);
            self.wake_shown(&new_state, &shown, &new_shown);
            self.sweep(&new_state, &new_shown);
            self.service_meters.update(&new_state, &self.shared.metrics);
            let cell = self.shared.metrics.control();
            self.passes.add(cell, 1);
            self.pass_seconds.observe(cell, began.elapsed());
            if is_leaving && new_state.tasks.values().all(|t| t.known == TaskStatus::Stopped) {
                return;
            }
            (state, shown) = (new_state, new_shown);
            let took = began.elapsed();
            if took > BRIEF {
                tokio::time::sleep(took.min(REST)).await;
            }
            tokio::select! {
                biased;
                Some(ended) = self.work.join_next_with_id() => self.retire(ended),
                changed = commits.changed() => if changed.is_err() { return },
                _ = looks.changed() => {}
                _ = leaving.changed() => {}
                () = tokio::time::sleep(revisit) => {}
            }
            // Many end together: one pass for all of them.
            while let Some(ended) = self.work.try_join_next_with_id() {
                self.retire(ended);
            }
        }
    }

    fn listen(&mut self, name: &InstanceName) {
        let Some(post) = self.shared.posts.get(name).cloned() else { return };
        // Subscribed here and now, not when the task first runs.
        let events = post.runtime.events();
        self.spawn(Job::Listen(name.clone()), Arc::clone(&self.shared).listen(post, events));
    }

    fn look(&mut self, name: &InstanceName) {
        let Some(post) = self.shared.posts.get(name).cloned() else { return };
        self.spawn(Job::Look(name.clone()), Arc::clone(&self.shared).look(post));
    }

    /// What each instance last showed.
    fn looks(&self) -> Looks {
        let latest = |post: &Arc<Post>| Some((post.name.clone(), post.sight.latest()?));
        self.shared.posts.values().filter_map(latest).collect()
    }

    /// Makes a plan and writes it. How long the next pass may wait.
    async fn pass(&mut self, leaving: bool) -> Duration {
        let shared = Arc::clone(&self.shared);
        let (settings, now) = (Arc::clone(&shared.settings), shared.clock.now());
        let held = self.orphans.values().flat_map(Orphans::addresses);
        let (seed, avoid) = (self.rng.u64(..), held.collect::<BTreeSet<_>>());
        let heard = |post: &Arc<Post>| Some((post.name.clone(), post.sight.heard()?));
        let heard: BTreeMap<_, _> = shared.posts.values().filter_map(heard).collect();
        let make = move |state: &State| {
            let view = View { state, settings: &settings, leaving, avoid: &avoid, heard: &heard };
            plan(view, now, &mut fastrand::Rng::with_seed(seed))
        };
        let seen = shared.store.read();
        let first = make(&seen);
        let until = |at: Option<Timestamp>| {
            let wait = at.map_or(shared.settings.full_pass, |at| at.since(now));
            wait.min(shared.settings.full_pass)
        };
        if first.is_empty() {
            return until(first.revisit);
        }
        let settings = Arc::clone(&shared.settings);
        // Made again inside where the State has moved on: a plan is only right for the State it was
        // made from.
        let written = shared.store.update(move |tx| {
            let plan = if tx.state().is_same(&seen) { first } else { make(tx.state()) };
            apply::apply(tx, &plan, &settings, now);
            Ok::<_, StoreError>(plan)
        });
        match written.await {
            Ok(committed) => {
                let plan = committed.value;
                for step in &plan.moves {
                    tracing::info!(%step, "plan");
                }
                self.service_meters.started(&plan, &shared.metrics);
                until(plan.revisit)
            }
            Err(error) => {
                tracing::warn!(%error, "the plan could not be written");
                WRITE_AGAIN.min(shared.settings.full_pass)
            }
        }
    }

    fn spawn(&mut self, job: Job, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.work.spawn(work).id();
        self.busy.insert(job.clone());
        self.jobs.insert(id, job);
    }

    /// A worker for every task that has none, a reaper for every leftover, and a wake-up for
    /// changed tasks.
    fn hire(&mut self, before: &State, state: &State) {
        for task in changed(&before.tasks, &state.tasks) {
            if let Some(desk) = self.desks.get(&task) {
                desk.wake();
            }
        }
        // One that was lost, or is back.
        for name in changed(&before.instances, &state.instances) {
            let here = self
                .desks
                .iter()
                .filter(|(id, _)| state.tasks.get(*id).is_some_and(|task| task.instance == name));
            here.for_each(|(_, desk)| desk.wake());
        }
        for task in without(&state.tasks, &self.desks) {
            let works = task.known != TaskStatus::Stopped
                && !self.shared.settings.is_unplaced(state, task)
                && state.definitions.contains_key(&task.definition);
            if works {
                let desk = Arc::new(Desk::default());
                let worker = Worker::new(&self.shared, task, &desk, self.rng.fork());
                self.desks.insert(task.id.clone(), desk);
                self.spawn(Job::Task(task.id.clone()), worker.run());
            }
        }
        for leftover in Leftover::all(state) {
            let job = Job::Leftover(leftover.clone());
            if !self.busy.contains(&job) {
                self.spawn(job, leftover.reap(Arc::clone(&self.shared)));
            }
        }
        for call in HookCall::all(state) {
            let job = Job::Hook(call.clone());
            if !self.busy.contains(&job) {
                self.spawn(job, call.make(Arc::clone(&self.shared)));
            }
        }
    }

    fn retire(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, failure) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let job = self.jobs.remove(&id);
        if let Some(job) = &job {
            self.busy.remove(job);
        }
        if let Some(error) = failure {
            tracing::error!(%error, ?job, "work of the orchestrator failed; it is begun again");
        }
        match job {
            Some(Job::Task(task)) => drop(self.desks.remove(&task)),
            Some(Job::Listen(name)) => {
                self.listen(&name);
                if let Some(post) = self.shared.posts.get(&name) {
                    post.sight.ask();
                }
            }
            Some(Job::Look(name)) => self.look(&name),
            Some(Job::Orphan(name, task)) => {
                if let Some(orphans) = self.orphans.get_mut(&name) {
                    orphans.tried(task);
                }
            }
            Some(Job::Leftover(_) | Job::Hook(_)) | None => {}
        }
    }

    /// Wakes the workers of tasks that look different now, and those that wait for any look.
    fn wake_shown(&self, state: &State, before: &Looks, now: &Looks) {
        if before.values().map(|look| look.started).eq(now.values().map(|look| look.started)) {
            return;
        }
        for (id, desk) in &self.desks {
            let Some(task) = state.tasks.get(id) else { continue };
            let (old, new) = (before.get(&task.instance), now.get(&task.instance));
            let (Some(new), true) = (new, old.map(|l| l.started) != new.map(|l| l.started)) else {
                continue;
            };
            let looking = desk.take_looking();
            let changed = old.is_none_or(|old| old.containers.get(id) != new.containers.get(id));
            if looking || changed {
                desk.wake();
            }
        }
    }

    /// Removes containers that belong to nobody.
    fn sweep(&mut self, state: &State, shown: &Looks) {
        for (name, look) in shown {
            let Some(orphans) = self.orphans.get_mut(name) else { continue };
            let ripe = orphans.ripe(state, look);
            let Some(post) = self.shared.posts.get(name).cloned() else { continue };
            for (task, containers) in ripe {
                let job = Job::Orphan(name.clone(), task.clone());
                if !self.busy.contains(&job) {
                    tracing::warn!(%task, "containers of an unknown task are removed");
                    let (shared, post) = (Arc::clone(&self.shared), Arc::clone(&post));
                    self.spawn(job, orphans::remove(shared, post, task, containers));
                }
            }
        }
    }
}

/// The tasks that have no desk. Both are in the order of their ids: one walk along both.
fn without<'a>(
    tasks: &'a Table<TaskId, Task>,
    desks: &BTreeMap<TaskId, Arc<Desk>>,
) -> Vec<&'a Task> {
    let (mut desks, mut bare) = (desks.keys().peekable(), Vec::new());
    for (id, task) in tasks.iter() {
        while desks.next_if(|own| *own < id).is_some() {}
        if desks.next_if_eq(&id).is_none() {
            bare.push(&**task);
        }
    }
    bare
}

#[cfg(test)]
mod tests;
