//! Target groups: of addresses, speaking HTTP/1.1, HTTP/2, gRPC or TCP.
//!
//! Not here: their targets, their attributes' table, the parameters of their health checks.
//! **Invariant:** no other protocol and no other kind of target is taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::attributes::Given;
use super::find::{self, PAGE, change, marker, new_id, own};
use super::group_attributes::{TABLE, together};
use super::health_check;
use super::limits::MOST_TARGET_GROUPS;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::model::{
    Account, GroupOptions, LoadBalancerName, Owner, Protocol, ProtocolVersion, TargetGroup,
    TargetGroupName,
};
use crate::state::{Key, State, Tx};

/// What creating takes, and modifying a part of: the model lets nothing else through.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Asked {
    name: String,
    target_group_arn: String,
    protocol: Option<String>,
    protocol_version: Option<String>,
    port: Option<u16>,
    vpc_id: Option<String>,
    target_type: Option<String>,
    ip_address_type: Option<String>,
    tags: Option<Vec<Tag>>,
    pub(super) health_check_protocol: Option<String>,
    pub(super) health_check_port: Option<String>,
    pub(super) health_check_enabled: Option<bool>,
    pub(super) health_check_path: Option<String>,
    pub(super) health_check_interval_seconds: Option<u64>,
    pub(super) health_check_timeout_seconds: Option<u64>,
    pub(super) healthy_threshold_count: Option<u32>,
    pub(super) unhealthy_threshold_count: Option<u32>,
    pub(super) matcher: Option<Matcher>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Matcher {
    pub(super) http_code: Option<String>,
    pub(super) grpc_code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    target_group_arn: String,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    find::tag_map(asked.tags.as_ref())?;
    let made = meaning(call.place(), &asked)?;
    let account = call.account().clone();
    let made = change(call, move |tx| make(tx, &account, made, asked.tags)).await?;
    Ok(json!({"TargetGroups": [shown(&call.state(), call.account(), &made)]}))
}

fn meaning(place: &str, asked: &Asked) -> Result<TargetGroup, Error> {
    super::name("Target group", &asked.name)?;
    let instances = match asked.target_type.as_deref() {
        None | Some("instance") => true,
        Some("ip") => false,
        Some(other) => {
            let message =
                format!("Target type '{other}' is not supported here: targets are addresses");
            return Err(Error::unsupported(message));
        }
    };
    let protocol = match asked.protocol.as_deref() {
        None => return Err(Error::invalid("A protocol must be specified")),
        Some("HTTP") => Protocol::Http,
        Some("HTTPS") => Protocol::Https,
        Some("TCP") => Protocol::Tcp,
        Some(other) => {
            let message =
                format!("Protocol '{other}' is not supported here: HTTP, HTTPS and TCP are");
            return Err(Error::unsupported(message));
        }
    };
    let version = version(protocol, asked.protocol_version.as_deref())?;
    let port = asked.port.ok_or_else(|| Error::invalid("A port must be specified"))?;
    let name = TargetGroupName::within(place, &asked.name);
    Ok(TargetGroup {
        health_check: health_check::made(protocol, version, asked)?,
        options: GroupOptions {
            version,
            instances,
            ipv6: asked.ip_address_type.as_deref() == Some("ipv6"),
            network: asked.vpc_id.clone(),
            ..GroupOptions::default()
        },
        ..TargetGroup::new(name, new_id(), (protocol, port), Owner::Api)
    })
}

fn version(protocol: Protocol, asked: Option<&str>) -> Result<ProtocolVersion, Error> {
    let Some(asked) = asked else { return Ok(ProtocolVersion::Http1) };
    if !protocol.is_http() {
        let message = format!(
            "Protocol version cannot be specified for target groups of protocol {}",
            protocol.as_str()
        );
        return Err(Error::invalid(message));
    }
    let known = ProtocolVersion::ALL.into_iter().find(|version| version.as_str() == asked);
    known.ok_or_else(|| {
        let message = format!("Protocol version '{asked}' must be one of 'GRPC, HTTP1, HTTP2'");
        Error::invalid(message)
    })
}

