//! How calls name resources: by a short name or by an ARN.
//!
//! Not here: whether such a resource exists. **Invariant:** an ARN of another account, region or
//! kind never names anything.

use crate::api::call::Call;
use crate::api::error::Error;
use crate::api::page::{self, BadToken};
use crate::model::{
    Account, Arn, ClusterName, DeploymentId, DiscoveryKey, Family, Namespace, NamespaceName, Owner,
    ServiceKey, TaskDefinition, TaskDefinitionKey, TaskId,
};
use crate::state::State;

/// The cluster of calls that name none.
const DEFAULT: &str = "default";

/// A resource as it was named: what stands behind `KIND/` of its ARN, or the short name.
struct Named<'a> {
    path: &'a str,
    is_arn: bool,
}

fn named<'a>(account: &Account, kind: &str, text: &'a str) -> Result<Named<'a>, Error> {
    if !text.starts_with("arn:") {
        return Ok(Named { path: text, is_arn: false });
    }
    let bad = || Error::invalid(format!("Invalid identifier: {text}"));
    let arn: Arn = text.parse().map_err(|_| bad())?;
    if arn.service != "ecs" || arn.region != account.region || arn.account != account.id {
        return Err(bad());
    }
    let path = &text[text.len() - arn.resource.len()..];
    let path = path.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/')).ok_or_else(bad)?;
    Ok(Named { path, is_arn: true })
}

/// The cluster that is meant; none given: the default one.
pub(super) fn cluster(call: &Call, text: Option<&str>) -> Result<ClusterName, Error> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
    let named = named(call.account(), "cluster", text)?;
    Ok(ClusterName::within(call.place(), named.path))
}

/// The cluster that is meant, which exists.
pub(super) fn known_cluster(call: &Call, text: Option<&str>) -> Result<ClusterName, Error> {
    let name = cluster(call, text)?;
    if call.state().clusters.contains_key(&name) { Ok(name) } else { Err(no_cluster()) }
}

pub(super) fn no_cluster() -> Error {
    Error::new("ClusterNotFoundException", "Cluster not found.")
}

/// What a part of a cluster is called: `NAME`, `CLUSTER/NAME` in an ARN, or a short ARN's `NAME`.
fn inside<'a>(call: &Call, kind: &str, cluster: &str, text: &'a str) -> Result<&'a str, Error> {
    let named = named(call.account(), kind, text)?;
    match named.path.split_once('/') {
        Some((own, name)) if named.is_arn => {
            if own == cluster {
                return Ok(name);
            }
            let message = format!("Identifier is for cluster {own}. Your cluster is {cluster}");
            Err(Error::invalid(message))
        }
        _ => Ok(named.path),
    }
}

pub(super) fn service(call: &Call, cluster: &ClusterName, text: &str) -> Result<ServiceKey, Error> {
    let name = inside(call, "service", cluster.as_str(), text)?;
    Ok(ServiceKey { cluster: cluster.clone(), name: name.into() })
}

pub(super) fn task(call: &Call, cluster: &ClusterName, text: &str) -> Result<TaskId, Error> {
    inside(call, "task", cluster.as_str(), text).map(Into::into)
}

/// A container instance's id.
pub(super) fn instance<'a>(
    call: &Call,
    cluster: &ClusterName,
    text: &'a str,
) -> Result<&'a str, Error> {
    inside(call, "container-instance", cluster.as_str(), text)
}

/// `FAMILY:REVISION`, or `FAMILY` for its newest ACTIVE revision; by name or ARN. None: there is
/// no such definition.
pub(super) fn definition<'a>(
    account: &Account,
    state: &'a State,
    text: &str,
) -> Result<Option<&'a TaskDefinition>, Error> {
    let path = named(account, "task-definition", text)?.path;
    let key = match path.split_once(':') {
        Some((family, revision)) => {
            let revision = revision.parse().map_err(|_| {
                Error::invalid(format!("Invalid revision number. Number: {revision}"))
            })?;
            TaskDefinitionKey { family: Family::within(account.place(), family), revision }
        }
        None => match newest(state, account, path) {
            Some(newest) => return Ok(Some(newest)),
            None => return Ok(None),
        },
    };
    Ok(state.definitions.get(&key).map(AsRef::as_ref))
}

