//! Certificates of the moment and clients that ask for what a test wants.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::client::{ClientConfig, ClientConnection, ClientSessionMemoryCache, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::accept::agreed;
use super::client::Unverified;
use super::{Identity, Stream};
use crate::tls::stream::TlsStream;

/// A certificate and its key, PEM both.
#[derive(Clone, Debug)]
pub(crate) struct Pem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A self-signed certificate for `names`; of an RSA key where `rsa`.
pub(crate) fn certificate(names: &[&str], rsa: bool) -> Pem {
    let algorithm = if rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, names.first().cloned().unwrap());
    let certificate = params.self_signed(&key).unwrap().pem();
    Pem { certificate, key: key.serialize_pem() }
}

impl Pem {
    pub(crate) fn identity(&self) -> Identity {
        Identity::read(&self.certificate, "", &self.key).unwrap()
    }
}

/// What a client asks for; sessions are taken up again by whoever clones it.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// `versions` and `ciphers`: words, empty: all. `ciphers` may be `RSA` or `ECDSA`: what
    /// signatures are understood.
    pub(crate) fn new(alpn: &[&str], versions: &str, signatures: &str) -> Self {
        let versions = match versions {
            "1.2" => vec![&TLS12],
            "1.3" => vec![&TLS13],
            _ => vec![&TLS12, &TLS13],
        };
        let mut provider = CryptoProvider::clone(super::provider());
        let whole = provider.signature_verification_algorithms;
        let mapping = whole.mapping.iter().copied();
        let kept = mapping.filter(|(scheme, _)| format!("{scheme:?}").contains(signatures));
        provider.signature_verification_algorithms.mapping =
            Box::leak(kept.collect::<Vec<_>>().into_boxed_slice());
        let provider = Arc::new(provider);
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(
            provider.signature_verification_algorithms,
        )));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(4)));
        Self(Arc::new(config))
    }

    /// Connects; asks for `name`, or for no name at all when it is an address.
    pub(crate) async fn dial(&self, address: SocketAddr, name: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let mut stream = TlsStream::new(tcp, rustls::Connection::Client(connection));
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        stream.session = Some(Arc::new(agreed(&stream.connection)));
        let mut stream = Stream::from(stream);
        // A client's last word goes with its first request otherwise.
        stream.flush().await?;
        Ok(stream)
    }
}

/// The leaf that the other side has shown, in the words of its names.
pub(crate) fn shown(stream: &Stream) -> String {
    let Stream::Tls(stream) = stream else { return String::new() };
    let leaf = stream.connection.peer_certificates().and_then(|chain| chain.first());
    leaf.map(|leaf| super::identity::Facts::of(leaf).unwrap().names.join(" ")).unwrap_or_default()
}
