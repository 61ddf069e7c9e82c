//! One runtime with a world around it, so that the same case runs against each of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roadstead::clock::instant;
use roadstead::model::{ContainerDefinition, ContainerHealth, Observed, ObservedState, TaskId};
use roadstead::runtime::process::Process;
use roadstead::runtime::sim::Sim;
use roadstead::runtime::{ContainerSpec, Runtime, RuntimeEvent};
use roadstead::sys::{PidFd, Signal};
use tempfile::TempDir;
use tokio::sync::broadcast;

use super::docker;

/// Long enough for a loaded machine; a case that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const CONTAINER: &str = "app";

/// What a container of a case does once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Runs until it is asked to stop, then ends with code 0.
    Runs,
    Exits(i32),
    IgnoresStop,
}

impl Behaviour {
    fn script(self) -> String {
        match self {
            Self::Runs => "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done".to_owned(),
            Self::Exits(code) => format!("exit {code}"),
            Self::IgnoresStop => "trap '' TERM; echo up; while :; do sleep 0.05; done".to_owned(),
        }
    }
}

#[derive(Debug)]
enum World {
    Process(TempDir),
    Sim(Sim),
    Docker,
}

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) runtime: Arc<dyn Runtime>,
    world: World,
    uid: String,
    image: Option<String>,
}

