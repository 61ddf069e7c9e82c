//! Services in CloudWatch's words: `AWS/ECS` and `ECS/ContainerInsights`.
//!
//! A task's CPU is measured against the units that its definition reserves, one core where it
//! reserves none; its memory against its limit or reservation, the machine's where it has none.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::Points;
use crate::clock::{self, Instant};
use crate::model::{
    CORE, InstanceName, MetricId, ServiceKey, TaskDefinition, TaskId, TaskStatus, Usage,
};
use crate::runtime::Fleet;
use crate::series::Point;
use crate::state::State;
use crate::sys;

/// Questions to the runtime under way at once (ours).
const AT_ONCE: usize = 16;
/// For all answers of one step (ours); tasks without one have no sample in it.
const TIMEOUT: Duration = Duration::from_secs(5);
const MIB: f64 = 1_048_576.0;

/// A container of a task.
type Key = (TaskId, String);

/// A running task of a service and the containers to ask about.
struct Asked {
    service: ServiceKey,
    task: TaskId,
    instance: InstanceName,
    containers: Vec<String>,
    /// Units.
    cpu: f64,
    /// Bytes; 0: nobody knows.
    memory: f64,
}

#[derive(Debug)]
pub(super) struct Tasks {
    fleet: Fleet,
    /// CPU time used when it was last asked for.
    before: BTreeMap<Key, (u64, Instant)>,
}

impl Tasks {
    pub(super) const fn new(fleet: Fleet) -> Self {
        Self { fleet, before: BTreeMap::new() }
    }

    pub(super) async fn points(&mut self, state: &State) -> Vec<(MetricId, Point)> {
        let mut points = Points::default();
        counts(state, &mut points);
        let asked = asked(state);
        let used = self.usage(&asked).await;
        for task in &asked {
            let (cluster, service) = (task.service.cluster.as_str(), task.service.name.as_str());
            let own = [("ClusterName", cluster), ("ServiceName", service)];
            let region = task.service.cluster.region();
            let id = |name, own: &[_]| MetricId::new("AWS/ECS", name, own).within(region);
            let mut both = |name, value| {
                points.point(id(name, &own), Point::one(value));
                points.point(id(name, &own[..1]), Point::one(value));
            };
            if let Some(units) = self.cpu(task, &used) {
                both("CPUUtilization", units / task.cpu * 100.0);
            }
            if let Some(bytes) = memory(task, &used)
                && task.memory > 0.0
            {
                both("MemoryUtilization", bytes / task.memory * 100.0);
            }
        }
        let known = used.into_iter().map(|(key, (usage, at))| (key, (usage.cpu_micros, at)));
        self.before = known.collect();
        points.done()
    }

    /// What the runtime says in time.
    async fn usage(&self, asked: &[Asked]) -> BTreeMap<Key, (Usage, Instant)> {
        let keys = asked.iter().flat_map(|task| {
            let one = |container: &String| (task.task.clone(), container.clone());
            task.containers.iter().map(move |c| (one(c), task.instance.clone()))
        });
        let keys: Vec<(Key, InstanceName)> = keys.collect();
        let asking = futures_util::stream::iter(keys).map(|(key, instance)| {
            let fleet = self.fleet.clone();
            async move {
                let usage = fleet.get(&instance)?.usage(&key.0, &key.1).await.ok()?;
                Some((key, (usage, clock::instant())))
            }
        });
        let mut answers = asking.buffer_unordered(AT_ONCE);
        let mut used = BTreeMap::new();
        let collecting = async {
            while let Some(answer) = answers.next().await {
                used.extend(answer);
            }
        };
        // What is late is left out.
        let _ = tokio::time::timeout(TIMEOUT, collecting).await;
        used
    }

    /// Units that a task used since it was last asked about. None: this is the first time.
    fn cpu(&self, task: &Asked, used: &BTreeMap<Key, (Usage, Instant)>) -> Option<f64> {
        let mut units = None;
        for container in &task.containers {
            let key = (task.task.clone(), container.clone());
            let (Some((usage, at)), Some((before, then))) = (used.get(&key), self.before.get(&key))
            else {
                continue;
            };
            let took = at.saturating_duration_since(*then).as_secs_f64();
            if took > 0.0 {
                let busy = Duration::from_micros(usage.cpu_micros.saturating_sub(*before));
                *units.get_or_insert(0.0) += busy.as_secs_f64() / took * f64::from(CORE);
            }
        }
        units
    }
}

/// Bytes that a task uses. None: the runtime did not say.
#[allow(clippy::cast_precision_loss, reason = "CloudWatch's numbers are floats")]
fn memory(task: &Asked, used: &BTreeMap<Key, (Usage, Instant)>) -> Option<f64> {
    let of = |container: &String| used.get(&(task.task.clone(), container.clone()));
    let bytes = task.containers.iter().filter_map(of).map(|(usage, _)| usage.memory_bytes);
    bytes.reduce(|a, b| a + b).map(|bytes| bytes as f64)
}

fn asked(state: &State) -> Vec<Asked> {
    let running = state.tasks.values().filter(|task| task.known == TaskStatus::Running);
    let asked = running.filter_map(|task| {
        let definition = state.definitions.get(&task.definition)?;
        let containers = definition.containers.iter().map(|container| container.name.clone());
        Some(Asked {
            service: task.service.clone()?,
            task: task.id.clone(),
            instance: task.instance.clone(),
            containers: containers.collect(),
            cpu: reserved_cpu(definition),
            memory: reserved_memory(definition),
        })
    });
    asked.collect()
}

fn reserved_cpu(definition: &TaskDefinition) -> f64 {
    let containers = definition.containers.iter().filter_map(|container| container.cpu);
    let units = definition.cpu.or_else(|| containers.reduce(|a, b| a + b));
    f64::from(units.filter(|units| *units > 0).unwrap_or(CORE))
}

#[allow(clippy::cast_precision_loss, reason = "CloudWatch's numbers are floats")]
fn reserved_memory(definition: &TaskDefinition) -> f64 {
    let of = |container: &crate::model::ContainerDefinition| {
        container.memory_reservation_mib.or(container.memory_mib)
    };
    let containers = definition.containers.iter().filter_map(of);
    let mib = definition.memory_mib.or_else(|| containers.reduce(|a, b| a + b));
    mib.map_or_else(|| sys::memory() as f64, |mib| f64::from(mib) * MIB)
}

/// Desired, running and pending tasks.
fn counts(state: &State, points: &mut Points) {
    for service in state.services.values() {
        let own = |task: &&crate::model::Task| task.is_live();
        let live = state.tasks_of(&service.key).filter(own);
        let (mut running, mut pending) = (0u32, 0u32);
        for task in live {
            *if task.known == TaskStatus::Running { &mut running } else { &mut pending } += 1;
        }
        let (cluster, name) = (service.key.cluster.as_str(), service.key.name.as_str());
        let dimensions = [("ClusterName", cluster), ("ServiceName", name)];
        let region = service.key.cluster.region();
        let id = |name| MetricId::new("ECS/ContainerInsights", name, &dimensions).within(region);
        points.gauge(id("DesiredTaskCount"), f64::from(service.desired_count));
        points.gauge(id("RunningTaskCount"), f64::from(running));
        points.gauge(id("PendingTaskCount"), f64::from(pending));
    }
}
