//! What the policies of one service make of its count. Pure.
//!
//! Source: Application Auto Scaling's pages on target tracking and step scaling. Out if any policy
//! wants it, to the greatest count that one wants; in only if every target tracking policy that may
//! scale in wants it, again to the greatest. **Invariant:** a decision lies within the bounds, and
//! what a scale-out added counts as part of the next within its cooldown.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::{Adjustment, ScalableTarget, ScaledOut, StepScaling, Suspended, TargetTracking};

/// What policies see of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) desired: u32,
    pub(super) running: u32,
    /// A deployment is under way: nothing is scaled in.
    pub(super) is_deploying: bool,
    pub(super) scaled_out: Option<ScaledOut>,
    pub(super) scaled_in: Option<Timestamp>,
}

/// A policy and what its alarms say.
#[derive(Clone, Debug)]
pub(super) struct Voice<'a> {
    /// What an activity's cause names.
    pub(super) policy: &'a str,
    pub(super) says: Says<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Says<'a> {
    Track {
        rule: &'a TargetTracking,
        high: bool,
        low: bool,
        /// Of the newest period; none: no sample.
        value: Option<f64>,
        /// The names of its alarms.
        alarms: [String; 2],
    },
    /// An alarm that names the policy is in alarm.
    Step { rule: &'a StepScaling, alarm: String, value: f64, threshold: f64 },
}

/// Where the count goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) desired: u32,
    /// AWS's words.
    pub(super) cause: String,
    /// The count that a scale-out began from; none: it is a scale-in, or begins no cooldown.
    pub(super) out_from: Option<u32>,
}

struct Wish {
    desired: u32,
    cause: String,
}

