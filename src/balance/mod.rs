//! Which endpoint gets the next exchange.
//!
//! Pure over a snapshot: [`Group`] is immutable, only counters inside move; new targets grow
//! into their share ([`slow_start`]). Not here: who is
//! healthy (`health`), who is registered (`state`). **Invariant:** a pick never returns an ejected
//! endpoint, and takes no lock.

mod endpoint;
pub mod slow_start;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::metrics::{Counter, Gauge, Histogram};
use crate::model::{
    Algorithm, GroupRouting, Protocol, ProtocolVersion, RegistrationId, TargetGroupName,
};

pub use endpoint::{Endpoint, InFlight};

/// A target group in a snapshot.
#[derive(Debug)]
pub struct Group {
    pub name: TargetGroupName,
    pub arn: String,
    /// The digits of its id.
    pub id: u64,
    pub protocol: Protocol,
    pub version: ProtocolVersion,
    pub routing: GroupRouting,
    /// Active registrations, in the order of their ids.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The healthy ones; with too few of them the unhealthy ones as well (fail-open). Initial ones
    /// are never among them. In the order of their ids.
    pub routable: Vec<Arc<Endpoint>>,
    /// Unhealthy ones get traffic too.
    pub fail_open: bool,
    /// Since when each of `routable` grows into its share; empty where none does.
    pub growing: Vec<Option<Timestamp>>,
    /// When the last of them has its full share.
    pub grown_at: Timestamp,
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

/// One pick: what it is made with.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Those a retry has tried already.
    pub exclude: &'a [RegistrationId],
    pub now: Timestamp,
    pub rng: &'a mut fastrand::Rng,
}

impl Turn<'_> {
    fn may(&self, endpoint: &Endpoint) -> bool {
        !endpoint.is_ejected() && !self.exclude.contains(&endpoint.id)
    }
}

impl Group {
    /// The next endpoint by the group's algorithm, never an ejected or excluded one.
    #[must_use]
    pub fn pick(&self, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len();
        if count == 0 {
            return None;
        }
        let start = match self.routing.algorithm {
            Algorithm::WeightedRandom => turn.rng.usize(0..count),
            _ => self.cursor.fetch_add(1, Ordering::Relaxed) % count,
        };
        let (behind, ahead) = self.routable.split_at(start);
        let mut candidates = ahead.iter().chain(behind).filter(|endpoint| turn.may(endpoint));
        match self.routing.algorithm {
            // Of equals the next in turn.
            Algorithm::LeastOutstandingRequests => {
                candidates.min_by_key(|endpoint| endpoint.in_flight())
            }
            _ if turn.now < self.grown_at => self.grow(start, turn),
            _ => candidates.next(),
        }
    }

    /// The first from `start` on that its share lets through; else the first of all.
    fn grow(&self, start: usize, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len();
        let mut first = None;
        for place in (start..count).chain(0..start) {
            let endpoint = &self.routable[place];
            if !turn.may(endpoint) {
                continue;
            }
            let since = self.growing.get(place).copied().flatten();
            let share = since.map_or(1.0, |since| {
                slow_start::share(turn.now.since(since), self.routing.slow_start)
            });
            if share >= 1.0 || turn.rng.f64() < share {
                return Some(endpoint);
            }
            first = first.or(Some(endpoint));
        }
        first
    }

    /// The endpoint of a registration, if it may be picked.
    #[must_use]
    pub fn bound(&self, id: RegistrationId, turn: &Turn<'_>) -> Option<&Arc<Endpoint>> {
        let place = self.routable.binary_search_by_key(&id, |endpoint| endpoint.id).ok()?;
        self.routable.get(place).filter(|endpoint| turn.may(endpoint))
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
            id: 1,
            protocol: Protocol::Http,
            version: ProtocolVersion::Http1,
            routing: GroupRouting::default(),
            routable: endpoints.clone(),
            endpoints,
            fail_open: false,
            growing: Vec::new(),
            grown_at: Timestamp::default(),
            deregistration_delay: Duration::ZERO,
            cursor: Arc::default(),
            metrics: Arc::new(GroupMetrics::new(&metrics, "g")),
        }
    }

    fn picks(group: &Group, count: usize, exclude: &[u64]) -> Vec<u64> {
        let exclude: Vec<_> = exclude.iter().copied().map(RegistrationId).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Timestamp::from_millis(100_000);
        let mut turn = Turn { exclude: &exclude, now, rng: &mut rng };
        (0..count).filter_map(|_| group.pick(&mut turn).map(|endpoint| endpoint.id.0)).collect()
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
    fn least_outstanding_takes_the_idlest_and_equals_in_turn() {
        let mut group = group(3);
        group.routing.algorithm = Algorithm::LeastOutstandingRequests;
        assert_eq!(picks(&group, 4, &[]), [1, 2, 3, 1]);
        let _busy = [1, 1, 2].map(|n: usize| InFlight::take(&group.routable[n - 1], 0));
        assert_eq!(picks(&group, 3, &[]), [3, 3, 3]);
        assert_eq!(picks(&group, 2, &[3]), [2, 2]);
    }

    #[test]
    fn random_picks_are_even() {
        let mut group = group(4);
        group.routing.algorithm = Algorithm::WeightedRandom;
        let picks = picks(&group, 4_000, &[]);
        for id in 1..=4 {
            let count = picks.iter().filter(|picked| **picked == id).count();
            assert!((900..1_100).contains(&count), "{id}: {count}");
        }
    }

    #[test]
    fn a_growing_endpoint_gets_its_share() {
        let mut group = group(2);
        group.routing.slow_start = Duration::from_secs(100);
        group.growing = vec![None, Some(Timestamp::from_millis(75_000))];
        group.grown_at = Timestamp::from_millis(175_000);
        let of_second =
            |group: &Group| picks(group, 4_000, &[]).iter().filter(|picked| **picked == 2).count();
        // It lets every fourth of its turns through.
        assert!((400..600).contains(&of_second(&group)), "{}", of_second(&group));
        assert_eq!(picks(&group, 2, &[1]), [2, 2]);
        group.grown_at = Timestamp::from_millis(99_999);
        assert_eq!(of_second(&group), 2_000);
    }

    #[test]
    fn bound_endpoints_are_found_while_they_may_be_picked() {
        let group = group(3);
        let mut rng = fastrand::Rng::with_seed(1);
        let exclude = [RegistrationId(3)];
        let turn = Turn { exclude: &exclude, now: Timestamp(0), rng: &mut rng };
        group.routable[0].eject();
        let bound = |id| group.bound(RegistrationId(id), &turn).map(|endpoint| endpoint.id.0);
        assert_eq!([bound(1), bound(2), bound(3), bound(4)], [None, Some(2), None, None]);
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
