//! The HTTP plane of one data thread: which carrier a connection gets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::limits::PARTING;
use super::{account, native, pingora};
use crate::auth::Fetcher;
use crate::logs::AccessLog;
use crate::metrics::Metrics;
use crate::model::Carrier;
use crate::routing::{DataThread, RoutedTls, Routing, SocketKey};
use crate::tls::{Failure, Handshakes, Stream};

/// What the process sets for all data threads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Idle connections to targets that each carrier keeps, over all threads. The least recently
    /// used one makes room.
    pub idle_connections: usize,
    /// Calls identity providers.
    pub fetcher: Fetcher,
}

impl Default for Settings {
    /// Ours: 1,000 targets, ALB's quota, with one or two connections each.
    fn default() -> Self {
        Self { idle_connections: 2048, fetcher: Fetcher::default() }
    }
}

/// The HTTP plane of one data thread.
#[derive(Debug)]
pub struct HttpPlane {
    thread: DataThread,
    handshakes: Handshakes,
    native: native::Carrier,
    pingora: pingora::Carrier,
}

impl HttpPlane {
    /// Made once per data thread, inside its runtime: the pools' connections belong to that
    /// runtime.
    #[must_use]
    pub fn new(
        thread: DataThread,
        settings: &Settings,
        metrics: &Metrics,
        access_log: Option<AccessLog>,
    ) -> Arc<Self> {
        Arc::new(Self {
            native: native::Carrier::new(thread.clone(), settings, metrics, access_log.clone()),
            pingora: pingora::Carrier::new(thread.clone(), settings, metrics, access_log),
            thread,
            handshakes: Handshakes::default(),
        })
    }

    /// Runs one accepted connection to its end. Ends at once when there is no HTTP listener at
    /// `socket`, and soon after the process began to close.
    pub async fn serve(&self, stream: TcpStream, peer: SocketAddr, socket: SocketKey) {
        let Some(listener) = account::listener(&self.thread, socket) else { return };
        let at = (peer, socket);
        let stream = match &listener.tls {
            None => Stream::Plain(stream),
            Some(tls) => match self.shake(stream, tls).await {
                Ok(stream) => stream,
                Err(failure) => {
                    tracing::debug!(%peer, %socket, %failure, "no handshake");
                    tls.metrics.failed(failure).add(self.thread.index, 1);
                    return;
                }
            },
        };
        match listener.listener.carrier {
            Carrier::Native => self.native.serve(stream, at, listener).await,
            // Boxed: its state is large, and most connections never have it.
            Carrier::Pingora => {
                let connection = (stream, BytesMut::new());
                let session = connection.0.session().cloned();
                let serving = self.pingora.serve(connection, at, Arc::clone(&listener));
                if let Some(left) = Box::pin(serving).await {
                    Box::pin(self.native.serve_h2(left, session, at, listener)).await;
                }
            }
        }
    }

    /// Shakes hands with a client; one that is not done soon after the process began to close is
    /// given up.
    async fn shake(&self, stream: TcpStream, tls: &RoutedTls) -> Result<Stream, Failure> {
        let parting = async {
            self.thread.closing.cancelled().await;
            sleep(PARTING).await;
        };
        let shaken = tokio::select! {
            biased;
            shaken = self.handshakes.accept(stream, &tls.server) => shaken?,
            () = parting => return Err(Failure::Timeout),
        };
        let resumed = shaken.session().is_some_and(|session| session.resumed);
        tls.metrics.handshakes[usize::from(resumed)].add(self.thread.index, 1);
        Ok(shaken)
    }

    /// Closes idle connections to targets that `routing` does not send to any more, and cuts what
    /// is left of exchanges with those whose deregistration delay is over (ALB: 502): called by the
    /// data thread before it acknowledges that generation.
    pub fn forget(&self, routing: &Routing) {
        self.native.forget(routing);
        self.pingora.forget(routing);
    }

    /// Has every WebSocket end by a Close frame, within [`PARTED`]. Whether there is any.
    pub fn part(&self) -> bool {
        self.native.part()
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
