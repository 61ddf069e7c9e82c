//! Situations in, instances out.
//!
//! `NAME [zone=Z] [cpu=N] [memory=N] [attribute=NAME:VALUE] [ports=N] [draining] [Silent]
//! [Docker]` an instance; `on NAME GROUP CPU [xN] [port=P] [stopping]` tasks that are there.

use std::sync::Arc;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Capacity, Container, ContainerDefinition, Desired, HOST_PORTS, HostPortRange, Membership,
    NetworkMode, PortMapping, Run, ServiceKey, TaskId,
};

type Tasks = BTreeMap<TaskId, Arc<Task>>;
type Definitions = BTreeMap<TaskDefinitionKey, Arc<TaskDefinition>>;
type Instances = BTreeMap<InstanceName, Arc<ContainerInstance>>;

fn field<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name))
}

fn number(words: &[&str], name: &str, otherwise: u32) -> u32 {
    field(words, name).map_or(otherwise, |text| text.parse().unwrap())
}

fn definition(cpu: u32, memory: u32, port: Option<u16>) -> TaskDefinition {
    let mut container = ContainerDefinition::new("app");
    container.command = vec!["run".to_owned()];
    container.port_mappings = port
        .map(|port| PortMapping { host_port: Some(port), ..PortMapping::tcp(80) })
        .into_iter()
        .collect();
    let revision = cpu + u32::from(port.unwrap_or_default());
    let definition = TaskDefinition::new("f".into(), revision, vec![container]);
    TaskDefinition { cpu: Some(cpu), memory_mib: Some(memory), ..definition }
}

fn instance(words: &[&str]) -> ContainerInstance {
    let kind = if words.contains(&"Docker") { InstanceKind::Docker } else { InstanceKind::Process };
    let capacity =
        Capacity { cpu: number(words, "cpu=", 1024), memory_mib: number(words, "memory=", 1024) };
    let mut row = ContainerInstance::new(words[0].into(), kind, Timestamp(0)).connected(capacity);
    row.zone = field(words, "zone=").unwrap_or("a").to_owned();
    let given = field(words, "attribute=").and_then(|pair| pair.split_once(':'));
    row.attributes.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let ports = u16::try_from(number(words, "ports=", 12_000)).unwrap();
    row.host_ports = HostPortRange { last: HOST_PORTS.first + ports - 1, ..HOST_PORTS };
    if words.contains(&"Silent") {
        row.contact = Contact::Silent;
    }
    let draining = words.contains(&"draining");
    row.memberships.insert("c".into(), Membership { draining, ..Membership::default() });
    row
}

fn situation(text: &str) -> State {
    let (mut tasks, mut definitions, mut instances) = <(Tasks, Definitions, Instances)>::default();
    for (line, text) in text.lines().enumerate() {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["on", name, group, cpu, rest @ ..] => {
                let port = field(rest, "port=").map(|port| port.parse().unwrap());
                let definition = definition(cpu.parse().unwrap(), 0, port);
                for copy in 0..number(rest, "x", 1) {
                    let id = format!("{line}-{copy}");
                    let task =
                        Task::new(id.as_str().into(), "c".into(), definition.key(), Timestamp(0));
                    let service = group.strip_prefix("service:");
                    let service =
                        service.map(|name| ServiceKey { cluster: "c".into(), name: name.into() });
                    let stopping = rest.contains(&"stopping");
                    let task = Task {
                        instance: (*name).into(),
                        desired: if stopping { Desired::Stopped } else { Desired::Running },
                        containers: vec![Container::new("app")],
                        run: service
                            .is_none()
                            .then(|| Run { group: (*group).to_owned(), ..Run::default() }),
                        service,
                        ..task
                    };
                    tasks.insert(task.id.clone(), Arc::new(task));
                }
                definitions.insert(definition.key(), Arc::new(definition));
            }
            words => {
                let row = instance(words);
                instances.insert(row.name.clone(), Arc::new(row));
            }
        }
    }
    let (tasks, definitions) = (Arc::new(tasks), Arc::new(definitions));
    State { tasks, definitions, instances: Arc::new(instances), ..State::default() }
}

/// `[strategies] [constraints]`: `random`, `spread:FIELD`, `binpack:FIELD`, `distinct`,
/// `member:EXPRESSION` with `_` for spaces.
fn launch(text: &str) -> Launch {
    let mut launch = Launch::default();
    for word in text.split_whitespace() {
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        match kind {
            "distinct" => launch.constraints.push(PlacementConstraint {
                kind: "distinctInstance".to_owned(),
                expression: None,
            }),
            "member" => launch.constraints.push(PlacementConstraint {
                kind: "memberOf".to_owned(),
                expression: Some(rest.replace('_', " ")),
            }),
            kind => launch.strategies.push(PlacementStrategy {
                kind: kind.to_owned(),
                field: (!rest.is_empty()).then(|| rest.to_owned()),
            }),
        }
    }
    launch.constraints.iter().for_each(|c| check_constraint(c).unwrap());
    launch.strategies.iter().for_each(|s| check_strategy(s).unwrap());
    launch
}

