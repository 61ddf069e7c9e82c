//! Which connections to targets this thread holds, so that idle ones can be closed before their
//! time.
//!
//! Pingora's pool offers no way to take connections out of it. It does watch them: a connection
//! whose socket is shut down leaves the pool by itself. **Invariant:** an fd is in the table
//! exactly as long as pingora's stream owns it, because the stream's tracer takes it out before the
//! stream closes it.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_core::upstreams::peer::{Tracer, Tracing};

use super::super::account::is_sent_to;
use crate::model::RegistrationId;
use crate::routing::Routing;

/// The connections of one data thread. Only that thread takes the lock.
#[derive(Debug, Default)]
pub(super) struct Pooled {
    connections: Mutex<HashMap<RawFd, Held>>,
    serial: AtomicU64,
}

#[derive(Debug)]
struct Held {
    registration: RegistrationId,
    /// Tells two connections apart that had the same fd one after the other.
    serial: u64,
    busy: bool,
}

/// One connection while an exchange has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Borrowed {
    fd: RawFd,
    serial: u64,
}

impl Pooled {
    fn lock(&self) -> MutexGuard<'_, HashMap<RawFd, Held>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tracer for the connection that the next connect may make.
    pub(super) fn tracer(self: &Arc<Self>) -> (Arc<Fd>, Tracer) {
        let fd = Arc::new(Fd { pooled: Arc::clone(self), fd: AtomicI32::new(-1) });
        (Arc::clone(&fd), Tracer(Box::new(Trace(fd))))
    }

    /// An exchange takes a connection; `made` is the tracer it was made with, when it is new.
    pub(super) fn borrow(
        &self,
        fd: RawFd,
        registration: RegistrationId,
        made: Option<&Fd>,
    ) -> Borrowed {
        let mut connections = self.lock();
        if let Some(made) = made {
            let fd = if fd < 0 { made.fd.load(Ordering::Relaxed) } else { fd };
            made.set(fd);
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            connections.insert(fd, Held { registration, serial, busy: true });
            return Borrowed { fd, serial };
        }
        let serial = connections.get_mut(&fd).map_or(u64::MAX, |held| {
            held.busy = true;
            held.serial
        });
        Borrowed { fd, serial }
    }

    /// The exchange is over; the connection, if it still is, rests in the pool, or ends when it is
    /// not `wanted`.
    pub(super) fn give_back(&self, borrowed: Borrowed, wanted: bool) {
        if let Some(held) = self.lock().get_mut(&borrowed.fd)
            && held.serial == borrowed.serial
        {
            held.busy = false;
            if !wanted {
                shut(borrowed.fd);
            }
        }
    }

    /// Ends idle connections to whom `routing` sends nothing more, and busy ones to whom it does
    /// not know any more: their deregistration delay is over.
    pub(super) fn forget(&self, routing: &Routing) {
        for (fd, held) in self.lock().iter() {
            let cut = match held.busy {
                true => !routing.endpoints.contains_key(&held.registration),
                false => !is_sent_to(routing, held.registration),
            };
            if cut {
                shut(*fd);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

fn shut(fd: RawFd) {
    // Not connected any more: then it is on its way out already.
    let _ = crate::sys::shutdown_connection(fd);
}

/// The fd of one connection, once it is known.
#[derive(Debug)]
pub(super) struct Fd {
    pooled: Arc<Pooled>,
    fd: AtomicI32,
}

impl Fd {
    /// Of a connection that pingora knows by none.
    pub(super) fn set(&self, fd: RawFd) {
        self.fd.store(fd, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
struct Trace(Arc<Fd>);

impl Tracing for Trace {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        let fd = self.0.fd.load(Ordering::Relaxed);
        if fd >= 0 {
            self.0.pooled.lock().remove(&fd);
        }
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}
