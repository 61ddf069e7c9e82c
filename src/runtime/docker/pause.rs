//! What the containers of a task share is held by one that does nothing: their network in mode
//! awsvpc, their processes and their IPC in the modes `task`.
//!
//! ECS's own way: the others join the pause container. Its image is ours, made on the spot: one
//! program of a few instructions that sleeps for ever, and lets the kernel bury whatever child is
//! left to it. **Invariant:** a container whose pause is gone has no network any more and is
//! killed: pause death is task death; a pause goes before the containers that joined it, so that
//! none is left behind.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, HealthConfig, HostConfig,
};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::engine::{CREATE, Failure, LIST, REMOVE, START};
use super::rest::{MOST, is_exhausted, is_resting};
use super::shape::{LABEL_CLUSTER, LABEL_CONTAINER, LABEL_TASK};
use super::{Docker, host, shape};
use crate::model::{NetworkMode, Sharing, TaskId};
use crate::runtime::{ContainerSpec, RuntimeError};

const REPOSITORY: &str = "roadstead-pause";
/// Another program needs another tag.
const TAG: &str = "2";
const PROGRAM: &str = "pause";
/// How Docker writes a network that is another container's.
const JOINED: &str = "container:";

/// A dot is in no name of a container of ECS, so it clashes with none.
pub(super) fn name(uid: &str, task: &TaskId) -> String {
    format!("roadstead-{uid}-{task}.pause")
}

/// Docker's network mode of those that join.
pub(super) fn mode(uid: &str, task: &TaskId) -> String {
    format!("{JOINED}{}", name(uid, task))
}

/// The id or name of the container that this one has joined, and whether its network is that one's.
pub(super) fn joined(container: &ContainerInspectResponse) -> Option<(&str, bool)> {
    let host = container.host_config.as_ref()?;
    let modes = [(&host.network_mode, true), (&host.pid_mode, false), (&host.ipc_mode, false)];
    let mut pauses = modes.into_iter().filter_map(|(mode, is_network)| {
        Some((mode.as_deref()?.strip_prefix(JOINED)?, is_network))
    });
    pauses.next()
}

/// Whether the containers of a task share anything that a pause has to hold.
pub(super) fn is_needed(spec: &ContainerSpec) -> bool {
    spec.network_mode == Some(NetworkMode::Awsvpc)
        || [spec.pid_mode, spec.ipc_mode].contains(&Some(Sharing::Task))
}

/// The tasks of pauses that do not rest.
fn pausing(all: &[ContainerSummary]) -> impl Iterator<Item = TaskId> {
    let task =
        |pause: &ContainerSummary| Some(pause.labels.as_ref()?.get(LABEL_TASK)?.as_str().into());
    all.iter().filter(|pause| !is_resting(pause)).filter_map(task)
}

/// Whether there is a pause of a task that is not among these.
pub(super) fn is_beside(all: &[ContainerSummary], live: &BTreeSet<TaskId>) -> bool {
    pausing(all).any(|task| !live.contains(&task))
}

/// What stands after a pause was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    At(Option<IpAddr>),
    Gone,
}

