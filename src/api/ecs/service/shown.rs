//! Services as ECS describes them: counts, deployments, events.
//!
//! **Invariant:** everything is read from one State; a service whose next deployment has not begun
//! is never shown as stable.

use serde_json::{Map, Value, json};

use super::configuration;
use crate::api::ecs::{launch, names, tag, task_definition};
use crate::api::tags;
use crate::api::wire::time::seconds;
use crate::model::{
    Account, Deployment, Failure, Progress, Rollout, Service, ServiceStatus, TagSource, TaskStatus,
};
use crate::state::State;

/// How many tasks run, and how many are on the way there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::api::ecs) struct Counts {
    pub(in crate::api::ecs) running: usize,
    pub(in crate::api::ecs) pending: usize,
    /// Of both, those that are to stay.
    pub(in crate::api::ecs) wanted: usize,
}

impl Counts {
    /// Of a service's tasks; of one deployment's, when one is given.
    pub(in crate::api::ecs) fn of(
        state: &State,
        service: &Service,
        deployment: Option<&Deployment>,
    ) -> Self {
        let mut counts = Self::default();
        for task in state.tasks_of(&service.key) {
            if deployment.is_some_and(|d| task.deployment.as_ref() != Some(&d.id)) {
                continue;
            }
            counts.running += usize::from(task.known == TaskStatus::Running);
            counts.pending += usize::from(task.is_live() && task.known < TaskStatus::Running);
            counts.wanted += usize::from(task.is_live());
        }
        counts
    }
}

/// A service. `status` is that of its row, or INACTIVE.
pub(super) fn service(
    account: &Account,
    state: &State,
    service: &Service,
    status: &str,
    with_tags: bool,
) -> Value {
    let arn = account.service(&service.key);
    let progress = state.progress.get(&service.key).map(AsRef::as_ref);
    let counts = Counts::of(state, service, None);
    let options = &service.options;
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("serviceArn", arn.to_string().into());
    put("serviceName", service.key.name.as_str().into());
    put("clusterArn", account.cluster(&service.key.cluster).to_string().into());
    put("loadBalancers", load_balancers(account, state, service).into());
    put("serviceRegistries", registries(account, state, service).into());
    put("status", status.into());
    put("desiredCount", service.desired_count.into());
    put("runningCount", counts.running.into());
    put("pendingCount", counts.pending.into());
    put("taskDefinition", task_definition::arn(account, &service.definition));
    put("deploymentConfiguration", configuration::shown(service, &service.policy.strategy));
    put("deployments", deployments(account, state, service, progress).into());
    put("roleArn", options.role.clone().into());
    put("events", progress.map(events).unwrap_or_default().into());
    put("createdAt", seconds(service.created_at));
    put("createdBy", format!("arn:aws:iam::{}:root", account.id).into());
    let launch = &options.launch;
    put("placementConstraints", launch::shown_constraints(&launch.constraints).into());
    put("placementStrategy", launch::shown_strategies(&launch.strategies).into());
    if !service.load_balancers.is_empty() {
        put("healthCheckGracePeriodSeconds", service.health_check_grace_period.as_secs().into());
    }
    put("schedulingStrategy", strategy(service).into());
    put("deploymentController", json!({ "type": "ECS" }));
    put("enableECSManagedTags", launch.managed_tags.into());
    put("propagateTags", launch.propagated_tags.map_or("NONE", TagSource::as_str).into());
    put("enableExecuteCommand", launch.exec.into());
    let rebalancing = if options.rebalancing { "ENABLED" } else { "DISABLED" };
    put("availabilityZoneRebalancing", rebalancing.into());
    if let Some(primary) = progress.and_then(|progress| progress.deployments.first()) {
        let (deployment, revision) = names::of_deployment(account, &service.key, &primary.id);
        let counts = Counts::of(state, service, Some(primary));
        put("currentServiceDeployment", deployment.into());
        put(
            "currentServiceRevisions",
            json!([{
                "arn": revision,
                "requestedTaskCount": service.desired_count,
                "runningTaskCount": counts.running,
                "pendingTaskCount": counts.pending,
            }]),
        );
    }
    if with_tags {
        put("tags", tag::shown(tags::of(state, &arn)).into());
    }
    launch::shown(launch, &mut all);
    Value::Object(all)
}

pub(super) const fn status(service: &Service) -> &'static str {
    match service.status {
        ServiceStatus::Active => "ACTIVE",
        ServiceStatus::Draining => "DRAINING",
    }
}

pub(super) const fn strategy(service: &Service) -> &'static str {
    if service.policy.daemon { "DAEMON" } else { "REPLICA" }
}

pub(in crate::api::ecs) fn load_balancers(
    account: &Account,
    state: &State,
    service: &Service,
) -> Vec<Value> {
    let shown = |lb: &crate::model::ServiceTargetGroup| {
        let group = state.target_groups.get(&lb.group);
        let mut shown = json!({
            "targetGroupArn": group.map(|group| account.target_group(group).to_string()),
            "containerName":
                task_definition::container_of(state, &service.definition, lb.container_port),
            "containerPort": lb.container_port,
        });
        if let Some(pair) = &lb.pair {
            shown["advancedConfiguration"] = configuration::pair(account, state, pair);
        }
        shown
    };
    service.load_balancers.iter().map(shown).collect()
}

