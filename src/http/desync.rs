//! Desync mitigation: how sure it is that everybody reads a request's head alike.
//!
//! AWS's own classifier (the `http_desync_guardian` crate) has the word; a screen of ours says of
//! ordinary heads that it would have nothing to say, for less. Modes: AWS, "Desync mitigation
//! mode". A head of HTTP/2 is classified as what it is in HTTP/1.1, where it may be misread. Not
//! here: what cannot be framed in one way only (`head`), which is refused in every mode, as is what
//! HTTP/2 itself calls malformed (RFC 9113, section 8.1.1).
//! **Invariant:** the screen never passes a head that the classifier does not call compliant.

use http_desync_guardian::request_analyzer::HttpRequestData;
use http_desync_guardian::{ClassificationReason as Why, RequestSafetyTier};

use super::errors::Cause;
use super::headers::all_of;
use crate::model::DesyncMode;

/// Worse than compliant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Not by the letter, and no known danger.
    Acceptable,
    /// Servers differ in where it ends.
    Ambiguous,
    /// Malformed, or made to mislead.
    Severe,
}

impl Class {
    /// As the access log and the metric have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acceptable => "Acceptable",
            Self::Ambiguous => "Ambiguous",
            Self::Severe => "Severe",
        }
    }
}

/// What is wrong with a head; the reason in AWS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    pub class: Class,
    pub reason: &'static str,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Neither connection is used again.
    PassAndClose,
    /// 400, and the client's connection is closed.
    Refuse,
}

impl Verdict {
    /// Why it is answered by ourselves; none when it is not.
    #[must_use]
    pub const fn refuses(self) -> Option<Cause> {
        match self {
            Self::Pass | Self::PassAndClose => None,
            Self::Refuse => Some(Cause::Desync),
        }
    }
}

/// What a load balancer in this mode does with such a head.
#[must_use]
pub const fn verdict(mode: DesyncMode, class: Class) -> Verdict {
    match (mode, class) {
        (DesyncMode::Monitor, _) | (DesyncMode::Defensive, Class::Acceptable) => Verdict::Pass,
        (DesyncMode::Defensive, Class::Ambiguous) => Verdict::PassAndClose,
        (DesyncMode::Defensive, Class::Severe) | (DesyncMode::Strictest, _) => Verdict::Refuse,
    }
}

/// What is wrong with a head, with its empty line; none when it is compliant.
#[must_use]
pub fn classify(head: &[u8]) -> Option<Classified> {
    if is_ordinary(head) { None } else { analyse(head) }
}

/// A head that came as HTTP/2's fields.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub authority: Option<&'a str>,
    pub fields: &'a [httparse::Header<'a>],
    /// No body follows.
    pub ends: bool,
}

/// The same of a head that came as fields.
#[must_use]
pub fn classify_fields(sent: &Sent<'_>) -> Option<Classified> {
    // A tunnel has no body, and its bytes are no chunks.
    let chunked = !sent.ends
        && sent.method != "CONNECT"
        && !sent.fields.iter().any(|field| field.name == "content-length");
    if are_ordinary(sent, chunked) { None } else { analyse(&written(sent, chunked)) }
}

/// Fields as HTTP/1.1 would have them: no more and no less than was sent, but for chunks.
fn written(sent: &Sent<'_>, chunked: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let mut line = |parts: [&[u8]; 4]| {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        head.extend_from_slice(b"\r\n");
    };
    line([sent.method.as_bytes(), b" ", sent.target.as_bytes(), b" HTTP/1.1"]);
    if let Some(authority) = sent.authority {
        line([b"host", b": ", authority.as_bytes(), b""]);
    }
    for field in sent.fields {
        line([field.name.as_bytes(), b": ", field.value, b""]);
    }
    if chunked {
        line([b"transfer-encoding", b": ", b"chunked", b""]);
    }
    line([b""; 4]);
    head
}

/// The classifier's own word.
fn analyse(head: &[u8]) -> Option<Classified> {
    // Empty lines before a request are no part of it: RFC 9112, section 2.2.
    let begin = head.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(head.len());
    let analysed = HttpRequestData::analyze_raw_request(&head[begin..]);
    let class = match analysed.tier {
        RequestSafetyTier::Compliant => return None,
        RequestSafetyTier::Acceptable => Class::Acceptable,
        RequestSafetyTier::Ambiguous => Class::Ambiguous,
        RequestSafetyTier::Severe => Class::Severe,
    };
    Some(Classified { class, reason: word(analysed.reason) })
}

