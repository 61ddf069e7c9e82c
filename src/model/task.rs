//! Tasks: one running copy of a task definition, and what is recorded of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ClusterName, DeploymentId, ServiceKey, TaskDefinitionKey, TaskId};
use crate::clock::Timestamp;

/// Written by the orchestrator alone. **Invariant:** `known` never moves backwards; `desired` goes
/// from running to stopped once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub cluster: ClusterName,
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
}

impl Task {
    /// Wanted running, and not yet gone.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.desired == Desired::Running && self.known < TaskStatus::Stopped
    }
}

/// Why a task was or is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub code: StopCode,
    /// ECS's `stoppedReason`.
    pub reason: String,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContainerStatus {
    None,
    Created,
    Running,
    Stopped,
}
