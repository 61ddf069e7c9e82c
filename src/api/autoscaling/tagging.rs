//! Tags of scalable targets.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, TagError, Tagging};
use crate::model::{Account, Arn};
use crate::state::State;

pub(super) fn bad(error: &TagError) -> Error {
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", error.to_string()),
        _ => Error::invalid(error.to_string()),
    }
}

fn find(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    let all = state.scalable_targets.values();
    let own = all.filter(|row| row.service.cluster.region() == account.place());
    let mut arns = own.map(|row| account.scalable_target(row));
    arns.find(|arn| arn.to_string() == text).ok_or_else(|| {
        let message = format!("No scalable target found for resource ARN: {text}");
        Error::new("ResourceNotFoundException", message)
    })
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    let asked: Tagging<BTreeMap<String, String>> = input.read()?;
    tags::tag(call, asked.into(), (find, bad)).await
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    tags::untag(call, input.read()?, find).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    Ok(json!({ "Tags": tags::listed(call, input, find)? }))
}
