//! Routing: the State compiled for the planes, published through one pointer, acknowledged per data
//! thread.
//!
//! [`Routing`] is immutable; [`Reader`] is all that a plane gets of it. Not here: sockets, bytes,
//! the State's own rules. **Invariant:** a decision is one synchronous call on one snapshot, so
//! that once every data thread has acknowledged a generation, nothing picks what that generation
//! does not have.

mod compile;
mod decide;
mod publisher;
mod reader;
mod secure;
pub mod sticky;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Endpoint, Group};
use crate::metrics::{Counter, Gauge, Histogram};
use crate::model::{
    FixedResponse, Generation, Listener, LoadBalancer, Protocol, Redirect, RegistrationId,
    TargetGroupName, Transport,
};
use crate::rules::Matcher;
use crate::zone::Zones;

pub use crate::net::SocketKey;
pub use compile::{Context, compile};
pub use decide::{Bonds, Decision, Outcome, Trial, decide};
pub use publisher::Publisher;
pub use reader::{DataThread, Predecessor, Reader, SILENCE, Silent, Slot};
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
    pub idle_timeout: Duration,
    /// A client connection's greatest age.
    pub client_keep_alive: Duration,
    /// Of HTTPS and TLS listeners.
    pub tls: Option<Arc<RoutedTls>>,
    /// They seal and open the cookies that bind clients.
    pub cookies: Arc<CookieKeys>,
    pub metrics: Arc<ListenerMetrics>,
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
    /// By status class, 1xx … 5xx.
    pub requests: [Counter; 5],
    /// By class: Acceptable, Ambiguous, Severe.
    pub non_compliant: [Counter; 3],
    pub request_seconds: Histogram,
    pub received: Counter,
    pub sent: Counter,
    pub grpc: Counter,
    /// Own responses: 400, 408, 502, 503, 504, and any other code.
    pub own: OwnResponses,
}

/// Counters of the responses generated here.
#[derive(Debug)]
pub struct OwnResponses([(u16, Counter); 8]);

impl OwnResponses {
    /// The counter of `code`; codes without one of their own share `other`.
    #[must_use]
    pub fn of(&self, code: u16) -> &Counter {
        let [rest @ .., (_, other)] = &self.0;
        rest.iter().find(|(own, _)| *own == code).map_or(other, |(_, counter)| counter)
    }
}
