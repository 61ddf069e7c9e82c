//! Logins by OpenID Connect's authorization code flow, as ALB does them.
//!
//! AWS, "Authenticate users using an Application Load Balancer". A client without a session is
//! sent to the provider with a sealed state; it comes back to [`CALLBACK`] with a code, which
//! becomes a session that it keeps in sealed cookies. Pure; the calls of the provider are in
//! `provider`. **Invariant:** a code is taken only from the browser that was sent away for it: the
//! state names a binding that only its cookie has.

mod provider;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::fetch::{BadUrl, SecureUrl};
use super::seals::Seals;
use crate::clock::Timestamp;
use crate::model::{OidcLogin, Unauthenticated};

/// Where providers send clients back to.
pub const CALLBACK: &str = "/oauth2/idpresponse";
/// The cookie that binds a login to its browser.
pub const NONCE_COOKIE: &str = "AWSALBAuthNonce";
/// ALB: cookies of one session, at most.
pub const SHARDS: usize = 4;
/// ALB: cookies of 4 KiB; so much of one is its value (ours: the rest is for name and attributes).
const SHARD: usize = 3800;
/// ALB: a login is to be done within this.
const LOGIN: Duration = Duration::from_secs(15 * 60);
/// How long what a target is told of a user may be believed (ALB).
const TOLD: Duration = Duration::from_secs(120);
/// ALB: a longer `Location` is answered with 507.
const LONGEST_LOCATION: usize = 8 * 1024;

/// Why a login came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The rule lets nobody in who is not logged in already.
    Denied,
    MissingHost,
    MissingState,
    InvalidState,
    MissingNonce,
    InvalidNonce,
    MissingCode,
    InvalidIdToken,
    /// The provider says no.
    Refused,
    TokenFailed,
    TokenUnreachable,
    TokenTimeout,
    InvalidTokens,
    UserFailed,
    UserUnreachable,
    UserTimeout,
    InvalidUser,
    TooLarge,
    /// There is no key to seal with.
    NoKey,
    /// Where the client would be sent is longer than 8 KiB.
    TooLong,
}

impl LoginFailure {
    /// ALB's code: 561 where the provider answers with an error, 500 where it does not answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::MissingHost => 400,
            Self::Denied
            | Self::MissingState
            | Self::InvalidState
            | Self::MissingNonce
            | Self::InvalidNonce
            | Self::MissingCode
            | Self::InvalidIdToken => 401,
            Self::Refused | Self::TokenFailed | Self::UserFailed => 561,
            Self::TooLong => 507,
            _ => 500,
        }
    }

    /// ALB's word in access logs; of [`Self::Denied`] and [`Self::TooLong`] ours.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "AuthDenied",
            Self::MissingHost => "AuthMissingHostHeader",
            Self::MissingState => "AuthMissingStateParam",
            Self::InvalidState => "AuthInvalidStateParam",
            Self::MissingNonce => "AuthMissingAWSALBAuthNonce",
            Self::InvalidNonce => "AuthInvalidAWSALBAuthNonce",
            Self::MissingCode => "AuthMissingCodeParam",
            Self::InvalidIdToken => "AuthInvalidIdToken",
            Self::Refused => "AuthInvalidGrantError",
            Self::TokenFailed | Self::TokenUnreachable => "AuthTokenEpRequestFailed",
            Self::TokenTimeout => "AuthTokenEpRequestTimeout",
            Self::InvalidTokens => "AuthInvalidTokenResponse",
            Self::UserFailed | Self::UserUnreachable => "AuthUserinfoEpRequestFailed",
            Self::UserTimeout => "AuthUserinfoEpRequestTimeout",
            Self::InvalidUser => "AuthInvalidUserinfoResponse",
            Self::TooLarge => "AuthUserinfoResponseSizeExceeded",
            Self::NoKey => "AuthUnhandledException",
            Self::TooLong => "RedirectLocationTooLong",
        }
    }
}

/// One rule's provider.
#[derive(Debug)]
pub struct Login {
    asked: OidcLogin,
    /// Rules with the same provider and client share their sessions.
    id: String,
    token: SecureUrl,
    user_info: SecureUrl,
}

/// Who is logged in, as their cookies hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    login: String,
    subject: String,
    access_token: String,
    refresh_token: Option<String>,
    /// What the provider says of the user.
    claims: Map<String, Value>,
    /// When the access token expires; none: nobody knows.
    fresh_until: Option<Timestamp>,
    until: Timestamp,
}

/// Where a client is sent, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    pub location: String,
    /// Values of `Set-Cookie`.
    pub cookies: Vec<String>,
}

