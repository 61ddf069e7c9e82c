//! Tasks as ECS describes them.
//!
//! **Invariant:** everything is read from one State; nothing is shown that is not recorded.

use serde_json::{Map, Value, json};

use super::{instance, tag, task_definition};
use crate::api::wire::time::seconds;
use crate::model::{
    Account, Contact, Container, ContainerDefinition, ContainerStatus, Desired, LaunchType,
    NetworkMode, Overrides, PortMapping, Task, TaskDefinition,
};
use crate::state::State;

pub(super) const fn desired(task: &Task) -> &'static str {
    match task.desired {
        Desired::Running => "RUNNING",
        Desired::Stopped => "STOPPED",
    }
}

/// A service's tasks are started by its deployment.
pub(super) fn started_by(task: &Task) -> Option<&str> {
    let own = task.run.as_ref().and_then(|run| run.started_by.as_deref());
    own.or_else(|| task.deployment.as_ref().map(|deployment| deployment.as_str()))
}

pub(super) fn task(account: &Account, state: &State, task: &Task, with_tags: bool) -> Value {
    let definition = state.definitions.get(&task.definition).map(AsRef::as_ref);
    let launch = super::task::launch(state, task);
    let overrides = task.run.as_ref().map(|run| run.overrides.clone()).unwrap_or_default();
    let run_definition = definition.map(|definition| overrides.applied(definition));
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("taskArn", account.task(&task.cluster, &task.id).to_string().into());
    put("clusterArn", account.cluster(&task.cluster).to_string().into());
    put("taskDefinitionArn", task_definition::arn(account, &task.definition));
    put("lastStatus", task.known.as_str().into());
    put("desiredStatus", desired(task).into());
    put("attachments", attachments(task, definition, &launch).into());
    put("attributes", json!([instance::architecture(state, task)]));
    let row = state.instances.get(&task.instance);
    let connected = row.is_some_and(|row| row.contact == Contact::Connected);
    put("connectivity", if connected { "CONNECTED" } else { "DISCONNECTED" }.into());
    put("availabilityZone", row.map(|row| row.zone.as_str()).into());
    put("createdAt", seconds(task.created_at));
    put("startedAt", task.started_at.map(seconds).into());
    put("stoppingAt", task.stopping_at.map(seconds).into());
    put("stoppedAt", task.stopped_at.map(seconds).into());
    put("startedBy", started_by(task).into());
    put("enableExecuteCommand", task.exec.into());
    let group = match (&task.service, &task.run) {
        (Some(service), _) => Some(format!("service:{}", service.name)),
        (None, run) => run.as_ref().map(|run| run.group.clone()),
    };
    put("group", group.into());
    match launch.capacity.first() {
        Some(item) => put("capacityProviderName", item.provider.as_str().into()),
        None => put("launchType", launch.launch_type().as_str().into()),
    }
    if launch.launch_type() == LaunchType::Fargate {
        put("platformVersion", launch.platform_version.clone().into());
        put("platformFamily", "Linux".into());
    } else {
        put(
            "containerInstanceArn",
            account.container_instance(&task.cluster, &task.instance).to_string().into(),
        );
    }
    if let Some(stop) = &task.stop {
        put("stopCode", stop.code.as_str().into());
        put("stoppedReason", stop.reason.as_str().into());
    }
    if let Some(definition) = &run_definition {
        put("cpu", definition.cpu.map(|cpu| cpu.to_string()).into());
        put("memory", definition.memory_mib.map(|memory| memory.to_string()).into());
        put("healthStatus", task.health(definition).as_str().into());
    }
    let shown = |row: &Container| container(account, task, run_definition.as_ref(), row);
    put("containers", task.containers.iter().map(shown).collect::<Vec<_>>().into());
    put("overrides", overridden(task, &overrides));
    let tags = with_tags.then(|| tag::shown(&tag::of_task(account, state, task)));
    put("tags", tags.unwrap_or_default().into());
    Value::Object(all)
}

