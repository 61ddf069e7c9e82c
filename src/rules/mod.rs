//! Rules: which of a listener's rules a request meets first.
//!
//! Pure. [`Facts`] is the borrowed view of a request, [`Matcher`] a listener's compiled rules. Not
//! here: what the rule's action then does (`routing::decide`). **Invariant:** the lowest matching
//! priority wins, and matching allocates nothing.

mod facts;
mod matcher;
mod wildcard;

pub use facts::Facts;
pub use matcher::Matcher;
pub use wildcard::{BadPattern, Pattern};
