//! What a response gets on its way to a client, beside what its target said: cookies that bind the
//! client, the headers that its listener inserts.
//!
//! Pure. **Invariant:** nothing is allocated where no cookie is to be set.

use crate::auth::Refreshed;
use crate::balance::Group;
use crate::clock::http_date;
use crate::model::{Compression, ResponseRules};
use crate::routing::sticky::{Bond, CookieKeys};
use crate::routing::{Bonds, RoutedListener};

#[derive(Debug)]
pub struct Additions<'a> {
    rules: &'a ResponseRules,
    /// Values of `Set-Cookie`.
    cookies: Vec<String>,
    /// One more, where the response sets the cookie of this name.
    with: Option<(String, String)>,
    /// A session's, unless the response sets it itself: it ends it.
    session: &'a [String],
}

impl<'a> Additions<'a> {
    /// For a response of `listener`'s own.
    #[must_use]
    pub fn own(listener: &'a RoutedListener) -> Self {
        Self::of(&listener.listener.options.responses)
    }

    pub(super) const fn of(rules: &'a ResponseRules) -> Self {
        Self { rules, cookies: Vec::new(), with: None, session: &[] }
    }

    /// For a response of a target of `group`.
    #[must_use]
    pub fn new(listener: &'a RoutedListener, group: &Group, bonds: &Bonds) -> Self {
        let mut additions = Self::own(listener);
        let keys = &listener.cookies;
        if let Some(bond) = &bonds.group {
            additions.bind(keys, bond);
        }
        match &bonds.target {
            Some(bond) if bonds.if_application_asks => {
                let name = group.routing.stickiness.cookie_name.clone();
                let value = keys.seal(bond).map(|sealed| set(bond, bond.kind.names().0, &sealed));
                additions.with = value.map(|value| (name, value));
            }
            Some(bond) => additions.bind(keys, bond),
            None => {}
        }
        additions
    }

    /// The same with the cookies of a session that was refreshed.
    #[must_use]
    pub fn keeping(mut self, refreshed: Option<&'a Refreshed>) -> Self {
        self.session = refreshed.map_or(&[], |own| &own.cookies);
        self
    }

    fn bind(&mut self, keys: &CookieKeys, bond: &Bond) {
        let Some(sealed) = keys.seal(bond) else { return };
        let (name, twin) = bond.kind.names();
        self.cookies.push(set(bond, name, &sealed));
        if let Some(twin) = twin {
            self.cookies.push(set(bond, twin, &sealed) + "; SameSite=None; Secure");
        }
    }

    /// Which responses are compressed.
    #[must_use]
    pub const fn compression(&self) -> Option<&Compression> {
        self.rules.compression.as_ref()
    }

    /// Whether a target's field of this name does not reach the client.
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        (self.rules.hide_server && name.eq_ignore_ascii_case("server"))
            || self.rules.insert.keys().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Names and values of the fields that are added; `sets` are the target's values of
    /// `Set-Cookie`.
    pub fn fields<'s>(
        &'s self,
        sets: impl Iterator<Item = &'s [u8]>,
    ) -> impl Iterator<Item = (&'s str, &'s str)> {
        let (mut asked, mut ended) = (false, false);
        for value in sets {
            let name = name_of(value);
            asked |= self.with.as_ref().is_some_and(|(own, _)| own.as_bytes() == name);
            ended |= self.session.first().is_some_and(|own| name_of(own.as_bytes()) == name);
        }
        let with = self.with.as_ref().filter(|_| asked).map(|(_, value)| value);
        let session = self.session.iter().filter(move |_| !ended);
        let cookies = self.cookies.iter().chain(with).chain(session);
        let inserted =
            self.rules.insert.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        inserted.chain(cookies.map(|value| ("Set-Cookie", value.as_str())))
    }
}

/// The name of the cookie that a `Set-Cookie` sets.
fn name_of(value: &[u8]) -> &[u8] {
    value[..memchr::memchr(b'=', value).unwrap_or_default()].trim_ascii()
}

fn set(bond: &Bond, name: &str, sealed: &str) -> String {
    format!("{name}={sealed}; Expires={}; Path=/", http_date(bond.until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::routing::sticky::CookieKind;

    /// Fields as `name: value` with `_` for what is sealed; joined by `|`.
    fn check(additions: &Additions<'_>, sets: &[&str], expected: &str) {
        let sets = sets.iter().map(|set| set.as_bytes());
        let field = |(name, value): (&str, &str)| {
            let (before, behind) = value.split_once('=').unwrap_or((value, ""));
            let behind =
                behind.split_once(';').map_or(String::new(), |(_, rest)| format!("=_;{rest}"));
            format!("{name}: {before}{behind}")
        };
        let found: Vec<_> = additions.fields(sets).map(field).collect();
        assert_eq!(found.join("|"), expected);
    }

    #[test]
    fn cookies_of_ours_have_a_twin_for_other_sites() {
        let (rules, keys) = (ResponseRules::default(), CookieKeys::new([&b"a"[..]].into_iter()));
        let until = Timestamp::from_millis(784_111_777_000);
        let bond = Bond { kind: CookieKind::Target, group: 1, target: 2, until };
        let mut additions = Additions::of(&rules);
        check(&additions, &[], "");
        additions.bind(&keys, &bond);
        let date = "Expires=Sun, 06 Nov 1994 08:49:37 GMT; Path=/";
        let both = format!(
            "Set-Cookie: AWSALB=_; {date}|Set-Cookie: AWSALBCORS=_; {date}; SameSite=None; Secure"
        );
        check(&additions, &[], &both);
    }

    #[test]
    fn the_applications_cookie_brings_ours() {
        let rules = ResponseRules::default();
        let with = Some(("sid".to_owned(), "AWSALBAPP-0=x; Path=/".to_owned()));
        let additions = Additions { with, ..Additions::of(&rules) };
        check(&additions, &["sid=1; Path=/"], "Set-Cookie: AWSALBAPP-0=_; Path=/");
        check(&additions, &["a=b", " sid =1"], "Set-Cookie: AWSALBAPP-0=_; Path=/");
        check(&additions, &["xsid=1", "sid", "SID=1"], "");
    }

    #[test]
    fn inserted_headers_take_the_place_of_the_targets() {
        let mut rules = ResponseRules::default();
        rules.insert.insert("X-Frame-Options".into(), "DENY".into());
        let plain = Additions::of(&rules);
        check(&plain, &[], "X-Frame-Options: DENY");
        assert!(plain.hides("x-frame-options") && !plain.hides("server"));
        rules.hide_server = true;
        assert!(Additions::of(&rules).hides("Server"));
    }
}
