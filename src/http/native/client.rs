//! A client's connection: its socket, both directions' bytes, and the one timer it has.
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

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::super::errors::Cause;
use super::super::head::{Head, PREFACE, Scan, Scanner};
use super::super::limits::{LINGER, PARTING};
use super::lane::Lane;
use super::request::Origin;
use super::window::{Buffers, LARGE, SMALL};
use crate::clock::{self, Instant};
use crate::routing::{RoutedListener, SocketKey};

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
    fn new(at: Instant) -> Self {
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

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) socket: SocketKey,
    /// As of the last exchange.
    pub(super) listener: Arc<RoutedListener>,
    pub(super) origin: Origin,
    pub(super) opened: Instant,
    /// When the current head's first byte came.
    pub(super) begun: Instant,
    /// From the client to a target.
    pub(super) up: Lane,
    /// From a target, or from us, to the client.
    pub(super) down: Lane,
    pub(super) timer: Timer,
    /// Bytes read since they were taken last.
    received: u64,
    pub(super) exchanges: u64,
    trace_id: u128,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// `closing` has been seen.
    is_parting: bool,
}

impl Client {
    pub(super) fn new(
        stream: TcpStream,
        (peer, socket): (SocketAddr, SocketKey),
        listener: Arc<RoutedListener>,
        closing: CancellationToken,
    ) -> Self {
        let now = clock::instant();
        let client = super::super::headers::client_text(peer.ip());
        Self {
            stream,
            peer,
            socket,
            origin: Origin { client, listener: socket.address },
            opened: now,
            begun: now,
            up: Lane::default(),
            down: Lane::default(),
            timer: Timer::new(now + listener.idle_timeout),
            listener,
            received: 0,
            exchanges: 0,
            trace_id: fastrand::u128(..),
            closing: Box::pin(closing.cancelled_owned()),
            is_parting: false,
        }
    }

    /// `TID_` and 32 hexadecimal digits, as ALB's.
    pub(super) fn trace_id(&self) -> String {
        format!("TID_{:032x}", self.trace_id)
    }

    /// Reads until there is a whole head. A head that has begun has the idle timeout to be whole,
    /// however it trickles.
    pub(super) async fn next(&mut self, buffers: &Buffers) -> Next {
        let idle_timeout = self.listener.idle_timeout;
        let mut scanner = Scanner::default();
        self.begun = clock::instant();
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
        if waits && !self.is_parting && self.closing.as_mut().poll(cx).is_ready() {
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

    /// Reads once. Ready: 0 at the end of the stream. The caller has seen to room.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = self.up.window.poll_fill(cx, &mut self.stream, (buffers, size));
        if let Poll::Ready(Ok(count)) = polled {
            self.received += count as u64;
        }
        polled
    }

    /// Writes all of `down` that is staged.
    ///
    /// # Errors
    /// The client is gone, or takes nothing until the timer's deadline.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.down.poll_write(cx, &mut self.stream) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => {
                ready!(self.timer.poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        })
        .await
    }

    /// Bytes since the last call, both ways: received, sent.
    pub(super) fn take_bytes(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.received), self.down.take_written())
    }

    /// The connection will end with a reset.
    pub(super) fn abort(&self) {
        // Without it the end is only a plain one.
        let _ = self.stream.set_zero_linger();
    }

    /// Closes our half; then reads what the client still sends, for a moment, so that closing the
    /// socket does not reset what it has not read yet.
    pub(super) async fn linger(&mut self, buffers: &Buffers) {
        let ended = async {
            self.stream.shutdown().await?;
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
