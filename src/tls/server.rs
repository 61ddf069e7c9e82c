//! What one listener presents: which certificate for which client, under which policy.
//!
//! One rustls configuration per certificate, so that the choice is made by us, from the client's
//! hello, and known afterwards. **Invariant:** built anew when its certificates or its policy
//! change; connections keep what they were accepted with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::{Error, crypto::CryptoProvider};

use super::{Identity, Key, Mutual, Policy};

/// What TLS agreed on to speak inside (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    Http1,
    H2,
}

impl Alpn {
    pub(super) const fn id(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }

    pub(super) fn of(id: &[u8]) -> Option<Self> {
        [Self::Http1, Self::H2].into_iter().find(|alpn| alpn.id() == id)
    }
}

/// The keys that session tickets are sealed with: the same for all data threads and listeners,
/// and changed every six hours (RFC 5077, RFC 8446 section 4.6.1).
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self, Error> {
        rustls::crypto::aws_lc_rs::Ticketer::new().map(Self)
    }
}

/// One certificate that a listener may present.
pub(super) struct Presented {
    pub(super) arn: Arc<str>,
    pub(super) config: Arc<ServerConfig>,
    identity: Identity,
}

/// What a listener presents.
pub struct Server {
    /// The default one first.
    presented: Vec<Presented>,
    /// By name, lower case; of `*.example.com` the part behind the asterisk. The preferred first.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
    pub(super) mutual: Mutual,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arns = self.presented.iter().map(|presented| &presented.arn);
        f.debug_list().entries(arns).finish()
    }
}

impl Server {
    /// `identities` by ARN, the default one first; `alpn` in the order of preference, empty: none;
    /// `mutual` is asked of every client.
    ///
    /// # Errors
    /// There is no certificate, or rustls refuses the configuration.
    pub fn new(
        identities: Vec<(Arc<str>, Identity)>,
        policy: &Policy,
        alpn: &[Alpn],
        tickets: &Tickets,
        mutual: Mutual,
    ) -> Result<Self, Error> {
        if identities.is_empty() {
            return Err(Error::General("no certificate".to_owned()));
        }
        let provider = Arc::new(CryptoProvider {
            cipher_suites: policy.suites(),
            kx_groups: policy.groups().to_vec(),
            ..CryptoProvider::clone(super::provider())
        });
        let verifier = mutual.verifier()?;
        let presented = identities.into_iter().map(|(arn, identity)| {
            let resolver = SingleCertAndKey::from(Arc::clone(&identity.certified));
            let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&policy.versions())?;
            let config = match &verifier {
                None => config.with_no_client_auth(),
                Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            };
            let mut config = config.with_cert_resolver(Arc::new(resolver));
            // ALB prefers by its policy's order.
            config.ignore_client_order = true;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            match &verifier {
                None => config.ticketer = Arc::clone(&tickets.0),
                // ALB takes up no sessions where it asks for certificates.
                Some(_) => config.send_tls13_tickets = 0,
            }
            config.alpn_protocols = alpn.iter().map(|alpn| alpn.id().to_vec()).collect();
            Ok(Presented { arn, config: Arc::new(config), identity })
        });
        let presented = presented.collect::<Result<Vec<_>, Error>>()?;
        let (exact, wildcard) = (HashMap::new(), HashMap::new());
        let mut server = Self { presented, exact, wildcard, mutual };
        server.index();
        Ok(server)
    }

    /// ALB, "SSL certificates": of those that match, ECDSA before RSA, then the longer key.
    fn index(&mut self) {
        let mut order: Vec<usize> = (1..self.presented.len()).collect();
        order.sort_by_key(|index| match self.presented[*index].identity.facts.key {
            Key::Ecdsa(bits) => (0, usize::MAX - bits),
            Key::Rsa(bits) => (1, usize::MAX - bits),
        });
        for index in order {
            for name in &self.presented[index].identity.facts.names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut self.wildcard, parent),
                    None => (&mut self.exact, name.as_str()),
                };
                table.entry(name.to_owned()).or_default().push(index);
            }
        }
    }

    /// The certificate for a client: of the list, one of its exact name before one of a wildcard;
    /// else the default one. Only what the client can verify the signature of is of the list.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> &Presented {
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let parent = name.split_once('.').map(|(_, parent)| parent).unwrap_or_default();
        let exact = self.exact.get(&name).into_iter().flatten();
        let wildcard = self.wildcard.get(parent).into_iter().flatten();
        let mut fitting = exact.chain(wildcard).map(|index| &self.presented[*index]);
        let verifiable = |presented: &&Presented| {
            let key = &presented.identity.certified.key;
            key.choose_scheme(hello.signature_schemes()).is_some()
        };
        fitting.find(verifiable).unwrap_or(&self.presented[0])
    }
}
