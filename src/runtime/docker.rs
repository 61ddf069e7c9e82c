//! Containers on a local Docker Engine (API 1.41 and newer), through its socket.
//!
//! Containers have deterministic names and our labels; after a restart they are found by those.
//! They publish no ports: they are reached at their address in the bridge network. Not here:
//! health checks, restarts (Docker's are switched off). **Invariant:** a container without this
//! cluster's label is never touched, whatever its name.

mod credentials;
mod engine;
mod events;
mod exec;
mod host;
mod images;
mod logs;
mod network;
mod pause;
mod pull;
mod rest;
mod shape;
mod volumes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, ContainerStatsResponse};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use self::engine::{CREATE, Engine, Failure, LIST, REMOVE, STATS, STOP};
use self::images::Images;
use self::logs::Followers;
use self::pause::Pause;
use super::{ContainerSpec, EVENTS, Exec, Reach, Runtime, RuntimeError, RuntimeEvent, Session};
use crate::clock::{Instant, instant};
use crate::config::ImageSettings;
use crate::metrics::{Counter, Metrics, names};
use crate::model::{Capacity, NetworkMode, Observed, ObservedState, TaskId, Usage};

/// What Docker calls its own bridge.
const DEFAULT_NETWORK: &str = "bridge";
/// Containers that a list inspects at the same time.
const INSPECTED_AT_ONCE: usize = 16;
/// Stop requests that are sent for one stop, each with its whole time: the daemon loses one now and
/// then.
const STOP_TRIES: u32 = 2;
/// Between two looks for what was left behind (ours).
const SWEEP: Duration = Duration::from_secs(60);
/// While another removal of the same container is under way.
const REMOVE_POLL: Duration = Duration::from_millis(100);

/// A counter with the cell that the control side counts in.
#[derive(Debug)]
struct Cut {
    counter: Counter,
    cell: usize,
}

impl Cut {
    fn add(&self) {
        self.counter.add(self.cell, 1);
    }
}

/// The Docker runtime. Dropping it leaves the containers running.
#[derive(Debug)]
pub struct Docker {
    engine: Arc<Engine>,
    cluster_uid: String,
    network: Option<String>,
    /// Read while a container is made, with what it needs before; written while what nobody needs
    /// is removed.
    making: tokio::sync::RwLock<()>,
    /// When that was last done.
    swept_at: Mutex<Option<Instant>>,
    /// None: there is no folder for log streams.
    followers: Option<Followers>,
    /// Addresses that did not rest for as long as they were to. None: nobody counts.
    cut: Option<Cut>,
    images: Arc<Images>,
    events: broadcast::Sender<RuntimeEvent>,
    /// What goes on beside the calls.
    beside: Vec<AbortHandle>,
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.beside.iter().for_each(AbortHandle::abort);
    }
}

impl Docker {
    /// A runtime on the daemon at `endpoint` (`unix:///var/run/docker.sock`), which need not be up
    /// yet. `network` is the Docker network that containers join; none means the daemon's own
    /// bridge. Call it inside a tokio runtime.
    pub fn connect(
        endpoint: &str,
        cluster_uid: &str,
        network: Option<String>,
    ) -> Result<Self, RuntimeError> {
        let handle = Handle::try_current()
            .map_err(|error| RuntimeError::Unavailable(format!("docker: {error}")))?;
        let engine = Arc::new(Engine::new(endpoint)?);
        let events = broadcast::Sender::new(EVENTS);
        let follower = events::run(Arc::clone(&engine), cluster_uid.to_owned(), events.clone());
        let follower = handle.spawn(follower).abort_handle();
        Ok(Self {
            engine,
            cluster_uid: cluster_uid.to_owned(),
            network,
            making: tokio::sync::RwLock::default(),
            swept_at: Mutex::default(),
            followers: None,
            cut: None,
            images: Arc::default(),
            events,
            beside: vec![follower],
        })
    }

