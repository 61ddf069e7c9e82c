//! Facts about the whole loop, on the simulated runtime and in virtual time.

use std::cell::Cell;

use super::*;
use crate::model::{
    Account, Capacity, Cluster, ContainerCheck, ContainerDefinition, ContainerHealth,
    ContainerInstance, Dependency, DependencyCondition, InstanceKind, Owner, PortMapping, Protocol,
    RestartPolicy, Service, ServiceKey, ServiceTargetGroup, StopCode, TargetGroup, TaskDefinition,
    Verdict, VerdictState,
};
use crate::routing::{Context, Publisher, Slot};
use crate::runtime::sim::{EffectKind, Faults, Sim};
use crate::runtime::{ContainerSpec, EVENTS, Runtime as _};
use crate::state::{MemoryJournal, Tx};

mod drains;
mod fleet;
mod gradual;

const DELAY: Duration = Duration::from_secs(30);
const ORIGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn definition() -> TaskDefinition {
    let container = ContainerDefinition {
        port_mappings: vec![PortMapping::tcp(80)],
        command: vec!["run".to_owned()],
        stop_timeout: Some(Duration::from_secs(5)),
        ..ContainerDefinition::new("app")
    };
    let containers = vec![container];
    TaskDefinition::new("web".into(), 1, containers)
}

pub(super) fn key() -> ServiceKey {
    ServiceKey { cluster: "c".into(), name: "web".into() }
}

/// A service of `count` tasks in group `g`.
fn furnish(tx: &mut Tx<'_>, count: u32) {
    tx.put(Cluster::new("c".into(), Owner::File));
    if tx.state().instances.is_empty() {
        let local = ContainerInstance::new("local".into(), InstanceKind::Process, Timestamp(0));
        tx.put(local.connected(Capacity { cpu: 1 << 20, memory_mib: 1 << 20 }));
    }
    tx.put(definition());
    tx.put(TargetGroup {
        deregistration_delay: DELAY,
        ..TargetGroup::new("g".into(), "0".repeat(16), (Protocol::Http, 80), Owner::File)
    });
    tx.put(Service {
        desired_count: count,
        load_balancers: vec![ServiceTargetGroup {
            group: "g".into(),
            container_port: 80,
            pair: None,
        }],
        ..Service::new(key(), definition().key(), Owner::File, Timestamp(0))
    });
}

pub(super) struct House {
    journal: MemoryJournal,
    pub(super) sim: Sim,
    pub(super) store: Store,
    slot: Slot,
    pub(super) reader: Reader,
    pub(super) work: JoinSet<()>,
    /// The revision whose tasks fail their checks.
    sick: Cell<Option<u32>>,
}

impl House {
    pub(super) fn new() -> Self {
        Self::on(MemoryJournal::default(), Sim::new(1))
    }

    fn on(journal: MemoryJournal, sim: Sim) -> Self {
        let fleet = Fleet::one(Arc::new(sim.clone()));
        Self::of(journal, sim, &fleet, Clock::paused(ORIGIN))
    }

    fn of(journal: MemoryJournal, sim: Sim, fleet: &Fleet, clock: Clock) -> Self {
        let store = Store::memory(&journal).unwrap();
        let metrics = Metrics::new(1);
        let reader = Reader::new(&metrics);
        let account = Account::new("local", "0".repeat(12));
        let context = Context { account, domain: "test".into(), metrics: metrics.clone() };
        let slot = reader.register();
        let settings =
            Settings { addresses: Some("127.64.0.0/24".parse().unwrap()), ..Settings::default() };
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        let orchestrator = Orchestrator::new(
            store.clone(),
            reader.clone(),
            fleet,
            settings,
            clock,
            fastrand::Rng::with_seed(1),
            metrics,
        );
        let mut work = JoinSet::new();
        work.spawn(publisher.run(CancellationToken::new()));
        work.spawn(orchestrator.run(CancellationToken::new()));
        Self { journal, sim, store, slot, reader, work, sick: Cell::new(None) }
    }

