//! What stands in the simulated house before anything is asked for: definitions, target groups,
//! names.

use std::time::Duration;

use roadstead::model::{
    Cluster, ContainerDefinition, Dependency, DependencyCondition, DiscoveryKey, DiscoveryService,
    Namespace, Owner, PortMapping, Protocol, TargetGroup, TaskDefinition,
};
use roadstead::state::{StoreError, Tx};

use super::world::{DELAY, TTL};

pub(crate) const GROUPS: [&str; 2] = ["g0", "g1"];
pub(crate) const REVISIONS: u32 = 4;

fn definition(revision: u32) -> TaskDefinition {
    let container = |name: &str, essential: bool| ContainerDefinition {
        command: vec!["run".to_owned()],
        essential,
        port_mappings: vec![PortMapping::tcp(80)],
        stop_timeout: Some(Duration::from_secs(3)),
        ..ContainerDefinition::new(name)
    };
    let mut containers = vec![container("app", true)];
    if revision.is_multiple_of(2) {
        let condition = DependencyCondition::Start;
        let depends_on = vec![Dependency { container: "app".to_owned(), condition }];
        containers.push(ContainerDefinition { depends_on, ..container("log", false) });
    }
    TaskDefinition::new("web".into(), revision, containers)
}

fn group(name: &str) -> TargetGroup {
    TargetGroup {
        deregistration_delay: DELAY,
        ..TargetGroup::new(name.into(), "0".repeat(16), (Protocol::Http, 80), Owner::Api)
    }
}

pub(crate) fn registry(name: &str) -> DiscoveryKey {
    DiscoveryKey { namespace: "demo.internal".into(), name: name.into() }
}

pub(crate) fn furnish(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.put(Cluster::new("c".into(), Owner::Api));
    for revision in 1..=REVISIONS {
        tx.put(definition(revision));
    }
    for name in GROUPS {
        tx.put(group(name));
    }
    tx.put(Namespace::new("demo.internal".into(), Duration::from_secs(1), Owner::Api));
    for name in ["n0", "n1"] {
        tx.put(DiscoveryService::new(registry(name), TTL, Owner::Api));
    }
    Ok(())
}
