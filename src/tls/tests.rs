//! Real handshakes over loopback, each side told what to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::policy::RECOMMENDED;
use super::testing::{Client, Pem, certificate, shown};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn server(certificates: &[&Pem], policy: &str) -> Server {
    let named = certificates.iter().zip(0..);
    let named = named.map(|(pem, n)| (Arc::from(format!("arn:{n}")), pem.identity())).collect();
    let policy = Policy::find(policy).unwrap();
    Server::new(named, policy, &[Alpn::H2, Alpn::Http1], &Tickets::new().unwrap(), Mutual::Off)
        .unwrap()
}

/// Shakes every hand; what comes back is echoed until the client closes.
struct Echo {
    address: SocketAddr,
    sessions: tokio::sync::mpsc::UnboundedReceiver<Result<Arc<Session>, Failure>>,
    _task: tokio::task::JoinSet<()>,
}

impl Echo {
    async fn new(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, sessions) = tokio::sync::mpsc::unbounded_channel();
        let (server, handshakes) = (Arc::new(server), Arc::<Handshakes>::default());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (server, handshakes) = (Arc::clone(&server), Arc::clone(&handshakes));
                let told = told.clone();
                tokio::spawn(async move {
                    let shaken = handshakes.accept(tcp, &server).await;
                    let mut stream = match shaken {
                        Ok(stream) => stream,
                        Err(failure) => return drop(told.send(Err(failure))),
                    };
                    let _ = told.send(Ok(Arc::clone(stream.session().unwrap())));
                    let mut bytes = vec![0; 70_000];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        stream.write_all(&bytes[..count]).await.unwrap();
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, sessions, _task: task }
    }

    async fn next(&mut self) -> Result<Arc<Session>, Failure> {
        tokio::time::timeout(PATIENCE, self.sessions.recv()).await.unwrap().unwrap()
    }

    /// `PROTOCOL CIPHER ARN NAMES` of what one client got.
    async fn outcome(&mut self, client: &Client, name: &str) -> String {
        let dialled = client.dial(self.address, name).await;
        match (self.next().await, dialled) {
            (Ok(session), Ok(stream)) => {
                let Session { protocol, cipher, certificate, .. } = &*session;
                format!("{protocol} {cipher} {certificate} {}", shown(&stream))
            }
            (Err(failure), _) => failure.to_string(),
            (Ok(_), Err(error)) => error.to_string(),
        }
    }
}

fn any() -> Client {
    Client::new(&[], "", "")
}

#[tokio::test]
async fn names_choose_the_certificate_as_alb_does() {
    let (default, exact) = (certificate(&["default.test"], true), certificate(&["a.test"], true));
    let (better, wildcard) = (certificate(&["a.test"], false), certificate(&["*.test"], false));
    let all = [&default, &exact, &better, &wildcard];
    let mut echo = Echo::new(server(&all, RECOMMENDED)).await;
    let rsa = Client::new(&[], "", "RSA");
    for (client, name, expected) in [
        (any(), "a.test", "arn:2 a.test"),
        (any(), "A.Test", "arn:2 a.test"),
        (rsa.clone(), "a.test", "arn:1 a.test"),
        (any(), "b.test", "arn:3 *.test"),
        (rsa, "b.test", "arn:0 default.test"),
        (any(), "b.a.test", "arn:0 default.test"),
        (any(), "test", "arn:0 default.test"),
        (any(), "127.0.0.1", "arn:0 default.test"),
        // A wildcard that fits is of the list, the default one is not.
        (any(), "default.test", "arn:3 *.test"),
    ] {
        let outcome = echo.outcome(&client, name).await;
        assert!(outcome.ends_with(expected), "{name}: {outcome}");
    }
}

#[tokio::test]
async fn a_policy_limits_versions_and_ciphers() {
    let pem = certificate(&["a.test"], false);
    let (old, new) = (Client::new(&[], "1.2", ""), Client::new(&[], "1.3", ""));
    let check = async |policy: &str, client: &Client, expected: &str| {
        let mut echo = Echo::new(server(&[&pem], policy)).await;
        assert_eq!(echo.outcome(client, "a.test").await, expected, "{policy}");
    };
    let ecdsa = "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 arn:0 a.test";
    let newest = "TLSv1.3 TLS_AES_128_GCM_SHA256 arn:0 a.test";
    check(RECOMMENDED, &any(), newest).await;
    check(RECOMMENDED, &old, ecdsa).await;
    check("ELBSecurityPolicy-2016-08", &any(), ecdsa).await;
    check("ELBSecurityPolicy-2016-08", &new, "incompatible").await;
    check("ELBSecurityPolicy-TLS13-1-3-2021-06", &old, "incompatible").await;
    check("ELBSecurityPolicy-TLS13-1-3-2021-06", &new, newest).await;
}

#[tokio::test]
async fn what_both_speak_is_agreed_on() {
    let pem = certificate(&["a.test"], false);
    let mut echo = Echo::new(server(&[&pem], RECOMMENDED)).await;
    for (alpn, expected) in [
        (&["http/1.1", "h2"][..], Ok(Some(Alpn::H2))),
        (&["http/1.1"], Ok(Some(Alpn::Http1))),
        (&[], Ok(None)),
        (&["spdy/1"], Err(Failure::Incompatible)),
    ] {
        let client = Client::new(alpn, "", "");
        let _stream = client.dial(echo.address, "a.test").await;
        let agreed = echo.next().await.map(|session| session.alpn);
        assert_eq!(agreed, expected, "{alpn:?}");
    }
}

