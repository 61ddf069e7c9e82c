//! A request's head: what we need to know of it, and the head that the target gets.
//!
//! Pure: bytes in, bytes out. The head was framed and bounded by [`Scanner`]; here it is parsed,
//! and written anew field by field. **Invariant:** what a target gets is what was parsed: nothing
//! that we have not understood crosses.
//!
//! [`Scanner`]: super::super::head::Scanner

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::OnceLock;

use super::super::errors::Cause;
use super::super::head::{Body, Head};
use super::super::headers;
use super::fields::{self, Field, Fields, MOST, OURS};
use crate::model::{ForwardedFor, RequestRules};
use crate::routing::SocketKey;
use crate::rules::{Facts, Headers, Spoken, Transformed};
use crate::tls::Session;

/// The connection that a request came over.
#[derive(Debug)]
pub(super) struct Origin {
    /// The client's address without its port, as it is sent on.
    pub(super) client: String,
    pub(super) peer: SocketAddr,
    pub(super) listener: SocketAddr,
    /// It came over TLS.
    pub(super) is_secure: bool,
    /// Where clients are asked for certificates: header lines that tell targets what was shown.
    pub(super) mutual: Option<String>,
    pub(super) trace_id: TraceId,
}

/// Of one connection: `TID_` and 32 hexadecimal digits, as ALB's; chosen when it is first told.
#[derive(Debug, Default)]
pub(super) struct TraceId(OnceLock<String>);

impl TraceId {
    pub(super) fn as_str(&self) -> &str {
        self.0.get_or_init(|| format!("TID_{:032x}", fastrand::u128(..)))
    }
}

impl Origin {
    pub(super) fn new((peer, socket): (SocketAddr, SocketKey), session: Option<&Session>) -> Self {
        Self {
            client: headers::client_text(peer.ip()),
            peer,
            listener: socket.address,
            is_secure: session.is_some(),
            mutual: session.and_then(|session| session.mutual.clone()),
            trace_id: TraceId::default(),
        }
    }

    /// One without TLS.
    #[cfg(test)]
    pub(super) fn between(peer: &str, listener: &str) -> Self {
        let (peer, address) = (peer.parse().unwrap(), listener.parse().unwrap());
        let transport = crate::model::Transport::Tcp;
        Self::new((peer, SocketKey { address, transport }), None)
    }
}

/// What a head is written by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub(super) origin: &'a Origin,
    pub(super) rules: RequestRules,
    pub(super) transformed: &'a Transformed,
}

/// A parsed request. Ranges lie in the bytes of its head: as it was sent, or (HTTP/2) as it is
/// written for the target.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) method: Range<usize>,
    /// Path and query.
    pub(super) target: Range<usize>,
    /// In place of `target`, where that was not to be sent on as it was.
    pub(super) escaped: Option<String>,
    pub(super) host: Range<usize>,
    pub(super) user_agent: Option<Range<usize>>,
    pub(super) is_http_1_0: bool,
    pub(super) is_http_2: bool,
    pub(super) spoken: Spoken,
    /// Its client takes trailers, and says so.
    pub(super) trailers: bool,
    pub(super) is_head: bool,
    /// The client means to send another one.
    pub(super) keep_alive: bool,
    /// It waits for 100 before it sends the body.
    pub(super) expects: bool,
    /// It asks for a WebSocket.
    pub(super) upgrades: bool,
    /// HTTP/2's fields as the client sent them, behind a first line.
    pub(super) sent: Option<Vec<u8>>,
    /// Well-formed, but not to be sent on.
    pub(super) refused: Option<Cause>,
}

