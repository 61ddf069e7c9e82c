//! The cookies that bind a client to a target or to a target group.
//!
//! A cookie says which and until when, in 25 bytes with a MAC of 16 behind them: HMAC-SHA256 by a
//! key of the State. Nothing is remembered here, so it holds for every process with the same key.
//! Pure. Not here: who is routable, what a response looks like. **Invariant:** a request costs at
//! most [`TRIES`] MACs per kind, however many cookies it brings, and opening allocates nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::model::StickinessKind;
use crate::rules::Headers;

/// Cookies of one kind and request that are looked at: the plain one and its twin for other sites.
const TRIES: usize = 2;
const PLAIN: usize = 1 + 8 + 8 + 8;
const MAC: usize = 16;
const SEALED: usize = PLAIN + MAC;
/// Base64 without padding.
const TEXT: usize = SEALED.div_ceil(3) * 4 - 1;

/// What a cookie is for. ALB's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// A target, for a time: `AWSALB`.
    Target,
    /// A target, as long as the application's own cookie: `AWSALBAPP-0`.
    Application,
    /// A target group: `AWSALBTG`.
    Group,
}

impl CookieKind {
    /// The one that binds clients to targets so.
    pub(super) const fn of(kind: StickinessKind) -> Self {
        match kind {
            StickinessKind::LbCookie => Self::Target,
            StickinessKind::AppCookie => Self::Application,
        }
    }

    /// Its name, and its twin's with `SameSite=None`.
    #[must_use]
    pub const fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Target => ("AWSALB", Some("AWSALBCORS")),
            Self::Application => ("AWSALBAPP-0", None),
            Self::Group => ("AWSALBTG", Some("AWSALBTGCORS")),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Target => b'T',
            Self::Application => b'A',
            Self::Group => b'G',
        }
    }
}

/// What a cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    pub kind: CookieKind,
    /// A target group's id.
    pub group: u64,
    /// A registration's id; 0 in a group's cookie.
    pub target: u64,
    pub until: Timestamp,
}

/// The keys of this and the last period.
#[derive(Clone, Default)]
pub struct CookieKeys {
    /// The first seals; all of them open.
    keys: Vec<Hmac<Sha256>>,
}

impl std::fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CookieKeys").field("count", &self.keys.len()).finish()
    }
}

impl CookieKeys {
    /// `secrets`: the one that seals first.
    #[must_use]
    pub fn new<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        // A key of any length will do.
        let key = |secret: &[u8]| Hmac::<Sha256>::new_from_slice(secret).ok();
        Self { keys: secrets.filter_map(key).collect() }
    }

    /// A cookie's value; none without a key.
    #[must_use]
    pub fn seal(&self, bond: &Bond) -> Option<String> {
        let mut bytes = [0; SEALED];
        bytes[0] = bond.kind.byte();
        bytes[1..9].copy_from_slice(&bond.group.to_be_bytes());
        bytes[9..17].copy_from_slice(&bond.target.to_be_bytes());
        bytes[17..PLAIN].copy_from_slice(&bond.until.0.to_be_bytes());
        let mut mac = self.keys.first()?.clone();
        mac.update(&bytes[..PLAIN]);
        bytes[PLAIN..].copy_from_slice(&mac.finalize().into_bytes()[..MAC]);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a cookie says that was sealed by one of the keys, and that still holds.
    #[must_use]
    pub fn open(&self, kind: CookieKind, text: &[u8], now: Timestamp) -> Option<Bond> {
        let mut bytes = [0; SEALED];
        if text.len() != TEXT {
            return None;
        }
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (plain, sealed) = bytes.split_at(PLAIN);
        if length != SEALED || plain[0] != kind.byte() {
            return None;
        }
        let good = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            mac.update(plain);
            mac.verify_truncated_left(sealed).is_ok()
        };
        let number = |from: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&plain[from..from + 8]);
            u64::from_be_bytes(number)
        };
        let until = Timestamp(number(17));
        let holds = until > now && self.keys.iter().any(good);
        holds.then(|| Bond { kind, group: number(1), target: number(9), until })
    }

    /// What the cookies of a request say.
    #[must_use]
    pub fn read(&self, kind: CookieKind, headers: Headers<'_>, now: Timestamp) -> Option<Bond> {
        let (name, twin) = kind.names();
        let (mut tries, mut bond) = (0, None);
        each_cookie(headers, |own, value| {
            if own == name.as_bytes() || twin.is_some_and(|twin| own == twin.as_bytes()) {
                tries += 1;
                bond = self.open(kind, value, now);
            }
            bond.is_some() || tries >= TRIES
        });
        bond
    }
}

