//! Patterns by their literal ends, so that few of many are looked at.
//!
//! What every match of a pattern begins or ends with (its anchor) is a key. Literals that are
//! prefixes of one another are chained: the longest one that fits a text is found by one binary
//! search, and all shorter ones hang on it. **Invariant:** whatever matches a text is among what is
//! visited for it.

use std::collections::{BTreeMap, HashMap};

use super::wildcard::{Anchor, MAX_PATTERN};

/// Values by pattern. A text visits the values of all patterns that may match it.
#[derive(Debug, Default)]
pub(super) struct Index<T> {
    exact: HashMap<Box<[u8]>, T>,
    prefixes: Chains<T>,
    /// Of the reversed text.
    suffixes: Chains<T>,
    /// Of patterns that say nothing, and of no pattern at all.
    any: Option<Box<T>>,
}

#[derive(Debug)]
struct Chains<T> {
    growing: BTreeMap<Box<[u8]>, T>,
    /// Ascending.
    links: Vec<Link<T>>,
}

#[derive(Debug)]
struct Link<T> {
    literal: Box<[u8]>,
    /// The longest other literal that this one begins with.
    shorter: Option<usize>,
    value: T,
}

impl<T> Default for Chains<T> {
    fn default() -> Self {
        Self { growing: BTreeMap::new(), links: Vec::new() }
    }
}

impl<T: Default> Index<T> {
    /// The value of patterns with this anchor.
    pub(super) fn at(&mut self, anchor: Anchor<'_>) -> &mut T {
        match anchor {
            Anchor::Exact(text) => self.exact.entry(text.into()).or_default(),
            Anchor::Prefix(text) => self.prefixes.growing.entry(text.into()).or_default(),
            Anchor::Suffix(text) => {
                let reversed = text.iter().rev().copied().collect();
                self.suffixes.growing.entry(reversed).or_default()
            }
            Anchor::None => self.any.get_or_insert_default(),
        }
    }

    /// Makes it ready to be asked; `each` does so with the values.
    pub(super) fn finish(&mut self, each: impl Fn(&mut T)) {
        self.exact.values_mut().for_each(&each);
        self.any.iter_mut().for_each(|value| each(value));
        self.prefixes.finish(&each);
        self.suffixes.finish(&each);
    }
}

impl<T> Index<T> {
    /// Visits the values of every pattern that may match `text`.
    pub(super) fn visit(&self, text: &[u8], mut visitor: impl FnMut(&T)) {
        if let Some(value) = self.exact.get(text) {
            visitor(value);
        }
        self.prefixes.visit(text, &mut visitor);
        if !self.suffixes.links.is_empty() {
            // No literal is longer.
            let mut reversed = [0; MAX_PATTERN];
            let ends = text.iter().rev().zip(&mut reversed);
            let length = ends.map(|(from, to)| *to = *from).count();
            self.suffixes.visit(&reversed[..length], &mut visitor);
        }
        if let Some(value) = &self.any {
            visitor(value);
        }
    }
}

impl<T> Chains<T> {
    fn finish(&mut self, each: impl Fn(&mut T)) {
        for (literal, mut value) in std::mem::take(&mut self.growing) {
            each(&mut value);
            let mut shorter = self.links.len().checked_sub(1);
            while let Some(at) = shorter
                && !literal.starts_with(&self.links[at].literal)
            {
                shorter = self.links[at].shorter;
            }
            self.links.push(Link { literal, shorter, value });
        }
    }

    fn visit(&self, text: &[u8], visitor: &mut impl FnMut(&T)) {
        // What `text` begins with is not above it, and between the longest such literal and `text`
        // stand only literals that begin with that one.
        let mut next = self.links.partition_point(|link| *link.literal <= *text).checked_sub(1);
        while let Some(at) = next {
            let link = &self.links[at];
            if text.starts_with(&link.literal) {
                visitor(&link.value);
            }
            next = link.shorter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    fn check(patterns: &[&str], text: &str, expected: &str) {
        let mut index = Index::<Vec<String>>::default();
        for text in patterns {
            index.at(Pattern::path(text).unwrap().anchor()).push((*text).to_owned());
        }
        index.finish(|_| {});
        let mut seen = Vec::new();
        index.visit(text.as_bytes(), |values| seen.extend(values.iter().cloned()));
        assert_eq!(seen.join(" "), expected, "{text}");
    }

    #[test]
    fn what_cannot_match_is_not_looked_at() {
        let patterns = ["/a", "/a*", "/ab/*", "/abc/*", "/b*", "*.png", "*g", "*x*", "/*"];
        check(&patterns, "/a", "/a /a* /* *x*");
        check(&patterns, "/ab/c", "/ab/* /a* /* *x*");
        check(&patterns, "/abd", "/a* /* *x*");
        check(&patterns, "/c.png", "/* *.png *g *x*");
        check(&patterns, "", "*x*");
        check(&[], "/a", "");
    }

    #[test]
    fn suffixes_are_found_in_long_texts() {
        check(&["*.png"], &format!("{}.png", "/x".repeat(500)), "*.png");
    }
}
