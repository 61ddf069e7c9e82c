//! The plan: what one pass wants of all services. Pure.
//!
//! Not here: how a task gets from one status to the next (`step`), any write (`apply`).
//! **Invariant:** a plan only follows from the State, the time and the seed; made again on the
//! State it leads to, it wants nothing more, or a gradual deployment's next stage.

mod gradual;
mod health;
mod instances;
mod rollout;
mod service;
mod zones;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::placement::{Board, Unplaced, Wanted};
use super::settings::Settings;
use crate::clock::Timestamp;
use crate::model::{
    Capacity, Contact, DefinitionStatus, Deployment, DeploymentId, Failure, Group, InstanceName,
    RuleWeights, Service, ServiceKey, Shift, Target, Task, TaskDefinition, TaskDefinitionKey,
    TaskId, TaskStatus, WeightedGroup,
};
use crate::state::{QuarantineKey, State, ipam};

/// ECS says the same thing again after six hours at the earliest.
const DUPLICATES: Duration = Duration::from_secs(6 * 3600);

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub state: &'a State,
    pub settings: &'a Settings,
    /// Everything is being stopped and nothing is started any more.
    pub leaving: bool,
    /// Addresses that containers nobody knows still hold.
    pub avoid: &'a BTreeSet<IpAddr>,
    /// Of each instance that was asked.
    pub heard: &'a BTreeMap<InstanceName, Heard>,
}

/// What this process has heard of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// For how long it has not answered. None: it answers.
    pub silent_for: Option<Duration>,
    /// What its machine has. None: it has not told yet.
    pub capacity: Option<Capacity>,
}

/// What one pass wants.
#[must_use]
#[derive(Debug, Default)]
pub struct Plan {
    /// In order; all of them become one commit.
    pub moves: Vec<Move>,
    pub events: Vec<Event>,
    /// Look again then, even if nothing changes.
    pub revisit: Option<Timestamp>,
}

impl Plan {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.events.is_empty()
    }

    fn revisit_at(&mut self, at: Timestamp) {
        self.revisit = Some(self.revisit.map_or(at, |other| other.min(at)));
    }
}

/// Something a service's events should tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    pub service: ServiceKey,
    pub message: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Move {
    /// A new PRIMARY deployment.
    Open {
        service: ServiceKey,
        deployment: Box<Deployment>,
    },
    Start(Box<Task>),
    /// A standalone task gets its address.
    Place {
        task: TaskId,
        address: IpAddr,
    },
    Stop {
        task: TaskId,
        why: Why,
    },
    /// The rollout has come to its end.
    Complete {
        service: ServiceKey,
        deployment: DeploymentId,
    },
    /// The rollout ends before it is completed; the service goes back to an earlier deployment,
    /// if one is named.
    Fail {
        service: ServiceKey,
        deployment: DeploymentId,
        failure: Failure,
        to: Option<DeploymentId>,
    },
    /// A gradual deployment comes further; rules get their weights and names move with it.
    Advance {
        service: ServiceKey,
        deployment: DeploymentId,
        shift: Box<Shift>,
        writes: Vec<RuleWeights>,
    },
    /// A deployment that has nothing of its own yet takes its traffic from another than the one it
    /// was begun beside.
    Adopt {
        service: ServiceKey,
        deployment: DeploymentId,
        source: DeploymentId,
    },
    /// A rolling one is steady: its bake time begins.
    Bake {
        service: ServiceKey,
        deployment: DeploymentId,
    },
    /// An instance answers, or does not.
    Hear {
        instance: InstanceName,
        contact: Contact,
        capacity: Option<Capacity>,
    },
    /// A task is healthy for the first time.
    Healthy(TaskId),
    /// The last task of a replaced deployment is gone.
    Close {
        service: ServiceKey,
        deployment: DeploymentId,
    },
    /// A DAEMON service has a task on so many instances.
    Resize {
        service: ServiceKey,
        count: u32,
    },
    /// The failures are forgotten.
    Calm(ServiceKey),
    Steady {
        service: ServiceKey,
        steady: bool,
    },
    /// A STOPPED task was kept long enough.
    ForgetTask(TaskId),
    /// A deleted service has no task any more.
    ForgetService(ServiceKey),
    /// A service that has ended was shown long enough.
    ForgetEnded(ServiceKey),
    /// A deleted definition that nothing runs any more.
    ForgetDefinition(TaskDefinitionKey),
    /// The last task of an instance that left the file is gone.
    ForgetInstance(InstanceName),
    /// An address has rested long enough.
    Release(QuarantineKey),
}

