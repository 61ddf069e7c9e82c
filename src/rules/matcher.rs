//! A listener's rules, compiled.
//!
//! Rules are indexed by their host patterns and, within, by their path patterns: only those whose
//! literal ends fit a request are tested, and each of them is tested whole. Rules with neither are
//! tested always. **Invariant:** what is found is what testing every rule in order would find.

use super::condition::Test;
use super::index::Index;
use super::wildcard::{Anchor, Pattern};
use super::{BadValue, Facts, Transform};
use crate::model::Rule;

/// Host names that are looked up without allocating: DNS has no longer ones.
const LONG_HOST: usize = 256;

/// Rules in the order of their priorities.
#[derive(Debug, Default)]
pub struct Matcher {
    rules: Box<[Compiled]>,
    /// By host, then by path; indexes of rules, ascending.
    index: Index<Index<Vec<usize>>>,
}

#[derive(Debug)]
struct Compiled {
    priority: u32,
    tests: Box<[Test]>,
    transform: Option<Box<Transform>>,
}

/// The rule that a request met.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub index: usize,
    pub priority: u32,
    pub transform: Option<&'a Transform>,
}

impl Matcher {
    /// Compiles rules that are sorted by priority.
    ///
    /// # Errors
    /// The first value that breaks the grammar.
    pub fn compile(rules: &[Rule]) -> Result<Self, BadValue> {
        let compile = |rule: &Rule| {
            let tests = rule.conditions.iter().map(Test::compile).collect::<Result<_, _>>()?;
            let transform = Transform::compile(&rule.transforms)?.map(Box::new);
            Ok(Compiled { priority: rule.priority, tests, transform })
        };
        let rules = rules.iter().map(compile).collect::<Result<Box<[_]>, _>>()?;
        let mut index = Index::<Index<Vec<usize>>>::default();
        for (place, rule) in rules.iter().enumerate() {
            let hosts = rule.anchors(|test| match test {
                Test::Host(patterns) => Some(patterns),
                _ => None,
            });
            let paths = rule.anchors(|test| match test {
                Test::Path(patterns) => Some(patterns),
                _ => None,
            });
            for host in &hosts {
                for path in &paths {
                    index.at(*host).at(*path).push(place);
                }
            }
        }
        index.finish(|paths| paths.finish(|places| places.dedup()));
        Ok(Self { rules, index })
    }

    /// The first rule that matches; none when the default action applies.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<Found<'_>> {
        let host = facts.host_name().as_bytes();
        let (mut short, mut long) = ([0; LONG_HOST], Vec::new());
        let lower = match short.get_mut(..host.len()) {
            Some(short) => short,
            None => {
                long.resize(host.len(), 0);
                &mut long[..]
            }
        };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let mut best = self.rules.len();
        self.index.visit(lower, |paths| {
            paths.visit(facts.path.as_bytes(), |places| {
                let before = places.iter().take_while(|place| **place < best);
                if let Some(place) = before.copied().find(|place| self.rules[*place].holds(facts)) {
                    best = place;
                }
            });
        });
        let rule = self.rules.get(best)?;
        let transform = rule.transform.as_deref();
        Some(Found { index: best, priority: rule.priority, transform })
    }

    /// For each rule, in order, its first condition that does not hold; none: it would match.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<Option<usize>> {
        let failed = |rule: &Compiled| rule.tests.iter().position(|test| !test.holds(facts));
        self.rules.iter().map(failed).collect()
    }

    /// Whether any rule looks at headers.
    #[must_use]
    pub fn reads_headers(&self) -> bool {
        let reads = |test: &Test| matches!(test, Test::Header(..) | Test::HeaderRegex(..));
        self.rules.iter().flat_map(|rule| &rule.tests).any(reads)
    }
}

impl Compiled {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.tests.iter().all(|test| test.holds(facts))
    }

    /// Of the first condition that `of` takes for its own; one that says nothing without any.
    fn anchors<'a>(&'a self, of: impl Fn(&'a Test) -> Option<&'a [Pattern]>) -> Vec<Anchor<'a>> {
        let patterns = self.tests.iter().find_map(of);
        patterns.map_or_else(|| vec![Anchor::None], |all| all.iter().map(Pattern::anchor).collect())
    }
}

#[cfg(test)]
mod tests;
