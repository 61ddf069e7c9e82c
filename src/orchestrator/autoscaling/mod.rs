//! Scaling: moves desired counts by what our own metrics say, and by the clock.
//!
//! One loop: at the end of every step the sampler reads, then alarms and policies are looked at and
//! one commit writes what follows: counts, activities, alarms' states. Requests that begin to wait
//! where there is no task wake it between two steps. Not here: tasks (the plan of the orchestrator
//! sees the count), the API's words. **Invariant:** only a count of a service with
//! a scalable target is moved; deciding is pure.

pub mod alarm;
mod decide;
mod plan;
mod readings;
mod schedule;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::plan::{View, plan};
use self::readings::Readings;
use super::sampler::Sampler;
use crate::clock::{Clock, Timestamp};
use crate::config::ScalingProfile;
use crate::metrics::Metrics;
use crate::model::Account;
use crate::routing::Reader;
use crate::runtime::Fleet;
use crate::series::Series;
use crate::state::{Store, StoreError};

pub use schedule::{BadSchedule, Schedule};

/// ECS's cooldown where a policy names none, in minutes of the profile.
const COOLDOWN: u32 = 5;
/// Between two passes for requests that wait lies at least this (ours).
const WANTED_REST: Duration = Duration::from_millis(10);

/// The loop. One per store.
#[derive(Debug)]
pub struct Scaling {
    sampler: Sampler,
    store: Store,
    reader: Reader,
    series: Series,
    account: Account,
    profile: ScalingProfile,
    clock: Clock,
    rng: fastrand::Rng,
}

/// What surrounds the loop.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub store: Store,
    pub reader: Reader,
    pub fleet: Fleet,
    pub account: Account,
    pub metrics: Metrics,
    pub clock: Clock,
}

impl Scaling {
    /// The step of `series` is the profile's.
    #[must_use]
    pub fn new(
        around: Surroundings,
        series: Series,
        profile: ScalingProfile,
        rng: fastrand::Rng,
    ) -> Self {
        let Surroundings { store, reader, fleet, account, metrics, clock } = around;
        let own = reader.clone();
        let sampler = Sampler::new(store.clone(), own, fleet, series.clone(), metrics);
        Self { sampler, store, reader, series, account, profile, clock, rng }
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
        let step = self.series.step();
        let mut wanted = self.reader.wanted();
        loop {
            // Behind the boundary: a timer that is early would see the step before.
            let end = begin(self.clock.now(), step) + step;
            loop {
                // A clock that was set back must not make a step longer.
                let left = end.since(self.clock.now()).min(step);
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(left) => break,
                    woken = wanted.changed() => if woken.is_err() { return },
                }
                self.pass(self.clock.now(), Readings::default()).await;
                // Many groups may begin to be asked for at once.
                tokio::time::sleep(WANTED_REST).await;
            }
            let end = begin(self.clock.now(), step).max(end);
            self.sampler.sample(end).await;
            let state = self.store.read();
            let readings = Readings::take(&state, &self.series, end, self.profile);
            self.pass(end, readings).await;
        }
    }

    /// Looks at everything and writes what follows.
    async fn pass(&mut self, now: Timestamp, readings: Readings) {
        let state = self.store.read();
        let readings = readings.beside(&self.reader.load());
        let (account, seed) = (self.account.clone(), self.rng.u64(..));
        let cooldown = self.profile.period() * COOLDOWN;
        let make = move |state: &crate::state::State| {
            let view = View { state, readings: &readings, account: &account, cooldown, now };
            plan(view, &mut fastrand::Rng::with_seed(seed))
        };
        if make(&state).is_empty() {
            return;
        }
        // Made again inside: the State may have moved on.
        let written = self.store.update(move |tx| {
            let plan = make(tx.state());
            plan.put.into_iter().for_each(|row| tx.put(row));
            plan.remove.into_iter().for_each(|key| tx.remove(key));
            Ok::<_, StoreError>(())
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "what scaling wants could not be written");
        }
    }
}

/// Of the period that `at` lies in.
fn begin(at: Timestamp, period: Duration) -> Timestamp {
    let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
    Timestamp(at.0 - at.0 % period)
}

#[cfg(test)]
mod tests;
