//! Where a request's head ends, how its body is framed, and whether both keep ALB's limits.
//!
//! Looks at raw bytes as they arrive, so that nothing is parsed twice and no slow sender costs more
//! than its bytes. Not here: what the headers mean. **Invariant:** each byte is looked at once, and
//! a head that two parsers could frame differently is refused.

use super::errors::Cause;

/// ALB, "Quotas": the request line.
pub const REQUEST_LINE: usize = 16 * 1024;
/// ALB, "Quotas": a single header.
pub const HEADER: usize = 16 * 1024;
/// ALB, "Quotas": all request headers together.
pub const HEADERS: usize = 64 * 1024;
/// ALB, "Quotas": all response headers together.
pub const RESPONSE_HEADERS: usize = 32 * 1024;
/// What may come before the request line: RFC 9112, section 2.2, asks for at least one empty line.
const EMPTY_LINES: usize = 8;

/// What the first bytes of a client's HTTP/2 connection are: RFC 9113, section 3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    /// It says itself where it ends.
    Chunked,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to the body.
    pub length: usize,
    pub body: Body,
    /// Both Content-Length and Transfer-Encoding: neither connection is used again (RFC 9112,
    /// section 6.1).
    pub ambiguous: bool,
}

/// What `Transfer-Encoding` may say: ALB takes these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// None at all: RFC 2616 had a name for that.
    Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    Partial,
    Whole(Head),
    Refused(Cause),
}

/// The state between two looks at a growing buffer.
#[derive(Debug, Default)]
pub struct Scanner {
    line: usize,
    searched: usize,
    empty_lines: usize,
    /// Where the headers begin; none before the request line.
    headers: Option<usize>,
    length: Option<u64>,
    coding: Option<Coding>,
    is_http_1_1: bool,
    has_host: bool,
}

