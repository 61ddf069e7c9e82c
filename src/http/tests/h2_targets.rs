//! HTTP/2 to targets: what passes, how connections are shared, what happens when they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::super::head::PREFACE;
use super::super::limits::{PING_EVERY, UNHEARD};
use super::far::{Asked, Far, Way, map};
use super::floods::frame;
use super::h2::{Peer, answer, request, soon};
use super::world::*;
use crate::clock;
use crate::model::{Carrier, Protocol, ProtocolVersion};
use crate::state::Key;
use crate::tls::policy::RECOMMENDED;
use crate::tls::testing::{Client as Asking, certificate};
use crate::tls::{Alpn, Mutual, Policy, Server, Tickets};

fn plan() -> Plan {
    Plan { version: ProtocolVersion::Http2, ..Plan::of(Carrier::Native) }
}

async fn world(plan: Plan, far: &Far) -> World {
    let world = World::new(plan, &[]).await;
    world.register("a", far.address).await;
    world
}

/// Sends back what it got.
async fn echo(mut asked: Asked) {
    let method = asked.parts.method.to_string();
    let Ok((body, trailers)) = asked.read().await else { return };
    let sum = trailers.as_ref().and_then(|map| map.get("x-sum")).cloned();
    let length = body.len().to_string();
    let (sender, te) = (asked.header("x-forwarded-for"), asked.header("te"));
    let head = [
        ("x-method", method.as_str()),
        ("x-uri", &asked.parts.uri.to_string()),
        ("x-for", &sender),
        ("x-te", &te),
        ("x-length", &length),
    ];
    let sum = sum.as_ref().map_or("none", |sum| sum.to_str().unwrap());
    asked.answer(&head, &body, &[("x-sum", sum)]);
}

async fn messages_pass_with_bodies_and_trailers(carrier: Carrier) {
    let far = Far::new(echo).await;
    let world = world(Plan { carrier, ..plan() }, &far).await;
    let mut peer = Peer::new(&world).await;
    let port = world.key.address.port();
    for length in [0, 1, 70_000, 1_000_000] {
        let body = "x".repeat(length);
        let got = peer.post("/a?b", &body).await;
        assert!(got.status == 200 && got.body == body, "{length}: {}", got.body.len());
        assert_eq!(got.header("x-uri"), Some(format!("http://test:{port}/a?b").as_str()));
        assert_eq!(got.header("x-for"), Some("127.0.0.1"));
        assert_eq!(got.trailers.unwrap()["x-sum"], "none");
    }
    let mut asked = request(Method::PUT, "/");
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    let (response, mut up) = peer.begin(asked, false).await;
    up.send_data(Bytes::from_static(b"abc"), false).unwrap();
    up.send_trailers(map(&[("x-sum", "6")])).unwrap();
    let got = answer(soon(response).await.unwrap()).await.unwrap();
    assert_eq!((got.body.as_str(), got.header("x-te")), ("abc", Some("trailers")));
    assert_eq!(got.trailers.unwrap()["x-sum"], "6");
    drop(up);
    assert_eq!(far.connections(), 1, "one connection carries them all");
    assert_eq!(world.metric("roadstead_target_group_requests_total", "\"a\""), 5);
    drop(peer);
    world.at_rest().await;
}

async fn http_1_to_http_2_targets_is_464(carrier: Carrier) {
    let far = Far::new(echo).await;
    let world = world(Plan { carrier, ..plan() }, &far).await;
    let mut client = world.client().await;
    let response = client.get("/").await;
    assert_eq!(response.status(), 464);
    assert!(response.body.contains("Incompatible Protocol Versions"), "{}", response.body);
    assert_eq!(client.get("/").await.status(), 464, "the connection stays");
    assert_eq!(far.connections(), 0);
}

on_both_carriers!(messages_pass_with_bodies_and_trailers, http_1_to_http_2_targets_is_464);

#[tokio::test]
async fn a_connection_of_pingoras_gives_way_when_a_rule_leads_to_http_2_targets() {
    let (far, target) = (Far::new(echo).await, Target::new(|_| ok("old")).await);
    let default_action = Some(forward("b"));
    let plan = Plan { carrier: Carrier::Pingora, default_action, ..plan() };
    let world = World::new(plan, &[("b", &target)]).await;
    world.register("a", far.address).await;
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.get("/").await.body, "old");
    world.forward_to("a").await;
    assert_eq!(peer.get("/").await.status, 503);
    soon(peer.ended).await.unwrap().unwrap();
    assert_eq!(Peer::new(&world).await.post("/", "new").await.body, "new");
}

