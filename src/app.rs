//! The wiring: one process's worth of everything, and the only file that knows everything.
//!
//! Many [`App`]s live in one test process: nothing here is global. **Invariant:** tasks outlive the
//! `App` that started them, unless `on_exit = "stop"` asks otherwise.

mod admin;
mod admission;
mod control;
mod data_dir;
mod data_thread;
mod open;
mod parts;
mod sockets;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::file::{ApplyError, File, Problem};
use crate::api::keys::{Keys, KeysError};
use crate::config::OnExit;
use crate::metrics::Metrics;
use crate::net::BindError;
use crate::routing::{DataThread, Reader};
use crate::runtime::RuntimeError;
use crate::series::Series;
use crate::state::{Journal, JournalError, Store};

pub use data_dir::{DataDir, DataDirError};

use control::Control;
use open::{authentication, bind, bind_status, build_info, io, open_logs, open_runtime};
use parts::{Loads, Parts};
use sockets::Sockets;

/// The status socket's name inside the data directory.
pub const STATUS_SOCKET: &str = "status.sock";
/// The journal's name inside the data directory.
const JOURNAL: &str = "state.redb";
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
    control: Control,
    metrics_address: SocketAddr,
    api_address: SocketAddr,
    dns_addresses: Vec<SocketAddr>,
    /// Told by each data thread when its last exchange has ended.
    threads: Vec<oneshot::Receiver<()>>,
    /// Ends connections after their current exchange.
    closing: CancellationToken,
    /// Ends exchanges.
    cut: CancellationToken,
    ready: watch::Sender<bool>,
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
            store,
            reader,
            sockets: Sockets::new(senders),
            access_log,
            admission: admission::Admission::new(&settings.limits),
            audit_log,
            loads: Loads::new(&metrics),
            _build_info: build_info(&metrics),
            series: Series::new(settings.autoscaling.profile.step()),
            metrics,
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
            .map(|(index, commands)| spawn_data_thread(&parts, index, commands, &closing, &cut))
            .collect::<Result<Vec<_>, _>>()?;
        let mut dns_addresses = Vec::new();
        for address in &parts.settings.dns.addresses {
            dns_addresses.push(parts.sockets.open_dns(*address).await?);
        }
        let ready = watch::Sender::new(false);
        let control = Control::start(&parts, runtime, data_dir, &ready, &closing);
        control.serve(metrics_listener, status_listener, ready.subscribe());
        control.serve_api(api_listener, auth);
        failing.disarm();
        Ok(Self {
            control,
            metrics_address,
            api_address,
            dns_addresses,
            threads: done,
            closing,
            cut,
            ready,
        })
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
        &self.control.parts.store
    }

    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.control.parts.reader
    }

    /// SIGHUP: reopens the logs and looks at the configuration file again.
    pub fn hangup(&self) {
        if let Some(log) = &self.control.parts.access_log {
            log.reopen();
        }
        if let Some(log) = &self.control.parts.audit_log {
            log.reopen();
        }
        self.control.reload();
    }

    /// Stops taking anything new, finishes what is under way for at most `shutdown_grace`, then
    /// ends. With `on_exit = "stop"` the tasks are stopped in order as well.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        self.ready.send_replace(false);
        let mut ended = futures_util::future::join_all(self.threads);
        let settings = &self.control.parts.settings;
        let (grace, on_exit) = (settings.shutdown_grace, settings.on_exit);
        if tokio::time::timeout(grace, &mut ended).await.is_err() {
            tracing::warn!("exchanges still under way at the end of shutdown_grace are cut");
            self.cut.cancel();
            ended.await;
        }
        if on_exit == OnExit::Stop {
            self.control.stop_tasks().await;
        }
        self.control.stop().await;
    }
}

fn spawn_data_thread(
    own: &Parts,
    index: usize,
    commands: mpsc::Receiver<data_thread::Command>,
    closing: &CancellationToken,
    cut: &CancellationToken,
) -> Result<oneshot::Receiver<()>, StartError> {
    let (done, ended) = oneshot::channel();
    let closing = closing.clone();
    let parts = data_thread::Parts {
        thread: DataThread { index, reader: own.reader.clone(), closing },
        slot: own.reader.register(),
        cut: cut.clone(),
        commands,
        metrics: own.metrics.clone(),
        access_log: own.access_log.clone(),
        admission: own.admission.clone(),
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
