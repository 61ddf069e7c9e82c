//! Tables: a service with its target, actions, alarms and readings → what one pass writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::readings::Track;
use super::*;
use crate::model::{
    Adjustment, AlarmRule, Comparison, Deployment, MetricId, Missing, Owner, Progress, Protocol,
    ScalingKey, ServiceTargetGroup, StepAdjustment, Suspended, TargetGroup, TargetTracking, Task,
    TaskDefinitionKey, TrackedMetric,
};

/// 2026-11-20T12:00:00Z, a Friday.
const NOON: u64 = 1_795_176_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn key() -> ServiceKey {
    ServiceKey { cluster: "c".into(), name: "web".into() }
}

fn own(name: &str) -> ScalingKey {
    ScalingKey { service: key(), name: name.to_owned() }
}

fn account() -> Account {
    Account::new("local", "0".repeat(12))
}

fn task(number: u32) -> Task {
    Task {
        service: Some(key()),
        known: TaskStatus::Running,
        ..Task::new(format!("t{number}").as_str().into(), "c".into(), definition(), at(0))
    }
}

fn definition() -> TaskDefinitionKey {
    TaskDefinitionKey { family: "web".into(), revision: 1 }
}

/// A service of `desired` tasks, all running, between `min` and `max`.
fn state(desired: u32, (min, max): (u32, u32)) -> State {
    let mut state = State::default();
    let service = Service::new(key(), definition(), Owner::Api, at(0));
    let service = Service { desired_count: desired, ..service };
    let deployment = Deployment {
        rollout: Rollout::Completed,
        ..Deployment::of(&service, "ecs-svc/1".into(), at(0))
    };
    let deployments = vec![deployment];
    let progress = Progress { deployments, steady: true, ..Progress::new(key()) };
    let target = ScalableTarget {
        service: key(),
        id: "id".into(),
        min,
        max,
        suspended: Suspended::default(),
        role_arn: None,
        created_at: at(0),
    };
    state.services = Arc::new([(key(), Arc::new(service))].into());
    state.progress = Arc::new([(key(), Arc::new(progress))].into());
    state.scalable_targets = Arc::new([(key(), Arc::new(target))].into());
    let tasks = (0..desired).map(task).map(|task| (task.id.clone(), Arc::new(task)));
    state.tasks = Arc::new(tasks.collect());
    state
}

fn edit<K: Ord + Clone, V: Clone>(
    table: &mut Arc<BTreeMap<K, Arc<V>>>,
    key: &K,
    change: impl FnOnce(&mut V),
) {
    change(Arc::make_mut(Arc::make_mut(table).get_mut(key).unwrap()));
}

fn policy(name: &str, rule: PolicyRule) -> ScalingPolicy {
    ScalingPolicy { key: own(name), id: format!("id-{name}"), rule, created_at: at(0) }
}

fn add_policy(state: &mut State, policy: ScalingPolicy) {
    Arc::make_mut(&mut state.scaling_policies).insert(policy.key.clone(), Arc::new(policy));
}

fn tracking() -> PolicyRule {
    let (out_cooldown, in_cooldown, disable_scale_in) = (None, None, None);
    let metric = TrackedMetric::Cpu;
    PolicyRule::Track(TargetTracking {
        target: 50.0,
        metric,
        out_cooldown,
        in_cooldown,
        disable_scale_in,
    })
}

