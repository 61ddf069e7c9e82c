//! ECS task definitions: Amazon's JSON shape, in TOML or in a file of its own.
//!
//! Takes what `register-task-definition --cli-input-json` takes and what
//! `describe-task-definition` prints. A member of ECS that we do not honour is refused by name,
//! unless it is empty; members that only ever appear in answers are passed over. **Invariant:**
//! nothing that would change how a task runs is dropped silently.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::names;
use super::place::Place;
use super::source::Bad;
use crate::model::{
    ContainerDefinition, MAX_CONTAINERS, PortMapping, STOP_TIMEOUT, TaskDefinition, Transport,
};

/// A stop timeout longer than this is a typing error; Fargate ends at two minutes, EC2 nowhere.
const LONGEST_STOP: Duration = Duration::from_secs(3600);
/// Docker's least memory limit is 6 MiB.
const LEAST_MEMORY_MIB: u32 = 6;

/// A value of a member that we do not honour. Empty ones ask for nothing and are taken.
#[derive(Debug)]
struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(EmptyVisitor)
    }
}

struct EmptyVisitor;

impl EmptyVisitor {
    fn refuse<E: de::Error>() -> Result<Unsupported, E> {
        Err(E::custom("is a member of ECS that is not supported here; leave it out"))
    }
}

