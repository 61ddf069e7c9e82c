//! HTTP/2 to targets: links, which are connections that exchanges share, each by a stream.
//!
//! Keyed by registration, so that an address that comes back inherits nothing. One table per data
//! thread; each link has a task of its own that reads and writes it. Not here: what becomes of an
//! exchange whose stream ends early. **Invariant:** at most [`STREAMS`] exchanges share a link, and
//! none begins on one that its target has said farewell to, that is retired because the newest
//! snapshot does not send to its registration, or that has been silent and does not answer a PING.

mod head;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::account::is_sent_to;
use super::super::errors::Cause;
use super::super::head::RESPONSE_HEADERS;
use super::super::limits::{CONNECT_TIMEOUT, PING_ANSWER, PING_EVERY, PINGS, TARGET_IDLE, UNHEARD};
use super::super::retry::Failure;
use super::fields::MOST;
use super::lane::Lane;
use super::reach::connect;
use super::window::LARGE;
use crate::balance::Endpoint;
use crate::clock::{self, Instant};
use crate::model::RegistrationId;
use crate::routing::Routing;
use crate::tls::{self, Alpn};

pub(super) use stream::{Broken, Stream};

/// Exchanges on one connection at once (RFC 9113, section 6.5.2, advises targets to allow as many);
/// fewer where the target wants fewer.
const STREAMS: usize = 100;
/// What a target may send of a stream before we ask for more: RFC 9113's own default.
const STREAM_WINDOW: u32 = 65_535;
/// The same of a whole connection (ours: all its streams', so that none waits for a client that
/// another one waits for).
#[expect(clippy::cast_possible_truncation, reason = "STREAMS is 100")]
const CONNECTION_WINDOW: u32 = STREAMS as u32 * STREAM_WINDOW;
/// Header list in the crate's counting, 32 bytes more per field (RFC 9113, section 6.5.2): ALB's
/// limit, so that what is a little longer is refused in our words.
const HEADER_LIST: usize = 2 * RESPONSE_HEADERS + 32 * MOST;

/// Why there is no link, and what that means for the exchange.
type Failed = (Failure, Cause);
type Coming = BoxFuture<'static, Result<Arc<Link>, Failed>>;

fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .enable_push(false)
        .initial_max_send_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADER_LIST).unwrap_or(u32::MAX))
        .max_send_buffer_size(LARGE);
    settings
}

/// Never waited for: all connections of a data thread run on it and hold the lock over no await.
pub(super) struct Links {
    inner: Mutex<Inner>,
    /// Idle links at most.
    most: usize,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("most", &self.most).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    links: HashMap<RegistrationId, Vec<Arc<Link>>>,
    /// Connections that are being made, as long as somebody waits for them.
    coming: HashMap<RegistrationId, WeakShared<Coming>>,
}

/// One connection.
#[derive(Debug)]
struct Link {
    state: Mutex<State>,
    cut: CancellationToken,
    /// A PING is wanted now.
    wanted: Arc<Notify>,
    /// Changes with each answer to a PING, and when no more answers are to be waited for.
    answers: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// None: it takes no more exchanges, and ends behind those that it has.
    send: Option<SendRequest<Bytes>>,
    streams: usize,
    is_used: bool,
    is_cut: bool,
    idle_since: Instant,
    /// When the target said something last.
    heard: Instant,
    /// PINGs since it said something of an exchange.
    pings: u32,
}

/// What a link has for an exchange.
#[derive(Debug)]
enum Room {
    Seat(Seat),
    /// It has been silent: is anybody there?
    Doubtful(Arc<Link>),
}

/// A place on a link, for one exchange.
#[derive(Debug)]
pub(super) struct Seat {
    send: SendRequest<Bytes>,
    link: Arc<Link>,
    /// It is not the link's first.
    is_reused: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.streams -= 1;
        state.idle_since = clock::instant();
    }
}

impl Seat {
    /// Sends a request whose head, as HTTP/1 has it, is `head` and whose body is staged in `up`.
    ///
    /// # Errors
    /// The head cannot be sent.
    pub(super) fn begin(
        self,
        head: Vec<u8>,
        up: &Lane,
        (is_secure, trailers, is_call): (bool, bool, bool),
    ) -> Result<Stream, Cause> {
        let request = head::request(head, is_secure, trailers)?;
        Stream::begin(self, request, (up, is_call)).map_err(|error| {
            tracing::debug!(%error, "a request was not sent");
            Cause::Internal
        })
    }
}

