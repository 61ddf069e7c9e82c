//! The fronts: the outside world's words, turned into rows of the State and back.
//!
//! One folder per front; [`file`] is the configuration file, [`status`] what the command line
//! shows. Not here: what the rows then cause (the planes and the orchestrator read the State).
//! **Invariant:** a front writes only through `Store::update`.

pub mod file;
pub mod status;
