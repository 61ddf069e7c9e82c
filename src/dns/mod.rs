//! The DNS plane: answers for our zones over UDP and TCP, out of the newest snapshot.
//!
//! Each data thread has one [`DnsPlane`] and its own sockets. A message is screened on its raw
//! bytes, decoded by hickory, answered by [`answer`]'s `RequestHandler`, and encoded by hickory;
//! all of that is one synchronous step, so nothing is ever in flight beside the message at hand.
//! Not here: what a name holds (`zone`). Names outside our zones are refused, but for tasks, who
//! have no other server: for them they are asked of others ([`forward`]). **Invariant:** whom an
//! answer names is known to its drain before the answer leaves, and no answer crosses an await
//! between its snapshot and that.

mod answer;
mod codes;
mod forward;
mod reply;
mod sockets;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler};
use tokio::net::{TcpListener, UdpSocket};

use crate::metrics::{Counter, Histogram, Metrics, names};
use crate::routing::DataThread;

use answer::Answering;
use codes::Code;
use forward::Forwarder;
use reply::Reply;

pub use forward::OtherServers;

/// What we say about the size of UDP messages, and the largest answer we send (DNS Flag Day 2020;
/// RFC 9715).
pub const UDP_PAYLOAD: u16 = 1232;
/// The largest UDP answer to a client without EDNS (RFC 1035 section 4.2.1).
pub const UDP_PAYLOAD_WITHOUT_EDNS: u16 = 512;
/// The largest query read (ours; a question takes 271 bytes at most, the rest is for EDNS options).
pub const QUERY_BYTES: usize = 4096;
/// Client connections of one data thread (ours; at [`QUERY_BYTES`] and one answer each, under 20
/// MiB).
pub const CONNECTIONS: usize = 256;
/// Queries on one connection, after which it is closed (ours; bounds what one client can keep to
/// itself).
pub const CONNECTION_QUERIES: usize = 100;
/// How long a connection may take to bring a whole query, or to take an answer (RFC 7766 section
/// 6.2.3 asks for seconds; ours).
pub const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// How long a UDP answer may wait for room in the socket's buffer (ours; a client asks again after
/// seconds).
pub const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// Pause after a socket error that is not the client's (ours; no file descriptors left, for
/// example).
pub const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Datagrams answered after the process began to stop (ours; a default socket buffer holds fewer).
pub const LAST_DATAGRAMS: usize = 4096;
/// How long a connection that we end may go on sending, and how much (ours; a client that is done
/// closes at once).
pub const LAST_PATIENCE: Duration = Duration::from_secs(1);
pub const LAST_BYTES: u64 = 64 << 10;

/// The length of a message's header.
const HEADER_BYTES: usize = 12;
/// Types that ask for a whole zone.
const IXFR: u16 = 251;
const AXFR: u16 = 252;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Who is answered on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facing {
    /// Whoever asks, about our names alone.
    Anyone,
    /// Tasks, about any name.
    Tasks,
}

/// The DNS of one data thread. Its tasks all run on that thread.
#[derive(Debug)]
pub struct DnsPlane {
    thread: DataThread,
    answering: Answering,
    forwarder: Forwarder,
    dropped: Dropped,
    udp_seconds: Histogram,
    tcp_seconds: Histogram,
}

/// Counters of what gets no answer, by reason.
#[derive(Debug)]
struct Dropped {
    /// Too short for a header.
    short: Counter,
    /// A response: answering it could go on for ever.
    response: Counter,
    /// From port 0, where nobody can be.
    source: Counter,
    /// The socket took no answer.
    send: Counter,
    /// A connection too many.
    connections: Counter,
    /// A query longer than any we read.
    long: Counter,
    /// The system's error on receiving or accepting.
    socket: Counter,
}

impl Dropped {
    fn new(metrics: &Metrics) -> Self {
        let reason = |reason| metrics.counter(&names::DNS_DROPPED, &[reason]);
        Self {
            short: reason("short"),
            response: reason("response"),
            source: reason("source"),
            send: reason("send"),
            connections: reason("connections"),
            long: reason("long"),
            socket: reason("socket"),
        }
    }
}

