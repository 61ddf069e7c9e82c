//! A client's connection, or one stream of it: both directions' bytes, and the one timer it has.
//!
//! Reads heads, under one deadline for the whole head; while it waits for one it holds no buffer.
//! Not here: what becomes of a request. **Invariant:** no byte of a later request is seen by the
//! exchange before it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::super::additions::Additions;
use super::super::desync::Classified;
use super::super::errors::Cause;
use super::super::head::{Head, PREFACE, Scan, Scanner};
use super::super::limits::{LINGER, PARTING};
use super::super::own::Own;
use super::h2::Stream;
use super::lane::Lane;
use super::request::Origin;
use super::response::{self, Asked, Out, Response};
use super::window::{Buffers, LARGE, SMALL};
use crate::clock::{self, Instant};
use crate::routing::{RoutedListener, SocketKey};
use crate::tls::{self, Session};

/// What a client's connection brings next.
#[derive(Debug)]
pub(super) enum Next {
    /// A whole head lies at the beginning of the window.
    Request(Head),
    /// The connection begins with HTTP/2's preface.
    H2,
    Refused(Cause),
    /// Closed, idle for too long, or not wanted any more. Nobody waits for an answer.
    End,
}

/// One timer that is moved without being set anew: it looks at its deadline when it fires.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
}

impl Timer {
    pub(super) fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(at)), at }
    }

    pub(super) fn set(&mut self, at: Instant) {
        self.at = at;
        if at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.at);
        }
    }
}

/// What carries a client's side of its exchanges.
#[derive(Debug)]
pub(super) enum Front {
    /// Its connection, HTTP/1.
    Connection(tls::Stream),
    /// A stream of its HTTP/2 connection: one exchange.
    Stream(Box<Stream>),
}

impl Front {
    /// Its socket, where all that goes to it is the response.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Connection(stream) => stream.plain(),
            Self::Stream(_) => None,
        }
    }
}

/// What an exchange over a stream leaves to the next one of its connection, which would have to get
/// all of it anew.
#[derive(Debug)]
pub(super) struct Spare {
    up: Box<Lane>,
    down: Box<Lane>,
    timer: Timer,
    head: Vec<u8>,
}

impl Spare {
    /// Where the next request's head is written.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) front: Front,
    /// Of the connection, where it has TLS.
    pub(super) session: Option<Arc<Session>>,
    pub(super) peer: SocketAddr,
    pub(super) socket: SocketKey,
    /// As of the last exchange.
    pub(super) listener: Arc<RoutedListener>,
    pub(super) origin: Arc<Origin>,
    pub(super) opened: Instant,
    /// When the current head's first byte came; before that, when the last exchange was over.
    pub(super) begun: Instant,
    /// From the client to a target.
    pub(super) up: Box<Lane>,
    /// From a target, or from us, to the client.
    pub(super) down: Box<Lane>,
    pub(super) timer: Timer,
    /// Bytes read since they were taken last.
    received: u64,
    pub(super) exchanges: u64,
    /// What desync mitigation says of the current head.
    pub(super) classified: Option<Classified>,
    /// None where somebody else watches.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// `closing` has been seen.
    is_parting: bool,
}

impl Client {
    pub(super) fn new(
        (front, session): (Front, Option<Arc<Session>>),
        (origin, socket): (Arc<Origin>, SocketKey),
        listener: Arc<RoutedListener>,
        spare: Option<Spare>,
        closing: Option<CancellationToken>,
    ) -> Self {
        let now = clock::instant();
        let (up, down, timer) = match spare {
            Some(spare) => (spare.up, spare.down, spare.timer),
            None => (Box::default(), Box::default(), Timer::new(now + listener.idle_timeout)),
        };
        Self {
            front,
            session,
            peer: origin.peer,
            socket,
            origin,
            opened: now,
            begun: now,
            up,
            down,
            timer,
            listener,
            received: 0,
            exchanges: 0,
            classified: None,
            closing: closing.map(|closing| Box::pin(closing.cancelled_owned())),
            is_parting: false,
        }
    }

