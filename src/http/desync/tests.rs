//! The screen against the classifier, and what each mode does.

use proptest::prelude::*;

use super::*;

fn check(head: &str, expected: Option<(Class, &str)>) {
    let head = head.replace('\n', "\r\n");
    let got = classify(head.as_bytes()).map(|found| (found.class, found.reason));
    assert_eq!(got, expected, "{head:?}");
}

#[test]
fn heads_have_albs_classes() {
    use Class::{Acceptable, Ambiguous, Severe};
    check("GET / HTTP/1.1\nHost: a\n\n", None);
    check("\n\nGET / HTTP/1.1\nHost: a\n\n", None);
    check("POST / HTTP/1.1\nContent-Length: 5\n\n", None);
    check("POST / HTTP/1.1\nTransfer-Encoding: identity\n\n", None);
    let is = |head: &str, class, reason| check(head, Some((class, reason)));
    is("GET / HTTP/1.1\nContent-Length: 0\n\n", Acceptable, "GetHeadZeroContentLength");
    is("GET / HTTP/1.1\nA\u{1}: b\n\n", Acceptable, "NonCompliantHeader");
    is("GET /a b HTTP/1.1\nHost: a\n\n", Acceptable, "SpaceInUri");
    is("GET / HTTP/1.3\nHost: a\n\n", Acceptable, "NonCompliantVersion");
    is("GET / HTTP/1.1\nContent-Length: 5\n\n", Ambiguous, "UndefinedContentLengthSemantics");
    let get_chunked = "GET / HTTP/1.1\nTransfer-Encoding: chunked\n\n";
    is(get_chunked, Ambiguous, "UndefinedTransferEncodingSemantics");
    let twice = "POST / HTTP/1.1\nContent-Length: 5\nContent-Length: 5\n\n";
    is(twice, Ambiguous, "DuplicateContentLength");
    let both = "POST / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n";
    is(both, Ambiguous, "BothTeClPresent");
    is("POST / HTTP/1.1\nContent_Length: 5\n\n", Ambiguous, "SuspiciousHeader");
    is("GET / HTTP/1.1\n: b\n\n", Ambiguous, "EmptyHeader");
    is("GET /\u{1} HTTP/1.1\nHost: a\n\n", Ambiguous, "AmbiguousUri");
    is("GET / HTTP/1.1\nHost: a\n b\n\n", Ambiguous, "MultilineHeader");
    is("GET / HTTP/1.1\nHost a\n\n", Ambiguous, "MissingHeaderColon");
    is("GET HTTP/1.1\nHost: a\n\n", Ambiguous, "MissingUri");
    is("GET / HTTP/1.1\nA: \0\n\n", Severe, "BadHeader");
    is("GET /\0 HTTP/1.1\nHost: a\n\n", Severe, "BadUri");
    is("GET / HTTP/1.x\nHost: a\n\n", Severe, "BadVersion");
    is("G(T / HTTP/1.1\nHost: a\n\n", Severe, "BadMethod");
    let two = "POST / HTTP/1.1\nContent-Length: 5\nContent-Length: 6\n\n";
    is(two, Severe, "MultipleContentLength");
    is("POST / HTTP/1.1\nContent-Length: +5\n\n", Severe, "BadContentLength");
    let twice = "POST / HTTP/1.1\nTransfer-Encoding: chunked, chunked\n\n";
    is(twice, Severe, "MultipleTransferEncodingChunked");
    let odd = "POST / HTTP/1.1\nTransfer-Encoding: xchunked\n\n";
    is(odd, Severe, "BadTransferEncoding");
}

#[test]
fn modes_are_albs() {
    use DesyncMode::{Defensive, Monitor, Strictest};
    use Verdict::{Pass, PassAndClose, Refuse};
    for (mode, expected) in [
        (Monitor, [Pass, Pass, Pass]),
        (Defensive, [Pass, PassAndClose, Refuse]),
        (Strictest, [Refuse, Refuse, Refuse]),
    ] {
        let classes = [Class::Acceptable, Class::Ambiguous, Class::Severe];
        assert_eq!(classes.map(|class| verdict(mode, class)), expected, "{mode:?}");
    }
}

