//! The wiring: one process's worth of everything, and the only file that knows everything.
//!
//! Many [`App`]s live in one test process: nothing here is global. **Invariant:** tasks outlive the
//! `App` that started them, unless `on_exit = "stop"` asks otherwise.

mod admin;
mod admission;
mod control;
mod cookies;
mod data_dir;
mod data_thread;
pub mod exec;
mod instances;
mod logs;
mod metadata;
mod names;
mod open;
mod parts;
mod sockets;
mod take_over;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::Auth;
use crate::api::file::{ApplyError, File, Problem};
use crate::api::keys::{Keys, KeysError};
use crate::auth::Fetcher;
use crate::clock;
use crate::config::{OnExit, Settings};
use crate::dns::OtherServers;
use crate::metrics::Metrics;
use crate::net::BindError;
use crate::routing::{DataThread, Reader};
use crate::runtime::{Fleet, RuntimeError};
use crate::series::Series;
use crate::state::{Journal, JournalError, Store};
use crate::tls::Server;

pub use data_dir::{DataDir, DataDirError};
pub use take_over::Successor;

use control::Control;
use logs::Logs;
use open::{authentication, bind, bind_unix, build_info, io, listener};
use parts::{Loads, Parts};
use sockets::Sockets;
use take_over::{Inherited, Offer, Purpose};

/// The status socket's name inside the data directory.
pub const STATUS_SOCKET: &str = "status.sock";
/// The exec socket's name there.
pub const EXEC_SOCKET: &str = "exec.sock";
/// The folder of tasks' log streams inside the data directory.
const LOGS: &str = "logs";
/// The journal's name inside the data directory.
const JOURNAL: &str = "state.redb";
/// A successor that has failed has ended within this time (ours: it held the lock for its start).
const GROUND_AGAIN: Duration = Duration::from_secs(30);

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
    #[error(
        "regions: the journal has {key} ({table}) of the region {region}: name the region there, \
         or start with it once more and delete what it has"
    )]
    Region { table: &'static str, key: String, region: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl StartError {
    /// Whether the configuration file is to blame: exit code 2.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Configuration(_) | Self::Apply(ApplyError::Problem(_)) | Self::Region { .. }
        )
    }
}

/// A running Roadstead.
#[derive(Debug)]
pub struct App {
    control: Control,
    metrics: Offer,
    api: Offer,
    dns_addresses: Vec<SocketAddr>,
    /// Told by each data thread when its last exchange has ended.
    threads: Vec<oneshot::Receiver<()>>,
    /// Ends connections after their current exchange.
    closing: CancellationToken,
    /// Ends exchanges.
    cut: CancellationToken,
    /// A successor has the listening sockets as well.
    handed_over: Arc<AtomicBool>,
    ready: watch::Sender<bool>,
    successors: (mpsc::Sender<Successor>, mpsc::Receiver<Successor>),
}

/// What is opened from the data directory, by one process at a time.
struct Ground {
    data_dir: DataDir,
    auth: Auth,
    store: Store,
    fleet: Fleet,
}

impl Ground {
    fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, StartError> {
        let data_dir = DataDir::lock(&settings.data_dir)?;
        // Made before anything serves, so that `env` has a key.
        let auth = authentication(settings, Keys::open(data_dir.path())?)?;
        let journal = Journal::open(&data_dir.path().join(JOURNAL))?;
        let store = Store::open(journal, metrics)?;
        if let Some((table, key, region)) = store.read().stranger(&settings.account.others) {
            return Err(StartError::Region { table, key, region });
        }
        let fleet = instances::open(settings, &data_dir, metrics)?;
        Ok(Self { data_dir, auth, store, fleet })
    }
}

fn fetcher(settings: &Settings) -> Result<Fetcher, StartError> {
    let trusting = Fetcher::trusting(settings.elb.identity_ca_file.as_deref());
    trusting.map_err(|why| io("elb.identity_ca_file", std::io::Error::other(why)))
}

/// Where the control side is asked.
struct Doors {
    status: UnixListener,
    take_over: UnixListener,
    exec: UnixListener,
    metrics: TcpListener,
    api: TcpListener,
    /// It speaks HTTPS.
    server: Option<Server>,
}

impl Doors {
    fn open(settings: &Settings, metrics: &Offer, api: &Offer) -> Result<Self, StartError> {
        let unix = |name| bind_unix(&settings.data_dir, name);
        let server = crate::api::secure::server(&settings.api)
            .map_err(|(key, why)| io(key, std::io::Error::other(why)))?;
        Ok(Self {
            status: unix(STATUS_SOCKET)?,
            take_over: unix(take_over::SOCKET)?,
            exec: unix(EXEC_SOCKET)?,
            metrics: listener(metrics)?,
            api: listener(api)?,
            server,
        })
    }
}

