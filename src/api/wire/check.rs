//! Whether a document is what its shape says: types, required members, limits.
//!
//! Inputs are made canonical on the way: members that the model does not have and nulls are left
//! out, as AWS does. **Invariant:** what [`input`] returns has only the model's members, of the
//! model's types.

use serde_json::{Map, Number, Value};

use super::schema::{Kind, Limits, Member, Model, ShapeId};
use super::time;

/// Why an input is refused before its operation sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// A value of another type.
    Type(String),
    /// In the words of AWS's services.
    Constraints(Vec<String>),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Type(text) => f.write_str(text),
            Self::Constraints(all) => {
                let plural = if all.len() == 1 { "" } else { "s" };
                write!(f, "{} validation error{plural} detected: {}", all.len(), all.join("; "))
            }
        }
    }
}

/// Constraints told in one answer (ours); the rest is told at the next try.
const TOLD: usize = 10;

/// Makes `value` canonical.
///
/// # Errors
/// Everything in it that is not as its shape says.
pub(crate) fn input(model: &Model, shape: ShapeId, value: Value) -> Result<Value, Invalid> {
    let mut checker = Checker { model, problems: Vec::new() };
    let value = checker.value(shape, value, "")?;
    if checker.problems.is_empty() {
        Ok(value)
    } else {
        checker.problems.truncate(TOLD);
        Err(Invalid::Constraints(checker.problems))
    }
}

struct Checker<'a> {
    model: &'a Model,
    problems: Vec<String>,
}

