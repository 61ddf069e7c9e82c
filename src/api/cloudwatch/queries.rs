//! Queries of metrics and expressions, as requests write them and answers show them.
//!
//! Not here: what they come to (`series::math`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::metric::{self, Dimension};
use crate::api::error::Error;
use crate::model::{MetricAsked, MetricQuery, Queried, Statistic};
use crate::series::math::queries::Queries;

/// Queries of one alarm or policy (CloudWatch's).
const MOST: usize = 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Query {
    id: String,
    metric_stat: Option<MetricStat>,
    expression: Option<String>,
    label: Option<String>,
    return_data: Option<bool>,
    period: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricStat {
    metric: Metric,
    /// Scaling policies have none: theirs is a minute.
    period: Option<i64>,
    stat: String,
    unit: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    namespace: Option<String>,
    metric_name: Option<String>,
    #[serde(default)]
    dimensions: Vec<Dimension>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::invalid(message)
}

impl Query {
    /// # Errors
    /// It asks for nothing that there is.
    pub(super) fn meant(self, place: &str) -> Result<MetricQuery, Error> {
        let id = self.id;
        let what = match (self.metric_stat, self.expression) {
            (Some(stat), None) => Queried::Metric(stat.meant(place, &id)?),
            (None, Some(text)) => Queried::Expression(text),
            _ => {
                let text = format!("The query {id} needs either a MetricStat or an Expression");
                return Err(bad(text));
            }
        };
        Ok(MetricQuery {
            label: self.label,
            is_returned: self.return_data.unwrap_or(true),
            period: self.period.map(metric::period).transpose()?,
            what,
            id,
        })
    }
}

impl MetricStat {
    fn meant(self, place: &str, id: &str) -> Result<MetricAsked, Error> {
        let required = |name: &str| bad(format!("The query {id} needs a {name}"));
        let statistic = Statistic::parse(&self.stat).ok_or_else(|| {
            bad(format!("The statistic {} of query {id} is not supported here", self.stat))
        })?;
        let metric = metric::id(
            place,
            self.metric.namespace.ok_or_else(|| required("Namespace"))?,
            self.metric.metric_name.ok_or_else(|| required("MetricName"))?,
            self.metric.dimensions,
        );
        let period = metric::period(self.period.unwrap_or(60))?;
        Ok(MetricAsked { metric, statistic, period, unit: self.unit })
    }
}

/// Queries of which one is looked at.
///
/// # Errors
/// What [`Query::meant`] and [`Queries::read`] say; none or several are told; what is looked at
/// would be whatever is found.
pub(in crate::api) fn looked_at(
    place: &str,
    queries: Vec<Query>,
) -> Result<Vec<MetricQuery>, Error> {
    let queries = queries.into_iter().map(|query| query.meant(place));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let told = queries.iter().filter(|query| query.is_returned).count();
    if queries.len() > MOST || told != 1 {
        return Err(bad(format!(
            "Metrics must have at most {MOST} items, and ReturnData must be true of one"
        )));
    }
    let read = Queries::read(&queries).map_err(|why| bad(why.to_string()))?;
    if read.search() {
        return Err(bad("SEARCH is not supported on Metric Alarms."));
    }
    Ok(queries)
}

/// Whether its unit is the metric's.
pub(super) fn fits(asked: &MetricAsked) -> bool {
    asked.unit.as_ref().is_none_or(|unit| unit == metric::unit(&asked.metric.name))
}

/// As it was given.
pub(in crate::api) fn shown(query: &MetricQuery) -> Value {
    let (stat, expression) = match &query.what {
        Queried::Expression(text) => (None, Some(text)),
        Queried::Metric(asked) => {
            let stat = json!({
                "Metric": metric::shown(&asked.metric),
                "Period": asked.period,
                "Stat": asked.statistic.as_str(),
                "Unit": asked.unit,
            });
            (Some(stat), None)
        }
    };
    json!({
        "Id": query.id,
        "MetricStat": stat,
        "Expression": expression,
        "Label": query.label,
        "ReturnData": query.is_returned,
        "Period": query.period,
    })
}
