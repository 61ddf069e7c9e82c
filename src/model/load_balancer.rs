//! Load balancers and listeners, as configured.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{Action, GroupStickiness, Rule};
use super::{
    Authentication, Compression, ListenerKey, ListenerTls, LoadBalancerName, Owner, ProxyProtocol,
    RateLimit, TargetGroupName,
};
use crate::clock::Timestamp;

/// ALB's `idle_timeout.timeout_seconds`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// NLB's `tcp.idle_timeout.seconds`.
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(350);
/// ALB's `client_keep_alive.seconds`: a client connection's greatest age.
pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    pub name: LoadBalancerName,
    /// Sixteen hexadecimal digits, part of its ARN and of its DNS name.
    pub id: String,
    pub kind: LoadBalancerKind,
    /// The one address its listeners bind.
    pub address: IpAddr,
    pub idle_timeout: Duration,
    pub client_keep_alive: Duration,
    pub owner: Owner,
    pub created_at: Timestamp,
    #[serde(default)]
    pub options: BalancerOptions,
}

/// What may be asked of a load balancer beside what moves its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerOptions {
    /// It cannot be deleted.
    pub deletion_protection: bool,
    /// Kept as asked for, like the rest: there is one network and one address here.
    pub internal: bool,
    /// `ipv4`, `dualstack` …; empty: `ipv4`.
    pub address_type: String,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// HTTPS listeners do not offer HTTP/2.
    #[serde(default)]
    pub http1_only: bool,
    /// ALB's `routing.http.desync_mitigation_mode`.
    #[serde(default)]
    pub desync_mitigation_mode: DesyncMode,
    #[serde(default)]
    pub requests: RequestRules,
    /// Attributes that differ from their defaults and that nothing acts upon.
    pub attributes: BTreeMap<String, String>,
}

/// What becomes of requests that servers might read in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesyncMode {
    /// They are counted and logged.
    Monitor,
    #[default]
    Defensive,
    /// Only what is compliant is sent on.
    Strictest,
}

impl DesyncMode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Defensive => "defensive",
            Self::Strictest => "strictest",
        }
    }
}

impl LoadBalancer {
    /// `app/NAME/ID`: its part of ARNs, and its name in access logs and CloudWatch dimensions.
    #[must_use]
    pub fn path(&self) -> String {
        let kind = match self.kind {
            LoadBalancerKind::Application => "app",
            LoadBalancerKind::Network => "net",
        };
        format!("{kind}/{}/{}", self.name, self.id)
    }

    /// The name our DNS answers with its address: `NAME-ID.REGION.elb.DOMAIN`, lower case. `home`
    /// is the home region.
    #[must_use]
    pub fn dns_name(&self, home: &str, domain: &str) -> String {
        let own = self.name.region();
        let region = if own.is_empty() { home } else { own };
        format!("{}-{}.{region}.elb.{domain}", self.name, self.id).to_ascii_lowercase()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancerKind {
    Application,
    Network,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub key: ListenerKey,
    /// Sixteen hexadecimal digits.
    pub id: String,
    pub protocol: Protocol,
    /// Of HTTP listeners alone.
    #[serde(default)]
    pub carrier: Carrier,
    /// Ascending by priority, each priority once.
    pub rules: Vec<Rule>,
    pub default_action: Action,
    pub owner: Owner,
    #[serde(default)]
    pub options: ListenerOptions,
}

/// What may be asked of a listener beside its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerOptions {
    /// NLB's `tcp.idle_timeout.seconds`; none: the load balancer's.
    pub idle_timeout: Option<Duration>,
    /// The default action's place among the actions, as it was given.
    pub order: Option<u32>,
    /// Of HTTPS and TLS listeners.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// What comes before the default action.
    #[serde(default)]
    pub authentication: Option<Authentication>,
    /// Of the default action.
    #[serde(default)]
    pub stickiness: GroupStickiness,
    #[serde(default)]
    pub responses: ResponseRules,
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Attributes that differ from their defaults and that nothing acts upon.
    pub attributes: BTreeMap<String, String>,
}

/// What becomes of the headers of a listener's responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseRules {
    /// `Server` does not reach the client, be it a target's or ours.
    pub hide_server: bool,
    /// Names and values that take the place of the target's.
    pub insert: BTreeMap<String, String>,
    pub compression: Option<Compression>,
}

/// What becomes of the headers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestRules {
    pub forwarded_for: ForwardedFor,
    /// The client's port stands behind its address in `X-Forwarded-For`.
    pub client_port: bool,
    /// `Host` stays as the client sent it.
    pub preserve_host: bool,
    /// Header names of other characters than letters, digits and hyphens do not pass.
    pub drop_invalid: bool,
}

/// ALB's `routing.http.xff_header_processing.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardedFor {
    #[default]
    Append,
    Preserve,
    Remove,
}

impl ForwardedFor {
    pub const ALL: [Self; 3] = [Self::Append, Self::Preserve, Self::Remove];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Preserve => "preserve",
            Self::Remove => "remove",
        }
    }
}

impl Listener {
    /// What comes before each of [`Self::actions`].
    pub fn authentications(&self) -> impl Iterator<Item = Option<&Authentication>> {
        let default = self.options.authentication.as_ref();
        self.rules.iter().map(|rule| rule.authentication.as_ref()).chain([default])
    }

    /// Every action of its rules, then the default's.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.rules.iter().map(|rule| &rule.action).chain(std::iter::once(&self.default_action))
    }

    /// Every target group that it forwards or mirrors to.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroupName> {
        let forwarded = self.actions().flat_map(Action::groups).map(|weighted| &weighted.group);
        let mirrors = self.rules.iter().filter_map(|rule| rule.mirror.as_ref());
        forwarded.chain(mirrors.map(|mirror| &mirror.group))
    }
}

/// What moves the bytes of an HTTP listener's exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    #[default]
    Native,
    Pingora,
}

/// What a listener or a target group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Http,
    Https,
    Tcp,
    Tls,
}

impl Protocol {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// HTTP, with or without TLS.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// With TLS, whatever is spoken inside.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether a listener of this protocol may forward to a group of that one: ALB's listeners
    /// to HTTP and HTTPS, NLB's TCP to TCP and TLS to TCP and TLS.
    #[must_use]
    pub const fn forwards_to(self, group: Self) -> bool {
        match self {
            Self::Http | Self::Https => group.is_http(),
            Self::Tcp => matches!(group, Self::Tcp),
            Self::Tls => !group.is_http(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_from_before_there_were_options_is_read() {
        let old = r#"{"key":{"load_balancer":"front","port":80},"id":"0123456789abcdef",
            "protocol":"HTTP","rules":[{"id":"0123456789abcdef","priority":1,"conditions":[],
            "action":{"Forward":[]}}],"default_action":{"Forward":[]},"owner":"File"}"#;
        let listener: Listener = serde_json::from_str(old).unwrap();
        assert_eq!(listener.options, ListenerOptions::default());
        assert_eq!(listener.rules[0].order, None);
    }
}
