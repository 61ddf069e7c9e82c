//! Namespaces, discovery services and their instances: what Cloud Map keeps and DNS answers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DiscoveryKey, InstanceKey, NamespaceName, Owner, Registration, TaskId};

/// TTL of a service's records, and the SOA minimum (the negative TTL, RFC 2308 section 5) of its
/// zone.
pub const RECORD_TTL: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: NamespaceName,
    /// SOA minimum.
    pub negative_ttl: Duration,
    pub owner: Owner,
}

/// A name in a namespace, answered with the addresses of its healthy instances (A, AAAA, SRV;
/// MULTIVALUE).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryService {
    pub key: DiscoveryKey,
    pub ttl: Duration,
    pub owner: Owner,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryInstance {
    pub key: InstanceKey,
    pub address: IpAddr,
    /// The port of its SRV record.
    pub port: Option<u16>,
    /// Whose health decides about it.
    pub task: Option<TaskId>,
    /// Draining: withdrawn from every answer, kept until caches have forgotten it.
    pub registration: Registration,
}
