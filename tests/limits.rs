//! Caps on clients' connections, in the running program.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::world::{Service, World};

/// A connection from a client's address that was answered; none where it was closed instead.
async fn served(from: &str, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await?;
        stream.read(&mut [0; 512]).await
    };
    let read = tokio::time::timeout(Duration::from_secs(30), exchange).await.unwrap();
    read.is_ok_and(|count| count > 0).then_some(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_its_share_of_connections() {
    let mut world = World::new().service(Service::http("web", 1));
    world.settings += "limits.max_connections_per_client = 2\n";
    let running = world.start().await;
    running.settled("web", 1).await;
    let listener = running.world.listener(8080);
    let (first, second) = ("127.99.0.1", "127.99.0.2");
    let one = served(first, listener).await.expect("its first one");
    let _two = served(first, listener).await.expect("its second one");
    assert!(served(first, listener).await.is_none(), "a third one is closed");
    let _other = served(second, listener).await.expect("another client's first one");
    drop(one);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while served(first, listener).await.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "its place is not given back");
    }
    running.stop().await;
}
