//! Heads on their way between HTTP/1's lines, which the carrier decides and translates by, and the
//! fields that an HTTP/2 target reads and writes.
//!
//! Pure. **Invariant:** nothing that frames a message or describes a connection becomes a field of
//! HTTP/2 (RFC 9113, section 8.2.2).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};

use super::super::super::errors::Cause;
use super::super::fields::{self, Field, MOST};

/// Fields that a request gets from us beside its client's: who asked, and with which certificate.
const OURS: usize = 32;

/// The request of `head`, which we have written. `trailers`: the client takes them.
///
/// # Errors
/// It cannot be told in HTTP/2.
pub(super) fn request(
    head: Vec<u8>,
    is_secure: bool,
    trailers: bool,
) -> Result<Request<()>, Cause> {
    let bytes = Bytes::from(head);
    let mut headers = [const { MaybeUninit::uninit() }; MOST + OURS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&bytes, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(Cause::Internal),
    }
    let mut map = HeaderMap::with_capacity(parsed.headers.len());
    let mut host = None;
    for field in parsed.headers.iter() {
        match Field::of(field.name) {
            Field::Host => host = Some(field.value),
            Field::Connection | Field::HopByHop | Field::TransferEncoding | Field::Upgrade => {}
            _ => {
                let (name, value) = pair(&bytes, field).ok_or(Cause::Malformed)?;
                map.append(name, value);
            }
        }
    }
    if trailers {
        map.insert(TE, HeaderValue::from_static("trailers"));
    }
    let uri = uri((is_secure, host), parsed.path).ok_or(Cause::Malformed)?;
    let method = parsed.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let mut request = Request::new(());
    *request.method_mut() = method.ok_or(Cause::Malformed)?;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = map;
    Ok(request)
}

fn uri((is_secure, host): (bool, Option<&[u8]>), path: Option<&str>) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if is_secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(host?).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(path?).ok()?);
    Uri::from_parts(parts).ok()
}

/// A field whose value lies in `bytes`.
fn pair(bytes: &Bytes, field: &httparse::Header<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
    let value = match field.value {
        [] => Bytes::new(),
        value => bytes.slice_ref(value),
    };
    let mut value = HeaderValue::from_maybe_shared(value).ok()?;
    // Clients share the connection: RFC 7541, section 7.1.3.
    value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
    Some((name, value))
}

/// A response's head as HTTP/1 writes it.
pub(super) fn response(response: &Response<()>) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.extend_from_slice(b" \r\n");
    for (name, value) in response.headers() {
        fields::write_line(name.as_str().as_bytes(), value.as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines end with LF alone here. Expected: pseudo-headers, then fields.
    fn check(head: &str, secure: bool, trailers: bool, expected: Result<&str, Cause>) {
        let head = head.replace('\n', "\r\n").into_bytes();
        let got = request(head, secure, trailers).map(|request| {
            let mut text = format!("{} {}", request.method(), request.uri());
            for (name, value) in request.headers() {
                let mark = if value.is_sensitive() { "!" } else { "" };
                text += &format!("\n{mark}{name}: {}", value.to_str().unwrap());
            }
            text
        });
        assert_eq!(got.as_deref().map_err(|cause| *cause), expected);
    }

    #[test]
    fn heads_of_http_1_become_fields() {
        check(
            "POST /a.B/C HTTP/1.1\nHost: t:80\ncontent-type: application/grpc\nX-A: b\nx-a:\n\
             Transfer-Encoding: chunked\nConnection: close\n\n",
            false,
            true,
            Ok("POST http://t:80/a.B/C\ncontent-type: application/grpc\nx-a: b\nx-a: \n\
                te: trailers"),
        );
        check(
            "GET /?x HTTP/1.1\nHost: [::1]\nCookie: a=b; c=d\nauthorization: s\n\
             Content-Length: 0\n\n",
            true,
            false,
            Ok("GET https://[::1]/?x\n!cookie: a=b; c=d\n!authorization: s\ncontent-length: 0"),
        );
        check("OPTIONS * HTTP/1.1\nHost: t\n\n", false, false, Ok("OPTIONS http://t*"));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        check("GET / HTTP/1.1\n\n", false, false, Err(Cause::Malformed));
        check("GET / HTTP/1.1\nHost: a b\n\n", false, false, Err(Cause::Malformed));
        check("GET / HTTP/1.1\nHost: a\n", false, false, Err(Cause::Internal));
    }

    #[test]
    fn responses_become_lines() {
        let mut head = Response::new(());
        *head.status_mut() = http::StatusCode::from_u16(299).unwrap();
        head.headers_mut().append("set-cookie", HeaderValue::from_static("a"));
        head.headers_mut().append("set-cookie", HeaderValue::from_static("b"));
        let lines = "HTTP/1.1 299 \r\nset-cookie: a\r\nset-cookie: b\r\n\r\n";
        assert_eq!(response(&head), lines.as_bytes());
    }
}
