//! From a commit to the decision that obeys it, and how long compiling takes: in this process, with
//! the library alone.
//!
//! Two data threads acknowledge as those of the program do; nothing is pinned. An event is a
//! verdict that takes one target out of rotation or puts it back. **Invariant:** every event is
//! checked: after its acknowledgement the target is picked, or is not.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use roadstead::clock::{self, Instant, Timestamp};
use roadstead::metrics::Metrics;
use roadstead::model::{
    Account, Generation, Registration, RegistrationId, Target, Verdict, VerdictState,
};
use roadstead::routing::{
    Context, Outcome, Publisher, Reader, Routing, Slot, Trial, compile, decide,
};
use roadstead::rules::Facts;
use roadstead::state::{Journal, State, Store, StoreError, Tx};
use tokio_util::sync::CancellationToken;

use crate::harness::{Fleet, Latencies, Options, median, millis, progress, show};

/// As the program's control plane has, and as this machine's data plane would.
const CONTROL_THREADS: usize = 2;
const DATA_THREADS: usize = 2;
const SIZES: [u64; 3] = [10, 1_000, 10_000];
const EVENTS: u64 = 2_000;
const QUICK_EVENTS: u64 = 100;
/// Between two events, at most: threads go to sleep meanwhile, as they do in life.
const PAUSE: Duration = Duration::from_millis(3);
const COMPILES: usize = 20;
const QUICK_COMPILES: usize = 3;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let events = if options.quick { QUICK_EVENTS } else { EVENTS };
    show(&format!("\nEvents, {events} of each kind, {DATA_THREADS} data threads (p50 / p99).\n"));
    show("| targets | kind | committed | acknowledged | first decision on every thread |");
    show("|---:|---|---:|---:|---:|");
    for size in SIZES {
        verdicts(size, events)?;
        durable(size, events)?;
    }
    show("\nCompiling (median / worst).\n");
    show("| targets | whole State | one verdict | one target more |");
    show("|---:|---:|---:|---:|");
    for size in SIZES {
        compiling(size, if options.quick { QUICK_COMPILES } else { COMPILES })?;
    }
    show(
        "\nGoals: acknowledged at 1,000 targets p99 10 ms; at 10,000 targets whole State 100 ms, \
        one change 10 ms.",
    );
    Ok(())
}

fn context(threads: usize) -> Context {
    let account = Account::new("local", "0".repeat(12));
    Context { account, domain: "roadstead.internal".into(), metrics: Metrics::new(threads) }
}

/// When a data thread first decided by a generation.
type Decided = (Generation, Instant);

/// The control runtime with a publisher, and data threads that acknowledge and decide.
#[derive(Debug)]
struct World {
    store: Store,
    reader: Reader,
    fleet: Fleet,
    control: tokio::runtime::Runtime,
    stop: CancellationToken,
    threads: Vec<(std::thread::JoinHandle<()>, mpsc::Receiver<Decided>)>,
    rng: fastrand::Rng,
}

/// What one kind of event took.
#[derive(Debug, Default)]
struct Times {
    committed: Latencies,
    acknowledged: Latencies,
    decided: Latencies,
}

impl World {
    fn start(journal: Journal, fleet: Fleet) -> anyhow::Result<Self> {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .enable_all()
            .build()?;
        let store = Store::open(journal, &Metrics::new(1))?;
        let context = context(DATA_THREADS);
        let reader = Reader::new(&context.metrics);
        control.block_on(fleet.fill(&store))?;
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        publisher.publish();
        let stop = CancellationToken::new();
        let threads = (0..DATA_THREADS)
            .map(|index| {
                let (sender, receiver) = mpsc::channel();
                let (reader, slot) = (reader.clone(), reader.register());
                let (fleet, stop) = (fleet.clone(), stop.clone());
                let thread = std::thread::spawn(move || {
                    data_thread(index, &reader, &slot, &fleet, &stop, &sender);
                });
                (thread, receiver)
            })
            .collect();
        control.spawn(publisher.run(stop.clone()));
        let rng = fastrand::Rng::with_seed(fleet.targets);
        let world = Self { store, reader, fleet, control, stop, threads, rng };
        let generation = world.store.read().generation;
        world.control.block_on(world.reader.wait_for(generation))?;
        Ok(world)
    }

