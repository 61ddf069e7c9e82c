//! One condition of a rule, compiled.
//!
//! Regular expressions are those of the `regex` crate, which take time linear in the text; ALB's
//! grammar is a part of theirs. **Invariant:** what [`weigh`] takes compiles.

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::wildcard::MAX_PATTERN;
use super::{BadPattern, Facts, Pattern};
use crate::model::{Condition, Pool, QueryValue};

/// ALB: the longest header name and method.
const MAX_NAME: usize = 40;
/// Bytes that the compiled regular expressions of one condition may take (ours).
const MAX_COMPILED: usize = 1 << 20;

/// True when any value matches.
#[derive(Debug)]
pub(super) enum Test {
    Host(Box<[Pattern]>),
    HostRegex(RegexSet),
    Path(Box<[Pattern]>),
    PathRegex(RegexSet),
    Header(Box<str>, Box<[Pattern]>),
    HeaderRegex(Box<str>, RegexSet),
    Method(Box<[String]>),
    Query(Box<[(Option<Pattern>, Pattern)]>),
    Source(Box<[Pool]>),
}

/// What counts against the limits of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub values: usize,
    pub wildcards: usize,
}

/// A value that breaks the grammar, and why.
pub type BadValue = (String, BadPattern);

/// Checks one condition.
///
/// # Errors
/// The first value that breaks the grammar.
pub fn weigh(condition: &Condition) -> Result<Weight, BadValue> {
    let of = |patterns: &[Pattern]| Weight {
        values: patterns.len(),
        wildcards: patterns.iter().map(Pattern::wildcards).sum(),
    };
    Ok(match Test::compile(condition)? {
        Test::Host(patterns) | Test::Path(patterns) | Test::Header(_, patterns) => of(&patterns),
        Test::HostRegex(set) | Test::PathRegex(set) | Test::HeaderRegex(_, set) => {
            Weight { values: set.len(), wildcards: 0 }
        }
        Test::Method(methods) => Weight { values: methods.len(), wildcards: 0 },
        Test::Source(networks) => Weight { values: networks.len(), wildcards: 0 },
        Test::Query(pairs) => {
            let patterns = pairs.iter().flat_map(|(key, value)| key.iter().chain([value]));
            Weight { values: pairs.len(), wildcards: patterns.map(Pattern::wildcards).sum() }
        }
    })
}

impl Test {
    pub(super) fn compile(condition: &Condition) -> Result<Self, BadValue> {
        Ok(match condition {
            Condition::HostHeader(values) => Self::Host(all(values, Pattern::host)?),
            Condition::HostRegex(values) => Self::HostRegex(regexes(values, true)?),
            Condition::PathPattern(values) => Self::Path(all(values, Pattern::path)?),
            Condition::PathRegex(values) => Self::PathRegex(regexes(values, false)?),
            Condition::HttpHeader { name, values } => {
                Self::Header(header_name(name)?, all(values, Pattern::header)?)
            }
            Condition::HeaderRegex { name, values } => {
                Self::HeaderRegex(header_name(name)?, regexes(values, true)?)
            }
            Condition::HttpRequestMethod(values) => Self::Method(all(values, method)?),
            Condition::QueryString(values) => {
                Self::Query(values.iter().map(parameter).collect::<Result<_, _>>()?)
            }
            Condition::SourceIp(values) => {
                Self::Source(all(values, |text| text.parse().map_err(|_| BadPattern::Network))?)
            }
        })
    }

    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Host(patterns) => any(patterns, facts.host_name().as_bytes()),
            Self::HostRegex(set) => set.is_match(facts.host_name().as_bytes()),
            Self::Path(patterns) => any(patterns, facts.path.as_bytes()),
            Self::PathRegex(set) => set.is_match(facts.path.as_bytes()),
            Self::Header(name, patterns) => facts.headers.any(name, |value| any(patterns, value)),
            Self::HeaderRegex(name, set) => facts.headers.any(name, |value| set.is_match(value)),
            Self::Method(methods) => methods.iter().any(|method| method == facts.method),
            Self::Query(pairs) => parameters(facts.query).any(|(key, value)| {
                pairs.iter().any(|(wanted, pattern)| {
                    wanted.as_ref().is_none_or(|wanted| wanted.matches(key))
                        && pattern.matches(value)
                })
            }),
            Self::Source(networks) => facts
                .source
                .map(|address| address.to_canonical())
                .is_some_and(|address| networks.iter().any(|network| network.contains(address))),
        }
    }
}

