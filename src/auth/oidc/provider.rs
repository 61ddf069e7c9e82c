//! The calls of a provider: a code becomes tokens, tokens become what is said of a user.
//!
//! **Invariant:** nothing that a provider sends is believed but what it sent over HTTPS for the
//! very code, client and nonce (OpenID Connect Core, section 3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::fetch::{Failed, Fetcher};
use super::super::jwt;
use super::{
    Arrival, Login, LoginFailure, Redirection, Refreshed, Refreshing, Session, redirect_uri,
};
use crate::clock::Timestamp;

/// ALB: what is said of a user, in bytes.
const LARGEST_CLAIMS: usize = 11 * 1024;
/// A token endpoint's answer, in bytes (ours: more would not fit the session's cookies).
const LARGEST_TOKENS: usize = 64 * 1024;

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    id_token: Option<String>,
    refresh_token: Option<String>,
    /// Seconds.
    expires_in: Option<Value>,
}

impl Arrival {
    /// Makes a session of the code, and sends the client where it wanted to go.
    ///
    /// # Errors
    /// The provider does not answer, or not as it should.
    pub async fn complete(self, fetcher: &Fetcher) -> Result<Redirection, LoginFailure> {
        let Self { login, seals, host, code, state, now } = self;
        let uri = redirect_uri(&host);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", uri.as_str()),
        ];
        let tokens = login.tokens(fetcher, &form).await?;
        let id_token = tokens.id_token.as_deref().ok_or(LoginFailure::InvalidIdToken)?;
        let subject = login.subject(id_token, Some(&state.nonce), now);
        let subject = subject.ok_or(LoginFailure::InvalidIdToken)?;
        let claims = login.user(fetcher, &tokens.access_token, &subject).await?;
        let session = login.make(subject, tokens, claims, now);
        let cookies = login.cookies(&seals, &session)?;
        Ok(Redirection { location: format!("https://{host}{}", state.target), cookies })
    }
}

impl Refreshing {
    /// Asks for another access token, and for what is said of the user now.
    pub async fn run(self, fetcher: &Fetcher) -> Refreshed {
        let login = self.login.id.clone();
        match self.ask(fetcher).await {
            Ok((session, cookies)) => Refreshed { login, session: Some(session), cookies },
            Err(failure) => {
                tracing::debug!(reason = failure.as_str(), "a session was not refreshed");
                Refreshed { login, session: None, cookies: Vec::new() }
            }
        }
    }

    async fn ask(&self, fetcher: &Fetcher) -> Result<(Session, Vec<String>), LoginFailure> {
        let Self { login, seals, session, now } = self;
        let token = session.refresh_token.as_deref().unwrap_or_default();
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let tokens = login.tokens(fetcher, &form).await?;
        // OpenID Connect Core, section 12.2: none has to come, one that does is the same user's.
        if let Some(id_token) = &tokens.id_token
            && login.subject(id_token, None, *now).as_ref() != Some(&session.subject)
        {
            return Err(LoginFailure::InvalidIdToken);
        }
        let claims = login.user(fetcher, &tokens.access_token, &session.subject).await?;
        let fresh = login.make(session.subject.clone(), tokens, claims, *now);
        let fresh = Session {
            // RFC 6749, section 6: the old one stays where no other comes.
            refresh_token: fresh.refresh_token.or_else(|| session.refresh_token.clone()),
            until: session.until,
            ..fresh
        };
        let cookies = login.cookies(seals, &fresh)?;
        Ok((fresh, cookies))
    }
}

impl Login {
    async fn tokens(
        &self,
        fetcher: &Fetcher,
        form: &[(&str, &str)],
    ) -> Result<Tokens, LoginFailure> {
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        // RFC 6749, section 2.3.1.
        let (client, secret) = (&self.asked.client_id, self.asked.client_secret.reveal());
        let basic = STANDARD.encode(format!("{}:{}", encode(client), encode(secret)));
        let request = Request::post("/")
            .header(AUTHORIZATION, format!("Basic {basic}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = Bytes::from(Serializer::new(String::new()).extend_pairs(form).finish());
        let called = fetcher.call(&self.token, request, body, LARGEST_TOKENS).await;
        let (status, body) = called.map_err(|failed| {
            tracing::warn!(url = %self.token, %failed, "a token endpoint does not answer");
            match failed {
                Failed::Timeout => LoginFailure::TokenTimeout,
                Failed::TooLarge(_) => LoginFailure::InvalidTokens,
                Failed::Busy | Failed::Broken(_) => LoginFailure::TokenUnreachable,
            }
        })?;
        match status {
            status if status.is_success() => {}
            status if status.is_client_error() => return Err(LoginFailure::Refused),
            _ => return Err(LoginFailure::TokenFailed),
        }
        let tokens = serde_json::from_slice::<Tokens>(&body).ok().filter(|tokens| {
            let is_visible = tokens.access_token.bytes().all(|byte| byte.is_ascii_graphic());
            is_visible && tokens.token_type.eq_ignore_ascii_case("bearer")
        });
        tokens.ok_or(LoginFailure::InvalidTokens)
    }

    /// The user that an id token is about, where it is for this client and time.
    fn subject(&self, id_token: &str, nonce: Option<&str>, now: Timestamp) -> Option<String> {
        let claims = jwt::claims(id_token)?;
        jwt::times(&claims, now).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let client = self.asked.client_id.as_str();
        let is_for_us = match claims.get("aud")? {
            Value::Array(all) => all.iter().any(|own| own.as_str() == Some(client)),
            own => own.as_str() == Some(client),
        };
        let good = is_for_us
            && text("iss") == Some(self.asked.issuer.as_str())
            && text("azp").is_none_or(|own| own == client)
            && nonce.is_none_or(|nonce| text("nonce") == Some(nonce));
        text("sub").filter(|_| good).map(str::to_owned)
    }

    /// What the provider says of the user.
    async fn user(
        &self,
        fetcher: &Fetcher,
        access_token: &str,
        subject: &str,
    ) -> Result<Map<String, Value>, LoginFailure> {
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {access_token}"));
        let called = fetcher.call(&self.user_info, request, Bytes::new(), LARGEST_CLAIMS).await;
        let (status, body) = called.map_err(|failed| {
            tracing::warn!(url = %self.user_info, %failed, "a user info endpoint does not answer");
            match failed {
                Failed::Timeout => LoginFailure::UserTimeout,
                Failed::TooLarge(_) => LoginFailure::TooLarge,
                Failed::Busy | Failed::Broken(_) => LoginFailure::UserUnreachable,
            }
        })?;
        if status != StatusCode::OK {
            return Err(LoginFailure::UserFailed);
        }
        let claims = serde_json::from_slice::<Map<String, Value>>(&body).ok();
        // OpenID Connect Core, section 5.3.2.
        let same = |claims: &Map<String, Value>| {
            claims.get("sub").and_then(Value::as_str) == Some(subject)
        };
        claims.filter(same).ok_or(LoginFailure::InvalidUser)
    }

    fn make(
        &self,
        subject: String,
        tokens: Tokens,
        claims: Map<String, Value>,
        now: Timestamp,
    ) -> Session {
        let seconds = tokens.expires_in.and_then(|time| match time {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        Session {
            login: self.id.clone(),
            subject,
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            claims,
            fresh_until: seconds.map(|seconds| now + std::time::Duration::from_secs(seconds)),
            until: now + self.asked.session_timeout,
        }
    }
}
