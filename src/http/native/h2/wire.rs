//! The protocol of one HTTP/2 connection, as a server speaks it (RFC 9113): what we have to say,
//! and how much of it the client lets us.
//!
//! Pure: bytes in, bytes out; no socket and no clock of its own. What arrives is read in
//! [`super::incoming`]. **Invariant:** streams that have something to say get their turns one after
//! the other, and what waits for the socket is bounded: see [`ROOM`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use h2::Reason;

use super::super::super::head::PREFACE;
use super::super::window::LARGE;
use super::frame::{self, setting};
use super::hpack::{Decoder, EMPTY_TABLE};
use super::screen::Counts;
use super::section::Section;
use super::slots::Slots;
use super::{CONNECTION_WINDOW, HEADER_LIST, KEPT, STREAM_WINDOW, STREAMS};
use crate::clock::Instant;

/// Bytes that wait for the client's socket; who has more to say waits (ours: as much as TLS takes
/// at once). Frames that answer the client's may be as much again; it is not read any further then.
pub(super) const ROOM: usize = LARGE;
/// Streams that we ended before their client did, whose frames may still be on their way (ours: as
/// many as may be open).
const REMEMBERED: usize = STREAMS as usize;
/// RFC 9113, section 6.5.2.
const DEFAULT_WINDOW: i64 = 65_535;
/// What the client answers once it has read that we close.
pub(super) const PARTING_PING: [u8; 8] = *b"parting.";

/// A stream whose request has come, and which nobody runs yet.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) at: usize,
    pub(super) section: Section,
    /// No body follows.
    pub(super) ends: bool,
}

/// How a connection that is to end is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    No,
    /// The client was told; what it has sent until it knew is still answered.
    Told,
    /// It knows which stream was the last.
    Known,
    /// Nothing more is read, and nothing written but what is in `out`; all streams are closed.
    Over,
}

/// A head whose end has not come.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: u32,
    pub(super) ends: bool,
    pub(super) bytes: Vec<u8>,
    /// CONTINUATION frames.
    pub(super) count: usize,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) out: Vec<u8>,
    /// Bytes of it that the socket has taken.
    gone: usize,
    /// Bytes that it has taken since the start.
    pub(super) written: u64,
    pub(super) decoder: Decoder,
    /// The client made its table smaller, and wants to hear it: RFC 7541, section 4.2.
    pub(super) tells_table: bool,
    /// What is still to come of the preface.
    pub(super) preface: &'static [u8],
    /// The client's settings have come.
    pub(super) is_set: bool,
    pub(super) begun: Option<Begun>,
    pub(super) slots: Slots,
    /// The last stream that the client has begun …
    pub(super) seen: u32,
    /// … and that we have looked at.
    pub(super) last: u32,
    /// What we may send, of all streams together …
    pub(super) may_send: i64,
    /// … and of a new one.
    pub(super) initial: i64,
    pub(super) may_receive: i64,
    /// Taken by exchanges, and not told to the client.
    untold: usize,
    /// Streams whose heads wait for the socket alone …
    heads: VecDeque<(usize, u32)>,
    /// … and those with more of a body, as soon as the connection lets them.
    waiting: VecDeque<(usize, u32)>,
    /// Streams that we have reset, the last of them: see [`REMEMBERED`].
    left: VecDeque<u32>,
    /// Requests that nobody has taken.
    pub(super) opened: Vec<Opened>,
    pub(super) parting: Parting,
    /// Of the client's frames.
    pub(super) counts: Counts,
    /// Streams that we had to reset for what their client did.
    pub(super) forced: usize,
}

