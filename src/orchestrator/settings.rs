//! What the orchestrator is told about its surroundings, and its timings.
//!
//! **Invariant:** every bound and every waiting time of the orchestrator that somebody may want to
//! change is here, with its default and where that comes from.

use std::sync::Arc;
use std::time::Duration;

use super::metadata::Endpoint;
use super::name_server::NameServer;
use crate::model::{Account, InstanceKind, InstanceName, Pool, Task, TaskStatus};
use crate::secrets::Secrets;
use crate::state::State;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose ARNs the events name.
    pub account: Account,
    /// Where tasks of child processes get their addresses. None: their runtime has its own.
    pub addresses: Option<Pool>,
    /// How long an address rests after its task; a discovery service's longer TTL wins.
    pub quarantine: Duration,
    pub backoff: Curve,
    /// A task without registrations and container checks counts as healthy after it has run for
    /// this long (ECS: 40 s).
    pub healthy_after: Duration,
    /// Where containers' secrets come from.
    pub secrets: Secrets,
    /// Where containers ask about themselves. None: nowhere.
    pub metadata: Option<Arc<Endpoint>>,
    /// Whom containers ask for names. None: whom their machine asks.
    pub name_server: Option<NameServer>,
    /// A pass and a look at the runtime come at least this often.
    pub full_pass: Duration,
    /// An instance that has not answered for this long gets no new task (ours: the agent of ECS
    /// is connected or not at once, and reconnects by itself).
    pub silent_after: Duration,
    /// The tasks of its services are then replaced elsewhere.
    pub lost_after: Duration,
    /// A container of a task that nobody knows is removed after this.
    pub orphan_grace: Duration,
    /// STOPPED tasks kept in all; the oldest go first.
    pub stopped_kept: usize,
    /// How long a STOPPED task is kept (ECS: at least an hour).
    pub stopped_kept_for: Duration,
}

/// How long starts wait after failures: 0, 0, then `base` doubling up to `cap`.
#[derive(Clone, Copy, Debug)]
pub struct Curve {
    pub base: Duration,
    /// ECS's throttle ends at 15 minutes.
    pub cap: Duration,
    /// A task that ends this soon after RUNNING counts as one that failed to start.
    pub early: Duration,
    /// A task that lasts this long ends the count.
    pub reset: Duration,
}

impl Settings {
    /// A standalone task that has no address yet and needs one before anything is done for it.
    pub(super) fn is_unplaced(&self, state: &State, task: &Task) -> bool {
        let waits = task.service.is_none() && task.address.is_none() && task.is_live();
        waits && task.known == TaskStatus::Provisioning && self.gives_address(state, &task.instance)
    }

    /// Whether tasks of an instance get their addresses from us.
    pub(super) fn gives_address(&self, state: &State, instance: &InstanceName) -> bool {
        let kind = state.instances.get(instance).map(|row| row.kind);
        self.addresses.is_some() && kind == Some(InstanceKind::Process)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account: Account::new("local", "000000000000"),
            addresses: None,
            quarantine: Duration::from_secs(60),
            backoff: Curve::default(),
            healthy_after: Duration::from_secs(40),
            secrets: Secrets::default(),
            metadata: None,
            name_server: None,
            full_pass: Duration::from_secs(10),
            silent_after: Duration::from_secs(30),
            lost_after: Duration::from_secs(300),
            orphan_grace: Duration::from_secs(120),
            stopped_kept: 1000,
            stopped_kept_for: Duration::from_secs(3600),
        }
    }
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(10),
            cap: Duration::from_secs(900),
            early: Duration::from_secs(60),
            reset: Duration::from_secs(600),
        }
    }
}

impl Curve {
    /// The wait after the `failures`th round that failed in a row.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(3) else { return Duration::ZERO };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_from_the_third_failure_up_to_the_cap() {
        let curve = Curve::default();
        let seconds: Vec<u64> = (1..=12).map(|n| curve.delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]);
        assert_eq!(curve.delay(u32::MAX), curve.cap);
        assert_eq!(curve.delay(0), Duration::ZERO);
    }
}
