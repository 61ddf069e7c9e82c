//! Clients' HTTP/2: one connection, whose streams are exchanges like any other.
//!
//! The `h2` crate speaks the protocol; here is what it leaves to us: how many and how long, what is
//! too much ([`screen`]), and when it is over. All streams of a connection run in its own task, so
//! that everything of it ends with it. Not here: deciding, retrying, the way to the target, which
//! are those of HTTP/1. **Invariant:** no more exchanges run than [`STREAMS`] and those that their
//! client has just given up; each ends when its client gives it up.

mod desk;
mod made;
mod request;
mod screen;
mod stream;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::account;
use super::super::additions::Additions;
use super::super::desync::Verdict;
use super::super::errors::Cause;
use super::super::head::{HEADERS, REQUEST_LINE};
use super::super::headers;
use super::super::limits::{LINGER, PARTING};
use super::super::own::Own;
use super::Carrier;
use super::client::{Client, Front, Spare, Timer};
use super::exchange::After;
use super::fields::MOST;
use super::request::{Origin, Way};
use super::window::LARGE;
use crate::clock::{self, Instant};
use crate::logs::Kind;
use crate::routing::{RoutedListener, SocketKey};
use crate::rules::{Spoken, Transformed};
use crate::tls;
use desk::{Desk, Ended, Job};
use screen::Screened;

pub(super) use made::Made;
pub(super) use request::rewrite;
pub(super) use stream::{Stream, section, send_staged};

/// ALB: streams on one connection.
const STREAMS: u32 = 128;
/// ALB: requests on one connection; GOAWAY then.
const REQUESTS: u64 = 10_000;
/// What a client may send of a stream before we ask for more: RFC 9113's own default.
const STREAM_WINDOW: u32 = 65_535;
/// The same of a whole connection (ours: what is read before it is asked for is held 16 times at
/// most, whatever the number of streams).
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Runners that a connection keeps however long it rests (ours: a client that asks one thing after
/// the other needs one) …
const RUNNERS_KEPT: usize = 2;
/// … and for how long it keeps more of them without an exchange (ours: many clients ask for many
/// things at once, and for as many when they have them).
const RUNNERS_REST: Duration = Duration::from_secs(1);
/// Bytes of one stream that wait for the client's socket (ours: one window).
const SEND_BUFFER: usize = LARGE;
/// Streams given up by their client before we saw them (the `h2` crate's default).
const UNSEEN_RESETS: usize = 20;
/// Streams that we have to reset for what a client does wrong (ours; the `h2` crate's default of
/// 1,024 is for clients with far more streams. CVE-2025-8671).
const FORCED_RESETS: usize = 100;
/// Header list in the crate's counting, 32 bytes more per field (RFC 9113, section 6.5.2): ALB's
/// limits, so that what is a little longer is answered in our words. It also bounds CONTINUATION.
const HEADER_LIST: usize = HEADERS + REQUEST_LINE + 32 * MOST;

fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(HEADER_LIST).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(FORCED_RESETS))
        .enable_connect_protocol();
    settings
}

