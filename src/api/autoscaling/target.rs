//! Scalable targets: which services may be scaled, and between which bounds.

use serde::Deserialize;
use serde_json::{Value, json};

use super::names::{Named, capacity, described, missing, named, paged, uuid};
use super::tagging;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags;
use crate::api::wire::time;
use crate::model::{Account, ScalableTarget, ServiceKey, ServiceStatus, Suspended};
use crate::state::{Key, State};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Register {
    service_namespace: String,
    resource_id: Option<String>,
    scalable_dimension: Option<String>,
    min_capacity: Option<i64>,
    max_capacity: Option<i64>,
    #[serde(rename = "RoleARN")]
    role_arn: Option<String>,
    suspended_state: Option<WrittenState>,
    tags: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenState {
    dynamic_scaling_in_suspended: Option<bool>,
    dynamic_scaling_out_suspended: Option<bool>,
    scheduled_scaling_suspended: Option<bool>,
}

impl WrittenState {
    fn over(self, old: Suspended) -> Suspended {
        Suspended {
            scale_in: self.dynamic_scaling_in_suspended.unwrap_or(old.scale_in),
            scale_out: self.dynamic_scaling_out_suspended.unwrap_or(old.scale_out),
            scheduled: self.scheduled_scaling_suspended.unwrap_or(old.scheduled),
        }
    }
}

pub(super) async fn register(call: &Call, input: Input) -> Outcome {
    let asked: Register = input.read()?;
    let (service, account, now) =
        (named!(asked).service(call.place())?, call.account().clone(), call.now);
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let is_there = tx.state().services.get(&service);
        if is_there.is_none_or(|service| service.status != ServiceStatus::Active) {
            let message = format!("ECS service doesn't exist: service/{service}");
            return Err(Error::invalid(message));
        }
        let old = tx.state().scalable_targets.get(&service);
        let required = |name: &str| Error::invalid(format!("{name} is required"));
        let bound = |name, asked: Option<i64>, old: Option<u32>| match asked {
            Some(asked) => capacity(name, asked),
            None => old.ok_or_else(|| required(name)),
        };
        let min = bound("MinCapacity", asked.min_capacity, old.map(|old| old.min))?;
        let max = bound("MaxCapacity", asked.max_capacity, old.map(|old| old.max))?;
        if max < min {
            let message = "Maximum capacity cannot be less than minimum capacity";
            return Err(Error::invalid(message));
        }
        let suspended = old.map(|old| old.suspended).unwrap_or_default();
        let row = ScalableTarget {
            service: service.clone(),
            id: old.map_or_else(|| uuid().replace('-', ""), |old| old.id.clone()),
            min,
            max,
            suspended: asked.suspended_state.map_or(suspended, |state| state.over(suspended)),
            role_arn: asked.role_arn.clone().or_else(|| old.and_then(|old| old.role_arn.clone())),
            created_at: old.map_or(now, |old| old.created_at),
        };
        let arn = account.scalable_target(&row);
        let tags = tags::list_of(asked.tags.unwrap_or_default());
        tags::add(tx, &arn, tags).map_err(|error| tagging::bad(&error))?;
        tx.put(row);
        Ok(arn.to_string())
    };
    let arn = call.api.store.update(change).await?.value;
    Ok(json!({ "ScalableTargetARN": arn }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    service_namespace: String,
    scalable_dimension: Option<String>,
    #[serde(default)]
    resource_ids: Vec<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (service_namespace, scalable_dimension) =
        (asked.service_namespace, asked.scalable_dimension);
    Named { service_namespace, resource_id: None, scalable_dimension }.filter(call.place())?;
    let key = |text: &String| super::names::key(call.place(), text);
    let wanted: Vec<ServiceKey> = asked.resource_ids.iter().map(key).collect::<Result<_, _>>()?;
    let state = call.state();
    let targets = state.scalable_targets.values();
    let found = targets.filter(|row| wanted.is_empty() || wanted.contains(&row.service));
    let (page, next) = paged(
        found,
        |row| row.service.to_string(),
        asked.next_token.as_deref(),
        asked.max_results,
    )?;
    let shown: Vec<_> = page.iter().map(|row| shown(call.account(), row)).collect();
    Ok(json!({ "ScalableTargets": shown, "NextToken": next }))
}

fn shown(account: &Account, row: &ScalableTarget) -> Value {
    let role = || {
        format!(
            "arn:aws:iam::{}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/\
             AWSServiceRoleForApplicationAutoScaling_ECSService",
            account.id
        )
    };
    let Suspended { scale_in, scale_out, scheduled } = row.suspended;
    let more = json!({
        "MinCapacity": row.min,
        "MaxCapacity": row.max,
        "RoleARN": row.role_arn.clone().unwrap_or_else(role),
        "CreationTime": time::seconds(row.created_at),
        "SuspendedState": {
            "DynamicScalingInSuspended": scale_in,
            "DynamicScalingOutSuspended": scale_out,
            "ScheduledScalingSuspended": scheduled,
        },
        "ScalableTargetARN": account.scalable_target(row).to_string(),
    });
    described(&row.service, more)
}

pub(super) fn find<'a>(
    state: &'a State,
    service: &ServiceKey,
) -> Result<&'a ScalableTarget, Error> {
    let found = state.scalable_targets.get(service);
    found.map(AsRef::as_ref).ok_or_else(|| missing("scalable target", service, ""))
}

pub(super) async fn deregister(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    let (service, account) = (asked.service(call.place())?, call.account().clone());
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let target = find(tx.state(), &service)?.clone();
        tags::forget(tx, &account.scalable_target(&target));
        let state = tx.state();
        let own = |key: &&crate::model::ScalingKey| key.service == service;
        let policies = state.scaling_policies.keys().filter(own).cloned();
        let mut keys: Vec<Key> = policies.map(Key::ScalingPolicy).collect();
        let actions = state.scheduled_actions.keys().filter(own).cloned();
        keys.extend(actions.map(Key::ScheduledAction));
        keys.extend([Key::ScalingHistory(service.clone()), Key::ScalableTarget(service.clone())]);
        keys.into_iter().for_each(|key| tx.remove(key));
        Ok::<_, Error>(())
    };
    call.done(change).await
}
