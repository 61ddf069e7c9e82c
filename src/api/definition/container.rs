//! What one written container means.
//!
//! **Invariant:** an error names the member by its path; every bound is ECS's unless a comment says
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::written::{Check, Container, Port, Something};
use super::{Bad, Path, refuse};
use crate::api::file::names;
use crate::model::{
    ContainerCheck, ContainerDefinition, ContainerSecret, Dependency, Device, ExtraHost,
    LinuxParameters, LogConfiguration, MountPoint, NetworkMode, PortMapping, RestartPolicy, Tmpfs,
    Transport, Ulimit, VolumesFrom,
};
use crate::secrets::Reference;

/// A stop timeout longer than this is a typing error; Fargate ends at two minutes, EC2 nowhere.
const STOP_SECONDS: RangeInclusive<u32> = 1..=3600;
/// Docker's least memory limit is 6 MiB.
const LEAST_MEMORY_MIB: u32 = 6;
const MAX_ENVIRONMENT_FILES: usize = 10;
const MAX_IGNORED_CODES: usize = 50;
/// Port ranges of one container.
const MAX_RANGES: usize = 100;
/// Docker's own among ECS's.
const LOG_DRIVERS: [&str; 8] =
    ["awslogs", "json-file", "local", "journald", "syslog", "gelf", "fluentd", "splunk"];