    pub(super) async fn scale(&self, count: u32) {
        let change = move |tx: &mut Tx<'_>| {
            furnish(tx, count);
            Ok::<_, StoreError>(())
        };
        self.store.update(change).await.unwrap();
    }

    /// The data thread acknowledges what is published, and every registration is healthy but for
    /// those of a sick revision.
    fn serve(&self) {
        self.slot.acknowledge(self.reader.load().generation);
        let state = self.store.read();
        let verdict = |target: &Arc<crate::model::Target>| {
            let task = target.task.as_ref().and_then(|id| state.tasks.get(id));
            let revision = task.map(|task| task.definition.revision);
            let is_sick = revision.is_some() && revision == self.sick.get();
            let now = if is_sick { VerdictState::Unhealthy } else { VerdictState::Healthy };
            (state.verdict_state(target.id) != now).then(|| Verdict {
                target: target.id,
                state: now,
                reason: None,
                description: String::new(),
                since: Timestamp(0),
            })
        };
        let active = state.targets.values().filter(|target| target.is_active());
        let verdicts: Vec<_> = active.filter_map(verdict).collect();
        let _ = self.store.update_riding(|tx| verdicts.into_iter().for_each(|row| tx.put(row)));
    }

    /// Serves until `holds`.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        for _ in 0..6_000 {
            self.serve();
            if holds(&self.store.read()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}; {:#?}", self.store.read().progress);
    }

    /// How often something was done, over all containers.
    fn effects(&self, which: impl Fn(&EffectKind) -> bool) -> usize {
        self.sim.history().iter().filter(|effect| which(&effect.kind)).count()
    }

    async fn crash(mut self) -> (MemoryJournal, Sim) {
        self.work.shutdown().await;
        (self.journal, self.sim)
    }
}

pub(super) fn is_steady(state: &State) -> bool {
    state.progress.get(&key()).is_some_and(|progress| progress.steady)
}

#[tokio::test(start_paused = true)]
async fn restart_adopts_every_task_and_starts_none() {
    let house = House::new();
    house.scale(3).await;
    house.until("steady", is_steady).await;
    let tasks = house.store.read().tasks.clone();
    let (journal, sim) = house.crash().await;
    let house = House::on(journal, sim);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(house.store.read().tasks, tasks);
    assert_eq!(house.effects(|kind| *kind == EffectKind::Created), 3);
    assert_eq!(house.effects(|kind| *kind == EffectKind::Removed), 0);
}

#[tokio::test(start_paused = true)]
async fn task_that_died_while_nobody_looked_is_replaced_after_the_restart() {
    let house = House::new();
    house.scale(2).await;
    house.until("steady", is_steady).await;
    let victim = house.sim.running()[0].clone();
    let (journal, sim) = house.crash().await;
    assert!(sim.kill(&victim.0, &victim.1, 137));
    let house = House::on(journal, sim);
    let replaced = |state: &State| {
        state.tasks[&victim.0].known == TaskStatus::Stopped && state.tasks.len() == 3
    };
    house.until("replaced", replaced).await;
    let task = house.store.read().tasks[&victim.0].clone();
    assert_eq!(task.stop.as_ref().unwrap().code, StopCode::EssentialContainerExited);
    assert_eq!(task.containers[0].exit_code, Some(137));
}

