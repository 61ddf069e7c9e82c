//! Writes what becomes of deployments: begun, counted against, completed, failed, closed.
//!
//! **Invariant:** the orchestrator changes a service's row in one place, here, and only to what it
//! was asked for before, or to the number of instances that a DAEMON service has a task on.

use std::collections::BTreeMap;

use super::apply::change;
use crate::clock::Timestamp;
use crate::model::{
    Backoff, DEPLOYMENTS_KEPT, Deployment, DeploymentId, Failure, Hook, HookAction, HookOutcome,
    Progress, Rollback, Rollout, Service, ServiceKey, Share, Shift, Stage, Task, TaskId,
};
use crate::state::Tx;

pub(super) fn open(tx: &mut Tx<'_>, service: &ServiceKey, deployment: &Deployment, now: Timestamp) {
    let known = tx.state().progress.get(service).map(|progress| Progress::clone(progress));
    let mut progress = known.unwrap_or_else(|| Progress::new(service.clone()));
    supersede(&mut progress, now);
    // Where traffic is divided, what was written is still to be taken back.
    if !progress.deployments.first().is_some_and(Deployment::is_shifting) {
        progress.weights.clear();
    }
    progress.deployments.insert(0, deployment.clone());
    begin(&mut progress);
    tx.put(progress);
}

pub(super) fn resize(tx: &mut Tx<'_>, service: &ServiceKey, count: u32) {
    if let Some(row) = tx.state().services.get(service).cloned() {
        tx.put(Service { desired_count: count, ..Service::clone(&row) });
    }
}

/// The first deployment is another one now.
fn begin(progress: &mut Progress) {
    progress.backoff = Backoff::default();
    progress.steady = false;
}

/// The newest deployment is no longer the newest: a way back that it was leads nowhere.
fn supersede(progress: &mut Progress, now: Timestamp) {
    let from = progress.deployments.first_mut().and_then(|current| current.back_from.take());
    if let Some(from) = from {
        end_rollback(progress, &from, false, now);
    }
}

fn end_rollback(progress: &mut Progress, from: &DeploymentId, successful: bool, now: Timestamp) {
    let failed = progress.all_mut().find(|deployment| &deployment.id == from);
    if let Some(rollback) = failed.and_then(|deployment| deployment.rollback.as_mut()) {
        (rollback.ended_at, rollback.successful) = (Some(now), successful);
    }
}

pub(super) fn complete(
    tx: &mut Tx<'_>,
    service: &ServiceKey,
    deployment: &DeploymentId,
    now: Timestamp,
) {
    change(tx, service, |progress| {
        let found = progress.deployments.iter_mut().find(|d| &d.id == deployment);
        let Some(deployment) = found else { return };
        deployment.rollout = Rollout::Completed;
        // One that was gone back to keeps the time of its first completion.
        deployment.completed_at = deployment.completed_at.or(Some(now));
        if let Some(from) = deployment.back_from.take() {
            end_rollback(progress, &from, true, now);
        }
    });
}

/// Ends the newest deployment, and goes back to another where one is named.
pub(super) fn fail(
    tx: &mut Tx<'_>,
    service: &ServiceKey,
    (deployment, failure): (&DeploymentId, Failure),
    to: Option<&DeploymentId>,
    now: Timestamp,
) {
    let mut restored = None;
    let row = tx.state().services.get(service).cloned();
    let answers = row.as_ref().map(|row| row.options.answers.clone()).unwrap_or_default();
    change(tx, service, |progress| {
        supersede(progress, now);
        let found = progress.deployments.iter().find(|d| &d.id == deployment);
        let hooks = found.map(|failed| progress.hooks_of(failed).to_vec()).unwrap_or_default();
        let Some(failed) = progress.deployments.iter_mut().find(|d| &d.id == deployment) else {
            return;
        };
        failed.rollout = Rollout::Failed;
        failed.failure = Some(failure);
        failed.completed_at = Some(now);
        end_hooks(failed, &hooks, &answers, now);
        let Some(to) = to else { return };
        failed.rollback =
            Some(Rollback { to: to.clone(), started_at: now, ended_at: None, successful: false });
        let failed = failed.clone();
        let Some(back) = progress.all().find(|d| &d.id == to).cloned() else { return };
        progress.deployments.retain(|d| &d.id != to);
        progress.ended.retain(|d| &d.id != to);
        progress.deployments.insert(0, back.resumed(&failed, failure, now));
        begin(progress);
        restored = row.map(|row| back.restored(&row));
    });
    if let Some(service) = restored {
        tx.put(service);
    }
}

