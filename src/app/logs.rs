//! The logs that go to files: opened at the start, reopened together.

use std::path::Path;

use super::StartError;
use super::open::io;
use crate::config::Settings;
use crate::health::HealthLog;
use crate::logs::{AccessLog, AuditLog};
use crate::metrics::Metrics;

/// None: off.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    pub(super) access: Option<AccessLog>,
    pub(super) audit: Option<AuditLog>,
    pub(super) health: Option<HealthLog>,
}

impl Logs {
    pub(super) fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, StartError> {
        let bad = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |source| io(&what, source)
        };
        let access = settings
            .access_log
            .path
            .as_deref()
            .map(|path| AccessLog::open(path, metrics).map_err(bad("access log", path)));
        let audit = settings
            .api
            .audit_log
            .as_deref()
            .map(|path| AuditLog::open(path, metrics).map_err(bad("audit log", path)));
        let health = settings
            .health_log
            .path
            .as_deref()
            .map(|path| HealthLog::open(path, metrics).map_err(bad("health log", path)));
        Ok(Self {
            access: access.transpose()?,
            audit: audit.transpose()?,
            health: health.transpose()?,
        })
    }

    /// Their files were moved away.
    pub(super) fn reopen(&self) {
        self.access.iter().for_each(AccessLog::reopen);
        self.audit.iter().for_each(AuditLog::reopen);
        self.health.iter().for_each(HealthLog::reopen);
    }
}