impl Request {
    pub(super) fn method<'a>(&self, bytes: &'a [u8]) -> &'a str {
        text(&bytes[self.method.clone()])
    }

    /// With the query.
    pub(super) fn target<'a>(&'a self, bytes: &'a [u8]) -> &'a str {
        self.escaped.as_deref().unwrap_or_else(|| text(&bytes[self.target.clone()]))
    }

    pub(super) fn host<'a>(&self, bytes: &'a [u8]) -> &'a str {
        text(&bytes[self.host.clone()])
    }

    pub(super) fn user_agent<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.user_agent.clone().map(|range| &bytes[range])
    }

    pub(super) const fn version(&self) -> &'static str {
        match (self.is_http_2, self.is_http_1_0) {
            (true, _) => "HTTP/2.0",
            (false, true) => "HTTP/1.0",
            (false, false) => "HTTP/1.1",
        }
    }

    /// `source` is the connection's other end.
    pub(super) fn facts<'a>(&'a self, bytes: &'a [u8], source: IpAddr) -> Facts<'a> {
        let target = self.target(bytes);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Facts {
            host: self.host(bytes),
            path,
            query,
            method: self.method(bytes),
            source: Some(source),
            headers: match &self.sent {
                Some(sent) => Headers::Head(sent),
                None => Headers::Head(&bytes[..self.head.length]),
            },
            spoken: self.spoken,
        }
    }
}

/// Parses the head at the beginning of `bytes` and writes what the target gets to `out`.
///
/// # Errors
/// It is no request, or its authority could be read in two ways.
pub(super) fn translate(
    bytes: &[u8],
    head: Head,
    way: Way<'_>,
    trace_id: impl FnOnce(Option<&str>) -> String,
    out: &mut Vec<u8>,
) -> Result<(Request, String), Cause> {
    let bytes = &bytes[..head.length];
    out.reserve(head.length + OURS);
    let mut headers = [const { MaybeUninit::uninit() }; MOST];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length == head.length => {}
        _ => return Err(Cause::Malformed),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Cause::Malformed);
    };
    let fields = Fields::read(parsed.headers);
    let (target, escaped, authority) = origin_form(target)?;
    let mut request = Request {
        head,
        method: range(bytes, method.as_bytes()),
        target: range(bytes, target.as_bytes()),
        escaped,
        host: 0..0,
        user_agent: None,
        is_http_1_0: minor == 0,
        is_http_2: false,
        spoken: Spoken::Http1,
        trailers: false,
        is_head: method == "HEAD",
        keep_alive: !fields.close && (minor == 1 || fields.keep_alive),
        expects: false,
        upgrades: minor == 1
            && fields.upgrade
            && method == "GET"
            && fields.values(Field::Upgrade).any(|asked| asked.eq_ignore_ascii_case(b"websocket")),
        sent: None,
        refused: None,
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let transformed = way.transformed;
    let target = transformed.target.as_deref().unwrap_or_else(|| request.target(bytes));
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let sent = read_host(&fields, authority)?;
    request.host = range(bytes, sent.as_bytes());
    let host = transformed.host.as_deref().unwrap_or(sent);
    write_host(host, way, out);
    let sent_trace_id = pass(&fields, &mut request, way, out);
    request.user_agent = fields.values(Field::UserAgent).last().map(|value| range(bytes, value));
    let trace_id = trace_id(sent_trace_id);
    write_ours(&fields, &mut request, way, &trace_id, out);
    Ok((request, trace_id))
}

