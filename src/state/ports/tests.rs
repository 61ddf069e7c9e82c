//! Which ports tasks get, in a range that the case sets.

use std::sync::Arc;

use super::*;
use crate::model::{ContainerDefinition, HostPortRange, InstanceKind, NetworkMode, PortMapping};
use crate::state::Row;

const NOW: Timestamp = Timestamp(1_000_000);

fn definition(mappings: &[PortMapping]) -> TaskDefinition {
    let container =
        ContainerDefinition { port_mappings: mappings.to_vec(), ..ContainerDefinition::new("app") };
    let definition = TaskDefinition::new("f".into(), 1, vec![container]);
    TaskDefinition { network_mode: Some(NetworkMode::Bridge), ..definition }
}

fn range(first: u16, last: u16) -> PortMapping {
    PortMapping { range_end: Some(last), ..PortMapping::tcp(first) }
}

fn state(first: u16, last: u16, mappings: &[PortMapping]) -> State {
    let mut state = State::default();
    let instance = ContainerInstance::new("local".into(), InstanceKind::Docker, NOW);
    let host_ports = HostPortRange { first, last };
    let instance = ContainerInstance { host_ports, ..instance };
    state.put(Row::ContainerInstance(Arc::new(instance)));
    state.put(Row::TaskDefinition(Arc::new(definition(mappings))));
    state
}

fn task(state: &State, id: &str) -> Task {
    let definition = state.definitions.values().next().unwrap().key();
    Task::new(id.into(), "default".into(), definition, NOW)
}

fn given(state: &State, id: &str, avoid: &[u16]) -> Result<Given, (String, String)> {
    let definition = state.definitions.values().next().unwrap();
    let avoid = avoid.iter().map(|port| (Transport::Tcp, *port)).collect();
    give(state, &task(state, id), definition, &[], &avoid, NOW)
}

/// Gives ports to a task and records it; the host's first ports.
fn add(state: &mut State, id: &str) -> Vec<u16> {
    let given = given(state, id, &[]).unwrap();
    assert_eq!(given.early, 0, "{id}");
    let ports = given.ports.iter().map(|ports| ports.host_port).collect();
    let task = Task { host_ports: given.ports, ..task(state, id) };
    state.put(Row::Task(Arc::new(task)));
    ports
}

fn stop(state: &mut State, id: &str, rests_until: u64) {
    let task = Task::clone(&state.tasks[&id.into()]);
    let rests_until = Some(Timestamp(rests_until));
    state.put(Row::Task(Arc::new(Task { known: TaskStatus::Stopped, rests_until, ..task })));
}

#[test]
fn no_port_is_given_twice_and_the_last_is_missed() {
    let mut state = state(20_000, 20_001, &[PortMapping::tcp(80)]);
    let mut both = [add(&mut state, "a"), add(&mut state, "b")].concat();
    both.sort_unstable();
    assert_eq!(both, [20_000, 20_001]);
    let (container, why) = given(&state, "c", &[]).unwrap_err();
    assert_eq!((&*container, &*why), ("app", "no tcp port of 20000-20001 is free"));
}

#[test]
fn a_port_rests_after_its_task_and_the_oldest_is_given_when_there_is_no_other() {
    let mut state = state(20_000, 20_002, &[PortMapping::tcp(80)]);
    let [a, b, c] = ["a", "b", "c"].map(|id| add(&mut state, id)[0]);
    stop(&mut state, "a", NOW.0 + 20);
    stop(&mut state, "b", NOW.0 + 10);
    // Over.
    stop(&mut state, "c", NOW.0);
    for id in ["d", "e", "f"] {
        let given = given(&state, id, &[]).unwrap();
        assert_eq!((given.ports[0].host_port, given.early), (c, 0), "{id}");
    }
    let without_c = given(&state, "d", &[c]).unwrap();
    assert_eq!((without_c.ports[0].host_port, without_c.early), (b, 1));
    let without_both = given(&state, "d", &[b, c]).unwrap();
    assert_eq!((without_both.ports[0].host_port, without_both.early), (a, 1));
    assert!(given(&state, "d", &[a, b, c]).is_err());
}

