//! Load balancers and target groups in CloudWatch's words: `AWS/ApplicationELB`,
//! `AWS/NetworkELB`.
//!
//! What a target group did counts under every load balancer that forwards to it; there is one
//! zone, so there is no dimension `AvailabilityZone`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Deltas, Points};
use crate::balance::{Group, GroupMetrics};
use crate::metrics::{BUCKETS, Counter, Histogram};
use crate::model::{LoadBalancerKind, MetricId, TargetGroupName};
use crate::routing::{OWN_CODES, RoutedAction, RoutedListener, Routing};
use crate::series::Point;
use crate::state::State;

const APPLICATION: &str = "AWS/ApplicationELB";
const NETWORK: &str = "AWS/NetworkELB";

/// Own responses for which a target had been chosen: CloudWatch's `RequestCount` leaves the
/// requests of all others out.
const WITH_TARGET: [u16; 3] = [460, 502, 504];
/// Those with a metric of their own.
const ELB_5XX: [(u16, &str); 4] = [
    (500, "HTTPCode_ELB_500_Count"),
    (502, "HTTPCode_ELB_502_Count"),
    (503, "HTTPCode_ELB_503_Count"),
    (504, "HTTPCode_ELB_504_Count"),
];
const TARGET_CLASSES: [(usize, &str); 4] = [
    (1, "HTTPCode_Target_2XX_Count"),
    (2, "HTTPCode_Target_3XX_Count"),
    (3, "HTTPCode_Target_4XX_Count"),
    (4, "HTTPCode_Target_5XX_Count"),
];

/// Bucket counts and their times' sum, as last seen.
type Seen = ([u64; BUCKETS.len() + 1], Duration);

/// What was seen of the planes' counters so far.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    deltas: Deltas,
    /// By what they are of.
    times: BTreeMap<String, Seen>,
    /// Seen in this look.
    timed: BTreeSet<String>,
}

/// A load balancer's kind and its part of the dimensions.
type Front = (LoadBalancerKind, String);

impl Balancers {
    /// What happened since the last call.
    pub(super) fn points(&mut self, state: &State, routing: &Routing) -> Vec<(MetricId, Point)> {
        let mut points = Points::default();
        let mut fronts: BTreeMap<&TargetGroupName, BTreeSet<String>> = BTreeMap::new();
        let mut network = BTreeSet::new();
        for listener in routing.listeners.values() {
            let path = listener.load_balancer.path();
            if listener.load_balancer.kind == LoadBalancerKind::Network {
                network.insert(path.clone());
            }
            for group in groups(listener) {
                fronts.entry(&group.name).or_default().insert(path.clone());
            }
            self.listener(listener, &path, &mut points);
        }
        for (name, group) in &routing.groups {
            let Some(row) = state.target_groups.get(name) else { continue };
            let Some(fronts) = fronts.get(name) else { continue };
            let kind = |path: &String| match network.contains(path) {
                true => LoadBalancerKind::Network,
                false => LoadBalancerKind::Application,
            };
            let fronts: Vec<Front> = fronts.iter().map(|path| (kind(path), path.clone())).collect();
            let dimension = format!("targetgroup/{}/{}", row.name, row.id);
            self.group(group, &dimension, &fronts, &mut points);
        }
        let timed = std::mem::take(&mut self.timed);
        self.times.retain(|name, _| timed.contains(name));
        self.deltas.turn();
        points.done()
    }

