//! Application Auto Scaling: one file per resource; operations in the order Create, Describe,
//! Update, Delete, List.
//!
//! Not here: wire forms and checks against the model, which are done before an operation sees its
//! input. **Invariant:** [`call`] is the list of what is served.

use super::call::{Accepted, Call, Input, Outcome};

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, _input: Input) -> Outcome {
    Err(call.unknown())
}
