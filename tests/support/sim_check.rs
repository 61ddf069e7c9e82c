//! What must hold after every step of a simulation, and what must hold at its end.
//!
//! Numbers in messages are those of section "invariants" of the design: I1 nothing picks what was
//! told to stop, I3 convergence, I4 containers are tasks, I6 what was acknowledged stays, I7 no
//! cache names what is gone, I8 no status falls, I12 addresses, I13 percentages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use roadstead::clock::Timestamp;
use roadstead::model::{
    Contact, Deployment, Desired, ObservedState, Progress, Registration, Rollout, Service,
    ServiceKey, ServiceStatus, StopCode, TargetGroupName, Task, TaskId, TaskStatus, VerdictState,
    WeightedGroup,
};
use roadstead::runtime::sim::EffectKind;
use roadstead::state::State;

use super::furniture;
use super::world::{DELAY, House, INSTANCES, QUARANTINE, Sims};

/// What was seen so far, over all boots.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    pub(super) before: Arc<State>,
    /// The counts that calls asked for since the last look.
    pub(super) asked: BTreeMap<ServiceKey, Vec<u32>>,
    known: BTreeMap<TaskId, TaskStatus>,
    /// Until when an address rests, and whose it was.
    resting: BTreeMap<IpAddr, Timestamp>,
    /// When a task was first seen with nothing active.
    draining: BTreeMap<TaskId, Timestamp>,
    starts: BTreeMap<(TaskId, String), usize>,
    /// When a task's first container was told to stop.
    signalled: BTreeMap<TaskId, Timestamp>,
    effects: [usize; INSTANCES.len()],
    pub(crate) trace: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// How often what is rare has happened.
    pub(crate) seen: BTreeMap<&'static str, usize>,
}

fn percent(service: &Service) -> (usize, usize) {
    let desired = service.desired_count as usize;
    let lower = (desired * service.minimum_healthy_percent as usize).div_ceil(100);
    (lower, desired * service.maximum_percent as usize / 100)
}

fn is_healthy(state: &State, task: &Task) -> bool {
    task.is_live()
        && task.known == TaskStatus::Running
        && (task.healthy_at.is_some() || state.targets_of_task(&task.id).next().is_some())
        && state.targets_of_task(&task.id).all(|target| {
            target.is_active() && state.verdict_state(target.id) == VerdictState::Healthy
        })
}

/// Whether the scheduler stops it to have fewer tasks, or others.
fn is_scaled_in(task: &Task) -> bool {
    task.desired == Desired::Stopped
        && task.stop.as_ref().is_some_and(|stop| {
            stop.code == StopCode::ServiceSchedulerInitiated
                && stop.reason.starts_with("Scaling activity")
        })
}

/// Whether its instance gives it away.
fn is_drained(task: &Task) -> bool {
    task.stop.as_ref().is_some_and(|stop| stop.reason.ends_with("is DRAINING"))
}

impl Watcher {
    /// Looks at a new State and at what happened to the containers until now.
    pub(crate) fn look(&mut self, state: &Arc<State>, house: &House) {
        let now = house.clock.now();
        self.tasks(state, now);
        self.addresses(state, house, now);
        self.traffic(state);
        self.instances(state);
        self.scaling(state);
        for service in state.services.values() {
            self.percentages(state, service);
            self.decisions(state, service, now);
        }
        self.effects(state, house, now);
        self.before = Arc::clone(state);
    }

