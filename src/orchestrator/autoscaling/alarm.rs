//! Alarms: what a rule comes to over its last periods, and the alarms of target tracking. Pure.
//!
//! Sources: CloudWatch's pages on alarm evaluation and missing data; Application Auto Scaling's on
//! target tracking. **Invariant:** too little data changes nothing but to INSUFFICIENT_DATA.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::ScalingProfile;
use crate::model::{
    AlarmRule, AlarmState, Comparison, MetricAsked, MetricId, MetricQuery, Missing, ScalingPolicy,
    ServiceKey, Statistic, TargetTracking, TrackedMetric,
};
use crate::series::Series;
use crate::series::math::queries::{Queries, Window};

/// What AWS's target tracking waits for: three of three minutes above the target …
const HIGH: u32 = 3;
/// … or fifteen of fifteen …
const LOW: u32 = 15;
/// … below this share of it.
const LOW_SHARE: f64 = 0.9;
const MINUTE: Duration = Duration::from_secs(60);

/// What the last periods come to; `values` has one entry for each that the rule looks at.
#[must_use]
pub fn evaluate(rule: &AlarmRule, values: &[Option<f64>], before: AlarmState) -> AlarmState {
    let breaches = |value: &Option<f64>| match value {
        Some(value) => Some(rule.comparison.holds(*value, rule.threshold)),
        None => match rule.missing {
            Missing::Breaching => Some(true),
            Missing::NotBreaching => Some(false),
            Missing::Missing | Missing::Ignore => None,
        },
    };
    let told: Vec<bool> = values.iter().filter_map(breaches).collect();
    let wanted = usize::try_from(rule.breaching).unwrap_or(usize::MAX);
    let breaching = told.iter().filter(|breaches| **breaches).count();
    let unknown = usize::try_from(rule.periods).unwrap_or(usize::MAX).saturating_sub(told.len());
    match () {
        () if breaching >= wanted => AlarmState::Alarm,
        () if told.is_empty() && rule.missing == Missing::Missing => AlarmState::InsufficientData,
        () if breaching.saturating_add(unknown) < wanted => AlarmState::Ok,
        () => before,
    }
}

/// The values that an alarm looks at, oldest first: of its rule's metric, or of that one of its
/// queries which is told. What has no value, as an expression over nothing, is missing.
#[must_use]
pub fn read(
    series: &Series,
    (rule, queries): (&AlarmRule, &[MetricQuery]),
    now: Timestamp,
    profile: ScalingProfile,
) -> Vec<Option<f64>> {
    if queries.is_empty() {
        return values(series, rule, now, profile);
    }
    // Each period at a time of its own, so that a second which stands for a minute is one.
    let at =
        |number: u32| Timestamp::from_millis(u64::from(number) * u64::from(rule.period) * 1000);
    let read = |asked: &MetricAsked| {
        let (metric, statistic) = (asked.metric.clone(), asked.statistic);
        let found = values(series, &AlarmRule { metric, statistic, ..rule.clone() }, now, profile);
        (0..).zip(found).filter_map(|(number, value)| Some((at(number), value?))).collect()
    };
    let window = Window { from: at(0), to: at(rule.periods) };
    // No alarm searches.
    let told = Queries::read(queries).and_then(|queries| queries.told(window, &[], read));
    let line = told.ok().and_then(|told| told.lines.into_iter().next());
    let line = line.map(|(_, line)| line).unwrap_or_default();
    (0..rule.periods).map(|number| line.at(at(number))).collect()
}

/// The values that a rule looks at, oldest first. With the fast profile seconds stand for minutes,
/// and what is counted is told per minute all the same.
#[must_use]
pub fn values(
    series: &Series,
    rule: &AlarmRule,
    now: Timestamp,
    profile: ScalingProfile,
) -> Vec<Option<f64>> {
    let period = period(rule, profile);
    let factor = match rule.statistic {
        Statistic::Sum | Statistic::SampleCount => f64::from(rule.period) / period.as_secs_f64(),
        _ => 1.0,
    };
    let count = usize::try_from(rule.periods).unwrap_or(usize::MAX);
    let points = series.last(&rule.metric, now, period, count);
    points.iter().map(|point| point.map(|point| point.value(rule.statistic) * factor)).collect()
}

/// How long a period of the rule really is.
pub(super) fn period(rule: &AlarmRule, profile: ScalingProfile) -> Duration {
    let asked = Duration::from_secs(u64::from(rule.period.max(1)));
    match profile {
        ScalingProfile::Faithful => asked,
        ScalingProfile::Fast => {
            let period = asked.mul_f64(profile.period().as_secs_f64() / MINUTE.as_secs_f64());
            period.max(profile.step())
        }
    }
}

/// Whether the rule is looked at now: once a minute, or whenever one of its shorter periods ends.
pub(super) fn is_due(rule: &AlarmRule, now: Timestamp, profile: ScalingProfile) -> bool {
    let often = period(rule, profile).min(profile.period()).max(profile.step());
    u128::from(now.0).is_multiple_of(often.as_micros())
}

