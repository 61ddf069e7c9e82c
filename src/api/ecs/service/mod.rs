//! Services: so many tasks of one definition, kept running behind target groups and names.
//!
//! Not here: which task starts or stops (the orchestrator reads the row). **Invariant:** an answer
//! is given only after the deployment that the call asks for has begun, or is shown as pending, so
//! that nobody who waits for stability sees the one before.

pub(in crate::api) mod configuration;
mod shown;
mod written;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use self::shown::{Counts, load_balancers, reason, registries, rollout};
use self::written::Asked;
use super::{cluster, names, tag};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags;
use crate::model::{Owner, Service, ServiceKey, ServiceStatus};
use crate::state::{Key, State};

/// The orchestrator opens a deployment within its next pass, which comes at once (ours).
const OPENING: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
struct DescribeServices {
    cluster: Option<String>,
    services: Vec<String>,
    include: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct DeleteService {
    cluster: Option<String>,
    service: String,
    force: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListServices {
    cluster: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    launch_type: Option<String>,
    scheduling_strategy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListByNamespace {
    namespace: String,
    next_token: Option<String>,
    max_results: Option<i64>,
}

pub(super) fn missing() -> Error {
    Error::new("ServiceNotFoundException", "Service not found.")
}

fn inactive() -> Error {
    Error::new("ServiceNotActiveException", "Service was not ACTIVE.")
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    asked.refuse()?;
    let cluster = names::cluster(call, asked.cluster.as_deref())?;
    let key = ServiceKey { cluster, name: asked.service_name.as_str().into() };
    crate::api::file::names::ecs(key.name.as_str())
        .map_err(|why| Error::invalid(format!("serviceName {why}")))?;
    let family = asked.task_definition.clone().filter(|text| !text.is_empty());
    let family = family.ok_or_else(|| Error::invalid("TaskDefinition can not be blank."))?;
    if asked.desired_count.is_none() && !asked.is_daemon() {
        return Err(Error::invalid("desiredCount is required for REPLICA services."));
    }
    let (account, now, wanted) = (call.account().clone(), call.now, key.clone());
    let written = call.api.store.update(move |tx| {
        if let Some(there) = tx.state().services.get(&wanted) {
            return idempotent(there, &asked);
        }
        let cluster = cluster::for_use(tx, &wanted.cluster)?;
        let tags = asked.tags.clone().unwrap_or_default();
        let state = tx.state();
        let definition = names::runnable(&account, state, &family)?;
        let mut service = Service::new(wanted.clone(), definition.key(), Owner::Api, now);
        asked.write(&mut service, true, (&account, state, &cluster, definition))?;
        tags::add(tx, &account.service(&wanted), tags).map_err(tag::bad)?;
        tx.remove(Key::EndedService(wanted));
        tx.put(service);
        Ok(())
    });
    written.await?;
    answer(call, &key).await
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeServices = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.services.is_empty() {
        return Err(Error::invalid("Services cannot be empty."));
    }
    if asked.services.len() > 10 {
        return Err(Error::invalid("at most 10 services can be described at once"));
    }
    let tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let (state, account) = (call.state(), call.account());
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for text in &asked.services {
        let key = names::service(call, &cluster, text)?;
        match found(&state, &key) {
            Some((service, status)) => {
                services.push(shown::service(account, &state, service, status, tags));
            }
            None => failures.push(names::failure(account.service(&key), "MISSING")),
        }
    }
    Ok(json!({ "services": services, "failures": failures }))
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    asked.refuse()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let key = names::service(call, &cluster, &asked.service)?;
    let (account, wanted) = (call.account().clone(), key.clone());
    let written = call.api.store.update(move |tx| {
        let state = tx.state();
        let mut service = active(state, &wanted)?;
        if service.owner == Owner::File && !asked.is_count_alone() {
            names::changeable(service.owner, format!("service {wanted}"))?;
        }
        let cluster = state.clusters.get(&wanted.cluster).ok_or_else(names::no_cluster)?;
        let definition = match asked.task_definition.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => names::runnable(&account, state, text)?,
            None => state
                .definitions
                .get(&service.definition)
                .ok_or_else(|| Error::new("ClientException", "TaskDefinition not found."))?,
        };
        asked.write(&mut service, false, (&account, state, cluster, definition))?;
        tx.put(service);
        Ok::<_, Error>(())
    });
    written.await?;
    answer(call, &key).await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: DeleteService = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let key = names::service(call, &cluster, &asked.service)?;
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let found = tx.state().services.get(&key).ok_or_else(missing)?;
        let mut service = Service::clone(found);
        names::changeable(service.owner, format!("service {key}"))?;
        let is_scaled = service.desired_count > 0 && !service.policy.daemon;
        if is_scaled && !asked.force.unwrap_or_default() {
            let message = "The service cannot be stopped while it is scaled above 0.";
            return Err(Error::invalid(message));
        }
        service.status = ServiceStatus::Draining;
        service.desired_count = 0;
        tx.put(service.clone());
        Ok(shown::service(&account, tx.state(), &service, "DRAINING", false))
    });
    Ok(json!({ "service": written.await?.value }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListServices = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let state = call.state();
    let wanted = |service: &&std::sync::Arc<Service>| {
        let kind = service.options.launch.launch_type().as_str();
        let strategy = asked.scheduling_strategy.as_deref();
        service.key.cluster == cluster
            && asked.launch_type.as_deref().is_none_or(|wanted| wanted == kind)
            && strategy.is_none_or(|wanted| wanted == shown::strategy(service))
    };
    let found = state.services.values().filter(wanted);
    let token = asked.next_token.as_deref();
    let (page, next) =
        names::page(found, |s| s.key.name.to_string(), token, asked.max_results, 10)?;
    let arns: Vec<_> = page.iter().map(|s| call.account().service(&s.key).to_string()).collect();
    Ok(json!({ "serviceArns": arns, "nextToken": next }))
}

/// Services that use Service Connect in a namespace; there is no Service Connect, so none.
pub(super) fn list_by_namespace(call: &Call, input: Input) -> Outcome {
    let asked: ListByNamespace = input.read()?;
    if !names::is_namespace(call.account(), &call.state(), &asked.namespace) {
        return Err(Error::new("NamespaceNotFoundException", "Namespace not found."));
    }
    let token = asked.next_token.as_deref();
    let none = std::iter::empty::<String>();
    let (page, next) = names::page(none, Clone::clone, token, asked.max_results, 10)?;
    Ok(json!({ "serviceArns": page, "nextToken": next }))
}

/// A service of that name is there: the same call again, or a mistake.
fn idempotent(there: &Service, asked: &Asked) -> Result<(), Error> {
    if there.status == ServiceStatus::Draining {
        return Err(Error::invalid("Unable to Start a service that is still Draining."));
    }
    if asked.client_token.is_some() && there.options.token == asked.client_token {
        return Ok(());
    }
    Err(Error::invalid("Creation of service was not idempotent."))
}

pub(super) fn active(state: &State, key: &ServiceKey) -> Result<Service, Error> {
    match state.services.get(key) {
        Some(service) if service.status == ServiceStatus::Active => Ok(Service::clone(service)),
        Some(_) => Err(inactive()),
        None if state.ended_services.contains_key(key) => Err(inactive()),
        None => Err(missing()),
    }
}

/// A service that is there, or was until a while ago.
fn found<'a>(state: &'a State, key: &ServiceKey) -> Option<(&'a Service, &'static str)> {
    let there = state.services.get(key).map(|service| (&**service, shown::status(service)));
    there.or_else(|| state.ended_services.get(key).map(|ended| (&ended.service, "INACTIVE")))
}

/// The service, once its deployment has begun.
async fn answer(call: &Call, key: &ServiceKey) -> Outcome {
    let mut commits = call.api.store.watch();
    let begun = async {
        loop {
            commits.borrow_and_update();
            let state = call.state();
            let service = state.services.get(key);
            let progress = state.progress.get(key);
            let first = progress.and_then(|progress| progress.deployments.first());
            if service.zip(first).is_none_or(|(service, first)| first.is_of(service))
                && (service.is_none() || first.is_some())
            {
                return;
            }
            if commits.changed().await.is_err() {
                return;
            }
        }
    };
    // Late: it is shown as pending.
    let _ = tokio::time::timeout(OPENING, begun).await;
    let state = call.state();
    let (service, status) = found(&state, key).ok_or_else(missing)?;
    let shown: Value = shown::service(call.account(), &state, service, status, true);
    Ok(json!({ "service": shown }))
}
