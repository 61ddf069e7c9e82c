//! Trust stores, their revocation lists, and which listeners use them.
//!
//! What AWS fetches from S3 comes from a folder that the configuration names: a bucket is a folder
//! in it, a key a path in that. Not here: verifying (`tls`). **Invariant:** no name leads out of
//! that folder, and what is kept can be trusted: it was read before.

use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, PAGE, change, marker, new_id, own};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::model::{Account, Listener, Owner, TrustRevocations, TrustStore, TrustStoreName};
use crate::state::{Key, State, Tx};
use crate::tls::{BadTrust, Bundle, Revocations};

/// Trust stores of an account (ELB's quota).
const MOST: usize = 20;
/// Revocation lists of a trust store (ELB's quota) …
const MOST_LISTS: usize = 30;
/// … and all their entries.
const MOST_ENTRIES: usize = 500_000;
/// Of a bundle or a list, in bytes (ours: it is kept in the journal).
const LARGEST: u64 = 4 * 1024 * 1024;

fn of_bundle(bad: BadTrust) -> Error {
    Error::new("InvalidCaCertificatesBundle", bad.to_string())
}

pub(super) fn find(state: &State, account: &Account, arn: &str) -> Result<TrustStore, Error> {
    let named = arn.rsplit('/').nth(1).map(|name| TrustStoreName::within(account.place(), name));
    let row = named.and_then(|name| state.trust_stores.get(&name));
    let row = row.filter(|row| account.trust_store(row).to_string() == arn);
    row.map(|row| TrustStore::clone(row))
        .ok_or_else(|| Error::new("TrustStoreNotFound", format!("Trust store '{arn}' not found")))
}

