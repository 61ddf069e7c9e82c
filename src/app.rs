//! The wiring: one process's worth of everything, and the only file that knows everything.
//!
//! Many [`App`]s live in one test process: nothing here is global. **Invariant:** tasks outlive the
//! `App` that started them, unless `on_exit = "stop"` asks otherwise.

mod admin;
mod data_dir;
mod data_thread;
mod open;
mod sockets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::file::{self, ApplyError, File, Problem};
use crate::api::keys::{Keys, KeysError};
use crate::api::status::Status;
use crate::api::{self, Api, Auth, Meters};
use crate::clock::{self, Clock};
use crate::config::{OnExit, RuntimeKind, Settings};
use crate::health::Checker;
use crate::logs::{AccessLog, AuditLog};
use crate::metrics::{Counter, Gauge, Metrics, names};
use crate::net::{BindError, Claims};
use crate::orchestrator::{self, Curve, Orchestrator, Scaling, Stopper};
use crate::routing::{Context, DataThread, Publisher, Reader};
use crate::runtime::{Runtime, RuntimeError};
use crate::secrets::Secrets;
use crate::series::Series;
use crate::state::{Journal, JournalError, Store};

pub use data_dir::{DataDir, DataDirError};

use open::{authentication, bind, bind_status, build_info, io, open_logs, open_runtime};
use sockets::Sockets;

/// The status socket's name inside the data directory.
pub const STATUS_SOCKET: &str = "status.sock";
/// The journal's name inside the data directory.
const JOURNAL: &str = "state.redb";
/// A file that was refused for what may pass is tried again after this (ours: the full pass of
/// every loop).
const AGAIN: Duration = Duration::from_secs(10);
/// What left the file is looked after this often while the State changes (ours).
const SWEEP: Duration = Duration::from_secs(1);
/// How long `on_exit = "stop"` may take beyond the drains and stop timeouts themselves (ours).
const STOP_TASKS: Duration = Duration::from_secs(600);

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Configuration(#[from] Problem),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl StartError {
    /// Whether the configuration file is to blame: exit code 2.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration(_) | Self::Apply(ApplyError::Problem(_)))
    }
}

/// A running Roadstead.
#[derive(Debug)]
pub struct App {
    parts: Arc<Parts>,
    metrics_address: SocketAddr,
    api_address: SocketAddr,
    dns_addresses: Vec<SocketAddr>,
    stopper: Stopper,
    /// Ends when every task has stopped, or with `stop`.
    reconciling: JoinHandle<()>,
    /// Told by each data thread when its last exchange has ended.
    threads: Vec<oneshot::Receiver<()>>,
    /// Ends connections after their current exchange.
    closing: CancellationToken,
    /// Ends exchanges.
    cut: CancellationToken,
    /// Ends the reconcilers.
    stop: CancellationToken,
    loops: TaskTracker,
    ready: watch::Sender<bool>,
    reload: Arc<Notify>,
    _data_dir: DataDir,
}

/// What the loops share.
#[derive(Debug)]
struct Parts {
    settings: Settings,
    config: PathBuf,
    metrics: Metrics,
    series: Series,
    store: Store,
    reader: Reader,
    sockets: Sockets,
    access_log: Option<AccessLog>,
    audit_log: Option<AuditLog>,
    loads: Loads,
    _build_info: Gauge,
}

/// Handles of what becomes of configuration files.
#[derive(Debug)]
struct Loads {
    applied: Counter,
    unchanged: Counter,
    refused: Counter,
    /// 1 while the file on disk is refused.
    refused_now: Gauge,
}

/// What came of looking at the file.
struct Reload {
    /// The files that it is made of; none when it is broken.
    paths: Option<Vec<PathBuf>>,
    /// It was refused for what may pass: a full disk, a port that somebody has.
    again: bool,
}

