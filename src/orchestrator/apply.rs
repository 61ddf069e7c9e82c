//! Writes a plan into the State: moves become rows, events get their numbers.
//!
//! **Invariant:** a plan is applied inside the transaction whose State it was made from, whole or
//! not at all.

use super::plan::{Event, Move, Plan, Why};
use super::settings::Settings;
use super::{rollout, traffic, words};
use crate::clock::Timestamp;
use crate::model::{
    Arn, Backoff, Contact, ContainerHealth, ContainerInstance, DeploymentId, Desired, EVENTS_KEPT,
    EndedService, Owner, Progress, ResourceArn, Service, ServiceEvent, ServiceKey, Stop, StopCode,
    Task,
};
use crate::state::{Key, State, Tx};

/// Metric labels of why a task was replaced; keys of [`Progress::replacements`].
pub(super) const UNHEALTHY: &str = "unhealthy";
pub(super) const DEPLOYMENT: &str = "deployment";
pub(super) const DRAINING: &str = "draining";
pub(super) const REBALANCING: &str = "rebalancing";
pub(super) const LOST: &str = "lost";
pub(super) const EXITED: &str = "exited";
pub(super) const FAILED_TO_START: &str = "failed_to_start";

/// Writes all of `plan`.
pub(super) fn apply(tx: &mut Tx<'_>, plan: &Plan, settings: &Settings, now: Timestamp) {
    for step in &plan.moves {
        make(tx, step, settings, now);
    }
    for Event { service, message } in &plan.events {
        tell(tx, service, message.clone(), now);
    }
}

fn make(tx: &mut Tx<'_>, step: &Move, settings: &Settings, now: Timestamp) {
    match step {
        Move::Open { service, deployment } => rollout::open(tx, service, deployment, now),
        Move::Start(task) => tx.put((**task).clone()),
        Move::Place { task, address } => {
            if let Some(task) = tx.state().tasks.get(task).cloned() {
                tx.put(Task { address: Some(*address), ..Task::clone(&task) });
            }
        }
        Move::Stop { task, why } => {
            if let Some(task) = tx.state().tasks.get(task).cloned() {
                stop(tx, &task, why, settings, now);
            }
        }
        Move::Complete { service, deployment } => rollout::complete(tx, service, deployment, now),
        Move::Fail { service, deployment, failure, to } => {
            rollout::fail(tx, service, (deployment, *failure), to.as_ref(), now);
        }
        Move::Advance { service, deployment, shift, writes } => {
            rollout::advance(tx, service, deployment, shift, now);
            writes.iter().for_each(|weights| traffic::write(tx, weights));
            change(tx, service, |progress| {
                progress.weights.retain(|old| writes.iter().all(|new| new.rule != old.rule));
                progress.weights.extend(writes.iter().cloned());
            });
            traffic::name(tx, service, now);
        }
        Move::Adopt { service, deployment, source } => {
            rollout::adopt(tx, service, deployment, source);
            traffic::name(tx, service, now);
        }
        Move::Bake { service, deployment } => change(tx, service, |progress| {
            let found = progress.deployments.iter_mut().find(|d| &d.id == deployment);
            if let Some(deployment) = found {
                deployment.baking_since = Some(now);
            }
        }),
        Move::Hear { instance, contact, capacity } => {
            if let Some(row) = tx.state().instances.get(instance).cloned() {
                let (contact, capacity, version) = (*contact, *capacity, row.version + 1);
                let row = ContainerInstance::clone(&row);
                tx.put(ContainerInstance { contact, capacity, version, ..row });
            }
        }
        Move::Healthy(task) => rollout::healthy(tx, task, now),
        Move::Close { service, deployment } => rollout::close(tx, service, deployment),
        Move::Resize { service, count } => rollout::resize(tx, service, *count),
        Move::Calm(service) => change(tx, service, |p| p.backoff = Backoff::default()),
        Move::Steady { service, steady } => change(tx, service, |p| p.steady = *steady),
        Move::ForgetTask(id) => {
            if let Some(task) = tx.state().tasks.get(id).cloned() {
                untag(tx, settings.account.task(&task.cluster, id));
                tx.remove(Key::Task(id.clone()));
            }
        }
        Move::ForgetService(service) => forget(tx, service, settings, now),
        Move::ForgetEnded(service) => tx.remove(Key::EndedService(service.clone())),
        Move::ForgetDefinition(key) => tx.remove(Key::TaskDefinition(key.clone())),
        Move::ForgetInstance(name) => tx.remove(Key::ContainerInstance(name.clone())),
        Move::Release(address) => tx.remove(Key::Quarantine(*address)),
    }
}

/// Changes what is kept of a service, if anything is.
pub(super) fn change(tx: &mut Tx<'_>, service: &ServiceKey, change: impl FnOnce(&mut Progress)) {
    if let Some(progress) = tx.state().progress.get(service) {
        let mut progress = Progress::clone(progress);
        change(&mut progress);
        tx.put(progress);
    }
}

/// Adds an event; the oldest makes room.
pub(super) fn tell(tx: &mut Tx<'_>, service: &ServiceKey, message: String, now: Timestamp) {
    change(tx, service, |progress| {
        while progress.events.len() >= EVENTS_KEPT {
            progress.events.pop_front();
        }
        let id = progress.events_written;
        progress.events.push_back(ServiceEvent { id, at: now, message });
        progress.events_written += 1;
    });
}

