//! Trust stores, and what a listener asks of its clients' certificates.
//!
//! PEM, as it was given. Not here: what a certificate says (`tls` reads it).

use serde::{Deserialize, Serialize};

use super::{Owner, TrustStoreName};

/// Certificates that clients' may lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustStore {
    pub name: TrustStoreName,
    /// Sixteen hexadecimal digits.
    pub id: String,
    /// PEM.
    pub bundle: String,
    pub revocations: Vec<TrustRevocations>,
    pub owner: Owner,
}

/// A list of certificates that are no longer good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRevocations {
    pub id: u64,
    /// PEM.
    pub content: String,
    pub entries: usize,
}

/// What a listener asks of its clients' certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MutualTls {
    #[default]
    Off,
    /// Targets are told what clients show.
    Passthrough,
    Verify {
        store: TrustStoreName,
        ignore_expiry: bool,
        /// Clients are told the names of the store's certificates.
        advertise: bool,
    },
}

impl MutualTls {
    /// ALB's spelling.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passthrough => "passthrough",
            Self::Verify { .. } => "verify",
        }
    }

    /// The trust store that it needs.
    #[must_use]
    pub const fn store(&self) -> Option<&TrustStoreName> {
        match self {
            Self::Verify { store, .. } => Some(store),
            Self::Off | Self::Passthrough => None,
        }
    }
}
