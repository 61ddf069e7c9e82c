//! What the carrier writes, read by the letter: whatever comes in, one message goes out, framed in
//! one way.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::additions::Additions;
use super::super::head::{Body, Scan, Scanner};
use super::frames::Frames;
use super::request::{self, Origin, Way};
use super::response::{self, Asked, Out};
use crate::model::{RequestRules, ResponseRules};
use crate::rules::Transformed;

/// Lines of requests and responses: good ones, and such as hide something.
const LINES: [&str; 40] = [
    "Host: t",
    "Host: t:80",
    "Accept: */*",
    "Cookie: a=b; c=d",
    "X_Id:2",
    "User-Agent:",
    "Content-Length: 5",
    "content-length: 0",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: 99999999999999999999",
    "Content-Length : 5",
    "Content_Length: 5",
    "Transfer-Encoding: chunked",
    "transfer-encoding:\tChunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer_Encoding: chunked",
    "Connection: close",
    "Connection: keep-alive, X-Secret",
    "Connection: Content-Length, Host",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "X-Secret: 1",
    "Keep-Alive: 5",
    "Proxy-Connection: close",
    "TE: trailers, gzip",
    "Trailer: X-Sum",
    "Expect: 100-continue",
    "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
    "X-Forwarded-Proto: https",
    "X-Amzn-Trace-Id: Root=1-5-a",
    "X-Amzn-Oidc-Identity: eve",
    "A: b\r\n c",
    "A: b\nC: d",
    ": empty",
];
const BEGINNINGS: [&str; 10] = [
    "GET / HTTP/1.1",
    "POST /a?b=c HTTP/1.1",
    "PUT http://t/b HTTP/1.1",
    "HEAD http://u@t HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET / HTTP/1.0",
    "GET /a b HTTP/1.1",
    "GET //t/%0d%0a HTTP/1.1",
    "get /\u{e4} HTTP/1.1",
    "GET / HTTP/1.1 ",
];
const STATUSES: [&str; 7] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 ",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 103 Early Hints",
    "HTTP/1.1 599",
];

/// A head of such a beginning and such lines, of which one byte may be another.
fn head(beginnings: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(select(&LINES[..]), 0..7);
    let change = prop::option::weighted(0.5, (any::<Index>(), any::<u8>()));
    (select(beginnings), lines, change).prop_map(|(beginning, lines, change)| {
        let mut head = format!("{beginning}\r\n").into_bytes();
        lines.iter().for_each(|line| head.extend(format!("{line}\r\n").into_bytes()));
        head.extend(b"\r\n");
        if let Some((at, byte)) = change {
            let at = at.index(head.len());
            head[at] = byte;
        }
        head
    })
}

fn is_token(name: &str) -> bool {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is)
}

/// A head's first line and its fields, names in lower case.
type Read = (String, Vec<(String, Vec<u8>)>);

/// A head that keeps to the letter of RFC 9112.
fn by_the_letter(bytes: &[u8]) -> Result<Read, String> {
    let whole = || bytes.escape_ascii().to_string();
    let is_torn = |at: usize| match bytes[at] {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if (0..bytes.len()).any(is_torn) {
        return Err(whole());
    }
    let lines = bytes.strip_suffix(b"\r\n\r\n").ok_or_else(whole)?;
    let mut lines =
        lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_text =
        |line: &[u8]| line.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 127);
    let first = lines.next().filter(|line| is_text(line)).ok_or_else(whole)?;
    let first = String::from_utf8_lossy(first).into_owned();
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(whole)?;
        let name = std::str::from_utf8(&line[..colon]).map_err(|_| whole())?;
        let value = line[colon + 1..].trim_ascii();
        if !is_token(name) || !is_text(value) {
            return Err(whole());
        }
        fields.push((name.to_ascii_lowercase(), value.to_vec()));
    }
    Ok((first, fields))
}

/// The values of the fields of this name.
fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &value[..]).collect()
}

