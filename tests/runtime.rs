//! One battery of cases for every runtime, and what is special to each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "a skipped case says so")]

#[path = "support/runtime_docker.rs"]
mod docker;
#[path = "support/runtime_fixture.rs"]
mod fixture;
#[path = "support/runtime_process.rs"]
mod process;
#[path = "support/runtime_rest.rs"]
mod rest;

use std::time::Duration;

use roadstead::clock::instant;
use roadstead::model::{ContainerCheck, ContainerHealth, ObservedState, SecretText, Usage};
use roadstead::runtime::{RuntimeError, RuntimeEvent};

use self::fixture::{Behaviour, CONTAINER, Fixture, event, until};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(700);

async fn container_is_created_started_seen_stopped_and_removed(world: &mut Fixture) {
    let spec = world.spec("t1", Behaviour::Runs);
    let task = spec.task.clone();
    let created = world.runtime.create(&spec).await.unwrap();
    assert_eq!(created.state, ObservedState::Created);
    assert_eq!((created.task.as_str(), created.container.as_str()), ("t1", CONTAINER));
    let started = world.run_spec(&spec, Behaviour::Runs).await;
    assert_eq!(started.state, ObservedState::Running);
    assert!(started.address.is_some(), "{started:?}");
    assert_eq!(world.observed("t1").await, Some(started));
    let usage = world.runtime.usage(&task, CONTAINER).await.unwrap();
    assert!(usage.memory_bytes > 0, "{usage:?}");
    let before = instant();
    world.stop("t1", LONG).await;
    assert!(before.elapsed() < LONG, "it had to be killed");
    assert_eq!(world.exit_code("t1").await, Some(0));
    assert_eq!(world.runtime.usage(&task, CONTAINER).await, Ok(Usage::default()));
    world.runtime.remove(&task, CONTAINER).await.unwrap();
    assert_eq!(world.observed("t1").await, None);
}

async fn exit_code_is_told_and_no_memory_is_blamed(world: &mut Fixture) {
    world.run("t1", Behaviour::Exits(3)).await;
    assert_eq!(world.exit_code("t1").await, Some(3));
    let state = world.observed("t1").await.unwrap().state;
    assert_eq!(state, ObservedState::Exited { code: Some(3), out_of_memory: false });
}

async fn calls_made_again_change_nothing(world: &mut Fixture) {
    let spec = world.spec("t1", Behaviour::Runs);
    let created = world.runtime.create(&spec).await.unwrap();
    assert_eq!(world.runtime.create(&spec).await.unwrap(), created);
    let started = world.run_spec(&spec, Behaviour::Runs).await;
    assert_eq!(world.runtime.start(&spec.task, CONTAINER).await.unwrap(), started);
    assert_eq!(world.runtime.create(&spec).await.unwrap(), started);
    let (one, other) = tokio::join!(
        world.runtime.stop(&spec.task, CONTAINER, LONG),
        world.runtime.stop(&spec.task, CONTAINER, LONG)
    );
    assert_eq!((one, other), (Ok(()), Ok(())));
    world.stop("t1", LONG).await;
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
    // The name is free again.
    assert_eq!(world.runtime.create(&spec).await.unwrap().state, ObservedState::Created);
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
}

async fn container_that_ignores_the_stop_signal_is_killed_after_its_grace(world: &mut Fixture) {
    world.run("t1", Behaviour::IgnoresStop).await;
    let before = instant();
    world.stop("t1", SHORT).await;
    assert!(before.elapsed() >= SHORT, "killed after {:?}", before.elapsed());
    assert_eq!(world.exit_code("t1").await, Some(137));
}

async fn death_is_announced(world: &mut Fixture) {
    let mut events = world.runtime.events();
    world.run("t1", Behaviour::Exits(0)).await;
    let died = RuntimeEvent::Died { task: "t1".into(), container: CONTAINER.to_owned() };
    event(&mut events, |event| *event == died).await;
    assert_eq!(world.exit_code("t1").await, Some(0));
}

async fn exited_container_is_not_started_again(world: &mut Fixture) {
    world.run("t1", Behaviour::Exits(4)).await;
    assert_eq!(world.exit_code("t1").await, Some(4));
    let again = world.runtime.start(&"t1".into(), CONTAINER).await.unwrap();
    assert_eq!(again.state, ObservedState::Exited { code: Some(4), out_of_memory: false });
}

