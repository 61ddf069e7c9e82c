//! A connection's bytes, its exchanges, and its end.
//!
//! One turn reads all that has come, lets all go on that can, and sends what they have to say in
//! one write. **Invariant:** nobody waits for a turn that nobody gives: whatever makes room, or has
//! something to say, makes another turn.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::super::limits::{LINGER, PARTING};
use super::super::client::Timer;
use super::super::window::{Buffers, LARGE, SMALL, Window};
use super::desk::{Desk, Ended, Job};
use super::wire::{Opened, Parting, Shared};
use super::{REQUESTS, RUNNERS_KEPT, RUNNERS_REST};
use crate::clock::{self, Instant};
use crate::tls::Stream;

/// A connection and its exchanges.
pub(super) struct Session<'a, Start, Running> {
    stream: Stream,
    wire: Shared,
    /// What has come and is not a whole frame.
    window: Window,
    buffers: &'a Buffers,
    /// The last read filled all the room that it had.
    is_bulky: bool,
    /// The socket is of no use any more.
    is_lost: bool,
    /// Each runs one exchange after the other: what an exchange needs is made once, and not anew
    /// for each.
    runners: FuturesUnordered<Running>,
    desk: &'a Desk<Job>,
    /// Exchanges that run.
    busy: usize,
    start: Start,
    /// Closed with the process, or when the listener is gone.
    door: Pin<&'a mut WaitForCancellationFutureOwned>,
    /// Exchanges.
    begun: u64,
    timer: Timer,
    /// Its greatest age is reached.
    old_at: Instant,
    /// None while exchanges run.
    rests_until: Option<Instant>,
    /// It gives up runners then, if it rests until then.
    lean_at: Option<Instant>,
    idle_timeout: Duration,
    /// GOAWAY was sent; without an exchange it ends then.
    parting: Option<Instant>,
    /// Nothing is sent behind what is; the client has until then to read it.
    cut_at: Option<Instant>,
    /// All that was to be sent is.
    is_shut: bool,
}

