//! How tasks are launched, as calls write it and answers show it.
//!
//! Services, standalone tasks and clusters share these shapes. **Invariant:** what is shown is what
//! was given, with ECS's defaults for the rest.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::Error;
use crate::model::{
    CapacityItem, Cluster, Launch, LaunchType, Network, NetworkMode, PlacementConstraint,
    PlacementStrategy, TagSource, TaskDefinition,
};
use crate::orchestrator::placement;

/// The capacity providers that every cluster may name.
pub(super) const PROVIDERS: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];
/// ECS: items of one strategy.
const MOST_ITEMS: usize = 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    capacity_provider: String,
    #[serde(default)]
    weight: u32,
    #[serde(default)]
    base: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkConfiguration {
    awsvpc_configuration: Option<Awsvpc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Awsvpc {
    subnets: Vec<String>,
    #[serde(default)]
    security_groups: Vec<String>,
    assign_public_ip: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Constraint {
    #[serde(rename = "type")]
    kind: Option<String>,
    expression: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Strategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    field: Option<String>,
}

/// Checks a strategy as ECS does. `known` are the providers it may name.
pub(super) fn strategy(items: Vec<Item>, known: &[String]) -> Result<Vec<CapacityItem>, Error> {
    if items.len() > MOST_ITEMS {
        let message = "The capacity provider strategy contains more than 20 capacity providers.";
        return Err(Error::invalid(message));
    }
    for item in &items {
        if !known.contains(&item.capacity_provider) {
            let name = &item.capacity_provider;
            let message = format!(
                "The specified capacity provider {name} is not associated with the cluster."
            );
            return Err(Error::invalid(message));
        }
    }
    if items.iter().filter(|item| item.base > 0).count() > 1 {
        let message = "Only one capacity provider in a strategy can have a base defined.";
        return Err(Error::invalid(message));
    }
    if !items.is_empty() && items.iter().all(|item| item.weight == 0) {
        let message = "At least one capacity provider must have a weight greater than zero.";
        return Err(Error::invalid(message));
    }
    let item = |item: Item| CapacityItem {
        provider: item.capacity_provider,
        weight: item.weight,
        base: item.base,
    };
    let items: Vec<_> = items.into_iter().map(item).collect();
    let fargate = items.iter().filter(|item| item.is_fargate()).count();
    if fargate != 0 && fargate != items.len() {
        let message = "A capacity provider strategy cannot contain a mix of capacity providers \
                       using Auto Scaling groups and Fargate providers.";
        return Err(Error::invalid(message));
    }
    Ok(items)
}

/// How a new service's or task's tasks are launched, when it says so and when it does not.
pub(super) fn place(
    launch: &mut Launch,
    kind: Option<&str>,
    capacity: Option<Vec<Item>>,
    cluster: &Cluster,
) -> Result<(), Error> {
    let capacity = strategy(capacity.unwrap_or_default(), &cluster.providers)?;
    if kind.is_some() && !capacity.is_empty() {
        let message = "Specifying both a launch type and capacity provider strategy is not \
                       supported. Remove one and try again.";
        return Err(Error::invalid(message));
    }
    launch.kind = match kind {
        Some("EC2") => Some(LaunchType::Ec2),
        Some("FARGATE") => Some(LaunchType::Fargate),
        Some("EXTERNAL") => Some(LaunchType::External),
        Some(other) => {
            return Err(Error::unsupported(format!("launchType {other} is not supported here")));
        }
        None if capacity.is_empty() && cluster.default_strategy.is_empty() => Some(LaunchType::Ec2),
        None => None,
    };
    let default = || cluster.default_strategy.clone();
    let none = capacity.is_empty() && launch.kind.is_none();
    launch.capacity = if none { default() } else { capacity };
    Ok(())
}

/// A platform version is Fargate's.
pub(super) fn platform(launch: &mut Launch, version: Option<String>) -> Result<(), Error> {
    let is_fargate = is_fargate(launch);
    if version.is_some() && !is_fargate {
        let message = "The platform version must be null when specifying an EC2 launch type.";
        return Err(Error::invalid(message));
    }
    launch.platform_version = match version {
        Some(version) => Some(version),
        None => is_fargate.then(|| "LATEST".to_owned()),
    };
    Ok(())
}

/// Whether Fargate launches it, by its kind or by a capacity provider.
pub(super) fn is_fargate(launch: &Launch) -> bool {
    launch.kind == Some(LaunchType::Fargate) || !launch.capacity.is_empty()
}

/// The network, which a definition of network mode awsvpc needs and no other takes.
pub(super) fn network(
    written: Option<NetworkConfiguration>,
    definition: &TaskDefinition,
) -> Result<Option<Network>, Error> {
    let is_awsvpc = definition.network_mode == Some(NetworkMode::Awsvpc);
    let Some(written) = written.and_then(|written| written.awsvpc_configuration) else {
        let message =
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.";
        return if is_awsvpc { Err(Error::invalid(message)) } else { Ok(None) };
    };
    if !is_awsvpc {
        let message =
            "Network Configuration is not valid for the given networkMode of this task definition.";
        return Err(Error::invalid(message));
    }
    if written.subnets.is_empty() {
        return Err(Error::invalid("subnets can not be empty."));
    }
    if written.subnets.len() > 16 || written.security_groups.len() > 5 {
        return Err(Error::invalid("at most 16 subnets and 5 security groups can be given"));
    }
    Ok(Some(Network {
        subnets: written.subnets,
        security_groups: written.security_groups,
        public_address: written.assign_public_ip.as_deref() == Some("ENABLED"),
    }))
}

/// Whether a network that was given before fits a definition.
pub(super) fn fits(network: Option<&Network>, definition: &TaskDefinition) -> Result<(), Error> {
    let is_awsvpc = definition.network_mode == Some(NetworkMode::Awsvpc);
    match (network, is_awsvpc) {
        (None, true) => self::network(None, definition).map(|_| ()),
        _ => Ok(()),
    }
}

pub(super) fn constraints(written: Vec<Constraint>) -> Result<Vec<PlacementConstraint>, Error> {
    if written.len() > 10 {
        return Err(Error::invalid("at most 10 placement constraints can be given"));
    }
    let constraint = |written: Constraint| {
        let kind = written.kind.unwrap_or_default();
        let expression = written.expression.filter(|text| !text.is_empty());
        let constraint = PlacementConstraint { kind, expression };
        placement::check_constraint(&constraint).map_err(Error::invalid)?;
        Ok(constraint)
    };
    written.into_iter().map(constraint).collect()
}

pub(super) fn strategies(written: Vec<Strategy>) -> Result<Vec<PlacementStrategy>, Error> {
    if written.len() > 5 {
        return Err(Error::invalid("at most 5 placement strategies can be given"));
    }
    let strategy = |written: Strategy| {
        let kind = written.kind.unwrap_or_default();
        let strategy = PlacementStrategy { kind, field: written.field.filter(|f| !f.is_empty()) };
        placement::check_strategy(&strategy).map_err(Error::invalid)?;
        Ok(strategy)
    };
    written.into_iter().map(strategy).collect()
}

/// `NONE` and nothing are the same.
pub(super) fn tag_source(written: Option<&str>) -> Option<TagSource> {
    match written {
        Some("SERVICE") => Some(TagSource::Service),
        Some("TASK_DEFINITION") => Some(TagSource::TaskDefinition),
        _ => None,
    }
}

pub(super) fn shown_strategy(items: &[CapacityItem]) -> Vec<Value> {
    let item = |item: &CapacityItem| {
        let CapacityItem { provider, weight, base } = item;
        json!({ "capacityProvider": provider, "weight": weight, "base": base })
    };
    items.iter().map(item).collect()
}

/// The members that services, deployments, revisions and tasks share.
pub(super) fn shown(launch: &Launch, all: &mut serde_json::Map<String, Value>) {
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    if launch.capacity.is_empty() {
        put("launchType", launch.launch_type().as_str().into());
    } else {
        put("capacityProviderStrategy", shown_strategy(&launch.capacity).into());
    }
    if let Some(version) = &launch.platform_version {
        put("platformVersion", version.as_str().into());
        put("platformFamily", "Linux".into());
    }
    if let Some(network) = &launch.network {
        put("networkConfiguration", shown_network(network));
    }
}

fn shown_network(network: &Network) -> Value {
    let public = if network.public_address { "ENABLED" } else { "DISABLED" };
    json!({ "awsvpcConfiguration": {
        "subnets": network.subnets,
        "securityGroups": network.security_groups,
        "assignPublicIp": public,
    } })
}

pub(super) fn shown_constraints(all: &[PlacementConstraint]) -> Vec<Value> {
    all.iter().map(|c| json!({ "type": c.kind, "expression": c.expression })).collect()
}

pub(super) fn shown_strategies(all: &[PlacementStrategy]) -> Vec<Value> {
    all.iter().map(|s| json!({ "type": s.kind, "field": s.field })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items as `PROVIDER=BASE:WEIGHT`.
    fn check(text: &str, expected: Result<usize, &str>) {
        let item = |word: &str| {
            let (name, numbers) = word.split_once('=').unwrap();
            let (base, weight) = numbers.split_once(':').unwrap();
            let (base, weight) = (base.parse().unwrap(), weight.parse().unwrap());
            Item { capacity_provider: name.to_owned(), weight, base }
        };
        let known = PROVIDERS.map(str::to_owned);
        let outcome = strategy(text.split_whitespace().map(item).collect(), &known);
        let outcome = outcome.map(|items| items.len()).map_err(|error| error.to_string());
        assert_eq!(outcome.as_ref().map(|n| *n).map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn strategies_have_one_base_and_some_weight() {
        check("", Ok(0));
        check("FARGATE=1:1 FARGATE_SPOT=0:4", Ok(2));
        let weight = "At least one capacity provider must have a weight greater than zero.";
        check("FARGATE=1:0", Err(weight));
        let base = "Only one capacity provider in a strategy can have a base defined.";
        check("FARGATE=1:1 FARGATE_SPOT=1:1", Err(base));
        let unknown = "The specified capacity provider mine is not associated with the cluster.";
        check("mine=0:1", Err(unknown));
    }
}