#[tokio::test]
async fn responses_without_body_interim_ones_and_lengths_pass() {
    let far = Far::new(|mut asked| async move {
        match asked.parts.uri.path() {
            "/interim" => {
                let mut hints = Response::new(());
                *hints.status_mut() = StatusCode::EARLY_HINTS;
                hints.headers_mut().insert("link", "</a>".parse().unwrap());
                asked.respond.send_informational(hints).unwrap();
                asked.answer(&[], b"done", &[]);
            }
            "/204" => {
                let mut head = Response::new(());
                *head.status_mut() = StatusCode::NO_CONTENT;
                asked.respond.send_response(head, true).unwrap();
            }
            "/length" => asked.answer(&[("content-length", "4")], b"four", &[("x-end", "yes")]),
            _ => asked.answer(&[("content-length", "9")], b"", &[]),
        }
    })
    .await;
    let world = world(plan(), &far).await;
    let mut peer = Peer::new(&world).await;
    let (mut response, _) = peer.begin(request(Method::GET, "/interim"), true).await;
    let interim = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    let interim = interim.unwrap().unwrap();
    assert_eq!(
        (interim.status().as_u16(), &interim.headers()["link"]),
        (103, &"</a>".parse().unwrap())
    );
    assert_eq!(answer(soon(response).await.unwrap()).await.unwrap().body, "done");
    let empty = peer.get("/204").await;
    assert_eq!((empty.status, empty.body.as_str()), (204, ""));
    let head = peer.ask(request(Method::HEAD, "/"), "").await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("9")));
    let long = peer.get("/length").await;
    assert_eq!((long.body.as_str(), long.header("content-length")), ("four", Some("4")));
    assert_eq!(long.trailers.unwrap()["x-end"], "yes");
    assert_eq!(far.connections(), 1);
}

/// Answers when it may.
async fn held(streams: u32) -> (Far, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let (open, count) = (Arc::clone(&gate), Arc::clone(&began));
    let act = move |mut asked: Asked| {
        let open = Arc::clone(&open);
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            open.acquire().await.unwrap().forget();
            asked.answer(&[], b"late", &[]);
        }
    };
    (Far::with(act, streams, None).await, gate, began)
}

#[tokio::test]
async fn a_full_connection_gets_another_beside_it() {
    for (streams, asked, expected) in [(1000, 100, 1), (1000, 120, 2), (10, 30, 3)] {
        let (far, gate, began) = held(streams).await;
        let world = world(plan(), &far).await;
        let mut peer = Peer::new(&world).await;
        let mut waiting = Vec::new();
        for _ in 0..asked {
            waiting.push(peer.begin(request(Method::GET, "/"), true).await.0);
        }
        until("all have begun", || began.load(Ordering::SeqCst) == asked).await;
        assert_eq!(far.connections(), expected, "{asked} on connections of {streams}");
        gate.add_permits(asked);
        for response in waiting {
            assert_eq!(answer(soon(response).await.unwrap()).await.unwrap().body, "late");
        }
    }
}

#[tokio::test]
async fn a_client_that_gives_up_ends_its_stream_alone() {
    let (reset, seen) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (count, began) = (Arc::clone(&reset), Arc::clone(&seen));
    let far = Far::new(move |mut asked: Asked| {
        let count = Arc::clone(&count);
        began.fetch_add(1, Ordering::SeqCst);
        async move {
            if asked.parts.uri.path() == "/" {
                return asked.answer(&[], b"ok", &[]);
            }
            let reason = std::future::poll_fn(|cx| asked.respond.poll_reset(cx)).await.unwrap();
            assert_eq!(reason, Reason::CANCEL);
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let world = world(plan(), &far).await;
    let mut peer = Peer::new(&world).await;
    let (response, mut up) = peer.begin(request(Method::POST, "/wait"), false).await;
    let (other, _) = peer.begin(request(Method::GET, "/wait"), true).await;
    until("both are there", || seen.load(Ordering::SeqCst) == 2).await;
    up.send_reset(Reason::CANCEL);
    drop((response, other));
    until("both were reset", || reset.load(Ordering::SeqCst) == 2).await;
    until("nothing is under way", || world.in_flight() == 0).await;
    assert_eq!(peer.get("/").await.body, "ok");
    assert_eq!(far.connections(), 1);
}

#[tokio::test]
async fn what_a_target_has_not_looked_at_is_sent_again() {
    let tries = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&tries);
    let far = Far::new(move |mut asked: Asked| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                return asked.respond.send_reset(Reason::REFUSED_STREAM);
            }
            let (body, _) = asked.read().await.unwrap();
            asked.answer(&[], &body, &[]);
        }
    })
    .await;
    let world = world(plan(), &far).await;
    let mut peer = Peer::new(&world).await;
    // Whatever its method: nothing was done with it.
    assert_eq!(peer.post("/", "body").await.body, "body");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    assert_eq!(world.metric("roadstead_target_group_retries_total", "\"a\""), 1);
}