/// Which of the two alarms of a target tracking policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    High,
    Low,
}

/// `TargetTracking-service/CLUSTER/SERVICE-AlarmHigh-ID`
#[must_use]
pub fn name(policy: &ScalingPolicy, side: Side) -> String {
    let (service, id) = (&policy.key.service, &policy.id);
    format!("TargetTracking-service/{service}-Alarm{side:?}-{id}")
}

/// The rule of one of the alarms of target tracking.
#[must_use]
pub fn rule(service: &ServiceKey, tracking: &TargetTracking, side: Side) -> AlarmRule {
    let (metric, statistic, period) = tracked(service, &tracking.metric);
    let (comparison, threshold, periods) = match side {
        Side::High => (Comparison::Greater, tracking.target, HIGH),
        Side::Low => (Comparison::Less, tracking.target * LOW_SHARE, LOW),
    };
    let missing = Missing::Missing;
    let breaching = periods;
    AlarmRule { metric, statistic, period, periods, breaching, comparison, threshold, missing }
}

fn tracked(service: &ServiceKey, metric: &TrackedMetric) -> (MetricId, Statistic, u32) {
    let own = [("ClusterName", service.cluster.as_str()), ("ServiceName", service.name.as_str())];
    let region = service.cluster.region();
    let ecs = |name: &str, period| {
        (MetricId::new("AWS/ECS", name, &own).within(region), Statistic::Average, period)
    };
    match metric {
        TrackedMetric::Cpu => ecs("CPUUtilization", 60),
        TrackedMetric::Memory => ecs("MemoryUtilization", 60),
        TrackedMetric::CpuHighResolution => ecs("CPUUtilization", 20),
        TrackedMetric::MemoryHighResolution => ecs("MemoryUtilization", 20),
        TrackedMetric::RequestsPerTarget(label) => {
            let at = label.find("/targetgroup/").unwrap_or(label.len());
            let (balancer, group) = label.split_at(at);
            let group = group.trim_start_matches('/');
            let both = [("LoadBalancer", balancer), ("TargetGroup", group)];
            let metric = MetricId::new("AWS/ApplicationELB", "RequestCountPerTarget", &both);
            let metric = metric.within(region);
            (metric, Statistic::Sum, 60)
        }
        TrackedMetric::Customized { metric, statistic, .. } => (metric.clone(), *statistic, 60),
        TrackedMetric::Math(_) => (MetricId::new("", "", &[]), Statistic::Average, 60),
    }
}

