//! Namespaces: a private one is a zone of our DNS, an HTTP one a list of names.
//!
//! **Invariant:** no two namespaces have the same name, in whatever case.

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
use super::{PAGE, check_owner, id, new_id, tag_error};
use crate::model::{
    Account, Namespace, NamespaceKind, NamespaceName, OperationId, OperationKind, Owner, RECORD_TTL,
};
use crate::state::{Key, State, Tx};
use crate::zone::DnsName;

pub(super) fn public() -> Error {
    Error::unsupported("public DNS namespaces are not supported here: create a private one")
}

fn named(call: &Call, name: &str) -> NamespaceName {
    NamespaceName::within(call.place(), name)
}

fn not_found(id: &str) -> Error {
    Error::new("NamespaceNotFound", format!("there is no namespace {id:?}"))
}

/// A namespace by its id or ARN.
pub(super) fn find<'a>(state: &'a State, place: &str, text: &str) -> Result<&'a Namespace, Error> {
    let found = state.namespace_by_id(id(text)).filter(|row| row.name.region() == place);
    found.ok_or_else(|| not_found(text))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateHttp {
    name: String,
    creator_request_id: Option<String>,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreatePrivate {
    name: String,
    creator_request_id: Option<String>,
    description: Option<String>,
    vpc: String,
    #[serde(default)]
    tags: Vec<Tag>,
    properties: Option<Properties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    dns_properties: DnsProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct DnsProperties {
    soa: Soa,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Soa {
    ttl: u64,
}

impl Properties {
    fn negative_ttl(&self) -> Duration {
        Duration::from_secs(self.dns_properties.soa.ttl)
    }
}

pub(super) async fn create_http(call: &Call, input: Input) -> Outcome {
    let asked: CreateHttp = input.read()?;
    let row = Namespace {
        kind: NamespaceKind::Http,
        creator_request_id: asked.creator_request_id,
        description: asked.description,
        ..Namespace::new(named(call, &asked.name), RECORD_TTL, Owner::Api)
    };
    create(call, row, asked.tags).await
}

pub(super) async fn create_private(call: &Call, input: Input) -> Outcome {
    let asked: CreatePrivate = input.read()?;
    let name = asked.name.trim_end_matches('.');
    let longest = DnsName::parse(name).and_then(|apex| apex.child("hostmaster"));
    if longest.is_none() {
        return Err(Error::invalid(format!("Name {name:?} is no DNS name")));
    }
    let negative = asked.properties.as_ref().map_or(RECORD_TTL, Properties::negative_ttl);
    let row = Namespace {
        creator_request_id: asked.creator_request_id,
        description: asked.description,
        vpc: Some(asked.vpc),
        ..Namespace::new(named(call, name), negative, Owner::Api)
    };
    create(call, row, asked.tags).await
}

async fn create(call: &Call, row: Namespace, tags: Vec<Tag>) -> Outcome {
    let name = row.name.as_str();
    // The model's pattern looks ahead, which the check against the model leaves out.
    if !name.chars().all(|c| c.is_ascii_graphic()) || name.starts_with("arn:") {
        return Err(Error::invalid(format!("Name {name:?} is no namespace name")));
    }
    let (now, account, home) = (call.now, call.account().clone(), call.api.account.clone());
    let row = Namespace { id: Some(new_id("ns")), created_at: Some(now), ..row };
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        if let Some(operation) = created_before(tx, &home, &row, now)? {
            return Ok(operation);
        }
        tags::add(tx, &account.namespace(&row), tags).map_err(|error| tag_error(&error))?;
        let targets = Targets { namespace: Some(row.id()), ..Targets::default() };
        tx.put(row);
        Ok::<_, Error>(operation::record(tx, &place, OperationKind::CreateNamespace, targets, now))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

/// The operation of the same creation made before.
fn created_before(
    tx: &mut Tx<'_>,
    home: &Account,
    row: &Namespace,
    now: crate::clock::Timestamp,
) -> Result<Option<OperationId>, Error> {
    let (name, place) = (row.name.as_str(), row.name.region());
    if tx.state().hosted_zones.values().any(|zone| zone.name.eq_ignore_ascii_case(name)) {
        return Err(Error::invalid(format!("there is a hosted zone {name}")));
    }
    let rows = tx.state().namespaces.values();
    let mut alike = rows.filter(|old| old.name.as_str().eq_ignore_ascii_case(name));
    let is_dns = |row: &Namespace| row.kind == NamespaceKind::PrivateDns;
    let elsewhere =
        alike.clone().find(|old| old.name.region() != place && is_dns(old) && is_dns(row));
    if let Some(other) = elsewhere {
        let region = home.region_of(other.name.region());
        let text = format!("DNS answers the name {name} for a namespace of the region {region}");
        return Err(Error::invalid(text));
    }
    let Some(old) = alike.find(|old| old.name.region() == place).cloned() else {
        return Ok(None);
    };
    let again = Namespace { id: old.id.clone(), created_at: old.created_at, ..row.clone() };
    if row.creator_request_id.is_none() || again != *old {
        let text = format!("the namespace {} exists: {}", old.name, old.id());
        return Err(Error::new("NamespaceAlreadyExists", text));
    }
    let id = Some(old.id());
    let mut operations = tx.state().discovery_operations.values();
    let known = operations
        .find(|known| known.kind == OperationKind::CreateNamespace && known.namespace == id)
        .map(|known| known.id.clone());
    let targets = Targets { namespace: id, ..Targets::default() };
    Ok(Some(known.unwrap_or_else(|| {
        operation::record(tx, place, OperationKind::CreateNamespace, targets, now)
    })))
}

fn shown(state: &State, account: &Account, row: &Namespace) -> Value {
    let services = state.discovery_services.keys().filter(|key| key.namespace == row.name);
    let dns = row
        .hosted_zone()
        .map(|zone| json!({ "HostedZoneId": zone, "SOA": { "TTL": row.negative_ttl.as_secs() } }));
    json!({
        "Id": row.id(),
        "Arn": account.namespace(row).to_string(),
        "ResourceOwner": account.id,
        "Name": row.name.as_str(),
        "Type": type_of(row),
        "Description": row.description,
        "ServiceCount": services.count(),
        "Properties": {
            "DnsProperties": dns,
            "HttpProperties": { "HttpName": row.name.as_str() },
        },
        "CreateDate": row.created_at.map(time::seconds),
    })
}

const fn type_of(row: &Namespace) -> &'static str {
    match row.kind {
        NamespaceKind::PrivateDns => "DNS_PRIVATE",
        NamespaceKind::Http => "HTTP",
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ById {
    id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let state = call.state();
    let row = find(&state, call.place(), &asked.id)?;
    let mut namespace = shown(&state, call.account(), row);
    namespace["CreatorRequestId"] = json!(row.creator_request_id);
    Ok(json!({ "Namespace": namespace }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    id: String,
    namespace: Change,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    description: Option<String>,
    properties: Option<Properties>,
}

pub(super) async fn update_http(call: &Call, input: Input) -> Outcome {
    update(call, input, NamespaceKind::Http).await
}

pub(super) async fn update_private(call: &Call, input: Input) -> Outcome {
    update(call, input, NamespaceKind::PrivateDns).await
}

async fn update(call: &Call, input: Input, kind: NamespaceKind) -> Outcome {
    let asked: Update = input.read()?;
    let now = call.now;
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &place, &asked.id)?.clone();
        if row.kind != kind {
            let text = format!("the namespace {} is of type {}", asked.id, type_of(&row));
            return Err(Error::invalid(text));
        }
        check_owner(row.owner, &format!("the namespace {}", row.name))?;
        let targets = Targets { namespace: Some(row.id()), ..Targets::default() };
        let Change { description, properties } = asked.namespace;
        tx.put(Namespace {
            description: description.or(row.description),
            negative_ttl: properties.map_or(row.negative_ttl, |given| given.negative_ttl()),
            ..row
        });
        Ok(operation::record(tx, &place, OperationKind::UpdateNamespace, targets, now))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let (now, account) = (call.now, call.account().clone());
    let place = call.place().to_owned();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &place, &asked.id)?.clone();
        check_owner(row.owner, &format!("the namespace {}", row.name))?;
        if tx.state().discovery_services.keys().any(|key| key.namespace == row.name) {
            let text = format!("the namespace {} has services", row.name);
            return Err(Error::new("ResourceInUse", text));
        }
        tags::forget(tx, &account.namespace(&row));
        let targets = Targets { namespace: Some(row.id()), ..Targets::default() };
        tx.remove(Key::Namespace(row.name));
        Ok(operation::record(tx, &place, OperationKind::DeleteNamespace, targets, now))
    };
    Ok(operation::shown(&call.api.store.update(change).await?.value))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: Listing = input.read()?;
    let state = call.state();
    let mut found = Vec::new();
    for row in state.namespaces.values() {
        let value = |name: &str| match name {
            "TYPE" => Some(type_of(row)),
            "NAME" | "HTTP_NAME" => Some(row.name.as_str()),
            "RESOURCE_OWNER" => Some("SELF"),
            _ => None,
        };
        if passes(&asked.filters, value)? {
            found.push(row);
        }
    }
    let limit = asked.max_results.unwrap_or(PAGE);
    let (rows, next) = page(found, |row| row.name.to_string(), asked.next_token.as_deref(), limit)?;
    let rows: Vec<_> = rows.iter().map(|row| shown(&state, call.account(), row)).collect();
    Ok(json!({ "Namespaces": rows, "NextToken": next }))
}
