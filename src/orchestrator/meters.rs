//! The metrics of services (desired, running and pending tasks, starts, replacements by reason) and
//! of container instances.
//!
//! **Invariant:** a service's series live as long as the service, an instance's as long as it.

use std::collections::{BTreeMap, HashMap};

use super::plan::{Move, Plan};
use crate::metrics::{Counter, Gauge, Metrics, names};
use crate::model::{Contact, InstanceName, ServiceKey, TaskStatus, label};
use crate::state::State;

#[derive(Debug, Default)]
pub(super) struct ServiceMeters {
    services: BTreeMap<ServiceKey, OneService>,
    /// 1 while it answers.
    instances: BTreeMap<InstanceName, Gauge>,
}

#[derive(Debug)]
struct OneService {
    label: String,
    desired: Gauge,
    running: Gauge,
    pending: Gauge,
    starts: Counter,
    /// By reason, with what was counted so far: the State has the totals, restarts included.
    replacements: BTreeMap<String, (Counter, u64)>,
}

impl OneService {
    fn new(key: &ServiceKey, metrics: &Metrics) -> Self {
        let label = label(key);
        let tasks = |state| metrics.gauge(&names::SERVICE_TASKS, &[&label, state]);
        Self {
            desired: tasks("desired"),
            running: tasks("running"),
            pending: tasks("pending"),
            starts: metrics.counter(&names::SERVICE_STARTS, &[&label]),
            replacements: BTreeMap::new(),
            label,
        }
    }
}

impl ServiceMeters {
    fn of(&mut self, key: &ServiceKey, metrics: &Metrics) -> &mut OneService {
        self.services.entry(key.clone()).or_insert_with(|| OneService::new(key, metrics))
    }

    /// Counts what a written plan starts.
    pub(super) fn started(&mut self, plan: &Plan, metrics: &Metrics) {
        for step in &plan.moves {
            if let Move::Start(task) = step
                && let Some(service) = &task.service
            {
                self.of(service, metrics).starts.add(metrics.control(), 1);
            }
        }
    }

    /// Sets the gauges, and brings the counters up to the State's.
    pub(super) fn update(&mut self, state: &State, metrics: &Metrics) {
        self.services.retain(|key, _| state.services.contains_key(key));
        self.instances.retain(|name, _| state.instances.contains_key(name));
        for row in state.instances.values() {
            let new = || metrics.gauge(&names::INSTANCE_CONNECTED, &[row.name.as_str()]);
            let gauge = self.instances.entry(row.name.clone()).or_insert_with(new);
            gauge.set(i64::from(row.contact == Contact::Connected));
        }
        let mut counts: HashMap<&ServiceKey, (i64, i64)> = HashMap::new();
        for task in state.tasks.values().filter(|task| task.is_live()) {
            if let Some(service) = &task.service {
                let (running, pending) = counts.entry(service).or_default();
                *if task.known == TaskStatus::Running { running } else { pending } += 1;
            }
        }
        for service in state.services.values() {
            let one = self.of(&service.key, metrics);
            let (running, pending) = counts.get(&service.key).copied().unwrap_or_default();
            one.desired.set(i64::from(service.desired_count));
            one.running.set(running);
            one.pending.set(pending);
            let Some(progress) = state.progress.get(&service.key) else { continue };
            for (reason, total) in &progress.replacements {
                let (counter, counted) =
                    one.replacements.entry(reason.clone()).or_insert_with(|| {
                        let labels = [one.label.as_str(), reason.as_str()];
                        (metrics.counter(&names::SERVICE_REPLACEMENTS, &labels), 0)
                    });
                counter.add(metrics.control(), total.saturating_sub(*counted));
                *counted = *total;
            }
        }
    }
}