/// Makes the plan, carries it out, and tells what it put.
fn pass(state: &mut State, readings: &Readings, now: u64) -> String {
    let account = account();
    let cooldown = Duration::from_secs(300);
    let view = View { state, readings, account: &account, cooldown, now: at(now) };
    let plan = plan(view, &mut fastrand::Rng::with_seed(1));
    let mut told = Vec::new();
    for row in plan.put {
        match row {
            Row::Service(row) => {
                told.push(format!("count {}", row.desired_count));
                Arc::make_mut(&mut state.services).insert(row.key.clone(), row);
            }
            Row::ScalableTarget(row) => {
                told.push(format!("bounds {}..{}", row.min, row.max));
                Arc::make_mut(&mut state.scalable_targets).insert(row.service.clone(), row);
            }
            Row::ScalingHistory(row) => {
                let first = &row.activities[0];
                told.push(format!("{} {}: {}", first.status.as_str(), first.desired, first.cause));
                Arc::make_mut(&mut state.scaling_histories).insert(row.service.clone(), row);
            }
            Row::ScheduledAction(row) => {
                told.push(format!("done {}", row.key.name));
                Arc::make_mut(&mut state.scheduled_actions).insert(row.key.clone(), row);
            }
            Row::Alarm(row) => {
                told.push(format!("alarm {} {}: {}", row.name, row.state.as_str(), row.reason));
                Arc::make_mut(&mut state.alarms).insert(row.name.clone(), row);
            }
            row => panic!("{row:?}"),
        }
    }
    told.extend(plan.remove.iter().map(|key| format!("remove {} {}", key.table(), key.text())));
    told.join("; ")
}

/// As many tasks run as are wanted.
fn follow(state: &mut State) {
    let desired = state.services[&key()].desired_count;
    let tasks = (0..desired).map(task).map(|task| (task.id.clone(), Arc::new(task)));
    state.tasks = Arc::new(tasks.collect());
}

#[test]
fn requests_that_wait_bring_the_first_task() {
    let waits = Readings { wanted: ["g".into()].into(), ..Readings::default() };
    let idle = |desired: u32, bounds: (u32, u32)| {
        let mut state = state(desired, bounds);
        let lb = ServiceTargetGroup { group: "g".into(), container_port: 80, pair: None };
        edit(&mut state.services, &key(), |service| service.load_balancers = vec![lb]);
        let group = TargetGroup::new("g".into(), "0".repeat(16), (Protocol::Http, 80), Owner::Api);
        state.target_groups = Arc::new([("g".into(), Arc::new(group))].into());
        state
    };
    let mut zero = idle(0, (0, 5));
    assert_eq!(pass(&mut zero, &Readings::default(), NOON), "");
    let others = Readings { wanted: ["h".into()].into(), ..Readings::default() };
    assert_eq!(pass(&mut zero, &others, NOON), "");
    let arn = "arn:aws:elasticloadbalancing:local:000000000000:targetgroup/g/0000000000000000";
    assert_eq!(
        pass(&mut zero, &waits, NOON),
        format!(
            "count 1; InProgress 1: requests wait for a target of {arn}; capacity was set to 1"
        )
    );
    assert_eq!(pass(&mut zero, &waits, NOON), "", "it is on its way");
    assert_eq!(zero.scaling_histories[&key()].scaled_out, None);
    assert_eq!(pass(&mut idle(2, (0, 5)), &waits, NOON), "");
    assert_eq!(pass(&mut idle(0, (0, 0)), &waits, NOON), "");
    let mut still = idle(0, (0, 5));
    edit(&mut still.scalable_targets, &key(), |target| target.suspended.scale_out = true);
    assert_eq!(pass(&mut still, &waits, NOON), "");
}

#[test]
fn counts_outside_the_bounds_come_inside_at_once() {
    let none = Readings::default();
    let mut low = state(1, (3, 5));
    assert_eq!(pass(&mut low, &none, NOON), "count 3; InProgress 3: minimum capacity was set to 3");
    assert_eq!(pass(&mut low, &none, NOON), "", "its tasks are on their way");
    follow(&mut low);
    let done = "Successful 3: minimum capacity was set to 3";
    assert_eq!(pass(&mut low, &none, NOON + 5), done);
    assert_eq!(pass(&mut low, &none, NOON + 6), "");
    let mut high = state(7, (3, 5));
    assert_eq!(
        pass(&mut high, &none, NOON),
        "count 5; InProgress 5: maximum capacity was set to 5"
    );
}

