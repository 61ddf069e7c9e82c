//! What happens when something ends that should not, and that nothing is counted any more
//! afterwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::head;
use super::world::*;
use crate::model::Carrier;
use crate::state::Key;

/// Short enough to wait for, long enough for a slow machine to do in time what it should.
const SHORT: Duration = Duration::from_secs(1);

fn short(carrier: Carrier) -> Plan {
    Plan { idle_timeout: SHORT, ..Plan::of(carrier) }
}

async fn refused_connections_go_to_another_target(carrier: Carrier) {
    let target = Target::new(|_| ok("well")).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    world.register("a", nobody()).await;
    let mut client = world.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.body, "well");
        assert_eq!(client.post("/", "x").await.body, "well", "nothing was sent to the first one");
    }
    assert!(world.metric("roadstead_target_group_retries_total", "\"a\"") >= 9);
    assert!(world.metric("roadstead_target_group_connection_errors_total", "\"a\"") >= 9);
    assert_eq!(world.in_flight(), 0);
}

async fn refused_by_everybody_is_502(carrier: Carrier) {
    let world = World::new(Plan::of(carrier), &[]).await;
    world.register("a", nobody()).await;
    let mut client = world.client().await;
    let response = client.get("/").await;
    assert_eq!((response.status(), response.header("connection")), (502, Some("close")));
    assert!(response.body.contains("502 Bad Gateway"), "{response:?}");
    assert!(client.ended().await);
    world.at_rest().await;
}

async fn only_idempotent_requests_are_replayed(carrier: Carrier) {
    let bad = Target::new(|_| Act::Last(String::new())).await;
    let good = Target::new(|_| ok("well")).await;
    let world = World::new(Plan::of(carrier), &[("a", &bad), ("a", &good)]).await;
    for _ in 0..4 {
        assert_eq!(world.get("/").await.body, "well");
    }
    let before = bad.requests() + good.requests();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.client().await.post("/", "x").await.status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!(bad.requests() + good.requests() - before, 4, "each was sent once");
    // A body within the buffer goes along.
    for _ in 0..2 {
        let mut client = world.client().await;
        client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(client.response().await.body, "well");
    }
    assert_eq!(good.seen.requests.lock().unwrap().last().unwrap().body, "body");
    world.at_rest().await;
}

async fn pooled_connections_that_closed_are_no_clients_matter(carrier: Carrier) {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
    let target = Target::new(|_| Act::Once(answer.into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.body, "well");
    }
    assert_eq!(world.in_flight(), 0);
    // Closed while it rested: never used at all.
    let closing =
        Target::new(|_| Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &closing)]).await;
    let mut client = world.client().await;
    for _ in 0..10 {
        assert_eq!(client.post("/", "x").await.status(), 200);
        until("the target has closed", || closing.seen.open.load(Ordering::SeqCst) == 0).await;
    }
}

async fn silent_target_is_504(carrier: Carrier) {
    let target = Target::new(|_| Act::Silence).await;
    let world = World::new(short(carrier), &[("a", &target)]).await;
    let response = world.get("/").await;
    assert_eq!((response.status(), response.header("connection")), (504, Some("close")));
    assert_eq!(target.requests(), 1, "it is not asked again");
    world.at_rest().await;
}

async fn bad_answers_are_502(carrier: Carrier) {
    let long = format!("X: {}\r\n", "x".repeat(1000)).repeat(40);
    for answer in [
        "nonsense\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{long}Content-Length: 0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
    ] {
        let target = Target::new(move |_| Act::Last(answer.clone())).await;
        let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
        assert_eq!(world.get("/").await.status(), 502);
        assert_eq!(target.requests(), 1);
        world.at_rest().await;
    }
}

async fn half_answers_do_not_look_whole(carrier: Carrier) {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nab");
        let target = Target::new(move |_| Act::Last(text.clone())).await;
        let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
        let mut client = world.client().await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert!(client.message().await.is_none(), "{head}");
        assert_eq!(target.requests(), 1);
        world.at_rest().await;
    }
}

