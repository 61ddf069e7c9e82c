//! The named security policies.
//!
//! Not here: their table, and what of each is offered (`tls::policy`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::marker;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::tls::Policy;
use crate::tls::policy::POLICIES;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    names: Option<Vec<String>>,
    load_balancer_type: Option<String>,
    marker: Option<String>,
    page_size: Option<usize>,
}

pub(super) fn describe(_call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    let mut policies: Vec<&Policy> = POLICIES.iter().collect();
    if let Some(names) = &asked.names {
        names.iter().try_for_each(|name| known(name))?;
        policies.retain(|policy| names.contains(&policy.full_name()));
    }
    if asked.load_balancer_type.as_deref() == Some("gateway") {
        policies.clear();
    }
    let size = asked.page_size.unwrap_or(POLICIES.len());
    let (policies, next) =
        page(policies, |policy| policy.full_name(), asked.marker.as_deref(), size)
            .map_err(marker)?;
    let shown: Vec<Value> = policies.into_iter().map(shown).collect();
    Ok(json!({"SslPolicies": shown, "NextMarker": next}))
}

/// Refuses a name that is no policy's.
pub(super) fn known(name: &str) -> Result<(), Error> {
    if Policy::find(name).is_some() {
        return Ok(());
    }
    Err(Error::new("SSLPolicyNotFoundException", format!("SSL policy '{name}' not found")))
}

fn shown(policy: &Policy) -> Value {
    let ciphers = policy.ciphers().zip(1..);
    let ciphers = ciphers.map(|(name, priority)| json!({"Name": name, "Priority": priority}));
    json!({
        "Name": policy.full_name(),
        "SslProtocols": policy.protocols,
        "Ciphers": ciphers.collect::<Vec<_>>(),
        "SupportedLoadBalancerTypes": ["application", "network"],
    })
}
