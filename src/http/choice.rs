//! What a decision asks a carrier to do, and what its log is to say of that.
//!
//! Pure. **Invariant:** both carriers read a decision here, so they read it alike.

use std::net::SocketAddr;
use std::sync::Arc;

use super::errors::Cause;
use super::own::Own;
use super::pending::Pending;
use crate::balance::{Group, InFlight, Want};
use crate::routing::{LoginStep, Outcome};
use crate::rules::Facts;

/// What a decision asks for where it is not to forward.
#[derive(Debug)]
pub(super) enum Instead {
    Answer(Own),
    Refuse(Cause),
}

/// A target and its group, or what is done instead.
pub(super) type Choice = Result<(Arc<Group>, InFlight), Instead>;

/// It cannot be said now, and may be soon: what is waited for.
pub(super) enum Wanted {
    Target(Arc<Group>, Want),
    Client(Pending),
}

/// What the access log says of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) action: Option<&'static str>,
    pub(super) group: Option<Arc<Group>>,
    pub(super) target: Option<SocketAddr>,
    /// Where the client was sent to.
    pub(super) redirect_url: Option<String>,
}

/// Reads the outcome for a request that came by `scheme` to `port`.
pub(super) fn read(
    outcome: Outcome,
    facts: &Facts<'_>,
    (scheme, port): (&str, u16),
) -> (Told, Result<Choice, Wanted>) {
    let forward = |group: &Arc<Group>| Told {
        action: Some("forward"),
        group: Some(Arc::clone(group)),
        ..Told::default()
    };
    let refuse = |cause| Ok(Err(Instead::Refuse(cause)));
    match outcome {
        Outcome::Forward { group, guard } => {
            let told = Told { target: Some(guard.endpoint().address), ..forward(&group) };
            (told, Ok(Ok((group, guard))))
        }
        Outcome::Fixed(response) => {
            let told = Told { action: Some("fixed-response"), ..Told::default() };
            (told, Ok(Err(Instead::Answer(Own::Fixed(response)))))
        }
        Outcome::Redirect(redirect) => {
            let told = Told { action: Some("redirect"), ..Told::default() };
            match Own::redirect(&redirect, facts, (scheme, port)) {
                Ok(own) => {
                    let redirect_url = own.location().map(str::to_owned);
                    (Told { redirect_url, ..told }, Ok(Err(Instead::Answer(own))))
                }
                Err(cause) => (told, refuse(cause)),
            }
        }
        Outcome::Busy { group } => (forward(&group), Err(Wanted::Target(group, Want::Slot))),
        Outcome::NoTarget { group } if group.routing.hold.is_some() => {
            (forward(&group), Err(Wanted::Target(group, Want::Target)))
        }
        Outcome::NoTarget { group } => (forward(&group), refuse(Cause::NoTarget)),
        Outcome::Misfit { group } => (forward(&group), refuse(Cause::Misfit)),
        Outcome::Unfit { group } => (forward(&group), refuse(Cause::Transform)),
        Outcome::Refused(refusal) => (Told::default(), refuse(Cause::Token(refusal))),
        Outcome::AskAgain(missing) => {
            (Told::default(), Err(Wanted::Client(Pending::Keys(missing))))
        }
        Outcome::Login(step) => (Told::default(), login(step)),
        Outcome::Limited { seconds } => (Told::default(), refuse(Cause::RateLimited(seconds))),
    }
}

fn login(step: LoginStep) -> Result<Choice, Wanted> {
    match step {
        LoginStep::Failed(failure) => Ok(Err(Instead::Refuse(Cause::Login(failure)))),
        LoginStep::Send(sent) => Ok(Err(Instead::Answer(Own::Sent(Box::new(sent))))),
        LoginStep::Arrived(arrival) => Err(Wanted::Client(Pending::Arrival(arrival))),
        LoginStep::Refresh(refreshing) => Err(Wanted::Client(Pending::Session(refreshing))),
    }
}
