//! What happens when somebody breaks off, holds back or goes half-way: the native carrier's doing
//! but for the last, which is both carriers'.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;

use super::world::*;
use crate::clock;
use crate::model::Carrier;
use crate::state::Key;

fn plan() -> Plan {
    Plan::of(Carrier::Native)
}

/// More than the kernel's buffers of two connections hold.
const HINTS: usize = 4000;

fn hint(number: usize) -> String {
    format!("HTTP/1.1 103 Early Hints\r\nA: {number:06}{}\r\n\r\n", "x".repeat(16_000))
}

/// Sends interim responses without an end in sight; returns how many it has begun.
fn send_hints(mut target: Client) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<Client>) {
    let begun = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&begun);
    let sending = tokio::spawn(async move {
        for number in 0..HINTS {
            count.fetch_add(1, Ordering::SeqCst);
            target.send(&hint(number)).await;
        }
        target
    });
    (begun, sending)
}

/// Waits until the count stands still: all that counts had five chances to go on.
async fn stands(count: &AtomicUsize) -> usize {
    let (mut before, mut still) = (0, 0);
    while before == 0 || still < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = count.load(Ordering::SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    before
}

#[tokio::test]
async fn interim_responses_wait_for_a_client_that_reads_slowly() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    let (begun, sending) = send_hints(target);
    let stood = stands(&begun).await;
    assert!(stood < HINTS, "{stood} of them are held somewhere");
    let reading = async {
        for number in 0..HINTS {
            let head = client.head().await.unwrap();
            assert!(head.header("a").unwrap().starts_with(&format!("{number:06}")), "{number}");
        }
        client.response().await
    };
    let answering = async {
        let mut target = sending.await.unwrap();
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        target
    };
    let (response, _target) = tokio::join!(reading, answering);
    assert_eq!(response.body, "hi");
}

#[tokio::test]
async fn nothing_follows_half_an_interim_response() {
    for secure in [false, true] {
        let plan = if secure { super::tls::plan(Carrier::Native) } else { plan() };
        let (world, listener) = by_hand(plan).await;
        let mut client = match secure {
            true => world.secure_client(&super::tls::asking()).await,
            false => world.client().await,
        };
        client.send("PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut target = accept(&listener).await;
        target.head().await.unwrap();
        let (begun, sending) = send_hints(target);
        stands(&begun).await;
        // Answered with 400 where nothing is half-written.
        client.send("3\r\nabcX").await;
        until("the exchange is over", || world.in_flight() == 0).await;
        let got = client.rest().await;
        assert!(got.starts_with("HTTP/1.1 103"), "{secure}");
        assert!(!got.contains("HTTP/1.1 400"), "an answer inside: {secure}");
        sending.abort();
        world.at_rest().await;
    }
}

#[tokio::test]
async fn what_is_sent_ahead_gives_a_target_no_more_time() {
    let short = Duration::from_secs(1);
    let target = Target::new(|_| Act::Silence).await;
    let world = World::new(Plan { idle_timeout: short, ..plan() }, &[("a", &target)]).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    until("it is under way", || world.in_flight() == 1).await;
    let begun = clock::instant();
    while world.in_flight() == 1 {
        assert!(begun.elapsed() < PATIENCE, "the next request's bytes kept this one alive");
        client.send("x").await;
        tokio::time::sleep(short / 40).await;
    }
    assert_eq!(client.response().await.status(), 504);
    world.at_rest().await;
}

#[tokio::test]
async fn a_tunnels_last_bytes_arrive_whatever_its_target_left_unread() {
    // Sockets that hold little, so that what the target said waits in between when nothing can be
    // sent to it any more. Nothing ends by itself.
    let plan = Plan { send_buffer: 4096, idle_timeout: 10 * PATIENCE, ..plan() };
    let (world, listener) = by_hand(plan).await;
    let last = "last words ".repeat(4000);
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = Client::new(socket.connect(world.key.address).await.unwrap());
        let mut target = switch(&mut client, &listener).await;
        client.send(&"never read".repeat(1000)).await;
        target.take(1).await.unwrap();
        target.send(&last).await;
        // With bytes unread: a reset.
        drop(target);
        client.send("more").await;
        assert!(client.rest().await == last, "not all of it");
        drop(client);
        world.at_rest().await;
    }
}

async fn a_connection_to_a_target_that_has_left_is_not_used(carrier: Carrier) {
    // A listener whose queue is full: the kernel holds whoever comes next.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let brief = Duration::from_millis(200);
    while let Ok(filler) =
        tokio::time::timeout(brief, tokio::net::TcpStream::connect(address)).await
    {
        fillers.push(filler.unwrap());
    }
    let other = Target::new(|_| ok("other")).await;
    let world = World::new(Plan::of(carrier), &[]).await;
    let id = world.register("a", address).await;
    let mut client = world.client().await;
    // Not idempotent: it may go elsewhere only because nothing of it was sent.
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").await;
    until("it is under way", || world.in_flight() == 1).await;
    world.register("a", other.address).await;
    world.remove(vec![Key::Target(id)]).await;
    let accepting = async {
        let mut got = Vec::<Client>::new();
        loop {
            got.push(accept(&listener).await);
        }
    };
    tokio::select! {
        response = client.response() => assert_eq!(response.body, "other"),
        () = accepting => {}
    }
    assert_eq!(other.requests(), 1);
    drop(client);
    world.at_rest().await;
}

on_both_carriers!(a_connection_to_a_target_that_has_left_is_not_used);
