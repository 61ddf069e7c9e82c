//! The worker of one task: asks for the next step and performs it, one after the other.
//!
//! **Invariant:** what an effect is for is durable before the effect; every effect may be made
//! again. A worker that is dropped leaves its task as it is: the next one goes on from the records
//! and the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::drain::Draining;
use super::failpoint;
use super::record::{self, Evidence};
use super::shared::{Post, Shared};
use super::step::{self, Facts, Record, Seen, Step};
use super::variables;
use crate::clock::{self, Instant};
use crate::metrics::Counter;
use crate::model::{NetworkMode, Observed, Task, TaskDefinition, TaskId, TaskStatus};
use crate::runtime::{ContainerSpec, RuntimeError};
use crate::state::StoreError;

/// Waits after failed calls: doubling from here (ours) …
const RETRY: Duration = Duration::from_millis(200);
/// … up to here (ours: a full pass).
const RETRY_MOST: Duration = Duration::from_secs(10);

/// How often other ports are chosen for a task whose ports somebody else has (ours).
const CHOICES: u32 = 5;

/// How the loop reaches a worker.
#[derive(Debug, Default)]
pub(super) struct Desk {
    wake: Notify,
    /// It waits for the runtime's next answer, whatever that is.
    looking: AtomicBool,
}

impl Desk {
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks to be woken by the next look, whatever it shows.
    fn look(&self) {
        self.looking.store(true, Ordering::Release);
    }

    /// Whether the worker waits for a look; once.
    pub(super) fn take_looking(&self) -> bool {
        self.looking.swap(false, Ordering::AcqRel)
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// None: its instance is no longer in the file.
    post: Option<Arc<Post>>,
    id: TaskId,
    desk: Arc<Desk>,
    rng: fastrand::Rng,
    evidence: Evidence,
    /// The tick of the last effect.
    trust: u64,
    /// How often ports were chosen again.
    chosen_again: u32,
    /// Calls that failed in a row, and when the next may be made.
    errors: u32,
    retry_at: Option<Instant>,
    draining: Option<Draining>,
}

impl Worker {
    pub(super) fn new(
        shared: &Arc<Shared>,
        task: &Task,
        desk: &Arc<Desk>,
        rng: fastrand::Rng,
    ) -> Self {
        // Effects follow PENDING, which is durable first: before it there is nothing to be found.
        let shown = (task.known == TaskStatus::Provisioning).then(Vec::new);
        let post = shared.posts.get(&task.instance).cloned();
        let tick = post.as_ref().map_or(0, |post| post.sight.tick());
        let trust = if shown.is_some() { tick } else { 0 };
        Self {
            post,
            shared: Arc::clone(shared),
            id: task.id.clone(),
            desk: Arc::clone(desk),
            rng,
            evidence: Evidence { shown, ..Evidence::default() },
            trust,
            chosen_again: 0,
            errors: 0,
            retry_at: None,
            draining: None,
        }
    }

    /// Works until the task is STOPPED or forgotten.
    pub(super) async fn run(mut self) {
        loop {
            self.refresh();
            let Some((task, definition, facts)) = self.look_up() else { return };
            let seen = self.evidence.shown.as_deref().map_or(Seen::Unknown, Seen::Known);
            let now = self.shared.clock.now();
            let step = step::next(&task, &definition, seen, &facts, now);
            if step == Step::End {
                return;
            }
            tracing::trace!(task = %self.id, ?step, "step");
            self.perform(step, &task, &definition).await;
        }
    }

    /// Takes over what the runtime showed, if that is newer than the last effect.
    fn refresh(&mut self) {
        let Some(look) = self.post.as_ref().and_then(|post| post.sight.latest()) else { return };
        if look.started > self.trust {
            self.evidence.shown = Some(look.containers.get(&self.id).cloned().unwrap_or_default());
        } else {
            // Too old to believe, but the next look may show the same: it has to wake us even then.
            self.desk.look();
        }
    }

