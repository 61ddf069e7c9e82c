//! The task metadata endpoint, version 4, and the agent's endpoint beside it: what containers ask
//! about themselves.
//!
//! A container is known by the id in its path, which only it was told. Not here: the ids
//! (`orchestrator::Endpoint`), the shapes (`ecs::metadata`), the sockets (`app`). **Invariant:** an
//! id gives what concerns its own task, and nothing else; the only thing that it changes is that
//! task's protection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::ecs::metadata::{View, started};
use super::ecs::protection;
use super::error::Error;
use crate::clock;
use crate::model::{Account, InstanceKind, Task, uuid};
use crate::net::ACCEPT_REST;
use crate::orchestrator::Endpoint;
use crate::runtime::{Fleet, RuntimeError};
use crate::state::Store;

/// Clients that may be connected at once (ours); more wait in the backlog.
const CONNECTIONS: usize = 256;
/// For a request's head and for its body (ours).
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// One connection's greatest age (ours): an idle client does not keep its place.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// A request's body, in bytes (ours: it has two members).
const BODY: usize = 4096;

/// What answers are read from.
#[derive(Debug)]
pub struct Metadata {
    pub store: Store,
    pub account: Account,
    pub fleet: Fleet,
    pub endpoint: Arc<Endpoint>,
    /// What Docker's names of containers begin with.
    pub docker: String,
}

/// A path behind its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Container,
    Task { with_tags: bool },
    ContainerStats,
    TaskStats,
    Protection,
}

impl Asked {
    /// The id, and what is asked of it.
    fn read(path: &str) -> Option<(&str, Self)> {
        let mut parts = path.trim_end_matches('/').splitn(4, '/').skip(1);
        let (kind, id) = (parts.next()?, parts.next()?);
        let asked = match (kind, parts.next().unwrap_or_default()) {
            ("v4", "") => Self::Container,
            ("v4", "task") => Self::Task { with_tags: false },
            ("v4", "taskWithTags") => Self::Task { with_tags: true },
            ("v4", "stats") => Self::ContainerStats,
            ("v4", "task/stats") => Self::TaskStats,
            ("api", "task-protection/v1/state") => Self::Protection,
            _ => return None,
        };
        Some((id, asked))
    }
}

type Answer = (StatusCode, Value);

/// Serves until dropped.
pub async fn serve(listener: TcpListener, metadata: Arc<Metadata>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let metadata = Arc::clone(&metadata);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let metadata = Arc::clone(&metadata);
                async move {
                    let (status, value) = metadata.answer(request).await;
                    Ok::<_, Infallible>(response(status, &value))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_AGE, connection).await;
            drop(place);
        });
    }
}

fn response(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl Metadata {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let state = self.store.read();
        let found = Asked::read(parts.uri.path())
            .and_then(|(id, asked)| Some((self.endpoint.find(&state, id)?, asked)));
        let Some(((task, container), asked)) = found else {
            return (StatusCode::NOT_FOUND, "there is no such container".into());
        };
        let may_change = asked == Asked::Protection && parts.method == Method::PUT;
        if parts.method != Method::GET && !may_change {
            return (StatusCode::METHOD_NOT_ALLOWED, "only GET".into());
        }
        let kind = state.instances.get(&task.instance).map(|instance| instance.kind);
        let docker = (kind == Some(InstanceKind::Docker)).then_some(self.docker.as_str());
        let view = View { account: &self.account, state: &state, task, docker };
        match asked {
            Asked::Container => match view.container(container) {
                Some(shown) => (StatusCode::OK, shown),
                None => (StatusCode::NOT_FOUND, "there is no such container".into()),
            },
            Asked::Task { with_tags } => (StatusCode::OK, view.task(with_tags)),
            Asked::ContainerStats => self.stats(task, container).await,
            Asked::TaskStats => self.task_stats(task).await,
            Asked::Protection if may_change => self.protect(task, body).await,
            Asked::Protection => {
                (StatusCode::OK, protection::own(&self.account, &state, task, clock::now()))
            }
        }
    }

    async fn stats(&self, task: &Task, container: &str) -> Answer {
        match self.ask(task, container).await {
            Ok(stats) => (StatusCode::OK, stats),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
        }
    }

    async fn ask(&self, task: &Task, container: &str) -> Result<Value, RuntimeError> {
        self.fleet.of(task)?.stats(&task.id, container).await
    }

    /// By the runtime's ids; null of a container that does not run.
    async fn task_stats(&self, task: &Task) -> Answer {
        let asking = started(task).map(|(name, id)| async move {
            (id.to_owned(), self.ask(task, name).await.unwrap_or_default())
        });
        let stats: Map<String, Value> =
            futures_util::future::join_all(asking).await.into_iter().collect();
        (StatusCode::OK, Value::Object(stats))
    }

    async fn protect(&self, task: &Task, body: Incoming) -> Answer {
        let account = &self.account;
        let refused = |status, code: &str, message: String| {
            let arn = account.task(&task.cluster, &task.id).to_string();
            let error = json!({ "Arn": arn, "Code": code, "Message": message });
            let id = uuid(&mut fastrand::Rng::new());
            (status, json!({ "requestID": id, "error": error }))
        };
        let read = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, BODY).collect()).await;
        let Ok(Ok(body)) = read else {
            let message = "the body did not arrive, or is too long".to_owned();
            return refused(StatusCode::BAD_REQUEST, "BadRequest", message);
        };
        let (body, now) = (body.to_bytes(), clock::now());
        match protection::own_update(&self.store, account, task, &body, now).await {
            Ok(answer) => (StatusCode::OK, answer),
            Err(Error::Invalid(message)) => {
                refused(StatusCode::BAD_REQUEST, "InvalidParameterException", message)
            }
            Err(error) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                refused(status, "ServerException", error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_an_id_and_what_is_asked_of_it() {
        let check = |path: &str, expected: Option<Asked>| {
            let expected = expected.map(|asked| ("x-1", asked));
            assert_eq!(Asked::read(path), expected, "{path}");
        };
        check("/v4/x-1", Some(Asked::Container));
        check("/v4/x-1/", Some(Asked::Container));
        check("/v4/x-1/task", Some(Asked::Task { with_tags: false }));
        check("/v4/x-1/taskWithTags", Some(Asked::Task { with_tags: true }));
        check("/v4/x-1/stats", Some(Asked::ContainerStats));
        check("/v4/x-1/task/stats", Some(Asked::TaskStats));
        check("/api/x-1/task-protection/v1/state", Some(Asked::Protection));
        check("/api/x-1", None);
        check("/v3/x-1", None);
        check("/v4/x-1/tasks", None);
        check("/v4", None);
        check("/", None);
    }
}
