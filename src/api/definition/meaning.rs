//! What a written definition means, as revision 0: registering gives the number.
//!
//! The task's own members; `container` does a container's, `together` what they share.
//! **Invariant:** an error names the member by its path.

use std::collections::{BTreeMap, BTreeSet};

use super::size::Size;
use super::written::{Constraint, Definition, DockerVolume, Tag, Volume};
use super::{Bad, Path, refuse, together};
use crate::api::file::names;
use crate::model::{
    Compatibility, MAX_CONTAINERS, NetworkMode, RuntimePlatform, Sharing, TaskDefinition,
    VolumeKind, VolumeScope,
};
use crate::orchestrator::placement::Query;

/// ECS: placement constraints of one task definition.
const MAX_CONSTRAINTS: usize = 10;
/// ECS: tags of one resource.
const MAX_TAGS: usize = 50;

impl Definition {
    /// What it means, as revision 0: registering gives the number.
    ///
    /// # Errors
    /// The first member that is wrong, or that is not honoured here.
    pub fn meaning(&self) -> Result<TaskDefinition, Bad> {
        self.refused(&Path::default())?;
        self.converted()
    }

    /// The model of it, members included that are refused.
    pub(super) fn converted(&self) -> Result<TaskDefinition, Bad> {
        let root = Path::default();
        let family = self.family.as_deref();
        let family = family.ok_or_else(|| Bad::new(&root, "missing field `family`"))?;
        names::ecs(family).map_err(|reason| Bad::new(&root.key("family"), reason))?;
        let list = root.key("containerDefinitions");
        let written = self.container_definitions.as_deref().unwrap_or_default();
        if written.is_empty() || written.len() > MAX_CONTAINERS {
            return Err(Bad::new(&list, "must hold one to ten containers"));
        }
        let containers = written
            .iter()
            .enumerate()
            .map(|(index, container)| container.meaning(&list.index(index), self.network_mode))
            .collect::<Result<Vec<_>, _>>()?;
        let arn = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut definition = TaskDefinition {
            cpu: size(self.cpu.as_ref(), "vcpu", &root.key("cpu"))?,
            memory_mib: size(self.memory.as_ref(), "gb", &root.key("memory"))?,
            network_mode: self.network_mode,
            volumes: self.volumes(&root.key("volumes"))?,
            placement_constraints: self.constraints(&root.key("placementConstraints"))?,
            requires_compatibilities: self.requires_compatibilities.clone().unwrap_or_default(),
            task_role_arn: arn(&self.task_role_arn),
            execution_role_arn: arn(&self.execution_role_arn),
            pid_mode: self.pid_mode,
            ipc_mode: self.ipc_mode,
            runtime_platform: self.runtime_platform.as_ref().map(|platform| RuntimePlatform {
                cpu_architecture: platform.cpu_architecture.clone(),
                operating_system_family: platform.operating_system_family.clone(),
            }),
            ephemeral_storage_gib: self.storage(&root)?,
            tags: tags(self.tags.as_deref().unwrap_or_default(), &root.key("tags"))?,
            ..TaskDefinition::new(family.into(), 0, containers)
        };
        definition.requires_compatibilities.dedup();
        if self.pid_mode == Some(Sharing::None) {
            return Err(Bad::new(&root.key("pidMode"), "must be host or task"));
        }
        together::check(&definition)?;
        fargate(&definition, &root)?;
        Ok(definition)
    }

    fn refused(&self, root: &Path) -> Result<(), Bad> {
        let says = |member: Option<super::written::Something>| member.unwrap_or_default().0;
        refuse(says(self.proxy_configuration), &root.key("proxyConfiguration"))?;
        refuse(says(self.inference_accelerators), &root.key("inferenceAccelerators"))?;
        refuse(says(self.enable_fault_injection), &root.key("enableFaultInjection"))?;
        let list = root.key("containerDefinitions");
        for (index, container) in self.container_definitions.iter().flatten().enumerate() {
            container.refused(&list.index(index))?;
        }
        Ok(())
    }

    fn storage(&self, root: &Path) -> Result<Option<u32>, Bad> {
        let size = self.ephemeral_storage.as_ref().map(|storage| storage.size);
        if size.is_some_and(|size| !(21..=200).contains(&size)) {
            let at = root.key("ephemeralStorage").key("sizeInGiB");
            return Err(Bad::new(&at, "must be 21 to 200"));
        }
        Ok(size)
    }

    fn constraints(&self, list: &Path) -> Result<Vec<String>, Bad> {
        let written: &[Constraint] = self.placement_constraints.as_deref().unwrap_or_default();
        if written.len() > MAX_CONSTRAINTS {
            return Err(Bad::new(list, "must hold at most ten constraints"));
        }
        let constraint = |(index, constraint): (usize, &Constraint)| {
            let at = list.index(index);
            if constraint.kind != "memberOf" {
                return Err(Bad::new(&at.key("type"), "must be memberOf"));
            }
            let expression = constraint.expression.clone().filter(|text| !text.is_empty());
            let at = at.key("expression");
            let expression = expression.ok_or_else(|| Bad::new(&at, "must not be empty"))?;
            match expression.parse::<Query>() {
                Ok(_) => Ok(expression),
                Err(error) => Err(Bad::new(&at, format!("is no cluster query: {error}"))),
            }
        };
        written.iter().enumerate().map(constraint).collect()
    }

