//! Tasks: one running copy of a task definition, and what is recorded of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    ClusterName, ContainerInstance, DeploymentId, HostPorts, InstanceName, NetworkMode, Run,
    ServiceKey, TaskDefinition, TaskDefinitionKey, TaskId, Transport,
};
use crate::clock::Timestamp;

/// Written by the orchestrator alone. **Invariant:** `known` never moves backwards; `desired` goes
/// from running to stopped once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub cluster: ClusterName,
    /// Where it runs, for good.
    #[serde(default)]
    pub instance: InstanceName,
    pub definition: TaskDefinitionKey,
    /// None for a standalone task.
    pub service: Option<ServiceKey>,
    pub deployment: Option<DeploymentId>,
    pub desired: Desired,
    pub known: TaskStatus,
    /// Where its ports are reached. The process runtime gets it with the record; Docker tells it
    /// after the start.
    pub address: Option<IpAddr>,
    /// In the order of the definition.
    pub containers: Vec<Container>,
    /// The task this one was started to replace, which stops when this one is healthy.
    pub replaces: Option<TaskId>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub stopping_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub stop: Option<Stop>,
    /// When it was first found healthy.
    #[serde(default)]
    pub healthy_at: Option<Timestamp>,
    /// Until when no scale-in and no deployment may stop it.
    #[serde(default)]
    pub protected_until: Option<Timestamp>,
    /// What a standalone task was asked for with; none for a service's.
    #[serde(default)]
    pub run: Option<Run>,
    /// Commands may be executed in its containers.
    #[serde(default)]
    pub exec: bool,
    /// It `replaces` a task that is well, for its availability zone.
    #[serde(default)]
    pub rebalances: bool,
    /// Ports of the host that were chosen for it.
    #[serde(default)]
    pub host_ports: Vec<HostPorts>,
    /// Until when those are given to no other, once it is STOPPED.
    #[serde(default)]
    pub rests_until: Option<Timestamp>,
}

impl Task {
    /// What shares it with others of a group: its service's, or as it was asked for.
    #[must_use]
    pub fn group(&self) -> Group<'_> {
        match (&self.service, &self.run) {
            (Some(service), _) => Group::Service(service.name.as_str()),
            (None, Some(run)) => Group::Named(&run.group),
            (None, None) => Group::Named(""),
        }
    }

    /// A task that is wanted and not begun: of no service, with no container's row yet.
    #[must_use]
    pub fn new(
        id: TaskId,
        cluster: ClusterName,
        definition: TaskDefinitionKey,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            cluster,
            instance: InstanceName::default(),
            definition,
            service: None,
            deployment: None,
            desired: Desired::Running,
            known: TaskStatus::Provisioning,
            address: None,
            containers: Vec::new(),
            replaces: None,
            created_at,
            started_at: None,
            stopping_at: None,
            stopped_at: None,
            stop: None,
            healthy_at: None,
            protected_until: None,
            run: None,
            exec: false,
            rebalances: false,
            host_ports: Vec::new(),
            rests_until: None,
        }
    }

    /// Wanted running, and not yet gone.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.desired == Desired::Running && self.known < TaskStatus::Stopped
    }

    #[must_use]
    pub fn is_protected(&self, now: Timestamp) -> bool {
        self.protected_until.is_some_and(|until| until > now)
    }

    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// ECS's `healthStatus`: that of its essential containers, the worst first. One without a check
    /// is unknown.
    #[must_use]
    pub fn health(&self, definition: &TaskDefinition) -> ContainerHealth {
        let essential = definition.containers.iter().filter(|container| container.essential);
        let health =
            essential.map(|c| self.container(&c.name).map(|row| row.health).unwrap_or_default());
        health.max().unwrap_or_default()
    }

    /// What its checks come to: the worst of its essential containers that have one. None: there
    /// is no check, and nothing to wait for.
    #[must_use]
    pub fn checked_health(&self, definition: &TaskDefinition) -> Option<ContainerHealth> {
        let checked = definition.containers.iter().filter(|c| c.essential);
        let checked = checked.filter(|container| container.health_check.is_some());
        checked.map(|c| self.container(&c.name).map(|row| row.health).unwrap_or_default()).max()
    }

    /// Where `port` of the task is reached: at the container that maps it, else at the task.
    #[must_use]
    pub fn address_of(&self, definition: &TaskDefinition, port: u16) -> Option<IpAddr> {
        let maps = |name: &str| {
            let container = definition.container(name);
            container.is_some_and(|c| c.port_mappings.iter().any(|p| p.ports().contains(&port)))
        };
        let own = self.containers.iter().find(|row| maps(&row.name)).and_then(|row| row.address);
        own.or(self.address)
    }

    /// Where `port` of the task is reached by whoever is not on `instance`'s networks: at the
    /// instance's address, where the file gives it one, at the port of the host that leads to it;
    /// else at the container's own. None: nobody knows where yet.
    #[must_use]
    pub fn reached(
        &self,
        definition: &TaskDefinition,
        instance: Option<&ContainerInstance>,
        port: u16,
    ) -> Option<(IpAddr, u16)> {
        let own = || Some((self.address_of(definition, port)?, port));
        let Some(address) = instance.and_then(|instance| instance.address) else { return own() };
        match definition.network_mode {
            Some(NetworkMode::Awsvpc | NetworkMode::None) => own(),
            Some(NetworkMode::Host) => Some((address, port)),
            None | Some(NetworkMode::Bridge) => {
                let mut bound = self.containers.iter().flat_map(|row| &row.bindings);
                let bound = bound.find(|bound| bound.container_port == port);
                Some((address, bound?.host_port))
            }
        }
    }
}

