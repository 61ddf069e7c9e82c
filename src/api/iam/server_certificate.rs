//! Server certificates.
//!
//! **Invariant:** what is kept can be presented, and a new name is the listeners' new name for it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::tag;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::api::wire::time::seconds;
use crate::model::{
    Account, Arn, Certificate, CertificateArn, CertificateStore, Listener, Owner, PrivateKey,
};
use crate::state::{Key, State, Tx};
use crate::tls::{BadCertificate, Identity};

/// Server certificates of an account (IAM's quota).
const MOST: usize = 20;
/// A page of a listing without another size (IAM).
const PAGE: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    path: Option<String>,
    server_certificate_name: String,
    certificate_body: String,
    private_key: String,
    certificate_chain: Option<String>,
    tags: Option<Vec<Tag>>,
}

pub(super) async fn upload(call: &Call, input: Input) -> Outcome {
    let asked: Upload = input.read()?;
    let chain = asked.certificate_chain.unwrap_or_default();
    Identity::read(&asked.certificate_body, &chain, &asked.private_key).map_err(refused)?;
    let (account, now) = (call.account().clone(), call.now);
    let change = move |tx: &mut Tx<'_>| {
        let name = asked.server_certificate_name;
        free(tx.state(), &name)?;
        if all(tx.state()).count() >= MOST {
            let message = format!("Cannot exceed quota for ServerCertificatesPerAccount: {MOST}");
            return Err(Error::new("LimitExceededException", message));
        }
        let path = asked.path.unwrap_or_else(|| "/".to_owned());
        let resource = account.server_certificate(&path, &name);
        let unique = || fastrand::alphanumeric().to_ascii_uppercase();
        let id = format!("ASCA{}", (0..17).map(|_| unique()).collect::<String>());
        let made = Certificate {
            arn: CertificateArn::new(resource.to_string()),
            store: CertificateStore::Iam { name, path, id },
            body: asked.certificate_body,
            chain,
            private_key: PrivateKey::new(asked.private_key),
            owner: Owner::Api,
            created_at: now,
            imported_at: now,
        };
        tags::add(tx, &resource, asked.tags.unwrap_or_default()).map_err(tag::error)?;
        tx.put(made.clone());
        Ok(made)
    };
    let made = call.api.store.update(change).await?.value;
    let resource = arn(&made)?;
    let mut answer = json!({"ServerCertificateMetadata": metadata(&made)?});
    let tags = tag::shown(&call.state(), &resource);
    if !tags.is_empty() {
        answer["Tags"] = json!(tags);
    }
    Ok(answer)
}

fn refused(error: BadCertificate) -> Error {
    let code = match error {
        BadCertificate::Mismatch => "KeyPairMismatchException",
        _ => "MalformedCertificateException",
    };
    Error::new(code, error.to_string())
}

/// IAM's own, with the names they are known by.
fn all(state: &State) -> impl Iterator<Item = (&Arc<Certificate>, &str, &str)> {
    state.certificates.values().filter_map(|row| match &row.store {
        CertificateStore::Iam { name, path, .. } => Some((row, name.as_str(), path.as_str())),
        CertificateStore::Acm => None,
    })
}

/// Its path and name as they are kept.
pub(in crate::api) fn kept<'a>(state: &'a State, name: &str) -> Option<(&'a str, &'a str)> {
    let mut all = all(state);
    let found = all.find(|(_, own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, name, path)| (path, name))
}

/// Names are compared without case.
fn named<'a>(state: &'a State, name: &str) -> Option<&'a Arc<Certificate>> {
    all(state).find(|(_, own, _)| own.eq_ignore_ascii_case(name)).map(|(row, _, _)| row)
}

fn free(state: &State, name: &str) -> Result<(), Error> {
    let message = format!("The Server Certificate with name {name} already exists.");
    named(state, name).map_or(Ok(()), |_| Err(Error::new("EntityAlreadyExistsException", message)))
}

pub(super) fn find(state: &State, name: &str) -> Result<Arc<Certificate>, Error> {
    let message = format!("The Server Certificate with name {name} cannot be found.");
    let found = named(state, name).cloned();
    found.ok_or_else(|| Error::new("NoSuchEntityException", message))
}

pub(super) fn arn(row: &Certificate) -> Result<Arn, Error> {
    row.arn.as_str().parse::<Arn>().map_err(|error| Error::Internal(error.to_string()))
}

