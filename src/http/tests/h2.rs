//! Clients' HTTP/2 on the native carrier: what HTTP/1 does, stream by stream.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request};

use super::world::*;
use crate::model::{Action, Carrier, FixedResponse, ListenerKey};
use crate::state::Key;

/// GET, http, /, authority "t".
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b't'];
/// Short enough to wait for, long enough for a slow machine to do in time what it should.
const SHORT: Duration = Duration::from_secs(1);

fn plan() -> Plan {
    Plan::of(Carrier::Native)
}

/// A client's connection.
pub(super) struct Peer {
    send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(super) ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("waited in vain")
}

pub(super) async fn answer(response: http::Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(bytes) = soon(body.data()).await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        text.extend_from_slice(&bytes);
    }
    let trailers = soon(body.trailers()).await?;
    let body = String::from_utf8(text).unwrap();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

impl Peer {
    pub(super) async fn new(world: &World) -> Self {
        Self::with(world, &Builder::new()).await
    }

    pub(super) async fn with(world: &World, settings: &Builder) -> Self {
        let stream = tokio::net::TcpStream::connect(world.key.address).await.unwrap();
        Self::over(stream.into(), settings).await
    }

    pub(super) async fn over(stream: crate::tls::Stream, settings: &Builder) -> Self {
        let (send, connection) = settings.handshake(stream).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Sends a head; the body is to follow unless it ends here.
    pub(super) async fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.send.clone().ready().await.unwrap();
        ready.send_request(request, ends).unwrap()
    }

    pub(super) async fn ask(
        &mut self,
        request: Request<()>,
        body: &str,
    ) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        answer(soon(response).await?).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(request(Method::GET, path), "").await.unwrap()
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask(request(Method::POST, path), body).await.unwrap()
    }

    pub(super) async fn end(self) -> Result<(), h2::Error> {
        soon(self.ended).await.unwrap()
    }
}

pub(super) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap()
}

#[tokio::test]
async fn streams_are_exchanges_of_their_own() {
    let target = Target::new(|request| ok(request.head.split(' ').nth(1).unwrap())).await;
    let plan = Plan { log: true, ..plan() };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let mut waiting = Vec::new();
    for number in 0..100 {
        waiting.push(peer.begin(request(Method::GET, &format!("/{number}?x")), true).await.0);
    }
    for (number, response) in waiting.into_iter().enumerate() {
        let answer = answer(soon(response).await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.body), (200, format!("/{number}?x")));
        assert_eq!(answer.headers.get("connection"), None);
    }
    let mut with_cookies = request(Method::GET, "/cookies");
    for crumb in ["a=b", "c=d"] {
        with_cookies.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    with_cookies.headers_mut().insert("user-agent", "bench/1".parse().unwrap());
    with_cookies.headers_mut().insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    assert_eq!(peer.ask(with_cookies, "").await.unwrap().status, 200);
    let (head, port) = (target.head(), world.key.address.port());
    for line in [
        "get /cookies http/1.1".to_owned(),
        format!("host: test:{port}"),
        "cookie: a=b; c=d".to_owned(),
        "x-forwarded-for: 1.2.3.4, 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
    ] {
        assert_eq!(head.lines().filter(|own| **own == line).count(), 1, "{line}: {head}");
    }
    assert_eq!(world.metric("roadstead_listener_requests_total", "2xx"), 101);
    assert_eq!(world.in_flight(), 0);
    drop(peer);
    let lines = world.logged(101).await;
    assert!(lines.iter().all(|line| line.starts_with("h2 20") && line.contains(" 200 200 ")));
    let line = &lines[100];
    let asked = format!("\"GET http://test:{port}/cookies HTTP/2.0\" \"bench/1\"");
    assert!(line.contains(&asked), "{line}");
}

