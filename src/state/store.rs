//! The single writer: runs changes against the current State, makes them durable, publishes the
//! result.
//!
//! [`Store::update`] is for everything durable: one writer thread groups what is queued into one
//! journal write and acknowledges after it. [`Store::update_riding`] is for rows that only ride
//! with the next durable commit (verdicts): it publishes at once and never waits for the disk.
//! **Invariant:** a State is published only when all durable rows in it are in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::journal::{Change, MemoryJournal};
use super::{Bell, Journal, JournalError, Key, Listener, Refused, Row, State, refer};
use crate::clock::{self, Instant};
use crate::metrics::{Counter, Metrics, names};
use crate::model::{Generation, RegistrationId};

/// Commits waiting for the writer; more wait in `update` itself.
const QUEUE: usize = 1024;
/// Commits that share one journal write.
const GROUP: usize = 256;
/// Numbers reserved durably at a time; a boot continues behind what was reserved.
const RESERVE: u64 = 1 << 32;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk is full or failing; nothing was changed.
    #[error("not written: {0}")]
    Journal(#[from] Arc<JournalError>),
    #[error("the store is closed")]
    Closed,
}

/// What a commit returned, and the generation that first holds it.
#[derive(Debug)]
pub struct Committed<R> {
    pub value: R,
    pub generation: Generation,
}

/// That there is a newer State, and since when: for measuring how long it takes to reach a reader.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub generation: Generation,
    pub at: Instant,
}

impl Commit {
    fn of(generation: Generation) -> Self {
        Self { generation, at: clock::instant() }
    }
}

/// The one State of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Writer,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<State>,
    changed: Bell<Commit>,
    publish: Mutex<Publish>,
    /// Journal writes that failed.
    failures: Counter,
}

/// Held while a new State is made current, never during a journal write.
#[derive(Debug)]
struct Publish {
    sequence: Sequence,
    /// Rows changed since they were last written to the journal.
    riding: BTreeSet<Key>,
}

/// Generations and ids come from one sequence, so neither is ever used twice.
#[derive(Debug)]
struct Sequence {
    next: u64,
    reserved: u64,
}

#[derive(Clone, Debug)]
enum Writer {
    Thread(mpsc::Sender<Job>),
    /// Runs in the caller, for simulations: no other thread.
    Inline(Arc<Mutex<Journal>>),
}

type Reply = Box<dyn FnOnce(Result<Generation, StoreError>) + Send>;

/// Runs a change. None: it failed or changed nothing, and has answered already.
type Run = Box<dyn FnOnce(&mut Tx<'_>) -> Option<Reply> + Send>;

/// What the writer is asked.
enum Job {
    Change(Run),
    /// Write what rides, give up the journal, tell.
    Close(oneshot::Sender<()>),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// One change being made. What it did so far shows in [`state`](Tx::state).
#[derive(Debug)]
pub struct Tx<'a> {
    state: &'a mut State,
    /// Touched rows as they were before this change.
    before: BTreeMap<Key, Option<Row>>,
    shared: &'a Shared,
}

impl Tx<'_> {
    /// The State as this change leaves it so far.
    #[must_use]
    pub fn state(&self) -> &State {
        self.state
    }

    /// Inserts or replaces a row. One equal to what is there changes nothing.
    pub fn put(&mut self, row: impl Into<Row>) {
        let row = row.into();
        let key = row.key();
        let old = self.state.get(&key);
        if old.as_ref() != Some(&row) {
            self.before.entry(key).or_insert(old);
            self.state.put(row);
        }
    }

    pub fn remove(&mut self, key: Key) {
        if let Some(old) = self.state.get(&key) {
            self.before.entry(key.clone()).or_insert(Some(old));
            self.state.remove(&key);
        }
    }

    /// A registration id that was never used before.
    pub fn next_registration(&mut self) -> RegistrationId {
        RegistrationId(self.next_number())
    }

    /// A number that was never handed out before, by any process on this journal.
    pub fn next_number(&mut self) -> u64 {
        lock(&self.shared.publish).sequence.take()
    }

    fn undo(&mut self) {
        for (key, old) in std::mem::take(&mut self.before) {
            match old {
                Some(row) => self.state.put(row),
                None => {
                    self.state.remove(&key);
                }
            }
        }
    }
}

