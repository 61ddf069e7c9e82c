//! What only the native carrier does: every byte in hand, both ways.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::world::*;
use crate::model::Carrier;

fn plan() -> Plan {
    Plan::of(Carrier::Native)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nDigest: up\r\nHost: evil\r\n\
             X-Amzn-Mtls-Clientcert: evil\r\nx-amzn-oidc-identity: evil\r\n\r\n",
        )
        .await;
    let mut target = accept(&listener).await;
    assert!(target.head().await.unwrap().head.contains("Transfer-Encoding: chunked"));
    let end = "3\r\nabc\r\n0\r\nDigest: up\r\n\r\n";
    assert_eq!(target.take(end.len()).await.unwrap(), end);
    target.send(&format!("{CHUNKED}2\r\nhi\r\n0\r\nX-Sum: down\r\n\r\n")).await;
    client.head().await.unwrap();
    let end = "2\r\nhi\r\n0\r\nX-Sum: down\r\n\r\n";
    assert_eq!(client.take(end.len()).await.unwrap(), end);
    // Both connections go on.
    client.send("GET /2 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(target.head().await.unwrap().head.starts_with("GET /2 "));
}

#[tokio::test]
async fn heads_of_responses_come_in_any_pieces() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    let get = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
    client.send(get).await;
    let mut target = accept(&listener).await;
    let sent = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    for at in (1..sent.len()).step_by(5) {
        target.head().await.unwrap();
        let (one, other) = sent.split_at(at);
        target.send(one).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        target.send(other).await;
        assert_eq!(client.head().await.unwrap().status(), 103, "{at}");
        let response = client.response().await;
        assert_eq!((response.status(), response.body.as_str()), (200, "hi"), "{at}");
        client.send(get).await;
    }
    // What ends before it has begun is none.
    target.head().await.unwrap();
    target.send("\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 502);
}

#[tokio::test]
async fn halves_of_a_tunnel_end_one_by_one() {
    for client_first in [true, false] {
        let (world, listener) = by_hand(plan()).await;
        let mut client = world.client().await;
        client.send(&format!("{ASK}early")).await;
        let mut target = accept(&listener).await;
        target.head().await.unwrap();
        target.send(&format!("{SWITCH}first")).await;
        assert_eq!(client.head().await.unwrap().status(), 101);
        assert_eq!(client.take(5).await.unwrap(), "first");
        assert_eq!(target.take(5).await.unwrap(), "early", "not before the 101");
        let (one, other) =
            if client_first { (&mut client, &mut target) } else { (&mut target, &mut client) };
        one.send("last").await;
        one.shut().await;
        assert_eq!(other.rest().await, "last");
        other.send("the other half goes on").await;
        assert_eq!(one.take(22).await.unwrap(), "the other half goes on");
        assert_eq!(world.in_flight(), 1);
        other.shut().await;
        assert!(one.ended().await);
        world.at_rest().await;
    }
}

#[tokio::test]
async fn tunnel_ends_when_its_target_is_gone_from_the_state() {
    let (world, listener) = by_hand(plan()).await;
    let (mut client, mut target) = switched(&world, &listener).await;
    let id = world.drain_first().await;
    client.send("still").await;
    assert_eq!(target.take(5).await.unwrap(), "still");
    world.remove(vec![crate::state::Key::Target(id)]).await;
    assert_eq!(client.take_bytes(4).await.unwrap(), [0x88, 2, 3, 0xe9]);
    // Half a frame of its own is no answer.
    world.at_rest().await;
    assert!(client.ended().await && target.ended().await);
}

#[tokio::test]
async fn websocket_whose_target_is_gone_ends_by_a_close_between_two_frames() {
    // What the target sends last, and what of our own follows it.
    let whole = &[0x82, 3, 1, 2, 3][..];
    let away = &[0x88, 2, 3, 0xe9][..];
    let cases = [(whole, away), (&whole[..4], &[][..]), (&[0x88, 2, 3, 0xe8][..], &[][..])];
    for (last, farewell) in cases {
        let (world, listener) = by_hand(plan()).await;
        let (mut client, mut target) = switched(&world, &listener).await;
        let id = world.drain_first().await;
        target.send_bytes(last).await;
        assert_eq!(client.take_bytes(last.len()).await.unwrap(), last);
        world.remove(vec![crate::state::Key::Target(id)]).await;
        assert_eq!(client.take_bytes(farewell.len()).await.unwrap(), farewell);
        if !farewell.is_empty() {
            // What the client answers goes to the target, and ends it for both.
            let heard = &[0x88, 0x82, 9, 9, 9, 9, 9 ^ 3, 9 ^ 0xe9][..];
            client.send_bytes(heard).await;
            assert_eq!(target.take_bytes(heard.len()).await.unwrap(), heard);
        }
        assert!(client.ended().await && target.ended().await);
        world.at_rest().await;
    }
}

