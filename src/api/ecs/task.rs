//! Tasks: run standalone, stopped, described.
//!
//! A standalone task is a row that the orchestrator then brings up as it does a service's. Not
//! here: how a task is shown (`task_shown`). **Invariant:** a task is told to stop by its desired
//! status alone, so it is drained first like every other.

use serde::Deserialize;
use serde_json::{Value, json};

use super::launch::{self as launching, Constraint, Item, NetworkConfiguration, Strategy};
use super::{cluster, instance, names, tag, task_shown};
use crate::api::call::{Call, Input, Outcome};
use crate::api::definition::Size;
use crate::api::error::Error;
use crate::api::tags::{self, Tag};
use crate::clock::Timestamp;
use crate::model::{
    Account, Cluster, ClusterName, Container, ContainerOverride, Desired, Group, InstanceName,
    Launch, Overrides, Run, Stop, StopCode, Task, TaskDefinition, TaskId,
};
use crate::orchestrator::placement::{Board, Refusal, Unplaced, Wanted};
use crate::state::{State, Tx};

/// ECS: tasks of one call.
const MOST: i64 = 10;
/// ECS: characters of the overrides' JSON.
const OVERRIDES: usize = 8192;
/// ECS: characters of `startedBy`.
const STARTED_BY: usize = 128;

