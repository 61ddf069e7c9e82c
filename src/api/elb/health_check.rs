//! Parameters of health checks: Elastic Load Balancing's defaults, ranges and messages.
//!
//! Ranges of numbers are the model's, checked before. Source: the API reference of
//! `CreateTargetGroup`. **Invariant:** a timeout is never longer than its interval.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use super::matcher;
use super::target_group::Asked;
use crate::api::error::Error;
use crate::model::{HealthCheck, Protocol, ProtocolVersion};

/// The check of a new group whose targets speak `version`.
pub(super) fn made(
    group: Protocol,
    version: ProtocolVersion,
    asked: &Asked,
) -> Result<HealthCheck, Error> {
    // NLB checks its TLS groups by plain connections unless told otherwise.
    let own = if group == Protocol::Tls { Protocol::Tcp } else { group };
    let protocol = protocol(group, asked)?.unwrap_or(own);
    changed(group, &defaults(group, version, protocol), asked)
}

/// The defaults of a group's check with this protocol of its own.
fn defaults(group: Protocol, version: ProtocolVersion, protocol: Protocol) -> HealthCheck {
    let own = HealthCheck::of(protocol, version);
    match (group, protocol) {
        (Protocol::Tcp | Protocol::Tls, Protocol::Http | Protocol::Https) => {
            HealthCheck { timeout: Duration::from_secs(6), matcher: vec![200..=399], ..own }
        }
        _ => own,
    }
}

/// `current` with what is asked for.
pub(super) fn changed(
    group: Protocol,
    current: &HealthCheck,
    asked: &Asked,
) -> Result<HealthCheck, Error> {
    if asked.health_check_enabled == Some(false) {
        let message = "Health checks cannot be disabled for targets of type 'instance' and 'ip'";
        return Err(Error::new("InvalidConfigurationRequestException", message));
    }
    let mut check = current.clone();
    if let Some(protocol) = protocol(group, asked)?
        && protocol != check.protocol
    {
        // A gRPC group's check stays one, with what it was told.
        let fresh = defaults(group, check.version, protocol);
        check = match check.version {
            ProtocolVersion::Grpc => HealthCheck { protocol, ..check },
            _ => HealthCheck { protocol, path: fresh.path, matcher: fresh.matcher, ..check },
        };
    }
    if let Some(port) = asked.health_check_port.as_deref() {
        check.port = self::port(port)?;
    }
    http(group, &mut check, asked)?;
    if let Some(seconds) = asked.health_check_interval_seconds {
        check.interval = Duration::from_secs(seconds);
    }
    timeout(group, &mut check, asked)?;
    check.healthy_threshold = asked.healthy_threshold_count.unwrap_or(check.healthy_threshold);
    check.unhealthy_threshold =
        asked.unhealthy_threshold_count.unwrap_or(check.unhealthy_threshold);
    Ok(check)
}

fn protocol(group: Protocol, asked: &Asked) -> Result<Option<Protocol>, Error> {
    match (asked.health_check_protocol.as_deref(), group) {
        (None, _) => Ok(None),
        (Some("HTTP"), _) => Ok(Some(Protocol::Http)),
        (Some("HTTPS"), _) => Ok(Some(Protocol::Https)),
        (Some("TCP"), Protocol::Tcp | Protocol::Tls) => Ok(Some(Protocol::Tcp)),
        (Some(other), group) => {
            let message = format!(
                "Health check protocol '{other}' is not supported for target groups with \
                 protocol '{}'",
                group.as_str()
            );
            Err(Error::new("InvalidConfigurationRequestException", message))
        }
    }
}

fn port(text: &str) -> Result<Option<u16>, Error> {
    let number = || text.parse::<u16>().ok().filter(|port| *port > 0);
    match text {
        "traffic-port" => Ok(None),
        _ => number().map(Some).ok_or_else(|| {
            let message = format!(
                "Health check port '{text}' must be in the range 1-65535 or 'traffic-port'"
            );
            Error::invalid(message)
        }),
    }
}

