//! What passes when all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::world::*;
use crate::model::{Carrier, ListenerKey};
use crate::state::Key;

async fn both_sides_keep_their_connections(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..20 {
        let response = client.get("/").await;
        assert_eq!((response.status(), response.body.as_str()), (200, "hello"));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    for _ in 0..5 {
        assert_eq!(world.get("/").await.status(), 200);
    }
    assert_eq!((target.requests(), target.connections()), (25, 1));
    drop(client);
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_requests_total", "2xx"), 25);
    assert_eq!(world.metric("roadstead_target_group_requests_total", "\"a\""), 25);
    assert_eq!(world.metric("roadstead_target_group_responses_total", "2xx"), 25);
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".len() as u64;
    assert_eq!(world.metric("roadstead_listener_received_bytes_total", ""), 25 * request);
    assert!(world.metric("roadstead_listener_sent_bytes_total", "") > 25 * 50);
}

async fn targets_get_who_asked_and_what_for(carrier: Carrier) {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client
        .send(
            "GET /x?y HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 1.2.3.4\r\n\
             X-Forwarded-Proto: https\r\nConnection: keep-alive, X-Secret\r\nX-Secret: a\r\n\
             Keep-Alive: 5\r\nUpgrade: h2c\r\n\
             X-Amzn-Trace-Id: Root=1-5-a\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status(), 200);
    let (head, port) = (target.head(), world.key.address.port());
    assert!(head.starts_with("get /x?y http/1.1\r\n"), "{head}");
    for line in [
        format!("host: test:{port}"),
        "x-forwarded-for: 1.2.3.4, 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        format!("x-forwarded-port: {port}"),
    ] {
        assert_eq!(head.lines().filter(|own| **own == line).count(), 1, "{line}: {head}");
    }
    assert!(head.contains("x-amzn-trace-id: self=1-") && head.contains(";root=1-5-a"), "{head}");
    for gone in ["x-secret", "keep-alive", "upgrade", "connection"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    client.get("/").await;
    assert!(target.head().contains("x-amzn-trace-id: root=1-"), "{}", target.head());
}

async fn rules_choose_the_group(carrier: Carrier) {
    let (a, b) = (Target::new(|_| ok("a")).await, Target::new(|_| ok("b")).await);
    let plan = Plan { rules: ordinary_rules(), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &a), ("b", &b)]).await;
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.body, "a");
    assert_eq!(client.get("/b/x?/").await.body, "b");
    client.send("GET / HTTP/1.1\r\nHost: B.test:80\r\n\r\n").await;
    assert_eq!(client.response().await.body, "b");
    client.send("GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(client.response().await.body, "b");
    assert!(b.head().starts_with("get / http/1.1\r\n"), "{}", b.head());
    let tea = client.get("/tea").await;
    assert_eq!((tea.status(), tea.body.as_str()), (418, "short and stout"));
    assert_eq!(tea.header("content-type"), Some("text/plain"));
    assert_eq!(client.get("/").await.body, "a", "a fixed response keeps the connection");
}

async fn chunks_pass_both_ways(carrier: Carrier) {
    let target = Target::new(|request| {
        let (first, second) = request.body.split_at(3);
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        Act::Send(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
            chunk(first),
            chunk(second)
        ))
    })
    .await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client
            .send("PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
            .await;
        until("the first chunk has left", || target.connections() == 1).await;
        client.send("3\r\nefg\r\n0\r\n\r\n").await;
        assert_eq!(client.response().await.body, "abcdefg");
    }
    assert_eq!(client.post("/", &"x".repeat(300_000)).await.body.len(), 300_000);
    assert_eq!(target.connections(), 1);
}

async fn head_has_no_body(carrier: Carrier) {
    let target =
        Target::new(|_| Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    for path in ["/1", "/2"] {
        client.send(&format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        let head = client.head().await.unwrap();
        assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
    }
    assert_eq!(target.connections(), 1);
}

async fn continue_is_answered_here(carrier: Carrier) {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status(), 100);
    client.send("body").await;
    assert_eq!(client.response().await.body, "body");
    assert!(!target.head().contains("expect"), "{}", target.head());
}

async fn http_1_0_gets_neither_chunks_nor_a_second_request(carrier: Carrier) {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let target = Target::new(|_| Act::Send(chunked.into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status(), response.body.as_str()), (200, "hi"));
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.header("connection"), Some("close"));
    world.at_rest().await;
}

async fn pipelined_requests_are_answered_in_order(carrier: Carrier) {
    let target = Target::new(|request| ok(request.head.split(' ').nth(1).unwrap())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    let request = |n| format!("POST /{n} HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc");
    client.send(&(1..=5).map(request).collect::<String>()).await;
    for n in 1..=5 {
        assert_eq!(client.response().await.body, format!("/{n}"));
    }
    assert!(target.seen.requests.lock().unwrap().iter().all(|request| request.body == "abc"));
}

async fn upgraded_connections_carry_bytes_both_ways(carrier: Carrier) {
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let target = Target::new(|_| Act::Echo(answer.into())).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status(), head.header("upgrade")), (101, Some("websocket")));
    for text in ["ping", "pong", &"x".repeat(100_000)] {
        client.send(text).await;
        assert_eq!(client.take(text.len()).await.unwrap(), *text);
    }
    assert_eq!(world.in_flight(), 1, "a tunnel is an exchange under way");
    drop(client);
    world.at_rest().await;
}

