//! Log groups: what was said about them in the State, what is in them on disk.
//!
//! **Invariant:** a group is there when somebody made it or a task writes to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{blocking, group_name, limit, meant, missing, on_disk, there};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, TagError, Tagging, Untagging};
use crate::model::{Account, Arn, LogGroup, LogGroupName};
use crate::runtime::streams::reading::{self, Found};
use crate::state::{Key, State, Tx};

/// Days that a policy may name (CloudWatch's).
const DAYS: [i64; 23] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653, 0,
];
/// Groups of one page (CloudWatch's).
const PAGE: usize = 50;

/// Every group of the region on disk.
async fn all_on_disk(call: &Call) -> Result<BTreeMap<LogGroupName, Found>, Error> {
    let root = call.api.log_folder.clone();
    let found = blocking(move || reading::groups(&root)).await?;
    let named = found.into_iter().map(|found| (LogGroupName::from(found.name.as_str()), found));
    Ok(named.filter(|(name, _)| name.region() == call.place()).collect())
}

fn of(call: &Call, name: &str) -> LogGroupName {
    LogGroupName::within(call.place(), name)
}

/// # Errors
/// There is no such group.
pub(super) async fn check(call: &Call, name: &LogGroupName) -> Result<(), Error> {
    let known =
        call.state().log_groups.contains_key(name) || all_on_disk(call).await?.contains_key(name);
    known.then_some(()).ok_or_else(|| missing("log group"))
}

fn bad_tags(error: &TagError) -> Error {
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", error.to_string()),
        _ => Error::invalid(error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    log_group_name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log_group_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    if asked.log_group_class.is_some_and(|class| class != "STANDARD") {
        return Err(Error::unsupported("logGroupClass: only STANDARD is supported here"));
    }
    if asked.deletion_protection_enabled == Some(true) {
        return Err(Error::unsupported("deletionProtectionEnabled is not supported here"));
    }
    let name = of(call, &asked.log_group_name);
    let on_disk = all_on_disk(call).await?.contains_key(&name);
    let (account, now) = (call.account().clone(), call.now);
    let write = move |tx: &mut Tx<'_>| {
        if on_disk || tx.state().log_groups.contains_key(&name) {
            return Err(there("log group"));
        }
        let arn = account.log_group(name.as_str());
        tags::add(tx, &arn, tags::list_of(asked.tags)).map_err(|error| bad_tags(&error))?;
        tx.put(LogGroup { name, created_at: now, retention: None });
        Ok(())
    };
    call.done(write).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    #[serde(default)]
    log_group_identifiers: Vec<String>,
    log_group_class: Option<String>,
    limit: Option<i64>,
    next_token: Option<String>,
}

impl Describe {
    /// `named` is what the identifiers name.
    fn passes(&self, name: &LogGroupName, named: &[LogGroupName]) -> bool {
        let is_named = self.log_group_identifiers.is_empty() || named.contains(name);
        let name = name.as_str();
        let pattern = self.log_group_name_pattern.as_deref().map(str::to_lowercase);
        self.log_group_name_prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix))
            && pattern.is_none_or(|pattern| name.to_lowercase().contains(&pattern))
            && is_named
            && self.log_group_class.as_deref().is_none_or(|class| class == "STANDARD")
    }
}

pub(super) async fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    if asked.log_group_name_prefix.is_some() && asked.log_group_name_pattern.is_some() {
        return Err(Error::invalid(
            "logGroupNamePrefix and logGroupNamePattern are mutually exclusive parameters",
        ));
    }
    let most = limit("limit", asked.limit, PAGE)?;
    let on_disk = all_on_disk(call).await?;
    let state = call.state();
    let names: BTreeSet<_> = state.log_groups.keys().chain(on_disk.keys()).collect();
    let identifiers = asked.log_group_identifiers.iter();
    let named: Vec<_> = identifiers.filter_map(|text| meant(call.account(), text).ok()).collect();
    let after = asked.next_token.as_deref();
    let behind = |name: &&&LogGroupName| after.is_none_or(|after| name.as_str() > after);
    let mut rest = names.iter().filter(|name| asked.passes(name, &named)).filter(behind);
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let next = rest.next().and_then(|_| page.last()).map(ToString::to_string);
    let shown: Vec<_> =
        page.into_iter().map(|name| shown(call, name, on_disk.get(*name))).collect();
    Ok(json!({ "logGroups": shown, "nextToken": next }))
}

