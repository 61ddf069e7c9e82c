//! Endpoints: targets as a snapshot has them, with the counters that outlive snapshots.
//!
//! **Invariant:** one `Endpoint` per registration id for as long as any generation or exchange
//! knows it, so that a drain reads the same counter that every pick moved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crossbeam_utils::CachePadded;

use super::GroupMetrics;
use super::anomaly::Share;
use super::ewma::Ewma;
use super::gate::Gate;
use super::outlier::{Reason, Record};
use crate::metrics::{Counter, Metrics, names};
use crate::model::{RegistrationId, TargetGroupName, TaskId, label};

#[derive(Debug)]
pub struct Endpoint {
    pub id: RegistrationId,
    pub address: SocketAddr,
    pub group: TargetGroupName,
    pub task: Option<TaskId>,
    pub requests: Counter,
    /// Of them those that came to 5xx or to nothing, and connections that failed.
    pub failures: Counter,
    /// One per data thread, so that no two threads write one cache line.
    in_flight: Box<[CachePadded<AtomicI64>]>,
    ejected: AtomicBool,
    /// It was unhealthy at some time.
    failed: AtomicBool,
    /// Exchanges that count against a limit: one number, so that the limit is kept to the last.
    slots: AtomicU32,
    pub times: Ewma,
    pub outlier: Record,
    pub share: Share,
}

impl Endpoint {
    #[must_use]
    pub fn new(
        id: RegistrationId,
        address: SocketAddr,
        group: TargetGroupName,
        task: Option<TaskId>,
        metrics: &Metrics,
    ) -> Self {
        let target = address.to_string();
        let labels = [&label(&group), target.as_str()];
        let requests = metrics.counter(&names::TARGET_REQUESTS, &labels);
        let failures = metrics.counter(&names::TARGET_FAILURES, &labels);
        let in_flight = (0..metrics.threads()).map(|_| CachePadded::default()).collect();
        let (ejected, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            id,
            address,
            group,
            task,
            requests,
            failures,
            in_flight,
            ejected,
            failed,
            slots: AtomicU32::new(0),
            times: Ewma::default(),
            outlier: Record::default(),
            share: Share::default(),
        }
    }

    /// Exchanges under way, over all threads. Final at zero once every data thread has acknowledged
    /// a generation in which this endpoint cannot be picked.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.iter().map(|cell| cell.load(Ordering::Acquire)).sum()
    }

    /// Whether it has fewer than `most` exchanges that count against a limit.
    #[must_use]
    pub fn has_slot(&self, most: u32) -> bool {
        self.slots.load(Ordering::Acquire) < most
    }

    /// Takes it out of every pick at once: its task is dead. There is no way back.
    pub fn eject(&self) {
        self.ejected.store(true, Ordering::Release);
    }

    /// Remembers that its checks have failed: what is healthy again grows into its share.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }
}

/// Counts one exchange on its endpoint until dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    thread: usize,
    /// Told when it ends, where it counts against a limit.
    gate: Option<Arc<Gate>>,
}

impl InFlight {
    /// `thread` is the index of the data thread that carries the exchange.
    #[must_use]
    pub fn take(endpoint: &Arc<Endpoint>, thread: usize) -> Self {
        endpoint.in_flight[thread].fetch_add(1, Ordering::AcqRel);
        Self { endpoint: Arc::clone(endpoint), thread, gate: None }
    }

    /// The same with one of the endpoint's `most` slots; none where they are taken.
    #[must_use]
    pub fn within(
        endpoint: &Arc<Endpoint>,
        thread: usize,
        (most, gate): (u32, &Arc<Gate>),
    ) -> Option<Self> {
        let taken = endpoint.slots.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken < most).then_some(taken + 1)
        });
        taken.ok()?;
        let mut guard = Self::take(endpoint, thread);
        guard.gate = Some(Arc::clone(gate));
        Some(guard)
    }

    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight[self.thread].fetch_sub(1, Ordering::AcqRel);
        if let Some(gate) = self.gate.take() {
            self.endpoint.slots.fetch_sub(1, Ordering::AcqRel);
            gate.free();
        }
    }
}

impl GroupMetrics {
    #[must_use]
    pub fn new(metrics: &Metrics, group: &str) -> Self {
        let response = |class| metrics.counter(&names::GROUP_RESPONSES, &[group, class]);
        let state = |state| metrics.gauge(&names::GROUP_TARGETS, &[group, state]);
        Self {
            requests: metrics.counter(&names::GROUP_REQUESTS, &[group]),
            responses: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(response),
            response_seconds: metrics.histogram(&names::GROUP_RESPONSE_SECONDS, &[group]),
            retries: metrics.counter(&names::GROUP_RETRIES, &[group]),
            retries_refused: metrics.counter(&names::GROUP_RETRIES_REFUSED, &[group]),
            ejections: Reason::ALL
                .map(|reason| metrics.counter(&names::GROUP_EJECTIONS, &[group, reason.as_str()])),
            mirrored: ["answered", "failed", "dropped"]
                .map(|outcome| metrics.counter(&names::GROUP_MIRRORED, &[group, outcome])),
            ejected: metrics.gauge(&names::GROUP_EJECTED, &[group]),
            anomalous: metrics.gauge(&names::GROUP_ANOMALIES, &[group, "anomalous"]),
            mitigated: metrics.gauge(&names::GROUP_ANOMALIES, &[group, "mitigated"]),
            connection_errors: metrics.counter(&names::GROUP_CONNECTION_ERRORS, &[group]),
            healthy: state("healthy"),
            unhealthy: state("unhealthy"),
            initial: state("initial"),
            draining: state("draining"),
        }
    }
}
