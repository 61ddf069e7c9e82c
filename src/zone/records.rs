//! The record sets of a hosted zone, compiled.
//!
//! **Invariant:** a name is here only with at least one record set; what it lacks of a type is
//! decided by whoever looks it up.

use std::collections::HashMap;
use std::net::IpAddr;

use super::compile::seconds;
use super::{DnsName, MOST_RECORDS, RecordType};
use crate::model::{RecordData, RecordKind, RecordRouting, RecordSet};

/// What a record set is looked up by, beside its name.
impl From<RecordKind> for RecordType {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::A => Self::A,
            RecordKind::Aaaa => Self::Aaaa,
            RecordKind::Caa => Self::Caa,
            RecordKind::Cname => Self::Cname,
            RecordKind::Mx => Self::Mx,
            RecordKind::Ns => Self::Ns,
            RecordKind::Ptr => Self::Ptr,
            RecordKind::Srv => Self::Srv,
            RecordKind::Txt => Self::Txt,
        }
    }
}

/// A value, ready to be encoded.
#[derive(Clone, Debug)]
pub enum Value {
    Address(IpAddr),
    Cname(DnsName),
    Ns(DnsName),
    Ptr(DnsName),
    Mx { preference: u16, name: DnsName },
    Srv { priority: u16, weight: u16, port: u16, name: DnsName },
    Txt(Vec<Vec<u8>>),
    Caa { flags: u8, tag: String, value: Vec<u8> },
}

impl Value {
    /// None for a value that is none, which no front writes.
    fn read(kind: RecordKind, text: &str) -> Option<Self> {
        let name = |text: &str| DnsName::parse(text);
        Some(match (RecordData::parse(kind, text)?, kind) {
            (RecordData::A(address), _) => Self::Address(address.into()),
            (RecordData::Aaaa(address), _) => Self::Address(address.into()),
            (RecordData::Name(text), RecordKind::Ns) => Self::Ns(name(&text)?),
            (RecordData::Name(text), RecordKind::Ptr) => Self::Ptr(name(&text)?),
            (RecordData::Name(text), _) => Self::Cname(name(&text)?),
            (RecordData::Mx { preference, name: text }, _) => {
                Self::Mx { preference, name: name(&text)? }
            }
            (RecordData::Srv { priority, weight, port, name: text }, _) => {
                Self::Srv { priority, weight, port, name: name(&text)? }
            }
            (RecordData::Txt(strings), _) => Self::Txt(strings),
            (RecordData::Caa { flags, tag, value }, _) => Self::Caa { flags, tag, value },
        })
    }
}

#[derive(Debug)]
pub(super) struct Set {
    pub(super) ttl: u32,
    routing: RecordRouting,
    pub(super) values: Vec<Value>,
    /// Answered with what this name has.
    pub(super) alias: Option<DnsName>,
    healthy: bool,
}

/// The record sets of one name.
#[derive(Debug, Default)]
pub(super) struct Sets(HashMap<RecordType, Vec<Set>>);

impl Sets {
    pub(super) fn add(&mut self, row: &RecordSet, healthy: bool) {
        let values = row.values.iter().filter_map(|text| Value::read(row.key.kind, text));
        let set = Set {
            ttl: row.ttl.map_or(0, seconds),
            routing: row.routing,
            values: values.collect(),
            alias: row.alias.as_ref().and_then(|alias| {
                // AWS's console writes it in front of a load balancer's name.
                let name = alias.name.strip_prefix("dualstack.").unwrap_or(&alias.name);
                DnsName::parse(name)
            }),
            healthy,
        };
        self.0.entry(row.key.kind.into()).or_default().push(set);
    }

    /// The sets of a type that answer this time.
    pub(super) fn choose<'a>(&'a self, kind: RecordType, rng: &mut fastrand::Rng) -> Vec<&'a Set> {
        let Some(sets) = self.0.get(&kind) else { return Vec::new() };
        let healthy: Vec<&Set> = sets.iter().filter(|set| set.healthy).collect();
        // With none that is healthy all are answered as if they were.
        let open = || if healthy.is_empty() { sets.iter().collect() } else { healthy.clone() };
        match sets.first().map(|set| set.routing) {
            None => Vec::new(),
            Some(RecordRouting::Simple) => sets.iter().take(1).collect(),
            Some(RecordRouting::Multivalue) => {
                let mut all: Vec<&Set> = open();
                rng.shuffle(&mut all);
                all.truncate(MOST_RECORDS);
                all
            }
            Some(RecordRouting::Weighted(_)) => weighted(&open(), rng).into_iter().collect(),
            Some(RecordRouting::Failover { .. }) => {
                let of = |sets: &[&'a Set], primary| {
                    let wanted = RecordRouting::Failover { primary };
                    sets.iter().find(|set| set.routing == wanted).copied()
                };
                let found = of(&healthy, true).or_else(|| of(&healthy, false));
                let all: Vec<&Set> = sets.iter().collect();
                found.or_else(|| of(&all, true)).or_else(|| of(&all, false)).into_iter().collect()
            }
        }
    }
}

/// In proportion to the weights; those of weight zero when there are no others.
fn weighted<'a>(sets: &[&'a Set], rng: &mut fastrand::Rng) -> Option<&'a Set> {
    let weight = |set: &Set| match set.routing {
        RecordRouting::Weighted(weight) => u32::from(weight),
        _ => 0,
    };
    let total: u32 = sets.iter().map(|set| weight(set)).sum();
    if total == 0 {
        return (!sets.is_empty()).then(|| sets[rng.usize(..sets.len())]);
    }
    let mut drawn = rng.u32(..total);
    let chosen = sets.iter().find(|set| {
        let weight = weight(set);
        let here = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        here
    });
    chosen.copied()
}
