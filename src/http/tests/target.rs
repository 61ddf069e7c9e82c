//! Targets that do as they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::world::*;
use crate::tls::{Handshakes, Server, Stream};

/// What a target does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Sends this and reads the next request.
    Send(String),
    /// Sends this, then closes.
    Last(String),
    /// Sends this, and closes at the next request.
    Once(String),
    /// Sends this, and closes when no request follows within so many milliseconds.
    Rest(String, u64),
    /// Says nothing until the connection ends.
    Silence,
    /// Sends this, then sends back whatever comes.
    Echo(String),
}

pub(super) fn ok(body: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicUsize,
    /// Open now.
    pub(super) open: AtomicUsize,
    pub(super) requests: Mutex<Vec<Response>>,
}

/// A target on loopback.
pub(super) struct Target {
    pub(super) address: std::net::SocketAddr,
    pub(super) seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Target {
    pub(super) async fn new(act: impl Fn(&Response) -> Act + Send + Sync + 'static) -> Self {
        Self::with(act, None).await
    }

    /// Over TLS where there is a server for it.
    pub(super) async fn with(
        act: impl Fn(&Response) -> Act + Send + Sync + 'static,
        server: Option<Server>,
    ) -> Self {
        let server = server.map(Arc::new);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, act) = (Arc::<Seen>::default(), Arc::new(act));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let (seen, act) = (Arc::clone(&shared), Arc::clone(&act));
                let server = server.clone();
                connections.spawn(async move {
                    let stream = match server {
                        None => Stream::Plain(stream),
                        Some(server) => match Handshakes::default().accept(stream, &server).await {
                            Ok(stream) => stream,
                            Err(_) => return,
                        },
                    };
                    Self::serve(Client::new(stream), &seen, &*act).await;
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    async fn serve(
        mut stream: Client,
        seen: &Seen,
        act: &(dyn Fn(&Response) -> Act + Send + Sync),
    ) {
        let mut rest = None;
        loop {
            let next = match rest {
                Some(rest) => tokio::time::timeout(rest, stream.message()).await.unwrap_or(None),
                None => stream.message().await,
            };
            let Some(request) = next else { return };
            let act = act(&request);
            seen.requests.lock().unwrap().push(request);
            match act {
                Act::Send(text) => stream.send(&text).await,
                Act::Last(text) => return stream.send(&text).await,
                Act::Once(text) => {
                    stream.send(&text).await;
                    drop(stream.message().await);
                    return;
                }
                Act::Rest(text, millis) => {
                    stream.send(&text).await;
                    rest = Some(Duration::from_millis(millis));
                }
                Act::Silence => {
                    stream.ended().await;
                    return;
                }
                Act::Echo(text) => {
                    stream.send(&text).await;
                    stream.echo().await;
                    return;
                }
            }
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The head of the request seen last, in lower case.
    pub(super) fn head(&self) -> String {
        self.seen.requests.lock().unwrap().last().unwrap().head.to_ascii_lowercase()
    }
}

/// A target played by the test itself, and its place in group `a` of a new world.
pub(super) async fn by_hand(plan: Plan) -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new(plan, &[]).await;
    world.register("a", listener.local_addr().unwrap()).await;
    (world, listener)
}

/// The next connection to a target played by the test.
pub(super) async fn accept(listener: &TcpListener) -> Client {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    Client::new(accepted.expect("nobody came").unwrap().0)
}

/// Asks for a WebSocket …
pub(super) const ASK: &str = "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// … and gives one.
pub(super) const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// The two ends of a WebSocket that leads to a target played by the test.
pub(super) async fn switched(world: &World, listener: &TcpListener) -> (Client, Client) {
    let mut client = world.client().await;
    let target = switch(&mut client, listener).await;
    (client, target)
}

/// The other end of a WebSocket that this client asks for.
pub(super) async fn switch(client: &mut Client, listener: &TcpListener) -> Client {
    client.send(ASK).await;
    let mut target = accept(listener).await;
    target.head().await.unwrap();
    target.send(SWITCH).await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    target
}

/// An address where nobody listens, nor will as long as this process lives: it stays bound.
pub(super) fn nobody() -> std::net::SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
