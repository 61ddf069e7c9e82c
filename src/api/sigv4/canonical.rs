//! The canonical request: one spelling for all requests that mean the same.
//!
//! Source: AWS, "Create a signed AWS API request" (IAM user guide), step 1. Not here: which
//! headers have to be signed. **Invariant:** two requests that a service would answer differently
//! have different canonical forms.

use http::HeaderMap;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `byte` as AWS's UriEncode writes it.
fn encode_byte(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    bytes.iter().for_each(|byte| encode_byte(*byte, &mut out));
    out
}

/// What a part of a query means: `+` is a space there; a `%` without two digits is itself.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match (first, digit(rest.first()), digit(rest.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = &rest[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*first),
        }
    }
    out
}

/// The path without dot segments and empty segments, encoded once more. S3 signs its paths as they
/// are.
pub(super) fn path(raw: &str, service: &str) -> String {
    if service == "s3" {
        return if raw.is_empty() { "/".to_owned() } else { raw.to_owned() };
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(raw.len() + 1);
    for segment in &segments {
        out.push('/');
        segment.bytes().for_each(|byte| encode_byte(byte, &mut out));
    }
    if segments.is_empty() || raw.ends_with('/') {
        out.push('/');
    }
    out
}

/// The parameters of a raw query, decoded, as they stand there.
pub(super) fn parameters(raw: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Parameters encoded, sorted by name and then by value; `X-Amz-Signature` signs, it is not signed.
pub(super) fn query(parameters: &[(Vec<u8>, Vec<u8>)], presigned: bool) -> String {
    let signed = parameters.iter().filter(|(name, _)| !presigned || name != b"X-Amz-Signature");
    let mut encoded: Vec<_> = signed.map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort_unstable();
    let pairs: Vec<_> = encoded.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The lines of the signed headers; none when the request lacks one of them.
pub(super) fn headers(signed: &[&str], headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for name in signed {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        let mut values = headers.get_all(*name).iter();
        fold(values.next()?.as_bytes(), &mut out);
        for value in values {
            out.push(b',');
            fold(value.as_bytes(), &mut out);
        }
        out.push(b'\n');
    }
    Some(out)
}

/// A value without blanks at its ends, with one where there were several.
fn fold(value: &[u8], out: &mut Vec<u8>) {
    let mut previous = 0;
    for byte in value.trim_ascii() {
        if *byte != b' ' || previous != b' ' {
            out.push(*byte);
        }
        previous = *byte;
    }
}
