//! Container instances: the places where tasks run.
//!
//! One is a Docker Engine, or this machine's child processes; every cluster has them all. Not
//! here: which task goes where (`orchestrator::placement`), what runs it (`runtime`).
//! **Invariant:** what is left of an instance is not recorded: it follows from its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Account, Arn, ClusterName, HOST_PORTS, HostPortRange, InstanceName, NetworkMode,
    TaskDefinition, Transport, hex,
};
use crate::clock::Timestamp;

/// The zone of instances that name none.
pub const ZONE: &str = "local-a";
/// ECS's built-in attribute.
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";
/// What the ECS agent keeps to itself: SSH, Docker, the agent.
pub const RESERVED_PORTS: [u16; 6] = [22, 2375, 2376, 51678, 51679, 51680];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInstance {
    pub name: InstanceName,
    pub kind: InstanceKind,
    pub zone: String,
    /// The file's.
    pub attributes: BTreeMap<String, String>,
    /// What its machine has. None: it has not told yet.
    pub capacity: Option<Capacity>,
    /// What the file says instead: CPU units and MiB.
    #[serde(default)]
    pub limits: (Option<u32>, Option<u32>),
    /// Not for tasks.
    pub reserved: Capacity,
    pub reserved_ports: BTreeSet<u16>,
    /// Where ports are chosen from.
    #[serde(default)]
    pub host_ports: HostPortRange,
    /// Where its ports of the host are reached. None: its containers are reached at their own
    /// addresses.
    #[serde(default)]
    pub address: Option<IpAddr>,
    pub contact: Contact,
    pub registered_at: Timestamp,
    /// What was asked of it in some cluster; nothing: it is ACTIVE there.
    pub memberships: BTreeMap<ClusterName, Membership>,
    /// Counts its changes, as ECS's `version`.
    pub version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceKind {
    Process,
    Docker,
}

impl InstanceKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

/// CPU units of a core.
pub const CORE: u32 = 1024;

/// CPU units, [`CORE`] to a core, and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu: u32,
    pub memory_mib: u32,
}

/// Whether its runtime answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contact {
    Connected,
    /// Not now: ECS's `agentConnected` is false, and nothing new is placed there.
    Silent,
    /// Not for so long that its services' tasks are replaced elsewhere.
    Lost,
    /// The file names it no more.
    Removed,
}

impl Contact {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }
}

/// An instance as one cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub draining: bool,
    /// Those put through the API.
    pub attributes: BTreeMap<String, String>,
}

impl ContainerInstance {
    /// One that has not been heard of.
    #[must_use]
    pub fn new(name: InstanceName, kind: InstanceKind, registered_at: Timestamp) -> Self {
        Self {
            name,
            kind,
            zone: ZONE.to_owned(),
            attributes: BTreeMap::new(),
            capacity: None,
            limits: (None, None),
            reserved: Capacity::default(),
            reserved_ports: BTreeSet::new(),
            host_ports: HOST_PORTS,
            address: None,
            contact: Contact::Silent,
            registered_at,
            memberships: BTreeMap::new(),
            version: 1,
        }
    }

    /// The same, answering, with what its machine has.
    #[must_use]
    pub const fn connected(mut self, capacity: Capacity) -> Self {
        (self.contact, self.capacity) = (Contact::Connected, Some(capacity));
        self
    }

    #[must_use]
    pub fn is_draining(&self, cluster: &ClusterName) -> bool {
        self.memberships.get(cluster).is_some_and(|membership| membership.draining)
    }

