//! gRPC calls: who takes them, how what goes wrong is told, how they end with their target.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;

use super::far::{Asked, Far, call, map, status};
use super::h2::{Peer, answer, request, soon};
use super::world::*;
use crate::model::{Carrier, ProtocolVersion};
use crate::state::Key;

fn plan(version: ProtocolVersion) -> Plan {
    Plan { version, ..Plan::of(Carrier::Native) }
}

/// Ends well, with what it got.
async fn echo(mut asked: Asked) {
    let Ok((body, _)) = asked.read().await else { return };
    let te = asked.header("te");
    let head = [("content-type", "application/grpc"), ("x-te", te.as_str())];
    asked.answer(&head, &body, &[("grpc-status", "0"), ("grpc-message", "fine")]);
}

#[tokio::test]
async fn calls_pass_to_grpc_and_http_2_targets() {
    for version in [ProtocolVersion::Grpc, ProtocolVersion::Http2] {
        let far = Far::new(echo).await;
        let plan = Plan { log: true, ..plan(version) };
        let world = World::new(plan, &[]).await;
        world.register("a", far.address).await;
        let mut peer = Peer::new(&world).await;
        let got = peer.ask(call("/a.B/C"), "\0\0\0\0\0").await.unwrap();
        assert_eq!((got.status, got.body.len(), got.header("x-te")), (200, 5, Some("trailers")));
        assert_eq!(got.trailers.unwrap()["grpc-status"], "0");
        assert_eq!(world.metric("roadstead_listener_grpc_requests_total", "front"), 1);
        drop(peer);
        let line = world.logged(1).await.remove(0);
        assert!(line.starts_with("grpcs ") && line.contains(" 200 200 "), "{line}");
        assert!(line.contains("/a.B/C HTTP/2.0\""), "{line}");
    }
}

