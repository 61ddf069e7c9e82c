//! The native carrier: clients' HTTP/1.0, HTTP/1.1 and HTTP/2 to HTTP/1.1 targets, and clients'
//! HTTP/2 to HTTP/2 targets.
//!
//! One task per client connection, one poll per exchange, raw bytes in hand: a head is scanned,
//! parsed and written anew, bodies pass through bounded windows. Not here: deciding (the pure files
//! beside this folder and `routing`). **Invariant:** what reaches either side was parsed and framed
//! anew; nothing is passed on that two parsers could read differently.

mod back;
mod body;
mod choose;
mod client;
mod exchange;
mod fields;
mod frames;
mod h2;
mod lane;
mod links;
mod mirror;
mod pool;
mod reach;
mod relay;
mod report;
mod request;
mod response;
mod through;
mod window;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::account::{self, NoExchange};
use super::additions::Additions;
use super::errors::Cause;
use super::own::Own;
use crate::auth::Fetcher;
use crate::clock;
use crate::logs::{AccessLog, Kind};
use crate::metrics::Metrics;
use crate::routing::{DataThread, RoutedListener, Routing, SocketKey};
use crate::tls::{Alpn, Stream};
use client::{Client, Front, Next};
use exchange::After;
use links::Links;
use mirror::Mirrors;
use pool::Pool;
use request::Origin;
use window::Buffers;

pub(super) use response::write_own;

/// How often idle connections to targets are looked at (ours).
const SWEEP: Duration = Duration::from_secs(1);

/// The carrier of one data thread.
#[derive(Debug)]
pub(super) struct Carrier {
    thread: DataThread,
    /// Of this thread alone, so that asking it waits for no other.
    closing: CancellationToken,
    /// Cancelled with `closing`, and when the listener of a socket is gone. Never waited for: all
    /// connections of a data thread run on it.
    doors: Mutex<HashMap<SocketKey, CancellationToken>>,
    access_log: Option<AccessLog>,
    pool: Arc<Pool>,
    links: Arc<Links>,
    mirrors: Mirrors,
    buffers: Buffers,
    fetcher: Fetcher,
}

impl Carrier {
    pub(super) fn new(
        thread: DataThread,
        settings: &Settings,
        metrics: &Metrics,
        access_log: Option<AccessLog>,
    ) -> Self {
        let pool = Pool::new(settings.idle_connections / metrics.threads());
        Self {
            closing: thread.closing.child_token(),
            doors: Mutex::default(),
            mirrors: Mirrors::new(thread.clone(), Arc::clone(&pool)),
            thread,
            access_log,
            pool,
            links: Links::new(settings.idle_connections / metrics.threads()),
            buffers: Buffers::default(),
            fetcher: settings.fetcher.clone(),
        }
    }

    /// Runs one accepted connection to its end; soon after the process began to close, at the
    /// latest. Which protocol it speaks is agreed on by TLS (ALPN), or told by its first bytes:
    /// HTTP/2's preface, by prior knowledge.
    pub(super) async fn serve(
        &self,
        stream: Stream,
        at: (SocketAddr, SocketKey),
        listener: Arc<RoutedListener>,
    ) {
        let agreed = stream.session().and_then(|session| session.alpn);
        let h2 = match agreed {
            Some(Alpn::H2) => Some((stream, BytesMut::new())),
            _ => self.serve_h1(stream, at, Arc::clone(&listener)).await,
        };
        if let Some((stream, read)) = h2 {
            let session = stream.session().cloned();
            // Boxed: its state is large, and most connections never have it.
            Box::pin(self.serve_h2((stream, read), session, at, listener)).await;
        }
    }

