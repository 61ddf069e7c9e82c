//! What of a State and its counters is recorded, and under which names.

use std::collections::BTreeSet;

use super::*;
use crate::model::{
    Account, Action, CLIENT_KEEP_ALIVE, Carrier, Cluster, ContainerDefinition, IDLE_TIMEOUT,
    Listener, ListenerKey, LoadBalancer, LoadBalancerKind, Owner, Protocol, Registration, Service,
    ServiceKey, Statistic, Target, TargetGroup, Task, TaskDefinition, TaskStatus, Verdict,
    VerdictState, WeightedGroup,
};
use crate::routing::{Context, Routing, compile};
use crate::runtime::Runtime as _;
use crate::runtime::sim::Sim;
use crate::state::{MemoryJournal, StoreError};

fn balancer(name: &str, kind: LoadBalancerKind) -> LoadBalancer {
    LoadBalancer {
        name: name.into(),
        id: "1".repeat(16),
        kind,
        address: [127, 0, 0, if name == "front" { 1 } else { 2 }].into(),
        idle_timeout: IDLE_TIMEOUT,
        client_keep_alive: CLIENT_KEEP_ALIVE,
        owner: Owner::File,
        created_at: Timestamp(0),
        options: Default::default(),
    }
}

fn group(name: &str, protocol: Protocol) -> TargetGroup {
    TargetGroup {
        deregistration_delay: Duration::ZERO,
        ..TargetGroup::new(name.into(), "2".repeat(16), (protocol, 80), Owner::File)
    }
}

fn listener(balancer: &str, group: &str, protocol: Protocol) -> Listener {
    let forward = vec![WeightedGroup { group: group.into(), weight: 1 }];
    Listener {
        key: ListenerKey { load_balancer: balancer.into(), port: 80 },
        id: "3".repeat(16),
        protocol,
        carrier: Carrier::default(),
        rules: Vec::new(),
        default_action: Action::Forward(forward),
        owner: Owner::File,
        options: Default::default(),
    }
}

async fn store() -> Store {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let furnish = |tx: &mut crate::state::Tx<'_>| {
        tx.put(balancer("front", LoadBalancerKind::Application));
        tx.put(balancer("wire", LoadBalancerKind::Network));
        tx.put(group("web", Protocol::Http));
        tx.put(group("flow", Protocol::Tcp));
        tx.put(listener("front", "web", Protocol::Http));
        tx.put(listener("wire", "flow", Protocol::Tcp));
        for number in 1..=2 {
            let id = tx.next_registration();
            tx.put(Target {
                id,
                group: "web".into(),
                address: [127, 0, 1, number].into(),
                port: 80,
                task: None,
                registration: Registration::Active,
                registered_at: Timestamp(0),
            });
            tx.put(Verdict {
                target: id,
                state: VerdictState::Healthy,
                reason: None,
                description: String::new(),
                since: Timestamp(0),
            });
        }
        Ok::<_, StoreError>(())
    };
    store.update(furnish).await.unwrap();
    store
}

fn routing(store: &Store, metrics: &Metrics) -> Routing {
    let account = Account::new("local", "0".repeat(12));
    let context = Context { account, domain: "test".into(), metrics: metrics.clone() };
    compile(&store.read(), &Routing::default(), &context)
}

/// The sums of the metrics called `name`, by dimensions.
fn sums(points: &[(MetricId, Point)], name: &str) -> String {
    let mut found = Vec::new();
    for (id, point) in points.iter().filter(|(id, _)| id.name == name) {
        let dimensions: Vec<_> = id.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let sum = point.value(Statistic::Sum);
        found.push(format!("{} {} {sum}", id.namespace, dimensions.join(",")));
    }
    found.sort();
    found.join("; ")
}

