//! State → Routing. Pure, and incremental: what did not change is shared with the previous
//! snapshot. Only new retry budgets ask the clock, when they begin.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Checks, KeySets};
use super::secure::{self, Sealed};
use super::sticky::CookieKeys;
use super::{
    Forwarding, ListenerMetrics, LoginMetrics, OWN_CODES, OwnResponses, RoutedAction,
    RoutedListener, Routing, SocketKey,
};
use crate::auth::Seals;
use crate::balance::slow_start::{Member, begun};
use crate::balance::{Budget, Endpoint, Gate, Group, GroupMetrics};
use crate::clock::{self, Timestamp};
use crate::metrics::{Metrics, names};
use crate::model::{
    Account, Action, Coding, CookieKey, CookieKeyId, GroupRouting, GroupStickiness, Listener,
    RateLimit, RegistrationId, Rule, Target, TargetGroup, TargetGroupName, Verdict, VerdictState,
    label,
};
use crate::net::proxy::Refused;
use crate::rules::{Limiter, Matcher};
use crate::state::{State, Table, changed};
use crate::zone::{ZoneContext, Zones};

/// What compiling needs beside the State.
#[derive(Clone, Debug)]
pub struct Context {
    pub account: Account,
    /// The domain of load balancers' DNS names.
    pub domain: String,
    pub metrics: Metrics,
}

/// The tables that endpoints and groups were compiled from.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    target_groups: Table<TargetGroupName, TargetGroup>,
    targets: Table<RegistrationId, Target>,
    verdicts: Table<RegistrationId, Verdict>,
    sealed: Sealed,
    cookie_keys: Table<CookieKeyId, CookieKey>,
}

/// Compiles `state`; endpoints, counters and unchanged groups and listeners are taken over from
/// `previous`.
#[must_use]
pub fn compile(state: &State, previous: &Routing, context: &Context) -> Routing {
    let registered = changed(&previous.inputs.targets, &state.targets);
    let endpoints = endpoints(state, previous, &registered, context);
    let touched = touched(state, &previous.inputs, &registered);
    let groups = groups(state, previous, &touched, context, &endpoints);
    let (cookies, seals) = cookies(state, previous);
    let mut sealed = previous.inputs.sealed.clone();
    let mut key_sets = KeySets::default();
    let made = (&mut sealed, &mut key_sets);
    let listeners = listeners(state, previous, context, (&groups, (&cookies, &seals)), made);
    let zone_context = ZoneContext {
        region: context.account.region.clone(),
        others: context.account.others.clone(),
        domain: context.domain.clone(),
        threads: context.metrics.threads(),
    };
    let zones = Arc::new(Zones::compile(state, &previous.zones, &zone_context));
    let inputs = Inputs {
        target_groups: Arc::clone(&state.target_groups),
        targets: Arc::clone(&state.targets),
        verdicts: Arc::clone(&state.verdicts),
        sealed,
        cookie_keys: Arc::clone(&state.cookie_keys),
    };
    let generation = state.generation;
    Routing { generation, listeners, groups, endpoints, zones, key_sets, seals, cookies, inputs }
}

/// The newest key seals.
fn cookies(state: &State, previous: &Routing) -> (Arc<CookieKeys>, Arc<Seals>) {
    if Arc::ptr_eq(&previous.inputs.cookie_keys, &state.cookie_keys) {
        return (Arc::clone(&previous.cookies), Arc::clone(&previous.seals));
    }
    let mut keys: Vec<_> = state.cookie_keys.values().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.made_at));
    let secrets = || keys.iter().map(|key| key.secret.as_bytes());
    (Arc::new(CookieKeys::new(secrets())), Arc::new(Seals::new(secrets())))
}

