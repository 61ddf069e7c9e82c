//! What `roadstead status` shows: the State and the snapshot in the outside world's words.
//!
//! **Invariant:** every fact is read from one State; nothing is computed that the State does not
//! say.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{
    Action, Generation, Registration, TargetReason, Task, TaskStatus, VerdictState, label,
};
use crate::orchestrator::placement::{Board, Seat};
use crate::routing::Routing;
use crate::state::State;

/// Everything, in JSON as `status --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub generation: Generation,
    /// What every data thread decides by.
    pub acknowledged: Generation,
    pub clusters: Vec<String>,
    pub instances: Vec<InstanceRow>,
    pub services: Vec<ServiceStatus>,
    pub tasks: Vec<TaskRow>,
    pub targets: Vec<TargetRow>,
    pub listeners: Vec<ListenerRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRow {
    pub name: String,
    /// `process` or `docker`.
    pub runtime: String,
    pub zone: String,
    /// `connected`, `silent`, `lost` or `removed`.
    pub contact: String,
    /// The clusters in which it is DRAINING.
    pub draining: Vec<String>,
    /// Tasks that are not STOPPED.
    pub tasks: usize,
    /// CPU units and MiB that no task has, and what there is for tasks; none: not known yet.
    pub cpu_left: u64,
    pub cpu: Option<u32>,
    pub memory_left: u64,
    pub memory: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub service: String,
    pub task_definition: String,
    pub desired: u32,
    pub running: usize,
    pub pending: usize,
    /// Consecutive tasks that failed to start or died young.
    pub failures: u32,
    /// Why the last of them did.
    pub failure: Option<String>,
    /// No start before, RFC 3339.
    pub next_start: Option<String>,
    /// The newest events, newest first.
    pub events: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRow {
    pub task: String,
    pub instance: String,
    pub service: Option<String>,
    pub task_definition: String,
    pub last_status: String,
    pub desired_status: String,
    pub address: Option<String>,
    pub stop_code: Option<String>,
    pub stopped_reason: Option<String>,
    pub containers: Vec<ContainerRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRow {
    pub name: String,
    pub runtime_id: Option<String>,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRow {
    pub target_group: String,
    pub target: String,
    pub task: Option<String>,
    /// `initial`, `healthy`, `unhealthy`, `draining`, as ELB calls them.
    pub state: String,
    pub reason: Option<String>,
    pub description: String,
    /// Ejected as an outlier until then, RFC 3339.
    pub ejected_until: Option<String>,
    pub in_flight: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerRow {
    pub load_balancer: String,
    pub dns_name: String,
    pub address: String,
    pub protocol: String,
    pub rules: usize,
    pub default_action: String,
}

/// Events of a service that `status` shows.
const EVENTS: usize = 10;

impl Status {
    /// Reads it all out of one State; in-flight counts come from the snapshot.
    #[must_use]
    pub fn of(
        state: &State,
        routing: &Routing,
        acknowledged: Generation,
        region: &str,
        domain: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: state.generation,
            acknowledged,
            clusters: state.clusters.keys().map(label).collect(),
            instances: instances(state),
            services: services(state),
            tasks: state.tasks.values().map(|task| task_row(task)).collect(),
            targets: targets(state, routing, now),
            listeners: listeners(state, region, domain),
        }
    }
}

fn instances(state: &State) -> Vec<InstanceRow> {
    let row = |seat: &Seat<'_>| {
        let instance = seat.instance;
        let draining = instance.memberships.iter().filter(|(_, own)| own.draining);
        let registered = instance.registered();
        InstanceRow {
            name: instance.name.to_string(),
            runtime: instance.kind.as_str().to_owned(),
            zone: instance.zone.clone(),
            contact: instance.contact.as_str().to_owned(),
            draining: draining.map(|(cluster, _)| label(cluster)).collect(),
            tasks: seat.tasks(),
            cpu_left: seat.cpu_left(),
            cpu: registered.map(|all| all.cpu),
            memory_left: seat.memory_left(),
            memory: registered.map(|all| all.memory_mib),
        }
    };
    Board::of(state).seats().iter().map(row).collect()
}

fn services(state: &State) -> Vec<ServiceStatus> {
    let row = |service: &std::sync::Arc<crate::model::Service>| {
        let tasks: Vec<_> = state.tasks_of(&service.key).filter(|task| task.is_live()).collect();
        let running = tasks.iter().filter(|task| task.known == TaskStatus::Running).count();
        let progress = state.progress.get(&service.key);
        let backoff = progress.map(|progress| progress.backoff.clone()).unwrap_or_default();
        let events = progress.map(|progress| {
            let newest = progress.events.iter().rev().take(EVENTS);
            newest.map(|event| format!("{} {}", event.at, event.message)).collect()
        });
        ServiceStatus {
            service: label(&service.key),
            task_definition: label(&service.definition),
            desired: service.desired_count,
            running,
            pending: tasks.len() - running,
            failures: backoff.failures,
            failure: backoff.reason,
            next_start: backoff.until.map(|until| until.to_string()),
            events: events.unwrap_or_default(),
        }
    };
    state.services.values().map(row).collect()
}

fn task_row(task: &Task) -> TaskRow {
    let container = |container: &crate::model::Container| ContainerRow {
        name: container.name.clone(),
        runtime_id: container.runtime_id.clone(),
        exit_code: container.exit_code,
        reason: container.reason.clone(),
    };
    TaskRow {
        task: task.id.to_string(),
        instance: task.instance.to_string(),
        service: task.service.as_ref().map(label),
        task_definition: label(&task.definition),
        last_status: task.known.as_str().to_owned(),
        desired_status: match task.desired {
            crate::model::Desired::Running => "RUNNING",
            crate::model::Desired::Stopped => "STOPPED",
        }
        .to_owned(),
        address: task.address.map(|address| address.to_string()),
        stop_code: task.stop.as_ref().map(|stop| stop.code.as_str().to_owned()),
        stopped_reason: task.stop.as_ref().map(crate::model::Stop::whole),
        containers: task.containers.iter().map(container).collect(),
    }
}

fn targets(state: &State, routing: &Routing, now: Timestamp) -> Vec<TargetRow> {
    let row = |target: &std::sync::Arc<crate::model::Target>| {
        let verdict = state.verdict(target.id);
        let draining = target.registration != Registration::Active;
        let (name, reason) = match (draining, verdict) {
            (true, _) => ("draining", Some(TargetReason::DeregistrationInProgress)),
            (false, Some(verdict)) => (verdict.state.as_str(), verdict.reason),
            (false, None) => {
                (VerdictState::Initial.as_str(), Some(TargetReason::RegistrationInProgress))
            }
        };
        TargetRow {
            target_group: label(&target.group),
            target: target.socket_address().to_string(),
            task: target.task.as_ref().map(ToString::to_string),
            state: name.to_owned(),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            description: verdict.map(|verdict| verdict.description.clone()).unwrap_or_default(),
            ejected_until: routing
                .endpoints
                .get(&target.id)
                .and_then(|endpoint| endpoint.outlier.until(now))
                .map(|until| until.to_string()),
            in_flight: routing.endpoints.get(&target.id).map_or(0, |e| e.in_flight()),
        }
    };
    state.targets.values().map(row).collect()
}

fn listeners(state: &State, region: &str, domain: &str) -> Vec<ListenerRow> {
    let row = |listener: &std::sync::Arc<crate::model::Listener>| {
        let lb = state.load_balancers.get(&listener.key.load_balancer)?;
        let address = std::net::SocketAddr::new(lb.address, listener.key.port);
        Some(ListenerRow {
            load_balancer: label(&lb.name),
            dns_name: lb.dns_name(region, domain),
            address: address.to_string(),
            protocol: listener.protocol.as_str().to_owned(),
            rules: listener.rules.len(),
            default_action: match &listener.default_action {
                Action::Forward(groups) => {
                    let names: Vec<_> = groups.iter().map(|g| label(&g.group)).collect();
                    format!("forward to {}", names.join(", "))
                }
                Action::FixedResponse(response) => format!("fixed response {}", response.status),
                Action::Redirect(redirect) => format!("redirect {}", redirect.status),
            },
        })
    };
    state.listeners.values().filter_map(row).collect()
}
