//! Clients' HTTP/2: one connection, whose streams are exchanges like any other.
//!
//! The protocol is in [`wire`] (what we say) and [`incoming`] (what the client says), [`session`]
//! moves the bytes and knows when it is over; here exchanges are run. All streams of a connection
//! run in its own task, so that everything of it ends with it. Not here: deciding, retrying, the
//! way to the target, which are those of HTTP/1. **Invariant:** no more exchanges run than
//! [`STREAMS`] and as many that their client has given up; each ends when its client gives it up.

mod desk;
mod frame;
mod hpack;
mod huffman;
mod incoming;
mod made;
mod request;
mod screen;
mod section;
mod session;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::super::account;
use super::super::additions::Additions;
use super::super::desync::{Sent, Verdict};
use super::super::errors::Cause;
use super::super::head::{HEADERS, REQUEST_LINE};
use super::super::headers;
use super::super::own::Own;
use super::Carrier;
use super::client::{Client, Front, Spare};
use super::exchange::After;
use super::fields::MOST;
use super::request::{Origin, Way};
use crate::clock;
use crate::logs::Kind;
use crate::routing::{RoutedListener, SocketKey};
use crate::rules::{Spoken, Transformed};
use crate::tls;
use desk::{Desk, Job};
use section::Section;
use session::Session;

pub(super) use made::Made;
pub(super) use request::rewrite;
pub(super) use stream::Stream;

/// ALB: streams on one connection.
const STREAMS: u32 = 128;
/// ALB: requests on one connection; GOAWAY then.
const REQUESTS: u64 = 10_000;
/// What a client may send of a stream before we ask for more: RFC 9113's own default.
const STREAM_WINDOW: u32 = 65_535;
/// The same of a whole connection (ours: what is read before it is asked for is held 16 times at
/// most, whatever the number of streams).
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Runners that a connection keeps however long it rests (ours: a client that asks one thing after
/// the other needs one) …
const RUNNERS_KEPT: usize = 2;
/// … and for how long it keeps more of them without an exchange (ours: many clients ask for many
/// things at once, and for as many when they have them).
const RUNNERS_REST: Duration = Duration::from_secs(1);
/// Streams that we have to reset for what a client does wrong (ours; CVE-2025-8671).
const FORCED_RESETS: usize = 100;
/// Header list in HTTP/2's counting, 32 bytes more per field (RFC 9113, section 6.5.2): ALB's
/// limits, so that what is a little longer is answered in our words.
const HEADER_LIST: usize = HEADERS + REQUEST_LINE + 32 * MOST;
/// Buffers that grew larger are not kept while nothing uses them (ours: nearly all heads are
/// shorter).
const KEPT: usize = 4 * 1024;
/// CONTINUATION frames of one head (ours: [`HEADER_LIST`] fits six full ones).
const CONTINUATIONS: usize = 16;

impl Carrier {
    /// Runs a connection that speaks HTTP/2 to its end; `read` are bytes of it that were read
    /// already. It does not matter how HTTP/2 was agreed on.
    pub(in crate::http) async fn serve_h2(
        &self,
        (stream, read): (tls::Stream, BytesMut),
        tls: Option<Arc<tls::Session>>,
        (peer, socket): (SocketAddr, SocketKey),
        listener: Arc<RoutedListener>,
    ) {
        let origin = Arc::new(Origin::new((peer, socket), tls.as_deref()));
        let desk = Desk::default();
        let door = pin!(self.door(socket).cancelled_owned());
        let start = |runner| {
            let at = (&origin, socket);
            self.run_streams((&desk, runner), at, tls.as_ref(), &listener)
        };
        let times = (listener.idle_timeout, listener.client_keep_alive);
        let mut session = Session::new((stream, &self.buffers), (&desk, start), door, times);
        session.begin_with(&read);
        poll_fn(|cx| session.poll(cx)).await;
    }

    /// Runs exchanges of a connection, one after the other, as they come to its desk.
    async fn run_streams(
        &self,
        (desk, runner): (&Desk<Job>, usize),
        (origin, socket): (&Arc<Origin>, SocketKey),
        tls: Option<&Arc<tls::Session>>,
        listener: &Arc<RoutedListener>,
    ) -> Infallible {
        let mut spare = None;
        loop {
            let Job { lease, section, ends } = poll_fn(|cx| desk.poll_job(runner, cx)).await;
            if lease.is_gone() {
                // Given up before anybody looked.
                desk.end(After::Another);
                continue;
            }
            let head = spare.as_mut().map(Spare::take_head).unwrap_or_default();
            let front = Front::Stream(Box::new(Stream::new(lease, ends, head)));
            let (front, at) = ((front, tls.cloned()), (Arc::clone(origin), socket));
            let mut client = Client::new(front, at, Arc::clone(listener), spare.take(), None);
            let after = self.stream(&mut client, section, ends).await;
            if after == After::Abort {
                client.abort();
            }
            spare = client.retire(&self.buffers);
            desk.end(after);
        }
    }

    /// One exchange, from its head to its report.
    async fn stream(&self, client: &mut Client, section: Section, ends: bool) -> After {
        let (mut rng, now) = (fastrand::Rng::new(), clock::now());
        let trace_id = |sent: Option<&str>| headers::trace_id(sent, now, &mut rng);
        if let Some(listener) = account::listener(&self.thread, client.socket) {
            client.listener = listener;
        }
        let crumbs = section.join_crumbs();
        let fields = section.headers(crumbs.as_deref());
        let sent = Sent {
            method: section.method(),
            target: section.target(),
            authority: section.authority(),
            fields: &fields,
            ends,
        };
        let found = match section.is_too_long() {
            true => None,
            false => account::screen_fields(&sent, (&self.thread, client.socket)),
        };
        client.classified = found.map(|(classified, _)| classified);
        let verdict = found.map_or(Verdict::Pass, |(_, verdict)| verdict);
        let Front::Stream(stream) = &mut client.front else { return After::Abort };
        let out = stream.head_mut();
        let way = Way {
            origin: &client.origin,
            rules: client.listener.load_balancer.options.requests,
            transformed: &Transformed::default(),
        };
        let framed = (ends, verdict == Verdict::PassAndClose);
        let read = request::translate((&section, &fields), framed, way, trace_id, out);
        let after = match read {
            Ok((mut request, trace_id)) => {
                request.sent = Some(section.into_head(crumbs.as_deref()));
                request.refused = verdict.refuses().or(request.refused);
                client.up.begin();
                client.up.lead.extend_from_slice(stream.head());
                let mut exchange = Self::begin(client, request, (trace_id, now));
                let after = self.run(client, &mut exchange).await;
                self.end(client, exchange, after)
            }
            Err(cause) => {
                let spoken = request::spoken(&section);
                self.refuse_stream(client, cause, spoken).await
            }
        };
        match after {
            // Where HTTP/1 ends a connection, this one gets a GOAWAY: other streams are none of it.
            After::Another | After::Close if verdict != Verdict::Pass => After::Leave,
            after => after,
        }
    }

    /// Answers what is no request of ours to send on; the connection stays.
    async fn refuse_stream(&self, client: &mut Client, cause: Cause, spoken: Spoken) -> After {
        let own = Own::error(cause, spoken);
        let listener = Arc::clone(&client.listener);
        client.stage_own(&own, &Additions::own(&listener), (false, false));
        client.timer.set(clock::instant() + client.listener.idle_timeout);
        let after = match client.flush().await {
            Ok(()) => After::Close,
            Err(_) => After::Abort,
        };
        self.report_refused(client, (cause, Kind::http2(spoken == Spoken::Grpc)));
        after
    }
}
