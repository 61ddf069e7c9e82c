//! Rules of HTTP listeners; the default one is a rule that cannot be changed here.
//!
//! Not here: what conditions and actions may say. **Invariant:** a listener's rules ascend by
//! priority, and each priority is there once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, PAGE, default_rule_id, marker, new_id, own};
use super::limits::{MOST_RULES, PRIORITIES};
use super::{action, condition, listener, transform};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::model::{Account, Listener, LoadBalancer, Rule, Transforms};
use crate::state::{State, Tx};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    listener_arn: String,
    conditions: Vec<condition::Asked>,
    priority: u32,
    actions: Vec<action::Asked>,
    transforms: Option<Vec<transform::Asked>>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Modify {
    rule_arn: String,
    conditions: Option<Vec<condition::Asked>>,
    actions: Option<Vec<action::Asked>>,
    transforms: Option<Vec<transform::Asked>>,
    reset_transforms: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Priority {
    rule_arn: Option<String>,
    priority: Option<u32>,
}

fn in_use(priority: u32) -> Error {
    Error::new("PriorityInUseException", format!("Priority '{priority}' is currently in use"))
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    find::tag_map(asked.tags.as_ref())?;
    priority(asked.priority)?;
    let conditions = condition::meaning(&asked.conditions)?;
    let transforms = transform::meaning(asked.transforms.as_deref().unwrap_or_default())?;
    let account = call.account().clone();
    let made = find::change(call, move |tx| {
        let state = tx.state();
        let (lb, row) = find::listener(state, &account, &asked.listener_arn)?;
        if !row.protocol.is_http() {
            let message = "Listeners of protocol 'TCP' have no rules here";
            return Err(Error::new("UnsupportedProtocolException", message));
        }
        own(row.owner, "listener", &row.key)?;
        if row.rules.iter().any(|rule| rule.priority == asked.priority) {
            return Err(in_use(asked.priority));
        }
        let rules = find::listeners(state, &lb.name).map(|row| row.rules.len()).sum::<usize>();
        if rules >= MOST_RULES {
            let message = format!("The maximum number of rules is '{MOST_RULES}'");
            return Err(Error::new("TooManyRulesException", message));
        }
        let meant = action::meaning(state, &account, row.protocol, &asked.actions, None)?;
        let action::Meant { action, order, stickiness, authentication } = meant;
        listener::associate(state, &account, &lb, &action)?;
        transform::fits(&transforms, &action)?;
        let rule = Rule::new(new_id(), asked.priority, conditions, action);
        let rule = Rule { transforms, order, stickiness, authentication, ..rule };
        let mut row = Listener::clone(&row);
        row.rules.push(rule.clone());
        row.rules.sort_by_key(|rule| rule.priority);
        find::put_tags(tx, &account.rule(&lb, &row.id, &rule.id), asked.tags)?;
        tx.put(row.clone());
        Ok((lb, row, rule))
    });
    let (lb, row, rule) = made.await?;
    let state = call.state();
    Ok(json!({"Rules": [shown(&state, call.account(), &lb, &row, Some(&rule))]}))
}

fn priority(priority: u32) -> Result<(), Error> {
    if PRIORITIES.contains(&priority) {
        return Ok(());
    }
    let (first, last) = (PRIORITIES.start(), PRIORITIES.end());
    Err(Error::invalid(format!("The priority must be {first} to {last}")))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        listener_arn: Option<String>,
        rule_arns: Option<Vec<String>>,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, account) = (call.state(), call.account());
    let mut rows: Vec<(String, Value)> = match (&asked.listener_arn, &asked.rule_arns) {
        (Some(arn), None) => {
            let (lb, row) = find::listener(&state, account, arn)?;
            let rules = row.rules.iter().map(Some).chain([None]);
            rules.map(|rule| (key(rule), shown(&state, account, &lb, &row, rule))).collect()
        }
        (None, Some(arns)) => {
            let find = |arn: &String| {
                let (lb, row, rule) = find::rule(&state, account, arn)?;
                let shown = shown(&state, account, &lb, &row, rule.as_ref());
                Ok((format!("{} {arn}", key(rule.as_ref())), shown))
            };
            arns.iter().map(find).collect::<Result<_, Error>>()?
        }
        _ => {
            let message = "You must specify either rule ARNs or a listener ARN";
            return Err(Error::invalid(message));
        }
    };
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let size = asked.page_size.unwrap_or(PAGE);
    let paged = page(rows, |row| row.0.clone(), asked.marker.as_deref(), size);
    let (rows, next) = paged.map_err(marker)?;
    let shown: Vec<Value> = rows.into_iter().map(|row| row.1).collect();
    Ok(json!({"Rules": shown, "NextMarker": next}))
}

/// The default rule comes last.
fn key(rule: Option<&Rule>) -> String {
    rule.map_or_else(|| "default".to_owned(), |rule| format!("{:05}", rule.priority))
}

/// As the API shows it; no rule: the default one.
fn shown(
    state: &State,
    account: &Account,
    lb: &LoadBalancer,
    row: &Listener,
    rule: Option<&Rule>,
) -> Value {
    let default = default_rule_id(&row.id);
    let id = rule.map_or(&default, |rule| &rule.id);
    let own = rule.map_or_else(|| action::Meant::of_default(row), action::Meant::of_rule);
    let conditions = rule.map(|rule| rule.conditions.as_slice()).unwrap_or_default();
    json!({
        "RuleArn": account.rule(lb, &row.id, id).to_string(),
        "Priority": rule.map_or_else(|| "default".to_owned(), |rule| rule.priority.to_string()),
        "Conditions": conditions.iter().map(condition::shown).collect::<Vec<_>>(),
        "Actions": action::shown(state, account, &own),
        "IsDefault": rule.is_none(),
        "Transforms": rule.and_then(|rule| transform::shown(&rule.transforms)),
    })
}

