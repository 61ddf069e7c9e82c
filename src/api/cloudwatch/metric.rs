//! Metrics: which there are, and their statistics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::{BadToken, page};
use crate::api::wire::time;
use crate::clock::Timestamp;
use crate::model::{MetricId, Statistic, is_period};

/// Metrics of one page (CloudWatch's).
const PAGE: usize = 500;
/// Datapoints of one answer (CloudWatch's).
const MOST: u64 = 1440;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Dimension {
    pub(super) name: String,
    pub(super) value: String,
}

/// The metric that a request names.
pub(super) fn id(
    place: &str,
    namespace: String,
    name: String,
    dimensions: Vec<Dimension>,
) -> MetricId {
    let dimensions: BTreeMap<_, _> = dimensions.into_iter().map(|d| (d.name, d.value)).collect();
    MetricId { region: place.to_owned(), namespace, name, dimensions }
}

pub(super) fn shown(id: &MetricId) -> Value {
    let dimensions = id.dimensions.iter();
    let dimensions: Vec<_> =
        dimensions.map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
    json!({ "Namespace": id.namespace, "MetricName": id.name, "Dimensions": dimensions })
}

/// What a metric of ours is measured in, in CloudWatch's words.
pub(super) fn unit(metric: &str) -> &'static str {
    match metric {
        "CPUUtilization" | "MemoryUtilization" => "Percent",
        "TargetResponseTime" => "Seconds",
        "ELBAuthLatency" => "Milliseconds",
        "ProcessedBytes" => "Bytes",
        _ => "Count",
    }
}

/// # Errors
/// No period that CloudWatch has.
pub(super) fn period(seconds: i64) -> Result<u32, Error> {
    let good = u32::try_from(seconds).ok().filter(|seconds| is_period(*seconds));
    good.ok_or_else(|| {
        Error::new(
            "InvalidParameterValue",
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.",
        )
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
pub(super) fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as u64)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    namespace: String,
    metric_name: String,
    #[serde(default)]
    dimensions: Vec<Dimension>,
    start_time: f64,
    end_time: f64,
    period: i64,
    #[serde(default)]
    statistics: Vec<String>,
    #[serde(default)]
    extended_statistics: Vec<String>,
    unit: Option<String>,
}

pub(super) fn statistics(call: &Call, input: Input) -> Outcome {
    let asked: Statistics = input.read()?;
    if let Some(name) = asked.extended_statistics.first() {
        return Err(Error::new(
            "InvalidParameterValue",
            format!("The statistic {name} is not supported here: there are no percentiles."),
        ));
    }
    if asked.statistics.is_empty() {
        return Err(Error::new(
            "MissingParameter",
            "The parameter Statistics or ExtendedStatistics is required.",
        ));
    }
    let wanted: Vec<_> = asked.statistics.iter().filter_map(|s| Statistic::parse(s)).collect();
    let (from, to) = (moment(asked.start_time), moment(asked.end_time));
    if from >= to {
        return Err(Error::new(
            "InvalidParameterCombination",
            "The parameter StartTime must be less than the parameter EndTime.",
        ));
    }
    let period = Duration::from_secs(period(asked.period)?.into());
    let points = to.since(from).as_secs() / period.as_secs();
    if points > MOST {
        return Err(Error::new(
            "InvalidParameterCombination",
            format!(
                "You have requested up to {points} datapoints, which exceeds the limit of {MOST}."
            ),
        ));
    }
    let metric = id(call.place(), asked.namespace, asked.metric_name, asked.dimensions);
    let unit = unit(&metric.name);
    let points = match asked.unit {
        Some(other) if other != unit => Vec::new(),
        _ => call.api.series.read(&metric, from, to, period),
    };
    let point = |(at, point): (Timestamp, crate::series::Point)| {
        let mut shown = Map::new();
        shown.insert("Timestamp".into(), time::seconds(at));
        shown.insert("Unit".into(), unit.into());
        for statistic in &wanted {
            shown.insert(statistic.as_str().into(), point.value(*statistic).into());
        }
        Value::Object(shown)
    };
    let points: Vec<_> = points.into_iter().map(point).collect();
    Ok(json!({ "Label": metric.name, "Datapoints": points }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    namespace: Option<String>,
    metric_name: Option<String>,
    #[serde(default)]
    dimensions: Vec<Filter>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    name: String,
    value: Option<String>,
}

impl List {
    fn passes(&self, id: &MetricId) -> bool {
        let has = |filter: &Filter| match (&filter.value, id.dimensions.get(&filter.name)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(value)) => wanted == value,
        };
        self.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
            && self.metric_name.as_ref().is_none_or(|name| *name == id.name)
            && self.dimensions.iter().all(has)
    }
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let all = call.api.series.list().into_iter();
    let key = |id: &MetricId| format!("{}\n{}\n{:?}", id.namespace, id.name, id.dimensions);
    let all = all.filter(|id| id.region == call.place());
    let mut found: Vec<_> = all.filter(|id| asked.passes(id)).collect();
    found.sort_by_key(key);
    let (page, next) = page(found, key, asked.next_token.as_deref(), PAGE)
        .map_err(|BadToken| Error::new("InvalidParameterValue", "NextToken is not valid"))?;
    let metrics: Vec<_> = page.iter().map(shown).collect();
    Ok(json!({ "Metrics": metrics, "NextToken": next }))
}
