//! Operations: what was changed, and that it was.
//!
//! **Invariant:** an operation is recorded in the commit that makes its change, so whoever can ask
//! about it finds it done.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::page::page;
use super::super::wire::time;
use super::PAGE;
use super::filter::Listing;
use crate::clock::Timestamp;
use crate::model::{DiscoveryOperation, OPERATIONS_KEPT, OperationId, OperationKind};
use crate::state::{Key, Tx};

/// Ids of what an operation changed.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) namespace: Option<String>,
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
}

/// Records one; the oldest go.
pub(super) fn record(
    tx: &mut Tx<'_>,
    place: &str,
    kind: OperationKind,
    targets: Targets,
    at: Timestamp,
) -> OperationId {
    let id = OperationId::new(format!("{:032x}", tx.next_number()));
    let Targets { namespace, service, instance } = targets;
    let region = place.to_owned();
    tx.put(DiscoveryOperation { id: id.clone(), kind, at, namespace, service, instance, region });
    while tx.state().discovery_operations.len() > OPERATIONS_KEPT {
        let Some(oldest) = tx.state().discovery_operations.keys().next().cloned() else { break };
        tx.remove(Key::DiscoveryOperation(oldest));
    }
    id
}

pub(super) fn shown(id: &OperationId) -> Value {
    json!({ "OperationId": id.as_str() })
}

const fn label(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::CreateNamespace => "CREATE_NAMESPACE",
        OperationKind::DeleteNamespace => "DELETE_NAMESPACE",
        OperationKind::UpdateNamespace => "UPDATE_NAMESPACE",
        OperationKind::UpdateService => "UPDATE_SERVICE",
        OperationKind::RegisterInstance => "REGISTER_INSTANCE",
        OperationKind::DeregisterInstance => "DEREGISTER_INSTANCE",
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Get {
    operation_id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: Get = input.read()?;
    let state = call.state();
    let row = state.discovery_operations.get(&OperationId::new(asked.operation_id.as_str()));
    let row = row.ok_or_else(|| {
        let text = format!("there is no operation {:?}", asked.operation_id);
        Error::new("OperationNotFound", text)
    })?;
    let mut targets = serde_json::Map::new();
    for (name, id) in
        [("NAMESPACE", &row.namespace), ("SERVICE", &row.service), ("INSTANCE", &row.instance)]
    {
        targets.extend(id.clone().map(|id| (name.to_owned(), Value::String(id))));
    }
    Ok(json!({ "Operation": {
        "Id": row.id.as_str(),
        "OwnerAccount": call.account().id,
        "Type": label(row.kind),
        "Status": "SUCCESS",
        "CreateDate": time::seconds(row.at),
        "UpdateDate": time::seconds(row.at),
        "Targets": targets,
    }}))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: Listing = input.read()?;
    let state = call.state();
    let mut found = Vec::new();
    for row in state.discovery_operations.values() {
        let mut passes = true;
        for filter in &asked.filters {
            passes &= match filter.name.as_str() {
                "NAMESPACE_ID" => filter.lets(row.namespace.as_deref().unwrap_or_default())?,
                "SERVICE_ID" => filter.lets(row.service.as_deref().unwrap_or_default())?,
                "STATUS" => filter.lets("SUCCESS")?,
                "TYPE" => filter.lets(label(row.kind))?,
                "UPDATE_DATE" => {
                    filter.lets_time(time::seconds(row.at).as_f64().unwrap_or_default())?
                }
                _ => return Err(filter.unknown()),
            };
        }
        if passes {
            found.push(row);
        }
    }
    let limit = asked.max_results.unwrap_or(PAGE);
    let (rows, next) = page(found, |row| row.id.to_string(), asked.next_token.as_deref(), limit)?;
    let rows = rows.iter().map(|row| json!({ "Id": row.id.as_str(), "Status": "SUCCESS" }));
    Ok(json!({ "Operations": rows.collect::<Vec<_>>(), "NextToken": next }))
}