#[tokio::test]
async fn sessions_go_on_under_every_server_of_the_same_tickets() {
    let pem = certificate(&["a.test"], false);
    let tickets = Tickets::new().unwrap();
    let policy = Policy::find(RECOMMENDED).unwrap();
    let server = || {
        let named = vec![(Arc::from("arn:0"), pem.identity())];
        Server::new(named, policy, &[], &tickets, Mutual::Off).unwrap()
    };
    let (mut one, mut two) = (Echo::new(server()).await, Echo::new(server()).await);
    for version in ["1.2", "1.3"] {
        let client = Client::new(&[], version, "");
        for (echo, resumed) in [(&mut one, false), (&mut two, true)] {
            let mut stream = client.dial(echo.address, "a.test").await.unwrap();
            stream.write_all(b"x").await.unwrap();
            // Tickets come with the first answer.
            assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 1);
            assert_eq!(echo.next().await.unwrap().resumed, resumed, "{version}");
        }
    }
}

#[tokio::test]
async fn bytes_pass_whole_whatever_their_number() {
    let pem = certificate(&["a.test"], false);
    let echo = Echo::new(server(&[&pem], RECOMMENDED)).await;
    let mut stream = any().dial(echo.address, "a.test").await.unwrap();
    for length in [1, 16_383, 16_384, 16_385, 65_536, 200_000] {
        let sent: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
        let mut received = vec![0; sent.len()];
        // Both at once: neither side may wait for the other to read.
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (written, read) =
            tokio::join!(writing.write_all(&sent), reading.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        assert!(sent == received, "{length}");
        stream = reading.unsplit(writing);
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the goodbye is an end");
}

/// The two ends of a connection: ours, and the client's.
async fn ends() -> (Stream, Stream) {
    let pem = certificate(&["a.test"], false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(&[&pem], RECOMMENDED);
    let accepting = async {
        let (tcp, _) = listener.accept().await.unwrap();
        Handshakes::default().accept(tcp, &server).await.unwrap()
    };
    let client = any();
    let (ours, theirs) = tokio::join!(accepting, client.dial(address, "a.test"));
    (ours, theirs.unwrap())
}

#[tokio::test]
async fn a_goodbye_is_an_end_before_the_socket_s() {
    let (mut ours, mut theirs) = ends().await;
    theirs.write_all(b"last").await.unwrap();
    for goodbye in [false, true] {
        let Stream::Tls(stream) = &mut theirs else { panic!("no TLS") };
        if goodbye {
            stream.connection.send_close_notify();
            theirs.flush().await.unwrap();
        }
        let mut read = [0; 8];
        let reading = tokio::time::timeout(Duration::from_secs(30), ours.read(&mut read));
        let count = reading.await.expect("the goodbye was not heard").unwrap();
        assert_eq!(&read[..count], if goodbye { &b""[..] } else { b"last" });
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_no_end() {
    let (ours, mut theirs) = ends().await;
    drop(ours);
    let error = theirs.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let pem = certificate(&["a.test"], false);
    let mut echo = Echo::new(server(&[&pem], RECOMMENDED)).await;
    for (sent, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Failure::Malformed),
        (&[22, 3, 1, 255, 255, 1], Failure::Malformed),
        (b"", Failure::Closed),
    ] {
        let mut tcp = TcpStream::connect(echo.address).await.unwrap();
        tcp.write_all(sent).await.unwrap();
        tcp.shutdown().await.unwrap();
        assert_eq!(echo.next().await.unwrap_err(), expected, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stands_still_ends_in_time_and_its_place_is_free_again() {
    let pem = certificate(&["a.test"], false);
    let (server, handshakes) = (server(&[&pem], RECOMMENDED), Handshakes::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut silent = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..1025 {
        let connecting = TcpStream::connect(address);
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        silent.push(ours.unwrap());
        waiting.push(handshakes.accept(theirs.unwrap().0, &server));
    }
    let begun = crate::clock::instant();
    let outcomes = futures_util::future::join_all(waiting).await;
    assert!(begun.elapsed() < HANDSHAKE + Duration::from_secs(1));
    let count = |wanted| outcomes.iter().filter(|o| matches!(o, Err(f) if *f == wanted)).count();
    assert_eq!((count(Failure::Timeout), count(Failure::Busy)), (1024, 1));
    assert_eq!(handshakes.under_way(), 0);
}

#[test]
fn certificates_are_read_and_fit_their_keys() {
    let (one, other) = (certificate(&["a.test", "*.B.test"], false), certificate(&["c"], true));
    let facts = one.identity().facts;
    assert_eq!(facts.names, ["a.test", "*.b.test"]);
    assert_eq!((facts.key, facts.signature.as_str()), (Key::Ecdsa(256), "SHA256WITHECDSA"));
    assert_eq!(facts.common_name.as_deref(), Some("a.test"));
    assert!(facts.not_before < facts.not_after);
    assert_eq!(other.identity().facts.key, Key::Rsa(2048));
    let check = |body: &str, chain: &str, key: &str, expected: BadCertificate| {
        assert_eq!(Identity::read(body, chain, key).unwrap_err(), expected);
    };
    check("x", "", &one.key, BadCertificate::Body);
    check(&one.certificate, "x", &one.key, BadCertificate::Chain);
    check(&one.certificate, "", "x", BadCertificate::Key);
    check(&one.certificate, "", &other.key, BadCertificate::Mismatch);
    let both = format!("{}{}", one.certificate, other.certificate);
    check(&both, "", &one.key, BadCertificate::Bodies);
    let (body, chain) = Identity::split(&both);
    assert!(Identity::read(&body, &chain, &one.key).is_ok());
}
