//! Zones as text in, text out: rows in, what a lookup says out.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    DiscoveryInstance, DiscoveryService, LoadBalancer, LoadBalancerKind, LoadBalancerName,
    Namespace, Owner, Protocol, Registration, Target, TargetGroup, Verdict, VerdictState,
};
use crate::state::{Key, MemoryJournal, Store, StoreError, Tx};

const NEVER: Timestamp = Timestamp(0);

struct World {
    store: Store,
    zones: Zones,
}

fn context() -> ZoneContext {
    ZoneContext {
        region: "local-1".into(),
        others: vec!["far-1".into(), "none-1".into()],
        domain: "Roadstead.test".into(),
        threads: 2,
    }
}

impl World {
    /// Rows as words: `zone NAME`, `service NAME ZONE`, `instance ID SERVICE ZONE ADDRESS PORT
    /// STATE`, where STATE is `free` (no task), or the verdicts of its task's registrations joined
    /// with `+`, or `draining`; `lb NAME ADDRESS`.
    async fn new(rows: &[&str]) -> Self {
        let store = Store::memory(&MemoryJournal::default()).unwrap();
        let mut world = Self { store, zones: Zones::default() };
        world.put(rows).await;
        world
    }

    async fn put(&mut self, rows: &[&str]) {
        let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let put = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            rows.iter().for_each(|row| put_row(tx, row));
            Ok(())
        };
        self.store.update(put).await.unwrap();
        self.compile();
    }

    fn compile(&mut self) {
        self.zones = Zones::compile(&self.store.read(), &self.zones, &context());
    }

    /// `TTL DATA` of each record, sorted; `+` in front of additional ones.
    fn ask(&self, name: &str, kind: RecordType) -> String {
        let name = DnsName::parse(name).unwrap();
        let answer = self.zones.lookup(name.wire(), kind, &mut fastrand::Rng::with_seed(7));
        match answer {
            Answer::Elsewhere => "REFUSED".into(),
            Answer::NoData(zone) => format!("NODATA {}", zone.label),
            Answer::NoName(zone) => format!("NXDOMAIN {}", zone.label),
            Answer::Records { answers, additionals, denied, .. } => {
                let mut texts: Vec<String> = answers.iter().map(text).collect();
                texts.extend(additionals.iter().map(|record| format!("+ {}", text(record))));
                texts.sort();
                let denial = |d: Denied<'_>| if d.exists { "NODATA" } else { "NXDOMAIN" };
                texts.extend(denied.map(|d| format!("{} {}", denial(d), d.zone.label)));
                texts.join(", ")
            }
        }
    }
}

fn text(record: &Record<'_>) -> String {
    let owner = record.owner.map_or_else(String::new, |owner| format!("{owner} "));
    let data = match record.data {
        Data::Address(address) => address.to_string(),
        Data::Srv { port, target } => format!("1 1 {port} {target}"),
        Data::Soa(zone) => format!("{} {} {}", zone.primary, zone.mailbox, zone.negative_ttl),
        Data::Value(Value::Address(address)) => address.to_string(),
        Data::Value(Value::Cname(name)) => format!("CNAME {name}"),
        Data::Value(value) => format!("{value:?}"),
        Data::Cname(name) => format!("CNAME {name}"),
        Data::Ns(name) => name.to_string(),
        Data::Minimal => "RFC8482".into(),
    };
    format!("{owner}{} {data}", record.ttl)
}

fn put_row(tx: &mut Tx<'_>, row: &str) {
    let words: Vec<&str> = row.split_whitespace().collect();
    match words[..] {
        ["zone", name] => {
            tx.put(Namespace::new(name.into(), Duration::from_secs(5), Owner::File));
        }
        ["service", name, zone] => tx.put(DiscoveryService::new(
            DiscoveryKey { namespace: zone.into(), name: name.into() },
            Duration::from_secs(5),
            Owner::File,
        )),
        ["instance", id, service, zone, address, port, state] => {
            put_instance(tx, id, (service, zone), (address, port), state);
        }
        ["lb", name, address] => tx.put(LoadBalancer {
            // `REGION:NAME` outside the home region.
            name: match name.split_once(':') {
                Some((region, name)) => LoadBalancerName::within(region, name),
                None => name.into(),
            },
            id: "0123456789abcdef".into(),
            kind: LoadBalancerKind::Application,
            address: address.parse().unwrap(),
            idle_timeout: Duration::ZERO,
            client_keep_alive: Duration::ZERO,
            owner: Owner::File,
            created_at: NEVER,
            options: Default::default(),
        }),
        _ => panic!("{row}"),
    }
}

