//! Conditions of a policy's statements: operators, set operators, `IfExists`.
//!
//! Source: IAM user guide, "IAM JSON policy elements: Condition operators" and "Set operators for
//! multi-valued context keys". **Invariant:** values are of their operator's type once the
//! document is read; deciding cannot fail.

use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::context::Context;
use super::pattern::Reading;
use crate::api::wire::time;
use crate::model::Pool;

/// `"StringLike": {"aws:RequestTag/team": ["a", "b"]}`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    set: Set,
    negated: bool,
    if_exists: bool,
    /// As it was written.
    pub(super) key: String,
    test: Test,
}

/// Which of a key's values have to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// Not said: one value is expected.
    Plain,
    Any,
    All,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text {
        values: Vec<String>,
        wild: bool,
        fold: bool,
    },
    Arn(Vec<String>),
    Number(Vec<f64>, Order),
    /// Seconds since 1970.
    Date(Vec<f64>, Order),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Address(Vec<Pool>),
    /// Whether the key is absent.
    Null(Vec<bool>),
}

/// What a comparison with a value has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Order {
    fn of(name: &str) -> Option<Self> {
        let (less, equal, greater) = match name {
            "Equals" | "NotEquals" => (false, true, false),
            "LessThan" => (true, false, false),
            "LessThanEquals" => (true, true, false),
            "GreaterThan" => (false, false, true),
            "GreaterThanEquals" => (false, true, true),
            _ => return None,
        };
        Some(Self { less, equal, greater })
    }

    fn holds(self, left: f64, right: f64) -> bool {
        match left.partial_cmp(&right) {
            Some(Ordering::Less) => self.less,
            Some(Ordering::Equal) => self.equal,
            Some(Ordering::Greater) => self.greater,
            None => false,
        }
    }
}

impl Condition {
    /// # Errors
    /// There is no such operator, or a value is not of its type.
    pub(super) fn read(operator: &str, key: &str, values: &[String]) -> Result<Self, String> {
        let (set, name) = match operator.split_once(':') {
            Some(("ForAnyValue", name)) => (Set::Any, name),
            Some(("ForAllValues", name)) => (Set::All, name),
            _ => (Set::Plain, operator),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let unknown = || format!("{operator} is no condition operator that is known here");
        let (test, negated) = test(name, values)?.ok_or_else(unknown)?;
        if matches!(test, Test::Null(_)) && if_exists {
            return Err(unknown());
        }
        Ok(Self { set, negated, if_exists, key: key.to_owned(), test })
    }

    /// Whether it holds; `variables`: the document has them.
    pub(super) fn holds(&self, context: &Context, variables: bool) -> bool {
        let found = context.get(&self.key);
        if let Test::Null(wanted) = &self.test {
            return wanted.contains(&found.is_none());
        }
        let reading = |wild| Reading { variables: variables.then_some(context), wild };
        let passes = |value: &String| self.test.matches(value, &reading) != self.negated;
        match (found, self.set) {
            (None, _) if self.if_exists => true,
            (None, Set::All) => true,
            (None, Set::Any) => false,
            (None, Set::Plain) => self.negated,
            (Some(values), Set::All) => values.iter().all(passes),
            (Some(values), Set::Plain) if self.negated => values.iter().all(passes),
            (Some(values), Set::Any | Set::Plain) => values.iter().any(passes),
        }
    }
}

/// An operator without its set and `IfExists`, and whether it is one of the `Not` kind. None:
/// there is no such operator.
fn test(name: &str, values: &[String]) -> Result<Option<(Test, bool)>, String> {
    let negated = name.contains("Not");
    let text = |wild, fold| Test::Text { values: values.to_vec(), wild, fold };
    let found = match name {
        "StringEquals" | "StringNotEquals" => text(false, false),
        "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => text(false, true),
        "StringLike" | "StringNotLike" => text(true, false),
        "ArnEquals" | "ArnLike" | "ArnNotEquals" | "ArnNotLike" => Test::Arn(values.to_vec()),
        "Bool" => Test::Bool(all(values, "true or false", boolean)?),
        "BinaryEquals" => {
            let binary = |text: &str| BASE64_STANDARD.decode(text).ok();
            Test::Binary(all(values, "base64", binary)?)
        }
        "Null" => Test::Null(all(values, "true or false", boolean)?),
        "IpAddress" | "NotIpAddress" => {
            Test::Address(all(values, "an address or a network", network)?)
        }
        _ => {
            let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
            let ordered = |kind: &str| name.strip_prefix(kind).and_then(Order::of);
            match (ordered("Numeric"), ordered("Date")) {
                (Some(order), _) => Test::Number(all(values, "a number", number)?, order),
                (_, Some(order)) => Test::Date(all(values, "a time", time::parse)?, order),
                (None, None) => return Ok(None),
            }
        }
    };
    Ok(Some((found, negated)))
}

fn all<T>(
    values: &[String],
    what: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    let one = |text: &String| read(text).ok_or_else(|| format!("{text:?} is not {what}"));
    values.iter().map(one).collect()
}

fn boolean(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// A network, or an address for itself; IAM leaves host bits be.
fn network(text: &str) -> Option<Pool> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(width);
    let host = u32::from(width.checked_sub(prefix)?);
    let network = match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits().checked_shr(host).map_or(0, |bits| bits << host);
            IpAddr::from(std::net::Ipv4Addr::from_bits(bits))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits().checked_shr(host).map_or(0, |bits| bits << host);
            IpAddr::from(std::net::Ipv6Addr::from_bits(bits))
        }
    };
    format!("{network}/{prefix}").parse().ok()
}

