//! Docker Engines: old and new ones, one that says nothing, one that is restarted, and the images
//! that they hold.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use roadstead::clock::instant;
use roadstead::config::{ImageSettings, PullBehaviour};
use roadstead::model::{
    ContainerDefinition, ContainerHealth, NetworkMode, ObservedState, PortMapping, TaskDefinition,
    TaskStatus,
};
use roadstead::runtime::docker::Docker;
use roadstead::runtime::{ContainerSpec, Exec, Runtime, RuntimeError, RuntimeEvent};
use tokio::sync::broadcast;

use crate::docker::Image;
use crate::support;
use crate::support::client::Load;
use crate::support::engine::Engine;
use crate::support::mock_engine::{MockEngine, RELEASES, Release};
use crate::support::registry;
use crate::support::world::{Service, World, tasks_of};

const APP: &str = "app";
const IMAGE: &str = "registry.test:5000/team/app:1";
const NEWEST: Release = RELEASES[2];

fn spec(task: &str, image: &str, mode: Option<NetworkMode>) -> ContainerSpec {
    let container = ContainerDefinition {
        image: Some(image.to_owned()),
        port_mappings: vec![PortMapping::tcp(80)],
        ..ContainerDefinition::new(APP)
    };
    let mut definition = TaskDefinition::new("f".into(), 1, vec![container]);
    definition.network_mode = mode;
    ContainerSpec::new(&task.into(), "c", &definition, APP, None).unwrap()
}

fn name(task: &str) -> String {
    format!("roadstead-u-{task}-{APP}")
}

fn connect(engine: &MockEngine) -> Docker {
    Docker::connect(&engine.endpoint(), "u", None).unwrap()
}

/// With images kept as `settings` say.
fn keeper(engine: &MockEngine, settings: &ImageSettings) -> Docker {
    connect(engine).keep_images(settings, &engine.file("images.json")).unwrap()
}

async fn event(events: &mut broadcast::Receiver<RuntimeEvent>) -> String {
    let event = tokio::time::timeout(support::DEADLINE, events.recv()).await;
    match event.expect("no event").unwrap() {
        RuntimeEvent::Gap => "gap".to_owned(),
        RuntimeEvent::Changed { task, container } => format!("{task}/{container} changed"),
        RuntimeEvent::Died { task, container } => format!("{task}/{container} died"),
    }
}