    /// Nothing is placed where nothing may be, and a move takes no place before it is taken.
    fn instances(&mut self, state: &Arc<State>) {
        let before = Arc::clone(&self.before);
        for (name, row) in state.instances.iter() {
            let was = before.instances.get(name).map(|row| row.contact);
            if was == Some(Contact::Silent) && row.contact == Contact::Lost {
                *self.seen.entry("an instance was lost").or_default() += 1;
            }
        }
        let cluster = "c".into();
        for task in state.tasks.values().filter(|task| !before.tasks.contains_key(&task.id)) {
            // Several commits may have been seen as one.
            let takes = [&before, state].into_iter().any(|state| {
                state.instances.get(&task.instance).is_some_and(|row| {
                    row.contact == Contact::Connected && !row.is_draining(&cluster)
                })
            });
            if !takes {
                self.wrong(format!("{} was placed on {}", task.id, task.instance));
            }
            if task.rebalances {
                *self.seen.entry("a task was moved to another zone").or_default() += 1;
            }
        }
        for task in state.tasks.values() {
            let was = before.tasks.get(&task.id);
            if was.is_some_and(|was| was.instance != task.instance) {
                self.wrong(format!("{} went to another instance", task.id));
            }
            if was.is_some_and(|was| was.is_live()) && is_drained(task) {
                *self.seen.entry("a task was drained").or_default() += 1;
            }
        }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.trace.push(format!("WRONG {what}"));
        self.wrong.push(what);
    }

    fn tasks(&mut self, state: &State, now: Timestamp) {
        if Arc::ptr_eq(&state.tasks, &self.before.tasks) {
            return;
        }
        for task in state.tasks.values() {
            let old = self.known.insert(task.id.clone(), task.known);
            if old != Some(task.known) {
                let ms = now.millis() % 10_000_000;
                self.trace.push(format!("{ms} {} {}", task.id, task.known.as_str()));
            }
            if old.is_some_and(|old| old > task.known) {
                self.wrong(format!("I8 {} fell from {old:?} to {:?}", task.id, task.known));
            }
            if task.desired == Desired::Stopped && task.known >= TaskStatus::Deactivating {
                self.draining.entry(task.id.clone()).or_insert(now);
                if task.known != TaskStatus::Stopped {
                    continue;
                }
                let left = state.targets_of_task(&task.id).count()
                    + state.instances_of_task(&task.id).count();
                if left > 0 {
                    self.wrong(format!("I4 {} is STOPPED with {left} registrations", task.id));
                }
                if old != Some(TaskStatus::Stopped)
                    && let Some(address) = task.address
                {
                    let until = task.stopped_at.unwrap_or(now) + QUARANTINE;
                    self.resting.insert(address, until);
                }
            }
        }
        for (id, task) in self.before.clone().tasks.iter() {
            if !state.tasks.contains_key(id) && task.known != TaskStatus::Stopped {
                self.wrong(format!("I6 {id} was forgotten as {:?}", task.known));
            }
        }
    }

    fn addresses(&mut self, state: &State, house: &House, now: Timestamp) {
        let mut taken = BTreeMap::new();
        for task in state.tasks.values().filter(|task| task.known < TaskStatus::Stopped) {
            let Some(address) = task.address else {
                // A standalone one waits for it, or was stopped before it came.
                let waits = task.known == TaskStatus::Provisioning || !task.is_live();
                if task.service.is_some() || !waits {
                    self.wrong(format!("I12 {} has no address", task.id));
                }
                continue;
            };
            if let Some(other) = taken.insert(address, &task.id) {
                self.wrong(format!("I12 {address} belongs to {other} and {}", task.id));
            }
            let new = match self.before.tasks.get(&task.id) {
                Some(old) => old.address.is_none(),
                None => task.created_at == now,
            };
            let named = house.shared.lock().unwrap().named.get(&address).copied();
            if new && named.is_some_and(|until| until > now) {
                self.wrong(format!("I7 {} got {address}, which caches still name", task.id));
            }
            if new && self.resting.get(&address).is_some_and(|until| *until > now) {
                self.wrong(format!("I12 {} got {address} out of quarantine", task.id));
            }
        }
    }