impl Test {
    /// Whether one of its values matches.
    fn matches<'a>(&self, value: &str, reading: &impl Fn(bool) -> Reading<'a>) -> bool {
        match self {
            Self::Text { values, wild, fold } => values.iter().any(|text| {
                let pattern = reading(*wild).pattern(text);
                pattern.is_some_and(|pattern| match fold {
                    true => pattern.folded().matches(&value.to_lowercase()),
                    false => pattern.matches(value),
                })
            }),
            Self::Arn(values) => values.iter().any(|text| {
                reading(true).pattern(text).is_some_and(|pattern| pattern.matches_arn(value))
            }),
            Self::Number(values, order) => {
                let given: Option<f64> = value.parse().ok();
                given.is_some_and(|given| values.iter().any(|own| order.holds(given, *own)))
            }
            Self::Date(values, order) => {
                let given = time::parse(value);
                given.is_some_and(|given| values.iter().any(|own| order.holds(given, *own)))
            }
            Self::Bool(values) => boolean(value).is_some_and(|given| values.contains(&given)),
            Self::Binary(values) => values.iter().any(|own| own == value.as_bytes()),
            Self::Address(values) => {
                let given: Option<IpAddr> = value.parse().ok();
                given.is_some_and(|given| values.iter().any(|own| own.contains(given)))
            }
            Self::Null(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A condition as `OPERATOR KEY VALUE…`, a request as `KEY=VALUE…`.
    fn check(condition: &str, request: &str, expected: bool) {
        let words: Vec<_> = condition.split_whitespace().map(str::to_owned).collect();
        let condition_read = Condition::read(&words[0], &words[1], &words[2..]).unwrap();
        let mut context = Context::default();
        for (key, value) in request.split_whitespace().filter_map(|word| word.split_once('=')) {
            context.add(key, value);
        }
        assert_eq!(condition_read.holds(&context, true), expected, "{condition} of {request}");
    }

    #[test]
    fn texts_are_compared() {
        check("StringEquals k a b", "k=b", true);
        check("StringEquals k a b", "k=B", false);
        check("StringEquals K a", "k=a", true);
        check("StringEquals k a*", "k=ab", false);
        check("StringNotEquals k a b", "k=b", false);
        check("StringNotEquals k a b", "k=c", true);
        check("StringEqualsIgnoreCase k Ab", "k=aB", true);
        check("StringNotEqualsIgnoreCase k Ab", "k=aB", false);
        check("StringEqualsIgnoreCase k ${u}", "k=ann u=Ann", true);
        check("StringLike k a*", "k=ab", true);
        check("StringLike k a?", "k=a", false);
        check("StringNotLike k a*", "k=ab", false);
        check("StringEquals k ${u}", "k=ann u=ann", true);
        check("StringEquals k ${u}", "k=ann", false);
        check("StringNotEquals k ${u}", "k=ann", true);
    }

    #[test]
    fn numbers_times_and_truths_are_compared() {
        check("NumericEquals k 1", "k=1.0", true);
        check("NumericNotEquals k 1", "k=1.0", false);
        check("NumericLessThan k 2", "k=2", false);
        check("NumericLessThanEquals k 2", "k=2", true);
        check("NumericGreaterThan k 2", "k=10", true);
        check("NumericGreaterThanEquals k 2", "k=x", false);
        check("DateLessThan k 2026-01-02T00:00:00Z", "k=2026-01-01T23:59:59Z", true);
        check("DateLessThan k 2026-01-02T00:00:00Z", "k=2026-01-02T00:00:00Z", false);
        check("DateGreaterThan k 2026-01-02T00:00:00Z", "k=1800000000", true);
        check("DateEquals k 0", "k=1970-01-01T00:00:00Z", true);
        check("Bool k true", "k=true", true);
        check("Bool k True", "k=false", false);
    }

    #[test]
    fn bytes_are_compared() {
        check("BinaryEquals k dGVhbQ==", "k=team", true);
        check("BinaryEquals k dGVhbQ==", "k=teams", false);
        check("BinaryEquals k dGVhbQ==", "k=dGVhbQ==", false);
        check("BinaryEquals k eA== dGVhbQ==", "k=team", true);
        check("BinaryEqualsIfExists k dGVhbQ==", "", true);
    }

    #[test]
    fn addresses_and_arns_are_compared() {
        check("IpAddress k 10.0.0.0/8", "k=10.1.2.3", true);
        check("IpAddress k 10.1.2.3/8", "k=10.9.9.9", true);
        check("IpAddress k 10.1.2.3", "k=10.1.2.4", false);
        check("IpAddress k 0.0.0.0/0", "k=10.1.2.4", true);
        check("IpAddress k ::/0", "k=10.1.2.4", false);
        check("IpAddress k 2001:db8::/32 10.0.0.0/8", "k=2001:db8::1", true);
        check("NotIpAddress k 10.0.0.0/8", "k=10.1.2.3", false);
        check("NotIpAddress k 10.0.0.0/8", "k=11.1.2.3", true);
        let arn = "k=arn:aws:ecs:local:1:cluster/a";
        check("ArnEquals k arn:aws:ecs:*:*:cluster/a", arn, true);
        check("ArnLike k arn:aws:ecs:*:cluster/a", arn, false);
        check("ArnNotLike k arn:aws:ecs:*:*:cluster/b", arn, true);
        check("ArnNotEquals k arn:aws:ecs:*:*:cluster/*", arn, false);
    }

    #[test]
    fn absent_keys_have_rules_of_their_own() {
        check("StringEquals k a", "", false);
        check("StringNotEquals k a", "", true);
        check("NotIpAddress k 10.0.0.0/8", "", true);
        check("Bool k true", "", false);
        check("BoolIfExists k true", "", true);
        check("BoolIfExists k true", "k=false", false);
        check("Null k true", "", true);
        check("Null k true", "k=a", false);
        check("Null k false", "k=a", true);
        check("ForAllValues:StringEquals k a", "", true);
        check("ForAnyValue:StringEquals k a", "", false);
        check("ForAnyValue:StringEqualsIfExists k a", "", true);
    }

    #[test]
    fn several_values_are_compared_as_sets() {
        check("ForAllValues:StringEquals k a b", "k=a k=b", true);
        check("ForAllValues:StringEquals k a b", "k=a k=c", false);
        check("ForAnyValue:StringEquals k a b", "k=c k=b", true);
        check("ForAnyValue:StringEquals k a b", "k=c", false);
        check("ForAllValues:StringNotEquals k a", "k=b k=c", true);
        check("ForAllValues:StringNotEquals k a", "k=a k=c", false);
        check("ForAnyValue:StringNotEquals k a", "k=a k=c", true);
        check("StringNotEquals k a", "k=a k=c", false);
    }

    #[test]
    fn what_no_operator_takes_is_refused() {
        let check = |operator: &str, value: &str, expected: &str| {
            let found = Condition::read(operator, "k", &[value.to_owned()]);
            assert_eq!(found.unwrap_err(), expected);
        };
        check("StringSounds", "a", "StringSounds is no condition operator that is known here");
        check("NullIfExists", "true", "NullIfExists is no condition operator that is known here");
        check("ForSome:Bool", "true", "ForSome:Bool is no condition operator that is known here");
        check("NumericBelow", "1", "NumericBelow is no condition operator that is known here");
        check("Bool", "yes", "\"yes\" is not true or false");
        check("IpAddress", "10.0.0.0/33", "\"10.0.0.0/33\" is not an address or a network");
        check("NumericEquals", "x", "\"x\" is not a number");
        check("DateLessThan", "soon", "\"soon\" is not a time");
        check("BinaryEquals", "dGVhbQ", "\"dGVhbQ\" is not base64");
        check(
            "BinaryNotEquals",
            "eA==",
            "BinaryNotEquals is no condition operator that is known here",
        );
    }
}
