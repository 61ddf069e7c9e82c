//! A State of a given size: services of up to a hundred targets, each with a host name, a target
//! group and a DNS name, behind one load balancer.
//!
//! **Invariant:** what a number stands for depends on the number alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use roadstead::clock::Timestamp;
use roadstead::model::{
    Action, BalancerOptions, CLIENT_KEEP_ALIVE, Condition, DiscoveryInstance, DiscoveryKey,
    DiscoveryService, FixedResponse, IDLE_TIMEOUT, InstanceKey, Listener, ListenerKey,
    ListenerOptions, LoadBalancer, LoadBalancerKind, Namespace, Owner, Protocol, RECORD_TTL,
    Registration, RegistrationId, Rule, Target, TargetGroup, TaskId, Transport, Verdict,
    VerdictState, WeightedGroup,
};
use roadstead::routing::SocketKey;
use roadstead::state::{Store, StoreError, Tx};

/// Targets of one service.
const PER_GROUP: u64 = 100;
/// Behind it come the ids that a store hands out itself.
const FIRST_ID: u64 = 1 << 62;
const PORT: u16 = 80;
const NAMESPACE: &str = "bench.internal";

#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) targets: u64,
    per_group: u64,
}

impl Fleet {
    pub(crate) fn new(targets: u64) -> Self {
        Self::of(targets, PER_GROUP)
    }

    pub(crate) fn of(targets: u64, per_group: u64) -> Self {
        Self { targets, per_group }
    }

    pub(crate) fn per_group(&self) -> u64 {
        self.per_group
    }

    pub(crate) fn id(&self, number: u64) -> RegistrationId {
        RegistrationId(FIRST_ID + number)
    }

    fn group(&self, number: u64) -> u64 {
        number / self.per_group
    }

    fn service(&self, number: u64) -> String {
        format!("service-{}", self.group(number))
    }

    pub(crate) fn host(&self, number: u64) -> String {
        format!("{}.example.com", self.service(number))
    }

    pub(crate) fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    /// The DNS name of its service.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}.{NAMESPACE}", self.service(number))
    }

    /// Every address and service record: name, type, data.
    pub(crate) fn records(&self) -> impl Iterator<Item = (String, &'static str, String)> {
        (0..self.targets).flat_map(|number| {
            let (name, address) = (self.name(number), Self::address(number).to_string());
            let own = format!("{}.{name}", Self::task(number));
            [
                (name.clone(), "SRV", format!("1 1 8080 {own}.")),
                (name, "A", address.clone()),
                (own, "A", address),
            ]
        })
    }

    pub(crate) fn socket(&self) -> SocketKey {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT);
        SocketKey { address, transport: Transport::Tcp }
    }

    fn address(number: u64) -> IpAddr {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + number).into()
    }

    fn task(number: u64) -> TaskId {
        TaskId::new(format!("{number:032x}"))
    }

    pub(crate) fn target(&self, number: u64) -> Target {
        Target {
            id: self.id(number),
            group: self.service(number).as_str().into(),
            address: Self::address(number),
            port: 8080,
            task: Some(Self::task(number)),
            registration: Registration::Active,
            registered_at: Timestamp(0),
        }
    }

    pub(crate) fn instance(&self, number: u64) -> DiscoveryInstance {
        let key = DiscoveryKey {
            namespace: NAMESPACE.into(),
            name: self.service(number).as_str().into(),
        };
        let id = Self::task(number).as_str().into();
        DiscoveryInstance {
            address: Some(Self::address(number)),
            port: Some(8080),
            task: Some(Self::task(number)),
            registration: Registration::Active,
            ..DiscoveryInstance::new(InstanceKey { service: key, id })
        }
    }

    /// Commits everything; every target is healthy then. There is room for one service more.
    pub(crate) async fn fill(&self, store: &Store) -> anyhow::Result<()> {
        let fleet = self.clone();
        let change = move |tx: &mut Tx<'_>| {
            fleet.put_front(tx);
            for number in 0..fleet.targets {
                tx.put(fleet.target(number));
                tx.put(fleet.instance(number));
            }
            Ok::<_, StoreError>(())
        };
        store.update(change).await?;
        store.update_riding(|tx| {
            for number in 0..self.targets {
                tx.put(Verdict {
                    target: self.id(number),
                    state: VerdictState::Healthy,
                    reason: None,
                    description: String::new(),
                    since: Timestamp(0),
                });
            }
        })?;
        Ok(())
    }

    /// Commits the names alone, as instances that no check looks at.
    pub(crate) async fn fill_names(&self, store: &Store) -> anyhow::Result<()> {
        let fleet = self.clone();
        let change = move |tx: &mut Tx<'_>| {
            fleet.put_namespace(tx);
            for number in 0..fleet.targets {
                tx.put(DiscoveryInstance { task: None, ..fleet.instance(number) });
            }
            Ok::<_, StoreError>(())
        };
        store.update(change).await?;
        Ok(())
    }

    fn put_namespace(&self, tx: &mut Tx<'_>) {
        let owner = Owner::Api;
        tx.put(Namespace::new(NAMESPACE.into(), RECORD_TTL, owner));
        for group in 0..=self.group(self.targets) {
            let name = self.service(group * self.per_group).as_str().into();
            let key = DiscoveryKey { namespace: NAMESPACE.into(), name };
            tx.put(DiscoveryService::new(key, RECORD_TTL, owner));
        }
    }

    fn put_front(&self, tx: &mut Tx<'_>) {
        let hexadecimal = |number: u64| format!("{number:016x}");
        tx.put(LoadBalancer {
            name: "front".into(),
            id: hexadecimal(1),
            kind: LoadBalancerKind::Application,
            address: Ipv4Addr::LOCALHOST.into(),
            idle_timeout: IDLE_TIMEOUT,
            client_keep_alive: CLIENT_KEEP_ALIVE,
            owner: Owner::Api,
            created_at: Timestamp(0),
            options: BalancerOptions::default(),
        });
        let owner = Owner::Api;
        self.put_namespace(tx);
        let mut rules = Vec::new();
        for group in 0..=self.group(self.targets) {
            let first = group * self.per_group;
            let name = self.service(first);
            let at = (Protocol::Http, 8080);
            tx.put(TargetGroup::new(name.as_str().into(), hexadecimal(group), at, owner));
            let groups = vec![WeightedGroup { group: name.as_str().into(), weight: 1 }];
            rules.push(Rule::new(
                hexadecimal(group),
                u32::try_from(group + 1).unwrap_or(u32::MAX),
                vec![Condition::HostHeader(vec![self.host(first)])],
                Action::Forward(groups),
            ));
        }
        let nothing =
            FixedResponse { status: 404, content_type: "text/plain".into(), body: String::new() };
        tx.put(Listener {
            key: ListenerKey { load_balancer: "front".into(), port: PORT },
            id: hexadecimal(2),
            protocol: Protocol::Http,
            carrier: roadstead::model::Carrier::default(),
            rules,
            default_action: Action::FixedResponse(nothing),
            owner,
            options: ListenerOptions::default(),
        });
    }
}
