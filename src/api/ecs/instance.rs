//! Container instances: this machine, once for every cluster.
//!
//! There is nothing to register: the process serves all clusters. **Invariant:** an instance's id
//! follows from its cluster's name, so it is the same after a restart.

use serde::Deserialize;
use serde_json::{Value, json};

use super::names;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::model::{Account, ClusterName, TaskStatus};
use crate::state::State;

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
    next_token: Option<String>,
    max_results: Option<i64>,
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListAttributes {
    cluster: Option<String>,
    target_type: String,
    attribute_name: Option<String>,
    attribute_value: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// 32 hexadecimal digits.
pub(super) fn id(account: &Account, cluster: &ClusterName) -> String {
    super::digest(&account.cluster(cluster).to_string())[..32].to_owned()
}

pub(super) fn arn(account: &Account, cluster: &ClusterName) -> String {
    let path = format!("container-instance/{cluster}/{}", id(account, cluster));
    account.arn("ecs", path).to_string()
}

/// ECS's name for what this program was built for.
pub(super) fn architecture() -> Value {
    let name = if cfg!(target_arch = "aarch64") { "arm64" } else { std::env::consts::ARCH };
    json!({ "name": "ecs.cpu-architecture", "value": name })
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeInstances = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.container_instances.is_empty() {
        return Err(Error::invalid("Container instances cannot be empty."));
    }
    let with_tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let (found, failures) = find(call, &cluster, &asked.container_instances, with_tags)?;
    Ok(json!({ "containerInstances": found, "failures": failures }))
}

/// ACTIVE is what it is; the one machine there is cannot be drained by its own process.
pub(super) fn update_state(call: &Call, input: Input) -> Outcome {
    let asked: UpdateState = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let (found, failures) = find(call, &cluster, &asked.container_instances, false)?;
    match asked.status.as_str() {
        "ACTIVE" => Ok(json!({ "containerInstances": found, "failures": failures })),
        "DRAINING" => {
            let message = "DRAINING is not supported here: there is no other container instance \
                           that could take the tasks; scale the services to 0";
            Err(Error::unsupported(message))
        }
        _ => Err(Error::invalid("Container instance status should be one of ACTIVE or DRAINING.")),
    }
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListInstances = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let is_shown = asked.status.as_deref().is_none_or(|status| status == "ACTIVE");
    let all = is_shown.then(|| arn(call.account(), &cluster));
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, Clone::clone, token, asked.max_results, 100)?;
    Ok(json!({ "containerInstanceArns": page, "nextToken": next }))
}

pub(super) fn list_attributes(call: &Call, input: Input) -> Outcome {
    let asked: ListAttributes = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let arn = arn(call.account(), &cluster);
    if asked.target_type != "container-instance" {
        return Err(Error::invalid("targetType must be container-instance"));
    }
    let is = |value: &Value, wanted: &Option<String>| {
        wanted.as_deref().is_none_or(|wanted| value.as_str() == Some(wanted))
    };
    let wanted = |attribute: &Value| {
        is(&attribute["name"], &asked.attribute_name)
            && is(&attribute["value"], &asked.attribute_value)
    };
    let all = attributes().into_iter().filter(wanted).map(|mut attribute| {
        attribute["targetId"] = arn.as_str().into();
        attribute
    });
    let key = |attribute: &Value| attribute["name"].to_string();
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, key, token, asked.max_results, 100)?;
    Ok(json!({ "attributes": page, "nextToken": next }))
}

/// What this machine is, by name.
fn attributes() -> Vec<Value> {
    vec![architecture(), json!({ "name": "ecs.os-type", "value": "linux" })]
}

/// Instances and failures.
type Found = (Vec<Value>, Vec<Value>);

fn find(
    call: &Call,
    cluster: &ClusterName,
    wanted: &[String],
    with_tags: bool,
) -> Result<Found, Error> {
    let state = call.state();
    let own = id(call.account(), cluster);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for text in wanted {
        if names::instance(call, cluster, text)? == own {
            found.push(shown(call.account(), &state, cluster, with_tags));
        } else {
            let path = format!("container-instance/{cluster}/{text}");
            let arn = if text.starts_with("arn:") {
                text.clone()
            } else {
                call.account().arn("ecs", path).to_string()
            };
            failures.push(names::failure(arn, "MISSING"));
        }
    }
    Ok((found, failures))
}

fn shown(account: &Account, state: &State, cluster: &ClusterName, with_tags: bool) -> Value {
    let tasks = || state.tasks.values().filter(|task| task.cluster == *cluster && task.is_live());
    let running = tasks().filter(|task| task.known == TaskStatus::Running).count();
    let pending = tasks().filter(|task| task.known < TaskStatus::Running).count();
    json!({
        "containerInstanceArn": arn(account, cluster),
        "versionInfo": { "agentVersion": env!("CARGO_PKG_VERSION") },
        "status": "ACTIVE",
        "agentConnected": true,
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "attributes": attributes(),
        "attachments": [],
        "tags": with_tags.then(Vec::<Value>::new),
    })
}
