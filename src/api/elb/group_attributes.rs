//! The attributes of target groups.
//!
//! Keys, kinds, defaults and values: the API reference of `TargetGroupAttribute`. Those of Lambda
//! functions and of Gateway Load Balancers are not here: such groups are refused.

use std::time::Duration;

use super::attributes::{Attribute, Kept, Table, Values};
use crate::model::{Algorithm, GroupRouting, Protocol, StickinessKind, TargetGroup};

pub(super) const TABLE: Table<TargetGroup> = Table {
    of: "Target group",
    rows: ROWS,
    stored: |group| &group.options.attributes,
    stored_mut: |group| &mut group.options.attributes,
};

type Default = fn(&TargetGroup) -> Option<&'static str>;

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

/// Checked before to be one.
fn number(value: &str) -> u32 {
    value.parse().unwrap_or_default()
}

fn seconds(value: &str) -> Duration {
    Duration::from_secs(number(value).into())
}

/// What is wrong with the attributes of one group together.
pub(in crate::api) fn together(routing: &GroupRouting) -> Result<(), &'static str> {
    let (slow, sticky) = (!routing.slow_start.is_zero(), &routing.stickiness);
    match routing.algorithm {
        Algorithm::LeastOutstandingRequests if slow => {
            Err("Slow start cannot be used with the algorithm 'least_outstanding_requests'")
        }
        Algorithm::WeightedRandom if slow => {
            Err("Slow start cannot be used with the algorithm 'weighted_random'")
        }
        Algorithm::PeakEwma if slow => {
            Err("Slow start cannot be used with the algorithm 'peak_ewma'")
        }
        Algorithm::WeightedRandom if sticky.enabled => {
            Err("Stickiness cannot be used with the algorithm 'weighted_random'")
        }
        algorithm if routing.anomaly_mitigation && algorithm != Algorithm::WeightedRandom => {
            Err("Anomaly mitigation needs the algorithm 'weighted_random'")
        }
        _ if sticky.enabled && sticky.kind == StickinessKind::AppCookie => {
            cookie_name(&sticky.cookie_name)
        }
        _ => Ok(()),
    }
}

/// RFC 6265's tokens, and none of ALB's own names.
fn cookie_name(name: &str) -> Result<(), &'static str> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
        return Err("The application's cookie name must be 1 to 256 letters, digits and signs");
    }
    if ["AWSALB", "AWSALBAPP", "AWSALBTG"].iter().any(|own| name.starts_with(own)) {
        return Err("The application's cookie name must not begin with AWSALB");
    }
    Ok(())
}

