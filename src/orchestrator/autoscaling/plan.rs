//! What one pass of scaling wants of the State. Pure.
//!
//! Bounds first, then policies: a scheduled action only moves bounds, and a count outside them is
//! brought inside at once. **Invariant:** a plan only follows from the State, the readings and the
//! time; an activity is written with the count that it tells of.

use std::fmt::Write as _;
use std::time::Duration;

use super::alarm::{self, Side};
use super::decide::{self, Decision, Says, Voice, decide};
use super::readings::Readings;
use super::schedule::Schedule;
use crate::clock::Timestamp;
use crate::model::{
    ACTIVITIES_KEPT, Account, ActivityStatus, Alarm, AlarmState, PolicyRule, Rollout,
    ScalableTarget, ScaledOut, ScalingActivity, ScalingHistory, ScalingPolicy, ScheduledAction,
    Service, ServiceKey, ServiceStatus, Statistic, StepScaling, TaskStatus,
};
use crate::state::{Key, Row, State};

/// Times of one schedule that are looked at in one pass (ours): after a long sleep the rest comes
/// with the next.
const CAUGHT_UP: usize = 10_000;

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) state: &'a State,
    pub(super) readings: &'a Readings,
    pub(super) account: &'a Account,
    /// Of policies that name none.
    pub(super) cooldown: Duration,
    pub(super) now: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) put: Vec<Row>,
    pub(super) remove: Vec<Key>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}

pub(super) fn plan(view: View<'_>, rng: &mut fastrand::Rng) -> Plan {
    let mut plan = Plan::default();
    let alarms: Vec<Alarm> = view.state.alarms.values().map(|row| judged(view, row)).collect();
    for target in view.state.scalable_targets.values() {
        match view.state.services.get(&target.service) {
            Some(service) if service.status == ServiceStatus::Active => {
                let mut pass =
                    Pass { view, alarms: &alarms, target: ScalableTarget::clone(target), rng };
                pass.one(service, &mut plan);
            }
            _ => forget(view, target, &mut plan),
        }
    }
    let changed = alarms.into_iter().filter(|alarm| {
        view.state.alarms.get(&alarm.name).is_none_or(|old| old.state != alarm.state)
    });
    plan.put.extend(changed.map(Row::from));
    plan
}

/// An alarm after this moment's reading.
fn judged(view: View<'_>, alarm: &Alarm) -> Alarm {
    let mut alarm = alarm.clone();
    let Some(values) = view.readings.alarms.get(&alarm.name) else { return alarm };
    let state = alarm::evaluate(&alarm.rule, values, alarm.state);
    if state != alarm.state {
        alarm.reason = reason(&alarm, values, state);
        alarm.changed_at = view.now;
        alarm.state = state;
    }
    alarm
}

/// CloudWatch's words.
fn reason(alarm: &Alarm, values: &[Option<f64>], state: AlarmState) -> String {
    let told: Vec<_> = values.iter().rev().flatten().map(ToString::to_string).collect();
    if state == AlarmState::InsufficientData {
        let plural = if values.len() == 1 { "" } else { "s" };
        return format!("Insufficient Data: {} datapoint{plural} were unknown.", values.len());
    }
    let plural = if told.len() == 1 { "" } else { "s" };
    let mut text = format!("Threshold Crossed: {} datapoint{plural}", told.len());
    let _ = write!(text, " [{}]", told.join(", "));
    let not = if state == AlarmState::Ok { "not " } else { "" };
    let comparison = alarm.rule.comparison.words();
    let _ = write!(text, " were {not}{comparison} the threshold ({:?}).", alarm.rule.threshold);
    text
}

/// A target whose service is gone goes with it.
fn forget(view: View<'_>, target: &ScalableTarget, plan: &mut Plan) {
    let (state, service) = (view.state, &target.service);
    let tags = view.account.scalable_target(target).to_string();
    plan.remove.push(Key::Tags(crate::model::ResourceArn::new(tags)));
    let policies = state.scaling_policies.keys().filter(|key| key.service == *service);
    plan.remove.extend(policies.cloned().map(Key::ScalingPolicy));
    let actions = state.scheduled_actions.keys().filter(|key| key.service == *service);
    plan.remove.extend(actions.cloned().map(Key::ScheduledAction));
    plan.remove.push(Key::ScalingHistory(service.clone()));
    plan.remove.push(Key::ScalableTarget(service.clone()));
}

