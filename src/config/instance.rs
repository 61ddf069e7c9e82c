//! `[[instance]]`: the container instances of the file, and the one there is without any.
//!
//! **Invariant:** no two instances have one name, or one Docker Engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use super::{BadSetting, RuntimeKind, RuntimeSettings, Settings};
use crate::model::{HostPortRange, InstanceName, RESERVED_PORTS, ZONE};

/// ECS: characters of an attribute's name and value.
const ATTRIBUTE: usize = 128;
/// ECS: attributes of one instance.
const MOST_ATTRIBUTES: usize = 10;
/// Longest name (ours: that of a DNS label).
const NAME: usize = 63;

/// One place where tasks run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSettings {
    pub name: String,
    /// None: Docker where `docker` names an engine, else child processes.
    pub runtime: Option<RuntimeKind>,
    /// Where its Docker Engine listens.
    pub docker: Option<String>,
    /// The Docker network that its tasks join. None: Docker's default bridge.
    pub network: Option<String>,
    #[serde(default = "zone")]
    pub zone: String,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// CPU units. None: what its machine has.
    pub cpu: Option<u32>,
    /// MiB. None: what its machine has.
    pub memory: Option<u32>,
    /// Where ports of the host are chosen from.
    #[serde(default)]
    pub host_ports: HostPortRange,
    /// Where its ports of the host are reached. None: its containers are reached at their own
    /// addresses.
    pub address: Option<IpAddr>,
    #[serde(default)]
    pub reserve: Reserve,
}

/// What no task gets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reserve {
    pub cpu: u32,
    /// MiB.
    pub memory: u32,
    pub ports: BTreeSet<u16>,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { cpu: 0, memory: 0, ports: RESERVED_PORTS.into() }
    }
}

fn zone() -> String {
    ZONE.to_owned()
}

impl InstanceSettings {
    /// The one that `[runtime]` tells of.
    fn of(runtime: &RuntimeSettings) -> Self {
        Self {
            name: InstanceName::default().to_string(),
            runtime: Some(runtime.kind),
            docker: Some(runtime.docker_endpoint.clone()),
            network: runtime.docker_network.clone(),
            zone: zone(),
            attributes: BTreeMap::new(),
            cpu: None,
            memory: None,
            host_ports: runtime.host_ports,
            address: None,
            reserve: Reserve::default(),
        }
    }

    #[must_use]
    pub fn kind(&self) -> RuntimeKind {
        let docker = || self.docker.as_ref().map(|_| RuntimeKind::Docker);
        self.runtime.or_else(docker).unwrap_or_default()
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let label = |text: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !text.is_empty() && text.len() <= NAME && text.bytes().all(allowed)
        };
        let is_docker = self.kind() == RuntimeKind::Docker;
        let endpoint = self.docker.as_deref();
        let attribute = |(name, value): (&String, &String)| {
            (1..=ATTRIBUTE).contains(&name.len()) && value.len() <= ATTRIBUTE
        };
        let checks = [
            ("instance.name", label(&self.name), "must be letters, digits, hyphens, at most 63"),
            ("instance.zone", label(&self.zone), "must be letters, digits, hyphens, at most 63"),
            (
                "instance.docker",
                is_docker == endpoint.is_some(),
                "belongs to the runtime docker, and to that alone",
            ),
            (
                "instance.docker",
                endpoint.is_none_or(|endpoint| endpoint.starts_with("unix:///")),
                "must be a socket such as unix:///var/run/docker.sock",
            ),
            (
                "instance.network",
                self.network.as_deref().is_none_or(|n| is_docker && super::has_addresses(n)),
                "must be a Docker network in which containers have addresses",
            ),
            (
                "instance.attributes",
                self.attributes.len() <= MOST_ATTRIBUTES && self.attributes.iter().all(attribute),
                "must be at most 10, of 1 to 128 characters",
            ),
            (
                "instance.attributes",
                !self.attributes.keys().any(|name| name.starts_with("ecs.")),
                "must not begin with ecs.: those are built in",
            ),
            (
                "instance.address",
                self.address.is_none_or(|address| is_docker && !address.is_unspecified()),
                "must be an address of a Docker instance's machine",
            ),
            (
                "instance.reserve.ports",
                self.reserve.ports.len() <= 100,
                "must be at most 100 ports",
            ),
        ];
        match checks.into_iter().find(|(_, good, _)| !good) {
            Some((key, _, reason)) => Err((key, reason)),
            None => Ok(()),
        }
    }
}

impl Settings {
    /// Every container instance there is.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceSettings> {
        match self.instance.as_slice() {
            [] => vec![InstanceSettings::of(&self.runtime)],
            written => written.to_vec(),
        }
    }
}

pub(super) fn check(all: &[InstanceSettings]) -> Result<(), BadSetting> {
    let bad = |key, reason: String| Err(BadSetting { key, reason });
    let (mut names, mut engines) = (BTreeSet::new(), BTreeSet::new());
    for instance in all {
        let name = &instance.name;
        if let Err((key, reason)) = instance.check() {
            return bad(key, format!("{reason} (of {name:?})"));
        }
        if !names.insert(name) {
            return bad("instance.name", format!("{name:?} stands here twice"));
        }
        if let Some(engine) = &instance.docker
            && !engines.insert(engine)
        {
            return bad("instance.docker", format!("{engine} is two instances"));
        }
    }
    Ok(())
}
