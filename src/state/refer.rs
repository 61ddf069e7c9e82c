//! The referential rules: what a row may name, and what may not go while it is named.
//!
//! Checked for every row a commit touches, against the State as it would be afterwards.
//! **Invariant:** a refused commit changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Desired, Listener, Namespace, NamespaceKind, Owner, Protocol, Service, Task, TaskDefinitionKey,
    label,
};

use super::{Key, Row, State};

/// A commit that would leave a reference without its other end, or turn a task back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{of} names {missing}, which does not exist")]
    Missing { of: String, missing: String },
    #[error("{what} is in use by {by}")]
    InUse { what: String, by: String },
    #[error("{what} listens on {address} already")]
    DuplicateListener { what: String, address: String },
    #[error("task {task} would go back from {from} to {to}")]
    Backwards { task: String, from: &'static str, to: &'static str },
    #[error("{what}: {why}")]
    Invalid { what: String, why: String },
}

/// Checks what the touched rows have become; `touched` holds each as it was before.
pub(super) fn check(after: &State, touched: &BTreeMap<Key, Option<Row>>) -> Result<(), Refused> {
    touched.iter().try_for_each(|(key, before)| match after.get(key) {
        Some(row) => check_put(before.as_ref(), after, &row),
        None => check_removed(after, key),
    })
}

fn missing(of: impl Into<String>, missing: impl std::fmt::Display) -> Refused {
    Refused::Missing { of: of.into(), missing: missing.to_string() }
}

fn check_put(before: Option<&Row>, after: &State, row: &Row) -> Result<(), Refused> {
    match row {
        Row::Listener(listener) => check_listener(after, listener),
        // What a listener was checked against may change under it.
        Row::LoadBalancer(lb) => {
            let listeners = after.listeners.values().filter(|l| l.key.load_balancer == lb.name);
            listeners.into_iter().try_for_each(|listener| check_listener(after, listener))
        }
        Row::TargetGroup(group) => {
            let names = |l: &Listener| l.groups().any(|name| *name == group.name);
            let mut listeners = after.listeners.values().filter(|listener| names(listener));
            listeners.try_for_each(|listener| check_listener(after, listener))
        }
        Row::Service(service) => check_service(after, service),
        Row::Task(task) => check_task(before, after, task),
        Row::Target(target) if !after.target_groups.contains_key(&target.group) => {
            Err(missing(format!("target {}", target.id), format!("target group {}", target.group)))
        }
        Row::Namespace(namespace) => check_namespace(after, namespace),
        Row::DiscoveryService(service)
            if !after.namespaces.contains_key(&service.key.namespace) =>
        {
            Err(missing(
                format!("discovery service {}", service.key),
                format!("namespace {}", service.key.namespace),
            ))
        }
        Row::DiscoveryInstance(instance)
            if !after.discovery_services.contains_key(&instance.key.service) =>
        {
            Err(missing(
                format!("instance {}", instance.key),
                format!("discovery service {}", instance.key.service),
            ))
        }
        Row::RecordSet(set) if !after.hosted_zones.contains_key(&set.key.zone) => {
            Err(missing(format!("record set {}", set.key), format!("hosted zone {}", set.key.zone)))
        }
        Row::NameStatus(status) if !after.name_checks.contains_key(&status.check) => {
            Err(missing("status", format!("health check {}", status.check)))
        }
        Row::ScalableTarget(target) if !after.services.contains_key(&target.service) => {
            Err(missing("scalable target", format!("service {}", target.service)))
        }
        Row::ScalingPolicy(policy) if !after.scalable_targets.contains_key(&policy.key.service) => {
            Err(missing(
                format!("scaling policy {}", policy.key),
                format!("scalable target {}", policy.key.service),
            ))
        }
        Row::ScheduledAction(action)
            if !after.scalable_targets.contains_key(&action.key.service) =>
        {
            Err(missing(
                format!("scheduled action {}", action.key),
                format!("scalable target {}", action.key.service),
            ))
        }
        Row::Verdict(verdict) if !after.targets.contains_key(&verdict.target) => {
            Err(missing("verdict", format!("target {}", verdict.target)))
        }
        _ => Ok(()),
    }
}

