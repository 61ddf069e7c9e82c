//! One discovery service, compiled: its instances, and which of them answer.
//!
//! **Invariant:** a pool holds healthy instances, or unhealthy ones when none is healthy; an
//! initial or a draining one is in no pool.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::compile::seconds;
use super::name::suffixes;
use super::{CachedUntil, DnsName, RecordType};
use crate::model::{DiscoveryInstance, DiscoveryService, InstanceId, Registration, VerdictState};

#[derive(Debug)]
pub(super) struct Service {
    row: Arc<DiscoveryService>,
    /// None when the State's names do not make a DNS name: it is then in no zone.
    pub(super) name: Option<DnsName>,
    pub(super) ttl: u32,
    /// In the order of their ids.
    instances: Vec<Instance>,
    a: Box<[u32]>,
    aaaa: Box<[u32]>,
    srv: Box<[u32]>,
    /// The instances' own names.
    hosts: HashMap<DnsName, u32>,
    /// Names between an instance and the service, for an id with dots.
    empty: HashSet<DnsName>,
}

#[derive(Debug)]
pub(super) struct Instance {
    row: Arc<DiscoveryInstance>,
    health: VerdictState,
    /// None when its id does not make a DNS name: it then has no SRV record.
    pub(super) name: Option<DnsName>,
    pub(super) cached: Arc<CachedUntil>,
}

impl Instance {
    pub(super) fn address(&self) -> IpAddr {
        self.row.address
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.row.port
    }

    /// Whether its own name is answered: from its first verdict to its withdrawal.
    pub(super) fn is_answered(&self) -> bool {
        self.row.registration == Registration::Active && self.health != VerdictState::Initial
    }
}

/// An instance and what is known of its task's health.
pub(super) type Member<'a> = (&'a Arc<DiscoveryInstance>, VerdictState);

impl Service {
    /// Whether compiling these would give this very service.
    pub(super) fn is_of(&self, row: &Arc<DiscoveryService>, members: &[Member<'_>]) -> bool {
        Arc::ptr_eq(&self.row, row)
            && self.instances.len() == members.len()
            && self.instances.iter().zip(members).all(|(instance, (row, health))| {
                Arc::ptr_eq(&instance.row, row) && instance.health == *health
            })
    }

    pub(super) fn compile(
        row: &Arc<DiscoveryService>,
        members: &[Member<'_>],
        old: Option<&Self>,
        threads: usize,
    ) -> Self {
        let name = DnsName::parse(row.key.namespace.as_str())
            .and_then(|apex| apex.child(row.key.name.as_str()));
        let instance = |(row, health): &Member<'_>| {
            let old = old.and_then(|old| old.instance(&row.key.id));
            let cached = old
                .map_or_else(|| Arc::new(CachedUntil::new(threads)), |old| Arc::clone(&old.cached));
            let own = old.and_then(|old| old.name.clone());
            let name = own.or_else(|| name.as_ref()?.child(row.key.id.as_str()));
            Instance { row: Arc::clone(row), health: *health, name, cached }
        };
        let instances: Vec<Instance> = members.iter().map(instance).collect();
        let mut hosts = HashMap::with_capacity(instances.len());
        let mut empty = HashSet::new();
        for (host, index) in instances.iter().zip(0..) {
            let (Some(host), Some(name)) = (&host.name, &name) else { continue };
            hosts.entry(host.clone()).or_insert(index);
            let between = suffixes(host.wire()).skip(1).take_while(|s| *s != name.wire());
            empty.extend(between.map(DnsName::of_suffix));
        }
        Self {
            row: Arc::clone(row),
            ttl: seconds(row.ttl),
            a: pool(&instances, |instance| instance.address().is_ipv4()),
            aaaa: pool(&instances, |instance| instance.address().is_ipv6()),
            srv: pool(&instances, |i| i.port().is_some() && i.name.is_some()),
            name,
            instances,
            hosts,
            empty,
        }
    }

    pub(super) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        let found = self.instances.binary_search_by(|instance| instance.row.key.id.cmp(id));
        found.ok().map(|index| &self.instances[index])
    }

    /// The instance with this own name, and its records' TTL.
    pub(super) fn host(&self, name: &[u8]) -> Option<(&Instance, u32)> {
        self.hosts.get(name).map(|index| (&self.instances[*index as usize], self.ttl))
    }

    /// Whether something exists only below this name.
    pub(super) fn is_empty_name(&self, name: &[u8]) -> bool {
        self.empty.contains(name)
    }

    /// The instances that records of this type come from.
    pub(super) fn pool(&self, kind: RecordType) -> &[u32] {
        match kind {
            RecordType::A => &self.a,
            RecordType::Aaaa => &self.aaaa,
            RecordType::Srv => &self.srv,
            _ => &[],
        }
    }

    pub(super) fn at(&self, index: u32) -> &Instance {
        &self.instances[index as usize]
    }
}

/// The healthy ones, or the unhealthy ones when none is healthy (Route 53's multivalue policy), of
/// one record type.
fn pool(instances: &[Instance], fits: impl Fn(&Instance) -> bool) -> Box<[u32]> {
    let of = |health: VerdictState| -> Box<[u32]> {
        let indexed = instances.iter().zip(0u32..);
        indexed
            .filter(|(instance, _)| {
                instance.is_answered() && instance.health == health && fits(instance)
            })
            .map(|(_, index)| index)
            .collect()
    };
    let healthy = of(VerdictState::Healthy);
    if healthy.is_empty() { of(VerdictState::Unhealthy) } else { healthy }
}
