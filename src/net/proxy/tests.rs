//! Tests of the PROXY protocol: what is read of a header, and what is left behind it.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

/// Expected: the client, `-` for none, or why not: `more`, `bad`.
fn check(header: &[u8], expected: &str) {
    let text = |parsed: Option<Option<Header>>| match parsed {
        None => "bad".to_owned(),
        Some(None) => "more".to_owned(),
        Some(Some(header)) => header.client.map_or_else(|| "-".to_owned(), |it| it.to_string()),
    };
    let shown = String::from_utf8_lossy(header);
    assert_eq!(text(parse(header)), expected, "{shown:?}");
    if !matches!(expected, "more" | "bad") {
        let behind = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&behind).flatten().map(|header| header.length), Some(header.len()));
        for end in 1..header.len() {
            assert_eq!(parse(&header[..end]), Some(None), "{end} of {shown:?}");
        }
    }
}

#[test]
fn version_1_is_read_to_the_letter() {
    check(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324");
    check(b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", "[2001:db8::1]:65535");
    check(b"PROXY UNKNOWN\r\n", "-");
    check(b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", "-");
    for bad in [
        "GET / HTTP/1.1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    ] {
        check(bad.as_bytes(), "bad");
    }
    check(format!("PROXY UNKNOWN{}", " ".repeat(94)).as_bytes(), "bad");
}

/// A header of version 2.
fn second(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE_2[..], &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80];

#[test]
fn version_2_is_read_to_the_byte() {
    check(&second(0x21, 0x11, &V4), "10.0.0.1:8080");
    let v6 = [&[0; 15], &[1][..], &[0; 16], &[0, 9, 0, 80]].concat();
    check(&second(0x21, 0x21, &v6), "[::1]:9");
    check(&second(0x20, 0x00, &[]), "-");
    check(&second(0x20, 0x11, &V4), "-");
    check(&second(0x21, 0x00, b"whatever"), "-");
    check(&second(0x21, 0x31, &[0; 216]), "-");
    let with = |more: &[u8]| second(0x21, 0x11, &[&V4, more].concat());
    check(&with(&[4, 0, 2, 7, 7, 0xee, 0, 0]), "10.0.0.1:8080");
    for more in [&[4][..], &[4, 0], &[4, 0, 2, 7], &[3, 0, 3, 0, 0, 0], &[3, 0, 4, 0, 0, 0, 0]] {
        check(&with(more), "bad");
    }
    check(&second(0x11, 0x11, &V4), "bad");
    check(&second(0x22, 0x11, &V4), "bad");
    check(&second(0x21, 0x12, &V4), "bad");
    check(&second(0x21, 0x11, &V4[..11]), "bad");
    check(&second(0x21, 0x00, &[0; LONGEST_2])[..FIXED_2], "bad");
}

#[test]
fn a_checksum_has_to_be_right() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    let mut header = second(0x21, 0x11, &[&V4[..], &[3, 0, 4, 0, 0, 0, 0, 4, 0, 0]].concat());
    let sum = crc32c(header.iter()).to_be_bytes();
    header[31..35].copy_from_slice(&sum);
    check(&header, "10.0.0.1:8080");
    header[16] ^= 1;
    check(&header, "bad");
}

#[tokio::test]
async fn what_stands_behind_the_header_stays_in_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let everyone: Pool = "127.0.0.0/8".parse().unwrap();
    let header = second(0x21, 0x11, &V4);
    for step in [1, 7, 1000] {
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut stream, peer) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let bytes = [&header[..], b"hello"].concat();
        let sending = async {
            for part in bytes.chunks(step) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let trusted = [everyone];
        let (found, ()) = tokio::join!(accept(&mut stream, peer, &trusted), sending);
        assert_eq!(found, Ok("10.0.0.1:8080".parse().unwrap()));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
        let other: Pool = "10.0.0.0/8".parse().unwrap();
        assert_eq!(accept(&mut stream, peer, &[other]).await, Err(Refused::Untrusted));
        assert_eq!(accept(&mut stream, peer, &[everyone]).await, Err(Refused::Closed));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic_and_no_prefix_changes_its_mind(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        kind in 0u8..4,
    ) {
        let begun: &[u8] = match kind {
            0 => b"",
            1 => b"PROXY TCP4 ",
            2 => SIGNATURE_2,
            _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        };
        let whole = [begun, &bytes].concat();
        let read = parse(&whole);
        for end in 0..whole.len() {
            match parse(&whole[..end]) {
                Some(None) => {}
                other => prop_assert_eq!(other, read, "{} of {:?}", end, whole),
            }
        }
    }
}
