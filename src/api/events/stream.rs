//! `GET /events` of the API endpoint: events as Server-Sent Events (WHATWG HTML, 9.2).
//!
//! A reader that comes back with `Last-Event-ID` gets what it missed, or, when that is not kept any
//! more, an event of the type `gap` first. **Invariant:** a stream ends with the process's control
//! side, so a reader never keeps it from ending.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Events, Number, Told};
use crate::api::error::Error;

const PATH: &str = "/events";
/// The header that a reader comes back with.
const LAST: &str = "last-event-id";
/// A comment is sent after this long without an event (WHATWG HTML, 9.2.7: 15 seconds or so).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b":\n\n";
/// To a reader that missed something for good.
const GAP: &[u8] = b"event: gap\ndata: {}\n\n";

pub(crate) type EventStream = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Whether a request asks for the stream.
pub(crate) fn wants(method: &Method, uri: &Uri) -> bool {
    method == Method::GET && uri.path() == PATH
}

struct Tail {
    head: Option<&'static [u8]>,
    replay: VecDeque<Arc<Told>>,
    live: mpsc::Receiver<Arc<Told>>,
    stop: CancellationToken,
}

impl Events {
    /// The answer; `cut` ends its connection when the reader is too slow.
    ///
    /// # Errors
    /// `Last-Event-ID` is no event's number; there are too many readers.
    pub(crate) fn answer(
        &self,
        headers: &HeaderMap,
        cut: CancellationToken,
        stop: CancellationToken,
    ) -> Result<Response<EventStream>, Error> {
        let last = headers.get(LAST).map(|value| value.to_str().unwrap_or("?"));
        let last = last.map(str::parse::<Number>).transpose();
        let last = last.map_err(|_| Error::invalid("Last-Event-ID is not the id of an event"))?;
        let subscription = self.subscribe(last, cut).ok_or_else(|| {
            Error::new("ThrottlingException", "too many readers of events; try again later")
        })?;
        let head = if subscription.gap { GAP } else { COMMENT };
        let tail =
            Tail { head: Some(head), replay: subscription.replay, live: subscription.live, stop };
        let frames = stream::unfold(tail, |mut tail| async move {
            let bytes = tail.next().await?;
            Some((Ok(Frame::data(bytes)), tail))
        });
        let mut response = Response::new(StreamBody::new(frames.boxed()));
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

impl Tail {
    /// None: it is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(Bytes::from_static(head));
        }
        if let Some(told) = self.replay.pop_front() {
            return Some(frame(&told));
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            told = self.live.recv() => told.map(|told| frame(&told)),
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(COMMENT)),
        }
    }
}

/// The event's JSON has no end of line in it.
fn frame(told: &Told) -> Bytes {
    let head = format!("id: {}\ndata: ", told.number);
    [head.as_bytes(), &told.text, b"\n\n"].concat().into()
}
