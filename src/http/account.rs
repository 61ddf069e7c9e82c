//! What both carriers count and log alike, and whom a snapshot sends to.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery};

use super::desync::{self, Classified, Sent, Verdict};
use super::errors::Cause;
use super::retry::Failure;
use crate::auth::LoginFailure;
use crate::balance::{Came, Endpoint, Group};
use crate::clock::{self, Instant};
use crate::logs::{AccessLog, Kind, Record, Secured, Transforms};
use crate::model::RegistrationId;
use crate::routing::{DataThread, RoutedListener, Routing, SocketKey};
use crate::rules::Transformed;
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

/// What the log says of transforms. AWS: `TransformSuccess`, or what went wrong.
pub(super) fn transforms(transformed: &Transformed, cause: Option<Cause>) -> Transforms<'_> {
    let (host, target) = (transformed.host.as_deref(), transformed.target.as_deref());
    let status = match cause {
        Some(Cause::Transform) => Some("TransformInvalidHttpString"),
        _ => host.or(target).map(|_| "TransformSuccess"),
    };
    Transforms { host, target, status }
}

/// Tells the group what a target answered, or that it did not, since the attempt began, which is
/// known where it is watched.
pub(super) fn note_target(
    group: &Group,
    endpoint: &Endpoint,
    (came, begun): (Result<u16, (Failure, Cause)>, Option<Instant>),
    thread: usize,
) {
    let came = match came {
        Ok(500..) => Came::ServerError,
        Ok(_) => Came::Good,
        // A connection that rested may end at any time.
        Err((Failure::PooledClosed | Failure::Unprocessed, _)) => return,
        Err((_, cause)) if cause.is_targets() => Came::Failure,
        Err(_) => return,
    };
    endpoint.failures.add(thread, u64::from(came != Came::Good));
    let Some(begun) = begun else { return };
    let took = clock::instant().saturating_duration_since(begun);
    group.note(endpoint, (came, took), thread);
}

/// Counts one response of `listener`.
pub(super) fn count_response(listener: &RoutedListener, thread: usize, status: u16, own: bool) {
    let class = usize::from(status / 100).clamp(1, 5) - 1;
    listener.metrics.requests[class].add(thread, 1);
    if own {
        listener.metrics.own.of(status).add(thread, 1);
    }
}

/// Counts what a token came to, where one had to be brought, and logins that failed.
pub(super) fn count_check(
    listener: &RoutedListener,
    thread: usize,
    check: Option<&'static str>,
    cause: Option<Cause>,
) {
    let metrics = &listener.metrics;
    match (check, cause) {
        (Some("jwt-validation"), cause) => {
            let refused = matches!(cause, Some(Cause::Token(_)));
            metrics.tokens[usize::from(refused)].add(thread, 1);
        }
        (_, Some(Cause::Login(LoginFailure::Denied))) => {}
        (_, Some(Cause::Login(failure))) if failure.status() == 500 => {
            metrics.logins.error.add(thread, 1);
            let is_oversized = failure == LoginFailure::TooLarge;
            metrics.logins.oversized.add(thread, u64::from(is_oversized));
        }
        (_, Some(Cause::Login(_))) => metrics.logins.failure.add(thread, 1),
        _ => {}
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

/// Classifies a head, counts what is worse than compliant, and says what is to be done with it.
pub(super) fn screen(head: &[u8], at: (&DataThread, SocketKey)) -> Option<(Classified, Verdict)> {
    desync::classify(head).map(|found| judge(found, at))
}

/// The same of a head that came as HTTP/2's fields.
pub(super) fn screen_fields(
    sent: &Sent<'_>,
    at: (&DataThread, SocketKey),
) -> Option<(Classified, Verdict)> {
    desync::classify_fields(sent).map(|found| judge(found, at))
}

/// The same of a head whose fields are in a map.
pub(super) fn screen_parts(
    parts: &Parts,
    ends: bool,
    at: (&DataThread, SocketKey),
) -> Option<(Classified, Verdict)> {
    let headers = parts.headers.iter();
    let fields = headers
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() });
    let fields: Vec<_> = fields.collect();
    let sent = Sent {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        authority: parts.uri.authority().map(Authority::as_str),
        fields: &fields,
        ends,
    };
    screen_fields(&sent, at)
}

fn judge(found: Classified, (thread, socket): (&DataThread, SocketKey)) -> (Classified, Verdict) {
    let routing = thread.reader.load();
    let listener = routing.listeners.get(&socket);
    let mode = listener.map(|listener| listener.load_balancer.options.desync_mitigation_mode);
    if let Some(listener) = listener {
        listener.metrics.non_compliant[found.class as usize].add(thread.index, 1);
    }
    (found, desync::verdict(mode.unwrap_or_default(), found.class))
}

/// The same for what `head` has refused for this cause, as far as it has come; it is refused all
/// the same. What was too long or too slow is not looked at.
pub(super) fn screen_refused(
    bytes: &[u8],
    cause: Cause,
    at: (&DataThread, SocketKey),
) -> Option<Classified> {
    let unread = [Cause::Slow, Cause::Header, Cause::Headers, Cause::RequestLine];
    if unread.contains(&cause) {
        return None;
    }
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    screen(&bytes[..end], at).map(|(classified, _)| classified)
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
    pub(super) classified: Option<Classified>,
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
            kind: match self.kind {
                Kind::Http => Kind::http1(self.session.is_some(), false),
                other => other,
            },
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
            check: None,
            action: None,
            redirect_url: None,
            transforms: Transforms::default(),
            error_reason: Some(self.cause.reason()),
            classification: self.classified.map(|found| (found.class.as_str(), found.reason)),
            connection_trace_id: self.connection_trace_id,
        };
        log.log(thread, &record);
    }
}
