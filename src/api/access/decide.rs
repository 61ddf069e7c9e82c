//! Whether policies allow an action on a resource: explicit deny, then allow, then implicit deny.
//!
//! Source: IAM user guide, "Policy evaluation logic". **Invariant:** pure.

use super::context::Context;
use super::document::{Choice, Document, Statement};
use super::pattern::Reading;

/// One action on one resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// `ecs:RunTask`
    pub(super) action: &'a str,
    /// An ARN, or `*` where the action has no resource of its own.
    pub(super) resource: &'a str,
    pub(super) context: &'a Context,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    /// Some statement denies it.
    Denied,
    /// No statement allows it.
    NotAllowed,
}

pub(super) fn decide(policies: &[Document], asked: Asked<'_>) -> Decision {
    let mut decision = Decision::NotAllowed;
    for policy in policies {
        for statement in &policy.statements {
            match applies(statement, policy.variables, asked) {
                false => {}
                true if statement.allows => decision = Decision::Allowed,
                true => return Decision::Denied,
            }
        }
    }
    decision
}

fn applies(statement: &Statement, variables: bool, asked: Asked<'_>) -> bool {
    let action = asked.action.to_ascii_lowercase();
    let plain = Reading { variables: None, wild: true };
    let reading = Reading { variables: variables.then_some(asked.context), wild: true };
    let is_action = |text: &str| plain.pattern(text).is_some_and(|p| p.matches(&action));
    let is_resource =
        |text: &str| reading.pattern(text).is_some_and(|p| p.matches_arn(asked.resource));
    chosen(&statement.actions, is_action)
        && chosen(&statement.resources, is_resource)
        && statement.conditions.iter().all(|one| one.holds(asked.context, variables))
}

fn chosen(choice: &Choice, matches: impl Fn(&str) -> bool) -> bool {
    choice.texts.iter().any(|text| matches(text)) != choice.negated
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "arn:aws:ecs:local:0:service/default/web";

    /// Statements as JSON without their outermost brackets; a request as `ACTION RESOURCE
    /// KEY=VALUE…`.
    fn check(statements: &str, request: &str, expected: Decision) {
        let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
        let policy = Document::read(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let mut words = request.split_whitespace();
        let (action, resource) = (words.next().unwrap(), words.next().unwrap());
        let mut context = Context::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            context.add(key, value);
        }
        let found = decide(&[policy], Asked { action, resource, context: &context });
        assert_eq!(found, expected, "{statements} of {request}");
    }

    const ALL: &str = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    use Decision::{Allowed, Denied, NotAllowed};

    #[test]
    fn a_deny_wins_over_every_allow() {
        let deny = r#"{"Effect": "Deny", "Action": "ecs:Delete*", "Resource": "*"}"#;
        check("", "ecs:RunTask *", NotAllowed);
        check(ALL, "ecs:RunTask *", Allowed);
        check(ALL, &format!("ecs:RunTask {WEB}"), Allowed);
        check(&format!("{ALL}, {deny}"), "ecs:DeleteService *", Denied);
        check(&format!("{deny}, {ALL}"), "ecs:DeleteService *", Denied);
        check(&format!("{deny}, {ALL}"), "ecs:UpdateService *", Allowed);
        check(deny, "ecs:DeleteService *", Denied);
        check(deny, "ecs:UpdateService *", NotAllowed);
    }

    #[test]
    fn actions_are_matched_without_regard_to_case() {
        let of = |key: &str, actions: &str| {
            format!(r#"{{"Effect": "Allow", "{key}": {actions}, "Resource": "*"}}"#)
        };
        check(&of("Action", r#""ecs:describe*""#), "ecs:DescribeServices *", Allowed);
        check(&of("Action", r#""ECS:Run?ask""#), "ecs:RunTask *", Allowed);
        check(&of("Action", r#"["ecs:RunTask", "ecs:StopTask"]"#), "ecs:StopTask *", Allowed);
        check(&of("Action", r#""ecs:*""#), "elasticloadbalancing:AddTags *", NotAllowed);
        check(&of("NotAction", r#""ecs:*""#), "elasticloadbalancing:AddTags *", Allowed);
        check(&of("NotAction", r#""ecs:*""#), "ecs:RunTask *", NotAllowed);
    }

    #[test]
    fn resources_are_matched_part_by_part() {
        let of = |key: &str, resources: &str| {
            format!(r#"{{"Effect": "Allow", "Action": "*", "{key}": {resources}}}"#)
        };
        let web = format!("ecs:UpdateService {WEB}");
        check(&of("Resource", r#""arn:aws:ecs:*:*:service/default/*""#), &web, Allowed);
        check(&of("Resource", r#""arn:aws:ecs:*:*:service/Default/*""#), &web, NotAllowed);
        check(&of("Resource", r#"["arn:aws:ecs:*:*:cluster/*", "*"]"#), &web, Allowed);
        check(&of("NotResource", r#""arn:aws:ecs:*:*:service/default/*""#), &web, NotAllowed);
        check(&of("NotResource", r#""arn:aws:ecs:*:*:cluster/*""#), &web, Allowed);
        // What has no resource of its own is done on *.
        check(&of("Resource", r#""arn:aws:ecs:*:*:cluster/*""#), "ecs:ListClusters *", NotAllowed);
        check(&of("Resource", r#""arn:*""#), "ecs:ListClusters *", NotAllowed);
        let own = r#""arn:aws:ecs:*:*:service/${aws:username}/*""#;
        check(&of("Resource", own), &format!("{web} aws:username=default"), Allowed);
        check(&of("Resource", own), &format!("{web} aws:username=*"), NotAllowed);
        check(&of("Resource", own), &web, NotAllowed);
    }

    #[test]
    fn every_condition_has_to_hold() {
        let of = |effect: &str, condition: &str| {
            format!(
                r#"{{"Effect": "{effect}", "Action": "*", "Resource": "*",
                    "Condition": {condition}}}"#
            )
        };
        let both = r#"{"StringEquals": {"aws:RequestTag/team": "a"},
            "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}"#;
        check(&of("Allow", both), "ecs:A * aws:RequestTag/team=a aws:SourceIp=10.1.1.1", Allowed);
        check(
            &of("Allow", both),
            "ecs:A * aws:RequestTag/team=b aws:SourceIp=10.1.1.1",
            NotAllowed,
        );
        check(&of("Allow", both), "ecs:A * aws:RequestTag/team=a", NotAllowed);
        let plain = of("Deny", r#"{"Bool": {"aws:SecureTransport": false}}"#);
        check(&format!("{ALL}, {plain}"), "ecs:A * aws:SecureTransport=false", Denied);
        check(&format!("{ALL}, {plain}"), "ecs:A * aws:SecureTransport=true", Allowed);
        check(&format!("{ALL}, {plain}"), "ecs:A *", Allowed);
    }

    #[test]
    fn variables_belong_to_the_newer_version() {
        let text = r#"{"Statement": {"Effect": "Allow", "Action": "*",
            "Resource": "arn:aws:ecs:*:*:cluster/${aws:username}"}}"#;
        let (mut context, policy) = (Context::default(), Document::read(text).unwrap());
        context.add("aws:username", "ann");
        let ask = |resource| {
            let asked = Asked { action: "ecs:A", resource, context: &context };
            decide(std::slice::from_ref(&policy), asked)
        };
        assert_eq!(ask("arn:aws:ecs:local:0:cluster/ann"), NotAllowed);
        assert_eq!(ask("arn:aws:ecs:local:0:cluster/${aws:username}"), Allowed);
    }
}
