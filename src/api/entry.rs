//! The endpoint: connections, limits, the signature, which service and operation, the answer.
//!
//! Not here: what an operation does. **Invariant:** a request is read whole within its limits and
//! its signature verified before any operation sees it; every one is answered in its own wire
//! form.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{self, Manner, Users};
use super::answer;
use super::audit;
use super::call::{Api, Call, Input, Outcome};
use super::error::Error;
use super::events::{self, EventStream};
use super::keys::Keys;
use super::scope::Scope;
use super::services::{Found, Service, Services, Wire};
use super::session;
use super::sigv4::{self, Signed};
use super::wire::check::{self, Invalid};
use super::wire::schema::{Kind, Location, Operation, Protocol};
use super::wire::{cbor, query, xml};
use crate::clock;
use crate::net::ACCEPT_REST;
use crate::tls::{Handshakes, Server, Stream};

/// Clients that may be connected at once (ours); more wait in the backlog.
const CONNECTIONS: usize = 512;
/// Calls under way at once (ours); more are told to slow down.
const CALLS: usize = 256;
/// For a request's head (ours).
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request's body (ours).
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// An idle client connection is closed after it (ours; SDKs keep theirs for a minute).
const CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// For the last call of a connection that is being closed (ours).
const LAST_CALLS: Duration = Duration::from_secs(30);
/// A request's head, in bytes (ours: a presigned URL with a session token is 4 KiB).
const HEAD: usize = 64 * 1024;
/// A request's body, in bytes (ours: the largest document of AWS's is a trust store of 1 MiB).
const BODY: usize = 2 * 1024 * 1024;

/// Who may call.
#[derive(Debug)]
pub enum Auth {
    /// Whoever reaches the endpoint.
    None,
    /// Whoever signs with one of these keys, as far as its user may.
    Signatures(Keys, Users),
}

/// Serves until `stop`, then answers what is under way. With `server` it speaks HTTPS alone.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    auth: Arc<Auth>,
    server: Option<Server>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let secure = Arc::new(server.map(|server| (server, Handshakes::default())));
    tokio::select! {
        () = accept(listener, (&api, &auth, &secure), &connections, &stop) => {}
        () = stop.cancelled() => {}
    }
    connections.close();
    if tokio::time::timeout(LAST_CALLS, connections.wait()).await.is_err() {
        tracing::warn!("calls still under way are left to themselves");
    }
    api.sessions.wait().await;
}

/// What a handshake needs.
type Secure = Arc<Option<(Server, Handshakes)>>;