#[test]
fn a_range_gets_ports_in_a_row() {
    let mut state = state(20_000, 20_009, &[range(8000, 8003), PortMapping::tcp(80)]);
    let ports = add(&mut state, "a");
    let mut all: Vec<u16> = (ports[0]..ports[0] + 4).chain([ports[1]]).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|port| (20_000..=20_009).contains(port)), "{all:?}");
    // Wherever the first lies, there is room for ten ports once, not twice.
    let mut state = self::state(20_000, 20_009, &[range(8000, 8009)]);
    assert_eq!(add(&mut state, "a"), [20_000]);
    let (_, why) = given(&state, "b", &[]).unwrap_err();
    assert_eq!(why, "no 10 tcp ports in a row of 20000-20009 are free");
    stop(&mut state, "a", NOW.0 + 1);
    assert_eq!(given(&state, "b", &[]).unwrap().early, 10);
}

#[test]
fn ports_that_are_named_or_kept_are_not_given() {
    let named = PortMapping { host_port: Some(20_000), ..PortMapping::tcp(80) };
    let mut state = state(20_000, 20_002, &[named, PortMapping::tcp(81)]);
    let mut instance = ContainerInstance::clone(state.instances.values().next().unwrap());
    instance.reserved_ports = [20_001].into();
    state.put(Row::ContainerInstance(Arc::new(instance)));
    assert_eq!(add(&mut state, "a"), [20_002]);
    assert!(given(&state, "b", &[]).is_err());
}

#[test]
fn what_is_kept_is_given_to_no_other_container() {
    let state = state(20_000, 20_001, &[PortMapping::tcp(80)]);
    let other = ContainerDefinition {
        port_mappings: vec![PortMapping::tcp(81)],
        ..ContainerDefinition::new("side")
    };
    let mut definition = definition(&[PortMapping::tcp(80)]);
    definition.containers.push(other);
    let task = task(&state, "a");
    let first = give(&state, &task, &definition, &[], &BTreeSet::new(), NOW).unwrap();
    let kept: Vec<_> = first.ports.iter().filter(|p| p.container == "app").cloned().collect();
    let again = give(&state, &task, &definition, &kept, &BTreeSet::new(), NOW).unwrap();
    assert_eq!(again, first);
    let avoid = first.ports.iter().filter(|p| p.container == "side");
    let avoid = avoid.map(|p| (Transport::Tcp, p.host_port)).collect();
    let (container, _) = give(&state, &task, &definition, &kept, &avoid, NOW).unwrap_err();
    assert_eq!(container, "side");
}

#[test]
fn other_modes_are_given_none() {
    for (mode, count) in [
        (Some(NetworkMode::Bridge), 1),
        (None, 0),
        (Some(NetworkMode::Awsvpc), 0),
        (Some(NetworkMode::Host), 0),
    ] {
        let mut state = state(20_000, 20_002, &[PortMapping::tcp(80)]);
        let definition = definition(&[PortMapping::tcp(80)]);
        state.put(Row::TaskDefinition(Arc::new(TaskDefinition {
            network_mode: mode,
            ..definition
        })));
        assert_eq!(add(&mut state, "a").len(), count, "{mode:?}");
        // Reached at ports of the host alone, a task without a mode is a bridge's.
        let mut instance = ContainerInstance::clone(state.instances.values().next().unwrap());
        instance.address = Some([10, 0, 0, 1].into());
        state.put(Row::ContainerInstance(Arc::new(instance)));
        let count = if mode.is_none() { 1 } else { count };
        assert_eq!(add(&mut state, "b").len(), count, "{mode:?} with an address");
    }
}
