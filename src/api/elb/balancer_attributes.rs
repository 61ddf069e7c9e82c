//! The attributes of load balancers.
//!
//! Keys, kinds, defaults and values: the API reference of `LoadBalancerAttribute`.

use std::time::Duration;

use super::attributes::{Attribute, Kept, Table, Values};
use crate::model::{DesyncMode, ForwardedFor, LoadBalancer, LoadBalancerKind};

pub(super) const TABLE: Table<LoadBalancer> = Table {
    of: "Load balancer",
    rows: ROWS,
    stored: |lb| &lb.options.attributes,
    stored_mut: |lb| &mut lb.options.attributes,
};

type Default = fn(&LoadBalancer) -> Option<&'static str>;

const LOGS: &str = "there is no S3 here: the access log is the file of [access_log]";
const HEALTH_LOGS: &str = "there is no S3 here: the health log is the file of [health_log]";
const ZONES: &str = "this machine is one zone";
const NO_WAF: &str = "there is no web application firewall";

const fn row(
    key: &'static str,
    default: Default,
    values: Values,
    kept: Kept<LoadBalancer>,
) -> Attribute<LoadBalancer> {
    Attribute { key, default, values, kept }
}

fn application(lb: &LoadBalancer, default: &'static str) -> Option<&'static str> {
    (lb.kind == LoadBalancerKind::Application).then_some(default)
}

fn network(lb: &LoadBalancer, default: &'static str) -> Option<&'static str> {
    (lb.kind == LoadBalancerKind::Network).then_some(default)
}

/// Checked before to be a number.
fn seconds(value: &str) -> Duration {
    Duration::from_secs(value.parse().unwrap_or_default())
}

/// Checked before to be one of the three.
fn desync_mode(value: &str) -> DesyncMode {
    match value {
        "monitor" => DesyncMode::Monitor,
        "strictest" => DesyncMode::Strictest,
        _ => DesyncMode::Defensive,
    }
}

const ROWS: &[Attribute<LoadBalancer>] = &[
    row(
        "deletion_protection.enabled",
        |_| Some("false"),
        Values::Flag,
        Kept::Honoured(
            |lb| lb.options.deletion_protection.to_string(),
            |lb, value| lb.options.deletion_protection = value == "true",
        ),
    ),
    row(
        "load_balancing.cross_zone.enabled",
        |lb| Some(if lb.kind == LoadBalancerKind::Application { "true" } else { "false" }),
        Values::Flag,
        Kept::Stored(ZONES),
    ),
    row("access_logs.s3.enabled", |_| Some("false"), Values::Flag, Kept::Stored(LOGS)),
    row("access_logs.s3.bucket", |_| Some(""), Values::Text, Kept::Stored(LOGS)),
    row("access_logs.s3.prefix", |_| Some(""), Values::Text, Kept::Stored(LOGS)),
    row(
        "ipv6.deny_all_igw_traffic",
        |lb| Some(if lb.options.internal { "true" } else { "false" }),
        Values::Flag,
        Kept::Stored("there is no internet gateway"),
    ),
    row("zonal_shift.config.enabled", |_| Some("false"), Values::Flag, Kept::Stored(ZONES)),
    row(
        "idle_timeout.timeout_seconds",
        |lb| application(lb, "60"),
        Values::Number(1..=4000),
        Kept::Honoured(
            |lb| lb.idle_timeout.as_secs().to_string(),
            |lb, value| lb.idle_timeout = seconds(value),
        ),
    ),
    row(
        "client_keep_alive.seconds",
        |lb| application(lb, "3600"),
        Values::Number(60..=604_800),
        Kept::Honoured(
            |lb| lb.client_keep_alive.as_secs().to_string(),
            |lb, value| lb.client_keep_alive = seconds(value),
        ),
    ),
    row(
        "connection_logs.s3.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Stored(LOGS),
    ),
    row("connection_logs.s3.bucket", |lb| application(lb, ""), Values::Text, Kept::Stored(LOGS)),
    row("connection_logs.s3.prefix", |lb| application(lb, ""), Values::Text, Kept::Stored(LOGS)),
    row(
        "health_check_logs.s3.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Stored(HEALTH_LOGS),
    ),
    row(
        "health_check_logs.s3.bucket",
        |lb| application(lb, ""),
        Values::Text,
        Kept::Stored(HEALTH_LOGS),
    ),
    row(
        "health_check_logs.s3.prefix",
        |lb| application(lb, ""),
        Values::Text,
        Kept::Stored(HEALTH_LOGS),
    ),
    row(
        "routing.http.desync_mitigation_mode",
        |lb| application(lb, "defensive"),
        Values::OneOf(&["monitor", "defensive", "strictest"]),
        Kept::Honoured(
            |lb| lb.options.desync_mitigation_mode.as_str().to_owned(),
            |lb, value| lb.options.desync_mitigation_mode = desync_mode(value),
        ),
    ),
    row(
        "routing.http.drop_invalid_header_fields.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Honoured(
            |lb| lb.options.requests.drop_invalid.to_string(),
            |lb, value| lb.options.requests.drop_invalid = value == "true",
        ),
    ),
    row(
        "routing.http.preserve_host_header.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Honoured(
            |lb| lb.options.requests.preserve_host.to_string(),
            |lb, value| lb.options.requests.preserve_host = value == "true",
        ),
    ),
    row(
        "routing.http.x_amzn_tls_version_and_cipher_suite.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Fixed("x-amzn-tls-version and x-amzn-tls-cipher-suite are not added"),
    ),
    row(
        "routing.http.xff_client_port.enabled",
        |lb| application(lb, "false"),
        Values::Flag,
        Kept::Honoured(
            |lb| lb.options.requests.client_port.to_string(),
            |lb, value| lb.options.requests.client_port = value == "true",
        ),
    ),
    row(
        "routing.http.xff_header_processing.mode",
        |lb| application(lb, "append"),
        Values::OneOf(&["append", "preserve", "remove"]),
        Kept::Honoured(
            |lb| lb.options.requests.forwarded_for.as_str().to_owned(),
            |lb, value| {
                let found = ForwardedFor::ALL.into_iter().find(|own| own.as_str() == value);
                lb.options.requests.forwarded_for = found.unwrap_or_default();
            },
        ),
    ),
    row(
        "routing.http2.enabled",
        |lb| application(lb, "true"),
        Values::Flag,
        Kept::Honoured(
            |lb| (!lb.options.http1_only).to_string(),
            |lb, value| lb.options.http1_only = value == "false",
        ),
    ),
    row("waf.fail_open.enabled", |lb| application(lb, "false"), Values::Flag, Kept::Stored(NO_WAF)),
    row(
        "dns_record.client_routing_policy",
        |lb| network(lb, "any_availability_zone"),
        Values::OneOf(&[
            "availability_zone_affinity",
            "partial_availability_zone_affinity",
            "any_availability_zone",
        ]),
        Kept::Stored(ZONES),
    ),
    row(
        "secondary_ips.auto_assigned.per_subnet",
        |lb| network(lb, "0"),
        Values::Number(0..=7),
        Kept::Fixed("a load balancer has one address"),
    ),
];

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::super::attributes::tests::keeps_to_the_rules;
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{BalancerOptions, CLIENT_KEEP_ALIVE, IDLE_TIMEOUT, Owner};

    pub(in crate::api::elb) fn balancer(kind: LoadBalancerKind) -> LoadBalancer {
        LoadBalancer {
            name: "front".into(),
            id: "0123456789abcdef".into(),
            kind,
            address: [127, 0, 10, 1].into(),
            idle_timeout: IDLE_TIMEOUT,
            client_keep_alive: CLIENT_KEEP_ALIVE,
            owner: Owner::Api,
            created_at: Timestamp::default(),
            options: BalancerOptions::default(),
        }
    }

    fn check(kind: LoadBalancerKind, key: &str, value: &str, expected: Result<(), &str>) {
        let mut lb = balancer(kind);
        let given = serde_json::from_value(json!([{"Key": key, "Value": value}])).unwrap();
        let given: Vec<super::super::attributes::Given> = given;
        let outcome = TABLE.modify(&mut lb, &given);
        match expected {
            Ok(()) => {
                assert_eq!(outcome, Ok(()), "{key}={value}");
                assert!(TABLE.shown(&lb).contains(&json!({"Key": key, "Value": value})), "{key}");
            }
            Err(part) => {
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains(part), "{key}={value}: {error}");
            }
        }
    }

    #[test]
    fn every_attribute_is_of_some_kind_and_has_a_good_default() {
        use LoadBalancerKind::{Application, Network};
        keeps_to_the_rules(&TABLE, &[balancer(Application), balancer(Network)]);
        // The API reference has 24; one of them for network load balancers only is 25th.
        assert_eq!(ROWS.len(), 25);
    }

    #[test]
    fn attributes_are_honoured_kept_or_refused() {
        use LoadBalancerKind::{Application, Network};
        check(Application, "idle_timeout.timeout_seconds", "4000", Ok(()));
        check(Application, "idle_timeout.timeout_seconds", "0", Err("between 1 and 4000"));
        check(Network, "idle_timeout.timeout_seconds", "60", Err("not supported for this type"));
        check(Application, "deletion_protection.enabled", "true", Ok(()));
        check(Application, "access_logs.s3.bucket", "logs", Ok(()));
        check(Application, "routing.http.xff_header_processing.mode", "append", Ok(()));
        check(Application, "routing.http.xff_header_processing.mode", "drop", Err("one of"));
        check(Application, "routing.http.xff_header_processing.mode", "remove", Ok(()));
        check(Application, "routing.http.xff_client_port.enabled", "true", Ok(()));
        check(Application, "routing.http.preserve_host_header.enabled", "true", Ok(()));
        check(Application, "routing.http.drop_invalid_header_fields.enabled", "true", Ok(()));
        check(Network, "dns_record.client_routing_policy", "availability_zone_affinity", Ok(()));
        for mode in ["monitor", "strictest", "defensive"] {
            check(Application, "routing.http.desync_mitigation_mode", mode, Ok(()));
        }
        check(Application, "routing.http.desync_mitigation_mode", "off", Err("one of"));
        check(Application, "moon.phase", "full", Err("'moon.phase' is not recognized"));
    }

    #[test]
    fn a_value_set_back_to_its_default_leaves_nothing_behind() {
        let mut lb = balancer(LoadBalancerKind::Application);
        let before: Vec<Value> = TABLE.shown(&lb);
        for value in ["true", "false"] {
            let given = json!([{"Key": "access_logs.s3.enabled", "Value": value}]);
            TABLE
                .modify(
                    &mut lb,
                    &serde_json::from_value::<Vec<super::super::attributes::Given>>(given).unwrap(),
                )
                .unwrap();
        }
        assert_eq!(TABLE.shown(&lb), before);
        assert!(lb.options.attributes.is_empty());
    }
}
