//! The next thing to do for one task. Pure.
//!
//! Not here: whether the task should live (`plan`), doing it (`worker`). **Invariant:** a step
//! never leads back; it concludes nothing from a runtime that does not answer; and a container with
//! registrations is told to stop only after they were draining, every data thread knew, and nobody
//! needs it any more or the delay is over.

use crate::clock::Timestamp;
use crate::model::{
    Container, ContainerHealth, ContainerStatus, Desired, Observed, ObservedState, Stop, StopCode,
    Task, TaskDefinition, TaskStatus,
};

use super::order::{self, Readiness};
use super::words;

/// How often a drain looks at the in-flight counters, which wake nobody (ours: below what a person
/// notices).
pub(super) const DRAIN_POLL: std::time::Duration = std::time::Duration::from_millis(10);

/// What the runtime shows of one task's containers.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// It has not answered since somebody last touched the task.
    Unknown,
    Known(&'a [Observed]),
}

impl Seen<'_> {
    fn container(&self, name: &str) -> Option<&Observed> {
        match self {
            Self::Unknown => None,
            Self::Known(containers) => containers.iter().find(|c| c.container == name),
        }
    }
}

/// What the worker knows beside the records and the runtime.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether the task has to be reachable by an address: its service registers it somewhere.
    pub registers: bool,
    /// How long its containers have run before it is registered.
    pub registration_delay: std::time::Duration,
    /// While DEACTIVATING.
    pub drain: Drain,
    /// A container that cannot be made or started, and what the runtime said of it.
    pub failure: Option<(String, String)>,
    /// Its instance is lost: nobody is asked to do anything there.
    pub lost: bool,
}

/// How far a task's registrations are drained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drain {
    /// Every data thread knows of the draining. Until then only the full delay is safe.
    pub acknowledged: bool,
    /// Exchanges on all endpoints of the task.
    pub in_flight: i64,
    /// Until when some cache may name the task.
    pub cached_until: Timestamp,
    /// The end of the greatest deregistration delay: nothing that runs is waited for any longer.
    pub deadline: Timestamp,
    /// Until then a data thread that says nothing may pick the task, however short the delay.
    pub silent_until: Timestamp,
    /// By then every cache has forgotten it, whatever data threads say.
    pub forgotten_at: Timestamp,
    /// There is something registered to drain at all.
    pub registered: bool,
}

impl Drain {
    /// Until when it has to be waited, as far as is known by now. None: nobody uses the task.
    #[must_use]
    pub fn busy_until(&self, now: Timestamp) -> Option<Timestamp> {
        let exchanges = match (self.acknowledged, self.in_flight) {
            (false, _) => Some(self.deadline.max(self.silent_until)),
            (true, 1..) => Some(self.deadline),
            (true, _) => None,
        };
        let cached = if self.acknowledged { self.cached_until } else { self.forgotten_at };
        let names = Some(cached.min(self.forgotten_at));
        [exchanges, names].into_iter().flatten().max().filter(|until| *until > now)
    }
}

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One commit.
    Record(Record),
    Create(String),
    Start(String),
    /// Start one that ended again, as its policy says.
    Restart(String),
    /// Wait until every data thread knows of the draining.
    Acknowledge,
    /// Stop these, all at once.
    Stop(Vec<String>),
    Remove(Vec<String>),
    /// Have the runtime asked, and wait for what it says.
    Look,
    /// Wait for a change, or until then.
    Wait(Option<Timestamp>),
    End,
}

/// What a commit says. Each also records what the runtime showed of the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    To(TaskStatus),
    /// PENDING, with ports of the host for its containers.
    Begin,
    /// Other ports for one of its containers: somebody else has one of these.
    Ports(String),
    /// Containers run: ACTIVATING, with its address, targets and instances.
    Activate,
    /// It died or cannot be started: DEACTIVATING, nothing of it routable any more.
    Die(Stop),
    /// It is to stop: DEACTIVATING, every registration draining and every instance withdrawn.
    Deregister,
    /// A container ended that the task can do without, or looks different otherwise.
    Containers,
    /// A container ended, and is to be started again.
    Restart(String),
    /// STOPPED: registrations, instances and verdicts vanish, the address rests.
    Finish,
}

