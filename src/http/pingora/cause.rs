//! What pingora's errors mean.

use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::super::errors::Cause;
use super::hooks::connection;

/// The response's headers are longer than we pass on.
pub(super) const LONG_RESPONSE: ErrorType = ErrorType::new("ResponseHeaders");

/// What pingora's error says has happened.
pub(super) fn cause(e: &Error, session: &mut Session) -> Cause {
    use ErrorType as Type;
    let kind = e.etype();
    if *kind == LONG_RESPONSE {
        return Cause::ResponseHeaders;
    }
    match (e.esource(), kind) {
        // Any byte either way starts both clocks anew: with a body that does not go on, it is the
        // client that stalls.
        (ErrorSource::Upstream, Type::ReadTimedout) if !session.is_body_done() => Cause::Slow,
        (ErrorSource::Upstream, Type::ReadTimedout | Type::WriteTimedout) => Cause::TargetTimeout,
        (ErrorSource::Upstream, Type::ReadError | Type::WriteError | Type::ConnectionClosed) => {
            Cause::TargetClosed
        }
        (ErrorSource::Upstream, _) => Cause::BadResponse,
        (ErrorSource::Downstream, Type::ReadTimedout) => Cause::Slow,
        (
            ErrorSource::Downstream,
            Type::ReadError | Type::WriteError | Type::ConnectionClosed | Type::WriteTimedout,
        ) => {
            // Pingora calls a body done that was cut off; its length says otherwise.
            let short = connection(session).is_some_and(|connection| connection.is_body_short());
            if session.is_body_done() && !short { Cause::ClientGone } else { Cause::ShortBody }
        }
        (ErrorSource::Downstream, _) => Cause::Malformed,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Cause::Internal,
    }
}
