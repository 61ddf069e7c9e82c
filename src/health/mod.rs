//! Health: probes every registered target, and records what its answers have come to.
//!
//! Reads the State, writes verdicts and nothing else. Not here: what an unhealthy target loses
//! (`routing` and the orchestrator read the verdict). **Invariant:** a registration that is gone
//! or draining is not probed, and has no verdict.

mod checker;
mod log;
mod probe;
mod verdict;

pub use checker::Checker;
pub use log::HealthLog;
pub use probe::{Probe, probe};
pub use verdict::{Change, Machine, Occasion, Outcome};
