//! Health: probes every registered target and every endpoint that a name's health check looks at,
//! and records what their answers have come to.
//!
//! Reads the State, writes verdicts and statuses and nothing else. Not here: what an unhealthy
//! target or name loses (`routing`, `zone` and the orchestrator read that). **Invariant:** a
//! registration that is gone or draining is not probed, and has no verdict.

mod checker;
mod log;
mod name_probe;
mod names;
mod probe;
mod rounds;
mod verdict;

pub use checker::Checker;
pub use log::HealthLog;
pub use names::NameChecker;
pub use probe::{Probe, probe};
pub use verdict::{Change, Machine, Occasion, Outcome};