/// What a bucket and a key name.
///
/// # Errors
/// `code`, when there is no such file or it may not be read.
async fn fetch(
    call: &Call,
    (bucket, key): (&str, &str),
    code: &'static str,
) -> Result<String, Error> {
    let Some(folder) = &call.api.trust_folder else {
        let text = "elb.trust_store_folder is not set: it is the folder that stands for S3 here";
        return Err(Error::new(code, text));
    };
    let missing = || Error::new(code, format!("there is no object '{key}' in bucket '{bucket}'"));
    let is_plain = |text: &str| {
        let mut parts = Path::new(text).components();
        !text.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    if !is_plain(bucket) || !is_plain(key) {
        return Err(missing());
    }
    let read = async |folder: PathBuf, path: PathBuf| {
        // Where links lead counts.
        let folder = tokio::fs::canonicalize(folder).await.ok()?;
        let path = tokio::fs::canonicalize(path).await.ok()?;
        let meta = tokio::fs::metadata(&path).await.ok()?;
        let fits = path.starts_with(&folder) && meta.is_file() && meta.len() <= LARGEST;
        if fits { tokio::fs::read_to_string(path).await.ok() } else { None }
    };
    read(folder.clone(), folder.join(bucket).join(key)).await.ok_or_else(missing)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    #[serde(rename = "CaCertificatesBundleS3Bucket")]
    bucket: String,
    #[serde(rename = "CaCertificatesBundleS3Key")]
    key: String,
    tags: Option<Vec<Tag>>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    find::tag_map(asked.tags.as_ref())?;
    let missing = "CaCertificatesBundleNotFound";
    let bundle = fetch(call, (&asked.bucket, &asked.key), missing).await?;
    Bundle::read(&bundle).map_err(of_bundle)?;
    let account = call.account().clone();
    let made = change(call, move |tx| {
        let name = TrustStoreName::within(account.place(), &asked.name);
        if tx.state().trust_stores.contains_key(&name) {
            let text = format!("A trust store with the name '{name}' already exists");
            return Err(Error::new("DuplicateTrustStoreName", text));
        }
        let theirs = tx.state().trust_stores.keys().filter(|own| own.region() == name.region());
        if theirs.count() >= MOST {
            let text = format!("The maximum number of trust stores is '{MOST}'");
            return Err(Error::new("TooManyTrustStores", text));
        }
        let (id, revocations) = (new_id(), Vec::new());
        let row = TrustStore { name, id, bundle, revocations, owner: Owner::Api };
        find::put_tags(tx, &account.trust_store(&row), asked.tags)?;
        tx.put(row.clone());
        Ok(row)
    });
    Ok(json!({ "TrustStores": [shown(call.account(), &made.await?)] }))
}

fn shown(account: &Account, row: &TrustStore) -> Value {
    json!({
        "Name": row.name.as_str(),
        "TrustStoreArn": account.trust_store(row).to_string(),
        "Status": "ACTIVE",
        "NumberOfCaCertificates": Bundle::read(&row.bundle).map_or(0, |bundle| bundle.count()),
        "TotalRevokedEntries": row.revocations.iter().map(|list| list.entries).sum::<usize>(),
    })
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arns: Option<Vec<String>>,
        names: Option<Vec<String>>,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, account) = (call.state(), call.account());
    let named = |name: &String| {
        let row = state.trust_stores.get(&TrustStoreName::within(call.place(), name));
        let row = row.map(|row| TrustStore::clone(row));
        let text = || format!("Trust store '{name}' not found");
        row.ok_or_else(|| Error::new("TrustStoreNotFound", text()))
    };
    let rows: Vec<TrustStore> = match (&asked.trust_store_arns, &asked.names) {
        (Some(_), Some(_)) => {
            let text = "Trust store ARNs and names cannot be specified at the same time";
            return Err(Error::invalid(text));
        }
        (Some(arns), None) => {
            arns.iter().map(|arn| find(&state, account, arn)).collect::<Result<_, _>>()?
        }
        (None, Some(names)) => names.iter().map(named).collect::<Result<_, _>>()?,
        (None, None) => state.trust_stores.values().map(|row| TrustStore::clone(row)).collect(),
    };
    let size = asked.page_size.unwrap_or(PAGE);
    let paged = page(rows, |row| row.name.to_string(), asked.marker.as_deref(), size);
    let (rows, next) = paged.map_err(marker)?;
    let shown: Vec<_> = rows.iter().map(|row| shown(account, row)).collect();
    Ok(json!({ "TrustStores": shown, "NextMarker": next }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    trust_store_arn: String,
}

/// AWS gives a presigned URL that lives ten minutes; this one holds the content itself.
fn location(content: &str) -> Value {
    let content = base64::engine::general_purpose::STANDARD.encode(content);
    json!({ "Location": format!("data:application/x-pem-file;base64,{content}") })
}

pub(super) fn bundle(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let row = find(&call.state(), call.account(), &asked.trust_store_arn)?;
    Ok(location(&row.bundle))
}

pub(super) fn associations(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, account) = (call.state(), call.account());
    let row = find(&state, account, &asked.trust_store_arn)?;
    let arn = |listener: &Listener| {
        let lb = state.load_balancers.get(&listener.key.load_balancer)?;
        Some(account.listener(lb, &listener.key, &listener.id).to_string())
    };
    let mut arns: Vec<String> = state.trusting(&row.name).filter_map(|row| arn(row)).collect();
    arns.sort();
    let size = asked.page_size.unwrap_or(PAGE);
    let (arns, next) = page(arns, Clone::clone, asked.marker.as_deref(), size).map_err(marker)?;
    let shown: Vec<_> = arns.iter().map(|arn| json!({ "ResourceArn": arn })).collect();
    Ok(json!({ "TrustStoreAssociations": shown, "NextMarker": next }))
}

/// Changes one that the API owns.
async fn changed(
    call: &Call,
    arn: String,
    alter: impl FnOnce(&mut TrustStore) -> Result<(), Error> + Send + 'static,
) -> Result<TrustStore, Error> {
    let account = call.account().clone();
    change(call, move |tx: &mut Tx<'_>| {
        let mut row = find(tx.state(), &account, &arn)?;
        own(row.owner, "trust store", &row.name)?;
        alter(&mut row)?;
        tx.put(row.clone());
        Ok(row)
    })
    .await
}

pub(super) async fn modify(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        #[serde(rename = "CaCertificatesBundleS3Bucket")]
        bucket: String,
        #[serde(rename = "CaCertificatesBundleS3Key")]
        key: String,
    }
    let asked: Asked = input.read()?;
    find(&call.state(), call.account(), &asked.trust_store_arn)?;
    let missing = "CaCertificatesBundleNotFound";
    let bundle = fetch(call, (&asked.bucket, &asked.key), missing).await?;
    Bundle::read(&bundle).map_err(of_bundle)?;
    let put = move |row: &mut TrustStore| {
        row.bundle = bundle;
        Ok(())
    };
    let row = changed(call, asked.trust_store_arn, put).await?;
    Ok(json!({ "TrustStores": [shown(call.account(), &row)] }))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let account = call.account().clone();
    change(call, move |tx| {
        let row = find(tx.state(), &account, &asked.trust_store_arn)?;
        own(row.owner, "trust store", &row.name)?;
        if tx.state().trusting(&row.name).next().is_some() {
            let text = format!("Trust store '{}' is in use by a listener", asked.trust_store_arn);
            return Err(Error::new("TrustStoreInUse", text));
        }
        tags::forget(tx, &account.trust_store(&row));
        tx.remove(Key::TrustStore(row.name));
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "S3Bucket")]
    bucket: Option<String>,
    #[serde(rename = "S3Key")]
    key: Option<String>,
    /// The only kind there is.
    #[serde(rename = "RevocationType")]
    _kind: Option<String>,
}

