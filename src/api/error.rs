//! What an operation refuses with: AWS's error code, a message, and its form on each wire.
//!
//! **Invariant:** nothing here holds a secret or an address of memory; a message may be shown to
//! whoever called.

use crate::state::StoreError;

/// An operation's refusal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A code of the service's model, or one common to all.
    #[error("{code}: {message}")]
    Code { code: &'static str, message: String },
    /// The service's own code for bad input.
    #[error("{0}")]
    Invalid(String),
    /// The service's own code for what is known and not honoured.
    #[error("{0}")]
    Unsupported(String),
    /// The state cannot be written at the moment; the call may be repeated.
    #[error("{0}")]
    Unavailable(String),
    /// A mistake of ours.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self::Code { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }
}

/// What the State's rules refuse was not seen by the operation, so it came in between: the
/// operations check what they can before.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refused) => Self::Invalid(refused.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
