//! ECS task definitions in the file: Amazon's JSON shape, in TOML or in a file of its own.
//!
//! The shape and its meaning are `api::definition`'s; here errors get their place in the text.
//! **Invariant:** a member that ECS does not know is refused.

use super::place::Place;
use super::source::Bad;
use crate::api::definition::{self, Definition, Step};
use crate::model::TaskDefinition;

pub(super) type WrittenDefinition = Definition;

/// What the definition at `at` means, as revision 0.
pub(super) fn meaning(written: &WrittenDefinition, at: &Place) -> Result<TaskDefinition, Bad> {
    written.meaning().map_err(|definition::Bad { path, reason }| {
        let place = path.steps().fold(at.clone(), |place, step| match step {
            Step::Key(name) => place.key(name),
            Step::Index(index) => place.index(*index),
        });
        Bad::new(&place, reason)
    })
}
