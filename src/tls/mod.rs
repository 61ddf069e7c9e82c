//! TLS: certificates and how they are chosen, handshakes, and connections that may be encrypted.
//!
//! [`Identity`] is a certificate that was read and fits its key, [`Policy`] one of ELB's named
//! security policies, [`Server`] what one listener presents, [`Stream`] a connection with or
//! without TLS, [`Authorities`] who vouches for servers that are no targets. Handshakes run on the
//! thread that accepted. Not here: rows of the State (the caller hands their text in), trust in
//! targets, whose certificates ALB does not verify. **Invariant:** the
//! cryptography is [`provider`]'s, handed to each configuration: there is no default of the
//! process, so no two libraries can disagree about one.

mod accept;
mod client;
mod identity;
mod mutual;
pub mod policy;
mod server;
mod signatures;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use accept::{Failure, HANDSHAKE, Handshakes};
pub use client::{Authorities, NoAuthority, Unverified, connect, connect_named, connect_verified};
pub use identity::{BadCertificate, Facts, Identity, Key};
pub use mutual::{BadTrust, Bundle, Mutual, Revocations, Trust};
pub use policy::Policy;
pub use server::{Alpn, Server, Tickets};
pub use stream::{Session, Stream};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The one provider of cryptography: aws-lc-rs, which has post-quantum key exchange.
#[must_use]
pub fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}
