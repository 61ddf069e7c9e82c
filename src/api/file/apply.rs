//! A file becomes rows of the State: one transaction, by three-way merge with the copy last
//! applied.
//!
//! Only what the file changed since is written, so a count or a weight set elsewhere survives
//! restarts and other edits. What left the file is drained here and removed by
//! [`sweep`](super::sweep). **Invariant:** applying the same file again changes nothing, and a
//! refused file changed nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kind::Kind;
use super::merge;
use super::place::Place;
use super::source::{Bad, Problem};
use super::{File, Resources, references, sweep};
use crate::clock::Timestamp;
use crate::model::{
    BalancerOptions, Certificate, FamilyRecord, Generation, LoadBalancer, Owner, Pool,
    Registration, Service, ServiceStatus, Target, TaskDefinition, TaskDefinitionKey,
};
use crate::net::{BindError, SocketKey};
use crate::routing::RoutedListener;
use crate::state::{Applied, AppliedKey, Key, Refused, Row, State, Store, StoreError, Tx, ipam};

/// What applying a file did, by the names of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub created: Vec<String>,
    pub changed: Vec<String>,
    /// They left the file; those that still serve are drained first.
    pub removed: Vec<String>,
    /// The first State that holds it all.
    pub generation: Generation,
}

impl Summary {
    /// Whether the file said anything new.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.created.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file cannot be applied; nothing was changed.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The disk is full or failing, or the store is closed; nothing was changed.
    #[error(transparent)]
    Store(StoreError),
    /// A listener's port cannot be had; nothing was changed.
    #[error(transparent)]
    Bind(BindError),
}

/// Why the transaction ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{label} exists already and belongs to the API")]
    OwnedByApi { label: String },
    #[error("{what} is no longer in the file, but {by} refers to it")]
    Referred { kind: Kind, what: String, by: String },
    #[error("{label} needs an address, and {pool} has none left")]
    NoAddress { label: String, pool: Pool },
    #[error("the copy last applied cannot be read: {0}")]
    Copy(#[from] serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Applies `file`, and removes what earlier files left behind. `now` is the creation time of what
/// is new.
///
/// `bind` is called for each socket that a listener needs, inside the transaction: what cannot be
/// bound refuses the file.
///
/// # Errors
/// What the State refuses, told with the file's line where it is known; or a bind or the write
/// failed.
pub async fn apply(
    store: &Store,
    file: &File,
    now: Timestamp,
    bind: impl Fn(SocketKey) -> Result<(), BindError> + Send + 'static,
) -> Result<Summary, ApplyError> {
    let resources = file.resources.clone();
    let pool = file.settings.elb.addresses;
    let committed = store.update(move |tx| {
        let mut pass = Pass::new(tx, &resources, pool, now);
        pass.run()?;
        let summary = pass.summary;
        sockets(tx.state()).try_for_each(bind)?;
        Ok::<_, Fault>(summary)
    });
    match committed.await {
        Ok(committed) => Ok(Summary { generation: committed.generation, ..committed.value }),
        Err(Fault::Store(StoreError::Refused(refused))) => {
            Err(problem(file, subject(&refused), refused.to_string()).into())
        }
        Err(Fault::Store(error)) => Err(ApplyError::Store(error)),
        Err(Fault::Bind(error)) => Err(ApplyError::Bind(error)),
        Err(fault) => {
            let label = match &fault {
                Fault::OwnedByApi { label } | Fault::NoAddress { label, .. } => label.clone(),
                Fault::Referred { kind, .. } => {
                    let at = Place::default().key(&kind.slug());
                    let problem = file.source.problem(Bad::new(&at, fault.to_string()));
                    return Err(problem.into());
                }
                Fault::Copy(_) | Fault::Store(_) | Fault::Bind(_) => String::new(),
            };
            Err(problem(file, &label, fault.to_string()).into())
        }
    }
}

/// What the listeners of a State listen on.
fn sockets(state: &State) -> impl Iterator<Item = SocketKey> + '_ {
    state.listeners.values().filter_map(|listener| {
        let lb = state.load_balancers.get(&listener.key.load_balancer)?;
        let address = SocketAddr::new(lb.address, listener.key.port);
        Some(SocketKey { address, transport: RoutedListener::transport(listener.protocol) })
    })
}

fn problem(file: &File, label: &str, reason: String) -> Problem {
    let at = file.resources.place(label).cloned();
    let at = at.unwrap_or_else(|| Place::default().key("(file)"));
    file.source.problem(Bad::new(&at, reason))
}

