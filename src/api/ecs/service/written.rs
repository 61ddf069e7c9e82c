//! What `CreateService` and `UpdateService` ask for, and what it makes of a service's row.
//!
//! Both write the same members; the model says which of them an operation has. **Invariant:** a
//! member that was not given changes nothing.

use std::time::Duration;

use serde::Deserialize;

use super::configuration::{self, AdvancedConfiguration, DeploymentConfiguration};
use crate::api::ecs::launch::{self, Constraint, Item, NetworkConfiguration, Strategy};
use crate::api::ecs::names;
use crate::api::elb;
use crate::api::error::Error;
use crate::api::tags::Tag;
use crate::model::{
    Account, Cluster, LaunchType, Service, ServiceDiscovery, ServiceTargetGroup, TaskDefinition,
    Transport,
};
use crate::state::State;

/// ECS: tasks of one service.
const MOST_TASKS: i64 = 5000;
/// ECS: target groups of one service.
const MOST_GROUPS: usize = 5;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    pub(super) cluster: Option<String>,
    /// Of `CreateService`.
    #[serde(default)]
    pub(super) service_name: String,
    /// Of `UpdateService`.
    #[serde(default)]
    pub(super) service: String,
    pub(super) task_definition: Option<String>,
    pub(super) desired_count: Option<i64>,
    pub(super) client_token: Option<String>,
    pub(super) tags: Option<Vec<Tag>>,
    pub(super) force_new_deployment: Option<bool>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Vec<Item>>,
    platform_version: Option<String>,
    role: Option<String>,
    deployment_configuration: Option<DeploymentConfiguration>,
    placement_constraints: Option<Vec<Constraint>>,
    placement_strategy: Option<Vec<Strategy>>,
    network_configuration: Option<NetworkConfiguration>,
    health_check_grace_period_seconds: Option<u64>,
    scheduling_strategy: Option<String>,
    deployment_controller: Option<Controller>,
    #[serde(rename = "enableECSManagedTags")]
    enable_ecs_managed_tags: Option<bool>,
    propagate_tags: Option<String>,
    enable_execute_command: Option<bool>,
    service_connect_configuration: Option<ServiceConnect>,
    load_balancers: Option<Vec<LoadBalancer>>,
    service_registries: Option<Vec<Registry>>,
    availability_zone_rebalancing: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Controller {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct ServiceConnect {
    enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancer {
    target_group_arn: Option<String>,
    load_balancer_name: Option<String>,
    container_name: Option<String>,
    container_port: Option<u16>,
    advanced_configuration: Option<AdvancedConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registry {
    registry_arn: Option<String>,
    port: Option<u16>,
    container_name: Option<String>,
    container_port: Option<u16>,
}

impl Asked {
    /// Whether it asks for no more than may be changed of a service of the configuration file.
    pub(super) fn is_count_alone(&self) -> bool {
        let given = [
            self.task_definition.is_some(),
            self.capacity_provider_strategy.is_some(),
            self.platform_version.is_some(),
            self.deployment_configuration.is_some(),
            self.placement_constraints.is_some(),
            self.placement_strategy.is_some(),
            self.network_configuration.is_some(),
            self.health_check_grace_period_seconds.is_some(),
            self.enable_ecs_managed_tags.is_some(),
            self.propagate_tags.is_some(),
            self.enable_execute_command.is_some(),
            self.load_balancers.is_some(),
            self.service_registries.is_some(),
            self.availability_zone_rebalancing.is_some(),
        ];
        !given.contains(&true)
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.scheduling_strategy.as_deref() == Some("DAEMON")
    }

    /// Refuses what the orchestrator does not do.
    pub(super) fn refuse(&self) -> Result<(), Error> {
        let refused = |what: &str| Err(Error::unsupported(format!("{what} is not supported here")));
        if let Some(controller) = self.deployment_controller.as_ref().filter(|c| c.kind != "ECS") {
            return refused(&format!("deploymentController {}", controller.kind));
        }
        if self.service_connect_configuration.as_ref().is_some_and(|connect| connect.enabled) {
            return refused("serviceConnectConfiguration");
        }
        Ok(())
    }

    /// Writes what was given into `service`, whose cluster and definition are these.
    pub(super) fn write(
        mut self,
        service: &mut Service,
        is_new: bool,
        (account, state, cluster, definition): (&Account, &State, &Cluster, &TaskDefinition),
    ) -> Result<(), Error> {
        service.definition = definition.key();
        if is_new && self.is_daemon() {
            service.policy.daemon = true;
            service.desired_count = 1;
            (service.minimum_healthy_percent, service.maximum_percent) = (0, 100);
        }
        if let Some(count) = self.desired_count {
            if service.policy.daemon {
                let message = "The daemon scheduling strategy does not support a desired count for \
                               services. Remove the desired count value and try again";
                return Err(Error::invalid(message));
            }
            service.desired_count = count_of(count)?;
        }
        if let Some(written) = &self.deployment_configuration {
            written.write(service, state)?;
        }
        if let Some(written) = self.load_balancers.take() {
            service.load_balancers = groups(written, account, state, definition)?;
        }
        if let Some(written) = self.service_registries.take() {
            registry(written, service, (account, state), definition)?;
        }
        mapped(service, definition)?;
        configuration::check(service, state).map_err(Error::invalid)?;
        if let Some(seconds) = self.health_check_grace_period_seconds {
            if service.load_balancers.is_empty() {
                let message = "Health check grace period is only valid for services configured to \
                               use load balancers";
                return Err(Error::invalid(message));
            }
            service.health_check_grace_period = Duration::from_secs(seconds);
        }
        self.write_options(service, is_new, cluster, definition)
    }

    /// What does not change which tasks there should be, but how and where they run.
    fn write_options(
        self,
        service: &mut Service,
        is_new: bool,
        cluster: &Cluster,
        definition: &TaskDefinition,
    ) -> Result<(), Error> {
        let options = &mut service.options;
        let launch = &mut options.launch;
        let before = launch::is_fargate(launch);
        if is_new || self.capacity_provider_strategy.is_some() {
            let kind = self.launch_type.as_deref();
            launch::place(launch, kind, self.capacity_provider_strategy, cluster)?;
        }
        let moved = launch::is_fargate(launch) != before;
        if is_new || moved || self.platform_version.is_some() {
            launch::platform(launch, self.platform_version)?;
        }
        if is_new || self.network_configuration.is_some() {
            launch.network = launch::network(self.network_configuration, definition)?;
        } else {
            launch::fits(launch.network.as_ref(), definition)?;
        }
        if let Some(written) = self.placement_constraints {
            launch.constraints = launch::constraints(written)?;
        }
        if let Some(written) = self.placement_strategy {
            launch.strategies = launch::strategies(written)?;
        }
        if service.policy.daemon && !launch.strategies.is_empty() {
            let message = "The daemon scheduling strategy does not support placement strategies.";
            return Err(Error::invalid(message));
        }
        if service.policy.daemon && launch.launch_type() == LaunchType::Fargate {
            let message = "Tasks using the Fargate launch type do not support the DAEMON \
                           scheduling strategy.";
            return Err(Error::invalid(message));
        }
        if let Some(written) = self.propagate_tags {
            launch.propagated_tags = launch::tag_source(Some(&written));
        }
        launch.managed_tags = self.enable_ecs_managed_tags.unwrap_or(launch.managed_tags);
        launch.exec = self.enable_execute_command.unwrap_or(launch.exec);
        options.forced += u64::from(self.force_new_deployment.unwrap_or_default());
        options.role = self.role.or_else(|| options.role.take());
        options.token = self.client_token.or_else(|| options.token.take());
        match self.availability_zone_rebalancing.as_deref() {
            Some(written) => options.rebalancing = written == "ENABLED",
            // ECS: on wherever it can be.
            None if is_new => options.rebalancing = service.maximum_percent > 100,
            None => {}
        }
        Ok(())
    }
}

fn count_of(count: i64) -> Result<u32, Error> {
    if count > MOST_TASKS {
        return Err(Error::invalid("desiredCount cannot be larger than 5000."));
    }
    u32::try_from(count).map_err(|_| Error::invalid("desiredCount cannot be less than 0."))
}

/// Ports that were given before have to be there in another definition too.
fn mapped(service: &Service, definition: &TaskDefinition) -> Result<(), Error> {
    let groups = service.load_balancers.iter().map(|lb| lb.container_port);
    let registry = service.discovery.as_ref().and_then(|discovery| discovery.container_port);
    let mut ports = groups.chain(registry.filter(|_| !service.options.registry_port));
    let maps = |port: u16| {
        let mut all = definition.containers.iter().flat_map(|c| &c.port_mappings);
        all.any(|p| p.protocol == Transport::Tcp && p.ports().contains(&port))
    };
    ports.find(|port| !maps(*port)).map_or(Ok(()), |port| {
        let family = &definition.family;
        let message = format!("No container of {family} has the container port {port} defined.");
        Err(Error::invalid(message))
    })
}

/// A container's TCP port, as ECS checks it.
fn port(definition: &TaskDefinition, name: Option<&str>, port: Option<u16>) -> Result<u16, Error> {
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Error::invalid("Container name should not be null or empty."))?;
    let port = port.ok_or_else(|| Error::invalid("Container port should not be null or empty."))?;
    let container = definition.container(name).ok_or_else(|| {
        Error::invalid(format!("The container {name} does not exist in the task definition."))
    })?;
    let maps = |container: &crate::model::ContainerDefinition| {
        let mut tcp = container.port_mappings.iter().filter(|p| p.protocol == Transport::Tcp);
        tcp.any(|mapping| mapping.ports().contains(&port))
    };
    if !maps(container) {
        let message = format!("The container {name} did not have a container port {port} defined.");
        return Err(Error::invalid(message));
    }
    if definition.containers.iter().find(|c| maps(c)).is_some_and(|first| first.name != name) {
        let message = format!("container port {port} of two containers is not supported here");
        return Err(Error::unsupported(message));
    }
    Ok(port)
}

fn groups(
    written: Vec<LoadBalancer>,
    account: &Account,
    state: &State,
    definition: &TaskDefinition,
) -> Result<Vec<ServiceTargetGroup>, Error> {
    if written.len() > MOST_GROUPS {
        return Err(Error::invalid("load balancers can have at most 5 items."));
    }
    let mut groups: Vec<ServiceTargetGroup> = Vec::new();
    for wanted in written {
        if wanted.load_balancer_name.is_some_and(|name| !name.is_empty()) {
            let message = "loadBalancers.loadBalancerName (a Classic Load Balancer) is not \
                           supported here; name a target group";
            return Err(Error::unsupported(message));
        }
        let arn = wanted.target_group_arn.unwrap_or_default();
        if arn.is_empty() {
            return Err(Error::invalid("targetGroupArn should not be null or empty."));
        }
        let group = elb::target_group(state, account, &arn).ok();
        let group = group.ok_or_else(|| {
            Error::invalid(format!("The specified target group does not exist: {arn}"))
        })?;
        let port = port(definition, wanted.container_name.as_deref(), wanted.container_port)?;
        let pair = wanted.advanced_configuration;
        let pair = pair.map(|pair| pair.meaning(account, state)).transpose()?;
        let (group, container_port) = (group.name.clone(), port);
        let entry = ServiceTargetGroup { group, container_port, pair };
        if groups.contains(&entry) {
            return Err(Error::invalid(format!("the target group {arn} is given twice")));
        }
        groups.push(entry);
    }
    Ok(groups)
}

fn registry(
    mut written: Vec<Registry>,
    service: &mut Service,
    (account, state): (&Account, &State),
    definition: &TaskDefinition,
) -> Result<(), Error> {
    service.options.registry_port = false;
    let Some(wanted) = written.pop() else {
        service.discovery = None;
        return Ok(());
    };
    if !written.is_empty() {
        return Err(Error::invalid("service registries can have at most 1 items."));
    }
    let arn = wanted.registry_arn.unwrap_or_default();
    let key = names::registry(account, state, &arn);
    let key = key.ok_or_else(|| {
        Error::invalid(format!("The specified service registry does not exist: {arn}"))
    })?;
    let port = match (wanted.port, wanted.container_name, wanted.container_port) {
        (None, None, None) => None,
        (Some(port), None, None) => {
            service.options.registry_port = true;
            Some(port)
        }
        (None, name, number) => Some(port(definition, name.as_deref(), number)?),
        (Some(_), ..) => {
            let message = "a service registry has either a port or a container's name and port";
            return Err(Error::invalid(message));
        }
    };
    service.discovery = Some(ServiceDiscovery { service: key, container_port: port });
    Ok(())
}
