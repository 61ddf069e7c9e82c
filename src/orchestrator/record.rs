//! The commits of one task: what each step writes, all of it or nothing.
//!
//! **Invariant:** whoever reads any State sees a task's status, its registrations and its address
//! fit together: nothing is registered before it runs, nothing is active once it is to stop, no
//! address is free while it may be named.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::settings::Settings;
use super::step::{self, Record, Seen};
use super::words;
use super::{apply, rollout, traffic};
use crate::clock::Timestamp;
use crate::model::{
    Container, ContainerHealth, ContainerStatus, Desired, DiscoveryInstance, InstanceKey, Observed,
    PortMapping, RECORD_TTL, Registration, Service, ServiceDiscovery, Stop, StopCode, Target,
    TargetGroupName, Task, TaskId, TaskStatus, Transport,
};
use crate::runtime::RuntimeError;
use crate::state::{Key, Quarantine, QuarantineKey, State, Tx, ports};

/// What a record is based on.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// What the runtime showed; none: it did not say.
    pub shown: Option<Vec<Observed>>,
    /// A container that cannot be made or started, and why.
    pub failure: Option<(String, String)>,
    /// Ports of the host that somebody else has.
    pub taken: BTreeSet<(Transport, u16)>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// False: it is another task by now, and nothing was written.
    pub done: bool,
    /// Ports given before their rest was over, for want of others.
    pub early: usize,
}

/// Writes `record` of a task as it was when the record was decided.
pub(super) fn write(
    tx: &mut Tx<'_>,
    before: &Task,
    record: &Record,
    evidence: &Evidence,
    settings: &Settings,
    now: Timestamp,
) -> Written {
    if tx.state().tasks.get(&before.id).map(AsRef::as_ref) != Some(before) {
        return Written::default();
    }
    let mut early = 0;
    let seen = evidence.shown.as_deref().map_or(Seen::Unknown, Seen::Known);
    let mut task = before.clone();
    task.containers = step::containers(before, seen, now);
    match record {
        Record::To(status) => {
            task.known = *status;
            if *status == TaskStatus::Running {
                task.started_at = Some(now);
            }
        }
        Record::Begin => {
            task.known = TaskStatus::Pending;
            early = give_ports(tx, &mut task, evidence, settings, now);
        }
        Record::Ports(name) => {
            task.host_ports.retain(|ports| ports.container != *name);
            early = give_ports(tx, &mut task, evidence, settings, now);
        }
        Record::Containers => register_again(tx, before, &task, now),
        Record::Restart(name) => restart(before, &mut task, name, now),
        Record::Activate => {
            let shown = evidence.shown.as_deref().unwrap_or_default();
            activate(tx, &mut task, shown, settings, now);
        }
        Record::Deregister => deregister(tx, &mut task, now),
        Record::Die(stop) => {
            if let Some((container, what)) = &stop.blamed {
                blame(&mut task, container, what);
            }
            die(tx, &mut task, stop, settings, now);
        }
        Record::Finish => finish(tx, &mut task, settings, now),
    }
    tx.put(task);
    Written { done: true, early }
}

/// Where a task is to be registered: as its own deployment has it, which need not be what its
/// service asks for by now.
pub(super) struct Places<'a> {
    pub(super) service: &'a Service,
    pub(super) groups: Vec<(&'a TargetGroupName, u16)>,
    pub(super) discovery: Option<&'a ServiceDiscovery>,
}

/// None: it is no service's task.
pub(super) fn places<'a>(state: &'a State, task: &Task) -> Option<Places<'a>> {
    let service = state.services.get(task.service.as_ref()?)?;
    let progress = state.progress.get(&service.key);
    let deployment = progress.zip(task.deployment.as_ref()).and_then(|(p, id)| p.find(id));
    let (groups, discovery) = match deployment {
        Some(deployment) => (deployment.registrations().collect(), &deployment.discovery),
        None => {
            let own = service.load_balancers.iter().map(|lb| (&lb.group, lb.container_port));
            (own.collect(), &service.discovery)
        }
    };
    Some(Places { service, groups, discovery: discovery.as_ref() })
}

/// Chooses the ports of the host that the task has not; without enough of them it dies. How many
/// still rested.
fn give_ports(
    tx: &mut Tx<'_>,
    task: &mut Task,
    evidence: &Evidence,
    settings: &Settings,
    now: Timestamp,
) -> usize {
    let Some(definition) = tx.state().definitions.get(&task.definition) else { return 0 };
    match ports::give(tx.state(), task, definition, &task.host_ports, &evidence.taken, now) {
        Ok(given) => {
            task.host_ports = given.ports;
            given.early
        }
        Err((container, why)) => {
            let why = RuntimeError::CannotStart(why).to_string();
            blame(task, &container, &why);
            let blamed = Some((container, why));
            let reason = words::FAILED_TO_START.to_owned();
            let stop = Stop { code: StopCode::TaskFailedToStart, reason, blamed };
            die(tx, task, &stop, settings, now);
            0
        }
    }
}

