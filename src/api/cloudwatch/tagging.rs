//! Tags of alarms.

use serde::Deserialize;
use serde_json::json;

use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag, TagError};
use crate::model::{Account, Arn};
use crate::state::State;

fn bad(error: &TagError) -> Error {
    Error::invalid(error.to_string())
}

fn find(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    let mut arns = state.alarms.keys().map(|name| account.alarm(name.as_str()));
    arns.find(|arn| arn.to_string() == text)
        .ok_or_else(|| Error::new("ResourceNotFoundException", format!("there is no alarm {text}")))
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
    tags::tag(call, asked.resource, asked.tags, (find, bad)).await
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
    let tags = tags::of(&state, &arn).iter();
    let tags: Vec<_> = tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": tags }))
}
