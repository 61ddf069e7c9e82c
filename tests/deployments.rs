//! Every way in which a task is replaced or stopped, under load: nobody notices.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roadstead::model::{Desired, Rollout, StopCode, TaskId, TaskStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{self, Load};
use crate::support::world::{Running, Service, World, tasks_of};
use crate::support::{self, full_or};

const BREAKER: &str = "circuit_breaker = { enable = true, rollback = true }";

/// Calls ECS's API; panics with its answer when it refuses.
async fn ecs(running: &Running, operation: &str, body: &serde_json::Value) -> serde_json::Value {
    let address = running.app.as_ref().unwrap().api_address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/x-amz-json-1.1\r\n\
         x-amz-target: AmazonEC2ContainerServiceV20141113.{operation}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

fn ids(running: &Running) -> BTreeSet<TaskId> {
    let state = running.state();
    tasks_of(&state, "web").filter(|task| task.is_live()).map(|task| task.id.clone()).collect()
}

async fn web(service: Service) -> Running {
    let count = service.desired as usize;
    let running = World::new().open_api().service(service).start().await;
    running.settled("web", count).await;
    running
}

async fn stopped(running: &Running, task: &TaskId) {
    support::until("the task to be stopped", || {
        let state = running.state();
        state.tasks.get(task).is_none_or(|task| task.known == TaskStatus::Stopped)
    })
    .await;
}

/// A slow request that a task of ours has begun to answer, and which one.
async fn slow(running: &Running) -> (tokio::task::JoinHandle<u16>, TaskId) {
    let address = running.world.listener(8080);
    let before = busy(running);
    let request = tokio::spawn(async move {
        client::get(address, "/delay/2500").await.map_or(0, |answer| answer.status)
    });
    let mut task = None;
    support::until("the slow request to reach a task", || {
        task = busy(running).difference(&before).next().cloned();
        task.is_some()
    })
    .await;
    (request, task.unwrap())
}

/// The tasks that have an exchange under way.
fn busy(running: &Running) -> BTreeSet<TaskId> {
    let routing = running.app.as_ref().unwrap().reader().load();
    let busy = routing.endpoints.values().filter(|endpoint| endpoint.in_flight() > 0);
    busy.filter_map(|endpoint| endpoint.task.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_of_one_and_of_four_tasks_fail_no_request() {
    for count in [1, 4] {
        let mut running = web(Service::http("web", count)).await;
        let load = Load::start(running.world.listener(8080), "/", 8);
        for round in 0..full_or(20, 2) {
            load.more(100).await;
            let before = ids(&running);
            let argument = ["--udp", "--log"][usize::try_from(round % 2).unwrap()];
            running.edit(|services| services[0].arguments = vec![argument.to_owned()]);
            support::until("other tasks", || {
                let now = ids(&running);
                !now.is_empty() && now.is_disjoint(&before)
            })
            .await;
            running.settled("web", count as usize).await;
        }
        let tally = load.finish().await;
        assert_eq!(tally.failed(), 0, "{count} tasks: {tally:?}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_to_many_tasks_and_back_fails_no_request() {
    let mut running = web(Service::http("web", 1)).await;
    let load = Load::start(running.world.listener(8080), "/", 8);
    for desired in [u32::try_from(full_or(20, 8)).unwrap(), 1] {
        load.more(200).await;
        running.edit(|services| services[0].desired = desired);
        running.settled("web", desired as usize).await;
    }
    load.more(200).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_task_lets_the_task_finish_what_it_answers() {
    let running = web(Service::http("web", 2)).await;
    let (answer, task) = slow(&running).await;
    let load = Load::start(running.world.listener(8080), "/", 8);
    load.more(50).await;
    let asked = serde_json::json!({ "task": task.to_string(), "reason": "enough of it" });
    let shown = ecs(&running, "StopTask", &asked).await;
    assert_eq!(shown["task"]["desiredStatus"], "STOPPED");
    assert_eq!(shown["task"]["stopCode"], "UserInitiated");
    assert_eq!(answer.await.unwrap(), 200);
    stopped(&running, &task).await;
    running.settled("web", 2).await;
    load.more(50).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let stop = running.state().tasks[&task].stop.clone().unwrap();
    assert_eq!((stop.code, stop.reason.as_str()), (StopCode::UserInitiated, "enough of it"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unhealthy_task_that_still_serves_finishes_what_it_answers() {
    let running = web(Service::http("web", 2)).await;
    let (answer, task) = slow(&running).await;
    let load = Load::start(running.world.listener(8080), "/", 8);
    let address = running.state().tasks[&task].address.unwrap();
    let direct = SocketAddr::new(address, 8080);
    assert_eq!(client::get(direct, "/unhealthy").await.unwrap().status, 200);
    assert_eq!(answer.await.unwrap(), 200);
    stopped(&running, &task).await;
    running.settled("web", 2).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_service_finishes_what_it_answers() {
    let mut running = web(Service::http("web", 1)).await;
    let other = Service { port: 8090, ..Service::http("other", 1) };
    running.edit(|services| services.push(other));
    running.settled("other", 1).await;
    let (answer, task) = slow(&running).await;
    let load = Load::start(running.world.listener(8090), "/", 4);
    running.edit(|services| services.retain(|service| service.name != "web"));
    assert_eq!(answer.await.unwrap(), 200);
    stopped(&running, &task).await;
    support::until("the service to vanish", || {
        running.state().services.keys().all(|key| key.name.as_str() != "web")
    })
    .await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

/// What the answers of one address were: their status, and whose they were.
async fn answers(address: SocketAddr, stop: Arc<AtomicBool>) -> BTreeSet<(u16, String)> {
    let (mut seen, mut stream) = (BTreeSet::new(), None);
    while !stop.load(Ordering::Relaxed) {
        let mut open = match stream.take() {
            Some(open) => open,
            None => TcpStream::connect(address).await.unwrap(),
        };
        let answer = client::exchange(&mut open, "GET", "/", false).await.unwrap();
        let task = answer.header("x-task-id").unwrap_or_default().to_owned();
        seen.insert((answer.status, task));
        stream = (answer.header("connection") != Some("close")).then_some(open);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_that_goes_from_one_service_to_another_mixes_up_no_request() {
    let world = World::new();
    // Two addresses, one of which is a load balancer's: the other rests for no longer than names
    // may be cached.
    let pool = world.address(64);
    let runtime = format!(
        "[runtime]\nhealthy_after = \"0s\"\nquarantine = \"0s\"\naddresses = \"{pool}/30\""
    );
    let names = ["web", "other"];
    let one = Service::http(names[0], 1);
    let two = Service { front: 66, ..Service::http(names[1], 0) };
    let mut running = world.setting(&runtime).service(one).service(two).start().await;
    running.settled("web", 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let front = |last: u8| SocketAddr::new(running.world.address(last), 8080);
    let asked = [1, 66].map(|last| tokio::spawn(answers(front(last), Arc::clone(&stop))));
    for round in 0..full_or(20, 2) {
        let from = usize::try_from(round % 2).unwrap();
        running.edit(|services| services[from].desired = 0);
        support::until("the task to be stopped", || {
            let state = running.state();
            tasks_of(&state, names[from]).all(|task| task.known == TaskStatus::Stopped)
        })
        .await;
        running.edit(|services| services[1 - from].desired = 1);
        running.settled(names[1 - from], 1).await;
        let state = running.state();
        let task = tasks_of(&state, names[1 - from]).find(|task| task.is_live()).unwrap();
        assert_eq!(task.address, Some(running.world.address(65)));
    }
    stop.store(true, Ordering::Relaxed);
    let state = running.state();
    for (name, asked) in names.into_iter().zip(asked) {
        let own: BTreeSet<&str> = tasks_of(&state, name).map(|task| task.id.as_str()).collect();
        let seen = asked.await.unwrap();
        for (status, task) in &seen {
            let is_own = *status == 200 && own.contains(task.as_str());
            // Nobody is there while the other has the address.
            assert!(is_own || *status == 503 && task.is_empty(), "{name}: {status} of {task:?}");
        }
        assert!(seen.iter().any(|(status, _)| *status == 200), "{name}: {seen:?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_never_ends_is_cut_after_its_delay_and_its_stop_timeout() {
    let service = Service {
        stop_timeout: 1,
        deregistration_delay: "1s",
        ..Service::http("web", 1).arguments(&["--ignore-sigterm"])
    };
    let running = web(service).await;
    let address = running.world.listener(8080);
    let endless = tokio::spawn(async move { client::get(address, "/delay/600000").await });
    support::until("the endless request to reach a task", || !busy(&running).is_empty()).await;
    let task = busy(&running).into_iter().next().unwrap();
    let asked = serde_json::json!({ "task": task.to_string() });
    ecs(&running, "StopTask", &asked).await;
    stopped(&running, &task).await;
    let state = running.state();
    assert_eq!(state.tasks[&task].containers[0].exit_code, Some(137));
    assert_eq!(endless.await.unwrap().map_or(502, |answer| answer.status), 502);
    running.settled("web", 1).await;
    assert_eq!(client::get(address, "/").await.unwrap().status, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollout_that_never_gets_healthy_goes_back_and_fails_no_request() {
    // So many checks in a row no task misses for a busy machine.
    let service = Service { more: BREAKER, unhealthy_threshold: 5, ..Service::http("web", 2) };
    let mut running = web(service).await;
    let load = Load::start(running.world.listener(8080), "/", 4);
    let endless = vec!["--start-delay".to_owned(), "600000".to_owned()];
    running.edit(|services| services[0].arguments = endless);
    let rollback = |running: &Running| {
        let state = running.state();
        let progress = state.progress.values().next()?;
        let failed = progress.all().find(|deployment| deployment.failure.is_some())?;
        Some((failed.clone(), progress.deployments[0].clone()))
    };
    support::until("the way back", || {
        rollback(&running).is_some_and(|(failed, first)| {
            first.rollout == Rollout::Completed && failed.rollback.unwrap().successful
        })
    })
    .await;
    running.settled("web", 2).await;
    let (failed, first) = rollback(&running).unwrap();
    assert!(failed.failures >= 3 && failed.rollout == Rollout::Failed, "{failed:?}");
    assert_eq!((failed.definition.revision, first.definition.revision), (2, 1));
    // The file still asks for the second revision; only an edit of it asks again.
    running.edit(|services| services[0].desired = 3);
    running.settled("web", 3).await;
    assert_eq!(running.state().services.values().next().unwrap().definition.revision, 1);
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unready_task_gets_no_traffic_and_is_not_killed() {
    let more = "replace_unready = false\nregistration_delay = \"300ms\"";
    let running = web(Service { more, ..Service::http("web", 2) }).await;
    let before = ids(&running);
    let state = running.state();
    for task in tasks_of(&state, "web") {
        let ran = task.containers[0].started_at.unwrap();
        let registered = state.targets_of_task(&task.id).next().unwrap().registered_at;
        let waited = registered.since(ran);
        assert!(waited >= Duration::from_millis(300), "registered after {waited:?}");
    }
    let (sick, address) = tasks_of(&state, "web")
        .map(|task| (task.id.clone(), task.address.unwrap()))
        .next()
        .unwrap();
    let direct = SocketAddr::new(address, 8080);
    let serves = async |task: &TaskId| {
        let answer = client::get(running.world.listener(8080), "/").await.unwrap();
        assert_eq!(answer.status, 200);
        answer.header("x-task-id") == Some(task.as_str())
    };
    assert_eq!(client::get(direct, "/unhealthy").await.unwrap().status, 200);
    support::until("the task to be found unhealthy", || !healthy(&running, &sick)).await;
    // What is decided from here on is decided by it.
    let generation = running.state().generation;
    running.app.as_ref().unwrap().reader().wait_for(generation).await.unwrap();
    for _ in 0..40 {
        assert!(!serves(&sick).await, "traffic for an unready task");
    }
    // Passes of the orchestrator come with every commit, and it replaces nothing.
    for round in 0..20 {
        let protect = serde_json::json!({
            "cluster": "default", "tasks": [sick.to_string()], "protectionEnabled": round % 2 == 0,
        });
        ecs(&running, "UpdateTaskProtection", &protect).await;
    }
    assert_eq!(ids(&running), before);
    assert_eq!(running.state().tasks[&sick].desired, Desired::Running);
    assert_eq!(client::get(direct, "/healthy").await.unwrap().status, 200);
    support::until_async("traffic for the task", async || serves(&sick).await).await;
    assert_eq!(ids(&running), before);
    running.stop().await;
}

fn healthy(running: &Running, task: &TaskId) -> bool {
    let state = running.state();
    let mut targets = state.targets_of_task(task);
    targets.all(|t| state.verdict_state(t.id) == roadstead::model::VerdictState::Healthy)
}