    /// Its exchange is over.
    pub(super) fn retire(self, buffers: &Buffers) -> Option<Spare> {
        let Self { front, mut up, mut down, timer, .. } = self;
        let Front::Stream(stream) = front else { return None };
        up.renew(buffers);
        down.renew(buffers);
        Some(Spare { up, down, timer, head: stream.into_head() })
    }

    /// Reads until there is a whole head. A head that has begun has the idle timeout to be whole,
    /// however it trickles.
    pub(super) async fn next(&mut self, buffers: &Buffers) -> Next {
        let idle_timeout = self.listener.idle_timeout;
        let mut scanner = Scanner::default();
        self.timer.set(self.begun + idle_timeout);
        if self.is_parting && self.up.window.is_empty() {
            self.timer.set(self.begun + PARTING);
        }
        poll_fn(|cx| {
            loop {
                let waits = self.up.window.is_empty();
                if !waits {
                    if let Some(next) = self.look(&mut scanner) {
                        return Poll::Ready(next);
                    }
                    if !self.up.window.has_room() {
                        self.up.window.make_room(2 * LARGE);
                    }
                }
                match self.poll_read(cx, buffers, SMALL) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                    Poll::Ready(Ok(_)) if waits => {
                        self.begun = clock::instant();
                        self.timer.set(self.begun + idle_timeout);
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        self.watch_closing(cx, waits);
                        ready!(self.timer.poll(cx));
                        let slow = Next::Refused(Cause::Slow);
                        return Poll::Ready(if waits { Next::End } else { slow });
                    }
                }
            }
        })
        .await
    }

    /// Once the process is closing, a connection without a request is kept for a moment only: what
    /// the client is sending right now is still answered.
    fn watch_closing(&mut self, cx: &mut Context<'_>, waits: bool) {
        let Some(closing) = self.closing.as_mut().filter(|_| waits && !self.is_parting) else {
            return;
        };
        if closing.as_mut().poll(cx).is_ready() {
            self.is_parting = true;
            self.timer.set(clock::instant() + PARTING);
        }
    }

    /// What the bytes so far are, if that can be said.
    fn look(&mut self, scanner: &mut Scanner) -> Option<Next> {
        let bytes = self.up.window.all();
        if self.exchanges == 0 && bytes.starts_with(&PREFACE[..4]) {
            return match PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
                true if bytes.len() >= PREFACE.len() => Some(Next::H2),
                true => None,
                false => Some(Next::Refused(Cause::Version)),
            };
        }
        match scanner.scan(bytes) {
            Scan::Partial => None,
            Scan::Refused(cause) => Some(Next::Refused(cause)),
            Scan::Whole(head) => {
                self.up.window.keep_head(head.length);
                Some(Next::Request(head))
            }
        }
    }

    /// Reads once. Ready: 0 at the end of what the client sends. The caller has seen to room.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.front {
            Front::Connection(stream) => self.up.window.poll_fill(cx, stream, (buffers, size)),
            Front::Stream(stream) => stream.poll_read(cx, &mut self.up, (buffers, size)),
        };
        if let Poll::Ready(Ok(count)) = polled {
            self.received += count as u64;
        }
        polled
    }

    /// Whether a part of what was staged for the client is on its way, and the rest is not.
    pub(super) fn is_torn(&self) -> bool {
        let is_taken = match &self.front {
            Front::Connection(stream) => stream.has_taken(),
            Front::Stream(_) => false,
        };
        is_taken || self.down.is_torn()
    }

    /// Writes what is staged of `down`. Ready when all of it is written.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.front {
            Front::Connection(stream) => self.down.poll_write(cx, stream),
            Front::Stream(stream) => stream.poll_send(cx, &mut self.down),
        }
    }

    /// Closes our half of a tunnel, behind all that was sent.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.front {
            Front::Connection(stream) => Pin::new(stream).poll_shutdown(cx),
            // Its end went with its last bytes.
            Front::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the client gave its exchange up; only a stream can tell before its body is read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.front {
            Front::Connection(_) => Poll::Pending,
            Front::Stream(stream) => stream.poll_gone(cx),
        }
    }

    /// The same for one that waits for its turn. A connection that has nothing more to say but its
    /// end tells so, too.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Front::Connection(stream) = &self.front else { return self.poll_gone(cx) };
        let mut byte = [0];
        match stream.tcp().poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            // What it says belongs to the request, or is its next one.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// The request's head that the exchange was decided by, as long as it lasts.
    pub(super) fn head(&self) -> &[u8] {
        match &self.front {
            Front::Connection(_) => self.up.window.all(),
            Front::Stream(stream) => stream.head(),
        }
    }

    /// The trailer section of a request that ended with one.
    pub(super) fn take_trailers(&mut self) -> Vec<u8> {
        match &mut self.front {
            Front::Connection(_) => Vec::new(),
            Front::Stream(stream) => stream.take_trailers(),
        }
    }

    /// Stages what the client gets of the response's head at the beginning of `down`'s window.
    /// None: it is not whole.
    ///
    /// # Errors
    /// It is no response, or too long.
    pub(super) fn stage_head(
        &mut self,
        asked: Asked,
        added: &Additions<'_>,
    ) -> Result<Option<Response>, Cause> {
        let bytes = self.down.window.all();
        match &mut self.front {
            Front::Connection(_) => {
                let mut out = Out::Text(&mut self.down.lead);
                response::translate(bytes, asked, added, &mut out)
            }
            Front::Stream(stream) => stream.stage_head(bytes, asked, added),
        }
    }

    /// Stages a whole response of our own.
    pub(super) fn stage_own(
        &mut self,
        own: &Own,
        added: &Additions<'_>,
        (is_head, keep_alive): (bool, bool),
    ) {
        match &mut self.front {
            Front::Connection(_) => {
                let how = (is_head, keep_alive);
                response::write_own(own, added, how, &mut self.down.lead);
            }
            Front::Stream(stream) => stream.stage_own(own, added, is_head, &mut self.down),
        }
    }

    /// Stages what a client waits for before it sends its body.
    pub(super) fn stage_continue(&mut self) {
        match &mut self.front {
            Front::Connection(_) => {
                self.down.lead.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            Front::Stream(stream) => stream.send_continue(),
        }
    }

    /// Writes all of `down` that is staged.
    ///
    /// # Errors
    /// The client is gone, or takes nothing until the timer's deadline.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.poll_send(cx) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => {
                ready!(self.timer.poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        })
        .await
    }

    /// Bytes read since they were taken last.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes since the last call, both ways: received, sent.
    pub(super) fn take_bytes(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.received), self.down.take_written())
    }

    /// TLS has a word for the end, without which it could be a cut (RFC 8446, section 6.1).
    pub(super) async fn goodbye(&mut self) {
        if let Front::Connection(stream) = &mut self.front
            && stream.session().is_some()
        {
            // Boxed: it comes once, and a connection at rest shall be small.
            let _ = Box::pin(tokio::time::timeout(LINGER, stream.shutdown())).await;
        }
    }

    /// The connection, or the stream, ends with a reset.
    pub(super) fn abort(&mut self) {
        match &mut self.front {
            // Without it the end is only a plain one.
            Front::Connection(stream) => _ = stream.tcp().set_zero_linger(),
            Front::Stream(stream) => stream.reset(),
        }
    }

    /// Closes our half; then reads what the client still sends, for a moment, so that closing the
    /// socket does not reset what it has not read yet.
    pub(super) async fn linger(&mut self, buffers: &Buffers) {
        let ended = async {
            poll_fn(|cx| self.poll_shut(cx)).await?;
            loop {
                self.up.window.clear(buffers);
                let read = poll_fn(|cx| self.poll_read(cx, buffers, SMALL)).await?;
                if read == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, ended).await;
    }
}