/// Writes what the file says into the State, and what every process needs there.
async fn furnish(parts: &Arc<Parts>, file: &File, fleet: &Fleet) -> Result<(), StartError> {
    instances::register(&parts.store, &parts.settings, fleet).await?;
    parts.apply(file).await?;
    cookies::keep(parts).await;
    Ok(())
}

impl App {
    /// Opens the data directory and the sockets, applies the file, starts every thread and loop.
    ///
    /// # Errors
    /// What cannot be opened, bound or applied; nothing runs then.
    pub async fn start(config: &Path, file: File) -> Result<Self, StartError> {
        Self::begin(config, file, Inherited::default()).await
    }

    /// As [`start`](Self::start), with the sockets of the process that holds the data directory,
    /// which then finishes what it has and ends. Without such a process it is a plain start.
    ///
    /// # Errors
    /// As [`start`](Self::start); the other process then goes on as before.
    pub async fn take_over(config: &Path, file: File) -> Result<Self, StartError> {
        let asked = Inherited::ask(&file.settings.data_dir).await;
        Self::begin(config, file, asked.map_err(|source| io("the take-over", source))?).await
    }

    async fn begin(
        config: &Path,
        file: File,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let (settings, threads) = (file.settings.clone(), file.settings.data_threads());
        let metrics = Metrics::new(threads);
        let Ground { data_dir, auth, store, fleet } = Ground::open(&settings, &metrics)?;
        let closing = CancellationToken::new();
        // Ends the data threads when something below fails.
        let failing = closing.clone().drop_guard();
        let (senders, commands): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::channel(sockets::COMMANDS)).unzip();
        let parts = Arc::new(Parts {
            config: config.to_owned(),
            store,
            reader: Reader::new(&metrics),
            sockets: Arc::new(Sockets::new(senders)),
            metadata_sockets: Arc::default(),
            others: OtherServers::default(),
            admission: admission::Admission::new(&settings.limits),
            logs: Logs::open(&settings, &metrics)?,
            loads: Arc::new(Loads::new(&metrics)),
            _build_info: build_info(&metrics),
            fetcher: fetcher(&settings)?,
            series: Series::new(settings.autoscaling.profile.step()),
            metrics,
            settings,
        });
        let own = &parts.settings;
        let metrics = bind(own.metrics.address, Purpose::Metrics, &mut inherited)?;
        let api = bind(own.api.address, Purpose::Api, &mut inherited)?;
        parts.inherit(&mut inherited);
        furnish(&parts, &file, &fleet).await?;
        let (cut, handed_over) = (CancellationToken::new(), Arc::default());
        let ends = Ends { closing: &closing, cut: &cut, handed_over: &handed_over };
        let spawn = |(index, commands)| spawn_data_thread(&parts, index, commands, &ends);
        let threads = commands.into_iter().enumerate().map(spawn);
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        // Nothing behind this can fail: clients may be accepted from the first snapshot on.
        let doors = Doors::open(own, &metrics, &api)?;
        // Before the first query of an inherited socket.
        parts.publish();
        let mut dns_addresses = Vec::new();
        for address in &own.dns.addresses {
            dns_addresses.push(parts.sockets.open_dns(*address, &mut inherited).await?);
        }
        names::open(&parts, &mut inherited).await?;
        let (ready, successors) = (watch::Sender::new(false), mpsc::channel(1));
        let control = Control::start(&parts, fleet, data_dir, &ready, &closing);
        let app = Self {
            control,
            metrics,
            api,
            dns_addresses,
            threads,
            closing,
            cut,
            handed_over,
            ready,
            successors,
        };
        if let Some(predecessor) = inherited.predecessor {
            app.control.relieve(predecessor, app.ready.subscribe());
        }
        app.serve(auth, doors);
        failing.disarm();
        Ok(app)
    }

    fn serve(&self, auth: Auth, doors: Doors) {
        let (ready, successors) = (self.ready.subscribe(), self.successors.0.clone());
        self.control.serve(doors.metrics, (doors.status, doors.take_over), ready, successors);
        self.control.serve_exec(doors.exec);
        self.control.serve_api(doors.api, auth, doors.server);
    }

    /// Waits for a process that wants to take over. Before this one is ready it has nothing to hand
    /// over.
    pub async fn successor(&mut self) -> Successor {
        // `self` has the sender.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
        match self.successors.1.recv().await {
            Some(successor) => successor,
            // `self` has a sender.
            None => std::future::pending().await,
        }
    }

    /// Hands everything over and finishes what is under way for at most `shutdown_grace`; no task
    /// is stopped. A successor that fails before it accepts leaves this process as it was: then it
    /// is returned.
    ///
    /// # Errors
    /// The successor failed, and this process cannot open its data directory again.
    pub async fn hand_over(mut self, successor: Successor) -> Result<Option<Self>, StartError> {
        tracing::info!("another process takes over");
        let parts = Arc::clone(&self.control.parts);
        let copy = |offer: &Offer| sockets::copy(offer);
        self.control.stop().await;
        let mut offers = parts.sockets.offers();
        offers.extend([copy(&self.metrics), copy(&self.api)]);
        offers.extend(parts.metadata_sockets.offers());
        let given = match successor.give(offers).await {
            Ok(stream) => Ok(Some(stream)),
            Err((late, error)) => {
                tracing::error!(%error, "the other process did not take over; going on");
                match ground_again(&parts).await {
                    // It lives and holds the directory: it is only late, and must not believe
                    // this process gone before it is.
                    Err(StartError::DataDir(DataDirError::InUse(_))) => Ok(late),
                    ground => Err(ground?),
                }
            }
        };
        match given {
            Ok(stream) => {
                self.handed_over.store(true, Ordering::Release);
                self.closing.cancel();
                parts.sockets.close();
                let grace = parts.settings.shutdown_grace;
                finish(self.threads, &self.cut, grace).await;
                let _ = tokio::time::timeout(grace, parts.reader.alone()).await;
                // The successor learns that this process, and all before it, are gone.
                drop(stream);
                Ok(None)
            }
            Err(ground) => {
                let doors = Doors::open(&parts.settings, &self.metrics, &self.api)?;
                let parts = Arc::new(Parts { store: ground.store, ..Parts::clone(&parts) });
                let (ready, closing) = (&self.ready, &self.closing);
                self.control =
                    Control::start(&parts, ground.fleet, ground.data_dir, ready, closing);
                self.serve(ground.auth, doors);
                Ok(Some(self))
            }
        }
    }

    /// Where the AWS APIs are served.
    #[must_use]
    pub const fn api_address(&self) -> SocketAddr {
        self.api.key.address
    }

    /// Where Prometheus is served.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        self.metrics.key.address
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
        self.control.parts.logs.reopen();
        self.control.reload();
    }

    /// Stops taking anything new, finishes what is under way for at most `shutdown_grace`, then
    /// ends. With `on_exit = "stop"` the tasks are stopped in order as well.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        self.ready.send_replace(false);
        let settings = &self.control.parts.settings;
        let (grace, on_exit) = (settings.shutdown_grace, settings.on_exit);
        self.control.parts.sockets.close();
        finish(self.threads, &self.cut, grace).await;
        if on_exit == OnExit::Stop {
            self.control.stop_tasks().await;
        }
        self.control.stop().await;
    }
}

