//! A definition as `DescribeTaskDefinition` returns it: what was given, and ECS's defaults.
//!
//! **Invariant:** registering what is shown gives the same definition.

use serde_json::{Map, Value, json};

use super::attributes;
use crate::clock::Timestamp;
use crate::model::{
    Account, ContainerDefinition, LinuxParameters, NetworkMode, PortMapping, TaskDefinition,
    Volume, VolumeKind,
};

/// The description. Tags are apart: ECS returns them beside it, when asked.
#[must_use]
pub fn shown(definition: &TaskDefinition, account: &Account) -> Value {
    let mode = definition.network_mode;
    let containers = definition.containers.iter().map(|c| container(c, mode));
    let attributes = attributes::required(definition).into_iter();
    let compatibilities = attributes::compatibilities(definition);
    let mut all = Members(Map::new());
    all.put("taskDefinitionArn", account.task_definition(&definition.key()).to_string());
    all.put("containerDefinitions", containers.collect::<Vec<_>>());
    all.put("family", definition.family.as_str());
    all.option("taskRoleArn", definition.task_role_arn.as_deref());
    all.option("executionRoleArn", definition.execution_role_arn.as_deref());
    all.option("networkMode", mode.map(NetworkMode::as_str));
    all.put("revision", definition.revision);
    all.put("volumes", definition.volumes.iter().map(volume).collect::<Vec<_>>());
    all.put("status", definition.status.as_str());
    all.put("requiresAttributes", attributes.map(|n| json!({ "name": n })).collect::<Vec<_>>());
    let constraint = |text: &String| json!({ "type": "memberOf", "expression": text });
    let constraints = definition.placement_constraints.iter().map(constraint);
    all.put("placementConstraints", constraints.collect::<Vec<_>>());
    all.put("compatibilities", compatibilities.iter().map(|c| c.as_str()).collect::<Vec<_>>());
    if let Some(platform) = &definition.runtime_platform {
        let mut members = Members(Map::new());
        members.option("cpuArchitecture", platform.cpu_architecture.as_deref());
        members.option("operatingSystemFamily", platform.operating_system_family.as_deref());
        all.put("runtimePlatform", members.0);
    }
    let required = definition.requires_compatibilities.iter().map(|c| c.as_str());
    all.list("requiresCompatibilities", required.collect::<Vec<_>>());
    // Texts, though they are numbers: they are where a unit may be written.
    all.option("cpu", definition.cpu.map(|cpu| cpu.to_string()));
    all.option("memory", definition.memory_mib.map(|memory| memory.to_string()));
    all.option("pidMode", definition.pid_mode.map(|mode| mode.as_str()));
    all.option("ipcMode", definition.ipc_mode.map(|mode| mode.as_str()));
    let storage = definition.ephemeral_storage_gib;
    all.option("ephemeralStorage", storage.map(|size| json!({ "sizeInGiB": size })));
    all.option("registeredAt", definition.registered_at.map(seconds));
    all.option("registeredBy", definition.registered_by.as_deref());
    all.option("deregisteredAt", definition.deregistered_at.map(seconds));
    Value::Object(all.0)
}

/// AWS's JSON protocol writes times as seconds since 1970, with a fraction.
#[allow(clippy::cast_precision_loss, reason = "microseconds since 1970 are below 2^53")]
fn seconds(at: Timestamp) -> f64 {
    (at.0 / 1000) as f64 / 1000.0
}

/// The members of an object that is being made.
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn option(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// A list that is not empty.
    fn list(&mut self, name: &str, list: Vec<impl Into<Value>>) {
        if !list.is_empty() {
            self.put(name, list);
        }
    }
}

