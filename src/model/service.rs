//! Clusters, services and their deployments.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AlarmName, CapacityItem, ClusterName, DeploymentId, DiscoveryKey, Failure, Family, GroupPair,
    Hook, HookAction, Launch, Rollback, RuleWeights, ServiceKey, ServicePolicy, Shift, Stage,
    Strategy, TargetGroupName, TaskDefinitionKey,
};
use crate::clock::Timestamp;

/// ECS shows the newest hundred events of a service.
pub const EVENTS_KEPT: usize = 100;
/// Ended deployments kept of a service (ours: ECS shows those of the last 90 days).
pub const DEPLOYMENTS_KEPT: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: ClusterName,
    pub owner: Owner,
    /// ECS's `containerInsights`, as given. None: off.
    #[serde(default)]
    pub insights: Option<String>,
    /// ECS's `logging` of its `executeCommandConfiguration`, as given.
    #[serde(default)]
    pub exec_logging: Option<String>,
    /// The capacity providers that its services and tasks may name.
    #[serde(default)]
    pub providers: Vec<String>,
    /// For those that name neither a launch type nor a strategy.
    #[serde(default)]
    pub default_strategy: Vec<CapacityItem>,
}

impl Cluster {
    /// One that is given nothing but its name.
    #[must_use]
    pub fn new(name: ClusterName, owner: Owner) -> Self {
        let (providers, default_strategy) = (Vec::new(), Vec::new());
        Self { name, owner, insights: None, exec_logging: None, providers, default_strategy }
    }
}

/// Who created a resource, and so who may change it: the configuration file or the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    File,
    Api,
}

/// What was asked of a service. Written by the file and the API; by the orchestrator only when a
/// deployment is rolled back, which asks for what was asked for before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub key: ServiceKey,
    pub definition: TaskDefinitionKey,
    pub desired_count: u32,
    pub load_balancers: Vec<ServiceTargetGroup>,
    pub discovery: Option<ServiceDiscovery>,
    /// ECS's `minimumHealthyPercent`, default 100.
    pub minimum_healthy_percent: u32,
    /// ECS's `maximumPercent`, default 200.
    pub maximum_percent: u32,
    /// Unhealthy verdicts within this time of a task's start do not replace it. Default 0.
    pub health_check_grace_period: Duration,
    pub status: ServiceStatus,
    pub owner: Owner,
    pub created_at: Timestamp,
    #[serde(default)]
    pub options: ServiceOptions,
    #[serde(default)]
    pub policy: ServicePolicy,
}

impl Service {
    /// A service of no tasks, with ECS's defaults.
    #[must_use]
    pub fn new(
        key: ServiceKey,
        definition: TaskDefinitionKey,
        owner: Owner,
        created_at: Timestamp,
    ) -> Self {
        Self {
            key,
            definition,
            desired_count: 0,
            load_balancers: Vec::new(),
            discovery: None,
            minimum_healthy_percent: 100,
            maximum_percent: 200,
            health_check_grace_period: Duration::ZERO,
            status: ServiceStatus::Active,
            owner,
            created_at,
            options: ServiceOptions::default(),
            policy: ServicePolicy::default(),
        }
    }
}

/// What was asked of a service beside its tasks' number and place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceOptions {
    pub launch: Launch,
    /// How often a new deployment of the same was asked for.
    pub forced: u64,
    /// ECS's `availabilityZoneRebalancing`.
    pub rebalancing: bool,
    pub role: Option<String>,
    /// Calls that carry the same token are the same call.
    pub token: Option<String>,
    /// Its registry's port was given as `port`, not as a container's.
    pub registry_port: bool,
    /// The deployment that was asked to stop, for as long as it is under way.
    pub stopped: Option<DeploymentId>,
    /// It is to leave everything as it is.
    pub aborts: bool,
    /// What the hooks that wait were told, by their runs' ids.
    pub answers: BTreeMap<String, HookAction>,
}

/// A deleted service whose last task is gone: ECS shows it for a while still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedService {
    pub service: Service,
    pub ended_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStatus {
    Active,
    /// Deleted; its last tasks are being stopped. It vanishes with them.
    Draining,
}

/// A target group that a service's tasks are registered in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTargetGroup {
    pub group: TargetGroupName,
    pub container_port: u16,
    /// ECS's `advancedConfiguration`: deployments take turns between the two.
    #[serde(default)]
    pub pair: Option<GroupPair>,
}

impl ServiceTargetGroup {
    /// The group that tasks of a deployment are registered in, and the other of a pair.
    #[must_use]
    pub fn sides(&self, alternate: bool) -> (&TargetGroupName, Option<&TargetGroupName>) {
        match self.pair.as_ref() {
            Some(pair) if alternate => (&pair.alternate, Some(&self.group)),
            Some(pair) => (&self.group, Some(&pair.alternate)),
            None => (&self.group, None),
        }
    }