/// Whether a request brings a cookie of this name.
#[must_use]
pub fn has_cookie(headers: Headers<'_>, name: &str) -> bool {
    let mut found = false;
    each_cookie(headers, |own, _| {
        found = own == name.as_bytes();
        found
    });
    found
}

/// RFC 6265, section 4.2.1. Ends when `look` says true.
pub(super) fn each_cookie<'a>(
    headers: Headers<'a>,
    mut look: impl FnMut(&'a [u8], &'a [u8]) -> bool,
) {
    headers.any("cookie", |line| {
        line.split(|byte| *byte == b';').any(|pair| {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            look(pair[..equals].trim_ascii(), value.trim_ascii())
        })
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const BOND: Bond = Bond {
        kind: CookieKind::Target,
        group: 0x1234_5678_9abc_def0,
        target: 7,
        until: Timestamp(2_000),
    };

    fn keys(secrets: &[&str]) -> CookieKeys {
        CookieKeys::new(secrets.iter().map(|secret| secret.as_bytes()))
    }

    #[test]
    fn what_is_sealed_opens_until_it_ends() {
        let sealed = keys(&["a"]).seal(&BOND).unwrap();
        let open =
            |secrets: &[&str], now| keys(secrets).open(CookieKind::Target, sealed.as_bytes(), now);
        assert_eq!(open(&["a"], NOW), Some(BOND));
        assert_eq!(open(&["b", "a"], NOW), Some(BOND), "the last period's key still opens");
        assert_eq!(open(&["b", "c"], NOW), None);
        assert_eq!(open(&["a"], BOND.until), None);
        assert_eq!(keys(&["a"]).open(CookieKind::Group, sealed.as_bytes(), NOW), None);
        assert_eq!(keys(&[]).seal(&BOND), None);
    }

    #[test]
    fn cookies_are_read_by_name_and_few_are_tried() {
        let keys = keys(&["a"]);
        let good = keys.seal(&BOND).unwrap();
        let check = |cookies: &str, expected: bool| {
            let head =
                format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", cookies.replace("GOOD", &good));
            let found = keys.read(CookieKind::Target, Headers::Head(head.as_bytes()), NOW);
            assert_eq!(found, expected.then_some(BOND), "{cookies}");
        };
        check("AWSALB=GOOD", true);
        check("a=b; AWSALBCORS=GOOD ; c", true);
        check("AWSALB=x; AWSALBCORS=GOOD", true);
        check("AWSALB=x\r\nCookie: AWSALB=GOOD", true);
        check("AWSALB=x; AWSALB=x; AWSALB=GOOD", false);
        check("AWSALBTG=GOOD; XAWSALB=GOOD; awsalb=GOOD", false);
        check("AWSALB; AWSALB=", false);
    }

    proptest! {
        #[test]
        fn cookies_are_read_as_they_were_written(
            pairs in prop::collection::vec(("[!#-+.-:<>-~]{1,8}", "[!#-+.-:<-~]{0,8}"), 0..6),
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let text = |pairs: &[(String, String)]| {
                let all = pairs.iter().map(|(name, value)| format!("{name}={value}"));
                all.collect::<Vec<_>>().join("; ")
            };
            // In one line or in two, as HTTP/2 may send them.
            let at = if pairs.is_empty() { 0 } else { cut.index(pairs.len()) };
            let lines = [text(&pairs[..at]), text(&pairs[at..])];
            let mut map = http::HeaderMap::new();
            for line in lines.iter().filter(|line| !line.is_empty()) {
                map.append("cookie", line.parse().unwrap());
            }
            let mut read = Vec::new();
            each_cookie(Headers::Map(&map), |name, value| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                read.push((text(name), text(value)));
                false
            });
            prop_assert_eq!(read, pairs);
            if let Ok(noise) = http::HeaderValue::from_bytes(&noise) {
                map.append("cookie", noise);
                let keys = keys(&["a"]);
                prop_assert_eq!(keys.read(CookieKind::Target, Headers::Map(&map), NOW), None);
            }
        }

        #[test]
        fn no_text_opens_that_was_not_sealed(
            at in 0usize..TEXT,
            byte in any::<u8>(),
            text in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let keys = keys(&["a"]);
            prop_assert_eq!(keys.open(CookieKind::Target, &text, NOW), None);
            let sealed = keys.seal(&BOND).unwrap().into_bytes();
            let mut changed = sealed.clone();
            changed[at] = byte;
            let opened = keys.open(CookieKind::Target, &changed, NOW);
            prop_assert_eq!(opened.is_some(), changed == sealed);
        }
    }
}
