//! `roadstead explain` over the status socket of a running `serve`.

use std::process::Command;

use crate::support::client;
use crate::support::until;
use crate::support::world::{PROGRAM, Running, Service, World};

fn explain(running: &Running, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM)
        .args(["explain", "--config"])
        .arg(running.world.config())
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_a_logged_one_are_explained() {
    let world = World::new();
    let log = world.dir.path().join("access.log");
    let setting = format!("[access_log]\npath = {log:?}");
    let running = world.setting(&setting).service(Service::http("web", 2)).start().await;
    running.settled("web", 2).await;
    let (done, text) = explain(&running, &["--source", "10.0.0.9", "http://a.test:8080/x?y"]);
    assert!(done, "{text}");
    let first = "GET http://a.test:8080/x?y from 10.0.0.9 to web:8080\n";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("->  default  no rule matches\n"), "{text}");
    assert!(text.contains("->  web           the only one\n"), "{text}");
    assert_eq!(text.matches("  next by round_robin\n").count(), 1, "{text}");
    assert_eq!(text.matches("  later by round_robin\n").count(), 1, "{text}");

    assert_eq!(client::get(running.world.listener(8080), "/b?c").await.unwrap().status, 200);
    until("the line", || std::fs::read_to_string(&log).is_ok_and(|log| log.ends_with('\n'))).await;
    let line = std::fs::read_to_string(&log).unwrap();
    let (done, text) = explain(&running, &["--json", "--log", line.lines().next().unwrap()]);
    let said: roadstead::routing::Explanation = serde_json::from_str(&text).unwrap();
    assert!(done && said.listener == "web:8080", "{text}");
    assert_eq!(said.groups[0].targets.len(), 2);

    let (done, text) = explain(&running, &["http://a.test:9/"]);
    let expected = "roadstead: no HTTP listener is port 9; there are: web:8080\n";
    assert_eq!((done, text.as_str()), (false, expected));
    running.stop().await;
}
