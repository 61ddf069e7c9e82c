//! Containers as child processes: no Docker, no root, no images.
//!
//! A container's entry point and command run as one process that leads its own session and group,
//! with its output appended straight to a file, so that it outlives us. What a definition says of
//! images, CPU shares and Docker labels means nothing here; the memory limit is held by looking at
//! it each second. **Invariant:** a container has one process at most, and each process of ours is
//! known here or found again: the file tells its number and start time, the marker in its
//! environment tells the rest.
//!
//! Files, under the runtime's directory: `TASK/CONTAINER.json` (what was asked for and what became
//! of it) and `TASK/CONTAINER.log`, `.log.1` to `.log.3`.

mod adopt;
mod check;
mod exec;
mod proc_fs;
mod record;
mod spawn;
mod upkeep;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch as channel};
use tokio::task::AbortHandle;

use self::record::Record;
use self::watch::{KILL_WAIT, Order};
use super::stats;
use super::{ContainerSpec, EVENTS, Exec, Reach, Runtime, RuntimeError, RuntimeEvent, Session};
use crate::clock::instant;
use crate::model::{CORE, Capacity, ContainerHealth, NetworkMode, Observed, TaskId, Usage};
use crate::sys::{self, PidFd, Signal};

/// The variable that names a process's container: `CLUSTER_UID/TASK/CONTAINER`.
const MARKER: &str = "ROADSTEAD_CONTAINER";

/// Between the two readings that rates follow from, as with Docker.
const STATS_APART: Duration = Duration::from_secs(1);

type Key = (TaskId, String);

/// The process runtime. Dropping it leaves the processes running.
#[derive(Debug)]
pub struct Process {
    inner: Arc<Inner>,
    upkeep: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    cluster_uid: String,
    boot: String,
    entries: Mutex<BTreeMap<Key, Arc<Entry>>>,
    /// Held while a container is made, so that two calls make one.
    making: Arc<tokio::sync::Mutex<()>>,
    events: broadcast::Sender<RuntimeEvent>,
    handle: Handle,
}

/// One container.
#[derive(Debug)]
struct Entry {
    key: Key,
    /// Held while the container is started or removed.
    turn: Arc<tokio::sync::Mutex<()>>,
    live: Mutex<Live>,
    order: channel::Sender<Order>,
    /// The process has ended, and its group with it.
    gone: channel::Sender<bool>,
}

#[derive(Debug)]
struct Live {
    record: Record,
    health: ContainerHealth,
    watcher: Option<AbortHandle>,
    is_removed: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.upkeep.abort();
        for entry in self.inner.entries() {
            if let Some(watcher) = entry.lock().watcher.take() {
                watcher.abort();
            }
        }
    }
}

impl Process {
    /// Opens the runtime on its directory and adopts what runs. Call it inside a tokio runtime; it
    /// reads `/proc` once and blocks for that long.
    pub fn open(directory: &Path, cluster_uid: &str) -> Result<Self, RuntimeError> {
        let unavailable = |what: &dyn std::fmt::Display, error: &dyn std::fmt::Display| {
            RuntimeError::Unavailable(format!("{what}: {error}"))
        };
        std::fs::create_dir_all(directory).map_err(|e| unavailable(&directory.display(), &e))?;
        let directory =
            directory.canonicalize().map_err(|e| unavailable(&directory.display(), &e))?;
        let boot = proc_fs::boot_id().map_err(|e| unavailable(&"boot id", &e))?;
        let handle = Handle::try_current().map_err(|e| unavailable(&"process runtime", &e))?;
        let found = adopt::adopt(&directory, cluster_uid, &boot)?;
        let inner = Arc::new(Inner {
            directory,
            cluster_uid: cluster_uid.to_owned(),
            boot,
            entries: Mutex::default(),
            making: Arc::default(),
            events: broadcast::Sender::new(EVENTS),
            handle,
        });
        for (record, fd) in found {
            let entry = inner.insert(record);
            match fd {
                Some(fd) => inner
                    .watch(&entry, fd)
                    .map_err(|(_, error)| unavailable(&"process descriptor", &error))?,
                None => {
                    entry.gone.send_replace(true);
                }
            }
        }
        let upkeep = tokio::spawn(upkeep::run(Arc::downgrade(&inner))).abort_handle();
        Ok(Self { inner, upkeep })
    }

    /// Where the container's output goes.
    #[must_use]
    pub fn log(&self, task: &TaskId, container: &str) -> PathBuf {
        record::path(&self.inner.directory, task, container, upkeep::LOG)
    }
}

impl Inner {
    fn send(&self, event: RuntimeEvent) {
        // Nobody listening is fine: whoever comes later looks for himself.
        let _ = self.events.send(event);
    }

    fn changed(&self, key: &Key) {
        self.send(RuntimeEvent::Changed { task: key.0.clone(), container: key.1.clone() });
    }

