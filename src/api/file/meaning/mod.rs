//! What is meant: defaults filled in, references found, ranges and duplicates checked.
//!
//! Pure but for one thing: task definitions may stand in JSON files of their own, certificates
//! do, and they are read here. Not here: what the State holds already (`apply`).
//! **Invariant:** [`Resources`] names
//! nothing that it does not hold.

mod authentication;
mod balancer;
mod group;
mod rule;
mod secure;
mod service;
mod strategy;
mod traffic;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{self, WrittenDefinition};
use super::kind::Kind;
use super::names;
use super::place::Place;
use super::source::{Bad, Format, Problem, Source};
use super::written::{Written, WrittenCluster, WrittenNamespace};
use crate::model::{
    Certificate, ClientSecret, Cluster, ClusterName, DesyncMode, DiscoveryService, Listener,
    LoadBalancerKind, LoadBalancerName, Namespace, Owner, RECORD_TTL, RequestRules, Service,
    TargetGroup, TargetGroupName, TaskDefinition, TrustStore, fnv1a,
};

/// The cluster that always exists.
pub(super) const DEFAULT_CLUSTER: &str = "default";
/// A file beside the configuration file is not read further than this.
const LARGEST_FILE: u64 = 1 << 20;
/// The greatest negative TTL (RFC 2308 section 5 recommends at most three hours).
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(3 * 3600);

/// Everything that the file asks for.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// The default one included.
    pub clusters: Vec<Cluster>,
    pub namespaces: Vec<Namespace>,
    pub discovery_services: Vec<DiscoveryService>,
    /// Of revision 0: registering gives the number.
    pub definitions: Vec<TaskDefinition>,
    pub certificates: Vec<Certificate>,
    /// As the file calls them, in their order.
    certificate_names: Vec<String>,
    pub trust_stores: Vec<TrustStore>,
    pub target_groups: Vec<TargetGroup>,
    pub targets: Vec<FixedTarget>,
    pub load_balancers: Vec<Balancer>,
    pub listeners: Vec<Listener>,
    /// They name revision 0 of their family, and were never created.
    pub services: Vec<Service>,
    /// Files that were read along.
    pub includes: Vec<PathBuf>,
    /// Of logins, by the files that they were read from.
    client_secrets: BTreeMap<PathBuf, ClientSecret>,
    /// Where each stands, by what [`Kind::label`] calls it.
    places: BTreeMap<String, Place>,
}

/// A target with an address of its own, no task's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FixedTarget {
    pub group: TargetGroupName,
    pub address: IpAddr,
    pub port: u16,
}

impl FixedTarget {
    #[must_use]
    pub const fn socket_address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.address, self.port)
    }
}

/// A load balancer as the file knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    pub name: LoadBalancerName,
    pub kind: LoadBalancerKind,
    /// None: the next free one of the pool.
    pub address: Option<IpAddr>,
    pub idle_timeout: Duration,
    pub client_keep_alive: Duration,
    pub desync_mitigation_mode: DesyncMode,
    pub requests: RequestRules,
}

impl Resources {
    /// Where the resource called `label` stands.
    pub(super) fn place(&self, label: &str) -> Option<&Place> {
        self.places.get(label)
    }

    /// Remembers where `label` stands; refuses a second one.
    fn claim(&mut self, label: String, at: &Place) -> Result<(), Bad> {
        if self.places.contains_key(&label) {
            return Err(Bad::new(at, format!("{label} is defined twice")));
        }
        self.places.insert(label, at.clone());
        Ok(())
    }

    fn group(&self, name: &str, at: &Place) -> Result<&TargetGroup, Bad> {
        let group = self.target_groups.iter().find(|group| group.name.as_str() == name);
        group.ok_or_else(|| Bad::new(at, format!("there is no target group {name:?}")))
    }
}

/// Sixteen hexadecimal digits that depend on the name alone: FNV-1a, then splitmix64's finish.
pub(in crate::api) fn id_of(label: &str) -> String {
    let hash = fnv1a(label);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", hash ^ (hash >> 31))
}

