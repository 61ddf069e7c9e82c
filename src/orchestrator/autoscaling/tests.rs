//! Facts about the whole loop, beside the orchestrator, on the simulated runtime and in virtual
//! time.

use std::sync::Arc;

use super::*;
use crate::model::{
    ActivityStatus, PolicyRule, ScalableTarget, ScalingKey, ScalingPolicy, ScheduledAction,
    Suspended, TargetTracking, TrackedMetric,
};
use crate::orchestrator::tests::{House, is_steady, key};
use crate::state::{State, Tx};

/// Where the house's clock begins: 2023-11-14T22:13:20Z.
const ORIGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn own(name: &str) -> ScalingKey {
    ScalingKey { service: key(), name: name.to_owned() }
}

fn target(min: u32, max: u32) -> ScalableTarget {
    ScalableTarget {
        service: key(),
        id: "id".into(),
        min,
        max,
        suspended: Suspended::default(),
        role_arn: None,
        created_at: ORIGIN,
    }
}

/// Keeps the CPU at `target` percent; a simulated container uses ten.
fn policy(target: f64) -> ScalingPolicy {
    let (out_cooldown, in_cooldown, disable_scale_in) = (None, None, None);
    let metric = TrackedMetric::Cpu;
    let rule = TargetTracking { target, metric, out_cooldown, in_cooldown, disable_scale_in };
    let (id, rule) = ("id".to_owned(), PolicyRule::Track(rule));
    ScalingPolicy { key: own("cpu"), id, rule, created_at: ORIGIN }
}

/// A house with `count` steady tasks, and scaling as AWS does it.
async fn house(count: u32, write: impl FnOnce(&mut Tx<'_>) + Send + 'static) -> House {
    let mut house = House::new();
    let clock = Clock::paused(ORIGIN);
    house.scale(count).await;
    house.until("steady", is_steady).await;
    let change = |tx: &mut Tx<'_>| {
        write(tx);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
    let profile = ScalingProfile::Faithful;
    let around = Surroundings {
        store: house.store.clone(),
        reader: house.reader.clone(),
        fleet: Fleet::one(Arc::new(house.sim.clone())),
        account: Account::new("local", "0".repeat(12)),
        metrics: Metrics::new(1),
        clock,
    };
    let series = Series::new(profile.step());
    let scaling = Scaling::new(around, series, profile, fastrand::Rng::with_seed(1));
    house.work.spawn(scaling.run(CancellationToken::new()));
    house
}

fn desired(state: &State) -> u32 {
    state.services[&key()].desired_count
}

/// Serves for so many minutes; the minutes after which the count changed, and to what.
async fn minutes(house: &House, count: u64) -> Vec<(u64, u32)> {
    let mut changes = Vec::new();
    let mut last = desired(&house.store.read());
    for second in 0..count * 60 {
        let end = crate::clock::instant() + Duration::from_secs(1);
        house.until("a second to pass", |_| crate::clock::instant() >= end).await;
        let now = desired(&house.store.read());
        if now != last {
            changes.push((second / 60, now));
            last = now;
        }
    }
    changes
}

#[tokio::test(start_paused = true)]
async fn idle_tasks_are_scaled_in_after_fifteen_minutes() {
    let house = house(4, |tx| {
        tx.put(target(1, 10));
        tx.put(policy(50.0));
    })
    .await;
    let changes = minutes(&house, 20).await;
    // 4 × 10 % / 50 %, rounded up.
    assert_eq!(changes.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1]);
    assert!((14..=16).contains(&changes[0].0), "{changes:?}");
    let state = house.store.read();
    let activity = &state.scaling_histories[&key()].activities[0];
    assert_eq!(activity.status, ActivityStatus::Successful);
    assert!(activity.cause.contains("AlarmLow"), "{}", activity.cause);
}

#[tokio::test(start_paused = true)]
async fn busy_tasks_are_scaled_out_after_three_minutes_and_again_after_the_cooldown() {
    let house = house(2, |tx| {
        tx.put(target(1, 20));
        tx.put(policy(5.0));
    })
    .await;
    let changes = minutes(&house, 11).await;
    // Their number does not lower what each of them uses: it doubles whenever it may.
    assert_eq!(changes.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [4, 8]);
    assert!((2..=4).contains(&changes[0].0), "{changes:?}");
    assert!((5..=6).contains(&(changes[1].0 - changes[0].0)), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn scheduled_actions_come_at_their_time() {
    let house = house(2, |tx| {
        tx.put(target(1, 4));
        tx.put(ScheduledAction {
            key: own("evening"),
            id: "id".into(),
            schedule: "cron(30 17 * * ? *)".into(),
            timezone: Some("America/New_York".into()),
            start: None,
            end: None,
            min: Some(3),
            max: Some(6),
            created_at: ORIGIN,
            done_until: ORIGIN,
        });
    })
    .await;
    // 17:30 there is 22:30 here, sixteen minutes and a few seconds on.
    let changes = minutes(&house, 20).await;
    assert_eq!(changes.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3]);
    assert!((15..=17).contains(&changes[0].0), "{changes:?}");
    let state = house.store.read();
    let bounds = &state.scalable_targets[&key()];
    assert_eq!((bounds.min, bounds.max), (3, 6));
}