async fn new_instance_adopts_what_is_there(world: &mut Fixture) {
    let created = world.spec("t0", Behaviour::Runs);
    let created = world.runtime.create(&created).await.unwrap();
    let running = world.run("t1", Behaviour::Runs).await;
    world.run("t2", Behaviour::Exits(5)).await;
    assert_eq!(world.exit_code("t2").await, Some(5));
    world.reopen();
    assert_eq!(world.observed("t0").await, Some(created));
    assert_eq!(world.observed("t1").await, Some(running.clone()));
    assert_eq!(world.exit_code("t2").await, Some(5));
    // What was asked for before is not made a second time.
    let again = world.spec("t1", Behaviour::Runs);
    assert_eq!(world.runtime.create(&again).await.unwrap(), running);
    assert_eq!(world.runtime.start(&again.task, CONTAINER).await.unwrap(), running);
    let mut events = world.runtime.events();
    world.stop("t1", LONG).await;
    assert_eq!(world.exit_code("t1").await, Some(0));
    let died = RuntimeEvent::Died { task: "t1".into(), container: CONTAINER.to_owned() };
    event(&mut events, |event| *event == died).await;
    for task in ["t0", "t1", "t2"] {
        world.runtime.remove(&task.into(), CONTAINER).await.unwrap();
    }
    assert_eq!(world.runtime.list().await.unwrap(), []);
}

async fn unknown_container_is_stopped_and_removed_already(world: &mut Fixture) {
    let task = "none".into();
    assert_eq!(world.runtime.stop(&task, CONTAINER, LONG).await, Ok(()));
    assert_eq!(world.runtime.remove(&task, CONTAINER).await, Ok(()));
    let start = world.runtime.start(&task, CONTAINER).await;
    assert!(matches!(start, Err(RuntimeError::Vanished(_))), "{start:?}");
    let usage = world.runtime.usage(&task, CONTAINER).await;
    assert!(matches!(usage, Err(RuntimeError::Vanished(_))), "{usage:?}");
}

async fn running_container_is_not_removed(world: &mut Fixture) {
    let running = world.run("t1", Behaviour::Runs).await;
    let refused = world.runtime.remove(&running.task, CONTAINER).await;
    assert!(matches!(refused, Err(RuntimeError::CannotStop(_))), "{refused:?}");
    assert_eq!(world.observed("t1").await, Some(running));
}

async fn created_container_is_stopped_already(world: &mut Fixture) {
    let spec = world.spec("t1", Behaviour::Runs);
    world.runtime.create(&spec).await.unwrap();
    world.stop("t1", LONG).await;
    assert_eq!(world.observed("t1").await.unwrap().state, ObservedState::Created);
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
    assert_eq!(world.observed("t1").await, None);
}

async fn several_containers_are_told_apart(world: &mut Fixture) {
    for task in ["t1", "t2", "t3"] {
        world.run(task, Behaviour::Runs).await;
    }
    world.stop("t2", LONG).await;
    until(async || (world.exit_code("t2").await == Some(0)).then_some(())).await;
    let mut running: Vec<_> = world.runtime.list().await.unwrap();
    running.retain(|observed| observed.state == ObservedState::Running);
    running.sort_by(|a, b| a.task.cmp(&b.task));
    let names: Vec<_> = running.iter().map(|observed| observed.task.as_str()).collect();
    assert_eq!(names, ["t1", "t3"]);
}

async fn exited_container_is_started_again_when_that_is_asked(world: &mut Fixture) {
    let spec = world.spec("t1", Behaviour::Runs);
    let running = world.run_spec(&spec, Behaviour::Runs).await;
    assert_eq!(world.runtime.restart(&spec.task, CONTAINER).await.unwrap(), running);
    for _ in 0..2 {
        world.stop("t1", SHORT).await;
        world.exit_code("t1").await;
        let mut events = world.runtime.events();
        let again = world.runtime.restart(&spec.task, CONTAINER).await.unwrap();
        assert_eq!(again.state, ObservedState::Running);
        event(&mut events, |event| matches!(event, RuntimeEvent::Changed { .. })).await;
        assert_eq!(world.observed("t1").await.unwrap().state, ObservedState::Running);
    }
    world.reopen();
    assert_eq!(world.observed("t1").await.unwrap().state, ObservedState::Running);
    world.stop("t1", SHORT).await;
    world.exit_code("t1").await;
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
    assert_eq!(world.observed("t1").await, None);
}