fn put_instance(
    tx: &mut Tx<'_>,
    id: &str,
    (service, zone): (&str, &str),
    (address, port): (&str, &str),
    state: &str,
) {
    let service = DiscoveryKey { namespace: zone.into(), name: service.into() };
    let draining = Registration::Draining { since: NEVER };
    tx.put(DiscoveryInstance {
        address: Some(address.parse().unwrap()),
        port: port.parse().ok(),
        task: (state != "free").then(|| id.into()),
        registration: if state == "draining" { draining } else { Registration::Active },
        ..DiscoveryInstance::new(InstanceKey { service, id: id.into() })
    });
    for (group, state) in state.split('+').enumerate() {
        let (verdict, registration) = match state {
            "healthy" => (VerdictState::Healthy, Registration::Active),
            "unhealthy" => (VerdictState::Unhealthy, Registration::Active),
            "initial" => (VerdictState::Initial, Registration::Active),
            "gone" => (VerdictState::Unhealthy, draining),
            _ => continue,
        };
        put_target(tx, id, &format!("g{group}"), verdict, registration);
    }
}

fn put_target(
    tx: &mut Tx<'_>,
    task: &str,
    group: &str,
    verdict: VerdictState,
    registration: Registration,
) {
    tx.put(TargetGroup {
        deregistration_delay: Duration::ZERO,
        ..TargetGroup::new(group.into(), "0".into(), (Protocol::Tcp, 80), Owner::File)
    });
    let old = tx.state().targets.values();
    let old = old.filter(|t| t.task == Some(task.into()) && t.group == group.into());
    let id = old.map(|t| t.id).next().unwrap_or_else(|| tx.next_registration());
    tx.put(Target {
        id,
        group: group.into(),
        address: "127.0.0.1".parse().unwrap(),
        port: 80,
        task: Some(task.into()),
        registration,
        registered_at: NEVER,
    });
    let description = String::new();
    tx.put(Verdict { target: id, state: verdict, reason: None, description, since: NEVER });
}

use RecordType::{A, Aaaa, Any, Cname, Ns, Other, Soa, Srv};

async fn check(rows: &[&str], cases: &[(&str, RecordType, &str)]) {
    let world = World::new(rows).await;
    for (name, kind, expected) in cases {
        assert_eq!(world.ask(name, *kind), *expected, "{name} {kind:?}");
    }
}

const DEMO: &[&str] = &[
    "zone demo.internal",
    "service web demo.internal",
    "service _sip._udp.phones demo.internal",
    "service empty demo.internal",
    "instance t1 web demo.internal 10.0.0.1 80 healthy",
    "instance T2 web demo.internal 10.0.0.2 81 free",
    "instance t3 web demo.internal fd00::3 82 healthy",
    "instance p.1 _sip._udp.phones demo.internal 10.0.0.9 - free",
    "lb Front 127.0.10.1",
    "lb six ::1",
];

