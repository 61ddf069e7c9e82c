//! Desync mitigation over real sockets: each class in each mode, and a grid of requests that try to
//! hide another one.

use std::time::Duration;

use super::world::*;
use crate::model::{Carrier, DesyncMode};

/// Heads, their class and reason, each reason that the classifier has; and how they are answered
/// where the mode lets them pass: what cannot be framed in one way only is refused in every mode.
const CLASSES: [(&str, &str, &str, u16); 26] = [
    ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", "-", "-", 200),
    (
        "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n",
        "Acceptable",
        "GetHeadZeroContentLength",
        200,
    ),
    (
        "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi",
        "Ambiguous",
        "UndefinedContentLengthSemantics",
        200,
    ),
    (
        "GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Ambiguous",
        "UndefinedTransferEncodingSemantics",
        200,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "Ambiguous",
        "DuplicateContentLength",
        200,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Ambiguous",
        "BothTeClPresent",
        200,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nContent_Length: 2\r\n\r\n",
        "Ambiguous",
        "SuspiciousHeader",
        200,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2, 2\r\n\r\nhi",
        "Severe",
        "BadContentLength",
        200,
    ),
    ("GET / HTTP/1.1\r\nHost: t\r\nA\u{1}: b\r\n\r\n", "Acceptable", "NonCompliantHeader", 400),
    ("GET /a b HTTP/1.1\r\nHost: t\r\n\r\n", "Acceptable", "SpaceInUri", 400),
    ("GET / HTTP/1.3\r\nHost: t\r\n\r\n", "Acceptable", "NonCompliantVersion", 505),
    ("GET / HTTP/1.1\r\nHost: t\nA: b\r\n\r\n", "Acceptable", "NonCrLfLineTermination", 400),
    ("GET / HTTP/1.1\r\nHost: t\r\n: b\r\n\r\n", "Ambiguous", "EmptyHeader", 400),
    ("GET /\u{1} HTTP/1.1\r\nHost: t\r\n\r\n", "Ambiguous", "AmbiguousUri", 400),
    ("GET HTTP/1.1\r\nHost: t\r\n\r\n", "Ambiguous", "MissingUri", 400),
    ("GET / HTTP/1.1\r\nHost: t\nA: b", "Ambiguous", "PartialHeaderLine", 400),
    ("GET / HTTP/1.1\r\nHost: t\nA: b\r\n", "Ambiguous", "MissingLastEmptyLine", 400),
    ("GET / HTTP/1.1\r\nHost: t\r\nA: b\r\n c\r\n\r\n", "Ambiguous", "MultilineHeader", 400),
    ("GET / HTTP/1.1\r\nHost: t\r\nA\r\n\r\n", "Ambiguous", "MissingHeaderColon", 400),
    ("GET / HTTP/1.1\r\nHost: t\r\nA: \0\r\n\r\n", "Severe", "BadHeader", 400),
    ("GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n", "Severe", "BadUri", 400),
    ("G(T / HTTP/1.1\r\nHost: t\r\n\r\n", "Severe", "BadMethod", 400),
    ("GET / HTTP/1.x\r\nHost: t\r\n\r\n", "Severe", "BadVersion", 400),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
        "Severe",
        "MultipleContentLength",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Severe",
        "BadTransferEncoding",
        501,
    ),
    (
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "Severe",
        "MultipleTransferEncodingChunked",
        400,
    ),
];

/// Status and `Connection` of the answer.
fn expected(
    mode: DesyncMode,
    (_, class, reason, status): (&str, &str, &str, u16),
) -> (u16, &'static str) {
    let passes = match mode {
        DesyncMode::Monitor => true,
        DesyncMode::Defensive => class != "Severe",
        DesyncMode::Strictest => class == "-",
    };
    match status {
        200 if !passes => (400, "close"),
        // Not even monitor reads anything behind two framings: RFC 9112, section 6.1.
        200 if reason == "BothTeClPresent" => (200, "close"),
        200 if mode != DesyncMode::Monitor && class == "Ambiguous" => (200, "close"),
        200 => (200, "keep-alive"),
        refused => (refused, "close"),
    }
}