#[tokio::test]
async fn a_farewell_ends_what_runs_and_takes_nothing_new() {
    let (far, gate, began) = held(1000).await;
    let world = world(plan(), &far).await;
    let mut peer = Peer::new(&world).await;
    let (first, _) = peer.begin(request(Method::GET, "/"), true).await;
    until("it has begun", || began.load(Ordering::SeqCst) == 1).await;
    far.farewell.notify_waiters();
    // Whether it crosses the farewell or comes behind it: it goes to a new connection.
    let (second, _) = peer.begin(request(Method::POST, "/"), true).await;
    until("the next one has begun", || began.load(Ordering::SeqCst) == 2).await;
    assert_eq!(far.connections(), 2);
    gate.add_permits(2);
    for response in [first, second] {
        assert_eq!(answer(soon(response).await.unwrap()).await.unwrap().body, "late");
    }
    until("the old connection has ended", || far.open() == 1).await;
}

#[tokio::test]
async fn a_reset_reaches_the_client_with_its_reason() {
    let far = Far::new(|mut asked: Asked| async move {
        if asked.parts.uri.path() == "/early" {
            return asked.respond.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
        let mut body = asked.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let _ = asked.body.data().await;
        body.send_reset(Reason::ENHANCE_YOUR_CALM);
    })
    .await;
    let world = world(plan(), &far).await;
    let mut peer = Peer::new(&world).await;
    let (response, mut up) = peer.begin(request(Method::POST, "/"), false).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "half");
    up.send_data(Bytes::from_static(b"go on"), false).unwrap();
    let error = soon(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    // Before there is a response, ours can be given.
    assert_eq!(peer.post("/early", "x").await.status, 502);
}

#[tokio::test]
async fn a_target_that_speaks_http_1_gets_no_request() {
    let target = Target::new(|_| ok("never")).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let got = Peer::new(&world).await.post("/", "body").await;
    assert_eq!(got.status, 502);
    let seen = target.seen.requests.lock().unwrap();
    assert!(seen.iter().all(|request| !request.head.contains("HTTP/1.1")), "{seen:?}");
    drop(seen);
    assert!(world.metric("roadstead_target_group_connection_errors_total", "\"a\"") > 0);
}

#[tokio::test]
async fn a_slow_reader_holds_its_target_back() {
    let sent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&sent);
    let far = Far::new(move |mut asked: Asked| {
        let count = Arc::clone(&count);
        async move {
            if asked.parts.uri.path() == "/small" {
                return asked.answer(&[], b"small", &[]);
            }
            let mut body = asked.respond.send_response(Response::new(()), false).unwrap();
            for _ in 0..192 {
                body.reserve_capacity(16_384);
                while body.capacity() < 16_384 {
                    let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                    if granted.is_none() {
                        return;
                    }
                }
                body.send_data(Bytes::from(vec![b'x'; 16_384]), false).unwrap();
                count.fetch_add(16_384, Ordering::SeqCst);
            }
            body.send_data(Bytes::new(), true).unwrap();
        }
    })
    .await;
    let world = world(plan(), &far).await;
    // It has room for others beside the stream that it does not read.
    let mut settings = h2::client::Builder::new();
    settings.initial_connection_window_size(1 << 20);
    let mut peer = Peer::with(&world, &settings).await;
    let (response, _) = peer.begin(request(Method::GET, "/"), true).await;
    let response = soon(response).await.unwrap();
    // What others want goes past it.
    assert_eq!(peer.get("/small").await.body, "small");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = sent.load(Ordering::SeqCst);
    assert!(before < 1 << 20, "{before} bytes of 3 MiB went to a client that reads nothing");
    assert_eq!(answer(response).await.unwrap().body.len(), 3 << 20);
}

#[tokio::test]
async fn draining_closes_what_rests_and_a_removed_target_is_cut() {
    let (far, gate, began) = held(1000).await;
    let world = World::new(plan(), &[]).await;
    let id = world.register("a", far.address).await;
    let mut peer = Peer::new(&world).await;
    let (first, _) = peer.begin(request(Method::GET, "/"), true).await;
    let (second, _) = peer.begin(request(Method::GET, "/"), true).await;
    until("both have begun", || began.load(Ordering::SeqCst) == 2).await;
    world.drain(id).await;
    gate.add_permits(1);
    assert_eq!(answer(soon(first).await.unwrap()).await.unwrap().body, "late");
    assert_eq!((far.open(), world.in_flight()), (1, 1), "what runs goes on");
    world.remove(vec![Key::Verdict(id), Key::Target(id)]).await;
    let cut = answer(soon(second).await.unwrap()).await.unwrap();
    assert_eq!(cut.status, 502);
    until("the connection is closed", || far.open() == 0).await;
    // One that rests when the draining begins.
    let id = world.register("a", far.address).await;
    gate.add_permits(1);
    assert_eq!(peer.get("/").await.body, "late");
    assert_eq!((far.open(), world.plane.pooled()), (1, 1));
    world.drain(id).await;
    until("it was closed", || far.open() == 0 && world.plane.pooled() == 0).await;
}

