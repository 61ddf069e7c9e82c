//! Filter patterns: terms. Pure.
//!
//! Source: CloudWatch Logs' page on filter pattern syntax, its part on unstructured events.
//! **Invariant:** a pattern for JSON, for columns or with a regular expression is refused, not
//! taken for terms.

/// What a message has to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    all: Vec<String>,
    /// One of them, if there are any.
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// # Errors
    /// Why it is not honoured.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with(['{', '[']) || text.contains('%') {
            return Err(format!(
                "filterPattern {text:?}: only terms are supported here, no JSON, columns or \
                 regular expressions"
            ));
        }
        let mut pattern = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let sign = if "?-".contains(first) { &rest[1..] } else { rest };
            let (term, after) = match sign.strip_prefix('"') {
                Some(quoted) => quoted
                    .split_once('"')
                    .ok_or_else(|| format!("filterPattern {text:?}: a quote is not closed"))?,
                None => {
                    let end = sign.find(char::is_whitespace).unwrap_or(sign.len());
                    sign.split_at(end)
                }
            };
            if term.is_empty() {
                return Err(format!("filterPattern {text:?}: a term is empty"));
            }
            match first {
                '?' => pattern.any.push(term.to_owned()),
                '-' => pattern.none.push(term.to_owned()),
                _ => pattern.all.push(term.to_owned()),
            }
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let has = |term: &String| message.contains(term.as_str());
        self.all.iter().all(has)
            && (self.any.is_empty() || self.any.iter().any(has))
            && !self.none.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_all_any_or_none() {
        let check = |pattern: &str, message: &str, expected: bool| {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(message), expected, "{pattern} in {message}");
        };
        check("", "anything", true);
        check("ERROR", "an ERROR", true);
        check("ERROR", "an error", false);
        check("ERROR disk", "disk ERROR", true);
        check("ERROR disk", "ERROR", false);
        check("?ERROR ?WARN", "a WARN", true);
        check("?ERROR ?WARN", "fine", false);
        check("ERROR -disk", "ERROR disk", false);
        check("\"a b\" c", "c a b", true);
        check("\"a b\"", "a  b", false);
    }

    #[test]
    fn other_patterns_are_refused() {
        for pattern in ["{ $.a = 1 }", "[a, b]", "%a.*%", "\"open", "?", "- a"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
