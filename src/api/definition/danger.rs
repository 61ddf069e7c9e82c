//! What gives a container power over the machine: a Docker socket is root, and so are these.
//!
//! The file is written by who owns the machine; whoever comes by an API need not be. Not here: who
//! is allowed what (the fronts). **Invariant:** a definition without dangers reaches no file, no
//! device and no network of the host that its operator did not publish.

use super::Path;
use crate::model::{ContainerDefinition, NetworkMode, Sharing, TaskDefinition, VolumeKind};

/// The members of `definition` that a stranger must not set, by their paths.
#[must_use]
pub fn dangers(definition: &TaskDefinition) -> Vec<Path> {
    let root = Path::default();
    let mut found = Vec::new();
    let mut add = |is_dangerous: bool, at: Path| {
        if is_dangerous {
            found.push(at);
        }
    };
    add(definition.network_mode == Some(NetworkMode::Host), root.key("networkMode"));
    add(definition.pid_mode == Some(Sharing::Host), root.key("pidMode"));
    add(definition.ipc_mode == Some(Sharing::Host), root.key("ipcMode"));
    for (index, volume) in definition.volumes.iter().enumerate() {
        let at = root.key("volumes").index(index);
        let is_folder = matches!(volume.kind, VolumeKind::Host { source_path: Some(_) });
        add(is_folder, at.key("host").key("sourcePath"));
        // A driver's options name devices and folders of the host.
        let has_options =
            matches!(&volume.kind, VolumeKind::Docker(docker) if !docker.driver_options.is_empty());
        add(has_options, at.key("dockerVolumeConfiguration").key("driverOpts"));
    }
    for (index, container) in definition.containers.iter().enumerate() {
        of_container(container, &root.key("containerDefinitions").index(index), &mut add);
    }
    found
}

fn of_container(container: &ContainerDefinition, at: &Path, add: &mut impl FnMut(bool, Path)) {
    add(container.privileged == Some(true), at.key("privileged"));
    add(!container.security_options.is_empty(), at.key("dockerSecurityOptions"));
    add(!container.system_controls.is_empty(), at.key("systemControls"));
    // They are read by us, whoever names them.
    add(!container.environment_files.is_empty(), at.key("environmentFiles"));
    if let Some(linux) = &container.linux {
        let at = at.key("linuxParameters");
        add(!linux.devices.is_empty(), at.key("devices"));
        add(!linux.added_capabilities.is_empty(), at.key("capabilities").key("add"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Definition;
    use super::*;

    fn check(task: &str, container: &str, expected: &str) {
        let text =
            format!(r#"{{"family":"d"{task},"containerDefinitions":[{{"name":"c"{container}}}]}}"#);
        let definition = Definition::lenient(serde_json::from_str(&text).unwrap()).unwrap();
        let found = dangers(&definition.converted().unwrap());
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn every_way_to_the_machine_is_named() {
        let c = "containerDefinitions[0]";
        check("", "", "");
        check(r#","networkMode":"host","pidMode":"host""#, "", "networkMode pidMode");
        check(r#","ipcMode":"task","networkMode":"bridge""#, "", "");
        check(
            r#","volumes":[{"name":"a"},{"name":"b","host":{"sourcePath":"/"}}]"#,
            "",
            "volumes[1].host.sourcePath",
        );
        check(
            r#","volumes":[{"name":"a","dockerVolumeConfiguration":{"driverOpts":{"o":"bind"}}}]"#,
            "",
            "volumes[0].dockerVolumeConfiguration.driverOpts",
        );
        check("", r#","privileged":true"#, &format!("{c}.privileged"));
        check(
            "",
            r#","linuxParameters":{"capabilities":{"add":["SYS_ADMIN"],"drop":["ALL"]}}"#,
            &format!("{c}.linuxParameters.capabilities.add"),
        );
        check(
            "",
            r#","linuxParameters":{"devices":[{"hostPath":"/dev/sda"}]}"#,
            &format!("{c}.linuxParameters.devices"),
        );
        check(
            "",
            r#","environmentFiles":[{"value":"file:///etc/shadow"}]"#,
            &format!("{c}.environmentFiles"),
        );
    }
}
