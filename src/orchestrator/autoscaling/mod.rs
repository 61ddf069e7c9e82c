//! Samples our own metrics, step by step.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::sampler::Sampler;
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::routing::Reader;
use crate::runtime::Runtime;
use crate::series::Series;
use crate::state::Store;

/// The loop. One per store.
#[derive(Debug)]
pub struct Scaling {
    sampler: Sampler,
    step: Duration,
    clock: Clock,
}

impl Scaling {
    #[must_use]
    pub fn new(
        store: Store,
        reader: Reader,
        runtime: Arc<dyn Runtime>,
        series: Series,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let step = series.step();
        Self { sampler: Sampler::new(store, reader, runtime, series, metrics), step, clock }
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut end = begin(self.clock.now(), self.step);
        loop {
            // A clock set back begins its steps anew; one set forward skips some.
            let now = self.clock.now();
            end = begin(now, self.step).min(end + self.step) + self.step;
            tokio::time::sleep(end.since(now)).await;
            end = begin(self.clock.now(), self.step).max(end);
            self.sampler.sample(end).await;
        }
    }
}

/// Of the period that `at` lies in.
fn begin(at: Timestamp, period: Duration) -> Timestamp {
    let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
    Timestamp(at.0 - at.0 % period)
}
