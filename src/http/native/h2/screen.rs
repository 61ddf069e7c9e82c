//! What lies between a client's connection and the `h2` crate: the bytes that were read already,
//! and a count of the frames that cost us more than their sender.
//!
//! The crate bounds what floods make us keep; what they make us do it does not. Looks at frames'
//! headers as their bytes pass. **Invariant:** an honest client's frames are held against what we
//! send it and what it asks for, never against time alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::super::head::PREFACE;
use crate::clock::{self, Instant};

/// Counts begin anew after this time; as do those of Sozu, whose limits are the model of ours.
const SPAN: Duration = Duration::from_secs(10);
/// Streams given up, and more than half of those that were begun (Sozu: 100; Envoy: half).
const RESETS: u64 = 200;
/// Sozu: 50.
const SETTINGS: u64 = 50;
/// Beside one for every [`CREDIT`] bytes that we send: gRPC measures with them. Sozu: 100.
const PINGS: u64 = 100;
/// DATA of no bytes that ends nothing. Sozu: 100, the `h2` crate: 100 that nobody has read.
const EMPTY: u64 = 100;
/// Beside one for every [`CREDIT`] bytes that we send. Sozu: 100 for the connection.
const UPDATES: u64 = 1000;
/// PRIORITY and what nobody knows, beside two for every stream (ours; browsers send one for each).
const OTHERS: u64 = 200;
/// Bytes (ours).
const CREDIT: u64 = 64;

/// Length of a frame's header: RFC 9113, section 4.1.
const HEADER: usize = 9;

/// A client's connection whose frames are counted.
#[derive(Debug)]
pub(super) struct Screened<S> {
    stream: S,
    /// What was read before HTTP/2 was recognised.
    read: BytesMut,
    counts: Counts,
    flooded: Arc<AtomicBool>,
}

impl<S> Screened<S> {
    /// Also returns what tells that there were too many of some frame.
    pub(super) fn new(stream: S, read: BytesMut) -> (Self, Arc<AtomicBool>) {
        let flooded = Arc::<AtomicBool>::default();
        let counts = Counts::new(clock::instant());
        (Self { stream, read, counts, flooded: Arc::clone(&flooded) }, flooded)
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.counts.look(bytes, clock::instant) {
            self.flooded.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flooded.load(Ordering::Relaxed) {
            // Nothing more is believed.
            return Poll::Pending;
        }
        let before = out.filled().len();
        let polled = if self.read.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, out)
        } else {
            let count = self.read.len().min(out.remaining());
            out.put_slice(&self.read[..count]);
            self.read.advance(count);
            Poll::Ready(Ok(()))
        };
        self.look(&out.filled()[before..]);
        if self.flooded.load(Ordering::Relaxed) {
            // Whoever runs the connection looks before it is read again.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.counts.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.counts.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Frames since the counts began.
#[derive(Debug)]
struct Counts {
    since: Instant,
    /// Bytes until the next header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    written: u64,
    streams: u64,
    resets: u64,
    settings: u64,
    pings: u64,
    empty: u64,
    updates: u64,
    others: u64,
}

impl Counts {
    const fn new(since: Instant) -> Self {
        Self {
            since,
            skip: PREFACE.len(),
            header: [0; HEADER],
            have: 0,
            written: 0,
            streams: 0,
            resets: 0,
            settings: 0,
            pings: 0,
            empty: 0,
            updates: 0,
            others: 0,
        }
    }

    const fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = polled {
            self.written += *count as u64;
        }
    }

    /// Looks at what has come. Whether there is too much of something.
    fn look(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return false;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..][..taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEADER {
                return false;
            }
            self.have = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.count(kind, flags & 1 != 0);
            if self.is_flood() {
                let now = now();
                if now.saturating_duration_since(self.since) < SPAN {
                    return true;
                }
                *self = Self { skip: self.skip, ..Self::new(now) };
            }
        }
    }

    /// `flag`: END_STREAM or ACK. Kinds: RFC 9113, section 6.
    const fn count(&mut self, kind: u8, flag: bool) {
        match kind {
            0 if self.skip == 0 && !flag => self.empty += 1,
            // CONTINUATION: the `h2` crate counts those of one head.
            0 | 9 => {}
            1 => self.streams += 1,
            3 => self.resets += 1,
            4 if !flag => self.settings += 1,
            6 if !flag => self.pings += 1,
            4 | 6 => {}
            8 => self.updates += 1,
            _ => self.others += 1,
        }
    }

    const fn is_flood(&self) -> bool {
        let credit = self.written / CREDIT;
        self.resets > RESETS && self.resets > self.streams / 2
            || self.settings > SETTINGS
            || self.pings > PINGS + credit
            || self.empty > EMPTY
            || self.updates > UPDATES + credit
            || self.others > OTHERS + 2 * self.streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + payload, 0);
        frame
    }

    /// Whether so many of these frames are a flood, in pieces of `step` bytes.
    fn floods(frames: &[Vec<u8>], count: usize, step: usize) -> bool {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        let bytes = [PREFACE, &frames.concat().repeat(count)].concat();
        bytes.chunks(step).any(|piece| counts.look(piece, || begin))
    }

    fn check(frames: &[Vec<u8>], most: u64) {
        let most = usize::try_from(most).unwrap();
        for step in [1, 7, 4096] {
            assert!(!floods(frames, most, step), "{most} of {frames:?} pass");
            assert!(floods(frames, most + 1, step), "one more of {frames:?} does not");
        }
    }

    #[test]
    fn each_flood_has_its_limit() {
        check(&[frame(1, 5, 3), frame(3, 0, 4)], RESETS);
        check(&[frame(4, 0, 6)], SETTINGS);
        check(&[frame(6, 0, 8)], PINGS);
        check(&[frame(0, 0, 0)], EMPTY);
        check(&[frame(8, 0, 4)], UPDATES);
        check(&[frame(2, 0, 5)], OTHERS);
        check(&[frame(0xfa, 0, 5)], OTHERS);
    }

    #[test]
    fn what_an_honest_client_sends_is_no_flood() {
        let get = || frame(1, 5, 30);
        assert!(!floods(&[get(), get(), get(), frame(3, 0, 4)], 10_000, 4096), "few are given up");
        assert!(!floods(&[get(), frame(2, 0, 5), frame(16, 0, 9)], 10_000, 4096), "priorities");
        assert!(!floods(&[frame(4, 1, 0), frame(6, 1, 8)], 10_000, 4096), "acknowledgements");
        assert!(!floods(&[frame(0, 1, 0), frame(0, 0, 1)], 10_000, 4096), "data and its end");
    }

    #[test]
    fn updates_are_held_against_what_was_sent() {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        counts.skip = 0;
        for _ in 0..100_000 {
            counts.wrote(&Poll::Ready(Ok(16 * 1024)));
            assert!(!counts.look(&[frame(8, 0, 4), frame(8, 0, 4)].concat(), || begin));
        }
    }

    #[test]
    fn counts_begin_anew_after_their_span() {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        counts.skip = 0;
        for second in 0..1000 {
            let now = begin + Duration::from_secs(second);
            assert!(!counts.look(&frame(4, 0, 0), || now));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_pieces_change_its_mind(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            step in 1usize..40,
        ) {
            let begin = clock::instant();
            let whole = [PREFACE, &bytes].concat();
            let is_flood = |step: usize| {
                let mut counts = Counts::new(begin);
                whole.chunks(step).filter(|piece| counts.look(piece, || begin)).count() > 0
            };
            proptest::prop_assert_eq!(is_flood(step), is_flood(whole.len()));
        }
    }
}
