//! Desync mitigation of clients' HTTP/2: what HTTP/1 could misread has the classes of HTTP/1, and
//! what HTTP/2 itself calls malformed reaches nobody in any mode.

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::head::PREFACE;
use super::floods::frame;
use super::h2::{Peer, request};
use super::world::*;
use crate::model::{Carrier, DesyncMode};

const MODES: [DesyncMode; 3] = [DesyncMode::Monitor, DesyncMode::Defensive, DesyncMode::Strictest];

/// Method, fields and body of a request, its class and its reason: all that HTTP/2 lets pass.
type Case =
    (Method, &'static [(&'static str, &'static str)], &'static str, &'static str, &'static str);

const CASES: [Case; 17] = [
    (Method::GET, &[], "", "-", "-"),
    (Method::GET, &[("x", "b\u{e4}"), ("x!#$%&'*+.^`|~", "y")], "", "-", "-"),
    (Method::POST, &[], "hi", "-", "-"),
    (Method::POST, &[("content-length", "2")], "hi", "-", "-"),
    (Method::POST, &[("content-length", "0")], "", "-", "-"),
    (Method::GET, &[("content-length", "0")], "", "Acceptable", "GetHeadZeroContentLength"),
    (Method::HEAD, &[("content-length", "0")], "", "Acceptable", "GetHeadZeroContentLength"),
    (Method::GET, &[("content-length", "2")], "hi", "Ambiguous", "UndefinedContentLengthSemantics"),
    // Chunked, for a target of HTTP/1.
    (Method::GET, &[], "hi", "Ambiguous", "UndefinedTransferEncodingSemantics"),
    (Method::HEAD, &[], "hi", "Ambiguous", "UndefinedTransferEncodingSemantics"),
    (
        Method::POST,
        &[("content-length", "2"), ("content-length", "2")],
        "hi",
        "Ambiguous",
        "DuplicateContentLength",
    ),
    (Method::POST, &[("content_length", "2")], "", "Ambiguous", "SuspiciousHeader"),
    (Method::POST, &[("transfer_encoding", "identity")], "", "Ambiguous", "SuspiciousHeader"),
    // Beside the chunks that the target gets.
    (
        Method::POST,
        &[("transfer_encoding", "chunked")],
        "hi",
        "Severe",
        "MultipleTransferEncodingChunked",
    ),
    (Method::POST, &[("transfer_encoding", "x")], "", "Severe", "BadTransferEncoding"),
    (
        Method::POST,
        &[("content-length", "2"), ("content_length", "3")],
        "hi",
        "Severe",
        "MultipleContentLength",
    ),
    (Method::POST, &[("content_length", "+2")], "", "Severe", "BadContentLength"),
];

fn ask((method, fields, ..): &Case) -> Request<()> {
    let mut asked = request(method.clone(), "/");
    for (name, value) in *fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        asked.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    asked
}

/// Whether such a request passes, and whether its connections are not used again.
fn treated(mode: DesyncMode, class: &str) -> (bool, bool) {
    match mode {
        DesyncMode::Monitor => (true, false),
        DesyncMode::Defensive => (class != "Severe", matches!(class, "Ambiguous" | "Severe")),
        DesyncMode::Strictest => (class == "-", class != "-"),
    }
}

async fn streams_have_the_classes_of_http_1(carrier: Carrier) {
    for mode in MODES {
        let target = Target::new(|request| match request.head.starts_with("HEAD") {
            true => Act::Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into()),
            false => ok(""),
        });
        let target = target.await;
        let plan = Plan { desync: mode, log: true, ..Plan::of(carrier) };
        let world = World::new(plan, &[("a", &target)]).await;
        for case in &CASES {
            let &(_, _, body, class, _) = case;
            let (passes, ends) = treated(mode, class);
            let before = target.requests();
            let mut peer = Peer::new(&world).await;
            let answer = peer.ask(ask(case), body).await.unwrap();
            assert_eq!(answer.status, if passes { 200 } else { 400 }, "{mode:?} {case:?}");
            assert_eq!(target.requests(), before + usize::from(passes), "{mode:?} {case:?}");
            match ends {
                // GOAWAY.
                true => drop(peer.end().await),
                false => assert_eq!(peer.get("/again").await.status, 200, "{mode:?} {case:?}"),
            }
            if passes && ends {
                let head = target.head();
                assert!(head.contains("\r\nconnection: close\r\n"), "{mode:?} {case:?}: {head}");
            }
        }
        world.at_rest().await;
        for class in ["Acceptable", "Ambiguous", "Severe"] {
            let count = CASES.iter().filter(|case| case.3 == class).count() as u64;
            let name = "roadstead_listener_non_compliant_requests_total";
            assert_eq!(world.metric(name, class), count, "{class}");
        }
        check_log(&world, mode).await;
    }
}

/// The lines of those requests, those that came again left aside.
async fn check_log(world: &World, mode: DesyncMode) {
    let again = CASES.iter().filter(|case| !treated(mode, case.3).1).count();
    let mut lines = world.logged(CASES.len() + again).await;
    lines.retain(|line| !line.contains("/again"));
    for (line, (_, _, _, class, reason)) in lines.iter().zip(&CASES) {
        let expected = format!(" \"{class}\" \"{reason}\" TID_");
        assert!(line.contains(&expected), "{mode:?} {reason}: {line}");
        let is_refused = !treated(mode, class).0;
        assert_eq!(line.contains("\"DesyncMitigation\""), is_refused, "{mode:?} {line}");
    }
}

