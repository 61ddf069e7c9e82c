//! One exchange: decided, sent, sent again where that is right, answered, reported.
//!
//! Every question is asked of the pure decisions. **Invariant:** a decision is made on a fresh
//! snapshot with nothing awaited between it and its guard, which lives until the last byte moved.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::super::account;
use super::super::additions::Additions;
use super::super::desync::Verdict;
use super::super::errors::Cause;
use super::super::head::{self, Head};
use super::super::headers;
use super::super::limits::{CONNECT_TIMEOUT, TARGET_HANDSHAKE};
use super::super::own::Own;
use super::super::retry::{self, Attempt, Failure};
use super::Carrier;
use super::back::Back;
use super::body::Body;
use super::client::{Client, Front};
use super::h2;
use super::links::Seat;
use super::relay::{Answered, Relay};
use super::report::Exchange;
use super::request::{self, Request, Way};
use super::response::Asked;
use crate::balance::{Endpoint, Group, InFlight};
use crate::clock::{self, Instant};
use crate::model::{Generation, Protocol};
use crate::routing::{Outcome, Trial, decide};
use crate::rules::{Spoken, Transformed};
use crate::tls::{self, Alpn, Stream};

/// What a client's connection is good for behind an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Another,
    /// It ends, behind what the client still sends.
    Close,
    /// The same, for all that came over it: its listener is gone.
    Leave,
    /// It ends at once: the client shall see that something is missing.
    Abort,
}

/// What a decision asks for.
enum Choice {
    Forward(Arc<Group>, InFlight),
    Answer(Own),
    Refuse(Cause),
}

/// How one attempt ended.
enum Attempted {
    Done(After),
    Failed(Failure, Cause, bool),
}

impl Carrier {
    /// Runs the exchange whose head lies in the client's window.
    ///
    /// # Errors
    /// It is no request.
    pub(super) async fn exchange(
        &self,
        client: &mut Client,
        mut head: Head,
    ) -> Result<After, Cause> {
        client.exchanges += 1;
        client.up.begin();
        let bytes = &client.up.window.all()[..head.length];
        let found = account::screen(bytes, (&self.thread, client.socket));
        client.classified = found.map(|(classified, _)| classified);
        let verdict = found.map_or(Verdict::Pass, |(_, verdict)| verdict);
        head.ambiguous |= verdict == Verdict::PassAndClose;
        let mut rng = fastrand::Rng::new();
        let trace_id = |sent: Option<&str>| headers::trace_id(sent, clock::now(), &mut rng);
        let bytes = client.up.window.all();
        let out = &mut client.up.lead;
        let way = Way {
            origin: &client.origin,
            rules: client.listener.load_balancer.options.requests,
            transformed: &Transformed::default(),
        };
        let (mut request, trace_id) = request::translate(bytes, head, way, trace_id, out)?;
        if verdict == Verdict::Refuse {
            request.refused = Some(Cause::Desync);
        }
        Ok(self.run(client, request, trace_id).await)
    }

    /// Runs an exchange whose head is written to the client's lane.
    pub(super) async fn run(&self, client: &mut Client, request: Request, id: String) -> After {
        let created = self.access_log.as_ref().map(|_| clock::now()).unwrap_or_default();
        let listener = Arc::clone(&client.listener);
        let mut exchange = Exchange::new(listener, request, id, created);
        let head = &exchange.request.head;
        let body = match head.body {
            head::Body::Length(length) => Body::Length(length),
            // HTTP/2 frames it by itself.
            head::Body::Chunked if exchange.request.is_http_2 => Body::UntilEnd,
            head::Body::Chunked => Body::chunked(),
        };
        client.up.frame(body, head.body == head::Body::Chunked);
        let after = match client.up.look().and_then(|()| client.up.stage()) {
            Ok(_) => self.serve_exchange(client, &mut exchange).await,
            Err(_) => self.refuse(client, &mut exchange, Cause::Malformed).await,
        };
        exchange.report(client, self.thread.index, self.access_log.as_ref());
        // A listener that is gone still has to answer what has arrived.
        client.listener = exchange.listener;
        match exchange.cause {
            Some(Cause::NoListener) if after == After::Close => After::Leave,
            _ => after,
        }
    }

