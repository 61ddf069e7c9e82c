//! Our metrics: their names, and the registry that Prometheus scrapes.
//!
//! A series is a row of cells, one per data thread and one for everything else, summed when
//! scraped, so that counting is one relaxed add on a line no other thread writes. Handles are
//! resolved once (when a generation is compiled, when a loop starts), never by label on a hot path.
//! **Invariant:** a series lives as long as some handle of it: what is gone from the State is gone
//! from the scrape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use prometheus::core::{Collector, Desc};
use prometheus::{Encoder, TextEncoder, proto};

/// What a metric is called and what it means.
#[derive(Debug)]
pub struct Spec {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

macro_rules! specs {
    ($($name:ident = $text:literal [$($label:literal),*] $help:literal;)*) => {
        /// Every metric there is.
        pub mod names {
            use super::Spec;

            $(#[doc = $help]
            pub const $name: Spec = Spec { name: $text, help: $help, labels: &[$($label),*] };)*

            /// All of them, in the order of the README's table.
            pub const ALL: &[&Spec] = &[$(&$name),*];
        }
    };
}

specs! {
    BUILD_INFO = "roadstead_build_info" ["version"] "1, with the version that runs.";
    GENERATION = "roadstead_generation" [] "Generation of the State that every data thread has acknowledged.";
    PROPAGATION_SECONDS = "roadstead_propagation_seconds" [] "From a commit to its acknowledgement by every data thread.";
    COMPILE_SECONDS = "roadstead_compile_seconds" [] "Time to compile one generation into a routing snapshot.";
    SILENT_SLOTS = "roadstead_silent_data_threads_total" [] "Waits that a data thread did not acknowledge within 5 s.";
    CONFIG_LOADS = "roadstead_config_loads_total" ["outcome"] "Applications of the configuration file: applied, unchanged or refused.";
    CONFIG_REFUSED = "roadstead_config_refused" [] "1 while the configuration file on disk is refused and the old one serves.";
    JOURNAL_FAILED = "roadstead_journal_write_failures_total" [] "Commits that could not be written to the journal.";
    LISTENER_CONNECTIONS = "roadstead_listener_connections_total" ["listener"] "Client connections accepted.";
    LISTENER_ACTIVE = "roadstead_listener_active_connections" ["listener"] "Client connections open now.";
    LISTENER_REJECTED = "roadstead_listener_rejected_connections_total" ["listener"] "Client connections closed at once because a limit was reached.";
    LISTENER_PROXY_REFUSED = "roadstead_listener_proxy_protocol_refused_total" ["listener", "reason"] "Connections closed for want of a PROXY header: untrusted, timeout, closed, malformed.";
    LISTENER_REQUESTS = "roadstead_listener_requests_total" ["listener", "class"] "Requests answered, by status class.";
    LISTENER_GRPC_REQUESTS = "roadstead_listener_grpc_requests_total" ["listener"] "Requests that are gRPC calls.";
    LISTENER_COMPRESSED = "roadstead_listener_compressed_responses_total" ["listener", "coding"] "Responses compressed on their way to the client.";
    LISTENER_OWN_RESPONSES = "roadstead_listener_own_responses_total" ["listener", "code"] "Responses generated here rather than by a target.";
    LISTENER_RATE_LIMITED = "roadstead_listener_rate_limited_requests_total" ["listener", "rule"] "Requests beyond a rate limit, by the rule's priority, or listener for its own limit.";
    LISTENER_NON_COMPLIANT = "roadstead_listener_non_compliant_requests_total" ["listener", "class"] "Requests that desync mitigation does not call compliant.";
    LISTENER_REQUEST_SECONDS = "roadstead_listener_request_seconds" ["listener"] "From a request's first byte to its response's last.";
    LISTENER_RECEIVED = "roadstead_listener_received_bytes_total" ["listener"] "Bytes received from clients.";
    LISTENER_SENT = "roadstead_listener_sent_bytes_total" ["listener"] "Bytes sent to clients.";
    LISTENER_HANDSHAKES = "roadstead_listener_tls_handshakes_total" ["listener", "kind"] "TLS handshakes with clients: full or resumed.";
    LISTENER_TLS_ERRORS = "roadstead_listener_tls_errors_total" ["listener", "reason"] "TLS handshakes with clients that failed: busy, timeout, closed, incompatible, alert, malformed, certificate, other.";
    LISTENER_TOKENS = "roadstead_listener_tokens_total" ["listener", "outcome"] "Requests that had to bring a token: accepted or refused.";
    LISTENER_LOGINS = "roadstead_listener_logins_total" ["listener", "outcome"] "Logins at identity providers: success, failure or error; and sessions refreshed.";
    LISTENER_LOGIN_SECONDS = "roadstead_listener_login_seconds" ["listener"] "Time that an identity provider took for one login or one session refreshed: its tokens and its claims.";
    LISTENER_LOGINS_OVERSIZED = "roadstead_listener_logins_oversized_total" ["listener"] "Logins that failed because a provider said more of a user than may be kept: 11 KB.";
    JWKS_READINGS = "roadstead_jwks_readings_total" ["outcome"] "Readings of the keys that verify tokens: good or bad.";
    GROUP_REQUESTS = "roadstead_target_group_requests_total" ["target_group"] "Requests and flows sent to the group's targets.";
    GROUP_RESPONSES = "roadstead_target_group_responses_total" ["target_group", "class"] "Responses of targets, by status class.";
    GROUP_RESPONSE_SECONDS = "roadstead_target_group_response_seconds" ["target_group"] "From a request sent to a target to its response head.";
    GROUP_RETRIES = "roadstead_target_group_retries_total" ["target_group"] "Requests given to a target again.";
    GROUP_RETRIES_REFUSED = "roadstead_target_group_retries_refused_total" ["target_group"] "Requests not given to a target again because the retry budget was spent.";
    GROUP_WAITING = "roadstead_target_group_waiting_requests" ["target_group", "why"] "Requests that wait: in the queue for a busy target, or on hold without one.";
    GROUP_WAIT_REFUSED = "roadstead_target_group_wait_refused_total" ["target_group", "why"] "Requests refused because too many waited, or they had waited for too long: queue or hold.";
    GROUP_EJECTIONS = "roadstead_target_group_ejections_total" ["target_group", "reason"] "Targets ejected as outliers: consecutive_5xx, consecutive_failures or success_rate.";
    GROUP_EJECTED = "roadstead_target_group_ejected_targets" ["target_group"] "Targets that are ejected as outliers now.";
    GROUP_MIRRORED = "roadstead_target_group_mirrored_requests_total" ["target_group", "outcome"] "Copies of requests for the group: answered, failed, or dropped unsent.";
    GROUP_CONNECTION_ERRORS = "roadstead_target_group_connection_errors_total" ["target_group"] "Connections to targets that failed.";
    GROUP_TARGETS = "roadstead_target_group_targets" ["target_group", "state"] "Targets by state: healthy, unhealthy, initial, draining.";
    TARGET_REQUESTS = "roadstead_target_requests_total" ["target_group", "target"] "Requests and flows sent to one target.";
    TARGET_FAILURES = "roadstead_target_failures_total" ["target_group", "target"] "Exchanges with one target that came to 5xx or to no answer.";
    GROUP_ANOMALIES = "roadstead_target_group_anomalies" ["target_group", "state"] "Targets that fail far more often than the others: anomalous; and those that get less for it: mitigated.";
    PROBES = "roadstead_health_probes_total" ["target_group", "outcome"] "Health probes, passed or failed.";
    VERDICTS = "roadstead_health_verdict_changes_total" ["target_group", "to"] "Changes of a target's verdict.";
    DRAIN_SECONDS = "roadstead_drain_seconds" [] "From deregistration to the end of the last exchange and cached answer.";
    DRAINS_CUT = "roadstead_drains_cut_total" [] "Drains that the deregistration delay ended.";
    DNS_QUERIES = "roadstead_dns_queries_total" ["zone", "type", "rcode"] "Queries answered.";
    DNS_DROPPED = "roadstead_dns_dropped_total" ["reason"] "Datagrams and connections dropped without an answer.";
    DNS_FORWARDED = "roadstead_dns_forwarded_total" ["outcome"] "Queries of tasks for names of others: answered, failed, or refused because too many waited.";
    DNS_SECONDS = "roadstead_dns_answer_seconds" ["transport"] "From a query read to its answer written.";
    SERVICE_TASKS = "roadstead_service_tasks" ["service", "state"] "Tasks of a service: desired, running, pending.";
    INSTANCE_CONNECTED = "roadstead_instance_connected" ["instance"] "1 while the container instance answers.";
    SERVICE_REPLACEMENTS = "roadstead_service_replacements_total" ["service", "reason"] "Tasks replaced, by reason.";
    SERVICE_STARTS = "roadstead_service_task_starts_total" ["service"] "Tasks started.";
    PASSES = "roadstead_orchestrator_passes_total" [] "Passes of the reconciler.";
    PASS_SECONDS = "roadstead_orchestrator_pass_seconds" [] "Time of one pass of the reconciler.";
    RESTS_CUT = "roadstead_rests_cut_total" ["what"] "Addresses and ports of stopped tasks given to others before their time, because there were no others.";
    SERIES_REFUSED = "roadstead_series_refused_total" [] "Samples not kept over time because there are too many series.";
    RUNTIME_ERRORS = "roadstead_runtime_errors_total" ["runtime", "call"] "Calls to the container runtime that failed.";
    API_CALLS = "roadstead_api_calls_total" ["service", "operation", "code"] "Calls of the AWS APIs, by error code or OK.";
    API_SECONDS = "roadstead_api_call_seconds" ["service"] "From a call read to its answer made.";
    EVENTS = "roadstead_events_total" ["type"] "Events told, by detail-type.";
    EVENT_READERS_CUT = "roadstead_event_readers_cut_total" [] "Readers of the event stream cut because they were too slow.";
    EVENT_POSTS = "roadstead_event_posts_total" ["outcome"] "Events for the webhook: delivered or dropped.";
    ACCESS_LOG_LINES = "roadstead_access_log_lines_total" [] "Lines written to the access log.";
    ACCESS_LOG_DROPPED = "roadstead_access_log_dropped_total" [] "Lines dropped because the log's queue was full.";
    HEALTH_LOG_LINES = "roadstead_health_log_lines_total" [] "Lines written to the health log.";
    HEALTH_LOG_DROPPED = "roadstead_health_log_dropped_total" [] "Lines of the health log dropped because its queue was full or its disk failing.";
    AUDIT_LOG_LINES = "roadstead_audit_log_lines_total" [] "Lines written to the audit log.";
    AUDIT_LOG_DROPPED = "roadstead_audit_log_dropped_total" [] "Lines of the audit log dropped because its queue was full or its disk failing.";
}

/// Upper bounds of every histogram's buckets, in seconds.
pub const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    10.0, 60.0,
];

