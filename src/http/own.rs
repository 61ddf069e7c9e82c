//! Responses of our own: fixed ones, redirects, error pages.
//!
//! Pure. Not here: when one is given. **Invariant:** what stands in one's headers holds nothing
//! that could end a line.

use std::borrow::Cow;
use std::sync::Arc;

use super::errors::{self, Cause};
use crate::auth::Redirection;
use crate::model::{FixedResponse, Redirect};
use crate::rules::{Facts, Spoken};

/// ALB: a longer `Location` is answered with 507.
const LONGEST_LOCATION: usize = 8 * 1024;

#[derive(Clone, Debug)]
pub enum Own {
    Fixed(Arc<FixedResponse>),
    Redirect {
        status: u16,
        location: String,
    },
    /// On the way of a login.
    Sent(Box<Redirection>),
    /// An error's page.
    Page(Cause),
    /// The same for a gRPC call: no body, and its status among the headers.
    Call(Cause),
}

impl Own {
    /// What a redirect answers to a request that came by `scheme` to `port`.
    ///
    /// # Errors
    /// The location is too long.
    pub fn redirect(
        redirect: &Redirect,
        facts: &Facts<'_>,
        (scheme, port): (&str, u16),
    ) -> Result<Self, Cause> {
        let fill = |part: &str, out: &mut String| fill(part, facts, (scheme, port), out);
        let mut location = String::with_capacity(128);
        fill(&redirect.protocol, &mut location);
        location.make_ascii_lowercase();
        location.push_str("://");
        fill(&redirect.host, &mut location);
        location.push(':');
        fill(&redirect.port, &mut location);
        fill(&redirect.path, &mut location);
        location.push('?');
        fill(&redirect.query, &mut location);
        if location.ends_with('?') {
            location.pop();
        }
        if location.len() > LONGEST_LOCATION {
            return Err(Cause::Location);
        }
        Ok(Self::Redirect { status: redirect.status, location })
    }

    /// An error's answer, as the client understands it.
    #[must_use]
    pub fn error(cause: Cause, spoken: Spoken) -> Self {
        match spoken {
            Spoken::Grpc => Self::Call(cause),
            Spoken::Http1 | Spoken::Http2 => Self::Page(cause),
        }
    }

    /// What is counted and logged.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Fixed(fixed) => fixed.status,
            Self::Redirect { status, .. } => *status,
            Self::Sent(_) => 302,
            Self::Page(cause) | Self::Call(cause) => cause.status(),
        }
    }

    /// What the client gets: a call's response is 200 whatever became of the call.
    #[must_use]
    pub fn sent_status(&self) -> u16 {
        if matches!(self, Self::Call(_)) { 200 } else { self.status() }
    }

    /// gRPC's `grpc-status` and `grpc-message`.
    #[must_use]
    pub fn grpc(&self) -> Option<(u8, &'static str)> {
        match self {
            Self::Call(cause) => {
                let status = cause.status();
                Some((errors::grpc_status(status), errors::phrase(status)))
            }
            _ => None,
        }
    }

    /// It ends with its head, whatever was asked.
    #[must_use]
    pub fn is_bodyless(&self) -> bool {
        matches!(self, Self::Call(_)) || matches!(self.status(), 204 | 304)
    }

    /// Empty: none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        match self {
            Self::Fixed(fixed) => &fixed.content_type,
            Self::Redirect { .. } | Self::Sent(_) | Self::Page(_) => errors::PAGE_TYPE,
            Self::Call(_) => errors::GRPC_TYPE,
        }
    }

    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        match self {
            Self::Fixed(fixed) => Cow::Borrowed(&fixed.body),
            Self::Call(_) => Cow::Borrowed(""),
            _ => Cow::Owned(errors::page(self.status())),
        }
    }

    /// Header fields that belong to this kind of response: where to go, why not, when again,
    /// what to bring and what to keep.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let location = self.location().map(|to| ("Location", Cow::Borrowed(to)));
        let cause = match self {
            Self::Page(cause) | Self::Call(cause) => Some(cause),
            Self::Fixed(_) | Self::Redirect { .. } | Self::Sent(_) => None,
        };
        let challenge = cause.and_then(|cause| cause.challenge());
        let challenge = challenge.map(|asked| ("WWW-Authenticate", Cow::Borrowed(asked)));
        // A login is nobody else's.
        let (cookies, kept) = match self {
            Self::Sent(sent) => (sent.cookies.as_slice(), Some("no-store")),
            _ => (&[][..], None),
        };
        let cookies = cookies.iter().map(|set| ("Set-Cookie", Cow::Borrowed(set.as_str())));
        let kept = kept.map(|word| ("Cache-Control", Cow::Borrowed(word)));
        let reason = cause.map(|cause| (errors::REASON, Cow::Borrowed(cause.reason())));
        let after = cause.and_then(|cause| cause.retry_after());
        let after = after.map(|seconds| ("Retry-After", Cow::Owned(seconds.to_string())));
        location.into_iter().chain(reason).chain(after).chain(challenge).chain(kept).chain(cookies)
    }

    #[must_use]
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Sent(sent) => Some(&sent.location),
            _ => None,
        }
    }
}

