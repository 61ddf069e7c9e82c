//! Rules: which of a listener's rules a request meets first, and what it changes in the request.
//!
//! Pure. [`Facts`] is the borrowed view of a request, [`Matcher`] a listener's compiled rules,
//! [`Limiter`] how many requests may come. Not
//! here: what the rule's action then does (`routing::decide`). **Invariant:** the lowest matching
//! priority wins, and matching allocates nothing.

mod condition;
mod facts;
mod index;
mod limit;
mod matcher;
mod transform;
mod wildcard;

pub use condition::{BadValue, Weight, is_header_name, weigh};
pub use facts::{Facts, Headers, Spoken};
pub use limit::Limiter;
pub use matcher::{Found, Matcher};
pub use transform::{Transform, Transformed, Unfit, check_transforms};
pub use wildcard::{BadPattern, Pattern};
