//! Actions of listeners and rules: forward, redirect and fixed-response.
//!
//! Not here: the actions that authenticate: they are refused. **Invariant:** an
//! action that is shown reads back as the same action.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::find;
use super::limits::{CONTENT_TYPES, LARGEST_BODY, MOST_GROUPS, MOST_WEIGHT, STICKY_SECONDS};
use crate::api::error::Error;
use crate::model::{
    Account, Action, FixedResponse, GroupStickiness, Protocol, Redirect, TargetGroupName,
    WeightedGroup,
};
use crate::state::State;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    #[serde(rename = "Type")]
    kind: String,
    order: Option<u32>,
    target_group_arn: Option<String>,
    forward_config: Option<Forward>,
    redirect_config: Option<RedirectTo>,
    fixed_response_config: Option<Fixed>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Forward {
    target_groups: Option<Vec<Weighted>>,
    target_group_stickiness_config: Option<Stickiness>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weighted {
    target_group_arn: Option<String>,
    weight: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stickiness {
    enabled: Option<bool>,
    duration_seconds: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RedirectTo {
    status_code: String,
    protocol: Option<String>,
    host: Option<String>,
    port: Option<String>,
    path: Option<String>,
    query: Option<String>,
}

/// An action, with what stands beside it in a row.
pub(super) type Meant = (Action, Option<u32>, GroupStickiness);

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fixed {
    message_body: Option<String>,
    status_code: String,
    content_type: Option<String>,
}

/// The target groups that an action names.
pub(super) fn groups(action: &Action) -> impl Iterator<Item = &TargetGroupName> {
    action.groups().iter().map(|weighted| &weighted.group)
}

/// The one action of a rule of a listener that speaks `protocol`, and its order as given.
pub(super) fn meaning(
    state: &State,
    account: &Account,
    protocol: Protocol,
    asked: &[Asked],
) -> Result<Meant, Error> {
    let wrong = |message: String| Error::new("InvalidLoadBalancerActionException", message);
    for action in asked {
        let kind = &action.kind;
        if !matches!(kind.as_str(), "forward" | "fixed-response" | "redirect") {
            return Err(Error::unsupported(format!("Action type '{kind}' is not supported here")));
        }
        if kind != "forward" && !protocol.is_http() {
            let message =
                format!("Action type '{kind}' is not supported for listeners of protocol 'TCP'");
            return Err(wrong(message));
        }
    }
    let [action] = asked else {
        let message = "Exactly one action of type 'forward', 'redirect' or 'fixed-response' must \
                       be specified";
        return Err(wrong(message.to_owned()));
    };
    let forwards = action.target_group_arn.is_some() || action.forward_config.is_some();
    let configs = (&action.fixed_response_config, &action.redirect_config);
    let made = match (action.kind.as_str(), configs) {
        ("fixed-response", (Some(fixed), None)) if !forwards => {
            Action::FixedResponse(response(fixed)?)
        }
        ("redirect", (None, Some(to))) if !forwards => Action::Redirect(redirect(protocol, to)?),
        ("forward", (None, None)) => Action::Forward(forward(state, account, protocol, action)?),
        (kind, _) => {
            let message = format!("An action of type '{kind}' needs its own configuration alone");
            return Err(wrong(message));
        }
    };
    Ok((made, action.order, stickiness(protocol, action)?))
}

/// Whether a client stays with its group. A duration is kept even where it is of no use.
fn stickiness(protocol: Protocol, action: &Asked) -> Result<GroupStickiness, Error> {
    let config = action.forward_config.as_ref();
    let Some(asked) = config.and_then(|config| config.target_group_stickiness_config.as_ref())
    else {
        return Ok(GroupStickiness::default());
    };
    let enabled = asked.enabled == Some(true);
    let bad = |seconds: &u64| !STICKY_SECONDS.contains(seconds);
    // Terraform sends 0 for what is not enabled and was not given.
    let given = asked.duration_seconds.filter(|seconds| enabled || *seconds > 0);
    if given.as_ref().is_some_and(bad) || (enabled && given.is_none()) {
        let (first, last) = (STICKY_SECONDS.start(), STICKY_SECONDS.end());
        let message =
            format!("The target group stickiness duration must be {first} to {last} seconds");
        return Err(Error::invalid(message));
    }
    if enabled && protocol == Protocol::Tcp {
        let message = "Target group stickiness is not supported for listeners of protocol 'TCP'";
        return Err(Error::new("InvalidLoadBalancerActionException", message));
    }
    Ok(GroupStickiness { enabled, duration: given.map(Duration::from_secs) })
}

fn redirect(protocol: Protocol, to: &RedirectTo) -> Result<Redirect, Error> {
    // The model knows no other.
    let status = if to.status_code == "HTTP_302" { 302 } else { 301 };
    let mut redirect = Redirect::to_itself(status);
    let parts = [
        (&to.protocol, &mut redirect.protocol),
        (&to.host, &mut redirect.host),
        (&to.port, &mut redirect.port),
        (&to.path, &mut redirect.path),
        (&to.query, &mut redirect.query),
    ];
    for (asked, part) in parts {
        if let Some(asked) = asked {
            part.clone_from(asked);
        }
    }
    check_redirect(&redirect, protocol).map_err(|(part, reason)| {
        let message = format!("The redirect configuration's {part} {reason}");
        Error::new("InvalidLoadBalancerActionException", message)
    })?;
    Ok(redirect)
}

/// What is wrong with a redirect of a listener, and with which part of it.
pub(in crate::api) fn check_redirect(
    to: &Redirect,
    listener: Protocol,
) -> Result<(), (&'static str, &'static str)> {
    let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let itself = Redirect::to_itself(to.status);
    let port = || to.port.parse::<u16>().is_ok_and(|port| port > 0);
    match to {
        _ if !matches!(to.protocol.as_str(), "HTTP" | "HTTPS" | "#{protocol}") => {
            Err(("protocol", "must be HTTP, HTTPS or #{protocol}"))
        }
        _ if to.protocol == "HTTP" && listener.as_str() == "HTTPS" => {
            Err(("protocol", "cannot be HTTP where the listener's is HTTPS"))
        }
        _ if to.port != itself.port && !port() => Err(("port", "must be 1 to 65535 or #{port}")),
        _ if !(1..=128).contains(&to.host.len())
            || !visible(&to.host)
            || to.host.contains(['/', '?', '@']) =>
        {
            Err(("host", "must be 1 to 128 characters of a host name"))
        }
        _ if !(1..=128).contains(&to.path.len())
            || !visible(&to.path)
            || !to.path.starts_with('/') =>
        {
            Err(("path", "must begin with / and have at most 128 visible characters"))
        }
        _ if to.query.len() > 128 || !visible(&to.query) || to.query.starts_with('?') => {
            Err(("query", "must have at most 128 visible characters, without the first ?"))
        }
        _ if Redirect { query: itself.query.clone(), ..to.clone() } == itself => {
            Err(("parts", "must change protocol, host, port or path, or it leads to itself"))
        }
        _ => Ok(()),
    }
}

fn response(fixed: &Fixed) -> Result<FixedResponse, Error> {
    let status = fixed.status_code.parse::<u16>().ok();
    let status = status.filter(|status| matches!(status, 200..=299 | 400..=599));
    let status = status.ok_or_else(|| Error::invalid("The status code must be 2XX, 4XX or 5XX"))?;
    let content_type = fixed.content_type.as_deref().unwrap_or(CONTENT_TYPES[0]);
    if !CONTENT_TYPES.contains(&content_type) {
        let message = format!(
            "The content type '{content_type}' must be one of {}",
            CONTENT_TYPES.join(", ")
        );
        return Err(Error::invalid(message));
    }
    let body = fixed.message_body.clone().unwrap_or_default();
    if body.len() > LARGEST_BODY {
        return Err(Error::invalid(format!("The message is longer than {LARGEST_BODY} bytes")));
    }
    Ok(FixedResponse { status, content_type: content_type.to_owned(), body })
}

fn forward(
    state: &State,
    account: &Account,
    protocol: Protocol,
    action: &Asked,
) -> Result<Vec<WeightedGroup>, Error> {
    let config = action.forward_config.as_ref();
    let listed = config.and_then(|config| config.target_groups.as_deref()).unwrap_or_default();
    let mut wanted: Vec<(&str, u32)> = Vec::new();
    for group in listed {
        let arn = group.target_group_arn.as_deref().unwrap_or_default();
        let weight = group.weight.unwrap_or(1);
        let weight = u32::try_from(weight).ok().filter(|weight| *weight <= MOST_WEIGHT);
        let weight = weight.ok_or_else(|| {
            Error::invalid(format!("The weight of a target group must be 0 to {MOST_WEIGHT}"))
        })?;
        if wanted.iter().any(|(known, _)| *known == arn) {
            return Err(Error::invalid(format!("Target group '{arn}' is specified twice")));
        }
        wanted.push((arn, weight));
    }
    match (&action.target_group_arn, wanted.as_slice()) {
        (Some(arn), []) => wanted.push((arn, 1)),
        (Some(arn), [(only, _)]) if arn == only => {}
        (Some(_), _) => {
            let message = "A target group ARN and a forward config must name the same target group";
            return Err(Error::invalid(message));
        }
        (None, []) => return Err(Error::invalid("A target group must be specified")),
        (None, _) => {}
    }
    if wanted.iter().all(|(_, weight)| *weight == 0) {
        return Err(Error::unsupported("At least one target group must have a weight above 0"));
    }
    if wanted.len() > MOST_GROUPS {
        let message = format!("An action has at most {MOST_GROUPS} target groups");
        return Err(Error::new("TooManyTargetGroupsException", message));
    }
    wanted.into_iter().map(|(arn, weight)| group(state, account, protocol, arn, weight)).collect()
}

fn group(
    state: &State,
    account: &Account,
    protocol: Protocol,
    arn: &str,
    weight: u32,
) -> Result<WeightedGroup, Error> {
    let group = find::target_group(state, account, arn)?;
    if !protocol.forwards_to(group.protocol) {
        let message = format!(
            "The protocol '{}' of target group '{}' is not compatible with the listener's '{}'",
            group.protocol.as_str(),
            group.name,
            protocol.as_str()
        );
        return Err(Error::new("IncompatibleProtocolsException", message));
    }
    Ok(WeightedGroup { group: group.name.clone(), weight })
}

/// As the API shows it.
pub(super) fn shown(
    state: &State,
    account: &Account,
    action: &Action,
    (order, sticky): (Option<u32>, GroupStickiness),
) -> Value {
    match action {
        Action::Redirect(to) => json!({
            "Type": "redirect",
            "Order": order,
            "RedirectConfig": {
                "StatusCode": format!("HTTP_{}", to.status),
                "Protocol": to.protocol,
                "Host": to.host,
                "Port": to.port,
                "Path": to.path,
                "Query": to.query,
            },
        }),
        Action::FixedResponse(fixed) => json!({
            "Type": "fixed-response",
            "Order": order,
            "FixedResponseConfig": {
                "StatusCode": fixed.status.to_string(),
                "ContentType": fixed.content_type,
                "MessageBody": (!fixed.body.is_empty()).then_some(&fixed.body),
            },
        }),
        Action::Forward(groups) => {
            let arn = |name: &TargetGroupName| {
                let group = state.target_groups.get(name);
                group.map(|group| account.target_group(group).to_string())
            };
            let weighted = groups.iter().map(|weighted| {
                json!({"TargetGroupArn": arn(&weighted.group), "Weight": weighted.weight})
            });
            let single = match groups.as_slice() {
                [only] => arn(&only.group),
                _ => None,
            };
            json!({
                "Type": "forward",
                "Order": order,
                "TargetGroupArn": single,
                "ForwardConfig": {
                    "TargetGroups": weighted.collect::<Vec<_>>(),
                    "TargetGroupStickinessConfig": {
                        "Enabled": sticky.enabled,
                        "DurationSeconds": sticky.duration.map(|time| time.as_secs()),
                    },
                },
            })
        }
    }
}

/// Whether nothing but weights differs: the one change that what the file owns may see.
pub(super) fn differs_in_weights_only(old: &Action, new: &Action) -> bool {
    match (old, new) {
        (Action::Forward(old), Action::Forward(new)) => {
            old.len() == new.len()
                && old.iter().all(|group| new.iter().any(|other| other.group == group.group))
        }
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::super::group_attributes::tests::group;
    use super::*;
    use crate::model::TargetGroup;

    fn account() -> Account {
        Account { region: "local".into(), id: "000000000000".into() }
    }

    /// Groups `a`, `b` speak HTTP, `t` TCP; `$a` stands for the ARN of `a`.
    fn state() -> State {
        let mut state = State::default();
        let mut groups = std::collections::BTreeMap::new();
        for name in ["a", "b", "t"] {
            let protocol = if name == "t" { Protocol::Tcp } else { Protocol::Http };
            let row = TargetGroup { name: name.into(), ..group(protocol) };
            groups.insert(row.name.clone(), std::sync::Arc::new(row));
        }
        state.target_groups = std::sync::Arc::new(groups);
        state
    }

    fn check(protocol: Protocol, asked: &Value, expected: Result<&str, &str>) {
        let mut text = asked.to_string();
        let state = state();
        for group in state.target_groups.values() {
            let arn = account().target_group(group).to_string();
            text = text.replace(&format!("${}", group.name), &arn);
        }
        let read: Vec<Asked> = serde_json::from_str(&text).unwrap();
        let made = meaning(&state, &account(), protocol, &read);
        match (made, expected) {
            (Ok((action, order, sticky)), Ok(expected)) => {
                let words = match &action {
                    Action::Forward(groups) => {
                        let word = |g: &WeightedGroup| format!("{}={}", g.group, g.weight);
                        let mut words: Vec<_> = groups.iter().map(word).collect();
                        if let Some(time) = sticky.duration {
                            words.push(format!("{} {}s", sticky.enabled, time.as_secs()));
                        }
                        words.join(" ")
                    }
                    Action::Redirect(to) => format!(
                        "{} {} {} {} {} {}",
                        to.status, to.protocol, to.host, to.port, to.path, to.query
                    ),
                    Action::FixedResponse(fixed) => {
                        format!("{} {} {:?}", fixed.status, fixed.content_type, fixed.body)
                    }
                };
                assert_eq!(words, expected);
                let shown = shown(&state, &account(), &action, (order, sticky));
                let again: Vec<Asked> = serde_json::from_value(json!([shown])).unwrap();
                let again = meaning(&state, &account(), protocol, &again).unwrap();
                assert_eq!(again, (action, order, sticky));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (made, _) => panic!("{text}: {made:?}"),
        }
    }

    #[test]
    fn actions_forward_or_answer() {
        let http = |asked: Value, expected| check(Protocol::Http, &asked, expected);
        http(json!([{"Type": "forward", "TargetGroupArn": "$a"}]), Ok("a=1"));
        let config = json!({"TargetGroups": [
            {"TargetGroupArn": "$a", "Weight": 9}, {"TargetGroupArn": "$b", "Weight": 0}]});
        http(json!([{"Type": "forward", "Order": 1, "ForwardConfig": config}]), Ok("a=9 b=0"));
        let answer = json!({"StatusCode": "404", "MessageBody": "no"});
        http(
            json!([{"Type": "fixed-response", "FixedResponseConfig": answer}]),
            Ok("404 text/plain \"no\""),
        );
        check(Protocol::Tcp, &json!([{"Type": "forward", "TargetGroupArn": "$t"}]), Ok("t=1"));
    }

    #[test]
    fn a_duration_is_kept_whether_it_is_used_or_not() {
        for (enabled, seconds, expected) in
            [(true, 60, "a=1 true 60s"), (false, 60, "a=1 false 60s"), (false, 0, "a=1")]
        {
            let sticky = json!({"TargetGroups": [{"TargetGroupArn": "$a"}],
                "TargetGroupStickinessConfig": {"Enabled": enabled, "DurationSeconds": seconds}});
            let asked = json!([{"Type": "forward", "ForwardConfig": sticky}]);
            check(Protocol::Http, &asked, Ok(expected));
        }
    }

    #[test]
    fn redirects_change_what_they_name() {
        let check = |config: Value, expected| {
            let asked = json!([{"Type": "redirect", "RedirectConfig": config}]);
            check(Protocol::Http, &asked, expected);
        };
        check(
            json!({"StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443"}),
            Ok("301 HTTPS #{host} 443 /#{path} #{query}"),
        );
        check(
            json!({"StatusCode": "HTTP_302", "Host": "a.b", "Path": "/x", "Query": ""}),
            Ok("302 #{protocol} a.b #{port} /x "),
        );
        let bad = |part: &str, value: &str, reason| {
            check(json!({"StatusCode": "HTTP_301", part: value}), Err(reason));
        };
        bad("Port", "0", "port must be 1 to 65535");
        bad("Path", "x", "path must begin with /");
        bad("Host", "a/b", "host must be");
        bad("Query", "?a", "query must");
        bad("Query", "a=b", "leads to itself");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let http = |asked: Value, part| check(Protocol::Http, &asked, Err(part));
        http(json!([]), "Exactly one action");
        let one = json!({"Type": "forward", "TargetGroupArn": "$a"});
        http(json!([one, one]), "Exactly one action");
        http(json!([{"Type": "redirect"}]), "needs its own configuration");
        http(json!([{"Type": "jwt-validation"}]), "'jwt-validation' is not supported here");
        http(json!([{"Type": "forward"}]), "A target group must be specified");
        http(json!([{"Type": "forward", "TargetGroupArn": "$t"}]), "not compatible");
        http(json!([{"Type": "forward", "TargetGroupArn": "$a0"}]), "not found");
        http(json!([{"Type": "fixed-response"}]), "needs its own configuration");
        let two = json!({"TargetGroups": [{"TargetGroupArn": "$b"}]});
        let both = json!([{"Type": "forward", "TargetGroupArn": "$a", "ForwardConfig": two}]);
        http(both, "must name the same");
        let heavy = json!({"TargetGroups": [{"TargetGroupArn": "$a", "Weight": 1000}]});
        http(json!([{"Type": "forward", "ForwardConfig": heavy}]), "must be 0 to 999");
        let nobody = json!({"TargetGroups": [{"TargetGroupArn": "$a", "Weight": 0}]});
        http(json!([{"Type": "forward", "ForwardConfig": nobody}]), "weight above 0");
        let sticky = json!({"TargetGroups": [{"TargetGroupArn": "$a"}],
            "TargetGroupStickinessConfig": {"Enabled": true, "DurationSeconds": 604_801}});
        http(json!([{"Type": "forward", "ForwardConfig": sticky}]), "1 to 604800 seconds");
        let redirecting = json!({"StatusCode": "301"});
        http(json!([{"Type": "fixed-response", "FixedResponseConfig": redirecting}]), "2XX");
        let fixed =
            json!([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]);
        check(Protocol::Tcp, &fixed, Err("not supported for listeners of protocol 'TCP'"));
    }
}