fn shown(call: &Call, name: &LogGroupName, found: Option<&Found>) -> Value {
    let state = call.state();
    let row = state.log_groups.get(name);
    let arn = call.account().log_group(name.as_str()).to_string();
    let made = row.map(|row| row.created_at.millis());
    json!({
        "logGroupName": name.as_str(),
        "creationTime": made.or_else(|| found.map(|found| found.created)),
        "retentionInDays": row.and_then(|row| row.retention),
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "logGroupArn": arn,
        "storedBytes": found.map_or(0, |found| found.bytes),
        "logGroupClass": "STANDARD",
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    log_group_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutRetention {
    log_group_name: String,
    retention_in_days: i64,
}

pub(super) async fn put_retention(call: &Call, input: Input) -> Outcome {
    let asked: PutRetention = input.read()?;
    if asked.retention_in_days == 0 || !DAYS.contains(&asked.retention_in_days) {
        let message =
            format!("retentionInDays {} is no value of CloudWatch's", asked.retention_in_days);
        return Err(Error::invalid(message));
    }
    retain(call, asked.log_group_name, u32::try_from(asked.retention_in_days).ok()).await
}

pub(super) async fn delete_retention(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    retain(call, asked.log_group_name, None).await
}

async fn retain(call: &Call, name: String, retention: Option<u32>) -> Outcome {
    let name = of(call, &name);
    check(call, &name).await?;
    let now = call.now;
    let write = move |tx: &mut Tx<'_>| {
        let created_at = tx.state().log_groups.get(&name).map_or(now, |row| row.created_at);
        tx.put(LogGroup { name, created_at, retention });
        Ok::<_, Error>(())
    };
    call.done(write).await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    let name = of(call, &asked.log_group_name);
    check(call, &name).await?;
    let (root, folder) = (call.api.log_folder.clone(), on_disk(&name));
    blocking(move || reading::remove_group(&root, &folder)).await?;
    let account = call.account().clone();
    let write = move |tx: &mut Tx<'_>| {
        tags::forget(tx, &account.log_group(name.as_str()));
        tx.remove(Key::LogGroup(name));
        Ok::<_, Error>(())
    };
    call.done(write).await
}

pub(super) async fn tag(call: &Call, input: Input) -> Outcome {
    let asked: Tagging<BTreeMap<String, String>> = input.read()?;
    check(call, &meant(call.account(), &asked.resource)?).await?;
    tags::tag(call, asked.into(), (find, bad_tags)).await
}

pub(super) async fn untag(call: &Call, input: Input) -> Outcome {
    let asked: Untagging = input.read()?;
    check(call, &meant(call.account(), &asked.resource)?).await?;
    tags::untag(call, asked, find).await
}

/// What is on disk alone is there as well: whoever asks has looked.
fn find(_: &State, account: &Account, text: &str) -> Result<Arn, Error> {
    Ok(account.log_group(group_name(text)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTags {
    resource_arn: String,
}

pub(super) async fn list_tags(call: &Call, input: Input) -> Outcome {
    let asked: ListTags = input.read()?;
    tags_of(call, &meant(call.account(), &asked.resource_arn)?).await
}

pub(super) async fn list_tags_by_name(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    tags_of(call, &of(call, &asked.log_group_name)).await
}

async fn tags_of(call: &Call, name: &LogGroupName) -> Outcome {
    check(call, name).await?;
    let arn = call.account().log_group(name.as_str());
    Ok(json!({ "tags": tags::of(&call.state(), &arn) }))
}
