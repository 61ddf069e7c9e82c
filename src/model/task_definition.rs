//! Task definitions: what a task is made of. Immutable once registered, but for its status.
//!
//! Its containers are in `container_definition`. Not here: AWS's wire shape and what is refused
//! (`api::definition`). **Invariant:** an `Option` that is none was not given; what ECS puts in its
//! place is a method.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ContainerDefinition, Family, Owner, TaskDefinitionKey};
use crate::clock::Timestamp;

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
    /// None: ECS's default, bridge; here it publishes only ports that name a host port.
    #[serde(default)]
    pub network_mode: Option<NetworkMode>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Expressions of ECS's cluster query language (`memberOf`).
    #[serde(default)]
    pub placement_constraints: Vec<String>,
    #[serde(default)]
    pub requires_compatibilities: Vec<Compatibility>,
    #[serde(default)]
    pub task_role_arn: Option<String>,
    #[serde(default)]
    pub execution_role_arn: Option<String>,
    #[serde(default)]
    pub pid_mode: Option<Sharing>,
    #[serde(default)]
    pub ipc_mode: Option<Sharing>,
    #[serde(default)]
    pub runtime_platform: Option<RuntimePlatform>,
    #[serde(default)]
    pub ephemeral_storage_gib: Option<u32>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub status: DefinitionStatus,
    /// None: by a version that did not note it.
    #[serde(default)]
    pub registered_at: Option<Timestamp>,
    #[serde(default)]
    pub registered_by: Option<String>,
    #[serde(default)]
    pub deregistered_at: Option<Timestamp>,
    #[serde(default = "file")]
    pub owner: Owner,
}

/// Before the API came, everything was the file's.
const fn file() -> Owner {
    Owner::File
}

impl TaskDefinition {
    /// One that is given nothing but its containers.
    #[must_use]
    pub fn new(family: Family, revision: u32, containers: Vec<ContainerDefinition>) -> Self {
        Self {
            family,
            revision,
            containers,
            cpu: None,
            memory_mib: None,
            network_mode: None,
            volumes: Vec::new(),
            placement_constraints: Vec::new(),
            requires_compatibilities: Vec::new(),
            task_role_arn: None,
            execution_role_arn: None,
            pid_mode: None,
            ipc_mode: None,
            runtime_platform: None,
            ephemeral_storage_gib: None,
            tags: BTreeMap::new(),
            status: DefinitionStatus::Active,
            registered_at: None,
            registered_by: None,
            deregistered_at: None,
            owner: Owner::File,
        }
    }

    #[must_use]
    pub fn key(&self) -> TaskDefinitionKey {
        TaskDefinitionKey { family: self.family.clone(), revision: self.revision }
    }

    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerDefinition> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The same content: whatever its number, and whoever registered it when.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        let bare = |definition: &Self| {
            let mut bare = Self {
                revision: 0,
                status: DefinitionStatus::Active,
                registered_at: None,
                registered_by: None,
                deregistered_at: None,
                owner: Owner::File,
                ..definition.clone()
            };
            for container in &mut bare.containers {
                // Older journals hold the default as if it had been given.
                container.stop_timeout = Some(container.stop_timeout());
            }
            bare
        };
        bare(self) == bare(other)
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
        let timeouts = self.containers.iter().map(ContainerDefinition::stop_timeout);
        timeouts.max().unwrap_or(STOP_TIMEOUT)
    }

    /// The containers in the order written, but each after those it needs. One in a circle of needs
    /// is left out; a definition with a circle is never registered.
    #[must_use]
    pub fn start_order(&self) -> Vec<&ContainerDefinition> {
        let mut order: Vec<&ContainerDefinition> = Vec::with_capacity(self.containers.len());
        let mut done = BTreeSet::new();
        loop {
            let ready = |container: &&ContainerDefinition| {
                !done.contains(container.name.as_str())
                    && container.needs().all(|name| done.contains(name))
            };
            let Some(next) = self.containers.iter().find(ready) else { return order };
            done.insert(next.name.as_str());
            order.push(next);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    Bridge,
    Host,
    Awsvpc,
    None,
}

impl NetworkMode {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Awsvpc => "awsvpc",
            Self::None => "none",
        }
    }
}

