//! What rules may look at: the borrowed view of one request.

use std::net::IpAddr;

/// What a request is spoken in, as target groups tell it apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// Also a WebSocket's over HTTP/2 (RFC 8441): its target is asked for an upgrade.
    #[default]
    Http1,
    Http2,
    /// A call: HTTP/2 with gRPC's content type.
    Grpc,
}

/// A request's facts. A TCP flow has none of them: [`Facts::default`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// As sent in `Host` or the absolute form, port included.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Behind the `?`; empty where there is none.
    pub query: &'a str,
    pub method: &'a str,
    /// The connection's other end.
    pub source: Option<IpAddr>,
    pub headers: Headers<'a>,
    pub spoken: Spoken,
}

/// A request's header fields, as its carrier has them. They are looked at only when something asks.
#[derive(Clone, Copy, Debug, Default)]
pub enum Headers<'a> {
    #[default]
    None,
    /// The whole head of an HTTP/1 request, which has been parsed before.
    Head(&'a [u8]),
    Map(&'a http::HeaderMap),
}

impl<'a> Facts<'a> {
    /// The host without its port: `[::1]:80` gives `[::1]`.
    #[must_use]
    pub fn host_name(&self) -> &'a str {
        match self.host.rfind(':') {
            Some(colon) if self.host.ends_with(|c: char| c.is_ascii_digit()) => {
                let (name, _) = self.host.split_at(colon);
                if name.contains(':') && !name.ends_with(']') { self.host } else { name }
            }
            Some(colon) if colon + 1 == self.host.len() => &self.host[..colon],
            _ => self.host,
        }
    }
}

impl<'a> Headers<'a> {
    /// Calls `found` with each value of the header `name`, in order, until it says true; whether it
    /// did.
    pub fn any(&self, name: &str, mut found: impl FnMut(&'a [u8]) -> bool) -> bool {
        match self {
            Self::None => false,
            Self::Map(map) => map.get_all(name).iter().any(|value| found(value.as_bytes())),
            Self::Head(head) => fields(head).any(|(own, value)| {
                own.eq_ignore_ascii_case(name.as_bytes()) && found(value.trim_ascii())
            }),
        }
    }
}

/// Names and values of a head's fields, its first line left out.
fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let begin = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    head[begin..].split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expected: &str) {
        assert_eq!(Facts { host, ..Facts::default() }.host_name(), expected);
    }

    #[test]
    fn host_name_is_without_port() {
        check("example.com", "example.com");
        check("example.com:8080", "example.com");
        check("example.com:", "example.com");
        check("[::1]:80", "[::1]");
        check("[::1]", "[::1]");
        check("::1", "::1");
        check("", "");
    }

    #[test]
    fn headers_are_found_by_name_in_order_however_they_are_held() {
        let head = b"GET /a:b HTTP/1.1\r\nX-A: one \r\nHost: t\r\nx-a:two\r\n\r\n";
        let mut map = http::HeaderMap::new();
        map.append("x-a", "one".parse().unwrap());
        map.append("x-a", "two".parse().unwrap());
        for headers in [Headers::Head(head), Headers::Map(&map)] {
            let mut seen = Vec::new();
            let found = headers.any("X-A", |value| {
                seen.push(value.to_vec());
                value == b"two"
            });
            assert!(found && !headers.any("get /a", |_| true));
            assert_eq!(seen, [b"one".to_vec(), b"two".to_vec()]);
        }
    }
}