/// `registered` are the ids whose rows came, changed or went.
fn endpoints(
    state: &State,
    previous: &Routing,
    registered: &[RegistrationId],
    context: &Context,
) -> Arc<HashMap<RegistrationId, Arc<Endpoint>>> {
    if registered.is_empty() {
        return Arc::clone(&previous.endpoints);
    }
    let mut endpoints = HashMap::clone(&previous.endpoints);
    for id in registered {
        let Some(target) = state.targets.get(id) else {
            endpoints.remove(id);
            continue;
        };
        endpoints.entry(*id).or_insert_with(|| {
            let (group, task) = (target.group.clone(), target.task.clone());
            let address = target.socket_address();
            Arc::new(Endpoint::new(target.id, address, group, task, &context.metrics))
        });
    }
    Arc::new(endpoints)
}

/// The groups that may differ from those of before: of all others neither row, targets nor verdicts
/// changed.
fn touched(
    state: &State,
    previous: &Inputs,
    registered: &[RegistrationId],
) -> HashSet<TargetGroupName> {
    let judged = changed(&previous.verdicts, &state.verdicts);
    let before = registered.iter().filter_map(|id| previous.targets.get(id));
    let now = registered.iter().chain(&judged).filter_map(|id| state.targets.get(id));
    let mut touched: HashSet<_> = before.chain(now).map(|target| target.group.clone()).collect();
    touched.extend(changed(&previous.target_groups, &state.target_groups));
    touched
}

/// The members of one group, by what may be done with them.
#[derive(Default)]
struct Members {
    active: Vec<Arc<Endpoint>>,
    healthy: Vec<Arc<Endpoint>>,
    unhealthy: Vec<Arc<Endpoint>>,
    draining: usize,
    /// Since when each active one is in its state, and when it was registered.
    since: HashMap<RegistrationId, Member>,
}

fn groups(
    state: &State,
    previous: &Routing,
    touched: &HashSet<TargetGroupName>,
    context: &Context,
    endpoints: &HashMap<RegistrationId, Arc<Endpoint>>,
) -> HashMap<TargetGroupName, Arc<Group>> {
    if touched.is_empty() {
        return previous.groups.clone();
    }
    let mut members: HashMap<&TargetGroupName, Members> = HashMap::new();
    for target in state.targets.values().filter(|target| touched.contains(&target.group)) {
        let group = members.entry(&target.group).or_default();
        let Some(endpoint) = endpoints.get(&target.id) else { continue };
        if !target.is_active() {
            group.draining += 1;
            continue;
        }
        group.active.push(Arc::clone(endpoint));
        let verdict = state.verdict(target.id);
        let slow = state.target_groups.get(&target.group);
        if slow.is_some_and(|group| !group.options.routing.slow_start.is_zero()) {
            let member = Member {
                healthy_since: verdict.map(|verdict| verdict.since).unwrap_or_default(),
                registered_at: target.registered_at,
                has_failed: endpoint.has_failed(),
            };
            group.since.insert(target.id, member);
        }
        match verdict.map_or(VerdictState::Initial, |verdict| verdict.state) {
            VerdictState::Healthy => group.healthy.push(Arc::clone(endpoint)),
            VerdictState::Unhealthy => {
                endpoint.fail();
                group.unhealthy.push(Arc::clone(endpoint));
            }
            VerdictState::Initial => {}
        }
    }
    let group = |(name, configured): (&TargetGroupName, &Arc<TargetGroup>)| {
        let old = previous.groups.get(name);
        if let Some(old) = old
            && !touched.contains(name)
        {
            return (name.clone(), Arc::clone(old));
        }
        let members = members.remove(name).unwrap_or_default();
        (name.clone(), group(configured, members, old, context))
    };
    state.target_groups.iter().map(group).collect()
}

