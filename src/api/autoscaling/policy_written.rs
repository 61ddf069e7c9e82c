//! Scaling policies as requests write them, what they mean, and back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::cloudwatch::queries::{self, Query};
use crate::api::error::Error;
use crate::model::{
    Adjustment, LoadBalancerKind, MetricId, MetricQuery, PolicyRule, Statistic, StepAdjustment,
    StepScaling, TargetTracking, TrackedMetric,
};
use crate::state::State;

/// Steps of one policy (AWS's quota).
const MOST_STEPS: usize = 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tracking {
    target_value: f64,
    predefined_metric_specification: Option<Predefined>,
    customized_metric_specification: Option<Customized>,
    scale_out_cooldown: Option<i64>,
    scale_in_cooldown: Option<i64>,
    disable_scale_in: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Predefined {
    predefined_metric_type: String,
    resource_label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Customized {
    metric_name: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    dimensions: Vec<Dimension>,
    statistic: Option<String>,
    unit: Option<String>,
    #[serde(default)]
    metrics: Vec<Query>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Step {
    adjustment_type: Option<String>,
    #[serde(default)]
    step_adjustments: Vec<WrittenStep>,
    min_adjustment_magnitude: Option<i64>,
    cooldown: Option<i64>,
    metric_aggregation_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenStep {
    metric_interval_lower_bound: Option<f64>,
    metric_interval_upper_bound: Option<f64>,
    scaling_adjustment: i64,
}

fn seconds(name: &str, value: Option<i64>) -> Result<Option<u32>, Error> {
    let bad = |_| Error::invalid(format!("{name} must not be negative"));
    value.map(u32::try_from).transpose().map_err(bad)
}

impl Tracking {
    /// # Errors
    /// No metric or two, one that does not fit, a target that is not above 0.
    pub(super) fn rule(self, place: &str, state: &State) -> Result<PolicyRule, Error> {
        if self.target_value <= 0.0 {
            return Err(Error::invalid("TargetValue must be greater than 0"));
        }
        let both = (self.predefined_metric_specification, self.customized_metric_specification);
        let metric = match both {
            (Some(predefined), None) => predefined.metric(place, state)?,
            (None, Some(customized)) => customized.metric(place)?,
            _ => {
                return Err(Error::invalid(
                    "exactly one of PredefinedMetricSpecification and \
                     CustomizedMetricSpecification is required",
                ));
            }
        };
        Ok(PolicyRule::Track(TargetTracking {
            target: self.target_value,
            metric,
            out_cooldown: seconds("ScaleOutCooldown", self.scale_out_cooldown)?,
            in_cooldown: seconds("ScaleInCooldown", self.scale_in_cooldown)?,
            disable_scale_in: self.disable_scale_in,
        }))
    }
}

impl Predefined {
    fn metric(self, place: &str, state: &State) -> Result<TrackedMetric, Error> {
        let kind = self.predefined_metric_type.as_str();
        if kind == "ALBRequestCountPerTarget" {
            let label = self
                .resource_label
                .ok_or_else(|| Error::invalid(format!("ResourceLabel is required for {kind}")))?;
            check_label(place, state, &label)?;
            return Ok(TrackedMetric::RequestsPerTarget(label));
        }
        if self.resource_label.is_some() {
            return Err(Error::invalid(format!("ResourceLabel must not be given for {kind}")));
        }
        Ok(match kind {
            "ECSServiceAverageCPUUtilization" => TrackedMetric::Cpu,
            "ECSServiceAverageMemoryUtilization" => TrackedMetric::Memory,
            "ECSServiceAverageCPUUtilizationHighResolution" => TrackedMetric::CpuHighResolution,
            "ECSServiceAverageMemoryUtilizationHighResolution" => {
                TrackedMetric::MemoryHighResolution
            }
            _ => return Err(Error::invalid(format!("{kind} is no metric of an ECS service"))),
        })
    }
}

/// `app/NAME/ID/targetgroup/NAME/ID`, both of which are there.
fn check_label(place: &str, state: &State, label: &str) -> Result<(), Error> {
    let (balancer, group) = label.split_once("/targetgroup/").unwrap_or((label, ""));
    let application = |row: &&std::sync::Arc<crate::model::LoadBalancer>| {
        row.kind == LoadBalancerKind::Application
            && row.name.region() == place
            && row.path() == balancer
    };
    let is_group = |row: &std::sync::Arc<crate::model::TargetGroup>| {
        row.name.region() == place
            && group.split_once('/') == Some((row.name.as_str(), row.id.as_str()))
    };
    let known = state.load_balancers.values().find(application).is_some()
        && state.target_groups.values().any(is_group);
    if known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "ResourceLabel {label:?} is not app/NAME/ID/targetgroup/NAME/ID of a load balancer and a \
         target group that exist"
    )))
}

impl Customized {
    fn metric(self, place: &str) -> Result<TrackedMetric, Error> {
        let required = |name: &str| {
            Error::invalid(format!("CustomizedMetricSpecification.{name} is required"))
        };
        if !self.metrics.is_empty() {
            let has_metric = self.metric_name.is_some() || self.namespace.is_some();
            if has_metric || self.statistic.is_some() || !self.dimensions.is_empty() {
                return Err(Error::invalid(
                    "CustomizedMetricSpecification has either Metrics or a MetricName with \
                     Namespace, Dimensions and Statistic",
                ));
            }
            return queries::looked_at(place, self.metrics).map(TrackedMetric::Math);
        }
        let statistic = self.statistic.as_deref().and_then(Statistic::parse);
        let dimensions: BTreeMap<_, _> =
            self.dimensions.into_iter().map(|one| (one.name, one.value)).collect();
        Ok(TrackedMetric::Customized {
            metric: MetricId {
                region: place.to_owned(),
                namespace: self.namespace.ok_or_else(|| required("Namespace"))?,
                name: self.metric_name.ok_or_else(|| required("MetricName"))?,
                dimensions,
            },
            statistic: statistic.ok_or_else(|| required("Statistic"))?,
            unit: self.unit,
        })
    }
}

impl Step {
    /// # Errors
    /// Steps with gaps or overlaps, too many, none; a magnitude without percentages.
    pub(super) fn rule(self) -> Result<PolicyRule, Error> {
        let adjustment = self.adjustment_type.as_deref().and_then(Adjustment::parse);
        let adjustment = adjustment.ok_or_else(|| Error::invalid("AdjustmentType is required"))?;
        let step = |step: &WrittenStep| StepAdjustment {
            lower: step.metric_interval_lower_bound,
            upper: step.metric_interval_upper_bound,
            adjustment: step.scaling_adjustment,
        };
        let steps: Vec<_> = self.step_adjustments.iter().map(step).collect();
        check_steps(&steps)?;
        let percent = adjustment == Adjustment::PercentChangeInCapacity;
        if self.min_adjustment_magnitude.is_some() && !percent {
            return Err(Error::invalid(
                "MinAdjustmentMagnitude is only valid with PercentChangeInCapacity",
            ));
        }
        if adjustment == Adjustment::ExactCapacity && steps.iter().any(|one| one.adjustment < 0) {
            return Err(Error::invalid("ExactCapacity must not be negative"));
        }
        Ok(PolicyRule::Step(StepScaling {
            adjustment,
            steps,
            min_magnitude: seconds("MinAdjustmentMagnitude", self.min_adjustment_magnitude)?,
            cooldown: seconds("Cooldown", self.cooldown)?,
            aggregation: self.metric_aggregation_type.as_deref().and_then(Statistic::parse),
        }))
    }
}

fn check_steps(steps: &[StepAdjustment]) -> Result<(), Error> {
    if steps.is_empty() || steps.len() > MOST_STEPS {
        return Err(Error::invalid("StepAdjustments must have 1 to 20 items"));
    }
    let lower = |step: &StepAdjustment| step.lower.unwrap_or(f64::NEG_INFINITY);
    let upper = |step: &StepAdjustment| step.upper.unwrap_or(f64::INFINITY);
    let mut sorted: Vec<_> = steps.iter().collect();
    sorted.sort_by(|a, b| lower(a).total_cmp(&lower(b)));
    if sorted.iter().any(|step| lower(step) >= upper(step)) {
        return Err(Error::invalid(
            "MetricIntervalLowerBound must be less than MetricIntervalUpperBound",
        ));
    }
    for pair in sorted.windows(2) {
        let (end, begin) = (upper(pair[0]), lower(pair[1]));
        if end > begin {
            return Err(Error::invalid("StepAdjustment intervals can't overlap"));
        }
        if end < begin {
            return Err(Error::invalid("StepAdjustment intervals can't have gaps between them"));
        }
    }
    Ok(())
}

/// The policy's type and its configuration's member.
pub(super) fn shown(rule: &PolicyRule) -> Value {
    match rule {
        PolicyRule::Track(rule) => json!({
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": tracking(rule),
        }),
        PolicyRule::Step(rule) => json!({
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": rule.adjustment.as_str(),
                "StepAdjustments": rule.steps.iter().map(|step| json!({
                    "MetricIntervalLowerBound": step.lower,
                    "MetricIntervalUpperBound": step.upper,
                    "ScalingAdjustment": step.adjustment,
                })).collect::<Vec<_>>(),
                "MinAdjustmentMagnitude": rule.min_magnitude,
                "Cooldown": rule.cooldown,
                "MetricAggregationType": rule.aggregation.map(Statistic::as_str),
            },
        }),
    }
}