impl Sequence {
    fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The end that the next journal write has to reserve.
    fn target(&self) -> u64 {
        if self.reserved - self.next.min(self.reserved) < RESERVE / 2 {
            self.next + RESERVE
        } else {
            self.reserved
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Loads the journal, reserves a block of numbers and starts the writer thread.
    /// Writes that fail are counted in `metrics`.
    ///
    /// # Errors
    /// The journal cannot be read, or not be written.
    pub fn open(journal: Journal, metrics: &Metrics) -> Result<Self, JournalError> {
        let (shared, journal) = load(journal, metrics)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_loop(&writing, journal, receiver))
            .map_err(|error| JournalError::Disk {
                path: std::path::PathBuf::new(),
                source: Box::new(redb::Error::Io(error)),
            })?;
        Ok(Self { shared, writer: Writer::Thread(sender) })
    }

    /// A store without a thread of its own, on a journal in memory; a second one on the same
    /// journal is a restart.
    ///
    /// # Errors
    /// A row of the journal cannot be read.
    pub fn memory(journal: &MemoryJournal) -> Result<Self, JournalError> {
        let (shared, journal) = load(Journal::Memory(journal.clone()), &Metrics::new(0))?;
        Ok(Self { shared, writer: Writer::Inline(Arc::new(Mutex::new(journal))) })
    }

    /// The current State.
    #[must_use]
    pub fn read(&self) -> Arc<State> {
        self.shared.current.load_full()
    }

    /// Wakes whenever there is a newer State. What it carries is only a number: read the State
    /// itself.
    #[must_use]
    pub fn watch(&self) -> Listener<Commit> {
        self.shared.changed.subscribe()
    }

    /// Runs `change` and returns once what it did is durable and current. A change that does
    /// nothing returns the current generation.
    ///
    /// # Errors
    /// Whatever `change` returns, then [`StoreError`]; in each case nothing was changed.
    pub async fn update<R, E>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<Committed<R>, E>
    where
        R: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let run = Box::new(move |tx: &mut Tx<'_>| run(tx, change, sender));
        match &self.writer {
            Writer::Thread(queue) => {
                queue.send(Job::Change(run)).await.map_err(|_| StoreError::Closed)?;
            }
            Writer::Inline(journal) => write_group(&self.shared, &mut lock(journal), vec![run]),
        }
        receiver.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Gives up the journal, with every change before this one and every verdict written; later
    /// changes are refused with [`StoreError::Closed`]. The State can still be read. A store
    /// without a thread of its own has nothing to give up.
    pub async fn close(&self) {
        let Writer::Thread(queue) = &self.writer else { return };
        let (sender, closed) = oneshot::channel();
        if queue.send(Job::Close(sender)).await.is_ok() {
            // It ends by being dropped when the store is closed twice.
            let _ = closed.await;
        }
    }

    /// Runs a change of riding rows (verdicts) and publishes it at once.
    ///
    /// # Errors
    /// The change broke a referential rule, or touched a durable row.
    pub fn update_riding(&self, change: impl FnOnce(&mut Tx<'_>)) -> Result<Generation, Refused> {
        // Rows are collected on a copy first: `next_number` takes the same lock as publishing.
        let mut state = (*self.read()).clone();
        let mut tx = Tx { state: &mut state, before: BTreeMap::new(), shared: &self.shared };
        change(&mut tx);
        let touched = std::mem::take(&mut tx.before);
        if let Some(key) = touched.keys().find(|key| key.is_durable()) {
            let why = "a durable row in a commit that does not wait for the disk".to_owned();
            return Err(Refused::Invalid { what: format!("{}/{}", key.table(), key.text()), why });
        }
        if touched.is_empty() {
            return Ok(state.generation);
        }
        let changes: Vec<Change> =
            touched.keys().map(|key| (key.clone(), state.get(key))).collect();
        let mut publish = lock(&self.shared.publish);
        let mut current = (*self.read()).clone();
        // Published in the meantime may be the removal of what a row is about.
        apply(&mut current, &changes);
        refer::check(&current, &touched)?;
        publish.riding.extend(touched.into_keys());
        Ok(self.shared.make_current(current, &mut publish))
    }
}

/// Runs one change inside a group. The reply goes out after the group's journal write.
fn run<R, E>(
    tx: &mut Tx<'_>,
    change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    sender: oneshot::Sender<Result<Committed<R>, E>>,
) -> Option<Reply>
where
    R: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let checked = change(tx).and_then(|value| {
        refer::check(tx.state, &tx.before)
            .map_err(|refused| E::from(StoreError::Refused(refused)))?;
        Ok(value)
    });
    match checked {
        Ok(value) => Some(Box::new(move |written| {
            let outcome =
                written.map(|generation| Committed { value, generation }).map_err(E::from);
            let _ = sender.send(outcome);
        })),
        Err(error) => {
            let _ = sender.send(Err(error));
            None
        }
    }
}

fn load(mut journal: Journal, metrics: &Metrics) -> Result<(Arc<Shared>, Journal), JournalError> {
    let (mut state, reserved) = journal.load()?;
    let sequence = Sequence { next: reserved + 1, reserved: reserved + RESERVE };
    journal.write(&[], sequence.reserved)?;
    drop_verdicts_without_target(&mut state);
    let mut publish = Publish { sequence, riding: BTreeSet::new() };
    state.generation = Generation(publish.sequence.take());
    let changed = Bell::new(Commit::of(state.generation));
    let current = ArcSwap::from_pointee(state);
    let failures = metrics.counter(&names::JOURNAL_FAILED, &[]);
    Ok((Arc::new(Shared { current, changed, publish: Mutex::new(publish), failures }), journal))
}

/// Whether a row is the verdict of a target that is gone.
fn is_orphan(row: &Row, state: &State) -> bool {
    matches!(row, Row::Verdict(verdict) if !state.targets.contains_key(&verdict.target))
}

/// A verdict rides; its target may have gone durably without it.
fn drop_verdicts_without_target(state: &mut State) {
    let gone: Vec<_> =
        state.verdicts.keys().filter(|id| !state.targets.contains_key(id)).copied().collect();
    for id in gone {
        state.remove(&Key::Verdict(id));
    }
}

fn apply(state: &mut State, changes: &[Change]) {
    for (key, row) in changes {
        match row {
            Some(row) => state.put(row.clone()),
            None => {
                state.remove(key);
                if let Key::Target(id) = key {
                    // Its verdict may have come while this was being written.
                    state.remove(&Key::Verdict(*id));
                }
            }
        }
    }
}

impl Shared {
    fn make_current(&self, mut state: State, publish: &mut Publish) -> Generation {
        state.generation = Generation(publish.sequence.take());
        let generation = state.generation;
        self.current.store(Arc::new(state));
        self.changed.send_replace(Commit::of(generation));
        generation
    }
}

fn write_loop(shared: &Shared, mut journal: Journal, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let (mut changes, mut next, mut closing) = (Vec::new(), Some(first), None);
        while let Some(job) = next {
            match job {
                Job::Change(run) => changes.push(run),
                Job::Close(sender) => {
                    closing = Some(sender);
                    break;
                }
            }
            next = if changes.len() < GROUP { queue.try_recv().ok() } else { None };
        }
        write_group(shared, &mut journal, changes);
        if let Some(sender) = closing {
            write_riding(shared, &mut journal);
            drop(journal);
            let _ = sender.send(());
            return;
        }
    }
}

/// Writes the verdicts that no commit has taken along.
fn write_riding(shared: &Shared, journal: &mut Journal) {
    let publish = lock(&shared.publish);
    let current = shared.current.load_full();
    let changes: Vec<Change> =
        publish.riding.iter().map(|key| (key.clone(), current.get(key))).collect();
    if let Err(error) = journal.write(&changes, publish.sequence.reserved) {
        tracing::warn!(%error, "the last verdicts were not written");
    }
}

/// Runs `jobs` in order, writes what they changed once, publishes, answers.
fn write_group(shared: &Shared, journal: &mut Journal, jobs: Vec<Run>) {
    let mut state = State::clone(&shared.current.load_full());
    let mut touched = BTreeSet::new();
    let mut replies = Vec::new();
    for job in jobs {
        let mut tx = Tx { state: &mut state, before: BTreeMap::new(), shared };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut tx)));
        match ran {
            Ok(Some(reply)) => {
                touched.extend(std::mem::take(&mut tx.before).into_keys());
                replies.push(reply);
            }
            Ok(None) => tx.undo(),
            // Its caller is told that the store is closed; everybody else goes on.
            Err(_) => {
                tracing::error!("a change panicked; it was taken back");
                tx.undo();
            }
        }
    }
    if touched.is_empty() {
        let generation = state.generation;
        replies.into_iter().for_each(|reply| reply(Ok(generation)));
        return;
    }
    let mut changes: Vec<Change> =
        touched.iter().map(|key| (key.clone(), state.get(key))).collect();
    // Taken out under the lock: a verdict that changes from here on rides with the next write.
    let (riding, current, reserved) = {
        let mut publish = lock(&shared.publish);
        let riding = std::mem::take(&mut publish.riding);
        (riding, shared.current.load_full(), publish.sequence.target())
    };
    let own = changes.len();
    changes.extend(
        riding
            .iter()
            .filter(|key| !touched.contains(key))
            .map(|key| (key.clone(), current.get(key).filter(|row| !is_orphan(row, &state)))),
    );
    let written = journal.write(&changes, reserved).map_err(Arc::new);
    if let Err(error) = written {
        tracing::error!(%error, "journal write failed; nothing of it was changed");
        shared.failures.add(0, 1);
        lock(&shared.publish).riding.extend(riding);
        for reply in replies {
            reply(Err(StoreError::Journal(Arc::clone(&error))));
        }
        return;
    }
    changes.truncate(own);
    let mut publish = lock(&shared.publish);
    publish.sequence.reserved = reserved;
    let mut next = State::clone(&shared.current.load_full());
    apply(&mut next, &changes);
    let generation = shared.make_current(next, &mut publish);
    drop(publish);
    for reply in replies {
        reply(Ok(generation));
    }
}

#[cfg(test)]
mod tests;