async fn trickling_does_not_extend_the_heads_deadline(carrier: Carrier) {
    let world = World::new(short(carrier), &[]).await;
    let mut client = world.client().await;
    let begun = crate::clock::instant();
    let text = "GET / HTTP/1.1\r\nHost: t\r\nX: ".to_owned() + &"x".repeat(10_000);
    for byte in text.chars() {
        client.send(&byte.to_string()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        if begun.elapsed() > SHORT * 2 {
            break;
        }
    }
    let response = client.response().await;
    assert_eq!((response.status(), response.header("connection")), (408, Some("close")));
    world.at_rest().await;
}

async fn silence_is_answered_with_silence(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(short(carrier), &[("a", &target)]).await;
    let mut fresh = world.client().await;
    let mut used = world.client().await;
    assert_eq!(used.get("/").await.status(), 200);
    assert!(fresh.ended().await && used.ended().await);
    world.at_rest().await;
}

async fn stalled_body_is_408(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(short(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc").await;
    assert_eq!(client.response().await.status(), 408);
    drop(client);
    world.at_rest().await;
}

async fn what_alb_refuses_is_refused(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let long = "a".repeat(head::HEADER);
    let many = format!("X: {}\r\n", "x".repeat(1000)).repeat(70);
    let addresses = vec!["1.2.3.4"; 31].join(", ");
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: t\r\nX: {long}\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: t\r\n{many}\r\n"), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: t\r\n\r\n"), 414),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {addresses}\r\n\r\n"), 463),
    ] {
        let mut client = world.client().await;
        client.send(&request).await;
        assert_eq!(client.response().await.status(), status, "{:.60}", request);
    }
    assert_eq!(target.requests(), 0);
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"400\""), 5);
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"414\""), 1);
    assert_eq!(world.metric("roadstead_listener_requests_total", "4xx"), 8);
}

async fn both_kinds_of_framing_end_both_connections(carrier: Carrier) {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    for _ in 0..2 {
        let mut client = world.client().await;
        client
            .send(
                "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\
                 Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            )
            .await;
        let response = client.response().await;
        assert_eq!((response.body.as_str(), response.header("connection")), ("hi", Some("close")));
    }
    assert_eq!(target.connections(), 2);
}

async fn client_that_goes_frees_its_target(carrier: Carrier) {
    let target = Target::new(|_| Act::Silence).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut waiting = world.client().await;
    waiting.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut sending = world.client().await;
    sending.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc").await;
    until("both are under way", || world.in_flight() == 2).await;
    until("one has arrived", || target.requests() == 1).await;
    drop((waiting, sending));
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "\"460\""), 1);
    until("the target's connections ended", || target.seen.open.load(Ordering::SeqCst) == 0).await;
}

