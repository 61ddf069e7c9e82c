//! Account settings: what is fixed here, shown as it is.
//!
//! **Invariant:** what cannot be had is refused; asking for what already is succeeds.

use serde::Deserialize;
use serde_json::{Value, json};

use super::names;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;

/// ECS's settings as they are here.
const SETTINGS: &[(&str, &str)] = &[
    ("awsvpcTrunking", "disabled"),
    ("containerInsights", "disabled"),
    ("containerInstanceLongArnFormat", "enabled"),
    ("defaultLogDriverMode", "blocking"),
    ("fargateFIPSMode", "disabled"),
    ("fargateTaskRetirementWaitPeriod", "7"),
    ("guardDutyActivate", "off"),
    ("serviceLongArnFormat", "enabled"),
    ("tagResourceAuthorization", "off"),
    ("taskLongArnFormat", "enabled"),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListSettings {
    name: Option<String>,
    value: Option<String>,
    #[serde(default)]
    effective_settings: bool,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct PutSetting {
    name: String,
    value: String,
}

fn setting(call: &Call, name: &str, value: &str) -> Value {
    let root = format!("arn:aws:iam::{}:root", call.account().id);
    json!({ "name": name, "value": value, "principalArn": root })
}

/// Nothing can be set to anything else than it is.
pub(super) fn put_setting(call: &Call, input: Input) -> Outcome {
    let asked: PutSetting = input.read()?;
    let known = SETTINGS.iter().find(|(name, _)| *name == asked.name);
    let is_so = |value: &str| match asked.value.as_str() {
        "on" => value == "enabled" || value == "on",
        wanted => value == wanted,
    };
    match known {
        Some((name, value)) if is_so(value) => Ok(json!({ "setting": setting(call, name, value) })),
        _ => {
            let message = format!("{} cannot be {:?} here", asked.name, asked.value);
            Err(Error::unsupported(message))
        }
    }
}

/// What nobody has set stays as it is.
pub(super) fn delete_setting(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    struct Asked {
        name: String,
    }
    let asked: Asked = input.read()?;
    match SETTINGS.iter().find(|(name, _)| *name == asked.name) {
        Some((name, value)) => Ok(json!({ "setting": setting(call, name, value) })),
        None => Err(Error::unsupported(format!("{} is no setting here", asked.name))),
    }
}

/// Set by nobody, so without `effectiveSettings` there are none.
pub(super) fn list_settings(call: &Call, input: Input) -> Outcome {
    let asked: ListSettings = input.read()?;
    let wanted = |(name, value): &&(&str, &str)| {
        asked.effective_settings
            && asked.name.as_deref().is_none_or(|wanted| wanted == *name)
            && asked.value.as_deref().is_none_or(|wanted| wanted == *value)
    };
    let all = SETTINGS.iter().filter(wanted);
    let token = asked.next_token.as_deref();
    let most = asked.max_results.filter(|most| *most != 0);
    let (page, next) = names::page(all, |(name, _)| (*name).to_owned(), token, most, 10)?;
    let settings: Vec<_> =
        page.into_iter().map(|(name, value)| setting(call, name, value)).collect();
    Ok(json!({ "settings": settings, "nextToken": next }))
}