/// Of `RunTask`, and of `StartTask`, which names instances.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    cluster: Option<String>,
    task_definition: String,
    count: Option<i64>,
    container_instances: Option<Vec<String>>,
    group: Option<String>,
    started_by: Option<String>,
    client_token: Option<String>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Vec<Item>>,
    platform_version: Option<String>,
    network_configuration: Option<NetworkConfiguration>,
    #[serde(default)]
    placement_constraints: Vec<Constraint>,
    #[serde(default)]
    placement_strategy: Vec<Strategy>,
    propagate_tags: Option<String>,
    #[serde(rename = "enableECSManagedTags", default)]
    enable_ecs_managed_tags: bool,
    #[serde(default)]
    enable_execute_command: bool,
    overrides: Option<TaskOverride>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(skip)]
    digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskOverride {
    #[serde(default)]
    container_overrides: Vec<OneOverride>,
    cpu: Option<Size>,
    memory: Option<Size>,
    task_role_arn: Option<String>,
    execution_role_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OneOverride {
    name: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    environment: Vec<Variable>,
    cpu: Option<u32>,
    memory: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct StopTask {
    cluster: Option<String>,
    task: String,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DescribeTasks {
    cluster: Option<String>,
    tasks: Vec<String>,
    include: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTasks {
    cluster: Option<String>,
    container_instance: Option<String>,
    family: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    started_by: Option<String>,
    service_name: Option<String>,
    desired_status: Option<String>,
    launch_type: Option<String>,
}

pub(super) async fn run(call: &Call, input: Input) -> Outcome {
    let asked = read(input)?;
    let count = asked.count.unwrap_or(1);
    if !(1..=MOST).contains(&count) {
        return Err(Error::invalid("Count should be between 1 and 10."));
    }
    let count = usize::try_from(count).unwrap_or(1);
    start(call, asked, Where::Anywhere(count), Vec::new()).await
}

/// On named instances, once for each time that one is named; the scheduler is not asked, but what
/// an instance has not got it cannot give (ECS).
pub(super) async fn start_on(call: &Call, input: Input) -> Outcome {
    let mut asked = read(input)?;
    let cluster = names::cluster(call, asked.cluster.as_deref())?;
    let named = asked.container_instances.take().unwrap_or_default();
    if named.is_empty() || named.len() > 10 {
        return Err(Error::invalid("Container instances must be 1 to 10."));
    }
    let (found, failures) = instance::find(call, &call.state(), &cluster, &named)?;
    asked.launch_type = Some("EC2".to_owned());
    start(call, asked, Where::On(found), failures).await
}

pub(super) async fn stop(call: &Call, input: Input) -> Outcome {
    let asked: StopTask = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let id = names::task(call, &cluster, &asked.task)?;
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let found = tx.state().tasks.get(&id).filter(|task| task.cluster == cluster);
        let found = found.ok_or_else(|| Error::invalid("The referenced task was not found."))?;
        let mut task = Task::clone(found);
        if task.is_live() {
            let reason = asked.reason.filter(|reason| !reason.is_empty());
            let reason = reason.unwrap_or_else(|| "Task stopped by user".to_owned());
            task.desired = Desired::Stopped;
            task.stop = Some(Stop::new(StopCode::UserInitiated, reason));
            tx.put(task.clone());
        }
        Ok::<_, Error>(task_shown::task(&account, tx.state(), &task, true))
    });
    Ok(json!({ "task": written.await?.value }))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeTasks = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.tasks.is_empty() {
        return Err(Error::invalid("Tasks cannot be empty."));
    }
    if asked.tasks.len() > 100 {
        return Err(Error::invalid("at most 100 tasks can be described at once"));
    }
    let tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let (state, account) = (call.state(), call.account());
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for text in &asked.tasks {
        let id = names::task(call, &cluster, text)?;
        match state.tasks.get(&id).filter(|task| task.cluster == cluster) {
            Some(task) => tasks.push(task_shown::task(account, &state, task, tags)),
            None => failures.push(names::failure(account.task(&cluster, &id), "MISSING")),
        }
    }
    Ok(json!({ "tasks": tasks, "failures": failures }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListTasks = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let state = call.state();
    let instance = asked.container_instance.as_deref().filter(|text| !text.is_empty());
    let instance = instance.map(|text| names::instance(call, &cluster, text)).transpose()?;
    let missing = || Error::invalid("The container instance was not found.");
    let named = |id| instance::named(&state, &cluster, id).ok_or_else(missing);
    let instance = instance.map(named).transpose()?;
    let service = asked.service_name.as_deref().filter(|text| !text.is_empty());
    let service = service.map(|text| names::service(call, &cluster, text)).transpose()?;
    if service.as_ref().is_some_and(|key| !state.services.contains_key(key)) {
        return Err(super::service::missing());
    }
    let desired = asked.desired_status.as_deref().unwrap_or("RUNNING");
    let wanted = |task: &&std::sync::Arc<Task>| {
        let started_by = asked.started_by.as_deref();
        let launch_type = asked.launch_type.as_deref();
        task.cluster == cluster
            && task_shown::desired(task) == desired
            && asked
                .family
                .as_deref()
                .is_none_or(|family| task.definition.family.as_str() == family)
            && instance.is_none_or(|instance| task.instance == instance.name)
            && service.as_ref().is_none_or(|key| task.service.as_ref() == Some(key))
            && started_by.is_none_or(|by| task_shown::started_by(task) == Some(by))
            && launch_type.is_none_or(|kind| launch(&state, task).launch_type().as_str() == kind)
    };
    let found = state.tasks.values().filter(wanted);
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(found, |t| t.id.to_string(), token, asked.max_results, 100)?;
    let arns: Vec<_> =
        page.iter().map(|t| call.account().task(&cluster, &t.id).to_string()).collect();
    Ok(json!({ "taskArns": arns, "nextToken": next }))
}

/// How a task was launched: as it was asked for alone, or as its service has it.
pub(super) fn launch(state: &State, task: &Task) -> Launch {
    if let Some(run) = &task.run {
        return run.launch.clone();
    }
    let Some(key) = &task.service else { return Launch::default() };
    let progress = state.progress.get(key);
    let own = |d: &&crate::model::Deployment| Some(&d.id) == task.deployment.as_ref();
    let deployment = progress.and_then(|progress| progress.deployments.iter().find(own));
    let service = || state.services.get(key).map(|service| service.options.launch.clone());
    deployment.map(|deployment| deployment.launch.clone()).or_else(service).unwrap_or_default()
}

fn read(input: Input) -> Result<Asked, Error> {
    let overrides = input.value.get("overrides").map(|value| value.to_string().len());
    if overrides.is_some_and(|length| length > OVERRIDES) {
        return Err(Error::invalid("Container overrides length must be at most 8192."));
    }
    let digest = super::digest(&input.value.to_string());
    let asked: Asked = input.read()?;
    if asked.started_by.as_ref().is_some_and(|by| by.chars().count() > STARTED_BY) {
        return Err(Error::invalid("startedBy must be at most 128 characters."));
    }
    if asked.group.as_ref().is_some_and(|group| group.starts_with("service:")) {
        return Err(Error::invalid("Invalid namespace for group: service."));
    }
    Ok(Asked { digest, ..asked })
}

/// The instances of a call's tasks.
enum Where {
    /// Of so many tasks.
    Anywhere(usize),
    /// One task on each.
    On(Vec<InstanceName>),
}

async fn start(call: &Call, asked: Asked, whereabouts: Where, failures: Vec<Value>) -> Outcome {
    let cluster = names::cluster(call, asked.cluster.as_deref())?;
    let (account, now) = (call.account().clone(), call.now);
    let written = call.api.store.update(move |tx| {
        if let Some(same) = again(tx.state(), &account, &cluster, &asked)? {
            return Ok((same, Vec::new()));
        }
        let cluster = cluster::for_use(tx, &cluster)?;
        let definition = names::runnable(&account, tx.state(), &asked.task_definition)?.clone();
        let tags = asked.tags.clone();
        let run = plan(asked, &cluster, &definition)?;
        let state = tx.state().clone();
        let (instances, unplaced) = settle(&state, &cluster.name, &definition, &run, &whereabouts)?;
        let mut shown = Vec::new();
        for instance in instances {
            let of = (&cluster.name, &definition, instance);
            shown.push(put(tx, &account, of, &run, &tags, now)?);
        }
        let failure = |(name, refusal): &(InstanceName, Refusal)| {
            names::failure(account.container_instance(&cluster.name, name), refusal.reason())
        };
        Ok::<_, Error>((shown, unplaced.iter().map(failure).collect()))
    });
    let (tasks, unplaced) = written.await?.value;
    let failures: Vec<Value> = failures.into_iter().chain(unplaced).collect();
    Ok(json!({ "tasks": tasks, "failures": failures }))
}

/// The instances that take a task each, and why others take none.
type Settled = (Vec<InstanceName>, Vec<(InstanceName, Refusal)>);

/// Finds room for the tasks of a call; where there is none for one, there is none for the rest.
fn settle(
    state: &State,
    cluster: &ClusterName,
    definition: &TaskDefinition,
    run: &Run,
    whereabouts: &Where,
) -> Result<Settled, Error> {
    let definition = run.overrides.applied(definition);
    let (mut board, mut rng) = (Board::of(state), fastrand::Rng::new());
    let (group, launch) = (Group::Named(&run.group), &run.launch);
    let wanted = Wanted { cluster, group, definition: &definition, launch };
    let (mut settled, mut unplaced) = (Vec::new(), Vec::new());
    match whereabouts {
        Where::Anywhere(count) => {
            for _ in 0..*count {
                match board.place(&wanted, None, &mut rng) {
                    Ok(instance) => settled.push(instance),
                    Err(Unplaced { refusals }) if refusals.is_empty() => {
                        let message = "No Container Instances were found in your cluster.";
                        return Err(Error::invalid(message));
                    }
                    Err(why) => {
                        unplaced = why.refusals;
                        break;
                    }
                }
            }
        }
        Where::On(named) => {
            for name in named {
                match board.put(&wanted, name) {
                    Ok(()) => settled.push(name.clone()),
                    Err(refusal) => unplaced.push((name.clone(), refusal)),
                }
            }
        }
    }
    Ok((settled, unplaced))
}

/// The tasks of a call that was made before with the same token.
fn again(
    state: &State,
    account: &Account,
    cluster: &ClusterName,
    asked: &Asked,
) -> Result<Option<Vec<Value>>, Error> {
    let Some(token) = asked.client_token.as_ref() else { return Ok(None) };
    let is_of = |task: &&std::sync::Arc<Task>| {
        let own = task.run.as_ref().and_then(|run| run.token.as_ref());
        task.cluster == *cluster && own == Some(token)
    };
    let found: Vec<_> = state.tasks.values().filter(is_of).collect();
    let asked_then = found.first().and_then(|task| task.run.as_ref()?.asked.as_ref());
    match asked_then {
        None => Ok(None),
        Some(digest) if *digest == asked.digest => {
            Ok(Some(found.iter().map(|t| task_shown::task(account, state, t, true)).collect()))
        }
        Some(_) => {
            let arns = found.iter().map(|task| account.task(cluster, &task.id).to_string());
            let arns = arns.collect::<Vec<_>>().join(", ");
            let message = format!("The client token was used with other parameters for {arns}");
            Err(Error::new("ConflictException", message))
        }
    }
}

/// What every task of the call is run with.
fn plan(asked: Asked, cluster: &Cluster, definition: &TaskDefinition) -> Result<Run, Error> {
    let mut launch = Launch {
        network: launching::network(asked.network_configuration, definition)?,
        constraints: launching::constraints(asked.placement_constraints)?,
        strategies: launching::strategies(asked.placement_strategy)?,
        propagated_tags: launching::tag_source(asked.propagate_tags.as_deref()),
        managed_tags: asked.enable_ecs_managed_tags,
        exec: asked.enable_execute_command,
        ..Launch::default()
    };
    let kind = asked.launch_type.as_deref();
    launching::place(&mut launch, kind, asked.capacity_provider_strategy, cluster)?;
    launching::platform(&mut launch, asked.platform_version)?;
    if asked.propagate_tags.as_deref() == Some("SERVICE") {
        return Err(Error::invalid("The tags of a service cannot be propagated to its own task."));
    }
    let group = asked.group.filter(|group| !group.is_empty());
    Ok(Run {
        launch,
        group: group.unwrap_or_else(|| format!("family:{}", definition.family)),
        started_by: asked.started_by,
        asked: asked.client_token.is_some().then_some(asked.digest),
        token: asked.client_token,
        overrides: asked
            .overrides
            .map(|written| written.meaning(definition))
            .transpose()?
            .unwrap_or_default(),
    })
}

fn put(
    tx: &mut Tx<'_>,
    account: &Account,
    (cluster, definition, instance): (&ClusterName, &TaskDefinition, InstanceName),
    run: &Run,
    tags: &[Tag],
    now: Timestamp,
) -> Result<Value, Error> {
    let containers = definition.containers.iter().map(|c| Container::new(&c.name));
    let id = TaskId::new(format!("{:032x}", fastrand::u128(..)));
    let task = Task {
        instance,
        containers: containers.collect(),
        run: Some(run.clone()),
        exec: run.launch.exec,
        ..Task::new(id, cluster.clone(), definition.key(), now)
    };
    tags::add(tx, &account.task(cluster, &task.id), tags.to_vec()).map_err(tag::bad)?;
    tx.put(task.clone());
    Ok(task_shown::task(account, tx.state(), &task, true))
}

impl TaskOverride {
    fn meaning(self, definition: &TaskDefinition) -> Result<Overrides, Error> {
        let size = |size: Option<Size>, units: &str, name: &str| {
            let Some(size) = size else { return Ok(None) };
            let bad = || Error::invalid(format!("Invalid '{name}' setting for task."));
            size.units(units).filter(|value| *value > 0).map(Some).ok_or_else(bad)
        };
        let mut containers = Vec::new();
        for written in self.container_overrides {
            let name = written.name.unwrap_or_default();
            if definition.container(&name).is_none() {
                let message = format!(
                    "Override for container named {name} is not a container in the TaskDefinition."
                );
                return Err(Error::invalid(message));
            }
            let variable = |variable: Variable| (variable.name, variable.value);
            containers.push(ContainerOverride {
                name,
                command: written.command.filter(|command| !command.is_empty()),
                environment: written.environment.into_iter().map(variable).collect(),
                cpu: written.cpu,
                memory_mib: written.memory,
            });
        }
        Ok(Overrides {
            cpu: size(self.cpu, "vcpu", "cpu")?,
            memory_mib: size(self.memory, "gb", "memory")?,
            task_role_arn: self.task_role_arn,
            execution_role_arn: self.execution_role_arn,
            containers,
        })
    }
}
