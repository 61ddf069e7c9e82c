//! Containers that exist in memory only: a runtime for simulations on a paused clock.
//!
//! The world belongs to all clones, and so outlives a "restart" of whoever uses it. What goes
//! wrong, and how often, is set with [`Faults`]; what happened is told by [`Sim::history`].
//! **Invariant:** the same seed and the same calls give the same world: no thread, no clock but
//! tokio's, no hash order, no randomness but the seed's.

mod world;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::time::{sleep, sleep_until, timeout_at};

use self::world::{Key, Stopping, World};
use super::stats::{self, Reading};
use super::{ContainerSpec, Exec, Reach, Runtime, RuntimeError, RuntimeEvent, Session};
use crate::clock::{Instant, instant};
use crate::model::{Capacity, ContainerHealth, NetworkMode, Observed, TaskId, Usage};

/// What goes wrong. Probabilities go from 0 (never, the default) to 1 (always) and are drawn once
/// per call, event or container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A create or start takes up to `slow_for`, as when an image is pulled.
    pub slow: f64,
    pub slow_for: Duration,
    pub create_error: f64,
    pub start_error: f64,
    pub lost_event: f64,
    pub repeated_event: f64,
    /// A started container ends by itself, `exits_within` after its start at the latest.
    pub exits: f64,
    pub exits_within: Duration,
    /// A started container never heeds its stop signal.
    pub ignores_stop: f64,
    /// A call begins an outage: calls fail and events are lost for up to `unavailable_for`, then a
    /// gap is announced.
    pub unavailable: f64,
    pub unavailable_for: Duration,
    /// A call does its work, and its caller gets an error.
    pub lost_answer: f64,
}

/// Something that was done to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Since the simulation began.
    pub at: Duration,
    pub task: TaskId,
    pub container: String,
    /// Differs between containers that had the same name one after the other.
    pub incarnation: u64,
    pub kind: EffectKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectKind {
    Created,
    Started {
        address: IpAddr,
    },
    /// Told to stop for the first time.
    StopSignalled,
    /// It did not end within its grace.
    Killed,
    /// It is over, for whichever reason.
    Exited {
        code: i32,
    },
    Removed,
}

/// The simulated runtime; clones share one world.
#[derive(Clone, Debug)]
pub struct Sim {
    world: Arc<Mutex<World>>,
}

impl Sim {
    /// An empty world. Call it inside a tokio runtime, whose clock it follows.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed))) }
    }

    /// From now on this goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// From now on containers reach the machine so.
    pub fn set_reach(&self, reach: Reach) {
        self.lock().reach = reach;
    }

    /// Nothing answers for so long.
    pub fn outage(&self, length: Duration) {
        let until = self.lock().begin_outage(length);
        self.announce_gap(until);
    }

    /// Ends a running container, as a crash of its program does. False: it does not run.
    pub fn kill(&self, task: &TaskId, container: &str, code: i32) -> bool {
        let mut world = self.lock();
        let key = (task.clone(), container.to_owned());
        match world.incarnation_running(&key) {
            Some(incarnation) => world.exit(&key, incarnation, code),
            None => false,
        }
    }

    /// The container will not heed its stop signal.
    pub fn ignore_stop(&self, task: &TaskId, container: &str) {
        self.lock().ignore_stop(&(task.clone(), container.to_owned()));
    }

    /// From now on the container's own check says so.
    pub fn set_health(&self, task: &TaskId, container: &str, health: ContainerHealth) {
        self.lock().set_health(&(task.clone(), container.to_owned()), health);
    }

    /// The containers that run, by task and name.
    #[must_use]
    pub fn running(&self) -> Vec<(TaskId, String)> {
        self.lock().running()
    }

    /// Everything there is, as an undisturbed [`Runtime::list`] would say.
    #[must_use]
    pub fn observed(&self) -> Vec<Observed> {
        self.lock().observed()
    }

    /// All effects so far, in their order; they are kept for as long as the simulation.
    #[must_use]
    pub fn history(&self) -> Vec<Effect> {
        self.history_since(0)
    }

    /// The effects after the first `seen`.
    #[must_use]
    pub fn history_since(&self, seen: usize) -> Vec<Effect> {
        self.lock().history.iter().skip(seen).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every call begins here: the time it takes, and the outages.
    async fn enter(&self, takes_long: bool) -> Result<(), RuntimeError> {
        let (delay, outage) = {
            let mut world = self.lock();
            let outage = world.draw_outage();
            (world.latency(takes_long), outage)
        };
        if let Some(until) = outage {
            self.announce_gap(until);
        }
        self.lock().check_outage()?;
        sleep(delay).await;
        self.lock().check_outage()
    }

    /// Every call that changes something ends here.
    fn answer<T>(&self, result: Result<T, RuntimeError>) -> Result<T, RuntimeError> {
        if result.is_ok() && self.lock().draw_lost_answer() {
            return Err(RuntimeError::Timeout("the answer was lost".to_owned()));
        }
        result
    }

    fn announce_gap(&self, until: Instant) {
        let sim = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            let world = sim.lock();
            if world.check_outage().is_ok() {
                world.send(RuntimeEvent::Gap);
            }
        });
    }

    /// Ends the container at a moment, unless it has ended before.
    fn end_at(&self, key: &Key, stopping: &Stopping, at: Instant, code: i32, is_kill: bool) {
        let (sim, key, incarnation) = (self.clone(), key.clone(), stopping.incarnation);
        let mut gone = stopping.gone.clone();
        tokio::spawn(async move {
            if timeout_at(at, gone.wait_for(|gone| *gone)).await.is_ok() {
                return;
            }
            let mut world = sim.lock();
            if is_kill {
                world.record_if_running(&key, incarnation, EffectKind::Killed);
            }
            world.exit(&key, incarnation, code);
        });
    }
}

