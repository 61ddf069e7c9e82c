//! Scheduled actions: bounds at certain times.

use serde::Deserialize;
use serde_json::{Value, json};

use super::names::{Delete, Describe, capacity, described, missing, moment, named, uuid};
use super::target;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time;
use crate::model::{Account, ScalingKey, ScheduledAction};
use crate::orchestrator::Schedule;
use crate::state::Key;

/// Scheduled actions of one target (AWS's quota).
const MOST: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    service_namespace: String,
    resource_id: Option<String>,
    scalable_dimension: Option<String>,
    scheduled_action_name: String,
    schedule: Option<String>,
    timezone: Option<String>,
    start_time: Option<f64>,
    end_time: Option<f64>,
    scalable_target_action: Option<Bounds>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bounds {
    min_capacity: Option<i64>,
    max_capacity: Option<i64>,
}

pub(super) async fn put(call: &Call, input: Input) -> Outcome {
    let asked: Put = input.read()?;
    let (service, name) =
        (named!(asked).service(call.place())?, asked.scheduled_action_name.clone());
    // The model's pattern looks ahead, which the check against the model leaves out.
    if name.trim() != name || name.chars().any(|c| c.is_control() || ":/|".contains(c)) {
        return Err(Error::invalid(format!("ScheduledActionName {name:?} is no name")));
    }
    let key = ScalingKey { service, name };
    let now = call.now;
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let state = tx.state();
        target::find(state, &key.service)?;
        let count = state.scheduled_actions.keys().filter(|k| k.service == key.service).count();
        let old = state.scheduled_actions.get(&key).map(|row| ScheduledAction::clone(row));
        if old.is_none() && count >= MOST {
            let message = format!("a scalable target has at most {MOST} scheduled actions");
            return Err(Error::new("LimitExceededException", message));
        }
        tx.put(asked.over(old, key, now)?);
        Ok(())
    };
    call.done(change).await
}

impl Put {
    /// The row: what is not given stays as it was.
    fn over(
        self,
        old: Option<ScheduledAction>,
        key: ScalingKey,
        now: crate::clock::Timestamp,
    ) -> Result<ScheduledAction, Error> {
        let required = |name: &str| Error::invalid(format!("{name} is required"));
        let (min, max) = match self.scalable_target_action {
            Some(Bounds { min_capacity: None, max_capacity: None }) => {
                return Err(required("ScalableTargetAction.MinCapacity or MaxCapacity"));
            }
            Some(bounds) => (
                bounds.min_capacity.map(|value| capacity("MinCapacity", value)).transpose()?,
                bounds.max_capacity.map(|value| capacity("MaxCapacity", value)).transpose()?,
            ),
            None => old
                .as_ref()
                .map(|old| (old.min, old.max))
                .ok_or_else(|| required("ScalableTargetAction"))?,
        };
        if min.zip(max).is_some_and(|(min, max)| max < min) {
            let message = "Maximum capacity cannot be less than minimum capacity";
            return Err(Error::invalid(message));
        }
        let before = old.as_ref();
        let schedule = self.schedule.or_else(|| before.map(|old| old.schedule.clone()));
        let schedule = schedule.ok_or_else(|| required("Schedule"))?;
        let timezone = self.timezone.or_else(|| before.and_then(|old| old.timezone.clone()));
        Schedule::parse(&schedule, timezone.as_deref())
            .map_err(|error| Error::invalid(error.to_string()))?;
        let start = self.start_time.map(moment).or_else(|| before.and_then(|old| old.start));
        let end = self.end_time.map(moment).or_else(|| before.and_then(|old| old.end));
        if start.zip(end).is_some_and(|(start, end)| end <= start) {
            return Err(Error::invalid("EndTime must be later than StartTime"));
        }
        let id = before.map_or_else(uuid, |old| old.id.clone());
        let created_at = before.map_or(now, |old| old.created_at);
        Ok(ScheduledAction {
            key,
            id,
            schedule,
            timezone,
            start,
            end,
            min,
            max,
            created_at,
            done_until: now,
        })
    }
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (page, next) =
        asked.page(call.place(), state.scheduled_actions.values(), |row| &row.key)?;
    let shown: Vec<_> = page.into_iter().map(|row| shown(account, row)).collect();
    Ok(json!({ "ScheduledActions": shown, "NextToken": next }))
}

fn shown(account: &Account, row: &ScheduledAction) -> Value {
    let more = json!({
        "ScheduledActionName": row.key.name,
        "ScheduledActionARN": account.scheduled_action(row).to_string(),
        "Schedule": row.schedule,
        "Timezone": row.timezone,
        "StartTime": row.start.map(time::seconds),
        "EndTime": row.end.map(time::seconds),
        "ScalableTargetAction": { "MinCapacity": row.min, "MaxCapacity": row.max },
        "CreationTime": time::seconds(row.created_at),
    });
    described(&row.key.service, more)
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let key = input.read::<Delete>()?.key(call.place())?;
    let change = move |tx: &mut crate::state::Tx<'_>| {
        if !tx.state().scheduled_actions.contains_key(&key) {
            let which = format!(", scheduled action name: {}", key.name);
            return Err(missing("scheduled action", &key.service, &which));
        }
        tx.remove(Key::ScheduledAction(key));
        Ok(())
    };
    call.done(change).await
}
