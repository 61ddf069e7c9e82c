//! Header fields by name: which of them a carrier writes itself and which it passes on.
//!
//! **Invariant:** a field that frames a message, describes a connection or says who asked is never
//! copied from one side to the other.

use httparse::Header;

use super::super::headers::{self, nominated};
use super::body::Malformed;

/// Header fields of one message (ours: twice what nginx and HAProxy take).
pub(super) const MOST: usize = 256;
/// Bytes that fields of ours take, beside what was sent: most heads need no more room (ours).
pub(super) const OURS: usize = 384;
/// Trailer fields of one message (ours).
const MOST_TRAILERS: usize = 64;

/// A field that is treated in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Connection,
    ContentLength,
    Expect,
    ForwardedFor,
    /// `X-Forwarded-Proto` and `X-Forwarded-Port`: written anew.
    Forwarded,
    Host,
    /// Of one connection, and of no other use to us.
    HopByHop,
    Other,
    TraceId,
    TransferEncoding,
    Upgrade,
    UserAgent,
}

impl Field {
    pub(super) fn of(name: &str) -> Self {
        let is = |own: &str| name.eq_ignore_ascii_case(own);
        match name.len() {
            2 if is("te") => Self::HopByHop,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            10 if is("user-agent") => Self::UserAgent,
            14 if is("content-length") => Self::ContentLength,
            15 if is(headers::FORWARDED_FOR) => Self::ForwardedFor,
            15 if is(headers::TRACE_ID) => Self::TraceId,
            16 if is("proxy-connection") => Self::HopByHop,
            16 if is(headers::FORWARDED_PORT) => Self::Forwarded,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is(headers::FORWARDED_PROTO) => Self::Forwarded,
            _ => Self::Other,
        }
    }
}

/// The fields of one head, each looked at once, and what `Connection` says of the connection and of
/// other fields.
#[derive(Debug)]
pub(super) struct Fields<'a, 'b> {
    headers: &'a [Header<'b>],
    kinds: [Field; MOST],
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// Whether it names fields that end here.
    nominates: bool,
}

impl<'a, 'b> Fields<'a, 'b> {
    /// `headers` are at most [`MOST`].
    pub(super) fn read(headers: &'a [Header<'b>]) -> Self {
        let mut fields = Self {
            headers,
            kinds: [Field::Other; MOST],
            close: false,
            keep_alive: false,
            upgrade: false,
            nominates: false,
        };
        for (header, kind) in headers.iter().zip(&mut fields.kinds) {
            *kind = Field::of(header.name);
            let Some(value) = Some(header.value).filter(|_| *kind == Field::Connection) else {
                continue;
            };
            // What nearly all say.
            if value.eq_ignore_ascii_case(b"keep-alive") {
                fields.keep_alive = true;
                continue;
            }
            let options = std::str::from_utf8(value).unwrap_or_default().split(',').map(str::trim);
            for option in options {
                match option {
                    _ if option.eq_ignore_ascii_case("close") => fields.close = true,
                    _ if option.eq_ignore_ascii_case("keep-alive") => fields.keep_alive = true,
                    _ if option.eq_ignore_ascii_case("upgrade") => fields.upgrade = true,
                    _ => fields.nominates |= !option.is_empty(),
                }
            }
        }
        fields
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &'a Header<'b>)> {
        self.kinds.iter().copied().zip(self.headers)
    }

    /// The values of every such field, in order.
    pub(super) fn values(&self, kind: Field) -> impl Iterator<Item = &'b [u8]> {
        self.iter().filter(move |(own, _)| *own == kind).map(|(_, header)| header.value)
    }

    /// The values of `Set-Cookie`.
    pub(super) fn set_cookies(&self) -> impl Iterator<Item = &'b [u8]> {
        let others = self.iter().filter(|(kind, _)| *kind == Field::Other);
        let named = others.filter(|(_, header)| header.name.eq_ignore_ascii_case("set-cookie"));
        named.map(|(_, header)| header.value)
    }

    /// Whether `Connection` says that this field ends here.
    pub(super) fn nominates(&self, name: &str) -> bool {
        self.nominates
            && self
                .values(Field::Connection)
                .filter_map(|value| std::str::from_utf8(value).ok())
                .flat_map(nominated)
                .any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// One field, as it came.
pub(super) fn write(header: &Header<'_>, out: &mut Vec<u8>) {
    write_line(header.name.as_bytes(), header.value, out);
}

pub(super) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits.
pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Passes a trailer section on, without what must not stand in one (RFC 9110, section 6.5.1).
///
/// # Errors
/// It does not consist of fields.
pub(super) fn write_trailers(section: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    each_trailer(section, |field| write(field, out))
}

/// Calls `each` with the fields of a trailer section that may stand in one.
///
/// # Errors
/// It does not consist of fields.
pub(super) fn each_trailer(section: &[u8], each: impl FnMut(&Header<'_>)) -> Result<(), Malformed> {
    if section.is_empty() {
        return Ok(());
    }
    let mut whole = Vec::with_capacity(section.len() + 2);
    whole.extend_from_slice(section);
    whole.extend_from_slice(b"\r\n");
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&whole, &mut fields)
    else {
        return Err(Malformed);
    };
    fields.iter().filter(|field| may_trail(field.name)).for_each(each);
    Ok(())
}

/// Framing, routing, authentication and what says who asked are decided before a body; what a load
/// balancer alone may say of a client, nobody says behind one.
fn may_trail(name: &str) -> bool {
    const NEVER: [&str; 8] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "set-cookie",
        "trailer",
    ];
    Field::of(name) == Field::Other
        && !NEVER.iter().any(|own| name.eq_ignore_ascii_case(own))
        && !headers::is_of_certificate(name)
        && !headers::is_of_login(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_are_known() {
        for name in headers::HOP_BY_HOP {
            assert!(matches!(Field::of(name), Field::HopByHop | Field::Upgrade), "{name}");
        }
        assert_eq!(Field::of("CONTENT-length"), Field::ContentLength);
        assert_eq!(Field::of("x-amzn-trace-id"), Field::TraceId);
        assert_eq!(Field::of("X-Forwarded-Port"), Field::Forwarded);
        assert_eq!(Field::of("X-Forwarded-Host"), Field::Other);
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    fn check(section: &str, expected: Result<&str, Malformed>) {
        let mut out = Vec::new();
        let written = write_trailers(section.as_bytes(), &mut out);
        assert_eq!(written.map(|()| out), expected.map(|text| text.as_bytes().to_vec()));
    }

    #[test]
    fn trailers_pass_unless_they_belong_in_a_head() {
        check("", Ok(""));
        check("Digest: a\r\nx:b\r\n", Ok("Digest: a\r\nx: b\r\n"));
        check("Content-Length: 5\r\nHost: a\r\nX: b\r\nTransfer-Encoding: x\r\n", Ok("X: b\r\n"));
        check("no colon\r\n", Err(Malformed));
        check(" X: folded\r\n", Err(Malformed));
        check("X : y\r\n", Err(Malformed));
    }
}
