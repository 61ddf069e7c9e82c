//! One TCP flow: a target, a connection to it, bytes both ways, and an end that says what happened.
//!
//! Not here: the PROXY header, TLS, splicing. **Invariant:** the in-flight guard lives as long as
//! the flow; a FIN is passed on only behind the last byte before it, and the other direction goes
//! on; a flow that ends in any other way, the future being dropped included, resets both sides, so
//! that nobody takes a part for the whole.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use super::buffers::Buffers;
use crate::balance::{Group, InFlight};
use crate::clock;
use crate::metrics::Counter;
use crate::model::RegistrationId;
use crate::routing::{DataThread, ListenerMetrics, Outcome, SocketKey, Trial, decide};
use crate::rules::Facts;

/// How long a target may take to accept a connection: ALB's target connection timeout.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Targets tried for one flow, before any byte was sent to one (ours).
pub const CONNECT_ATTEMPTS: usize = 3;
/// Silence after which a flow that only one side has finished is given up, where its idle timeout
/// is not shorter (ours: twice Linux's `tcp_fin_timeout`). Such flows hang for ever when a side
/// forgot to close.
pub const HALF_CLOSED_IDLE: Duration = Duration::from_secs(120);
/// Reads of one direction in a row before other flows get their turn (ours: 1 MiB, a fraction of a
/// millisecond).
const BURST: u32 = 16;

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides finished, and each got all that the other sent.
    Finished,
    /// One side failed or reset its connection; so the other was reset.
    Reset,
    /// Nothing was sent either way for the idle timeout.
    Idle,
    /// The target's registration left the State.
    Deregistered,
    /// No listener on this socket any more, or no target to send to.
    NoTarget,
    /// Every target that was tried refused the connection, or did not answer.
    Refused,
}

/// The TCP flows of one data thread. They all run on that thread.
#[derive(Debug)]
pub struct TcpRelay {
    thread: DataThread,
    buffers: Buffers,
}

/// What a decision has come to: a target that accepted.
#[derive(Debug)]
struct Connected {
    target: TcpStream,
    guard: InFlight,
    metrics: Arc<ListenerMetrics>,
    idle_timeout: Duration,
}

impl TcpRelay {
    #[must_use]
    pub fn new(thread: DataThread) -> Self {
        Self { thread, buffers: Buffers::default() }
    }

    /// Carries one accepted connection of the listener on `socket` to its end. Counts bytes, flows
    /// and failed connections; accepted and open connections are whoever accepts to count.
    ///
    /// Goes on when the process stops; dropping the future ends the flow, with a reset to both
    /// sides.
    pub async fn relay(&self, client: TcpStream, peer: SocketAddr, socket: SocketKey) -> Ended {
        let mut client = Side::new(client);
        let ended = match self.connect(socket).await {
            Err(ended) => ended,
            Ok(connected) => self.carry(&mut client, connected).await,
        };
        tracing::debug!(%peer, %socket, ?ended, "flow ended");
        ended
    }

    /// Decides and connects; on failure decides again, on a fresh snapshot.
    async fn connect(&self, socket: SocketKey) -> Result<Connected, Ended> {
        let mut rng = fastrand::Rng::new();
        let mut tried: Vec<RegistrationId> = Vec::new();
        while tried.len() < CONNECT_ATTEMPTS {
            let nobody = if tried.is_empty() { Ended::NoTarget } else { Ended::Refused };
            let Some((group, guard, metrics, idle_timeout)) = self.decide(socket, &tried, &mut rng)
            else {
                return Err(nobody);
            };
            if !tried.is_empty() {
                group.metrics.retries.add(self.thread.index, 1);
            }
            let endpoint = guard.endpoint();
            let connecting = TcpStream::connect(endpoint.address);
            let failure = match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(target)) => {
                    group.metrics.requests.add(self.thread.index, 1);
                    endpoint.requests.add(self.thread.index, 1);
                    return Ok(Connected { target, guard, metrics, idle_timeout });
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            group.metrics.connection_errors.add(self.thread.index, 1);
            tracing::debug!(target = %endpoint.address, error = %failure, "target not reached");
            tried.push(endpoint.id);
        }
        Err(Ended::Refused)
    }

