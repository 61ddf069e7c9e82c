//! The PROXY protocol in front of HTTP and HTTPS listeners of both carriers and of a TCP listener.

use std::net::SocketAddr;

use roadstead::tls::{self, Alpn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::world::{Service, World};
use crate::support::{certificates, until};

/// Version 2: 10.9.8.7:4711 to 10.0.0.2:80.
const SECOND: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x09\x08\x07\x0a\0\0\x02\x12\x67\0\x50";
const FIRST: &[u8] = b"PROXY TCP4 10.9.8.7 10.0.0.2 4711 80\r\n";
const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

/// All that comes back for these bytes; what ends with a reset comes back empty as well.
async fn sent(to: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let _ = stream.write_all(&parts.concat()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

/// The same over TLS, which begins behind these bytes.
async fn sent_securely(to: SocketAddr, header: &[u8]) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect(to).await?;
    tcp.write_all(header).await?;
    let mut stream = tls::connect(tcp, to.ip(), Alpn::Http1).await?;
    stream.write_all(GET).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn listener(port: u16, more: &str) -> String {
    format!(
        r#"[[load_balancer.listener]]
port = {port}
target_group = "web"
{more}
[[load_balancer.listener.rule]]
priority = 1
source_ip = ["10.9.0.0/16"]
fixed_response = {{ status = 200, body = "theirs" }}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_proxy_are_known_by_its_header() {
    let world = World::new();
    let (own, log) = (world.address(1), world.dir.path().join("access.log"));
    let trusting = r#"proxy_protocol = { trusted = ["127.0.0.0/8"] }"#;
    let setting = format!(
        r#"[access_log]
path = {log:?}
[[load_balancer]]
name = "edge"
type = "application"
address = "{own}"
{}{}{}[[target_group]]
name = "tcp"
protocol = "TCP"
targets = ["{own}:8080"]
[[load_balancer]]
name = "flows"
type = "network"
address = "{own}"
[[load_balancer.listener]]
port = 7004
target_group = "tcp"
{trusting}"#,
        listener(7001, trusting),
        listener(7002, &format!("carrier = \"pingora\"\n{trusting}")),
        listener(7003, r#"proxy_protocol = { trusted = ["10.0.0.0/8"] }"#),
    );
    let running = world.setting(&setting).service(Service::http("web", 1)).start().await;
    running.settled("web", 1).await;
    let at = |port| SocketAddr::new(own, port);
    for (port, header) in [(7001, FIRST), (7001, SECOND), (7002, FIRST), (7002, SECOND)] {
        let answer = sent(at(port), &[header, GET]).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{port}: {answer}");
        assert!(answer.ends_with("theirs"), "{port}: {answer}");
        assert_eq!(sent(at(port), &[GET]).await, "", "{port}: without a header");
        assert_eq!(sent(at(port), &[b"PROXY TCP4 1.2.3.4\r\n", GET]).await, "", "{port}");
        let unknown = sent(at(port), &[b"PROXY UNKNOWN\r\n", GET]).await;
        assert!(unknown.starts_with("HTTP/1.1 200 ") && !unknown.ends_with("theirs"), "{unknown}");
    }
    assert_eq!(sent(at(7003), &[FIRST, GET]).await, "", "nobody trusts the loopback");
    let healthy = || {
        let state = running.state();
        let of = |target: &roadstead::model::Target| target.group.as_str() == "tcp";
        let found = state.targets.values().find(|target| of(target)).unwrap();
        state.verdict(found.id).is_some_and(|v| v.state.as_str() == "healthy")
    };
    until("the TCP target is healthy", healthy).await;
    let flow = sent(at(7004), &[SECOND, GET]).await;
    assert!(flow.starts_with("HTTP/1.1 200 "), "{flow}");
    assert_eq!(sent(at(7004), &[GET]).await, "");

    let metrics = sent(at(9180), &[b"GET /metrics HTTP/1.0\r\n\r\n"]).await;
    let refused = |listener: &str, reason: &str, count: u32| {
        let name = "roadstead_listener_proxy_protocol_refused_total";
        let line = format!("{name}{{listener=\"{listener}\",reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} of {metrics}");
    };
    refused("edge:7001", "malformed", 4);
    refused("edge:7002", "malformed", 4);
    refused("edge:7003", "untrusted", 1);
    refused("flows:7004", "malformed", 1);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the log's lines", || lines().matches(" 10.9.8.7:4711 ").count() == 4).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_stands_before_the_handshake_of_an_https_listener() {
    let (world, folder) = (World::new(), certificates::folder());
    let (own, log) = (world.address(1), world.dir.path().join("access.log"));
    let secure = r#"protocol = "HTTPS"
certificates = ["two"]
proxy_protocol = { trusted = ["127.0.0.0/8"] }"#;
    let setting = format!(
        r#"[access_log]
path = {log:?}
[[certificate]]
name = "two"
certificate = {:?}
private_key = {:?}
[[load_balancer]]
name = "edge"
type = "application"
address = "{own}"
{}{}"#,
        folder.path().join("two.pem"),
        folder.path().join("two.key"),
        listener(7001, secure),
        listener(7002, &format!("carrier = \"pingora\"\n{secure}")),
    );
    let running = world.setting(&setting).service(Service::http("web", 1)).start().await;
    running.settled("web", 1).await;
    let at = |port| SocketAddr::new(own, port);
    for port in [7001, 7002] {
        for header in [FIRST, SECOND] {
            let answer = sent_securely(at(port), header).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{port}: {answer}");
            assert!(answer.ends_with("theirs"), "{port}: {answer}");
        }
        assert!(sent_securely(at(port), b"").await.is_err(), "{port}: without a header");
        let unknown = sent_securely(at(port), b"PROXY UNKNOWN\r\n").await.unwrap();
        assert!(unknown.starts_with("HTTP/1.1 200 ") && !unknown.ends_with("theirs"), "{unknown}");
        let plain = sent(at(port), &[FIRST, GET]).await;
        assert!(!plain.contains("HTTP"), "{port}: no handshake follows: {plain}");
    }
    let metrics = sent(at(9180), &[b"GET /metrics HTTP/1.0\r\n\r\n"]).await;
    for port in [7001, 7002] {
        let name = "roadstead_listener_proxy_protocol_refused_total";
        let line = format!("{name}{{listener=\"edge:{port}\",reason=\"malformed\"}} 1\n");
        assert!(metrics.contains(&line), "{line} of {metrics}");
    }
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    let count = || text().lines().filter(|line| line.starts_with("https ")).count();
    until("the log's lines", || count() == 6).await;
    assert_eq!(text().matches(" 10.9.8.7:4711 ").count(), 4);
    running.stop().await;
}
