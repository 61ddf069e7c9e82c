//! Transforms: what a rule changes in the host and the URL of a request it matched.
//!
//! Source: AWS, "Transforms for listener rules". **Invariant:** what comes out may stand in a
//! request as it is, or is refused.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::BadValue;
use super::condition::{bad_regex, check_regex};
use crate::model::{Rewrite, Transforms};

/// ALB: the longest regular expression, and the longest replacement.
const MAX_TEXT: usize = 1024;
/// Bytes that a compiled regular expression may take (ours).
const MAX_COMPILED: usize = 1 << 20;
/// ALB, "Quotas": the request line.
const MAX_TARGET: usize = 16 * 1024;
/// RFC 1035, section 2.3.4, with room for a port.
const MAX_HOST: usize = 255 + ":65535".len();

/// The transforms of one rule, compiled.
#[derive(Debug)]
pub struct Transform {
    host: Option<Compiled>,
    url: Option<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    replace: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

/// What a target gets instead; none: what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transformed {
    pub host: Option<String>,
    /// Path and query.
    pub target: Option<String>,
    /// Header lines that tell who asks; where there are any, even none, the client's own of that
    /// kind do not pass.
    pub identity: Option<Arc<str>>,
}

/// The result may not stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// Checks transforms.
///
/// # Errors
/// The first text that breaks the grammar.
pub fn check_transforms(transforms: &Transforms) -> Result<(), BadValue> {
    Transform::compile(transforms).map(|_| ())
}

impl Transform {
    pub(super) fn compile(transforms: &Transforms) -> Result<Option<Self>, BadValue> {
        if transforms.is_empty() {
            return Ok(None);
        }
        let compile = |rewrite: &Option<Rewrite>, any_case| {
            rewrite.as_ref().map(|rewrite| Compiled::new(rewrite, any_case)).transpose()
        };
        let (host, url) =
            (compile(&transforms.host_header, true)?, compile(&transforms.url, false)?);
        Ok(Some(Self { host, url }))
    }

    /// Transforms a host name without its port, and path and query.
    ///
    /// # Errors
    /// The result may not stand in a request.
    pub fn apply(&self, host: &str, path: &str, query: &str) -> Result<Transformed, Unfit> {
        let mut out = Transformed::default();
        if let Some(changed) = self.host.as_ref().and_then(|own| own.replace(host.as_bytes())) {
            out.host = Some(text(changed).filter(|host| is_host(host)).ok_or(Unfit)?);
        }
        if let Some(url) = &self.url {
            let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            if let Some(changed) = url.replace(whole.as_bytes()) {
                out.target = Some(text(changed).filter(|url| is_target(url)).ok_or(Unfit)?);
            }
        }
        Ok(out)
    }
}

impl Compiled {
    fn new(rewrite: &Rewrite, any_case: bool) -> Result<Self, BadValue> {
        let bad = |text: &String| {
            let text = text.clone();
            move |bad| (text, bad)
        };
        check_regex(&rewrite.regex, MAX_TEXT).map_err(bad(&rewrite.regex))?;
        if !rewrite.replace.is_empty() {
            check_regex(&rewrite.replace, MAX_TEXT).map_err(bad(&rewrite.replace))?;
        }
        let mut builder = RegexBuilder::new(&rewrite.regex);
        builder.unicode(false).case_insensitive(any_case).size_limit(MAX_COMPILED);
        let regex = builder.build().map_err(|error| bad(&rewrite.regex)(bad_regex(&error)))?;
        let replace = parts(&rewrite.replace, regex.captures_len());
        Ok(Self { regex, replace })
    }

    /// With the first match replaced; none where there is no match.
    fn replace(&self, text: &[u8]) -> Option<Vec<u8>> {
        let groups = self.regex.captures(text)?;
        let whole = groups.get(0)?;
        let mut out = text[..whole.start()].to_vec();
        for part in &self.replace {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Group(number) => {
                    out.extend_from_slice(groups.get(*number).map_or(&[], |group| group.as_bytes()))
                }
            }
        }
        out.extend_from_slice(&text[whole.end()..]);
        Some(out)
    }
}

/// `$` and one or two digits that number one of `groups` stand for that group.
fn parts(replace: &str, groups: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut text, mut rest) = (Vec::new(), replace.as_bytes());
    while let [first, behind @ ..] = rest {
        let group = |digits: usize| {
            let number = std::str::from_utf8(behind.get(..digits)?).ok()?;
            let known = number.bytes().all(|b| b.is_ascii_digit());
            number.parse().ok().filter(|number| known && *number < groups).map(|n| (n, digits))
        };
        let found = (*first == b'$').then(|| group(2).or_else(|| group(1))).flatten();
        rest = match found {
            Some((number, digits)) => {
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(number));
                &behind[digits..]
            }
            None => {
                text.push(*first);
                behind
            }
        };
    }
    parts.push(Part::Text(text));
    parts
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

