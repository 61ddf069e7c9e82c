//! The TLS side of a listener: rows of certificates → what it presents.
//!
//! **Invariant:** what did not change is shared with the previous snapshot, its keys not read
//! again.

use std::sync::Arc;

use crate::metrics::{Counter, Metrics, names};
use crate::model::{
    AlpnPolicy, Certificate, Listener, ListenerTls, LoadBalancer, MutualTls, Protocol, TrustStore,
    label,
};
use crate::state::State;
use crate::tls::{
    Alpn, BadTrust, Bundle, Failure, Identity, Mutual, Policy, Revocations, Server, Tickets, Trust,
};

/// The TLS side of a listener in a snapshot.
#[derive(Debug)]
pub struct RoutedTls {
    pub server: Server,
    pub metrics: Arc<TlsMetrics>,
    asked: ListenerTls,
    alpn: &'static [Alpn],
    rows: Vec<Arc<Certificate>>,
    store: Option<Arc<TrustStore>>,
}

/// Handles resolved when the listener is first compiled.
#[derive(Debug)]
pub struct TlsMetrics {
    /// Whole handshakes, and sessions that went on.
    pub handshakes: [Counter; 2],
    failures: [Counter; Failure::ALL.len()],
}

impl TlsMetrics {
    fn new(metrics: &Metrics, listener: &str) -> Self {
        let made = |kind| metrics.counter(&names::LISTENER_HANDSHAKES, &[listener, kind]);
        let failed = |failure: Failure| {
            metrics.counter(&names::LISTENER_TLS_ERRORS, &[listener, failure.as_str()])
        };
        Self { handshakes: ["full", "resumed"].map(made), failures: Failure::ALL.map(failed) }
    }

    /// The counter of handshakes that failed so.
    #[must_use]
    pub fn failed(&self, failure: Failure) -> &Counter {
        let index = Failure::ALL.iter().position(|other| *other == failure);
        &self.failures[index.unwrap_or(Failure::ALL.len() - 1)]
    }
}

/// The keys of session tickets, made when the first listener needs them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sealed(Option<Tickets>);

/// None: the listener has no TLS side.
///
/// # Errors
/// A certificate is missing or cannot be presented; which the State's rules and those who write
/// certificates exclude.
pub(super) fn compile(
    state: &State,
    (lb, listener): (&LoadBalancer, &Listener),
    old: Option<&Arc<RoutedTls>>,
    sealed: &mut Sealed,
    metrics: &Metrics,
) -> Result<Option<Arc<RoutedTls>>, String> {
    let Some(asked) = &listener.options.tls else { return Ok(None) };
    let row = |arn| {
        let row = state.certificates.get(arn).cloned();
        row.ok_or_else(|| format!("certificate {arn} is not there"))
    };
    let rows = asked.certificates.iter().map(row).collect::<Result<Vec<_>, String>>()?;
    let alpn = alpn(listener.protocol, asked.alpn, lb.options.http1_only);
    let store = match asked.mutual.store() {
        None => None,
        Some(name) => Some(
            state
                .trust_stores
                .get(name)
                .cloned()
                .ok_or_else(|| format!("no trust store {name}"))?,
        ),
    };
    if let Some(old) = old
        && same_store(old.store.as_ref(), store.as_ref())
        && old.asked == *asked
        && old.alpn == alpn
        && old.rows.len() == rows.len()
        && old.rows.iter().zip(&rows).all(|(old, new)| Arc::ptr_eq(old, new))
    {
        return Ok(Some(Arc::clone(old)));
    }
    let identity = |row: &Arc<Certificate>| {
        let identity = Identity::read(&row.body, &row.chain, row.private_key.expose());
        let identity = identity.map_err(|error| format!("certificate {}: {error}", row.arn))?;
        Ok((Arc::from(row.arn.as_str()), identity))
    };
    let identities = rows.iter().map(identity).collect::<Result<Vec<_>, String>>()?;
    let policy = Policy::find(&asked.policy);
    let policy = policy.ok_or_else(|| format!("{} is no security policy", asked.policy))?;
    let tickets = match &sealed.0 {
        Some(tickets) => tickets.clone(),
        None => sealed.0.insert(Tickets::new().map_err(|error| error.to_string())?).clone(),
    };
    let mutual = mutual(&asked.mutual, store.as_deref())?;
    let server = Server::new(identities, policy, alpn, &tickets, mutual);
    let server = server.map_err(|error| error.to_string())?;
    let metrics = old.map_or_else(
        || Arc::new(TlsMetrics::new(metrics, &label(&listener.key))),
        |old| Arc::clone(&old.metrics),
    );
    Ok(Some(Arc::new(RoutedTls { server, metrics, asked: asked.clone(), alpn, rows, store })))
}

fn same_store(old: Option<&Arc<TrustStore>>, new: Option<&Arc<TrustStore>>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    }
}

/// What is asked of clients, with the store that it needs.
fn mutual(asked: &MutualTls, store: Option<&TrustStore>) -> Result<Mutual, String> {
    let (ignore_expiry, advertise, store) = match (asked, store) {
        (MutualTls::Verify { ignore_expiry, advertise, .. }, Some(store)) => {
            (*ignore_expiry, *advertise, store)
        }
        (MutualTls::Passthrough, _) => return Ok(Mutual::Passthrough),
        (MutualTls::Off | MutualTls::Verify { .. }, _) => return Ok(Mutual::Off),
    };
    let bad = |error: BadTrust| format!("trust store {}: {error}", store.name);
    let lists = store.revocations.iter().map(|list| Revocations::read(&list.content));
    let revocations = lists.collect::<Result<_, _>>().map_err(bad)?;
    let bundle = Bundle::read(&store.bundle).map_err(bad)?;
    Ok(Mutual::Verify(Trust { bundle, revocations, ignore_expiry, advertise }))
}

/// What is offered inside, the preferred first: ALB both, NLB what its policy says.
const fn alpn(protocol: Protocol, policy: AlpnPolicy, http1_only: bool) -> &'static [Alpn] {
    match (protocol, policy) {
        (Protocol::Https, _) if http1_only => &[Alpn::Http1],
        (Protocol::Https, _) | (_, AlpnPolicy::Http2Preferred) => &[Alpn::H2, Alpn::Http1],
        (_, AlpnPolicy::Http2Optional) => &[Alpn::Http1, Alpn::H2],
        (_, AlpnPolicy::Http1Only) => &[Alpn::Http1],
        (_, AlpnPolicy::Http2Only) => &[Alpn::H2],
        (_, AlpnPolicy::None) => &[],
    }
}