impl Loads {
    fn new(metrics: &Metrics) -> Self {
        let count = |outcome| metrics.counter(&names::CONFIG_LOADS, &[outcome]);
        Self {
            applied: count("applied"),
            unchanged: count("unchanged"),
            refused: count("refused"),
            refused_now: metrics.gauge(&names::CONFIG_REFUSED, &[]),
        }
    }
}

impl App {
    /// Opens the data directory and the sockets, applies the file, starts every thread and loop.
    ///
    /// # Errors
    /// What cannot be opened, bound or applied; nothing runs then.
    pub async fn start(config: &Path, file: File) -> Result<Self, StartError> {
        let settings = file.settings.clone();
        let data_dir = DataDir::lock(&settings.data_dir)?;
        // Made before anything serves, so that `env` has a key.
        let keys = Keys::open(data_dir.path())?;
        let threads = settings.data_threads();
        let metrics = Metrics::new(threads);
        let journal = Journal::open(&data_dir.path().join(JOURNAL))?;
        let store = Store::open(journal, &metrics)?;
        let reader = Reader::new(&metrics);
        let runtime = open_runtime(&settings, &data_dir)?;
        let (access_log, audit_log) = open_logs(&settings, &metrics)?;
        let closing = CancellationToken::new();
        // Ends the data threads when something below fails.
        let failing = closing.clone().drop_guard();
        let cut = CancellationToken::new();
        let (senders, commands): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::channel(sockets::COMMANDS)).unzip();
        let parts = Arc::new(Parts {
            config: config.to_owned(),
            store: store.clone(),
            reader: reader.clone(),
            sockets: Sockets::new(senders),
            access_log,
            audit_log,
            loads: Loads::new(&metrics),
            _build_info: build_info(&metrics),
            series: Series::new(settings.autoscaling.profile.step()),
            metrics: metrics.clone(),
            settings,
        });
        let (metrics_listener, metrics_address) =
            bind(parts.settings.metrics.address, "the metrics listener")?;
        let (api_listener, api_address) = bind(parts.settings.api.address, "the API endpoint")?;
        let auth = authentication(&parts.settings, keys);
        let status_listener = bind_status(data_dir.path())?;
        parts.apply(&file).await?;
        let done = commands
            .into_iter()
            .enumerate()
            .map(|(index, commands)| parts.spawn_data_thread(index, commands, &closing, &cut))
            .collect::<Result<Vec<_>, _>>()?;
        let mut dns_addresses = Vec::new();
        for address in &parts.settings.dns.addresses {
            dns_addresses.push(parts.sockets.open_dns(*address).await?);
        }
        let stop = CancellationToken::new();
        let scaling = parts.scaling(Arc::clone(&runtime));
        let orchestrator = parts.orchestrator(runtime);
        let app = Self {
            stopper: orchestrator.stopper(),
            reconciling: tokio::spawn(orchestrator.run(stop.clone())),
            metrics_address,
            api_address,
            dns_addresses,
            threads: done,
            closing,
            cut,
            stop,
            loops: TaskTracker::new(),
            ready: watch::Sender::new(false),
            reload: Arc::default(),
            parts,
            _data_dir: data_dir,
        };
        app.spawn_loops();
        app.loops.spawn(scaling.run(app.stop.clone()));
        app.spawn_servers(metrics_listener, status_listener);
        app.spawn_api(api_listener, auth);
        failing.disarm();
        Ok(app)
    }
}