#[tokio::test]
async fn streams_share_the_trace_id_of_their_connection() {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(Plan { log: true, ..plan() }, &[("a", &target)]).await;
    for _ in 0..2 {
        let mut peer = Peer::new(&world).await;
        assert_eq!(peer.get("/1").await.status, 200);
        assert_eq!(peer.get("/2").await.status, 200);
    }
    let lines = world.logged(4).await;
    let ids: Vec<&str> =
        lines.iter().filter_map(|line| line.split(' ').find(|f| f.starts_with("TID_"))).collect();
    assert!(ids.len() == 4 && ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn rules_and_answers_of_our_own_are_those_of_http_1() {
    let (a, b) = (Target::new(|_| ok("a")).await, Target::new(|_| ok("b")).await);
    let plan = Plan { rules: ordinary_rules(), ..plan() };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.get("/").await.body, "a");
    assert_eq!(peer.get("/b/x").await.body, "b");
    let other = Request::get("http://B.test/").body(()).unwrap();
    assert_eq!(peer.ask(other, "").await.unwrap().body, "b");
    let tea = peer.get("/tea").await;
    assert_eq!((tea.status, tea.body.as_str()), (418, "short and stout"));
    assert_eq!(
        (tea.header("content-type"), tea.header("server")),
        (Some("text/plain"), Some("roadstead"))
    );
    let head = peer.ask(request(Method::HEAD, "/tea"), "").await.unwrap();
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("15"), ""));
    // What is refused costs its stream alone.
    let long = "x".repeat(17_000);
    let mut header = request(Method::GET, "/");
    header.headers_mut().insert("x", long.parse().unwrap());
    let mut differs = request(Method::GET, "/");
    differs.headers_mut().insert("host", "other".parse().unwrap());
    let mut addresses = request(Method::GET, "/");
    let list = vec!["1.2.3.4"; 31].join(",");
    addresses.headers_mut().insert("x-forwarded-for", list.parse().unwrap());
    let connect = Request::connect("test:443").body(()).unwrap();
    for (asked, status) in [
        (request(Method::TRACE, "/"), 405),
        (connect, 405),
        (request(Method::GET, &format!("/{long}")), 414),
        (header, 400),
        (differs, 400),
        (addresses, 463),
    ] {
        let got = peer.ask(asked, "").await.unwrap();
        assert_eq!(got.status, status);
        assert!(got.body.contains(&status.to_string()), "{got:?}");
    }
    assert_eq!(peer.get("/").await.body, "a");
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"400\""), 2);
    assert_eq!(world.metric("roadstead_listener_requests_total", "4xx"), 8);
}

