//! Connections to targets: idle ones for the next exchange, and which ones are in use.
//!
//! Keyed by registration, so that an address that comes back inherits nothing. One pool per data
//! thread. **Invariant:** an fd is in the table of busy ones exactly as long as its [`Held`] lives,
//! and what rests here is of a registration that the newest snapshot sends to.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::account::is_sent_to;
use super::super::limits::TARGET_IDLE;
use crate::clock::Instant;
use crate::model::RegistrationId;
use crate::routing::Routing;
use crate::tls::Stream;

/// Never waited for: all connections of a data thread run on it and hold the lock over no await.
#[derive(Debug)]
pub(super) struct Pool {
    inner: Mutex<Inner>,
    /// Idle connections at most.
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// The least recently used first.
    idle: HashMap<RegistrationId, VecDeque<Idle>, foldhash::fast::RandomState>,
    count: usize,
    /// By fd.
    busy: Vec<Busy>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
enum Busy {
    #[default]
    No,
    With(RegistrationId),
    /// The same, and it has become a tunnel.
    Tunnel(RegistrationId),
    /// Its registration is gone, and so is the connection.
    Cut,
}

/// A connection while an exchange has it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) stream: Stream,
    /// Out of the pool.
    pub(super) reused: bool,
    /// In the pool's table as long as this lives.
    mark: Marked,
}

#[derive(Debug)]
struct Marked {
    /// None once the mark is taken away.
    pool: Option<Arc<Pool>>,
    fd: usize,
    registration: RegistrationId,
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.lock().mark(self.fd, Busy::No);
        }
    }
}

impl Held {
    /// From now on it is a tunnel.
    pub(super) fn tunnels(&self) {
        if let Some(pool) = &self.mark.pool {
            let mut inner = pool.lock();
            // It may be cut already.
            if let Some(busy @ Busy::With(_)) = inner.busy.get_mut(self.mark.fd) {
                *busy = Busy::Tunnel(self.mark.registration);
            }
        }
    }

    /// Whether the connection was cut because its registration is gone.
    pub(super) fn is_cut(&self) -> bool {
        let pool = self.mark.pool.as_ref();
        pool.is_some_and(|pool| matches!(pool.lock().busy.get(self.mark.fd), Some(Busy::Cut)))
    }
}

impl Pool {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), most: most.max(1) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An exchange takes the connection used last that is still alive.
    pub(super) fn take(self: &Arc<Self>, id: RegistrationId) -> Option<Held> {
        let mut inner = self.lock();
        loop {
            let mut stream = inner.idle.get_mut(&id)?.pop_back()?.stream;
            inner.count -= 1;
            if stream.is_quiet() {
                return Some(self.mark(&mut inner, stream, id, true));
            }
        }
    }

    /// An exchange uses this new connection from now on.
    pub(super) fn hold(self: &Arc<Self>, stream: Stream, id: RegistrationId) -> Held {
        self.mark(&mut self.lock(), stream, id, false)
    }

    fn mark(
        self: &Arc<Self>,
        inner: &mut Inner,
        stream: Stream,
        registration: RegistrationId,
        reused: bool,
    ) -> Held {
        let fd = usize::try_from(stream.tcp().as_raw_fd()).unwrap_or_default();
        inner.mark(fd, Busy::With(registration));
        let mark = Marked { pool: Some(Arc::clone(self)), fd, registration };
        Held { stream, reused, mark }
    }

    /// The exchange is over and the connection may serve another. The least recently used one of
    /// all makes room.
    pub(super) fn give_back(&self, held: Held, now: Instant) {
        let Held { stream, mut mark, .. } = held;
        let id = mark.registration;
        mark.pool = None;
        let mut inner = self.lock();
        inner.mark(mark.fd, Busy::No);
        let made_room = if inner.count >= self.most { inner.pop_oldest() } else { None };
        inner.idle.entry(id).or_default().push_back(Idle { stream, since: now });
        inner.count += 1;
        drop(inner);
        drop(made_room);
    }

    /// Closes idle connections to whom `routing` sends nothing more, and cuts busy ones to whom it
    /// does not know any more: their deregistration delay is over.
    pub(super) fn forget(&self, routing: &Routing) {
        let mut inner = self.lock();
        inner.idle.retain(|id, _| is_sent_to(routing, *id));
        inner.count = inner.idle.values().map(VecDeque::len).sum();
        for (fd, busy) in inner.busy.iter_mut().enumerate() {
            let (Busy::With(id) | Busy::Tunnel(id)) = *busy else { continue };
            if routing.endpoints.contains_key(&id) {
                continue;
            }
            let end = match busy {
                // The client of a tunnel has a last word to its target.
                Busy::Tunnel(_) => crate::sys::shutdown_reading,
                _ => crate::sys::shutdown_connection,
            };
            *busy = Busy::Cut;
            // Not connected any more: then it is on its way out already.
            let _ = i32::try_from(fd).map(end);
        }
    }

    /// The process ends: tunnels are cut as if their registrations were gone. Whether there was
    /// any.
    pub(super) fn cut_tunnels(&self) -> bool {
        let mut found = false;
        for (fd, busy) in self.lock().busy.iter_mut().enumerate() {
            if matches!(busy, Busy::Tunnel(_)) {
                *busy = Busy::Cut;
                let _ = i32::try_from(fd).map(crate::sys::shutdown_reading);
                found = true;
            }
        }
        found
    }

    /// Closes what rested for too long, and what its target has closed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.lock();
        inner.idle.retain(|_, idle| {
            idle.retain_mut(|idle| {
                now.saturating_duration_since(idle.since) < TARGET_IDLE && idle.stream.is_quiet()
            });
            !idle.is_empty()
        });
        inner.count = inner.idle.values().map(VecDeque::len).sum();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().count
    }
}