/// An executable of Linux that sleeps for ever: an ELF header, one segment, and the code.
/// None: for a machine of another kind.
fn program(architecture: &str) -> Option<Vec<u8>> {
    // elf(5): header 64 bytes, program header 56, the code right behind.
    const BASE: u64 = 0x40_0000;
    const CODE: u64 = 64 + 56;
    let (machine, code): (u16, &[u8]) = match architecture {
        // rt_sigaction(SIGCHLD, [SIG_IGN, 0, 0, 0], 0, 8); then mov eax, 34 (pause); syscall; jmp
        // back to that.
        "x86_64" => (
            62,
            &[
                0x6a, 0, 0x6a, 0, 0x6a, 0, 0x6a, 1, 0xb8, 13, 0, 0, 0, 0xbf, 17, 0, 0, 0, 0x48,
                0x89, 0xe6, 0x31, 0xd2, 0x41, 0xba, 8, 0, 0, 0, 0x0f, 0x05, 0xb8, 34, 0, 0, 0,
                0x0f, 0x05, 0xeb, 0xf7,
            ],
        ),
        // The same, on 32 bytes of the stack; then x0 to x4 = 0; x8 = 73 (ppoll); svc 0; b back to
        // that.
        "aarch64" => (
            183,
            &[
                0xff, 0x83, 0x00, 0xd1, 0x20, 0x00, 0x80, 0xd2, 0xe0, 0x03, 0x00, 0xf9, 0xff, 0xff,
                0x00, 0xa9, 0xff, 0x0f, 0x00, 0xf9, 0x20, 0x02, 0x80, 0xd2, 0xe1, 0x03, 0x00, 0x91,
                0x02, 0x00, 0x80, 0xd2, 0x03, 0x01, 0x80, 0xd2, 0xc8, 0x10, 0x80, 0xd2, 0x01, 0x00,
                0x00, 0xd4, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2,
                0x03, 0x00, 0x80, 0xd2, 0x04, 0x00, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 0x01, 0x00,
                0x00, 0xd4, 0xf9, 0xff, 0xff, 0x17,
            ],
        ),
        _ => return None,
    };
    let length = CODE + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    half(&mut elf, 2);
    half(&mut elf, machine);
    elf.extend(1_u32.to_le_bytes());
    elf.extend([BASE + CODE, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(0_u32.to_le_bytes());
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut elf, value);
    }
    // One loadable segment: read and execute, the whole file.
    elf.extend([1_u32, 5].into_iter().flat_map(u32::to_le_bytes));
    elf.extend([0, BASE, BASE, length, length, 0x1000].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(code);
    Some(elf)
}

/// A tar archive of one executable (POSIX.1, ustar).
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    tar
}

