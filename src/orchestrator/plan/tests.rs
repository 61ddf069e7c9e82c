//! Situations in, moves out.
//!
//! One line per thing. `service web 3 100/200 [lb] [grace=S] [draining] [rev=N] [fails=N until=S]
//! [breaker] [rollback] [stopped=N] [keep] [daemon] [rebalancing]`, `deployment N rev [done]
//! [failed] [failures=N] [back=N]` (the first one named is PRIMARY; `ended` ones have no task),
//! `task ID dN STATUS [HEALTH] [for=ID] [age=S] [stopping] [fresh] [protected=S] [on=INSTANCE]
//! [rebalances]`, `instance NAME …` (without any there is `local`). Times are seconds; it is second
//! 10,000.

use std::sync::Arc;
use std::time::Duration;

use self::instances::instance;
use super::*;
use crate::model::*;
use crate::state::{Quarantine, Row, Store, StoreError};

const NOW: u64 = 10_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

mod addresses;
mod gradual;
mod instances;
mod rollout;
mod standalone;

fn field<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name))
}

fn seconds(words: &[&str], name: &str, otherwise: u64) -> u64 {
    field(words, name).map_or(otherwise, |text| text.parse().unwrap())
}

fn web() -> ServiceKey {
    ServiceKey { cluster: "c".into(), name: "web".into() }
}

fn revision(revision: u32) -> TaskDefinitionKey {
    TaskDefinitionKey { family: "web".into(), revision }
}

fn groups(lb: bool) -> Vec<ServiceTargetGroup> {
    let group = ServiceTargetGroup { group: "g".into(), container_port: 80, pair: None };
    if lb { vec![group] } else { Vec::new() }
}

fn service(words: &[&str], rows: &mut Vec<Row>) -> Progress {
    let (min, max) = words[3].split_once('/').unwrap();
    let status =
        if words.contains(&"draining") { ServiceStatus::Draining } else { ServiceStatus::Active };
    let definition = revision(u32::try_from(seconds(words, "rev=", 1)).unwrap());
    rows.push(Row::from(Service {
        desired_count: words[2].parse().unwrap(),
        load_balancers: groups(words.contains(&"lb")),
        minimum_healthy_percent: min.parse().unwrap(),
        maximum_percent: max.parse().unwrap(),
        health_check_grace_period: Duration::from_secs(seconds(words, "grace=", 0)),
        status,
        options: ServiceOptions {
            forced: seconds(words, "forced=", 0),
            stopped: field(words, "stopped=").map(Into::into),
            rebalancing: words.contains(&"rebalancing"),
            ..ServiceOptions::default()
        },
        policy: ServicePolicy {
            daemon: words.contains(&"daemon"),
            breaker: Breaker {
                enabled: words.contains(&"breaker"),
                rollback: words.contains(&"rollback"),
                ..Breaker::default()
            },
            replaces_unready: !words.contains(&"keep"),
            ..ServicePolicy::default()
        },
        ..Service::new(web(), definition, Owner::File, at(0))
    }));
    Progress {
        backoff: Backoff {
            failures: u32::try_from(seconds(words, "fails=", 0)).unwrap(),
            failed_at: None,
            until: field(words, "until=").map(|text| at(text.parse().unwrap())),
            reason: None,
        },
        steady: words.contains(&"steady"),
        ..Progress::new(web())
    }
}

fn deployment(words: &[&str], lb: bool) -> Deployment {
    let is_failed = words.contains(&"failed");
    let rollout = match (words.contains(&"done"), is_failed) {
        (true, _) => Rollout::Completed,
        (_, true) => Rollout::Failed,
        _ => Rollout::InProgress,
    };
    Deployment {
        id: words[1].into(),
        definition: revision(words[2].parse().unwrap()),
        load_balancers: groups(lb),
        discovery: None,
        rollout,
        launch: Launch::default(),
        forced: 0,
        failed_tasks: 0,
        failures: u32::try_from(seconds(words, "failures=", 0)).unwrap(),
        created_at: at(0),
        completed_at: (rollout != Rollout::InProgress).then_some(at(0)),
        failure: is_failed.then_some(Failure::TasksFailed),
        rollback: None,
        back_from: field(words, "back=").map(Into::into),
        proven: words.contains(&"proven"),
        strategy: Strategy::default(),
        alternate: false,
        shift: None,
        baking_since: None,
        ignored_alarms: Vec::new(),
    }
}

