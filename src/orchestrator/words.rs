//! ECS's own words for service events and stop reasons.
//!
//! **Invariant:** people and scripts match on these texts, so each is written once, here.

use super::placement::{Refusal, Unplaced};
use crate::model::{DeploymentId, Failure, ServiceKey, Task, TaskId, instance_id};

/// A service's event that EventBridge is told as well (AWS, "Amazon ECS service action events").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// `INFO`, `WARN` or `ERROR`.
    pub kind: &'static str,
    /// Its `eventName`.
    pub name: &'static str,
    pub reason: Option<&'static str>,
}

const STEADY: &str = "has reached a steady state.";
const INCONSISTENT: &str = "is unable to consistently start tasks successfully.";
const REBALANCES: &str = "AZ Rebalancing in progress.";
const NO_CPU: &str = "has insufficient CPU units available.";
const NO_MEMORY: &str = "has insufficient memory available.";
const NO_PORT: &str = "is already using a port required by your task.";
const NO_ATTRIBUTE: &str = "is missing an attribute required by your task.";
const NO_AGENT: &str = "encountered error \"AGENT\".";
const NO_ADDRESS: &str = "The address pool has no free address.";
const NOT_PLACED: &str = "was unable to place a task because";

impl Action {
    const fn new(kind: &'static str, name: &'static str, reason: Option<&'static str>) -> Self {
        Self { kind, name, reason }
    }

    /// What the words of a service's event are told as. None: they are not.
    #[must_use]
    pub fn of(message: &str) -> Option<Self> {
        let unplaced = |reason| Self::new("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", Some(reason));
        let known = [
            (STEADY, Self::new("INFO", "SERVICE_STEADY_STATE", None)),
            (INCONSISTENT, Self::new("WARN", "SERVICE_TASK_START_IMPAIRED", None)),
            (REBALANCES, Self::new("INFO", "SERVICE_REBALANCING_STARTED", None)),
            (NO_CPU, unplaced("RESOURCE:CPU")),
            (NO_MEMORY, unplaced("RESOURCE:MEMORY")),
            (NO_PORT, unplaced("RESOURCE:PORTS")),
            (NO_ATTRIBUTE, unplaced("ATTRIBUTE")),
            (NO_AGENT, unplaced("AGENT")),
            // An address is what ECS's tasks have an elastic network interface for.
            (NO_ADDRESS, unplaced("RESOURCE:ENI")),
            (NOT_PLACED, unplaced("CONSTRAINT")),
        ];
        known.into_iter().find(|(words, _)| message.contains(words)).map(|(_, action)| action)
    }
}

pub(super) const EXITED: &str = "Essential container in task exited";
pub(super) const FAILED_TO_START: &str = "Task failed to start";
pub(super) const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
pub(super) const FAILED_CONTAINER_CHECKS: &str = "Task failed container health checks";
pub(super) const VANISHED: &str =
    "ContainerVanishedError: the runtime no longer has this container";
/// ECS's.
pub(super) const REMOVED: &str = "Container instance deregistration forced by user";
pub(super) const LEAVING: &str = "Roadstead ends, and on_exit tells it to stop its tasks";

/// Also ECS's words for what a deployment stops.
pub(super) fn scaling(deployment: Option<&DeploymentId>) -> String {
    match deployment {
        Some(id) => format!("Scaling activity initiated by (deployment {id})"),
        None => "Scaling activity initiated by its service".to_owned(),
    }
}

pub(super) fn failed_checks(group_arn: &str) -> String {
    format!("Task failed ELB health checks in (target-group {group_arn})")
}

fn tasks(ids: &[TaskId]) -> String {
    ids.iter().map(|id| format!(" (task {id})")).collect()
}

pub(super) fn started(service: &ServiceKey, ids: &[TaskId]) -> String {
    format!("(service {}) has started {} tasks:{}.", service.name, ids.len(), tasks(ids))
}

pub(super) fn stopped(service: &ServiceKey, ids: &[TaskId]) -> String {
    format!("(service {}) has stopped {} running tasks:{}.", service.name, ids.len(), tasks(ids))
}

pub(super) fn registered(service: &ServiceKey, count: usize, group_arn: &str) -> String {
    format!("(service {}) registered {count} targets in (target-group {group_arn})", service.name)
}

pub(super) fn deregistered(service: &ServiceKey, count: usize, group_arn: &str) -> String {
    format!("(service {}) deregistered {count} targets in (target-group {group_arn})", service.name)
}

pub(super) fn draining(service: &ServiceKey, count: usize) -> String {
    format!("(service {}) has begun draining connections on {count} tasks.", service.name)
}

pub(super) fn completed(service: &ServiceKey, deployment: &DeploymentId) -> String {
    format!("(service {}) (deployment {deployment}) deployment completed.", service.name)
}

pub(super) fn deployment_failed(
    service: &ServiceKey,
    deployment: &DeploymentId,
    failure: Failure,
) -> String {
    let why = match failure {
        Failure::TasksFailed => "deployment failed: tasks failed to start.",
        // Ours.
        Failure::Stopped => "deployment stopped: it was asked to.",
        Failure::Aborted => "deployment stopped: it was asked to, and to leave all as it is.",
        Failure::Alarm => "deployment failed: alarm detected.",
        Failure::Hook => "deployment failed: a lifecycle hook did not succeed.",
        Failure::TimedOut => "deployment failed: a lifecycle stage took too long.",
    };
    format!("(service {}) (deployment {deployment}) {why}", service.name)
}