/// One name of DNS is one namespace's, in whatever region.
fn check_namespace(after: &State, namespace: &Namespace) -> Result<(), Refused> {
    let is_dns = |row: &Namespace| row.kind == NamespaceKind::PrivateDns;
    let name = namespace.name.as_str();
    let twin = after.namespaces.values().find(|row| {
        row.name.region() != namespace.name.region()
            && is_dns(row)
            && row.name.as_str().eq_ignore_ascii_case(name)
    });
    match twin.filter(|_| is_dns(namespace)) {
        None => Ok(()),
        Some(twin) => Err(Refused::Invalid {
            what: format!("namespace {}", label(&namespace.name)),
            why: format!("DNS answers its name for namespace {}", label(&twin.name)),
        }),
    }
}

fn check_listener(after: &State, listener: &Listener) -> Result<(), Refused> {
    let name = || format!("listener {}", listener.key);
    let Some(lb) = after.load_balancers.get(&listener.key.load_balancer) else {
        return Err(missing(name(), format!("load balancer {}", listener.key.load_balancer)));
    };
    for group in listener.groups() {
        let Some(target_group) = after.target_groups.get(group) else {
            return Err(missing(name(), format!("target group {group}")));
        };
        if !listener.protocol.forwards_to(target_group.protocol) {
            let (theirs, ours) = (target_group.protocol.as_str(), listener.protocol.as_str());
            let why = format!("it speaks {ours}, but its target group {group} speaks {theirs}");
            return Err(Refused::Invalid { what: name(), why });
        }
    }
    let checks = listener.authentications().any(|own| own.is_some());
    if checks && listener.protocol != Protocol::Https {
        let why = "clients are authenticated over HTTPS alone".to_owned();
        return Err(Refused::Invalid { what: name(), why });
    }
    check_tls(after, listener)?;
    let twin = after.listeners.values().find(|other| {
        other.key != listener.key
            && other.key.port == listener.key.port
            && listener.key.port != 0
            && after.load_balancers.get(&other.key.load_balancer).map(|o| o.address)
                == Some(lb.address)
    });
    twin.map_or(Ok(()), |twin| {
        Err(Refused::DuplicateListener {
            what: format!("listener {}", twin.key),
            address: std::net::SocketAddr::new(lb.address, listener.key.port).to_string(),
        })
    })
}

/// A listener has a TLS side exactly when its protocol does, and every certificate is there.
fn check_tls(after: &State, listener: &Listener) -> Result<(), Refused> {
    let name = || format!("listener {}", listener.key);
    match (&listener.options.tls, listener.protocol.is_secure()) {
        (Some(tls), true) if !tls.certificates.is_empty() => {
            if let Some(store) = tls.mutual.store()
                && !after.trust_stores.contains_key(store)
            {
                return Err(missing(name(), format!("trust store {store}")));
            }
            let absent = tls.certificates.iter().find(|arn| !after.certificates.contains_key(*arn));
            absent.map_or(Ok(()), |arn| Err(missing(name(), format!("certificate {arn}"))))
        }
        (_, true) => {
            Err(Refused::Invalid { what: name(), why: "it needs a certificate".to_owned() })
        }
        (Some(_), false) => {
            let why = format!("{} has no certificates", listener.protocol.as_str());
            Err(Refused::Invalid { what: name(), why })
        }
        (None, false) => Ok(()),
    }
}

fn check_service(after: &State, service: &Service) -> Result<(), Refused> {
    let name = || format!("service {}", service.key);
    if !after.clusters.contains_key(&service.key.cluster) {
        return Err(missing(name(), format!("cluster {}", service.key.cluster)));
    }
    if !after.definitions.contains_key(&service.definition) {
        return Err(missing(name(), format!("task definition {}", service.definition)));
    }
    let mut groups = service.load_balancers.iter().flat_map(|lb| lb.groups());
    if let Some(group) = groups.find(|group| !after.target_groups.contains_key(*group)) {
        return Err(missing(name(), format!("target group {group}")));
    }
    match &service.discovery {
        Some(discovery) if !after.discovery_services.contains_key(&discovery.service) => {
            Err(missing(name(), format!("discovery service {}", discovery.service)))
        }
        _ => Ok(()),
    }
}