    /// No protected task goes for a scale-in or a deployment, and a failed deployment starts none
    /// but where the next one's traffic comes from it.
    fn decisions(&mut self, state: &State, service: &Service, at: Timestamp) {
        let before = Arc::clone(&self.before);
        let was = before.services.get(&service.key);
        if service.status != ServiceStatus::Active || was.is_none() {
            return;
        }
        let progress = before.progress.get(&service.key);
        let now_first = state.progress.get(&service.key).and_then(|p| p.deployments.first());
        if let Some(first) = progress.and_then(|progress| progress.deployments.first())
            && let Some(now_first) = now_first
            && first.rollout == Rollout::InProgress
        {
            let went_back = now_first.back_from.as_ref() == Some(&first.id);
            let failed = now_first.id == first.id && now_first.rollout == Rollout::Failed;
            let completed = now_first.id == first.id && now_first.rollout == Rollout::Completed;
            let returned = completed && first.back_from.is_some();
            let all = [("went back", went_back), ("failed", failed), ("returned", returned)];
            for (what, _) in all.into_iter().filter(|(_, happened)| *happened) {
                *self.seen.entry(what).or_default() += 1;
            }
        }
        let now = state.progress.get(&service.key);
        let source = now_first.and_then(|first| first.shift.as_ref()?.source.as_ref());
        let is_over = |task: &Task| {
            let id = task.deployment.as_ref();
            let failed = |progress: Option<&Arc<Progress>>| {
                let own = id.and_then(|id| progress?.find(id));
                own.is_some_and(|own| own.rollout == Rollout::Failed)
            };
            failed(progress) && failed(now) && source != id
        };
        for task in state.tasks_of(&service.key) {
            match before.tasks.get(&task.id) {
                Some(old) if old.is_live() && old.is_protected(at) && is_scaled_in(task) => {
                    self.wrong(format!("I13 {} was stopped in spite of its protection", task.id));
                }
                Some(old) if old.is_live() && !task.is_live() && old.is_protected(at) => {
                    *self.seen.entry("protected, and stopped for another reason").or_default() += 1;
                }
                None if is_over(task) => {
                    self.wrong(format!("{} was started for a failed deployment", task.id));
                }
                _ => {}
            }
        }
    }

    /// Weights add up, and no group gets more that has no healthy target.
    fn traffic(&mut self, state: &State) {
        let before = Arc::clone(&self.before);
        for (key, listener) in state.listeners.iter() {
            let old = before.listeners.get(key);
            // A restart reads the same rows anew.
            // Who makes the service anew sets its rule.
            if old.is_none_or(|old| old == listener || **listener == furniture::listener()) {
                continue;
            }
            *self.seen.entry("traffic was shifted").or_default() += 1;
            let groups = listener.default_action.groups();
            let sum: u32 = groups.iter().map(|group| group.weight).sum();
            if sum != 100 && sum != 1000 {
                self.wrong(format!("the weights of {key} add up to {sum}"));
            }
            let share = |groups: &[WeightedGroup], name: &TargetGroupName| {
                let all: u32 = groups.iter().map(|group| group.weight).sum();
                let own = groups.iter().find(|group| &group.group == name);
                own.map_or(0, |own| own.weight * 1000 / all.max(1))
            };
            let was = old.map(|old| old.default_action.groups()).unwrap_or_default();
            let serves = |state: &State, name: &TargetGroupName| {
                let mut targets = state.targets_of_group(name).filter(|t| t.is_active());
                targets.any(|t| state.verdict_state(t.id) == VerdictState::Healthy)
            };
            let wants = state.services.values().any(|service| {
                service.desired_count > 0
                    && service.load_balancers.iter().any(|lb| lb.pair.is_some())
            });
            for group in groups {
                let name = &group.group;
                let more = share(groups, name) > share(was, name);
                // Where nobody serves, nobody loses anything.
                let mut others = was.iter().filter(|own| own.weight > 0 && &own.group != name);
                let is_lost = others.any(|own| serves(state, &own.group));
                if more && wants && is_lost && !serves(state, name) && !serves(&before, name) {
                    self.wrong(format!("{name} got traffic without a healthy target"));
                }
            }
        }
    }

