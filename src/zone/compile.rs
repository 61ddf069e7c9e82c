//! State → zones, in one pass over each table.
//!
//! **Invariant:** the cost is linear in instances and targets; a service none of whose rows or
//! verdicts changed is the same `Arc` as before.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::health::Health;
use super::name::suffixes;
use super::service::{Member, Service};
use super::{BALANCER_NEGATIVE_TTL, DnsName, Zone, ZoneContext};
use crate::model::{
    DiscoveryInstance, DiscoveryKey, DiscoveryService, HostedZone, HostedZoneId, InstanceId,
    InstanceKey, Listener, ListenerKey, LoadBalancer, LoadBalancerName, NameCheck, NameCheckId,
    NameStatus, Namespace, NamespaceKind, NamespaceName, RECORD_TTL, RecordSet, RecordSetKey,
    RegistrationId, Target, TaskId, Verdict, VerdictState,
};
use crate::state::{State, Table, changed};

/// A TTL has 31 bits (RFC 2181 section 8).
const MOST_SECONDS: u32 = i32::MAX.cast_unsigned();

/// Everything that zones depend on. Tables are compared by pointer: a commit makes a new one where
/// it changed something.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    context: ZoneContext,
    namespaces: Table<NamespaceName, Namespace>,
    services: Table<DiscoveryKey, DiscoveryService>,
    instances: Table<InstanceKey, DiscoveryInstance>,
    load_balancers: Table<LoadBalancerName, LoadBalancer>,
    hosted_zones: Table<HostedZoneId, HostedZone>,
    record_sets: Table<RecordSetKey, RecordSet>,
    name_checks: Table<NameCheckId, NameCheck>,
    name_statuses: Table<NameCheckId, NameStatus>,
    listeners: Table<ListenerKey, Listener>,
    targets: Table<RegistrationId, Target>,
    verdicts: Table<RegistrationId, Verdict>,
}

impl Inputs {
    pub(super) fn new(state: &State, context: &ZoneContext) -> Self {
        Self {
            context: context.clone(),
            namespaces: Arc::clone(&state.namespaces),
            services: Arc::clone(&state.discovery_services),
            instances: Arc::clone(&state.discovery_instances),
            load_balancers: Arc::clone(&state.load_balancers),
            hosted_zones: Arc::clone(&state.hosted_zones),
            record_sets: Arc::clone(&state.record_sets),
            name_checks: Arc::clone(&state.name_checks),
            name_statuses: Arc::clone(&state.name_statuses),
            listeners: Arc::clone(&state.listeners),
            targets: Arc::clone(&state.targets),
            verdicts: Arc::clone(&state.verdicts),
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.context == other.context
            && Arc::ptr_eq(&self.namespaces, &other.namespaces)
            && Arc::ptr_eq(&self.services, &other.services)
            && Arc::ptr_eq(&self.instances, &other.instances)
            && Arc::ptr_eq(&self.load_balancers, &other.load_balancers)
            && Arc::ptr_eq(&self.hosted_zones, &other.hosted_zones)
            && Arc::ptr_eq(&self.record_sets, &other.record_sets)
            && Arc::ptr_eq(&self.name_checks, &other.name_checks)
            && Arc::ptr_eq(&self.name_statuses, &other.name_statuses)
            && Arc::ptr_eq(&self.listeners, &other.listeners)
            && Arc::ptr_eq(&self.targets, &other.targets)
            && Arc::ptr_eq(&self.verdicts, &other.verdicts)
    }
}

/// Whole seconds as records carry them.
pub(super) fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).map_or(MOST_SECONDS, |seconds| seconds.min(MOST_SECONDS))
}

/// The health of each of `tasks` that has active registrations: all of them have to be healthy, and
/// one unhealthy verdict weighs more than one that is still out.
fn health<'a>(state: &'a State, tasks: &HashSet<&TaskId>) -> HashMap<&'a TaskId, VerdictState> {
    let weight = |verdict: VerdictState| match verdict {
        VerdictState::Healthy => 0,
        VerdictState::Initial => 1,
        VerdictState::Unhealthy => 2,
    };
    let mut health = HashMap::new();
    for target in state.targets.values().filter(|target| target.is_active()) {
        let Some(task) = target.task.as_ref().filter(|task| tasks.contains(task)) else { continue };
        let verdict = state.verdict_state(target.id);
        let worst = health.entry(task).or_insert(verdict);
        if weight(verdict) > weight(*worst) {
            *worst = verdict;
        }
    }
    health
}

