//! Capacity providers that somebody made: names for container instances of an Auto Scaling group.

use serde::{Deserialize, Serialize};

use super::CapacityProviderName;

/// **Invariant:** nothing scales the group: it stands for the container instances that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityProvider {
    pub name: CapacityProviderName,
    /// The group's ARN, as given.
    pub group: String,
    /// Kept and shown; it is off.
    pub scaling: ManagedScaling,
    /// ECS's `managedDraining`.
    pub draining: bool,
}

/// How a group would be scaled; the defaults are ECS's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedScaling {
    /// Percent, 1 to 100.
    pub target: u32,
    /// Instances, 1 to 10,000.
    pub min_step: u32,
    /// Likewise.
    pub max_step: u32,
    /// Seconds, up to 10,000.
    pub warmup: u32,
}

impl Default for ManagedScaling {
    fn default() -> Self {
        Self { target: 100, min_step: 1, max_step: 10_000, warmup: 300 }
    }
}
