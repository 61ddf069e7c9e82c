//! Tags of certificates.

use serde::Deserialize;
use serde_json::json;

use super::certificate::parsed;
use super::{find, own};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag, TagError};
use crate::state::Tx;

pub(super) fn error(error: TagError) -> Error {
    let message = error.to_string();
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", message),
        _ => Error::new("InvalidTagException", message),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    certificate_arn: String,
    tags: Vec<Tag>,
}

pub(super) async fn add(call: &Call, input: Input) -> Outcome {
    let asked: Change = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &account, &asked.certificate_arn)?;
        own(&row)?;
        tags::add(tx, &parsed(&row.arn)?, asked.tags).map_err(error)
    };
    call.done(change).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        certificate_arn: String,
    }
    let asked: Asked = input.read()?;
    let state = call.state();
    let row = find(&state, call.account(), &asked.certificate_arn)?;
    Ok(json!({ "Tags": tags::shown(tags::of(&state, &parsed(&row.arn)?)) }))
}

/// A tag given with its value goes only when it has that value.
pub(super) async fn remove(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Given {
        key: String,
        value: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        certificate_arn: String,
        tags: Vec<Given>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &account, &asked.certificate_arn)?;
        own(&row)?;
        let resource = parsed(&row.arn)?;
        let known = tags::of(tx.state(), &resource);
        let matches = |given: &Given| {
            let value = known.get(&given.key);
            value.is_some_and(|value| given.value.as_ref().is_none_or(|given| given == value))
        };
        let gone = asked.tags.iter().filter(|given| matches(given));
        let gone: Vec<_> = gone.map(|given| given.key.clone()).collect();
        tags::remove(tx, &resource, &gone);
        Ok::<_, Error>(())
    };
    call.done(change).await
}
