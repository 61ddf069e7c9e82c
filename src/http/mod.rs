//! The HTTP plane: what a request meets between its client and its target.
//!
//! Decisions are pure and know no carrier: [`head`] (limits and framing of what a client sent),
//! [`headers`] (what is added and taken away), [`errors`] (what happened → what is answered),
//! [`retry`] (what may be replayed). The carrier that moves the bytes is [`pingora`]. Not here:
//! accepting, rules and picks (`routing::decide`). **Invariant:** an exchange is counted on its
//! endpoint from the pick until the last byte moved, whatever ends it.

pub mod errors;
pub mod head;
pub mod headers;
pub mod pingora;
pub mod retry;

pub use pingora::{HttpPlane, Settings};