async fn accept(
    listener: TcpListener,
    (api, auth, secure): (&Arc<Api>, &Arc<Auth>, &Secure),
    connections: &TaskTracker,
    stop: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the API endpoint cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (api, auth, calls) = (Arc::clone(api), Arc::clone(auth), Arc::clone(&calls));
        let (secure, stop) = (Arc::clone(secure), stop.clone());
        connections.spawn(async move {
            let stream = match &*secure {
                None => Stream::Plain(stream),
                Some((server, handshakes)) => match handshakes.accept(stream, server).await {
                    Ok(stream) => stream,
                    Err(failure) => {
                        tracing::debug!(%client, %failure, "no handshake with a client of the API");
                        return;
                    }
                },
            };
            let cut = CancellationToken::new();
            let ends = Ends { cut: cut.clone(), stop: stop.clone() };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let entry = Entry {
                    api: Arc::clone(&api),
                    auth: Arc::clone(&auth),
                    calls: Arc::clone(&calls),
                    client,
                    is_secure: secure.is_some(),
                };
                let ends = ends.clone();
                async move { Ok::<_, Infallible>(entry.any(request, ends).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let closing = async {
                let old = tokio::time::sleep(CONNECTION_AGE);
                tokio::select! { () = stop.cancelled() => {}, () = old => {} }
            };
            tokio::select! {
                _ = connection.as_mut() => {}
                () = cut.cancelled() => {}
                () = closing => {
                    // The call under way is still answered.
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(LAST_CALLS, connection).await;
                }
            }
            drop(place);
        });
    }
}

/// How a stream of a connection ends before its client does.
#[derive(Clone)]
struct Ends {
    /// At once, with the connection.
    cut: CancellationToken,
    stop: CancellationToken,
}

type Body = Either<Full<Bytes>, EventStream>;

/// One request's surroundings.
struct Entry {
    api: Arc<Api>,
    auth: Arc<Auth>,
    calls: Arc<Semaphore>,
    client: SocketAddr,
    /// It came by TLS.
    is_secure: bool,
}

/// A request read whole.
struct Whole {
    parts: http::request::Parts,
    body: Bytes,
}

/// What a request asks for, before its document is read.
struct Asked {
    service: &'static Service,
    operation: &'static Operation,
    wire: Wire,
    /// Values of the path's placeholders.
    labels: Vec<(String, String)>,
    /// The parameters of Query, or of a REST path.
    pairs: Vec<(String, String)>,
}

/// Why a request got no operation.
struct Refusal {
    wire: Wire,
    service: Option<&'static Service>,
    error: Error,
}

impl Entry {
    /// A call, the stream of events, or the data channel of a session.
    async fn any(self, request: Request<Incoming>, ends: Ends) -> Response<Body> {
        if session::wants(request.method(), request.uri()) {
            return session::answer(&self.api.sessions, request, ends.stop).map(Either::Left);
        }
        if !events::wants(request.method(), request.uri()) {
            return self.answer(request).await.map(Either::Left);
        }
        let (parts, _) = request.into_parts();
        let whole = Whole { parts, body: Bytes::new() };
        let admitted = self.caller(&whole, true, "ecs").and_then(|caller| self.sees_all(caller));
        let headers = &whole.parts.headers;
        match admitted.and_then(|()| self.api.events.answer(headers, ends.cut, ends.stop)) {
            Ok(response) => response.map(Either::Right),
            Err(error) => {
                answer::refusal(Wire::Json(1), None, &error, &request_id()).map(Either::Left)
            }
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let id = request_id();
        let (parts, body) = request.into_parts();
        let wire = guess(&parts.headers, parts.uri.path());
        let limited = Limited::new(body, BODY).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, limited).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                let error = Error::new("RequestEntityTooLarge", error.to_string());
                return answer::refusal(wire, None, &error, &id);
            }
            Err(_) => {
                let error = Error::new("RequestTimeout", "the body did not arrive in time");
                return answer::refusal(wire, None, &error, &id);
            }
        };
        let whole = Whole { parts, body };
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else {
            let code = if wire.is_rpc() { "ThrottlingException" } else { "Throttling" };
            return answer::refusal(wire, None, &Error::new(code, "Rate exceeded"), &id);
        };
        // In a task of its own: a client that goes leaves no call half recorded.
        let own = id.clone();
        let running = tokio::spawn(async move {
            let _place = place;
            match self.run(&whole, wire, &own).await {
                Ok(response) => response,
                Err(Refusal { wire, service, error }) => {
                    answer::refusal(wire, service, &error, &own)
                }
            }
        });
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a call ended without an answer");
            let error = Error::Internal("the call ended without an answer".to_owned());
            answer::refusal(wire, None, &error, &id)
        })
    }

    async fn run(
        &self,
        whole: &Whole,
        wire: Wire,
        id: &str,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let scope = Scope::of(&whole.parts);
        let asked = asked(whole, wire, scope.as_ref().map(|scope| scope.service.as_str()))?;
        let (service, wire) = (asked.service, asked.wire);
        let mut call = Call {
            api: Arc::clone(&self.api),
            account: self.api.account.clone(),
            service,
            operation: asked.operation,
            request_id: id.to_owned(),
            caller: None,
            user: None,
            client: self.client.ip(),
            host: host(&whole.parts),
            is_secure: self.is_secure,
            now: clock::now(),
        };
        let started = clock::instant();
        let mut named = serde_json::Map::new();
        let outcome = self.perform(&mut call, whole, &asked, scope.as_ref(), &mut named).await;
        let response = match outcome {
            Ok(value) => answer::success(&call, wire, &value),
            Err(error) => answer::refusal(wire, Some(service), &error, id),
        };
        self.record(&call, &named, &response, started.elapsed());
        Ok(response)
    }

    /// Admits the caller, reads the document, whose names of resources go to `named`, and does what
    /// it asks for.
    async fn perform(
        &self,
        call: &mut Call,
        whole: &Whole,
        asked: &Asked,
        scope: Option<&Scope>,
        named: &mut serde_json::Map<String, serde_json::Value>,
    ) -> Outcome {
        call.caller = self.caller(whole, asked.wire.is_rpc(), asked.service.name.scope())?;
        if let (Auth::Signatures(_, users), Some(key)) = (&*self.auth, &call.caller) {
            call.user = users.get(key).cloned();
        }
        if let Some(scope) = scope.filter(|_| asked.service.name.is_regional()) {
            call.account = scope.account(&self.api.account)?;
        }
        match document(whole, asked) {
            Ok(value) => {
                *named = audit::named(&value);
                let agent = whole.parts.headers.get(http::header::USER_AGENT);
                let agent = agent.and_then(|agent| agent.to_str().ok());
                let manner = Manner { wire: asked.wire, agent };
                access::admit(call, &value, manner)?;
                let accepted = call.service.accepted();
                let input = Input { operation: call.name(), value, accepted };
                call.service.call(call, input).await
            }
            Err(Invalid::Type(text)) if asked.wire.is_rpc() => {
                Err(Error::new("SerializationException", text))
            }
            Err(invalid) => Err(Error::Invalid(invalid.to_string())),
        }
    }

    /// The stream of events tells of every resource: no policy could say which it may show.
    fn sees_all(&self, caller: Option<String>) -> Result<(), Error> {
        let (Auth::Signatures(_, users), Some(key)) = (&*self.auth, caller) else { return Ok(()) };
        match users.get(&key) {
            Some(user) if user.is_bounded() => Err(Error::new(
                "AccessDeniedException",
                "the stream of events is for keys without policies",
            )),
            _ => Ok(()),
        }
    }

    /// Whose key signed the request, for the service of the scope `own`.
    fn caller(&self, whole: &Whole, json: bool, own: &str) -> Result<Option<String>, Error> {
        let Auth::Signatures(keys, _) = &*self.auth else {
            return match is_from_a_page(&whole.parts.headers) {
                true => {
                    Err(Error::new("AccessDenied", "unsigned calls from web pages are refused"))
                }
                false => Ok(None),
            };
        };
        let uri = &whole.parts.uri;
        let signed = Signed {
            method: whole.parts.method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: &whole.parts.headers,
            body: &whole.body,
        };
        let caller = sigv4::verify(&signed, keys, clock::now()).map_err(|refusal| {
            let code = if json { refusal.json_code() } else { refusal.code() };
            Error::new(code, refusal.to_string())
        })?;
        if caller.service != own {
            let code = if json { "InvalidSignatureException" } else { "SignatureDoesNotMatch" };
            let text = format!("Credential should be scoped to correct service: '{own}'.");
            return Err(Error::new(code, text));
        }
        Ok(Some(caller.key_id))
    }

    /// The audit log's line and the metrics of one call.
    fn record(
        &self,
        call: &Call,
        named: &serde_json::Map<String, serde_json::Value>,
        response: &Response<Full<Bytes>>,
        took: Duration,
    ) {
        let code = response.extensions().get::<answer::Code>().map_or("", |code| code.0.as_str());
        let metrics = &self.api.metrics;
        let scope = call.service.name.scope();
        let labels = [scope, call.name(), if code.is_empty() { "OK" } else { code }];
        self.api.meters.counter(metrics, labels).add(metrics.control(), 1);
        self.api.meters.histogram(metrics, scope).observe(metrics.control(), took);
        if let Some(log) = &self.api.audit_log {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            log.log(&audit::record(call, named, code, micros));
        }
    }
}