/// One target's part of a pass.
struct Pass<'a> {
    view: View<'a>,
    /// As this moment's readings leave them.
    alarms: &'a [Alarm],
    /// As scheduled actions leave it.
    target: ScalableTarget,
    rng: &'a mut fastrand::Rng,
}

impl Pass<'_> {
    fn one(&mut self, service: &Service, plan: &mut Plan) {
        let state = self.view.state;
        let there = state.scaling_histories.get(&service.key);
        let fresh = || ScalingHistory::new(service.key.clone());
        let before = there.map_or_else(fresh, |row| ScalingHistory::clone(row));
        let mut history = before.clone();
        let scheduled = self.scheduled(plan);
        let running = running(state, &service.key);
        finish(&mut history, service, running, self.view.now);
        if let Some(decision) = self.decision(service, &history, running, scheduled.as_deref()) {
            self.write(service, &mut history, decision, plan);
        }
        if history != before {
            plan.put.push(history.into());
        }
        let unchanged =
            state.scalable_targets.get(&service.key).is_some_and(|row| **row == self.target);
        if !unchanged {
            plan.put.push(self.target.clone().into());
        }
    }

    /// Carries out what is due; the name of the last action that was.
    fn scheduled(&mut self, plan: &mut Plan) -> Option<String> {
        let (state, now) = (self.view.state, self.view.now);
        let own =
            |action: &&std::sync::Arc<ScheduledAction>| action.key.service == self.target.service;
        let mut due = Vec::new();
        for action in state.scheduled_actions.values().filter(own) {
            let Some(last) = last_due(action, now) else { continue };
            let done = ScheduledAction { done_until: now, ..ScheduledAction::clone(action) };
            plan.put.push(done.into());
            let begun = action.start.is_none_or(|start| start <= last);
            let ended = action.end.is_some_and(|end| end < last);
            if begun && !ended && !self.target.suspended.scheduled {
                due.push((last, action));
            }
        }
        due.sort_by_key(|(last, _)| *last);
        for (_, action) in &due {
            self.target.min = action.min.unwrap_or(self.target.min);
            self.target.max = action.max.unwrap_or(self.target.max);
            // Whichever was given counts.
            match action.min {
                Some(min) => self.target.max = self.target.max.max(min),
                None => self.target.min = self.target.min.min(self.target.max),
            }
        }
        due.last().map(|(_, action)| action.key.name.clone())
    }

    fn decision(
        &self,
        service: &Service,
        history: &ScalingHistory,
        running: u32,
        scheduled: Option<&str>,
    ) -> Option<Decision> {
        let (min, max) = (self.target.min, self.target.max);
        let bounded = |desired: u32, bound: &str| {
            let mut cause = scheduled
                .map(|name| format!("scheduled action name {name} was triggered; "))
                .unwrap_or_default();
            let _ = write!(cause, "{bound} capacity was set to {desired}");
            Some(Decision { desired, cause, out_from: None })
        };
        match service.desired_count {
            desired if desired < min => return bounded(min, "minimum"),
            desired if desired > max => return bounded(max, "maximum"),
            _ => {}
        }
        if let Some(group) = self.wanted(service) {
            let cause = format!("requests wait for a target of {group}; capacity was set to 1");
            // No cooldown begins: what one task shows is the first that policies know.
            return Some(Decision { desired: 1, cause, out_from: None });
        }
        let seen = decide::Service {
            desired: service.desired_count,
            running,
            is_deploying: is_deploying(self.view.state, &service.key),
            scaled_out: history.scaled_out,
            scaled_in: history.scaled_in,
        };
        let policies = self.view.state.scaling_policies.values();
        let own = policies.filter(|policy| policy.key.service == service.key);
        let voices: Vec<_> = own.flat_map(|policy| self.voices(policy)).collect();
        decide(&self.target, seen, &voices, self.view.cooldown, self.view.now)
    }

    /// A group of a service at zero for which requests wait (ours: the first task comes at once
    /// and without a policy).
    fn wanted(&self, service: &Service) -> Option<String> {
        let is_idle = service.desired_count == 0 && self.target.max > 0;
        let may = is_idle && !service.policy.daemon && !self.target.suspended.scale_out;
        let mut groups = service.load_balancers.iter().flat_map(|lb| lb.groups()).filter(|_| may);
        let group = groups.find(|group| self.view.readings.wanted.contains(*group))?;
        let row = self.view.state.target_groups.get(group)?;
        Some(self.view.account.target_group(row).to_string())
    }

    fn voices<'b>(&'b self, policy: &'b ScalingPolicy) -> Vec<Voice<'b>> {
        let name = policy.key.name.as_str();
        match &policy.rule {
            PolicyRule::Track(rule) => {
                let Some(track) = self.view.readings.tracks.get(&policy.key) else {
                    return Vec::new();
                };
                let alarms = [alarm::name(policy, Side::High), alarm::name(policy, Side::Low)];
                let (high, low, value) = (track.high, track.low, track.value);
                vec![Voice { policy: name, says: Says::Track { rule, high, low, value, alarms } }]
            }
            PolicyRule::Step(rule) => {
                let arn = self.view.account.scaling_policy(policy).to_string();
                let named = |alarm: &&Alarm| {
                    alarm.state == AlarmState::Alarm
                        && alarm.actions_enabled
                        && alarm.actions.contains(&arn)
                };
                let voice = |alarm: &Alarm| {
                    let values = self.view.readings.alarms.get(&alarm.name)?;
                    let value = aggregated(rule, values)?;
                    let (threshold, alarm) = (alarm.rule.threshold, alarm.name.to_string());
                    let says = Says::Step { rule, alarm, value, threshold };
                    Some(Voice { policy: name, says })
                };
                self.alarms.iter().filter(named).filter_map(voice).collect()
            }
        }
    }

    /// The count, and the activity that tells of it.
    fn write(
        &mut self,
        service: &Service,
        history: &mut ScalingHistory,
        decision: Decision,
        plan: &mut Plan,
    ) {
        let now = self.view.now;
        let Decision { desired, cause, out_from } = decision;
        for activity in &mut history.activities {
            override_it(activity, now);
        }
        match out_from {
            Some(from) => history.scaled_out = Some(ScaledOut { at: now, from }),
            None if desired < service.desired_count => history.scaled_in = Some(now),
            None => {}
        }
        history.activities.push_front(ScalingActivity {
            id: crate::model::uuid(self.rng),
            desired,
            cause,
            started_at: now,
            ended_at: None,
            status: ActivityStatus::InProgress,
        });
        history.activities.truncate(ACTIVITIES_KEPT);
        plan.put.push(Service { desired_count: desired, ..service.clone() }.into());
    }
}

