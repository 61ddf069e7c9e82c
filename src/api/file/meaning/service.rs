//! Services, and the discovery services that their namespaces make.

use super::super::kind::Kind;
use super::super::names;
use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{SchedulingStrategy, WrittenService, WrittenServiceGroup};
use super::{DEFAULT_CLUSTER, Resources};
use crate::api::ecs::service::configuration::check;
use crate::clock::Timestamp;
use crate::model::{
    Breaker, DiscoveryKey, DiscoveryService, Launch, Owner, RECORD_TTL, Service, ServiceDiscovery,
    ServiceKey, ServiceOptions, ServicePolicy, ServiceStatus, ServiceTargetGroup, TaskDefinition,
    TaskDefinitionKey, Threshold, Transport,
};
use crate::state::State;

/// ECS: tasks of one service.
const MOST_TASKS: u32 = 5000;
/// ECS: target groups of one service.
const MOST_GROUPS: usize = 5;
/// More at once than this during a deployment is a typing error.
const MOST_PERCENT: u32 = 1000;

impl Resources {
    pub(super) fn services(&mut self, written: &[WrittenService], list: &Place) -> Result<(), Bad> {
        for (index, service) in written.iter().enumerate() {
            self.read_service(service, &list.index(index))?;
        }
        Ok(())
    }

    fn read_service(&mut self, written: &WrittenService, at: &Place) -> Result<(), Bad> {
        names::ecs(&written.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        let cluster = written.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER);
        if !self.clusters.iter().any(|known| known.name.as_str() == cluster) {
            return Err(Bad::new(&at.key("cluster"), format!("there is no cluster {cluster:?}")));
        }
        let key = ServiceKey { cluster: cluster.into(), name: written.name.as_str().into() };
        self.claim(Kind::Service.label(&key), &at.key("name"))?;
        let family = written.task_definition.as_str();
        let definition = self.definitions.iter().find(|known| known.family.as_str() == family);
        let definition = definition.cloned().ok_or_else(|| {
            Bad::new(&at.key("task_definition"), format!("there is no task definition {family:?}"))
        })?;
        let desired_count = written.desired_count.unwrap_or(1);
        if desired_count > MOST_TASKS {
            return Err(Bad::new(&at.key("desired_count"), "must be at most 5000"));
        }
        let policy = policy(written, at)?;
        // ECS: of the two numbers that each strategy has of its own.
        let (minimum, maximum) = if policy.daemon { (0, 100) } else { (100, 200) };
        let minimum = written.minimum_healthy_percent.unwrap_or(minimum);
        if minimum > 100 {
            return Err(Bad::new(&at.key("minimum_healthy_percent"), "must be 0 to 100"));
        }
        let maximum = written.maximum_percent.unwrap_or(maximum);
        if !(100..=MOST_PERCENT).contains(&maximum) {
            return Err(Bad::new(&at.key("maximum_percent"), "must be 100 to 1000"));
        }
        let launch = Launch {
            exec: written.enable_execute_command.unwrap_or_default(),
            ..Launch::default()
        };
        let service = Service {
            key,
            definition: TaskDefinitionKey { family: family.into(), revision: 0 },
            desired_count,
            load_balancers: self.service_groups(
                &written.load_balancers,
                &definition,
                &at.key("load_balancers"),
            )?,
            discovery: self.discovery(written, &definition, at)?,
            minimum_healthy_percent: minimum,
            maximum_percent: maximum,
            health_check_grace_period: written.health_check_grace_period.unwrap_or_default().0,
            status: ServiceStatus::Active,
            owner: Owner::File,
            created_at: Timestamp::default(),
            options: ServiceOptions { launch, ..ServiceOptions::default() },
            policy,
        };
        // Rules of one listener that two services write are found when the file is applied.
        check(&service, &State::default()).map_err(|reason| Bad::new(at, reason))?;
        self.services.push(service);
        Ok(())
    }

