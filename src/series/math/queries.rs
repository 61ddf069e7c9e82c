//! Queries of metrics and expressions over them, as requests and alarms name them together.
//!
//! **Invariant:** an expression is evaluated after whatever it names, and over metrics of one
//! period alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::search::{MOST, Search, labels};
use super::{Bad, Expression, Line, Scope, Value, unknown};
use crate::clock::Timestamp;
use crate::model::{MetricAsked, MetricId, MetricQuery, Queried};

/// Searches of one request (CloudWatch's, of one graph).
const SEARCHES: usize = 100;

/// Queries that are understood.
#[derive(Debug)]
pub struct Queries(Vec<Meant>);

#[derive(Debug)]
struct Meant {
    id: String,
    label: Option<String>,
    what: What,
    is_returned: bool,
}

#[derive(Debug)]
enum What {
    Metric(MetricAsked),
    /// With the seconds of the period that it is evaluated at; 0: nothing is asked for yet.
    Expression(Expression, u32),
}

/// What queries come to.
#[derive(Debug, Default)]
pub struct Told {
    /// Those of queries that are returned, each with its query's id.
    pub lines: Vec<(String, Line)>,
    /// A search has found more than it may tell.
    pub is_cut: bool,
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
            let what = match &query.what {
                Queried::Metric(asked) => What::Metric(asked.clone()),
                Queried::Expression(text) => {
                    let expression = Expression::parse(text).map_err(|why| bad(id, &why))?;
                    What::Expression(expression, query.period.unwrap_or_default())
                }
            };
            let (id, label) = (id.clone(), query.label.clone());
            all.push(Meant { id, label, what, is_returned: query.is_returned });
        }
        for query in &all {
            let What::Expression(expression, _) = &query.what else { continue };
            let is_known = |id: &&String| all.iter().any(|other| other.id == **id);
            if let Some(id) = expression.ids().iter().find(|id| !is_known(id)) {
                return Err(bad(&query.id, &unknown(id)));
            }
        }
        let searches = all.iter().map(|query| query.what.searches().len()).sum::<usize>();
        if searches > SEARCHES {
            return Err(Bad::new(format!("there are {searches} searches, and at most {SEARCHES}")));
        }
        set_periods(&mut all)?;
        Ok(Self(all))
    }

    /// Whether they search for metrics.
    #[must_use]
    pub fn search(&self) -> bool {
        self.0.iter().any(|query| !query.what.searches().is_empty())
    }

    /// The period of those that are returned, in seconds; none: they have several.
    #[must_use]
    pub fn period(&self) -> Option<u32> {
        let returned = self.0.iter().filter(|query| query.is_returned);
        let periods: BTreeSet<_> = returned.map(Meant::period).collect();
        periods.first().copied().filter(|_| periods.len() == 1)
    }

    /// What those that are returned come to. `known`: the metrics that there are, for searches.
    ///
    /// # Errors
    /// What an expression says; expressions that name each other.
    pub fn told(
        &self,
        window: Window,
        known: &[MetricId],
        read: impl Fn(&MetricAsked) -> Vec<(Timestamp, f64)>,
    ) -> Result<Told, Bad> {
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        let (mut metrics, mut left, mut is_cut) = (Vec::new(), Vec::new(), false);
        for query in &self.0 {
            match &query.what {
                What::Metric(asked) => {
                    let label = query.label.as_ref().unwrap_or(&asked.metric.name).clone();
                    values.insert(&query.id, Value::Line(Line { label, points: read(asked) }));
                    metrics.push(query.id.as_str());
                }
                What::Expression(expression, _) => left.push((query, expression)),
            }
        }
        while !left.is_empty() {
            let waits = |expression: &Expression| {
                left.iter().any(|(other, _)| expression.ids().contains(&other.id))
            };
            let Some(next) = left.iter().position(|(_, expression)| !waits(expression)) else {
                let ids: Vec<_> = left.iter().map(|(query, _)| query.id.as_str()).collect();
                let ids = ids.join(", ");
                return Err(Bad::new(format!("The expressions {ids} refer to each other")));
            };
            let (query, expression) = left.remove(next);
            let (Window { from, to }, period) = (window, query.period());
            let find = |search: &Search| {
                let found = search.find(known);
                is_cut |= found.len() > MOST;
                searched(search, &found[..found.len().min(MOST)], period, &read)
            };
            let found = expression.searches.iter().map(find).collect();
            let period = Duration::from_secs(u64::from(period));
            let scope = Scope { values, metrics, found, from, to, period };
            let value = expression.evaluate(&scope).map_err(|why| bad(&query.id, &why))?;
            if query.is_returned && matches!(value, Value::Scalar(_)) {
                let why = Bad::new("it gives a number, not a time series; see TIME_SERIES");
                return Err(bad(&query.id, &why));
            }
            Scope { values, metrics, .. } = scope;
            values.insert(&query.id, value);
        }
        let returned = self.0.iter().filter(|query| query.is_returned);
        let lines = returned.flat_map(|query| query.told(values.remove(query.id.as_str())));
        Ok(Told { lines: lines.collect(), is_cut })
    }
}