fn is_host(host: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(known)
}

fn is_target(target: &str) -> bool {
    let known = |b: u8| b.is_ascii_graphic() && b != b'#';
    target.starts_with('/') && target.len() <= MAX_TARGET && target.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(regex: &str, replace: &str) -> Option<Rewrite> {
        Some(Rewrite { regex: regex.to_owned(), replace: replace.to_owned() })
    }

    fn check_url(regex: &str, replace: &str, url: &str, expected: Result<Option<&str>, Unfit>) {
        let transforms = Transforms { host_header: None, url: rewrite(regex, replace) };
        let transform = Transform::compile(&transforms).unwrap().unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let found = transform.apply("t", path, query).map(|done| done.target);
        assert_eq!(found, expected.map(|url| url.map(str::to_owned)), "{regex} {replace} {url}");
    }

    #[test]
    fn urls_are_rewritten_where_they_match() {
        check_url("^/api/(.*)$", "/$1", "/api/v1?x=y", Ok(Some("/v1?x=y")));
        check_url(
            "^/dp/([A-Z]+)/?$",
            "/product.php?id=$1",
            "/dp/AB/",
            Ok(Some("/product.php?id=AB")),
        );
        check_url("^/api/", "/", "/other", Ok(None));
        check_url("a", "b", "/aa", Ok(Some("/ba")));
        check_url("(a)(b)", "$2$1$3$", "/ab", Ok(Some("/ba$3$")));
        check_url("(a)", "$10", "/a", Ok(Some("/a0")));
        check_url("(x)?a", "$1", "/a", Ok(Some("/")));
        check_url("A", "b", "/a", Ok(None));
    }

    #[test]
    fn what_may_not_stand_in_a_request_is_refused() {
        check_url("^/", "", "/a", Err(Unfit));
        check_url("a", "b c", "/a", Err(Unfit));
        check_url("a", "#", "/a", Err(Unfit));
        let long = "(a)".to_owned() + &"$1".repeat(500);
        check_url("(.*)", &long, &format!("/{}", "a".repeat(100)), Err(Unfit));
    }

    #[test]
    fn hosts_are_rewritten_without_regard_to_case() {
        let check = |replace: &str, host: &str, expected: Result<Option<&str>, Unfit>| {
            let regex = r"^my-(.+)\.test$";
            let transforms = Transforms { host_header: rewrite(regex, replace), url: None };
            let transform = Transform::compile(&transforms).unwrap().unwrap();
            let found = transform.apply(host, "/", "").map(|done| done.host);
            assert_eq!(found, expected.map(|host| host.map(str::to_owned)), "{replace} {host}");
        };
        check("$1.internal", "MY-a.test", Ok(Some("a.internal")));
        check("$1.internal", "other.test", Ok(None));
        check("a/b", "my-a.test", Err(Unfit));
        check("", "my-a.test", Err(Unfit));
    }

    #[test]
    fn bad_transforms_say_why() {
        let check = |regex: &str, replace: &str, expected: &str| {
            let transforms = Transforms { host_header: None, url: rewrite(regex, replace) };
            let (_, bad) = check_transforms(&transforms).unwrap_err();
            assert!(bad.to_string().contains(expected), "{regex} {replace}: {bad}");
        };
        check("(", "a", "unclosed group");
        check("", "a", "empty");
        check("a", "\u{e4}", "visible ASCII");
        check(&"a".repeat(1025), "a", "longer than 1024");
        check("a", &"a".repeat(1025), "longer than 1024");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_rewritten_ends_no_line(
            regex in "[\\^]?(/|a|[.]|\\(a\\)|\\(.\\*\\)){0,4}",
            replace in "[$0-9/a \r\n\\x{e4}]{0,12}",
            host in "[a-z.]{1,12}",
            url in "/[!-~]{0,20}",
        ) {
            let both = rewrite(&regex, &replace);
            let transforms = Transforms { host_header: both.clone(), url: both };
            let Ok(Some(transform)) = Transform::compile(&transforms) else { return Ok(()) };
            let (path, query) = url.split_once('?').unwrap_or((&url, ""));
            if let Ok(done) = transform.apply(&host, path, query) {
                let is_good = |byte: u8| byte > b' ' && byte != 127;
                let is_one_word = |text: &String| text.bytes().all(is_good);
                proptest::prop_assert!(done.host.iter().chain(&done.target).all(is_one_word));
                proptest::prop_assert!(done.target.is_none_or(|target| target.starts_with('/')));
            }
        }
    }
}
