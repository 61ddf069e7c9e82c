//! What both carriers count and log alike, and whom a snapshot sends to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::errors::Cause;
use crate::clock;
use crate::logs::{AccessLog, Kind, Record, Secured};
use crate::model::RegistrationId;
use crate::routing::{DataThread, RoutedListener, Routing, SocketKey};
use crate::tls::Session;

/// The HTTP listener at `socket` in the newest snapshot.
pub(super) fn listener(thread: &DataThread, socket: SocketKey) -> Option<Arc<RoutedListener>> {
    let routing = thread.reader.load();
    routing.listeners.get(&socket).filter(|found| found.protocol.is_http()).cloned()
}

/// Whether the snapshot may pick this registration.
pub(super) fn is_sent_to(routing: &Routing, id: RegistrationId) -> bool {
    let Some(endpoint) = routing.endpoints.get(&id).filter(|endpoint| !endpoint.is_ejected())
    else {
        return false;
    };
    let group = routing.groups.get(&endpoint.group);
    // In the order of their ids.
    group.is_some_and(|group| group.endpoints.binary_search_by_key(&id, |e| e.id).is_ok())
}

/// Counts one response of `listener`.
pub(super) fn count_response(listener: &RoutedListener, thread: usize, status: u16, own: bool) {
    let class = usize::from(status / 100).clamp(1, 5) - 1;
    listener.metrics.requests[class].add(thread, 1);
    if own {
        listener.metrics.own.of(status).add(thread, 1);
    }
}

/// A connection's TLS as its access log's line shows it.
pub(super) fn secured(session: &Session) -> Secured<'_> {
    Secured {
        cipher: session.cipher,
        protocol: session.protocol,
        server_name: session.server_name.as_deref(),
        certificate: &session.certificate,
    }
}

/// Something that never became an exchange, and the connection it came over.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoExchange<'a> {
    pub(super) cause: Cause,
    pub(super) kind: Kind,
    pub(super) listener: &'a RoutedListener,
    pub(super) peer: SocketAddr,
    pub(super) socket: SocketKey,
    pub(super) session: Option<&'a Session>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) connection_trace_id: &'a str,
}

impl NoExchange<'_> {
    /// Counts and logs it.
    pub(super) fn report(&self, thread: usize, log: Option<&AccessLog>) {
        let status = self.cause.status();
        count_response(self.listener, thread, status, true);
        self.listener.metrics.received.add(thread, self.received);
        self.listener.metrics.sent.add(thread, self.sent);
        let Some(log) = log else { return };
        let now = clock::now();
        let record = Record {
            kind: self.kind,
            time: now,
            elb: &self.listener.elb,
            client: self.peer,
            target: None,
            request_time: None,
            target_time: None,
            response_time: None,
            status,
            target_status: None,
            received: self.received,
            sent: self.sent,
            request: None,
            listener: self.socket.address,
            tls: self.session.map(secured),
            user_agent: None,
            target_group_arn: None,
            trace_id: None,
            priority: None,
            created: now,
            action: None,
            error_reason: Some(self.cause.reason()),
            connection_trace_id: self.connection_trace_id,
        };
        log.log(thread, &record);
    }
}