#[test]
fn the_screen_knows_what_is_ordinary() {
    let browser = "GET /a/b%20c?d=e&f[]=g HTTP/1.1\nHost: example.com:8080\n\
        Connection: keep-alive\nsec-ch-ua: \"Chromium\";v=\"130\", \"?\";v=\"99\"\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64)\nAccept: text/html,*/*;q=0.8\n\
        Accept-Encoding: gzip, deflate, br\nCookie: a=b; c=d\nX_Id:\t1 \n\n";
    for head in [
        "GET / HTTP/1.1\nHost: a\n\n",
        browser,
        "POST /x HTTP/1.1\nHost: a\nContent-Length: 12\nContent-Type: text/plain\n\n",
        "PUT /x HTTP/1.1\nHost: a\ntransfer-encoding: Chunked\n\n",
        "OPTIONS * HTTP/1.1\nHost: a\nContent-Encoding: br\n\n",
    ] {
        let head = head.replace('\n', "\r\n");
        assert!(is_ordinary(head.as_bytes()) && analyse(head.as_bytes()).is_none(), "{head}");
    }
}

/// Pieces of which heads are made; a head has some of them, most of them good.
const LINES: [&str; 30] = [
    "Host: a",
    "Accept: */*",
    "User-Agent: x/1 (y; z)",
    "Cookie: a=b; c=d",
    "X-Id: 1",
    "X_Id:2",
    "Content-Length: 5",
    "content-length: 0",
    "Content-Length:  12 ",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: 99999999999999999999",
    "Content-Length:",
    "Content_Length: 5",
    "ContentLength: 5",
    "-Content-Length: 5",
    "Transfer-Encoding: chunked",
    "transfer-encoding: gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
    "TransferEncoding: x",
    ": empty",
    "no colon",
    " folded: x",
    "\tfolded",
    "A: b\u{e4}",
    "Connection: close, Content-Length",
];
const BEGINNINGS: [&str; 14] = [
    "GET / HTTP/1.1",
    "POST /a?b=c HTTP/1.1",
    "HEAD * HTTP/1.1",
    "PUT http://a/b HTTP/1.1",
    "get / HTTP/1.1",
    "GET / HTTP/1.0",
    "GET / HTTP/1.2",
    "GET /a b HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET /",
    "GET / HTTP/1.1 ",
    "G-T / HTTP/1.1",
    "GET /\u{7f} HTTP/1.1",
    "DELETE /\u{e4} HTTP/1.1",
];

fn head(rng: &mut fastrand::Rng) -> Vec<u8> {
    let ends = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""];
    let is_odd = rng.u8(..4) == 0;
    let mut head = Vec::new();
    let good = rng.bool();
    let first = BEGINNINGS[rng.usize(..if good { 4 } else { BEGINNINGS.len() })];
    head.extend(first.as_bytes());
    head.extend(if is_odd { ends[rng.usize(..ends.len())] } else { "\r\n" }.as_bytes());
    for _ in 0..rng.usize(..6) {
        let line = LINES[rng.usize(..if good { 9 } else { LINES.len() })];
        head.extend(line.as_bytes());
        head.extend(if is_odd { ends[rng.usize(..ends.len())] } else { "\r\n" }.as_bytes());
    }
    head.extend(b"\r\n");
    // One byte is another, or gone, or twice.
    if rng.bool() {
        let at = rng.usize(..head.len());
        match rng.u8(..4) {
            0 => head[at] = rng.u8(..),
            1 => head[at] = b"\r\n\0\t :,-_"[rng.usize(..9)],
            2 => drop(head.remove(at)),
            _ => head.insert(at, head[at]),
        }
    }
    head
}

#[test]
fn the_screen_never_passes_what_the_classifier_does_not() {
    let count = if crate::http::tests::is_full() { 1_000_000 } else { 50_000 };
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut passed = 0;
    for _ in 0..count {
        let head = head(&mut rng);
        if is_ordinary(&head) {
            passed += 1;
            let found = analyse(&head);
            assert!(found.is_none(), "seed {seed}: {found:?} {}", head.escape_ascii());
        }
    }
    assert!(passed > count / 10, "{passed} of {count} were of use; seed {seed}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_classifier_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in prop::collection::vec("[ \t:A-Za-z\r-]{0,12}", 0..6),
    ) {
        let _ = classify(&bytes);
        let text = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        let _ = classify(text.as_bytes());
        let _ = classify(&text.as_bytes()[..text.len() / 2]);
    }
}