type Cells = [CachePadded<AtomicU64>];

/// A count that only rises.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Cells>);

impl Counter {
    /// `thread` is a data thread's index, or [`Metrics::control`].
    pub fn add(&self, thread: usize, count: u64) {
        self.0[thread].fetch_add(count, Ordering::Relaxed);
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }
}

/// A number that rises and falls.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, value: i64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<[CachePadded<Shard>]>);

#[derive(Debug, Default)]
struct Shard {
    /// The last one is above every bound.
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, thread: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        let shard = &self.0[thread];
        shard.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        shard.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().flat_map(|shard| &shard.counts).map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// Observations by bucket, the last one above every bound, and the sum of their times.
    #[must_use]
    pub fn totals(&self) -> ([u64; BUCKETS.len() + 1], Duration) {
        let mut counts = [0; BUCKETS.len() + 1];
        let mut micros = 0;
        for shard in self.0.iter() {
            for (total, count) in counts.iter_mut().zip(&shard.counts) {
                *total += count.load(Ordering::Relaxed);
            }
            micros += shard.micros.load(Ordering::Relaxed);
        }
        (counts, Duration::from_micros(micros))
    }
}

#[derive(Debug)]
enum Series {
    Counter(Weak<Cells>),
    Gauge(Weak<AtomicI64>),
    Histogram(Weak<[CachePadded<Shard>]>),
}