pub(super) async fn add_revocations(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        #[serde(default)]
        revocation_contents: Vec<Content>,
    }
    let asked: Asked = input.read()?;
    find(&call.state(), call.account(), &asked.trust_store_arn)?;
    let mut lists = Vec::new();
    for content in &asked.revocation_contents {
        let object = (
            content.bucket.as_deref().unwrap_or_default(),
            content.key.as_deref().unwrap_or_default(),
        );
        let text = fetch(call, object, "RevocationContentNotFound").await?;
        let read = Revocations::read(&text);
        let read = read.map_err(|bad| Error::new("InvalidRevocationContent", bad.to_string()))?;
        lists.push((text, read.entries));
    }
    let put = move |row: &mut TrustStore| {
        let first = row.revocations.iter().map(|list| list.id).max().unwrap_or_default() + 1;
        let lists = (first..).zip(lists);
        let lists = lists.map(|(id, (content, entries))| TrustRevocations { id, content, entries });
        row.revocations.extend(lists);
        let entries: usize = row.revocations.iter().map(|list| list.entries).sum();
        if row.revocations.len() > MOST_LISTS || entries > MOST_ENTRIES {
            let text = format!(
                "A trust store has at most {MOST_LISTS} revocation lists with {MOST_ENTRIES} entries"
            );
            return Err(Error::new("TooManyTrustStoreRevocationEntries", text));
        }
        Ok(())
    };
    let count = asked.revocation_contents.len();
    let row = changed(call, asked.trust_store_arn, put).await?;
    let added = row.revocations.iter().skip(row.revocations.len() - count);
    let shown: Vec<_> = added.map(|list| listed(call.account(), &row, list)).collect();
    Ok(json!({ "TrustStoreRevocations": shown }))
}

fn listed(account: &Account, row: &TrustStore, list: &TrustRevocations) -> Value {
    json!({
        "TrustStoreArn": account.trust_store(row).to_string(),
        "RevocationId": list.id,
        "RevocationType": "CRL",
        "NumberOfRevokedEntries": list.entries,
    })
}

/// The list of that number.
fn list(row: &TrustStore, id: u64) -> Result<&TrustRevocations, Error> {
    let found = row.revocations.iter().find(|list| list.id == id);
    let missing = || format!("Revocation '{id}' not found");
    found.ok_or_else(|| Error::new("RevocationIdNotFound", missing()))
}

pub(super) fn describe_revocations(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        #[serde(default)]
        revocation_ids: Vec<u64>,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let row = find(&call.state(), call.account(), &asked.trust_store_arn)?;
    let lists: Vec<_> = match asked.revocation_ids.as_slice() {
        [] => row.revocations.iter().collect(),
        ids => ids.iter().map(|id| list(&row, *id)).collect::<Result<_, _>>()?,
    };
    let size = asked.page_size.unwrap_or(PAGE);
    let paged = page(lists, |list| format!("{:020}", list.id), asked.marker.as_deref(), size);
    let (lists, next) = paged.map_err(marker)?;
    let shown: Vec<_> = lists.iter().map(|list| listed(call.account(), &row, list)).collect();
    Ok(json!({ "TrustStoreRevocations": shown, "NextMarker": next }))
}

pub(super) fn revocation_content(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        revocation_id: u64,
    }
    let asked: Asked = input.read()?;
    let row = find(&call.state(), call.account(), &asked.trust_store_arn)?;
    Ok(location(&list(&row, asked.revocation_id)?.content))
}

pub(super) async fn remove_revocations(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        trust_store_arn: String,
        revocation_ids: Vec<u64>,
    }
    let asked: Asked = input.read()?;
    let drop = move |row: &mut TrustStore| {
        for id in &asked.revocation_ids {
            list(row, *id)?;
        }
        row.revocations.retain(|list| !asked.revocation_ids.contains(&list.id));
        Ok(())
    };
    changed(call, asked.trust_store_arn, drop).await?;
    Ok(json!({}))
}
