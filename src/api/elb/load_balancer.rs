//! Load balancers: created with an address of their own, shown, changed, deleted.
//!
//! Not here: the table of their attributes. **Invariant:** a load balancer made here has an address
//! of the pool that is nobody else's.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::attributes::Given;
use super::balancer_attributes::TABLE;
use super::find::{self, PAGE, change, marker, new_id, own};
use crate::api::call::{Call, Input, Outcome};
use crate::api::ec2;
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::clock::Timestamp;
use crate::model::{
    Account, BalancerOptions, CLIENT_KEEP_ALIVE, IDLE_TIMEOUT, LoadBalancer, LoadBalancerKind,
    LoadBalancerName, Owner, Pool, TCP_IDLE_TIMEOUT,
};
use crate::state::{Key, Quarantine, QuarantineKey, State, Tx, ipam};
use crate::zone::BALANCER_TTL;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    subnets: Option<Vec<String>>,
    subnet_mappings: Option<Vec<SubnetMapping>>,
    security_groups: Option<Vec<String>>,
    scheme: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    ip_address_type: Option<String>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SubnetMapping {
    subnet_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    load_balancer_arns: Option<Vec<String>>,
    names: Option<Vec<String>>,
    marker: Option<String>,
    page_size: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    load_balancer_arn: String,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let mut asked: Create = input.read()?;
    name(&asked.name)?;
    find::tag_map(asked.tags.as_ref())?;
    let kind = match asked.kind.as_deref() {
        None | Some("application") => LoadBalancerKind::Application,
        Some("network") => LoadBalancerKind::Network,
        Some(other) => {
            let message = format!("load balancers of type '{other}' are not served here");
            return Err(Error::unsupported(message));
        }
    };
    let options = BalancerOptions {
        internal: asked.scheme.as_deref() == Some("internal"),
        address_type: asked.ip_address_type.take().map(kept_type).unwrap_or_default(),
        subnets: subnets(asked.subnets.take(), asked.subnet_mappings.take())?,
        security_groups: asked.security_groups.take().unwrap_or_default(),
        ..BalancerOptions::default()
    };
    let (addresses, account, now) = (call.api.addresses, call.account().clone(), call.now);
    let around = (account, addresses, now);
    let made = change(call, move |tx| make(tx, &around, asked, kind, options)).await?;
    Ok(json!({"LoadBalancers": [shown(call, &made, "provisioning")]}))
}

fn make(
    tx: &mut Tx<'_>,
    (account, addresses, now): &(Account, Pool, Timestamp),
    asked: Create,
    kind: LoadBalancerKind,
    options: BalancerOptions,
) -> Result<LoadBalancer, Error> {
    let (named, now) = (LoadBalancerName::within(account.place(), &asked.name), *now);
    if let Some(known) = tx.state().load_balancers.get(&named) {
        let arn = account.load_balancer(known);
        let same_tags = *tags::of(tx.state(), &arn) == find::tag_map(asked.tags.as_ref())?;
        let asked_for = BalancerOptions {
            attributes: known.options.attributes.clone(),
            deletion_protection: known.options.deletion_protection,
            ..options
        };
        // The same call again succeeds.
        if known.owner == Owner::Api
            && known.kind == kind
            && known.options == asked_for
            && same_tags
        {
            return Ok(LoadBalancer::clone(known));
        }
        let name = asked.name;
        let message = format!(
            "A load balancer with the same name '{name}' exists, but with different settings"
        );
        return Err(Error::new("DuplicateLoadBalancerNameException", message));
    }
    let address = ipam::free_address(tx.state(), *addresses, now).ok_or_else(|| {
        let message = format!("every address of {addresses} is taken");
        Error::new("TooManyLoadBalancersException", message)
    })?;
    let made = LoadBalancer {
        name: named,
        id: new_id(),
        kind,
        address,
        idle_timeout: match kind {
            LoadBalancerKind::Application => IDLE_TIMEOUT,
            LoadBalancerKind::Network => TCP_IDLE_TIMEOUT,
        },
        client_keep_alive: CLIENT_KEEP_ALIVE,
        owner: Owner::Api,
        created_at: now,
        options,
    };
    find::put_tags(tx, &account.load_balancer(&made), asked.tags)?;
    tx.put(made.clone());
    Ok(made)
}

/// The reference of `CreateLoadBalancer`.
fn name(name: &str) -> Result<(), Error> {
    super::name("Load balancer", name)?;
    if name.starts_with("internal-") {
        let message = format!("Load balancer name '{name}' cannot begin with 'internal-'");
        return Err(Error::invalid(message));
    }
    Ok(())
}

