//! Which endpoint gets the next exchange.
//!
//! Pure over a snapshot: [`Group`] is immutable, only counters inside move; new targets grow
//! into their share ([`slow_start`]). Not here: who is
//! healthy (`health`), who is registered (`state`). **Invariant:** a pick never returns an ejected
//! endpoint, and takes no lock.

pub mod anomaly;
mod budget;
mod endpoint;
mod ewma;
mod gate;
mod outlier;
pub mod slow_start;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{self, Timestamp};
use crate::metrics::{Counter, Gauge, Histogram};
use crate::model::{
    Algorithm, GroupRouting, Protocol, ProtocolVersion, RegistrationId, TargetGroupName,
};

pub use budget::Budget;
pub use endpoint::{Endpoint, InFlight};
pub use gate::{Gate, Place, Want};
pub use outlier::Came;

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
    pub budget: Arc<Budget>,
    pub gate: Arc<Gate>,
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
    pub retries_refused: Counter,
    pub connection_errors: Counter,
    /// In the order of `outlier::Reason::ALL`.
    pub ejections: [Counter; 3],
    pub ejected: Gauge,
    pub anomalous: Gauge,
    pub mitigated: Gauge,
    /// Copies of other groups' requests: answered, failed, dropped.
    pub mirrored: [Counter; 3],
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

/// What a target that answers with nothing counts as, at least, where times are compared (ours): a
/// refusal is quick, and shall not look like a good answer.
const FAILURE: Duration = Duration::from_secs(1);

/// Draws of one pick by shares (ours): half of the targets have their whole share, so that one in
/// 65,536 picks draws in vain.
const DRAWS: usize = 16;

impl Group {
    /// The next endpoint by the group's algorithm, never an ejected or excluded one.
    #[must_use]
    pub fn pick(&self, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len();
        if count == 0 {
            return None;
        }
        // Turns are every thread's: only who goes by them takes one.
        let start = match self.routing.algorithm {
            Algorithm::PeakEwma => return self.better_of_two(turn),
            Algorithm::WeightedRandom if self.routing.anomaly_mitigation => {
                return self.by_share(turn);
            }
            Algorithm::WeightedRandom => turn.rng.usize(0..count),
            _ => self.cursor.fetch_add(1, Ordering::Relaxed) % count,
        };
        match self.routing.algorithm {
            Algorithm::RoundRobin | Algorithm::WeightedRandom if turn.now < self.grown_at => {
                self.grow(start, turn)
            }
            _ => self.from(start, turn),
        }
    }

    /// One by chance, anomalies less often than the others.
    fn by_share(&self, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        for _ in 0..DRAWS {
            let drawn = &self.routable[turn.rng.usize(0..self.routable.len())];
            if self.may(turn, drawn) && turn.rng.f64() < drawn.share.weight() {
                return Some(drawn);
            }
        }
        let start = turn.rng.usize(0..self.routable.len());
        self.from(start, turn)
    }

    /// Of two by chance the one that is expected to be through first.
    fn better_of_two(&self, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        let mut draw = |other: Option<&Arc<Endpoint>>| {
            let start = turn.rng.usize(0..self.routable.len());
            let (behind, ahead) = self.routable.split_at(start);
            let mut all = ahead.iter().chain(behind);
            all.find(|own| self.may(turn, own) && other.is_none_or(|other| other.id != own.id))
        };
        let first = draw(None)?;
        let Some(second) = draw(Some(first)) else { return Some(first) };
        let load = |own: &Endpoint| own.times.load(own.in_flight(), turn.now);
        Some(if load(second) < load(first) { second } else { first })
    }

    /// Whether the turn may take this endpoint, which may have one more exchange and fails no more
    /// than others. Where all do, they are taken all the same.
    fn may(&self, turn: &Turn<'_>, endpoint: &Endpoint) -> bool {
        let has_slot =
            || self.routing.target_concurrency.is_none_or(|most| endpoint.has_slot(most));
        turn.may(endpoint) && has_slot() && !self.is_out(turn, endpoint)
    }

    /// Whether it is ejected as an outlier, beside one that is not.
    fn is_out(&self, turn: &Turn<'_>, endpoint: &Endpoint) -> bool {
        self.routing.outlier_ejection.is_some()
            && endpoint.outlier.is_ejected(turn.now)
            && self.routable.iter().any(|own| turn.may(own) && !own.outlier.is_ejected(turn.now))
    }

    /// The guard of an exchange on this endpoint; none where its slots are taken meanwhile.
    #[must_use]
    pub fn enter(&self, endpoint: &Arc<Endpoint>, thread: usize) -> Option<InFlight> {
        match self.routing.target_concurrency {
            None => Some(InFlight::take(endpoint, thread)),
            Some(most) => InFlight::within(endpoint, thread, (most, &self.gate)),
        }
    }

    /// Whether a pick that found nobody would find somebody, were it not for their slots.
    #[must_use]
    pub fn is_busy(&self, turn: &Turn<'_>) -> bool {
        self.routing.target_concurrency.is_some() && self.routable.iter().any(|own| turn.may(own))
    }

