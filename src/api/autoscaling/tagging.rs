//! Tags of scalable targets.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, TagError, list_of};
use crate::model::{Account, Arn};
use crate::state::State;

pub(super) fn bad(error: &TagError) -> Error {
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", error.to_string()),
        _ => Error::invalid(error.to_string()),
    }
}

fn find(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    let mut arns = state.scalable_targets.values().map(|row| account.scalable_target(row));
    arns.find(|arn| arn.to_string() == text).ok_or_else(|| {
        let message = format!("No scalable target found for resource ARN: {text}");
        Error::new("ResourceNotFoundException", message)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagResource {
    #[serde(rename = "ResourceARN")]
    resource: String,
    tags: BTreeMap<String, String>,
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    let asked: TagResource = input.read()?;
    tags::tag(call, asked.resource, list_of(asked.tags), (find, bad)).await
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
    tags::untag(call, asked.resource, asked.tag_keys, find).await
}

#[derive(Deserialize)]
struct ListTags {
    #[serde(rename = "ResourceARN")]
    resource: String,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListTags = input.read()?;
    let state = call.state();
    let arn = find(&state, call.account(), &asked.resource)?;
    Ok(json!({ "Tags": tags::of(&state, &arn) }))
}
