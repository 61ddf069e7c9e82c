//! What dies comes back: tasks, verdicts, Roadstead itself.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use roadstead::model::{StopCode, TaskStatus};

use crate::support::client::{self, Load};
use crate::support::world::{self, Service, World, healthy_tasks, kill, tasks_of};
use crate::support::{self, full_or};

/// The process behind a task of the process runtime.
fn pid(runtime_id: &str) -> i32 {
    runtime_id.split(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_task_is_avoided_at_once_and_replaced() {
    // So many deaths in a row would be taken for a crash loop.
    let patient = "[limits]\ncrash_backoff = \"50ms\"\ncrash_backoff_max = \"50ms\"";
    let world = World::new().setting(patient).service(Service::http("web", 3));
    let running = world.start().await;
    running.settled("web", 3).await;
    let load = Load::start(running.world.listener(8080), "/", 16);
    let kills = full_or(20, 3);
    for _ in 0..kills {
        load.more(full_or(1_000, 200)).await;
        let state = running.state();
        let victim = tasks_of(&state, "web").find(|task| task.is_live()).unwrap();
        kill(pid(victim.containers[0].runtime_id.as_deref().unwrap()), "KILL");
        let id = victim.id.clone();
        support::until("the dead task to be stopped", || {
            running.state().tasks.get(&id).is_none_or(|task| task.known == TaskStatus::Stopped)
        })
        .await;
        if let Some(task) = running.state().tasks.get(&id) {
            assert_eq!(task.stop.as_ref().unwrap().code, StopCode::EssentialContainerExited);
            assert_eq!(task.containers[0].exit_code, Some(137));
        }
        running.settled("web", 3).await;
    }
    let tally = load.finish().await;
    let half = tally.half_answered.load(Ordering::Relaxed);
    support::note(&format!(
        "{kills} kills under {} requests: {} unanswered or bad, {half} half answered",
        tally.succeeded(),
        tally.failed() - half,
    ));
    // The load is GETs: what had no byte of an answer is replayed, so only half answers may fail.
    assert_eq!(tally.failed(), half, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn post_without_an_answer_is_not_replayed() {
    let running = World::new().service(Service::http("web", 2)).start().await;
    running.settled("web", 2).await;
    let address = running.world.listener(8080);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let post = tokio::spawn(async move {
        let mut stream = stream;
        client::exchange(&mut stream, "POST", "/delay/20000", true).await
    });
    support::until("the POST to reach a task", || in_flight(&running) == 1).await;
    let state = running.state();
    for task in tasks_of(&state, "web") {
        kill(pid(task.containers[0].runtime_id.as_deref().unwrap()), "KILL");
    }
    assert_eq!(post.await.unwrap().unwrap().status, 502);
    running.settled("web", 2).await;
    assert_eq!(in_flight(&running), 0, "it was sent again");
    running.stop().await;
}

fn in_flight(running: &world::Running) -> i64 {
    let routing = running.app.as_ref().unwrap().reader().load();
    routing.endpoints.values().map(|endpoint| endpoint.in_flight()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unhealthy_task_is_replaced_replacement_first() {
    let running = World::new().service(Service::http("web", 2)).start().await;
    running.settled("web", 2).await;
    let load = Load::start(running.world.listener(8080), "/", 4);
    let state = running.state();
    let sick = tasks_of(&state, "web").next().unwrap().clone();
    let direct = std::net::SocketAddr::new(sick.address.unwrap(), 8080);
    assert_eq!(client::get(direct, "/unhealthy").await.unwrap().status, 200);
    let mut fewest = usize::MAX;
    support::until("the unhealthy task to be stopped", || {
        let state = running.state();
        let serving = tasks_of(&state, "web")
            .filter(|task| task.known == TaskStatus::Running && task.is_live());
        fewest = fewest.min(serving.count());
        state.tasks.get(&sick.id).is_none_or(|task| task.known == TaskStatus::Stopped)
    })
    .await;
    running.settled("web", 2).await;
    assert!(fewest >= 2, "{fewest} tasks ran while one was replaced");
    let stop = running.state().tasks[&sick.id].stop.clone().unwrap();
    assert_eq!(stop.code, StopCode::ServiceSchedulerInitiated);
    assert!(stop.reason.starts_with("Task failed ELB health checks in"), "{}", stop.reason);
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_ignores_sigterm_is_killed_after_its_stop_timeout() {
    let stubborn = Service { stop_timeout: 2, ..Service::http("web", 1) };
    let mut running = World::new().service(stubborn.arguments(&["--ignore-sigterm"])).start().await;
    running.settled("web", 1).await;
    running.edit(|services| services[0].desired = 0);
    running.settled("web", 0).await;
    let state = running.state();
    let task = tasks_of(&state, "web").next().unwrap();
    assert_eq!(task.containers[0].exit_code, Some(137));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_cannot_start_backs_off_and_says_why() {
    let broken = Service {
        command: Some(vec!["/nonexistent/program".to_owned()]),
        ..Service::http("web", 2)
    };
    let running = World::new().service(broken).start().await;
    let world = &running.world;
    let mut last = None;
    support::until("status to show the back-off", || {
        last = world::status(&world.data_dir());
        last.as_ref().is_some_and(|status| {
            status.services.iter().any(|s| s.failures >= 3 && s.next_start.is_some())
        })
    })
    .await;
    let status = last.unwrap();
    let service = &status.services[0];
    let failure = service.failure.clone().unwrap_or_default();
    assert!(failure.contains("/nonexistent/program"), "{service:?}");
    let failed = status.tasks.iter().find(|task| task.last_status == "STOPPED").unwrap();
    assert_eq!(failed.stop_code.as_deref(), Some("TaskFailedToStart"));
    let reason = failed.containers[0].reason.clone().unwrap_or_default();
    assert!(reason.starts_with("CannotStartContainerError"), "{reason}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_roadstead_adopts_its_tasks_and_serves_without_new_probes() {
    let kills = full_or(200, 4);
    // Probes are rare: traffic right after a restart can only come from what was known before.
    let service = Service { interval: "30s", ..Service::http("web", 3) };
    let world = World::new().service(service);
    let mut serve = world.spawn();
    let wait = |serve: &world::Serve| {
        serve.status().map(|status| healthy_tasks(&status, "web")).unwrap_or_default()
    };
    let mut ids = BTreeSet::new();
    support::until("three healthy tasks", || {
        ids = wait(&serve).into_iter().collect();
        ids.len() == 3
    })
    .await;
    for round in 0..kills {
        let pids = |serve: &world::Serve| -> BTreeSet<Option<String>> {
            let tasks = serve.status().map(|status| status.tasks).unwrap_or_default();
            let live = tasks.into_iter().filter(|task| task.last_status != "STOPPED");
            live.map(|task| task.containers[0].runtime_id.clone()).collect()
        };
        let before = pids(&serve);
        serve.child.kill().unwrap();
        serve.child.wait().unwrap();
        serve = world.spawn();
        let address = world.listener(8080);
        support::until("the new process to listen", || {
            std::net::TcpStream::connect(address).is_ok()
        })
        .await;
        let answer = client::get(world.listener(8080), "/").await.unwrap();
        assert_eq!(answer.status, 200, "round {round}");
        let now: BTreeSet<_> = wait(&serve).into_iter().collect();
        assert_eq!(now, ids, "round {round}: other tasks than before");
        assert_eq!(pids(&serve), before, "round {round}: other processes than before");
    }
    support::note(&format!("{kills} kills of roadstead, the same three tasks throughout"));
    drop(serve);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_and_after_every_effect_its_processes_are_those_on_record() {
    for effect in ["create", "start", "register", "deregister", "stop", "remove"] {
        for when in ["before", "after"] {
            let patient = Service { unhealthy_threshold: 5, ..Service::http("web", 2) };
            let mut world = World::new().service(patient);
            let place = format!("{when}-{effect}");
            let mut serve = world.spawn_until(&world.toml(), &place);
            let revision = if matches!(effect, "create" | "start" | "register") { 1 } else { 2 };
            if revision == 2 {
                support::until("two healthy tasks", || {
                    serve.status().is_some_and(|s| healthy_tasks(&s, "web").len() == 2)
                })
                .await;
                world.services[0].arguments = vec!["--udp".to_owned()];
                world.write();
            }
            assert_eq!(serve.ended().await, None, "{place}: it was to end by a signal");
            // Others may have been under way when it ended.
            let mut serve = world.spawn();
            support::until(&format!("only two healthy tasks after {place}"), || {
                let ended = serve.child.try_wait().unwrap();
                assert_eq!(ended, None, "{place}: {}", world.log());
                let Some(status) = serve.status() else { return false };
                let mut alive = status.tasks.iter().filter(|task| task.last_status != "STOPPED");
                let family = format!("web:{revision}");
                healthy_tasks(&status, "web").len() == 2
                    && alive.clone().count() == 2
                    && alive.all(|task| task.task_definition == family)
            })
            .await;
            let status = serve.status().unwrap();
            let alive = status.tasks.iter().filter(|task| task.last_status != "STOPPED");
            let recorded = alive.map(|task| pid(task.containers[0].runtime_id.as_deref().unwrap()));
            assert_eq!(world.processes(), recorded.collect(), "{place}");
            drop(serve);
        }
    }
}