/// ECS's `group` of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group<'a> {
    Service(&'a str),
    Named(&'a str),
}

impl std::fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Why a task was or is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub code: StopCode,
    /// ECS's `stoppedReason`.
    pub reason: String,
    /// The container that is to blame, and what became of it.
    #[serde(default)]
    pub blamed: Option<(String, String)>,
}

impl Stop {
    /// One that no container is to blame for.
    #[must_use]
    pub const fn new(code: StopCode, reason: String) -> Self {
        Self { code, reason, blamed: None }
    }

    /// The reason with all that is known of it, for people.
    #[must_use]
    pub fn whole(&self) -> String {
        let Self { code, reason, blamed } = self;
        match blamed {
            None => reason.clone(),
            Some((container, what)) if *code == StopCode::EssentialContainerExited => {
                format!("{reason}: {container} ({what})")
            }
            Some((container, what)) => format!("{reason}: {container}: {what}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desired {
    Running,
    Stopped,
}

/// ECS's `lastStatus`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskStatus {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

impl TaskStatus {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Activating => "ACTIVATING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopping => "STOPPING",
            Self::Deprovisioning => "DEPROVISIONING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// ECS's `stopCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StopCode {
    TaskFailedToStart,
    EssentialContainerExited,
    UserInitiated,
    ServiceSchedulerInitiated,
}

impl StopCode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskFailedToStart => "TaskFailedToStart",
            Self::EssentialContainerExited => "EssentialContainerExited",
            Self::UserInitiated => "UserInitiated",
            Self::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
        }
    }
}

/// One container of a task, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// As in the definition.
    pub name: String,
    /// What the runtime calls it: a Docker container id, or `PID:START_TIME` of a process.
    pub runtime_id: Option<String>,
    pub status: ContainerStatus,
    pub exit_code: Option<i32>,
    /// ECS's `ErrorName: detail`, at most 1024 characters.
    pub reason: Option<String>,
    /// When it was first seen running.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// How often its restart policy started it again, and when it last did.
    #[serde(default)]
    pub restarts: u32,
    #[serde(default)]
    pub restarted_at: Option<Timestamp>,
    /// It ended, and is about to be started again.
    #[serde(default)]
    pub is_restarting: bool,
    #[serde(default)]
    pub health: ContainerHealth,
    /// Its own, where the runtime gives each container one.
    #[serde(default)]
    pub address: Option<IpAddr>,
    #[serde(default)]
    pub bindings: Vec<NetworkBinding>,
}

impl Container {
    /// One of which nothing is there yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            runtime_id: None,
            status: ContainerStatus::None,
            exit_code: None,
            reason: None,
            started_at: None,
            restarts: 0,
            restarted_at: None,
            is_restarting: false,
            health: ContainerHealth::Unknown,
            address: None,
            bindings: Vec::new(),
        }
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkBinding {
    pub bind_address: IpAddr,
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: Transport,
}

/// ECS's `healthStatus`; the greatest of several speaks for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContainerHealth {
    Healthy,
    /// No check, or none has ended yet.
    #[default]
    Unknown,
    Unhealthy,
}

impl ContainerHealth {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unknown => "UNKNOWN",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContainerStatus {
    None,
    Created,
    Running,
    Stopped,
}