    /// Waits as nothing happened, then has `commit` done on the control runtime, where the program
    /// does it too.
    fn event<C>(&mut self, times: &mut Times, commit: C) -> anyhow::Result<()>
    where
        C: Future<Output = anyhow::Result<Generation>> + Send + 'static,
    {
        std::thread::sleep(PAUSE.mul_f64(self.rng.f64()));
        let reader = self.reader.clone();
        let work = self.control.spawn(async move {
            let begun = clock::instant();
            let generation = commit.await?;
            let committed = begun.elapsed();
            reader.wait_for(generation).await?;
            anyhow::Ok((generation, begun, committed, begun.elapsed()))
        });
        let (generation, begun, committed, acknowledged) = self.control.block_on(work)??;
        let mut last = begun;
        for (_, decisions) in &self.threads {
            loop {
                let (seen, at) = decisions.recv_timeout(Duration::from_secs(5))?;
                if seen >= generation {
                    last = last.max(at);
                    break;
                }
            }
        }
        times.committed.add(committed);
        times.acknowledged.add(acknowledged);
        times.decided.add(last - begun);
        Ok(())
    }

    /// Whether the target of this number gets any of its group's next requests.
    fn is_picked(&self, number: u64) -> anyhow::Result<bool> {
        let routing = Arc::clone(&self.reader.load());
        let listener = routing.listeners.get(&self.fleet.socket()).context("no listener")?;
        let host = self.fleet.host(number);
        let mut rng = fastrand::Rng::new();
        let mut trial = Trial::first(0, &mut rng, clock::now());
        let facts = Facts { host: &host, path: "/", ..Facts::default() };
        for _ in 0..self.fleet.per_group() {
            if let Outcome::Forward { guard, .. } = decide(listener, &facts, &mut trial).outcome
                && guard.endpoint().id == self.fleet.id(number)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        for (thread, _) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// As a data thread of the program: woken, it loads the snapshot, acknowledges it, and serves by
/// it.
fn data_thread(
    index: usize,
    reader: &Reader,
    slot: &Slot,
    fleet: &Fleet,
    stop: &CancellationToken,
    decided: &mpsc::Sender<Decided>,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let mut rng = fastrand::Rng::with_seed(index as u64);
    let host = fleet.host(0);
    let serving = async {
        let mut generations = reader.watch();
        loop {
            let generation = reader.load().generation;
            slot.acknowledge(generation);
            let routing = reader.load();
            let mut trial = Trial::first(index, &mut rng, clock::now());
            if let Some(listener) = routing.listeners.get(&fleet.socket()) {
                let facts = Facts { host: &host, path: "/", ..Facts::default() };
                drop(decide(listener, &facts, &mut trial));
                let _ = decided.send((routing.generation, clock::instant()));
            }
            drop(routing);
            tokio::select! {
                changed = generations.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    };
    runtime.block_on(serving);
}

fn verdict(target: RegistrationId, state: VerdictState) -> Verdict {
    Verdict { target, state, reason: None, description: String::new(), since: Timestamp(0) }
}

/// Verdicts: they wait for no disk.
fn verdicts(size: u64, events: u64) -> anyhow::Result<()> {
    let mut world = World::start(Journal::memory(), Fleet::new(size))?;
    let mut times = Times::default();
    for event in 0..events {
        let number = world.rng.u64(0..size);
        for state in [VerdictState::Unhealthy, VerdictState::Healthy] {
            let (store, target) = (world.store.clone(), world.fleet.id(number));
            let commit = async move {
                Ok(store.update_riding(|tx: &mut Tx<'_>| tx.put(verdict(target, state)))?)
            };
            world.event(&mut times, commit)?;
            let picked = world.is_picked(number)?;
            anyhow::ensure!(
                picked == (state == VerdictState::Healthy),
                "event {event} has no effect"
            );
        }
    }
    row(size, "verdict", times);
    Ok(())
}

/// Deregistrations and their opposite, on a journal on disk.
fn durable(size: u64, events: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let journal = Journal::open(&dir.path().join("bench.redb"))?;
    let mut world = World::start(journal, Fleet::new(size))?;
    let mut times = Times::default();
    for event in 0..events.div_ceil(2) {
        let number = world.rng.u64(0..size);
        let draining = Registration::Draining { since: Timestamp(0) };
        for registration in [draining, Registration::Active] {
            let (store, id) = (world.store.clone(), world.fleet.id(number));
            let change = move |tx: &mut Tx<'_>| {
                if let Some(target) = tx.state().targets.get(&id).cloned() {
                    tx.put(Target { registration, ..Target::clone(&target) });
                }
                Ok::<_, StoreError>(())
            };
            let commit = async move { Ok(store.update(change).await?.generation) };
            world.event(&mut times, commit)?;
            let picked = world.is_picked(number)?;
            let expected = registration == Registration::Active;
            anyhow::ensure!(picked == expected, "event {event} has no effect");
        }
    }
    row(size, "durable", times);
    Ok(())
}

fn row(size: u64, kind: &str, mut times: Times) {
    progress(&format!("convergence: {size} targets, {kind}: done"));
    let both = |times: &mut Latencies| {
        format!("{} / {}", millis(times.percentile(50)), millis(times.percentile(99)))
    };
    let (committed, acknowledged) = (both(&mut times.committed), both(&mut times.acknowledged));
    let decided = both(&mut times.decided);
    show(&format!("| {size} | {kind} | {committed} | {acknowledged} | {decided} |"));
}

fn compiling(size: u64, times: usize) -> anyhow::Result<()> {
    let fleet = Fleet::new(size);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = Store::open(Journal::memory(), &Metrics::new(1))?;
    runtime.block_on(fleet.fill(&store))?;
    let state = store.read();
    let timed = |previous: &Routing, state: &State, context: &Context| {
        let begun = clock::instant();
        let routing = compile(state, previous, context);
        (routing, begun.elapsed())
    };
    let mut whole = Vec::new();
    for _ in 0..times {
        whole.push(timed(&Routing::default(), &state, &context(DATA_THREADS)).1);
    }
    let context = context(DATA_THREADS);
    let (mut previous, _) = timed(&Routing::default(), &state, &context);
    let (mut flipped, mut grown) = (Vec::new(), Vec::new());
    for turn in 0..times as u64 * 2 {
        let state = [VerdictState::Unhealthy, VerdictState::Healthy][usize::from(turn % 2 == 1)];
        store.update_riding(|tx| tx.put(verdict(fleet.id(turn / 2 % size), state)))?;
        let (routing, took) = timed(&previous, &store.read(), &context);
        flipped.push(took);
        previous = routing;
    }
    for number in size..size + times as u64 {
        let (target, fleet) = (fleet.target(number), fleet.clone());
        let add = move |tx: &mut Tx<'_>| {
            tx.put(target);
            tx.put(fleet.instance(number));
            Ok::<_, StoreError>(())
        };
        runtime.block_on(store.update(add))?;
        let (routing, took) = timed(&previous, &store.read(), &context);
        grown.push(took);
        previous = routing;
    }
    let both = |times: &[Duration]| {
        let middle = Duration::from_secs_f64(median(times.iter().map(Duration::as_secs_f64)));
        format!("{} / {}", millis(middle), millis(times.iter().copied().max().unwrap_or_default()))
    };
    show(&format!("| {size} | {} | {} | {} |", both(&whole), both(&flipped), both(&grown)));
    Ok(())
}