    /// Both.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroupName> {
        std::iter::once(&self.group).chain(self.pair.as_ref().map(|pair| &pair.alternate))
    }
}

/// The discovery service that a service's tasks are registered in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDiscovery {
    pub service: DiscoveryKey,
    /// The port of its SRV records.
    pub container_port: Option<u16>,
}

/// What the orchestrator keeps of a service between passes. **Invariant:** written by the
/// orchestrator alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub service: ServiceKey,
    /// Newest first; the first is PRIMARY, the others drain.
    pub deployments: Vec<Deployment>,
    /// Those that no task is left of, the last to end first; at most [`DEPLOYMENTS_KEPT`].
    #[serde(default)]
    pub ended: Vec<Deployment>,
    pub backoff: Backoff,
    /// Newest last, at most [`EVENTS_KEPT`].
    pub events: VecDeque<ServiceEvent>,
    /// Number of events ever written, the id of the next.
    pub events_written: u64,
    /// The steady state was announced and still holds.
    pub steady: bool,
    /// Tasks replaced, by reason; counters of the metric.
    pub replacements: BTreeMap<String, u64>,
    /// What the deployment under way has written into rules: whatever else stands there is
    /// somebody else's.
    #[serde(default)]
    pub weights: Vec<RuleWeights>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub definition: TaskDefinitionKey,
    /// As the service had them when this deployment began: a change of them begins the next.
    #[serde(default)]
    pub load_balancers: Vec<ServiceTargetGroup>,
    #[serde(default)]
    pub discovery: Option<ServiceDiscovery>,
    /// Likewise.
    #[serde(default)]
    pub launch: Launch,
    /// Likewise.
    #[serde(default)]
    pub forced: u64,
    pub rollout: Rollout,
    pub failed_tasks: u32,
    /// What the circuit breaker has counted.
    #[serde(default)]
    pub failures: u32,
    pub created_at: Timestamp,
    /// When it came to its end. None: not yet.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// None: it was not ended before its time.
    #[serde(default)]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub rollback: Option<Rollback>,
    /// While it is under way once more: the deployment that it is the way back from.
    #[serde(default)]
    pub back_from: Option<DeploymentId>,
    /// It was completed and gone back to later, or its tasks served when those of the one before it
    /// did not: what ended it says nothing about it.
    #[serde(default)]
    pub proven: bool,
    /// As the service had it when this deployment began.
    #[serde(default)]
    pub strategy: Strategy,
    /// Its tasks are registered in the alternate group of each pair.
    #[serde(default)]
    pub alternate: bool,
    /// None: it is a rolling one.
    #[serde(default)]
    pub shift: Option<Shift>,
    /// When a rolling one was first steady, and its bake time began.
    #[serde(default)]
    pub baking_since: Option<Timestamp>,
    /// In alarm when it began: they say nothing about it (ECS).
    #[serde(default)]
    pub ignored_alarms: Vec<AlarmName>,
}

impl Progress {
    /// Of a service of which nothing is kept yet.
    #[must_use]
    pub fn new(service: ServiceKey) -> Self {
        Self {
            service,
            deployments: Vec::new(),
            ended: Vec::new(),
            backoff: Backoff::default(),
            events: VecDeque::new(),
            events_written: 0,
            steady: false,
            replacements: BTreeMap::new(),
            weights: Vec::new(),
        }
    }

    #[must_use]
    pub fn find(&self, id: &DeploymentId) -> Option<&Deployment> {
        self.all().find(|deployment| &deployment.id == id)
    }

    /// The hooks that are told of a deployment: of a way back, those of the one that it leads away
    /// from.
    #[must_use]
    pub fn hooks_of<'a>(&'a self, deployment: &'a Deployment) -> &'a [Hook] {
        let shift = deployment.shift.as_ref().filter(|shift| shift.returning);
        let told = match shift {
            Some(shift) => shift.source.as_ref().and_then(|id| self.find(id)),
            None => Some(deployment),
        };
        told.map(|told| &told.strategy.hooks[..]).unwrap_or_default()
    }

    /// Whether names lead to tasks of this deployment: where two share the traffic, they lead to
    /// one of them alone.
    #[must_use]
    pub fn is_named(&self, id: &DeploymentId) -> bool {
        let first = self.deployments.first().filter(|first| first.rollout != Rollout::Completed);
        let shift = first.and_then(|first| first.shift.as_ref());
        match (first, shift) {
            (Some(first), Some(shift)) if shift.named => first.id == *id,
            (_, Some(Shift { source: Some(source), stage, .. })) if *stage < Stage::CleanUp => {
                source == id
            }
            _ => true,
        }
    }