pub(super) fn rolling_back(service: &ServiceKey, to: &DeploymentId) -> String {
    format!("(service {}) rolling back to (deployment {to}).", service.name)
}

/// Ours, like the next three.
pub(super) fn shifted(service: &ServiceKey, deployment: &DeploymentId, percent: f64) -> String {
    format!(
        "(service {}) (deployment {deployment}) has shifted {percent}% of production traffic.",
        service.name
    )
}

pub(super) fn drifted(service: &ServiceKey, deployment: &DeploymentId, rule: &str) -> String {
    format!(
        "(service {}) (deployment {deployment}) is halted: the weights of {rule} are not those \
         that were written by it. It goes on when they are again.",
        service.name
    )
}

pub(super) fn unusable(service: &ServiceKey, deployment: &DeploymentId, rule: &str) -> String {
    format!(
        "(service {}) (deployment {deployment}) is halted: {rule} does not forward to the target \
         group that has the traffic now.",
        service.name
    )
}

pub(super) fn divided(
    service: &ServiceKey,
    deployment: &DeploymentId,
    source: &DeploymentId,
) -> String {
    format!(
        "(service {}) (deployment {deployment}) waits: traffic is divided, and too few tasks of \
         (deployment {source}), which is to have it, are healthy.",
        service.name
    )
}

pub(super) fn no_alarm(service: &ServiceKey, deployment: &DeploymentId, alarm: &str) -> String {
    format!("(service {}) (deployment {deployment}) has no alarm {alarm}.", service.name)
}

pub(super) fn too_many_protected(service: &ServiceKey, deployment: &DeploymentId) -> String {
    format!(
        "(service {}, taskSet {deployment}) was unable to reach steady state because task set \
         ({deployment}) was unable to scale in. Reason: The number of protected tasks are more \
         than the desired count of tasks.",
        service.name
    )
}

pub(super) fn steady(service: &ServiceKey) -> String {
    format!("(service {}) {STEADY}", service.name)
}

pub(super) fn inconsistent(service: &ServiceKey) -> String {
    format!("(service {}) {INCONSISTENT}", service.name)
}

pub(super) fn no_address(service: &ServiceKey) -> String {
    format!(
        "(service {}) {NOT_PLACED} no container instance met all of its requirements. \
         {NO_ADDRESS}",
        service.name
    )
}

/// With the instance that came closest.
pub(super) fn unplaced(service: &ServiceKey, why: &Unplaced) -> String {
    let name = &service.name;
    let Some((instance, refusal)) = why.closest() else {
        return format!(
            "(service {name}) {NOT_PLACED} no container instance met all of its requirements. \
             Reason: No Container Instances were found in your cluster."
        );
    };
    let id = instance_id(&service.cluster, instance);
    let why = match refusal {
        Refusal::Cpu => NO_CPU,
        Refusal::Memory => NO_MEMORY,
        Refusal::Ports => NO_PORT,
        Refusal::Attribute => NO_ATTRIBUTE,
        Refusal::Agent => NO_AGENT,
        Refusal::MemberOf => "encountered error \"MemberOf placement constraint unsatisfied.\".",
        Refusal::Distinct => {
            "encountered error \"DistinctInstance placement constraint unsatisfied.\"."
        }
    };
    format!(
        "(service {name}) {NOT_PLACED} no container instance met all of its requirements. The \
         closest matching (container-instance {id}) {why}"
    )
}

/// ECS's words for how many tasks there are in each zone.
pub(super) fn unbalanced<'a>(
    service: &ServiceKey,
    zones: impl Iterator<Item = (&'a str, usize)>,
) -> String {
    let counts: Vec<_> = zones.map(|(zone, count)| format!("{count} tasks in {zone}")).collect();
    let counts = counts.join(", ");
    format!("(service {}) is not AZ balanced with {counts}. {REBALANCES}", service.name)
}

pub(super) fn rebalances(service: &ServiceKey, task: &TaskId, zone: &str) -> String {
    format!("(service {}) has started 1 tasks in {zone} to AZ Rebalance: {task}.", service.name)
}

/// Ours, like the next.
pub(super) fn draining_instance(task: &Task) -> String {
    let id = instance_id(&task.cluster, &task.instance);
    format!("Its container instance (instance {id}) is DRAINING")
}

pub(super) fn lost(task: &Task) -> String {
    let id = instance_id(&task.cluster, &task.instance);
    format!("Its container instance (instance {id}) does not answer any more")
}

pub(super) fn stuck(service: &ServiceKey) -> String {
    format!(
        "(service {}) was unable to stop or start tasks during a deployment because of the service \
         deployment configuration. Update the minimumHealthyPercent or maximumPercent value and \
         try again.",
        service.name
    )
}

/// For tasks whose own checks fail.
pub(super) fn replaced(service: &ServiceKey, count: usize) -> String {
    let name = &service.name;
    format!("(service {name}) Amazon ECS replaced {count} tasks due to an unhealthy status.")
}

pub(super) fn unhealthy(
    service: &ServiceKey,
    task: &TaskId,
    port: u16,
    group_arn: &str,
    reason: &str,
) -> String {
    format!(
        "(service {}) (task {task}) (port {port}) is unhealthy in (target-group {group_arn}) \
         due to (reason {reason}).",
        service.name
    )
}
