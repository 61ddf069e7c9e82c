//! What only the Docker runtime does, and the Docker that the cases run on.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions,
};
use futures_util::TryStreamExt;
use roadstead::model::{
    DockerVolume, ExtraHost, LinuxParameters, LogConfiguration, MountPoint, NetworkMode,
    ObservedState, PortMapping, Tmpfs, Transport, Ulimit, Volume, VolumeKind, VolumeScope,
};
use roadstead::runtime::docker::Docker;
use roadstead::runtime::{ContainerSpec, Runtime, RuntimeError, RuntimeEvent};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::fixture::{Behaviour, CONTAINER, Fixture, event, until};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
/// One for all runs: it is small, and so at most one stays behind.
const REPOSITORY: &str = "roadstead-test-busybox";
const TAG: &str = "static-2";
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
    for name in ["sh", "sleep", "echo", "nc", "ps", "grep", "readlink"] {
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
        let filters = HashMap::from([("label", vec![label.clone()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        for container in client().list_containers(Some(options)).await.unwrap_or_default() {
            remove(&container.id.unwrap_or_default()).await;
        }
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = client().list_volumes(Some(options)).await.ok();
        for volume in listed.and_then(|all| all.volumes).unwrap_or_default() {
            let _ = client().remove_volume(&volume.name, None::<RemoveVolumeOptions>).await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = std::thread::spawn(move || runtime.block_on(work)).join();
}

pub(super) async fn remove(id: &str) {
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
    assert_eq!(&greeting(address).await, b"hello");
    let inspected = client().inspect_container(&running.runtime_id, None).await.unwrap();
    let host = inspected.host_config.unwrap();
    assert_eq!((host.cpu_shares, host.port_bindings.unwrap_or_default().len()), (Some(2), 0));
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-file"], "4");
}

/// What a server says that greets everybody.
pub(super) async fn greeting(address: SocketAddr) -> [u8; 5] {
    until(async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.ok()?;
        Some(said)
    })
    .await
}

pub(super) fn greeter(world: &Fixture, port: u16, mode: Option<NetworkMode>) -> ContainerSpec {
    let script = format!("echo up; while :; do echo hello | nc -l -p {port} -w 5; done");
    let mut spec = world.script("t1", &script);
    spec.definition.port_mappings = vec![PortMapping::tcp(port)];
    spec.network_mode = mode;
    spec
}

#[tokio::test]
async fn bridge_mode_leads_from_a_port_of_the_host_that_docker_chooses() {
    let Some(world) = Fixture::docker().await else { return };
    let spec = greeter(&world, 8080, Some(NetworkMode::Bridge));
    let running = world.run_spec(&spec, Behaviour::Runs).await;
    let [binding] = running.bindings.as_slice() else { panic!("{running:?}") };
    assert_eq!((binding.container_port, binding.protocol), (8080, Transport::Tcp));
    assert_ne!(binding.host_port, 0);
    let own = SocketAddr::new(running.address.unwrap(), 8080);
    assert_eq!(&greeting(own).await, b"hello");
    let host = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), binding.host_port);
    assert_eq!(&greeting(host).await, b"hello");
}

#[tokio::test]
async fn named_port_of_the_host_leads_to_the_container_and_is_taken_once() {
    let Some(world) = Fixture::docker().await else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut spec = greeter(&world, 8080, None);
    spec.definition.port_mappings[0].host_port = Some(free);
    let running = world.run_spec(&spec, Behaviour::Runs).await;
    assert_eq!(running.bindings[0].host_port, free);
    assert_eq!(&greeting(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free)).await, b"hello");
    spec.task = "t2".into();
    world.runtime.create(&spec).await.unwrap();
    let error = world.runtime.start(&spec.task, CONTAINER).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::PortTaken(text) if text.contains("already")), "{error}");
}

