//! What containers with the log driver `awslogs` say, copied into streams on this machine.
//!
//! Docker keeps the output itself (`json-file`); one follower per container copies it, from where
//! the stream ends. **Invariant:** a container is removed only after its follower has copied all,
//! or had its time; the same line is never copied twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::engine::{Engine, Failure};
use super::shape::{LABEL_CONTAINER, LABEL_TASK};
use crate::model::LogConfiguration;
use crate::runtime::streams::{self, Stream};

/// ECS's name of the driver, and of its options.
pub(super) const DRIVER: &str = "awslogs";
const GROUP: &str = "awslogs-group";
const PREFIX: &str = "awslogs-stream-prefix";

pub(super) const LABEL_GROUP: &str = "roadstead.log-group";
pub(super) const LABEL_PREFIX: &str = "roadstead.log-prefix";

/// After a stream from the daemon that broke (ours).
const AGAIN: Duration = Duration::from_secs(1);
/// What a removal waits for the last lines (ours: they are there already).
const LAST_LINES: Duration = Duration::from_secs(10);
/// A line longer than this is cut into several; Docker does so at 16 KiB.
const LONGEST: usize = 64 << 10;

/// The labels that have a container's output followed.
pub(super) fn labels(log: Option<&LogConfiguration>) -> Vec<(&'static str, String)> {
    let Some(log) = log.filter(|log| log.driver == DRIVER) else { return Vec::new() };
    let label = |(option, label)| Some((label, log.options.get(option)?.clone()));
    [(GROUP, LABEL_GROUP), (PREFIX, LABEL_PREFIX)].into_iter().filter_map(label).collect()
}

/// Where the container's output goes; none: nowhere. ECS's name of a stream is
/// `PREFIX/CONTAINER/TASK`, without a prefix the container's id.
fn place(root: &Path, container: &ContainerInspectResponse) -> Option<PathBuf> {
    let labels = container.config.as_ref()?.labels.as_ref()?;
    let group = labels.get(LABEL_GROUP)?;
    let stream = match labels.get(LABEL_PREFIX) {
        Some(prefix) => {
            [prefix, labels.get(LABEL_CONTAINER)?, labels.get(LABEL_TASK)?].map(|s| &**s).join("/")
        }
        None => container.id.clone()?,
    };
    Some(streams::path(root, group, &stream))
}

#[derive(Debug)]
pub(super) struct Followers {
    root: PathBuf,
    handle: Handle,
    /// By container id; those that ended stay until the container goes.
    all: Mutex<BTreeMap<String, JoinHandle<()>>>,
}

impl Drop for Followers {
    fn drop(&mut self) {
        for follower in self.all.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            follower.abort();
        }
    }
}

impl Followers {
    pub(super) fn new(root: PathBuf, handle: Handle) -> Self {
        Self { root, handle, all: Mutex::default() }
    }

    /// Follows a container that asks for it, once.
    pub(super) fn see(&self, engine: &Arc<Engine>, container: &ContainerInspectResponse) {
        let ended = container.state.as_ref().and_then(|state| state.finished_at.as_deref());
        let has_begun = is_running(container) || ended > Some(NEVER);
        let (Some(path), Some(id)) = (place(&self.root, container), container.id.clone()) else {
            return;
        };
        if has_begun {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            // One that was started again has more to say.
            if is_running(container) && all.get(&id).is_some_and(JoinHandle::is_finished) {
                all.remove(&id);
            }
            all.entry(id.clone())
                .or_insert_with(|| self.handle.spawn(follow(Arc::clone(engine), id, path)));
        }
    }

    /// Waits until everything that the ended container said is copied.
    pub(super) async fn finish(&self, id: &str) {
        let follower = self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(mut follower) = follower
            && tokio::time::timeout(LAST_LINES, &mut follower).await.is_err()
        {
            tracing::warn!(container = id, "its last lines are not copied");
            follower.abort();
        }
    }
}

/// Docker's time of what never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Copies until the container has ended and said all.
async fn follow(engine: Arc<Engine>, id: String, path: PathBuf) {
    loop {
        match Stream::open(path.clone()).await {
            Ok(mut stream) => match copy(&engine, &id, &mut stream).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(container = id, error, "output broke off"),
            },
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot open log stream"),
        }
        match engine.inspect(&id).await {
            Ok(None) => return,
            Ok(Some(found)) if !is_running(&found) => {
                // It may have ended only now: what it said last comes with one more copy.
                if let Ok(mut stream) = Stream::open(path.clone()).await {
                    let _ = copy(&engine, &id, &mut stream).await;
                }
                return;
            }
            Ok(Some(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn is_running(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().is_some_and(|state| state.running == Some(true))
}

async fn copy(engine: &Engine, id: &str, stream: &mut Stream) -> Result<(), String> {
    let mut options =
        LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).timestamps(true);
    let since = stream.resumed().parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    if let Some(since) = since.and_then(|since| i32::try_from(since).ok()) {
        options = options.since(since);
    }
    let client = engine.client().map_err(|failure| text(&failure))?;
    let mut output = Box::pin(client.logs(id, Some(options.build())));
    // The two streams of a container come in frames of their own.
    let (mut out, mut error) = (Vec::new(), Vec::new());
    while let Some(frame) = output.next().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let open = if matches!(frame, LogOutput::StdErr { .. }) { &mut error } else { &mut out };
        open.extend_from_slice(&frame.into_bytes());
        while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = open.drain(..=end).collect();
            write(stream, &line).await?;
        }
        if open.len() > LONGEST {
            write(stream, &std::mem::take(open)).await?;
        }
    }
    write(stream, &out).await?;
    write(stream, &error).await
}

async fn write(stream: &mut Stream, line: &[u8]) -> Result<(), String> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\n', '\r']);
    stream.add(line).await.map_err(|error| error.to_string())
}

fn text(failure: &Failure) -> String {
    format!("{failure:?}")
}
