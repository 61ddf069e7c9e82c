//! The bytes of one direction of a connection, and where they are kept when there are none.
//!
//! A window lies over one buffer: `[0, base)` is the head of the exchange, which stays; then the
//! body's content that was sent on, that which was not, and bytes nobody has looked at. An empty
//! window of an idle connection has no buffer. **Invariant:** `base <= sent <= ready <= end`, and
//! at most [`KEPT`] buffers of each size are kept while nobody uses them.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::through::Pipes;
use crate::tls::Stream;

/// What a request begins with (ours: nearly all heads are shorter).
pub(super) const SMALL: usize = 4 * 1024;
/// What a response is read into (ours: a larger one saves little over loopback).
pub(super) const LARGE: usize = 64 * 1024;
/// No window grows further: more than ALB's limits on a request's head allow.
const LARGEST: usize = 128 * 1024;
/// Buffers of each size kept for the next one (ours; 4 MiB per data thread).
const KEPT: usize = 64;

/// The spare buffers of one data thread. Never waited for: all connections of a data thread run on
/// it and hold the lock over no await.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    spare: Mutex<Spare>,
    /// Where bytes wait that never come into one.
    pub(super) pipes: Pipes,
}

#[derive(Debug, Default)]
struct Spare {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    fn take(&self, size: usize) -> Vec<u8> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = if size == SMALL { spare.small.pop() } else { spare.large.pop() };
        drop(spare);
        kept.unwrap_or_else(|| vec![0; size])
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match buffer.len() {
            SMALL => &mut spare.small,
            LARGE => &mut spare.large,
            _ => return,
        };
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    base: usize,
    sent: usize,
    ready: usize,
    end: usize,
}

impl Window {
    /// Bytes that nobody has looked at.
    #[cfg(test)]
    fn fresh(&self) -> &[u8] {
        &self.bytes[self.ready..self.end]
    }