fn any(patterns: &[Pattern], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

/// Keys and values of a query, as they were sent; a parameter without `=` has an empty value.
fn parameters(query: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
    let parts = query.as_bytes().split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    parts.map(|part| match memchr::memchr(b'=', part) {
        Some(equals) => (&part[..equals], &part[equals + 1..]),
        None => (part, &[][..]),
    })
}

fn all<T>(
    values: &[String],
    parse: impl Fn(&str) -> Result<T, BadPattern>,
) -> Result<Box<[T]>, BadValue> {
    values.iter().map(|text| parse(text).map_err(|bad| (text.clone(), bad))).collect()
}

fn regexes(values: &[String], any_case: bool) -> Result<RegexSet, BadValue> {
    let one = |text: &String| set(std::slice::from_ref(text), any_case).map(|_| ());
    values.iter().try_for_each(|text| one(text).map_err(|bad| (text.clone(), bad)))?;
    set(values, any_case).map_err(|bad| (values.join(" "), bad))
}

fn set(values: &[String], any_case: bool) -> Result<RegexSet, BadPattern> {
    for text in values {
        check_regex(text, MAX_PATTERN)?;
    }
    let mut builder = RegexSetBuilder::new(values);
    builder.unicode(false).case_insensitive(any_case).size_limit(MAX_COMPILED);
    builder.build().map_err(|error| bad_regex(&error))
}

/// Length and characters of a regular expression.
pub(super) fn check_regex(text: &str, most: usize) -> Result<(), BadPattern> {
    match text {
        "" => Err(BadPattern::Empty),
        _ if text.len() > most => {
            Err(BadPattern::Regex(format!("it is longer than {most} characters")))
        }
        _ if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => Err(BadPattern::Character),
        _ => Ok(()),
    }
}

/// The last line of the crate's message says what is wrong; those before it point at the place.
pub(super) fn bad_regex(error: &regex::Error) -> BadPattern {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    BadPattern::Regex(last.trim_start_matches("error: ").to_owned())
}

/// RFC 9110's tokens, as long as ALB takes them.
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(token)
}

fn header_name(name: &str) -> Result<Box<str>, BadValue> {
    if is_header_name(name) && !name.eq_ignore_ascii_case("host") {
        Ok(name.into())
    } else {
        Err((name.to_owned(), BadPattern::HeaderName))
    }
}

fn method(text: &str) -> Result<String, BadPattern> {
    let known = |b: u8| b.is_ascii_uppercase() || b"-_".contains(&b);
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(known) {
        return Ok(text.to_owned());
    }
    Err(BadPattern::Method)
}

fn parameter(pair: &QueryValue) -> Result<(Option<Pattern>, Pattern), BadValue> {
    let parse = |text: &String| Pattern::query(text).map_err(|bad| (text.clone(), bad));
    Ok((pair.key.as_ref().map(parse).transpose()?, parse(&pair.value)?))
}

#[cfg(test)]
mod tests {
    use super::super::Headers;
    use super::*;

    fn check(condition: &Condition, facts: Facts<'_>, expected: bool) {
        let test = Test::compile(condition).unwrap();
        assert_eq!(test.holds(&facts), expected, "{condition:?} {facts:?}");
    }

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn headers_match_by_any_value_of_any_line() {
        let head = b"GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0 (X11)\r\nX-A: b\r\nX-A: c\r\n\r\n";
        let facts = Facts { headers: Headers::Head(head), ..Facts::default() };
        let header = |name: &str, values: &[&str]| {
            let (name, values) = (name.to_owned(), texts(values));
            Condition::HttpHeader { name, values }
        };
        check(&header("user-agent", &["*mozilla*"]), facts, true);
        check(&header("X-A", &["z", "C"]), facts, true);
        check(&header("X-A", &["z"]), facts, false);
        check(&header("X-B", &["*"]), facts, false);
        let name = "user-agent".to_owned();
        let regex = Condition::HeaderRegex { name, values: texts(&["^mozilla/[0-9.]+ "]) };
        check(&regex, facts, true);
    }

