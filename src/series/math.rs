//! Metric math: expressions over series. Pure.
//!
//! Source: CloudWatch user guide, "Using math expressions with CloudWatch metrics". Of its
//! functions those are here that dashboards and alarms are made of ([`FUNCTIONS`]); there is no
//! anomaly detection. **Invariant:** what an expression comes to has no value that is
//! not finite: such a datapoint is missing, as in CloudWatch.

mod parse;
pub mod queries;
mod search;
mod sort;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::search::Search;
use super::micros;
use crate::clock::Timestamp;

/// The functions that are known.
pub const FUNCTIONS: [&str; 25] = [
    "ABS",
    "AVG",
    "CEIL",
    "DATAPOINT_COUNT",
    "DIFF",
    "DIFF_TIME",
    "FILL",
    "FIRST",
    "FLOOR",
    "IF",
    "LAST",
    "MAX",
    "METRICS",
    "METRIC_COUNT",
    "MIN",
    "PERIOD",
    "RATE",
    "REMOVE_EMPTY",
    "RUNNING_SUM",
    "SEARCH",
    "SLICE",
    "SORT",
    "STDDEV",
    "SUM",
    "TIME_SERIES",
];
/// The longest expression (CloudWatch's).
const LONGEST: usize = 2048;

/// An expression that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(String);

impl Bad {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    fn at(at: usize, why: &str) -> Self {
        Self(format!("at character {}: {why}", at + 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

impl Binary {
    fn of(self, a: f64, b: f64) -> f64 {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Equal => truth(a == b),
            Self::NotEqual => truth(a != b),
            Self::LessOrEqual => truth(a <= b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Less => truth(a < b),
            Self::Greater => truth(a > b),
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Power => a.powf(b),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Number(f64),
    Id(String),
    /// `REPEAT` or `LINEAR`.
    Word(String),
    Text(String),
    List(Vec<Self>),
    Call(String, Vec<Self>),
    /// The number of one of the expression's searches.
    Search(usize),
    Negative(Box<Self>),
    Binary(Binary, Box<Self>, Box<Self>),
}

/// An expression that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    term: Term,
    ids: BTreeSet<String>,
    searches: Vec<Search>,
}

/// Values over time, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    pub label: String,
    pub points: Vec<(Timestamp, f64)>,
}

/// What an expression, or a part of one, comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(f64),
    Line(Line),
    Lines(Vec<Line>),
}

/// Where an expression is evaluated.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// What every id stands for: other expressions are evaluated already.
    pub values: BTreeMap<&'a str, Value>,
    /// Ids of metrics, as opposed to expressions, in their order.
    pub metrics: Vec<&'a str>,
    /// What each of the expression's searches has found.
    pub found: Vec<Vec<Line>>,
    pub from: Timestamp,
    pub to: Timestamp,
    pub period: Duration,
}

impl Expression {
    /// # Errors
    /// What is wrong with the text: its form, or a function that is not known.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        if text.len() > LONGEST {
            return Err(Bad::new(format!("an expression has at most {LONGEST} characters")));
        }
        let (term, searches) = parse::parse(text)?;
        let (mut unknown, mut ids) = (None, BTreeSet::new());
        term.visit(&mut |term| match term {
            Term::Call(name, _) if !FUNCTIONS.contains(&name.as_str()) => {
                unknown = Some(name.clone());
            }
            Term::Id(id) => drop(ids.insert(id.clone())),
            _ => {}
        });
        match unknown {
            Some(name) => Err(Bad::new(format!(
                "the function {name} is not supported here; there are {}",
                FUNCTIONS.join(", ")
            ))),
            None => Ok(Self { term, ids, searches }),
        }
    }

    /// The ids that it names; `METRICS` names more.
    #[must_use]
    pub const fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Whether it names metrics by `METRICS`.
    #[must_use]
    pub fn takes_metrics(&self) -> bool {
        let mut found = false;
        let is_it = |term: &Term| matches!(term, Term::Call(name, _) if name == "METRICS");
        self.term.visit(&mut |term| found |= is_it(term));
        found
    }

    /// # Errors
    /// Values that do not fit their operators or functions, or an id that stands for nothing.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, Bad> {
        scope.evaluate(&self.term)
    }
}

impl Term {
    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        see(self);
        match self {
            Self::List(items) | Self::Call(_, items) => {
                for item in items {
                    item.visit(see);
                }
            }
            Self::Negative(inner) => inner.visit(see),
            Self::Binary(_, left, right) => {
                left.visit(see);
                right.visit(see);
            }
            Self::Number(_) | Self::Id(_) | Self::Word(_) | Self::Text(_) | Self::Search(_) => {}
        }
    }
}

