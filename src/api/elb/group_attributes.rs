//! The attributes of target groups.
//!
//! Keys, kinds, defaults and values: the API reference of `TargetGroupAttribute`. Those of Lambda
//! functions and of Gateway Load Balancers are not here: such groups are refused.

use std::time::Duration;

use super::attributes::{Attribute, Kept, Table, Values};
use crate::model::{Protocol, TargetGroup};

pub(super) const TABLE: Table<TargetGroup> = Table {
    of: "Target group",
    rows: ROWS,
    stored: |group| &group.options.attributes,
    stored_mut: |group| &mut group.options.attributes,
};

type Default = fn(&TargetGroup) -> Option<&'static str>;

const STICKY: &str = "requests are not bound to targets yet";
const FAIL_OPEN: &str = "traffic goes to unhealthy targets when no target is healthy";
const WEEK: Values = Values::Number(1..=604_800);

const fn row(
    key: &'static str,
    default: Default,
    values: Values,
    kept: Kept<TargetGroup>,
) -> Attribute<TargetGroup> {
    Attribute { key, default, values, kept }
}

fn http(group: &TargetGroup, default: &'static str) -> Option<&'static str> {
    group.protocol.is_http().then_some(default)
}

fn tcp(group: &TargetGroup, default: &'static str) -> Option<&'static str> {
    (group.protocol == Protocol::Tcp).then_some(default)
}

const ROWS: &[Attribute<TargetGroup>] = &[
    row(
        "deregistration_delay.timeout_seconds",
        |_| Some("300"),
        Values::Number(0..=3600),
        Kept::Honoured(
            |group| group.deregistration_delay.as_secs().to_string(),
            |group, value| {
                // Checked before to be a number.
                let seconds = value.parse().unwrap_or_default();
                group.deregistration_delay = Duration::from_secs(seconds);
            },
        ),
    ),
    row("stickiness.enabled", |_| Some("false"), Values::Flag, Kept::Fixed(STICKY)),
    row(
        "stickiness.type",
        |group| http(group, "lb_cookie"),
        Values::OneOf(&["lb_cookie", "app_cookie"]),
        Kept::Stored(STICKY),
    ),
    row(
        "stickiness.type",
        |group| tcp(group, "source_ip"),
        Values::OneOf(&["source_ip"]),
        Kept::Stored(STICKY),
    ),
    row(
        "load_balancing.cross_zone.enabled",
        |_| Some("use_load_balancer_configuration"),
        Values::OneOf(&["true", "false", "use_load_balancer_configuration"]),
        Kept::Stored("this machine is one zone"),
    ),
    row(
        "target_group_health.dns_failover.minimum_healthy_targets.count",
        |_| Some("1"),
        Values::OffOr(1..=1000),
        Kept::Stored("a load balancer's one address is always answered"),
    ),
    row(
        "target_group_health.dns_failover.minimum_healthy_targets.percentage",
        |_| Some("off"),
        Values::OffOr(1..=100),
        Kept::Stored("a load balancer's one address is always answered"),
    ),
    row(
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        |_| Some("1"),
        Values::Number(1..=1000),
        Kept::Fixed(FAIL_OPEN),
    ),
    row(
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        |_| Some("off"),
        Values::OffOr(1..=100),
        Kept::Fixed(FAIL_OPEN),
    ),
    row(
        "load_balancing.algorithm.type",
        |group| http(group, "round_robin"),
        Values::OneOf(&["round_robin", "least_outstanding_requests", "weighted_random"]),
        Kept::Fixed("targets get their turns"),
    ),
    row(
        "load_balancing.algorithm.anomaly_mitigation",
        |group| http(group, "off"),
        Values::OneOf(&["on", "off"]),
        Kept::Fixed("anomalies are not looked for"),
    ),
    row(
        "slow_start.duration_seconds",
        |group| http(group, "0"),
        Values::Number(0..=900),
        Kept::Fixed("a healthy target gets its full share at once"),
    ),
    row(
        "stickiness.app_cookie.cookie_name",
        |group| http(group, ""),
        Values::Text,
        Kept::Stored(STICKY),
    ),
    row(
        "stickiness.app_cookie.duration_seconds",
        |group| http(group, "86400"),
        WEEK,
        Kept::Stored(STICKY),
    ),
    row(
        "stickiness.lb_cookie.duration_seconds",
        |group| http(group, "86400"),
        WEEK,
        Kept::Stored(STICKY),
    ),
    row(
        "deregistration_delay.connection_termination.enabled",
        |group| tcp(group, "false"),
        Values::Flag,
        Kept::Fixed("what becomes of connections at the end of the delay cannot be chosen"),
    ),
    row(
        "preserve_client_ip.enabled",
        |group| tcp(group, "false"),
        Values::Flag,
        Kept::Fixed("targets see the load balancer's address"),
    ),
    row(
        "proxy_protocol_v2.enabled",
        |group| tcp(group, "false"),
        Values::Flag,
        Kept::Fixed("no PROXY header is sent yet"),
    ),
    row(
        "target_health_state.unhealthy.connection_termination.enabled",
        |group| tcp(group, "true"),
        Values::Flag,
        Kept::Fixed("what becomes of connections to unhealthy targets cannot be chosen"),
    ),
    row(
        "target_health_state.unhealthy.draining_interval_seconds",
        |group| tcp(group, "0"),
        Values::Number(0..=360_000),
        Kept::Fixed("an unhealthy target gets nothing new at once"),
    ),
];

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::attributes::Given;
    use super::super::attributes::tests::keeps_to_the_rules;
    use super::*;
    use crate::model::{DEREGISTRATION_DELAY, GroupOptions, HealthCheck, Owner};

    pub(in crate::api::elb) fn group(protocol: Protocol) -> TargetGroup {
        TargetGroup {
            name: "web".into(),
            id: "0123456789abcdef".into(),
            protocol,
            port: 80,
            health_check: HealthCheck::defaults(protocol),
            deregistration_delay: DEREGISTRATION_DELAY,
            owner: Owner::Api,
            options: GroupOptions::default(),
        }
    }

    fn check(protocol: Protocol, key: &str, value: &str, expected: Result<(), &str>) {
        let mut row = group(protocol);
        let given = json!([{"Key": key, "Value": value}]);
        let given: Vec<Given> = serde_json::from_value(given).unwrap();
        match (TABLE.modify(&mut row, &given), expected) {
            (Ok(()), Ok(())) => {
                let shown = TABLE.shown(&row);
                assert!(shown.contains(&json!({"Key": key, "Value": value})), "{shown:?}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{key}: {error}"),
            (outcome, _) => panic!("{key}={value}: {outcome:?}"),
        }
    }

    #[test]
    fn every_attribute_is_of_some_kind_and_has_a_good_default() {
        keeps_to_the_rules(&TABLE, &[group(Protocol::Http), group(Protocol::Tcp)]);
    }

    #[test]
    fn attributes_are_honoured_kept_or_refused() {
        let delay = "deregistration_delay.timeout_seconds";
        check(Protocol::Http, delay, "0", Ok(()));
        check(Protocol::Http, delay, "3601", Err("between 0 and 3600"));
        check(Protocol::Http, "stickiness.type", "app_cookie", Ok(()));
        check(Protocol::Tcp, "stickiness.type", "source_ip", Ok(()));
        check(Protocol::Tcp, "stickiness.type", "lb_cookie", Err("must be one of"));
        check(Protocol::Http, "stickiness.enabled", "true", Err("can only be 'false' here"));
        check(Protocol::Tcp, "slow_start.duration_seconds", "0", Err("not supported for this"));
        check(Protocol::Tcp, "proxy_protocol_v2.enabled", "true", Err("no PROXY header"));
    }
}