    fn marker(&self, key: &Key) -> String {
        format!("{MARKER}={}/{}/{}", self.cluster_uid, key.0, key.1)
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.map().values().cloned().collect()
    }

    fn find(&self, task: &TaskId, container: &str) -> Option<Arc<Entry>> {
        self.map().get(&(task.clone(), container.to_owned())).cloned()
    }

    fn insert(&self, record: Record) -> Arc<Entry> {
        let key = record.key();
        let entry = Arc::new(Entry {
            key: key.clone(),
            turn: Arc::default(),
            live: Mutex::new(Live {
                record,
                health: ContainerHealth::Unknown,
                watcher: None,
                is_removed: false,
            }),
            order: channel::Sender::new(Order::Run),
            gone: channel::Sender::new(false),
        });
        self.map().insert(key, Arc::clone(&entry));
        entry
    }

    /// Sets a task on the process that sees its end.
    fn watch(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        fd: PidFd,
    ) -> Result<(), (PidFd, std::io::Error)> {
        let _context = self.handle.enter();
        let fd = fd.watched()?;
        let watcher = watch::watch(Arc::downgrade(self), Arc::clone(entry), fd);
        let checker = check::run(Arc::downgrade(self), Arc::clone(entry));
        let both = async move {
            tokio::select! {
                () = watcher => {}
                () = checker => {}
            }
        };
        entry.lock().watcher = Some(self.handle.spawn(both).abort_handle());
        Ok(())
    }

    /// Blocks; the caller holds the container's turn.
    fn start(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Observed, RuntimeError> {
        let mut record = entry.lock().record.clone();
        if entry.lock().is_removed {
            return Err(vanished(&entry.key.0, &entry.key.1));
        }
        if record.process.is_some() {
            return Ok(record.observed());
        }
        let marker = self.marker(&entry.key);
        let (fd, process) = spawn::spawn(&record, &self.directory, &marker, &self.boot)?;
        record.process = Some(process);
        // Adopted by its marker should we end before the next write.
        if let Err(error) = record.save(&self.directory) {
            tracing::warn!(%error, "cannot write the container file");
        }
        entry.lock().record = record.clone();
        if let Err((fd, error)) = self.watch(entry, fd) {
            // Nobody would see it end, and what runs unseen must not run.
            return Err(self.give_up(entry, &fd, &error));
        }
        self.changed(&entry.key);
        Ok(record.observed())
    }

    /// Takes back a start: the container is created, not started.
    fn give_up(&self, entry: &Entry, fd: &PidFd, error: &std::io::Error) -> RuntimeError {
        let mut record = entry.lock().record.clone();
        record.process = None;
        let killed = fd.signal_group(Signal::Kill).and_then(|()| fd.reap_dying());
        if let Err(error) = killed.and_then(|_| record.save(&self.directory)) {
            tracing::warn!(%error, "cannot take back a start");
        }
        entry.lock().record = record;
        RuntimeError::CannotStart(format!("process descriptor: {error}"))
    }
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> Observed {
        let live = self.lock();
        Observed { health: live.health, ..live.record.observed() }
    }

    /// Forgets the process that ended: the container is created, not started.
    fn begin_again(&self) {
        let mut live = self.lock();
        (live.record.process, live.record.exit) = (None, None);
        live.health = ContainerHealth::Unknown;
        self.order.send_replace(Order::Run);
        self.gone.send_replace(false);
    }

    /// Waits until process and group are gone, for as long as only the kernel can delay it.
    async fn until_gone(&self, within: Duration) -> Result<(), RuntimeError> {
        let mut gone = self.gone.subscribe();
        let waited = tokio::time::timeout(within, gone.wait_for(|gone| *gone)).await;
        waited.map(drop).map_err(|_| {
            RuntimeError::Timeout(format!("{}: still there {within:?} later", self.key.1))
        })
    }
}

fn vanished(task: &TaskId, container: &str) -> RuntimeError {
    RuntimeError::Vanished(format!("no container {container} of task {task}"))
}

/// Runs `work` on a thread that may block. Once begun it runs to its end, also when the caller
/// stops waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(RuntimeError::Unavailable(format!("process runtime: {error}"))))
}