/// None: the count stays.
pub(super) fn decide(
    target: &ScalableTarget,
    service: Service,
    voices: &[Voice<'_>],
    cooldown: Duration,
    now: Timestamp,
) -> Option<Decision> {
    let Suspended { scale_in, scale_out, .. } = target.suspended;
    let greatest = |wishes: Vec<Wish>| wishes.into_iter().max_by_key(|wish| wish.desired);
    if !scale_out {
        let wishes = voices.iter().filter_map(|voice| out(voice, service, cooldown, now));
        if let Some((wish, from)) = wishes.max_by_key(|(wish, _)| wish.desired) {
            let desired = wish.desired.clamp(target.min, target.max);
            if desired > service.desired {
                return Some(Decision { desired, cause: wish.cause, out_from: Some(from) });
            }
            // Somebody wants more than there may be: nobody takes any away.
            return None;
        }
    }
    if scale_in || service.is_deploying {
        return None;
    }
    let mut wishes = Vec::new();
    for voice in voices {
        match inward(voice, service, cooldown, now) {
            Inward::Wants(wish) => wishes.push(wish),
            Inward::Minds => return None,
            Inward::Silent => {}
        }
    }
    let wish = greatest(wishes)?;
    let desired = wish.desired.clamp(target.min, target.max);
    let cause = wish.cause;
    (desired < service.desired).then_some(Decision { desired, cause, out_from: None })
}

fn cause(alarm: &str, policy: &str) -> String {
    format!("monitor alarm {alarm} in state ALARM triggered policy {policy}")
}

fn seconds(asked: Option<u32>, default: Duration) -> Duration {
    asked.map_or(default, |seconds| Duration::from_secs(u64::from(seconds)))
}

/// What a policy wants to scale out to, and from where; only what is more than there is asked for.
fn out(
    voice: &Voice<'_>,
    service: Service,
    default: Duration,
    now: Timestamp,
) -> Option<(Wish, u32)> {
    let cooldown = match &voice.says {
        Says::Track { rule, .. } => seconds(rule.out_cooldown, default),
        Says::Step { rule, .. } => seconds(rule.cooldown, default),
    };
    let recent = service.scaled_out.filter(|out| now.since(out.at) < cooldown);
    let (desired, cause, from) = match &voice.says {
        Says::Track { rule, high: true, value: Some(value), alarms: [high, _], .. } => {
            let from = recent.map_or(service.running, |out| out.from);
            (proportional(from, *value, rule.target), cause(high, voice.policy), from)
        }
        Says::Step { rule, alarm, value, threshold } => {
            let from = recent.map_or(service.desired, |out| out.from);
            (stepped(rule, from, value - threshold)?, cause(alarm, voice.policy), from)
        }
        // None runs: one shows what there is to do (AWS scales out from 0 by its least step).
        Says::Track { high: false, value: Some(value), alarms: [high, _], .. }
            if service.running == 0 && service.desired == 0 && *value > 0.0 =>
        {
            (1, cause(high, voice.policy), 0)
        }
        Says::Track { .. } => return None,
    };
    (desired > service.desired).then_some((Wish { desired, cause }, from))
}

enum Inward {
    Wants(Wish),
    /// It would rather keep what there is.
    Minds,
    /// It has no say.
    Silent,
}

fn inward(voice: &Voice<'_>, service: Service, default: Duration, now: Timestamp) -> Inward {
    let resting = |cooldown: Duration| service.scaled_in.is_some_and(|at| now.since(at) < cooldown);
    let (desired, cause) = match &voice.says {
        Says::Track { rule, .. } if rule.disable_scale_in == Some(true) => return Inward::Silent,
        Says::Track { rule, .. } if resting(seconds(rule.in_cooldown, default)) => {
            return Inward::Minds;
        }
        Says::Track { rule, low: true, value: Some(value), alarms: [_, low], .. } => {
            (proportional(service.running, *value, rule.target), cause(low, voice.policy))
        }
        Says::Track { .. } => return Inward::Minds,
        Says::Step { rule, .. } if resting(seconds(rule.cooldown, default)) => {
            return Inward::Silent;
        }
        Says::Step { rule, alarm, value, threshold } => {
            match stepped(rule, service.desired, value - threshold) {
                Some(desired) => (desired, cause(alarm, voice.policy)),
                None => return Inward::Silent,
            }
        }
    };
    if desired < service.desired {
        Inward::Wants(Wish { desired, cause })
    } else if matches!(voice.says, Says::Track { .. }) {
        Inward::Minds
    } else {
        Inward::Silent
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn proportional(running: u32, value: f64, target: f64) -> u32 {
    // What is a hair above a whole number is that number.
    (f64::from(running) * value / target - 1e-9).ceil() as u32
}

/// What a step policy makes of `capacity` when the metric is `distance` above the threshold. None:
/// no step has that distance in it.
fn stepped(rule: &StepScaling, capacity: u32, distance: f64) -> Option<u32> {
    let holds = |step: &&crate::model::StepAdjustment| {
        // Above the threshold a step has its lower bound in it, below it its upper one.
        if distance >= 0.0 {
            step.lower.is_none_or(|lower| distance >= lower)
                && step.upper.is_none_or(|upper| distance < upper)
        } else {
            step.lower.is_none_or(|lower| distance > lower)
                && step.upper.is_none_or(|upper| distance <= upper)
        }
    };
    let step = rule.steps.iter().find(holds)?;
    let capacity = i64::from(capacity);
    let change = match rule.adjustment {
        Adjustment::ExactCapacity => step.adjustment - capacity,
        Adjustment::ChangeInCapacity => step.adjustment,
        Adjustment::PercentChangeInCapacity => {
            percent(capacity, step.adjustment, rule.min_magnitude)
        }
    };
    Some(u32::try_from(capacity.saturating_add(change).max(0)).unwrap_or(u32::MAX))
}

/// AWS rounds to the safe side: above 1 and below -1 towards 0, between away from it.
fn percent(capacity: i64, percent: i64, least: Option<u32>) -> i64 {
    let hundredths = capacity.saturating_mul(percent);
    let change = match hundredths {
        1..=99 => 1,
        -99..=-1 => -1,
        hundredths => hundredths / 100,
    };
    let least = i64::from(least.unwrap_or(0));
    if percent < 0 { change.min(-least) } else { change.max(least) }
}

#[cfg(test)]
mod tests;
