//! The layer 4 plane: flows of bytes between clients and targets, as a Network Load Balancer has
//! them.
//!
//! Not here: accepting (whoever owns the sockets does), and which target a flow gets
//! (`routing::decide`). **Invariant:** an end of stream that reaches one side was sent by the
//! other; whatever else ends a flow resets it.

mod buffers;
mod tcp;

pub use tcp::{CONNECT_ATTEMPTS, CONNECT_TIMEOUT, Ended, HALF_CLOSED_IDLE, TcpRelay};