/// What every target has to find in a request of ours, and nothing else of that kind.
pub(super) fn check_request(bytes: &[u8], body: Body, upgrades: bool) -> Result<(), String> {
    let (line, fields) = by_the_letter(bytes)?;
    let words: Vec<_> = line.split(' ').collect();
    let good = matches!(&words[..], [method, target, "HTTP/1.1"]
        if is_token(method) && target.bytes().all(|byte| byte > b' ')
            && (target.starts_with('/') || *target == "*"));
    let one = |name| values(&fields, name).len() == 1;
    let none = |name| values(&fields, name).is_empty();
    let lengths = values(&fields, "content-length");
    let codings = values(&fields, "transfer-encoding");
    let framed = match body {
        Body::Chunked => lengths.is_empty() && codings == [&b"chunked"[..]],
        Body::Length(0) => codings.is_empty() && matches!(lengths[..], [] | [b"0"]),
        Body::Length(length) => codings.is_empty() && lengths == [length.to_string().as_bytes()],
    };
    let connection = values(&fields, "connection");
    let connected = match upgrades {
        true => connection == [&b"Upgrade"[..]] && values(&fields, "upgrade").len() == 1,
        false => matches!(connection[..], [] | [b"close"]) && none("upgrade"),
    };
    let hop = ["keep-alive", "proxy-connection", "te", "expect"];
    let ours = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port"];
    match good
        && framed
        && connected
        && hop.iter().all(|name| none(name))
        && ours.iter().all(|name| one(name))
        && one("x-amzn-trace-id")
    {
        true => Ok(()),
        false => Err(format!("{body:?} {upgrades}: {}", bytes.escape_ascii())),
    }
}

/// The same of every client and a response of ours.
fn check_response(bytes: &[u8]) -> Result<(), String> {
    let (line, fields) = by_the_letter(bytes)?;
    let framings = ["content-length", "transfer-encoding"].map(|name| values(&fields, name));
    let connection = values(&fields, "connection");
    let connected = matches!(connection[..], [] | [b"close" | b"keep-alive" | b"Upgrade"]);
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let hop = ["keep-alive", "proxy-connection"];
    match status.is_some_and(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
        && framings[0].len() + framings[1].len() <= 1
        && framings[0].iter().all(|length| length.iter().all(u8::is_ascii_digit))
        && framings[1].iter().all(|coding| *coding == b"chunked")
        && connected
        && hop.iter().all(|name| values(&fields, name).is_empty())
    {
        true => Ok(()),
        false => Err(bytes.escape_ascii().to_string()),
    }
}

proptest! {
    #[test]
    fn whatever_a_client_sends_one_request_goes_on(bytes in head(&BEGINNINGS)) {
        let Scan::Whole(head) = Scanner::default().scan(&bytes) else { return Ok(()) };
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:8080");
        let transformed = Transformed::default();
        let rules = RequestRules::default();
        let way = Way { origin: &origin, rules, transformed: &transformed };
        let trace_id = |sent: Option<&str>| sent.unwrap_or("Root=1").to_owned();
        let mut out = Vec::new();
        let read = request::translate(&bytes, head, way, trace_id, &mut out);
        let Ok((request, _)) = read else { return Ok(()) };
        let checked = check_request(&out, head.body, request.upgrades);
        prop_assert!(checked.is_ok(), "{}: {checked:?}", bytes.escape_ascii());
        // It is read again as it was meant.
        let again = Scanner::default().scan(&out);
        let same = matches!(again, Scan::Whole(own)
            if own.length == out.len() && own.body == head.body && !own.ambiguous);
        prop_assert!(same, "{}: {again:?}", out.escape_ascii());
    }

    #[test]
    fn whatever_a_target_says_one_response_goes_on(
        bytes in head(&STATUSES),
        (is_http_1_0, is_head) in any::<(bool, bool)>(),
        (upgrades, keep_alive) in any::<(bool, bool)>(),
    ) {
        let asked = Asked { is_http_1_0, is_head, upgrades, keep_alive, coding: None };
        let rules = ResponseRules::default();
        let mut out = Vec::new();
        if !response::is_whole(&bytes, &mut 0) {
            return Ok(());
        }
        let added = Additions::of(&rules);
        let read = response::translate(&bytes, asked, &added, &mut Out::Text(&mut out));
        if read.is_ok() && !out.is_empty() {
            let checked = check_response(&out);
            prop_assert!(checked.is_ok(), "{}: {checked:?}", bytes.escape_ascii());
        }
    }

    #[test]
    fn frames_are_the_same_in_any_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        step in 1usize..20,
    ) {
        let (mut whole, mut cut) = (Frames::default(), Frames::default());
        whole.pass(&bytes);
        bytes.chunks(step).for_each(|piece| cut.pass(piece));
        let told = |frames: &Frames| (frames.may_close(), frames.is_closed());
        prop_assert_eq!(told(&whole), told(&cut));
    }
}
