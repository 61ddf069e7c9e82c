//! Tags of alarms.

use serde_json::json;

use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, TagError};
use crate::model::{Account, Arn};
use crate::state::State;

fn bad(error: &TagError) -> Error {
    Error::invalid(error.to_string())
}

fn find(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    let own = state.alarms.keys().filter(|name| name.region() == account.place());
    let mut arns = own.map(|name| account.alarm(name.as_str()));
    arns.find(|arn| arn.to_string() == text)
        .ok_or_else(|| Error::new("ResourceNotFoundException", format!("there is no alarm {text}")))
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    tags::tag(call, input.read()?, (find, bad)).await
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    tags::untag(call, input.read()?, find).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    Ok(json!({ "Tags": tags::shown(&tags::listed(call, input, find)?) }))
}
