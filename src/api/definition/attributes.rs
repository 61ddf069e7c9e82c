//! What ECS works out of a definition: where it could run, and what an instance must be able to do.
//!
//! For the reader of a description; nothing here decides by it. **Invariant:** both lists follow
//! from the definition alone and are in a fixed order.

use std::collections::BTreeSet;

use super::meaning::is_fargate_size;
use crate::model::{Compatibility, NetworkMode, TaskDefinition, VolumeKind};

/// The launch types that the definition is good for.
pub(super) fn compatibilities(definition: &TaskDefinition) -> Vec<Compatibility> {
    let mode = definition.network_mode;
    let mut all = vec![Compatibility::Ec2];
    let size = definition.cpu.zip(definition.memory_mib);
    let plain = definition.containers.iter().all(|container| {
        container.privileged != Some(true)
            && container.links.is_empty()
            && container.security_options.is_empty()
            && container.linux.as_ref().is_none_or(|linux| linux.devices.is_empty())
    });
    let no_docker_volume =
        definition.volumes.iter().all(|volume| matches!(volume.kind, VolumeKind::Host { .. }));
    let fits = size.is_some_and(|(cpu, memory)| is_fargate_size(cpu, memory));
    if mode == Some(NetworkMode::Awsvpc) {
        if fits && plain && no_docker_volume {
            all.push(Compatibility::Fargate);
        }
    } else {
        // Instances of somebody's own have no interface to attach.
        all.push(Compatibility::External);
    }
    if matches!(mode, Some(NetworkMode::Awsvpc | NetworkMode::Host)) {
        all.push(Compatibility::ManagedInstances);
    }
    all
}

/// ECS's names of what an instance must be able to do.
pub(super) fn required(definition: &TaskDefinition) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut add = |name: &str| {
        names.insert(name.to_owned());
    };
    if definition.network_mode == Some(NetworkMode::Awsvpc) {
        add("ecs.capability.task-eni");
    }
    if definition.task_role_arn.is_some() {
        add("com.amazonaws.ecs.capability.task-iam-role");
        if definition.network_mode == Some(NetworkMode::Host) {
            add("com.amazonaws.ecs.capability.task-iam-role-network-host");
        }
    }
    if definition.cpu.is_some() || definition.memory_mib.is_some() {
        add("ecs.capability.task-cpu-mem-limit");
    }
    if definition.pid_mode.is_some() || definition.ipc_mode.is_some() {
        add("ecs.capability.pid-ipc-namespace-sharing");
    }
    if definition.volumes.iter().any(|volume| matches!(volume.kind, VolumeKind::Docker(_))) {
        add("ecs.capability.docker-plugin.local");
    }
    for container in &definition.containers {
        if let Some(log) = &container.log {
            add(&format!("com.amazonaws.ecs.capability.logging-driver.{}", log.driver));
            if log.driver == "awslogs" && definition.execution_role_arn.is_some() {
                add("ecs.capability.execution-role-awslogs");
            }
        }
        if !container.depends_on.is_empty() {
            add("ecs.capability.container-ordering");
        }
        if container.health_check.is_some() {
            add("ecs.capability.container-health-check");
        }
        if container.privileged == Some(true) {
            add("com.amazonaws.ecs.capability.privileged-container");
        }
        if !container.environment_files.is_empty() {
            add("ecs.capability.env-files.s3");
        }
        for secret in &container.secrets {
            let store = if secret.value_from.contains(":secretsmanager:") { "asm" } else { "ssm" };
            add(&format!("ecs.capability.secrets.{store}.environment-variables"));
        }
    }
    names
}