fn subnets(
    plain: Option<Vec<String>>,
    mappings: Option<Vec<SubnetMapping>>,
) -> Result<Vec<String>, Error> {
    let mapped = |mappings: Vec<SubnetMapping>| {
        let ids = mappings.into_iter().map(|mapping| {
            mapping.subnet_id.ok_or_else(|| Error::invalid("A subnet ID must be specified"))
        });
        ids.collect::<Result<Vec<_>, _>>()
    };
    let subnets = match (plain, mappings) {
        (Some(_), Some(_)) => {
            let message = "You must specify either subnets or subnet mappings, but not both";
            return Err(Error::invalid(message));
        }
        (Some(plain), None) => plain,
        (None, Some(mappings)) => mapped(mappings)?,
        (None, None) => Vec::new(),
    };
    let twice = subnets.iter().enumerate().find(|(at, id)| subnets[..*at].contains(id));
    if let Some((_, id)) = twice {
        let message = format!("The subnet '{id}' is specified more than once");
        return Err(Error::new("InvalidConfigurationRequestException", message));
    }
    Ok(subnets)
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let state = call.state();
    let rows: Vec<Arc<LoadBalancer>> = match (&asked.load_balancer_arns, &asked.names) {
        (Some(_), Some(_)) => {
            let message = "Load balancer names and load balancer ARNs cannot be specified together";
            return Err(Error::invalid(message));
        }
        (Some(arns), None) => {
            let find = |arn: &String| find::load_balancer(&state, call.account(), arn);
            arns.iter().map(find).collect::<Result<_, _>>()?
        }
        (None, Some(names)) => {
            let find = |name: &String| {
                let found = find::by_name(&state, call.account(), name);
                found.ok_or_else(|| {
                    let message = format!("Load balancers '[{name}]' not found");
                    Error::new("LoadBalancerNotFoundException", message)
                })
            };
            names.iter().map(find).collect::<Result<_, _>>()?
        }
        (None, None) => state.load_balancers.values().cloned().collect(),
    };
    let (key, size) = (|lb: &Arc<LoadBalancer>| lb.name.to_string(), asked.page_size);
    let mut rows = rows;
    rows.sort_by_key(key);
    let (rows, next) =
        page(rows, key, asked.marker.as_deref(), size.unwrap_or(PAGE)).map_err(marker)?;
    let shown: Vec<Value> = rows.iter().map(|lb| shown(call, lb, "active")).collect();
    Ok(json!({"LoadBalancers": shown, "NextMarker": next}))
}

/// As the API shows it.
fn shown(call: &Call, lb: &LoadBalancer, state: &str) -> Value {
    let (account, options) = (call.account(), &lb.options);
    let rows = call.state();
    let vpc = options.subnets.iter().find_map(|id| ec2::subnet(&rows, account, id));
    let vpc = vpc.map(|subnet| subnet.vpc.to_string());
    json!({
        "LoadBalancerArn": account.load_balancer(lb).to_string(),
        "DNSName": lb.dns_name(&account.region, &call.api.domain),
        "CanonicalHostedZoneId": super::hosted_zone(&account.region),
        "CreatedTime": crate::api::wire::time::seconds(lb.created_at),
        "LoadBalancerName": lb.name.as_str(),
        "Scheme": if options.internal { "internal" } else { "internet-facing" },
        "State": {"Code": state},
        "Type": match lb.kind {
            LoadBalancerKind::Application => "application",
            LoadBalancerKind::Network => "network",
        },
        "VpcId": vpc,
        "AvailabilityZones": zones(&rows, account, &options.subnets),
        "SecurityGroups": options.security_groups,
        "IpAddressType": address_type(options),
    })
}

/// What a load balancer has unless it is told otherwise; its row then has none.
const IPV4: &str = "ipv4";

fn kept_type(kind: String) -> String {
    if kind == IPV4 { String::new() } else { kind }
}

fn address_type(options: &BalancerOptions) -> &str {
    if options.address_type.is_empty() { IPV4 } else { &options.address_type }
}

/// A subnet's zone; one that EC2 does not know counts as a zone of its own, in the order given.
fn zones(state: &State, account: &Account, subnets: &[String]) -> Vec<Value> {
    let zone = |(subnet, letter): (&String, char)| {
        let known = ec2::subnet(state, account, subnet);
        let name = known.map_or_else(|| format!("{}{letter}", account.region), |row| row.zone);
        json!({"ZoneName": name, "SubnetId": subnet})
    };
    subnets.iter().zip(('a'..='z').cycle()).map(zone).collect()
}

