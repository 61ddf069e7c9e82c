//! A new process takes over from the running one, and nobody notices.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::client::Load;
use crate::support::world::{Serve, Service, World, healthy_tasks};
use crate::support::{full_or, note, until};

/// Queries all the time until stopped; how many had an answer, and how many none.
struct Queries {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: tokio::task::JoinHandle<u64>,
}

impl Queries {
    fn start(server: SocketAddr, name: &str) -> Self {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let query = message.to_vec().unwrap();
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&answered));
        let asking = tokio::spawn(async move {
            let mut lost = 0;
            while !stopped.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(server).await.unwrap();
                socket.send(&query).await.unwrap();
                let mut answer = [0; 512];
                let read = socket.recv(&mut answer);
                match tokio::time::timeout(Duration::from_secs(5), read).await {
                    Ok(Ok(_)) => _ = counted.fetch_add(1, Ordering::Relaxed),
                    _ => lost += 1,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            lost
        });
        Self { stop, answered, asking }
    }

    /// Answered, and not.
    async fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        (self.answered.load(Ordering::Relaxed), self.asking.await.unwrap())
    }
}

fn world() -> World {
    // Of a machine that has other work too, no task is replaced for being slow.
    let patient = |name| Service { unhealthy_threshold: 10, ..Service::http(name, 2) };
    let tcp = Service { tcp: true, port: 8081, desired: 1, ..patient("echo") };
    World::new().service(patient("web")).service(tcp)
}

/// Ids of all tasks, once every one is healthy.
async fn tasks(serve: &Serve) -> Vec<String> {
    let mut found = Vec::new();
    until("three healthy tasks", || {
        let Some(status) = serve.status() else { return false };
        found = [healthy_tasks(&status, "web"), healthy_tasks(&status, "echo")].concat();
        found.len() == 3
    })
    .await;
    found.sort();
    found
}

/// Waits until so many processes have begun to hand over.
async fn handed_over(world: &World, times: u64) {
    let begun = || world.log().matches("another process takes over").count() as u64;
    until("a hand-over", || begun() >= times).await;
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_or_cut_when_a_new_process_takes_over() {
    let world = world();
    let mut old = world.spawn();
    let before = tasks(&old).await;
    let processes = world.processes();
    let load = Load::start(world.listener(8080), "/", 16);
    let queries = Queries::start(world.listener(5533), "web.demo.internal.");
    let times = full_or(20, 3);
    for round in 1..=times {
        load.more(200).await;
        let mut tunnel = TcpStream::connect(world.listener(8081)).await.unwrap();
        echo(&mut tunnel, b"before").await;
        let new = world.spawn_taking_over();
        // The status socket is the new one's as soon as it serves.
        handed_over(&world, round).await;
        load.more(200).await;
        echo(&mut tunnel, b"after").await;
        // What ends with it ends in order all the same.
        old.signal("TERM");
        echo(&mut tunnel, b"still").await;
        drop(tunnel);
        assert_eq!(old.ended().await, Some(0));
        assert_eq!(tasks(&new).await, before, "tasks were replaced: {}", world.log());
        old = new;
    }
    assert_eq!(world.processes(), processes, "tasks were started or stopped");
    load.more(200).await;
    let tally = load.finish().await;
    let (answered, lost) = queries.finish().await;
    note(&format!(
        "{times} take-overs under {} requests and {answered} queries: {} failed, {lost} lost",
        tally.succeeded(),
        tally.failed(),
    ));
    assert_eq!((tally.failed(), lost), (0, 0), "{tally:?}");
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_fails_leaves_the_old_process_at_work() {
    let world = world();
    let old = world.spawn();
    let before = tasks(&old).await;
    let load = Load::start(world.listener(8080), "/", 8);
    load.more(100).await;
    let ask = |hello: &[u8]| {
        let mut stream = UnixStream::connect(world.data_dir().join("take-over.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(hello).unwrap();
        // The length of the list of sockets: by now the data directory is given up.
        let mut length = [0; 4];
        stream.read_exact(&mut length).map(|()| u32::from_be_bytes(length))
    };
    assert!(ask(b"an unknown protocol, and more\n").is_err());
    for _ in 0..2 {
        // It dies before it accepts.
        assert!(ask(b"roadstead take-over 1\n").unwrap() > 0);
        load.more(100).await;
        until("the old process to go on", || old.status().is_some()).await;
        assert_eq!(tasks(&old).await, before, "{}", world.log());
    }
    // A real one, which has the directory open already when it fails.
    let text = world.toml() + "[access_log]\npath = \"/proc/none/log\"\n";
    let mut broken = world.spawn_text_taking_over(&text);
    assert_eq!(broken.ended().await, Some(1), "{}", world.log());
    load.more(100).await;
    until("the old process to go on", || old.status().is_some()).await;
    assert_eq!(tasks(&old).await, before, "{}", world.log());
    // It drives the tasks again.
    let mut world = world;
    world.services[0].desired = 1;
    world.write();
    until("the service to be scaled in", || {
        old.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 1)
    })
    .await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_drained_from_every_process_before() {
    let mut world = world();
    let mut first = world.spawn();
    tasks(&first).await;
    let mut tunnel = TcpStream::connect(world.listener(8081)).await.unwrap();
    echo(&mut tunnel, b"first").await;
    let mut second = world.spawn_taking_over();
    handed_over(&world, 1).await;
    tasks(&second).await;
    let third = world.spawn_taking_over();
    handed_over(&world, 2).await;
    tasks(&third).await;
    // The first one has its connection still, the second one has none.
    world.services[1].desired = 0;
    world.write();
    for _ in 0..100 {
        echo(&mut tunnel, b"still").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(tunnel);
    assert_eq!((first.ended().await, second.ended().await), (Some(0), Some(0)));
    until("the task to be stopped", || {
        third.status().is_some_and(|status| healthy_tasks(&status, "echo").is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_process_to_take_over_from_it_is_a_plain_start() {
    let world = world();
    let mut serve = world.spawn_taking_over();
    tasks(&serve).await;
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_successor_does_not_believe_the_process_before_it_gone() {
    let world = world();
    let mut old = world.spawn();
    tasks(&old).await;
    let mut tunnel = TcpStream::connect(world.listener(8081)).await.unwrap();
    echo(&mut tunnel, b"before").await;
    let mut stream = UnixStream::connect(world.data_dir().join("take-over.sock")).unwrap();
    stream.write_all(b"roadstead take-over 1\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    // It has the data directory, and does not say in time that it accepts; where it never will, it
    // is given up at once.
    let lock = std::fs::File::options().write(true).open(world.data_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    if full_or(0, 1) == 1 {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(full_or(60, 0))).await;
    let told = || world.log().contains("the other process did not take over");
    until("the old process gives it up", told).await;
    echo(&mut tunnel, b"still").await;
    // All that it was sent, and no end.
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it believes the process gone");
    echo(&mut tunnel, b"still").await;
    drop(tunnel);
    assert_eq!(old.ended().await, Some(0));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "now it is gone");
}
