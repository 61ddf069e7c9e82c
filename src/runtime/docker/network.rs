//! Network modes and ports, in Docker's words. Pure, but for this machine's own addresses.
//!
//! A container is reached at its own address in Docker's network. A port of the host leads to it
//! where the definition names one, and where one was chosen for it. In mode host the container has
//! the machine's network, and is reached at the loopback address; in mode awsvpc all containers of
//! a task have one address (`pause`).
//! **Invariant:** no port is published that the definition does not map.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use bollard::models::{ContainerInspectResponse, PortBinding, PortMap};

use super::pause;
use crate::model::{NetworkBinding, NetworkMode, Pool, PortMapping, Transport};
use crate::runtime::ContainerSpec;

/// What Docker calls the machine's own network.
const HOST: &str = "host";
const NONE: &str = "none";
/// RFC 863.
const DISCARD: u16 = 9;

/// Docker's network mode. None: its default bridge.
pub(super) fn mode(spec: &ContainerSpec, uid: &str, network: Option<&str>) -> Option<String> {
    match spec.network_mode {
        Some(NetworkMode::Host) => Some(HOST.to_owned()),
        Some(NetworkMode::None) => Some(NONE.to_owned()),
        Some(NetworkMode::Awsvpc) => Some(pause::mode(uid, &spec.task)),
        None | Some(NetworkMode::Bridge) => network.map(str::to_owned),
    }
}

/// Every port of the container that gets one of the host, with that; none: Docker chooses it.
fn published(spec: &ContainerSpec) -> Vec<(String, Option<u16>)> {
    let mode = spec.network_mode;
    if !matches!(mode, None | Some(NetworkMode::Bridge)) {
        return Vec::new();
    }
    let mappings = spec.definition.port_mappings.iter();
    let all = mappings.flat_map(|mapping| mapping.ports().map(move |port| (mapping, port)));
    let published = |(mapping, port): (&PortMapping, u16)| {
        let named = mapping.host_port.filter(|port| *port > 0);
        let own = spec.host_ports.iter().filter(|chosen| chosen.protocol == mapping.protocol);
        let host = named.or_else(|| own.filter_map(|chosen| chosen.of(port)).next());
        // One of an older journal has none recorded.
        let is_published = host.is_some() || mode == Some(NetworkMode::Bridge);
        is_published.then(|| (format!("{port}/{}", mapping.protocol), host))
    };
    all.filter_map(published).collect()
}

pub(super) fn bindings(spec: &ContainerSpec) -> Option<PortMap> {
    let binding = |(name, port): (String, Option<u16>)| {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let binding = PortBinding { host_ip: None, host_port: Some(port) };
        (name, Some(vec![binding]))
    };
    let all: HashMap<_, _> = published(spec).into_iter().map(binding).collect();
    (!all.is_empty()).then_some(all)
}

/// Whether Docker could not publish a port because somebody has it: another container, or a socket
/// of the host.
pub(super) fn is_taken(text: &str) -> bool {
    text.contains("port is already allocated") || text.contains("address already in use")
}

/// Docker publishes only what is exposed as well.
pub(super) fn exposed(spec: &ContainerSpec) -> Option<Vec<String>> {
    let all: Vec<String> = published(spec).into_iter().map(|(name, _)| name).collect();
    (!all.is_empty()).then_some(all)
}

/// Where a container of the machine's own network is reached. None: it has another network.
pub(super) fn host_address(container: &ContainerInspectResponse) -> Option<IpAddr> {
    let mode = container.host_config.as_ref()?.network_mode.as_deref()?;
    (mode == HOST).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The address that this machine has in a subnet: the one from which it would send there. Docker
/// does not always tell the gateway of a bridge. Nothing is sent.
pub(super) fn own_address(subnet: &str) -> Option<IpAddr> {
    let network: Pool = subnet.parse().ok()?;
    let (other, any): (IpAddr, IpAddr) = match subnet.split('/').next()?.parse().ok()? {
        IpAddr::V4(base) => {
            (Ipv4Addr::from(u32::from(base) | 2).into(), Ipv4Addr::UNSPECIFIED.into())
        }
        IpAddr::V6(base) => {
            (Ipv6Addr::from(u128::from(base) | 2).into(), Ipv6Addr::UNSPECIFIED.into())
        }
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, DISCARD)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|own| network.contains(*own))
}

/// The ports of the host that lead to the container, in a fixed order; of the same port on both
/// families the IPv4 one.
pub(super) fn bound(container: &ContainerInspectResponse) -> Vec<NetworkBinding> {
    let ports = container.network_settings.as_ref().and_then(|all| all.ports.as_ref());
    let mut all: Vec<NetworkBinding> = Vec::new();
    for (name, bindings) in ports.into_iter().flatten() {
        let Some((port, protocol)) = name.split_once('/') else { continue };
        let protocol = match protocol {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => continue,
        };
        let Ok(container_port) = port.parse() else { continue };
        for binding in bindings.iter().flatten() {
            let address = binding.host_ip.as_deref().and_then(|text| text.parse().ok());
            let port = binding.host_port.as_deref().and_then(|text| text.parse().ok());
            if let Some((bind_address, host_port)) = address.zip(port) {
                all.push(NetworkBinding { bind_address, container_port, host_port, protocol });
            }
        }
    }
    all.sort_by_key(|binding| {
        (binding.container_port, binding.protocol, binding.bind_address, binding.host_port)
    });
    all.dedup_by_key(|binding| (binding.container_port, binding.protocol));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_where_it_sends_from() {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let check = |subnet: &str, expected| assert_eq!(own_address(subnet), expected, "{subnet}");
        check("127.0.0.0/8", loopback);
        // Reserved (RFC 1112): nobody is there.
        check("240.0.0.0/24", None);
        check("nonsense", None);
        check("", None);
    }
}