    /// The head, and whatever else lies before `end`.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Content that is not sent yet.
    pub(super) const fn unsent(&self) -> Range<usize> {
        self.sent..self.ready
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Whether something may be read; into a buffer that is yet to be taken, where there is none.
    pub(super) const fn has_room(&self) -> bool {
        self.end < self.bytes.len() || self.bytes.is_empty()
    }

    pub(super) const fn has_fresh(&self) -> bool {
        self.ready < self.end
    }

    /// Whether all that has come is sent.
    pub(super) const fn is_sent(&self) -> bool {
        self.sent == self.end
    }

    /// The first `length` bytes are the head: they stay until [`Self::finish`].
    pub(super) const fn keep_head(&mut self, length: usize) {
        self.base = length;
        self.sent = length;
        self.ready = length;
    }

    /// Content of the body lies before `length` more bytes.
    pub(super) const fn accept(&mut self, content: usize, behind: usize) {
        self.ready += content;
        self.end = self.ready + behind;
    }

    /// All that has come, for whoever takes out what frames a body.
    pub(super) fn fresh_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.ready..self.end]
    }

    pub(super) const fn count_sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// The content is sent once more, from its beginning.
    pub(super) const fn rewind(&mut self) {
        self.sent = self.base;
    }

    /// Makes room: grows while it may (`most` bytes), then gives up what was sent, which can be
    /// sent no second time. Whether that was so.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        // A long head leaves as much room again for what follows it.
        let most = most.max(2 * self.base).min(LARGEST);
        if self.bytes.len() < most {
            let grown = (self.bytes.len() * 4).clamp(SMALL, most);
            self.bytes.resize(grown, 0);
            return false;
        }
        if self.sent == self.base {
            return false;
        }
        self.bytes.copy_within(self.sent..self.end, self.base);
        let given_up = self.sent - self.base;
        self.sent = self.base;
        self.ready -= given_up;
        self.end -= given_up;
        true
    }

    /// Everything that was sent is gone; no head is kept here.
    pub(super) fn drop_sent(&mut self) {
        if self.sent == self.end {
            (self.sent, self.ready, self.end) = (self.base, self.base, self.base);
        }
    }

    /// The head and its body are over: what is behind them moves to the front.
    pub(super) fn finish(&mut self) {
        if self.ready < self.end {
            self.bytes.copy_within(self.ready..self.end, 0);
        }
        self.end -= self.ready;
        (self.base, self.sent, self.ready) = (0, 0, 0);
    }

    /// Takes away the first `count` bytes, a head that was read.
    pub(super) fn consume(&mut self, count: usize) {
        (self.base, self.sent, self.ready) = (count, count, count);
        self.finish();
    }

    /// Gives the buffer back when nothing is in it.
    pub(super) fn release(&mut self, buffers: &Buffers) {
        if self.end == 0 && !self.bytes.is_empty() {
            buffers.put(std::mem::take(&mut self.bytes));
        }
    }

    /// Gives the buffer back with all that is in it.
    pub(super) fn clear(&mut self, buffers: &Buffers) {
        (self.base, self.sent, self.ready, self.end) = (0, 0, 0, 0);
        self.release(buffers);
    }

    /// Takes what fits of `bytes` and returns how much that was. The caller has seen to room.
    pub(super) fn fill(&mut self, bytes: &[u8], (buffers, size): (&Buffers, usize)) -> usize {
        if self.bytes.is_empty() {
            self.bytes = buffers.take(size);
        }
        let count = bytes.len().min(self.bytes.len() - self.end);
        self.bytes[self.end..][..count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// Reads once. An empty window takes a buffer only when there is something to read. Ready: 0
    /// at the end of the stream. The caller has seen to room.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        (buffers, size): (&Buffers, usize),
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            ready!(stream.poll_read_ready(cx))?;
            self.bytes = buffers.take(size);
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        let polled = Pin::new(stream).poll_read(cx, &mut room);
        let count = room.filled().len();
        self.end += count;
        if polled.is_pending() || count == 0 {
            self.release(buffers);
        }
        polled.map_ok(|()| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        let mut window = Window { bytes: vec![0; SMALL], ..Window::default() };
        window.bytes[..text.len()].copy_from_slice(text.as_bytes());
        window.end = text.len();
        window
    }

    #[test]
    fn what_is_behind_a_body_is_next() {
        let mut window = window("headbodynext");
        window.keep_head(4);
        window.accept(4, 4);
        assert_eq!(window.slice(window.unsent()), b"body");
        window.count_sent(4);
        window.rewind();
        assert_eq!(window.slice(window.unsent()), b"body");
        window.finish();
        assert_eq!((window.fresh(), window.all()), (&b"next"[..], &b"next"[..]));
    }

    #[test]
    fn room_is_made_by_growing_and_then_by_giving_up() {
        let mut window = window("head0123");
        window.keep_head(4);
        window.accept(4, 0);
        window.count_sent(3);
        assert!(!window.make_room(2 * SMALL), "it has grown");
        window.rewind();
        assert_eq!(window.slice(window.unsent()), b"0123");
        window.count_sent(3);
        assert!(window.make_room(2 * SMALL), "what was sent is gone");
        window.rewind();
        assert_eq!(window.slice(window.unsent()), b"3");
        assert_eq!(window.all(), b"head3");
        assert!(!window.make_room(2 * SMALL), "nothing to give up");
    }

    #[test]
    fn a_head_that_fills_the_buffer_leaves_room_for_its_body() {
        let mut window = window("");
        while window.bytes.len() < LARGE {
            assert!(!window.make_room(LARGE));
        }
        window.end = LARGE;
        window.keep_head(LARGE);
        assert!(!window.has_room() && !window.make_room(LARGE) && window.has_room());
    }

    #[test]
    fn buffers_come_back() {
        let (buffers, mut window) = (Buffers::default(), window(""));
        window.release(&buffers);
        assert!(window.bytes.is_empty());
        assert_eq!(buffers.take(SMALL).len(), SMALL);
        assert_eq!(buffers.take(LARGE).len(), LARGE);
    }
}