    fn listener(&mut self, listener: &RoutedListener, path: &str, points: &mut Points) {
        let metrics = &listener.metrics;
        let name = format!("{:#}", listener.listener.key);
        let region = listener.load_balancer.name.region();
        let mut delta = |what: &str, total| self.deltas.of(format!("{name} {what}"), total);
        let connections = delta("connections", metrics.connections.total());
        let rejected = delta("rejected", metrics.rejected.total());
        let bytes = metrics.received.total() + metrics.sent.total();
        let bytes = delta("bytes", bytes);
        let active = to_float(u64::try_from(metrics.active.value()).unwrap_or(0));
        let namespace = match listener.load_balancer.kind {
            LoadBalancerKind::Application => APPLICATION,
            LoadBalancerKind::Network => NETWORK,
        };
        let own = [("LoadBalancer", path)];
        let id = |name: &str| MetricId::new(namespace, name, &own).within(region);
        points.gauge(id("ProcessedBytes"), to_float(bytes));
        if listener.load_balancer.kind == LoadBalancerKind::Network {
            points.count(id("NewFlowCount"), connections);
            points.count(id("RejectedFlowCount"), rejected);
            points.gauge(id("ActiveFlowCount"), active);
            return;
        }
        points.count(id("NewConnectionCount"), connections);
        points.count(id("RejectedConnectionCount"), rejected);
        points.gauge(id("ActiveConnectionCount"), active);
        self.answers(listener, path, points);
        self.logins(listener, path, points);
    }

    /// What a listener of an application load balancer answered, and with what.
    fn answers(&mut self, listener: &RoutedListener, path: &str, points: &mut Points) {
        let metrics = &listener.metrics;
        let name = listener.listener.key.to_string();
        let mut delta = |what: &str, total| self.deltas.of(format!("{name} {what}"), total);
        let id = |name: &str| MetricId::new(APPLICATION, name, &[("LoadBalancer", path)]);
        let all: u64 = metrics.requests.iter().map(Counter::total).sum();
        let own = |code: u16| metrics.own.of(code).total();
        let sum = |counts: fn(u16) -> bool| -> u64 {
            OWN_CODES.into_iter().filter(|code| counts(*code)).map(own).sum()
        };
        let without = sum(|code| !WITH_TARGET.contains(&code));
        let chosen = delta("requests", all.saturating_sub(without));
        points.count(id("RequestCount"), chosen);
        let of_clients = delta("4xx", sum(|code| code / 100 == 4));
        points.count(id("HTTPCode_ELB_4XX_Count"), of_clients);
        let of_ours = delta("5xx", sum(|code| code / 100 == 5));
        points.count(id("HTTPCode_ELB_5XX_Count"), of_ours);
        for (code, name) in ELB_5XX {
            points.count(id(name), delta(name, own(code)));
        }
    }

    /// What AWS tells where there is something to tell alone.
    fn logins(&mut self, listener: &RoutedListener, path: &str, points: &mut Points) {
        let (metrics, logins) = (&listener.metrics, &listener.metrics.logins);
        let listener = listener.listener.key.to_string();
        let id = |name: &str| MetricId::new(APPLICATION, name, &[("LoadBalancer", path)]);
        let non_compliant = metrics.non_compliant.iter().map(Counter::total).sum();
        for (name, total) in [
            ("DesyncMitigationMode_NonCompliant_Request_Count", non_compliant),
            ("ELBAuthSuccess", logins.success.total()),
            ("ELBAuthFailure", logins.failure.total()),
            ("ELBAuthError", logins.error.total()),
            ("ELBAuthRefreshTokenSuccess", logins.refreshed.total()),
            ("ELBAuthUserClaimsSizeExceeded", logins.oversized.total()),
        ] {
            let count = self.deltas.of(format!("{listener} {name}"), total);
            if count > 0 {
                points.count(id(name), count);
            }
        }
        let latency = self.times(format!("{listener} logins"), &logins.seconds);
        let milliseconds = latency.map(|Point { count, sum, min, max }| {
            let [sum, min, max] = [sum, min, max].map(|seconds| seconds * 1000.0);
            Point { count, sum, min, max }
        });
        points.some(id("ELBAuthLatency"), milliseconds);
    }

