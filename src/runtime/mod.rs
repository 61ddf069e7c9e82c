//! Runtimes: what starts, stops and shows containers. Docker Engine, child processes, or a
//! simulation.
//!
//! The one trait of the house. Not here: which container should run (`orchestrator` decides), what
//! is recorded (`state`). **Invariant:** every call is idempotent: made again after a crash or a
//! lost answer, it finds the container by its deterministic name and finishes the job. A runtime
//! touches only containers that it labelled.

pub mod docker;
pub mod exec;
mod fleet;
pub mod process;
pub mod sim;
mod stats;
pub mod streams;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

pub use self::exec::{Exec, Input, Output, Session, Size};
pub use self::fleet::Fleet;
use crate::model::{
    Capacity, ContainerDefinition, HostPorts, LogGroupName, NetworkMode, Observed, SecretText,
    Sharing, TaskDefinition, TaskId, Usage, Volume,
};

/// Events a slow reader may be behind before it has to look for itself.
pub const EVENTS: usize = 1024;

/// Between two checks of a container that has not passed one yet, while its start period lasts
/// (ours: ECS has no such member, and its failures are free then).
pub const START_INTERVAL: Duration = Duration::from_secs(1);

/// What a runtime needs to make one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    pub task: TaskId,
    pub cluster: String,
    pub family: String,
    pub revision: u32,
    pub definition: ContainerDefinition,
    pub network_mode: Option<NetworkMode>,
    pub pid_mode: Option<Sharing>,
    pub ipc_mode: Option<Sharing>,
    /// The task's, of which the container mounts some.
    pub volumes: Vec<Volume>,
    /// The task's address where the runtime takes it from us (process); none where it gives one
    /// (Docker).
    pub address: Option<IpAddr>,
    /// The definition's environment and ours (`ADDRESS`, `PORT`, `TASK_ID`); ours wins.
    pub environment: BTreeMap<String, String>,
    /// The host's ports that were chosen for it (Docker).
    pub host_ports: Vec<HostPorts>,
    /// Whom it asks for names, where its definition does not say (Docker). None: whom its machine
    /// asks.
    pub name_server: Option<IpAddr>,
    /// Further variables, which nothing may print.
    pub secrets: BTreeMap<String, SecretText>,
}

impl ContainerSpec {
    /// The container called `container` of `definition`, as a part of `task`. None: there is no
    /// such container.
    #[must_use]
    pub fn new(
        task: &TaskId,
        cluster: &str,
        definition: &TaskDefinition,
        container: &str,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let container = definition.container(container)?;
        let mut environment = container.environment.clone();
        // Inside a Docker container the only right address to bind is any.
        let bind = address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        environment.insert("ADDRESS".to_owned(), bind);
        environment.insert("TASK_ID".to_owned(), task.to_string());
        let own = container.port_mappings.first().map(|mapping| mapping.container_port);
        if let Some(port) = own.or_else(|| definition.first_port()) {
            environment.insert("PORT".to_owned(), port.to_string());
        }
        let mut container = container.clone();
        container.cpu = container.cpu.or(definition.cpu);
        container.memory_mib = container.memory_mib.or(definition.memory_mib);
        Some(Self {
            task: task.clone(),
            cluster: cluster.to_owned(),
            family: definition.family.to_string(),
            revision: definition.revision,
            definition: container,
            network_mode: definition.network_mode,
            pid_mode: definition.pid_mode,
            ipc_mode: definition.ipc_mode,
            volumes: definition.volumes.clone(),
            address,
            environment,
            host_ports: Vec::new(),
            name_server: None,
            secrets: BTreeMap::new(),
        })
    }

    /// What it logs is kept in the region of its task; empty: at home.
    #[must_use]
    pub(crate) fn within(mut self, region: &str) -> Self {
        let options = self.definition.log.as_mut().map(|log| &mut log.options);
        if let Some(group) = options.and_then(|options| options.get_mut("awslogs-group")) {
            *group = format!("{:#}", LogGroupName::within(region, group));
        }
        self
    }

