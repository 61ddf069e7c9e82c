//! Policy documents in IAM's JSON.
//!
//! Source: IAM user guide, "Grammar of the IAM JSON policy language". **Invariant:** what a
//! document says and is not honoured makes it a bad document: nothing of it is left out silently.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::condition::Condition;
use super::context;

/// What a key may and may not do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub(super) statements: Vec<Statement>,
    /// Texts may name them: version 2012-10-17.
    pub(super) variables: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) allows: bool,
    /// In lower case: actions are compared without regard to case.
    pub(super) actions: Choice,
    pub(super) resources: Choice,
    pub(super) conditions: Vec<Condition>,
}

/// `Action` and `NotAction`, `Resource` and `NotResource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) texts: Vec<String>,
    pub(super) negated: bool,
}

/// A JSON value no object of which has a member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, a list, a text, a number, true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut all = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    all.push(item);
                }
                Ok(Value::Array(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut all = Map::new();
                while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if all.contains_key(&name) {
                        return Err(de::Error::custom(format!("{name} stands here twice")));
                    }
                    all.insert(name, value);
                }
                Ok(Value::Object(all))
            }
        }

        from.deserialize_any(Reader).map(Self)
    }
}

impl Document {
    /// # Errors
    /// What is wrong with the text, and where.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let Strict(value) = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(mut members) = value else {
            return Err("a policy document is an object".to_owned());
        };
        let variables = match members.remove("Version") {
            None => false,
            Some(Value::String(text)) if text == "2008-10-17" => false,
            Some(Value::String(text)) if text == "2012-10-17" => true,
            Some(_) => return Err("Version: must be 2012-10-17 or 2008-10-17".to_owned()),
        };
        // A name for people.
        match members.remove("Id") {
            None | Some(Value::String(_)) => {}
            Some(_) => return Err("Id: must be a text".to_owned()),
        }
        let statements = match members.remove("Statement") {
            Some(Value::Array(items)) => items,
            Some(one @ Value::Object(_)) => vec![one],
            _ => return Err("Statement: must be a list of statements".to_owned()),
        };
        if let Some(name) = members.keys().next() {
            return Err(format!("{name}: no policy document has such a member"));
        }
        let mut names = BTreeSet::new();
        let read = |(at, value)| {
            statement(value, &mut names).map_err(|why| format!("Statement[{at}].{why}"))
        };
        let statements = statements.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { statements, variables })
    }

    /// Condition keys that no request has.
    pub(super) fn unknown_keys(&self) -> BTreeSet<String> {
        let conditions = self.statements.iter().flat_map(|statement| &statement.conditions);
        let keys = conditions.map(|condition| &condition.key);
        keys.filter(|key| !context::is_known(key)).cloned().collect()
    }
}

fn statement(value: Value, names: &mut BTreeSet<String>) -> Result<Statement, String> {
    let Value::Object(mut members) = value else { return Err(": must be an object".to_owned()) };
    match members.remove("Sid") {
        None => {}
        Some(Value::String(name)) if names.insert(name.clone()) => {}
        Some(Value::String(name)) => return Err(format!("Sid: {name} stands here twice")),
        Some(_) => return Err("Sid: must be a text".to_owned()),
    }
    let allows = match members.remove("Effect") {
        Some(Value::String(text)) if text == "Allow" => true,
        Some(Value::String(text)) if text == "Deny" => false,
        _ => return Err("Effect: must be Allow or Deny".to_owned()),
    };
    let mut actions = choice(&mut members, "Action", is_action, "an action such as ecs:RunTask")?;
    actions.texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
    let resources = choice(&mut members, "Resource", is_resource, "* or an ARN")?;
    let conditions = match members.remove("Condition") {
        None => Vec::new(),
        Some(Value::Object(operators)) => conditions(&operators)?,
        Some(_) => return Err("Condition: must be an object".to_owned()),
    };
    match members.keys().next().map(String::as_str) {
        None => Ok(Statement { allows, actions, resources, conditions }),
        Some(name @ ("Principal" | "NotPrincipal")) => {
            Err(format!("{name}: the policy of a key has no principal"))
        }
        Some(name) => Err(format!("{name}: no statement has such a member")),
    }
}

/// `NAME` or `NotNAME`, one of which there has to be.
fn choice(
    members: &mut Map<String, Value>,
    name: &str,
    is_good: fn(&str) -> bool,
    what: &str,
) -> Result<Choice, String> {
    let not = format!("Not{name}");
    let (value, negated, name) = match (members.remove(name), members.remove(&not)) {
        (Some(value), None) => (value, false, name),
        (None, Some(value)) => (value, true, not.as_str()),
        _ => return Err(format!("{name}: there must be {name} or {not}")),
    };
    let texts = texts(value).ok_or_else(|| format!("{name}: must be texts"))?;
    match texts.iter().find(|text| !is_good(text)) {
        None => Ok(Choice { texts, negated }),
        Some(text) => Err(format!("{name}: {text:?} is not {what}")),
    }
}

