//! What becomes of a request of pingora's, on the newest snapshot.
//!
//! **Invariant:** nothing is awaited between a decision and its guard.

use std::sync::Arc;

use http::Version;
use http::header::{CONTENT_TYPE, HOST};
use pingora_http::RequestHeader;

use super::super::choice::{self, Instead, Wanted};
use super::super::errors::Cause;
use super::super::headers;
use super::super::pending::{MOST, Waited};
use super::super::wait::Wait;
use super::Plane;
use super::client::Connection;
use super::exchange::{Chosen, Exchange};
use crate::clock;
use crate::routing::{Trial, decide};
use crate::rules::{Facts, Headers, Spoken};

/// Rule, group, target and guard, on the newest snapshot; waits where that is right. A retry never
/// waits: what went wrong is the answer.
pub(super) async fn settle(
    plane: &Plane,
    request: &RequestHeader,
    exchange: &mut Exchange,
) -> Result<(), Instead> {
    let (mut wait, mut asked) = (None, 0);
    loop {
        let (group, want) = match choose(plane, request, exchange, wait.is_some()) {
            Ok(choice) => return choice,
            Err(Wanted::Target(group, want)) => (group, want),
            Err(Wanted::Client(pending)) => {
                let Some(listener) = exchange.listener.as_ref().filter(|_| asked < MOST) else {
                    return Err(Instead::Refuse(pending.refusal()));
                };
                asked += 1;
                match pending.wait(&plane.fetcher, (listener, plane.thread.index)).await {
                    Waited::Again => {}
                    Waited::Refreshed(refreshed) => exchange.refreshed = Some(refreshed),
                    Waited::Done(instead) => return Err(instead),
                }
                continue;
            }
        };
        if exchange.attempts > 0 {
            return Err(Instead::Refuse(Cause::NoTarget));
        }
        let wanted = (group, want);
        let mut place = Wait::on(wait.take(), wanted, &plane.thread).map_err(Instead::Refuse)?;
        place.ready(&plane.thread).await.map_err(Instead::Refuse)?;
        wait = Some(place);
    }
}

fn choose(
    plane: &Plane,
    request: &RequestHeader,
    exchange: &mut Exchange,
    has_waited: bool,
) -> Result<Result<(), Instead>, Wanted> {
    let refuse = |cause| Ok(Err(Instead::Refuse(cause)));
    let Some(connection) = &exchange.connection else {
        return refuse(Cause::Internal);
    };
    let routing = plane.thread.reader.load();
    let found = routing.listeners.get(&connection.socket);
    let Some(listener) = found.filter(|found| found.protocol.is_http()) else {
        return refuse(Cause::NoListener);
    };
    let facts = facts(request, connection);
    let mut trial = Trial {
        thread: plane.thread.index,
        rng: &mut fastrand::Rng::new(),
        now: clock::now(),
        exclude: exchange.tried.as_slice(),
        is_first: exchange.priority.is_none(),
        has_waited,
        refreshed: exchange.refreshed.as_ref(),
    };
    let decision = decide(listener, &facts, &mut trial);
    exchange.priority = Some(decision.priority);
    exchange.check = decision.check;
    exchange.listener = Some(Arc::clone(listener));
    exchange.bonds = decision.bonds;
    exchange.transformed = decision.transformed.unwrap_or_default();
    let scheme = headers::scheme(connection.session.is_some());
    let at = (scheme, connection.socket.address.port());
    let (told, choice) = choice::read(decision.outcome, &facts, at);
    exchange.action = told.action;
    exchange.redirect_url = told.redirect_url;
    exchange.group = told.group.or_else(|| exchange.group.take());
    let (group, guard) = match choice? {
        Ok(chosen) => chosen,
        Err(instead) => return Ok(Err(instead)),
    };
    if group.version.is_http_2() {
        // It did not when the connection began: the next one gets another carrier.
        connection.goaway();
        exchange.action = None;
        return refuse(Cause::NoListener);
    }
    exchange.target = told.target;
    exchange.chosen = Some(Chosen { group, guard, borrowed: None, made: None });
    Ok(Ok(()))
}

fn facts<'a>(request: &'a RequestHeader, connection: &Connection) -> Facts<'a> {
    Facts {
        host: host(request),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        method: request.method.as_str(),
        source: Some(connection.peer.ip()),
        headers: Headers::Map(&request.headers),
        spoken: spoken(request),
    }
}

pub(super) fn spoken(request: &RequestHeader) -> Spoken {
    let kind = request.headers.get(CONTENT_TYPE);
    match request.version == Version::HTTP_2 {
        true if kind.is_some_and(|kind| headers::is_grpc(kind.as_bytes())) => Spoken::Grpc,
        true => Spoken::Http2,
        false => Spoken::Http1,
    }
}

/// The absolute form's authority, else `Host`. Pingora has refused requests in which they differ.
pub(super) fn host(request: &RequestHeader) -> &str {
    let header = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    headers::target_authority(request.raw_path())
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .or_else(header)
        .unwrap_or_default()
}
