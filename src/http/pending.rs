//! What a decision waits for: keys that the control side reads, and calls of identity providers.
//!
//! For both carriers. **Invariant:** whoever has waited decides again on a fresh snapshot, and
//! waits so [`MOST`] times at most.

use super::choice::Instead;
use super::errors::Cause;
use super::own::Own;
use crate::auth::{Arrival, Fetcher, Missing, Refreshed, Refreshing};
use crate::clock;
use crate::routing::RoutedListener;

/// How often one exchange waits before it is given up: for a session, then for keys.
pub(super) const MOST: usize = 2;

#[derive(Debug)]
pub(super) enum Pending {
    Keys(Missing),
    Arrival(Box<Arrival>),
    Session(Box<Refreshing>),
}

/// What came of it.
pub(super) enum Waited {
    /// It is to be decided again.
    Again,
    /// The same, with this session.
    Refreshed(Refreshed),
    Done(Instead),
}

impl Pending {
    /// The answer where it is given up.
    pub(super) const fn refusal(&self) -> Cause {
        match self {
            Self::Keys(missing) => Cause::Token(missing.refusal),
            Self::Arrival(_) | Self::Session(_) => Cause::Internal,
        }
    }

    /// Waits; logins that come to something are counted, the others are by their answers.
    pub(super) async fn wait(
        self,
        fetcher: &Fetcher,
        (listener, thread): (&RoutedListener, usize),
    ) -> Waited {
        let logins = &listener.metrics.logins;
        let begun = clock::instant();
        let took = || logins.seconds.observe(thread, begun.elapsed());
        match self {
            Self::Keys(missing) => {
                missing.keys.read_again().await;
                Waited::Again
            }
            Self::Session(refreshing) => {
                let refreshed = refreshing.run(fetcher).await;
                took();
                logins.refreshed.add(thread, u64::from(refreshed.is_good()));
                Waited::Refreshed(refreshed)
            }
            Self::Arrival(arrival) => {
                let completed = arrival.complete(fetcher).await;
                took();
                Waited::Done(match completed {
                    Ok(redirection) => {
                        logins.success.add(thread, 1);
                        Instead::Answer(Own::Sent(Box::new(redirection)))
                    }
                    Err(failure) => Instead::Refuse(Cause::Login(failure)),
                })
            }
        }
    }
}
