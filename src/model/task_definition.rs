//! Task definitions: what a task's containers are made of. Immutable once registered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Family, TaskDefinitionKey};

/// ECS's `stopTimeout` when a definition sets none.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// ECS: at most ten containers in one task definition.
pub const MAX_CONTAINERS: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDefinition {
    pub family: Family,
    /// 1, 2, 3 …; never used twice in a family.
    pub revision: u32,
    /// In the order written; at least one is essential.
    pub containers: Vec<ContainerDefinition>,
    /// Task-level limit in CPU units, 1024 to a core.
    pub cpu: Option<u32>,
    /// Task-level limit.
    pub memory_mib: Option<u32>,
}

impl TaskDefinition {
    #[must_use]
    pub fn key(&self) -> TaskDefinitionKey {
        TaskDefinitionKey { family: self.family.clone(), revision: self.revision }
    }

    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerDefinition> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The first port of the first container that maps one: what a task's `PORT` says, and what SRV
    /// records name when a service does not choose.
    #[must_use]
    pub fn first_port(&self) -> Option<u16> {
        self.containers.iter().flat_map(|c| &c.port_mappings).map(|port| port.container_port).next()
    }

    /// The longest stop timeout of its containers.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        self.containers.iter().map(|c| c.stop_timeout).max().unwrap_or(STOP_TIMEOUT)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDefinition {
    pub name: String,
    /// Docker image reference. The process runtime has no images and ignores it by definition.
    pub image: Option<String>,
    pub entry_point: Vec<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    pub user: Option<String>,
    /// When an essential container stops, the task stops.
    pub essential: bool,
    pub port_mappings: Vec<PortMapping>,
    /// From the stop signal to the kill.
    pub stop_timeout: Duration,
    /// CPU units: Docker's relative share.
    pub cpu: Option<u32>,
    /// Hard limit.
    pub memory_mib: Option<u32>,
    pub docker_labels: BTreeMap<String, String>,
}

impl ContainerDefinition {
    /// What the process runtime executes: entry point, then command.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.entry_point.iter().chain(&self.command).cloned().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub container_port: u16,
    pub protocol: Transport,
    pub name: Option<String>,
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