    fn look_up(&mut self) -> Option<(Arc<Task>, Arc<TaskDefinition>, Facts)> {
        let state = self.shared.store.read();
        let task = Arc::clone(state.tasks.get(&self.id)?);
        let mut definition = Arc::clone(state.definitions.get(&task.definition)?);
        if let Some(run) = &task.run {
            definition = Arc::new(run.overrides.applied(&definition));
        }
        if task.known == TaskStatus::Deactivating && self.draining.is_none() {
            let (began, now) = (self.shared.began, self.shared.clock.now());
            self.draining = Some(Draining::of_task(&state, &task, began, now));
        }
        let places = record::places(&state, &task)
            .filter(|places| !places.groups.is_empty() || places.discovery.is_some());
        let registers = places.is_some();
        let registration_delay =
            places.map(|places| places.service.policy.registration_delay).unwrap_or_default();
        let drain = self.draining.as_ref().map(|draining| draining.facts(&self.shared));
        let failure = self.evidence.failure.clone();
        let drain = drain.unwrap_or_default();
        let lost = state.is_lost(&task.instance);
        Some((task, definition, Facts { registers, registration_delay, drain, failure, lost }))
    }

    async fn perform(&mut self, step: Step, task: &Arc<Task>, definition: &TaskDefinition) {
        let effect = !matches!(step, Step::Wait(_) | Step::Look | Step::Acknowledge | Step::End);
        if effect && let Some(at) = self.retry_at.filter(|at| *at > clock::instant()) {
            self.pause(Some(at)).await;
            return;
        }
        match step {
            Step::Record(record) => self.commit(task, record).await,
            Step::Acknowledge => self.acknowledge().await,
            Step::Wait(until) => {
                let now = self.shared.clock.now();
                self.pause(until.map(|until| clock::instant() + until.since(now))).await;
            }
            Step::End => {}
            effect => match self.post.clone() {
                Some(post) => self.effect(&post, effect, task, definition).await,
                None => self.pause(None).await,
            },
        }
    }

    /// A step that the runtime is asked for.
    async fn effect(&mut self, post: &Post, step: Step, task: &Task, definition: &TaskDefinition) {
        match step {
            Step::Create(name) => self.create(post, task, definition, &name).await,
            Step::Start(name) => {
                failpoint::reach("before", "start");
                let started = post.runtime.start(&self.id, &name).await;
                failpoint::reach("after", "start");
                match started {
                    Err(RuntimeError::PortTaken(why)) if self.may_choose_again(task) => {
                        self.choose_again(post, task, &name, &why).await;
                    }
                    started => self.made(post, &name, started, &post.errors.start.clone()),
                }
            }
            Step::Restart(name) => {
                tracing::info!(task = %self.id, container = name, "restarted by its policy");
                let started = post.runtime.restart(&self.id, &name).await;
                let errors = post.errors.start.clone();
                self.made(post, &name, started, &errors);
            }
            Step::Stop(names) => self.stop(post, definition, &names).await,
            Step::Remove(names) => self.remove(post, task, definition, &names).await,
            Step::Look => {
                self.desk.looking.store(true, Ordering::Release);
                post.sight.ask();
                self.pause(Some(clock::instant() + self.shared.settings.full_pass)).await;
            }
            Step::Record(_) | Step::Acknowledge | Step::Wait(_) | Step::End => {}
        }
    }