    fn service_groups(
        &self,
        written: &[WrittenServiceGroup],
        definition: &TaskDefinition,
        list: &Place,
    ) -> Result<Vec<ServiceTargetGroup>, Bad> {
        if written.len() > MOST_GROUPS {
            return Err(Bad::new(list, "must hold at most five target groups"));
        }
        let mut groups: Vec<ServiceTargetGroup> = Vec::new();
        for (index, wanted) in written.iter().enumerate() {
            let at = list.index(index);
            let group = self.group(&wanted.target_group, &at.key("target_group"))?.name.clone();
            container_port(definition, wanted.container_port, &at.key("container_port"))?;
            let pair = self.pair(wanted, &at)?;
            let container_port = wanted.container_port;
            let entry = ServiceTargetGroup { group, container_port, pair };
            if groups.contains(&entry) {
                let reason = format!("target group {} stands here twice", entry.group);
                return Err(Bad::new(&at.key("target_group"), reason));
            }
            groups.push(entry);
        }
        Ok(groups)
    }

    fn discovery(
        &mut self,
        written: &WrittenService,
        definition: &TaskDefinition,
        at: &Place,
    ) -> Result<Option<ServiceDiscovery>, Bad> {
        let Some(namespace) = written.namespace.as_deref() else {
            for (key, there) in [
                ("discovery_name", written.discovery_name.is_some()),
                ("discovery_port", written.discovery_port.is_some()),
            ] {
                if there {
                    return Err(Bad::new(&at.key(key), "needs a namespace"));
                }
            }
            return Ok(None);
        };
        if !self.namespaces.iter().any(|known| known.name.as_str() == namespace) {
            let reason = format!("there is no namespace {namespace:?}");
            return Err(Bad::new(&at.key("namespace"), reason));
        }
        let (name, at_name) = match &written.discovery_name {
            Some(name) => (name.clone(), at.key("discovery_name")),
            None => (written.name.to_ascii_lowercase(), at.key("name")),
        };
        names::dns(&name).map_err(|reason| Bad::new(&at_name, reason))?;
        if let Some(port) = written.discovery_port {
            container_port(definition, port, &at.key("discovery_port"))?;
        }
        let key = DiscoveryKey { namespace: namespace.into(), name: name.as_str().into() };
        self.claim(Kind::DiscoveryService.label(&key), &at_name)?;
        let service = DiscoveryService::new(key.clone(), RECORD_TTL, Owner::File);
        self.discovery_services.push(service);
        Ok(Some(ServiceDiscovery { service: key, container_port: written.discovery_port }))
    }
}

fn policy(written: &WrittenService, at: &Place) -> Result<ServicePolicy, Bad> {
    let daemon = written.scheduling_strategy == Some(SchedulingStrategy::Daemon);
    if daemon && written.desired_count.is_some() {
        let reason = "is not for DAEMON, which runs one task on each container instance";
        return Err(Bad::new(&at.key("desired_count"), reason));
    }
    let mut policy = ServicePolicy { daemon, ..ServicePolicy::default() };
    policy.registration_delay = written.registration_delay.unwrap_or_default().0;
    policy.replaces_unready = written.replace_unready.unwrap_or(policy.replaces_unready);
    policy.strategy = super::strategy::meaning(written, at)?;
    if let Some(breaker) = &written.circuit_breaker {
        let at = at.key("circuit_breaker").key("threshold");
        let threshold = breaker.threshold.as_ref().map(|threshold| {
            Threshold::new(&threshold.kind, threshold.value).ok_or_else(|| {
                let reason = "must be a type of BOUNDED_PERCENT (1 to 100), UNBOUNDED_PERCENT or \
                              COUNT with a value of at least 1";
                Bad::new(&at, reason)
            })
        });
        policy.breaker = Breaker {
            enabled: breaker.enable,
            rollback: breaker.rollback.unwrap_or_default(),
            threshold: threshold.transpose()?,
            resets: breaker.reset_on_healthy_task,
        };
    }
    Ok(policy)
}

fn container_port(definition: &TaskDefinition, port: u16, at: &Place) -> Result<(), Bad> {
    let mut mappings = definition.containers.iter().flat_map(|container| &container.port_mappings);
    if mappings.any(|known| known.container_port == port && known.protocol == Transport::Tcp) {
        return Ok(());
    }
    let family = &definition.family;
    Err(Bad::new(at, format!("no container of task definition {family} has the TCP port {port}")))
}
