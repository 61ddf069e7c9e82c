//! The nouns: what a cluster, a service, a target or a record is.
//!
//! Plain data, serializable for the journal. Not here: AWS's wire shapes (`api` owns them),
//! anything that decides, anything that waits. **Invariant:** no type of this folder knows a file,
//! a socket or a clock.

pub mod arn;
pub mod authentication;
pub mod autoscaling;
pub mod capacity_provider;
pub mod certificate;
pub mod container_definition;
pub mod discovery;
pub mod ec2;
pub mod host_port;
pub mod id;
pub mod instance;
pub mod launch;
pub mod load_balancer;
pub mod log_group;
pub mod metric;
pub mod name_check;
pub mod network;
pub mod observed;
pub mod policy;
pub mod record;
pub mod rule;
pub mod service;
pub mod strategy;
pub mod tags;
pub mod target_group;
pub mod task;
pub mod task_definition;
pub mod traffic;
pub mod trust_store;

pub use arn::{Account, Arn};
pub use authentication::*;
pub use autoscaling::*;
pub use capacity_provider::*;
pub use certificate::*;
pub use container_definition::*;
pub use discovery::*;
pub use ec2::*;
pub use host_port::*;
pub use id::*;
pub use instance::*;
pub use launch::*;
pub use load_balancer::*;
pub use log_group::*;
pub use metric::*;
pub use name_check::*;
pub use network::*;
pub use observed::*;
pub use policy::*;
pub use record::*;
pub use rule::*;
pub use service::*;
pub use strategy::*;
pub use tags::*;
pub use target_group::*;
pub use task::*;
pub use task_definition::*;
pub use traffic::*;
pub use trust_store::*;