const ROWS: &[Attribute<TargetGroup>] = &[
    row(
        "deregistration_delay.timeout_seconds",
        |_| Some("300"),
        Values::Number(0..=3600),
        Kept::Honoured(
            |group| group.deregistration_delay.as_secs().to_string(),
            |group, value| group.deregistration_delay = seconds(value),
        ),
    ),
    row(
        "stickiness.enabled",
        |group| http(group, "false"),
        Values::Flag,
        Kept::Honoured(
            |group| group.options.routing.stickiness.enabled.to_string(),
            |group, value| group.options.routing.stickiness.enabled = value == "true",
        ),
    ),
    row(
        "stickiness.enabled",
        |group| tcp(group, "false"),
        Values::Flag,
        Kept::Fixed("flows are not bound to targets yet"),
    ),
    row(
        "stickiness.type",
        |group| http(group, "lb_cookie"),
        Values::OneOf(&["lb_cookie", "app_cookie"]),
        Kept::Honoured(
            |group| match group.options.routing.stickiness.kind {
                StickinessKind::LbCookie => "lb_cookie".to_owned(),
                StickinessKind::AppCookie => "app_cookie".to_owned(),
            },
            |group, value| {
                let app = value == "app_cookie";
                group.options.routing.stickiness.kind =
                    if app { StickinessKind::AppCookie } else { StickinessKind::LbCookie };
            },
        ),
    ),
    row(
        "stickiness.type",
        |group| tcp(group, "source_ip"),
        Values::OneOf(&["source_ip"]),
        Kept::Stored("flows are not bound to targets yet"),
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
        Kept::Honoured(
            |group| group.options.routing.minimum_healthy.to_string(),
            |group, value| group.options.routing.minimum_healthy = number(value),
        ),
    ),
    row(
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        |_| Some("off"),
        Values::OffOr(1..=100),
        Kept::Honoured(
            |group| {
                let percent = group.options.routing.minimum_healthy_percent;
                percent.map_or_else(|| "off".to_owned(), |percent| percent.to_string())
            },
            |group, value| {
                group.options.routing.minimum_healthy_percent =
                    (value != "off").then(|| number(value));
            },
        ),
    ),
    row(
        "load_balancing.algorithm.type",
        |group| http(group, "round_robin"),
        Values::OneOf(&["round_robin", "least_outstanding_requests", "weighted_random"]),
        Kept::Honoured(
            |group| group.options.routing.algorithm.as_str().to_owned(),
            |group, value| {
                let found = Algorithm::ALL.into_iter().find(|own| own.as_str() == value);
                group.options.routing.algorithm = found.unwrap_or_default();
            },
        ),
    ),
    row(
        "load_balancing.algorithm.anomaly_mitigation",
        |group| http(group, "off"),
        Values::OneOf(&["on", "off"]),
        Kept::Honoured(
            |group| {
                let on = group.options.routing.anomaly_mitigation;
                if on { "on" } else { "off" }.to_owned()
            },
            |group, value| group.options.routing.anomaly_mitigation = value == "on",
        ),
    ),
    row(
        "slow_start.duration_seconds",
        |group| http(group, "0"),
        Values::ZeroOr(30..=900),
        Kept::Honoured(
            |group| group.options.routing.slow_start.as_secs().to_string(),
            |group, value| group.options.routing.slow_start = seconds(value),
        ),
    ),
    row(
        "stickiness.app_cookie.cookie_name",
        |group| http(group, ""),
        Values::Text,
        Kept::Honoured(
            |group| group.options.routing.stickiness.cookie_name.clone(),
            |group, value| group.options.routing.stickiness.cookie_name = value.to_owned(),
        ),
    ),
    row(
        "stickiness.app_cookie.duration_seconds",
        |group| http(group, "86400"),
        WEEK,
        Kept::Honoured(
            |group| group.options.routing.stickiness.application_duration.as_secs().to_string(),
            |group, value| {
                group.options.routing.stickiness.application_duration = seconds(value);
            },
        ),
    ),
    row(
        "stickiness.lb_cookie.duration_seconds",
        |group| http(group, "86400"),
        WEEK,
        Kept::Honoured(
            |group| group.options.routing.stickiness.duration.as_secs().to_string(),
            |group, value| group.options.routing.stickiness.duration = seconds(value),
        ),
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
    use crate::model::{Owner, Stickiness};

    pub(in crate::api::elb) fn group(protocol: Protocol) -> TargetGroup {
        TargetGroup::new("web".into(), "0123456789abcdef".into(), (protocol, 80), Owner::Api)
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
        check(Protocol::Http, "stickiness.enabled", "true", Ok(()));
        check(Protocol::Tcp, "stickiness.enabled", "true", Err("can only be 'false' here"));
        check(Protocol::Http, "stickiness.lb_cookie.duration_seconds", "604800", Ok(()));
        check(Protocol::Http, "stickiness.app_cookie.cookie_name", "sid", Ok(()));
        check(Protocol::Http, "load_balancing.algorithm.type", "weighted_random", Ok(()));
        check(Protocol::Http, "slow_start.duration_seconds", "30", Ok(()));
        check(Protocol::Http, "slow_start.duration_seconds", "29", Err("0 or between 30"));
        let routing = "target_group_health.unhealthy_state_routing.minimum_healthy_targets";
        check(Protocol::Http, &format!("{routing}.count"), "1000", Ok(()));
        check(Protocol::Http, &format!("{routing}.percentage"), "50", Ok(()));
        check(Protocol::Http, &format!("{routing}.percentage"), "off", Ok(()));
        check(Protocol::Tcp, "slow_start.duration_seconds", "0", Err("not supported for this"));
        check(Protocol::Tcp, "proxy_protocol_v2.enabled", "true", Err("no PROXY header"));
    }

    #[test]
    fn attributes_fit_together() {
        let check = |routing: GroupRouting, expected: Option<&str>| {
            let error = together(&routing).err();
            let good = error.zip(expected).is_none_or(|(e, part)| e.contains(part));
            assert!(good && error.is_some() == expected.is_some(), "{routing:?}: {error:?}");
        };
        let sticky = |kind, name: &str| {
            let cookie_name = name.to_owned();
            Stickiness { enabled: true, kind, cookie_name, ..Stickiness::default() }
        };
        let plain = GroupRouting::default;
        check(plain(), None);
        let slow_start = Duration::from_secs(30);
        check(GroupRouting { slow_start, ..plain() }, None);
        for algorithm in [Algorithm::LeastOutstandingRequests, Algorithm::WeightedRandom] {
            check(GroupRouting { slow_start, algorithm, ..plain() }, Some("Slow start"));
        }
        let stickiness = sticky(StickinessKind::LbCookie, "");
        check(GroupRouting { stickiness: stickiness.clone(), ..plain() }, None);
        let algorithm = Algorithm::WeightedRandom;
        check(GroupRouting { stickiness, algorithm, ..plain() }, Some("Stickiness"));
        for (name, expected) in [
            ("sid", None),
            ("", Some("1 to 256")),
            ("a;b", Some("1 to")),
            ("AWSALBX", Some("begin")),
        ] {
            let stickiness = sticky(StickinessKind::AppCookie, name);
            check(GroupRouting { stickiness, ..plain() }, expected);
        }
    }
}
