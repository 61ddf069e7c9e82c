//! Which container instance a task goes to. Pure.
//!
//! Filters first (contact, attributes, constraints, resources), then the chain of strategies, then
//! the instance with the fewest tasks of the same group, as ECS does. Not here: how many tasks
//! there should be (`plan`). **Invariant:** what is left of an instance follows from the State and
//! from what this board has placed on it since.

mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    ClusterName, Contact, ContainerInstance, Demand, Group, InstanceKind, InstanceName, Launch,
    PlacementConstraint, PlacementStrategy, Service, ServiceKey, Task, TaskDefinition,
    TaskDefinitionKey, TaskStatus, Transport, ZONE_ATTRIBUTE,
};
use crate::state::State;

pub use query::{BadQuery, Query, Values};

/// All instances, with what their tasks leave of them.
#[derive(Debug)]
pub struct Board<'a> {
    /// By name.
    seats: Vec<Seat<'a>>,
    /// Expressions by their texts; those of one service are asked for every task of it.
    queries: BTreeMap<&'a str, Option<Arc<Query>>>,
}

/// One instance.
#[derive(Debug)]
pub struct Seat<'a> {
    pub instance: &'a ContainerInstance,
    cpu: u64,
    memory_mib: u64,
    ports: BTreeSet<(Transport, u16)>,
    /// Ports that are still to be chosen.
    promised: BTreeMap<Transport, usize>,
    /// Tasks that are not STOPPED.
    tasks: usize,
    groups: BTreeMap<(&'a ClusterName, Group<'a>), Count>,
}

/// Tasks that are not STOPPED, and of those the ones that are to run.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: usize,
    wanted: usize,
}

/// A task that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub cluster: &'a ClusterName,
    pub group: Group<'a>,
    /// With what it overrides.
    pub definition: &'a TaskDefinition,
    pub launch: &'a Launch,
}

/// Why a task cannot go to an instance. The greater one was the closer to being placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Agent,
    Attribute,
    MemberOf,
    Distinct,
    Cpu,
    Memory,
    Ports,
}

impl Refusal {
    /// RunTask's `reason` (Amazon ECS, "API failure reasons").
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Agent => "AGENT",
            Self::Attribute => "ATTRIBUTE",
            Self::MemberOf => "MemberOf placement constraint unsatisfied.",
            Self::Distinct => "DistinctInstance placement constraint unsatisfied.",
            Self::Cpu => "RESOURCE:CPU",
            Self::Memory => "RESOURCE:MEMORY",
            Self::Ports => "RESOURCE:PORTS",
        }
    }
}

/// No instance takes the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Of the instances that are ACTIVE, by name; none: there is no such instance.
    pub refusals: Vec<(InstanceName, Refusal)>,
}

impl Unplaced {
    /// The instance that came closest.
    #[must_use]
    pub fn closest(&self) -> Option<&(InstanceName, Refusal)> {
        self.refusals.iter().rev().max_by_key(|(_, refusal)| *refusal)
    }
}