    /// While traffic is shifted, no deployment alone has more tasks than the maximum.
    fn sides(&mut self, before: &State, state: &State, service: &Service, upper: usize) {
        let count = |state: &State| {
            let mut counts = BTreeMap::new();
            for task in state.tasks_of(&service.key).filter(|task| task.is_live()) {
                *counts.entry(task.deployment.clone()).or_insert(0) += 1;
            }
            counts
        };
        let was = count(before);
        for (deployment, is) in count(state) {
            if is > upper && is > was.get(&deployment).copied().unwrap_or(0) {
                let key = &service.key;
                self.wrong(format!("I13 {key} has {is} tasks of {deployment:?}, at most {upper}"));
            }
        }
    }

    /// Only decisions are judged: not what an API call made of the numbers.
    fn percentages(&mut self, state: &State, service: &Arc<Service>) {
        let before = Arc::clone(&self.before);
        if before.services.get(&service.key) != Some(service) {
            return;
        }
        let (lower, upper) = percent(service);
        // While traffic is shifted two deployments have their tasks, and those that no traffic goes
        // to may be stopped.
        let shifts = |state: &State| {
            let progress = state.progress.get(&service.key);
            progress.and_then(|p| p.deployments.first()).is_some_and(Deployment::is_shifting)
        };
        if shifts(&before) || shifts(state) {
            return self.sides(&before, state, service, upper);
        }
        let live = |state: &State| state.tasks_of(&service.key).filter(|t| t.is_live()).count();
        let (was, is) = (live(&before), live(state));
        if is > was && is > upper {
            self.wrong(format!("I13 {} has {is} tasks, at most {upper}", service.key));
        }
        let scheduler = |task: &Task| {
            (is_scaled_in(task) || is_drained(task))
                // Its verdict may have changed just before the decision.
                && state.targets_of_task(&task.id).all(|target| {
                    state.verdict_state(target.id) != VerdictState::Unhealthy
                })
        };
        let healthy = before.tasks_of(&service.key).filter(|task| is_healthy(&before, task));
        let (mut stopped, mut lost) = (0, 0);
        for task in healthy {
            match state.tasks.get(&task.id) {
                Some(now) if scheduler(now) => stopped += 1,
                Some(now) if is_healthy(state, now) => {}
                _ => lost += 1,
            }
        }
        // Several commits may lie between two looks, as when the disk is back: one that ran became
        // healthy, was counted on, and died.
        let ran = before.tasks_of(&service.key).filter(|task| {
            task.is_live() && task.known == TaskStatus::Running && !is_healthy(&before, task)
        });
        let died = |task: &&Task| {
            state.tasks.get(&task.id).is_none_or(|now| !now.is_live() && !scheduler(now))
        };
        lost += ran.filter(died).count();
        let left = state.tasks_of(&service.key).filter(|task| is_healthy(state, task)).count();
        let wanted = lower.min(service.desired_count as usize);
        if stopped > 0 && service.status == ServiceStatus::Active && left + lost < wanted {
            self.wrong(format!(
                "I13 {}: {stopped} healthy tasks stopped, {left} left, at least {lower}",
                service.key
            ));
        }
    }

    fn effects(&mut self, state: &State, house: &House, now: Timestamp) {
        let effects = house.sims.history_since(&mut self.effects);
        for effect in effects {
            let (task, name) = (effect.task.clone(), effect.container.clone());
            self.trace.push(format!("{:?} {task} {name} {:?}", effect.at, effect.kind));
            match effect.kind {
                EffectKind::Started { .. } => {
                    let starts = self.starts.entry((task.clone(), name.clone())).or_default();
                    *starts += 1;
                    let starts = *starts;
                    if starts > 1 {
                        self.wrong(format!("I4 {task} {name} started {starts} times"));
                    }
                }
                EffectKind::StopSignalled => self.signal(state, house, &task, now),
                _ => {}
            }
        }
        let picked = house.shared.lock().unwrap();
        let late: Vec<_> = self
            .signalled
            .iter()
            .filter(|(task, at)| picked.picked.get(*task).is_some_and(|picked| picked > *at))
            .map(|(task, at)| format!("I1 {task} picked after its signal at {at}"))
            .collect();
        drop(picked);
        self.signalled.retain(|_, at| *at + DELAY > now);
        late.into_iter().for_each(|what| self.wrong(what));
    }

