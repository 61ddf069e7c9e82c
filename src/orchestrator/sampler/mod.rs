//! The sampler: our own metrics, read at every step and kept over time under AWS's names.
//!
//! One loop of the control side; it reads the counters that the planes move anyway, so measuring
//! costs a request nothing. Not here: keeping (`series`), what follows from it (`autoscaling`).
//! **Invariant:** a sample belongs to the step that has just ended.

mod balancers;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::balancers::Balancers;
use self::tasks::Tasks;
use crate::clock::Timestamp;
use crate::metrics::{Counter, Metrics, names};
use crate::model::MetricId;
use crate::routing::Reader;
use crate::runtime::Fleet;
use crate::series::{Point, Series};
use crate::state::Store;

/// Series that nothing was added to are looked for this often (ours).
const FORGET: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Sampler {
    store: Store,
    reader: Reader,
    series: Series,
    balancers: Balancers,
    tasks: Tasks,
    metrics: Metrics,
    refused: Counter,
    forgot_at: Timestamp,
}

impl Sampler {
    pub(super) fn new(
        store: Store,
        reader: Reader,
        fleet: Fleet,
        series: Series,
        metrics: Metrics,
    ) -> Self {
        let (balancers, tasks) = (Balancers::default(), Tasks::new(fleet));
        let refused = metrics.counter(&names::SERIES_REFUSED, &[]);
        let forgot_at = Timestamp::default();
        Self { store, reader, series, balancers, tasks, metrics, refused, forgot_at }
    }

    /// Samples everything, for the step that ends at `end`.
    pub(super) async fn sample(&mut self, end: Timestamp) {
        let state = self.store.read();
        let routing = Arc::clone(&self.reader.load());
        let mut points = self.balancers.points(&state, &routing);
        points.extend(self.tasks.points(&state).await);
        let within = Timestamp(end.0.saturating_sub(1));
        let refused = self.series.add(within, points);
        self.refused.add(self.metrics.control(), refused as u64);
        if end.since(self.forgot_at) >= FORGET {
            self.forgot_at = end;
            self.series.forget(end);
        }
    }
}

/// What was added to totals that only rise, since the last look.
#[derive(Debug, Default)]
struct Deltas {
    before: BTreeMap<String, u64>,
    now: BTreeMap<String, u64>,
}

impl Deltas {
    /// A total that was not there before began at 0; one that fell is another's.
    fn of(&mut self, name: String, total: u64) -> u64 {
        let before = self.before.get(&name).copied().unwrap_or(0);
        self.now.insert(name, total);
        total.saturating_sub(before)
    }

    /// The look is over.
    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

/// Samples of one step, by metric.
#[derive(Debug, Default)]
struct Points {
    events: BTreeMap<MetricId, u64>,
    gauges: BTreeMap<MetricId, f64>,
    points: Vec<(MetricId, Point)>,
}

impl Points {
    fn count(&mut self, id: MetricId, events: u64) {
        *self.events.entry(id).or_default() += events;
    }

    fn gauge(&mut self, id: MetricId, value: f64) {
        *self.gauges.entry(id).or_default() += value;
    }

    fn point(&mut self, id: MetricId, point: Point) {
        self.points.push((id, point));
    }

    /// None: there is nothing to tell.
    fn some(&mut self, id: MetricId, point: Option<Point>) {
        self.points.extend(point.map(|point| (id, point)));
    }

    fn done(self) -> Vec<(MetricId, Point)> {
        let events = self.events.into_iter().map(|(id, count)| (id, Point::events(count)));
        let gauges = self.gauges.into_iter().map(|(id, value)| (id, Point::one(value)));
        events.chain(gauges).chain(self.points).collect()
    }
}

#[cfg(test)]
mod tests;
