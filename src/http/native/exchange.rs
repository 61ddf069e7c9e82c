//! One exchange: decided, sent, sent again where that is right, answered, reported.
//!
//! Every question is asked of the pure decisions. **Invariant:** a decision is made on a fresh
//! snapshot with nothing awaited between it and its guard, which lives until the last byte moved.

use std::sync::Arc;

use super::super::account;
use super::super::additions::Additions;
use super::super::choice::Instead;
use super::super::coding::negotiate;
use super::super::desync::Verdict;
use super::super::errors::Cause;
use super::super::head::{self, Head};
use super::super::headers;
use super::super::own::Own;
use super::super::retry::{self, Attempt, Failure};
use super::Carrier;
use super::back::Back;
use super::body::Body;
use super::client::{Client, Front};
use super::h2;
use super::relay::{Answered, Relay};
use super::report::Exchange;
use super::request::{self, Request, Way};
use super::response::Asked;
use crate::balance::{Group, InFlight};
use crate::clock::{self, Instant, Timestamp};
use crate::model::{Coding, Generation};
use crate::rules::{Spoken, Transformed};

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

/// How one attempt ended.
enum Attempted {
    Done(After),
    Failed(Failure, Cause, bool),
}

impl Carrier {
    /// Reads the head that lies in the client's window, and writes what its target gets.
    ///
    /// # Errors
    /// It is no request.
    pub(super) fn read(&self, client: &mut Client, mut head: Head) -> Result<Box<Exchange>, Cause> {
        client.exchanges += 1;
        client.up.begin();
        let bytes = &client.up.window.all()[..head.length];
        let found = account::screen(bytes, (&self.thread, client.socket));
        client.classified = found.map(|(classified, _)| classified);
        let verdict = found.map_or(Verdict::Pass, |(_, verdict)| verdict);
        head.ambiguous |= verdict == Verdict::PassAndClose;
        let (mut rng, now) = (fastrand::Rng::new(), clock::now());
        let trace_id = |sent: Option<&str>| headers::trace_id(sent, now, &mut rng);
        let bytes = client.up.window.all();
        let out = &mut client.up.lead;
        let way = Way {
            origin: &client.origin,
            rules: client.listener.load_balancer.options.requests,
            transformed: &Transformed::default(),
        };
        let (mut request, trace_id) = request::translate(bytes, head, way, trace_id, out)?;
        request.refused = verdict.refuses().or(request.refused);
        Ok(Self::begin(client, request, (trace_id, now)))
    }

    /// Begins an exchange whose head is written to the client's lane.
    pub(super) fn begin(
        client: &mut Client,
        request: Request,
        (id, created): (String, Timestamp),
    ) -> Box<Exchange> {
        let listener = Arc::clone(&client.listener);
        let mut exchange = Box::new(Exchange::new(listener, request, id, created));
        let head = &exchange.request.head;
        let body = match head.body {
            head::Body::Length(length) => Body::Length(length),
            // HTTP/2 frames it by itself.
            head::Body::Chunked if exchange.request.is_http_2 => Body::UntilEnd,
            head::Body::Chunked => Body::chunked(),
        };
        client.up.frame(body, head.body == head::Body::Chunked);
        if client.up.look().and_then(|()| client.up.stage()).is_err() {
            exchange.request.refused = Some(Cause::Malformed);
        }
        exchange
    }

    /// Reports an exchange that has run.
    pub(super) fn end(
        &self,
        client: &mut Client,
        mut exchange: Box<Exchange>,
        after: After,
    ) -> After {
        if let Some(copied) = exchange.copied.take() {
            self.mirrors.send(client, *copied);
        }
        exchange.report(client, self.thread.index, self.access_log.as_ref());
        // A listener that is gone still has to answer what has arrived.
        std::mem::swap(&mut client.listener, &mut exchange.listener);
        match exchange.cause {
            Some(Cause::NoListener) if after == After::Close => After::Leave,
            _ => after,
        }
    }

