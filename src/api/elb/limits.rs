//! Elastic Load Balancing's ranges and quotas, for both fronts, and what of them an account may
//! ask for.
//!
//! Sources: the guides' pages on quotas, and the API reference. **Invariant:** what
//! `DescribeAccountLimits` shows is enforced.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::marker;
use crate::api::call::{Call, Input, Outcome};
use crate::api::page::page;
use crate::model::Pool;

/// Listeners of one load balancer.
pub(in crate::api) const MOST_LISTENERS: usize = 50;
/// Rules of one load balancer, default actions not counted.
pub(in crate::api) const MOST_RULES: usize = 100;
/// Values of all conditions of one rule.
pub(in crate::api) const MOST_VALUES: usize = 5;
/// Wildcards in one rule.
pub(in crate::api) const MOST_WILDCARDS: usize = 6;
/// Target groups of one action.
pub(in crate::api) const MOST_GROUPS: usize = 5;
/// The greatest weight of a target group in an action.
pub(in crate::api) const MOST_WEIGHT: u32 = 999;
/// Times that a client stays with a target group, in seconds.
pub(in crate::api) const STICKY_SECONDS: RangeInclusive<u64> = 1..=604_800;
/// Headers that a listener may put into responses.
pub(in crate::api) const INSERTED: [&str; 10] = [
    "Strict-Transport-Security",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
];
/// A value of such a header, in bytes.
pub(in crate::api) const LONGEST_VALUE: usize = 1024;
/// A fixed response's body, in bytes.
pub(in crate::api) const LARGEST_BODY: usize = 1024;
/// Priorities of rules.
pub(in crate::api) const PRIORITIES: RangeInclusive<u32> = 1..=50_000;
/// What a fixed response may be.
pub(in crate::api) const CONTENT_TYPES: [&str; 5] =
    ["text/plain", "text/css", "text/html", "application/javascript", "application/json"];
/// Certificates of one load balancer beside its listeners' default ones.
pub(in crate::api) const MOST_CERTIFICATES: usize = 25;
/// Target groups of one region.
pub(super) const MOST_TARGET_GROUPS: usize = 3000;
/// Targets of one target group.
pub(super) const MOST_TARGETS: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    marker: Option<String>,
    page_size: Option<usize>,
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Asked = input.read()?;
    let all = limits(call.api.addresses);
    let size = asked.page_size.unwrap_or(all.len());
    let (page, next) =
        page(all, |limit| limit.0.to_owned(), asked.marker.as_deref(), size).map_err(marker)?;
    let shown = |(name, max): &(&str, usize)| json!({"Name": name, "Max": max.to_string()});
    let limits: Vec<Value> = page.iter().map(shown).collect();
    Ok(json!({"Limits": limits, "NextMarker": next}))
}

/// Ascending by name. A load balancer has an address, so there are as many as addresses.
fn limits(pool: Pool) -> Vec<(&'static str, usize)> {
    let addresses = pool.addresses().count();
    vec![
        ("application-load-balancers", addresses),
        ("certificates-per-application-load-balancer", MOST_CERTIFICATES),
        ("condition-values-per-alb-rule", MOST_VALUES),
        ("condition-wildcards-per-alb-rule", MOST_WILDCARDS),
        ("listeners-per-application-load-balancer", MOST_LISTENERS),
        ("listeners-per-network-load-balancer", MOST_LISTENERS),
        ("network-load-balancers", addresses),
        ("rules-per-application-load-balancer", MOST_RULES),
        ("target-groups", MOST_TARGET_GROUPS),
        ("target-groups-per-action-on-application-load-balancer", MOST_GROUPS),
        ("target-groups-per-action-on-network-load-balancer", MOST_GROUPS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_ascend_by_name() {
        let limits = limits("127.0.10.0/24".parse().unwrap());
        assert!(limits.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(limits[0], ("application-load-balancers", 254));
    }
}
