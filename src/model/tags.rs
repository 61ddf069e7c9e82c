//! Tags of resources, by their ARNs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ResourceArn;

/// What one resource is tagged with; a resource without tags has no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    pub resource: ResourceArn,
    pub tags: BTreeMap<String, String>,
}
