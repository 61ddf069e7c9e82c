//! What only the Docker runtime does, and the Docker that the cases run on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use roadstead::model::ObservedState;
use roadstead::runtime::docker::Docker;
use roadstead::runtime::{Runtime, RuntimeError, RuntimeEvent};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::fixture::{Behaviour, CONTAINER, Fixture, event, until};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
/// One for all runs: it is small, and so at most one stays behind.
const REPOSITORY: &str = "roadstead-test-busybox";
const TAG: &str = "static";
const BUSYBOX: &str = "/bin/busybox";
const LONG: Duration = Duration::from_secs(30);

pub(crate) fn image() -> String {
    format!("{REPOSITORY}:{TAG}")
}

pub(crate) fn client() -> Client {
    Client::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).unwrap()
}

/// The runtime on this machine's Docker. None, with a line that says so: there is none.
pub(crate) async fn connect(uid: &str) -> Option<Arc<dyn Runtime>> {
    if let Err(reason) = prepare().await {
        assert!(std::env::var_os("CI").is_none(), "no Docker: {reason}");
        println!("skipped: no Docker: {reason}");
        return None;
    }
    Some(open(uid))
}

pub(crate) fn open(uid: &str) -> Arc<dyn Runtime> {
    Arc::new(Docker::connect(&format!("unix://{SOCKET}"), uid, None).unwrap())
}

/// Cases run at the same time; the first makes the image for all.
static PREPARING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn prepare() -> Result<(), String> {
    let _preparing = PREPARING.lock().await;
    let text = |error: bollard::errors::Error| error.to_string();
    let client =
        Client::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).map_err(text)?;
    client.ping().await.map_err(text)?;
    if client.inspect_image(&image()).await.is_ok() {
        return Ok(());
    }
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("{BUSYBOX} is missing (package busybox-static)"));
    }
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(REPOSITORY).tag(TAG).build();
    let root = Some(bollard::body_full(root_file_system().into()));
    client.create_image(Some(options), root, None).try_collect::<Vec<_>>().await.map_err(text)?;
    Ok(())
}

/// BusyBox under the names that the scripts use, as a tar archive.
fn root_file_system() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    for name in ["sh", "sleep", "echo", "nc"] {
        symlink("busybox", bin.join(name)).unwrap();
    }
    let tar = Command::new("tar").arg("-c").arg("-C").arg(root.path()).arg(".").output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    tar.stdout
}

pub(crate) async fn has_said(container: &str, text: &str) -> bool {
    let options = LogsOptionsBuilder::default().stdout(true).build();
    let log = client().logs(container, Some(options)).try_collect::<Vec<_>>().await;
    log.is_ok_and(|log| log.iter().any(|line| line.to_string().contains(text)))
}

