//! Beginnings and ends of deployments: what opens the next one, when one has failed, where it goes
//! back to, when it is completed.
//!
//! **Invariant:** a service goes back once: a deployment that is itself the way back ends where it
//! fails.

use super::service::Crew;
use super::{DUPLICATES, Draft, Move};
use crate::model::{Deployment, Failure, Progress, Rollout, Service, Task};
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
        let opened = Box::new(primary.clone());
        draft.plan.moves.push(Move::Open { service: service.key.clone(), deployment: opened });
        return Course { service: service.clone(), primary, is_new: true };
    };
    let Some((failure, progress)) = failure(service, current).zip(progress) else {
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
            primary: back.resumed(&current.id),
            is_new: true,
        },
        None => {
            let primary = Deployment { rollout: Rollout::Failed, ..current.clone() };
            Course { service: service.clone(), primary, is_new: true }
        }
    }
}

/// Whether the newest deployment has to end here.
fn failure(service: &Service, current: &Deployment) -> Option<Failure> {
    let breaker = &service.policy.breaker;
    if current.rollout != Rollout::InProgress {
        return None;
    }
    if service.options.stopped.as_ref() == Some(&current.id) {
        return Some(Failure::Stopped);
    }
    let is_tripped = current.failures >= breaker.threshold(service.desired_count);
    (breaker.enabled && is_tripped).then_some(Failure::TasksFailed)
}

/// The last deployment that was completed, if that is wanted and all it names is still there.
fn way_back<'a>(
    state: &State,
    service: &Service,
    progress: &'a Progress,
    failure: Failure,
) -> Option<&'a Deployment> {
    let current = progress.deployments.first()?;
    let is_wanted = failure == Failure::Stopped || service.policy.breaker.rollback;
    let there = |deployment: &&Deployment| {
        let mut groups = deployment.load_balancers.iter();
        let discovery = deployment.discovery.as_ref();
        deployment.was_good()
            && state.definitions.contains_key(&deployment.definition)
            && groups.all(|lb| state.target_groups.contains_key(&lb.group))
            && discovery.is_none_or(|d| state.discovery_services.contains_key(&d.service))
    };
    let mut earlier = progress.all().skip(1);
    earlier.find(there).filter(|_| is_wanted && current.back_from.is_none())
}

/// Deployments that were replaced and have no task left.
pub(super) fn close_old(draft: &mut Draft<'_, '_>, progress: &Progress, tasks: &[&Task]) {
    for old in progress.deployments.iter().skip(1) {
        if !tasks.iter().any(|task| task.deployment.as_ref() == Some(&old.id)) {
            let (service, deployment) = (progress.service.clone(), old.id.clone());
            draft.plan.moves.push(Move::Close { service, deployment });
        }
    }
}

/// Announces the end of a rollout once, and the steady state when it comes and every six hours.
pub(super) fn settle(draft: &mut Draft<'_, '_>, crew: &Crew<'_>, progress: &Progress) {
    let key = &crew.service.key;
    let moved = draft.plan.moves.iter().any(|step| match step {
        Move::Start(task) => task.service.as_ref() == Some(key),
        _ => false,
    });
    let steady = crew.is_steady() && !moved;
    if steady && crew.primary.rollout == Rollout::InProgress {
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
