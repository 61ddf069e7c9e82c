//! The client's side of one exchange where it is a stream of an HTTP/2 connection.
//!
//! What arrives is copied into the exchange's window, and only then is more asked for; what leaves
//! is cut to what the client's windows allow. **Invariant:** the stream holds at most the client's
//! one DATA frame beside its window, and what the `h2` crate buffers is bounded by its settings.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use http::{HeaderMap, Response, StatusCode};

use super::super::super::additions::Additions;
use super::super::super::errors::{self, Cause};
use super::super::super::own::Own;
use super::super::body::Body;
use super::super::fields;
use super::super::lane::Lane;
use super::super::response::{self, Asked, Out, Response as Answer};
use super::super::window::Buffers;
use super::Made;

/// Nearly all heads are shorter; what grew larger is not kept for the next exchange (ours).
const HEAD: usize = 4 * 1024;
/// Interim responses passed on per exchange; they wait for no window (ours; a page has one or two).
const MOST_INTERIM: u32 = 16;

#[derive(Debug)]
pub(in super::super) struct Stream {
    respond: SendResponse<Bytes>,
    /// Once the response's head is sent.
    body: Option<SendStream<Bytes>>,
    receive: RecvStream,
    /// A frame's rest that did not fit the window yet.
    ahead: Bytes,
    trailers: Vec<u8>,
    /// The request has ended.
    is_read: bool,
    /// The response has ended.
    is_sent: bool,
    /// What the target gets.
    head: Vec<u8>,
    made: Made,
    interim: u32,
    /// Of a reset: what the target gave for its own.
    pub(in super::super) reason: Reason,
}

impl Stream {
    /// `head` is what the target's head is to be written to.
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        receive: RecvStream,
        mut head: Vec<u8>,
    ) -> Self {
        head.clear();
        head.reserve(512);
        Self {
            respond,
            body: None,
            ahead: Bytes::new(),
            trailers: Vec::new(),
            // What ends with its head is not asked for more.
            is_read: receive.is_end_stream(),
            receive,
            is_sent: false,
            head,
            made: Made::default(),
            interim: 0,
            reason: Reason::INTERNAL_ERROR,
        }
    }

    /// The memory of its head, where that is worth keeping.
    pub(in super::super) fn into_head(self) -> Vec<u8> {
        if self.head.capacity() > HEAD { Vec::new() } else { self.head }
    }

    /// What the target gets; the request was decided by it.
    pub(in super::super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) const fn head_mut(&mut self) -> &mut Vec<u8> {
        &mut self.head
    }

    pub(in super::super) fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Takes what has come of the body. Ready: 0 at its end, and behind it when the client gives
    /// the exchange up.
    pub(in super::super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Lane,
        room: (&Buffers, usize),
    ) -> Poll<io::Result<usize>> {
        if self.is_read && !up.body.ends_with_connection() {
            ready!(self.poll_gone(cx));
            return Poll::Ready(Ok(0));
        }
        while self.ahead.is_empty() && !self.is_read {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(bytes)) => self.ahead = bytes,
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => {
                    let trailers = ready!(self.receive.poll_trailers(cx)).map_err(gone)?;
                    self.trailers = trailers.map(|map| section(&map)).unwrap_or_default();
                    self.is_read = true;
                }
            }
        }
        if !self.is_read {
            let count = up.window.fill(&self.ahead, room);
            self.ahead.advance(count);
            self.receive.flow_control().release_capacity(count).map_err(gone)?;
            return Poll::Ready(Ok(count));
        }
        if up.body.is_done() {
            // As it was announced: from now on only its end is of interest.
            ready!(self.poll_gone(cx));
        }
        Poll::Ready(Ok(0))
    }

    /// Ready when the client has given the stream up, or its connection has ended.
    pub(in super::super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        polled.map(|_| ())
    }

    /// Sends what is staged, as far as the client's windows allow.
    pub(in super::super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut Lane,
    ) -> Poll<io::Result<()>> {
        let is_last = |left: usize| left == 0 && down.ends() && down.body.trailers().is_empty();
        if let Some(head) = self.made.take() {
            let ends = is_last(down.pieces().iter().map(|piece| piece.len()).sum());
            self.body = Some(self.respond.send_response(head, ends).map_err(gone)?);
            self.is_sent = ends;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        send_staged(cx, body, down, &mut self.is_sent)
    }

    /// Ends a call whose response has begun and cannot go on: gRPC's status in the trailers.
    ///
    /// # Errors
    /// The client is gone.
    pub(in super::super) fn end_call(&mut self, cause: Cause) -> io::Result<()> {
        let Some(body) = self.body.as_mut().filter(|_| !self.is_sent) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut trailers = HeaderMap::new();
        add_grpc(&mut trailers, errors::grpc_status(cause.status()), cause.reason());
        body.send_trailers(trailers).map_err(gone)?;
        self.is_sent = true;
        Ok(())
    }

    /// Stages what the client gets of a head; an interim response is sent at once.
    ///
    /// # Errors
    /// It is no response, or too long.
    pub(in super::super) fn stage_head(
        &mut self,
        bytes: &[u8],
        asked: Asked,
        added: &Additions<'_>,
    ) -> Result<Answer, Cause> {
        let mut out = Out::Fields(&mut self.made);
        let mut answer = response::translate(bytes, asked, added, &mut out)?;
        answer.chunked = false;
        if answer.status < 200 && answer.status != 101 {
            let interim = self.made.take().filter(|_| self.interim < MOST_INTERIM);
            if let Some(interim) = interim {
                self.interim += 1;
                // Who is gone is noticed where the final response is sent.
                let _ = self.respond.send_informational(interim);
            }
        }
        Ok(answer)
    }

    /// Stages a whole response of our own.
    pub(in super::super) fn stage_own(
        &mut self,
        own: &Own,
        added: &Additions<'_>,
        is_head: bool,
        down: &mut Lane,
    ) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(own.sent_status()).unwrap_or_default();
        let headers = head.headers_mut();
        if !added.hides("server") {
            headers.insert(SERVER, HeaderValue::from_static(errors::SERVER));
        }
        let mut append = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        };
        added.fields(std::iter::empty()).for_each(|(name, value)| append(name, value));
        own.fields().for_each(|(name, value)| append(name, &value));
        let body = own.body();
        let is_bodyless = own.is_bodyless();
        if let Some((status, message)) = own.grpc() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(errors::GRPC_TYPE));
            add_grpc(headers, status, message);
        }
        if !is_bodyless {
            headers.insert(http::header::CONTENT_LENGTH, body.len().into());
            if let Ok(kind) = HeaderValue::from_str(own.content_type())
                && !kind.is_empty()
            {
                headers.insert(CONTENT_TYPE, kind);
            }
        }
        self.made.put(head);
        if !is_bodyless && !is_head {
            down.lead.extend_from_slice(body.as_bytes());
        }
        down.frame(Body::none(), false);
        // Nothing is in the window: there is nothing to be malformed.
        let _ = down.stage();
    }

    /// Who is gone is noticed where the final response is sent.
    pub(in super::super) fn send_continue(&mut self) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        let _ = self.respond.send_informational(head);
    }

    /// The client shall see that something is missing.
    pub(in super::super) fn reset(&mut self) {
        match &mut self.body {
            Some(body) => body.send_reset(self.reason),
            None => self.respond.send_reset(self.reason),
        }
    }
}