/// Exit code of a container that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;
/// Exit code of a container that ended when asked to.
const STOPPED: i32 = 0;
/// Exit code of one that fails by itself.
const FAILED: i32 = 1;

#[async_trait]
impl Runtime for Sim {
    async fn create(&self, spec: &ContainerSpec) -> Result<Observed, RuntimeError> {
        self.enter(true).await?;
        let created = self.lock().create(spec);
        self.answer(created)
    }

    async fn start(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        self.enter(true).await?;
        let key = (task.clone(), container.to_owned());
        let (observed, ends) = self.lock().start(&key)?;
        if let Some((stopping, after)) = ends {
            self.end_at(&key, &stopping, instant() + after, FAILED, false);
        }
        self.answer(Ok(observed))
    }

    async fn restart(&self, task: &TaskId, container: &str) -> Result<Observed, RuntimeError> {
        self.lock().begin_again(&(task.clone(), container.to_owned()));
        self.start(task, container).await
    }

    async fn stop(
        &self,
        task: &TaskId,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        self.enter(false).await?;
        let key = (task.clone(), container.to_owned());
        let Some(mut stopping) = self.lock().signal_stop(&key) else { return Ok(()) };
        let now = instant();
        if let Some(after) = stopping.heeds_after {
            self.end_at(&key, &stopping, now + after, STOPPED, false);
        }
        self.end_at(&key, &stopping, now + grace, KILLED, true);
        // The sender lives as long as the container; when both are gone, it is gone all the same.
        let _ = stopping.gone.wait_for(|gone| *gone).await;
        self.answer(Ok(()))
    }

    async fn remove(&self, task: &TaskId, container: &str) -> Result<(), RuntimeError> {
        self.enter(false).await?;
        let removed = self.lock().remove(&(task.clone(), container.to_owned()));
        self.answer(removed)
    }

    /// More than anybody asks for.
    async fn capacity(&self) -> Result<Capacity, RuntimeError> {
        self.lock().check_outage()?;
        Ok(Capacity { cpu: 1 << 20, memory_mib: 1 << 20 })
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        self.enter(false).await?;
        Ok(self.observed())
    }

    async fn usage(&self, task: &TaskId, container: &str) -> Result<Usage, RuntimeError> {
        self.enter(false).await?;
        self.lock().usage(&(task.clone(), container.to_owned()))
    }

    async fn stats(
        &self,
        task: &TaskId,
        container: &str,
    ) -> Result<serde_json::Value, RuntimeError> {
        let reading = Reading { usage: self.usage(task, container).await?, ..Reading::default() };
        Ok(stats::shaped(container, [reading; 2], 0, 1))
    }

    async fn reach(&self, _: Option<NetworkMode>) -> Result<Reach, RuntimeError> {
        Ok(self.lock().reach)
    }

    async fn exec(&self, _: &TaskId, _: &str, _: &Exec) -> Result<Session, RuntimeError> {
        Err(RuntimeError::CannotExecute("nothing is executed in a simulation".to_owned()))
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.lock().events.subscribe()
    }
}
