//! Handshakes with clients: bounded in time, in number, and told apart when they fail.
//!
//! **Invariant:** a handshake ends by [`HANDSHAKE`], whatever the client does, and no more than
//! [`MOST`] are under way on one data thread.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use rustls::{Error, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::policy::cipher;
use super::server::{Alpn, Presented};
use super::stream::{Session, Stream, TlsStream};
use super::{Mutual, Server};

/// A client's handshake may take this long (ours: what ALB gives a target's).
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way on one data thread (ours: at 1 ms of computing each, what a second of it
/// can finish; a client that comes on top is turned away at once).
const MOST: usize = 1024;
/// A client's hello and what it sends along (ours: rustls takes messages of 64 KiB).
const LARGEST_HELLO: usize = 64 * 1024;

/// Why there was no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// [`MOST`] were under way.
    Busy,
    Timeout,
    /// The client went away.
    Closed,
    /// No version, cipher or key exchange that both have.
    Incompatible,
    /// The client told us that it does not want to: our certificate, mostly.
    Alert,
    /// What came is no TLS.
    Malformed,
    /// The client's certificate: none, or one that leads to no trust.
    Certificate,
    Other,
}

impl Failure {
    /// In the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::Busy,
        Self::Timeout,
        Self::Closed,
        Self::Incompatible,
        Self::Alert,
        Self::Malformed,
        Self::Certificate,
        Self::Other,
    ];

    /// As metrics call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Certificate => "certificate",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::told(error),
            None => Self::Closed,
        }
    }

    const fn told(error: &Error) -> Self {
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::AlertReceived(_) => Self::Alert,
            Error::NoCertificatesPresented
            | Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_) => Self::Certificate,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::Malformed,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The handshakes under way on one data thread.
#[derive(Debug, Default)]
pub struct Handshakes(AtomicUsize);

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    /// Shakes hands with a client.
    ///
    /// # Errors
    /// Why not; the client has been told where TLS has words for it.
    pub async fn accept(&self, tcp: TcpStream, server: &Server) -> Result<Stream, Failure> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::Busy);
        }
        let _place = Place(&self.0);
        // Boxed: it is large, and soon over.
        let shaking = Box::pin(shake(tcp, server));
        tokio::time::timeout(HANDSHAKE, shaking).await.unwrap_or(Err(Failure::Timeout))
    }
}

#[cfg(test)]
impl Handshakes {
    pub(super) fn under_way(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

async fn shake(mut tcp: TcpStream, server: &Server) -> Result<Stream, Failure> {
    let (accepted, raw) = hello(&mut tcp).await?;
    let presented = server.choose(&accepted.client_hello());
    let connection = match accepted.into_connection(Arc::clone(&presented.config)) {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            let mut bytes = Vec::new();
            // A vector takes all that is written to it.
            let _ = alert.write_all(&mut bytes);
            say(&mut tcp, &bytes).await;
            return Err(Failure::told(&error));
        }
    };
    let mut stream = TlsStream::new(tcp, rustls::Connection::Server(connection));
    stream.raw = raw;
    let shaken = poll_fn(|cx| stream.poll_handshake(cx)).await;
    if let Err(error) = shaken {
        // The alert was sent; closing at once could take it back.
        let _ = stream.tcp.shutdown().await;
        return Err(Failure::of(&error));
    }
    stream.session = Some(Arc::new(session(&stream, presented, &server.mutual)));
    Ok(stream.into())
}

async fn say(tcp: &mut TcpStream, bytes: &[u8]) {
    if let Err(error) = tcp.write_all(bytes).await {
        tracing::debug!(%error, "an alert was not sent");
    }
    let _ = tcp.shutdown().await;
}

/// The client's hello, and what came behind it.
async fn hello(tcp: &mut TcpStream) -> Result<(Accepted, Vec<u8>), Failure> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    let mut taken = 0;
    loop {
        while taken < bytes.len() {
            let mut rest = &bytes[taken..];
            taken += acceptor.read_tls(&mut rest).map_err(|_| Failure::Malformed)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok((accepted, bytes.split_off(taken))),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut told = Vec::new();
                    let _ = alert.write_all(&mut told);
                    say(tcp, &told).await;
                    return Err(Failure::told(&error));
                }
            }
        }
        if bytes.len() >= LARGEST_HELLO {
            return Err(Failure::Malformed);
        }
        match tcp.read_buf(&mut bytes).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Failure::Closed),
        }
    }
}

fn session(stream: &TlsStream, presented: &Presented, mutual: &Mutual) -> Session {
    let connection = &stream.connection;
    let server_name = match connection {
        rustls::Connection::Server(server) => server.server_name().map(str::to_ascii_lowercase),
        rustls::Connection::Client(_) => None,
    };
    let shown = connection.peer_certificates().unwrap_or_default();
    let mutual = mutual.is_on().then(|| mutual.lines(shown));
    let certificate = Arc::clone(&presented.arn);
    Session { server_name, certificate, mutual, ..agreed(connection) }
}

/// What both sides agreed on.
pub(super) fn agreed(connection: &rustls::Connection) -> Session {
    let suite = connection.negotiated_cipher_suite();
    Session {
        protocol: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: suite.map_or("-", |suite| cipher(suite.suite())),
        server_name: None,
        certificate: Arc::from(""),
        mutual: None,
        alpn: connection.alpn_protocol().and_then(Alpn::of),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}