fn make(
    tx: &mut Tx<'_>,
    account: &Account,
    made: TargetGroup,
    tags: Option<Vec<Tag>>,
) -> Result<TargetGroup, Error> {
    if let Some(known) = tx.state().target_groups.get(&made.name) {
        let arn = account.target_group(known);
        let same_tags = *tags::of(tx.state(), &arn) == find::tag_map(tags.as_ref())?;
        let asked_for = TargetGroup {
            id: known.id.clone(),
            deregistration_delay: known.deregistration_delay,
            options: GroupOptions {
                attributes: known.options.attributes.clone(),
                ..made.options.clone()
            },
            ..made
        };
        // The same call again succeeds.
        if **known == asked_for && same_tags {
            return Ok(asked_for);
        }
        let message = format!(
            "A target group with the same name '{}' exists, but with different settings",
            known.name
        );
        return Err(Error::new("DuplicateTargetGroupNameException", message));
    }
    let theirs = tx.state().target_groups.keys().filter(|own| own.region() == made.name.region());
    if theirs.count() >= MOST_TARGET_GROUPS {
        let message = format!("The maximum number of target groups is '{MOST_TARGET_GROUPS}'");
        return Err(Error::new("TooManyTargetGroupsException", message));
    }
    find::put_tags(tx, &account.target_group(&made), tags)?;
    tx.put(made.clone());
    Ok(made)
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: Option<String>,
        target_group_arns: Option<Vec<String>>,
        names: Option<Vec<String>>,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, account) = (call.state(), call.account());
    let mut rows: Vec<Arc<TargetGroup>> =
        match (&asked.load_balancer_arn, &asked.target_group_arns, &asked.names) {
            (None, None, None) => state.target_groups.values().cloned().collect(),
            (Some(arn), None, None) => {
                let lb = find::load_balancer(&state, account, arn)?;
                let of = |group: &&Arc<TargetGroup>| balancers(&state, group).contains(&lb.name);
                state.target_groups.values().filter(of).cloned().collect()
            }
            (None, Some(arns), None) => {
                let find = |arn: &String| find::target_group(&state, account, arn);
                arns.iter().map(find).collect::<Result<_, _>>()?
            }
            (None, None, Some(names)) => {
                let find = |name: &String| {
                    let found = find::group_by_name(&state, account, name).cloned();
                    found.ok_or_else(|| {
                        let message = format!("Target groups '[{name}]' not found");
                        Error::new("TargetGroupNotFoundException", message)
                    })
                };
                names.iter().map(find).collect::<Result<_, _>>()?
            }
            _ => {
                let message = "You can specify only one of: load balancer ARN, target group ARNs, \
                               target group names";
                return Err(Error::invalid(message));
            }
        };
    let key = |group: &Arc<TargetGroup>| group.name.to_string();
    rows.sort_by_key(key);
    let size = asked.page_size.unwrap_or(PAGE);
    let (rows, next) = page(rows, key, asked.marker.as_deref(), size).map_err(marker)?;
    let shown: Vec<Value> = rows.iter().map(|group| shown(&state, account, group)).collect();
    Ok(json!({"TargetGroups": shown, "NextMarker": next}))
}

/// The load balancers whose listeners forward or mirror to it.
pub(super) fn balancers(state: &State, group: &TargetGroup) -> BTreeSet<LoadBalancerName> {
    let forwards =
        |listener: &&Arc<crate::model::Listener>| listener.groups().any(|name| *name == group.name);
    let listeners = state.listeners.values().filter(forwards);
    listeners.map(|listener| listener.key.load_balancer.clone()).collect()
}

