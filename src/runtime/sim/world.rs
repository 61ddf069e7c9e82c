//! The simulated world itself: sync, without waiting. **Invariant:** whatever changes a container
//! writes an effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::{Effect, EffectKind, Faults};
use crate::clock::{Instant, instant};
use crate::model::{ContainerHealth, Observed, ObservedState, TaskId, Usage};
use crate::runtime::{ContainerSpec, EVENTS, Reach, RuntimeError, RuntimeEvent};

/// What an undisturbed call takes at most.
const LATENCY: Duration = Duration::from_millis(3);
/// How long a container that heeds its stop signal needs to end, at most.
const STOP_TAKES: Duration = Duration::from_millis(200);
/// What a running container uses: a tenth of a core, and so much memory.
const CPU_SHARE: u32 = 10;
const MEMORY: u64 = 16 << 20;
/// The first of the addresses that containers get which bring none.
const POOL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const POOL_SIZE: u32 = 65_000;

pub(super) type Key = (TaskId, String);

#[derive(Debug)]
pub(super) struct World {
    rng: fastrand::Rng,
    began: Instant,
    pub(super) faults: Faults,
    pub(super) reach: Reach,
    containers: BTreeMap<Key, Container>,
    taken: BTreeSet<IpAddr>,
    incarnations: u64,
    outage_until: Option<Instant>,
    pub(super) history: Vec<Effect>,
    pub(super) events: broadcast::Sender<RuntimeEvent>,
}

#[derive(Debug)]
struct Container {
    incarnation: u64,
    /// The specification's, for good; else one of the pool while it runs.
    address: Option<IpAddr>,
    is_pooled: bool,
    state: ObservedState,
    started_at: Option<Instant>,
    ignores_stop: bool,
    is_signalled: bool,
    health: ContainerHealth,
    gone: watch::Sender<bool>,
}

