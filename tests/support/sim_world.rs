//! The simulated house: store, publisher, orchestrator, one data thread with traffic, and a health
//! model.
//!
//! [`House::boot`] starts all of it on the journal and the containers of the boot before;
//! [`Boot::crash`] drops it where it stands. **Invariant:** everything runs on one thread and in
//! virtual time, and chance comes from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use roadstead::balance::{Group, InFlight, Turn, Want};
use roadstead::clock::{Clock, Timestamp};
use roadstead::config::ScalingProfile;
use roadstead::metrics::Metrics;
use roadstead::model::{
    Account, Observed, ServiceKey, Target, TargetGroupName, TaskId, Verdict, VerdictState,
};
use roadstead::orchestrator::{Curve, Orchestrator, Scaling, Settings, Stopper, Surroundings};
use roadstead::routing::{Context, Publisher, Reader, Routing};
use roadstead::runtime::sim::{Effect, Faults, Sim};
use roadstead::runtime::{Fleet, Runtime};
use roadstead::series::Series;
use roadstead::state::{MemoryJournal, Store};
use roadstead::zone::{Answer, Data, DnsName, RecordType};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::scaling::demand;

/// The delay of every simulated target group: longer than a data thread is ever silent.
pub(crate) const DELAY: Duration = Duration::from_secs(10);
/// Of every simulated name.
pub(crate) const TTL: Duration = Duration::from_secs(2);
/// Names that services may be found by, one below the other's zone.
pub(crate) const NAMES: [&str; 2] = ["n0.demo.internal", "n1.demo.internal"];
pub(crate) const QUARANTINE: Duration = Duration::from_secs(20);
/// Of every simulated instance.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(10);
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(15);

/// The simulated instances and their zones.
pub(crate) const INSTANCES: [(&str, &str); 3] = [("i0", "z0"), ("i1", "z1"), ("i2", "z1")];

/// The worlds of all instances.
#[derive(Clone, Debug)]
pub(crate) struct Sims([Sim; INSTANCES.len()]);

impl Sims {
    fn new(seed: u64) -> Self {
        Self(std::array::from_fn(|place| Sim::new(seed.wrapping_add(place as u64))))
    }

    fn fleet(&self) -> Fleet {
        let one = |((name, _), sim): (&(&str, &str), &Sim)| {
            ((*name).into(), Arc::new(sim.clone()) as Arc<dyn Runtime>)
        };
        INSTANCES.iter().zip(&self.0).map(one).collect()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.iter().for_each(|sim| sim.set_faults(faults));
    }

    /// Of one instance, or of all of them.
    pub(crate) fn outage(&self, which: Option<usize>, length: Duration) {
        let all = self.0.iter().enumerate();
        all.filter(|(place, _)| which.is_none_or(|which| which == *place))
            .for_each(|(_, sim)| sim.outage(length));
    }

    /// A task is on one instance alone.
    pub(crate) fn kill(&self, task: &TaskId, container: &str, code: i32) -> bool {
        self.0.iter().any(|sim| sim.kill(task, container, code))
    }

    pub(crate) fn running(&self) -> Vec<(TaskId, String)> {
        self.0.iter().flat_map(Sim::running).collect()
    }

    pub(crate) fn observed(&self) -> Vec<Observed> {
        self.0.iter().flat_map(Sim::observed).collect()
    }

    /// What was done since it was last asked, instance by instance.
    pub(crate) fn history_since(&self, seen: &mut [usize; INSTANCES.len()]) -> Vec<Effect> {
        let mut all = Vec::new();
        for (sim, seen) in self.0.iter().zip(seen) {
            let effects = sim.history_since(*seen);
            *seen += effects.len();
            all.extend(effects);
        }
        all
    }
}

/// What outlives a crash.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) journal: MemoryJournal,
    pub(crate) sims: Sims,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Mutex<Shared>>,
}