fn group(
    configured: &TargetGroup,
    members: Members,
    old: Option<&Arc<Group>>,
    context: &Context,
) -> Arc<Group> {
    let metrics = old.map_or_else(
        || Arc::new(GroupMetrics::new(&context.metrics, &label(&configured.name))),
        |old| Arc::clone(&old.metrics),
    );
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let initial = members.active.len() - members.healthy.len() - members.unhealthy.len();
    metrics.healthy.set(count(members.healthy.len()));
    metrics.unhealthy.set(count(members.unhealthy.len()));
    metrics.initial.set(count(initial));
    metrics.draining.set(count(members.draining));
    let routing = configured.options.routing.clone();
    let fail_open = is_too_few(&members, &routing) && !members.unhealthy.is_empty();
    let (mut routable, unhealthy) = (members.healthy, members.unhealthy);
    let (growing, grown_at) = match fail_open {
        false => growing(&routable, &members.since, routing.slow_start),
        // Everybody helps with what he has.
        true => {
            routable.extend(unhealthy);
            routable.sort_by_key(|endpoint| endpoint.id);
            (Vec::new(), Timestamp::default())
        }
    };
    let fresh = || Arc::new(Gate::new(&context.metrics, &label(&configured.name)));
    let gate = old.map_or_else(fresh, |old| Arc::clone(&old.gate));
    let requests = metrics.requests.total();
    let fresh = || Arc::new(Budget::new(routing.retry_budget, clock::now(), requests));
    let budget = old.map(|old| &old.budget);
    let budget = budget.filter(|budget| budget.limits() == routing.retry_budget);
    let budget = budget.map_or_else(fresh, Arc::clone);
    let group = Group {
        name: configured.name.clone(),
        arn: context.account.target_group(configured).to_string(),
        id: u64::from_str_radix(&configured.id, 16).unwrap_or_default(),
        protocol: configured.protocol,
        version: configured.options.version,
        endpoints: members.active,
        routing,
        routable,
        fail_open,
        growing,
        grown_at,
        deregistration_delay: configured.deregistration_delay,
        cursor: old.map(|old| Arc::clone(&old.cursor)).unwrap_or_default(),
        budget,
        gate,
        metrics,
    };
    match old {
        Some(old) if same(old, &group) => Arc::clone(old),
        _ => Arc::new(group),
    }
}

/// AWS, "Target group health": fewer healthy ones than wanted, by either measure.
fn is_too_few(members: &Members, routing: &GroupRouting) -> bool {
    let (healthy, all) = (members.healthy.len(), members.active.len());
    let wanted = |wanted: u32| usize::try_from(wanted).unwrap_or(usize::MAX);
    let percent = |percent: u32| healthy * 100 < all * wanted(percent);
    healthy < wanted(routing.minimum_healthy)
        || routing.minimum_healthy_percent.is_some_and(percent)
}

/// Since when each of `routable` grows into its share, and when the last of them has it.
fn growing(
    routable: &[Arc<Endpoint>],
    since: &HashMap<RegistrationId, Member>,
    duration: Duration,
) -> (Vec<Option<Timestamp>>, Timestamp) {
    let members = routable.iter().map(|endpoint| since.get(&endpoint.id).copied());
    let Some(members) = members.collect::<Option<Vec<_>>>().filter(|_| !duration.is_zero()) else {
        return Default::default();
    };
    let begun = begun(&members, duration);
    let last = begun.iter().flatten().max().map(|at| *at + duration);
    (begun, last.unwrap_or_default())
}

fn same(old: &Group, new: &Group) -> bool {
    let same_endpoints = |a: &[Arc<Endpoint>], b: &[Arc<Endpoint>]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    old.arn == new.arn
        && old.protocol == new.protocol
        && old.version == new.version
        && old.routing == new.routing
        && old.growing == new.growing
        && old.fail_open == new.fail_open
        && old.deregistration_delay == new.deregistration_delay
        && same_endpoints(&old.endpoints, &new.endpoints)
        && same_endpoints(&old.routable, &new.routable)
}

type Groups = HashMap<TargetGroupName, Arc<Group>>;

