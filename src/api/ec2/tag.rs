//! Tags of EC2's resources, by their ids.

use serde::Deserialize;
use serde_json::json;

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags;
use super::filter::{Filter, Subject, matches};
use super::rows;
use super::{arn, done, paged, tag_error, vpc};
use crate::model::{Account, Ec2Resource};
use crate::state::{State, Tx};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    resources: Vec<String>,
    tags: Vec<tags::Tag>,
}

/// AWS's limit for one call.
const MOST_RESOURCES: usize = 1000;

/// # Errors
/// More resources than one call may name.
fn few(resources: &[String]) -> Result<(), Error> {
    if resources.len() <= MOST_RESOURCES {
        return Ok(());
    }
    Err(Error::invalid(format!("one call names at most {MOST_RESOURCES} resources")))
}

/// # Errors
/// The id names nothing that there is.
fn exists(state: &State, account: &Account, id: &str) -> Result<(), Error> {
    let has_rule = |resource: &Ec2Resource| match resource {
        Ec2Resource::SecurityGroup(group) => group.rules.iter().any(|rule| rule.id == id),
        _ => false,
    };
    let is_rule = || rows::all(state, account).any(|resource| has_rule(&resource));
    if rows::get(state, account, id).is_some() || id.starts_with("sgr-") && is_rule() {
        return Ok(());
    }
    if id.starts_with("vpc-") {
        return vpc::find(state, account, id).map(drop);
    }
    Err(Error::new("InvalidID", format!("The ID '{id}' is not valid")))
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    few(&asked.resources)?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        for id in &asked.resources {
            exists(tx.state(), &account, id)?;
            tags::add(tx, &arn(&account, id), asked.tags.clone()).map_err(tag_error)?;
        }
        Ok::<_, Error>(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    resources: Vec<String>,
    tags: Option<Vec<Gone>>,
}

/// Without a value: whatever it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Gone {
    key: String,
    value: Option<String>,
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Delete = input.read()?;
    few(&asked.resources)?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        for id in &asked.resources {
            exists(tx.state(), &account, id)?;
            let arn = arn(&account, id);
            let Some(gone) = &asked.tags else {
                tags::forget(tx, &arn);
                continue;
            };
            let own = tags::of(tx.state(), &arn);
            let is =
                |gone: &&Gone| gone.value.is_none() || own.get(&gone.key) == gone.value.as_ref();
            let keys: Vec<_> = gone.iter().filter(is).map(|gone| gone.key.clone()).collect();
            tags::remove(tx, &arn, &keys);
        }
        Ok::<_, Error>(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    #[serde(default)]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let state = call.state();
    let none = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for resource in rows::all(&state, call.account()) {
        let id = resource.id();
        let kind = match &*resource {
            Ec2Resource::Vpc(_) => "vpc",
            Ec2Resource::Subnet(_) => "subnet",
            Ec2Resource::SecurityGroup(_) => "security-group",
        };
        for (key, value) in tags::of(&state, &arn(call.account(), id.as_str())) {
            let attributes = vec![
                ("resource-id", id.to_string()),
                ("resource-type", kind.to_owned()),
                ("key", key.clone()),
                ("value", value.clone()),
            ];
            if matches(&asked.filters, &Subject { attributes, tags: &none })? {
                let shown =
                    json!({"ResourceId": id, "ResourceType": kind, "Key": key, "Value": value});
                found.push((format!("{id} {key}"), shown));
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    paged("Tags", found, asked.next_token.as_deref(), asked.max_results)
}
