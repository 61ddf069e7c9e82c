//! Deployments of every strategy, one after the other, at a constant rate of requests and with
//! WebSockets open: nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roadstead::model::{Deployment, Rollout};
use roadstead::state::State;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::client::Load;
use crate::support::world::{Running, Service, World};
use crate::support::{self, full_or};
use crate::websockets::{open, talk};

const TASKS: u32 = 2;
const SOCKETS: u64 = 10;
const LINEAR: &str = "strategy = \"LINEAR\"\nbake_time = \"200ms\"\n\
                      linear = { step_percent = 40, step_bake_time = \"200ms\" }";
const CANARY: &str = "strategy = \"CANARY\"\nbake_time = \"200ms\"\n\
                      canary = { percent = 10, bake_time = \"200ms\" }";

fn newest(state: &State) -> Option<Deployment> {
    state.progress.values().next()?.deployments.first().cloned()
}

async fn completed(running: &Running, before: Option<&Deployment>) {
    support::until("the deployment to be completed", || {
        let newest = newest(&running.state());
        newest.is_some_and(|newest| {
            newest.rollout == Rollout::Completed && before.is_none_or(|old| old.id != newest.id)
        })
    })
    .await;
    running.settled("web", TASKS as usize).await;
}

/// A WebSocket that is opened again whenever its target goes; each time it has to end as the
/// protocol has it.
async fn keep_talking(address: SocketAddr, said: Arc<AtomicU64>, ended: Arc<AtomicU64>) {
    loop {
        let one = talk(open(address).await, Arc::clone(&said)).await;
        assert_eq!((one.code, one.clean), (Some(CloseCode::Away), true), "{one:?}");
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn roll_out(name: &str, more: &'static str, paired: bool, rounds: u64) -> u64 {
    // So many checks in a row no task misses for a busy machine.
    let service = Service {
        paired,
        more,
        unhealthy_threshold: 5,
        deregistration_delay: "1s",
        ..Service::http("web", TASKS)
    };
    let mut running = World::new().service(service).start().await;
    running.settled("web", TASKS as usize).await;
    completed(&running, None).await;
    let address = running.world.listener(8080);
    let (said, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut sockets = JoinSet::new();
    for _ in 0..SOCKETS {
        sockets.spawn(keep_talking(address, Arc::clone(&said), Arc::clone(&ended)));
    }
    support::until("all to say something", || said.load(Ordering::Relaxed) > SOCKETS * 3).await;
    let load = Load::steady(address, "/", full_or(1_000, 200));
    for round in 1..=rounds {
        // With those of all strategies: 300,000 of 35 deployments.
        load.more(full_or(4_300, 100)).await;
        let before = newest(&running.state());
        let arguments = vec!["--start-delay".to_owned(), round.to_string()];
        running.edit(|services| services[0].arguments = arguments);
        completed(&running, before.as_ref()).await;
        load.more(full_or(4_300, 100)).await;
        // Every one of them was on a task that is gone.
        let all = || ended.load(Ordering::Relaxed) >= SOCKETS * round;
        support::until("all WebSockets to have moved", all).await;
        if let Some(failed) = sockets.try_join_next() {
            failed.unwrap();
        }
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{name}: {tally:?}");
    let (said, ended) = (said.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    let sent = tally.succeeded();
    support::note(&format!(
        "{name}: {rounds} deployments, {sent} requests, {said} echoes, {ended} clean closes"
    ));
    sockets.shutdown().await;
    running.stop().await;
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_at_a_constant_rate_fail_no_request_and_cut_no_websocket() {
    let mut sent = roll_out("ROLLING", "", false, full_or(20, 1)).await;
    let blue_green = "strategy = \"BLUE_GREEN\"\nbake_time = \"200ms\"";
    for (name, more) in [("BLUE_GREEN", blue_green), ("LINEAR", LINEAR), ("CANARY", CANARY)] {
        sent += roll_out(name, more, true, full_or(5, 1)).await;
    }
    assert!(sent >= full_or(300_000, 800), "{sent} requests");
}
