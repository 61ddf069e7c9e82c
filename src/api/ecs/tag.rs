//! Tags of ECS's resources, by their ARNs.
//!
//! Task definitions keep theirs in their own row, since the configuration file writes them too;
//! everything else has a row of the tags' table. **Invariant:** only what exists, and what the
//! file does not own, is tagged.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::names;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag, TagError};
use crate::model::{
    Account, Arn, CapacityProviderName, ClusterName, Family, Owner, ServiceKey, TagSource, Task,
    TaskDefinition, TaskDefinitionKey,
};
use crate::state::{State, Tx};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagResource {
    resource_arn: String,
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UntagResource {
    resource_arn: String,
    tag_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTags {
    resource_arn: String,
}

/// What an ARN stands for.
enum Tagged {
    Definition(TaskDefinitionKey),
    Task(String),
    /// A cluster, a service or a capacity provider.
    Other(Owner),
}

impl Tagged {
    /// What the file made, the file tags. A definition's owner is looked at with its row.
    fn changeable(&self, arn: &Arn) -> Result<(), Error> {
        match self {
            Self::Other(owner) => names::changeable(*owner, arn),
            Self::Definition(_) | Self::Task(_) => Ok(()),
        }
    }
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    let asked: TagResource = input.read()?;
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let (arn, tagged) = find(&account, tx.state(), &asked.resource_arn)?;
        tagged.changeable(&arn)?;
        let Tagged::Definition(key) = tagged else {
            return tags::add(tx, &arn, asked.tags).map_err(bad);
        };
        let added = tags::map(asked.tags).map_err(bad)?;
        change(tx, &key, |all| {
            all.extend(added);
            if all.len() > tags::MOST { Err(bad(TagError::TooMany)) } else { Ok(()) }
        })
    });
    written.await.map(|_| json!({}))
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    let asked: UntagResource = input.read()?;
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let (arn, tagged) = find(&account, tx.state(), &asked.resource_arn)?;
        tagged.changeable(&arn)?;
        if let Tagged::Definition(key) = tagged {
            return change(tx, &key, |all| {
                all.retain(|name, _| !asked.tag_keys.contains(name));
                Ok(())
            });
        }
        tags::remove(tx, &arn, &asked.tag_keys);
        Ok::<_, Error>(())
    });
    written.await.map(|_| json!({}))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListTags = input.read()?;
    let state = call.state();
    let (arn, tagged) = find(call.account(), &state, &asked.resource_arn)?;
    let all = match tagged {
        Tagged::Definition(key) => {
            let definition = state.definitions.get(&key);
            shown(definition.map(|d| &d.tags).into_iter().flatten())
        }
        Tagged::Task(id) => {
            let task = state.tasks.get(&id.as_str().into());
            task.map(|task| shown(&of_task(call.account(), &state, task))).unwrap_or_default()
        }
        Tagged::Other(_) => shown(tags::of(&state, &arn)),
    };
    Ok(json!({ "tags": all }))
}

/// In ECS's shape.
pub(super) fn shown<'a>(all: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<Value> {
    all.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// A task's own tags, those that its service or definition passes on to it, and ECS's own.
pub(in crate::api) fn of_task(
    account: &Account,
    state: &State,
    task: &Task,
) -> BTreeMap<String, String> {
    let service = task.service.as_ref().and_then(|key| state.services.get(key));
    let run = task.run.as_ref().map(|run| &run.launch);
    let launch = run.or_else(|| service.map(|service| &service.options.launch));
    let mut all = match (launch.and_then(|launch| launch.propagated_tags), service) {
        (Some(TagSource::TaskDefinition), _) => {
            state.definitions.get(&task.definition).map(|d| d.tags.clone()).unwrap_or_default()
        }
        (Some(TagSource::Service), Some(service)) => {
            tags::of(state, &account.service(&service.key)).clone()
        }
        _ => BTreeMap::new(),
    };
    if launch.is_some_and(|launch| launch.managed_tags) {
        all.insert("aws:ecs:clusterName".to_owned(), task.cluster.to_string());
        if let Some(service) = service {
            all.insert("aws:ecs:serviceName".to_owned(), service.key.name.to_string());
        }
    }
    all.extend(tags::of(state, &account.task(&task.cluster, &task.id)).clone());
    all
}

/// ECS's code for tags it does not take.
pub(super) fn bad(error: TagError) -> Error {
    Error::invalid(error.to_string())
}

fn change(
    tx: &mut Tx<'_>,
    key: &TaskDefinitionKey,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(definition) = tx.state().definitions.get(key) else { return Ok(()) };
    let mut definition = TaskDefinition::clone(definition);
    names::changeable(definition.owner, format_args!("task definition {key}"))?;
    change(&mut definition.tags)?;
    tx.put(definition);
    Ok(())
}

fn find(account: &Account, state: &State, text: &str) -> Result<(Arn, Tagged), Error> {
    let bad = || Error::invalid(format!("Invalid identifier: {text}"));
    let arn: Arn = text.parse().map_err(|_| bad())?;
    if arn.service != "ecs" || arn.region != account.region || arn.account != account.id {
        return Err(bad());
    }
    let (kind, path) = arn.resource.split_once('/').ok_or_else(bad)?;
    let gone = || Error::invalid(format!("The specified {kind} is not found: {text}"));
    let within = || path.split_once('/').ok_or_else(bad);
    match kind {
        "cluster" => match state.clusters.get(&ClusterName::within(account.place(), path)) {
            Some(cluster) => Ok((arn, Tagged::Other(cluster.owner))),
            None => Err(names::no_cluster()),
        },
        "service" => {
            let (cluster, name) = within()?;
            let cluster = ClusterName::within(account.place(), cluster);
            let key = ServiceKey { cluster, name: name.into() };
            match state.services.get(&key) {
                Some(service) => Ok((arn, Tagged::Other(service.owner))),
                None => Err(Error::new("ServiceNotFoundException", "Service not found.")),
            }
        }
        "task" => {
            let (cluster, id) = within()?;
            let cluster = ClusterName::within(account.place(), cluster);
            let task = state.tasks.get(&id.into()).filter(|task| task.cluster == cluster);
            let id = task.ok_or_else(gone)?.id.to_string();
            Ok((arn, Tagged::Task(id)))
        }
        "task-definition" => {
            let TaskDefinitionKey { family, revision } = path.parse().map_err(|_| bad())?;
            let family = Family::within(account.place(), family.as_str());
            let key = TaskDefinitionKey { family, revision };
            match state.definitions.contains_key(&key) {
                true => Ok((arn, Tagged::Definition(key))),
                false => Err(gone()),
            }
        }
        "capacity-provider" => {
            let name = CapacityProviderName::within(account.place(), path);
            match state.capacity_providers.contains_key(&name) {
                true => Ok((arn, Tagged::Other(Owner::Api))),
                false => Err(gone()),
            }
        }
        _ => Err(bad()),
    }
}