fn container(container: &ContainerDefinition, mode: Option<NetworkMode>) -> Value {
    let mut all = Members(Map::new());
    all.put("name", container.name.as_str());
    all.option("image", container.image.as_deref());
    all.put("cpu", container.cpu.unwrap_or(0));
    all.option("memory", container.memory_mib);
    all.option("memoryReservation", container.memory_reservation_mib);
    all.list("links", container.links.clone());
    let ports = container.port_mappings.iter().map(|mapping| port(mapping, mode));
    all.put("portMappings", ports.collect::<Vec<_>>());
    all.put("essential", container.essential);
    if let Some(policy) = &container.restart_policy {
        let mut members = Members(Map::new());
        members.put("enabled", policy.enabled);
        members.list("ignoredExitCodes", policy.ignored_exit_codes.clone());
        members.option("restartAttemptPeriod", policy.attempt_period.map(|p| p.as_secs()));
        all.put("restartPolicy", members.0);
    }
    all.list("entryPoint", container.entry_point.clone());
    all.list("command", container.command.clone());
    let variables = container.environment.iter();
    let variables = variables.map(|(name, value)| json!({ "name": name, "value": value }));
    all.put("environment", variables.collect::<Vec<_>>());
    let files = container.environment_files.iter();
    let files = files.map(|path| json!({ "value": format!("file://{path}"), "type": "file" }));
    all.list("environmentFiles", files.collect());
    mounts(container, &mut all);
    all.option("linuxParameters", container.linux.as_ref().map(linux));
    let secrets = container.secrets.iter();
    let secrets = secrets.map(|s| json!({ "name": s.name, "valueFrom": s.value_from }));
    all.list("secrets", secrets.collect());
    let depends_on = container.depends_on.iter().map(|dependency| {
        let condition = dependency.condition.as_str();
        json!({ "containerName": dependency.container, "condition": condition })
    });
    all.list("dependsOn", depends_on.collect());
    all.option("startTimeout", container.start_timeout.map(|timeout| timeout.as_secs()));
    all.option("stopTimeout", container.stop_timeout.map(|timeout| timeout.as_secs()));
    all.option("versionConsistency", container.version_consistency.as_deref());
    network(container, &mut all);
    all.option("user", container.user.as_deref());
    all.option("workingDirectory", container.working_directory.as_deref());
    all.option("privileged", container.privileged);
    all.option("readonlyRootFilesystem", container.readonly_root);
    all.list("dockerSecurityOptions", container.security_options.clone());
    all.option("interactive", container.interactive);
    all.option("pseudoTerminal", container.pseudo_terminal);
    if !container.docker_labels.is_empty() {
        all.put("dockerLabels", json!(container.docker_labels));
    }
    limits(container, &mut all);
    let controls = container.system_controls.iter();
    let controls = controls.map(|(name, value)| json!({ "namespace": name, "value": value }));
    all.put("systemControls", controls.collect::<Vec<_>>());
    Value::Object(all.0)
}

fn limits(container: &ContainerDefinition, all: &mut Members) {
    let ulimits = container.ulimits.iter().map(
        |limit| json!({ "name": limit.name, "softLimit": limit.soft, "hardLimit": limit.hard }),
    );
    all.list("ulimits", ulimits.collect());
    if let Some(log) = &container.log {
        let mut members = Members(Map::new());
        members.put("logDriver", log.driver.as_str());
        if !log.options.is_empty() {
            members.put("options", json!(log.options));
        }
        all.put("logConfiguration", members.0);
    }
    if let Some(check) = &container.health_check {
        let mut members = Members(Map::new());
        members.put("command", check.command.clone());
        members.put("interval", check.interval.as_secs());
        members.put("timeout", check.timeout.as_secs());
        members.put("retries", check.retries);
        members.option("startPeriod", check.start_period.map(|period| period.as_secs()));
        all.put("healthCheck", members.0);
    }
}

