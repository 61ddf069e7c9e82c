//! The decision: rule, group, endpoint and in-flight guard in one synchronous call.
//!
//! **Invariant:** nothing here awaits or locks, and nothing is allocated but what a transform
//! makes; after any await the caller decides again on a fresh snapshot.

use std::sync::Arc;
use std::time::Duration;

use super::sticky::{Bond, CookieKeys, CookieKind, has_cookie};
use super::{Forwarding, LoginStep, RoutedAction, RoutedListener};
use crate::auth::{Missing, Refreshed, Refusal};
use crate::balance::{Endpoint, Group, InFlight, Turn};
use crate::clock::Timestamp;
use crate::model::{
    FixedResponse, Mirror, ProtocolVersion, Redirect, RegistrationId, StickinessKind,
};
use crate::rules::{Facts, Found, Spoken, Transformed, Unfit};

/// Which attempt this is, on which thread.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Index of the deciding data thread.
    pub thread: usize,
    pub rng: &'a mut fastrand::Rng,
    pub now: Timestamp,
    /// Endpoints that this exchange has tried already.
    pub exclude: &'a [RegistrationId],
    /// The first decision of its exchange: the one that counts against rate limits.
    pub is_first: bool,
    /// It has a place among those who wait: no newcomer goes before it.
    pub has_waited: bool,
    /// The session that was waited for.
    pub refreshed: Option<&'a Refreshed>,
}

impl<'a> Trial<'a> {
    /// The first of an exchange.
    pub const fn first(thread: usize, rng: &'a mut fastrand::Rng, now: Timestamp) -> Self {
        let (is_first, has_waited) = (true, false);
        Self { thread, rng, now, exclude: &[], is_first, has_waited, refreshed: None }
    }
}

#[derive(Debug)]
pub struct Decision {
    /// Priority of the rule that matched; 0 is the default.
    pub priority: u32,
    /// What came before the action.
    pub check: Option<&'static str>,
    pub outcome: Outcome,
    /// What the target gets in place of what was sent, where the rule has transforms.
    pub transformed: Option<Transformed>,
    pub bonds: Bonds,
    /// The rule's, for the head of a response.
    pub timeout: Option<Duration>,
    /// A group that is to get a copy.
    pub mirror: Option<Mirror>,
}

/// The cookies that a client is to get with its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bonds {
    pub group: Option<Bond>,
    pub target: Option<Bond>,
    /// Only where the response sets the application's own cookie.
    pub if_application_asks: bool,
}

#[derive(Debug)]
pub enum Outcome {
    /// The guard counts the exchange until it is dropped.
    Forward {
        group: Arc<Group>,
        guard: InFlight,
    },
    Fixed(Arc<FixedResponse>),
    Redirect(Arc<Redirect>),
    /// The client's token does not let it in.
    Refused(Refusal),
    /// Neither does it, but other keys may: once they were read, it is to be decided again.
    AskAgain(Missing),
    Login(LoginStep),
    /// A transform's result may not stand in a request.
    Unfit {
        group: Arc<Group>,
    },
    /// The group that was chosen does not take what the request is spoken in.
    Misfit {
        group: Arc<Group>,
    },
    /// More requests came than the listener or the rule lets pass.
    Limited {
        /// After which the next one may come.
        seconds: u32,
    },
    /// Its targets have as many exchanges as they may, or others wait already.
    Busy {
        group: Arc<Group>,
    },
    /// The group that was chosen has nobody to send to.
    NoTarget {
        group: Arc<Group>,
    },
}