fn override_it(activity: &mut ScalingActivity, now: Timestamp) {
    if activity.status == ActivityStatus::InProgress {
        activity.status = ActivityStatus::Overridden;
        activity.ended_at = Some(now);
    }
}

/// An activity is done when what it asked for runs.
fn finish(history: &mut ScalingHistory, service: &Service, running: u32, now: Timestamp) {
    for activity in &mut history.activities {
        if activity.status != ActivityStatus::InProgress {
            continue;
        }
        if service.desired_count != activity.desired {
            override_it(activity, now);
        } else if running == activity.desired {
            activity.status = ActivityStatus::Successful;
            activity.ended_at = Some(now);
        }
    }
}

/// Over an alarm's periods. None: none has a sample.
fn aggregated(rule: &StepScaling, values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let count = u32::try_from(known.len()).ok().filter(|count| *count > 0)?;
    Some(match rule.aggregation {
        Some(Statistic::Minimum) => known.into_iter().fold(f64::INFINITY, f64::min),
        Some(Statistic::Maximum) => known.into_iter().fold(f64::NEG_INFINITY, f64::max),
        _ => known.into_iter().sum::<f64>() / f64::from(count),
    })
}

fn running(state: &State, service: &ServiceKey) -> u32 {
    let runs = |task: &&crate::model::Task| task.is_live() && task.known == TaskStatus::Running;
    u32::try_from(state.tasks_of(service).filter(runs).count()).unwrap_or(u32::MAX)
}

fn is_deploying(state: &State, service: &ServiceKey) -> bool {
    state.progress.get(service).is_none_or(|progress| {
        progress.deployments.len() > 1
            || progress.deployments.iter().any(|one| one.rollout == Rollout::InProgress)
    })
}

/// The last time up to `now` that is not done yet. A schedule that cannot be read has none: it was
/// refused when it was put.
fn last_due(action: &ScheduledAction, now: Timestamp) -> Option<Timestamp> {
    let schedule = Schedule::parse(&action.schedule, action.timezone.as_deref()).ok()?;
    let base = action.start.unwrap_or(action.created_at);
    let times = std::iter::successors(schedule.next(action.done_until, base), |last| {
        schedule.next(*last, base)
    });
    times.take_while(|at| *at <= now).take(CAUGHT_UP).last()
}

#[cfg(test)]
mod tests;
