//! Looking a name up: which records, or why none.
//!
//! **Invariant:** NXDOMAIN is said only of a name that does not exist in the deepest zone above it;
//! a name that exists without a record of the type asked for is NODATA (clients take NXDOMAIN for
//! one type as the end of all).

use std::net::IpAddr;
use std::time::Duration;

use super::name::suffixes;
use super::records::{Sets, Value};
use super::service::{Instance, Service};
use super::{BALANCER_TTL, DnsName, MOST_RECORDS, NS_TTL, Zone, Zones};
use crate::clock::Timestamp;

/// CNAMEs followed in one answer (ours; longer chains are loops, or as good as).
const MOST_CNAMES: usize = 8;

/// What may be asked for, as far as zones tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Srv,
    Soa,
    Ns,
    Cname,
    Txt,
    Mx,
    Ptr,
    Caa,
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
        /// Where a chain of CNAMEs ends without records of the type asked for.
        denied: Option<Denied<'z>>,
    },
    /// The name exists, without records of this type.
    NoData(&'z Zone),
    /// NXDOMAIN.
    NoName(&'z Zone),
}

/// Why a chain of CNAMEs ends.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'z> {
    /// The zone of its last name.
    pub zone: &'z Zone,
    /// Whether that name exists (RFC 6604: the answer's code is about the last name).
    pub exists: bool,
}

/// What one name of a chain has.
enum Found<'z> {
    Records {
        answers: Vec<Record<'z>>,
        additionals: Vec<Record<'z>>,
    },
    Cname {
        record: Record<'z>,
        target: &'z DnsName,
    },
    /// Answered with what another name has, under the name that was asked for.
    Alias(&'z DnsName),
    NoData,
    NoName,
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
    Cname(&'z DnsName),
    /// Of a record set.
    Value(&'z Value),
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
}

impl<'z> Found<'z> {
    fn records(answers: Vec<Record<'z>>) -> Self {
        Self::Records { answers, additionals: Vec::new() }
    }
}

impl Zones {
    /// Looks up `name`, in wire form, uncompressed and lower case; any other bytes are a name
    /// nobody has.
    #[must_use]
    pub fn lookup(&self, name: &[u8], kind: RecordType, rng: &mut fastrand::Rng) -> Answer<'_> {
        let Some(zone) = self.zone_of(name) else { return Answer::Elsewhere };
        let mut chain = Vec::new();
        let (mut at, mut owner, mut denied) = (name, None, None);
        let mut aliases = 0;
        while let Some(here) = self.zone_of(at) {
            match here.find(at, kind, rng) {
                Found::Alias(target) if aliases < MOST_CNAMES => {
                    aliases += 1;
                    at = target.wire();
                    continue;
                }
                Found::Cname { record, target } if kind != RecordType::Cname => {
                    chain.push(Record { owner, ..record });
                    if chain.len() == MOST_CNAMES {
                        break;
                    }
                    (at, owner) = (target.wire(), Some(target));
                    continue;
                }
                Found::Cname { record, .. } => chain.push(Record { owner, ..record }),
                Found::Records { answers, additionals } if !answers.is_empty() => {
                    chain.extend(answers.into_iter().map(|record| Record { owner, ..record }));
                    return Answer::Records { zone, answers: chain, additionals, denied };
                }
                Found::NoName if chain.is_empty() => return Answer::NoName(zone),
                _ if chain.is_empty() => return Answer::NoData(zone),
                Found::NoName => denied = Some(Denied { zone: here, exists: false }),
                _ => denied = Some(Denied { zone: here, exists: true }),
            }
            break;
        }
        Answer::Records { zone, answers: chain, additionals: Vec::new(), denied }
    }

    /// Whether a zone holds `name`, in wire form and lower case, whether it exists or not.
    #[must_use]
    pub fn hold(&self, name: &[u8]) -> bool {
        self.zone_of(name).is_some()
    }

    /// The longest suffix wins, as among Route 53's private zones.
    fn zone_of(&self, name: &[u8]) -> Option<&Zone> {
        suffixes(name).find_map(|suffix| self.zones.get(suffix))
    }
}

impl Zone {
    /// The SOA record, for answers and for the authority section of negative ones.
    #[must_use]
    pub const fn soa(&self) -> Record<'_> {
        Record::new(self.negative_ttl, Data::Soa(self))
    }

    fn find(&self, name: &[u8], kind: RecordType, rng: &mut fastrand::Rng) -> Found<'_> {
        let is_apex = name == self.apex.wire();
        let service = self.services.get(name);
        let host = self.services_above(name).find_map(|service| service.host(name));
        let balancer = self.balancers.get(name);
        let sets = self.sets.get(name);
        let exists = is_apex
            || service.is_some()
            || host.is_some()
            || balancer.is_some()
            || sets.is_some()
            || self.empty.contains(name)
            || self.services_above(name).any(|service| service.is_empty_name(name));
        if !exists {
            let sets = self.wildcard(name);
            return sets.map_or(Found::NoName, |sets| answer_sets(sets, kind, rng));
        }
        if let Some(sets) = sets
            && kind != RecordType::Any
            && !(is_apex && matches!(kind, RecordType::Soa | RecordType::Ns))
        {
            return answer_sets(sets, kind, rng);
        }
        match (kind, service, host, balancer) {
            (RecordType::Any, ..) => {
                Found::records(vec![Record::new(self.negative_ttl, Data::Minimal)])
            }
            (RecordType::Soa, ..) if is_apex => Found::records(vec![self.soa()]),
            (RecordType::Ns, ..) if is_apex => {
                let ttl = super::compile::seconds(NS_TTL);
                Found::records(vec![Record::new(ttl, Data::Ns(&self.primary))])
            }
            (_, Some(service), ..) => answer(service, kind, rng),
            (_, _, Some((instance, ttl)), _) => answer_host(instance, ttl, kind),
            (_, _, _, Some(address)) => answer_balancer(*address, kind),
            _ => Found::NoData,
        }
    }

    /// The record sets that stand for names which do not exist below the closest one that does
    /// (RFC 4592 section 3.3.1).
    fn wildcard(&self, name: &[u8]) -> Option<&Sets> {
        let exists = |name: &[u8]| {
            name == self.apex.wire() || self.sets.contains_key(name) || self.empty.contains(name)
        };
        let encloser = suffixes(name).skip(1).find(|suffix| exists(suffix))?;
        let mut wildcard = b"\x01*".to_vec();
        wildcard.extend_from_slice(encloser);
        self.sets.get(wildcard.as_slice())
    }

    /// The services whose names are parents of `name`, the nearest first.
    fn services_above<'z>(&'z self, name: &[u8]) -> impl Iterator<Item = &'z Service> {
        let above = suffixes(name).skip(1).take_while(|suffix| *suffix != self.apex.wire());
        above.filter_map(|suffix| self.services.get(suffix)).map(AsRef::as_ref)
    }
}

