//! What the loop and its workers share: the store, the instances' runtimes, what each last showed,
//! and the meters.
//!
//! **Invariant:** a [`Look`] older than the last effect on a task says nothing about that task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, watch};

use super::plan::Heard;
use super::settings::Settings;
use crate::clock::{self, Clock, Instant, Timestamp};
use crate::metrics::{Counter, Histogram, Metrics, names};
use crate::model::{Capacity, InstanceName, Observed, TaskId};
use crate::routing::Reader;
use crate::runtime::{Runtime, RuntimeError, RuntimeEvent};
use crate::state::Store;

/// Between two attempts to list what a runtime has, when it did not answer (ours).
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Between two lists lies at least this (ours: nobody waits for long, and nobody can make it spin)
/// …
const LIST_REST: Duration = Duration::from_millis(10);
/// … or as long as the first took, but no longer than this (ours).
const LIST_REST_MOST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub store: Store,
    pub reader: Reader,
    /// Of every instance of the file.
    pub posts: BTreeMap<InstanceName, Arc<Post>>,
    /// Counts the looks of all posts.
    pub looked: watch::Sender<u64>,
    pub settings: Arc<Settings>,
    pub clock: Clock,
    /// When this process began.
    pub began: Timestamp,
    pub metrics: Metrics,
    pub meters: Meters,
}

/// What is known of one instance in this process.
#[derive(Debug)]
pub(super) struct Post {
    pub name: InstanceName,
    pub runtime: Arc<dyn Runtime>,
    pub errors: Errors,
    pub sight: Sight,
}

impl Post {
    pub(super) fn new(
        name: &InstanceName,
        runtime: &Arc<dyn Runtime>,
        kind: &str,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let (runtime, errors) = (Arc::clone(runtime), Errors::new(metrics, kind));
        Arc::new(Self { name: name.clone(), runtime, errors, sight: Sight::new() })
    }
}

/// Handles held for as long as the orchestrator lives, so that their series do too.
#[derive(Debug)]
pub(super) struct Meters {
    pub drain_seconds: Histogram,
    pub drains_cut: Counter,
    pub ports_cut: Counter,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            drain_seconds: metrics.histogram(&names::DRAIN_SECONDS, &[]),
            drains_cut: metrics.counter(&names::DRAINS_CUT, &[]),
            ports_cut: metrics.counter(&names::RESTS_CUT, &["ports"]),
        }
    }
}

/// Calls of one runtime that failed.
#[derive(Debug)]
pub(super) struct Errors {
    pub create: Counter,
    pub start: Counter,
    pub stop: Counter,
    pub remove: Counter,
    pub list: Counter,
}

impl Errors {
    fn new(metrics: &Metrics, runtime: &str) -> Self {
        let errors = |call| metrics.counter(&names::RUNTIME_ERRORS, &[runtime, call]);
        Self {
            create: errors("create"),
            start: errors("start"),
            stop: errors("stop"),
            remove: errors("remove"),
            list: errors("list"),
        }
    }
}

/// Everything the runtime had at one moment, by task.
#[derive(Debug)]
pub(super) struct Look {
    /// The tick at which it was asked.
    pub started: u64,
    pub containers: BTreeMap<TaskId, Vec<Observed>>,
}

/// What the runtime last showed, and how to have it asked again.
#[derive(Debug)]
pub(super) struct Sight {
    /// Orders looks and effects: a look counts for a task only if it began after the task's last
    /// effect.
    ticks: AtomicU64,
    asked: Notify,
    latest: watch::Sender<Option<Arc<Look>>>,
    hearing: Mutex<Hearing>,
}

/// Whether the runtime answers; nothing of it is durable.
#[derive(Clone, Copy, Debug, Default)]
struct Hearing {
    /// When it first did not answer. None: it answers, or was not asked yet.
    silent_since: Option<Instant>,
    /// What its machine has. None: it has not told yet.
    capacity: Option<Capacity>,
}

impl Sight {
    pub(super) fn new() -> Self {
        Self {
            ticks: AtomicU64::new(1),
            asked: Notify::new(),
            latest: watch::Sender::new(None),
            hearing: Mutex::default(),
        }
    }

