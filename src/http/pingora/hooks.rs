//! Pingora's hooks: each asks a pure decision and carries it out.
//!
//! **Invariant:** a decision is made on a fresh snapshot with nothing awaited between it and its
//! guard.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::super::additions::Additions;
use super::super::choice::Instead;
use super::super::errors::{self, Cause};
use super::super::limits::{CONNECT_TIMEOUT, LINGER, TARGET_HANDSHAKE, TARGET_IDLE};
use super::super::own::Own;
use super::super::retry::{self, Attempt, Failure, Verdict};
use super::super::{account, head, headers};
use super::cause::{LONG_RESPONSE, cause};
use super::choose::{settle, spoken};
use super::client::{ClientStream, Connection};
use super::exchange::Exchange;
use super::fields::{add, add_to_targets, tell};
use super::secure::Secure;
use super::{H2_REQUESTS, Plane};
use crate::balance::Group;
use crate::clock;
use crate::model::{ForwardedFor, Protocol, RequestRules};

/// The response is ours; what it is stands in the exchange.
const OWN: ErrorType = ErrorType::new("Own");
/// The target left the State while we connected to it.
const GONE: ErrorType = ErrorType::new("Gone");
/// In the pool's key of a retry's connection. Registrations are counted from 1.
const AGAIN: u64 = 1 << 63;

pub(super) struct Hooks {
    plane: Arc<Plane>,
}

impl Hooks {
    pub(super) const fn new(plane: Arc<Plane>) -> Self {
        Self { plane }
    }

    /// Answers with a page of our own.
    async fn refuse(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        cause: Cause,
    ) -> Result<()> {
        exchange.cause = Some(cause);
        if !cause.keeps_connection() {
            session.set_keepalive(None);
        }
        let own = Own::error(cause, spoken(session.req_header()));
        self.answer(session, exchange, &own).await
    }

