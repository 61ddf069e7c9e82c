//! What a client's frames do to the connection and its streams: RFC 9113, sections 5 and 6.
//!
//! **Invariant:** what breaks the protocol costs its stream where the RFC lets it, and the
//! connection otherwise; whoever breaks it often loses the connection as well.

use h2::Reason;

use super::frame::{self, Frame, setting};
use super::section::{Flaw, Section};
use super::slots::Slot;
use super::wire::{Begun, Opened, PARTING_PING, Parting, Wire};
use super::{CONTINUATIONS, FORCED_RESETS, HEADER_LIST, STREAM_WINDOW, STREAMS};
use crate::clock::Instant;

/// RFC 9113, section 6.9.1.
const LARGEST_WINDOW: i64 = 0x7fff_ffff;

/// What a frame has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Connection(Reason),
    Stream(u32, Reason),
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Connection(reason)
    }
}

impl Wire {
    /// Takes all whole frames at the beginning of what has come, and returns how many bytes those
    /// are. Requests among them are left in [`Self::opened`].
    ///
    /// # Errors
    /// The connection is to end, and why.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now: impl Fn() -> Instant,
    ) -> Result<usize, Reason> {
        let preface = self.preface.len().min(bytes.len());
        if bytes[..preface] != self.preface[..preface] {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.preface = &self.preface[preface..];
        let mut at = preface;
        while let Some(frame) = Frame::first(&bytes[at..])? {
            at += frame.size();
            if self.counts.is_flood(&frame, self.written, &now) {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
            match self.take_frame(&frame) {
                Ok(()) => {}
                Err(Fault::Connection(reason)) => return Err(reason),
                Err(Fault::Stream(id, reason)) => self.fail(id, reason)?,
            }
        }
        Ok(at)
    }

    /// Ends a stream for what its client did.
    fn fail(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.forced += 1;
        if self.forced > FORCED_RESETS {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        match self.slots.find(id) {
            Some(at) => {
                self.reset(at, reason);
                self.slots.get(at).wake();
            }
            None => self.write_reset(id, reason),
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let is_settings = frame.kind == frame::SETTINGS && !frame.has(frame::ACK);
        if !self.is_set && !is_settings {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        if let Some(begun) = &self.begun
            && (frame.kind != frame::CONTINUATION || frame.stream != begun.id)
        {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        // Section 6: which of them are of the connection, and which of a stream.
        let is_placed = match frame.kind {
            frame::SETTINGS | frame::PING | frame::GOAWAY => frame.stream == 0,
            frame::WINDOW_UPDATE => true,
            frame::DATA..=frame::CONTINUATION => frame.stream != 0,
            _ => true,
        };
        if !is_placed {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        match frame.kind {
            frame::DATA => self.take_data(frame),
            frame::HEADERS => self.take_headers(frame),
            // A stream that has not begun cannot be reset.
            frame::PRIORITY if frame.payload.len() != 5 => Err(match self.is_idle(frame.stream) {
                true => Reason::FRAME_SIZE_ERROR.into(),
                false => Fault::Stream(frame.stream, Reason::FRAME_SIZE_ERROR),
            }),
            frame::GOAWAY if frame.payload.len() < 8 => Err(Reason::FRAME_SIZE_ERROR.into()),
            frame::RST_STREAM => self.take_reset(frame),
            frame::SETTINGS => self.take_settings(frame),
            frame::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR.into()),
            frame::PING => self.take_ping(frame),
            frame::WINDOW_UPDATE => self.take_update(frame),
            frame::CONTINUATION => self.take_continuation(frame),
            // Its client ends the connection by itself; priorities we do not have, and what nobody
            // knows is nothing (section 5.5).
            _ => Ok(()),
        }
    }

    /// Whether frames of a stream that is no more may still be on their way: we have ended it, or
    /// never looked at it.
    fn may_cross(&self, id: u32) -> bool {
        self.has_left(id) || id > self.last
    }

    /// Whether it is a stream that has not begun.
    const fn is_idle(&self, id: u32) -> bool {
        id > self.seen || id.is_multiple_of(2)
    }

    fn take_data(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let (id, size) = (frame.stream, frame.payload.len());
        let counted = i64::try_from(size).unwrap_or(i64::MAX);
        self.may_receive -= counted;
        if self.may_receive < 0 {
            return Err(Reason::FLOW_CONTROL_ERROR.into());
        }
        let content = frame.content()?;
        let Some(at) = self.slots.find(id) else {
            if self.is_idle(id) {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            self.release_connection(size);
            let fault = Fault::Stream(id, Reason::STREAM_CLOSED);
            return if self.may_cross(id) { Ok(()) } else { Err(fault) };
        };
        let slot = self.slots.get(at);
        if slot.reset.is_some() {
            self.release_connection(size);
            return Ok(());
        }
        slot.may_receive -= counted;
        let ends = frame.has(frame::END_STREAM);
        let fault = match &mut slot.left {
            _ if slot.is_read => Some(Reason::STREAM_CLOSED),
            _ if slot.may_receive < 0 => Some(Reason::FLOW_CONTROL_ERROR),
            Some(left) => match left.checked_sub(content.len() as u64) {
                Some(rest) if rest == 0 || !ends => {
                    *left = rest;
                    None
                }
                _ => Some(Reason::PROTOCOL_ERROR),
            },
            None => None,
        };
        if let Some(reason) = fault {
            self.release_connection(size);
            return Err(Fault::Stream(id, reason));
        }
        slot.receive(content);
        slot.wake();
        if size > content.len() {
            self.release(at, size - content.len());
        }
        if ends {
            self.slots.change(at, |slot| slot.is_read = true);
        }
        Ok(())
    }

    fn take_headers(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let mut section = frame.content()?;
        if frame.has(frame::WITH_PRIORITY) {
            section = section.get(5..).ok_or(Reason::FRAME_SIZE_ERROR)?;
        }
        let (id, ends) = (frame.stream, frame.has(frame::END_STREAM));
        if frame.has(frame::END_HEADERS) {
            return self.take_section(id, ends, section);
        }
        self.begun = Some(Begun { id, ends, bytes: section.to_vec(), count: 0 });
        Ok(())
    }

    fn take_continuation(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let Some(mut begun) = self.begun.take() else { return Err(Reason::PROTOCOL_ERROR.into()) };
        begun.bytes.extend_from_slice(frame.payload);
        begun.count += 1;
        if frame.has(frame::END_HEADERS) {
            return self.take_section(begun.id, begun.ends, &begun.bytes);
        }
        if begun.count >= CONTINUATIONS || begun.bytes.len() > HEADER_LIST {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        self.begun = Some(begun);
        Ok(())
    }

    fn take_section(&mut self, id: u32, ends: bool, bytes: &[u8]) -> Result<(), Fault> {
        let mut section = Section::new(bytes.len());
        let decoded = self.decoder.decode(bytes, |name, value| section.push(name, value));
        decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
        if let Some(at) = self.slots.find(id) {
            return self.take_trailers(at, ends, section);
        }
        if !self.is_idle(id) {
            return if self.may_cross(id) { Ok(()) } else { Err(Reason::STREAM_CLOSED.into()) };
        }
        if id.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        self.seen = id;
        if self.parting == Parting::Known {
            // It was told that nobody looks at this one.
            return Ok(());
        }
        self.last = id;
        // Those given up count no more for the client, but they still do for us.
        let (open, used) = (self.slots.open(), self.slots.used());
        if open >= STREAMS as usize || used >= 2 * STREAMS as usize {
            self.write_reset(id, Reason::REFUSED_STREAM);
            return Ok(());
        }
        let left = match section.flaw() {
            Some(Flaw::Malformed) => return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR)),
            Some(Flaw::TooLong) => None,
            None => length(&section, ends).map_err(|reason| Fault::Stream(id, reason))?,
        };
        let slot = Slot::new(left, ends, (self.initial, STREAM_WINDOW.into()));
        let at = self.slots.put(id, slot);
        self.opened.push(Opened { at, section, ends });
        Ok(())
    }

    fn take_trailers(&mut self, at: usize, ends: bool, section: Section) -> Result<(), Fault> {
        let slot = self.slots.get(at);
        if slot.reset.is_some() {
            return Ok(());
        }
        if slot.is_read {
            return Err(Fault::Stream(self.slots.id(at), Reason::STREAM_CLOSED));
        }
        if !ends || !section.may_trail() || slot.left.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(self.slots.id(at), Reason::PROTOCOL_ERROR));
        }
        slot.trailers = section.into_lines();
        slot.wake();
        self.slots.change(at, |slot| slot.is_read = true);
        Ok(())
    }

    fn take_reset(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let reason = Reason::from(u32::from_be_bytes(frame.fixed()?));
        if self.is_idle(frame.stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        if let Some(at) = self.slots.find(frame.stream) {
            self.slots.change(at, |slot| _ = slot.reset.get_or_insert(reason));
            self.slots.get(at).wake();
        }
        Ok(())
    }

    fn take_settings(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let (settings, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() || frame.has(frame::ACK) && !settings.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR.into());
        }
        if frame.has(frame::ACK) {
            return Ok(());
        }
        self.is_set = true;
        let mut initial = self.initial;
        for [a, b, value @ ..] in settings {
            let (name, value) = (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value));
            self.set(name, value, &mut initial)?;
        }
        let more = initial - std::mem::replace(&mut self.initial, initial);
        for slot in self.slots.all().filter(|_| more != 0) {
            if !widen(slot, more) {
                return Err(Reason::FLOW_CONTROL_ERROR.into());
            }
        }
        frame::write(frame::SETTINGS, frame::ACK, 0, &[], &mut self.out);
        Ok(())
    }

    /// RFC 9113, section 6.5.2. What we do not know we ignore.
    fn set(&mut self, name: u16, value: u32, initial: &mut i64) -> Result<(), Fault> {
        match name {
            // We use none; a smaller one has to be acknowledged in the next section.
            setting::HEADER_TABLE_SIZE => self.tells_table = true,
            setting::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR.into()),
            setting::INITIAL_WINDOW_SIZE => {
                *initial = value.into();
                if *initial > LARGEST_WINDOW {
                    return Err(Reason::FLOW_CONTROL_ERROR.into());
                }
            }
            // More than the least that is allowed we do not put in one.
            setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn take_ping(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let payload: [u8; 8] = frame.fixed()?;
        if !frame.has(frame::ACK) {
            frame::write(frame::PING, frame::ACK, 0, &payload, &mut self.out);
        } else if payload == PARTING_PING {
            self.parted();
        }
        Ok(())
    }

    fn take_update(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let more = i64::from(u32::from_be_bytes(frame.fixed()?) & 0x7fff_ffff);
        if frame.stream == 0 {
            self.may_send += more;
            return match more {
                0 => Err(Reason::PROTOCOL_ERROR.into()),
                _ if self.may_send > LARGEST_WINDOW => Err(Reason::FLOW_CONTROL_ERROR.into()),
                _ => Ok(()),
            };
        }
        if self.is_idle(frame.stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let Some(at) = self.slots.find(frame.stream) else { return Ok(()) };
        let slot = self.slots.get(at);
        if slot.reset.is_some() {
            return Ok(());
        }
        match more {
            0 => Err(Fault::Stream(frame.stream, Reason::PROTOCOL_ERROR)),
            _ if !widen(slot, more) => Err(Fault::Stream(frame.stream, Reason::FLOW_CONTROL_ERROR)),
            _ => Ok(()),
        }
    }
}

/// What the client said that the body has; RFC 9113, section 8.1.1.
fn length(section: &Section, ends: bool) -> Result<Option<u64>, Reason> {
    let mut length = None;
    for value in section.values("content-length") {
        let is_decimal = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        match number.filter(|own| is_decimal && length.is_none_or(|other| other == *own)) {
            Some(number) => length = Some(number),
            None => return Err(Reason::PROTOCOL_ERROR),
        }
    }
    match length {
        Some(length) if ends && length > 0 => Err(Reason::PROTOCOL_ERROR),
        length => Ok(length),
    }
}

/// Lets a stream send so much more. Whether that is not too much.
fn widen(slot: &mut Slot, more: i64) -> bool {
    slot.may_send += more;
    if slot.may_send > 0 && std::mem::take(&mut slot.waits) {
        slot.wake();
    }
    slot.may_send <= LARGEST_WINDOW
}
