//! Scaling in a simulation: what moves the counts, and what must hold of whoever moves them.
//!
//! Each service is asked for so much at a time, in all and by each of its tasks; policies, alarms
//! and scheduled actions follow that. **Invariant:** a count that no call asked for has an activity
//! that tells of it, and lies within the bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roadstead::clock::{Clock, Timestamp};
use roadstead::model::{
    Adjustment, Alarm, AlarmRule, AlarmState, Comparison, MetricId, Missing, PolicyRule, Rollout,
    ScalableTarget, ScalingKey, ScalingPolicy, ScheduledAction, ServiceKey, ServiceStatus,
    Statistic, StepAdjustment, StepScaling, Suspended, TargetTracking, TaskStatus, TrackedMetric,
};
use roadstead::series::{Point, Series};
use roadstead::state::{Key, State, Store, StoreError, Tx};
use tokio::time::sleep;

use super::Run;
use super::check::Watcher;
use super::world::{Shared, account};

/// What one task should be asked for.
const TARGET: f64 = 10.0;
const TRACK: &str = "track";
const STEP: &str = "step";
const CLOCK: &str = "clock";

fn metric(service: &ServiceKey, name: &str) -> MetricId {
    MetricId::new("Simulation", name, &[("Service", service.name.as_str())])
}

/// Tells every second what services are asked for.
pub(crate) async fn demand(store: Store, series: Series, clock: Clock, shared: Arc<Mutex<Shared>>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let (state, demands) = (store.read(), shared.lock().unwrap().demands.clone());
        for (service, demand) in demands {
            let runs = state.tasks_of(&service).filter(|t| t.is_live());
            let runs = runs.filter(|task| task.known == TaskStatus::Running).count();
            let each = demand / f64::from(u32::try_from(runs.max(1)).unwrap());
            let points = [("All", demand), ("Each", each)];
            let points = points.map(|(name, value)| (metric(&service, name), Point::one(value)));
            series.add(clock.now(), points);
        }
    }
}

/// A step up while much is asked for, or down while little is.
fn steps(key: &ScalingKey, up: bool, now: Timestamp) -> (ScalingPolicy, Alarm) {
    let (lower, upper) = if up { (Some(0.0), None) } else { (None, Some(0.0)) };
    let adjustment = if up { 1 } else { -1 };
    let rule = StepScaling {
        adjustment: Adjustment::ChangeInCapacity,
        steps: vec![StepAdjustment { lower, upper, adjustment }],
        min_magnitude: None,
        cooldown: None,
        aggregation: None,
    };
    let (id, rule) = (key.to_string(), PolicyRule::Step(rule));
    let policy = ScalingPolicy { key: key.clone(), id, rule, created_at: now };
    let (comparison, threshold) =
        if up { (Comparison::GreaterOrEqual, 30.0) } else { (Comparison::LessOrEqual, 5.0) };
    let alarm = Alarm {
        name: format!("alarm-{}", key.service.name).as_str().into(),
        description: None,
        rule: AlarmRule {
            metric: metric(&key.service, "All"),
            statistic: Statistic::Average,
            period: 60,
            periods: 1,
            breaching: 1,
            comparison,
            threshold,
            missing: Missing::Missing,
        },
        given: Default::default(),
        queries: Vec::new(),
        actions_enabled: true,
        actions: vec![account().scaling_policy(&policy).to_string()],
        configured_at: now,
        state: AlarmState::InsufficientData,
        reason: String::new(),
        changed_at: now,
    };
    (policy, alarm)
}

fn tracking(key: ScalingKey, now: Timestamp) -> ScalingPolicy {
    let metric = metric(&key.service, "Each");
    let (statistic, unit) = (Statistic::Average, None);
    let rule = PolicyRule::Track(TargetTracking {
        target: TARGET,
        metric: TrackedMetric::Customized { metric, statistic, unit },
        out_cooldown: None,
        in_cooldown: None,
        disable_scale_in: None,
    });
    ScalingPolicy { id: key.to_string(), key, rule, created_at: now }
}

impl Run {
    fn random_scaled(&mut self) -> ServiceKey {
        let name = *self.rng.choice(&["a", "b", "d"]).unwrap();
        ServiceKey { cluster: "c".into(), name: name.into() }
    }

    /// A service is asked for more or less from now on.
    pub(super) fn ask(&mut self) {
        let (key, demand) = (self.random_scaled(), self.rng.u32(0..50));
        self.note(format!("{key} is asked for {demand}"));
        let mut shared = self.house.shared.lock().unwrap();
        shared.demands.insert(key, f64::from(demand));
        shared.holds = self.rng.bool();
    }