/// The services that may differ from those of before: of all others neither rows nor verdicts
/// changed.
fn touched(state: &State, previous: &Inputs) -> HashSet<DiscoveryKey> {
    let instances = changed(&previous.instances, &state.discovery_instances);
    let mut touched: HashSet<_> = instances.into_iter().map(|instance| instance.service).collect();
    touched.extend(changed(&previous.services, &state.discovery_services));
    let registered = changed(&previous.targets, &state.targets);
    let judged = changed(&previous.verdicts, &state.verdicts);
    let before = registered.iter().filter_map(|id| previous.targets.get(id));
    let now = registered.iter().chain(&judged).filter_map(|id| state.targets.get(id));
    let tasks: HashSet<&TaskId> = before.chain(now).filter_map(|t| t.task.as_ref()).collect();
    if !tasks.is_empty() {
        let instances = state.discovery_instances.values();
        let theirs = instances.filter(|i| i.task.as_ref().is_some_and(|task| tasks.contains(task)));
        touched.extend(theirs.map(|instance| instance.key.service.clone()));
    }
    touched
}

fn instances_of<'a>(
    state: &'a State,
    service: &DiscoveryKey,
) -> impl Iterator<Item = &'a Arc<DiscoveryInstance>> {
    let first = InstanceKey { service: service.clone(), id: InstanceId::from("") };
    let service = service.clone();
    let from = state.discovery_instances.range(first..);
    from.take_while(move |(key, _)| key.service == service).map(|(_, instance)| instance)
}

pub(super) fn services(
    state: &State,
    previous: &HashMap<DiscoveryKey, Arc<Service>>,
    inputs: Option<&Inputs>,
    threads: usize,
) -> HashMap<DiscoveryKey, Arc<Service>> {
    let touched = inputs.map(|inputs| touched(state, inputs));
    let is_touched = |key: &DiscoveryKey| touched.as_ref().is_none_or(|t| t.contains(key));
    let services = state.discovery_services.keys().filter(|key| is_touched(key));
    let members = services.flat_map(|key| instances_of(state, key));
    let health = health(state, &members.filter_map(|i| i.task.as_ref()).collect());
    // Whom no check looks at counts as healthy, as a record without a health check does.
    let health_of = |instance: &DiscoveryInstance| {
        let task = instance.task.as_ref();
        match instance.healthy {
            Some(false) => VerdictState::Unhealthy,
            _ => task.and_then(|task| health.get(task)).copied().unwrap_or(VerdictState::Healthy),
        }
    };
    let service = |(key, row): (&DiscoveryKey, &Arc<DiscoveryService>)| {
        let old = previous.get(key);
        if let Some(old) = old
            && !is_touched(key)
        {
            return (key.clone(), Arc::clone(old));
        }
        let members: Vec<Member<'_>> =
            instances_of(state, key).map(|instance| (instance, health_of(instance))).collect();
        let service = match old {
            Some(old) if old.is_of(row, &members) => Arc::clone(old),
            _ => {
                let old = old.map(AsRef::as_ref);
                Arc::new(Service::compile(row, &members, old, threads, state.generation))
            }
        };
        (key.clone(), service)
    };
    state.discovery_services.iter().map(service).collect()
}

