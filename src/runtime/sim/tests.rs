//! Whether the simulated world keeps its word: same seed, same history; faults as set.

use std::collections::BTreeMap;

use super::*;
use crate::model::ContainerDefinition;

const GRACE: Duration = Duration::from_secs(10);

fn spec(task: &str, address: Option<&str>) -> ContainerSpec {
    ContainerSpec {
        task: task.into(),
        cluster: "default".to_owned(),
        family: "web".to_owned(),
        revision: 1,
        definition: ContainerDefinition {
            stop_timeout: Some(GRACE),
            ..ContainerDefinition::new("app")
        },
        network_mode: None,
        pid_mode: None,
        ipc_mode: None,
        volumes: Vec::new(),
        address: address.map(|address| address.parse().unwrap()),
        environment: BTreeMap::new(),
        host_ports: Vec::new(),
        name_server: None,
        secrets: BTreeMap::new(),
    }
}

async fn run(sim: &Sim, task: &str) -> Observed {
    sim.create(&spec(task, None)).await.unwrap();
    sim.start(&task.into(), "app").await.unwrap()
}

/// Lets a handful of tasks do what they like for a while; errors are part of it.
async fn chaos(seed: u64) -> Vec<Effect> {
    let sim = Sim::new(seed);
    sim.set_faults(Faults {
        slow: 0.3,
        slow_for: Duration::from_secs(20),
        create_error: 0.2,
        start_error: 0.2,
        lost_event: 0.2,
        repeated_event: 0.2,
        exits: 0.3,
        exits_within: Duration::from_secs(5),
        ignores_stop: 0.3,
        unavailable: 0.05,
        unavailable_for: Duration::from_secs(3),
        lost_answer: 0.2,
    });
    let mut workers = Vec::new();
    for number in 0..8 {
        let sim = sim.clone();
        workers.push(tokio::spawn(async move {
            let task = format!("t{number}");
            for _ in 0..20 {
                let _ = sim.create(&spec(&task, None)).await;
                let _ = sim.start(&task.as_str().into(), "app").await;
                sleep(Duration::from_secs(1)).await;
                let _ = sim.stop(&task.as_str().into(), "app", GRACE).await;
                let _ = sim.remove(&task.as_str().into(), "app").await;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    sim.history()
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history() {
    let first = chaos(7).await;
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, chaos(7).await);
    assert_ne!(first, chaos(8).await);
}

#[tokio::test(start_paused = true)]
async fn history_tells_a_whole_life_in_virtual_time() {
    let sim = Sim::new(1);
    let started = run(&sim, "t1").await;
    let address = started.address.unwrap();
    sim.ignore_stop(&started.task, "app");
    sim.stop(&started.task, "app", GRACE).await.unwrap();
    sim.remove(&started.task, "app").await.unwrap();
    let history = sim.history();
    let kinds: Vec<_> = history.iter().map(|effect| effect.kind.clone()).collect();
    let exited = EffectKind::Exited { code: KILLED };
    let started = EffectKind::Started { address };
    let (signal, kill) = (EffectKind::StopSignalled, EffectKind::Killed);
    assert_eq!(kinds, [EffectKind::Created, started, signal, kill, exited, EffectKind::Removed]);
    assert_eq!(history[3].at - history[2].at, GRACE);
}

#[tokio::test(start_paused = true)]
async fn address_of_the_pool_comes_back_and_a_given_one_stays() {
    let sim = Sim::new(1);
    let first = run(&sim, "t1").await.address;
    assert_ne!(run(&sim, "t2").await.address, first);
    assert!(sim.kill(&"t1".into(), "app", 1));
    assert!(!sim.kill(&"t1".into(), "app", 1));
    assert_eq!(run(&sim, "t3").await.address, first);
    let given = spec("t4", Some("127.0.0.9"));
    sim.create(&given).await.unwrap();
    assert_eq!(sim.start(&given.task, "app").await.unwrap().address, given.address);
    sim.kill(&given.task, "app", 1);
    let t4 = sim.observed().into_iter().find(|observed| observed.task == given.task);
    assert_eq!(t4.unwrap().address, given.address);
    let running: Vec<_> = sim.running().into_iter().map(|(task, _)| task).collect();
    assert_eq!(running, ["t2".into(), "t3".into()] as [TaskId; 2]);
}

#[tokio::test(start_paused = true)]
async fn call_whose_answer_is_lost_has_done_its_work() {
    let sim = Sim::new(1);
    sim.set_faults(Faults { lost_answer: 1.0, ..Faults::default() });
    let lost = sim.create(&spec("t1", None)).await;
    assert!(matches!(&lost, Err(error) if error.is_passing()), "{lost:?}");
    assert!(sim.start(&"t1".into(), "app").await.is_err());
    assert_eq!(sim.running().len(), 1);
    sim.set_faults(Faults::default());
    assert_eq!(run(&sim, "t1").await, sim.observed()[0]);
    assert_eq!(sim.history().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn outage_fails_calls_loses_events_and_ends_with_a_gap() {
    let sim = Sim::new(1);
    run(&sim, "t1").await;
    let mut events = sim.events();
    sim.outage(Duration::from_secs(5));
    assert!(matches!(sim.list().await, Err(RuntimeError::Unavailable(_))));
    assert!(sim.kill(&"t1".into(), "app", 1));
    assert_eq!(events.recv().await, Ok(RuntimeEvent::Gap));
    assert_eq!(sim.list().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_are_lost_and_repeated_as_set() {
    let sim = Sim::new(1);
    let mut events = sim.events();
    sim.set_faults(Faults { lost_event: 1.0, ..Faults::default() });
    run(&sim, "t1").await;
    assert!(events.try_recv().is_err());
    sim.set_faults(Faults { repeated_event: 1.0, ..Faults::default() });
    sim.kill(&"t1".into(), "app", 1);
    let died = RuntimeEvent::Died { task: "t1".into(), container: "app".to_owned() };
    assert_eq!((events.try_recv(), events.try_recv()), (Ok(died.clone()), Ok(died)));
}

#[tokio::test(start_paused = true)]
async fn stop_that_nobody_waits_for_goes_on() {
    let sim = Sim::new(1);
    let started = run(&sim, "t1").await;
    sim.ignore_stop(&started.task, "app");
    let short = Duration::from_secs(1);
    assert!(tokio::time::timeout(short, sim.stop(&started.task, "app", GRACE)).await.is_err());
    sleep(GRACE).await;
    assert_eq!(sim.running(), []);
}

#[tokio::test(start_paused = true)]
async fn container_that_fails_by_itself_does_so_in_time() {
    let sim = Sim::new(1);
    let within = Duration::from_secs(5);
    sim.set_faults(Faults { exits: 1.0, exits_within: within, ..Faults::default() });
    let mut events = sim.events();
    run(&sim, "t1").await;
    let before = instant();
    while !matches!(events.recv().await, Ok(RuntimeEvent::Died { .. })) {}
    assert!(before.elapsed() <= within);
}