/// Changes one load balancer that the API owns.
async fn edit(
    call: &Call,
    arn: String,
    edit: impl FnOnce(&mut LoadBalancer) -> Result<(), Error> + Send + 'static,
) -> Result<LoadBalancer, Error> {
    let account = call.account().clone();
    change(call, move |tx| {
        let lb = find::load_balancer(tx.state(), &account, &arn)?;
        own(lb.owner, "load balancer", &lb.name)?;
        let mut lb = LoadBalancer::clone(&lb);
        edit(&mut lb)?;
        tx.put(lb.clone());
        Ok(lb)
    })
    .await
}

pub(super) async fn set_subnets(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: String,
        subnets: Option<Vec<String>>,
        subnet_mappings: Option<Vec<SubnetMapping>>,
        ip_address_type: Option<String>,
    }
    let asked: Asked = input.read()?;
    let subnets = subnets(asked.subnets, asked.subnet_mappings)?;
    if subnets.is_empty() {
        return Err(Error::invalid("At least one subnet must be specified"));
    }
    let lb = edit(call, asked.load_balancer_arn, move |lb| {
        lb.options.subnets = subnets;
        if let Some(kind) = asked.ip_address_type {
            lb.options.address_type = kept_type(kind);
        }
        Ok(())
    });
    let lb = lb.await?;
    let zones = zones(&call.state(), call.account(), &lb.options.subnets);
    Ok(json!({"AvailabilityZones": zones, "IpAddressType": address_type(&lb.options)}))
}

pub(super) async fn set_security_groups(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: String,
        security_groups: Vec<String>,
    }
    let asked: Asked = input.read()?;
    let lb = edit(call, asked.load_balancer_arn, move |lb| {
        lb.options.security_groups = asked.security_groups;
        Ok(())
    });
    Ok(json!({"SecurityGroupIds": lb.await?.options.security_groups}))
}

pub(super) async fn set_ip_address_type(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: String,
        ip_address_type: String,
    }
    let asked: Asked = input.read()?;
    let lb = edit(call, asked.load_balancer_arn, move |lb| {
        lb.options.address_type = kept_type(asked.ip_address_type);
        Ok(())
    });
    Ok(json!({"IpAddressType": address_type(&lb.await?.options)}))
}

pub(super) async fn modify_attributes(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: String,
        attributes: Vec<Given>,
    }
    let asked: Asked = input.read()?;
    let lb = edit(call, asked.load_balancer_arn, move |lb| TABLE.modify(lb, &asked.attributes));
    Ok(json!({"Attributes": TABLE.shown(&lb.await?)}))
}

pub(super) fn describe_attributes(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let lb = find::load_balancer(&call.state(), call.account(), &asked.load_balancer_arn)?;
    Ok(json!({"Attributes": TABLE.shown(&lb)}))
}

/// Capacity is this machine's: nothing can be reserved.
pub(super) fn describe_capacity_reservation(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    find::load_balancer(&call.state(), call.account(), &asked.load_balancer_arn)?;
    Ok(json!({"CapacityReservationState": []}))
}

/// One that is gone already is no error.
pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let (account, now) = (call.account().clone(), call.now);
    let delete = move |tx: &mut Tx<'_>| {
        let arn = asked.load_balancer_arn;
        let lb = match find::load_balancer(tx.state(), &account, &arn) {
            Err(Error::Code { code: "LoadBalancerNotFoundException", .. }) => return Ok(()),
            found => found?,
        };
        own(lb.owner, "load balancer", &lb.name)?;
        if lb.options.deletion_protection {
            let message = format!(
                "Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
            );
            return Err(Error::new("OperationNotPermittedException", message));
        }
        for listener in listeners(tx.state(), &lb) {
            super::listener::remove(tx, &account, &lb, &listener);
        }
        tags::forget(tx, &account.load_balancer(&lb));
        // Caches may still name it.
        let address = QuarantineKey(lb.address);
        tx.put(Quarantine { address, until: now + BALANCER_TTL });
        tx.remove(Key::LoadBalancer(lb.name.clone()));
        Ok(())
    };
    change(call, delete).await?;
    Ok(json!({}))
}

fn listeners(state: &State, lb: &LoadBalancer) -> Vec<Arc<crate::model::Listener>> {
    find::listeners(state, &lb.name).cloned().collect()
}