    fn group(&mut self, group: &Group, dimension: &str, fronts: &[Front], points: &mut Points) {
        let metrics = &*group.metrics;
        let (name, region) = (format!("group {:#}", group.name), group.name.region());
        let requests = self.deltas.of(format!("{name} requests"), metrics.requests.total());
        let errors = self.deltas.of(format!("{name} errors"), metrics.connection_errors.total());
        let classes = TARGET_CLASSES.map(|(class, metric)| {
            let total = metrics.responses[class].total();
            (metric, self.deltas.of(format!("{name} {metric}"), total))
        });
        let times = self.times(name, &metrics.response_seconds);
        let per_target = per_target(requests, metrics);
        let web = fronts.iter().any(|(kind, _)| *kind == LoadBalancerKind::Application);
        if web {
            let own = [("TargetGroup", dimension)];
            let alone = |name| MetricId::new(APPLICATION, name, &own).within(region);
            points.count(alone("RequestCount"), requests);
            points.some(alone("RequestCountPerTarget"), per_target);
        }
        for (kind, path) in fronts {
            let namespace = match kind {
                LoadBalancerKind::Application => APPLICATION,
                LoadBalancerKind::Network => NETWORK,
            };
            let both = [("LoadBalancer", path.as_str()), ("TargetGroup", dimension)];
            let both = |name| MetricId::new(namespace, name, &both).within(region);
            let front = [("LoadBalancer", path.as_str())];
            let front = |name| MetricId::new(namespace, name, &front).within(region);
            points.gauge(both("HealthyHostCount"), hosts(&metrics.healthy));
            points.gauge(both("UnHealthyHostCount"), hosts(&metrics.unhealthy));
            if *kind == LoadBalancerKind::Network {
                continue;
            }
            points.count(both("RequestCount"), requests);
            points.some(both("RequestCountPerTarget"), per_target);
            points.gauge(both("AnomalousHostCount"), hosts(&metrics.anomalous));
            points.gauge(both("MitigatedHostCount"), hosts(&metrics.mitigated));
            for (name, count) in classes.iter().chain([&("TargetConnectionErrorCount", errors)]) {
                points.count(both(name), *count);
                points.count(front(name), *count);
            }
            points.some(both("TargetResponseTime"), times);
            points.some(front("TargetResponseTime"), times);
        }
    }

    /// The times since the last call; the least and the greatest are bounds of buckets.
    fn times(&mut self, name: String, histogram: &Histogram) -> Option<Point> {
        let now = histogram.totals();
        let nothing = || ([0; BUCKETS.len() + 1], Duration::ZERO);
        self.timed.insert(name.clone());
        let before = self.times.insert(name, now).unwrap_or_else(nothing);
        let added = |bucket: usize| now.0[bucket].saturating_sub(before.0[bucket]);
        let buckets = 0..=BUCKETS.len();
        let count: u64 = buckets.clone().map(added).sum();
        let first = buckets.clone().find(|bucket| added(*bucket) > 0)?;
        let last = buckets.rev().find(|bucket| added(*bucket) > 0)?;
        let sum = now.1.saturating_sub(before.1).as_secs_f64();
        let bound = |bucket: Option<usize>| bucket.and_then(|at| BUCKETS.get(at)).copied();
        let min = bound(first.checked_sub(1)).unwrap_or(0.0);
        let max = bound(Some(last)).unwrap_or(sum);
        Some(Point { count: to_float(count), sum, min, max })
    }
}

/// None: there is nobody to share them.
fn per_target(requests: u64, metrics: &GroupMetrics) -> Option<Point> {
    let healthy = hosts(&metrics.healthy);
    (healthy > 0.0).then(|| Point::one(to_float(requests) / healthy))
}

fn hosts(gauge: &crate::metrics::Gauge) -> f64 {
    to_float(u64::try_from(gauge.value()).unwrap_or(0))
}

fn groups(listener: &RoutedListener) -> impl Iterator<Item = &Group> {
    let forwarded = listener.actions.iter().filter_map(|action| match action {
        RoutedAction::Forward(forwarding) => Some(forwarding),
        RoutedAction::Fixed(_) | RoutedAction::Redirect(_) => None,
    });
    forwarded.flat_map(|forwarding| &forwarding.groups).map(|(group, _)| &**group)
}

#[allow(clippy::cast_precision_loss, reason = "CloudWatch's numbers are floats")]
const fn to_float(count: u64) -> f64 {
    count as f64
}