fn mounts(container: &ContainerDefinition, all: &mut Members) {
    let mounts = container.mount_points.iter().map(|mount| {
        let mut members = Members(Map::new());
        members.put("sourceVolume", mount.source_volume.as_str());
        members.put("containerPath", mount.container_path.as_str());
        members.option("readOnly", mount.read_only);
        Value::Object(members.0)
    });
    all.put("mountPoints", mounts.collect::<Vec<_>>());
    let from = container.volumes_from.iter().map(|from| {
        let mut members = Members(Map::new());
        members.put("sourceContainer", from.source_container.as_str());
        members.option("readOnly", from.read_only);
        Value::Object(members.0)
    });
    all.put("volumesFrom", from.collect::<Vec<_>>());
}

fn network(container: &ContainerDefinition, all: &mut Members) {
    all.option("hostname", container.hostname.as_deref());
    all.list("dnsServers", container.dns_servers.clone());
    all.list("dnsSearchDomains", container.dns_search_domains.clone());
    let hosts = container
        .extra_hosts
        .iter()
        .map(|host| json!({ "hostname": host.hostname, "ipAddress": host.address.to_string() }));
    all.list("extraHosts", hosts.collect());
}

fn port(mapping: &PortMapping, mode: Option<NetworkMode>) -> Value {
    let mut members = Members(Map::new());
    match mapping.range_end {
        Some(last) => {
            let range = format!("{}-{last}", mapping.container_port);
            members.put("containerPortRange", range);
        }
        None => {
            members.put("containerPort", mapping.container_port);
            let host = match mode {
                Some(NetworkMode::Awsvpc | NetworkMode::Host) => mapping.container_port,
                _ => mapping.host_port.unwrap_or(0),
            };
            members.put("hostPort", host);
        }
    }
    members.put("protocol", mapping.protocol.to_string());
    members.option("name", mapping.name.as_deref());
    members.option("appProtocol", mapping.app_protocol.map(|protocol| protocol.as_str()));
    Value::Object(members.0)
}

fn linux(linux: &LinuxParameters) -> Value {
    let mut all = Members(Map::new());
    let mut capabilities = Members(Map::new());
    capabilities.list("add", linux.added_capabilities.clone());
    capabilities.list("drop", linux.dropped_capabilities.clone());
    if !capabilities.0.is_empty() {
        all.put("capabilities", capabilities.0);
    }
    let devices = linux.devices.iter().map(|device| {
        let mut members = Members(Map::new());
        members.put("hostPath", device.host_path.as_str());
        members.option("containerPath", device.container_path.as_deref());
        members.list("permissions", device.permissions.clone());
        Value::Object(members.0)
    });
    all.list("devices", devices.collect());
    all.option("initProcessEnabled", linux.init);
    all.option("sharedMemorySize", linux.shared_memory_mib);
    let tmpfs = linux.tmpfs.iter().map(|mount| {
        let mut members = Members(Map::new());
        members.put("containerPath", mount.container_path.as_str());
        members.put("size", mount.size_mib);
        members.list("mountOptions", mount.mount_options.clone());
        Value::Object(members.0)
    });
    all.list("tmpfs", tmpfs.collect());
    all.option("maxSwap", linux.max_swap_mib);
    all.option("swappiness", linux.swappiness);
    Value::Object(all.0)
}

fn volume(volume: &Volume) -> Value {
    let mut all = Members(Map::new());
    all.put("name", volume.name.as_str());
    match &volume.kind {
        VolumeKind::Host { source_path } => {
            let mut members = Members(Map::new());
            members.option("sourcePath", source_path.as_deref());
            all.put("host", members.0);
        }
        VolumeKind::Docker(docker) => {
            let mut members = Members(Map::new());
            members.put("scope", docker.scope.as_str());
            if docker.autoprovision {
                members.put("autoprovision", true);
            }
            members.option("driver", docker.driver.as_deref());
            if !docker.driver_options.is_empty() {
                members.put("driverOpts", json!(docker.driver_options));
            }
            if !docker.labels.is_empty() {
                members.put("labels", json!(docker.labels));
            }
            all.put("dockerVolumeConfiguration", members.0);
        }
    }
    Value::Object(all.0)
}
