//! Wildcard patterns of host-header and path-pattern conditions: `*` is any run of bytes, `?`
//! exactly one.
//!
//! Grammar and limits: AWS, "Condition types for listener rules".

/// ALB: a value has at most this many bytes.
const MAX_PATTERN: usize = 128;

/// A compiled wildcard pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    bytes: Box<[u8]>,
    any_case: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
        Self::new(&text.to_ascii_lowercase(), true)
    }

    /// A pattern for paths; case matters.
    ///
    /// # Errors
    /// The text breaks ALB's grammar.
    pub fn path(text: &str) -> Result<Self, BadPattern> {
        if !text.is_empty() && !text.starts_with(['/', '*', '?']) {
            return Err(BadPattern::NoSlash);
        }
        Self::new(text, false)
    }

    fn new(text: &str, any_case: bool) -> Result<Self, BadPattern> {
        match text {
            "" => Err(BadPattern::Empty),
            _ if text.len() > MAX_PATTERN => Err(BadPattern::Long),
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => Err(BadPattern::Character),
            _ => Ok(Self { bytes: text.as_bytes().into(), any_case }),
        }
    }

    /// Whether the whole of `text` matches. Time is at most pattern × text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&*self.bytes, text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on when what follows the last `*` did not fit: one byte later.
        let mut retry = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || self.same(byte, text[t]) => {
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
        pattern[p..].iter().all(|byte| *byte == b'*')
    }

    const fn same(&self, pattern: u8, byte: u8) -> bool {
        pattern == if self.any_case { byte.to_ascii_lowercase() } else { byte }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Pattern::path(pattern).unwrap().matches(text), expected, "{pattern} {text}");
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
        assert!(pattern.matches("WWW.example.COM"));
        assert!(!pattern.matches("example.com"));
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
            prop_assert_eq!(Pattern::path(&pattern).unwrap().matches(&text), expected);
        }
    }
}