/// Why a plan stops a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    ScaleIn,
    /// A newer deployment has replaced it.
    Deployment,
    /// Its checks failed in this target group (an ARN); none: its registration was taken away.
    Unhealthy(Option<String>),
    Deleted,
    /// Its instance is being drained.
    Draining,
    /// Another one was started for it in a zone with fewer.
    Rebalancing,
    /// Its instance does not answer any more.
    Lost,
    /// Its instance left the file.
    Removed,
    /// This process ends and takes its tasks with it.
    Leaving,
}

/// One line per move: what the tables compare. An instance's default name is left out.
impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { service, deployment } => {
                write!(f, "open {} {}", service.name, deployment.definition)
            }
            Self::Start(task) => {
                write!(f, "start {}", task.definition)?;
                if task.instance != InstanceName::default() {
                    write!(f, " on {}", task.instance)?;
                }
                task.replaces.as_ref().map_or(Ok(()), |old| write!(f, " for {old}"))
            }
            Self::Place { task, address } => write!(f, "place {task} {address}"),
            Self::Stop { task, why } => write!(f, "stop {task}: {why}"),
            Self::Complete { service, .. } => write!(f, "complete {}", service.name),
            Self::Fail { service, deployment, failure, to } => {
                write!(f, "fail {} {deployment} {failure:?}", service.name)?;
                to.as_ref().map_or(Ok(()), |to| write!(f, " back to {to}"))
            }
            Self::Advance { service, shift, writes, .. } => {
                write!(f, "advance {} {}", service.name, shift.stage.as_str())?;
                let open = shift.hooks.iter().filter(|run| run.status.is_open()).count();
                if open > 0 {
                    write!(f, " with {open} hooks")?;
                }
                for RuleWeights { rule, groups } in writes {
                    write!(f, ", {rule}:")?;
                    for WeightedGroup { group, weight } in groups {
                        write!(f, " {group}={weight}")?;
                    }
                }
                Ok(())
            }
            Self::Adopt { service, source, .. } => write!(f, "adopt {} {source}", service.name),
            Self::Bake { service, deployment } => write!(f, "bake {} {deployment}", service.name),
            Self::Hear { instance, contact, .. } => write!(f, "hear {instance} {contact:?}"),
            Self::Healthy(task) => write!(f, "healthy {task}"),
            Self::Close { service, deployment } => write!(f, "close {} {deployment}", service.name),
            Self::Resize { service, count } => write!(f, "resize {} {count}", service.name),
            Self::Calm(service) => write!(f, "calm {}", service.name),
            Self::Steady { service, steady: true } => write!(f, "steady {}", service.name),
            Self::Steady { service, steady: false } => write!(f, "unsteady {}", service.name),
            Self::ForgetTask(task) => write!(f, "forget task {task}"),
            Self::ForgetService(service) => write!(f, "forget service {}", service.name),
            Self::ForgetEnded(service) => write!(f, "forget ended service {}", service.name),
            Self::ForgetDefinition(key) => write!(f, "forget definition {key}"),
            Self::ForgetInstance(name) => write!(f, "forget instance {name}"),
            Self::Release(address) => write!(f, "release {address}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScaleIn => "scale-in",
            Self::Deployment => "deployment",
            Self::Unhealthy(_) => "unhealthy",
            Self::Deleted => "deleted",
            Self::Draining => "draining",
            Self::Rebalancing => "rebalancing",
            Self::Lost => "lost",
            Self::Removed => "removed",
            Self::Leaving => "leaving",
        })
    }
}

/// Registrations by task. Looked up only: a plan follows from no order of its own.
type Targets<'a> = HashMap<&'a TaskId, Vec<&'a Target>>;

/// What the tables of the State hold about each service and task, looked up once.
struct Index<'a> {
    /// Not STOPPED, by service, in the order they were created.
    tasks: HashMap<&'a ServiceKey, Vec<&'a Task>>,
    targets: Targets<'a>,
    stopped: Vec<&'a Task>,
}

impl<'a> Index<'a> {
    fn new(state: &'a State) -> Self {
        let targets = Targets::with_capacity(state.targets.len());
        let mut index = Self { tasks: HashMap::new(), targets, stopped: Vec::new() };
        for task in state.tasks.values() {
            if task.known == TaskStatus::Stopped {
                index.stopped.push(task);
            } else if let Some(service) = &task.service {
                index.tasks.entry(service).or_default().push(task);
            }
        }
        for tasks in index.tasks.values_mut() {
            // Stable: those of one moment stay in the order of their ids.
            tasks.sort_by_key(|task| task.created_at);
        }
        for target in state.targets.values() {
            if let Some(task) = &target.task {
                index.targets.entry(task).or_default().push(target);
            }
        }
        index
    }
}