fn listeners(
    state: &State,
    previous: &Routing,
    context: &Context,
    (groups, (cookies, seals)): (&Groups, (&Arc<CookieKeys>, &Arc<Seals>)),
    (sealed, key_sets): (&mut Sealed, &mut KeySets),
) -> BTreeMap<SocketKey, Arc<RoutedListener>> {
    let mut listeners = BTreeMap::new();
    for listener in state.listeners.values() {
        let Some(lb) = state.load_balancers.get(&listener.key.load_balancer) else { continue };
        let address = SocketAddr::new(lb.address, listener.key.port);
        let socket = SocketKey { address, transport: RoutedListener::transport(listener.protocol) };
        let old = previous.listeners.get(&socket).filter(|old| old.listener.key == listener.key);
        let same_matcher = old.filter(|old| old.listener.rules == listener.rules);
        let Some(matcher) = same_matcher.map_or_else(
            || Matcher::compile(&listener.rules).ok().map(Arc::new),
            |old| Some(Arc::clone(&old.matcher)),
        ) else {
            tracing::error!(listener = %listener.key, "rules do not compile; it is left out");
            continue;
        };
        let Some(actions) = actions(listener, groups) else { continue };
        let old_tls = old.and_then(|old| old.tls.as_ref());
        let tls = secure::compile(state, (lb, listener), old_tls, sealed, &context.metrics);
        let arn = || context.account.load_balancer(lb).to_string();
        let checks = Checks::compile(listener, old, (&mut *key_sets, &previous.key_sets), arn);
        let (tls, checks) = match tls.and_then(|tls| Ok((tls, checks?))) {
            Ok(both) => both,
            Err(error) => {
                tracing::error!(listener = %listener.key, %error, "it is left out");
                continue;
            }
        };
        if let Some(old) = old
            && Arc::ptr_eq(&old.listener, listener)
            && Arc::ptr_eq(&old.load_balancer, lb)
            && Arc::ptr_eq(&old.cookies, cookies)
            && same_actions(&old.actions, &actions)
            && old.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        {
            listeners.insert(socket, Arc::clone(old));
            continue;
        }
        let metrics = old.map_or_else(
            || Arc::new(ListenerMetrics::new(&context.metrics, &label(&listener.key))),
            |old| Arc::clone(&old.metrics),
        );
        let (limit, rule_limits) = limits(listener, old.map(Arc::as_ref), &context.metrics);
        let routed = RoutedListener {
            listener: Arc::clone(listener),
            load_balancer: Arc::clone(lb),
            elb: lb.path(),
            protocol: listener.protocol,
            address,
            matcher,
            actions,
            checks,
            idle_timeout: listener.options.idle_timeout.unwrap_or(lb.idle_timeout),
            client_keep_alive: lb.client_keep_alive,
            tls,
            cookies: Arc::clone(cookies),
            seals: Arc::clone(seals),
            metrics,
            limit,
            rule_limits,
        };
        listeners.insert(socket, Arc::new(routed));
    }
    listeners
}

/// The listener's rate limit and those of its rules, then none for the default action. What came
/// is remembered as long as a limit stays the same.
fn limits(
    listener: &Listener,
    old: Option<&RoutedListener>,
    metrics: &Metrics,
) -> (Option<Arc<Limiter>>, Vec<Option<Arc<Limiter>>>) {
    let key = label(&listener.key);
    let limiter = |limit: &Option<RateLimit>, old: Option<&Arc<Limiter>>, label: &str| {
        let limit = limit.as_ref()?;
        let fresh = || {
            let refused = metrics.counter(&names::LISTENER_RATE_LIMITED, &[&key, label]);
            Arc::new(Limiter::new(limit.clone(), refused))
        };
        Some(old.filter(|old| old.limit() == limit).map_or_else(fresh, Arc::clone))
    };
    let of_rule = |rule: &Rule| {
        let place = old.and_then(|old| old.listener.rules.iter().position(|r| r.id == rule.id));
        let same = old.zip(place).and_then(|(old, place)| old.rule_limits[place].as_ref());
        limiter(&rule.rate_limit, same, &rule.priority.to_string())
    };
    let own = old.and_then(|old| old.limit.as_ref());
    let rules = listener.rules.iter().map(of_rule).chain([None]).collect();
    (limiter(&listener.options.rate_limit, own, "listener"), rules)
}

