//! Conditions of rules, in both of their forms.
//!
//! Grammar and limits beyond those that compiling has (`rules`): the API reference of
//! `RuleCondition`. **Invariant:** what is taken compiles, and what is shown reads back the same.

use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::{MOST_VALUES, MOST_WILDCARDS};
use crate::api::error::Error;
use crate::model::{Condition, QueryValue};
use crate::rules::{Weight, weigh};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    field: Option<String>,
    values: Option<Vec<String>>,
    regex_values: Option<Vec<String>>,
    host_header_config: Option<Config>,
    path_pattern_config: Option<Config>,
    http_header_config: Option<Header>,
    http_request_method_config: Option<Values>,
    query_string_config: Option<Query>,
    source_ip_config: Option<Values>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    values: Option<Vec<String>>,
    regex_values: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Header {
    http_header_name: Option<String>,
    values: Option<Vec<String>>,
    regex_values: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Values {
    values: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    values: Option<Vec<Pair>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: Option<String>,
    value: Option<String>,
}

/// Patterns, or regular expressions.
enum Either {
    Patterns(Vec<String>),
    Regexes(Vec<String>),
}

/// The conditions of one rule.
pub(super) fn meaning(asked: &[Asked]) -> Result<Vec<Condition>, Error> {
    if asked.is_empty() {
        return Err(Error::invalid("A condition must be specified"));
    }
    let conditions = asked.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut total = Weight::default();
    for (at, condition) in conditions.iter().enumerate() {
        let field = field(condition);
        let many = matches!(field, "http-header" | "query-string");
        if !many && conditions[..at].iter().any(|other| self::field(other) == field) {
            let message = format!("A rule can have one condition of field '{field}' only");
            return Err(Error::invalid(message));
        }
        let weight = weigh(condition).map_err(|(value, reason)| {
            Error::invalid(format!("The {field} condition value '{value}' {reason}"))
        })?;
        total.values += weight.values;
        total.wildcards += weight.wildcards;
    }
    if total.values > MOST_VALUES {
        let message = format!("A rule can have at most '{MOST_VALUES}' condition values");
        return Err(Error::invalid(message));
    }
    if total.wildcards > MOST_WILDCARDS {
        let message = format!("A rule can have at most '{MOST_WILDCARDS}' wildcards");
        return Err(Error::invalid(message));
    }
    Ok(conditions)
}

const fn field(condition: &Condition) -> &'static str {
    match condition {
        Condition::HostHeader(_) | Condition::HostRegex(_) => "host-header",
        Condition::PathPattern(_) | Condition::PathRegex(_) => "path-pattern",
        Condition::HttpHeader { .. } | Condition::HeaderRegex { .. } => "http-header",
        Condition::HttpRequestMethod(_) => "http-request-method",
        Condition::QueryString(_) => "query-string",
        Condition::SourceIp(_) => "source-ip",
    }
}

fn one(asked: &Asked) -> Result<Condition, Error> {
    let Some(field) = asked.field.as_deref() else {
        return Err(Error::invalid("A condition field must be specified"));
    };
    let there = [
        ("host-header", asked.host_header_config.is_some()),
        ("path-pattern", asked.path_pattern_config.is_some()),
        ("http-header", asked.http_header_config.is_some()),
        ("http-request-method", asked.http_request_method_config.is_some()),
        ("query-string", asked.query_string_config.is_some()),
        ("source-ip", asked.source_ip_config.is_some()),
    ];
    if !there.iter().any(|(known, _)| *known == field) {
        let message = format!(
            "Condition field '{field}' must be one of '[path-pattern, host-header, \
             http-header, http-request-method, query-string, source-ip]'"
        );
        return Err(Error::invalid(message));
    }
    if there.iter().any(|(other, there)| *there && *other != field) {
        let message = format!("A condition of field '{field}' has another field's configuration");
        return Err(Error::invalid(message));
    }
    let plain = asked.values.is_some() || asked.regex_values.is_some();
    if plain && !matches!(field, "host-header" | "path-pattern") {
        let message = format!("The values of a '{field}' condition belong in its configuration");
        return Err(Error::invalid(message));
    }
    match field {
        "host-header" => Ok(match either(field, asked, asked.host_header_config.as_ref())? {
            Either::Patterns(values) => {
                values.iter().try_for_each(|value| host(value))?;
                Condition::HostHeader(values)
            }
            Either::Regexes(values) => Condition::HostRegex(values),
        }),
        "path-pattern" => Ok(match either(field, asked, asked.path_pattern_config.as_ref())? {
            Either::Patterns(values) => {
                values.iter().try_for_each(|value| path(value))?;
                Condition::PathPattern(values)
            }
            Either::Regexes(values) => Condition::PathRegex(values),
        }),
        "http-header" => header(asked.http_header_config.as_ref()),
        "http-request-method" => {
            Ok(Condition::HttpRequestMethod(some(asked.http_request_method_config.as_ref())?))
        }
        "query-string" => query(asked.query_string_config.as_ref()),
        _ => Ok(Condition::SourceIp(some(asked.source_ip_config.as_ref())?)),
    }
}

