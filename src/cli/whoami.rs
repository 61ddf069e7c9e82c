//! `roadstead whoami`: the sample task of the quickstart, and the target that tests and benches
//! send to.
//!
//! HTTP: `/` and any other path echo the request; `/health` answers 200, or 503 after `/unhealthy`,
//! 200 again after `/healthy`; `/status/CODE`, `/delay/MS`, `/bytes/N`; `/websocket` echoes a
//! WebSocket's messages. **Invariant:** after SIGTERM it takes nothing new, finishes what it has,
//! and exits 0.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;

/// A request body that is echoed may be this long.
const MAX_BODY: usize = 1 << 20;
/// `/bytes/N` gives at most this many.
const MAX_BYTES: usize = 1 << 30;
/// A backlog deep enough for a burst of new connections.
const BACKLOG: u32 = 4096;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Address to bind.
    #[arg(long, env = "ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Port to bind; 0 takes a free one, which is printed.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Echo TCP instead of serving HTTP.
    #[arg(long)]
    tcp: bool,
    /// Echo UDP on the same port as well.
    #[arg(long)]
    udp: bool,
    /// Milliseconds to wait before the port is opened: a slow start.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    start_delay: u64,
    /// Go on as if nothing happened when SIGTERM comes.
    #[arg(long)]
    ignore_sigterm: bool,
    /// Print a line for every request, and one for SIGTERM.
    #[arg(long)]
    log: bool,
}

/// What every connection shares.
#[derive(Debug)]
struct Task {
    id: String,
    healthy: AtomicBool,
    log: bool,
    closing: CancellationToken,
    /// Connections, and what became of some of them.
    running: TaskTracker,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::time::sleep(Duration::from_millis(options.start_delay)).await;
    let address = SocketAddr::new(options.address, options.port);
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("cannot bind {address}"))?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    let task = Arc::new(Task {
        id: std::env::var("TASK_ID").unwrap_or_else(|_| std::process::id().to_string()),
        healthy: AtomicBool::new(true),
        log: options.log,
        closing: CancellationToken::new(),
        running: TaskTracker::new(),
    });
    say(&format!("listening on {bound}"));
    if options.udp {
        let udp =
            UdpSocket::bind(bound).await.with_context(|| format!("cannot bind {bound}/udp"))?;
        tokio::spawn(echo_datagrams(udp, Arc::clone(&task)));
    }
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (task, tcp) = (Arc::clone(&task), options.tcp);
                    let running = task.running.clone();
                    running.spawn(async move {
                        match tcp {
                            true => echo_stream(stream, &task).await,
                            false => serve_http(stream, task).await,
                        }
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            _ = terminate.recv() => {
                if task.log {
                    say(&format!("{} SIGTERM", clock::now()));
                }
                if !options.ignore_sigterm {
                    break;
                }
            }
        }
    }
    drop(listener);
    task.closing.cancel();
    task.running.close();
    task.running.wait().await;
    Ok(())
}

fn say(line: &str) {
    super::print(&format!("{line}\n"));
}

async fn echo_stream(mut stream: TcpStream, task: &Task) {
    let _ = stream.set_nodelay(true);
    if task.log {
        say(&format!("{} connection", clock::now()));
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            () = task.closing.cancelled() => break,
        };
        match read {
            Ok(count) if count > 0 => {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    let _ = stream.shutdown().await;
}

async fn echo_datagrams(socket: UdpSocket, task: Arc<Task>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
        if task.log {
            say(&format!("{} datagram", clock::now()));
        }
        let _ = socket.send_to(&buffer[..count], peer).await;
    }
}

async fn serve_http(stream: TcpStream, task: Arc<Task>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(|request| answer(request, Arc::clone(&task)));
    let server = hyper::server::conn::http1::Builder::new();
    let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = task.closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    task: Arc<Task>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if task.log {
        say(&format!("{} {} {}", clock::now(), request.method(), request.uri().path()));
    }
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (first, argument) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let response = match first {
        "health" if task.healthy.load(Ordering::Relaxed) => text(StatusCode::OK, "healthy\n"),
        "health" => text(StatusCode::SERVICE_UNAVAILABLE, "unhealthy\n"),
        "healthy" | "unhealthy" => {
            task.healthy.store(first == "healthy", Ordering::Relaxed);
            text(StatusCode::OK, "ok\n")
        }
        "status" => match argument.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) if status.as_u16() >= 200 => text(status, ""),
            _ => text(StatusCode::BAD_REQUEST, "/status/CODE takes 200 to 999\n"),
        },
        "delay" => match argument.parse() {
            Ok(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                echo(request, &task).await
            }
            Err(_) => text(StatusCode::BAD_REQUEST, "/delay/MS takes a number of milliseconds\n"),
        },
        "bytes" => match argument.parse() {
            Ok(count) if count <= MAX_BYTES => Response::new(Full::from(vec![b'x'; count])),
            _ => text(StatusCode::BAD_REQUEST, "/bytes/N takes 0 to 1073741824\n"),
        },
        "websocket" => switch(request, task),
        _ => echo(request, &task).await,
    };
    Ok(response)
}

/// Becomes a WebSocket (RFC 6455, section 4.2.2).
fn switch(request: Request<Incoming>, task: Arc<Task>) -> Response<Full<Bytes>> {
    let key = request.headers().get(http::header::SEC_WEBSOCKET_KEY);
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return text(StatusCode::BAD_REQUEST, "/websocket takes a WebSocket\n");
    };
    let running = task.running.clone();
    running.spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let stream = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            echo_messages(socket, &task).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept.parse() {
        headers.insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn echo_messages(mut socket: WebSocketStream<TokioIo<Upgraded>>, task: &Task) {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = task.closing.cancelled() => {
                let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
                let _ = socket.close(Some(frame)).await;
                return;
            }
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // What is left answers itself.
            Some(Ok(_)) => {}
            _ => return,
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

/// The request as it arrived: task, request line, headers, body.
async fn echo(request: Request<Incoming>, task: &Task) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut text = format!("task: {}\n{} {} {:?}\n", task.id, head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let mut response = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => {
            let mut bytes = text.into_bytes();
            bytes.push(b'\n');
            bytes.extend_from_slice(&body.to_bytes());
            Response::new(Full::from(bytes))
        }
        Err(_) => {
            let mut response = Response::new(Full::from("body too large or broken\n"));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        }
    };
    if let Ok(id) = task.id.parse() {
        response.headers_mut().insert("x-task-id", id);
    }
    response
}
