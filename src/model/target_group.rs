//! Target groups, targets, and what health checks made of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    OutlierEjection, Owner, Protocol, RegistrationId, RetryBudget, TargetGroupName, TaskId, Waiting,
};
use crate::clock::Timestamp;

/// ALB's `deregistration_delay.timeout_seconds`.
pub const DEREGISTRATION_DELAY: Duration = Duration::from_secs(300);
/// ALB's `stickiness.lb_cookie.duration_seconds` and its twin for `app_cookie`.
pub const STICKINESS: Duration = Duration::from_secs(86_400);
/// The method that ALB calls to check gRPC targets.
const GRPC_CHECK_PATH: &str = "/AWS.ALB/healthcheck";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    pub name: TargetGroupName,
    /// Sixteen hexadecimal digits.
    pub id: String,
    pub protocol: Protocol,
    /// For targets registered without a port.
    pub port: u16,
    pub health_check: HealthCheck,
    pub deregistration_delay: Duration,
    pub owner: Owner,
    #[serde(default)]
    pub options: GroupOptions,
}

impl TargetGroup {
    /// A group with ALB's and NLB's defaults.
    #[must_use]
    pub fn new(
        name: TargetGroupName,
        id: String,
        (protocol, port): (Protocol, u16),
        owner: Owner,
    ) -> Self {
        Self {
            name,
            id,
            protocol,
            port,
            health_check: HealthCheck::defaults(protocol),
            deregistration_delay: DEREGISTRATION_DELAY,
            owner,
            options: GroupOptions::default(),
        }
    }
}

/// ELB's `ProtocolVersion`: what the targets of an HTTP or HTTPS group speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtocolVersion {
    #[default]
    #[serde(rename = "HTTP1")]
    Http1,
    #[serde(rename = "HTTP2")]
    Http2,
    #[serde(rename = "GRPC")]
    Grpc,
}

impl ProtocolVersion {
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP1",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
        }
    }

    /// HTTP/2 goes to the targets.
    #[must_use]
    pub const fn is_http_2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// What may be asked of a target group beside where it is and how it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOptions {
    #[serde(default)]
    pub version: ProtocolVersion,
    /// Its targets are instances by name; else addresses.
    pub instances: bool,
    /// Its targets' addresses are IPv6.
    pub ipv6: bool,
    /// Kept as asked for.
    pub network: Option<String>,
    #[serde(default)]
    pub routing: GroupRouting,
    /// Attributes that differ from their defaults and that nothing acts upon.
    pub attributes: BTreeMap<String, String>,
}

/// Who of a group's targets gets a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRouting {
    pub algorithm: Algorithm,
    /// Targets that fail far more often than the others get less; only by weighted random.
    pub anomaly_mitigation: bool,
    /// How long a new target grows into its share; zero: not at all.
    pub slow_start: Duration,
    pub stickiness: Stickiness,
    /// With fewer healthy targets than this, all of them get traffic.
    pub minimum_healthy: u32,
    /// The same in percent of the registered targets.
    pub minimum_healthy_percent: Option<u32>,
    pub retry_budget: RetryBudget,
    /// Exchanges that one target has at a time, at most.
    pub target_concurrency: Option<u32>,
    /// Of requests that find all targets busy.
    pub queue: Waiting,
    /// Of requests that find no target; none: they do not wait.
    pub hold: Option<Waiting>,
    pub outlier_ejection: Option<OutlierEjection>,
}

impl Default for GroupRouting {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            anomaly_mitigation: false,
            slow_start: Duration::ZERO,
            stickiness: Stickiness::default(),
            minimum_healthy: 1,
            minimum_healthy_percent: None,
            retry_budget: RetryBudget::default(),
            target_concurrency: None,
            queue: Waiting::QUEUE,
            hold: None,
            outlier_ejection: None,
        }
    }
}

/// ALB's `load_balancing.algorithm.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastOutstandingRequests,
    WeightedRandom,
    /// Not ALB's: the better of two by chance, by the time they take and the exchanges they have.
    PeakEwma,
}

