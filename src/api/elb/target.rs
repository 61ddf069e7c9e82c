//! Targets: registered, drained, and how they are.
//!
//! **Invariant:** a target is written here as a registration only; what it is worth is `health`'s
//! to say.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, change};
use super::limits::MOST_TARGETS;
use super::target_group::balancers;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::balance::anomaly::Share;
use crate::clock::Timestamp;
use crate::model::{Owner, Registration, Target, TargetGroup, TargetReason, Verdict, VerdictState};
use crate::state::{State, Tx};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    target_group_arn: String,
    targets: Vec<Described>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    id: String,
    port: Option<u16>,
}

/// What a request calls a target; the group's port where it names none.
fn address(group: &TargetGroup, target: &Described) -> Result<SocketAddr, Error> {
    let id = &target.id;
    let address = id.parse::<IpAddr>().map_err(|_| {
        if group.options.instances {
            let message =
                format!("The instance '{id}' is not known here: register a target by its address");
            return Error::new("InvalidTargetException", message);
        }
        Error::invalid(format!("The IP address '{id}' is not a valid IP address"))
    })?;
    let family = address.is_ipv6() == group.options.ipv6;
    if !family || address.is_unspecified() || address.is_multicast() {
        let kind = if group.options.ipv6 { "IPv6" } else { "IPv4" };
        let message = format!("The IP address '{id}' is not a valid {kind} address of a target");
        return Err(Error::invalid(message));
    }
    Ok(SocketAddr::new(address, target.port.unwrap_or(group.port)))
}

fn addresses(group: &TargetGroup, targets: &[Described]) -> Result<Vec<SocketAddr>, Error> {
    if targets.is_empty() {
        return Err(Error::invalid("At least one target must be specified"));
    }
    targets.iter().map(|target| address(group, target)).collect()
}

