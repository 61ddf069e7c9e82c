//! Data of many metrics at once. **Invariant:** an answer holds at most so many datapoints as were
//! asked for; the token of the next names where it goes on.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::metric;
use super::queries::{self, Query};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time;
use crate::model::{MetricAsked, MetricId};
use crate::series::math::queries::{Queries, Told, Window};
use crate::series::math::{Bad, Line};

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
    let queries = asked.metric_data_queries.into_iter().map(|query| query.meant(call.place()));
    let queries = Queries::read(&queries.collect::<Result<Vec<_>, _>>()?).map_err(unclear)?;
    let read = |asked: &MetricAsked| {
        let period = Duration::from_secs(u64::from(asked.period));
        let points = match queries::fits(asked) {
            true => call.api.series.read(&asked.metric, from, to, period),
            false => Vec::new(),
        };
        points.into_iter().map(|(at, point)| (at, point.value(asked.statistic))).collect()
    };
    let window = Window { from, to: to.min(call.now) };
    let known = if queries.search() { known(call) } else { Vec::new() };
    let Told { mut lines, is_cut } = queries.told(window, &known, read).map_err(unclear)?;
    if asked.scan_by.as_deref() != Some("TimestampAscending") {
        lines.iter_mut().for_each(|(_, line)| line.points.reverse());
    }
    let (results, next) = pages(&lines, place, most);
    let next = next.map(|(query, point)| format!("{query}.{point}"));
    let cut = is_cut.then(|| {
        let value = "Maximum number of allowed metrics exceeded";
        json!({ "Code": "MaxMetricsExceeded", "Value": value })
    });
    let messages: Vec<_> = cut.into_iter().collect();
    Ok(json!({ "MetricDataResults": results, "NextToken": next, "Messages": messages }))
}

/// The metrics of the call's region.
fn known(call: &Call) -> Vec<MetricId> {
    let mut all = call.api.series.list();
    all.retain(|id| id.region == call.place());
    all
}

fn bad(message: impl Into<String>) -> Error {
    Error::invalid(message)
}

fn unclear(why: Bad) -> Error {
    bad(why.to_string())
}

/// Where an answer goes on: the line and its first datapoint.
type Place = (usize, usize);

fn place(token: &str) -> Result<Place, Error> {
    let parts = token.split_once('.');
    let place = parts.and_then(|(query, point)| Some((query.parse().ok()?, point.parse().ok()?)));
    place.ok_or_else(|| Error::new("InvalidNextToken", "NextToken is not valid"))
}

/// At most `most` datapoints from `place` on.
fn pages(lines: &[(String, Line)], place: Place, most: usize) -> (Vec<Value>, Option<Place>) {
    let (mut results, mut left) = (Vec::new(), most);
    for (index, (id, line)) in lines.iter().enumerate().skip(place.0) {
        let skipped = if index == place.0 { place.1 } else { 0 };
        let rest = line.points.get(skipped..).unwrap_or_default();
        let taken = &rest[..rest.len().min(left)];
        let is_whole = taken.len() == rest.len();
        results.push(json!({
            "Id": id,
            "Label": line.label,
            "Timestamps": taken.iter().map(|(at, _)| time::seconds(*at)).collect::<Vec<_>>(),
            "Values": taken.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            "StatusCode": if is_whole { "Complete" } else { "PartialData" },
        }));
        left -= taken.len();
        if !is_whole {
            return (results, Some((index, skipped + taken.len())));
        }
        if left == 0 && index + 1 < lines.len() {
            return (results, Some((index + 1, 0)));
        }
    }
    (results, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn pages_give_every_datapoint_once() {
        let line = |id: &str, count: u64| {
            let points = (0..count).map(|n| (Timestamp(n), 1.0)).collect();
            (id.to_owned(), Line { label: id.to_owned(), points })
        };
        let lines = [line("a", 5), line("b", 0), line("c", 3)];
        for most in 1..10 {
            let (mut place, mut told, mut pages_read) = ((0, 0), Vec::new(), 0);
            loop {
                let (results, next) = pages(&lines, place, most);
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