    /// All of them, newest first.
    pub fn all(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.iter().chain(&self.ended)
    }

    /// Likewise, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Deployment> {
        self.deployments.iter_mut().chain(&mut self.ended)
    }
}

impl Deployment {
    /// One that begins now and brings what `service` asks for.
    #[must_use]
    pub fn of(service: &Service, id: DeploymentId, now: Timestamp) -> Self {
        Self {
            id,
            definition: service.definition.clone(),
            load_balancers: service.load_balancers.clone(),
            discovery: service.discovery.clone(),
            launch: service.options.launch.clone(),
            forced: service.options.forced,
            rollout: Rollout::InProgress,
            failed_tasks: 0,
            failures: 0,
            created_at: now,
            completed_at: None,
            failure: None,
            rollback: None,
            back_from: None,
            proven: false,
            strategy: service.policy.strategy.clone(),
            alternate: false,
            shift: None,
            baking_since: None,
            ignored_alarms: Vec::new(),
        }
    }

    /// It was completed once, so one may go back to it.
    #[must_use]
    pub fn was_good(&self) -> bool {
        self.proven || self.completed_at.is_some() && self.failure.is_none()
    }

    /// Under way once more, as the way back from `other`, which failed so.
    #[must_use]
    pub fn resumed(&self, other: &Self, failure: Failure, now: Timestamp) -> Self {
        let (rollout, back_from) = (Rollout::InProgress, Some(other.id.clone()));
        let shift = other.shift.as_ref();
        let shift = shift.filter(|shift| shift.source.as_ref() == Some(&self.id));
        let shift = shift.map(|shift| Shift {
            returning: true,
            insists: failure == Failure::Stopped,
            // A rolling one that was through had them too.
            named: !shift.named && shift.stage < Stage::CleanUp,
            ..Shift::begun(Stage::ProductionTrafficShift, Some(other.id.clone()), now)
        });
        let (proven, failure) = (true, None);
        Self {
            rollout,
            failures: 0,
            failure,
            back_from,
            proven,
            shift,
            baking_since: None,
            ..self.clone()
        }
    }

    /// Traffic is, or may be, divided between it and another.
    #[must_use]
    pub fn is_shifting(&self) -> bool {
        self.rollout != Rollout::Completed
            && self.shift.as_ref().is_some_and(|s| s.source.is_some() && s.stage < Stage::CleanUp)
    }

    /// The target groups and ports that its tasks are registered with.
    pub fn registrations(&self) -> impl Iterator<Item = (&TargetGroupName, u16)> {
        let side = self.alternate;
        self.load_balancers.iter().map(move |lb| (lb.sides(side).0, lb.container_port))
    }

    /// `service`, asked for what this deployment brought; the opposite of [`Deployment::is_of`]
    /// being false.
    #[must_use]
    pub fn restored(&self, service: &Service) -> Service {
        let mut service = service.clone();
        service.definition.clone_from(&self.definition);
        service.load_balancers.clone_from(&self.load_balancers);
        service.discovery.clone_from(&self.discovery);
        service.options.forced = self.forced;
        service.options.stopped = None;
        service.options.answers.clear();
        let launch = &mut service.options.launch;
        launch.network.clone_from(&self.launch.network);
        launch.platform_version.clone_from(&self.launch.platform_version);
        service
    }

    /// Whether it brings what the service asks for now; if not, the next one has to begin. What
    /// chooses a place or names tags begins none (ECS: `UpdateService`).
    #[must_use]
    pub fn is_of(&self, service: &Service) -> bool {
        let launch = &service.options.launch;
        self.definition == service.definition
            && self.load_balancers == service.load_balancers
            && self.discovery == service.discovery
            && self.forced == service.options.forced
            && self.launch.network == launch.network
            && self.launch.platform_version == launch.platform_version
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rollout {
    InProgress,
    Completed,
    /// Nothing of it is started any more.
    Failed,
}

/// How long the next start has to wait: grows with tasks that failed to start or died young.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Consecutive rounds of starts that ended in a failure.
    pub failures: u32,
    /// When the last round failed: tasks created before belong to it.
    #[serde(default)]
    pub failed_at: Option<Timestamp>,
    /// No start before.
    pub until: Option<Timestamp>,
    /// The last failure, for `status`.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    pub id: u64,
    pub at: Timestamp,
    /// ECS's words: `(service web) has reached a steady state.`
    pub message: String,
}

/// The newest revision ever registered in a family; it stays when its revisions are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    pub family: Family,
    pub last_revision: u32,
}
