//! Record sets as they are listed, and what a query would get.
//!
//! **Invariant:** what [`test`] says comes from the zones that DNS answers from.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::{most, name, shown, zone};
use crate::model::{NameCheckId, RecordKind, RecordRouting, RecordSet};
use crate::zone::{Answer, Data, DnsName, RecordType, Value};

/// Route 53's most record sets of a page.
const MOST: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    hosted_zone_id: String,
    start_record_name: Option<String>,
    start_record_type: Option<String>,
    start_record_identifier: Option<String>,
    max_items: Option<String>,
}

/// One set of a listing: what it is sorted by, and how it is shown.
struct Listed {
    name: String,
    kind: String,
    set: String,
    shown: Json,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    if asked.start_record_type.is_some() && asked.start_record_name.is_none() {
        return Err(Error::invalid("StartRecordType needs StartRecordName"));
    }
    let limit = most(asked.max_items.as_deref(), MOST)?;
    let state = call.state();
    let zone = zone::find(&state, &asked.hosted_zone_id)?;
    let mut all: Vec<Listed> = state.record_sets_of(&zone.id).map(listed).collect();
    for kind in [RecordType::Ns, RecordType::Soa] {
        all.extend(own(call, &zone.name, kind));
    }
    let key = |name: &str, kind: &str, set: &str| {
        let labels: Vec<String> = zone::order(name).into_iter().map(str::to_owned).collect();
        (labels, kind.to_owned(), set.to_owned())
    };
    all.sort_by_cached_key(|set| key(&set.name, &set.kind, &set.set));
    if let Some(start) = asked.start_record_name.as_deref().map(name) {
        let kind = asked.start_record_type.as_deref().unwrap_or_default();
        let set = asked.start_record_identifier.as_deref().unwrap_or_default();
        let from = key(&start, kind, set);
        all.retain(|set| key(&set.name, &set.kind, &set.set) >= from);
    }
    let next = if all.len() > limit { all.drain(limit..).next() } else { None };
    Ok(json!({
        "ResourceRecordSets": all.into_iter().map(|set| set.shown).collect::<Vec<_>>(),
        "IsTruncated": next.is_some(),
        "NextRecordName": next.as_ref().map(|set| shown(&set.name)),
        "NextRecordType": next.as_ref().map(|set| set.kind.as_str()),
        "NextRecordIdentifier": next.as_ref().map(|s| s.set.as_str()).filter(|s| !s.is_empty()),
        "MaxItems": limit.to_string(),
    }))
}

fn listed(row: &RecordSet) -> Listed {
    let values: Vec<_> = row.values.iter().map(|text| json!({ "Value": text })).collect();
    let weight = match row.routing {
        RecordRouting::Weighted(weight) => Some(weight),
        _ => None,
    };
    let alias = row.alias.as_ref().map(|alias| {
        json!({
            "HostedZoneId": alias.zone,
            "DNSName": shown(&name(&alias.name)),
            "EvaluateTargetHealth": alias.evaluate_target_health,
        })
    });
    Listed {
        name: row.key.name.clone(),
        kind: row.key.kind.as_str().to_owned(),
        set: row.key.set.clone().unwrap_or_default(),
        shown: json!({
            "Name": shown(&row.key.name),
            "Type": row.key.kind.as_str(),
            "SetIdentifier": row.key.set,
            "Weight": weight,
            "Failover": match row.routing {
                RecordRouting::Failover { primary: true } => Some("PRIMARY"),
                RecordRouting::Failover { primary: false } => Some("SECONDARY"),
                _ => None,
            },
            "HealthCheckId": row.health_check.as_ref().map(NameCheckId::as_str),
            "MultiValueAnswer": (row.routing == RecordRouting::Multivalue).then_some(true),
            "TTL": row.ttl.map(|ttl| ttl.as_secs()),
            "ResourceRecords": Some(values).filter(|values| !values.is_empty()),
            "AliasTarget": alias,
        }),
    }
}