#[tokio::test]
async fn host_mode_is_the_machine_s_network_and_none_is_no_network() {
    let Some(world) = Fixture::docker().await else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = greeter(&world, free, Some(NetworkMode::Host));
    let running = world.run_spec(&spec, Behaviour::Runs).await;
    let address = SocketAddr::new(running.address.unwrap(), free);
    assert!(address.ip().is_loopback() && running.bindings.is_empty(), "{running:?}");
    assert_eq!(&greeting(address).await, b"hello");
    let mut spec = world.spec("t2", Behaviour::Runs);
    spec.network_mode = Some(NetworkMode::None);
    let running = world.run_spec(&spec, Behaviour::Runs).await;
    assert_eq!((running.address, running.bindings.len()), (None, 0));
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

/// A script in another container of the same task, and its exit code.
pub(super) async fn beside(world: &Fixture, spec: &ContainerSpec) -> Option<i32> {
    let name = &spec.definition.name;
    world.runtime.create(spec).await.unwrap();
    world.runtime.start(&spec.task, name).await.unwrap();
    until(async || {
        let all = world.runtime.list().await.unwrap();
        let found = all.into_iter().find(|o| o.task == spec.task && &o.container == name)?;
        match found.state {
            ObservedState::Exited { code, .. } => Some(code),
            _ => None,
        }
    })
    .await
}

#[tokio::test]
async fn volume_of_a_task_is_shared_by_its_containers_and_gone_with_the_last() {
    let Some(world) = Fixture::docker().await else { return };
    let volumes =
        vec![Volume { name: "data".to_owned(), kind: VolumeKind::Host { source_path: None } }];
    let container = |name: &str, script: &str, read_only: bool| {
        let mut spec = world.script("t1", script);
        spec.definition.name = name.to_owned();
        spec.definition.mount_points = vec![MountPoint {
            source_volume: "data".to_owned(),
            container_path: "/v".to_owned(),
            read_only: Some(read_only),
        }];
        ContainerSpec { volumes: volumes.clone(), ..spec }
    };
    let writes = container("writer", "echo hello > /v/x", false);
    assert_eq!(beside(&world, &writes).await, Some(0));
    let script = "read x < /v/x; [ \"$x\" = hello ] || exit 3; echo > /v/y && exit 4; exit 0";
    assert_eq!(beside(&world, &container("reader", script, true)).await, Some(0));
    let volume = format!("roadstead-{}-t1-data", world.uid());
    world.runtime.remove(&"t1".into(), "writer").await.unwrap();
    assert!(client().inspect_volume(&volume).await.is_ok(), "the reader has it mounted");
    world.runtime.remove(&"t1".into(), "reader").await.unwrap();
    assert!(client().inspect_volume(&volume).await.is_err());
}

#[tokio::test]
async fn volume_left_behind_is_removed_by_the_next_process_and_a_shared_one_stays() {
    let Some(mut world) = Fixture::docker().await else { return };
    let shared = format!("roadstead-{}-shared", world.uid());
    let docker = |scope, autoprovision| {
        VolumeKind::Docker(DockerVolume {
            scope,
            autoprovision,
            driver: None,
            driver_options: BTreeMap::new(),
            labels: BTreeMap::new(),
        })
    };
    let mount = |name: &str| MountPoint {
        source_volume: name.to_owned(),
        container_path: format!("/{name}"),
        read_only: None,
    };
    let mut spec = world.script("t1", "exit 0");
    spec.definition.mount_points = vec![mount("own"), mount(&shared)];
    spec.volumes = vec![
        Volume { name: "own".to_owned(), kind: docker(VolumeScope::Task, false) },
        Volume { name: shared.clone(), kind: docker(VolumeScope::Shared, false) },
    ];
    let refused = world.runtime.create(&spec).await.unwrap_err();
    assert!(matches!(&refused, RuntimeError::CannotCreate(text) if text.contains(&shared)));
    spec.volumes[1].kind = docker(VolumeScope::Shared, true);
    let id = world.runtime.create(&spec).await.unwrap().runtime_id;
    // As if the process had ended between the container and its volumes.
    remove(&id).await;
    let own = format!("roadstead-{}-t1-own", world.uid());
    assert!(client().inspect_volume(&own).await.is_ok());
    world.reopen();
    assert_eq!(world.runtime.list().await.unwrap(), []);
    let (gone, stays) =
        (client().inspect_volume(&own).await, client().inspect_volume(&shared).await);
    let _ = client().remove_volume(&shared, None::<RemoveVolumeOptions>).await;
    assert!(gone.is_err() && stays.is_ok(), "{gone:?} {stays:?}");
}

#[tokio::test]
async fn limits_and_names_hold_inside_the_container() {
    let Some(world) = Fixture::docker().await else { return };
    let script = "[ $(ulimit -n) = 123 ] || exit 2; read h < /etc/hostname; [ $h = ours ] || exit 3; \
        while read a b; do [ \"$b\" = friend ] && f=$a; done < /etc/hosts; \
        [ $f = 10.9.8.7 ] || exit 4; echo x > /x && exit 5; echo x > /scratch/x || exit 6";
    let mut spec = world.script("t1", script);
    let limit = Ulimit { name: "nofile".to_owned(), soft: 123, hard: 456 };
    let friend = ExtraHost { hostname: "friend".to_owned(), address: [10, 9, 8, 7].into() };
    let tmpfs = Tmpfs {
        container_path: "/scratch".to_owned(),
        size_mib: 1,
        mount_options: vec!["noexec".to_owned()],
    };
    spec.definition.ulimits = vec![limit];
    spec.definition.hostname = Some("ours".to_owned());
    spec.definition.extra_hosts = vec![friend];
    spec.definition.readonly_root = Some(true);
    spec.definition.linux = Some(LinuxParameters { tmpfs: vec![tmpfs], ..Default::default() });
    assert_eq!(beside(&world, &spec).await, Some(0));
}

#[tokio::test]
async fn output_is_copied_into_its_stream_once_and_whole() {
    let Some(world) = Fixture::docker().await else { return };
    let mut spec = world.script("t1", "echo one; echo two >&2; sleep 0.5; echo three");
    let options = [("awslogs-group", "/ecs/g"), ("awslogs-stream-prefix", "p")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    spec.definition.log = Some(LogConfiguration { driver: "awslogs".to_owned(), options });
    let refused = world.runtime.create(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("no folder for log streams"), "{refused}");
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let docker = Docker::connect(&format!("unix://{SOCKET}"), world.uid(), None).unwrap();
        docker.keep_logs(directory.path())
    };
    let stream = directory.path().join("%2Fecs%2Fg").join(format!("p%2F{CONTAINER}%2Ft1.log"));
    let said = || std::fs::read_to_string(&stream).unwrap_or_default();
    let first = open();
    first.create(&spec).await.unwrap();
    first.start(&spec.task, CONTAINER).await.unwrap();
    until(async || said().contains("two").then_some(())).await;
    // As after a crash: the next process goes on, and the container ends meanwhile.
    drop(first);
    assert_eq!(world.exit_code("t1").await, Some(0));
    let second = open();
    second.list().await.unwrap();
    second.remove(&spec.task, CONTAINER).await.unwrap();
    let said = said();
    let mut messages: Vec<&str> =
        said.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    messages.sort_unstable();
    assert_eq!(messages, ["one", "three", "two"], "{said}");
}

pub(super) async fn pause_of(world: &Fixture, task: &str) -> Option<String> {
    let name = format!("roadstead-{}-{task}.pause", world.uid());
    client().inspect_container(&name, None).await.ok()?.id
}

#[tokio::test]
async fn containers_of_a_task_share_one_address_in_mode_awsvpc() {
    let Some(mut world) = Fixture::docker().await else { return };
    let serves = greeter(&world, 8080, Some(NetworkMode::Awsvpc));
    let running = world.run_spec(&serves, Behaviour::Runs).await;
    let own = SocketAddr::new(running.address.unwrap(), 8080);
    assert_eq!(&greeting(own).await, b"hello");
    let script =
        "while :; do x=$(nc 127.0.0.1 8080 < /dev/null); [ \"$x\" = hello ] && exit 7; done";
    let mut asks = world.script("t1", script);
    asks.definition.name = "asks".to_owned();
    asks.network_mode = Some(NetworkMode::Awsvpc);
    assert_eq!(beside(&world, &asks).await, Some(7), "they share the loopback address");
    world.reopen();
    let all = world.runtime.list().await.unwrap();
    let serving = all.iter().find(|o| o.container == CONTAINER).unwrap();
    assert_eq!((all.len(), serving.address), (2, running.address));
    world.runtime.stop(&"t1".into(), CONTAINER, LONG).await.unwrap();
    world.runtime.remove(&"t1".into(), "asks").await.unwrap();
    world.runtime.remove(&"t1".into(), CONTAINER).await.unwrap();
    assert_eq!(pause_of(&world, "t1").await, None);
}

#[tokio::test]
async fn death_of_the_pause_is_the_death_of_the_task() {
    let Some(mut world) = Fixture::docker().await else { return };
    let mut spec = world.spec("t1", Behaviour::Runs);
    spec.network_mode = Some(NetworkMode::Awsvpc);
    world.run_spec(&spec, Behaviour::Runs).await;
    let mut events = world.runtime.events();
    remove(&pause_of(&world, "t1").await.unwrap()).await;
    event(&mut events, |event| matches!(event, RuntimeEvent::Changed { .. })).await;
    // Whoever looks sees to it.
    assert_eq!(world.exit_code("t1").await, Some(137));
    world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
    // One that is left behind, and one whose container could not be made.
    world.runtime.create(&spec).await.unwrap();
    let container = client().inspect_container(&name_of(&world, "t1"), None).await.unwrap();
    remove(&container.id.unwrap()).await;
    assert!(pause_of(&world, "t1").await.is_some());
    world.reopen();
    assert_eq!(world.runtime.list().await.unwrap(), []);
    assert_eq!(pause_of(&world, "t1").await, None);
    spec.definition.image = Some("registry.invalid/no/such:1".to_owned());
    assert!(world.runtime.create(&spec).await.is_err());
    assert_eq!(pause_of(&world, "t1").await, None);
}
