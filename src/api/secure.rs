//! TLS of the endpoint itself: one certificate, of two files that the configuration names.
//!
//! Read when the process starts, like every process setting. **Invariant:** an endpoint that was
//! asked to speak TLS speaks nothing else.

use std::path::Path;
use std::sync::Arc;

use crate::config::ApiSettings;
use crate::tls::policy::RECOMMENDED;
use crate::tls::{Alpn, BadCertificate, Identity, Mutual, Policy, Server, Tickets};

/// What the endpoint presents; none where it speaks plain HTTP.
///
/// # Errors
/// The key of the setting that is to blame, and why.
pub fn server(settings: &ApiSettings) -> Result<Option<Server>, (&'static str, String)> {
    let (Some(certificate), Some(private_key)) = (&settings.certificate, &settings.private_key)
    else {
        return Ok(None);
    };
    let read = |key, path: &Path| {
        let bad = |error| (key, format!("cannot read {}: {error}", path.display()));
        std::fs::read_to_string(path).map_err(bad)
    };
    let (body, chain) = Identity::split(&read("api.certificate", certificate)?);
    let private_key = read("api.private_key", private_key)?;
    let identity = Identity::read(&body, &chain, &private_key).map_err(|bad| {
        let key = match bad {
            BadCertificate::Key | BadCertificate::Mismatch => "api.private_key",
            _ => "api.certificate",
        };
        (key, bad.to_string())
    })?;
    let failed = |why: String| ("api.certificate", why);
    let policy = Policy::find(RECOMMENDED).ok_or_else(|| failed("no security policy".into()))?;
    let tickets = Tickets::new().map_err(|error| failed(error.to_string()))?;
    let named = vec![(Arc::from("the API endpoint"), identity)];
    let server = Server::new(named, policy, &[Alpn::Http1], &tickets, Mutual::Off);
    server.map(Some).map_err(|error| failed(error.to_string()))
}