/// A zone's own record set, as DNS answers it. None until the zone is published.
fn own(call: &Call, apex: &str, kind: RecordType) -> Option<Listed> {
    let routing = call.api.reader.load();
    let apex_name = DnsName::parse(apex)?;
    let mut rng = fastrand::Rng::new();
    let Answer::Records { answers, .. } = routing.zones.lookup(apex_name.wire(), kind, &mut rng)
    else {
        return None;
    };
    let ttl = answers.first()?.ttl;
    let kind = if kind == RecordType::Ns { "NS" } else { "SOA" };
    let values: Vec<_> = answers.iter().map(|r| json!({ "Value": text(r.data) })).collect();
    let shown = json!({ "Name": shown(apex), "Type": kind, "TTL": ttl, "ResourceRecords": values });
    Some(Listed { name: apex.to_owned(), kind: kind.to_owned(), set: String::new(), shown })
}

/// Data as zone files have it.
fn text(data: Data<'_>) -> String {
    match data {
        Data::Address(address) => address.to_string(),
        Data::Srv { port, target } => format!("1 1 {port} {target}."),
        Data::Soa(zone) => {
            let (refresh, retry, expire) = crate::zone::SOA_TIMES;
            format!(
                "{}. {}. {} {refresh} {retry} {expire} {}",
                zone.primary, zone.mailbox, zone.serial, zone.negative_ttl
            )
        }
        Data::Ns(name) | Data::Cname(name) => format!("{name}."),
        Data::Minimal => String::new(),
        Data::Value(value) => value_text(value),
    }
}

fn value_text(value: &Value) -> String {
    let quoted = |bytes: &[u8]| format!("\"{}\"", bytes.escape_ascii());
    match value {
        Value::Address(address) => address.to_string(),
        Value::Cname(name) | Value::Ns(name) | Value::Ptr(name) => format!("{name}."),
        Value::Mx { preference, name } => format!("{preference} {name}."),
        Value::Srv { priority, weight, port, name } => {
            format!("{priority} {weight} {port} {name}.")
        }
        Value::Txt(strings) => {
            strings.iter().map(|bytes| quoted(bytes)).collect::<Vec<_>>().join(" ")
        }
        Value::Caa { flags, tag, value } => format!("{flags} {tag} {}", quoted(value)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Test {
    hosted_zone_id: String,
    record_name: String,
    record_type: String,
}

pub(super) fn test(call: &Call, input: Input) -> Outcome {
    let asked: Test = input.read()?;
    let state = call.state();
    let zone = zone::find(&state, &asked.hosted_zone_id)?;
    let apex = DnsName::parse(&zone.name);
    let wanted = DnsName::parse(&name(&asked.record_name))
        .ok_or_else(|| Error::invalid(format!("{:?} is no DNS name", asked.record_name)))?;
    let inside = apex.is_some_and(|apex| wanted.wire().ends_with(apex.wire()));
    if !inside {
        return Err(Error::invalid(format!("{wanted} is not in the zone {}", zone.name)));
    }
    let kind = match asked.record_type.as_str() {
        "SOA" => RecordType::Soa,
        text => text.parse::<RecordKind>().map_or(RecordType::Other, RecordType::from),
    };
    let routing = call.api.reader.load();
    let answer = routing.zones.lookup(wanted.wire(), kind, &mut fastrand::Rng::new());
    let (code, data) = match &answer {
        Answer::Elsewhere => ("REFUSED", Vec::new()),
        Answer::NoName(_) => ("NXDOMAIN", Vec::new()),
        Answer::NoData(_) => ("NOERROR", Vec::new()),
        Answer::Records { answers, denied, .. } => {
            let code =
                if denied.is_some_and(|denied| !denied.exists) { "NXDOMAIN" } else { "NOERROR" };
            (code, answers.iter().map(|record| text(record.data)).collect())
        }
    };
    Ok(json!({
        "Nameserver": format!("ns.dns.{}", zone.name),
        "RecordName": shown(&wanted.to_string()),
        "RecordType": asked.record_type,
        "RecordData": data,
        "ResponseCode": code,
        "Protocol": "UDP",
    }))
}