    async fn serve_exchange(&self, client: &mut Client, exchange: &mut Exchange) -> After {
        if let Some(cause) = exchange.request.refused {
            return self.refuse(client, exchange, cause).await;
        }
        let mut choice = self.choose(client, exchange);
        client.timer.set(clock::instant() + exchange.listener.idle_timeout);
        if exchange.request.expects && matches!(choice, Choice::Forward(..)) {
            // Waiting for the client's socket: what was decided before is void.
            drop(choice);
            client.down.begin();
            client.stage_continue();
            if client.flush().await.is_err() {
                exchange.cause = Some(Cause::ShortBody);
                return After::Abort;
            }
            choice = self.choose(client, exchange);
        }
        loop {
            let (group, guard) = match choice {
                Choice::Forward(group, guard) => (group, guard),
                Choice::Answer(own) => {
                    exchange.cause = None;
                    return self.answer(client, exchange, &own, true).await;
                }
                Choice::Refuse(cause) => {
                    // Nobody else to try: what went wrong first is the answer.
                    let cause = exchange.cause.unwrap_or(cause);
                    return self.refuse(client, exchange, cause).await;
                }
            };
            let bare = group.version.is_http_2();
            if (exchange.transformed != exchange.written || exchange.bare != bare)
                && !self.again(client, exchange, bare)
            {
                return self.refuse(client, exchange, Cause::Internal).await;
            }
            let (failure, cause, kept) = match self.attempt(client, exchange, &group, &guard).await
            {
                Attempted::Done(after) => return after,
                Attempted::Failed(failure, cause, kept) => (failure, cause, kept),
            };
            exchange.cause = Some(cause);
            exchange.attempts += 1;
            let id = guard.endpoint().id;
            drop(guard);
            if exchange.status.is_none() && client.down.is_torn() {
                // Half of an interim response is on the wire.
                return After::Abort;
            }
            let verdict = retry::after(&Attempt {
                failure,
                method: exchange.request.method(client.head()),
                body_kept: kept,
                response_begun: exchange.status.is_some(),
                made: exchange.attempts,
            });
            let bare = exchange.bare;
            if verdict == retry::Verdict::GiveUp || !self.again(client, exchange, bare) {
                return self.give_up(client, exchange, cause).await;
            }
            if verdict == retry::Verdict::Elsewhere {
                exchange.tried.push(id);
            }
            choice = self.choose(client, exchange);
            if let Choice::Forward(group, _) = &choice {
                group.metrics.retries.add(self.thread.index, 1);
            }
        }
    }

    /// Rule, group, target and guard, on the newest snapshot.
    fn choose(&self, client: &Client, exchange: &mut Exchange) -> Choice {
        let routing = self.thread.reader.load();
        let found = routing.listeners.get(&client.socket);
        let Some(listener) = found.filter(|found| found.protocol.is_http()) else {
            return Choice::Refuse(Cause::NoListener);
        };
        let facts = exchange.request.facts(client.head(), client.peer.ip());
        let mut rng = fastrand::Rng::new();
        let thread = self.thread.index;
        let (now, exclude) = (clock::now(), exchange.tried.as_slice());
        let mut trial = Trial { thread, rng: &mut rng, now, exclude };
        let decision = decide(listener, &facts, &mut trial);
        let own = match &decision.outcome {
            Outcome::Fixed(fixed) => Some(Ok(Own::Fixed(Arc::clone(fixed)))),
            Outcome::Redirect(redirect) => {
                let port = client.socket.address.port();
                let scheme = if client.session.is_some() { "https" } else { "http" };
                Some(Own::redirect(redirect, &facts, (scheme, port)))
            }
            _ => None,
        };
        exchange.transformed = decision.transformed.unwrap_or_default();
        exchange.bonds = decision.bonds;
        exchange.priority = Some(decision.priority);
        exchange.listener = Arc::clone(listener);
        exchange.generation = routing.generation;
        match decision.outcome {
            Outcome::Forward { group, guard } => {
                exchange.action = Some("forward");
                exchange.target = Some(guard.endpoint().address);
                exchange.group = Some(Arc::clone(&group));
                Choice::Forward(group, guard)
            }
            Outcome::Fixed(_) | Outcome::Redirect(_) => self.own(exchange, own),
            Outcome::NoTarget { group } => {
                exchange.action = Some("forward");
                exchange.group = Some(group);
                Choice::Refuse(Cause::NoTarget)
            }
            Outcome::Misfit { group } => {
                exchange.action = Some("forward");
                exchange.group = Some(group);
                Choice::Refuse(Cause::Misfit)
            }
            Outcome::Unfit { group } => {
                exchange.action = Some("forward");
                exchange.group = Some(group);
                Choice::Refuse(Cause::Transform)
            }
        }
    }

