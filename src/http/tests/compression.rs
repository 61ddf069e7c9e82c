//! Compressed responses on the wire.

use std::io::Read as _;

use super::h2::{Peer, request};
use super::world::*;
use crate::model::{Carrier, Compression, ResponseRules};

fn plan() -> Plan {
    let compression = Some(Compression::default());
    let responses = ResponseRules { compression, ..ResponseRules::default() };
    Plan { responses, ..Plan::of(Carrier::Native) }
}

fn text() -> String {
    "All work and no play makes Jack a dull boy. ".repeat(5_000)
}

/// The body of a response in chunks, as bytes.
async fn chunks(client: &mut Client) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size += &client.take(1).await.unwrap();
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        body.extend(client.take_bytes(size).await.unwrap());
        assert_eq!(client.take(2).await.unwrap(), "\r\n");
        if size == 0 {
            return body;
        }
    }
}

fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text),
        _ => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_string(&mut text),
    }
    .unwrap();
    text
}

#[tokio::test]
async fn responses_are_compressed_as_clients_like_it() {
    let target = Target::new(|request| {
        let (kind, text) = ("Content-Type: text/plain\r\nETag: \"x\"\r\n", text());
        let length = text.len();
        if request.head.starts_with("GET /chunks ") {
            let (one, two) = text.split_at(50_000);
            return Act::Send(format!(
                "HTTP/1.1 200 OK\r\n{kind}Transfer-Encoding: chunked\r\n\r\n\
                 c350\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                two.len()
            ));
        }
        let body = if request.head.starts_with("HEAD ") { "" } else { text.as_str() };
        Act::Send(format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {length}\r\n\r\n{body}"))
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut client = world.client().await;
    for path in ["/length", "/chunks"] {
        for coding in ["br", "zstd", "gzip"] {
            let ask = format!(
                "GET {path} HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {coding}, x;q=0.5\r\n\r\n"
            );
            client.send(&ask).await;
            let head = client.head().await.unwrap();
            assert_eq!(head.header("content-encoding"), Some(coding), "{}", head.head);
            assert_eq!(head.header("vary"), Some("Accept-Encoding"));
            assert_eq!(head.header("etag"), Some("W/\"x\""));
            assert_eq!(head.header("content-length"), None);
            let body = chunks(&mut client).await;
            assert!(body.len() < text().len() / 20, "{path} {coding}: {}", body.len());
            assert!(decoded(coding, &body) == text(), "{path} {coding}");
        }
    }
    let coded = |coding: &str| {
        let label = format!("coding=\"{coding}\"");
        world.metric("roadstead_listener_compressed_responses_total", &label)
    };
    assert_eq!(["br", "zstd", "gzip"].map(coded), [2; 3]);
    let plain = client.get("/length").await;
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, text().len()));
    assert_eq!(
        (plain.header("vary"), plain.header("etag")),
        (Some("Accept-Encoding"), Some("\"x\""))
    );
    client.send("HEAD / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: br\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert_eq!(head.header("content-encoding"), None);
    assert_eq!(head.header("content-length"), Some(text().len().to_string().as_str()));
    let mut old = world.client().await;
    old.send("GET / HTTP/1.0\r\nHost: t\r\nAccept-Encoding: br\r\n\r\n").await;
    assert_eq!(old.response().await.body.len(), text().len());
}

#[tokio::test]
async fn a_slow_stream_stays_a_stream() {
    let (world, listener) = by_hand(plan()).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let mut target = accept(&listener).await;
    target.message().await.unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    target.send(head).await;
    assert_eq!(client.head().await.unwrap().header("content-encoding"), Some("gzip"));
    let mut body = Vec::new();
    for number in 1..=3 {
        target.send("6\r\nevent\n\r\n").await;
        // What was said so far can be read before anything more is said.
        let mut read = Vec::new();
        while read.len() < number * 6 {
            body.extend(client.take_bytes(1).await.unwrap());
            read.clear();
            let _ = flate2::read::GzDecoder::new(&unchunked(&body)[..]).read_to_end(&mut read);
        }
        assert_eq!(read, b"event\n".repeat(number));
    }
}

/// The content of chunks, as far as it has come.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let rest = &bytes[end + 2..];
        content.extend_from_slice(&rest[..size.min(rest.len())]);
        bytes = rest.get(size + 2..).unwrap_or_default();
    }
    content
}

#[tokio::test]
async fn clients_of_http_2_get_them_as_well() {
    let target = Target::new(|_| {
        let text = text();
        let length = text.len();
        let head = format!("ETag: \"x\"\r\nContent-Type: text/html\r\nContent-Length: {length}");
        Act::Send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{text}"))
    })
    .await;
    let world = World::new(plan(), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let mut request = request(http::Method::GET, "/");
    request.headers_mut().insert("accept-encoding", "gzip;q=0.5, br".parse().unwrap());
    let (response, _) = peer.begin(request, true).await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "br");
    assert_eq!(response.headers()["etag"], "W/\"x\"");
    assert!(!response.headers().contains_key("content-length"));
    let (mut stream, mut body) = (response.into_body(), Vec::new());
    while let Some(bytes) = stream.data().await {
        let bytes = bytes.unwrap();
        stream.flow_control().release_capacity(bytes.len()).unwrap();
        body.extend_from_slice(&bytes);
    }
    assert!(decoded("br", &body) == text());
}
