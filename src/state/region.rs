//! The part of a State that lives in one region, with all that is of no region.
//!
//! **Invariant:** a row is in the part of exactly one region, or in all of them: keys of hosted
//! zones, of names' health and of machines have no region.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Account, Arn, CertificateArn, ServiceKey};

use super::{Row, State, Table};

fn kept<K: Ord + Clone, V>(table: &Table<K, V>, is_there: impl Fn(&K, &V) -> bool) -> Table<K, V> {
    if table.iter().all(|(key, row)| is_there(key, row)) {
        return Arc::clone(table);
    }
    let rows = table.iter().filter(|(key, row)| is_there(key, row));
    Arc::new(rows.map(|(key, row)| (key.clone(), Arc::clone(row))).collect::<BTreeMap<_, _>>())
}

#[derive(Clone, Copy)]
struct Part<'a>(&'a Account);

impl Part<'_> {
    fn has(self, region: &str) -> bool {
        region == self.0.place()
    }

    fn serves(self, key: &ServiceKey) -> bool {
        self.has(key.cluster.region())
    }
}

impl Account {
    /// Whether calls of its region see a certificate; one of IAM is everywhere, and at home is
    /// what is nowhere else.
    #[must_use]
    pub fn sees(&self, certificate: &CertificateArn) -> bool {
        let arn = certificate.as_str().parse::<Arn>();
        let region = arn.map(|arn| arn.region).unwrap_or_default();
        match self.is_away {
            _ if region.is_empty() => true,
            true => region == self.region,
            false => !self.others.contains(&region),
        }
    }
}

impl State {
    /// What calls of the account's region see.
    #[must_use]
    pub fn within(&self, account: &Account) -> Self {
        let part = Part(account);
        Self {
            generation: self.generation,
            clusters: kept(&self.clusters, |key, _| part.has(key.region())),
            families: kept(&self.families, |key, _| part.has(key.region())),
            definitions: kept(&self.definitions, |key, _| part.has(key.family.region())),
            services: kept(&self.services, |key, _| part.serves(key)),
            ended_services: kept(&self.ended_services, |key, _| part.serves(key)),
            progress: kept(&self.progress, |key, _| part.serves(key)),
            tasks: kept(&self.tasks, |_, row| part.has(row.cluster.region())),
            instances: Arc::clone(&self.instances),
            load_balancers: kept(&self.load_balancers, |key, _| part.has(key.region())),
            listeners: kept(&self.listeners, |key, _| part.has(key.load_balancer.region())),
            target_groups: kept(&self.target_groups, |key, _| part.has(key.region())),
            targets: kept(&self.targets, |_, row| part.has(row.group.region())),
            verdicts: Arc::clone(&self.verdicts),
            namespaces: kept(&self.namespaces, |key, _| part.has(key.region())),
            discovery_services: kept(&self.discovery_services, |key, _| {
                part.has(key.namespace.region())
            }),
            discovery_instances: kept(&self.discovery_instances, |key, _| {
                part.has(key.service.namespace.region())
            }),
            quarantine: Arc::clone(&self.quarantine),
            certificates: kept(&self.certificates, |key, _| account.sees(key)),
            trust_stores: kept(&self.trust_stores, |key, _| part.has(key.region())),
            ec2: kept(&self.ec2, |_, row| part.has(row.region())),
            tags: Arc::clone(&self.tags),
            discovery_operations: kept(&self.discovery_operations, |_, row| part.has(&row.region)),
            hosted_zones: Arc::clone(&self.hosted_zones),
            record_sets: Arc::clone(&self.record_sets),
            name_checks: Arc::clone(&self.name_checks),
            name_statuses: Arc::clone(&self.name_statuses),
            scalable_targets: kept(&self.scalable_targets, |key, _| part.serves(key)),
            scaling_policies: kept(&self.scaling_policies, |key, _| part.serves(&key.service)),
            scheduled_actions: kept(&self.scheduled_actions, |key, _| part.serves(&key.service)),
            scaling_histories: kept(&self.scaling_histories, |key, _| part.serves(key)),
            capacity_providers: kept(&self.capacity_providers, |key, _| part.has(key.region())),
            alarms: kept(&self.alarms, |key, _| part.has(key.region())),
            log_groups: kept(&self.log_groups, |key, _| part.has(key.region())),
            cookie_keys: Arc::clone(&self.cookie_keys),
            applied: Arc::clone(&self.applied),
        }
    }