impl Scanner {
    /// Looks at what has come since the last call; `bytes` begins where it did then.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + found;
            // RFC 9112, section 2.2, lets us take a bare LF for the end of a line; a target may
            // not take it for one.
            let Some(line) = bytes[self.line..end].strip_suffix(b"\r") else {
                return Scan::Refused(Cause::Malformed);
            };
            self.line = end + 1;
            self.searched = end + 1;
            match self.take(line) {
                Ok(None) => {}
                Ok(Some(head)) => return Scan::Whole(head),
                Err(cause) => return Scan::Refused(cause),
            }
        }
        self.searched = bytes.len();
        match self.limits(bytes.len() - self.line, bytes.len()) {
            Ok(()) => Scan::Partial,
            Err(cause) => Scan::Refused(cause),
        }
    }

    /// Whether a line of this length still fits, where all bytes are `total`.
    fn limits(&self, line: usize, total: usize) -> Result<(), Cause> {
        match self.headers {
            None if line > REQUEST_LINE => Err(Cause::RequestLine),
            Some(_) if line > HEADER => Err(Cause::Header),
            Some(headers) if total - headers > HEADERS => Err(Cause::Headers),
            _ => Ok(()),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Head>, Cause> {
        self.limits(line.len(), self.line)?;
        if self.headers.is_none() {
            if line.is_empty() {
                self.empty_lines += 1;
                let enough = self.empty_lines > EMPTY_LINES;
                return if enough { Err(Cause::Malformed) } else { Ok(None) };
            }
            check_request_line(line)?;
            self.is_http_1_1 = line.ends_with(b"1");
            self.headers = Some(self.line);
            return Ok(None);
        }
        if line.is_empty() {
            let chunked = self.coding == Some(Coding::Chunked);
            // A proxy of HTTP/1.0 knows no chunks: RFC 9112, section 6.1.
            if self.is_http_1_1 && !self.has_host || !self.is_http_1_1 && chunked {
                return Err(Cause::Malformed);
            }
            let body = if chunked { Body::Chunked } else { Body::Length(self.length.unwrap_or(0)) };
            let ambiguous = self.coding.is_some() && self.length.is_some();
            return Ok(Some(Head { length: self.line, body, ambiguous }));
        }
        // A continued line: RFC 9112, section 5.2, and ALB refuse it.
        if line[0] == b' ' || line[0] == b'\t' {
            return Err(Cause::Malformed);
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err(Cause::Malformed);
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // White space before a colon hides a field from some: RFC 9112, section 5.1.
        if name.is_empty() || name.ends_with(b" ") || name.ends_with(b"\t") {
            return Err(Cause::Malformed);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value)?;
        } else if name.eq_ignore_ascii_case(b"host") && std::mem::replace(&mut self.has_host, true)
        {
            // RFC 9112, section 3.2: exactly one in HTTP/1.1; several are no better in HTTP/1.0.
            return Err(Cause::Malformed);
        }
        Ok(None)
    }

    /// RFC 9110, section 8.6: a list of equal numbers is one number, anything else is refused.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Cause> {
        for part in value.split(|byte| *byte == b',') {
            let digits = part.trim_ascii();
            let decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            match number.filter(|_| decimal) {
                Some(number) if self.length.is_none_or(|length| length == number) => {
                    self.length = Some(number);
                }
                _ => return Err(Cause::Malformed),
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Cause> {
        for part in value.split(|byte| *byte == b',') {
            let is = |name: &[u8]| part.trim_ascii().eq_ignore_ascii_case(name);
            let coding = match () {
                // Twice one of them, or something behind it.
                () if self.coding.is_some() => return Err(Cause::Malformed),
                () if is(b"chunked") => Coding::Chunked,
                () if is(b"identity") => Coding::Identity,
                () => return Err(Cause::TransferCoding),
            };
            self.coding = Some(coding);
        }
        Ok(())
    }
}

fn check_request_line(line: &[u8]) -> Result<(), Cause> {
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Cause::Version);
        }
        _ => return Err(Cause::Malformed),
    }
    // TRACE: ALB answers 405. CONNECT: a load balancer is no forward proxy.
    if method == b"TRACE" || method == b"CONNECT" { Err(Cause::Method) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str) -> Scan {
        Scanner::default().scan(text.as_bytes())
    }

    fn check(headers: &str, expected: Result<(Body, bool), Cause>) {
        let text = format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}\r\nrest");
        let whole = |(body, ambiguous)| {
            Scan::Whole(Head { length: text.len() - "rest".len(), body, ambiguous })
        };
        assert_eq!(scan(&text), expected.map_or_else(Scan::Refused, whole), "{headers}");
    }

    #[test]
    fn bodies_are_framed_by_length_or_chunks() {
        check("", Ok((Body::Length(0), false)));
        check("Content-Length: 12\r\n", Ok((Body::Length(12), false)));
        check("content-length:12\r\nContent-Length: 12\r\n", Ok((Body::Length(12), false)));
        check("Content-Length: 12, 12\r\n", Ok((Body::Length(12), false)));
        check("Transfer-Encoding: chunked\r\n", Ok((Body::Chunked, false)));
        check("Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n", Ok((Body::Chunked, true)));
        check("Transfer-Encoding: Identity\r\n", Ok((Body::Length(0), false)));
        let both = "Transfer-Encoding: identity\r\nContent-Length: 5\r\n";
        check(both, Ok((Body::Length(5), true)));
    }

    #[test]
    fn framing_that_could_be_read_twice_is_refused() {
        for length in ["", "x", "-1", "+1", "1 2", "12, 13", "99999999999999999999", "0x1"] {
            check(&format!("Content-Length: {length}\r\n"), Err(Cause::Malformed));
        }
        check("Content-Length: 1\r\nContent-Length: 2\r\n", Err(Cause::Malformed));
        for codings in ["chunked, chunked", "identity, chunked", "chunked, identity"] {
            check(&format!("Transfer-Encoding: {codings}\r\n"), Err(Cause::Malformed));
        }
        let two = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
        check(two, Err(Cause::Malformed));
        check("Transfer-Encoding: gzip, chunked\r\n", Err(Cause::TransferCoding));
        check("Transfer-Encoding: xchunked\r\n", Err(Cause::TransferCoding));
        check("A: b\r\n folded\r\n", Err(Cause::Malformed));
        check("no colon\r\n", Err(Cause::Malformed));
        check(": no name\r\n", Err(Cause::Malformed));
        for spaced in ["Content-Length : 5", "Transfer-Encoding\t: chunked", "A : b"] {
            check(&format!("{spaced}\r\n"), Err(Cause::Malformed));
        }
        check("A: b\nC: d\r\n", Err(Cause::Malformed));
        check("A: b\n\n", Err(Cause::Malformed));
        let chunked = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(scan(chunked), Scan::Refused(Cause::Malformed));
    }

    #[test]
    fn request_lines_are_of_http_1() {
        assert_eq!(scan("TRACE / HTTP/1.1\r\n\r\n"), Scan::Refused(Cause::Method));
        assert_eq!(scan("GET / HTTP/3.0\r\n\r\n"), Scan::Refused(Cause::Version));
        assert_eq!(scan("GET /\r\n\r\n"), Scan::Refused(Cause::Malformed));
        assert_eq!(scan("\x16\x03\x01\n"), Scan::Refused(Cause::Malformed));
        assert_eq!(scan("GET / HTTP/1.1\r\nA: b\r\n\r\n"), Scan::Refused(Cause::Malformed));
        check("host: b\r\n", Err(Cause::Malformed));
        assert!(matches!(scan("\r\n\r\nGET / HTTP/1.0\r\n\r\n"), Scan::Whole(_)));
        assert_eq!(scan(&"\r\n".repeat(9)), Scan::Refused(Cause::Malformed));
    }

    #[test]
    fn limits_are_albs() {
        let line = |n| format!("GET /{} HTTP/1.1", "a".repeat(n - "GET / HTTP/1.1".len()));
        assert_eq!(scan(&format!("{}\r\n", line(REQUEST_LINE))), Scan::Partial);
        assert_eq!(
            scan(&format!("{}\r\n", line(REQUEST_LINE + 1))),
            Scan::Refused(Cause::RequestLine)
        );
        assert_eq!(scan(&"a".repeat(REQUEST_LINE + 1)), Scan::Refused(Cause::RequestLine));
        let header = |n| format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(n - 3));
        assert_eq!(scan(&format!("{}\r\n", header(HEADER))), Scan::Partial);
        assert_eq!(scan(&header(HEADER + 1)), Scan::Refused(Cause::Header));
        let headers = "A: b\r\n".repeat(HEADERS / 6 + 1);
        assert_eq!(scan(&format!("GET / HTTP/1.1\r\n{headers}")), Scan::Refused(Cause::Headers));
    }

    proptest! {
        #[test]
        fn the_same_bytes_in_any_pieces_give_the_same_scan(
            line in "(\r\n)?(GET|PUT) /[a-z]{0,9} HTTP/1.[01]\r\n",
            headers in "((content-length|transfer-encoding|host):(chunked|[0-9]{1,2}|b)\r\n){0,4}",
            end in "\r?\n?.{0,9}",
            step in 1usize..40,
        ) {
            let text = line + &headers + &end;
            let (whole, mut scanner) = (scan(&text), Scanner::default());
            let mut pieces = (1..=text.len()).step_by(step).chain([text.len()]);
            let found = pieces.find_map(|end| match scanner.scan(&text.as_bytes()[..end]) {
                Scan::Partial => None,
                scan => Some(scan),
            });
            prop_assert_eq!(found.unwrap_or(Scan::Partial), whole);
        }

        #[test]
        fn no_bytes_make_the_scanner_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Scanner::default().scan(&bytes);
        }
    }
}
