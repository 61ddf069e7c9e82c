//! Target groups, their fixed targets and health checks.
//!
//! Ranges and defaults are ALB's and NLB's, except that an interval may be as short as 100 ms.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::kind::Kind;
use super::super::names;
use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{
    WrittenCheckPort, WrittenGroup, WrittenHealthCheck, WrittenStickiness,
};
use super::{FixedTarget, Resources, id_of, traffic};
use crate::api::elb::group_attributes::together;
use crate::api::elb::limits::STICKY_SECONDS;
use crate::api::elb::matcher::{GRPC_CODES, parse as matcher};
use crate::config::Time;
use crate::model::{
    DEREGISTRATION_DELAY, GroupOptions, GroupRouting, HealthCheck, Owner, Protocol,
    ProtocolVersion, STICKINESS, Stickiness, StickinessKind, TargetGroup, Waiting,
};

/// The port of a group that names none.
const PORT: u16 = 80;
/// ALB: `deregistration_delay.timeout_seconds` is at most this.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// ALB begins at 5 s; here a check may come ten times a second.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// ALB begins at 2 s.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(120);
/// ALB begins at 30 s.
const SLOW_STARTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(900);
/// ALB: both thresholds.
const THRESHOLDS: RangeInclusive<u32> = 2..=10;
/// ALB takes 200 to 499, NLB 200 to 599.
const CODES: RangeInclusive<u16> = 200..=599;
/// ALB: a health check path has at most this many characters.
const LONGEST_PATH: usize = 1024;

impl Resources {
    pub(super) fn groups(&mut self, written: &[WrittenGroup], list: &Place) -> Result<(), Bad> {
        for (index, group) in written.iter().enumerate() {
            self.read_group(group, &list.index(index))?;
        }
        Ok(())
    }

    fn read_group(&mut self, written: &WrittenGroup, at: &Place) -> Result<(), Bad> {
        names::elb(&written.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        let label = Kind::TargetGroup.label(&written.name);
        let id = id_of(&label);
        self.claim(label, &at.key("name"))?;
        let port = written.port.unwrap_or(PORT);
        if port == 0 {
            return Err(Bad::new(&at.key("port"), "must be 1 to 65535"));
        }
        let protocol = written.protocol.unwrap_or(Protocol::Http);
        if protocol == Protocol::Tls {
            return Err(Bad::new(&at.key("protocol"), "must be HTTP, HTTPS or TCP"));
        }
        let version = written.protocol_version.unwrap_or_default();
        if written.protocol_version.is_some() && !protocol.is_http() {
            return Err(Bad::new(&at.key("protocol_version"), "belongs to HTTP target groups"));
        }
        let delay = written.deregistration_delay.map_or(DEREGISTRATION_DELAY, |time| time.0);
        if delay > LONGEST_DELAY {
            return Err(Bad::new(&at.key("deregistration_delay"), "must be at most 1h"));
        }
        let group = TargetGroup {
            name: written.name.as_str().into(),
            id,
            protocol,
            port,
            health_check: health_check(
                &written.health_check,
                (protocol, version),
                &at.key("health_check"),
            )?,
            deregistration_delay: delay,
            owner: Owner::File,
            options: GroupOptions {
                version,
                routing: routing(written, protocol, at)?,
                ..GroupOptions::default()
            },
        };
        for (index, target) in written.targets.iter().enumerate() {
            let at = at.key("targets").index(index);
            let port = target.port.unwrap_or(port);
            if port == 0 || target.address.is_unspecified() || target.address.is_multicast() {
                return Err(Bad::new(
                    &at,
                    "must be an address and a port that can be connected to",
                ));
            }
            let target = FixedTarget { group: group.name.clone(), address: target.address, port };
            if self.targets.contains(&target) {
                let reason = format!("{} stands here twice", target.socket_address());
                return Err(Bad::new(&at, reason));
            }
            self.targets.push(target);
        }
        self.target_groups.push(group);
        Ok(())
    }
}

/// Who of the targets gets a request.
fn routing(written: &WrittenGroup, protocol: Protocol, at: &Place) -> Result<GroupRouting, Bad> {
    let default = GroupRouting::default();
    let own = [
        ("algorithm", written.algorithm.is_some()),
        ("anomaly_mitigation", written.anomaly_mitigation.is_some()),
        ("slow_start", written.slow_start.is_some()),
        ("stickiness", written.stickiness.is_some()),
        ("retry_budget", written.retry_budget.is_some()),
        ("target_concurrency", written.target_concurrency.is_some()),
        ("hold", written.hold.is_some()),
        ("outlier_ejection", written.outlier_ejection.is_some()),
    ];
    if let Some((key, _)) = own.iter().find(|(_, there)| *there && protocol == Protocol::Tcp) {
        return Err(Bad::new(&at.key(key), "belongs to HTTP target groups"));
    }
    let slow_start = written.slow_start.map_or(default.slow_start, |time| time.0);
    if !slow_start.is_zero() && !SLOW_STARTS.contains(&slow_start) {
        return Err(Bad::new(&at.key("slow_start"), "must be 0s or 1s to 15m"));
    }
    let minimum_healthy = written.minimum_healthy.unwrap_or(default.minimum_healthy);
    if !(1..=1000).contains(&minimum_healthy) {
        return Err(Bad::new(&at.key("minimum_healthy"), "must be 1 to 1000"));
    }
    if written.minimum_healthy_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        return Err(Bad::new(&at.key("minimum_healthy_percent"), "must be 1 to 100"));
    }
    let stickiness = written.stickiness.as_ref();
    let stickiness = stickiness.map(|own| stuck(own, &at.key("stickiness"))).transpose()?;
    let routing = GroupRouting {
        algorithm: written.algorithm.unwrap_or_default(),
        anomaly_mitigation: written.anomaly_mitigation.unwrap_or_default(),
        slow_start,
        stickiness: stickiness.unwrap_or_default(),
        minimum_healthy,
        minimum_healthy_percent: written.minimum_healthy_percent,
        retry_budget: traffic::retry_budget(written.retry_budget, &at.key("retry_budget"))?,
        target_concurrency: traffic::concurrency(written, at)?,
        queue: traffic::waiting(written.queue, Waiting::QUEUE, &at.key("queue"))?
            .unwrap_or(Waiting::QUEUE),
        hold: traffic::waiting(written.hold, Waiting::HOLD, &at.key("hold"))?,
        outlier_ejection: traffic::ejection(written.outlier_ejection, &at.key("outlier_ejection"))?,
    };
    together(&routing).map_err(|why| Bad::new(at, why))?;
    Ok(routing)
}