impl<'a> Board<'a> {
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        let seats = state.instances.values().map(|instance| Seat::empty(instance)).collect();
        let mut board = Self { seats, queries: BTreeMap::new() };
        let mut demands: BTreeMap<&TaskDefinitionKey, Demand> = BTreeMap::new();
        for task in state.tasks.values().filter(|task| task.known < TaskStatus::Stopped) {
            let own = task.run.as_ref().map(|run| &run.overrides);
            let own = own.filter(|own| own.cpu.is_some() || !own.containers.is_empty());
            let demand = match (own, state.definitions.get(&task.definition)) {
                (Some(own), Some(definition)) => &Demand::of(&own.applied(definition)),
                (None, Some(definition)) => {
                    demands.entry(&task.definition).or_insert_with(|| Demand::of(definition))
                }
                (_, None) => &Demand::default(),
            };
            if let Some(seat) = board.seat_mut(&task.instance) {
                seat.take(demand, (&task.cluster, task.group()), task.is_live());
                seat.chose(task);
            }
        }
        board
    }

    /// All of them, by name.
    #[must_use]
    pub fn seats(&self) -> &[Seat<'a>] {
        &self.seats
    }

    #[must_use]
    pub fn seat(&self, name: &InstanceName) -> Option<&Seat<'a>> {
        self.seats.get(self.index(name)?)
    }

    fn seat_mut(&mut self, name: &InstanceName) -> Option<&mut Seat<'a>> {
        let index = self.index(name)?;
        self.seats.get_mut(index)
    }

    /// By their names, in whose order they are.
    fn index(&self, name: &InstanceName) -> Option<usize> {
        self.seats.binary_search_by(|seat| seat.instance.name.cmp(name)).ok()
    }

    /// Chooses an instance, one of `only` where some are named, and charges it. `rng` where a
    /// strategy leaves it to chance.
    ///
    /// # Errors
    /// Why none of them takes it.
    pub fn place(
        &mut self,
        wanted: &Wanted<'a>,
        only: Option<&BTreeSet<InstanceName>>,
        rng: &mut fastrand::Rng,
    ) -> Result<InstanceName, Unplaced> {
        let demand = Demand::of(wanted.definition);
        let known = |text: &'a str| {
            self.queries.entry(text).or_insert_with(|| query(text)).as_ref().map(Arc::clone)
        };
        let queries: Vec<_> = expressions(wanted).filter_map(known).collect();
        let (mut fit, mut refusals) = (Vec::new(), Vec::new());
        for (place, seat) in self.seats.iter().enumerate() {
            let name = &seat.instance.name;
            if seat.instance.is_draining(wanted.cluster)
                || seat.instance.contact == Contact::Removed
                || only.is_some_and(|only| !only.contains(name))
            {
                continue;
            }
            match seat.check(wanted, &demand, &queries) {
                Ok(()) => fit.push(place),
                Err(refusal) => refusals.push((name.clone(), refusal)),
            }
        }
        let chosen = self.choose(fit, wanted, rng).ok_or(Unplaced { refusals })?;
        let seat = &mut self.seats[chosen];
        seat.take(&demand, (wanted.cluster, wanted.group), true);
        Ok(seat.instance.name.clone())
    }

    /// Charges one instance that somebody has named: neither constraints nor its status count.
    ///
    /// # Errors
    /// What it has not got.
    pub fn put(&mut self, wanted: &Wanted<'a>, name: &InstanceName) -> Result<(), Refusal> {
        let demand = Demand::of(wanted.definition);
        let seat = self.seat_mut(name).ok_or(Refusal::Agent)?;
        seat.able(wanted)?;
        seat.room(&demand)?;
        seat.take(&demand, (wanted.cluster, wanted.group), true);
        Ok(())
    }

    /// The instances on which a DAEMON service has a task: those that its constraints mean and that
    /// take tasks; one that is being drained keeps its own until other services' tasks have left
    /// it.
    #[must_use]
    pub fn daemon_homes(&self, state: &State, service: &Service) -> BTreeSet<InstanceName> {
        let Some(definition) = state.definitions.get(&service.definition) else {
            return BTreeSet::new();
        };
        let cluster = &service.key.cluster;
        let group = Group::Service(service.key.name.as_str());
        let launch = &service.options.launch;
        let wanted = Wanted { cluster, group, definition, launch };
        let queries: Vec<_> = expressions(&wanted).filter_map(query).collect();
        let means = |seat: &&Seat<'_>| {
            let instance = seat.instance;
            let takes = !instance.is_draining(cluster) || is_last_to_leave(state, service, seat);
            instance.contact < Contact::Lost && takes && seat.is_meant(cluster, &queries)
        };
        self.seats.iter().filter(means).map(|seat| seat.instance.name.clone()).collect()
    }

    /// Narrows the candidates down strategy by strategy.
    fn choose(
        &self,
        mut fit: Vec<usize>,
        wanted: &Wanted<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let key = (wanted.cluster, wanted.group);
        let of_group = |place: usize| self.seats[place].of_group(key).all;
        let strategies = match wanted.launch.strategies.as_slice() {
            // ECS: services are spread over zones, tasks that are run by hand go anywhere.
            [] => match wanted.group {
                Group::Service(_) => vec![Strategy::Spread(ZONE_ATTRIBUTE)],
                Group::Named(_) => vec![Strategy::Random],
            },
            written => written.iter().filter_map(Strategy::of).collect(),
        };
        for strategy in strategies {
            match strategy {
                Strategy::Random => rng.shuffle(&mut fit),
                Strategy::Spread(field) => {
                    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                    for seat in &self.seats {
                        let value = seat.field(wanted.cluster, field);
                        *counts.entry(value).or_default() += seat.of_group(key).all;
                    }
                    least(&mut fit, |place| {
                        let value = self.seats[place].field(wanted.cluster, field);
                        counts.get(value).copied().unwrap_or_default()
                    });
                }
                Strategy::PackCpu => least(&mut fit, |place| self.seats[place].cpu_left()),
                Strategy::PackMemory => least(&mut fit, |place| self.seats[place].memory_left()),
            }
            if strategy == Strategy::Random {
                return fit.first().copied();
            }
        }
        least(&mut fit, of_group);
        fit.first().copied()
    }
}

