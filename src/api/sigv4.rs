//! AWS Signature Version 4: who signed a request, or why it is refused.
//!
//! Both forms, header and presigned URL. Source: AWS, "Create a signed AWS API request" (IAM user
//! guide). Not here: what the signer may do, and each protocol's way to write an error.
//! **Invariant:** pure: no clock, no I/O; an unknown key and a wrong signature take the same way
//! and get the same answer.

mod authorization;
mod canonical;
#[cfg(test)]
mod tests;

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use http::{HeaderMap, StatusCode};
use jiff::{civil, tz::TimeZone};
use sha2::{Digest as _, Sha256};

use self::authorization::{ALGORITHM, Authorization};
use crate::api::keys::Keys;
use crate::clock::Timestamp;
use crate::model::hex;

/// How far a signature's time may be from ours (AWS).
const SKEW: Duration = Duration::from_secs(5 * 60);
/// Of a raw query (ours), so that sorting one stays cheap.
const LONGEST_QUERY: usize = 64 * 1024;
/// Stands in for the secret of a key that does not exist; nobody is let in with it.
const NO_SECRET: &str = "0000000000000000000000000000000000000000";
const TERMINATOR: &str = "aws4_request";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A request as it came over the wire. With HTTP/2, `headers` has `:authority` as `host`.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// Raw, without the query.
    pub path: &'a str,
    /// Raw, without its question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// Who signed, and for what: the credential scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key_id: String,
    pub region: String,
    pub service: String,
    /// `YYYYMMDD`
    pub date: String,
}

/// Why a request is not believed. Its text is AWS's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Request is missing Authentication Token")]
    MissingToken,
    /// What should say who signed is not whole.
    #[error("{0}")]
    Incomplete(String),
    /// A wrong signature, or a key that does not exist.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details."
    )]
    BadSignature,
    /// A header that has to be signed is not.
    #[error("{0}")]
    Unsigned(String),
    #[error("{0}")]
    BadScope(String),
    /// Signed at a time too far from ours.
    #[error("{0}")]
    Skewed(String),
    /// The life of a presigned URL is over.
    #[error("{0}")]
    Expired(String),
    #[error("The value of 'X-Amz-Content-Sha256' does not match the request's payload.")]
    BodyHash,
    /// Keys here are long-term keys: none comes with a token.
    #[error("The security token included in the request is invalid")]
    UnexpectedToken,
}

impl Refusal {
    /// The error code of Query and REST-XML services ("Common Errors" in their references).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingToken => "MissingAuthenticationToken",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::BadSignature
            | Self::Unsigned(_)
            | Self::BadScope(_)
            | Self::Skewed(_)
            | Self::BodyHash => "SignatureDoesNotMatch",
            Self::Expired(_) => "RequestExpired",
            Self::UnexpectedToken => "InvalidClientTokenId",
        }
    }

    /// The error code of JSON and CBOR services; their status is always 400.
    #[must_use]
    pub const fn json_code(&self) -> &'static str {
        match self {
            Self::MissingToken => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::BadSignature
            | Self::Unsigned(_)
            | Self::BadScope(_)
            | Self::Skewed(_)
            | Self::Expired(_)
            | Self::BodyHash => "InvalidSignatureException",
            Self::UnexpectedToken => "UnrecognizedClientException",
        }
    }

    /// The status that goes with [`Refusal::code`].
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Incomplete(_) | Self::Expired(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

/// Says who signed `request`.
///
/// # Errors
/// The first reason not to believe it.
pub fn verify(request: &Signed<'_>, keys: &Keys, now: Timestamp) -> Result<Caller, Refusal> {
    if request.query.len() > LONGEST_QUERY {
        return Err(Refusal::Incomplete("The query is too long.".to_owned()));
    }
    let parameters = canonical::parameters(request.query);
    let given = authorization::read(request.headers, &parameters)?;
    let token = authorization::parameter(&parameters, "X-Amz-Security-Token")?;
    if token.is_some() || request.headers.contains_key("x-amz-security-token") {
        return Err(Refusal::UnexpectedToken);
    }
    let signed_headers = given.headers(request.headers)?;
    authorization::single(request.headers, "host")?;
    let at = time(&given.date).ok_or_else(|| {
        Refusal::Incomplete("Date must be in ISO-8601 'basic format'.".to_owned())
    })?;
    let caller = scope(&given.credential, &basic(at))?;
    check_time(&given, at, now)?;
    let hash = body_hash(request, &parameters, given.expires.is_some())?;
    let headers = canonical::headers(&signed_headers, request.headers);
    let headers = headers.ok_or(Refusal::BadSignature)?;
    let mut digest = Sha256::new();
    let query = canonical::query(&parameters, given.expires.is_some());
    let path = canonical::path(request.path, &caller.service);
    digest.update(format!("{}\n{path}\n{query}\n", request.method));
    digest.update(headers);
    digest.update(format!("\n{}\n{hash}", given.signed_headers));
    let Caller { key_id, region, service, date } = &caller;
    let text = format!(
        "{ALGORITHM}\n{}\n{date}/{region}/{service}/{TERMINATOR}\n{}",
        basic(at),
        hex(&digest.finalize())
    );
    let key = keys.get(key_id);
    let secret = key.map_or(NO_SECRET, |key| key.secret());
    let matches = signer(secret, &caller, &text).verify_slice(&unhex(&given.signature)).is_ok();
    if matches & key.is_some() { Ok(caller) } else { Err(Refusal::BadSignature) }
}

/// `KEY/DATE/REGION/SERVICE/aws4_request`; `at` is the signature's time.
fn scope(credential: &str, at: &str) -> Result<Caller, Refusal> {
    let parts: Vec<&str> = credential.splitn(6, '/').collect();
    let &[key_id, date, region, service, terminator] = parts.as_slice() else {
        return Err(Refusal::Incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. \
             keyid/date/region/service/term."
                .to_owned(),
        ));
    };
    let label = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let bad = |reason: String| Err(Refusal::BadScope(reason));
    if terminator != TERMINATOR {
        return bad(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}'."
        ));
    }
    if date != &at[..8] {
        return bad(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}', from '{at}'.",
            &at[..8]
        ));
    }
    if !label(region) {
        return bad("Credential should be scoped to a valid region.".to_owned());
    }
    if !label(service) {
        return bad("Credential should be scoped to correct service.".to_owned());
    }
    let [key_id, region, service, date] = [key_id, region, service, date].map(str::to_owned);
    Ok(Caller { key_id, region, service, date })
}

