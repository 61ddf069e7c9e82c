//! The audit log's record of one call: who called what, when, on which resource, with which
//! outcome.
//!
//! **Invariant:** of a call's document only what names a resource is written: no tag, no
//! environment, no secret.

use serde_json::{Map, Value, json};

use super::call::Call;

/// Resources named by one record (ours); a call that names more is cut off.
const NAMED: usize = 20;

/// What a document says of which resources it is about.
pub(super) fn named(document: &Value) -> Map<String, Value> {
    let Value::Object(members) = document else { return Map::new() };
    let names = members.iter().filter(|(member, _)| names_a_resource(member));
    let plain = names.filter_map(|(member, value)| match value {
        Value::String(_) => Some((member.clone(), value.clone())),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Some((member.clone(), Value::Array(items.iter().take(NAMED).cloned().collect())))
        }
        _ => None,
    });
    plain.take(NAMED).collect()
}

/// By the endings and words that the public models use.
fn names_a_resource(member: &str) -> bool {
    const ENDINGS: [&str; 8] = ["Arn", "Arns", "Name", "Names", "Id", "Ids", "ARN", "ARNs"];
    const WORDS: [&str; 11] = [
        "cluster",
        "clusters",
        "service",
        "services",
        "task",
        "tasks",
        "taskDefinition",
        "family",
        "name",
        "Arn",
        "Id",
    ];
    // Tokens of the caller's are no names.
    let token = member.ends_with("RequestId") || member.ends_with("Token");
    !token && (WORDS.contains(&member) || ENDINGS.iter().any(|ending| member.ends_with(ending)))
}

/// One line. `code` is empty when the call did what it was asked.
pub(super) fn record(call: &Call, named: &Map<String, Value>, code: &str, micros: u64) -> Value {
    json!({
        "time": call.now.to_string(),
        "request_id": call.request_id,
        "service": call.service.name.scope(),
        "operation": call.name(),
        "caller": call.caller,
        "user": call.user.as_ref().map(|user| &user.name),
        "client": call.client,
        "resources": named,
        "outcome": if code.is_empty() { "OK" } else { code },
        "micros": micros,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_resources_are_written() {
        let check = |document: Value, expected: Value| {
            assert_eq!(Value::Object(named(&document)), expected);
        };
        check(
            json!({"cluster": "c", "service": "web", "desiredCount": 3, "clientToken": "t"}),
            json!({"cluster": "c", "service": "web"}),
        );
        check(
            json!({"family": "web", "containerDefinitions": [{"secrets": []}], "tags": ["x"]}),
            json!({"family": "web"}),
        );
        check(
            json!({"TargetGroupArn": "a", "Targets": [{"Id": "x"}]}),
            json!({"TargetGroupArn": "a"}),
        );
        check(json!({"LoadBalancerArns": ["a", "b"]}), json!({"LoadBalancerArns": ["a", "b"]}));
        check(json!({"Name": "ns", "CreatorRequestId": "r"}), json!({"Name": "ns"}));
        check(json!([1]), json!({}));
    }
}
