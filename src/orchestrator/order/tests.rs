//! Definitions with dependencies, what is shown of their containers, and the step that follows.
//!
//! Definition: `NAME[?][~START_TIMEOUT][<CONDITION:NAME,…] …`, `?` being dispensable; shown:
//! `NAME=created|running|healthy|unhealthy|exitN[@SECONDS since its start] …`; with an `@`
//! anywhere, all that is shown is on record already.

use std::time::Duration;

use super::super::step::{Facts, Record, Seen, Step, containers, next};
use super::*;
use crate::model::{Desired, Task, TaskStatus};

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn definition(text: &str) -> TaskDefinition {
    let container = |word: &str| {
        let (head, needs) = word.split_once('<').unwrap_or((word, ""));
        let (head, timeout) = head.split_once('~').unwrap_or((head, ""));
        let depends_on = needs.split(',').filter(|need| !need.is_empty()).map(|need| {
            let (condition, name) = need.split_once(':').unwrap();
            let condition = serde_json::from_value(condition.into()).unwrap();
            Dependency { container: name.to_owned(), condition }
        });
        ContainerDefinition {
            essential: !head.ends_with('?'),
            start_timeout: timeout.parse().ok().map(Duration::from_secs),
            depends_on: depends_on.collect(),
            ..ContainerDefinition::new(head.trim_end_matches('?'))
        }
    };
    TaskDefinition::new("d".into(), 1, text.split_whitespace().map(container).collect())
}

fn shown(text: &str) -> Vec<Observed> {
    let observed = |word: &str| {
        let (name, state) = word.split_once('=').unwrap();
        let state = state.split('@').next().unwrap();
        let health = match state {
            "healthy" => ContainerHealth::Healthy,
            "unhealthy" => ContainerHealth::Unhealthy,
            _ => ContainerHealth::Unknown,
        };
        let state = match state {
            "created" => ObservedState::Created,
            "running" | "healthy" | "unhealthy" => ObservedState::Running,
            exit => {
                let code = exit.strip_prefix("exit").unwrap().parse().ok();
                ObservedState::Exited { code, out_of_memory: false }
            }
        };
        let id = format!("id-{name}");
        Observed { health, ..Observed::new("t".into(), name.to_owned(), id, state, None) }
    };
    text.split_whitespace().map(observed).collect()
}

fn task(definition: &TaskDefinition, known: TaskStatus, text: &str) -> Task {
    let row = |container: &ContainerDefinition| {
        let mut row = Container::new(&container.name);
        let words = || text.split_whitespace().filter_map(|word| word.split_once('@'));
        let own = words().find(|(word, _)| word.split('=').next() == Some(&container.name));
        if let Some((_, age)) = own {
            row.status = ContainerStatus::Running;
            let age = Duration::from_secs(age.parse().unwrap());
            row.started_at = Some(Timestamp(NOW.0 - u64::try_from(age.as_micros()).unwrap()));
        }
        row
    };
    let stopping = known >= TaskStatus::Deactivating;
    Task {
        desired: if stopping { Desired::Stopped } else { Desired::Running },
        known,
        containers: definition.containers.iter().map(row).collect(),
        ..Task::new("t".into(), "c".into(), definition.key(), NOW)
    }
}

fn print(step: &Step) -> String {
    match step {
        Step::Record(Record::Die(stop)) => format!("die: {}", stop.whole()),
        Step::Record(record) => format!("{record:?}").to_lowercase(),
        Step::Create(name) => format!("create {name}"),
        Step::Start(name) => format!("start {name}"),
        Step::Stop(names) => format!("stop {}", names.join(" ")),
        Step::Wait(None) => "wait".to_owned(),
        Step::Wait(Some(until)) => format!("wait {} s", until.since(NOW).as_secs()),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn check(definition_text: &str, known: TaskStatus, shown_text: &str, expected: &str) {
    let definition = definition(definition_text);
    let (mut task, shown) = (task(&definition, known, shown_text), shown(shown_text));
    if shown_text.contains('@') {
        // All of it is on record.
        task.containers = containers(&task, Seen::Known(&shown), NOW);
    }
    let step = next(&task, &definition, Seen::Known(&shown), &Facts::default(), NOW);
    assert_eq!(print(&step), expected, "{definition_text} / {shown_text}");
}

fn up(definition: &str, shown: &str, expected: &str) {
    check(definition, TaskStatus::Pending, shown, expected);
}

#[test]
fn containers_are_made_after_those_they_need() {
    up("app<START:db db", "", "create db");
    up("app<START:db db", "db=created", "create app");
}

#[test]
fn start_waits_for_the_start_alone() {
    let two = "app<START:db db";
    up(two, "app=created db=created", "start db");
    up(two, "app=created db=running", "start app");
    up("app<START:init init?", "app=created init=exit1", "start app");
    up(two, "app=running db=running", "activate");
}

#[test]
fn complete_waits_for_the_end_and_success_for_a_good_one() {
    for condition in ["COMPLETE", "SUCCESS"] {
        let two = format!("app<{condition}:init init?");
        up(&two, "app=created init=created", "start init");
        up(&two, "app=created init=running", "containers");
        up(&two, "app=created init=running@3", "wait");
        up(&two, "app=created init=exit0", "start app");
        up(&two, "app=running init=exit0", "activate");
    }
    up("app<COMPLETE:init init?", "app=created init=exit3", "start app");
    up(
        "app<SUCCESS:init init?",
        "app=created init=exit3",
        "die: Task failed to start: app: TaskDependencyError: init ended with code 3 before it \
         was SUCCESS",
    );
}

#[test]
fn healthy_waits_for_the_check() {
    let two = "app<HEALTHY:db db";
    up(two, "app=created db=running@3", "wait");
    up(two, "app=created db=unhealthy@3", "wait");
    up(two, "app=created db=healthy@3", "start app");
    up(
        "app<HEALTHY:db db?",
        "app=created db=exit0@3",
        "die: Task failed to start: app: TaskDependencyError: db ended with code 0 before it was \
         HEALTHY",
    );
    // Only asked before the start.
    up(two, "app=running db=unhealthy@3", "activate");
}

#[test]
fn start_timeout_of_the_dependency_ends_the_wait() {
    let two = "app<HEALTHY:db db~10";
    up(two, "app=created db=running@3", "wait 7 s");
    up(
        two,
        "app=created db=running@10",
        "die: Task failed to start: app: TaskDependencyError: db took longer than its \
         startTimeout of 10 s before it was HEALTHY",
    );
    up(
        "app<HEALTHY:db,SUCCESS:init db~10 init?~5",
        "app=created db=running@3 init=running@3",
        "wait 2 s",
    );
    up("app<START:db db~10", "app=created db=running@11", "start app");
}

#[test]
fn independent_containers_start_while_others_wait() {
    up("app<SUCCESS:init init? log?", "app=created init=running log=created", "start log");
}

#[test]
fn containers_stop_after_those_that_need_them() {
    let down = |shown: &str, expected: &str| {
        check("db app<START:db log<HEALTHY:app", TaskStatus::Stopping, shown, expected);
    };
    down("db=running app=running log=running", "stop log");
    down("db=running app=running log=exit0", "stop app");
    down("db=running app=exit0 log=running", "stop log db");
    down("db=running app=exit0 log=exit0", "stop db");
    down("db=exit0 app=exit0 log=exit0", "to(deprovisioning)");
    check("a b c", TaskStatus::Stopping, "a=running b=running c=running", "stop c b a");
}
