//! Who refers to a resource: what keeps the file from dropping it, and what keeps it from being
//! removed yet.
//!
//! Pure, the same references as the State's own rules. **Invariant:** what [`any`] calls free,
//! the State lets go.

use super::kind::Kind;
use crate::model::{DiscoveryInstance, Listener, Owner, Rollout, Service};
use crate::state::State;

/// Something of the API that refers to the resource, in words.
pub(super) fn of_api(state: &State, kind: Kind, name: &str) -> Option<String> {
    referring(state, kind, name)
        .into_iter()
        .find_map(|(owner, by)| (owner == Some(Owner::Api)).then(|| format!("{by} (API)")))
}

/// Whether anything at all refers to the resource.
pub(super) fn any(state: &State, kind: Kind, name: &str) -> bool {
    !referring(state, kind, name).is_empty()
}

/// Everything that refers to the resource; without an owner: what runs because of it.
fn referring(state: &State, kind: Kind, name: &str) -> Vec<(Option<Owner>, String)> {
    let services = |uses: &dyn Fn(&Service) -> bool| -> Vec<(Option<Owner>, String)> {
        let using = state.services.values().filter(|service| uses(service));
        using.map(|row| (Some(row.owner), Kind::Service.label(&row.key))).collect()
    };
    let listeners = |uses: &dyn Fn(&Listener) -> bool| -> Vec<(Option<Owner>, String)> {
        let using = state.listeners.values().filter(|listener| uses(listener));
        using.map(|row| (Some(row.owner), Kind::Listener.label(&row.key))).collect()
    };
    match kind {
        Kind::Cluster => {
            let tasks = state.tasks.values().filter(|task| task.cluster.as_str() == name);
            let tasks = tasks.map(|task| {
                let owner = if task.service.is_none() { Some(Owner::Api) } else { None };
                (owner, format!("task {}", task.id))
            });
            tasks.chain(services(&|row| row.key.cluster.as_str() == name)).collect()
        }
        Kind::Namespace => {
            let rows = state.discovery_services.values();
            let inside = rows.filter(|row| row.key.namespace.as_str() == name);
            inside.map(|row| (Some(row.owner), Kind::DiscoveryService.label(&row.key))).collect()
        }
        Kind::DiscoveryService => {
            let rows = state.discovery_instances.values();
            let inside = rows.filter(|row| row.key.service.to_string() == name);
            let named = |row: &Service| {
                row.discovery.as_ref().is_some_and(|d| d.service.to_string() == name)
            };
            inside.map(|row| instance(row)).chain(services(&named)).collect()
        }
        Kind::TaskDefinition => services(&|row| row.definition.family.as_str() == name),
        Kind::Revision => revision(state, name),
        Kind::TargetGroup => {
            let forwards =
                |listener: &Listener| listener.groups().any(|group| group.as_str() == name);
            let named = |row: &Service| {
                let mut groups = row.load_balancers.iter().flat_map(|lb| lb.groups());
                groups.any(|group| group.as_str() == name)
            };
            let targets = state.targets.values().filter(|row| row.group.as_str() == name);
            let targets = targets.map(|row| (None, format!("target {}", row.id)));
            listeners(&forwards).into_iter().chain(services(&named)).chain(targets).collect()
        }
        Kind::Certificate => listeners(&|row| {
            let tls = row.options.tls.as_ref();
            tls.is_some_and(|tls| tls.certificates.iter().any(|arn| arn.as_str() == name))
        }),
        Kind::TrustStore => listeners(&|row| {
            let store = row.options.tls.as_ref().and_then(|tls| tls.mutual.store());
            store.is_some_and(|store| store.as_str() == name)
        }),
        Kind::LoadBalancer => listeners(&|row| row.key.load_balancer.as_str() == name),
        Kind::Target | Kind::Listener | Kind::Service => Vec::new(),
    }
}

/// One of no task was registered by hand.
fn instance(row: &DiscoveryInstance) -> (Option<Owner>, String) {
    let owner = if row.task.is_none() { Some(Owner::Api) } else { None };
    (owner, format!("instance {}", row.key))
}

/// A revision is used by services, by tasks that are still on record, and by deployments.
fn revision(state: &State, name: &str) -> Vec<(Option<Owner>, String)> {
    let is = |key: &crate::model::TaskDefinitionKey| key.to_string() == name;
    let services = state.services.values().filter(|row| is(&row.definition));
    let tasks = state.tasks.values().filter(|task| is(&task.definition));
    let deployed = state.progress.values().filter(|progress| {
        // While a rollout is under way, its service may have to go back.
        let rolls = progress.deployments.first().is_some_and(|d| d.rollout == Rollout::InProgress);
        let back = progress.ended.iter().find(|ended| rolls && ended.was_good());
        progress.deployments.iter().chain(back).any(|deployment| is(&deployment.definition))
    });
    services
        .map(|row| (Some(row.owner), Kind::Service.label(&row.key)))
        .chain(tasks.map(|task| (None, format!("task {}", task.id))))
        .chain(deployed.map(|progress| (None, Kind::Service.label(&progress.service))))
        .collect()
}
