//! Tests of compiling: what a snapshot says of a State, and what it shares with its predecessor.

use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    CLIENT_KEEP_ALIVE, DiscoveryInstance, DiscoveryKey, DiscoveryService, Generation, IDLE_TIMEOUT,
    InstanceKey, ListenerKey, LoadBalancer, LoadBalancerKind, Namespace, Owner, Protocol,
    Registration, TaskId, Verdict, WeightedGroup,
};
use crate::state::{Key, MemoryJournal, Row, Store, StoreError, Tx};
use crate::zone::{Answer, DnsName, Record, RecordType};

pub(in crate::routing) fn context() -> Context {
    let account = Account::new("local", "0".repeat(12));
    Context { account, domain: "roadstead.internal".into(), metrics: Metrics::new(1) }
}

fn target(id: u64, registration: Registration) -> Target {
    Target {
        id: RegistrationId(id),
        group: "web".into(),
        address: [127, 0, 0, 1].into(),
        port: u16::try_from(id).unwrap(),
        task: None,
        registration,
        registered_at: Timestamp(0),
    }
}

/// A State with one load balancer in front of `web`, whose targets are `1h 2u 3i 4d`: id and state.
pub(in crate::routing) fn state(targets: &str) -> State {
    let mut state = State { generation: Generation(1), ..State::default() };
    put(
        &mut state,
        LoadBalancer {
            name: "front".into(),
            id: "1".repeat(16),
            kind: LoadBalancerKind::Application,
            address: [127, 0, 0, 1].into(),
            idle_timeout: IDLE_TIMEOUT,
            client_keep_alive: CLIENT_KEEP_ALIVE,
            owner: Owner::File,
            created_at: Timestamp(0),
            options: Default::default(),
        },
    );
    put(
        &mut state,
        TargetGroup::new("web".into(), "2".repeat(16), (Protocol::Http, 80), Owner::File),
    );
    put(
        &mut state,
        Listener {
            key: ListenerKey { load_balancer: "front".into(), port: 80 },
            id: "3".repeat(16),
            protocol: Protocol::Http,
            carrier: crate::model::Carrier::default(),
            rules: Vec::new(),
            default_action: Action::Forward(vec![WeightedGroup { group: "web".into(), weight: 1 }]),
            owner: Owner::File,
            options: Default::default(),
        },
    );
    for word in targets.split_whitespace() {
        let (id, kind) = word.split_at(word.len() - 1);
        let id = id.parse().unwrap();
        let draining = Registration::Draining { since: Timestamp(0) };
        put(&mut state, target(id, if kind == "d" { draining } else { Registration::Active }));
        let verdict = match kind {
            "h" | "d" => VerdictState::Healthy,
            "u" => VerdictState::Unhealthy,
            _ => continue,
        };
        put(
            &mut state,
            Verdict {
                target: RegistrationId(id),
                state: verdict,
                reason: None,
                description: String::new(),
                since: Timestamp(0),
            },
        );
    }
    state
}

pub(in crate::routing) fn put(state: &mut State, row: impl Into<Row>) {
    match row.into() {
        Row::LoadBalancer(row) => {
            _ = Arc::make_mut(&mut state.load_balancers).insert(row.name.clone(), row)
        }
        Row::TargetGroup(row) => {
            _ = Arc::make_mut(&mut state.target_groups).insert(row.name.clone(), row)
        }
        Row::Listener(row) => _ = Arc::make_mut(&mut state.listeners).insert(row.key.clone(), row),
        Row::Target(row) => _ = Arc::make_mut(&mut state.targets).insert(row.id, row),
        Row::Verdict(row) => _ = Arc::make_mut(&mut state.verdicts).insert(row.target, row),
        row => panic!("{row:?}"),
    }
}

fn check(targets: &str, routable: &[u64], fail_open: bool) {
    let routing = compile(&state(targets), &Routing::default(), &context());
    let group = &routing.groups[&TargetGroupName::from("web")];
    let ids: Vec<_> = group.routable.iter().map(|endpoint| endpoint.id.0).collect();
    assert_eq!((ids.as_slice(), group.fail_open), (routable, fail_open), "{targets}");
}

#[test]
fn healthy_targets_are_routable_and_all_unhealthy_ones_when_none_is() {
    check("1h 2u 3i 4d", &[1], false);
    check("1u 2u 3i", &[1, 2], true);
    check("1i 2i", &[], false);
    check("1d", &[], false);
    check("", &[], false);
}

#[test]
fn unchanged_parts_are_shared_and_endpoints_outlive_generations() {
    let context = context();
    let first = compile(&state("1h 2h"), &Routing::default(), &context);
    let second = compile(&state("1h 2h"), &first, &context);
    let web = TargetGroupName::from("web");
    assert!(Arc::ptr_eq(&first.groups[&web], &second.groups[&web]));
    let third = compile(&state("1u 2d"), &second, &context);
    assert!(!Arc::ptr_eq(&second.groups[&web], &third.groups[&web]));
    for id in [1, 2] {
        let id = RegistrationId(id);
        assert!(Arc::ptr_eq(&first.endpoints[&id], &third.endpoints[&id]));
    }
    let cursor = |routing: &Routing| Arc::as_ptr(&routing.groups[&web].cursor);
    assert_eq!(cursor(&first), cursor(&third));
}

