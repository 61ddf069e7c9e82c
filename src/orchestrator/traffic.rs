//! Rules whose weights say which deployment of a service gets the traffic, and the names that lead
//! to its tasks.
//!
//! Not here: when what is shifted (`plan/gradual`). **Invariant:** weights and names move in one
//! commit, and only what a service's newest deployment has written is taken for its own.

use std::collections::BTreeMap;

use super::record;
use crate::clock::Timestamp;
use crate::model::{
    Action, Deployment, DiscoveryInstance, InstanceId, InstanceKey, Listener, Registration,
    RuleWeights, ServiceKey, ServiceTargetGroup, Share, TargetGroupName, Task, TaskStatus,
    TrafficRule, WeightedGroup,
};
use crate::state::{State, Tx};

/// What the rules of production traffic say when `deployment` has this share of it.
pub(super) fn production(deployment: &Deployment, share: Share) -> Vec<RuleWeights> {
    let pairs = deployment.load_balancers.iter().filter_map(|lb| Some((lb, lb.pair.as_ref()?)));
    pairs.map(|(lb, pair)| weighed(deployment, lb, pair.production.clone(), share)).collect()
}

/// Likewise of test traffic, which one side has whole.
pub(super) fn test(deployment: &Deployment, has_it: bool) -> Vec<RuleWeights> {
    let share = if has_it { Share::ALL } else { Share::NONE };
    let rules = deployment.load_balancers.iter();
    let rules = rules.filter_map(|lb| Some((lb, lb.pair.as_ref()?.test.clone()?)));
    rules.map(|(lb, rule)| weighed(deployment, lb, rule, share)).collect()
}

fn weighed(
    deployment: &Deployment,
    lb: &ServiceTargetGroup,
    rule: TrafficRule,
    share: Share,
) -> RuleWeights {
    let (rest, own) = share.weights();
    let side = lb.sides(deployment.alternate).0;
    let weighed = |group: &TargetGroupName| {
        let weight = if group == side { own } else { rest };
        WeightedGroup { group: group.clone(), weight }
    };
    RuleWeights { rule, groups: lb.groups().map(weighed).collect() }
}

/// What was written, with everything given to the groups of `deployment` where it has one.
pub(super) fn given_back(held: &[RuleWeights], deployment: &Deployment) -> Vec<RuleWeights> {
    let own: Vec<_> = deployment.registrations().map(|(group, _)| group).collect();
    let given = |weights: &RuleWeights| {
        let mut weights = weights.clone();
        if weights.groups.iter().any(|group| own.contains(&&group.group)) {
            for group in &mut weights.groups {
                group.weight = if own.contains(&&group.group) { 100 } else { 0 };
            }
        }
        weights
    };
    held.iter().map(given).collect()
}

fn action<'a>(listener: &'a Listener, rule: &TrafficRule) -> Option<&'a Action> {
    match &rule.rule {
        None => Some(&listener.default_action),
        Some(id) => listener.rules.iter().find(|rule| &rule.id == id).map(|rule| &rule.action),
    }
}

/// The groups that a rule forwards to, if it is there and does.
pub(super) fn forwarded<'a>(state: &'a State, rule: &TrafficRule) -> Option<&'a [WeightedGroup]> {
    match action(state.listeners.get(&rule.listener)?, rule)? {
        Action::Forward(groups) => Some(groups),
        Action::FixedResponse(_) | Action::Redirect(_) => None,
    }
}

/// Whether the State would take it.
pub(super) fn fits(state: &State, weights: &RuleWeights) -> bool {
    let Some(listener) = state.listeners.get(&weights.rule.listener) else { return false };
    action(listener, &weights.rule).is_some()
        && weights.groups.iter().all(|weighted| {
            let group = state.target_groups.get(&weighted.group);
            group.is_some_and(|group| listener.protocol.forwards_to(group.protocol))
        })
}

/// Whether there is such a rule.
pub(super) fn is_there(state: &State, rule: &TrafficRule) -> bool {
    state.listeners.get(&rule.listener).is_some_and(|listener| action(listener, rule).is_some())
}

/// The rules that say something else than was written.
pub(super) fn drifted<'a>(
    state: &State,
    held: &'a [RuleWeights],
) -> impl Iterator<Item = &'a RuleWeights> {
    let weights = |groups: &[WeightedGroup]| -> BTreeMap<_, _> {
        groups.iter().map(|group| (group.group.clone(), group.weight)).collect()
    };
    held.iter().filter(move |held| {
        let now = forwarded(state, &held.rule);
        now.is_none_or(|now| weights(now) != weights(&held.groups))
    })
}

/// Writes weights into a rule; what else the rule says stays.
pub(super) fn write(tx: &mut Tx<'_>, weights: &RuleWeights) {
    let Some(listener) = tx.state().listeners.get(&weights.rule.listener) else { return };
    let mut listener = Listener::clone(listener);
    let forward = Action::Forward(weights.groups.clone());
    match &weights.rule.rule {
        None => listener.default_action = forward,
        Some(id) => match listener.rules.iter_mut().find(|rule| &rule.id == id) {
            Some(rule) => rule.action = forward,
            None => return,
        },
    }
    tx.put(listener);
}

/// Whether names lead to one of these.
pub(super) fn leads_to(state: &State, tasks: &[&Task]) -> bool {
    let mut named = state.discovery_instances.values().filter(|row| row.is_active());
    !tasks.is_empty() && named.any(|row| tasks.iter().any(|t| Some(&t.id) == row.task.as_ref()))
}

/// Lets names lead to the tasks that they should lead to now, and to no others.
pub(super) fn name(tx: &mut Tx<'_>, service: &ServiceKey, now: Timestamp) {
    let Some(progress) = tx.state().progress.get(service).cloned() else { return };
    let serves = |task: &&Task| {
        task.is_live() && (TaskStatus::Activating..=TaskStatus::Running).contains(&task.known)
    };
    let tasks: Vec<Task> = tx.state().tasks_of(service).filter(serves).cloned().collect();
    for task in tasks {
        let Some(id) = &task.deployment else { continue };
        if progress.is_named(id) {
            if let Some(instance) = instance(tx.state(), &task) {
                tx.put(instance);
            }
            continue;
        }
        let instances: Vec<DiscoveryInstance> =
            tx.state().instances_of_task(&task.id).cloned().collect();
        for instance in instances.into_iter().filter(DiscoveryInstance::is_active) {
            tx.put(DiscoveryInstance {
                registration: Registration::Draining { since: now },
                ..instance
            });
        }
    }
}

/// The name that leads to a task that has an address. None: it has one already, or none at all.
pub(super) fn instance(state: &State, task: &Task) -> Option<DiscoveryInstance> {
    let places = record::places(state, task)?;
    let discovery = places.discovery?;
    let key =
        InstanceKey { service: discovery.service.clone(), id: InstanceId::new(task.id.as_str()) };
    let there = state.discovery_instances.get(&key);
    if there.is_some_and(|there| there.is_active())
        || !state.discovery_services.contains_key(&key.service)
    {
        return None;
    }
    let definition = state.definitions.get(&task.definition);
    let port = discovery.container_port.or_else(|| definition.and_then(|d| d.first_port()));
    let row = state.instances.get(&task.instance).map(AsRef::as_ref);
    let at = definition.zip(port).and_then(|(d, port)| task.reached(d, row, port));
    let (address, port) = match at {
        Some((address, port)) => (address, Some(port)),
        None => (task.address?, port),
    };
    Some(DiscoveryInstance {
        address: Some(address),
        port,
        task: Some(task.id.clone()),
        ..DiscoveryInstance::new(key)
    })
}
