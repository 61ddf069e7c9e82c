//! Task definitions: families of numbered revisions.
//!
//! Not here: what a definition means and how it is shown (`api::definition`). **Invariant:** every
//! registration is a new revision, and a number is never used twice in a family.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{names, tag};
use crate::api::call::{Call, Input, Outcome};
use crate::api::definition::{self, Definition};
use crate::api::error::Error;
use crate::model::{
    DefinitionStatus, Family, FamilyRecord, Owner, TaskDefinition, TaskDefinitionKey, hex,
};
use crate::state::{State, Tx};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeTaskDefinition {
    task_definition: String,
    include: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeregisterTaskDefinition {
    task_definition: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteTaskDefinitions {
    task_definitions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    family_prefix: Option<String>,
    status: Option<String>,
    sort: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListFamilies {
    family_prefix: Option<String>,
    status: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

fn client(message: impl Into<String>) -> Error {
    Error::new("ClientException", message)
}

pub(super) async fn register(call: &Call, input: Input) -> Outcome {
    // Members that the shape does not have are refused by it.
    let written: Definition =
        serde_json::from_value(input.value).map_err(|error| client(error.to_string()))?;
    let mut definition = written.meaning().map_err(|bad| client(bad.to_string()))?;
    // Whoever is unknown gets no power over the machine.
    let danger = definition::dangers(&definition).into_iter().next();
    if let (None, Some(member)) = (&call.caller, danger) {
        let text = format!("{member} gives power over the machine: only signed calls may set it");
        return Err(client(text));
    }
    definition.family = Family::within(call.place(), definition.family.as_str());
    definition.owner = Owner::Api;
    definition.registered_at = Some(call.now);
    definition.registered_by = Some(format!("arn:aws:iam::{}:root", call.account().id));
    let written = call.api.store.update(move |tx| {
        definition.revision = next_revision(tx, &definition)?;
        tx.put(definition.clone());
        Ok::<_, Error>(definition)
    });
    let definition = written.await?.value;
    Ok(json!({
        "taskDefinition": definition::shown(&definition, call.account()),
        "tags": tag::shown(&definition.tags),
    }))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: DescribeTaskDefinition = input.read()?;
    let state = call.state();
    let found = names::definition(call.account(), &state, &asked.task_definition)?;
    let found = found.ok_or_else(|| client("Unable to describe task definition."))?;
    let tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let tags = tags.then(|| tag::shown(&found.tags));
    Ok(json!({
        "taskDefinition": definition::shown(found, call.account()),
        "tags": tags.unwrap_or_default(),
    }))
}

pub(super) async fn deregister(call: &Call, input: Input) -> Outcome {
    let asked: DeregisterTaskDefinition = input.read()?;
    let (account, now) = (call.account().clone(), call.now);
    let written = call.api.store.update(move |tx| {
        let key = exact(&asked.task_definition)?;
        let found = names::definition(&account, tx.state(), key)?;
        let mut definition = found
            .cloned()
            .ok_or_else(|| client("The specified task definition does not exist."))?;
        names::changeable(definition.owner, format!("task definition {}", definition.key()))?;
        if definition.status == DefinitionStatus::Active {
            definition.status = DefinitionStatus::Inactive;
            definition.deregistered_at = Some(now);
            tx.put(definition.clone());
        }
        Ok::<_, Error>(definition)
    });
    let definition = written.await?.value;
    Ok(json!({ "taskDefinition": definition::shown(&definition, call.account()) }))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: DeleteTaskDefinitions = input.read()?;
    if asked.task_definitions.is_empty() || asked.task_definitions.len() > 10 {
        return Err(Error::invalid("1 to 10 task definitions can be deleted at once"));
    }
    let account = call.account().clone();
    let written = call.api.store.update(move |tx| {
        let (mut deleted, mut failures) = (Vec::new(), Vec::new());
        for text in &asked.task_definitions {
            match delete_one(tx, &account, text)? {
                Ok(definition) => deleted.push(definition::shown(&definition, &account)),
                Err(reason) => failures.push(names::failure(text, reason)),
            }
        }
        Ok::<_, Error>((deleted, failures))
    });
    let (deleted, failures) = written.await?.value;
    Ok(json!({ "taskDefinitions": deleted, "failures": failures }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let state = call.state();
    let status = asked.status.as_deref().unwrap_or("ACTIVE");
    let wanted = |definition: &&TaskDefinition| {
        let family = asked.family_prefix.as_deref();
        definition.status.as_str() == status
            && family.is_none_or(|family| definition.family.as_str() == family)
    };
    let mut found: Vec<_> = state.definitions.values().map(AsRef::as_ref).filter(wanted).collect();
    let falls = asked.sort.as_deref() == Some("DESC");
    if falls {
        found.reverse();
    }
    let key = |definition: &&TaskDefinition| order(&definition.key(), falls);
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(found, key, token, asked.max_results, 100)?;
    let arn = |d: &TaskDefinition| call.account().task_definition(&d.key()).to_string();
    let arns: Vec<_> = page.into_iter().map(arn).collect();
    Ok(json!({ "taskDefinitionArns": arns, "nextToken": next }))
}

pub(super) fn list_families(call: &Call, input: Input) -> Outcome {
    let asked: ListFamilies = input.read()?;
    let state = call.state();
    let mut families = std::collections::BTreeMap::new();
    for definition in state.definitions.values() {
        let is_active = families.entry(definition.family.as_str()).or_insert(false);
        *is_active |= definition.status == DefinitionStatus::Active;
    }
    let prefix = asked.family_prefix.unwrap_or_default();
    let wanted = |(family, is_active): &(&str, bool)| {
        let fits = match asked.status.as_deref() {
            None | Some("ALL") => true,
            Some(status) => *is_active == (status == "ACTIVE"),
        };
        fits && family.starts_with(&prefix)
    };
    let found = families.into_iter().filter(wanted).map(|(family, _)| family.to_owned());
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(found, Clone::clone, token, asked.max_results, 100)?;
    Ok(json!({ "families": page, "nextToken": next }))
}

/// Counts the family up.
fn next_revision(tx: &mut Tx<'_>, definition: &TaskDefinition) -> Result<u32, Error> {
    let family = &definition.family;
    let last = tx.state().families.get(family).map_or(0, |record| record.last_revision);
    let revision = last.checked_add(1).ok_or_else(|| client("Too many revisions."))?;
    tx.put(FamilyRecord { family: family.clone(), last_revision: revision });
    Ok(revision)
}

/// ECS asks for a revision where it takes one away.
fn exact(text: &str) -> Result<&str, Error> {
    let name = text.rsplit('/').next().unwrap_or(text);
    if name.contains(':') {
        Ok(text)
    } else {
        Err(Error::invalid("Invalid revision number. Number: null"))
    }
}

/// Marks a definition; the orchestrator removes it when nothing runs it any more. The inner error
/// is a failure's reason.
fn delete_one(
    tx: &mut Tx<'_>,
    account: &crate::model::Account,
    text: &str,
) -> Result<Result<TaskDefinition, &'static str>, Error> {
    let Some(found) = names::definition(account, tx.state(), exact(text)?)? else {
        return Ok(Err("The specified task definition does not exist. Specify a valid account, \
                       family, revision and try again."));
    };
    let mut definition = found.clone();
    names::changeable(definition.owner, format!("task definition {}", definition.key()))?;
    if definition.status == DefinitionStatus::Active {
        return Ok(Err("The specified task definition is still in ACTIVE status. Please \
                       deregister the target and try again."));
    }
    definition.status = DefinitionStatus::DeleteInProgress;
    tx.put(definition.clone());
    Ok(Ok(definition))
}

/// Sorts as families do and within them as numbers do; `falls`: the other way round.
fn order(key: &TaskDefinitionKey, falls: bool) -> String {
    let rising = format!("{}\u{1}{:010}", key.family, key.revision);
    if !falls {
        return rising;
    }
    // The end sorts before every character, so that of two families the longer comes first.
    hex(&rising.bytes().chain([0]).map(|byte| !byte).collect::<Vec<_>>())
}

/// What a service's or task's answers call its definition.
pub(super) fn arn(account: &crate::model::Account, key: &TaskDefinitionKey) -> Value {
    account.task_definition(key).to_string().into()
}

/// The names of its containers that map a TCP port, in order; none: nobody maps it.
pub(super) fn container_of<'a>(
    state: &'a State,
    key: &TaskDefinitionKey,
    port: u16,
) -> Option<&'a str> {
    let definition = state.definitions.get(key)?;
    let maps = |container: &&crate::model::ContainerDefinition| {
        container.port_mappings.iter().any(|mapping| mapping.ports().contains(&port))
    };
    definition.containers.iter().find(maps).map(|container| container.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_sort_as_numbers_both_ways() {
        let all = ["a:2", "a:10", "a-b:1", "ab:1", "b:1"];
        let keys: Vec<TaskDefinitionKey> = all.iter().map(|text| text.parse().unwrap()).collect();
        assert!(keys.is_sorted_by_key(|key| order(key, false)));
        assert!(keys.iter().rev().is_sorted_by_key(|key| order(key, true)));
    }
}