    /// ECS's `status`.
    #[must_use]
    pub fn status(&self, cluster: &ClusterName) -> &'static str {
        if self.is_draining(cluster) { "DRAINING" } else { "ACTIVE" }
    }

    /// The value of an attribute in a cluster; empty where it was given none.
    #[must_use]
    pub fn attribute(&self, cluster: &ClusterName, name: &str) -> Option<&str> {
        let put = self.memberships.get(cluster).and_then(|own| own.attributes.get(name));
        let built_in = || self.built_in().into_iter().find(|(own, _)| *own == name);
        put.or_else(|| self.attributes.get(name))
            .map(String::as_str)
            .or_else(|| built_in().map(|(_, value)| value))
    }

    /// All of them in a cluster, by name.
    #[must_use]
    pub fn all_attributes(&self, cluster: &ClusterName) -> BTreeMap<&str, &str> {
        let mut all: BTreeMap<&str, &str> = self.built_in().into_iter().collect();
        let put = self.memberships.get(cluster).into_iter().flat_map(|own| &own.attributes);
        all.extend(self.attributes.iter().chain(put).map(|(k, v)| (k.as_str(), v.as_str())));
        all
    }

    fn built_in(&self) -> [(&'static str, &str); 4] {
        // ECS's names; the runtime stands for the instance type.
        let architecture =
            if cfg!(target_arch = "aarch64") { "arm64" } else { std::env::consts::ARCH };
        [
            (ZONE_ATTRIBUTE, &self.zone),
            ("ecs.cpu-architecture", architecture),
            ("ecs.instance-type", self.kind.as_str()),
            ("ecs.os-type", "linux"),
        ]
    }

    /// What there is for tasks. None: not known yet.
    #[must_use]
    pub fn registered(&self) -> Option<Capacity> {
        let left = |all: u32, reserved: u32| all.saturating_sub(reserved);
        self.capacity.map(|all| Capacity {
            cpu: left(self.limits.0.unwrap_or(all.cpu), self.reserved.cpu),
            memory_mib: left(self.limits.1.unwrap_or(all.memory_mib), self.reserved.memory_mib),
        })
    }
}

impl Account {
    /// An instance of a cluster; its id follows from both names.
    #[must_use]
    pub fn container_instance(&self, cluster: &ClusterName, name: &InstanceName) -> Arn {
        let id = instance_id(cluster, name);
        self.within("ecs", cluster.region(), format!("container-instance/{cluster}/{id}"))
    }
}

/// 32 hexadecimal digits.
#[must_use]
pub fn instance_id(cluster: &ClusterName, name: &InstanceName) -> String {
    hex(&Sha256::digest(format!("{cluster:#}/{name}").as_bytes())[..16])
}

/// What a task takes of its instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub cpu: u64,
    pub memory_mib: u64,
    /// Ports of the host that it names; those that are chosen for it are not among them.
    pub ports: BTreeSet<(Transport, u16)>,
    /// How many of each transport it names no port of the host for …
    pub unnamed: BTreeMap<Transport, usize>,
    /// … and whether they are published on every instance.
    pub is_published: bool,
}

