//! Task protection: which tasks of services no scale-in and no deployment may stop, and until when.
//!
//! Not here: honouring it (the orchestrator's plan). **Invariant:** a protection ends by itself.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::names;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time::{iso, seconds};
use crate::clock::Timestamp;
use crate::model::{Account, ClusterName, Task, TaskId};
use crate::state::{State, Store, Tx};

/// ECS's default, and its bounds.
const MINUTES: i64 = 120;
const MOST_MINUTES: i64 = 2880;

#[derive(Debug, Deserialize)]
struct Get {
    cluster: String,
    #[serde(default)]
    tasks: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    cluster: String,
    tasks: Vec<String>,
    protection_enabled: bool,
    expires_in_minutes: Option<i64>,
}

/// Of the named tasks; of none named, those of the cluster that are protected.
pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: Get = input.read()?;
    let cluster = names::known_cluster(call, Some(&asked.cluster))?;
    if asked.tasks.len() > 100 {
        return Err(Error::invalid("at most 100 tasks can be named at once"));
    }
    let state = call.state();
    let mut ids = asked
        .tasks
        .iter()
        .map(|text| names::task(call, &cluster, text))
        .collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        let all = state.tasks.values().filter(|task| task.cluster == cluster);
        let protected = all.filter(|task| task.is_live() && task.is_protected(call.now));
        ids = protected.map(|task| task.id.clone()).collect();
    }
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match valid(call.account(), &state, &cluster, &id) {
            Ok(task) => shown.push(one(call.account(), task, call.now)),
            Err(failure) => failures.push(failure),
        }
    }
    Ok(json!({ "protectedTasks": shown, "failures": failures }))
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let asked: Update = input.read()?;
    let cluster = names::known_cluster(call, Some(&asked.cluster))?;
    if asked.tasks.is_empty() || asked.tasks.len() > 10 {
        return Err(Error::invalid("1 to 10 tasks can be named at once"));
    }
    let minutes = asked.expires_in_minutes.unwrap_or(MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        return Err(Error::invalid("expiresInMinutes must be between 1 and 2880"));
    }
    let ids = asked.tasks.iter().map(|text| names::task(call, &cluster, text));
    let ids: Vec<TaskId> = ids.collect::<Result<_, _>>()?;
    let (account, now) = (call.account().clone(), call.now);
    let length = Duration::from_secs(minutes.unsigned_abs() * 60);
    let until = asked.protection_enabled.then(|| now + length);
    let written = call.api.store.update(move |tx| {
        let (mut shown, mut failures) = (Vec::new(), Vec::new());
        for id in ids {
            match protect(tx, &account, (&cluster, &id), until, now) {
                Ok(task) => shown.push(one(&account, &task, now)),
                Err(failure) => failures.push(failure),
            }
        }
        Ok::<_, Error>(json!({ "protectedTasks": shown, "failures": failures }))
    });
    Ok(written.await?.value)
}

/// Protects a task until then, or no longer, if that may be.
fn protect(
    tx: &mut Tx<'_>,
    account: &Account,
    (cluster, id): (&ClusterName, &TaskId),
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Task, Value> {
    let task = valid(account, tx.state(), cluster, id)?.clone();
    let task = free(account, tx.state(), task, until, now)?;
    let task = Task { protected_until: until, ..task };
    tx.put(task.clone());
    Ok(task)
}

/// What a task asks of its own protection (Amazon ECS Developer Guide, "task scale-in protection
/// endpoint").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    protection_enabled: Option<bool>,
    expires_in_minutes: Option<i64>,
}

/// The endpoint's answer to a task that asks whether it is protected.
pub(crate) fn own(account: &Account, state: &State, task: &Task, now: Timestamp) -> Value {
    match valid(account, state, &task.cluster, &task.id) {
        Ok(task) => json!({ "protection": pascal(one(account, task, now)) }),
        Err(failure) => json!({ "failure": pascal(failure) }),
    }
}

/// The endpoint's answer to a task that protects itself, or not any longer.
///
/// # Errors
/// The request is not what it has to be.
pub(crate) async fn own_update(
    store: &Store,
    account: &Account,
    task: &Task,
    body: &[u8],
    now: Timestamp,
) -> Result<Value, Error> {
    let asked: Own = serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("UpdateTaskProtection: {error}")))?;
    let is_on = asked.protection_enabled.ok_or_else(|| {
        Error::invalid("Invalid request: does not contain 'ProtectionEnabled' field")
    })?;
    let minutes = asked.expires_in_minutes.unwrap_or(MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        return Err(Error::invalid("expiresInMinutes must be between 1 and 2880"));
    }
    let until = is_on.then(|| now + Duration::from_secs(minutes.unsigned_abs() * 60));
    let (account, key) = (account.clone(), (task.cluster.clone(), task.id.clone()));
    let written = store.update(move |tx| {
        Ok::<_, Error>(match protect(tx, &account, (&key.0, &key.1), until, now) {
            Ok(task) => json!({ "protection": pascal(one(&account, &task, now)) }),
            Err(failure) => json!({ "failure": pascal(failure) }),
        })
    });
    Ok(written.await?.value)
}

/// The agent writes its members with capital letters, and times as text.
fn pascal(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let member = |(name, value): (String, Value)| {
        let text = value.as_f64().filter(|_| name == "expirationDate").map(iso);
        let mut letters = name.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        let name = first.into_iter().chain(letters).collect();
        (name, text.map_or(value, Value::from))
    };
    Value::Object(map.into_iter().map(member).collect())
}

/// A task that may be protected, or the failure that says why not.
fn valid<'a>(
    account: &Account,
    state: &'a State,
    cluster: &ClusterName,
    id: &TaskId,
) -> Result<&'a Task, Value> {
    let arn = account.task(cluster, id).to_string();
    match state.tasks.get(id).filter(|task| &task.cluster == cluster) {
        Some(task) if task.service.is_some() && task.is_live() => Ok(task),
        Some(_) => Err(names::failure(arn, "TASK_NOT_VALID")),
        None => Err(names::failure(arn, "MISSING")),
    }
}

/// ECS: tasks that a deployment replaces cannot be protected while as many of them are as the
/// service wants, for then the deployment could never go on.
fn free(
    account: &Account,
    state: &State,
    task: Task,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Task, Value> {
    let Some(key) = task.service.as_ref().filter(|_| until.is_some()) else { return Ok(task) };
    let progress = state.progress.get(key);
    let newest = progress.and_then(|progress| progress.deployments.first()).map(|d| &d.id);
    let is_old = |task: &Task| newest.is_some() && task.deployment.as_ref() != newest;
    let others = state.tasks_of(key).filter(|t| t.id != task.id && t.is_live() && is_old(t));
    let protected = others.filter(|task| task.is_protected(now)).count();
    let desired = state.services.get(key).map_or(0, |service| service.desired_count);
    if is_old(&task) && usize::try_from(desired).is_ok_and(|desired| protected >= desired) {
        let arn = account.task(&task.cluster, &task.id);
        return Err(names::failure(arn, "DEPLOYMENT_BLOCKED"));
    }
    Ok(task)
}

fn one(account: &Account, task: &Task, now: Timestamp) -> Value {
    let until = task.protected_until.filter(|until| *until > now);
    json!({
        "taskArn": account.task(&task.cluster, &task.id).to_string(),
        "protectionEnabled": until.is_some(),
        "expirationDate": until.map(seconds),
    })
}
