//! Hosted zones.
//!
//! **Invariant:** no two zones, namespaces' ones included, have the same name.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::page::page;
use super::super::tags;
use super::{PAGE, change, change_id, most, name, shown};
use crate::model::{HostedZone, HostedZoneId, ZoneVpc};
use crate::state::{Key, State, Tx};
use crate::zone::DnsName;

/// The zone's own SOA and NS.
const OWN_SETS: usize = 2;

pub(super) fn find<'a>(state: &'a State, id: &str) -> Result<&'a HostedZone, Error> {
    let id = id.strip_prefix("/hostedzone/").unwrap_or(id);
    let row = state.hosted_zones.get(&HostedZoneId::from(id));
    let missing = || Error::new("NoSuchHostedZone", format!("No hosted zone found with ID: {id}"));
    row.map(AsRef::as_ref).ok_or_else(missing)
}

#[derive(Deserialize)]
struct VpcGiven {
    #[serde(rename = "VPCRegion")]
    region: Option<String>,
    #[serde(rename = "VPCId")]
    id: Option<String>,
}

impl VpcGiven {
    fn read(self) -> Result<ZoneVpc, Error> {
        let id = self.id.filter(|id| !id.is_empty());
        let missing = || Error::new("InvalidVPCId", "the VPC ID is missing");
        Ok(ZoneVpc { region: self.region, id: id.ok_or_else(missing)? })
    }
}

fn shown_vpc(vpc: &ZoneVpc) -> Value {
    json!({ "VPCRegion": vpc.region, "VPCId": vpc.id })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    #[serde(rename = "VPC")]
    vpc: Option<VpcGiven>,
    caller_reference: String,
    hosted_zone_config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    comment: Option<String>,
    private_zone: Option<bool>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let config = asked.hosted_zone_config.as_ref();
    let vpc = match asked.vpc {
        Some(vpc) if config.is_none_or(|config| config.private_zone != Some(false)) => {
            vpc.read()?
        }
        _ => {
            let text = "public hosted zones are not supported here: give a VPC for a private one";
            return Err(Error::unsupported(text));
        }
    };
    let name = name(&asked.name);
    if DnsName::parse(&name).and_then(|apex| apex.child("hostmaster")).is_none() {
        return Err(Error::new("InvalidDomainName", format!("{name:?} is no domain name")));
    }
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let letter = |_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
    let id = format!("Z{}", (0..19).map(letter).collect::<String>());
    let row = HostedZone {
        id: HostedZoneId::new(id),
        name,
        caller_reference: asked.caller_reference,
        comment: asked.hosted_zone_config.and_then(|config| config.comment),
        vpcs: vec![vpc],
        created_at: call.now,
    };
    let put = row.clone();
    let change = move |tx: &mut Tx<'_>| {
        let state = tx.state();
        let mut zones = state.hosted_zones.values();
        if zones.any(|old| old.caller_reference == put.caller_reference) {
            let text = "a hosted zone has been created with this caller reference";
            return Err(Error::new("HostedZoneAlreadyExists", text));
        }
        let zones = state.hosted_zones.values().map(|old| old.name.as_str());
        let mut names = zones.chain(state.namespaces.keys().map(|name| name.as_str()));
        if names.any(|old| old.eq_ignore_ascii_case(&put.name)) {
            let text = format!("a zone of the name {} is associated with the VPC", put.name);
            return Err(Error::new("ConflictingDomainExists", text));
        }
        tx.put(put);
        Ok(())
    };
    let generation = call.api.store.update(change).await?.generation;
    Ok(json!({
        "HostedZone": shown_zone(&call.state(), &row),
        "ChangeInfo": change::info(call, &change_id(call, generation)),
        "DelegationSet": { "NameServers": [format!("ns.dns.{}", row.name)] },
        "VPC": row.vpcs.first().map(shown_vpc),
        "Location": format!("{}/2013-04-01/hostedzone/{}", "", row.id),
    }))
}

