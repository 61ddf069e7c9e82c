//! One pass of the orchestrator over many tasks: in this process, on the simulated runtime.
//!
//! Services get all their tasks from nothing, then tasks die and are replaced. A plan is measured
//! by itself, a whole pass (its commit included) by the program's own metric. **Invariant:** the
//! State is steady whenever a plan is measured, but for what the row names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use roadstead::clock::{self, Clock, Timestamp};
use roadstead::metrics::{BUCKETS, Histogram, Metrics, names};
use roadstead::model::{
    Account, Capacity, Cluster, ContainerDefinition, ContainerInstance, Desired, InstanceKind,
    Owner, PortMapping, Protocol, Service, ServiceKey, ServiceTargetGroup, TargetGroup, Task,
    TaskDefinition, TaskStatus, Verdict, VerdictState,
};
use roadstead::orchestrator::{Curve, Orchestrator, Settings, View, plan};
use roadstead::routing::{Context, Publisher, Reader};
use roadstead::runtime::Fleet;
use roadstead::runtime::sim::Sim;
use roadstead::state::{Journal, State, Store, StoreError, Tx};
use tokio_util::sync::CancellationToken;

use crate::harness::{Options, median, millis, progress, show};

const SIZES: [u32; 2] = [1_000, 10_000];
/// Tasks of one service.
const EACH: u32 = 100;
const PLANS: usize = 50;
const QUICK_PLANS: usize = 3;
/// Deaths, one after the other.
const DEATHS: usize = 200;
const QUICK_DEATHS: usize = 5;
/// For all tasks to be steady.
const DEADLINE: Duration = Duration::from_secs(300);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    show("\nPlans (median / worst), and whole passes while tasks die one after the other.\n");
    show(
        "| tasks | all steady after | plan, nothing to do | plan, a death | passes | mean | 99 in 100 within |",
    );
    show("|---:|---:|---:|---:|---:|---:|---:|");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sizes = if options.quick { &SIZES[..1] } else { &SIZES[..] };
    for size in sizes.iter().copied() {
        runtime.block_on(measure(size, options))?;
    }
    show("\nGoal: a pass of 10,000 tasks within 50 ms.");
    Ok(())
}

/// Everything but a data plane: what is published is acknowledged, what runs is healthy.
struct World {
    store: Store,
    sim: Sim,
    passes: Histogram,
    stop: CancellationToken,
}

fn settings() -> Settings {
    // Nobody waits for what dies early: passes are measured, not patience.
    let backoff = Curve { early: Duration::ZERO, ..Curve::default() };
    Settings { addresses: "127.128.0.0/16".parse().ok(), backoff, ..Settings::default() }
}

fn key(number: u32) -> ServiceKey {
    ServiceKey { cluster: "c".into(), name: format!("service-{number}").as_str().into() }
}

fn fill(tx: &mut Tx<'_>, services: u32) {
    tx.put(Cluster::new("c".into(), Owner::Api));
    let local = ContainerInstance::new("local".into(), InstanceKind::Process, Timestamp(0));
    tx.put(local.connected(Capacity { cpu: 1 << 30, memory_mib: 1 << 30 }));
    let container = ContainerDefinition {
        port_mappings: vec![PortMapping::tcp(80)],
        command: vec!["run".to_owned()],
        ..ContainerDefinition::new("app")
    };
    let definition = TaskDefinition::new("web".into(), 1, vec![container]);
    for number in 0..services {
        let name = format!("group-{number}");
        let id = format!("{number:016x}");
        tx.put(TargetGroup::new(name.as_str().into(), id, (Protocol::Http, 80), Owner::Api));
        let group = name.as_str().into();
        let service = Service::new(key(number), definition.key(), Owner::Api, Timestamp(0));
        tx.put(Service {
            desired_count: EACH,
            load_balancers: vec![ServiceTargetGroup { group, container_port: 80, pair: None }],
            ..service
        });
    }
    tx.put(definition);
}

