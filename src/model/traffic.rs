//! What may be asked of traffic beside what the AWS APIs know: budgets, limits, queues.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Pool, TargetGroupName};

/// How many requests of a target group may be given to a target again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryBudget {
    /// Of the requests of the last ten seconds.
    pub percent: u32,
    /// So many more, however few requests there are.
    pub minimum_per_second: u32,
}

impl Default for RetryBudget {
    /// Finagle's and linkerd's.
    fn default() -> Self {
        Self { percent: 20, minimum_per_second: 10 }
    }
}

/// How many requests of a target group may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub requests: u32,
    pub timeout: Duration,
}

impl Waiting {
    /// Ours: a target of ten exchanges at a time, 50 ms each, is through with so many in half a
    /// second.
    pub const QUEUE: Self = Self { requests: 100, timeout: Duration::from_secs(5) };
    /// Ours: a task that is started now is there by then.
    pub const HOLD: Self = Self { requests: 100, timeout: Duration::from_secs(30) };
}

/// When a target is left alone for a while, though its health checks pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutlierEjection {
    /// Answers of 500 and above, or failures, in a row. 0: not looked at; so below.
    pub consecutive_5xx: u32,
    /// Connections refused or lost before an answer, in a row.
    pub consecutive_failures: u32,
    /// Percent of answers below 500 within an interval.
    pub success_rate: u32,
    /// An interval with fewer requests says nothing of the rate.
    pub minimum_requests: u32,
    pub interval: Duration,
    /// How long the first ejection lasts; each one more adds as much.
    pub base_time: Duration,
    pub max_time: Duration,
    /// Of a group's targets, ejected at a time; one always may be.
    pub max_percent: u32,
}

impl Default for OutlierEjection {
    /// Envoy's, but for the success rate, which is off.
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_failures: 5,
            success_rate: 0,
            minimum_requests: 100,
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            max_percent: 10,
        }
    }
}

/// How many requests may come for each value of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub key: RateKey,
    /// On average, within `per`.
    pub requests: u32,
    pub per: Duration,
    /// How many may come at once.
    pub burst: u32,
}

/// Connections of these sources begin with a PROXY header that says who they are of; there are no
/// others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyProtocol {
    pub trusted: Vec<Pool>,
}

/// Another group that gets copies of requests; nobody waits for its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    pub group: TargetGroupName,
    /// Of the requests.
    pub percent: u32,
    /// Bytes; what is longer is not copied.
    pub max_body: u64,
}

/// Which responses clients get coded who ask for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compression {
    /// What may be taken; among those that a client likes as well the first.
    pub algorithms: Vec<Coding>,
    /// Bytes; what tells no length is taken for long.
    pub minimum_size: u64,
    /// Media types; `text/*` is any that begins so.
    pub content_types: Vec<String>,
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/javascript",
            "application/json",
            "application/xml",
            "application/xhtml+xml",
            "application/atom+xml",
            "application/rss+xml",
            "application/wasm",
            "image/svg+xml",
        ];
        Self {
            algorithms: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
            minimum_size: 1024,
            content_types: types.map(str::to_owned).to_vec(),
        }
    }
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    Br,
    Zstd,
    Gzip,
}

impl Coding {
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// As `Content-Encoding` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Whether `Accept-Encoding` means it by this name.
    #[must_use]
    pub fn is_called(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.as_str())
            || self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip")
    }
}

/// By what requests are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateKey {
    /// They are not.
    All,
    /// The client's address; of IPv6 its /64.
    SourceIp,
    /// Without case and port.
    Host,
    /// A header's first value.
    Header(String),
}
