//! Gradual deployments on the simulated runtime: what every State on the way has to say.

use std::collections::BTreeSet;

use super::*;
use crate::model::{
    Action, BalancerOptions, Carrier, Deployment, DiscoveryKey, DiscoveryService, GroupPair,
    Listener, ListenerKey, ListenerOptions, LoadBalancer, LoadBalancerKind, Namespace, Rollout,
    ServiceDiscovery, Share, Stage, Strategy, StrategyKind, TrafficRule, WeightedGroup,
};

fn listener() -> ListenerKey {
    ListenerKey { load_balancer: "front".into(), port: 80 }
}

/// Two tasks in group `g`, paired with `h` by the default action of a listener.
fn furnish_pair(tx: &mut Tx<'_>) {
    furnish(tx, 2);
    let group = TargetGroup::new("h".into(), "1".repeat(16), (Protocol::Http, 80), Owner::File);
    tx.put(TargetGroup { deregistration_delay: DELAY, ..group });
    tx.put(TaskDefinition { revision: 2, ..definition() });
    tx.put(TaskDefinition { revision: 3, ..definition() });
    let namespace = Namespace::new("demo".into(), Duration::from_secs(5), Owner::File);
    let discovery = DiscoveryKey { namespace: namespace.name.clone(), name: "web".into() };
    tx.put(namespace);
    tx.put(DiscoveryService::new(discovery.clone(), Duration::from_secs(5), Owner::File));
    tx.put(LoadBalancer {
        name: "front".into(),
        id: "0".repeat(16),
        kind: LoadBalancerKind::Application,
        address: "127.0.0.1".parse().unwrap(),
        idle_timeout: Duration::from_secs(60),
        client_keep_alive: Duration::from_secs(60),
        owner: Owner::File,
        created_at: Timestamp(0),
        options: BalancerOptions::default(),
    });
    tx.put(Listener {
        key: listener(),
        id: "0".repeat(16),
        protocol: Protocol::Http,
        carrier: Carrier::Native,
        rules: Vec::new(),
        default_action: Action::Forward(vec![WeightedGroup { group: "g".into(), weight: 1 }]),
        owner: Owner::File,
        options: ListenerOptions::default(),
    });
    let mut service = Service::clone(&tx.state().services[&key()]);
    let production = TrafficRule { listener: listener(), rule: None };
    service.load_balancers[0].pair =
        Some(GroupPair { alternate: "h".into(), production, test: None, role: None });
    service.discovery = Some(ServiceDiscovery { service: discovery, container_port: None });
    let step = Share::of_percent(50.0).unwrap();
    let bake = Duration::from_secs(10);
    service.policy.strategy =
        Strategy { kind: StrategyKind::Linear { step, bake }, bake, ..Strategy::default() };
    tx.put(service);
}

async fn begin(house: &House) {
    let change = |tx: &mut Tx<'_>| {
        furnish_pair(tx);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
    house.until("the first deployment", is_done).await;
    ask_for(house, 2).await;
}

async fn ask_for(house: &House, revision: u32) {
    let change = move |tx: &mut Tx<'_>| {
        let mut service = Service::clone(&tx.state().services[&key()]);
        service.definition.revision = revision;
        tx.put(service);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
}

fn first(state: &State) -> Option<&Deployment> {
    state.progress.get(&key())?.deployments.first()
}

fn is_done(state: &State) -> bool {
    first(state).is_some_and(|first| first.rollout == Rollout::Completed) && is_steady(state)
}

fn is_second(state: &State) -> bool {
    is_of(state, 2)
}

fn is_of(state: &State, revision: u32) -> bool {
    first(state).is_some_and(|first| first.definition.revision == revision)
}

/// The weights of the listener's groups `g` and `h`.
fn weights(state: &State) -> [u32; 2] {
    let groups = state.listeners[&listener()].default_action.groups();
    let weight = |name: &str| {
        groups.iter().find(|group| group.group.as_str() == name).map_or(0, |group| group.weight)
    };
    [weight("g"), weight("h")]
}

/// The revisions that names lead to.
fn named(state: &State) -> BTreeSet<u32> {
    let active = state.discovery_instances.values().filter(|row| row.is_active());
    active.map(|row| state.tasks[row.task.as_ref().unwrap()].definition.revision).collect()
}

/// What must hold of every State: names follow the whole traffic, and who has traffic has healthy
/// targets.
fn check(state: &State) {
    let weights = weights(state);
    let expected = if weights == [0, 100] { 2 } else { 1 };
    assert_eq!(named(state), BTreeSet::from([expected]), "{weights:?}");
    for (group, weight) in ["g", "h"].into_iter().zip(weights) {
        let targets = state.targets.values().filter(|target| target.group.as_str() == group);
        let healthy = |id| state.verdict_state(id) == VerdictState::Healthy;
        let healthy = targets.filter(|target| target.is_active() && healthy(target.id)).count();
        assert!(weight == 0 || healthy > 0, "{weight} for {group}, which has no healthy target");
    }
}

