//! Searches for metrics: `SEARCH('{AWS/ECS,ClusterName} MetricName="CPUUtilization"', 'Average')`.
//!
//! Source: CloudWatch user guide, "CloudWatch search expression syntax". A schema in braces is a
//! namespace and all the names of dimensions; terms are joined by AND, OR and NOT; one in quotes is
//! the whole of what it finds, another is found by its words. Not here: values. **Invariant:** no
//! text makes the reader panic or go deep; what a search finds is in the order of the metrics.

use std::collections::{BTreeMap, BTreeSet};

use super::Bad;
use crate::model::{MetricId, Statistic, is_period};

/// The longest search (CloudWatch's).
const LONGEST: usize = 1024;
/// Time series of one search (CloudWatch's).
pub(super) const MOST: usize = 500;
/// Of parentheses and NOT (ours).
const DEEPEST: usize = 40;

/// A search that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Search {
    schema: Option<Schema>,
    wanted: Option<Wanted>,
    pub(super) statistic: Statistic,
    /// Seconds; none: its query says.
    pub(super) period: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Schema {
    namespace: String,
    dimensions: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Text(Property, Text),
}

/// What of a metric a text is looked for in.
#[derive(Clone, Debug, PartialEq)]
enum Property {
    Each,
    Namespace,
    MetricName,
    /// The value of that one.
    Dimension(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Text {
    Exact(String),
    Partial(Words),
}

/// The words of a text, of which each begins with a capital, a digit or behind another sign.
#[derive(Clone, Debug, PartialEq)]
struct Words {
    all: Vec<Word>,
    /// Without signs, in lower case.
    whole: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Word {
    text: String,
    /// Between other signs, so that its capitals mean nothing: `network-errors`, not `count1`.
    is_alone: bool,
}

impl Search {
    /// # Errors
    /// What is wrong with the search or with what stands behind it.
    pub(super) fn read(text: &str, statistic: &str, period: Option<f64>) -> Result<Self, Bad> {
        let bad = |why: String| Bad::new(format!("SEARCH: {why}"));
        if text.chars().count() > LONGEST {
            return Err(bad(format!("a search has at most {LONGEST} characters")));
        }
        let known = Statistic::parse(statistic);
        let unknown = || bad(format!("the statistic {statistic:?} is not supported here"));
        let wrong = || bad("the period must be 1, 5, 10, 20, 30 or a multiple of 60".to_owned());
        let period = period.map(|seconds| whole(seconds).ok_or_else(wrong)).transpose()?;
        let mut reader = Reader { text: text.chars().collect(), at: 0, depth: 0 };
        let (schema, wanted) = reader.search().map_err(|why| bad(why.to_string()))?;
        Ok(Self { schema, wanted, statistic: known.ok_or_else(unknown)?, period })
    }

    /// Those of `metrics` that it means.
    pub(super) fn find<'a>(&self, metrics: &'a [MetricId]) -> Vec<&'a MetricId> {
        let is_meant = |id: &&MetricId| {
            self.schema.as_ref().is_none_or(|schema| schema.holds(id))
                && self.wanted.as_ref().is_none_or(|wanted| wanted.holds(id))
        };
        metrics.iter().filter(is_meant).collect()
    }
}

/// A period that CloudWatch has.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn whole(seconds: f64) -> Option<u32> {
    let whole = seconds as u32;
    (f64::from(whole) == seconds && is_period(whole)).then_some(whole)
}

impl Schema {
    fn holds(&self, id: &MetricId) -> bool {
        id.namespace == self.namespace && id.dimensions.keys().eq(&self.dimensions)
    }
}

impl Wanted {
    fn holds(&self, id: &MetricId) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(id)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(id)),
            Self::Not(part) => !part.holds(id),
            Self::Text(Property::Namespace, text) => text.is(&id.namespace),
            Self::Text(Property::MetricName, text) => text.is(&id.name),
            Self::Text(Property::Dimension(name), text) => {
                id.dimensions.get(name).is_some_and(|value| text.is(value))
            }
            Self::Text(Property::Each, text) => {
                let names = [&id.namespace, &id.name].into_iter();
                let dimensions = id.dimensions.iter().flat_map(|(name, value)| [name, value]);
                names.chain(dimensions).any(|part| text.is(part))
            }
        }
    }
}

impl Text {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Partial(words) => words.are_in(value),
        }
    }
}

impl Words {
    /// None: there is no letter and no digit in it.
    fn of(text: &str) -> Option<Self> {
        let mut all = Vec::new();
        for part in text.split(|c: char| !c.is_alphanumeric()) {
            let words = words(part);
            let is_alone = words.len() == 1;
            let word = |word: &str| match is_alone {
                true => Word { text: word.to_lowercase(), is_alone },
                false => Word { text: word.to_owned(), is_alone },
            };
            all.extend(words.into_iter().map(word));
        }
        (!all.is_empty()).then(|| Self { all, whole: signless(text).collect() })
    }

