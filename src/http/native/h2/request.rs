//! An HTTP/2 request: the head that its target gets, and what we need to know of it.
//!
//! Pure: fields in, bytes out. What HTTP/2 itself forbids (fields of one connection, upper case, a
//! length that the body does not have: RFC 9113, section 8) the `h2` crate has refused before.
//! **Invariant:** a request is decided by the host and the path that its target gets, and by the
//! fields that its client sent.

use base64::Engine as _;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::super::super::errors::Cause;
use super::super::super::head::{Body, HEADER, HEADERS, Head, REQUEST_LINE};
use super::super::super::headers::{is_grpc, is_of_login};
use super::super::fields::{self, Field, Fields, MOST};
use super::super::request::{Request, Way, origin_form, pass, read_host, write_host, write_ours};
use crate::rules::Spoken;

/// Reads a request and writes what its target gets to `out`, which is empty. `crumbs`: see
/// [`join_crumbs`]. `ends`: no body follows. `ambiguous`: HTTP/1 may misread it.
///
/// # Errors
/// It is longer than ALB allows, or not to be sent on.
pub(super) fn translate(
    (parts, crumbs): (&Parts, Option<&[u8]>),
    (ends, ambiguous): (bool, bool),
    way: Way<'_>,
    trace_id: impl FnOnce(Option<&str>) -> String,
    out: &mut Vec<u8>,
) -> Result<(Request, String), Cause> {
    let upgrades = is_tunnel(parts)?;
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    keeps_limits(parts, target)?;
    let headers = headers(&parts.headers, crumbs);
    let fields = Fields::read(&headers);
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if authority.is_none_or(str::is_empty) && fields.values(Field::Host).next().is_none()
        || !target.starts_with(['/', '*'])
    {
        return Err(Cause::Malformed);
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let body = match length.and_then(|length| length.parse().ok()) {
        Some(length) if !ends => Body::Length(length),
        None if !ends && !upgrades => Body::Chunked,
        _ => Body::Length(0),
    };
    let mut request = Request {
        head: Head { length: 0, body, ambiguous },
        method: 0..0,
        target: 0..0,
        escaped: None,
        host: 0..0,
        user_agent: None,
        is_http_1_0: false,
        is_http_2: true,
        spoken: if upgrades { Spoken::Http1 } else { spoken(&parts.headers) },
        trailers: parts.headers.get(TE).is_some_and(|value| value == "trailers"),
        is_head: parts.method == Method::HEAD,
        keep_alive: true,
        expects: false,
        upgrades,
        sent: None,
        refused: None,
    };
    let method = if upgrades { Method::GET.as_str() } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    request.method = 0..out.len();
    out.push(b' ');
    let (path, escaped, _) = origin_form(target)?;
    out.extend_from_slice(escaped.as_deref().unwrap_or(path).as_bytes());
    request.target = request.method.end + 1..out.len();
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = out.len() + "Host: ".len();
    let sent = read_host(&fields, authority)?;
    write_host(sent, way, out);
    if !sent.is_empty() {
        request.host = host..out.len() - 2;
    }
    let sent_trace_id = pass(&fields, &mut request, way, out);
    let trace_id = trace_id(sent_trace_id);
    if upgrades {
        write_key(out);
    }
    if expects_body(parts) && ends && length.is_none() {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    write_ours(&fields, &mut request, way, &trace_id, out);
    Ok((request, trace_id))
}

/// What a request with these headers is, a WebSocket left aside.
pub(super) fn spoken(headers: &HeaderMap) -> Spoken {
    match headers.get(CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes())) {
        true => Spoken::Grpc,
        false => Spoken::Http2,
    }
}

/// RFC 9110, section 8.6: many targets wait for a body otherwise, or ask for a length.
fn expects_body(parts: &Parts) -> bool {
    matches!(parts.method, Method::POST | Method::PUT | Method::PATCH)
}

/// A translated head as a rule's transforms want it: another target, another `Host`, which stand on
/// its first two lines; and told who asks.
pub(in super::super) fn rewrite(head: &[u8], way: Way<'_>, out: &mut Vec<u8>) {
    let mut lines = head.splitn(3, |byte| *byte == b'\n');
    let (line, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    match &way.transformed.target {
        Some(target) => {
            out.extend_from_slice(method);
            out.push(b' ');
            out.extend_from_slice(target.as_bytes());
            out.extend_from_slice(b" HTTP/1.1\r\n");
        }
        None => out.extend_from_slice(&head[..line.len() + 1]),
    }
    match &way.transformed.host {
        Some(host) => write_host(host, way, out),
        None => out.extend_from_slice(&head[line.len() + 1..line.len() + host.len() + 2]),
    }
    let rest = lines.next().unwrap_or_default();
    let Some(identity) = way.transformed.identity.as_deref() else {
        return out.extend_from_slice(rest);
    };
    let name = |line: &[u8]| line.split(|byte| *byte == b':').next().map(<[u8]>::to_vec);
    for line in rest.split_inclusive(|byte| *byte == b'\n').filter(|line| *line != b"\r\n") {
        let name = String::from_utf8(name(line).unwrap_or_default());
        if !name.is_ok_and(|name| is_of_login(&name)) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(identity.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether it asks for a WebSocket (RFC 8441). Other tunnels there are none: a load balancer is no
/// forward proxy. TRACE: ALB answers 405.
fn is_tunnel(parts: &Parts) -> Result<bool, Cause> {
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    match parts.method {
        Method::CONNECT if protocol.is_some_and(|own| own.as_str() == "websocket") => Ok(true),
        Method::CONNECT | Method::TRACE => Err(Cause::Method),
        _ => Ok(false),
    }
}

/// ALB's limits, as HTTP/1 would have them.
fn keeps_limits(parts: &Parts, target: &str) -> Result<(), Cause> {
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let line = parts.method.as_str().len() + target.len() + "  HTTP/1.1".len();
    if line > REQUEST_LINE {
        return Err(Cause::RequestLine);
    }
    let size = |(name, value): (&http::HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": ".len()
    };
    let mut all = authority;
    for size in parts.headers.iter().map(size) {
        if size > HEADER {
            return Err(Cause::Header);
        }
        all += size + "\r\n".len();
    }
    if all > HEADERS || authority > HEADER || parts.headers.len() > MOST {
        return Err(Cause::Headers);
    }
    Ok(())
}

/// HTTP/1 has one `Cookie`: RFC 9113, section 8.2.3. None when there is one at most already.
pub(super) fn join_crumbs(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs = || headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    (crumbs().count() > 1).then(|| crumbs().collect::<Vec<_>>().join(&b"; "[..]))
}

/// The fields as rules look at them: as they were sent, cookies joined.
pub(super) fn sent(mut headers: HeaderMap, crumbs: Option<Vec<u8>>) -> HeaderMap {
    let crumbs = crumbs.and_then(|all| HeaderValue::from_maybe_shared(Bytes::from(all)).ok());
    if let Some(crumbs) = crumbs {
        headers.insert(COOKIE, crumbs);
    }
    headers
}

/// The fields as HTTP/1's parser would give them, cookies joined.
fn headers<'a>(headers: &'a HeaderMap, crumbs: Option<&'a [u8]>) -> Vec<httparse::Header<'a>> {
    let mut list = Vec::with_capacity(headers.len());
    let mut crumbs_due = crumbs;
    for (name, value) in headers {
        let value = match (name == COOKIE, crumbs) {
            (true, Some(_)) => match crumbs_due.take() {
                Some(all) => all,
                None => continue,
            },
            _ => value.as_bytes(),
        };
        list.push(httparse::Header { name: name.as_str(), value });
    }
    list
}

/// HTTP/1 asks for a key, HTTP/2 has none: RFC 8441, section 5.
fn write_key(out: &mut Vec<u8>) {
    let key = base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    fields::write_line(b"Sec-WebSocket-Key", key.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::super::super::request::Origin;
    use super::*;
    use crate::model::RequestRules;
    use crate::rules::Transformed;

    /// `fields`: one `name: value` a line. Lines end with LF alone here.
    fn check(line: &str, fields: &str, ends: bool, expected: Result<&str, Cause>) {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = http::Request::builder().method(method).uri(uri);
        for field in fields.lines() {
            let (name, value) = field.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if method == "CONNECT" && uri.contains("://") {
            parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
        }
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:8080");
        let transformed = Transformed::default();
        let way =
            Way { origin: &origin, rules: RequestRules::default(), transformed: &transformed };
        let trace_id = |sent: Option<&str>| format!("[{}]", sent.unwrap_or_default());
        let mut out = Vec::new();
        let crumbs = join_crumbs(&parts.headers);
        let read = translate((&parts, crumbs.as_deref()), (ends, false), way, trace_id, &mut out);
        let got = read.map(|(request, _)| {
            if let Some(agent) = request.user_agent(&out) {
                assert_eq!(agent, b"agent");
            }
            let head = String::from_utf8_lossy(&out).replace("\r\n", "\n");
            let ours = "X-Forwarded-For: 10.0.0.1\nX-Forwarded-Proto: http\n\
                        X-Forwarded-Port: 8080\nX-Amzn-Trace-Id: []\n";
            let line = (request.method(&out), request.target(&out), request.host(&out));
            format!("{line:?}\n{}", head.replace(ours, "OURS\n"))
        });
        assert_eq!(got, expected.map(str::to_owned), "{line}\n{fields}");
    }

    #[test]
    fn requests_become_heads_of_http_1() {
        check(
            "GET http://t/a?b",
            "accept: */*\nuser-agent: agent\ncookie: a=b\ncookie: c=d\nx-forwarded-proto: evil\n",
            true,
            Ok("(\"GET\", \"/a?b\", \"t:8080\")\nGET /a?b HTTP/1.1\nHost: t:8080\naccept: */*\n\
                user-agent: agent\ncookie: a=b; c=d\nOURS\n\n"),
        );
        check(
            "POST http://t/",
            "host: T\n",
            true,
            Ok("(\"POST\", \"/\", \"t:8080\")\nPOST / HTTP/1.1\nHost: t:8080\n\
                Content-Length: 0\nOURS\n\n"),
        );
        check(
            "PUT http://t/",
            "content-length: 3\nte: trailers\n",
            false,
            Ok("(\"PUT\", \"/\", \"t:8080\")\nPUT / HTTP/1.1\nHost: t:8080\nOURS\n\
                Content-Length: 3\n\n"),
        );
        check(
            "PUT http://t:9/",
            "",
            false,
            Ok("(\"PUT\", \"/\", \"t:9\")\nPUT / HTTP/1.1\nHost: t:9\nOURS\n\
                Transfer-Encoding: chunked\n\n"),
        );
        check(
            "GET /only-host",
            "host: t\n",
            true,
            Ok("(\"GET\", \"/only-host\", \"t:8080\")\nGET /only-host HTTP/1.1\n\
                Host: t:8080\nOURS\n\n"),
        );
    }

    #[test]
    fn what_is_not_to_be_sent_on_is_refused() {
        check("GET /", "", true, Err(Cause::Malformed));
        check("GET http://t/", "host: other\n", true, Err(Cause::Malformed));
        check("GET http://u@t/", "", true, Err(Cause::Malformed));
        check("TRACE http://t/", "", true, Err(Cause::Method));
        check("CONNECT t:443", "", false, Err(Cause::Method));
        let long = "a".repeat(HEADER);
        check(&format!("GET http://t/{long}"), "", true, Err(Cause::RequestLine));
        check("GET http://t/", &format!("x: {long}\n"), true, Err(Cause::Header));
        let many = format!("x: {}\n", "x".repeat(1000)).repeat(70);
        check("GET http://t/", &many, true, Err(Cause::Headers));
        check("GET http://t/", &"x: y\n".repeat(MOST + 1), true, Err(Cause::Headers));
    }

    #[test]
    fn extended_connect_asks_for_an_upgrade() {
        let (mut parts, ()) = http::Request::connect("http://t/ws").body(()).unwrap().into_parts();
        parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:80");
        let transformed = Transformed::default();
        let way =
            Way { origin: &origin, rules: RequestRules::default(), transformed: &transformed };
        let mut out = Vec::new();
        let (request, _) =
            translate((&parts, None), (false, false), way, |_| String::new(), &mut out).unwrap();
        let head = String::from_utf8(out).unwrap();
        assert!(request.upgrades && head.starts_with("GET /ws HTTP/1.1\r\nHost: t\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Key: "), "{head}");
        assert!(head.ends_with("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), "{head}");
    }
}
