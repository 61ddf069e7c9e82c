//! What the loop and its workers share: the store, the runtime, what it last showed, and the
//! meters.
//!
//! **Invariant:** a [`Look`] older than the last effect on a task says nothing about that task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, watch};

use super::settings::Settings;
use crate::clock::{self, Clock, Timestamp};
use crate::metrics::{Counter, Histogram, Metrics, names};
use crate::model::{Observed, TaskId};
use crate::routing::Reader;
use crate::runtime::{Runtime, RuntimeEvent};
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
    pub runtime: Arc<dyn Runtime>,
    pub settings: Arc<Settings>,
    pub clock: Clock,
    /// When this process began.
    pub began: Timestamp,
    pub metrics: Metrics,
    pub meters: Meters,
    pub sight: Sight,
}

/// Handles held for as long as the orchestrator lives, so that their series do too.
#[derive(Debug)]
pub(super) struct Meters {
    pub drain_seconds: Histogram,
    pub drains_cut: Counter,
    pub create_errors: Counter,
    pub start_errors: Counter,
    pub stop_errors: Counter,
    pub remove_errors: Counter,
    pub list_errors: Counter,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics, runtime: &str) -> Self {
        let errors = |call| metrics.counter(&names::RUNTIME_ERRORS, &[runtime, call]);
        Self {
            drain_seconds: metrics.histogram(&names::DRAIN_SECONDS, &[]),
            drains_cut: metrics.counter(&names::DRAINS_CUT, &[]),
            create_errors: errors("create"),
            start_errors: errors("start"),
            stop_errors: errors("stop"),
            remove_errors: errors("remove"),
            list_errors: errors("list"),
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
}

impl Sight {
    pub(super) fn new() -> Self {
        Self { ticks: AtomicU64::new(1), asked: Notify::new(), latest: watch::Sender::new(None) }
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

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Look>>> {
        self.latest.subscribe()
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

    /// Lists what the runtime has: when asked, and every full pass.
    pub(super) async fn look(self: Arc<Self>) {
        let mut silent = false;
        loop {
            let started = self.sight.tick();
            let began = clock::instant();
            match self.runtime.list().await {
                Ok(list) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!("the container runtime answers again");
                    }
                    let mut containers: BTreeMap<TaskId, Vec<Observed>> = BTreeMap::new();
                    for observed in list {
                        containers.entry(observed.task.clone()).or_default().push(observed);
                    }
                    for shown in containers.values_mut() {
                        shown.sort_by(|a, b| a.container.cmp(&b.container));
                    }
                    self.sight.latest.send_replace(Some(Arc::new(Look { started, containers })));
                }
                Err(error) => {
                    self.meters.list_errors.add(self.metrics.control(), 1);
                    if !std::mem::replace(&mut silent, true) {
                        tracing::warn!(%error, "the container runtime does not answer");
                    }
                    tokio::time::sleep(LIST_AGAIN).await;
                    continue;
                }
            }
            tokio::time::sleep(began.elapsed().clamp(LIST_REST, LIST_REST_MOST)).await;
            tokio::select! {
                biased;
                () = self.sight.asked.notified() => {}
                () = tokio::time::sleep(self.settings.full_pass) => {}
            }
        }
    }

    /// Turns the runtime's events into looks; a death ejects at once.
    pub(super) async fn listen(self: Arc<Self>, mut events: broadcast::Receiver<RuntimeEvent>) {
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
            self.sight.ask();
        }
    }

    fn is_essential(&self, task: &TaskId, container: &str) -> bool {
        let state = self.store.read();
        let definition = state.tasks.get(task).and_then(|t| state.definitions.get(&t.definition));
        definition.and_then(|d| d.container(container)).is_some_and(|c| c.essential)
    }
}
