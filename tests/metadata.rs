//! What tasks learn about themselves at the addresses in their environment.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::world::{PROGRAM, Running, Service, World, tasks_of};
use crate::support::{self, DEADLINE};

/// Asks as a task does; status and JSON.
async fn ask(method: &str, url: &str, body: &str) -> (u16, Value) {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let whole = async {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = tokio::time::timeout(DEADLINE, whole).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// A service whose tasks write their environment down.
fn service(world: &World, name: &'static str, desired: u32) -> Service {
    let folder = world.dir.path().display();
    let script = format!("env > {folder}/$TASK_ID.env; exec {PROGRAM} whoami");
    let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    Service { command: Some(command), ..Service::http(name, desired) }
}

/// The environment of each task of the service.
fn environments(running: &Running, name: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let state = running.state();
    let read = |task: &roadstead::model::Task| {
        let path = running.world.dir.path().join(format!("{}.env", task.id));
        let text = std::fs::read_to_string(path).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (task.id.to_string(), pairs.collect())
    };
    tasks_of(&state, name).filter(|task| task.is_live()).map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_learns_what_it_is_and_what_it_uses() {
    let world = World::new();
    let service = service(&world, "web", 2);
    let running = world.service(service).start().await;
    running.settled("web", 2).await;
    let environments = environments(&running, "web");
    let (id, environment) = &environments[0];
    let own = &environment["ECS_CONTAINER_METADATA_URI_V4"];
    let (status, container) = ask("GET", own, "").await;
    assert_eq!(
        (status, &container["Name"], &container["KnownStatus"]),
        (200, &json!("web"), &json!("RUNNING"),)
    );
    assert_eq!(container["Networks"][0]["IPv4Addresses"][0], environment["ADDRESS"].as_str());
    let arn = format!("arn:aws:ecs:local:000000000000:task/default/{id}");
    assert_eq!(container["Labels"]["com.amazonaws.ecs.task-arn"], arn);
    let (status, task) = ask("GET", &format!("{own}/task"), "").await;
    assert_eq!((status, &task["TaskARN"], &task["ServiceName"]), (200, &json!(arn), &json!("web")));
    assert_eq!(task["Containers"][0], container);
    assert_eq!(task.get("TaskTags"), None);
    let (_, tagged) = ask("GET", &format!("{own}/taskWithTags"), "").await;
    assert_eq!(tagged["TaskTags"], json!({}));

    let (status, stats) = ask("GET", &format!("{own}/stats"), "").await;
    let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap();
    assert_eq!(status, 200);
    assert!(number("/memory_stats/usage") > 0);
    assert!(number("/cpu_stats/system_cpu_usage") > number("/precpu_stats/system_cpu_usage"));
    let (_, all) = ask("GET", &format!("{own}/task/stats"), "").await;
    let runtime_id = container["DockerId"].as_str().unwrap();
    assert!(all[runtime_id]["memory_stats"]["usage"].as_u64().unwrap() > 0, "{all}");

    // Each has an address of its own, and nobody finds another's.
    let other = &environments[1].1["ECS_CONTAINER_METADATA_URI_V4"];
    assert_ne!(own, other);
    let forged = own.replace(id.as_str(), &environments[1].0);
    for url in [format!("{own}0"), forged, own[..own.len() - 1].to_owned(), format!("{own}/x")] {
        assert_eq!(ask("GET", &url, "").await.0, 404, "{url}");
    }
    assert_eq!(ask("POST", own, "").await.0, 405);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_protects_itself_outlives_scale_in() {
    let world = World::new();
    let service = service(&world, "web", 3);
    let mut running = world.service(service).start().await;
    running.settled("web", 3).await;
    let environments = environments(&running, "web");
    let url = |index: usize| {
        let environment: &BTreeMap<String, String> = &environments[index].1;
        format!("{}/task-protection/v1/state", environment["ECS_AGENT_URI"])
    };
    let arn = format!("arn:aws:ecs:local:000000000000:task/default/{}", environments[1].0);
    let (status, free) = ask("GET", &url(1), "").await;
    let expected = json!({ "ExpirationDate": null, "ProtectionEnabled": false, "TaskArn": arn });
    assert_eq!((status, &free["protection"]), (200, &expected));
    let (status, bad) = ask("PUT", &url(1), "{\"ExpiresInMinutes\":60}").await;
    assert_eq!((status, &bad["error"]["Code"]), (400, &json!("InvalidParameterException")));
    assert_eq!(bad["error"]["Arn"], arn);
    for body in ["", "[]", "{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":0}"] {
        assert_eq!(ask("PUT", &url(1), body).await.0, 400, "{body}");
    }
    let body = "{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":60}";
    let (status, held) = ask("PUT", &url(1), body).await;
    assert_eq!((status, &held["protection"]["ProtectionEnabled"]), (200, &json!(true)));
    assert!(held["protection"]["ExpirationDate"].as_str().unwrap().ends_with('Z'));
    assert_eq!(ask("GET", &url(1), "").await.1, held);

    running.edit(|services| services[0].desired = 1);
    running.settled("web", 1).await;
    let state = running.state();
    let left: Vec<_> = tasks_of(&state, "web").filter(|task| task.is_live()).collect();
    assert_eq!(left[0].id.as_str(), environments[1].0);
    let (_, free) = ask("PUT", &url(1), "{\"ProtectionEnabled\":false}").await;
    assert_eq!(free["protection"]["ProtectionEnabled"], false);
    // Of a task that is over nothing is protected.
    let gone = ask("PUT", &url(0), body).await;
    assert_eq!((gone.0, &gone.1["failure"]["Reason"]), (200, &json!("TASK_NOT_VALID")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_outlive_the_process_that_told_them() {
    let world = World::new();
    let service = service(&world, "web", 1);
    let world = world.service(service);
    let mut serve = world.spawn();
    let healthy = |serve: &support::world::Serve| {
        let status = serve.status()?;
        support::world::healthy_tasks(&status, "web").first().cloned()
    };
    support::until("a healthy task", || healthy(&serve).is_some()).await;
    let task = healthy(&serve).unwrap();
    let path = world.dir.path().join(format!("{task}.env"));
    let text = std::fs::read_to_string(path).unwrap();
    let name = "ECS_CONTAINER_METADATA_URI_V4=";
    let url = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    assert_eq!(ask("GET", &url, "").await.0, 200);

    // Killed and started again, and then relieved: nobody is refused on the way.
    serve.child.kill().unwrap();
    serve.child.wait().unwrap();
    serve = world.spawn();
    let address = url.split('/').nth(2).unwrap().to_owned();
    support::until("the new process", || std::net::TcpStream::connect(&address).is_ok()).await;
    assert_eq!(ask("GET", &url, "").await.1["Name"], "web");
    let asking = tokio::spawn(async move {
        for _ in 0..200 {
            assert_eq!(ask("GET", &url, "").await.0, 200);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let next = world.spawn_taking_over();
    assert_eq!(serve.ended().await, Some(0));
    asking.await.unwrap();
    drop(next);
}