    fn decide(
        &self,
        socket: SocketKey,
        tried: &[RegistrationId],
        rng: &mut fastrand::Rng,
    ) -> Option<(Arc<Group>, InFlight, Arc<ListenerMetrics>, Duration)> {
        let routing = self.thread.reader.load();
        let listener = routing.listeners.get(&socket)?;
        let (thread, now) = (self.thread.index, clock::now());
        let is_first = tried.is_empty();
        let mut trial = Trial { exclude: tried, is_first, ..Trial::first(thread, rng, now) };
        match decide(listener, &Facts::default(), &mut trial).outcome {
            Outcome::Forward { group, guard } => {
                Some((group, guard, Arc::clone(&listener.metrics), listener.idle_timeout))
            }
            Outcome::Fixed(_)
            | Outcome::Redirect(_)
            | Outcome::Limited { .. }
            | Outcome::Misfit { .. }
            | Outcome::Busy { .. }
            | Outcome::NoTarget { .. }
            | Outcome::Refused(_)
            | Outcome::AskAgain(_)
            | Outcome::Login(_)
            | Outcome::Unfit { .. } => None,
        }
    }

    /// Copies both ways until both sides finished, or until one of the reasons not to go on.
    async fn carry(&self, client: &mut Side, connected: Connected) -> Ended {
        let Connected { target, guard, metrics, idle_timeout } = connected;
        // The client's side has it from its listener. Only latency is lost when it cannot be set.
        let _ = target.set_nodelay(true);
        let mut target = Side::new(target);
        let activity = Activity::new();
        // From here on nothing is missed: a generation before this one is looked at below, a later
        // one wakes.
        let mut generations = self.thread.reader.watch();
        let ended = {
            let (from_client, to_client) = client.stream.split();
            let (from_target, to_target) = target.stream.split();
            let both = try_join(
                self.pump(from_client, to_target, &metrics.received, &activity),
                self.pump(from_target, to_client, &metrics.sent, &activity),
            );
            let mut both = std::pin::pin!(both);
            let mut idle = std::pin::pin!(sleep_until(activity.deadline(idle_timeout)));
            loop {
                if !self.thread.reader.load().endpoints.contains_key(&guard.endpoint().id) {
                    break Ended::Deregistered;
                }
                tokio::select! {
                    biased;
                    done = &mut both => {
                        break if done.is_ok() { Ended::Finished } else { Ended::Reset };
                    }
                    changed = generations.changed() => if changed.is_err() {
                        break Ended::Deregistered;
                    },
                    () = activity.half_closed.notified() => {
                        idle.as_mut().reset(activity.deadline(idle_timeout));
                    }
                    () = &mut idle => {
                        let deadline = activity.deadline(idle_timeout);
                        if deadline <= clock::instant() {
                            break Ended::Idle;
                        }
                        idle.as_mut().reset(deadline);
                    }
                }
            }
        };
        if ended == Ended::Finished {
            client.is_finished = true;
            target.is_finished = true;
        }
        ended
    }

    /// One direction: bytes, then the FIN.
    async fn pump(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        bytes: &Counter,
        activity: &Activity,
    ) -> io::Result<()> {
        let mut reads: u32 = 0;
        loop {
            from.readable().await?;
            let mut buffer = self.buffers.take();
            // Read rather than tried: a read that does not fill the buffer spares the next one.
            let Some(read) = from.read(&mut buffer).now_or_never() else {
                self.buffers.put(buffer);
                // A wake-up for nothing, or this task's turn is over, which `readable` does not
                // see.
                yield_now().await;
                continue;
            };
            let mut rest = &buffer[..read?];
            if rest.is_empty() {
                self.buffers.put(buffer);
                break;
            }
            activity.touch();
            while !rest.is_empty() {
                let written = to.write(rest).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[written..];
                bytes.add(self.thread.index, written as u64);
                activity.touch();
            }
            self.buffers.put(buffer);
            reads = reads.wrapping_add(1);
            if reads.is_multiple_of(BURST) {
                yield_now().await;
            }
        }
        to.shutdown().await?;
        activity.half_close();
        Ok(())
    }
}

/// When something was last sent either way.
#[derive(Debug)]
struct Activity {
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
    is_half_closed: AtomicBool,
    /// The deadline has come nearer.
    half_closed: Notify,
}

impl Activity {
    fn new() -> Self {
        Self {
            start: clock::instant(),
            last: AtomicU64::new(0),
            is_half_closed: AtomicBool::new(false),
            half_closed: Notify::new(),
        }
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn half_close(&self) {
        self.touch();
        self.is_half_closed.store(true, Ordering::Relaxed);
        self.half_closed.notify_one();
    }

    fn deadline(&self, idle_timeout: Duration) -> Instant {
        let is_half_closed = self.is_half_closed.load(Ordering::Relaxed);
        let limit = if is_half_closed { idle_timeout.min(HALF_CLOSED_IDLE) } else { idle_timeout };
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit
    }
}

/// One side of a flow. Reset when dropped, unless the flow finished.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    is_finished: bool,
}

impl Side {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, is_finished: false }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.is_finished {
            // Closing with a linger time of zero sends RST. When it cannot be set, the side gets a
            // FIN.
            let _ = self.stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests;
