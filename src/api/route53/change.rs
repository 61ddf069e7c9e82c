//! Batches of changes of record sets: all of one or nothing.
//!
//! **Invariant:** a batch is checked change by change against what the ones before it leave, in the
//! commit that makes it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::wire::time;
use super::{change_id, health_check, name, shown, zone};
use crate::clock::Timestamp;
use crate::model::{
    AliasTarget, HostedZone, NameCheckId, RecordData, RecordKind, RecordRouting, RecordSet,
    RecordSetKey,
};
use crate::state::{Key, Tx};
use crate::zone::DnsName;

/// What is known of a change: PENDING until DNS answers from a snapshot that has it.
pub(super) fn info(call: &Call, id: &str) -> Value {
    let part =
        |from: usize, to: usize| id.get(from..to).and_then(|h| u64::from_str_radix(h, 16).ok());
    let at = part(1, 14).unwrap_or_default();
    let seen = call.api.reader.load().generation.0 & 0xff_ffff_ffff;
    let in_sync = part(14, 24).is_some_and(|generation| seen >= generation);
    json!({
        "Id": format!("/change/{id}"),
        "Status": if in_sync { "INSYNC" } else { "PENDING" },
        "SubmittedAt": time::seconds(Timestamp(at)),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Get {
    id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: Get = input.read()?;
    let id = asked.id.strip_prefix("/change/").unwrap_or(&asked.id);
    let ours = id.strip_prefix('C').is_some_and(|rest| {
        rest.len() == 23 && rest.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    });
    if !ours {
        return Err(Error::new("NoSuchChange", format!("Could not find resource with ID: {id}")));
    }
    Ok(json!({ "ChangeInfo": info(call, id) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    hosted_zone_id: String,
    change_batch: Batch,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    comment: Option<String>,
    changes: Vec<One>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    action: String,
    resource_record_set: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    name: String,
    r#type: String,
    set_identifier: Option<String>,
    weight: Option<u8>,
    multi_value_answer: Option<bool>,
    failover: Option<String>,
    health_check_id: Option<String>,
    #[serde(rename = "TTL")]
    ttl: Option<u64>,
    #[serde(default)]
    resource_records: Vec<Record>,
    alias_target: Option<Alias>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alias {
    hosted_zone_id: String,
    #[serde(rename = "DNSName")]
    dns_name: String,
    evaluate_target_health: bool,
}

/// Changes of one batch, AWS's limit of resource record elements.
const MOST_CHANGES: usize = 1000;

pub(super) async fn change(call: &Call, input: Input) -> Outcome {
    let asked: Change = input.read()?;
    if asked.change_batch.changes.len() > MOST_CHANGES {
        let message = format!("[Number of records limit of {MOST_CHANGES} exceeded.]");
        return Err(Error::new("InvalidChangeBatch", message));
    }
    let comment = asked.change_batch.comment;
    let (account, domain) = (call.account(), &call.api.domain);
    let regions = std::iter::once(&account.region).chain(&account.others);
    let apex = |region: &String| format!("{region}.elb.{domain}").to_ascii_lowercase();
    let balancers: Vec<String> = regions.map(apex).collect();
    let (id, changes) = (asked.hosted_zone_id, asked.change_batch.changes);
    let change = move |tx: &mut Tx<'_>| {
        let zone = zone::find(tx.state(), &id)?.clone();
        for one in changes.iter().filter(|one| one.action != "DELETE") {
            if let Some(id) = &one.resource_record_set.health_check_id {
                health_check::find(tx.state(), id)?;
            }
        }
        let mut problems = Vec::new();
        for one in &changes {
            let outcome = one.resource_record_set.read(&zone, &balancers);
            if let Err(problem) = outcome.and_then(|row| apply(tx, &zone, &one.action, row)) {
                problems.push(problem);
            }
        }
        problems.extend(alias_problems(tx, &zone, &balancers));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::new("InvalidChangeBatch", format!("[{}]", problems.join(", "))))
        }
    };
    let generation = call.api.store.update(change).await?.generation;
    let mut info = info(call, &change_id(call, generation));
    info["Comment"] = json!(comment);
    Ok(json!({ "ChangeInfo": info }))
}

fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Written {
    /// The row that is asked for.
    fn read(&self, zone: &HostedZone, balancers: &[String]) -> Result<RecordSet, String> {
        let name = name(&self.name);
        let (full, apex) = (shown(&name), shown(&zone.name));
        if DnsName::parse(&name).is_none() {
            return Err(format!("{full} is no DNS name"));
        }
        if !is_below(&name, &zone.name) {
            return Err(format!("RRSet with DNS name {full} is not permitted in zone {apex}"));
        }
        if name == zone.name && matches!(self.r#type.as_str(), "NS" | "SOA") {
            return Err(format!("the {} record set of zone {apex} is its own", self.r#type));
        }
        let kind: RecordKind = self
            .r#type
            .parse()
            .map_err(|_| format!("type {} is not supported here", self.r#type))?;
        if name == zone.name && kind == RecordKind::Cname {
            return Err(format!(
                "RRSet of type CNAME with DNS name {full} is not permitted at apex in zone {apex}"
            ));
        }
        let routing = self.routing(&full, kind)?;
        let alias = self.alias(balancers, zone)?;
        let values: Vec<String> =
            self.resource_records.iter().map(|record| record.value.clone()).collect();
        if alias.is_some() != values.is_empty() || alias.is_some() == self.ttl.is_some() {
            return Err(format!(
                "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and \
                 ResourceRecords]] in RRSet with DNS name {full}"
            ));
        }
        for text in &values {
            check_value(kind, text)?;
        }
        let health_check: Option<NameCheckId> = self.health_check_id.as_deref().map(Into::into);
        let checked = health_check.is_some()
            || alias.as_ref().is_some_and(|alias| alias.evaluate_target_health);
        if routing == (RecordRouting::Failover { primary: true }) && !checked {
            return Err(format!(
                "RRSet with DNS name {full}, type {}: a primary failover record needs a health \
                 check, or an alias that evaluates its target's health",
                self.r#type
            ));
        }
        let single = matches!(routing, RecordRouting::Weighted(_)) || kind == RecordKind::Cname;
        if values.len() > 1 && single {
            return Err(format!("RRSet with DNS name {full}, type {} has one value", self.r#type));
        }
        let key =
            RecordSetKey { zone: zone.id.clone(), name, kind, set: self.set_identifier.clone() };
        let ttl = self.ttl.map(Duration::from_secs);
        Ok(RecordSet { key, ttl, values, routing, alias, health_check })
    }

    fn routing(&self, full: &str, kind: RecordKind) -> Result<RecordRouting, String> {
        let multivalue = self.multi_value_answer == Some(true);
        if let Some(failover) = &self.failover {
            return match (self.weight, multivalue, &self.set_identifier) {
                (None, false, Some(_)) => {
                    Ok(RecordRouting::Failover { primary: failover == "PRIMARY" })
                }
                (_, _, None) => Err(format!("RRSet with DNS name {full} needs a SetIdentifier")),
                _ => Err(format!("RRSet with DNS name {full} has more than one routing policy")),
            };
        }
        match (self.weight, multivalue, &self.set_identifier) {
            (None, false, None) => Ok(RecordRouting::Simple),
            (Some(weight), false, Some(_)) => Ok(RecordRouting::Weighted(weight)),
            (None, true, Some(_)) if kind != RecordKind::Cname && self.alias_target.is_none() => {
                Ok(RecordRouting::Multivalue)
            }
            (Some(_), true, _) => {
                Err(format!("RRSet with DNS name {full} has more than one routing policy"))
            }
            (None, true, Some(_)) => {
                Err(format!("RRSet with DNS name {full} cannot be a multivalue answer"))
            }
            (_, _, None) => Err(format!("RRSet with DNS name {full} needs a SetIdentifier")),
            (None, false, Some(_)) => {
                Err(format!("RRSet with DNS name {full} has a SetIdentifier and no routing policy"))
            }
        }
    }

    fn alias(
        &self,
        balancers: &[String],
        zone: &HostedZone,
    ) -> Result<Option<AliasTarget>, String> {
        let Some(alias) = &self.alias_target else { return Ok(None) };
        let target = name(&alias.dns_name);
        let in_zone = is_below(&target, &zone.name) && alias.hosted_zone_id == zone.id.as_str();
        let is_balancer = balancers.iter().any(|apex| is_below(&target, apex));
        if DnsName::parse(&target).is_none() || !(in_zone || is_balancer) {
            return Err(format!(
                "Tried to create an alias that targets {}, type {} in zone {}, but the alias \
                 target name does not lie within the target zone",
                shown(&target),
                self.r#type,
                alias.hosted_zone_id
            ));
        }
        Ok(Some(AliasTarget {
            zone: alias.hosted_zone_id.clone(),
            name: target,
            evaluate_target_health: alias.evaluate_target_health,
        }))
    }
}

fn check_value(kind: RecordKind, text: &str) -> Result<(), String> {
    let data = RecordData::parse(kind, text);
    let names = match &data {
        Some(
            RecordData::Name(name) | RecordData::Mx { name, .. } | RecordData::Srv { name, .. },
        ) => DnsName::parse(name).is_some(),
        Some(_) => true,
        None => false,
    };
    if names {
        Ok(())
    } else {
        Err(format!("Invalid Resource Record: {text:?} is no {} value", kind.as_str()))
    }
}

fn described(row: &RecordSet) -> String {
    let set = row.key.set.as_ref().map(|set| format!(", set-identifier='{set}'"));
    let (name, kind) = (shown(&row.key.name), row.key.kind.as_str());
    format!("[name='{name}', type='{kind}'{}]", set.unwrap_or_default())
}

fn apply(tx: &mut Tx<'_>, zone: &HostedZone, action: &str, row: RecordSet) -> Result<(), String> {
    let old = tx.state().record_sets.get(&row.key);
    match (action, old) {
        ("CREATE", Some(_)) => {
            let what = described(&row);
            return Err(format!(
                "Tried to create resource record set {what} but it already exists"
            ));
        }
        ("DELETE", None) => {
            let what = described(&row);
            return Err(format!("Tried to delete resource record set {what} but it was not found"));
        }
        ("DELETE", Some(old)) if **old != row => {
            let what = described(&row);
            return Err(format!(
                "Tried to delete resource record set {what} but the values provided do not match \
                 the current values"
            ));
        }
        ("DELETE", Some(_)) => {
            tx.remove(Key::RecordSet(row.key));
            return Ok(());
        }
        _ => {}
    }
    let (full, apex) = (shown(&row.key.name), shown(&zone.name));
    let kind = row.key.kind;
    let same_name = tx.state().record_sets_at(&row.key.zone, &row.key.name);
    for other in same_name.filter(|other| other.key != row.key) {
        let cname = [kind, other.key.kind].contains(&RecordKind::Cname);
        if cname && kind != other.key.kind {
            return Err(format!(
                "RRSet of type {} with DNS name {full} is not permitted as it conflicts with other \
                 records with the same DNS name in zone {apex}",
                kind.as_str()
            ));
        }
        let policies =
            std::mem::discriminant(&row.routing) == std::mem::discriminant(&other.routing);
        let twin =
            matches!(row.routing, RecordRouting::Failover { .. }) && row.routing == other.routing;
        if kind == other.key.kind && twin {
            return Err(format!(
                "RRSet with DNS name {full}, type {} has such a failover record already",
                kind.as_str()
            ));
        }
        if kind == other.key.kind && !policies {
            return Err(format!(
                "RRSet with DNS name {full}, type {} has another routing policy already",
                kind.as_str()
            ));
        }
    }
    tx.put(row);
    Ok(())
}

/// Aliases whose target the batch leaves without a record set of their type.
fn alias_problems(tx: &Tx<'_>, zone: &HostedZone, balancers: &[String]) -> Vec<String> {
    let state = tx.state();
    let lost = |row: &&RecordSet| {
        row.alias.as_ref().is_some_and(|alias| {
            !balancers.iter().any(|apex| is_below(&alias.name, apex))
                && !state
                    .record_sets_at(&zone.id, &alias.name)
                    .any(|to| to.key.kind == row.key.kind)
        })
    };
    let problem = |row: &RecordSet| {
        let target = row.alias.as_ref().map(|alias| shown(&alias.name)).unwrap_or_default();
        format!(
            "Tried to create an alias that targets {target}, type {} in zone {}, but that target \
             was not found",
            row.key.kind.as_str(),
            zone.id
        )
    };
    state.record_sets_of(&zone.id).filter(lost).map(problem).collect()
}
