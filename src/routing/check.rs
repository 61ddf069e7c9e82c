//! What clients have to show before a rule's action: rows → what decides.
//!
//! **Invariant:** rules that name the same endpoint share its keys, from generation to generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sticky::each_cookie;
use super::{Outcome, RoutedListener, Trial};
use crate::auth::{
    self, Arrival, CALLBACK, KeySet, Login, LoginFailure, Missing, NONCE_COOKIE, Redirection,
    Refreshing, SHARDS, Seals, Session, Validator, Verdict,
};
use crate::model::{ClientCheck, Listener, Unauthenticated};
use crate::rules::Facts;

/// By the endpoint's URL.
pub type KeySets = BTreeMap<String, Arc<KeySet>>;

/// What stands before the actions of a listener.
#[derive(Debug, Default)]
pub struct Checks {
    /// Of each rule, then of the default action; empty where there are none.
    rules: Vec<Option<RoutedCheck>>,
    /// The load balancer's ARN, in whose name targets are told who asks.
    signer: String,
}

#[derive(Debug)]
enum RoutedCheck {
    Jwt(Validator),
    Login(Arc<Login>),
}

/// What a login comes to, or what it waits for.
#[derive(Debug)]
pub enum LoginStep {
    Failed(LoginFailure),
    Send(Redirection),
    /// A client came back: once the provider was asked, it is sent on.
    Arrived(Box<Arrival>),
    /// Once the session was refreshed, it is to be decided again.
    Refresh(Box<Refreshing>),
}

/// Header lines that tell a target who asks, in place of the client's own; none: nobody is to be
/// told, and the client's own stay.
type Identity = Option<Arc<str>>;

impl Checks {
    /// `signer` is the load balancer's ARN. The key sets that are needed are put into `sets`.
    ///
    /// # Errors
    /// An endpoint is no URL, which those who write listeners exclude.
    pub(super) fn compile(
        listener: &Arc<Listener>,
        old: Option<&Arc<RoutedListener>>,
        (sets, known): (&mut KeySets, &KeySets),
        signer: impl FnOnce() -> String,
    ) -> Result<Arc<Self>, String> {
        if listener.authentications().all(|own| own.is_none()) {
            return Ok(Arc::default());
        }
        let mut set = |url: &str| {
            let set = match sets.get(url).or_else(|| known.get(url)) {
                Some(set) => Arc::clone(set),
                None => KeySet::new(url.parse().map_err(|error| format!("{url}: {error}"))?),
            };
            sets.insert(url.to_owned(), Arc::clone(&set));
            Ok::<_, String>(set)
        };
        let checks = || listener.authentications().map(|own| own.map(|own| &own.check));
        if let Some(old) = old.filter(|old| Arc::ptr_eq(&old.listener, listener)) {
            // They stay, and so do the keys that they look at.
            for check in checks().flatten() {
                if let ClientCheck::Jwt(asked) = check {
                    set(&asked.jwks_endpoint)?;
                }
            }
            return Ok(Arc::clone(&old.checks));
        }
        let mut check = |check: &ClientCheck| match check {
            ClientCheck::Jwt(asked) => {
                let keys = set(&asked.jwks_endpoint)?;
                Ok::<_, String>(RoutedCheck::Jwt(Validator::new(asked.clone(), keys)))
            }
            ClientCheck::Oidc(asked) => {
                let login = Login::new(asked.clone());
                let login = login.map_err(|error| format!("{}: {error}", asked.issuer))?;
                Ok(RoutedCheck::Login(Arc::new(login)))
            }
        };
        let rules = checks().map(|own| own.map(&mut check).transpose());
        Ok(Arc::new(Self { rules: rules.collect::<Result<_, String>>()?, signer: signer() }))
    }

    fn logins(&self) -> impl Iterator<Item = &Arc<Login>> {
        self.rules.iter().flatten().filter_map(|check| match check {
            RoutedCheck::Jwt(_) => None,
            RoutedCheck::Login(login) => Some(login),
        })
    }
}

