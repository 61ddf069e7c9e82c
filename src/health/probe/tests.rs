//! Probes against real sockets that behave badly in every way.

use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::model::ProtocolVersion;

/// How a target answers.
enum Target {
    Says(Vec<u8>),
    /// Says it, and then keeps the connection open and silent.
    Stays(Vec<u8>),
    /// Closes with unread data in the socket, which makes the system send a reset.
    Resets,
    Silent,
}

fn says(text: &str) -> Target {
    Target::Says(text.as_bytes().to_vec())
}

/// An address that refuses: bound and not listening, so that nobody else gets the port.
fn closed() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn serve(listener: TcpListener, target: Target, seen: oneshot::Sender<String>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    match target {
        Target::Resets => {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return;
        }
        Target::Silent => {}
        Target::Says(_) | Target::Stays(_) => {
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
        }
    }
    let _ = seen.send(String::from_utf8(request).unwrap());
    match target {
        Target::Says(bytes) => drop(stream.write_all(&bytes).await),
        Target::Stays(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
        Target::Silent => std::future::pending::<()>().await,
        Target::Resets => {}
    }
}

fn http(timeout: Duration) -> HealthCheck {
    let mut check = HealthCheck::defaults(Protocol::Http);
    check.timeout = timeout;
    check.matcher = vec![200..=299, 404..=404];
    check
}

async fn outcome(target: Target, timeout: Duration) -> (Outcome, Option<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = oneshot::channel();
    let serving = tokio::spawn(serve(listener, target, sender));
    let outcome = probe(address, &http(timeout)).await.outcome;
    serving.abort();
    (outcome, receiver.await.ok())
}

async fn check(target: Target, expected: Outcome) {
    // Long where the target answers, short where nothing ever comes.
    let short = matches!(expected, Outcome::TimedOut);
    let timeout = if short { Duration::from_millis(100) } else { Duration::from_secs(20) };
    assert_eq!(outcome(target, timeout).await.0, expected);
}

#[tokio::test]
async fn codes_pass_that_the_matcher_names() {
    check(says("HTTP/1.1 200 OK\r\n\r\n"), Outcome::Passed).await;
    check(says("HTTP/1.0 299 \r\n\r\n"), Outcome::Passed).await;
    check(says("HTTP/1.1 404\r\nA: b\r\n\r\nbody"), Outcome::Passed).await;
    check(says("HTTP/1.1 200 OK\n\n"), Outcome::Passed).await;
    check(says("HTTP/1.1 503 No\r\n\r\n"), Outcome::WrongCode(503)).await;
    check(says("HTTP/1.1 301 Moved\r\n\r\n"), Outcome::WrongCode(301)).await;
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    check(says("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), Outcome::Passed).await;
    check(says("HTTP/1.1 100 Continue\r\n\r\n"), Outcome::Failed).await;
}

#[tokio::test]
async fn answers_that_are_no_http_fail() {
    for text in [
        "",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n",
    ] {
        check(says(text), Outcome::Failed).await;
    }
    // Waiting for more would only cost time.
    check(Target::Stays(b"220 mail ready\r\n".to_vec()), Outcome::Failed).await;
}

#[tokio::test]
async fn head_without_end_is_given_up() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend(b"A: b\r\n".repeat(10_000));
    check(Target::Stays(head), Outcome::Failed).await;
}

#[tokio::test]
async fn resets_and_refusals_fail() {
    check(Target::Resets, Outcome::Failed).await;
    let (_socket, address) = closed();
    assert_eq!(probe(address, &http(Duration::from_secs(20))).await.outcome, Outcome::Failed);
}

#[tokio::test]
async fn silence_and_slow_heads_time_out() {
    check(Target::Silent, Outcome::TimedOut).await;
    check(Target::Stays(b"HTTP/1.1 200 OK\r\nA: ".to_vec()), Outcome::TimedOut).await;
}

#[tokio::test]
async fn body_without_end_does_not_hold_the_probe() {
    check(Target::Stays(b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec()), Outcome::Passed).await;
}

#[tokio::test]
async fn request_is_elbs() {
    let (outcome, request) =
        outcome(says("HTTP/1.1 200 OK\r\n\r\n"), Duration::from_secs(20)).await;
    assert_eq!(outcome, Outcome::Passed);
    let request = request.unwrap();
    assert!(request.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
    assert!(request.contains("\r\nUser-Agent: ELB-HealthChecker/2.0\r\n"), "{request}");
}

#[tokio::test]
async fn tcp_probe_passes_where_somebody_listens() {
    let check = HealthCheck::defaults(Protocol::Tcp);
    let (socket, address) = closed();
    assert_eq!(probe(address, &check).await.outcome, Outcome::Failed);
    let _listener = socket.listen(16).unwrap();
    assert_eq!(probe(address, &check).await.outcome, Outcome::Passed);
}

/// A target that speaks HTTP/2: this status, these fields, and these trailers where there are any.
/// Tells what it was asked.
async fn answers_by_http_2(
    listener: TcpListener,
    (status, fields, trailers): (u16, &'static str, &'static str),
) -> String {
    let map = |text: &'static str| {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let (asked, mut body) = request.into_parts();
    let answering = async {
        let mut count = 0;
        while let Some(Ok(bytes)) = body.data().await {
            count += bytes.len();
        }
        let mut head = http::Response::new(());
        *head.status_mut() = http::StatusCode::from_u16(status).unwrap();
        *head.headers_mut() = map(fields);
        let mut stream = respond.send_response(head, trailers.is_empty()).unwrap();
        if !trailers.is_empty() {
            stream.send_data(bytes::Bytes::from_static(&[0; 5]), false).unwrap();
            stream.send_trailers(map(trailers)).unwrap();
        }
        count
    };
    let rest = async { while connection.accept().await.is_some() {} };
    let (count, ()) = tokio::join!(answering, rest);
    let kind = asked.headers.get("content-type").map_or("-", |kind| kind.to_str().unwrap());
    let agent = asked.headers["user-agent"].to_str().unwrap();
    format!("{} {} {kind} {count} {agent}", asked.method, asked.uri.path())
}

async fn check_http_2(
    (version, codes): (ProtocolVersion, &[std::ops::RangeInclusive<u16>]),
    answer: (u16, &'static str, &'static str),
    (outcome, asked): (Outcome, &str),
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = tokio::spawn(answers_by_http_2(listener, answer));
    let check = HealthCheck {
        matcher: codes.to_vec(),
        timeout: Duration::from_secs(20),
        ..HealthCheck::of(Protocol::Http, version)
    };
    assert_eq!(probe(address, &check).await.outcome, outcome, "{answer:?}");
    assert_eq!(answering.await.unwrap(), format!("{asked} ELB-HealthChecker/2.0"));
}

#[tokio::test]
async fn http_2_groups_are_asked_by_http_2() {
    let group = (ProtocolVersion::Http2, &[200..=299][..]);
    let asked = "GET / - 0";
    check_http_2(group, (200, "", ""), (Outcome::Passed, asked)).await;
    check_http_2(group, (299, "a=b", "c=d"), (Outcome::Passed, asked)).await;
    check_http_2(group, (503, "", ""), (Outcome::WrongCode(503), asked)).await;
}

#[tokio::test]
async fn grpc_groups_are_called_and_matched_by_grpcs_status() {
    let asked = "POST /AWS.ALB/healthcheck application/grpc 5";
    let check = async |codes: &[_], answer, outcome| {
        check_http_2((ProtocolVersion::Grpc, codes), answer, (outcome, asked)).await;
    };
    check(&[12..=12], (200, "grpc-status=12", ""), Outcome::Passed).await;
    check(&[12..=12], (200, "", "grpc-status=12"), Outcome::Passed).await;
    check(&[0..=0, 1..=1], (200, "", "grpc-status=1"), Outcome::Passed).await;
    check(&[0..=99], (200, "grpc-status=16", ""), Outcome::Passed).await;
    check(&[0..=0], (200, "", "grpc-status=14"), Outcome::WrongCode(14)).await;
    // What does not answer as gRPC does not pass, whatever HTTP's code.
    check(&[0..=99], (404, "grpc-status=12", ""), Outcome::WrongCode(404)).await;
    check(&[0..=99], (200, "", ""), Outcome::Failed).await;
    check(&[0..=99], (200, "", "grpc-status=-1"), Outcome::Failed).await;
    check(&[0..=99], (200, "grpc-status=100", "a=b"), Outcome::Failed).await;
}

#[tokio::test]
async fn what_speaks_no_http_2_fails_its_probe() {
    let check = async |said: Option<&'static str>, expected: Outcome| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            match said {
                None => std::future::pending().await,
                Some("") => {}
                Some(said) => {
                    stream.write_all(said.as_bytes()).await.unwrap();
                    std::future::pending().await
                }
            }
        });
        let timeout = match expected {
            Outcome::TimedOut => Duration::from_millis(100),
            _ => Duration::from_secs(20),
        };
        let own = HealthCheck::of(Protocol::Http, ProtocolVersion::Grpc);
        assert_eq!(probe(address, &HealthCheck { timeout, ..own }).await.outcome, expected);
        serving.abort();
    };
    check(Some("HTTP/1.1 400 Bad Request\r\n\r\n"), Outcome::Failed).await;
    check(Some(""), Outcome::Failed).await;
    check(None, Outcome::TimedOut).await;
}

proptest! {
    #[test]
    fn no_head_makes_the_parser_panic(head in "(HTTP/1\\.[01] )?[0-9 \r\n:a]{0,40}") {
        let bytes = head.as_bytes();
        if let Some(end) = head_end(bytes) {
            prop_assert!(end <= bytes.len());
            let _ = status(&bytes[..end]);
        }
    }
}
