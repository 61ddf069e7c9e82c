//! Anomalies: a target that fails far more often than the others of its group, and how its share
//! of the traffic shrinks and grows again.
//!
//! AWS, "Automatic Target Weights": what counts is answers of 5xx and connections that fail; a
//! group of fewer than three targets has nobody to compare with. AWS publishes no thresholds: those
//! here are ours. Pure. **Invariant:** no more than half of a group's targets have less than their
//! share at a time, and nobody has nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often a group is looked at (AWS: mitigation follows within about this).
pub const WINDOW: Duration = Duration::from_secs(5);
/// Fewer targets than this have no anomalies (AWS).
const FEWEST: usize = 3;
/// Exchanges that a target is judged by, at least …
const ENOUGH: u64 = 10;
/// … unless they have not come after so many windows: what came has to do.
const PATIENCE: u32 = 6;
/// A target is an anomaly when it fails more often than this …
const LEAST_RATE: f64 = 0.1;
/// … and so many times as often as the others.
const TIMES: f64 = 3.0;
/// An anomaly's weight is cut to this part of itself with each window …
const CUT: f64 = 0.25;
/// … but never below this, so that it is seen to recover.
const LEAST_WEIGHT: f64 = 0.05;
/// What a recovering target gets back with each window.
const GROWTH: f64 = 0.1;

/// What is known of one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Exchanges since it was judged last, and how many of them failed.
    pub all: u64,
    pub failed: u64,
    /// Windows since then.
    pub waited: u32,
    pub is_anomalous: bool,
    /// 0 to 1.
    pub weight: f64,
}

impl Default for Standing {
    fn default() -> Self {
        Self { all: 0, failed: 0, waited: 0, is_anomalous: false, weight: 1.0 }
    }
}

impl Standing {
    /// It gets less than its share.
    #[must_use]
    pub fn is_mitigated(&self) -> bool {
        self.weight < 1.0
    }

    fn rate(&self) -> f64 {
        ratio(self.failed, self.all)
    }
}

/// A standing as data threads see it.
#[derive(Debug)]
pub struct Share {
    /// The bits of a float.
    weight: AtomicU64,
    anomalous: AtomicBool,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: AtomicU64::new(1.0f64.to_bits()), anomalous: AtomicBool::new(false) }
    }
}

impl Share {
    /// Whether anything changed.
    pub fn set(&self, standing: &Standing) -> bool {
        let bits = standing.weight.to_bits();
        let was = self.anomalous.swap(standing.is_anomalous, Ordering::Relaxed);
        self.weight.swap(bits, Ordering::Relaxed) != bits || was != standing.is_anomalous
    }

