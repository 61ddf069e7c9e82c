//! One direction of an exchange: what was read, how it is framed, and what of it is being written.
//!
//! What a write takes is staged: a lead (the head, a chunk's size), content out of the window, and
//! a tail (a chunk's end, the last chunk, trailers), in one system call where the socket takes it.
//! Not here: which socket. **Invariant:** nothing is staged before all that was staged is written,
//! and the end is staged once.

use std::io::{self, IoSlice, Write as _};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::super::coding::Coder;
use super::body::{Body, Malformed};
use super::fields;
use super::window::{Buffers, Window};
use crate::tls::Stream;

/// A lead that grew larger is not kept for the next exchange (ours).
const LEAD: usize = 4 * 1024;
/// Up to this, what is staged is gathered into one plain write, which costs the kernel less than a
/// vectored one (ours).
const GATHERED: usize = 2 * 1024;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) window: Window,
    /// How the source frames it.
    pub(super) body: Body,
    /// How we frame it.
    chunked: bool,
    /// The head, then each chunk's opening.
    pub(super) lead: Vec<u8>,
    tail: Vec<u8>,
    lead_at: usize,
    tail_at: usize,
    /// Content up to here is staged.
    staged: usize,
    end_staged: bool,
    /// Bytes written since they were taken last.
    written: u64,
    /// Codes the content on its way.
    coder: Option<Box<Coder>>,
    /// What was staged of the content, and how much of it may be copied.
    copy: Option<(Vec<u8>, usize)>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            window: Window::default(),
            body: Body::none(),
            chunked: false,
            lead: Vec::new(),
            tail: Vec::new(),
            lead_at: 0,
            tail_at: 0,
            staged: 0,
            end_staged: false,
            written: 0,
            coder: None,
            copy: None,
        }
    }
}

impl Lane {
    /// A new message begins; its head is to be written to `lead`.
    pub(super) fn begin(&mut self) {
        self.lead.clear();
        self.tail.clear();
        self.coder = None;
        self.copy = None;
        if self.lead.capacity() > LEAD {
            self.lead = Vec::new();
        }
        if self.tail.capacity() > LEAD {
            self.tail = Vec::new();
        }
        (self.lead_at, self.tail_at, self.staged, self.end_staged) = (0, 0, 0, false);
    }

    /// As a new one, but for the memory that it has.
    pub(super) fn renew(&mut self, buffers: &Buffers) {
        self.begin();
        self.window.clear(buffers);
        self.frame(Body::none(), false);
        self.written = 0;
    }

    /// Its body: how it comes, and whether it goes on in chunks.
    pub(super) fn frame(&mut self, body: Body, chunked: bool) {
        self.body = body;
        self.chunked = chunked;
    }

    /// Its content is coded on its way.
    pub(super) fn code(&mut self, coder: Option<Coder>) {
        self.coder = coder.map(Box::new);
    }

    /// Keeps a copy of the content, of which nothing is written yet, unless it is more than `most`.
    pub(super) fn copy(&mut self, most: usize) {
        self.copy = Some((Vec::new(), most));
        self.keep(self.window.unsent().start..self.staged);
    }

    fn keep(&mut self, content: Range<usize>) {
        let Some((copy, most)) = &mut self.copy else { return };
        match copy.len() + content.len() <= *most {
            true => copy.extend_from_slice(self.window.slice(content)),
            false => self.copy = None,
        }
    }

