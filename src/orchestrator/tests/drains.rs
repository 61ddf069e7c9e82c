//! Drains while the wall clock is set.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::balance::InFlight;

/// One steady task with an exchange under way that was told to stop, and what sets the clock.
async fn draining() -> (House, InFlight, &'static AtomicI64) {
    let by: &'static AtomicI64 = Box::leak(Box::default());
    let sim = Sim::new(1);
    let fleet = Fleet::one(Arc::new(sim.clone()));
    let house = House::of(MemoryJournal::default(), sim, &fleet, Clock::set(ORIGIN, by));
    house.scale(1).await;
    house.until("steady", is_steady).await;
    let endpoint = Arc::clone(house.reader.load().endpoints.values().next().unwrap());
    let exchange = InFlight::take(&endpoint, 0);
    house.scale(0).await;
    let is_draining =
        |state: &State| state.tasks.values().all(|task| task.known == TaskStatus::Deactivating);
    house.until("draining", is_draining).await;
    (house, exchange, by)
}

fn signals(house: &House) -> usize {
    house.effects(|kind| *kind == EffectKind::StopSignalled)
}

#[tokio::test(start_paused = true)]
async fn clock_that_is_set_forward_cuts_no_exchange() {
    let (house, exchange, by) = draining().await;
    by.store(3_600, Ordering::Relaxed);
    let end = clock::instant() + DELAY - Duration::from_secs(2);
    house.until("most of the delay", |_| clock::instant() >= end).await;
    assert_eq!(signals(&house), 0);
    drop(exchange);
    let freed = clock::instant();
    house.until("the signal", |_| signals(&house) == 1).await;
    assert!(freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn clock_that_is_set_back_makes_no_drain_longer() {
    let (house, exchange, by) = draining().await;
    let begun = clock::instant();
    by.store(-3_600, Ordering::Relaxed);
    house.until("the signal", |_| signals(&house) == 1).await;
    let took = begun.elapsed();
    assert!((DELAY - Duration::from_secs(2)..DELAY * 2).contains(&took), "{took:?}");
    drop(exchange);
    house.until("stopped", |s| s.tasks.values().all(|t| t.known == TaskStatus::Stopped)).await;
    // Another one starts at the hour that it is now.
    house.scale(1).await;
    house.until("steady again", is_steady).await;
}
