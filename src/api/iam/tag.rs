//! Tags of server certificates.

use serde::Deserialize;
use serde_json::{Value, json};

use super::server_certificate::{arn, find};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag, TagError};
use crate::model::Arn;
use crate::state::{State, Tx};

pub(super) fn error(error: TagError) -> Error {
    let message = error.to_string();
    match error {
        TagError::TooMany => Error::new("LimitExceededException", message),
        _ => Error::new("InvalidInputException", message),
    }
}

pub(super) fn shown(state: &State, resource: &Arn) -> Vec<Value> {
    tags::shown(tags::of(state, resource))
}

pub(super) async fn add(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        server_certificate_name: String,
        tags: Vec<Tag>,
    }
    let asked: Asked = input.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &asked.server_certificate_name)?;
        tags::add(tx, &arn(&row)?, asked.tags).map_err(error)
    };
    call.done(change).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        server_certificate_name: String,
        marker: Option<String>,
        max_items: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let state = call.state();
    let row = find(&state, &asked.server_certificate_name)?;
    let key = |tag: &Value| tag["Key"].as_str().unwrap_or_default().to_owned();
    let size = asked.max_items.unwrap_or(tags::MOST);
    let paged = page(shown(&state, &arn(&row)?), key, asked.marker.as_deref(), size);
    let (tags, next) = paged.map_err(|_| Error::invalid("The marker is not valid"))?;
    Ok(json!({"Tags": tags, "IsTruncated": next.is_some(), "Marker": next}))
}

pub(super) async fn remove(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        server_certificate_name: String,
        tag_keys: Vec<String>,
    }
    let asked: Asked = input.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &asked.server_certificate_name)?;
        tags::remove(tx, &arn(&row)?, &asked.tag_keys);
        Ok::<_, Error>(())
    };
    call.done(change).await
}