    /// A resource outside the home region and `others`: its table, its key and its region.
    #[must_use]
    pub fn stranger(&self, others: &[String]) -> Option<(&'static str, String, String)> {
        let region = |row: &Row| -> Option<String> {
            let region = match row {
                Row::Cluster(row) => row.name.region(),
                Row::TaskDefinition(row) => row.family.region(),
                Row::LoadBalancer(row) => row.name.region(),
                Row::TargetGroup(row) => row.name.region(),
                Row::Namespace(row) => row.name.region(),
                Row::TrustStore(row) => row.name.region(),
                Row::CapacityProvider(row) => row.name.region(),
                Row::Alarm(row) => row.name.region(),
                Row::LogGroup(row) => row.name.region(),
                Row::Ec2Resource(row) => row.region(),
                _ => "",
            };
            Some(region.to_owned()).filter(|region| !region.is_empty())
        };
        self.rows().find_map(|row| {
            let (key, region) = (row.key(), region(&row)?);
            let place = key.text().replace(char::is_control, "/");
            (!others.contains(&region)).then(|| (key.table(), place, region))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{Cluster, ClusterName, Owner, Task, TaskDefinitionKey};

    fn state() -> State {
        let mut state = State::default();
        for region in ["", "far-1", "far-2"] {
            let name = ClusterName::within(region, "shop");
            let family = crate::model::Family::within(region, "web");
            let definition = TaskDefinitionKey { family, revision: 1 };
            let id = format!("t{region}").as_str().into();
            state.put(Row::from(Task::new(id, name.clone(), definition, Timestamp(1))));
            state.put(Row::from(Cluster::new(name, Owner::Api)));
        }
        state
    }

    #[test]
    fn each_region_sees_its_own_part() {
        let others = vec!["far-1".to_owned(), "far-2".to_owned()];
        let home = Account { others: others.clone(), ..Account::new("local", "0") };
        let state = state();
        for (region, place) in [("local", ""), ("far-1", "far-1"), ("far-2", "far-2")] {
            let part = state.within(&home.visited(region).unwrap());
            let clusters: Vec<_> = part.clusters.keys().collect();
            assert_eq!(clusters, [&ClusterName::within(place, "shop")]);
            let tasks: Vec<_> = part.tasks.keys().map(ToString::to_string).collect();
            assert_eq!(tasks, [format!("t{place}")]);
            assert_eq!(part.generation, state.generation);
        }
        assert_eq!(home.visited("far-3"), None);
    }

    #[test]
    fn what_is_in_no_region_that_is_named_is_told() {
        let told = |others: &[&str]| {
            let others: Vec<_> = others.iter().map(|other| (*other).to_owned()).collect();
            state().stranger(&others).map(|(table, key, region)| format!("{table} {key} {region}"))
        };
        assert_eq!(told(&["far-1", "far-2"]), None);
        assert_eq!(told(&["far-2"]).as_deref(), Some("clusters far-1/shop far-1"));
        assert_eq!(told(&[]).as_deref(), Some("clusters far-1/shop far-1"));
    }

    #[test]
    fn certificates_are_seen_where_they_are() {
        let home = Account { others: vec!["far-1".to_owned()], ..Account::new("local", "0") };
        let check = |region: &str, arn: &str, expected: bool| {
            assert_eq!(home.visited(region).unwrap().sees(&arn.into()), expected, "{region} {arn}");
        };
        let (near, far) =
            ("arn:aws:acm:local:0:certificate/a", "arn:aws:acm:far-1:0:certificate/a");
        let everywhere = "arn:aws:iam::0:server-certificate/a";
        check("local", near, true);
        check("local", far, false);
        check("far-1", near, false);
        check("far-1", far, true);
        check("local", everywhere, true);
        check("far-1", everywhere, true);
        // Of a home region that had another name.
        check("local", "arn:aws:acm:old:0:certificate/a", true);
    }
}
