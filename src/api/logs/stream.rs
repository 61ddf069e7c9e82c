//! Log streams: one per container.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{blocking, group, limit, missing, named, on_disk, there};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::model::Account;
use crate::runtime::streams::reading::{self, Found, Pages};

/// Streams of one page (CloudWatch's).
const PAGE: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    log_group_name: String,
    log_stream_name: String,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    let group = named(call.account(), Some(&asked.log_group_name), None)?;
    group::check(call, &group).await?;
    let (root, group) = (call.api.log_folder.clone(), on_disk(&group));
    let make = move || reading::create(&root, &group, &asked.log_stream_name);
    if blocking(make).await? { Ok(json!({})) } else { Err(there("log stream")) }
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Named = input.read()?;
    let group = named(call.account(), Some(&asked.log_group_name), None)?;
    group::check(call, &group).await?;
    let (root, group) = (call.api.log_folder.clone(), on_disk(&group));
    let remove = move || reading::remove(&root, &group, &asked.log_stream_name);
    if blocking(remove).await? { Ok(json!({})) } else { Err(missing("log stream")) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (name, arn) = (asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref());
    let group = named(call.account(), name, arn)?;
    let most = limit("limit", asked.limit, PAGE)?;
    let by_time = asked.order_by.as_deref() == Some("LastEventTime");
    if by_time && asked.log_stream_name_prefix.is_some() {
        return Err(Error::invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    group::check(call, &group).await?;
    let (root, account, descending) =
        (call.api.log_folder.clone(), call.account().clone(), asked.descending == Some(true));
    let (prefix, token) = (asked.log_stream_name_prefix.unwrap_or_default(), asked.next_token);
    let read = move || {
        let folder = on_disk(&group);
        let mut streams = reading::streams(&root, &folder)?;
        streams.retain(|stream| stream.name.starts_with(&prefix));
        let (page, next) = page(streams, by_time, descending, token.as_deref(), most);
        let mut shown = Vec::with_capacity(page.len());
        for stream in page {
            let times = Pages::open(&root, &folder, &stream.name)?.times()?;
            shown.push(self::shown(&account, group.as_str(), &stream, times));
        }
        Ok((shown, next))
    };
    let (streams, next) = blocking(read).await?;
    Ok(json!({ "logStreams": streams, "nextToken": next }))
}

/// A token is the last key that was given.
fn page(
    mut streams: Vec<Found>,
    by_time: bool,
    descending: bool,
    token: Option<&str>,
    most: usize,
) -> (Vec<Found>, Option<String>) {
    let key = |stream: &Found| {
        let time = if by_time { format!("{:020} ", stream.modified) } else { String::new() };
        format!("{time}{}", stream.name)
    };
    streams.sort_by_key(key);
    if descending {
        streams.reverse();
    }
    let is_behind = |stream: &Found| match token {
        None => true,
        Some(token) if descending => key(stream).as_str() < token,
        Some(token) => key(stream).as_str() > token,
    };
    let mut rest = streams.into_iter().filter(is_behind);
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let next = rest.next().and_then(|_| page.last().map(key));
    (page, next)
}

fn shown(account: &Account, group: &str, stream: &Found, times: Option<(u64, u64)>) -> Value {
    let arn = account.arn("logs", format!("log-group:{group}:log-stream:{}", stream.name));
    json!({
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "firstEventTimestamp": times.map(|(first, _)| first),
        "lastEventTimestamp": times.map(|(_, last)| last),
        "lastIngestionTime": times.map(|_| stream.modified),
        "arn": arn.to_string(),
        // CloudWatch tells none any more either.
        "storedBytes": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_either_way_by_name_or_by_time() {
        let check =
            |by_time: bool, descending: bool, expected: &str| {
                let streams = [("a", 3), ("b", 1), ("c", 2), ("d", 2)].map(|(name, modified)| {
                    Found { name: name.to_owned(), created: 0, modified, bytes: 0 }
                });
                for most in 1..6 {
                    let (mut token, mut all) = (None, String::new());
                    loop {
                        let streams = streams.to_vec();
                        let (found, next) =
                            page(streams, by_time, descending, token.as_deref(), most);
                        all.extend(found.into_iter().map(|stream| stream.name));
                        let Some(next) = next else { break };
                        token = Some(next);
                    }
                    assert_eq!(all, expected, "{most}");
                }
            };
        check(false, false, "abcd");
        check(false, true, "dcba");
        check(true, false, "bcda");
        check(true, true, "adcb");
    }
}
