//! What is remembered of one exchange, and what is counted and logged at its end.
//!
//! **Invariant:** each exchange is reported once, whatever ends it.

use std::net::SocketAddr;
use std::sync::Arc;

use h2::Reason;

use super::super::account::{count_check, count_response, secured, transforms};
use super::super::errors::Cause;
use super::client::Client;
use super::mirror::Copied;
use super::request::Request;
use crate::auth::Refreshed;
use crate::balance::Group;
use crate::clock::{self, Instant, Timestamp};
use crate::logs::{AccessLog, Kind, Record, RequestLine};
use crate::model::{Generation, Mirror, RegistrationId};
use crate::routing::{Bonds, RoutedListener};
use crate::rules::{Spoken, Transformed};

#[derive(Debug)]
pub(super) struct Exchange {
    /// As of the last decision.
    pub(super) listener: Arc<RoutedListener>,
    /// Of the snapshot of that decision.
    pub(super) generation: Generation,
    pub(super) request: Request,
    pub(super) trace_id: String,
    /// When its head was read; the first decision's now.
    pub(super) created: Timestamp,
    pub(super) priority: Option<u32>,
    /// The session that was waited for.
    pub(super) refreshed: Option<Refreshed>,
    pub(super) check: Option<&'static str>,
    pub(super) action: Option<&'static str>,
    /// Who was chosen last, for the log.
    pub(super) group: Option<Arc<Group>>,
    pub(super) target: Option<SocketAddr>,
    /// What the client is to be bound by.
    pub(super) bonds: Bonds,
    /// What the target is to get in place of what was sent, and what its head was written with.
    pub(super) transformed: Transformed,
    pub(super) written: Transformed,
    /// Where the client was sent to.
    pub(super) redirect_url: Option<String>,
    /// What a retry decides without.
    pub(super) tried: Vec<RegistrationId>,
    pub(super) attempts: u32,
    /// The rule's, for the response's head.
    pub(super) deadline: Option<Instant>,
    /// Whom a copy is for, until it begins.
    pub(super) mirror: Option<Mirror>,
    pub(super) copied: Option<Box<Copied>>,
    pub(super) sent_at: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    pub(super) target_status: Option<u16>,
    pub(super) cause: Option<Cause>,
    /// The target's HTTP/2 reset it; so does the client's.
    pub(super) reset: Option<Reason>,
    /// The request is staged as HTTP/2 has it: without head and chunks.
    pub(super) bare: bool,
    /// What the client has been told.
    pub(super) status: Option<u16>,
    /// The response is ours.
    pub(super) own: bool,
}

impl Exchange {
    pub(super) fn new(
        listener: Arc<RoutedListener>,
        request: Request,
        trace_id: String,
        created: Timestamp,
    ) -> Self {
        Self {
            listener,
            generation: Generation::default(),
            request,
            trace_id,
            created,
            priority: None,
            refreshed: None,
            check: None,
            action: None,
            group: None,
            target: None,
            bonds: Bonds::default(),
            transformed: Transformed::default(),
            written: Transformed::default(),
            redirect_url: None,
            tried: Vec::new(),
            attempts: 0,
            deadline: None,
            mirror: None,
            copied: None,
            sent_at: None,
            answered_at: None,
            target_status: None,
            cause: None,
            reset: None,
            bare: false,
            status: None,
            own: false,
        }
    }

    /// Counts the exchange, and logs it where there is a log.
    pub(super) fn report(&self, client: &mut Client, thread: usize, log: Option<&AccessLog>) {
        let (received, sent) = client.take_bytes();
        let status = match self.status {
            // HTTP/2 has no 101: RFC 8441, section 5.
            Some(101) if self.request.is_http_2 => 200,
            Some(status) => status,
            None => self.cause.unwrap_or(Cause::Internal).status(),
        };
        let own = self.own || self.target_status.is_none();
        count_response(&self.listener, thread, status, own);
        count_check(&self.listener, thread, self.check, self.cause);
        let metrics = &self.listener.metrics;
        metrics.grpc.add(thread, u64::from(self.request.spoken == Spoken::Grpc));
        metrics.received.add(thread, received);
        metrics.sent.add(thread, sent);
        let now = clock::instant();
        metrics.request_seconds.observe(thread, now.saturating_duration_since(client.begun));
        if let Some(log) = log {
            self.log(client, (thread, log), now, (status, received, sent));
        }
        client.begun = now;
    }

    fn log(
        &self,
        client: &Client,
        (thread, log): (usize, &AccessLog),
        now: Instant,
        (status, received, sent): (u16, u64, u64),
    ) {
        let (bytes, session) = (client.head(), client.session.as_deref());
        let request = &self.request;
        let user_agent = request.user_agent(bytes).map(String::from_utf8_lossy);
        let host = request.host(bytes);
        let since =
            |to: Option<Instant>, from: Option<Instant>| Some(to?.saturating_duration_since(from?));
        // A time is -1 from where the exchange did not get to.
        let answered = self.answered_at.filter(|_| self.sent_at.is_some());
        let record = Record {
            kind: match request.is_http_2 {
                true => Kind::http2(request.spoken == Spoken::Grpc),
                false => Kind::http1(session.is_some(), self.status == Some(101)),
            },
            time: clock::now(),
            elb: &self.listener.elb,
            client: client.peer,
            target: self.target,
            request_time: since(self.sent_at, Some(client.begun)),
            target_time: since(answered, self.sent_at),
            response_time: since(answered.map(|_| now), answered),
            status,
            target_status: self.target_status,
            received,
            sent,
            request: Some(RequestLine {
                method: request.method(bytes),
                host: if host.is_empty() { "-" } else { host },
                path: request.target(bytes),
                version: request.version(),
            }),
            listener: client.socket.address,
            tls: session.map(|session| secured(session)),
            user_agent: user_agent.as_deref(),
            target_group_arn: self.group.as_ref().map(|group| group.arn.as_str()),
            trace_id: Some(&self.trace_id),
            priority: self.priority,
            created: self.created,
            check: self.check,
            action: self.action,
            redirect_url: self.redirect_url.as_deref(),
            error_reason: self.cause.map(Cause::reason),
            classification: client.classified.map(|found| (found.class.as_str(), found.reason)),
            transforms: transforms(&self.transformed, self.cause),
            connection_trace_id: client.origin.trace_id.as_str(),
        };
        log.log(thread, &record);
    }
}
