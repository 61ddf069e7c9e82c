//! Tests of the carrier on real sockets.

mod endings;
mod passing;
mod world;