#[tokio::test]
async fn what_the_planes_counted_is_told_once_under_awss_names() {
    let (store, metrics) = (store().await, Metrics::new(1));
    let routing = routing(&store, &metrics);
    let mut balancers = Balancers::default();
    let web = &routing.groups[&"web".into()].metrics;
    let front = routing.listeners.values().find(|l| l.elb.starts_with("app/")).unwrap();
    let wire = routing.listeners.values().find(|l| l.elb.starts_with("net/")).unwrap();
    web.requests.add(0, 6);
    web.responses[1].add(0, 5);
    web.responses[4].add(0, 1);
    web.response_seconds.observe(0, Duration::from_millis(2));
    web.response_seconds.observe(0, Duration::from_millis(30));
    front.metrics.requests[1].add(0, 5);
    front.metrics.requests[4].add(0, 3);
    front.metrics.own.of(503).add(0, 2);
    front.metrics.own.of(401).add(0, 1);
    front.metrics.requests[3].add(0, 1);
    front.metrics.received.add(0, 100);
    front.metrics.sent.add(0, 50);
    wire.metrics.connections.add(0, 4);
    wire.metrics.active.set(3);
    let points = balancers.points(&store.read(), &routing);
    let check = |name: &str, expected: &str| assert_eq!(sums(&points, name), expected, "{name}");
    let app = "app/front/1111111111111111";
    let web = "targetgroup/web/2222222222222222";
    let elb = "AWS/ApplicationELB";
    check(
        "RequestCount",
        &format!(
            "{elb} LoadBalancer={app} 6; {elb} LoadBalancer={app},TargetGroup={web} 6; \
             {elb} TargetGroup={web} 6"
        ),
    );
    check(
        "RequestCountPerTarget",
        &format!("{elb} LoadBalancer={app},TargetGroup={web} 3; {elb} TargetGroup={web} 3"),
    );
    check("HTTPCode_ELB_503_Count", &format!("{elb} LoadBalancer={app} 2"));
    check("HTTPCode_ELB_5XX_Count", &format!("{elb} LoadBalancer={app} 2"));
    let both = |count| {
        format!(
            "{elb} LoadBalancer={app} {count}; {elb} LoadBalancer={app},TargetGroup={web} {count}"
        )
    };
    check("HTTPCode_Target_2XX_Count", &both(5));
    check("HTTPCode_Target_5XX_Count", &both(1));
    check("TargetResponseTime", &both(0).replace(" 0", " 0.032"));
    let net = "net/wire/1111111111111111";
    check("NewFlowCount", &format!("AWS/NetworkELB LoadBalancer={net} 4"));
    check("ActiveFlowCount", &format!("AWS/NetworkELB LoadBalancer={net} 3"));
    let flow = "targetgroup/flow/2222222222222222";
    check(
        "HealthyHostCount",
        &format!(
            "{elb} LoadBalancer={app},TargetGroup={web} 2; \
             AWS/NetworkELB LoadBalancer={net},TargetGroup={flow} 0"
        ),
    );
    check(
        "ProcessedBytes",
        &format!("{elb} LoadBalancer={app} 150; AWS/NetworkELB LoadBalancer={net} 0"),
    );
    let times = points.iter().find(|(id, _)| id.name == "TargetResponseTime").unwrap().1;
    assert_eq!((times.count, times.min, times.max), (2.0, 0.001, 0.05));
    // Nothing happened since.
    let points = balancers.points(&store.read(), &routing);
    assert_eq!(sums(&points, "NewFlowCount"), format!("AWS/NetworkELB LoadBalancer={net} 0"));
    assert_eq!(sums(&points, "TargetResponseTime"), "");
}

