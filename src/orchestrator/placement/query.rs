//! ECS's cluster query language: which container instances are meant.
//!
//! `attribute:stack == prod and not(task:group == service:batch)`. Pure. **Invariant:** no text
//! makes the parser panic, and none nests deeper than [`DEPTH`].
//!
//! Source: Amazon ECS Developer Guide, "Create expressions to define container instances for Amazon
//! ECS tasks".

use std::cmp::Ordering;
use std::str::FromStr;

use regex::Regex;

/// ECS: characters of an expression.
const LENGTH: usize = 2000;
/// Parentheses and negations inside each other (ours).
const DEPTH: usize = 32;
/// Bytes that a compiled pattern may take (ours).
const PATTERN: usize = 1 << 16;

/// An expression that makes sense.
#[derive(Clone, Debug)]
pub struct Query(Expression);

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at character {at}")]
pub struct BadQuery {
    /// From 1.
    pub at: usize,
    pub reason: String,
}

/// The values that a subject of an instance has; none: it is not there. `task:group` may have
/// several.
pub type Values<'a> = dyn Fn(&str) -> Vec<String> + 'a;

#[derive(Clone, Debug)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test { subject: String, test: Test },
}

#[derive(Clone, Debug)]
enum Test {
    /// The value stands so to the other: orders of which one is enough.
    Compare(&'static [Ordering], String),
    NotEqual(String),
    Exists(bool),
    In(bool, Vec<String>),
    Matches(bool, Regex),
}

/// Operators: ECS's signs and its words for them.
const OPERATORS: [(&str, Operator); 20] = [
    ("==", Operator::Compare(&[Ordering::Equal])),
    ("equals", Operator::Compare(&[Ordering::Equal])),
    ("!=", Operator::NotEqual),
    ("not_equals", Operator::NotEqual),
    (">", Operator::Compare(&[Ordering::Greater])),
    ("greater_than", Operator::Compare(&[Ordering::Greater])),
    (">=", Operator::Compare(&[Ordering::Greater, Ordering::Equal])),
    ("greater_than_equal", Operator::Compare(&[Ordering::Greater, Ordering::Equal])),
    ("<", Operator::Compare(&[Ordering::Less])),
    ("less_than", Operator::Compare(&[Ordering::Less])),
    ("<=", Operator::Compare(&[Ordering::Less, Ordering::Equal])),
    ("less_than_equal", Operator::Compare(&[Ordering::Less, Ordering::Equal])),
    ("exists", Operator::Exists(true)),
    ("!exists", Operator::Exists(false)),
    ("not_exists", Operator::Exists(false)),
    ("in", Operator::In(true)),
    ("!in", Operator::In(false)),
    ("not_in", Operator::In(false)),
    ("=~", Operator::Matches(true)),
    ("matches", Operator::Matches(true)),
];
const NOT_MATCHES: [&str; 2] = ["!~", "not_matches"];

#[derive(Clone, Copy, Debug)]
enum Operator {
    Compare(&'static [Ordering]),
    NotEqual,
    Exists(bool),
    In(bool),
    Matches(bool),
}

const SUBJECTS: [&str; 6] = [
    "agentConnected",
    "agentVersion",
    "ec2InstanceId",
    "registeredAt",
    "runningTasksCount",
    "task:group",
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    /// In characters, from 1.
    at: usize,
    text: String,
    quoted: bool,
}

impl Query {
    #[must_use]
    pub fn holds(&self, of: &Values<'_>) -> bool {
        self.0.holds(of)
    }
}

impl FromStr for Query {
    type Err = BadQuery;

    fn from_str(text: &str) -> Result<Self, BadQuery> {
        if text.chars().count() > LENGTH {
            let reason = format!("an expression has at most {LENGTH} characters; too many");
            return Err(BadQuery { at: LENGTH + 1, reason });
        }
        let tokens = tokens(text)?;
        let end = text.chars().count() + 1;
        let mut parser = Parser { tokens: &tokens, place: 0, end };
        let expression = parser.any(0)?;
        match parser.tokens.get(parser.place) {
            None => Ok(Self(expression)),
            Some(token) => Err(bad(token.at, format!("unexpected {:?}", token.text))),
        }
    }
}

impl Expression {
    fn holds(&self, of: &Values<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(of)),
            Self::Any(any) => any.iter().any(|one| one.holds(of)),
            Self::Not(one) => !one.holds(of),
            Self::Test { subject, test } => test.holds(&of(subject)),
        }
    }
}

