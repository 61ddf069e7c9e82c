//! Scaling by editing the file under load: nobody notices.

use std::time::Duration;

use crate::support::client::{self, Load};
use crate::support::world::{Service, World};
use crate::support::{self, full_or};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_out_and_in_under_load_fails_no_request() {
    let mut running = World::new().service(Service::http("web", 3)).start().await;
    running.settled("web", 3).await;
    let load = Load::start(running.world.listener(8080), "/", 16);
    let share = full_or(100_000, 5_000) / 4;
    load.more(share).await;
    for desired in [6, 1, 4] {
        running.edit(|services| services[0].desired = desired);
        running.settled("web", desired as usize).await;
        load.more(share).await;
    }
    let tally = load.finish().await;
    support::note(&format!("{} requests over 3 → 6 → 1 → 4", tally.succeeded()));
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_definition_rolls_out_under_load_without_a_failed_request() {
    let mut running = World::new().service(Service::http("web", 2)).start().await;
    running.settled("web", 2).await;
    let before = running.state();
    let load = Load::start(running.world.listener(8080), "/", 8);
    load.more(full_or(5_000, 250)).await;
    running.edit(|services| services[0].arguments = vec!["--udp".to_owned()]);
    support::until("the new revision to run alone", || {
        let state = running.state();
        let mut tasks = support::world::tasks_of(&state, "web").filter(|t| t.is_live()).peekable();
        tasks.peek().is_some() && tasks.all(|task| task.definition.revision == 2)
    })
    .await;
    running.settled("web", 2).await;
    load.more(full_or(5_000, 250)).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(
        before
            .tasks
            .keys()
            .all(|id| { running.state().tasks.get(id).is_none_or(|task| !task.is_live()) })
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_opens_its_port_late_serves_before_its_second_configured_probe() {
    let slow = Service { interval: "30s", ..Service::http("web", 1) };
    let slow = slow.arguments(&["--start-delay", "3000"]);
    let started = roadstead::clock::instant();
    let running = World::new().service(slow).start().await;
    running.settled("web", 1).await;
    let answer = client::get(running.world.listener(8080), "/").await.unwrap();
    let took = started.elapsed();
    assert_eq!(answer.status, 200);
    assert!(took < Duration::from_secs(25), "took {took:?}: it waited for the configured probe");
    support::note(&format!("served {took:?} after the start, port open after 3 s"));
    running.stop().await;
}
