//! Tags of hosted zones and health checks.
//!
//! **Invariant:** only what exists can be tagged.

use serde::Deserialize;
use serde_json::json;

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags::{self, Tag};
use super::{health_check, zone};
use crate::model::{Account, Arn, HostedZoneId, NameCheckId};
use crate::state::{State, Tx};

pub(super) fn arn(account: &Account, id: &HostedZoneId) -> Arn {
    account.arn("route53", format!("hostedzone/{id}"))
}

pub(super) fn check_arn(account: &Account, id: &NameCheckId) -> Arn {
    account.arn("route53", format!("healthcheck/{id}"))
}

fn resource(state: &State, account: &Account, kind: &str, id: &str) -> Result<Arn, Error> {
    match kind {
        "hostedzone" => Ok(arn(account, &zone::find(state, id)?.id)),
        _ => Ok(check_arn(account, &health_check::find(state, id)?.id)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    resource_type: String,
    resource_id: String,
    #[serde(default)]
    add_tags: Vec<Tag>,
    #[serde(default)]
    remove_tag_keys: Vec<String>,
}

pub(super) async fn change(call: &Call, input: Input) -> Outcome {
    let asked: Change = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let arn = resource(tx.state(), &account, &asked.resource_type, &asked.resource_id)?;
        tags::remove(tx, &arn, &asked.remove_tag_keys);
        tags::add(tx, &arn, asked.add_tags).map_err(|error| Error::invalid(error.to_string()))
    };
    call.done(change).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    resource_type: String,
    resource_id: String,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let state = call.state();
    let arn = resource(&state, call.account(), &asked.resource_type, &asked.resource_id)?;
    Ok(json!({ "ResourceTagSet": {
        "ResourceType": asked.resource_type,
        "ResourceId": asked.resource_id,
        "Tags": tags::shown(tags::of(&state, &arn)),
    }}))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListSeveral {
    resource_type: String,
    resource_ids: Vec<String>,
}

pub(super) fn list_several(call: &Call, input: Input) -> Outcome {
    let asked: ListSeveral = input.read()?;
    let state = call.state();
    let set = |id: &String| {
        let arn = resource(&state, call.account(), &asked.resource_type, id)?;
        Ok::<_, Error>(json!({
            "ResourceType": asked.resource_type,
            "ResourceId": id,
            "Tags": tags::shown(tags::of(&state, &arn)),
        }))
    };
    let sets = asked.resource_ids.iter().map(set).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "ResourceTagSets": sets }))
}
