//! Whether a task counts as healthy, the way ECS's scheduler counts.
//!
//! A task is healthy when every one of its registrations is and the checks of its essential
//! containers pass; one that has neither counts from RUNNING on (ECS waits 40 s more; nothing here
//! would use them). **Invariant:** only a RUNNING task is ever healthy or unhealthy.

use crate::clock::Timestamp;
use crate::model::{ContainerHealth, Deployment, Service, Target, Task, TaskStatus, VerdictState};
use crate::state::State;

/// In the order in which a scale-in picks its victims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Not RUNNING yet.
    Starting,
    Unhealthy,
    /// Its checks fail, but its grace period lasts.
    Spared,
    /// RUNNING, and no verdict yet.
    Waiting,
    Healthy,
}

/// A task of a service that is wanted running.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub task: &'a Task,
    pub health: Health,
    /// Of the newest deployment.
    pub primary: bool,
    /// The registration that makes it unhealthy.
    pub failing: Option<&'a Target>,
}

pub(super) fn member<'a>(
    state: &State,
    service: &Service,
    primary: &Deployment,
    task: &'a Task,
    targets: &[&'a Target],
    now: Timestamp,
) -> Member<'a> {
    let is_primary = task.deployment.as_ref() == Some(&primary.id);
    let member = |health, failing| Member { task, health, primary: is_primary, failing };
    if task.known != TaskStatus::Running {
        return member(Health::Starting, None);
    }
    let bad = |target: &&&Target| {
        !target.is_active() || state.verdict_state(target.id) == VerdictState::Unhealthy
    };
    let failing = targets.iter().find(bad).copied();
    // Somebody took a registration away behind our back: it can never become healthy again.
    let short = is_primary && targets.len() < primary.load_balancers.len();
    let definition = state.definitions.get(&task.definition);
    let own = definition.and_then(|definition| task.checked_health(definition));
    if failing.is_some() || short || own == Some(ContainerHealth::Unhealthy) {
        let health =
            if now < grace_ends(service, task) { Health::Spared } else { Health::Unhealthy };
        return member(health, failing);
    }
    let healthy = |target: &&Target| state.verdict_state(target.id) == VerdictState::Healthy;
    let is_well = own.is_none_or(|own| own == ContainerHealth::Healthy);
    let is_healthy = is_well && targets.iter().all(healthy);
    member(if is_healthy { Health::Healthy } else { Health::Waiting }, None)
}

/// The moment at which a spared task's grace period ends.
pub(super) fn grace_ends(service: &Service, task: &Task) -> Timestamp {
    task.started_at.unwrap_or(task.created_at) + service.health_check_grace_period
}
