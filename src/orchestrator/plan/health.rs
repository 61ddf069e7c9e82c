//! Whether a task counts as healthy, the way ECS's scheduler counts.
//!
//! A task is healthy when every one of its registrations is and the checks of its essential
//! containers pass; one that has neither, when it has run for a while (ECS: 40 s).
//! A task of an instance that is lost is unhealthy. **Invariant:** else only a RUNNING task is ever
//! healthy or unhealthy.

use super::View;
use crate::clock::Timestamp;
use crate::model::{ContainerHealth, Deployment, Service, Target, Task, TaskStatus, VerdictState};

/// In the order in which a scale-in picks its victims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Not RUNNING yet.
    Starting,
    Unhealthy,
    /// Its checks fail, but its grace period lasts.
    Spared,
    /// RUNNING, and no verdict yet; or one that its service does not replace it for.
    Waiting,
    Healthy,
}

/// Why a task is to leave its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Draining,
    /// Another was started for it.
    Rebalanced,
    /// A DAEMON service has none there any more.
    NoHome,
}

/// A task of a service that is wanted running.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub task: &'a Task,
    pub health: Health,
    /// Of the newest deployment, and to stay where it is.
    pub primary: bool,
    /// It is to go for the sake of its place, whatever its deployment.
    pub leaving: Option<Leaving>,
    /// Its instance does not answer any more.
    pub lost: bool,
    /// Its availability zone.
    pub zone: &'a str,
    /// Not to be stopped by a scale-in or a deployment.
    pub protected: bool,
    /// The registration that makes it unhealthy.
    pub failing: Option<&'a Target>,
    /// When any of this changes though nothing is written.
    pub changes_at: Option<Timestamp>,
}

pub(super) fn member<'a>(
    view: &View<'a>,
    service: &Service,
    primary: &Deployment,
    task: &'a Task,
    targets: &[&'a Target],
    now: Timestamp,
) -> Member<'a> {
    let is_primary = task.deployment.as_ref() == Some(&primary.id);
    let (health, failing, until) = health(view, service, (is_primary, primary), task, targets, now);
    let protected = task.protected_until.filter(|until| *until > now);
    let row = view.state.instances.get(&task.instance);
    // A DAEMON service's is told by its homes.
    let draining = !service.policy.daemon && row.is_some_and(|row| row.is_draining(&task.cluster));
    Member {
        task,
        health,
        primary: is_primary && !draining,
        leaving: draining.then_some(Leaving::Draining),
        lost: view.state.is_lost(&task.instance),
        zone: row.map_or("", |row| &row.zone),
        protected: protected.is_some(),
        failing,
        changes_at: [until, protected].into_iter().flatten().min(),
    }
}

/// A task's health, the registration that is to blame, and until when that holds.
fn health<'a>(
    view: &View<'_>,
    service: &Service,
    (is_primary, primary): (bool, &Deployment),
    task: &Task,
    targets: &[&'a Target],
    now: Timestamp,
) -> (Health, Option<&'a Target>, Option<Timestamp>) {
    if view.state.is_lost(&task.instance) {
        return (Health::Unhealthy, None, None);
    }
    if task.known != TaskStatus::Running {
        return (Health::Starting, None, None);
    }
    let state = view.state;
    let verdict = |target: &Target| state.verdict_state(target.id);
    let counts = service.policy.replaces_unready;
    let bad = |target: &&&Target| {
        !target.is_active() || (counts && verdict(target) == VerdictState::Unhealthy)
    };
    let failing = targets.iter().find(bad).copied();
    // Somebody took a registration away behind our back: it can never become healthy again.
    let short = is_primary && targets.len() < primary.load_balancers.len();
    let definition = state.definitions.get(&task.definition);
    let own = definition.and_then(|definition| task.checked_health(definition));
    if failing.is_some() || short || own == Some(ContainerHealth::Unhealthy) {
        let ends = began(task) + service.health_check_grace_period;
        return match now < ends {
            true => (Health::Spared, failing, Some(ends)),
            false => (Health::Unhealthy, failing, None),
        };
    }
    if own.is_none() && targets.is_empty() {
        let settles = began(task) + view.settings.healthy_after;
        return match now < settles {
            true => (Health::Waiting, None, Some(settles)),
            false => (Health::Healthy, None, None),
        };
    }
    let is_well = own.is_none_or(|own| own == ContainerHealth::Healthy);
    let is_healthy = is_well && targets.iter().all(|t| verdict(t) == VerdictState::Healthy);
    (if is_healthy { Health::Healthy } else { Health::Waiting }, None, None)
}

fn began(task: &Task) -> Timestamp {
    task.started_at.unwrap_or(task.created_at)
}
