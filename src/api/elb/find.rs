//! From ARNs to rows, refusals for what is not there, and what all resources have in common.
//!
//! **Invariant:** an ARN finds the resource that it was made of and no later one of the same name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::api::call::Call;
use crate::api::error::Error;
use crate::api::page::BadToken;
use crate::api::tags::{Tag, TagError};
use crate::model::{
    Account, Arn, Listener, LoadBalancer, LoadBalancerName, Owner, Rule, TargetGroup,
    TargetGroupName, TrafficRule,
};
use crate::state::{State, Tx};

/// Pages of listings have this many items unless the caller wants fewer.
pub(super) const PAGE: usize = 400;

/// Sixteen hexadecimal digits, new ones every time.
pub(super) fn new_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// The default rule has an id as well; it follows from its listener's.
pub(super) fn default_rule_id(listener: &str) -> String {
    listener.chars().rev().collect()
}

/// Whatever the ARN names: who owns it, and what messages call it.
///
/// # Errors
/// It is no ARN of ours, or names nothing that is there.
pub(super) fn resource(
    state: &State,
    account: &Account,
    arn: &str,
) -> Result<(Owner, String), Error> {
    match kind(arn) {
        Some("loadbalancer") => {
            load_balancer(state, account, arn).map(|row| (row.owner, row.name.to_string()))
        }
        Some("targetgroup") => {
            target_group(state, account, arn).map(|row| (row.owner, row.name.to_string()))
        }
        Some("listener") => {
            listener(state, account, arn).map(|(_, row)| (row.owner, row.key.to_string()))
        }
        Some("listener-rule") => {
            rule(state, account, arn).map(|(_, row, _)| (row.owner, row.key.to_string()))
        }
        Some("truststore") => {
            let row = super::trust_store::find(state, account, arn)?;
            Ok((row.owner, row.name.to_string()))
        }
        _ => Err(bad(arn, "resource")),
    }
}

fn kind(arn: &str) -> Option<&str> {
    arn.split(':').nth(5)?.split('/').next()
}

fn bad(arn: &str, what: &str) -> Error {
    Error::invalid(format!("'{arn}' is not a valid {what} ARN"))
}

/// The parts of an ARN's resource behind its kind.
fn parts<'a>(arn: &'a str, wanted: &str, what: &str) -> Result<Vec<&'a str>, Error> {
    let resource = arn
        .parse::<Arn>()
        .ok()
        .filter(|parsed| parsed.service == "elasticloadbalancing" && kind(arn) == Some(wanted));
    resource.ok_or_else(|| bad(arn, what))?;
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    Ok(resource.split('/').skip(1).collect())
}

pub(super) fn load_balancer(
    state: &State,
    account: &Account,
    arn: &str,
) -> Result<Arc<LoadBalancer>, Error> {
    let parts = parts(arn, "loadbalancer", "load balancer")?;
    let named = parts.get(1).and_then(|name| by_name(state, account, name));
    let found = named.filter(|lb| account.load_balancer(lb).to_string() == arn);
    found.ok_or_else(|| {
        Error::new("LoadBalancerNotFoundException", format!("Load balancer '{arn}' not found"))
    })
}

pub(super) fn by_name(state: &State, account: &Account, name: &str) -> Option<Arc<LoadBalancer>> {
    state.load_balancers.get(&LoadBalancerName::within(account.place(), name)).cloned()
}

pub(super) fn group_by_name<'a>(
    state: &'a State,
    account: &Account,
    name: &str,
) -> Option<&'a Arc<TargetGroup>> {
    state.target_groups.get(&TargetGroupName::within(account.place(), name))
}

pub(in crate::api) fn target_group(
    state: &State,
    account: &Account,
    arn: &str,
) -> Result<Arc<TargetGroup>, Error> {
    let parts = parts(arn, "targetgroup", "target group")?;
    let named = parts.first().and_then(|name| group_by_name(state, account, name));
    let found = named.filter(|group| account.target_group(group).to_string() == arn);
    found.cloned().ok_or_else(|| {
        Error::new("TargetGroupNotFoundException", format!("Target groups '{arn}' not found"))
    })
}

pub(super) fn listener(
    state: &State,
    account: &Account,
    arn: &str,
) -> Result<(Arc<LoadBalancer>, Arc<Listener>), Error> {
    let parts = parts(arn, "listener", "listener")?;
    let found = listener_of(state, account, &parts)
        .filter(|(lb, row)| account.listener(lb, &row.key, &row.id).to_string() == arn);
    found.ok_or_else(|| {
        Error::new("ListenerNotFoundException", format!("Listener '{arn}' not found"))
    })
}

/// By `app/NAME/ID/LISTENER`.
fn listener_of(
    state: &State,
    account: &Account,
    parts: &[&str],
) -> Option<(Arc<LoadBalancer>, Arc<Listener>)> {
    let [_, name, _, id, ..] = parts else { return None };
    let lb = by_name(state, account, name)?;
    let row = listeners(state, &lb.name).find(|row| row.id == *id)?;
    Some((Arc::clone(&lb), Arc::clone(row)))
}

