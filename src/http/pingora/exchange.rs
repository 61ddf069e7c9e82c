//! What is remembered of one exchange, and what is counted and logged at its end.
//!
//! **Invariant:** each exchange is reported once, and its endpoint's guard is dropped with it at
//! the latest.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_proxy::Session;

use super::super::account::{
    count_check, count_response, is_sent_to, note_target, secured, transforms,
};
use super::super::desync::{Classified, Verdict};
use super::super::errors::Cause;
use super::super::own::Own;
use super::super::retry::Failure;
use super::Plane;
use super::choose::{host, spoken};
use super::client::Connection;
use super::idle::{Borrowed, Fd};
use crate::auth::Refreshed;
use crate::balance::{Group, InFlight};
use crate::clock::{self, Instant, Timestamp};
use crate::logs::{Kind, Record, RequestLine};
use crate::model::RegistrationId;
use crate::routing::{Bonds, RoutedListener};
use crate::rules::{Spoken, Transformed};

/// Pingora's context of one exchange.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) connection: Option<Arc<Connection>>,
    /// What desync mitigation says of a stream of HTTP/2; of HTTP/1 the connection knows.
    pub(super) screened: Option<(Classified, Verdict)>,
    /// As of the last decision.
    pub(super) listener: Option<Arc<RoutedListener>>,
    pub(super) begun: Option<Instant>,
    pub(super) created: Timestamp,
    pub(super) priority: Option<u32>,
    /// The session that was waited for.
    pub(super) refreshed: Option<Refreshed>,
    pub(super) check: Option<&'static str>,
    pub(super) action: Option<&'static str>,
    pub(super) chosen: Option<Chosen>,
    /// Who was chosen last, for the log.
    pub(super) group: Option<Arc<Group>>,
    pub(super) target: Option<SocketAddr>,
    /// What the client is to be bound by.
    pub(super) bonds: Bonds,
    /// What the target gets in place of what was sent.
    pub(super) transformed: Transformed,
    /// Where the client was sent to.
    pub(super) redirect_url: Option<String>,
    /// What a retry decides without.
    pub(super) tried: Vec<RegistrationId>,
    /// It failed and may be tried again.
    pub(super) again: bool,
    pub(super) attempts: u32,
    /// When the current attempt began.
    pub(super) tried_at: Option<Instant>,
    pub(super) sent_at: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    pub(super) target_status: Option<u16>,
    /// Of a response of ours, as it is counted.
    pub(super) status: Option<u16>,
    pub(super) trace_id: String,
    /// What the target gets.
    pub(super) forwarded_for: Vec<u8>,
    pub(super) cause: Option<Cause>,
    /// A retry met a rule that answers here.
    pub(super) answer: Option<Own>,
    /// The response is ours.
    pub(super) own: bool,
    pub(super) upgraded: bool,
    reported: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.finish_exchange();
        }
    }
}

/// The target that an exchange is on.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) group: Arc<Group>,
    pub(super) guard: InFlight,
    pub(super) borrowed: Option<Borrowed>,
    pub(super) made: Option<Arc<Fd>>,
}

impl Exchange {
    /// Neither connection is used again.
    pub(super) fn is_suspect(&self, connection: &Connection) -> bool {
        let is_worse = |(_, verdict)| verdict != Verdict::Pass;
        connection.is_ambiguous() || self.screened.is_some_and(is_worse)
    }

    /// Tells the target's group what came of the attempt, unless its answer is here already or it
    /// was cut because its registration is gone.
    pub(super) fn note(&self, plane: &Plane, came: Result<u16, (Failure, Cause)>) {
        let Some(chosen) = &self.chosen else { return };
        let begun = self.tried_at.filter(|_| chosen.group.is_watched());
        let endpoint = chosen.guard.endpoint();
        let is_there = || plane.thread.reader.load().endpoints.contains_key(&endpoint.id);
        if came.is_ok() || (self.target_status.is_none() && is_there()) {
            note_target(&chosen.group, endpoint, (came, begun), plane.thread.index);
        }
    }

