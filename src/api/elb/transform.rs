//! Transforms of rules.
//!
//! Source: the API reference of `RuleTransform`. **Invariant:** what is taken compiles, and what is
//! shown reads back the same.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::Error;
use crate::model::{Action, Rewrite, Transforms};
use crate::rules::check_transforms;

const HOST: &str = "host-header-rewrite";
const URL: &str = "url-rewrite";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    #[serde(rename = "Type")]
    kind: String,
    host_header_rewrite_config: Option<Config>,
    url_rewrite_config: Option<Config>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    rewrites: Option<Vec<Written>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    regex: String,
    replace: String,
}

/// The transforms of one rule.
pub(super) fn meaning(asked: &[Asked]) -> Result<Transforms, Error> {
    let mut transforms = Transforms::default();
    for transform in asked {
        let (host, url) = (&transform.host_header_rewrite_config, &transform.url_rewrite_config);
        let kind = transform.kind.as_str();
        let (config, other, place) = match kind {
            HOST => (host, url, &mut transforms.host_header),
            _ => (url, host, &mut transforms.url),
        };
        if other.is_some() {
            let message = format!("A transform of type '{kind}' has another type's configuration");
            return Err(Error::invalid(message));
        }
        let rewrites = config.as_ref().and_then(|config| config.rewrites.as_deref());
        let [written] = rewrites.unwrap_or_default() else {
            let message = format!("A transform of type '{kind}' needs exactly one rewrite");
            return Err(Error::invalid(message));
        };
        let rewrite = Rewrite { regex: written.regex.clone(), replace: written.replace.clone() };
        if place.replace(rewrite).is_some() {
            let message = format!("A rule can have one transform of type '{kind}' only");
            return Err(Error::invalid(message));
        }
    }
    check_transforms(&transforms).map_err(|(text, reason)| {
        Error::invalid(format!("The transform's text '{text}' {reason}"))
    })?;
    Ok(transforms)
}

/// Only what goes to a target can be changed on its way.
pub(in crate::api) fn fits(transforms: &Transforms, action: &Action) -> Result<(), Error> {
    if transforms.is_empty() || matches!(action, Action::Forward(_)) {
        return Ok(());
    }
    let message = "Transforms are supported here with actions of type 'forward' only";
    Err(Error::unsupported(message))
}

/// As the API shows them; none where there are none.
pub(super) fn shown(transforms: &Transforms) -> Option<Value> {
    let shown = |kind: &str, config: &str, rewrite: &Option<Rewrite>| {
        let Rewrite { regex, replace } = rewrite.as_ref()?;
        let rewrites = json!({"Rewrites": [{"Regex": regex, "Replace": replace}]});
        Some(json!({"Type": kind, config: rewrites}))
    };
    let host = shown(HOST, "HostHeaderRewriteConfig", &transforms.host_header);
    let url = shown(URL, "UrlRewriteConfig", &transforms.url);
    let all: Vec<Value> = host.into_iter().chain(url).collect();
    (!all.is_empty()).then(|| json!(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &Value, expected: Result<(Option<&str>, Option<&str>), &str>) {
        let read: Vec<Asked> = serde_json::from_value(asked.clone()).unwrap();
        match (meaning(&read), expected) {
            (Ok(transforms), Ok(expected)) => {
                let text = |rewrite: &Option<Rewrite>| {
                    rewrite.as_ref().map(|own| format!("{} {}", own.regex, own.replace))
                };
                let (host, url) = (text(&transforms.host_header), text(&transforms.url));
                assert_eq!((host.as_deref(), url.as_deref()), expected, "{asked}");
                let again = shown(&transforms).unwrap_or_else(|| json!([]));
                let again: Vec<Asked> = serde_json::from_value(again).unwrap();
                assert_eq!(meaning(&again), Ok(transforms));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (outcome, _) => panic!("{asked}: {outcome:?}"),
        }
    }

    #[test]
    fn a_rule_rewrites_its_host_and_its_url() {
        let one = |regex: &str| json!({"Rewrites": [{"Regex": regex, "Replace": "x"}]});
        let host = json!({"Type": HOST, "HostHeaderRewriteConfig": one("h")});
        let url = json!({"Type": URL, "UrlRewriteConfig": one("u")});
        check(&json!([]), Ok((None, None)));
        check(&json!([url, host]), Ok((Some("h x"), Some("u x"))));
        check(&json!([url, url]), Err("one transform of type 'url-rewrite'"));
        check(&json!([{"Type": URL}]), Err("exactly one rewrite"));
        check(&json!([{"Type": URL, "HostHeaderRewriteConfig": one("h")}]), Err("another type's"));
        check(&json!([{"Type": URL, "UrlRewriteConfig": one("(")}]), Err("unclosed group"));
    }
}