#[tokio::test]
async fn websocket_whose_target_never_stops_ends_all_the_same() {
    let (world, listener) = by_hand(plan()).await;
    let (mut client, mut target) = switched(&world, &listener).await;
    let id = world.drain_first().await;
    let flood = tokio::spawn(async move {
        let frames = [0x82, 3, 1, 2, 3].repeat(1000);
        while target.stream.write_all(&frames).await.is_ok() {}
    });
    client.take_bytes(20_000).await.unwrap();
    world.remove(vec![crate::state::Key::Target(id)]).await;
    let rest = client.rest_bytes().await;
    assert_eq!(rest.last_chunk(), Some(&[0x88, 2, 3, 0xe9]));
    world.at_rest().await;
    flood.await.unwrap();
}

#[tokio::test]
async fn interim_responses_pass() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let target = Target::new(move |_| Act::Send(text.into())).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let hints = client.head().await.unwrap();
        assert_eq!((hints.status(), hints.header("link")), (103, Some("a")));
        assert_eq!(client.response().await.body, "hi");
    }
    let mut old = world.client().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.response().await.body, "hi");
    assert_eq!(target.connections(), 1);
}

#[tokio::test]
async fn interim_response_does_not_wait_for_the_final_one() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    for _ in 0..3 {
        target.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        assert_eq!(client.head().await.unwrap().status(), 103);
    }
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.response().await.body, "hi");
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    let request = "PUT /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nabcd\r\n0\r\n\r\nGET /y HTTP/1.1\r\nHost: t\r\n\r\n";
    let sending = async {
        for byte in request.bytes() {
            client.send_bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }
    };
    let (mut target, ()) = tokio::join!(accept(&listener), sending);
    assert_eq!(target.message().await.unwrap().body, "abcd");
    let response = format!("{CHUNKED}3\r\nefg\r\n0\r\n\r\n");
    for byte in response.bytes() {
        target.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.body, "efg");
    assert!(target.message().await.unwrap().head.starts_with("GET /y "));
}

#[tokio::test]
async fn what_could_hide_a_request_reaches_no_target() {
    let target = Target::new(|_| ok("")).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    for request in [
        "GET / HTTP/1.1\nHost: t\n\n",
        "GET / HTTP/1.1\r\nHost: t\r\nA: b\rGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nContent-Length : 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost: t\r\nA: b\r\n Content-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
        "GET http://other/ HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@t\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n",
    ] {
        let mut client = world.client().await;
        client.send(request).await;
        let response = client.response().await;
        let got = (response.status(), response.header("connection"));
        assert_eq!(got, (400, Some("close")), "{request:?}");
        assert!(client.ended().await, "{request:?}");
    }
    assert_eq!(target.requests(), 0);
    world.at_rest().await;
}

#[tokio::test]
async fn nothing_is_read_behind_a_body_with_two_framings() {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut client = world.client().await;
    let length = hidden.len();
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{hidden}"
        ))
        .await;
    assert_eq!(client.response().await.header("connection"), Some("close"));
    assert!(client.ended().await);
    assert_eq!(target.requests(), 1);
    let head = target.head();
    assert!(!head.contains("content-length") && head.contains("connection: close"), "{head}");
    world.at_rest().await;
}

#[tokio::test]
async fn long_heads_pass_with_their_bodies() {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let body = "x".repeat(200_000);
    for length in [4095, 4096, 16_384, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1] {
        let line = "PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n";
        let mut head = line.to_owned();
        while head.len() + 2 < length {
            let rest = length - 2 - head.len();
            // A last field takes what is left; none is shorter than five bytes.
            let field = if rest <= 8000 { rest } else { 7000 };
            head += &format!("A:{}\r\n", "a".repeat(field - 4));
        }
        head += "\r\n";
        assert_eq!(head.len(), length);
        let mut client = world.client().await;
        client.send(&head).await;
        client.send(&body).await;
        assert!(client.response().await.body == body, "{length}");
    }
}

#[tokio::test]
async fn a_chunk_that_breaks_off_ends_both_connections() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    client.send("3\r\nabcX").await;
    assert_eq!(client.response().await.status(), 400);
    assert!(client.ended().await);
    assert!(!target.rest().await.contains("0\r\n"), "the body does not look whole");
    world.at_rest().await;
}

#[tokio::test]
async fn identity_is_no_coding() {
    let target = Target::new(|request| ok(&request.body)).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    let ask = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: identity\r\n";
    client.send(&format!("{ask}\r\n")).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.header("connection")), (200, Some("keep-alive")));
    assert!(!target.head().contains("transfer-encoding"), "{}", target.head());
    // Two words on its length: what follows is believed no more.
    client.send(&format!("{ask}Content-Length: 2\r\n\r\nhi")).await;
    let response = client.response().await;
    assert_eq!((response.body.as_str(), response.header("connection")), ("hi", Some("close")));
    assert!(client.ended().await);
    world.at_rest().await;
}