/// Options of `awslogs`; of these, the group and the prefix mean something here.
const AWSLOGS_OPTIONS: [&str; 6] = [
    "awslogs-group",
    "awslogs-stream-prefix",
    "awslogs-region",
    "awslogs-create-group",
    "mode",
    "max-buffer-size",
];
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Container {
    pub(super) fn meaning(
        &self,
        at: &Path,
        mode: Option<NetworkMode>,
    ) -> Result<ContainerDefinition, Bad> {
        let name = self.name.as_deref();
        let name = name.ok_or_else(|| Bad::new(at, "missing field `name`"))?;
        names::ecs(name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        if self.image.as_deref() == Some("") {
            return Err(Bad::new(&at.key("image"), "must not be empty"));
        }
        self.memory(at)?;
        if mode == Some(NetworkMode::Awsvpc) {
            for (list, member) in
                [(&self.dns_servers, "dnsServers"), (&self.dns_search_domains, "dnsSearchDomains")]
            {
                if list.as_ref().is_some_and(|list| !list.is_empty()) {
                    let reason = "is not supported in this network mode";
                    return Err(Bad::new(&at.key(member), reason));
                }
            }
        }
        let hostname = self.hostname.clone().filter(|name| !name.is_empty());
        if hostname.is_some() && matches!(mode, Some(NetworkMode::Awsvpc | NetworkMode::Host)) {
            let reason = "is not supported in this network mode";
            return Err(Bad::new(&at.key("hostname"), reason));
        }
        Ok(ContainerDefinition {
            image: self.image.clone(),
            entry_point: self.entry_point.clone().unwrap_or_default(),
            command: self.command.clone().unwrap_or_default(),
            environment: self.environment(&at.key("environment"))?,
            environment_files: self.environment_files(&at.key("environmentFiles"))?,
            secrets: self.secrets(&at.key("secrets"))?,
            working_directory: self.working_directory.clone(),
            user: self.user.clone(),
            essential: self.essential.unwrap_or(true),
            depends_on: self.depends_on(),
            start_timeout: seconds(self.start_timeout, 1..=86_400, &at.key("startTimeout"))?,
            stop_timeout: seconds(self.stop_timeout, STOP_SECONDS, &at.key("stopTimeout"))?,
            health_check: self.check(&at.key("healthCheck"))?,
            restart_policy: self.restart(&at.key("restartPolicy"))?,
            port_mappings: self.ports(&at.key("portMappings"), mode)?,
            // ECS describes "none" as 0.
            cpu: self.cpu.filter(|cpu| *cpu > 0),
            memory_mib: self.memory,
            memory_reservation_mib: self.memory_reservation,
            docker_labels: self.docker_labels.clone().unwrap_or_default(),
            log: self.log(&at.key("logConfiguration"))?,
            mount_points: self.mounts(&at.key("mountPoints"))?,
            volumes_from: self.volumes_from(&at.key("volumesFrom"))?,
            ulimits: self.ulimits(&at.key("ulimits"))?,
            linux: self.linux(&at.key("linuxParameters"))?,
            system_controls: self.controls(),
            hostname,
            links: self.links.clone().unwrap_or_default(),
            dns_servers: self.dns_servers.clone().unwrap_or_default(),
            dns_search_domains: self.dns_search_domains.clone().unwrap_or_default(),
            extra_hosts: self.extra_hosts(&at.key("extraHosts"), mode)?,
            security_options: self.docker_security_options.clone().unwrap_or_default(),
            privileged: self.privileged,
            readonly_root: self.readonly_root_filesystem,
            interactive: self.interactive,
            pseudo_terminal: self.pseudo_terminal,
            version_consistency: self.consistency(&at.key("versionConsistency"))?,
            ..ContainerDefinition::new(name)
        })
    }

    pub(super) fn refused(&self, at: &Path) -> Result<(), Bad> {
        let says = |member: Option<Something>| member.unwrap_or_default().0;
        for (is_said, member) in [
            (says(self.repository_credentials), "repositoryCredentials"),
            (says(self.resource_requirements), "resourceRequirements"),
            (says(self.firelens_configuration), "firelensConfiguration"),
            (says(self.credential_specs), "credentialSpecs"),
            (says(self.disable_networking), "disableNetworking"),
        ] {
            refuse(is_said, &at.key(member))?;
        }
        Ok(())
    }

    fn memory(&self, at: &Path) -> Result<(), Bad> {
        for (memory, member) in
            [(self.memory, "memory"), (self.memory_reservation, "memoryReservation")]
        {
            if memory.is_some_and(|memory| memory < LEAST_MEMORY_MIB) {
                return Err(Bad::new(&at.key(member), "must be at least 6 MiB"));
            }
        }
        match (self.memory, self.memory_reservation) {
            (Some(hard), Some(soft)) if hard <= soft => {
                let reason = "must be greater than memoryReservation";
                Err(Bad::new(&at.key("memory"), reason))
            }
            _ => Ok(()),
        }
    }

    fn environment(&self, list: &Path) -> Result<BTreeMap<String, String>, Bad> {
        let mut environment = BTreeMap::new();
        for (index, variable) in self.environment.iter().flatten().enumerate() {
            let (name, value) = (&variable.name, &variable.value);
            let at = list.index(index).key("name");
            variable_name(name, &at)?;
            if value.contains('\0') {
                return Err(Bad::new(&at, format!("{name:?} is no name of a variable")));
            }
            if environment.insert(name.clone(), value.clone()).is_some() {
                return Err(Bad::new(&at, format!("variable {name:?} is set twice")));
            }
        }
        Ok(environment)
    }

    fn environment_files(&self, list: &Path) -> Result<Vec<String>, Bad> {
        let written = self.environment_files.as_deref().unwrap_or_default();
        if written.len() > MAX_ENVIRONMENT_FILES {
            return Err(Bad::new(list, "must hold at most ten files"));
        }
        let file = |(index, file): (usize, &super::written::EnvironmentFile)| {
            let at = list.index(index);
            if !matches!(file.kind.as_deref(), None | Some("file" | "s3")) {
                return Err(Bad::new(&at.key("type"), "must be file or s3"));
            }
            let path = file.value.strip_prefix("file://").filter(|path| path.starts_with('/'));
            let reason = "must be file:///PATH of a file of this machine: there is no S3 here";
            path.map(str::to_owned).ok_or_else(|| Bad::new(&at.key("value"), reason))
        };
        written.iter().enumerate().map(file).collect()
    }

    fn secrets(&self, list: &Path) -> Result<Vec<ContainerSecret>, Bad> {
        let mut secrets = Vec::new();
        let mut names: BTreeSet<&str> =
            self.environment.iter().flatten().map(|variable| variable.name.as_str()).collect();
        for (index, secret) in self.secrets.iter().flatten().enumerate() {
            let at = list.index(index);
            variable_name(&secret.name, &at.key("name"))?;
            if !names.insert(&secret.name) {
                let reason = format!("variable {:?} is set twice", secret.name);
                return Err(Bad::new(&at.key("name"), reason));
            }
            let reference = secret.value_from.parse::<Reference>();
            reference.map_err(|error| Bad::new(&at.key("valueFrom"), error.to_string()))?;
            let (name, value_from) = (secret.name.clone(), secret.value_from.clone());
            secrets.push(ContainerSecret { name, value_from });
        }
        Ok(secrets)
    }

    fn depends_on(&self) -> Vec<Dependency> {
        let all = self.depends_on.iter().flatten();
        let dependency = |written: &super::written::Dependency| Dependency {
            container: written.container_name.clone(),
            condition: written.condition,
        };
        all.map(dependency).collect()
    }

    fn check(&self, at: &Path) -> Result<Option<ContainerCheck>, Bad> {
        self.health_check.as_ref().map(|check| check.meaning(at)).transpose()
    }

    fn restart(&self, at: &Path) -> Result<Option<RestartPolicy>, Bad> {
        let Some(written) = &self.restart_policy else { return Ok(None) };
        let ignored_exit_codes = written.ignored_exit_codes.clone().unwrap_or_default();
        if ignored_exit_codes.len() > MAX_IGNORED_CODES {
            let reason = "must hold at most fifty codes";
            return Err(Bad::new(&at.key("ignoredExitCodes"), reason));
        }
        let period = at.key("restartAttemptPeriod");
        let attempt_period = seconds(written.restart_attempt_period, 60..=1800, &period)?;
        Ok(Some(RestartPolicy { enabled: written.enabled, ignored_exit_codes, attempt_period }))
    }

    fn ports(&self, list: &Path, mode: Option<NetworkMode>) -> Result<Vec<PortMapping>, Bad> {
        let written = self.port_mappings.as_deref().unwrap_or_default();
        if mode == Some(NetworkMode::None) && !written.is_empty() {
            let reason = "port mappings are not allowed in network mode none";
            return Err(Bad::new(list, reason));
        }
        let ranges = written.iter().filter(|port| port.container_port_range.is_some()).count();
        if ranges > MAX_RANGES {
            return Err(Bad::new(list, "must hold at most a hundred ranges"));
        }
        let mapping = |(index, port): (usize, &Port)| port.meaning(&list.index(index), mode);
        written.iter().enumerate().map(mapping).collect()
    }

    fn log(&self, at: &Path) -> Result<Option<LogConfiguration>, Bad> {
        let Some(written) = &self.log_configuration else { return Ok(None) };
        if written.secret_options.unwrap_or_default().0 {
            let reason = "is not supported here; write the option in options";
            return Err(Bad::new(&at.key("secretOptions"), reason));
        }
        if !LOG_DRIVERS.contains(&written.log_driver.as_str()) {
            let reason = format!("must be one of {}", LOG_DRIVERS.join(", "));
            return Err(Bad::new(&at.key("logDriver"), reason));
        }
        if written.log_driver == "awslogs" {
            awslogs(written.options.iter().flatten(), &at.key("options"))?;
        }
        Ok(Some(LogConfiguration {
            driver: written.log_driver.clone(),
            options: written.options.clone().unwrap_or_default(),
        }))
    }

    fn mounts(&self, list: &Path) -> Result<Vec<MountPoint>, Bad> {
        let mount = |(index, mount): (usize, &super::written::Mount)| {
            let at = list.index(index);
            let container_path = absolute(mount.container_path.as_deref(), "containerPath", &at)?;
            let source_volume = mount.source_volume.clone().unwrap_or_default();
            Ok(MountPoint { source_volume, container_path, read_only: mount.read_only })
        };
        self.mount_points.iter().flatten().enumerate().map(mount).collect()
    }

    fn volumes_from(&self, list: &Path) -> Result<Vec<VolumesFrom>, Bad> {
        let from = |(index, from): (usize, &super::written::From)| {
            let at = list.index(index).key("sourceContainer");
            let source_container = from.source_container.clone();
            let source_container =
                source_container.ok_or_else(|| Bad::new(&at, "must not be empty"))?;
            Ok(VolumesFrom { source_container, read_only: from.read_only })
        };
        self.volumes_from.iter().flatten().enumerate().map(from).collect()
    }

    fn ulimits(&self, list: &Path) -> Result<Vec<Ulimit>, Bad> {
        let mut names = BTreeSet::new();
        let mut ulimits = Vec::new();
        for (index, limit) in self.ulimits.iter().flatten().enumerate() {
            let at = list.index(index);
            if !ULIMITS.contains(&limit.name.as_str()) {
                let reason = format!("must be one of {}", ULIMITS.join(", "));
                return Err(Bad::new(&at.key("name"), reason));
            }
            if !names.insert(&limit.name) {
                return Err(Bad::new(&at.key("name"), format!("{} is set twice", limit.name)));
            }
            let (soft, hard) = (limit.soft_limit, limit.hard_limit);
            if soft < -1 || hard < -1 {
                return Err(Bad::new(
                    &at.key("softLimit"),
                    "must be 0 or more, or -1 for no limit",
                ));
            }
            if hard != -1 && (soft == -1 || soft > hard) {
                return Err(Bad::new(&at.key("softLimit"), "must not be above hardLimit"));
            }
            ulimits.push(Ulimit { name: limit.name.clone(), soft, hard });
        }
        Ok(ulimits)
    }

    fn linux(&self, at: &Path) -> Result<Option<LinuxParameters>, Bad> {
        let Some(written) = &self.linux_parameters else { return Ok(None) };
        if written.swappiness.is_some_and(|swappiness| swappiness > 100) {
            return Err(Bad::new(&at.key("swappiness"), "must be 0 to 100"));
        }
        if written.max_swap.is_some() && self.memory.is_none() {
            return Err(Bad::new(&at.key("maxSwap"), "needs the container's memory"));
        }
        if written.shared_memory_size == Some(0) {
            return Err(Bad::new(&at.key("sharedMemorySize"), "must be at least 1 MiB"));
        }
        let mut devices = Vec::new();
        for (index, device) in written.devices.iter().flatten().enumerate() {
            let at = at.key("devices").index(index);
            let permissions = device.permissions.clone().unwrap_or_default();
            if permissions.iter().any(|p| !["read", "write", "mknod"].contains(&p.as_str())) {
                return Err(Bad::new(&at.key("permissions"), "must be read, write and mknod"));
            }
            let host_path = absolute(Some(&device.host_path), "hostPath", &at)?;
            let container_path = device.container_path.clone();
            devices.push(Device { host_path, container_path, permissions });
        }
        let mut tmpfs = Vec::new();
        for (index, mount) in written.tmpfs.iter().flatten().enumerate() {
            let at = at.key("tmpfs").index(index);
            if mount.size == 0 {
                return Err(Bad::new(&at.key("size"), "must be at least 1 MiB"));
            }
            let container_path = absolute(Some(&mount.container_path), "containerPath", &at)?;
            let mount_options = mount.mount_options.clone().unwrap_or_default();
            tmpfs.push(Tmpfs { container_path, size_mib: mount.size, mount_options });
        }
        let capabilities = written.capabilities.clone().unwrap_or_default();
        Ok(Some(LinuxParameters {
            added_capabilities: capabilities.add.unwrap_or_default(),
            dropped_capabilities: capabilities.drop.unwrap_or_default(),
            devices,
            init: written.init_process_enabled,
            shared_memory_mib: written.shared_memory_size,
            tmpfs,
            max_swap_mib: written.max_swap,
            swappiness: written.swappiness,
        }))
    }

    fn controls(&self) -> BTreeMap<String, String> {
        let all = self.system_controls.iter().flatten();
        all.map(|control| (control.namespace.clone(), control.value.clone())).collect()
    }

    fn extra_hosts(&self, list: &Path, mode: Option<NetworkMode>) -> Result<Vec<ExtraHost>, Bad> {
        let all = self.extra_hosts.as_deref().unwrap_or_default();
        if mode == Some(NetworkMode::Awsvpc) && !all.is_empty() {
            return Err(Bad::new(list, "is not supported in this network mode"));
        }
        let host = |host: &super::written::Host| ExtraHost {
            hostname: host.hostname.clone(),
            address: host.ip_address,
        };
        Ok(all.iter().map(host).collect())
    }

    fn consistency(&self, at: &Path) -> Result<Option<String>, Bad> {
        match self.version_consistency.as_deref() {
            None | Some("enabled" | "disabled") => Ok(self.version_consistency.clone()),
            Some(_) => Err(Bad::new(at, "must be enabled or disabled")),
        }
    }
}

impl Check {
    fn meaning(&self, at: &Path) -> Result<ContainerCheck, Bad> {
        let kind = self.command.first().map(String::as_str);
        if !matches!(kind, Some("CMD" | "CMD-SHELL")) || self.command.len() < 2 {
            let reason = "must be CMD with a program and its arguments, or CMD-SHELL with a line";
            return Err(Bad::new(&at.key("command"), reason));
        }
        let or = |member, range, name: &'static str, default: u64| {
            let given = seconds(member, range, &at.key(name))?;
            Ok(given.unwrap_or_else(|| Duration::from_secs(default)))
        };
        let retries = self.retries.unwrap_or(3);
        if !(1..=10).contains(&retries) {
            return Err(Bad::new(&at.key("retries"), "must be 1 to 10"));
        }
        Ok(ContainerCheck {
            command: self.command.clone(),
            interval: or(self.interval, 5..=300, "interval", 30)?,
            timeout: or(self.timeout, 2..=60, "timeout", 5)?,
            retries,
            start_period: seconds(self.start_period, 0..=300, &at.key("startPeriod"))?,
        })
    }
}