    /// None: it was not asked yet.
    pub(super) fn heard(&self) -> Option<Heard> {
        let Hearing { silent_since, capacity } = *self.lock();
        let silent_for = silent_since.map(|since| since.elapsed());
        (silent_for.is_some() || capacity.is_some()).then_some(Heard { silent_for, capacity })
    }

    fn lock(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True: it answered before.
    fn falls_silent(&self, asked: Instant) -> bool {
        let since = &mut self.lock().silent_since;
        let answered = since.is_none();
        since.get_or_insert(asked);
        answered
    }

    /// True: it did not answer before.
    fn answers(&self, capacity: Option<Capacity>) -> bool {
        let mut heard = self.lock();
        heard.capacity = capacity.or(heard.capacity);
        heard.silent_since.take().is_some()
    }

    pub(super) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::AcqRel)
    }

    /// Has the runtime asked soon.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    pub(super) fn latest(&self) -> Option<Arc<Look>> {
        self.latest.borrow().clone()
    }
}

impl Shared {
    /// Takes every endpoint of a dead task out of every pick, before any commit.
    pub(super) fn eject(&self, task: &TaskId) {
        let state = self.store.read();
        let routing = self.reader.load();
        for target in state.targets_of_task(task) {
            if let Some(endpoint) = routing.endpoints.get(&target.id) {
                endpoint.eject();
            }
        }
    }

    /// Lists what a runtime has: when asked, and every full pass.
    pub(super) async fn look(self: Arc<Self>, post: Arc<Post>) {
        let (sight, instance) = (&post.sight, &post.name);
        loop {
            let started = sight.tick();
            let began = clock::instant();
            match self.list(&post).await {
                Ok((list, capacity)) => {
                    if sight.answers(capacity) {
                        tracing::info!(%instance, "the container runtime answers again");
                    }
                    let mut containers: BTreeMap<TaskId, Vec<Observed>> = BTreeMap::new();
                    for observed in list {
                        containers.entry(observed.task.clone()).or_default().push(observed);
                    }
                    for shown in containers.values_mut() {
                        shown.sort_by(|a, b| a.container.cmp(&b.container));
                    }
                    sight.latest.send_replace(Some(Arc::new(Look { started, containers })));
                    self.looked.send_modify(|looks| *looks += 1);
                }
                Err(error) => {
                    post.errors.list.add(self.metrics.control(), 1);
                    if sight.falls_silent(began) {
                        tracing::warn!(%instance, %error, "the container runtime does not answer");
                        self.looked.send_modify(|looks| *looks += 1);
                    }
                    tokio::time::sleep(LIST_AGAIN).await;
                    continue;
                }
            }
            tokio::time::sleep(began.elapsed().clamp(LIST_REST, LIST_REST_MOST)).await;
            tokio::select! {
                biased;
                () = sight.asked.notified() => {}
                () = tokio::time::sleep(self.settings.full_pass) => {}
            }
        }
    }

    /// What there is, and once what the machine has.
    async fn list(&self, post: &Post) -> Result<(Vec<Observed>, Option<Capacity>), RuntimeError> {
        let list = post.runtime.list().await?;
        let heard = post.sight.heard();
        if heard.is_some_and(|h| h.capacity.is_some() && h.silent_for.is_none()) {
            return Ok((list, None));
        }
        // A daemon that comes back may have another machine.
        Ok((list, Some(post.runtime.capacity().await?)))
    }

    /// Turns a runtime's events into looks; a death ejects at once.
    pub(super) async fn listen(
        self: Arc<Self>,
        post: Arc<Post>,
        mut events: broadcast::Receiver<RuntimeEvent>,
    ) {
        loop {
            match events.recv().await {
                Ok(RuntimeEvent::Died { task, container })
                    if self.is_essential(&task, &container) =>
                {
                    self.eject(&task);
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => {
                    tracing::error!("the container runtime tells no events any more");
                    std::future::pending::<()>().await;
                }
            }
            post.sight.ask();
        }
    }

    fn is_essential(&self, task: &TaskId, container: &str) -> bool {
        let state = self.store.read();
        let definition = state.tasks.get(task).and_then(|t| state.definitions.get(&t.definition));
        definition.and_then(|d| d.container(container)).is_some_and(|c| c.essential)
    }
}
