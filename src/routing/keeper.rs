//! Has the keys read that verify tokens, for as long as a snapshot has a use for them.
//!
//! **Invariant:** each key set of a snapshot has one task that reads it, which ends with the set.

use std::sync::{Arc, Weak};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Reader;
use crate::auth::{Fetcher, KeySet};
use crate::metrics::Metrics;

/// Reads the keys of every snapshot until stopped.
pub async fn keep_keys(
    reader: Reader,
    fetcher: Fetcher,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut generations = reader.watch();
    let mut kept: Vec<Weak<KeySet>> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        generations.borrow_and_update();
        let sets: Vec<_> = reader.load().key_sets.values().map(Arc::downgrade).collect();
        for set in sets.iter().filter(|set| !kept.iter().any(|known| known.ptr_eq(set))) {
            tasks.spawn(KeySet::keep(set.clone(), fetcher.clone(), metrics.clone()));
        }
        kept = sets;
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
            () = stop.cancelled() => return,
        }
    }
}
