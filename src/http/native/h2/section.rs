//! A field section as a client sent it: a request's head, or what stands behind its body.
//!
//! Its fields lie in one piece of text, as HTTP/1 would write them. **Invariant:** what RFC 9113
//! forbids in a section (8.2, 8.3) is told as a flaw of it; none but a whole one is looked at.

use std::ops::Range;

use super::super::super::headers::all_of;
use super::super::fields;
use super::hpack::ENTRY;
use super::{HEADER_LIST, KEPT};

/// Why a section is no request, or no trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// RFC 9113, section 8.1.1: its stream ends.
    Malformed,
    /// Longer than we said we take: an answer says so.
    TooLong,
}

/// Where a field lies in the text: its name, `: `, its value.
#[derive(Clone, Copy, Debug)]
struct Span {
    name: usize,
    colon: usize,
    end: usize,
}

/// Pseudo-header fields: RFC 9113, section 8.3.1, and RFC 8441, section 4.
#[derive(Clone, Copy, Debug)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
}

#[derive(Debug)]
pub(in super::super) struct Section {
    /// Values of pseudo-header fields.
    line: String,
    /// The others, each with its line's end, behind an empty line.
    text: Vec<u8>,
    fields: Vec<Span>,
    pseudo: [Option<Range<usize>>; 5],
    /// As it counts: RFC 9113, section 6.5.2.
    size: usize,
    cookies: usize,
    flaw: Option<Flaw>,
}

impl Section {
    /// `length`: bytes of the section before they were decoded.
    pub(super) fn new(length: usize) -> Self {
        let mut text = Vec::with_capacity(2 * length + 128);
        text.push(b'\n');
        Self {
            line: String::with_capacity(64),
            text,
            fields: Vec::with_capacity(16),
            pseudo: Default::default(),
            size: 0,
            cookies: 0,
            flaw: None,
        }
    }