#[test]
fn policies_move_the_count_and_activities_tell_why() {
    let mut state = state(2, (1, 10));
    add_policy(&mut state, policy("cpu", tracking()));
    let read = |high: bool, low: bool, value: f64| Readings {
        tracks: [(own("cpu"), Track { high, low, value: Some(value) })].into(),
        ..Readings::default()
    };
    let alarm = |side: &str| {
        format!(
            "monitor alarm TargetTracking-service/c/web-Alarm{side}-id-cpu in state ALARM \
             triggered policy cpu"
        )
    };
    let out = format!("count 4; InProgress 4: {}", alarm("High"));
    assert_eq!(pass(&mut state, &read(true, false, 100.0), NOON), out);
    follow(&mut state);
    let none = Readings::default();
    assert!(pass(&mut state, &none, NOON + 10).starts_with("Successful 4"));
    // The same demand within the cooldown was met already.
    assert_eq!(pass(&mut state, &read(true, false, 100.0), NOON + 60), "");
    let inward = format!("count 2; InProgress 2: {}", alarm("Low"));
    assert_eq!(pass(&mut state, &read(false, true, 25.0), NOON + 70), inward);
    follow(&mut state);
    // Somebody else changes the count before anybody looks.
    edit(&mut state.services, &key(), |service| service.desired_count = 3);
    assert!(pass(&mut state, &none, NOON + 80).starts_with("Overridden 2"));
    let history = &state.scaling_histories[&key()];
    assert_eq!(history.activities.len(), 2);
    assert_eq!(history.scaled_in, Some(at(NOON + 70)));
}

#[test]
fn nothing_is_scaled_in_while_a_deployment_is_under_way() {
    let mut state = state(4, (1, 10));
    add_policy(&mut state, policy("cpu", tracking()));
    let low = Readings {
        tracks: [(own("cpu"), Track { high: false, low: true, value: Some(10.0) })].into(),
        ..Readings::default()
    };
    edit(&mut state.progress, &key(), |progress| {
        progress.deployments[0].rollout = Rollout::InProgress;
    });
    assert_eq!(pass(&mut state, &low, NOON), "");
    edit(&mut state.progress, &key(), |progress| {
        progress.deployments[0].rollout = Rollout::Completed;
    });
    assert!(pass(&mut state, &low, NOON).starts_with("count 1; "));
}

fn action(state: &mut State, name: &str, schedule: &str, bounds: (Option<u32>, Option<u32>)) {
    let action = ScheduledAction {
        key: own(name),
        id: String::new(),
        schedule: schedule.to_owned(),
        timezone: None,
        start: None,
        end: None,
        min: bounds.0,
        max: bounds.1,
        created_at: at(NOON - 86_400),
        done_until: at(NOON - 86_400),
    };
    Arc::make_mut(&mut state.scheduled_actions).insert(action.key.clone(), Arc::new(action));
}

#[test]
fn scheduled_actions_set_bounds_when_they_are_due_and_once() {
    let mut state = state(2, (1, 4));
    let none = Readings::default();
    action(&mut state, "noon", "cron(0 12 * * ? *)", (Some(6), Some(8)));
    edit(&mut state.scheduled_actions, &own("noon"), |row| row.done_until = at(NOON - 3600));
    assert_eq!(pass(&mut state, &none, NOON - 1), "");
    assert_eq!(
        pass(&mut state, &none, NOON),
        "done noon; count 6; InProgress 6: scheduled action name noon was triggered; minimum \
         capacity was set to 6; bounds 6..8"
    );
    assert_eq!(pass(&mut state, &none, NOON + 1), "");
    // What was missed is caught up with, in the order of its times.
    action(&mut state, "morning", "cron(0 7 * * ? *)", (Some(2), Some(3)));
    edit(&mut state.scheduled_actions, &own("morning"), |row| row.done_until = at(NOON));
    let told = pass(&mut state, &none, NOON + 86_400 + 5);
    assert_eq!(told, "done morning; done noon");
    assert_eq!((state.scalable_targets[&key()].min, state.services[&key()].desired_count), (6, 6));
}