#[derive(Debug)]
struct Family {
    spec: &'static Spec,
    /// By label values.
    series: BTreeMap<Vec<String>, Series>,
}

/// The registry of one process (many live in one test process). Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    threads: usize,
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

impl Metrics {
    /// A registry for `threads` data threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { threads, families: Arc::default() }
    }

    /// Number of data threads.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// The cell of everything that is no data thread.
    #[must_use]
    pub const fn control(&self) -> usize {
        self.threads
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of `spec` with these label values, made when it is new.
    fn resolve<T: ?Sized>(
        &self,
        spec: &'static Spec,
        labels: &[&str],
        found: impl Fn(&Series) -> Option<Arc<T>>,
        make: impl FnOnce() -> (Arc<T>, Series),
    ) -> Arc<T> {
        debug_assert_eq!(spec.labels.len(), labels.len(), "{}", spec.name);
        let mut families = self.families();
        let family =
            families.entry(spec.name).or_insert_with(|| Family { spec, series: BTreeMap::new() });
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        if let Some(series) = family.series.get(&labels).and_then(found) {
            return series;
        }
        let (handle, series) = make();
        family.series.insert(labels, series);
        handle
    }

    #[must_use]
    pub fn counter(&self, spec: &'static Spec, labels: &[&str]) -> Counter {
        let found = |series: &Series| match series {
            Series::Counter(cells) => cells.upgrade(),
            _ => None,
        };
        Counter(self.resolve(spec, labels, found, || {
            let cells: Arc<Cells> = (0..=self.threads).map(|_| CachePadded::default()).collect();
            let series = Series::Counter(Arc::downgrade(&cells));
            (cells, series)
        }))
    }

    #[must_use]
    pub fn gauge(&self, spec: &'static Spec, labels: &[&str]) -> Gauge {
        let found = |series: &Series| match series {
            Series::Gauge(cell) => cell.upgrade(),
            _ => None,
        };
        Gauge(self.resolve(spec, labels, found, || {
            let cell = Arc::new(AtomicI64::new(0));
            let series = Series::Gauge(Arc::downgrade(&cell));
            (cell, series)
        }))
    }

    #[must_use]
    pub fn histogram(&self, spec: &'static Spec, labels: &[&str]) -> Histogram {
        let found = |series: &Series| match series {
            Series::Histogram(shards) => shards.upgrade(),
            _ => None,
        };
        Histogram(self.resolve(spec, labels, found, || {
            let shards: Arc<[CachePadded<Shard>]> =
                (0..=self.threads).map(|_| CachePadded::default()).collect();
            let series = Series::Histogram(Arc::downgrade(&shards));
            (shards, series)
        }))
    }

    /// Everything in Prometheus's text format, version 0.0.4.
    ///
    /// # Errors
    /// A family that the encoder refuses.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let registry = prometheus::Registry::new();
        registry.register(Box::new(self.clone()))?;
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// The collector is all of our families: what it describes changes as targets come and go.
impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families = self.families();
        for family in families.values_mut() {
            family.series.retain(|_, series| series.is_alive());
        }
        families.values().filter(|family| !family.series.is_empty()).map(Family::collect).collect()
    }
}

