//! A new process takes over from the running one: the sockets travel over a unix socket, the data
//! directory through its lock.
//!
//! The successor says hello; the predecessor ends its control side, gives up the journal and the
//! data directory, and sends every listening socket (`SCM_RIGHTS`, unix(7)). Its data threads go on
//! with their last snapshot until the successor says that it accepts; then they finish what they
//! have. **Invariant:** until the successor accepts, the predecessor can go back to work; no
//! listening socket is ever closed on the way, so no client is refused.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::model::Transport;
use crate::net::{ACCEPT_REST, SocketKey};

/// The socket's name inside the data directory.
pub(super) const SOCKET: &str = "take-over.sock";
/// The first line of a successor; another protocol gets another number.
const HELLO: &[u8] = b"roadstead take-over 1\n";
/// The successor's second line.
const ACCEPTING: &[u8] = b"accepting\n";
/// For the hello (ours: it is written at once).
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// For the predecessor's last calls and writes (ours: twice the time its last calls have).
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);
/// For the successor to read the journal and accept (ours).
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptors of one message; Linux takes 253 (`SCM_MAX_FD`).
const DESCRIPTORS: usize = 64;
/// The longest list of sockets, in bytes (ours: some 100 for each listener).
const LIST: usize = 16 << 20;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    Listener,
    Dns,
    /// Answers tasks.
    TaskDns,
    Metrics,
    Api,
    Metadata,
}

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) purpose: Purpose,
    pub(super) key: SocketKey,
    pub(super) sockets: Vec<Socket>,
}

/// An [`Offer`] on the wire; its descriptors follow in order.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    purpose: Purpose,
    address: SocketAddr,
    transport: Transport,
    count: usize,
}

/// A process that asks to take over, and has said hello.
#[derive(Debug)]
pub struct Successor(tokio::net::UnixStream);

/// Waits for successors until dropped.
pub(super) async fn listen(listener: UnixListener, successors: mpsc::Sender<Successor>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let mut hello = [0; HELLO.len()];
        let read = tokio::time::timeout(HELLO_TIMEOUT, stream.read_exact(&mut hello)).await;
        if matches!(read, Ok(Ok(_))) && hello == HELLO {
            let _ = successors.send(Successor(stream)).await;
        } else {
            tracing::warn!("somebody on the take-over socket did not say hello");
        }
    }
}

impl Successor {
    /// Sends the sockets and waits until the successor accepts. It knows by the end of the stream
    /// that this process is gone.
    ///
    /// # Errors
    /// It did not accept; the stream, which it may still look at.
    pub(super) async fn give(
        self,
        offers: Vec<Offer>,
    ) -> Result<UnixStream, (Option<UnixStream>, io::Error)> {
        let stream = self.0.into_std().map_err(|error| (None, error))?;
        let give = move || {
            let given = hand(&stream, &offers);
            match given {
                Ok(()) => Ok(stream),
                Err(error) => Err((Some(stream), error)),
            }
        };
        let given = tokio::task::spawn_blocking(give).await;
        given.map_err(|error| (None, io::Error::other(error)))?
    }
}

/// Sends everything, and waits until it is accepted.
fn hand(mut stream: &UnixStream, offers: &[Offer]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(START_TIMEOUT))?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    send(stream, offers)?;
    let mut line = [0; ACCEPTING.len()];
    stream.read_exact(&mut line)?;
    if line == ACCEPTING { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn send(mut stream: &UnixStream, offers: &[Offer]) -> io::Result<()> {
    let entry = |offer: &Offer| Entry {
        purpose: offer.purpose,
        address: offer.key.address,
        transport: offer.key.transport,
        count: offer.sockets.len(),
    };
    let list = serde_json::to_vec(&offers.iter().map(entry).collect::<Vec<_>>())?;
    let length = u32::try_from(list.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&list)?;
    let all: Vec<_> =
        offers.iter().flat_map(|offer| &offer.sockets).map(|socket| socket.as_fd()).collect();
    for some in all.chunks(DESCRIPTORS) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(some));
        sendmsg(stream, &[IoSlice::new(b".")], &mut rights, SendFlags::empty())?;
    }
    Ok(())
}

/// What a process has from the one before it.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    offers: Vec<Offer>,
    pub(super) predecessor: Option<Predecessor>,
}