fn no_value() -> Error {
    Error::invalid("A condition value must be specified")
}

fn some(config: Option<&Values>) -> Result<Vec<String>, Error> {
    let values = config.and_then(|config| config.values.clone()).unwrap_or_default();
    if values.is_empty() { Err(no_value()) } else { Ok(values) }
}

/// The values of a field that has an old and a new form.
fn either(field: &str, asked: &Asked, config: Option<&Config>) -> Result<Either, Error> {
    let patterns = config.and_then(|config| config.values.as_ref());
    let regexes = config.and_then(|config| config.regex_values.as_ref());
    patterns_or_regexes(
        field,
        same(field, asked.values.as_ref(), patterns)?,
        same(field, asked.regex_values.as_ref(), regexes)?,
    )
}

/// Answers show both forms, and may come back so.
fn same(
    field: &str,
    plain: Option<&Vec<String>>,
    config: Option<&Vec<String>>,
) -> Result<Vec<String>, Error> {
    match (plain, config) {
        (Some(plain), Some(config)) if plain != config && !plain.is_empty() => {
            let message = format!("The values of a '{field}' condition are given twice");
            Err(Error::invalid(message))
        }
        (_, Some(values)) | (Some(values), None) => Ok(values.clone()),
        (None, None) => Ok(Vec::new()),
    }
}

fn patterns_or_regexes(
    field: &str,
    patterns: Vec<String>,
    regexes: Vec<String>,
) -> Result<Either, Error> {
    match (patterns.is_empty(), regexes.is_empty()) {
        (true, true) => Err(no_value()),
        (false, true) => Ok(Either::Patterns(patterns)),
        (true, false) => Ok(Either::Regexes(regexes)),
        (false, false) => {
            let message = format!("A '{field}' condition has either values or regular expressions");
            Err(Error::invalid(message))
        }
    }
}

fn header(config: Option<&Header>) -> Result<Condition, Error> {
    let Some(Header { http_header_name: Some(name), values, regex_values }) = config else {
        return Err(Error::invalid("A condition HTTP header name must be specified"));
    };
    let (patterns, regexes) = (values.clone(), regex_values.clone());
    let (patterns, regexes) = (patterns.unwrap_or_default(), regexes.unwrap_or_default());
    let name = name.clone();
    Ok(match patterns_or_regexes("http-header", patterns, regexes)? {
        Either::Patterns(values) => Condition::HttpHeader { name, values },
        Either::Regexes(values) => Condition::HeaderRegex { name, values },
    })
}

fn query(config: Option<&Query>) -> Result<Condition, Error> {
    let pairs = config.and_then(|config| config.values.as_deref()).unwrap_or_default();
    let pair = |pair: &Pair| {
        let value = pair.value.clone().ok_or_else(no_value)?;
        Ok(QueryValue { key: pair.key.clone(), value })
    };
    let values = pairs.iter().map(pair).collect::<Result<Vec<_>, Error>>()?;
    if values.is_empty() { Err(no_value()) } else { Ok(Condition::QueryString(values)) }
}

/// A name with a dot, and nothing but letters and wildcards behind the last one.
fn host(value: &str) -> Result<(), Error> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-.*?".contains(&b);
    let last = value.rsplit_once('.').map(|(_, last)| last);
    let reason = match last {
        _ if !value.bytes().all(known) => "has a character that is not valid",
        None => "must have at least one '.'",
        Some(last)
            if last.is_empty()
                || !last.bytes().all(|b| b.is_ascii_alphabetic() || b"*?".contains(&b)) =>
        {
            "can have only letters after the last '.'"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::invalid(format!("The host-header condition value '{value}' {reason}")))
}

fn path(value: &str) -> Result<(), Error> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_-.$/~\"'@:+&*?".contains(&b);
    if value.bytes().all(known) {
        return Ok(());
    }
    let message =
        format!("The path-pattern condition value '{value}' has a character that is not valid");
    Err(Error::invalid(message))
}