    /// Every variable, secrets included.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        plain.chain(self.secrets.iter().map(|(name, value)| (name.as_str(), value.reveal())))
    }
}

/// Something happened to a container of ours. A nudge to look, never a fact; only a death is acted
/// on at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    Changed {
        task: TaskId,
        container: String,
    },
    Died {
        task: TaskId,
        container: String,
    },
    /// Events may have been lost: look at everything.
    Gap,
}

/// Errors in ECS's names; `Display` is what a container's `reason` says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Something that the container needs before it can be made: a secret, a file of variables.
    #[error("ResourceInitializationError: {0}")]
    CannotInitialize(String),
    #[error("CannotPullContainerError: {0}")]
    CannotPull(String),
    #[error("CannotCreateContainerError: {0}")]
    CannotCreate(String),
    #[error("CannotStartContainerError: {0}")]
    CannotStart(String),
    #[error("CannotStopContainerError: {0}")]
    CannotStop(String),
    #[error("ContainerVanishedError: {0}")]
    Vanished(String),
    #[error("cannot execute the command: {0}")]
    CannotExecute(String),
    #[error("DockerTimeoutError: {0}")]
    Timeout(String),
    /// A port of the host that was chosen for it is somebody else's.
    #[error("CannotStartContainerError: {0}")]
    PortTaken(String),
    /// The runtime itself does not answer: nothing is known, nothing may be concluded.
    #[error("runtime unavailable: {0}")]
    Unavailable(String),
}

impl RuntimeError {
    /// Whether trying the same call again later may work, without counting as the task's failure.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout(_))
    }
}

/// How a container reaches the machine that we run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It has the machine's own network.
    Loopback,
    At(IpAddr),
    Nowhere,
}

#[async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// Makes the container without starting it; one that is there already is returned as it is.
    async fn create(&self, spec: &ContainerSpec) -> Result<Observed, RuntimeError>;

    /// Starts a created container; one that runs already is returned as it is. One that exited
    /// stays so.
    async fn start(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError>;

    /// Starts a container that exited once more, in its place; one that runs already is returned as
    /// it is.
    async fn restart(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError>;

    /// Asks the container to stop, kills it after `grace`, and returns once it is gone. One that is
    /// not running, or not there, is stopped already.
    async fn stop(
        &self,
        task: &TaskId,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError>;

    /// Deletes a container that does not run, with all that belongs to it but its log.
    async fn remove(&self, task: &TaskId, container: &str) -> Result<(), RuntimeError>;

    /// Before the last container of a task is removed: keeps the address that the task has as a
    /// whole from every other container, for so long. Only Docker gives addresses out by itself,
    /// so elsewhere there is nothing to keep.
    async fn keep_address(&self, _task: &TaskId, _rest: Duration) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// What the machine has that the containers run on.
    async fn capacity(&self) -> Result<Capacity, RuntimeError>;

    /// Every container of ours, in no order.
    async fn list(&self) -> Result<Vec<Observed>, RuntimeError>;

    async fn usage(&self, task: &TaskId, container: &str) -> Result<Usage, RuntimeError>;

    /// What the container uses, in the shape of Docker's statistics; null: it does not run. Takes a
    /// second or two, for rates follow from two readings.
    async fn stats(
        &self,
        task: &TaskId,
        container: &str,
    ) -> Result<serde_json::Value, RuntimeError>;

    /// How containers of a network mode reach us.
    async fn reach(&self, mode: Option<NetworkMode>) -> Result<Reach, RuntimeError>;

    /// Runs a further command beside the container's own, with its environment, folder, user and
    /// isolation. It ends with the container; when the session is dropped, a child process ends at
    /// once, and on Docker what it reads and writes.
    async fn exec(
        &self,
        task: &TaskId,
        container: &str,
        asked: &Exec,
    ) -> Result<Session, RuntimeError>;

    /// Subscribes to events from now on. Subscribe before listing, so that nothing falls between.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;
}
