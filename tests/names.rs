//! What containers on a real Docker Engine find by name.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use roadstead::model::{Task, TaskStatus};

use crate::docker::Image;
use crate::support;
use crate::support::engine::Engine;
use crate::support::world::{self, Running, Service, World};

/// Answers every name with 192.0.2.7 until the test ends.
fn other_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let name = query[12..length].iter().position(|byte| *byte == 0).unwrap();
            let (id, question) = (&query[..2], &query[12..12 + name + 5]);
            let is_address = question[name + 1..name + 3] == [0, 1];
            let counts = [0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0];
            let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
            let answer = if is_address { &answer[..] } else { &[] };
            socket.send_to(&[id, &counts, question, answer].concat(), from).unwrap();
        }
    });
    address
}

/// A service that only waits.
fn waiting(image: &Image, name: &str, mode: &str, more: &str) -> String {
    let container = format!("stopTimeout = 2\n{more}");
    image.lone((name, mode), &["/busybox", "sleep", "1000"], (&container, ""))
}

async fn task(running: &Running, service: &str) -> Arc<Task> {
    let find = || {
        let state = running.state();
        let found = world::tasks_of(&state, service).find(|t| t.known == TaskStatus::Running);
        found.map(|task| Arc::clone(&state.tasks[&task.id]))
    };
    support::until(&format!("a task of {service}"), || find().is_some()).await;
    find().unwrap()
}

/// What a container is told that asks for a name.
fn looked_up(engine: &Engine, task: &Task, kind: &str, name: &str) -> String {
    let id = task.containers[0].runtime_id.as_deref().unwrap();
    let kind = format!("-type={kind}");
    engine.says(&["exec", id, "/busybox", "nslookup", &kind, name])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_find_services_and_balancers_and_what_the_machine_finds() {
    let Some(image) = Image::build("names") else { return };
    let Some(engine) = Engine::start(3).await else { return };
    engine.load(&image);
    let other = other_server();
    // Docker's default bridge, and a network of one's own, where Docker's server stands between.
    assert!(engine.docker(&["network", "create", "own"]));
    for network in ["", "network = \"own\""] {
        let socket = engine.socket();
        let web =
            Service { image: Some(image.0.clone()), stop_timeout: 5, ..Service::http("web", 2) };
        let searches = "dnsSearchDomains = [\"demo.internal\"]";
        let says = "dnsServers = [\"10.9.8.7\"]";
        let world = World::new()
            .setting("on_exit = \"stop\"")
            .setting(&format!(
                "[[instance]]\nname = \"a\"\ndocker = \"unix://{}\"\n{network}",
                socket.display()
            ))
            .setting("[runtime]\nhealthy_after = \"0s\"")
            .setting(&waiting(&image, "bridge", "bridge", searches))
            .setting(&waiting(&image, "host", "host", ""))
            .setting(&waiting(&image, "awsvpc", "awsvpc", ""))
            .setting(&waiting(&image, "own", "bridge", says))
            .task_names(other)
            .service(web);
        let running = world.start().await;
        running.settled("web", 2).await;
        let state = running.state();
        let serving = world::tasks_of(&state, "web").filter(|t| t.known == TaskStatus::Running);
        let addresses: Vec<_> = serving.map(|task| task.address.unwrap().to_string()).collect();
        assert_eq!(addresses.len(), 2, "{network}");
        let balancer = state.load_balancers.values().next().unwrap();
        let name = balancer.dns_name("local", "roadstead.internal");
        for mode in ["bridge", "host", "awsvpc"] {
            let task = task(&running, mode).await;
            let said = looked_up(&engine, &task, "a", "web.demo.internal");
            assert!(addresses.iter().all(|own| said.contains(own)), "{mode} {network}: {said}");
            let said = looked_up(&engine, &task, "srv", "web.demo.internal");
            let ports = said.matches("1 1 8080 ").count();
            assert_eq!(ports, 2, "{mode} {network}: {said}");
            let said = looked_up(&engine, &task, "a", &name);
            assert!(said.contains(&balancer.address.to_string()), "{mode} {network}: {said}");
            let said = looked_up(&engine, &task, "a", "www.example.com");
            assert!(said.contains("192.0.2.7"), "{mode} {network}: {said}");
            let said = looked_up(&engine, &task, "a", "none.demo.internal");
            assert!(said.contains("NXDOMAIN"), "{mode} {network}: {said}");
        }
        // With the definition's search domain.
        let bridge = task(&running, "bridge").await;
        let id = bridge.containers[0].runtime_id.clone().unwrap();
        let said = engine.says(&["exec", &id, "/busybox", "nslookup", "web"]);
        assert!(addresses.iter().all(|own| said.contains(own)), "{network}: {said}");
        // A definition's own servers.
        let own = task(&running, "own").await;
        let id = own.containers[0].runtime_id.clone().unwrap();
        let said = engine.says(&["inspect", "-f", "{{.HostConfig.Dns}}", &id]);
        assert_eq!(said.trim(), "[10.9.8.7]");
        running.stop().await;
    }
}
