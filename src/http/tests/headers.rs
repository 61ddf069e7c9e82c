//! What load balancers and listeners ask for beside the ordinary headers.

use super::world::*;
use crate::model::{
    Action, Carrier, Condition, FixedResponse, ForwardedFor, GroupRouting, RequestRules,
    ResponseRules, Rule, Stickiness,
};

const SENT: &str = "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 1.2.3.4\r\nX_Odd: 1\r\n\r\n";

/// The head that a target gets, in lower case, and the client's port.
async fn passed(carrier: Carrier, requests: RequestRules) -> (String, u16, u16) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(Plan { requests, ..Plan::of(carrier) }, &[("a", &target)]).await;
    let mut client = world.client().await;
    client.send(SENT).await;
    assert_eq!(client.response().await.status(), 200);
    (target.head(), client.port(), world.key.address.port())
}

async fn forwarded_for_is_appended_preserved_or_removed(carrier: Carrier) {
    let plain = RequestRules::default();
    let lines = |head: &str| {
        let own = head.lines().filter(|line| line.starts_with("x-forwarded-for:"));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    let (head, ..) = passed(carrier, plain).await;
    assert_eq!(lines(&head), ["x-forwarded-for: 1.2.3.4, 127.0.0.1"]);
    let (head, port, _) = passed(carrier, RequestRules { client_port: true, ..plain }).await;
    assert_eq!(lines(&head), [format!("x-forwarded-for: 1.2.3.4, 127.0.0.1:{port}")]);
    let rules = RequestRules { forwarded_for: ForwardedFor::Preserve, ..plain };
    let (head, ..) = passed(carrier, rules).await;
    assert_eq!(lines(&head), ["x-forwarded-for: 1.2.3.4"]);
    let rules = RequestRules { forwarded_for: ForwardedFor::Remove, ..plain };
    let (head, ..) = passed(carrier, rules).await;
    assert_eq!(lines(&head), [""; 0]);
    assert!(head.contains("x-forwarded-proto: http"), "{head}");
}

async fn hosts_and_odd_names_pass_as_asked_for(carrier: Carrier) {
    let plain = RequestRules::default();
    let (head, _, listener) = passed(carrier, plain).await;
    assert!(
        head.contains(&format!("host: t:{listener}\r\n")) && head.contains("x_odd: 1"),
        "{head}"
    );
    let rules = RequestRules { preserve_host: true, drop_invalid: true, ..plain };
    let (head, ..) = passed(carrier, rules).await;
    assert!(head.contains("host: t\r\n") && !head.contains("x_odd"), "{head}");
}

async fn listeners_put_headers_into_responses(carrier: Carrier) {
    let target = Target::new(|_| {
        Act::Send(
            "HTTP/1.1 200 OK\r\nServer: theirs\r\nx-frame-options: SAMEORIGIN\r\n\
             Content-Length: 0\r\n\r\n"
                .into(),
        )
    })
    .await;
    let answer = FixedResponse { status: 404, content_type: String::new(), body: String::new() };
    let rules = || -> Vec<Rule> {
        let condition = Condition::PathPattern(vec!["/own".into()]);
        vec![rule(1, condition, Action::FixedResponse(answer.clone()))]
    };
    let insert = [("X-Frame-Options".to_owned(), "DENY".to_owned())].into_iter().collect();
    let responses = ResponseRules { hide_server: true, insert, compression: None };
    let plan = Plan { responses, rules: rules(), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.client().await;
    for (path, status) in [("/", 200), ("/own", 404)] {
        let response = client.get(path).await;
        let head = response.head.to_ascii_lowercase();
        assert_eq!(response.status(), status);
        assert_eq!(head.matches("x-frame-options: ").count(), 1, "{head}");
        assert!(head.contains("x-frame-options: deny") && !head.contains("server:"), "{head}");
    }
    let plain = World::new(Plan { rules: rules(), ..Plan::of(carrier) }, &[("a", &target)]).await;
    assert_eq!(plain.get("/").await.header("server"), Some("theirs"));
    assert_eq!(plain.get("/own").await.header("server"), Some("roadstead"));
}

/// Also where nothing became a request, and where a response begins a tunnel.
async fn refusals_and_tunnels_have_the_listeners_headers(carrier: Carrier) {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nServer: theirs\r\n\r\n";
    let target = Target::new(move |_| Act::Echo(switched.into())).await;
    let insert = [("X-Frame-Options".to_owned(), "DENY".to_owned())].into_iter().collect();
    let responses = ResponseRules { hide_server: true, insert, compression: None };
    let stickiness = Stickiness { enabled: true, ..Stickiness::default() };
    let routing = GroupRouting { stickiness, ..GroupRouting::default() };
    let plan = Plan { responses, routing, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nA\0: b\r\n\r\n").await;
    let refused = client.response().await;
    assert_eq!((refused.status(), refused.header("connection")), (400, Some("close")));
    assert!(refused.header("x-roadstead-reason").is_some(), "{}", refused.head);
    assert_eq!((refused.header("x-frame-options"), refused.header("server")), (Some("DENY"), None));
    let mut client = world.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    let tunnel = client.head().await.unwrap();
    assert_eq!((tunnel.status(), tunnel.header("x-frame-options")), (101, Some("DENY")));
    assert_eq!(tunnel.header("server"), None);
    assert!(tunnel.header("set-cookie").unwrap().starts_with("AWSALB="), "{}", tunnel.head);
}

on_both_carriers!(
    refusals_and_tunnels_have_the_listeners_headers,
    forwarded_for_is_appended_preserved_or_removed,
    hosts_and_odd_names_pass_as_asked_for,
    listeners_put_headers_into_responses,
);