fn server(alpn: &'static [Alpn]) -> Server {
    let named = vec![(Arc::from(""), certificate(&["target"], false).identity())];
    let policy = Policy::find(RECOMMENDED).unwrap();
    Server::new(named, policy, alpn, &Tickets::new().unwrap(), Mutual::Off).unwrap()
}

#[tokio::test]
async fn http_2_is_agreed_on_over_tls_on_both_sides_or_not_spoken() {
    let far = Far::with(echo, 1000, Some(server(&[Alpn::H2, Alpn::Http1]))).await;
    let certificates = vec![certificate(&["test"], false)];
    let plan = || Plan { protocol: Protocol::Https, certificates: certificates.clone(), ..plan() };
    let secure = world(plan(), &far).await;
    let stream = Asking::new(&["h2"], "", "").dial(secure.key.address, "test").await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    let got = peer.post("/", "hello").await;
    assert_eq!((got.status, got.body.as_str()), (200, "hello"));
    assert!(got.header("x-uri").unwrap().starts_with("https://test:"), "{got:?}");
    let old = Far::with(echo, 1000, Some(server(&[Alpn::Http1]))).await;
    let world = world(plan(), &old).await;
    let stream = Asking::new(&["h2"], "", "").dial(world.key.address, "test").await.unwrap();
    let got = Peer::over(stream, &h2::client::Builder::new()).await.get("/").await;
    assert_eq!(got.status, 502);
}

/// A target that can be made silent, with a link to it that has carried one request.
async fn linked() -> (Far, Way, World, Peer) {
    let far = Far::new(echo).await;
    let way = Way::to(far.address).await;
    let world = World::new(plan(), &[]).await;
    world.register("a", way.address).await;
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.post("/", "one").await.body, "one");
    (far, way, world, peer)
}

#[tokio::test]
async fn no_request_is_lost_on_a_link_whose_target_went_silent() {
    let (far, way, world, mut peer) = linked().await;
    tokio::time::sleep(UNHEARD).await;
    assert_eq!(peer.post("/", "two").await.body, "two");
    assert_eq!(far.connections(), 1, "who answers is not left");
    way.silence();
    tokio::time::sleep(UNHEARD).await;
    // Not idempotent: sent on the silent link it would be lost.
    assert_eq!(peer.post("/", "three").await.body, "three");
    assert_eq!(far.connections(), 2);
    assert_eq!(world.metric("roadstead_target_group_retries_total", "\"a\""), 0);
}

#[tokio::test]
async fn a_link_at_rest_whose_target_went_silent_is_given_up() {
    let (_far, way, world, _peer) = linked().await;
    assert_eq!(world.plane.pooled(), 1);
    way.silence();
    tokio::time::pause();
    let begun = clock::instant();
    until("it was given up", || world.plane.pooled() == 0).await;
    assert!(begun.elapsed() >= PING_EVERY, "{:?}", begun.elapsed());
}

/// Answers PINGs and requests, frame by frame; counts the PINGs.
async fn count_pings(mut stream: TcpStream, pings: Arc<AtomicUsize>) {
    stream.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        let number = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let answer = match head[3] {
            // :status 200, and the end.
            1 => frame(1, 5, number, &[0x88]),
            4 if head[4] == 0 => frame(4, 1, 0, &[]),
            6 if head[4] == 0 => {
                pings.fetch_add(1, Ordering::SeqCst);
                frame(6, 1, 0, &payload)
            }
            _ => continue,
        };
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn pings_are_fewer_than_what_grpcs_servers_take_for_a_flood() {
    let (world, listener) = by_hand(plan()).await;
    let pings = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&pings);
    let target = tokio::spawn(async move {
        count_pings(listener.accept().await.unwrap().0, count).await;
    });
    let sent = || pings.load(Ordering::SeqCst);
    let exchange = async || assert_eq!(Peer::new(&world).await.get("/").await.status, 200);
    let rest = async || {
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(600)).await;
        tokio::time::resume();
    };
    exchange().await;
    assert_eq!(sent(), 1, "each link begins with one");
    rest().await;
    assert_eq!(sent(), 3, "two, and no more, while it rests");
    exchange().await;
    assert_eq!(sent(), 4, "and one before it is trusted again");
    rest().await;
    assert_eq!(sent(), 6);
    target.abort();
}
