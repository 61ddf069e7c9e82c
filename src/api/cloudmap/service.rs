//! Services: names in a namespace, with the records that their instances make.
//!
//! **Invariant:** a service's record types never change, for its instances were checked against
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::page::page;
use super::super::tags::{self, Tag};
use super::super::wire::time;
use super::filter::{Listing, passes};
use super::operation::{self, Targets};
use super::{PAGE, check_owner, id, namespace, new_id, tag_error};
use crate::model::{
    Account, DiscoveryKey, DiscoveryRecord, DiscoveryRecordType, DiscoveryRouting,
    DiscoveryService, Namespace, NamespaceKind, OperationKind, Owner,
};
use crate::state::{Key, State, Tx};
use crate::zone::DnsName;

/// Cloud Map's limit for the attributes of one service.
const MOST_ATTRIBUTES: usize = 30;
/// Cloud Map's limit for a service's name.
const MOST_NAME: usize = 127;

/// A service by its id or ARN.
pub(super) fn find<'a>(
    state: &'a State,
    place: &str,
    text: &str,
) -> Result<&'a DiscoveryService, Error> {
    let missing = || Error::new("ServiceNotFound", format!("there is no service {text:?}"));
    let found = state.discovery_service_by_id(id(text));
    found.filter(|row| row.key.namespace.region() == place).ok_or_else(missing)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    namespace_id: Option<String>,
    creator_request_id: Option<String>,
    description: Option<String>,
    dns_config: Option<DnsConfig>,
    health_check_config: Option<Value>,
    health_check_custom_config: Option<Custom>,
    #[serde(default)]
    tags: Vec<Tag>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
struct Custom {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DnsConfig {
    namespace_id: Option<String>,
    routing_policy: Option<String>,
    dns_records: Vec<DnsRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DnsRecord {
    r#type: String,
    #[serde(rename = "TTL")]
    ttl: u64,
}

const fn label(kind: DiscoveryRecordType) -> &'static str {
    match kind {
        DiscoveryRecordType::A => "A",
        DiscoveryRecordType::Aaaa => "AAAA",
        DiscoveryRecordType::Srv => "SRV",
        DiscoveryRecordType::Cname => "CNAME",
    }
}

/// The records of a configuration; AWS's combinations: A, AAAA or both, SRV alone, CNAME alone.
fn records(written: &[DnsRecord]) -> Result<Vec<DiscoveryRecord>, Error> {
    let record = |record: &DnsRecord| {
        let kind = match record.r#type.as_str() {
            "A" => DiscoveryRecordType::A,
            "AAAA" => DiscoveryRecordType::Aaaa,
            "SRV" => DiscoveryRecordType::Srv,
            _ => DiscoveryRecordType::Cname,
        };
        DiscoveryRecord { kind, ttl: Duration::from_secs(record.ttl) }
    };
    let records: Vec<_> = written.iter().map(record).collect();
    let mut kinds: Vec<_> = records.iter().map(|record| label(record.kind)).collect();
    kinds.sort_unstable();
    match kinds[..] {
        ["A" | "AAAA" | "SRV" | "CNAME"] | ["A", "AAAA"] => Ok(records),
        [] => Err(Error::invalid("DnsConfig.DnsRecords names no record type")),
        _ => {
            let text = format!("record types {} cannot stand together", kinds.join(", "));
            Err(Error::invalid(text))
        }
    }
}

fn longest(records: &[DiscoveryRecord]) -> Duration {
    records.iter().map(|record| record.ttl).max().unwrap_or_default()
}

