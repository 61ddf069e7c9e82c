//! One data thread: a current-thread runtime with its own sockets, planes and slot.
//!
//! **Invariant:** nothing a client sends leaves the thread that accepted it, and nothing here waits
//! for another thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Open};
use crate::clock;
use crate::dns::{DnsPlane, Facing, OtherServers};
use crate::http::{HttpPlane, PARTED};
use crate::l4::TcpRelay;
use crate::model::Protocol;
use crate::net::{self, ACCEPT_REST, HANDSHAKE, SocketKey};
use crate::routing::{DataThread, RoutedListener, Slot};

/// What the control side asks of a data thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Accept on this socket from now on.
    Open(SocketKey, std::net::TcpListener),
    /// Accept what is queued, then close.
    Close(SocketKey),
    DnsUdp(std::net::UdpSocket, Facing),
    DnsTcp(std::net::TcpListener, Facing),
}

/// Everything one data thread is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) thread: DataThread,
    pub(super) slot: Slot,
    /// Ends what is still under way.
    pub(super) cut: CancellationToken,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) metrics: crate::metrics::Metrics,
    pub(super) access_log: Option<crate::logs::AccessLog>,
    pub(super) admission: Admission,
    /// Whom tasks' names are asked of that are not ours.
    pub(super) others: OtherServers,
    /// Calls identity providers.
    pub(super) fetcher: crate::auth::Fetcher,
    /// Set before closing when a successor has the listening sockets as well.
    pub(super) handed_over: Arc<AtomicBool>,
    /// Told when the last exchange has ended after closing.
    pub(super) done: oneshot::Sender<()>,
}

/// Runs until `thread.closing` is cancelled and every connection has ended.
pub(super) fn run(parts: Parts) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default())?;
    let done = runtime.block_on(serve(parts));
    // What was cut ends here, with its guards.
    drop(runtime);
    let _ = done.send(());
    Ok(())
}

/// The planes of one thread and what their connections share.
#[derive(Debug)]
struct Planes {
    thread: DataThread,
    http: Arc<HttpPlane>,
    tcp: TcpRelay,
    admission: Admission,
    handed_over: Arc<AtomicBool>,
    connections: TaskTracker,
}

impl Planes {
    /// Returns when every connection has ended, or is to be cut.
    async fn finish(&self, accepting: &TaskTracker, cut: &CancellationToken) {
        accepting.close();
        self.connections.close();
        let ended = async {
            accepting.wait().await;
            self.connections.wait().await;
        };
        let mut ended = std::pin::pin!(ended);
        tokio::select! {
            () = &mut ended => {}
            () = cut.cancelled() => {
                if self.http.part() {
                    let _ = tokio::time::timeout(PARTED, ended).await;
                }
            }
        }
    }
}

/// Returns whom to tell once everything here is dropped.
async fn serve(parts: Parts) -> oneshot::Sender<()> {
    let Parts { thread, slot, mut commands, cut, done, .. } = parts;
    let settings = crate::http::Settings { fetcher: parts.fetcher, ..Default::default() };
    let http = HttpPlane::new(thread.clone(), &settings, &parts.metrics, parts.access_log);
    let planes = Arc::new(Planes {
        tcp: TcpRelay::new(thread.clone()),
        http,
        admission: parts.admission,
        handed_over: parts.handed_over,
        connections: TaskTracker::new(),
        thread: thread.clone(),
    });
    let dns = Arc::new(DnsPlane::new(thread.clone(), &parts.metrics, parts.others));
    let acknowledging = tokio::task::spawn_local(acknowledge(Arc::clone(&planes), slot));
    let http = Arc::clone(&planes.http);
    let upkeep = tokio::task::spawn_local(async move { http.upkeep().await });
    let mut open: HashMap<SocketKey, CancellationToken> = HashMap::new();
    let accepting = TaskTracker::new();
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = thread.closing.cancelled() => None,
        };
        match command {
            Some(Command::Open(key, listener)) => {
                // Two sockets of one key where the process before this one had more threads.
                let closing = open.entry(key).or_insert_with(|| thread.closing.child_token());
                let closing = closing.clone();
                let planes = Arc::clone(&planes);
                accepting.spawn_local(accept_loop(planes, key, listener, closing));
            }
            Some(Command::Close(key)) => {
                if let Some(closing) = open.remove(&key) {
                    closing.cancel();
                }
            }
            Some(Command::DnsUdp(socket, facing)) => match UdpSocket::from_std(socket) {
                Ok(socket) => {
                    let dns = Arc::clone(&dns);
                    accepting.spawn_local(async move { dns.serve_udp(socket, facing).await });
                }
                Err(error) => tracing::error!(%error, "a DNS socket cannot be used"),
            },
            Some(Command::DnsTcp(listener, facing)) => match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let dns = Arc::clone(&dns);
                    accepting.spawn_local(dns.serve_tcp(listener, facing));
                }
                Err(error) => tracing::error!(%error, "a DNS socket cannot be used"),
            },
            None => break,
        }
    }
    planes.finish(&accepting, &cut).await;
    for task in [acknowledging, upkeep] {
        task.abort();
        let _ = task.await;
    }
    drop((planes, dns));
    done
}