/// Whose line a refusal belongs to.
fn subject(refused: &Refused) -> &str {
    match refused {
        Refused::Missing { of, .. } => of,
        Refused::InUse { what, .. }
        | Refused::DuplicateListener { what, .. }
        | Refused::Invalid { what, .. } => what,
        Refused::Backwards { task, .. } => task,
    }
}

struct Pass<'t, 'a> {
    tx: &'t mut Tx<'a>,
    resources: &'t Resources,
    pool: Pool,
    now: Timestamp,
    /// The copies last applied.
    base: BTreeMap<AppliedKey, Value>,
    /// The copies of this file.
    written: BTreeMap<AppliedKey, Value>,
    summary: Summary,
}

impl<'t, 'a> Pass<'t, 'a> {
    fn new(tx: &'t mut Tx<'a>, resources: &'t Resources, pool: Pool, now: Timestamp) -> Self {
        let applied = tx.state().applied.values();
        let base = applied.map(|row| (row.resource.clone(), row.written.clone())).collect();
        let (written, summary) = (BTreeMap::new(), Summary::default());
        Self { tx, resources, pool, now, base, written, summary }
    }

    fn run(&mut self) -> Result<(), Fault> {
        self.names()?;
        self.definitions()?;
        self.certificates()?;
        self.trust_stores()?;
        self.groups()?;
        self.balancers()?;
        self.services()?;
        self.leave()?;
        self.copies();
        sweep::sweep(self.tx, self.now);
        Ok(())
    }

    /// Puts `fresh`, merged into `current` where there is one. `ours` are the members that the
    /// file has no say in.
    fn put<T>(
        &mut self,
        (kind, name): (Kind, String),
        current: Option<(Arc<T>, Owner)>,
        fresh: T,
        ours: &[&str],
    ) -> Result<(), Fault>
    where
        T: Serialize + DeserializeOwned + PartialEq,
        Row: From<T>,
    {
        let (key, label) = (kind.key(&name), kind.label(&name));
        let written = merge::written(&fresh, ours)?;
        match current {
            Some((_, Owner::Api)) => return Err(Fault::OwnedByApi { label }),
            Some((current, Owner::File)) => {
                let merged = merge::merge(self.base.get(&key), &written, &*current)?;
                if merged != *current {
                    self.summary.changed.push(label);
                    self.tx.put(merged);
                }
            }
            None => {
                self.summary.created.push(label);
                self.tx.put(fresh);
            }
        }
        self.written.insert(key, written);
        Ok(())
    }

    fn state(&self) -> &State {
        self.tx.state()
    }

