//! The control side: everything that holds the store, and with it the data directory.
//!
//! The data threads and their sockets stand beside it and outlive it. **Invariant:** when
//! [`Control::stop`] has returned, nothing of this process reads or writes the journal or drives
//! the runtime any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::parts::{Parts, Reload};
use super::take_over::{self, Predecessor, Successor};
use super::{DataDir, LOGS, admin, cookies, exec, metadata, names};
use crate::api::events::Events;
use crate::api::exec::Desk;
use crate::api::file;
use crate::api::session::Sessions;
use crate::api::{self, Api, Auth, Meters, Views};
use crate::clock::{self, Clock};
use crate::health::{Checker, NameChecker};
use crate::orchestrator::Stopper;
use crate::routing::{Publisher, keep_keys, watch_anomalies};
use crate::runtime::Fleet;
use crate::tls::Server;

/// A file that was refused for what may pass is tried again after this (ours: the full pass of
/// every loop).
const AGAIN: Duration = Duration::from_secs(10);
/// What left the file is looked after this often while the State changes (ours).
const SWEEP: Duration = Duration::from_secs(1);
/// How long `on_exit = "stop"` may take beyond the drains and stop timeouts themselves (ours).
const STOP_TASKS: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Control {
    pub(super) parts: Arc<Parts>,
    stopper: Stopper,
    /// Ends when every task has stopped, or with `stop`.
    reconciling: JoinHandle<()>,
    /// Ends the reconcilers.
    stop: CancellationToken,
    loops: TaskTracker,
    reload: Arc<Notify>,
    events: Events,
    fleet: Fleet,
    _data_dir: DataDir,
}

impl Control {
    /// Starts every loop. The first snapshot is published when this returns.
    pub(super) fn start(
        parts: &Arc<Parts>,
        fleet: Fleet,
        data_dir: DataDir,
        ready: &watch::Sender<bool>,
        closing: &CancellationToken,
    ) -> Self {
        let (stop, loops) = (CancellationToken::new(), TaskTracker::new());
        let publisher = Publisher::new(parts.store.clone(), parts.reader.clone(), parts.context());
        publisher.publish();
        loops.spawn(publisher.run(stop.clone()));
        let (store, metrics) = (parts.store.clone(), parts.metrics.clone());
        let checker = Checker::new(store, metrics, Clock::System, fastrand::Rng::new())
            .with_log(parts.logs.health.clone());
        loops.spawn(checker.run(stop.clone()));
        let name_checker =
            NameChecker::new(parts.store.clone(), Clock::System, fastrand::Rng::new());
        loops.spawn(name_checker.run(stop.clone()));
        loops.spawn(parts.scaling(fleet.clone()).run(stop.clone()));
        let (fetcher, metrics) = (parts.fetcher.clone(), parts.metrics.clone());
        loops.spawn(keep_keys(parts.reader.clone(), fetcher, metrics, stop.clone()));
        loops.spawn(watch_anomalies(parts.reader.clone(), stop.clone()));
        let ends = [closing.clone(), stop.clone()];
        loops.spawn(sync_sockets(Arc::clone(parts), ready.clone(), ends));
        let reload = Arc::<Notify>::default();
        loops.spawn(watch_file(Arc::clone(parts), Arc::clone(&reload), stop.clone()));
        loops.spawn(cookies::run(Arc::clone(parts), stop.clone()));
        // Before anything of this process changes the State.
        let events = parts.events();
        loops.spawn(events.clone().run(stop.clone()));
        let endpoint = metadata::endpoint(&parts.settings, &data_dir);
        if let Some(endpoint) = &endpoint {
            let serving = metadata::serve(parts, &fleet, endpoint, data_dir.uid());
            loops.spawn(stop.clone().run_until_cancelled_owned(serving));
        }
        let name_server = names::name_server(&parts.settings);
        if let Some(name_server) = &name_server {
            let serving = names::serve(parts, &fleet, name_server.clone());
            loops.spawn(stop.clone().run_until_cancelled_owned(serving));
        }
        let orchestrator = parts.orchestrator(&fleet, endpoint, name_server);
        Self {
            stopper: orchestrator.stopper(),
            reconciling: tokio::spawn(orchestrator.run(stop.clone())),
            parts: Arc::clone(parts),
            stop,
            loops,
            reload,
            events,
            fleet,
            _data_dir: data_dir,
        }
    }