    /// Registers a scalable target with some of what may move it, or deregisters it.
    pub(super) async fn scale(&mut self) {
        let key = self.random_scaled();
        let now = self.house.clock.now();
        let mut some = |of: u32| self.rng.u32(0..of) == 0;
        let (goes, tracks, steps_up, steps_down) = (some(8), !some(3), some(3), some(3));
        let (is_timed, halts) = (some(2), [some(10), some(10), some(10)]);
        let min = self.rng.u32(0..2);
        let max = min + self.rng.u32(0..4);
        let bounds = (self.rng.u32(0..2), self.rng.u32(2..5));
        // Without its fraction and zone.
        let soon = (now + Duration::from_secs(self.rng.u64(1..10))).to_string();
        let schedule = format!("at({})", &soon[..19]);
        self.note(format!("scale {key} {min}..{max}, goes: {goes}"));
        let own = |name: &str| ScalingKey { service: key.clone(), name: name.to_owned() };
        let (track, step, timed) = (own(TRACK), own(STEP), own(CLOCK));
        let scalable = key.clone();
        let change = move |tx: &mut Tx<'_>| {
            tx.remove(Key::ScalingPolicy(track.clone()));
            tx.remove(Key::ScalingPolicy(step.clone()));
            tx.remove(Key::ScheduledAction(timed.clone()));
            if goes {
                tx.remove(Key::ScalableTarget(key.clone()));
                return Ok::<_, StoreError>(());
            }
            let [scale_in, scale_out, scheduled] = halts;
            tx.put(ScalableTarget {
                service: key.clone(),
                id: key.to_string(),
                min,
                max,
                suspended: Suspended { scale_in, scale_out, scheduled },
                role_arn: None,
                created_at: now,
            });
            if tracks {
                tx.put(tracking(track, now));
            }
            if steps_up || steps_down {
                let (policy, alarm) = steps(&step, steps_up, now);
                tx.put(policy);
                tx.put(alarm);
            }
            if is_timed {
                tx.put(ScheduledAction {
                    id: timed.to_string(),
                    key: timed,
                    schedule,
                    timezone: None,
                    start: None,
                    end: None,
                    min: Some(bounds.0),
                    max: Some(bounds.1),
                    created_at: now,
                    done_until: now,
                });
            }
            Ok(())
        };
        // Refused: there is no such service.
        if self.boot().store.update(change).await.is_ok() {
            self.scaled.insert(scalable);
        }
    }

    /// Whatever moves counts may do so, and nobody asks where there is no task.
    pub(super) async fn resume_scaling(&mut self) {
        self.house.shared.lock().unwrap().holds = false;
        let change = |tx: &mut Tx<'_>| {
            for target in tx.state().scalable_targets.clone().values() {
                let suspended = Suspended::default();
                tx.put(ScalableTarget { suspended, ..ScalableTarget::clone(target) });
            }
            Ok::<_, StoreError>(())
        };
        self.boot().store.update(change).await.unwrap();
    }
}

impl Watcher {
    /// Judges who moved counts since the last look.
    pub(super) fn scaling(&mut self, state: &State) {
        let before = Arc::clone(&self.before);
        let asked = std::mem::take(&mut self.asked);
        for (key, target) in state.scalable_targets.iter() {
            let counts = [&*before, state].map(|s| s.services.get(key).map(|s| s.desired_count));
            let [Some(was), Some(is)] = counts else { continue };
            if was == is || asked.get(key).is_some_and(|asked| asked.contains(&is)) {
                continue;
            }
            let history = state.scaling_histories.get(key);
            let Some(told) = history.and_then(|h| h.activities.front().cloned()) else {
                self.wrong(format!("{key} went from {was} to {is}, and nothing tells why"));
                continue;
            };
            if told.desired != is {
                self.wrong(format!("{key} went from {was} to {is}, but was to go as {told:?}"));
            }
            // A call may have moved them in the same moment.
            let bounds = [before.scalable_targets.get(key), Some(target)];
            if !bounds.into_iter().flatten().any(|row| (row.min..=row.max).contains(&is)) {
                self.wrong(format!("{key} went from {was} to {is}, out of {target:?}"));
            }
            let deploying = |state: &State| {
                let first = state.progress.get(key).and_then(|p| p.deployments.first().cloned());
                first.filter(|first| first.rollout == Rollout::InProgress).map(|first| first.id)
            };
            let is_in = told.cause.contains("AlarmLow");
            if is_in && deploying(&before).is_some() && deploying(&before) == deploying(state) {
                self.wrong(format!("{key} was scaled in while it was deployed"));
            }
            let kinds = [
                ("AlarmHigh", "tracking scaled out"),
                ("AlarmLow", "tracking scaled in"),
                ("alarm-", "a step was made"),
                ("scheduled action", "the clock scaled"),
                ("requests wait", "requests scaled from zero"),
            ];
            for (_, seen) in kinds.into_iter().filter(|(word, _)| told.cause.contains(word)) {
                *self.seen.entry(seen).or_default() += 1;
            }
        }
    }
}

/// Counts that have not come to where they are to go.
pub(crate) fn unrest(state: &State, demands: &BTreeMap<ServiceKey, f64>) -> Vec<String> {
    let mut why = Vec::new();
    for (key, target) in state.scalable_targets.iter() {
        let Some(service) = state.services.get(key) else { continue };
        if service.status != ServiceStatus::Active {
            continue;
        }
        let is = service.desired_count;
        if !(target.min..=target.max).contains(&is) {
            why.push(format!("{key} is to have {is} tasks, out of {target:?}"));
        }
        let own = |name: &str| ScalingKey { service: key.clone(), name: name.to_owned() };
        let tracked = state.scaling_policies.contains_key(&own(TRACK))
            && !state.scaling_policies.contains_key(&own(STEP));
        let Some(demand) = demands.get(key).filter(|_| tracked) else { continue };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let wanted = ((demand / TARGET).ceil() as u32).clamp(target.min, target.max);
        // Where there is no task nothing is measured: only requests that wait bring the first one.
        if is != wanted && is != 0 {
            why.push(format!("{key} is to have {is} tasks, {demand} want {wanted}"));
        }
    }
    why
}