/// A UUID that only follows from what it names.
fn uuid(text: &str) -> String {
    let hex = super::digest(text);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

fn attachment_id(task: &Task) -> String {
    uuid(&format!("{}/eni", task.id))
}

/// A task of network mode awsvpc has an interface of its own.
fn attachments(
    task: &Task,
    definition: Option<&TaskDefinition>,
    launch: &crate::model::Launch,
) -> Vec<Value> {
    let is_awsvpc = definition.is_some_and(|d| d.network_mode == Some(NetworkMode::Awsvpc));
    let Some(address) = task.address.filter(|_| is_awsvpc) else { return Vec::new() };
    let subnet = launch.network.as_ref().and_then(|network| network.subnets.first());
    let subnet = subnet.map(|subnet| json!({ "name": "subnetId", "value": subnet }));
    let name = if address.is_ipv4() { "privateIPv4Address" } else { "privateIPv6Address" };
    let own = json!({ "name": name, "value": address.to_string() });
    let details: Vec<_> = subnet.into_iter().chain([own]).collect();
    let status =
        if task.known == crate::model::TaskStatus::Stopped { "DELETED" } else { "ATTACHED" };
    vec![json!({
        "id": attachment_id(task),
        "type": "ElasticNetworkInterface",
        "status": status,
        "details": details,
    })]
}

pub(super) fn container_arn(account: &Account, task: &Task, name: &str) -> String {
    let id = uuid(&format!("{}/{name}", task.id));
    let path = format!("container/{}/{}/{id}", task.cluster, task.id);
    account.within("ecs", task.cluster.region(), path).to_string()
}

/// ECS's `networkBindings`: a range of ports is one.
fn bindings(written: Option<&ContainerDefinition>, row: &Container) -> Vec<Value> {
    let mappings = written.map(|written| written.port_mappings.as_slice()).unwrap_or_default();
    let mut shown = Vec::new();
    for binding in &row.bindings {
        let (own, host) = (binding.container_port, binding.host_port);
        let mut of_range = mappings.iter().filter(|mapping| mapping.range_end.is_some());
        let range = of_range.find(|m| m.protocol == binding.protocol && m.ports().contains(&own));
        let mut one = json!({
            "bindIP": binding.bind_address.to_string(),
            "protocol": binding.protocol.to_string(),
        });
        match range.map(PortMapping::ports) {
            Some(range) if own == *range.start() => {
                let last = host.saturating_add(range.end() - range.start());
                one["containerPortRange"] = json!(format!("{}-{}", range.start(), range.end()));
                one["hostPortRange"] = json!(format!("{host}-{last}"));
            }
            Some(_) => continue,
            None => (one["containerPort"], one["hostPort"]) = (json!(own), json!(host)),
        }
        shown.push(one);
    }
    shown
}

fn container(
    account: &Account,
    task: &Task,
    definition: Option<&TaskDefinition>,
    row: &Container,
) -> Value {
    let written = definition.and_then(|definition| definition.container(&row.name));
    let status = match row.status {
        ContainerStatus::None | ContainerStatus::Created => "PENDING",
        ContainerStatus::Running => "RUNNING",
        ContainerStatus::Stopped => "STOPPED",
    };
    let bindings = bindings(written, row);
    let interface = row.address.or(task.address).map(|address| {
        let name = if address.is_ipv4() { "privateIpv4Address" } else { "ipv6Address" };
        json!({ "attachmentId": attachment_id(task), name: address.to_string() })
    });
    json!({
        "containerArn": container_arn(account, task, &row.name),
        "taskArn": account.task(&task.cluster, &task.id).to_string(),
        "name": row.name,
        "image": written.and_then(|written| written.image.clone()),
        "runtimeId": row.runtime_id,
        "lastStatus": status,
        "exitCode": row.exit_code,
        "reason": row.reason,
        "healthStatus": row.health.as_str(),
        "networkBindings": bindings,
        "managedAgents": task.exec.then(|| {
            let started = task.started_at.map(seconds);
            [json!({
                "name": "ExecuteCommandAgent", "lastStatus": status, "lastStartedAt": started,
            })]
        }),
        "networkInterfaces": interface.into_iter().collect::<Vec<_>>(),
        "cpu": written.map(|written| written.cpu.unwrap_or(0).to_string()),
        "memory": written.and_then(|written| Some(written.memory_mib?.to_string())),
        "memoryReservation":
            written.and_then(|written| Some(written.memory_reservation_mib?.to_string())),
    })
}

/// ECS names every container, also those of which nothing is overridden.
fn overridden(task: &Task, overrides: &Overrides) -> Value {
    let one = |row: &Container| {
        let Some(own) = overrides.containers.iter().find(|own| own.name == row.name) else {
            return json!({ "name": row.name });
        };
        let variable = |(name, value): (&String, &String)| json!({ "name": name, "value": value });
        let environment: Vec<_> = own.environment.iter().map(variable).collect();
        json!({
            "name": own.name,
            "command": own.command,
            "environment": (!environment.is_empty()).then_some(environment),
            "cpu": own.cpu,
            "memory": own.memory_mib,
        })
    };
    json!({
        "containerOverrides": task.containers.iter().map(one).collect::<Vec<_>>(),
        "cpu": overrides.cpu.map(|cpu| cpu.to_string()),
        "memory": overrides.memory_mib.map(|memory| memory.to_string()),
        "taskRoleArn": overrides.task_role_arn,
        "executionRoleArn": overrides.execution_role_arn,
    })
}