    /// Waits for a wake-up, or until then.
    async fn pause(&self, until: Option<Instant>) {
        tokio::select! {
            biased;
            () = self.desk.wake.notified() => {}
            () = async { match until {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
        }
    }

    async fn commit(&mut self, task: &Arc<Task>, record: Record) {
        if let Record::Die(stop) = &record {
            tracing::info!(task = %self.id, reason = stop.whole(), "task died");
            self.shared.eject(&self.id);
        }
        let now = self.shared.clock.now();
        let drained = record == Record::To(TaskStatus::Stopping);
        let (before, evidence) = (Arc::clone(task), self.evidence.clone());
        let settings = Arc::clone(&self.shared.settings);
        let effect = match &record {
            Record::Activate => "register",
            Record::Deregister | Record::Die(_) => "deregister",
            _ => "record",
        };
        failpoint::reach("before", effect);
        let written = self.shared.store.update(move |tx| {
            Ok::<_, StoreError>(record::write(tx, &before, &record, &evidence, &settings, now))
        });
        let written = written.await;
        failpoint::reach("after", effect);
        match written {
            Ok(committed) => {
                self.succeeded();
                if committed.value.early > 0 {
                    let ports = committed.value.early;
                    tracing::warn!(task = %self.id, ports, "given before their rest was over");
                    let ports = u64::try_from(ports).unwrap_or(u64::MAX);
                    self.shared.meters.ports_cut.add(self.shared.metrics.control(), ports);
                }
                if drained
                    && committed.value.done
                    && let Some(draining) = &self.draining
                {
                    draining.measure(&self.shared, now);
                }
            }
            Err(error) => {
                tracing::warn!(task = %self.id, %error, "next status could not be written");
                self.failed();
            }
        }
    }

    async fn create(&mut self, post: &Post, task: &Task, definition: &TaskDefinition, name: &str) {
        let cluster = &task.cluster;
        let made = ContainerSpec::new(&self.id, cluster.as_str(), definition, name, task.address);
        let Some(mut spec) = made.map(|spec| spec.within(cluster.region())) else { return };
        let chosen = task.host_ports.iter().filter(|ports| ports.container == name);
        spec.host_ports = chosen.cloned().collect();
        failpoint::reach("before", "create");
        let created = match self.complete(post, spec).await {
            Ok(spec) => post.runtime.create(&spec).await,
            Err(error) => Err(error),
        };
        failpoint::reach("after", "create");
        let errors = post.errors.create.clone();
        self.made(post, name, created, &errors);
    }

    /// With what has to be looked up.
    async fn complete(
        &self,
        post: &Post,
        mut spec: ContainerSpec,
    ) -> Result<ContainerSpec, RuntimeError> {
        if let Some(endpoint) = &self.shared.settings.metadata {
            let reach = post.runtime.reach(spec.network_mode).await?;
            if let Some(at) = endpoint.address(reach) {
                let own = endpoint.variables(at, &spec.task, &spec.definition.name);
                spec.environment.extend(own);
            }
        }
        if let Some(server) = &self.shared.settings.name_server {
            spec.name_server = server.of(post.runtime.as_ref(), &spec).await?;
        }
        variables::fill(spec, &self.shared.settings.secrets).await
    }

    /// The answer to a create or a start.
    fn made(
        &mut self,
        post: &Post,
        name: &str,
        answer: Result<Observed, RuntimeError>,
        errors: &Counter,
    ) {
        self.trust = post.sight.tick();
        match answer {
            Ok(observed) => {
                self.succeeded();
                let shown = self.evidence.shown.get_or_insert_default();
                shown.retain(|container| container.container != name);
                shown.push(observed);
            }
            Err(error) => {
                errors.add(self.shared.metrics.control(), 1);
                tracing::warn!(task = %self.id, container = name, %error, "not brought up");
                // It may be there all the same.
                self.evidence.shown = None;
                if error.is_passing() {
                    self.failed();
                } else {
                    self.evidence.failure = Some((name.to_owned(), error.to_string()));
                }
            }
        }
    }

    /// Somebody may take a port between its choice and the start: that is nobody's failure, for a
    /// few times.
    fn may_choose_again(&self, task: &Task) -> bool {
        !task.host_ports.is_empty() && self.chosen_again < CHOICES
    }

    /// Has the container made anew, with other ports.
    async fn choose_again(&mut self, post: &Post, task: &Task, name: &str, why: &str) {
        self.chosen_again += 1;
        tracing::info!(task = %self.id, container = name, why, "other ports are chosen");
        let own = task.host_ports.iter().filter(|ports| ports.container == name);
        let taken = own.flat_map(|own| own.ports().map(move |port| (own.protocol, port)));
        self.evidence.taken.extend(taken);
        let removed = post.runtime.remove(&self.id, name).await;
        self.trust = post.sight.tick();
        if let Err(error) = removed {
            self.evidence.shown = None;
            tracing::warn!(task = %self.id, container = name, %error, "not taken down");
            self.failed();
            return;
        }
        if let Some(shown) = &mut self.evidence.shown {
            shown.retain(|container| container.container != name);
        }
        self.commit(&Arc::new(task.clone()), Record::Ports(name.to_owned())).await;
    }

    async fn acknowledge(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        let now = self.shared.clock.now();
        let left = draining.facts(&self.shared).busy_until(now).unwrap_or(now).since(now);
        tokio::select! {
            biased;
            () = draining.acknowledge(&self.shared) => {}
            () = self.desk.wake.notified() => {}
            () = tokio::time::sleep(left) => {}
        }
    }

    async fn stop(&mut self, post: &Post, definition: &TaskDefinition, names: &[String]) {
        let stops = names.iter().map(|name| {
            let grace = definition.container(name).map(|container| container.stop_timeout());
            let grace = grace.unwrap_or_else(|| definition.stop_timeout());
            post.runtime.stop(&self.id, name, grace)
        });
        failpoint::reach("before", "stop");
        let answers = join_all(stops).await;
        failpoint::reach("after", "stop");
        self.trust = post.sight.tick();
        // Its exit code is still to be seen.
        self.evidence.shown = None;
        self.count(answers, &post.errors.stop.clone());
    }

    async fn remove(
        &mut self,
        post: &Post,
        task: &Task,
        definition: &TaskDefinition,
        names: &[String],
    ) {
        let removals = names.iter().map(|name| post.runtime.remove(&self.id, name));
        failpoint::reach("before", "remove");
        let rest = record::rest(&self.shared.store.read(), task, &self.shared.settings);
        let has_address = definition.network_mode == Some(NetworkMode::Awsvpc);
        let kept = match has_address && !rest.is_zero() {
            true => post.runtime.keep_address(&self.id, rest).await,
            false => Ok(()),
        };
        let answers = match kept {
            Ok(()) => join_all(removals).await,
            Err(error) => vec![Err(error)],
        };
        failpoint::reach("after", "remove");
        self.trust = post.sight.tick();
        if answers.iter().all(Result::is_ok) {
            self.evidence.shown = Some(Vec::new());
        } else {
            self.evidence.shown = None;
        }
        self.count(answers, &post.errors.remove.clone());
    }

    fn count(&mut self, answers: Vec<Result<(), RuntimeError>>, errors: &Counter) {
        let gone = |error: &RuntimeError| matches!(error, RuntimeError::Vanished(_));
        let failed: Vec<_> =
            answers.into_iter().filter_map(Result::err).filter(|error| !gone(error)).collect();
        if failed.is_empty() {
            self.succeeded();
            return;
        }
        for error in failed {
            errors.add(self.shared.metrics.control(), 1);
            tracing::warn!(task = %self.id, %error, "container not taken down");
        }
        self.failed();
    }

    fn succeeded(&mut self) {
        (self.errors, self.retry_at) = (0, None);
    }

    /// The next call waits; half of the wait is chance, so that many tasks do not come back at
    /// once.
    fn failed(&mut self) {
        let most = RETRY.saturating_mul(1 << self.errors.min(10)).min(RETRY_MOST);
        self.errors = self.errors.saturating_add(1);
        self.retry_at = Some(clock::instant() + most.mul_f64(0.5 + self.rng.f64() / 2.0));
    }
}
