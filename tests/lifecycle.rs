//! The process's own life: one at a time, listeners that come and go, an orderly end.

use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use crate::support;
use crate::support::client::{self, Load};
use crate::support::world::{Service, World, healthy_tasks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_instance_on_the_same_ports_is_refused() {
    let first = World::new().service(Service::http("web", 1)).start().await;
    first.settled("web", 1).await;
    let mut second = World::new().service(Service::http("web", 1));
    second.copy_addresses(&first.world);
    let mut serve = second.spawn();
    assert_eq!(serve.ended().await, Some(1));
    let log = std::fs::read_to_string(second.dir.path().join("serve.log")).unwrap();
    assert!(log.contains("cannot bind") && log.contains("Address already in use"), "{log}");
    // The same data directory is refused before any socket.
    let mut third = std::process::Command::new(support::world::PROGRAM);
    third.args(["serve", "--config"]).arg(first.world.config());
    let output = third.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is in use by another roadstead"), "{text}");
    for _ in 0..20 {
        assert_eq!(client::get(first.world.listener(8080), "/").await.unwrap().status, 200);
    }
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_move_and_go_without_cutting_others() {
    let mut running = World::new().service(Service::http("web", 2)).start().await;
    running.settled("web", 2).await;
    let load = Load::start(running.world.listener(8080), "/", 8);
    // A connection that stays open through all of it.
    let mut kept = TcpStream::connect(running.world.listener(8080)).await.unwrap();
    for round in 0..support::full_or(20, 3) {
        let port = 9000 + u16::try_from(round).unwrap();
        let other = Service { port, ..Service::http("other", 1) };
        running.edit(|services| services.push(other));
        running.settled("other", 1).await;
        let there = running.world.listener(port);
        support::until("the new listener", || std::net::TcpStream::connect(there).is_ok()).await;
        assert_eq!(client::get(there, "/").await.unwrap().status, 200);
        running.edit(|services| services[1].port += 100);
        let moved = running.world.listener(port + 100);
        support::until("the moved listener", || std::net::TcpStream::connect(moved).is_ok()).await;
        support::until("the old port to close", || std::net::TcpStream::connect(there).is_err())
            .await;
        running.edit(|services| _ = services.pop());
        support::until("the listener to go", || std::net::TcpStream::connect(moved).is_err()).await;
        running.settled("other", 0).await;
        let answer = client::exchange(&mut kept, "GET", "/", false).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_cannot_be_bound_refuses_the_file_and_the_old_one_serves() {
    let mut running = World::new().service(Service::http("web", 1)).start().await;
    running.settled("web", 1).await;
    let taken = std::net::TcpListener::bind(running.world.listener(9999)).unwrap();
    let generation = running.state().generation;
    running.edit(|services| {
        services[0].desired = 2;
        services.push(Service { port: 9999, ..Service::http("other", 1) });
    });
    let metrics = running.app.as_ref().unwrap().metrics_address();
    let mut text = String::new();
    support::until_async("the refusal to show in a metric", async || {
        text = support::scrape(metrics).await;
        text.contains("roadstead_config_refused 1")
    })
    .await;
    let state = running.state();
    assert!(state.services.values().all(|s| s.key.name.as_str() != "other"), "half applied");
    assert_eq!(support::world::tasks_of(&state, "web").count(), 1, "half applied");
    assert!(state.generation >= generation);
    assert_eq!(client::get(running.world.listener(8080), "/").await.unwrap().status, 200);
    drop(taken);
    running.edit(|_| {});
    running.settled("other", 1).await;
    running.settled("web", 2).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_nothing_before_the_listeners_close() {
    let world = World::new().setting("on_exit = \"stop\"").service(Service::http("web", 2));
    let mut serve = world.spawn();
    support::until("two healthy tasks", || {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 2)
    })
    .await;
    let slow = tokio::spawn(client::get(world.listener(8080), "/delay/1500"));
    let load = Load::start(world.listener(8080), "/", 16);
    load.more(500).await;
    serve.signal("TERM");
    assert_eq!(slow.await.unwrap().map(|answer| answer.status), Ok(200));
    assert_eq!(serve.ended().await, Some(0));
    let tally = load.finish().await;
    let refused = tally.refused.load(Ordering::Relaxed);
    assert!(refused > 0, "the listeners never closed");
    assert_eq!(tally.failed(), refused, "{tally:?}");
    let log = std::fs::read_to_string(world.dir.path().join("serve.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let left = support::world::status(&world.data_dir());
    assert!(left.is_none());
    let pool = world.address(65);
    assert!(std::net::TcpStream::connect((pool, 8080)).is_err(), "on_exit = stop left a task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_turns_first_and_a_second_signal_exits_at_once() {
    let world = World::new().service(Service::http("web", 1));
    let mut serve = world.spawn();
    support::until("a healthy task", || {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 1)
    })
    .await;
    let metrics = std::net::SocketAddr::new(world.address(1), 9180);
    assert_eq!(client::get(metrics, "/readyz").await.unwrap().status, 200);
    assert_eq!(client::get(metrics, "/healthz").await.unwrap().status, 200);
    let slow = tokio::spawn(client::get(world.listener(8080), "/delay/60000"));
    support::until("the request to be under way", || {
        serve.status().is_some_and(|status| status.targets.iter().any(|t| t.in_flight == 1))
    })
    .await;
    serve.signal("TERM");
    support::until_async("readiness to turn", async || {
        client::get(metrics, "/readyz").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    assert_eq!(client::get(metrics, "/healthz").await.unwrap().status, 200);
    serve.signal("INT");
    assert_eq!(serve.ended().await, Some(1));
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_log_has_a_line_per_request_and_moves_on_at_sighup() {
    let world = World::new();
    let path = world.dir.path().join("access.log");
    let world =
        world.setting(&format!("[access_log]\npath = {path:?}")).service(Service::http("web", 1));
    let mut serve = world.spawn();
    support::until("a healthy task", || {
        serve.status().is_some_and(|status| healthy_tasks(&status, "web").len() == 1)
    })
    .await;
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    assert_eq!(client::get(world.listener(8080), "/one").await.unwrap().status, 200);
    support::until("the first line", || lines(&path) == 1).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("http 20") && text.contains("/one HTTP/1.1\""), "{text}");
    assert!(text.contains(" app/web/") && text.contains(" 200 200 "), "{text}");
    let moved = path.with_extension("1");
    std::fs::rename(&path, &moved).unwrap();
    serve.signal("HUP");
    support::until("the new file", || path.exists()).await;
    assert_eq!(client::get(world.listener(8080), "/two").await.unwrap().status, 200);
    support::until("the second line", || lines(&path) == 1).await;
    assert_eq!(lines(&moved), 1);
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
}

#[test]
fn bad_configuration_ends_with_code_2_and_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "region = \"local\"\nthreds = 2\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(support::world::PROGRAM);
        let output = command.args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let file = path.to_str().unwrap();
    for arguments in [&["check", file][..], &["serve", "--config", file]] {
        let (code, message) = run(arguments);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(&format!("{file}:2: threds: ")), "{message}");
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml");
    assert_eq!(run(&["check", sample]), (Some(0), String::new()));
    assert_eq!(run(&["version"]).0, Some(0));
    assert_eq!(run(&["serve"]).0, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_and_targets_may_have_ipv6_addresses() {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        support::note("skipped: this machine has no IPv6 loopback");
        return;
    };
    let there = free.local_addr().unwrap();
    drop(free);
    let target = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let address = target.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = target.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nv6";
            let _ = stream.write_all(answer).await;
        }
    });
    let world = World::new();
    let text = format!(
        "{}\n[[target_group]]\nname = \"six\"\ntargets = [\"{address}\"]\n\
         [[load_balancer]]\nname = \"six\"\ntype = \"application\"\naddress = \"::1\"\n\
         [[load_balancer.listener]]\nport = {}\ntarget_group = \"six\"\n",
        world.toml(),
        there.port()
    );
    let mut serve = world.spawn_text(&text);
    support::until("the IPv6 target to be healthy", || {
        serve.status().is_some_and(|status| status.targets.iter().any(|t| t.state == "healthy"))
    })
    .await;
    let answer = client::get(there, "/").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "v6"));
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
    answering.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn env_tells_clients_the_key_that_the_first_start_made() {
    let world = World::new();
    world.write();
    let env = |config: &std::path::Path| {
        let mut command = std::process::Command::new(support::world::PROGRAM);
        let output = command.args(["env", "--config"]).arg(config).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), texts)
    };
    for (config, told) in [
        (world.config(), "no key; the first start of roadstead serve makes one: "),
        (world.data_dir().join("none.toml"), "none.toml:1: (file): no such file"),
    ] {
        let (code, [stdout, stderr]) = env(&config);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(told), "{stderr}");
    }
    let url = format!("\nexport AWS_ENDPOINT_URL='http://{}:4566'\n", world.address(1));
    let config = world.config();
    let running = world.start().await;
    let (code, [first, _]) = env(&config);
    assert_eq!(code, Some(0));
    assert!(first.contains(&url) && first.contains("\nexport AWS_ACCESS_KEY_ID='AKIA"), "{url}");
    assert_eq!(env(&config), (Some(0), [first, String::new()]));
    running.stop().await;
}
