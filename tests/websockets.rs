//! WebSockets live as long as their targets' delays allow, and end as their protocol has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use roadstead::clock::{self, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::world::{Serve, Service, World, healthy_tasks};
use crate::support::{self, full_or};

/// How a WebSocket went.
#[derive(Debug)]
pub(crate) struct Ended {
    echoes: u64,
    /// None: without a Close frame.
    pub(crate) code: Option<CloseCode>,
    /// After its close, the connection ended with an end and no reset.
    pub(crate) clean: bool,
    at: Instant,
}

pub(crate) async fn open(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, response) =
        tokio_tungstenite::client_async(format!("ws://{address}/websocket"), stream).await.unwrap();
    assert_eq!(response.status(), 101);
    socket
}

/// Says something all the time, and waits for each echo, until the other side ends it.
pub(crate) async fn talk(mut socket: WebSocketStream<TcpStream>, said: Arc<AtomicU64>) -> Ended {
    let (mut echoes, mut code, mut clean) = (0, None, false);
    loop {
        let text = format!("message {echoes}");
        // It may be closing already: what comes says so.
        let _ = socket.send(Message::text(text.clone())).await;
        match socket.next().await {
            Some(Ok(Message::Text(echo))) => {
                assert_eq!(echo.as_str(), text);
                echoes += 1;
                said.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Some(Ok(Message::Close(frame))) => {
                code = frame.map(|frame| frame.code);
                // Answers the close, and waits for the end.
                clean = socket.next().await.is_none();
                break;
            }
            _ => break,
        }
    }
    Ended { echoes, code, clean, at: clock::instant() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_end_by_one_clean_close_at_the_delay_of_a_replacement() {
    let count = full_or(200, 20);
    let delay = Duration::from_secs(2);
    let service = Service { deregistration_delay: "2s", ..Service::http("web", 2) };
    let mut running = World::new().service(service).start().await;
    running.settled("web", 2).await;
    let address = running.world.listener(8080);
    let said = Arc::new(AtomicU64::new(0));
    let mut sockets = tokio::task::JoinSet::new();
    for _ in 0..count {
        sockets.spawn(talk(open(address).await, Arc::clone(&said)));
    }
    support::until("all to have said something", || said.load(Ordering::Relaxed) > count * 3).await;
    assert!(sockets.try_join_next().is_none(), "none ends before");
    let edited = clock::instant();
    running.edit(|services| services[0].arguments = vec!["--udp".to_owned()]);
    let mut ended = Vec::new();
    while let Some(one) = sockets.join_next().await {
        ended.push(one.unwrap());
    }
    for one in &ended {
        assert_eq!((one.code, one.clean), (Some(CloseCode::Away), true), "{one:?}");
    }
    let first = ended.iter().map(|one| one.at).min().unwrap() - edited;
    assert!(first >= delay, "one ended {first:?} after the change");
    let echoes: u64 = ended.iter().map(|one| one.echoes).sum();
    support::note(&format!("{count} WebSockets, {echoes} echoes, the first ended after {first:?}"));
    // The new tasks take new ones.
    running.settled("web", 2).await;
    let mut socket = open(address).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    drop(socket);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_go_on_in_a_process_that_was_taken_over_from_and_end_cleanly_with_it() {
    let service = Service { unhealthy_threshold: 10, ..Service::http("web", 2) };
    let mut world = World::new().service(service);
    world.settings = "shutdown_grace = \"3s\"\n".to_owned();
    let mut old = world.spawn();
    let both = |serve: &Serve| {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 2)
    };
    support::until("two healthy tasks", || both(&old)).await;
    let address = world.listener(8080);
    for _ in 0..full_or(20, 2) {
        let said = Arc::new(AtomicU64::new(0));
        let mut sockets = tokio::task::JoinSet::new();
        for _ in 0..10 {
            sockets.spawn(talk(open(address).await, Arc::clone(&said)));
        }
        support::until("all to say something", || said.load(Ordering::Relaxed) > 30).await;
        let new = world.spawn_taking_over();
        support::until("the new process to serve", || both(&new)).await;
        let then = said.load(Ordering::Relaxed);
        support::until("the old one to go on", || said.load(Ordering::Relaxed) > then + 100).await;
        while let Some(one) = sockets.join_next().await {
            let one = one.unwrap();
            assert_eq!((one.code, one.clean), (Some(CloseCode::Away), true), "{one:?}");
        }
        assert_eq!(old.ended().await, Some(0), "{}", world.log());
        old = new;
    }
}