impl Port {
    fn meaning(&self, at: &Path, mode: Option<NetworkMode>) -> Result<PortMapping, Bad> {
        let range = self.range(&at.key("containerPortRange"), mode)?;
        let (port, range_end) = match (self.container_port, range) {
            (Some(_), Some(_)) => {
                let reason = "stands in place of containerPort";
                return Err(Bad::new(&at.key("containerPortRange"), reason));
            }
            (None, Some((first, last))) => (first, Some(last)),
            (port, None) => (port.unwrap_or(0), None),
        };
        if port == 0 {
            return Err(Bad::new(&at.key("containerPort"), "must be 1 to 65535"));
        }
        if let Some(name) = &self.name {
            names::port(name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        }
        let shared = matches!(mode, Some(NetworkMode::Awsvpc | NetworkMode::Host));
        let host_port = self.host_port.filter(|port| *port != 0);
        if shared && host_port.is_some_and(|host| host != port) {
            let mode = mode.map_or("", NetworkMode::as_str);
            let reason = format!(
                "When networkMode={mode}, the host ports and container ports in port mappings \
                 must match"
            );
            return Err(Bad::new(&at.key("hostPort"), reason));
        }
        if range_end.is_some() && host_port.is_some() {
            return Err(Bad::new(&at.key("hostPort"), "cannot be chosen for a range"));
        }
        Ok(PortMapping {
            container_port: port,
            protocol: self.protocol.unwrap_or(Transport::Tcp),
            name: self.name.clone(),
            range_end,
            // Where the two have to be one, saying so adds nothing.
            host_port: host_port.filter(|_| !shared),
            app_protocol: self.app_protocol,
        })
    }

    fn range(&self, at: &Path, mode: Option<NetworkMode>) -> Result<Option<(u16, u16)>, Bad> {
        let Some(text) = &self.container_port_range else { return Ok(None) };
        if mode == Some(NetworkMode::Host) {
            return Err(Bad::new(at, "is for the network modes bridge and awsvpc"));
        }
        let ports = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (0 < first && first < last).then_some((first, last))
        });
        ports.map(Some).ok_or_else(|| Bad::new(at, "must be two ports such as 8000-8010"))
    }
}