impl Checker<'_> {
    fn value(&mut self, id: ShapeId, value: Value, path: &str) -> Result<Value, Invalid> {
        let shape = self.model.shape(id);
        let wrong = |value: &Value, wanted: &str| {
            let at = if path.is_empty() { "the request" } else { path };
            Invalid::Type(format!("{at} must be {wanted}, not {}", kind_of(value)))
        };
        let value = match (&shape.kind, value) {
            (Kind::Structure(members), Value::Object(map)) => self.members(members, map, path)?,
            (Kind::Structure(_), value) => return Err(wrong(&value, "an object")),
            (Kind::List { item, .. }, Value::Array(items)) => {
                let items = items.into_iter().enumerate().map(|(at, value)| {
                    self.value(item.shape, value, &format!("{path}.{}.member", at + 1))
                });
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (Kind::List { .. }, value) => return Err(wrong(&value, "a list")),
            (Kind::Map { key, value: of, .. }, Value::Object(map)) => {
                let mut checked = Map::new();
                for (name, value) in map {
                    self.value(key.shape, Value::String(name.clone()), path)?;
                    let at = format!("{path}.{name}.member");
                    checked.insert(name, self.value(of.shape, value, &at)?);
                }
                Value::Object(checked)
            }
            (Kind::Map { .. }, value) => return Err(wrong(&value, "a map")),
            (Kind::Text | Kind::Blob, value @ Value::String(_)) => value,
            (Kind::Text | Kind::Blob, value) => return Err(wrong(&value, "a string")),
            (Kind::Boolean, value @ Value::Bool(_)) => value,
            (Kind::Boolean, value) => return Err(wrong(&value, "true or false")),
            (Kind::Integer, Value::Number(number)) if number.is_i64() => Value::Number(number),
            (Kind::Integer, value) => return Err(wrong(&value, "a whole number")),
            (Kind::Float, value @ Value::Number(_)) => value,
            (Kind::Float, value) => return Err(wrong(&value, "a number")),
            (Kind::Time, value @ Value::Number(_)) => value,
            (Kind::Time, Value::String(text)) => match time::parse(&text) {
                Some(seconds) => seconds_value(seconds),
                None => return Err(wrong(&Value::String(text), "a time")),
            },
            (Kind::Time, value) => return Err(wrong(&value, "a time")),
        };
        self.limits(&shape.limits, &shape.kind, &value, path);
        Ok(value)
    }

    fn members(
        &mut self,
        members: &[Member],
        mut map: Map<String, Value>,
        path: &str,
    ) -> Result<Value, Invalid> {
        let mut checked = Map::new();
        for member in members {
            let at = below(path, &member.name);
            match map.remove(&member.name) {
                None | Some(Value::Null) if member.required => {
                    let rule = "failed to satisfy constraint: Member must not be null";
                    self.problems.push(format!("Value null at '{at}' {rule}"));
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    checked.insert(member.name.clone(), self.value(member.shape, value, &at)?);
                }
            }
        }
        Ok(Value::Object(checked))
    }

    fn limits(&mut self, limits: &Limits, kind: &Kind, value: &Value, path: &str) {
        let mut refuse = |rule: String| {
            let shown = if limits.sensitive { "****".to_owned() } else { shown(value) };
            let text = format!("Value '{shown}' at '{path}' failed to satisfy constraint: {rule}");
            self.problems.push(text);
        };
        if let Value::String(text) = value {
            if !limits.values.is_empty() && !limits.values.contains(text) {
                let values = limits.values.join(", ");
                return refuse(format!("Member must satisfy enum value set: [{values}]"));
            }
            if limits.regex().is_some_and(|regex| !regex.is_match(text)) {
                let pattern = limits.pattern.as_deref().unwrap_or_default();
                refuse(format!("Member must satisfy regular expression pattern: {pattern}"));
            }
        }
        let (measure, what) = match (kind, value) {
            (Kind::Blob, _) => return,
            (_, Value::String(text)) => (count(text.chars().count()), "length"),
            (_, Value::Array(items)) => (count(items.len()), "length"),
            (Kind::Map { .. }, Value::Object(map)) => (count(map.len()), "length"),
            (Kind::Integer | Kind::Float, Value::Number(number)) => {
                (number.as_f64().unwrap_or_default(), "value")
            }
            _ => return,
        };
        if let Some(max) = limits.max.filter(|max| measure > *max) {
            refuse(format!("Member must have {what} less than or equal to {max}"));
        }
        if let Some(min) = limits.min.filter(|min| measure < *min) {
            refuse(format!("Member must have {what} greater than or equal to {min}"));
        }
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

pub(super) fn seconds_value(seconds: f64) -> Value {
    Number::from_f64(seconds).map_or(Value::Null, Value::Number)
}

/// AWS names members in these messages with a small first letter.
fn below(path: &str, name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{}{}", first.map(String::from).unwrap_or_default(), letters.as_str())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// What is wrong with an answer of ours: members that the model does not have, required ones that
/// are missing, other types, values outside an enum.
pub(crate) fn output(model: &Model, shape: ShapeId, value: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    outward(model, shape, value, "", &mut problems);
    problems
}

fn outward(model: &Model, id: ShapeId, value: &Value, path: &str, problems: &mut Vec<String>) {
    let shape = model.shape(id);
    let fits = match (&shape.kind, value) {
        (Kind::Structure(members), Value::Object(map)) => {
            for name in map.keys().filter(|name| members.iter().all(|m| m.name != **name)) {
                problems.push(format!("{path}.{name}: no member of {}", shape.name));
            }
            for member in members {
                let at = format!("{path}.{}", member.name);
                match map.get(&member.name) {
                    None | Some(Value::Null) if member.required => {
                        problems.push(format!("{at}: missing"));
                    }
                    None | Some(Value::Null) => {}
                    Some(value) => outward(model, member.shape, value, &at, problems),
                }
            }
            true
        }
        (Kind::List { item, .. }, Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                outward(model, item.shape, value, &format!("{path}[{index}]"), problems);
            }
            true
        }
        (Kind::Map { value: of, .. }, Value::Object(map)) => {
            for (name, value) in map {
                outward(model, of.shape, value, &format!("{path}.{name}"), problems);
            }
            true
        }
        (Kind::Text, Value::String(text)) => {
            let values = &shape.limits.values;
            if !values.is_empty() && !values.contains(text) {
                problems.push(format!("{path}: {text:?} is no {}", shape.name));
            }
            true
        }
        (Kind::Blob, Value::String(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Float | Kind::Time, Value::Number(_)) => true,
        (Kind::Integer, Value::Number(number)) => number.is_i64(),
        _ => false,
    };
    if !fits {
        problems.push(format!("{path}: {} is no {}", kind_of(value), shape.name));
    }
}