#[tokio::test(start_paused = true)]
async fn weights_and_names_move_in_one_commit_and_to_healthy_targets_alone() {
    let house = House::new();
    begin(&house).await;
    let mut commits = house.store.watch();
    let mut seen = Vec::new();
    while !(is_second(&house.store.read()) && is_done(&house.store.read())) {
        house.serve();
        let state = house.store.read();
        check(&state);
        if seen.last() != Some(&weights(&state)) {
            seen.push(weights(&state));
        }
        let _ = tokio::time::timeout(Duration::from_millis(50), commits.changed()).await;
        commits.borrow_and_update();
    }
    // The rule named one group alone before it was taken.
    assert_eq!(seen[seen.len() - 3..], [[100, 0], [50, 50], [0, 100]], "{seen:?}");
    let gone = |state: &State| {
        let mut old = state.tasks.values().filter(|task| task.definition.revision == 1);
        old.all(|task| task.known == TaskStatus::Stopped)
    };
    house.until("the old tasks to go", gone).await;
    assert_eq!(house.effects(|kind| *kind == EffectKind::Created), 4);
}

#[tokio::test(start_paused = true)]
async fn crash_at_any_stage_goes_on_where_it_was() {
    let mut house = House::new();
    begin(&house).await;
    let mut reached = Stage::ReconcileService;
    for stage in Stage::ALL {
        let there = |state: &State| {
            let shift = first(state).and_then(|first| first.shift.as_ref());
            is_second(state) && shift.is_some_and(|shift| shift.stage >= stage)
        };
        house.until(stage.as_str(), there).await;
        let shift = first(&house.store.read()).unwrap().shift.clone().unwrap();
        assert!(shift.stage >= reached, "{shift:?} after {reached:?}");
        reached = shift.stage;
        let (journal, sim) = house.crash().await;
        house = House::on(journal, sim);
        let after = first(&house.store.read()).unwrap().shift.clone();
        assert_eq!(after, Some(shift));
    }
    house.until("the second deployment", is_done).await;
    assert_eq!(weights(&house.store.read()), [0, 100]);
    check(&house.store.read());
    assert_eq!(house.effects(|kind| *kind == EffectKind::Created), 4);
}

#[tokio::test(start_paused = true)]
async fn deployment_begun_beside_a_broken_one_starts_from_the_one_that_serves() {
    let house = House::new();
    begin(&house).await;
    house.until("half of the traffic", |state| weights(state) == [50, 50]).await;
    house.sick.set(Some(1));
    ask_for(&house, 3).await;
    let (began, mut seen) = (clock::instant(), vec![[50, 50]]);
    while !(is_of(&house.store.read(), 3) && is_done(&house.store.read())) {
        house.serve();
        let now = weights(&house.store.read());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, [[50, 50], [0, 100], [50, 50], [100, 0]]);
    assert_eq!(named(&house.store.read()), BTreeSet::from([3]));
    let gone = |state: &State| {
        let mut old = state.tasks.values().filter(|task| task.definition.revision < 3);
        old.all(|task| task.known == TaskStatus::Stopped)
    };
    house.until("the old tasks to go", gone).await;
}

#[tokio::test(start_paused = true)]
async fn deployment_begun_while_another_bakes_leaves_names_alone_until_somebody_serves() {
    let house = House::new();
    let change = |tx: &mut Tx<'_>| {
        furnish_pair(tx);
        let mut service = Service::clone(&tx.state().services[&key()]);
        // Names alone lead to it.
        service.load_balancers.clear();
        service.policy.strategy.kind = StrategyKind::BlueGreen;
        service.policy.strategy.bake = Duration::from_secs(3600);
        tx.put(service);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
    house.until("the first deployment", is_done).await;
    ask_for(&house, 2).await;
    house.until("its bake time", |state| is_second(state) && bakes(state)).await;
    assert_eq!(named(&house.store.read()), BTreeSet::from([2]));
    ask_for(&house, 3).await;
    let back = |state: &State| named(state) == BTreeSet::from([1]);
    let (mut commits, mut names) = (house.store.watch(), Vec::new());
    let began = clock::instant();
    while !back(&house.store.read()) {
        house.serve();
        assert!(began.elapsed() < Duration::from_secs(300), "{names:?}");
        names.push(named(&house.store.read()));
        let _ = tokio::time::timeout(Duration::from_millis(50), commits.changed()).await;
        commits.borrow_and_update();
    }
    assert!(names.iter().all(|names| !names.is_empty()), "{names:?}");
    house.until("the third to bake", |state| is_of(state, 3) && bakes(state)).await;
    assert_eq!(named(&house.store.read()), BTreeSet::from([3]));
}

fn bakes(state: &State) -> bool {
    let shift = first(state).and_then(|first| first.shift.as_ref());
    shift.is_some_and(|shift| shift.stage == Stage::BakeTime)
}
