//! The HTTP/2 of a probe: a GET, or for gRPC groups a call without a message's content.
//!
//! **Invariant:** what a target sends beyond [`LARGEST_HEAD`] and [`LARGEST_BODY`] ends the probe.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, TE, USER_AGENT as AGENT};
use http::{HeaderMap, Method, Request, StatusCode};

use super::{LARGEST_BODY, LARGEST_HEAD, LINGER, USER_AGENT, invalid};
use crate::model::{HealthCheck, ProtocolVersion};
use crate::tls::Stream;

/// A message without content: not compressed, of no length (gRPC, "HTTP/2 transport mapping").
const MESSAGE: [u8; 5] = [0; 5];

/// The code that the target answers with: HTTP's, or gRPC's where it is gRPC that answers.
pub(super) async fn ask(
    stream: Stream,
    target: SocketAddr,
    check: &HealthCheck,
) -> io::Result<u16> {
    let (send, connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(into_io)?;
    let (mut connection, mut asking) = (pin!(connection), pin!(exchange(send, target, check)));
    tokio::select! {
        biased;
        code = &mut asking => {
            // Nobody asks for more: it says goodbye.
            let _ = tokio::time::timeout(LINGER, connection).await;
            code
        }
        // It read and wrote for the exchange, which may have all that it needs.
        _ = &mut connection => asking.await,
    }
}

async fn exchange(
    send: SendRequest<Bytes>,
    target: SocketAddr,
    check: &HealthCheck,
) -> io::Result<u16> {
    let is_call = check.version == ProtocolVersion::Grpc;
    let scheme = if check.protocol.is_secure() { "https" } else { "http" };
    let request = Request::builder()
        .method(if is_call { Method::POST } else { Method::GET })
        .uri(format!("{scheme}://{target}{}", check.path))
        .header(AGENT, USER_AGENT);
    let request = match is_call {
        true => request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers"),
        false => request,
    };
    let request = request.body(()).map_err(io::Error::other)?;
    let mut send = send.ready().await.map_err(into_io)?;
    let (response, mut body): (_, SendStream<Bytes>) =
        send.send_request(request, !is_call).map_err(into_io)?;
    if is_call {
        body.send_data(Bytes::from_static(&MESSAGE), true).map_err(into_io)?;
    }
    drop(send);
    let (head, body) = response.await.map_err(into_io)?.into_parts();
    if !is_call || head.status != StatusCode::OK {
        return Ok(head.status.as_u16());
    }
    let status = match status(&head.headers) {
        Some(status) => Some(status),
        None => trailers(body).await?.as_ref().and_then(status),
    };
    status.ok_or_else(|| invalid("the answer is none of gRPC"))
}

async fn trailers(mut body: RecvStream) -> io::Result<Option<HeaderMap>> {
    let mut left = LARGEST_BODY;
    while let Some(bytes) = body.data().await {
        let count = bytes.map_err(into_io)?.len();
        left = left.checked_sub(count).ok_or_else(|| invalid("the response is too large"))?;
        body.flow_control().release_capacity(count).map_err(into_io)?;
    }
    body.trailers().await.map_err(into_io)
}

/// gRPC's codes are 0 to 16; ALB takes what has two digits.
fn status(fields: &HeaderMap) -> Option<u16> {
    let text = fields.get("grpc-status")?.to_str().ok()?;
    text.parse().ok().filter(|status| *status <= 99 && text.bytes().all(|b| b.is_ascii_digit()))
}

fn into_io(error: h2::Error) -> io::Error {
    match error.get_io().map(io::Error::kind) {
        Some(kind) => io::Error::new(kind, error),
        None => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