/// As the API shows it.
fn shown(state: &State, account: &Account, group: &TargetGroup) -> Value {
    let balancers = balancers(state, group);
    let balancers = balancers.iter().filter_map(|name| state.load_balancers.get(name));
    let arns: Vec<_> = balancers.map(|lb| account.load_balancer(lb).to_string()).collect();
    let mut shown = json!({
        "TargetGroupArn": account.target_group(group).to_string(),
        "TargetGroupName": group.name.as_str(),
        "Protocol": group.protocol.as_str(),
        "Port": group.port,
        "VpcId": group.options.network,
        "LoadBalancerArns": arns,
        "TargetType": if group.options.instances { "instance" } else { "ip" },
        "IpAddressType": if group.options.ipv6 { "ipv6" } else { "ipv4" },
    });
    if group.protocol.is_http() {
        shown["ProtocolVersion"] = json!(group.options.version.as_str());
    }
    health_check::shown(&group.health_check, &mut shown);
    shown
}

/// Changes one target group that the API owns.
async fn edit(
    call: &Call,
    arn: String,
    edit: impl FnOnce(&mut TargetGroup) -> Result<(), Error> + Send + 'static,
) -> Result<TargetGroup, Error> {
    let account = call.account().clone();
    change(call, move |tx| {
        let group = find::target_group(tx.state(), &account, &arn)?;
        own(group.owner, "target group", &group.name)?;
        let mut group = TargetGroup::clone(&group);
        edit(&mut group)?;
        tx.put(group.clone());
        Ok(group)
    })
    .await
}

pub(super) async fn modify(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    let group = edit(call, asked.target_group_arn.clone(), move |group| {
        group.health_check = health_check::changed(group.protocol, &group.health_check, &asked)?;
        Ok(())
    });
    let group = group.await?;
    Ok(json!({"TargetGroups": [shown(&call.state(), call.account(), &group)]}))
}

pub(super) async fn modify_attributes(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        target_group_arn: String,
        attributes: Vec<Given>,
    }
    let asked: Asked = input.read()?;
    let edit = edit(call, asked.target_group_arn, move |group| {
        TABLE.modify(group, &asked.attributes)?;
        together(&group.options.routing)
            .map_err(|why| Error::new("InvalidConfigurationRequestException", why))
    });
    Ok(json!({"Attributes": TABLE.shown(&edit.await?)}))
}

pub(super) fn describe_attributes(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let group = find::target_group(&call.state(), call.account(), &asked.target_group_arn)?;
    Ok(json!({"Attributes": TABLE.shown(&group)}))
}

/// One that is gone already is no error. Its fixed targets go with it; a task's have to be drained
/// first, so that no task is stopped while somebody still uses it.
pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let account = call.account().clone();
    let delete = move |tx: &mut Tx<'_>| {
        let arn = asked.target_group_arn;
        let group = match find::target_group(tx.state(), &account, &arn) {
            Err(Error::Code { code: "TargetGroupNotFoundException", .. }) => return Ok(()),
            found => found?,
        };
        own(group.owner, "target group", &group.name)?;
        let state = tx.state();
        let mut services = state.services.values();
        let service =
            services.any(|row| row.load_balancers.iter().any(|lb| lb.group == group.name));
        let tasks = state.targets_of_group(&group.name).any(|target| target.task.is_some());
        if !balancers(state, &group).is_empty() || service || tasks {
            let by = if service || tasks { "a service" } else { "a listener or a rule" };
            let message = format!("Target group '{arn}' is currently in use by {by}");
            return Err(Error::new("ResourceInUseException", message));
        }
        let targets: Vec<_> = state.targets_of_group(&group.name).map(|target| target.id).collect();
        for id in targets {
            tx.remove(Key::Verdict(id));
            tx.remove(Key::Target(id));
        }
        tags::forget(tx, &account.target_group(&group));
        tx.remove(Key::TargetGroup(group.name.clone()));
        Ok(())
    };
    change(call, delete).await?;
    Ok(json!({}))
}
