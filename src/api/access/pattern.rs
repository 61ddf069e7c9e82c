//! Patterns of policies: `*`, `?`, and variables such as `${aws:username}`.
//!
//! Source: IAM user guide, "IAM JSON policy elements: Resource" and "… variables and tags".
//! **Invariant:** what a variable stands for is literal: a `*` in it matches a `*` alone.

use super::context::Context;

/// One place of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Is(char),
}

/// A pattern with its variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

/// How a text of a policy is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    /// None: the document's version has no variables.
    pub(super) variables: Option<&'a Context>,
    /// `*` and `?` have their meanings.
    pub(super) wild: bool,
}

impl Reading<'_> {
    /// None: a variable has no value, so that nothing matches.
    pub(super) fn pattern(self, text: &str) -> Option<Pattern> {
        let mut parts = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let name = self.variables.and_then(|_| rest.strip_prefix("${")?.split_once('}'));
            if let Some((name, behind)) = name {
                let value = self.value(name)?;
                parts.extend(value.chars().map(Part::Is));
                rest = behind;
                continue;
            }
            parts.push(match c {
                '*' if self.wild => Part::Any,
                '?' if self.wild => Part::One,
                c => Part::Is(c),
            });
            rest = &rest[c.len_utf8()..];
        }
        Some(Pattern(parts))
    }

    /// Of `aws:username`, of `aws:username, 'nobody'`, or of the signs `*`, `?` and `$`.
    fn value(self, name: &str) -> Option<String> {
        if let "*" | "?" | "$" = name {
            return Some(name.to_owned());
        }
        let (key, default) = match name.split_once(',') {
            Some((key, default)) => (key, default.trim().strip_prefix('\'')),
            None => (name, None),
        };
        let default = default.and_then(|text| text.strip_suffix('\''));
        let value = self.variables?.get(key.trim()).and_then(|values| match values {
            [one] => Some(one.as_str()),
            // A variable of several values has none.
            _ => None,
        });
        value.or(default).map(str::to_owned)
    }
}

impl Pattern {
    /// For texts in lower case.
    pub(super) fn folded(self) -> Self {
        let fold = |part| -> Vec<Part> {
            match part {
                Part::Is(c) => c.to_lowercase().map(Part::Is).collect(),
                other => vec![other],
            }
        };
        Self(self.0.into_iter().flat_map(fold).collect())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        glob(&self.0, &text)
    }

    /// By the parts between colons: a wildcard stays in its part, but a last `*` takes all that
    /// follows.
    pub(super) fn matches_arn(&self, arn: &str) -> bool {
        let arn: Vec<char> = arn.chars().collect();
        let (mut own, mut rest) = (self.0.as_slice(), arn.as_slice());
        for _ in 1..6 {
            let colon = own.iter().position(|part| *part == Part::Is(':'));
            let Some(colon) = colon else { break };
            let Some(end) = rest.iter().position(|c| *c == ':') else { return false };
            if !glob(&own[..colon], &rest[..end]) {
                return false;
            }
            (own, rest) = (&own[colon + 1..], &rest[end + 1..]);
        }
        glob(own, rest)
    }
}

/// Linear in its memory: only the last `*` is ever tried again.
fn glob(parts: &[Part], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut again = None;
    while t < text.len() {
        match parts.get(p) {
            Some(Part::Any) => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(part) if *part == Part::One || *part == Part::Is(text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match again {
                Some((after, from)) => {
                    again = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    parts[p..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Reading { variables: None, wild: true }.pattern(text).unwrap()
    }

    #[test]
    fn wildcards_match_runs_and_single_characters() {
        let check = |text: &str, subject: &str, expected: bool| {
            assert_eq!(pattern(text).matches(subject), expected, "{text} {subject}");
        };
        check("*", "", true);
        check("*", "a:b/c", true);
        check("a*c", "abbbc", true);
        check("a*c", "abbbd", false);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("*ab*ab", "abxab", true);
        check("*ab*ab", "ab", false);
        check("ö?", "öü", true);
        check("", "", true);
        check("", "a", false);
        check("${a}", "${a}", true);
    }

    #[test]
    fn parts_of_an_arn_are_matched_one_by_one() {
        let arn = "arn:aws:ecs:local:000000000000:service/default/web";
        let check = |text: &str, expected: bool| {
            assert_eq!(pattern(text).matches_arn(arn), expected, "{text}");
        };
        check("*", true);
        check("arn:aws:ecs:*", true);
        check("arn:*", true);
        check(arn, true);
        check("arn:aws:ecs:*:*:service/default/*", true);
        check("arn:aws:ecs:*:*:service/*", true);
        check("arn:aws:ecs:*:*:*", true);
        check("arn:aws:ecs:*:service/default/web", false);
        check("arn:aws:*:service/default/web", false);
        check("arn:aws:ecs:local:000000000000:service/default/we?", true);
        check("arn:aws:ecs:local:000000000000:service/default", false);
        check("arn:aws:ecs:local", false);
    }

    #[test]
    fn variables_stand_for_what_the_request_says() {
        let mut context = Context::default();
        context.add("aws:username", "ann");
        context.add("aws:tagkeys", "a");
        context.add("aws:tagkeys", "b");
        context.add("aws:requesttag/star", "*");
        let check = |text: &str, subject: &str, expected: Option<bool>| {
            let reading = Reading { variables: Some(&context), wild: true };
            let found = reading.pattern(text).map(|pattern| pattern.matches(subject));
            assert_eq!(found, expected, "{text} {subject}");
        };
        check("home/${aws:username}/*", "home/ann/x", Some(true));
        check("home/${AWS:UserName}/*", "home/bob/x", Some(false));
        check("${aws:gone}", "", None);
        check("${aws:gone, 'nobody'}", "nobody", Some(true));
        check("${aws:tagkeys}", "a", None);
        check("${aws:requesttag/star}", "x", Some(false));
        check("${aws:requesttag/star}", "*", Some(true));
        check("${*}${?}${$}", "*?$", Some(true));
        check("a${", "a${", Some(true));
    }

    proptest! {
        #[test]
        fn matching_is_what_a_regular_expression_says(
            text in "[ab*?:]{0,10}", subject in "[ab:]{0,12}",
        ) {
            let regex = regex::escape(&text).replace(r"\*", ".*").replace(r"\?", ".");
            let regex = regex::Regex::new(&format!("^{regex}$")).unwrap();
            prop_assert_eq!(pattern(&text).matches(&subject), regex.is_match(&subject));
        }
    }
}