impl Carrier {
    /// Runs a connection that speaks HTTP/2 to its end; `read` are bytes of it that were read
    /// already. It does not matter how HTTP/2 was agreed on.
    pub(in crate::http) async fn serve_h2<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        (stream, read): (S, BytesMut),
        tls: Option<Arc<tls::Session>>,
        (peer, socket): (SocketAddr, SocketKey),
        listener: Arc<RoutedListener>,
    ) {
        let (stream, flooded) = Screened::new(stream, read);
        let handshake = settings().handshake(stream);
        let deadline = clock::instant() + listener.idle_timeout;
        let connection = match tokio::time::timeout_at(deadline, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no HTTP/2 came about"),
            Err(_) => return tracing::debug!(%peer, "no HTTP/2 came about in time"),
        };
        let origin = Arc::new(Origin::new((peer, socket), tls.as_deref()));
        let desk = Desk::default();
        let door = self.door(socket);
        let door = pin!(door.cancelled_owned());
        let now = clock::instant();
        let mut session = Session {
            connection: Some(connection),
            runners: FuturesUnordered::new(),
            desk: &desk,
            busy: 0,
            start: |runner| {
                let at = (&origin, socket);
                self.run_streams((&desk, runner), at, tls.as_ref(), &listener)
            },
            door,
            flooded,
            begun: 0,
            timer: Timer::new(now + listener.idle_timeout),
            old_at: now + listener.client_keep_alive,
            rests_until: Some(now + listener.idle_timeout),
            lean_at: None,
            idle_timeout: listener.idle_timeout,
            parting: None,
            cut_at: None,
        };
        poll_fn(|cx| session.poll(cx)).await;
    }

    /// Runs exchanges of a connection, one after the other, as they come to its desk.
    async fn run_streams(
        &self,
        (desk, runner): (&Desk<Job>, usize),
        (origin, socket): (&Arc<Origin>, SocketKey),
        tls: Option<&Arc<tls::Session>>,
        listener: &Arc<RoutedListener>,
    ) -> Infallible {
        let mut spare = None;
        loop {
            let Job { parts, respond, receive } = poll_fn(|cx| desk.poll_job(runner, cx)).await;
            let ends = receive.is_end_stream();
            let head = spare.as_mut().map(Spare::take_head).unwrap_or_default();
            let front = Front::Stream(Box::new(Stream::new(respond, receive, head)));
            let (front, at) = ((front, tls.cloned()), (Arc::clone(origin), socket));
            let mut client = Client::new(front, at, Arc::clone(listener), spare.take(), None);
            let after = self.stream(&mut client, parts, ends).await;
            if after == After::Abort {
                client.abort();
            }
            spare = client.retire(&self.buffers);
            desk.end(after);
        }
    }

    /// One exchange, from its head to its report.
    async fn stream(&self, client: &mut Client, parts: Parts, ends: bool) -> After {
        let mut rng = fastrand::Rng::new();
        let trace_id = |sent: Option<&str>| headers::trace_id(sent, clock::now(), &mut rng);
        if let Some(listener) = account::listener(&self.thread, client.socket) {
            client.listener = listener;
        }
        let found = account::screen_fields(&parts, ends, (&self.thread, client.socket));
        client.classified = found.map(|(classified, _)| classified);
        let verdict = found.map_or(Verdict::Pass, |(_, verdict)| verdict);
        let Front::Stream(stream) = &mut client.front else { return After::Abort };
        let out = stream.head_mut();
        let way = Way {
            origin: &client.origin,
            rules: client.listener.load_balancer.options.requests,
            transformed: &Transformed::default(),
        };
        let framed = (ends, verdict == Verdict::PassAndClose);
        let crumbs = request::join_crumbs(&parts.headers);
        let read = request::translate((&parts, crumbs.as_deref()), framed, way, trace_id, out);
        let after = match read {
            Ok((mut request, trace_id)) => {
                request.sent = Some(request::sent(parts.headers, crumbs));
                request.refused = verdict.refuses().or(request.refused);
                client.up.begin();
                client.up.lead.extend_from_slice(stream.head());
                let mut exchange = self.begin(client, request, trace_id);
                let after = self.run(client, &mut exchange).await;
                self.end(client, exchange, after)
            }
            Err(cause) => {
                let spoken = request::spoken(&parts.headers);
                self.refuse_stream(client, cause, spoken).await
            }
        };
        match after {
            // Where HTTP/1 ends a connection, this one gets a GOAWAY: other streams are none of it.
            After::Another | After::Close if verdict != Verdict::Pass => After::Leave,
            after => after,
        }
    }

    /// Answers what is no request of ours to send on; the connection stays.
    async fn refuse_stream(&self, client: &mut Client, cause: Cause, spoken: Spoken) -> After {
        let own = Own::error(cause, spoken);
        let listener = Arc::clone(&client.listener);
        client.stage_own(&own, &Additions::own(&listener), (false, false));
        client.timer.set(clock::instant() + client.listener.idle_timeout);
        let after = match client.flush().await {
            Ok(()) => After::Close,
            Err(_) => After::Abort,
        };
        self.report_refused(client, (cause, Kind::http2(spoken == Spoken::Grpc)));
        after
    }
}

/// A connection and its exchanges.
struct Session<'a, S, Start, Running> {
    /// None once it has ended.
    connection: Option<Connection<Screened<S>, Bytes>>,
    /// Each runs one exchange after the other: what an exchange needs is made once, and not anew
    /// for each.
    runners: FuturesUnordered<Running>,
    desk: &'a Desk<Job>,
    /// Exchanges that run.
    busy: usize,
    start: Start,
    /// Closed with the process, or when the listener is gone.
    door: Pin<&'a mut WaitForCancellationFutureOwned>,
    flooded: Arc<AtomicBool>,
    /// Exchanges.
    begun: u64,
    timer: Timer,
    /// Its greatest age is reached.
    old_at: Instant,
    /// None while exchanges run.
    rests_until: Option<Instant>,
    /// It gives up runners then, if it rests until then.
    lean_at: Option<Instant>,
    idle_timeout: Duration,
    /// GOAWAY was sent; without an exchange it ends then.
    parting: Option<Instant>,
    /// Nothing is sent behind what is; the client has until then to read it.
    cut_at: Option<Instant>,
}

