//! Beginnings and ends of deployments: what opens the next one, when one has failed, where it goes
//! back to, when it is completed.
//!
//! **Invariant:** a service goes back once: a deployment that is itself the way back ends where it
//! fails.

use super::service::Crew;
use super::{DUPLICATES, Draft, Move, gradual};
use crate::clock::Timestamp;
use crate::model::{
    AlarmState, Deployment, DeploymentId, Failure, Progress, Rollout, Service, ServiceKey, Stage,
    Task,
};
use crate::orchestrator::words;
use crate::state::State;

/// What a service is asked for, and the deployment that brings it, as this plan leaves them.
pub(super) struct Course {
    pub service: Service,
    pub primary: Deployment,
    /// It was another before this plan.
    pub is_new: bool,
}

pub(super) fn course(
    draft: &mut Draft<'_, '_>,
    service: &Service,
    progress: Option<&Progress>,
) -> Course {
    let current = progress.and_then(|progress| progress.deployments.first());
    let Some(current) = current.filter(|current| current.is_of(service)) else {
        let primary = Deployment::of(service, draft.deployment_id(), draft.now);
        let primary = gradual::prepare(draft.view.state, primary, progress);
        tell_missing_alarms(draft, service, &primary);
        let opened = Box::new(primary.clone());
        draft.plan.moves.push(Move::Open { service: service.key.clone(), deployment: opened });
        return Course { service: service.clone(), primary, is_new: true };
    };
    let failure = failure(draft.view.state, service, current, draft.now);
    let Some((failure, progress)) = failure.zip(progress) else {
        return Course { service: service.clone(), primary: current.clone(), is_new: false };
    };
    let back = way_back(draft.view.state, service, progress, failure).cloned();
    let key = service.key.clone();
    draft.event(&key, words::deployment_failed(&key, &current.id, failure));
    if let Some(back) = &back {
        draft.event(&key, words::rolling_back(&key, &back.id));
    }
    let (deployment, to) = (current.id.clone(), back.as_ref().map(|back| back.id.clone()));
    draft.plan.moves.push(Move::Fail { service: key, deployment, failure, to });
    match back {
        Some(back) => Course {
            service: back.restored(service),
            primary: back.resumed(current, failure, draft.now),
            is_new: true,
        },
        None => {
            let primary = Deployment { rollout: Rollout::Failed, ..current.clone() };
            Course { service: service.clone(), primary, is_new: true }
        }
    }
}

/// A name without an alarm protects nobody.
fn tell_missing_alarms(draft: &mut Draft<'_, '_>, service: &Service, deployment: &Deployment) {
    let alarms = &deployment.strategy.alarms;
    for name in alarms.names.iter().filter(|_| alarms.enabled) {
        if !draft.view.state.alarms.contains_key(name) {
            let message = words::no_alarm(&service.key, &deployment.id, name.as_str());
            draft.event(&service.key, message);
        }
    }
}

/// Whether the newest deployment has to end here.
fn failure(
    state: &State,
    service: &Service,
    current: &Deployment,
    now: Timestamp,
) -> Option<Failure> {
    let (breaker, options) = (&service.policy.breaker, &service.options);
    if current.rollout != Rollout::InProgress {
        return None;
    }
    if options.stopped.as_ref() == Some(&current.id) {
        return Some(if options.aborts { Failure::Aborted } else { Failure::Stopped });
    }
    let is_tripped = current.failures >= breaker.threshold(service.desired_count);
    if breaker.enabled && is_tripped {
        return Some(Failure::TasksFailed);
    }
    // What is gone back to was good enough before.
    if current.back_from.is_some() {
        return None;
    }
    match () {
        () if is_alarmed(state, current) => Some(Failure::Alarm),
        () if gradual::has_failed_hook(current, &options.answers, now) => Some(Failure::Hook),
        () if gradual::is_overdue(current, now) => Some(Failure::TimedOut),
        () => None,
    }
}

fn is_alarmed(state: &State, current: &Deployment) -> bool {
    let alarms = &current.strategy.alarms;
    let told = alarms.names.iter().filter(|name| !current.ignored_alarms.contains(name));
    let mut told = told.filter_map(|name| state.alarms.get(name));
    alarms.enabled && told.any(|alarm| alarm.state == AlarmState::Alarm)
}

/// The last deployment that was completed, if that is wanted and all it names is still there.
fn way_back<'a>(
    state: &State,
    service: &Service,
    progress: &'a Progress,
    failure: Failure,
) -> Option<&'a Deployment> {
    let current = progress.deployments.first()?;
    let is_wanted = match failure {
        Failure::Stopped | Failure::Hook | Failure::TimedOut => true,
        Failure::Aborted => false,
        Failure::TasksFailed => service.policy.breaker.rollback,
        Failure::Alarm => current.strategy.alarms.rollback,
    };
    let mut earlier = progress.all().skip(1);
    let there = |deployment: &&Deployment| gradual::is_there(state, deployment);
    earlier.find(there).filter(|_| is_wanted && current.back_from.is_none())
}

/// Deployments that were replaced and have no task left.
pub(super) fn close_old(
    draft: &mut Draft<'_, '_>,
    progress: &Progress,
    tasks: &[&Task],
    kept: Option<&DeploymentId>,
) {
    for old in progress.deployments.iter().skip(1).filter(|old| Some(&old.id) != kept) {
        if !tasks.iter().any(|task| task.deployment.as_ref() == Some(&old.id)) {
            let (service, deployment) = (progress.service.clone(), old.id.clone());
            draft.plan.moves.push(Move::Close { service, deployment });
        }
    }
}

/// Whether a deployment whose tasks are all there has passed its stages and its bake time.
fn is_through(draft: &mut Draft<'_, '_>, primary: &Deployment, key: &ServiceKey) -> bool {
    let is_gradual = primary.strategy.kind.is_gradual() || primary.back_from.is_some();
    if let Some(shift) = primary.shift.as_ref().filter(|_| is_gradual) {
        return shift.stage == Stage::CleanUp;
    }
    let bake = primary.strategy.bake;
    if bake.is_zero() || primary.back_from.is_some() {
        return true;
    }
    let Some(since) = primary.baking_since else {
        let (service, deployment) = (key.clone(), primary.id.clone());
        draft.plan.moves.push(Move::Bake { service, deployment });
        return false;
    };
    let until = since + bake;
    if draft.now < until {
        draft.plan.revisit_at(until);
    }
    draft.now >= until
}

/// Announces the end of a rollout once, and the steady state when it comes and every six hours.
pub(super) fn settle(draft: &mut Draft<'_, '_>, crew: &Crew<'_>, progress: &Progress) {
    let key = &crew.service.key;
    let moved = draft.plan.moves.iter().any(|step| match step {
        Move::Start(task) => task.service.as_ref() == Some(key),
        _ => false,
    });
    let steady = crew.is_steady() && !moved;
    if steady && crew.primary.rollout == Rollout::InProgress && is_through(draft, crew.primary, key)
    {
        let deployment = crew.primary.id.clone();
        draft.event(key, words::completed(key, &deployment));
        draft.plan.moves.push(Move::Complete { service: key.clone(), deployment });
    }
    if steady != progress.steady {
        draft.plan.moves.push(Move::Steady { service: key.clone(), steady });
    }
    let is_quiet = progress.events.back().is_some_and(|last| last.at + DUPLICATES <= draft.now);
    if steady && (!progress.steady || is_quiet) {
        draft.event(key, words::steady(key));
    }
}
