//! Requests that wait: for a target that is busy, and for the first target there is.

use std::time::Duration;

use super::world::*;
use crate::clock;
use crate::model::{Carrier, GroupRouting, Waiting};

fn one_at_a_time(requests: u32, timeout: Duration) -> GroupRouting {
    let queue = Waiting { requests, timeout };
    GroupRouting { target_concurrency: Some(1), queue, ..GroupRouting::default() }
}

fn waiting(world: &World, why: &str) -> u64 {
    world.metric("roadstead_target_group_waiting_requests", &format!("\"a\",why=\"{why}\""))
}

fn refused(world: &World, why: &str) -> u64 {
    world.metric("roadstead_target_group_wait_refused_total", &format!("\"a\",why=\"{why}\""))
}

async fn a_target_has_no_more_exchanges_than_it_may(carrier: Carrier) {
    let routing = one_at_a_time(10, PATIENCE);
    let (world, listener) = by_hand(Plan { routing, ..Plan::of(carrier) }).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = world.client().await;
        client.send(&format!("GET /{number} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        clients.push(client);
        // One after the other, so that they come first that are served first.
        until("it waits", || waiting(&world, "queue") == number || world.in_flight() == 0).await;
        until("it counts", || world.in_flight() == 1).await;
    }
    let mut target = accept(&listener).await;
    for (number, client) in clients.iter_mut().enumerate() {
        let request = target.message().await.unwrap();
        assert!(request.head.starts_with(&format!("GET /{number} ")), "{}", request.head);
        assert_eq!(world.in_flight(), 1);
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.response().await.status(), 200);
    }
    assert_eq!((waiting(&world, "queue"), refused(&world, "queue")), (0, 0));
}

async fn who_finds_the_queue_full_or_waits_too_long_gets_503(carrier: Carrier) {
    let patience = Duration::from_secs(2);
    let routing = one_at_a_time(1, patience);
    let plan = Plan { routing, log: true, ..Plan::of(carrier) };
    let (world, listener) = by_hand(plan).await;
    let (mut first, mut second) = (world.client().await, world.client().await);
    first.send("GET /1 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.message().await.unwrap();
    let begun = clock::instant();
    second.send("GET /2 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    until("it waits", || waiting(&world, "queue") == 1).await;
    let full = world.get("/3").await;
    assert_eq!((full.status(), full.header("x-roadstead-reason")), (503, Some("TargetsBusy")));
    let late = second.response().await;
    assert_eq!((late.status(), late.header("x-roadstead-reason")), (503, Some("TargetsBusy")));
    assert!(begun.elapsed() >= patience);
    assert_eq!(late.header("connection"), Some("keep-alive"));
    assert_eq!(refused(&world, "queue"), 2);
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(first.response().await.status(), 200);
    assert_eq!(waiting(&world, "queue"), 0);
    drop((first, second));
    let lines = world.logged(3).await;
    assert_eq!(lines.iter().filter(|line| line.contains("\"TargetsBusy\"")).count(), 2);
}

async fn a_websocket_holds_its_place_until_it_ends(carrier: Carrier) {
    let routing = one_at_a_time(10, PATIENCE);
    let (world, listener) = by_hand(Plan { routing, ..Plan::of(carrier) }).await;
    let (mut tunnel, mut target) = switched(&world, &listener).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    until("it waits", || waiting(&world, "queue") == 1).await;
    for _ in 0..3 {
        tunnel.send("ping").await;
        assert_eq!(target.take(4).await.unwrap(), "ping");
        assert_eq!((waiting(&world, "queue"), world.in_flight()), (1, 1));
    }
    drop((tunnel, target));
    let mut target = accept(&listener).await;
    target.message().await.unwrap();
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    assert_eq!(waiting(&world, "queue"), 0);
}

async fn requests_are_held_until_there_is_a_target(carrier: Carrier) {
    let hold = Some(Waiting { requests: 2, timeout: PATIENCE });
    let routing = GroupRouting { hold, ..GroupRouting::default() };
    let world = World::new(Plan { routing, ..Plan::of(carrier) }, &[]).await;
    let target = Target::new(|request| ok(&request.body)).await;
    let mut clients = Vec::new();
    for number in 0..2 {
        let mut client = world.client().await;
        let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n";
        client.send(&format!("{head}{number}")).await;
        clients.push(client);
    }
    until("both are held", || waiting(&world, "hold") == 2).await;
    let third = world.get("/").await;
    assert_eq!((third.status(), third.header("x-roadstead-reason")), (503, Some("NoTarget")));
    world.register("a", target.address).await;
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().await.body, number.to_string());
    }
    assert_eq!((waiting(&world, "hold"), refused(&world, "hold")), (0, 1));
}

async fn nobody_is_held_for_longer_than_allowed(carrier: Carrier) {
    let hold = Some(Waiting { requests: 2, timeout: Duration::from_millis(200) });
    let routing = GroupRouting { hold, ..GroupRouting::default() };
    let world = World::new(Plan { routing, ..Plan::of(carrier) }, &[]).await;
    let begun = clock::instant();
    let answer = world.get("/").await;
    assert_eq!((answer.status(), answer.header("x-roadstead-reason")), (503, Some("NoTarget")));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!((waiting(&world, "hold"), refused(&world, "hold")), (0, 1));
}

on_both_carriers!(
    a_target_has_no_more_exchanges_than_it_may,
    who_finds_the_queue_full_or_waits_too_long_gets_503,
    a_websocket_holds_its_place_until_it_ends,
    requests_are_held_until_there_is_a_target,
    nobody_is_held_for_longer_than_allowed,
);

#[tokio::test]
async fn who_gives_up_leaves_the_queue() {
    let routing = one_at_a_time(1, PATIENCE);
    let (world, listener) = by_hand(Plan { routing, ..Plan::of(Carrier::Native) }).await;
    let mut first = world.client().await;
    first.send("GET /1 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.message().await.unwrap();
    let mut peer = super::h2::Peer::new(&world).await;
    let request = super::h2::request(http::Method::GET, "/2");
    let (response, mut stream) = peer.begin(request, true).await;
    until("it waits", || waiting(&world, "queue") == 1).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    until("nobody waits", || waiting(&world, "queue") == 0).await;
    let mut third = world.client().await;
    third.send("GET /3 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    until("it waits", || waiting(&world, "queue") == 1).await;
    drop(third);
    until("nobody waits", || waiting(&world, "queue") == 0).await;
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(first.response().await.status(), 200);
}
