//! Capacity providers: Fargate's two, which are always there, and those of Auto Scaling groups.
//!
//! Whatever a provider is called, its tasks run on the container instances that there are. Nothing
//! here makes instances, so managed scaling and managed instances are refused. **Invariant:** a
//! provider that a cluster names is there.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::launch::PROVIDERS;
use super::{names, tag};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag};
use crate::model::{Account, Arn, CapacityProvider, CapacityProviderName, Cluster, ManagedScaling};
use crate::state::{Key, State, Tx};

/// Providers of an account (ECS's quota).
const MOST: usize = 3000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    auto_scaling_group_provider: Option<Group>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    auto_scaling_group_arn: String,
    managed_scaling: Option<Scaling>,
    managed_termination_protection: Option<String>,
    managed_draining: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: String,
    auto_scaling_group_provider: Option<GroupUpdate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupUpdate {
    managed_scaling: Option<Scaling>,
    managed_termination_protection: Option<String>,
    managed_draining: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scaling {
    status: Option<String>,
    target_capacity: Option<u32>,
    minimum_scaling_step_size: Option<u32>,
    maximum_scaling_step_size: Option<u32>,
    instance_warmup_period: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    capacity_providers: Option<Vec<String>>,
    include: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delete {
    capacity_provider: String,
}

impl Scaling {
    /// What is left out stays as it is in `old`.
    fn meant(self, old: &ManagedScaling) -> Result<ManagedScaling, Error> {
        if self.status.as_deref() == Some("ENABLED") {
            return Err(Error::unsupported(
                "managedScaling.status ENABLED is not supported here: nothing starts instances",
            ));
        }
        let meant = ManagedScaling {
            target: self.target_capacity.unwrap_or(old.target),
            min_step: self.minimum_scaling_step_size.unwrap_or(old.min_step),
            max_step: self.maximum_scaling_step_size.unwrap_or(old.max_step),
            warmup: self.instance_warmup_period.unwrap_or(old.warmup),
        };
        if meant.min_step > meant.max_step {
            return Err(Error::invalid(
                "The minimumScalingStepSize must not be greater than the maximumScalingStepSize.",
            ));
        }
        Ok(meant)
    }
}

fn unprotected(protection: Option<&str>) -> Result<(), Error> {
    match protection {
        Some("ENABLED") => Err(Error::invalid(
            "The managed termination protection setting for the capacity provider is invalid. To \
             enable managed termination protection for a capacity provider, enable managed \
             scaling.",
        )),
        _ => Ok(()),
    }
}

/// ECS's grammar of names.
fn good_name(place: &str, name: &str) -> Result<CapacityProviderName, Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let lower = name.to_ascii_lowercase();
    let is_theirs = ["aws", "ecs", "fargate"].iter().any(|prefix| lower.starts_with(prefix));
    if name.is_empty() || name.len() > 255 || !name.chars().all(good) || is_theirs {
        return Err(Error::invalid(format!(
            "The specified capacity provider name {name:?} is not valid: up to 255 letters, \
             digits, underscores and hyphens, not beginning with aws, ecs or fargate."
        )));
    }
    Ok(CapacityProviderName::within(place, name))
}

/// `arn:aws:autoscaling:REGION:ACCOUNT:autoScalingGroup:ID:autoScalingGroupName/NAME`
fn good_group(text: &str) -> Result<(), Error> {
    let arn = text.parse::<Arn>().ok().filter(|arn| arn.service == "autoscaling");
    let named = arn.as_ref().and_then(|arn| {
        let rest = arn.resource.strip_prefix("autoScalingGroup:")?;
        rest.split_once(":autoScalingGroupName/")
    });
    match named {
        Some((id, name)) if !id.is_empty() && !name.is_empty() => Ok(()),
        _ => Err(Error::invalid(format!("The Auto Scaling group ARN {text:?} is not valid."))),
    }
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let name = good_name(call.place(), &asked.name)?;
    let group = asked.auto_scaling_group_provider.ok_or_else(|| {
        Error::invalid("The capacity provider needs an autoScalingGroupProvider.")
    })?;
    good_group(&group.auto_scaling_group_arn)?;
    unprotected(group.managed_termination_protection.as_deref())?;
    let scaling = ManagedScaling::default();
    let scaling = match group.managed_scaling {
        Some(asked) => asked.meant(&scaling)?,
        None => scaling,
    };
    let made = CapacityProvider {
        name,
        group: group.auto_scaling_group_arn,
        scaling,
        draining: group.managed_draining.as_deref() != Some("DISABLED"),
    };
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let all = &tx.state().capacity_providers;
        if all.contains_key(&made.name) {
            let text = "The specified capacity provider already exists. To change its \
                        configuration, update the capacity provider.";
            return Err(Error::new("ClientException", text));
        }
        if all.values().any(|other| other.group == made.group) {
            let text = "The specified Auto Scaling group ARN is already being used by another \
                        capacity provider. Specify a unique Auto Scaling group ARN and try again.";
            return Err(Error::invalid(text));
        }
        if all.keys().filter(|own| own.region() == account.place()).count() >= MOST {
            let text = format!("there are {MOST} capacity providers already");
            return Err(Error::new("LimitExceededException", text));
        }
        tags::add(tx, &arn(&account, made.name.as_str()), asked.tags).map_err(tag::bad)?;
        tx.put(made.clone());
        Ok(shown(&account, tx.state(), &made, true))
    };
    Ok(json!({ "capacityProvider": call.api.store.update(change).await?.value }))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let with_tags = asked.include.is_some_and(|list| list.iter().any(|what| what == "TAGS"));
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    match &asked.capacity_providers {
        Some(wanted) if !wanted.is_empty() => {
            for text in wanted {
                match name_of(account, text).filter(|name| is_known(&state, account, name)) {
                    Some(name) => all.push(name),
                    None => failures.push(names::failure(text, "MISSING")),
                }
            }
        }
        _ => {
            all.extend(PROVIDERS);
            all.extend(state.capacity_providers.keys().map(CapacityProviderName::as_str));
        }
    }
    all.sort_unstable();
    all.dedup();
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, |name| (*name).to_owned(), token, asked.max_results, 10)?;
    let provider = |name: &str| match state.capacity_providers.get(&named(account, name)) {
        Some(row) => shown(account, &state, row, with_tags),
        None => json!({
            "capacityProviderArn": arn(account, name).to_string(),
            "name": name,
            "status": "ACTIVE",
            "type": name,
            "tags": with_tags.then(Vec::<Value>::new),
        }),
    };
    Ok(json!({
        "capacityProviders": page.into_iter().map(provider).collect::<Vec<_>>(),
        "failures": failures,
        "nextToken": next,
    }))
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    let asked: Update = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let mut row = CapacityProvider::clone(&*find(&account, tx.state(), &asked.name)?);
        let group = asked.auto_scaling_group_provider.ok_or_else(|| {
            Error::invalid("The capacity provider needs an autoScalingGroupProvider.")
        })?;
        unprotected(group.managed_termination_protection.as_deref())?;
        if let Some(scaling) = group.managed_scaling {
            row.scaling = scaling.meant(&row.scaling)?;
        }
        if let Some(draining) = group.managed_draining {
            row.draining = draining != "DISABLED";
        }
        tx.put(row.clone());
        Ok::<_, Error>(shown(&account, tx.state(), &row, true))
    };
    Ok(json!({ "capacityProvider": call.api.store.update(change).await?.value }))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Delete = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(&account, tx.state(), &asked.capacity_provider)?;
        let name = row.name.as_str();
        let uses = |cluster: &Cluster| {
            cluster.name.region() == account.place()
                && cluster.providers.iter().any(|own| own == name)
        };
        if let Some(cluster) = tx.state().clusters.values().find(|cluster| uses(cluster)) {
            let text = format!(
                "The capacity provider cannot be deleted because it is associated with cluster: \
                 {}. Remove the capacity provider from the cluster and try again.",
                cluster.name
            );
            return Err(Error::new("ClientException", text));
        }
        let mut last = shown(&account, tx.state(), &row, true);
        last["updateStatus"] = json!("DELETE_COMPLETE");
        last["status"] = json!("INACTIVE");
        tags::forget(tx, &arn(&account, name));
        tx.remove(Key::CapacityProvider(row.name.clone()));
        Ok(last)
    };
    Ok(json!({ "capacityProvider": call.api.store.update(change).await?.value }))
}

