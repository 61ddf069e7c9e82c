//! The world at one generation, and the only way to change it.
//!
//! [`State`] is a set of immutable tables; [`Store`] holds the current one and is its single
//! writer. Not here: what anything means for traffic (`routing` compiles that), any decision.
//! **Invariant:** every State that a reader can see obeys the referential rules of
//! [`rules`](self::refer), and its generation was never used before.

mod bell;
pub mod ipam;
mod journal;
pub mod ports;
mod refer;
mod region;
mod store;
mod tables;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{
    BadKey, CertificateArn, Contact, DiscoveryInstance, DiscoveryService, HostedZoneId,
    InstanceName, Namespace, RecordSet, RecordSetKey, RegistrationId, ServiceKey, Target,
    TargetGroupName, Task, TaskId, TrustStoreName, Verdict, VerdictState,
};

pub use bell::{Bell, Closed, Listener};
pub use journal::{Journal, JournalError, MemoryJournal};
pub use refer::Refused;
pub use region::View;
pub use store::{Commit, Committed, Store, StoreError, Tx};
pub use tables::{BadRow, Key, Row, State, Table, changed};

/// An address that no task may get before `until`, because caches may still name its last owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub address: QuarantineKey,
    pub until: Timestamp,
}

/// An address in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuarantineKey(pub IpAddr);

impl fmt::Display for QuarantineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for QuarantineKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        text.parse().map(Self).map_err(|_| BadKey(text.to_owned()))
    }
}

/// One resource as the configuration file last wrote it: the base of the three-way merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub resource: AppliedKey,
    /// The resource as written, in the file front's own form.
    pub written: serde_json::Value,
}

/// A resource of the file: its kind and name, `service/default/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppliedKey(pub String);

impl fmt::Display for AppliedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AppliedKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        Ok(Self(text.to_owned()))
    }
}

impl State {
    /// The tasks of a service that are not STOPPED yet, oldest first where ids do not decide
    /// otherwise.
    pub fn tasks_of(&self, service: &ServiceKey) -> impl Iterator<Item = &Task> {
        self.tasks.values().map(AsRef::as_ref).filter(move |t| t.service.as_ref() == Some(service))
    }

    pub fn targets_of_group(&self, group: &TargetGroupName) -> impl Iterator<Item = &Target> {
        self.targets.values().map(AsRef::as_ref).filter(move |t| &t.group == group)
    }

    pub fn targets_of_task(&self, task: &TaskId) -> impl Iterator<Item = &Target> {
        self.targets.values().map(AsRef::as_ref).filter(move |t| t.task.as_ref() == Some(task))
    }

    pub fn instances_of_task(&self, task: &TaskId) -> impl Iterator<Item = &DiscoveryInstance> {
        self.discovery_instances
            .values()
            .map(AsRef::as_ref)
            .filter(move |instance| instance.task.as_ref() == Some(task))
    }

    /// By the id that ARNs and AWS's clients name it by: `ns-…`.
    #[must_use]
    pub fn namespace_by_id(&self, id: &str) -> Option<&Namespace> {
        self.namespaces.values().map(AsRef::as_ref).find(|namespace| namespace.id() == id)
    }

    /// By the id that ARNs and AWS's clients name it by: `srv-…`.
    #[must_use]
    pub fn discovery_service_by_id(&self, id: &str) -> Option<&DiscoveryService> {
        self.discovery_services.values().map(AsRef::as_ref).find(|service| service.id() == id)
    }

    /// In the order of their names.
    pub fn record_sets_of<'a>(
        &'a self,
        zone: &'a HostedZoneId,
    ) -> impl Iterator<Item = &'a RecordSet> {
        let rows = self.record_sets.range(RecordSetKey::first(zone, "")..);
        rows.map(|(_, row)| &**row).take_while(move |row| &row.key.zone == zone)
    }

    /// Those of one name.
    pub fn record_sets_at<'a>(
        &'a self,
        zone: &'a HostedZoneId,
        name: &'a str,
    ) -> impl Iterator<Item = &'a RecordSet> {
        let rows = self.record_sets.range(RecordSetKey::first(zone, name)..);
        let at = move |key: &RecordSetKey| &key.zone == zone && key.name == name;
        rows.map(|(_, row)| &**row).take_while(move |row| at(&row.key))
    }

    /// Whether nobody may wait for an instance any more.
    #[must_use]
    pub fn is_lost(&self, instance: &InstanceName) -> bool {
        self.instances.get(instance).is_none_or(|row| row.contact >= Contact::Lost)
    }

    #[must_use]
    pub fn verdict(&self, target: RegistrationId) -> Option<&Verdict> {
        self.verdicts.get(&target).map(AsRef::as_ref)
    }

    /// The listeners that present a certificate.
    pub fn presenting<'a>(
        &'a self,
        certificate: &'a CertificateArn,
    ) -> impl Iterator<Item = &'a Arc<crate::model::Listener>> {
        self.listeners.values().filter(move |listener| {
            let tls = listener.options.tls.as_ref();
            tls.is_some_and(|tls| tls.certificates.contains(certificate))
        })
    }

    /// The listeners that verify clients' certificates by a trust store.
    pub fn trusting<'a>(
        &'a self,
        store: &'a TrustStoreName,
    ) -> impl Iterator<Item = &'a Arc<crate::model::Listener>> {
        self.listeners.values().filter(move |listener| {
            let tls = listener.options.tls.as_ref();
            tls.and_then(|tls| tls.mutual.store()) == Some(store)
        })
    }

    #[must_use]
    pub fn verdict_state(&self, target: RegistrationId) -> VerdictState {
        self.verdict(target).map_or(VerdictState::Initial, |verdict| verdict.state)
    }
}
