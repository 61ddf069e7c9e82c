//! The control side of the listening sockets: which are open, and handing them to the data threads.
//!
//! **Invariant:** a socket that the State asks for is bound before the commit that asks for it, so
//! that a port that cannot be had refuses the change instead of breaking it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::mpsc;

use super::data_thread::Command;
use crate::clock::{self, Instant};
use crate::model::Transport;
use crate::net::{self, BindError, Claims, SocketKey};
use crate::routing::Routing;

/// How long a port that we are just closing may be waited for (ours; the threads close within a
/// pass).
const REOPEN: Duration = Duration::from_millis(500);

/// Commands a data thread may be behind.
pub(super) const COMMANDS: usize = 1024;

#[derive(Debug)]
pub(super) struct Sockets {
    threads: Vec<mpsc::Sender<Command>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    held: BTreeMap<SocketKey, Held>,
    /// When the data threads were last told to close.
    closed: BTreeMap<SocketKey, Instant>,
}

#[derive(Debug)]
enum Held {
    /// Bound, not asked for by a published generation yet.
    Bound(Vec<Socket>),
    /// The data threads have them.
    Handed,
}

impl Sockets {
    pub(super) fn new(threads: Vec<mpsc::Sender<Command>>) -> Self {
        Self { threads, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds what a change is about to ask for, and claims it for that change. What is held already
    /// stays.
    pub(super) fn ensure(&self, key: SocketKey, claims: &Claims) -> Result<(), BindError> {
        let mut table = self.table();
        if table.held.contains_key(&key) {
            return Ok(());
        }
        table.closed.retain(|_, since| since.elapsed() < REOPEN);
        loop {
            match net::open(key, self.threads.len()) {
                Ok(sockets) => {
                    table.held.insert(key, Held::Bound(sockets));
                    claims.add(key);
                    return Ok(());
                }
                Err(error)
                    if error.source.kind() == std::io::ErrorKind::AddrInUse
                        && table.closed.get(&key).is_some_and(|at| at.elapsed() < REOPEN) =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives back what was bound for a change that was refused.
    pub(super) fn give_back(&self, claims: &Claims) {
        let claimed = claims.take();
        let mut table = self.table();
        table.held.retain(|key, held| matches!(held, Held::Handed) || !claimed.contains(key));
    }

    /// Hands over what `routing` listens on, and has the data threads close what it does not.
    pub(super) async fn sync(&self, routing: &Routing) {
        for key in routing.listeners.keys() {
            if let Err(error) = self.ensure(*key, &Claims::default()) {
                tracing::error!(%error, "a listener has no socket");
            }
        }
        let (opened, closed) = {
            let mut table = self.table();
            let table = &mut *table;
            let wanted = |key: &SocketKey| routing.listeners.contains_key(key);
            let mut opened = Vec::new();
            for (key, held) in table.held.iter_mut().filter(|(key, _)| wanted(key)) {
                if let Held::Bound(sockets) = std::mem::replace(held, Held::Handed) {
                    opened.push((*key, sockets));
                }
            }
            // One that is bound only belongs to a commit under way.
            let gone = |(key, held): (&SocketKey, &Held)| match held {
                Held::Handed if !wanted(key) => Some(*key),
                _ => None,
            };
            let closed: Vec<_> = table.held.iter().filter_map(gone).collect();
            table.held.retain(|key, held| matches!(held, Held::Bound(_)) || wanted(key));
            table.closed.extend(closed.iter().map(|key| (*key, clock::instant())));
            (opened, closed)
        };
        for (key, sockets) in opened {
            for (thread, socket) in self.threads.iter().zip(sockets) {
                let _ = thread.send(Command::Open(key, socket.into())).await;
            }
        }
        for key in closed {
            for thread in &self.threads {
                let _ = thread.send(Command::Close(key)).await;
            }
        }
    }

    /// Opens DNS on `address`, UDP and TCP; port 0 takes one that is free for both.
    pub(super) async fn open_dns(
        &self,
        address: std::net::SocketAddr,
    ) -> Result<std::net::SocketAddr, BindError> {
        let key = SocketKey { address, transport: Transport::Udp };
        let datagrams = net::open(key, self.threads.len())?;
        let bound = datagrams
            .first()
            .and_then(|socket| socket.local_addr().ok()?.as_socket())
            .unwrap_or(address);
        let key = SocketKey { address: bound, transport: Transport::Tcp };
        let streams = net::open(key, self.threads.len())?;
        for ((thread, datagrams), streams) in self.threads.iter().zip(datagrams).zip(streams) {
            let _ = thread.send(Command::DnsUdp(datagrams.into())).await;
            let _ = thread.send(Command::DnsTcp(streams.into())).await;
        }
        Ok(bound)
    }
}
