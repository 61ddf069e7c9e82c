//! Which failed exchanges are given to another target.
//!
//! **Invariant:** a request that may have reached a target is replayed only when its method is
//! idempotent (RFC 9110, section 9.2.2) and the client has seen no byte of a response.

/// Targets one exchange may be given to (ours: the first, the one that replaces it, and one more
/// for the moment in which a task has died and its endpoint is not ejected yet).
pub const ATTEMPTS: u32 = 3;

/// What went wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// No connection in time. The client has waited long enough.
    ConnectTimeout,
    /// A connection out of the pool ended before a response: most likely it was closed as idle when
    /// we took it.
    PooledClosed,
    /// The target says that it has not looked at it; it may well do so the next time.
    Unprocessed,
    /// A new connection ended before a response.
    Closed,
    /// Anything else: no answer in time, a malformed answer, the client's own doing.
    Other,
}

/// One failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub failure: Failure,
    pub method: &'a str,
    /// The body so far is still in the buffer.
    pub body_kept: bool,
    /// A byte of a final response was sent to the client.
    pub response_begun: bool,
    /// Attempts made, this one included.
    pub made: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    GiveUp,
    /// Decide again without this target.
    Elsewhere,
    /// Decide again; the target itself may be well.
    Anywhere,
}

/// What follows a failed attempt.
#[must_use]
pub fn after(attempt: &Attempt<'_>) -> Verdict {
    if attempt.made >= ATTEMPTS || attempt.response_begun || !attempt.body_kept {
        return Verdict::GiveUp;
    }
    match attempt.failure {
        Failure::Connect => Verdict::Elsewhere,
        Failure::Unprocessed => Verdict::Anywhere,
        Failure::Closed if is_idempotent(attempt.method) => Verdict::Elsewhere,
        Failure::PooledClosed if is_idempotent(attempt.method) => Verdict::Anywhere,
        Failure::ConnectTimeout | Failure::Closed | Failure::PooledClosed | Failure::Other => {
            Verdict::GiveUp
        }
    }
}

/// RFC 9110, section 9.2.2. TRACE never gets here.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Attempt<'_> = Attempt {
        failure: Failure::Closed,
        method: "GET",
        body_kept: true,
        response_begun: false,
        made: 1,
    };

    fn check(attempt: Attempt<'_>, expected: Verdict) {
        assert_eq!(after(&attempt), expected, "{attempt:?}");
    }

    #[test]
    fn idempotent_requests_are_replayed() {
        check(GET, Verdict::Elsewhere);
        check(Attempt { failure: Failure::PooledClosed, ..GET }, Verdict::Anywhere);
        check(Attempt { method: "PUT", ..GET }, Verdict::Elsewhere);
        check(Attempt { method: "POST", ..GET }, Verdict::GiveUp);
        check(Attempt { method: "PATCH", ..GET }, Verdict::GiveUp);
        check(Attempt { method: "get", ..GET }, Verdict::GiveUp);
    }

    #[test]
    fn what_was_never_sent_goes_elsewhere_whatever_its_method() {
        check(Attempt { failure: Failure::Connect, method: "POST", ..GET }, Verdict::Elsewhere);
        check(Attempt { failure: Failure::Unprocessed, method: "POST", ..GET }, Verdict::Anywhere);
        check(Attempt { failure: Failure::ConnectTimeout, ..GET }, Verdict::GiveUp);
    }

    #[test]
    fn nothing_is_replayed_behind_a_response_or_a_lost_body() {
        check(Attempt { response_begun: true, ..GET }, Verdict::GiveUp);
        check(Attempt { body_kept: false, ..GET }, Verdict::GiveUp);
        check(Attempt { failure: Failure::Other, ..GET }, Verdict::GiveUp);
    }

    #[test]
    fn attempts_are_bounded() {
        check(Attempt { made: ATTEMPTS - 1, ..GET }, Verdict::Elsewhere);
        check(Attempt { made: ATTEMPTS, ..GET }, Verdict::GiveUp);
    }
}