impl<'a, Start, Running> Session<'a, Start, Running>
where
    Start: Fn(usize) -> Running,
    Running: Future<Output = Infallible>,
{
    pub(super) fn new(
        (stream, buffers): (Stream, &'a Buffers),
        (desk, start): (&'a Desk<Job>, Start),
        door: Pin<&'a mut WaitForCancellationFutureOwned>,
        (idle_timeout, greatest_age): (Duration, Duration),
    ) -> Self {
        let now = clock::instant();
        Self {
            stream,
            wire: Shared::new(now),
            window: Window::default(),
            buffers,
            is_bulky: false,
            is_lost: false,
            runners: FuturesUnordered::new(),
            desk,
            busy: 0,
            start,
            door,
            begun: 0,
            timer: Timer::new(now + idle_timeout),
            old_at: now + greatest_age,
            rests_until: Some(now + idle_timeout),
            lean_at: None,
            idle_timeout,
            parting: None,
            cut_at: None,
            is_shut: false,
        }
    }

    /// Takes bytes that were read before HTTP/2 was recognised.
    pub(super) fn begin_with(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.wire.lock().is_over() {
            self.make_room();
            let count = self.window.fill(bytes, (self.buffers, SMALL));
            bytes = &bytes[count..];
            self.take();
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut moved = false;
            while self.poll_read(cx) {
                moved = true;
            }
            while self.poll_running(cx) {
                moved = true;
            }
            // One at a time: whoever has had a turn waits behind the others for the next.
            moved |= self.wire.lock().wake_next();
            moved |= self.poll_write(cx);
            if !moved {
                break;
            }
        }
        if self.busy == 0 && (self.is_lost || self.poll_end(cx).is_ready()) {
            return Poll::Ready(());
        }
        self.look_at_clock(cx)
    }

    fn make_room(&mut self) {
        if !self.window.has_room() {
            self.window.make_room(LARGE);
        }
    }

    /// Reads once and takes what has come. Whether there may be more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_lost || self.cut_at.is_some() || self.wire.lock().is_stuffed() {
            return false;
        }
        self.make_room();
        let size = if self.is_bulky { LARGE } else { SMALL };
        match self.window.poll_fill(cx, &mut self.stream, (self.buffers, size)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) if count > 0 => self.take(),
            Poll::Ready(_) => self.lose(),
        }
        true
    }

    /// Takes the frames that are whole.
    fn take(&mut self) {
        self.is_bulky = !self.window.has_room();
        let mut wire = self.wire.lock();
        let taken = wire.take(self.window.all(), clock::instant);
        let opened = std::mem::take(&mut wire.opened);
        drop(wire);
        match taken {
            Ok(count) => {
                self.window.consume(count);
                self.window.release(self.buffers);
            }
            Err(reason) => {
                tracing::debug!(%reason, "a client's HTTP/2 connection is ended");
                self.cut(reason);
                self.window.clear(self.buffers);
            }
        }
        for Opened { at, section, ends } in opened {
            let lease = self.wire.lease(at);
            // Given up in the same breath, it is nobody's.
            if !lease.is_gone() {
                self.begin(Job { lease, section, ends });
            }
        }
    }

    fn begin(&mut self, job: Job) {
        if !self.desk.put(job) {
            let runner = self.runners.len();
            self.runners.push((self.start)(runner));
        }
        self.busy += 1;
        self.rests_until = None;
        self.begun += 1;
        if self.begun >= REQUESTS {
            self.part();
        }
    }

    /// Lets the exchanges go on. Whether one has ended.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = self.runners.poll_next_unpin(cx);
        let Ended { count, leaves } = self.desk.take_ended();
        if count == 0 {
            return false;
        }
        self.busy -= count;
        if leaves {
            self.part();
        }
        if self.busy == 0 {
            let now = clock::instant();
            self.lean_at = (self.runners.len() > RUNNERS_KEPT).then(|| now + RUNNERS_REST);
            let rested = now + self.idle_timeout;
            self.rests_until = Some(rested);
            // What the last one sent may still wait for a slow reader.
            self.parting = self.parting.map(|_| rested);
        }
        true
    }

    /// Sends what there is to send. Whether any of it went.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.is_lost {
            let mut wire = self.wire.lock();
            if wire.unsent().is_empty() {
                if self.busy == 0 {
                    wire.rest();
                }
                break;
            }
            match Pin::new(&mut self.stream).poll_write(cx, wire.unsent()) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => wire.took(count),
                Poll::Ready(_) => {
                    drop(wire);
                    self.lose();
                }
            }
            moved = true;
        }
        moved
    }

    /// Where it is to end and nothing waits: says so, and reads what the client still sends, so
    /// that closing the socket does not reset what it has not read yet. Ready: it has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut_at.is_none() {
            if !self.wire.lock().is_parted() {
                return Poll::Pending;
            }
            self.cut_at = Some(clock::instant() + LINGER);
            self.wire.lock().close();
        }
        if !self.wire.lock().unsent().is_empty() {
            return Poll::Pending;
        }
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        let mut sink = [0; SMALL];
        loop {
            let mut sink = ReadBuf::new(&mut sink);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut sink))?;
            if sink.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Ends the connection behind what runs: GOAWAY. What crosses it is still answered.
    fn part(&mut self) {
        if self.parting.is_none() {
            self.wire.lock().part();
            self.parting = Some(clock::instant() + PARTING);
        }
    }

    /// Ends the connection now; what runs ends with it.
    fn cut(&mut self, reason: Reason) {
        self.wire.lock().cut(reason);
        self.cut_at = Some(clock::instant() + LINGER);
    }

    /// The client is not there any more; what runs ends.
    fn lose(&mut self) {
        self.is_lost = true;
        self.wire.lock().close();
        self.window.clear(self.buffers);
    }

    /// What time brings: the end of a rest, of an age, of a parting. Pending: wait for more.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_lost {
            return Poll::Pending;
        }
        if self.parting.is_none() && self.cut_at.is_none() && self.door.as_mut().poll(cx).is_ready()
        {
            self.part();
            // The connection has something to send.
            cx.waker().wake_by_ref();
        }
        let rests = self.rests_until;
        let deadline = match (self.cut_at, self.parting, rests) {
            (Some(cut_at), ..) => cut_at,
            (None, Some(parting), Some(_)) => parting,
            (None, Some(parting), None) if self.wire.lock().parting == Parting::Told => parting,
            // Exchanges have their own deadlines.
            (None, Some(_), None) => return Poll::Pending,
            (None, None, Some(rests)) => rests.min(self.old_at),
            (None, None, None) => self.old_at,
        };
        let lean_at = self.lean_at.filter(|at| self.busy == 0 && *at < deadline);
        self.timer.set(lean_at.unwrap_or(deadline));
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if lean_at.is_some() {
            self.lean_at = None;
            self.runners.clear();
            self.desk.forget_runners();
        } else if self.cut_at.is_some() {
            // It does not even read why.
            self.lose();
        } else if rests.is_some() && (self.parting.is_some() || deadline != self.old_at) {
            self.cut(Reason::NO_ERROR);
        } else if self.parting.is_some() {
            // It does not say that it knows; it had the time.
            self.wire.lock().parted();
        } else {
            self.part();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
