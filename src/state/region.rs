//! The part of a State that lives in one region, with all that is of no region.
//!
//! **Invariant:** a row is in the part of exactly one region, or in all of them: keys of hosted
//! zones, of names' health and of machines have no region.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Account, Arn, CertificateArn, ServiceKey};

use super::{Row, State, Table};

/// A State and what calls of one region see of it.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub whole: Arc<State>,
    pub part: Arc<State>,
}

/// The part that is made, and the one before it.
#[derive(Clone, Copy)]
struct Part<'a> {
    account: &'a Account,
    whole: &'a State,
    before: &'a View,
}

impl Part<'_> {
    fn has(self, region: &str) -> bool {
        region == self.account.place()
    }

    fn serves(self, key: &ServiceKey) -> bool {
        self.has(key.cluster.region())
    }

    /// Its rows of a table; those from before when no row of the whole table has changed.
    fn of<K: Ord + Clone, V>(
        self,
        table: impl Fn(&State) -> &Table<K, V>,
        is_there: impl Fn(&K, &V) -> bool,
    ) -> Table<K, V> {
        let whole = table(self.whole);
        if Arc::ptr_eq(whole, table(&self.before.whole)) {
            return Arc::clone(table(&self.before.part));
        }
        if whole.iter().all(|(key, row)| is_there(key, row)) {
            return Arc::clone(whole);
        }
        let rows = whole.iter().filter(|(key, row)| is_there(key, row));
        Arc::new(rows.map(|(key, row)| (key.clone(), Arc::clone(row))).collect::<BTreeMap<_, _>>())
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
    /// What calls of the account's region see. `before` is what they saw of an earlier State.
    #[must_use]
    pub fn within(&self, account: &Account, before: &View) -> Self {
        let part = Part { account, whole: self, before };
        Self {
            generation: self.generation,
            clusters: part.of(|s| &s.clusters, |key, _| part.has(key.region())),
            families: part.of(|s| &s.families, |key, _| part.has(key.region())),
            definitions: part.of(|s| &s.definitions, |key, _| part.has(key.family.region())),
            services: part.of(|s| &s.services, |key, _| part.serves(key)),
            ended_services: part.of(|s| &s.ended_services, |key, _| part.serves(key)),
            progress: part.of(|s| &s.progress, |key, _| part.serves(key)),
            tasks: part.of(|s| &s.tasks, |_, row| part.has(row.cluster.region())),
            instances: Arc::clone(&self.instances),
            load_balancers: part.of(|s| &s.load_balancers, |key, _| part.has(key.region())),
            listeners: part.of(|s| &s.listeners, |key, _| part.has(key.load_balancer.region())),
            target_groups: part.of(|s| &s.target_groups, |key, _| part.has(key.region())),
            targets: part.of(|s| &s.targets, |_, row| part.has(row.group.region())),
            verdicts: Arc::clone(&self.verdicts),
            namespaces: part.of(|s| &s.namespaces, |key, _| part.has(key.region())),
            discovery_services: part
                .of(|s| &s.discovery_services, |key, _| part.has(key.namespace.region())),
            discovery_instances: part
                .of(|s| &s.discovery_instances, |key, _| part.has(key.service.namespace.region())),
            quarantine: Arc::clone(&self.quarantine),
            certificates: part.of(|s| &s.certificates, |key, _| account.sees(key)),
            trust_stores: part.of(|s| &s.trust_stores, |key, _| part.has(key.region())),
            ec2: part.of(|s| &s.ec2, |_, row| part.has(row.region())),
            tags: Arc::clone(&self.tags),
            discovery_operations: part
                .of(|s| &s.discovery_operations, |_, row| part.has(&row.region)),
            hosted_zones: Arc::clone(&self.hosted_zones),
            record_sets: Arc::clone(&self.record_sets),
            name_checks: Arc::clone(&self.name_checks),
            name_statuses: Arc::clone(&self.name_statuses),
            scalable_targets: part.of(|s| &s.scalable_targets, |key, _| part.serves(key)),
            scaling_policies: part.of(|s| &s.scaling_policies, |key, _| part.serves(&key.service)),
            scheduled_actions: part
                .of(|s| &s.scheduled_actions, |key, _| part.serves(&key.service)),
            scaling_histories: part.of(|s| &s.scaling_histories, |key, _| part.serves(key)),
            capacity_providers: part.of(|s| &s.capacity_providers, |key, _| part.has(key.region())),
            alarms: part.of(|s| &s.alarms, |key, _| part.has(key.region())),
            log_groups: part.of(|s| &s.log_groups, |key, _| part.has(key.region())),
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
            let part = state.within(&home.visited(region).unwrap(), &View::default());
            let clusters: Vec<_> = part.clusters.keys().collect();
            assert_eq!(clusters, [&ClusterName::within(place, "shop")]);
            let tasks: Vec<_> = part.tasks.keys().map(ToString::to_string).collect();
            assert_eq!(tasks, [format!("t{place}")]);
            assert_eq!(part.generation, state.generation);
        }
        assert_eq!(home.visited("far-3"), None);
    }

    #[test]
    fn tables_that_have_not_changed_keep_their_parts() {
        let home = Account { others: vec!["far-1".to_owned()], ..Account::new("local", "0") };
        let far = home.visited("far-1").unwrap();
        let first = Arc::new(state());
        let view = View {
            part: Arc::new(first.within(&far, &View::default())),
            whole: Arc::clone(&first),
        };
        let mut second = State::clone(&first);
        second.put(Row::from(Cluster::new(ClusterName::within("far-1", "more"), Owner::Api)));
        let part = second.within(&far, &view);
        assert!(Arc::ptr_eq(&part.tasks, &view.part.tasks));
        assert_eq!(part, second.within(&far, &View::default()));
        assert_eq!((view.part.clusters.len(), part.clusters.len()), (1, 2));
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