    /// Keeps what containers with the log driver `awslogs` say in streams under `directory` (see
    /// [`streams`](super::streams)). Call it inside a tokio runtime.
    #[must_use]
    pub fn keep_logs(mut self, directory: &Path) -> Self {
        self.followers = Some(Followers::new(directory.to_owned(), Handle::current()));
        self
    }

    /// Counts addresses that did not rest for as long as they were to.
    #[must_use]
    pub fn count(mut self, metrics: &Metrics) -> Self {
        let counter = metrics.counter(&names::RESTS_CUT, &["address"]);
        self.cut = Some(Cut { counter, cell: metrics.control() });
        self
    }

    /// Pulls images as these say, and keeps in the file `record` which ones, to remove them when
    /// nobody needs them any more. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The file of credentials cannot be taken.
    pub fn keep_images(mut self, settings: &ImageSettings, record: &Path) -> std::io::Result<Self> {
        if let Some(file) = &settings.credentials_file {
            credentials::login(file, "").map_err(std::io::Error::other)?;
        }
        self.images = Arc::new(Images::open(settings.clone(), record.to_owned()));
        if !settings.cleanup_interval.is_zero() {
            let cleaner = Arc::clone(&self.images).clean_always(Arc::clone(&self.engine));
            self.beside.push(Handle::current().spawn(cleaner).abort_handle());
        }
        Ok(self)
    }

    fn name(&self, task: &TaskId, container: &str) -> String {
        shape::name(&self.cluster_uid, task, container)
    }

    /// The container by its name or id, if there is one and it is ours.
    async fn find(&self, name: &str) -> Result<Option<Observed>, Failure> {
        let Some(found) = self.engine.inspect(name).await? else { return Ok(None) };
        let observed = shape::observed(&found, &self.cluster_uid, self.network.as_deref());
        if let Some(followers) = self.followers.as_ref().filter(|_| observed.is_some()) {
            followers.see(&self.engine, &found);
        }
        let pause = pause::joined(&found);
        match (observed, pause) {
            (Some(observed), Some(pause)) if observed.state == ObservedState::Running => {
                self.joined(observed, pause).await.map(Some)
            }
            (observed, _) => Ok(observed),
        }
    }

