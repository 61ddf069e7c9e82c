//! Clients' certificates: what ALB's mutual TLS asks of them, and what targets are told.
//!
//! Source: AWS, "Mutual authentication with TLS in Application Load Balancer". Formats: RFC 5280,
//! RFC 7468 (PEM), RFC 2253 (names). **Invariant:** who verifies lets nobody in without a
//! certificate that leads to the trust store; who passes through checks that the client has the
//! key of what it shows, and nothing else.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp as Time;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

use super::signatures::checked_signatures;

/// ALB: a trust store has so many certificates …
const MOST_CERTIFICATES: usize = 25;
/// … each of at most so many bytes.
const LARGEST_CERTIFICATE: usize = 16 * 1024;

/// Why text is no part of a trust store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrust {
    #[error("the bundle is not a list of PEM-encoded X.509 certificates")]
    Bundle,
    #[error("the bundle has more than 25 certificates, or one of more than 16 KiB")]
    Large,
    #[error("a certificate of the bundle is no certificate authority's")]
    NoAuthority,
    #[error("the content is not one PEM-encoded certificate revocation list")]
    Revocations,
}

/// Certificates that clients' may lead to.
#[derive(Clone, Debug)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// # Errors
    /// It is no PEM, or holds what cannot be trusted.
    pub fn read(pem: &str) -> Result<Self, BadTrust> {
        let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let read = read.ok().filter(|all| !all.is_empty()).ok_or(BadTrust::Bundle)?;
        if read.len() > MOST_CERTIFICATES || read.iter().any(|der| der.len() > LARGEST_CERTIFICATE)
        {
            return Err(BadTrust::Large);
        }
        for der in &read {
            let parsed = x509_parser::parse_x509_certificate(der).map_err(|_| BadTrust::Bundle)?.1;
            if !parsed.is_ca() || RootCertStore::empty().add(der.clone()).is_err() {
                return Err(BadTrust::NoAuthority);
            }
        }
        Ok(Self(read))
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A list of certificates that are no longer good.
#[derive(Clone, Debug)]
pub struct Revocations {
    list: CertificateRevocationListDer<'static>,
    /// Of it.
    pub entries: usize,
}

impl Revocations {
    /// # Errors
    /// It is no PEM of one list.
    pub fn read(pem: &str) -> Result<Self, BadTrust> {
        let mut lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes());
        let (Some(Ok(list)), None) = (lists.next(), lists.next()) else {
            return Err(BadTrust::Revocations);
        };
        let parsed = CertificateRevocationList::from_der(&list);
        let entries = parsed.map(|(_, parsed)| parsed.iter_revoked_certificates().count());
        let entries = entries.map_err(|_| BadTrust::Revocations)?;
        Ok(Self { list, entries })
    }
}

/// What a listener asks of its clients' certificates.
#[derive(Clone, Debug, Default)]
pub enum Mutual {
    /// Nothing.
    #[default]
    Off,
    /// What a client shows is told to targets, which decide.
    Passthrough,
    Verify(Trust),
}

/// What a certificate has to lead to.
#[derive(Clone, Debug)]
pub struct Trust {
    pub bundle: Bundle,
    pub revocations: Vec<Revocations>,
    /// Certificates that are expired will do.
    pub ignore_expiry: bool,
    /// Clients are told the names of the bundle's certificates.
    pub advertise: bool,
}

impl Mutual {
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// None: no certificate is asked for.
    pub(super) fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
        let provider = super::provider();
        let algorithms = provider.signature_verification_algorithms;
        let trust = match self {
            Self::Off => return Ok(None),
            Self::Passthrough => return Ok(Some(Arc::new(Any(algorithms)))),
            Self::Verify(trust) => trust,
        };
        let mut roots = RootCertStore::empty();
        for der in &trust.bundle.0 {
            roots.add(der.clone())?;
        }
        let lists = trust.revocations.iter().map(|revocations| revocations.list.clone());
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .with_crls(lists)
                .allow_unknown_revocation_status();
        if !trust.advertise {
            builder = builder.clear_root_hint_subjects();
        }
        let verifier = builder.build().map_err(|error| Error::General(error.to_string()))?;
        if trust.ignore_expiry {
            return Ok(Some(Arc::new(Ageless(algorithms, verifier))));
        }
        Ok(Some(verifier))
    }

    /// Header lines that tell a target about its client; empty: the client showed nothing.
    pub(super) fn lines(&self, shown: &[CertificateDer<'_>]) -> String {
        match (self, shown) {
            (Self::Off, _) | (_, []) => String::new(),
            (Self::Passthrough, chain) => {
                let pem: String = chain.iter().map(|der| encoded(der)).collect();
                format!("{CLIENT}: {}\r\n", escaped(&pem))
            }
            (Self::Verify(_), [leaf, ..]) => told(leaf).unwrap_or_default(),
        }
    }
}

