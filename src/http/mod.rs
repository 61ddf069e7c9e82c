//! The HTTP plane: what a request meets between its client and its target.
//!
//! Decisions are pure and know no carrier: [`head`] (limits and framing of what a client sent),
//! [`desync`] (how sure that is), [`headers`] (what is added and taken away), [`errors`] (what
//! happened → what is answered), [`own`] (responses of our own), `choice` (what a decision asks
//! for), [`coding`] (compression), [`additions`] (cookies, inserted headers), [`retry`] (what may
//! be replayed), `wait` (who waits for a target), `pending` (what others say of a client). Two
//! carriers move the bytes and call them alike: `native`, and `pingora` for listeners that ask for
//! it. Not here: accepting, rules and picks (`routing::decide`). **Invariant:** an exchange is
//! counted on its endpoint from the pick until the last byte moved, whatever ends it.

mod account;
pub mod additions;
mod choice;
pub mod coding;
pub mod desync;
pub mod errors;
pub mod head;
pub mod headers;
mod limits;
mod native;
pub mod own;
mod pending;
mod pingora;
mod plane;
pub mod retry;
#[cfg(test)]
pub(in crate::http) mod tests;
mod wait;

pub use limits::PARTED;
pub use plane::{HttpPlane, Settings};
