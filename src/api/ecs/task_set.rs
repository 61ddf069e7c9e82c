//! Task sets: what services of the deployment controller EXTERNAL are made of.
//!
//! Services here have the controller ECS, for which AWS takes none of these calls either.
//! **Invariant:** nothing is changed, and a call that names what is not there is told so first.

use serde::Deserialize;
use serde_json::json;

use super::{names, service};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::model::ServiceKey;

#[derive(Deserialize)]
struct Asked {
    cluster: String,
    service: String,
}

/// The service that is meant, which is there.
fn named(call: &Call, input: &Input) -> Result<ServiceKey, Error> {
    let asked = Asked::deserialize(&input.value);
    let asked = asked.map_err(|error| Error::invalid(error.to_string()))?;
    let cluster = names::known_cluster(call, Some(&asked.cluster))?;
    let key = names::service(call, &cluster, &asked.service)?;
    service::active(&call.state(), &key)?;
    Ok(key)
}

/// Creates, changes or deletes one, or makes it the primary.
pub(super) fn refuse(call: &Call, input: &Input) -> Outcome {
    let key = named(call, input)?;
    Err(Error::unsupported(format!(
        "{} needs a service with the deployment controller EXTERNAL; service {key} has ECS, the \
         only one here",
        call.name()
    )))
}

/// A service of the controller ECS has none.
pub(super) fn describe(call: &Call, input: &Input) -> Outcome {
    let key = named(call, input)?;
    let asked = input.value["taskSets"].as_array().into_iter().flatten();
    let name = |text: &str| match text.starts_with("arn:") {
        true => text.to_owned(),
        false => call.account().arn("ecs", format!("task-set/{key}/{text}")).to_string(),
    };
    let failures = asked.filter_map(|text| text.as_str());
    let failures: Vec<_> = failures.map(|text| names::failure(name(text), "MISSING")).collect();
    Ok(json!({ "taskSets": [], "failures": failures }))
}
