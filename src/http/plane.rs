//! The HTTP plane of one data thread: which carrier a connection gets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::{account, native, pingora};
use crate::logs::AccessLog;
use crate::metrics::Metrics;
use crate::model::Carrier;
use crate::routing::{DataThread, Routing, SocketKey};

/// What the process sets for all data threads.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Idle connections to targets that each carrier keeps, over all threads. The least recently
    /// used one makes room.
    pub idle_connections: usize,
}

impl Default for Settings {
    /// Ours: 1,000 targets, ALB's quota, with one or two connections each.
    fn default() -> Self {
        Self { idle_connections: 2048 }
    }
}

/// The HTTP plane of one data thread.
#[derive(Debug)]
pub struct HttpPlane {
    thread: DataThread,
    native: native::Carrier,
    pingora: pingora::Carrier,
}

impl HttpPlane {
    /// Made once per data thread, inside its runtime: the pools' connections belong to that
    /// runtime.
    #[must_use]
    pub fn new(
        thread: DataThread,
        settings: Settings,
        metrics: &Metrics,
        access_log: Option<AccessLog>,
    ) -> Arc<Self> {
        Arc::new(Self {
            native: native::Carrier::new(thread.clone(), settings, metrics, access_log.clone()),
            pingora: pingora::Carrier::new(thread.clone(), settings, metrics, access_log),
            thread,
        })
    }

    /// Runs one accepted connection to its end. Ends at once when there is no HTTP listener at
    /// `socket`, and soon after the process began to close.
    pub async fn serve(&self, stream: TcpStream, peer: SocketAddr, socket: SocketKey) {
        let Some(listener) = account::listener(&self.thread, socket) else { return };
        let at = (peer, socket);
        match listener.listener.carrier {
            Carrier::Native => self.native.serve(stream, at, listener).await,
            // Boxed: its state is large, and most connections never have it.
            Carrier::Pingora => {
                let connection = (stream, BytesMut::new());
                Box::pin(self.pingora.serve(connection, at, listener)).await;
            }
        }
    }

    /// Closes idle connections to targets that `routing` does not send to any more, and cuts what
    /// is left of exchanges with those whose deregistration delay is over (ALB: 502): called by the
    /// data thread before it acknowledges that generation.
    pub fn forget(&self, routing: &Routing) {
        self.native.forget(routing);
        self.pingora.forget(routing);
    }

    /// Closes connections to targets that rested for too long; runs as long as the data thread.
    pub async fn upkeep(&self) {
        self.native.upkeep().await;
    }

    /// Idle connections to targets, and pingora's busy ones.
    #[cfg(test)]
    pub(super) fn pooled(&self) -> usize {
        self.native.pooled() + self.pingora.pooled()
    }
}
