//! What happened between two States, in the words of ECS's events. Pure.
//!
//! Amazon ECS Developer Guide, "Amazon ECS events": task state change, container instance state
//! change, service action, deployment state change. A task's event is told whenever what
//! `DescribeTasks` shows of it changed. Not here: the envelope, and who is told (`api::events`).
//! **Invariant:** two equal States tell nothing; what a State between the two showed and both do
//! not is not told.

use serde_json::{Map, Value, json};

use super::{instance, service, task_shown};
use crate::api::wire::time;
use crate::clock::Timestamp;
use crate::model::{Account, Deployment, Progress, ServiceKey, Task};
use crate::orchestrator::{self, placement::Board};
use crate::state::{State, changed};

/// Members of a task or an instance that are times, which events write as text.
const TIMES: [&str; 5] = ["createdAt", "startedAt", "stoppingAt", "stoppedAt", "registeredAt"];
/// Members of `DescribeTasks` that no event has.
const NOT_TOLD: [&str; 1] = ["tags"];

/// One event without its envelope.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Its `detail-type`.
    pub(crate) kind: Kind,
    /// The ARN of what it happened to.
    pub(crate) resource: String,
    pub(crate) detail: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Task,
    Action,
    Deployment,
    Instance,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Task, Self::Action, Self::Deployment, Self::Instance];

    /// EventBridge's `detail-type`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "ECS Task State Change",
            Self::Action => "ECS Service Action",
            Self::Deployment => "ECS Deployment State Change",
            Self::Instance => "ECS Container Instance State Change",
        }
    }
}

/// Tasks first, then what their services did.
pub(crate) fn between(
    account: &Account,
    before: &State,
    after: &State,
    now: Timestamp,
) -> Vec<Event> {
    let mut events = Vec::new();
    for id in changed(&before.tasks, &after.tasks) {
        // One that is forgotten was STOPPED long ago.
        let Some(task) = after.tasks.get(&id) else { continue };
        let shown = of_task(account, after, task);
        let old = before.tasks.get(&id).map(|old| of_task(account, before, old));
        if old.as_ref() != Some(&shown) {
            events.push(task_event(account, task, shown, after.generation.0, now));
        }
    }
    events.extend(instances(account, before, after, now));
    for key in changed(&before.services, &after.services) {
        let (old, new) = (before.services.get(&key), after.services.get(&key));
        let Some((old, new)) = old.zip(new) else { continue };
        if old.desired_count != new.desired_count {
            let mut event = action(account, &key, "SERVICE_DESIRED_COUNT_UPDATED", "INFO", now);
            event.detail["desiredCount"] = new.desired_count.into();
            events.push(event);
        }
    }
    for key in changed(&before.progress, &after.progress) {
        if let Some(new) = after.progress.get(&key) {
            let old = before.progress.get(&key).map(AsRef::as_ref);
            events.extend(deployments(account, &key, old, new, now));
            events.extend(actions(account, &key, old, new));
        }
    }
    events
}

fn of_task(account: &Account, state: &State, task: &Task) -> Map<String, Value> {
    told(task_shown::task(account, state, task, false))
}

/// A description as events have it.
fn told(shown: Value) -> Map<String, Value> {
    let Value::Object(mut shown) = shown else { return Map::new() };
    for name in NOT_TOLD {
        shown.remove(name);
    }
    for name in TIMES {
        if let Some(seconds) = shown.get(name).and_then(Value::as_f64) {
            shown.insert(name.to_owned(), time::iso(seconds).into());
        }
    }
    shown
}

/// Of what changed of an instance itself, in each cluster; ECS tells what its tasks take as well,
/// here their own events do.
fn instances(account: &Account, before: &State, after: &State, now: Timestamp) -> Vec<Event> {
    let names = changed(&before.instances, &after.instances);
    if names.is_empty() {
        return Vec::new();
    }
    let (board, mut events) = (Board::of(after), Vec::new());
    for seat in names.iter().filter_map(|name| board.seat(name)) {
        for cluster in after.clusters.keys() {
            let mut detail = told(instance::one(account, after, cluster, seat, false));
            detail.insert("clusterArn".to_owned(), account.cluster(cluster).to_string().into());
            detail.insert("updatedAt".to_owned(), iso(now).into());
            let resource = account.container_instance(cluster, &seat.instance.name).to_string();
            events.push(Event { kind: Kind::Instance, resource, detail: Value::Object(detail) });
        }
    }
    events
}

fn task_event(
    account: &Account,
    task: &Task,
    mut detail: Map<String, Value>,
    version: u64,
    now: Timestamp,
) -> Event {
    // ECS counts the changes of a task; what rises with each of them serves as well.
    detail.insert("version".to_owned(), version.into());
    detail.insert("updatedAt".to_owned(), iso(now).into());
    let resource = account.task(&task.cluster, &task.id).to_string();
    Event { kind: Kind::Task, resource, detail: Value::Object(detail) }
}

fn iso(at: Timestamp) -> String {
    time::iso(time::seconds(at).as_f64().unwrap_or_default())
}

fn action(account: &Account, key: &ServiceKey, name: &str, kind: &str, at: Timestamp) -> Event {
    let detail = json!({
        "eventType": kind,
        "eventName": name,
        "clusterArn": account.cluster(&key.cluster).to_string(),
        "createdAt": iso(at),
    });
    Event { kind: Kind::Action, resource: account.service(key).to_string(), detail }
}

/// What the scheduler told of a service, as far as EventBridge is told it too.
fn actions(
    account: &Account,
    key: &ServiceKey,
    old: Option<&Progress>,
    new: &Progress,
) -> Vec<Event> {
    let told = old.map_or(0, |old| old.events_written);
    let fresh = new.events.iter().filter(|event| event.id >= told);
    let one = |event: &crate::model::ServiceEvent| {
        let known = orchestrator::Action::of(&event.message)?;
        let (kind, name) = (known.kind, known.name);
        let mut made = action(account, key, name, kind, event.at);
        if let Some(reason) = known.reason {
            made.detail["reason"] = reason.into();
        }
        Some(made)
    };
    fresh.filter_map(one).collect()
}

fn deployments(
    account: &Account,
    key: &ServiceKey,
    old: Option<&Progress>,
    new: &Progress,
    now: Timestamp,
) -> Vec<Event> {
    let before = |id| old.and_then(|old| old.all().find(|deployment| deployment.id == id));
    let mut events = Vec::new();
    for deployment in new.all() {
        let (state, reason) = service::rollout(deployment);
        let known = before(deployment.id.clone());
        if known.is_none_or(|known| service::rollout(known) != (state, reason.clone())) {
            let known = (deployment, state, reason);
            events.push(deployment_event(account, key, known, now));
        }
    }
    events
}

fn deployment_event(
    account: &Account,
    key: &ServiceKey,
    (deployment, state, reason): (&Deployment, &str, String),
    now: Timestamp,
) -> Event {
    let detail = json!({
        "eventType": if state == "FAILED" { "ERROR" } else { "INFO" },
        "eventName": format!("SERVICE_DEPLOYMENT_{state}"),
        "deploymentId": deployment.id.as_str(),
        "updatedAt": iso(now),
        "reason": reason,
    });
    Event { kind: Kind::Deployment, resource: account.service(key).to_string(), detail }
}

#[cfg(test)]
mod tests;
