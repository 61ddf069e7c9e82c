//! The streams of a connection that somebody here still has to do with.
//!
//! **Invariant:** a stream counts as open until both sides have ended it or one has reset it, and
//! it keeps its place until its exchange lets go of it.

use std::collections::VecDeque;
use std::task::Waker;

use h2::Reason;

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Its exchange; woken by whatever happens to the stream.
    pub(super) waker: Option<Waker>,
    /// What has come of the body, from `taken` on.
    inbox: Vec<u8>,
    pub(super) taken: usize,
    pub(super) trailers: Vec<u8>,
    /// What the body still has to have, where that was said.
    pub(super) left: Option<u64>,
    /// What we may send.
    pub(super) may_send: i64,
    /// What the client may send.
    pub(super) may_receive: i64,
    /// Taken by the exchange, and not told to the client.
    pub(super) untold: usize,
    /// The client has ended it.
    pub(super) is_read: bool,
    /// We have.
    pub(super) is_sent: bool,
    /// One has reset it, or its connection has ended.
    pub(super) reset: Option<Reason>,
    /// The exchange waits until the client allows more of this stream.
    pub(super) waits: bool,
    /// It waits for its turn.
    pub(super) queued: bool,
}

impl Slot {
    /// A stream that has begun. `left`: what its body has, where that was said; `is_read`: it has
    /// none. What we may send, and the client.
    pub(super) fn new(left: Option<u64>, is_read: bool, (send, receive): (i64, i64)) -> Self {
        Self { left, is_read, may_send: send, may_receive: receive, ..Self::default() }
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.reset.is_some() || self.is_read && self.is_sent
    }

    /// Keeps what has come next.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if 2 * self.taken >= self.inbox.len() {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        self.inbox.extend_from_slice(bytes);
    }

    /// What has come and is not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Places of streams, each used again and again.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// The stream that has each place; 0: none.
    ids: Vec<u32>,
    free: Vec<usize>,
    /// Streams that count: RFC 9113, section 5.1.2.
    open: usize,
}

impl Slots {
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Streams that somebody has to do with, closed or not.
    pub(super) const fn used(&self) -> usize {
        self.ids.len() - self.free.len()
    }

    /// Where a stream is.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|own| *own == id)
    }

    pub(super) fn id(&self, at: usize) -> u32 {
        self.ids[at]
    }

    pub(super) fn get(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().zip(&self.ids).filter(|(_, id)| **id != 0).map(|(slot, _)| slot)
    }

    /// A new stream; it is open.
    pub(super) fn put(&mut self, id: u32, slot: Slot) -> usize {
        self.open += 1;
        if let Some(at) = self.free.pop() {
            (self.ids[at], self.slots[at]) = (id, slot);
            return at;
        }
        self.ids.push(id);
        self.slots.push(slot);
        self.ids.len() - 1
    }

    /// Changes a stream. Whether that has closed it.
    pub(super) fn change(&mut self, at: usize, change: impl FnOnce(&mut Slot)) -> bool {
        let slot = &mut self.slots[at];
        let was = slot.is_closed();
        change(slot);
        let closes = !was && slot.is_closed();
        self.open -= usize::from(closes);
        closes
    }

    /// Ends all of them.
    pub(super) fn close(&mut self) {
        for slot in self.all() {
            slot.reset.get_or_insert(Reason::CANCEL);
            slot.wake();
        }
        self.open = 0;
    }

    /// Gives a stream a place in a queue, unless it has one in any.
    pub(super) fn queue(&mut self, at: usize, queue: &mut VecDeque<(usize, u32)>) {
        if !std::mem::replace(&mut self.slots[at].queued, true) {
            queue.push_back((at, self.ids[at]));
        }
    }

    /// Nobody has to do with it any more.
    pub(super) fn remove(&mut self, at: usize) -> Slot {
        let slot = std::mem::take(&mut self.slots[at]);
        self.open -= usize::from(!slot.is_closed());
        self.ids[at] = 0;
        self.free.push(at);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_count_until_they_are_closed_and_keep_their_places_longer() {
        let mut slots = Slots::default();
        let first = slots.put(1, Slot::default());
        let second = slots.put(3, Slot::default());
        assert_eq!((slots.open(), slots.find(3), slots.find(5)), (2, Some(second), None));
        assert!(!slots.change(first, |slot| slot.is_read = true));
        assert!(slots.change(first, |slot| slot.is_sent = true));
        assert!(!slots.change(first, |slot| slot.reset = Some(Reason::CANCEL)));
        assert_eq!((slots.open(), slots.find(1)), (1, Some(first)));
        slots.remove(first);
        slots.remove(second);
        assert_eq!((slots.open(), slots.find(1)), (0, None));
        let again = slots.put(7, Slot::default());
        assert!([first, second].contains(&again) && !slots.get(again).is_closed());
        assert_eq!(slots.all().count(), 1);
    }
}