impl<'de> de::Visitor<'de> for EmptyVisitor {
    type Value = Unsupported;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Unsupported, E> {
        Ok(Unsupported)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Unsupported, E> {
        if value { Self::refuse() } else { Ok(Unsupported) }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Unsupported, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Unsupported, E> {
        Self::refuse()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Unsupported, E> {
        Self::refuse()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Unsupported, E> {
        Self::refuse()
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Unsupported, A::Error> {
        match list.next_element::<IgnoredAny>()? {
            Some(_) => Self::refuse(),
            None => Ok(Unsupported),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unsupported, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            Some(_) => Self::refuse(),
            None => Ok(Unsupported),
        }
    }
}

/// ECS takes these sizes as a number or as a text with a unit.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a number or a text such as \"512\"")]
enum Size {
    Number(u32),
    Text(String),
}

impl Size {
    /// In units of a thousand and twenty-four to one `units`: `"512"`, `".5 vCPU"`, `"1GB"`.
    fn units(&self, units: &str) -> Option<u32> {
        let text = match self {
            Self::Number(number) => return Some(*number),
            Self::Text(text) => text.trim().to_ascii_lowercase(),
        };
        let Some(number) = text.strip_suffix(units) else { return text.parse().ok() };
        let number = number.trim();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
        if number.is_empty() || number == "." || !digits(whole) || !digits(fraction) {
            return None;
        }
        let number = format!("0{whole}.{fraction}0").parse::<f64>().ok()? * 1024.0;
        // At most seven digits times 1024: exact in the integers of a float.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let number = number.round() as u64;
        u32::try_from(number).ok()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "members of type Unsupported are read to be refused")]
pub(super) struct WrittenDefinition {
    /// Ours: the path of a JSON file that has all the rest.
    pub(super) file: Option<PathBuf>,
    pub(super) family: Option<String>,
    container_definitions: Option<Vec<WrittenContainer>>,
    cpu: Option<Size>,
    memory: Option<Size>,
    network_mode: Option<NetworkMode>,
    /// Where ECS would place it. Everything runs here.
    requires_compatibilities: Option<Vec<Compatibility>>,
    // Only in answers.
    task_definition_arn: Option<IgnoredAny>,
    revision: Option<IgnoredAny>,
    status: Option<IgnoredAny>,
    requires_attributes: Option<IgnoredAny>,
    compatibilities: Option<IgnoredAny>,
    registered_at: Option<IgnoredAny>,
    registered_by: Option<IgnoredAny>,
    deregistered_at: Option<IgnoredAny>,
    delete_requested_at: Option<IgnoredAny>,
    // Not honoured.
    task_role_arn: Option<Unsupported>,
    execution_role_arn: Option<Unsupported>,
    volumes: Option<Unsupported>,
    placement_constraints: Option<Unsupported>,
    tags: Option<Unsupported>,
    pid_mode: Option<Unsupported>,
    ipc_mode: Option<Unsupported>,
    proxy_configuration: Option<Unsupported>,
    inference_accelerators: Option<Unsupported>,
    ephemeral_storage: Option<Unsupported>,
    runtime_platform: Option<Unsupported>,
    enable_fault_injection: Option<Unsupported>,
}

/// Both give each task an address of its own, which is what every runtime here does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NetworkMode {
    Awsvpc,
    Bridge,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Compatibility {
    Ec2,
    Fargate,
    External,
    ManagedInstances,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "members of type Unsupported are read to be refused")]
struct WrittenContainer {
    name: String,
    image: Option<String>,
    command: Option<Vec<String>>,
    entry_point: Option<Vec<String>>,
    environment: Option<Vec<WrittenVariable>>,
    essential: Option<bool>,
    port_mappings: Option<Vec<WrittenPort>>,
    working_directory: Option<String>,
    user: Option<String>,
    cpu: Option<u32>,
    memory: Option<u32>,
    stop_timeout: Option<u32>,
    docker_labels: Option<BTreeMap<String, String>>,
    // Not honoured.
    repository_credentials: Option<Unsupported>,
    memory_reservation: Option<Unsupported>,
    links: Option<Unsupported>,
    restart_policy: Option<Unsupported>,
    environment_files: Option<Unsupported>,
    mount_points: Option<Unsupported>,
    volumes_from: Option<Unsupported>,
    linux_parameters: Option<Unsupported>,
    secrets: Option<Unsupported>,
    depends_on: Option<Unsupported>,
    start_timeout: Option<Unsupported>,
    version_consistency: Option<Unsupported>,
    hostname: Option<Unsupported>,
    disable_networking: Option<Unsupported>,
    privileged: Option<Unsupported>,
    readonly_root_filesystem: Option<Unsupported>,
    dns_servers: Option<Unsupported>,
    dns_search_domains: Option<Unsupported>,
    extra_hosts: Option<Unsupported>,
    docker_security_options: Option<Unsupported>,
    interactive: Option<Unsupported>,
    pseudo_terminal: Option<Unsupported>,
    ulimits: Option<Unsupported>,
    log_configuration: Option<Unsupported>,
    health_check: Option<Unsupported>,
    system_controls: Option<Unsupported>,
    resource_requirements: Option<Unsupported>,
    firelens_configuration: Option<Unsupported>,
    credential_specs: Option<Unsupported>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVariable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "members of type Unsupported are read to be refused")]
struct WrittenPort {
    container_port: u16,
    host_port: Option<u16>,
    protocol: Option<Transport>,
    name: Option<String>,
    app_protocol: Option<Unsupported>,
    container_port_range: Option<Unsupported>,
}

impl WrittenDefinition {
    /// What it means, as revision 0: registering gives the number.
    pub(super) fn meaning(&self, at: &Place) -> Result<TaskDefinition, Bad> {
        let family =
            self.family.as_deref().ok_or_else(|| Bad::new(at, "missing field `family`"))?;
        names::ecs(family).map_err(|reason| Bad::new(&at.key("family"), reason))?;
        let list = at.key("containerDefinitions");
        let written = self.container_definitions.as_deref().unwrap_or_default();
        if written.is_empty() || written.len() > MAX_CONTAINERS {
            return Err(Bad::new(&list, "must hold one to ten containers"));
        }
        let containers = written
            .iter()
            .enumerate()
            .map(|(index, container)| container.meaning(&list.index(index)))
            .collect::<Result<Vec<_>, _>>()?;
        check_together(&containers, &list)?;
        Ok(TaskDefinition {
            family: family.into(),
            revision: 0,
            containers,
            cpu: size(self.cpu.as_ref(), "vcpu", &at.key("cpu"))?,
            memory_mib: size(self.memory.as_ref(), "gb", &at.key("memory"))?,
        })
    }

    /// Whether it says anything beside `file`.
    pub(super) fn is_written_here(&self) -> bool {
        self.family.is_some() || self.container_definitions.is_some()
    }
}

fn size(size: Option<&Size>, units: &str, at: &Place) -> Result<Option<u32>, Bad> {
    let Some(size) = size else { return Ok(None) };
    let value = size.units(units).filter(|value| *value > 0);
    let what = if units == "gb" { "memory in MiB or \"0.5GB\"" } else { "CPU units or \"1 vCPU\"" };
    value.map(Some).ok_or_else(|| Bad::new(at, format!("must be {what}")))
}

/// What containers of one task share: names, ports, and that one of them is essential.
fn check_together(containers: &[ContainerDefinition], list: &Place) -> Result<(), Bad> {
    let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, container) in containers.iter().enumerate() {
        let at = list.index(index);
        if !names.insert(&container.name) {
            let reason = format!("there are two containers called {:?}", container.name);
            return Err(Bad::new(&at.key("name"), reason));
        }
        for (index, port) in container.port_mappings.iter().enumerate() {
            if !ports.insert(port.container_port) {
                let at = at.key("portMappings").index(index).key("containerPort");
                let reason = format!("port {} is mapped twice in one task", port.container_port);
                return Err(Bad::new(&at, reason));
            }
        }
    }
    if containers.iter().any(|container| container.essential) {
        Ok(())
    } else {
        Err(Bad::new(list, "at least one container must be essential"))
    }
}

impl WrittenContainer {
    fn meaning(&self, at: &Place) -> Result<ContainerDefinition, Bad> {
        names::ecs(&self.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        let stop =
            self.stop_timeout.map_or(STOP_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        if !(Duration::from_secs(1)..=LONGEST_STOP).contains(&stop) {
            return Err(Bad::new(&at.key("stopTimeout"), "must be 1 to 3600 seconds"));
        }
        if self.memory.is_some_and(|memory| memory < LEAST_MEMORY_MIB) {
            return Err(Bad::new(&at.key("memory"), "must be at least 6 MiB"));
        }
        if self.image.as_deref() == Some("") {
            return Err(Bad::new(&at.key("image"), "must not be empty"));
        }
        Ok(ContainerDefinition {
            name: self.name.clone(),
            image: self.image.clone(),
            entry_point: self.entry_point.clone().unwrap_or_default(),
            command: self.command.clone().unwrap_or_default(),
            environment: self.environment(&at.key("environment"))?,
            working_directory: self.working_directory.clone(),
            user: self.user.clone(),
            essential: self.essential.unwrap_or(true),
            port_mappings: self.ports(&at.key("portMappings"))?,
            stop_timeout: stop,
            // ECS describes "none" as 0.
            cpu: self.cpu.filter(|cpu| *cpu > 0),
            memory_mib: self.memory,
            docker_labels: self.docker_labels.clone().unwrap_or_default(),
        })
    }

    fn environment(&self, list: &Place) -> Result<BTreeMap<String, String>, Bad> {
        let mut environment = BTreeMap::new();
        for (index, variable) in self.environment.iter().flatten().enumerate() {
            let (name, value) = (&variable.name, &variable.value);
            let at = list.index(index).key("name");
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Bad::new(&at, format!("{name:?} is no name of a variable")));
            }
            if environment.insert(name.clone(), value.clone()).is_some() {
                return Err(Bad::new(&at, format!("variable {name:?} is set twice")));
            }
        }
        Ok(environment)
    }

    fn ports(&self, list: &Place) -> Result<Vec<PortMapping>, Bad> {
        let mapping = |(index, port): (usize, &WrittenPort)| port.meaning(&list.index(index));
        self.port_mappings.iter().flatten().enumerate().map(mapping).collect()
    }
}

impl WrittenPort {
    fn meaning(&self, at: &Place) -> Result<PortMapping, Bad> {
        if self.container_port == 0 {
            return Err(Bad::new(&at.key("containerPort"), "must be 1 to 65535"));
        }
        if self.host_port.is_some_and(|port| port != 0 && port != self.container_port) {
            let reason = "must be left out: every task has an address of its own";
            return Err(Bad::new(&at.key("hostPort"), reason));
        }
        if let Some(name) = &self.name {
            names::port(name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        }
        Ok(PortMapping {
            container_port: self.container_port,
            protocol: self.protocol.unwrap_or(Transport::Tcp),
            name: self.name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, units: &str, expected: Option<u32>) {
        assert_eq!(Size::Text(text.to_owned()).units(units), expected, "{text}");
    }

    #[test]
    fn sizes_are_taken_as_ecs_takes_them() {
        check("256", "vcpu", Some(256));
        check(".25 vCPU", "vcpu", Some(256));
        check("1 vcpu", "vcpu", Some(1024));
        check("512", "gb", Some(512));
        check("0.5GB", "gb", Some(512));
        check("2 GB", "gb", Some(2048));
        check("GB", "gb", None);
        check(".GB", "gb", None);
        check("-1 GB", "gb", None);
        check("1e3GB", "gb", None);
        check("much", "gb", None);
        assert_eq!(Size::Number(7).units("gb"), Some(7));
    }
}
