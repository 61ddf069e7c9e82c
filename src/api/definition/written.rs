//! What is written: Amazon's shape of a task definition, before anybody asks what it means.
//!
//! Takes what `register-task-definition --cli-input-json` takes and what
//! `describe-task-definition` prints; members that only ever appear in answers are passed over.
//! Every struct refuses members it does not know; [`Definition::lenient`] passes over them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::lenient::Lenient;
use super::size::Size;
use crate::model::{
    AppProtocol, Compatibility, DependencyCondition, NetworkMode, Sharing, Transport, VolumeScope,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "members that only appear in answers are read to be passed over")]
pub struct Definition {
    /// The configuration file's own: the path of a JSON file that has all the rest.
    pub file: Option<PathBuf>,
    pub family: Option<String>,
    pub(super) container_definitions: Option<Vec<Container>>,
    pub(super) cpu: Option<Size>,
    pub(super) memory: Option<Size>,
    pub(super) network_mode: Option<NetworkMode>,
    pub(super) requires_compatibilities: Option<Vec<Compatibility>>,
    pub(super) task_role_arn: Option<String>,
    pub(super) execution_role_arn: Option<String>,
    pub(super) volumes: Option<Vec<Volume>>,
    pub(super) placement_constraints: Option<Vec<Constraint>>,
    pub(super) tags: Option<Vec<Tag>>,
    pub(super) pid_mode: Option<Sharing>,
    pub(super) ipc_mode: Option<Sharing>,
    pub(super) runtime_platform: Option<Platform>,
    pub(super) ephemeral_storage: Option<Storage>,
    pub(super) proxy_configuration: Option<Something>,
    pub(super) inference_accelerators: Option<Something>,
    pub(super) enable_fault_injection: Option<Something>,
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
}

impl Definition {
    /// Reads a request's members, passing over those nobody knows.
    ///
    /// # Errors
    /// A known member has a value of another type.
    pub fn lenient(value: serde_json::Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(Lenient(value))
    }

