//! What is meant of traffic beside what the AWS APIs know. Ranges are ours.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{
    WrittenBudget, WrittenCompression, WrittenEjection, WrittenGroup, WrittenKey, WrittenLimit,
    WrittenProxyProtocol, WrittenWaiting,
};
use crate::config::Time;
use crate::model::{
    BadPool, Carrier, Compression, OutlierEjection, ProxyProtocol, RateKey, RateLimit, RetryBudget,
    Waiting,
};
use crate::rules::is_header_name;

const MINIMUM_PER_SECOND: RangeInclusive<u32> = 0..=10_000;
const REQUESTS: RangeInclusive<u32> = 1..=1_000_000;
const PERIODS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
/// Each holds a connection and its buffers.
const MOST_WAITING: u32 = 10_000;
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(300);
const EJECTIONS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const RULE_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

pub(super) fn retry_budget(written: Option<WrittenBudget>, at: &Place) -> Result<RetryBudget, Bad> {
    let default = RetryBudget::default();
    let Some(written) = written else { return Ok(default) };
    let budget = RetryBudget {
        percent: written.percent.unwrap_or(default.percent),
        minimum_per_second: written.minimum_per_second.unwrap_or(default.minimum_per_second),
    };
    if budget.percent > 100 {
        return Err(Bad::new(&at.key("percent"), "must be 0 to 100"));
    }
    if !MINIMUM_PER_SECOND.contains(&budget.minimum_per_second) {
        return Err(Bad::new(&at.key("minimum_per_second"), "must be 0 to 10000"));
    }
    Ok(budget)
}

/// Exchanges that one target has at a time.
pub(super) fn concurrency(written: &WrittenGroup, at: &Place) -> Result<Option<u32>, Bad> {
    if written.queue.is_some() && written.target_concurrency.is_none() {
        return Err(Bad::new(&at.key("queue"), "belongs to groups with target_concurrency"));
    }
    match written.target_concurrency {
        Some(most) if !CONCURRENCY.contains(&most) => {
            Err(Bad::new(&at.key("target_concurrency"), "must be 1 to 100000"))
        }
        other => Ok(other),
    }
}

pub(super) fn waiting(
    written: Option<WrittenWaiting>,
    default: Waiting,
    at: &Place,
) -> Result<Option<Waiting>, Bad> {
    let Some(written) = written else { return Ok(None) };
    let waiting = Waiting {
        requests: written.requests.unwrap_or(default.requests),
        timeout: written.timeout.map_or(default.timeout, |time| time.0),
    };
    if waiting.requests > MOST_WAITING {
        return Err(Bad::new(&at.key("requests"), "must be 0 to 10000"));
    }
    if !WAITS.contains(&waiting.timeout) {
        return Err(Bad::new(&at.key("timeout"), "must be 1ms to 5m"));
    }
    Ok(Some(waiting))
}

pub(super) fn ejection(
    written: Option<WrittenEjection>,
    at: &Place,
) -> Result<Option<OutlierEjection>, Bad> {
    let (Some(written), default) = (written, OutlierEjection::default()) else { return Ok(None) };
    let time = |time: Option<Time>, default: Duration| time.map_or(default, |time| time.0);
    let rules = OutlierEjection {
        consecutive_5xx: written.consecutive_5xx.unwrap_or(default.consecutive_5xx),
        consecutive_failures: written.consecutive_failures.unwrap_or(default.consecutive_failures),
        success_rate: written.success_rate.unwrap_or(default.success_rate),
        minimum_requests: written.minimum_requests.unwrap_or(default.minimum_requests),
        interval: time(written.interval, default.interval),
        base_time: time(written.base_time, default.base_time),
        max_time: time(written.max_time, default.max_time),
        max_percent: written.max_percent.unwrap_or(default.max_percent),
    };
    let percents = [("success_rate", rules.success_rate), ("max_percent", rules.max_percent)];
    if let Some((key, _)) = percents.iter().find(|(_, percent)| *percent > 100) {
        return Err(Bad::new(&at.key(key), "must be 0 to 100"));
    }
    let times = [("interval", rules.interval), ("base_time", rules.base_time)];
    if let Some((key, _)) = times.iter().find(|(_, time)| !EJECTIONS.contains(time)) {
        return Err(Bad::new(&at.key(key), "must be 100ms to 1h"));
    }
    if rules.max_time < rules.base_time || rules.max_time > Duration::from_secs(86_400) {
        return Err(Bad::new(&at.key("max_time"), "must be base_time to 24h"));
    }
    Ok(Some(rules))
}

