//! Metrics as CloudWatch names them, and alarms over them.
//!
//! Not here: values (`series`), what an alarm comes to (the orchestrator).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AlarmName;
use crate::clock::Timestamp;

/// One metric: CloudWatch's namespace, name and dimensions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetricId {
    /// Empty: the home region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// `AWS/ECS`
    pub namespace: String,
    pub name: String,
    pub dimensions: BTreeMap<String, String>,
}

impl MetricId {
    #[must_use]
    pub fn new(namespace: &str, name: &str, dimensions: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let dimensions = dimensions.iter().map(owned).collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { region: String::new(), namespace, name, dimensions }
    }

    /// The same in `region`; empty: the home region.
    #[must_use]
    pub fn within(self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self }
    }
}

/// Whether CloudWatch has periods of so many seconds.
#[must_use]
pub const fn is_period(seconds: u32) -> bool {
    matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds.is_multiple_of(60))
}

/// What is asked of the samples of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statistic {
    SampleCount,
    Average,
    Sum,
    Minimum,
    Maximum,
}

impl Statistic {
    /// AWS's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "SampleCount" => Self::SampleCount,
            "Average" => Self::Average,
            "Sum" => Self::Sum,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            _ => return None,
        })
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SampleCount => "SampleCount",
            Self::Average => "Average",
            Self::Sum => "Sum",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
        }
    }
}

/// A metric, or an expression over others, as requests name several together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricQuery {
    /// What expressions call it: a lower-case letter, then letters, digits and underscores.
    pub id: String,
    pub label: Option<String>,
    pub what: Queried,
    /// Whether it is told, or there for others alone.
    pub is_returned: bool,
    /// In seconds, as given beside an expression.
    pub period: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queried {
    Metric(MetricAsked),
    /// Metric math, as written.
    Expression(String),
}

/// What is asked of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricAsked {
    pub metric: MetricId,
    pub statistic: Statistic,
    /// Seconds.
    pub period: u32,
    /// As given: what is measured in another unit has no data.
    pub unit: Option<String>,
}

/// An alarm that a client made. Those of target tracking follow from their policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    pub name: AlarmName,
    pub description: Option<String>,
    pub rule: AlarmRule,
    #[serde(default)]
    pub given: AlarmGiven,
    /// What stands in place of its rule's metric and statistic, when there is something: metrics
    /// and expressions, one of which is looked at.
    #[serde(default)]
    pub queries: Vec<MetricQuery>,
    pub actions_enabled: bool,
    /// ARNs of scaling policies that are carried out while it is in alarm.
    pub actions: Vec<String>,
    pub configured_at: Timestamp,
    pub state: AlarmState,
    pub reason: String,
    /// Of its last change.
    pub changed_at: Timestamp,
}

/// What an alarm was given that changes nothing: it is shown as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmGiven {
    /// It is the metric's own.
    pub unit: Option<String>,
    /// That its rule's `breaching` was said.
    pub datapoints: bool,
}

/// When an alarm is in alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmRule {
    pub metric: MetricId,
    pub statistic: Statistic,
    /// Seconds.
    pub period: u32,
    /// Periods that are looked at.
    pub periods: u32,
    /// Of them, those that must breach.
    pub breaching: u32,
    pub comparison: Comparison,
    pub threshold: f64,
    pub missing: Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmState {
    Ok,
    Alarm,
    InsufficientData,
}

impl AlarmState {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ok, Self::Alarm, Self::InsufficientData].into_iter().find(|s| s.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    GreaterOrEqual,
    Greater,
    Less,
    LessOrEqual,
}

impl Comparison {
    /// AWS's spelling. None: one that needs anomaly detection.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::GreaterOrEqual, Self::Greater, Self::Less, Self::LessOrEqual];
        all.into_iter().find(|comparison| comparison.as_str() == text)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GreaterOrEqual => "GreaterThanOrEqualToThreshold",
            Self::Greater => "GreaterThanThreshold",
            Self::Less => "LessThanThreshold",
            Self::LessOrEqual => "LessThanOrEqualToThreshold",
        }
    }

    /// As reasons of alarms say it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::GreaterOrEqual => "greater than or equal to",
            Self::Greater => "greater than",
            Self::Less => "less than",
            Self::LessOrEqual => "less than or equal to",
        }
    }

    #[must_use]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterOrEqual => value >= threshold,
            Self::Greater => value > threshold,
            Self::Less => value < threshold,
            Self::LessOrEqual => value <= threshold,
        }
    }
}

/// What a period without data stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// Nothing: the state stays unless no period has data.
    #[default]
    Missing,
    NotBreaching,
    Breaching,
    /// Nothing: the state stays in any case.
    Ignore,
}

impl Missing {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBreaching => "notBreaching",
            Self::Breaching => "breaching",
            Self::Ignore => "ignore",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Missing, Self::NotBreaching, Self::Breaching, Self::Ignore];
        all.into_iter().find(|missing| missing.as_str() == text)
    }
}
