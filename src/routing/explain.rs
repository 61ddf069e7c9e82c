//! Why a request would go where it goes: the rule, group and target it would take, and why each
//! other one not.
//!
//! Asks the compiled rules that decide, and moves nothing: no counter, no turn, no guard. Pure.
//! **Invariant:** the rule and the group named here are those that `decide` would take.

use serde::{Deserialize, Serialize};

use super::decide::bound;
use super::{Forwarding, RoutedAction, RoutedListener};
use crate::balance::{Endpoint, Group, Turn};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Condition, QueryValue, RateKey, RateLimit, Rule, label};
use crate::rules::Facts;

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `LOAD_BALANCER:PORT`.
    pub listener: String,
    /// In the order of their priorities, the default action last.
    pub rules: Vec<RuleNote>,
    /// What it has to pass before.
    pub checks: Vec<String>,
    /// What is done.
    pub action: String,
    /// Host and URL that the target gets, where the rule changes them.
    pub rewritten: Option<String>,
    /// Of a rule that forwards.
    pub groups: Vec<GroupNote>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleNote {
    /// 0: the default action.
    pub priority: u32,
    pub taken: bool,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupNote {
    pub target_group: String,
    /// None: that is left to chance.
    pub taken: Option<bool>,
    pub why: String,
    pub targets: Vec<TargetNote>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetNote {
    pub target: String,
    /// None: that is left to chance.
    pub taken: Option<bool>,
    pub why: String,
}

/// What would become of a request to `listener`.
#[must_use]
pub fn explain(listener: &RoutedListener, facts: &Facts<'_>, now: Timestamp) -> Explanation {
    let rules = &listener.listener.rules;
    let failed = listener.matcher.explain(facts);
    let first = failed.iter().position(Option::is_none);
    let index = first.unwrap_or(rules.len());
    let note = |(place, (rule, failed)): (usize, (&Rule, &Option<usize>))| {
        let why = match failed.and_then(|at| rule.conditions.get(at)) {
            Some(condition) => unmet(condition, facts),
            None if place == index => "all its conditions hold".to_owned(),
            None => format!("would match, but rule {} comes first", rules[index].priority),
        };
        RuleNote { priority: rule.priority, taken: place == index, why }
    };
    let mut notes: Vec<_> = rules.iter().zip(&failed).enumerate().map(note).collect();
    let why = match first {
        Some(index) => format!("rule {} matches", rules[index].priority),
        None => "no rule matches".to_owned(),
    };
    notes.push(RuleNote { priority: 0, taken: first.is_none(), why });
    let transform = listener.matcher.find(facts).and_then(|found| found.transform);
    let transformed = transform.map(|own| own.apply(facts.host_name(), facts.path, facts.query));
    let rewritten = transformed.map(|done| match done {
        Ok(done) => {
            let host = done.host.unwrap_or_else(|| facts.host_name().to_owned());
            let target = done.target.unwrap_or_else(|| facts.path.to_owned());
            format!("{host} {target}")
        }
        Err(_) => "nothing that may stand in a request: 500".to_owned(),
    });
    let limits = [("listener", &listener.limit), ("rule", &listener.rule_limits[index])];
    let limits = limits.iter().filter_map(|(of, limit)| Some((of, limit.as_ref()?.limit())));
    let mut checks: Vec<_> = limits.map(|(of, limit)| limited(of, limit)).collect();
    let check = listener.listener.authentications().nth(index).flatten();
    checks.extend(check.map(|own| own.check.as_str().to_owned()));
    let (action, groups) = match &listener.actions[index] {
        RoutedAction::Fixed(fixed) => (format!("fixed response {}", fixed.status), Vec::new()),
        RoutedAction::Redirect(to) => {
            let query = if to.query.is_empty() { String::new() } else { format!("?{}", to.query) };
            let place = format!("{}://{}:{}{}{query}", to.protocol, to.host, to.port, to.path);
            (format!("redirect {} to {place}", to.status), Vec::new())
        }
        RoutedAction::Forward(forwarding) => {
            ("forward".to_owned(), groups(listener, forwarding, facts, now))
        }
    };
    let listener = label(&listener.listener.key);
    Explanation { listener, rules: notes, checks, action, rewritten, groups }
}

fn limited(of: &str, limit: &RateLimit) -> String {
    let key = match &limit.key {
        RateKey::All => "all together".to_owned(),
        RateKey::SourceIp => "each source address".to_owned(),
        RateKey::Host => "each host".to_owned(),
        RateKey::Header(name) => format!("each value of the header {name}"),
    };
    let RateLimit { requests, per, burst, .. } = limit;
    format!("the {of}'s rate limit: {requests} requests in {per:?}, {burst} at once, for {key}")
}

/// A condition's kind and values, and what stands against them.
fn unmet(condition: &Condition, facts: &Facts<'_>) -> String {
    let header = |name: &str| {
        let mut values = Vec::new();
        facts.headers.any(name, |value| {
            values.push(String::from_utf8_lossy(value).into_owned());
            false
        });
        let values = if values.is_empty() { "not there".to_owned() } else { values.join(", ") };
        format!("the header {name} is {values}")
    };
    let (kind, values, is) = match condition {
        Condition::HostHeader(values) => ("host-header", values.join(", "), host(facts)),
        Condition::HostRegex(values) => ("host-header regex", values.join(", "), host(facts)),
        Condition::PathPattern(values) => ("path-pattern", values.join(", "), path(facts)),
        Condition::PathRegex(values) => ("path-pattern regex", values.join(", "), path(facts)),
        Condition::HttpHeader { name, values } => ("http-header", values.join(", "), header(name)),
        Condition::HeaderRegex { name, values } => {
            ("http-header regex", values.join(", "), header(name))
        }
        Condition::HttpRequestMethod(values) => {
            let is = format!("the method is {}", facts.method);
            ("http-request-method", values.join(", "), is)
        }
        Condition::QueryString(pairs) => {
            let pair = |pair: &QueryValue| match &pair.key {
                Some(key) => format!("{key}={}", pair.value),
                None => pair.value.clone(),
            };
            let pairs: Vec<_> = pairs.iter().map(pair).collect();
            ("query-string", pairs.join(", "), format!("the query is {}", or_dash(facts.query)))
        }
        Condition::SourceIp(values) => {
            let source = facts.source.map_or_else(|| "-".to_owned(), |own| own.to_string());
            ("source-ip", values.join(", "), format!("the source is {source}"))
        }
    };
    format!("{kind} is {values}, {is}")
}

fn host(facts: &Facts<'_>) -> String {
    format!("the host is {}", or_dash(facts.host_name()))
}

fn path(facts: &Facts<'_>) -> String {
    format!("the path is {}", facts.path)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn groups(
    listener: &RoutedListener,
    forwarding: &Forwarding,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Vec<GroupNote> {
    let bound = forwarding.bound(&listener.cookies, facts, now).map(|group| group.id);
    let note = |(place, (group, weight)): (usize, &(std::sync::Arc<Group>, u32))| {
        let total = forwarding.total_weight;
        let (taken, why) = match bound {
            Some(id) if id == group.id => (Some(true), "its cookie binds the client".to_owned()),
            Some(_) => (Some(false), "a cookie binds the client to another group".to_owned()),
            None if forwarding.groups.len() == 1 => (Some(true), "the only one".to_owned()),
            None if total == 0 => (Some(place == 0), "all weights are 0: the first one".to_owned()),
            None if *weight == 0 => (Some(false), "its weight is 0".to_owned()),
            None => ((*weight == total).then_some(true), format!("weight {weight} of {total}")),
        };
        let targets = targets(listener, group, facts, now);
        GroupNote { target_group: label(&group.name), taken, why, targets }
    };
    forwarding.groups.iter().enumerate().map(note).collect()
}

fn targets(
    listener: &RoutedListener,
    group: &Group,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Vec<TargetNote> {
    let mut rng = fastrand::Rng::with_seed(0);
    let turn = Turn { exclude: &[], now, rng: &mut rng };
    let bound = bound(group, &listener.cookies, facts, &turn);
    let next = bound.or_else(|| group.foreseen(&turn));
    let algorithm = group.routing.algorithm.as_str();
    let note = |endpoint: &std::sync::Arc<Endpoint>| {
        let is_routable = group.routable.iter().any(|own| own.id == endpoint.id);
        let is_next = next.is_some_and(|next| next.id == endpoint.id);
        let (taken, why) = match (bound.is_some(), is_next) {
            _ if endpoint.is_ejected() => (Some(false), "its task is dead".to_owned()),
            _ if endpoint.outlier.is_ejected(now) && group.routing.outlier_ejection.is_some() => {
                (Some(false), "it is ejected as an outlier".to_owned())
            }
            _ if !is_routable => (Some(false), "its health checks do not pass".to_owned()),
            (true, true) => (Some(true), "its cookie binds the client".to_owned()),
            (true, false) => (Some(false), "a cookie binds the client to another".to_owned()),
            (false, true) => (Some(true), format!("next by {algorithm}")),
            (false, false) if next.is_some() => (Some(false), format!("later by {algorithm}")),
            (false, false) => (None, format!("by chance: {algorithm}")),
        };
        let help = if group.fail_open { " (too few are healthy: all take part)" } else { "" };
        TargetNote { target: endpoint.address.to_string(), taken, why: why + help }
    };
    group.endpoints.iter().map(note).collect()
}

impl Group {
    /// Whom the next pick would take, where that is not left to chance; the turn stays where it is.
    fn foreseen(&self, turn: &Turn<'_>) -> Option<&std::sync::Arc<Endpoint>> {
        let is_growing = turn.now < self.grown_at;
        match self.routing.algorithm {
            Algorithm::RoundRobin if !is_growing => self.peek(turn),
            Algorithm::LeastOutstandingRequests => self.peek(turn),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
