//! The wires: JSON, Query and EC2 forms, XML, driven by the public API models.
//!
//! Every request becomes one canonical document with the model's own names, types and nothing
//! else; every answer is made from one. Not here: what an operation does, who may call it.
//! **Invariant:** no byte of a request makes this panic, recurse without bound, or allocate more
//! than a constant times the request.

pub(crate) mod cbor;
pub(crate) mod check;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod time;
pub(crate) mod xml;

#[cfg(test)]
mod tests;
