//! Instances, registered by API calls and by tasks: one table.
//!
//! **Invariant:** an instance that has been deregistered is in no answer of this API, though its
//! row drains for as long as caches may still name it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::page::page;
use super::operation::{self, Targets};
use super::{PAGE, service};
use crate::model::{
    Account, DiscoveryInstance, DiscoveryKey, DiscoveryRecordType, DiscoveryService, InstanceId,
    InstanceKey, OperationKind, Registration, VerdictState,
};
use crate::state::{State, Tx};
use crate::zone::DnsName;

/// Cloud Map's limits for the attributes of one instance: how many, and characters of a name, of a
/// value, of all together.
const MOST_ATTRIBUTES: usize = 30;
const MOST_NAME: usize = 255;
const MOST_VALUE: usize = 1024;
const MOST_CHARACTERS: usize = 5000;

/// Instances of a service, draining ones included.
pub(super) fn all<'a>(
    state: &'a State,
    service: &DiscoveryKey,
) -> impl Iterator<Item = &'a DiscoveryInstance> + Clone + use<'a> {
    let first = InstanceKey { service: service.clone(), id: InstanceId::from("") };
    let service = service.clone();
    let rows = state.discovery_instances.range(first..);
    rows.take_while(move |(key, _)| key.service == service).map(|(_, row)| row.as_ref())
}

/// The instances of a service.
pub(super) fn of<'a>(
    state: &'a State,
    service: &DiscoveryKey,
) -> impl Iterator<Item = &'a DiscoveryInstance> + use<'a> {
    all(state, service).filter(|row| row.is_active())
}

fn find<'a>(
    state: &'a State,
    service: &DiscoveryService,
    id: &str,
) -> Result<&'a DiscoveryInstance, Error> {
    let key = InstanceKey { service: service.key.clone(), id: id.into() };
    let row = state.discovery_instances.get(&key).filter(|row| row.is_active());
    let missing = || Error::new("InstanceNotFound", format!("there is no instance {id:?}"));
    row.map(AsRef::as_ref).ok_or_else(missing)
}

/// What is known of an instance's health; none when nobody checks it.
pub(super) fn verdict(
    state: &State,
    service: &DiscoveryService,
    row: &DiscoveryInstance,
) -> Option<VerdictState> {
    if row.healthy == Some(false) {
        return Some(VerdictState::Unhealthy);
    }
    let targets = row.task.iter().flat_map(|task| state.targets_of_task(task));
    let verdicts: Vec<_> =
        targets.filter(|t| t.is_active()).map(|t| state.verdict_state(t.id)).collect();
    let has = |wanted| verdicts.contains(&wanted);
    match row.healthy {
        _ if has(VerdictState::Unhealthy) => Some(VerdictState::Unhealthy),
        _ if has(VerdictState::Initial) => Some(VerdictState::Initial),
        _ if has(VerdictState::Healthy) || service.custom_health => Some(VerdictState::Healthy),
        _ => None,
    }
}

pub(super) const fn health_label(verdict: Option<VerdictState>) -> &'static str {
    match verdict {
        Some(VerdictState::Healthy) => "HEALTHY",
        Some(VerdictState::Unhealthy) => "UNHEALTHY",
        Some(VerdictState::Initial) | None => "UNKNOWN",
    }
}