/// What to do now.
pub fn next(
    task: &Task,
    definition: &TaskDefinition,
    seen: Seen<'_>,
    facts: &Facts,
    now: Timestamp,
) -> Step {
    if facts.lost {
        return lost(task, definition, &facts.drain, now);
    }
    let containers = containers(task, seen, now);
    match (task.known, task.desired) {
        (TaskStatus::Stopped, _) => Step::End,
        (TaskStatus::Deactivating, _) => {
            deactivate(definition, &containers, seen, &facts.drain, now)
        }
        (TaskStatus::Stopping, _) => stop(definition, seen, TaskStatus::Deprovisioning),
        (TaskStatus::Deprovisioning, _) => remove(definition, seen),
        (_, Desired::Stopped) => Step::Record(Record::Deregister),
        (known, Desired::Running) => {
            if let Some((name, reason)) = &facts.failure {
                return Step::Record(Record::Die(failed(name, reason)));
            }
            if let Some(step) = restart(task, definition, &containers, seen, now) {
                return step;
            }
            if let Some(dead) = dead(definition, &containers) {
                return Step::Record(Record::Die(died(task, dead)));
            }
            match known {
                TaskStatus::Provisioning => Step::Record(Record::Begin),
                TaskStatus::Pending => bring_up(task, definition, &containers, seen, facts, now),
                TaskStatus::Activating => Step::Record(Record::To(TaskStatus::Running)),
                _ if containers != task.containers => Step::Record(Record::Containers),
                _ => Step::Wait(None),
            }
        }
    }
}

/// A task that cannot be reached: it drains as it can, and what is left of it when its instance
/// comes back belongs to nobody.
fn lost(task: &Task, definition: &TaskDefinition, drain: &Drain, now: Timestamp) -> Step {
    match (task.known, task.desired) {
        (TaskStatus::Stopped, _) => Step::End,
        (TaskStatus::Deactivating, _) => {
            deactivate(definition, &task.containers, Seen::Unknown, drain, now)
        }
        (TaskStatus::Stopping, _) => Step::Record(Record::To(TaskStatus::Deprovisioning)),
        (TaskStatus::Deprovisioning, _) => Step::Record(Record::Finish),
        (_, Desired::Stopped) => Step::Record(Record::Deregister),
        (_, Desired::Running) => Step::Wait(None),
    }
}

/// Makes what is missing, then starts each container once what it depends on has come far enough.
fn bring_up(
    task: &Task,
    definition: &TaskDefinition,
    containers: &[Container],
    seen: Seen<'_>,
    facts: &Facts,
    now: Timestamp,
) -> Step {
    let Seen::Known(shown) = seen else { return Step::Look };
    let ended = |name: &str| {
        containers.iter().any(|c| c.name == name && c.status == ContainerStatus::Stopped)
    };
    let order = definition.start_order();
    let missing = |name: &str| seen.container(name).is_none() && !ended(name);
    if let Some(container) = order.iter().find(|container| missing(&container.name)) {
        return Step::Create(container.name.clone());
    }
    let created = |name: &str| {
        seen.container(name).is_some_and(|container| container.state == ObservedState::Created)
    };
    let (mut is_blocked, mut until) = (false, None);
    for container in order.into_iter().filter(|container| created(&container.name)) {
        match order::readiness(container, definition, containers, now) {
            Readiness::Ready => return Step::Start(container.name.clone()),
            Readiness::Later(at) => {
                is_blocked = true;
                until = [until, at].into_iter().flatten().min();
            }
            Readiness::Never(reason) => {
                return Step::Record(Record::Die(failed(&container.name, &reason)));
            }
        }
    }
    if is_blocked {
        // What it waits for has its time from a start that is on record.
        return match containers == task.containers {
            true => Step::Wait(until),
            false => Step::Record(Record::Containers),
        };
    }
    if !facts.registration_delay.is_zero() {
        if containers != task.containers {
            // Its time runs from a start that is on record.
            return Step::Record(Record::Containers);
        }
        let began = containers.iter().filter_map(|container| container.started_at).max();
        let until = began.map(|began| began + facts.registration_delay);
        if until.is_some_and(|until| now < until) {
            return Step::Wait(until);
        }
    }
    if facts.registers && shown.iter().all(|container| container.address.is_none()) {
        // It runs, and the runtime has not said where.
        return Step::Look;
    }
    Step::Record(Record::Activate)
}

/// ECS's `restartPolicy`: the record first, so that a start that was cut off is made up for.
fn restart(
    task: &Task,
    definition: &TaskDefinition,
    containers: &[Container],
    seen: Seen<'_>,
    now: Timestamp,
) -> Option<Step> {
    for (before, row) in task.containers.iter().zip(containers) {
        let Some(observed) = seen.container(&row.name) else { continue };
        if row.is_restarting && observed.state != ObservedState::Running {
            return Some(Step::Restart(row.name.clone()));
        }
        let ObservedState::Exited { code, .. } = &observed.state else { continue };
        let policy = definition.container(&row.name).and_then(|c| c.restart_policy.as_ref());
        let began = before.restarted_at.max(before.started_at);
        let has_just_ended = before.status == ContainerStatus::Running;
        if let Some((policy, began)) = policy.zip(began).filter(|_| has_just_ended)
            && policy.restarts(*code, now.since(began))
        {
            return Some(Step::Record(Record::Restart(row.name.clone())));
        }
    }
    None
}