/// What stands in place of the metric of a policy's alarms.
#[must_use]
pub fn queries(tracking: &TargetTracking) -> &[MetricQuery] {
    match &tracking.metric {
        TrackedMetric::Math(queries) => queries,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Point;

    fn rule_of(periods: u32, breaching: u32, missing: Missing) -> AlarmRule {
        AlarmRule {
            metric: MetricId::new("AWS/ECS", "CPUUtilization", &[]),
            statistic: Statistic::Average,
            period: 60,
            periods,
            breaching,
            comparison: Comparison::Greater,
            threshold: 50.0,
            missing,
        }
    }

    /// Values as words, `-` for a period without data.
    fn check(values: &str, rule: &AlarmRule, before: &str, expected: &str) {
        let read: Vec<_> = values.split_whitespace().map(|word| word.parse().ok()).collect();
        let state = evaluate(rule, &read, AlarmState::parse(before).unwrap());
        assert_eq!(state.as_str(), expected, "{values} of {rule:?}");
    }

    #[test]
    fn alarms_ask_for_so_many_of_so_many_periods() {
        let all = rule_of(3, 3, Missing::Missing);
        check("60 60 60", &all, "OK", "ALARM");
        check("60 50 60", &all, "ALARM", "OK");
        check("- 60 60", &all, "OK", "OK");
        check("- 60 60", &all, "ALARM", "ALARM");
        check("- 60 60", &all, "INSUFFICIENT_DATA", "INSUFFICIENT_DATA");
        check("- - 40", &all, "INSUFFICIENT_DATA", "OK");
        check("- - -", &all, "ALARM", "INSUFFICIENT_DATA");
        check("", &all, "OK", "INSUFFICIENT_DATA");
        let two = rule_of(3, 2, Missing::Missing);
        check("60 40 60", &two, "OK", "ALARM");
        check("60 40 40", &two, "ALARM", "OK");
        check("60 - 40", &two, "ALARM", "ALARM");
    }

    #[test]
    fn missing_data_counts_as_the_alarm_says() {
        check("60 - 60", &rule_of(3, 3, Missing::Breaching), "OK", "ALARM");
        check("60 - 60", &rule_of(3, 3, Missing::NotBreaching), "ALARM", "OK");
        check("- - -", &rule_of(3, 3, Missing::NotBreaching), "ALARM", "OK");
        check("- - -", &rule_of(3, 3, Missing::Ignore), "ALARM", "ALARM");
        check("- - -", &rule_of(3, 3, Missing::Breaching), "OK", "ALARM");
    }

    fn tracking(metric: TrackedMetric) -> TargetTracking {
        let (out_cooldown, in_cooldown, disable_scale_in) = (None, None, None);
        TargetTracking { target: 70.0, metric, out_cooldown, in_cooldown, disable_scale_in }
    }

    #[test]
    fn target_tracking_waits_as_long_as_awss() {
        let service = ServiceKey { cluster: "c".into(), name: "web".into() };
        let check = |metric: TrackedMetric, side: Side, expected: &str| {
            let rule = rule(&service, &tracking(metric), side);
            let dimensions = rule.metric.dimensions.values().cloned().collect::<Vec<_>>();
            let shown = format!(
                "{} {} {} {} {} of {} × {} s, {}",
                rule.metric.name,
                rule.statistic.as_str(),
                rule.comparison.as_str(),
                rule.threshold,
                rule.breaching,
                rule.periods,
                rule.period,
                dimensions.join(" "),
            );
            assert_eq!(shown, expected);
        };
        let cpu = "CPUUtilization Average";
        check(
            TrackedMetric::Cpu,
            Side::High,
            &format!("{cpu} GreaterThanThreshold 70 3 of 3 × 60 s, c web"),
        );
        check(
            TrackedMetric::Cpu,
            Side::Low,
            &format!("{cpu} LessThanThreshold 63 15 of 15 × 60 s, c web"),
        );
        check(
            TrackedMetric::RequestsPerTarget("app/a/1/targetgroup/g/2".into()),
            Side::High,
            "RequestCountPerTarget Sum GreaterThanThreshold 70 3 of 3 × 60 s, app/a/1 targetgroup/g/2",
        );
    }

    #[test]
    fn the_fast_profile_tells_counts_per_minute() {
        let metric = MetricId::new("AWS/ECS", "CPUUtilization", &[]);
        let check = |profile: ScalingProfile, statistic: Statistic, expected: &[f64]| {
            let series = Series::new(profile.step());
            for second in 0..180 {
                let at = Timestamp::from_millis(second * 1000);
                series.add(at, [(metric.clone(), Point::one(2.0))]);
            }
            let rule = AlarmRule { statistic, ..rule_of(3, 3, Missing::Missing) };
            let read = values(&series, &rule, Timestamp::from_millis(180_000), profile);
            let read: Vec<f64> = read.into_iter().flatten().collect();
            assert_eq!(read, expected, "{profile:?} {statistic:?}");
        };
        check(ScalingProfile::Faithful, Statistic::Sum, &[120.0; 3]);
        check(ScalingProfile::Fast, Statistic::Sum, &[120.0; 3]);
        check(ScalingProfile::Fast, Statistic::Average, &[2.0; 3]);
    }

    #[test]
    fn alarms_look_at_what_expressions_come_to() {
        use crate::model::Queried;
        let metric = |name: &str| MetricId::new("N", name, &[]);
        let query = |id: &str, what: Queried, is_returned: bool| {
            let (id, label, period) = (id.to_owned(), None, None);
            MetricQuery { id, label, what, is_returned, period }
        };
        let asked = |name: &str| {
            let (metric, statistic) = (metric(name), Statistic::Sum);
            Queried::Metric(MetricAsked { metric, statistic, period: 60, unit: None })
        };
        let check = |profile: ScalingProfile, expression: &str, expected: &[Option<f64>]| {
            let series = Series::new(profile.step());
            for second in 0..180 {
                let at = Timestamp::from_millis(second * 1000);
                // Nothing fails in the first two thirds.
                let failed = (second >= 120).then(|| (metric("failed"), Point::one(1.0)));
                series.add(at, failed.into_iter().chain([(metric("all"), Point::one(4.0))]));
            }
            let queries = [
                query("e", Queried::Expression(expression.to_owned()), true),
                query("failed", asked("failed"), false),
                query("all", asked("all"), false),
            ];
            let rule = rule_of(3, 3, Missing::Missing);
            let read = read(&series, (&rule, &queries), Timestamp::from_millis(180_000), profile);
            assert_eq!(read, expected, "{profile:?} {expression}");
        };
        let faithful = ScalingProfile::Faithful;
        check(faithful, "100 * failed / all", &[None, None, Some(25.0)]);
        check(faithful, "100 * FILL(failed, 0) / all", &[Some(0.0), Some(0.0), Some(25.0)]);
        check(faithful, "all / PERIOD(all)", &[Some(4.0); 3]);
        check(faithful, "nothing", &[None; 3]);
        // A second stands for a minute.
        check(ScalingProfile::Fast, "100 * failed / all", &[Some(25.0); 3]);
        check(ScalingProfile::Fast, "all / PERIOD(all)", &[Some(4.0); 3]);
    }
}
