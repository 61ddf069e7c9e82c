//! Container instances: the places where tasks run, once for every cluster.
//!
//! They are the file's; what the API may change of one is its status and its attributes, in one
//! cluster each. **Invariant:** an instance's id follows from its cluster's and its own name, so
//! it is the same after a restart.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::counts;
use super::names;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time::seconds;
use crate::model::{
    Account, ClusterName, Contact, ContainerInstance, InstanceName, Task, Transport, instance_id,
};
use crate::orchestrator::placement::{Board, Query, Seat};
use crate::state::State;

/// ECS: instances of one call.
const MOST: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeInstances {
    cluster: Option<String>,
    container_instances: Vec<String>,
    include: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateState {
    cluster: Option<String>,
    container_instances: Vec<String>,
    status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListInstances {
    cluster: Option<String>,
    filter: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    status: Option<String>,
}

/// What this program was built for, as tasks have it.
pub(super) fn architecture(state: &State, task: &Task) -> Value {
    let name = "ecs.cpu-architecture";
    let row = state.instances.get(&task.instance);
    json!({ "name": name, "value": row.and_then(|row| row.attribute(&task.cluster, name)) })
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeInstances = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.container_instances.is_empty() {
        return Err(Error::invalid("Container instances cannot be empty."));
    }
    let with_tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let state = call.state();
    let (found, failures) = find(call, &state, &cluster, &asked.container_instances)?;
    let shown = shown(call.account(), &state, &cluster, &found, with_tags);
    Ok(json!({ "containerInstances": shown, "failures": failures }))
}

/// DRAINING, and ACTIVE again.
pub(super) async fn update_state(call: &Call, input: Input) -> Outcome {
    let asked: UpdateState = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.container_instances.len() > MOST {
        return Err(Error::invalid("at most 10 container instances can be updated at once"));
    }
    let draining = match asked.status.as_str() {
        "ACTIVE" => false,
        "DRAINING" => true,
        _ => {
            let message = "Container instance status should be one of ACTIVE or DRAINING.";
            return Err(Error::invalid(message));
        }
    };
    let (found, failures) = find(call, &call.state(), &cluster, &asked.container_instances)?;
    let (wanted, of) = (found.clone(), cluster.clone());
    let written = call.api.store.update(move |tx| {
        for name in &wanted {
            let Some(row) = tx.state().instances.get(name) else { continue };
            if row.is_draining(&of) != draining {
                let mut row = ContainerInstance::clone(row);
                row.memberships.entry(of.clone()).or_default().draining = draining;
                row.version += 1;
                tx.put(row);
            }
        }
        Ok::<_, Error>(())
    });
    written.await?;
    let shown = shown(call.account(), &call.state(), &cluster, &found, false);
    Ok(json!({ "containerInstances": shown, "failures": failures }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListInstances = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let filter = asked.filter.as_deref().filter(|text| !text.is_empty());
    let filter = filter.map(str::parse::<Query>).transpose();
    let filter = filter.map_err(|error| Error::invalid(format!("Invalid filter: {error}")))?;
    let state = call.state();
    let board = Board::of(&state);
    let is_meant = |seat: &&Seat<'_>| {
        seat.instance.contact != Contact::Removed
            && asked.status.as_deref().is_none_or(|s| s == seat.instance.status(&cluster))
            && filter
                .as_ref()
                .is_none_or(|query| query.holds(&|subject| seat.values(&cluster, subject)))
    };
    let meant = board.seats().iter().filter(is_meant);
    let arns = meant
        .map(|seat| call.account().container_instance(&cluster, &seat.instance.name).to_string());
    let token = asked.next_token.as_deref();
    let mut arns: Vec<String> = arns.collect();
    arns.sort_unstable();
    let (page, next) = names::page(arns, Clone::clone, token, asked.max_results, 100)?;
    Ok(json!({ "containerInstanceArns": page, "nextToken": next }))
}

/// The instances that are meant, and failures for what is none.
pub(super) fn find(
    call: &Call,
    state: &State,
    cluster: &ClusterName,
    wanted: &[String],
) -> Result<(Vec<InstanceName>, Vec<Value>), Error> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for text in wanted {
        let id = names::instance(call, cluster, text)?;
        match named(state, cluster, id) {
            Some(instance) => found.push(instance.name.clone()),
            None if text.starts_with("arn:") => failures.push(names::failure(text, "MISSING")),
            None => {
                let path = format!("container-instance/{cluster}/{text}");
                failures.push(names::failure(call.account().arn("ecs", path), "MISSING"));
            }
        }
    }
    Ok((found, failures))
}

/// The instance of that id.
pub(super) fn named<'a>(
    state: &'a State,
    cluster: &ClusterName,
    id: &str,
) -> Option<&'a ContainerInstance> {
    let there = |row: &&std::sync::Arc<ContainerInstance>| row.contact != Contact::Removed;
    let mut all = state.instances.values().filter(there);
    all.find(|row| instance_id(cluster, &row.name) == id).map(AsRef::as_ref)
}

fn shown(
    account: &Account,
    state: &State,
    cluster: &ClusterName,
    names: &[InstanceName],
    with_tags: bool,
) -> Vec<Value> {
    let board = Board::of(state);
    let seats = names.iter().filter_map(|name| board.seat(name));
    seats.map(|seat| one(account, state, cluster, seat, with_tags)).collect()
}

/// One instance as ECS describes it.
pub(crate) fn one(
    account: &Account,
    state: &State,
    cluster: &ClusterName,
    seat: &Seat<'_>,
    with_tags: bool,
) -> Value {
    let instance = seat.instance;
    let own =
        |task: &&Task| task.cluster == *cluster && task.instance == instance.name && task.is_live();
    let (running, pending) = counts(state.tasks.values().map(AsRef::as_ref).filter(own));
    let registered = instance.registered().unwrap_or_default();
    let all = (u64::from(registered.cpu), u64::from(registered.memory_mib));
    let reserved = &instance.reserved_ports;
    let attributes = instance.all_attributes(cluster).into_iter().map(|(name, value)| {
        if value.is_empty() {
            json!({ "name": name })
        } else {
            json!({ "name": name, "value": value })
        }
    });
    json!({
        "containerInstanceArn": account.container_instance(cluster, &instance.name).to_string(),
        "ec2InstanceId": instance.name.as_str(),
        "version": instance.version,
        "versionInfo": { "agentVersion": env!("CARGO_PKG_VERSION") },
        "registeredResources": resources(all, [reserved, reserved]),
        "remainingResources": resources(
            (seat.cpu_left(), seat.memory_left()),
            [&seat.ports(Transport::Tcp), &seat.ports(Transport::Udp)],
        ),
        "status": instance.status(cluster),
        "agentConnected": instance.contact == Contact::Connected,
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "attributes": attributes.collect::<Vec<_>>(),
        "registeredAt": seconds(instance.registered_at),
        "attachments": [],
        "tags": with_tags.then(Vec::<Value>::new),
    })
}

/// CPU, memory, and the ports that are taken.
fn resources((cpu, memory): (u64, u64), ports: [&BTreeSet<u16>; 2]) -> Vec<Value> {
    let number = |name: &str, value: u64| {
        json!({
            "name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0,
            "integerValue": value,
        })
    };
    let set = |name: &str, ports: &BTreeSet<u16>| {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        json!({
            "name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0,
            "integerValue": 0, "stringSetValue": ports,
        })
    };
    vec![
        number("CPU", cpu),
        number("MEMORY", memory),
        set("PORTS", ports[0]),
        set("PORTS_UDP", ports[1]),
    ]
}
