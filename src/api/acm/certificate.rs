//! Certificates.
//!
//! **Invariant:** what is kept can be presented: it was read, and its key is its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shown::{self, algorithm, detail, summary};
use super::{find, own};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::clock::Timestamp;
use crate::model::{
    Account, Arn, Certificate, CertificateArn, CertificateStore, Owner, PrivateKey, uuid,
};
use crate::state::{Key, State, Tx};
use crate::tls::Identity;

/// Certificates that an account may import (ACM's quota).
const MOST: usize = 2500;
/// A page of a listing without another size (ACM).
const PAGE: usize = 1000;
/// What a listing is limited to that names no kinds of keys (ACM's API reference).
const LISTED: [&str; 2] = ["RSA_1024", "RSA_2048"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Import {
    certificate_arn: Option<String>,
    certificate: String,
    private_key: String,
    certificate_chain: Option<String>,
    tags: Option<Vec<Tag>>,
}

pub(super) async fn import(call: &Call, input: Input) -> Outcome {
    let asked: Import = input.read()?;
    let body = text("certificate", &asked.certificate)?;
    let key = text("private key", &asked.private_key)?;
    let chain = asked.certificate_chain.as_deref().unwrap_or_default();
    let chain = text("certificate chain", chain)?;
    Identity::read(&body, &chain, &key).map_err(|error| Error::invalid(error.to_string()))?;
    let (account, now) = (call.account().clone(), call.now);
    let change = move |tx: &mut Tx<'_>| {
        let private_key = PrivateKey::new(key);
        let made = match &asked.certificate_arn {
            Some(arn) => again(tx.state(), &account, arn, asked.tags.as_ref())?,
            None => fresh(tx.state(), &account, now)?,
        };
        let arn = made.arn.clone();
        tx.put(Certificate { body, chain, private_key, imported_at: now, ..made });
        let resource = parsed(&arn)?;
        tags::add(tx, &resource, asked.tags.unwrap_or_default()).map_err(super::tag::error)?;
        Ok::<_, Error>(arn)
    };
    let arn = call.api.store.update(change).await?.value;
    Ok(json!({ "CertificateArn": arn }))
}

fn text(what: &str, blob: &str) -> Result<String, Error> {
    let bytes = STANDARD.decode(blob).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid(format!("The {what} is not base64 of PEM")))
}

fn again(
    state: &State,
    account: &Account,
    arn: &str,
    tags: Option<&Vec<Tag>>,
) -> Result<Certificate, Error> {
    if tags.is_some_and(|tags| !tags.is_empty()) {
        let message = "Tagging is not permitted on re-import.";
        return Err(Error::new("InvalidParameterException", message));
    }
    let row = find(state, account, arn)?;
    own(&row)?;
    Ok(Certificate::clone(&row))
}

fn fresh(state: &State, account: &Account, now: Timestamp) -> Result<Certificate, Error> {
    let acm = state.certificates.values().filter(|row| row.store == CertificateStore::Acm);
    let acm = acm.filter(|row| account.sees(&row.arn));
    if acm.count() >= MOST {
        let message = format!("You have reached your limit of {MOST} imported certificates.");
        return Err(Error::new("LimitExceededException", message));
    }
    let id = uuid(&mut fastrand::Rng::new());
    Ok(Certificate {
        arn: CertificateArn::new(account.certificate(&id).to_string()),
        store: CertificateStore::Acm,
        body: String::new(),
        chain: String::new(),
        private_key: PrivateKey::new(String::new()),
        owner: Owner::Api,
        created_at: now,
        imported_at: now,
    })
}

pub(super) fn parsed(arn: &CertificateArn) -> Result<Arn, Error> {
    arn.as_str().parse::<Arn>().map_err(|error| Error::invalid(error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    certificate_arn: String,
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let state = call.state();
    let row = find(&state, call.account(), &asked.certificate_arn)?;
    Ok(json!({"Certificate": detail(&state, call.account(), &row, call.now)?}))
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let row = find(&call.state(), call.account(), &asked.certificate_arn)?;
    let chain = Some(&row.chain).filter(|chain| !chain.is_empty());
    Ok(json!({"Certificate": row.body, "CertificateChain": chain}))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &account, &asked.certificate_arn)?;
        own(&row)?;
        if tx.state().presenting(&row.arn).next().is_some() {
            let message = format!("Certificate {} in account {} is in use.", row.arn, account.id);
            return Err(Error::new("ResourceInUseException", message));
        }
        tags::forget(tx, &parsed(&row.arn)?);
        tx.remove(Key::Certificate(row.arn.clone()));
        Ok::<_, Error>(())
    };
    call.done(change).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    certificate_statuses: Option<Vec<String>>,
    includes: Option<Includes>,
    next_token: Option<String>,
    max_items: Option<usize>,
    sort_by: Option<String>,
    sort_order: Option<String>,
}

#[derive(Deserialize)]
struct Includes {
    #[serde(rename = "keyTypes")]
    key_types: Option<Vec<String>>,
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    if asked.sort_by.is_some() != asked.sort_order.is_some() {
        return Err(Error::invalid("SortBy and SortOrder have to be specified together"));
    }
    let state = call.state();
    let kinds = asked.includes.and_then(|includes| includes.key_types);
    let kinds = kinds.unwrap_or_else(|| LISTED.map(str::to_owned).to_vec());
    let mut rows = Vec::new();
    for row in state.certificates.values().filter(|row| row.store == CertificateStore::Acm) {
        let identity = shown::read(row)?;
        let status = shown::status(&identity.facts, call.now);
        let wanted = asked.certificate_statuses.as_ref();
        if wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted == status))
            && kinds.contains(&algorithm(identity.facts.key))
        {
            rows.push((row, identity));
        }
    }
    let descends = asked.sort_order.as_deref() == Some("DESCENDING");
    let key = |row: &Certificate| {
        let time = if descends { u64::MAX - row.created_at.0 } else { row.created_at.0 };
        format!("{time:020} {}", row.arn)
    };
    rows.sort_by_key(|(row, _)| key(row));
    let size = asked.max_items.unwrap_or(PAGE);
    let bad = |_| Error::new("InvalidArgsException", "The next token is not valid");
    let paged = page(rows, |(row, _)| key(row), asked.next_token.as_deref(), size);
    let (rows, next) = paged.map_err(bad)?;
    let shown: Vec<Value> =
        rows.into_iter().map(|(row, identity)| summary(&state, row, &identity, call.now)).collect();
    Ok(json!({"CertificateSummaryList": shown, "NextToken": next}))
}
