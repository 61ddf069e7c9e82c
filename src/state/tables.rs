//! The State's tables, declared once: the macro makes the State, its rows, its keys and the
//! journal's form of both.
//!
//! **Invariant:** a table is an `Arc` of its own, so a commit copies only the tables it touches and
//! an old State stays whole for whoever still reads it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Alarm, AlarmName, BadKey, CapacityProvider, CapacityProviderName, Certificate, CertificateArn,
    Cluster, ClusterName, ContainerInstance, CookieKey, CookieKeyId, DiscoveryInstance,
    DiscoveryKey, DiscoveryOperation, DiscoveryService, Ec2Id, Ec2Resource, EndedService, Family,
    FamilyRecord, Generation, HostedZone, HostedZoneId, InstanceKey, InstanceName, Listener,
    ListenerKey, LoadBalancer, LoadBalancerName, LogGroup, LogGroupName, NameCheck, NameCheckId,
    NameStatus, Namespace, NamespaceName, OperationId, Progress, RecordSet, RecordSetKey,
    RegistrationId, ResourceArn, ScalableTarget, ScalingHistory, ScalingKey, ScalingPolicy,
    ScheduledAction, Service, ServiceKey, Tags, Target, TargetGroup, TargetGroupName, Task,
    TaskDefinition, TaskDefinitionKey, TaskId, TrustStore, TrustStoreName, Verdict,
};

use super::{Applied, AppliedKey, Quarantine, QuarantineKey};

/// A table: rows in key order, shared with every State that has the same.
pub type Table<K, V> = Arc<BTreeMap<K, Arc<V>>>;

/// Keys of the rows that two versions of a table do not share, in order. Compares pointers only: a
/// commit replaces the rows it changes and shares the others.
#[must_use]
pub fn changed<K: Ord + Clone, V>(old: &Table<K, V>, new: &Table<K, V>) -> Vec<K> {
    let mut changed = Vec::new();
    if Arc::ptr_eq(old, new) {
        return changed;
    }
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = olds.next_if(|_| order.is_le());
        let new = news.next_if(|_| order.is_ge());
        match (old, new) {
            (Some((_, old)), Some((_, new))) if Arc::ptr_eq(old, new) => {}
            (old, new) => changed.extend(old.or(new).map(|(key, _)| key.clone())),
        }
    }
}

macro_rules! tables {
    ($(
        $field:ident: $key:ty => $row:ident,
        $name:literal, $durable:literal, |$of:ident| $key_of:expr;
    )*) => {
        /// Everything there is to know, at one generation. Cheap to clone.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct State {
            pub generation: Generation,
            $(pub $field: Table<$key, $row>,)*
        }

        /// One row of some table.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Row {
            $($row(Arc<$row>),)*
        }

        /// The key of one row.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $($row($key),)*
        }

        $(impl From<$row> for Row {
            fn from(row: $row) -> Self {
                Self::$row(Arc::new(row))
            }
        }

        impl From<Arc<$row>> for Row {
            fn from(row: Arc<$row>) -> Self {
                Self::$row(row)
            }
        })*

        impl Row {
            #[must_use]
            pub fn key(&self) -> Key {
                match self {
                    $(Self::$row($of) => Key::$row($key_of),)*
                }
            }

            /// The journal's form.
            pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Self::$row(row) => serde_json::to_vec(&**row),)*
                }
            }

            pub(super) fn decode(table: &str, value: &[u8]) -> Result<Self, BadRow> {
                match table {
                    $($name => Ok(Self::$row(Arc::new(serde_json::from_slice(value)?))),)*
                    _ => Err(BadRow::Table(table.to_owned())),
                }
            }
        }

        impl Key {
            /// The journal's name of its table.
            #[must_use]
            pub const fn table(&self) -> &'static str {
                match self {
                    $(Self::$row(_) => $name,)*
                }
            }

            /// False for what rides with the next durable commit instead of causing one.
            #[must_use]
            pub const fn is_durable(&self) -> bool {
                match self {
                    $(Self::$row(_) => $durable,)*
                }
            }

            /// The journal's form, unique in its table.
            #[must_use]
            pub fn text(&self) -> String {
                match self {
                    $(Self::$row(key) => format!("{key:#}"),)*
                }
            }

            pub(super) fn decode(table: &str, text: &str) -> Result<Self, BadRow> {
                match table {
                    $($name => Ok(Self::$row(text.parse()?)),)*
                    _ => Err(BadRow::Table(table.to_owned())),
                }
            }
        }

        impl State {
            pub(super) fn put(&mut self, row: Row) {
                match row {
                    $(Row::$row($of) => {
                        let key = $key_of;
                        Arc::make_mut(&mut self.$field).insert(key, $of);
                    })*
                }
            }

            /// Whether there was such a row.
            pub(super) fn remove(&mut self, key: &Key) -> bool {
                match key {
                    $(Key::$row(key) => {
                        self.$field.contains_key(key)
                            && Arc::make_mut(&mut self.$field).remove(key).is_some()
                    })*
                }
            }

            #[must_use]
            pub fn get(&self, key: &Key) -> Option<Row> {
                match key {
                    $(Key::$row(key) => self.$field.get(key).cloned().map(Row::$row),)*
                }
            }

            /// Whether no row is another than there: compares pointers only, and no generations.
            #[must_use]
            pub fn is_same(&self, other: &Self) -> bool {
                true $(&& Arc::ptr_eq(&self.$field, &other.$field))*
            }

            /// Every row of every table.
            pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
                std::iter::empty()
                    $(.chain(self.$field.values().cloned().map(Row::$row)))*
            }
        }

        /// The journal's names of all tables.
        pub(super) const TABLES: &[&str] = &[$($name),*];
    };
}