/// Decides one exchange of `listener`.
#[must_use]
pub fn decide(listener: &RoutedListener, facts: &Facts<'_>, trial: &mut Trial<'_>) -> Decision {
    let found = listener.matcher.find(facts);
    let last = listener.actions.len() - 1;
    let (index, priority) = found.map_or((last, 0), |found| (found.index, found.priority));
    let (mut transformed, mut bonds) = (None, Bonds::default());
    let rule = listener.listener.rules.get(index);
    let timeout = rule.and_then(|rule| rule.timeout);
    let mirror = rule.and_then(|rule| rule.mirror.as_ref()).filter(|_| trial.is_first);
    let mirror = mirror.filter(|mirror| trial.rng.u32(0..100) < mirror.percent).cloned();
    if let Some(wait) = limited(listener, index, facts, trial) {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let (check, outcome) = (None, Outcome::Limited { seconds });
        return Decision { priority, check, outcome, transformed, bonds, timeout, mirror: None };
    }
    let (check, passed) = listener.check(index, facts, trial);
    let identity = match passed {
        Ok(identity) => identity,
        Err(outcome) => {
            return Decision { priority, check, outcome, transformed, bonds, timeout, mirror };
        }
    };
    let outcome = match &listener.actions[index] {
        RoutedAction::Fixed(response) => Outcome::Fixed(Arc::clone(response)),
        RoutedAction::Redirect(redirect) => Outcome::Redirect(Arc::clone(redirect)),
        RoutedAction::Forward(forwarding) => {
            let (group, bond) = forwarding.choose(&listener.cookies, facts, trial);
            bonds.group = bond;
            match transform(found, facts) {
                _ if !takes(group.version, facts) => Outcome::Misfit { group: Arc::clone(group) },
                Err(Unfit) => Outcome::Unfit { group: Arc::clone(group) },
                Ok(done) => {
                    transformed = done;
                    if identity.is_some() {
                        transformed.get_or_insert_default().identity = identity;
                    }
                    forward(group, &listener.cookies, facts, trial, &mut bonds)
                }
            }
        }
    };
    Decision { priority, check, outcome, transformed, bonds, timeout, mirror }
}

/// How long this request would have to wait, where it is one too many.
fn limited(
    listener: &RoutedListener,
    index: usize,
    facts: &Facts<'_>,
    trial: &Trial<'_>,
) -> Option<Duration> {
    let limits = [&listener.limit, &listener.rule_limits[index]];
    let mut limits = limits.into_iter().flatten().filter(|_| trial.is_first);
    limits.find_map(|limit| limit.meet(facts, trial.now, trial.thread))
}

/// AWS, "Target groups for your Application Load Balancers", protocol version: which requests a
/// group takes.
fn takes(version: ProtocolVersion, facts: &Facts<'_>) -> bool {
    match (version, facts.spoken) {
        (ProtocolVersion::Http1, spoken) => spoken != Spoken::Grpc,
        (_, Spoken::Http1) => false,
        (ProtocolVersion::Http2, Spoken::Http2) => true,
        (ProtocolVersion::Http2 | ProtocolVersion::Grpc, _) => facts.method == "POST",
    }
}

fn transform(found: Option<Found<'_>>, facts: &Facts<'_>) -> Result<Option<Transformed>, Unfit> {
    let transform = found.and_then(|found| found.transform);
    transform.map(|own| own.apply(facts.host_name(), facts.path, facts.query)).transpose()
}

fn forward(
    group: &Arc<Group>,
    keys: &CookieKeys,
    facts: &Facts<'_>,
    trial: &mut Trial<'_>,
    bonds: &mut Bonds,
) -> Outcome {
    if !trial.has_waited && group.routing.target_concurrency.is_some() && group.gate.queued() > 0 {
        return Outcome::Busy { group: Arc::clone(group) };
    }
    let sticky = &group.routing.stickiness;
    let mut turn = Turn { exclude: trial.exclude, now: trial.now, rng: trial.rng };
    let found = match sticky.enabled {
        false => group.pick(&mut turn),
        true => {
            let kind = CookieKind::of(sticky.kind);
            let duration = match sticky.kind {
                StickinessKind::LbCookie => sticky.duration,
                StickinessKind::AppCookie => sticky.application_duration,
            };
            let bound = bound(group, keys, facts, &turn);
            // Unknown, draining, unhealthy: chosen anew, and told so.
            let found = bound.or_else(|| group.pick(&mut turn));
            let until = turn.now + duration;
            let fresh = |target: u64| Bond { kind, group: group.id, target, until };
            bonds.target = found.map(|endpoint| fresh(endpoint.id.0));
            bonds.if_application_asks = kind == CookieKind::Application
                && (bound.is_some() || !has_cookie(facts.headers, &sticky.cookie_name));
            found
        }
    };
    match found.map(|endpoint| group.enter(endpoint, trial.thread)) {
        Some(Some(guard)) => Outcome::Forward { group: Arc::clone(group), guard },
        // Another thread took the slot.
        Some(None) => Outcome::Busy { group: Arc::clone(group) },
        None if group.is_busy(&turn) => Outcome::Busy { group: Arc::clone(group) },
        None => Outcome::NoTarget { group: Arc::clone(group) },
    }
}