    fn names(&mut self) -> Result<(), Fault> {
        let resources = self.resources;
        for cluster in &resources.clusters {
            let current = self.state().clusters.get(&cluster.name).cloned();
            // The default one is everybody's, in no copy, and stays.
            if cluster.name.as_str() == super::meaning::DEFAULT_CLUSTER {
                if current.is_none() {
                    self.tx.put(cluster.clone());
                }
                continue;
            }
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::Cluster, cluster.name.to_string());
            self.put(name, current, cluster.clone(), &[])?;
        }
        for namespace in &resources.namespaces {
            let current = self.state().namespaces.get(&namespace.name).cloned();
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::Namespace, namespace.name.to_string());
            self.put(name, current, namespace.clone(), &[])?;
        }
        for service in &resources.discovery_services {
            let current = self.state().discovery_services.get(&service.key).cloned();
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::DiscoveryService, service.key.to_string());
            self.put(name, current, service.clone(), &[])?;
        }
        Ok(())
    }

    /// Never merged: nobody else changes them, and no copy of a key is kept.
    fn certificates(&mut self) -> Result<(), Fault> {
        for certificate in &self.resources.certificates {
            let label = Kind::Certificate.label(&certificate.arn);
            let current = self.state().certificates.get(&certificate.arn).cloned();
            let created_at = current.as_ref().map_or(self.now, |row| row.created_at);
            let imported_at = current.as_ref().map_or(self.now, |row| row.imported_at);
            let fresh = Certificate { created_at, imported_at, ..certificate.clone() };
            match current {
                Some(row) if row.owner == Owner::Api => return Err(Fault::OwnedByApi { label }),
                Some(row) if *row == fresh => {}
                Some(_) => {
                    self.summary.changed.push(label);
                    self.tx.put(Certificate { imported_at: self.now, ..fresh });
                }
                None => {
                    self.summary.created.push(label);
                    self.tx.put(fresh);
                }
            }
            self.written.insert(Kind::Certificate.key(&certificate.arn), Value::Null);
        }
        Ok(())
    }

    /// As certificates.
    fn trust_stores(&mut self) -> Result<(), Fault> {
        for store in &self.resources.trust_stores {
            let label = Kind::TrustStore.label(&store.name);
            match self.state().trust_stores.get(&store.name) {
                Some(row) if row.owner == Owner::Api => return Err(Fault::OwnedByApi { label }),
                Some(row) if **row == *store => {}
                Some(_) => self.summary.changed.push(label),
                None => self.summary.created.push(label),
            }
            self.tx.put(store.clone());
            self.written.insert(Kind::TrustStore.key(&store.name), Value::Null);
        }
        Ok(())
    }

    fn definitions(&mut self) -> Result<(), Fault> {
        let resources = self.resources;
        for definition in &resources.definitions {
            let key = Kind::TaskDefinition.key(&definition.family);
            let content = serde_json::to_value(definition)?;
            let revision = match self.registered(&key, &content, definition) {
                Some(revision) => revision,
                None => self.register(&key, definition),
            };
            self.written.insert(key, json!({ "content": content, "revision": revision }));
        }
        Ok(())
    }

    /// The revision that has this content already.
    fn registered(
        &self,
        key: &AppliedKey,
        content: &Value,
        definition: &TaskDefinition,
    ) -> Option<u32> {
        let family = &definition.family;
        let known = |revision: u32| {
            let key = TaskDefinitionKey { family: family.clone(), revision };
            self.state().definitions.get(&key)
        };
        let base = self.base.get(key).filter(|base| base.get("content") == Some(content));
        if let Some(revision) = base.and_then(revision_of).filter(|r| known(*r).is_some()) {
            return Some(revision);
        }
        let newest = self.state().families.get(family)?.last_revision;
        known(newest).filter(|known| known.is_same_content(definition)).map(|_| newest)
    }

    fn register(&mut self, key: &AppliedKey, definition: &TaskDefinition) -> u32 {
        let family = definition.family.clone();
        let last = self.state().families.get(&family).map_or(0, |record| record.last_revision);
        let revision = last + 1;
        self.tx.put(FamilyRecord { family: family.clone(), last_revision: revision });
        let registered_at = Some(self.now);
        let definition = TaskDefinition { revision, registered_at, ..definition.clone() };
        self.written.insert(Kind::Revision.key(definition.key()), Value::Null);
        self.tx.put(definition);
        let label = Kind::TaskDefinition.label(&family);
        let list = if self.base.contains_key(key) {
            &mut self.summary.changed
        } else {
            &mut self.summary.created
        };
        list.push(label);
        revision
    }

    fn groups(&mut self) -> Result<(), Fault> {
        let resources = self.resources;
        for group in &resources.target_groups {
            let current = self.state().target_groups.get(&group.name).cloned();
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::TargetGroup, group.name.to_string());
            self.put(name, current, group.clone(), &["id"])?;
        }
        for target in &resources.targets {
            let key = Kind::Target.key(target_name(&target.group, target.socket_address()));
            if !self.base.contains_key(&key) && active(self.state(), target).is_none() {
                let id = self.tx.next_registration();
                let label = Kind::Target.label(target_name(&target.group, target.socket_address()));
                self.summary.created.push(label);
                self.tx.put(Target {
                    id,
                    group: target.group.clone(),
                    address: target.address,
                    port: target.port,
                    task: None,
                    registration: Registration::Active,
                    registered_at: self.now,
                });
            }
            self.written.insert(key, serde_json::to_value(target)?);
        }
        Ok(())
    }

    fn balancers(&mut self) -> Result<(), Fault> {
        let resources = self.resources;
        // Those that ask for an address come first, so that nobody is given it.
        let (fixed, free): (Vec<_>, Vec<_>) =
            resources.load_balancers.iter().partition(|balancer| balancer.address.is_some());
        for balancer in fixed.into_iter().chain(free) {
            let current = self.state().load_balancers.get(&balancer.name).cloned();
            let label = Kind::LoadBalancer.label(&balancer.name);
            let kept = balancer.address.or_else(|| current.as_ref().map(|row| row.address));
            let address = kept.or_else(|| ipam::free_address(self.state(), self.pool, self.now));
            let pool = self.pool;
            let fresh = LoadBalancer {
                name: balancer.name.clone(),
                id: super::meaning::id_of(&label),
                kind: balancer.kind,
                address: address.ok_or(Fault::NoAddress { label, pool })?,
                idle_timeout: balancer.idle_timeout,
                client_keep_alive: balancer.client_keep_alive,
                owner: Owner::File,
                created_at: self.now,
                options: BalancerOptions {
                    desync_mitigation_mode: balancer.desync_mitigation_mode,
                    requests: balancer.requests,
                    ..BalancerOptions::default()
                },
            };
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let ours: &[&str] = match balancer.address {
                Some(_) => &["id", "created_at"],
                None => &["id", "created_at", "address"],
            };
            self.put((Kind::LoadBalancer, balancer.name.to_string()), current, fresh, ours)?;
        }
        for listener in &resources.listeners {
            let current = self.state().listeners.get(&listener.key).cloned();
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::Listener, listener.key.to_string());
            self.put(name, current, listener.clone(), &["id"])?;
        }
        Ok(())
    }

    fn services(&mut self) -> Result<(), Fault> {
        let resources = self.resources;
        for service in &resources.services {
            let family = &service.definition.family;
            let written = self.written.get(&Kind::TaskDefinition.key(family));
            let revision = written.and_then(revision_of).unwrap_or_default();
            let fresh = Service {
                definition: TaskDefinitionKey { family: family.clone(), revision },
                created_at: self.now,
                ..service.clone()
            };
            let current = self.state().services.get(&service.key).cloned();
            let current = current.map(|row| (Arc::clone(&row), row.owner));
            let name = (Kind::Service, service.key.to_string());
            self.put(name, current, fresh, &["created_at", "options"])?;
            self.put_exec(service);
        }
        Ok(())
    }

    /// Of a service's options this one is the file's.
    fn put_exec(&mut self, service: &Service) {
        let wanted = service.options.launch.exec;
        let row = self.state().services.get(&service.key).map(|row| Service::clone(row));
        let Some(mut row) = row.filter(|row| row.options.launch.exec != wanted) else { return };
        row.options.launch.exec = wanted;
        let label = Kind::Service.label(&row.key);
        if !self.summary.changed.contains(&label) {
            self.summary.changed.push(label);
        }
        self.tx.put(row);
    }

    /// What the last file had and this one does not.
    fn leave(&mut self) -> Result<(), Fault> {
        let gone: Vec<AppliedKey> =
            self.base.keys().filter(|key| !self.written.contains_key(*key)).cloned().collect();
        for key in gone {
            let Some((kind, name)) = Kind::of(&key) else { continue };
            if kind == Kind::Revision {
                // Only its end, which `sweep` sees, takes the mark away.
                self.written.insert(key, Value::Null);
                continue;
            }
            let what = kind.label(name);
            if let Some(by) = references::of_api(self.state(), kind, name) {
                return Err(Fault::Referred { kind, what, by });
            }
            self.summary.removed.push(what);
            match kind {
                Kind::Service => self.drain_service(name),
                Kind::Target => self.drain_target(&key)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn drain_service(&mut self, name: &str) {
        let services = self.state().services.values();
        let service =
            services.filter(|row| row.owner == Owner::File).find(|row| row.key.to_string() == name);
        if let Some(service) = service.cloned() {
            let status = ServiceStatus::Draining;
            self.tx.put(Service { desired_count: 0, status, ..(*service).clone() });
        }
    }

    fn drain_target(&mut self, key: &AppliedKey) -> Result<(), Fault> {
        let Some(written) = self.base.get(key) else { return Ok(()) };
        let target = serde_json::from_value(written.clone())?;
        if let Some(row) = active(self.state(), &target) {
            self.tx.put(drained(&row, self.now));
        }
        Ok(())
    }

    fn copies(&mut self) {
        for resource in self.base.keys().filter(|key| !self.written.contains_key(*key)) {
            self.tx.remove(Key::Applied(resource.clone()));
        }
        for (resource, written) in &self.written {
            self.tx.put(Applied { resource: resource.clone(), written: written.clone() });
        }
    }
}

pub(super) fn drained(target: &Target, now: Timestamp) -> Target {
    Target { registration: Registration::Draining { since: now }, ..target.clone() }
}

fn target_name(group: impl std::fmt::Display, address: SocketAddr) -> String {
    format!("{group}/{address}")
}

/// Whether the file names this fixed target.
pub(in crate::api) fn wrote_target(state: &State, target: &Target) -> bool {
    let name = target_name(&target.group, target.socket_address());
    target.task.is_none() && state.applied.contains_key(&Kind::Target.key(name))
}

/// The revision that the copy of a task definition names.
pub(super) fn revision_of(written: &Value) -> Option<u32> {
    written.get("revision")?.as_u64()?.try_into().ok()
}

/// The active registration of a fixed target.
fn active(state: &State, target: &super::FixedTarget) -> Option<Arc<Target>> {
    let mut rows = state.targets.values();
    let row = rows.find(|row| {
        row.is_active()
            && row.task.is_none()
            && row.group == target.group
            && row.socket_address() == target.socket_address()
    });
    row.cloned()
}

#[cfg(test)]
mod tests;