impl Link {
    fn new(send: SendRequest<Bytes>) -> Arc<Self> {
        let state = State {
            send: Some(send),
            streams: 0,
            is_used: false,
            is_cut: false,
            idle_since: clock::instant(),
            heard: clock::instant(),
            pings: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            cut: CancellationToken::new(),
            wanted: Arc::default(),
            answers: watch::Sender::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: it is full, or takes no more.
    fn seat(self: &Arc<Self>) -> Option<Room> {
        let mut state = self.lock();
        let send = state.send.as_mut()?;
        // Who allows none at all for a while still gets one to wait there.
        let most = STREAMS.min(send.current_max_send_streams()).max(1);
        // Nobody waits: it is the streams' own handles that are ready late.
        let mut cx = Context::from_waker(Waker::noop());
        let is_open = matches!(send.poll_ready(&mut cx), Poll::Ready(Ok(())));
        let send = send.clone();
        if !is_open {
            state.send = None;
            return None;
        }
        if state.streams >= most {
            return None;
        }
        if clock::instant().saturating_duration_since(state.heard) >= UNHEARD {
            return Some(Room::Doubtful(Arc::clone(self)));
        }
        state.streams += 1;
        let is_reused = std::mem::replace(&mut state.is_used, true);
        drop(state);
        Some(Room::Seat(Seat { send, link: Arc::clone(self), is_reused }))
    }

    /// The target has said something of an exchange.
    fn hear(&self) {
        let mut state = self.lock();
        (state.heard, state.pings) = (clock::instant(), 0);
    }

    /// The target has answered a PING.
    fn answered(&self) {
        let mut state = self.lock();
        (state.heard, state.pings) = (clock::instant(), state.pings + 1);
        drop(state);
        self.answers.send_replace(());
    }

    /// Asks the target whether it is there. Who asks at the same time waits for the same answer;
    /// without one the link takes no more exchanges.
    async fn ask(&self) {
        let mut answers = self.answers.subscribe();
        self.wanted.notify_one();
        if tokio::time::timeout(PING_ANSWER, answers.changed()).await.is_err() {
            self.retire();
        }
    }

    /// When it is asked next by itself, or looked at again where it has been asked often enough.
    fn asked_at(&self) -> Instant {
        let state = self.lock();
        match state.pings < PINGS {
            true => state.heard + PING_EVERY,
            false => clock::instant() + TARGET_IDLE,
        }
    }

    fn retire(&self) {
        self.lock().send = None;
        self.answers.send_replace(());
    }

    /// Whatever runs there ends now.
    fn cut(&self) {
        let mut state = self.lock();
        (state.send, state.is_cut) = (None, true);
        drop(state);
        self.cut.cancel();
    }

    fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        state.send.is_none() && state.streams == 0
    }

    /// Since when nothing runs there, though it could.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.streams == 0 && state.send.is_some()).then_some(state.idle_since)
    }
}

impl Links {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), most: most.max(1) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a link to `target`: on one that has room, else on a new one. Those who ask at the
    /// same time wait for the same one.
    ///
    /// # Errors
    /// There is none, and nothing was sent.
    pub(super) async fn seat(
        self: &Arc<Self>,
        target: &Endpoint,
        is_secure: bool,
    ) -> Result<Seat, Failed> {
        loop {
            match self.take(target.id) {
                Some(Room::Seat(seat)) => return Ok(seat),
                Some(Room::Doubtful(link)) => {
                    link.ask().await;
                    continue;
                }
                None => {}
            }
            let link = self.coming(target, is_secure).await?;
            if link.is_over() {
                return Err((Failure::Connect, Cause::TargetClosed));
            }
        }
    }

    fn take(&self, id: RegistrationId) -> Option<Room> {
        let mut inner = self.lock();
        let links = inner.links.get_mut(&id)?;
        let room = links.iter().find_map(Link::seat);
        links.retain(|link| !link.is_over());
        room
    }

    fn coming(self: &Arc<Self>, target: &Endpoint, is_secure: bool) -> Shared<Coming> {
        let mut inner = self.lock();
        let known = inner.coming.get(&target.id).and_then(WeakShared::upgrade);
        known.unwrap_or_else(|| {
            let made = make(Arc::clone(self), (target.id, target.address), is_secure);
            let made = made.boxed().shared();
            if let Some(weak) = made.downgrade() {
                inner.coming.insert(target.id, weak);
            }
            made
        })
    }

    /// Retires links to whom `routing` sends nothing more, and cuts those to whom it does not know
    /// any more: their deregistration delay is over.
    pub(super) fn forget(&self, routing: &Routing) {
        for (id, links) in &self.lock().links {
            let is_known = routing.endpoints.contains_key(id);
            match is_known && is_sent_to(routing, *id) {
                true => {}
                false if is_known => links.iter().for_each(|link| link.retire()),
                false => links.iter().for_each(|link| link.cut()),
            }
        }
    }

    /// Ends what rested for too long, and the longest resting ones of too many.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.lock();
        let all = inner.links.values().flatten();
        let mut idle: Vec<_> = all.filter_map(|link| Some((link.idle_since()?, link))).collect();
        idle.sort_by_key(|(since, _)| *since);
        let surplus = idle.len().saturating_sub(self.most);
        for (index, (since, link)) in idle.into_iter().enumerate() {
            if index < surplus || now.saturating_duration_since(since) >= TARGET_IDLE {
                link.retire();
            }
        }
        inner.links.retain(|_, links| {
            links.retain(|link| !link.is_over());
            !links.is_empty()
        });
        inner.coming.retain(|_, coming| coming.upgrade().is_some());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let is_open = |link: &&Arc<Link>| link.lock().send.is_some();
        self.lock().links.values().flatten().filter(is_open).count()
    }
}