fn check_task(before: Option<&Row>, after: &State, task: &Task) -> Result<(), Refused> {
    if let Some(Row::Task(old)) = before {
        let revived = old.desired == Desired::Stopped && task.desired == Desired::Running;
        if task.known < old.known || revived {
            return Err(Refused::Backwards {
                task: task.id.to_string(),
                from: old.known.as_str(),
                to: task.known.as_str(),
            });
        }
    }
    if after.definitions.contains_key(&task.definition) {
        Ok(())
    } else {
        Err(missing(format!("task {}", task.id), format!("task definition {}", task.definition)))
    }
}

fn in_use(what: impl std::fmt::Display, by: Option<String>) -> Result<(), Refused> {
    by.map_or(Ok(()), |by| Err(Refused::InUse { what: what.to_string(), by }))
}

/// `(file)` or `(API)`: whoever reads the refusal knows where to change it.
fn owner(owner: Owner) -> &'static str {
    match owner {
        Owner::File => "file",
        Owner::Api => "API",
    }
}

fn named(listener: &Arc<Listener>) -> String {
    format!("listener {} ({})", listener.key, owner(listener.owner))
}

fn check_definition_removed(after: &State, key: &TaskDefinitionKey) -> Result<(), Refused> {
    let service = after.services.values().find(|s| &s.definition == key);
    let task = after.tasks.values().find(|task| &task.definition == key);
    in_use(
        format!("task definition {key}"),
        service
            .map(|s| format!("service {} ({})", s.key, owner(s.owner)))
            .or_else(|| task.map(|t| format!("task {}", t.id))),
    )
}

fn check_removed(after: &State, key: &Key) -> Result<(), Refused> {
    match key {
        Key::TargetGroup(group) => {
            let listener =
                after.listeners.values().find(|listener| listener.groups().any(|own| own == group));
            let service = after.services.values().find(|s| {
                s.load_balancers.iter().flat_map(|lb| lb.groups()).any(|own| own == group)
            });
            let target = after.targets.values().find(|target| &target.group == group);
            in_use(
                format!("target group {group}"),
                listener
                    .map(named)
                    .or_else(|| service.map(|s| format!("service {} ({})", s.key, owner(s.owner))))
                    .or_else(|| target.map(|t| format!("target {}", t.id))),
            )
        }
        Key::LoadBalancer(name) => {
            let listener = after.listeners.values().find(|l| &l.key.load_balancer == name);
            in_use(format!("load balancer {name}"), listener.map(named))
        }
        Key::Certificate(arn) => {
            in_use(format!("certificate {arn}"), after.presenting(arn).next().map(named))
        }
        Key::TrustStore(store) => {
            in_use(format!("trust store {store}"), after.trusting(store).next().map(named))
        }
        Key::TaskDefinition(key) => check_definition_removed(after, key),
        Key::Cluster(name) => {
            let service = after.services.values().find(|s| &s.key.cluster == name);
            in_use(format!("cluster {name}"), service.map(|s| format!("service {}", s.key)))
        }
        Key::Service(key) => {
            let task =
                after.tasks.values().find(|t| t.service.as_ref() == Some(key) && t.is_live());
            in_use(format!("service {key}"), task.map(|t| format!("task {}", t.id)))
        }
        Key::Namespace(name) => {
            let service = after.discovery_services.values().find(|s| &s.key.namespace == name);
            let by = service.map(|s| format!("discovery service {}", s.key));
            in_use(format!("namespace {name}"), by)
        }
        Key::HostedZone(id) => {
            let set = after.record_sets.keys().find(|key| &key.zone == id);
            in_use(format!("hosted zone {id}"), set.map(|key| format!("record set {key}")))
        }
        Key::DiscoveryService(key) => {
            let named = |s: &&Arc<Service>| {
                s.discovery.as_ref().is_some_and(|discovery| &discovery.service == key)
            };
            let service = after.services.values().find(named);
            let instance = after.discovery_instances.values().find(|i| &i.key.service == key);
            in_use(
                format!("discovery service {key}"),
                service
                    .map(|s| format!("service {} ({})", s.key, owner(s.owner)))
                    .or_else(|| instance.map(|i| format!("instance {}", i.key))),
            )
        }
        _ => Ok(()),
    }
}
