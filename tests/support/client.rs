//! A small HTTP/1.1 client that tells apart every way a request can end, and a load of many of
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use roadstead::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// An answer, as far as the tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| {
            line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
        })?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// How a request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: refused or timed out.
    Connect,
    /// The connection ended before a byte of the answer.
    Unanswered,
    /// The connection ended inside the answer.
    HalfAnswered,
    TimedOut,
}

/// Clients that share a constant rate.
const STEADY_CLIENTS: u64 = 50;
/// Longer than any answer of a working proxy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects and sends one request.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer, Failure> {
    let mut stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
    exchange(&mut stream, "GET", path, true).await
}

/// One request on an open connection.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    close: bool,
) -> Result<Answer, Failure> {
    let connection = if close { "connection: close\r\n" } else { "" };
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{connection}{length}\r\n");
    let whole = async {
        stream.write_all(request.as_bytes()).await.map_err(|_| Failure::Unanswered)?;
        read_answer(stream).await
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or(Err(Failure::TimedOut))
}

async fn read_answer(stream: &mut TcpStream) -> Result<Answer, Failure> {
    let mut bytes = Vec::with_capacity(1024);
    let mut chunk = [0; 16 * 1024];
    loop {
        let ended = if bytes.is_empty() { Failure::Unanswered } else { Failure::HalfAnswered };
        let count = stream.read(&mut chunk).await.map_err(|_| ended)?;
        if count == 0 {
            return Err(ended);
        }
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: String::new() };
        let length: usize =
            answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        while bytes.len() < end + 4 + length {
            let count = stream.read(&mut chunk).await.map_err(|_| Failure::HalfAnswered)?;
            if count == 0 {
                return Err(Failure::HalfAnswered);
            }
            bytes.extend_from_slice(&chunk[..count]);
        }
        answer.body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
        return Ok(answer);
    }
}

/// Clients that send all the time until stopped; half keep their connections, half open one per
/// request.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ok: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    pub(crate) half_answered: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    /// Answers with another status than 200.
    pub(crate) bad_status: AtomicU64,
}

impl Tally {
    fn count(&self, outcome: &Result<Answer, Failure>) {
        let cell = match outcome {
            Ok(answer) if answer.status == 200 => &self.ok,
            Ok(_) => &self.bad_status,
            Err(Failure::Connect) => &self.refused,
            Err(Failure::Unanswered) => &self.unanswered,
            Err(Failure::HalfAnswered) => &self.half_answered,
            Err(Failure::TimedOut) => &self.timed_out,
        };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn succeeded(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        [&self.refused, &self.unanswered, &self.half_answered, &self.timed_out, &self.bad_status]
            .iter()
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum()
    }
}

impl Load {
    /// Starts `clients` clients; each sends `GET path` to `address`.
    pub(crate) fn start(address: SocketAddr, path: &'static str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let client = |n: usize| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            tokio::spawn(async move {
                if n.is_multiple_of(2) {
                    keep_alive(address, path, &stop, &tally).await;
                } else {
                    while !stop.load(Ordering::Relaxed) {
                        tally.count(&get(address, path).await);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, tally, clients }
    }

    /// So many requests a second, however long each takes; else as [`start`](Self::start).
    pub(crate) fn steady(address: SocketAddr, path: &'static str, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let begun = clock::instant();
        let client = |n: u64| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            let gap = Duration::from_micros(1_000_000 * STEADY_CLIENTS / per_second);
            let first = begun + Duration::from_micros(1_000_000 * n / per_second);
            tokio::spawn(async move {
                let (mut next, mut stream) = (first, None);
                while !stop.load(Ordering::Relaxed) {
                    // One that is late catches up.
                    tokio::time::sleep_until(next).await;
                    next += gap;
                    match n.is_multiple_of(2) {
                        true => ask_again(address, path, &mut stream, &tally).await,
                        false => tally.count(&get(address, path).await),
                    }
                }
            })
        };
        let clients = (0..STEADY_CLIENTS).map(client).collect();
        Self { stop, tally, clients }
    }

    /// Waits until `count` more requests have succeeded.
    pub(crate) async fn more(&self, count: u64) {
        let goal = self.tally.succeeded() + count;
        super::until("more requests to succeed", || self.tally.succeeded() >= goal).await;
    }

    /// Lets every client finish its request.
    pub(crate) async fn finish(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.tally
    }
}

/// Sends on one connection, again and again.
async fn keep_alive(address: SocketAddr, path: &str, stop: &AtomicBool, tally: &Tally) {
    let mut stream: Option<TcpStream> = None;
    while !stop.load(Ordering::Relaxed) {
        ask_again(address, path, &mut stream, tally).await;
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// One request on the connection there is, or on a new one; a server that says it closes is obeyed,
/// any other end is a failure.
async fn ask_again(address: SocketAddr, path: &str, stream: &mut Option<TcpStream>, tally: &Tally) {
    let mut open = match stream.take() {
        Some(open) => open,
        None => match TcpStream::connect(address).await {
            Ok(open) => open,
            Err(_) => {
                tally.count(&Err(Failure::Connect));
                return tokio::time::sleep(Duration::from_millis(5)).await;
            }
        },
    };
    let outcome = exchange(&mut open, "GET", path, false).await;
    tally.count(&outcome);
    if outcome.is_ok_and(|answer| !answer.closes()) {
        *stream = Some(open);
    }
}