/// Makes a link and puts it into the table.
async fn make(
    links: Arc<Links>,
    (id, address): (RegistrationId, SocketAddr),
    is_secure: bool,
) -> Result<Arc<Link>, Failed> {
    let opened = open(address, is_secure).await;
    let mut inner = links.lock();
    // Who comes from now on shall find it in the table.
    inner.coming.remove(&id);
    let link = opened?;
    inner.links.entry(id).or_default().push(Arc::clone(&link));
    Ok(link)
}

async fn open(address: SocketAddr, is_secure: bool) -> Result<Arc<Link>, Failed> {
    let stream = connect(address, is_secure, Alpn::H2).await?;
    let refused = |error: h2::Error| {
        tracing::debug!(target = %address, %error, "no HTTP/2 with a target");
        let cause = if error.is_io() { Cause::TargetClosed } else { Cause::BadResponse };
        (Failure::Connect, cause)
    };
    let (send, mut connection) = settings().handshake(stream).await.map_err(refused)?;
    let ping = connection.ping_pong();
    let link = Link::new(send);
    tokio::spawn(run(connection, Arc::downgrade(&link), link.cut.clone()));
    // Its answer shows that HTTP/2 is spoken there, before a request is risked; what the target
    // wants of us stands before it.
    if let Some(mut ping) = ping {
        match tokio::time::timeout(CONNECT_TIMEOUT, ping.ping(Ping::opaque())).await {
            Ok(answered) => {
                answered.map_err(refused)?;
            }
            Err(_) => return Err((Failure::ConnectTimeout, Cause::ConnectTimeout)),
        }
        link.hear();
        tokio::spawn(watch_over(ping, Arc::downgrade(&link)));
    }
    Ok(link)
}

/// Asks a link's target whether it is there: when somebody wants to know, and now and then while
/// nothing is heard of it. Without an answer the link takes no more exchanges; those that it has
/// are left alone, for the target may only be slow.
async fn watch_over(mut ping: PingPong, link: Weak<Link>) {
    let Some(wanted) = link.upgrade().map(|link| Arc::clone(&link.wanted)) else { return };
    loop {
        let Some(asked_at) = link.upgrade().map(|link| link.asked_at()) else { return };
        tokio::select! {
            () = wanted.notified() => {}
            () = tokio::time::sleep_until(asked_at) => {
                // Something was heard meanwhile, or it has been asked often enough.
                if link.upgrade().is_some_and(|link| link.asked_at() > clock::instant()) {
                    continue;
                }
            }
        }
        let answered = tokio::time::timeout(PING_ANSWER, ping.ping(Ping::opaque())).await;
        let Some(link) = link.upgrade() else { return };
        match answered {
            Ok(Ok(_)) => link.answered(),
            // Whoever runs the connection tells why it has ended.
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::debug!("a target does not answer on an HTTP/2 connection");
                return link.retire();
            }
        }
    }
}

/// Reads and writes a connection until it ends: when nobody holds the link any more and nothing
/// runs there, at the latest.
async fn run(connection: Connection<tls::Stream, Bytes>, link: Weak<Link>, cut: CancellationToken) {
    let ended = tokio::select! {
        biased;
        () = cut.cancelled() => Ok(()),
        ended = connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection to a target has ended");
    }
    if let Some(link) = link.upgrade() {
        link.retire();
    }
}
