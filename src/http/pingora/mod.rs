//! The pingora carrier: HTTP/1.0, HTTP/1.1 and cleartext HTTP/2 by prior knowledge, to HTTP/1.1
//! targets. HTTP/2 that may have to reach HTTP/2 targets is the native carrier's.
//!
//! We accept, read every HTTP/1 head ourselves (so that its deadline and limits are ours) and hand
//! pingora one exchange at a time; pingora frames, streams and pools. Its hooks ([`hooks`]) only
//! call pure decisions. Where its defaults are none or infinite, the constants below stand instead.
//!
//! Known limits of pingora 0.9.1, left to another carrier: HTTP/1 trailers are dropped, a tunnel
//! ends when either half does, and `Transfer-Encoding: identity` is answered 400. **Invariant:**
//! nothing of pingora is visible outside this folder.

mod cause;
mod choose;
mod client;
mod exchange;
mod fields;
mod hooks;
mod idle;
mod secure;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Settings;
use super::account::{self, NoExchange};
use super::additions::Additions;
use super::desync::Verdict;
use super::errors::Cause;
use super::head::HEADERS;
use super::limits::LINGER;
use super::native::write_own;
use super::own::Own;
use super::retry;
use crate::auth::Fetcher;
use crate::logs::{AccessLog, Kind};
use crate::metrics::Metrics;
use crate::routing::{DataThread, RoutedListener, Routing, SocketKey};
use crate::tls::Stream;
use client::{ClientStream, Connection, Next};
use hooks::Hooks;
use idle::Pooled;

/// ALB: streams on one HTTP/2 connection.
const H2_STREAMS: u32 = 128;
/// ALB: requests on one HTTP/2 connection; GOAWAY then.
const H2_REQUESTS: u64 = 10_000;
/// ALB's default idle timeout. Pingora has one per process for HTTP/2, not one per listener.
const H2_IDLE: Duration = crate::model::IDLE_TIMEOUT;

/// What the carrier's parts share on one data thread.
#[derive(Debug)]
struct Plane {
    thread: DataThread,
    access_log: Option<AccessLog>,
    pooled: Arc<Pooled>,
    fetcher: Fetcher,
}

impl Plane {
    /// The HTTP listener at `socket` in the newest snapshot.
    fn listener(&self, socket: SocketKey) -> Option<Arc<RoutedListener>> {
        account::listener(&self.thread, socket)
    }

    fn closing(&self) -> bool {
        self.thread.closing.is_cancelled()
    }
}