impl Test {
    fn holds(&self, values: &[String]) -> bool {
        let is_in =
            |list: &[String]| values.iter().any(|v| list.iter().any(|o| order(v, o).is_eq()));
        match self {
            Self::Compare(orders, other) => {
                values.iter().any(|value| orders.contains(&order(value, other)))
            }
            Self::NotEqual(other) => values.iter().all(|value| order(value, other).is_ne()),
            Self::Exists(wanted) => values.is_empty() != *wanted,
            Self::In(wanted, list) => is_in(list) == *wanted,
            Self::Matches(wanted, pattern) => values.iter().any(|v| pattern.is_match(v)) == *wanted,
        }
    }
}

/// Numbers as numbers, dotted ones too (versions); anything else as text.
fn order(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let text = text.strip_prefix('v').unwrap_or(text);
        text.split('.').map(|part| part.parse().ok()).collect()
    };
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

fn bad(at: usize, reason: impl Into<String>) -> BadQuery {
    BadQuery { at, reason: reason.into() }
}

/// Characters that make tokens of their own.
fn sign(c: char) -> bool {
    matches!(c, '=' | '!' | '<' | '>' | '~' | '&' | '|')
}

fn tokens(text: &str) -> Result<Vec<Token>, BadQuery> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    let mut place = 0;
    while let Some(c) = chars.get(place).copied() {
        let start = place;
        let run = |which: &dyn Fn(char) -> bool| {
            chars[start..].iter().position(|c| !which(*c)).map_or(chars.len(), |n| start + n)
        };
        place = match c {
            c if c.is_whitespace() => {
                place += 1;
                continue;
            }
            '(' | ')' | '[' | ']' | ',' => start + 1,
            '\'' | '"' => {
                let end = chars[start + 1..].iter().position(|other| *other == c);
                let end = end.ok_or_else(|| bad(start + 1, "a quoted value does not end"))?;
                let text = chars[start + 1..start + 1 + end].iter().collect();
                tokens.push(Token { at: start + 1, text, quoted: true });
                place = start + end + 2;
                continue;
            }
            '!' if !chars.get(start + 1).is_some_and(|c| matches!(c, '=' | '~')) => start + 1,
            c if sign(c) => run(&sign),
            // Patterns have parentheses and brackets too; there they have to be quoted.
            _ => run(&|c| !(c.is_whitespace() || "()[],'\"=<>!&|".contains(c))),
        };
        let text = chars[start..place].iter().collect();
        tokens.push(Token { at: start + 1, text, quoted: false });
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    place: usize,
    end: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.place)
    }

    /// The next token, if it is one of these words.
    fn take(&mut self, words: &[&str]) -> bool {
        let is = |token: &&Token| !token.quoted && words.contains(&token.text.as_str());
        let found = self.peek().filter(is).is_some();
        self.place += usize::from(found);
        found
    }

    fn next(&mut self, what: &str) -> Result<&'a Token, BadQuery> {
        let token = self.peek().ok_or_else(|| bad(self.end, format!("{what} is missing")))?;
        self.place += 1;
        Ok(token)
    }

    fn any(&mut self, depth: usize) -> Result<Expression, BadQuery> {
        let mut any = vec![self.all(depth)?];
        while self.take(&["||", "or"]) {
            any.push(self.all(depth)?);
        }
        Ok(Expression::Any(any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, BadQuery> {
        let mut all = vec![self.one(depth)?];
        while self.take(&["&&", "and"]) {
            all.push(self.one(depth)?);
        }
        Ok(Expression::All(all))
    }

    fn one(&mut self, depth: usize) -> Result<Expression, BadQuery> {
        if depth > DEPTH {
            let at = self.peek().map_or(self.end, |token| token.at);
            return Err(bad(at, format!("more than {DEPTH} levels")));
        }
        if self.take(&["!", "not"]) {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take(&["("]) {
            let inside = self.any(depth + 1)?;
            return match self.take(&[")"]) {
                true => Ok(inside),
                false => Err(bad(self.peek().map_or(self.end, |t| t.at), "\")\" is missing")),
            };
        }
        self.test()
    }

    fn test(&mut self) -> Result<Expression, BadQuery> {
        let token = self.next("a subject")?;
        let subject = token.text.clone();
        let named = subject.strip_prefix("attribute:").is_some_and(|name| !name.is_empty());
        if token.quoted || !(named || SUBJECTS.contains(&subject.as_str())) {
            let known = SUBJECTS.join(", ");
            let reason = format!("{subject:?} is no subject (attribute:NAME, {known})");
            return Err(bad(token.at, reason));
        }
        let operator = self.operator()?;
        let test = match operator {
            Operator::Exists(wanted) => Test::Exists(wanted),
            Operator::Compare(orders) => Test::Compare(orders, self.value()?.text.clone()),
            Operator::NotEqual => Test::NotEqual(self.value()?.text.clone()),
            Operator::In(wanted) => Test::In(wanted, self.list()?),
            Operator::Matches(wanted) => {
                let value = self.value()?;
                let whole = format!("^(?:{})$", value.text);
                let pattern = regex::RegexBuilder::new(&whole).size_limit(PATTERN).build();
                let pattern = pattern.map_err(|_| {
                    bad(value.at, format!("{:?} is no regular expression", value.text))
                })?;
                Test::Matches(wanted, pattern)
            }
        };
        Ok(Expression::Test { subject, test })
    }

    fn operator(&mut self) -> Result<Operator, BadQuery> {
        if self.take(&NOT_MATCHES) {
            return Ok(Operator::Matches(false));
        }
        let token = self.next("an operator")?;
        // A word may follow "!" as a token of its own: `!exists`, `! in`.
        let negated = token.text == "!" && !token.quoted;
        let text = match negated {
            true => format!("!{}", self.next("an operator")?.text),
            false => token.text.clone(),
        };
        let found = OPERATORS.iter().find(|(sign, _)| *sign == text && !token.quoted);
        let unknown = || bad(token.at, format!("{text:?} is no operator"));
        found.map(|(_, operator)| *operator).ok_or_else(unknown)
    }

    fn value(&mut self) -> Result<&'a Token, BadQuery> {
        let token = self.next("a value")?;
        let is_sign = token.text.starts_with(|c| sign(c) || "()[],".contains(c));
        if is_sign && !token.quoted {
            return Err(bad(token.at, format!("{:?} stands where a value should", token.text)));
        }
        Ok(token)
    }

    fn list(&mut self) -> Result<Vec<String>, BadQuery> {
        let at = self.peek().map_or(self.end, |token| token.at);
        if !self.take(&["["]) {
            return Err(bad(at, "a list such as [a, b] is missing"));
        }
        let mut values = vec![self.value()?.text.clone()];
        while self.take(&[","]) {
            values.push(self.value()?.text.clone());
        }
        let at = self.peek().map_or(self.end, |token| token.at);
        if self.take(&["]"]) { Ok(values) } else { Err(bad(at, "\"]\" is missing")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn facts(subject: &str) -> Vec<String> {
        let all: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
            ("attribute:stack", vec!["prod"]),
            ("attribute:ecs.availability-zone", vec!["local-a"]),
            ("attribute:ecs.instance-type", vec!["g2.large"]),
            ("attribute:gpu", vec![""]),
            ("runningTasksCount", vec!["10"]),
            ("agentConnected", vec!["true"]),
            ("agentVersion", vec!["1.9.2"]),
            ("task:group", vec!["service:web", "family:batch"]),
            ("registeredAt", vec!["2026-01-02T00:00:00Z"]),
        ]);
        all.get(subject).into_iter().flatten().map(|value| (*value).to_owned()).collect()
    }

    fn check(text: &str, expected: Result<bool, &str>) {
        let told = text.parse::<Query>().map(|query| query.holds(&facts));
        let told = told.map_err(|error| error.to_string());
        assert_eq!(told.as_ref().map(|b| *b).map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn expressions_hold_of_the_instances_they_mean() {
        let yes = |text: &str| check(text, Ok(true));
        let no = |text: &str| check(text, Ok(false));
        yes("attribute:stack == prod");
        yes("attribute:stack equals 'prod'");
        no("attribute:stack == test");
        yes("attribute:stack != test");
        yes("attribute:none != test");
        yes("attribute:gpu exists");
        no("attribute:none exists");
        yes("attribute:none !exists");
        yes("attribute:none not_exists");
        yes("attribute:ecs.availability-zone in [local-a, local-b]");
        yes("attribute:ecs.availability-zone in ['local-a']");
        no("attribute:ecs.availability-zone not_in [local-a]");
        yes("attribute:ecs.availability-zone !in [local-b]");
        yes("attribute:ecs.instance-type =~ g2.*");
        no("attribute:ecs.instance-type =~ g2");
        yes("attribute:ecs.instance-type !~ t2.*");
        yes("attribute:ecs.instance-type matches 'g[23].(large|small)'");
        yes("runningTasksCount > 9");
        no("runningTasksCount < 9");
        yes("runningTasksCount >= 10 && runningTasksCount <= 10");
        yes("agentVersion greater_than 1.9.1 and agentVersion < 1.10.0");
        yes("agentConnected == true");
        yes("registeredAt > 2026-01-01");
        yes("task:group == service:web");
        yes("task:group == family:batch");
        no("not(task:group == service:web)");
        yes("!(task:group == service:db)");
        no("attribute:stack == prod and attribute:none exists or runningTasksCount == 1");
        yes("runningTasksCount == 10 or attribute:none exists and attribute:none exists");
        no("(runningTasksCount == 10 || attribute:none exists) and attribute:none exists");
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place() {
        let check = |text: &str, why: &str| check(text, Err(why));
        check("", "a subject is missing at character 1");
        check("attribute:stack", "an operator is missing at character 16");
        check("attribute:stack ==", "a value is missing at character 19");
        check("attribute:stack == and and", "a subject is missing at character 27");
        check("attribute:a is b", "\"is\" is no operator at character 13");
        check("attribute:a == b c", "unexpected \"c\" at character 18");
        check("(attribute:a exists", "\")\" is missing at character 20");
        check("attribute:a in b", "a list such as [a, b] is missing at character 16");
        check("attribute:a in [b", "\"]\" is missing at character 18");
        check("attribute:a in []", "\"]\" stands where a value should at character 17");
        check("attribute:a == 'b", "a quoted value does not end at character 16");
        check("attribute:a =~ '('", "\"(\" is no regular expression at character 16");
        check(&"!".repeat(40), "more than 32 levels at character 34");
        let long = "a".repeat(2001);
        check(&long, "an expression has at most 2000 characters; too many at character 2001");
        let told = "stack == a".parse::<Query>().unwrap_err().to_string();
        assert!(told.starts_with("\"stack\" is no subject (attribute:NAME, agent"), "{told}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ a-z:=!<>&|~()\\[\\],'\"*.]{0,60}") {
            let _ = text.parse::<Query>().map(|query| query.holds(&facts));
        }

        #[test]
        fn a_negation_is_the_opposite(
            subject in prop::sample::select(vec!["attribute:stack", "attribute:a", "task:group"]),
            sign in prop::sample::select(vec!["==", "!=", "<", ">=", "=~", "!~"]),
            value in "[a-z0-9]{1,6}",
        ) {
            let text = format!("{subject} {sign} {value}");
            let holds = |text: &str| text.parse::<Query>().unwrap().holds(&facts);
            let (opposite, either) = (format!("not({text})"), format!("({text}) or !({text})"));
            prop_assert_eq!(holds(&text), !holds(&opposite));
            prop_assert!(holds(&either));
        }
    }
}
