//! A listener's rules, compiled.

use crate::model::{Condition, Rule};

use super::{BadPattern, Facts, Pattern};

/// Rules in the order of their priorities.
#[derive(Debug, Default)]
pub struct Matcher {
    rules: Box<[Compiled]>,
}

#[derive(Debug)]
struct Compiled {
    priority: u32,
    tests: Box<[Test]>,
}

/// One condition: true when any pattern matches.
#[derive(Debug)]
enum Test {
    Host(Box<[Pattern]>),
    Path(Box<[Pattern]>),
}

impl Matcher {
    /// Compiles rules that are sorted by priority.
    ///
    /// # Errors
    /// The first pattern that breaks the grammar, with the text.
    pub fn compile(rules: &[Rule]) -> Result<Self, (String, BadPattern)> {
        let compile = |rule: &Rule| {
            let tests = rule.conditions.iter().map(test).collect::<Result<_, _>>()?;
            Ok(Compiled { priority: rule.priority, tests })
        };
        Ok(Self { rules: rules.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Index and priority of the first rule that matches; none when the default action applies.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<(usize, u32)> {
        let matches = |rule: &&Compiled| rule.tests.iter().all(|test| test.holds(facts));
        self.rules
            .iter()
            .enumerate()
            .find(|(_, rule)| matches(rule))
            .map(|(index, rule)| (index, rule.priority))
    }
}

impl Test {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Host(patterns) => patterns.iter().any(|p| p.matches(facts.host_name())),
            Self::Path(patterns) => patterns.iter().any(|p| p.matches(facts.path)),
        }
    }
}

fn test(condition: &Condition) -> Result<Test, (String, BadPattern)> {
    let all = |values: &[String], parse: fn(&str) -> Result<Pattern, BadPattern>| {
        let parsed = values.iter().map(|text| parse(text).map_err(|bad| (text.clone(), bad)));
        parsed.collect::<Result<Box<[Pattern]>, _>>()
    };
    Ok(match condition {
        Condition::HostHeader(values) => Test::Host(all(values, Pattern::host)?),
        Condition::PathPattern(values) => Test::Path(all(values, Pattern::path)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, FixedResponse};

    fn rule(priority: u32, conditions: Vec<Condition>) -> Rule {
        let response =
            FixedResponse { status: 200, content_type: String::new(), body: String::new() };
        let action = Action::FixedResponse(response);
        Rule { id: String::new(), priority, conditions, action, order: None }
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
            rule(30, vec![host(&["*.example.com"])]),
        ]);
        let facts = Facts { host: host_header, path: request_path };
        assert_eq!(matcher.unwrap().find(&facts).map(|(_, priority)| priority), expected);
    }

    #[test]
    fn rule_with_lower_priority_wins() {
        check("a.example.com", "/x/1", Some(10));
        check("a.example.com:8080", "/y", Some(10));
        check("b.example.com", "/x/1", Some(20));
    }

    #[test]
    fn all_conditions_of_a_rule_have_to_match() {
        check("a.example.com", "/z", Some(30));
        check("b.org", "/y", None);
    }
}