/// A container on its way out.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) incarnation: u64,
    /// Told to stop for the first time, and heeds it.
    pub(super) heeds_after: Option<Duration>,
    pub(super) gone: watch::Receiver<bool>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            began: instant(),
            faults: Faults::default(),
            reach: Reach::Nowhere,
            containers: BTreeMap::new(),
            taken: BTreeSet::new(),
            incarnations: 0,
            outage_until: None,
            history: Vec::new(),
            events: broadcast::Sender::new(EVENTS),
        }
    }

    fn draw(&mut self, probability: f64) -> bool {
        // Drawn only where it matters, so that a fault that is off changes nothing else.
        probability > 0.0 && self.rng.f64() < probability
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.f64())
    }

    pub(super) fn latency(&mut self, takes_long: bool) -> Duration {
        let usual = self.up_to(LATENCY);
        if takes_long && self.draw(self.faults.slow) {
            return usual + self.up_to(self.faults.slow_for);
        }
        usual
    }

    /// The end of an outage that begins now, if one does.
    pub(super) fn draw_outage(&mut self) -> Option<Instant> {
        if self.outage_until.is_some_and(|until| instant() < until) {
            return None;
        }
        if !self.draw(self.faults.unavailable) {
            return None;
        }
        let length = self.up_to(self.faults.unavailable_for);
        Some(self.begin_outage(length))
    }

    pub(super) fn begin_outage(&mut self, length: Duration) -> Instant {
        let until = instant() + length;
        let until = self.outage_until.map_or(until, |before| before.max(until));
        self.outage_until = Some(until);
        until
    }

    pub(super) fn check_outage(&self) -> Result<(), RuntimeError> {
        match self.outage_until {
            Some(until) if instant() < until => {
                Err(RuntimeError::Unavailable("simulated outage".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn draw_lost_answer(&mut self) -> bool {
        self.draw(self.faults.lost_answer)
    }

    pub(super) fn send(&self, event: RuntimeEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn tell(&mut self, key: &Key, died: bool) {
        if self.check_outage().is_err() || self.draw(self.faults.lost_event) {
            return;
        }
        let (task, container) = key.clone();
        let event = if died {
            RuntimeEvent::Died { task, container }
        } else {
            RuntimeEvent::Changed { task, container }
        };
        if self.draw(self.faults.repeated_event) {
            self.send(event.clone());
        }
        self.send(event);
    }

    fn record(&mut self, key: &Key, incarnation: u64, kind: EffectKind) {
        let at = instant() - self.began;
        let (task, container) = key.clone();
        self.history.push(Effect { at, task, container, incarnation, kind });
    }

    pub(super) fn record_if_running(&mut self, key: &Key, incarnation: u64, kind: EffectKind) {
        if self.incarnation_running(key) == Some(incarnation) {
            self.record(key, incarnation, kind);
        }
    }

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<Observed, RuntimeError> {
        let key = (spec.task.clone(), spec.definition.name.clone());
        if let Some(container) = self.containers.get(&key) {
            return Ok(container.observed(&key));
        }
        if self.draw(self.faults.create_error) {
            let text = "simulated fault".to_owned();
            return Err(if self.rng.bool() {
                RuntimeError::CannotPull(text)
            } else {
                RuntimeError::CannotCreate(text)
            });
        }
        self.incarnations += 1;
        let container = Container {
            incarnation: self.incarnations,
            address: spec.address,
            is_pooled: spec.address.is_none(),
            state: ObservedState::Created,
            started_at: None,
            ignores_stop: false,
            is_signalled: false,
            health: ContainerHealth::Unknown,
            gone: watch::Sender::new(false),
        };
        let observed = container.observed(&key);
        self.record(&key, container.incarnation, EffectKind::Created);
        self.containers.insert(key.clone(), container);
        self.tell(&key, false);
        Ok(observed)
    }

    /// One that exited is created once more, under another number.
    pub(super) fn begin_again(&mut self, key: &Key) {
        let incarnation = self.incarnations + 1;
        let Some(container) = self.containers.get_mut(key) else { return };
        if matches!(container.state, ObservedState::Exited { .. }) {
            self.incarnations = incarnation;
            container.incarnation = incarnation;
            container.state = ObservedState::Created;
            container.is_signalled = false;
            container.health = ContainerHealth::Unknown;
            container.gone = watch::Sender::new(false);
        }
    }

    /// With the time after which it ends by itself, if it will.
    pub(super) fn start(
        &mut self,
        key: &Key,
    ) -> Result<(Observed, Option<(Stopping, Duration)>), RuntimeError> {
        let container = self.containers.get(key).ok_or_else(|| vanished(key))?;
        if container.state != ObservedState::Created {
            return Ok((container.observed(key), None));
        }
        let (incarnation, own) = (container.incarnation, container.address);
        if self.draw(self.faults.start_error) {
            return Err(RuntimeError::CannotStart("simulated fault".to_owned()));
        }
        let address = match own {
            Some(address) => address,
            None => self.take_address()?,
        };
        let ignores_stop = self.draw(self.faults.ignores_stop);
        let exits = self.draw(self.faults.exits);
        let after = exits.then(|| self.up_to(self.faults.exits_within));
        let Some(container) = self.containers.get_mut(key) else { return Err(vanished(key)) };
        container.state = ObservedState::Running;
        container.address = Some(address);
        container.started_at = Some(instant());
        container.ignores_stop |= ignores_stop;
        let observed = container.observed(key);
        let gone = container.gone.subscribe();
        self.record(key, incarnation, EffectKind::Started { address });
        self.tell(key, false);
        let stopping = Stopping { incarnation, heeds_after: None, gone };
        Ok((observed, after.map(|after| (stopping, after))))
    }

    /// The lowest that is free: an address comes back as soon as it can, which is the hard case.
    fn take_address(&mut self) -> Result<IpAddr, RuntimeError> {
        let first = POOL.to_bits();
        let mut all = (first..first + POOL_SIZE).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
        let free = all.find(|address| !self.taken.contains(address));
        let free = free.ok_or_else(|| RuntimeError::CannotStart("no address left".to_owned()))?;
        self.taken.insert(free);
        Ok(free)
    }

    /// None: it does not run.
    pub(super) fn signal_stop(&mut self, key: &Key) -> Option<Stopping> {
        let incarnation = self.incarnation_running(key)?;
        let takes = self.up_to(STOP_TAKES);
        let container = self.containers.get_mut(key)?;
        let is_first = !std::mem::replace(&mut container.is_signalled, true);
        let heeds = is_first && !container.ignores_stop;
        let gone = container.gone.subscribe();
        if is_first {
            self.record(key, incarnation, EffectKind::StopSignalled);
        }
        Some(Stopping { incarnation, heeds_after: heeds.then_some(takes), gone })
    }

    /// False: this incarnation does not run.
    pub(super) fn exit(&mut self, key: &Key, incarnation: u64, code: i32) -> bool {
        let Some(container) = self.containers.get_mut(key) else { return false };
        if container.incarnation != incarnation || container.state != ObservedState::Running {
            return false;
        }
        container.state = ObservedState::Exited { code: Some(code), out_of_memory: false };
        if container.is_pooled
            && let Some(address) = container.address.take()
        {
            self.taken.remove(&address);
        }
        container.gone.send_replace(true);
        self.record(key, incarnation, EffectKind::Exited { code });
        self.tell(key, true);
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Result<(), RuntimeError> {
        let Some(container) = self.containers.get(key) else { return Ok(()) };
        if container.state == ObservedState::Running {
            return Err(RuntimeError::CannotStop(format!("{}: it runs; stop it first", key.1)));
        }
        let incarnation = container.incarnation;
        self.containers.remove(key);
        self.record(key, incarnation, EffectKind::Removed);
        self.tell(key, false);
        Ok(())
    }

    pub(super) fn usage(&self, key: &Key) -> Result<Usage, RuntimeError> {
        let container = self.containers.get(key).ok_or_else(|| vanished(key))?;
        let started_at = match container.state {
            ObservedState::Running => container.started_at,
            ObservedState::Created | ObservedState::Exited { .. } => None,
        };
        Ok(started_at.map_or_else(Usage::default, |at| Usage {
            cpu_micros: u64::try_from((at.elapsed() / CPU_SHARE).as_micros()).unwrap_or(u64::MAX),
            memory_bytes: MEMORY,
        }))
    }

    pub(super) fn ignore_stop(&mut self, key: &Key) {
        if let Some(container) = self.containers.get_mut(key) {
            container.ignores_stop = true;
        }
    }

    pub(super) fn set_health(&mut self, key: &Key, health: ContainerHealth) {
        if let Some(container) = self.containers.get_mut(key) {
            container.health = health;
            self.tell(key, false);
        }
    }

    pub(super) fn incarnation_running(&self, key: &Key) -> Option<u64> {
        let container = self.containers.get(key)?;
        (container.state == ObservedState::Running).then_some(container.incarnation)
    }

    pub(super) fn running(&self) -> Vec<Key> {
        let all = self.containers.iter();
        let running = all.filter(|(_, container)| container.state == ObservedState::Running);
        running.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn observed(&self) -> Vec<Observed> {
        self.containers.iter().map(|(key, container)| container.observed(key)).collect()
    }
}

impl Container {
    fn observed(&self, key: &Key) -> Observed {
        let id = format!("sim-{}", self.incarnation);
        let (task, name) = key.clone();
        let health = self.health;
        Observed { health, ..Observed::new(task, name, id, self.state.clone(), self.address) }
    }
}

fn vanished(key: &Key) -> RuntimeError {
    RuntimeError::Vanished(format!("no container {} of task {}", key.1, key.0))
}
