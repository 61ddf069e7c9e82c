//! An HTTP/2 request: the head that its target gets, and what we need to know of it.
//!
//! Pure: fields in, bytes out. What HTTP/2 itself forbids (fields of one connection, upper case, a
//! length that the body does not have: RFC 9113, section 8) was refused before.
//! **Invariant:** a request is decided by the host and the path that its target gets, and by the
//! fields that its client sent.

use base64::Engine as _;

use super::super::super::errors::Cause;
use super::super::super::head::{Body, HEADER, HEADERS, Head, REQUEST_LINE};
use super::super::super::headers::{is_grpc, is_of_login};
use super::super::fields::{self, Field, Fields, MOST};
use super::super::request::{Request, Way, origin_form, pass, read_host, write_host, write_ours};
use super::section::Section;
use crate::rules::Spoken;

/// Reads a request and writes what its target gets to `out`, which is empty. `headers`: its fields,
/// see [`Section::headers`]. `ends`: no body follows. `ambiguous`: HTTP/1 may misread it.
///
/// # Errors
/// It is longer than ALB allows, or not to be sent on.
pub(super) fn translate(
    (section, headers): (&Section, &[httparse::Header<'_>]),
    (ends, ambiguous): (bool, bool),
    way: Way<'_>,
    trace_id: impl FnOnce(Option<&str>) -> String,
    out: &mut Vec<u8>,
) -> Result<(Request, String), Cause> {
    let (method, target) = (section.method(), section.target());
    keeps_limits(section, headers)?;
    let upgrades = is_tunnel(section)?;
    let fields = Fields::read(headers);
    let authority = section.authority();
    if authority.is_none_or(str::is_empty) && fields.values(Field::Host).next().is_none()
        || fields.values(Field::Host).nth(1).is_some()
        || !target.starts_with(['/', '*'])
    {
        return Err(Cause::Malformed);
    }
    let length = fields.values(Field::ContentLength).next();
    let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
    let body = match length {
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
        spoken: if upgrades { Spoken::Http1 } else { spoken(section) },
        // Nothing else may stand there.
        trailers: section.values("te").next().is_some(),
        is_head: method == "HEAD",
        keep_alive: true,
        expects: false,
        upgrades,
        sent: None,
        refused: None,
    };
    out.extend_from_slice(if upgrades { b"GET" } else { method.as_bytes() });
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
    if expects_body(method) && ends && length.is_none() {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    write_ours(&fields, &mut request, way, &trace_id, out);
    Ok((request, trace_id))
}

/// What a request with these fields is, a WebSocket left aside.
pub(super) fn spoken(section: &Section) -> Spoken {
    match section.values("content-type").next().is_some_and(is_grpc) {
        true => Spoken::Grpc,
        false => Spoken::Http2,
    }
}

/// RFC 9110, section 8.6: many targets wait for a body otherwise, or ask for a length.
fn expects_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
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
fn is_tunnel(section: &Section) -> Result<bool, Cause> {
    match section.method() {
        "CONNECT" if section.protocol() == Some("websocket") => Ok(true),
        "CONNECT" | "TRACE" => Err(Cause::Method),
        _ => Ok(false),
    }
}

/// ALB's limits, as HTTP/1 would have them.
fn keeps_limits(section: &Section, headers: &[httparse::Header<'_>]) -> Result<(), Cause> {
    let authority = section.authority().map_or(0, str::len);
    let line = section.method().len() + section.target().len() + "  HTTP/1.1".len();
    if section.is_too_long() {
        return Err(Cause::Headers);
    }
    if line > REQUEST_LINE {
        return Err(Cause::RequestLine);
    }
    let mut all = authority;
    for field in headers {
        let size = field.name.len() + field.value.len() + ": ".len();
        if size > HEADER {
            return Err(Cause::Header);
        }
        all += size + "\r\n".len();
    }
    if all > HEADERS || authority > HEADER || headers.len() > MOST {
        return Err(Cause::Headers);
    }
    Ok(())
}

/// HTTP/1 asks for a key, HTTP/2 has none: RFC 8441, section 5.
fn write_key(out: &mut Vec<u8>) {
    let key = base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    fields::write_line(b"Sec-WebSocket-Key", key.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::super::super::request::Origin;
    use super::super::section;
    use super::*;
    use crate::model::RequestRules;
    use crate::rules::Transformed;

    /// `fields`: one `name: value` a line. Lines end with LF alone here.
    fn check(line: &str, fields: &str, ends: bool, expected: Result<&str, Cause>) {
        let (method, uri) = line.split_once(' ').unwrap();
        let (authority, path) = match uri.strip_prefix("http://") {
            Some(rest) => rest.split_at(rest.find('/').unwrap()),
            None if method == "CONNECT" => (uri, ""),
            None => ("", uri),
        };
        let mut sent = vec![(":method", method)];
        sent.extend(Some((":authority", authority)).filter(|_| !authority.is_empty()));
        sent.extend(Some((":path", path)).filter(|_| !path.is_empty()));
        sent.extend(fields.lines().map(|field| field.split_once(": ").unwrap()));
        let section = section::of(&sent);
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:8080");
        let transformed = Transformed::default();
        let way =
            Way { origin: &origin, rules: RequestRules::default(), transformed: &transformed };
        let trace_id = |sent: Option<&str>| format!("[{}]", sent.unwrap_or_default());
        let mut out = Vec::new();
        let crumbs = section.join_crumbs();
        let headers = section.headers(crumbs.as_deref());
        let read = translate((&section, &headers), (ends, false), way, trace_id, &mut out);
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
        check("GET http://t/", "host: t\nhost: t\n", true, Err(Cause::Malformed));
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
        let section = section::of(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "t"),
            (":path", "/ws"),
        ]);
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:80");
        let transformed = Transformed::default();
        let way =
            Way { origin: &origin, rules: RequestRules::default(), transformed: &transformed };
        let mut out = Vec::new();
        let (request, _) =
            translate((&section, &[]), (false, false), way, |_| String::new(), &mut out).unwrap();
        let head = String::from_utf8(out).unwrap();
        assert!(request.upgrades && head.starts_with("GET /ws HTTP/1.1\r\nHost: t\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Key: "), "{head}");
        assert!(head.ends_with("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), "{head}");
    }
}