async fn target_that_goes_ends_the_tunnel(carrier: Carrier) {
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye";
    let target = Target::new(move |_| Act::Last(answer.into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert_eq!(client.rest().await, "bye");
    drop(client);
    world.at_rest().await;
}

async fn closing_ends_connections_behind_their_exchange(carrier: Carrier) {
    let target = Target::new(|request| match request.head.starts_with("POST") {
        true => ok("late"),
        false => ok("early"),
    })
    .await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let (mut idle, mut busy) = (world.client().await, world.client().await);
    assert_eq!(idle.get("/").await.body, "early");
    busy.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab").await;
    until("it is under way", || world.in_flight() == 1).await;
    world.closing.cancel();
    assert!(idle.ended().await);
    busy.send("cd").await;
    let response = busy.response().await;
    assert_eq!((response.body.as_str(), response.header("connection")), ("late", Some("close")));
    assert!(busy.ended().await);
    // What is accepted all the same gets its answer.
    let last = world.get("/").await;
    assert_eq!((last.status(), last.header("connection")), (200, Some("close")));
    world.at_rest().await;
}

async fn old_connections_are_told_to_close(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let plan = Plan { client_keep_alive: SHORT, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let begun = crate::clock::instant();
    let mut client = world.client().await;
    while client.get("/").await.header("connection") == Some("keep-alive") {
        assert!(begun.elapsed() < PATIENCE, "it may grow as old as it likes");
        tokio::time::sleep(SHORT / 20).await;
    }
    assert!(begun.elapsed() >= SHORT);
    assert!(client.ended().await);
}

async fn unread_body_does_not_reset_the_answer(carrier: Carrier) {
    let world = World::new(Plan::of(carrier), &[]).await;
    let mut client = world.client().await;
    let body = "x".repeat(1 << 20);
    let response = client.post("/", &body).await;
    assert_eq!((response.status(), response.header("connection")), (503, Some("close")));
    drop(client);
    world.at_rest().await;
}

async fn exchange_is_cut_when_the_deregistration_delay_of_its_target_is_over(carrier: Carrier) {
    let other = Target::new(|_| ok("")).await;
    for request in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 0\r\n"] {
        let target = Target::new(|request| match request.head.starts_with("PUT") {
            true => ok(""),
            false => Act::Silence,
        })
        .await;
        let world = World::new(Plan::of(carrier), &[]).await;
        let id = world.register("a", target.address).await;
        let mut client = world.client().await;
        // Out of the pool is what would be replayed first.
        client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.response().await.status(), 200);
        client.send(&format!("{request}Host: x.example\r\n\r\n")).await;
        until("the target has the request", || target.requests() == 2).await;
        world.register("a", other.address).await;
        world.drain(id).await;
        assert_eq!(world.in_flight(), 1, "a draining target finishes what it has");
        world.remove(vec![Key::Target(id)]).await;
        assert_eq!(client.response().await.status(), 502);
        world.at_rest().await;
        assert_eq!(target.connections(), 1);
    }
    assert_eq!(other.requests(), 0, "ALB replays nothing either");
}

async fn a_retry_goes_over_a_new_connection(carrier: Carrier) {
    let (world, listener) = by_hand(Plan::of(carrier)).await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let mut client = world.client().await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let mut target = accept(&listener).await;
        target.head().await.unwrap();
        pairs.push((client, target));
    }
    let mut clients = Vec::new();
    for (mut client, mut target) in pairs {
        target.send(answer).await;
        assert_eq!(client.response().await.body, "well");
        clients.push(client);
        // Dies with the next request.
        tokio::spawn(async move { drop(target.head().await) });
    }
    until("all three rest", || world.plane.pooled() == 3 && world.in_flight() == 0).await;
    // The second retry finds two dead ones, and not the connection of the first.
    for _ in 0..2 {
        clients[0].send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let mut target = accept(&listener).await;
        target.head().await.unwrap();
        target.send(answer).await;
        assert_eq!(clients[0].response().await.body, "well");
        tokio::spawn(async move { drop(target.head().await) });
    }
}

on_both_carriers!(
    refused_connections_go_to_another_target,
    refused_by_everybody_is_502,
    only_idempotent_requests_are_replayed,
    pooled_connections_that_closed_are_no_clients_matter,
    silent_target_is_504,
    bad_answers_are_502,
    half_answers_do_not_look_whole,
    trickling_does_not_extend_the_heads_deadline,
    silence_is_answered_with_silence,
    stalled_body_is_408,
    what_alb_refuses_is_refused,
    both_kinds_of_framing_end_both_connections,
    client_that_goes_frees_its_target,
    target_that_goes_ends_the_tunnel,
    closing_ends_connections_behind_their_exchange,
    old_connections_are_told_to_close,
    unread_body_does_not_reset_the_answer,
    exchange_is_cut_when_the_deregistration_delay_of_its_target_is_over,
    a_retry_goes_over_a_new_connection,
);