#[test]
fn an_address_that_comes_back_inherits_nothing() {
    let context = context();
    let first = compile(&state("1h"), &Routing::default(), &context);
    first.endpoints[&RegistrationId(1)].eject();
    let mut again = state("");
    put(&mut again, Target { id: RegistrationId(9), ..target(1, Registration::Active) });
    let second = compile(&again, &first, &context);
    let (old, new) = (&first.endpoints[&RegistrationId(1)], &second.endpoints[&RegistrationId(9)]);
    assert_eq!(old.address, new.address);
    assert!(!new.is_ejected());
}

/// A commit of a small world: groups and names a to c, targets and tasks 1 to 9.
fn random_change(tx: &mut Tx<'_>, rng: &mut fastrand::Rng) {
    let name = *rng.choice(&["a", "b", "c"]).unwrap();
    let id = RegistrationId(rng.u64(1..10));
    let task = TaskId::from(format!("task-{}", rng.u64(1..10)).as_str());
    let registration = *rng
        .choice(&[Registration::Active, Registration::Draining { since: Timestamp(0) }])
        .unwrap();
    let service = DiscoveryKey { namespace: "demo.test".into(), name: name.into() };
    let instance = InstanceKey { service: service.clone(), id: task.as_str().into() };
    match rng.u8(0..9) {
        0 | 1 => {
            let task = rng.bool().then_some(task);
            tx.put(Target { group: name.into(), task, ..target(id.0, registration) });
        }
        2 => {
            tx.remove(Key::Verdict(id));
            tx.remove(Key::Target(id));
        }
        3..6 if tx.state().targets.contains_key(&id) => {
            let states = [VerdictState::Initial, VerdictState::Healthy, VerdictState::Unhealthy];
            let (state, since) = (*rng.choice(&states).unwrap(), Timestamp(0));
            tx.put(Verdict { target: id, state, reason: None, description: String::new(), since });
        }
        6 => tx.put(DiscoveryInstance {
            address: Some([10, 0, 0, rng.u8(1..9)].into()),
            port: Some(80),
            task: Some(task),
            registration,
            ..DiscoveryInstance::new(instance)
        }),
        7 => tx.remove(Key::DiscoveryInstance(instance)),
        _ => {
            let ttl = Duration::from_secs(rng.u64(1..4));
            tx.put(DiscoveryService::new(service, ttl, Owner::Api));
        }
    }
}

/// Everything in a snapshot that a commit may change, as text.
fn says(routing: &Routing) -> String {
    let mut text = String::new();
    let ids = |of: &[Arc<Endpoint>]| of.iter().map(|e| e.id.0).collect::<Vec<_>>();
    for name in ["a", "b", "c"] {
        let group = &routing.groups[&TargetGroupName::from(name)];
        let (all, routable) = (ids(&group.endpoints), ids(&group.routable));
        let draining = group.metrics.draining.value();
        text += &format!("{name} {all:?} {routable:?} {} {draining}\n", group.fail_open);
        let name = DnsName::parse(&format!("{name}.demo.test")).unwrap();
        for kind in [RecordType::A, RecordType::Srv] {
            let mut rng = fastrand::Rng::with_seed(7);
            if let Answer::Records { answers, additionals, .. } =
                routing.zones.lookup(name.wire(), kind, &mut rng)
            {
                let of = |record: &Record<'_>| format!("{} {:?}", record.ttl, record.data);
                text += &format!("{:?}\n", answers.iter().map(of).collect::<Vec<_>>());
                text += &format!("{:?}\n", additionals.iter().map(of).collect::<Vec<_>>());
            }
        }
    }
    let mut endpoints: Vec<_> = routing.endpoints.keys().collect();
    endpoints.sort();
    format!("{text}{endpoints:?}")
}

#[tokio::test]
async fn compiling_what_changed_gives_what_compiling_everything_gives() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let begin = |tx: &mut Tx<'_>| {
        tx.put(Namespace::new("demo.test".into(), Duration::from_secs(5), Owner::Api));
        let web = Arc::clone(&state("").target_groups[&TargetGroupName::from("web")]);
        for name in ["a", "b", "c"] {
            tx.put(TargetGroup { name: name.into(), ..TargetGroup::clone(&web) });
            let key = DiscoveryKey { namespace: "demo.test".into(), name: name.into() };
            tx.put(DiscoveryService::new(key, Duration::from_secs(5), Owner::Api));
        }
        Ok::<_, StoreError>(())
    };
    store.update(begin).await.unwrap();
    let shared = context();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut previous = Routing::default();
    for turn in 0..2_000 {
        let mut own = rng.fork();
        let changes = rng.usize(1..4);
        let change = move |tx: &mut Tx<'_>| {
            (0..changes).for_each(|_| random_change(tx, &mut own));
            Ok::<_, StoreError>(())
        };
        store.update(change).await.unwrap();
        let state = store.read();
        let whole = says(&compile(&state, &Routing::default(), &context()));
        previous = compile(&state, &previous, &shared);
        assert_eq!(says(&previous), whole, "turn {turn}");
    }
}
