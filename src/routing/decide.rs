//! The decision: rule, group, endpoint and in-flight guard in one synchronous call.
//!
//! **Invariant:** nothing here awaits, locks or allocates; after any await the caller decides again
//! on a fresh snapshot.

use std::sync::Arc;

use super::{Forwarding, RoutedAction, RoutedListener};
use crate::balance::{Group, InFlight};
use crate::model::{FixedResponse, RegistrationId};
use crate::rules::Facts;

/// Which attempt this is, on which thread.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Index of the deciding data thread.
    pub thread: usize,
    pub rng: &'a mut fastrand::Rng,
    /// Endpoints that this exchange has tried already.
    pub exclude: &'a [RegistrationId],
}

#[derive(Debug)]
pub struct Decision {
    /// Priority of the rule that matched; 0 is the default.
    pub priority: u32,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// The guard counts the exchange until it is dropped.
    Forward {
        group: Arc<Group>,
        guard: InFlight,
    },
    Fixed(Arc<FixedResponse>),
    /// The group that was chosen has nobody to send to.
    NoTarget {
        group: Arc<Group>,
    },
}

/// Decides one exchange of `listener`.
#[must_use]
pub fn decide(listener: &RoutedListener, facts: &Facts<'_>, trial: &mut Trial<'_>) -> Decision {
    let (index, priority) =
        listener.matcher.find(facts).unwrap_or_else(|| (listener.actions.len() - 1, 0));
    let outcome = match &listener.actions[index] {
        RoutedAction::Fixed(response) => Outcome::Fixed(Arc::clone(response)),
        RoutedAction::Forward(forwarding) => {
            let group = forwarding.choose(trial.rng);
            match group.pick(trial.exclude) {
                Some(endpoint) => Outcome::Forward {
                    group: Arc::clone(group),
                    guard: InFlight::take(endpoint, trial.thread),
                },
                None => Outcome::NoTarget { group: Arc::clone(group) },
            }
        }
    };
    Decision { priority, outcome }
}

impl Forwarding {
    /// A group by weight. All weights zero: the first one.
    fn choose(&self, rng: &mut fastrand::Rng) -> &Arc<Group> {
        let first = &self.groups[0].0;
        if self.groups.len() == 1 || self.total_weight == 0 {
            return first;
        }
        let mut ticket = rng.u32(0..self.total_weight);
        for (group, weight) in &self.groups {
            match ticket.checked_sub(*weight) {
                Some(rest) => ticket = rest,
                None => return group,
            }
        }
        first
    }
}
