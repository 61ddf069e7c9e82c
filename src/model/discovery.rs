//! Namespaces, discovery services and their instances: what Cloud Map keeps and DNS answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    DiscoveryKey, InstanceKey, NamespaceName, OperationId, Owner, Registration, TaskId, fnv1a,
};
use crate::clock::Timestamp;

/// TTL of a service's records, and the SOA minimum (the negative TTL, RFC 2308 section 5) of its
/// zone.
pub const RECORD_TTL: Duration = Duration::from_secs(5);
/// Operations that can still be asked about (ours; Cloud Map keeps them for days).
pub const OPERATIONS_KEPT: usize = 1000;

/// How the services of a namespace are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceKind {
    /// By DNS and by API calls.
    #[default]
    PrivateDns,
    /// By API calls alone.
    Http,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: NamespaceName,
    /// SOA minimum.
    pub negative_ttl: Duration,
    pub owner: Owner,
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: NamespaceKind,
    /// None: derived from its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Option<String>,
    /// Makes a repeated creation the same one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub creator_request_id: Option<String>,
    /// The VPC it was created for; every client of this DNS is in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vpc: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub created_at: Option<Timestamp>,
}

impl Namespace {
    #[must_use]
    pub fn new(name: NamespaceName, negative_ttl: Duration, owner: Owner) -> Self {
        Self {
            name,
            negative_ttl,
            owner,
            kind: NamespaceKind::PrivateDns,
            id: None,
            description: None,
            creator_request_id: None,
            vpc: None,
            created_at: None,
        }
    }

    /// `ns-` and 16 characters.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| derived("ns", &format!("{:#}", self.name)))
    }

    /// Of the zone that answers it: `Z` and 16 characters. An HTTP namespace has none.
    #[must_use]
    pub fn hosted_zone(&self) -> Option<String> {
        let id = self.id();
        let (_, rest) = id.split_once('-')?;
        (self.kind == NamespaceKind::PrivateDns).then(|| format!("Z{}", rest.to_ascii_uppercase()))
    }
}

/// Which of a service's instances a query gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryRouting {
    /// Up to eight healthy ones.
    #[default]
    Multivalue,
    /// One healthy one.
    Weighted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DiscoveryRecordType {
    A,
    Aaaa,
    Srv,
    Cname,
}

/// A type of records that a service's instances make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRecord {
    pub kind: DiscoveryRecordType,
    pub ttl: Duration,
}

/// A name in a namespace, answered with its healthy instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryService {
    pub key: DiscoveryKey,
    /// The longest TTL of its records.
    pub ttl: Duration,
    pub owner: Owner,
    /// None: A, AAAA and SRV, as instances have them, all of [`ttl`](Self::ttl). Empty: found by
    /// API calls alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub records: Option<Vec<DiscoveryRecord>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub routing: DiscoveryRouting,
    /// Instances are healthy as they are told to be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub custom_health: bool,
    /// None: derived from its key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub creator_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub created_at: Option<Timestamp>,
}

impl DiscoveryService {
    #[must_use]
    pub fn new(key: DiscoveryKey, ttl: Duration, owner: Owner) -> Self {
        Self {
            key,
            ttl,
            owner,
            records: None,
            routing: DiscoveryRouting::Multivalue,
            custom_health: false,
            id: None,
            description: None,
            creator_request_id: None,
            attributes: BTreeMap::new(),
            created_at: None,
        }
    }

    /// `srv-` and 16 characters.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| derived("srv", &format!("{:#}", self.key)))
    }

    /// TTL of its records of this type; none when it has no such records.
    #[must_use]
    pub fn ttl_of(&self, kind: DiscoveryRecordType) -> Option<Duration> {
        match &self.records {
            None => (kind != DiscoveryRecordType::Cname).then_some(self.ttl),
            Some(records) => {
                records.iter().find(|record| record.kind == kind).map(|record| record.ttl)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryInstance {
    pub key: InstanceKey,
    /// Its IPv4 address when it has one of each kind.
    pub address: Option<IpAddr>,
    /// The port of its SRV record.
    pub port: Option<u16>,
    /// Whose health decides about it.
    pub task: Option<TaskId>,
    /// Draining: withdrawn from every answer, kept until caches have forgotten it.
    pub registration: Registration,
    /// Its IPv6 address beside an IPv4 one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub address6: Option<Ipv6Addr>,
    /// The name that its CNAME record points to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cname: Option<String>,
    /// What it was told to be, for a service with custom health; none: healthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub healthy: Option<bool>,
    /// What it was registered with beside address and port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub creator_request_id: Option<String>,
}

impl DiscoveryInstance {
    /// An active one without address, port or task.
    #[must_use]
    pub fn new(key: InstanceKey) -> Self {
        Self {
            key,
            address: None,
            port: None,
            task: None,
            registration: Registration::Active,
            address6: None,
            cname: None,
            healthy: None,
            attributes: BTreeMap::new(),
            creator_request_id: None,
        }
    }

    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        }
    }

    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        match self.address {
            Some(IpAddr::V6(address)) => Some(address),
            _ => self.address6,
        }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.registration == Registration::Active
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    CreateNamespace,
    DeleteNamespace,
    UpdateNamespace,
    UpdateService,
    RegisterInstance,
    DeregisterInstance,
}

/// A change that was asked for through Cloud Map's API and was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryOperation {
    /// Ascends with time.
    pub id: OperationId,
    pub kind: OperationKind,
    pub at: Timestamp,
    /// Ids of what it changed.
    pub namespace: Option<String>,
    pub service: Option<String>,
    pub instance: Option<String>,
    /// Empty: the home region.
    #[serde(default, skip_serializing_if = "is_default")]
    pub region: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An id that a resource without one always has: it follows from its name.
fn derived(prefix: &str, name: &str) -> String {
    format!("{prefix}-{:016x}", fnv1a(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_before_there_was_an_api_load() {
        let text = r#"{"key":{"service":{"namespace":"demo.internal","name":"web"},"id":"0a"},
            "address":"10.0.0.1","port":80,"task":null,"registration":"Active"}"#;
        let instance: DiscoveryInstance = serde_json::from_str(text).unwrap();
        assert_eq!(instance.ipv4(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        let text = r#"{"name":"demo.internal","negative_ttl":{"secs":5,"nanos":0},"owner":"File"}"#;
        let namespace: Namespace = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&namespace).unwrap(), text);
        assert_eq!(namespace.id(), "ns-849a1e229f100409");
        assert_eq!(namespace.hosted_zone().as_deref(), Some("Z849A1E229F100409"));
    }
}