    /// Lets go of the target: its connection rests (or ends, when the target is sent to no more or
    /// it was a retry's), its guard drops.
    pub(super) fn release(&mut self, plane: &Plane) {
        let Some(chosen) = self.chosen.take() else { return };
        if let Some(borrowed) = chosen.borrowed {
            let id = chosen.guard.endpoint().id;
            let wanted = self.attempts == 0 && is_sent_to(&plane.thread.reader.load(), id);
            plane.pooled.give_back(borrowed, wanted);
        }
    }

    /// The final status that the client has seen or, when it has seen none, the one that says why.
    fn status(&self, session: &Session) -> u16 {
        if let Some(status) = self.status {
            return status;
        }
        let written = session.response_written().map(|response| response.status.as_u16());
        let written = written.filter(|status| *status >= 200 || *status == 101);
        written.unwrap_or_else(|| self.cause.unwrap_or(Cause::Internal).status())
    }

    /// Counts and logs the exchange, once.
    pub(super) fn report(&mut self, plane: &Plane, session: &Session) {
        let Some(connection) = self.connection.clone() else { return };
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let thread = plane.thread.index;
        let listener = Arc::clone(self.listener.as_ref().unwrap_or(&connection.listener));
        let (received, sent) = if session.is_http2() {
            // Streams share the connection's bytes: bodies are what can be told apart.
            (session.body_bytes_read() as u64, session.body_bytes_sent() as u64)
        } else {
            connection.take_bytes()
        };
        let status = self.status(session);
        count_response(&listener, thread, status, self.own || self.target_status.is_none());
        count_check(&listener, thread, self.check, self.cause);
        let metrics = &listener.metrics;
        metrics.grpc.add(thread, u64::from(spoken(session.req_header()) == Spoken::Grpc));
        metrics.received.add(thread, received);
        metrics.sent.add(thread, sent);
        if let Some(begun) = self.begun {
            metrics.request_seconds.observe(thread, begun.elapsed());
        }
        if plane.access_log.is_some() {
            self.log(plane, session, &connection, &listener, (status, received, sent));
        }
    }

    fn log(
        &self,
        plane: &Plane,
        session: &Session,
        connection: &Connection,
        listener: &RoutedListener,
        (status, received, sent): (u16, u64, u64),
    ) {
        let Some(log) = &plane.access_log else { return };
        let request = session.req_header();
        let text = |name: &str| {
            let value = request.headers.get(name).map(http::HeaderValue::as_bytes);
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        let user_agent = text("user-agent");
        let host = host(request);
        let host = if host.is_empty() { "-" } else { host };
        let path = request.uri.path_and_query().map_or("-", http::uri::PathAndQuery::as_str);
        let now = clock::instant();
        let since =
            |to: Option<Instant>, from: Option<Instant>| Some(to?.saturating_duration_since(from?));
        // A time is -1 from where the exchange did not get to.
        let answered = self.answered_at.filter(|_| self.sent_at.is_some());
        log.log(
            plane.thread.index,
            &Record {
                kind: match (session.is_http2(), self.upgraded) {
                    (true, _) => Kind::http2(spoken(request) == Spoken::Grpc),
                    (false, tunnel) => Kind::http1(connection.session.is_some(), tunnel),
                },
                time: clock::now(),
                elb: &listener.elb,
                client: connection.peer,
                target: self.target,
                request_time: since(self.sent_at, self.begun),
                target_time: since(answered, self.sent_at),
                response_time: since(answered.map(|_| now), answered),
                status,
                target_status: self.target_status,
                received,
                sent,
                request: Some(RequestLine {
                    method: request.method.as_str(),
                    host,
                    path,
                    version: version(request.version),
                }),
                listener: connection.socket.address,
                tls: connection.session.as_deref().map(secured),
                user_agent: Some(&user_agent),
                target_group_arn: self.group.as_ref().map(|group| group.arn.as_str()),
                trace_id: Some(&self.trace_id),
                priority: self.priority,
                created: self.created,
                check: self.check,
                action: self.action,
                redirect_url: self.redirect_url.as_deref(),
                error_reason: self.cause.map(Cause::reason),
                classification: self
                    .screened
                    .map(|(classified, _)| classified)
                    .or_else(|| connection.classified())
                    .map(|found| (found.class.as_str(), found.reason)),
                transforms: transforms(&self.transformed, self.cause),
                connection_trace_id: &connection.trace_id,
            },
        );
    }
}

const fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
