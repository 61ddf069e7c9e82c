//! Tests of explaining: what is said, and that it is what `decide` does.

use super::super::compile::tests::{context, put, state};
use super::super::{Routing, Trial, compile, decide};
use super::*;
use crate::model::{
    Action, FixedResponse, Listener, ListenerKey, Owner, Redirect, RegistrationId, TargetGroup,
    WeightedGroup,
};
use crate::routing::Outcome;
use crate::state::State;

const NOW: Timestamp = Timestamp(1_000_000);

/// Rules 10 (/a to web and spare), 20 (b.test, POST, a redirect), 30 (/a/b, a fixed response);
/// targets 1 healthy, 2 unhealthy, 3 healthy, 4 initial, all of web.
fn routing() -> Routing {
    let mut state: State = state("1h 2u 3h 4i");
    let key = ListenerKey { load_balancer: "front".into(), port: 80 };
    let spare = TargetGroup::new(
        "spare".into(),
        "4".repeat(16),
        (crate::model::Protocol::Http, 80),
        Owner::File,
    );
    put(&mut state, spare);
    let weighted = |group: &str, weight| WeightedGroup { group: group.into(), weight };
    let rule = |priority: u32, conditions, action| {
        Rule::new(format!("{priority:016x}"), priority, conditions, action)
    };
    let texts = |text: &str| vec![text.to_owned()];
    let fixed = FixedResponse { status: 404, content_type: String::new(), body: String::new() };
    let rules = vec![
        rule(
            10,
            vec![Condition::PathPattern(texts("/a/*"))],
            Action::Forward(vec![weighted("web", 3), weighted("spare", 1)]),
        ),
        rule(
            20,
            vec![
                Condition::HostHeader(texts("b.test")),
                Condition::HttpRequestMethod(texts("POST")),
            ],
            Action::Redirect(Redirect::to_itself(301)),
        ),
        rule(
            30,
            vec![
                Condition::PathPattern(texts("/a/b")),
                Condition::HttpHeader { name: "X-A".into(), values: texts("1") },
            ],
            Action::FixedResponse(fixed),
        ),
    ];
    let mut listener = Listener { rules, ..Listener::clone(&state.listeners[&key]) };
    let per = std::time::Duration::from_secs(60);
    let limit = |key, burst| Some(RateLimit { key, requests: 9, per, burst });
    listener.options.rate_limit = limit(RateKey::SourceIp, 9);
    listener.rules[1].rate_limit = limit(RateKey::Header("X-Key".into()), 1);
    put(&mut state, listener);
    compile(&state, &Routing::default(), &context())
}

/// What is said in one line a note; `->` before what is taken, `?` before what is left to chance.
fn check(facts: &Facts<'_>, expected: &str) {
    let routing = routing();
    let listener = routing.listeners.values().next().unwrap();
    let said = explain(listener, facts, NOW);
    let mark = |taken| match taken {
        Some(true) => "-> ",
        Some(false) => "",
        None => "? ",
    };
    let mut lines: Vec<String> = Vec::new();
    for rule in &said.rules {
        lines.push(format!("{}{}: {}", mark(Some(rule.taken)), rule.priority, rule.why));
    }
    lines.extend(said.checks.iter().cloned());
    lines.push(said.action.clone());
    for group in &said.groups {
        lines.push(format!("{}{}: {}", mark(group.taken), group.target_group, group.why));
        for target in &group.targets {
            lines.push(format!("{}{}: {}", mark(target.taken), target.target, target.why));
        }
    }
    assert_eq!(lines.join("\n"), expected);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut trial = Trial::first(0, &mut rng, NOW);
    let decision = decide(listener, facts, &mut trial);
    let taken = said.rules.iter().find(|rule| rule.taken).unwrap();
    assert_eq!(decision.priority, taken.priority);
    if let (Outcome::Forward { guard, .. }, [group]) = (&decision.outcome, &said.groups[..]) {
        let target = group.targets.iter().find(|target| target.taken == Some(true)).unwrap();
        assert_eq!(guard.endpoint().address.to_string(), target.target);
    }
}

#[test]
fn every_rule_that_is_not_taken_says_why() {
    let facts = Facts { host: "a.test", path: "/x", method: "GET", ..Facts::default() };
    check(
        &facts,
        "10: path-pattern is /a/*, the path is /x\n\
         20: host-header is b.test, the host is a.test\n\
         30: path-pattern is /a/b, the path is /x\n\
         -> 0: no rule matches\n\
         the listener's rate limit: 9 requests in 60s, 9 at once, for each source address\n\
         forward\n\
         -> web: the only one\n\
         -> 127.0.0.1:1: next by round_robin\n\
         127.0.0.1:2: its health checks do not pass\n\
         127.0.0.1:3: later by round_robin\n\
         127.0.0.1:4: its health checks do not pass",
    );
    check(
        &Facts { host: "B.test:80", method: "POST", ..facts },
        "10: path-pattern is /a/*, the path is /x\n\
         -> 20: all its conditions hold\n\
         30: path-pattern is /a/b, the path is /x\n\
         0: rule 20 matches\n\
         the listener's rate limit: 9 requests in 60s, 9 at once, for each source address\n\
         the rule's rate limit: 9 requests in 60s, 1 at once, for each value of the header X-Key\n\
         redirect 301 to #{protocol}://#{host}:#{port}/#{path}?#{query}",
    );
}

#[test]
fn rules_behind_the_one_that_is_taken_are_told_too() {
    let head = b"GET /a/b HTTP/1.1\r\nX-A: 1\r\n\r\n";
    let facts = Facts {
        host: "b.test",
        path: "/a/b",
        method: "GET",
        headers: crate::rules::Headers::Head(head),
        ..Facts::default()
    };
    check(
        &facts,
        "-> 10: all its conditions hold\n\
         20: http-request-method is POST, the method is GET\n\
         30: would match, but rule 10 comes first\n\
         0: rule 10 matches\n\
         the listener's rate limit: 9 requests in 60s, 9 at once, for each source address\n\
         forward\n\
         ? web: weight 3 of 4\n\
         -> 127.0.0.1:1: next by round_robin\n\
         127.0.0.1:2: its health checks do not pass\n\
         127.0.0.1:3: later by round_robin\n\
         127.0.0.1:4: its health checks do not pass\n\
         ? spare: weight 1 of 4",
    );
}

#[test]
fn ejected_targets_say_so() {
    let mut state: State = state("1h 2h");
    let mut web = TargetGroup::clone(&state.target_groups[&"web".into()]);
    let rules = crate::model::OutlierEjection::default();
    web.options.routing.outlier_ejection = Some(rules);
    put(&mut state, web);
    let routing = compile(&state, &Routing::default(), &context());
    routing.endpoints[&RegistrationId(1)].outlier.eject(&rules, NOW);
    let listener = routing.listeners.values().next().unwrap();
    let said = explain(listener, &Facts::default(), NOW);
    let targets: Vec<_> =
        said.groups[0].targets.iter().map(|own| (own.taken, own.why.as_str())).collect();
    let expected =
        [(Some(false), "it is ejected as an outlier"), (Some(true), "next by round_robin")];
    assert_eq!(targets, expected);
}
