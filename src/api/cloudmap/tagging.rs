//! Tags of namespaces and services.
//!
//! **Invariant:** only what exists, and what the file does not own, can be tagged.

use serde_json::json;

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags;
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
fn changeable(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    let (arn, owner) = resource(account, state, text)?;
    super::check_owner(owner, text)?;
    Ok(arn)
}

fn known(state: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    Ok(resource(account, state, text)?.0)
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    tags::tag(call, input.read()?, (changeable, tag_error)).await
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    tags::untag(call, input.read()?, changeable).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    Ok(json!({ "Tags": tags::shown(&tags::listed(call, input, known)?) }))
}
