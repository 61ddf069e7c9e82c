//! What is added to and taken from the headers that pass.
//!
//! **Invariant:** nothing that describes one connection (RFC 9110, section 7.6.1) crosses to the
//! other.

use std::net::{IpAddr, SocketAddr};

use crate::clock::Timestamp;
use crate::logs::push_ipv4;

pub const FORWARDED_FOR: &str = "X-Forwarded-For";
pub const FORWARDED_PROTO: &str = "X-Forwarded-Proto";
pub const FORWARDED_PORT: &str = "X-Forwarded-Port";
pub const TRACE_ID: &str = "X-Amzn-Trace-Id";

/// `X-Forwarded-Proto`'s value.
#[must_use]
pub const fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

/// ALB answers 463 to more addresses than this.
const FORWARDED_FOR_MOST: usize = 30;
/// ALB: a longer trace header is replaced by a fresh one.
const TRACE_ID_MOST: usize = 7 * 1024;

/// The client sent more than 30 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAddresses;

/// `X-Forwarded-For` with the client's address appended, behind what is in `out`; `sent` are the
/// values of every such header, in order, and `client` is [`client_text`].
///
/// # Errors
/// More than 30 addresses were sent.
pub fn write_forwarded_for<'a>(
    sent: impl Iterator<Item = &'a [u8]>,
    client: &str,
    out: &mut Vec<u8>,
) -> Result<(), TooManyAddresses> {
    let begin = out.len();
    for sent in sent.map(<[u8]>::trim_ascii).filter(|sent| !sent.is_empty()) {
        out.extend_from_slice(sent);
        out.extend_from_slice(b", ");
    }
    if out[begin..].iter().filter(|byte| **byte == b',').count() > FORWARDED_FOR_MOST {
        return Err(TooManyAddresses);
    }
    out.extend_from_slice(client.as_bytes());
    Ok(())
}

/// A client's address as targets see it: IPv4 clients of a dual-stack socket as what they are.
#[must_use]
pub fn client_text(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let mut text = String::with_capacity("255.255.255.255".len());
            push_ipv4(address, &mut text);
            text
        }
        IpAddr::V6(address) => address.to_string(),
    }
}

/// The same with its port: AWS, "Client port preservation".
#[must_use]
pub fn client_with_port(client: SocketAddr) -> String {
    SocketAddr::new(client.ip().to_canonical(), client.port()).to_string()
}

/// ALB calls every other header name invalid.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether all bytes are of a kind, a bit of those that a table gives each byte. Looks at all of
/// them, without a branch for each.
pub(super) fn all_of(bytes: &[u8], kinds: &[u8; 256], kind: u8) -> bool {
    bytes.iter().fold(kind, |seen, byte| seen & kinds[usize::from(*byte)]) == kind
}

/// Whether a header is one of those that tell a target about its client's certificate.
#[must_use]
pub fn is_of_certificate(name: &str) -> bool {
    name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("x-amzn-mtls-"))
}

/// Whether a header is one of those that tell a target who is logged in.
#[must_use]
pub fn is_of_login(name: &str) -> bool {
    name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("x-amzn-oidc-"))
}

/// Whether a request of this `Content-Type` is a gRPC call: gRPC, "HTTP/2 transport mapping". That
/// of gRPC-Web, which is spoken over any HTTP, is not.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    let name = super::errors::GRPC_TYPE.len();
    content_type.get(..name).is_some_and(|own| {
        own.eq_ignore_ascii_case(super::errors::GRPC_TYPE.as_bytes())
            && matches!(content_type.get(name), None | Some(b'+' | b';' | b' '))
    })
}

/// `X-Amzn-Trace-Id` as it is sent on: a Root when there is none, else a Self of our own before it.
#[must_use]
pub fn trace_id(sent: Option<&str>, now: Timestamp, rng: &mut fastrand::Rng) -> String {
    let sent = sent.map(str::trim).filter(|sent| !sent.is_empty() && sent.len() <= TRACE_ID_MOST);
    let has = |name| sent.is_some_and(|sent| fields(sent).any(|field| is_field(field, name)));
    let mut value = String::with_capacity(40 + sent.map_or(0, str::len));
    value.push_str(if has("Root") { "Self=" } else { "Root=" });
    push_id(now, rng, &mut value);
    // A Self is of the last load balancer only.
    for field in sent.into_iter().flat_map(fields).filter(|field| !is_field(field, "Self")) {
        value.push(';');
        value.push_str(field);
    }
    value
}