/// Path and query of a request target (RFC 9112, section 3.2), and its authority. What is not
/// ASCII is escaped.
pub(super) fn origin_form(target: &str) -> Result<(&str, Option<String>, Option<&str>), Cause> {
    let whole = target.split_once('#').map_or(target, |(target, _)| target);
    let (path, authority) = if whole.starts_with('/') || whole == "*" {
        (whole, None)
    } else {
        let authority = headers::target_authority(target.as_bytes()).ok_or(Cause::Malformed)?;
        let (scheme, behind) = whole.split_once("://").ok_or(Cause::Malformed)?;
        let known = ["http", "https"].iter().any(|own| scheme.eq_ignore_ascii_case(own));
        if !known || authority.is_empty() {
            return Err(Cause::Malformed);
        }
        (&behind[authority.len()..], Some(authority))
    };
    if path.starts_with(['/', '*']) && path.is_ascii() {
        return Ok((path, None, authority));
    }
    let mut escaped = String::with_capacity(path.len() + 16);
    if !path.starts_with('/') {
        escaped.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii() {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok((path, Some(escaped), authority))
}

/// The host that is meant: of the authority, else as sent.
pub(super) fn read_host<'a>(
    fields: &Fields<'_, 'a>,
    authority: Option<&'a str>,
) -> Result<&'a str, Cause> {
    let sent = fields.values(Field::Host).next().map(<[u8]>::trim_ascii);
    let differs =
        |authority: &str| sent.is_some_and(|sent| !sent.eq_ignore_ascii_case(authority.as_bytes()));
    if !sent.is_none_or(is_host)
        || authority.is_some_and(|own| !is_host(own.as_bytes()))
        || authority.is_some_and(differs)
    {
        return Err(Cause::Malformed);
    }
    Ok(authority.unwrap_or_else(|| text(sent.unwrap_or_default())))
}

/// `Host`; where none was sent (HTTP/1.0), the address that the request was sent to.
pub(super) fn write_host(host: &str, way: Way<'_>, out: &mut Vec<u8>) {
    let listener = way.origin.listener;
    let kept = way.rules.preserve_host && way.transformed.host.is_none();
    match headers::host(host, listener.port()).filter(|_| !kept) {
        Some(changed) => fields::write_line(b"Host", changed.as_bytes(), out),
        None if host.is_empty() => {
            let _ = write!(out, "Host: {listener}\r\n");
        }
        None => fields::write_line(b"Host", host.as_bytes(), out),
    }
}

/// What may stand in an authority that nobody reads in another way: no user information, no
/// beginning of a path, nothing but ASCII.
fn is_host(host: &[u8]) -> bool {
    const FITS: [bool; 256] = {
        let mut fits = [false; 256];
        let mut byte = 0_u8;
        while byte < 0x7f {
            fits[byte as usize] = byte.is_ascii_graphic()
                && !matches!(byte, b'@' | b'/' | b'\\' | b'?' | b'#' | b',' | b'"' | b'<' | b'>');
            byte += 1;
        }
        fits
    };
    host.iter().all(|byte| FITS[usize::from(*byte)])
}

/// Passes on what is the client's to say. Returns the trace id it sent.
pub(super) fn pass<'a>(
    fields: &Fields<'_, 'a>,
    request: &mut Request,
    way: Way<'_>,
    out: &mut Vec<u8>,
) -> Option<&'a str> {
    let (mut trace_id, mut written, drop_invalid) = (None, None, way.rules.drop_invalid);
    let (is_told, is_known) = (way.origin.mutual.is_some(), way.transformed.identity.is_some());
    for (kind, field) in fields.iter() {
        match kind {
            Field::Other | Field::UserAgent if fields.nominates(field.name) => {}
            // Ours to say.
            Field::Other if is_known && headers::is_of_login(field.name) => {}
            Field::Other if is_told && headers::is_of_certificate(field.name) => {}
            Field::Other if drop_invalid && !headers::is_valid_name(field.name) => {}
            Field::Other => fields::write(field, out),
            Field::UserAgent => {
                fields::write(field, out);
                let end = out.len() - "\r\n".len();
                written = Some(end - field.value.len()..end);
            }
            // Answered by us: RFC 9110, section 10.1.1, and ALB.
            Field::Expect => {
                request.expects = !request.is_http_1_0
                    && field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
            }
            Field::TraceId if trace_id.is_none() => {
                trace_id = std::str::from_utf8(field.value).ok().filter(|value| value.is_ascii());
            }
            Field::Connection
            | Field::ContentLength
            | Field::Forwarded
            | Field::ForwardedFor
            | Field::HopByHop
            | Field::Host
            | Field::TraceId
            | Field::TransferEncoding
            | Field::Upgrade => {}
        }
    }
    // Of HTTP/2's head only what was written is text.
    if request.is_http_2 {
        request.user_agent = written;
    }
    trace_id
}

