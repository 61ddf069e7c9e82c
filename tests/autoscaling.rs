//! Scaling by our own metrics: under load and back, and as unmodified clients ask for it.

use roadstead::clock;
use roadstead::model::{
    PolicyRule, ScalableTarget, ScalingKey, ScalingPolicy, ServiceKey, Suspended, TargetTracking,
    TaskStatus, TrackedMetric,
};
use roadstead::state::{State, StoreError};

use crate::support::aws::client;
use crate::support::client::{self as http, Load};
use crate::support::until;
use crate::support::world::{Running, Service, World, tasks_of};

const FAST: &str = "[autoscaling]\nprofile = \"fast\"";

fn key() -> ServiceKey {
    ServiceKey { cluster: "default".into(), name: "web".into() }
}

/// So many to three tasks for so many requests per target and minute.
async fn track(running: &Running, min: u32, target: f64) {
    let state = running.state();
    let balancer = state.load_balancers[&"web".into()].path();
    let group = &state.target_groups[&"web".into()];
    let label = format!("{balancer}/targetgroup/{}/{}", group.name, group.id);
    let rule = TargetTracking {
        target,
        metric: TrackedMetric::RequestsPerTarget(label),
        out_cooldown: None,
        in_cooldown: None,
        disable_scale_in: None,
    };
    let now = clock::now();
    let write = move |tx: &mut roadstead::state::Tx<'_>| {
        tx.put(ScalableTarget {
            service: key(),
            id: "id".into(),
            min,
            max: 3,
            suspended: Suspended::default(),
            role_arn: None,
            created_at: now,
        });
        tx.put(ScalingPolicy {
            key: ScalingKey { service: key(), name: "requests".into() },
            id: "id".into(),
            rule: PolicyRule::Track(rule),
            created_at: now,
        });
        Ok::<_, StoreError>(())
    };
    running.app.as_ref().unwrap().store().update(write).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_brings_more_tasks_and_its_end_takes_them_away_unnoticed() {
    let world = World::new().setting(FAST).service(Service::http("web", 1));
    let running = world.start().await;
    running.settled("web", 1).await;
    track(&running, 1, 60.0).await;
    let load = Load::start(running.world.listener(8080), "/", 4);
    running.settled("web", 3).await;
    load.more(200).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.settled("web", 1).await;
    let state = running.state();
    let activities = &state.scaling_histories[&key()].activities;
    let counts: Vec<_> = activities.iter().rev().map(|activity| activity.desired).collect();
    assert_eq!(counts.last(), Some(&1), "{counts:?}");
    assert!(counts.contains(&3), "{counts:?}");
    let causes: Vec<_> = activities.iter().map(|activity| activity.cause.as_str()).collect();
    assert!(causes[0].contains("AlarmLow") && causes[0].ends_with("policy requests"), "{causes:?}");
    assert!(causes.last().unwrap().contains("AlarmHigh"), "{causes:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_bring_the_first_task_and_quiet_takes_the_last_away() {
    let group = "hold = { requests = 10, timeout = \"60s\" }";
    let service = Service { group, ..Service::http("web", 0) };
    let running = World::new().setting(FAST).service(service).start().await;
    track(&running, 0, 600.0).await;
    for round in 1..=2 {
        let asks = (0..5).map(|_| http::get(running.world.listener(8080), "/"));
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(answer.unwrap().status, 200, "round {round}");
        }
        let state = running.state();
        let activity = state.scaling_histories[&key()].activities.back().unwrap().clone();
        let cause = "requests wait for a target of arn:aws:elasticloadbalancing:local:";
        assert!(activity.desired == 1 && activity.cause.starts_with(cause), "{activity:?}");
        running.settled("web", 0).await;
        let gone = |state: &State| tasks_of(state, "web").all(|t| t.known == TaskStatus::Stopped);
        until("its last task to go", || gone(&running.state())).await;
        let state = running.state();
        let last = &state.scaling_histories[&key()].activities[0];
        assert!(last.desired == 0 && last.cause.contains("AlarmLow"), "{last:?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_policies_and_scheduled_actions_are_what_was_asked_for() {
    let world = World::new().open_api().setting(FAST).service(Service::http("web", 1));
    let running = world.start().await;
    running.settled("web", 1).await;
    client(&running, "autoscaling.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_shows_what_was_measured_and_keeps_alarms() {
    let world = World::new().open_api().setting(FAST).service(Service::http("web", 1));
    let running = world.start().await;
    running.settled("web", 1).await;
    for _ in 0..10 {
        assert_eq!(http::get(running.world.listener(8080), "/").await.unwrap().status, 200);
    }
    client(&running, "cloudwatch.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_logs_reads_the_streams_of_tasks() {
    let running = World::new().open_api().start().await;
    let folder = running.world.data_dir().join("logs");
    client(&running, "logs.py", &[&folder.to_string_lossy()]).await;
    running.stop().await;
}