    /// Whether anything depends on what comes of its exchanges.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.routing.algorithm == Algorithm::PeakEwma || self.routing.outlier_ejection.is_some()
    }

    /// What came of an exchange with a target, after this time: others are preferred to it, or it
    /// is ejected for a while.
    pub fn note(&self, endpoint: &Endpoint, (came, took): (Came, Duration), thread: usize) {
        let now = clock::now();
        if self.routing.algorithm == Algorithm::PeakEwma {
            let failed = came == Came::Failure;
            endpoint.times.tell(if failed { took.max(FAILURE) } else { took }, now);
        }
        let Some(rules) = &self.routing.outlier_ejection else { return };
        // What was under way when it was ejected says nothing new.
        if endpoint.outlier.is_ejected(now) {
            return;
        }
        let Some(reason) = endpoint.outlier.note(came, rules, now) else { return };
        let (out, all) = (self.ejected(now), self.endpoints.len());
        let most = usize::try_from(rules.max_percent).unwrap_or(usize::MAX);
        if out == 0 || (out + 1) * 100 <= most * all {
            endpoint.outlier.eject(rules, now);
            self.metrics.ejections[reason as usize].add(thread, 1);
            let (group, target) = (&self.name, endpoint.address);
            tracing::warn!(%group, %target, reason = reason.as_str(), "a target is ejected");
        }
        self.show_ejected(now);
    }

    fn ejected(&self, now: Timestamp) -> usize {
        self.endpoints.iter().filter(|own| own.outlier.is_ejected(now)).count()
    }

    /// Has the metric say how many targets are ejected as outliers.
    pub fn show_ejected(&self, now: Timestamp) {
        if self.routing.outlier_ejection.is_some() {
            self.metrics.ejected.set(i64::try_from(self.ejected(now)).unwrap_or(i64::MAX));
        }
    }

    /// Whom a pick would take whose turn is the next; the turn stays where it is.
    #[must_use]
    pub fn peek(&self, turn: &Turn<'_>) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len().max(1);
        self.from(self.cursor.load(Ordering::Relaxed) % count, turn)
    }

    /// The first that may be picked from `start` on; by its algorithm the idlest, of equals the
    /// first.
    fn from(&self, start: usize, turn: &Turn<'_>) -> Option<&Arc<Endpoint>> {
        let (behind, ahead) = self.routable.split_at(start);
        let mut candidates = ahead.iter().chain(behind).filter(|own| self.may(turn, own));
        match self.routing.algorithm {
            Algorithm::LeastOutstandingRequests => {
                candidates.min_by_key(|endpoint| endpoint.in_flight())
            }
            _ => candidates.next(),
        }
    }

    /// The first from `start` on that its share lets through; else the first of all.
    fn grow(&self, start: usize, turn: &mut Turn<'_>) -> Option<&Arc<Endpoint>> {
        let count = self.routable.len();
        let mut first = None;
        for place in (start..count).chain(0..start) {
            let endpoint = &self.routable[place];
            if !self.may(turn, endpoint) {
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

    /// Spends one retry of the group's budget. False: nothing is left of it, which is counted.
    #[must_use]
    pub fn may_retry(&self, thread: usize, now: Timestamp) -> bool {
        let may = self.budget.spend(now, self.metrics.requests.total());
        self.metrics.retries_refused.add(thread, u64::from(!may));
        may
    }

    /// The endpoint of a registration, if it may be picked.
    #[must_use]
    pub fn bound(&self, id: RegistrationId, turn: &Turn<'_>) -> Option<&Arc<Endpoint>> {
        let place = self.routable.binary_search_by_key(&id, |endpoint| endpoint.id).ok()?;
        self.routable.get(place).filter(|endpoint| self.may(turn, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::model::RetryBudget;

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
            gate: Arc::new(Gate::new(&metrics, "g")),
            budget: Arc::new(Budget::new(RetryBudget::default(), Timestamp::default(), 0)),
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
    fn no_thread_takes_a_slot_too_many() {
        let mut group = group(1);
        group.routing.target_concurrency = Some(3);
        let (group, taken) = (&group, &AtomicUsize::new(0));
        let endpoint = &group.routable[0];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        let Some(guard) = group.enter(endpoint, 0) else { continue };
                        assert!(taken.fetch_add(1, Ordering::SeqCst) < 3);
                        taken.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        });
        assert_eq!(endpoint.in_flight(), 0);
        let all: Vec<_> = (0..3).map(|_| group.enter(endpoint, 0).unwrap()).collect();
        assert!(group.enter(endpoint, 0).is_none() && picks(group, 1, &[]).is_empty());
        drop(all);
        assert_eq!(picks(group, 1, &[]), [1]);
    }

    #[test]
    fn outliers_are_passed_over_unless_all_are() {
        let mut group = group(2);
        let rules = crate::model::OutlierEjection::default();
        group.routing.outlier_ejection = Some(rules);
        let now = Timestamp::from_millis(100_000);
        group.routable[0].outlier.eject(&rules, now);
        assert_eq!(picks(&group, 3, &[]), [2, 2, 2]);
        assert_eq!(picks(&group, 1, &[2]), [1], "of those that are left it is the only one");
        group.routable[1].outlier.eject(&rules, now);
        assert_eq!(picks(&group, 2, &[]).len(), 2);
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