fn metadata(row: &Certificate) -> Result<Value, Error> {
    let identity = Identity::read(&row.body, &row.chain, row.private_key.expose());
    let identity = identity.map_err(|error| Error::Internal(error.to_string()))?;
    let CertificateStore::Iam { name, path, id } = &row.store else { return Ok(json!({})) };
    Ok(json!({
        "Path": path,
        "ServerCertificateName": name,
        "ServerCertificateId": id,
        "Arn": row.arn,
        "UploadDate": seconds(row.imported_at),
        "Expiration": seconds(identity.facts.not_after),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    server_certificate_name: String,
}

pub(super) fn get(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let state = call.state();
    let row = find(&state, &asked.server_certificate_name)?;
    let mut certificate = json!({
        "ServerCertificateMetadata": metadata(&row)?,
        "CertificateBody": row.body,
    });
    if !row.chain.is_empty() {
        certificate["CertificateChain"] = json!(row.chain);
    }
    let tags = tag::shown(&state, &arn(&row)?);
    if !tags.is_empty() {
        certificate["Tags"] = json!(tags);
    }
    Ok(json!({ "ServerCertificate": certificate }))
}

pub(super) async fn update(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        server_certificate_name: String,
        new_path: Option<String>,
        new_server_certificate_name: Option<String>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &asked.server_certificate_name)?;
        if let Some(new) = &asked.new_server_certificate_name
            && !new.eq_ignore_ascii_case(&asked.server_certificate_name)
        {
            free(tx.state(), new)?;
        }
        rename(tx, &account, &row, (asked.new_server_certificate_name, asked.new_path))
    };
    call.done(change).await
}

/// Name and path are in the ARN: whoever names it names it anew.
fn rename(
    tx: &mut Tx<'_>,
    account: &Account,
    row: &Certificate,
    (new_name, new_path): (Option<String>, Option<String>),
) -> Result<(), Error> {
    let CertificateStore::Iam { name, path, id } = row.store.clone() else { return Ok(()) };
    let (name, path) = (new_name.unwrap_or(name), new_path.unwrap_or(path));
    let (old, new) = (arn(row)?, account.server_certificate(&path, &name));
    let renamed = CertificateArn::new(new.to_string());
    if renamed == row.arn {
        return Ok(());
    }
    let kept = tags::of(tx.state(), &old).clone();
    tags::forget(tx, &old);
    let kept = kept.into_iter().map(|(key, value)| Tag { key, value }).collect();
    tags::add(tx, &new, kept).map_err(tag::error)?;
    let listeners: Vec<Listener> =
        tx.state().presenting(&row.arn).map(|listener| Listener::clone(listener)).collect();
    for mut listener in listeners {
        if let Some(tls) = &mut listener.options.tls {
            for arn in tls.certificates.iter_mut().filter(|arn| **arn == row.arn) {
                *arn = renamed.clone();
            }
        }
        tx.put(listener);
    }
    tx.remove(Key::Certificate(row.arn.clone()));
    let store = CertificateStore::Iam { name, path, id };
    tx.put(Certificate { arn: renamed, store, ..row.clone() });
    Ok(())
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let change = move |tx: &mut Tx<'_>| {
        let row = find(tx.state(), &asked.server_certificate_name)?;
        if let Some(listener) = tx.state().presenting(&row.arn).next() {
            let message = format!("Certificate {} is in use by {}.", row.arn, listener.key);
            return Err(Error::new("DeleteConflictException", message));
        }
        tags::forget(tx, &arn(&row)?);
        tx.remove(Key::Certificate(row.arn.clone()));
        Ok::<_, Error>(())
    };
    call.done(change).await
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        path_prefix: Option<String>,
        marker: Option<String>,
        max_items: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, prefix) = (call.state(), asked.path_prefix.unwrap_or_default());
    let mut rows: Vec<_> =
        all(&state).filter(|(_, _, path)| path.starts_with(prefix.as_str())).collect();
    let key = |(_, name, _): &(&Arc<Certificate>, &str, &str)| (*name).to_owned();
    rows.sort_by_key(key);
    let size = asked.max_items.unwrap_or(PAGE);
    let bad = |_| Error::invalid("The marker is not valid");
    let (rows, next) = page(rows, key, asked.marker.as_deref(), size).map_err(bad)?;
    let shown = rows.into_iter().map(|(row, _, _)| metadata(row));
    let shown: Vec<Value> = shown.collect::<Result<_, Error>>()?;
    let more = next.is_some();
    let mut answer = json!({"ServerCertificateMetadataList": shown, "IsTruncated": more});
    if let Some(next) = next {
        answer["Marker"] = json!(next);
    }
    Ok(answer)
}