/// What is ours to say: who asked, and how the body is framed.
pub(super) fn write_ours(
    fields: &Fields<'_, '_>,
    request: &mut Request,
    way: Way<'_>,
    trace_id: &str,
    out: &mut Vec<u8>,
) {
    if write_forwarded_for(fields, way, out).is_err() {
        request.refused = Some(Cause::ForwardedFor);
    }
    out.extend_from_slice(b"X-Forwarded-Proto: ");
    out.extend_from_slice(headers::scheme(way.origin.is_secure).as_bytes());
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    fields::write_number(way.origin.listener.port().into(), out);
    out.extend_from_slice(b"\r\nX-Amzn-Trace-Id: ");
    out.extend_from_slice(trace_id.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(way.origin.mutual.as_deref().unwrap_or_default().as_bytes());
    let identity = way.transformed.identity.as_deref().unwrap_or_default();
    out.extend_from_slice(identity.as_bytes());
    match request.head.body {
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::Length(0) if fields.values(Field::ContentLength).next().is_none() => {}
        Body::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            fields::write_number(length, out);
            out.extend_from_slice(b"\r\n");
        }
    }
    if request.upgrades {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else if request.head.ambiguous {
        // Whoever reads it differently shall not read a second one: RFC 9112, section 6.1.
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// AWS, "X-Forwarded headers": who asked is added to what was sent, or that stays, or nothing does.
fn write_forwarded_for(
    fields: &Fields<'_, '_>,
    way: Way<'_>,
    out: &mut Vec<u8>,
) -> Result<(), headers::TooManyAddresses> {
    let sent = fields.values(Field::ForwardedFor);
    match way.rules.forwarded_for {
        ForwardedFor::Append => {
            out.extend_from_slice(b"X-Forwarded-For: ");
            let written = match way.rules.client_port {
                false => headers::write_forwarded_for(sent, &way.origin.client, out),
                true => {
                    let client = headers::client_with_port(way.origin.peer);
                    headers::write_forwarded_for(sent, &client, out)
                }
            };
            out.extend_from_slice(b"\r\n");
            written
        }
        ForwardedFor::Preserve => {
            sent.for_each(|value| {
                fields::write_line(headers::FORWARDED_FOR.as_bytes(), value, out);
            });
            Ok(())
        }
        ForwardedFor::Remove => Ok(()),
    }
}

/// Where `part` lies in `whole`; at its beginning when it is empty.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// What the parser has let pass as text is ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::head::{Scan, Scanner};
    use super::*;

    fn read(text: &[u8]) -> Option<Result<(Request, String), Cause>> {
        read_by(RequestRules::default(), text)
    }

    fn read_by(rules: RequestRules, text: &[u8]) -> Option<Result<(Request, String), Cause>> {
        let head = match Scanner::default().scan(text) {
            Scan::Whole(head) => head,
            Scan::Partial => return None,
            Scan::Refused(cause) => return Some(Err(cause)),
        };
        let origin = Origin::between("10.0.0.1:5", "127.0.0.1:8080");
        let trace_id = |sent: Option<&str>| format!("[{}]", sent.unwrap_or_default());
        let mut out = Vec::new();
        let sent = Transformed::default();
        let way = Way { origin: &origin, rules, transformed: &sent };
        let read = translate(text, head, way, trace_id, &mut out);
        Some(read.map(|(request, _)| (request, String::from_utf8_lossy(&out).into_owned())))
    }

    const OURS: &str = "X-Forwarded-For: 10.0.0.1\nX-Forwarded-Proto: http\n\
                        X-Forwarded-Port: 8080\nX-Amzn-Trace-Id: []\n";

    /// Lines end with LF alone here.
    fn check(sent: &str, expected: Result<&str, Cause>) {
        check_by(RequestRules::default(), sent, expected);
    }

    fn check_by(rules: RequestRules, sent: &str, expected: Result<&str, Cause>) {
        let sent = sent.replace('\n', "\r\n") + "\r\n";
        let expected = expected.map(|text| text.replace("OURS\n", OURS).replace('\n', "\r\n"));
        let written = read_by(rules, sent.as_bytes()).unwrap().map(|(_, written)| written);
        assert_eq!(written, expected.map(|text| text + "\r\n"), "{sent}");
    }

    #[test]
    fn heads_are_written_anew() {
        check("GET /a?b HTTP/1.1\nhost:t:9\n", Ok("GET /a?b HTTP/1.1\nHost: t:9\nOURS\n"));
        check(
            "PUT / HTTP/1.1\nHost: t\nAccept:  */* \nConnection: close, X-A\nX-A: 1\nTE: gzip\n\
             Proxy-Connection: x\nKeep-Alive: 3\nContent-Length: 3, 3\ncontent-length: 3\n",
            Ok("PUT / HTTP/1.1\nHost: t:8080\nAccept: */*\nOURS\nContent-Length: 3\n"),
        );
        check(
            "POST / HTTP/1.1\nHost: t\nTransfer-Encoding: Chunked\nExpect: 100-continue\n",
            Ok("POST / HTTP/1.1\nHost: t:8080\nOURS\nTransfer-Encoding: chunked\n"),
        );
        check(
            "POST / HTTP/1.1\nHost: t\nContent-Length: 0\n",
            Ok("POST / HTTP/1.1\nHost: t:8080\nOURS\nContent-Length: 0\n"),
        );
        check(
            "POST / HTTP/1.1\nHost: t\nContent-Length: 9\nTransfer-Encoding: chunked\n",
            Ok("POST / HTTP/1.1\nHost: t:8080\nOURS\n\
                Transfer-Encoding: chunked\nConnection: close\n"),
        );
        check("GET / HTTP/1.0\n", Ok("GET / HTTP/1.1\nHost: 127.0.0.1:8080\nOURS\n"));
        check(
            "GET / HTTP/1.1\nHost: t\nConnection: keep-alive, Upgrade\nUpgrade: WebSocket\n",
            Ok("GET / HTTP/1.1\nHost: t:8080\nOURS\nConnection: Upgrade\nUpgrade: websocket\n"),
        );
        for not in
            ["Upgrade: websocket", "Connection: upgrade", "Connection: upgrade\nUpgrade: h2c"]
        {
            check(
                &format!("GET / HTTP/1.1\nHost: t\n{not}\n"),
                Ok("GET / HTTP/1.1\nHost: t:8080\nOURS\n"),
            );
        }
    }

    #[test]
    fn a_load_balancer_may_ask_for_other_headers() {
        let plain = RequestRules::default();
        let sent = "GET / HTTP/1.1\nHost: t\nX-Forwarded-For: a\nx-forwarded-for: b\n";
        let rest = OURS.split_once('\n').unwrap().1;
        let check = |rules, host: &str, forwarded: &str| {
            let expected = format!("GET / HTTP/1.1\nHost: {host}\n{forwarded}{rest}");
            check_by(rules, sent, Ok(&expected));
        };
        check(plain, "t:8080", "X-Forwarded-For: a, b, 10.0.0.1\n");
        let client_port = RequestRules { client_port: true, ..plain };
        check(client_port, "t:8080", "X-Forwarded-For: a, b, 10.0.0.1:5\n");
        let kept = RequestRules { forwarded_for: ForwardedFor::Preserve, ..plain };
        check(kept, "t:8080", "X-Forwarded-For: a\nX-Forwarded-For: b\n");
        let gone = RequestRules { forwarded_for: ForwardedFor::Remove, ..plain };
        check(gone, "t:8080", "");
        let host = RequestRules { preserve_host: true, ..plain };
        check(host, "t", "X-Forwarded-For: a, b, 10.0.0.1\n");
        let odd = "GET / HTTP/1.1\nHost: t\nX_A: 1\nX-B: 2\n";
        check_by(plain, odd, Ok("GET / HTTP/1.1\nHost: t:8080\nX_A: 1\nX-B: 2\nOURS\n"));
        let strict = RequestRules { drop_invalid: true, ..plain };
        check_by(strict, odd, Ok("GET / HTTP/1.1\nHost: t:8080\nX-B: 2\nOURS\n"));
    }

    #[test]
    fn targets_get_the_origin_form() {
        let get = |target: &str, expected: &str| {
            let expected = format!("GET {expected} HTTP/1.1\nHost: t:8080\nOURS\n");
            check(&format!("GET {target} HTTP/1.1\nHost: t\n"), Ok(&expected));
        };
        get("http://t/x?y", "/x?y");
        get("HTTP://t?y", "/?y");
        get("http://t", "/");
        get("/x#y", "/x");
        get("/\u{e4}?\u{e4}", "/%C3%A4?%C3%A4");
        get("/x\"<y>", "/x\"<y>");
        for target in ["x", "t:80", "ftp://t/", "http:///x", "http://u@t/", "http://s/"] {
            check(&format!("GET {target} HTTP/1.1\nHost: t\n"), Err(Cause::Malformed));
        }
        check("OPTIONS * HTTP/1.1\nHost: t\n", Ok("OPTIONS * HTTP/1.1\nHost: t:8080\nOURS\n"));
    }

    #[test]
    fn authorities_are_read_in_one_way() {
        for host in ["u@t", "t/x", "t t", "t?", "t#", "a, b", "t\\x", "\u{e4}"] {
            check(&format!("GET / HTTP/1.1\nHost: {host}\n"), Err(Cause::Malformed));
        }
        check("GET / HTTP/1.1\nHost:\n", Ok("GET / HTTP/1.1\nHost: 127.0.0.1:8080\nOURS\n"));
        check("GET / HTTP/1.1\nHost: [::1]\n", Ok("GET / HTTP/1.1\nHost: [::1]:8080\nOURS\n"));
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for field in ["A: b\rc", "A: b\0", "A b: c", "A: b\x7f", "(A): b", "A: b\r"] {
            check(&format!("GET / HTTP/1.1\nHost: t\n{field}\n"), Err(Cause::Malformed));
        }
        for line in ["GET  / HTTP/1.1", "GET /\t HTTP/1.1", "G(T / HTTP/1.1", "GET /\0 HTTP/1.1"] {
            check(&format!("{line}\nHost: t\n"), Err(Cause::Malformed));
        }
        let many = "A: b\n".repeat(MOST);
        check(&format!("GET / HTTP/1.1\nHost: t\n{many}"), Err(Cause::Malformed));
    }

    #[test]
    fn too_many_addresses_are_refused_but_understood() {
        let addresses = vec!["1.2.3.4"; 31].join(",");
        let text = format!("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {addresses}\r\n\r\n");
        let (request, _) = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(request.refused, Some(Cause::ForwardedFor));
        assert_eq!(request.facts(text.as_bytes(), [10, 0, 0, 1].into()).host, "t");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            line in "(GET|PUT|x) (/|\\*|http://t|[!-~]{0,9}) HTTP/1.[01]\r\n",
            end in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = read(&bytes);
            let whole = [line.as_bytes(), b"Host: t\r\n", &bytes, b"\r\n\r\n", &end].concat();
            if let Some(Ok((_, written))) = read(&whole) {
                // One head and no more, whatever it held.
                prop_assert_eq!(written.find("\r\n\r\n"), Some(written.len() - 4));
            }
        }
    }
}