fn check_time(given: &Authorization<'_>, at: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let (signed, current) = (basic(at), basic(now));
    if at > now + SKEW {
        return Err(Refusal::Skewed(format!(
            "Signature not yet current: {signed} is still later than {} ({current} + 5 min.)",
            basic(now + SKEW)
        )));
    }
    match given.expires {
        Some(life) if now > at + Duration::from_secs(life) => Err(Refusal::Expired(format!(
            "Signature expired: {signed} lived {life} seconds, it is now {current}"
        ))),
        None if now > at + SKEW => Err(Refusal::Skewed(format!(
            "Signature expired: {signed} is now earlier than {} ({current} - 5 min.)",
            basic(Timestamp(now.0.saturating_sub((Timestamp(0) + SKEW).0)))
        ))),
        _ => Ok(()),
    }
}

/// What stands for the body in the canonical request: its hash; in a presigned URL that says so,
/// that it is not signed.
fn body_hash(
    request: &Signed<'_>,
    parameters: &[(Vec<u8>, Vec<u8>)],
    presigned: bool,
) -> Result<String, Refusal> {
    let hash = hex(&Sha256::digest(request.body));
    let header = authorization::single(request.headers, "x-amz-content-sha256")?;
    let parameter = if presigned {
        authorization::parameter(parameters, "X-Amz-Content-Sha256")?
    } else {
        None
    };
    match (header, parameter) {
        (Some(header), Some(parameter)) if header != parameter => Err(Refusal::BodyHash),
        (Some(said), _) | (None, Some(said)) if said == UNSIGNED && presigned => {
            Ok(UNSIGNED.to_owned())
        }
        (Some(said), _) | (None, Some(said)) if said != hash => Err(Refusal::BodyHash),
        _ => Ok(hash),
    }
}

fn signer(secret: &str, caller: &Caller, text: &str) -> Hmac<Sha256> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [&caller.date, &caller.region, &caller.service, TERMINATOR] {
        key = mac(&key, part).finalize().into_bytes().to_vec();
    }
    mac(&key, text)
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.update(text.as_bytes());
    mac
}

/// `20150830T123600Z`, or a `Date` header's form (RFC 9110, section 5.6.7).
fn time(text: &str) -> Option<Timestamp> {
    let zoned = match text.as_bytes() {
        bytes if bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z' => {
            let number = |range: std::ops::Range<usize>| {
                let digits = text.get(range)?;
                let good = digits.bytes().all(|byte| byte.is_ascii_digit());
                if good { digits.parse::<i16>().ok() } else { None }
            };
            let small = |range| i8::try_from(number(range)?).ok();
            let (year, month, day) = (number(0..4)?, small(4..6)?, small(6..8)?);
            let (hour, minute, second) = (small(9..11)?, small(11..13)?, small(13..15)?);
            let time = civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
            time.to_zoned(TimeZone::UTC).ok()?
        }
        _ => jiff::fmt::rfc2822::parse(text).ok()?,
    };
    u64::try_from(zoned.timestamp().as_microsecond()).ok().map(Timestamp)
}

/// `20150830T123600Z`
fn basic(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The 32 bytes that 64 lower-case digits mean; nothing for anything else, which matches nothing.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 64 {
        return Vec::new();
    }
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<_>>()
        .unwrap_or_default()
}