/// One that is registered already stays as it is.
pub(super) async fn register(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    let (account, now) = (call.account().clone(), call.now);
    change(call, move |tx| {
        let group = find::target_group(tx.state(), &account, &asked.target_group_arn)?;
        for address in addresses(&group, &asked.targets)? {
            put(tx, &group, address, now);
        }
        if tx.state().targets_of_group(&group.name).filter(|t| t.is_active()).count() > MOST_TARGETS
        {
            let message = format!("The maximum number of targets is '{MOST_TARGETS}'");
            return Err(Error::new("TooManyTargetsException", message));
        }
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

fn put(tx: &mut Tx<'_>, group: &TargetGroup, address: SocketAddr, now: Timestamp) {
    if registered(tx.state(), group, address).is_some_and(Target::is_active) {
        return;
    }
    let id = tx.next_registration();
    tx.put(Target {
        id,
        group: group.name.clone(),
        address: address.ip(),
        port: address.port(),
        task: None,
        registration: Registration::Active,
        registered_at: now,
    });
}

/// The registration of an address; of several, the one that is not draining.
fn registered<'a>(
    state: &'a State,
    group: &TargetGroup,
    address: SocketAddr,
) -> Option<&'a Target> {
    let of = state.targets_of_group(&group.name).filter(|t| t.socket_address() == address);
    of.max_by_key(|target| (target.is_active(), target.id))
}

/// One that is not registered is no error.
pub(super) async fn deregister(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    let (account, now) = (call.account().clone(), call.now);
    change(call, move |tx| {
        let group = find::target_group(tx.state(), &account, &asked.target_group_arn)?;
        for address in addresses(&group, &asked.targets)? {
            let Some(target) = registered(tx.state(), &group, address) else { continue };
            if target.task.is_none()
                && group.owner == Owner::File
                && crate::api::file::wrote_target(tx.state(), target)
            {
                let message = format!(
                    "target {address} of target group {} belongs to the configuration file: \
                     change it there",
                    group.name
                );
                return Err(Error::unsupported(message));
            }
            if target.is_active() {
                let drained = Target {
                    registration: Registration::Draining { since: now },
                    ..target.clone()
                };
                tx.put(drained);
            }
        }
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(super) fn describe_health(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        target_group_arn: String,
        targets: Option<Vec<Described>>,
        include: Option<Vec<String>>,
    }
    let asked: Asked = input.read()?;
    let state = call.state();
    let group = find::target_group(&state, call.account(), &asked.target_group_arn)?;
    let used = !balancers(&state, &group).is_empty();
    let told = asked.include.is_some_and(|all| !all.is_empty()) && group.protocol.is_http();
    let routing = call.api.reader.load();
    let of = |address: SocketAddr| {
        let target = registered(&state, &group, address);
        let verdict = target.and_then(|target| state.verdict(target.id));
        let mut shown = shown(&group, address, &health(target, verdict, used));
        let endpoint = target.and_then(|target| routing.endpoints.get(&target.id));
        if let Some(endpoint) = endpoint.filter(|_| told) {
            shown["AnomalyDetection"] = anomaly(&endpoint.share);
        }
        shown
    };
    let mut all: Vec<SocketAddr> = match &asked.targets {
        Some(targets) => addresses(&group, targets)?,
        None => state.targets_of_group(&group.name).map(Target::socket_address).collect(),
    };
    all.sort_unstable();
    all.dedup();
    let shown: Vec<Value> = all.into_iter().map(of).collect();
    Ok(json!({"TargetHealthDescriptions": shown}))
}

fn anomaly(share: &Share) -> Value {
    json!({
        "Result": if share.is_anomalous() { "anomalous" } else { "normal" },
        "MitigationInEffect": if share.weight() < 1.0 { "yes" } else { "no" },
    })
}

fn shown(group: &TargetGroup, address: SocketAddr, health: &Value) -> Value {
    let port = group.health_check.port.unwrap_or_else(|| address.port());
    json!({
        "Target": {"Id": address.ip().to_string(), "Port": address.port()},
        "HealthCheckPort": port.to_string(),
        "TargetHealth": health,
    })
}

fn say(state: &str, reason: &str, description: &str) -> Value {
    json!({"State": state, "Reason": reason, "Description": description})
}

/// State, reason and description, in the words of the API reference of `TargetHealth`.
fn health(target: Option<&Target>, verdict: Option<&Verdict>, used: bool) -> Value {
    let Some(target) = target else {
        let description = "Target is not registered to the target group";
        return say("unused", "Target.NotRegistered", description);
    };
    if !target.is_active() {
        let reason = TargetReason::DeregistrationInProgress.as_str();
        return say("draining", reason, "Target deregistration is in progress");
    }
    if !used {
        let description =
            "Target group is not configured to receive traffic from the load balancer";
        return say("unused", "Target.NotInUse", description);
    }
    let Some(verdict) = verdict else {
        let reason = TargetReason::RegistrationInProgress.as_str();
        return say("initial", reason, "Target registration is in progress");
    };
    match (verdict.state, verdict.reason) {
        (VerdictState::Healthy, _) => json!({"State": "healthy"}),
        (state, Some(reason)) => say(state.as_str(), reason.as_str(), &verdict.description),
        (state, None) => json!({"State": state.as_str(), "Description": verdict.description}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::group_attributes::tests::group;
    use super::*;
    use crate::balance::anomaly::Standing;
    use crate::model::{Protocol, RegistrationId};

    fn check(registration: Option<Registration>, verdict: Option<VerdictState>, expected: &str) {
        let target = registration.map(|registration| Target {
            id: RegistrationId(1),
            group: "web".into(),
            address: [127, 0, 0, 1].into(),
            port: 80,
            task: None,
            registration,
            registered_at: Timestamp(0),
        });
        let verdict = verdict.map(|state| Verdict {
            target: RegistrationId(1),
            state,
            reason: (state == VerdictState::Unhealthy).then_some(TargetReason::Timeout),
            description: String::new(),
            since: Timestamp(0),
        });
        let of = |used| {
            let shown = health(target.as_ref(), verdict.as_ref(), used);
            let text = |name: &str| shown[name].as_str().unwrap_or("-").to_owned();
            format!("{} {}", text("State"), text("Reason"))
        };
        assert_eq!(format!("{}; {}", of(true), of(false)), expected);
    }

    #[test]
    fn health_is_told_in_elastic_load_balancings_words() {
        let (active, since) = (Some(Registration::Active), Timestamp(0));
        let draining = Some(Registration::Draining { since });
        let gone = "unused Target.NotRegistered; unused Target.NotRegistered";
        check(None, None, gone);
        let unused = "unused Target.NotInUse";
        check(active, None, &format!("initial Elb.RegistrationInProgress; {unused}"));
        check(active, Some(VerdictState::Healthy), &format!("healthy -; {unused}"));
        let timeout = format!("unhealthy Target.Timeout; {unused}");
        check(active, Some(VerdictState::Unhealthy), &timeout);
        let in_progress = "draining Target.DeregistrationInProgress";
        let both = format!("{in_progress}; {in_progress}");
        check(draining, Some(VerdictState::Healthy), &both);
    }

    #[test]
    fn anomalies_are_told() {
        let share = Share::default();
        let both = |share: &Share| {
            let told = anomaly(share);
            let word = |name: &str| told[name].as_str().unwrap().to_owned();
            [word("Result"), word("MitigationInEffect")]
        };
        assert_eq!(both(&share), ["normal", "no"]);
        let standing = Standing { is_anomalous: true, weight: 0.25, ..Standing::default() };
        assert!(share.set(&standing) && !share.set(&standing));
        assert_eq!(both(&share), ["anomalous", "yes"]);
    }

    #[test]
    fn a_target_is_an_address_of_its_groups_family() {
        let check = |id: &str, port: Option<u16>, expected: Result<&str, &str>| {
            let found = address(&group(Protocol::Http), &Described { id: id.to_owned(), port });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{id}: {found:?}"),
            }
        };
        check("10.0.0.7", None, Ok("10.0.0.7:80"));
        check("10.0.0.7", Some(8080), Ok("10.0.0.7:8080"));
        check("::1", None, Err("not a valid IPv4 address"));
        check("0.0.0.0", None, Err("not a valid IPv4 address"));
        check("i-0123", None, Err("not a valid IP address"));
    }
}
