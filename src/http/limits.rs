//! The times that both carriers keep, each with its source.

use std::time::Duration;

/// ALB: a connection to a target has to stand within 10 s.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// ALB: a handshake with a target has to be over within 10 s; longer: 502.
pub(super) const TARGET_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection to a target rests in the pool (ours: below the 75 s of nginx and the 65 s
/// that AWS advises for targets, so that it is rarely the target that closes first).
pub(super) const TARGET_IDLE: Duration = Duration::from_secs(60);
/// After so long without a word from it a target's HTTP/2 connection gets no exchange before it has
/// answered a PING (ours: what runs for less than a second is no rest).
pub(super) const UNHEARD: Duration = Duration::from_secs(1);
/// A target's HTTP/2 connection on which nothing is heard is asked by a PING each time that so much
/// has passed (ours: three times until [`TARGET_IDLE`]) …
pub(super) const PING_EVERY: Duration = Duration::from_secs(20);
/// … but no more than this often: gRPC's servers end a connection after three PINGs too many
/// without data between ("Keepalive user guide", GRPC_ARG_HTTP2_MAX_PING_STRIKES: 2).
pub(super) const PINGS: u32 = 2;
/// Without an answer by then it is closed (ours: half of what a connection may take to stand, so
/// that another one can be tried; gRPC's default is 20 s).
pub(super) const PING_ANSWER: Duration = Duration::from_secs(5);
/// How long what a client still sends is read and thrown away once we have closed (ours; it keeps
/// the kernel from resetting a response that the client has not read yet. nginx: 5 s).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// What a tunnel has of time to end by its protocol once it must, and its client to close (ours).
pub const PARTED: Duration = Duration::from_millis(4_500);
/// How long a connection without a request is kept once the process is closing (ours): a request
/// that crosses the closing is answered, with `Connection: close`, instead of lost.
pub(super) const PARTING: Duration = Duration::from_secs(1);
/// Bytes of a request's body that a client has to send in each second beyond the first idle timeout
/// (ours; Apache asks for 500 after 20 s. Tunnels may be as slow as they like).
pub(super) const BODY_RATE: u64 = 100;