    /// Another field.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + ENTRY;
        if self.size > HEADER_LIST {
            self.flaw = self.flaw.or(Some(Flaw::TooLong));
            return;
        }
        if name.first() == Some(&b':') {
            return self.push_pseudo(name, value);
        }
        let is_sound = !name.is_empty()
            && all(name, NAME)
            && all(value, VALUE)
            && !is_of_a_connection(name, value);
        if !is_sound {
            self.flaw = Some(Flaw::Malformed);
            return;
        }
        let begin = self.text.len();
        self.text.extend_from_slice(name);
        let colon = self.text.len();
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        self.fields.push(Span { name: begin, colon, end: self.text.len() });
        self.text.extend_from_slice(b"\r\n");
        self.cookies += usize::from(name == b"cookie");
    }

    fn push_pseudo(&mut self, name: &[u8], value: &[u8]) {
        let pseudo = match name {
            b":method" => Some(Pseudo::Method),
            b":scheme" => Some(Pseudo::Scheme),
            b":authority" => Some(Pseudo::Authority),
            b":path" => Some(Pseudo::Path),
            b":protocol" => Some(Pseudo::Protocol),
            _ => None,
        };
        // Once, before all others.
        let place = pseudo.map(|pseudo| &mut self.pseudo[pseudo as usize]);
        let Some(place) = place.filter(|own| own.is_none() && self.fields.is_empty()) else {
            self.flaw = Some(Flaw::Malformed);
            return;
        };
        let kind = match pseudo {
            Some(Pseudo::Method | Pseudo::Scheme | Pseudo::Protocol) => TOKEN,
            _ => TARGET,
        };
        let Some(value) = std::str::from_utf8(value).ok().filter(|_| all(value, kind)) else {
            self.flaw = Some(Flaw::Malformed);
            return;
        };
        let begin = self.line.len();
        self.line.push_str(value);
        *place = Some(begin..self.line.len());
    }

    /// What keeps it from being a request's head.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        if self.flaw.is_some() {
            return self.flaw;
        }
        let has = |pseudo| self.get(pseudo).is_some_and(|value| !value.is_empty());
        let is_connect = self.method() == "CONNECT";
        let is_whole = match self.protocol() {
            Some(_) if !is_connect => false,
            None if is_connect => {
                let others = [Pseudo::Scheme, Pseudo::Path];
                has(Pseudo::Authority) && others.iter().all(|own| self.get(*own).is_none())
            }
            _ => has(Pseudo::Method) && has(Pseudo::Scheme) && has(Pseudo::Path),
        };
        (!is_whole).then_some(Flaw::Malformed)
    }

    /// Whether it is a request that is answered, but looked at no further.
    pub(super) fn is_too_long(&self) -> bool {
        self.flaw == Some(Flaw::TooLong)
    }

    /// Whether it may stand behind a body.
    pub(super) fn may_trail(&self) -> bool {
        self.flaw.is_none() && self.pseudo.iter().all(Option::is_none)
    }

    fn get(&self, pseudo: Pseudo) -> Option<&str> {
        self.pseudo[pseudo as usize].clone().map(|range| &self.line[range])
    }

    pub(super) fn method(&self) -> &str {
        self.get(Pseudo::Method).unwrap_or_default()
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.get(Pseudo::Path).unwrap_or("/")
    }

    pub(super) fn authority(&self) -> Option<&str> {
        self.get(Pseudo::Authority)
    }

    /// What a CONNECT is for.
    pub(super) fn protocol(&self) -> Option<&str> {
        self.get(Pseudo::Protocol)
    }

    fn iter(&self) -> impl Iterator<Item = httparse::Header<'_>> {
        self.fields.iter().map(|span| {
            let name = std::str::from_utf8(&self.text[span.name..span.colon]).unwrap_or_default();
            httparse::Header { name, value: &self.text[span.colon + 2..span.end] }
        })
    }

    /// The values of a field, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self.fields.iter().filter(move |span| {
            span.colon - span.name == name.len()
                && &self.text[span.name..span.colon] == name.as_bytes()
        });
        named.map(|span| &self.text[span.colon + 2..span.end])
    }

    /// HTTP/1 has one `Cookie`: RFC 9113, section 8.2.3. None when there is one at most already.
    pub(super) fn join_crumbs(&self) -> Option<Vec<u8>> {
        (self.cookies > 1).then(|| self.values("cookie").collect::<Vec<_>>().join(&b"; "[..]))
    }

    /// The fields as HTTP/1's parser would give them, cookies joined.
    pub(super) fn headers<'a>(&'a self, crumbs: Option<&'a [u8]>) -> Vec<httparse::Header<'a>> {
        let mut list = Vec::with_capacity(self.fields.len());
        let Some(crumbs) = crumbs else {
            list.extend(self.iter());
            return list;
        };
        let mut due = Some(crumbs);
        for header in self.iter() {
            match header.name {
                "cookie" => {
                    list.extend(due.take().map(|value| httparse::Header { value, ..header }))
                }
                _ => list.push(header),
            }
        }
        list
    }

    /// The fields as rules look at them, behind an empty line: as they were sent, cookies joined.
    pub(super) fn into_head(self, crumbs: Option<&[u8]>) -> Vec<u8> {
        let Some(crumbs) = crumbs else {
            let mut text = self.text;
            if text.capacity() > KEPT {
                text.shrink_to_fit();
            }
            return text;
        };
        let mut head = vec![b'\n'];
        for header in self.headers(Some(crumbs)) {
            fields::write(&header, &mut head);
        }
        head
    }

    /// The lines of fields alone.
    pub(super) fn into_lines(mut self) -> Vec<u8> {
        self.text.remove(0);
        self.text
    }
}

/// RFC 9113, section 8.2.2: what is said of one connection is said by frames.
fn is_of_a_connection(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" => true,
        b"transfer-encoding" | b"upgrade" => true,
        b"te" => value != b"trailers",
        _ => false,
    }
}

