//! Tests of matching: against the definition, one rule after the other.

use proptest::prelude::*;

use super::super::Headers;
use super::*;
use crate::model::{Action, Condition};

fn rule(priority: u32, conditions: Vec<Condition>) -> Rule {
    Rule::new(String::new(), priority, conditions, Action::Forward(Vec::new()))
}

fn host(values: &[&str]) -> Condition {
    Condition::HostHeader(values.iter().map(ToString::to_string).collect())
}

fn path(values: &[&str]) -> Condition {
    Condition::PathPattern(values.iter().map(ToString::to_string).collect())
}

fn check(host_header: &str, request_path: &str, expected: Option<u32>) {
    let matcher = Matcher::compile(&[
        rule(10, vec![host(&["a.example.com"]), path(&["/x/*", "/y"])]),
        rule(20, vec![path(&["/x/*"])]),
        rule(30, vec![host(&["*.Example.com"])]),
        rule(40, vec![Condition::HttpRequestMethod(vec!["PUT".into()])]),
    ])
    .unwrap();
    let facts = Facts { host: host_header, path: request_path, method: "GET", ..Facts::default() };
    let found = |facts: &Facts<'_>| matcher.find(facts).map(|found| found.priority);
    assert_eq!(found(&facts), expected, "{host_header} {request_path}");
    assert_eq!(found(&Facts { method: "PUT", ..facts }), expected.or(Some(40)));
}

#[test]
fn rule_with_lower_priority_wins() {
    check("a.example.com", "/x/1", Some(10));
    check("A.example.com:8080", "/y", Some(10));
    check("b.example.com", "/x/1", Some(20));
}

#[test]
fn all_conditions_of_a_rule_have_to_match() {
    check("a.example.com", "/z", Some(30));
    check("b.org", "/y", None);
    check(&"x.".repeat(200), "/y", None);
    check(&format!("{}.EXAMPLE.com", "x.".repeat(200)), "/y", Some(30));
}

/// Every rule in order, each condition by itself.
fn naive(rules: &[Rule], facts: &Facts<'_>) -> Option<usize> {
    let holds = |condition: &Condition| Test::compile(condition).unwrap().holds(facts);
    rules.iter().position(|rule| rule.conditions.iter().all(holds))
}

/// Small alphabets, so that much matches and much overlaps.
fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let hosts = prop::collection::vec("[abA]{0,2}[*?.]{0,1}[ab.]{1,3}[*]{0,1}", 1..3);
    let paths = prop::collection::vec("/[ab/]{0,3}[*?]{0,2}[ab]{0,2}|[*][ab/]{0,3}", 1..4);
    let regexes = prop::sample::select(vec!["^/a", "b$", "a.*b"]);
    let methods = prop::sample::select(vec!["GET", "PUT"]);
    (
        prop::option::of(hosts.prop_map(Condition::HostHeader)),
        prop::option::of(paths.prop_map(Condition::PathPattern)),
        prop::option::weighted(0.1, regexes.prop_map(|r| Condition::PathRegex(vec![r.into()]))),
        prop::option::weighted(
            0.2,
            methods.prop_map(|m| Condition::HttpRequestMethod(vec![m.into()])),
        ),
    )
        .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn matching_finds_what_testing_every_rule_finds(
        conditions in prop::collection::vec(conditions(), 0..30),
        requests in prop::collection::vec(("[abA.]{0,5}(:80)?", "/[ab/]{0,6}", any::<bool>()), 20),
    ) {
        let rules: Vec<_> = (1..).zip(conditions).map(|(n, all)| rule(n, all)).collect();
        let matcher = Matcher::compile(&rules).unwrap();
        for (host, path, gets) in &requests {
            let method = if *gets { "GET" } else { "PUT" };
            let facts = Facts { host, path, method, ..Facts::default() };
            let found = matcher.find(&facts).map(|found| found.index);
            prop_assert_eq!(found, naive(&rules, &facts), "{:?}", facts);
        }
    }
}

#[test]
fn of_many_rules_few_are_tested() {
    let rules: Vec<_> = (0..10_000)
        .map(|n| rule(n + 1, vec![host(&[&format!("s{n}.test")]), path(&[&format!("/p{n}/*")])]))
        .collect();
    let matcher = Matcher::compile(&rules).unwrap();
    let (host, path) = ("s9999.test", "/p9999/x");
    let mut places = 0;
    matcher.index.visit(host.as_bytes(), |paths| {
        paths.visit(path.as_bytes(), |found| places += found.len());
    });
    assert_eq!(places, 1);
    let facts = Facts { host, path, headers: Headers::None, ..Facts::default() };
    assert_eq!(matcher.find(&facts).map(|found| found.index), Some(9_999));
}