/// As it was registered; of a task what ECS registers.
pub(super) fn attributes(
    state: &State,
    account: &Account,
    row: &DiscoveryInstance,
) -> BTreeMap<String, String> {
    let mut all = row.attributes.clone();
    let Some(task) = row.task.as_ref() else { return all };
    let mut put = |name: &str, value: Option<String>| {
        all.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("AWS_INSTANCE_IPV4", row.ipv4().map(|address| address.to_string()));
    put("AWS_INSTANCE_IPV6", row.ipv6().map(|address| address.to_string()));
    put("AWS_INSTANCE_PORT", row.port.map(|port| port.to_string()));
    put("REGION", Some(account.region.clone()));
    if let Some(task) = state.tasks.get(task) {
        put("ECS_CLUSTER_NAME", Some(task.cluster.to_string()));
        put("ECS_SERVICE_NAME", task.service.as_ref().map(|key| key.name.to_string()));
        put("ECS_TASK_DEFINITION_FAMILY", Some(task.definition.family.to_string()));
    }
    all
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Register {
    service_id: String,
    instance_id: String,
    creator_request_id: Option<String>,
    attributes: BTreeMap<String, String>,
}

/// The row that attributes ask for.
fn row(
    service: &DiscoveryService,
    id: &str,
    attributes: &BTreeMap<String, String>,
) -> Result<DiscoveryInstance, Error> {
    let characters = |text: &str| text.chars().count();
    let sizes = attributes.iter().map(|(name, value)| characters(name) + characters(value));
    if attributes.len() > MOST_ATTRIBUTES || sizes.sum::<usize>() > MOST_CHARACTERS {
        let text = format!(
            "an instance has at most {MOST_ATTRIBUTES} attributes of {MOST_CHARACTERS} characters"
        );
        return Err(Error::invalid(text));
    }
    let key = InstanceKey { service: service.key.clone(), id: id.into() };
    let mut row = DiscoveryInstance::new(key);
    let (mut v4, mut v6) = (None::<Ipv4Addr>, None::<Ipv6Addr>);
    for (name, value) in attributes {
        let bad = || Error::invalid(format!("attribute {name} cannot be {value:?}"));
        match name.as_str() {
            "AWS_INSTANCE_IPV4" => v4 = Some(value.parse().map_err(|_| bad())?),
            "AWS_INSTANCE_IPV6" => v6 = Some(value.parse().map_err(|_| bad())?),
            "AWS_INSTANCE_PORT" => row.port = Some(value.parse().map_err(|_| bad())?),
            "AWS_INSTANCE_CNAME" => {
                DnsName::parse(value).ok_or_else(bad)?;
                row.cname = Some(value.clone());
            }
            "AWS_INIT_HEALTH_STATUS" => {
                let told = match value.as_str() {
                    "HEALTHY" => Some(true),
                    "UNHEALTHY" => Some(false),
                    _ => None,
                };
                row.healthy = Some(told.filter(|_| service.custom_health).ok_or_else(bad)?);
            }
            "AWS_ALIAS_DNS_NAME" | "AWS_EC2_INSTANCE_ID" => {
                return Err(Error::invalid(format!("attribute {name} is not supported here")));
            }
            _ if characters(name) > MOST_NAME || characters(value) > MOST_VALUE => {
                return Err(bad());
            }
            _ => {}
        }
    }
    let given = [
        (DiscoveryRecordType::A, "AWS_INSTANCE_IPV4", v4.is_some()),
        (DiscoveryRecordType::Aaaa, "AWS_INSTANCE_IPV6", v6.is_some()),
        (DiscoveryRecordType::Srv, "AWS_INSTANCE_PORT", row.port.is_some()),
        (DiscoveryRecordType::Srv, "AWS_INSTANCE_IPV4", v4.is_some() || v6.is_some()),
        (DiscoveryRecordType::Cname, "AWS_INSTANCE_CNAME", row.cname.is_some()),
    ];
    // A service of the file has whatever records its instances can make.
    let has = |kind| service.records.is_some() && service.ttl_of(kind).is_some();
    let missing = given.into_iter().find(|(kind, _, given)| has(*kind) && !given);
    if let Some((_, name, _)) = missing {
        return Err(Error::invalid(format!("attribute {name} is missing")));
    }
    let own = DnsName::parse(service.key.namespace.as_str())
        .and_then(|apex| apex.child(service.key.name.as_str()))
        .and_then(|name| name.child(id));
    if has(DiscoveryRecordType::Srv) && own.is_none() {
        return Err(Error::invalid(format!("InstanceId {id:?} makes no DNS name for SRV records")));
    }
    row.address = v4.map(IpAddr::V4).or_else(|| v6.map(IpAddr::V6));
    row.address6 = v6.filter(|_| v4.is_some());
    let plain = attributes.iter().filter(|(name, _)| *name != "AWS_INIT_HEALTH_STATUS");
    row.attributes = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(row)
}

pub(super) async fn register(call: &Call, input: Input) -> Outcome {
    let asked: Register = input.read()?;
    let now = call.now;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let service = service::find(tx.state(), &place, &asked.service_id)?.clone();
        let row = row(&service, &asked.instance_id, &asked.attributes)?;
        let old = tx.state().discovery_instances.get(&row.key);
        if old.is_some_and(|old| old.task.is_some()) {
            let text = format!("the instance {} is a task of ECS", row.key.id);
            return Err(Error::invalid(text));
        }
        let targets = Targets {
            service: Some(service.id()),
            instance: Some(asked.instance_id),
            ..Targets::default()
        };
        tx.put(DiscoveryInstance { creator_request_id: asked.creator_request_id, ..row });
        Ok(operation::record(tx, &place, OperationKind::RegisterInstance, targets, now))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    service_id: String,
    instance_id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let state = call.state();
    let row =
        find(&state, service::find(&state, call.place(), &asked.service_id)?, &asked.instance_id)?;
    let account = call.account();
    Ok(json!({
        "ResourceOwner": account.id,
        "Instance": {
            "Id": row.key.id.as_str(),
            "CreatorRequestId": row.creator_request_id,
            "Attributes": attributes(&state, account, row),
            "CreatedByAccount": account.id,
        },
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    service_id: String,
    instances: Option<Vec<String>>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

pub(super) fn health(call: &Call, input: Input) -> Outcome {
    let asked: Health = input.read()?;
    let state = call.state();
    let service = service::find(&state, call.place(), &asked.service_id)?;
    let mut rows = match &asked.instances {
        Some(ids) => {
            let rows = ids.iter().map(|id| find(&state, service, id));
            rows.collect::<Result<Vec<_>, _>>()?
        }
        None => of(&state, &service.key).collect(),
    };
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let limit = asked.max_results.unwrap_or(PAGE);
    let (rows, next) =
        page(rows, |row| row.key.id.to_string(), asked.next_token.as_deref(), limit)?;
    let status = |row: &&DiscoveryInstance| {
        let label = health_label(verdict(&state, service, row));
        (row.key.id.to_string(), Value::from(label))
    };
    Ok(json!({ "Status": rows.iter().map(status).collect::<Map<_, _>>(), "NextToken": next }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateHealth {
    service_id: String,
    instance_id: String,
    status: String,
}

pub(super) async fn update_health(call: &Call, input: Input) -> Outcome {
    let asked: UpdateHealth = input.read()?;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let service = service::find(tx.state(), &place, &asked.service_id)?;
        let row = find(tx.state(), service, &asked.instance_id)?.clone();
        if !service.custom_health {
            let text = format!("the service {} has no custom health check", service.key.name);
            return Err(Error::new("CustomHealthNotFound", text));
        }
        tx.put(DiscoveryInstance { healthy: Some(asked.status == "HEALTHY"), ..row });
        Ok(())
    };
    call.api.store.update(change).await?;
    Ok(Value::Null)
}

pub(super) async fn deregister(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let now = call.now;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let service = service::find(tx.state(), &place, &asked.service_id)?.clone();
        let row = find(tx.state(), &service, &asked.instance_id)?.clone();
        let targets = Targets {
            service: Some(service.id()),
            instance: Some(asked.instance_id),
            ..Targets::default()
        };
        tx.put(DiscoveryInstance { registration: Registration::Draining { since: now }, ..row });
        Ok::<_, Error>(operation::record(
            tx,
            &place,
            OperationKind::DeregisterInstance,
            targets,
            now,
        ))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    service_id: String,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let (state, account) = (call.state(), call.account());
    let service = service::find(&state, call.place(), &asked.service_id)?;
    let limit = asked.max_results.unwrap_or(PAGE);
    let rows = of(&state, &service.key);
    let (rows, next) =
        page(rows, |row| row.key.id.to_string(), asked.next_token.as_deref(), limit)?;
    let shown = |row: &&DiscoveryInstance| {
        json!({
            "Id": row.key.id.as_str(),
            "Attributes": attributes(&state, account, row),
            "CreatedByAccount": account.id,
        })
    };
    Ok(json!({
        "ResourceOwner": account.id,
        "Instances": rows.iter().map(shown).collect::<Vec<_>>(),
        "NextToken": next,
    }))
}