/// Keeps those of which there is least.
fn least<T: Ord>(fit: &mut Vec<usize>, of: impl Fn(usize) -> T) {
    if let Some(least) = fit.iter().map(|place| of(*place)).min() {
        fit.retain(|place| of(*place) == least);
    }
}

/// A strategy that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy<'a> {
    Random,
    /// Over an attribute, or over the instances.
    Spread(&'a str),
    PackCpu,
    PackMemory,
}

/// What ECS calls the instance itself, in a strategy's field.
const INSTANCE_FIELDS: [&str; 2] = ["instanceid", "host"];

impl<'a> Strategy<'a> {
    fn of(written: &'a PlacementStrategy) -> Option<Self> {
        let field = written.field.as_deref().unwrap_or_default();
        match written.kind.as_str() {
            "random" => Some(Self::Random),
            "spread" => Some(Self::Spread(field.strip_prefix("attribute:").unwrap_or(field))),
            "binpack" if field.eq_ignore_ascii_case("cpu") => Some(Self::PackCpu),
            "binpack" if field.eq_ignore_ascii_case("memory") => Some(Self::PackMemory),
            _ => None,
        }
    }
}

/// Checks a strategy.
///
/// # Errors
/// What is wrong with it.
pub fn check_strategy(written: &PlacementStrategy) -> Result<(), String> {
    let field = written.field.as_deref().unwrap_or_default();
    let is_field = field.strip_prefix("attribute:").is_some_and(|name| !name.is_empty())
        || INSTANCE_FIELDS.contains(&field.to_ascii_lowercase().as_str());
    match written.kind.as_str() {
        "random" if !field.is_empty() => Err("the strategy random has no field".to_owned()),
        "spread" if !is_field => {
            Err(format!("spread goes by instanceId, host or attribute:NAME, not by {field:?}"))
        }
        _ if Strategy::of(written).is_some() => Ok(()),
        "binpack" => Err(format!("binpack goes by cpu or memory, not by {field:?}")),
        other => Err(format!("{other:?} is no strategy (random, spread, binpack)")),
    }
}

/// Checks a constraint.
///
/// # Errors
/// What is wrong with it.
pub fn check_constraint(written: &PlacementConstraint) -> Result<(), String> {
    match (written.kind.as_str(), &written.expression) {
        ("distinctInstance", None) => Ok(()),
        ("memberOf", Some(text)) => match text.parse::<Query>() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("Invalid expression {text:?}: {error}")),
        },
        ("distinctInstance" | "memberOf", _) => {
            Err("an expression belongs to placement constraints of type memberOf alone".to_owned())
        }
        (other, _) => Err(format!("{other:?} is no constraint (memberOf, distinctInstance)")),
    }
}