/// A journal row that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum BadRow {
    #[error("unknown table {0:?}")]
    Table(String),
    #[error(transparent)]
    Key(#[from] BadKey),
    #[error(transparent)]
    Value(#[from] serde_json::Error),
}

tables! {
    clusters: ClusterName => Cluster,
        "clusters", true, |row| row.name.clone();
    families: Family => FamilyRecord,
        "families", true, |row| row.family.clone();
    definitions: TaskDefinitionKey => TaskDefinition,
        "task_definitions", true, |row| row.key();
    services: ServiceKey => Service,
        "services", true, |row| row.key.clone();
    ended_services: ServiceKey => EndedService,
        "ended_services", true, |row| row.service.key.clone();
    progress: ServiceKey => Progress,
        "progress", true, |row| row.service.clone();
    tasks: TaskId => Task,
        "tasks", true, |row| row.id.clone();
    instances: InstanceName => ContainerInstance,
        "container_instances", true, |row| row.name.clone();
    load_balancers: LoadBalancerName => LoadBalancer,
        "load_balancers", true, |row| row.name.clone();
    listeners: ListenerKey => Listener,
        "listeners", true, |row| row.key.clone();
    target_groups: TargetGroupName => TargetGroup,
        "target_groups", true, |row| row.name.clone();
    targets: RegistrationId => Target,
        "targets", true, |row| row.id;
    verdicts: RegistrationId => Verdict,
        "verdicts", false, |row| row.target;
    namespaces: NamespaceName => Namespace,
        "namespaces", true, |row| row.name.clone();
    discovery_services: DiscoveryKey => DiscoveryService,
        "discovery_services", true, |row| row.key.clone();
    discovery_instances: InstanceKey => DiscoveryInstance,
        "discovery_instances", true, |row| row.key.clone();
    quarantine: QuarantineKey => Quarantine,
        "quarantine", true, |row| row.address;
    certificates: CertificateArn => Certificate,
        "certificates", true, |row| row.arn.clone();
    trust_stores: TrustStoreName => TrustStore,
        "trust_stores", true, |row| row.name.clone();
    ec2: Ec2Id => Ec2Resource,
        "ec2", true, |row| row.id().clone();
    tags: ResourceArn => Tags,
        "tags", true, |row| row.resource.clone();
    discovery_operations: OperationId => DiscoveryOperation,
        "discovery_operations", true, |row| row.id.clone();
    hosted_zones: HostedZoneId => HostedZone,
        "hosted_zones", true, |row| row.id.clone();
    record_sets: RecordSetKey => RecordSet,
        "record_sets", true, |row| row.key.clone();
    name_checks: NameCheckId => NameCheck,
        "name_checks", true, |row| row.id.clone();
    name_statuses: NameCheckId => NameStatus,
        "name_statuses", false, |row| row.check.clone();
    scalable_targets: ServiceKey => ScalableTarget,
        "scalable_targets", true, |row| row.service.clone();
    scaling_policies: ScalingKey => ScalingPolicy,
        "scaling_policies", true, |row| row.key.clone();
    scheduled_actions: ScalingKey => ScheduledAction,
        "scheduled_actions", true, |row| row.key.clone();
    scaling_histories: ServiceKey => ScalingHistory,
        "scaling_histories", true, |row| row.service.clone();
    capacity_providers: CapacityProviderName => CapacityProvider,
        "capacity_providers", true, |row| row.name.clone();
    alarms: AlarmName => Alarm,
        "alarms", true, |row| row.name.clone();
    log_groups: LogGroupName => LogGroup,
        "log_groups", true, |row| row.name.clone();
    cookie_keys: CookieKeyId => CookieKey,
        "cookie_keys", true, |row| row.id.clone();
    applied: AppliedKey => Applied,
        "applied", true, |row| row.resource.clone();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables as `KEY=ROW` words; a row of the same text is the same row.
    fn check(old: &str, new: &str, expected: &str) {
        let mut rows: BTreeMap<String, Arc<String>> = BTreeMap::new();
        let mut table = |text: &str| -> Table<String, String> {
            let words = text.split_whitespace().filter_map(|word| word.split_once('='));
            let row = |(key, row): (&str, &str)| {
                let shared =
                    rows.entry(format!("{key}={row}")).or_insert_with(|| Arc::new(row.into()));
                (key.to_owned(), Arc::clone(shared))
            };
            Arc::new(words.map(row).collect())
        };
        let (old, new) = (table(old), table(new));
        assert_eq!(changed(&old, &new).join(" "), expected);
    }

    #[test]
    fn rows_that_are_not_shared_have_changed() {
        check("", "", "");
        check("a=1 b=1", "a=1 b=1", "");
        check("a=1 b=1 c=1", "a=1 b=2 c=1", "b");
        check("", "a=1 b=1", "a b");
        check("a=1 b=1", "", "a b");
        check("a=1 c=1 d=1", "b=1 c=1 e=1", "a b d e");
    }
}
