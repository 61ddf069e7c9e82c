//! Ports of the host that a task is given for ports of its containers.
//!
//! Not here: which are free (`state::ports`), publishing them (`runtime`). **Invariant:** what a
//! task is given is recorded before a container is made with it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{ContainerInstance, NetworkMode, PortMapping, TaskDefinition, Transport};

/// Where the host chooses ports from, unless the file says otherwise (ours: outside of Linux's
/// range of ports that clients get, 32768 to 60999, so that no connection of the machine is in the
/// way).
pub const HOST_PORTS: HostPortRange = HostPortRange { first: 20_000, last: 31_999 };

/// Ports in a row, both ends included; as text `20000-31999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPortRange {
    pub first: u16,
    pub last: u16,
}

impl HostPortRange {
    #[must_use]
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports it has.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

impl Default for HostPortRange {
    fn default() -> Self {
        HOST_PORTS
    }
}

impl TryFrom<String> for HostPortRange {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('-');
        let parts = parts.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        match parts {
            Some((first, last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err("must be two ports such as 20000-31999"),
        }
    }
}

impl From<HostPortRange> for String {
    fn from(range: HostPortRange) -> Self {
        range.to_string()
    }
}

/// `FIRST-LAST`.
impl std::fmt::Display for HostPortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Ports of the host in a row, for as many ports of a container in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPorts {
    pub container: String,
    pub protocol: Transport,
    /// The first of the container's.
    pub container_port: u16,
    /// The first of the host's.
    pub host_port: u16,
    pub count: u16,
}

impl HostPorts {
    /// The host's ports.
    #[must_use]
    pub const fn ports(&self) -> RangeInclusive<u16> {
        self.host_port..=self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    /// The host's port for one of the container's. None: it is another's.
    #[must_use]
    pub fn of(&self, port: u16) -> Option<u16> {
        let offset = port.checked_sub(self.container_port).filter(|offset| *offset < self.count)?;
        self.host_port.checked_add(offset)
    }
}

impl TaskDefinition {
    /// The mappings of a task on `instance` that the host chooses ports for, with their containers:
    /// all without a port of their own in network mode bridge; without a mode too, where its
    /// containers are reached at ports of the host alone.
    pub fn chosen_ports(
        &self,
        instance: &ContainerInstance,
    ) -> impl Iterator<Item = (&str, &PortMapping)> {
        let chooses = match self.network_mode {
            Some(NetworkMode::Bridge) => true,
            None => instance.address.is_some(),
            Some(NetworkMode::Awsvpc | NetworkMode::Host | NetworkMode::None) => false,
        };
        let containers = self.containers.iter().filter(move |_| chooses);
        let all = containers.flat_map(|c| c.port_mappings.iter().map(|m| (c.name.as_str(), m)));
        all.filter(|(_, mapping)| mapping.host_port.is_none_or(|port| port == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_container_has_its_own_of_the_host() {
        let ports = HostPorts {
            container: "app".to_owned(),
            protocol: Transport::Tcp,
            container_port: 8000,
            host_port: 20_010,
            count: 3,
        };
        let all: Vec<_> = (7999..=8003).map(|port| ports.of(port)).collect();
        assert_eq!(all, [None, Some(20_010), Some(20_011), Some(20_012), None]);
        assert_eq!(ports.ports(), 20_010..=20_012);
        assert_eq!((HOST_PORTS.len(), HOST_PORTS.to_string()), (12_000, "20000-31999".to_owned()));
    }
}