impl Parts {
    fn context(&self) -> Context {
        Context {
            account: self.settings.account.clone(),
            domain: self.settings.domain.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn orchestrator(&self, runtime: Arc<dyn Runtime>) -> Orchestrator {
        let (own, default) = (&self.settings.runtime, orchestrator::Settings::default());
        let settings = orchestrator::Settings {
            account: self.settings.account.clone(),
            runtime: own.kind.as_str().to_owned(),
            addresses: (own.kind == RuntimeKind::Process).then_some(own.addresses),
            quarantine: own.quarantine,
            secrets: Secrets::new(&self.settings.data_dir.join("secrets")),
            backoff: Curve {
                base: self.settings.limits.crash_backoff,
                cap: self.settings.limits.crash_backoff_max,
                ..default.backoff
            },
            ..default
        };
        let (store, reader) = (self.store.clone(), self.reader.clone());
        let (rng, metrics) = (fastrand::Rng::new(), self.metrics.clone());
        Orchestrator::new(store, reader, runtime, settings, Clock::System, rng, metrics)
    }

    fn scaling(&self, runtime: Arc<dyn Runtime>) -> Scaling {
        let (store, reader) = (self.store.clone(), self.reader.clone());
        let (series, metrics) = (self.series.clone(), self.metrics.clone());
        Scaling::new(store, reader, runtime, series, Clock::System, metrics)
    }

    /// Applies a configuration file: binds, commits, says what came of it.
    async fn apply(self: &Arc<Self>, file: &File) -> Result<(), ApplyError> {
        let (binder, claims) = (Arc::clone(self), Claims::default());
        let claiming = claims.clone();
        let bind = move |key| binder.sockets.ensure(key, &claiming);
        let outcome = file::apply(&self.store, file, clock::now(), bind).await;
        let (loads, control) = (&self.loads, self.metrics.control());
        match &outcome {
            Ok(summary) if summary.is_empty() => loads.unchanged.add(control, 1),
            Ok(_) => loads.applied.add(control, 1),
            Err(_) => {
                loads.refused.add(control, 1);
                self.sockets.give_back(&claims);
            }
        }
        let summary = outcome?;
        if summary.is_empty() {
            return Ok(());
        }
        let (created, changed, removed) = (&summary.created, &summary.changed, &summary.removed);
        tracing::info!(?created, ?changed, ?removed, "configuration applied");
        Ok(())
    }

    fn spawn_data_thread(
        &self,
        index: usize,
        commands: mpsc::Receiver<data_thread::Command>,
        closing: &CancellationToken,
        cut: &CancellationToken,
    ) -> Result<oneshot::Receiver<()>, StartError> {
        let (done, ended) = oneshot::channel();
        let closing = closing.clone();
        let parts = data_thread::Parts {
            thread: DataThread { index, reader: self.reader.clone(), closing },
            slot: self.reader.register(),
            cut: cut.clone(),
            commands,
            metrics: self.metrics.clone(),
            access_log: self.access_log.clone(),
            max_connections: i64::try_from(self.settings.limits.max_connections)
                .unwrap_or(i64::MAX),
            done,
        };
        std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || {
                if let Err(error) = data_thread::run(parts) {
                    tracing::error!(index, %error, "a data thread has no runtime");
                }
            })
            .map_err(|source| io("a data thread", source))?;
        Ok(ended)
    }

    /// Loads the file again; a bad one is refused and the old configuration goes on.
    async fn reload(self: &Arc<Self>) -> Reload {
        let mut paths = None;
        let outcome = match file::load(&self.config) {
            Ok(file) => {
                paths = Some(file.paths().cloned().collect());
                if file.settings != self.settings {
                    tracing::warn!(
                        "process settings changed in the file: they apply at the next start"
                    );
                }
                self.apply(&file).await
            }
            Err(problem) => {
                self.loads.refused.add(self.metrics.control(), 1);
                Err(ApplyError::Problem(problem))
            }
        };
        self.loads.refused_now.set(i64::from(outcome.is_err()));
        let again = matches!(outcome, Err(ApplyError::Store(_) | ApplyError::Bind(_)));
        if let Err(problem) = outcome {
            tracing::error!(%problem, "configuration refused; the old one goes on serving");
        }
        Reload { paths, again }
    }

    fn status(&self) -> String {
        let (region, domain) = (&self.settings.account.region, &self.settings.domain);
        let routing = self.reader.load();
        let acknowledged = self.reader.acknowledged();
        let status = Status::of(&self.store.read(), &routing, acknowledged, region, domain);
        serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string())
    }
}

