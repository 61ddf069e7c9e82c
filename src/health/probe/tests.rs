//! Probes against real sockets that behave badly in every way.

use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(probe(address, &check).await.outcome, Outcome::Passed);
    drop(listener);
    assert_eq!(probe(address, &check).await.outcome, Outcome::Failed);
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