#[tokio::test]
async fn bodies_pass_both_ways_whatever_frames_them() {
    let target = Target::new(|request| {
        let body = &request.body;
        match request.head.contains("chunked") {
            true => Act::Send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )),
            false => ok(body),
        }
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let body: String = (0..400_000).map(|n| format!("{n:05}")).collect();
    for length in [Some(body.len()), None] {
        let mut asked = request(Method::PUT, "/");
        if let Some(length) = length {
            asked.headers_mut().insert("content-length", length.into());
        }
        let got = peer.ask(asked, &body).await.unwrap();
        assert!(got.body == body, "not what was sent");
        assert_eq!(got.header("transfer-encoding"), None);
    }
    assert_eq!(target.connections(), 1);
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn trailers_and_interim_responses_pass() {
    let (world, listener) = by_hand(plan()).await;
    let mut peer = Peer::new(&world).await;
    let (mut response, mut stream) = peer.begin(request(Method::PUT, "/"), false).await;
    let mut target = accept(&listener).await;
    assert!(target.head().await.unwrap().head.contains("Transfer-Encoding: chunked"));
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("digest", "up".parse().unwrap());
    trailers.insert("host", "evil".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let end = "3\r\nabc\r\n0\r\ndigest: up\r\n\r\n";
    assert_eq!(target.take(end.len()).await.unwrap(), end);
    target.send("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").await;
    let hints = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    let hints = hints.unwrap().unwrap();
    assert_eq!((hints.status().as_u16(), hints.headers()["link"].as_bytes()), (103, &b"a"[..]));
    // More of them than anybody needs are not held for the client.
    target.send(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100_000)).await;
    target.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    target.send("2\r\nhi\r\n0\r\nX-Sum: down\r\nHost: evil\r\n\r\n").await;
    let got = answer(soon(response).await.unwrap()).await.unwrap();
    let trailers = got.trailers.unwrap();
    assert_eq!((got.body.as_str(), trailers.len()), ("hi", 1));
    assert_eq!(trailers["x-sum"], "down");
    // 100 is ours.
    let mut asked = request(Method::PUT, "/");
    asked.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let (mut response, mut stream) = peer.begin(asked, false).await;
    let told = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert_eq!(told.unwrap().unwrap().status(), 100);
    stream.send_data(Bytes::from_static(b"x"), true).unwrap();
    assert!(!target.head().await.unwrap().head.contains("xpect"));
    target.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(soon(response).await.unwrap().status(), 204);
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    let target = Target::new(|request| {
        let status = request.head.split(['/', ' ']).nth(2).unwrap();
        Act::Send(match status {
            "200" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".into(),
            _ => format!("HTTP/1.1 {status} Is\r\nA: b\r\n\r\n"),
        })
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    for (method, path) in [(Method::HEAD, "/200"), (Method::GET, "/204"), (Method::GET, "/304")] {
        let (response, _) = peer.begin(request(method, path), true).await;
        let response = soon(response).await.unwrap();
        assert_eq!(response.status().as_str(), &path[1..]);
        assert!(response.body().is_end_stream(), "{path}");
    }
    let empty = peer.ask(request(Method::POST, "/204"), "").await.unwrap();
    assert_eq!(empty.status, 204);
    assert!(target.head().contains("content-length: 0"), "{}", target.head());
    assert_eq!(target.connections(), 1);
}

#[tokio::test]
async fn failed_targets_are_replaced_as_in_http_1() {
    let bad = Target::new(|_| Act::Last(String::new())).await;
    let good = Target::new(|request| ok(&request.body)).await;
    let world = World::new(plan(), &[("a", &bad), ("a", &good)]).await;
    world.register("a", nobody()).await;
    let mut peer = Peer::new(&world).await;
    for _ in 0..6 {
        assert_eq!(peer.ask(request(Method::PUT, "/"), "body").await.unwrap().body, "body");
    }
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(peer.post("/", "x").await.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 502], "not idempotent: sent once");
    assert!(world.metric("roadstead_target_group_connection_errors_total", "\"a\"") >= 2);
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn what_is_silent_or_broken_costs_its_stream_alone() {
    let target = Target::new(|request| match request.head.split(' ').nth(1).unwrap() {
        "/silent" => Act::Silence,
        "/half" => Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".into()),
        "/nonsense" => Act::Last("nonsense\r\n\r\n".into()),
        _ => ok("well"),
    })
    .await;
    let world = World::new(Plan { idle_timeout: SHORT, ..plan() }, &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.get("/silent").await.status, 504);
    assert_eq!(peer.get("/nonsense").await.status, 502);
    let half = peer.ask(request(Method::GET, "/half"), "").await.unwrap_err();
    assert_eq!(half.reason(), Some(Reason::INTERNAL_ERROR));
    let (response, mut stream) = peer.begin(request(Method::POST, "/"), false).await;
    stream.send_data(Bytes::from_static(b"stalls"), false).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 408);
    assert_eq!(peer.get("/").await.body, "well", "the connection is as good as before");
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn a_stream_given_up_frees_its_target() {
    let target = Target::new(|request| match request.head.contains("GET /x") {
        true => Act::Silence,
        false => ok("well"),
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let (_response, mut asked) = peer.begin(request(Method::GET, "/x"), true).await;
    until("it has arrived", || target.requests() == 1).await;
    asked.send_reset(Reason::CANCEL);
    until("nothing is under way", || world.in_flight() == 0).await;
    until("its connection has ended", || target.seen.open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(peer.get("/").await.body, "well");
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"460\""), 1);
    // The connection goes, and with it what came over it.
    let (_response, _asked) = peer.begin(request(Method::GET, "/x"), true).await;
    until("it has arrived", || target.requests() == 3).await;
    peer.ended.abort();
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"460\""), 2);
}

#[tokio::test]
async fn the_end_of_a_deregistration_delay_is_502() {
    let target = Target::new(|_| Act::Silence).await;
    let world = World::new(plan(), &[]).await;
    let id = world.register("a", target.address).await;
    let mut peer = Peer::new(&world).await;
    let (response, _) = peer.begin(request(Method::GET, "/"), true).await;
    until("the target has the request", || target.requests() == 1).await;
    world.drain(id).await;
    assert_eq!(world.in_flight(), 1, "a draining target finishes what it has");
    world.remove(vec![Key::Target(id)]).await;
    assert_eq!(soon(response).await.unwrap().status(), 502);
    assert_eq!(peer.get("/").await.status, 503);
}

#[tokio::test]
async fn closing_and_a_listener_that_goes_are_told_by_goaway() {
    for listener_goes in [false, true] {
        let (world, listener) = by_hand(plan()).await;
        let mut peer = Peer::new(&world).await;
        let idle = Peer::new(&world).await;
        let (response, _) = peer.begin(request(Method::GET, "/"), true).await;
        let mut target = accept(&listener).await;
        target.head().await.unwrap();
        if listener_goes {
            let port = world.key.address.port();
            let key = ListenerKey { load_balancer: "front".into(), port };
            world.remove(vec![Key::Listener(key)]).await;
        } else {
            world.closing.cancel();
        }
        assert!(idle.end().await.is_ok(), "without an error");
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(answer(soon(response).await.unwrap()).await.unwrap().body, "hi");
        assert!(peer.end().await.is_ok(), "without an error, behind what was under way");
        world.at_rest().await;
    }
}

#[tokio::test]
async fn connections_end_when_they_rest_or_are_old() {
    let target = Target::new(|_| ok("well")).await;
    let world = World::new(Plan { idle_timeout: SHORT, ..plan() }, &[("a", &target)]).await;
    let mut rests = Peer::new(&world).await;
    assert_eq!(rests.get("/").await.status, 200);
    assert!(rests.end().await.is_ok());
    // One that never says a word behind its preface.
    let mut mute = world.client().await;
    mute.send_bytes(super::super::head::PREFACE).await;
    mute.until_bytes(&[7, 0, 0, 0, 0, 0]).await;
    world.at_rest().await;
    // The same where its rest and its age end at once.
    let times = Plan { idle_timeout: SHORT, client_keep_alive: SHORT, ..plan() };
    let world = World::new(times, &[("a", &target)]).await;
    let mut mute = world.client().await;
    mute.send_bytes(super::super::head::PREFACE).await;
    assert!(mute.until_bytes(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await);
    world.at_rest().await;
    let plan = Plan { client_keep_alive: SHORT, ..plan() };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut old = Peer::new(&world).await;
    assert_eq!(old.get("/").await.status, 200);
    assert!(old.end().await.is_ok());
    world.at_rest().await;
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_a_parting_is_parted_from() {
    let target = Target::new(|_| Act::Silence).await;
    let times = Plan { client_keep_alive: SHORT, ..plan() };
    let world = World::new(times, &[("a", &target)]).await;
    let mut client = world.client().await;
    let get = |stream: u8| [&[0, 0, 6, 1, 5, 0, 0, 0, stream][..], GET].concat();
    client.send_bytes(super::super::head::PREFACE).await;
    client.send_bytes(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    client.send_bytes(&get(1)).await;
    until("it has arrived", || target.requests() == 1).await;
    // The first GOAWAY names no stream; the second one comes without an answer.
    assert!(client.until_bytes(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).await);
    client.send_bytes(&get(3)).await;
    // A PING is answered behind it.
    client.send_bytes(&[&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"answered"].concat()).await;
    assert!(client.until_bytes(b"answered").await);
    assert_eq!((target.requests(), world.in_flight()), (1, 1));
}

#[tokio::test]
async fn an_upload_that_is_given_up_frees_a_target_that_does_not_read() {
    let (world, listener) = by_hand(plan()).await;
    let mut peer = Peer::new(&world).await;
    let (_response, mut asked) = peer.begin(request(Method::POST, "/"), false).await;
    let _target = accept(&listener).await;
    // Until nothing more goes: the sockets' buffers are full, and our window.
    let body = Bytes::from(vec![7; 64 * 1024]);
    loop {
        asked.reserve_capacity(body.len());
        let granted = std::future::poll_fn(|cx| asked.poll_capacity(cx));
        match tokio::time::timeout(SHORT, granted).await {
            Ok(granted) => asked.send_data(body.slice(..granted.unwrap().unwrap()), false).unwrap(),
            Err(_) => break,
        }
    }
    assert_eq!(world.in_flight(), 1);
    asked.send_reset(Reason::CANCEL);
    until("nothing is under way", || world.in_flight() == 0).await;
}

#[tokio::test]
async fn a_connection_has_so_many_requests() {
    let body = FixedResponse { status: 200, content_type: String::new(), body: "x".into() };
    let plan = Plan { default_action: Some(Action::FixedResponse(body)), ..plan() };
    let world = World::new(plan, &[]).await;
    let peer = Peer::new(&world).await;
    let mut served = 0;
    // As ALB has it: 10,000.
    while let Ok(mut ready) = peer.send.clone().ready().await {
        let Ok((response, _)) = ready.send_request(request(Method::GET, "/"), true) else { break };
        match soon(response).await {
            Ok(response) => assert_eq!(response.status(), 200),
            // It crossed the last GOAWAY.
            Err(_) => break,
        }
        served += 1;
    }
    assert!((10_000..10_100).contains(&served), "{served}");
    assert!(peer.end().await.is_ok());
    world.at_rest().await;
}

#[tokio::test]
async fn bytes_wait_for_whoever_reads_slowly() {
    let (world, listener) = by_hand(plan()).await;
    // A client with a large window that does not read its socket, and one with a small one.
    let mut settings = Builder::new();
    settings.initial_window_size(1 << 16);
    let mut peer = Peer::with(&world, &settings).await;
    let (response, mut up) = peer.begin(request(Method::PUT, "/"), false).await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    // The target does not read: the client's window is not given back.
    up.reserve_capacity(64 << 20);
    let mut sent = 0;
    let sending = async {
        while let Some(Ok(count)) = std::future::poll_fn(|cx| up.poll_capacity(cx)).await {
            up.send_data(Bytes::from(vec![b'x'; count]), false).unwrap();
            sent += count;
        }
    };
    let _ = tokio::time::timeout(SHORT, sending).await;
    assert!(sent > 1 << 16 && sent < 32 << 20, "{sent} bytes are somewhere");
    // The client does not read: the target's bytes wait with it.
    let length = 64 << 20;
    target.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
    let response = soon(response).await.unwrap();
    let block = "y".repeat(1 << 20);
    let mut blocks = 0;
    let sending = async {
        while blocks < 64 {
            target.send(&block).await;
            blocks += 1;
        }
    };
    let _ = tokio::time::timeout(SHORT, sending).await;
    assert!(blocks < 32, "{blocks} MiB are somewhere");
    drop(response);
}

#[tokio::test]
async fn a_websocket_is_a_stream() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                  Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let target = Target::new(move |_| Act::Echo(answer.into())).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    until("the settings have come", || peer.send.is_extended_connect_protocol_enabled()).await;
    let mut asked = Request::connect("http://test/ws").body(()).unwrap();
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    asked.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    let (response, mut up) = peer.begin(asked, false).await;
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("sec-websocket-accept"), None);
    let head = target.head();
    assert!(head.starts_with("get /ws http/1.1\r\n") && head.contains("sec-websocket-key: "));
    let mut down = response.into_body();
    for text in ["ping", "pong"] {
        up.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
        assert_eq!(soon(down.data()).await.unwrap().unwrap(), text);
    }
    assert_eq!(world.in_flight(), 1, "a tunnel is an exchange under way");
    up.send_data(Bytes::new(), true).unwrap();
    while let Some(last) = soon(down.data()).await {
        assert!(last.unwrap().is_empty(), "it ends behind its last byte");
    }
    until("nothing is under way", || world.in_flight() == 0).await;
}
