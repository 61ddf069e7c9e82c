//! The metrics listener (`/metrics`, `/healthz`, `/readyz`, `/public-keys/ID`), the status socket.
//!
//! **Invariant:** what is served here is read only; nothing that a client sends changes anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::net::ACCEPT_REST;
use crate::routing::Reader;

/// Clients that may be connected at once; more wait in the backlog.
const CONNECTIONS: usize = 64;
/// For a request's head (ours: scrapers send theirs at once).
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// One connection's greatest age (ours): an idle client does not keep its place.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Bytes of a question to the status socket (ours: a request's head has 64 KiB at most, and JSON
/// writes some of it longer).
const LONGEST_QUESTION: u64 = 256 * 1024;
/// For a client of the status socket to ask and to read its answer (ours).
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves Prometheus until dropped.
pub(super) async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    reader: Reader,
    ready: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the metrics listener cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let (metrics, reader, ready) = (metrics.clone(), reader.clone(), ready.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let response = answer(&request, (&metrics, &reader), *ready.borrow());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_AGE, connection).await;
            drop(place);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    (metrics, reader): (&Metrics, &Reader),
    ready: bool,
) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        response
    };
    if request.method() != http::Method::GET && request.method() != http::Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match metrics.render() {
            Ok(text) => plain(StatusCode::OK, text),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be rendered");
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
            }
        },
        "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if ready => plain(StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        path => {
            // What verifies `x-amzn-oidc-data`.
            let id = path.strip_prefix("/public-keys/");
            match id.and_then(|id| reader.load().seals.public_key(id)) {
                Some(key) => plain(StatusCode::OK, key),
                None => {
                    let known = "/metrics, /healthz, /readyz, /public-keys/ID\n";
                    plain(StatusCode::NOT_FOUND, known.to_owned())
                }
            }
        }
    }
}

/// Reads a question to its end, which is nothing or a JSON document, writes what `answer` gives for
/// it, then closes: the whole protocol of the socket.
pub(super) async fn serve_status<S>(listener: UnixListener, answer: S)
where
    S: Fn(&str) -> String + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let exchange = async {
                let mut question = String::new();
                (&mut stream).take(LONGEST_QUESTION).read_to_string(&mut question).await?;
                stream.write_all(answer(&question).as_bytes()).await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(STATUS_TIMEOUT, exchange).await;
            drop(place);
        });
    }
}