async fn what_does_not_fit_is_464(carrier: Carrier) {
    let target = Target::new(|_| ok("never")).await;
    let plan = Plan { log: true, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let (response, _) = peer.begin(call("/a.B/C"), true).await;
    assert_eq!(status(response).await, "200 12 in head");
    assert_eq!(target.requests(), 0);
    drop(peer);
    let line = world.logged(1).await.remove(0);
    assert_eq!(world.metric("roadstead_listener_requests_total", "4xx"), 1);
    assert!(line.contains(" 464 - ") && line.contains("\"ProtocolVersionMismatch\""), "{line}");
}

on_both_carriers!(what_does_not_fit_is_464);

#[tokio::test]
async fn grpc_targets_take_posts_alone() {
    let far = Far::new(echo).await;
    let world = World::new(plan(ProtocolVersion::Grpc), &[]).await;
    world.register("a", far.address).await;
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.get("/").await.status, 464);
    let mut odd = call("/a.B/C");
    *odd.method_mut() = http::Method::GET;
    let (response, _) = peer.begin(odd, true).await;
    assert_eq!(status(response).await, "200 12 in head");
    assert_eq!(far.connections(), 0);
    let plain = peer.ask(request(http::Method::POST, "/a.B/C"), "x").await.unwrap();
    assert_eq!((plain.status, plain.body.as_str()), (200, "x"));
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_grpcs_words() {
    let far = Far::new(|mut asked: Asked| async move {
        match asked.parts.uri.path() {
            "/only" => asked.answer(&[("grpc-status", "5")], b"", &[]),
            "/reset" => asked.respond.send_reset(Reason::INTERNAL_ERROR),
            _ => std::future::pending().await,
        }
    })
    .await;
    let world = World::new(plan(ProtocolVersion::Grpc), &[]).await;
    let mut peer = Peer::new(&world).await;
    let (response, _) = peer.begin(call("/nobody"), true).await;
    assert_eq!(status(response).await, "200 14 in head", "503");
    let id = world.register("a", nobody()).await;
    let (response, _) = peer.begin(call("/refused"), true).await;
    assert_eq!(status(response).await, "200 14 in head", "502");
    world.remove(vec![Key::Verdict(id), Key::Target(id)]).await;
    world.register("a", far.address).await;
    for (path, expected) in [("/only", "200 5 in head"), ("/reset", "200 14 in head")] {
        let (response, _) = peer.begin(call(path), true).await;
        assert_eq!(status(response).await, expected, "{path}");
    }
    let mut far_away = call("/far");
    let list = vec!["1.2.3.4"; 31].join(",");
    far_away.headers_mut().insert("x-forwarded-for", list.parse().unwrap());
    let (response, _) = peer.begin(far_away, true).await;
    assert_eq!(status(response).await, "200 2 in head", "463");
    let long = call(&format!("/{}", "x".repeat(17_000)));
    let (response, _) = peer.begin(long, true).await;
    assert_eq!(status(response).await, "200 2 in head", "414");
    let plan = Plan { idle_timeout: Duration::from_secs(1), ..plan(ProtocolVersion::Grpc) };
    let world = World::new(plan, &[]).await;
    world.register("a", far.address).await;
    let (response, _) = Peer::new(&world).await.begin(call("/silent"), true).await;
    assert_eq!(status(response).await, "200 14 in head", "504");
}

/// Answers each message with itself, and never ends by itself.
async fn talk(mut asked: Asked) {
    let mut head = Response::new(());
    *head.headers_mut() = map(&[("content-type", "application/grpc")]);
    let mut out = asked.respond.send_response(head, false).unwrap();
    while let Some(Ok(bytes)) = asked.body.data().await {
        let _ = asked.body.flow_control().release_capacity(bytes.len());
        if out.send_data(bytes, false).is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_stream_outlives_the_draining_and_ends_with_a_status_when_it_is_cut() {
    let far = Far::new(talk).await;
    let world = World::new(plan(ProtocolVersion::Grpc), &[]).await;
    let id = world.register("a", far.address).await;
    let mut peer = Peer::new(&world).await;
    let (response, mut up) = peer.begin(call("/a.B/Talk"), false).await;
    let mut down = soon(response).await.unwrap().into_body();
    for word in ["before", "again"] {
        up.send_data(Bytes::from_static(word.as_bytes()), false).unwrap();
        assert_eq!(soon(down.data()).await.unwrap().unwrap(), word);
        world.drain(id).await;
    }
    let (other, _) = peer.begin(call("/a.B/C"), true).await;
    assert_eq!(status(other).await, "200 14 in head", "nobody is left for new calls");
    world.remove(vec![Key::Verdict(id), Key::Target(id)]).await;
    assert!(soon(down.data()).await.is_none(), "no half of a message");
    let trailers = soon(down.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    until("nothing is under way", || world.in_flight() == 0 && far.open() == 0).await;
    drop((peer, up, down));
    world.at_rest().await;
}

#[tokio::test]
async fn a_target_that_dies_ends_its_calls_with_a_status() {
    let died = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&died);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new(plan(ProtocolVersion::Grpc), &[]).await;
    world.register("a", listener.local_addr().unwrap()).await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let rest = async { while connection.accept().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(300), rest).await;
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut peer = Peer::new(&world).await;
    let (response, _) = peer.begin(call("/a.B/C"), true).await;
    let got = answer(soon(response).await.unwrap()).await.unwrap();
    assert_eq!(
        (got.body.as_str(), &got.trailers.unwrap()["grpc-status"]),
        ("half", &"14".parse().unwrap())
    );
    assert_eq!(died.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_may_be_as_slow_as_they_like() {
    let far = Far::new(talk).await;
    let plan = Plan { idle_timeout: Duration::from_secs(3), ..plan(ProtocolVersion::Grpc) };
    let world = World::new(plan, &[]).await;
    world.register("a", far.address).await;
    let mut peer = Peer::new(&world).await;
    let (response, mut up) = peer.begin(call("/a.B/Talk"), false).await;
    let mut down = soon(response).await.unwrap().into_body();
    // One byte each half second is far below what a body has to have.
    for _ in 0..10 {
        up.send_data(Bytes::from_static(b"x"), false).unwrap();
        assert_eq!(soon(down.data()).await.unwrap().unwrap(), "x");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(soon(down.data()).await.is_none(), "silence ends it");
    assert_eq!(soon(down.trailers()).await.unwrap().unwrap()["grpc-status"], "14");
}