fn answer<'a>(service: &'a Service, kind: RecordType, rng: &mut fastrand::Rng) -> Found<'a> {
    let is_alias = service.pool(RecordType::Cname).is_some();
    let kind = if is_alias { RecordType::Cname } else { kind };
    let Some(pool) = service.pool(kind) else { return Found::NoData };
    let mut chosen = [0; MOST_RECORDS];
    let chosen = choose(&pool.members, rng, &mut chosen[..service.most_records()]);
    let instances = chosen.iter().map(|index| service.at(*index));
    let ttl = pool.ttl;
    let addresses = |instance: &'a Instance, kind| {
        let addresses = instance.addresses(kind);
        addresses.map(move |address| Record::of(instance, ttl, Data::Address(address)))
    };
    let (mut answers, mut additionals) = (Vec::with_capacity(chosen.len()), Vec::new());
    for instance in instances {
        match (kind, &instance.name, instance.port(), &instance.target) {
            (RecordType::Cname, _, _, Some(target)) => {
                let record = Record::of(instance, ttl, Data::Cname(target));
                return Found::Cname { record, target };
            }
            (RecordType::Srv, Some(target), Some(port), _) => {
                answers.push(Record::of(instance, ttl, Data::Srv { port, target }));
                let records = addresses(instance, RecordType::Any);
                additionals.extend(records.map(|record| Record { owner: Some(target), ..record }));
            }
            _ => answers.extend(addresses(instance, kind)),
        }
    }
    Found::Records { answers, additionals }
}

fn answer_sets<'a>(sets: &'a Sets, kind: RecordType, rng: &mut fastrand::Rng) -> Found<'a> {
    if kind == RecordType::Any {
        return Found::records(vec![Record::new(0, Data::Minimal)]);
    }
    if let Some(set) = sets.choose(RecordType::Cname, rng).first() {
        return match (&set.alias, set.values.first()) {
            (Some(target), _) => Found::Alias(target),
            (None, Some(value @ Value::Cname(target))) => {
                Found::Cname { record: Record::new(set.ttl, Data::Value(value)), target }
            }
            _ => Found::NoData,
        };
    }
    let chosen = sets.choose(kind, rng);
    if let Some(target) = chosen.first().and_then(|set| set.alias.as_ref()) {
        return Found::Alias(target);
    }
    let values = chosen.iter().flat_map(|set| set.values.iter().map(|value| (set.ttl, value)));
    let mut records: Vec<_> =
        values.map(|(ttl, value)| Record::new(ttl, Data::Value(value))).collect();
    rng.shuffle(&mut records);
    Found::records(records)
}

fn answer_host(instance: &Instance, ttl: u32, kind: RecordType) -> Found<'_> {
    if !instance.is_answered() || !matches!(kind, RecordType::A | RecordType::Aaaa) {
        return Found::NoData;
    }
    let records = instance.addresses(kind);
    Found::records(records.map(|a| Record::of(instance, ttl, Data::Address(a))).collect())
}

fn answer_balancer<'a>(address: IpAddr, kind: RecordType) -> Found<'a> {
    if !fits(address, kind) {
        return Found::NoData;
    }
    let ttl = super::compile::seconds(BALANCER_TTL);
    Found::records(vec![Record::new(ttl, Data::Address(address))])
}

const fn fits(address: IpAddr, kind: RecordType) -> bool {
    match address {
        IpAddr::V4(_) => matches!(kind, RecordType::A),
        IpAddr::V6(_) => matches!(kind, RecordType::Aaaa),
    }
}

/// All of a small pool, or as many of a large one as an answer holds, in random order.
fn choose<'a>(pool: &[u32], rng: &mut fastrand::Rng, chosen: &'a mut [u32]) -> &'a [u32] {
    let count = pool.len().min(chosen.len());
    let chosen = &mut chosen[..count];
    if pool.len() == count {
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
