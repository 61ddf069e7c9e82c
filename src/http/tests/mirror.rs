//! Copies of requests for another group.

use super::world::*;
use crate::model::{Carrier, Condition, Mirror, Rule};

fn plan(percent: u32, max_body: u64) -> Plan {
    let all = rule(1, Condition::PathPattern(vec!["/*".into()]), forward("a"));
    let mirror = Some(Mirror { group: "b".into(), percent, max_body });
    Plan { rules: vec![Rule { mirror, ..all }], ..Plan::of(Carrier::Native) }
}

fn mirrored(world: &World, outcome: &str) -> u64 {
    let label = format!("\"b\",outcome=\"{outcome}\"");
    let label = label.replace("\"b\",outcome", "outcome");
    let text = world.metrics.render().unwrap();
    let name = "roadstead_target_group_mirrored_requests_total{";
    let mut lines = text.lines().filter(|line| line.starts_with(name) && line.contains("\"b\""));
    let line = lines.find(|line| line.contains(&label));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn another_group_gets_copies_and_nobody_waits_for_it() {
    let target = Target::new(|request| ok(&request.body)).await;
    let shadow = Target::new(|_| Act::Silence).await;
    let world = World::new(plan(100, 10), &[("a", &target), ("b", &shadow)]).await;
    let mut client = world.client().await;
    assert_eq!(client.get("/1?x").await.status(), 200);
    assert_eq!(client.post("/2", "body").await.body, "body");
    let chunks = "PUT /3 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    client.send(chunks).await;
    assert_eq!(client.response().await.body, "abcde");
    until("the copies", || shadow.requests() == 3).await;
    let mut seen: Vec<_> = {
        let seen = shadow.seen.requests.lock().unwrap();
        seen.iter().map(|request| (request.head.clone(), request.body.clone())).collect()
    };
    seen.sort();
    let lines: Vec<_> =
        seen.iter().map(|(head, body)| (head.lines().next().unwrap(), body.as_str())).collect();
    let expected =
        [("GET /1?x HTTP/1.1", ""), ("POST /2 HTTP/1.1", "body"), ("PUT /3 HTTP/1.1", "abcde")];
    assert_eq!(lines, expected);
    assert!(seen[0].0.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{}", seen[0].0);
    // What is too long is not copied.
    assert_eq!(client.post("/4", "more than ten").await.body, "more than ten");
    assert_eq!(mirrored(&world, "dropped"), 1);
    assert_eq!((target.requests(), shadow.requests()), (4, 3));
}

#[tokio::test]
async fn copies_are_counted_by_what_became_of_them() {
    let target = Target::new(|_| ok("a")).await;
    let shadow = Target::new(|_| Act::Last("HTTP/1.1 500 No\r\n\r\n".into())).await;
    let world = World::new(plan(100, 10), &[("a", &target), ("b", &shadow)]).await;
    assert_eq!(world.get("/").await.body, "a");
    until("the answer", || mirrored(&world, "answered") == 1).await;
    let world = World::new(plan(100, 10), &[("a", &target)]).await;
    assert_eq!(world.get("/").await.body, "a");
    assert_eq!(mirrored(&world, "dropped"), 1);
    world.register("b", nobody()).await;
    assert_eq!(world.get("/").await.body, "a");
    until("the failure", || mirrored(&world, "failed") == 1).await;
    world.at_rest().await;
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied() {
    let target = Target::new(|_| ok("a")).await;
    let shadow = Target::new(|_| Act::Last("HTTP/1.1 200 OK\r\n\r\n".into())).await;
    let world = World::new(plan(30, 10), &[("a", &target), ("b", &shadow)]).await;
    let mut client = world.client().await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    until("the copies have ended", || world.in_flight() == 0).await;
    let copies = mirrored(&world, "answered") + mirrored(&world, "dropped");
    assert!((40..150).contains(&copies), "{copies}");
}