/// Removes every container of the cluster, from a thread of its own: a failed case unwinds inside a
/// runtime.
pub(crate) fn remove_all(uid: &str) {
    let label = format!("roadstead.cluster-uid={uid}");
    let work = async move {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        for container in client().list_containers(Some(options)).await.unwrap_or_default() {
            remove(&container.id.unwrap_or_default()).await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = std::thread::spawn(move || runtime.block_on(work)).join();
}

async fn remove(id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let _ = client().remove_container(id, Some(options)).await;
}

fn name_of(world: &Fixture, task: &str) -> String {
    format!("roadstead-{}-{task}-{CONTAINER}", world.uid())
}

#[tokio::test]
async fn container_is_reached_at_its_address_without_published_ports() {
    let Some(world) = Fixture::docker().await else { return };
    let script = "echo up; while :; do echo hello | nc -l -p 8080 -w 5; done";
    let running = world.run_spec(&world.script("t1", script), Behaviour::Runs).await;
    let address = SocketAddr::new(running.address.unwrap(), 8080);
    let said = until(async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.ok()?;
        Some(said)
    });
    assert_eq!(&said.await, b"hello");
    let inspected = client().inspect_container(&running.runtime_id, None).await.unwrap();
    let host = inspected.host_config.unwrap();
    assert_eq!((host.cpu_shares, host.port_bindings.unwrap_or_default().len()), (Some(2), 0));
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-file"], "4");
}

#[tokio::test]
async fn image_that_cannot_be_pulled_is_named() {
    let Some(world) = Fixture::docker().await else { return };
    let mut spec = world.spec("t1", Behaviour::Runs);
    // A name that resolves nowhere: no registry is asked.
    spec.definition.image = Some("registry.invalid/no/such:1".to_owned());
    let error = world.runtime.create(&spec).await.unwrap_err();
    let RuntimeError::CannotPull(text) = error else { panic!("{error:?}") };
    assert!(text.contains("registry.invalid"), "{text}");
    assert_eq!(world.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn program_that_is_not_in_the_image_cannot_start() {
    let Some(world) = Fixture::docker().await else { return };
    let mut spec = world.spec("t1", Behaviour::Runs);
    spec.definition.entry_point = vec!["/no/such".to_owned()];
    world.runtime.create(&spec).await.unwrap();
    let error = world.runtime.start(&spec.task, CONTAINER).await.unwrap_err();
    let RuntimeError::CannotStart(text) = error else { panic!("{error:?}") };
    assert!(text.contains("/no/such"), "{text}");
    assert_eq!(world.observed("t1").await.unwrap().state, ObservedState::Created);
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
}

#[tokio::test]
async fn container_of_somebody_else_is_not_touched_whatever_its_name() {
    let Some(world) = Fixture::docker().await else { return };
    let spec = world.spec("t1", Behaviour::Runs);
    let options = CreateContainerOptionsBuilder::default().name(&name_of(&world, "t1")).build();
    let body = ContainerCreateBody {
        image: Some(image()),
        cmd: Some(vec!["sh".into()]),
        ..Default::default()
    };
    let foreign = client().create_container(Some(options), body).await.unwrap().id;
    let created = world.runtime.create(&spec).await;
    let started = world.runtime.start(&spec.task, CONTAINER).await;
    let stopped = world.runtime.stop(&spec.task, CONTAINER, LONG).await;
    let removed = world.runtime.remove(&spec.task, CONTAINER).await;
    let is_there = client().inspect_container(&foreign, None).await.is_ok();
    remove(&foreign).await;
    assert!(matches!(created, Err(RuntimeError::CannotCreate(_))), "{created:?}");
    assert!(matches!(started, Err(RuntimeError::Vanished(_))), "{started:?}");
    assert_eq!((stopped, removed, is_there), (Ok(()), Ok(()), true));
}

#[tokio::test]
async fn daemon_that_is_down_concludes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", directory.path().join("none.sock").display());
    let runtime = Docker::connect(&socket, "test", None).unwrap();
    let error = runtime.list().await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    let error = runtime.stop(&"t1".into(), CONTAINER, LONG).await.unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    assert!(Docker::connect("tcp://127.0.0.1:2375", "test", None).is_err());
}

/// A socket that leads to Docker's, and whose connections break whenever `cut` changes.
async fn breakable(listener: UnixListener, cut: watch::Receiver<u32>) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut cut = cut.clone();
        cut.mark_unchanged();
        tokio::spawn(async move {
            let mut far = UnixStream::connect(SOCKET).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

#[tokio::test]
async fn broken_stream_of_events_is_renewed_and_announced_as_a_gap() {
    let Some(world) = Fixture::docker().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let cut = watch::Sender::new(0);
    let runtime = Docker::connect(&format!("unix://{}", path.display()), world.uid(), None);
    let runtime = runtime.unwrap();
    let mut events = runtime.events();
    // Docker comes up only now.
    let listener = UnixListener::bind(&path).unwrap();
    let proxy = tokio::spawn(breakable(listener, cut.subscribe()));
    event(&mut events, |event| *event == RuntimeEvent::Gap).await;
    world.run("t1", Behaviour::Runs).await;
    let changed = |event: &RuntimeEvent| matches!(event, RuntimeEvent::Changed { .. });
    event(&mut events, changed).await;
    cut.send_modify(|cut| *cut += 1);
    event(&mut events, |event| *event == RuntimeEvent::Gap).await;
    world.stop("t1", LONG).await;
    event(&mut events, |event| matches!(event, RuntimeEvent::Died { .. })).await;
    proxy.abort();
}

#[tokio::test]
async fn events_of_another_cluster_are_not_heard() {
    let (Some(world), Some(other)) = (Fixture::docker().await, Fixture::docker().await) else {
        return;
    };
    let mut events = world.runtime.events();
    other.run("t1", Behaviour::Exits(0)).await;
    other.exit_code("t1").await;
    world.run("t2", Behaviour::Exits(0)).await;
    let first = event(&mut events, |event| *event != RuntimeEvent::Gap).await;
    let t2 = RuntimeEvent::Changed { task: "t2".into(), container: CONTAINER.to_owned() };
    assert_eq!(first, t2);
}