impl<S, Start, Running> Session<'_, S, Start, Running>
where
    S: AsyncRead + AsyncWrite + Unpin,
    Start: Fn(usize) -> Running,
    Running: Future<Output = Infallible>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // All that has come, then all that can go on, then all that they have to say in one
            // write: looking at the connection sends what waits.
            let mut moved = false;
            while self.poll_accept(cx) {
                moved = true;
            }
            while self.poll_running(cx) {
                moved = true;
            }
            if self.connection.is_none() && self.busy == 0 {
                return Poll::Ready(());
            }
            if !moved {
                break;
            }
        }
        self.look_at_clock(cx)
    }

    /// Reads, writes and takes what has come. Whether there may be more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        // Those given up count no more for the client, but they still do for us. Until they are
        // gone the crate counts what comes, and ends a flood.
        let is_full = self.busy >= 2 * STREAMS as usize;
        let polled = match is_full {
            true => connection.poll_closed(cx).map(|ended| ended.err().map(Err)),
            false => connection.poll_accept(cx),
        };
        match polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok((request, respond)))) => {
                self.begin(request, respond);
                return true;
            }
            Poll::Ready(ended) => {
                if let Some(Err(error)) = ended {
                    tracing::debug!(%error, "a client's HTTP/2 connection has ended");
                }
                // Its streams learn of it by themselves.
                self.connection = None;
                return true;
            }
        }
        if self.flooded.load(Ordering::Relaxed) && self.cut_at.is_none() {
            self.cut(Reason::ENHANCE_YOUR_CALM);
            return true;
        }
        false
    }

    fn begin(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (parts, receive) = request.into_parts();
        if !self.desk.put(Job { parts, respond, receive }) {
            let runner = self.runners.len();
            self.runners.push((self.start)(runner));
        }
        self.busy += 1;
        self.rests_until = None;
        self.begun += 1;
        if self.begun >= REQUESTS {
            self.part();
        }
    }

    /// Lets the exchanges go on. Whether one has ended.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = self.runners.poll_next_unpin(cx);
        let Ended { count, leaves } = self.desk.take_ended();
        if count == 0 {
            return false;
        }
        self.busy -= count;
        if leaves {
            self.part();
        }
        if self.busy == 0 {
            let now = clock::instant();
            self.lean_at = (self.runners.len() > RUNNERS_KEPT).then(|| now + RUNNERS_REST);
            let rested = now + self.idle_timeout;
            self.rests_until = Some(rested);
            // What the last one sent may still wait for a slow reader; behind it the crate ends
            // the connection by itself.
            self.parting = self.parting.map(|_| rested);
        }
        true
    }

    /// Ends the connection behind what runs: GOAWAY. What crosses it is still answered.
    fn part(&mut self) {
        if let Some(connection) = self.connection.as_mut().filter(|_| self.parting.is_none()) {
            connection.graceful_shutdown();
            self.parting = Some(clock::instant() + PARTING);
        }
    }

    /// Ends the connection now; what runs ends with it.
    fn cut(&mut self, reason: Reason) {
        if let Some(connection) = &mut self.connection {
            connection.abrupt_shutdown(reason);
            self.cut_at = Some(clock::instant() + LINGER);
        }
    }

    /// What time brings: the end of a rest, of an age, of a parting. Pending: wait for more.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.is_none() {
            return Poll::Pending;
        }
        if self.parting.is_none() && self.door.as_mut().poll(cx).is_ready() {
            self.part();
            // The connection has something to send.
            cx.waker().wake_by_ref();
        }
        let rests = self.rests_until;
        let deadline = match (self.cut_at, self.parting, rests) {
            (Some(cut_at), ..) => cut_at,
            (None, Some(parting), Some(rests)) => parting.min(rests),
            // Exchanges have their own deadlines.
            (None, Some(_), None) => return Poll::Pending,
            (None, None, Some(rests)) => rests.min(self.old_at),
            (None, None, None) => self.old_at,
        };
        let lean_at = self.lean_at.filter(|at| self.busy == 0 && *at < deadline);
        self.timer.set(lean_at.unwrap_or(deadline));
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if lean_at.is_some() {
            self.lean_at = None;
            self.runners.clear();
            self.desk.forget_runners();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match rests.is_some() && deadline != self.old_at {
            // It does not even read why.
            _ if self.cut_at.is_some() => self.connection = None,
            true => self.cut(Reason::NO_ERROR),
            false => self.part(),
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