/// Every expression that has to hold.
fn expressions<'a>(wanted: &Wanted<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let own = wanted.launch.constraints.iter().filter_map(|c| c.expression.as_ref());
    wanted.definition.placement_constraints.iter().chain(own).map(String::as_str)
}

/// None: a text that was taken before it was checked.
fn query(text: &str) -> Option<Arc<Query>> {
    text.parse().ok().map(Arc::new)
}

impl<'a> Seat<'a> {
    fn empty(instance: &'a ContainerInstance) -> Self {
        let (ports, groups, promised) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { instance, cpu: 0, memory_mib: 0, ports, promised, tasks: 0, groups }
    }

    /// What is to be chosen for a task here.
    fn unnamed(&self, demand: &Demand) -> Vec<(Transport, usize)> {
        let is_published = demand.is_published || self.instance.address.is_some();
        let all = demand.unnamed.iter().filter(|_| is_published);
        all.map(|(transport, count)| (*transport, *count)).collect()
    }

    /// Takes over what was chosen for a task that has been charged.
    fn chose(&mut self, task: &Task) {
        for ports in &task.host_ports {
            if let Some(promised) = self.promised.get_mut(&ports.protocol) {
                *promised = promised.saturating_sub(usize::from(ports.count));
            }
            self.ports.extend(ports.ports().map(|port| (ports.protocol, port)));
        }
    }

    /// Ports that can still be chosen, those that rest included.
    fn ports_left(&self, transport: Transport) -> usize {
        let range = self.instance.host_ports;
        let taken = self.ports(transport).into_iter().filter(|port| range.contains(*port)).count();
        let promised = self.promised.get(&transport).copied().unwrap_or_default();
        range.len().saturating_sub(taken + promised)
    }

    fn take(&mut self, demand: &Demand, group: (&'a ClusterName, Group<'a>), wanted: bool) {
        self.cpu += demand.cpu;
        self.memory_mib += demand.memory_mib;
        self.ports.extend(demand.ports.iter().copied());
        for (transport, count) in self.unnamed(demand) {
            *self.promised.entry(transport).or_default() += count;
        }
        self.tasks += 1;
        let count = self.groups.entry(group).or_default();
        count.all += 1;
        count.wanted += usize::from(wanted);
    }

