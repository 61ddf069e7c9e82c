//! Which tasks of a service go first, and how they are spread over availability zones anew.
//!
//! Source: Amazon ECS Developer Guide, "How Amazon ECS places tasks on container instances" and
//! "Balancing an Amazon ECS service across Availability Zones". **Invariant:** a task that is well
//! is moved only when one more fits beside it, and its place is taken before it goes.

use std::collections::{BTreeMap, BTreeSet};

use super::health::{Health, Member};
use super::service::Crew;
use super::{Draft, Unstarted, new_task};
use crate::model::{Backoff, Contact, InstanceName, Rollout, Service, TaskId, ZONE_ATTRIBUTE};
use crate::orchestrator::words;

/// Orders those that a scale-in may stop: the worst first, and of the same health those of the zone
/// with the most tasks, on the instance with the most; where tasks are packed, those on the
/// instance with the most left. The order that they come in decides the rest.
pub(super) fn in_order<'a>(
    draft: &mut Draft<'_, '_>,
    service: &Service,
    mut victims: Vec<Member<'a>>,
    live: &[Member<'_>],
) -> Vec<Member<'a>> {
    let first = service.options.launch.strategies.first();
    let packed = first.filter(|strategy| strategy.kind == "binpack");
    if let Some(strategy) = packed {
        let is_cpu = strategy.field.as_deref().is_some_and(|f| f.eq_ignore_ascii_case("cpu"));
        let board = draft.board();
        let left = |member: &Member<'_>| {
            let seat = board.seat(&member.task.instance);
            seat.map(|s| if is_cpu { s.cpu_left() } else { s.memory_left() }).unwrap_or_default()
        };
        victims.sort_by_key(|member| (member.health, std::cmp::Reverse(left(member))));
        return victims;
    }
    victims.sort_by_key(|member| member.health);
    let (mut zones, mut instances) = (BTreeMap::new(), BTreeMap::new());
    for member in live {
        *zones.entry(member.zone).or_insert(0_usize) += 1;
        *instances.entry(&member.task.instance).or_insert(0_usize) += 1;
    }
    if instances.len() < 2 {
        return victims;
    }
    let mut ordered = Vec::with_capacity(victims.len());
    while let Some(worst) = victims.first().map(|member| member.health) {
        let weight = |member: &Member<'_>| {
            (zones.get(member.zone).copied(), instances.get(&member.task.instance).copied())
        };
        let same = victims.iter().take_while(|member| member.health == worst);
        // The last of the greatest from behind is the first of them.
        let heaviest = same.map(weight).enumerate().collect::<Vec<_>>().into_iter().rev();
        let place = heaviest.max_by_key(|(_, weight)| *weight).map_or(0, |(place, _)| place);
        let member = victims.remove(place);
        if let Some(count) = zones.get_mut(member.zone) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = instances.get_mut(&member.task.instance) {
            *count = count.saturating_sub(1);
        }
        ordered.push(member);
    }
    ordered
}

/// Starts a task in the zone with the fewest for one in the zone with the most.
pub(super) fn rebalance(draft: &mut Draft<'_, '_>, crew: &mut Crew<'_>, backoff: Option<&Backoff>) {
    let service = crew.service;
    let waits = backoff.and_then(|backoff| backoff.until).is_some_and(|until| until > draft.now);
    if !may_rebalance(service) || waits || !crew.is_full_and_well() {
        return;
    }
    let mut zones = zones(draft, service);
    for member in &crew.live {
        zones.entry(member.zone).or_default().0 += 1;
    }
    let counts = || zones.iter().map(|(zone, (count, _))| (*zone, *count));
    let Some((fewest, least)) = counts().min_by_key(|(_, count)| *count) else { return };
    let Some((fullest, most)) = counts().rev().max_by_key(|(_, count)| *count) else { return };
    if most - least < 2 {
        return;
    }
    let movable = crew.live.iter().rev().filter(|m| m.zone == fullest && !m.protected);
    let movable = in_order(draft, service, movable.copied().collect(), &crew.live);
    let Some(victim) = movable.first().map(|member| member.task.id.clone()) else { return };
    let told = words::unbalanced(&service.key, counts());
    let only = zones.get(fewest).map(|(_, instances)| instances.clone()).unwrap_or_default();
    let replaces = Some(victim);
    match new_task(draft, &service.key, crew.primary, replaces, Some(&only)) {
        Ok(mut task) => {
            task.rebalances = true;
            let message = words::rebalances(&service.key, &task.id, fewest);
            draft.event_once(&service.key, told);
            draft.event(&service.key, message);
            crew.begin(task);
        }
        // There is no room for one more: it stays as it is.
        Err(Unstarted::NoAddress | Unstarted::Unplaced(_)) => {}
    }
}

/// ECS: not of DAEMON services, nor with another strategy before the spread over zones, nor where
/// no task may be started beside those there are.
fn may_rebalance(service: &Service) -> bool {
    let first = service.options.launch.strategies.first();
    let field = format!("attribute:{ZONE_ATTRIBUTE}");
    let spreads = first.is_none_or(|s| s.kind == "spread" && s.field.as_ref() == Some(&field));
    let may = service.options.rebalancing && service.maximum_percent > 100 && spreads;
    may && !service.policy.daemon
}

/// The zones of the instances that take tasks of a service's cluster.
fn zones<'a>(
    draft: &Draft<'a, '_>,
    service: &Service,
) -> BTreeMap<&'a str, (usize, BTreeSet<InstanceName>)> {
    let mut zones: BTreeMap<&str, (usize, BTreeSet<InstanceName>)> = BTreeMap::new();
    for row in draft.view.state.instances.values() {
        if row.contact == Contact::Connected && !row.is_draining(&service.key.cluster) {
            zones.entry(&row.zone).or_default().1.insert(row.name.clone());
        }
    }
    zones
}

/// Tasks for whom another was started elsewhere.
pub(super) fn moved(live: &[Member<'_>]) -> BTreeSet<TaskId> {
    let starts = live.iter().filter(|m| m.task.rebalances && m.health != Health::Unhealthy);
    starts.filter_map(|member| member.task.replaces.clone()).collect()
}

impl Crew<'_> {
    /// As many as desired, all of them well, and nothing decided.
    fn is_full_and_well(&self) -> bool {
        self.primary.rollout == Rollout::Completed && self.is_steady() && self.is_idle()
    }
}
