//! A certificate with its chain and private key: read, checked against each other, and what it
//! says of itself.
//!
//! Formats: RFC 7468 (PEM), RFC 5280. Kinds and sizes of keys are ALB's, less what aws-lc-rs does
//! not sign with (RSA below 2048 bits). Not here: whether anybody trusts it. **Invariant:** an
//! [`Identity`] can sign: its key is its leaf's.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use crate::clock::Timestamp;

/// Certificates of a chain (ours; ACM takes 2 MiB of them).
const LONGEST_CHAIN: usize = 10;
/// ALB: RSA keys have at most this many bits.
const LARGEST_RSA: usize = 16_384;

/// Why text is no certificate that can be presented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    #[error("the certificate is not a PEM-encoded X.509 certificate")]
    Body,
    #[error("the certificate body holds more than one certificate")]
    Bodies,
    #[error("the certificate chain is not a list of PEM-encoded X.509 certificates")]
    Chain,
    #[error("the private key is not an unencrypted PEM-encoded private key")]
    Key,
    #[error("the private key does not match the certificate")]
    Mismatch,
    #[error("keys of this kind are not supported: {0}")]
    Unsupported(String),
}

/// A certificate that can be presented.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    pub facts: Facts,
}

/// What a leaf says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of `subjectAltName`, else the common name; lower case, each once.
    pub names: Vec<String>,
    /// The common name, where it has one.
    pub common_name: Option<String>,
    pub subject: String,
    pub issuer: String,
    /// The issuer's organization, else its common name.
    pub issued_by: String,
    /// Hexadecimal digits in pairs with colons between them.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key: Key,
    /// `SHA256WITHRSA` and the like; a dotted OID where it is another.
    pub signature: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// By the bits of its field: 256, 384 or 521.
    Ecdsa(usize),
    Rsa(usize),
}

impl Identity {
    /// Reads PEM: the leaf, whoever signed it (may be empty), and the leaf's private key.
    ///
    /// # Errors
    /// One of them is not what it should be, or the key is another's.
    pub fn read(body: &str, chain: &str, private_key: &str) -> Result<Self, BadCertificate> {
        let mut certificates = certificates(body).ok_or(BadCertificate::Body)?;
        match certificates.len() {
            0 => return Err(BadCertificate::Body),
            1 => {}
            _ => return Err(BadCertificate::Bodies),
        }
        let facts = Facts::of(&certificates[0])?;
        let rest = self::certificates(chain).ok_or(BadCertificate::Chain)?;
        if (rest.is_empty() && !chain.trim().is_empty()) || rest.len() > LONGEST_CHAIN {
            return Err(BadCertificate::Chain);
        }
        certificates.extend(rest);
        let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|_| BadCertificate::Key)?;
        let certified = CertifiedKey::from_der(certificates, key, super::provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(_) => BadCertificate::Mismatch,
            // What the provider cannot read: another curve, too short, or no key at all.
            _ => BadCertificate::Unsupported(format!("{:?}", facts.key)),
        })?;
        let signs = match facts.key {
            Key::Ecdsa(_) => SignatureAlgorithm::ECDSA,
            Key::Rsa(_) => SignatureAlgorithm::RSA,
        };
        if certified.key.algorithm() != signs {
            return Err(BadCertificate::Mismatch);
        }
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// Splits what a file holds into the leaf and the rest, PEM both.
    #[must_use]
    pub fn split(text: &str) -> (String, String) {
        const END: &str = "-----END CERTIFICATE-----";
        match text.split_once(END) {
            Some((leaf, rest)) => (format!("{leaf}{END}\n"), rest.trim_start().to_owned()),
            None => (text.to_owned(), String::new()),
        }
    }
}

/// None: it holds something that is no certificate.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let read = read.ok()?;
    let is_one = |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).is_ok();
    read.iter().all(is_one).then_some(read)
}

impl Facts {
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, BadCertificate> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(der).map_err(|_| BadCertificate::Body)?;
        let common_name = parsed.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(str::to_owned);
        let issuer = parsed.issuer();
        let mut issued_by = issuer.iter_organization().chain(issuer.iter_common_name());
        let issued_by = issued_by.next().and_then(|name| name.as_str().ok());
        let validity = parsed.validity();
        let time = |seconds: i64| {
            Timestamp(u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000_000))
        };
        Ok(Self {
            names: names(&parsed, common_name.as_deref()),
            subject: parsed.subject().to_string(),
            issuer: issuer.to_string(),
            issued_by: issued_by.unwrap_or_default().to_owned(),
            serial: parsed.raw_serial_as_string(),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            key: key(&parsed)?,
            signature: signature(&parsed.signature_algorithm.algorithm.to_id_string()),
            common_name,
        })
    }
}

fn names(parsed: &X509Certificate<'_>, common_name: Option<&str>) -> Vec<String> {
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let alternative = alternative.map_or(&[][..], |extension| &extension.value.general_names);
    let mut names: Vec<String> = Vec::new();
    for name in alternative {
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        }
    }
    if names.is_empty() {
        names.extend(common_name.map(str::to_ascii_lowercase));
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn key(parsed: &X509Certificate<'_>) -> Result<Key, BadCertificate> {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if (2048..=LARGEST_RSA).contains(&bits(key.key_size())) => {
            Ok(Key::Rsa(bits(key.key_size())))
        }
        Ok(PublicKey::RSA(key)) => {
            Err(BadCertificate::Unsupported(format!("RSA of {} bits", key.key_size())))
        }
        // The uncompressed point of P-521 has 66 bytes per coordinate.
        Ok(PublicKey::EC(point)) if point.key_size() > 521 => Ok(Key::Ecdsa(521)),
        Ok(PublicKey::EC(point)) => Ok(Key::Ecdsa(point.key_size())),
        _ => {
            let algorithm = parsed.public_key().algorithm.algorithm.to_id_string();
            Err(BadCertificate::Unsupported(algorithm))
        }
    }
}

/// A modulus may lack its leading bits.
const fn bits(size: usize) -> usize {
    size.next_multiple_of(8)
}

/// As ACM shows it.
fn signature(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.5" => "SHA1WITHRSA",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "SHA256WITHRSA",
        "1.2.840.113549.1.1.12" => "SHA384WITHRSA",
        "1.2.840.113549.1.1.13" => "SHA512WITHRSA",
        "1.2.840.10045.4.3.2" => "SHA256WITHECDSA",
        "1.2.840.10045.4.3.3" => "SHA384WITHECDSA",
        "1.2.840.10045.4.3.4" => "SHA512WITHECDSA",
        _ => oid,
    };
    name.to_owned()
}
