//! Scaling of services: bounds, policies, scheduled actions, and what came of them.
//!
//! Application Auto Scaling's nouns, for the one dimension that there is:
//! `ecs:service:DesiredCount`. Not here: deciding (the orchestrator), wire shapes (`api`).

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BadKey, MetricId, MetricQuery, ServiceKey, Statistic};
use crate::clock::Timestamp;

/// Activities kept of one service (ours).
pub const ACTIVITIES_KEPT: usize = 100;

/// The name of a policy or of a scheduled action of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScalingKey {
    pub service: ServiceKey,
    /// May hold any character; those of clusters and services hold no slash.
    pub name: String,
}

impl fmt::Display for ScalingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => write!(f, "{:#}/{}", self.service, self.name),
            false => write!(f, "{}/{}", self.service, self.name),
        }
    }
}

impl FromStr for ScalingKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(service), Some(name)) => Ok(Self {
                service: ServiceKey { cluster: cluster.into(), name: service.into() },
                name: name.to_owned(),
            }),
            _ => Err(BadKey(text.to_owned())),
        }
    }
}

/// A service whose desired count may be moved, and between which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalableTarget {
    pub service: ServiceKey,
    /// Part of its ARN.
    pub id: String,
    pub min: u32,
    /// Not below `min`.
    pub max: u32,
    #[serde(default)]
    pub suspended: Suspended,
    /// Kept as given; there are no roles.
    pub role_arn: Option<String>,
    pub created_at: Timestamp,
}

/// What is not done for the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Suspended {
    pub scale_in: bool,
    pub scale_out: bool,
    pub scheduled: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    pub key: ScalingKey,
    /// Part of its ARN and of its alarms' names.
    pub id: String,
    pub rule: PolicyRule,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PolicyRule {
    Track(TargetTracking),
    Step(StepScaling),
}

/// Keeps a metric at a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetTracking {
    pub target: f64,
    pub metric: TrackedMetric,
    /// Seconds; none: the default.
    pub out_cooldown: Option<u32>,
    pub in_cooldown: Option<u32>,
    pub disable_scale_in: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TrackedMetric {
    Cpu,
    Memory,
    /// Every 20 s.
    CpuHighResolution,
    MemoryHighResolution,
    /// `app/NAME/ID/targetgroup/NAME/ID`
    RequestsPerTarget(String),
    Customized {
        metric: MetricId,
        statistic: Statistic,
        /// Kept as given.
        unit: Option<String>,
    },
    /// Metrics of a minute and expressions, one of which is tracked.
    Math(Vec<MetricQuery>),
}

/// Moves the count by steps while an alarm that names it is in alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepScaling {
    pub adjustment: Adjustment,
    pub steps: Vec<StepAdjustment>,
    /// At least so many, with percentages.
    pub min_magnitude: Option<u32>,
    /// Seconds; none: the default.
    pub cooldown: Option<u32>,
    /// Over the alarm's periods; none: the average.
    pub aggregation: Option<Statistic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adjustment {
    ChangeInCapacity,
    PercentChangeInCapacity,
    ExactCapacity,
}

impl Adjustment {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangeInCapacity => "ChangeInCapacity",
            Self::PercentChangeInCapacity => "PercentChangeInCapacity",
            Self::ExactCapacity => "ExactCapacity",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::ChangeInCapacity, Self::PercentChangeInCapacity, Self::ExactCapacity];
        all.into_iter().find(|adjustment| adjustment.as_str() == text)
    }
}

/// What to do when the metric is so far from the alarm's threshold. None: no bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepAdjustment {
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub adjustment: i64,
}

/// Sets bounds at certain times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAction {
    pub key: ScalingKey,
    /// Part of its ARN.
    pub id: String,
    /// `cron(…)`, `rate(…)` or `at(…)`.
    pub schedule: String,
    /// An IANA name; none: UTC.
    pub timezone: Option<String>,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub created_at: Timestamp,
    /// Everything that was due until then is done.
    pub done_until: Timestamp,
}

/// What became of one service's scaling. **Invariant:** written by the orchestrator alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingHistory {
    pub service: ServiceKey,
    /// Newest first, at most [`ACTIVITIES_KEPT`].
    pub activities: VecDeque<ScalingActivity>,
    /// The last scale-out by a policy.
    pub scaled_out: Option<ScaledOut>,
    /// The last scale-in by a policy.
    pub scaled_in: Option<Timestamp>,
}

impl ScalingHistory {
    #[must_use]
    pub const fn new(service: ServiceKey) -> Self {
        Self { service, activities: VecDeque::new(), scaled_out: None, scaled_in: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaledOut {
    pub at: Timestamp,
    /// The count that it began from: what was added since counts as part of the next.
    pub from: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingActivity {
    pub id: String,
    pub desired: u32,
    /// AWS's words.
    pub cause: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub status: ActivityStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityStatus {
    InProgress,
    Successful,
    /// A later one came before it was done.
    Overridden,
}

impl ActivityStatus {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Successful => "Successful",
            Self::Overridden => "Overridden",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_whatever_the_name_holds() {
        for name in ["cpu", "a/b:c|d", " "] {
            let service = ServiceKey { cluster: "c".into(), name: "web".into() };
            let key = ScalingKey { service, name: name.to_owned() };
            assert_eq!(key.to_string().parse::<ScalingKey>().unwrap(), key);
        }
        assert!("c/web".parse::<ScalingKey>().is_err());
    }
}
