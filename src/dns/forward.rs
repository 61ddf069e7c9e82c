//! Names that are not ours, asked of whom the machine asks: for tasks, who have no other server.
//!
//! A message is passed on as it came, over the transport that it came by, under an id and a port
//! that nobody can foresee; nothing is kept. Not here: who may have names looked up
//! ([`Facing`](super::Facing)). **Invariant:** at most [`FORWARDS`] queries of a data thread are
//! under way, and each has an answer within [`TRIES`] times [`PATIENCE`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{HEADER_BYTES, Transport, question};
use crate::metrics::{Counter, Metrics, names};

/// Queries of one data thread that wait for others at a time, by datagram (ours; those by
/// connection are bounded by the connections).
pub(super) const FORWARDS: usize = 256;
/// Servers that are asked for one query (resolv.conf(5): `MAXNS`).
const TRIES: usize = 3;
/// How long one of them is waited for (ours: all together end before a client's 5 s do).
const PATIENCE: Duration = Duration::from_millis(1500);
/// The largest message there is.
const MESSAGE_BYTES: usize = u16::MAX as usize;
/// Response codes after which the next server is asked, as glibc does: SERVFAIL, NOTIMP, REFUSED.
const NEXT: [u8; 3] = [2, 4, 5];

/// Whom the machine asks, in order. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct OtherServers(Arc<ArcSwap<Vec<SocketAddr>>>);

impl OtherServers {
    pub fn set(&self, servers: Vec<SocketAddr>) {
        if **self.0.load() != servers {
            tracing::info!(?servers, "other names of tasks are asked there");
            self.0.store(Arc::new(servers));
        }
    }
}

/// The forwarding of one data thread.
#[derive(Debug)]
pub(super) struct Forwarder {
    others: OtherServers,
    thread: usize,
    answered: Counter,
    failed: Counter,
    refused: Counter,
}

impl Forwarder {
    pub(super) fn new(others: OtherServers, metrics: &Metrics, thread: usize) -> Self {
        let outcome = |outcome| metrics.counter(&names::DNS_FORWARDED, &[outcome]);
        let (answered, failed, refused) =
            (outcome("answered"), outcome("failed"), outcome("refused"));
        Self { others, thread, answered, failed, refused }
    }

    /// The answer where there is no room for the query.
    pub(super) fn refuse(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.refused.add(self.thread, 1);
        failure(query)
    }

    /// The answer to a query of one question; SERVFAIL where nobody has one.
    pub(super) async fn resolve(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = self.others.0.load_full();
        let mut last = None;
        for (round, server) in servers.iter().cycle().take(TRIES).enumerate() {
            // One that has said no says so again.
            if round >= servers.len() && last.is_some() {
                break;
            }
            match timeout(PATIENCE, ask(query, *server, transport)).await {
                Ok(Ok(answer)) if !NEXT.contains(&(answer[3] & 0x0f)) => {
                    self.answered.add(self.thread, 1);
                    return Some(answer);
                }
                Ok(Ok(answer)) => last = Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server failed"),
                Err(_) => tracing::debug!(%server, "a name server does not answer"),
            }
        }
        self.failed.add(self.thread, 1);
        last.or_else(|| failure(query))
    }
}

/// SERVFAIL with the question (RFC 1035 section 4.1.1). None: the query has none.
fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let question = question(query)?;
    let mut answer = query.get(..2)?.to_vec();
    // QR and the query's RD; RA and SERVFAIL; one question.
    answer.extend([0x80 | query[2] & 0x01, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    Some(answer)
}

/// One server's answer, under the client's own id.
async fn ask(query: &[u8], server: SocketAddr, transport: Transport) -> std::io::Result<Vec<u8>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    let mut own = query.to_vec();
    own[..2].copy_from_slice(&id);
    let mut answer = match transport {
        Transport::Udp => ask_udp(&own, server).await?,
        Transport::Tcp => ask_tcp(&own, server).await?,
    };
    answer[..2].copy_from_slice(&query[..2]);
    Ok(answer)
}

async fn ask_udp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Port 0: the kernel takes one by chance. Connected: nobody else is heard.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(query, &buffer[..length]) {
            return Ok(buffer[..length].to_vec());
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match is_answer(query, &answer) {
        true => Ok(answer),
        false => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// Whether it answers this query: its id and its question (RFC 5452 section 9.1). An error may
/// leave the question out.
fn is_answer(query: &[u8], answer: &[u8]) -> bool {
    if answer.len() < HEADER_BYTES || answer[..2] != query[..2] || answer[2] & 0x80 == 0 {
        return false;
    }
    match (question(answer), question(query)) {
        (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
        (None, _) => answer[4..6] == [0, 0] && answer[3] & 0x0f != 0,
        (_, None) => false,
    }
}

/// Whether names are looked up for somebody there: an open resolver is a weapon, so only where
/// nobody of the public Internet is (IANA's special-purpose address registries).
pub(super) fn is_near(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(client) => {
            // 100.64.0.0/10 is shared address space (RFC 6598).
            let is_shared = client.octets()[0] == 100 && client.octets()[1] & 0xc0 == 64;
            client.is_private() || client.is_loopback() || client.is_link_local() || is_shared
        }
        IpAddr::V6(client) => match client.to_ipv4_mapped() {
            Some(client) => is_near(client.into()),
            None => {
                client.is_loopback() || client.is_unique_local() || client.is_unicast_link_local()
            }
        },
    }
}
