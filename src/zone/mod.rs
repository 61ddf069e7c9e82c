//! Zones: names to record sets, compiled from the State; the lookup that DNS answers come from.
//!
//! One zone per namespace, one for the load balancers' names. A discovery service answers A, AAAA,
//! SRV or a CNAME out of its instances, as Cloud Map's routing policies do; with SRV every instance
//! has a name of its own below it, which SRV points to. Not here: messages, sockets, who is healthy
//! (the State says). **Invariant:** a compiled zone is immutable, and a lookup is pure: what moves
//! is only [`CachedUntil`], when the caller says that an answer leaves.

mod cached;
mod compile;
mod health;
mod lookup;
mod name;
mod records;
mod service;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::{DiscoveryKey, Generation, InstanceKey};
use crate::state::State;

use compile::Inputs;
use records::Sets;
use service::Service;

pub use cached::CachedUntil;
pub use lookup::{Answer, Data, Denied, Record, RecordType};
pub use name::DnsName;
pub use records::Value;

/// Route 53's multivalue answers hold at most this many records.
pub const MOST_RECORDS: usize = 8;
/// TTL of a load balancer's address, as ELB's names have it.
pub const BALANCER_TTL: Duration = Duration::from_secs(60);
/// Negative TTL of the load balancers' zone. Ours, far below ELB's 60 s: a name that was asked for
/// just before its load balancer was created is to be found soon.
pub const BALANCER_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// TTL of NS records (ours; nothing in them ever changes).
pub const NS_TTL: Duration = Duration::from_secs(3600);

/// SOA's refresh, retry and expire, Route 53's values; nobody transfers our zones.
pub const SOA_TIMES: (i32, i32, i32) = (7200, 900, 1_209_600);

/// What compiling needs beside the State.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneContext {
    pub region: String,
    /// Regions beside it.
    pub others: Vec<String>,
    /// Load balancers are called `NAME-ID.REGION.elb.DOMAIN`.
    pub domain: String,
    pub threads: usize,
}

/// All zones of one generation. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    /// What they were compiled from; none before the first compilation.
    inputs: Option<Inputs>,
    services: Arc<HashMap<DiscoveryKey, Arc<Service>>>,
    /// By apex.
    zones: Arc<HashMap<DnsName, Zone>>,
}

/// One zone: all names at and below its apex, except those of a zone further down.
#[derive(Debug)]
pub struct Zone {
    pub apex: DnsName,
    /// The apex as text, for labels of metrics.
    pub label: Arc<str>,
    /// The primary's name, also in its NS record: `ns.dns.APEX`, as Kubernetes names it. It exists
    /// without a record.
    pub primary: DnsName,
    /// The mailbox of whoever answers for it: `hostmaster.APEX`.
    pub mailbox: DnsName,
    /// The generation in which some zone changed last.
    pub serial: u32,
    /// Seconds: the SOA's minimum, and its own TTL, so that the negative TTL (RFC 2308 section 5:
    /// the smaller of both) is what the namespace says.
    pub negative_ttl: u32,
    services: HashMap<DnsName, Arc<Service>>,
    balancers: HashMap<DnsName, IpAddr>,
    /// Of a hosted zone.
    sets: HashMap<DnsName, Sets>,
    /// Names that exist only because something exists below them (RFC 4592 section 2.2.2).
    empty: HashSet<DnsName>,
}

impl Zones {
    /// Compiles `state`. Services that did not change are shared with `previous`; when nothing did,
    /// everything is.
    #[must_use]
    pub fn compile(state: &State, previous: &Self, context: &ZoneContext) -> Self {
        let inputs = Inputs::new(state, context);
        if previous.inputs.as_ref().is_some_and(|old| old.same(&inputs)) {
            return previous.clone();
        }
        let services =
            compile::services(state, &previous.services, previous.inputs.as_ref(), context.threads);
        let zones = compile::zones(state, &services, context);
        Self { inputs: Some(inputs), services: Arc::new(services), zones: Arc::new(zones) }
    }

    /// Until when an answer that names this instance may still be cached; zero when none was given.
    #[must_use]
    pub fn cached_until(&self, instance: &InstanceKey) -> Timestamp {
        let service = self.services.get(&instance.service);
        service
            .and_then(|service| service.instance(&instance.id))
            .map_or(Timestamp(0), |instance| instance.cached.latest())
    }

    /// The generation in which a discovery service, its instances or their health changed last.
    #[must_use]
    pub fn revision(&self, service: &DiscoveryKey) -> Option<Generation> {
        self.services.get(service).map(|service| service.revision)
    }

    /// Whether there is a zone with this apex.
    #[must_use]
    pub fn has(&self, apex: &DnsName) -> bool {
        self.zones.contains_key(apex)
    }
}

#[cfg(test)]
mod tests;