    /// Runs a connection that speaks HTTP/1 to its end. One that begins with HTTP/2's preface comes
    /// back, with what was read.
    async fn serve_h1(
        &self,
        stream: Stream,
        at: (SocketAddr, SocketKey),
        listener: Arc<RoutedListener>,
    ) -> Option<(Stream, BytesMut)> {
        let closing = Some(self.closing.clone());
        let session = stream.session().cloned();
        let origin = Arc::new(Origin::new(at, session.as_deref()));
        let front = (Front::Connection(stream), session);
        let mut client = Client::new(front, (origin, at.1), listener, None, closing);
        let left = loop {
            let next = client.next(&self.buffers).await;
            let after = match next {
                Next::Request(head) => match self.read(&mut client, head) {
                    Ok(mut exchange) => {
                        let after = self.run(&mut client, &mut exchange).await;
                        Ok(self.end(&mut client, exchange, after))
                    }
                    Err(cause) => Err(cause),
                },
                Next::Refused(cause) => {
                    let at = (&self.thread, client.socket);
                    client.classified = account::screen_refused(client.up.window.all(), cause, at);
                    Err(cause)
                }
                Next::H2 => {
                    let read = BytesMut::from(client.up.window.all());
                    let Front::Connection(stream) = client.front else { break None };
                    break Some((stream, read));
                }
                Next::End => {
                    client.goodbye().await;
                    break None;
                }
            };
            match after {
                Ok(After::Another) => {
                    client.up.window.finish();
                    client.up.window.release(&self.buffers);
                }
                Ok(After::Close | After::Leave) => {
                    if !client.up.body.is_done() || client.up.window.has_fresh() {
                        client.linger(&self.buffers).await;
                    } else {
                        client.goodbye().await;
                    }
                    break None;
                }
                Ok(After::Abort) => {
                    client.abort();
                    break None;
                }
                Err(cause) => {
                    self.refuse_connection(&mut client, cause).await;
                    break None;
                }
            }
        };
        client.up.window.clear(&self.buffers);
        client.down.window.clear(&self.buffers);
        left
    }

    /// Answers what never became a request; the connection ends with it.
    async fn refuse_connection(&self, client: &mut Client, cause: Cause) {
        client.down.begin();
        let (own, listener) = (Own::Page(cause), Arc::clone(&client.listener));
        client.stage_own(&own, &Additions::own(&listener), (false, false));
        client.timer.set(clock::instant() + client.listener.idle_timeout);
        match client.flush().await {
            Ok(()) => client.linger(&self.buffers).await,
            Err(error) => tracing::debug!(peer = %client.peer, %error, "a refusal was not read"),
        }
        self.report_refused(client, (cause, Kind::Http));
    }

    /// Counts and logs what never became an exchange.
    fn report_refused(&self, client: &mut Client, (cause, kind): (Cause, Kind)) {
        let (received, sent) = client.take_bytes();
        let refused = NoExchange {
            cause,
            kind,
            classified: client.classified,
            listener: &client.listener,
            peer: client.peer,
            socket: client.socket,
            session: client.session.as_deref(),
            received,
            sent,
            connection_trace_id: client.origin.trace_id.as_str(),
        };
        refused.report(self.thread.index, self.access_log.as_ref());
    }

    /// Ends tunnels; see [`super::HttpPlane::part`].
    pub(super) fn part(&self) -> bool {
        self.pool.cut_tunnels()
    }

    /// Closes idle connections to targets that `routing` does not send to any more, and cuts what
    /// is left of exchanges with those whose deregistration delay is over (ALB: 502).
    /// Clients' HTTP/2 connections to listeners that are gone get a GOAWAY.
    pub(super) fn forget(&self, routing: &Routing) {
        self.pool.forget(routing);
        self.links.forget(routing);
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|socket, door| {
            let stays = routing.listeners.contains_key(socket);
            if !stays {
                door.cancel();
            }
            stays
        });
    }

    /// What is cancelled when connections to this socket shall end behind what they have.
    fn door(&self, socket: SocketKey) -> CancellationToken {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.entry(socket).or_insert_with(|| self.closing.child_token()).clone()
    }

    /// Closes connections to targets that rested for too long, for ever.
    pub(super) async fn upkeep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.pool.sweep(clock::instant());
            self.links.sweep(clock::instant());
            // Every thread would say the same.
            if self.thread.index == 0 {
                let (routing, now) = (self.thread.reader.load(), clock::now());
                routing.groups.values().for_each(|group| group.show_ejected(now));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn pooled(&self) -> usize {
        self.pool.len() + self.links.len()
    }
}

#[cfg(test)]
mod tests;