#[test]
fn scheduled_actions_keep_to_their_time_and_may_be_suspended() {
    let none = Readings::default();
    let check = |change: &dyn Fn(&mut State), expected: &str| {
        let mut state = state(2, (1, 4));
        action(&mut state, "a", "rate(1 day)", (None, Some(1)));
        change(&mut state);
        assert_eq!(pass(&mut state, &none, NOON), expected);
    };
    let all = "done a; count 1; InProgress 1: scheduled action name a was triggered; maximum \
               capacity was set to 1; bounds 1..1";
    check(&|_| {}, all);
    let (row, once) = (own("a"), "done a");
    check(
        &|state| edit(&mut state.scheduled_actions, &row, |row| row.end = Some(at(NOON - 1))),
        once,
    );
    check(
        &|state| edit(&mut state.scheduled_actions, &row, |row| row.start = Some(at(NOON + 1))),
        "",
    );
    check(
        &|state| edit(&mut state.scalable_targets, &key(), |row| row.suspended.scheduled = true),
        once,
    );
}

fn alarm(name: &str, actions: Vec<String>) -> Alarm {
    Alarm {
        name: name.into(),
        description: None,
        rule: AlarmRule {
            metric: MetricId::new("AWS/ECS", "CPUUtilization", &[]),
            statistic: Statistic::Average,
            period: 60,
            periods: 2,
            breaching: 2,
            comparison: Comparison::GreaterOrEqual,
            threshold: 60.0,
            missing: Missing::Missing,
        },
        given: Default::default(),
        queries: Vec::new(),
        actions_enabled: true,
        actions,
        configured_at: at(0),
        state: AlarmState::InsufficientData,
        reason: String::new(),
        changed_at: at(0),
    }
}

#[test]
fn step_policies_follow_the_alarms_that_name_them() {
    let mut state = state(2, (1, 10));
    let steps = vec![
        StepAdjustment { lower: Some(0.0), upper: Some(20.0), adjustment: 1 },
        StepAdjustment { lower: Some(20.0), upper: None, adjustment: 4 },
    ];
    let rule = PolicyRule::Step(StepScaling {
        adjustment: Adjustment::ChangeInCapacity,
        steps,
        min_magnitude: None,
        cooldown: Some(60),
        aggregation: Some(Statistic::Maximum),
    });
    let policy = policy("step", rule);
    let arn = account().scaling_policy(&policy).to_string();
    add_policy(&mut state, policy);
    Arc::make_mut(&mut state.alarms).insert("hot".into(), Arc::new(alarm("hot", vec![arn])));
    let other = alarm("other", Vec::new());
    Arc::make_mut(&mut state.alarms).insert("other".into(), Arc::new(other));
    let read = |values: [f64; 2]| Readings {
        alarms: ["hot", "other"].map(|name| (name.into(), values.map(Some).to_vec())).into(),
        ..Readings::default()
    };
    let words = |name: &str| {
        format!(
            "alarm {name} ALARM: Threshold Crossed: 2 datapoints [65, 60] were greater than or \
             equal to the threshold (60.0)."
        )
    };
    assert_eq!(
        pass(&mut state, &read([60.0, 65.0]), NOON),
        format!(
            "count 3; InProgress 3: monitor alarm hot in state ALARM triggered policy step; {}; {}",
            words("hot"),
            words("other")
        )
    );
    follow(&mut state);
    // Further off within the cooldown: what was added counts.
    let more = pass(&mut state, &read([60.0, 90.0]), NOON + 30);
    assert!(more.starts_with("count 6; InProgress 6: monitor alarm hot"), "{more}");
    follow(&mut state);
    let ok = pass(&mut state, &read([60.0, 10.0]), NOON + 100);
    assert!(ok.contains("Successful 6") && ok.contains("alarm hot OK: Threshold Crossed"), "{ok}");
    assert_eq!(pass(&mut state, &Readings::default(), NOON + 110), "", "no reading, no change");
}

#[test]
fn a_target_goes_with_its_service() {
    let mut state = state(2, (1, 10));
    add_policy(&mut state, policy("cpu", tracking()));
    action(&mut state, "a", "rate(1 day)", (None, Some(1)));
    state.services = Arc::default();
    assert_eq!(
        pass(&mut state, &Readings::default(), NOON),
        "remove tags arn:aws:application-autoscaling:local:000000000000:scalable-target/id; \
         remove scaling_policies c/web/cpu; remove scheduled_actions c/web/a; \
         remove scaling_histories c/web; remove scalable_targets c/web"
    );
}