fn task(words: &[&str], lb: bool, number: u64, rows: &mut Vec<Row>) {
    let known = match words[3] {
        "PENDING" => TaskStatus::Pending,
        "RUNNING" => TaskStatus::Running,
        "STOPPED" => TaskStatus::Stopped,
        other => panic!("{other}"),
    };
    let stopping = words.contains(&"stopping") || known == TaskStatus::Stopped;
    let since = at(NOW - seconds(words, "age=", 1000));
    let id: TaskId = words[1].into();
    rows.push(Row::from(Task {
        service: Some(web()),
        instance: field(words, "on=").unwrap_or("local").into(),
        deployment: Some(words[2].into()),
        desired: if stopping { Desired::Stopped } else { Desired::Running },
        known,
        replaces: field(words, "for=").map(Into::into),
        rebalances: words.contains(&"rebalances"),
        started_at: (known == TaskStatus::Running).then_some(since),
        stopped_at: (known == TaskStatus::Stopped).then_some(since),
        healthy_at: (!words.contains(&"fresh")).then_some(since),
        protected_until: field(words, "protected=")
            .map(|text| at(NOW + text.parse::<u64>().unwrap())),
        ..Task::new(id.clone(), "c".into(), revision(1), since + Duration::from_millis(number))
    }));
    if known != TaskStatus::Running || !lb || words.contains(&"unregistered") {
        return;
    }
    let target = RegistrationId(number);
    let registration = if stopping || words.contains(&"deregistered") {
        Registration::Draining { since }
    } else {
        Registration::Active
    };
    rows.push(Row::from(Target {
        id: target,
        group: "g".into(),
        address: "127.64.0.1".parse().unwrap(),
        port: 80,
        task: Some(id),
        registration,
        registered_at: since,
    }));
    let state = match words.get(4) {
        Some(&"healthy") => VerdictState::Healthy,
        Some(&"unhealthy") => VerdictState::Unhealthy,
        _ => return,
    };
    let description = "Health checks failed with these codes: [503]".to_owned();
    let verdict = Verdict { target, state, reason: None, description, since };
    rows.push(Row::from(verdict));
}

fn situation(text: &str) -> State {
    let mut state = State::default();
    let mut rows = vec![
        Row::from(Cluster::new("c".into(), Owner::File)),
        Row::from(TargetGroup::new("g".into(), "0".repeat(16), (Protocol::Http, 80), Owner::File)),
    ];
    if !text.contains("instance ") {
        rows.push(Row::from(instance(&["instance", "local"])));
    }
    for number in 1..=3 {
        rows.push(Row::from(TaskDefinition::new("web".into(), number, Vec::new())));
    }
    let (mut progress, mut lb) = (None, false);
    for (number, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "service" => {
                lb = words.contains(&"lb");
                progress = Some(service(&words, &mut rows));
            }
            "deployment" => {
                let (progress, new) = (progress.as_mut().unwrap(), deployment(&words, lb));
                if words.contains(&"ended") {
                    progress.ended.push(new);
                } else {
                    progress.deployments.push(new);
                }
            }
            "task" => task(&words, lb, number as u64, &mut rows),
            "instance" => rows.push(Row::from(instance(&words))),
            "quarantine" => rows.push(Row::from(Quarantine {
                address: words[1].parse().unwrap(),
                until: at(words[2].parse().unwrap()),
            })),
            other => panic!("{other}"),
        }
    }
    if let Some(progress) = progress.filter(|progress| !progress.deployments.is_empty()) {
        rows.push(Row::from(progress));
    }
    for row in rows {
        put(&mut state, row);
    }
    state
}

