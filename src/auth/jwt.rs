//! Tokens in compact form (RFC 7519, RFC 7515, section 7.1), and whether one lets its bearer in.
//!
//! As ALB does it: AWS, "Verify JWTs using an Application Load Balancer". Pure. **Invariant:**
//! nothing that a token says is believed before its signature was verified but which key that is.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Algorithm, Keys};
use super::keyset::KeySet;
use crate::clock::Timestamp;
use crate::model::{ClaimCheck, ClaimFormat, JwtValidation};

/// A longer token is not looked at (ALB: a header's limit).
const LONGEST: usize = 16 * 1024;
/// How far the issuer's clock may be ahead of ours, for `nbf` and `iat` (RFC 7519, section 4.1.5
/// allows for some; ours).
const SKEW_SECONDS: f64 = 30.0;

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no `Authorization: Bearer`.
    Missing,
    /// It is no token, or of an algorithm that is not taken.
    Malformed,
    Signature,
    ClaimMissing,
    ClaimFormat,
    ClaimValue,
    /// There are no keys to verify anything with.
    NoKeys,
}

impl Refusal {
    /// ALB's word in access logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "JWTHeaderNotPresent",
            Self::Malformed => "JWTRequestFormatInvalid",
            Self::Signature => "JWTSignatureValidationFailed",
            Self::ClaimMissing => "JWTClaimNotPresent",
            Self::ClaimFormat => "JWTClaimFormatInvalid",
            Self::ClaimValue => "JWTClaimValueInvalid",
            Self::NoKeys => "JWKSRequestFailed",
        }
    }

    /// `WWW-Authenticate` of the 401 (RFC 6750, section 3); none: it is no fault of the client's.
    #[must_use]
    pub const fn challenge(self) -> Option<&'static str> {
        match self {
            Self::NoKeys => None,
            Self::Missing => Some("Bearer"),
            Self::Malformed => Some("Bearer error=\"invalid_request\""),
            _ => Some("Bearer error=\"invalid_token\""),
        }
    }
}

/// Decides on tokens, by one rule's wishes.
#[derive(Debug)]
pub struct Validator {
    asked: JwtValidation,
    keys: Arc<KeySet>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    LetIn,
    Refuse(Refusal),
    /// Other keys may vouch for the token, and may be had: they are worth waiting for.
    AskAgain(Refusal),
}

/// Keys that are worth waiting for.
#[derive(Debug)]
pub struct Missing {
    pub keys: Arc<KeySet>,
    /// What the answer is where they are no help.
    pub refusal: Refusal,
}

impl Validator {
    #[must_use]
    pub const fn new(asked: JwtValidation, keys: Arc<KeySet>) -> Self {
        Self { asked, keys }
    }

    #[must_use]
    pub const fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// Decides on the values of a request's `Authorization`.
    #[must_use]
    pub fn decide<'a>(
        &self,
        authorization: impl Iterator<Item = &'a [u8]>,
        now: Timestamp,
    ) -> Verdict {
        let token = match bearer(authorization).and_then(Token::read) {
            Ok(token) => token,
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        let keys = self.keys.load();
        let Some(keys) = keys.as_deref() else {
            return self.unsure(Refusal::NoKeys, now);
        };
        if !keys.knows(token.header.kid.as_deref()) {
            return self.unsure(Refusal::Signature, now);
        }
        match check(&self.asked, &token, keys, now) {
            Ok(()) => Verdict::LetIn,
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    fn unsure(&self, refusal: Refusal, now: Timestamp) -> Verdict {
        match self.keys.is_worth_waiting(now) {
            true => Verdict::AskAgain(refusal),
            false => Verdict::Refuse(refusal),
        }
    }
}

/// The one token of RFC 6750, section 2.1.
fn bearer<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, Refusal> {
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() || value.len() > LONGEST {
        return Err(Refusal::Malformed);
    }
    let text = std::str::from_utf8(value).map_err(|_| Refusal::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::Missing);
    }
    Ok(token.trim_matches(' '))
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood: we know none (RFC 7515, section 4.1.11).
    crit: Option<Value>,
}

/// A token, not verified.
#[derive(Debug)]
struct Token<'a> {
    header: Header,
    algorithm: Algorithm,
    signed: &'a str,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        Self::parse(text).ok_or(Refusal::Malformed)
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        // Another dot is none of the alphabet.
        let (header, claims) = signed.split_once('.')?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&bytes(header)?).ok()?;
        let algorithm = Algorithm::find(&header.alg).filter(|_| header.crit.is_none())?;
        let claims = serde_json::from_slice(&bytes(claims)?).ok()?;
        Some(Self { header, algorithm, signed, claims, signature: bytes(signature)? })
    }
}

/// The claims of a token that nobody has verified.
pub(super) fn claims(text: &str) -> Option<Map<String, Value>> {
    let mut parts = text.split('.');
    let claims = parts.nth(1).filter(|_| parts.count() == 1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

fn check(
    asked: &JwtValidation,
    token: &Token<'_>,
    keys: &Keys,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (id, message) = (token.header.kid.as_deref(), token.signed.as_bytes());
    if !keys.verify(token.algorithm, id, message, &token.signature) {
        return Err(Refusal::Signature);
    }
    times(&token.claims, now)?;
    single(&token.claims, "iss", std::slice::from_ref(&asked.issuer))?;
    asked.claims.iter().try_for_each(|claim| holds(&token.claims, claim))
}

/// `exp` has to be there and ahead, `nbf` and `iat` may not be ahead.
pub(super) fn times(claims: &Map<String, Value>, now: Timestamp) -> Result<(), Refusal> {
    let number = |name: &str| {
        let claim = claims.get(name).filter(|claim| !claim.is_null());
        claim.map(|claim| claim.as_f64().ok_or(Refusal::ClaimFormat)).transpose()
    };
    let now = now.since(Timestamp::default()).as_secs_f64();
    if number("exp")?.ok_or(Refusal::ClaimMissing)? <= now {
        return Err(Refusal::ClaimValue);
    }
    for name in ["nbf", "iat"] {
        if number(name)?.is_some_and(|at| at > now + SKEW_SECONDS) {
            return Err(Refusal::ClaimValue);
        }
    }
    Ok(())
}

fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Refusal> {
    claims.get(name).ok_or(Refusal::ClaimMissing)
}

fn single(claims: &Map<String, Value>, name: &str, values: &[String]) -> Result<(), Refusal> {
    let claim = find(claims, name)?.as_str().ok_or(Refusal::ClaimFormat)?;
    let is_one = values.iter().any(|value| value == claim);
    is_one.then_some(()).ok_or(Refusal::ClaimValue)
}

fn holds(claims: &Map<String, Value>, check: &ClaimCheck) -> Result<(), Refusal> {
    let claim = find(claims, &check.name)?;
    let found: Vec<&str> = match check.format {
        ClaimFormat::SingleString => return single(claims, &check.name, &check.values),
        ClaimFormat::StringArray => {
            let list = claim.as_array().ok_or(Refusal::ClaimFormat)?;
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            texts.ok_or(Refusal::ClaimFormat)?
        }
        ClaimFormat::SpaceSeparatedValues => {
            claim.as_str().ok_or(Refusal::ClaimFormat)?.split(' ').collect()
        }
    };
    let has_all = check.values.iter().all(|value| found.contains(&value.as_str()));
    has_all.then_some(()).ok_or(Refusal::ClaimValue)
}

#[cfg(test)]
mod tests;
