//! Our own metrics over time: bounded rings of short and of minute points, in memory.
//!
//! Fed by one sampler, read by alarms, by scaling and by CloudWatch's API. A point is the
//! statistics of the samples of one period, so that a longer period is the sum of its shorter ones.
//! Not here: what is measured, and what follows from it. **Invariant:** a series holds at most
//! [`POINTS`] short points and [`MINUTES`] minutes, and there are at most [`MOST`] series.

pub mod math;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::{MetricId, Statistic};

/// Short points kept of one series: three hours of 10 s.
pub const POINTS: usize = 1080;
/// Minutes kept of one series: three hours.
pub const MINUTES: usize = 180;
/// Series kept (ours); what is more is not recorded.
pub const MOST: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

/// The statistics of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub count: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Point {
    /// One sample.
    #[must_use]
    pub const fn one(value: f64) -> Self {
        Self { count: 1.0, sum: value, min: value, max: value }
    }

    /// Events counted: each is a sample of 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "CloudWatch's numbers are floats")]
    pub const fn events(count: u64) -> Self {
        let least = if count == 0 { 0.0 } else { 1.0 };
        Self { count: count as f64, sum: count as f64, min: least, max: least }
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The average of no sample is 0.
    #[must_use]
    pub fn value(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::SampleCount => self.count,
            Statistic::Average if self.count == 0.0 => 0.0,
            Statistic::Average => self.sum / self.count,
            Statistic::Sum => self.sum,
            Statistic::Minimum => self.min,
            Statistic::Maximum => self.max,
        }
    }
}

/// Points by the number of their period since 1970, ascending.
#[derive(Debug, Default)]
struct Ring(VecDeque<(u64, Point)>);

impl Ring {
    /// A point of a period that is over and was never begun is dropped: the clock went backwards.
    fn add(&mut self, period: u64, point: &Point, most: usize) {
        match self.0.back_mut() {
            Some((last, there)) if *last == period => there.merge(point),
            Some((last, _)) if *last > period => {
                if let Ok(at) = self.0.binary_search_by_key(&period, |(period, _)| *period) {
                    self.0[at].1.merge(point);
                }
            }
            _ => {
                self.0.push_back((period, *point));
                if self.0.len() > most {
                    self.0.pop_front();
                }
            }
        }
    }

    /// Those of the periods `from..to`.
    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &(u64, Point)> {
        let first = self.0.partition_point(|(period, _)| *period < from);
        self.0.iter().skip(first).take_while(move |(period, _)| *period < to)
    }
}

#[derive(Debug, Default)]
struct Rings {
    short: Ring,
    minutes: Ring,
}

/// Every series of this process. Clones share them.
#[derive(Clone, Debug)]
pub struct Series {
    step: Duration,
    rings: Arc<Mutex<BTreeMap<MetricId, Rings>>>,
}

impl Series {
    /// `step` is the length of the short points.
    #[must_use]
    pub fn new(step: Duration) -> Self {
        Self { step, rings: Arc::default() }
    }

    /// The length of the short points.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    fn rings(&self) -> MutexGuard<'_, BTreeMap<MetricId, Rings>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records samples of the short period that `at` lies in. How many of them found no room.
    pub fn add(&self, at: Timestamp, points: impl IntoIterator<Item = (MetricId, Point)>) -> usize {
        let (short, minute) = (number(at, self.step), number(at, MINUTE));
        let mut rings = self.rings();
        let mut refused = 0;
        for (id, point) in points {
            if rings.len() >= MOST && !rings.contains_key(&id) {
                refused += 1;
                continue;
            }
            let own = rings.entry(id).or_default();
            own.short.add(short, &point, POINTS);
            own.minutes.add(minute, &point, MINUTES);
        }
        refused
    }

    /// Drops the series that nothing was added to for as long as points are kept.
    pub fn forget(&self, now: Timestamp) {
        let oldest = number(now, MINUTE).saturating_sub(MINUTES as u64);
        self.rings()
            .retain(|_, rings| rings.minutes.0.back().is_some_and(|(minute, _)| *minute >= oldest));
    }

    /// Every metric that has a point, in order.
    #[must_use]
    pub fn list(&self) -> Vec<MetricId> {
        self.rings().keys().cloned().collect()
    }

    #[must_use]
    pub fn is_known(&self, id: &MetricId) -> bool {
        self.rings().contains_key(id)
    }

