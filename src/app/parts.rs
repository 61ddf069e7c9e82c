//! What the loops of the control side share, and what is done with the configuration file.
//!
//! **Invariant:** a file that is refused changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::admission::Admission;
use super::logs::Logs;
use super::metadata::MetadataSockets;
use super::sockets::Sockets;
use super::take_over::Inherited;
use crate::api::events::Events;
use crate::api::explain;
use crate::api::file::{self, ApplyError, File};
use crate::api::status::Status;
use crate::auth::Fetcher;
use crate::clock::{self, Clock};
use crate::config::Settings;
use crate::dns::OtherServers;
use crate::metrics::{Counter, Gauge, Metrics, names};
use crate::net::Claims;
use crate::orchestrator::{self, Curve, Endpoint, NameServer, Orchestrator, Scaling, Surroundings};
use crate::routing::{Context, Publisher, Reader};
use crate::runtime::Fleet;
use crate::secrets::Secrets;
use crate::series::Series;
use crate::state::Store;

/// What the loops share.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) config: PathBuf,
    pub(super) metrics: Metrics,
    pub(super) series: Series,
    pub(super) store: Store,
    pub(super) reader: Reader,
    pub(super) sockets: Arc<Sockets>,
    pub(super) metadata_sockets: Arc<MetadataSockets>,
    /// Whom tasks' names are asked of that are not ours.
    pub(super) others: OtherServers,
    pub(super) logs: Logs,
    pub(super) fetcher: Fetcher,
    pub(super) admission: Admission,
    pub(super) loads: Arc<Loads>,
    pub(super) _build_info: Gauge,
}

/// Handles of what becomes of configuration files.
#[derive(Debug)]
pub(super) struct Loads {
    applied: Counter,
    unchanged: Counter,
    refused: Counter,
    /// 1 while the file on disk is refused.
    refused_now: Gauge,
}

/// What came of looking at the file.
pub(super) struct Reload {
    /// The files that it is made of; none when it is broken.
    pub(super) paths: Option<Vec<PathBuf>>,
    /// It was refused for what may pass: a full disk, a port that somebody has.
    pub(super) again: bool,
}

impl Loads {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let count = |outcome| metrics.counter(&names::CONFIG_LOADS, &[outcome]);
        Self {
            applied: count("applied"),
            unchanged: count("unchanged"),
            refused: count("refused"),
            refused_now: metrics.gauge(&names::CONFIG_REFUSED, &[]),
        }
    }
}

impl Parts {
    /// Compiles the State as it is for the data threads.
    pub(super) fn publish(&self) {
        Publisher::new(self.store.clone(), self.reader.clone(), self.context()).publish();
    }

    /// Takes over the sockets that are not asked for by their purpose and address.
    pub(super) fn inherit(&self, inherited: &mut Inherited) {
        self.sockets.inherit(inherited);
        self.metadata_sockets.inherit(inherited);
    }

    pub(super) fn context(&self) -> Context {
        Context {
            account: self.settings.account.clone(),
            domain: self.settings.domain.clone(),
            metrics: self.metrics.clone(),
        }
    }

    pub(super) fn orchestrator(
        &self,
        fleet: &Fleet,
        metadata: Option<Arc<Endpoint>>,
        name_server: Option<NameServer>,
    ) -> Orchestrator {
        let (own, default) = (&self.settings.runtime, orchestrator::Settings::default());
        let settings = orchestrator::Settings {
            account: self.settings.account.clone(),
            addresses: Some(own.addresses),
            quarantine: own.quarantine,
            healthy_after: own.healthy_after,
            lost_after: own.lost_after,
            silent_after: default.silent_after.min(own.lost_after / 2),
            secrets: Secrets::new(&self.settings.data_dir.join("secrets")),
            metadata,
            name_server,
            backoff: Curve {
                base: self.settings.limits.crash_backoff,
                cap: self.settings.limits.crash_backoff_max,
                ..default.backoff
            },
            ..default
        };
        let (store, reader) = (self.store.clone(), self.reader.clone());
        let (rng, metrics) = (fastrand::Rng::new(), self.metrics.clone());
        Orchestrator::new(store, reader, fleet, settings, Clock::System, rng, metrics)
    }

    /// Tells what changes from now on.
    pub(super) fn events(&self) -> Events {
        let (store, account) = (self.store.clone(), self.settings.account.clone());
        Events::new(store, account, self.settings.events.webhook.clone(), self.metrics.clone())
    }

    pub(super) fn scaling(&self, fleet: Fleet) -> Scaling {
        let around = Surroundings {
            store: self.store.clone(),
            reader: self.reader.clone(),
            fleet,
            account: self.settings.account.clone(),
            metrics: self.metrics.clone(),
            clock: Clock::System,
        };
        let profile = self.settings.autoscaling.profile;
        Scaling::new(around, self.series.clone(), profile, fastrand::Rng::new())
    }

    /// Applies a configuration file: binds, commits, says what came of it.
    pub(super) async fn apply(self: &Arc<Self>, file: &File) -> Result<(), ApplyError> {
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

    /// Loads the file again; a bad one is refused and the old configuration goes on.
    pub(super) async fn reload(self: &Arc<Self>) -> Reload {
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

    /// What a client of the status socket is told: everything where it asked nothing.
    pub(super) fn answer(&self, question: &str) -> String {
        if question.is_empty() {
            return self.status();
        }
        let asked = serde_json::from_str(question).map_err(|error| error.to_string());
        let routing = self.reader.load();
        let answered = asked.and_then(|asked| {
            explain::answer(&routing, &asked, clock::now()).map_err(|error| error.to_string())
        });
        serde_json::to_string(&answered).unwrap_or_else(|error| error.to_string())
    }

    fn status(&self) -> String {
        let (region, domain) = (&self.settings.account.region, &self.settings.domain);
        let routing = self.reader.load();
        let acknowledged = self.reader.acknowledged();
        let status =
            Status::of(&self.store.read(), &routing, acknowledged, region, domain, clock::now());
        serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string())
    }
}