impl DnsPlane {
    #[must_use]
    pub fn new(thread: DataThread, metrics: &Metrics, others: OtherServers) -> Self {
        let seconds = |transport| metrics.histogram(&names::DNS_SECONDS, &[transport]);
        Self {
            answering: Answering::new(thread.clone(), metrics),
            forwarder: Forwarder::new(others, metrics, thread.index),
            dropped: Dropped::new(metrics),
            udp_seconds: seconds("udp"),
            tcp_seconds: seconds("tcp"),
            thread,
        }
    }

    /// Answers datagrams until the process stops, then those that are queued. Dropping the future
    /// is safe.
    pub async fn serve_udp(&self, socket: UdpSocket, facing: Facing) {
        sockets::udp(self, &socket, facing).await;
    }

    /// Accepts and answers connections until the process stops, then those that are queued.
    /// Dropping the future closes its connections.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener, facing: Facing) {
        sockets::tcp(self, listener, facing).await;
    }

    /// The answer to one message; none for what must not be answered.
    #[must_use]
    pub fn answer(
        &self,
        message: &[u8],
        from: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let Some(header) = message.first_chunk::<HEADER_BYTES>() else {
            self.dropped.short.add(self.thread.index, 1);
            return None;
        };
        if header[2] & 0x80 != 0 {
            self.dropped.response.add(self.thread.index, 1);
            return None;
        }
        if from.port() == 0 {
            self.dropped.source.add(self.thread.index, 1);
            return None;
        }
        let is_query = header[2] & 0x78 == 0;
        if question(message).is_none() {
            return Some(self.bare(header, if is_query { Code::FormErr } else { Code::NotImp }));
        }
        let protocol = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let Ok(request) = Request::from_bytes(message.to_vec(), from, protocol) else {
            return Some(self.bare(header, if is_query { Code::FormErr } else { Code::NotImp }));
        };
        let reply = Reply::new(reply::limit(&request));
        // Nothing in there waits, so it is ready at once.
        self.answering.handle_request::<_, TokioTime>(&request, reply.clone()).now_or_never();
        reply.take().or_else(|| Some(self.bare(header, Code::ServFail)))
    }

    /// Whether the message asks for a name that others are to be asked for.
    fn is_for_others(&self, message: &[u8], from: SocketAddr, facing: Facing) -> bool {
        if facing == Facing::Anyone || !forward::is_near(from.ip()) || from.port() == 0 {
            return false;
        }
        // A query, of the class IN, and no transfer.
        if message.len() < HEADER_BYTES || message[2] & 0xf8 != 0 {
            return false;
        }
        let Some(question) = question(message) else { return false };
        let Some((name, [high, low, 0, 1])) = question.split_last_chunk::<4>() else {
            return false;
        };
        let kind = u16::from_be_bytes([*high, *low]);
        let name = name.to_ascii_lowercase();
        ![IXFR, AXFR].contains(&kind) && !self.thread.reader.load().zones.hold(&name)
    }

    /// A header alone: its question could not be read, or not be trusted.
    fn bare(&self, header: &[u8; HEADER_BYTES], code: Code) -> Vec<u8> {
        self.answering.count_bare(code);
        let mut answer = vec![0; HEADER_BYTES];
        answer[..2].copy_from_slice(&header[..2]);
        // QR, and the query's opcode and RD.
        answer[2] = 0x80 | header[2] & 0x79;
        answer[3] = code.response().low();
        answer
    }
}

/// The question section where it is one plain question: QDCOUNT 1 (RFC 9619), a name without
/// compression, which has nothing to point to, a type and a class. The decoder reserves room for as
/// many questions as QDCOUNT says, so it must not see another count.
fn question(message: &[u8]) -> Option<&[u8]> {
    let all = message.get(HEADER_BYTES..)?;
    let mut rest = all;
    let count = [message[4], message[5]];
    while let Some((len, after)) = rest.split_first() {
        match len {
            0 => {
                let whole = count == [0, 1] && after.len() >= 4;
                return whole.then(|| &all[..all.len() - after.len() + 4]);
            }
            1..=63 => rest = after.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
