//! What is written of traffic beside what the AWS APIs know.

use serde::Deserialize;

use crate::config::Time;
use crate::model::Coding;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenBudget {
    pub(in super::super) percent: Option<u32>,
    pub(in super::super) minimum_per_second: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenMirror {
    pub(in super::super) target_group: String,
    pub(in super::super) percent: Option<u32>,
    pub(in super::super) max_body: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenWaiting {
    pub(in super::super) requests: Option<u32>,
    pub(in super::super) timeout: Option<Time>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenEjection {
    pub(in super::super) consecutive_5xx: Option<u32>,
    pub(in super::super) consecutive_failures: Option<u32>,
    pub(in super::super) success_rate: Option<u32>,
    pub(in super::super) minimum_requests: Option<u32>,
    pub(in super::super) interval: Option<Time>,
    pub(in super::super) base_time: Option<Time>,
    pub(in super::super) max_time: Option<Time>,
    pub(in super::super) max_percent: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenLimit {
    #[serde(default)]
    pub(in super::super) key: WrittenKey,
    /// With the key `header`.
    pub(in super::super) header: Option<String>,
    pub(in super::super) requests: u32,
    pub(in super::super) per: Option<Time>,
    pub(in super::super) burst: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenCompression {
    pub(in super::super) algorithms: Option<Vec<Coding>>,
    pub(in super::super) minimum_size: Option<u64>,
    pub(in super::super) content_types: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WrittenProxyProtocol {
    pub(in super::super) trusted: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum WrittenKey {
    All,
    #[default]
    SourceIp,
    Host,
    Header,
}
