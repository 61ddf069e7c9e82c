//! Handshakes with targets, whose certificates nobody verifies, and with others, who have to show
//! good ones.
//!
//! AWS, "Target groups for your Application Load Balancers": a load balancer does not validate
//! certificates of targets; self-signed and expired ones will do. **Invariant:** a signature is
//! still checked, so that whoever answers has the key of what it shows.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{Error, RootCertStore};
use tokio::net::TcpStream;

use super::accept::agreed;
use super::server::Alpn;
use super::signatures::checked_signatures;
use super::stream::{Stream, TlsStream};

/// What every target gets that is to speak HTTP/1.1.
static HTTP_1: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| config(Alpn::Http1));
/// The same for HTTP/2.
static HTTP_2: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| config(Alpn::H2));

fn config(alpn: Alpn) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(super::provider()))
        .with_safe_default_protocol_versions()?;
    let verifier = Unverified(super::provider().signature_verification_algorithms);
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![alpn.id().to_vec()];
    // A shared one would be a lock between data threads.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Shakes hands with the target at the other end of `tcp`, to speak `alpn` with it. The caller
/// limits the time.
///
/// # Errors
/// The target speaks no TLS that we do, or went away. HTTP/2 has to be agreed on (RFC 9113, section
/// 3.2): who has no word for HTTP/1.1 may well speak it.
pub async fn connect(tcp: TcpStream, address: IpAddr, alpn: Alpn) -> io::Result<Stream> {
    shake(tcp, ServerName::IpAddress(address.into()), alpn).await
}

/// As [`connect`] for HTTP/1.1, telling the other end which name is meant.
///
/// # Errors
/// As [`connect`]; `name` is no DNS name.
pub async fn connect_named(
    tcp: TcpStream,
    address: IpAddr,
    name: Option<&str>,
) -> io::Result<Stream> {
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        None => ServerName::IpAddress(address.into()),
    };
    shake(tcp, name, Alpn::Http1).await
}

/// What whoever reads the log can do about it.
const NOBODY: &str = "no authority is trusted: elb.identity_ca_file names none, and the system has \
                      none where it is looked for";

/// Who may vouch for servers that are no targets. None: nobody, no such server is believed.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Option<Arc<ClientConfig>>);

/// A text with no certificate of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has no certificate of an authority")]
pub struct NoAuthority;

impl Authorities {
    /// Reads certificates, PEM; those that are none of an authority are passed over.
    ///
    /// # Errors
    /// There is none.
    pub fn read(pem: &[u8]) -> Result<Self, NoAuthority> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
        if roots.is_empty() {
            return Err(NoAuthority);
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(super::provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|_| NoAuthority)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![Alpn::Http1.id().to_vec()];
        Ok(Self(Some(Arc::new(config))))
    }
}

/// Shakes hands with `host`, a name or an address, to speak HTTP/1.1 with it. The caller limits the
/// time.
///
/// # Errors
/// As [`connect`]; or it shows no certificate for `host` that one of `trusted` vouches for.
pub async fn connect_verified(
    tcp: TcpStream,
    host: &str,
    trusted: &Authorities,
) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = trusted.0.as_ref().ok_or_else(|| io::Error::other(NOBODY))?;
    begin(tcp, name, config, Alpn::Http1).await
}

async fn shake(tcp: TcpStream, name: ServerName<'static>, alpn: Alpn) -> io::Result<Stream> {
    let config = match alpn {
        Alpn::Http1 => &*HTTP_1,
        Alpn::H2 => &*HTTP_2,
    };
    let config = config.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    begin(tcp, name, config, alpn).await
}

async fn begin(
    tcp: TcpStream,
    name: ServerName<'static>,
    config: &Arc<ClientConfig>,
    alpn: Alpn,
) -> io::Result<Stream> {
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = TlsStream::new(tcp, rustls::Connection::Client(connection));
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    let session = agreed(&stream.connection);
    if alpn == Alpn::H2 && session.alpn != Some(Alpn::H2) {
        return Err(io::Error::other("the target does not agree on HTTP/2"));
    }
    stream.session = Some(Arc::new(session));
    Ok(stream.into())
}

/// Takes any certificate; checks signatures by these algorithms.
#[derive(Debug)]
pub struct Unverified(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    checked_signatures!();
}
