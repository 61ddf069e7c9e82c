//! A client's connection: the stream that pingora reads and writes, and what is known of it beside
//! its bytes.
//!
//! HTTP/1 heads are read here, under one deadline for the whole head. Of what follows, pingora may
//! read the body and no more: what a client sends ahead waits for its turn. **Invariant:** no byte
//! of a later request is seen by the exchange before it.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufWriter, ReadBuf};
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::super::desync::Classified;
use super::super::errors::Cause;
use super::super::head::{Body, PREFACE, Scan, Scanner};
use super::super::limits::{LINGER, PARTING};
use crate::clock::{self, Instant};
use crate::routing::{RoutedListener, SocketKey};
use crate::tls::{Session, Stream};

/// Small writes are gathered up to this many bytes (ours: a head and a small body go out as one
/// packet).
const WRITE_BUFFER: usize = 2048;
/// What a client may send ahead of its turn before its socket is read no more (ours: one full
/// read).
const AHEAD: usize = 64 * 1024;
/// First reservation for a head (ours: nearly all are shorter).
const HEAD_BUFFER: usize = 2048;
/// Allowance without an end.
const UNBOUNDED: u64 = u64::MAX;

/// What is known of a client's connection, shared with the hooks of its exchanges.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) socket: SocketKey,
    /// As it was when the connection was accepted.
    pub(super) listener: Arc<RoutedListener>,
    /// None: without TLS.
    pub(super) session: Option<Arc<Session>>,
    pub(super) opened: Instant,
    /// `TID_` and 32 hexadecimal digits, as ALB's.
    pub(super) trace_id: String,
    origin: Instant,
    /// Microseconds after `origin` at which the current head began.
    begun: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Bytes that pingora may still read.
    allowance: AtomicU64,
    /// The current request had both kinds of framing.
    ambiguous: std::sync::atomic::AtomicBool,
    /// What desync mitigation says of it. Never waited for: one thread has the connection.
    classified: Mutex<Option<Classified>>,
    exchanges: AtomicU64,
    finished: AtomicU64,
    goaway: OnceLock<watch::Sender<bool>>,
}

impl Connection {
    pub(super) fn new(
        peer: SocketAddr,
        socket: SocketKey,
        listener: Arc<RoutedListener>,
        session: Option<Arc<Session>>,
    ) -> Self {
        let opened = clock::instant();
        Self {
            peer,
            socket,
            listener,
            session,
            opened,
            trace_id: format!("TID_{:032x}", fastrand::u128(..)),
            origin: opened,
            begun: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            allowance: AtomicU64::new(0),
            ambiguous: false.into(),
            classified: Mutex::default(),
            exchanges: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            goaway: OnceLock::new(),
        }
    }

    /// When the current head's first byte came.
    pub(super) fn begun(&self) -> Instant {
        self.origin + Duration::from_micros(self.begun.load(Ordering::Relaxed))
    }

    fn begin(&self) {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.begun.store(micros, Ordering::Relaxed);
    }

    /// Bytes since the last call, both ways: received, sent.
    pub(super) fn take_bytes(&self) -> (u64, u64) {
        (self.received.swap(0, Ordering::Relaxed), self.sent.swap(0, Ordering::Relaxed))
    }

    /// Ends when no byte has gone either way for `idle`. Only for HTTP/2: elsewhere exchanges take
    /// the counters.
    pub(super) async fn silent_for(&self, idle: Duration) {
        let moved = || self.received.load(Ordering::Relaxed) + self.sent.load(Ordering::Relaxed);
        loop {
            let before = moved();
            tokio::time::sleep(idle).await;
            if moved() == before {
                return;
            }
        }
    }