fn fields(value: &str) -> impl Iterator<Item = &str> {
    value.split(';').map(str::trim).filter(|field| !field.is_empty())
}

fn is_field(field: &str, name: &str) -> bool {
    field.split_once('=').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
}

/// `1-`, eight hexadecimal digits of time, `-`, 24 that tell it from all others.
fn push_id(now: Timestamp, rng: &mut fastrand::Rng, out: &mut String) {
    let mut id = *b"1-........-........................";
    let seconds = now.millis() / 1000;
    write_hexadecimal(seconds, &mut id[2..10]);
    write_hexadecimal(rng.u64(..), &mut id[11..23]);
    write_hexadecimal(rng.u64(..), &mut id[23..]);
    out.push_str(std::str::from_utf8(&id).unwrap_or_default());
}

/// The lowest digits of a number, as many as there is room for, the highest first.
fn write_hexadecimal(mut number: u64, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// `Host` as ALB sends it on: the listener's port is appended when it is not 80 or 443 and none is
/// there, and a default port is taken away on those two. None: it stays as it is.
#[must_use]
pub fn host(sent: &str, listener_port: u16) -> Option<String> {
    let (name, port) = split_port(sent);
    if name.is_empty() {
        return None;
    }
    let default = matches!(listener_port, 80 | 443);
    match port {
        None if !default => Some(format!("{name}:{listener_port}")),
        Some("80" | "443") if default => Some(name.to_owned()),
        _ => None,
    }
}

/// The authority of a request target in absolute form, `http://a.test/x`; none in any other form.
#[must_use]
pub fn target_authority(target: &[u8]) -> Option<&str> {
    let target = std::str::from_utf8(target).ok().filter(|target| !target.starts_with('/'))?;
    let (_, behind) = target.split_once("://")?;
    let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    Some(&behind[..end])
}

/// A host and the port behind its last colon; a bare IPv6 address has none.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Fields of one connection that a response must not carry on. `Connection` and `Transfer-Encoding`
/// are written anew by the carrier.
pub const HOP_BY_HOP: [&str; 4] = ["keep-alive", "proxy-connection", "te", "upgrade"];

/// The field names that a `Connection` value nominates.
pub fn nominated(connection: &str) -> impl Iterator<Item = &str> {
    let reserved = |name: &&str| {
        // Framing and routing are not a peer's to take away.
        !["close", "keep-alive", "upgrade", "content-length", "transfer-encoding", "connection"]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    connection.split(',').map(str::trim).filter(|name| !name.is_empty()).filter(reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_for(sent: &[&str], client: &str, expected: &str) {
        let sent = sent.iter().map(|sent| sent.as_bytes());
        let mut value = Vec::new();
        write_forwarded_for(sent, &client_text(client.parse().unwrap()), &mut value).unwrap();
        assert_eq!(String::from_utf8(value).unwrap(), expected);
    }

    #[test]
    fn calls_are_known_by_their_content_type() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC;x=y"] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        for kind in ["", "application/json", "application/grpc-web", "application/grpcx"] {
            assert!(!is_grpc(kind.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn client_is_appended_to_forwarded_for() {
        check_for(&[], "10.0.0.1", "10.0.0.1");
        check_for(&["1.2.3.4"], "10.0.0.1", "1.2.3.4, 10.0.0.1");
        check_for(&["1.2.3.4, 5.6.7.8", " 9.9.9.9 ", ""], "::1", "1.2.3.4, 5.6.7.8, 9.9.9.9, ::1");
        check_for(&[], "::ffff:10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn thirty_addresses_pass_and_one_more_does_not() {
        let sent = |count: usize| vec!["1.2.3.4"; count].join(",");
        let count = |count| {
            let sent = sent(count);
            write_forwarded_for([sent.as_bytes()].into_iter(), "10.0.0.1", &mut Vec::new()).is_ok()
        };
        assert!(count(30));
        assert!(!count(31));
    }

    #[test]
    fn ports_stand_behind_addresses() {
        let check = |client: &str, expected: &str| {
            assert_eq!(client_with_port(client.parse().unwrap()), expected);
        };
        check("10.0.0.1:5", "10.0.0.1:5");
        check("[::ffff:10.0.0.1]:5", "10.0.0.1:5");
        check("[fd00::1]:5", "[fd00::1]:5");
    }

    #[test]
    fn names_are_letters_digits_and_hyphens() {
        assert!(is_valid_name("X-Forwarded-For2"));
        for name in ["X_A", "x.a", "a!"] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    fn check_trace(sent: Option<&str>, expected: &str) {
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Timestamp::from_millis(0x6789_1233 * 1000);
        let value = trace_id(sent, now, &mut rng);
        let mut same = fastrand::Rng::with_seed(1);
        let mut half = || same.u64(..) & 0xffff_ffff_ffff;
        let own = format!("1-67891233-{:012x}{:012x}", half(), half());
        assert_eq!(own.len(), 35);
        assert_eq!(value, expected.replace("OWN", &own), "{sent:?}");
    }

    #[test]
    fn trace_id_gets_a_root_or_a_self() {
        check_trace(None, "Root=OWN");
        check_trace(Some(""), "Root=OWN");
        check_trace(Some("Root=1-5-a"), "Self=OWN;Root=1-5-a");
        check_trace(Some("Root=1-5-a;CalledFrom=app"), "Self=OWN;Root=1-5-a;CalledFrom=app");
        check_trace(Some("Self=1-4-b; Root=1-5-a"), "Self=OWN;Root=1-5-a");
        check_trace(Some("CalledFrom=app"), "Root=OWN;CalledFrom=app");
        check_trace(Some(&format!("Root=1-5-a;X={}", "y".repeat(7 * 1024))), "Root=OWN");
    }

    fn check_host(sent: &str, port: u16, expected: Option<&str>) {
        assert_eq!(host(sent, port).as_deref(), expected, "{sent} on {port}");
    }

    #[test]
    fn host_carries_the_port_unless_it_is_a_default_one() {
        check_host("example.com", 8080, Some("example.com:8080"));
        check_host("example.com:9", 8080, None);
        check_host("example.com", 80, None);
        check_host("example.com:80", 80, Some("example.com"));
        check_host("example.com:8080", 80, None);
        check_host("[::1]", 8080, Some("[::1]:8080"));
        check_host("[::1]:80", 80, Some("[::1]"));
        check_host("", 8080, None);
    }

    #[test]
    fn only_the_absolute_form_has_an_authority() {
        let check = |target: &str, expected| {
            assert_eq!(target_authority(target.as_bytes()), expected, "{target}");
        };
        check("http://a.test/x", Some("a.test"));
        check("http://a.test:8?x", Some("a.test:8"));
        check("/x?http://a.test/", None);
        check("*", None);
    }

    #[test]
    fn framing_cannot_be_nominated_away() {
        let names: Vec<_> = nominated("close, X-A ,content-length,, x-b").collect();
        assert_eq!(names, ["X-A", "x-b"]);
    }

    proptest::proptest! {
        #[test]
        fn what_we_write_of_what_was_sent_ends_no_line(
            sent in "[ -~\t]{0,80}",
            host in "[!-~]{0,30}",
            addresses in proptest::collection::vec("[0-9a-f.:, ]{0,40}", 0..4),
        ) {
            let is_text = |text: &str| text.bytes().all(|byte| byte == b'\t' || byte >= b' ');
            let now = Timestamp::from_millis(1);
            let id = trace_id(Some(&sent), now, &mut fastrand::Rng::with_seed(1));
            proptest::prop_assert!(is_text(&id) && id.contains("Root="), "{}", id);
            let host = super::host(&host, 80);
            proptest::prop_assert!(host.is_none_or(|host| is_text(&host)));
            let mut value = Vec::new();
            let sent = addresses.iter().map(|one| one.as_bytes());
            if write_forwarded_for(sent, "10.0.0.1", &mut value).is_ok() {
                let value = String::from_utf8(value).unwrap();
                proptest::prop_assert!(is_text(&value) && value.ends_with("10.0.0.1"), "{}", value);
            }
        }

        #[test]
        fn no_bytes_make_the_readers_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            text in ".{0,40}",
        ) {
            let _ = (target_authority(&bytes), is_grpc(&bytes), is_valid_name(&text));
            let _ = (is_of_login(&text), is_of_certificate(&text), nominated(&text).count());
        }
    }
}