/// The process before this one, which still finishes what it has.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

impl Inherited {
    /// Asks the process that holds the data directory. Nothing is inherited where there is none.
    pub(super) async fn ask(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        let ask = move || {
            let mut stream = match UnixStream::connect(&path) {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        tracing::warn!("there is no process to take over from");
                        return Ok(Self::default());
                    }
                    _ => return Err(error),
                },
            };
            stream.set_read_timeout(Some(RELEASE_TIMEOUT))?;
            stream.write_all(HELLO)?;
            let offers = receive(&stream)?;
            Ok(Self { offers, predecessor: Some(Predecessor(stream)) })
        };
        tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)?
    }

    /// The sockets for what the configuration names so; port 0 is any port.
    pub(super) fn take(&mut self, purpose: Purpose, key: SocketKey) -> Option<Offer> {
        let fits = |offer: &Offer| {
            let (own, asked) = (offer.key.address, key.address);
            let same = own == asked || (asked.port() == 0 && own.ip() == asked.ip());
            offer.purpose == purpose && offer.key.transport == key.transport && same
        };
        let at = self.offers.iter().position(fits)?;
        Some(self.offers.remove(at))
    }

    /// All sockets for one purpose.
    pub(super) fn all(&mut self, purpose: Purpose) -> Vec<Offer> {
        self.offers.extract_if(.., |offer| offer.purpose == purpose).collect()
    }
}

fn receive(mut stream: &UnixStream) -> io::Result<Vec<Offer>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LIST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut list = vec![0; length];
    stream.read_exact(&mut list)?;
    let entries: Vec<Entry> = serde_json::from_slice(&list)?;
    let mut left: usize = entries.iter().map(|entry| entry.count).sum();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    while left > 0 {
        let some = receive_some(stream)?;
        if some.is_empty() || some.len() > left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= some.len();
        descriptors.extend(some);
    }
    let mut descriptors = descriptors.into_iter();
    let offer = |entry: Entry| Offer {
        purpose: entry.purpose,
        key: SocketKey { address: entry.address, transport: entry.transport },
        sockets: descriptors.by_ref().take(entry.count).map(Socket::from).collect(),
    };
    Ok(entries.into_iter().map(offer).collect())
}

/// The descriptors of one message.
fn receive_some(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut rights, flags)?;
    let mut descriptors = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok(descriptors)
}

impl Predecessor {
    /// Tells it that this process accepts, and returns when it is gone.
    pub(super) async fn relieve(self) {
        let told = async {
            self.0.set_nonblocking(true)?;
            let mut stream = tokio::net::UnixStream::from_std(self.0)?;
            stream.write_all(ACCEPTING).await?;
            // It says nothing more.
            stream.read(&mut [0]).await
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "the process before this one went away early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;

    #[test]
    fn sockets_arrive_in_order_and_still_listen() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let key = |transport| SocketKey { address: "127.0.0.1:0".parse().unwrap(), transport };
        let offer = |purpose, transport, count| {
            let sockets = net::open(key(transport), count).unwrap();
            let address = sockets[0].local_addr().unwrap().as_socket().unwrap();
            Offer { purpose, key: SocketKey { address, transport }, sockets }
        };
        let mut offers: Vec<_> =
            (0..40).map(|_| offer(Purpose::Listener, Transport::Tcp, 3)).collect();
        offers.push(offer(Purpose::Dns, Transport::Udp, 2));
        let keys: Vec<_> = offers.iter().map(|offer| offer.key).collect();
        send(&near, &offers).unwrap();
        drop(offers);

        let mut inherited = Inherited { offers: receive(&far).unwrap(), predecessor: None };
        let dns = inherited.take(Purpose::Dns, key(Transport::Udp)).unwrap();
        assert_eq!((dns.key, dns.sockets.len()), (keys[40], 2));
        assert!(inherited.take(Purpose::Dns, key(Transport::Udp)).is_none());
        let listeners = inherited.all(Purpose::Listener);
        assert_eq!(listeners.iter().map(|offer| offer.key).collect::<Vec<_>>(), keys[..40]);
        for offer in &listeners {
            assert_eq!(offer.sockets.len(), 3);
            std::net::TcpStream::connect(offer.key.address).unwrap();
        }
        near.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(receive(&far).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