fn deactivate(
    definition: &TaskDefinition,
    containers: &[Container],
    seen: Seen<'_>,
    drain: &Drain,
    now: Timestamp,
) -> Step {
    let serves = match seen {
        // Nothing that runs can be asked for anything.
        Seen::Known(shown) => shown.iter().any(|c| c.state == ObservedState::Running),
        Seen::Unknown => true,
    };
    let over = dead(definition, containers).is_some() || !serves || !drain.registered;
    let Some(until) = drain.busy_until(now).filter(|_| !over) else {
        return Step::Record(Record::To(TaskStatus::Stopping));
    };
    match drain.acknowledged {
        false => Step::Acknowledge,
        true if drain.in_flight > 0 => Step::Wait(Some((now + DRAIN_POLL).min(until))),
        true => Step::Wait(Some(until)),
    }
}

fn stop(definition: &TaskDefinition, seen: Seen<'_>, then: TaskStatus) -> Step {
    let Seen::Known(shown) = seen else { return Step::Look };
    let names = order::to_stop(definition, shown);
    if names.is_empty() { Step::Record(Record::To(then)) } else { Step::Stop(names) }
}

fn remove(definition: &TaskDefinition, seen: Seen<'_>) -> Step {
    let Seen::Known(shown) = seen else { return Step::Look };
    let names = order::to_stop(definition, shown);
    if !names.is_empty() {
        // Somebody started it again behind our back.
        return Step::Stop(names);
    }
    if shown.is_empty() {
        return Step::Record(Record::Finish);
    }
    Step::Remove(shown.iter().map(|c| c.container.clone()).collect())
}

/// The essential container that ended first in the definition's order.
fn dead<'a>(definition: &TaskDefinition, containers: &'a [Container]) -> Option<&'a Container> {
    let essential = definition.containers.iter().filter(|c| c.essential);
    essential
        .filter_map(|c| containers.iter().find(|container| container.name == c.name))
        .find(|container| container.status == ContainerStatus::Stopped)
}

fn failed(name: &str, reason: &str) -> Stop {
    let blamed = Some((name.to_owned(), reason.to_owned()));
    let reason = words::FAILED_TO_START.to_owned();
    Stop { code: StopCode::TaskFailedToStart, reason, blamed }
}

fn died(task: &Task, container: &Container) -> Stop {
    let why = match (&container.reason, container.exit_code) {
        (Some(reason), _) => reason.clone(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "exit code unknown".to_owned(),
    };
    let name = &container.name;
    if task.known < TaskStatus::Running {
        return failed(name, &format!("essential container exited ({why})"));
    }
    let (blamed, reason) = (Some((name.clone(), why)), words::EXITED.to_owned());
    Stop { code: StopCode::EssentialContainerExited, reason, blamed }
}

/// The container rows, brought up to what the runtime shows. A container's status never falls.
pub(super) fn containers(task: &Task, seen: Seen<'_>, now: Timestamp) -> Vec<Container> {
    let mut containers = task.containers.clone();
    if matches!(seen, Seen::Unknown) {
        return containers;
    }
    for container in &mut containers {
        if container.status == ContainerStatus::Stopped {
            continue;
        }
        match seen.container(&container.name) {
            // Its end is on record, and its next start under way.
            Some(observed)
                if container.is_restarting
                    && task.desired == Desired::Running
                    && matches!(observed.state, ObservedState::Exited { .. }) => {}
            Some(observed) => observe(container, observed, now),
            None if container.status == ContainerStatus::Running => {
                container.status = ContainerStatus::Stopped;
                container.reason = Some(words::VANISHED.to_owned());
            }
            None => {}
        }
    }
    containers
}

fn observe(container: &mut Container, observed: &Observed, now: Timestamp) {
    container.runtime_id = Some(observed.runtime_id.clone());
    // A daemon that was restarted begins its checks anew: the last result holds until the next.
    if observed.health != ContainerHealth::Unknown {
        container.health = observed.health;
    }
    match &observed.state {
        ObservedState::Created => {
            container.status = container.status.max(ContainerStatus::Created);
        }
        ObservedState::Running => {
            if container.status < ContainerStatus::Running {
                container.started_at = Some(now);
            }
            container.status = ContainerStatus::Running;
            container.is_restarting = false;
            container.address = observed.address;
            container.bindings.clone_from(&observed.bindings);
        }
        ObservedState::Exited { code, out_of_memory } => {
            container.status = ContainerStatus::Stopped;
            container.exit_code = *code;
            if *out_of_memory {
                container.reason = Some(words::OUT_OF_MEMORY.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests;