impl World {
    async fn start(size: u32) -> anyhow::Result<Self> {
        let metrics = Metrics::new(1);
        let store = Store::open(Journal::memory(), &metrics)?;
        let reader = Reader::new(&metrics);
        let account = Account::new("local", "0".repeat(12));
        let domain = "roadstead.internal".to_owned();
        let context = Context { account, domain, metrics: metrics.clone() };
        let fill = move |tx: &mut Tx<'_>| {
            fill(tx, size / EACH);
            Ok::<_, StoreError>(())
        };
        store.update(fill).await?;
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        publisher.publish();
        let (stop, sim) = (CancellationToken::new(), Sim::new(1));
        tokio::spawn(publisher.run(stop.clone()));
        tokio::spawn(acknowledge(reader.clone(), stop.clone()));
        tokio::spawn(check(store.clone(), stop.clone()));
        let passes = metrics.histogram(&names::PASS_SECONDS, &[]);
        let orchestrator = Orchestrator::new(
            store.clone(),
            reader,
            &Fleet::one(Arc::new(sim.clone())),
            settings(),
            Clock::System,
            fastrand::Rng::with_seed(1),
            metrics,
        );
        tokio::spawn(orchestrator.run(stop.clone()));
        Ok(Self { store, sim, passes, stop })
    }

    async fn steady(&self, size: u32) -> anyhow::Result<()> {
        let begun = clock::instant();
        let is_there = |state: &State| {
            let steady = state.progress.values().filter(|progress| progress.steady).count();
            steady == (size / EACH) as usize
        };
        while !is_there(&self.store.read()) {
            anyhow::ensure!(begun.elapsed() < DEADLINE, "{size} tasks are not steady");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn acknowledge(reader: Reader, stop: CancellationToken) {
    let (slot, mut generations) = (reader.register(), reader.watch());
    loop {
        slot.acknowledge(reader.load().generation);
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Whatever is registered is healthy.
async fn check(store: Store, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let state = store.read();
        let fresh = state.targets.keys().filter(|id| state.verdict(**id).is_none());
        let verdict = |id: &_| Verdict {
            target: *id,
            state: VerdictState::Healthy,
            reason: None,
            description: String::new(),
            since: Timestamp(0),
        };
        let verdicts: Vec<Verdict> = fresh.map(verdict).collect();
        if !verdicts.is_empty() {
            // Refused: a target went in the meantime. The next round sees that.
            let _ = store.update_riding(|tx| verdicts.into_iter().for_each(|row| tx.put(row)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn measure(size: u32, options: &Options) -> anyhow::Result<()> {
    let (plans, deaths) = match options.quick {
        true => (QUICK_PLANS, QUICK_DEATHS),
        false => (PLANS, DEATHS),
    };
    let begun = clock::instant();
    let world = World::start(size).await?;
    world.steady(size).await?;
    let settled = begun.elapsed();
    progress(&format!("reconcile: {size} tasks are steady"));
    let state = State::clone(&world.store.read());
    let idle = planned(&state, plans, 0)?;
    let mut died = state.clone();
    let tasks = Arc::make_mut(&mut died.tasks);
    let first = tasks.values().next().context("no task")?;
    let (known, desired) = (TaskStatus::Stopped, Desired::Stopped);
    let dead = Task { known, desired, ..Task::clone(first) };
    tasks.insert(dead.id.clone(), Arc::new(dead));
    let death = planned(&died, plans, 1)?;
    let before = world.passes.totals();
    for _ in 0..deaths {
        let (task, container) = world.sim.running().into_iter().next().context("nothing runs")?;
        anyhow::ensure!(world.sim.kill(&task, &container, 137), "nobody was killed");
        let is_gone = |state: &State| state.tasks.get(&task).is_none_or(|task| !task.is_live());
        while !is_gone(&world.store.read()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.steady(size).await?;
    }
    let after = world.passes.totals();
    let counts: Vec<u64> = after.0.iter().zip(&before.0).map(|(a, b)| a - b).collect();
    let count: u64 = counts.iter().sum();
    let mean = (after.1 - before.1) / u32::try_from(count.max(1))?;
    show(&format!(
        "| {size} | {:.1} s | {} | {} | {count} | {} | {} |",
        settled.as_secs_f64(),
        both(&idle),
        both(&death),
        millis(mean),
        within(&counts, count),
    ));
    Ok(())
}

/// How long each of so many plans of this State takes; each wants so many starts.
fn planned(state: &State, times: usize, starts: usize) -> anyhow::Result<Vec<Duration>> {
    let (settings, avoid, heard) = (settings(), BTreeSet::new(), BTreeMap::new());
    let view = View { state, settings: &settings, leaving: false, avoid: &avoid, heard: &heard };
    let mut took = Vec::new();
    for seed in 0..times as u64 {
        let begun = clock::instant();
        let plan = plan(view, clock::now(), &mut fastrand::Rng::with_seed(seed));
        took.push(begun.elapsed());
        let text: Vec<String> = plan.moves.iter().map(ToString::to_string).collect();
        let count = text.iter().filter(|line| line.starts_with("start ")).count();
        anyhow::ensure!(count == starts, "the plan is {text:?}");
    }
    Ok(took)
}

fn both(times: &[Duration]) -> String {
    let middle = median(times.iter().map(Duration::as_secs_f64));
    let worst = times.iter().copied().max().unwrap_or_default();
    format!("{} / {}", millis(Duration::from_secs_f64(middle)), millis(worst))
}

/// The bound of the bucket that 99 in 100 lie within.
fn within(counts: &[u64], all: u64) -> String {
    let mut sum = 0;
    for (bucket, count) in counts.iter().enumerate() {
        sum += count;
        if sum * 100 >= all * 99 {
            let bound = BUCKETS.get(bucket).copied();
            return bound.map_or_else(|| "more".to_owned(), |s| millis(Duration::from_secs_f64(s)));
        }
    }
    "-".to_owned()
}