/// A family's newest ACTIVE revision.
pub(in crate::api) fn newest<'a>(
    state: &'a State,
    account: &Account,
    family: &str,
) -> Option<&'a TaskDefinition> {
    let family = Family::within(account.place(), family);
    let key = |revision| TaskDefinitionKey { family: family.clone(), revision };
    let revisions = state.definitions.range(key(0)..=key(u32::MAX)).rev();
    let active =
        |definition: &&TaskDefinition| definition.status == crate::model::DefinitionStatus::Active;
    revisions.map(|(_, definition)| definition.as_ref()).find(active)
}

/// The definition that something new is to run.
pub(super) fn runnable<'a>(
    account: &Account,
    state: &'a State,
    text: &str,
) -> Result<&'a TaskDefinition, Error> {
    let found = definition(account, state, text)?;
    let found = found.ok_or_else(|| Error::new("ClientException", "TaskDefinition not found."))?;
    if found.status == crate::model::DefinitionStatus::Active {
        Ok(found)
    } else {
        Err(Error::new("ClientException", "TaskDefinition is inactive"))
    }
}

/// The service deployment and the service revision that a deployment is; both have its number.
pub(super) fn of_deployment(
    account: &Account,
    service: &ServiceKey,
    id: &DeploymentId,
) -> (String, String) {
    let (deployment, revision) = account.deployment(service, id);
    (deployment.to_string(), revision.to_string())
}

/// Refuses to change what the configuration file owns.
pub(super) fn changeable(owner: Owner, what: impl std::fmt::Display) -> Result<(), Error> {
    match owner {
        Owner::Api => Ok(()),
        Owner::File => Err(Error::invalid(format!(
            "{what} belongs to the configuration file; change it there"
        ))),
    }
}

/// The discovery service of that ARN.
pub(super) fn registry(account: &Account, state: &State, arn: &str) -> Option<DiscoveryKey> {
    let mut all = state.discovery_services.values();
    let found = all.find(|service| {
        service.key.namespace.region() == account.place()
            && account.discovery_service(service).to_string() == arn
    });
    found.map(|service| service.key.clone())
}

pub(super) fn registry_arn(account: &Account, state: &State, key: &DiscoveryKey) -> Option<String> {
    let service = state.discovery_services.get(key)?;
    Some(account.discovery_service(service).to_string())
}

/// Whether there is a namespace of that name or ARN.
pub(super) fn is_namespace(account: &Account, state: &State, text: &str) -> bool {
    let arn = |row: &Namespace| {
        row.name.region() == account.place() && account.namespace(row).to_string() == text
    };
    let name = NamespaceName::within(account.place(), text);
    state.namespaces.contains_key(&name) || state.namespaces.values().any(|row| arn(row))
}

/// A page of a listing; ECS gives at most a hundred items, and `otherwise` when nobody says.
pub(super) fn page<T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
    token: Option<&str>,
    most: Option<i64>,
    otherwise: usize,
) -> Result<(Vec<T>, Option<String>), Error> {
    let limit = match most {
        None => otherwise,
        Some(most) => usize::try_from(most)
            .ok()
            .filter(|n| (1..=100).contains(n))
            .ok_or_else(|| Error::invalid("maxResults must be between 1 and 100"))?,
    };
    page::page(items, key, token, limit).map_err(|BadToken| Error::invalid("Invalid token"))
}

/// An entry of `failures[]`.
pub(super) fn failure(arn: impl ToString, reason: &str) -> serde_json::Value {
    serde_json::json!({ "arn": arn.to_string(), "reason": reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_others_name_nothing_here() {
        let account = Account::new("local", "000000000000");
        let check = |text: &str, expected: Option<&str>| {
            let found = named(&account, "cluster", text).ok().map(|named| named.path.to_owned());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("web", Some("web"));
        check("arn:aws:ecs:local:000000000000:cluster/web", Some("web"));
        check("arn:aws:ecs:local:000000000001:cluster/web", None);
        check("arn:aws:ecs:eu-west-1:000000000000:cluster/web", None);
        check("arn:aws:ecs:local:000000000000:service/web", None);
        check("arn:aws:elb:local:000000000000:cluster/web", None);
        check("arn:aws:ecs", None);
    }
}