fn shown_zone(state: &State, row: &HostedZone) -> Value {
    let sets = state.record_sets_of(&row.id).count();
    json!({
        "Id": format!("/hostedzone/{}", row.id),
        "Name": shown(&row.name),
        "CallerReference": row.caller_reference,
        "Config": { "Comment": row.comment, "PrivateZone": true },
        "ResourceRecordSetCount": sets + OWN_SETS,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ById {
    id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let state = call.state();
    let row = find(&state, &asked.id)?;
    let vpcs: Vec<_> = row.vpcs.iter().map(shown_vpc).collect();
    Ok(json!({ "HostedZone": shown_zone(&state, row), "VPCs": vpcs }))
}

/// A private zone is not signed, and Route 53 does not even say so.
pub(super) fn signing(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        hosted_zone_id: String,
    }
    let asked: Asked = input.read()?;
    find(&call.state(), &asked.hosted_zone_id)?;
    let text = "Operation is unsupported for private hosted zones.";
    Err(Error::new("InvalidArgument", text))
}

pub(super) fn count(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    struct Nothing {}
    let Nothing {} = input.read()?;
    Ok(json!({ "HostedZoneCount": call.state().hosted_zones.len() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Comment {
    id: String,
    comment: Option<String>,
}

pub(super) async fn comment(call: &Call, input: Input) -> Outcome {
    let asked: Comment = input.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &asked.id)?.clone();
        let row = HostedZone { comment: asked.comment, ..row };
        tx.put(row.clone());
        Ok::<_, Error>(row)
    };
    let row = call.api.store.update(change).await?.value;
    Ok(json!({ "HostedZone": shown_zone(&call.state(), &row) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Association {
    hosted_zone_id: String,
    #[serde(rename = "VPC")]
    vpc: VpcGiven,
}

pub(super) async fn associate(call: &Call, input: Input) -> Outcome {
    let asked: Association = input.read()?;
    let vpc = asked.vpc.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let mut row = find(tx.state(), &asked.hosted_zone_id)?.clone();
        if !row.vpcs.iter().any(|known| known.id == vpc.id) {
            row.vpcs.push(vpc);
        }
        tx.put(row);
        Ok::<_, Error>(())
    };
    let generation = call.api.store.update(change).await?.generation;
    Ok(json!({ "ChangeInfo": change::info(call, &change_id(call, generation)) }))
}

pub(super) async fn disassociate(call: &Call, input: Input) -> Outcome {
    let asked: Association = input.read()?;
    let vpc = asked.vpc.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let mut row = find(tx.state(), &asked.hosted_zone_id)?.clone();
        if !row.vpcs.iter().any(|known| known.id == vpc.id) {
            let text = format!("the VPC {} is not associated with the zone", vpc.id);
            return Err(Error::new("VPCAssociationNotFound", text));
        }
        if row.vpcs.len() == 1 {
            let text = "the last VPC of a private hosted zone cannot be disassociated";
            return Err(Error::new("LastVPCAssociation", text));
        }
        row.vpcs.retain(|known| known.id != vpc.id);
        tx.put(row);
        Ok(())
    };
    let generation = call.api.store.update(change).await?.generation;
    Ok(json!({ "ChangeInfo": change::info(call, &change_id(call, generation)) }))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let id = find(tx.state(), &asked.id)?.id.clone();
        if tx.state().record_sets_of(&id).next().is_some() {
            let text = "The specified hosted zone contains non-required resource record sets \
                        and so cannot be deleted.";
            return Err(Error::new("HostedZoneNotEmpty", text));
        }
        tags::forget(tx, &super::tagging::arn(&account, &id));
        tx.remove(Key::HostedZone(id));
        Ok(())
    };
    let generation = call.api.store.update(change).await?.generation;
    Ok(json!({ "ChangeInfo": change::info(call, &change_id(call, generation)) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    marker: Option<String>,
    max_items: Option<String>,
    hosted_zone_type: Option<String>,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    // Every zone is private, so its only type leaves none out.
    let _: Option<String> = asked.hosted_zone_type;
    let state = call.state();
    let limit = most(asked.max_items.as_deref(), PAGE)?;
    let rows = state.hosted_zones.values();
    let marker = asked.marker.as_deref();
    let (rows, next) = page(rows, |row| row.id.to_string(), marker, limit)
        .map_err(|_| Error::invalid("Marker is not valid"))?;
    Ok(json!({
        "HostedZones": rows.iter().map(|row| shown_zone(&state, row)).collect::<Vec<_>>(),
        "Marker": asked.marker.unwrap_or_default(),
        "IsTruncated": next.is_some(),
        "NextMarker": next,
        "MaxItems": limit.to_string(),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByName {
    #[serde(rename = "DNSName")]
    dns_name: Option<String>,
    hosted_zone_id: Option<String>,
    max_items: Option<String>,
}

/// Names order by their labels from the last.
pub(super) fn order(name: &str) -> Vec<&str> {
    name.rsplit('.').collect()
}

pub(super) fn list_by_name(call: &Call, input: Input) -> Outcome {
    let asked: ByName = input.read()?;
    if asked.hosted_zone_id.is_some() && asked.dns_name.is_none() {
        return Err(Error::invalid("HostedZoneId needs DNSName"));
    }
    let state = call.state();
    let limit = most(asked.max_items.as_deref(), PAGE)?;
    let start = asked.dns_name.as_deref().map(name).unwrap_or_default();
    let from = asked.hosted_zone_id.as_deref().unwrap_or_default();
    let mut rows: Vec<_> = state.hosted_zones.values().collect();
    rows.sort_by_key(|row| (order(&row.name), row.id.as_str()));
    if !start.is_empty() {
        rows.retain(|row| (order(&row.name), row.id.as_str()) >= (order(&start), from));
    }
    let next = rows.get(limit).copied();
    rows.truncate(limit);
    Ok(json!({
        "HostedZones": rows.into_iter().map(|row| shown_zone(&state, row)).collect::<Vec<_>>(),
        "DNSName": asked.dns_name,
        "HostedZoneId": asked.hosted_zone_id,
        "IsTruncated": next.is_some(),
        "NextDNSName": next.map(|row| shown(&row.name)),
        "NextHostedZoneId": next.map(|row| row.id.as_str()),
        "MaxItems": limit.to_string(),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByVpc {
    #[serde(rename = "VPCId")]
    id: String,
    #[serde(rename = "VPCRegion")]
    region: String,
    max_items: Option<String>,
    next_token: Option<String>,
}

pub(super) fn list_by_vpc(call: &Call, input: Input) -> Outcome {
    let asked: ByVpc = input.read()?;
    let state = call.state();
    let limit = most(asked.max_items.as_deref(), PAGE)?;
    let is = |vpc: &ZoneVpc| {
        vpc.id == asked.id && vpc.region.as_ref().is_none_or(|region| *region == asked.region)
    };
    let rows = state.hosted_zones.values().filter(|row| row.vpcs.iter().any(is));
    let token = asked.next_token.as_deref();
    let (rows, next) = page(rows, |row| row.id.to_string(), token, limit)
        .map_err(|_| Error::new("InvalidPaginationToken", "NextToken is not valid"))?;
    let shown = rows.iter().map(|row| {
        json!({
            "HostedZoneId": row.id.as_str(),
            "Name": shown(&row.name),
            "Owner": { "OwningAccount": call.account().id },
        })
    });
    Ok(json!({
        "HostedZoneSummaries": shown.collect::<Vec<_>>(),
        "MaxItems": limit.to_string(),
        "NextToken": next,
    }))
}