/// What may stand in a name, lower case; RFC 9113, section 8.2.1.
const NAME: u8 = 1;
/// In a value: what HTTP/1 takes for one as well.
const VALUE: u8 = 2;
/// In a method, a scheme, a protocol: RFC 9110, section 5.6.2.
const TOKEN: u8 = 4;
/// In a request target or an authority: what HTTP/1 takes for one as well.
const TARGET: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0_u8;
    loop {
        let is_token = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~');
        let is_visible = byte > b' ' && byte != 0x7f;
        let kind = &mut kinds[byte as usize];
        if is_token {
            *kind |= TOKEN;
        }
        if is_token && !byte.is_ascii_uppercase() {
            *kind |= NAME;
        }
        if is_visible || byte == b' ' || byte == b'\t' {
            *kind |= VALUE;
        }
        if is_visible {
            *kind |= TARGET;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    kinds
};

fn all(bytes: &[u8], kind: u8) -> bool {
    all_of(bytes, &KINDS, kind)
}

#[cfg(test)]
pub(super) fn of(fields: &[(&str, &str)]) -> Section {
    let mut section = Section::new(0);
    fields.iter().for_each(|(name, value)| section.push(name.as_bytes(), value.as_bytes()));
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

    fn flaw(rest: &[(&str, &str)]) -> Option<Flaw> {
        of(&[&GET, rest].concat()).flaw()
    }

    #[test]
    fn what_is_no_request_is_told() {
        let malformed = Some(Flaw::Malformed);
        assert_eq!(flaw(&[("a", "b"), ("te", "trailers")]), None);
        for bad in [
            ("A", "b"),
            ("", "b"),
            ("a b", "c"),
            ("a:", "b"),
            ("a", "b\r\nc: d"),
            ("a", "\0"),
            ("connection", "close"),
            ("te", "gzip"),
            (":path", "/"),
            (":status", "200"),
            (":", ""),
            (":protocol", "websocket"),
        ] {
            assert_eq!(flaw(&[bad]), malformed, "{bad:?}");
        }
        assert_eq!(flaw(&[("a", "b"), (":authority", "t")]), malformed);
        for (missing, (name, _)) in GET.iter().enumerate() {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert_eq!(of(&fields).flaw(), malformed, "{fields:?}");
            fields.push((name, ""));
            assert_eq!(of(&fields).flaw(), malformed, "{fields:?}");
        }
        for path in ["/a b", "/\x01", "/a\nb"] {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
            assert_eq!(of(&fields).flaw(), malformed, "{path:?}");
        }
        let long = "x".repeat(HEADER_LIST);
        assert_eq!(flaw(&[("a", &long)]), Some(Flaw::TooLong));
        assert_eq!(flaw(&[("a", "b"), ("a", &long), ("c", "d")]), Some(Flaw::TooLong));
    }

    #[test]
    fn tunnels_say_what_they_are_for() {
        let connect = (":method", "CONNECT");
        assert_eq!(of(&[connect, (":authority", "t:1")]).flaw(), None);
        assert_eq!(of(&[connect]).flaw(), Some(Flaw::Malformed));
        assert_eq!(of(&[connect, (":authority", "t"), GET[2]]).flaw(), Some(Flaw::Malformed));
        let extended = [connect, (":protocol", "websocket"), GET[1], GET[2]];
        assert_eq!(of(&extended).flaw(), None);
        assert_eq!(of(&extended[..3]).flaw(), Some(Flaw::Malformed));
    }

    #[test]
    fn fields_lie_as_http_1_writes_them() {
        let cookies = [("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")];
        let section = of(&[&GET[..], &cookies].concat());
        let crumbs = section.join_crumbs().unwrap();
        assert_eq!(crumbs, b"a=b; c=d");
        let seen: Vec<_> =
            section.headers(Some(&crumbs)).iter().map(|own| (own.name, own.value)).collect();
        assert_eq!(seen, [("cookie", &b"a=b; c=d"[..]), ("x", b"y")]);
        assert_eq!(section.into_head(Some(&crumbs)), b"\ncookie: a=b; c=d\r\nx: y\r\n");
        let section = of(&[&GET[..], &[("x", "y")]].concat());
        assert_eq!((section.join_crumbs(), section.method()), (None, "GET"));
        assert_eq!(section.into_head(None), b"\nx: y\r\n");
    }

    #[test]
    fn trailers_are_fields_alone() {
        assert!(!of(&GET).may_trail());
        assert!(!of(&[("A", "b")]).may_trail());
        let trailers = of(&[("a", "b"), ("c", "d")]);
        assert!(trailers.may_trail());
        assert_eq!(trailers.into_lines(), b"a: b\r\nc: d\r\n");
        assert_eq!(of(&[]).into_lines(), b"");
    }
}
