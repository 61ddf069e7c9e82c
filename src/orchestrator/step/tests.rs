//! A task, what the runtime shows, and the step that follows.
//!
//! Task: `STATUS [stopping] [NAME=status …]`; runtime: `? | NAME=created|running|exitN|oom …`; the
//! definition has the essential `app` and the dispensable `log`.

use super::*;
use crate::model::{ContainerDefinition, RestartPolicy, TaskId};

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn definition() -> TaskDefinition {
    let container =
        |name: &str, essential| ContainerDefinition { essential, ..ContainerDefinition::new(name) };
    let containers = vec![container("app", true), container("log", false)];
    TaskDefinition::new("web".into(), 1, containers)
}

fn task(text: &str) -> Task {
    let words: Vec<&str> = text.split_whitespace().collect();
    let all = [
        TaskStatus::Provisioning,
        TaskStatus::Pending,
        TaskStatus::Activating,
        TaskStatus::Running,
        TaskStatus::Deactivating,
        TaskStatus::Stopping,
        TaskStatus::Deprovisioning,
        TaskStatus::Stopped,
    ];
    let container = |name: &str| Container {
        status: match words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('=')) {
            None => ContainerStatus::None,
            Some("running") => ContainerStatus::Running,
            Some("stopped") => ContainerStatus::Stopped,
            Some(other) => panic!("{other}"),
        },
        ..Container::new(name)
    };
    Task {
        desired: if words.contains(&"stopping") { Desired::Stopped } else { Desired::Running },
        known: all.into_iter().find(|status| status.as_str() == words[0]).unwrap(),
        containers: vec![container("app"), container("log")],
        ..Task::new("t".into(), "c".into(), definition().key(), NOW)
    }
}

fn shown(text: &str) -> Option<Vec<Observed>> {
    let observed = |word: &str| {
        let (name, state) = word.split_once('=').unwrap();
        let state = match state {
            "created" => ObservedState::Created,
            "running" => ObservedState::Running,
            "oom" => ObservedState::Exited { code: Some(137), out_of_memory: true },
            exit => {
                let code = exit.strip_prefix("exit").unwrap().parse().ok();
                ObservedState::Exited { code, out_of_memory: false }
            }
        };
        Observed::new(TaskId::from("t"), name.to_owned(), format!("id-{name}"), state, None)
    };
    (text != "?").then(|| text.split_whitespace().map(observed).collect())
}