/// A client that came back from its provider.
#[derive(Debug)]
pub struct Arrival {
    login: Arc<Login>,
    seals: Arc<Seals>,
    host: String,
    code: String,
    state: State,
    now: Timestamp,
}

/// A session whose access token has expired.
#[derive(Debug)]
pub struct Refreshing {
    pub login: Arc<Login>,
    pub seals: Arc<Seals>,
    pub session: Session,
    pub now: Timestamp,
}

/// What came of refreshing a session.
#[derive(Debug)]
pub struct Refreshed {
    login: String,
    session: Option<Session>,
    /// Values of `Set-Cookie`.
    pub cookies: Vec<String>,
}

/// What a client carries to its provider and back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    login: String,
    /// The browser's.
    binding: String,
    /// The id token's.
    nonce: String,
    /// Path and query that were asked for.
    target: String,
    until: Timestamp,
}

/// What a browser is known by while it logs in.
#[derive(Serialize, Deserialize)]
struct Binding {
    text: String,
    until: Timestamp,
}

impl Login {
    /// # Errors
    /// An endpoint is no URL.
    pub fn new(asked: OidcLogin) -> Result<Self, BadUrl> {
        let mut hash = Sha256::new();
        for part in [&asked.issuer, &asked.token_endpoint, &asked.client_id] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let id = URL_SAFE_NO_PAD.encode(&hash.finalize()[..12]);
        let (token, user_info) = (asked.token_endpoint.parse()?, asked.user_info_endpoint.parse()?);
        Ok(Self { asked, id, token, user_info })
    }

    /// What becomes of clients without a session.
    #[must_use]
    pub const fn otherwise(&self) -> Unauthenticated {
        self.asked.on_unauthenticated
    }

    /// The name of a session's cookies, without the number behind.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.asked.session_cookie
    }

    fn purpose(&self) -> Vec<u8> {
        [b"session ", self.id.as_bytes()].concat()
    }

    /// The session in a request's cookies, of which `shards` are the values in order.
    #[must_use]
    pub fn session(
        &self,
        seals: &Seals,
        shards: &[Option<&[u8]>; SHARDS],
        now: Timestamp,
    ) -> Option<Session> {
        let (count, first) = shards[0]?.split_first()?;
        let count = usize::from(count.wrapping_sub(b'0'));
        let rest = shards.get(1..count)?.iter().copied().collect::<Option<Vec<_>>>()?;
        let text = [&[first], rest.as_slice()].concat().concat();
        let session: Session = serde_json::from_slice(&seals.open(&self.purpose(), &text)?).ok()?;
        (session.login == self.id && session.until > now).then_some(session)
    }

    /// Sends a client away that asked for `target` of `host`; `binding` is the cookie that it has
    /// from another login.
    ///
    /// # Errors
    /// Nothing can be sealed, or what was asked for is too long.
    pub fn begin(
        &self,
        seals: &Seals,
        (host, target): (&str, &str),
        binding: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Redirection, LoginFailure> {
        if host.is_empty() {
            return Err(LoginFailure::MissingHost);
        }
        let until = now + LOGIN;
        let known = binding.and_then(|text| open_binding(seals, text, now));
        let binding = known.map_or_else(random, Ok)?;
        let seal = |purpose: &[u8], json: Result<String, _>| {
            let json = json.map_err(|_: serde_json::Error| LoginFailure::NoKey)?;
            seals.seal(purpose, json.as_bytes()).ok_or(LoginFailure::NoKey)
        };
        let own = Binding { text: binding.clone(), until };
        let cookie = seal(b"nonce", serde_json::to_string(&own))?;
        let nonce = random()?;
        let login = self.id.clone();
        let state = State { login, binding, nonce, target: target.to_owned(), until };
        let sealed = seal(b"state", serde_json::to_string(&state))?;
        let asked = &self.asked;
        let glue = if asked.authorization_endpoint.contains('?') { '&' } else { '?' };
        let location = format!("{}{glue}", asked.authorization_endpoint);
        let length = location.len();
        let mut query = Serializer::for_suffix(location, length);
        query
            .append_pair("client_id", &asked.client_id)
            .append_pair("redirect_uri", &redirect_uri(host))
            .append_pair("response_type", "code")
            .append_pair("scope", &asked.scope)
            .append_pair("state", &sealed)
            .append_pair("nonce", &state.nonce)
            .extend_pairs(&asked.extra_params);
        let location = query.finish();
        if location.len() > LONGEST_LOCATION {
            return Err(LoginFailure::TooLong);
        }
        let cookies = vec![set(NONCE_COOKIE, &cookie, until)];
        Ok(Redirection { location, cookies })
    }

    /// A session's cookies.
    fn cookies(&self, seals: &Seals, session: &Session) -> Result<Vec<String>, LoginFailure> {
        let json = serde_json::to_vec(session).map_err(|_| LoginFailure::NoKey)?;
        let sealed = seals.seal(&self.purpose(), &json).ok_or(LoginFailure::NoKey)?;
        let count = (sealed.len() + 1).div_ceil(SHARD);
        if count > SHARDS {
            return Err(LoginFailure::TooLarge);
        }
        let whole = format!("{count}{sealed}");
        let shards = whole.as_bytes().chunks(SHARD).map(String::from_utf8_lossy);
        let name = self.cookie();
        let named =
            shards.enumerate().map(|(n, text)| set(&format!("{name}-{n}"), &text, session.until));
        Ok(named.collect())
    }

    /// Header lines that tell a target who asks; `signer` is the load balancer's ARN.
    #[must_use]
    pub fn told(
        &self,
        seals: &Seals,
        session: &Session,
        signer: &str,
        now: Timestamp,
    ) -> Option<String> {
        let expires = (now + TOLD).millis() / 1000;
        let header = [
            ("signer", signer.into()),
            ("iss", self.asked.issuer.as_str().into()),
            ("client", self.asked.client_id.as_str().into()),
            ("exp", Value::from(expires)),
        ];
        let header = header.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let mut claims = session.claims.clone();
        claims.insert("exp".into(), expires.into());
        claims.insert("iss".into(), self.asked.issuer.as_str().into());
        let data = seals.sign(header, &Value::Object(claims))?;
        let subject = visible(&session.subject);
        let token = &session.access_token;
        Some(format!(
            "x-amzn-oidc-accesstoken: {token}\r\nx-amzn-oidc-identity: {subject}\r\n\
             x-amzn-oidc-data: {data}\r\n"
        ))
    }
}

