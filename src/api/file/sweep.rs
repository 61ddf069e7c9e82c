//! Removes what the file made, names no longer, and nothing uses any more.
//!
//! Level-triggered: looks at the State and the copies last applied, and may be called at any
//! time, as often as one likes. **Invariant:** only rows that the file owns go, and only when the
//! State's rules let them.

use super::apply::{drained, revision_of};
use super::kind::Kind;
use super::references;
use crate::clock::Timestamp;
use crate::model::{Owner, TargetGroupName, TaskDefinitionKey};
use crate::state::{Applied, Key, State, Store, StoreError, Tx};

/// Sweeps in a transaction of its own; does nothing when there is nothing to sweep. To be called
/// when a draining service or target has gone.
///
/// # Errors
/// The write failed; nothing was removed.
pub async fn sweep_store(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let change = move |tx: &mut Tx<'_>| {
        sweep(tx, now);
        Ok::<_, StoreError>(())
    };
    store.update(change).await.map(|_| ())
}

/// In an order in which each removal can make the next one possible.
pub(super) fn sweep(tx: &mut Tx<'_>, now: Timestamp) {
    let state = tx.state();
    let listeners = state.listeners.values();
    let listeners = listeners.filter(|row| left(state, row.owner, Kind::Listener, &row.key));
    let keys: Vec<_> = listeners.map(|row| Key::Listener(row.key.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    let state = tx.state();
    let balancers = state.load_balancers.values();
    let balancers = balancers.filter(|row| free(state, row.owner, Kind::LoadBalancer, &row.name));
    let keys: Vec<_> = balancers.map(|row| Key::LoadBalancer(row.name.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    let state = tx.state();
    let certificates = state.certificates.values();
    let certificates =
        certificates.filter(|row| free(state, row.owner, Kind::Certificate, &row.arn));
    let keys: Vec<_> = certificates.map(|row| Key::Certificate(row.arn.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    let state = tx.state();
    let stores = state.trust_stores.values();
    let stores = stores.filter(|row| free(state, row.owner, Kind::TrustStore, &row.name));
    let keys: Vec<_> = stores.map(|row| Key::TrustStore(row.name.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    groups(tx, now);

    let state = tx.state();
    let names = state.discovery_services.values();
    let names = names.filter(|row| free(state, row.owner, Kind::DiscoveryService, &row.key));
    let keys: Vec<_> = names.map(|row| Key::DiscoveryService(row.key.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    let state = tx.state();
    let namespaces = state.namespaces.values();
    let namespaces = namespaces.filter(|row| free(state, row.owner, Kind::Namespace, &row.name));
    let keys: Vec<_> = namespaces.map(|row| Key::Namespace(row.name.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));

    revisions(tx);

    let state = tx.state();
    let clusters = state.clusters.values().filter(|row| {
        let default = row.name.as_str() == super::meaning::DEFAULT_CLUSTER;
        !default && free(state, row.owner, Kind::Cluster, &row.name)
    });
    let keys: Vec<_> = clusters.map(|row| Key::Cluster(row.name.clone())).collect();
    keys.into_iter().for_each(|key| tx.remove(key));
}

/// Made by the file, and not in it any more.
fn left(state: &State, owner: Owner, kind: Kind, name: impl std::fmt::Display) -> bool {
    owner == Owner::File && !state.applied.contains_key(&kind.key(name))
}

fn free(state: &State, owner: Owner, kind: Kind, name: impl std::fmt::Display) -> bool {
    let name = name.to_string();
    left(state, owner, kind, &name) && !references::any(state, kind, &name)
}

/// A target group's last fixed targets are drained; whoever drains removes them.
fn groups(tx: &mut Tx<'_>, now: Timestamp) {
    let state = tx.state();
    let groups = state.target_groups.values();
    let groups: Vec<TargetGroupName> = groups
        .filter(|row| left(state, row.owner, Kind::TargetGroup, &row.name))
        .map(|row| row.name.clone())
        .collect();
    for group in groups {
        let targets = tx.state().targets_of_group(&group);
        let fixed = targets.filter(|target| target.is_active() && target.task.is_none());
        let fixed: Vec<_> = fixed.map(|target| drained(target, now)).collect();
        fixed.into_iter().for_each(|target| tx.put(target));
        if !references::any(tx.state(), Kind::TargetGroup, group.as_str()) {
            tx.remove(Key::TargetGroup(group));
        }
    }
}

/// Revisions that the file registered, except each family's current one.
fn revisions(tx: &mut Tx<'_>) {
    let state = tx.state();
    let unused = |row: &Applied| -> Option<TaskDefinitionKey> {
        let (Kind::Revision, name) = Kind::of(&row.resource)? else { return None };
        let key: TaskDefinitionKey = name.parse().ok()?;
        let current = state.applied.get(&Kind::TaskDefinition.key(&key.family));
        let current = current.and_then(|row| revision_of(&row.written)) == Some(key.revision);
        (!current && !references::any(state, Kind::Revision, name)).then_some(key)
    };
    let unused: Vec<_> = state.applied.values().filter_map(|row| unused(row)).collect();
    for key in unused {
        tx.remove(Key::Applied(Kind::Revision.key(&key)));
        tx.remove(Key::TaskDefinition(key));
    }
}