/// What traffic and health know, and what they did.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Tasks whose checks fail although they run.
    pub(crate) sick: BTreeSet<TaskId>,
    /// The data thread may be silent for seconds.
    pub(crate) silences: bool,
    /// Exchanges under way, by task.
    pub(crate) exchanges: BTreeMap<TaskId, usize>,
    /// When each task was picked last.
    pub(crate) picked: BTreeMap<TaskId, Timestamp>,
    pub(crate) picks: usize,
    /// What services are asked for, in all.
    pub(crate) demands: BTreeMap<ServiceKey, f64>,
    /// Requests wait where there is no target.
    pub(crate) holds: bool,
    /// Until when some cache may hold an address.
    pub(crate) named: BTreeMap<IpAddr, Timestamp>,
    pub(crate) answers: usize,
}

/// One life of the process.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) store: Store,
    pub(crate) stopper: Stopper,
    pub(crate) orchestrator: JoinHandle<()>,
    rest: Vec<JoinHandle<()>>,
}

pub(crate) fn account() -> Account {
    Account::new("local", "0".repeat(12))
}

pub(crate) fn settings() -> Settings {
    Settings {
        addresses: Some("127.64.0.0/25".parse().unwrap()),
        quarantine: QUARANTINE,
        backoff: Curve {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(8),
            early: Duration::from_secs(5),
            reset: Duration::from_secs(60),
        },
        healthy_after: Duration::from_secs(2),
        silent_after: Duration::from_secs(3),
        lost_after: LOST_AFTER,
        orphan_grace: ORPHAN_GRACE,
        stopped_kept: 40,
        stopped_kept_for: Duration::from_secs(600),
        ..Settings::default()
    }
}

impl House {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            journal: MemoryJournal::default(),
            sims: Sims::new(seed),
            clock: Clock::paused(Timestamp::from_millis(1_700_000_000_000)),
            shared: Arc::default(),
        }
    }

    pub(crate) fn boot(&self, rng: &mut Rng) -> Boot {
        let store = Store::memory(&self.journal).unwrap();
        let metrics = Metrics::new(1);
        let reader = Reader::new(&metrics);
        let context =
            Context { account: account(), domain: "test".into(), metrics: metrics.clone() };
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        publisher.publish();
        let never = CancellationToken::new();
        let mut rest = vec![
            tokio::spawn(publisher.run(never.clone())),
            tokio::spawn(data_thread(
                reader.clone(),
                self.clock,
                Arc::clone(&self.shared),
                rng.fork(),
            )),
            tokio::spawn(health(
                store.clone(),
                self.sims.clone(),
                self.clock,
                Arc::clone(&self.shared),
            )),
        ];
        let profile = ScalingProfile::Fast;
        let series = Series::new(profile.step());
        let around = Surroundings {
            store: store.clone(),
            reader: reader.clone(),
            fleet: self.sims.fleet(),
            account: account(),
            metrics: metrics.clone(),
            clock: self.clock,
        };
        let scaling = Scaling::new(around, series.clone(), profile, rng.fork());
        rest.push(tokio::spawn(scaling.run(never.clone())));
        let shared = Arc::clone(&self.shared);
        rest.push(tokio::spawn(demand(store.clone(), series, self.clock, shared)));
        let orchestrator = Orchestrator::new(
            store.clone(),
            reader,
            &self.sims.fleet(),
            settings(),
            self.clock,
            rng.fork(),
            metrics,
        );
        let stopper = orchestrator.stopper();
        let orchestrator = tokio::spawn(orchestrator.run(never));
        Boot { store, stopper, orchestrator, rest }
    }
}