impl Wire {
    /// One that has our settings to say.
    pub(super) fn new(now: Instant) -> Self {
        let mut wire = Self {
            out: Vec::with_capacity(512),
            gone: 0,
            written: 0,
            decoder: Decoder::default(),
            tells_table: false,
            preface: PREFACE,
            is_set: false,
            begun: None,
            slots: Slots::default(),
            seen: 0,
            last: 0,
            may_send: DEFAULT_WINDOW,
            initial: DEFAULT_WINDOW,
            may_receive: CONNECTION_WINDOW.into(),
            untold: 0,
            heads: VecDeque::new(),
            waiting: VecDeque::new(),
            left: VecDeque::new(),
            opened: Vec::new(),
            parting: Parting::No,
            counts: Counts::new(now),
            forced: 0,
        };
        let list = u32::try_from(HEADER_LIST).unwrap_or(u32::MAX);
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, STREAMS),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, list),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        frame::begin(frame::SETTINGS, 0, 0, 6 * settings.len(), &mut wire.out);
        for (name, value) in settings {
            wire.out.extend_from_slice(&name.to_be_bytes());
            wire.out.extend_from_slice(&value.to_be_bytes());
        }
        wire.update(0, CONNECTION_WINDOW - STREAM_WINDOW);
        wire
    }

    pub(super) fn update(&mut self, stream: u32, more: u32) {
        frame::write(frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), &mut self.out);
    }

    /// What the socket is to take.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.out[self.gone..]
    }

    /// The socket has taken so much.
    pub(super) fn took(&mut self, count: usize) {
        self.written += count as u64;
        self.gone += count;
        if self.gone == self.out.len() {
            self.out.clear();
            self.gone = 0;
        } else if self.gone >= ROOM {
            self.out.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Gives memory back that is of no use to a connection that rests.
    pub(super) fn rest(&mut self) {
        if self.out.is_empty() && self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.decoder.rest();
    }

    /// Whether enough waits for the socket.
    pub(super) fn is_full(&self) -> bool {
        self.unsent().len() >= ROOM
    }

    /// Whether so much waits for the socket that nothing is to be read that may ask for an answer.
    pub(super) fn is_stuffed(&self) -> bool {
        self.unsent().len() >= 2 * ROOM
    }

    pub(super) fn is_over(&self) -> bool {
        self.parting == Parting::Over
    }

    /// Bytes that were taken and not told to the client.
    #[cfg(test)]
    pub(super) fn untold(&self) -> i64 {
        i64::try_from(self.untold).unwrap()
    }

    /// Whether a stream that waits for the connection has its turn: it is woken.
    pub(super) fn wake_next(&mut self) -> bool {
        while !self.is_full() {
            let next = self.heads.pop_front();
            let next = next.or_else(|| self.waiting.pop_front_if(|_| self.may_send > 0));
            let Some((at, id)) = next else { return false };
            if self.slots.id(at) == id {
                let slot = self.slots.get(at);
                slot.queued = false;
                slot.wake();
                return true;
            }
        }
        false
    }

    /// How much of a body a stream may send now. Ready: never 0. It is not for those that are gone.
    pub(super) fn poll_room(&mut self, at: usize, cx: &Context<'_>) -> Poll<usize> {
        let room = self.may_send.min(self.slots.get(at).may_send);
        let room = usize::try_from(room).unwrap_or(0).min(frame::MOST);
        let is_full = self.is_full();
        if room > 0 && !is_full {
            return Poll::Ready(room);
        }
        let slot = self.slots.get(at);
        if slot.may_send <= 0 && !is_full {
            slot.waits = true;
        } else {
            self.slots.queue(at, &mut self.waiting);
        }
        self.watch(at, cx);
        Poll::Pending
    }

    /// Whether a head or what else no window bounds may be written.
    pub(super) fn poll_place(&mut self, at: usize, cx: &Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.slots.queue(at, &mut self.heads);
        self.watch(at, cx);
        Poll::Pending
    }

    /// Whoever asks is woken when something happens to the stream.
    pub(super) fn watch(&mut self, at: usize, cx: &Context<'_>) {
        let waker = &mut self.slots.get(at).waker;
        if !waker.as_ref().is_some_and(|own| own.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// A head, interim or final, or trailers.
    pub(super) fn send_section(&mut self, at: usize, section: &[u8], ends: bool) {
        if self.slots.get(at).is_closed() {
            return;
        }
        let id = self.slots.id(at);
        if std::mem::take(&mut self.tells_table) {
            let told = [&[EMPTY_TABLE], section].concat();
            frame::write_section(id, ends, &told, &mut self.out);
        } else {
            frame::write_section(id, ends, section, &mut self.out);
        }
        self.sent(at, ends);
    }

    /// A part of a body that the client has room for.
    pub(super) fn send_data(&mut self, at: usize, bytes: &[u8], ends: bool) {
        if self.slots.get(at).is_closed() {
            return;
        }
        let flags = if ends { frame::END_STREAM } else { 0 };
        frame::write(frame::DATA, flags, self.slots.id(at), bytes, &mut self.out);
        let count = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.may_send -= count;
        self.slots.get(at).may_send -= count;
        self.sent(at, ends);
    }

    fn sent(&mut self, at: usize, ends: bool) {
        if ends {
            self.slots.change(at, |slot| slot.is_sent = true);
        }
    }

    /// An exchange has taken so much of what came: the client may send as much again.
    pub(super) fn release(&mut self, at: usize, count: usize) {
        self.release_connection(count);
        let id = self.slots.id(at);
        let slot = self.slots.get(at);
        slot.untold += count;
        if slot.untold >= STREAM_WINDOW as usize / 2 && !slot.is_read && !slot.is_closed() {
            let more = u32::try_from(std::mem::take(&mut slot.untold)).unwrap_or(0);
            slot.may_receive += i64::from(more);
            self.update(id, more);
        }
    }

    pub(super) fn release_connection(&mut self, count: usize) {
        self.untold += count;
        if self.untold >= CONNECTION_WINDOW as usize / 2 && !self.is_over() {
            let more = u32::try_from(std::mem::take(&mut self.untold)).unwrap_or(0);
            self.may_receive += i64::from(more);
            self.update(0, more);
        }
    }

    /// Resets a stream, unless it is closed.
    pub(super) fn reset(&mut self, at: usize, reason: Reason) {
        if self.slots.get(at).is_closed() {
            return;
        }
        let id = self.slots.id(at);
        self.write_reset(id, reason);
        self.slots.change(at, |slot| slot.reset = Some(reason));
    }

    pub(super) fn write_reset(&mut self, id: u32, reason: Reason) {
        let code = u32::from(reason).to_be_bytes();
        frame::write(frame::RST_STREAM, 0, id, &code, &mut self.out);
        if self.left.len() >= REMEMBERED {
            self.left.pop_front();
        }
        self.left.push_back(id);
    }

    /// Whether its client may not know yet that we have ended it.
    pub(super) fn has_left(&self, id: u32) -> bool {
        self.left.contains(&id)
    }

    /// The exchange of a stream is over. Where it has not ended both ways it is reset: its client
    /// is to send no more (RFC 9113, section 8.1), or shall see that something is missing.
    pub(super) fn leave(&mut self, at: usize) {
        let is_sent = self.slots.get(at).is_sent;
        self.reset(at, if is_sent { Reason::NO_ERROR } else { Reason::CANCEL });
        let id = self.slots.id(at);
        let slot = self.slots.remove(at);
        if slot.queued {
            self.heads.retain(|(_, own)| *own != id);
            self.waiting.retain(|(_, own)| *own != id);
        }
        self.release_connection(slot.unread().len());
    }

    fn go_away(&mut self, last: u32, reason: Reason) {
        let payload = [last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat();
        frame::write(frame::GOAWAY, 0, 0, &payload, &mut self.out);
    }

    /// Says that the connection ends behind what was asked; see [`Self::parted`].
    pub(super) fn part(&mut self) {
        if self.parting == Parting::No {
            self.parting = Parting::Told;
            self.go_away(0x7fff_ffff, Reason::NO_ERROR);
            frame::write(frame::PING, 0, 0, &PARTING_PING, &mut self.out);
        }
    }

    /// The client knows, and asks for nothing more.
    pub(super) fn parted(&mut self) {
        if self.parting == Parting::Told {
            self.parting = Parting::Known;
            self.go_away(self.last, Reason::NO_ERROR);
        }
    }

    /// Whether nothing more is to come and to be said.
    pub(super) fn is_parted(&self) -> bool {
        self.parting == Parting::Known && self.slots.open() == 0 && self.unsent().is_empty()
    }

    /// Ends the connection and all of its streams, behind what is written.
    pub(super) fn cut(&mut self, reason: Reason) {
        if !self.is_over() {
            self.go_away(self.last, reason);
            self.close();
        }
    }

    /// The connection is no more, or is to be no more.
    pub(super) fn close(&mut self) {
        self.parting = Parting::Over;
        self.slots.close();
    }
}

/// A connection's protocol as its streams share it. Never waited for: all run in one task.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Wire>>);

impl Shared {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Wire::new(now))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream's, of what has come of it.
    pub(super) fn lease(&self, at: usize) -> Lease {
        Lease { wire: self.clone(), at }
    }
}

/// A stream as its exchange holds it; it ends with it.
#[derive(Debug)]
pub(super) struct Lease {
    wire: Shared,
    pub(super) at: usize,
}

impl Lease {
    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock()
    }

    /// Whether the client has given the stream up, or its connection has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.lock().slots.get(self.at).reset.is_some()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lock().leave(self.at);
    }
}