/// The carrier of one data thread.
pub(super) struct Carrier {
    plane: Arc<Plane>,
    proxy: Arc<HttpProxy<Hooks>>,
    /// Never true: closing is told per connection, and by `Connection: close`.
    open: watch::Receiver<bool>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl Carrier {
    /// Made once per data thread, inside its runtime: the pool's connections belong to that
    /// runtime.
    pub(super) fn new(
        thread: DataThread,
        settings: &Settings,
        metrics: &Metrics,
        access_log: Option<AccessLog>,
    ) -> Self {
        let fetcher = settings.fetcher.clone();
        let plane = Arc::new(Plane { thread, access_log, pooled: Arc::default(), fetcher });
        let configuration = ServerConf {
            threads: 1,
            work_stealing: false,
            upstream_keepalive_pool_size: (settings.idle_connections / metrics.threads()).max(1),
            upstream_connect_offload_threadpools: None,
            max_retries: retry::ATTEMPTS as usize,
            ..ServerConf::default()
        };
        let hooks = Hooks::new(Arc::clone(&plane));
        let mut proxy = pingora_proxy::http_proxy(&Arc::new(configuration), hooks);
        let mut options = HttpServerOptions::default();
        // Only connections that began with HTTP/2's preface get to where this is looked at.
        options.h2c = true;
        options.h2_idle_timeout = Some(H2_IDLE);
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(H2_STREAMS);
        h2.max_header_list_size(u32::try_from(HEADERS).unwrap_or(u32::MAX));
        proxy.h2_options = Some(h2);
        let (_, open) = watch::channel(false);
        Self { plane, proxy: Arc::new(proxy), open }
    }

    /// Runs one accepted connection, of which `read` was read already, to its end; soon after the
    /// process began to close, at the latest. One that speaks HTTP/2 comes back where a rule
    /// forwards to targets that do so too.
    pub(super) async fn serve(
        &self,
        (stream, read): (Stream, BytesMut),
        (peer, socket): (SocketAddr, SocketKey),
        mut listener: Arc<RoutedListener>,
    ) -> Option<(Stream, BytesMut)> {
        let session = stream.session().cloned();
        let connection = Connection::new(peer, socket, Arc::clone(&listener), session);
        let connection = Arc::new(connection);
        let mut stream = Box::new(ClientStream::new((stream, read), Arc::clone(&connection)));
        loop {
            match stream.next(&self.plane.thread.closing, listener.idle_timeout).await {
                Next::Request(head) => {
                    let found = account::screen(&head, (&self.plane.thread, socket));
                    connection.classify(found.map(|(classified, _)| classified));
                    match found.map(|(_, verdict)| verdict) {
                        Some(Verdict::Refuse) => {
                            self.refuse(stream, &connection, Cause::Desync).await;
                            return None;
                        }
                        Some(Verdict::PassAndClose) => connection.is_suspect(),
                        Some(Verdict::Pass) | None => {}
                    }
                    stream = self.exchange(stream, head, &connection).await?;
                }
                Next::H2 if listener.reaches_http_2() => return Some(stream.into_parts()),
                Next::H2 => {
                    self.serve_h2(stream, &connection).await;
                    return None;
                }
                Next::Refused(cause) => {
                    let at = (&self.plane.thread, socket);
                    connection.classify(account::screen_refused(stream.ahead(), cause, at));
                    self.refuse(stream, &connection, cause).await;
                    return None;
                }
                Next::End => return None,
            }
            // A listener that is gone still has to answer what has arrived.
            if let Some(current) = self.plane.listener(socket) {
                listener = current;
            }
        }
    }

    /// One HTTP/1 exchange; the stream comes back when another may follow.
    async fn exchange(
        &self,
        stream: Box<ClientStream>,
        head: BytesMut,
        connection: &Connection,
    ) -> Option<Box<ClientStream>> {
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(head);
        let begun = connection.exchanges();
        let reused = self.proxy.process_new_http(session, &self.open).await;
        if connection.exchanges() == begun {
            // Pingora refused what our scan let pass, and has answered 400.
            self.report(connection, Cause::Malformed);
        }
        let (stream, _) = reused?.consume();
        stream.into_any().downcast().ok()
    }

    /// HTTP/2 until the client or we have had enough.
    async fn serve_h2(&self, mut stream: Box<ClientStream>, connection: &Arc<Connection>) {
        let (goaway, told) = watch::channel(false);
        stream.unbounded();
        connection.is_h2(goaway);
        let served = self.proxy.process_new(stream, &told);
        let mut served = std::pin::pin!(served);
        let listener = &connection.listener;
        tokio::select! {
            _ = &mut served => return,
            // Pingora puts no time limit on a stream's body.
            () = connection.silent_for(listener.idle_timeout) => return,
            () = tokio::time::sleep(listener.client_keep_alive) => connection.goaway(),
            () = self.plane.thread.closing.cancelled() => connection.goaway(),
        }
        // GOAWAY waits for the client to agree, which not every client does.
        let parting = async {
            while tokio::time::timeout(LINGER, &mut served).await.is_err() {
                if connection.is_idle() {
                    return;
                }
            }
        };
        tokio::select! {
            () = parting => {}
            () = connection.silent_for(listener.idle_timeout) => {}
        }
    }

    /// Answers what never became a request.
    async fn refuse(&self, mut stream: Box<ClientStream>, connection: &Connection, cause: Cause) {
        stream.unbounded();
        let mut answer = Vec::new();
        let added = Additions::own(&connection.listener);
        write_own(&Own::Page(cause), &added, (false, false), &mut answer);
        let answered = async {
            stream.write_all(&answer).await?;
            stream.shutdown().await
        };
        if let Err(error) = answered.await {
            tracing::debug!(peer = %connection.peer, %error, "a refusal was not read");
        }
        self.report(connection, cause);
    }

    /// Counts and logs what never became an exchange.
    fn report(&self, connection: &Connection, cause: Cause) {
        let (received, sent) = connection.take_bytes();
        let refused = NoExchange {
            cause,
            kind: Kind::Http,
            classified: connection.classified(),
            listener: &connection.listener,
            peer: connection.peer,
            socket: connection.socket,
            session: connection.session.as_deref(),
            received,
            sent,
            connection_trace_id: &connection.trace_id,
        };
        refused.report(self.plane.thread.index, self.plane.access_log.as_ref());
    }

    /// Closes idle connections to targets that `routing` does not send to any more, and cuts what
    /// is left of exchanges with those whose deregistration delay is over (ALB: 502).
    pub(super) fn forget(&self, routing: &Routing) {
        self.plane.pooled.forget(routing);
    }

    #[cfg(test)]
    pub(super) fn pooled(&self) -> usize {
        self.plane.pooled.len()
    }
}
