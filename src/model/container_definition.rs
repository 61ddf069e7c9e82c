//! Container definitions: one container of a task definition.
//!
//! Not here: AWS's wire shape and what is refused (`api::definition`). **Invariant:** an `Option`
//! that is none, and a list that is empty, was not given; what ECS puts in its place is a method.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::STOP_TIMEOUT;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDefinition {
    pub name: String,
    /// Docker image reference. The process runtime has no images and ignores it by definition.
    pub image: Option<String>,
    pub entry_point: Vec<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Paths of files of variables; a later one wins over an earlier, `environment` over all.
    #[serde(default)]
    pub environment_files: Vec<String>,
    /// Variables whose values come from the local secret store.
    #[serde(default)]
    pub secrets: Vec<ContainerSecret>,
    pub working_directory: Option<String>,
    pub user: Option<String>,
    /// When an essential container stops, the task stops.
    pub essential: bool,
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// How long it may take to reach what those that depend on it wait for.
    #[serde(default)]
    pub start_timeout: Option<Duration>,
    /// From the stop signal to the kill.
    #[serde(default)]
    pub stop_timeout: Option<Duration>,
    #[serde(default)]
    pub health_check: Option<ContainerCheck>,
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
    pub port_mappings: Vec<PortMapping>,
    /// CPU units: Docker's relative share.
    pub cpu: Option<u32>,
    /// Hard limit.
    pub memory_mib: Option<u32>,
    /// Soft limit, below the hard one.
    #[serde(default)]
    pub memory_reservation_mib: Option<u32>,
    pub docker_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub log: Option<LogConfiguration>,
    #[serde(default)]
    pub mount_points: Vec<MountPoint>,
    #[serde(default)]
    pub volumes_from: Vec<VolumesFrom>,
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    #[serde(default)]
    pub linux: Option<LinuxParameters>,
    /// Kernel parameters of its namespaces, by name.
    #[serde(default)]
    pub system_controls: BTreeMap<String, String>,
    #[serde(default)]
    pub hostname: Option<String>,
    /// `CONTAINER` or `CONTAINER:ALIAS`.
    #[serde(default)]
    pub links: Vec<String>,
    #[serde(default)]
    pub dns_servers: Vec<String>,
    #[serde(default)]
    pub dns_search_domains: Vec<String>,
    #[serde(default)]
    pub extra_hosts: Vec<ExtraHost>,
    #[serde(default)]
    pub security_options: Vec<String>,
    #[serde(default)]
    pub privileged: Option<bool>,
    #[serde(default)]
    pub readonly_root: Option<bool>,
    #[serde(default)]
    pub interactive: Option<bool>,
    #[serde(default)]
    pub pseudo_terminal: Option<bool>,
    /// As given: `enabled`, `disabled`.
    #[serde(default)]
    pub version_consistency: Option<String>,
}

impl ContainerDefinition {
    /// One that is given nothing but its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: None,
            entry_point: Vec::new(),
            command: Vec::new(),
            environment: BTreeMap::new(),
            environment_files: Vec::new(),
            secrets: Vec::new(),
            working_directory: None,
            user: None,
            essential: true,
            depends_on: Vec::new(),
            start_timeout: None,
            stop_timeout: None,
            health_check: None,
            restart_policy: None,
            port_mappings: Vec::new(),
            cpu: None,
            memory_mib: None,
            memory_reservation_mib: None,
            docker_labels: BTreeMap::new(),
            log: None,
            mount_points: Vec::new(),
            volumes_from: Vec::new(),
            ulimits: Vec::new(),
            linux: None,
            system_controls: BTreeMap::new(),
            hostname: None,
            links: Vec::new(),
            dns_servers: Vec::new(),
            dns_search_domains: Vec::new(),
            extra_hosts: Vec::new(),
            security_options: Vec::new(),
            privileged: None,
            readonly_root: None,
            interactive: None,
            pseudo_terminal: None,
            version_consistency: None,
        }
    }

    /// What the process runtime executes: entry point, then command.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.entry_point.iter().chain(&self.command).cloned().collect()
    }

    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(STOP_TIMEOUT)
    }

    /// The containers that have to be there before this one is made or started.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let links = self.links.iter().map(|link| link.split(':').next().unwrap_or(link));
        let volumes = self.volumes_from.iter().map(|from| from.source_container.as_str());
        self.depends_on.iter().map(|d| d.container.as_str()).chain(links).chain(volumes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub container_port: u16,
    pub protocol: Transport,
    pub name: Option<String>,
    /// The last port of a range that begins with `container_port`.
    #[serde(default)]
    pub range_end: Option<u16>,
    /// None and 0: the host chooses one.
    #[serde(default)]
    pub host_port: Option<u16>,
    #[serde(default)]
    pub app_protocol: Option<AppProtocol>,
}