    /// The content, as far as it was staged; none where it was too much.
    pub(super) fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().map(|(copy, _)| copy)
    }

    /// From now on it goes on in chunks, or without.
    pub(super) const fn chunk(&mut self, chunked: bool) {
        self.chunked = chunked;
    }

    /// Looks at what has come of the body.
    ///
    /// # Errors
    /// It is framed in no way we know.
    pub(super) fn look(&mut self) -> Result<(), Malformed> {
        let looked = self.body.look(self.window.fresh_mut())?;
        self.window.accept(looked.content, looked.behind);
        Ok(())
    }

    /// Whether all that was staged is written.
    pub(super) const fn is_flushed(&self) -> bool {
        self.lead.len() == self.lead_at
            && self.tail.len() == self.tail_at
            && self.window.unsent().start >= self.staged
    }

    /// Whether a part of the lead is written and the rest is not: nothing else may follow.
    pub(super) const fn is_torn(&self) -> bool {
        self.lead_at > 0 && self.lead_at < self.lead.len()
    }

    /// Whether the whole message was staged and written.
    pub(super) const fn is_over(&self) -> bool {
        self.end_staged && self.is_flushed()
    }

    /// What is still to come of a body that goes on as it comes, where all that came is written.
    pub(super) fn rest(&self) -> Option<u64> {
        let goes_on = !self.chunked && self.coder.is_none() && self.copy.is_none();
        match self.body {
            Body::Length(left) if goes_on && self.is_flushed() && self.window.is_sent() => {
                Some(left)
            }
            _ => None,
        }
    }

    /// So much of the body has gone past.
    pub(super) const fn passed(&mut self, count: usize) {
        self.written += count as u64;
    }

    /// Makes room in the window, once all that was staged is written; see there.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        let gave_up = self.window.make_room(most);
        self.staged = self.window.unsent().start;
        gave_up
    }

    /// Empties the window once all that is in it was sent.
    pub(super) fn drop_sent(&mut self) {
        if self.is_flushed() {
            self.window.drop_sent();
            self.staged = self.window.unsent().start;
        }
    }

    /// Takes what is ready; behind a head that is not written yet, or when all is written. Whether
    /// there was anything.
    ///
    /// # Errors
    /// The trailers are no fields.
    pub(super) fn stage(&mut self) -> Result<bool, Malformed> {
        if self.lead_at == self.lead.len() {
            self.lead.clear();
            self.lead_at = 0;
        }
        self.tail.clear();
        self.tail_at = 0;
        let content = self.window.unsent();
        self.staged = content.end;
        let ends = self.body.is_done() && !self.end_staged;
        if content.is_empty() && !ends {
            return Ok(false);
        }
        self.keep(content.clone());
        if self.coder.is_some() {
            self.stage_coded(content, ends).map_err(|_| Malformed)?;
        } else if self.chunked && !content.is_empty() {
            // A vector takes all that is written to it.
            let _ = write!(self.lead, "{:x}\r\n", content.len());
            self.tail.extend_from_slice(b"\r\n");
        }
        if self.chunked && ends {
            self.tail.extend_from_slice(b"0\r\n");
            fields::write_trailers(self.body.trailers(), &mut self.tail)?;
            self.tail.extend_from_slice(b"\r\n");
        } else if ends {
            // Sent on in another way; they have to be fields all the same.
            fields::each_trailer(self.body.trailers(), |_| ())?;
        }
        if let Body::Closed(farewell) = self.body
            && ends
        {
            self.tail.extend_from_slice(farewell);
        }
        self.end_staged |= ends;
        Ok(true)
    }

    /// Puts what becomes of the content behind the lead: of the content itself nothing is written.
    fn stage_coded(&mut self, content: Range<usize>, ends: bool) -> io::Result<()> {
        let mut coded = Vec::new();
        if let Some(coder) = self.coder.as_mut().filter(|_| !content.is_empty()) {
            coded = coder.code(self.window.slice(content.clone()))?;
        }
        if let Some(coder) = self.coder.take_if(|_| ends) {
            coded.append(&mut coder.finish()?);
        }
        self.window.count_sent(content.len());
        if self.chunked && !coded.is_empty() {
            write!(self.lead, "{:x}\r\n", coded.len())?;
            coded.extend_from_slice(b"\r\n");
        }
        self.lead.append(&mut coded);
        Ok(())
    }

    /// Writes what is staged. Ready when all of it is written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<()>> {
        loop {
            let pieces = self.pieces();
            let total: usize = pieces.iter().map(|piece| piece.len()).sum();
            if total == 0 {
                return Poll::Ready(Ok(()));
            }
            let stream = Pin::new(&mut *stream);
            let polled = if let Some(whole) = pieces.iter().find(|piece| piece.len() == total) {
                stream.poll_write(cx, whole)
            } else if total <= GATHERED {
                let mut gathered = [0; GATHERED];
                let mut at = 0;
                for piece in pieces {
                    gathered[at..at + piece.len()].copy_from_slice(piece);
                    at += piece.len();
                }
                stream.poll_write(cx, &gathered[..total])
            } else {
                stream.poll_write_vectored(cx, &pieces.map(IoSlice::new))
            };
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(count);
        }
    }

    /// What is staged and not written yet: lead, content, tail.
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        let sent = self.window.unsent().start;
        let content = sent..self.staged.max(sent);
        [&self.lead[self.lead_at..], self.window.slice(content), &self.tail[self.tail_at..]]
    }

    /// The first `count` bytes of all pieces are written.
    pub(super) fn wrote(&mut self, mut count: usize) {
        self.written += count as u64;
        let mut lengths = self.pieces().map(<[u8]>::len);
        for length in &mut lengths {
            *length = count.min(*length);
            count -= *length;
        }
        self.lead_at += lengths[0];
        self.window.count_sent(lengths[1]);
        self.tail_at += lengths[2];
    }

    /// Whether the message's end was staged.
    pub(super) const fn ends(&self) -> bool {
        self.end_staged
    }

    /// Begins the same message again, for another target: the head is to be written to `lead`, the
    /// content is still there.
    pub(super) fn rewind(&mut self) {
        let most = self.copy.take().map(|(_, most)| most);
        self.begin();
        self.copy = most.map(|most| (Vec::new(), most));
        self.window.rewind();
    }

    pub(super) const fn take_written(&mut self) -> u64 {
        std::mem::replace(&mut self.written, 0)
    }
}
