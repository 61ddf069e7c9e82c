//! Health checks, which records name.
//!
//! Not here: probing (`health`), what an unhealthy record loses (`zone`). **Invariant:** a
//! calculated check's children are no calculated checks, so that none follows from itself.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::page::page;
use super::super::tags;
use super::super::wire::time;
use super::{PAGE, most};
use crate::clock::Timestamp;
use crate::model::{
    Account, AlarmName, NAME_CHECK_FAILURES, NAME_CHECK_INTERVAL, NameCheck, NameCheckId,
    NameEndpoint, NameProtocol, NameSubject, WithoutData, uuid,
};
use crate::state::{Key, State, Tx};

/// Health checks in all (ours; Route 53's quota is 200 and may be raised).
const MOST: usize = 1000;

pub(super) fn find<'a>(state: &'a State, id: &str) -> Result<&'a NameCheck, Error> {
    let row = state.name_checks.get(&NameCheckId::from(id)).map(AsRef::as_ref);
    row.ok_or_else(|| no_such(id))
}

pub(super) fn no_such(id: &str) -> Error {
    Error::new("NoSuchHealthCheck", format!("A health check with id {id} does not exist."))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    caller_reference: String,
    health_check_config: Config,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    r#type: String,
    #[serde(rename = "IPAddress")]
    address: Option<String>,
    port: Option<u16>,
    resource_path: Option<String>,
    fully_qualified_domain_name: Option<String>,
    search_string: Option<String>,
    request_interval: Option<u64>,
    failure_threshold: Option<u32>,
    measure_latency: Option<bool>,
    inverted: Option<bool>,
    disabled: Option<bool>,
    health_threshold: Option<u32>,
    child_health_checks: Option<Vec<String>>,
    #[serde(rename = "EnableSNI")]
    server_name: Option<bool>,
    regions: Option<Vec<String>>,
    alarm_identifier: Option<AlarmGiven>,
    insufficient_data_health_status: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AlarmGiven {
    region: String,
    name: String,
}

impl Config {
    /// Members that belong to checks of other kinds.
    fn strange(&self) -> Option<&'static str> {
        let of_endpoint = [
            ("IPAddress", self.address.is_some()),
            ("Port", self.port.is_some()),
            ("FullyQualifiedDomainName", self.fully_qualified_domain_name.is_some()),
            ("RequestInterval", self.request_interval.is_some()),
            ("FailureThreshold", self.failure_threshold.is_some()),
            ("MeasureLatency", self.measure_latency.is_some()),
            ("Regions", self.regions.is_some()),
        ];
        let of_http = [
            ("ResourcePath", self.resource_path.is_some()),
            ("EnableSNI", self.server_name.is_some()),
        ];
        let of_search = [("SearchString", self.search_string.is_some())];
        let of_calculated = [
            ("HealthThreshold", self.health_threshold.is_some()),
            ("ChildHealthChecks", self.child_health_checks.is_some()),
        ];
        let of_alarm = [
            ("AlarmIdentifier", self.alarm_identifier.is_some()),
            ("InsufficientDataHealthStatus", self.insufficient_data_health_status.is_some()),
        ];
        let kind = self.r#type.as_str();
        let is_derived = matches!(kind, "CALCULATED" | "CLOUDWATCH_METRIC");
        let foreign = [
            (is_derived, &of_endpoint[..]),
            (is_derived || kind == "TCP", &of_http[..]),
            (!kind.ends_with("_STR_MATCH"), &of_search[..]),
            (kind != "CALCULATED", &of_calculated[..]),
            (kind != "CLOUDWATCH_METRIC", &of_alarm[..]),
        ];
        let given = foreign.into_iter().filter(|(is, _)| *is).flat_map(|(_, members)| members);
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    /// What is looked at.
    fn subject(&self, account: &Account, state: &State) -> Result<NameSubject, Error> {
        if let Some(name) = self.strange() {
            let kind = &self.r#type;
            return Err(Error::invalid(format!("{name} does not apply to checks of type {kind}")));
        }
        let needed = |name: &str| Error::invalid(format!("{name} is required"));
        match self.r#type.as_str() {
            "CALCULATED" => {
                let children = self.child_health_checks.clone().unwrap_or_default();
                let threshold = self.health_threshold.ok_or_else(|| needed("HealthThreshold"))?;
                let children: Vec<NameCheckId> =
                    children.iter().map(|id| id.as_str().into()).collect();
                for id in &children {
                    let child = state.name_checks.get(id).ok_or_else(|| {
                        Error::invalid(format!("the child health check {id} does not exist"))
                    })?;
                    if matches!(child.subject, NameSubject::Calculated { .. }) {
                        return Err(Error::invalid(format!("the child {id} is calculated itself")));
                    }
                }
                Ok(NameSubject::Calculated { children, threshold })
            }
            "CLOUDWATCH_METRIC" => {
                let alarm = self.alarm_identifier.as_ref();
                let alarm = alarm.ok_or_else(|| needed("AlarmIdentifier"))?;
                let missing = || Error::invalid(format!("there is no alarm {}", alarm.name));
                // With one region every region's name stands for it.
                let place = account.visited(&alarm.region);
                let place = place.or_else(|| account.others.is_empty().then(|| account.clone()));
                let name = AlarmName::within(place.ok_or_else(missing)?.place(), &alarm.name);
                if !state.alarms.contains_key(&name) {
                    return Err(missing());
                }
                let text = self.insufficient_data_health_status.as_deref();
                let without = WithoutData::ALL.into_iter().find(|one| Some(one.as_str()) == text);
                Ok(NameSubject::Alarm {
                    name,
                    region: alarm.region.clone(),
                    without_data: without.unwrap_or_default(),
                })
            }
            "RECOVERY_CONTROL" => {
                Err(Error::unsupported("routing controls are not supported here"))
            }
            _ => self.endpoint().map(NameSubject::Endpoint),
        }
    }

    fn endpoint(&self) -> Result<NameEndpoint, Error> {
        let address = self.address.as_deref().map(str::parse::<IpAddr>).transpose();
        let address = address.map_err(|_| Error::invalid("IPAddress is no address"))?;
        let domain = self.fully_qualified_domain_name.clone();
        if address.is_none() && domain.as_ref().is_none_or(String::is_empty) {
            let text = "IPAddress or FullyQualifiedDomainName is required";
            return Err(Error::invalid(text));
        }
        let good = |domain: &String| domain.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if domain.as_ref().is_some_and(|domain| !good(domain)) {
            return Err(Error::invalid("FullyQualifiedDomainName is no domain name"));
        }
        let (protocol, usual) = match self.r#type.split('_').next() {
            Some("HTTPS") => (NameProtocol::Https, Some(443)),
            Some("TCP") => (NameProtocol::Tcp, None),
            _ => (NameProtocol::Http, Some(80)),
        };
        let port = self.port.or(usual).ok_or_else(|| Error::invalid("Port is required"))?;
        let is_search = self.r#type.ends_with("_STR_MATCH");
        if is_search != self.search_string.as_ref().is_some_and(|text| !text.is_empty()) {
            return Err(Error::invalid("SearchString is required"));
        }
        let interval = match self.request_interval {
            None => NAME_CHECK_INTERVAL,
            Some(seconds @ (10 | 30)) => Duration::from_secs(seconds),
            Some(_) => return Err(Error::invalid("RequestInterval must be 10 or 30")),
        };
        let path = self.resource_path.clone().filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| "/".to_owned());
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("ResourcePath has a character that no path has"));
        }
        Ok(NameEndpoint {
            protocol,
            address,
            port,
            domain,
            path,
            search: self.search_string.clone(),
            interval,
            threshold: self.failure_threshold.unwrap_or(NAME_CHECK_FAILURES),
            server_name: self.server_name.unwrap_or(protocol == NameProtocol::Https),
        })
    }

    /// A row's, as it was given or by default.
    fn of(row: &NameCheck) -> Self {
        let mut config = Self {
            r#type: kind(&row.subject).to_owned(),
            inverted: Some(row.inverted),
            disabled: Some(row.disabled),
            ..Self::default()
        };
        match &row.subject {
            NameSubject::Endpoint(endpoint) => {
                let is_http = endpoint.protocol != NameProtocol::Tcp;
                config.address = endpoint.address.map(|address| address.to_string());
                config.port = Some(endpoint.port);
                config.resource_path = is_http.then(|| endpoint.path.clone());
                config.fully_qualified_domain_name = endpoint.domain.clone();
                config.search_string = endpoint.search.clone();
                config.request_interval = Some(endpoint.interval.as_secs());
                config.failure_threshold = Some(endpoint.threshold);
                config.measure_latency = Some(row.measure_latency);
                config.server_name = is_http.then_some(endpoint.server_name);
                config.regions = Some(row.regions.clone()).filter(|all| !all.is_empty());
            }
            NameSubject::Calculated { children, threshold } => {
                let ids = children.iter().map(ToString::to_string).collect();
                config.child_health_checks = Some(ids);
                config.health_threshold = Some(*threshold);
            }
            NameSubject::Alarm { name, region, without_data } => {
                let (name, region) = (name.to_string(), region.clone());
                config.alarm_identifier = Some(AlarmGiven { region, name });
                config.insufficient_data_health_status = Some(without_data.as_str().to_owned());
            }
        }
        config
    }
}