    /// A running container with the address of its pause; without a pause it is killed.
    async fn joined(
        &self,
        mut observed: Observed,
        (pause, is_network): (&str, bool),
    ) -> Result<Observed, Failure> {
        match self.look_at_pause(pause).await? {
            Pause::At(address) if is_network => observed.address = address,
            Pause::At(_) => {}
            Pause::Gone => {
                tracing::warn!(task = %observed.task, "its pause container is gone");
                match self.kill(&observed.runtime_id).await {
                    Ok(()) | Err(Failure::Gone(_) | Failure::Conflict(_)) => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(observed)
    }

    /// The container of a call that cannot do without it.
    async fn expect(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        let found = self.find(&self.name(task, container)).await;
        found.map_err(|failure| failure.into_error(RuntimeError::Unavailable))?.ok_or_else(|| {
            RuntimeError::Vanished(format!("no container {container} of task {task}"))
        })
    }

    async fn create_once(&self, name: &str, body: &ContainerCreateBody) -> Result<String, Failure> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let body = body.clone();
        let created = self.engine.call(CREATE, |client| async move {
            client.create_container(Some(options), body).await
        });
        Ok(created.await?.id)
    }

    /// Makes the container, and what it needs before.
    async fn make(&self, spec: &ContainerSpec) -> Result<Observed, RuntimeError> {
        let body = shape::request(spec, &self.cluster_uid, self.network.as_deref())?;
        let asks = spec.definition.log.as_ref().is_some_and(|log| log.driver == logs::DRIVER);
        if asks && self.followers.is_none() {
            let text = "logConfiguration: there is no folder for log streams";
            return Err(RuntimeError::CannotCreate(text.to_owned()));
        }
        self.make_volumes(spec).await?;
        if pause::is_needed(spec) {
            self.make_pause(spec).await?;
        }
        let name = self.name(&spec.task, &spec.definition.name);
        let failed = |failure: Failure| failure.into_error(RuntimeError::CannotCreate);
        let image = body.image.as_deref().unwrap_or_default();
        let not_pulled = self.pull_first(image, &name).await?;
        let mut created = self.create_once(&name, &body).await;
        if let Err(Failure::Gone(_)) = created {
            // The image is gone; that says nothing of a container that was made of it before.
            if let Some(found) = self.find(&name).await.map_err(failed)? {
                return Ok(found);
            }
            not_pulled.map_or(Ok(()), Err)?;
            self.pull(image).await?;
            created = self.create_once(&name, &body).await;
        }
        match created {
            Ok(id) => {
                let container = spec.definition.name.clone();
                let state = ObservedState::Created;
                Ok(Observed::new(spec.task.clone(), container, id, state, None))
            }
            Err(Failure::Conflict(text)) => {
                let found = self.find(&name).await.map_err(failed)?;
                let is_it = |found: &Observed| {
                    found.task == spec.task && found.container == spec.definition.name
                };
                found.filter(is_it).ok_or(RuntimeError::CannotCreate(text))
            }
            // Still no image, or no network of that name: no container has vanished.
            Err(Failure::Gone(text)) => Err(RuntimeError::CannotCreate(text)),
            Err(failure) => Err(failed(failure)),
        }
    }

    /// Every container of ours.
    async fn all(&self) -> Result<Vec<Observed>, Failure> {
        let label = format!("{}={}", shape::LABEL_CLUSTER, self.cluster_uid);
        let filters = [("label", vec![label])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let all = self.engine.retry(LIST, |client| {
            let options = options.clone();
            async move { client.list_containers(Some(options)).await }
        });
        let ids = all.await?.into_iter().filter_map(|summary| summary.id);
        // Only an inspection tells the exit code.
        let mut found = stream::iter(ids)
            .map(|id| async move { self.find(&id).await })
            .buffer_unordered(INSPECTED_AT_ONCE);
        let mut observed = Vec::new();
        while let Some(one) = found.next().await {
            observed.extend(one?);
        }
        Ok(observed)
    }

    /// Removes the pauses and volumes of tasks of which nothing else is left: a process ended in
    /// between, or somebody removed the containers. Only where there is something to remove is
    /// nothing made meanwhile: a slow engine must not hold up what is to start. False: not now, a
    /// container is being made.
    async fn sweep(&self, live: &BTreeSet<TaskId>) -> Result<bool, Failure> {
        let pauses = self.pauses().await?;
        let is_left = pause::is_beside(&pauses, live);
        self.sweep_resting(pauses).await?;
        if !is_left && !self.has_volumes_beside(live).await? {
            return Ok(true);
        }
        let Ok(_alone) = self.making.try_write() else { return Ok(false) };
        let live = self.all().await?.into_iter().map(|container| container.task).collect();
        self.sweep_pauses(&live).await?;
        self.sweep_volumes(&live).await?;
        Ok(true)
    }

    /// After a container that could not be made: what nobody uses goes as well.
    async fn clear(&self, task: &TaskId) {
        let cleared = async {
            let has_others = self.all().await?.iter().any(|other| &other.task == task);
            if !has_others {
                self.remove_pause(task).await?;
                self.remove_volumes(task).await?;
            }
            Ok::<_, Failure>(())
        };
        if let Err(failure) = cleared.await {
            tracing::warn!(%task, ?failure, "left behind until the next start");
        }
    }

    /// None: no container of ours runs under this id.
    async fn running(&self, id: &str) -> Result<Option<Observed>, Failure> {
        let found = self.find(id).await?;
        Ok(found.filter(|observed| observed.state == ObservedState::Running))
    }

    async fn start_once(&self, found: &Observed) -> Result<(), RuntimeError> {
        let id = found.runtime_id.as_str();
        self.start_pause(id).await?;
        match self.start_somewhere(id).await {
            Err(Failure::Refused(text)) if network::is_taken(&text) => {
                Err(RuntimeError::PortTaken(text))
            }
            other => other.map_err(|failure| failure.into_error(RuntimeError::CannotStart)),
        }
    }

    /// What Docker counts of a container. None: it does not run.
    async fn statistics(
        &self,
        task: &TaskId,
        container: &str,
        one_shot: bool,
    ) -> Result<Option<ContainerStatsResponse>, RuntimeError> {
        let found = self.expect(task, container).await?;
        if found.state != ObservedState::Running {
            return Ok(None);
        }
        let id = found.runtime_id.as_str();
        let options = StatsOptionsBuilder::default().stream(false).one_shot(one_shot).build();
        let stats = self.engine.call(STATS, |client| async move {
            Box::pin(client.stats(id, Some(options))).next().await.transpose()
        });
        let stats = stats.await.map_err(|failure| failure.into_error(RuntimeError::Unavailable))?;
        let gone = || RuntimeError::Vanished(format!("no container {container} of task {task}"));
        stats.map(Some).ok_or_else(gone)
    }

    async fn stop_once(&self, id: &str, grace: Duration) -> Result<(), Failure> {
        // Docker counts whole seconds; rather one more than one less.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stopped = self.engine.call(grace + STOP, |client| async move {
            client.stop_container(id, Some(options)).await
        });
        stopped.await
    }

    async fn kill(&self, id: &str) -> Result<(), Failure> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = self
            .engine
            .call(STOP, |client| async move { client.kill_container(id, Some(options)).await });
        killed.await
    }
}

