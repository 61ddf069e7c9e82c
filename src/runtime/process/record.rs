//! What is written down of one container: enough to start it, and to find its process again.
//!
//! **Invariant:** a file is replaced whole, by rename. It is not synced: what it describes does not
//! survive what would lose it (a power cut ends the processes too, and the boot id shows that). Its
//! environment holds secrets: only its owner reads it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Key;
use crate::model::{
    ContainerCheck, ContainerDefinition, NetworkMode, Observed, ObservedState, PortMapping,
    Sharing, TaskId,
};
use crate::runtime::{ContainerSpec, RuntimeError};

/// Only its owner reads it: environments hold secrets.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const SUFFIX: &str = "json";

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) task: TaskId,
    pub(super) container: String,
    /// Where the container came from; for the reader of the file.
    pub(super) cluster: String,
    pub(super) family: String,
    pub(super) revision: u32,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) working_directory: Option<String>,
    pub(super) user: Option<String>,
    pub(super) memory_mib: Option<u32>,
    pub(super) address: Option<IpAddr>,
    #[serde(default)]
    pub(super) check: Option<ContainerCheck>,
    /// None: never started.
    pub(super) process: Option<Identity>,
    pub(super) exit: Option<Exit>,
}

/// One process, by more than its number, which comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Ticks after boot.
    pub(super) start: u64,
    pub(super) boot: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) code: Option<i32>,
    pub(super) out_of_memory: bool,
}

/// Without the environment.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { task, container, process, exit, .. } = self;
        write!(f, "Record({task}/{container}, {process:?}, {exit:?})")
    }
}

impl Record {
    pub(super) fn new(spec: &ContainerSpec) -> Result<Self, RuntimeError> {
        let definition = &spec.definition;
        let names = [("task", spec.task.as_str()), ("container name", &definition.name)];
        for (what, name) in names {
            if !is_file_name(name) {
                return Err(RuntimeError::CannotCreate(format!(
                    "{what} {name:?}: only letters, digits, hyphens and underscores are allowed"
                )));
            }
        }
        if spec.network_mode == Some(NetworkMode::None) {
            let text =
                "networkMode none: only on Docker; child processes have the network as it is";
            return Err(RuntimeError::CannotCreate(text.to_owned()));
        }
        if spec.ipc_mode == Some(Sharing::None) {
            let text = "ipcMode none: only on Docker; child processes have the machine as it is";
            return Err(RuntimeError::CannotCreate(text.to_owned()));
        }
        if let Some(member) = needs_docker(definition) {
            return Err(RuntimeError::CannotCreate(format!(
                "{member}: only on Docker; child processes have the machine as it is"
            )));
        }
        let arguments = definition.arguments();
        if arguments.first().is_none_or(String::is_empty) {
            return Err(RuntimeError::CannotCreate(
                "command: empty, and a process needs a program to run".to_owned(),
            ));
        }
        Ok(Self {
            task: spec.task.clone(),
            container: definition.name.clone(),
            cluster: spec.cluster.clone(),
            family: spec.family.clone(),
            revision: spec.revision,
            arguments,
            environment: spec
                .variables()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            working_directory: definition.working_directory.clone(),
            user: definition.user.clone(),
            memory_mib: definition.memory_mib,
            address: spec.address,
            check: definition.health_check.clone(),
            process: None,
            exit: None,
        })
    }

    /// The record of a process of ours of which no file tells.
    pub(super) fn found(key: &Key, process: Identity, address: Option<IpAddr>) -> Self {
        Self {
            task: key.0.clone(),
            container: key.1.clone(),
            cluster: String::new(),
            family: String::new(),
            revision: 0,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            working_directory: None,
            user: None,
            memory_mib: None,
            address,
            check: None,
            process: Some(process),
            exit: None,
        }
    }

    pub(super) fn key(&self) -> Key {
        (self.task.clone(), self.container.clone())
    }

    pub(super) fn observed(&self) -> Observed {
        let state = match (&self.process, self.exit) {
            (_, Some(Exit { code, out_of_memory })) => {
                ObservedState::Exited { code, out_of_memory }
            }
            (Some(_), None) => ObservedState::Running,
            (None, None) => ObservedState::Created,
        };
        let runtime_id = match &self.process {
            Some(process) => format!("{}:{}", process.pid, process.start),
            None => format!("{}/{}", self.task, self.container),
        };
        let container = self.container.clone();
        Observed::new(self.task.clone(), container, runtime_id, state, self.address)
    }

    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let folder = directory.join(self.task.as_str());
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&folder)?;
        let path = path(directory, &self.task, &self.container, SUFFIX);
        let new = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let written = options
            .open(&new)
            .and_then(|mut file| io::Write::write_all(&mut file, &text))
            .and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // A half-written file would only take up the space that was missing.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// Deletes the file. The log stays, and with it the folder.