/// What every such header begins with.
const CLIENT: &str = "X-Amzn-Mtls-Clientcert";

/// What is told of a certificate that was verified.
fn told(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let time = |seconds: i64| Time::from_second(seconds).map(|time| time.to_string()).ok();
    let serial: String = parsed.raw_serial().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    });
    let validity = parsed.validity();
    let values = [
        ("-Serial-Number", serial),
        ("-Issuer", name(parsed.issuer())),
        ("-Subject", name(parsed.subject())),
        (
            "-Validity",
            format!(
                "NotBefore={};NotAfter={}",
                time(validity.not_before.timestamp())?,
                time(validity.not_after.timestamp())?
            ),
        ),
        ("-Leaf", escaped(&encoded(leaf))),
    ];
    let line = |(end, value): (&str, String)| format!("{CLIENT}{end}: {value}\r\n");
    Some(values.map(line).concat())
}

/// RFC 2253: the most specific part first; what is not ASCII or would end a header is escaped byte
/// by byte.
fn name(name: &X509Name<'_>) -> String {
    let part = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        let oid = attribute.attr_type();
        let known = match oid.to_id_string().as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.9" => "STREET",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "0.9.2342.19200300.100.1.1" => "UID",
            "0.9.2342.19200300.100.1.25" => "DC",
            other => return format!("{other}={}", value(attribute.as_str().unwrap_or_default())),
        };
        format!("{known}={}", value(attribute.as_str().unwrap_or_default()))
    };
    let parts = name.iter().map(|set| set.iter().map(part).collect::<Vec<_>>().join("+"));
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let at_end = byte == b' ' && (at == 0 || at == last);
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            _ if at_end => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

/// PEM (RFC 7468).
fn encoded(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = behind;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Percent-encoded but for letters, digits and what ALB calls safe: `+`, `=`, `/`, and RFC 3986's
/// unreserved signs.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"+=/-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Takes any certificate, or none; checks signatures by these algorithms.
#[derive(Debug)]
struct Any(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Any {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    checked_signatures!();
}

/// As the verifier in it, at a moment at which nothing that was shown is expired.
#[derive(Debug)]
struct Ageless(WebPkiSupportedAlgorithms, Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Ageless {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.1.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.1.verify_client_cert(leaf, others, now);
        let expired = CertificateError::Expired;
        match verified {
            Err(Error::InvalidCertificate(error))
                if error == expired || matches!(error, CertificateError::ExpiredContext { .. }) =>
            {
                let ends = std::iter::once(leaf).chain(others).filter_map(end);
                let then = ends.min().unwrap_or_else(|| now.as_secs());
                let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(then));
                self.1.verify_client_cert(leaf, others, then)
            }
            verified => verified,
        }
    }

    checked_signatures!();
}

/// The last second in which a certificate is good.
fn end(der: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::certificate;

    #[test]
    fn names_and_texts_are_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(value(text), expected, "{text}");
        check("Trust, Inc.", "Trust\\, Inc.");
        check(" a b ", "\\ a b\\ ");
        check("#1", "\\#1");
        check("a#1", "a#1");
        check("a\r\nX: y", "a\\0D\\0AX: y");
        check("ü", "\\C3\\BC");
        check("", "");
        assert_eq!(escaped("-+=/ a\n%"), "-+=/%20a%0A%25");
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let leaf = certificate(&["a.test"], false);
        let check = |text: &str, expected: BadTrust| {
            assert_eq!(Bundle::read(text).unwrap_err(), expected);
        };
        check("", BadTrust::Bundle);
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", BadTrust::Bundle);
        check(&leaf.key, BadTrust::Bundle);
        check(&leaf.certificate, BadTrust::NoAuthority);
        check(&leaf.certificate.repeat(26), BadTrust::Large);
        for text in ["", leaf.certificate.as_str()] {
            assert_eq!(Revocations::read(text).unwrap_err(), BadTrust::Revocations);
        }
    }

    #[test]
    fn a_certificate_is_told_as_it_was_shown() {
        let leaf = certificate(&["a.test"], false);
        let read = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
        let plain = |text: &str| text.replace("\r\n", "\n");
        assert_eq!(encoded(&read), plain(&leaf.certificate));
        assert_eq!(Mutual::Off.lines(std::slice::from_ref(&read)), "");
        assert_eq!(Mutual::Passthrough.lines(&[]), "");
        let lines = Mutual::Passthrough.lines(&[read.clone(), read]);
        assert_eq!(lines.matches("-----BEGIN%20CERTIFICATE-----%0A").count(), 2, "{lines}");
        assert_eq!(lines.lines().count(), 1);
    }
}