async fn classes_are_treated_as_the_mode_says(carrier: Carrier) {
    for mode in [DesyncMode::Monitor, DesyncMode::Defensive, DesyncMode::Strictest] {
        let target = Target::new(|_| ok("")).await;
        let plan = Plan { desync: mode, log: true, ..Plan::of(carrier) };
        let world = World::new(plan, &[("a", &target)]).await;
        // Pingora passes a list of lengths on as it is, which not every target takes, and escapes
        // what stands in a target before it looks at it.
        let known = |row: &(_, _, &str, _)| {
            carrier == Carrier::Native
                || !["BadContentLength", "BadUri", "AmbiguousUri", "SpaceInUri"].contains(&row.2)
        };
        let classes: Vec<_> = CLASSES.into_iter().filter(known).collect();
        for &row in &classes {
            let request = row.0;
            let mut client = world.client().await;
            client.send(request).await;
            let answer = client.response().await;
            let got = (answer.status(), answer.header("connection").unwrap());
            assert_eq!(got, expected(mode, row), "{mode:?}: {request:?}");
            if got == (200, "close") {
                let connection = target.head().contains("connection: close");
                assert!(connection, "the target's is not used again either: {request:?}");
            }
            drop(client);
        }
        world.at_rest().await;
        for class in ["Acceptable", "Ambiguous", "Severe"] {
            let count = classes.iter().filter(|row| row.1 == class).count() as u64;
            let name = "roadstead_listener_non_compliant_requests_total";
            assert_eq!(world.metric(name, class), count, "{class}");
        }
        let lines = world.logged(classes.len()).await;
        for (line, (_, class, reason, _)) in lines.iter().zip(classes) {
            assert!(line.contains(&format!(" \"{class}\" \"{reason}\" TID_")), "{reason}: {line}");
        }
    }
}

#[test]
fn every_reason_is_among_them() {
    let reasons: std::collections::BTreeSet<_> = CLASSES.iter().map(|row| row.2).collect();
    // Those of the classifier, "Compliant" among them.
    assert_eq!(reasons.len(), 26);
}

/// What a request means to somebody who takes nothing but the letter of RFC 9112.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) line: String,
    body: String,
}

/// The requests in `bytes` up to where the letter ends, and whether it ends there.
pub(super) fn read_strictly(mut bytes: &[u8]) -> (Vec<Meant>, bool) {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some((meant, rest, is_last)) = read_one(bytes) else { return (all, false) };
        all.push(meant);
        if is_last {
            return (all, false);
        }
        bytes = rest;
    }
    (all, true)
}

fn is_token(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn plain(word: &str) -> bool {
    word.bytes().all(|b| b == b'\t' || (b' '..0x7f).contains(&b))
}

/// The text up to the next end of a line, and what is behind it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 2..]))
}

/// What chunks hold, and what is behind them.
fn read_chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (opening, behind) = line(rest)?;
        let (size, extension) = opening.split_once(';').unwrap_or((opening, ""));
        if !size.bytes().all(|b| b.is_ascii_hexdigit()) || !plain(extension) {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = behind;
        if size == 0 {
            break;
        }
        body.extend(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    // Trailers.
    loop {
        let (trailer, behind) = line(rest)?;
        rest = behind;
        if trailer.is_empty() {
            return Some((body, rest));
        }
        let (name, value) = trailer.split_once(':')?;
        if !is_token(name) || !plain(value) {
            return None;
        }
    }
}

/// One request, what is behind it, and whether nothing behind it may be believed.
fn read_one(bytes: &[u8]) -> Option<(Meant, &[u8], bool)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let line = lines.next()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !is_token(method) || !target.starts_with('/') || !plain(target) {
        return None;
    }
    let (mut lengths, mut chunked, mut identity) = (Vec::new(), 0, 0);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !is_token(name) || !plain(value) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                for part in value.split(',').map(|part| part.trim_matches([' ', '\t'])) {
                    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                        return None;
                    }
                    lengths.push(part.parse::<usize>().ok()?);
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => chunked += 1,
            // As ALB takes it: no coding at all.
            "transfer-encoding" if value.eq_ignore_ascii_case("identity") => identity += 1,
            "transfer-encoding" => return None,
            _ => {}
        }
    }
    lengths.dedup();
    if version != "HTTP/1.1" || lengths.len() > 1 || chunked + identity > 1 {
        return None;
    }
    let mut body = Vec::new();
    if chunked == 1 {
        (body, rest) = read_chunks(rest)?;
    } else if let Some(length) = lengths.first() {
        body.extend(rest.get(..*length)?);
        rest = &rest[*length..];
    }
    let is_last = chunked + identity == 1 && !lengths.is_empty();
    let meant = Meant { line: format!("{method} {target}"), body: String::from_utf8(body).ok()? };
    Some((meant, rest, is_last))
}