/// Says what came of the hooks that its deployment has ended over.
fn end_hooks(
    deployment: &mut Deployment,
    hooks: &[Hook],
    answers: &BTreeMap<String, HookAction>,
    now: Timestamp,
) {
    for run in deployment.shift.iter_mut().flat_map(|shift| &mut shift.hooks) {
        if let HookOutcome::Failed(status) = run.outcome(hooks.get(run.hook), answers, now) {
            run.status = status;
        }
    }
}

/// A gradual deployment comes further. Once its bake time is over, it may be gone back to.
pub(super) fn advance(
    tx: &mut Tx<'_>,
    service: &ServiceKey,
    deployment: &DeploymentId,
    shift: &Shift,
    now: Timestamp,
) {
    change(tx, service, |progress| {
        let found = progress.deployments.iter_mut().find(|d| &d.id == deployment);
        let Some(deployment) = found else { return };
        if shift.stage == Stage::CleanUp && shift.share == Share::ALL {
            deployment.completed_at = deployment.completed_at.or(Some(now));
        }
        deployment.shift = Some(shift.clone());
    });
}

/// The newest deployment begins beside another than the one it was begun beside: that one's tasks
/// serve. What it has of its own is still to be made.
pub(super) fn adopt(
    tx: &mut Tx<'_>,
    service: &ServiceKey,
    deployment: &DeploymentId,
    source: &DeploymentId,
) {
    change(tx, service, |progress| {
        let Some(adopted) = progress.all_mut().find(|own| &own.id == source) else { return };
        adopted.proven = true;
        let side = adopted.alternate;
        let newest = progress.deployments.iter_mut().find(|own| &own.id == deployment);
        let Some(newest) = newest else { return };
        newest.alternate = side != newest.strategy.kind.is_gradual();
        if let Some(shift) = &mut newest.shift {
            shift.source = Some(source.clone());
        }
    });
}

/// The last task of a replaced deployment is gone.
pub(super) fn close(tx: &mut Tx<'_>, service: &ServiceKey, deployment: &DeploymentId) {
    change(tx, service, |progress| {
        let Some(place) = progress.deployments.iter().position(|d| &d.id == deployment) else {
            return;
        };
        let closed = progress.deployments.remove(place);
        progress.ended.insert(0, closed);
        progress.ended.truncate(DEPLOYMENTS_KEPT);
    });
}

/// Marks a task's first health, which ends its circuit breaker's count.
pub(super) fn healthy(tx: &mut Tx<'_>, id: &TaskId, now: Timestamp) {
    let Some(task) = tx.state().tasks.get(id).map(|task| Task::clone(task)) else { return };
    let resets = |key: &ServiceKey| {
        tx.state().services.get(key).is_some_and(|service| service.policy.breaker.resets())
    };
    if let Some(service) = task.service.clone().filter(resets) {
        let own = |d: &&mut Deployment| Some(&d.id) == task.deployment.as_ref() && d.failures > 0;
        let counted = tx.state().progress.get(&service);
        let is_counted = counted.is_some_and(|p| p.deployments.iter().any(|d| d.failures > 0));
        if is_counted {
            change(tx, &service, |progress| {
                if let Some(deployment) = progress.deployments.iter_mut().find(own) {
                    deployment.failures = 0;
                }
            });
        }
    }
    tx.put(Task { healthy_at: Some(now), ..task });
}

/// Counts a failed task against its deployment.
pub(super) fn count(tx: &mut Tx<'_>, task: &Task) {
    let Some(service) = &task.service else { return };
    change(tx, service, |progress| {
        let own = |d: &&mut Deployment| Some(&d.id) == task.deployment.as_ref();
        if let Some(deployment) = progress.deployments.iter_mut().find(own) {
            deployment.failed_tasks += 1;
            deployment.failures += u32::from(deployment.rollout == Rollout::InProgress);
        }
    });
}