#[tokio::test]
async fn other_streams_end_before_the_connection_does() {
    let target = Target::new(|request| match request.head.contains("/slow") {
        true => Act::Silence,
        false => ok(""),
    });
    let target = target.await;
    let world = World::new(Plan::of(Carrier::Native), &[("a", &target)]).await;
    let mut peer = Peer::new(&world).await;
    let (_slow, mut body) = peer.begin(request(Method::POST, "/slow"), false).await;
    let ambiguous = request(Method::GET, "/");
    assert_eq!(peer.ask(ambiguous, "hi").await.unwrap().status, 200);
    // GOAWAY has come, and the stream is still there.
    body.send_data("more".into(), true).unwrap();
    until("the other request is through", || target.requests() == 2).await;
    assert_eq!(world.in_flight(), 1);
    assert!(!peer.ended.is_finished());
}

on_both_carriers!(streams_have_the_classes_of_http_1);

/// A field as HPACK has it without any table: RFC 7541, section 6.2.2.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name, &[length(value)], value].concat()
}

/// POST, http, authority "t"; then a path.
const BEGIN: [u8; 5] = [0x83, 0x86, 0x41, 1, b't'];

/// What comes behind [`BEGIN`], whether a body follows, and the body: none of them is a request
/// (RFC 9113, sections 8.1.1 to 8.3.1). Most would be another one, or none, in HTTP/1.
fn malformed() -> Vec<(Vec<u8>, Option<&'static [u8]>)> {
    let root = vec![0x84];
    let with = |name: &[u8], value: &[u8]| [root.clone(), field(name, value)].concat();
    let mut all = Vec::new();
    for (name, value) in [
        (&b"transfer-encoding"[..], &b"chunked"[..]),
        (b"connection", b"close"),
        (b"connection", b"content-length"),
        (b"keep-alive", b"x"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"Content-Length", b"2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:b", b"x"),
        (b"content-length:", b"2"),
        (b"content-length ", b"2"),
        (b"a\r\ncontent-length", b"2"),
        (b"a\0", b"x"),
        (b"x", b"a\r\ntransfer-encoding: chunked"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"a\x7fb"),
        (b"x", b"\r\n\r\nGET /hidden HTTP/1.1\r\nhost: t\r\n\r\n"),
        (b"content-length", b"+2"),
        (b"content-length", b"2, 2"),
        (b"content-length", b"0x2"),
        (b"content-length", b""),
        (b"content-length", b"99999999999999999999"),
        (b":path", b"/twice"),
        (b":unknown", b"x"),
    ] {
        all.push((with(name, value), Some(&b"hi"[..])));
    }
    let lengths = [with(b"content-length", b"2"), field(b"content-length", b"3")].concat();
    all.push((lengths, Some(b"hi")));
    // More or less than was said.
    all.push((with(b"content-length", b"1"), Some(b"hi")));
    all.push((with(b"content-length", b"3"), Some(b"hi")));
    all.push((with(b"content-length", b"2"), None));
    for path in
        [&b"/a b"[..], b"/a\r\nx: y", b"/ HTTP/1.1\r\nhost: t\r\n\r\n", b"/\0", b"/\x01", b""]
    {
        all.push((field(b":path", path), None));
    }
    // What is no pseudo-header field comes first.
    all.push(([field(b"a", b"b"), root].concat(), None));
    all
}

/// What became of stream 1: a reset's or a GOAWAY's code, or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Reset(u32),
    Goaway(u32),
    Status,
    Closed,
}

async fn end_of(mut read: impl AsyncReadExt + Unpin) -> End {
    let mut bytes = BytesMut::new();
    loop {
        while bytes.len() >= 9 {
            let length = usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
            if bytes.len() < 9 + length {
                break;
            }
            let (kind, stream) = (bytes[3], u32::from_be_bytes(bytes[5..9].try_into().unwrap()));
            bytes.advance(9);
            let mut payload = bytes.split_to(length);
            match kind {
                1 if stream == 1 => return End::Status,
                3 if stream == 1 => return End::Reset(payload.get_u32()),
                7 => return End::Goaway((&payload[4..]).get_u32()),
                _ => {}
            }
        }
        match read.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return End::Closed,
            Ok(_) => {}
        }
    }
}

async fn malformed_streams_reach_nobody(carrier: Carrier) {
    /// RFC 9113, section 8.1.1.
    const PROTOCOL_ERROR: u32 = 1;
    for mode in MODES {
        let target = Target::new(|_| ok("")).await;
        let plan = Plan { desync: mode, ..Plan::of(carrier) };
        let world = World::new(plan, &[("a", &target)]).await;
        for (rest, body) in malformed() {
            let shown = rest.escape_ascii().to_string();
            let stream = TcpStream::connect(world.key.address).await.unwrap();
            let (read, mut write) = stream.into_split();
            let flags = if body.is_some() { 4 } else { 5 };
            let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
            bytes.extend(frame(1, flags, 1, &[&BEGIN, &rest[..]].concat()));
            bytes.extend(body.map(|body| frame(0, 1, 1, body)).unwrap_or_default());
            write.write_all(&bytes).await.unwrap();
            let end = tokio::time::timeout(PATIENCE, end_of(read)).await.expect(&shown);
            let is_error = matches!(end, End::Reset(PROTOCOL_ERROR) | End::Goaway(PROTOCOL_ERROR));
            assert!(is_error, "{mode:?} {shown}: {end:?}");
        }
        world.at_rest().await;
        assert_eq!(target.requests(), 0, "{mode:?}");
    }
}

#[tokio::test]
async fn what_is_malformed_reaches_nobody() {
    malformed_streams_reach_nobody(Carrier::Native).await;
}