impl Series {
    fn is_alive(&self) -> bool {
        match self {
            Self::Counter(cells) => cells.strong_count() > 0,
            Self::Gauge(cell) => cell.strong_count() > 0,
            Self::Histogram(shards) => shards.strong_count() > 0,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "Prometheus's numbers are floats")]
    fn fill(&self, metric: &mut proto::Metric) -> proto::MetricType {
        match self {
            Self::Counter(cells) => {
                let mut counter = proto::Counter::default();
                let total = cells.upgrade().map_or(0, |cells| Counter(cells).total());
                counter.set_value(total as f64);
                metric.set_counter(counter);
                proto::MetricType::COUNTER
            }
            Self::Gauge(cell) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(cell.upgrade().map_or(0, |cell| Gauge(cell).value()) as f64);
                metric.set_gauge(gauge);
                proto::MetricType::GAUGE
            }
            Self::Histogram(shards) => {
                if let Some(shards) = shards.upgrade() {
                    metric.set_histogram(histogram(&shards));
                }
                proto::MetricType::HISTOGRAM
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus's numbers are floats")]
fn histogram(shards: &[CachePadded<Shard>]) -> proto::Histogram {
    let count_at = |bucket: usize| -> u64 {
        shards.iter().map(|shard| shard.counts[bucket].load(Ordering::Relaxed)).sum()
    };
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BUCKETS.len());
    for (index, bound) in BUCKETS.iter().enumerate() {
        cumulative += count_at(index);
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(*bound);
        buckets.push(bucket);
    }
    let micros: u64 = shards.iter().map(|shard| shard.micros.load(Ordering::Relaxed)).sum();
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(cumulative + count_at(BUCKETS.len()));
    histogram.set_sample_sum(micros as f64 / 1e6);
    histogram.set_bucket(buckets);
    histogram
}

impl Family {
    fn collect(&self) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.spec.name.to_owned());
        family.set_help(self.spec.help.to_owned());
        let mut metrics = Vec::with_capacity(self.series.len());
        for (values, series) in &self.series {
            let label = |(name, value): (&&str, &String)| {
                let mut label = proto::LabelPair::default();
                label.set_name((*name).to_owned());
                label.set_value(value.clone());
                label
            };
            let labels = self.spec.labels.iter().zip(values).map(label).collect();
            let mut metric = proto::Metric::from_label(labels);
            family.set_field_type(series.fill(&mut metric));
            metrics.push(metric);
        }
        family.set_metric(metrics);
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_sum_their_cells_and_render_with_help() {
        let metrics = Metrics::new(2);
        let counter = metrics.counter(&names::GROUP_REQUESTS, &["web"]);
        counter.add(0, 2);
        counter.add(metrics.control(), 3);
        let text = metrics.render().unwrap();
        assert!(text.contains("# HELP roadstead_target_group_requests_total Requests"), "{text}");
        assert!(
            text.contains("roadstead_target_group_requests_total{target_group=\"web\"} 5"),
            "{text}"
        );
    }

    #[test]
    fn series_without_a_handle_disappears() {
        let metrics = Metrics::new(1);
        let one = metrics.counter(&names::TARGET_REQUESTS, &["web", "127.0.0.1:1"]);
        let two = metrics.counter(&names::TARGET_REQUESTS, &["web", "127.0.0.1:2"]);
        drop(two);
        one.add(0, 1);
        let text = metrics.render().unwrap();
        assert!(text.contains("127.0.0.1:1") && !text.contains("127.0.0.1:2"), "{text}");
    }

    #[test]
    fn same_labels_give_the_same_series() {
        let metrics = Metrics::new(1);
        metrics.counter(&names::PASSES, &[]).add(0, 1);
        let kept = metrics.counter(&names::PASSES, &[]);
        assert_eq!(kept.total(), 0, "the first handle was dropped, its series with it");
        metrics.counter(&names::PASSES, &[]).add(0, 1);
        assert_eq!(kept.total(), 1);
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let metrics = Metrics::new(1);
        let histogram = metrics.histogram(&names::PASS_SECONDS, &[]);
        histogram.observe(0, Duration::from_micros(50));
        histogram.observe(1, Duration::from_millis(30));
        histogram.observe(1, Duration::from_secs(100));
        let text = metrics.render().unwrap();
        assert!(
            text.contains("roadstead_orchestrator_pass_seconds_bucket{le=\"0.0001\"} 1"),
            "{text}"
        );
        assert!(text.contains("roadstead_orchestrator_pass_seconds_bucket{le=\"60\"} 2"), "{text}");
        assert!(text.contains("roadstead_orchestrator_pass_seconds_count 3"), "{text}");
    }
}