/// All that is seen of a task in its life, in words.
async fn life(release: Release, mode: Option<NetworkMode>) -> Vec<String> {
    let engine = MockEngine::start(release);
    engine.rows().registries.insert(IMAGE.to_owned(), "sha256:a".to_owned());
    let docker = connect(&engine);
    let mut events = docker.events();
    let mut seen = vec![event(&mut events).await];
    let task = "t1".into();
    let created = docker.create(&spec("t1", IMAGE, mode)).await.unwrap();
    seen.push(format!("{:?}", created.state));
    let started = docker.start(&task, APP).await.unwrap();
    seen.push(format!("{:?} {:?}", started.state, started.address.is_some()));
    engine.check_says(&name("t1"), "healthy");
    engine.check_says(&name("t1"), "unhealthy");
    let [listed] = docker.list().await.unwrap().try_into().unwrap();
    assert_eq!(listed.health, ContainerHealth::Unhealthy);
    assert_eq!(listed.address, started.address);
    engine.die(&name("t1"), 3);
    while seen.last().is_none_or(|last| !last.ends_with("died")) {
        seen.push(event(&mut events).await);
    }
    let mut told: BTreeSet<_> = seen.into_iter().collect();
    let [listed] = docker.list().await.unwrap().try_into().unwrap();
    told.insert(format!("{:?} {:?}", listed.state, listed.address));
    // What nobody hears of is behind a gap.
    docker.restart(&task, APP).await.unwrap();
    engine.rows().mute = Some("/_ping");
    engine.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.die(&name("t1"), 4);
    engine.rows().mute = None;
    while event(&mut events).await != "gap" {}
    let [listed] = docker.list().await.unwrap().try_into().unwrap();
    assert_eq!(listed.state, ObservedState::Exited { code: Some(4), out_of_memory: false });
    docker.restart(&task, APP).await.unwrap();
    docker.stop(&task, APP, Duration::from_secs(1)).await.unwrap();
    let [listed] = docker.list().await.unwrap().try_into().unwrap();
    assert_eq!(listed.state, ObservedState::Exited { code: Some(0), out_of_memory: false });
    docker.remove(&task, APP).await.unwrap();
    assert_eq!(docker.list().await.unwrap(), []);
    told.insert(format!("{:?}", docker.capacity().await.unwrap()));
    told.insert(format!("{:?}", docker.reach(None).await.unwrap()));
    let rows = engine.rows();
    assert_eq!((rows.refused, rows.containers.len(), rows.pulls.len()), (0, 0, 1));
    told.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn engines_from_20_10_to_29_are_driven_alike() {
    for mode in [None, Some(NetworkMode::Awsvpc)] {
        let [old, middle, new] = RELEASES.map(|release| life(release, mode));
        let old = old.await;
        let mut expected = vec![
            "At(127.0.0.1)",
            "Capacity { cpu: 4096, memory_mib: 8192 }",
            "Created",
            "Exited { code: Some(3), out_of_memory: false } None",
            "Running true",
            "gap",
            "t1/app changed",
            "t1/app died",
        ];
        if mode.is_some() {
            expected.insert(6, "t1/ changed");
        }
        assert_eq!(old, expected);
        assert_eq!((middle.await, new.await), (old.clone(), old));
    }
}

#[tokio::test]
async fn an_engine_of_another_version_would_say_so() {
    // What the case above rests on: a mock refuses what a real one refuses.
    for (release, version) in [(RELEASES[0], "v1.53"), (NEWEST, "v1.41")] {
        let engine = MockEngine::start(release);
        let socket = engine.endpoint().replace("unix://", "");
        let url = format!("http://localhost/{version}/info");
        let arguments = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"];
        let asked = tokio::process::Command::new("curl")
            .args(arguments)
            .args([&socket, &url])
            .output()
            .await;
        match asked {
            Ok(asked) => assert_eq!(String::from_utf8_lossy(&asked.stdout), "400"),
            Err(_) => return support::skip("there is no curl"),
        }
        assert_eq!(engine.rows().refused, 1);
    }
}

/// A file of logins for its registry.
fn logins(engine: &MockEngine) -> ImageSettings {
    let path = engine.file("config.json");
    // app:sesame?>~
    let text = r#"{"auths": {"registry.test:5000": {"auth": "YXBwOnNlc2FtZT8+fg=="}}}"#;
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    ImageSettings { credentials_file: Some(path), ..ImageSettings::default() }
}

#[tokio::test]
async fn a_login_is_shown_to_the_registry_of_its_image_alone_and_to_nobody_else() {
    for release in RELEASES {
        let engine = MockEngine::start(release);
        let other = "other.test/app:1";
        for name in [IMAGE, other] {
            engine.rows().registries.insert(name.to_owned(), format!("sha256:{name}"));
            engine.rows().locked.insert(name.to_owned());
        }
        let refused = connect(&engine).create(&spec("t0", IMAGE, None)).await.unwrap_err();
        assert!(matches!(&refused, RuntimeError::CannotPull(text) if text.contains("login")));
        let settings = logins(&engine);
        let docker = keeper(&engine, &settings);
        docker.create(&spec("t1", IMAGE, None)).await.unwrap();
        let refused = docker.create(&spec("t2", other, None)).await.unwrap_err();
        assert!(matches!(&refused, RuntimeError::CannotPull(_)), "{refused:?}");
        assert!(!format!("{docker:?}{refused:?}{settings:?}").contains("sesame"));
        let pulls = engine.rows().pulls.clone();
        let shown: Vec<_> = pulls.iter().map(|(_, auth)| auth.is_some()).collect();
        assert_eq!(shown, [false, true, false]);
        let shown = URL_SAFE.decode(pulls[1].1.as_ref().unwrap()).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!((&shown["username"], &shown["password"]), (&"app".into(), &"sesame?>~".into()));
        let kept = std::fs::read_to_string(engine.file("images.json")).unwrap();
        assert!(kept.contains(IMAGE) && !kept.contains("sesame"), "{kept}");
    }
}

#[tokio::test]
async fn a_real_engine_takes_our_login_to_a_registry() {
    const SOCKET: &str = "/var/run/docker.sock";
    if !Path::new(SOCKET).exists() {
        return support::skip("there is no Docker Engine");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let tar = Command::new("tar").arg("-c").arg("-C").arg(folder.path()).arg("x").output();
    // What is made of it differs between the alphabets of base64.
    let login = "app:sesame?>~";
    let registry = registry::start(tar.unwrap().stdout, login).await;
    let path = folder.path().join("config.json");
    let auth = STANDARD.encode(login);
    let text = format!("{{\"auths\": {{\"{registry}\": {{\"auth\": \"{auth}\"}}}}}}");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let uid = format!("logins{}", std::process::id());
    let connect = || Docker::connect(&format!("unix://{SOCKET}"), &uid, None).unwrap();
    let spec = spec("t1", &format!("{registry}/app:1"), None);
    let without = connect().create(&spec).await;
    let settings = ImageSettings { credentials_file: Some(path), ..ImageSettings::default() };
    let docker = connect().keep_images(&settings, &folder.path().join("images.json")).unwrap();
    let with = docker.create(&spec).await;
    docker.remove(&spec.task, APP).await.unwrap();
    let image = spec.definition.image.as_deref().unwrap();
    let removed = Command::new("docker").args(["rmi", image]).output().unwrap();
    assert!(matches!(&without, Err(RuntimeError::CannotPull(_))), "{without:?}");
    assert_eq!(with.map(|made| made.state), Ok(ObservedState::Created));
    assert!(removed.status.success(), "{removed:?}");
}

#[tokio::test]
async fn a_bad_file_of_logins_is_told_at_the_start() {
    let engine = MockEngine::start(NEWEST);
    let settings = logins(&engine);
    let path = settings.credentials_file.clone().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = connect(&engine).keep_images(&settings, &engine.file("i")).unwrap_err();
    assert!(error.to_string().contains("give it mode 600"), "{error}");
}

/// Makes a container of a task's, and tells how often images were pulled until now.
async fn made(engine: &MockEngine, docker: &Docker, task: &str) -> (bool, usize) {
    let created = docker.create(&spec(task, IMAGE, None)).await;
    if let Err(error) = &created {
        assert_eq!(error, &RuntimeError::CannotPull("no route".to_owned()));
    }
    (created.is_ok(), engine.rows().pulls.len())
}

#[tokio::test]
async fn images_are_pulled_as_the_file_says() {
    // With the image at hand, then again, then without a registry.
    for (pull, expected) in [
        (PullBehaviour::PreferCached, [(true, 0), (true, 0), (true, 0)]),
        (PullBehaviour::Once, [(true, 1), (true, 1), (true, 1)]),
        (PullBehaviour::Always, [(true, 1), (true, 2), (false, 3)]),
        (PullBehaviour::Default, [(true, 1), (true, 2), (true, 3)]),
    ] {
        let engine = MockEngine::start(NEWEST);
        engine.rows().images.insert(IMAGE.to_owned(), "sha256:a".to_owned());
        engine.rows().registries.insert(IMAGE.to_owned(), "sha256:b".to_owned());
        let docker = keeper(&engine, &ImageSettings { pull, ..ImageSettings::default() });
        let first = made(&engine, &docker, "t1").await;
        let second = made(&engine, &docker, "t2").await;
        engine.rows().registries.clear();
        let third = made(&engine, &docker, "t3").await;
        assert_eq!([first, second, third], expected, "{pull:?}");
        // Asked for again, it is there already.
        assert_eq!(made(&engine, &docker, "t1").await, (true, expected[2].1), "{pull:?}");
        engine.rows().images.clear();
        let last = made(&engine, &docker, "t4").await;
        assert_eq!(last, (false, expected[2].1 + 1), "{pull:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn images_that_we_pulled_go_when_nobody_uses_them_and_others_stay() {
    let engine = MockEngine::start(NEWEST);
    let [theirs, moved] = ["theirs:1", "moved:1"];
    engine.rows().images.insert(theirs.to_owned(), "sha256:t".to_owned());
    for name in [IMAGE, theirs, moved, "used:1"] {
        engine.rows().registries.insert(name.to_owned(), format!("sha256:{name}"));
    }
    let settings = ImageSettings { cleanup_age: Duration::ZERO, ..ImageSettings::default() };
    let docker = keeper(&engine, &settings);
    for (task, image) in [("t1", IMAGE), ("t2", theirs), ("t3", moved), ("t4", "used:1")] {
        docker.create(&spec(task, image, None)).await.unwrap();
    }
    assert_eq!(engine.rows().pulls.len(), 3);
    let images = |engine: &MockEngine| engine.rows().images.keys().cloned().collect::<Vec<_>>();
    let cycle = settings.cleanup_interval + Duration::from_secs(1);
    tokio::time::sleep(cycle).await;
    assert_eq!(images(&engine), [moved, IMAGE, theirs, "used:1"], "they are in use");
    let asked = engine.rows().asked.clone();
    assert!(!asked.iter().any(|asked| asked.starts_with("DELETE")), "{asked:?}");
    // Who pulled what is known to the next process.
    drop(docker);
    let docker = keeper(&engine, &settings);
    for task in ["t1", "t2", "t3"] {
        docker.remove(&task.into(), APP).await.unwrap();
    }
    // Somebody gave the name to another image.
    engine.rows().images.insert(moved.to_owned(), "sha256:other".to_owned());
    tokio::time::sleep(cycle).await;
    assert_eq!(images(&engine), [moved, theirs, "used:1"]);
    docker.remove(&"t4".into(), APP).await.unwrap();
    tokio::time::sleep(cycle).await;
    assert_eq!(images(&engine), [moved, theirs]);
    // Off.
    drop(docker);
    let settings = ImageSettings { cleanup_interval: Duration::ZERO, ..settings };
    let docker = keeper(&engine, &settings);
    docker.create(&spec("t1", IMAGE, None)).await.unwrap();
    docker.remove(&"t1".into(), APP).await.unwrap();
    tokio::time::sleep(cycle * 10).await;
    assert_eq!(images(&engine), [moved, IMAGE, theirs]);
}

/// What becomes of a call while requests that contain `mute` are never answered.
async fn unanswered(engine: &MockEngine, mute: &'static str, call: &str) -> (String, Duration) {
    engine.rows().mute = Some(mute);
    let docker = connect(engine);
    let (task, began) = ("t1".into(), instant());
    let second = Duration::from_secs(1);
    let error = match call {
        "list" => docker.list().await.map(drop),
        "create" => docker.create(&spec("t2", IMAGE, None)).await.map(drop),
        "create awsvpc" => {
            let mode = Some(NetworkMode::Awsvpc);
            docker.create(&spec("t2", IMAGE, mode)).await.map(drop)
        }
        "pull" => docker.create(&spec("t2", "none:1", None)).await.map(drop),
        "start" => docker.start(&task, APP).await.map(drop),
        "stop" => docker.stop(&"t3".into(), APP, second).await,
        "remove" => docker.remove(&task, APP).await,
        "usage" => docker.usage(&"t3".into(), APP).await.map(drop),
        "capacity" => docker.capacity().await.map(drop),
        "reach" => docker.reach(None).await.map(drop),
        "exec" => {
            let asked = Exec { command: vec!["x".to_owned()], terminal: None };
            docker.exec(&"t3".into(), APP, &asked).await.map(drop)
        }
        other => panic!("{other}"),
    };
    engine.rows().mute = None;
    let error = error.unwrap_err();
    let kind = match &error {
        RuntimeError::Timeout(_) => "timeout",
        RuntimeError::CannotPull(text) if text.contains("takes too long") => "pull",
        other => panic!("{mute} {call}: {other}"),
    };
    (kind.to_owned(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_longer_than_its_time_for_a_silent_engine() {
    let engine = MockEngine::start(NEWEST);
    engine.rows().images.insert(IMAGE.to_owned(), "sha256:a".to_owned());
    let docker = connect(&engine);
    for task in ["t1", "t3"] {
        docker.create(&spec(task, IMAGE, None)).await.unwrap();
    }
    docker.start(&"t3".into(), APP).await.unwrap();
    // Seconds, those of every try together.
    for (mute, call, kind, seconds) in [
        ("/containers/json", "list", "timeout", 180),
        ("/containers/create", "create", "timeout", 240),
        ("/containers/create", "create awsvpc", "timeout", 240),
        ("/images/create", "pull", "pull", 300),
        ("/images/none", "pull", "timeout", 90),
        ("/json", "start", "timeout", 90),
        ("/start", "start", "timeout", 180),
        // Twice with its grace, then by force.
        ("POST /containers/", "stop", "timeout", 92),
        ("DELETE /containers", "remove", "timeout", 900),
        ("/stats", "usage", "timeout", 18),
        ("/info", "capacity", "timeout", 5),
        ("/networks/", "reach", "timeout", 90),
        ("/exec", "exec", "timeout", 30),
    ] {
        let (told, waited) = unanswered(&engine, mute, call).await;
        let (least, most) = (Duration::from_secs(seconds), Duration::from_secs(seconds + 2));
        assert_eq!(told, kind, "{mute} {call}");
        assert!((least..most).contains(&waited), "{mute} {call}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_that_says_nothing_is_renewed() {
    let engine = MockEngine::start(NEWEST);
    let docker = connect(&engine);
    let mut events = docker.events();
    assert_eq!(event(&mut events).await, "gap");
    // It is there, and nobody is behind it any more.
    engine.rows().mute = Some("/");
    tokio::time::sleep(Duration::from_secs(60)).await;
    engine.rows().mute = None;
    assert_eq!(event(&mut events).await, "gap");
}

/// Running tasks of the service, by id.
fn running(state: &roadstead::state::State) -> BTreeSet<String> {
    let live = tasks_of(state, "web").filter(|t| t.is_live() && t.known == TaskStatus::Running);
    live.map(|task| task.id.to_string()).collect()
}

/// A service of two on an engine of its own.
async fn served(image: &Image, number: u8, survives: bool) -> Option<(Engine, World)> {
    let engine = Engine::start_with(number, survives).await?;
    engine.load(image);
    // A probe that comes late says nothing of a task.
    let service = Service {
        image: Some(image.0.clone()),
        interval: "1s",
        unhealthy_threshold: 10,
        ..Service::http("web", 2)
    };
    let socket = engine.socket();
    let setting = format!("[[instance]]\nname = \"a\"\ndocker = \"unix://{}\"", socket.display());
    let limits = "[limits]\ncrash_backoff = \"1s\"";
    let world = World::new().service(service).setting(limits).setting(&setting);
    Some((engine, world))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_outlive_a_restart_of_an_engine_with_live_restore() {
    let Some(image) = Image::build("live") else { return };
    let Some((mut engine, world)) = served(&image, 11, true).await else { return };
    let mut app = world.start().await;
    app.settled("web", 2).await;
    let (tasks, containers) = (running(&app.state()), engine.containers());
    assert_eq!((tasks.len(), containers.len()), (2, 2));
    let load = Load::start(app.world.listener(8080), "/", 4);
    load.more(200).await;
    engine.restart().await;
    load.more(200).await;
    // Whoever starts one more has looked at what there is.
    app.edit(|services| services[0].desired = 3);
    app.settled("web", 3).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let all: BTreeSet<_> = tasks_of(&app.state(), "web").map(|t| t.id.to_string()).collect();
    assert!(all.is_superset(&tasks) && all.len() == 3, "nothing was replaced: {all:?}");
    let now = engine.containers();
    assert!(now.is_superset(&containers) && now.len() == 3, "{now:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_end_with_their_engine_are_replaced_once() {
    let Some(image) = Image::build("dies") else { return };
    let Some((mut engine, world)) = served(&image, 12, false).await else { return };
    let app = world.start().await;
    app.settled("web", 2).await;
    let (tasks, containers) = (running(&app.state()), engine.containers());
    assert_eq!((tasks.len(), containers.len()), (2, 2));
    engine.restart().await;
    let is_new = || {
        let now = running(&app.state());
        now.len() == 2 && now.is_disjoint(&tasks)
    };
    support::until("two others", is_new).await;
    app.settled("web", 2).await;
    // What ended is cleared away, and nothing is there twice.
    support::until("the old ones to go", || engine.containers().is_disjoint(&containers)).await;
    assert_eq!((engine.containers().len(), engine.running()), (2, 2));
    let all: BTreeSet<_> = tasks_of(&app.state(), "web").map(|t| t.id.to_string()).collect();
    assert!(all.difference(&tasks).count() == 2, "{all:?} after {tasks:?}");
    app.stop().await;
}
