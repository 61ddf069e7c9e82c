//! The PROXY protocol in front of HTTP listeners of both carriers and of a TCP listener.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::until;
use crate::support::world::{Service, World};

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
