//! Queries of metrics and expressions over them, as requests and alarms name them together.
//!
//! **Invariant:** an expression is evaluated after whatever it names, and over metrics of one
//! period alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Bad, Expression, Line, Scope, Value, unknown};
use crate::clock::Timestamp;
use crate::model::{MetricAsked, MetricQuery, Queried};

/// Queries that are understood.
#[derive(Debug)]
pub struct Queries(Vec<Meant>);

#[derive(Debug)]
struct Meant {
    id: String,
    label: String,
    what: What,
    is_returned: bool,
}

#[derive(Debug)]
enum What {
    Metric(MetricAsked),
    /// With the seconds of the period that it is evaluated at.
    Expression(Expression, u32),
}

/// The time that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

fn is_id(id: &str) -> bool {
    let mut letters = id.chars();
    letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Queries {
    /// # Errors
    /// An id that is none or is there twice, an expression that means nothing or is over metrics of
    /// several periods.
    pub fn read(queries: &[MetricQuery]) -> Result<Self, Bad> {
        let mut all: Vec<Meant> = Vec::new();
        for query in queries {
            let id = &query.id;
            if !is_id(id) {
                return Err(Bad::new(format!(
                    "The value {id:?} for Id must begin with a lower-case letter and hold \
                     letters, digits and underscores"
                )));
            }
            if all.iter().any(|other| other.id == *id) {
                return Err(Bad::new(format!("The Id {id} is given twice")));
            }
            let (what, usual) = match &query.what {
                Queried::Metric(asked) => (What::Metric(asked.clone()), asked.metric.name.as_str()),
                Queried::Expression(text) => {
                    let expression = Expression::parse(text).map_err(|why| bad(id, &why))?;
                    (What::Expression(expression, 0), id.as_str())
                }
            };
            all.push(Meant {
                id: id.clone(),
                label: query.label.clone().unwrap_or_else(|| usual.to_owned()),
                what,
                is_returned: query.is_returned,
            });
        }
        for query in &all {
            let What::Expression(expression, _) = &query.what else { continue };
            let is_known = |id: &&str| all.iter().any(|other| other.id == **id);
            if let Some(id) = expression.ids().iter().find(|id| !is_known(id)) {
                return Err(bad(&query.id, &unknown(id)));
            }
        }
        let asked: Vec<_> = queries.iter().map(|query| query.period).collect();
        set_periods(&mut all, &asked)?;
        Ok(Self(all))
    }

    /// The period of those that are returned, in seconds; none: they have several.
    #[must_use]
    pub fn period(&self) -> Option<u32> {
        let returned = self.0.iter().filter(|query| query.is_returned);
        let periods: BTreeSet<_> = returned.map(Meant::period).collect();
        periods.first().copied().filter(|_| periods.len() == 1)
    }

    /// The lines of those that are returned, each with its query's id.
    ///
    /// # Errors
    /// What an expression says; expressions that name each other.
    pub fn lines(
        &self,
        window: Window,
        read: impl Fn(&MetricAsked) -> Vec<(Timestamp, f64)>,
    ) -> Result<Vec<(String, Line)>, Bad> {
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        let (mut metrics, mut left) = (Vec::new(), Vec::new());
        for query in &self.0 {
            match &query.what {
                What::Metric(asked) => {
                    let line = Line { label: query.label.clone(), points: read(asked) };
                    values.insert(&query.id, Value::Line(line));
                    metrics.push(query.id.as_str());
                }
                What::Expression(expression, _) => left.push((query, expression)),
            }
        }
        while !left.is_empty() {
            let waits = |expression: &Expression| {
                let ids = expression.ids();
                left.iter().any(|(other, _)| ids.contains(&other.id.as_str()))
            };
            let Some(next) = left.iter().position(|(_, expression)| !waits(expression)) else {
                let ids: Vec<_> = left.iter().map(|(query, _)| query.id.as_str()).collect();
                let ids = ids.join(", ");
                return Err(Bad::new(format!("The expressions {ids} refer to each other")));
            };
            let (query, expression) = left.remove(next);
            let Window { from, to } = window;
            let period = Duration::from_secs(u64::from(query.period()));
            let scope = Scope { values, metrics, from, to, period };
            let value = expression.evaluate(&scope).map_err(|why| bad(&query.id, &why))?;
            if query.is_returned && matches!(value, Value::Scalar(_)) {
                let why = Bad::new("it gives a number, not a time series; see TIME_SERIES");
                return Err(bad(&query.id, &why));
            }
            Scope { values, metrics, .. } = scope;
            values.insert(&query.id, value);
        }
        let returned = self.0.iter().filter(|query| query.is_returned);
        Ok(returned.flat_map(|query| query.told(values.remove(query.id.as_str()))).collect())
    }
}

fn bad(id: &str, why: &Bad) -> Bad {
    Bad::new(format!("Error in expression '{id}': {why}"))
}

impl Meant {
    const fn period(&self) -> u32 {
        match &self.what {
            What::Metric(asked) => asked.period,
            What::Expression(_, period) => *period,
        }
    }

    fn told(&self, value: Option<Value>) -> Vec<(String, Line)> {
        match value {
            Some(Value::Line(line)) => {
                vec![(self.id.clone(), Line { label: self.label.clone(), ..line })]
            }
            Some(Value::Lines(lines)) => {
                let one = |line: Line| {
                    let label = format!("{} {}", self.label, line.label);
                    (self.id.clone(), Line { label, ..line })
                };
                lines.into_iter().map(one).collect()
            }
            Some(Value::Scalar(_)) | None => Vec::new(),
        }
    }
}

/// An expression has the period of the metrics that it is over.
fn set_periods(all: &mut [Meant], asked: &[Option<u32>]) -> Result<(), Bad> {
    let found: Vec<_> = (0..all.len()).map(|index| periods(all, index)).collect();
    for ((query, found), asked) in all.iter_mut().zip(found).zip(asked) {
        let What::Expression(_, period) = &mut query.what else { continue };
        *period = match (found.len(), found.first(), asked) {
            (0, _, Some(asked)) => *asked,
            (0, _, None) => return Err(bad(&query.id, &Bad::new("it needs a Period"))),
            (1, Some(own), asked) if asked.is_none_or(|asked| asked == *own) => *own,
            _ => {
                let why = "its metrics and its own Period have to be of one period";
                return Err(bad(&query.id, &Bad::new(why)));
            }
        };
    }
    Ok(())
}

/// The periods of the metrics that a query is over, directly or by others.
fn periods(all: &[Meant], index: usize) -> BTreeSet<u32> {
    let (mut found, mut seen, mut left) = (BTreeSet::new(), BTreeSet::new(), vec![index]);
    while let Some(index) = left.pop() {
        if !seen.insert(index) {
            continue;
        }
        match &all[index].what {
            What::Metric(asked) => drop(found.insert(asked.period)),
            What::Expression(expression, _) => {
                let ids = expression.ids();
                let named = |(at, query): (usize, &Meant)| {
                    let is_metric = matches!(query.what, What::Metric(_));
                    let by_all = expression.takes_metrics() && is_metric;
                    (by_all || ids.contains(&query.id.as_str())).then_some(at)
                };
                left.extend(all.iter().enumerate().filter_map(named));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MetricId, Statistic};

    /// Queries as `ID[!]=EXPRESSION[ @PERIOD]` or `ID[!]=PERIOD`, which is a metric; `!` is not
    /// returned.
    fn check(texts: &[&str], expected: &str) {
        let query = |text: &&str| {
            let (id, what) = text.split_once('=').unwrap();
            let (id, is_returned) = (id.trim_end_matches('!'), !id.ends_with('!'));
            let (what, period) = match what.parse() {
                Ok(period) => {
                    let metric = MetricId::new("N", &id.to_uppercase(), &[]);
                    let statistic = Statistic::Sum;
                    let asked = MetricAsked { metric, statistic, period, unit: None };
                    (Queried::Metric(asked), None)
                }
                Err(_) => {
                    let (what, period) = what.split_once(" @").unwrap_or((what, ""));
                    (Queried::Expression(what.to_owned()), period.parse().ok())
                }
            };
            MetricQuery { id: id.to_owned(), label: None, what, is_returned, period }
        };
        let minute = |n: u64| Timestamp(n * 60_000_000);
        let window = Window { from: minute(0), to: minute(2) };
        let queries: Vec<_> = texts.iter().map(query).collect();
        let told = Queries::read(&queries).and_then(|queries| {
            queries.lines(window, |asked| {
                let first = if asked.metric.name == "A" { 1.0 } else { 10.0 };
                vec![(minute(0), first), (minute(1), first * 2.0)]
            })
        });
        let shown = match told {
            Ok(told) => {
                let one = |(id, line): (String, Line)| {
                    let values: Vec<_> = line.points.iter().map(|(_, v)| v.to_string()).collect();
                    format!("{id} ({}): {}", line.label, values.join(" "))
                };
                told.into_iter().map(one).collect::<Vec<_>>().join("; ")
            }
            Err(bad) => format!("! {bad}"),
        };
        assert_eq!(shown, expected, "{texts:?}");
    }

    #[test]
    fn expressions_are_evaluated_after_what_they_name() {
        check(&["a=60", "b=60"], "a (A): 1 2; b (B): 10 20");
        check(&["e=a / b", "a!=60", "b!=60"], "e (e): 0.1 0.1");
        check(&["f=e * 100", "e!=a / b", "a!=60", "b!=60"], "f (f): 10 10");
        check(&["e=METRICS() * 2", "a!=60", "b!=60"], "e (e A): 2 4; e (e B): 20 40");
        check(
            &["e=a / s", "s!=SUM(b)", "a!=60", "b!=60"],
            "e (e): 0.03333333333333333 0.06666666666666667",
        );
        check(&["e=TIME_SERIES(3) @60"], "e (e): 3 3");
    }

    #[test]
    fn expressions_that_cannot_be_evaluated_are_refused() {
        check(&["e=a", "a=60", "a=60"], "! The Id a is given twice");
        check(
            &["E=60"],
            "! The value \"E\" for Id must begin with a lower-case letter and hold \
                          letters, digits and underscores",
        );
        check(&["e=f + 1", "f=e + 1", "a=60"], "! Error in expression 'e': it needs a Period");
        check(&["e=f + a", "f=e + a", "a=60"], "! The expressions e, f refer to each other");
        check(&["e=e + a", "a=60"], "! The expressions e refer to each other");
        let several = "! Error in expression 'e': its metrics and its own Period have to be of one \
                       period";
        check(&["e=a + b", "a=60", "b=120"], several);
        check(&["e=SUM(METRICS())", "a=60", "b=120"], several);
        check(&["e=a + 1 @120", "a=60"], several);
        check(&["e=x + a", "a=60"], "! Error in expression 'e': x is the Id of no query");
        check(
            &["e=SUM(a)", "a=60"],
            "! Error in expression 'e': it gives a number, not a time \
                                      series; see TIME_SERIES",
        );
        check(&["e=(a", "a=60"], "! Error in expression 'e': at character 3: ) is expected");
    }
}