async fn http_2_is_served_by_prior_knowledge(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    // Preface, empty SETTINGS, then HEADERS of stream 1 with END_STREAM and END_HEADERS: GET, http,
    // /, authority.
    let block = [0x82, 0x86, 0x84, 0x41, 1, b't'];
    let mut bytes = super::super::head::PREFACE.to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    client.send_bytes(&bytes).await;
    let found = client.until_bytes(b"hello").await;
    assert!(found, "no body came");
    assert!(target.head().contains("x-forwarded-for: 127.0.0.1"), "{}", target.head());
    world.closing.cancel();
    world.at_rest().await;
    assert!(client.until_bytes(&[7, 0, 0, 0, 0, 0]).await, "no GOAWAY came");
}

async fn what_left_the_state_ends_its_connections(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let world = World::new(Plan::of(carrier), &[]).await;
    let id = world.register("a", target.address).await;
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(world.plane.pooled(), 1);
    world.remove(vec![Key::Target(id)]).await;
    until("the idle connection is closed", || target.seen.open.load(Ordering::SeqCst) == 0).await;
    until("it is forgotten", || world.plane.pooled() == 0).await;
    let none = client.get("/").await;
    assert_eq!((none.status(), none.header("connection")), (503, Some("keep-alive")));
    assert!(none.body.contains("503"), "{none:?}");
    let port = world.key.address.port();
    world.remove(vec![Key::Listener(ListenerKey { load_balancer: "front".into(), port })]).await;
    let gone = client.get("/").await;
    assert_eq!((gone.status(), gone.header("connection")), (503, Some("close")));
    assert!(client.ended().await);
    world.at_rest().await;
}

async fn every_exchange_has_its_line(carrier: Carrier) {
    let target = Target::new(|_| ok("hello")).await;
    let plan = Plan { log: true, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    assert_eq!(world.get("/x\"?y=z").await.status(), 200);
    let mut client = world.client().await;
    client.send("NONSENSE\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    let lines = world.logged(2).await;
    let (good, bad) = (&lines[0], &lines[1]);
    assert!(
        good.starts_with("http 20") && good.contains(" app/front/50dc6c495c0c9188 127.0.0.1:"),
        "{good}"
    );
    let times = good.split_once(&format!(" {} ", target.address)).unwrap().1.split(' ').take(3);
    assert!(times.map(|time| time.parse::<f64>().unwrap()).all(|time| time >= 0.0), "{good}");
    assert!(good.contains(" 200 200 ") && good.contains("\"forward\" \"-\" \"-\""), "{good}");
    assert!(good.contains("targetgroup/a/0000000000000002 \"Root=1-"), "{good}");
    assert!(bad.contains(" - -1 -1 -1 400 - ") && bad.contains("\"MalformedRequest\""), "{bad}");
}

async fn targets_come_and_go_without_a_failed_request(carrier: Carrier) {
    let answer = |request: &Response| ok(request.head.split(' ').nth(1).unwrap());
    let mut target = Target::new(answer).await;
    let world = Arc::new(World::new(Plan::of(carrier), &[]).await);
    let mut id = world.register("a", target.address).await;
    let (done, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (world, done, served) = (Arc::clone(&world), Arc::clone(&done), Arc::clone(&served));
        clients.spawn(async move {
            let mut client = world.client().await;
            for count in 0.. {
                let path = format!("/{number}/{count}");
                let response = match number % 2 {
                    0 => client.get(&path).await,
                    _ => client.post(&path, "body").await,
                };
                assert_eq!((response.status(), response.body.as_str()), (200, path.as_str()));
                served.fetch_add(1, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    return;
                }
                if number < 2 {
                    client = world.client().await;
                }
            }
        });
    }
    for _ in 0..50 {
        let next = Target::new(answer).await;
        let registered = world.register("a", next.address).await;
        let leaving = world.reader.load().endpoints.get(&id).cloned().unwrap();
        world.drain(id).await;
        // One thread, and it has seen the generation: this zero is final.
        until("the target is idle", || leaving.in_flight() == 0).await;
        world.remove(vec![Key::Target(id)]).await;
        (target, id) = (next, registered);
        let enough = served.load(Ordering::Relaxed) + 20;
        until("the next one serves", || served.load(Ordering::Relaxed) >= enough).await;
    }
    done.store(true, Ordering::Relaxed);
    clients.join_all().await;
    assert!(target.requests() > 0);
    world.at_rest().await;
}

async fn targets_that_close_what_rests_fail_no_request(carrier: Carrier) {
    const REST: u64 = 20;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let target = Target::new(move |_| Act::Rest(answer.into(), REST)).await;
    let world = World::new(Plan::of(carrier), &[("a", &target)]).await;
    let mut client = world.client().await;
    let count = if super::is_full() { 3_000 } else { 150 };
    for number in 0..count {
        assert_eq!(client.get("/").await.status(), 200, "request {number}");
        // Now and then they meet: its end and the next request.
        let pause = Duration::from_micros(REST * 1000 - 2000 + number * 37 % 4000);
        tokio::time::sleep(pause).await;
    }
    assert!(target.connections() > 1, "none was closed");
}

on_both_carriers!(
    both_sides_keep_their_connections,
    targets_get_who_asked_and_what_for,
    rules_choose_the_group,
    chunks_pass_both_ways,
    head_has_no_body,
    continue_is_answered_here,
    http_1_0_gets_neither_chunks_nor_a_second_request,
    pipelined_requests_are_answered_in_order,
    upgraded_connections_carry_bytes_both_ways,
    http_2_is_served_by_prior_knowledge,
    what_left_the_state_ends_its_connections,
    every_exchange_has_its_line,
    targets_come_and_go_without_a_failed_request,
    targets_that_close_what_rests_fail_no_request,
);