impl PortMapping {
    /// One TCP port, and nothing else said.
    #[must_use]
    pub const fn tcp(container_port: u16) -> Self {
        Self {
            container_port,
            protocol: Transport::Tcp,
            name: None,
            range_end: None,
            host_port: None,
            app_protocol: None,
        }
    }

    /// Every container port it maps.
    #[must_use]
    pub fn ports(&self) -> std::ops::RangeInclusive<u16> {
        self.container_port..=self.range_end.unwrap_or(self.container_port)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What a port speaks, for Service Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    Http,
    Http2,
    Grpc,
}

impl AppProtocol {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub container: String,
    pub condition: DependencyCondition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DependencyCondition {
    /// It was started.
    Start,
    /// It ended, however.
    Complete,
    /// It ended with code 0.
    Success,
    /// Its health check passed.
    Healthy,
}

impl DependencyCondition {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Success => "SUCCESS",
            Self::Healthy => "HEALTHY",
        }
    }
}

/// A container's own check: a command that runs inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerCheck {
    /// `CMD` and arguments, or `CMD-SHELL` and one line for the shell.
    pub command: Vec<String>,
    /// From the end of one check to the next.
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures this soon after the start do not count. None: all do.
    pub start_period: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub enabled: bool,
    pub ignored_exit_codes: Vec<i32>,
    /// It has to have run for so long to be started again. None: ECS's default.
    pub attempt_period: Option<Duration>,
}

impl RestartPolicy {
    /// ECS's default.
    pub const ATTEMPT_PERIOD: Duration = Duration::from_secs(300);

    /// Whether a container that ran for so long and ended with `code` is started again. An unknown
    /// code never is.
    #[must_use]
    pub fn restarts(&self, code: Option<i32>, ran_for: Duration) -> bool {
        let counts = code.is_some_and(|code| !self.ignored_exit_codes.contains(&code));
        self.enabled && counts && ran_for >= self.attempt_period.unwrap_or(Self::ATTEMPT_PERIOD)
    }
}

/// A variable whose value is looked up when the container is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSecret {
    pub name: String,
    /// An ARN of Secrets Manager or of a parameter, or a parameter's name.
    pub value_from: String,
}

/// A value that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The value itself, for the container that is to get it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfiguration {
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    pub source_volume: String,
    pub container_path: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    pub source_container: String,
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// ECS's name: `nofile`, `core` …
    pub name: String,
    /// -1: no limit.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxParameters {
    pub added_capabilities: Vec<String>,
    pub dropped_capabilities: Vec<String>,
    pub devices: Vec<Device>,
    pub init: Option<bool>,
    pub shared_memory_mib: Option<u32>,
    pub tmpfs: Vec<Tmpfs>,
    /// Swap beyond the memory limit; 0: none.
    pub max_swap_mib: Option<u32>,
    pub swappiness: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host_path: String,
    /// None: the same path.
    pub container_path: Option<String>,
    /// `read`, `write`, `mknod`; none given: all.
    pub permissions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    pub container_path: String,
    pub size_mib: u32,
    pub mount_options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    pub hostname: String,
    pub address: IpAddr,
}
