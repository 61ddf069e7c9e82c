//! Wildcard patterns of conditions: `*` is any run of bytes, `?` exactly one.
//!
//! Grammar and limits: AWS, "Condition types for listener rules".

/// ALB: a value has at most this many bytes.
pub(super) const MAX_PATTERN: usize = 128;

/// `?` and `*` in a compiled pattern, whose other bytes are visible ASCII or spaces.
const ONE: u8 = 0;
const ANY: u8 = 1;

/// A compiled wildcard pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    bytes: Box<[u8]>,
    any_case: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("must not be empty")]
    Empty,
    #[error("is longer than 128 characters")]
    Long,
    #[error("has a character that is not visible ASCII")]
    Character,
    #[error("a path pattern begins with / or *")]
    NoSlash,
    #[error("a host name has no such character")]
    HostCharacter,
    #[error("a header name has 1 to 40 letters, digits and signs, and is not Host")]
    HeaderName,
    #[error("a method has 1 to 40 of A to Z, - and _")]
    Method,
    #[error("is not a network such as 10.0.0.0/8")]
    Network,
    #[error("is no regular expression that can be used here: {0}")]
    Regex(String),
}

/// What every text that matches begins or ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor<'a> {
    Exact(&'a [u8]),
    Prefix(&'a [u8]),
    Suffix(&'a [u8]),
    None,
}

impl Pattern {
    /// A pattern for host names; compared without regard to case.
    ///
    /// # Errors
    /// The text breaks ALB's grammar.
    pub fn host(text: &str) -> Result<Self, BadPattern> {
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.*?_[]:".contains(&b)) {
            return Err(BadPattern::HostCharacter);
        }
        Self::new(text, true, false)
    }

    /// A pattern for paths; case matters.
    ///
    /// # Errors
    /// The text breaks ALB's grammar.
    pub fn path(text: &str) -> Result<Self, BadPattern> {
        if !text.is_empty() && !text.starts_with(['/', '*', '?']) {
            return Err(BadPattern::NoSlash);
        }
        if text.contains(' ') {
            return Err(BadPattern::Character);
        }
        Self::new(text, false, false)
    }

    /// A pattern for the values of headers; compared without regard to case.
    ///
    /// # Errors
    /// The text breaks ALB's grammar.
    pub fn header(text: &str) -> Result<Self, BadPattern> {
        Self::new(text, true, false)
    }

    /// A pattern for keys or values of a query, in which `\` takes the meaning from the character
    /// behind it; compared without regard to case.
    ///
    /// # Errors
    /// The text breaks ALB's grammar.
    pub fn query(text: &str) -> Result<Self, BadPattern> {
        Self::new(text, true, true)
    }

    fn new(text: &str, any_case: bool, escapes: bool) -> Result<Self, BadPattern> {
        match text {
            "" => return Err(BadPattern::Empty),
            _ if text.len() > MAX_PATTERN => return Err(BadPattern::Long),
            _ if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
                return Err(BadPattern::Character);
            }
            _ => {}
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'\\' if escapes => rest.next().unwrap_or(byte),
                b'*' => ANY,
                b'?' => ONE,
                _ => byte,
            });
        }
        if any_case {
            bytes.make_ascii_lowercase();
        }
        Ok(Self { bytes: bytes.into(), any_case })
    }

    /// How many `*` and `?` it has.
    #[must_use]
    pub fn wildcards(&self) -> usize {
        self.bytes.iter().filter(|byte| is_wildcard(**byte)).count()
    }

    /// The longest literal that says something of every text that matches; in lower case where case
    /// does not matter.
    pub(super) fn anchor(&self) -> Anchor<'_> {
        let Some(first) = self.bytes.iter().position(|byte| is_wildcard(*byte)) else {
            return Anchor::Exact(&self.bytes);
        };
        let last = self.bytes.iter().rposition(|byte| is_wildcard(*byte)).unwrap_or(first);
        let (prefix, suffix) = (&self.bytes[..first], &self.bytes[last + 1..]);
        match (prefix.len(), suffix.len()) {
            (0, 0) => Anchor::None,
            (before, behind) if before >= behind => Anchor::Prefix(prefix),
            _ => Anchor::Suffix(suffix),
        }
    }

    /// Whether the whole of `text` matches. Time is at most pattern × text.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let pattern = &*self.bytes;
        let (mut p, mut t) = (0, 0);
        // Where to go on when what follows the last `*` did not fit: one byte later.
        let mut retry = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(&ANY) => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(&byte) if byte == ONE || self.same(byte, text[t]) => {
                    p += 1;
                    t += 1;
                }
                _ => match retry {
                    Some((star, from)) => {
                        retry = Some((star, from + 1));
                        (p, t) = (star, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == ANY)
    }

    const fn same(&self, pattern: u8, byte: u8) -> bool {
        pattern == if self.any_case { byte.to_ascii_lowercase() } else { byte }
    }
}

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, ONE | ANY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            Pattern::path(pattern).unwrap().matches(text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn paths_match_with_case() {
        check("/api/*", "/api/", true);
        check("/api/*", "/api/v1/x", true);
        check("/api/*", "/api", false);
        check("/API/*", "/api/x", false);
        check("/a?c", "/abc", true);
        check("/a?c", "/ac", false);
        check("*", "", true);
        check("*.png", "/img/a.png", true);
        check("*.png", "/img/a.pngx", false);
        check("/a*b*c", "/aXbYbZc", true);
        check("/a*b*c", "/aXbYbZ", false);
        check("/**", "/x", true);
    }

    #[test]
    fn hosts_match_without_case() {
        let pattern = Pattern::host("*.Example.com").unwrap();
        assert!(pattern.matches(b"WWW.example.COM"));
        assert!(!pattern.matches(b"example.com"));
    }

    #[test]
    fn a_backslash_takes_a_wildcards_meaning_in_queries_alone() {
        let check = |pattern: Pattern, text: &str, expected: bool| {
            assert_eq!(pattern.matches(text.as_bytes()), expected, "{pattern:?} {text}");
        };
        let literal = Pattern::query(r"a\*\?\\").unwrap();
        assert_eq!(literal.wildcards(), 0);
        check(literal.clone(), r"A*?\", true);
        check(literal, r"abc\", false);
        check(Pattern::query(r"a*\").unwrap(), r"abc\", true);
        check(Pattern::header(r"a\*").unwrap(), r"a\bc", true);
    }

    #[test]
    fn anchors_are_what_every_match_has() {
        let check = |text: &str, expected: Anchor<'_>| {
            assert_eq!(Pattern::path(text).unwrap().anchor(), expected, "{text}");
        };
        check("/a", Anchor::Exact(b"/a"));
        check("/a/*", Anchor::Prefix(b"/a/"));
        check("*.png", Anchor::Suffix(b".png"));
        check("/a*bc", Anchor::Prefix(b"/a"));
        check("/a*b?cde", Anchor::Suffix(b"cde"));
        check("**", Anchor::None);
    }

    #[test]
    fn bad_patterns_say_why() {
        assert_eq!(Pattern::path(""), Err(BadPattern::Empty));
        assert_eq!(Pattern::path("api"), Err(BadPattern::NoSlash));
        assert_eq!(Pattern::path("/a b"), Err(BadPattern::Character));
        assert_eq!(Pattern::path(&"/".repeat(129)), Err(BadPattern::Long));
        assert_eq!(Pattern::host("a/b"), Err(BadPattern::HostCharacter));
    }

    /// The definition, slowly: used as an oracle.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((b'?', rest)) => !text.is_empty() && oracle(rest, &text[1..]),
            Some((byte, rest)) => text.first() == Some(byte) && oracle(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "/[ab*?]{0,8}", text in "/[ab]{0,10}") {
            let expected = oracle(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Pattern::path(&pattern).unwrap().matches(text.as_bytes()), expected);
        }
    }
}
