//! What becomes of a request, on the newest snapshot.
//!
//! **Invariant:** nothing is awaited between a decision and its guard.

use std::future::poll_fn;
use std::sync::Arc;

use super::super::choice::{self, Choice, Instead, Wanted};
use super::super::errors::Cause;
use super::super::headers;
use super::super::pending::{MOST, Pending, Waited};
use super::super::wait::Wait;
use super::Carrier;
use super::client::Client;
use super::reach::until;
use super::report::Exchange;
use crate::clock::{self, Timestamp};
use crate::routing::{Trial, decide};

impl Carrier {
    /// Rule, group, target and guard; waits where that is right. A retry never waits: what went
    /// wrong is the answer.
    pub(super) async fn settle(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
        now: Timestamp,
    ) -> Choice {
        match self.choose(client, exchange, (false, now)) {
            Ok(choice) => choice,
            // Boxed: its state is large, and most exchanges never have it.
            Err(wanted) => Box::pin(self.wait(client, exchange, wanted)).await,
        }
    }

    async fn wait(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
        mut wanted: Wanted,
    ) -> Choice {
        let (mut wait, mut asked) = (None, 0);
        loop {
            match wanted {
                Wanted::Client(pending) if asked == MOST => {
                    return Err(Instead::Refuse(pending.refusal()));
                }
                Wanted::Client(pending) => {
                    asked += 1;
                    if let Some(instead) = Box::pin(self.ask(client, exchange, pending)).await {
                        return Err(instead);
                    }
                }
                Wanted::Target(..) if exchange.attempts > 0 => {
                    return Err(Instead::Refuse(Cause::NoTarget));
                }
                Wanted::Target(group, want) => {
                    let place = Wait::on(wait.take(), (group, want), &self.thread);
                    let mut place = place.map_err(Instead::Refuse)?;
                    let ready = tokio::select! {
                        biased;
                        ready = place.ready(&self.thread) => ready,
                        () = poll_fn(|cx| client.poll_left(cx)) => Err(Cause::ClientGone),
                        () = until(exchange.deadline) => Err(Cause::RuleTimeout),
                    };
                    ready.map_err(Instead::Refuse)?;
                    wait = Some(place);
                }
            }
            wanted = match self.choose(client, exchange, (wait.is_some(), clock::now())) {
                Ok(choice) => return choice,
                Err(wanted) => wanted,
            };
        }
    }

    /// Waits for what others have to say of a client; what is done instead, where that is all.
    async fn ask(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
        pending: Pending,
    ) -> Option<Instead> {
        let listener = Arc::clone(&exchange.listener);
        let waiting = pending.wait(&self.fetcher, (&listener, self.thread.index));
        let waited = tokio::select! {
            biased;
            waited = waiting => waited,
            () = poll_fn(|cx| client.poll_gone(cx)) => {
                return Some(Instead::Refuse(Cause::ClientGone));
            }
        };
        match waited {
            Waited::Again => None,
            Waited::Refreshed(refreshed) => {
                exchange.refreshed = Some(refreshed);
                None
            }
            Waited::Done(instead) => Some(instead),
        }
    }

    fn choose(
        &self,
        client: &Client,
        exchange: &mut Exchange,
        (has_waited, now): (bool, Timestamp),
    ) -> Result<Choice, Wanted> {
        let routing = self.thread.reader.load();
        let found = routing.listeners.get(&client.socket);
        let Some(listener) = found.filter(|found| found.protocol.is_http()) else {
            return Ok(Err(Instead::Refuse(Cause::NoListener)));
        };
        let facts = exchange.request.facts(client.head(), client.peer.ip());
        let mut trial = Trial {
            thread: self.thread.index,
            rng: &mut fastrand::Rng::new(),
            now,
            exclude: exchange.tried.as_slice(),
            is_first: exchange.priority.is_none(),
            has_waited,
            refreshed: exchange.refreshed.as_ref(),
        };
        let decision = decide(listener, &facts, &mut trial);
        let scheme = headers::scheme(client.session.is_some());
        let at = (scheme, client.socket.address.port());
        let (told, choice) = choice::read(decision.outcome, &facts, at);
        exchange.transformed = decision.transformed.unwrap_or_default();
        exchange.bonds = decision.bonds;
        exchange.priority = Some(decision.priority);
        exchange.check = decision.check;
        if let (None, Some(timeout)) = (exchange.deadline, decision.timeout) {
            exchange.deadline = Some(clock::instant() + timeout);
        }
        exchange.mirror = decision.mirror.or_else(|| exchange.mirror.take());
        exchange.listener = Arc::clone(listener);
        exchange.generation = routing.generation;
        exchange.action = told.action;
        exchange.redirect_url = told.redirect_url;
        exchange.group = told.group.or_else(|| exchange.group.take());
        exchange.target = told.target.or(exchange.target);
        choice
    }
}