/// Where so many tasks of a group go, one after the other; an end that is none is told with why.
fn placed(text: &str, group: &str, how: &str, count: usize, size: &TaskDefinition) -> String {
    let state = situation(text);
    let (launch, cluster) = (launch(how), ClusterName::from("c"));
    let group = match group.strip_prefix("service:") {
        Some(name) => Group::Service(name),
        None => Group::Named(group),
    };
    let wanted = Wanted { cluster: &cluster, group, definition: size, launch: &launch };
    let (mut board, mut rng) = (Board::of(&state), fastrand::Rng::with_seed(1));
    let mut told = Vec::new();
    for _ in 0..count {
        match board.place(&wanted, None, &mut rng) {
            Ok(name) => told.push(name.to_string()),
            Err(unplaced) => {
                let why = unplaced.refusals.iter().map(|(name, why)| format!("{name}:{why:?}"));
                told.push(format!("no ({})", why.collect::<Vec<_>>().join(" ")));
                break;
            }
        }
    }
    told.join(" ")
}

#[track_caller]
fn check(text: &str, group: &str, how: &str, expected: &str) {
    let count = expected.split_once(" (").map_or(expected, |(before, _)| before);
    let count = count.split_whitespace().count();
    assert_eq!(placed(text, group, how, count, &definition(256, 256, None)), expected, "{how}");
}

const FOUR: &str = "a1 zone=a\na2 zone=a\nb1 zone=b\nb2 zone=b";

#[test]
fn services_are_spread_over_zones_then_over_instances() {
    check(FOUR, "service:web", "", "a1 b1 a2 b2 a1 b1");
    check("a1 zone=a\na2 zone=a\nb1 zone=b", "service:web", "", "a1 b1 a2 b1 a1 b1");
    // Those of others do not count.
    let text = &format!("{FOUR}\non a1 service:db 10 x3\non b1 service:web 10");
    check(text, "service:web", "", "a1 a2 b2");
}

#[test]
fn strategies_narrow_the_choice_down_one_after_the_other() {
    check(FOUR, "service:web", "spread:instanceId", "a1 a2 b1 b2 a1");
    check(FOUR, "service:web", "binpack:cpu", "a1 a1 a1 a1 a2 a2");
    check(FOUR, "service:web", "spread:attribute:ecs.availability-zone binpack:memory", {
        "a1 b1 a1 b1 a1 b1 a1 b1 a2 b2"
    });
    let text = "a1\na2 attribute=disk:ssd\na3 attribute=disk:ssd";
    check(text, "service:web", "spread:attribute:disk", "a1 a2 a3 a1");
    check("a1 cpu=512\na2 cpu=2048", "x", "binpack:CPU", "a1 a1 a2");
}

#[test]
fn chance_uses_every_instance() {
    let told = placed(FOUR, "x", "random", 16, &definition(256, 256, None));
    let mut names: Vec<&str> = told.split(' ').collect();
    assert_eq!(names.len(), 16);
    assert_ne!(names[..4], ["a1", "a2", "b1", "b2"]);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["a1", "a2", "b1", "b2"]);
    // Tasks that are run by hand go anywhere too.
    assert_eq!(placed(FOUR, "x", "", 16, &definition(256, 256, None)), told);
}

#[test]
fn constraints_bind() {
    let text = "a1 attribute=disk:ssd\na2\na3 attribute=disk:hdd";
    check(text, "service:web", "member:attribute:disk_exists", "a1 a3 a1");
    check(text, "service:web", "member:attribute:disk_==_nvme", {
        "no (a1:MemberOf a2:MemberOf a3:MemberOf)"
    });
    check(text, "service:web", "distinct", "a1 a2 a3 no (a1:Distinct a2:Distinct a3:Distinct)");
    // One that is to stop does not keep its place, one of another group has nothing to say.
    let busy = "a1\na2\non a1 service:web 1 stopping\non a2 service:db 1";
    check(busy, "service:web", "distinct", "a2 a1 no (a1:Distinct a2:Distinct)");
    check(busy, "service:web", "member:not(task:group_==_service:db)", "a1");
    check(busy, "x", "member:runningTasksCount_<_1", "a1");
    let mut own = definition(256, 256, None);
    own.placement_constraints = vec!["attribute:disk == hdd".to_owned()];
    assert_eq!(placed(text, "service:web", "", 2, &own), "a3 a3");
}

