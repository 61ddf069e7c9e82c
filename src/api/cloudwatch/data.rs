//! Data of many metrics at once. **Invariant:** an answer holds at most so many datapoints as were
//! asked for; the token of the next names where it goes on.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::metric::{self, Dimension};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time;
use crate::clock::Timestamp;
use crate::model::{MetricId, Statistic};

/// Queries of one call (CloudWatch's).
const QUERIES: usize = 500;
/// Datapoints of one answer (CloudWatch's).
const MOST: usize = 100_800;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Get {
    metric_data_queries: Vec<Query>,
    start_time: f64,
    end_time: f64,
    next_token: Option<String>,
    scan_by: Option<String>,
    max_datapoints: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    id: String,
    metric_stat: Option<MetricStat>,
    expression: Option<String>,
    label: Option<String>,
    return_data: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricStat {
    metric: Metric,
    period: i64,
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

/// A query that is understood.
struct Meant {
    id: String,
    label: String,
    metric: MetricId,
    period: Duration,
    statistic: Statistic,
    /// Its unit is another than the metric's, so it finds nothing.
    is_empty: bool,
    is_returned: bool,
}

fn bad(message: impl Into<String>) -> Error {
    Error::invalid(message)
}

impl Query {
    fn meant(self) -> Result<Meant, Error> {
        let id = self.id;
        let mut letters = id.chars();
        let good = letters.next().is_some_and(|c| c.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            return Err(bad(format!(
                "The value {id:?} for Id must begin with a lower-case letter and hold letters, \
                 digits and underscores"
            )));
        }
        if self.expression.is_some() {
            return Err(bad(format!(
                "The query {id} has an Expression: metric math is not supported here"
            )));
        }
        let stat = self.metric_stat;
        let stat = stat.ok_or_else(|| bad(format!("The query {id} needs a MetricStat")))?;
        let required = |name: &str| bad(format!("The query {id} needs a {name}"));
        let statistic = Statistic::parse(&stat.stat).ok_or_else(|| {
            bad(format!("The statistic {} of query {id} is not supported here", stat.stat))
        })?;
        let metric = metric::id(
            stat.metric.namespace.ok_or_else(|| required("Namespace"))?,
            stat.metric.metric_name.ok_or_else(|| required("MetricName"))?,
            stat.metric.dimensions,
        );
        let unit = metric::unit(&metric.name);
        Ok(Meant {
            label: self.label.unwrap_or_else(|| metric.name.clone()),
            period: metric::period(stat.period)?,
            statistic,
            is_empty: stat.unit.is_some_and(|other| other != unit),
            is_returned: self.return_data.unwrap_or(true),
            metric,
            id,
        })
    }
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: Get = input.read()?;
    let (from, to) = (metric::moment(asked.start_time), metric::moment(asked.end_time));
    if from >= to {
        return Err(bad("The parameter EndTime must be greater than StartTime"));
    }
    if asked.metric_data_queries.is_empty() || asked.metric_data_queries.len() > QUERIES {
        return Err(bad(format!("MetricDataQueries must have 1 to {QUERIES} items")));
    }
    let most = match asked.max_datapoints {
        None => MOST,
        Some(most) => usize::try_from(most)
            .ok()
            .filter(|most| (1..=MOST).contains(most))
            .ok_or_else(|| bad(format!("MaxDatapoints must be between 1 and {MOST}")))?,
    };
    let place = asked.next_token.as_deref().map_or(Ok((0, 0)), place)?;
    let ascending = asked.scan_by.as_deref() == Some("TimestampAscending");
    let queries = asked.metric_data_queries.into_iter().map(Query::meant);
    let queries: Vec<Meant> = queries.collect::<Result<_, _>>()?;
    let mut ids: Vec<_> = queries.iter().map(|query| &query.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(bad(format!("The Id {} is given twice", pair[0])));
    }
    let queries: Vec<_> = queries.into_iter().filter(|query| query.is_returned).collect();
    let read = |query: &Meant| {
        if query.is_empty {
            return Vec::new();
        }
        let mut points = call.api.series.read(&query.metric, from, to, query.period);
        if !ascending {
            points.reverse();
        }
        let value =
            |(at, point): (Timestamp, crate::series::Point)| (at, point.value(query.statistic));
        points.into_iter().map(value).collect()
    };
    let (results, next) = pages(&queries, read, place, most);
    let next = next.map(|(query, point)| format!("{query}.{point}"));
    Ok(json!({ "MetricDataResults": results, "NextToken": next, "Messages": [] }))
}

/// Where an answer goes on: the query and its first datapoint.
type Place = (usize, usize);

fn place(token: &str) -> Result<Place, Error> {
    let parts = token.split_once('.');
    let place = parts.and_then(|(query, point)| Some((query.parse().ok()?, point.parse().ok()?)));
    place.ok_or_else(|| Error::new("InvalidNextToken", "NextToken is not valid"))
}

/// At most `most` datapoints from `place` on.
fn pages(
    queries: &[Meant],
    read: impl Fn(&Meant) -> Vec<(Timestamp, f64)>,
    place: Place,
    most: usize,
) -> (Vec<Value>, Option<Place>) {
    let (mut results, mut left) = (Vec::new(), most);
    for (index, query) in queries.iter().enumerate().skip(place.0) {
        let skipped = if index == place.0 { place.1 } else { 0 };
        let points = read(query);
        let rest = points.get(skipped..).unwrap_or_default();
        let taken = &rest[..rest.len().min(left)];
        let is_whole = taken.len() == rest.len();
        results.push(json!({
            "Id": query.id,
            "Label": query.label,
            "Timestamps": taken.iter().map(|(at, _)| time::seconds(*at)).collect::<Vec<_>>(),
            "Values": taken.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            "StatusCode": if is_whole { "Complete" } else { "PartialData" },
        }));
        left -= taken.len();
        if !is_whole {
            return (results, Some((index, skipped + taken.len())));
        }
        if left == 0 && index + 1 < queries.len() {
            return (results, Some((index + 1, 0)));
        }
    }
    (results, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_give_every_datapoint_once() {
        let query = |id: &str| Meant {
            id: id.to_owned(),
            label: id.to_owned(),
            metric: MetricId::new("AWS/ECS", id, &[]),
            period: Duration::from_secs(60),
            statistic: Statistic::Sum,
            is_empty: false,
            is_returned: true,
        };
        let queries = [query("a"), query("b"), query("c")];
        let read = |query: &Meant| {
            let count = match query.id.as_str() {
                "a" => 5,
                "b" => 0,
                _ => 3,
            };
            (0..count).map(|n| (Timestamp(n), 1.0)).collect()
        };
        for most in 1..10 {
            let (mut place, mut told, mut pages_read) = ((0, 0), Vec::new(), 0);
            loop {
                let (results, next) = pages(&queries, read, place, most);
                pages_read += 1;
                let mut here = 0;
                for result in results {
                    let count = result["Values"].as_array().unwrap().len();
                    here += count;
                    let id = result["Id"].as_str().unwrap().to_owned();
                    told.extend(std::iter::repeat_n(id, count));
                }
                assert!(here <= most);
                let Some(next) = next else { break };
                place = next;
            }
            assert_eq!(told.concat(), "aaaaaccc", "{most} in {pages_read}");
        }
    }
}
