//! How tasks were asked to be launched: kept to be shown again, and where it says so acted upon.
//!
//! Constraints and strategies choose an instance; launch types and capacity providers choose
//! between places that are the same here. Not here: AWS's wire shape. **Invariant:** nothing in it
//! changes what a definition runs, but the overrides of a [`Run`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TaskDefinition;

/// The options that a service and a standalone task have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// None: a capacity provider strategy stands in its place, or nobody said.
    pub kind: Option<LaunchType>,
    pub capacity: Vec<CapacityItem>,
    pub platform_version: Option<String>,
    /// Given for definitions of network mode awsvpc.
    pub network: Option<Network>,
    pub constraints: Vec<PlacementConstraint>,
    pub strategies: Vec<PlacementStrategy>,
    /// Where the tasks' tags come from, beside their own.
    pub propagated_tags: Option<TagSource>,
    /// Tasks carry tags that name their cluster and service.
    pub managed_tags: bool,
    /// ECS's `enableExecuteCommand`, as given.
    pub exec: bool,
}

impl Launch {
    /// What they count as: those of capacity providers as these are, and nothing said is EC2.
    #[must_use]
    pub fn launch_type(&self) -> LaunchType {
        let of_providers = || match self.capacity.first() {
            Some(item) if item.is_fargate() => LaunchType::Fargate,
            _ => LaunchType::Ec2,
        };
        self.kind.unwrap_or_else(of_providers)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LaunchType {
    Ec2,
    Fargate,
    External,
}

impl LaunchType {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Fargate => "FARGATE",
            Self::External => "EXTERNAL",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagSource {
    TaskDefinition,
    Service,
}

impl TagSource {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskDefinition => "TASK_DEFINITION",
            Self::Service => "SERVICE",
        }
    }
}

/// One item of a capacity provider strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityItem {
    pub provider: String,
    pub weight: u32,
    pub base: u32,
}

impl CapacityItem {
    /// Of ECS's own providers, as opposed to those of Auto Scaling groups.
    #[must_use]
    pub fn is_fargate(&self) -> bool {
        self.provider.starts_with("FARGATE")
    }
}

/// AWS's names of a network that is the machine's own here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub public_address: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementConstraint {
    pub kind: String,
    pub expression: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementStrategy {
    pub kind: String,
    pub field: Option<String>,
}

/// What a standalone task was asked for with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    pub launch: Launch,
    pub group: String,
    pub started_by: Option<String>,
    /// Calls that carry the same token are the same call.
    pub token: Option<String>,
    /// A digest of what the token was first used with.
    pub asked: Option<String>,
    pub overrides: Overrides,
}

/// What a standalone task changes of its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub task_role_arn: Option<String>,
    pub execution_role_arn: Option<String>,
    pub containers: Vec<ContainerOverride>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOverride {
    pub name: String,
    pub command: Option<Vec<String>>,
    /// Added to the definition's; one of the same name wins.
    pub environment: BTreeMap<String, String>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
}

impl Overrides {
    /// The definition as the task runs it.
    #[must_use]
    pub fn applied(&self, definition: &TaskDefinition) -> TaskDefinition {
        let mut definition = definition.clone();
        definition.cpu = self.cpu.or(definition.cpu);
        definition.memory_mib = self.memory_mib.or(definition.memory_mib);
        for container in &mut definition.containers {
            for wanted in self.containers.iter().filter(|wanted| wanted.name == container.name) {
                if let Some(command) = &wanted.command {
                    container.command.clone_from(command);
                }
                container.environment.extend(wanted.environment.clone());
                container.cpu = wanted.cpu.or(container.cpu);
                container.memory_mib = wanted.memory_mib.or(container.memory_mib);
            }
        }
        definition
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerDefinition;

    #[test]
    fn overrides_change_what_they_name_and_nothing_else() {
        let mut web = ContainerDefinition::new("web");
        web.command = vec!["serve".into()];
        web.environment.insert("A".into(), "1".into());
        web.environment.insert("B".into(), "1".into());
        let definition =
            TaskDefinition::new("f".into(), 1, vec![web, ContainerDefinition::new("side")]);
        let wanted = ContainerOverride {
            name: "web".into(),
            command: Some(vec!["once".into()]),
            environment: BTreeMap::from([("B".into(), "2".into()), ("C".into(), "2".into())]),
            memory_mib: Some(64),
            ..ContainerOverride::default()
        };
        let overrides =
            Overrides { cpu: Some(256), containers: vec![wanted], ..Overrides::default() };
        let applied = overrides.applied(&definition);
        let web = &applied.containers[0];
        let environment: Vec<_> = web.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(environment.join(" "), "A=1 B=2 C=2");
        assert_eq!((applied.cpu, web.memory_mib), (Some(256), Some(64)));
        assert_eq!(web.command, ["once"]);
        assert_eq!(applied.containers[1], definition.containers[1]);
        assert_eq!(Overrides::default().applied(&definition), definition);
    }
}