    /// Whether it says anything beside `file`.
    #[must_use]
    pub fn is_written_here(&self) -> bool {
        self.family.is_some() || self.container_definitions.is_some()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    pub(super) command: Option<Vec<String>>,
    pub(super) entry_point: Option<Vec<String>>,
    pub(super) environment: Option<Vec<Variable>>,
    pub(super) environment_files: Option<Vec<EnvironmentFile>>,
    pub(super) secrets: Option<Vec<Secret>>,
    pub(super) essential: Option<bool>,
    pub(super) port_mappings: Option<Vec<Port>>,
    pub(super) working_directory: Option<String>,
    pub(super) user: Option<String>,
    pub(super) cpu: Option<u32>,
    pub(super) memory: Option<u32>,
    pub(super) memory_reservation: Option<u32>,
    pub(super) depends_on: Option<Vec<Dependency>>,
    pub(super) start_timeout: Option<u32>,
    pub(super) stop_timeout: Option<u32>,
    pub(super) health_check: Option<Check>,
    pub(super) restart_policy: Option<Restart>,
    pub(super) docker_labels: Option<BTreeMap<String, String>>,
    pub(super) log_configuration: Option<Log>,
    pub(super) mount_points: Option<Vec<Mount>>,
    pub(super) volumes_from: Option<Vec<From>>,
    pub(super) ulimits: Option<Vec<Ulimit>>,
    pub(super) linux_parameters: Option<Linux>,
    pub(super) system_controls: Option<Vec<Control>>,
    pub(super) hostname: Option<String>,
    pub(super) links: Option<Vec<String>>,
    pub(super) dns_servers: Option<Vec<String>>,
    pub(super) dns_search_domains: Option<Vec<String>>,
    pub(super) extra_hosts: Option<Vec<Host>>,
    pub(super) docker_security_options: Option<Vec<String>>,
    pub(super) privileged: Option<bool>,
    pub(super) readonly_root_filesystem: Option<bool>,
    pub(super) interactive: Option<bool>,
    pub(super) pseudo_terminal: Option<bool>,
    pub(super) version_consistency: Option<String>,
    pub(super) repository_credentials: Option<Something>,
    pub(super) disable_networking: Option<Something>,
    pub(super) resource_requirements: Option<Something>,
    pub(super) firelens_configuration: Option<Something>,
    pub(super) credential_specs: Option<Something>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvironmentFile {
    pub(super) value: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) name: String,
    pub(super) value_from: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Port {
    pub(super) container_port: Option<u16>,
    pub(super) container_port_range: Option<String>,
    pub(super) host_port: Option<u16>,
    pub(super) protocol: Option<Transport>,
    pub(super) name: Option<String>,
    pub(super) app_protocol: Option<AppProtocol>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Dependency {
    pub(super) container_name: String,
    pub(super) condition: DependencyCondition,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Check {
    pub(super) command: Vec<String>,
    pub(super) interval: Option<u32>,
    pub(super) timeout: Option<u32>,
    pub(super) retries: Option<u32>,
    pub(super) start_period: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Restart {
    pub(super) enabled: bool,
    pub(super) ignored_exit_codes: Option<Vec<i32>>,
    pub(super) restart_attempt_period: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Log {
    pub(super) log_driver: String,
    pub(super) options: Option<BTreeMap<String, String>>,
    pub(super) secret_options: Option<Something>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) source_volume: Option<String>,
    pub(super) container_path: Option<String>,
    pub(super) read_only: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct From {
    pub(super) source_container: Option<String>,
    pub(super) read_only: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ulimit {
    pub(super) name: String,
    pub(super) soft_limit: i64,
    pub(super) hard_limit: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Linux {
    pub(super) capabilities: Option<Capabilities>,
    pub(super) devices: Option<Vec<Device>>,
    pub(super) init_process_enabled: Option<bool>,
    pub(super) shared_memory_size: Option<u32>,
    pub(super) tmpfs: Option<Vec<Tmpfs>>,
    pub(super) max_swap: Option<u32>,
    pub(super) swappiness: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) add: Option<Vec<String>>,
    pub(super) drop: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) host_path: String,
    pub(super) container_path: Option<String>,
    pub(super) permissions: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tmpfs {
    pub(super) container_path: String,
    pub(super) size: u32,
    pub(super) mount_options: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) namespace: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Host {
    pub(super) hostname: String,
    pub(super) ip_address: IpAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: Option<String>,
    pub(super) host: Option<HostVolume>,
    pub(super) docker_volume_configuration: Option<DockerVolume>,
    pub(super) efs_volume_configuration: Option<Something>,
    pub(super) fsx_windows_file_server_volume_configuration: Option<Something>,
    pub(super) s3files_volume_configuration: Option<Something>,
    pub(super) configured_at_launch: Option<Something>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HostVolume {
    pub(super) source_path: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DockerVolume {
    pub(super) scope: Option<VolumeScope>,
    pub(super) autoprovision: Option<bool>,
    pub(super) driver: Option<String>,
    pub(super) driver_opts: Option<BTreeMap<String, String>>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Constraint {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) expression: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Platform {
    pub(super) cpu_architecture: Option<String>,
    pub(super) operating_system_family: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Storage {
    #[serde(rename = "sizeInGiB")]
    pub(super) size: u32,
}

/// A tag of a resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// A value of a member that is refused: whether it asks for anything. Empty ones do not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Something(pub(super) bool);

impl<'de> Deserialize<'de> for Something {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SomethingVisitor)
    }
}

struct SomethingVisitor;

impl<'de> de::Visitor<'de> for SomethingVisitor {
    type Value = Something;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Something, E> {
        Ok(Something(false))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Something, E> {
        Ok(Something(value))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Something, E> {
        Ok(Something(true))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Something, E> {
        Ok(Something(true))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Something, E> {
        Ok(Something(true))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Something, E> {
        Ok(Something(true))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Something, A::Error> {
        let mut says = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            says = true;
        }
        Ok(Something(says))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Something, A::Error> {
        let mut says = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            says = true;
        }
        Ok(Something(says))
    }
}