/// What is common to all services of one plan.
struct Draft<'a, 'r> {
    view: View<'a>,
    now: Timestamp,
    rng: &'r mut fastrand::Rng,
    addresses: Option<Box<dyn Iterator<Item = IpAddr> + 'a>>,
    /// Made when something is first to be placed.
    board: Option<Board<'a>>,
    plan: Plan,
}

impl<'a> Draft<'a, '_> {
    /// An address for a new task; none when the runtime has its own.
    fn address(&mut self, instance: &InstanceName) -> Result<Option<IpAddr>, Unstarted> {
        match &mut self.addresses {
            Some(free) if self.view.settings.gives_address(self.view.state, instance) => {
                free.next().map(Some).ok_or(Unstarted::NoAddress)
            }
            _ => Ok(None),
        }
    }

    fn board(&mut self) -> &mut Board<'a> {
        self.board.get_or_insert_with(|| Board::of(self.view.state))
    }

    /// 32 hexadecimal digits.
    fn task_id(&mut self) -> TaskId {
        TaskId::new(format!("{:032x}", self.rng.u128(..)))
    }

    /// `ecs-svc/` and 19 digits.
    fn deployment_id(&mut self) -> DeploymentId {
        let number = self.rng.u64(1_000_000_000_000_000_000..10_000_000_000_000_000_000);
        DeploymentId::new(format!("ecs-svc/{number}"))
    }

    fn event(&mut self, service: &ServiceKey, message: String) {
        self.plan.events.push(Event { service: service.clone(), message });
    }

    /// The same again, which [`DUPLICATES`] keeps from being said twice.
    fn event_once(&mut self, service: &ServiceKey, message: String) {
        let told = self.view.state.progress.get(service).is_some_and(|progress| {
            let same = progress.events.iter().filter(|event| event.message == message);
            same.map(|event| event.at + DUPLICATES).any(|until| until > self.now)
        });
        if !told {
            self.event(service, message);
        }
    }
}

/// Why a task is not started.
#[derive(Debug)]
enum Unstarted {
    /// The pool is used up.
    NoAddress,
    Unplaced(Unplaced),
}

/// What should be done at `now`. `rng` gives ids, and chance where ECS leaves a choice to it.
pub fn plan(view: View<'_>, now: Timestamp, rng: &mut fastrand::Rng) -> Plan {
    let index = Index::new(view.state);
    let addresses = view.settings.addresses.map(|pool| {
        let free = ipam::free_addresses(view.state, pool, now);
        Box::new(free.filter(|address| !view.avoid.contains(address)))
            as Box<dyn Iterator<Item = _>>
    });
    let (board, empty) = (None, Plan::default());
    let mut draft = Draft { view, now, rng, addresses, board, plan: empty };
    instances::plan(&mut draft);
    if view.leaving {
        leave(&mut draft);
    } else {
        for service in view.state.services.values() {
            let tasks = index.tasks.get(&service.key).map_or(&[][..], Vec::as_slice);
            service::plan(&mut draft, service, tasks, &index.targets);
        }
        stop_strays(&mut draft, &index);
        place(&mut draft);
    }
    retain(&mut draft, &index);
    draft.plan
}

fn leave(draft: &mut Draft<'_, '_>) {
    for task in draft.view.state.tasks.values().filter(|task| task.is_live()) {
        draft.plan.moves.push(Move::Stop { task: task.id.clone(), why: Why::Leaving });
    }
}

/// Standalone tasks get their addresses, the oldest first; those for whom none is left wait.
fn place(draft: &mut Draft<'_, '_>) {
    let state = draft.view.state;
    let waits = |task: &&std::sync::Arc<Task>| draft.view.settings.is_unplaced(state, task);
    let mut waiting: Vec<_> = state.tasks.values().filter(waits).collect();
    waiting.sort_by_key(|task| (task.created_at, &task.id));
    for task in waiting {
        let Ok(Some(address)) = draft.address(&task.instance) else { return };
        draft.plan.moves.push(Move::Place { task: task.id.clone(), address });
    }
}