    /// A response of our own that the rule asks for.
    fn own(&self, exchange: &mut Exchange, own: Option<Result<Own, Cause>>) -> Choice {
        exchange.action = Some("fixed-response");
        match own {
            Some(Ok(own)) => {
                if let Some(location) = own.location() {
                    exchange.action = Some("redirect");
                    exchange.redirect_url = Some(location.to_owned());
                }
                Choice::Answer(own)
            }
            Some(Err(cause)) => {
                exchange.action = Some("redirect");
                Choice::Refuse(cause)
            }
            None => Choice::Refuse(Cause::Internal),
        }
    }

    /// Sends the request to the chosen target and what it answers to the client.
    async fn attempt(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
        group: &Group,
        guard: &InFlight,
    ) -> Attempted {
        let (thread, endpoint) = (self.thread.index, guard.endpoint());
        let mut back = match self.reach(client, exchange, group, endpoint).await {
            Ok(back) => back,
            Err((failure, cause)) => {
                let count = !matches!(cause, Cause::ClientGone | Cause::Internal);
                group.metrics.connection_errors.add(thread, u64::from(count));
                return Attempted::Failed(failure, cause, true);
            }
        };
        endpoint.requests.add(thread, 1);
        group.metrics.requests.add(thread, 1);
        let (now, idle_timeout) = (clock::instant(), exchange.listener.idle_timeout);
        exchange.sent_at = Some(now);
        (exchange.answered_at, exchange.reset) = (None, None);
        client.timer.set(now + idle_timeout);
        let asked = Asked {
            is_http_1_0: exchange.request.is_http_1_0,
            is_head: exchange.request.is_head,
            upgrades: exchange.request.upgrades,
            keep_alive: exchange.request.keep_alive && !is_last(client, exchange, now),
        };
        client.down.begin();
        client.down.window.clear(&self.buffers);
        let around = (&self.buffers, &self.closing);
        let listener = Arc::clone(&exchange.listener);
        let added = Additions::new(&listener, group, &exchange.bonds);
        let how = (asked, &added, idle_timeout);
        let mut relay = Relay::new(client, &mut back, around, how, now);
        let ended = relay.run().await;
        let (answered, kept) = (relay.answered.take(), relay.body_kept);
        if let Some(answered) = &answered {
            note_answer(exchange, answered, (group, thread));
        }
        match (ended, answered) {
            (Ok(()), Some(answered)) => {
                Attempted::Done(self.finish(client, exchange, (back, guard), &answered))
            }
            (ended, _) => {
                let cause = ended.err().unwrap_or(Cause::Internal);
                let (failure, cause) = back.failure(cause);
                exchange.reset = back.reset();
                Attempted::Failed(failure, cause, kept)
            }
        }
    }

