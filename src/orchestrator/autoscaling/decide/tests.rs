//! Tables: a service and what its policies' alarms say → where its count goes, and why.

use super::*;
use crate::model::{ServiceKey, StepAdjustment, TrackedMetric};

const COOLDOWN: Duration = Duration::from_secs(300);
/// Every table's now, in seconds.
const NOW: u64 = 10_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn number<T: std::str::FromStr>(words: &[&str], name: &str) -> Option<T> {
    let prefix = format!("{name}=");
    words.iter().find_map(|word| word.strip_prefix(&prefix)?.parse().ok())
}

/// `desired=2 running=2 min=1 max=10 deploying no-in no-out out=SECONDS_AGO/FROM in=SECONDS_AGO`
fn service(text: &str) -> (ScalableTarget, Service) {
    let words: Vec<_> = text.split_whitespace().collect();
    let desired = number(&words, "desired").unwrap();
    let has = |word: &str| words.contains(&word);
    let target = ScalableTarget {
        service: ServiceKey { cluster: "c".into(), name: "web".into() },
        id: String::new(),
        min: number(&words, "min").unwrap_or(1),
        max: number(&words, "max").unwrap_or(10),
        suspended: Suspended { scale_in: has("no-in"), scale_out: has("no-out"), scheduled: false },
        role_arn: None,
        created_at: at(0),
    };
    let out: Option<String> = number(&words, "out");
    let scaled_out = out.map(|out| {
        let (ago, from) = out.split_once('/').unwrap();
        ScaledOut { at: at(NOW - ago.parse::<u64>().unwrap()), from: from.parse().unwrap() }
    });
    let service = Service {
        desired,
        running: number(&words, "running").unwrap_or(desired),
        is_deploying: has("deploying"),
        scaled_out,
        scaled_in: number::<u64>(&words, "in").map(|ago| at(NOW - ago)),
    };
    (target, service)
}

/// Policies as `track NAME high|low|calm VALUE/TARGET [keep] [out=S] [in=S]` or
/// `step NAME VALUE/THRESHOLD KIND LOWER..UPPER:ADJUSTMENT … [cooldown=S] [least=N]`, with `;`
/// between.
fn check(service_text: &str, policies: &str, expected: &str) {
    let (target, service) = service(service_text);
    let lines = policies.split(';').map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let tracks: Vec<_> = lines.iter().map(|words| tracking(words)).collect();
    let steps: Vec<_> = lines.iter().map(|words| stepping(words)).collect();
    let mut voices = Vec::new();
    for (index, words) in lines.iter().enumerate() {
        let policy = words[1];
        let says = match (&tracks[index], &steps[index]) {
            (Some((rule, value)), _) => Says::Track {
                rule,
                high: words[2] == "high",
                low: words[2] == "low",
                value: *value,
                alarms: ["High", "Low"].map(str::to_owned),
            },
            (None, Some((rule, value, threshold))) => {
                Says::Step { rule, alarm: "A".to_owned(), value: *value, threshold: *threshold }
            }
            (None, None) => panic!("{words:?}"),
        };
        voices.push(Voice { policy, says });
    }
    let decision = decide(&target, service, &voices, COOLDOWN, at(NOW));
    let shown = decision.map_or_else(
        || "-".to_owned(),
        |decision| {
            let from = decision.out_from.map(|from| format!(" from {from}")).unwrap_or_default();
            format!("{}{from}: {}", decision.desired, decision.cause)
        },
    );
    let short =
        shown.replace("monitor alarm ", "").replace(" in state ALARM triggered policy ", " ");
    assert_eq!(short, expected, "{service_text} | {policies}");
}

fn tracking(words: &[&str]) -> Option<(TargetTracking, Option<f64>)> {
    let ["track", _, _, values, rest @ ..] = words else { return None };
    let (value, target) = values.split_once('/').unwrap();
    let rule = TargetTracking {
        target: target.parse().unwrap(),
        metric: TrackedMetric::Cpu,
        out_cooldown: number(rest, "out"),
        in_cooldown: number(rest, "in"),
        disable_scale_in: rest.contains(&"keep").then_some(true),
    };
    Some((rule, value.parse().ok()))
}

fn stepping(words: &[&str]) -> Option<(StepScaling, f64, f64)> {
    let ["step", _, values, kind, rest @ ..] = words else { return None };
    let (value, threshold) = values.split_once('/').unwrap();
    let adjustment = match *kind {
        "change" => Adjustment::ChangeInCapacity,
        "percent" => Adjustment::PercentChangeInCapacity,
        _ => Adjustment::ExactCapacity,
    };
    let steps = rest.iter().filter_map(|word| {
        let (bounds, adjustment) = word.split_once(':')?;
        let (lower, upper) = bounds.split_once("..")?;
        let adjustment = adjustment.parse().unwrap();
        Some(StepAdjustment { lower: lower.parse().ok(), upper: upper.parse().ok(), adjustment })
    });
    let rule = StepScaling {
        adjustment,
        steps: steps.collect(),
        min_magnitude: number(rest, "least"),
        cooldown: number(rest, "cooldown"),
        aggregation: None,
    };
    Some((rule, value.parse().unwrap(), threshold.parse().unwrap()))
}

#[test]
fn target_tracking_sizes_in_proportion_and_rounds_up() {
    check("desired=2", "track cpu high 100/50", "4 from 2: High cpu");
    check("desired=2", "track cpu high 51/50", "3 from 2: High cpu");
    check("desired=3", "track cpu high 100/75", "4 from 3: High cpu");
    check("desired=4", "track cpu low 20/50", "2: Low cpu");
    check("desired=4", "track cpu low 26/50", "3: Low cpu");
    check("desired=4", "track cpu low 44/50", "-");
    check("desired=4", "track cpu calm 44/50", "-");
    check("desired=4", "track cpu calm -/50", "-");
    // The running ones did the work, not those still on their way.
    check("desired=4 running=2", "track cpu high 100/50", "-");
    check("desired=4 running=3", "track cpu high 100/50", "6 from 3: High cpu");
}

