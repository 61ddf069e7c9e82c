//! Tags, the same for every service: limits, adding, removing, reading.
//!
//! Each service has error codes of its own for what [`TagError`] tells. **Invariant:** a resource
//! that goes takes its tags with it: whoever removes its row calls [`forget`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, Input, Outcome};
use super::error::Error;
use crate::model::{Account, Arn, ResourceArn, Tags};
use crate::state::{Key, State, Tx};

/// AWS's limit for the tags of one resource.
pub(crate) const MOST: usize = 50;

/// A tag as requests and answers write it, in either spelling.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Tag {
    #[serde(alias = "Key")]
    pub(crate) key: String,
    #[serde(alias = "Value", default)]
    pub(crate) value: String,
}

/// What is wrong with tags.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TagError {
    #[error("a resource has at most {MOST} tags")]
    TooMany,
    #[error("the tag key {0:?} is given twice")]
    Duplicate(String),
    #[error("the tag key {0:?} begins with aws:, which is reserved")]
    Reserved(String),
    #[error("the tag {0:?} is too long: keys have 1 to 128 characters, values at most 256")]
    Length(String),
}

/// The tags as a map.
///
/// # Errors
/// One is given twice, reserved or too long; there are too many.
pub(crate) fn map(tags: Vec<Tag>) -> Result<BTreeMap<String, String>, TagError> {
    let mut map = BTreeMap::new();
    for Tag { key, value } in tags {
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(TagError::Reserved(key));
        }
        let length = key.chars().count();
        if !(1..=128).contains(&length) || value.chars().count() > 256 {
            return Err(TagError::Length(key));
        }
        if map.insert(key.clone(), value).is_some() {
            return Err(TagError::Duplicate(key));
        }
    }
    if map.len() > MOST { Err(TagError::TooMany) } else { Ok(map) }
}

/// Adds tags to a resource; those of the same key are replaced.
///
/// # Errors
/// What [`map`] says, of the new ones or of all together.
pub(crate) fn add(tx: &mut Tx<'_>, resource: &Arn, tags: Vec<Tag>) -> Result<(), TagError> {
    let mut all = of(tx.state(), resource).clone();
    all.extend(map(tags)?);
    if all.len() > MOST {
        return Err(TagError::TooMany);
    }
    write(tx, resource, all);
    Ok(())
}

/// Takes tags away; a key that is not there is no error.
pub(crate) fn remove(tx: &mut Tx<'_>, resource: &Arn, keys: &[String]) {
    let mut all = of(tx.state(), resource).clone();
    keys.iter().for_each(|key| drop(all.remove(key)));
    write(tx, resource, all);
}

/// A resource that is gone has no tags.
pub(crate) fn forget(tx: &mut Tx<'_>, resource: &Arn) {
    write(tx, resource, BTreeMap::new());
}

/// How a service finds what an ARN names.
pub(crate) type Find = fn(&State, &Account, &str) -> Result<Arn, Error>;

/// What a `TagResource` asks for, whichever spelling its service has.
#[derive(Deserialize)]
pub(crate) struct Tagging<T = Vec<Tag>> {
    #[serde(alias = "ResourceARN", alias = "resourceArn")]
    pub(crate) resource: String,
    #[serde(alias = "Tags")]
    tags: T,
}

/// What an `UntagResource` asks for.
#[derive(Deserialize)]
pub(crate) struct Untagging {
    #[serde(alias = "ResourceARN", alias = "resourceArn")]
    pub(crate) resource: String,
    #[serde(alias = "TagKeys", alias = "tagKeys")]
    keys: Vec<String>,
}

impl From<Tagging<BTreeMap<String, String>>> for Tagging {
    fn from(map: Tagging<BTreeMap<String, String>>) -> Self {
        Self { resource: map.resource, tags: list_of(map.tags) }
    }
}

/// Adds tags to what `asked` names; `bad` has the service's codes.
///
/// # Errors
/// There is no such resource; what [`add`] says.
pub(crate) async fn tag(
    call: &Call,
    asked: Tagging,
    (find, bad): (Find, fn(&TagError) -> Error),
) -> Outcome {
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let arn = find(tx.state(), &account, &asked.resource)?;
        add(tx, &arn, asked.tags).map_err(|error| bad(&error))
    };
    call.done(change).await
}

/// Takes tags from what `asked` names.
///
/// # Errors
/// There is no such resource.
pub(crate) async fn untag(call: &Call, asked: Untagging, find: Find) -> Outcome {
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let arn = find(tx.state(), &account, &asked.resource)?;
        remove(tx, &arn, &asked.keys);
        Ok::<_, Error>(())
    };
    call.done(change).await
}

/// The tags of what the call names by `ResourceARN`.
///
/// # Errors
/// There is no such resource.
pub(crate) fn listed(
    call: &Call,
    input: Input,
    find: Find,
) -> Result<BTreeMap<String, String>, Error> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(alias = "ResourceARN", alias = "resourceArn")]
        resource: String,
    }
    let asked: Asked = input.read()?;
    let state = call.state();
    let arn = find(&state, call.account(), &asked.resource)?;
    Ok(of(&state, &arn).clone())
}

/// Tags as most services show them.
pub(crate) fn shown(tags: &BTreeMap<String, String>) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// Tags that are written as a map.
pub(crate) fn list_of(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key, value }).collect()
}

fn write(tx: &mut Tx<'_>, resource: &Arn, tags: BTreeMap<String, String>) {
    let resource = key(resource);
    if tags.is_empty() {
        tx.remove(Key::Tags(resource));
    } else {
        tx.put(Tags { resource, tags });
    }
}

/// A resource's tags, ascending by key.
pub(crate) fn of<'a>(state: &'a State, resource: &Arn) -> &'a BTreeMap<String, String> {
    static NONE: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);
    state.tags.get(&key(resource)).map_or(&NONE, |row| &row.tags)
}

fn key(resource: &Arn) -> ResourceArn {
    ResourceArn::new(resource.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_to_awss_limits() {
        let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        let check = |tags: Vec<Tag>, expected: Result<usize, &str>| {
            let outcome = map(tags).map(|map| map.len()).map_err(|error| error.to_string());
            assert_eq!(outcome.as_ref().map(|n| *n).map_err(String::as_str), expected);
        };
        check(vec![], Ok(0));
        check(vec![tag("a", "1"), tag("b", "")], Ok(2));
        check(vec![tag("a", "1"), tag("a", "2")], Err("the tag key \"a\" is given twice"));
        let reserved = "the tag key \"AWS:x\" begins with aws:, which is reserved";
        check(vec![tag("AWS:x", "1")], Err(reserved));
        let many = (0..51).map(|n| tag(&n.to_string(), "")).collect();
        check(many, Err("a resource has at most 50 tags"));
        for bad in [tag("", "x"), tag(&"k".repeat(129), ""), tag("k", &"v".repeat(257))] {
            assert!(matches!(map(vec![bad]), Err(TagError::Length(_))));
        }
    }
}
