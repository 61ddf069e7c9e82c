//! Clients that are slow on purpose: each is closed in bounded time, and nobody else waits for it.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::world::*;
use crate::clock;
use crate::model::Carrier;

/// Also how long a head may take.
const IDLE: Duration = Duration::from_secs(1);
/// Of one that is slow.
const PAUSE: Duration = Duration::from_millis(100);

fn count() -> usize {
    if super::is_full() { 2000 } else { 100 }
}

/// Sends `begin` and then a byte at a time, until an answer has come. Its status; none without one.
async fn trickle(address: std::net::SocketAddr, begin: &'static str) -> Option<u16> {
    let mut client = Client::connect(address).await;
    client.send(begin).await;
    loop {
        client.send("x").await;
        if let Ok(answer) = tokio::time::timeout(PAUSE, client.head()).await {
            return answer.map(|answer| answer.status());
        }
    }
}

/// Runs the slow ones, and an honest client that is served all the while. What they were answered.
async fn beside_an_honest_one(world: &World, mut slow: JoinSet<Option<u16>>) -> Vec<Option<u16>> {
    let begun = clock::instant();
    // What a busy machine needs for so many.
    let patience = if super::is_full() { 4 * PATIENCE } else { PATIENCE };
    let mut honest = world.client().await;
    let mut answered = Vec::new();
    while answered.len() < count() {
        assert!(begun.elapsed() < patience, "{} are still held", count() - answered.len());
        while let Some(ended) = slow.try_join_next() {
            answered.push(ended.unwrap());
        }
        assert_eq!(honest.get("/").await.body, "well");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(honest);
    world.at_rest().await;
    super::note(&format!("{} ended within {:?}", answered.len(), begun.elapsed()));
    answered
}

async fn world(target: &Target) -> World {
    let plan = Plan { idle_timeout: IDLE, ..Plan::of(Carrier::Native) };
    World::new(plan, &[("a", target)]).await
}

async fn check(begin: &'static str) {
    let target = Target::new(|_| ok("well")).await;
    let world = world(&target).await;
    let mut slow = JoinSet::new();
    for _ in 0..count() {
        slow.spawn(trickle(world.key.address, begin));
    }
    let answered = beside_an_honest_one(&world, slow).await;
    // The end of one that goes on sending may be a reset before it has read the answer.
    assert!(answered.iter().all(|status| matches!(status, None | Some(408))), "{answered:?}");
    assert!(answered.contains(&Some(408)), "{answered:?}");
}

#[tokio::test]
async fn slow_heads_end_in_time() {
    check("GET / HTTP/1.1\r\nHost: t\r\nX: ").await;
}

#[tokio::test]
async fn slow_bodies_end_in_time() {
    check("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n").await;
}

#[tokio::test]
async fn slow_readers_end_in_time() {
    let well = Target::new(|_| ok("well")).await;
    let world = world(&well).await;
    // A target that never ends, on sockets that hold little.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endless = socket.listen(4096).unwrap();
    let address = endless.local_addr().unwrap();
    let mut sending = JoinSet::new();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = endless.accept().await {
            sending.spawn(async move {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            });
        }
    });
    let plan = Plan { idle_timeout: IDLE, ..Plan::of(Carrier::Native) };
    let other = World::new(plan, &[]).await;
    other.register("a", address).await;
    let mut slow = JoinSet::new();
    for _ in 0..count() {
        let address = other.key.address;
        slow.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut client = Client::new(socket.connect(address).await.unwrap());
            client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
            client.head().await?;
            while client.take(256).await.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            None
        });
    }
    let answered = beside_an_honest_one(&world, slow).await;
    assert!(answered.iter().all(Option::is_none), "{answered:?}");
    other.at_rest().await;
    serving.abort();
}