/// What only HTTP checks have.
fn http(group: Protocol, check: &mut HealthCheck, asked: &Asked) -> Result<(), Error> {
    let matcher = asked.matcher.as_ref();
    let is_grpc = check.version == ProtocolVersion::Grpc;
    let http = matcher.and_then(|matcher| matcher.http_code.as_deref());
    let grpc = matcher.and_then(|matcher| matcher.grpc_code.as_deref());
    let (kind, code, other) = if is_grpc { ("gRPC", grpc, http) } else { ("HTTP", http, grpc) };
    if other.is_some() {
        let message = format!(
            "Health check matcher must be {kind} codes for target groups of protocol version {}",
            check.version.as_str()
        );
        return Err(Error::new("InvalidConfigurationRequestException", message));
    }
    if check.protocol == Protocol::Tcp {
        let given = [("path", asked.health_check_path.is_some()), ("matcher", code.is_some())];
        if let Some((what, _)) = given.into_iter().find(|(_, given)| *given) {
            let message = format!("Health check {what} is not supported for TCP health checks");
            return Err(Error::new("InvalidConfigurationRequestException", message));
        }
        return Ok(());
    }
    if let Some(path) = &asked.health_check_path {
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
            let message = format!(
                "Health check path '{path}' must begin with '/' and hold visible characters only"
            );
            return Err(Error::invalid(message));
        }
        check.path.clone_from(path);
    }
    if let Some(code) = code {
        let codes = if is_grpc { matcher::GRPC_CODES } else { codes(group) };
        check.matcher = matcher::parse(code, &codes).ok_or_else(|| {
            let (first, last) = (codes.start(), codes.end());
            let message = format!(
                "Health check matcher {kind} code '{code}' must be within '{first}-{last}' \
                 inclusive"
            );
            Error::invalid(message)
        })?;
    }
    Ok(())
}

const fn codes(group: Protocol) -> RangeInclusive<u16> {
    match group {
        Protocol::Http | Protocol::Https => 200..=499,
        Protocol::Tcp | Protocol::Tls => 200..=599,
    }
}

/// ALB wants it smaller than the interval, NLB at most as long. A default that is not becomes so.
fn timeout(group: Protocol, check: &mut HealthCheck, asked: &Asked) -> Result<(), Error> {
    let fits = |timeout: Duration| match group {
        Protocol::Http | Protocol::Https => timeout < check.interval,
        Protocol::Tcp | Protocol::Tls => timeout <= check.interval,
    };
    match asked.health_check_timeout_seconds.map(Duration::from_secs) {
        Some(timeout) if !fits(timeout) => {
            let (timeout, interval) = (timeout.as_secs(), check.interval.as_secs());
            let message = format!(
                "Health check timeout '{timeout}' must be smaller than the interval '{interval}'"
            );
            return Err(Error::invalid(message));
        }
        Some(timeout) => check.timeout = timeout,
        None if !fits(check.timeout) => check.timeout = check.interval - Duration::from_secs(1),
        None => {}
    }
    Ok(())
}