impl Boot {
    /// Ends this life wherever it is.
    pub(crate) async fn crash(self) {
        self.orchestrator.abort();
        let _ = self.orchestrator.await;
        for task in self.rest {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Picks on the snapshot it has loaded, and takes its time to load the next.
async fn data_thread(reader: Reader, clock: Clock, shared: Arc<Mutex<Shared>>, mut rng: Rng) {
    let slot = reader.register();
    let mut generations = reader.watch();
    let mut routing = arc(&reader);
    slot.acknowledge(routing.generation);
    let tick = Duration::from_millis(50);
    let mut groups: Vec<TargetGroupName> = Vec::new();
    // The slot's own delay, and the exchanges, go on beside each other.
    let mut behind: Option<tokio::time::Instant> = None;
    loop {
        let wake = behind.unwrap_or_else(|| roadstead::clock::instant() + tick);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(wake.min(roadstead::clock::instant() + tick)) => {}
            changed = generations.changed(), if behind.is_none() => {
                if changed.is_err() { return }
                let silent = shared.lock().unwrap().silences && rng.u32(0..400) == 0;
                let most = if silent { 8_000 } else { 15 };
                let delay = Duration::from_millis(rng.u64(0..most));
                behind = Some(roadstead::clock::instant() + delay);
                continue;
            }
        }
        if behind.is_some_and(|at| at <= roadstead::clock::instant()) {
            behind = None;
            generations.borrow_and_update();
            routing = arc(&reader);
            slot.acknowledge(routing.generation);
            groups = routing.groups.keys().cloned().collect();
            groups.sort();
        }
        ask(&routing, clock.now(), &shared, &mut rng);
        for name in &groups {
            let Some(group) = routing.groups.get(name) else { continue };
            let mut turn = Turn { exclude: &[], now: clock.now(), rng: &mut rng };
            let Some(endpoint) = group.pick(&mut turn) else {
                hold(group, &reader, &shared, &mut rng);
                continue;
            };
            let guard = InFlight::take(endpoint, 0);
            let Some(task) = endpoint.task.clone() else { continue };
            // Most exchanges are short, a few outlast the deregistration delay.
            let most = if rng.u32(0..200) == 0 { 15_000 } else { 300 };
            let length = Duration::from_millis(rng.u64(0..most));
            let mut own = shared.lock().unwrap();
            own.picks += 1;
            own.picked.insert(task.clone(), clock.now());
            *own.exchanges.entry(task.clone()).or_default() += 1;
            drop(own);
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                sleep(length).await;
                drop(guard);
                let mut own = shared.lock().unwrap();
                if let Some(count) = own.exchanges.get_mut(&task) {
                    *count = count.saturating_sub(1);
                }
            });
        }
    }
}

/// A request waits for the first target, for a while.
fn hold(group: &Group, reader: &Reader, shared: &Mutex<Shared>, rng: &mut Rng) {
    let length = Duration::from_millis(rng.u64(0..3_000));
    if !shared.lock().unwrap().holds {
        return;
    }
    let Some(place) = group.gate.enter(Want::Target, 1) else { return };
    reader.want();
    tokio::spawn(async move {
        sleep(length).await;
        drop(place);
    });
}

/// Asks for every name, as a resolver that caches would.
fn ask(routing: &Routing, now: Timestamp, shared: &Mutex<Shared>, rng: &mut Rng) {
    for name in NAMES {
        let name = DnsName::parse(name).unwrap();
        let answer = routing.zones.lookup(name.wire(), RecordType::A, rng);
        answer.leaves(0, now);
        let Answer::Records { answers, .. } = &answer else { continue };
        let mut own = shared.lock().unwrap();
        for record in answers {
            if let Data::Address(address) = record.data {
                own.named.insert(address, now + TTL);
                own.answers += 1;
            }
        }
    }
}

fn arc(reader: &Reader) -> Arc<Routing> {
    Arc::clone(&reader.load())
}

/// Looks at every target five times a second, as a checker with short intervals would.
async fn health(store: Store, sims: Sims, clock: Clock, shared: Arc<Mutex<Shared>>) {
    loop {
        sleep(Duration::from_millis(200)).await;
        let state = store.read();
        let running: BTreeSet<TaskId> = sims.running().into_iter().map(|(task, _)| task).collect();
        let sick = shared.lock().unwrap().sick.clone();
        let verdict = |target: &Target| {
            let task = target.task.as_ref()?;
            let well = running.contains(task) && !sick.contains(task);
            Some(if well { VerdictState::Healthy } else { VerdictState::Unhealthy })
        };
        let mut changes = Vec::new();
        for target in state.targets.values().filter(|target| target.is_active()) {
            let Some(now) = verdict(target) else { continue };
            if state.verdict_state(target.id) != now {
                changes.push(Verdict {
                    target: target.id,
                    state: now,
                    reason: None,
                    description: "Health checks failed".into(),
                    since: clock.now(),
                });
            }
        }
        if !changes.is_empty() {
            // Refused: a target went in the meantime. The next round sees that.
            let _ = store.update_riding(|tx| changes.into_iter().for_each(|row| tx.put(row)));
        }
    }
}
