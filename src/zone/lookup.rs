//! Looking a name up: which records, or why none.
//!
//! **Invariant:** NXDOMAIN is said only of a name that does not exist in the deepest zone above it;
//! a name that exists without a record of the type asked for is NODATA (clients take NXDOMAIN for
//! one type as the end of all).

use std::net::IpAddr;
use std::time::Duration;

use super::name::suffixes;
use super::service::{Instance, Service};
use super::{BALANCER_TTL, DnsName, MOST_RECORDS, NS_TTL, Zone, Zones};
use crate::clock::Timestamp;

/// What may be asked for, as far as zones tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Srv,
    Soa,
    Ns,
    /// ANY.
    Any,
    /// Everything else: no name of ours has any.
    Other,
}

/// What there is to say about a name and a type.
#[derive(Debug)]
pub enum Answer<'z> {
    /// No zone of ours holds the name.
    Elsewhere,
    Records {
        zone: &'z Zone,
        answers: Vec<Record<'z>>,
        /// Addresses of the answers' targets.
        additionals: Vec<Record<'z>>,
    },
    /// The name exists, without records of this type.
    NoData(&'z Zone),
    /// NXDOMAIN.
    NoName(&'z Zone),
}

#[derive(Debug)]
pub struct Record<'z> {
    /// None: the name that was asked for.
    pub owner: Option<&'z DnsName>,
    /// Seconds.
    pub ttl: u32,
    pub data: Data<'z>,
    /// Whom a cache will hold because of it.
    instance: Option<&'z Instance>,
}

#[derive(Clone, Copy, Debug)]
pub enum Data<'z> {
    Address(IpAddr),
    /// Priority and weight are 1, as Cloud Map's.
    Srv {
        port: u16,
        target: &'z DnsName,
    },
    /// Of this zone.
    Soa(&'z Zone),
    Ns(&'z DnsName),
    /// All that ANY gets (RFC 8482 section 4.2).
    Minimal,
}

impl<'z> Record<'z> {
    const fn new(ttl: u32, data: Data<'z>) -> Self {
        Self { owner: None, ttl, data, instance: None }
    }

    fn of(instance: &'z Instance, ttl: u32, data: Data<'z>) -> Self {
        Self { owner: None, ttl, data, instance: Some(instance) }
    }

    /// Whether it names an instance, and so holds up that instance's drain.
    #[must_use]
    pub const fn names_instance(&self) -> bool {
        self.instance.is_some()
    }
}

impl<'z> Answer<'z> {
    /// The zone that answers.
    #[must_use]
    pub const fn zone(&self) -> Option<&'z Zone> {
        match self {
            Self::Elsewhere => None,
            Self::Records { zone, .. } | Self::NoData(zone) | Self::NoName(zone) => Some(zone),
        }
    }

    /// The answer is about to leave: every instance it names may be cached until its TTL is over.
    /// To be called before it leaves, and without an await since the snapshot was loaded.
    pub fn leaves(&self, thread: usize, now: Timestamp) {
        let Self::Records { answers, additionals, .. } = self else { return };
        for record in answers.iter().chain(additionals) {
            if let Some(instance) = record.instance {
                instance.cached.answered(thread, now, Duration::from_secs(record.ttl.into()));
            }
        }
    }

    fn records(zone: &'z Zone, answers: Vec<Record<'z>>) -> Self {
        if answers.is_empty() {
            return Self::NoData(zone);
        }
        Self::Records { zone, answers, additionals: Vec::new() }
    }
}

impl Zones {
    /// Looks up `name`, in wire form, uncompressed and lower case; any other bytes are a name
    /// nobody has.
    #[must_use]
    pub fn lookup(&self, name: &[u8], kind: RecordType, rng: &mut fastrand::Rng) -> Answer<'_> {
        // The longest suffix wins, as among Route 53's private zones.
        let zone = suffixes(name).find_map(|suffix| self.zones.get(suffix));
        zone.map_or(Answer::Elsewhere, |zone| zone.lookup(name, kind, rng))
    }
}

