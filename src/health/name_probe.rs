//! One probe of a name's health check: what Route 53's checkers ask, and what came of it.
//!
//! Not here: when to probe, what a result means. Source: Route 53 developer guide, "How Route 53
//! determines the status of health checks that monitor an endpoint". **Invariant:** a probe ends
//! within the sum of its limits, and holds at most [`SEARCHED`] bytes of a body.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::probe::{Answer, Get, get, is_ours};
use crate::model::{NameCheckId, NameEndpoint, NameProtocol};
use crate::tls::{self, Stream};

/// Route 53's limit for the connection of an HTTP check …
const CONNECT: Duration = Duration::from_secs(4);
/// … for its answer from then on …
const ANSWER: Duration = Duration::from_secs(2);
/// … for the body that is searched from then on …
const BODY: Duration = Duration::from_secs(2);
/// … and for the connection of a TCP check.
const TCP: Duration = Duration::from_secs(10);
/// Of an answer's body, in bytes.
const SEARCHED: usize = 5120;

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Passed(String),
    Failed(String),
    /// This machine could not send it: says nothing of the endpoint.
    NotSent,
}

impl Result {
    fn of(error: &io::Error) -> Self {
        if is_ours(error) { Self::NotSent } else { Self::Failed(format!("Failure: {error}")) }
    }
}

pub(super) async fn probe(id: &NameCheckId, endpoint: &NameEndpoint) -> Result {
    let (connect, timed_out) = match endpoint.protocol {
        NameProtocol::Tcp => (TCP, "The health checker could not establish a connection in time"),
        _ => (CONNECT, "Connection timed out. The endpoint is down, or requests are blocked"),
    };
    let connected = tokio::time::timeout(connect, async {
        let address = address(endpoint).await?;
        let stream = TcpStream::connect(address).await?;
        Ok::<_, io::Error>((stream, address.ip()))
    });
    let (stream, address) = match connected.await {
        Err(_) => return Result::Failed(format!("Failure: {timed_out}.")),
        Ok(Err(error)) => return Result::of(&error),
        Ok(Ok(connected)) => connected,
    };
    if endpoint.protocol == NameProtocol::Tcp {
        return Result::Passed("Success: TCP connection established".to_owned());
    }
    let asked = tokio::time::timeout(ANSWER, ask(id, endpoint, stream, address));
    let answer = match asked.await {
        Err(_) => return Result::Failed("Failure: No response in time.".to_owned()),
        Ok(Err(error)) => return Result::of(&error),
        Ok(Ok(answer)) => answer,
    };
    let status = http::StatusCode::from_u16(answer.code).ok();
    let words = status.and_then(|status| status.canonical_reason()).unwrap_or("unknown");
    let words = format!("HTTP Status Code {}, {words}", answer.code);
    if !(200..400).contains(&answer.code) {
        return Result::Failed(format!("Failure: {words}"));
    }
    let Some(search) = &endpoint.search else {
        return Result::Passed(format!("Success: {words}"));
    };
    match tokio::time::timeout(BODY, holds(answer, search.as_bytes())).await {
        Ok(true) => Result::Passed(format!("Success: {words}, and the search string was found")),
        Ok(false) | Err(_) => Result::Failed(format!(
            "Failure: The first {SEARCHED} bytes of the body do not hold the search string"
        )),
    }
}

/// The endpoint's own, or what the system's resolver says of its domain name, IPv4 first as Route
/// 53 does.
async fn address(endpoint: &NameEndpoint) -> io::Result<SocketAddr> {
    if let Some(address) = endpoint.address {
        return Ok(SocketAddr::new(address, endpoint.port));
    }
    let domain = endpoint.domain.as_deref().unwrap_or_default();
    let found: Vec<_> = tokio::net::lookup_host((domain, endpoint.port)).await?.collect();
    let v4 = found.iter().find(|address| address.is_ipv4());
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("{domain} has no address"));
    v4.or_else(|| found.first()).copied().ok_or_else(unknown)
}

async fn ask(
    id: &NameCheckId,
    endpoint: &NameEndpoint,
    stream: TcpStream,
    address: IpAddr,
) -> io::Result<Answer> {
    let stream = match endpoint.protocol {
        NameProtocol::Https => {
            let name = endpoint.domain.as_deref().filter(|_| endpoint.server_name);
            tls::connect_named(stream, address, name).await?
        }
        _ => Stream::Plain(stream),
    };
    let host = host(endpoint, address);
    let agent = format!("Amazon-Route53-Health-Check-Service (ref {id})");
    get(stream, &Get { host: &host, path: &endpoint.path, agent: &agent, more: "" }).await
}