/// Rows get into a State only through the store; a test needs no store to look at one.
fn put(state: &mut State, row: Row) {
    match row {
        Row::Cluster(row) => drop(Arc::make_mut(&mut state.clusters).insert(row.name.clone(), row)),
        Row::Service(row) => drop(Arc::make_mut(&mut state.services).insert(row.key.clone(), row)),
        Row::Progress(row) => {
            drop(Arc::make_mut(&mut state.progress).insert(row.service.clone(), row));
        }
        Row::Task(row) => drop(Arc::make_mut(&mut state.tasks).insert(row.id.clone(), row)),
        Row::TargetGroup(row) => {
            drop(Arc::make_mut(&mut state.target_groups).insert(row.name.clone(), row));
        }
        Row::Target(row) => drop(Arc::make_mut(&mut state.targets).insert(row.id, row)),
        Row::Verdict(row) => drop(Arc::make_mut(&mut state.verdicts).insert(row.target, row)),
        Row::TaskDefinition(row) => {
            drop(Arc::make_mut(&mut state.definitions).insert(row.key(), row));
        }
        Row::ContainerInstance(row) => {
            drop(Arc::make_mut(&mut state.instances).insert(row.name.clone(), row));
        }
        Row::Quarantine(row) => drop(Arc::make_mut(&mut state.quarantine).insert(row.address, row)),
        other => panic!("{other:?}"),
    }
}

fn planned(text: &str, leaving: bool) -> (State, Plan) {
    let state = situation(text);
    let settings = Settings { stopped_kept: 2, ..Settings::default() };
    let avoid = BTreeSet::new();
    let view = View {
        state: &state,
        settings: &settings,
        leaving,
        avoid: &avoid,
        heard: &BTreeMap::new(),
    };
    let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
    (state, plan)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn check(text: &str, expected: &str) {
    let (_, plan) = planned(text, false);
    let moves: Vec<String> = plan.moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, lines(expected), "in the situation\n{text}");
}

fn check_events(text: &str, expected: &str) {
    let (_, plan) = planned(text, false);
    let mut messages: Vec<String> = plan.events.into_iter().map(|event| event.message).collect();
    for message in &mut messages {
        for step in plan.moves.iter() {
            if let Move::Start(task) = step {
                *message = message.replace(task.id.as_str(), "NEW");
            }
        }
    }
    assert_eq!(messages, lines(expected), "in the situation\n{text}");
}

#[test]
fn new_service_opens_a_deployment_and_starts_what_is_desired() {
    check("service web 2 100/200", "open web web:1\nstart web:1\nstart web:1");
    check("service web 0 100/200", "open web web:1");
}

#[test]
fn scale_out_starts_what_is_missing() {
    check(
        "service web 3 100/200 lb steady\n deployment 1 1 done\n task a 1 RUNNING healthy",
        "start web:1\nstart web:1\nunsteady web",
    );
}

#[test]
fn scale_in_stops_those_not_running_first_and_the_newest_then() {
    let tasks = "deployment 1 1 done\n task a 1 RUNNING healthy\n task b 1 RUNNING initial
                 task c 1 RUNNING healthy\n task d 1 PENDING";
    let stop = |count| format!("service web {count} 100/200 lb steady\n{tasks}");
    check(&stop(3), "stop d: scale-in\nunsteady web");
    check(&stop(2), "stop d: scale-in\nstop b: scale-in");
    check(&stop(1), "stop d: scale-in\nstop b: scale-in\nstop c: scale-in");
    check(&stop(0), "stop d: scale-in\nstop b: scale-in\nstop c: scale-in\nstop a: scale-in");
}

#[test]
fn steady_state_and_the_rollout_s_end_are_announced_once() {
    let tasks = "task a 1 RUNNING healthy";
    check(
        &format!("service web 1 100/200 lb\n deployment 1 1\n {tasks}"),
        "complete web\nsteady web",
    );
    check(&format!("service web 1 100/200 lb steady\n deployment 1 1 done\n {tasks}"), "");
    check_events(
        &format!(
            "service web 1 100/200 lb\n deployment ecs-svc/7 1\n {}",
            "task a ecs-svc/7 RUNNING healthy"
        ),
        "(service web) (deployment ecs-svc/7) deployment completed.
         (service web) has reached a steady state.",
    );
}