#[async_trait]
impl Runtime for Process {
    async fn create(&self, spec: &ContainerSpec) -> Result<Observed, RuntimeError> {
        let record = Record::new(spec)?;
        let making = Arc::clone(&self.inner.making).lock_owned().await;
        if let Some(entry) = self.inner.find(&record.task, &record.container) {
            return Ok(entry.observed());
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _making = making;
            record.save(&inner.directory).map_err(|error| {
                RuntimeError::CannotCreate(format!("{}: {error}", inner.directory.display()))
            })?;
            let entry = inner.insert(record);
            inner.changed(&entry.key);
            Ok(entry.observed())
        })
        .await
    }

    async fn start(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        let entry = self.inner.find(task, container).ok_or_else(|| vanished(task, container))?;
        let turn = Arc::clone(&entry.turn).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _turn = turn;
            inner.start(&entry)
        })
        .await
    }

    async fn restart(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        let entry = self.inner.find(task, container).ok_or_else(|| vanished(task, container))?;
        let turn = Arc::clone(&entry.turn).lock_owned().await;
        if entry.lock().record.exit.is_none() {
            drop(turn);
            return self.start(task, container).await;
        }
        // Who is left of its group would be taken for the new one's.
        entry.until_gone(KILL_WAIT).await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _turn = turn;
            entry.begin_again();
            inner.start(&entry)
        })
        .await
    }

    async fn stop(
        &self,
        task: &TaskId,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let Some(entry) = self.inner.find(task, container) else { return Ok(()) };
        {
            // A start under way comes first: what it makes is what has to stop.
            let _turn = entry.turn.lock().await;
            if entry.lock().record.process.is_none() {
                return Ok(());
            }
        }
        let deadline = instant() + grace;
        entry.order.send_modify(|order| match order {
            Order::Run => *order = Order::Stop(deadline),
            Order::Stop(before) => *before = deadline.min(*before),
            Order::KillForMemory => {}
        });
        entry.until_gone(grace + KILL_WAIT).await
    }

    async fn remove(&self, task: &TaskId, container: &str) -> Result<(), RuntimeError> {
        let Some(entry) = self.inner.find(task, container) else { return Ok(()) };
        let turn = Arc::clone(&entry.turn).lock_owned().await;
        let (has_process, has_ended) = {
            let live = entry.lock();
            (live.record.process.is_some(), live.record.exit.is_some())
        };
        if has_process && !has_ended {
            return Err(RuntimeError::CannotStop(format!("{container}: it runs; stop it first")));
        }
        if has_ended {
            // The last write of its file comes before this.
            entry.until_gone(KILL_WAIT).await?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _turn = turn;
            record::delete(&inner.directory, &entry.key).map_err(|error| {
                RuntimeError::Unavailable(format!("{}: {error}", inner.directory.display()))
            })?;
            entry.lock().is_removed = true;
            inner.map().remove(&entry.key);
            inner.changed(&entry.key);
            Ok(())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        Ok(self.inner.entries().iter().map(|entry| entry.observed()).collect())
    }

    async fn usage(&self, task: &TaskId, container: &str) -> Result<Usage, RuntimeError> {
        let entry = self.inner.find(task, container).ok_or_else(|| vanished(task, container))?;
        let pid = {
            let live = entry.lock();
            let process = live.record.process.as_ref().filter(|_| live.record.exit.is_none());
            process.map(|process| process.pid)
        };
        match pid {
            Some(pid) => blocking(move || Ok(proc_fs::usage(pid))).await,
            // Like Docker: what does not run uses nothing.
            None => Ok(Usage::default()),
        }
    }

    async fn stats(
        &self,
        task: &TaskId,
        container: &str,
    ) -> Result<serde_json::Value, RuntimeError> {
        let entry = self.inner.find(task, container).ok_or_else(|| vanished(task, container))?;
        let record = entry.lock().record.clone();
        let Some(process) = record.process.as_ref().filter(|_| record.exit.is_none()) else {
            return Ok(serde_json::Value::Null);
        };
        let pid = process.pid;
        let read = || blocking(move || Ok(proc_fs::reading(pid)));
        let before = read().await?;
        tokio::time::sleep(STATS_APART).await;
        let readings = [before, read().await?];
        let limit = record.memory_mib.map_or_else(sys::memory, |mib| u64::from(mib) << 20);
        Ok(stats::shaped(&record.observed().runtime_id, readings, limit, proc_fs::cores()))
    }

    async fn capacity(&self) -> Result<Capacity, RuntimeError> {
        let cores = u32::try_from(proc_fs::cores()).unwrap_or(u32::MAX);
        let memory_mib = u32::try_from(sys::memory() >> 20).unwrap_or(u32::MAX);
        Ok(Capacity { cpu: cores.saturating_mul(CORE), memory_mib })
    }

    /// There is one network, the machine's.
    async fn reach(&self, _: Option<NetworkMode>) -> Result<Reach, RuntimeError> {
        Ok(Reach::Loopback)
    }

    async fn exec(
        &self,
        task: &TaskId,
        container: &str,
        asked: &Exec,
    ) -> Result<Session, RuntimeError> {
        let entry = self.inner.find(task, container).ok_or_else(|| vanished(task, container))?;
        let (asked, context) = (asked.clone(), self.inner.handle.clone());
        blocking(move || {
            let _context = context.enter();
            exec::start(&entry, &asked)
        })
        .await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }
}