#[tokio::test(start_paused = true)]
async fn runtime_that_does_not_answer_stops_nothing() {
    let house = House::new();
    house.scale(2).await;
    house.until("steady", is_steady).await;
    let (journal, sim) = house.crash().await;
    sim.outage(Duration::from_secs(600));
    let house = House::on(journal, sim);
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(house.store.read().tasks.values().filter(|task| task.is_live()).count(), 2);
    assert_eq!(house.store.read().tasks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn silent_data_thread_costs_the_full_deregistration_delay() {
    let house = House::new();
    house.scale(1).await;
    house.until("steady", is_steady).await;
    let began = clock::instant();
    house.scale(0).await;
    tokio::time::sleep(DELAY - Duration::from_secs(1)).await;
    assert_eq!(house.effects(|kind| *kind == EffectKind::StopSignalled), 0);
    while house.effects(|kind| *kind == EffectKind::StopSignalled) == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < DELAY + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn idle_task_is_stopped_as_soon_as_the_data_threads_know() {
    let house = House::new();
    house.scale(1).await;
    house.until("steady", is_steady).await;
    let began = clock::instant();
    house.scale(0).await;
    let gone = |state: &State| state.tasks.values().all(|t| t.known == TaskStatus::Stopped);
    house.until("stopped", gone).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(house.store.read().quarantine.len(), 1);
    house.until("address rested", |state| state.quarantine.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn death_ejects_the_endpoint_before_any_commit() {
    let house = House::new();
    house.scale(1).await;
    house.until("steady", is_steady).await;
    house.journal.set_failing(true);
    let (task, container) = house.sim.running().remove(0);
    house.sim.kill(&task, &container, 1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(house.reader.load().endpoints.values().all(|endpoint| endpoint.is_ejected()));
    assert!(house.store.read().tasks[&task].is_live(), "nothing could be written");
}

#[tokio::test(start_paused = true)]
async fn events_that_did_not_fit_are_made_up_for_by_a_look() {
    let house = House::new();
    house.scale(2).await;
    house.until("steady", is_steady).await;
    let [(victim, container), (other, _)] = house.sim.running().try_into().unwrap();
    let created = house.effects(|kind| *kind == EffectKind::Created);
    let began = clock::instant();
    // Nobody reads in between: the death is pushed out of the queue.
    house.sim.kill(&victim, &container, 1);
    for health in [ContainerHealth::Healthy, ContainerHealth::Unknown].repeat(EVENTS) {
        house.sim.set_health(&other, &container, health);
    }
    let replaced = |state: &State| !state.tasks[&victim].is_live() && state.tasks.len() == 3;
    house.until("replaced", replaced).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    house.until("steady", is_steady).await;
    assert_eq!(house.effects(|kind| *kind == EffectKind::Created), created + 1);
    assert!(house.store.read().tasks[&other].is_live());
}

#[tokio::test(start_paused = true)]
async fn task_that_cannot_start_backs_off_and_says_why() {
    let house = House::new();
    house.sim.set_faults(Faults { start_error: 1.0, ..Faults::default() });
    house.scale(1).await;
    let failures = |count| {
        move |state: &State| state.progress.get(&key()).is_some_and(|p| p.backoff.failures == count)
    };
    house.until("three failures", failures(3)).await;
    let third = clock::instant();
    house.until("four failures", failures(4)).await;
    assert!(third.elapsed() >= Duration::from_secs(9), "{:?}", third.elapsed());
    let state = house.store.read();
    let backoff = &state.progress[&key()].backoff;
    let reason = backoff.reason.as_deref().unwrap();
    assert!(reason.contains("CannotStartContainerError"), "{reason}");
    house.sim.set_faults(Faults::default());
    house.until("steady", is_steady).await;
}

async fn stray(sim: &Sim, task: &str) {
    let id = TaskId::from(task);
    let spec = ContainerSpec::new(&id, "c", &definition(), "app", None).unwrap();
    sim.create(&spec).await.unwrap();
    sim.start(&id, "app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn container_of_an_unknown_task_goes_after_its_grace() {
    let house = House::new();
    house.scale(1).await;
    house.until("steady", is_steady).await;
    stray(&house.sim, "stray").await;
    tokio::time::sleep(Duration::from_secs(115)).await;
    assert_eq!(house.sim.running().len(), 2);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(house.sim.observed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn containers_that_a_lost_store_does_not_know_are_kept() {
    let sim = Sim::new(1);
    stray(&sim, "stray").await;
    let house = House::on(MemoryJournal::default(), sim);
    house.scale(1).await;
    house.until("steady", is_steady).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(house.sim.running().len(), 2);
}

/// The definition again, of these containers.
async fn redefine(house: &House, mut containers: Vec<ContainerDefinition>) {
    containers.iter_mut().for_each(|container| container.command = vec!["run".to_owned()]);
    let definition = TaskDefinition::new("web".into(), 1, containers);
    let change = move |tx: &mut Tx<'_>| {
        tx.put(definition);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
}

/// Another desired count, and nothing else.
async fn want(house: &House, count: u32) {
    let change = move |tx: &mut Tx<'_>| {
        let mut service = Service::clone(&tx.state().services[&key()]);
        service.desired_count = count;
        tx.put(service);
        Ok::<_, StoreError>(())
    };
    house.store.update(change).await.unwrap();
}

fn depends(on: &str, condition: DependencyCondition) -> Vec<Dependency> {
    vec![Dependency { container: on.to_owned(), condition }]
}

fn checked(name: &str) -> ContainerDefinition {
    let check = ContainerCheck {
        command: vec!["CMD".to_owned(), "x".to_owned()],
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        retries: 3,
        start_period: None,
    };
    ContainerDefinition { health_check: Some(check), ..ContainerDefinition::new(name) }
}

#[tokio::test(start_paused = true)]
async fn containers_start_and_stop_in_the_order_of_their_dependencies() {
    let house = House::new();
    house.scale(0).await;
    let init = ContainerDefinition { essential: false, ..ContainerDefinition::new("init") };
    let db = ContainerDefinition {
        depends_on: depends("init", DependencyCondition::Success),
        ..checked("db")
    };
    let app = ContainerDefinition {
        depends_on: depends("db", DependencyCondition::Healthy),
        ..definition().containers.remove(0)
    };
    redefine(&house, vec![app, db, init]).await;
    want(&house, 1).await;
    let started = |name: &str| {
        let is_it = |e: &crate::runtime::sim::Effect| {
            e.container == name && matches!(e.kind, EffectKind::Started { .. })
        };
        house.sim.history().iter().any(is_it)
    };
    house.until("init", |_| started("init")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!started("db") && !started("app"));
    let id = house.store.read().tasks.keys().next().unwrap().clone();
    assert!(house.sim.kill(&id, "init", 0));
    house.until("db", |_| started("db")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!started("app"));
    house.sim.set_health(&id, "db", ContainerHealth::Healthy);
    house.until("steady", is_steady).await;
    let app = house.store.read().tasks[&id].container("app").unwrap().address;
    let target = house.store.read().targets.values().next().unwrap().address;
    assert_eq!(Some(target), app);
    let seen = house.sim.history().len();
    let none = move |tx: &mut Tx<'_>| {
        let mut service = Service::clone(&tx.state().services[&key()]);
        service.desired_count = 0;
        tx.put(service);
        Ok::<_, StoreError>(())
    };
    house.store.update(none).await.unwrap();
    house.until("stopped", |state| state.tasks[&id].known == TaskStatus::Stopped).await;
    let stops = house.sim.history_since(seen).into_iter();
    let stops =
        stops.filter(|e| matches!(e.kind, EffectKind::StopSignalled | EffectKind::Exited { .. }));
    let stops: Vec<_> = stops.map(|effect| effect.container).collect();
    assert_eq!(stops, ["app", "app", "db", "db"]);
}

#[tokio::test(start_paused = true)]
async fn dependency_that_never_becomes_healthy_fails_the_task_after_its_start_timeout() {
    let house = House::new();
    house.scale(0).await;
    let db = ContainerDefinition { start_timeout: Some(Duration::from_secs(20)), ..checked("db") };
    let app = ContainerDefinition {
        depends_on: depends("db", DependencyCondition::Healthy),
        ..definition().containers.remove(0)
    };
    redefine(&house, vec![app, db]).await;
    want(&house, 1).await;
    let failed = |state: &State| state.tasks.values().any(|task| task.stop.is_some());
    house.until("failed", failed).await;
    let state = house.store.read();
    let task = state.tasks.values().find(|task| task.stop.is_some()).unwrap();
    let stop = task.stop.as_ref().unwrap();
    assert_eq!(stop.code, StopCode::TaskFailedToStart);
    assert_eq!(stop.reason, "Task failed to start");
    let told = task.container("app").unwrap().reason.as_deref().unwrap_or_default();
    assert!(told.contains("db took longer than its startTimeout of 20 s"), "{told}");
    assert!(stop.whole().ends_with(told), "{stop:?}");
    let (began, ended) = (task.container("db").unwrap().started_at.unwrap(), task.stopping_at);
    let took = ended.unwrap().since(began);
    assert!((20..25).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn task_whose_container_checks_fail_is_replaced_and_counts_when_they_pass() {
    let house = House::new();
    house.scale(0).await;
    let app = ContainerDefinition {
        health_check: checked("app").health_check,
        ..definition().containers.remove(0)
    };
    redefine(&house, vec![app]).await;
    want(&house, 1).await;
    house.until("running", |s| s.tasks.values().any(|t| t.known == TaskStatus::Running)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.serve();
    assert!(!is_steady(&house.store.read()), "no check has passed");
    let first = house.store.read().tasks.keys().next().unwrap().clone();
    house.sim.set_health(&first, "app", ContainerHealth::Healthy);
    house.until("steady", is_steady).await;
    house.sim.set_health(&first, "app", ContainerHealth::Unhealthy);
    house.until("replacement", |state| state.tasks.len() == 2).await;
    assert!(house.store.read().tasks[&first].is_live(), "its replacement is healthy first");
    let second = house.store.read().tasks.keys().find(|id| **id != first).unwrap().clone();
    house.until("running", |s| s.tasks[&second].known == TaskStatus::Running).await;
    house.sim.set_health(&second, "app", ContainerHealth::Healthy);
    house.until("replaced", |state| state.tasks[&first].known == TaskStatus::Stopped).await;
    let reason = house.store.read().tasks[&first].stop.clone().unwrap().reason;
    assert_eq!(reason, "Task failed container health checks");
}

#[tokio::test(start_paused = true)]
async fn container_with_a_restart_policy_is_started_again_in_its_place_after_its_period() {
    let house = House::new();
    house.scale(0).await;
    let policy = RestartPolicy {
        enabled: true,
        ignored_exit_codes: vec![3],
        attempt_period: Some(Duration::from_secs(60)),
    };
    let app =
        ContainerDefinition { restart_policy: Some(policy), ..definition().containers.remove(0) };
    redefine(&house, vec![app]).await;
    want(&house, 1).await;
    house.until("steady", is_steady).await;
    let (id, old) = {
        let state = house.store.read();
        let id = state.tasks.keys().next().unwrap().clone();
        (id, state.targets.values().next().unwrap().id)
    };
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(house.sim.kill(&id, "app", 1));
    let back = |state: &State| {
        let row = state.tasks[&id].container("app").unwrap();
        row.restarts == 1 && !row.is_restarting
    };
    house.until("restarted", back).await;
    house.until("steady", is_steady).await;
    {
        let state = house.store.read();
        assert_eq!((state.tasks.len(), state.targets.len()), (1, 1));
        let target = state.targets.values().next().unwrap();
        assert!(target.id != old && target.is_active());
        assert_eq!(state.tasks[&id].containers[0].exit_code, Some(1));
    }
    // Too early: it has not run for the period.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(house.sim.kill(&id, "app", 1));
    house.until("died", |state| state.tasks[&id].known == TaskStatus::Stopped).await;
    house.until("replaced", |s| s.tasks.len() == 2 && is_steady(s)).await;
    let second = house.store.read().tasks.keys().find(|other| **other != id).unwrap().clone();
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(house.sim.kill(&second, "app", 3), "a code that is ignored");
    house.until("died", |state| state.tasks[&second].known == TaskStatus::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn restart_that_a_crash_cut_off_is_made_up_for() {
    let house = House::new();
    house.scale(0).await;
    let policy =
        RestartPolicy { enabled: true, ignored_exit_codes: Vec::new(), attempt_period: None };
    let app =
        ContainerDefinition { restart_policy: Some(policy), ..definition().containers.remove(0) };
    redefine(&house, vec![app]).await;
    want(&house, 1).await;
    house.until("steady", is_steady).await;
    let id = house.store.read().tasks.keys().next().unwrap().clone();
    tokio::time::sleep(Duration::from_secs(301)).await;
    house.sim.set_faults(Faults {
        start_error: 0.0,
        unavailable: 0.0,
        slow: 1.0,
        slow_for: Duration::from_secs(30),
        ..Faults::default()
    });
    assert!(house.sim.kill(&id, "app", 1));
    let asked = |state: &State| state.tasks[&id].container("app").unwrap().is_restarting;
    house.until("on record", asked).await;
    let (journal, sim) = house.crash().await;
    sim.set_faults(Faults::default());
    let house = House::on(journal, sim);
    let back = |state: &State| {
        let row = state.tasks[&id].container("app").unwrap();
        row.restarts == 1 && !row.is_restarting
    };
    house.until("restarted", back).await;
    assert_eq!(house.sim.running().len(), 1);
}
