//! What containers of one task share: names, ports, volumes, an order to start in.
//!
//! **Invariant:** a definition that passes has a start order of all its containers.

use std::collections::BTreeSet;

use super::{Bad, Path};
use crate::model::{ContainerDefinition, DependencyCondition, NetworkMode, TaskDefinition};

pub(super) fn check(definition: &TaskDefinition) -> Result<(), Bad> {
    let list = Path::default().key("containerDefinitions");
    let mut names = BTreeSet::new();
    for (index, container) in definition.containers.iter().enumerate() {
        if !names.insert(&container.name) {
            let reason = format!("there are two containers called {:?}", container.name);
            return Err(Bad::new(&list.index(index).key("name"), reason));
        }
    }
    let (mut ports, mut host_ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, container) in definition.containers.iter().enumerate() {
        let at = list.index(index);
        check_ports(container, &at.key("portMappings"), &mut ports, &mut host_ports)?;
        check_volumes(definition, container, &at)?;
        check_needs(definition, container, &at)?;
    }
    if !definition.containers.iter().any(|container| container.essential) {
        return Err(Bad::new(&list, "at least one container must be essential"));
    }
    let ordered = definition.start_order();
    let circle =
        |container: &&ContainerDefinition| !ordered.iter().any(|c| c.name == container.name);
    if let Some(stuck) = definition.containers.iter().position(|c| circle(&c)) {
        let reason = "needs itself by way of others: no container of the circle could start first";
        return Err(Bad::new(&list.index(stuck).key("dependsOn"), reason));
    }
    Ok(())
}

/// A port goes to one container only, since a task is reached at one address.
fn check_ports(
    container: &ContainerDefinition,
    list: &Path,
    ports: &mut BTreeSet<(u16, crate::model::Transport)>,
    host_ports: &mut BTreeSet<(u16, crate::model::Transport)>,
) -> Result<(), Bad> {
    for (index, mapping) in container.port_mappings.iter().enumerate() {
        let at = list.index(index);
        for port in mapping.ports() {
            if !ports.insert((port, mapping.protocol)) {
                let reason =
                    format!("port {port}/{} is mapped twice in one task", mapping.protocol);
                return Err(Bad::new(&at.key("containerPort"), reason));
            }
        }
        let Some(port) = mapping.host_port else { continue };
        if !host_ports.insert((port, mapping.protocol)) {
            let reason = format!("host port {port}/{} is taken twice", mapping.protocol);
            return Err(Bad::new(&at.key("hostPort"), reason));
        }
    }
    Ok(())
}

fn check_volumes(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    at: &Path,
) -> Result<(), Bad> {
    for (index, mount) in container.mount_points.iter().enumerate() {
        if !definition.volumes.iter().any(|volume| volume.name == mount.source_volume) {
            let at = at.key("mountPoints").index(index).key("sourceVolume");
            return Err(Bad::new(&at, format!("there is no volume {:?}", mount.source_volume)));
        }
    }
    Ok(())
}

/// Whom it depends on, links to, and takes volumes from.
fn check_needs(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    at: &Path,
) -> Result<(), Bad> {
    let find = |name: &str, at: &Path| {
        let found = definition.container(name).filter(|found| found.name != container.name);
        let reason = if name == container.name {
            "is the container itself".to_owned()
        } else {
            format!("there is no container {name:?}")
        };
        found.ok_or_else(|| Bad::new(at, reason))
    };
    for (index, dependency) in container.depends_on.iter().enumerate() {
        let at = at.key("dependsOn").index(index);
        let found = find(&dependency.container, &at.key("containerName"))?;
        let name = &found.name;
        let reason = match dependency.condition {
            DependencyCondition::Healthy if found.health_check.is_none() => {
                format!("container {name} has no healthCheck")
            }
            DependencyCondition::Complete | DependencyCondition::Success if found.essential => {
                format!("container {name} is essential: its end would end the task")
            }
            _ => continue,
        };
        return Err(Bad::new(&at.key("condition"), reason));
    }
    for (index, from) in container.volumes_from.iter().enumerate() {
        let at = at.key("volumesFrom").index(index).key("sourceContainer");
        find(&from.source_container, &at)?;
    }
    for (index, link) in container.links.iter().enumerate() {
        let at = at.key("links").index(index);
        if !matches!(definition.network_mode, None | Some(NetworkMode::Bridge)) {
            return Err(Bad::new(&at, "links are for network mode bridge"));
        }
        find(link.split(':').next().unwrap_or(link), &at)?;
    }
    Ok(())
}
