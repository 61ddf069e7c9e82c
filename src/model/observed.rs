//! What a runtime just said of a container. Memory only, never in the journal.

use std::net::IpAddr;

use super::TaskId;

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