impl Demand {
    /// The task's own size, else the sum over its containers; of memory the reservation, where
    /// there is one (ECS).
    #[must_use]
    pub fn of(definition: &TaskDefinition) -> Self {
        let sum = |own: fn(&super::ContainerDefinition) -> Option<u32>| -> u64 {
            definition.containers.iter().filter_map(own).map(u64::from).sum()
        };
        let is_host = definition.network_mode == Some(NetworkMode::Host);
        let has_own =
            matches!(definition.network_mode, Some(NetworkMode::Awsvpc | NetworkMode::None));
        let mappings = definition.containers.iter().flat_map(|container| &container.port_mappings);
        let mappings = mappings.filter(|_| !has_own);
        let has_none = |mapping: &&super::PortMapping| mapping.host_port.is_none_or(|p| p == 0);
        let mut unnamed = BTreeMap::new();
        for mapping in mappings.clone().filter(has_none).filter(|_| !is_host) {
            *unnamed.entry(mapping.protocol).or_default() += mapping.ports().len();
        }
        let named = mappings.filter_map(|mapping| {
            let named = mapping.host_port.filter(|port| *port > 0);
            let port = if is_host { Some(mapping.container_port) } else { named };
            port.map(|port| (mapping.protocol, port))
        });
        let memory = |c: &super::ContainerDefinition| c.memory_reservation_mib.or(c.memory_mib);
        Self {
            cpu: definition.cpu.map_or_else(|| sum(|c| c.cpu), u64::from),
            memory_mib: definition.memory_mib.map_or_else(|| sum(memory), u64::from),
            ports: named.collect(),
            unnamed,
            is_published: definition.network_mode == Some(NetworkMode::Bridge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerDefinition, PortMapping};

    #[test]
    fn a_task_takes_its_own_size_or_that_of_its_containers() {
        let container = |name: &str, cpu, memory_mib, memory_reservation_mib| {
            let own = ContainerDefinition::new(name);
            ContainerDefinition { cpu, memory_mib, memory_reservation_mib, ..own }
        };
        let containers = vec![
            container("a", Some(256), Some(512), None),
            container("b", None, Some(64), Some(32)),
        ];
        let mut definition = TaskDefinition::new("f".into(), 1, containers);
        let check = |definition: &TaskDefinition, cpu, memory| {
            let demand = Demand::of(definition);
            assert_eq!((demand.cpu, demand.memory_mib), (cpu, memory));
        };
        check(&definition, 256, 544);
        (definition.cpu, definition.memory_mib) = (Some(1024), Some(2048));
        check(&definition, 1024, 2048);
    }

    #[test]
    fn only_ports_that_are_named_are_taken_of_the_host() {
        let mut web = ContainerDefinition::new("web");
        let named = PortMapping { host_port: Some(8080), ..PortMapping::tcp(80) };
        let chosen = PortMapping { host_port: Some(0), ..PortMapping::tcp(81) };
        web.port_mappings = vec![named, chosen, PortMapping::tcp(82)];
        let mut definition = TaskDefinition::new("f".into(), 1, vec![web]);
        let mut check = |mode, expected: &[u16]| {
            definition.network_mode = mode;
            let ports: Vec<u16> = Demand::of(&definition).ports.iter().map(|(_, p)| *p).collect();
            assert_eq!(ports, expected, "{mode:?}");
        };
        check(None, &[8080]);
        check(Some(NetworkMode::Bridge), &[8080]);
        check(Some(NetworkMode::Host), &[80, 81, 82]);
        check(Some(NetworkMode::Awsvpc), &[]);
        check(Some(NetworkMode::None), &[]);
        let mut unnamed = |mode| {
            definition.network_mode = mode;
            let demand = Demand::of(&definition);
            (demand.unnamed.get(&Transport::Tcp).copied(), demand.is_published)
        };
        assert_eq!(unnamed(None), (Some(2), false));
        assert_eq!(unnamed(Some(NetworkMode::Bridge)), (Some(2), true));
        assert_eq!(unnamed(Some(NetworkMode::Host)), (None, false));
    }

    #[test]
    fn an_attribute_of_the_api_hides_the_files_and_the_built_in_one() {
        let (here, there) = (ClusterName::from("here"), ClusterName::from("there"));
        let mut instance = ContainerInstance::new("a".into(), InstanceKind::Docker, Timestamp(0));
        instance.attributes = [("disk".to_owned(), "ssd".to_owned())].into();
        let put = [("disk".to_owned(), "nvme".to_owned())].into();
        let membership = Membership { draining: true, attributes: put };
        instance.memberships.insert(here.clone(), membership);
        let told = |cluster| {
            ["disk", "ecs.availability-zone", "none"].map(|name| instance.attribute(cluster, name))
        };
        assert_eq!(told(&here), [Some("nvme"), Some("local-a"), None]);
        assert_eq!(told(&there), [Some("ssd"), Some("local-a"), None]);
        assert_eq!([&here, &there].map(|c| instance.status(c)), ["DRAINING", "ACTIVE"]);
        assert_eq!(instance.all_attributes(&here)["disk"], "nvme");
        assert_ne!(instance_id(&here, &"a".into()), instance_id(&there, &"a".into()));
    }
}
