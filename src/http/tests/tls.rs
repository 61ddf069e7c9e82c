//! The same exchanges over TLS, on either side.

use std::sync::Arc;

use super::world::*;
use crate::model::{Carrier, Protocol};
use crate::tls::policy::RECOMMENDED;
use crate::tls::testing::{Client as Asking, Pem, certificate, shown};
use crate::tls::{Mutual, Policy, Server, Tickets};

pub(super) fn plan(carrier: Carrier) -> Plan {
    Plan { certificates: vec![certificate(&["test"], false)], ..Plan::of(carrier) }
}

pub(super) fn asking() -> Asking {
    Asking::new(&["http/1.1"], "", "")
}

async fn exchanges_pass_over_tls(carrier: Carrier) {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(plan(carrier), &[("a", &target)]).await;
    let mut client = world.secure_client(&asking()).await;
    for length in [0, 1, 20_000, 70_000, 300_000] {
        let body = "x".repeat(length);
        let response = client.post("/", &body).await;
        assert!(response.status() == 200 && response.body == body, "{length}");
    }
    let head = target.head();
    let port = format!("x-forwarded-port: {}", world.key.address.port());
    assert!(head.contains("x-forwarded-proto: https\r\n") && head.contains(&port), "{head}");
    drop(client);
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_requests_total", "2xx"), 5);
    assert_eq!(world.metric("roadstead_listener_tls_handshakes_total", "full"), 1);
}

async fn a_response_that_ends_the_connection_ends_it_with_a_goodbye(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let world = World::new(plan(carrier), &[("a", &target)]).await;
    let mut client = world.secure_client(&asking()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.response().await.body, "hello");
    let end = tokio::io::AsyncReadExt::read(&mut client.stream, &mut [0; 1]).await;
    assert_eq!(end.unwrap(), 0);
}

async fn the_log_tells_what_was_agreed_on(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let plan = Plan { log: true, ..plan(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    world.secure_client(&Asking::new(&[], "1.2", "")).await.get("/x").await;
    let line = world.logged(1).await.remove(0);
    assert!(line.starts_with("https "), "{line}");
    for part in [
        "\"GET https://test:",
        " ECDHE-ECDSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:",
        " \"test\" \"arn:0\" 0 ",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

async fn a_new_certificate_is_shown_to_new_connections_and_cuts_no_old_one(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(plan(carrier), &[("a", &target)]).await;
    let mut old = world.secure_client(&asking()).await;
    assert_eq!(old.get("/").await.status(), 200);
    world.present(&[certificate(&["test", "new.test"], false)]).await;
    let mut new = world.secure_client(&asking()).await;
    assert_eq!(shown(&old.stream), "test");
    assert_eq!(shown(&new.stream), "test new.test");
    for client in [&mut old, &mut new] {
        assert_eq!(client.get("/").await.status(), 200);
    }
}

async fn what_is_no_handshake_is_counted_and_no_request(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(plan(carrier), &[("a", &target)]).await;
    world.client().await.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let malformed = || world.metric("roadstead_listener_tls_errors_total", "malformed");
    until("the failure is counted", || malformed() == 1).await;
    world.at_rest().await;
    assert_eq!(target.requests(), 0);
}

async fn silent_handshakes_stop_nobody_else(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let world = World::new(plan(carrier), &[("a", &target)]).await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut client = world.client().await;
        // Some of them begin a hello and never end it.
        client.send_bytes(&[22, 3, 1, 1, 0][..n % 6]).await;
        silent.push(client);
    }
    for _ in 0..5 {
        let mut client = world.secure_client(&asking()).await;
        assert_eq!(client.get("/").await.body, "hello");
    }
    drop(silent);
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_tls_errors_total", "closed"), 200);
}

/// What shows this certificate.
pub(super) fn server(pem: &Pem) -> Option<Server> {
    let named = vec![(Arc::from(""), pem.identity())];
    let policy = Policy::find(RECOMMENDED).unwrap();
    Some(Server::new(named, policy, &[], &Tickets::new().unwrap(), Mutual::Off).unwrap())
}

async fn targets_are_reached_over_tls_whatever_their_certificate(carrier: Carrier) {
    let target = {
        let pem = certificate(&["target"], true);
        Target::with(|request| ok(&request.body), server(&pem)).await
    };
    let plan = Plan { protocol: Protocol::Https, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.client().await;
    for length in [0, 100_000] {
        let body = "x".repeat(length);
        let response = client.post("/", &body).await;
        assert!(response.status() == 200 && response.body == body, "{length}");
    }
    // Pingora cannot keep such connections.
    let connections = if carrier == Carrier::Native { 1 } else { 2 };
    assert_eq!(target.connections(), connections);
    drop(client);
    world.at_rest().await;
}

async fn a_target_without_tls_is_a_502(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let plan = Plan { protocol: Protocol::Https, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    assert_eq!(world.get("/").await.status(), 502);
    world.at_rest().await;
}

on_both_carriers!(
    exchanges_pass_over_tls,
    a_response_that_ends_the_connection_ends_it_with_a_goodbye,
    the_log_tells_what_was_agreed_on,
    a_new_certificate_is_shown_to_new_connections_and_cuts_no_old_one,
    what_is_no_handshake_is_counted_and_no_request,
    silent_handshakes_stop_nobody_else,
    targets_are_reached_over_tls_whatever_their_certificate,
    a_target_without_tls_is_a_502,
);