/// A load balancer's listeners, ascending by port.
pub(super) fn listeners<'a>(
    state: &'a State,
    name: &'a LoadBalancerName,
) -> impl Iterator<Item = &'a Arc<Listener>> {
    state.listeners.values().filter(move |row| row.key.load_balancer == *name)
}

/// A rule's load balancer and listener; no rule: it is the default one.
pub(super) type Found = (Arc<LoadBalancer>, Arc<Listener>, Option<Rule>);

pub(super) fn rule(state: &State, account: &Account, arn: &str) -> Result<Found, Error> {
    let parts = parts(arn, "listener-rule", "listener rule")?;
    let found = listener_of(state, account, &parts).and_then(|(lb, row)| {
        let id = *parts.get(4)?;
        let rule = row.rules.iter().find(|rule| rule.id == id).cloned();
        let known = rule.is_some() || id == default_rule_id(&row.id);
        let same = account.rule(&lb, &row.id, id).to_string() == arn;
        (known && same).then_some((lb, row, rule))
    });
    found.ok_or_else(|| Error::new("RuleNotFoundException", format!("Rule '{arn}' not found")))
}

/// What weights are written into: the rule that an ARN names, or a listener's default action.
pub(in crate::api) fn traffic_rule(
    state: &State,
    account: &Account,
    arn: &str,
) -> Option<TrafficRule> {
    let (listener, rule) = match kind(arn)? {
        "listener" => (listener(state, account, arn).ok()?.1, None),
        _ => {
            let (_, listener, rule) = rule(state, account, arn).ok()?;
            (listener, rule.map(|rule| rule.id))
        }
    };
    Some(TrafficRule { listener: listener.key.clone(), rule })
}

/// An Application Load Balancer's default action is its listener's default rule, a Network Load
/// Balancer's the listener's own.
pub(in crate::api) fn traffic_rule_arn(
    state: &State,
    account: &Account,
    rule: &TrafficRule,
) -> Option<String> {
    let listener = state.listeners.get(&rule.listener)?;
    let lb = state.load_balancers.get(&rule.listener.load_balancer)?;
    let arn = match &rule.rule {
        Some(id) => account.rule(lb, &listener.id, id),
        None if listener.protocol.is_http() => {
            account.rule(lb, &listener.id, &default_rule_id(&listener.id))
        }
        None => account.listener(lb, &listener.key, &listener.id),
    };
    Some(arn.to_string())
}

/// Refuses what belongs to the configuration file.
pub(super) fn own(owner: Owner, what: &str, name: impl Display) -> Result<(), Error> {
    match owner {
        Owner::Api => Ok(()),
        Owner::File => Err(Error::unsupported(format!(
            "{what} {name} belongs to the configuration file: change it there"
        ))),
    }
}

pub(super) fn marker(_: BadToken) -> Error {
    Error::invalid("The marker is not valid")
}

pub(super) fn tag_error(error: TagError) -> Error {
    let message = error.to_string();
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", message),
        TagError::Duplicate(_) => Error::new("DuplicateTagKeysException", message),
        TagError::Reserved(_) | TagError::Length(_) => Error::invalid(message),
    }
}

/// A resource's tags as they were given, checked.
pub(super) fn tag_map(tags: Option<&Vec<Tag>>) -> Result<BTreeMap<String, String>, Error> {
    crate::api::tags::map(tags.cloned().unwrap_or_default()).map_err(tag_error)
}

/// The tags of a resource that was just made.
pub(super) fn put_tags(tx: &mut Tx<'_>, arn: &Arn, tags: Option<Vec<Tag>>) -> Result<(), Error> {
    crate::api::tags::add(tx, arn, tags.unwrap_or_default()).map_err(tag_error)
}

/// Runs a change.
pub(super) async fn change<R: Send + 'static>(
    call: &Call,
    change: impl FnOnce(&mut Tx<'_>) -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    call.api.store.update(change).await.map(|committed| committed.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_other_kinds_are_no_load_balancers() {
        let account = Account::new("local", "000000000000");
        let check = |arn: &str, expected: &str| {
            let found = load_balancer(&State::default(), &account, arn).unwrap_err();
            assert!(found.to_string().contains(expected), "{arn}: {found}");
        };
        let own = "arn:aws:elasticloadbalancing:local:000000000000";
        check("web", "'web' is not a valid load balancer ARN");
        check("arn:aws:ecs:local:000000000000:loadbalancer/app/a/b", "is not a valid");
        check(&format!("{own}:targetgroup/a/b"), "is not a valid load balancer ARN");
        check(&format!("{own}:loadbalancer/app/a/b"), "not found");
        check(&format!("{own}:loadbalancer"), "not found");
    }
}
