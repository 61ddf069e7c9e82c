//! Addresses that rest: a task's pause lives on for a while and holds the address that it had.
//!
//! Docker gives the lowest free address to the next container, so whoever still knows the old
//! task's would find a stranger there. Until when a pause rests is in its name, so that Docker
//! remembers it for us. **Invariant:** at most [`MOST`] pauses rest at an engine, and none of them
//! keeps a container from an address: when there is no other, the one that has rested the longest
//! ends.

use std::time::Duration;

use bollard::models::ContainerSummary;
use bollard::query_parameters::RenameContainerOptionsBuilder;

use super::engine::{CREATE, Failure};
use super::shape::LABEL_TASK;
use super::{Docker, pause};
use crate::clock;
use crate::model::TaskId;

/// Pauses that rest (ours: each is a process of Docker's and some 5 MiB).
pub(super) const MOST: usize = 64;
/// Between the task and the second until which its pause rests.
const MARK: &str = ".rest.";
/// What Docker says when a network has no address left (libnetwork's allocators, old and new).
const EXHAUSTED: [&str; 2] = ["no available IPv4 addresses", "no available addresses"];

/// The second until which the container of this name rests. None: it does not.
fn until(name: &str) -> Option<u64> {
    name.rsplit_once(MARK)?.1.parse().ok()
}

fn now() -> u64 {
    clock::now().0 / 1_000_000
}

/// Whether a start failed because no address is left.
pub(super) fn is_exhausted(failure: &Failure) -> bool {
    match failure {
        Failure::Gone(text)
        | Failure::Conflict(text)
        | Failure::Refused(text)
        | Failure::Unavailable(text) => EXHAUSTED.iter().any(|words| text.contains(words)),
        Failure::Timeout(_) => false,
    }
}

pub(super) fn is_resting(pause: &ContainerSummary) -> bool {
    pause.names.iter().flatten().any(|name| until(name).is_some())
}

/// A pause that rests.
struct Resting {
    until: u64,
    id: String,
    task: String,
}

fn resting(summary: ContainerSummary) -> Option<Resting> {
    let until = summary.names.iter().flatten().find_map(|name| until(name))?;
    let task = summary.labels.and_then(|labels| labels.get(LABEL_TASK).cloned());
    Some(Resting { until, id: summary.id?, task: task.unwrap_or_default() })
}

impl Docker {
    /// Lets the pause of a task rest, if it runs.
    pub(super) async fn rest_pause(&self, task: &TaskId, rest: Duration) -> Result<(), Failure> {
        let Some(id) = self.own_pause(task).await? else { return Ok(()) };
        let mut all = self.resting_pauses().await?;
        while all.len() >= MOST {
            self.end_rest(all.remove(0), "too many rest").await?;
        }
        // Rather one second more than one less.
        let until = now() + rest.as_secs() + 1;
        let name = format!("{}{MARK}{until}", pause::name(&self.cluster_uid, task));
        let options = RenameContainerOptionsBuilder::default().name(&name).build();
        let renamed = self
            .engine
            .call(CREATE, |client| async move { client.rename_container(&id, options).await });
        match renamed.await {
            Err(Failure::Gone(_)) => Ok(()),
            other => other,
        }
    }

    /// Those that rest, the first to end first.
    async fn resting_pauses(&self) -> Result<Vec<Resting>, Failure> {
        let mut all: Vec<_> = self.pauses().await?.into_iter().filter_map(resting).collect();
        all.sort_by(|one, other| (one.until, &one.id).cmp(&(other.until, &other.id)));
        Ok(all)
    }

    /// Ends those of all pauses that have rested for long enough.
    pub(super) async fn sweep_resting(&self, all: Vec<ContainerSummary>) -> Result<(), Failure> {
        let now = now();
        for pause in all.into_iter().filter_map(resting).filter(|pause| pause.until <= now) {
            self.remove_by_force(&pause.id).await?;
        }
        Ok(())
    }

    /// Gives the address back that has rested the longest. False: none rests.
    pub(super) async fn give_back(&self) -> Result<bool, Failure> {
        let Some(pause) = self.resting_pauses().await?.into_iter().next() else {
            return Ok(false);
        };
        self.end_rest(pause, "there is no other").await?;
        Ok(true)
    }

    /// Ends a rest before its time.
    async fn end_rest(&self, pause: Resting, why: &str) -> Result<(), Failure> {
        let left = pause.until.saturating_sub(now());
        let task = pause.task;
        tracing::warn!(task, why, seconds = left, "its address is given back before its time");
        if let Some(cut) = self.cut.as_ref().filter(|_| left > 0) {
            cut.add();
        }
        self.remove_by_force(&pause.id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_until_when_a_pause_rests() {
        assert_eq!(until("/roadstead-u-t.pause.rest.1700000000"), Some(1_700_000_000));
        for other in ["", "/roadstead-u-t.pause", "/x.rest.", "/x.rest.soon"] {
            assert_eq!(until(other), None, "{other}");
        }
    }
}