impl Line {
    fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        let points = self.points.iter().map(|(at, value)| (*at, change(*value)));
        Self { label: self.label.clone(), points: finite(points) }
    }

    /// At the times that both have.
    fn with(&self, other: &Self, both: impl Fn(f64, f64) -> f64) -> Self {
        let there = |(at, own): &(Timestamp, f64)| Some((*at, both(*own, other.at(*at)?)));
        Self { label: self.label.clone(), points: finite(self.points.iter().filter_map(there)) }
    }

    /// What it has at a time.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> Option<f64> {
        let found = self.points.binary_search_by_key(&time, |(at, _)| *at);
        found.ok().map(|index| self.points[index].1)
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().map(|(_, value)| *value)
    }

    /// What a change from one point to the next comes to; the first has none.
    fn steps(&self, step: impl Fn((Timestamp, f64), (Timestamp, f64)) -> f64) -> Self {
        let pairs = self.points.windows(2).map(|pair| (pair[1].0, step(pair[0], pair[1])));
        Self { label: self.label.clone(), points: finite(pairs) }
    }
}

fn finite(points: impl Iterator<Item = (Timestamp, f64)>) -> Vec<(Timestamp, f64)> {
    points.filter(|(_, value)| value.is_finite()).collect()
}

/// The average of nothing is not finite.
fn summary(name: &str, values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let sum = || values.iter().sum::<f64>();
    match name {
        "SUM" => sum(),
        "AVG" => sum() / count,
        "MIN" => values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN),
        "MAX" => values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN),
        "STDDEV" => {
            let mean = sum() / count;
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
        _ => count,
    }
}

fn unknown(id: &str) -> Bad {
    Bad::new(format!("{id} is the Id of no query"))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_secs_f64()
}

