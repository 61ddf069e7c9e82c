//! One attempt of an exchange: a request to a target and the response to the client, both ways at
//! once, by one hand-written poll.
//!
//! After a 101 it goes on as a tunnel, each half of which ends by itself. Not here: which target,
//! what follows a failure. **Invariant:** the end of one side's bytes reaches the other side only
//! behind the last of them, and only when they were whole.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::additions::Additions;
use super::super::coding::Coder;
use super::super::errors::Cause;
use super::super::limits::{BODY_RATE, LINGER};
use super::back::Back;
use super::body::Body;
use super::client::Client;
use super::frames::{self, Frames};
use super::response::{self, Asked, Response};
use super::through::{LONG, Through};
use super::window::{Buffers, LARGE, SMALL};
use crate::clock::{self, Instant};

#[derive(Debug)]
pub(super) struct Relay<'a> {
    client: &'a mut Client,
    target: &'a mut Back,
    buffers: &'a Buffers,
    closing: &'a CancellationToken,
    asked: Asked,
    added: &'a Additions<'a>,
    idle_timeout: Duration,
    /// For the response's head.
    deadline: Option<Instant>,
    stage: Stage,
    /// Bytes of the response's head in which its end was not found.
    searched: usize,
    /// The target takes no more; what it has to say may still come.
    is_deaf: bool,
    /// It was polled.
    is_on: bool,
    /// Some bytes of a response came.
    spoke: bool,
    begun: Instant,
    /// Bytes that the client had sent by then.
    received: u64,
    /// Halves of a tunnel that are shut.
    shut: (bool, bool),
    /// The target of a tunnel may be used no longer: a moment is left.
    is_cut: bool,
    /// The client was told so, and may still say that it has heard it.
    is_leaving: bool,
    /// What is left of the response's body, where it does not come into this process.
    through: Option<Through>,
    /// It does, to its end: decided once, when all of it that had come was sent.
    is_copied: bool,
    pub(super) answered: Option<Answered>,
    /// The request's body so far can be sent again.
    pub(super) body_kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Tunnel,
}

