//! The fronts: the outside world's words, turned into rows of the State and back.
//!
//! [`file`] is the configuration file, [`status`] what the command line shows; the rest is the AWS
//! APIs: `entry` takes a request, `services` finds its operation, `wire` reads and writes its form
//! by the public models, and a folder per service does what it asks, a file per resource;
//! [`definition`] is the room of task definitions, which the fronts share; [`keys`] and [`sigv4`]
//! say who calls, `access` what they may.
//! Not here: what the rows then cause (the planes and the orchestrator read the State).
//! **Invariant:** a front writes only through `Store::update`.

mod access;
mod acm;
mod answer;
mod audit;
mod autoscaling;
mod call;
mod cloudmap;
mod cloudwatch;
pub mod definition;
mod ec2;
mod ecs;
mod elb;
mod entry;
mod error;
pub mod events;
pub mod exec;
pub mod explain;
pub mod file;
mod iam;
pub mod keys;
mod logs;
pub mod metadata;
mod page;
mod route53;
mod scope;
pub mod secure;
mod services;
pub mod session;
pub mod sigv4;
pub mod status;
mod sts;
mod tags;
mod wire;

pub use access::{Users, resources};
pub use call::{Api, Meters, Views};
pub use entry::{Auth, serve};
pub use services::{Coverage, coverage};
