//! Certificates with their private keys, and what a listener asks of its TLS.
//!
//! PEM, as it was given. Not here: what a certificate says (`tls` reads it). **Invariant:** no
//! `Debug` and no `Display` shows a private key.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CertificateArn, MutualTls, Owner};
use crate::clock::Timestamp;

/// A certificate that listeners may present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub arn: CertificateArn,
    pub store: CertificateStore,
    /// PEM; the leaf alone.
    pub body: String,
    /// PEM; whoever signed it, in order. Empty: nobody else.
    pub chain: String,
    pub private_key: PrivateKey,
    pub owner: Owner,
    pub created_at: Timestamp,
    /// When its content came.
    pub imported_at: Timestamp,
}

/// Which of AWS's two stores it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateStore {
    Acm,
    /// IAM's server certificates.
    Iam {
        name: String,
        /// Begins and ends with a slash.
        path: String,
        /// `ASCA` and 17 upper-case letters and digits.
        id: String,
    },
}

/// A PEM private key that nothing shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    #[must_use]
    pub const fn new(pem: String) -> Self {
        Self(pem)
    }

    /// For whoever signs with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}

/// What an HTTPS or TLS listener asks of its handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTls {
    /// The default one first, then the list that server names choose from.
    pub certificates: Vec<CertificateArn>,
    /// The security policy's whole name: `ELBSecurityPolicy-…`.
    pub policy: String,
    /// Of TLS listeners alone.
    #[serde(default)]
    pub alpn: AlpnPolicy,
    /// Of HTTPS listeners alone.
    #[serde(default)]
    pub mutual: MutualTls,
}

/// NLB's `AlpnPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlpnPolicy {
    #[default]
    None,
    #[serde(rename = "HTTP1Only")]
    Http1Only,
    #[serde(rename = "HTTP2Only")]
    Http2Only,
    #[serde(rename = "HTTP2Optional")]
    Http2Optional,
    #[serde(rename = "HTTP2Preferred")]
    Http2Preferred,
}

impl AlpnPolicy {
    const ALL: [Self; 5] =
        [Self::None, Self::Http1Only, Self::Http2Only, Self::Http2Optional, Self::Http2Preferred];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Http1Only => "HTTP1Only",
            Self::Http2Only => "HTTP2Only",
            Self::Http2Optional => "HTTP2Optional",
            Self::Http2Preferred => "HTTP2Preferred",
        }
    }

    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_kept_but_never_shown() {
        let key = PrivateKey::new("-----BEGIN PRIVATE KEY-----".to_owned());
        assert!(!format!("{key:?}").contains("BEGIN"));
        let kept: PrivateKey = serde_json::from_str(&serde_json::to_string(&key).unwrap()).unwrap();
        assert_eq!(kept.expose(), key.expose());
    }

    #[test]
    fn alpn_policies_read_what_they_print() {
        for policy in AlpnPolicy::ALL {
            assert_eq!(AlpnPolicy::find(policy.as_str()), Some(policy));
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
    }
}
