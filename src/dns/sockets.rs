//! The loops around the sockets: datagrams, connections, and how they end.
//!
//! Own loops, because hickory's take any number of datagrams into flight, and its accept loop ends
//! at the first connection that was aborted in the queue. **Invariant:** one datagram at a time,
//! and at most [`FORWARDS`] that wait for other servers; at most [`CONNECTIONS`] connections, each
//! with one query at a time; nothing waits without a limit.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::forward::FORWARDS;
use super::{
    CONNECTION_IDLE, CONNECTION_QUERIES, CONNECTIONS, DnsPlane, ERROR_PAUSE, Facing, LAST_BYTES,
    LAST_DATAGRAMS, LAST_PATIENCE, QUERY_BYTES, SEND_PATIENCE, Transport,
};
use crate::clock;

pub(super) async fn udp(plane: &DnsPlane, socket: &UdpSocket, facing: Facing) {
    let mut buffer = vec![0; QUERY_BYTES];
    let mut closing = pin!(plane.thread.closing.cancelled());
    let mut desk = Desk { plane, socket, facing, forwards: FuturesUnordered::new() };
    loop {
        let received = tokio::select! {
            biased;
            () = &mut closing => break,
            Some((answer, from)) = desk.forwards.next(), if !desk.forwards.is_empty() => {
                send(plane, socket, answer, from).await;
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, from)) => desk.datagram(&buffer[..length], from).await,
            Err(error) => {
                plane.dropped.socket.add(plane.thread.index, 1);
                tracing::warn!(%error, "receiving DNS queries failed");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    // Lets the reactor see what has arrived.
    tokio::task::yield_now().await;
    for _ in 0..LAST_DATAGRAMS {
        let Ok((length, from)) = socket.try_recv_from(&mut buffer) else { break };
        desk.datagram(&buffer[..length], from).await;
    }
    while let Some((answer, from)) = desk.forwards.next().await {
        send(plane, socket, answer, from).await;
    }
}

/// An answer of another server, if there is one, and who waits for it.
type Forward<'p> = BoxFuture<'p, (Option<Vec<u8>>, SocketAddr)>;

/// What becomes of the datagrams of one socket.
struct Desk<'p> {
    plane: &'p DnsPlane,
    socket: &'p UdpSocket,
    facing: Facing,
    forwards: FuturesUnordered<Forward<'p>>,
}

impl Desk<'_> {
    async fn datagram(&mut self, query: &[u8], from: SocketAddr) {
        let plane = self.plane;
        if !plane.is_for_others(query, from, self.facing) {
            let started = clock::instant();
            let answer = plane.answer(query, from, Transport::Udp);
            if send(plane, self.socket, answer, from).await {
                plane.udp_seconds.observe(plane.thread.index, started.elapsed());
            }
        } else if self.forwards.len() < FORWARDS {
            let query = query.to_vec();
            let resolve =
                async move { (plane.forwarder.resolve(&query, Transport::Udp).await, from) };
            self.forwards.push(Box::pin(resolve));
        } else {
            send(plane, self.socket, plane.forwarder.refuse(query), from).await;
        }
    }
}

/// False: nothing was sent.
async fn send(
    plane: &DnsPlane,
    socket: &UdpSocket,
    answer: Option<Vec<u8>>,
    to: SocketAddr,
) -> bool {
    let Some(answer) = answer else { return false };
    match timeout(SEND_PATIENCE, socket.send_to(&answer, to)).await {
        Ok(Ok(_)) => true,
        Ok(Err(_)) | Err(_) => {
            plane.dropped.send.add(plane.thread.index, 1);
            false
        }
    }
}

pub(super) async fn tcp(plane: Arc<DnsPlane>, listener: TcpListener, facing: Facing) {
    let mut connections = JoinSet::new();
    let mut closing = pin!(plane.thread.closing.cancelled());
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&plane, &mut connections, stream, (peer, facing)),
                Err(error) => {
                    plane.dropped.socket.add(plane.thread.index, 1);
                    tracing::debug!(%error, "accepting a DNS connection failed");
                    // A connection aborted in the queue is over; everything else (no file
                    // descriptors) stays a while.
                    if error.kind() != std::io::ErrorKind::ConnectionAborted {
                        sleep(ERROR_PAUSE).await;
                    }
                }
            },
        }
    }
    tokio::task::yield_now().await;
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        admit(&plane, &mut connections, stream, (peer, facing));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a DNS connection's task failed");
    }
}

fn admit(
    plane: &Arc<DnsPlane>,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    client: (SocketAddr, Facing),
) {
    if connections.len() >= CONNECTIONS {
        plane.dropped.connections.add(plane.thread.index, 1);
        return;
    }
    let plane = Arc::clone(plane);
    connections.spawn(async move { connection(&plane, stream, client).await });
}

async fn connection(plane: &DnsPlane, mut stream: TcpStream, client: (SocketAddr, Facing)) {
    let mut buffer = BytesMut::with_capacity(512);
    serve(plane, &mut stream, client, &mut buffer).await;
    // Closing with queries unread would reset the connection, and the answers under way with it.
    let last = async {
        stream.shutdown().await.is_ok()
            && tokio::io::copy(&mut (&mut stream).take(LAST_BYTES), &mut tokio::io::sink())
                .await
                .is_ok()
    };
    _ = timeout(LAST_PATIENCE, last).await;
}

async fn serve(
    plane: &DnsPlane,
    stream: &mut TcpStream,
    (peer, facing): (SocketAddr, Facing),
    buffer: &mut BytesMut,
) {
    for _ in 0..CONNECTION_QUERIES {
        let Some(query) = next_query(plane, stream, buffer).await else { return };
        let started = clock::instant();
        let is_for_others = plane.is_for_others(&query, peer, facing);
        let answer = match is_for_others {
            true => plane.forwarder.resolve(&query, Transport::Tcp).await,
            false => plane.answer(&query, peer, Transport::Tcp),
        };
        let Some(answer) = answer else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        // One write: a length alone in a segment breaks some clients (RFC 7766 section 8).
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend(length.to_be_bytes());
        framed.extend(answer);
        match timeout(CONNECTION_IDLE, stream.write_all(&framed)).await {
            Ok(Ok(())) if is_for_others => {}
            Ok(Ok(())) => plane.tcp_seconds.observe(plane.thread.index, started.elapsed()),
            Ok(Err(_)) | Err(_) => {
                plane.dropped.send.add(plane.thread.index, 1);
                return;
            }
        }
    }
}

/// The next whole query. None when the client is done, too slow or out of bounds, or when the
/// process stops and nothing has arrived.
async fn next_query(
    plane: &DnsPlane,
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Option<BytesMut> {
    let deadline: Instant = clock::instant() + CONNECTION_IDLE;
    loop {
        if let Some(length) = buffer.first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > QUERY_BYTES {
                plane.dropped.long.add(plane.thread.index, 1);
                return None;
            }
            if buffer.len() >= length + 2 {
                buffer.advance(2);
                return Some(buffer.split_to(length));
            }
        }
        // With a part of a query at hand the rest is waited for, closing or not.
        let is_between = buffer.is_empty();
        let read = tokio::select! {
            biased;
            read = stream.read_buf(buffer) => read,
            () = plane.thread.closing.cancelled(), if is_between => {
                tokio::task::yield_now().await;
                stream.try_read_buf(buffer)
            }
            () = sleep_until(deadline) => return None,
        };
        if !matches!(read, Ok(1..)) {
            return None;
        }
    }
}