const fn kind(subject: &NameSubject) -> &'static str {
    match subject {
        NameSubject::Calculated { .. } => "CALCULATED",
        NameSubject::Alarm { .. } => "CLOUDWATCH_METRIC",
        NameSubject::Endpoint(endpoint) => match (endpoint.protocol, endpoint.search.is_some()) {
            (NameProtocol::Http, false) => "HTTP",
            (NameProtocol::Http, true) => "HTTP_STR_MATCH",
            (NameProtocol::Https, false) => "HTTPS",
            (NameProtocol::Https, true) => "HTTPS_STR_MATCH",
            (NameProtocol::Tcp, _) => "TCP",
        },
    }
}

fn shown(state: &State, row: &NameCheck) -> Value {
    let alarm = match &row.subject {
        NameSubject::Alarm { name, .. } => state.alarms.get(name),
        _ => None,
    };
    let alarm = alarm.map(|alarm| {
        let rule = &alarm.rule;
        let dimensions = rule.metric.dimensions.iter();
        let dimensions: Vec<_> =
            dimensions.map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        json!({
            "EvaluationPeriods": rule.periods,
            "Threshold": rule.threshold,
            "ComparisonOperator": rule.comparison.as_str(),
            "Period": rule.period,
            "MetricName": rule.metric.name,
            "Namespace": rule.metric.namespace,
            "Statistic": rule.statistic.as_str(),
            "Dimensions": dimensions,
        })
    });
    json!({
        "Id": row.id.as_str(),
        "CallerReference": row.caller_reference,
        "HealthCheckConfig": json!(Config::of(row)),
        "HealthCheckVersion": row.version,
        "CloudWatchAlarmConfiguration": alarm,
    })
}