impl Scope<'_> {
    fn evaluate(&self, term: &Term) -> Result<Value, Bad> {
        match term {
            Term::Number(value) => Ok(Value::Scalar(*value)),
            Term::Id(id) => self.values.get(id.as_str()).cloned().ok_or_else(|| unknown(id)),
            Term::Word(word) => Err(Bad::new(format!("{word} is no value"))),
            Term::Text(text) => Err(Bad::new(format!("{text:?} is a text, not a value"))),
            Term::List(items) => self.list(items).map(Value::Lines),
            Term::Search(number) => {
                Ok(Value::Lines(self.found.get(*number).cloned().unwrap_or_default()))
            }
            Term::Negative(inner) => each(&self.evaluate(inner)?, |value| -value),
            Term::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                both(&left, &right, |a, b| operator.of(a, b))
            }
            Term::Call(name, items) => self.call(name, items),
        }
    }

    fn list(&self, items: &[Term]) -> Result<Vec<Line>, Bad> {
        let mut lines = Vec::new();
        for item in items {
            match self.evaluate(item)? {
                Value::Line(line) => lines.push(line),
                Value::Lines(more) => lines.extend(more),
                Value::Scalar(_) => return Err(Bad::new("a list has time series alone")),
            }
        }
        Ok(lines)
    }

    fn call(&self, name: &str, items: &[Term]) -> Result<Value, Bad> {
        let count = |least: usize, most: usize| match items.len() {
            found if (least..=most).contains(&found) => Ok(()),
            _ if least == most => Err(Bad::new(format!("{name} takes {least} values"))),
            _ => Err(Bad::new(format!("{name} takes {least} to {most} values"))),
        };
        match name {
            "METRICS" => {
                count(0, 1)?;
                return self.metrics(items.first()).map(Value::Lines);
            }
            "FILL" => {
                count(2, 2)?;
                return self.fill(&items[0], &items[1]);
            }
            "IF" => {
                count(2, 3)?;
                return self.choose(items);
            }
            "SORT" => {
                count(3, 4)?;
                return self.sort(items);
            }
            "SLICE" => {
                count(2, 3)?;
                return self.slice(items);
            }
            _ => count(1, 1)?,
        }
        self.of_one(name, self.evaluate(&items[0])?)
    }

    /// The functions of one value.
    fn of_one(&self, name: &str, value: Value) -> Result<Value, Bad> {
        let lines = |change: &dyn Fn(&Line) -> Line| match &value {
            Value::Line(line) => Ok(Value::Line(change(line))),
            Value::Lines(lines) => Ok(Value::Lines(lines.iter().map(change).collect())),
            Value::Scalar(_) => Err(Bad::new(format!("{name} takes time series"))),
        };
        match name {
            "ABS" => each(&value, f64::abs),
            "CEIL" => each(&value, f64::ceil),
            "FLOOR" => each(&value, f64::floor),
            "SUM" | "AVG" | "MIN" | "MAX" | "STDDEV" | "DATAPOINT_COUNT" => {
                Ok(summarized(name, &value))
            }
            "METRIC_COUNT" => match &value {
                Value::Lines(lines) => Ok(Value::Scalar(summary(name, &vec![0.0; lines.len()]))),
                _ => Err(Bad::new("METRIC_COUNT takes a list of time series")),
            },
            "FIRST" | "LAST" => end(name, value),
            "PERIOD" => Ok(Value::Scalar(self.period.as_secs_f64())),
            "DIFF" => lines(&|line| line.steps(|before, now| now.1 - before.1)),
            "DIFF_TIME" => lines(&|line| line.steps(|before, now| seconds(before.0, now.0))),
            "RATE" => lines(&|line| {
                line.steps(|before, now| (now.1 - before.1) / seconds(before.0, now.0))
            }),
            "RUNNING_SUM" => lines(&|line| {
                let sums = line.points.iter().scan(0.0, |sum, (at, value)| {
                    *sum += value;
                    Some((*at, *sum))
                });
                Line { label: line.label.clone(), points: finite(sums) }
            }),
            "REMOVE_EMPTY" => match value {
                Value::Lines(mut lines) => {
                    lines.retain(|line| !line.points.is_empty());
                    Ok(Value::Lines(lines))
                }
                other => Ok(other),
            },
            _ => match value {
                Value::Scalar(number) => {
                    let points = finite(self.times().map(|at| (at, number)));
                    Ok(Value::Line(Line { label: String::new(), points }))
                }
                _ => Err(Bad::new("TIME_SERIES takes a number")),
            },
        }
    }

    /// Every time that a point may have.
    fn times(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let step = micros(self.period);
        let (first, last) = (self.from.0 / step, self.to.0.div_ceil(step));
        (first..last).map(move |number| Timestamp(number * step))
    }

    /// Those whose ids have the text.
    fn metrics(&self, part: Option<&Term>) -> Result<Vec<Line>, Bad> {
        let part = match part {
            None => "",
            Some(Term::Text(text)) => text,
            Some(_) => return Err(Bad::new("METRICS takes a text in quotes, or nothing")),
        };
        let ids = self.metrics.iter().filter(|id| id.contains(part));
        let lines = ids.filter_map(|id| self.values.get(id)).flat_map(|value| match value {
            Value::Line(line) => vec![line.clone()],
            Value::Lines(lines) => lines.clone(),
            Value::Scalar(_) => Vec::new(),
        });
        Ok(lines.collect())
    }

    fn fill(&self, what: &Term, by: &Term) -> Result<Value, Bad> {
        let by = match by {
            Term::Word(word) if word == "REPEAT" => Filling::Repeat,
            Term::Word(word) if word == "LINEAR" => Filling::Linear,
            term => match self.evaluate(term)? {
                Value::Scalar(number) => Filling::Number(number),
                Value::Line(line) => Filling::Line(line),
                Value::Lines(_) => return Err(Bad::new("FILL fills with one time series")),
            },
        };
        let filled = |line: &Line| {
            let times = self.times();
            let value = |at: Timestamp| line.at(at).or_else(|| by.value(line, at));
            let points = finite(times.filter_map(|at| Some((at, value(at)?))));
            Line { label: line.label.clone(), points }
        };
        match self.evaluate(what)? {
            Value::Line(line) => Ok(Value::Line(filled(&line))),
            Value::Lines(lines) => Ok(Value::Lines(lines.iter().map(filled).collect())),
            Value::Scalar(_) => Err(Bad::new("FILL takes time series")),
        }
    }

    /// Without a third value, points for which the condition does not hold are missing.
    fn choose(&self, items: &[Term]) -> Result<Value, Bad> {
        let condition = self.evaluate(&items[0])?;
        let value = |index: usize| match items.get(index) {
            Some(term) => self.evaluate(term),
            None => Ok(Value::Line(Line::default())),
        };
        let (then, otherwise) = (value(1)?, value(2)?);
        let at = |value: &Value, time: Timestamp| match value {
            Value::Scalar(number) => Some(*number),
            Value::Line(line) => line.at(time),
            Value::Lines(_) => None,
        };
        let chosen = |holds: f64| if holds == 0.0 { &otherwise } else { &then };
        let several = |value: &Value| matches!(value, Value::Lines(_));
        if several(&condition) || several(&then) || several(&otherwise) {
            return Err(Bad::new("IF takes numbers and single time series"));
        }
        match &condition {
            Value::Scalar(holds) => Ok(chosen(*holds).clone()),
            Value::Line(line) => {
                let points = line.points.iter();
                let points =
                    points.filter_map(|(time, holds)| Some((*time, at(chosen(*holds), *time)?)));
                Ok(Value::Line(Line { label: line.label.clone(), points: finite(points) }))
            }
            Value::Lines(_) => Err(Bad::new("IF takes numbers and single time series")),
        }
    }
}

