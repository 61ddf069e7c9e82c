//! How a service's tasks are deployed and replaced, beside its percentages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeploymentId, Strategy};
use crate::clock::Timestamp;

/// ECS: a bounded threshold is never below this …
const LEAST_FAILURES: u64 = 3;
/// … nor above this.
const MOST_FAILURES: u64 = 200;

/// Written with the service, by the file and the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServicePolicy {
    pub breaker: Breaker,
    /// ECS's scheduling strategy DAEMON: one task per container instance.
    pub daemon: bool,
    /// How long a task has run before its registrations are made.
    pub registration_delay: Duration,
    /// Whether a task is replaced because its target groups find it unhealthy. If not, it only
    /// gets no traffic; its own container checks and its end still replace it.
    pub replaces_unready: bool,
    pub strategy: Strategy,
}

impl Default for ServicePolicy {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            daemon: false,
            registration_delay: Duration::ZERO,
            replaces_unready: true,
            strategy: Strategy::default(),
        }
    }
}

/// ECS's `deploymentCircuitBreaker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    pub enabled: bool,
    /// A deployment that it ends goes back to the last that was completed.
    pub rollback: bool,
    /// None: [`Threshold::Bounded`] 50.
    pub threshold: Option<Threshold>,
    /// `resetOnHealthyTask`: a task that becomes healthy ends the count. None: it does.
    pub resets: Option<bool>,
}

impl Breaker {
    /// Failures at which a deployment of so many tasks has failed.
    #[must_use]
    pub fn threshold(&self, desired: u32) -> u32 {
        self.threshold.unwrap_or(Threshold::Bounded(50)).of(desired)
    }

    #[must_use]
    pub fn resets(&self) -> bool {
        self.resets.unwrap_or(true)
    }
}

/// ECS's `thresholdConfiguration`: percentages of the desired count as it is now, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Threshold {
    /// At least 3 and at most 200.
    Bounded(u32),
    Unbounded(u32),
    Count(u32),
}

impl Threshold {
    fn of(self, desired: u32) -> u32 {
        let share = |percent: u32| (u64::from(percent) * u64::from(desired)).div_ceil(100);
        let failures = match self {
            Self::Bounded(percent) => share(percent).clamp(LEAST_FAILURES, MOST_FAILURES),
            // Without tasks there is nothing to fail, and nothing has failed yet.
            Self::Unbounded(percent) => share(percent).max(1),
            Self::Count(count) => u64::from(count),
        };
        u32::try_from(failures).unwrap_or(u32::MAX)
    }

    /// AWS's spelling, and the value.
    #[must_use]
    pub const fn parts(self) -> (&'static str, u32) {
        match self {
            Self::Bounded(percent) => ("BOUNDED_PERCENT", percent),
            Self::Unbounded(percent) => ("UNBOUNDED_PERCENT", percent),
            Self::Count(count) => ("COUNT", count),
        }
    }

    /// None: no such type, or a value that its type cannot have.
    #[must_use]
    pub fn new(kind: &str, value: u32) -> Option<Self> {
        match (kind, value) {
            ("BOUNDED_PERCENT", 1..=100) => Some(Self::Bounded(value)),
            ("UNBOUNDED_PERCENT", 1..) => Some(Self::Unbounded(value)),
            ("COUNT", 1..) => Some(Self::Count(value)),
            _ => None,
        }
    }
}

/// Why a deployment was ended before it was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The circuit breaker counted too many failed tasks.
    TasksFailed,
    /// `StopServiceDeployment`.
    Stopped,
    /// The same, told to leave everything as it is.
    Aborted,
    /// One of its alarms went off.
    Alarm,
    /// A lifecycle hook failed or was not answered in time, or somebody told it to go back.
    Hook,
    /// A stage took too long.
    TimedOut,
}

/// The way back from a deployment that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    pub to: DeploymentId,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// That deployment was completed again.
    pub successful: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(threshold: Option<Threshold>, desired: u32, expected: u32) {
        let breaker = Breaker { threshold, ..Breaker::default() };
        assert_eq!(breaker.threshold(desired), expected, "{threshold:?} of {desired}");
    }

    #[test]
    fn threshold_is_a_rounded_up_and_bounded_share_of_the_desired_count() {
        for (desired, expected) in
            [(0, 3), (1, 3), (6, 3), (7, 4), (25, 13), (400, 200), (5000, 200)]
        {
            check(None, desired, expected);
        }
        check(Some(Threshold::Bounded(10)), 25, 3);
        check(Some(Threshold::Bounded(10)), 45, 5);
        for (desired, expected) in [(0, 1), (1, 1), (3, 2), (1000, 500)] {
            check(Some(Threshold::Unbounded(50)), desired, expected);
        }
        check(Some(Threshold::Count(1)), 500, 1);
    }

    #[test]
    fn threshold_has_aws_s_names_and_refuses_what_means_nothing() {
        for threshold in [Threshold::Bounded(50), Threshold::Unbounded(200), Threshold::Count(7)] {
            let (kind, value) = threshold.parts();
            assert_eq!(Threshold::new(kind, value), Some(threshold));
        }
        for (kind, value) in [("BOUNDED_PERCENT", 101), ("COUNT", 0), ("PERCENT", 5)] {
            assert_eq!(Threshold::new(kind, value), None);
        }
    }
}
