//! Waiting for a target: in the queue of a group whose targets are busy, or held while it has none.
//!
//! Both carriers wait alike: they take a place, decide again, and wait only when there is still
//! nobody. Not here: who is woken (`balance::Gate`). **Invariant:** no request waits longer than
//! its group says, and none without a place.

use std::sync::Arc;
use std::time::Duration;

use super::errors::Cause;
use crate::balance::{Group, Place, Want};
use crate::clock::{self, Instant};
use crate::model::Waiting;
use crate::routing::{DataThread, Generations};

/// How often those who wait look for themselves where a target's ejection may end, which wakes
/// nobody (ours).
const LOOK: Duration = Duration::from_millis(100);

/// One request's place and its deadline.
#[derive(Debug)]
pub(super) struct Wait {
    group: Arc<Group>,
    place: Place,
    until: Instant,
    generations: Generations,
    /// It has decided again since it has its place, or others do before it.
    is_seated: bool,
}

impl Wait {
    /// The same place where it is waited for the same, else a new one.
    ///
    /// # Errors
    /// There is none, or the request has waited for long enough.
    pub(super) fn on(
        before: Option<Self>,
        (group, want): (Arc<Group>, Want),
        thread: &DataThread,
    ) -> Result<Self, Cause> {
        let same = |wait: &Self| wait.place.want() == want && wait.place.is_at(&group.gate);
        if let Some(wait) = before.filter(same) {
            return Ok(Self { group, is_seated: true, ..wait });
        }
        let allowed = limits(&group, want);
        let most = allowed.map_or(0, |waiting| waiting.requests);
        let Some(place) = group.gate.enter(want, most) else {
            group.gate.refuse(want, thread.index);
            return Err(cause(want));
        };
        if want == Want::Target && !place.is_behind() {
            thread.reader.want();
        }
        let until = clock::instant() + allowed.map_or(Duration::ZERO, |waiting| waiting.timeout);
        let generations = thread.reader.watch();
        // Who comes behind others lets them decide first.
        let is_seated = want == Want::Slot && place.is_behind();
        Ok(Self { group, place, until, generations, is_seated })
    }

    /// Returns when it is worth deciding again.
    ///
    /// # Errors
    /// It has waited for too long.
    pub(super) async fn ready(&mut self, thread: &DataThread) -> Result<(), Cause> {
        // What became free before there was a place is seen by deciding once more.
        if !self.is_seated {
            return Ok(());
        }
        if clock::instant() >= self.until {
            self.group.gate.refuse(self.place.want(), thread.index);
            return Err(cause(self.place.want()));
        }
        let looks = self.group.routing.outlier_ejection.is_some();
        let look = if looks { self.until.min(clock::instant() + LOOK) } else { self.until };
        tokio::select! {
            () = self.place.freed(), if self.place.want() == Want::Slot => {}
            _ = self.generations.changed() => {}
            () = tokio::time::sleep_until(look) => {}
        }
        Ok(())
    }
}

fn limits(group: &Group, want: Want) -> Option<Waiting> {
    match want {
        Want::Slot => Some(group.routing.queue),
        Want::Target => group.routing.hold,
    }
}

const fn cause(want: Want) -> Cause {
    match want {
        Want::Slot => Cause::TargetsBusy,
        Want::Target => Cause::NoTarget,
    }
}