#[test]
fn nothing_is_given_twice() {
    check("a1 cpu=512\na2 cpu=300", "service:web", "", "a1 a2 a1 no (a1:Cpu a2:Cpu)");
    check("a1 memory=300", "service:web", "", "a1 no (a1:Memory)");
    // What is stopping still has it.
    check("a1 cpu=512\non a1 x 500 stopping", "service:web", "", "no (a1:Cpu)");
    let port = definition(1, 1, Some(8080));
    let two = "a1 Docker\na2 Docker";
    assert_eq!(placed(two, "service:web", "", 3, &port), "a1 a2 no (a1:Ports a2:Ports)");
    let taken = "a1 Docker\non a1 x 2 port=8080";
    assert_eq!(placed(taken, "service:web", "", 1, &port), "no (a1:Ports)");
    // Those that are to be chosen have to be there as well.
    let mut chosen = definition(1, 1, None);
    chosen.network_mode = Some(NetworkMode::Bridge);
    chosen.containers[0].port_mappings = vec![PortMapping::tcp(80)];
    let two = "a1 Docker ports=2";
    assert_eq!(placed(two, "service:web", "", 3, &chosen), "a1 a1 no (a1:Ports)");
    // Processes have an address each.
    assert_eq!(placed("a1", "service:web", "", 2, &port), "a1 a1");
}

#[test]
fn what_cannot_take_tasks_is_passed_over() {
    check("a1 draining\na2", "service:web", "", "a2 a2");
    check("a1 draining", "service:web", "", "no ()");
    check("a1 Silent\na2 cpu=1", "service:web", "", "no (a1:Agent a2:Cpu)");
    let mut image = definition(1, 1, None);
    image.containers[0].command.clear();
    image.containers[0].image = Some("web:1".to_owned());
    assert_eq!(placed("a1\na2 Docker", "service:web", "", 2, &image), "a2 a2");
    assert_eq!(placed("a1", "service:web", "", 1, &image), "no (a1:Attribute)");
}

#[test]
fn a_named_instance_is_asked_for_what_it_has_alone() {
    let state = situation("a1 draining cpu=300\na2 Silent\na3 attribute=x:y");
    let (launch, cluster) = (launch("member:attribute:x_exists"), ClusterName::from("c"));
    let definition = definition(256, 256, None);
    let group = Group::Named("x");
    let wanted = Wanted { cluster: &cluster, group, definition: &definition, launch: &launch };
    let mut board = Board::of(&state);
    let mut put = |name: &str| board.put(&wanted, &name.into());
    assert_eq!(put("a1"), Ok(()));
    assert_eq!(put("a1"), Err(Refusal::Cpu));
    assert_eq!(put("a2"), Err(Refusal::Agent));
}

#[test]
fn the_closest_is_the_one_that_had_almost_everything() {
    let of = |refusals: &[(&str, Refusal)]| {
        let refusals = refusals.iter().map(|(name, why)| ((*name).into(), *why)).collect();
        Unplaced { refusals }.closest().map(|(name, _)| name.to_string())
    };
    assert_eq!(of(&[]), None);
    let all = [("a", Refusal::Agent), ("b", Refusal::Memory), ("c", Refusal::Cpu)];
    assert_eq!(of(&all).as_deref(), Some("b"));
    assert_eq!(of(&[("a", Refusal::Cpu), ("b", Refusal::Cpu)]).as_deref(), Some("a"));
}

#[test]
fn strategies_and_constraints_that_make_no_sense_are_refused() {
    let strategy = |kind: &str, field: Option<&str>| {
        let field = field.map(str::to_owned);
        check_strategy(&PlacementStrategy { kind: kind.to_owned(), field }).unwrap_err()
    };
    assert_eq!(strategy("random", Some("cpu")), "the strategy random has no field");
    let told = "spread goes by instanceId, host or attribute:NAME, not by \"cpu\"";
    assert_eq!(strategy("spread", Some("cpu")), told);
    assert_eq!(strategy("binpack", None), "binpack goes by cpu or memory, not by \"\"");
    assert_eq!(strategy("best", None), "\"best\" is no strategy (random, spread, binpack)");
    let constraint = |kind: &str, expression: Option<&str>| {
        let expression = expression.map(str::to_owned);
        check_constraint(&PlacementConstraint { kind: kind.to_owned(), expression }).unwrap_err()
    };
    let told = "an expression belongs to placement constraints of type memberOf alone";
    assert_eq!(constraint("memberOf", None), told);
    assert_eq!(constraint("distinctInstance", Some("x")), told);
    let told = "Invalid expression \"attribute:a\": an operator is missing at character 12";
    assert_eq!(constraint("memberOf", Some("attribute:a")), told);
    assert_eq!(constraint("x", None), "\"x\" is no constraint (memberOf, distinctInstance)");
}