#[tokio::test]
async fn http_1_0_may_ask_for_another() {
    let target = Target::new(|_| ok("hi")).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(
            (response.body.as_str(), response.header("connection")),
            ("hi", Some("keep-alive"))
        );
        let (head, address) = (target.head(), world.key.address);
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_chunked_for_the_client() {
    let target = Target::new(|_| Act::Last("HTTP/1.0 200 OK\r\n\r\nto the end".into())).await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        let response = client.get("/").await;
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        assert_eq!(
            (response.body.as_str(), response.header("connection")),
            ("to the end", Some("keep-alive"))
        );
    }
    assert_eq!(target.connections(), 3);
}

#[tokio::test]
async fn large_bodies_pass_both_ways_whatever_frames_them() {
    let target = Target::new(|request| {
        let body = &request.body;
        match request.head.contains("chunked") {
            true => Act::Send(format!("{CHUNKED}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
            false => ok(body),
        }
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    let body: String = (0..400_000).map(|n| format!("{n:05}")).collect();
    for _ in 0..2 {
        let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let mut chunked = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in body.as_bytes().chunks(7919) {
            let chunk = std::str::from_utf8(chunk).unwrap();
            chunked += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        for framed in [length, chunked + "0\r\n\r\n"] {
            client.send(&format!("PUT / HTTP/1.1\r\nHost: t\r\n{framed}")).await;
            assert!(client.response().await.body == body, "not what was sent");
        }
    }
    assert_eq!(target.connections(), 1);
}

#[tokio::test]
async fn a_long_body_that_ends_early_does_not_look_whole() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    let sending = async {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 3 << 20);
        target.send(&head).await;
        target.send(&"x".repeat(2 << 20)).await;
        drop(target);
    };
    let ((), message) = tokio::join!(sending, client.message());
    assert!(message.is_none(), "it looks whole");
    world.at_rest().await;
    let sent = world.metric("roadstead_listener_sent_bytes_total", "");
    assert!((2 << 20..3 << 20).contains(&sent), "{sent} bytes are counted");
}

#[tokio::test]
async fn an_early_answer_reaches_who_is_still_sending() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 9000000\r\n\r\nabc").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    target.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    drop(target);
    let response = client.response().await;
    assert_eq!((response.status(), response.body.as_str()), (413, "no"));
    client.send(&"x".repeat(100_000)).await;
    assert!(client.ended().await);
    world.at_rest().await;
}

#[tokio::test]
async fn a_body_beyond_the_buffer_is_sent_once() {
    let bad = Target::new(|_| Act::Last(String::new())).await;
    let world = World::new(plan(), &[("a", &bad), ("a", &bad)]).await;
    let mut client = world.client().await;
    let body = "x".repeat(1 << 20);
    client
        .send(&format!("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    assert_eq!(client.response().await.status(), 502);
    assert_eq!(bad.requests(), 1);
    world.at_rest().await;
}

#[tokio::test]
async fn a_half_read_head_of_a_target_is_502() {
    for text in ["HTTP/1.1 200 OK\r\nContent-Le", "H"] {
        let target = Target::new(move |_| Act::Last(text.into())).await;
        let world = World::new(plan(), &[("a", &target), ("a", &target)]).await;
        assert_eq!(world.get("/").await.status(), 502);
        assert_eq!(target.requests(), 1, "a byte of a response came: nothing is replayed");
        world.at_rest().await;
    }
}

#[tokio::test]
async fn silent_clients_and_targets_end_in_time() {
    let plan = Plan { idle_timeout: Duration::from_secs(1), ..plan() };
    let (world, listener) = by_hand(plan).await;
    // A client that reads nothing of a large answer.
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.head().await.unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20);
    let flood = "x".repeat(1 << 20);
    let sending = async {
        target.send(&answer).await;
        for _ in 0..64 {
            target.send(&flood).await;
        }
    };
    tokio::join!(sending, world.at_rest());
    assert!(client.message().await.is_none(), "it looks whole");
    // A tunnel in which nobody speaks.
    let (mut client, mut target) = switched(&world, &listener).await;
    world.at_rest().await;
    assert!(client.ended().await && target.ended().await);
}

#[tokio::test]
async fn a_resting_connection_is_small() {
    let world = World::new(plan(), &[]).await;
    let (stream, peer) = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(connecting, listener.accept());
        accepted.unwrap()
    };
    let state = size_of_val(&world.plane.serve(stream, peer, world.key));
    assert!(state <= 4096, "{state} bytes");
}
