//! Certificates as the API shows them.

use serde_json::{Value, json};

use crate::api::error::Error;
use crate::api::wire::time::seconds;
use crate::clock::Timestamp;
use crate::model::{Account, Certificate};
use crate::state::State;
use crate::tls::{Facts, Identity, Key};

/// What a certificate says of itself.
///
/// # Errors
/// Never for one that was checked when it came.
pub(super) fn read(row: &Certificate) -> Result<Identity, Error> {
    Identity::read(&row.body, &row.chain, row.private_key.expose())
        .map_err(|error| Error::Internal(format!("certificate {}: {error}", row.arn)))
}

pub(super) fn status(facts: &Facts, now: Timestamp) -> &'static str {
    if facts.not_after < now { "EXPIRED" } else { "ISSUED" }
}

/// As ACM's `KeyAlgorithm`.
pub(super) fn algorithm(key: Key) -> String {
    match key {
        Key::Ecdsa(256) => "EC_prime256v1".to_owned(),
        Key::Ecdsa(bits) => format!("EC_secp{bits}r1"),
        Key::Rsa(bits) => format!("RSA_{bits}"),
    }
}

/// The name that ACM lists a certificate under.
fn domain(facts: &Facts) -> Option<&String> {
    facts.common_name.as_ref().or_else(|| facts.names.first())
}

pub(super) fn detail(
    state: &State,
    account: &Account,
    row: &Certificate,
    now: Timestamp,
) -> Result<Value, Error> {
    let facts = read(row)?.facts;
    let balancers = state.presenting(&row.arn).filter_map(|listener| {
        let lb = state.load_balancers.get(&listener.key.load_balancer)?;
        Some(account.load_balancer(lb).to_string())
    });
    let balancers: std::collections::BTreeSet<String> = balancers.collect();
    Ok(json!({
        "CertificateArn": row.arn,
        "DomainName": domain(&facts),
        "SubjectAlternativeNames": facts.names,
        "Serial": facts.serial,
        "Subject": facts.subject,
        "Issuer": facts.issued_by,
        "CreatedAt": seconds(row.created_at),
        "ImportedAt": seconds(row.imported_at),
        "Status": status(&facts, now),
        "NotBefore": seconds(facts.not_before),
        "NotAfter": seconds(facts.not_after),
        "KeyAlgorithm": algorithm(facts.key),
        "SignatureAlgorithm": facts.signature,
        "InUseBy": balancers,
        "Type": "IMPORTED",
        "RenewalEligibility": "INELIGIBLE",
        "Options": {"CertificateTransparencyLoggingPreference": "DISABLED"},
    }))
}

pub(super) fn summary(
    state: &State,
    row: &Certificate,
    identity: &Identity,
    now: Timestamp,
) -> Value {
    let facts = &identity.facts;
    json!({
        "CertificateArn": row.arn,
        "DomainName": domain(facts),
        "SubjectAlternativeNameSummaries": facts.names,
        "HasAdditionalSubjectAlternativeNames": false,
        "Status": status(facts, now),
        "Type": "IMPORTED",
        "KeyAlgorithm": algorithm(facts.key),
        "InUse": state.presenting(&row.arn).next().is_some(),
        "RenewalEligibility": "INELIGIBLE",
        "NotBefore": seconds(facts.not_before),
        "NotAfter": seconds(facts.not_after),
        "CreatedAt": seconds(row.created_at),
        "ImportedAt": seconds(row.imported_at),
    })
}