impl Create {
    /// The row that is asked for in `namespace`.
    fn row(&self, namespace: &Namespace) -> Result<DiscoveryService, Error> {
        let is_dns = namespace.kind == NamespaceKind::PrivateDns;
        let name = self.name.as_str();
        let full = DnsName::parse(namespace.name.as_str()).and_then(|apex| apex.child(name));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.len() > MOST_NAME || !name.chars().all(allowed) || (is_dns && full.is_none()) {
            return Err(Error::invalid(format!("Name {name:?} is no service name")));
        }
        if self.health_check_config.is_some() {
            return Err(Error::invalid(
                "HealthCheckConfig is for public DNS namespaces: use HealthCheckCustomConfig",
            ));
        }
        let (mut rows, mut routing) = (Vec::new(), DiscoveryRouting::Multivalue);
        if let Some(config) = &self.dns_config {
            if !is_dns || self.r#type.is_some() {
                let text = "DnsConfig is for services of a DNS namespace that DNS answers";
                return Err(Error::invalid(text));
            }
            rows = records(&config.dns_records)?;
            if config.routing_policy.as_deref() == Some("WEIGHTED") {
                routing = DiscoveryRouting::Weighted;
            }
            let is_cname = rows.iter().any(|row| row.kind == DiscoveryRecordType::Cname);
            if is_cname && routing != DiscoveryRouting::Weighted {
                return Err(Error::invalid("a CNAME record needs RoutingPolicy WEIGHTED"));
            }
        }
        let key = DiscoveryKey { namespace: namespace.name.clone(), name: name.into() };
        Ok(DiscoveryService {
            routing,
            custom_health: self.health_check_custom_config.is_some(),
            description: self.description.clone(),
            creator_request_id: self.creator_request_id.clone(),
            ..DiscoveryService {
                records: Some(rows.clone()),
                ..DiscoveryService::new(key, longest(&rows), Owner::Api)
            }
        })
    }
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let (now, account) = (call.now, call.account().clone());
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let inner = asked.dns_config.as_ref().and_then(|config| config.namespace_id.as_deref());
        let namespace = match (asked.namespace_id.as_deref(), inner) {
            (Some(outer), Some(inner)) if id(outer) != id(inner) => {
                return Err(Error::invalid("NamespaceId and DnsConfig.NamespaceId differ"));
            }
            (Some(given), _) | (None, Some(given)) => namespace::find(tx.state(), &place, given)?,
            (None, None) => return Err(Error::invalid("NamespaceId is missing")),
        };
        let row = asked.row(namespace)?;
        let rows = tx.state().discovery_services.values();
        let same = |old: &&std::sync::Arc<DiscoveryService>| {
            old.key.namespace == row.key.namespace
                && old.key.name.as_str().eq_ignore_ascii_case(row.key.name.as_str())
        };
        if let Some(old) = rows.into_iter().find(same) {
            let again = DiscoveryService {
                id: old.id.clone(),
                created_at: old.created_at,
                attributes: old.attributes.clone(),
                ..row.clone()
            };
            if row.creator_request_id.is_none() || again != **old {
                let text = format!("the service {} exists: {}", old.key.name, old.id());
                return Err(Error::new("ServiceAlreadyExists", text));
            }
            return Ok(old.id());
        }
        let row = DiscoveryService { id: Some(new_id("srv")), created_at: Some(now), ..row };
        let arn = account.discovery_service(&row);
        tags::add(tx, &arn, asked.tags).map_err(|error| tag_error(&error))?;
        let id = row.id();
        tx.put(row);
        Ok::<_, Error>(id)
    };
    let id = call.api.store.update(change).await?.value;
    one(call, &id)
}

fn one(call: &Call, id: &str) -> Outcome {
    let state = call.state();
    let row = find(&state, call.place(), id)?;
    let mut service = shown(&state, call.account(), row);
    service["NamespaceId"] = namespace_id(&state, row);
    service["CreatorRequestId"] = json!(row.creator_request_id);
    Ok(json!({ "Service": service }))
}

fn namespace_id(state: &State, row: &DiscoveryService) -> Value {
    json!(state.namespaces.get(&row.key.namespace).map(|namespace| namespace.id()))
}