pub(super) fn zones(
    state: &State,
    services: &HashMap<DiscoveryKey, Arc<Service>>,
    context: &ZoneContext,
) -> HashMap<DnsName, Zone> {
    // Serials compare modulo 2^32 (RFC 1982).
    let serial = u32::try_from(state.generation.0 & u64::from(u32::MAX)).unwrap_or_default();
    let mut zones = HashMap::new();
    let mut add = |apex: Option<DnsName>, negative: Duration| {
        let zone = apex.and_then(|apex| Zone::new(apex, serial, seconds(negative)));
        if let Some(zone) = zone {
            zones.entry(zone.apex.clone()).or_insert(zone);
        }
    };
    let namespaces = state.namespaces.values();
    for namespace in namespaces.filter(|row| row.kind == NamespaceKind::PrivateDns) {
        add(DnsName::parse(namespace.name.as_str()), namespace.negative_ttl);
    }
    for zone in state.hosted_zones.values() {
        add(DnsName::parse(&zone.name), RECORD_TTL);
    }
    let regions = std::iter::once(&context.region).chain(&context.others);
    for region in regions {
        add(apex_of(region, context), BALANCER_NEGATIVE_TTL);
    }
    // In the order of keys: of two names that differ only in case the first is served.
    for key in state.discovery_services.keys() {
        let Some(service) = services.get(key) else { continue };
        let Some(name) = &service.name else { continue };
        let Some(apex) = DnsName::parse(key.namespace.as_str()) else { continue };
        let http = |row: &Arc<Namespace>| row.kind == NamespaceKind::Http;
        if state.namespaces.get(&key.namespace).is_some_and(http) {
            continue;
        }
        let Some(zone) = zones.get_mut(&apex) else { continue };
        zone.add_empty_above(name);
        zone.services.entry(name.clone()).or_insert_with(|| Arc::clone(service));
    }
    add_record_sets(state, context, &mut zones);
    for lb in state.load_balancers.values() {
        let own = lb.name.region();
        let region = if own.is_empty() { context.region.as_str() } else { own };
        let zone = apex_of(region, context).and_then(|apex| zones.get_mut(&apex));
        if let Some(zone) = zone {
            let name = DnsName::parse(&lb.dns_name(&context.region, &context.domain));
            zone.balancers.extend(name.map(|name| (name, lb.address)));
        }
    }
    add_empty_above_zones(&mut zones);
    zones
}

/// Of the zone of a region's load balancers.
fn apex_of(region: &str, context: &ZoneContext) -> Option<DnsName> {
    DnsName::parse(&format!("{region}.elb.{}", context.domain))
}

fn add_record_sets(state: &State, context: &ZoneContext, zones: &mut HashMap<DnsName, Zone>) {
    let health = Health::new(state, context);
    for row in state.record_sets.values() {
        let Some(hosted) = state.hosted_zones.get(&row.key.zone) else { continue };
        let apex = DnsName::parse(&hosted.name);
        let Some(zone) = apex.and_then(|apex| zones.get_mut(&apex)) else { continue };
        let Some(name) = DnsName::parse(&row.key.name) else { continue };
        if name != zone.apex {
            zone.add_empty_above(&name);
        }
        zone.sets.entry(name).or_default().add(row, health.is_healthy(row));
    }
}

/// A zone below another makes the names in between exist, or NXDOMAIN for one of them would deny
/// the lower zone to whoever reads it by RFC 8020.
fn add_empty_above_zones(zones: &mut HashMap<DnsName, Zone>) {
    let apexes: Vec<DnsName> = zones.keys().cloned().collect();
    for apex in apexes {
        let parent = suffixes(apex.wire()).skip(1).find(|suffix| zones.contains_key(*suffix));
        if let Some(parent) = parent.and_then(|parent| zones.get_mut(parent)) {
            parent.add_empty_above(&apex);
        }
    }
}

impl Zone {
    /// None when the apex is so long that the names every zone has do not fit below it.
    fn new(apex: DnsName, serial: u32, negative_ttl: u32) -> Option<Self> {
        let mut zone = Self {
            label: apex.to_string().into(),
            primary: apex.child("ns.dns")?,
            mailbox: apex.child("hostmaster")?,
            apex,
            serial,
            negative_ttl,
            services: HashMap::new(),
            balancers: HashMap::new(),
            sets: HashMap::new(),
            empty: HashSet::new(),
        };
        let primary = zone.primary.clone();
        zone.add_empty_above(&primary);
        zone.empty.insert(primary);
        Some(zone)
    }

    /// Every name between `name` and the apex exists.
    fn add_empty_above(&mut self, name: &DnsName) {
        let apex = self.apex.wire();
        let between = suffixes(name.wire()).skip(1).take_while(|suffix| *suffix != apex);
        self.empty.extend(between.map(DnsName::of_suffix));
    }
}
