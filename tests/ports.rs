//! Addresses and ports of tasks on a real Docker Engine: where tasks are reached, and what rests
//! after them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roadstead::model::{ServiceKey, TaskStatus};

use crate::docker::{Image, Sweep};
use crate::support::client::{self, Load};
use crate::support::engine::Engine;
use crate::support::world::{self, Service, World};
use crate::support::{self, full_or};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_for_a_stopped_task_reaches_the_next_one() {
    let Some(image) = Image::build("rest") else { return };
    let first = Service {
        image: Some(image.0.clone()),
        mode: Some("awsvpc"),
        stop_timeout: 5,
        deregistration_delay: "1s",
        ..Service::http("first", 1)
    };
    // Nobody balances its one task, which serves what the other service's task serves.
    let serves = "portMappings = [{ containerPort = 8080 }]\nstopTimeout = 5";
    let command = ["/roadstead", "whoami"];
    let second = image.lone(("second", "awsvpc"), &command, (serves, "desired_count = 0"));
    let world = World::new()
        .setting("[runtime]\nkind = \"docker\"\nhealthy_after = \"0s\"")
        .setting(&second)
        .service(first);
    let _sweep = Sweep::of(&world);
    let mut running = world.start().await;
    running.settled("first", 1).await;
    let state = running.state();
    let old = world::tasks_of(&state, "first").next().unwrap();
    let (id, address) = (old.id.to_string(), SocketAddr::new(old.address.unwrap(), 8080));
    // Somebody who remembers the address goes on asking there.
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let (mut own, mut others) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let asked = client::get(address, "/");
                let patience = std::time::Duration::from_millis(200);
                match tokio::time::timeout(patience, asked).await {
                    Ok(Ok(answer)) if answer.body.contains(&id) => own += 1,
                    Ok(Ok(answer)) => others.push(answer.body),
                    Ok(Err(_)) | Err(_) => tokio::task::yield_now().await,
                }
            }
            (own, others)
        }
    });
    running.edit(|services| services[0].desired = 0);
    running.settled("first", 0).await;
    running.world.settings =
        running.world.settings.replace("desired_count = 0", "desired_count = 1");
    running.world.write();
    let second = || {
        let state = running.state();
        let mut all = world::tasks_of(&state, "second");
        all.find(|task| task.known == TaskStatus::Running)?.address
    };
    support::until("the second task", || second().is_some()).await;
    let second = SocketAddr::new(second().unwrap(), 8080);
    assert_ne!(second, address);
    support::until_async("its answer", async || client::get(second, "/").await.is_ok()).await;
    over.store(true, Ordering::Relaxed);
    let (own, others) = asking.await.unwrap();
    assert!(own > 0 && others.is_empty(), "{own} answers, then {others:?}");
    running.stop().await;
}

/// Two ports in a row that nobody has.
fn two_free_ports() -> u16 {
    loop {
        let first = fastrand::u16(12_000..19_000);
        let any = |port| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        if any(first).is_ok() && any(first + 1).is_ok() {
            return first;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_two_ports_has_two_tasks_and_gives_a_port_back_before_its_time() {
    let Some(image) = Image::build("range") else { return };
    let first = two_free_ports();
    let service = Service {
        image: Some(image.0.clone()),
        mode: Some("bridge"),
        stop_timeout: 5,
        ..Service::http("web", 3)
    };
    let range = format!("host_ports = \"{first}-{}\"", first + 1);
    let world = World::new()
        .setting(&format!("[runtime]\nkind = \"docker\"\nhealthy_after = \"0s\"\n{range}"))
        .service(service);
    let _sweep = Sweep::of(&world);
    let mut running = world.start().await;
    running.settled("web", 2).await;
    let ports = || -> BTreeSet<u16> {
        let state = running.state();
        let live = world::tasks_of(&state, "web").filter(|task| task.is_live());
        let bound = live.flat_map(|task| task.containers[0].bindings.clone());
        bound.map(|bound| bound.host_port).collect()
    };
    assert_eq!(ports(), [first, first + 1].into());
    let told = || {
        let state = running.state();
        let key = ServiceKey { cluster: "default".into(), name: "web".into() };
        let mut events = state.progress[&key].events.iter();
        events.any(|event| event.message.contains("is already using a port required by your task"))
    };
    support::until("the third to be missed", told).await;
    for port in ports() {
        let host = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert_eq!(client::get(host, "/health").await.unwrap().status, 200);
    }
    running.edit(|services| services[0].desired = 1);
    running.settled("web", 1).await;
    running.edit(|services| services[0].desired = 2);
    running.settled("web", 2).await;
    let live: BTreeSet<u16> = {
        let state = running.state();
        let live = world::tasks_of(&state, "web").filter(|task| task.is_live());
        live.flat_map(|task| task.host_ports.clone()).map(|ports| ports.host_port).collect()
    };
    assert_eq!(live, [first, first + 1].into());
    let app = running.app.as_ref().unwrap();
    let metrics = support::scrape(app.metrics_address()).await;
    assert!(metrics.contains("roadstead_rests_cut_total{what=\"ports\"} 1\n"), "{metrics}");
    running.edit(|services| services[0].desired = 0);
    running.settled("web", 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_an_instance_with_an_address_are_reached_at_its_ports() {
    let Some(image) = Image::build("address") else { return };
    let Some(engine) = Engine::start(4).await else { return };
    engine.load(&image);
    let service = |name, mode, port| Service {
        image: Some(image.0.clone()),
        mode,
        port,
        stop_timeout: 5,
        ..Service::http(name, 2)
    };
    let instance = format!(
        "[[instance]]\nname = \"far\"\ndocker = \"unix://{}\"\naddress = \"127.0.0.1\"",
        engine.socket().display()
    );
    let world = World::new()
        .setting(&instance)
        .setting("[runtime]\nhealthy_after = \"0s\"")
        .service(service("web", Some("bridge"), 8080))
        .service(service("plain", None, 8090))
        .service(service("own", Some("awsvpc"), 8100));
    let mut running = world.start().await;
    for name in ["web", "plain", "own"] {
        running.settled(name, 2).await;
    }
    let state = running.state();
    for (name, port) in [("web", 8080), ("plain", 8090)] {
        for task in world::tasks_of(&state, name) {
            let target = state.targets_of_task(&task.id).next().unwrap();
            let chosen = task.host_ports[0].host_port;
            assert_eq!((target.address, target.port), (IpAddr::V4(Ipv4Addr::LOCALHOST), chosen));
            assert_eq!(task.host_ports[0].container_port, port);
            let instance = state.instances_of_task(&task.id).next().unwrap();
            assert_eq!((instance.address, instance.port), (Some(target.address), Some(chosen)));
        }
    }
    for task in world::tasks_of(&state, "own") {
        let target = state.targets_of_task(&task.id).next().unwrap();
        assert_eq!((Some(target.address), target.port), (task.address, 8100));
    }
    let load = Load::start(running.world.listener(8080), "/", 8);
    let share = full_or(20_000, 500);
    load.more(share).await;
    for desired in [3, 1] {
        running.edit(|services| services[0].desired = desired);
        running.settled("web", desired as usize).await;
        load.more(share).await;
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}
