//! In which order the containers of a task start and stop. Pure.
//!
//! ECS's `dependsOn`: a container starts when each dependency has come as far as its condition
//! asks, and stops only after everything that needs it. **Invariant:** waiting ends: with a start
//! timeout by the clock, else by what becomes of the dependency.

use crate::clock::Timestamp;
use crate::model::{
    Container, ContainerDefinition, ContainerHealth, ContainerStatus, Dependency,
    DependencyCondition, Observed, ObservedState, TaskDefinition,
};

/// Whether a container may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// Not yet; by then at the latest it is known.
    Later(Option<Timestamp>),
    /// It can never; ECS's error.
    Never(String),
}

/// Whether `container` may start, as its dependencies stand in `rows`.
pub(super) fn readiness(
    container: &ContainerDefinition,
    definition: &TaskDefinition,
    rows: &[Container],
    now: Timestamp,
) -> Readiness {
    let (mut is_ready, mut until) = (true, None);
    for dependency in &container.depends_on {
        match one(dependency, definition, rows, now) {
            Readiness::Ready => {}
            Readiness::Later(at) => {
                is_ready = false;
                until = [until, at].into_iter().flatten().min();
            }
            never @ Readiness::Never(_) => return never,
        }
    }
    if is_ready { Readiness::Ready } else { Readiness::Later(until) }
}

fn one(
    dependency: &Dependency,
    definition: &TaskDefinition,
    rows: &[Container],
    now: Timestamp,
) -> Readiness {
    let (name, condition) = (&dependency.container, dependency.condition);
    let Some(row) = rows.iter().find(|row| &row.name == name) else {
        return Readiness::Later(None);
    };
    let is_stopped = row.status == ContainerStatus::Stopped;
    let is_met = match condition {
        DependencyCondition::Start => row.status >= ContainerStatus::Running,
        DependencyCondition::Complete => is_stopped,
        DependencyCondition::Success => is_stopped && row.exit_code == Some(0),
        DependencyCondition::Healthy => !is_stopped && row.health == ContainerHealth::Healthy,
    };
    if is_met {
        return Readiness::Ready;
    }
    let never = |what: &str| {
        let condition = condition.as_str();
        Readiness::Never(format!("TaskDependencyError: {name} {what} before it was {condition}"))
    };
    if is_stopped {
        return never(&match row.exit_code {
            Some(code) => format!("ended with code {code}"),
            None => "ended".to_owned(),
        });
    }
    // The agent measures these conditions alone (`startTimeout` of the dependency).
    let timeout = definition.container(name).and_then(|dependency| dependency.start_timeout);
    let timeout = timeout.filter(|_| condition != DependencyCondition::Start);
    match timeout.zip(row.started_at).map(|(timeout, at)| (timeout, at + timeout)) {
        Some((timeout, deadline)) if deadline <= now => {
            never(&format!("took longer than its startTimeout of {} s", timeout.as_secs()))
        }
        Some((_, deadline)) => Readiness::Later(Some(deadline)),
        None => Readiness::Later(None),
    }
}

/// The running containers that nothing running needs any more, those written last first.
pub(super) fn to_stop(definition: &TaskDefinition, shown: &[Observed]) -> Vec<String> {
    let running: Vec<&str> = shown
        .iter()
        .filter(|container| container.state == ObservedState::Running)
        .map(|container| container.container.as_str())
        .collect();
    let needed = |name: &str| {
        let others = running.iter().filter_map(|other| definition.container(other));
        others.flat_map(ContainerDefinition::needs).any(|needed| needed == name)
    };
    let free = running.iter().rev().filter(|name| !needed(name));
    free.map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests;
