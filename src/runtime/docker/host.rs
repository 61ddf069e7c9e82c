//! A container's place on the host, in Docker's words: limits, mounts, devices, names. Pure.
//!
//! **Invariant:** nothing here is Docker's default where ECS's differs, and a container is never
//! restarted by the daemon.

use std::collections::HashMap;

use bollard::models::{
    DeviceMapping, HostConfig, HostConfigLogConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::{logs, network, pause, shape, volumes};
use crate::model::{
    ContainerDefinition, Device, LinuxParameters, LogConfiguration, NetworkMode, Sharing, Tmpfs,
};
use crate::runtime::ContainerSpec;

/// The same bound as for the logs of processes: 16 MiB, 4 files.
const LOG_SIZE: &str = "16m";
const LOG_FILES: &str = "4";
const DEFAULT_DRIVER: &str = "json-file";
/// Those that write files here, and know `max-size` and `max-file`.
const BOUNDED_DRIVERS: [&str; 2] = [DEFAULT_DRIVER, "local"];
/// ECS: Linux takes no less than 2, and null, 0 and 1 all mean 2.
const LEAST_CPU_SHARES: u32 = 2;

pub(super) fn config(spec: &ContainerSpec, uid: &str, docker_network: Option<&str>) -> HostConfig {
    let definition = &spec.definition;
    let bytes = |mib: u32| i64::from(mib) << 20;
    let name = |container: &str| shape::name(uid, &spec.task, container);
    let hosts = definition.extra_hosts.iter();
    let controls: HashMap<_, _> = definition.system_controls.clone().into_iter().collect();
    let host = HostConfig {
        cpu_shares: Some(definition.cpu.unwrap_or(0).max(LEAST_CPU_SHARES).into()),
        memory: definition.memory_mib.map(bytes),
        memory_reservation: definition.memory_reservation_mib.map(bytes),
        network_mode: network::mode(spec, uid, docker_network),
        port_bindings: network::bindings(spec),
        pid_mode: spec.pid_mode.map(|mode| shared(mode, spec, uid)),
        ipc_mode: spec.ipc_mode.map(|mode| shared(mode, spec, uid)),
        log_config: Some(log(definition.log.as_ref())),
        binds: some(volumes::binds(spec, uid)),
        volumes_from: some(definition.volumes_from.iter().map(|from| {
            let access = if from.read_only == Some(true) { "ro" } else { "rw" };
            format!("{}:{access}", name(&from.source_container))
        })),
        links: some(definition.links.iter().map(|link| {
            let (container, alias) = link.split_once(':').unwrap_or((link, link));
            format!("{}:{alias}", name(container))
        })),
        ulimits: some(definition.ulimits.iter().map(|limit| ResourcesUlimits {
            name: Some(limit.name.clone()),
            soft: Some(limit.soft),
            hard: Some(limit.hard),
        })),
        sysctls: (!controls.is_empty()).then_some(controls),
        dns: name_servers(spec),
        dns_search: some(definition.dns_search_domains.clone()),
        extra_hosts: some(hosts.map(|host| format!("{}:{}", host.hostname, host.address))),
        security_opt: some(definition.security_options.clone()),
        privileged: definition.privileged,
        readonly_rootfs: definition.readonly_root,
        ..never_restarted()
    };
    match &definition.linux {
        Some(parameters) => linux(definition, parameters, host),
        None => host,
    }
}

/// Whom the container asks for names. None: whom the machine asks, or, in another's network, whom
/// that asks: Docker takes no servers there.
fn name_servers(spec: &ContainerSpec) -> Option<Vec<String>> {
    if spec.network_mode == Some(NetworkMode::Awsvpc) {
        return None;
    }
    let given = spec.definition.dns_servers.clone();
    some(given).or_else(|| pause_name_servers(spec))
}

/// The same of what holds the address of a task.
pub(super) fn pause_name_servers(spec: &ContainerSpec) -> Option<Vec<String>> {
    some(spec.name_server.map(|server| server.to_string()))
}

/// Docker's word for whose namespace it is.
fn shared(mode: Sharing, spec: &ContainerSpec, uid: &str) -> String {
    match mode {
        Sharing::Task => pause::mode(uid, &spec.task),
        Sharing::Host | Sharing::None => mode.as_str().to_owned(),
    }
}

/// A restarted daemon must not start what nobody wants any more.
pub(super) fn never_restarted() -> HostConfig {
    let name = Some(RestartPolicyNameEnum::NO);
    let restart_policy = Some(RestartPolicy { name, maximum_retry_count: None });
    HostConfig { restart_policy, ..HostConfig::default() }
}

/// Docker takes an empty list for "none at all" here and there.
fn some<T>(list: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let list: Vec<T> = list.into_iter().collect();
    (!list.is_empty()).then_some(list)
}

/// As asked, but what Docker keeps on this machine has a bound.
fn log(asked: Option<&LogConfiguration>) -> HostConfigLogConfig {
    // Kept here by Docker, and copied into a stream.
    let asked = asked.filter(|log| log.driver != logs::DRIVER);
    let driver = asked.map_or(DEFAULT_DRIVER, |log| log.driver.as_str());
    let mut options = asked.map(|log| log.options.clone()).unwrap_or_default();
    if BOUNDED_DRIVERS.contains(&driver) {
        options.entry("max-size".to_owned()).or_insert_with(|| LOG_SIZE.to_owned());
        options.entry("max-file".to_owned()).or_insert_with(|| LOG_FILES.to_owned());
    }
    let config = Some(options.into_iter().collect());
    HostConfigLogConfig { typ: Some(driver.to_owned()), config }
}

fn linux(
    definition: &ContainerDefinition,
    parameters: &LinuxParameters,
    host: HostConfig,
) -> HostConfig {
    // ECS: swap is what lies beyond the memory limit; 0 is none, and without it swappiness means
    // nothing.
    let swap = parameters.max_swap_mib.zip(definition.memory_mib);
    HostConfig {
        cap_add: some(parameters.added_capabilities.clone()),
        cap_drop: some(parameters.dropped_capabilities.clone()),
        devices: some(parameters.devices.iter().map(device)),
        init: parameters.init,
        shm_size: parameters.shared_memory_mib.map(|mib| i64::from(mib) << 20),
        tmpfs: some(parameters.tmpfs.iter().map(tmpfs)).map(|all| all.into_iter().collect()),
        memory_swap: swap.map(|(swap, memory)| (i64::from(swap) + i64::from(memory)) << 20),
        memory_swappiness: swap.and(parameters.swappiness).map(i64::from),
        ..host
    }
}

fn device(device: &Device) -> DeviceMapping {
    let inside = device.container_path.as_ref().unwrap_or(&device.host_path);
    let letter = |name: &String| match name.as_str() {
        "read" => 'r',
        "write" => 'w',
        _ => 'm',
    };
    let permissions: String = match device.permissions.as_slice() {
        [] => "rwm".to_owned(),
        given => given.iter().map(letter).collect(),
    };
    DeviceMapping {
        path_on_host: Some(device.host_path.clone()),
        path_in_container: Some(inside.clone()),
        cgroup_permissions: Some(permissions),
    }
}

fn tmpfs(mount: &Tmpfs) -> (String, String) {
    let size = format!("size={}m", mount.size_mib);
    let options: Vec<String> = [size].into_iter().chain(mount.mount_options.clone()).collect();
    (mount.container_path.clone(), options.join(","))
}