impl App {
    fn spawn_loops(&self) {
        let parts = &self.parts;
        let publisher = Publisher::new(parts.store.clone(), parts.reader.clone(), parts.context());
        publisher.publish();
        self.loops.spawn(publisher.run(self.stop.clone()));
        let (store, metrics) = (parts.store.clone(), parts.metrics.clone());
        let checker = Checker::new(store, metrics, Clock::System, fastrand::Rng::new());
        self.loops.spawn(checker.run(self.stop.clone()));
        let (ready, closing) = (self.ready.clone(), self.closing.clone());
        self.loops.spawn(sync_sockets(Arc::clone(parts), ready, closing));
        let (reload, stop) = (Arc::clone(&self.reload), self.stop.clone());
        self.loops.spawn(watch_file(Arc::clone(parts), reload, stop));
    }

    fn spawn_servers(&self, metrics: TcpListener, status: UnixListener) {
        let ready = self.ready.subscribe();
        let parts = Arc::clone(&self.parts);
        let servers = async move {
            tokio::join!(
                admin::serve_metrics(metrics, parts.metrics.clone(), ready),
                admin::serve_status(status, {
                    let parts = Arc::clone(&parts);
                    move || parts.status()
                })
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

    fn spawn_api(&self, listener: TcpListener, auth: Auth) {
        let parts = &self.parts;
        let (binder, giver) = (Arc::clone(parts), Arc::clone(parts));
        let api = Api {
            store: parts.store.clone(),
            reader: parts.reader.clone(),
            account: parts.settings.account.clone(),
            domain: parts.settings.domain.clone(),
            addresses: parts.settings.elb.addresses,
            metrics: parts.metrics.clone(),
            meters: Meters::default(),
            audit_log: parts.audit_log.clone(),
            bind: Box::new(move |key, claims| binder.sockets.ensure(key, claims)),
            give_back: Box::new(move |claims| giver.sockets.give_back(claims)),
        };
        let serving = api::serve(listener, Arc::new(api), Arc::new(auth));
        let stop = self.stop.clone();
        self.loops.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Where the AWS APIs are served.
    #[must_use]
    pub const fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where Prometheus is served.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Where names are answered.
    #[must_use]
    pub fn dns_addresses(&self) -> &[SocketAddr] {
        &self.dns_addresses
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.parts.reader
    }

    /// SIGHUP: reopens the logs and looks at the configuration file again.
    pub fn hangup(&self) {
        if let Some(log) = &self.parts.access_log {
            log.reopen();
        }
        if let Some(log) = &self.parts.audit_log {
            log.reopen();
        }
        self.reload.notify_one();
    }

    /// Stops taking anything new, finishes what is under way for at most `shutdown_grace`, then
    /// ends. With `on_exit = "stop"` the tasks are stopped in order as well.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        self.ready.send_replace(false);
        let mut ended = futures_util::future::join_all(self.threads);
        if tokio::time::timeout(self.parts.settings.shutdown_grace, &mut ended).await.is_err() {
            tracing::warn!("exchanges still under way at the end of shutdown_grace are cut");
            self.cut.cancel();
            ended.await;
        }
        if self.parts.settings.on_exit == OnExit::Stop {
            self.stopper.stop_everything();
            if tokio::time::timeout(STOP_TASKS, &mut self.reconciling).await.is_err() {
                tracing::error!("tasks are left running: they did not stop in time");
            }
        }
        self.stop.cancel();
        if !self.reconciling.is_finished() {
            let _ = self.reconciling.await;
        }
        self.loops.close();
        self.loops.wait().await;
    }
}

/// Keeps the listening sockets what the newest snapshot asks for.
async fn sync_sockets(parts: Arc<Parts>, ready: watch::Sender<bool>, closing: CancellationToken) {
    let mut generations = parts.reader.watch();
    loop {
        generations.borrow_and_update();
        let routing = Arc::clone(&parts.reader.load());
        parts.sockets.sync(&routing).await;
        if closing.is_cancelled() {
            return;
        }
        ready.send_replace(true);
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            () = closing.cancelled() => return,
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
