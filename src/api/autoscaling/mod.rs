//! Application Auto Scaling: one file per resource; operations in the order Put, Describe, Delete.
//!
//! Not here: what moves a count (`orchestrator::autoscaling` reads the rows); wire forms and checks
//! against the model. **Invariant:** [`call`] is the list of what is served; the only thing that
//! scales is a service's desired count.

mod activity;
mod names;
mod policy;
mod policy_written;
mod scheduled_action;
mod tagging;
mod target;

use super::call::{Accepted, Call, Input, Outcome};

pub(super) use names::key as service_of;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "RegisterScalableTarget.RoleARN",
        why: "kept and shown; there are no roles",
    },
    Accepted {
        member: "PutScalingPolicy.TargetTrackingScalingPolicyConfiguration\
                 .CustomizedMetricSpecification.Unit",
        why: "kept and shown; a metric here has one unit",
    },
    Accepted {
        member: "DescribeScalingActivities.IncludeNotScaledActivities",
        why: "only activities that scaled are kept",
    },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "RegisterScalableTarget" => target::register(call, input).await,
        "DescribeScalableTargets" => target::describe(call, input),
        "DeregisterScalableTarget" => target::deregister(call, input).await,
        "PutScalingPolicy" => policy::put(call, input).await,
        "DescribeScalingPolicies" => policy::describe(call, input),
        "DeleteScalingPolicy" => policy::delete(call, input).await,
        "PutScheduledAction" => scheduled_action::put(call, input).await,
        "DescribeScheduledActions" => scheduled_action::describe(call, input),
        "DeleteScheduledAction" => scheduled_action::delete(call, input).await,
        "DescribeScalingActivities" => activity::describe(call, input),
        "TagResource" => tagging::tag(call, input).await,
        "UntagResource" => tagging::untag(call, input).await,
        "ListTagsForResource" => tagging::list(call, input),
        _ => Err(call.unknown()),
    }
}
