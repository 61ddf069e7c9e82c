//! What becomes of a request of pingora's, on the newest snapshot.
//!
//! **Invariant:** nothing is awaited between a decision and its guard.

use std::sync::Arc;

use http::Version;
use http::header::{CONTENT_TYPE, HOST};
use pingora_http::RequestHeader;

use super::super::errors::Cause;
use super::super::headers;
use super::super::own::Own;
use super::Plane;
use super::client::Connection;
use super::exchange::{Chosen, Exchange};
use crate::clock;
use crate::routing::{Outcome, Trial, decide};
use crate::rules::{Facts, Headers, Spoken};

/// What a decision asks for.
pub(super) enum Choice {
    Forward,
    Answer(Own),
    Refuse(Cause),
}

/// Rule, group, target and guard, on the newest snapshot.
pub(super) fn choose(plane: &Plane, request: &RequestHeader, exchange: &mut Exchange) -> Choice {
    let Some(connection) = &exchange.connection else { return Choice::Refuse(Cause::Internal) };
    let routing = plane.thread.reader.load();
    let found = routing.listeners.get(&connection.socket);
    let Some(listener) = found.filter(|found| found.protocol.is_http()) else {
        return Choice::Refuse(Cause::NoListener);
    };
    let facts = facts(request, connection);
    let mut rng = fastrand::Rng::new();
    let thread = plane.thread.index;
    let (now, exclude) = (clock::now(), exchange.tried.as_slice());
    let mut trial = Trial { thread, rng: &mut rng, now, exclude };
    let decision = decide(listener, &facts, &mut trial);
    exchange.priority = Some(decision.priority);
    exchange.listener = Some(Arc::clone(listener));
    exchange.bonds = decision.bonds;
    exchange.transformed = decision.transformed.unwrap_or_default();
    match decision.outcome {
        Outcome::Forward { group, .. } if group.version.is_http_2() => {
            // It did not when the connection began: the next one gets another carrier.
            connection.goaway();
            exchange.group = Some(group);
            Choice::Refuse(Cause::NoListener)
        }
        Outcome::Forward { group, guard } => {
            exchange.action = Some("forward");
            exchange.target = Some(guard.endpoint().address);
            exchange.group = Some(Arc::clone(&group));
            exchange.chosen = Some(Chosen { group, guard, borrowed: None, made: None });
            Choice::Forward
        }
        Outcome::Fixed(response) => {
            exchange.action = Some("fixed-response");
            Choice::Answer(Own::Fixed(response))
        }
        Outcome::Redirect(redirect) => {
            exchange.action = Some("redirect");
            let port = connection.socket.address.port();
            let scheme = if connection.session.is_some() { "https" } else { "http" };
            match Own::redirect(&redirect, &facts, (scheme, port)) {
                Ok(own) => {
                    exchange.redirect_url = own.location().map(str::to_owned);
                    Choice::Answer(own)
                }
                Err(cause) => Choice::Refuse(cause),
            }
        }
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
