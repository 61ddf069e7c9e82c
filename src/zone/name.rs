//! Names in DNS's wire form, lower case: what zones are keyed by.
//!
//! Not here: compression, and the case a client asked in (the answer keeps that). **Invariant:** a
//! [`DnsName`] is a valid name: labels of 1 to 63 bytes, at most 255 bytes with the root's zero, no
//! upper case.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// RFC 1035 section 2.3.4, the root's zero byte included.
const MOST_BYTES: usize = 255;
const MOST_LABEL_BYTES: usize = 63;

/// A name in wire form, uncompressed and lower case. Cheap to clone; a map keyed by it is searched
/// with bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<[u8]>);

impl DnsName {
    /// Reads `web.demo.internal`, with or without the final dot. None for what is no name, and for
    /// the root.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// `text` below this name.
    #[must_use]
    pub fn child(&self, text: &str) -> Option<Self> {
        Self::from_labels(text.split('.').map(str::as_bytes).chain(labels(&self.0)))
    }

    fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > MOST_LABEL_BYTES {
                return None;
            }
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        (wire.len() > 1 && wire.len() <= MOST_BYTES).then(|| Self(wire.into()))
    }

    /// A suffix of a name, as [`suffixes`] gives it.
    pub(super) fn of_suffix(suffix: &[u8]) -> Self {
        Self(suffix.into())
    }

    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels, the root's empty one excluded.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }
}

/// The name itself, then its parents up to the root. Bytes that are no name end it early.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

fn parent(name: &[u8]) -> Option<&[u8]> {
    match name.split_first()? {
        (0, _) => None,
        (len, rest) => rest.get(usize::from(*len)..).filter(|rest| !rest.is_empty()),
    }
}

fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    suffixes(name).filter_map(|suffix| {
        let (len, rest) = suffix.split_first()?;
        rest.get(..usize::from(*len)).filter(|label| !label.is_empty())
    })
}

impl Borrow<[u8]> for DnsName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.labels().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let name = DnsName::parse(text);
        assert_eq!(name.as_ref().map(ToString::to_string).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn names_are_lower_case_and_within_the_limits() {
        check("web.demo.internal", Some("web.demo.internal"));
        check("Web.DEMO.internal.", Some("web.demo.internal"));
        check("_sip._udp.phones", Some("_sip._udp.phones"));
        check("", None);
        check(".", None);
        check("a..b", None);
        check(&"a".repeat(63), Some(&"a".repeat(63)));
        check(&"a".repeat(64), None);
        let long = vec!["a".repeat(62); 4].join(".");
        check(&long, Some(&long));
        check(&format!("{long}.bc"), None);
    }

    #[test]
    fn suffixes_end_with_the_root() {
        let name = DnsName::parse("a.bc").unwrap();
        let found: Vec<&[u8]> = suffixes(name.wire()).collect();
        assert_eq!(found, [b"\x01a\x02bc\0".as_slice(), b"\x02bc\0", b"\0"]);
    }

    #[test]
    fn suffixes_of_bytes_that_are_no_name_end() {
        for bytes in [b"".as_slice(), b"\x05ab", b"\x01", b"\x01a", b"\xff\xff"] {
            assert!(suffixes(bytes).count() <= 2, "{bytes:?}");
        }
    }
}