    /// How many exchanges have begun.
    pub(super) fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// An exchange begins; returns how many have.
    pub(super) fn count_exchange(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One of the exchanges is over.
    pub(super) fn finish_exchange(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no exchange is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.finished.load(Ordering::Relaxed) == self.exchanges()
    }

    /// A body of stated length has not come whole.
    pub(super) fn is_body_short(&self) -> bool {
        !matches!(self.allowance.load(Ordering::Relaxed), 0 | UNBOUNDED)
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Neither connection is used again.
    pub(super) fn is_suspect(&self) {
        self.ambiguous.store(true, Ordering::Relaxed);
    }

    pub(super) fn classify(&self, found: Option<Classified>) {
        *self.classified.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    pub(super) fn classified(&self) -> Option<Classified> {
        *self.classified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on all bytes belong to this exchange: it became a tunnel.
    pub(super) fn unbounded(&self) {
        self.allowance.store(UNBOUNDED, Ordering::Relaxed);
    }

    pub(super) fn is_h2(&self, goaway: watch::Sender<bool>) {
        let _ = self.goaway.set(goaway);
    }

    /// Ends an HTTP/2 connection after its running streams.
    pub(super) fn goaway(&self) {
        if let Some(goaway) = self.goaway.get() {
            goaway.send_replace(true);
        }
    }
}

/// What a client's connection brings next.
#[derive(Debug)]
pub(super) enum Next {
    /// The bytes of a whole head.
    Request(BytesMut),
    /// The connection begins with HTTP/2's preface.
    H2,
    Refused(Cause),
    /// Closed, idle for too long, or not wanted any more. Nobody waits for an answer.
    End,
}

pub(super) struct ClientStream {
    tcp: BufWriter<Stream>,
    /// Read from the socket, not given to pingora yet.
    ahead: BytesMut,
    connection: Arc<Connection>,
    /// Carries the [`Connection`] to the hooks, also for HTTP/2's streams.
    proxy_digest: Arc<ProxyDigest>,
    socket_digest: Arc<SocketDigest>,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    idle_timeout: Duration,
    /// Runs once our half is closed.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientStream").field("peer", &self.connection.peer).finish_non_exhaustive()
    }
}

impl ClientStream {
    /// `ahead` was read from `tcp` already.
    pub(super) fn new((tcp, ahead): (Stream, BytesMut), connection: Arc<Connection>) -> Self {
        use pingora_core::protocols::l4::socket::SocketAddr as Address;
        let socket_digest = SocketDigest::from_raw_fd(tcp.tcp().as_raw_fd());
        let _ = socket_digest.peer_addr.set(Some(Address::Inet(connection.peer)));
        let _ = socket_digest.local_addr.set(Some(Address::Inet(connection.socket.address)));
        connection.received.fetch_add(ahead.len() as u64, Ordering::Relaxed);
        Self {
            tcp: BufWriter::with_capacity(WRITE_BUFFER, tcp),
            ahead,
            proxy_digest: Arc::new(ProxyDigest {
                response: Box::new(ok_response()),
                user_data: Some(Box::new(Arc::clone(&connection))),
            }),
            socket_digest: Arc::new(socket_digest),
            stalled: None,
            idle_timeout: connection.listener.idle_timeout,
            lingering: None,
            connection,
        }
    }

    pub(super) fn unbounded(&mut self) {
        self.connection.unbounded();
    }

    /// For another carrier: the client's connection and what was read of it.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.tcp.into_inner(), self.ahead)
    }

    /// What was read and not given to pingora yet.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The connection will end with a reset.
    pub(super) fn abort(&self) {
        // Without it the end is only a plain one.
        let _ = self.tcp.get_ref().tcp().set_zero_linger();
    }

    /// Reads until there is a whole head. A head that has begun has `idle_timeout` to be whole,
    /// however it trickles.
    pub(super) async fn next(
        &mut self,
        closing: &CancellationToken,
        idle_timeout: Duration,
    ) -> Next {
        self.idle_timeout = idle_timeout;
        let mut scanner = Scanner::default();
        let mut begun = !self.ahead.is_empty();
        self.connection.begin();
        let deadline = tokio::time::sleep_until(clock::instant() + idle_timeout);
        let mut deadline = std::pin::pin!(deadline);
        let unwanted = async {
            closing.cancelled().await;
            // What the client is sending at this very moment is still answered.
            tokio::time::sleep(PARTING).await;
        };
        let mut unwanted = std::pin::pin!(unwanted);
        loop {
            if begun && let Some(next) = self.look(&mut scanner) {
                return next;
            }
            if self.ahead.capacity() == self.ahead.len() {
                self.ahead.reserve(HEAD_BUFFER);
            }
            tokio::select! {
                biased;
                read = self.tcp.get_mut().read_buf(&mut self.ahead) => match read {
                    Ok(0) | Err(_) => return Next::End,
                    Ok(count) => self.count_received(count),
                },
                () = &mut deadline => {
                    return if begun { Next::Refused(Cause::Slow) } else { Next::End };
                }
                () = &mut unwanted, if !begun => return Next::End,
            }
            if !begun {
                begun = true;
                self.connection.begin();
                deadline.as_mut().reset(clock::instant() + idle_timeout);
            }
        }
    }

    /// What the bytes so far are, if that can be said.
    fn look(&mut self, scanner: &mut Scanner) -> Option<Next> {
        if self.connection.exchanges() == 0 && self.ahead.starts_with(&PREFACE[..4]) {
            return match PREFACE.starts_with(&self.ahead[..self.ahead.len().min(PREFACE.len())]) {
                true if self.ahead.len() >= PREFACE.len() => Some(Next::H2),
                true => None,
                false => Some(Next::Refused(Cause::Version)),
            };
        }
        match scanner.scan(&self.ahead) {
            Scan::Partial => None,
            Scan::Refused(cause) => Some(Next::Refused(cause)),
            Scan::Whole(head) => {
                let allowance = match head.body {
                    Body::Length(length) => length.min(UNBOUNDED - 1),
                    Body::Chunked => UNBOUNDED,
                };
                self.connection.allowance.store(allowance, Ordering::Relaxed);
                self.connection.ambiguous.store(head.ambiguous, Ordering::Relaxed);
                Some(Next::Request(self.ahead.split_to(head.length)))
            }
        }
    }

    fn count_received(&self, count: usize) {
        self.connection.received.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Fills `ahead` from the socket. Ready: false at the end of the stream.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut chunk = [0; 8 * 1024];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(self.tcp.get_mut()).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        self.count_received(filled.len());
        self.ahead.extend_from_slice(filled);
        Poll::Ready(Ok(!filled.is_empty()))
    }

    /// Gives pingora what it may have of `ahead`.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>, allowance: u64) {
        let most = usize::try_from(allowance).unwrap_or(usize::MAX);
        let count = self.ahead.len().min(buf.remaining()).min(most);
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        self.spend(allowance, count);
    }

    fn spend(&self, allowance: u64, count: usize) {
        if allowance != UNBOUNDED {
            let left = allowance.saturating_sub(count as u64);
            self.connection.allowance.store(left, Ordering::Relaxed);
        }
    }

    /// A write that waits for the client fails when it has waited for the idle timeout.
    fn stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let after = self.idle_timeout;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The carrier of the [`Connection`] needs a response to carry beside it.
fn ok_response() -> pingora_http::ResponseHeader {
    let (parts, ()) = http::Response::new(()).into_parts();
    parts.into()
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whoever waits for the client has written all there is for now.
        if !this.tcp.buffer().is_empty() {
            let _ = Pin::new(&mut this.tcp).poll_flush(cx)?;
        }
        let allowance = this.connection.allowance.load(Ordering::Relaxed);
        if allowance == 0 {
            // The body is over; only the end of the stream is of interest.
            while this.ahead.len() < AHEAD {
                if !ready!(this.poll_ahead(cx))? {
                    return Poll::Ready(Ok(()));
                }
            }
            return Poll::Pending;
        }
        if this.ahead.is_empty() {
            if allowance >= buf.remaining() as u64 {
                let before = buf.filled().len();
                ready!(Pin::new(this.tcp.get_mut()).poll_read(cx, buf))?;
                let count = buf.filled().len() - before;
                this.count_received(count);
                this.spend(allowance, count);
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.poll_ahead(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        this.hand_out(buf, allowance);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tcp).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            this.connection.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
        this.stall(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = polled {
            this.connection.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
        this.stall(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tcp).poll_flush(cx);
        this.stall(cx, polled)
    }

    /// Closes our half; then reads what the client still sends, for a moment, so that closing the
    /// socket does not reset what it has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let polled = Pin::new(&mut this.tcp).poll_shutdown(cx);
            ready!(this.stall(cx, polled))?;
            if this.connection.allowance.load(Ordering::Relaxed) == 0 && this.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            this.ahead.clear();
            match ready!(this.poll_ahead(cx)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.tcp.get_ref().tcp().as_raw_fd()
    }
}

impl Ssl for ClientStream {}

/// The default says that peeking is not supported, which pingora takes as leave to speak HTTP/2.
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.proxy_digest))
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket_digest))
    }
}
