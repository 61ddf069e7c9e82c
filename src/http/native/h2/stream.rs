//! The client's side of one exchange where it is a stream of an HTTP/2 connection.
//!
//! What arrives is copied into the exchange's window, and only then is more asked for; what leaves
//! is cut to what the client's windows allow. **Invariant:** what came and was not taken is no more
//! than the client was allowed, and nothing that leaves is kept here.

use std::io;
use std::task::{Context, Poll, ready};

use h2::Reason;

use super::super::super::additions::Additions;
use super::super::super::errors::{self, Cause};
use super::super::super::own::Own;
use super::super::body::Body;
use super::super::fields;
use super::super::lane::Lane;
use super::super::response::{self, Asked, Out, Response};
use super::super::window::Buffers;
use super::wire::Lease;
use super::{KEPT, Made, hpack};

/// Interim responses passed on per exchange; they wait for no window (ours; a page has one or two).
const MOST_INTERIM: u32 = 16;

#[derive(Debug)]
pub(in super::super) struct Stream {
    lease: Lease,
    /// The response's head is sent.
    is_begun: bool,
    trailers: Vec<u8>,
    /// The request has ended.
    is_read: bool,
    /// The response has ended.
    is_sent: bool,
    /// What the target gets.
    head: Vec<u8>,
    made: Made,
    interim: u32,
    /// Of a reset: what the target gave for its own.
    pub(in super::super) reason: Reason,
}

impl Stream {
    /// `ends`: no body follows. `head` is what the target's head is to be written to.
    pub(super) fn new(lease: Lease, ends: bool, mut head: Vec<u8>) -> Self {
        head.clear();
        head.reserve(512);
        Self {
            lease,
            is_begun: false,
            trailers: Vec::new(),
            // What ends with its head is not asked for more.
            is_read: ends,
            is_sent: false,
            head,
            made: Made::default(),
            interim: 0,
            reason: Reason::INTERNAL_ERROR,
        }
    }

    /// The memory of its head, where that is worth keeping.
    pub(in super::super) fn into_head(self) -> Vec<u8> {
        if self.head.capacity() > KEPT { Vec::new() } else { self.head }
    }

    /// What the target gets; the request was decided by it.
    pub(in super::super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) const fn head_mut(&mut self) -> &mut Vec<u8> {
        &mut self.head
    }

    pub(in super::super) fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Takes what has come of the body. Ready: 0 at its end, and behind it when the client gives
    /// the exchange up.
    pub(in super::super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Lane,
        room: (&Buffers, usize),
    ) -> Poll<io::Result<usize>> {
        if self.is_read && !up.body.ends_with_connection() {
            ready!(self.poll_gone(cx));
            return Poll::Ready(Ok(0));
        }
        if !self.is_read {
            let at = self.lease.at;
            let mut wire = self.lease.lock();
            let slot = wire.slots.get(at);
            if slot.reset.is_some() {
                return Poll::Ready(Err(gone()));
            }
            if !slot.unread().is_empty() {
                let count = up.window.fill(slot.unread(), room);
                slot.taken += count;
                wire.release(at, count);
                return Poll::Ready(Ok(count));
            }
            if !slot.is_read {
                wire.watch(at, cx);
                return Poll::Pending;
            }
            self.trailers = std::mem::take(&mut slot.trailers);
            drop(wire);
            self.is_read = true;
        }
        if up.body.is_done() {
            // As it was announced: from now on only its end is of interest.
            ready!(self.poll_gone(cx));
        }
        Poll::Ready(Ok(0))
    }