#[test]
fn dead_task_is_replaced_and_a_stopping_one_not_counted() {
    check(
        "service web 2 100/200 steady\n deployment 1 1 done\n task a 1 RUNNING
         task b 1 RUNNING stopping\n task c 1 STOPPED age=9",
        "start web:1\nunsteady web",
    );
}

#[test]
fn rolling_deployment_starts_new_tasks_before_it_stops_old_ones() {
    let old = "deployment 2 2\n deployment 1 1 done\n task a 1 RUNNING healthy
               task b 1 RUNNING healthy";
    let with = |new: &str| format!("service web 2 100/200 rev=2 lb\n{old}\n{new}");
    check(
        "service web 2 100/200 rev=2 lb steady\n deployment 1 1 done\n task a 1 RUNNING healthy
         task b 1 RUNNING healthy",
        "open web web:2\nstart web:2\nstart web:2",
    );
    check(&with(""), "start web:2\nstart web:2");
    check(&with("task c 2 PENDING\n task d 2 PENDING"), "");
    check(&with("task c 2 RUNNING initial\n task d 2 PENDING"), "");
    check(&with("task c 2 RUNNING healthy\n task d 2 PENDING"), "stop a: deployment");
    check(
        &with("task c 2 RUNNING healthy\n task d 2 RUNNING healthy"),
        "stop a: deployment\nstop b: deployment\ncomplete web\nsteady web",
    );
    check(
        "service web 1 100/200 rev=2 lb\n deployment 2 2\n deployment 1 1 done
         task a 1 RUNNING stopping\n task c 2 RUNNING healthy",
        "complete web\nsteady web",
    );
    check(
        "service web 1 100/200 rev=2 lb steady\n deployment 2 2 done\n deployment 1 1 done
         task a 1 STOPPED age=9\n task c 2 RUNNING healthy",
        "close web 1",
    );
}

#[test]
fn percentages_round_as_ecs_rounds_them() {
    // lower = ceil(3 * 50 %) = 2, upper = floor(3 * 150 %) = 4.
    let old = "deployment 2 2\n deployment 1 1 done\n task a 1 RUNNING healthy
               task b 1 RUNNING healthy\n task c 1 RUNNING healthy";
    check(
        &format!("service web 3 50/150 rev=2 lb\n{old}"),
        "stop a: deployment\nstart web:2\nstart web:2",
    );
    // upper = floor(3 * 133 %) = 3: no room but what the minimum frees.
    check(&format!("service web 3 66/133 rev=2 lb\n{old}"), "stop a: deployment\nstart web:2");
    check(&format!("service web 3 67/133 rev=2 lb\n{old}"), "");
    check(
        &format!("service web 3 0/100 rev=2 lb\n{old}"),
        "stop a: deployment\nstop b: deployment\nstop c: deployment
         start web:2\nstart web:2\nstart web:2",
    );
}

#[test]
fn deployment_that_can_neither_start_nor_stop_says_so_once() {
    let stuck = "service web 1 100/100 rev=2 lb\n deployment 2 2\n deployment 1 1 done
                 task a 1 RUNNING healthy";
    check(stuck, "");
    check_events(
        stuck,
        "(service web) was unable to stop or start tasks during a deployment because of the \
         service deployment configuration. Update the minimumHealthyPercent or maximumPercent \
         value and try again.",
    );
}