/// CloudWatch's names of groups, and no option that would be passed over.
fn awslogs<'a>(
    options: impl Iterator<Item = (&'a String, &'a String)> + Clone,
    at: &Path,
) -> Result<(), Bad> {
    if let Some((name, _)) = options.clone().find(|(n, _)| !AWSLOGS_OPTIONS.contains(&n.as_str())) {
        return Err(Bad::new(at, format!("{name} is not supported here")));
    }
    let group = options.clone().find(|(name, _)| *name == "awslogs-group");
    let good = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
    match group {
        Some((_, group)) if (1..=200).contains(&group.len()) && group.chars().all(good) => Ok(()),
        Some(_) => Err(Bad::new(at, "awslogs-group must be 1 to 200 of letters, digits and _-/.#")),
        None => Err(Bad::new(at, "awslogs needs awslogs-group")),
    }
}

fn variable_name(name: &str, at: &Path) -> Result<(), Bad> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Bad::new(at, format!("{name:?} is no name of a variable")));
    }
    Ok(())
}

fn absolute(path: Option<&str>, member: &'static str, at: &Path) -> Result<String, Bad> {
    let path = path.filter(|path| path.starts_with('/'));
    path.map(str::to_owned).ok_or_else(|| Bad::new(&at.key(member), "must be an absolute path"))
}

fn seconds(
    seconds: Option<u32>,
    range: RangeInclusive<u32>,
    at: &Path,
) -> Result<Option<Duration>, Bad> {
    match seconds {
        None => Ok(None),
        Some(seconds) if range.contains(&seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Some(_) => {
            let reason = format!("must be {} to {} seconds", range.start(), range.end());
            Err(Bad::new(at, reason))
        }
    }
}