/// What stands in the README between the marks of this name, line by line.
fn table(name: &str) -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->\n")).expect(name);
    let (table, _) = rest.split_once("<!-- end -->").expect(name);
    table.lines().skip(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn logins_and_anomalies_are_told_under_awss_names_and_the_readme_has_all_names() {
    let (store, metrics) = (store().await, Metrics::new(1));
    let routing = routing(&store, &metrics);
    let mut balancers = Balancers::default();
    let points = balancers.points(&store.read(), &routing);
    assert_eq!(sums(&points, "ELBAuthSuccess"), "", "nothing to tell");
    let front = routing.listeners.values().find(|l| l.elb.starts_with("app/")).unwrap();
    let logins = &front.metrics.logins;
    for (counter, count) in [
        (&logins.success, 5),
        (&logins.failure, 4),
        (&logins.error, 3),
        (&logins.refreshed, 2),
        (&logins.oversized, 1),
        (&front.metrics.non_compliant[1], 7),
    ] {
        counter.add(0, count);
    }
    logins.seconds.observe(0, Duration::from_millis(4));
    logins.seconds.observe(0, Duration::from_millis(40));
    let web = &routing.groups[&"web".into()].metrics;
    web.anomalous.set(2);
    web.mitigated.set(1);
    web.requests.add(0, 1);
    web.response_seconds.observe(0, Duration::from_millis(2));
    let points = balancers.points(&store.read(), &routing);
    let app = "AWS/ApplicationELB LoadBalancer=app/front/1111111111111111";
    for (name, sum) in [
        ("ELBAuthSuccess", 5),
        ("ELBAuthFailure", 4),
        ("ELBAuthError", 3),
        ("ELBAuthRefreshTokenSuccess", 2),
        ("ELBAuthUserClaimsSizeExceeded", 1),
        ("DesyncMitigationMode_NonCompliant_Request_Count", 7),
        ("ELBAuthLatency", 44),
    ] {
        assert_eq!(sums(&points, name), format!("{app} {sum}"), "{name}");
    }
    let latency = points.iter().find(|(id, _)| id.name == "ELBAuthLatency").unwrap().1;
    assert_eq!((latency.count, latency.min, latency.max), (2.0, 2.5, 50.0));
    let both = format!("{app},TargetGroup=targetgroup/web/2222222222222222");
    assert_eq!(sums(&points, "AnomalousHostCount"), format!("{both} 2"));
    assert_eq!(sums(&points, "MitigatedHostCount"), format!("{both} 1"));
    let told: BTreeSet<_> = points.iter().map(|(id, _)| id.name.as_str()).collect();
    let known = table("metrics of load balancers");
    let known: BTreeSet<_> = known.iter().filter_map(|line| line.split('`').nth(1)).collect();
    assert_eq!(known, told);
}

/// One running task of `c/web`, of a definition with these CPU units and this memory.
async fn running(sim: &Sim, cpu: Option<u32>, memory: Option<u32>) -> Store {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let containers = vec![ContainerDefinition::new("app")];
    let definition = TaskDefinition {
        cpu,
        memory_mib: memory,
        ..TaskDefinition::new("web".into(), 1, containers)
    };
    let key = ServiceKey { cluster: "c".into(), name: "web".into() };
    let spec = crate::runtime::ContainerSpec::new(&"t1".into(), "c", &definition, "app", None);
    sim.create(&spec.unwrap()).await.unwrap();
    sim.start(&"t1".into(), "app").await.unwrap();
    let furnish = move |tx: &mut crate::state::Tx<'_>| {
        tx.put(Cluster::new("c".into(), Owner::File));
        tx.put(definition.clone());
        let service = Service::new(key.clone(), definition.key(), Owner::File, Timestamp(0));
        tx.put(Service { desired_count: 2, ..service });
        tx.put(Task {
            service: Some(key.clone()),
            known: TaskStatus::Running,
            ..Task::new("t1".into(), "c".into(), definition.key(), Timestamp(0))
        });
        Ok::<_, StoreError>(())
    };
    store.update(furnish).await.unwrap();
    store
}

#[tokio::test(start_paused = true)]
async fn tasks_are_measured_against_what_they_reserve() {
    let check = async |cpu: Option<u32>, memory: Option<u32>, expected: (&str, &str)| {
        let sim = Sim::new(1);
        let store = running(&sim, cpu, memory).await;
        let mut tasks = Tasks::new(Fleet::one(Arc::new(sim.clone())));
        let own = "AWS/ECS ClusterName=c,ServiceName=web";
        let first = tasks.points(&store.read()).await;
        assert_eq!(sums(&first, "CPUUtilization"), "", "it takes two looks to see how fast");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let points = tasks.points(&store.read()).await;
        let shown = |name, value: &str| {
            let both = format!("AWS/ECS ClusterName=c {value}; {own} {value}");
            assert!(value.is_empty() || sums(&points, name) == both, "{}", sums(&points, name));
        };
        shown("CPUUtilization", expected.0);
        shown("MemoryUtilization", expected.1);
        let count = |name| sums(&points, name).rsplit(' ').next().map(str::to_owned);
        assert_eq!(count("RunningTaskCount").as_deref(), Some("1"));
        assert_eq!(count("DesiredTaskCount").as_deref(), Some("2"));
        assert_eq!(count("PendingTaskCount").as_deref(), Some("0"));
    };
    // A simulated container uses a tenth of a core and 16 MiB.
    check(None, Some(128), ("10", "12.5")).await;
    check(Some(256), Some(64), ("40", "25")).await;
    check(Some(2048), None, ("5", "")).await;
}
