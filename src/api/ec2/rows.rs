//! The rows there are, and the defaults that have none: finding and listing them, whatever they
//! are.
//!
//! **Invariant:** a row hides the default of its id.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::super::call::{Call, Outcome};
use super::super::error::Error;
use super::super::tags;
use super::filter::{Filter, Subject, matches};
use super::{DEFAULT_GROUP, arn, default_id, paged, security_group, subnet, vpc};
use crate::model::{Account, Ec2Id, Ec2Resource};
use crate::state::State;

/// All of them, the defaults first.
pub(super) fn all(state: &State, account: &Account) -> impl Iterator<Item = Arc<Ec2Resource>> {
    let bare = defaults(account).filter(|resource| !state.ec2.contains_key(resource.id()));
    let own = state.ec2.values().filter(|row| row.region() == account.place());
    bare.map(Arc::new).chain(own.cloned())
}

pub(super) fn get(state: &State, account: &Account, id: &str) -> Option<Arc<Ec2Resource>> {
    let row = state.ec2.get(&Ec2Id::from(id)).filter(|row| row.region() == account.place());
    let row = row.cloned();
    row.or_else(|| defaults(account).find(|resource| resource.id().as_str() == id).map(Arc::new))
}

/// One of a kind, to be changed.
///
/// # Errors
/// What `missing` says.
pub(super) fn find<T: Clone>(
    state: &State,
    account: &Account,
    id: &str,
    of: fn(&Ec2Resource) -> Option<&T>,
    missing: fn(&str) -> Error,
) -> Result<T, Error> {
    get(state, account, id).as_deref().and_then(of).cloned().ok_or_else(|| missing(id))
}

/// The default VPC, its subnets, and its group.
fn defaults(account: &Account) -> impl Iterator<Item = Ec2Resource> + use<> {
    let vpc = vpc::default(account);
    let group = security_group::default(&vpc, default_id(account, DEFAULT_GROUP));
    let subnets = subnet::defaults(account).into_iter().map(Ec2Resource::Subnet);
    [Ec2Resource::SecurityGroup(group), Ec2Resource::Vpc(vpc)].into_iter().chain(subnets)
}

/// What every listing is asked with, whatever it names its ids.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    #[serde(default, alias = "VpcIds", alias = "SubnetIds", alias = "GroupIds")]
    ids: Vec<String>,
    /// Of security groups alone.
    #[serde(default, alias = "GroupNames")]
    names: Vec<String>,
    #[serde(default)]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// One kind of resource, as a listing shows it.
pub(super) struct Kind<T> {
    /// The answer's member.
    pub(super) member: &'static str,
    pub(super) of: fn(&Ec2Resource) -> Option<&T>,
    pub(super) missing: fn(&str) -> Error,
    /// Not the same for two of them, in one VPC at least; none: such resources have no names.
    pub(super) name: fn(&T) -> Option<&str>,
    /// What the filters' names stand for.
    pub(super) attributes: fn(&Account, &T) -> Vec<(&'static str, String)>,
    pub(super) shown: fn(&Call, &State, &T) -> Value,
}

/// Those of a kind that were named and that match, by their ids.
///
/// # Errors
/// One that is named and not there; a filter or a token that is none.
pub(super) fn list<T>(call: &Call, asked: &Listing, kind: &Kind<T>) -> Outcome {
    let (state, account) = (call.state(), call.account());
    let rows: BTreeMap<Ec2Id, Arc<Ec2Resource>> = all(&state, account)
        .filter(|row| (kind.of)(row).is_some())
        .map(|row| (row.id().clone(), row))
        .collect();
    let name = |row: &Arc<Ec2Resource>| (kind.of)(row).and_then(kind.name).map(str::to_owned);
    for id in &asked.ids {
        if !rows.contains_key(&Ec2Id::from(id.as_str())) {
            return Err((kind.missing)(id));
        }
    }
    for wanted in &asked.names {
        if !rows.values().any(|row| name(row).as_ref() == Some(wanted)) {
            return Err((kind.missing)(wanted));
        }
    }
    let mut found = Vec::new();
    for (id, row) in &rows {
        let Some(resource) = (kind.of)(row) else { continue };
        let named = asked.ids.is_empty() && asked.names.is_empty()
            || asked.ids.iter().any(|own| own == id.as_str())
            || name(row).is_some_and(|name| asked.names.contains(&name));
        let subject = Subject {
            attributes: (kind.attributes)(account, resource),
            tags: tags::of(&state, &arn(account, id.as_str())),
        };
        if matches(&asked.filters, &subject)? && named {
            found.push((id.to_string(), (kind.shown)(call, &state, resource)));
        }
    }
    paged(kind.member, found, asked.next_token.as_deref(), asked.max_results)
}
