//! Who gets a request: stickiness, algorithms, thresholds.

use std::time::Duration;

use super::world::*;
use crate::model::{
    Action, Algorithm, Carrier, GroupRouting, GroupStickiness, Stickiness, StickinessKind,
    VerdictState, WeightedGroup,
};

/// A target that answers with its name.
async fn named(name: &'static str) -> Target {
    Target::new(move |_| ok(name)).await
}

/// The values of the cookies that a response sets, by name.
fn cookies(response: &Response) -> Vec<(String, String)> {
    let lines = response.head.lines().filter_map(|line| line.split_once(": "));
    let set = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let pairs = set.filter_map(|(_, value)| value.split(';').next()?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn cookie(response: &Response, name: &str) -> Option<String> {
    let found = cookies(response).into_iter().find(|(own, _)| own == name);
    found.map(|(_, value)| value)
}

async fn with_cookies(client: &mut Client, cookies: &str) -> Response {
    client.send(&format!("GET / HTTP/1.1\r\nHost: t\r\nCookie: {cookies}\r\n\r\n")).await;
    client.response().await
}

fn sticky(kind: StickinessKind) -> GroupRouting {
    let cookie_name = "sid".to_owned();
    let stickiness = Stickiness { enabled: true, kind, cookie_name, ..Stickiness::default() };
    GroupRouting { stickiness, ..GroupRouting::default() }
}

async fn a_cookie_binds_a_client_to_its_target(carrier: Carrier) {
    let (one, two) = (named("one").await, named("two").await);
    let plan = Plan { routing: sticky(StickinessKind::LbCookie), ..Plan::of(carrier) };
    let world = World::new(plan, &[]).await;
    let ids = [world.register("a", one.address).await, world.register("a", two.address).await];
    let mut client = world.client().await;
    let first = client.get("/").await;
    let lines: Vec<_> = first.head.lines().filter(|line| line.contains("AWSALB")).collect();
    assert_eq!(lines.len(), 2, "{}", first.head);
    assert!(lines[0].contains("; Expires=") && lines[0].ends_with("GMT; Path=/"), "{lines:?}");
    assert!(lines[1].ends_with("; Path=/; SameSite=None; Secure"), "{lines:?}");
    let sealed = cookie(&first, "AWSALB").unwrap();
    assert_eq!(cookie(&first, "AWSALBCORS").as_ref(), Some(&sealed));
    for sent in [format!("AWSALB={sealed}"), format!("a=b; AWSALBCORS={sealed}")] {
        for _ in 0..5 {
            let again = with_cookies(&mut client, &sent).await;
            assert_eq!(again.body, first.body);
            assert!(cookie(&again, "AWSALB").is_some(), "renewed with each response");
        }
    }
    let mut seen: Vec<_> = Vec::new();
    for sent in ["", "AWSALB=nonsense", "", "AWSALB="] {
        seen.push(with_cookies(&mut client, sent).await.body);
    }
    assert!(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned()), "{seen:?}");
    // The last period's key still opens; what comes back is sealed by the new one.
    world.add_key("second", 2).await;
    let renewed = with_cookies(&mut client, &format!("AWSALB={sealed}")).await;
    assert_eq!(renewed.body, first.body);
    // Draining: chosen anew, told so, and it stays there.
    let (drained, other) = if first.body == "one" { (ids[0], "two") } else { (ids[1], "one") };
    world.judge(drained, VerdictState::Unhealthy);
    let moved = with_cookies(&mut client, &format!("AWSALB={sealed}")).await;
    assert_eq!(moved.body, other, "unhealthy");
    world.judge(drained, VerdictState::Healthy);
    let kept = format!("AWSALB={}", cookie(&moved, "AWSALB").unwrap());
    for _ in 0..3 {
        assert_eq!(with_cookies(&mut client, &kept).await.body, other);
    }
    world.drain(drained).await;
    assert_eq!(with_cookies(&mut client, &format!("AWSALB={sealed}")).await.body, other);
}

async fn an_applications_cookie_binds_a_client(carrier: Carrier) {
    let login = |name: &'static str| {
        Target::new(move |request: &Response| {
            let set = if request.head.contains("/login") { "Set-Cookie: sid=1\r\n" } else { "" };
            let length = name.len();
            Act::Send(format!("HTTP/1.1 200 OK\r\n{set}Content-Length: {length}\r\n\r\n{name}"))
        })
    };
    let (one, two) = (login("one").await, login("two").await);
    let plan = Plan { routing: sticky(StickinessKind::AppCookie), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &one), ("a", &two)]).await;
    let mut client = world.client().await;
    assert_eq!(cookies(&client.get("/").await), []);
    let first = client.get("/login").await;
    let names: Vec<_> = cookies(&first).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sid", "AWSALBAPP-0"]);
    let sent = format!("sid=1; AWSALBAPP-0={}", cookie(&first, "AWSALBAPP-0").unwrap());
    for _ in 0..5 {
        let again = with_cookies(&mut client, &sent).await;
        assert_eq!((again.body.as_str(), cookies(&again).len()), (first.body.as_str(), 0));
    }
    // A session without its bond gets a new one.
    let anew = with_cookies(&mut client, "sid=1; AWSALBAPP-0=x").await;
    assert!(cookie(&anew, "AWSALBAPP-0").is_some(), "{}", anew.head);
}