/// A text, or a list of some.
fn texts(value: Value) -> Option<Vec<String>> {
    let items = match value {
        Value::Array(items) if !items.is_empty() => items,
        Value::Array(_) => return None,
        one => vec![one],
    };
    let text = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    items.into_iter().map(text).collect()
}

fn conditions(operators: &Map<String, Value>) -> Result<Vec<Condition>, String> {
    let mut all = Vec::new();
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else {
            return Err(format!("Condition.{operator}: must be an object"));
        };
        for (key, values) in keys {
            // Numbers and truths may stand without quotes.
            let text = |value: &Value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                _ => None,
            };
            let values: Option<Vec<_>> = match values {
                Value::Array(items) => items.iter().map(text).collect(),
                one => text(one).map(|text| vec![text]),
            };
            let at = format!("Condition.{operator}.{key}");
            let values = values.filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| format!("{at}: must be values"))?;
            let read = Condition::read(operator, key, &values);
            all.push(read.map_err(|why| format!("{at}: {why}"))?);
        }
    }
    Ok(all)
}

/// `*`, or a service and a name, which may have wildcards.
fn is_action(text: &str) -> bool {
    let good = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    text == "*"
        || text
            .split_once(':')
            .is_some_and(|(service, name)| good(service, b"-") && good(name, b"*?"))
}

fn is_resource(text: &str) -> bool {
    text == "*" || text.starts_with("arn:")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn documents_that_say_what_is_not_known_are_refused() {
        let check = |text: &str, expected: &str| {
            let found = Document::read(text).map(|_| ()).unwrap_err();
            assert!(found.starts_with(expected), "{text}: {found}");
        };
        let one = |more: &str| {
            let text =
                r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"MORE}]}"#;
            text.replace("MORE", more)
        };
        Document::read(&one("")).unwrap();
        check("", "EOF");
        check("[]", "a policy document is an object");
        check("{}", "Statement: must be a list");
        check(r#"{"Statement": [], "Versoin": "x"}"#, "Versoin: no policy document has");
        check(r#"{"Statement": [], "Version": "2020-01-01"}"#, "Version: must be 2012-10-17");
        check(r#"{"Statement": [], "Id": 1}"#, "Id: must be a text");
        check(r#"{"Statement": [], "Statement": []}"#, "Statement stands here twice");
        check(r#"{"Statement": [1]}"#, "Statement[0].: must be an object");
        check(r#"{"Statement": [{}]}"#, "Statement[0].Effect: must be Allow or Deny");
        check(r#"{"Statement": {"Effect": "Maybe"}}"#, "Statement[0].Effect");
        check(
            r#"{"Statement": {"Effect": "Allow", "Resource": "*"}}"#,
            "Statement[0].Action: there must be Action or NotAction",
        );
        check(&one(r#", "NotAction": "*""#), "Statement[0].Action: there must be");
        check(&one(r#", "NotResource": "*""#), "Statement[0].Resource: there must be");
        check(&one(r#", "Principal": "*""#), "Statement[0].Principal: the policy of a key");
        check(&one(r#", "Conditions": {}"#), "Statement[0].Conditions: no statement has");
        check(&one(r#", "Condition": []"#), "Statement[0].Condition: must be an object");
        check(&one(r#", "Condition": {"Bool": 1}"#), "Statement[0].Condition.Bool: must be");
        check(&one(r#", "Condition": {"Bool": {"a": []}}"#), "Statement[0].Condition.Bool.a: must");
        check(&one(r#", "Condition": {"Bool": {"a": "x"}}"#), "Statement[0].Condition.Bool.a: \"x");
        check(&one(r#", "Condition": {"Bool": {"a": true, "a": false}}"#), "a stands here twice");
        check(
            r#"{"Statement": {"Effect": "Allow", "Action": "RunTask", "Resource": "*"}}"#,
            "Statement[0].Action: \"RunTask\" is not an action",
        );
        check(
            r#"{"Statement": {"Effect": "Allow", "Action": [], "Resource": "*"}}"#,
            "Statement[0].Action: must be texts",
        );
        check(
            r#"{"Statement": {"Effect": "Deny", "Action": "*", "Resource": ["*", "web"]}}"#,
            "Statement[0].Resource: \"web\" is not * or an ARN",
        );
        let twice = r#"{"Sid": "a", "Effect": "Deny", "Action": "*", "Resource": "*"}"#;
        check(&format!(r#"{{"Statement": [{twice}, {twice}]}}"#), "Statement[1].Sid: a stands");
    }

    #[test]
    fn keys_that_no_request_has_are_named() {
        let text = r#"{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {
            "BoolIfExists": {"aws:MultiFactorAuthPresent": false, "aws:SecureTransport": false}}}}"#;
        let found = Document::read(text).unwrap().unknown_keys();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["aws:MultiFactorAuthPresent"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\":,a-zA-Z*0-9 ]{0,60}") {
            let _ = Document::read(&text);
        }
    }
}