#[test]
fn old_tasks_that_serve_badly_do_not_block_the_new_ones() {
    check(
        "service web 2 100/100 rev=2 lb\n deployment 2 2\n deployment 1 1 done
         task a 1 RUNNING unhealthy\n task b 1 RUNNING unhealthy",
        "stop a: deployment\nstop b: deployment\nstart web:2\nstart web:2",
    );
    // With room they go on until something better is there: the group fails open to them.
    check(
        "service web 1 100/200 rev=2 lb\n deployment 2 2\n deployment 1 1 done
         task a 1 RUNNING unhealthy",
        "start web:2",
    );
    check(
        "service web 1 100/200 rev=2 lb\n deployment 2 2\n deployment 1 1 done
         task a 1 PENDING",
        "stop a: deployment\nstart web:2",
    );
}

#[test]
fn unhealthy_task_is_replaced_replacement_first() {
    let with = |tasks: &str| format!("service web 2 100/200 lb\n deployment 1 1 done\n{tasks}");
    let two = "task a 1 RUNNING healthy\n task b 1 RUNNING unhealthy";
    check(&with(two), "start web:1 for b");
    check(&with(&format!("{two}\n task r 1 PENDING for=b")), "");
    check(&with(&format!("{two}\n task r 1 RUNNING initial for=b")), "");
    check(
        &with(&format!("{two}\n task r 1 RUNNING healthy for=b")),
        "stop b: unhealthy\nsteady web",
    );
    // Both bad: the newer one goes, and another is tried.
    check(
        &with(&format!("{two}\n task r 1 RUNNING unhealthy for=b")),
        "stop r: unhealthy\nstart web:1 for b",
    );
    // It recovered: the replacement is one too many.
    check(
        &with("task a 1 RUNNING healthy\n task b 1 RUNNING healthy\n task r 1 PENDING for=b"),
        "stop r: scale-in\nsteady web",
    );
    check_events(
        &with(two),
        "(service web) (task b) (port 80) is unhealthy in (target-group \
         arn:aws:elasticloadbalancing:local:000000000000:targetgroup/g/0000000000000000) due to \
         (reason Health checks failed with these codes: [503]).
         (service web) has started 1 tasks: (task NEW).",
    );
}

#[test]
fn of_many_unhealthy_tasks_one_goes_per_healthy_replacement() {
    check(
        "service web 3 100/200 lb\n deployment 1 1 done
         task a 1 RUNNING unhealthy\n task b 1 RUNNING unhealthy\n task c 1 RUNNING unhealthy
         task x 1 RUNNING healthy for=a\n task y 1 PENDING for=b\n task z 1 PENDING for=c",
        "stop a: unhealthy",
    );
}

#[test]
fn unhealthy_task_goes_first_one_at_a_time_where_the_maximum_says_so() {
    let with = |tasks: &str| format!("service web 2 100/100 lb\n deployment 1 1 done\n{tasks}");
    let (_, plan) =
        planned(&with("task a 1 RUNNING unhealthy\n task b 1 RUNNING unhealthy"), false);
    assert_eq!(plan.moves.len(), 1, "{plan:?}");
    check(&with("task a 1 RUNNING unhealthy\n task b 1 PENDING"), "");
    check(&with("task a 1 RUNNING unhealthy\n task b 1 RUNNING initial"), "");
    check(&with("task a 1 RUNNING unhealthy\n task b 1 RUNNING healthy"), "stop a: unhealthy");
    check(&with("task b 1 RUNNING healthy"), "start web:1");
}

#[test]
fn grace_period_spares_an_unhealthy_task_until_it_ends() {
    let text =
        "service web 1 100/200 lb grace=60\n deployment 1 1 done\n task a 1 RUNNING unhealthy";
    let (_, plan) = planned(&format!("{text} age=20"), false);
    assert!(plan.moves.is_empty(), "{plan:?}");
    assert_eq!(plan.revisit, Some(at(NOW + 40)));
    check(&format!("{text} age=60"), "start web:1 for a");
}

#[test]
fn registration_taken_away_makes_its_task_unhealthy() {
    let with = |word: &str| {
        format!("service web 1 100/200 lb\n deployment 1 1 done\n task a 1 RUNNING healthy {word}")
    };
    check(&with("deregistered"), "start web:1 for a");
    check(&with("unregistered"), "start web:1 for a");
}