    async fn answer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        own: &Own,
    ) -> Result<()> {
        exchange.own = true;
        let (status, content_type) = (own.sent_status(), own.content_type());
        exchange.status = Some(own.status());
        let body = Bytes::copy_from_slice(own.body().as_bytes());
        let mut response = ResponseHeader::build(status, Some(5))?;
        if response.status.canonical_reason().is_none() {
            response.set_reason_phrase(Some(errors::phrase(status)))?;
        }
        response.insert_header("Server", errors::SERVER)?;
        if let Some(listener) = &exchange.listener {
            let added = Additions::own(listener).keeping(exchange.refreshed.as_ref());
            add(&mut response, &added)?;
        }
        for (name, value) in own.fields() {
            response.append_header(name, value.as_ref())?;
        }
        let bodyless = own.is_bodyless();
        if let Some((code, message)) = own.grpc() {
            response.insert_header("Content-Type", content_type)?;
            response.insert_header("grpc-status", code.to_string())?;
            response.insert_header("grpc-message", message)?;
        }
        if !bodyless {
            response.insert_header("Content-Length", body.len().to_string())?;
            if !content_type.is_empty() {
                response.insert_header("Content-Type", content_type)?;
            }
        }
        if self.is_last(exchange) {
            session.set_keepalive(None);
        }
        let silent = bodyless || body.is_empty() || session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(response), silent).await?;
        if silent {
            session.downstream_session.finish_body().await
        } else {
            session.downstream_session.write_response_body(body, true).await
        }
    }

    /// Whether the client's connection ends with this exchange, for whatever reason of ours.
    fn is_last(&self, exchange: &Exchange) -> bool {
        let Some(connection) = &exchange.connection else { return true };
        let listener = exchange.listener.as_ref().unwrap_or(&connection.listener);
        self.plane.closing()
            || exchange.is_suspect(connection)
            || connection.opened.elapsed() >= listener.client_keep_alive
    }

    /// What follows a failed attempt; returns whether pingora shall ask for another target.
    fn failed(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        (failure, cause): (Failure, Cause),
    ) -> bool {
        exchange.note(&self.plane, Err((failure, cause)));
        exchange.cause = Some(cause);
        exchange.attempts += 1;
        let written = session.response_written().map(|response| response.status);
        let attempt = Attempt {
            failure,
            method: session.req_header().method.as_str(),
            body_kept: !session.as_ref().retry_buffer_truncated(),
            response_begun: written.is_some_and(|status| !is_interim(status)),
            made: exchange.attempts,
        };
        let verdict = retry::after(&attempt);
        let may_retry = |group: &Group| {
            verdict != Verdict::GiveUp && group.may_retry(self.plane.thread.index, clock::now())
        };
        let chosen = exchange.chosen.as_ref().filter(|chosen| may_retry(&chosen.group));
        let chosen = chosen.map(|chosen| chosen.guard.endpoint().id);
        exchange.release(&self.plane);
        let Some(id) = chosen else { return false };
        if verdict == Verdict::Elsewhere {
            exchange.tried.push(id);
        }
        exchange.again = true;
        true
    }

    /// A target was found for what another could not answer.
    fn count_retry(&self, exchange: &mut Exchange) {
        if std::mem::take(&mut exchange.again)
            && let Some(chosen) = &exchange.chosen
        {
            chosen.group.metrics.retries.add(self.plane.thread.index, 1);
        }
    }

    /// A connection for the chosen target. The key is its registration: an address that comes back
    /// inherits nothing.
    fn peer(&self, exchange: &mut Exchange, idle_timeout: Duration) -> Option<Box<HttpPeer>> {
        let chosen = exchange.chosen.as_mut()?;
        let endpoint = chosen.guard.endpoint();
        let mut peer = Box::new(HttpPeer::new(endpoint.address, false, String::new()));
        // A retry never takes a pooled connection: it may be as dead as the first was. So it asks
        // for one of a kind that never gets to the pool.
        peer.group_key = endpoint.id.0 | if exchange.attempts > 0 { AGAIN } else { 0 };
        let (made, tracer) = self.plane.pooled.tracer();
        chosen.made = Some(made);
        let options = &mut peer.options;
        let is_secure = chosen.group.protocol == Protocol::Https;
        if is_secure {
            let made = chosen.made.clone()?;
            let secure = Secure { target: endpoint.address, made };
            options.custom_l4 = Some(Arc::new(secure));
        }
        options.tracer = Some(tracer);
        options.connection_timeout = Some(CONNECT_TIMEOUT);
        let total = if is_secure { CONNECT_TIMEOUT + TARGET_HANDSHAKE } else { CONNECT_TIMEOUT };
        options.total_connection_timeout = Some(total);
        options.read_timeout = Some(idle_timeout);
        options.write_timeout = Some(idle_timeout);
        options.idle_timeout = Some(TARGET_IDLE);
        Some(peer)
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::default()
    }

    /// None: pingora's default is a compression module, switched off.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(connection) = connection(session) else { return Err(Error::new(OWN)) };
        let count = connection.count_exchange();
        let listener = self.plane.listener(connection.socket);
        let idle = listener.as_ref().unwrap_or(&connection.listener).idle_timeout;
        exchange.begun =
            Some(if session.is_http2() { clock::instant() } else { connection.begun() });
        if self.plane.access_log.is_some() {
            exchange.created = clock::now();
        }
        exchange.listener = listener;
        exchange.connection = Some(Arc::clone(&connection));
        if session.is_http2() {
            let (ends, at) = (session.is_body_done(), (&self.plane.thread, connection.socket));
            exchange.screened = account::screen_parts(session.req_header(), ends, at);
        }
        session.set_read_timeout(Some(idle));
        session.set_write_timeout(Some(idle));
        session.set_total_drain_timeout(Some(LINGER));
        if self.is_last(exchange) {
            session.set_keepalive(None);
            connection.goaway();
        } else if session.get_keepalive().is_some() {
            // What pingora set is "no timeout"; the next head is read by us, but it shall never
            // mean that.
            session.set_keepalive(Some(idle.as_secs().max(1)));
        }
        if count >= H2_REQUESTS {
            connection.goaway();
        }
        if session.req_header().version == Version::HTTP_10 {
            // RFC 9110, section 15.2: HTTP/1.0 knows no interim responses.
            session.set_ignore_info_resp(true);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let request = session.req_header();
        if request.method == Method::TRACE {
            self.refuse(session, exchange, Cause::Method).await?;
            return Ok(true);
        }
        if let Some(cause) = exchange.screened.and_then(|(_, verdict)| verdict.refuses()) {
            self.refuse(session, exchange, cause).await?;
            return Ok(true);
        }
        if request.raw_path().len() > head::REQUEST_LINE {
            self.refuse(session, exchange, Cause::RequestLine).await?;
            return Ok(true);
        }
        let Some(connection) = exchange.connection.clone() else { return Err(Error::new(OWN)) };
        let rules = rules(exchange, &connection);
        if rules.forwarded_for == ForwardedFor::Append {
            let sent = request.headers.get_all(headers::FORWARDED_FOR).iter();
            let sent = sent.map(http::HeaderValue::as_bytes);
            let client = match rules.client_port {
                false => headers::client_text(connection.peer.ip()),
                true => headers::client_with_port(connection.peer),
            };
            exchange.forwarded_for.clear();
            let value = &mut exchange.forwarded_for;
            if headers::write_forwarded_for(sent, &client, value).is_err() {
                self.refuse(session, exchange, Cause::ForwardedFor).await?;
                return Ok(true);
            }
        }
        let sent = request.headers.get(headers::TRACE_ID).and_then(|sent| sent.to_str().ok());
        exchange.trace_id = headers::trace_id(sent, clock::now(), &mut fastrand::Rng::new());
        let expects = request.version != Version::HTTP_10
            && request
                .headers
                .get(EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut choice = settle(&self.plane, session.req_header(), exchange).await;
        if expects && choice.is_ok() {
            // Waiting for the client's socket: what was decided before is void.
            exchange.release(&self.plane);
            session.downstream_session.write_continue_response().await?;
            choice = settle(&self.plane, session.req_header(), exchange).await;
        }
        match choice {
            Ok(()) => return Ok(false),
            Err(Instead::Answer(own)) => self.answer(session, exchange, &own).await?,
            Err(Instead::Refuse(cause)) => self.refuse(session, exchange, cause).await?,
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<Box<HttpPeer>> {
        if exchange.chosen.is_none() {
            match settle(&self.plane, session.req_header(), exchange).await {
                Ok(()) => self.count_retry(exchange),
                Err(Instead::Answer(own)) => exchange.answer = Some(own),
                // Nobody else to try: what went wrong first is the answer.
                Err(Instead::Refuse(cause)) => exchange.cause = exchange.cause.or(Some(cause)),
            }
        }
        let idle = exchange.listener.as_ref().map(|listener| listener.idle_timeout);
        let idle = idle.unwrap_or(crate::model::IDLE_TIMEOUT);
        exchange.tried_at = Some(clock::instant());
        self.peer(exchange, idle).ok_or_else(|| Error::new(OWN))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        mut e: BError,
    ) -> BError {
        if let Some(chosen) = &exchange.chosen {
            chosen.group.metrics.connection_errors.add(self.plane.thread.index, 1);
        }
        let what = match e.etype() {
            ErrorType::ConnectTimedout => (Failure::ConnectTimeout, Cause::ConnectTimeout),
            ErrorType::TLSHandshakeTimedout => (Failure::ConnectTimeout, Cause::TargetTls),
            ErrorType::TLSHandshakeFailure => (Failure::Connect, Cause::TargetTls),
            _ => (Failure::Connect, Cause::Connect),
        };
        let again = self.failed(session, exchange, what);
        e.set_retry(again);
        e
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        fd: std::os::fd::RawFd,
        _: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(chosen) = &mut exchange.chosen else { return Err(Error::new(OWN)) };
        let (thread, endpoint) = (self.plane.thread.index, chosen.guard.endpoint());
        // Nobody would cut what is sent to it now.
        if !self.plane.thread.reader.load().endpoints.contains_key(&endpoint.id) {
            return Err(Error::new(GONE));
        }
        let made = chosen.made.take().filter(|_| !reused);
        let borrowed = self.plane.pooled.borrow(fd, endpoint.id, made.as_deref());
        endpoint.requests.add(thread, 1);
        chosen.group.metrics.requests.add(thread, 1);
        chosen.borrowed = Some(borrowed);
        exchange.sent_at = Some(clock::instant());
        exchange.answered_at = None;
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(connection) = &exchange.connection else { return Err(Error::new(OWN)) };
        let port = connection.socket.address.port();
        if headers::target_authority(request.raw_path()).is_some() {
            // Targets get the origin form: RFC 9112, section 3.2.1.
            let path = request.uri.path_and_query().cloned();
            request.set_uri(path.map_or_else(|| http::Uri::from_static("/"), Into::into));
        }
        if let Some(target) = &exchange.transformed.target {
            request.set_uri(target.parse().map_err(|_| Error::new(OWN))?);
        }
        if let Some(host) = &exchange.transformed.host {
            request.insert_header(HOST, host.as_str())?;
        }
        let rules = rules(exchange, connection);
        let kept = rules.preserve_host && exchange.transformed.host.is_none();
        let sent = request.headers.get(HOST).and_then(|sent| sent.to_str().ok());
        if let Some(host) = sent.filter(|_| !kept).and_then(|sent| headers::host(sent, port)) {
            request.insert_header(HOST, host)?;
        }
        if rules.drop_invalid {
            let names =
                request.headers.keys().filter(|name| !headers::is_valid_name(name.as_str()));
            for name in names.cloned().collect::<Vec<_>>() {
                request.remove_header(&name);
            }
        }
        match rules.forwarded_for {
            ForwardedFor::Append => {
                let value = exchange.forwarded_for.as_slice();
                request.insert_header(headers::FORWARDED_FOR, value)?;
            }
            ForwardedFor::Preserve => {}
            ForwardedFor::Remove => _ = request.remove_header(headers::FORWARDED_FOR),
        }
        let scheme = headers::scheme(connection.session.is_some());
        request.insert_header(headers::FORWARDED_PROTO, scheme)?;
        request.insert_header(headers::FORWARDED_PORT, port.to_string())?;
        request.insert_header(headers::TRACE_ID, exchange.trace_id.as_str())?;
        if let Some(lines) = connection.session.as_ref().and_then(|s| s.mutual.as_deref()) {
            tell(request, headers::is_of_certificate, lines)?;
        }
        if let Some(lines) = exchange.transformed.identity.as_deref() {
            tell(request, headers::is_of_login, lines)?;
        }
        // Answered by us.
        request.remove_header(&EXPECT);
        let chosen = exchange.chosen.as_ref();
        let is_secure = chosen.is_some_and(|chosen| chosen.group.protocol == Protocol::Https);
        if exchange.is_suspect(connection) || is_secure {
            // Pingora has dropped Content-Length; the target's connection is not used again either.
            request.insert_header(CONNECTION, "close")?;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + ": \r\n".len()
        };
        if response.headers.iter().map(line).sum::<usize>() > head::RESPONSE_HEADERS {
            return Err(Error::new_up(LONG_RESPONSE));
        }
        if is_interim(response.status) {
            return Ok(());
        }
        let (now, thread) = (clock::instant(), self.plane.thread.index);
        let status = response.status.as_u16();
        exchange.target_status = Some(status);
        exchange.answered_at = Some(now);
        // What went wrong with a target before this one is over.
        exchange.cause = None;
        exchange.note(&self.plane, Ok(status));
        if let (Some(chosen), Some(sent)) = (&exchange.chosen, exchange.sent_at) {
            let metrics = &chosen.group.metrics;
            metrics.responses[usize::from(status / 100).clamp(1, 5) - 1].add(thread, 1);
            metrics.response_seconds.observe(thread, now.saturating_duration_since(sent));
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            exchange.upgraded = true;
            if let Some(connection) = exchange.connection.as_ref().filter(|_| !session.is_http2()) {
                connection.unbounded();
            }
            return add_to_targets(response, exchange);
        }
        let connections = response.headers.get_all(CONNECTION).iter();
        let nominated: Vec<String> = connections
            .filter_map(|value| value.to_str().ok())
            .flat_map(headers::nominated)
            .map(str::to_owned)
            .collect();
        let own = headers::HOP_BY_HOP.iter().copied();
        for name in own.chain(nominated.iter().map(String::as_str)) {
            response.remove_header(name);
        }
        add_to_targets(response, exchange)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        response.set_version(Version::HTTP_11);
        if response.status.is_informational() {
            return Ok(());
        }
        if self.is_last(exchange) {
            session.set_keepalive(None);
        }
        if session.req_header().version == Version::HTTP_10
            && response.headers.contains_key(TRANSFER_ENCODING)
        {
            // HTTP/1.0 knows no chunks: the body ends with the connection.
            response.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut e: BError,
        exchange: &mut Exchange,
        reused: bool,
    ) -> BError {
        let cause = cause(&e, session);
        let id = exchange.chosen.as_ref().map(|chosen| chosen.guard.endpoint().id);
        let routing = self.plane.thread.reader.load();
        let is_gone = id.is_some_and(|id| !routing.endpoints.contains_key(&id));
        drop(routing);
        let (failure, cause) = match cause {
            _ if *e.etype() == GONE => (Failure::Connect, Cause::Connect),
            // Its deregistration delay is over: ALB answers 502.
            Cause::TargetClosed if is_gone => (Failure::Other, cause),
            Cause::TargetClosed if reused => (Failure::PooledClosed, cause),
            Cause::TargetClosed => (Failure::Closed, cause),
            _ => (Failure::Other, cause),
        };
        let again = self.failed(session, exchange, (failure, cause));
        e.set_retry(again);
        e
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let cause = exchange.cause.unwrap_or_else(|| cause(e, session));
        exchange.cause = Some(cause);
        let begun = session.response_written().is_some_and(|response| !is_interim(response.status));
        if begun || cause == Cause::ClientGone {
            // A response that ends early must not look like one that ends.
            if let Some(stream) =
                session.stream().and_then(|s| s.as_any().downcast_ref::<ClientStream>())
            {
                stream.abort();
            }
        } else {
            session.set_keepalive(None);
            let answered = match exchange.answer.take() {
                Some(own) => {
                    exchange.cause = None;
                    self.answer(session, exchange, &own).await
                }
                None => self.refuse(session, exchange, cause).await,
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "an error response was not read");
            }
        }
        exchange.report(&self.plane, session);
        exchange.release(&self.plane);
        if !begun && !session.is_http2() {
            session.downstream_session.shutdown().await;
        }
        FailToProxy { error_code: cause.status(), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, exchange: &mut Exchange) {
        exchange.report(&self.plane, session);
        exchange.release(&self.plane);
    }

    /// The access log has it, with its reason.
    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Exchange,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The connection that a session came over.
pub(super) fn connection(session: &Session) -> Option<Arc<Connection>> {
    let digest = session.downstream_session.digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref::<Arc<Connection>>().cloned()
}

/// What becomes of the headers of this request.
fn rules(exchange: &Exchange, connection: &Connection) -> RequestRules {
    let listener = exchange.listener.as_ref().unwrap_or(&connection.listener);
    listener.load_balancer.options.requests
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
