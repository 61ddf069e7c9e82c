//! CloudWatch: our own metrics under AWS's names, and alarms over them.
//!
//! One file per resource; operations in the order Put, Describe, Delete, List. Not here: what is
//! measured (`orchestrator::sampler`), what an alarm comes to (`orchestrator::alarm`), what an
//! expression does (`series::math`).
//! **Invariant:** [`call`] is the list of what is served; every metric is one of ours.

mod alarm;
mod data;
mod metric;
pub(super) mod queries;
mod tagging;

use super::call::{Accepted, Call, Input, Outcome};

pub(super) use alarm::sides;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "GetMetricData.LabelOptions",
        why: "labels are told as they are written: none has a time in it",
    },
    Accepted { member: "ListMetrics.IncludeLinkedAccounts", why: "there is one account" },
    Accepted {
        member: "ListMetrics.RecentlyActive",
        why: "only metrics of the last three hours are there",
    },
    Accepted { member: "SetAlarmState.StateReasonData", why: "only ever seen by its caller" },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "GetMetricData" => data::get(call, input),
        "GetMetricStatistics" => metric::statistics(call, input),
        "ListMetrics" => metric::list(call, input),
        "PutMetricAlarm" => alarm::put(call, input).await,
        "DescribeAlarms" => alarm::describe(call, input),
        "EnableAlarmActions" => alarm::enable(call, input, true).await,
        "DisableAlarmActions" => alarm::enable(call, input, false).await,
        "SetAlarmState" => alarm::set_state(call, input).await,
        "DeleteAlarms" => alarm::delete(call, input).await,
        "TagResource" => tagging::tag(call, input).await,
        "UntagResource" => tagging::untag(call, input).await,
        "ListTagsForResource" => tagging::list(call, input),
        _ => Err(call.unknown()),
    }
}