impl Zone {
    /// The SOA record, for answers and for the authority section of negative ones.
    #[must_use]
    pub const fn soa(&self) -> Record<'_> {
        Record::new(self.negative_ttl, Data::Soa(self))
    }

    fn lookup(&self, name: &[u8], kind: RecordType, rng: &mut fastrand::Rng) -> Answer<'_> {
        let is_apex = name == self.apex.wire();
        let service = self.services.get(name);
        let host = self.services_above(name).find_map(|service| service.host(name));
        let balancer = self.balancers.get(name);
        let exists = is_apex
            || service.is_some()
            || host.is_some()
            || balancer.is_some()
            || self.empty.contains(name)
            || self.services_above(name).any(|service| service.is_empty_name(name));
        if !exists {
            return Answer::NoName(self);
        }
        match kind {
            RecordType::Any => {
                Answer::records(self, vec![Record::new(self.negative_ttl, Data::Minimal)])
            }
            RecordType::Soa if is_apex => Answer::records(self, vec![self.soa()]),
            RecordType::Ns if is_apex => {
                let ttl = super::compile::seconds(NS_TTL);
                Answer::records(self, vec![Record::new(ttl, Data::Ns(&self.primary))])
            }
            RecordType::A | RecordType::Aaaa | RecordType::Srv => match (service, host, balancer) {
                (Some(service), ..) => self.answer(service, kind, rng),
                (_, Some((instance, ttl)), _) => self.answer_host(instance, ttl, kind),
                (_, _, Some(address)) => self.answer_balancer(*address, kind),
                _ => Answer::NoData(self),
            },
            _ => Answer::NoData(self),
        }
    }

    /// The services whose names are parents of `name`, the nearest first.
    fn services_above<'z>(&'z self, name: &[u8]) -> impl Iterator<Item = &'z Service> {
        let above = suffixes(name).skip(1).take_while(|suffix| *suffix != self.apex.wire());
        above.filter_map(|suffix| self.services.get(suffix)).map(AsRef::as_ref)
    }

    fn answer<'a>(
        &'a self,
        service: &'a Service,
        kind: RecordType,
        rng: &mut fastrand::Rng,
    ) -> Answer<'a> {
        let mut chosen = [0; MOST_RECORDS];
        let chosen = choose(service.pool(kind), rng, &mut chosen);
        let instances = chosen.iter().map(|index| service.at(*index));
        if kind != RecordType::Srv {
            let record = |i: &'a Instance| Record::of(i, service.ttl, Data::Address(i.address()));
            return Answer::records(self, instances.map(record).collect());
        }
        let mut answers = Vec::with_capacity(chosen.len());
        let mut additionals = Vec::with_capacity(chosen.len());
        for instance in instances {
            let (Some(target), Some(port)) = (&instance.name, instance.port()) else { continue };
            answers.push(Record::of(instance, service.ttl, Data::Srv { port, target }));
            let address = Record::of(instance, service.ttl, Data::Address(instance.address()));
            additionals.push(Record { owner: Some(target), ..address });
        }
        if answers.is_empty() {
            return Answer::NoData(self);
        }
        Answer::Records { zone: self, answers, additionals }
    }

    fn answer_host<'a>(&'a self, instance: &'a Instance, ttl: u32, kind: RecordType) -> Answer<'a> {
        if !instance.is_answered() || !fits(instance.address(), kind) {
            return Answer::NoData(self);
        }
        let record = Record::of(instance, ttl, Data::Address(instance.address()));
        Answer::records(self, vec![record])
    }

    fn answer_balancer(&self, address: IpAddr, kind: RecordType) -> Answer<'_> {
        if !fits(address, kind) {
            return Answer::NoData(self);
        }
        let ttl = super::compile::seconds(BALANCER_TTL);
        Answer::records(self, vec![Record::new(ttl, Data::Address(address))])
    }
}

const fn fits(address: IpAddr, kind: RecordType) -> bool {
    match address {
        IpAddr::V4(_) => matches!(kind, RecordType::A),
        IpAddr::V6(_) => matches!(kind, RecordType::Aaaa),
    }
}

/// All of a small pool, or as many of a large one as an answer holds, in random order.
fn choose<'a>(
    pool: &[u32],
    rng: &mut fastrand::Rng,
    chosen: &'a mut [u32; MOST_RECORDS],
) -> &'a [u32] {
    let count = pool.len().min(MOST_RECORDS);
    let chosen = &mut chosen[..count];
    if pool.len() <= MOST_RECORDS {
        chosen.copy_from_slice(pool);
        rng.shuffle(chosen);
        return chosen;
    }
    // Drawn again when drawn before: with at most 7 of at least 9 taken, 4.5 draws at worst on
    // average.
    for filled in 0..count {
        let mut index = pool[rng.usize(..pool.len())];
        while chosen[..filled].contains(&index) {
            index = pool[rng.usize(..pool.len())];
        }
        chosen[filled] = index;
    }
    chosen
}