#[tokio::test]
async fn each_type_is_answered_out_of_the_instances() {
    let srv = "+ t1.web.demo.internal 5 10.0.0.1, + t2.web.demo.internal 5 10.0.0.2, \
               + t3.web.demo.internal 5 fd00::3, 5 1 1 80 t1.web.demo.internal, \
               5 1 1 81 t2.web.demo.internal, 5 1 1 82 t3.web.demo.internal";
    check(
        DEMO,
        &[
            ("web.demo.internal", A, "5 10.0.0.1, 5 10.0.0.2"),
            ("WEB.demo.Internal.", A, "5 10.0.0.1, 5 10.0.0.2"),
            ("web.demo.internal", Aaaa, "5 fd00::3"),
            ("web.demo.internal", Srv, srv),
            ("web.demo.internal", Any, "5 RFC8482"),
            ("t1.web.demo.internal", A, "5 10.0.0.1"),
            ("t2.WEB.demo.internal", A, "5 10.0.0.2"),
            ("t3.web.demo.internal", Aaaa, "5 fd00::3"),
            ("_sip._udp.phones.demo.internal", A, "5 10.0.0.9"),
            ("p.1._sip._udp.phones.demo.internal", A, "5 10.0.0.9"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_name_that_exists_without_the_type_is_no_data() {
    let demo = "NODATA demo.internal";
    check(
        DEMO,
        &[
            ("web.demo.internal", Other, demo),
            ("web.demo.internal", Soa, demo),
            ("t1.web.demo.internal", Aaaa, demo),
            ("t1.web.demo.internal", Srv, demo),
            ("empty.demo.internal", A, demo),
            ("demo.internal", A, demo),
            ("_sip._udp.phones.demo.internal", Aaaa, demo),
            ("_sip._udp.phones.demo.internal", Srv, demo),
            // Empty non-terminals: of a service's name, of an instance's id, of the primary's name.
            ("_udp.phones.demo.internal", A, demo),
            ("phones.demo.internal", A, demo),
            ("1._sip._udp.phones.demo.internal", A, demo),
            ("dns.demo.internal", A, demo),
            ("ns.dns.demo.internal", A, demo),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_unknown_name_is_nxdomain_and_another_zone_is_refused() {
    let demo = "NXDOMAIN demo.internal";
    check(
        DEMO,
        &[
            ("other.demo.internal", A, demo),
            ("other.demo.internal", Any, demo),
            ("t9.web.demo.internal", A, demo),
            ("x.t1.web.demo.internal", A, demo),
            ("t1.empty.demo.internal", A, demo),
            ("hostmaster.demo.internal", A, demo),
            ("xdemo.internal", A, "REFUSED"),
            ("internal", A, "REFUSED"),
            ("example.com", A, "REFUSED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_apex_has_soa_and_ns() {
    let soa = "5 ns.dns.demo.internal hostmaster.demo.internal 5";
    check(
        DEMO,
        &[
            ("demo.internal", Soa, soa),
            ("DEMO.internal", Ns, "3600 ns.dns.demo.internal"),
            ("local-1.elb.roadstead.test", Ns, "3600 ns.dns.local-1.elb.roadstead.test"),
        ],
    )
    .await;
}

#[tokio::test]
async fn load_balancers_names_answer_their_address_for_a_minute() {
    let zone = "local-1.elb.roadstead.test";
    check(
        DEMO,
        &[
            ("front-0123456789abcdef.local-1.elb.roadstead.test", A, "60 127.0.10.1"),
            ("FRONT-0123456789ABCDEF.local-1.elb.Roadstead.test", A, "60 127.0.10.1"),
            ("six-0123456789abcdef.local-1.elb.roadstead.test", Aaaa, "60 ::1"),
            ("front-0123456789abcdef.local-1.elb.roadstead.test", Aaaa, &format!("NODATA {zone}")),
            ("back-0123456789abcdef.local-1.elb.roadstead.test", A, &format!("NXDOMAIN {zone}")),
            ("elb.roadstead.test", A, "REFUSED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn load_balancers_of_each_region_are_below_its_name() {
    check(
        &["lb front 127.0.10.1", "lb far-1:front 127.0.10.2", "lb far-1:alone 127.0.10.3"],
        &[
            ("front-0123456789abcdef.local-1.elb.roadstead.test", A, "60 127.0.10.1"),
            ("front-0123456789abcdef.far-1.elb.roadstead.test", A, "60 127.0.10.2"),
            ("alone-0123456789abcdef.far-1.elb.roadstead.test", A, "60 127.0.10.3"),
            (
                "alone-0123456789abcdef.local-1.elb.roadstead.test",
                A,
                "NXDOMAIN local-1.elb.roadstead.test",
            ),
            ("x.none-1.elb.roadstead.test", A, "NXDOMAIN none-1.elb.roadstead.test"),
            ("x.other-1.elb.roadstead.test", A, "REFUSED"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_deepest_zone_answers_and_the_names_above_it_exist() {
    let rows = [
        "zone internal",
        "zone a.b.internal",
        "service a.b internal",
        "service web a.b.internal",
        "instance t1 a.b internal 10.0.0.1 80 free",
        "instance t2 web a.b.internal 10.0.0.2 80 free",
    ];
    check(
        &rows,
        &[
            ("web.a.b.internal", A, "5 10.0.0.2"),
            ("a.b.internal", A, "NODATA a.b.internal"),
            ("t1.a.b.internal", A, "NXDOMAIN a.b.internal"),
            ("b.internal", A, "NODATA internal"),
            ("c.internal", A, "NXDOMAIN internal"),
        ],
    )
    .await;
}

/// One service `s.z` with these instances' states; what its A record and the instances' own names
/// say.
async fn check_health(states: &[&str], expected: &str) {
    let mut rows = vec!["zone z".to_owned(), "service s z".to_owned()];
    let row = |(n, state): (usize, &&str)| format!("instance t{n} s z 10.0.0.{n} 80 {state}");
    rows.extend(states.iter().enumerate().map(row));
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let world = World::new(&rows).await;
    let last_octets: Vec<String> = world
        .ask("s.z", A)
        .split(", ")
        .map(|record| record.trim_start_matches("5 10.0.0.").to_owned())
        .collect();
    assert_eq!(last_octets.join(" "), expected, "{states:?}");
    let answered = |n: &usize| world.ask(&format!("t{n}.s.z"), A) == format!("5 10.0.0.{n}");
    let own: BTreeSet<usize> = (0..states.len()).filter(answered).collect();
    let hidden = |state: &str| state == "draining" || state == "initial";
    let visible: BTreeSet<usize> = (0..states.len()).filter(|n| !hidden(states[*n])).collect();
    assert_eq!(own, visible, "own names of {states:?}");
}

#[tokio::test]
async fn only_healthy_instances_are_answered_while_there_is_one() {
    check_health(&["healthy", "unhealthy", "initial", "free"], "0 3").await;
    check_health(&["unhealthy", "healthy+healthy"], "1").await;
    check_health(&["healthy+unhealthy", "healthy"], "1").await;
    check_health(&["healthy", "none"], "0 1").await;
    check_health(&["unhealthy", "gone"], "1").await;
}

#[tokio::test]
async fn all_unhealthy_ones_are_answered_when_none_is_healthy_but_never_initial_ones() {
    check_health(&["unhealthy", "unhealthy", "initial"], "0 1").await;
    check_health(&["initial", "initial"], "NODATA z").await;
    check_health(&[], "NODATA z").await;
}

#[tokio::test]
async fn a_draining_instance_is_in_no_answer() {
    check_health(&["draining", "healthy"], "1").await;
    check_health(&["draining", "unhealthy"], "1").await;
    check_health(&["draining"], "NODATA z").await;
}

#[tokio::test]
async fn at_most_eight_of_many_are_answered_and_all_get_their_turn() {
    let mut rows = vec!["zone z".to_owned(), "service s z".to_owned()];
    rows.extend((0..20).map(|n| format!("instance t{n} s z 10.0.0.{n} 80 free")));
    let world = World::new(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let name = DnsName::parse("s.z").unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut seen = BTreeSet::new();
    for kind in [A, Srv].iter().cycle().take(200) {
        let Answer::Records { answers, .. } = world.zones.lookup(name.wire(), *kind, &mut rng)
        else {
            panic!("no records");
        };
        let texts: BTreeSet<String> = answers.iter().map(text).collect();
        assert_eq!((answers.len(), texts.len()), (8, 8));
        seen.extend(texts);
    }
    assert_eq!(seen.len(), 40);
}

#[tokio::test]
async fn eight_are_answered_in_every_order() {
    let mut rows = vec!["zone z".to_owned(), "service s z".to_owned()];
    rows.extend((0..8).map(|n| format!("instance t{n} s z 10.0.0.{n} 80 free")));
    let world = World::new(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let name = DnsName::parse("s.z").unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut first = BTreeSet::new();
    for _ in 0..200 {
        let Answer::Records { answers, .. } = world.zones.lookup(name.wire(), A, &mut rng) else {
            panic!("no records");
        };
        assert_eq!(answers.len(), 8);
        first.insert(text(&answers[0]));
    }
    assert_eq!(first.len(), 8);
}

fn key(id: &str) -> InstanceKey {
    let service = DiscoveryKey { namespace: "demo.internal".into(), name: "web".into() };
    InstanceKey { service, id: id.into() }
}

#[tokio::test]
async fn an_answer_that_leaves_moves_cached_until_of_whom_it_names_over_generations() {
    let mut world = World::new(DEMO).await;
    let ask = |zones: &Zones, name: &str, kind, at| {
        let name = DnsName::parse(name).unwrap();
        let mut rng = fastrand::Rng::new();
        zones.lookup(name.wire(), kind, &mut rng).leaves(1, Timestamp::from_millis(at));
    };
    assert_eq!(world.zones.cached_until(&key("t1")), NEVER);
    ask(&world.zones, "t1.web.demo.internal", Aaaa, 900_000);
    ask(&world.zones, "t1.web.demo.internal", A, 1000);
    assert_eq!(world.zones.cached_until(&key("t1")), Timestamp::from_millis(6000));
    assert_eq!(world.zones.cached_until(&key("T2")), NEVER);
    world.put(&["instance t1 web demo.internal 10.0.0.1 80 draining"]).await;
    assert_eq!(world.zones.cached_until(&key("t1")), Timestamp::from_millis(6000));
    ask(&world.zones, "web.demo.internal", Srv, 2000);
    assert_eq!(world.zones.cached_until(&key("t1")), Timestamp::from_millis(6000));
    assert_eq!(world.zones.cached_until(&key("T2")), Timestamp::from_millis(7000));
    assert_eq!(world.zones.cached_until(&key("t3")), Timestamp::from_millis(7000));
    let remove = |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        tx.remove(Key::DiscoveryInstance(key("t1")));
        Ok(())
    };
    world.store.update(remove).await.unwrap();
    world.compile();
    assert_eq!(world.zones.cached_until(&key("t1")), NEVER);
    world.put(&["instance t1 web demo.internal 10.0.0.1 80 healthy"]).await;
    assert_eq!(world.zones.cached_until(&key("t1")), NEVER, "a new instance inherits nothing");
}

#[tokio::test]
async fn what_did_not_change_is_shared() {
    let mut world = World::new(DEMO).await;
    let before = world.zones.clone();
    world.put(&["lb other 127.0.10.2"]).await;
    assert!(!Arc::ptr_eq(&before.zones, &world.zones.zones));
    let shared = |a: &Zones, b: &Zones, service: &str| {
        let key = DiscoveryKey { namespace: "demo.internal".into(), name: service.into() };
        Arc::ptr_eq(&a.services[&key], &b.services[&key])
    };
    assert!(shared(&before, &world.zones, "web"));
    let between = world.zones.clone();
    world.put(&["instance t1 web demo.internal 10.0.0.1 80 unhealthy"]).await;
    assert!(!shared(&between, &world.zones, "web") && shared(&between, &world.zones, "empty"));
    let before = world.zones.clone();
    world.compile();
    assert!(Arc::ptr_eq(&before.zones, &world.zones.zones), "nothing changed at all");
}

#[tokio::test]
async fn names_that_dns_cannot_hold_are_left_out() {
    let long = "x".repeat(64);
    let rows = [
        "zone demo.internal",
        &format!("service {long} demo.internal"),
        "service web demo.internal",
        &format!("instance {long} web demo.internal 10.0.0.1 80 free"),
        &format!("zone {long}"),
    ];
    check(
        &rows,
        &[
            ("web.demo.internal", A, "5 10.0.0.1"),
            ("web.demo.internal", Srv, "NODATA demo.internal"),
            ("demo.internal", A, "NODATA demo.internal"),
        ],
    )
    .await;
}

fn near_names() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        Just("web"),
        Just("demo"),
        Just("internal"),
        Just("t1"),
        Just("_udp"),
        Just("phones"),
        Just("p"),
        Just("1"),
        Just("ns"),
        Just("dns"),
        Just("x"),
        Just("elb"),
        Just("test"),
    ];
    let name = prop::collection::vec(label, 1..6).prop_map(|labels| {
        DnsName::parse(&labels.join(".")).map_or_else(Vec::new, |name| name.wire().to_vec())
    });
    prop_oneof![name, prop::collection::vec(any::<u8>(), 0..40)]
}

#[test]
fn lookups_of_any_bytes_name_only_our_instances() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = runtime.block_on(World::new(DEMO));
    let ours: BTreeSet<IpAddr> =
        ["10.0.0.1", "10.0.0.2", "fd00::3", "10.0.0.9"].map(|a| a.parse().unwrap()).into();
    proptest!(|(name in near_names(), kind in 0usize..7, seed in any::<u64>())| {
        let kind = [A, Aaaa, Srv, Soa, Ns, Any, Other][kind];
        let mut rng = fastrand::Rng::with_seed(seed);
        if let Answer::Records { answers, additionals, .. } =
            world.zones.lookup(&name, kind, &mut rng)
        {
            prop_assert!(!answers.is_empty() && answers.len() <= MOST_RECORDS);
            for record in answers.iter().chain(&additionals) {
                if let Data::Address(address) = record.data {
                    prop_assert!(record.names_instance() && ours.contains(&address));
                }
            }
        }
    });
}

#[tokio::test]
async fn ten_thousand_instances_are_each_found() {
    let mut rows = vec!["zone z".to_owned()];
    for service in 0..10 {
        rows.push(format!("service s{service} z"));
        let row = |n: usize| {
            let (high, low) = (n / 250, n % 250);
            format!("instance {n:032x} s{service} z 10.{service}.{high}.{low} 80 free")
        };
        rows.extend((0..1000).map(row));
    }
    let world = World::new(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for n in (0..1000).step_by(37) {
        let name = format!("{n:032x}.s3.z");
        assert_eq!(world.ask(&name, A), format!("5 10.3.{}.{}", n / 250, n % 250));
    }
}

mod discovery;
mod records;