pub(super) fn rate_limit(
    written: Option<&WrittenLimit>,
    at: &Place,
) -> Result<Option<RateLimit>, Bad> {
    let Some(written) = written else { return Ok(None) };
    let key = match (written.key, &written.header) {
        (WrittenKey::Header, Some(name)) if is_header_name(name) => RateKey::Header(name.clone()),
        (WrittenKey::Header, Some(_)) => {
            return Err(Bad::new(&at.key("header"), "must be a header name"));
        }
        (WrittenKey::Header, None) => {
            return Err(Bad::new(at, "needs header with the key \"header\""));
        }
        (_, Some(_)) => {
            return Err(Bad::new(&at.key("header"), "belongs to the key \"header\""));
        }
        (WrittenKey::All, None) => RateKey::All,
        (WrittenKey::SourceIp, None) => RateKey::SourceIp,
        (WrittenKey::Host, None) => RateKey::Host,
    };
    let burst = written.burst.unwrap_or(written.requests);
    for (name, count) in [("requests", written.requests), ("burst", burst)] {
        if !REQUESTS.contains(&count) {
            return Err(Bad::new(&at.key(name), "must be 1 to 1000000"));
        }
    }
    let per = written.per.map_or(Duration::from_secs(1), |time| time.0);
    if !PERIODS.contains(&per) {
        return Err(Bad::new(&at.key("per"), "must be 100ms to 24h"));
    }
    Ok(Some(RateLimit { key, requests: written.requests, per, burst }))
}

pub(super) fn proxy_protocol(
    written: Option<&WrittenProxyProtocol>,
    at: &Place,
) -> Result<Option<ProxyProtocol>, Bad> {
    let Some(written) = written else { return Ok(None) };
    let at = at.key("trusted");
    if written.trusted.is_empty() {
        return Err(Bad::new(&at, "must hold at least one network"));
    }
    let pool = |(index, text): (usize, &String)| {
        text.parse().map_err(|bad: BadPool| Bad::new(&at.index(index), bad.to_string()))
    };
    let trusted = written.trusted.iter().enumerate().map(pool).collect::<Result<_, _>>()?;
    Ok(Some(ProxyProtocol { trusted }))
}

pub(super) fn compression(
    written: Option<&WrittenCompression>,
    carrier: Carrier,
    at: &Place,
) -> Result<Option<Compression>, Bad> {
    let (Some(written), default) = (written, Compression::default()) else { return Ok(None) };
    if carrier == Carrier::Pingora {
        return Err(Bad::new(at, "belongs to listeners of the native carrier"));
    }
    let compression = Compression {
        algorithms: written.algorithms.clone().unwrap_or(default.algorithms),
        minimum_size: written.minimum_size.unwrap_or(default.minimum_size),
        content_types: written.content_types.clone().unwrap_or(default.content_types),
    };
    let all = &compression.algorithms;
    if all.is_empty() || (1..all.len()).any(|end| all[..end].contains(&all[end])) {
        let reason = "must hold one or more of br, zstd and gzip, each once";
        return Err(Bad::new(&at.key("algorithms"), reason));
    }
    let is_type = |text: &String| {
        let visible = text.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',');
        let star = text.find('*').is_none_or(|star| star + 1 == text.len());
        visible && star && text.contains('/')
    };
    if let Some(place) = compression.content_types.iter().position(|text| !is_type(text)) {
        let reason = "must be a media type such as text/html or text/*";
        return Err(Bad::new(&at.key("content_types").index(place), reason));
    }
    Ok(Some(compression))
}

/// Of a rule: how long a response's head may take.
pub(super) fn timeout(
    written: Option<Time>,
    carrier: Carrier,
    at: &Place,
) -> Result<Option<Duration>, Bad> {
    match written {
        Some(_) if carrier == Carrier::Pingora => {
            Err(Bad::new(at, "belongs to listeners of the native carrier"))
        }
        Some(Time(timeout)) if !RULE_TIMEOUTS.contains(&timeout) => {
            Err(Bad::new(at, "must be 1ms to 1h"))
        }
        other => Ok(other.map(|time| time.0)),
    }
}