/// Stores each new generation in the slot after loading it; everything decided on this thread from
/// then on is decided by that snapshot or a newer one.
async fn acknowledge(planes: Arc<Planes>, slot: Slot) {
    let mut generations = planes.thread.reader.watch();
    loop {
        let generation = {
            let routing = planes.thread.reader.load();
            planes.http.forget(&routing);
            routing.generation
        };
        slot.acknowledge(generation);
        if generations.changed().await.is_err() {
            return;
        }
    }
}

async fn accept_loop(
    planes: Arc<Planes>,
    key: SocketKey,
    listener: std::net::TcpListener,
    closing: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%key, %error, "a listening socket cannot be used");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => planes.connected(stream, peer, key),
            // The client went away before it was accepted.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%key, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // The successor accepts from the same queue.
    if planes.handed_over.load(Ordering::Acquire) {
        return;
    }
    // Closing at once would reset the connections that the kernel has completed, or is just
    // completing.
    if let Err(error) = net::refuse_new(&listener) {
        tracing::warn!(%key, %error, "a closing listener still takes connections");
    }
    let last = clock::instant() + HANDSHAKE;
    while let Ok(accepted) = tokio::time::timeout_at(last, listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => planes.connected(stream, peer, key),
            Err(_) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

impl Planes {
    fn connected(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, key: SocketKey) {
        let Some(listener) = self.thread.reader.load().listeners.get(&key).cloned() else {
            return;
        };
        let metrics = &listener.metrics;
        metrics.connections.add(self.thread.index, 1);
        let entered = self.admission.enter(metrics);
        // Behind a PROXY header it is somebody else's.
        let is_peers = listener.listener.options.proxy_protocol.is_none();
        let known = |open: &mut Open| !is_peers || self.admission.know(open, key, peer.ip());
        let Some(open) = entered.and_then(|mut open| known(&mut open).then_some(open)) else {
            metrics.rejected.add(self.thread.index, 1);
            return;
        };
        let planes = Arc::clone(self);
        // Boxed here: on its way into a task a future is copied whole, five times and more.
        self.connections.spawn_local(Box::pin(async move {
            let mut connection = (stream, peer, open);
            if planes.identify(&mut connection, key, &listener).await {
                let (stream, peer, open) = connection;
                planes.carry(stream, peer, key, &listener).await;
                drop(open);
            }
        }));
    }

    /// Where the listener asks for a PROXY header, puts the client in the place of its peer. False:
    /// the connection is closed.
    async fn identify(
        &self,
        (stream, peer, open): &mut (TcpStream, SocketAddr, Open),
        key: SocketKey,
        listener: &RoutedListener,
    ) -> bool {
        let Some(proxy) = &listener.listener.options.proxy_protocol else { return true };
        let (metrics, thread) = (&listener.metrics, self.thread.index);
        match net::proxy::accept(stream, *peer, &proxy.trusted).await {
            Ok(client) => *peer = client,
            Err(refused) => {
                tracing::debug!(%peer, %key, %refused, "a connection without a PROXY header");
                metrics.proxy_refused[refused as usize].add(thread, 1);
                return false;
            }
        }
        let fits = self.admission.know(open, key, peer.ip());
        metrics.rejected.add(thread, u64::from(!fits));
        fits
    }

    async fn carry(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        key: SocketKey,
        listener: &RoutedListener,
    ) {
        match listener.protocol {
            Protocol::Http | Protocol::Https => self.http.serve(stream, peer, key).await,
            Protocol::Tcp | Protocol::Tls => _ = self.tcp.relay(stream, peer, key).await,
        }
    }
}
