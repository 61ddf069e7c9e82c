//! Which endpoint gets the next exchange.
//!
//! Pure over a snapshot: [`Group`] is immutable, only counters inside move. Not here: who is
//! healthy (`health`), who is registered (`state`). **Invariant:** a pick never returns an ejected
//! endpoint, and takes no lock.

mod endpoint;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::metrics::{Counter, Gauge, Histogram};
use crate::model::{Protocol, RegistrationId, TargetGroupName};

pub use endpoint::{Endpoint, InFlight};

/// A target group in a snapshot.
#[derive(Debug)]
pub struct Group {
    pub name: TargetGroupName,
    pub arn: String,
    pub protocol: Protocol,
    /// Active registrations, in the order of their ids.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The healthy ones; all unhealthy ones when none is healthy (fail-open). Initial ones are
    /// never among them.
    pub routable: Vec<Arc<Endpoint>>,
    /// None is healthy and unhealthy ones get the traffic.
    pub fail_open: bool,
    pub deregistration_delay: Duration,
    /// The round robin's place, shared by every generation and thread.
    pub cursor: Arc<AtomicUsize>,
    pub metrics: Arc<GroupMetrics>,
}

/// Handles resolved when the group is first compiled.
#[derive(Debug)]
pub struct GroupMetrics {
    pub requests: Counter,
    /// By the target's answer: 1xx … 5xx.
    pub responses: [Counter; 5],
    /// From the request sent to the response's head.
    pub response_seconds: Histogram,
    pub retries: Counter,
    pub connection_errors: Counter,
    pub healthy: Gauge,
    pub unhealthy: Gauge,
    pub initial: Gauge,
    pub draining: Gauge,
}

impl Group {
    /// The next endpoint in turn that is neither ejected nor in `exclude` (those a retry has tried
    /// already).
    #[must_use]
    pub fn pick(&self, exclude: &[RegistrationId]) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len();
        if count == 0 {
            return None;
        }
        let start = self.cursor.fetch_add(1, Ordering::Relaxed) % count;
        let (behind, ahead) = self.routable.split_at(start);
        ahead.iter().chain(behind).find(|e| !e.is_ejected() && !exclude.contains(&e.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn group(count: u64) -> Group {
        let metrics = Metrics::new(1);
        let endpoint = |n| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], u16::try_from(n).unwrap()));
            Arc::new(Endpoint::new(RegistrationId(n), address, "g".into(), None, &metrics))
        };
        let endpoints: Vec<_> = (1..=count).map(endpoint).collect();
        Group {
            name: "g".into(),
            arn: String::new(),
            protocol: Protocol::Http,
            routable: endpoints.clone(),
            endpoints,
            fail_open: false,
            deregistration_delay: Duration::ZERO,
            cursor: Arc::default(),
            metrics: Arc::new(GroupMetrics::new(&metrics, "g")),
        }
    }

    fn picks(group: &Group, count: usize, exclude: &[u64]) -> Vec<u64> {
        let exclude: Vec<_> = exclude.iter().copied().map(RegistrationId).collect();
        (0..count).filter_map(|_| group.pick(&exclude).map(|endpoint| endpoint.id.0)).collect()
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        assert_eq!(picks(&group(3), 6, &[]), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn excluded_endpoints_are_passed_over() {
        assert_eq!(picks(&group(3), 3, &[2]), [1, 3, 3]);
        assert_eq!(picks(&group(2), 2, &[1, 2]), [0u64; 0]);
    }

    #[test]
    fn ejected_endpoint_is_never_picked() {
        let group = group(2);
        group.routable[0].eject();
        assert_eq!(picks(&group, 3, &[]), [2, 2, 2]);
        group.routable[1].eject();
        assert_eq!(picks(&group, 1, &[]), [0u64; 0]);
    }

    #[test]
    fn guard_counts_while_it_lives() {
        let group = group(1);
        let guard = InFlight::take(&group.routable[0], 0);
        assert_eq!(guard.endpoint().in_flight(), 1);
        drop(guard);
        assert_eq!(group.routable[0].in_flight(), 0);
    }
}