/// Whether a browser may have sent this for some web page: it says where from, or asks for a name
/// that is not this machine's (DNS rebinding). AWS's clients do neither.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_ours = name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let is_elsewhere =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    !is_ours || is_elsewhere || headers.contains_key("origin")
}

/// What the client calls this endpoint.
fn host(parts: &http::request::Parts) -> String {
    let header = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = || parts.uri.authority().map(http::uri::Authority::as_str);
    header.or_else(authority).unwrap_or("localhost").to_owned()
}

/// A version 4 UUID. Names a call in answers and logs; no secret.
fn request_id() -> String {
    crate::model::uuid(&mut fastrand::Rng::new())
}

/// The wire form of a request that may be too broken to be read.
fn guess(headers: &HeaderMap, path: &str) -> Wire {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match kind {
        _ if headers.get("smithy-protocol").is_some_and(|name| name == RPC_V2) => Wire::Cbor,
        _ if headers.contains_key("x-amz-target") => {
            Wire::Json(if kind == Some("application/x-amz-json-1.0") { 0 } else { 1 })
        }
        _ if path.len() > 1 => Wire::RestXml,
        _ => Wire::Query,
    }
}

/// What the header `smithy-protocol` says of requests and answers in CBOR.
pub(super) const RPC_V2: &str = "rpc-v2-cbor";