/// Makes `Resources` of what is written in `source`.
pub(super) fn resources(source: &Source, written: &Written) -> Result<Resources, Problem> {
    let mut resources = Resources::default();
    let root = Place::default();
    let list = root.key("task_definition");
    for (index, definition) in written.task_definition.iter().enumerate() {
        resources.definition(source, definition, &list.index(index))?;
    }
    let rest = |resources: &mut Resources| -> Result<(), Bad> {
        resources.clusters(&written.cluster, &root.key("cluster"))?;
        resources.namespaces(&written.namespace, &root.key("namespace"))?;
        let (account, list) = (written.settings().account, root.key("certificate"));
        resources.certificates(source, &account, &written.certificate, &list)?;
        resources.trust_stores(source, &written.trust_store, &root.key("trust_store"))?;
        resources.groups(&written.target_group, &root.key("target_group"))?;
        let list = root.key("load_balancer");
        resources.client_secrets(source, &written.load_balancer, &list)?;
        resources.balancers(&written.load_balancer, &list)?;
        resources.services(&written.service, &root.key("service"))
    };
    rest(&mut resources).map_err(|bad| source.problem(bad))?;
    Ok(resources)
}

impl Resources {
    fn clusters(&mut self, written: &[WrittenCluster], list: &Place) -> Result<(), Bad> {
        for (index, cluster) in written.iter().enumerate() {
            let at = list.index(index).key("name");
            names::ecs(&cluster.name).map_err(|reason| Bad::new(&at, reason))?;
            self.claim(Kind::Cluster.label(&cluster.name), &at)?;
            let name = ClusterName::from(cluster.name.as_str());
            self.clusters.push(Cluster::new(name, Owner::File));
        }
        if !self.clusters.iter().any(|cluster| cluster.name.as_str() == DEFAULT_CLUSTER) {
            self.clusters.push(Cluster::new(DEFAULT_CLUSTER.into(), Owner::File));
        }
        Ok(())
    }

    fn namespaces(&mut self, written: &[WrittenNamespace], list: &Place) -> Result<(), Bad> {
        for (index, namespace) in written.iter().enumerate() {
            let at = list.index(index);
            names::dns(&namespace.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
            self.claim(Kind::Namespace.label(&namespace.name), &at.key("name"))?;
            let ttl = namespace.negative_ttl.map_or(RECORD_TTL, |time| time.0);
            if ttl.subsec_nanos() != 0 || ttl > LONGEST_NEGATIVE_TTL {
                let reason = "must be whole seconds, at most 3h";
                return Err(Bad::new(&at.key("negative_ttl"), reason));
            }
            let name = namespace.name.as_str().into();
            self.namespaces.push(Namespace::new(name, ttl, Owner::File));
        }
        Ok(())
    }

    fn definition(
        &mut self,
        source: &Source,
        written: &WrittenDefinition,
        at: &Place,
    ) -> Result<(), Problem> {
        let here = |bad| source.problem(bad);
        let (definition, at) = match &written.file {
            None => (definition::meaning(written, at).map_err(here)?, at.key("family")),
            Some(_) if written.is_written_here() => {
                let reason = "stands alone: the family and its containers are in that file";
                return Err(here(Bad::new(&at.key("file"), reason)));
            }
            Some(file) => {
                let folder = source.path.parent().unwrap_or_else(|| Path::new(""));
                let path = folder.join(file);
                let text = read(&path).map_err(|error| {
                    let reason = format!("cannot read {}: {error}", path.display());
                    here(Bad::new(&at.key("file"), reason))
                })?;
                self.includes.push(path.clone());
                (included(&Source::new(&path, text, Format::Json))?, at.key("file"))
            }
        };
        self.claim(Kind::TaskDefinition.label(&definition.family), &at).map_err(here)?;
        self.definitions.push(definition);
        Ok(())
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// As `describe-task-definition` prints it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wrapped {
    task_definition: WrittenDefinition,
    #[serde(rename = "tags")]
    _tags: Option<serde::de::IgnoredAny>,
}

fn included(source: &Source) -> Result<TaskDefinition, Problem> {
    let value: serde_json::Value = source.read()?;
    let root = Place::default();
    let (written, at) = if value.get("taskDefinition").is_some() {
        (source.read::<Wrapped>()?.task_definition, root.key("taskDefinition"))
    } else {
        (source.read::<WrittenDefinition>()?, root)
    };
    if written.file.is_some() {
        let reason = "is no member of an ECS task definition";
        return Err(source.problem(Bad::new(&at.key("file"), reason)));
    }
    definition::meaning(&written, &at).map_err(|bad| source.problem(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_digits_and_differ_by_name() {
        let (one, two) = (id_of("load balancer web"), id_of("load balancer wed"));
        assert_eq!((one.len(), two.len()), (16, 16));
        assert_ne!(one, two);
        assert_eq!(one, id_of("load balancer web"));
    }
}