impl Fixture {
    pub(crate) fn process() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let uid = unique();
        let runtime = Arc::new(Process::open(directory.path(), &uid).unwrap());
        Self { runtime, world: World::Process(directory), uid, image: None }
    }

    pub(crate) fn sim() -> Self {
        let sim = Sim::new(fastrand::u64(..));
        let runtime = Arc::new(sim.clone());
        Self { runtime, world: World::Sim(sim), uid: unique(), image: None }
    }

    /// None: there is no Docker here.
    pub(crate) async fn docker() -> Option<Self> {
        let uid = unique();
        let runtime = docker::connect(&uid).await?;
        Some(Self { runtime, world: World::Docker, uid, image: Some(docker::image()) })
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    pub(crate) fn directory(&self) -> &Path {
        match &self.world {
            World::Process(directory) => directory.path(),
            other => panic!("{other:?} has no directory"),
        }
    }

    /// Drops the instance, as a crash does; something that knows nothing stands in until the next
    /// one.
    pub(crate) fn close(&mut self) {
        let empty = tempfile::tempdir().unwrap();
        self.runtime = Arc::new(Process::open(empty.path(), "closed").unwrap());
    }

    /// A new instance over the same world, as after a restart.
    pub(crate) fn reopen(&mut self) {
        // The old one must be gone first: one process has one waiter.
        self.close();
        match &self.world {
            World::Process(directory) => {
                self.runtime = Arc::new(Process::open(directory.path(), &self.uid).unwrap());
            }
            World::Sim(sim) => self.runtime = Arc::new(sim.clone()),
            World::Docker => self.runtime = docker::open(&self.uid),
        }
    }

    pub(crate) fn script(&self, task: &str, script: &str) -> ContainerSpec {
        let definition = ContainerDefinition {
            image: self.image.clone(),
            entry_point: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            command: vec![script.to_owned()],
            stop_timeout: Some(Duration::from_secs(5)),
            ..ContainerDefinition::new(CONTAINER)
        };
        let address = match &self.world {
            World::Process(_) => Some("127.0.0.2".parse().unwrap()),
            World::Sim(_) | World::Docker => None,
        };
        ContainerSpec {
            task: task.into(),
            cluster: "default".to_owned(),
            family: "case".to_owned(),
            revision: 1,
            definition,
            network_mode: None,
            pid_mode: None,
            ipc_mode: None,
            volumes: Vec::new(),
            address,
            environment: BTreeMap::new(),
            host_ports: Vec::new(),
            name_server: None,
            secrets: BTreeMap::new(),
        }
    }

    pub(crate) fn spec(&self, task: &str, behaviour: Behaviour) -> ContainerSpec {
        self.script(task, &behaviour.script())
    }

    /// Creates and starts a container that behaves so.
    pub(crate) async fn run(&self, task: &str, behaviour: Behaviour) -> Observed {
        self.run_spec(&self.spec(task, behaviour), behaviour).await
    }

    pub(crate) async fn run_spec(&self, spec: &ContainerSpec, behaviour: Behaviour) -> Observed {
        self.runtime.create(spec).await.unwrap();
        let started = self.runtime.start(&spec.task, CONTAINER).await.unwrap();
        match (&self.world, behaviour) {
            (World::Sim(_), Behaviour::Runs) => {}
            // No script runs here: what it would do is done to it.
            (World::Sim(sim), Behaviour::Exits(code)) => {
                assert!(sim.kill(&spec.task, CONTAINER, code));
            }
            (World::Sim(sim), Behaviour::IgnoresStop) => sim.ignore_stop(&spec.task, CONTAINER),
            (_, Behaviour::Exits(_)) => {}
            (_, Behaviour::Runs | Behaviour::IgnoresStop) => {
                self.settle(spec.task.as_str()).await;
            }
        }
        started
    }

    /// Where no check runs, what it would say is said for it.
    pub(crate) fn check_says(&self, task: &str, health: ContainerHealth) {
        if let World::Sim(sim) = &self.world {
            sim.set_health(&task.into(), CONTAINER, health);
        }
    }

    /// Lets time pass, in which something must not happen.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) async fn observed(&self, task: &str) -> Option<Observed> {
        let all = self.runtime.list().await.unwrap();
        let task = TaskId::from(task);
        let mut ours = all.into_iter().filter(|observed| observed.task == task);
        let one = ours.next();
        assert_eq!(ours.next(), None, "two containers of one name");
        one
    }

    /// Waits for the container's end and tells its code.
    pub(crate) async fn exit_code(&self, task: &str) -> Option<i32> {
        until(async || match self.observed(task).await?.state {
            ObservedState::Exited { code, .. } => Some(code),
            _ => None,
        })
        .await
    }

    /// Waits until the script has set its trap and says so: before that every signal ends it.
    async fn settle(&self, task: &str) {
        match &self.world {
            World::Process(directory) => {
                let log = directory.path().join(task).join(format!("{CONTAINER}.log"));
                let is_up = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("up"));
                until(async || is_up().then_some(())).await;
            }
            World::Docker => {
                let name = format!("roadstead-{}-{task}-{CONTAINER}", self.uid);
                until(async || docker::has_said(&name, "up").await.then_some(())).await;
            }
            World::Sim(_) => {}
        }
    }

    pub(crate) async fn stop(&self, task: &str, grace: Duration) {
        self.runtime.stop(&task.into(), CONTAINER, grace).await.unwrap();
    }
}

/// No case leaves anything running, also when it fails.
impl Drop for Fixture {
    fn drop(&mut self) {
        match &self.world {
            World::Process(_) => kill_marked(&self.uid),
            World::Sim(_) => {}
            World::Docker => docker::remove_all(&self.uid),
        }
    }
}

fn kill_marked(uid: &str) {
    for pid in marked(uid) {
        if let Ok(fd) = PidFd::open(pid) {
            let _ = fd.signal(Signal::Kill);
            let _ = fd.reap_dying();
        }
    }
}

/// The processes that carry the marker of cluster `uid`.
pub(crate) fn marked(uid: &str) -> Vec<u32> {
    let marker = format!("ROADSTEAD_CONTAINER={uid}/");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|v| v.starts_with(marker.as_bytes()))
        })
        .collect()
}

pub(crate) fn unique() -> String {
    format!("test{:016x}", fastrand::u64(..))
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = instant() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(instant() < deadline, "waited {DEADLINE:?} in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next event that is as wanted.
pub(crate) async fn event(
    events: &mut broadcast::Receiver<RuntimeEvent>,
    wanted: impl Fn(&RuntimeEvent) -> bool,
) -> RuntimeEvent {
    let search = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("no such event")
}