/// As the API shows it: in both forms, where there are two.
pub(super) fn shown(condition: &Condition) -> Value {
    let field = field(condition);
    match condition {
        Condition::HostHeader(values) => {
            json!({"Field": field, "Values": values, "HostHeaderConfig": {"Values": values}})
        }
        Condition::PathPattern(values) => {
            json!({"Field": field, "Values": values, "PathPatternConfig": {"Values": values}})
        }
        Condition::HostRegex(values) => json!({
            "Field": field, "RegexValues": values, "HostHeaderConfig": {"RegexValues": values}}),
        Condition::PathRegex(values) => json!({
            "Field": field, "RegexValues": values, "PathPatternConfig": {"RegexValues": values}}),
        Condition::HttpHeader { name, values } => json!({
            "Field": field, "HttpHeaderConfig": {"HttpHeaderName": name, "Values": values}}),
        Condition::HeaderRegex { name, values } => json!({
            "Field": field, "HttpHeaderConfig": {"HttpHeaderName": name, "RegexValues": values}}),
        Condition::HttpRequestMethod(values) => {
            json!({"Field": field, "HttpRequestMethodConfig": {"Values": values}})
        }
        Condition::QueryString(values) => {
            let pair = |pair: &QueryValue| json!({"Key": pair.key, "Value": pair.value});
            let values: Vec<_> = values.iter().map(pair).collect();
            json!({"Field": field, "QueryStringConfig": {"Values": values}})
        }
        Condition::SourceIp(values) => {
            json!({"Field": field, "SourceIpConfig": {"Values": values}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &Value, expected: Result<&str, &str>) {
        let read: Vec<Asked> = serde_json::from_value(asked.clone()).unwrap();
        match (meaning(&read), expected) {
            (Ok(conditions), Ok(expected)) => {
                let words = conditions.iter().map(crate::api::file::condition_words);
                assert_eq!(words.collect::<Vec<_>>().join(" and "), expected);
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
        check(&old, Ok("path /a/*"));
        let new = json!([
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.a.com", "b.c"]}},
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a"]}}]);
        check(&new, Ok("host *.a.com or b.c and path /a"));
    }

    #[test]
    fn every_field_has_its_configuration() {
        let header = |part: &str, values: &[&str]| {
            json!([{"Field": "http-header",
                "HttpHeaderConfig": {"HttpHeaderName": "X-A", part: values}}])
        };
        check(&header("Values", &["b", "c*"]), Ok("header X-A b or c*"));
        check(&header("RegexValues", &["^b"]), Ok("header X-A ~^b"));
        check(&header("Values", &[]), Err("value must be specified"));
        let no_name = json!([{"Field": "http-header", "HttpHeaderConfig": {"Values": ["a"]}}]);
        check(&no_name, Err("header name must be specified"));
        let method = |method: &str| {
            json!([{"Field": "http-request-method",
                "HttpRequestMethodConfig": {"Values": [method]}}])
        };
        check(&method("GET"), Ok("method GET"));
        check(&method("get"), Err("A to Z"));
        let query = json!([
            {"Field": "query-string", "QueryStringConfig": {"Values": [
                {"Key": "a", "Value": "1"}, {"Value": "*x*"}]}},
            {"Field": "query-string", "QueryStringConfig": {"Values": [{"Value": "y"}]}}]);
        check(&query, Ok("query a=1 or *x* and query y"));
        let no_value = json!([{"Field": "query-string",
            "QueryStringConfig": {"Values": [{"Key": "a"}]}}]);
        check(&no_value, Err("value must be specified"));
        let source = |network: &str| {
            let config = json!({"Values": [network]});
            json!([{"Field": "source-ip", "SourceIpConfig": config}])
        };
        check(&source("10.0.0.0/8"), Ok("source 10.0.0.0/8"));
        check(&source("10.0.0.1"), Err("network"));
        let regex = json!([{"Field": "path-pattern",
            "PathPatternConfig": {"RegexValues": ["^/v[0-9]"]}}]);
        check(&regex, Ok("path ~^/v[0-9]"));
        let plain = json!([{"Field": "host-header", "RegexValues": ["^a"]}]);
        check(&plain, Ok("host ~^a"));
        let both = json!([{"Field": "host-header",
            "HostHeaderConfig": {"Values": ["a.b"], "RegexValues": ["^a"]}}]);
        check(&both, Err("either values or regular expressions"));
        let two = json!([{"Field": "host-header", "Values": ["a.b"]},
            {"Field": "host-header", "RegexValues": ["^a"]}]);
        check(&two, Err("one condition of field 'host-header'"));
        let other = json!([{"Field": "host-header", "SourceIpConfig": {"Values": ["::/0"]}}]);
        check(&other, Err("another field's"));
    }

    #[test]
    fn conditions_keep_to_the_grammar_and_the_limits() {
        let host = |value: &str| json!([{"Field": "host-header", "Values": [value]}]);
        let path = |value: &str| json!([{"Field": "path-pattern", "Values": [value]}]);
        check(&json!([]), Err("A condition must be specified"));
        check(&json!([{"Values": ["/a"]}]), Err("A condition field must be specified"));
        check(&json!([{"Field": "path-pattern"}]), Err("A condition value must be specified"));
        check(&json!([{"Field": "moon", "Values": ["x"]}]), Err("must be one of"));
        check(&json!([{"Field": "source-ip", "Values": ["x"]}]), Err("belong in its"));
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
        check(&path("/*/*/*/*/*/*"), Ok("path /*/*/*/*/*/*"));
        check(&path("/*/*/*/*/*/*/*"), Err("'6' wildcards"));
    }
}