    /// Ready when the client has given the stream up, or its connection has ended.
    pub(in super::super) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let mut wire = self.lease.lock();
        if wire.slots.get(self.lease.at).reset.is_some() {
            return Poll::Ready(());
        }
        wire.watch(self.lease.at, cx);
        Poll::Pending
    }

    /// Sends what is staged, as far as the client's windows allow.
    pub(in super::super) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        down: &mut Lane,
    ) -> Poll<io::Result<()>> {
        let at = self.lease.at;
        let mut wire = self.lease.lock();
        if self.made.section().is_empty() && !self.is_begun {
            return Poll::Ready(Ok(()));
        }
        loop {
            let pieces = down.pieces();
            let total: usize = pieces.iter().map(|piece| piece.len()).sum();
            let piece = pieces.into_iter().find(|piece| !piece.is_empty());
            let is_last = down.ends() && down.body.trailers().is_empty();
            let has_head = !self.made.section().is_empty();
            let has_end = down.ends() && !self.is_sent;
            if !has_head && total == 0 && !has_end {
                return Poll::Ready(Ok(()));
            }
            if wire.slots.get(at).reset.is_some() {
                return Poll::Ready(Err(gone()));
            }
            if has_head {
                ready!(wire.poll_place(at, cx));
                self.is_sent = is_last && total == 0;
                wire.send_section(at, self.made.section(), self.is_sent);
                self.made.clear();
                self.is_begun = true;
            } else if let Some(piece) = piece {
                let count = ready!(wire.poll_room(at, cx)).min(piece.len());
                self.is_sent = is_last && count == total;
                wire.send_data(at, &piece[..count], self.is_sent);
                down.wrote(count);
            } else {
                match down.body.trailers() {
                    [] => wire.send_data(at, &[], true),
                    trailers => wire.send_section(at, &section_of(trailers), true),
                }
                self.is_sent = true;
            }
        }
    }

    /// Ends a call whose response has begun and cannot go on: gRPC's status in the trailers.
    ///
    /// # Errors
    /// The client is gone.
    pub(in super::super) fn end_call(&mut self, cause: Cause) -> io::Result<()> {
        if !self.is_begun || self.is_sent || self.lease.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut trailers = Vec::new();
        each_grpc(errors::grpc_status(cause.status()), cause.reason(), |name, value| {
            hpack::write_field(name.as_bytes(), value.as_bytes(), &mut trailers);
        });
        self.lease.lock().send_section(self.lease.at, &trailers, true);
        self.is_sent = true;
        Ok(())
    }

    /// Stages what the client gets of a head; an interim response is sent at once.
    ///
    /// # Errors
    /// It is no response, or too long.
    pub(in super::super) fn stage_head(
        &mut self,
        bytes: &[u8],
        asked: Asked,
        added: &Additions<'_>,
    ) -> Result<Option<Response>, Cause> {
        let mut out = Out::Fields(&mut self.made);
        let Some(mut answer) = response::translate(bytes, asked, added, &mut out)? else {
            return Ok(None);
        };
        answer.chunked = false;
        if answer.status < 200 && answer.status != 101 {
            let mut wire = self.lease.lock();
            // None that would have to wait, either.
            let may_pass = self.interim < MOST_INTERIM && !wire.is_full();
            if !self.made.section().is_empty() && may_pass {
                self.interim += 1;
                // Who is gone is noticed where the final response is sent.
                wire.send_section(self.lease.at, self.made.section(), false);
            }
            drop(wire);
            self.made.clear();
        }
        Ok(Some(answer))
    }

    /// Stages a whole response of our own.
    pub(in super::super) fn stage_own(
        &mut self,
        own: &Own,
        added: &Additions<'_>,
        is_head: bool,
        down: &mut Lane,
    ) {
        let made = &mut self.made;
        made.status(own.sent_status());
        if !added.hides("server") {
            made.field("server", errors::SERVER.as_bytes());
        }
        for (name, value) in added.fields(std::iter::empty()) {
            made.field(name, value.as_bytes());
        }
        for (name, value) in own.fields() {
            made.field(name, value.as_bytes());
        }
        let body = own.body();
        let (is_bodyless, kind) = (own.is_bodyless(), own.content_type());
        if let Some((status, message)) = own.grpc() {
            made.field("content-type", errors::GRPC_TYPE.as_bytes());
            each_grpc(status, message, |name, value| made.field(name, value.as_bytes()));
        }
        if !is_bodyless {
            made.length(body.len() as u64);
            if !kind.is_empty() {
                made.field("content-type", kind.as_bytes());
            }
        }
        if !is_bodyless && !is_head {
            down.lead.extend_from_slice(body.as_bytes());
        }
        down.frame(Body::none(), false);
        // Nothing is in the window: there is nothing to be malformed.
        let _ = down.stage();
    }

    /// Who is gone is noticed where the final response is sent.
    pub(in super::super) fn send_continue(&mut self) {
        let mut section = Vec::new();
        hpack::write_status(100, &mut section);
        self.lease.lock().send_section(self.lease.at, &section, false);
    }

    /// The client shall see that something is missing.
    pub(in super::super) fn reset(&mut self) {
        self.lease.lock().reset(self.lease.at, self.reason);
    }
}

/// gRPC, "HTTP/2 transport mapping": Trailers-Only, or the trailers of a response.
fn each_grpc(status: u8, message: &str, mut each: impl FnMut(&str, &str)) {
    each("grpc-status", itoa::Buffer::new().format(status));
    each("grpc-message", message);
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Trailers as HTTP/1 has them; they were checked when they were staged.
fn section_of(trailers: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    let _ = fields::each_trailer(trailers, |field| {
        hpack::write_field(field.name.as_bytes(), field.value, &mut section);
    });
    section
}
