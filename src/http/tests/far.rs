//! Targets that speak HTTP/2 and do as they are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::h2::soon;
use crate::tls::{Handshakes, Server, Stream};

/// One exchange, as a target sees it.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
}

impl Asked {
    /// The whole body and its trailers.
    pub(super) async fn read(&mut self) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.body.data().await {
            let bytes = bytes?;
            self.body.flow_control().release_capacity(bytes.len())?;
            all.extend_from_slice(&bytes);
        }
        Ok((all, self.body.trailers().await?))
    }

    /// A response of these fields and this body, which `trailers` end.
    pub(super) fn answer(
        &mut self,
        fields: &[(&'static str, &str)],
        body: &[u8],
        trailers: &[(&'static str, &str)],
    ) {
        let mut head = Response::new(());
        *head.headers_mut() = map(fields);
        let ends = body.is_empty() && trailers.is_empty();
        let Ok(mut stream) = self.respond.send_response(head, ends) else { return };
        if !body.is_empty() {
            let _ = stream.send_data(Bytes::copy_from_slice(body), trailers.is_empty());
        }
        if !trailers.is_empty() {
            let _ = stream.send_trailers(map(trailers));
        }
    }

    pub(super) fn header(&self, name: &str) -> String {
        self.parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    }
}

pub(super) fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

type Act = dyn Fn(Asked) -> BoxFuture<'static, ()> + Send + Sync;

/// A target on loopback.
pub(super) struct Far {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    /// Open now.
    pub(super) open: Arc<AtomicUsize>,
    /// Ends the connections that it has: GOAWAY.
    pub(super) farewell: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Far {
    pub(super) async fn new<F>(act: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(act, 1000, None).await
    }

    /// `streams`: on one connection; over TLS where there is a server for it.
    pub(super) async fn with<F>(
        act: impl Fn(Asked) -> F + Send + Sync + 'static,
        streams: u32,
        server: Option<Server>,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let act: Arc<Act> = Arc::new(move |asked| Box::pin(act(asked)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let farewell = Arc::<Notify>::default();
        let (count, now) = (Arc::clone(&connections), Arc::clone(&open));
        let bye = Arc::clone(&farewell);
        let server = server.map(Arc::new);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                let (act, now, bye) = (Arc::clone(&act), Arc::clone(&now), Arc::clone(&bye));
                let server = server.clone();
                all.spawn(async move {
                    let stream = match server {
                        None => Some(Stream::Plain(stream)),
                        Some(server) => Handshakes::default().accept(stream, &server).await.ok(),
                    };
                    if let Some(stream) = stream {
                        serve(stream, streams, &*act, &bye).await;
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, connections, open, farewell, _tasks: tasks }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn serve(stream: Stream, streams: u32, act: &Act, farewell: &Notify) {
    let handshake = Builder::new().max_concurrent_streams(streams).handshake(stream).await;
    let Ok(mut connection) = handshake else { return };
    let mut exchanges = JoinSet::new();
    let mut farewell = std::pin::pin!(farewell.notified());
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (parts, body) = request.into_parts();
                    exchanges.spawn(act(Asked { parts, body, respond }));
                }
                _ => return,
            },
            () = &mut farewell => break,
        }
    }
    connection.graceful_shutdown();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        respond.send_reset(Reason::REFUSED_STREAM);
    }
}

/// A gRPC call of a client by hand.
pub(super) fn call(path: &str) -> Request<()> {
    let mut request = super::h2::request(http::Method::POST, path);
    *request.headers_mut() = map(&[("content-type", "application/grpc"), ("te", "trailers")]);
    request
}

/// What became of a call: `grpc-status` in the trailers, or in the head of a response of nothing
/// else.
pub(super) async fn status(response: h2::client::ResponseFuture) -> String {
    let answer = super::h2::answer(soon(response).await.unwrap()).await.unwrap();
    let fields = answer.trailers.as_ref().unwrap_or(&answer.headers);
    let status = fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
    let how = if answer.trailers.is_some() { "trailers" } else { "head" };
    format!("{} {} in {how}", answer.status, status.unwrap_or_else(|| "none".into()))
}

/// A way to a target on which no byte passes any more once it is told so, though nothing is closed.
pub(super) struct Way {
    pub(super) address: SocketAddr,
    silent: Arc<std::sync::Mutex<CancellationToken>>,
    _tasks: JoinSet<()>,
}

impl Way {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = Arc::<std::sync::Mutex<CancellationToken>>::default();
        let mut tasks = JoinSet::new();
        let own = Arc::clone(&silent);
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let silent = own.lock().unwrap().clone();
                all.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = silent.cancelled() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, silent, _tasks: tasks }
    }

    /// Nothing passes any more on the connections that there are.
    pub(super) fn silence(&self) {
        std::mem::take(&mut *self.silent.lock().unwrap()).cancel();
    }
}
