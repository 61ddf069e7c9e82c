//! Routing: the State compiled for the planes, published through one pointer, acknowledged per data
//! thread.
//!
//! [`Routing`] is immutable; [`Reader`] is all that a plane gets of it. Not here: sockets, bytes,
//! the State's own rules. **Invariant:** a decision is one synchronous call on one snapshot, so
//! that once every data thread has acknowledged a generation, nothing picks what that generation
//! does not have.

mod anomalies;
mod check;
mod compile;
mod decide;
mod explain;
mod keeper;
mod publisher;
mod reader;
mod secure;
pub mod sticky;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Seals;
use crate::balance::{Endpoint, Group};
use crate::metrics::{Counter, Gauge, Histogram};
use crate::model::{
    FixedResponse, Generation, Listener, LoadBalancer, Protocol, Redirect, RegistrationId,
    TargetGroupName, Transport,
};
use crate::rules::{Limiter, Matcher};
use crate::zone::Zones;

pub use crate::net::SocketKey;
pub use anomalies::{Anomalies, watch_anomalies};
pub use check::{Checks, KeySets, LoginStep};
pub use compile::{Context, compile};
pub use decide::{Bonds, Decision, Outcome, Trial, decide};
pub use explain::{Explanation, GroupNote, RuleNote, TargetNote, explain};
pub use keeper::keep_keys;
pub use publisher::Publisher;
pub use reader::{DataThread, Generations, Predecessor, Reader, SILENCE, Silent, Slot};
pub use secure::{RoutedTls, TlsMetrics};
use sticky::CookieKeys;

/// Everything the planes need, at one generation.
#[derive(Debug, Default)]
pub struct Routing {
    pub generation: Generation,
    /// What is to be listened on, and what for.
    pub listeners: BTreeMap<SocketKey, Arc<RoutedListener>>,
    pub groups: HashMap<TargetGroupName, Arc<Group>>,
    /// Active and draining ones.
    pub endpoints: Arc<HashMap<RegistrationId, Arc<Endpoint>>>,
    pub zones: Arc<Zones>,
    /// Of all that check tokens.
    pub key_sets: KeySets,
    /// Of sessions, and of what targets are told.
    pub seals: Arc<Seals>,
    cookies: Arc<CookieKeys>,
    /// For the next compilation to see what changed.
    inputs: compile::Inputs,
}

/// A listener in a snapshot.
#[derive(Debug)]
pub struct RoutedListener {
    pub listener: Arc<Listener>,
    pub load_balancer: Arc<LoadBalancer>,
    /// `app/NAME/ID`, as access logs show it.
    pub elb: String,
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub matcher: Arc<Matcher>,
    /// One per rule, then the default's.
    pub actions: Vec<RoutedAction>,
    /// What comes before them.
    pub checks: Arc<Checks>,
    pub idle_timeout: Duration,
    /// A client connection's greatest age.
    pub client_keep_alive: Duration,
    /// Of HTTPS and TLS listeners.
    pub tls: Option<Arc<RoutedTls>>,
    /// They seal and open the cookies that bind clients.
    pub cookies: Arc<CookieKeys>,
    /// The same for sessions of clients that are logged in.
    pub seals: Arc<Seals>,
    pub metrics: Arc<ListenerMetrics>,
    pub limit: Option<Arc<Limiter>>,
    /// One per action.
    pub rule_limits: Vec<Option<Arc<Limiter>>>,
}

impl RoutedListener {
    /// The transport of a listener's protocol.
    #[must_use]
    pub const fn transport(protocol: Protocol) -> Transport {
        match protocol {
            Protocol::Http | Protocol::Https | Protocol::Tcp | Protocol::Tls => Transport::Tcp,
        }
    }

    /// Whether a rule forwards to targets that speak HTTP/2.
    #[must_use]
    pub fn reaches_http_2(&self) -> bool {
        let groups = self.actions.iter().flat_map(|action| match action {
            RoutedAction::Forward(forwarding) => forwarding.groups.as_slice(),
            RoutedAction::Fixed(_) | RoutedAction::Redirect(_) => &[],
        });
        groups.into_iter().any(|(group, _)| group.version.is_http_2())
    }
}

/// An action with its groups found.
#[derive(Debug)]
pub enum RoutedAction {
    Forward(Forwarding),
    Fixed(Arc<FixedResponse>),
    Redirect(Arc<Redirect>),
}

/// Weighted groups; one in nearly every case.
#[derive(Debug)]
pub struct Forwarding {
    pub groups: Vec<(Arc<Group>, u32)>,
    pub total_weight: u32,
    /// How long a client stays with its group; none: it does not.
    pub sticky: Option<Duration>,
}

/// Handles resolved when the listener is first compiled.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub connections: Counter,
    pub active: Gauge,
    pub rejected: Counter,
    /// In the order of `Refused::ALL`.
    pub proxy_refused: [Counter; 4],
    /// By status class, 1xx … 5xx.
    pub requests: [Counter; 5],
    /// By class: Acceptable, Ambiguous, Severe.
    pub non_compliant: [Counter; 3],
    pub request_seconds: Histogram,
    pub received: Counter,
    pub sent: Counter,
    pub grpc: Counter,
    /// Tokens: accepted, refused.
    pub tokens: [Counter; 2],
    pub logins: LoginMetrics,
    /// In the order of `Coding::ALL`.
    pub compressed: [Counter; 3],
    /// Own responses by code.
    pub own: OwnResponses,
}

/// What became of logins.
#[derive(Debug)]
pub struct LoginMetrics {
    pub success: Counter,
    /// The client or the provider is to blame.
    pub failure: Counter,
    /// The provider does not answer.
    pub error: Counter,
    /// Sessions that went on with another access token.
    pub refreshed: Counter,
    /// Of the errors: the provider said more than may be kept.
    pub oversized: Counter,
    /// How long the provider took, whatever came of it.
    pub seconds: Histogram,
}

/// Codes of responses generated here that are counted apart; 0: all others, redirects and fixed
/// responses among them.
pub const OWN_CODES: [u16; 15] =
    [400, 401, 405, 408, 414, 429, 460, 463, 464, 500, 502, 503, 504, 561, 0];

/// Counters of the responses generated here.
#[derive(Debug)]
pub struct OwnResponses([(u16, Counter); OWN_CODES.len()]);

impl OwnResponses {
    /// The counter of `code`; codes without one of their own share `other`.
    #[must_use]
    pub fn of(&self, code: u16) -> &Counter {
        let [rest @ .., (_, other)] = &self.0;
        rest.iter().find(|(own, _)| *own == code).map_or(other, |(_, counter)| counter)
    }
}
