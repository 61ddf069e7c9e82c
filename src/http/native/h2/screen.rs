//! A count of the frames that cost us more than their sender.
//!
//! What a flood makes us keep is bounded where it is kept; what it makes us do is bounded here.
//! **Invariant:** an honest client's frames are held against what we send it and what it asks for,
//! never against time alone.

use std::time::Duration;

use super::frame::{self, Frame};
use crate::clock::Instant;

/// Counts begin anew after this time; as do those of Sozu, whose limits are the model of ours.
const SPAN: Duration = Duration::from_secs(10);
/// Streams given up, and more than half of those that were begun (Sozu: 100; Envoy: half).
const RESETS: u64 = 200;
/// Sozu: 50.
const SETTINGS: u64 = 50;
/// Beside one for every [`CREDIT`] bytes that we send: gRPC measures with them. Sozu: 100.
const PINGS: u64 = 100;
/// DATA of no bytes that ends nothing. Sozu: 100.
const EMPTY: u64 = 100;
/// Beside one for every [`CREDIT`] bytes that we send. Sozu: 100 for the connection.
const UPDATES: u64 = 1000;
/// PRIORITY and what nobody knows, beside two for every stream (ours; browsers send one for each).
const OTHERS: u64 = 200;
/// Bytes (ours).
const CREDIT: u64 = 64;

/// Frames since the counts began.
#[derive(Debug)]
pub(super) struct Counts {
    since: Instant,
    /// Bytes that we had sent by then.
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
    pub(super) const fn new(since: Instant) -> Self {
        Self {
            since,
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

    /// Counts another frame. Whether there is too much of something; `written`: bytes that we have
    /// sent.
    pub(super) fn is_flood(
        &mut self,
        frame: &Frame<'_>,
        written: u64,
        now: impl Fn() -> Instant,
    ) -> bool {
        self.count(frame);
        if !self.is_too_much(written) {
            return false;
        }
        let now = now();
        if now.saturating_duration_since(self.since) < SPAN {
            return true;
        }
        *self = Self { written, ..Self::new(now) };
        false
    }

    const fn count(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            frame::DATA if frame.payload.is_empty() && !frame.has(frame::END_STREAM) => {
                self.empty += 1;
            }
            // CONTINUATION: those of one head are counted with it.
            frame::DATA | frame::CONTINUATION => {}
            frame::HEADERS => self.streams += 1,
            frame::RST_STREAM => self.resets += 1,
            frame::SETTINGS | frame::PING if frame.has(frame::ACK) => {}
            frame::SETTINGS => self.settings += 1,
            frame::PING => self.pings += 1,
            frame::WINDOW_UPDATE => self.updates += 1,
            _ => self.others += 1,
        }
    }

    const fn is_too_much(&self, written: u64) -> bool {
        let credit = written.saturating_sub(self.written) / CREDIT;
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
    use crate::clock;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write(kind, flags, 1, &vec![0; payload], &mut out);
        out
    }

    /// Whether another frame is too much.
    fn adds(counts: &mut Counts, frame: &[u8], written: u64, now: Instant) -> bool {
        let frame = Frame::first(frame).unwrap().unwrap();
        counts.is_flood(&frame, written, || now)
    }

    /// Whether so many of these frames are a flood.
    fn floods(frames: &[Vec<u8>], count: u64) -> bool {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        (0..count).any(|_| frames.iter().any(|frame| adds(&mut counts, frame, 0, begin)))
    }

    fn check(frames: &[Vec<u8>], most: u64) {
        assert!(!floods(frames, most), "{most} of {frames:?} pass");
        assert!(floods(frames, most + 1), "one more of {frames:?} does not");
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
        assert!(!floods(&[get(), get(), get(), frame(3, 0, 4)], 10_000), "few are given up");
        assert!(!floods(&[get(), frame(2, 0, 5), frame(16, 0, 9)], 10_000), "priorities");
        assert!(!floods(&[frame(4, 1, 0), frame(6, 1, 8)], 10_000), "acknowledgements");
        assert!(!floods(&[frame(0, 1, 0), frame(0, 0, 1)], 10_000), "data and its end");
    }

    #[test]
    fn updates_are_held_against_what_was_sent() {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        for sent in 1..100_000 {
            for _ in 0..2 {
                assert!(!adds(&mut counts, &frame(8, 0, 4), sent * 16 * 1024, begin));
            }
        }
    }

    #[test]
    fn counts_begin_anew_after_their_span() {
        let begin = clock::instant();
        let mut counts = Counts::new(begin);
        for second in 0..1000 {
            let now = begin + Duration::from_secs(second);
            assert!(!adds(&mut counts, &frame(4, 0, 0), 0, now));
        }
    }
}
