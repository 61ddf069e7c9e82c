//! One discovery service, compiled: its instances, and which of them answer.
//!
//! **Invariant:** a pool holds healthy instances, or unhealthy ones when none is healthy; an
//! initial or a draining one is in no pool.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::compile::seconds;
use super::name::suffixes;
use super::{CachedUntil, DnsName, MOST_RECORDS, RecordType};
use crate::model::{
    DiscoveryInstance, DiscoveryRecordType, DiscoveryRouting, DiscoveryService, Generation,
    InstanceId, VerdictState,
};

#[derive(Debug)]
pub(super) struct Service {
    row: Arc<DiscoveryService>,
    /// None when the State's names do not make a DNS name: it is then in no zone.
    pub(super) name: Option<DnsName>,
    /// The generation that it was compiled of.
    pub(super) revision: Generation,
    /// In the order of their ids.
    instances: Vec<Instance>,
    a: Option<Pool>,
    aaaa: Option<Pool>,
    srv: Option<Pool>,
    cname: Option<Pool>,
    /// The instances' own names.
    hosts: HashMap<DnsName, u32>,
    /// Names between an instance and the service, for an id with dots.
    empty: HashSet<DnsName>,
}

/// The records of one type.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) ttl: u32,
    /// Indices of the instances that answer.
    pub(super) members: Box<[u32]>,
}

#[derive(Debug)]
pub(super) struct Instance {
    row: Arc<DiscoveryInstance>,
    health: VerdictState,
    /// None when its id does not make a DNS name: it then has no SRV record.
    pub(super) name: Option<DnsName>,
    /// What its CNAME record points to.
    pub(super) target: Option<DnsName>,
    pub(super) cached: Arc<CachedUntil>,
}

impl Instance {
    /// Its addresses as records of this type have them; both kinds where any is wanted.
    pub(super) fn addresses(&self, kind: RecordType) -> impl Iterator<Item = IpAddr> {
        let (v4, v6) = match kind {
            RecordType::A => (self.row.ipv4(), None),
            RecordType::Aaaa => (None, self.row.ipv6()),
            _ => (self.row.ipv4(), self.row.ipv6()),
        };
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6))
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.row.port
    }

    /// Whether its own name is answered: from its first verdict to its withdrawal.
    pub(super) fn is_answered(&self) -> bool {
        self.row.is_active() && self.health != VerdictState::Initial
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
        revision: Generation,
    ) -> Self {
        let name = DnsName::parse(row.key.namespace.as_str())
            .and_then(|apex| apex.child(row.key.name.as_str()));
        let instance = |(row, health): &Member<'_>| {
            let old = old.and_then(|old| old.instance(&row.key.id));
            let cached = old
                .map_or_else(|| Arc::new(CachedUntil::new(threads)), |old| Arc::clone(&old.cached));
            let own = old.and_then(|old| old.name.clone());
            let name = own.or_else(|| name.as_ref()?.child(row.key.id.as_str()));
            let target = row.cname.as_deref().and_then(DnsName::parse);
            Instance { row: Arc::clone(row), health: *health, name, target, cached }
        };
        let instances: Vec<Instance> = members.iter().map(instance).collect();
        let mut hosts = HashMap::with_capacity(instances.len());
        let mut empty = HashSet::new();
        let of = |kind, fits: &dyn Fn(&Instance) -> bool| {
            let ttl = seconds(row.ttl_of(kind)?);
            Some(Pool { ttl, members: members_of(&instances, fits) })
        };
        let a = of(DiscoveryRecordType::A, &|i| i.row.ipv4().is_some());
        let aaaa = of(DiscoveryRecordType::Aaaa, &|i| i.row.ipv6().is_some());
        let srv = of(DiscoveryRecordType::Srv, &|i| i.port().is_some() && i.name.is_some());
        let cname = of(DiscoveryRecordType::Cname, &|i| i.target.is_some());
        let named = if srv.is_some() { instances.as_slice() } else { &[] };
        for (host, index) in named.iter().zip(0..) {
            let (Some(host), Some(name)) = (&host.name, &name) else { continue };
            hosts.entry(host.clone()).or_insert(index);
            let between = suffixes(host.wire()).skip(1).take_while(|s| *s != name.wire());
            empty.extend(between.map(DnsName::of_suffix));
        }
        Self { row: Arc::clone(row), revision, a, aaaa, srv, cname, name, instances, hosts, empty }
    }

    pub(super) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        let found = self.instances.binary_search_by(|instance| instance.row.key.id.cmp(id));
        found.ok().map(|index| &self.instances[index])
    }

    /// The instance with this own name, and its records' TTL.
    pub(super) fn host(&self, name: &[u8]) -> Option<(&Instance, u32)> {
        let ttl = self.srv.as_ref()?.ttl;
        self.hosts.get(name).map(|index| (&self.instances[*index as usize], ttl))
    }

    /// Whether something exists only below this name.
    pub(super) fn is_empty_name(&self, name: &[u8]) -> bool {
        self.empty.contains(name)
    }

    /// The instances that records of this type come from; none when it has no such records.
    pub(super) fn pool(&self, kind: RecordType) -> Option<&Pool> {
        match kind {
            RecordType::A => self.a.as_ref(),
            RecordType::Aaaa => self.aaaa.as_ref(),
            RecordType::Srv => self.srv.as_ref(),
            RecordType::Cname => self.cname.as_ref(),
            _ => None,
        }
    }

    /// How many records an answer holds at most.
    pub(super) fn most_records(&self) -> usize {
        match self.row.routing {
            // A name has one CNAME (RFC 2181 section 10.1).
            _ if self.cname.is_some() => 1,
            DiscoveryRouting::Multivalue => MOST_RECORDS,
            DiscoveryRouting::Weighted => 1,
        }
    }

    pub(super) fn at(&self, index: u32) -> &Instance {
        &self.instances[index as usize]
    }
}

/// The healthy ones, or the unhealthy ones when none is healthy (Route 53's multivalue policy), of
/// one record type.
fn members_of(instances: &[Instance], fits: &dyn Fn(&Instance) -> bool) -> Box<[u32]> {
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