    /// They are one after the other in `value`, or all of it.
    fn are_in(&self, value: &str) -> bool {
        let is_it = |(own, word): (&Word, &&str)| match own.is_alone {
            true => word.chars().flat_map(char::to_lowercase).eq(own.text.chars()),
            false => own.text == **word,
        };
        let is_here = |there: &[&str]| self.all.iter().zip(there).all(is_it);
        words(value).windows(self.all.len()).any(is_here) || signless(value).eq(self.whole.chars())
    }
}

fn signless(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Capital,
    Letter,
    Digit,
    Sign,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            c if c.is_uppercase() => Self::Capital,
            c if c.is_alphabetic() => Self::Letter,
            c if c.is_numeric() => Self::Digit,
            _ => Self::Sign,
        }
    }
}

/// `SDBFailure-trial333` has `SDB`, `Failure`, `trial` and `333`.
fn words(text: &str) -> Vec<&str> {
    let (mut all, mut begin, mut before) = (Vec::new(), 0, Kind::Sign);
    let mut take = |begin: usize, end: usize, kind: Kind| {
        if kind != Kind::Sign {
            all.extend(text.get(begin..end));
        }
    };
    let mut letters = text.char_indices().peekable();
    while let Some((at, c)) = letters.next() {
        let (kind, next) = (Kind::of(c), letters.peek().map(|(_, c)| Kind::of(*c)));
        let is_new = match (before, kind) {
            (Kind::Capital, Kind::Letter) => false,
            (Kind::Capital, Kind::Capital) => next == Some(Kind::Letter),
            (before, kind) => before != kind,
        };
        if is_new {
            take(begin, at, before);
            begin = at;
        }
        before = kind;
    }
    take(begin, text.len(), before);
    all
}

/// What tells metrics that were found from each other; what there is no other of has its name.
pub(super) fn labels(found: &[&MetricId]) -> Vec<String> {
    let parts = |id: &&MetricId| -> BTreeMap<(u8, String), String> {
        let dimensions = id.dimensions.iter();
        let dimensions = dimensions.map(|(name, value)| ((2, name.clone()), value.clone()));
        let names = [((0, String::new()), &id.namespace), ((1, String::new()), &id.name)];
        names.map(|(key, value)| (key, value.clone())).into_iter().chain(dimensions).collect()
    };
    let all: Vec<_> = found.iter().map(parts).collect();
    let Some(first) = all.first() else { return Vec::new() };
    let differs = |key: &(u8, String)| all.iter().any(|parts| parts.get(key) != first.get(key));
    let keys: BTreeSet<_> =
        all.iter().flat_map(BTreeMap::keys).filter(|key| differs(key)).collect();
    let label = |(parts, id): (&BTreeMap<_, String>, &&MetricId)| {
        let own: Vec<_> = keys.iter().filter_map(|key| parts.get(*key)).cloned().collect();
        if own.is_empty() { id.name.clone() } else { own.join(" ") }
    };
    all.iter().zip(found).map(label).collect()
}

/// A part of what is between the quotes.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Equals,
    Quoted(String),
    Word(String),
}

struct Reader {
    text: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn bad<T>(&self, why: &str) -> Result<T, Bad> {
        Err(Bad::at(self.at, why))
    }

    fn search(&mut self) -> Result<(Option<Schema>, Option<Wanted>), Bad> {
        let mut schema = None;
        if self.takes('{') {
            schema = Some(self.schema()?);
            self.takes(',');
        }
        if self.peek()?.is_none() {
            return match schema {
                Some(_) => Ok((schema, None)),
                None => self.bad("there is neither a metric schema nor a term"),
            };
        }
        let wanted = self.any(&Property::Each)?;
        match self.peek()? {
            None => Ok((schema, Some(wanted))),
            Some(_) => self.bad("what follows is not expected"),
        }
    }