/// None when a group is missing, which the State's referential rules exclude.
fn actions(
    listener: &Listener,
    groups: &HashMap<TargetGroupName, Arc<Group>>,
) -> Option<Vec<RoutedAction>> {
    let action = |(action, stickiness): (&Action, GroupStickiness)| match action {
        Action::FixedResponse(response) => Some(RoutedAction::Fixed(Arc::new(response.clone()))),
        Action::Redirect(redirect) => Some(RoutedAction::Redirect(Arc::new(redirect.clone()))),
        Action::Forward(weighted) => {
            let found =
                weighted.iter().map(|w| Some((Arc::clone(groups.get(&w.group)?), w.weight)));
            let groups: Vec<_> = found.collect::<Option<_>>()?;
            let total_weight = groups.iter().map(|(_, weight)| weight).sum();
            let sticky = stickiness.duration.filter(|_| stickiness.enabled);
            (!groups.is_empty()).then_some(RoutedAction::Forward(Forwarding {
                groups,
                total_weight,
                sticky,
            }))
        }
    };
    let rules = listener.rules.iter().map(|rule| (&rule.action, rule.stickiness));
    let default = (&listener.default_action, listener.options.stickiness);
    rules.chain([default]).map(action).collect()
}

/// Whether both forward to the very same groups; our own responses are part of the listener's row.
fn same_actions(old: &[RoutedAction], new: &[RoutedAction]) -> bool {
    let same = |(old, new): (&RoutedAction, &RoutedAction)| match (old, new) {
        (RoutedAction::Forward(old), RoutedAction::Forward(new)) => {
            old.groups.len() == new.groups.len()
                && old.groups.iter().zip(&new.groups).all(|(old, new)| Arc::ptr_eq(&old.0, &new.0))
        }
        (RoutedAction::Forward(_), _) | (_, RoutedAction::Forward(_)) => false,
        _ => true,
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

impl ListenerMetrics {
    fn new(metrics: &Metrics, listener: &str) -> Self {
        let class = |class| metrics.counter(&names::LISTENER_REQUESTS, &[listener, class]);
        let own = |code: u16| {
            let label = if code == 0 { "other".to_owned() } else { code.to_string() };
            (code, metrics.counter(&names::LISTENER_OWN_RESPONSES, &[listener, &label]))
        };
        Self {
            connections: metrics.counter(&names::LISTENER_CONNECTIONS, &[listener]),
            active: metrics.gauge(&names::LISTENER_ACTIVE, &[listener]),
            rejected: metrics.counter(&names::LISTENER_REJECTED, &[listener]),
            proxy_refused: Refused::ALL.map(|reason| {
                metrics.counter(&names::LISTENER_PROXY_REFUSED, &[listener, reason.as_str()])
            }),
            requests: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            non_compliant: ["Acceptable", "Ambiguous", "Severe"]
                .map(|class| metrics.counter(&names::LISTENER_NON_COMPLIANT, &[listener, class])),
            request_seconds: metrics.histogram(&names::LISTENER_REQUEST_SECONDS, &[listener]),
            received: metrics.counter(&names::LISTENER_RECEIVED, &[listener]),
            sent: metrics.counter(&names::LISTENER_SENT, &[listener]),
            compressed: Coding::ALL.map(|coding| {
                metrics.counter(&names::LISTENER_COMPRESSED, &[listener, coding.as_str()])
            }),
            grpc: metrics.counter(&names::LISTENER_GRPC_REQUESTS, &[listener]),
            tokens: ["accepted", "refused"]
                .map(|outcome| metrics.counter(&names::LISTENER_TOKENS, &[listener, outcome])),
            logins: {
                let count =
                    |outcome| metrics.counter(&names::LISTENER_LOGINS, &[listener, outcome]);
                LoginMetrics {
                    success: count("success"),
                    failure: count("failure"),
                    error: count("error"),
                    refreshed: count("refreshed"),
                    oversized: metrics.counter(&names::LISTENER_LOGINS_OVERSIZED, &[listener]),
                    seconds: metrics.histogram(&names::LISTENER_LOGIN_SECONDS, &[listener]),
                }
            },
            own: OwnResponses(OWN_CODES.map(own)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
