//! The named TLS policies, as Elastic Load Balancing documents them.
//!
//! Source: the guide's "Security policies for your Application Load Balancer". No listener uses
//! one yet. Not here: the FIPS ones.

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::marker;
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;

const TLS13: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const FORWARD_GCM: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
];
const FORWARD_SHA2: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
];
const FORWARD_SHA1: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES256-SHA",
];
const RSA_SHA2: &[&str] =
    &["AES128-GCM-SHA256", "AES128-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"];
const RSA_SHA1: &[&str] = &["AES128-SHA", "AES256-SHA"];

/// One policy: the name behind `ELBSecurityPolicy-`, its oldest and newest protocol, its ciphers.
struct Policy {
    name: &'static str,
    protocols: &'static [&'static str],
    ciphers: &'static [&'static [&'static str]],
}

const V1_3: &[&str] = &["TLSv1.3"];
const V1_2: &[&str] = &["TLSv1.2"];
const V1_2_3: &[&str] = &["TLSv1.2", "TLSv1.3"];
const V1_1_2: &[&str] = &["TLSv1.1", "TLSv1.2"];
const V1_0_2: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2"];
const V1_1_3: &[&str] = &["TLSv1.1", "TLSv1.2", "TLSv1.3"];
const V1_0_3: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

const EVERY: &[&[&str]] = &[FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1, RSA_SHA2, RSA_SHA1];
const EVERY_13: &[&[&str]] = &[TLS13, FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1, RSA_SHA2, RSA_SHA1];
const FORWARD: &[&[&str]] = &[FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1];

const fn policy(
    name: &'static str,
    protocols: &'static [&'static str],
    ciphers: &'static [&'static [&'static str]],
) -> Policy {
    Policy { name, protocols, ciphers }
}

/// Ascending by name.
const POLICIES: &[Policy] = &[
    policy("2016-08", V1_0_2, EVERY),
    policy("FS-1-1-2019-08", V1_1_2, FORWARD),
    policy("FS-1-2-2019-08", V1_2, FORWARD),
    policy("FS-1-2-Res-2019-08", V1_2, &[FORWARD_GCM, FORWARD_SHA2]),
    policy("FS-1-2-Res-2020-10", V1_2, &[FORWARD_GCM]),
    policy("FS-2018-06", V1_0_2, FORWARD),
    policy("TLS-1-1-2017-01", V1_1_2, EVERY),
    policy("TLS-1-2-2017-01", V1_2, &[FORWARD_GCM, FORWARD_SHA2, RSA_SHA2]),
    policy("TLS-1-2-Ext-2018-06", V1_2, EVERY),
    policy("TLS13-1-0-2021-06", V1_0_3, EVERY_13),
    policy("TLS13-1-1-2021-06", V1_1_3, EVERY_13),
    policy("TLS13-1-2-2021-06", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2]),
    policy("TLS13-1-2-Ext1-2021-06", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2, RSA_SHA2]),
    policy("TLS13-1-2-Ext2-2021-06", V1_2_3, EVERY_13),
    policy("TLS13-1-2-PQ-2025-09", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2]),
    policy("TLS13-1-2-Res-2021-06", V1_2_3, &[TLS13, FORWARD_GCM]),
    policy("TLS13-1-2-Res-PQ-2025-09", V1_2_3, &[TLS13, FORWARD_GCM]),
    policy("TLS13-1-3-2021-06", V1_3, &[TLS13]),
    policy("TLS13-1-3-PQ-2025-09", V1_3, &[TLS13]),
];

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
        for name in names {
            if !policies.iter().any(|policy| full(policy) == *name) {
                let message = format!("SSL policy '{name}' not found");
                return Err(Error::new("SSLPolicyNotFoundException", message));
            }
        }
        policies.retain(|policy| names.contains(&full(policy)));
    }
    if asked.load_balancer_type.as_deref() == Some("gateway") {
        policies.clear();
    }
    let size = asked.page_size.unwrap_or(POLICIES.len());
    let (policies, next) =
        page(policies, |policy| full(policy), asked.marker.as_deref(), size).map_err(marker)?;
    let shown: Vec<Value> = policies.into_iter().map(shown).collect();
    Ok(json!({"SslPolicies": shown, "NextMarker": next}))
}

fn full(policy: &Policy) -> String {
    format!("ELBSecurityPolicy-{}", policy.name)
}

fn shown(policy: &Policy) -> Value {
    let ciphers = policy.ciphers.iter().copied().flatten().zip(1..);
    let ciphers = ciphers.map(|(name, priority)| json!({"Name": name, "Priority": priority}));
    json!({
        "Name": full(policy),
        "SslProtocols": policy.protocols,
        "Ciphers": ciphers.collect::<Vec<_>>(),
        "SupportedLoadBalancerTypes": ["application", "network"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_ascend_by_name_and_name_no_cipher_twice() {
        assert!(POLICIES.is_sorted_by(|a, b| a.name < b.name));
        for policy in POLICIES {
            let ciphers: Vec<_> = policy.ciphers.iter().copied().flatten().collect();
            let unique: std::collections::BTreeSet<_> = ciphers.iter().collect();
            assert_eq!(ciphers.len(), unique.len(), "{}", policy.name);
        }
    }
}
