//! The decision: rule, group, endpoint and in-flight guard in one synchronous call.
//!
//! **Invariant:** nothing here awaits or locks, and nothing is allocated but what a transform
//! makes; after any await the caller decides again on a fresh snapshot.

use std::sync::Arc;

use super::{Forwarding, RoutedAction, RoutedListener};
use crate::balance::{Group, InFlight};
use crate::model::{FixedResponse, Redirect, RegistrationId};
use crate::rules::{Facts, Found, Transformed, Unfit};

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
    /// What the target gets in place of what was sent, where the rule has transforms.
    pub transformed: Option<Transformed>,
}

#[derive(Debug)]
pub enum Outcome {
    /// The guard counts the exchange until it is dropped.
    Forward {
        group: Arc<Group>,
        guard: InFlight,
    },
    Fixed(Arc<FixedResponse>),
    Redirect(Arc<Redirect>),
    /// A transform's result may not stand in a request.
    Unfit {
        group: Arc<Group>,
    },
    /// The group that was chosen has nobody to send to.
    NoTarget {
        group: Arc<Group>,
    },
}

/// Decides one exchange of `listener`.
#[must_use]
pub fn decide(listener: &RoutedListener, facts: &Facts<'_>, trial: &mut Trial<'_>) -> Decision {
    let found = listener.matcher.find(facts);
    let last = listener.actions.len() - 1;
    let (index, priority) = found.map_or((last, 0), |found| (found.index, found.priority));
    let mut transformed = None;
    let outcome = match &listener.actions[index] {
        RoutedAction::Fixed(response) => Outcome::Fixed(Arc::clone(response)),
        RoutedAction::Redirect(redirect) => Outcome::Redirect(Arc::clone(redirect)),
        RoutedAction::Forward(forwarding) => {
            let group = forwarding.choose(trial.rng);
            match transform(found, facts) {
                Err(Unfit) => Outcome::Unfit { group: Arc::clone(group) },
                Ok(done) => {
                    transformed = done;
                    forward(group, trial)
                }
            }
        }
    };
    Decision { priority, outcome, transformed }
}

fn transform(found: Option<Found<'_>>, facts: &Facts<'_>) -> Result<Option<Transformed>, Unfit> {
    let transform = found.and_then(|found| found.transform);
    transform.map(|own| own.apply(facts.host_name(), facts.path, facts.query)).transpose()
}

fn forward(group: &Arc<Group>, trial: &Trial<'_>) -> Outcome {
    match group.pick(trial.exclude) {
        Some(endpoint) => Outcome::Forward {
            group: Arc::clone(group),
            guard: InFlight::take(endpoint, trial.thread),
        },
        None => Outcome::NoTarget { group: Arc::clone(group) },
    }
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