    /// What carries the exchange to its target: a connection, or a stream of one that has begun
    /// with the request's head.
    async fn reach(
        &self,
        client: &mut Client,
        exchange: &Exchange,
        group: &Group,
        endpoint: &Endpoint,
    ) -> Result<Back, (Failure, Cause)> {
        let is_secure = group.protocol == Protocol::Https;
        // A retry never takes a pooled connection: it may be as dead as the first was.
        let pooled = (exchange.attempts == 0 && !group.version.is_http_2())
            .then(|| self.pool.take(endpoint.id));
        if let Some(held) = pooled.flatten() {
            return Ok(Back::Connection(held));
        }
        let reaching = async {
            if group.version.is_http_2() {
                // Boxed: its state is large, and most connections never have it.
                return Box::pin(self.links.seat(endpoint, is_secure)).await.map(Reached::Seat);
            }
            connect(endpoint.address, is_secure).await.map(Reached::Connection)
        };
        let reached = tokio::select! {
            biased;
            reached = reaching => reached?,
            () = poll_fn(|cx| client.poll_gone(cx)) => {
                return Err((Failure::Other, Cause::ClientGone));
            }
        };
        // It left the State meanwhile: nobody would cut what is sent to it now.
        if !self.thread.reader.load().endpoints.contains_key(&endpoint.id) {
            return Err((Failure::Connect, Cause::Connect));
        }
        let seat = match reached {
            Reached::Connection(stream) => {
                return Ok(Back::Connection(self.pool.hold(stream, endpoint.id)));
            }
            Reached::Seat(seat) => seat,
        };
        let request = &exchange.request;
        let is_call = request.spoken == Spoken::Grpc;
        let mut head = Vec::with_capacity(client.head().len());
        let way = Way {
            origin: &client.origin,
            rules: exchange.listener.load_balancer.options.requests,
            transformed: &exchange.written,
        };
        h2::rewrite(client.head(), way, &mut head);
        let how = (is_secure, request.trailers || is_call, is_call);
        let begun = seat.begin(head, &client.up, how);
        begun.map(|own| Back::Stream(Box::new(own))).map_err(|cause| (Failure::Other, cause))
    }

    /// The whole response is with the client.
    fn finish(
        &self,
        client: &mut Client,
        exchange: &Exchange,
        (back, guard): (Back, &InFlight),
        answered: &Answered,
    ) -> After {
        let response = &answered.response;
        let is_whole = client.up.body.is_done() && client.up.is_over();
        let reusable = response.reusable
            && is_whole
            && !exchange.request.head.ambiguous
            && !client.down.window.has_fresh();
        if let Back::Connection(held) = back
            && reusable
            && self.is_sent_to(guard, exchange.generation)
        {
            self.pool.give_back(held, answered.at);
        }
        client.down.window.clear(&self.buffers);
        let again = response.keep_alive && is_whole && response.status != 101;
        if again { After::Another } else { After::Close }
    }

    /// Whether the newest snapshot may pick the target that one of this generation has picked.
    fn is_sent_to(&self, guard: &InFlight, generation: Generation) -> bool {
        let (routing, endpoint) = (self.thread.reader.load(), guard.endpoint());
        if routing.generation == generation {
            return !endpoint.is_ejected();
        }
        account::is_sent_to(&routing, endpoint.id)
    }

    /// Makes the client's side ready for another attempt; `bare`: to a target that speaks HTTP/2.
    /// Whether it can be.
    fn again(&self, client: &mut Client, exchange: &mut Exchange, bare: bool) -> bool {
        client.down.begin();
        client.down.window.clear(&self.buffers);
        client.up.rewind();
        exchange.written.clone_from(&exchange.transformed);
        exchange.bare = bare;
        client.up.chunk(!bare && exchange.request.head.body == head::Body::Chunked);
        if bare {
            return client.up.stage().is_ok();
        }
        let Client { front, up, origin, .. } = client;
        let way = Way {
            origin,
            rules: exchange.listener.load_balancer.options.requests,
            transformed: &exchange.written,
        };
        let is_written = match front {
            Front::Stream(stream) => {
                h2::rewrite(stream.head(), way, &mut up.lead);
                true
            }
            Front::Connection(_) => {
                let trace_id = |_: Option<&str>| exchange.trace_id.clone();
                let (bytes, head) = (up.window.all(), exchange.request.head);
                request::translate(bytes, head, way, trace_id, &mut up.lead).is_ok()
            }
        };
        is_written && up.stage().is_ok()
    }

