//! The keys of one issuer, read again and again on the control side.
//!
//! Data threads only look; where keys may be missing, whoever has a token to decide on asks for
//! them and waits a while. **Invariant:** the last good keys stay until newer ones are read, and
//! no token has the issuer asked within [`REST`] of the last reading.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::{Notify, watch};

use super::fetch::{Fetcher, PATIENCE, SecureUrl};
use super::keys::Keys;
use crate::clock::{self, Timestamp};
use crate::metrics::{Counter, Metrics, names};

/// ALB: the largest key set.
const LARGEST: usize = 150 * 1024;
/// Keys that were read are read again after this (ours).
const REFRESH: Duration = Duration::from_secs(300);
/// The pause after a reading before anybody's token may cause another (ours).
const REST: Duration = Duration::from_secs(10);
/// After a reading that failed (ours); doubles up to [`REFRESH`] with each.
const AGAIN: Duration = Duration::from_secs(1);

/// The keys of one endpoint.
#[derive(Debug)]
pub struct KeySet {
    url: SecureUrl,
    keys: ArcSwapOption<Keys>,
    /// A reading is under way, or about to begin.
    reading: AtomicBool,
    /// When the last one ended, in microseconds.
    read_at: AtomicU64,
    asked: Arc<Notify>,
    /// Readings that have ended.
    readings: watch::Sender<u64>,
}

/// Handles of what becomes of readings.
#[derive(Clone, Debug)]
struct Counts {
    good: Counter,
    bad: Counter,
    control: usize,
}

impl KeySet {
    /// Without keys: they are about to be read.
    #[must_use]
    pub fn new(url: SecureUrl) -> Arc<Self> {
        Arc::new(Self {
            url,
            keys: ArcSwapOption::empty(),
            reading: AtomicBool::new(true),
            read_at: AtomicU64::new(0),
            asked: Arc::default(),
            readings: watch::Sender::new(0),
        })
    }

    /// None: they could not be read yet.
    #[must_use]
    pub fn load(&self) -> Guard<Option<Arc<Keys>>> {
        self.keys.load()
    }

    /// Whether other keys may be there soon.
    #[must_use]
    pub fn is_worth_waiting(&self, now: Timestamp) -> bool {
        let read_at = Timestamp(self.read_at.load(Ordering::Acquire));
        self.reading.load(Ordering::Acquire) || now.since(read_at) >= REST
    }

    /// Asks for the keys to be read, and waits until they were, for a while.
    pub async fn read_again(&self) {
        let mut readings = self.readings.subscribe();
        // Whoever reads them now reads what is new; else one reading serves all who ask.
        if !self.reading.swap(true, Ordering::AcqRel) {
            self.asked.notify_one();
        }
        let _ = tokio::time::timeout(PATIENCE, readings.changed()).await;
    }

    pub(super) fn succeed(&self, keys: Keys, now: Timestamp) {
        if self.keys.load().as_deref() != Some(&keys) {
            self.keys.store(Some(Arc::new(keys)));
        }
        self.end(now);
    }

    /// As if the last reading were long ago.
    #[cfg(test)]
    pub(crate) fn rest(&self) {
        self.read_at.store(0, Ordering::Release);
    }

    fn end(&self, now: Timestamp) {
        self.read_at.store(now.0, Ordering::Release);
        self.reading.store(false, Ordering::Release);
        self.readings.send_modify(|count| *count += 1);
    }

    /// Reads the keys of `set` for as long as somebody else holds it.
    pub async fn keep(set: Weak<Self>, fetcher: Fetcher, metrics: Metrics) {
        let count = |outcome| metrics.counter(&names::JWKS_READINGS, &[outcome]);
        let counts = Counts { good: count("good"), bad: count("bad"), control: metrics.control() };
        let mut pause = AGAIN;
        loop {
            let Some(own) = set.upgrade() else { return };
            own.reading.store(true, Ordering::Release);
            let read = own.read(&fetcher).await;
            let wait = match &read {
                Ok(()) => {
                    pause = AGAIN;
                    REFRESH
                }
                Err(reason) => {
                    tracing::warn!(url = %own.url, reason, "keys of tokens were not read");
                    let wait = pause;
                    pause = (pause * 2).min(REFRESH);
                    wait
                }
            };
            let counter = if read.is_ok() { &counts.good } else { &counts.bad };
            counter.add(counts.control, 1);
            let asked = Arc::clone(&own.asked);
            drop(own);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = asked.notified() => {}
            }
        }
    }

    async fn read(&self, fetcher: &Fetcher) -> Result<(), String> {
        let got = fetcher.get(&self.url, LARGEST).await.map_err(|error| error.to_string());
        let keys = got.and_then(|(status, body)| match status.is_success() {
            true => Keys::read(&body).map_err(|error| error.to_string()),
            false => Err(format!("answered {status}")),
        });
        match keys {
            Ok(keys) => {
                self.succeed(keys, clock::now());
                Ok(())
            }
            Err(reason) => {
                self.end(clock::now());
                Err(reason)
            }
        }
    }
}
