//! Tags of namespaces and services.
//!
//! **Invariant:** only what exists, and what the file does not own, can be tagged.

use serde::Deserialize;
use serde_json::json;

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags::{self, Tag};
use super::tag_error;
use crate::model::{Account, Arn, Owner};
use crate::state::State;

/// What may be tagged by its ARN, and who owns it.
fn resource(account: &Account, state: &State, text: &str) -> Result<(Arn, Owner), Error> {
    let missing =
        || Error::new("ResourceNotFoundException", format!("there is no resource {text}"));
    let arn: Arn = text.parse().map_err(|_| Error::invalid(format!("{text:?} is no ARN")))?;
    let found = match arn.resource.split_once('/') {
        Some(("namespace", id)) => {
            state.namespace_by_id(id).map(|row| (account.namespace(row), row.owner))
        }
        Some(("service", id)) => {
            state.discovery_service_by_id(id).map(|row| (account.discovery_service(row), row.owner))
        }
        _ => None,
    };
    found.filter(|(own, _)| *own == arn).ok_or_else(missing)
}

/// What the file owns is tagged by nobody.
fn changeable(account: &Account, state: &State, text: &str) -> Result<Arn, Error> {
    let (arn, owner) = resource(account, state, text)?;
    super::check_owner(owner, text)?;
    Ok(arn)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagResource {
    #[serde(rename = "ResourceARN")]
    resource: String,
    tags: Vec<Tag>,
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    let asked: TagResource = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let arn = changeable(&account, tx.state(), &asked.resource)?;
        tags::add(tx, &arn, asked.tags).map_err(|error| tag_error(&error))
    };
    call.api.store.update(change).await?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UntagResource {
    #[serde(rename = "ResourceARN")]
    resource: String,
    tag_keys: Vec<String>,
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    let asked: UntagResource = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let arn = changeable(&account, tx.state(), &asked.resource)?;
        tags::remove(tx, &arn, &asked.tag_keys);
        Ok::<_, Error>(())
    };
    call.api.store.update(change).await?;
    Ok(json!({}))
}

#[derive(Deserialize)]
struct ListTags {
    #[serde(rename = "ResourceARN")]
    resource: String,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListTags = input.read()?;
    let state = call.state();
    let (arn, _) = resource(call.account(), &state, &asked.resource)?;
    let tags = tags::of(&state, &arn).iter();
    let tags: Vec<_> = tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": tags }))
}
