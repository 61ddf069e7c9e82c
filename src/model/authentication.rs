//! What a rule asks of clients before anything else is done with their requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The action that comes before a rule's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// Its place among the actions, as it was given.
    #[serde(default)]
    pub order: Option<u32>,
    pub check: ClientCheck,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCheck {
    Jwt(JwtValidation),
    Oidc(OidcLogin),
}

impl ClientCheck {
    /// The action's type, as the API and access logs call it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Jwt(_) => "jwt-validation",
            Self::Oidc(_) => "authenticate-oidc",
        }
    }
}

/// A token that the client has to bring in `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtValidation {
    /// Where the issuer's keys are read: a URL of HTTPS.
    pub jwks_endpoint: String,
    /// What the claim `iss` has to be.
    pub issuer: String,
    /// All of them have to hold.
    pub claims: Vec<ClaimCheck>,
}

/// A login at a provider of OpenID Connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OidcLogin {
    /// What the claim `iss` of id tokens has to be.
    pub issuer: String,
    /// Where clients are sent; as the others a URL of HTTPS.
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub user_info_endpoint: String,
    pub client_id: String,
    pub client_secret: ClientSecret,
    /// The name of the session's cookies, without the number behind.
    pub session_cookie: String,
    /// What is asked for, with spaces between.
    pub scope: String,
    pub session_timeout: Duration,
    /// Sent along to `authorization_endpoint`.
    pub extra_params: BTreeMap<String, String>,
    pub on_unauthenticated: Unauthenticated,
}

/// What becomes of requests of clients that are not logged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unauthenticated {
    /// They are answered with 401.
    Deny,
    /// They go on, and nothing is said of who asks.
    Allow,
    #[default]
    Authenticate,
}

impl Unauthenticated {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
            Self::Authenticate => "authenticate",
        }
    }
}

/// A client's secret, which nothing shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientSecret(String);

impl ClientSecret {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// For the provider that is to get it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSecret(not shown)")
    }
}

/// What one claim of a token has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCheck {
    pub name: String,
    pub format: ClaimFormat,
    /// At least one.
    pub values: Vec<String>,
}

/// How a claim holds its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimFormat {
    /// A text, which has to be one of the values.
    SingleString,
    /// A list of texts, among which every value has to be.
    StringArray,
    /// The same in one text, with spaces between.
    SpaceSeparatedValues,
}

impl ClaimFormat {
    pub const ALL: [Self; 3] = [Self::SingleString, Self::StringArray, Self::SpaceSeparatedValues];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleString => "single-string",
            Self::StringArray => "string-array",
            Self::SpaceSeparatedValues => "space-separated-values",
        }
    }
}