async fn checks_tell_whether_the_container_is_healthy(world: &mut Fixture) {
    let shell = |line: &str| vec!["CMD-SHELL".to_owned(), line.to_owned()];
    let plain = ["CMD", "/bin/sh", "-c", "exit 0"].map(str::to_owned).to_vec();
    for (task, command, expected) in [
        ("t1", shell("exit 0"), ContainerHealth::Healthy),
        ("t2", plain, ContainerHealth::Healthy),
        ("t3", shell("exit 1"), ContainerHealth::Unhealthy),
        ("t4", vec!["CMD".to_owned(), "/no/such".to_owned()], ContainerHealth::Unhealthy),
        // It takes too long, and so does what it began.
        ("t5", shell("sleep 1000; exit 0"), ContainerHealth::Unhealthy),
    ] {
        let mut spec = world.spec(task, Behaviour::Runs);
        spec.definition.health_check = Some(ContainerCheck {
            command,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: None,
        });
        let started = world.run_spec(&spec, Behaviour::Runs).await;
        assert_eq!(started.health, ContainerHealth::Unknown, "{task}");
        let mut events = world.runtime.events();
        world.check_says(task, expected);
        event(&mut events, |event| matches!(event, RuntimeEvent::Changed { .. })).await;
        let health = async || world.observed(task).await.map(|observed| observed.health);
        until(async || (health().await == Some(expected)).then_some(())).await;
    }
}

async fn check_is_lenient_while_the_container_starts(world: &mut Fixture) {
    let mut spec = world.spec("t1", Behaviour::Runs);
    spec.definition.health_check = Some(ContainerCheck {
        command: vec!["CMD-SHELL".to_owned(), "exit 1".to_owned()],
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        retries: 1,
        start_period: Some(Duration::from_secs(300)),
    });
    world.run_spec(&spec, Behaviour::Runs).await;
    // Long enough for a check or two.
    world.pass(Duration::from_millis(2500)).await;
    assert_eq!(world.observed("t1").await.unwrap().health, ContainerHealth::Unknown);
}

async fn secrets_reach_the_container_and_no_debug_text(world: &mut Fixture) {
    let script = "[ \"$KEY\" = sesame ] && [ \"$PLAIN\" = 1 ] && exit 7; exit 8";
    let mut spec = world.script("t1", script);
    spec.environment.insert("PLAIN".to_owned(), "1".to_owned());
    spec.secrets.insert("KEY".to_owned(), SecretText::new("sesame".to_owned()));
    assert!(!format!("{spec:?}{:?}", world.runtime).contains("sesame\""));
    world.run_spec(&spec, Behaviour::Exits(7)).await;
    assert_eq!(world.exit_code("t1").await, Some(7));
    assert!(!format!("{:?}{:?}", world.runtime, world.observed("t1").await).contains("sesame\""));
}

/// Every case of the battery against one runtime; a simulated one runs in its own time.
macro_rules! battery {
    ($runtime:ident, $make:expr, paused: $paused:literal, [$($case:ident)*]) => {
        mod $runtime {
            use super::*;
            $(
                #[tokio::test(start_paused = $paused)]
                async fn $case() {
                    let Some(mut world) = $make.await else { return };
                    super::$case(&mut world).await;
                }
            )*
        }
    };
    ($runtime:ident, $make:expr, paused: $paused:literal) => {
        battery!($runtime, $make, paused: $paused, [
            container_is_created_started_seen_stopped_and_removed
            exit_code_is_told_and_no_memory_is_blamed
            calls_made_again_change_nothing
            container_that_ignores_the_stop_signal_is_killed_after_its_grace
            death_is_announced
            exited_container_is_not_started_again
            new_instance_adopts_what_is_there
            unknown_container_is_stopped_and_removed_already
            running_container_is_not_removed
            created_container_is_stopped_already
            several_containers_are_told_apart
            exited_container_is_started_again_when_that_is_asked
            checks_tell_whether_the_container_is_healthy
            check_is_lenient_while_the_container_starts
            secrets_reach_the_container_and_no_debug_text
        ]);
    };
}

battery!(on_process, async { Some(Fixture::process()) }, paused: false);
battery!(on_sim, async { Some(Fixture::sim()) }, paused: true);
battery!(on_docker, Fixture::docker(), paused: false);
