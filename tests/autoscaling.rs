//! Scaling by our own metrics: under load and back, and as unmodified clients ask for it.

use roadstead::clock;
use roadstead::model::{
    PolicyRule, ScalableTarget, ScalingKey, ScalingPolicy, ServiceKey, Suspended, TargetTracking,
    TrackedMetric,
};
use roadstead::state::StoreError;

use crate::support::aws::client;
use crate::support::client::{self as http, Load};
use crate::support::world::{Running, Service, World};

const FAST: &str = "[autoscaling]\nprofile = \"fast\"";

fn key() -> ServiceKey {
    ServiceKey { cluster: "default".into(), name: "web".into() }
}

/// One to three tasks for so many requests per target and minute.
async fn track(running: &Running, target: f64) {
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
            min: 1,
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
    track(&running, 60.0).await;
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