/// Which operation of which service.
fn asked(whole: &Whole, wire: Wire, scope: Option<&str>) -> Result<Asked, Refusal> {
    let (headers, uri) = (&whole.parts.headers, &whole.parts.uri);
    let mut pairs = query::pairs(uri.query().unwrap_or_default());
    let mut labels = Vec::new();
    let (found, name) = match wire {
        Wire::Json(_) => {
            let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
            let target = target.unwrap_or_default();
            (Services::get().by_target(target), target.to_owned())
        }
        Wire::Cbor => (Services::get().by_rpc(uri.path()), uri.path().to_owned()),
        Wire::RestXml => {
            let (method, path) = (whole.parts.method.as_str(), uri.path());
            let (found, values) = Services::get().by_path(method, path, &pairs);
            labels = values;
            (found, format!("{method} {path}"))
        }
        Wire::Query | Wire::Ec2 => {
            pairs.extend(query::pairs(&String::from_utf8_lossy(&whole.body)));
            let value = |wanted: &str| {
                let mut found = pairs.iter().filter(|(name, _)| name == wanted);
                found.next().map(|(_, value)| value.clone()).unwrap_or_default()
            };
            let action = value("Action");
            (Services::get().by_action(scope, &value("Version"), &action), action)
        }
    };
    match found {
        Found::Operation(service, operation) => {
            let wire = match service.model.metadata.protocol {
                Protocol::Ec2 => Wire::Ec2,
                _ => wire,
            };
            Ok(Asked { service, operation, wire, labels, pairs })
        }
        Found::Service(service) => {
            let code = match wire {
                wire if wire.is_rpc() => "UnknownOperationException",
                _ => "InvalidAction",
            };
            let message = format!("{name} is no operation of {} here", service.name);
            Err(Refusal { wire, service: Some(service), error: Error::new(code, message) })
        }
        Found::Nothing => {
            let message = format!("{name:?} names no service of this endpoint");
            let error = Error::new("UnknownOperationException", message);
            Err(Refusal { wire, service: None, error })
        }
    }
}

/// The request's canonical document.
fn document(whole: &Whole, asked: &Asked) -> Result<serde_json::Value, Invalid> {
    let model = &asked.service.model;
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let Some(shape) = asked.operation.input else { return Ok(empty()) };
    let text = || {
        std::str::from_utf8(&whole.body).map_err(|_| Invalid::Type("the body is no UTF-8".into()))
    };
    let value = match asked.wire {
        Wire::Json(_) if whole.body.is_empty() => empty(),
        Wire::Json(_) => serde_json::from_slice(&whole.body)
            .map_err(|error| Invalid::Type(format!("the body is no JSON: {error}")))?,
        Wire::Cbor if whole.body.is_empty() => empty(),
        Wire::Cbor => cbor::decode(&whole.body)?,
        Wire::Query => query::decode(model, shape, asked.pairs.clone(), false)?,
        Wire::Ec2 => query::decode(model, shape, asked.pairs.clone(), true)?,
        Wire::RestXml => {
            let whole_shape = model.shape(shape);
            let Kind::Structure(members) = &whole_shape.kind else { return Ok(empty()) };
            let payload = whole_shape.payload.as_deref();
            let payload = members.iter().find(|member| Some(member.name.as_str()) == payload);
            let mut value = match (whole.body.is_empty(), payload) {
                (true, _) => empty(),
                (false, None) => xml::decode(model, shape, text()?)?,
                (false, Some(member)) => {
                    let inner = xml::decode(model, member.shape, text()?)?;
                    serde_json::json!({ &member.name: inner })
                }
            };
            for member in members {
                let name = member.wire_name();
                let source = match member.location {
                    Location::Uri => &asked.labels,
                    Location::QueryString => &asked.pairs,
                    _ => continue,
                };
                if let Some((_, text)) = source.iter().find(|(given, _)| given == name) {
                    let kind = &model.shape(member.shape).kind;
                    value[&member.name] = query::scalar(kind, text, name)?;
                }
            }
            value
        }
    };
    check::input(model, shape, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_from_clients() {
        let check = |fields: &[(&'static str, &'static str)], expected: bool| {
            let field = |(name, value): &(&'static str, &'static str)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            };
            let headers: HeaderMap = fields.iter().map(field).collect();
            assert_eq!(is_from_a_page(&headers), expected, "{fields:?}");
        };
        check(&[("host", "127.0.0.1:4566")], false);
        check(&[("host", "[::1]:4566")], false);
        check(&[("host", "localhost:4566")], false);
        check(&[("host", "data-x.localhost")], false);
        check(&[("host", "evil.example:4566")], true);
        check(&[("host", "10.0.0.1:4566")], true);
        check(&[("host", "127.0.0.1"), ("origin", "http://evil.example")], true);
        check(&[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")], true);
        check(&[("host", "127.0.0.1"), ("sec-fetch-site", "none")], false);
    }
}
