//! Actions of listeners and rules: forward, redirect and fixed-response.
//!
//! Not here: what the actions that come before them ask for (`authentication`). **Invariant:** an
//! action that is shown reads back as the same action.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::{CONTENT_TYPES, LARGEST_BODY, MOST_GROUPS, MOST_WEIGHT, STICKY_SECONDS};
use super::{authentication, find};
use crate::api::error::Error;
use crate::model::{
    Account, Action, Authentication, FixedResponse, GroupStickiness, Listener, Protocol, Redirect,
    Rule, TargetGroupName, WeightedGroup,
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
    jwt_validation_config: Option<authentication::Jwt>,
    authenticate_oidc_config: Option<authentication::Oidc>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) action: Action,
    pub(super) order: Option<u32>,
    pub(super) stickiness: GroupStickiness,
    pub(super) authentication: Option<Authentication>,
}

impl Meant {
    pub(super) fn of_rule(rule: &Rule) -> Self {
        Self {
            action: rule.action.clone(),
            order: rule.order,
            stickiness: rule.stickiness,
            authentication: rule.authentication.clone(),
        }
    }

    pub(super) fn of_default(listener: &Listener) -> Self {
        let options = &listener.options;
        Self {
            action: listener.default_action.clone(),
            order: options.order,
            stickiness: options.stickiness,
            authentication: options.authentication.clone(),
        }
    }
}

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

/// The actions of a rule of a listener that speaks `protocol`; `old` is what came first before.
pub(super) fn meaning(
    state: &State,
    account: &Account,
    protocol: Protocol,
    asked: &[Asked],
    old: Option<&Authentication>,
) -> Result<Meant, Error> {
    let wrong = |message: String| Error::new("InvalidLoadBalancerActionException", message);
    for action in asked {
        let kind = &action.kind;
        let known =
            ["forward", "fixed-response", "redirect", "jwt-validation", "authenticate-oidc"];
        if !known.contains(&kind.as_str()) {
            return Err(Error::unsupported(format!("Action type '{kind}' is not supported here")));
        }
        if kind != "forward" && !protocol.is_http() {
            let message =
                format!("Action type '{kind}' is not supported for listeners of protocol 'TCP'");
            return Err(wrong(message));
        }
    }
    let (first, action) = split(asked).map_err(|message| wrong(message.to_owned()))?;
    let authentication = first.map(|own| own.authentication(protocol, old)).transpose()?;
    if action.jwt_validation_config.is_some() || action.authenticate_oidc_config.is_some() {
        return Err(alone(&action.kind));
    }
    let forwards = action.target_group_arn.is_some() || action.forward_config.is_some();
    let configs = (&action.fixed_response_config, &action.redirect_config);
    let made = match (action.kind.as_str(), configs) {
        ("fixed-response", (Some(fixed), None)) if !forwards => {
            Action::FixedResponse(response(fixed)?)
        }
        ("redirect", (None, Some(to))) if !forwards => Action::Redirect(redirect(protocol, to)?),
        ("forward", (None, None)) => Action::Forward(forward(state, account, protocol, action)?),
        (kind, _) => return Err(alone(kind)),
    };
    let stickiness = stickiness(protocol, action)?;
    Ok(Meant { action: made, order: action.order, stickiness, authentication })
}

fn alone(kind: &str) -> Error {
    let message = format!("An action of type '{kind}' needs its own configuration alone");
    Error::new("InvalidLoadBalancerActionException", message)
}

impl Asked {
    fn authentication(
        &self,
        protocol: Protocol,
        old: Option<&Authentication>,
    ) -> Result<Authentication, Error> {
        let configs = (&self.jwt_validation_config, &self.authenticate_oidc_config);
        match (self.kind.as_str(), configs) {
            _ if self.has_more() => Err(alone(&self.kind)),
            ("jwt-validation", (Some(jwt), None)) => {
                authentication::meaning(protocol, self.order, jwt)
            }
            ("authenticate-oidc", (None, Some(oidc))) => {
                authentication::login(protocol, self.order, oidc, old)
            }
            (kind, _) => Err(alone(kind)),
        }
    }

    /// What belongs to actions that end a rule.
    const fn has_more(&self) -> bool {
        self.target_group_arn.is_some()
            || self.forward_config.is_some()
            || self.redirect_config.is_some()
            || self.fixed_response_config.is_some()
    }
}

/// The action that comes first, if any, and the one that ends the rule.
fn split(asked: &[Asked]) -> Result<(Option<&Asked>, &Asked), &'static str> {
    let (first, last): (Vec<_>, Vec<_>) =
        asked.iter().partition(|action| authentication::comes_first(&action.kind));
    let [last] = last.as_slice() else {
        return Err(
            "Exactly one action of type 'forward', 'redirect' or 'fixed-response' must be \
                    specified",
        );
    };
    let first = match first.as_slice() {
        [] => return Ok((None, last)),
        [first] => *first,
        _ => return Err("At most one action that authenticates may be specified"),
    };
    let in_order = match (first.order, last.order) {
        (Some(first), Some(last)) => first < last,
        (None, None) => authentication::comes_first(&asked[0].kind),
        _ => return Err("An order must be specified for every action, or for none"),
    };
    let message = "An action that authenticates must come before the others";
    in_order.then_some((Some(first), *last)).ok_or(message)
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

/// As the API shows them.
pub(super) fn shown(state: &State, account: &Account, own: &Meant) -> Vec<Value> {
    let first = own.authentication.as_ref().map(authentication::shown);
    first.into_iter().chain([last_shown(state, account, own)]).collect()
}

fn last_shown(state: &State, account: &Account, own: &Meant) -> Value {
    let (order, sticky) = (own.order, own.stickiness);
    match &own.action {
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
mod tests;