impl RoutedListener {
    /// What comes before the action at `index`, as access logs call it, and whether the request
    /// passes.
    pub(super) fn check(
        &self,
        index: usize,
        facts: &Facts<'_>,
        trial: &Trial<'_>,
    ) -> (Option<&'static str>, Result<Identity, Outcome>) {
        let (checks, seals) = (&*self.checks, &self.seals);
        if checks.rules.is_empty() {
            return (None, Ok(None));
        }
        let has_logins = checks.logins().next().is_some();
        if has_logins && facts.path == CALLBACK {
            let (at, binding) = ((facts.host, facts.query), cookie(facts, NONCE_COOKIE));
            let arrival = auth::arrive(checks.logins(), seals, at, binding, trial.now);
            let step = arrival.map_or_else(LoginStep::Failed, |own| LoginStep::Arrived(own.into()));
            return (Some("authenticate"), Err(Outcome::Login(step)));
        }
        // Who has logins says who asks wherever it sends to: no client says so itself.
        let nobody = has_logins.then(Arc::default);
        match checks.rules.get(index).and_then(Option::as_ref) {
            None => (None, Ok(nobody)),
            Some(RoutedCheck::Jwt(validator)) => {
                (Some("jwt-validation"), token(validator, facts, trial).map_or(Ok(nobody), Err))
            }
            Some(RoutedCheck::Login(login)) => {
                let passed = user(login, seals, &checks.signer, facts, trial);
                (Some("authenticate"), passed.map(Some).map_err(Outcome::Login))
            }
        }
    }
}

/// What becomes of a request whose token does not let it in.
fn token(validator: &Validator, facts: &Facts<'_>, trial: &Trial<'_>) -> Option<Outcome> {
    let (mut values, mut count) = ([None; 2], 0);
    facts.headers.any("authorization", |value| {
        values[count] = Some(value);
        count += 1;
        count == values.len()
    });
    match validator.decide(values.into_iter().flatten(), trial.now) {
        Verdict::LetIn => None,
        Verdict::Refuse(refusal) => Some(Outcome::Refused(refusal)),
        Verdict::AskAgain(refusal) => {
            let keys = Arc::clone(validator.keys());
            Some(Outcome::AskAgain(Missing { keys, refusal }))
        }
    }
}

/// Who asks, in header lines; empty: nobody who is known, which is allowed.
fn user(
    login: &Arc<Login>,
    seals: &Arc<Seals>,
    signer: &str,
    facts: &Facts<'_>,
    trial: &Trial<'_>,
) -> Result<Arc<str>, LoginStep> {
    let refreshed = trial.refreshed.and_then(|own| own.of(login));
    let session = match refreshed {
        Some(session) => session.cloned(),
        None => session(login, seals, facts, trial),
    };
    if let Some(session) = session {
        if refreshed.is_none() && session.is_stale(trial.now) {
            let (login, seals) = (Arc::clone(login), Arc::clone(seals));
            let refreshing = Refreshing { login, seals, session, now: trial.now };
            return Err(LoginStep::Refresh(refreshing.into()));
        }
        let told = login.told(seals, &session, signer, trial.now);
        return told.map(Arc::from).ok_or(LoginStep::Failed(LoginFailure::NoKey));
    }
    match login.otherwise() {
        Unauthenticated::Allow => Ok(Arc::default()),
        Unauthenticated::Deny => Err(LoginStep::Failed(LoginFailure::Denied)),
        Unauthenticated::Authenticate => {
            let target = match facts.query {
                "" => facts.path.to_owned(),
                query => format!("{}?{query}", facts.path),
            };
            let at = (facts.host, target.as_str());
            let sent = login.begin(seals, at, cookie(facts, NONCE_COOKIE), trial.now);
            Err(sent.map_or_else(LoginStep::Failed, LoginStep::Send))
        }
    }
}

fn session(login: &Login, seals: &Seals, facts: &Facts<'_>, trial: &Trial<'_>) -> Option<Session> {
    let mut shards = [None; SHARDS];
    each_cookie(facts.headers, |name, value| {
        let number = name.strip_prefix(login.cookie().as_bytes());
        if let Some([b'-', digit]) = number
            && let Some(shard) = shards.get_mut(usize::from(digit.wrapping_sub(b'0')))
        {
            shard.get_or_insert(value);
        }
        false
    });
    login.session(seals, &shards, trial.now)
}

fn cookie<'a>(facts: &Facts<'a>, name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    each_cookie(facts.headers, |own, value| {
        found = (own == name.as_bytes()).then_some(value);
        found.is_some()
    });
    found
}
