//! Scaling activities: what was scaled, and why.

use serde_json::{Value, json};

use super::names::{Describe, described, paged};
use crate::api::call::{Call, Input, Outcome};
use crate::api::wire::time;
use crate::model::{ActivityStatus, ScalingActivity, ServiceKey};

/// Newest first.
pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let service = asked.service(call.place())?;
    let state = call.state();
    let histories = state.scaling_histories.values();
    let own = histories.filter(|row| service.as_ref().is_none_or(|one| row.service == *one));
    let mut all: Vec<(&ServiceKey, &ScalingActivity)> = own
        .flat_map(|row| row.activities.iter().map(|activity| (&row.service, activity)))
        .collect();
    // Pages go by text, so the youngest has the smallest.
    let key = |(_, activity): &(&ServiceKey, &ScalingActivity)| {
        format!("{:020} {}", u64::MAX - activity.started_at.0, activity.id)
    };
    all.sort_by_key(key);
    let (page, next) = paged(all, key, asked.next_token.as_deref(), asked.max_results)?;
    let shown: Vec<_> = page.into_iter().map(|(service, one)| shown(service, one)).collect();
    Ok(json!({ "ScalingActivities": shown, "NextToken": next }))
}

fn shown(service: &ServiceKey, activity: &ScalingActivity) -> Value {
    let desired = activity.desired;
    let message = match activity.status {
        ActivityStatus::InProgress => format!(
            "Successfully set desired count to {desired}. Waiting for change to be fulfilled by ecs."
        ),
        ActivityStatus::Successful => format!(
            "Successfully set desired count to {desired}. Change successfully fulfilled by ecs."
        ),
        ActivityStatus::Overridden => {
            format!("Desired count {desired} was changed before it was reached.")
        }
    };
    let more = json!({
        "ActivityId": activity.id,
        "Description": format!("Setting desired count to {desired}."),
        "Cause": activity.cause,
        "StartTime": time::seconds(activity.started_at),
        "EndTime": activity.ended_at.map(time::seconds),
        "StatusCode": activity.status.as_str(),
        "StatusMessage": message,
    });
    described(service, more)
}