/// What FILL puts where nothing is.
enum Filling {
    Number(f64),
    Line(Line),
    Repeat,
    Linear,
}

impl Filling {
    fn value(&self, line: &Line, at: Timestamp) -> Option<f64> {
        let behind = line.points.partition_point(|(time, _)| *time < at);
        let before = || behind.checked_sub(1).map(|index| line.points[index]);
        match self {
            Self::Number(number) => Some(*number),
            Self::Line(other) => other.at(at),
            Self::Repeat => before().map(|(_, value)| value),
            Self::Linear => {
                let (first, last) = (before()?, line.points.get(behind)?);
                let share = seconds(first.0, at) / seconds(first.0, last.0);
                Some(first.1 + (last.1 - first.1) * share)
            }
        }
    }
}

/// Each value by itself.
fn each(value: &Value, change: impl Fn(f64) -> f64 + Copy) -> Result<Value, Bad> {
    Ok(match value {
        Value::Scalar(number) => Value::Scalar(change(*number)),
        Value::Line(line) => Value::Line(line.map(change)),
        Value::Lines(lines) => Value::Lines(lines.iter().map(|line| line.map(change)).collect()),
    })
}

fn both(left: &Value, right: &Value, join: impl Fn(f64, f64) -> f64 + Copy) -> Result<Value, Bad> {
    Ok(match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => Value::Scalar(join(*a, *b)),
        (Value::Scalar(a), right) => return each(right, |b| join(*a, b)),
        (left, Value::Scalar(b)) => return each(left, |a| join(a, *b)),
        (Value::Line(a), Value::Line(b)) => Value::Line(a.with(b, join)),
        (Value::Lines(all), Value::Line(b)) => {
            Value::Lines(all.iter().map(|a| a.with(b, join)).collect())
        }
        (Value::Line(a), Value::Lines(all)) => {
            let one = |b: &Line| Line { label: b.label.clone(), ..a.with(b, join) };
            Value::Lines(all.iter().map(one).collect())
        }
        (Value::Lines(_), Value::Lines(_)) => {
            return Err(Bad::new("an operator takes one list of time series, not two"));
        }
    })
}

/// The first or the last point of a line, or line of several.
fn end(name: &str, value: Value) -> Result<Value, Bad> {
    let is_first = name == "FIRST";
    match value {
        Value::Line(line) => {
            let point = if is_first { line.points.first() } else { line.points.last() };
            Ok(Value::Scalar(point.map_or(f64::NAN, |(_, value)| *value)))
        }
        Value::Lines(lines) => {
            let line = if is_first { lines.first() } else { lines.last() };
            Ok(Value::Line(line.cloned().unwrap_or_default()))
        }
        Value::Scalar(_) => Err(Bad::new(format!("{name} takes time series"))),
    }
}

/// Of a line a number; of several lines a line, at every time that one of them has.
fn summarized(name: &str, value: &Value) -> Value {
    match value {
        Value::Scalar(number) => Value::Scalar(summary(name, &[*number])),
        Value::Line(line) => Value::Scalar(summary(name, &line.values().collect::<Vec<_>>())),
        Value::Lines(lines) => {
            let mut by_time: BTreeMap<Timestamp, Vec<f64>> = BTreeMap::new();
            for (at, value) in lines.iter().flat_map(|line| &line.points) {
                by_time.entry(*at).or_default().push(*value);
            }
            let points = by_time.iter().map(|(at, values)| (*at, summary(name, values)));
            Value::Line(Line { label: String::new(), points: finite(points) })
        }
    }
}

#[cfg(test)]
mod tests;