/// Reads what a client brings back: `query` is that of [`CALLBACK`], `binding` the cookie.
///
/// # Errors
/// It is not to be taken from this client, now, or is a refusal.
pub fn arrive<'a>(
    mut logins: impl Iterator<Item = &'a Arc<Login>>,
    seals: &Arc<Seals>,
    (host, query): (&str, &str),
    binding: Option<&[u8]>,
    now: Timestamp,
) -> Result<Arrival, LoginFailure> {
    let [mut code, mut state, mut error] = [None, None, None];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "code" => code = Some(value),
            "state" => state = Some(value),
            "error" => error = Some(value),
            _ => {}
        }
    }
    let sealed = state.ok_or(LoginFailure::MissingState)?;
    let opened = seals.open(b"state", sealed.as_bytes());
    let state = opened.and_then(|json| serde_json::from_slice::<State>(&json).ok());
    let state = state.filter(|state| state.until > now).ok_or(LoginFailure::InvalidState)?;
    let login = logins.find(|own| own.id == state.login).ok_or(LoginFailure::InvalidState)?;
    let known = open_binding(seals, binding.ok_or(LoginFailure::MissingNonce)?, now);
    if known.as_ref() != Some(&state.binding) {
        return Err(LoginFailure::InvalidNonce);
    }
    if error.is_some() {
        return Err(LoginFailure::Refused);
    }
    let code = code.ok_or(LoginFailure::MissingCode)?.into_owned();
    if host.is_empty() {
        return Err(LoginFailure::MissingHost);
    }
    let (login, seals, host) = (Arc::clone(login), Arc::clone(seals), host.to_owned());
    Ok(Arrival { login, seals, host, code, state, now })
}

impl Session {
    /// Whether its access token has expired, and another can be had.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.refresh_token.is_some() && self.fresh_until.is_some_and(|until| until <= now)
    }
}

impl Refreshed {
    /// What is known of a client of `login`: its session, or that it has none any more.
    #[must_use]
    pub fn of(&self, login: &Login) -> Option<Option<&Session>> {
        (self.login == login.id).then_some(self.session.as_ref())
    }

    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.session.is_some()
    }
}

fn open_binding(seals: &Seals, text: &[u8], now: Timestamp) -> Option<String> {
    let binding: Binding = serde_json::from_slice(&seals.open(b"nonce", text)?).ok()?;
    (binding.until > now).then_some(binding.text)
}

fn redirect_uri(host: &str) -> String {
    format!("https://{host}{CALLBACK}")
}

/// 128 bits.
fn random() -> Result<String, LoginFailure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| LoginFailure::NoKey)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn set(name: &str, value: &str, until: Timestamp) -> String {
    let date = crate::clock::http_date(until);
    format!("{name}={value}; Expires={date}; Path=/; Secure; HttpOnly")
}

/// What may stand in a header's value; other bytes as in a URL.
fn visible(text: &str) -> String {
    let shown = |byte: u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(shown).collect()
}

#[cfg(test)]
mod tests;