    /// 0 to 1.
    #[must_use]
    pub fn weight(&self) -> f64 {
        f64::from_bits(self.weight.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn is_anomalous(&self) -> bool {
        self.anomalous.load(Ordering::Relaxed)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Judges the targets of a group at the end of a window, to whose standings its exchanges were
/// added. `mitigates`: anomalies get less traffic.
pub fn judge(targets: &mut [Standing], mitigates: bool) {
    let (all, failed) =
        targets.iter().fold((0, 0), |(all, failed), own| (all + own.all, failed + own.failed));
    let comparable = targets.len() >= FEWEST;
    let rates: Vec<f64> = targets.iter().map(Standing::rate).collect();
    for (own, rate) in targets.iter_mut().zip(&rates) {
        own.waited += 1;
        if !comparable {
            own.is_anomalous = false;
        } else if own.all >= ENOUGH || own.waited >= PATIENCE {
            let others = ratio(failed - own.failed, all - own.all);
            own.is_anomalous = *rate > LEAST_RATE && *rate > TIMES * others;
        } else {
            // Too little to say anything new.
            continue;
        }
        (own.all, own.failed, own.waited) = (0, 0, 0);
    }
    weigh(targets, &rates, comparable && mitigates);
}

/// Moves the weights: the worst half of the targets may have less than their share.
fn weigh(targets: &mut [Standing], rates: &[f64], mitigates: bool) {
    let mut worst: Vec<usize> = (0..targets.len()).filter(|at| targets[*at].is_anomalous).collect();
    // Who is mitigated already stays so, however little it is heard of.
    worst.sort_by(|a, b| {
        let key = |at: usize| (targets[at].is_mitigated(), rates[at]);
        key(*b).partial_cmp(&key(*a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let others = targets.iter().filter(|own| !own.is_anomalous && own.is_mitigated()).count();
    worst.truncate((targets.len() / 2).saturating_sub(others));
    for (at, own) in targets.iter_mut().enumerate() {
        own.weight = if !mitigates {
            1.0
        } else if worst.contains(&at) {
            (own.weight * CUT).max(LEAST_WEIGHT)
        } else {
            (own.weight + GROWTH).min(1.0)
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Windows of `FAILED/ALL` per target, one line each; expected: per window the weights in
    /// percent, with `!` for an anomaly.
    fn check(mitigates: bool, windows: &[&str], expected: &[&str]) {
        let count = windows[0].split_whitespace().count();
        let mut targets = vec![Standing::default(); count];
        for (window, expected) in windows.iter().zip(expected) {
            for (own, words) in targets.iter_mut().zip(window.split_whitespace()) {
                let (failed, all) = words.split_once('/').unwrap();
                own.failed += failed.parse::<u64>().unwrap();
                own.all += all.parse::<u64>().unwrap();
            }
            judge(&mut targets, mitigates);
            let word = |own: &Standing| {
                let mark = if own.is_anomalous { "!" } else { "" };
                format!("{:.0}{mark}", own.weight * 100.0)
            };
            let words: Vec<_> = targets.iter().map(word).collect();
            assert_eq!(words.join(" "), *expected, "{windows:?} at {window}");
        }
        assert_eq!(windows.len(), expected.len());
    }

    #[test]
    fn whoever_fails_far_more_often_than_the_others_gets_less() {
        let windows = ["0/100 1/100 50/100"; 4];
        check(true, &windows, &["100 100 25!", "100 100 6!", "100 100 5!", "100 100 5!"]);
        check(false, &windows[..2], &["100 100 100!", "100 100 100!"]);
    }

    #[test]
    fn a_share_grows_back_step_by_step() {
        check(
            true,
            &["0/50 0/50 50/50", "0/50 0/50 0/20", "0/50 0/50 0/20", "0/50 0/50 20/20"],
            &["100 100 25!", "100 100 35", "100 100 45", "100 100 11!"],
        );
    }

    #[test]
    fn what_all_have_is_no_anomaly() {
        check(true, &["50/100 60/100 70/100"], &["100 100 100"]);
        // A tenth, and no more, is nothing yet.
        check(true, &["0/100 0/100 10/100"], &["100 100 100"]);
        check(true, &["9/100 9/100 25/100"], &["100 100 100"]);
        check(true, &["0/100 50/100"], &["100 100"]);
        check(true, &["0/0 0/0 0/0"], &["100 100 100"]);
    }

    #[test]
    fn no_more_than_half_of_them_get_less() {
        check(
            true,
            &["0/900 0/100 40/100 60/100 50/100"; 2],
            &["100 100 100! 25! 25!", "100 100 100! 6! 6!"],
        );
    }

    #[test]
    fn little_traffic_is_waited_for_then_judged() {
        let quiet = "0/100 0/100 2/3";
        check(true, &[quiet; 4], &["100 100 100", "100 100 100", "100 100 100", "100 100 25!"]);
        let silent = ["0/50 0/50 50/50", "0/50 0/50 0/0", "0/50 0/50 0/0", "0/50 0/50 0/0"];
        // It keeps its standing while nothing comes.
        check(true, &silent, &["100 100 25!", "100 100 6!", "100 100 5!", "100 100 5!"]);
        let mut target = vec![Standing { is_anomalous: true, weight: 0.05, ..Standing::default() }];
        target.resize(3, Standing::default());
        (0..PATIENCE).for_each(|_| judge(&mut target, true));
        assert!(!target[0].is_anomalous && target[0].weight > 0.05, "it is tried again");
    }

    proptest! {
        #[test]
        fn nobody_has_nothing_and_half_have_their_share(
            windows in prop::collection::vec(
                prop::collection::vec((0u64..200, 0u64..200), 7), 1..30,
            ),
        ) {
            let mut targets = vec![Standing::default(); 7];
            for window in windows {
                for (own, (failed, good)) in targets.iter_mut().zip(window) {
                    own.failed += failed;
                    own.all += failed + good;
                }
                judge(&mut targets, true);
                prop_assert!(targets.iter().all(|own| (LEAST_WEIGHT..=1.0).contains(&own.weight)));
                let less = targets.iter().filter(|own| own.is_mitigated()).count();
                prop_assert!(less <= 3, "{targets:?}");
            }
        }
    }
}
