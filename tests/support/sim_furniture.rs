//! What stands in the simulated house before anything is asked for: definitions, target groups,
//! names.

use std::time::Duration;

use roadstead::clock::Timestamp;
use roadstead::model::{
    Action, BalancerOptions, CLIENT_KEEP_ALIVE, Capacity, Carrier, Cluster, ContainerDefinition,
    ContainerInstance, Dependency, DependencyCondition, DiscoveryKey, DiscoveryService, GroupPair,
    IDLE_TIMEOUT, InstanceKind, Listener, ListenerKey, ListenerOptions, LoadBalancer,
    LoadBalancerKind, Namespace, Owner, PortMapping, Protocol, ServiceTargetGroup, TargetGroup,
    TaskDefinition, TrafficRule, WeightedGroup,
};
use roadstead::state::{StoreError, Tx};

use super::world::{DELAY, INSTANCES, TTL};

pub(crate) const GROUPS: [&str; 2] = ["g0", "g1"];
pub(crate) const REVISIONS: u32 = 4;
/// The service whose deployments take turns between two groups, and the other group.
pub(crate) const PAIRED: &str = "d";
const ALTERNATE: &str = "g2";

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

pub(crate) fn listener() -> Listener {
    let first = WeightedGroup { group: GROUPS[0].into(), weight: 1 };
    Listener {
        key: ListenerKey { load_balancer: "front".into(), port: 80 },
        id: "0".repeat(16),
        protocol: Protocol::Http,
        carrier: Carrier::Native,
        rules: Vec::new(),
        default_action: Action::Forward(vec![first]),
        owner: Owner::Api,
        options: ListenerOptions::default(),
    }
}

/// The first group, paired by the default action of the only listener.
pub(crate) fn paired() -> ServiceTargetGroup {
    let production = TrafficRule { listener: listener().key, rule: None };
    let pair = GroupPair { alternate: ALTERNATE.into(), production, test: None, role: None };
    ServiceTargetGroup { group: GROUPS[0].into(), container_port: 80, pair: Some(pair) }
}

pub(crate) fn registry(name: &str) -> DiscoveryKey {
    DiscoveryKey { namespace: "demo.internal".into(), name: name.into() }
}

pub(crate) fn furnish(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.put(Cluster::new("c".into(), Owner::Api));
    for (name, zone) in INSTANCES {
        let row = ContainerInstance::new(name.into(), InstanceKind::Process, Timestamp(0));
        let row = row.connected(Capacity { cpu: 1 << 20, memory_mib: 1 << 20 });
        tx.put(ContainerInstance { zone: zone.to_owned(), ..row });
    }
    for revision in 1..=REVISIONS {
        tx.put(definition(revision));
    }
    for name in GROUPS.into_iter().chain([ALTERNATE]) {
        tx.put(group(name));
    }
    tx.put(LoadBalancer {
        name: "front".into(),
        id: "0".repeat(16),
        kind: LoadBalancerKind::Application,
        address: "127.0.0.1".parse().unwrap(),
        idle_timeout: IDLE_TIMEOUT,
        client_keep_alive: CLIENT_KEEP_ALIVE,
        owner: Owner::Api,
        created_at: Timestamp(0),
        options: BalancerOptions::default(),
    });
    tx.put(listener());
    tx.put(Namespace::new("demo.internal".into(), Duration::from_secs(1), Owner::Api));
    for name in ["n0", "n1"] {
        tx.put(DiscoveryService::new(registry(name), TTL, Owner::Api));
    }
    Ok(())
}