/// Its members of a target group, as the API shows them.
pub(super) fn shown(check: &HealthCheck, group: &mut Value) {
    // A check of the file may come more often than once a second.
    let seconds = |time: Duration| time.as_secs_f64().ceil();
    group["HealthCheckProtocol"] = json!(check.protocol.as_str());
    group["HealthCheckPort"] =
        json!(check.port.map_or_else(|| "traffic-port".to_owned(), |port| port.to_string()));
    group["HealthCheckEnabled"] = json!(true);
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    {
        group["HealthCheckIntervalSeconds"] = json!(seconds(check.interval) as i64);
        group["HealthCheckTimeoutSeconds"] = json!(seconds(check.timeout) as i64);
    }
    group["HealthyThresholdCount"] = json!(check.healthy_threshold);
    group["UnhealthyThresholdCount"] = json!(check.unhealthy_threshold);
    if check.protocol.is_http() {
        group["HealthCheckPath"] = json!(check.path);
        let kind = if check.version == ProtocolVersion::Grpc { "GrpcCode" } else { "HttpCode" };
        group["Matcher"] = json!({kind: matcher::text(&check.matcher)});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PORT PATH INTERVAL/TIMEOUT CODES`, or what the refusal says.
    fn check(group: Protocol, asked: Value, expected: Result<&str, &str>) {
        check_version((group, ProtocolVersion::Http1), asked, expected);
    }

    fn check_version(
        (group, version): (Protocol, ProtocolVersion),
        asked: Value,
        expected: Result<&str, &str>,
    ) {
        let read: Asked = serde_json::from_value(asked.clone()).unwrap();
        let described = made(group, version, &read).map(|check| {
            let mut group = json!({});
            shown(&check, &mut group);
            let text = |name: &str| group[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}/{} {}",
                text("HealthCheckProtocol"),
                text("HealthCheckPort"),
                text("HealthCheckPath"),
                group["HealthCheckIntervalSeconds"],
                group["HealthCheckTimeoutSeconds"],
                group["Matcher"]["HttpCode"].as_str().unwrap_or_else(|| text_of(&group["Matcher"])),
            )
        });
        match (described, expected) {
            (Ok(described), Ok(expected)) => assert_eq!(described, expected, "{asked}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{asked}: {error}");
            }
            (outcome, _) => panic!("{asked}: {outcome:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_kind() {
        check(Protocol::Http, json!({}), Ok("HTTP traffic-port / 30/5 200"));
        check(Protocol::Tcp, json!({}), Ok("TCP traffic-port - 30/10 -"));
        let http = json!({"HealthCheckProtocol": "HTTP"});
        check(Protocol::Tcp, http, Ok("HTTP traffic-port / 30/6 200-399"));
        let https = json!({"HealthCheckProtocol": "HTTPS"});
        check(Protocol::Http, https.clone(), Ok("HTTPS traffic-port / 30/5 200"));
        check(Protocol::Tcp, https, Ok("HTTPS traffic-port / 30/6 200-399"));
        let short = json!({"HealthCheckIntervalSeconds": 5});
        check(Protocol::Http, short.clone(), Ok("HTTP traffic-port / 5/4 200"));
        check(Protocol::Tcp, short, Ok("TCP traffic-port - 5/4 -"));
    }

    /// gRPC's codes, where the matcher has them.
    fn text_of(matcher: &Value) -> &str {
        matcher["GrpcCode"].as_str().unwrap_or("-")
    }

    #[test]
    fn grpc_groups_are_checked_by_grpcs_codes() {
        let grpc = |asked, expected| {
            check_version((Protocol::Http, ProtocolVersion::Grpc), asked, expected);
        };
        let own = "HTTP traffic-port /AWS.ALB/healthcheck 30/5 12";
        grpc(json!({}), Ok(own));
        let asked = json!({"Matcher": {"GrpcCode": "0-99"}, "HealthCheckPath": "/a.B/C",
                           "HealthCheckProtocol": "HTTPS"});
        grpc(asked, Ok("HTTPS traffic-port /a.B/C 30/5 0-99"));
        let listed = own.replace(" 12", " 0,1");
        grpc(json!({"Matcher": {"GrpcCode": "0,1"}}), Ok(&listed));
        grpc(json!({"Matcher": {"GrpcCode": "100"}}), Err("'0-99'"));
        grpc(json!({"Matcher": {"HttpCode": "200"}}), Err("must be gRPC codes"));
        check(Protocol::Http, json!({"Matcher": {"GrpcCode": "0"}}), Err("must be HTTP codes"));
        let http_2 = (Protocol::Https, ProtocolVersion::Http2);
        check_version(http_2, json!({}), Ok("HTTPS traffic-port / 30/5 200"));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let http = |asked, part| check(Protocol::Http, asked, Err(part));
        http(json!({"HealthCheckProtocol": "TCP"}), "not supported for target groups");
        http(json!({"HealthCheckProtocol": "TLS"}), "not supported for target groups");
        http(json!({"HealthCheckPort": "0"}), "1-65535");
        http(json!({"HealthCheckPath": "x"}), "must begin with '/'");
        http(json!({"HealthCheckEnabled": false}), "cannot be disabled");
        http(json!({"Matcher": {"HttpCode": "500"}}), "'200-499'");
        let same = json!({"HealthCheckIntervalSeconds": 10, "HealthCheckTimeoutSeconds": 10});
        http(same.clone(), "must be smaller than the interval");
        check(Protocol::Tcp, same, Ok("TCP traffic-port - 10/10 -"));
        check(Protocol::Tcp, json!({"HealthCheckPath": "/"}), Err("TCP health checks"));
        check(Protocol::Tcp, json!({"Matcher": {"HttpCode": "200"}}), Err("TCP health checks"));
    }
}
