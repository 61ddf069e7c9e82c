//! The same journeys on a real Docker Engine, in an image made of the built program and the files
//! `ldd` names.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::client::{self, Load};
use crate::support::world::{self, PROGRAM, Service, World, healthy_tasks};
use crate::support::{self, full_or};

/// An image of this test process, removed with it.
#[derive(Debug)]
struct Image(String);

impl Image {
    /// None where there is no Docker Engine.
    fn build(name: &str) -> Option<Self> {
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

/// Removes what a failed test left behind.
#[derive(Debug)]
struct Sweep(std::path::PathBuf);

impl Drop for Sweep {
    fn drop(&mut self) {
        for id in containers(&self.0) {
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
    let _sweep = Sweep(world.data_dir());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_roadstead_adopts_its_containers() {
    let Some(image) = Image::build("adopt") else { return };
    let world = on_docker(&image, 2);
    let _sweep = Sweep(world.data_dir());
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