#[test]
fn failures_hold_back_starts_until_their_time() {
    let text = "service web 2 100/200 fails=4";
    let (_, plan) = planned(&format!("{text} until=10007\n deployment 1 1"), false);
    assert!(plan.moves.is_empty(), "{plan:?}");
    assert_eq!(plan.revisit, Some(at(10_007)));
    check_events(
        &format!("{text} until=10007\n deployment 1 1"),
        "(service web) is unable to consistently start tasks successfully.",
    );
    check(&format!("{text} until=10000\n deployment 1 1"), "start web:1\nstart web:1");
    // A new deployment does not wait for what the old one failed at.
    check(
        &format!("{text} until=10007 rev=2\n deployment 1 1"),
        "open web web:2\nstart web:2\nstart web:2",
    );
}

#[test]
fn failures_are_forgotten_once_a_task_has_lasted() {
    let with = |age: u64, until: u64| {
        format!(
            "service web 1 100/200 fails=4 steady until={until}\n deployment 1 1 done
             task a 1 RUNNING healthy age={age}"
        )
    };
    check(&with(600, 9_400), "calm web");
    check(&with(599, 9_300), "");
    check(&with(700, 9_401), "");
}

#[test]
fn deleted_service_stops_its_tasks_and_vanishes_with_the_last() {
    let text = "service web 2 100/200 draining\n deployment 1 1 done";
    check(
        &format!("{text}\n task a 1 RUNNING\n task b 1 PENDING"),
        "stop a: deleted\nstop b: deleted",
    );
    check(&format!("{text}\n task a 1 RUNNING stopping"), "");
    check(&format!("{text}\n task a 1 STOPPED age=9"), "forget service web");
}

#[test]
fn tasks_of_a_service_that_is_not_there_are_stopped() {
    check("task a 1 RUNNING", "stop a: deleted");
}

#[test]
fn leaving_stops_everything_and_starts_nothing() {
    let (_, plan) = planned(
        "service web 3 100/200\n deployment 1 1\n task a 1 RUNNING\n task b 1 PENDING",
        true,
    );
    let moves: Vec<String> = plan.moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, ["stop a: leaving", "stop b: leaving"]);
}

#[test]
fn stopped_tasks_are_kept_for_their_time_and_number() {
    let service = "service web 0 100/200 steady\n deployment 1 1 done";
    check(
        &format!(
            "{service}\n task a 1 STOPPED age=30\n task b 1 STOPPED age=50
             task c 1 STOPPED age=40"
        ),
        "forget task b",
    );
    let (_, plan) = planned(&format!("{service}\n task a 1 STOPPED age=3599"), false);
    assert_eq!((plan.moves.len(), plan.revisit), (0, Some(at(NOW + 1))));
    check(&format!("{service}\n task a 1 STOPPED age=3600"), "forget task a");
}

#[tokio::test(start_paused = true)]
async fn plan_applied_wants_nothing_more() {
    let store = Store::memory(&Default::default()).unwrap();
    let rows: Vec<Row> = situation("service web 3 100/200 lb").rows().collect();
    let put = move |tx: &mut crate::state::Tx<'_>| {
        for row in rows {
            tx.put(row);
        }
        Ok::<_, StoreError>(())
    };
    store.update(put).await.unwrap();
    let again = |state: &State| {
        let (settings, avoid) = (Settings::default(), BTreeSet::new());
        let view = View {
            state,
            settings: &settings,
            leaving: false,
            avoid: &avoid,
            heard: &BTreeMap::new(),
        };
        plan(view, at(NOW), &mut fastrand::Rng::with_seed(1))
    };
    let first = again(&store.read());
    assert_eq!(first.moves.len(), 4);
    let written = store
        .update(move |tx| {
            crate::orchestrator::apply::apply(tx, &first, &Settings::default(), at(NOW));
            Ok::<_, StoreError>(())
        })
        .await;
    written.unwrap();
    let second = again(&store.read());
    assert!(second.is_empty(), "{second:?}");
    assert_eq!(store.read().progress[&web()].events.len(), 1);
}