    async fn give_up(&self, client: &mut Client, exchange: &mut Exchange, cause: Cause) -> After {
        if exchange.status == Some(101) {
            return After::Close;
        }
        let is_gone = matches!(cause, Cause::ClientGone | Cause::ShortBody);
        if exchange.status.is_none() && cause != Cause::ClientGone {
            return self.refuse(client, exchange, cause).await;
        }
        // A response that ends early must not look like one that ends. A call has a word for it.
        let has_words = exchange.request.spoken == Spoken::Grpc && exchange.reset.is_none();
        let Front::Stream(stream) = &mut client.front else { return After::Abort };
        if let Some(reason) = exchange.reset {
            stream.reason = reason;
        }
        if is_gone || !has_words {
            return After::Abort;
        }
        client.timer.set(clock::instant() + exchange.listener.idle_timeout);
        if client.flush().await.is_err() {
            return After::Abort;
        }
        let Front::Stream(stream) = &mut client.front else { return After::Abort };
        if stream.end_call(cause).is_err() { After::Abort } else { After::Close }
    }
    /// Answers with a page of our own.
    async fn refuse(&self, client: &mut Client, exchange: &mut Exchange, cause: Cause) -> After {
        exchange.cause = Some(cause);
        let own = Own::error(cause, exchange.request.spoken);
        self.answer(client, exchange, &own, cause.keeps_connection()).await
    }

    async fn answer(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
        own: &Own,
        keep_alive: bool,
    ) -> After {
        let now = clock::instant();
        let keep_alive = keep_alive
            && exchange.request.keep_alive
            && client.up.body.is_done()
            && !is_last(client, exchange, now)
            && !self.closing.is_cancelled();
        exchange.own = true;
        exchange.status = Some(own.status());
        client.down.begin();
        client.down.window.clear(&self.buffers);
        let added = Additions::own(&exchange.listener);
        client.stage_own(own, &added, (exchange.request.is_head, keep_alive));
        client.timer.set(now + exchange.listener.idle_timeout);
        match client.flush().await {
            Ok(()) if keep_alive => After::Another,
            Ok(()) => After::Close,
            Err(error) => {
                tracing::debug!(%error, "an answer was not read");
                After::Abort
            }
        }
    }
}

/// What was found of a target.
enum Reached {
    Connection(Stream),
    Seat(Seat),
}

async fn connect(target: SocketAddr, is_secure: bool) -> Result<Stream, (Failure, Cause)> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => {
            // Only latency is lost when it cannot be set.
            let _ = stream.set_nodelay(true);
            match is_secure {
                true => shake(stream, target, Alpn::Http1).await,
                false => Ok(Stream::Plain(stream)),
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(%target, %error, "target not reached");
            Err((Failure::Connect, Cause::Connect))
        }
        Err(_) => Err((Failure::ConnectTimeout, Cause::ConnectTimeout)),
    }
}

/// Nothing was sent yet: another target may be tried.
pub(super) async fn shake(
    stream: TcpStream,
    target: SocketAddr,
    alpn: Alpn,
) -> Result<Stream, (Failure, Cause)> {
    // Boxed: most connections to targets never have it.
    let shaking = Box::pin(tls::connect(stream, target.ip(), alpn));
    match tokio::time::timeout(TARGET_HANDSHAKE, shaking).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            tracing::debug!(%target, %error, "no handshake with a target");
            Err((Failure::Connect, Cause::TargetTls))
        }
        Err(_) => Err((Failure::ConnectTimeout, Cause::TargetTls)),
    }
}

/// Whether the client's connection ends with this exchange, for a reason that is known beforehand.
fn is_last(client: &Client, exchange: &Exchange, now: Instant) -> bool {
    let age = now.saturating_duration_since(client.opened);
    exchange.request.head.ambiguous || age >= exchange.listener.client_keep_alive
}

/// A final response's head has come: what went wrong with a target before this one is over.
fn note_answer(exchange: &mut Exchange, answered: &Answered, (group, thread): (&Group, usize)) {
    let status = answered.response.status;
    exchange.cause = None;
    exchange.status = Some(status);
    exchange.target_status = Some(status);
    exchange.answered_at = Some(answered.at);
    let metrics = &group.metrics;
    metrics.responses[usize::from(status / 100).clamp(1, 5) - 1].add(thread, 1);
    if let Some(sent) = exchange.sent_at {
        metrics.response_seconds.observe(thread, answered.at.saturating_duration_since(sent));
    }
}
