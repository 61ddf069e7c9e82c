//! Rules, transforms, redirects, cookies and inserted headers over clients' HTTP/2.

use http::{Method, Request};

use super::h2::{Peer, request};
use super::world::*;
use crate::model::{
    Action, Carrier, Condition, GroupRouting, Redirect, ResponseRules, Rewrite, Rule, Stickiness,
    StickinessKind, Transforms,
};

fn with(path: &str, name: &str, value: &str) -> Request<()> {
    let mut request = request(Method::GET, path);
    let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn what_rules_say_holds_for_http_2_as_well() {
    let (a, b) = (Target::new(|_| ok("a")).await, Target::new(|_| ok("b")).await);
    let pattern = |text: &str| Condition::PathPattern(vec![text.to_owned()]);
    let beta = Condition::HttpHeader { name: "X-Beta".into(), values: vec!["yes*".into()] };
    let rewrite =
        |regex: &str, replace: &str| Some(Rewrite { regex: regex.into(), replace: replace.into() });
    let transforms = Transforms {
        host_header: rewrite("^(.*)$", "$1.internal"),
        url: rewrite("^/api/(.*)$", "/$1"),
    };
    let responses = ResponseRules {
        hide_server: true,
        insert: [("X-Frame-Options".to_owned(), "DENY".to_owned())].into(),
        compression: None,
    };
    let plan = Plan {
        rules: vec![
            rule(1, beta, forward("b")),
            Rule { transforms, ..rule(2, pattern("/api/*"), forward("b")) },
            rule(3, pattern("/old"), Action::Redirect(Redirect::to_itself(301))),
        ],
        responses,
        ..Plan::of(Carrier::Native)
    };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let port = world.key.address.port();
    let mut peer = Peer::new(&world).await;
    assert_eq!(peer.get("/").await.body, "a");
    let answer = peer.ask(with("/", "x-beta", "yes, please"), "").await.unwrap();
    assert_eq!(answer.body, "b");
    assert_eq!(answer.headers["x-frame-options"], "DENY");
    assert!(!answer.headers.contains_key("server"), "{:?}", answer.headers);
    assert_eq!(peer.get("/api/x?y=z").await.body, "b");
    let head = b.head();
    assert!(head.starts_with("get /x?y=z http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: test.internal:{port}\r\n")), "{head}");
    assert_eq!(head.matches("host: ").count(), 1, "{head}");
    let moved = peer.get("/old").await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.headers["location"], format!("http://test:{port}/old").as_str());
    assert_eq!(moved.headers["x-frame-options"], "DENY");
    assert!(!moved.headers.contains_key("server"), "{:?}", moved.headers);
}

#[tokio::test]
async fn rules_look_at_the_headers_that_clients_send() {
    let (a, b) = (Target::new(|_| ok("a")).await, Target::new(|_| ok("b")).await);
    let header = |name: &str, value: &str| Condition::HttpHeader {
        name: name.into(),
        values: vec![value.to_owned()],
    };
    let plan = Plan {
        rules: vec![
            rule(1, header("X-Forwarded-For", "*"), forward("b")),
            rule(2, header("X-Forwarded-Proto", "*"), forward("b")),
            rule(3, header("Cookie", "a=b; c=d"), forward("b")),
        ],
        ..Plan::of(Carrier::Native)
    };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let mut peer = Peer::new(&world).await;
    // What we add is not the client's.
    assert_eq!(peer.get("/").await.body, "a");
    assert_eq!(peer.ask(with("/", "x-forwarded-for", "10.0.0.1"), "").await.unwrap().body, "b");
    assert_eq!(peer.ask(with("/", "x-forwarded-proto", "x"), "").await.unwrap().body, "b");
    let mut crumbs = with("/", "cookie", "a=b");
    crumbs.headers_mut().append("cookie", "c=d".parse().unwrap());
    assert_eq!(peer.ask(crumbs, "").await.unwrap().body, "b");
}

#[tokio::test]
async fn a_cookie_binds_a_client_of_http_2() {
    let (one, two) = (Target::new(|_| ok("one")).await, Target::new(|_| ok("two")).await);
    let stickiness =
        Stickiness { enabled: true, kind: StickinessKind::LbCookie, ..Stickiness::default() };
    let routing = GroupRouting { stickiness, ..GroupRouting::default() };
    let plan = Plan { routing, ..Plan::of(Carrier::Native) };
    let world = World::new(plan, &[("a", &one), ("a", &two)]).await;
    let mut peer = Peer::new(&world).await;
    let first = peer.get("/").await;
    let set: Vec<_> = first.headers.get_all("set-cookie").iter().collect();
    assert_eq!(set.len(), 2, "{set:?}");
    let cookie = set[0].to_str().unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..5 {
        let again = peer.ask(with("/", "cookie", &cookie), "").await.unwrap();
        assert_eq!(again.body, first.body);
    }
}
