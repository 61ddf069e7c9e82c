//! EC2's filters: names, and values with wildcards.
//!
//! Source: "Filtering" in the EC2 API reference: values of one filter are alternatives, filters
//! all have to match. **Invariant:** a filter that is not known refuses the call.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::error::Error;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filter {
    name: String,
    #[serde(default)]
    values: Vec<String>,
}

/// What a resource is filtered by: its attributes under the filters' names, and its tags.
pub(super) struct Subject<'a> {
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) tags: &'a BTreeMap<String, String>,
}

/// # Errors
/// A filter that this kind of resource does not have.
pub(super) fn matches(filters: &[Filter], subject: &Subject<'_>) -> Result<bool, Error> {
    for filter in filters {
        let among = |value: &str| filter.values.iter().any(|pattern| fits(pattern, value));
        let found = if filter.name == "tag-key" {
            subject.tags.keys().any(|key| among(key))
        } else if let Some(key) = filter.name.strip_prefix("tag:") {
            subject.tags.get(key).is_some_and(|value| among(value))
        } else {
            let attributes = subject.attributes.iter().filter(|(name, _)| *name == filter.name);
            let mut attributes = attributes.peekable();
            if attributes.peek().is_none() {
                let text = format!("The filter '{}' is invalid", filter.name);
                return Err(Error::invalid(text));
            }
            attributes.any(|(_, value)| among(value))
        };
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `*` is any text, `?` any character.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_fit_as_awss_do() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("*b*d", "abc", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn filters_all_have_to_match() {
        let tags = BTreeMap::from([("env".to_owned(), "test".to_owned())]);
        let check = |filters: &[(&str, &str)], expected: Option<bool>| {
            let filter = |(name, value): &(&str, &str)| Filter {
                name: (*name).to_owned(),
                values: value.split('|').map(str::to_owned).collect(),
            };
            let filters: Vec<_> = filters.iter().map(filter).collect();
            let attributes = vec![("vpc-id", "vpc-1".to_owned())];
            let outcome = matches(&filters, &Subject { attributes, tags: &tags });
            assert_eq!(outcome.ok(), expected, "{filters:?}");
        };
        check(&[], Some(true));
        check(&[("vpc-id", "vpc-2|vpc-1")], Some(true));
        check(&[("vpc-id", "vpc-1"), ("tag:env", "prod")], Some(false));
        check(&[("tag-key", "e*")], Some(true));
        check(&[("moon", "full")], None);
    }
}