fn activate(
    tx: &mut Tx<'_>,
    task: &mut Task,
    shown: &[Observed],
    settings: &Settings,
    now: Timestamp,
) {
    task.known = TaskStatus::Activating;
    let definition = tx.state().definitions.get(&task.definition).cloned();
    let first = definition.as_ref().and_then(|definition| definition.first_port());
    let instance = tx.state().instances.get(&task.instance).cloned();
    let at = |task: &Task, port: Option<u16>| {
        definition.as_ref().zip(port).and_then(|(d, port)| task.address_of(d, port))
    };
    let reached = |task: &Task, port: u16| {
        definition.as_ref().and_then(|d| task.reached(d, instance.as_deref(), port))
    };
    let any = || shown.iter().find_map(|container| container.address);
    task.address = task.address.or_else(|| at(task, first)).or_else(any);
    let (Some(address), Some(places)) = (task.address, places(tx.state(), task)) else { return };
    let service = places.service.key.clone();
    // One that is gone by now belonged to an older deployment, whose task stops soon.
    let there =
        |(group, _): &(&TargetGroupName, u16)| tx.state().target_groups.get(*group).is_some();
    let groups: Vec<_> = places.groups.into_iter().filter(there).collect();
    let groups: Vec<_> = groups.into_iter().map(|(group, port)| (group.clone(), port)).collect();
    for (group, port) in groups {
        let (address, port) = reached(task, port).unwrap_or((address, port));
        let target = Target {
            id: tx.next_registration(),
            group: group.clone(),
            address,
            port,
            task: Some(task.id.clone()),
            registration: Registration::Active,
            registered_at: now,
        };
        tx.put(target);
        if let Some(group) = tx.state().target_groups.get(&group) {
            let arn = settings.account.target_group(group).to_string();
            apply::tell(tx, &service, words::registered(&service, 1, &arn), now);
        }
    }
    let progress = tx.state().progress.get(&service);
    let own = task.deployment.as_ref();
    let is_named = own.zip(progress).is_none_or(|(own, progress)| progress.is_named(own));
    if is_named && let Some(instance) = traffic::instance(tx.state(), task) {
        tx.put(instance);
    }
}

/// Takes back that the container ended: it is to be started again.
fn restart(before: &Task, task: &mut Task, name: &str, now: Timestamp) {
    for (row, old) in task.containers.iter_mut().zip(&before.containers) {
        if row.name == name {
            *row = Container {
                is_restarting: true,
                restarts: old.restarts + 1,
                restarted_at: Some(now),
                health: ContainerHealth::Unknown,
                exit_code: row.exit_code,
                ..old.clone()
            };
        }
    }
}

/// A container that was started again is another target: what was known of the old one, its
/// address included, says nothing about it.
fn register_again(tx: &mut Tx<'_>, before: &Task, task: &Task, now: Timestamp) {
    let came_back = before.containers.iter().zip(&task.containers);
    let came_back = came_back.filter(|(old, new)| old.is_restarting && !new.is_restarting);
    let names: Vec<&str> = came_back.map(|(_, new)| new.name.as_str()).collect();
    if names.is_empty() || task.known < TaskStatus::Activating {
        return;
    }
    let Some(definition) = tx.state().definitions.get(&task.definition).cloned() else { return };
    let is_theirs = |port: u16| {
        let mut all = names.iter().filter_map(|name| definition.container(name));
        all.any(|container| container.port_mappings.iter().any(|m| m.ports().contains(&port)))
    };
    let row = tx.state().instances.get(&task.instance).cloned();
    // The container's port behind the one that it was reached at.
    let behind = |address: Option<IpAddr>, port: u16| {
        let mapped = definition.containers.iter().flat_map(|c| &c.port_mappings);
        let mut mapped = mapped.flat_map(PortMapping::ports);
        let was = |own: &u16| {
            let reached = before.reached(&definition, row.as_deref(), *own);
            reached.is_some_and(|(at, host)| Some(at) == address && host == port)
        };
        mapped.find(was).unwrap_or(port)
    };
    let targets: Vec<Target> = tx.state().targets_of_task(&task.id).cloned().collect();
    for target in targets.into_iter().filter(Target::is_active) {
        let own = behind(Some(target.address), target.port);
        if !is_theirs(own) {
            continue;
        }
        let reached = task.reached(&definition, row.as_deref(), own);
        let (address, port) = reached.unwrap_or((target.address, target.port));
        tx.remove(Key::Verdict(target.id));
        tx.remove(Key::Target(target.id));
        let id = tx.next_registration();
        tx.put(Target { id, address, port, registered_at: now, ..target });
    }
    let instances: Vec<DiscoveryInstance> =
        tx.state().instances_of_task(&task.id).cloned().collect();
    for instance in instances {
        let own = instance.port.map(|port| behind(instance.address, port));
        let Some(own) = own.filter(|own| is_theirs(*own)) else { continue };
        if let Some((address, port)) = task.reached(&definition, row.as_deref(), own) {
            tx.put(DiscoveryInstance { address: Some(address), port: Some(port), ..instance });
        }
    }
}