fn stop(tx: &mut Tx<'_>, task: &Task, why: &Why, settings: &Settings, now: Timestamp) {
    let reason = match why {
        Why::Unhealthy(Some(group)) => words::failed_checks(group),
        Why::Unhealthy(None) if is_sick(tx.state(), task) => {
            words::FAILED_CONTAINER_CHECKS.to_owned()
        }
        Why::Unhealthy(None) => {
            "Task failed ELB health checks: its registration is gone".to_owned()
        }
        Why::Leaving => words::LEAVING.to_owned(),
        Why::Draining => words::draining_instance(task),
        Why::Lost if is_removed(tx.state(), task) => words::REMOVED.to_owned(),
        Why::Lost => words::lost(task),
        Why::Removed => words::REMOVED.to_owned(),
        Why::ScaleIn | Why::Deployment | Why::Deleted | Why::Rebalancing => {
            words::scaling(newest(tx.state(), task))
        }
    };
    let replaced = match why {
        Why::Unhealthy(_) => Some(UNHEALTHY),
        Why::Deployment => Some(DEPLOYMENT),
        Why::Draining => Some(DRAINING),
        Why::Rebalancing => Some(REBALANCING),
        Why::Lost => Some(LOST),
        Why::ScaleIn | Why::Deleted | Why::Removed | Why::Leaving => None,
    };
    if let Some(label) = replaced {
        count_replacement(tx, task, label);
    }
    if matches!(why, Why::Unhealthy(_)) {
        rollout::count(tx, task);
        if died_young(task, settings, now) {
            slow_down(tx, task, &reason, settings, now);
        }
    }
    let stop = Some(Stop::new(StopCode::ServiceSchedulerInitiated, reason));
    tx.put(Task { desired: Desired::Stopped, stop, ..task.clone() });
}

/// Whether its instance left the file.
fn is_removed(state: &State, task: &Task) -> bool {
    let row = state.instances.get(&task.instance);
    row.is_none_or(|row| row.contact == Contact::Removed)
}

/// Whether the checks of its own containers fail.
fn is_sick(state: &State, task: &Task) -> bool {
    let definition = state.definitions.get(&task.definition);
    let health = definition.and_then(|definition| task.checked_health(definition));
    health == Some(ContainerHealth::Unhealthy)
}

/// The deployment that a stop serves: the newest of the service.
fn newest<'a>(state: &'a State, task: &Task) -> Option<&'a DeploymentId> {
    let progress = state.progress.get(task.service.as_ref()?)?;
    progress.deployments.first().map(|deployment| &deployment.id)
}

pub(super) fn count_replacement(tx: &mut Tx<'_>, task: &Task, label: &str) {
    if let Some(service) = &task.service {
        change(tx, service, |p| *p.replacements.entry(label.to_owned()).or_insert(0) += 1);
    }
}

/// Whether a task that ends now says that the next one will: it never served, or not for long.
pub(super) fn died_young(task: &Task, settings: &Settings, now: Timestamp) -> bool {
    let is_early = task.started_at.is_none_or(|at| now < at + settings.backoff.early);
    is_early || task.healthy_at.is_none()
}

/// Lets the next starts wait. Tasks of one round that fail together count once; those of an older
/// deployment that is being replaced slow down nobody.
pub(super) fn slow_down(
    tx: &mut Tx<'_>,
    task: &Task,
    reason: &str,
    settings: &Settings,
    now: Timestamp,
) {
    let Some(service) = &task.service else { return };
    change(tx, service, |progress| {
        let primary = progress.deployments.first();
        // While traffic is being shifted, the tasks it comes from are replaced as well.
        let shift = primary.filter(|d| d.is_shifting()).and_then(|d| d.shift.as_ref());
        let source = shift.and_then(|shift| shift.source.as_ref());
        let own = task.deployment.as_ref();
        if own != primary.map(|deployment| &deployment.id) && (own.is_none() || own != source) {
            return;
        }
        let backoff = &mut progress.backoff;
        backoff.reason = Some(reason.to_owned());
        if backoff.failed_at.is_none_or(|at| task.created_at >= at) {
            backoff.failures += 1;
            backoff.failed_at = Some(now);
            backoff.until = Some(now + settings.backoff.delay(backoff.failures));
        }
    });
}

/// What is gone has no tags.
fn untag(tx: &mut Tx<'_>, resource: Arn) {
    tx.remove(Key::Tags(ResourceArn::new(resource.to_string())));
}

/// Removes a deleted service, and of the file's rows what stood there for it alone: its discovery
/// service.
fn forget(tx: &mut Tx<'_>, key: &ServiceKey, settings: &Settings, now: Timestamp) {
    let Some(service) = tx.state().services.get(key).cloned() else { return };
    tx.remove(Key::Progress(key.clone()));
    tx.remove(Key::Service(key.clone()));
    untag(tx, settings.account.service(key));
    if service.owner == Owner::Api {
        tx.put(EndedService { service: Service::clone(&service), ended_at: now });
    }
    let Some(discovery) = &service.discovery else { return };
    let state = tx.state();
    let files = |owner: Owner| owner == Owner::File;
    let named = state
        .services
        .values()
        .any(|s| s.discovery.as_ref().is_some_and(|d| d.service == discovery.service));
    let answered = state.discovery_instances.keys().any(|i| i.service == discovery.service);
    let row = state.discovery_services.get(&discovery.service);
    if files(service.owner) && row.is_some_and(|row| files(row.owner)) && !named && !answered {
        tx.remove(Key::DiscoveryService(discovery.service.clone()));
    }
}