fn print(step: &Step) -> String {
    match step {
        Step::Record(Record::To(status)) => format!("to {}", status.as_str()),
        Step::Record(Record::Die(stop)) => format!("die {}: {}", stop.code.as_str(), stop.whole()),
        Step::Record(record) => format!("{record:?}").to_lowercase(),
        Step::Create(name) => format!("create {name}"),
        Step::Start(name) => format!("start {name}"),
        Step::Stop(names) => format!("stop {}", names.join(" ")),
        Step::Remove(names) => format!("remove {}", names.join(" ")),
        Step::Wait(None) => "wait".to_owned(),
        Step::Wait(Some(until)) => format!("wait {} ms", until.since(NOW).as_millis()),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn with(task_text: &str, seen_text: &str, facts: &Facts, expected: &str) {
    let shown = shown(seen_text);
    let seen = shown.as_deref().map_or(Seen::Unknown, Seen::Known);
    let step = next(&task(task_text), &definition(), seen, facts, NOW);
    assert_eq!(print(&step), expected, "{task_text} / {seen_text}");
}

fn check(task_text: &str, seen_text: &str, expected: &str) {
    with(task_text, seen_text, &Facts::default(), expected);
}

#[test]
fn task_comes_up_container_by_container() {
    check("PROVISIONING", "?", "begin");
    check("PENDING", "?", "look");
    check("PENDING", "", "create app");
    check("PENDING", "app=created", "create log");
    check("PENDING", "app=created log=created", "start app");
    check("PENDING", "app=running log=created", "start log");
    check("PENDING", "app=running log=running", "activate");
    check("ACTIVATING app=running log=running", "app=running log=running", "to RUNNING");
    check("ACTIVATING app=running log=running", "?", "to RUNNING");
    check("RUNNING app=running log=running", "?", "wait");
}

#[test]
fn task_without_an_address_is_not_registered() {
    let facts = Facts { registers: true, ..Facts::default() };
    with("PENDING", "app=running log=running", &facts, "look");
}

#[test]
fn essential_container_s_end_ends_the_task() {
    let running = "RUNNING app=running log=running";
    check(
        running,
        "app=exit3 log=running",
        "die EssentialContainerExited: Essential container in task exited: app (exit code 3)",
    );
    check(
        running,
        "app=oom log=running",
        "die EssentialContainerExited: Essential container in task exited: app \
         (OutOfMemoryError: Container killed due to memory usage)",
    );
    check(
        running,
        "log=running",
        "die EssentialContainerExited: Essential container in task exited: app \
         (ContainerVanishedError: the runtime no longer has this container)",
    );
    check(
        "PENDING",
        "app=exit1 log=created",
        "die TaskFailedToStart: Task failed to start: app: essential container exited \
         (exit code 1)",
    );
    check(
        "ACTIVATING app=running log=running",
        "app=exit log=running",
        "die TaskFailedToStart: Task failed to start: app: essential container exited \
         (exit code unknown)",
    );
}

#[test]
fn dispensable_container_s_end_is_only_recorded() {
    let both = "app=running log=exit0";
    check("RUNNING app=running log=running", both, "containers");
    check("PENDING", both, "activate");
    // Removed from outside after it had ended: not made again.
    check("PENDING log=stopped", "app=running", "activate");
}

#[test]
fn container_that_cannot_be_started_fails_the_task() {
    let failure = Some(("app".to_owned(), "CannotStartContainerError: no such file".to_owned()));
    let facts = Facts { failure, ..Facts::default() };
    with(
        "PENDING",
        "app=created log=created",
        &facts,
        "die TaskFailedToStart: Task failed to start: app: CannotStartContainerError: no such file",
    );
    with("PENDING stopping", "app=created", &facts, "deregister");
}

#[test]
fn every_stop_begins_with_the_registrations() {
    for status in ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"] {
        check(&format!("{status} stopping"), "app=running log=running", "deregister");
        check(&format!("{status} stopping"), "?", "deregister");
    }
}

fn drain(acknowledged: bool, in_flight: i64, cached_ms: u64, deadline_ms: u64) -> Facts {
    let at = |ms| Timestamp(NOW.0 + ms * 1000);
    let (cached_until, deadline) = (at(cached_ms), at(deadline_ms));
    let forgotten_at = at((cached_ms.max(deadline_ms) + 2_000) * u64::from(cached_ms > 0));
    let drain = Drain {
        acknowledged,
        in_flight,
        cached_until,
        deadline,
        silent_until: at(1),
        forgotten_at,
        registered: true,
    };
    Facts { drain, ..Facts::default() }
}

#[test]
fn drain_waits_for_the_data_threads_the_exchanges_and_the_caches() {
    let (no, yes) = (false, true);
    let check = |facts: &Facts, expected: &str| {
        let task = "DEACTIVATING stopping app=running log=running";
        with(task, "app=running log=running", facts, expected);
        with(task, "?", facts, expected);
    };
    check(&drain(no, 0, 0, 300_000), "acknowledge");
    check(&drain(yes, 2, 0, 300_000), "wait 10 ms");
    check(&drain(yes, 2, 0, 4), "wait 4 ms");
    check(&drain(yes, 0, 5_000, 300_000), "wait 5000 ms");
    check(&drain(yes, 0, 0, 300_000), "to STOPPING");
    // The shortest delay cuts what runs; who has not heard of it yet is waited for.
    check(&drain(yes, 9, 0, 0), "to STOPPING");
    check(&drain(no, 9, 0, 0), "acknowledge");
    let mut silent = drain(no, 9, 0, 0);
    silent.drain.silent_until = NOW;
    check(&silent, "to STOPPING");
    // Caches outlast the delay; a thread that says nothing may have told the name until its end.
    check(&drain(yes, 0, 5_000, 0), "wait 5000 ms");
    check(&drain(yes, 0, 5_000, 4_000), "wait 5000 ms");
    check(&drain(no, 0, 5_000, 0), "acknowledge");
}

#[test]
fn dead_task_is_not_drained() {
    let facts = drain(false, 3, 5_000, 300_000);
    let task = "DEACTIVATING stopping app=running log=running";
    with(task, "app=exit1 log=running", &facts, "to STOPPING");
    with(task, "", &facts, "to STOPPING");
    with("DEACTIVATING stopping app=stopped", "?", &facts, "to STOPPING");
    with("DEACTIVATING stopping", "app=created", &facts, "to STOPPING");
}

#[test]
fn task_goes_down_and_nothing_is_concluded_from_silence() {
    check("STOPPING stopping", "?", "look");
    check("STOPPING stopping", "app=running log=running", "stop log app");
    check("STOPPING stopping", "app=exit0 log=running", "stop log");
    check("STOPPING stopping", "app=exit0 log=exit0", "to DEPROVISIONING");
    check("DEPROVISIONING stopping", "?", "look");
    check("DEPROVISIONING stopping", "app=exit0 log=exit0", "remove app log");
    check("DEPROVISIONING stopping", "app=running", "stop app");
    check("DEPROVISIONING stopping", "", "finish");
    check("STOPPED stopping", "app=running", "end");
}

/// The essential container's policy (`CODES PERIOD`), its last start so many seconds ago, and what
/// is shown.
fn restarts(policy: &str, age: u64, task_text: &str, seen: &str, expected: &str) {
    let (codes, period) = policy.split_once(' ').unwrap();
    let mut definition = definition();
    definition.containers[0].restart_policy = Some(RestartPolicy {
        enabled: true,
        ignored_exit_codes: codes.split(',').filter_map(|code| code.parse().ok()).collect(),
        attempt_period: period.parse().ok().map(std::time::Duration::from_secs),
    });
    let mut task = task(task_text);
    task.containers[0].started_at = Some(Timestamp(0));
    task.containers[0].restarted_at = Some(Timestamp(NOW.0 - age * 1_000_000));
    task.containers[0].is_restarting = task_text.contains("again");
    let shown = shown(seen);
    let seen_now = Seen::Known(shown.as_deref().unwrap());
    let step = next(&task, &definition, seen_now, &Facts::default(), NOW);
    assert_eq!(print(&step).split(':').next().unwrap(), expected, "{policy} {age} / {seen}");
}

#[test]
fn policy_restarts_what_ran_for_its_period_and_ended_with_a_code_that_counts() {
    let running = "RUNNING app=running log=running";
    let (dies, again) = ("die EssentialContainerExited", "restart(\"app\")");
    restarts("- 60", 60, running, "app=exit1 log=running", again);
    restarts("- 60", 60, running, "app=exit0 log=running", again);
    restarts("- 60", 60, running, "app=oom log=running", again);
    restarts("- 60", 59, running, "app=exit1 log=running", dies);
    restarts("0,3 60", 60, running, "app=exit3 log=running", dies);
    restarts("- 60", 60, running, "app=exit log=running", dies);
    restarts("- 60", 60, running, "log=running", dies);
    // ECS's default is five minutes, more than the clock shows here.
    restarts("- -", 60, running, "app=exit1 log=running", dies);
    let stopping = "RUNNING stopping app=running log=running";
    restarts("- 60", 60, stopping, "app=exit1 log=running", "deregister");
    restarts("- 60", 60, "DEACTIVATING stopping again app=running", "app=exit1", "to STOPPING");
}

#[test]
fn restart_on_record_is_made_whatever_was_cut_off() {
    let task = "RUNNING again app=running log=running";
    restarts("- 60", 0, task, "app=exit1 log=running", "restart(\"app\")");
    restarts("- 60", 0, task, "app=created log=running", "restart(\"app\")");
    restarts("- 60", 0, task, "app=running log=running", "containers");
    restarts("- 60", 0, task, "log=running", "die EssentialContainerExited");
}

#[test]
fn task_is_registered_once_it_has_run_for_its_service_s_delay() {
    let facts = |seconds| Facts {
        registers: false,
        registration_delay: std::time::Duration::from_secs(seconds),
        ..Facts::default()
    };
    // Its time runs from a start that is on record.
    with("PENDING", "app=running log=running", &facts(5), "containers");
    with("PENDING", "app=running log=running", &facts(0), "activate");
    let shown = shown("app=running log=running").unwrap();
    let mut task = task("PENDING");
    task.containers = containers(&task, Seen::Known(&shown), Timestamp::from_millis(98_000));
    for (seconds, expected) in [(5, "wait 3000 ms"), (2, "activate")] {
        let step = next(&task, &definition(), Seen::Known(&shown), &facts(seconds), NOW);
        assert_eq!(print(&step), expected);
    }
    // It is looked after meanwhile.
    let dead = [Observed {
        state: ObservedState::Exited { code: Some(1), out_of_memory: false },
        ..shown[0].clone()
    }];
    let step = next(&task, &definition(), Seen::Known(&dead), &facts(5), NOW);
    assert!(print(&step).starts_with("die TaskFailedToStart"), "{step:?}");
}
