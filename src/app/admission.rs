//! Which new connections are carried: caps per listener, and per listener and client address.
//!
//! **Invariant:** a connection counts from its acceptance until it is closed, whatever ends it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;
use crate::metrics::Gauge;
use crate::net::SocketKey;
use crate::routing::ListenerMetrics;

/// Parts of the table that are locked one by one (ours: a power of two above any number of cores
/// here).
const SHARDS: usize = 64;

/// The caps of all data threads together.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    max_connections: i64,
    /// None without a cap per client: then nobody is counted.
    clients: Option<Arc<Clients>>,
}

#[derive(Debug)]
struct Clients {
    most: usize,
    hasher: RandomState,
    shards: [Mutex<HashMap<(SocketKey, IpAddr), usize>>; SHARDS],
}

/// Counts one open client connection.
#[derive(Debug)]
pub(super) struct Open {
    active: Gauge,
    client: Option<Share>,
}

/// Counts it on its client's address.
#[derive(Debug)]
struct Share {
    clients: Arc<Clients>,
    key: (SocketKey, IpAddr),
}

impl Drop for Open {
    fn drop(&mut self) {
        self.active.add(-1);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clients.leave(&self.key);
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let clients = |most| Clients {
            most,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        };
        let most = Some(limits.max_connections_per_client).filter(|most| *most > 0);
        Self {
            max_connections: i64::try_from(limits.max_connections).unwrap_or(i64::MAX),
            clients: most.map(|most| Arc::new(clients(most))),
        }
    }

    /// Counts a new connection; none where that would be one too many.
    pub(super) fn enter(&self, metrics: &ListenerMetrics) -> Option<Open> {
        if metrics.active.value() >= self.max_connections {
            return None;
        }
        metrics.active.add(1);
        Some(Open { active: metrics.active.clone(), client: None })
    }

    /// Counts it on its client's address as well. False: that would be one too many.
    #[must_use]
    pub(super) fn know(&self, open: &mut Open, socket: SocketKey, client: IpAddr) -> bool {
        let Some(clients) = &self.clients else { return true };
        let key = (socket, client.to_canonical());
        let fits = clients.enter(key);
        open.client = fits.then(|| Share { clients: Arc::clone(clients), key });
        fits
    }
}

impl Clients {
    fn shard(
        &self,
        key: &(SocketKey, IpAddr),
    ) -> MutexGuard<'_, HashMap<(SocketKey, IpAddr), usize>> {
        #[allow(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, key: (SocketKey, IpAddr)) -> bool {
        let mut shard = self.shard(&key);
        let count = shard.entry(key).or_default();
        let fits = *count < self.most;
        *count += usize::from(fits);
        fits
    }

    fn leave(&self, key: &(SocketKey, IpAddr)) {
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    #[test]
    fn a_client_has_its_share_of_each_listener() {
        let limits = Limits { max_connections_per_client: 2, ..Limits::default() };
        let clients = Admission::new(&limits).clients.unwrap();
        let at = |port: u16, host: u8| {
            let address = ([127, 0, 0, 1], port).into();
            (SocketKey { address, transport: Transport::Tcp }, IpAddr::from([10, 0, 0, host]))
        };
        assert!(clients.enter(at(80, 1)) && clients.enter(at(80, 1)));
        assert!(!clients.enter(at(80, 1)), "a third one");
        assert!(clients.enter(at(80, 2)) && clients.enter(at(81, 1)), "others are others");
        clients.leave(&at(80, 1));
        assert!(clients.enter(at(80, 1)), "one has left");
        for key in [at(80, 1), at(80, 1), at(80, 2), at(81, 1)] {
            clients.leave(&key);
        }
        assert!(clients.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert!(Admission::new(&Limits::default()).clients.is_none(), "nobody is counted");
    }
}