#[async_trait]
impl Runtime for Docker {
    async fn create(&self, spec: &ContainerSpec) -> Result<Observed, RuntimeError> {
        let _making = self.making.read().await;
        let created = self.make(spec).await;
        if created.as_ref().is_err_and(|error| !error.is_passing()) {
            self.clear(&spec.task).await;
        }
        created
    }

    async fn start(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        let found = self.expect(task, container).await?;
        if found.state != ObservedState::Created {
            // Docker would start one that exited again.
            return Ok(found);
        }
        self.start_once(&found).await?;
        self.expect(task, container).await
    }

    async fn restart(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        let found = self.expect(task, container).await?;
        if found.state == ObservedState::Running {
            return Ok(found);
        }
        self.start_once(&found).await?;
        self.expect(task, container).await
    }

    async fn stop(
        &self,
        task: &TaskId,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let failed = |failure: Failure| failure.into_error(RuntimeError::CannotStop);
        let found = self.find(&self.name(task, container)).await.map_err(failed)?;
        let Some(found) = found.filter(|found| found.state == ObservedState::Running) else {
            return Ok(());
        };
        let id = found.runtime_id;
        for _ in 0..STOP_TRIES {
            match self.stop_once(&id, grace).await {
                Ok(()) | Err(Failure::Gone(_)) => return Ok(()),
                Err(failure) => tracing::warn!(container = id, ?failure, "docker did not stop it"),
            }
            // It may be gone all the same; if the daemon is, nothing may be concluded.
            if self.running(&id).await.map_err(failed)?.is_none() {
                return Ok(());
            }
        }
        // It has had its grace more than once.
        let killed = self.kill(&id).await;
        match self.running(&id).await.map_err(failed)? {
            None => Ok(()),
            Some(_) => Err(killed.err().map_or_else(
                || RuntimeError::Timeout(format!("{container}: still there after SIGKILL")),
                failed,
            )),
        }
    }