#[test]
fn bounds_hold_whatever_is_wanted() {
    check("desired=2 max=3", "track cpu high 200/50", "3 from 2: High cpu");
    check("desired=3 max=3", "track cpu high 200/50", "-");
    check("desired=4 min=3", "track cpu low 0/50", "3: Low cpu");
    check("desired=4 min=4", "track cpu low 0/50", "-");
    check("desired=2 min=0", "track cpu low 0/50", "0: Low cpu");
}

#[test]
fn one_policy_suffices_to_scale_out_and_all_must_agree_to_scale_in() {
    let cpu = "track cpu high 100/50";
    check("desired=2", &format!("{cpu}; track mem high 90/30"), "6 from 2: High mem");
    check("desired=2", &format!("{cpu}; track mem low 1/50"), "4 from 2: High cpu");
    check("desired=8", "track cpu low 10/50; track mem low 20/50", "4: Low mem");
    check("desired=8", "track cpu low 10/50; track mem calm 48/50", "-");
    check("desired=8", "track cpu low 10/50; track mem calm -/50", "-");
    check("desired=8", "track cpu low 10/50; track mem calm 48/50 keep", "2: Low cpu");
    check("desired=8", "track cpu low 10/50 keep", "-");
    // One that is at its bound still keeps the others from taking away.
    check("desired=3 max=3", &format!("{cpu}; track mem low 1/50"), "-");
}

#[test]
fn cooldowns_rest_and_count_what_was_added() {
    // 2 were doubled a minute ago; the same demand wants no more, a greater one the difference.
    check("desired=4 running=4 out=60/2", "track cpu high 100/50", "-");
    check("desired=4 running=4 out=60/2", "track cpu high 150/50", "6 from 2: High cpu");
    check("desired=4 running=4 out=300/2", "track cpu high 100/50", "8 from 4: High cpu");
    check("desired=4 running=4 out=60/2", "track cpu high 100/50 out=30", "8 from 4: High cpu");
    check("desired=4 in=299", "track cpu low 20/50", "-");
    check("desired=4 in=300", "track cpu low 20/50", "2: Low cpu");
    check("desired=4 in=60", "track cpu low 20/50 in=60", "2: Low cpu");
    // A scale-in does not keep from scaling out.
    check("desired=2 in=1", "track cpu high 100/50", "4 from 2: High cpu");
}

#[test]
fn suspended_parts_and_deployments_are_left_alone() {
    check("desired=2 no-out", "track cpu high 100/50", "-");
    check("desired=4 no-in", "track cpu low 20/50", "-");
    check("desired=2 no-in", "track cpu high 100/50", "4 from 2: High cpu");
    check("desired=4 no-out", "track cpu low 20/50", "2: Low cpu");
    check("desired=4 deploying", "track cpu low 20/50", "-");
    check("desired=2 deploying", "track cpu high 100/50", "4 from 2: High cpu");
}

#[test]
fn none_running_and_something_to_do_starts_one() {
    check("desired=0 min=0", "track rps calm 5/50", "1 from 0: High rps");
    check("desired=0 min=0", "track rps calm 0/50", "-");
    check("desired=1 running=0 min=0", "track rps calm 5/50", "-");
}

#[test]
fn steps_are_chosen_by_the_distance_from_the_threshold() {
    let up = |value: u32| format!("step up {value}/50 change 0..20:1 20..40:3 40..:5");
    check("desired=2", &up(50), "3 from 2: A up");
    check("desired=2", &up(69), "3 from 2: A up");
    check("desired=2", &up(70), "5 from 2: A up");
    check("desired=2", &up(99), "7 from 2: A up");
    check("desired=2", &up(40), "-");
    let down = |value: u32| format!("step down {value}/50 change -20..0:-1 ..-20:-2");
    check("desired=5", &down(49), "4: A down");
    check("desired=5", &down(31), "4: A down");
    check("desired=5", &down(30), "3: A down");
    check("desired=5", "step set 60/50 exact 0..:8", "8 from 5: A set");
    check("desired=5", "step set 60/50 exact 0..:2", "2: A set");
}

#[test]
fn percentages_round_to_the_safe_side_and_have_a_least() {
    let by = |percent: i32, more: &str| format!("step p 60/50 percent 0..:{percent} {more}");
    check("desired=4", &by(10, ""), "5 from 4: A p");
    check("desired=4", &by(70, ""), "6 from 4: A p");
    check("desired=4", &by(10, "least=3"), "7 from 4: A p");
    check("desired=4", &by(-10, ""), "3: A p");
    check("desired=4", &by(-70, ""), "2: A p");
    check("desired=4", &by(-10, "least=2"), "2: A p");
}

#[test]
fn step_policies_rest_too_and_count_what_was_added() {
    check("desired=3 out=60/2", "step up 60/50 change 0..:1", "-");
    check("desired=3 out=60/2", "step up 90/50 change 0..20:1 20..:4", "6 from 2: A up");
    check("desired=3 out=60/2", "step up 60/50 change 0..:1 cooldown=60", "4 from 3: A up");
    check("desired=3 in=60", "step down 40/50 change ..0:-1", "-");
    check("desired=3 in=60", "step down 40/50 change ..0:-1; track cpu low 10/50", "-");
}