/// `part` with its placeholders filled in: AWS, "Redirect actions".
fn fill(part: &str, facts: &Facts<'_>, (scheme, port): (&str, u16), out: &mut String) {
    let mut rest = part;
    while let Some((before, behind)) = rest.split_once("#{") {
        out.push_str(before);
        let Some((name, after)) = behind.split_once('}') else {
            out.push_str("#{");
            rest = behind;
            continue;
        };
        match name {
            "protocol" => out.push_str(scheme),
            "host" => out.push_str(facts.host_name()),
            "port" => out.push_str(&port.to_string()),
            "path" => out.push_str(facts.path.strip_prefix('/').unwrap_or(facts.path)),
            "query" => out.push_str(facts.query),
            _ => {
                out.push_str("#{");
                rest = behind;
                continue;
            }
        }
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes of a redirect: protocol, host, port, path, query; empty ones stay.
    fn check(changes: [&str; 5], expected: &str) {
        let itself = Redirect::to_itself(302);
        let or = |given: &str, own: String| if given.is_empty() { own } else { given.to_owned() };
        let [protocol, host, port, path, query] = changes;
        let redirect = Redirect {
            status: 302,
            protocol: or(protocol, itself.protocol),
            host: or(host, itself.host),
            port: or(port, itself.port),
            path: or(path, itself.path),
            query: or(query, itself.query),
        };
        let facts = Facts { host: "a.test:8080", path: "/x/y", query: "q=1", ..Facts::default() };
        let own = Own::redirect(&redirect, &facts, ("http", 8080)).unwrap();
        assert_eq!((own.status(), own.location()), (302, Some(expected)), "{changes:?}");
    }

    #[test]
    fn parts_that_are_not_given_stay_as_they_are() {
        check(["", "", "", "", ""], "http://a.test:8080/x/y?q=1");
        check(["HTTPS", "", "443", "", ""], "https://a.test:443/x/y?q=1");
        check(["", "b.test", "", "", ""], "http://b.test:8080/x/y?q=1");
    }

    #[test]
    fn placeholders_may_stand_in_any_part() {
        check(["", "www.#{host}", "", "", ""], "http://www.a.test:8080/x/y?q=1");
        check(
            ["", "", "", "/#{host}/#{port}/#{path}", ""],
            "http://a.test:8080/a.test/8080/x/y?q=1",
        );
        check(["", "", "", "/z", "p=#{path}&#{query}&s=#{protocol}"], {
            "http://a.test:8080/z?p=x/y&q=1&s=http"
        });
        check(["", "", "", "/#{moon}#{", ""], "http://a.test:8080/#{moon}#{?q=1");
    }

    #[test]
    fn an_empty_query_has_no_question_mark() {
        let facts = Facts { host: "a", path: "/", ..Facts::default() };
        let own = Own::redirect(&Redirect::to_itself(301), &facts, ("http", 80)).unwrap();
        assert_eq!(own.location(), Some("http://a:80/"));
    }

    #[test]
    fn long_locations_are_refused() {
        let path = format!("/{}", "x".repeat(LONGEST_LOCATION));
        let facts = Facts { host: "a", path: &path, ..Facts::default() };
        let own = Own::redirect(&Redirect::to_itself(301), &facts, ("http", 80));
        assert_eq!(own.unwrap_err(), Cause::Location);
    }
}