    fn volumes(&self, list: &Path) -> Result<Vec<crate::model::Volume>, Bad> {
        let mut names = BTreeSet::new();
        let mut volumes = Vec::new();
        for (index, volume) in self.volumes.iter().flatten().enumerate() {
            let at = list.index(index);
            let volume = volume.meaning(&at)?;
            if !names.insert(volume.name.clone()) {
                let reason = format!("there are two volumes called {:?}", volume.name);
                return Err(Bad::new(&at.key("name"), reason));
            }
            volumes.push(volume);
        }
        Ok(volumes)
    }
}

impl Volume {
    fn meaning(&self, at: &Path) -> Result<crate::model::Volume, Bad> {
        let name = self.name.clone().unwrap_or_default();
        names::ecs(&name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        for (member, name) in [
            (self.efs_volume_configuration, "efsVolumeConfiguration"),
            (
                self.fsx_windows_file_server_volume_configuration,
                "fsxWindowsFileServerVolumeConfiguration",
            ),
            (self.s3files_volume_configuration, "s3filesVolumeConfiguration"),
            (self.configured_at_launch, "configuredAtLaunch"),
        ] {
            if member.unwrap_or_default().0 {
                let reason = "is a volume of AWS's own; use host or dockerVolumeConfiguration";
                return Err(Bad::new(&at.key(name), reason));
            }
        }
        let source = self.host.as_ref().and_then(|host| host.source_path.clone());
        let source_path = source.filter(|path| !path.is_empty());
        if source_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            let at = at.key("host").key("sourcePath");
            return Err(Bad::new(&at, "must be an absolute path"));
        }
        let kind = match &self.docker_volume_configuration {
            Some(_) if source_path.is_some() => {
                let reason = "a volume is either a folder of the host or a Docker volume";
                return Err(Bad::new(at, reason));
            }
            Some(docker) => docker.meaning(&at.key("dockerVolumeConfiguration"))?,
            None => VolumeKind::Host { source_path },
        };
        Ok(crate::model::Volume { name, kind })
    }
}

impl DockerVolume {
    fn meaning(&self, at: &Path) -> Result<VolumeKind, Bad> {
        let scope = self.scope.unwrap_or(VolumeScope::Task);
        let autoprovision = self.autoprovision.unwrap_or(false);
        if autoprovision && scope == VolumeScope::Task {
            return Err(Bad::new(&at.key("autoprovision"), "is for volumes of scope shared"));
        }
        Ok(VolumeKind::Docker(crate::model::DockerVolume {
            scope,
            autoprovision,
            driver: self.driver.clone().filter(|driver| !driver.is_empty()),
            driver_options: self.driver_opts.clone().unwrap_or_default(),
            labels: self.labels.clone().unwrap_or_default(),
        }))
    }
}

fn tags(written: &[Tag], list: &Path) -> Result<BTreeMap<String, String>, Bad> {
    if written.len() > MAX_TAGS {
        return Err(Bad::new(list, "must hold at most fifty tags"));
    }
    let mut tags = BTreeMap::new();
    for (index, tag) in written.iter().enumerate() {
        let at = list.index(index);
        if tag.key.is_empty() || tag.key.chars().count() > 128 {
            return Err(Bad::new(&at.key("key"), "must be 1 to 128 characters"));
        }
        if tag.value.chars().count() > 256 {
            return Err(Bad::new(&at.key("value"), "must be at most 256 characters"));
        }
        if tags.insert(tag.key.clone(), tag.value.clone()).is_some() {
            return Err(Bad::new(&at.key("key"), format!("tag {:?} is set twice", tag.key)));
        }
    }
    Ok(tags)
}

fn size(size: Option<&Size>, units: &str, at: &Path) -> Result<Option<u32>, Bad> {
    let Some(size) = size else { return Ok(None) };
    let value = size.units(units).filter(|value| *value > 0);
    let what = if units == "gb" { "memory in MiB or \"0.5GB\"" } else { "CPU units or \"1 vCPU\"" };
    value.map(Some).ok_or_else(|| Bad::new(at, format!("must be {what}")))
}

/// Memory that Fargate has for so many CPU units: least, most, step, all in MiB.
const FARGATE: &[(u32, u32, u32, u32)] = &[
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16_384, 1024),
    (4096, 8192, 30_720, 1024),
    (8192, 16_384, 61_440, 4096),
    (16_384, 32_768, 122_880, 8192),
];

/// Whether Fargate has a machine of this size.
pub(super) fn is_fargate_size(cpu: u32, memory: u32) -> bool {
    let fits = |(units, least, most, step): &(u32, u32, u32, u32)| {
        cpu == *units
            && (*least..=*most).contains(&memory)
            && (memory - least).is_multiple_of(*step)
    };
    (cpu == 256 && [512, 1024, 2048].contains(&memory)) || FARGATE.iter().any(fits)
}

/// What ECS asks of a definition that is to be good for Fargate, in its words.
fn fargate(definition: &TaskDefinition, root: &Path) -> Result<(), Bad> {
    if !definition.requires_compatibilities.contains(&Compatibility::Fargate) {
        return Ok(());
    }
    if definition.network_mode != Some(NetworkMode::Awsvpc) {
        let reason = "Fargate only supports network mode 'awsvpc'";
        return Err(Bad::new(&root.key("networkMode"), reason));
    }
    let level = |name: &'static str| {
        let reason = format!("Fargate requires that '{name}' be defined at the task level");
        Bad::new(&root.key(name), reason)
    };
    let cpu = definition.cpu.ok_or_else(|| level("cpu"))?;
    let memory = definition.memory_mib.ok_or_else(|| level("memory"))?;
    if is_fargate_size(cpu, memory) {
        return Ok(());
    }
    let reason = format!(
        "No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See the \
         Amazon ECS documentation for the valid values"
    );
    Err(Bad::new(&root.key("memory"), reason))
}