pub(in crate::api::ecs) fn registries(
    account: &Account,
    state: &State,
    service: &Service,
) -> Vec<Value> {
    let shown = |discovery: &crate::model::ServiceDiscovery| {
        let arn = names::registry_arn(account, state, &discovery.service);
        match discovery.container_port {
            Some(port) if service.options.registry_port => {
                json!({ "registryArn": arn, "port": port })
            }
            Some(port) => json!({
                "registryArn": arn,
                "containerName": task_definition::container_of(state, &service.definition, port),
                "containerPort": port,
            }),
            None => json!({ "registryArn": arn }),
        }
    };
    service.discovery.iter().map(shown).collect()
}

fn deployments(
    account: &Account,
    state: &State,
    service: &Service,
    progress: Option<&Progress>,
) -> Vec<Value> {
    let known = progress.map(|progress| progress.deployments.as_slice()).unwrap_or_default();
    let is_begun = known.first().is_some_and(|first| first.is_of(service));
    let mut all = Vec::new();
    if !is_begun && service.status == ServiceStatus::Active {
        // The orchestrator opens it within its next pass.
        let mut next = Map::from_iter([
            ("status".to_owned(), "PRIMARY".into()),
            ("taskDefinition".to_owned(), task_definition::arn(account, &service.definition)),
            ("desiredCount".to_owned(), service.desired_count.into()),
            ("runningCount".to_owned(), 0.into()),
            ("pendingCount".to_owned(), 0.into()),
            ("failedTasks".to_owned(), 0.into()),
            ("rolloutState".to_owned(), "IN_PROGRESS".into()),
        ]);
        launch::shown(&service.options.launch, &mut next);
        all.push(Value::Object(next));
    }
    for (place, known) in known.iter().enumerate() {
        let is_primary = place == 0 && is_begun;
        all.push(deployment(account, state, service, known, is_primary));
    }
    all
}

fn deployment(
    account: &Account,
    state: &State,
    service: &Service,
    deployment: &Deployment,
    is_primary: bool,
) -> Value {
    let counts = Counts::of(state, service, Some(deployment));
    let desired = match usize::try_from(service.desired_count) {
        Ok(desired) if is_primary && deployment.rollout != Rollout::Failed => desired,
        _ => counts.wanted,
    };
    let (rollout, reason) = rollout(deployment);
    let mut all = Map::from_iter([
        ("id".to_owned(), deployment.id.as_str().into()),
        ("status".to_owned(), if is_primary { "PRIMARY" } else { "ACTIVE" }.into()),
        ("taskDefinition".to_owned(), task_definition::arn(account, &deployment.definition)),
        ("desiredCount".to_owned(), desired.into()),
        ("pendingCount".to_owned(), counts.pending.into()),
        ("runningCount".to_owned(), counts.running.into()),
        ("failedTasks".to_owned(), deployment.failed_tasks.into()),
        ("createdAt".to_owned(), seconds(deployment.created_at)),
        ("updatedAt".to_owned(), seconds(deployment.completed_at.unwrap_or(deployment.created_at))),
        ("rolloutState".to_owned(), rollout.into()),
        ("rolloutStateReason".to_owned(), reason.into()),
    ]);
    launch::shown(&deployment.launch, &mut all);
    Value::Object(all)
}

/// Why a deployment ended before its time: in ECS's words where it has them.
pub(in crate::api::ecs) const fn reason(failure: Failure) -> &'static str {
    match failure {
        Failure::TasksFailed => "ECS deployment circuit breaker: tasks failed to start.",
        Failure::Stopped | Failure::Aborted => "Service deployment stopped by request.",
        Failure::Alarm => "ECS deployment alarms: alarm detected.",
        Failure::Hook => "Service deployment rolled back because of a lifecycle hook.",
        Failure::TimedOut => "Service deployment timed out at a lifecycle stage.",
    }
}

/// ECS's `rolloutState` and its reason.
pub(in crate::api::ecs) fn rollout(deployment: &Deployment) -> (&'static str, String) {
    let id = &deployment.id;
    match (deployment.rollout, deployment.failure) {
        (Rollout::InProgress, _) if deployment.back_from.is_some() => {
            let why = "ECS deployment circuit breaker: rolling back to deploymentId";
            ("IN_PROGRESS", format!("{why} {id}."))
        }
        (Rollout::InProgress, _) => ("IN_PROGRESS", format!("ECS deployment {id} in progress.")),
        (Rollout::Completed, _) => ("COMPLETED", format!("ECS deployment {id} completed.")),
        (Rollout::Failed, Some(Failure::Stopped | Failure::Aborted)) => {
            ("FAILED", format!("ECS deployment {id} stopped."))
        }
        (Rollout::Failed, Some(failure)) => ("FAILED", reason(failure).to_owned()),
        (Rollout::Failed, None) => ("FAILED", reason(Failure::TasksFailed).to_owned()),
    }
}

/// Newest first.
fn events(progress: &Progress) -> Vec<Value> {
    let shown = |event: &crate::model::ServiceEvent| {
        json!({
            "id": event.id.to_string(),
            "createdAt": seconds(event.at),
            "message": event.message,
        })
    };
    progress.events.iter().rev().map(shown).collect()
}
