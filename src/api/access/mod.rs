//! What a key may do: IAM's policies, decided for every call before its operation sees it.
//!
//! [`document`] reads a policy, [`decide`] evaluates it, [`touched`] says which resources a call
//! is about, [`context`] what is known of it. A key without policies may do everything. Source: IAM
//! user guide. **Invariant:** a call goes on only when every one of its actions is allowed on every
//! resource that it names.

mod condition;
mod context;
mod decide;
mod document;
mod pattern;
mod touched;
mod users;

use serde_json::Value;

use self::context::Context;
use self::decide::{Asked, Decision, decide};
use self::touched::Touched;
use super::call::Call;
use super::error::Error;
use super::services::{Name, Wire};
use super::wire::schema::Kind;
use super::{ecs, tags};
use crate::model::{Arn, Family, TaskDefinitionKey, TaskId};
use crate::state::State;

pub(super) use users::User;
pub use users::Users;

/// What the head of a request says beside its document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    pub(super) wire: Wire,
    pub(super) agent: Option<&'a str>,
}

/// What actions and ARNs of a service begin with.
pub(super) const fn prefix(service: Name) -> &'static str {
    match service {
        Name::CloudWatch => "cloudwatch",
        other => other.scope(),
    }
}

/// Refuses what the caller's policies do not allow.
///
/// # Errors
/// AWS's refusal in the words of the request's wire.
pub(super) fn admit(call: &Call, document: &Value, manner: Manner<'_>) -> Result<(), Error> {
    let Some(user) = &call.user else { return Ok(()) };
    let Some(policies) = &user.policies else { return Ok(()) };
    let service = call.service.name;
    // "No permissions are required to perform this operation": AWS STS API reference.
    if (service, call.name()) == (Name::Sts, "GetCallerIdentity") {
        return Ok(());
    }
    let state = call.state();
    let touched = Touched { service, account: call.account(), state: &state };
    let context = of_call(call, user, document, manner);
    let own = format!("{}:{}", prefix(service), call.name());
    let tagging = tagging(service, call.name(), &requested_tags(document));
    let named = touched.of(call.name(), document);
    let made = Some(touched.made(call.name(), document)).filter(|made| !made.is_empty());
    let tagged = tagging.map(|action| (action, made.unwrap_or_else(|| named.clone())));
    for (action, resources) in [Some((own, named)), tagged].into_iter().flatten() {
        for resource in resources {
            let mut context = context.clone();
            add_resource(&mut context, call, &state, &resource);
            let asked = Asked { action: &action, resource: &resource, context: &context };
            let why = match decide(policies, asked) {
                Decision::Allowed => continue,
                Decision::Denied => "with an explicit deny in an identity-based policy".to_owned(),
                Decision::NotAllowed => {
                    format!("because no identity-based policy allows the {action} action")
                }
            };
            let who = user.arn(call.account());
            let text = format!(
                "User: {who} is not authorized to perform: {action} on resource: {resource} {why}"
            );
            return Err(refusal(service, manner.wire, text));
        }
    }
    Ok(())
}

fn refusal(service: Name, wire: Wire, text: String) -> Error {
    match (wire, service) {
        (Wire::Ec2, _) => Error::new(
            "UnauthorizedOperation",
            format!("You are not authorized to perform this operation. {text}"),
        ),
        // Its clients expect the names of the Query wire on every wire.
        (_, Name::CloudWatch) | (Wire::Query | Wire::RestXml, _) => {
            Error::new("AccessDenied", text)
        }
        (Wire::Json(_) | Wire::Cbor, _) => Error::new("AccessDeniedException", text),
    }
}

/// The action that making something with tags needs as well.
fn tagging(service: Name, operation: &str, tags: &[(String, String)]) -> Option<String> {
    if tags.is_empty() || operation.contains("Tag") {
        return None;
    }
    let action = match service {
        Name::Elb => "AddTags",
        Name::Ec2 => "CreateTags",
        Name::Acm => "AddTagsToCertificate",
        Name::Iam => "TagServerCertificate",
        Name::Route53 => "ChangeTagsForResource",
        _ => "TagResource",
    };
    Some(format!("{}:{action}", prefix(service)))
}

/// Tags that a document gives to something.
fn requested_tags(document: &Value) -> Vec<(String, String)> {
    let pair = |tag: &Value| {
        let text = |one: &str, other: &str| {
            tag.get(one).or_else(|| tag.get(other)).and_then(Value::as_str)
        };
        let key = text("Key", "key")?.to_owned();
        Some((key, text("Value", "value").unwrap_or_default().to_owned()))
    };
    let given = |value: &Value| -> Vec<_> {
        match value {
            Value::Array(items) => items.iter().filter_map(pair).collect(),
            Value::Object(map) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                map.iter().map(|(key, value)| (key.clone(), text(value))).collect()
            }
            _ => Vec::new(),
        }
    };
    let mut all: Vec<_> = ["Tags", "tags", "AddTags"]
        .iter()
        .filter_map(|name| document.get(name))
        .flat_map(given)
        .collect();
    let specified = document.get("TagSpecifications").and_then(Value::as_array);
    for item in specified.into_iter().flatten() {
        all.extend(item.get("Tags").map(given).unwrap_or_default());
    }
    all
}

