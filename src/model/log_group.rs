//! Log groups that somebody asked for; others are there because a task writes to them.

use serde::{Deserialize, Serialize};

use super::LogGroupName;
use crate::clock::Timestamp;

/// **Invariant:** what is in the group is on disk alone; this is what was said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGroup {
    pub name: LogGroupName,
    pub created_at: Timestamp,
    /// Days; none: for ever, as far as files are kept.
    pub retention: Option<u32>,
}