const LENGTHS: [&str; 13] = [
    "",
    "Content-Length: 0\r\n",
    "Content-Length: 6\r\n",
    "Content-Length: LEN\r\n",
    "Content-Length: LEN\r\nContent-Length: LEN\r\n",
    "Content-Length: LEN\r\nContent-Length: 0\r\n",
    "Content-Length: LEN, LEN\r\n",
    "Content-Length: +LEN\r\n",
    "Content-Length : LEN\r\n",
    "Content-Length:\r\n LEN\r\n",
    "Content-Length: LEN\n",
    "Content-Length: LE\0N\r\n",
    "A: b\rContent-Length: LEN\r\n",
];
const CODINGS: [&str; 13] = [
    "",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:Chunked \r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "A: b\nTransfer-Encoding: chunked\r\n",
];
const METHODS: [&str; 3] = ["POST", "GET", "HEAD"];
const BODIES: [&str; 10] = [
    "",
    "0\r\n\r\n",
    "HIDDEN",
    "0\r\n\r\nHIDDEN",
    "5\r\nhello\r\n0\r\n\r\nHIDDEN",
    "3;x=y\r\nabc\r\n0\r\n\r\nHIDDEN",
    "0x3\r\nabc\r\n0\r\n\r\nHIDDEN",
    "3\nabc\n0\n\nHIDDEN",
    "0\r\nA: b\r\n\r\nHIDDEN",
    "00000000000000003\r\nabc\r\n0\r\n\r\nHIDDEN",
];

/// All combinations.
pub(super) const ALL: usize = LENGTHS.len() * CODINGS.len() * METHODS.len() * BODIES.len();

/// The `number`th of them; each of its requests tells the number.
pub(super) fn case(number: usize) -> String {
    let hidden = format!("GET /hidden?{number} HTTP/1.1\r\nHost: t\r\n\r\n");
    // Behind everything: whoever understands it closes.
    let last = format!("GET /last?{number} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let (length, rest) = (LENGTHS[number % 13], number / 13);
    let (coding, rest) = (CODINGS[rest % 13], rest / 13);
    let (method, rest) = (METHODS[rest % 3], rest / 3);
    let body = BODIES[rest % 10].replace("HIDDEN", &hidden);
    let length = length.replace("LEN", &body.len().to_string());
    let length = length.replace("LE\0N", &format!("{}\0", body.len()));
    format!("{method} /outer?{number} HTTP/1.1\r\nHost: t\r\n{length}{coding}\r\n{body}{last}")
}

async fn requests_seen_are_requests_meant(carrier: Carrier) {
    const { assert!(ALL >= 5000) };
    // A stride that is prime to each of the lists' lengths meets them all.
    let step = if super::is_full() { 1 } else { 17 };
    for mode in [DesyncMode::Monitor, DesyncMode::Defensive, DesyncMode::Strictest] {
        let target = Target::new(|_| ok("")).await;
        // What waits for a body that does not come shall not wait for long.
        let idle_timeout = Duration::from_secs(1);
        let plan = Plan { desync: mode, idle_timeout, ..Plan::of(carrier) };
        let world = World::new(plan, &[("a", &target)]).await;
        let (mut whole, mut refused) = (0, 0);
        for number in (0..ALL).step_by(step) {
            let case = case(number);
            let (meant, to_the_end) = read_strictly(case.as_bytes());
            let mut client = world.client().await;
            client.send_bytes(case.as_bytes()).await;
            let answers =
                tokio::time::timeout(Duration::from_secs(30), client.rest()).await.unwrap();
            let seen = std::mem::take(&mut *target.seen.requests.lock().unwrap());
            assert!(seen.len() <= meant.len(), "{mode:?} {case:?}: {seen:?}");
            for (seen, meant) in seen.iter().zip(&meant) {
                let line = seen.head.lines().next().unwrap();
                assert_eq!(line, format!("{} HTTP/1.1", meant.line), "{mode:?} {case:?}");
                assert_eq!(seen.body, meant.body, "{mode:?} {case:?}");
                let framings = seen.head.to_ascii_lowercase();
                let framings = framings.matches("\ncontent-length:").count()
                    + framings.matches("\ntransfer-encoding:").count();
                assert!(framings <= 1, "{seen:?}");
            }
            let is_refused = answers.contains("HTTP/1.1 400") || answers.contains("HTTP/1.1 501");
            // The other modes close behind what is ambiguous.
            let may_close = mode != DesyncMode::Monitor && !seen.is_empty();
            let all_seen = seen.len() == meant.len() || !to_the_end;
            assert!(is_refused || may_close || all_seen, "{mode:?} {case:?}: {answers}");
            (whole, refused) =
                (whole + usize::from(!is_refused), refused + usize::from(is_refused));
        }
        assert!(whole > 0 && refused > whole, "{mode:?}: {whole} whole, {refused} refused");
        super::note(&format!("{mode:?}: {whole} whole, {refused} refused"));
    }
}

on_both_carriers!(classes_are_treated_as_the_mode_says);

#[tokio::test]
async fn the_target_sees_what_was_meant() {
    requests_seen_are_requests_meant(Carrier::Native).await;
}
