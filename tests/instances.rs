//! Several container instances, each a Docker Engine that the test starts itself.

use std::collections::BTreeMap;

use roadstead::api::status::Status;
use roadstead::model::{Contact, InstanceName, TaskStatus};
use roadstead::state::State;

use crate::docker::Image;
use crate::support::aws::client;
use crate::support::client::Load;
use crate::support::engine::Engine;
use crate::support::world::{self, Service, World, healthy_tasks};
use crate::support::{self, full_or};

/// Tasks that run and are to run, on an instance.
fn on(state: &State, instance: &str) -> usize {
    let here = state.tasks.values().filter(|task| task.instance.as_str() == instance);
    here.filter(|task| task.is_live() && task.known == TaskStatus::Running).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_and_a_lost_engine_lose_no_request() {
    let Some(image) = Image::build("instances") else { return };
    let (Some(a), Some(b)) = (Engine::start(1).await, Engine::start(2).await) else { return };
    let service = Service { image: Some(image.0.clone()), ..Service::http("web", 2) };
    let mut world = World::new().open_api().service(service);
    for (name, engine) in [("a", &a), ("b", &b)] {
        engine.load(&image);
        let socket = engine.socket();
        world = world.setting(&format!(
            "[[instance]]\nname = {name:?}\ndocker = \"unix://{}\"\nzone = \"zone-{name}\"",
            socket.display()
        ));
    }
    let world = world.setting("[runtime]\nhealthy_after = \"0s\"\nlost_after = \"4s\"");
    let running = world.start().await;
    running.settled("web", 2).await;
    assert_eq!([on(&running.state(), "a"), on(&running.state(), "b")], [1, 1]);
    assert_eq!([a.running(), b.running()], [1, 1]);
    let load = Load::start(running.world.listener(8080), "/", 8);
    load.more(full_or(20_000, 1_000)).await;

    if client(&running, "drain.py", &["a", "DRAINING"]).await {
        support::until("a to be empty", || a.running() == 0 && on(&running.state(), "b") == 2)
            .await;
        load.more(full_or(20_000, 1_000)).await;
        client(&running, "drain.py", &["a", "ACTIVE"]).await;
        client(&running, "drain.py", &["b", "DRAINING"]).await;
        support::until("b to be empty", || b.running() == 0 && on(&running.state(), "a") == 2)
            .await;
        client(&running, "drain.py", &["b", "ACTIVE"]).await;
        load.more(full_or(20_000, 1_000)).await;
    }

    let before = on(&running.state(), "a");
    a.hide();
    let contact = |name: &str| running.state().instances[&InstanceName::new(name)].contact;
    support::until("a to be lost", || contact("a") == Contact::Lost).await;
    support::until("two on b", || on(&running.state(), "b") == 2).await;
    support::until("none on a", || on(&running.state(), "a") == 0).await;
    load.more(full_or(20_000, 1_000)).await;
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    support::note(&format!("{} requests over draining and loss", tally.succeeded()));
    a.show();
    // They ran on, and nobody starts them again: they go when their grace is over.
    assert_eq!(a.running(), before);
    support::until("a to be back", || contact("a") == Contact::Connected).await;
    assert_eq!(a.running(), before);
    // A slow machine may have had one replaced meanwhile.
    support::until("two on b alone", || b.running() == 2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_roadstead_adopts_what_runs_on_every_instance() {
    let names = ["local", "two", "three"];
    let world = names.iter().fold(World::new(), |world, name| {
        world.setting(&format!("[[instance]]\nname = {name:?}\nzone = \"zone-{name}\""))
    });
    let world = world.service(Service::http("web", 6));
    let mut serve = world.spawn();
    let six = |serve: &world::Serve| {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 6)
    };
    support::until("six healthy tasks", || six(&serve)).await;
    let placed = |serve: &world::Serve| {
        let status = serve.status().unwrap();
        let live = status.tasks.into_iter().filter(|task| task.last_status == "RUNNING");
        live.map(|task| (task.task, task.instance)).collect::<BTreeMap<_, _>>()
    };
    let (before, processes) = (placed(&serve), world.processes());
    for name in names {
        assert_eq!(before.values().filter(|own| *own == name).count(), 2, "{before:?}");
    }
    for round in 0..full_or(20, 3) {
        serve.child.kill().unwrap();
        serve.child.wait().unwrap();
        serve = world.spawn();
        support::until("six healthy tasks again", || six(&serve)).await;
        assert_eq!(placed(&serve), before, "round {round}");
        assert_eq!(world.processes(), processes, "round {round}");
    }
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_an_instance_that_left_the_file_are_replaced_on_others() {
    let instance = |name: &str| format!("[[instance]]\nname = {name:?}");
    let mut world = World::new().setting(&instance("local")).setting(&instance("two"));
    world = world.service(Service::http("web", 2));
    let mut serve = world.spawn();
    let on = |serve: &world::Serve, name: &str| {
        let live = |status: Status| {
            let tasks = status.tasks.into_iter().filter(|task| task.last_status == "RUNNING");
            tasks.filter(|task| task.instance == name && task.desired_status == "RUNNING").count()
        };
        serve.status().map_or(0, live)
    };
    support::until("a task on each", || on(&serve, "local") == 1 && on(&serve, "two") == 1).await;
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
    let stray = world.processes().len();
    world.settings = world.settings.replace(&instance("two"), "");
    let serve = world.spawn();
    support::until("both on one", || on(&serve, "local") == 2 && on(&serve, "two") == 0).await;
    let names = || serve.status().map(|status| status.instances.len());
    support::until("the instance to be forgotten", || names() == Some(1)).await;
    // Nobody reaches what ran there.
    assert_eq!((stray, world.processes().len()), (2, 3));
}
