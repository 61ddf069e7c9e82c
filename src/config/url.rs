//! URLs taken apart, and those of plain HTTP.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// What a URL leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// As a request's `Host` names it.
    pub authority: String,
    /// With the query.
    pub path: String,
}

impl Place {
    /// None: `text` is no URL of this scheme, whose port that one is, or it holds a password.
    #[must_use]
    pub fn read(text: &str, scheme: &str, port: u16) -> Option<Self> {
        let url: http::Uri = text.parse().ok()?;
        let authority = url.authority().filter(|_| url.scheme_str() == Some(scheme));
        let authority = authority.filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.filter(|authority| !authority.host().is_empty())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Some(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }
}

/// Where something is posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainUrl(pub Place);

/// A text that is no such URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as http://127.0.0.1:8090/events")]
pub struct BadUrl;

impl FromStr for PlainUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        Place::read(text, "http", 80).map(Self).ok_or(BadUrl)
    }
}

impl<'de> Deserialize<'de> for PlainUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_http() {
        let check = |text: &str, expected: Option<(&str, u16, &str)>| {
            let read = text.parse::<PlainUrl>().ok();
            let read = read.as_ref();
            let read = read.map(|url| (url.0.host.as_str(), url.0.port, url.0.path.as_str()));
            assert_eq!(read, expected, "{text}");
        };
        check("http://127.0.0.1:8080/a?b=c", Some(("127.0.0.1", 8080, "/a?b=c")));
        check("http://hooks.internal", Some(("hooks.internal", 80, "/")));
        check("http://[::1]:1/", Some(("::1", 1, "/")));
        check("https://hooks.internal", None);
        check("http://user@hooks.internal", None);
        check("hooks.internal:80", None);
        check("http://", None);
        check("", None);
    }
}