/// Sends what is staged of `lane` as `body`, as far as the other side's windows allow; `is_sent`
/// when its end went too.
pub(in super::super) fn send_staged(
    cx: &mut Context<'_>,
    body: &mut SendStream<Bytes>,
    lane: &mut Lane,
    is_sent: &mut bool,
) -> Poll<io::Result<()>> {
    loop {
        let pieces = lane.pieces();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some(piece) = pieces.into_iter().find(|piece| !piece.is_empty()) else { break };
        body.reserve_capacity(total);
        let mut count = body.capacity();
        if count == 0 {
            count = match ready!(body.poll_capacity(cx)) {
                Some(granted) => granted.map_err(gone)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = count.min(piece.len());
        let ends = count == total && lane.ends() && lane.body.trailers().is_empty();
        if count > 0 {
            body.send_data(Bytes::copy_from_slice(&piece[..count]), ends).map_err(gone)?;
            *is_sent |= ends;
            lane.wrote(count);
        }
    }
    if lane.ends() && !*is_sent {
        match lane.body.trailers() {
            [] => body.send_data(Bytes::new(), true),
            trailers => body.send_trailers(fields_of(trailers)),
        }
        .map_err(gone)?;
        *is_sent = true;
    }
    Poll::Ready(Ok(()))
}

/// gRPC, "HTTP/2 transport mapping": Trailers-Only, or the trailers of a response.
fn add_grpc(fields: &mut HeaderMap, status: u8, message: &'static str) {
    fields.insert("grpc-status", u16::from(status).into());
    fields.insert("grpc-message", HeaderValue::from_static(message));
}

fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

/// Trailers as HTTP/1 writes them, each with the end of its line.
pub(in super::super) fn section(map: &HeaderMap) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in map {
        fields::write_line(name.as_str().as_bytes(), value.as_bytes(), &mut section);
    }
    section
}

/// The other way round; the section was checked when it was staged.
fn fields_of(section: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let _ = fields::each_trailer(section, |field| {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            map.append(name, value);
        }
    });
    map
}