/// Waits for the data threads' last exchanges, and cuts them at the end of `grace`.
async fn finish(threads: Vec<oneshot::Receiver<()>>, cut: &CancellationToken, grace: Duration) {
    let mut ended = futures_util::future::join_all(threads);
    if tokio::time::timeout(grace, &mut ended).await.is_err() {
        tracing::warn!("exchanges still under way at the end of shutdown_grace are cut");
        cut.cancel();
        ended.await;
    }
}

/// Opens the data directory once the process that had asked for it is gone.
async fn ground_again(parts: &Parts) -> Result<Ground, StartError> {
    let last = clock::instant() + GROUND_AGAIN;
    loop {
        match Ground::open(&parts.settings, &parts.metrics) {
            // The journal is closed a moment after the lock is given up.
            Err(StartError::DataDir(DataDirError::InUse(_)) | StartError::Journal(_))
                if clock::instant() < last =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}

/// How a data thread is ended.
struct Ends<'a> {
    closing: &'a CancellationToken,
    cut: &'a CancellationToken,
    handed_over: &'a Arc<AtomicBool>,
}

fn spawn_data_thread(
    own: &Parts,
    index: usize,
    commands: mpsc::Receiver<data_thread::Command>,
    ends: &Ends<'_>,
) -> Result<oneshot::Receiver<()>, StartError> {
    let (done, ended) = oneshot::channel();
    let closing = ends.closing.clone();
    let parts = data_thread::Parts {
        thread: DataThread { index, reader: own.reader.clone(), closing },
        slot: own.reader.register(),
        cut: ends.cut.clone(),
        handed_over: Arc::clone(ends.handed_over),
        commands,
        metrics: own.metrics.clone(),
        access_log: own.logs.access.clone(),
        admission: own.admission.clone(),
        others: own.others.clone(),
        fetcher: own.fetcher.clone(),
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