/// The row that a configuration means.
fn row(
    account: &Account,
    state: &State,
    old: NameCheck,
    config: &Config,
) -> Result<NameCheck, Error> {
    Ok(NameCheck {
        subject: config.subject(account, state)?,
        inverted: config.inverted.unwrap_or_default(),
        disabled: config.disabled.unwrap_or_default(),
        regions: config.regions.clone().unwrap_or_default(),
        measure_latency: config.measure_latency.unwrap_or_default(),
        ..old
    })
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let id = NameCheckId::new(uuid(&mut fastrand::Rng::new()));
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let reference = asked.caller_reference;
        let subject = asked.health_check_config.subject(&account, tx.state())?;
        let fresh = NameCheck::new(id, &reference, subject);
        let made = row(&account, tx.state(), fresh, &asked.health_check_config)?;
        let mut known = tx.state().name_checks.values();
        if let Some(old) = known.find(|old| old.caller_reference == reference) {
            let same = NameCheck { id: old.id.clone(), version: old.version, ..made };
            return if same == **old {
                Ok(same)
            } else {
                let text = "a health check with this caller reference and other settings exists";
                Err(Error::new("HealthCheckAlreadyExists", text))
            };
        }
        if tx.state().name_checks.len() >= MOST {
            let text = format!("there can be {MOST} health checks");
            return Err(Error::new("TooManyHealthChecks", text));
        }
        tx.put(made.clone());
        Ok(made)
    };
    let made = call.api.store.update(change).await?.value;
    Ok(json!({
        "HealthCheck": shown(&call.state(), &made),
        "Location": format!("/2013-04-01/healthcheck/{}", made.id),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ById {
    health_check_id: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let state = call.state();
    Ok(json!({ "HealthCheck": shown(&state, find(&state, &asked.health_check_id)?) }))
}

pub(super) fn count(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    struct Nothing {}
    let Nothing {} = input.read()?;
    Ok(json!({ "HealthCheckCount": call.state().name_checks.len() }))
}

/// One checker looks, from here; Route 53 has them in eight regions.
fn observed(found: Option<(String, Timestamp)>) -> Value {
    let observation = found.map(|(text, at)| {
        json!({ "StatusReport": { "Status": text, "CheckedTime": time::seconds(at) } })
    });
    json!({ "HealthCheckObservations": observation.into_iter().collect::<Vec<_>>() })
}

pub(super) fn status(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let state = call.state();
    let id = &find(&state, &asked.health_check_id)?.id;
    Ok(observed(state.name_statuses.get(id).map(|row| (row.text.clone(), row.at))))
}

pub(super) fn last_failure(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let state = call.state();
    let id = &find(&state, &asked.health_check_id)?.id;
    Ok(observed(state.name_statuses.get(id).and_then(|row| row.failure.clone())))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    health_check_id: String,
    health_check_version: Option<u64>,
    #[serde(default)]
    reset_elements: Vec<String>,
    /// Members of the configuration, to be read as such.
    #[serde(flatten)]
    given: Map<String, Value>,
}

impl Update {
    /// The members of the new configuration: what is left out stays as it is.
    fn over(&self, old: &Config) -> Value {
        let mut members = json!(old);
        for (name, value) in &self.given {
            members[name] = value.clone();
        }
        for name in &self.reset_elements {
            match name.as_str() {
                "ChildHealthChecks" if !members[name].is_null() => members[name] = json!([]),
                name => members[name] = Value::Null,
            }
        }
        members
    }
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let Input { operation, accepted, .. } = input;
    let asked: Update = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let old = find(tx.state(), &asked.health_check_id)?.clone();
        if asked.health_check_version.is_some_and(|version| version != old.version) {
            let text = format!("the health check's version is {}", old.version);
            return Err(Error::new("HealthCheckVersionMismatch", text));
        }
        let value = asked.over(&Config::of(&old));
        let config: Config = Input { operation, value, accepted }.read()?;
        let changed =
            row(&account, tx.state(), NameCheck { version: old.version + 1, ..old }, &config)?;
        tx.put(changed.clone());
        Ok(changed)
    };
    let changed = call.api.store.update(change).await?.value;
    Ok(json!({ "HealthCheck": shown(&call.state(), &changed) }))
}

/// Records that name it are answered from then on as if it were healthy.
pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: ById = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let id = find(tx.state(), &asked.health_check_id)?.id.clone();
        tags::forget(tx, &super::tagging::check_arn(&account, &id));
        tx.remove(Key::NameStatus(id.clone()));
        tx.remove(Key::NameCheck(id));
        Ok::<_, Error>(())
    };
    call.done(change).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    marker: Option<String>,
    max_items: Option<String>,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let state = call.state();
    let limit = most(asked.max_items.as_deref(), PAGE)?;
    let (rows, marker) = (state.name_checks.values(), asked.marker.as_deref());
    let (rows, next) = page(rows, |row| row.id.to_string(), marker, limit)
        .map_err(|_| Error::invalid("Marker is not valid"))?;
    Ok(json!({
        "HealthChecks": rows.iter().map(|row| shown(&state, row)).collect::<Vec<_>>(),
        "Marker": asked.marker.unwrap_or_default(),
        "IsTruncated": next.is_some(),
        "NextMarker": next,
        "MaxItems": limit.to_string(),
    }))
}
