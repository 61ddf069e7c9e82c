//! What carries a target's side of an exchange: its connection, or one stream of it.
//!
//! **Invariant:** whatever it is, what a target says comes as HTTP/1 has it: a head of lines, then
//! the body's bytes, then the end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use h2::Reason;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::super::errors::Cause;
use super::super::retry::Failure;
use super::body::Body;
use super::lane::Lane;
use super::links::{Broken, Stream};
use super::pool::Held;
use super::window::{Buffers, Window};

#[derive(Debug)]
pub(super) enum Back {
    /// Its connection, HTTP/1.
    Connection(Held),
    /// A stream of its HTTP/2 connection: one exchange.
    Stream(Box<Stream>),
}

impl Back {
    /// Out of a pool, or of a link that has served before.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Connection(held) => held.reused,
            Self::Stream(stream) => stream.is_reused(),
        }
    }

    /// Its socket, where all that comes from it is the response.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Connection(held) => held.stream.plain(),
            Self::Stream(_) => None,
        }
    }

    /// Whether it was cut because its registration is gone.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Self::Connection(held) => held.is_cut(),
            Self::Stream(stream) => stream.is_cut(),
        }
    }

    /// From now on it is a tunnel.
    pub(super) fn tunnels(&self) {
        if let Self::Connection(held) = self {
            held.tunnels();
        }
    }

    /// A gRPC call: its messages come when they come.
    pub(super) const fn is_call(&self) -> bool {
        match self {
            Self::Connection(_) => false,
            Self::Stream(stream) => stream.is_call,
        }
    }

    /// Writes what is staged of `up`. Ready when all of it is written.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Lane,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Connection(held) => up.poll_write(cx, &mut held.stream),
            Self::Stream(stream) => stream.poll_send(cx, up),
        }
    }

    /// Closes our half of a tunnel.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Connection(held) => Pin::new(&mut held.stream).poll_shutdown(cx),
            // There are no tunnels here: RFC 8441 is not asked for.
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads once. Ready: 0 at the end. The caller has seen to room.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut Window,
        room: (&Buffers, usize),
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Connection(held) => down.poll_fill(cx, &mut held.stream, room),
            Self::Stream(stream) => stream.poll_read(cx, down, room),
        }
    }

    /// How the body behind a head ends, which the head says to be `body`.
    pub(super) fn frame(&mut self, body: Body, is_bodyless: bool) -> Body {
        match self {
            Self::Connection(_) => body,
            // It may well end with trailers, whatever length it has.
            Self::Stream(stream) if stream.is_at_end() => Body::Ended(stream.take_trailers()),
            Self::Stream(_) if is_bodyless => body,
            Self::Stream(_) => Body::UntilEnd,
        }
    }

    /// The trailer section of a response that has ended.
    pub(super) fn take_trailers(&mut self) -> Vec<u8> {
        match self {
            Self::Connection(_) => Vec::new(),
            Self::Stream(stream) => stream.take_trailers(),
        }
    }

    /// With what the target has reset the stream.
    pub(super) const fn reset(&self) -> Option<Reason> {
        match self {
            Self::Stream(stream) => match stream.broken {
                Some(Broken::Reset(reason)) => Some(reason),
                _ => None,
            },
            Self::Connection(_) => None,
        }
    }

    /// What an attempt that ended by `cause` means for the next one.
    pub(super) fn failure(&self, cause: Cause) -> (Failure, Cause) {
        let broken = match self {
            Self::Connection(_) => None,
            Self::Stream(stream) => stream.broken,
        };
        if let (Self::Stream(stream), Cause::TargetTimeout) = (self, cause) {
            stream.give_up();
        }
        match (cause, broken) {
            // Its deregistration delay is over: ALB answers 502.
            (Cause::TargetClosed, _) if self.is_cut() => (Failure::Other, cause),
            (Cause::TargetClosed, Some(Broken::Refused)) => (Failure::Unprocessed, cause),
            (Cause::TargetClosed, Some(Broken::Malformed)) => (Failure::Other, Cause::BadResponse),
            (Cause::TargetClosed, _) if self.is_reused() => (Failure::PooledClosed, cause),
            (Cause::TargetClosed, _) => (Failure::Closed, cause),
            _ => (Failure::Other, cause),
        }
    }
}
