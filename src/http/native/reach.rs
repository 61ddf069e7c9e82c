//! The way to a target: out of the pool, by a new connection, or as a stream of one.
//!
//! **Invariant:** nothing of a request is sent before this has come to an end.

use std::future::poll_fn;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::super::errors::Cause;
use super::super::limits::{CONNECT_TIMEOUT, TARGET_HANDSHAKE};
use super::super::retry::Failure;
use super::Carrier;
use super::back::Back;
use super::client::Client;
use super::h2;
use super::links::Seat;
use super::report::Exchange;
use super::request::Way;
use crate::balance::{Endpoint, Group};
use crate::clock::Instant;
use crate::model::Protocol;
use crate::rules::Spoken;
use crate::tls::{self, Alpn, Stream};

impl Carrier {
    /// What carries the exchange to its target: a connection, or a stream of one that has begun
    /// with the request's head.
    pub(super) async fn reach(
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
            connect(endpoint.address, is_secure, Alpn::Http1).await.map(Reached::Connection)
        };
        let reached = tokio::select! {
            biased;
            reached = reaching => reached?,
            () = poll_fn(|cx| client.poll_gone(cx)) => {
                return Err((Failure::Other, Cause::ClientGone));
            }
            () = until(exchange.deadline) => return Err((Failure::Other, Cause::RuleTimeout)),
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
}

/// What was found of a target.
enum Reached {
    Connection(Stream),
    Seat(Seat),
}

pub(super) async fn connect(
    target: SocketAddr,
    is_secure: bool,
    alpn: Alpn,
) -> Result<Stream, (Failure, Cause)> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => {
            // Only latency is lost when it cannot be set.
            let _ = stream.set_nodelay(true);
            match is_secure {
                true => shake(stream, target, alpn).await,
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
async fn shake(
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

/// Ready at the deadline; never without one.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        // Boxed: few rules have one, and a connection at rest shall be small.
        Some(deadline) => Box::pin(tokio::time::sleep_until(deadline)).await,
        None => std::future::pending().await,
    }
}
