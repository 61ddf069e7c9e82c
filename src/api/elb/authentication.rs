//! Actions that come before a rule's own: what clients have to show.
//!
//! For both fronts: the file's words mean the same. **Invariant:** what is shown reads back as the
//! same action.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::Error;
use crate::auth::SecureUrl;
use crate::model::{
    Authentication, ClaimCheck, ClaimFormat, ClientCheck, ClientSecret, JwtValidation, OidcLogin,
    Protocol, Unauthenticated,
};

/// AWS: the longest URL, issuer, name or value.
const LONGEST: usize = 256;
/// AWS: claims that one action checks, and values of one.
const MOST: usize = 10;
/// Checked anyway.
const OWN_CLAIMS: [&str; 4] = ["exp", "iss", "nbf", "iat"];

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Jwt {
    jwks_endpoint: String,
    issuer: String,
    additional_claims: Option<Vec<Claim>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Claim {
    format: ClaimFormat,
    name: String,
    values: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Oidc {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    user_info_endpoint: String,
    client_id: String,
    client_secret: Option<String>,
    session_cookie_name: Option<String>,
    scope: Option<String>,
    session_timeout: Option<i64>,
    authentication_request_extra_params: Option<BTreeMap<String, String>>,
    on_unauthenticated_request: Option<Unauthenticated>,
    use_existing_client_secret: Option<bool>,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// AWS: a session's cookies, where nothing else is said.
pub(in crate::api) const SESSION_COOKIE: &str = "AWSELBAuthSessionCookie";
/// AWS: how long a session lasts, at most and where nothing else is said.
pub(in crate::api) const SESSION: Duration = Duration::from_secs(604_800);
/// AWS: what is asked for, where nothing else is said.
pub(in crate::api) const SCOPE: &str = "openid";
/// What is ours to say to a provider.
const OWN_PARAMS: [&str; 6] =
    ["client_id", "nonce", "redirect_uri", "response_type", "scope", "state"];
/// A text of a login, in characters (ours; AWS names none).
const LONGEST_TEXT: usize = 1024;

/// What is wrong, and with which part.
pub(in crate::api) type Wrong = (&'static str, String);

/// Whether an action of this type comes before another.
pub(super) fn comes_first(kind: &str) -> bool {
    matches!(kind, "jwt-validation" | "authenticate-oidc" | "authenticate-cognito")
}

/// What is wrong with a token's check.
pub(in crate::api) fn check_jwt(jwt: &JwtValidation) -> Result<(), Wrong> {
    let is_short = |text: &str| (1..=LONGEST).contains(&text.len());
    let url = jwt.jwks_endpoint.parse::<SecureUrl>();
    url.map_err(|error| ("jwks_endpoint", error.to_string()))?;
    if !is_short(&jwt.jwks_endpoint) {
        return Err(("jwks_endpoint", format!("must have at most {LONGEST} characters")));
    }
    if !is_short(&jwt.issuer) {
        return Err(("issuer", format!("must have 1 to {LONGEST} characters")));
    }
    let wrong = |what: String| Err(("claims", what));
    if jwt.claims.len() > MOST {
        return wrong(format!("must be at most {MOST}"));
    }
    for (index, ClaimCheck { name, format, values }) in jwt.claims.iter().enumerate() {
        if !is_short(name) || OWN_CLAIMS.contains(&name.as_str()) {
            return wrong(format!(
                "{name:?} must be a name of 1 to {LONGEST} characters other than {}",
                OWN_CLAIMS.join(", ")
            ));
        }
        if jwt.claims[..index].iter().any(|other| other.name == *name) {
            return wrong(format!("{name:?} stands there twice"));
        }
        if !(1..=MOST).contains(&values.len()) || !values.iter().all(|value| is_short(value)) {
            return wrong(format!(
                "{name:?} must have 1 to {MOST} values of 1 to {LONGEST} characters"
            ));
        }
        if *format == ClaimFormat::SpaceSeparatedValues && values.iter().any(|v| v.contains(' ')) {
            return wrong(format!("{name:?}: values that spaces separate have no spaces"));
        }
    }
    Ok(())
}

/// What is wrong with a login.
pub(in crate::api) fn check_oidc(login: &OidcLogin) -> Result<(), Wrong> {
    let is_short = |text: &str| (1..=LONGEST_TEXT).contains(&text.len());
    for (part, url) in [
        ("authorization_endpoint", &login.authorization_endpoint),
        ("token_endpoint", &login.token_endpoint),
        ("user_info_endpoint", &login.user_info_endpoint),
        ("issuer", &login.issuer),
    ] {
        url.parse::<SecureUrl>().map_err(|error| (part, error.to_string()))?;
        if !is_short(url) {
            return Err((part, format!("must have at most {LONGEST_TEXT} characters")));
        }
    }
    let secret = login.client_secret.reveal();
    for (part, text) in [
        ("client_id", login.client_id.as_str()),
        ("client_secret", secret),
        ("scope", &login.scope),
    ] {
        let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if !is_short(text) || !text.bytes().all(is_plain) {
            return Err((part, format!("must have 1 to {LONGEST_TEXT} visible characters")));
        }
    }
    if !login.scope.split(' ').any(|scope| scope == SCOPE) {
        return Err(("scope", "must have openid in it".to_owned()));
    }
    let name = &login.session_cookie;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_token) || name.ends_with('-') {
        let reason = "must be a cookie's name of 1 to 64 characters".to_owned();
        return Err(("session_cookie_name", reason));
    }
    let timeout = login.session_timeout;
    if timeout < Duration::from_secs(1) || timeout > SESSION || timeout.subsec_nanos() != 0 {
        return Err(("session_timeout", "must be whole seconds, 1 to 604800".to_owned()));
    }
    let wrong = |what: String| Err(("extra_params", what));
    if login.extra_params.len() > MOST {
        return wrong(format!("must be at most {MOST}"));
    }
    for (name, value) in &login.extra_params {
        if OWN_PARAMS.contains(&name.as_str()) {
            return wrong(format!("{name:?} is not yours to say"));
        }
        if !is_short(name) || value.len() > LONGEST_TEXT {
            return wrong(format!("{name:?} is longer than {LONGEST_TEXT} characters"));
        }
    }
    Ok(())
}

fn wrong(message: String) -> Error {
    Error::new("InvalidLoadBalancerActionException", message)
}

/// A check of a listener that speaks `protocol`.
fn checked(
    protocol: Protocol,
    order: Option<u32>,
    check: ClientCheck,
) -> Result<Authentication, Error> {
    if protocol != Protocol::Https {
        return Err(wrong(format!(
            "Action type '{}' is supported for listeners of protocol 'HTTPS' alone",
            check.as_str()
        )));
    }
    Ok(Authentication { order, check })
}

/// A login; `old` is what stood in its place.
pub(super) fn login(
    protocol: Protocol,
    order: Option<u32>,
    oidc: &Oidc,
    old: Option<&Authentication>,
) -> Result<Authentication, Error> {
    let known = old.and_then(|old| match &old.check {
        ClientCheck::Oidc(login) => Some(login.client_secret.clone()),
        ClientCheck::Jwt(_) => None,
    });
    let client_secret = match (&oidc.client_secret, oidc.use_existing_client_secret, known) {
        (Some(_), Some(true), _) => {
            let message = "A client secret cannot be given where the existing one is to be used";
            return Err(wrong(message.to_owned()));
        }
        (Some(secret), _, _) => ClientSecret::new(secret.clone()),
        (None, Some(true), Some(known)) => known,
        (None, _, _) => return Err(wrong("A client secret must be specified".to_owned())),
    };
    let seconds = oidc.session_timeout.map(|seconds| u64::try_from(seconds).unwrap_or_default());
    let login = OidcLogin {
        issuer: oidc.issuer.clone(),
        authorization_endpoint: oidc.authorization_endpoint.clone(),
        token_endpoint: oidc.token_endpoint.clone(),
        user_info_endpoint: oidc.user_info_endpoint.clone(),
        client_id: oidc.client_id.clone(),
        client_secret,
        session_cookie: oidc.session_cookie_name.clone().unwrap_or_else(|| SESSION_COOKIE.into()),
        scope: oidc.scope.clone().unwrap_or_else(|| SCOPE.into()),
        session_timeout: seconds.map_or(SESSION, Duration::from_secs),
        extra_params: oidc.authentication_request_extra_params.clone().unwrap_or_default(),
        on_unauthenticated: oidc.on_unauthenticated_request.unwrap_or_default(),
    };
    check_oidc(&login).map_err(|(part, reason)| {
        wrong(format!("The OIDC authentication configuration's {part} {reason}"))
    })?;
    checked(protocol, order, ClientCheck::Oidc(login))
}

/// A check of tokens.
pub(super) fn meaning(
    protocol: Protocol,
    order: Option<u32>,
    jwt: &Jwt,
) -> Result<Authentication, Error> {
    let claim = |claim: &Claim| ClaimCheck {
        name: claim.name.clone(),
        format: claim.format,
        values: claim.values.clone(),
    };
    let claims = jwt.additional_claims.as_deref().unwrap_or_default();
    let check = JwtValidation {
        jwks_endpoint: jwt.jwks_endpoint.clone(),
        issuer: jwt.issuer.clone(),
        claims: claims.iter().map(claim).collect(),
    };
    check_jwt(&check).map_err(|(part, reason)| {
        wrong(format!("The JWT validation configuration's {part} {reason}"))
    })?;
    checked(protocol, order, ClientCheck::Jwt(check))
}

/// As the API shows it; a secret never is.
pub(super) fn shown(own: &Authentication) -> Value {
    match &own.check {
        ClientCheck::Oidc(login) => json!({
            "Type": own.check.as_str(),
            "Order": own.order,
            "AuthenticateOidcConfig": {
                "Issuer": login.issuer,
                "AuthorizationEndpoint": login.authorization_endpoint,
                "TokenEndpoint": login.token_endpoint,
                "UserInfoEndpoint": login.user_info_endpoint,
                "ClientId": login.client_id,
                "SessionCookieName": login.session_cookie,
                "Scope": login.scope,
                "SessionTimeout": login.session_timeout.as_secs(),
                "AuthenticationRequestExtraParams":
                    (!login.extra_params.is_empty()).then_some(&login.extra_params),
                "OnUnauthenticatedRequest": login.on_unauthenticated.as_str(),
            },
        }),
        ClientCheck::Jwt(jwt) => {
            let claim = |claim: &ClaimCheck| {
                json!({
                    "Format": claim.format.as_str(),
                    "Name": claim.name,
                    "Values": claim.values,
                })
            };
            let claims: Vec<Value> = jwt.claims.iter().map(claim).collect();
            json!({
                "Type": own.check.as_str(),
                "Order": own.order,
                "JwtValidationConfig": {
                    "JwksEndpoint": jwt.jwks_endpoint,
                    "Issuer": jwt.issuer,
                    "AdditionalClaims": (!claims.is_empty()).then_some(claims),
                },
            })
        }
    }
}

#[cfg(test)]
impl Oidc {
    pub(super) const fn keep_secret(&mut self) {
        self.use_existing_client_secret = Some(true);
    }
}