    fn spaces(&mut self) {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn takes(&mut self, sign: char) -> bool {
        self.spaces();
        let is_it = self.text.get(self.at) == Some(&sign);
        self.at += usize::from(is_it);
        is_it
    }

    /// Behind the brace, to its end.
    fn schema(&mut self) -> Result<Schema, Bad> {
        let mut names = Vec::new();
        loop {
            let name = match self.takes('"') {
                true => self.quoted()?,
                false => self.while_not(&[',', '}', '"', '{']).trim().to_owned(),
            };
            if name.is_empty() {
                return self.bad("a name is expected in the metric schema");
            }
            names.push(name);
            if self.takes('}') {
                break;
            }
            if !self.takes(',') {
                return self.bad("the metric schema has no end");
            }
        }
        let namespace = names.remove(0);
        Ok(Schema { namespace, dimensions: names.into_iter().collect() })
    }

    fn while_not(&mut self, ends: &[char]) -> String {
        let rest = self.text[self.at..].iter();
        let taken: String = rest.take_while(|c| !ends.contains(c)).collect();
        self.at += taken.chars().count();
        taken
    }

    /// Behind the quote, to its end; a backslash makes what follows it a letter as any other.
    fn quoted(&mut self) -> Result<String, Bad> {
        let (begin, mut taken) = (self.at, String::new());
        while let Some(c) = self.text.get(self.at) {
            let next = self.text.get(self.at + 1);
            self.at += 1;
            match (c, next) {
                ('"', _) => return Ok(taken),
                ('\\', Some(next)) => {
                    taken.push(*next);
                    self.at += 1;
                }
                (c, _) => taken.push(*c),
            }
        }
        Err(Bad::at(begin.saturating_sub(1), "the quote has no end"))
    }

    fn next(&mut self) -> Result<Option<Token>, Bad> {
        self.spaces();
        let Some(c) = self.text.get(self.at).copied() else { return Ok(None) };
        let sign = match c {
            '(' => Token::Open,
            ')' => Token::Close,
            '=' => Token::Equals,
            '"' => {
                self.at += 1;
                return Ok(Some(Token::Quoted(self.quoted()?)));
            }
            _ => {
                let ends = |c: &char| c.is_whitespace() || ['(', ')', '=', '"'].contains(c);
                let rest = self.text[self.at..].iter();
                let word: String = rest.take_while(|c| !ends(c)).collect();
                self.at += word.chars().count();
                return Ok(Some(Token::Word(word)));
            }
        };
        self.at += 1;
        Ok(Some(sign))
    }

    fn peek(&mut self) -> Result<Option<Token>, Bad> {
        let before = self.at;
        let token = self.next();
        self.at = before;
        self.spaces();
        token
    }

    fn takes_word(&mut self, word: &str) -> Result<bool, Bad> {
        let is_it = matches!(self.peek()?, Some(Token::Word(own)) if own == word);
        if is_it {
            self.next()?;
        }
        Ok(is_it)
    }

    fn any(&mut self, of: &Property) -> Result<Wanted, Bad> {
        let mut parts = vec![self.all(of)?];
        while self.takes_word("OR")? {
            parts.push(self.all(of)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Wanted::Any(parts) })
    }

    /// What stands side by side is joined by AND.
    fn all(&mut self, of: &Property) -> Result<Wanted, Bad> {
        let mut parts = vec![self.single(of)?];
        loop {
            let is_joined = self.takes_word("AND")?;
            match self.peek()? {
                None | Some(Token::Close) if !is_joined => break,
                Some(Token::Word(word)) if word == "OR" && !is_joined => break,
                _ => parts.push(self.single(of)?),
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Wanted::All(parts) })
    }

    fn single(&mut self, of: &Property) -> Result<Wanted, Bad> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.bad("the search is nested too deeply");
        }
        self.spaces();
        let begin = self.at;
        let found = match self.next()? {
            Some(Token::Word(word)) if word == "NOT" => Wanted::Not(Box::new(self.single(of)?)),
            Some(Token::Open) => {
                let inner = self.any(of)?;
                if self.next()? != Some(Token::Close) {
                    return self.bad(") is expected");
                }
                inner
            }
            Some(Token::Word(name) | Token::Quoted(name))
                if self.peek()? == Some(Token::Equals) =>
            {
                self.next()?;
                self.single(&property(&name).map_err(|why| Bad::at(begin, why))?)?
            }
            Some(Token::Quoted(text)) => Wanted::Text(of.clone(), Text::Exact(text)),
            Some(Token::Word(word)) if !["AND", "OR"].contains(&word.as_str()) => {
                let bad = || Bad::at(begin, "a letter or a digit is expected in a term");
                let words = Words::of(&word).ok_or_else(bad)?;
                Wanted::Text(of.clone(), Text::Partial(words))
            }
            _ => return Err(Bad::at(begin, "a term is expected")),
        };
        self.depth -= 1;
        Ok(found)
    }
}

fn property(name: &str) -> Result<Property, &'static str> {
    match name {
        "Namespace" => Ok(Property::Namespace),
        "MetricName" => Ok(Property::MetricName),
        name if name.starts_with(':') => {
            Err("there is one account here, and no property of accounts")
        }
        name => Ok(Property::Dimension(name.to_owned())),
    }
}

#[cfg(test)]
mod tests;
