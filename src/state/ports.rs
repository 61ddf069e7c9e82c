//! Ports of the host: which ones the next task on an instance gets.
//!
//! Pure: everything taken is read from the State. Ports of a task that stopped rest until its
//! `rests_until`: somebody may still know them. **Invariant:** a port of a task that is not
//! STOPPED, or that the file keeps from tasks, is never given; one that rests only when there is no
//! other, the one first whose rest ends first.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::model::{
    ContainerInstance, Demand, HostPorts, InstanceKind, Task, TaskDefinition, TaskStatus,
    Transport, fnv1a,
};

use super::State;

/// Ports for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub ports: Vec<HostPorts>,
    /// How many of them still rested.
    pub early: usize,
}

/// What stands in the way of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Taken,
    RestsUntil(Timestamp),
}

type Uses = BTreeMap<(Transport, u16), Use>;

/// What a task of `definition` gets on its instance, with what it keeps of what it has, and beside
/// `avoid`.
///
/// # Errors
/// The container that gets none, and why.
pub fn give(
    state: &State,
    task: &Task,
    definition: &TaskDefinition,
    kept: &[HostPorts],
    avoid: &BTreeSet<(Transport, u16)>,
    now: Timestamp,
) -> Result<Given, (String, String)> {
    let instance = state.instances.get(&task.instance);
    let Some(instance) = instance.filter(|row| row.kind == InstanceKind::Docker) else {
        return Ok(Given::default());
    };
    let mut mappings = definition.chosen_ports(instance).peekable();
    if mappings.peek().is_none() {
        return Ok(Given::default());
    }
    let mut uses = uses(state, instance, task, now);
    let own = Demand::of(definition).ports;
    uses.extend(own.iter().chain(avoid).map(|port| (*port, Use::Taken)));
    let kept_ports = kept.iter().flat_map(|own| own.ports().map(move |port| (own.protocol, port)));
    uses.extend(kept_ports.map(|port| (port, Use::Taken)));
    let mut given = Given { ports: kept.to_vec(), early: 0 };
    for (container, mapping) in mappings {
        if kept.iter().any(|own| own.container == container) {
            continue;
        }
        let count = u16::try_from(mapping.ports().len()).unwrap_or(u16::MAX);
        // Spread: others on the machine choose ports too, and the next one is not the last one.
        let begin = spread(&format!("{}/{container}/{}", task.id, mapping.container_port));
        let found = find(instance, &uses, mapping.protocol, count, begin);
        let Some((host_port, resting)) = found else {
            let (range, protocol) = (instance.host_ports, mapping.protocol);
            let what = match count {
                1 => format!("no {protocol} port of {range} is free"),
                _ => format!("no {count} {protocol} ports in a row of {range} are free"),
            };
            return Err((container.to_owned(), what));
        };
        let ports = HostPorts {
            container: container.to_owned(),
            protocol: mapping.protocol,
            container_port: mapping.container_port,
            host_port,
            count,
        };
        uses.extend(ports.ports().map(|port| ((mapping.protocol, port), Use::Taken)));
        given.early += resting;
        given.ports.push(ports);
    }
    Ok(given)
}

/// Any function that spreads would do.
fn spread(text: &str) -> usize {
    usize::try_from(fnv1a(text) >> 33).unwrap_or_default()
}

/// The ports of the instance that are not simply free.
fn uses(state: &State, instance: &ContainerInstance, own: &Task, now: Timestamp) -> Uses {
    let mut uses = Uses::new();
    let here = state.tasks.values().filter(|t| t.instance == instance.name && t.id != own.id);
    for task in here {
        let is_gone = task.known == TaskStatus::Stopped;
        let what = match (is_gone, task.rests_until) {
            (false, _) => Use::Taken,
            (true, Some(until)) if until > now => Use::RestsUntil(until),
            (true, _) => continue,
        };
        for ports in &task.host_ports {
            for port in ports.ports() {
                let there = uses.entry((ports.protocol, port)).or_insert(what);
                *there = worse(*there, what);
            }
        }
        if !is_gone && let Some(definition) = state.definitions.get(&task.definition) {
            uses.extend(Demand::of(definition).ports.into_iter().map(|p| (p, Use::Taken)));
        }
    }
    for port in &instance.reserved_ports {
        uses.extend([Transport::Tcp, Transport::Udp].map(|t| ((t, *port), Use::Taken)));
    }
    uses
}

fn worse(one: Use, other: Use) -> Use {
    match (one, other) {
        (Use::RestsUntil(one), Use::RestsUntil(other)) => Use::RestsUntil(one.max(other)),
        _ => Use::Taken,
    }
}

/// The first of `count` ports in a row that are free, looked for from `begin` on; else the row
/// whose rest ends first, with how many of it rest.
fn find(
    instance: &ContainerInstance,
    uses: &Uses,
    protocol: Transport,
    count: u16,
    begin: usize,
) -> Option<(u16, usize)> {
    let range = instance.host_ports;
    let places = (range.len() + 1).checked_sub(usize::from(count)).filter(|places| *places > 0)?;
    let mut best: Option<(Timestamp, u16, usize)> = None;
    for place in 0..places {
        let offset = u16::try_from((begin + place) % places).ok()?;
        let first = range.first + offset;
        let (mut until, mut resting, mut is_taken) = (Timestamp(0), 0, false);
        for port in first..=first + (count - 1) {
            match uses.get(&(protocol, port)) {
                None => {}
                Some(Use::Taken) => is_taken = true,
                Some(Use::RestsUntil(at)) => {
                    until = until.max(*at);
                    resting += 1;
                }
            }
            if is_taken {
                break;
            }
        }
        if is_taken {
            continue;
        }
        if resting == 0 {
            return Some((first, 0));
        }
        if best.is_none_or(|(other, ..)| until < other) {
            best = Some((until, first, resting));
        }
    }
    best.map(|(_, first, resting)| (first, resting))
}

#[cfg(test)]
mod tests;
