//! The counters of queries by zone, type and response code: handles found by index, resolved at
//! their first use.
//!
//! **Invariant:** at most one row per zone there is, so a zone that is gone takes its series along.

use std::collections::HashMap;

use super::codes::{CODES, Code, TYPES, type_label};
use crate::metrics::{Counter, Metrics, names};
use crate::model::Generation;
use crate::zone::{DnsName, RecordType, Zone, Zones};

type Row = [Option<Counter>; CODES * TYPES];

#[derive(Debug)]
pub(super) struct Tally {
    metrics: Metrics,
    thread: usize,
    /// Of the zones that the rows were last compared with.
    generation: Generation,
    zones: HashMap<DnsName, Box<Row>>,
    /// Queries that no zone of ours answers.
    none: Box<Row>,
}

fn row() -> Box<Row> {
    Box::new([const { None }; CODES * TYPES])
}

impl Tally {
    pub(super) fn new(metrics: &Metrics, thread: usize) -> Self {
        Self {
            metrics: metrics.clone(),
            thread,
            generation: Generation::default(),
            zones: HashMap::new(),
            none: row(),
        }
    }

    /// Forgets the zones that are gone.
    pub(super) fn follow(&mut self, generation: Generation, zones: &Zones) {
        if self.generation != generation {
            self.generation = generation;
            self.zones.retain(|apex, _| zones.has(apex));
        }
    }

    pub(super) fn count(&mut self, zone: Option<&Zone>, kind: RecordType, code: Code) {
        if let Some(zone) = zone
            && !self.zones.contains_key(&zone.apex)
        {
            self.zones.insert(zone.apex.clone(), row());
        }
        let found = zone.and_then(|zone| self.zones.get_mut(&zone.apex));
        let row = found.unwrap_or(&mut self.none);
        let counter = row[code.index() * TYPES + kind as usize].get_or_insert_with(|| {
            let zone = zone.map_or("none", |zone| &zone.label);
            self.metrics.counter(&names::DNS_QUERIES, &[zone, type_label(kind), code.label()])
        });
        counter.add(self.thread, 1);
    }
}