/// Tasks whose service is gone: nobody would ever stop them.
fn stop_strays(draft: &mut Draft<'_, '_>, index: &Index<'_>) {
    let services = &draft.view.state.services;
    let strays = index.tasks.iter().filter(|(service, _)| !services.contains_key(*service));
    let strays: BTreeMap<_, _> = strays.collect();
    for task in strays.into_values().flatten().filter(|task| task.is_live()) {
        draft.plan.moves.push(Move::Stop { task: task.id.clone(), why: Why::Deleted });
    }
}

/// Drops what was kept long enough: STOPPED tasks by age, then by number, and rested addresses.
fn retain(draft: &mut Draft<'_, '_>, index: &Index<'_>) {
    let (settings, now) = (draft.view.settings, draft.now);
    let mut stopped = index.stopped.clone();
    stopped.sort_by_key(|task| (task.stopped_at, &task.id));
    let surplus = stopped.len().saturating_sub(settings.stopped_kept);
    for (place, task) in stopped.into_iter().enumerate() {
        let until = task.stopped_at.unwrap_or(task.created_at) + settings.stopped_kept_for;
        if place < surplus || until <= now {
            draft.plan.moves.push(Move::ForgetTask(task.id.clone()));
        } else {
            draft.plan.revisit_at(until);
            break;
        }
    }
    forget(draft);
    // No revisit: an address past its time is free already, its row only takes room until the next
    // pass.
    let rested = draft.view.state.quarantine.values().filter(|row| row.until <= now);
    draft.plan.moves.extend(rested.map(|row| Move::Release(row.address)));
}

/// What was deleted and shown long enough, or is no longer in use. No revisit: a pass comes anyway.
fn forget(draft: &mut Draft<'_, '_>) {
    let (state, now) = (draft.view.state, draft.now);
    let shown = draft.view.settings.stopped_kept_for;
    for ended in state.ended_services.values().filter(|ended| ended.ended_at + shown <= now) {
        draft.plan.moves.push(Move::ForgetEnded(ended.service.key.clone()));
    }
    let deleted = |definition: &&std::sync::Arc<TaskDefinition>| {
        definition.status == DefinitionStatus::DeleteInProgress
    };
    for definition in state.definitions.values().filter(deleted) {
        let key = definition.key();
        let runs = state.services.values().any(|service| service.definition == key)
            || state.tasks.values().any(|task| task.definition == key);
        if !runs {
            draft.plan.moves.push(Move::ForgetDefinition(key));
        }
    }
}

/// The record of a task about to be made, on one of `only` where some are named.
fn new_task(
    draft: &mut Draft<'_, '_>,
    key: &ServiceKey,
    deployment: &Deployment,
    replaces: Option<TaskId>,
    only: Option<&BTreeSet<InstanceName>>,
) -> Result<Task, Unstarted> {
    let state = draft.view.state;
    let service = state.services.get(key);
    let instance = match (service, state.definitions.get(&deployment.definition)) {
        (Some(service), Some(definition)) => settle(draft, service, definition, only)?,
        // Neither goes while it is named.
        _ => InstanceName::default(),
    };
    let address = draft.address(&instance)?;
    let containers = state.definitions.get(&deployment.definition);
    let container = |definition: &crate::model::ContainerDefinition| {
        crate::model::Container::new(&definition.name)
    };
    let definition: TaskDefinitionKey = deployment.definition.clone();
    let (id, now) = (draft.task_id(), draft.now);
    Ok(Task {
        instance,
        exec: service.is_some_and(|service| service.options.launch.exec),
        service: Some(key.clone()),
        deployment: Some(deployment.id.clone()),
        address,
        containers: containers
            .map(|definition| definition.containers.iter().map(container).collect())
            .unwrap_or_default(),
        replaces,
        ..Task::new(id, key.cluster.clone(), definition, now)
    })
}

/// An instance for one more task of a service.
fn settle<'a>(
    draft: &mut Draft<'a, '_>,
    service: &'a Service,
    definition: &'a TaskDefinition,
    only: Option<&BTreeSet<InstanceName>>,
) -> Result<InstanceName, Unstarted> {
    let group = Group::Service(service.key.name.as_str());
    let (cluster, launch) = (&service.key.cluster, &service.options.launch);
    let wanted = Wanted { cluster, group, definition, launch };
    draft.board();
    let Draft { board: Some(board), rng, .. } = draft else {
        return Ok(InstanceName::default());
    };
    board.place(&wanted, only, rng).map_err(Unstarted::Unplaced)
}

#[cfg(test)]
mod tests;