    /// A container was told to stop.
    fn signal(&mut self, state: &State, house: &House, id: &TaskId, now: Timestamp) {
        // An orphan has no record.
        let Some(task) = state.tasks.get(id).filter(|task| task.known != TaskStatus::Stopped)
        else {
            return;
        };
        if task.desired == Desired::Running || task.known < TaskStatus::Stopping {
            self.wrong(format!("{id} told to stop as {:?} {:?}", task.desired, task.known));
        }
        let active = state.targets_of_task(id).filter(|target| target.is_active()).count();
        if active > 0 {
            self.wrong(format!("I1 {id} told to stop with {active} active registrations"));
        }
        let died = task.stop.as_ref().is_some_and(|stop| {
            stop.code != StopCode::ServiceSchedulerInitiated && stop.code != StopCode::UserInitiated
        });
        let essential_runs = house.sims.observed().iter().any(|observed| {
            &observed.task == id
                && observed.container == "app"
                && !matches!(observed.state, ObservedState::Exited { .. })
        });
        if died || !essential_runs {
            return;
        }
        self.signalled.entry(id.clone()).or_insert(now);
        let named = |address| house.shared.lock().unwrap().named.get(&address).copied();
        let is_named = task.address.and_then(named).is_some_and(|until| until > now);
        if is_named && state.instances_of_task(id).next().is_some() {
            self.wrong(format!("I7 {id} told to stop while a cache may name it"));
        }
        let busy = house.shared.lock().unwrap().exchanges.get(id).copied().unwrap_or(0);
        let since = self.draining.get(id).copied().unwrap_or(now);
        if busy > 0 && now.since(since) < DELAY {
            self.wrong(format!("I1 {id} told to stop with {busy} exchanges after {since}"));
        }
    }
}

/// Why the world is not at rest yet; empty when it is.
pub(crate) fn unrest(state: &State, sims: &Sims) -> Vec<String> {
    let mut why = Vec::new();
    for service in state.services.values() {
        let key: &ServiceKey = &service.key;
        if service.status == ServiceStatus::Draining {
            why.push(format!("{key} is still draining"));
            continue;
        }
        let tasks: Vec<_> =
            state.tasks_of(key).filter(|task| task.known < TaskStatus::Stopped).collect();
        let healthy = tasks.iter().filter(|task| is_healthy(state, task)).count();
        if healthy != service.desired_count as usize || healthy != tasks.len() {
            let have = format!("{healthy} healthy of {} tasks", tasks.len());
            why.push(format!("{key} has {have}, desired {}", service.desired_count));
        }
        if tasks.iter().any(|task| task.definition != service.definition) {
            why.push(format!("{key} runs another definition than {}", service.definition));
        }
        let progress = state.progress.get(key);
        if !progress.is_some_and(|p| p.steady && p.deployments.len() == 1) {
            why.push(format!("{key} is not steady: {progress:?}"));
        }
    }
    let wanted: BTreeSet<_> =
        state.tasks.values().filter(|t| t.known < TaskStatus::Stopped).map(|t| &t.id).collect();
    let running = sims.running();
    let essential = running.iter().filter(|(_, container)| container == "app");
    let there: BTreeSet<_> = essential.map(|(task, _)| task).collect();
    if wanted != there {
        why.push(format!("I4 tasks {wanted:?}, running containers of {there:?}"));
    }
    let shown = sims.observed();
    if let Some(orphan) = shown.iter().find(|observed| !wanted.contains(&observed.task)) {
        why.push(format!("I4 {orphan:?} belongs to no task"));
    }
    for target in state.targets.values() {
        if matches!(target.registration, Registration::Draining { .. }) {
            why.push(format!("{} is still draining", target.id));
        }
    }
    if let Some(orphan) = state.verdicts.keys().find(|id| !state.targets.contains_key(id)) {
        why.push(format!("verdict of {orphan} without a target"));
    }
    why
}