    fn of_group(&self, group: (&ClusterName, Group<'_>)) -> Count {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// Tasks that are not STOPPED.
    #[must_use]
    pub const fn tasks(&self) -> usize {
        self.tasks
    }

    /// CPU units that no task has; 0 while nobody knows.
    #[must_use]
    pub fn cpu_left(&self) -> u64 {
        let all = self.instance.registered().unwrap_or_default();
        u64::from(all.cpu).saturating_sub(self.cpu)
    }

    /// Likewise.
    #[must_use]
    pub fn memory_left(&self) -> u64 {
        let all = self.instance.registered().unwrap_or_default();
        u64::from(all.memory_mib).saturating_sub(self.memory_mib)
    }

    /// The ports that are taken, those that are kept from tasks included.
    #[must_use]
    pub fn ports(&self, transport: Transport) -> BTreeSet<u16> {
        let taken = self.ports.iter().filter(|(own, _)| *own == transport).map(|(_, port)| *port);
        taken.chain(self.instance.reserved_ports.iter().copied()).collect()
    }

    fn field(&self, cluster: &ClusterName, field: &str) -> &str {
        match INSTANCE_FIELDS.contains(&field.to_ascii_lowercase().as_str()) {
            true => self.instance.name.as_str(),
            false => self.instance.attribute(cluster, field).unwrap_or_default(),
        }
    }

    fn check(
        &self,
        wanted: &Wanted<'_>,
        demand: &Demand,
        queries: &[Arc<Query>],
    ) -> Result<(), Refusal> {
        self.able(wanted)?;
        if !self.is_meant(wanted.cluster, queries) {
            return Err(Refusal::MemberOf);
        }
        let distinct = wanted.launch.constraints.iter().any(|c| c.kind == "distinctInstance");
        if distinct && self.of_group((wanted.cluster, wanted.group)).wanted > 0 {
            return Err(Refusal::Distinct);
        }
        self.room(demand)
    }

    fn is_meant(&self, cluster: &ClusterName, queries: &[Arc<Query>]) -> bool {
        queries.iter().all(|query| query.holds(&|subject| self.values(cluster, subject)))
    }

    /// An instance as a query of a cluster sees it.
    #[must_use]
    pub fn values(&self, cluster: &ClusterName, subject: &str) -> Vec<String> {
        let instance = self.instance;
        if let Some(name) = subject.strip_prefix("attribute:") {
            return instance.attribute(cluster, name).map(str::to_owned).into_iter().collect();
        }
        let groups = || self.groups.iter().filter(|((own, _), _)| *own == cluster);
        let one = |value: String| vec![value];
        match subject {
            "agentConnected" => one((instance.contact == Contact::Connected).to_string()),
            "agentVersion" => one(env!("CARGO_PKG_VERSION").to_owned()),
            // There is no EC2: the name that the file gives stands in its place.
            "ec2InstanceId" => one(instance.name.to_string()),
            "registeredAt" => one(instance.registered_at.to_string()),
            "runningTasksCount" => one(groups().map(|(_, n)| n.wanted).sum::<usize>().to_string()),
            "task:group" => groups().map(|((_, group), _)| group.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it answers, and can run such tasks at all.
    fn able(&self, wanted: &Wanted<'_>) -> Result<(), Refusal> {
        let instance = self.instance;
        if instance.contact != Contact::Connected || instance.capacity.is_none() {
            return Err(Refusal::Agent);
        }
        let mut containers = wanted.definition.containers.iter();
        // A process is a command; what an image would run is not known.
        if instance.kind == InstanceKind::Process && containers.any(|c| c.arguments().is_empty()) {
            return Err(Refusal::Attribute);
        }
        Ok(())
    }

    fn room(&self, demand: &Demand) -> Result<(), Refusal> {
        let instance = self.instance;
        if demand.cpu > self.cpu_left() {
            return Err(Refusal::Cpu);
        }
        if demand.memory_mib > self.memory_left() {
            return Err(Refusal::Memory);
        }
        let taken = |port: &(Transport, u16)| {
            self.ports.contains(port) || instance.reserved_ports.contains(&port.1)
        };
        // Every task of child processes has an address of its own.
        let mut unnamed = self.unnamed(demand).into_iter();
        let is_full = unnamed.any(|(transport, count)| count > self.ports_left(transport));
        let is_docker = instance.kind == InstanceKind::Docker;
        if is_docker && (is_full || demand.ports.iter().any(taken)) {
            return Err(Refusal::Ports);
        }
        Ok(())
    }
}

/// Whether tasks of other services than DAEMON ones are still there beside its own.
fn is_last_to_leave(state: &State, service: &Service, seat: &Seat<'_>) -> bool {
    let is_daemon = |name: &str| {
        let key = ServiceKey { cluster: service.key.cluster.clone(), name: name.into() };
        state.services.get(&key).is_some_and(|other| other.policy.daemon)
    };
    let own = Group::Service(service.key.name.as_str());
    let mut groups = seat.groups.keys().filter(|(cluster, _)| **cluster == service.key.cluster);
    let others = groups.any(|(_, group)| match group {
        Group::Service(name) => !is_daemon(name),
        Group::Named(_) => false,
    });
    others && seat.of_group((&service.key.cluster, own)).wanted > 0
}

#[cfg(test)]
mod tests;
