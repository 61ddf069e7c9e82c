//! The target's side of one exchange where it is a stream of an HTTP/2 connection.
//!
//! What arrives is copied into the exchange's window, and only then is more asked for; what leaves
//! is cut to what the target's windows allow. A stream that is dropped before its end is reset,
//! which the `h2` crate sees to (CANCEL). **Invariant:** the stream holds at most one DATA frame or
//! head beside its window, and what the `h2` crate buffers is bounded by its settings.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::client::ResponseFuture;
use h2::{Error, Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::super::fields;
use super::super::lane::Lane;
use super::super::window::{Buffers, Window};
use super::{Seat, head};

/// What ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Broken {
    /// The target says that it has not looked at the request: RFC 9113, section 8.7.
    Refused,
    /// The target has had enough.
    Reset(Reason),
    /// What the target sent is not HTTP/2.
    Malformed,
    /// The connection has ended.
    Closed,
}

impl Broken {
    fn of(error: &Error) -> Self {
        match error.reason() {
            // The crate tells it to those streams alone that lie behind the last one looked at.
            Some(_) if error.is_go_away() && error.is_remote() => Self::Refused,
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Self::Refused,
            Some(reason) if error.is_remote() => Self::Reset(reason),
            Some(_) => Self::Malformed,
            None => Self::Closed,
        }
    }
}

#[derive(Debug)]
pub(in super::super) struct Stream {
    response: ResponseFuture,
    send: SendStream<Bytes>,
    /// Once the response's head has come.
    receive: Option<RecvStream>,
    /// A head's or a frame's rest that did not fit the window yet.
    ahead: Bytes,
    trailers: Vec<u8>,
    /// The request has ended.
    is_sent: bool,
    /// The response has ended.
    is_read: bool,
    pub(in super::super) broken: Option<Broken>,
    /// A gRPC call.
    pub(in super::super) is_call: bool,
    /// Last, so that the stream is over before another takes its place.
    seat: Seat,
}

impl Stream {
    /// Sends a request's head. Its body is staged in `up` as far as it has come; where there is
    /// none the request ends with its head.
    ///
    /// # Errors
    /// The head is none that may be sent.
    pub(super) fn begin(
        mut seat: Seat,
        request: Request<()>,
        (up, is_call): (&Lane, bool),
    ) -> Result<Self, Error> {
        let is_empty = up.pieces().iter().all(|piece| piece.is_empty());
        let ends = is_empty && up.ends() && up.body.trailers().is_empty();
        let (response, send) = seat.send.send_request(request, ends)?;
        Ok(Self {
            response,
            send,
            receive: None,
            ahead: Bytes::new(),
            trailers: Vec::new(),
            is_sent: ends,
            is_read: false,
            broken: None,
            is_call,
            seat,
        })
    }

    pub(in super::super) const fn is_reused(&self) -> bool {
        self.seat.is_reused
    }

    /// Whether it ended because its registration is gone.
    pub(in super::super) fn is_cut(&self) -> bool {
        !self.is_read && self.seat.link.is_cut()
    }

    /// The target has let time run out. Where nothing at all came of it, nobody else shall be given
    /// to this connection: it may lead nowhere.
    pub(in super::super) fn give_up(&self) {
        if self.receive.is_none() {
            self.seat.link.retire();
        }
    }

    /// Whether nothing follows the head.
    pub(in super::super) fn is_at_end(&self) -> bool {
        self.ahead.is_empty() && self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    pub(in super::super) fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Sends what is staged, as far as the target's windows allow.
    pub(in super::super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Lane,
    ) -> Poll<io::Result<()>> {
        if self.is_sent {
            return Poll::Ready(Ok(()));
        }
        send_staged(cx, &mut self.send, up, &mut self.is_sent)
    }

    /// Takes what has come: heads as HTTP/1 writes them, then the body. Ready: 0 at its end.
    pub(in super::super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut Window,
        room: (&Buffers, usize),
    ) -> Poll<io::Result<usize>> {
        while self.ahead.is_empty() {
            let next = ready!(self.poll_next(cx));
            if next.is_ok() {
                self.seat.link.hear();
            }
            match next {
                Ok(Some(bytes)) => self.ahead = bytes,
                Ok(None) => return Poll::Ready(Ok(0)),
                Err(error) => {
                    self.broken = Some(Broken::of(&error));
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        error,
                    )));
                }
            }
        }
        let count = down.fill(&self.ahead, room);
        self.ahead.advance(count);
        Poll::Ready(Ok(count))
    }

    /// A head or a DATA frame; none at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let Some(receive) = &mut self.receive else {
            if let Some(interim) = ready!(self.response.poll_informational(cx)) {
                return Poll::Ready(Ok(Some(head::response(&interim?))));
            }
            let (parts, receive) = ready!(Pin::new(&mut self.response).poll(cx))?.into_parts();
            self.receive = Some(receive);
            let response = http::Response::from_parts(parts, ());
            return Poll::Ready(Ok(Some(head::response(&response))));
        };
        match ready!(receive.poll_data(cx)) {
            Some(bytes) => {
                let bytes = bytes?;
                // One frame is held at most before the next one is asked for.
                receive.flow_control().release_capacity(bytes.len())?;
                Poll::Ready(Ok(Some(bytes)))
            }
            None => {
                let trailers = ready!(receive.poll_trailers(cx))?;
                self.trailers = trailers.map(|map| section(&map)).unwrap_or_default();
                self.is_read = true;
                Poll::Ready(Ok(None))
            }
        }
    }
}

/// Sends what is staged of `lane` as `body`, as far as the other side's windows allow; `is_sent`
/// when its end went too.
fn send_staged(
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

fn gone(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

/// Trailers as HTTP/1 writes them, each with the end of its line.
fn section(map: &HeaderMap) -> Vec<u8> {
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
