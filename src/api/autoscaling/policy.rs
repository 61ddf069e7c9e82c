//! Scaling policies: target tracking and steps.

use serde::Deserialize;
use serde_json::{Value, json};

use super::names::{Delete, Describe, described, missing, named, uuid};
use super::policy_written::{self, Step, Tracking};
use super::target;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time;
use crate::model::{Account, PolicyRule, ScalingKey, ScalingPolicy};
use crate::orchestrator::alarm::{self, Side};
use crate::state::{Key, State};

/// Policies of one target (AWS's quota).
const MOST: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    service_namespace: String,
    resource_id: Option<String>,
    scalable_dimension: Option<String>,
    policy_name: String,
    policy_type: Option<String>,
    step_scaling_policy_configuration: Option<Step>,
    target_tracking_scaling_policy_configuration: Option<Tracking>,
}

impl Put {
    fn rule(self, place: &str, state: &State) -> Result<PolicyRule, Error> {
        let kind = self.policy_type.as_deref().unwrap_or("StepScaling");
        let (step, track) = (
            self.step_scaling_policy_configuration,
            self.target_tracking_scaling_policy_configuration,
        );
        match (kind, step, track) {
            ("StepScaling", Some(step), None) => step.rule(),
            ("TargetTrackingScaling", None, Some(track)) => track.rule(place, state),
            ("PredictiveScaling", ..) => {
                Err(Error::unsupported("PredictiveScaling is not supported here"))
            }
            _ => Err(Error::invalid(format!(
                "a policy of type {kind} needs the configuration of its type and no other"
            ))),
        }
    }
}

pub(super) async fn put(call: &Call, input: Input) -> Outcome {
    let asked: Put = input.read()?;
    let service = named!(asked).service(call.place())?;
    let key = ScalingKey { service, name: asked.policy_name.clone() };
    let now = call.now;
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let state = tx.state();
        target::find(state, &key.service)?;
        let rule = asked.rule(key.service.cluster.region(), state)?;
        let old = state.scaling_policies.get(&key).cloned();
        let same = |old: &ScalingPolicy| {
            matches!(old.rule, PolicyRule::Step(_)) == matches!(rule, PolicyRule::Step(_))
        };
        if old.as_deref().is_some_and(|old| !same(old)) {
            return Err(Error::invalid("a policy's type cannot be changed; delete it first"));
        }
        let count = state.scaling_policies.keys().filter(|k| k.service == key.service).count();
        if old.is_none() && count >= MOST {
            let message = format!("a scalable target has at most {MOST} scaling policies");
            return Err(Error::new("LimitExceededException", message));
        }
        let id = old.as_ref().map_or_else(uuid, |old| old.id.clone());
        let created_at = old.map_or(now, |old| old.created_at);
        let row = ScalingPolicy { key, id, rule, created_at };
        tx.put(row.clone());
        Ok(row)
    };
    let row = call.api.store.update(change).await?.value;
    Ok(json!({
        "PolicyARN": call.account().scaling_policy(&row).to_string(),
        "Alarms": alarms(call.account(), &call.state(), &row),
    }))
}

/// The alarms that a policy is carried out by.
fn alarms(account: &Account, state: &State, policy: &ScalingPolicy) -> Vec<Value> {
    let shown =
        |name: &str| json!({ "AlarmName": name, "AlarmARN": account.alarm(name).to_string() });
    match &policy.rule {
        PolicyRule::Track(_) => {
            let sides = crate::api::cloudwatch::sides(policy);
            sides.into_iter().map(|side: Side| shown(&alarm::name(policy, side))).collect()
        }
        PolicyRule::Step(_) => {
            let arn = account.scaling_policy(policy).to_string();
            let naming = state.alarms.values().filter(|alarm| alarm.actions.contains(&arn));
            naming.map(|alarm| shown(alarm.name.as_str())).collect()
        }
    }
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (page, next) = asked.page(call.place(), state.scaling_policies.values(), |row| &row.key)?;
    let shown: Vec<_> = page.into_iter().map(|row| shown(account, &state, row)).collect();
    Ok(json!({ "ScalingPolicies": shown, "NextToken": next }))
}

fn shown(account: &Account, state: &State, row: &ScalingPolicy) -> Value {
    let mut value = described(&row.key.service, policy_written::shown(&row.rule));
    value["PolicyARN"] = account.scaling_policy(row).to_string().into();
    value["PolicyName"] = row.key.name.clone().into();
    value["Alarms"] = alarms(account, state, row).into();
    value["CreationTime"] = time::seconds(row.created_at);
    value
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let key = input.read::<Delete>()?.key(call.place())?;
    let change = move |tx: &mut crate::state::Tx<'_>| {
        if !tx.state().scaling_policies.contains_key(&key) {
            let which = format!(", policy name: {}", key.name);
            return Err(missing("scaling policy", &key.service, &which));
        }
        tx.remove(Key::ScalingPolicy(key));
        Ok(())
    };
    call.done(change).await
}
