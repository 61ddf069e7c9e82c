//! The control side of the listening sockets: which are open, and handing them to the data threads.
//!
//! **Invariant:** a socket that the State asks for is bound before the commit that asks for it, so
//! that a port that cannot be had refuses the change instead of breaking it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::sync::mpsc;

use super::data_thread::Command;
use super::take_over::{Inherited, Offer, Purpose};
use crate::clock::{self, Instant};
use crate::dns::Facing;
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
    /// Copies of the DNS sockets, for a successor.
    dns: Vec<Offer>,
    held: BTreeMap<SocketKey, Held>,
    /// When the data threads were last told to close.
    closed: BTreeMap<SocketKey, Instant>,
}

#[derive(Debug)]
enum Held {
    /// Bound, not asked for by a published generation yet.
    Bound(Vec<Socket>),
    /// From the process before this one: in use, wanted or not.
    Inherited(Vec<Socket>),
    /// The data threads have them; these are copies, for a successor.
    Handed(Vec<Socket>),
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
        table.held.retain(|key, held| !matches!(held, Held::Bound(_)) || !claimed.contains(key));
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
            for (key, held) in &mut table.held {
                let opens = match held {
                    Held::Bound(_) => wanted(key),
                    Held::Inherited(_) => true,
                    Held::Handed(_) => false,
                };
                if opens && let Held::Bound(sockets) | Held::Inherited(sockets) = held {
                    let copies = copies(sockets);
                    opened.push((*key, std::mem::take(sockets)));
                    *held = Held::Handed(copies);
                }
            }
            // One that is bound only belongs to a commit under way.
            let gone = |(key, held): (&SocketKey, &Held)| match held {
                Held::Handed(_) if !wanted(key) => Some(*key),
                _ => None,
            };
            let closed: Vec<_> = table.held.iter().filter_map(gone).collect();
            table.held.retain(|key, held| matches!(held, Held::Bound(_)) || wanted(key));
            table.closed.extend(closed.iter().map(|key| (*key, clock::instant())));
            (opened, closed)
        };
        for (key, sockets) in opened {
            for (thread, socket) in self.shares(key, sockets) {
                let _ = thread.send(Command::Open(key, socket.into())).await;
            }
        }
        for key in closed {
            for thread in &self.threads {
                let _ = thread.send(Command::Close(key)).await;
            }
        }
    }

    /// Every socket with the thread that is to have it: each thread has one at least.
    fn shares(
        &self,
        key: SocketKey,
        mut sockets: Vec<Socket>,
    ) -> impl Iterator<Item = (&mpsc::Sender<Command>, Socket)> {
        // Fewer than threads: the process before this one had fewer.
        match net::share(key, self.threads.len().saturating_sub(sockets.len())) {
            Ok(more) => sockets.extend(more),
            Err(error) => tracing::error!(%key, %error, "a data thread has no socket"),
        }
        self.threads.iter().cycle().zip(sockets)
    }

    /// Opens DNS on `address`, UDP and TCP; port 0 takes one that is free for both.
    pub(super) async fn open_dns(
        &self,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<SocketAddr, BindError> {
        self.open_dns_for(Purpose::Dns, address, inherited).await
    }

    /// Opens DNS for tasks on `address`, unless it is open.
    pub(super) async fn open_task_dns(&self, address: SocketAddr) -> Result<(), BindError> {
        let is_open = self.task_dns().contains(&address);
        match is_open {
            true => Ok(()),
            false => {
                let new = &mut Inherited::default();
                self.open_dns_for(Purpose::TaskDns, address, new).await.map(drop)
            }
        }
    }

    /// Goes on with the tasks' DNS of the process before this one, wherever it was.
    pub(super) async fn resume_task_dns(&self, inherited: &mut Inherited) {
        let offers = inherited.all(Purpose::TaskDns);
        self.table().dns.extend(offers.iter().map(copy));
        for offer in offers {
            self.hand_dns(offer).await;
        }
    }

    /// Where tasks are answered.
    pub(super) fn task_dns(&self) -> BTreeSet<SocketAddr> {
        let table = self.table();
        let own = table.dns.iter().filter(|offer| offer.purpose == Purpose::TaskDns);
        own.map(|offer| offer.key.address).collect()
    }

    async fn open_dns_for(
        &self,
        purpose: Purpose,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<SocketAddr, BindError> {
        let key = SocketKey { address, transport: Transport::Udp };
        let datagrams = self.dns(purpose, key, inherited)?;
        let bound = datagrams.key.address;
        let key = SocketKey { address: bound, transport: Transport::Tcp };
        let streams = self.dns(purpose, key, inherited)?;
        self.table().dns.extend([&datagrams, &streams].map(copy));
        self.hand_dns(datagrams).await;
        self.hand_dns(streams).await;
        Ok(bound)
    }

    async fn hand_dns(&self, offer: Offer) {
        let facing = match offer.purpose {
            Purpose::TaskDns => Facing::Tasks,
            _ => Facing::Anyone,
        };
        for (thread, socket) in self.shares(offer.key, offer.sockets) {
            let command = match offer.key.transport {
                Transport::Udp => Command::DnsUdp(socket.into(), facing),
                Transport::Tcp => Command::DnsTcp(socket.into(), facing),
            };
            let _ = thread.send(command).await;
        }
    }

    /// The sockets of one DNS address, with the port that they have got.
    fn dns(
        &self,
        purpose: Purpose,
        key: SocketKey,
        inherited: &mut Inherited,
    ) -> Result<Offer, BindError> {
        if let Some(offer) = inherited.take(purpose, key) {
            return Ok(offer);
        }
        let sockets = net::open(key, self.threads.len())?;
        let bound = sockets.first().and_then(|socket| socket.local_addr().ok()?.as_socket());
        let key = SocketKey { address: bound.unwrap_or(key.address), ..key };
        Ok(Offer { purpose, key, sockets })
    }

    /// Takes over the listeners' sockets of the process before this one.
    pub(super) fn inherit(&self, inherited: &mut Inherited) {
        let offers = inherited.all(Purpose::Listener).into_iter();
        let held = offers.map(|offer| (offer.key, Held::Inherited(offer.sockets)));
        self.table().held.extend(held);
    }

    /// Gives up the copies: no successor will ask for them, and what the data threads close is
    /// closed.
    pub(super) fn close(&self) {
        *self.table() = Table::default();
    }

    /// Copies of everything the data threads have, for a successor.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let table = self.table();
        let mut offers: Vec<Offer> = table.dns.iter().map(copy).collect();
        for (key, held) in &table.held {
            let (Held::Handed(sockets) | Held::Inherited(sockets) | Held::Bound(sockets)) = held;
            let sockets = copies(sockets);
            offers.push(Offer { purpose: Purpose::Listener, key: *key, sockets });
        }
        offers
    }
}

/// Copies of the descriptors; one that cannot be had is left out and told.
fn copies(sockets: &[Socket]) -> Vec<Socket> {
    let copy = |socket: &Socket| match socket.try_clone() {
        Ok(copy) => Some(copy),
        Err(error) => {
            tracing::warn!(%error, "a socket that no successor can take over");
            None
        }
    };
    sockets.iter().filter_map(copy).collect()
}

/// Another descriptor for each of its sockets.
pub(super) fn copy(offer: &Offer) -> Offer {
    Offer { sockets: copies(&offer.sockets), ..*offer }
}