impl Algorithm {
    /// ALB's.
    pub const ALL: [Self; 3] =
        [Self::RoundRobin, Self::LeastOutstandingRequests, Self::WeightedRandom];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastOutstandingRequests => "least_outstanding_requests",
            Self::WeightedRandom => "weighted_random",
            Self::PeakEwma => "peak_ewma",
        }
    }
}

/// Whether a client stays with the target that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stickiness {
    pub enabled: bool,
    pub kind: StickinessKind,
    /// Of a cookie of ours.
    pub duration: Duration,
    /// The application's own cookie.
    pub cookie_name: String,
    /// Of the bond that goes with it.
    pub application_duration: Duration,
}

impl Default for Stickiness {
    fn default() -> Self {
        Self {
            enabled: false,
            kind: StickinessKind::default(),
            duration: STICKINESS,
            cookie_name: String::new(),
            application_duration: STICKINESS,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StickinessKind {
    #[default]
    LbCookie,
    AppCookie,
}

/// ALB's parameters and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub protocol: Protocol,
    /// The group's.
    #[serde(default)]
    pub version: ProtocolVersion,
    /// None: the port that gets the traffic.
    pub port: Option<u16>,
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    /// Status codes that pass; gRPC's for its groups.
    pub matcher: Vec<RangeInclusive<u16>>,
}

impl HealthCheck {
    /// ALB's defaults for HTTP, NLB's for TCP.
    #[must_use]
    pub fn defaults(protocol: Protocol) -> Self {
        Self {
            protocol,
            version: ProtocolVersion::Http1,
            port: None,
            path: "/".to_owned(),
            interval: Duration::from_secs(30),
            timeout: match protocol {
                Protocol::Http | Protocol::Https => Duration::from_secs(5),
                Protocol::Tcp | Protocol::Tls => Duration::from_secs(10),
            },
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: vec![200..=200],
        }
    }

    /// The same for a group whose targets speak `version`. A gRPC target that does not know ALB's
    /// method answers 12, unimplemented, and lives.
    #[must_use]
    pub fn of(protocol: Protocol, version: ProtocolVersion) -> Self {
        let own = Self { version, ..Self::defaults(protocol) };
        match version {
            ProtocolVersion::Grpc if protocol.is_http() => {
                Self { path: GRPC_CHECK_PATH.to_owned(), matcher: vec![12..=12], ..own }
            }
            _ => own,
        }
    }
}

/// A target as configured: one registration of an address and port in a group.
///
/// **Invariant:** written by whoever registers (the file, the API, the orchestrator), never by
/// `health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub id: RegistrationId,
    pub group: TargetGroupName,
    pub address: IpAddr,
    pub port: u16,
    /// The task it belongs to; none for a fixed target.
    pub task: Option<TaskId>,
    pub registration: Registration,
    pub registered_at: Timestamp,
}

impl Target {
    #[must_use]
    pub const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.registration == Registration::Active
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Registration {
    Active,
    /// Gets nothing new; gone when its last exchange ended or its group's deregistration delay did.
    Draining {
        since: Timestamp,
    },
}

/// What the health checks of one registration have come to. **Invariant:** written by `health`
/// alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub target: RegistrationId,
    pub state: VerdictState,
    pub reason: Option<TargetReason>,
    /// For people: `Health checks failed with these codes: [503]`.
    pub description: String,
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VerdictState {
    /// No probe has decided yet.
    Initial,
    Healthy,
    Unhealthy,
}

impl VerdictState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// ELB's reason codes that apply here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetReason {
    RegistrationInProgress,
    InitialHealthChecking,
    ResponseCodeMismatch,
    Timeout,
    FailedHealthChecks,
    DeregistrationInProgress,
}

impl TargetReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Elb.RegistrationInProgress",
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::ResponseCodeMismatch => "Target.ResponseCodeMismatch",
            Self::Timeout => "Target.Timeout",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
        }
    }
}