fn shown(state: &State, account: &Account, row: &DiscoveryService) -> Value {
    let instances = super::instance::of(state, &row.key);
    let kinds = [
        DiscoveryRecordType::A,
        DiscoveryRecordType::Aaaa,
        DiscoveryRecordType::Srv,
        DiscoveryRecordType::Cname,
    ];
    // In the order they were given in; Terraform compares lists.
    let records: Vec<(DiscoveryRecordType, Duration)> = match &row.records {
        Some(records) => records.iter().map(|record| (record.kind, record.ttl)).collect(),
        None => kinds.into_iter().filter_map(|kind| Some((kind, row.ttl_of(kind)?))).collect(),
    };
    let is_dns = !records.is_empty();
    let record = |(kind, ttl): &(DiscoveryRecordType, Duration)| {
        let (kind, seconds) = (label(*kind), ttl.as_secs());
        json!({ "Type": kind, "TTL": seconds })
    };
    let config = is_dns.then(|| {
        json!({
            "NamespaceId": namespace_id(state, row),
            "RoutingPolicy": match row.routing {
                DiscoveryRouting::Multivalue => "MULTIVALUE",
                DiscoveryRouting::Weighted => "WEIGHTED",
            },
            "DnsRecords": records.iter().map(record).collect::<Vec<_>>(),
        })
    });
    json!({
        "Id": row.id(),
        "Arn": account.discovery_service(row).to_string(),
        "ResourceOwner": account.id,
        "Name": row.key.name.as_str(),
        "Type": if is_dns { "DNS_HTTP" } else { "HTTP" },
        "Description": row.description,
        "InstanceCount": instances.count(),
        "DnsConfig": config,
        "HealthCheckCustomConfig": row.custom_health.then(|| json!({ "FailureThreshold": 1 })),
        "CreateDate": row.created_at.map(time::seconds),
        "CreatedByAccount": account.id,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ById {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByServiceId {
    service_id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    one(call, &asked.id)
}

pub(super) fn get_attributes(call: &Call, input: Input) -> Outcome {
    let asked: ByServiceId = input.read()?;
    let state = call.state();
    let row = find(&state, call.place(), &asked.service_id)?;
    let attributes = Some(&row.attributes).filter(|attributes| !attributes.is_empty());
    Ok(json!({ "ServiceAttributes": {
        "ServiceArn": call.account().discovery_service(row).to_string(),
        "ResourceOwner": call.account().id,
        "Attributes": attributes,
    }}))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    id: String,
    service: Change,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    description: Option<String>,
    dns_config: Option<ChangedDns>,
    health_check_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangedDns {
    dns_records: Vec<DnsRecord>,
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let asked: Update = input.read()?;
    let now = call.now;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &place, &asked.id)?.clone();
        check_owner(row.owner, &format!("the service {}", row.key))?;
        let Change { description, dns_config, health_check_config } = asked.service;
        if health_check_config.is_some() {
            return Err(Error::invalid("HealthCheckConfig is for public DNS namespaces"));
        }
        // AWS's page of UpdateService: a configuration that is left out is deleted.
        let records = dns_config.map_or(Ok(Vec::new()), |config| records(&config.dns_records))?;
        let kinds = |records: &[DiscoveryRecord]| {
            let mut kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
            kinds.sort_unstable();
            kinds
        };
        if !records.is_empty() && kinds(&records) != kinds(row.records.as_deref().unwrap_or(&[])) {
            return Err(Error::invalid("the record types of a service cannot be changed"));
        }
        let targets = Targets { service: Some(row.id()), ..Targets::default() };
        let ttl = longest(&records);
        let description = description.or(row.description);
        tx.put(DiscoveryService { description, ttl, records: Some(records), ..row });
        Ok(operation::record(tx, &place, OperationKind::UpdateService, targets, now))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateAttributes {
    service_id: String,
    attributes: BTreeMap<String, String>,
}

pub(super) async fn update_attributes(call: &Call, input: Input) -> Outcome {
    let asked: UpdateAttributes = input.read()?;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &place, &asked.service_id)?.clone();
        check_owner(row.owner, &format!("the service {}", row.key))?;
        let mut attributes = row.attributes.clone();
        attributes.extend(asked.attributes);
        if attributes.len() > MOST_ATTRIBUTES {
            let text = format!("a service has at most {MOST_ATTRIBUTES} attributes");
            return Err(Error::new("ServiceAttributesLimitExceededException", text));
        }
        tx.put(DiscoveryService { attributes, ..row });
        Ok(())
    };
    call.done(change).await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let account = call.account().clone();
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &place, &asked.id)?.clone();
        check_owner(row.owner, &format!("the service {}", row.key))?;
        let state = tx.state();
        let named = state
            .services
            .values()
            .find(|service| service.discovery.as_ref().is_some_and(|d| d.service == row.key));
        if let Some(service) = named {
            let text = format!("the service is the registry of the ECS service {}", service.key);
            return Err(Error::new("ResourceInUse", text));
        }
        let all = super::instance::all(state, &row.key);
        let left = all.clone().filter(|instance| instance.is_active() || instance.task.is_some());
        if let Some(instance) = left.into_iter().next() {
            let text = format!("the service has the instance {}", instance.key.id);
            return Err(Error::new("ResourceInUse", text));
        }
        // Nobody waits for the drain of an instance that no task of ours stands behind.
        let gone: Vec<_> = all.map(|instance| instance.key.clone()).collect();
        gone.into_iter().for_each(|key| tx.remove(Key::DiscoveryInstance(key)));
        tags::forget(tx, &account.discovery_service(&row));
        tx.remove(Key::DiscoveryService(row.key));
        Ok(())
    };
    call.done(change).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteAttributes {
    service_id: String,
    attributes: Vec<String>,
}

pub(super) async fn delete_attributes(call: &Call, input: Input) -> Outcome {
    let asked: DeleteAttributes = input.read()?;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let mut row = find(tx.state(), &place, &asked.service_id)?.clone();
        check_owner(row.owner, &format!("the service {}", row.key))?;
        row.attributes.retain(|name, _| !asked.attributes.contains(name));
        tx.put(row);
        Ok::<_, Error>(())
    };
    call.done(change).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: Listing = input.read()?;
    let state = call.state();
    let ids: BTreeMap<_, _> =
        state.namespaces.values().map(|row| (row.name.clone(), row.id())).collect();
    let mut found = Vec::new();
    for row in state.discovery_services.values() {
        let value = |name: &str| match name {
            "NAMESPACE_ID" => Some(ids.get(&row.key.namespace).map_or("", String::as_str)),
            "RESOURCE_OWNER" => Some("SELF"),
            _ => None,
        };
        if passes(&asked.filters, value)? {
            found.push(row);
        }
    }
    found.sort_by_key(|row| row.key.to_string());
    let limit = asked.max_results.unwrap_or(PAGE);
    let (rows, next) = page(found, |row| row.key.to_string(), asked.next_token.as_deref(), limit)?;
    let rows: Vec<_> = rows.iter().map(|row| shown(&state, call.account(), row)).collect();
    Ok(json!({ "Services": rows, "NextToken": next }))
}