    /// Runs an exchange that has begun. Its caller ends it: every level of such calls is one more
    /// copy of what they have to remember.
    pub(super) async fn run(&self, client: &mut Client, exchange: &mut Exchange) -> After {
        if let Some(cause) = exchange.request.refused {
            return self.refuse(client, exchange, cause).await;
        }
        let mut choice = self.settle(client, exchange, exchange.created).await;
        if exchange.request.expects && choice.is_ok() {
            // Waiting for the client's socket: what was decided before is void.
            drop(choice);
            client.timer.set(clock::instant() + exchange.listener.idle_timeout);
            client.down.begin();
            client.stage_continue();
            if client.flush().await.is_err() {
                exchange.cause = Some(Cause::ShortBody);
                return After::Abort;
            }
            choice = self.settle(client, exchange, clock::now()).await;
        }
        loop {
            let (group, guard) = match choice {
                Ok(chosen) => chosen,
                Err(Instead::Answer(own)) => {
                    exchange.cause = None;
                    return self.answer(client, exchange, &own, true).await;
                }
                Err(Instead::Refuse(cause)) => {
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
            if exchange.mirror.is_some() {
                exchange.copied = self.mirrors.begin(client, exchange);
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
            if exchange.status.is_none() && client.is_torn() {
                // Half of an interim response is on the wire.
                return After::Abort;
            }
            let verdict = verdict(client, exchange, failure, kept);
            let bare = exchange.bare;
            if verdict == retry::Verdict::GiveUp
                || !group.may_retry(self.thread.index, clock::now())
                || !self.again(client, exchange, bare)
            {
                return self.give_up(client, exchange, cause).await;
            }
            if verdict == retry::Verdict::Elsewhere {
                exchange.tried.push(id);
            }
            choice = self.settle(client, exchange, clock::now()).await;
            if let Ok((group, _)) = &choice {
                group.metrics.retries.add(self.thread.index, 1);
            }
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
        let begun = group.is_watched().then(clock::instant);
        let note = |came| account::note_target(group, endpoint, (came, begun), thread);
        let mut back = match self.reach(client, exchange, group, endpoint).await {
            Ok(back) => back,
            Err((failure, cause)) => {
                note(Err((failure, cause)));
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
        let asked = Asked {
            is_http_1_0: exchange.request.is_http_1_0,
            is_head: exchange.request.is_head,
            upgrades: exchange.request.upgrades,
            keep_alive: exchange.request.keep_alive && !is_last(client, exchange, now),
            coding: coding(client, exchange),
        };
        client.down.begin();
        client.down.window.clear(&self.buffers);
        let around = (&self.buffers, &self.closing);
        let listener = Arc::clone(&exchange.listener);
        let added =
            Additions::new(&listener, group, &exchange.bonds).keeping(exchange.refreshed.as_ref());
        let how = (asked, &added, (idle_timeout, exchange.deadline));
        let mut relay = Relay::new(client, &mut back, around, how, now);
        let ended = relay.run().await;
        let (answered, kept) = (relay.answered.take(), relay.body_kept);
        if let Some(answered) = &answered {
            note_answer(exchange, answered, (group, thread));
            note(Ok(answered.response.status));
            if let Some(coding) = answered.response.coding {
                listener.metrics.compressed[coding as usize].add(thread, 1);
            }
        }
        match (ended, answered) {
            (Ok(()), Some(answered)) => {
                Attempted::Done(self.finish(client, exchange, (back, guard), &answered))
            }
            (ended, _) => {
                let cause = ended.err().unwrap_or(Cause::Internal);
                let (failure, cause) = back.failure(cause);
                exchange.reset = back.reset();
                if exchange.status.is_none() && !back.is_cut() {
                    note(Err((failure, cause)));
                }
                Attempted::Failed(failure, cause, kept)
            }
        }
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
        let added = Additions::own(&exchange.listener).keeping(exchange.refreshed.as_ref());
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

/// What the client likes best of the codings that its listener has.
fn coding(client: &Client, exchange: &Exchange) -> Option<Coding> {
    let rules = exchange.listener.listener.options.responses.compression.as_ref()?;
    let facts = exchange.request.facts(client.head(), client.peer.ip());
    let mut sent = Vec::new();
    facts.headers.any("accept-encoding", |value| {
        sent.push(value);
        false
    });
    negotiate(sent.into_iter(), &rules.algorithms)
}

/// What follows a failed attempt.
fn verdict(client: &Client, exchange: &Exchange, failure: Failure, kept: bool) -> retry::Verdict {
    retry::after(&Attempt {
        failure,
        method: exchange.request.method(client.head()),
        body_kept: kept,
        response_begun: exchange.status.is_some(),
        made: exchange.attempts,
    })
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