fn deregister(tx: &mut Tx<'_>, task: &mut Task, now: Timestamp) {
    task.known = TaskStatus::Deactivating;
    task.stopping_at = Some(now);
    let draining = Registration::Draining { since: now };
    let targets: Vec<Target> = tx.state().targets_of_task(&task.id).cloned().collect();
    for target in targets.into_iter().filter(Target::is_active) {
        tx.put(Target { registration: draining, ..target });
    }
    let instances: Vec<DiscoveryInstance> =
        tx.state().instances_of_task(&task.id).cloned().collect();
    for instance in instances.into_iter().filter(|i| i.registration == Registration::Active) {
        tx.put(DiscoveryInstance { registration: draining, ..instance });
    }
}

fn die(tx: &mut Tx<'_>, task: &mut Task, stop: &Stop, settings: &Settings, now: Timestamp) {
    if apply::died_young(task, settings, now) {
        rollout::count(tx, task);
        apply::slow_down(tx, task, &stop.whole(), settings, now);
    }
    let label = match stop.code {
        StopCode::TaskFailedToStart => apply::FAILED_TO_START,
        _ => apply::EXITED,
    };
    apply::count_replacement(tx, task, label);
    task.desired = Desired::Stopped;
    task.stop = Some(stop.clone());
    deregister(tx, task, now);
}

/// Marks the container that could not be made or started; one that ended has its exit code.
fn blame(task: &mut Task, container: &str, reason: &str) {
    let ended = |container: &Container| container.status == ContainerStatus::Stopped;
    let mut all = task.containers.iter_mut();
    if let Some(container) = all.find(|c| c.name == container).filter(|c| !ended(c)) {
        container.status = ContainerStatus::Stopped;
        container.reason = Some(reason.chars().take(1024).collect());
    }
}

fn finish(tx: &mut Tx<'_>, task: &mut Task, settings: &Settings, now: Timestamp) {
    if !task.host_ports.is_empty() {
        task.rests_until = Some(now + rest(tx.state(), task, settings));
    }
    let ttl = withdraw_instances(tx, &task.id);
    let targets: Vec<_> = tx.state().targets_of_task(&task.id).map(|target| target.id).collect();
    for target in targets {
        tx.remove(Key::Verdict(target));
        tx.remove(Key::Target(target));
    }
    let ours = |address: &IpAddr| settings.addresses.is_some_and(|pool| pool.contains(*address));
    if let Some(address) = task.address.filter(ours) {
        let until = now + settings.quarantine.max(ttl);
        tx.put(Quarantine { address: QuarantineKey(address), until });
    }
    task.known = TaskStatus::Stopped;
    task.stopped_at = Some(now);
}

/// For how long the address and the ports of a task are given to no other once it is gone: somebody
/// may still know them. Nobody does when everything ends.
pub(super) fn rest(state: &State, task: &Task, settings: &Settings) -> Duration {
    if task.stop.as_ref().is_some_and(|stop| stop.reason == words::LEAVING) {
        return Duration::ZERO;
    }
    let groups = state.targets_of_task(&task.id).filter_map(|t| state.target_groups.get(&t.group));
    let delays = groups.map(|group| group.deregistration_delay);
    let instances = state.instances_of_task(&task.id);
    let services = instances.map(|i| state.discovery_services.get(&i.key.service));
    let ttls = services.map(|service| service.map_or(RECORD_TTL, |service| service.ttl));
    delays.chain(ttls).max().unwrap_or_default().max(settings.quarantine)
}

/// Removes the instances of a task; the longest time for which somebody may remember one.
fn withdraw_instances(tx: &mut Tx<'_>, task: &TaskId) -> Duration {
    let keys: Vec<InstanceKey> =
        tx.state().instances_of_task(task).map(|instance| instance.key.clone()).collect();
    let mut longest = Duration::ZERO;
    for key in keys {
        let service = tx.state().discovery_services.get(&key.service);
        longest = longest.max(service.map_or(RECORD_TTL, |service| service.ttl));
        tx.remove(Key::DiscoveryInstance(key));
    }
    longest
}