    async fn remove(&self, task: &TaskId, container: &str) -> Result<(), RuntimeError> {
        let failed = |failure: Failure| failure.into_error(RuntimeError::Unavailable);
        let found = self.find(&self.name(task, container)).await.map_err(failed)?;
        let Some(found) = found else { return Ok(()) };
        let id = found.runtime_id.as_str();
        if let Some(followers) =
            self.followers.as_ref().filter(|_| found.state != ObservedState::Running)
        {
            followers.finish(id).await;
        }
        let is_last = found.state != ObservedState::Running;
        if is_last && !self.runs(task).await.map_err(failed)? {
            self.remove_pause(task).await.map_err(failed)?;
        }
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        let removed = self.engine.retry(REMOVE, |client| {
            let options = options.clone();
            async move { client.remove_container(id, Some(options)).await }
        });
        let text = match removed.await {
            Ok(()) | Err(Failure::Gone(_)) => {
                return self.remove_volumes(task).await.map_err(failed);
            }
            Err(Failure::Conflict(text)) => text,
            Err(failure) => return Err(failed(failure)),
        };
        // It runs, or it is being removed already.
        let deadline = instant() + REMOVE;
        while let Some(found) = self.find(id).await.map_err(failed)? {
            if found.state == ObservedState::Running {
                return Err(RuntimeError::CannotStop(text));
            }
            if instant() >= deadline {
                return Err(RuntimeError::Timeout(text));
            }
            tokio::time::sleep(REMOVE_POLL).await;
        }
        self.remove_volumes(task).await.map_err(failed)
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        let failed = |failure: Failure| failure.into_error(RuntimeError::Unavailable);
        let observed = self.all().await.map_err(failed)?;
        let swept_at = *self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        if swept_at.is_none_or(|at| at.elapsed() >= SWEEP) {
            let live = observed.iter().map(|container| container.task.clone()).collect();
            match self.sweep(&live).await {
                Ok(true) => {
                    let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
                    *swept_at = Some(instant());
                }
                Ok(false) => {}
                // What is left behind takes room; what runs is more important.
                Err(failure) => tracing::warn!(?failure, "what is left behind stays for now"),
            }
        }
        Ok(observed)
    }

    async fn usage(&self, task: &TaskId, container: &str) -> Result<Usage, RuntimeError> {
        // One shot: without it the daemon waits for a second sample.
        let stats = self.statistics(task, container, true).await?;
        Ok(stats.as_ref().map(shape::usage).unwrap_or_default())
    }

    async fn stats(
        &self,
        task: &TaskId,
        container: &str,
    ) -> Result<serde_json::Value, RuntimeError> {
        let stats = self.statistics(task, container, false).await?;
        serde_json::to_value(stats).map_err(|error| RuntimeError::Unavailable(error.to_string()))
    }

    async fn keep_address(&self, task: &TaskId, rest: Duration) -> Result<(), RuntimeError> {
        let kept = self.rest_pause(task, rest).await;
        kept.map_err(|failure| failure.into_error(RuntimeError::Unavailable))
    }

    async fn capacity(&self) -> Result<Capacity, RuntimeError> {
        let capacity = self.engine.capacity().await;
        capacity.map_err(|failure| failure.into_error(RuntimeError::Unavailable))
    }

    async fn reach(&self, mode: Option<NetworkMode>) -> Result<Reach, RuntimeError> {
        match mode {
            Some(NetworkMode::Host) => return Ok(Reach::Loopback),
            Some(NetworkMode::None) => return Ok(Reach::Nowhere),
            None | Some(NetworkMode::Bridge | NetworkMode::Awsvpc) => {}
        }
        let network = self.network.as_deref().unwrap_or(DEFAULT_NETWORK);
        let gateway = self.engine.gateway(network).await;
        let gateway = gateway.map_err(|failure| failure.into_error(RuntimeError::Unavailable))?;
        Ok(gateway.map_or(Reach::Nowhere, Reach::At))
    }

    async fn exec(
        &self,
        task: &TaskId,
        container: &str,
        asked: &Exec,
    ) -> Result<Session, RuntimeError> {
        let found = self.expect(task, container).await?;
        self.execute(&found.runtime_id, asked).await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }
}