const fn word(why: Why) -> &'static str {
    match why {
        Why::Compliant => "Compliant",
        Why::EmptyHeader => "EmptyHeader",
        Why::SuspiciousHeader => "SuspiciousHeader",
        Why::NonCompliantHeader => "NonCompliantHeader",
        Why::BadHeader => "BadHeader",
        Why::AmbiguousUri => "AmbiguousUri",
        Why::SpaceInUri => "SpaceInUri",
        Why::BadUri => "BadUri",
        Why::NonCompliantVersion => "NonCompliantVersion",
        Why::BadVersion => "BadVersion",
        Why::GetHeadZeroContentLength => "GetHeadZeroContentLength",
        Why::UndefinedContentLengthSemantics => "UndefinedContentLengthSemantics",
        Why::MultipleContentLength => "MultipleContentLength",
        Why::DuplicateContentLength => "DuplicateContentLength",
        Why::BadContentLength => "BadContentLength",
        Why::UndefinedTransferEncodingSemantics => "UndefinedTransferEncodingSemantics",
        Why::MultipleTransferEncodingChunked => "MultipleTransferEncodingChunked",
        Why::BadTransferEncoding => "BadTransferEncoding",
        Why::BothTeClPresent => "BothTeClPresent",
        Why::BadMethod => "BadMethod",
        Why::NonCrLfLineTermination => "NonCrLfLineTermination",
        Why::MultilineHeader => "MultilineHeader",
        Why::PartialHeaderLine => "PartialHeaderLine",
        Why::MissingLastEmptyLine => "MissingLastEmptyLine",
        Why::MissingHeaderColon => "MissingHeaderColon",
        Why::MissingUri => "MissingUri",
    }
}

/// What a byte may be part of, in an ordinary head.
const NAME: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const METHOD: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        // In range: a byte.
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let value = byte as u8;
        if value.is_ascii_alphanumeric() || value == b'-' || value == b'_' {
            kinds[byte] |= NAME;
        }
        if value == b'\t' || value >= b' ' && value < 0x7f {
            kinds[byte] |= VALUE;
        }
        if value > b' ' && value < 0x7f {
            kinds[byte] |= TARGET;
        }
        if value.is_ascii_uppercase() {
            kinds[byte] |= METHOD;
        }
        byte += 1;
    }
    kinds
};

fn all(bytes: &[u8], kind: u8) -> bool {
    all_of(bytes, &KINDS, kind)
}

/// Whether a head is certainly compliant; each byte is looked at once.
fn is_ordinary(head: &[u8]) -> bool {
    let (method, rest) = span(head, METHOD);
    let Some(rest) = rest.strip_prefix(b" ").filter(|_| !method.is_empty()) else { return false };
    let (target, rest) = span(rest, TARGET);
    let rest = rest.strip_prefix(b" HTTP/1.1\r\n").filter(|_| !target.is_empty());
    let (mut framing, Some(mut rest)) = (Framing::of(method), rest) else { return false };
    while rest != b"\r\n" {
        let (name, behind) = span(rest, NAME);
        let Some(behind) = behind.strip_prefix(b":") else { return false };
        let (value, behind) = span(behind, VALUE);
        let Some(behind) = behind.strip_prefix(b"\r\n") else { return false };
        if name.is_empty() || !framing.allows(name, value) {
            return false;
        }
        rest = behind;
    }
    true
}

/// The same of fields.
fn are_ordinary(sent: &Sent<'_>, chunked: bool) -> bool {
    let mut framing = Framing::of(sent.method.as_bytes());
    all(sent.method.as_bytes(), METHOD)
        && all(sent.target.as_bytes(), TARGET)
        && sent.fields.iter().all(|field| framing.takes(field.name.as_bytes(), field.value))
        && (!chunked || framing.takes(b"transfer-encoding", b"chunked"))
}

/// What begins with bytes of a kind, cut behind the last of them.
fn span(bytes: &[u8], kind: u8) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| KINDS[usize::from(*byte)] & kind == 0);
    bytes.split_at(end.unwrap_or(bytes.len()))
}

/// Where a body may be, and whether a field has said so.
struct Framing {
    has_body: bool,
    is_framed: bool,
}

impl Framing {
    fn of(method: &[u8]) -> Self {
        Self { has_body: method != b"GET" && method != b"HEAD", is_framed: false }
    }

    /// Whether another field is ordinary, behind those before it.
    fn takes(&mut self, name: &[u8], value: &[u8]) -> bool {
        !name.is_empty() && all(name, NAME) && all(value, VALUE) && self.allows(name, value)
    }

    /// The same of one that consists of what may stand in a field.
    fn allows(&mut self, name: &[u8], value: &[u8]) -> bool {
        if !may_frame(name) {
            return true;
        }
        // Once, where a body is meant, in the plainest words.
        let is_plain = !self.is_framed && self.has_body && frames(name, value);
        self.is_framed = true;
        is_plain
    }
}

/// Whether the classifier could take a name for that of a framing field. It looks at letters and
/// digits in their order and forgives one more where the hyphen stands; here the first word and the
/// beginning of the second are enough.
fn may_frame(name: &[u8]) -> bool {
    name.len() >= 13 && (resembles(name, b"content", b'l') || resembles(name, b"transfer", b'e'))
}

fn resembles(name: &[u8], word: &[u8], next: u8) -> bool {
    let mut letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let mut letters = || letters.next().map(u8::to_ascii_lowercase);
    word.iter().all(|own| letters().is_none_or(|letter| letter == *own))
        && (letters().is_none_or(|letter| letter == next)
            || letters().is_none_or(|letter| letter == next))
}

fn frames(name: &[u8], value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.len() < 19 && value.iter().all(u8::is_ascii_digit);
    name.eq_ignore_ascii_case(b"content-length") && digits
        || name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests;
