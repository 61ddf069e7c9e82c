//! Conditions of rules: host-header and path-pattern, in both of their forms.
//!
//! Not here: conditions on anything else, and regular expressions: they are refused. Source: the
//! API reference of `RuleCondition`. **Invariant:** what is taken compiles.

use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::{MOST_VALUES, MOST_WILDCARDS};
use crate::api::error::Error;
use crate::model::Condition;
use crate::rules::Pattern;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    field: Option<String>,
    values: Option<Vec<String>>,
    host_header_config: Option<Config>,
    path_pattern_config: Option<Config>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    values: Option<Vec<String>>,
}

/// The conditions of one rule.
pub(super) fn meaning(asked: &[Asked]) -> Result<Vec<Condition>, Error> {
    if asked.is_empty() {
        return Err(Error::invalid("A condition must be specified"));
    }
    let mut conditions = Vec::new();
    for condition in asked {
        conditions.push(one(condition)?);
    }
    let fields: Vec<&str> = conditions.iter().map(|condition| parts(condition).0).collect();
    let twice = fields.iter().enumerate().find(|(at, field)| fields[..*at].contains(field));
    if let Some((_, field)) = twice {
        let message = format!("A rule can have one condition of field '{field}' only");
        return Err(Error::invalid(message));
    }
    let values = || conditions.iter().flat_map(|condition| parts(condition).1);
    if values().count() > MOST_VALUES {
        let message = format!("A rule can have at most '{MOST_VALUES}' condition values");
        return Err(Error::invalid(message));
    }
    if values().flat_map(|value| value.bytes()).filter(|b| b"*?".contains(b)).count()
        > MOST_WILDCARDS
    {
        let message = format!("A rule can have at most '{MOST_WILDCARDS}' wildcards");
        return Err(Error::invalid(message));
    }
    Ok(conditions)
}

fn parts(condition: &Condition) -> (&'static str, &[String]) {
    match condition {
        Condition::HostHeader(values) => ("host-header", values),
        Condition::PathPattern(values) => ("path-pattern", values),
    }
}

fn one(asked: &Asked) -> Result<Condition, Error> {
    let Some(field) = asked.field.as_deref() else {
        return Err(Error::invalid("A condition field must be specified"));
    };
    let (config, other) = match field {
        "host-header" => (&asked.host_header_config, &asked.path_pattern_config),
        "path-pattern" => (&asked.path_pattern_config, &asked.host_header_config),
        "http-header" | "http-request-method" | "query-string" | "source-ip" => {
            let message = format!("Condition field '{field}' is not supported here");
            return Err(Error::unsupported(message));
        }
        _ => {
            let message = format!(
                "Condition field '{field}' must be one of '[path-pattern, host-header, \
                 http-header, http-request-method, query-string, source-ip]'"
            );
            return Err(Error::invalid(message));
        }
    };
    if other.is_some() {
        let message = format!("A condition of field '{field}' has another field's configuration");
        return Err(Error::invalid(message));
    }
    let config = config.as_ref().and_then(|config| config.values.as_ref());
    let values = match (asked.values.as_ref(), config) {
        // Answers show both forms, and may come back so.
        (Some(values), Some(config)) if values != config && !values.is_empty() => {
            let message = format!("The values of a '{field}' condition are given twice");
            return Err(Error::invalid(message));
        }
        (_, Some(values)) | (Some(values), None) => values.clone(),
        (None, None) => Vec::new(),
    };
    if values.is_empty() {
        return Err(Error::invalid("A condition value must be specified"));
    }
    let is_host = field == "host-header";
    for value in &values {
        let checked = if is_host { host(value) } else { path(value) };
        checked.map_err(|reason| {
            Error::invalid(format!("The {field} condition value '{value}' {reason}"))
        })?;
    }
    Ok(if is_host { Condition::HostHeader(values) } else { Condition::PathPattern(values) })
}

/// A name with a dot, and nothing but letters and wildcards behind the last one.
fn host(value: &str) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-.*?".contains(&b);
    if !value.bytes().all(known) {
        return Err("has a character that is not valid".to_owned());
    }
    let (_, last) = value.rsplit_once('.').ok_or("must have at least one '.'")?;
    if last.is_empty() || !last.bytes().all(|b| b.is_ascii_alphabetic() || b"*?".contains(&b)) {
        return Err("can have only letters after the last '.'".to_owned());
    }
    Pattern::host(value).map(|_| ()).map_err(|bad| bad.to_string())
}

fn path(value: &str) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_-.$/~\"'@:+&*?".contains(&b);
    if !value.bytes().all(known) {
        return Err("has a character that is not valid".to_owned());
    }
    Pattern::path(value).map(|_| ()).map_err(|bad| bad.to_string())
}

/// As the API shows it: in both forms.
pub(super) fn shown(condition: &Condition) -> Value {
    let (field, values) = parts(condition);
    let config = match condition {
        Condition::HostHeader(_) => "HostHeaderConfig",
        Condition::PathPattern(_) => "PathPatternConfig",
    };
    json!({"Field": field, "Values": values, config: {"Values": values}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &Value, expected: Result<&str, &str>) {
        let read: Vec<Asked> = serde_json::from_value(asked.clone()).unwrap();
        match (meaning(&read), expected) {
            (Ok(conditions), Ok(expected)) => {
                let words = conditions.iter().map(|condition| {
                    let (field, values) = parts(condition);
                    format!("{field} {}", values.join(" "))
                });
                assert_eq!(words.collect::<Vec<_>>().join("; "), expected);
                let shown: Vec<Value> = conditions.iter().map(shown).collect();
                let again: Vec<Asked> = serde_json::from_value(json!(shown)).unwrap();
                assert_eq!(meaning(&again), Ok(conditions));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (outcome, _) => panic!("{asked}: {outcome:?}"),
        }
    }

    #[test]
    fn both_forms_mean_the_same() {
        let old = json!([{"Field": "path-pattern", "Values": ["/a/*"]}]);
        check(&old, Ok("path-pattern /a/*"));
        let new = json!([
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.a.com", "b.c"]}},
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a"]}}]);
        check(&new, Ok("host-header *.a.com b.c; path-pattern /a"));
    }

    #[test]
    fn conditions_keep_to_the_grammar_and_the_limits() {
        let host = |value: &str| json!([{"Field": "host-header", "Values": [value]}]);
        let path = |value: &str| json!([{"Field": "path-pattern", "Values": [value]}]);
        check(&json!([]), Err("A condition must be specified"));
        check(&json!([{"Values": ["/a"]}]), Err("A condition field must be specified"));
        check(&json!([{"Field": "path-pattern"}]), Err("A condition value must be specified"));
        check(&json!([{"Field": "moon", "Values": ["x"]}]), Err("must be one of"));
        check(&json!([{"Field": "source-ip", "Values": ["x"]}]), Err("not supported here"));
        check(&host("localhost"), Err("at least one '.'"));
        check(&host("a.b2"), Err("only letters"));
        check(&host("a_b.com"), Err("not valid"));
        check(&host(&format!("{}.com", "x".repeat(125))), Err("longer than 128"));
        check(&path("/a b"), Err("not valid"));
        check(&path("a"), Err("begins with"));
        check(&path(""), Err("must not be empty"));
        check(&json!([path("/a")[0], path("/b")[0]]), Err("one condition of field"));
        let six: Vec<_> = (0..6).map(|n| format!("/{n}")).collect();
        check(&json!([{"Field": "path-pattern", "Values": six}]), Err("'5' condition values"));
        check(&path("/*/*/*/*/*/*"), Err("'5' wildcards"));
    }
}
