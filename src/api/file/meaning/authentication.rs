//! What clients have to show before a rule's action.
//!
//! **Invariant:** what is wrong with a secret is said without a byte of it.

use std::path::Path;

use super::super::place::Place;
use super::super::source::{Bad, Source};
use super::super::written::{WrittenBalancer, WrittenClaim, WrittenJwt, WrittenOidc};
use super::Resources;
use crate::api::elb::authentication::{SCOPE, SESSION, SESSION_COOKIE, check_jwt, check_oidc};
use crate::api::keys::read_private;
use crate::model::{
    Authentication, ClaimCheck, ClientCheck, ClientSecret, JwtValidation, OidcLogin, Protocol,
};

impl Resources {
    /// Reads the secrets of all logins.
    pub(super) fn client_secrets(
        &mut self,
        source: &Source,
        written: &[WrittenBalancer],
        list: &Place,
    ) -> Result<(), Bad> {
        for (index, balancer) in written.iter().enumerate() {
            let listeners = list.index(index).key("listener");
            for (index, listener) in balancer.listener.iter().enumerate() {
                let at = listeners.index(index);
                let rules = listener.rule.iter().enumerate();
                let rules =
                    rules.map(|(n, rule)| (&rule.authenticate_oidc, at.key("rule").index(n)));
                let all = std::iter::once((&listener.authenticate_oidc, at.clone())).chain(rules);
                for (login, at) in all {
                    let Some(login) = login else { continue };
                    let at = at.key("authenticate_oidc").key("client_secret_file");
                    self.client_secret(source, &login.client_secret_file, &at)?;
                }
            }
        }
        Ok(())
    }

    fn client_secret(&mut self, source: &Source, file: &Path, at: &Place) -> Result<(), Bad> {
        let folder = source.path.parent().unwrap_or_else(|| Path::new(""));
        let path = folder.join(file);
        let text = read_private(&path).map_err(|error| Bad::new(at, error.to_string()))?;
        self.includes.push(path);
        let secret = ClientSecret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        self.client_secrets.insert(file.to_owned(), secret);
        Ok(())
    }

    pub(super) fn authentication(
        &self,
        written: (Option<&WrittenJwt>, Option<&WrittenOidc>),
        protocol: Protocol,
        at: &Place,
    ) -> Result<Option<Authentication>, Bad> {
        let (key, check) = match written {
            (None, None) => return Ok(None),
            (Some(jwt), None) => ("jwt_validation", ClientCheck::Jwt(validation(jwt))),
            (None, Some(oidc)) => ("authenticate_oidc", ClientCheck::Oidc(self.login(oidc))),
            (Some(_), Some(_)) => {
                let reason = "stands beside jwt_validation: one of them is enough";
                return Err(Bad::new(&at.key("authenticate_oidc"), reason));
            }
        };
        let at = at.key(key);
        if protocol != Protocol::Https {
            return Err(Bad::new(&at, "belongs to HTTPS listeners"));
        }
        let checked = match &check {
            ClientCheck::Jwt(jwt) => check_jwt(jwt),
            ClientCheck::Oidc(login) => check_oidc(login),
        };
        checked.map_err(|(part, reason)| {
            let part = if part == "client_secret" { "client_secret_file" } else { part };
            Bad::new(&at.key(part), reason)
        })?;
        Ok(Some(Authentication { order: None, check }))
    }

    fn login(&self, written: &WrittenOidc) -> OidcLogin {
        let or = |given: &Option<String>, own: &str| given.clone().unwrap_or_else(|| own.into());
        let secret = self.client_secrets.get(&written.client_secret_file);
        OidcLogin {
            issuer: written.issuer.clone(),
            authorization_endpoint: written.authorization_endpoint.clone(),
            token_endpoint: written.token_endpoint.clone(),
            user_info_endpoint: written.user_info_endpoint.clone(),
            client_id: written.client_id.clone(),
            client_secret: secret.cloned().unwrap_or_else(|| ClientSecret::new(String::new())),
            session_cookie: or(&written.session_cookie_name, SESSION_COOKIE),
            scope: or(&written.scope, SCOPE),
            session_timeout: written.session_timeout.map_or(SESSION, |time| time.0),
            extra_params: written.extra_params.clone(),
            on_unauthenticated: written.on_unauthenticated_request.unwrap_or_default(),
        }
    }
}

fn validation(written: &WrittenJwt) -> JwtValidation {
    let claim = |claim: &WrittenClaim| ClaimCheck {
        name: claim.name.clone(),
        format: claim.format,
        values: claim.values.clone(),
    };
    JwtValidation {
        jwks_endpoint: written.jwks_endpoint.clone(),
        issuer: written.issuer.clone(),
        claims: written.claims.iter().map(claim).collect(),
    }
}