/// A final response's head has come.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) at: Instant,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        client: &'a mut Client,
        target: &'a mut Back,
        (buffers, closing): (&'a Buffers, &'a CancellationToken),
        (asked, added, (idle_timeout, deadline)): (
            Asked,
            &'a Additions<'a>,
            (Duration, Option<Instant>),
        ),
        begun: Instant,
    ) -> Self {
        let mut relay = Self {
            received: client.received(),
            begun,
            client,
            target,
            buffers,
            closing,
            asked,
            added,
            idle_timeout,
            deadline,
            stage: Stage::Head,
            searched: 0,
            is_deaf: false,
            is_on: false,
            spoke: false,
            shut: (false, false),
            is_cut: false,
            is_leaving: false,
            through: None,
            is_copied: false,
            answered: None,
            body_kept: true,
        };
        relay.moved(begun);
        relay
    }

    /// Something moved: the idle timeout begins anew. The rule's deadline does not.
    fn moved(&mut self, now: Instant) {
        let idle = now + self.idle_timeout;
        let deadline = self.deadline.filter(|_| self.stage == Stage::Head);
        self.client.timer.set(deadline.map_or(idle, |deadline| deadline.min(idle)));
    }

    /// Runs until the response is with the client. The caller has written the request's head.
    ///
    /// # Errors
    /// What went wrong; `answered` tells whether the client has seen a part of a response.
    pub(super) async fn run(&mut self) -> Result<(), Cause> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let mut moved = false;
        loop {
            let up = self.poll_up(cx)?;
            let down = self.poll_down(cx)?;
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            moved |= up || down;
            if !up && !down || self.rests(cx) {
                break;
            }
        }
        // It has just begun when it is polled first; a head that has come is news all the same.
        let is_news = std::mem::replace(&mut self.is_on, true) || self.stage != Stage::Head;
        if moved && is_news {
            let now = clock::instant();
            if !self.is_cut {
                self.moved(now);
            }
            if self.trickles(now) {
                return Poll::Ready(Err(Cause::Slow));
            }
        }
        ready!(self.client.timer.poll(cx));
        Poll::Ready(Err(self.stalled()))
    }

    /// Whether it has had its turn; it comes to its next one by itself.
    fn rests(&mut self, cx: &Context<'_>) -> bool {
        let Some(through) = self.through.as_mut().filter(|through| through.is_tired()) else {
            return false;
        };
        through.rest();
        cx.waker().wake_by_ref();
        true
    }

    /// Whether the client sends its body as slowly as only those do who want to be held.
    fn trickles(&self, now: Instant) -> bool {
        let beyond = now.saturating_duration_since(self.begun).saturating_sub(self.idle_timeout);
        let came = self.client.received() - self.received;
        let is_sending = self.stage != Stage::Tunnel && !self.client.up.body.is_done();
        let is_free = self.target.is_call();
        // A client that waits for its target to take what it has sent is not slow.
        is_sending
            && !is_free
            && !beyond.is_zero()
            && self.client.up.window.has_room()
            && came < beyond.as_secs().saturating_mul(BODY_RATE)
    }

    fn is_over(&self) -> bool {
        match self.stage {
            Stage::Head => false,
            Stage::Body => self.client.down.is_over(),
            Stage::Tunnel if self.is_leaving => {
                let up = &self.client.up;
                let heard = matches!(&up.body, Body::Frames(frames) if frames.is_closed())
                    && up.window.unsent().is_empty();
                self.client.down.is_over() && (heard || up.is_over() || self.is_deaf)
            }
            Stage::Tunnel => self.shut == (true, true),
        }
    }

    /// Who did not go on.
    fn stalled(&self) -> Cause {
        let is_late = |deadline: Instant| deadline <= clock::instant();
        if self.stage == Stage::Head && self.deadline.is_some_and(is_late) {
            return Cause::RuleTimeout;
        }
        let (up, down) = (&self.client.up, &self.client.down);
        let is_held = self.through.as_ref().is_some_and(|through| through.held() > 0);
        if is_held || !down.is_flushed() {
            Cause::ClientGone
        } else if !up.body.is_done() && (up.is_flushed() || self.is_deaf) {
            Cause::Slow
        } else {
            Cause::TargetTimeout
        }
    }

    /// From the client to the target. Whether anything moved.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let mut moved = false;
        while !self.is_deaf {
            match self.target.poll_send(cx, &mut self.client.up) {
                Poll::Ready(Ok(())) => {
                    if self.stage == Stage::Tunnel || !self.body_kept {
                        self.client.up.drop_sent();
                    }
                    if !self.client.up.stage().map_err(|_| Cause::Malformed)? {
                        break;
                    }
                    moved = true;
                }
                // What it said before it closed still goes to the client.
                Poll::Ready(Err(_)) if self.stage == Stage::Tunnel => {
                    (self.is_deaf, self.shut.0) = (true, true);
                    moved = true;
                }
                // It may have answered before it closed.
                Poll::Ready(Err(_)) => self.is_deaf = true,
                Poll::Pending => break,
            }
        }
        if self.stage == Stage::Tunnel && self.client.up.is_over() {
            if !self.shut.0 && self.target.poll_shut(cx).is_ready() {
                self.shut.0 = true;
                moved = true;
            }
            return Ok(moved);
        }
        Ok(self.poll_client(cx)? || moved)
    }

    /// Reads more of the request; behind its end, what comes next, which also tells when the client
    /// goes.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let is_done = self.client.up.body.is_done();
        if if is_done { self.stage == Stage::Tunnel } else { self.is_deaf } {
            return Ok(false);
        }
        let window = &mut self.client.up.window;
        if !is_done && !window.has_room() && self.client.up.is_flushed() {
            // What is given up can be sent to nobody else.
            self.body_kept &= !self.client.up.make_room(LARGE);
        }
        while self.client.up.window.has_room() {
            return match self.client.poll_read(cx, self.buffers, SMALL) {
                Poll::Pending => Ok(false),
                // A tunnel, or a stream whose request tells no length.
                Poll::Ready(Ok(0)) if self.client.up.body.ends_with_connection() => {
                    self.client.up.body = Body::Ended(self.client.take_trailers());
                    Ok(true)
                }
                Poll::Ready(Ok(0) | Err(_)) if is_done => Err(Cause::ClientGone),
                Poll::Ready(Ok(0) | Err(_)) => Err(Cause::ShortBody),
                // The next request's bytes are no progress of this one.
                Poll::Ready(Ok(_)) if is_done => continue,
                Poll::Ready(Ok(_)) => {
                    self.client.up.look().map_err(|_| Cause::Malformed)?;
                    Ok(true)
                }
            };
        }
        // What is given up is given up, however much of it waits for its target.
        if self.client.poll_gone(cx).is_ready() { Err(Cause::ShortBody) } else { Ok(false) }
    }

    /// From the target to the client. Whether anything moved.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let mut moved = false;
        loop {
            match self.client.poll_send(cx) {
                Poll::Ready(Ok(())) if self.stage != Stage::Head => {
                    let down = &mut self.client.down;
                    down.drop_sent();
                    if down.stage().map_err(|_| Cause::BadResponse)? {
                        moved = true;
                        continue;
                    }
                }
                Poll::Ready(Err(_)) if self.client.up.body.is_done() => {
                    return Err(Cause::ClientGone);
                }
                Poll::Ready(Err(_)) => return Err(Cause::ShortBody),
                // What an interim response could not be written of: no more is read until it is.
                Poll::Pending if self.stage == Stage::Head => return Ok(moved),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if self.client.down.body.is_done() && self.stage != Stage::Head {
                return Ok(self.shut_client(cx) || moved);
            }
            if self.goes_through() {
                if !self.poll_through(cx)? {
                    return Ok(moved);
                }
            } else if !self.poll_target(cx)? {
                return Ok(moved);
            }
            moved = true;
        }
    }

    /// Whether the body's rest passes from socket to socket.
    fn goes_through(&mut self) -> bool {
        let undecided = self.through.is_none() && !self.is_copied && self.stage == Stage::Body;
        if let Some(left) = self.client.down.rest().filter(|_| undecided) {
            let is_plain = self.target.tcp().is_some() && self.client.front.tcp().is_some();
            let is_worth_it = is_plain && left >= LONG;
            self.through = is_worth_it.then(|| self.buffers.pipes.take(left)).flatten();
            self.is_copied = self.through.is_none();
            if !self.is_copied {
                self.client.down.window.release(self.buffers);
            }
        }
        self.through.is_some()
    }

    /// Passes on what the target says. Whether anything moved.
    fn poll_through(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let (Some(through), Some(target), Some(client)) =
            (&mut self.through, self.target.tcp(), self.client.front.tcp())
        else {
            return Err(Cause::Internal);
        };
        let mut moved = false;
        if through.held() == 0 {
            if through.is_tired() {
                return Ok(false);
            }
            match through.poll_fill(cx, target) {
                Poll::Pending => return Ok(false),
                // A system that does not do it: what has not come yet is copied.
                Poll::Ready(Err(error)) if is_unable(&error) => {
                    (self.through, self.is_copied) = (None, true);
                    return Ok(true);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Err(Cause::TargetClosed),
                Poll::Ready(Ok(_)) => moved = true,
            }
        }
        while through.held() > 0 {
            match through.poll_drain(cx, client) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.client.down.passed(count);
                    moved = true;
                }
                Poll::Ready(_) if self.client.up.body.is_done() => return Err(Cause::ClientGone),
                Poll::Ready(_) => return Err(Cause::ShortBody),
            }
        }
        if through.is_over() {
            self.through = None;
            self.client.down.body = Body::none();
        }
        Ok(true)
    }

    fn shut_client(&mut self, cx: &mut Context<'_>) -> bool {
        let shuts = self.stage == Stage::Tunnel
            && !self.shut.1
            && !self.is_leaving
            && self.client.down.is_over()
            && self.client.poll_shut(cx).is_ready();
        self.shut.1 |= shuts;
        shuts
    }

    /// Reads more of the response.
    fn poll_target(&mut self, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let window = &mut self.client.down.window;
        if !window.is_empty() && !window.has_room() {
            if self.stage == Stage::Head {
                self.client.down.window.make_room(2 * LARGE);
            } else if self.client.down.is_flushed() {
                self.client.down.make_room(LARGE);
            }
            if !self.client.down.window.has_room() {
                return match self.stage {
                    Stage::Head => Err(Cause::ResponseHeaders),
                    Stage::Body | Stage::Tunnel => Ok(false),
                };
            }
        }
        let window = &mut self.client.down.window;
        match self.target.poll_read(cx, window, (self.buffers, LARGE)) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) if self.stage == Stage::Head && self.spoke => {
                Err(Cause::BadResponse)
            }
            Poll::Ready(Ok(0)) if self.stage != Stage::Head => {
                if self.target.is_cut() {
                    return if self.leave() { Ok(true) } else { Err(Cause::TargetClosed) };
                }
                if !self.client.down.body.ends_with_connection() {
                    return Err(Cause::TargetClosed);
                }
                self.client.down.body = Body::Ended(self.target.take_trailers());
                Ok(true)
            }
            Poll::Ready(Err(_)) if self.stage == Stage::Tunnel && !self.target.is_cut() => {
                self.client.down.body = Body::Ended(Vec::new());
                Ok(true)
            }
            Poll::Ready(Ok(0) | Err(_)) => Err(Cause::TargetClosed),
            Poll::Ready(Ok(_)) if self.stage == Stage::Head => {
                self.spoke = true;
                self.read_heads()?;
                Ok(true)
            }
            Poll::Ready(Ok(_)) => {
                self.client.down.look().map_err(|_| Cause::BadResponse)?;
                if self.stage == Stage::Tunnel && self.target.is_cut() {
                    self.leave();
                }
                Ok(true)
            }
        }
    }

    /// The target may be used no longer. A WebSocket ends as its protocol has it, where no frame is
    /// cut in two: the client is told, and what it answers goes to the target. Whether it is told.
    fn leave(&mut self) -> bool {
        if !self.is_cut {
            self.client.timer.set(clock::instant() + LINGER);
        }
        self.is_cut = true;
        if matches!(&self.client.down.body, Body::Frames(frames) if frames.may_close()) {
            self.client.down.body = Body::Closed(frames::GOING_AWAY);
            self.is_leaving = true;
        }
        self.is_leaving
    }

    /// Interim responses, then the final one.
    fn read_heads(&mut self) -> Result<(), Cause> {
        // Most heads come whole, and are parsed at once. The end is looked for only of one that has
        // not.
        while self.searched == 0
            || response::is_whole(self.client.down.window.all(), &mut self.searched)
        {
            let down = &mut self.client.down;
            if down.is_flushed() {
                down.begin();
            }
            // Known only now: much can happen while a target thinks.
            self.asked.keep_alive &= !self.closing.is_cancelled();
            let Some(mut response) = self.client.stage_head(self.asked, self.added)? else {
                let bytes = self.client.down.window.all();
                let ends = self.searched > 0 || response::is_whole(bytes, &mut self.searched);
                return if ends { Err(Cause::BadResponse) } else { Ok(()) };
            };
            let down = &mut self.client.down;
            down.window.consume(response.length);
            self.searched = 0;
            if response.status < 200 && response.status != 101 {
                self.spoke = !down.window.is_empty();
                continue;
            }
            let body = std::mem::replace(&mut response.body, Body::none());
            let is_bodyless = self.asked.is_head || matches!(response.status, 204 | 304);
            let body = self.target.frame(body, is_bodyless);
            down.frame(body, response.chunked);
            let coder = response.coding.map(Coder::new).transpose();
            down.code(coder.map_err(|_| Cause::Internal)?);
            self.stage = Stage::Body;
            if response.status == 101 {
                self.stage = Stage::Tunnel;
                self.target.tunnels();
                // Whatever the client has sent already was meant for the other protocol.
                self.client.up.begin();
                self.client.up.frame(Body::Frames(Frames::default()), false);
                self.client.up.look().map_err(|_| Cause::Malformed)?;
            }
            let down = &mut self.client.down;
            down.look().map_err(|_| Cause::BadResponse)?;
            down.stage().map_err(|_| Cause::BadResponse)?;
            // Not before its body's beginning is good too: until here another answer can be given.
            self.answered = Some(Answered { response, at: clock::instant() });
            return Ok(());
        }
        Ok(())
    }
}

/// Whether it is the system that refuses, not the connection that has ended.
fn is_unable(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}
