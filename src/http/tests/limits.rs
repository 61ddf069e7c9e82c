//! What bounds requests beside ALB's limits: retry budgets, rules' timeouts, rate limits.

use std::time::Duration;

use super::world::*;
use crate::clock;
use crate::model::{Carrier, Condition, GroupRouting, RateKey, RateLimit, RetryBudget, Rule};

const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn retries_end_with_the_budget(carrier: Carrier) {
    let retry_budget = RetryBudget { percent: 50, minimum_per_second: 0 };
    let routing = GroupRouting { retry_budget, ..GroupRouting::default() };
    let plan = Plan { routing, ..Plan::of(carrier) };
    let target = Target::new(|_| ok("a")).await;
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..8 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    world.register("a", nobody()).await;
    let (mut good, mut bad) = (0, 0);
    for _ in 0..40 {
        let answer = world.get("/").await;
        match answer.status() {
            200 => good += 1,
            _ => {
                assert_eq!(answer.header("x-roadstead-reason"), Some("TargetConnectionError"));
                bad += 1;
            }
        }
    }
    // Those that meet the one that is not there are retried for half of what has come.
    let metric = |name: &str| world.metric(&format!("roadstead_target_group_{name}"), "\"a\"");
    let (retries, refused) = (metric("retries_total"), metric("retries_refused_total"));
    assert_eq!((refused, good), (bad, 40 - bad));
    assert_eq!(metric("connection_errors_total"), retries + refused);
    let all = metric("requests_total");
    assert!(refused > 0 && retries > 0 && retries <= all / 2, "{retries} of {all}");
}

async fn without_a_budget_nothing_is_retried(carrier: Carrier) {
    let retry_budget = RetryBudget { percent: 0, minimum_per_second: 0 };
    let routing = GroupRouting { retry_budget, ..GroupRouting::default() };
    let world = World::new(Plan { routing, ..Plan::of(carrier) }, &[]).await;
    world.register("a", nobody()).await;
    world.register("a", nobody()).await;
    assert_eq!(world.get("/").await.status(), 502);
    assert_eq!(world.metric("roadstead_target_group_retries_refused_total", "\"a\""), 1);
    assert_eq!(world.metric("roadstead_target_group_connection_errors_total", "\"a\""), 1);
}

fn limited(key: RateKey, requests: u32, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { key, requests, per: Duration::from_secs(3600), burst })
}

async fn clients_beyond_a_limit_are_told_when_to_come_again(carrier: Carrier) {
    let on_path = rule(7, Condition::PathPattern(vec!["/few/*".into()]), forward("a"));
    let few = Rule { rate_limit: limited(RateKey::Header("X-Key".into()), 36, 1), ..on_path };
    let plan = Plan {
        rules: vec![few],
        rate_limit: limited(RateKey::SourceIp, 60, 5),
        log: true,
        ..Plan::of(carrier)
    };
    let target = Target::new(|_| ok("a")).await;
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.client().await;
    let mut statuses = Vec::new();
    for key in ["x", "x", "y", "y", "z"] {
        client.send(&format!("GET /few/ HTTP/1.1\r\nHost: t\r\nX-Key: {key}\r\n\r\n")).await;
        statuses.push(client.response().await.status());
    }
    assert_eq!(statuses, [200, 429, 200, 429, 200]);
    // The listener's burst is over for this client, whatever it asks for.
    let last = client.get("/").await;
    assert_eq!(last.status(), 429);
    assert_eq!(last.header("x-roadstead-reason"), Some("RateLimited"));
    let after: u32 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&after), "{after}");
    assert_eq!(last.header("connection"), Some("keep-alive"), "it costs no connection");
    assert_eq!(target.requests(), 3);
    let refused = |rule: &str| {
        let label = format!("rule=\"{rule}\"");
        world.metric("roadstead_listener_rate_limited_requests_total", &label)
    };
    assert_eq!([refused("7"), refused("listener")], [2, 1]);
    assert_eq!(world.metric("roadstead_listener_own_responses_total", "code=\"429\""), 3);
    drop(client);
    let lines = world.logged(6).await;
    assert_eq!(lines.iter().filter(|line| line.contains("\"RateLimited\"")).count(), 3);
}

on_both_carriers!(
    retries_end_with_the_budget,
    without_a_budget_nothing_is_retried,
    clients_beyond_a_limit_are_told_when_to_come_again,
);

fn with_timeout(timeout: Duration, log: bool) -> Plan {
    let on_path = rule(1, Condition::PathPattern(vec!["/slow/*".into()]), forward("a"));
    let hurried = Rule { timeout: Some(timeout), ..on_path };
    Plan { rules: vec![hurried], log, ..Plan::of(Carrier::Native) }
}

#[tokio::test]
async fn a_rules_timeout_is_for_the_whole_head() {
    let plan = with_timeout(Duration::from_millis(300), true);
    let (world, listener) = by_hand(plan).await;
    // It trickles its head: that is no progress.
    let trickle = async {
        let mut target = accept(&listener).await;
        target.message().await.unwrap();
        for byte in LONG.bytes() {
            target.send_bytes(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let begun = clock::instant();
    let (answer, ()) = tokio::join!(world.get("/slow/a"), trickle);
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.header("x-roadstead-reason"), Some("RuleTimeout"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let lines = world.logged(1).await;
    assert!(lines[0].contains("\"RuleTimeout\""), "{}", lines[0]);
    assert_eq!(world.metric("roadstead_target_group_retries_total", "\"a\""), 0);
}

#[tokio::test]
async fn a_rules_timeout_leaves_bodies_and_other_rules_alone() {
    let timeout = Duration::from_secs(2);
    let plan = with_timeout(timeout, false);
    let (world, listener) = by_hand(plan).await;
    let target = async {
        let mut target = accept(&listener).await;
        target.message().await.unwrap();
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
        tokio::time::sleep(timeout + timeout / 4).await;
        target.send("k").await;
        target.message().await.unwrap();
        tokio::time::sleep(timeout + timeout / 4).await;
        target.send(LONG).await;
    };
    let client = async {
        let mut client = world.client().await;
        assert_eq!(client.get("/slow/").await.body, "ok");
        assert_eq!(client.get("/").await.body, "ok");
    };
    tokio::join!(target, client);
}