/// What a search has found, at the period of its expression.
fn searched(
    search: &Search,
    found: &[&MetricId],
    period: u32,
    read: impl Fn(&MetricAsked) -> Vec<(Timestamp, f64)>,
) -> Vec<Line> {
    let line = |(id, label): (&&MetricId, String)| {
        let (metric, statistic) = (MetricId::clone(id), search.statistic);
        let points = read(&MetricAsked { metric, statistic, period, unit: None });
        Line { label, points }
    };
    found.iter().zip(labels(found)).map(line).collect()
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

    /// Several lines have labels of their own, behind the query's; those that were searched for
    /// have nothing before them unless it is given.
    fn told(&self, value: Option<Value>) -> Vec<(String, Line)> {
        let label = self.label.as_ref();
        match value {
            Some(Value::Line(line)) => {
                let label = label.cloned().unwrap_or_else(|| match &self.what {
                    What::Metric(_) => line.label,
                    What::Expression(..) => self.id.clone(),
                });
                vec![(self.id.clone(), Line { label, points: line.points })]
            }
            Some(Value::Lines(lines)) => {
                let before = match label {
                    Some(label) => label.as_str(),
                    None if self.what.searches().is_empty() => &self.id,
                    None => "",
                };
                let one = |line: Line| {
                    let label = format!("{before} {}", line.label).trim().to_owned();
                    (self.id.clone(), Line { label, ..line })
                };
                lines.into_iter().map(one).collect()
            }
            Some(Value::Scalar(_)) | None => Vec::new(),
        }
    }
}

impl What {
    fn searches(&self) -> &[Search] {
        match self {
            Self::Metric(_) => &[],
            Self::Expression(expression, _) => &expression.searches,
        }
    }
}

/// An expression has the period of the metrics that it is over; one over none, and one that
/// searches, has its own.
fn set_periods(all: &mut [Meant]) -> Result<(), Bad> {
    let found: Vec<_> = (0..all.len()).map(|index| periods(all, index)).collect();
    for (query, found) in all.iter_mut().zip(found) {
        let What::Expression(_, period) = &mut query.what else { continue };
        *period = match (found.len(), found.first(), *period) {
            (0, _, 0) => return Err(bad(&query.id, &Bad::new("it needs a Period"))),
            (0, _, asked) => asked,
            (1, Some(own), asked) if [0, *own].contains(&asked) => *own,
            _ => {
                let why = "its metrics and its own Period have to be of one period";
                return Err(bad(&query.id, &Bad::new(why)));
            }
        };
    }
    Ok(())
}