fn stuck(written: &WrittenStickiness, at: &Place) -> Result<Stickiness, Bad> {
    let time = written.duration.map_or(STICKINESS, |time| time.0);
    if time.subsec_nanos() != 0 || !STICKY_SECONDS.contains(&time.as_secs()) {
        return Err(Bad::new(&at.key("duration"), "must be whole seconds, 1s to 168h"));
    }
    let (kind, name) = (written.kind, written.cookie_name.clone());
    if name.is_some() && kind == StickinessKind::LbCookie {
        return Err(Bad::new(&at.key("cookie_name"), "belongs to app_cookie"));
    }
    let cookie_name = name.unwrap_or_default();
    let plain = Stickiness { enabled: true, kind, cookie_name, ..Stickiness::default() };
    Ok(match kind {
        StickinessKind::LbCookie => Stickiness { duration: time, ..plain },
        StickinessKind::AppCookie => Stickiness { application_duration: time, ..plain },
    })
}

fn health_check(
    written: &WrittenHealthCheck,
    (group, version): (Protocol, ProtocolVersion),
    at: &Place,
) -> Result<HealthCheck, Bad> {
    let protocol = written.protocol.unwrap_or(group);
    let default = HealthCheck::of(protocol, version);
    if protocol == Protocol::Tls {
        let reason = "must be HTTP, HTTPS or TCP";
        return Err(Bad::new(&at.key("protocol"), reason));
    }
    if protocol == Protocol::Tcp {
        for (key, there) in
            [("path", written.path.is_some()), ("matcher", written.matcher.is_some())]
        {
            if there {
                return Err(Bad::new(&at.key(key), "belongs to HTTP checks; this one is TCP"));
            }
        }
    }
    let interval = written.interval.map_or(default.interval, |time| time.0);
    if !INTERVALS.contains(&interval) {
        return Err(Bad::new(&at.key("interval"), "must be 100ms to 5m"));
    }
    let path = written.path.clone().unwrap_or(default.path);
    let visible = path.bytes().all(|b| b.is_ascii_graphic());
    if !path.starts_with('/') || path.len() > LONGEST_PATH || !visible {
        let reason = "must begin with / and be at most 1024 visible ASCII characters";
        return Err(Bad::new(&at.key("path"), reason));
    }
    let port = match written.port {
        Some(WrittenCheckPort::Number(0)) => {
            return Err(Bad::new(&at.key("port"), "must be 1 to 65535"));
        }
        Some(WrittenCheckPort::Number(port)) => Some(port),
        Some(WrittenCheckPort::Word(_)) | None => None,
    };
    let threshold = |key: &str, written: Option<u32>, default: u32| {
        let value = written.unwrap_or(default);
        let bad = || Bad::new(&at.key(key), "must be 2 to 10");
        if THRESHOLDS.contains(&value) { Ok(value) } else { Err(bad()) }
    };
    Ok(HealthCheck {
        protocol,
        version,
        port,
        path,
        interval,
        timeout: timeout(written.timeout, interval, default.timeout, &at.key("timeout"))?,
        healthy_threshold: threshold(
            "healthy_threshold",
            written.healthy_threshold,
            default.healthy_threshold,
        )?,
        unhealthy_threshold: threshold(
            "unhealthy_threshold",
            written.unhealthy_threshold,
            default.unhealthy_threshold,
        )?,
        matcher: match &written.matcher {
            None => default.matcher,
            Some(text) => codes(text, version, &at.key("matcher"))?,
        },
    })
}

/// The codes that pass, HTTP's or gRPC's.
fn codes(
    text: &str,
    version: ProtocolVersion,
    at: &Place,
) -> Result<Vec<RangeInclusive<u16>>, Bad> {
    let (codes, reason) = match version {
        ProtocolVersion::Grpc => {
            (&GRPC_CODES, "must be gRPC status codes from 0 to 99, such as \"0,12\"")
        }
        ProtocolVersion::Http1 | ProtocolVersion::Http2 => {
            (&CODES, "must be status codes from 200 to 599, such as \"200-299,404\"")
        }
    };
    matcher(text, codes).ok_or_else(|| Bad::new(at, reason))
}

/// ALB: smaller than the interval. A default that is not becomes half the interval.
fn timeout(
    written: Option<Time>,
    interval: Duration,
    default: Duration,
    at: &Place,
) -> Result<Duration, Bad> {
    match written {
        None if default < interval => Ok(default),
        None => Ok(interval / 2),
        Some(Time(timeout)) if !TIMEOUTS.contains(&timeout) => {
            Err(Bad::new(at, "must be 10ms to 2m"))
        }
        Some(Time(timeout)) if timeout >= interval => {
            let interval = Time(interval);
            Err(Bad::new(at, format!("must be smaller than the interval, which is {interval}")))
        }
        Some(Time(timeout)) => Ok(timeout),
    }
}