/// Whose process or IPC namespace containers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    Host,
    Task,
    /// IPC only: nobody's, not even its own containers'.
    None,
}

impl Sharing {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Task => "task",
            Self::None => "none",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    Ec2,
    Fargate,
    External,
    ManagedInstances,
}

impl Compatibility {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Fargate => "FARGATE",
            Self::External => "EXTERNAL",
            Self::ManagedInstances => "MANAGED_INSTANCES",
        }
    }
}

/// ACTIVE → INACTIVE → DELETE_IN_PROGRESS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DefinitionStatus {
    #[default]
    Active,
    /// Deregistered: what runs goes on, and nothing new may name it.
    Inactive,
    DeleteInProgress,
}

impl DefinitionStatus {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::DeleteInProgress => "DELETE_IN_PROGRESS",
        }
    }
}

/// As given; ECS's values are upper case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimePlatform {
    pub cpu_architecture: Option<String>,
    pub operating_system_family: Option<String>,
}

/// A volume that containers of the task mount by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub kind: VolumeKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeKind {
    /// A folder of the host; none: an empty one that is gone with the task.
    Host {
        source_path: Option<String>,
    },
    Docker(DockerVolume),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerVolume {
    pub scope: VolumeScope,
    /// Shared only: made when it is not there.
    pub autoprovision: bool,
    /// None: `local`.
    pub driver: Option<String>,
    pub driver_options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeScope {
    /// Gone with its task.
    Task,
    /// One by its name for all tasks, and kept.
    Shared,
}

impl VolumeScope {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Shared => "shared",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dependency, DependencyCondition};
    use super::*;

    /// `NAME[<NEEDED,…] …`.
    fn check(containers: &str, expected: &str) {
        let containers = containers.split_whitespace().map(|word| {
            let (name, needs) = word.split_once('<').unwrap_or((word, ""));
            let needs = needs.split(',').filter(|name| !name.is_empty());
            let depends_on = needs.map(|name| Dependency {
                container: name.to_owned(),
                condition: DependencyCondition::Start,
            });
            let depends_on = depends_on.collect();
            ContainerDefinition { depends_on, ..ContainerDefinition::new(name) }
        });
        let definition = TaskDefinition::new("d".into(), 1, containers.collect());
        let order: Vec<_> = definition.start_order().iter().map(|c| c.name.as_str()).collect();
        assert_eq!(order.join(" "), expected);
    }

    #[test]
    fn containers_start_after_those_they_need() {
        check("a b c", "a b c");
        check("a<c b c", "b c a");
        check("a<b b<c c", "c b a");
        check("a<b,c b c<b", "b c a");
        check("a<b b<a c", "c");
    }

    #[test]
    fn definition_of_an_older_journal_reads() {
        let old = r#"{"family":"web","revision":2,"cpu":null,"memory_mib":null,"containers":[
            {"name":"app","image":null,"entry_point":[],"command":["run"],"environment":{},
             "working_directory":null,"user":null,"essential":true,"port_mappings":[
                {"container_port":80,"protocol":"tcp","name":null}],
             "stop_timeout":{"secs":30,"nanos":0},"cpu":null,"memory_mib":null,
             "docker_labels":{}}]}"#;
        let old: TaskDefinition = serde_json::from_str(old).unwrap();
        assert_eq!(old.status, DefinitionStatus::Active);
        let app = ContainerDefinition {
            command: vec!["run".to_owned()],
            port_mappings: vec![super::super::PortMapping::tcp(80)],
            ..ContainerDefinition::new("app")
        };
        let new = TaskDefinition::new("web".into(), 9, vec![app]);
        assert!(old.is_same_content(&new));
        assert!(!old.is_same_content(&TaskDefinition { cpu: Some(1), ..new }));
    }
}