/// What is known of a call, its resources aside.
fn of_call(call: &Call, user: &User, document: &Value, manner: Manner<'_>) -> Context {
    let (account, now) = (call.account(), call.now);
    let mut context = Context::default();
    let mut add = |key: &str, value: String| context.add(key, value);
    add("aws:CurrentTime", now.to_string());
    add("aws:EpochTime", (now.millis() / 1000).to_string());
    add("aws:PrincipalAccount", account.id.clone());
    add("aws:PrincipalArn", user.arn(account));
    add("aws:PrincipalType", "User".to_owned());
    add("aws:RequestedRegion", account.region.clone());
    add("aws:ResourceAccount", account.id.clone());
    add("aws:SecureTransport", call.is_secure.to_string());
    add("aws:SourceIp", call.client.to_canonical().to_string());
    add("aws:ViaAWSService", false.to_string());
    add("aws:username", user.name.clone());
    add("aws:userid", call.caller.clone().unwrap_or_default());
    if let Some(agent) = manner.agent {
        add("aws:UserAgent", agent.to_owned());
    }
    for (key, value) in requested_tags(document) {
        add("aws:TagKeys", key.clone());
        add(&format!("aws:RequestTag/{key}"), value);
    }
    let keys = ["TagKeys", "tagKeys", "RemoveTagKeys"].iter().filter_map(|name| document.get(name));
    for key in keys.filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        add("aws:TagKeys", key.to_owned());
    }
    if call.service.name == Name::Ecs && takes(call, "cluster") {
        let named = document.get("cluster").and_then(Value::as_str).unwrap_or_default();
        let name = named.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("default");
        add("ecs:cluster", account.cluster(&name.into()).to_string());
    }
    for (member, key) in [
        ("ServiceNamespace", "application-autoscaling:service-namespace"),
        ("ScalableDimension", "application-autoscaling:scalable-dimension"),
    ] {
        let value = document.get(member).and_then(Value::as_str);
        if let (Name::Autoscaling, Some(value)) = (call.service.name, value) {
            add(key, value.to_owned());
        }
    }
    if (call.service.name, call.name()) == (Name::Ecs, "ExecuteCommand")
        && let Some(name) = container(&call.state(), document)
    {
        add("ecs:container-name", name);
    }
    context
}

/// The container that a command is for: a task's only one need not be named.
fn container(state: &State, document: &Value) -> Option<String> {
    let named = document.get("container").and_then(Value::as_str);
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let id = document.get("task")?.as_str()?.rsplit('/').next()?;
    let task = state.tasks.get(&TaskId::from(id))?;
    match task.containers.as_slice() {
        [only] => Some(only.name.to_string()),
        _ => None,
    }
}

/// Whether the operation has such a member.
fn takes(call: &Call, name: &str) -> bool {
    let Some(shape) = call.operation.input else { return false };
    let Kind::Structure(members) = &call.service.model.shape(shape).kind else { return false };
    members.iter().any(|member| member.name == name)
}

/// The tags that a resource has already.
fn add_resource(context: &mut Context, call: &Call, state: &State, resource: &str) {
    let Ok(mut arn) = resource.parse::<Arn>() else { return };
    if arn.service == "route53" {
        // Its rows keep them by an ARN of this region.
        arn = call.account().arn("route53", arn.resource);
    }
    let definition = arn.resource.strip_prefix("task-definition/").filter(|_| arn.service == "ecs");
    let definition = definition.and_then(|key| {
        let TaskDefinitionKey { family, revision } = key.parse().ok()?;
        let family = Family::within(call.place(), family.as_str());
        state.definitions.get(&TaskDefinitionKey { family, revision })
    });
    if let Some((group, _)) = arn.resource.split_once(":log-stream:") {
        // Streams have no tags of their own.
        arn.resource = group.to_owned();
    }
    let task = arn.resource.strip_prefix("task/").filter(|_| arn.service == "ecs");
    let task = task.and_then(|path| path.rsplit('/').next());
    let task = task.and_then(|id| state.tasks.get(&TaskId::from(id)));
    let tags = match (definition, task) {
        (Some(definition), _) => definition.tags.clone(),
        (None, Some(task)) => ecs::tags_of_task(call.account(), state, task),
        (None, None) => tags::of(state, &arn).clone(),
    };
    for (key, value) in &tags {
        context.add(&format!("aws:ResourceTag/{key}"), value);
        context.add(&format!("{}:ResourceTag/{key}", prefix(call.service.name)), value);
    }
}

/// Which operations are decided on which resources, for the README: service, resource, operations.
#[must_use]
pub fn resources() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    touched::rows()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_found_in_every_services_form() {
        let check = |document: Value, expected: &str| {
            let found = requested_tags(&document);
            let shown: Vec<_> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(shown.join(" "), expected, "{document}");
        };
        check(json!({"tags": [{"key": "a", "value": "1"}]}), "a=1");
        check(json!({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "b"}]}), "a=1 b=");
        check(json!({"tags": {"a": "1"}}), "a=1");
        check(json!({"TagSpecifications": [{"Tags": [{"Key": "a", "Value": "1"}]}]}), "a=1");
        check(json!({"AddTags": [{"Key": "a", "Value": "1"}]}), "a=1");
        check(json!({"Name": "a"}), "");
    }

    #[test]
    fn tags_at_birth_are_an_action_of_their_own() {
        let check = |service: Name, operation: &str, expected: Option<&str>| {
            let tags = [("a".to_owned(), String::new())];
            assert_eq!(tagging(service, operation, &tags).as_deref(), expected);
            assert_eq!(tagging(service, operation, &[]), None);
        };
        check(Name::Elb, "CreateTargetGroup", Some("elasticloadbalancing:AddTags"));
        check(Name::Ecs, "CreateCluster", Some("ecs:TagResource"));
        check(Name::CloudWatch, "PutMetricAlarm", Some("cloudwatch:TagResource"));
        check(Name::Ecs, "TagResource", None);
        check(Name::Elb, "RemoveTags", None);
    }
}