/// The periods of the metrics that a query is over, directly or by others. What it searches for has
/// the query's own period, else the search's.
fn periods(all: &[Meant], index: usize) -> BTreeSet<u32> {
    let (mut found, mut seen, mut left) = (BTreeSet::new(), BTreeSet::new(), vec![index]);
    while let Some(index) = left.pop() {
        if !seen.insert(index) {
            continue;
        }
        match &all[index].what {
            What::Metric(asked) => drop(found.insert(asked.period)),
            What::Expression(expression, asked) => {
                for search in &expression.searches {
                    found.extend(Some(*asked).filter(|asked| *asked > 0).or(search.period));
                }
                let named = |(at, query): (usize, &Meant)| {
                    let is_metric = matches!(query.what, What::Metric(_));
                    let by_all = expression.takes_metrics() && is_metric;
                    (by_all || expression.ids().contains(&query.id)).then_some(at)
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
        let known = [
            MetricId::new("N", "A", &[]),
            MetricId::new("N", "B", &[("Of", "one")]),
            MetricId::new("N", "B", &[("Of", "two")]),
        ];
        let queries: Vec<_> = texts.iter().map(query).collect();
        let told = Queries::read(&queries).and_then(|queries| {
            queries.told(window, &known, |asked| {
                let first = if asked.metric.name == "A" { 1.0 } else { 10.0 };
                vec![(minute(0), first), (minute(1), first * f64::from(asked.period) / 30.0)]
            })
        });
        let shown = match told {
            Ok(Told { lines, is_cut }) => {
                assert!(!is_cut);
                let one = |(id, line): (String, Line)| {
                    let values: Vec<_> = line.points.iter().map(|(_, v)| v.to_string()).collect();
                    format!("{id} ({}): {}", line.label, values.join(" "))
                };
                lines.into_iter().map(one).collect::<Vec<_>>().join("; ")
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

    #[test]
    fn searches_are_as_many_series_as_they_find() {
        check(&["e=SEARCH('{N,Of} B', 'Sum', 60)"], "e (one): 10 20; e (two): 10 20");
        check(&["e=SEARCH('{N,Of} B', 'Sum') @60"], "e (one): 10 20; e (two): 10 20");
        check(&["e=SEARCH('{N,Of} B', 'Sum', 60) @120"], "e (one): 10 40; e (two): 10 40");
        check(&["e=SEARCH('N', 'Sum', 60) * 2"], "e (A): 2 4; e (B one): 20 40; e (B two): 20 40");
        check(&["e=SEARCH('nothing', 'Sum', 60)"], "");
        check(&["e=SUM(SEARCH('N', 'Sum', 60))"], "e (e): 21 42");
        check(&["e=SORT(SEARCH('N', 'Sum', 60), MAX, DESC, 1)"], "e (B one): 10 20");
        check(&["f=MAX(e)", "e!=SEARCH('N', 'Sum', 60)"], "f (f): 10 20");
        check(
            &["f=e / a", "e!=SEARCH('{N,Of}', 'Sum', 60)", "a!=60"],
            "f (f one): 10 10; f (f two): 10 10",
        );
        check(&["e=SUM(SEARCH('{N,Of}', 'Sum')) / a", "a!=60"], "e (e): 20 20");
        let several = "! Error in expression 'e': its metrics and its own Period have to be of one \
                       period";
        check(&["e=SUM(SEARCH('N', 'Sum', 120)) / a", "a!=60"], several);
        check(&["e=[SEARCH('A', 'Sum', 60), SEARCH('B', 'Sum', 120)]"], several);
        check(&["e=SEARCH('N', 'Sum')"], "! Error in expression 'e': it needs a Period");
        check(
            &["e=SEARCH('(', 'Sum')"],
            "! Error in expression 'e': SEARCH: at character 2: a term is expected",
        );
        let why = "! Error in expression 'e': SEARCH takes a search and a statistic in quotes, and \
                   perhaps a period";
        check(&["e=SEARCH('N')"], why);
        check(&["e=SEARCH('N', Sum)"], why);
        check(&["e=SEARCH('N', 'Sum', a)", "a=60"], why);
        let many = format!("e=[{}]", ["SEARCH('N','Sum',60)"; 90].join(","));
        assert!(many.len() < 2048);
        check(&[&many, &many.replacen('e', "f", 1)], "! there are 180 searches, and at most 100");
    }

    #[test]
    fn what_a_search_finds_is_bounded() {
        let id = |number: usize| MetricId::new("N", "A", &[("Of", &number.to_string())]);
        let known: Vec<_> = (0..MOST + 1).map(id).collect();
        let what = Queried::Expression("SEARCH('N', 'Sum', 60)".to_owned());
        let query =
            MetricQuery { id: "e".to_owned(), label: None, what, is_returned: true, period: None };
        let window = Window { from: Timestamp(0), to: Timestamp(1) };
        let queries = Queries::read(&[query]).unwrap();
        assert!(queries.search());
        let told = queries.told(window, &known, |_| Vec::new()).unwrap();
        assert_eq!((told.lines.len(), told.is_cut), (MOST, true));
        let told = queries.told(window, &known[1..], |_| Vec::new()).unwrap();
        assert_eq!((told.lines.len(), told.is_cut), (MOST, false));
    }
}