    #[test]
    fn methods_are_compared_as_they_are() {
        let methods = Condition::HttpRequestMethod(texts(&["GET", "M-SEARCH"]));
        for (method, expected) in [("GET", true), ("M-SEARCH", true), ("get", false), ("G", false)]
        {
            check(&methods, Facts { method, ..Facts::default() }, expected);
        }
    }

    #[test]
    fn queries_match_by_key_and_value_or_by_value_alone() {
        let query = |pairs: &[(Option<&str>, &str)]| {
            let pair = |(key, value): &(Option<&str>, &str)| QueryValue {
                key: key.map(str::to_owned),
                value: (*value).to_owned(),
            };
            Condition::QueryString(pairs.iter().map(pair).collect())
        };
        let facts = |query| Facts { query, ..Facts::default() };
        let version = query(&[(Some("version"), "v1")]);
        check(&version, facts("a=b&VERSION=V1"), true);
        check(&version, facts("a=b&version=v2"), false);
        check(&version, facts("version"), false);
        check(&version, facts(""), false);
        let any = query(&[(None, "*example*")]);
        check(&any, facts("x=an-example-"), true);
        check(&any, facts("example=x"), false);
        check(&query(&[(Some("a"), "1"), (None, r"\*")]), facts("b=*"), true);
        check(&query(&[(Some("a?"), "*")]), facts("ab"), true);
        check(&query(&[(Some("a"), "b=c")]), facts("a=b=c"), true);
    }

    #[test]
    fn sources_are_networks_of_the_connection() {
        let networks = Condition::SourceIp(texts(&["10.0.0.0/8", "fd00::/16"]));
        for (source, expected) in
            [("10.9.9.9", true), ("::ffff:10.1.1.1", true), ("11.0.0.1", false), ("fd00::1", true)]
        {
            let source = Some(source.parse().unwrap());
            check(&networks, Facts { source, ..Facts::default() }, expected);
        }
        check(&networks, Facts::default(), false);
    }

    #[test]
    fn regular_expressions_are_looked_for_anywhere() {
        let path = Condition::PathRegex(texts(&["^/v[0-9]+/", "x$"]));
        for (path_text, expected) in
            [("/v12/a", true), ("/ax", true), ("/V1/", false), ("/a", false)]
        {
            check(&path, Facts { path: path_text, ..Facts::default() }, expected);
        }
        let host = Condition::HostRegex(texts(&[r"^[a-z]+\.test$"]));
        check(&host, Facts { host: "WWW.test:80", ..Facts::default() }, true);
    }

    #[test]
    fn bad_values_say_why() {
        let check = |condition: Condition, expected: &str| {
            let (_, bad) = weigh(&condition).unwrap_err();
            assert!(bad.to_string().contains(expected), "{condition:?}: {bad}");
        };
        let header =
            |name: &str| Condition::HttpHeader { name: name.into(), values: texts(&["a"]) };
        for name in ["", "Host", "a b", &"x".repeat(41)] {
            check(header(name), "header name");
        }
        check(Condition::HttpRequestMethod(texts(&["get"])), "A to Z");
        check(Condition::SourceIp(texts(&["10.0.0.1"])), "network");
        for (regex, why) in [
            ("(", "unclosed group"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("", "empty"),
            ("((a{99}){99}){99}", "size limit"),
            (&"a".repeat(129), "longer than 128"),
            ("\u{e4}", "visible ASCII"),
        ] {
            check(Condition::PathRegex(texts(&[regex])), why);
        }
    }

    #[test]
    fn values_and_wildcards_are_counted() {
        let check = |condition: Condition, values: usize, wildcards: usize| {
            assert_eq!(weigh(&condition), Ok(Weight { values, wildcards }), "{condition:?}");
        };
        check(Condition::PathPattern(texts(&["/*", "/a?*"])), 2, 3);
        check(Condition::PathRegex(texts(&["^.*$"])), 1, 0);
        let pair = QueryValue { key: Some("*".into()), value: r"\*?".into() };
        check(Condition::QueryString(vec![pair]), 1, 2);
    }
}
