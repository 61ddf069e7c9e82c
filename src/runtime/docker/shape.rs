//! Our words and Docker's: a specification as a request, an inspected container as an observation.
//! Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum,
    ContainerStatsResponse, EndpointSettings, HealthConfig, HealthStatusEnum,
};

use super::{host, logs, network as ports};
use crate::model::{ContainerCheck, ContainerHealth, Observed, ObservedState, TaskId, Usage};
use crate::runtime::{ContainerSpec, RuntimeError, START_INTERVAL};

pub(super) const LABEL_CLUSTER: &str = "roadstead.cluster-uid";
pub(super) const LABEL_TASK: &str = "roadstead.task";
pub(super) const LABEL_CONTAINER: &str = "roadstead.container";

/// Found again after a lost answer, for it follows from what is asked.
pub(super) fn name(cluster_uid: &str, task: &TaskId, container: &str) -> String {
    format!("roadstead-{cluster_uid}-{task}-{container}")
}

pub(super) fn request(
    spec: &ContainerSpec,
    cluster_uid: &str,
    network: Option<&str>,
) -> Result<ContainerCreateBody, RuntimeError> {
    let definition = &spec.definition;
    let Some(image) = definition.image.as_deref().filter(|image| !image.is_empty()) else {
        let text = format!("container {}: image is missing", definition.name);
        return Err(RuntimeError::CannotCreate(text));
    };
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let environment = spec.variables().map(|(name, value)| format!("{name}={value}"));
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        env: Some(environment.collect()),
        entrypoint: some(&definition.entry_point),
        cmd: some(&definition.command),
        user: definition.user.clone(),
        working_dir: definition.working_directory.clone(),
        healthcheck: Some(health(definition.health_check.as_ref())),
        stop_timeout: i64::try_from(definition.stop_timeout().as_secs()).ok(),
        labels: Some(labels(spec, cluster_uid)),
        hostname: definition.hostname.clone(),
        exposed_ports: ports::exposed(spec),
        open_stdin: definition.interactive,
        tty: definition.pseudo_terminal,
        host_config: Some(host::config(spec, cluster_uid, network)),
        ..ContainerCreateBody::default()
    })
}

/// Without a check of ours, none: those of an image do not count (ECS reports only a definition's),
/// and would fill the daemon's ring of events.
fn health(check: Option<&ContainerCheck>) -> HealthConfig {
    let Some(check) = check else {
        let test = Some(vec!["NONE".to_owned()]);
        return HealthConfig { test, ..HealthConfig::default() };
    };
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).ok();
    let start_period = check.start_period.filter(|period| !period.is_zero());
    HealthConfig {
        test: Some(check.command.clone()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: Some(check.retries.into()),
        start_period: start_period.and_then(nanos),
        // Engine 25 and newer: the first pass does not have to wait for a whole interval.
        start_interval: start_period.and_then(|_| nanos(START_INTERVAL)),
    }
}

/// Ours win over the definition's.
fn labels(spec: &ContainerSpec, cluster_uid: &str) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> =
        spec.definition.docker_labels.clone().into_iter().collect();
    let ours = [
        (LABEL_CLUSTER, cluster_uid.to_owned()),
        (LABEL_TASK, spec.task.to_string()),
        (LABEL_CONTAINER, spec.definition.name.clone()),
        ("com.amazonaws.ecs.cluster", spec.cluster.clone()),
        ("com.amazonaws.ecs.container-name", spec.definition.name.clone()),
        ("com.amazonaws.ecs.task-definition-family", spec.family.clone()),
        ("com.amazonaws.ecs.task-definition-version", spec.revision.to_string()),
    ];
    labels.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    for forged in [logs::LABEL_GROUP, logs::LABEL_PREFIX] {
        labels.remove(forged);
    }
    let log = logs::labels(spec.definition.log.as_ref()).into_iter();
    labels.extend(log.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// The reference with a tag: a pull without one would fetch every tag there is.
pub(super) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// None: it is not of this cluster, whatever it is called.
pub(super) fn observed(
    container: &ContainerInspectResponse,
    cluster_uid: &str,
    network: Option<&str>,
) -> Option<Observed> {
    let labels = container.config.as_ref()?.labels.as_ref()?;
    if labels.get(LABEL_CLUSTER)? != cluster_uid {
        return None;
    }
    let state = container.state.as_ref()?;
    let is_running = state.running == Some(true);
    let address = ports::host_address(container).or_else(|| address_of(container, network));
    let address = address.filter(|_| is_running);
    let bindings = if is_running { ports::bound(container) } else { Vec::new() };
    let state = if is_running {
        ObservedState::Running
    } else if state.status == Some(ContainerStateStatusEnum::CREATED) {
        ObservedState::Created
    } else {
        ObservedState::Exited {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
            out_of_memory: state.oom_killed == Some(true),
        }
    };
    let task = labels.get(LABEL_TASK)?.as_str().into();
    let name = labels.get(LABEL_CONTAINER)?.clone();
    let health = container.state.as_ref().and_then(|state| state.health.as_ref()?.status);
    let health = match health {
        Some(HealthStatusEnum::HEALTHY) => ContainerHealth::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => ContainerHealth::Unhealthy,
        _ => ContainerHealth::Unknown,
    };
    Some(Observed {
        health,
        bindings,
        ..Observed::new(task, name, container.id.clone()?, state, address)
    })
}

/// Its address in Docker's network.
pub(super) fn address_of(
    container: &ContainerInspectResponse,
    network: Option<&str>,
) -> Option<IpAddr> {
    let networks = container.network_settings.as_ref().and_then(|all| all.networks.as_ref());
    networks.and_then(|all| address(all, network))
}

/// In the network asked for, else in the first by name that gives one; IPv4 before IPv6.
fn address(networks: &HashMap<String, EndpointSettings>, network: Option<&str>) -> Option<IpAddr> {
    let of = |endpoint: &EndpointSettings| {
        let parse = |text: &Option<String>| text.as_deref()?.parse::<IpAddr>().ok();
        parse(&endpoint.ip_address).or_else(|| parse(&endpoint.global_ipv6_address))
    };
    let wanted = network.and_then(|name| networks.get(name)).and_then(of);
    let sorted: BTreeMap<_, _> = networks.iter().collect();
    wanted.or_else(|| sorted.into_values().find_map(of))
}

/// As `docker stats` counts: memory without the file cache that the kernel could drop at once.
pub(super) fn usage(stats: &ContainerStatsResponse) -> Usage {
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    let memory = stats.memory_stats.as_ref();
    let used = memory.and_then(|memory| memory.usage).unwrap_or(0);
    let details = memory.and_then(|memory| memory.stats.as_ref());
    // Control groups version 1 count the whole tree under another name.
    let cache = details
        .and_then(|all| all.get("total_inactive_file").or_else(|| all.get("inactive_file")))
        .copied()
        .filter(|cache| *cache < used);
    Usage { cpu_micros: cpu.unwrap_or(0) / 1000, memory_bytes: used - cache.unwrap_or(0) }
}

#[cfg(test)]
mod tests;
