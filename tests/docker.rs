//! The same journeys on a real Docker Engine, in an image made of the built program and the files
//! `ldd` names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use roadstead::clock;
use roadstead::model::{ContainerHealth, TaskStatus};

use crate::exec;
use crate::support::client::{self, Load};
use crate::support::world::{self, PROGRAM, Service, World, healthy_tasks};
use crate::support::{self, full_or};

/// An image of this test process, removed with it.
#[derive(Debug)]
pub(crate) struct Image(pub(crate) String);

impl Image {
    /// A service that nobody balances, of tasks of one container. `container` and `service` are
    /// further lines of each.
    pub(crate) fn lone(
        &self,
        (name, mode): (&str, &str),
        command: &[&str],
        (container, service): (&str, &str),
    ) -> String {
        let image = &self.0;
        format!(
            "[[task_definition]]\nfamily = {name:?}\nnetworkMode = {mode:?}\n\
             [[task_definition.containerDefinitions]]\nname = \"app\"\nimage = {image:?}\n\
             command = {command:?}\n{container}\n\
             [[service]]\nname = {name:?}\ntask_definition = {name:?}\n{service}\n"
        )
    }

    /// None where there is no Docker Engine.
    pub(crate) fn build(name: &str) -> Option<Self> {
        if !docker(&["info"]) {
            support::skip("no Docker Engine answers");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        install(Path::new(PROGRAM), &dir.path().join("roadstead"));
        let ldd = Command::new("ldd").arg(PROGRAM).output().unwrap();
        for word in String::from_utf8_lossy(&ldd.stdout).split_whitespace() {
            if word.starts_with('/') {
                let place = dir.path().join(word.trim_start_matches('/'));
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                install(Path::new(word), &place);
            }
        }
        // Static, for what our program does not do.
        install(Path::new("/usr/bin/busybox"), &dir.path().join("busybox"));
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        for name in ["sh", "stty", "sleep", "cat", "true"] {
            let place = dir.path().join("bin").join(name);
            std::os::unix::fs::symlink("/busybox", place).unwrap();
        }
        let tag = format!("roadstead-test-{name}:{}", std::process::id());
        let mut tar = Command::new("tar")
            .args(["-c", "-C"])
            .arg(dir.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let imported = Command::new("docker")
            .args(["import", "-", &tag])
            .stdin(tar.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(tar.wait().unwrap().success() && imported.success());
        Some(Self(tag))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.0]);
    }
}

fn install(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

fn docker(arguments: &[&str]) -> bool {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Ids of the containers that carry a data directory's label, running or not.
fn containers(data_dir: &Path) -> BTreeSet<String> {
    let uid = std::fs::read_to_string(data_dir.join("uid")).unwrap_or_default();
    let filter = format!("label=roadstead.cluster-uid={uid}");
    let output =
        Command::new("docker").args(["ps", "-aq", "--no-trunc", "--filter", &filter]).output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// Removes what a test left behind: what failed, and addresses that rest.
#[derive(Debug)]
pub(crate) struct Sweep(Arc<tempfile::TempDir>);

impl Sweep {
    pub(crate) fn of(world: &World) -> Self {
        Self(Arc::clone(&world.dir))
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        for id in containers(&self.0.path().join("data")) {
            docker(&["rm", "-f", &id]);
        }
    }
}

fn on_docker(image: &Image, tasks: u32) -> World {
    let service = Service { image: Some(image.0.clone()), ..Service::http("web", tasks) };
    World::new().setting("[runtime]\nkind = \"docker\"").service(service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_and_a_kill_under_load_on_docker() {
    let Some(image) = Image::build("scale") else { return };
    let world = on_docker(&image, 3);
    let _sweep = Sweep::of(&world);
    let mut running = world.start().await;
    running.settled("web", 3).await;
    let load = Load::start(running.world.listener(8080), "/", 16);
    let share = full_or(100_000, 2_000) / 4;
    load.more(share).await;
    for desired in [6, 1, 4] {
        running.edit(|services| services[0].desired = desired);
        running.settled("web", desired as usize).await;
        load.more(share).await;
    }
    assert_eq!(load.tally.failed(), 0, "{:?}", load.tally);
    let state = running.state();
    let victim = world::tasks_of(&state, "web").find(|task| task.is_live()).unwrap();
    assert!(docker(&["kill", victim.containers[0].runtime_id.as_deref().unwrap()]));
    let id = victim.id.clone();
    support::until("the killed task to be noticed", || {
        running.state().tasks.get(&id).is_none_or(|task| !task.is_live())
    })
    .await;
    running.settled("web", 4).await;
    let tally = load.finish().await;
    let half = tally.half_answered.load(std::sync::atomic::Ordering::Relaxed);
    support::note(&format!("{} requests on Docker, {half} half answered", tally.succeeded()));
    assert_eq!(tally.failed(), half, "{tally:?}");
    running.edit(|services| services[0].desired = 0);
    running.settled("web", 0).await;
    running.stop().await;
}

/// Somebody else's containers, whose checks run every second; and what the engine tells of them.
struct Flood {
    label: String,
    events: std::process::Child,
    told: tempfile::NamedTempFile,
}

impl Flood {
    fn start(image: &Image, count: u64) -> Self {
        let told = tempfile::NamedTempFile::new().unwrap();
        let events = Command::new("docker")
            .args(["events", "--filter", "type=container", "--format", "{{.Status}}"])
            .stdout(told.reopen().unwrap())
            .spawn()
            .unwrap();
        let label = format!("label=roadstead-test={}", std::process::id());
        let flood = Self { label, events, told };
        for _ in 0..count {
            let output = Command::new("docker")
                .args(["run", "-d", "--rm", "--network", "none", &format!("--{}", flood.label)])
                .args(["--health-cmd", "/bin/true", "--health-interval", "1s"])
                .args([&image.0, "/busybox", "sleep", "3600"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        flood
    }

    /// What was told of executions: three events a check.
    fn events(&self) -> u64 {
        let told = std::fs::read_to_string(self.told.path()).unwrap_or_default();
        told.lines().filter(|line| line.starts_with("exec_")).count() as u64
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.events.kill();
        let _ = self.events.wait();
        let listed = Command::new("docker").args(["ps", "-aq", "--filter", &self.label]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let ids: Vec<&str> = std::str::from_utf8(&listed).unwrap_or_default().lines().collect();
        for some in ids.chunks(20) {
            docker(&[&["rm", "-f"][..], some].concat());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_checks_hides_no_death() {
    let Some(image) = Image::build("flood") else { return };
    let world = on_docker(&image, 2);
    let _sweep = Sweep::of(&world);
    let running = world.start().await;
    running.settled("web", 2).await;
    // 300 of them are more than two cores can check: the engine then answers nobody in time.
    let count = full_or(40, 8);
    let flood = tokio::task::block_in_place(|| Flood::start(&image, count));
    // More than an engine remembers, and than it keeps for a listener.
    let many = full_or(1024 + 256, 64);
    for round in 1..=full_or(5, 2) {
        support::until("the flood", || flood.events() > many * round).await;
        let state = running.state();
        let victim = world::tasks_of(&state, "web").find(|task| task.is_live()).unwrap();
        let killed = clock::instant();
        assert!(docker(&["kill", victim.containers[0].runtime_id.as_deref().unwrap()]));
        let is_live = |id| running.state().tasks.get(id).is_some_and(|task| task.is_live());
        support::until("the death to be noticed", || !is_live(&victim.id)).await;
        support::note(&format!(
            "noticed {} ms after the command, {} events of checks so far",
            killed.elapsed().as_millis(),
            flood.events()
        ));
        running.settled("web", 2).await;
    }
    drop(flood);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_containers_is_made_changed_and_deleted_by_the_stock_command() {
    let Some(image) = Image::build("journey") else { return };
    let world = World::new().setting("[runtime]\nkind = \"docker\"");
    let _sweep = Sweep::of(&world);
    let running = world.start().await;
    let folder = support::certificates::folder();
    let folder = folder.path().to_str().unwrap();
    support::aws::client(&running, "journey.py", &[folder, "/roadstead", &image.0]).await;
    assert_eq!(running.state().tasks.values().filter(|task| task.is_live()).count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_application_as_aws_documents_it_runs() {
    let Some(image) = Image::build("sample") else { return };
    let world = World::new().setting("on_exit = \"stop\"").setting("[runtime]\nkind = \"docker\"");
    let data_dir = world.data_dir();
    let _sweep = Sweep::of(&world);
    secret(&data_dir, "sample", "key");
    let running = world.start().await;
    if support::aws::client(&running, "ecs_sample.py", &[&image.0]).await {
        let state = running.state();
        let task = state.tasks.values().find(|task| task.is_live()).unwrap();
        let id = task.container("sample-fargate-app").unwrap().runtime_id.clone().unwrap();
        let inspected = Command::new("docker").args(["inspect", &id]).output().unwrap();
        let inspected = String::from_utf8(inspected.stdout).unwrap();
        assert!(inspected.contains("\"KEY=open sesame\""), "{inspected}");
    }
    running.stop().await;
    assert_eq!(containers(&data_dir), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_command_executes_in_containers() {
    let Some(image) = Image::build("execute") else { return };
    let world = World::new().setting("[runtime]\nkind = \"docker\"");
    let data_dir = world.data_dir();
    let _sweep = Sweep::of(&world);
    let running = world.start().await;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["/roadstead", folder.path().to_str().unwrap(), &image.0];
    support::aws::client(&running, "ecs_execute.py", &arguments).await;
    running.stop().await;
    assert_eq!(containers(&data_dir), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_roadstead_adopts_its_containers() {
    let Some(image) = Image::build("adopt") else { return };
    let world = on_docker(&image, 2);
    let _sweep = Sweep::of(&world);
    let mut serve = world.spawn();
    let two_healthy = |serve: &world::Serve| {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 2)
    };
    support::until("two healthy tasks", || two_healthy(&serve)).await;
    let before = containers(&world.data_dir());
    assert_eq!(before.len(), 2);
    for round in 0..full_or(20, 3) {
        serve.child.kill().unwrap();
        serve.child.wait().unwrap();
        serve = world.spawn();
        let address = world.listener(8080);
        support::until("the new process to listen", || {
            std::net::TcpStream::connect(address).is_ok()
        })
        .await;
        assert_eq!(client::get(address, "/").await.unwrap().status, 200, "round {round}");
        support::until("two healthy tasks", || two_healthy(&serve)).await;
        assert_eq!(containers(&world.data_dir()), before, "round {round}");
    }
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
    assert_eq!(containers(&world.data_dir()), before, "tasks outlive serve");
}

/// A task of three containers that uses most of what a definition has; `IMAGE` is filled in.
const WHOLE: &str = r#"
[[task_definition]]
family = "whole"
networkMode = "awsvpc"
volumes = [{ name = "scratch" }]
[[task_definition.containerDefinitions]]
name = "init"
image = "IMAGE"
command = ["/roadstead", "version"]
essential = false
mountPoints = [{ sourceVolume = "scratch", containerPath = "/scratch" }]
[task_definition.containerDefinitions.logConfiguration]
logDriver = "awslogs"
options = { awslogs-group = "/ecs/whole", awslogs-stream-prefix = "p" }
[[task_definition.containerDefinitions]]
name = "app"
image = "IMAGE"
command = ["/roadstead", "whoami"]
portMappings = [{ containerPort = 8080 }]
dependsOn = [{ containerName = "init", condition = "SUCCESS" }]
healthCheck = { command = ["CMD", "/roadstead", "version"], interval = 5 }
secrets = [{ name = "KEY", valueFrom = "arn:aws:ssm:local:000000000000:parameter/app/key" }]
ulimits = [{ name = "nofile", softLimit = 512, hardLimit = 1024 }]
linuxParameters = { capabilities = { drop = ["ALL"] } }
readonlyRootFilesystem = true
stopTimeout = 5
[[task_definition.containerDefinitions]]
name = "side"
image = "IMAGE"
command = ["/roadstead", "whoami", "--tcp"]
portMappings = [{ containerPort = 7000 }]
dependsOn = [{ containerName = "app", condition = "HEALTHY" }]
stopTimeout = 5
[[service]]
name = "whole"
task_definition = "whole"
"#;

/// The file of a parameter.
fn secret(data_dir: &Path, folder: &str, name: &str) {
    let folder = data_dir.join("secrets/ssm").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), "open sesame\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join(name), private).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_definition_runs_on_docker_and_leaves_nothing() {
    let Some(image) = Image::build("whole") else { return };
    let world = World::new()
        .setting("on_exit = \"stop\"")
        .setting("[runtime]\nkind = \"docker\"")
        .setting(&WHOLE.replace("IMAGE", &image.0));
    let data_dir = world.data_dir();
    let _sweep = Sweep::of(&world);
    secret(&data_dir, "app", "key");
    let running = world.start().await;
    let task = || {
        let state = running.state();
        let found = world::tasks_of(&state, "whole").next().cloned();
        found.filter(|task| task.known == TaskStatus::Running)
    };
    support::until("the task to run", || task().is_some()).await;
    let task = task().unwrap();
    let row = |name: &str| task.container(name).unwrap().clone();
    assert_eq!((row("init").exit_code, row("app").health), (Some(0), ContainerHealth::Healthy));
    assert!(row("init").started_at <= row("app").started_at);
    assert!(row("app").started_at < row("side").started_at);
    let address = row("app").address.unwrap();
    assert_eq!((row("side").address, task.address), (Some(address), Some(address)));
    let answer = client::get(SocketAddr::new(address, 8080), "/").await.unwrap();
    assert_eq!(answer.status, 200);
    let id = row("app").runtime_id.unwrap();
    let inspected = Command::new("docker").args(["inspect", &id]).output().unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    assert!(inspected.contains("\"KEY=open sesame\""), "{inspected}");
    let stream = format!("logs/%2Fecs%2Fwhole/p%2Finit%2F{}.log", task.id);
    let said = || std::fs::read_to_string(data_dir.join(&stream)).unwrap_or_default();
    support::until("the stream", || said().contains(env!("CARGO_PKG_VERSION"))).await;
    for file in std::fs::read_dir(&data_dir).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        let leaks = bytes.windows(11).any(|window| window == b"open sesame");
        assert!(!leaks, "{}", file.path().display());
    }
    running.stop().await;
    assert_eq!(containers(&data_dir), BTreeSet::new());
    let volume = format!("-{}-scratch", task.id);
    let volumes = Command::new("docker").args(["volume", "ls", "-q"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&volumes.stdout).contains(&volume));
}

/// One address for all containers of a task, beside those with addresses of their own.
fn joined(image: &Image) -> String {
    let serves = "portMappings = [{ containerPort = 8080 }]\nstopTimeout = 5";
    let allowed = "enable_execute_command = true";
    image.lone(("joined", "awsvpc"), &["/roadstead", "whoami"], (serves, allowed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_ask_about_themselves_and_take_commands() {
    let Some(image) = Image::build("exec") else { return };
    let service = Service {
        image: Some(image.0.clone()),
        more: "enable_execute_command = true",
        stop_timeout: 5,
        ..Service::http("web", 1)
    };
    let world = World::new()
        .setting("on_exit = \"stop\"")
        .setting("[runtime]\nkind = \"docker\"\nhealthy_after = \"0s\"")
        .setting(&joined(&image))
        .service(service);
    let data_dir = world.data_dir();
    let _sweep = Sweep::of(&world);
    let running = world.start().await;
    running.settled("web", 1).await;
    for name in ["web", "joined"] {
        let found = || {
            let state = running.state();
            let mut all = world::tasks_of(&state, name);
            all.find(|task| task.known == TaskStatus::Running).cloned()
        };
        support::until("a task to run", || found().is_some()).await;
        let task = found().unwrap();
        let (dir, again, id) = (data_dir.clone(), data_dir.clone(), task.id.to_string());
        let run = move |script: &str| {
            let shell = ["/busybox", "sh", "-c", script];
            let mut command = exec::exec(&dir, &[&[&*id, "--"], &shell[..]].concat());
            exec::texts(&command.output().unwrap())
        };
        let checked = tokio::task::spawn_blocking(move || {
            let said = run("echo $TASK_ID; echo bad >&2; exit 7");
            assert_eq!(said, (Some(7), format!("{}\n", task.id), "bad\n".to_owned()));
            let get = |path: &str| {
                let asked = format!("/busybox wget -qO- $ECS_CONTAINER_METADATA_URI_V4{path}");
                let (code, text, why) = run(&asked);
                assert_eq!(code, Some(0), "{why}");
                serde_json::from_str::<serde_json::Value>(&text).unwrap()
            };
            let own = get("");
            let id = task.containers[0].runtime_id.clone().unwrap();
            assert_eq!(own["DockerId"], id);
            assert_eq!(own["Networks"][0]["IPv4Addresses"][0], task.address.unwrap().to_string());
            let inspected =
                Command::new("docker").args(["inspect", "-f", "{{.Name}}", &id]).output();
            let inspected = String::from_utf8(inspected.unwrap().stdout).unwrap();
            assert_eq!(inspected.trim().strip_prefix('/'), own["DockerName"].as_str());
            assert_eq!(get("/task")["Containers"][0], own);
            let stats = &get("/task/stats")[&id];
            assert!(stats["memory_stats"]["usage"].as_u64().unwrap() > 0, "{stats}");
            let before = stats["precpu_stats"]["system_cpu_usage"].as_u64().unwrap();
            assert!(stats["cpu_stats"]["system_cpu_usage"].as_u64().unwrap() > before);
            let (_, text, _) = run("/busybox wget -qO- $ECS_AGENT_URI/task-protection/v1/state");
            assert!(text.contains("\"ProtectionEnabled\":false"), "{text}");
            // Cut off from its input it ends.
            let (code, ..) = run("exec /busybox cat");
            assert_eq!(code, Some(0));
            let shell = ["/busybox", "sh"];
            exec::on_a_terminal(&again, task.id.as_str(), &shell, "/busybox ");
        });
        checked.await.unwrap();
    }
    running.stop().await;
    assert_eq!(containers(&data_dir), BTreeSet::new());
}
