//! What a runtime just said of a container. Memory only, never in the journal.

use std::net::IpAddr;

use super::{ContainerHealth, NetworkBinding, TaskId};

/// One container as its runtime shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub task: TaskId,
    /// The container's name in its task definition.
    pub container: String,
    pub runtime_id: String,
    pub state: ObservedState,
    /// Where its ports are reached, once known.
    pub address: Option<IpAddr>,
    /// What its own check says, where the definition has one.
    pub health: ContainerHealth,
    /// Ports of the host that lead to it, while it runs.
    pub bindings: Vec<NetworkBinding>,
}

impl Observed {
    /// One without a check and without ports of the host.
    #[must_use]
    pub fn new(
        task: TaskId,
        container: String,
        runtime_id: String,
        state: ObservedState,
        address: Option<IpAddr>,
    ) -> Self {
        let (health, bindings) = (ContainerHealth::Unknown, Vec::new());
        Self { task, container, runtime_id, state, address, health, bindings }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedState {
    /// Made, never started.
    Created,
    Running,
    Exited {
        /// Exit status, or 128 + signal. None when a process ended while nobody who could ask was
        /// there.
        code: Option<i32>,
        /// Killed for using more memory than its limit.
        out_of_memory: bool,
    },
}

/// CPU time and memory of a container now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_micros: u64,
    pub memory_bytes: u64,
}