fn tracking(rule: &TargetTracking) -> Value {
    let predefined = |kind: &str, label: Option<&String>| {
        let both = json!({ "PredefinedMetricType": kind, "ResourceLabel": label });
        ("PredefinedMetricSpecification", both)
    };
    let (member, metric) = match &rule.metric {
        TrackedMetric::Cpu => predefined("ECSServiceAverageCPUUtilization", None),
        TrackedMetric::Memory => predefined("ECSServiceAverageMemoryUtilization", None),
        TrackedMetric::CpuHighResolution => {
            predefined("ECSServiceAverageCPUUtilizationHighResolution", None)
        }
        TrackedMetric::MemoryHighResolution => {
            predefined("ECSServiceAverageMemoryUtilizationHighResolution", None)
        }
        TrackedMetric::RequestsPerTarget(label) => {
            predefined("ALBRequestCountPerTarget", Some(label))
        }
        TrackedMetric::Customized { metric, statistic, unit } => {
            let dimensions = metric.dimensions.iter();
            let dimensions: Vec<_> =
                dimensions.map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
            let written = json!({
                "MetricName": metric.name,
                "Namespace": metric.namespace,
                "Dimensions": dimensions,
                "Statistic": statistic.as_str(),
                "Unit": unit,
            });
            ("CustomizedMetricSpecification", written)
        }
        TrackedMetric::Math(metrics) => {
            let one = |query: &MetricQuery| {
                let mut shown = queries::shown(query);
                // They have no member for what is always a minute.
                if let Some(stat) = shown["MetricStat"].as_object_mut() {
                    stat.remove("Period");
                }
                if let Some(all) = shown.as_object_mut() {
                    all.remove("Period");
                }
                shown
            };
            let metrics: Vec<_> = metrics.iter().map(one).collect();
            ("CustomizedMetricSpecification", json!({ "Metrics": metrics }))
        }
    };
    json!({
        "TargetValue": rule.target,
        member: metric,
        "ScaleOutCooldown": rule.out_cooldown,
        "ScaleInCooldown": rule.in_cooldown,
        "DisableScaleIn": rule.disable_scale_in.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_join_without_gaps_and_overlaps() {
        let check = |steps: &str, expected: &str| {
            let step = |word: &str| {
                let (lower, upper) = word.split_once("..").unwrap();
                StepAdjustment {
                    lower: lower.parse().ok(),
                    upper: upper.parse().ok(),
                    adjustment: 1,
                }
            };
            let steps: Vec<_> = steps.split_whitespace().map(step).collect();
            let outcome =
                check_steps(&steps).map_or_else(|error| error.to_string(), |()| "".into());
            assert!(
                outcome.contains(expected) && outcome.is_empty() == expected.is_empty(),
                "{outcome}"
            );
        };
        check("0..10 10..", "");
        check("10.. 0..10", "");
        check("..-5 -5..0", "");
        check("0..", "");
        check("", "1 to 20");
        check("0..10 5..", "overlap");
        check("0.. 5..", "overlap");
        check("0..10 15..", "gaps");
        check("10..10", "must be less");
        check("10..0", "must be less");
    }
}
