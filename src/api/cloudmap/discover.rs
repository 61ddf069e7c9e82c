//! Finding instances by names, as clients without DNS do.
//!
//! **Invariant:** the revision in an answer is never newer than its instances: who sees the same
//! one again has missed nothing. Other than Cloud Map's it also moves when health changes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::instance::{attributes, health_label, of, verdict};
use crate::model::{DiscoveryKey, DiscoveryService, VerdictState};
use crate::state::State;

/// Instances in an answer when a call does not say (Cloud Map's).
const MOST: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Discover {
    namespace_name: String,
    service_name: String,
    max_results: Option<usize>,
    #[serde(default)]
    query_parameters: BTreeMap<String, String>,
    #[serde(default)]
    optional_parameters: BTreeMap<String, String>,
    health_status: Option<String>,
}

fn find<'a>(state: &'a State, namespace: &str, name: &str) -> Result<&'a DiscoveryService, Error> {
    let id = namespace.starts_with("arn:").then(|| super::id(namespace));
    let found = state.namespaces.values().find(|row| match id {
        Some(id) => row.id() == id,
        None => row.name.as_str() == namespace,
    });
    let row = found.ok_or_else(|| {
        Error::new("NamespaceNotFound", format!("there is no namespace {namespace:?}"))
    })?;
    let key = DiscoveryKey { namespace: row.name.clone(), name: name.into() };
    state.discovery_services.get(&key).map(AsRef::as_ref).ok_or_else(|| {
        Error::new("ServiceNotFound", format!("there is no service {name:?} in {namespace}"))
    })
}

fn revision_of(call: &Call, service: &DiscoveryKey) -> u64 {
    call.api.reader.load().zones.revision(service).map_or(0, |generation| generation.0)
}

pub(super) fn discover(call: &Call, input: Input) -> Outcome {
    let asked: Discover = input.read()?;
    let key = find(&call.state(), &asked.namespace_name, &asked.service_name)?.key.clone();
    // Before the instances are read.
    let revision = revision_of(call, &key);
    let (state, account) = (call.state(), call.account());
    let service = find(&state, &asked.namespace_name, &asked.service_name)?;
    let has = |wanted: &BTreeMap<String, String>, all: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| all.get(name) == Some(value))
    };
    let mut found: Vec<_> = of(&state, &key)
        .map(|row| (row, attributes(&state, account, row), verdict(&state, service, row)))
        .filter(|(_, attributes, _)| has(&asked.query_parameters, attributes))
        .collect();
    if found.iter().any(|(_, attributes, _)| has(&asked.optional_parameters, attributes)) {
        found.retain(|(_, attributes, _)| has(&asked.optional_parameters, attributes));
    }
    // Whom nobody checks is in every answer.
    let is = |verdict: Option<VerdictState>, wanted| verdict.is_none_or(|v| v == wanted);
    match asked.health_status.as_deref() {
        Some("ALL") => {}
        Some("HEALTHY") => found.retain(|(.., verdict)| is(*verdict, VerdictState::Healthy)),
        Some("UNHEALTHY") => found.retain(|(.., verdict)| is(*verdict, VerdictState::Unhealthy)),
        // As DNS answers.
        _ => {
            if found.iter().any(|(.., verdict)| is(*verdict, VerdictState::Healthy)) {
                found.retain(|(.., verdict)| is(*verdict, VerdictState::Healthy));
            }
        }
    }
    fastrand::shuffle(&mut found);
    found.truncate(asked.max_results.unwrap_or(MOST));
    let shown = found.into_iter().map(|(row, attributes, verdict)| {
        json!({
            "InstanceId": row.key.id.as_str(),
            "NamespaceName": key.namespace.as_str(),
            "ServiceName": key.name.as_str(),
            "HealthStatus": health_label(verdict),
            "Attributes": attributes,
        })
    });
    Ok(json!({ "Instances": shown.collect::<Vec<_>>(), "InstancesRevision": revision }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    namespace_name: String,
    service_name: String,
}

pub(super) fn revision(call: &Call, input: Input) -> Outcome {
    let asked: Names = input.read()?;
    let state = call.state();
    let service = find(&state, &asked.namespace_name, &asked.service_name)?;
    Ok(json!({ "InstancesRevision": revision_of(call, &service.key) }))
}