    /// Says that this process accepts, and has drains wait for the end of the one before it.
    pub(super) fn relieve(&self, predecessor: Predecessor, mut ready: watch::Receiver<bool>) {
        let carrying = self.parts.reader.predecessor();
        let relieving = async move {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                predecessor.relieve().await;
                tracing::info!("the process before this one is gone");
            }
            drop(carrying);
        };
        // It outlives these loops: whoever takes over from this process waits for both.
        tokio::spawn(relieving);
    }

    /// SIGHUP: the configuration file is looked at again.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Stops every task in order.
    pub(super) async fn stop_tasks(&mut self) {
        self.stopper.stop_everything();
        if tokio::time::timeout(STOP_TASKS, &mut self.reconciling).await.is_err() {
            tracing::error!("tasks are left running: they did not stop in time");
        }
    }

    /// Ends every loop and gives up the journal and the data directory.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if !self.reconciling.is_finished() {
            let _ = self.reconciling.await;
        }
        self.loops.close();
        self.loops.wait().await;
        self.parts.store.close().await;
    }

    /// Serves Prometheus and `status`.
    pub(super) fn serve(
        &self,
        metrics: TcpListener,
        (status, take_over): (UnixListener, UnixListener),
        ready: watch::Receiver<bool>,
        successors: mpsc::Sender<Successor>,
    ) {
        let parts = Arc::clone(&self.parts);
        let servers = async move {
            tokio::join!(
                admin::serve_metrics(metrics, parts.metrics.clone(), parts.reader.clone(), ready),
                admin::serve_status(status, {
                    let parts = Arc::clone(&parts);
                    move |question| parts.answer(question)
                }),
                take_over::listen(take_over, successors)
            )
        };
        let stop = self.stop.clone();
        self.loops.spawn(async move {
            tokio::select! {
                _ = servers => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Serves those who want to execute something in a container.
    pub(super) fn serve_exec(&self, listener: UnixListener) {
        self.loops.spawn(exec::serve(listener, self.desk(), self.stop.clone()));
    }

    fn desk(&self) -> Desk {
        Desk {
            store: self.parts.store.clone(),
            account: self.parts.settings.account.clone(),
            fleet: self.fleet.clone(),
        }
    }

    /// Serves the AWS APIs.
    pub(super) fn serve_api(&self, listener: TcpListener, auth: Auth, server: Option<Server>) {
        let parts = &self.parts;
        let (binder, giver) = (Arc::clone(parts), Arc::clone(parts));
        let api = Api {
            store: parts.store.clone(),
            reader: parts.reader.clone(),
            account: parts.settings.account.clone(),
            views: Views::default(),
            domain: parts.settings.domain.clone(),
            addresses: parts.settings.elb.addresses,
            metrics: parts.metrics.clone(),
            meters: Meters::default(),
            audit_log: parts.logs.audit.clone(),
            series: parts.series.clone(),
            profile: parts.settings.autoscaling.profile,
            log_folder: parts.settings.data_dir.join(LOGS),
            trust_folder: parts.settings.elb.trust_store_folder.clone(),
            events: self.events.clone(),
            sessions: Sessions::new(self.desk()),
            bind: Box::new(move |key, claims| binder.sockets.ensure(key, claims)),
            give_back: Box::new(move |claims| giver.sockets.give_back(claims)),
        };
        let stop = self.stop.clone();
        self.loops.spawn(api::serve(listener, Arc::new(api), Arc::new(auth), server, stop));
    }
}

/// Keeps the listening sockets what the newest snapshot asks for.
/// Each round ends: what the table says is with the data threads is with them.
async fn sync_sockets(
    parts: Arc<Parts>,
    ready: watch::Sender<bool>,
    [closing, stop]: [CancellationToken; 2],
) {
    let mut generations = parts.reader.watch();
    loop {
        generations.borrow_and_update();
        let routing = Arc::clone(&parts.reader.load());
        parts.sockets.sync(&routing).await;
        if closing.is_cancelled() || stop.is_cancelled() {
            return;
        }
        ready.send_replace(true);
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            () = closing.cancelled() => return,
            () = stop.cancelled() => return,
        }
    }
}

/// Applies the configuration file whenever it, or a file it names, changes on disk, and removes
/// what earlier files left behind as soon as nothing uses it any more.
async fn watch_file(parts: Arc<Parts>, reload: Arc<Notify>, stop: CancellationToken) {
    let mut watch = file::Watch::new([parts.config.clone()]);
    let mut commits = parts.store.watch();
    loop {
        // The first time round, for what changed since the start.
        let Reload { paths, again } = parts.reload().await;
        if let Some(paths) = paths {
            watch.set_paths(paths);
        }
        let sweeping = async {
            while commits.changed().await.is_ok() {
                tokio::time::sleep(SWEEP).await;
                if let Err(error) = file::sweep_store(&parts.store, clock::now()).await {
                    tracing::warn!(%error, "what left the file stays for now");
                }
            }
        };
        tokio::select! {
            () = watch.changed() => {}
            () = reload.notified() => {}
            () = tokio::time::sleep(AGAIN), if again => {}
            () = sweeping => return,
            () = stop.cancelled() => return,
        }
    }
}