impl Inner {
    fn mark(&mut self, fd: usize, busy: Busy) {
        if self.busy.len() <= fd {
            self.busy.resize(fd + 1, Busy::No);
        }
        self.busy[fd] = busy;
    }

    fn pop_oldest(&mut self) -> Option<Idle> {
        let since = |idle: &VecDeque<Idle>| idle.front().map(|idle| idle.since);
        let oldest = self.idle.iter().filter_map(|(id, idle)| Some((since(idle)?, *id))).min()?;
        self.count -= 1;
        self.idle.get_mut(&oldest.1)?.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;

    use super::*;
    use crate::clock;

    async fn pair() -> (Stream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        (Stream::Plain(ours.unwrap()), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_is_of_its_registration_alone() {
        let pool = Pool::new(4);
        let (ours, _theirs) = pair().await;
        pool.give_back(pool.hold(ours, RegistrationId(1)), clock::instant());
        assert!(pool.take(RegistrationId(2)).is_none());
        assert!(pool.take(RegistrationId(1)).is_some_and(|held| held.reused));
        assert!(pool.take(RegistrationId(1)).is_none());
    }

    #[tokio::test]
    async fn the_least_recently_used_one_makes_room() {
        let pool = Pool::new(2);
        let mut theirs = Vec::new();
        let begin = clock::instant();
        for (id, seconds) in [(1, 5), (2, 3), (3, 7)] {
            let (ours, other) = pair().await;
            theirs.push(other);
            let held = pool.hold(ours, RegistrationId(id));
            pool.give_back(held, begin + Duration::from_secs(seconds));
        }
        assert_eq!(pool.len(), 2);
        assert!(pool.take(RegistrationId(2)).is_none());
        pool.sweep(begin + Duration::from_secs(5) + TARGET_IDLE);
        assert!(pool.take(RegistrationId(1)).is_none());
        assert!(pool.take(RegistrationId(3)).is_some());
    }

    #[tokio::test]
    async fn what_its_target_closed_is_used_no_more() {
        let pool = Pool::new(4);
        let (ours, theirs) = pair().await;
        pool.give_back(pool.hold(ours, RegistrationId(1)), clock::instant());
        drop(theirs);
        let deadline = clock::instant() + Duration::from_secs(30);
        while pool.len() > 0 {
            assert!(clock::instant() < deadline);
            tokio::task::yield_now().await;
            pool.sweep(clock::instant());
        }
    }
}