    /// The periods that have samples from the one that `from` lies in up to `to`, ascending.
    /// `period` is a multiple of the step or of a minute; anything else is rounded up to the next
    /// step.
    #[must_use]
    pub fn read(
        &self,
        id: &MetricId,
        from: Timestamp,
        to: Timestamp,
        period: Duration,
    ) -> Vec<(Timestamp, Point)> {
        let rings = self.rings();
        let Some(own) = rings.get(id) else { return Vec::new() };
        let whole = |unit: Duration| micros(period).is_multiple_of(micros(unit));
        let (ring, unit) = match whole(MINUTE) {
            true => (&own.minutes, MINUTE),
            false => (&own.short, self.step),
        };
        let many = micros(period).div_ceil(micros(unit)).max(1);
        let (from, to) = (number(from, unit), number_up(to, unit));
        let mut found: Vec<(u64, Point)> = Vec::new();
        for (at, point) in ring.range(from - from % many, to) {
            let begin = at - at % many;
            match found.last_mut() {
                Some((last, there)) if *last == begin => there.merge(point),
                _ => found.push((begin, *point)),
            }
        }
        let start = |(begin, point)| (Timestamp(begin * micros(unit)), point);
        found.into_iter().map(start).collect()
    }

    /// The last `count` periods that are over at `now`, oldest first; none: no sample.
    #[must_use]
    pub fn last(
        &self,
        id: &MetricId,
        now: Timestamp,
        period: Duration,
        count: usize,
    ) -> Vec<Option<Point>> {
        let end = number(now, period);
        let begin = end.saturating_sub(count as u64);
        let at = |number: u64| Timestamp(number * micros(period));
        let points = self.read(id, at(begin), at(end), period);
        let mut points = points.into_iter().peekable();
        let wanted = begin..end;
        wanted.map(|n| points.next_if(|(start, _)| *start == at(n)).map(|(_, p)| p)).collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn number(at: Timestamp, period: Duration) -> u64 {
    at.0 / micros(period)
}

fn number_up(at: Timestamp, period: Duration) -> u64 {
    at.0.div_ceil(micros(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> MetricId {
        MetricId::new("AWS/ECS", name, &[])
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// Samples as `SECOND=VALUE`.
    fn filled(samples: &str) -> Series {
        let series = Series::new(Duration::from_secs(10));
        for word in samples.split_whitespace() {
            let (second, value) = word.split_once('=').unwrap();
            let point = Point::one(value.parse().unwrap());
            series.add(at(second.parse().unwrap()), [(id("x"), point)]);
        }
        series
    }

    /// `SECOND=COUNT/SUM/MIN/MAX` of the periods in `from..to`.
    fn check(samples: &str, (from, to): (u64, u64), period: u64, expected: &str) {
        let period = Duration::from_secs(period);
        let points = filled(samples).read(&id("x"), at(from), at(to), period);
        let shown = points.iter().map(|(start, p)| {
            format!("{}={}/{}/{}/{}", start.0 / 1_000_000, p.count, p.sum, p.min, p.max)
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{samples}");
    }

    #[test]
    fn periods_are_the_sums_of_their_samples() {
        check("0=1 3=5 10=2", (0, 60), 10, "0=2/6/1/5 10=1/2/2/2");
        check("0=1 3=5 10=2", (0, 60), 60, "0=3/8/1/5");
        check("0=1 70=5 130=2", (60, 120), 60, "60=1/5/5/5");
        check("0=1 70=5 130=2 290=9", (0, 600), 120, "0=2/6/1/5 120=1/2/2/2 240=1/9/9/9");
        check("0=1 10=2 20=4 30=8", (0, 60), 20, "0=2/3/1/2 20=2/12/4/8");
        check("5=1", (60, 120), 60, "");
    }

    #[test]
    fn a_clock_that_goes_back_adds_to_periods_that_are_there() {
        check("0=1 20=2 3=5 12=7", (0, 60), 10, "0=2/6/1/5 20=1/2/2/2");
    }

    #[test]
    fn periods_without_samples_are_told_from_those_of_zero() {
        let check = |now: u64, count: usize, expected: &str| {
            let last = filled("0=1 60=0 200=3").last(&id("x"), at(now), MINUTE, count);
            let shown = last.iter().map(|point| {
                point
                    .map_or_else(|| "-".to_owned(), |point| point.value(Statistic::Sum).to_string())
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{now}");
        };
        check(240, 3, "0 - 3");
        check(239, 3, "1 0 -");
        check(60, 3, "1");
        check(600, 2, "- -");
    }

    #[test]
    fn rings_and_their_number_are_bounded() {
        let series = Series::new(Duration::from_secs(1));
        for second in 0..20_000 {
            series.add(at(second), [(id("x"), Point::events(1))]);
        }
        let short = series.read(&id("x"), at(0), at(20_000), Duration::from_secs(1));
        let minutes = series.read(&id("x"), at(0), at(20_000), MINUTE);
        assert_eq!((short.len(), minutes.len()), (POINTS, MINUTES));
        let refused =
            series.add(at(20_000), (0..MOST).map(|n| (id(&n.to_string()), Point::one(1.0))));
        assert_eq!((refused, series.list().len()), (1, MOST));
        series.forget(at(20_000 + 3 * 3600 - 60));
        assert_eq!(series.list().len(), MOST);
        series.forget(at(20_000 + 3 * 3600 + 60));
        assert_eq!(series.list().len(), 0);
    }
}