/// The target that a cookie binds the client to, while it may be sent to.
pub(super) fn bound<'a>(
    group: &'a Group,
    keys: &CookieKeys,
    facts: &Facts<'_>,
    turn: &Turn<'_>,
) -> Option<&'a Arc<Endpoint>> {
    let sticky = &group.routing.stickiness;
    let kind = CookieKind::of(sticky.kind);
    let bond = sticky.enabled.then(|| keys.read(kind, facts.headers, turn.now)).flatten();
    let bond = bond.filter(|bond| bond.group == group.id)?;
    group.bound(RegistrationId(bond.target), turn)
}

impl Forwarding {
    /// The group that the client is bound to, or one by weight and the bond to it.
    fn choose(
        &self,
        keys: &CookieKeys,
        facts: &Facts<'_>,
        trial: &mut Trial<'_>,
    ) -> (&Arc<Group>, Option<Bond>) {
        let Some(duration) = self.sticky else { return (self.by_weight(trial.rng), None) };
        if let Some(group) = self.bound(keys, facts, trial.now) {
            return (group, None);
        }
        let group = self.by_weight(trial.rng);
        let until = trial.now + duration;
        let bond = Bond { kind: CookieKind::Group, group: group.id, target: 0, until };
        (group, Some(bond))
    }

    /// The group that a cookie binds the client to, while it has somebody to send to.
    pub(super) fn bound(
        &self,
        keys: &CookieKeys,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Option<&Arc<Group>> {
        let bond = self.sticky.and_then(|_| keys.read(CookieKind::Group, facts.headers, now))?;
        let (group, _) = self.groups.iter().find(|(own, _)| own.id == bond.group)?;
        (!group.routable.is_empty()).then_some(group)
    }

    /// A group by weight. All weights zero: the first one.
    fn by_weight(&self, rng: &mut fastrand::Rng) -> &Arc<Group> {
        let first = &self.groups[0].0;
        if self.groups.len() == 1 || self.total_weight == 0 {
            return first;
        }
        let mut ticket = rng.u32(0..self.total_weight);
        for (group, weight) in &self.groups {
            match ticket.checked_sub(*weight) {
                Some(rest) => ticket = rest,
                None => return group,
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: ProtocolVersion, spoken: Spoken, expected: [bool; 2]) {
        let takes = |method| takes(version, &Facts { method, spoken, ..Facts::default() });
        assert_eq!(["POST", "GET"].map(takes), expected, "{version:?} {spoken:?}");
    }

    #[test]
    fn groups_take_what_albs_table_says() {
        check(ProtocolVersion::Http1, Spoken::Http1, [true, true]);
        check(ProtocolVersion::Http1, Spoken::Http2, [true, true]);
        check(ProtocolVersion::Http1, Spoken::Grpc, [false, false]);
        check(ProtocolVersion::Http2, Spoken::Http1, [false, false]);
        check(ProtocolVersion::Http2, Spoken::Http2, [true, true]);
        check(ProtocolVersion::Http2, Spoken::Grpc, [true, false]);
        check(ProtocolVersion::Grpc, Spoken::Http1, [false, false]);
        check(ProtocolVersion::Grpc, Spoken::Http2, [true, false]);
        check(ProtocolVersion::Grpc, Spoken::Grpc, [true, false]);
    }
}
