//! Calls of identity providers: HTTPS alone, their certificates verified.
//!
//! **Invariant:** a call has one deadline for all of it, reads at most what it is given room for,
//! and there are never more than [`MOST_CALLS`] under way in this process.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::config::Place;
use crate::tls::{self, Authorities};

/// ALB: an identity provider has five seconds to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Calls under way at once (ours); one more fails at once.
const MOST_CALLS: usize = 256;
/// Where systems keep whom they trust: Debian, Fedora, Alpine.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const AGENT: &str = concat!("roadstead/", env!("CARGO_PKG_VERSION"));

/// A URL of HTTPS, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureUrl(Place);

/// A text that is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as https://identity.example.com/keys")]
pub struct BadUrl;

impl FromStr for SecureUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let place = Place::read(text, "https", 443).filter(|_| !text.contains('#'));
        place.map(Self).ok_or(BadUrl)
    }
}

impl fmt::Display for SecureUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.0.authority, self.0.path)
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("no answer within 5 s")]
    Timeout,
    #[error("too many calls are under way")]
    Busy,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Broken(String),
}

impl Failed {
    fn broken(error: impl fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Nobody is believed.
impl Default for Fetcher {
    fn default() -> Self {
        Self::new(Authorities::default())
    }
}

/// Makes calls. Clones share their limits.
#[derive(Clone, Debug)]
pub struct Fetcher {
    authorities: Authorities,
    calls: Arc<Semaphore>,
}

impl Fetcher {
    /// Believes the servers that one of `authorities` vouches for.
    #[must_use]
    pub fn new(authorities: Authorities) -> Self {
        Self { authorities, calls: Arc::new(Semaphore::new(MOST_CALLS)) }
    }

    /// Trusts the authorities of `file`, PEM; none: those of the system, if any.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub fn trusting(file: Option<&Path>) -> Result<Self, String> {
        let read = |path: &Path| {
            let text = std::fs::read(path);
            text.map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let authorities = match file {
            Some(path) => {
                let known = Authorities::read(&read(path)?);
                known.map_err(|error| format!("{} {error}", path.display()))?
            }
            None => {
                let found = SYSTEM.iter().find_map(|path| read(Path::new(path)).ok());
                let known = found.and_then(|text| Authorities::read(&text).ok());
                known.unwrap_or_default()
            }
        };
        Ok(Self::new(authorities))
    }

    /// What is read at `url`, at most `most` bytes.
    ///
    /// # Errors
    /// Nobody answered in time or in a way that is understood.
    pub async fn get(&self, url: &SecureUrl, most: usize) -> Result<(StatusCode, Bytes), Failed> {
        self.call(url, Request::builder().method(Method::GET), Bytes::new(), most).await
    }

    /// Sends `body` to `url`; `request` has the method and headers of its own.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn call(
        &self,
        SecureUrl(url): &SecureUrl,
        request: http::request::Builder,
        body: Bytes,
        most: usize,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let _call = self.calls.try_acquire().map_err(|_| Failed::Busy)?;
        let request = request
            .uri(url.path.as_str())
            .header(HOST, url.authority.as_str())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .map_err(Failed::broken)?;
        let exchange = self.exchange(url, request, most);
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| Failed::Timeout)?
    }

    async fn exchange(
        &self,
        url: &Place,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let tcp = TcpStream::connect((url.host.as_str(), url.port)).await;
        let tcp = tcp.map_err(Failed::broken)?;
        // Only latency is lost when it cannot be set.
        let _ = tcp.set_nodelay(true);
        let shaken = tls::connect_verified(tcp, &url.host, &self.authorities).await;
        let stream = TokioIo::new(shaken.map_err(Failed::broken)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(Failed::broken)?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, most).collect().await;
            Ok::<_, hyper::Error>((head.status, body))
        };
        tokio::pin!(connection, answer);
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            // It read and wrote for the exchange, which may have all that it needs.
            _ = &mut connection => answer.await,
        };
        let (status, body) = answered.map_err(Failed::broken)?;
        let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => Failed::broken(error),
            None => Failed::TooLarge(most),
        })?;
        Ok((status, body.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, u16, &str)>) {
        let read = text.parse::<SecureUrl>().ok();
        let read = read.as_ref();
        let read = read.map(|url| (url.0.host.as_str(), url.0.port, url.0.path.as_str()));
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn urls_are_https() {
        check("https://a.test/b?c", Some(("a.test", 443, "/b?c")));
        check("https://[::1]:8443", Some(("::1", 8443, "/")));
        for bad in ["http://a.test/", "https://", "https://u@a.test/", "a.test", "https://a/#b"] {
            check(bad, None);
        }
    }
}
