//! Attributes of container instances: put, deleted, listed.
//!
//! **Invariant:** what the file or the instance itself says is never changed here; an attribute
//! that is put hides the file's of the same name in its cluster until it is deleted.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{instance, names};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::model::{ClusterName, Contact, ContainerInstance, InstanceName};

/// ECS: attributes of one call, and put on one instance.
const MOST: usize = 10;
/// ECS: characters of a name, and of a value.
const LENGTH: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute {
    name: String,
    value: Option<String>,
    target_type: Option<String>,
    target_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Change {
    cluster: Option<String>,
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListAttributes {
    cluster: Option<String>,
    target_type: String,
    attribute_name: Option<String>,
    attribute_value: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// What is to become of an attribute of an instance.
type Wanted = (InstanceName, String, Option<String>);

pub(super) async fn put(call: &Call, input: Input) -> Outcome {
    change(call, input, true).await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    change(call, input, false).await
}

async fn change(call: &Call, input: Input, puts: bool) -> Outcome {
    let asked: Change = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.attributes.is_empty() || asked.attributes.len() > MOST {
        return Err(Error::invalid("1 to 10 attributes can be given"));
    }
    let (mut wanted, mut shown) = (Vec::new(), Vec::new());
    for attribute in asked.attributes {
        let name = target(call, &cluster, &attribute)?;
        check(&attribute)?;
        let arn = call.account().container_instance(&cluster, &name).to_string();
        let mut one = json!({ "name": attribute.name, "targetId": arn });
        if let Some(value) = &attribute.value {
            one["value"] = value.as_str().into();
        }
        shown.push(one);
        wanted.push((name, attribute.name, puts.then(|| attribute.value.unwrap_or_default())));
    }
    let written = call.api.store.update(move |tx| {
        for (instance, name, value) in wanted {
            write(tx, &cluster, (instance, name, value))?;
        }
        Ok::<_, Error>(())
    });
    written.await?;
    Ok(json!({ "attributes": shown }))
}

fn write(
    tx: &mut crate::state::Tx<'_>,
    cluster: &ClusterName,
    (instance, name, value): Wanted,
) -> Result<(), Error> {
    let Some(row) = tx.state().instances.get(&instance) else { return Err(missing()) };
    let mut row = ContainerInstance::clone(row);
    let own = &mut row.memberships.entry(cluster.clone()).or_default().attributes;
    let before = own.clone();
    match value {
        Some(value) => drop(own.insert(name, value)),
        None => drop(own.remove(&name)),
    }
    if own.len() > MOST {
        let message = "A container instance can have at most 10 custom attributes.";
        return Err(Error::new("AttributeLimitExceededException", message));
    }
    if *own != before {
        row.version += 1;
        tx.put(row);
    }
    Ok(())
}

fn missing() -> Error {
    let message = "The specified target was not found.";
    Error::new("TargetNotFoundException", message)
}

/// The instance that is meant, by its id or its ARN.
fn target(
    call: &Call,
    cluster: &ClusterName,
    attribute: &Attribute,
) -> Result<InstanceName, Error> {
    let text = attribute.target_id.as_deref().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::invalid("targetId cannot be empty."))?;
    if attribute.target_type.is_none() && !text.starts_with("arn:") {
        return Err(Error::invalid("targetType is required where targetId is no ARN."));
    }
    let (state, id) = (call.state(), names::instance(call, cluster, text)?);
    instance::named(&state, cluster, id).map(|row| row.name.clone()).ok_or_else(missing)
}

fn check(attribute: &Attribute) -> Result<(), Error> {
    let name = &attribute.name;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./\\".contains(c);
    if !(1..=LENGTH).contains(&name.len()) || !name.chars().all(allowed) {
        let message = "An attribute's name has 1 to 128 letters, digits and -_./\\ characters.";
        return Err(Error::invalid(message));
    }
    if name.starts_with("ecs.") {
        return Err(Error::invalid(format!("The attribute {name} is built in.")));
    }
    let value = attribute.value.as_deref().unwrap_or_default();
    if value.len() > LENGTH || value.trim() != value {
        let message = "An attribute's value has at most 128 characters and no space at its ends.";
        return Err(Error::invalid(message));
    }
    Ok(())
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: ListAttributes = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if asked.target_type != "container-instance" {
        return Err(Error::invalid("targetType must be container-instance"));
    }
    let state = call.state();
    let is = |value: &str, wanted: &Option<String>| {
        wanted.as_deref().is_none_or(|wanted| value == wanted)
    };
    let mut all: Vec<Value> = Vec::new();
    for row in state.instances.values().filter(|row| row.contact != Contact::Removed) {
        let arn = call.account().container_instance(&cluster, &row.name).to_string();
        for (name, value) in row.all_attributes(&cluster) {
            if is(name, &asked.attribute_name) && is(value, &asked.attribute_value) {
                let mut one = json!({ "name": name, "targetId": arn });
                if !value.is_empty() {
                    one["value"] = value.into();
                }
                all.push(one);
            }
        }
    }
    let key = |one: &Value| format!("{} {}", one["targetId"], one["name"]);
    all.sort_by_key(key);
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, key, token, asked.max_results, 100)?;
    Ok(json!({ "attributes": page, "nextToken": next }))
}