pub(super) async fn modify(call: &Call, input: Input) -> Outcome {
    let asked: Modify = input.read()?;
    let conditions = asked.conditions.as_deref().map(condition::meaning).transpose()?;
    let transforms = match (asked.reset_transforms, &asked.transforms) {
        (Some(true), Some(_)) => {
            let message = "Transforms cannot be both given and reset";
            return Err(Error::invalid(message));
        }
        (Some(true), None) => Some(Transforms::default()),
        (_, given) => given.as_deref().map(transform::meaning).transpose()?,
    };
    let account = call.account().clone();
    let modified = find::change(call, move |tx| {
        let state = tx.state();
        let (lb, row, rule) = find::rule(state, &account, &asked.rule_arn)?;
        let Some(old) = rule else {
            let message = "The default rule is changed by modifying its listener";
            return Err(Error::new("OperationNotPermittedException", message));
        };
        let mut rule = old.clone();
        if let Some(actions) = &asked.actions {
            let meant = action::meaning(
                state,
                &account,
                row.protocol,
                actions,
                old.authentication.as_ref(),
            )?;
            (rule.action, rule.order, rule.stickiness) =
                (meant.action, meant.order, meant.stickiness);
            rule.authentication = meant.authentication;
            listener::associate(state, &account, &lb, &rule.action)?;
        }
        rule.conditions = conditions.unwrap_or(rule.conditions);
        rule.transforms = transforms.unwrap_or(rule.transforms);
        transform::fits(&rule.transforms, &rule.action)?;
        let weights = rule.conditions == old.conditions
            && rule.transforms == old.transforms
            && rule.stickiness == old.stickiness
            && rule.authentication == old.authentication
            && action::differs_in_weights_only(&old.action, &rule.action);
        if !weights {
            own(row.owner, "listener", &row.key)?;
        }
        let mut row = Listener::clone(&row);
        let place = row.rules.iter_mut().find(|known| known.id == rule.id);
        place.into_iter().for_each(|place| *place = rule.clone());
        tx.put(row.clone());
        Ok((lb, row, rule))
    });
    let (lb, row, rule) = modified.await?;
    let state = call.state();
    Ok(json!({"Rules": [shown(&state, call.account(), &lb, &row, Some(&rule))]}))
}

/// All of them at once: a priority may be taken over from a rule that gets another.
pub(super) async fn set_priorities(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        rule_priorities: Vec<Priority>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    let set = find::change(call, move |tx| {
        let wanted = wanted(tx, &account, &asked.rule_priorities)?;
        let mut rows: BTreeMap<_, (Arc<LoadBalancer>, Listener)> = BTreeMap::new();
        for (arn, priority) in &wanted {
            let (lb, row, rule) = find::rule(tx.state(), &account, arn)?;
            let id = rule.map(|rule| rule.id).unwrap_or_default();
            let (_, row) =
                rows.entry(row.key.clone()).or_insert_with(|| (lb, Listener::clone(&row)));
            let place = row.rules.iter_mut().find(|known| known.id == id);
            place.into_iter().for_each(|place| place.priority = *priority);
        }
        for (_, row) in rows.values_mut() {
            row.rules.sort_by_key(|rule| rule.priority);
            let twice = row.rules.windows(2).find(|pair| pair[0].priority == pair[1].priority);
            if let Some(pair) = twice {
                return Err(in_use(pair[0].priority));
            }
            tx.put(row.clone());
        }
        Ok(wanted)
    });
    let (set, state, account) = (set.await?, call.state(), call.account());
    let rules = set.keys().map(|arn| {
        let (lb, row, rule) = find::rule(&state, account, arn)?;
        Ok(shown(&state, account, &lb, &row, rule.as_ref()))
    });
    Ok(json!({"Rules": rules.collect::<Result<Vec<_>, Error>>()?}))
}

/// The rules by ARN, checked to be ours to move.
fn wanted(
    tx: &Tx<'_>,
    account: &Account,
    asked: &[Priority],
) -> Result<BTreeMap<String, u32>, Error> {
    let mut wanted = BTreeMap::new();
    for pair in asked {
        let (Some(arn), Some(priority)) = (&pair.rule_arn, pair.priority) else {
            return Err(Error::invalid("A rule ARN and a priority must be specified"));
        };
        self::priority(priority)?;
        let (_, row, rule) = find::rule(tx.state(), account, arn)?;
        if rule.is_none() {
            let message = "The priority of the default rule cannot be changed";
            return Err(Error::new("OperationNotPermittedException", message));
        }
        own(row.owner, "listener", &row.key)?;
        if wanted.insert(arn.clone(), priority).is_some() {
            return Err(Error::invalid(format!("Rule '{arn}' is specified twice")));
        }
    }
    Ok(wanted)
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        rule_arn: String,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    find::change(call, move |tx| {
        let (lb, row, rule) = find::rule(tx.state(), &account, &asked.rule_arn)?;
        let Some(rule) = rule else {
            let message = format!("Default rule '{}' cannot be deleted", asked.rule_arn);
            return Err(Error::new("OperationNotPermittedException", message));
        };
        own(row.owner, "listener", &row.key)?;
        let mut row = Listener::clone(&row);
        row.rules.retain(|known| known.id != rule.id);
        tags::forget(tx, &account.rule(&lb, &row.id, &rule.id));
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}