/// Refuses names of providers that there are not.
pub(super) fn known(state: &State, account: &Account, providers: &[String]) -> Result<(), Error> {
    match providers.iter().find(|name| !is_known(state, account, name)) {
        Some(name) => {
            let message = format!("The specified capacity provider {name} was not found.");
            Err(Error::invalid(message))
        }
        None => Ok(()),
    }
}

fn is_known(state: &State, account: &Account, name: &str) -> bool {
    PROVIDERS.contains(&name) || state.capacity_providers.contains_key(&named(account, name))
}

fn named(account: &Account, name: &str) -> CapacityProviderName {
    CapacityProviderName::within(account.place(), name)
}

fn arn(account: &Account, name: &str) -> Arn {
    account.arn("ecs", format!("capacity-provider/{name}"))
}

/// The name that a text gives as it is or by its ARN. None: an ARN of something else.
fn name_of<'a>(account: &Account, text: &'a str) -> Option<&'a str> {
    match text.split_once(":capacity-provider/") {
        Some((_, name)) => Some(name).filter(|name| arn(account, name).to_string() == text),
        None => Some(text),
    }
}

fn find(account: &Account, state: &State, text: &str) -> Result<Arc<CapacityProvider>, Error> {
    let name = name_of(account, text);
    if name.is_some_and(|name| PROVIDERS.contains(&name)) {
        let text = format!("The capacity provider {text} is ECS's own and cannot be changed.");
        return Err(Error::new("ClientException", text));
    }
    let found = name.and_then(|name| state.capacity_providers.get(&named(account, name)).cloned());
    found.ok_or_else(|| {
        Error::new("ClientException", "The specified capacity provider does not exist.")
    })
}

fn shown(account: &Account, state: &State, row: &CapacityProvider, with_tags: bool) -> Value {
    let (arn, scaling) = (arn(account, row.name.as_str()), &row.scaling);
    json!({
        "capacityProviderArn": arn.to_string(),
        "name": row.name.as_str(),
        "status": "ACTIVE",
        "type": "EC2_AUTOSCALING",
        "autoScalingGroupProvider": {
            "autoScalingGroupArn": row.group,
            "managedScaling": {
                "status": "DISABLED",
                "targetCapacity": scaling.target,
                "minimumScalingStepSize": scaling.min_step,
                "maximumScalingStepSize": scaling.max_step,
                "instanceWarmupPeriod": scaling.warmup,
            },
            "managedTerminationProtection": "DISABLED",
            "managedDraining": if row.draining { "ENABLED" } else { "DISABLED" },
        },
        "tags": with_tags.then(|| tag::shown(tags::of(state, &arn))),
    })
}
