//! Health checks of names: what Route 53 looks at before it answers with a record.
//!
//! Not here: probing, and who keeps what it came to. Source: Route 53 developer guide, "How Route
//! 53 determines whether a health check is healthy".

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AlarmName, NameCheckId};
use crate::clock::Timestamp;

/// Of the children of a calculated check, unless it says otherwise (Route 53's default).
pub const NAME_CHECK_FAILURES: u32 = 3;
/// Between two probes, unless a check says otherwise (Route 53's default).
pub const NAME_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// What decides whether records of a name are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCheck {
    pub id: NameCheckId,
    pub caller_reference: String,
    /// Counts its changes, from 1.
    pub version: u64,
    pub subject: NameSubject,
    /// Healthy counts as unhealthy, and the other way round.
    pub inverted: bool,
    /// Not looked at: as good as healthy.
    pub disabled: bool,
    /// Members that say nothing here, kept as they were given.
    #[serde(default)]
    pub regions: Vec<String>,
    #[serde(default)]
    pub measure_latency: bool,
}

impl NameCheck {
    /// One that nobody has changed yet.
    #[must_use]
    pub fn new(id: NameCheckId, caller_reference: &str, subject: NameSubject) -> Self {
        Self {
            id,
            caller_reference: caller_reference.to_owned(),
            version: 1,
            subject,
            inverted: false,
            disabled: false,
            regions: Vec::new(),
            measure_latency: false,
        }
    }
}

/// What it looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameSubject {
    Endpoint(NameEndpoint),
    /// Healthy when at least `threshold` of the children are.
    Calculated {
        children: Vec<NameCheckId>,
        threshold: u32,
    },
    /// An alarm: healthy while it is OK.
    Alarm {
        name: AlarmName,
        region: String,
        without_data: WithoutData,
    },
}

/// An address that is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEndpoint {
    pub protocol: NameProtocol,
    /// None: what the domain name's address is.
    pub address: Option<IpAddr>,
    pub port: u16,
    /// Of the `Host` header, and of the handshake where that names one.
    pub domain: Option<String>,
    pub path: String,
    /// What has to be in the first 5,120 bytes of the answer.
    pub search: Option<String>,
    pub interval: Duration,
    /// Probes in a row that turn it.
    pub threshold: u32,
    pub server_name: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameProtocol {
    Http,
    Https,
    Tcp,
}

/// What an alarm without data stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithoutData {
    Healthy,
    Unhealthy,
    #[default]
    LastKnown,
}

impl WithoutData {
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Unhealthy, Self::LastKnown];

    /// Route 53's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Unhealthy => "Unhealthy",
            Self::LastKnown => "LastKnownStatus",
        }
    }
}

/// What a check has come to, before `inverted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameStatus {
    pub check: NameCheckId,
    pub passes: bool,
    /// For people: `Success: HTTP Status Code 200, OK`.
    pub text: String,
    /// When it was first found so.
    pub at: Timestamp,
    /// The last failure and when it was first found so.
    pub failure: Option<(String, Timestamp)>,
}

impl NameCheck {
    /// Whether it counts as healthy. One that nothing is known of does, unless it is inverted.
    #[must_use]
    pub fn is_healthy(&self, status: Option<&NameStatus>) -> bool {
        let passes = self.disabled || status.is_none_or(|status| status.passes);
        passes != self.inverted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_healthy_and_inverted_turns_it() {
        let check = |status: Option<bool>, inverted: bool, disabled: bool, expected: bool| {
            let subject = NameSubject::Calculated { children: Vec::new(), threshold: 0 };
            let check = NameCheck { inverted, disabled, ..NameCheck::new("a".into(), "", subject) };
            let status = status.map(|passes| NameStatus {
                check: "a".into(),
                passes,
                text: String::new(),
                at: Timestamp(0),
                failure: None,
            });
            assert_eq!(check.is_healthy(status.as_ref()), expected);
        };
        check(None, false, false, true);
        check(None, true, false, false);
        check(Some(true), false, false, true);
        check(Some(false), false, false, false);
        check(Some(false), true, false, true);
        check(Some(false), false, true, true);
        check(Some(true), true, true, false);
    }
}
