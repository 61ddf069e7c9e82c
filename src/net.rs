//! Sockets: binding, one per data thread, and giving them back.
//!
//! Not here: what is done with a connection. **Invariant:** a socket is shared between our own
//! threads (`SO_REUSEPORT`) and never with another process: a plain bind is tried first, so a
//! second instance is refused instead of silently taking half of the connections.

pub mod proxy;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::model::Transport;

/// The kernel clamps it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Receive buffer of a UDP socket: a burst of some thousand queries.
const UDP_BUFFER: usize = 4 << 20;

/// A socket is known by what it binds, not by the listener that asks for it: a renamed listener
/// keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey {
    pub address: SocketAddr,
    pub transport: Transport,
}

impl std::fmt::Display for SocketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.transport)
    }
}

/// The sockets that one change has newly bound: given back if it is refused. Clones are one list.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<Vec<SocketKey>>>);

impl Claims {
    pub fn add(&self, key: SocketKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(key);
    }

    /// All of them, once.
    #[must_use]
    pub fn take(&self) -> Vec<SocketKey> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An address that cannot be bound, with the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {key}: {source}")]
pub struct BindError {
    pub key: SocketKey,
    pub source: std::io::Error,
}

/// Opens `count` sockets for one key, all on the same port: port 0 takes a free one for all.
///
/// # Errors
/// Somebody else has the address, or it is not of this machine, or needs a privilege.
pub fn open(key: SocketKey, count: usize) -> Result<Vec<Socket>, BindError> {
    let open_all = || {
        let probe = bind(key, key.address, false)?;
        let address = probe.local_addr()?.as_socket().unwrap_or(key.address);
        drop(probe);
        share(SocketKey { address, ..key }, count)
    };
    let refused = |source| BindError { key, source };
    open_all().map_err(refused)
}

/// Opens `count` sockets more for a key that this process has opened, or the one that it takes over
/// from.
///
/// # Errors
/// Somebody else has the address.
pub fn share(key: SocketKey, count: usize) -> std::io::Result<Vec<Socket>> {
    let one = |_| {
        let socket = bind(key, key.address, true)?;
        if key.transport == Transport::Tcp {
            socket.listen(BACKLOG)?;
        }
        Ok(socket)
    };
    (0..count).map(one).collect()
}

fn bind(key: SocketKey, address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let (kind, protocol) = match key.transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match key.transport {
        Transport::Tcp => {
            // Connections of a predecessor in TIME_WAIT do not keep the port.
            socket.set_reuse_address(true)?;
            // Connections have it from the socket that they are accepted on: whoever writes small
            // pieces decides about delays himself, and nobody asks for it each time.
            socket.set_tcp_nodelay(true)?;
        }
        Transport::Udp => socket.set_recv_buffer_size(UDP_BUFFER)?,
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// From now on the listening socket takes no new handshake, while those that have begun still end
/// in its queue. A client that tries gets no answer until the socket is closed, and is refused
/// then.
///
/// # Errors
/// The system refuses the filter.
pub fn refuse_new(listener: &impl AsFd) -> std::io::Result<()> {
    // A classic BPF program over the TCP header (`linux/filter.h`): byte 13 holds the flags; SYN
    // without ACK is dropped, anything else passes.
    let program = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&program)
}

/// How long handshakes that have begun may take once no new one is taken (ours: a round trip).
pub const HANDSHAKE: Duration = Duration::from_millis(100);
/// How long an accept loop rests when the process is out of file descriptors or memory (ours).
pub const ACCEPT_REST: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(transport: Transport) -> SocketKey {
        SocketKey { address: SocketAddr::from(([127, 0, 0, 1], 0)), transport }
    }

    fn check(transport: Transport) {
        let sockets = open(key(transport), 3).unwrap();
        let addresses: Vec<_> =
            sockets.iter().map(|s| s.local_addr().unwrap().as_socket().unwrap()).collect();
        assert!(addresses.iter().all(|address| *address == addresses[0] && address.port() != 0));
        let taken = SocketKey { address: addresses[0], transport };
        let error = open(taken, 1).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot bind {taken}: ")), "{error}");
        drop(sockets);
        assert_eq!(open(taken, 2).unwrap().len(), 2);
    }

    #[test]
    fn sockets_share_a_port_among_themselves_and_with_nobody_else() {
        check(Transport::Tcp);
        check(Transport::Udp);
    }

    #[test]
    fn a_listener_that_refuses_keeps_what_it_has_and_takes_nothing_new() {
        let listener = std::net::TcpListener::from(open(key(Transport::Tcp), 1).unwrap().remove(0));
        let address = listener.local_addr().unwrap();
        let queued = std::net::TcpStream::connect(address).unwrap();
        refuse_new(&listener).unwrap();
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, queued.local_addr().unwrap());
    }

    #[test]
    fn what_is_accepted_delays_nothing() {
        let listener = std::net::TcpListener::from(open(key(Transport::Tcp), 1).unwrap().remove(0));
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap() && !client.nodelay().unwrap());
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let address = "192.0.2.1:80".parse().unwrap();
        let error = open(SocketKey { address, transport: Transport::Tcp }, 1).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::AddrNotAvailable);
    }
}