async fn a_client_stays_with_its_group(carrier: Carrier) {
    let (a, b) = (named("a").await, named("b").await);
    let weighted = |group: &str| WeightedGroup { group: group.into(), weight: 1 };
    let plan = Plan {
        default_action: Some(Action::Forward(vec![weighted("a"), weighted("b")])),
        stickiness: GroupStickiness { enabled: true, duration: Some(Duration::from_secs(60)) },
        ..Plan::of(carrier)
    };
    let world = World::new(plan, &[]).await;
    let ids = [world.register("a", a.address).await, world.register("b", b.address).await];
    let mut client = world.client().await;
    let first = client.get("/").await;
    let names: Vec<_> = cookies(&first).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["AWSALBTG", "AWSALBTGCORS"]);
    let sent = format!("AWSALBTG={}", cookie(&first, "AWSALBTG").unwrap());
    for _ in 0..20 {
        let again = with_cookies(&mut client, &sent).await;
        assert_eq!((again.body.as_str(), cookies(&again).len()), (first.body.as_str(), 0));
    }
    // Nobody is left there.
    let (gone, other) = if first.body == "a" { (ids[0], "b") } else { (ids[1], "a") };
    world.drain(gone).await;
    let mut seen = Vec::new();
    until_other(&mut client, &sent, other, &mut seen).await;
    assert!(seen.iter().all(|status| [200, 503].contains(status)), "{seen:?}");
}

/// Chosen by weight again: soon the other group comes, with a new bond.
async fn until_other(client: &mut Client, sent: &str, other: &str, seen: &mut Vec<u16>) {
    for _ in 0..200 {
        let response = with_cookies(client, sent).await;
        seen.push(response.status());
        if response.body == other {
            assert!(cookie(&response, "AWSALBTG").is_some());
            return;
        }
    }
    panic!("the other group never came: {seen:?}");
}

async fn without_stickiness_no_cookie_is_set(carrier: Carrier) {
    let target = named("one").await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    assert_eq!(cookies(&world.get("/").await), []);
}

async fn the_idlest_target_gets_the_request(carrier: Carrier) {
    let busy = Target::new(
        |request| {
            if request.head.contains("/slow") { Act::Silence } else { ok("busy") }
        },
    )
    .await;
    let idle = named("idle").await;
    let algorithm = Algorithm::LeastOutstandingRequests;
    let routing = GroupRouting { algorithm, ..GroupRouting::default() };
    let plan = Plan { routing, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &busy)]).await;
    let mut waiting = world.client().await;
    waiting.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").await;
    until("the slow request is there", || busy.requests() == 1).await;
    world.register("a", idle.address).await;
    for _ in 0..5 {
        assert_eq!(world.get("/").await.body, "idle");
    }
}

async fn unhealthy_targets_help_when_too_few_are_healthy(carrier: Carrier) {
    let (one, two) = (named("one").await, named("two").await);
    let routing = GroupRouting { minimum_healthy: 2, ..GroupRouting::default() };
    let world = World::new(Plan { routing, ..Plan::of(carrier) }, &[]).await;
    world.register("a", one.address).await;
    let second = world.register("a", two.address).await;
    world.judge(second, VerdictState::Unhealthy);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(world.get("/").await.body);
    }
    seen.sort();
    assert_eq!(seen, ["one", "one", "two", "two"]);
}

on_both_carriers!(
    a_cookie_binds_a_client_to_its_target,
    an_applications_cookie_binds_a_client,
    a_client_stays_with_its_group,
    without_stickiness_no_cookie_is_set,
    the_idlest_target_gets_the_request,
    unhealthy_targets_help_when_too_few_are_healthy,
);