/// The `Host` header: the port stands there unless it is the protocol's own.
fn host(endpoint: &NameEndpoint, address: IpAddr) -> String {
    let usual = match endpoint.protocol {
        NameProtocol::Https => 443,
        NameProtocol::Http | NameProtocol::Tcp => 80,
    };
    let name = match (&endpoint.domain, address) {
        (Some(domain), _) => domain.clone(),
        (None, IpAddr::V4(address)) => address.to_string(),
        (None, IpAddr::V6(address)) => format!("[{address}]"),
    };
    if endpoint.port == usual { name } else { format!("{name}:{}", endpoint.port) }
}

/// Whether the beginning of the body holds what is searched for.
async fn holds(Answer { mut stream, mut rest, .. }: Answer, search: &[u8]) -> bool {
    let found = |body: &[u8]| memchr::memmem::find(body, search).is_some();
    loop {
        rest.truncate(SEARCHED);
        if found(&rest) {
            return true;
        }
        if rest.len() == SEARCHED || !matches!(stream.read_buf(&mut rest).await, Ok(1..)) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn endpoint(port: u16) -> NameEndpoint {
        NameEndpoint {
            protocol: NameProtocol::Http,
            address: Some(IpAddr::from([127, 0, 0, 1])),
            port,
            domain: Some("web.test".to_owned()),
            path: "/ready?x=1".to_owned(),
            search: None,
            interval: Duration::from_secs(30),
            threshold: 3,
            server_name: false,
        }
    }

    /// What comes of an endpoint that answers with `answer`, and what it was asked.
    async fn check(answer: &str, search: Option<&str>, expected: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_owned();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let endpoint = NameEndpoint { search: search.map(str::to_owned), ..endpoint(port) };
        let found = match probe(&"id-1".into(), &endpoint).await {
            Result::Passed(text) | Result::Failed(text) => text,
            Result::NotSent => "not sent".to_owned(),
        };
        assert_eq!(found, expected);
        server.await.unwrap().replace(&port.to_string(), "PORT")
    }

    #[tokio::test]
    async fn answers_are_judged_as_route_53_does() {
        let asked = check("HTTP/1.1 200 OK\r\n\r\n", None, "Success: HTTP Status Code 200, OK");
        let asked = asked.await;
        assert!(asked.starts_with("GET /ready?x=1 HTTP/1.1\r\nHost: web.test:PORT\r\n"), "{asked}");
        assert!(asked.contains("User-Agent: Amazon-Route53-Health-Check-Service (ref id-1)"));
        check("HTTP/1.1 302 Found\r\n\r\n", None, "Success: HTTP Status Code 302, Found").await;
        let failed = "Failure: HTTP Status Code 503, Service Unavailable";
        check("HTTP/1.1 503 x\r\n\r\n", None, failed).await;
        check("HTTP/1.1 503 x\r\n\r\nok", Some("ok"), failed).await;
        let found = "Success: HTTP Status Code 200, OK, and the search string was found";
        check("HTTP/1.1 200 OK\r\n\r\nall is ok here", Some("is ok"), found).await;
        let missing = "Failure: The first 5120 bytes of the body do not hold the search string";
        check("HTTP/1.1 200 OK\r\n\r\nall is well", Some("is ok"), missing).await;
        let late = format!("HTTP/1.1 200 OK\r\n\r\n{}is ok", "x".repeat(5118));
        check(&late, Some("is ok"), missing).await;
        check("SSH-2.0\r\n\r\n", None, "Failure: the answer is no HTTP/1.x").await;
    }

    #[tokio::test]
    async fn a_connection_is_enough_for_tcp() {
        // Bound, and not listening yet: nobody else gets the port.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let tcp = NameEndpoint { protocol: NameProtocol::Tcp, ..endpoint(port) };
        assert!(matches!(probe(&"a".into(), &tcp).await, Result::Failed(_)));
        let _listener = socket.listen(16).unwrap();
        let passed = Result::Passed("Success: TCP connection established".to_owned());
        assert_eq!(probe(&"a".into(), &tcp).await, passed);
    }

    #[test]
    fn hosts_have_ports_that_are_not_the_protocols_own() {
        let check = |port: u16, protocol: NameProtocol, domain: Option<&str>, expected: &str| {
            let domain = domain.map(str::to_owned);
            let endpoint = NameEndpoint { protocol, domain, ..endpoint(port) };
            assert_eq!(host(&endpoint, IpAddr::from([10, 0, 0, 1])), expected);
        };
        check(80, NameProtocol::Http, Some("a.test"), "a.test");
        check(8080, NameProtocol::Http, Some("a.test"), "a.test:8080");
        check(443, NameProtocol::Https, None, "10.0.0.1");
        check(80, NameProtocol::Https, None, "10.0.0.1:80");
    }
}