pub(super) fn delete(directory: &Path, key: &Key) -> io::Result<()> {
    match fs::remove_file(path(directory, &key.0, &key.1, SUFFIX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            // Goes only when it is empty: a container that never started has no log.
            let _ = fs::remove_dir(directory.join(key.0.as_str()));
            Ok(())
        }
    }
}

/// Every record under `directory`. A file that cannot be read is left out with a warning: its
/// process, if it has one, is found by its marker.
pub(super) fn load(directory: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for folder in fs::read_dir(directory)? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            let read = fs::read(&path)
                .and_then(|text| serde_json::from_slice::<Record>(&text).map_err(io::Error::from));
            match read {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "container file is unreadable");
                }
            }
        }
    }
    Ok(records)
}

/// `DIRECTORY/TASK/CONTAINER.SUFFIX`.
pub(super) fn path(directory: &Path, task: &TaskId, container: &str, suffix: &str) -> PathBuf {
    directory.join(task.as_str()).join(format!("{container}.{suffix}"))
}

/// A member that would change how the container runs, and cannot here.
fn needs_docker(definition: &ContainerDefinition) -> Option<&'static str> {
    let yes = |flag: Option<bool>| flag == Some(true);
    [
        (definition.log.as_ref().is_some_and(|log| !is_file(&log.driver)), "logConfiguration"),
        (definition.port_mappings.iter().any(moves_port), "hostPort"),
        (!definition.mount_points.is_empty(), "mountPoints"),
        (!definition.volumes_from.is_empty(), "volumesFrom"),
        (!definition.ulimits.is_empty(), "ulimits"),
        (definition.linux.as_ref().is_some_and(|l| *l != Default::default()), "linuxParameters"),
        (!definition.system_controls.is_empty(), "systemControls"),
        (definition.hostname.is_some(), "hostname"),
        (!definition.links.is_empty(), "links"),
        (!definition.dns_servers.is_empty(), "dnsServers"),
        (!definition.dns_search_domains.is_empty(), "dnsSearchDomains"),
        (!definition.extra_hosts.is_empty(), "extraHosts"),
        (!definition.security_options.is_empty(), "dockerSecurityOptions"),
        (yes(definition.privileged), "privileged"),
        (yes(definition.readonly_root), "readonlyRootFilesystem"),
        (yes(definition.interactive), "interactive"),
        (yes(definition.pseudo_terminal), "pseudoTerminal"),
    ]
    .into_iter()
    .find_map(|(is_asked, member)| is_asked.then_some(member))
}

/// Drivers that come to what processes have anyway: a file of bounded length.
fn is_file(driver: &str) -> bool {
    ["json-file", "local"].contains(&driver)
}

/// A port of the host that is another one than the container's: nobody would lead there.
fn moves_port(mapping: &PortMapping) -> bool {
    mapping.host_port.is_some_and(|port| port != mapping.container_port)
}

/// ECS's alphabet for container names, which no file system minds.
fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let identity = Identity { pid: 42, start: 1000, boot: "b".to_owned() };
        Record::found(&("t1".into(), "app".to_owned()), identity, None)
    }

    #[test]
    fn record_reads_back_what_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = record();
        record.save(directory.path()).unwrap();
        record.exit = Some(Exit { code: Some(3), out_of_memory: false });
        record.save(directory.path()).unwrap();
        assert_eq!(load(directory.path()).unwrap(), [record.clone()]);
        delete(directory.path(), &record.key()).unwrap();
        delete(directory.path(), &record.key()).unwrap();
        assert_eq!(load(directory.path()).unwrap(), []);
    }

    #[test]
    fn unreadable_record_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        record().save(directory.path()).unwrap();
        fs::write(directory.path().join("t1/broken.json"), b"{\"task\":").unwrap();
        assert_eq!(load(directory.path()).unwrap().len(), 1);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for (name, good) in
            [("app", true), ("a_b-1", true), ("", false), ("..", false), ("a/b", false)]
        {
            assert_eq!(is_file_name(name), good, "{name}");
        }
    }
}