impl Docker {
    fn pause_body(&self, spec: &ContainerSpec) -> ContainerCreateBody {
        let labels = [
            (LABEL_CLUSTER, self.cluster_uid.clone()),
            (LABEL_TASK, spec.task.to_string()),
            ("roadstead.pause", "1".to_owned()),
        ];
        let host = HostConfig {
            network_mode: match spec.network_mode {
                Some(NetworkMode::Awsvpc) => self.network.clone(),
                _ => Some("none".to_owned()),
            },
            ipc_mode: (spec.ipc_mode == Some(Sharing::Task)).then(|| "shareable".to_owned()),
            dns: host::pause_name_servers(spec),
            ..host::never_restarted()
        };
        ContainerCreateBody {
            image: Some(format!("{REPOSITORY}:{TAG}")),
            cmd: Some(vec![format!("/{PROGRAM}")]),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }

    /// Makes the task's pause container, and its image, where they are missing.
    pub(super) async fn make_pause(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let failed = |failure: Failure| match failure {
            Failure::Gone(text) => RuntimeError::CannotCreate(text),
            other => other.into_error(RuntimeError::CannotCreate),
        };
        let name = name(&self.cluster_uid, &spec.task);
        let body = self.pause_body(spec);
        let mut made = self.create_once(&name, &body).await;
        if let Err(Failure::Gone(_)) = made {
            self.import_pause().await?;
            made = self.create_once(&name, &body).await;
        }
        match made {
            // It is there already.
            Ok(_) | Err(Failure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failed(failure)),
        }
    }

    async fn import_pause(&self) -> Result<(), RuntimeError> {
        let program = program(std::env::consts::ARCH).ok_or_else(|| {
            let text = "networkMode awsvpc: there is no pause program for this machine";
            RuntimeError::CannotCreate(text.to_owned())
        })?;
        let options =
            CreateImageOptionsBuilder::default().from_src("-").repo(REPOSITORY).tag(TAG).build();
        let imported = self.engine.call(CREATE, |client| async move {
            let tar = bollard::body_full(archive(PROGRAM, &program).into());
            client.create_image(Some(options), Some(tar), None).try_collect::<Vec<_>>().await
        });
        imported.await.map(drop).map_err(|failure| failure.into_error(RuntimeError::CannotPull))
    }

    /// Starts the pause that a container joins, before it.
    pub(super) async fn start_pause(&self, id: &str) -> Result<(), RuntimeError> {
        let container = self.engine.inspect(id).await;
        let container =
            container.map_err(|failure| failure.into_error(RuntimeError::CannotStart))?;
        let Some((pause, _)) = container.as_ref().and_then(joined) else { return Ok(()) };
        let started = self.start_somewhere(pause).await;
        started.map_err(|failure| failure.into_error(RuntimeError::CannotStart))
    }

    /// Starts a container; where its network has no address left, in the place of one that rests.
    pub(super) async fn start_somewhere(&self, id: &str) -> Result<(), Failure> {
        // One that is being removed already gives nothing back yet, and is counted all the same.
        let mut given_back = 0;
        loop {
            let started = self
                .engine
                .call(START, |client| async move { client.start_container(id, None).await });
            let started = started.await;
            let is_full = started.as_ref().is_err_and(is_exhausted);
            if !is_full || given_back == MOST || !self.give_back().await? {
                return started;
            }
            given_back += 1;
        }
    }

    /// The pause that a running container has joined.
    pub(super) async fn look_at_pause(&self, pause: &str) -> Result<Pause, Failure> {
        let Some(pause) = self.engine.inspect(pause).await? else { return Ok(Pause::Gone) };
        let is_running = pause.state.as_ref().is_some_and(|state| state.running == Some(true));
        Ok(match is_running {
            true => Pause::At(shape::address_of(&pause, self.network.as_deref())),
            false => Pause::Gone,
        })
    }

    /// Whether some container of the task runs.
    pub(super) async fn runs(&self, task: &TaskId) -> Result<bool, Failure> {
        let labels = vec![
            format!("{LABEL_CLUSTER}={}", self.cluster_uid),
            format!("{LABEL_TASK}={task}"),
            LABEL_CONTAINER.to_owned(),
        ];
        let filters = [("label", labels)].into();
        let options = ListContainersOptionsBuilder::default().filters(&filters).build();
        let all = self.engine.retry(LIST, |client| {
            let options = options.clone();
            async move { client.list_containers(Some(options)).await }
        });
        Ok(!all.await?.is_empty())
    }

    /// Removes the task's pause, if it has one.
    pub(super) async fn remove_pause(&self, task: &TaskId) -> Result<(), Failure> {
        match self.own_pause(task).await? {
            Some(id) => self.remove_by_force(&id).await,
            None => Ok(()),
        }
    }

    /// The id of the task's pause. None: it has none.
    pub(super) async fn own_pause(&self, task: &TaskId) -> Result<Option<String>, Failure> {
        // Whatever has the name: only what carries our label is touched.
        let Some(found) = self.engine.inspect(&name(&self.cluster_uid, task)).await? else {
            return Ok(None);
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let is_ours = labels.get(LABEL_CLUSTER) == Some(&self.cluster_uid);
        Ok(found.id.filter(|_| is_ours))
    }

    /// Removes one that does not end by itself.
    pub(super) async fn remove_by_force(&self, id: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = self.engine.retry(REMOVE, |client| {
            let options = options.clone();
            async move { client.remove_container(id, Some(options)).await }
        });
        match removed.await {
            Ok(()) | Err(Failure::Gone(_) | Failure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Every pause of ours, those that rest included.
    pub(super) async fn pauses(&self) -> Result<Vec<ContainerSummary>, Failure> {
        let labels =
            vec![format!("{LABEL_CLUSTER}={}", self.cluster_uid), "roadstead.pause".into()];
        let filters = [("label", labels)].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let all = self.engine.retry(LIST, |client| {
            let options = options.clone();
            async move { client.list_containers(Some(options)).await }
        });
        all.await
    }

    /// Pauses of tasks of which nothing else is left; those that rest have their own time.
    pub(super) async fn sweep_pauses(&self, live: &BTreeSet<TaskId>) -> Result<(), Failure> {
        for task in pausing(&self.pauses().await?) {
            if !live.contains(&task) {
                self.remove_pause(&task).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_for_this_machine_sleeps_until_it_is_killed() {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(program) = program(std::env::consts::ARCH) else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PROGRAM);
        std::fs::write(&path, &program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        // Asleep in a system call: it has begun its own code.
        let deadline = crate::clock::instant() + std::time::Duration::from_secs(30);
        while !std::fs::read_to_string(&stat).unwrap().contains("(pause) S ") {
            assert!(crate::clock::instant() < deadline, "it does not sleep");
            std::thread::yield_now();
        }
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn archive_is_read_by_tar() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        std::fs::write(&path, archive("x", b"hello")).unwrap();
        let tar = std::process::Command::new("tar").arg("-xOf").arg(&path).arg("x").output();
        assert_eq!(tar.unwrap().stdout, b"hello");
    }
}
