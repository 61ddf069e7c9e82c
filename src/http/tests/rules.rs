//! Rules, transforms and actions on the wire.

use super::world::*;
use crate::model::{Action, Carrier, Condition, QueryValue, Redirect, Rewrite, Rule, Transforms};

/// A target that answers with its name.
async fn named(name: &'static str) -> Target {
    Target::new(move |_| ok(name)).await
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

async fn every_kind_of_condition_chooses(carrier: Carrier) {
    let (a, b) = (named("a").await, named("b").await);
    let query = QueryValue { key: Some("v".into()), value: "2".into() };
    let header = || "X-Beta".to_owned();
    let plan = Plan {
        rules: vec![
            rule(1, Condition::SourceIp(texts(&["10.0.0.0/8"])), forward("a")),
            rule(2, Condition::HttpRequestMethod(texts(&["PUT"])), forward("b")),
            rule(3, Condition::QueryString(vec![query]), forward("b")),
            rule(4, Condition::PathRegex(texts(&["^/v[0-9]+/"])), forward("b")),
            rule(5, Condition::HostRegex(texts(&["^beta[.]"])), forward("b")),
            rule(
                6,
                Condition::HttpHeader { name: header(), values: texts(&["yes*"]) },
                forward("b"),
            ),
            rule(
                7,
                Condition::HeaderRegex { name: "user-agent".into(), values: texts(&["curl/[89]"]) },
                forward("b"),
            ),
            Rule::new(
                "8".into(),
                8,
                vec![
                    Condition::SourceIp(texts(&["127.0.0.0/8"])),
                    Condition::PathPattern(texts(&["/local"])),
                ],
                forward("b"),
            ),
        ],
        ..Plan::of(carrier)
    };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let mut client = world.client().await;
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: t", "a"),
        ("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 0", "b"),
        ("GET /?a=b&V=2 HTTP/1.1\r\nHost: t", "b"),
        ("GET /?a=b&v=3 HTTP/1.1\r\nHost: t", "a"),
        ("GET /v12/x HTTP/1.1\r\nHost: t", "b"),
        ("GET /x/v12/x HTTP/1.1\r\nHost: t", "a"),
        ("GET / HTTP/1.1\r\nHost: Beta.t:80", "b"),
        ("GET / HTTP/1.1\r\nHost: t\r\nx-beta: no\r\nX-BETA: YES!", "b"),
        ("GET / HTTP/1.1\r\nHost: t\r\nX-Beta: no", "a"),
        ("GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: curl/8.1", "b"),
        ("GET /local HTTP/1.1\r\nHost: t", "b"),
    ] {
        client.send(&format!("{request}\r\n\r\n")).await;
        assert_eq!(client.response().await.body, expected, "{request}");
    }
}

async fn redirects_name_where_to_go(carrier: Carrier) {
    let (any, all) = (|| Condition::PathPattern(texts(&["/old/*"])), Redirect::to_itself(301));
    let secure = Redirect { protocol: "HTTPS".into(), port: "443".into(), ..all.clone() };
    let moved = Redirect { status: 302, path: "/new/#{path}".into(), ..all };
    let plan = Plan {
        rules: vec![rule(1, any(), Action::Redirect(moved))],
        default_action: Some(Action::Redirect(secure)),
        log: true,
        ..Plan::of(carrier)
    };
    let world = World::new(plan, &[]).await;
    let mut client = world.client().await;
    let port = world.key.address.port();
    let found = client.get("/old/x?y=z").await;
    assert_eq!((found.status(), found.header("connection")), (302, Some("keep-alive")));
    let location = format!("http://test:{port}/new/old/x?y=z");
    assert_eq!(found.header("location"), Some(location.as_str()));
    let moved = client.get("/a").await;
    assert_eq!((moved.status(), moved.header("location")), (301, Some("https://test:443/a")));
    let long = client.get(&format!("/old/{}", "x".repeat(9_000))).await;
    assert_eq!(long.status(), 507);
    drop(client);
    let lines = world.logged(3).await;
    assert!(lines[0].contains(&format!("\"redirect\" \"{location}\" \"-\"")), "{}", lines[0]);
    assert!(lines[2].contains("\"redirect\" \"-\" \"RedirectLocationTooLong\""), "{}", lines[2]);
}

async fn transforms_change_what_targets_get(carrier: Carrier) {
    let (a, b) = (named("a").await, Target::new(|request| ok(&request.body)).await);
    let rewrite =
        |regex: &str, replace: &str| Some(Rewrite { regex: regex.into(), replace: replace.into() });
    let on = |priority, pattern: &str, transforms| {
        let plain = rule(priority, Condition::PathPattern(texts(&[pattern])), forward("b"));
        Rule { transforms, ..plain }
    };
    let both = Transforms {
        host_header: rewrite(r"^(.*)\.test$", "$1.internal"),
        url: rewrite("^/api/(.*)$", "/$1"),
    };
    let broken = Transforms { host_header: None, url: rewrite("^/", "") };
    let plan = Plan {
        rules: vec![on(1, "/api/*", both), on(2, "/broken", broken)],
        log: true,
        ..Plan::of(carrier)
    };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let port = world.key.address.port();
    for _ in 0..2 {
        let mut client = world.client().await;
        client
            .send(
                "PUT /api/x?y=z HTTP/1.1\r\nHost: My.test\r\nExpect: 100-continue\r\n\
                 Content-Length: 4\r\n\r\n",
            )
            .await;
        assert_eq!(client.head().await.unwrap().status(), 100);
        client.send("body").await;
        assert_eq!(client.response().await.body, "body");
        let head = b.head();
        assert!(head.starts_with("put /x?y=z http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: my.internal:{port}\r\n")), "{head}");
        assert_eq!(head.matches("host: ").count(), 1, "{head}");
    }
    let mut client = world.client().await;
    // Neither matches: both stay.
    assert_eq!(client.get("/api").await.body, "a");
    let broken = client.get("/broken").await;
    assert_eq!((broken.status(), broken.header("connection")), (500, Some("keep-alive")));
    assert_eq!(client.get("/").await.body, "a");
    assert_eq!(world.in_flight(), 0);
    drop(client);
    let lines = world.logged(5).await;
    assert!(lines[0].ends_with(r#" "My.internal" "/x?y=z" "TransformSuccess""#), "{}", lines[0]);
    assert!(lines[2].ends_with(r#" "-" "-" "-""#), "{}", lines[2]);
    assert!(lines[3].contains("\"TransformFailed\""), "{}", lines[3]);
    assert!(lines[3].ends_with(r#""-" "-" "TransformInvalidHttpString""#), "{}", lines[3]);
}

async fn a_retry_is_rewritten_too(carrier: Carrier) {
    let target = named("b").await;
    let url = Some(Rewrite { regex: "^/a".into(), replace: "/b".into() });
    let plain = rule(1, Condition::PathPattern(texts(&["/a*"])), forward("b"));
    let rewriting = Rule { transforms: Transforms { host_header: None, url }, ..plain };
    let plan = Plan { rules: vec![rewriting], ..Plan::of(carrier) };
    let world = World::new(plan, &[]).await;
    world.register("b", nobody()).await;
    world.register("b", target.address).await;
    for n in 0..4 {
        assert_eq!(world.get(&format!("/a{n}")).await.body, "b");
        assert!(target.head().starts_with(&format!("get /b{n} ")), "{}", target.head());
    }
}

on_both_carriers!(
    every_kind_of_condition_chooses,
    redirects_name_where_to_go,
    transforms_change_what_targets_get,
    a_retry_is_rewritten_too,
);
