//! Clusters: names for services and tasks, their settings and their counts.
//!
//! Every container instance serves them all. A deleted cluster is gone at once: ECS may keep
//! showing it as INACTIVE, and says that nobody should rely on that. **Invariant:** counts are read
//! from one State.

use serde::Deserialize;
use serde_json::{Value, json};

use super::launch::{self, Item};
use super::{capacity_provider, names, tag};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag};
use crate::model::{
    Account, Cluster, ClusterName, Contact, LaunchType, Owner, ServiceStatus, Task, TaskStatus,
};
use crate::state::{Key, State, Tx};

#[derive(Debug, Deserialize)]
struct Setting {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    execute_command_configuration: Option<ExecuteCommand>,
}

#[derive(Debug, Deserialize)]
struct ExecuteCommand {
    logging: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateCluster {
    cluster_name: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    settings: Option<Vec<Setting>>,
    configuration: Option<Configuration>,
    #[serde(default)]
    capacity_providers: Vec<String>,
    #[serde(default)]
    default_capacity_provider_strategy: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct DescribeClusters {
    clusters: Option<Vec<String>>,
    include: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct UpdateCluster {
    cluster: String,
    settings: Option<Vec<Setting>>,
    configuration: Option<Configuration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutProviders {
    cluster: String,
    capacity_providers: Vec<String>,
    default_capacity_provider_strategy: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct DeleteCluster {
    cluster: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListClusters {
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// The one cluster that the file makes for everybody: it may be changed from here.
fn is_everybodys(cluster: &Cluster) -> bool {
    cluster.owner == Owner::Api || cluster.name.as_str() == "default"
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: CreateCluster = input.read()?;
    let name = asked.cluster_name.as_deref().filter(|name| !name.is_empty());
    let name = names::cluster(call, name)?;
    crate::api::file::names::ecs(name.as_str())
        .map_err(|why| Error::invalid(format!("Cluster name {why}")))?;
    let strategy =
        launch::strategy(asked.default_capacity_provider_strategy, &asked.capacity_providers)?;
    let mut cluster = Cluster::new(name.clone(), Owner::Api);
    cluster.insights = insights(asked.settings)?;
    cluster.exec_logging = asked.configuration.map(exec_logging).transpose()?.flatten();
    cluster.providers = asked.capacity_providers;
    cluster.default_strategy = strategy;
    let (account, tags) = (call.account().clone(), asked.tags);
    tags::map(tags.clone()).map_err(tag::bad)?;
    let written = call.api.store.update(move |tx| {
        capacity_provider::known(tx.state(), &account, &cluster.providers)?;
        match tx.state().clusters.get(&cluster.name) {
            Some(there) if is_same(there, &cluster) => return Ok(()),
            Some(_) => {
                let message = "Arguments on this idempotent request are inconsistent with \
                               arguments used in previous request(s).";
                return Err(Error::invalid(message));
            }
            None => {}
        }
        tags::add(tx, &account.cluster(&cluster.name), tags).map_err(tag::bad)?;
        tx.put(cluster);
        Ok(())
    });
    written.await?;
    shown_alone(call, &name, &["CONFIGURATIONS", "SETTINGS", "TAGS"])
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeClusters = input.read()?;
    let state = call.state();
    let include = asked.include.unwrap_or_default();
    let include: Vec<&str> = include.iter().map(String::as_str).collect();
    let wanted = asked.clusters.filter(|list| !list.is_empty());
    let wanted = wanted.unwrap_or_else(|| vec!["default".to_owned()]);
    if wanted.len() > 100 {
        return Err(Error::invalid("at most 100 clusters can be described at once"));
    }
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for text in &wanted {
        let name = names::cluster(call, Some(text))?;
        match state.clusters.get(&name) {
            Some(cluster) => clusters.push(shown(call.account(), &state, cluster, &include)),
            None => failures.push(names::failure(call.account().cluster(&name), "MISSING")),
        }
    }
    Ok(json!({ "clusters": clusters, "failures": failures }))
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let asked: UpdateCluster = input.read()?;
    let settings = asked.settings.map(Some).map(insights).transpose()?;
    let logging = asked.configuration.map(exec_logging).transpose()?;
    change(call, &asked.cluster, move |_, cluster| {
        if let Some(logging) = logging {
            cluster.exec_logging = logging;
        }
        if let Some(insights) = settings {
            cluster.insights = insights;
        }
        Ok(())
    })
    .await
}

pub(super) async fn put_providers(call: &Call, input: Input) -> Outcome {
    let asked: PutProviders = input.read()?;
    let strategy =
        launch::strategy(asked.default_capacity_provider_strategy, &asked.capacity_providers)?;
    let account = call.account().clone();
    change(call, &asked.cluster, move |state, cluster| {
        capacity_provider::known(state, &account, &asked.capacity_providers)?;
        cluster.providers = asked.capacity_providers;
        cluster.default_strategy = strategy;
        Ok(())
    })
    .await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: DeleteCluster = input.read()?;
    let name = names::known_cluster(call, Some(&asked.cluster))?;
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let state = tx.state();
        let Some(cluster) = state.clusters.get(&name).cloned() else {
            return Err(names::no_cluster());
        };
        if !is_everybodys(&cluster) {
            names::changeable(cluster.owner, format!("cluster {name}"))?;
        }
        if state.services.keys().any(|key| key.cluster == name) {
            let message = "The Cluster cannot be deleted while Services are active.";
            return Err(Error::new("ClusterContainsServicesException", message));
        }
        if tasks(state, &name).next().is_some() {
            let message = "The Cluster cannot be deleted while Tasks are active.";
            return Err(Error::new("ClusterContainsTasksException", message));
        }
        let mut last = shown(&account, state, &cluster, &[]);
        last["status"] = json!("INACTIVE");
        tags::forget(tx, &account.cluster(&name));
        tx.remove(Key::Cluster(name));
        Ok(last)
    });
    Ok(json!({ "cluster": written.await?.value }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListClusters = input.read()?;
    let state = call.state();
    let names = state.clusters.keys();
    let token = asked.next_token.as_deref();
    let key = |name: &&ClusterName| name.to_string();
    let (page, next) = names::page(names, key, token, asked.max_results, 100)?;
    let arn = |name: &ClusterName| call.account().cluster(name).to_string();
    Ok(json!({ "clusterArns": page.into_iter().map(arn).collect::<Vec<_>>(), "nextToken": next }))
}

/// The cluster that a call means; the default one comes into being with its first use.
pub(super) fn for_use(tx: &mut Tx<'_>, name: &ClusterName) -> Result<Cluster, Error> {
    match tx.state().clusters.get(name) {
        Some(cluster) => Ok(Cluster::clone(cluster)),
        None if name.as_str() == "default" => {
            let cluster = Cluster::new(name.clone(), Owner::Api);
            tx.put(cluster.clone());
            Ok(cluster)
        }
        None => Err(names::no_cluster()),
    }
}

async fn change(
    call: &Call,
    text: &str,
    change: impl FnOnce(&State, &mut Cluster) -> Result<(), Error> + Send + 'static,
) -> Outcome {
    let name = names::known_cluster(call, Some(text))?;
    let wanted = name.clone();
    let written = call.api.store.update(move |tx| {
        let found = tx.state().clusters.get(&wanted).ok_or_else(names::no_cluster)?;
        let mut cluster = Cluster::clone(found);
        if !is_everybodys(&cluster) {
            names::changeable(cluster.owner, format!("cluster {wanted}"))?;
        }
        change(tx.state(), &mut cluster)?;
        tx.put(cluster);
        Ok::<_, Error>(())
    });
    written.await?;
    shown_alone(call, &name, &["CONFIGURATIONS", "SETTINGS", "TAGS"])
}

fn is_same(there: &Cluster, asked: &Cluster) -> bool {
    let bare = *asked == Cluster::new(asked.name.clone(), Owner::Api);
    bare || *there == Cluster { owner: there.owner, ..asked.clone() }
}

/// What is said in sessions is logged nowhere: what asks for that is refused.
fn exec_logging(configuration: Configuration) -> Result<Option<String>, Error> {
    let logging = configuration.execute_command_configuration.and_then(|exec| exec.logging);
    match logging.as_deref() {
        Some("OVERRIDE") => Err(Error::unsupported(
            "configuration.executeCommandConfiguration.logging OVERRIDE is not supported here",
        )),
        _ => Ok(logging),
    }
}

/// The one setting there is.
fn insights(settings: Option<Vec<Setting>>) -> Result<Option<String>, Error> {
    let mut insights = None;
    for Setting { name, value } in settings.unwrap_or_default() {
        match value {
            Some(value)
                if name.as_deref() == Some("containerInsights")
                    && ["enabled", "disabled", "enhanced"].contains(&value.as_str()) =>
            {
                insights = Some(value);
            }
            value => {
                let value = value.unwrap_or_default();
                let message = format!("Invalid cluster setting value: {value}");
                return Err(Error::invalid(message));
            }
        }
    }
    Ok(insights)
}

fn shown_alone(call: &Call, name: &ClusterName, include: &[&str]) -> Outcome {
    let state = call.state();
    let cluster = state.clusters.get(name).ok_or_else(names::no_cluster)?;
    Ok(json!({ "cluster": shown(call.account(), &state, cluster, include) }))
}

/// Its tasks that are not STOPPED.
fn tasks<'a>(state: &'a State, name: &'a ClusterName) -> impl Iterator<Item = &'a Task> {
    let all = state.tasks.values().map(AsRef::as_ref);
    all.filter(move |task| task.cluster == *name && task.known < TaskStatus::Stopped)
}

/// RUNNING and on the way there.
pub(super) fn counts<'a>(tasks: impl Iterator<Item = &'a Task>) -> (usize, usize) {
    let (mut running, mut pending) = (0, 0);
    for task in tasks {
        running += usize::from(task.known == TaskStatus::Running);
        pending += usize::from(task.known < TaskStatus::Running);
    }
    (running, pending)
}

fn shown(account: &Account, state: &State, cluster: &Cluster, include: &[&str]) -> Value {
    let name = &cluster.name;
    let arn = account.cluster(name);
    let (running, pending) = counts(tasks(state, name));
    let services = state.services.values().filter(|service| service.key.cluster == *name);
    let active = services.filter(|service| service.status == ServiceStatus::Active).count();
    let instances = state.instances.values().filter(|i| i.contact != Contact::Removed);
    let included = |what: &str| include.contains(&what);
    let settings = included("SETTINGS").then(|| {
        let value = cluster.insights.as_deref().unwrap_or("disabled");
        vec![json!({ "name": "containerInsights", "value": value })]
    });
    let logging = cluster.exec_logging.as_ref().filter(|_| included("CONFIGURATIONS"));
    let configuration =
        logging.map(|logging| json!({ "executeCommandConfiguration": { "logging": logging } }));
    let tags = included("TAGS").then(|| tag::shown(tags::of(state, &arn)));
    let numbers = included("STATISTICS").then(|| statistics(state, name));
    json!({
        "clusterArn": arn.to_string(),
        "clusterName": name.as_str(),
        "status": "ACTIVE",
        "registeredContainerInstancesCount": instances.count(),
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "activeServicesCount": active,
        "statistics": numbers.unwrap_or_default(),
        "configuration": configuration,
        "tags": tags.unwrap_or_default(),
        "settings": settings.unwrap_or_default(),
        "capacityProviders": cluster.providers,
        "defaultCapacityProviderStrategy": launch::shown_strategy(&cluster.default_strategy),
    })
}

/// ECS's counts by launch type.
fn statistics(state: &State, name: &ClusterName) -> Vec<Value> {
    let mut all = Vec::new();
    let mut put = |name: String, count: usize| {
        all.push(json!({ "name": name, "value": count.to_string() }));
    };
    for (kind, label) in [
        (LaunchType::Ec2, "EC2"),
        (LaunchType::Fargate, "Fargate"),
        (LaunchType::External, "External"),
    ] {
        let of = |task: &&Task| super::task::launch(state, task).launch_type();
        let (running, pending) = counts(tasks(state, name).filter(|task| of(task) == kind));
        put(format!("running{label}TasksCount"), running);
        put(format!("pending{label}TasksCount"), pending);
        let services = |status: ServiceStatus| {
            let of = move |service: &&std::sync::Arc<crate::model::Service>| {
                service.key.cluster == *name
                    && service.status == status
                    && service.options.launch.launch_type() == kind
            };
            state.services.values().filter(of).count()
        };
        put(format!("active{label}ServiceCount"), services(ServiceStatus::Active));
        put(format!("draining{label}ServiceCount"), services(ServiceStatus::Draining));
    }
    all
}
