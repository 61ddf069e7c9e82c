//! Slow start: who is still growing into its share.
//!
//! Source: AWS, "Slow start mode". Pure. **Invariant:** somebody always has a full share: slow
//! start begins only beside a healthy target that is through with it.

use std::time::Duration;

use crate::clock::Timestamp;

/// A healthy target.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub healthy_since: Timestamp,
    pub registered_at: Timestamp,
    /// It was unhealthy between the two.
    pub has_failed: bool,
}

/// When each of `members` began its slow start, where it has one. Those that were registered before
/// anybody was healthy have none.
#[must_use]
pub fn begun(members: &[Member], duration: Duration) -> Vec<Option<Timestamp>> {
    let mut begun = vec![None; members.len()];
    if duration.is_zero() {
        return begun;
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| members[*at].healthy_since);
    // When those before were healthy, and when they had their full share.
    let mut before: Vec<(Timestamp, Timestamp)> = Vec::new();
    for at in order {
        let Member { healthy_since, registered_at, has_failed } = members[at];
        let beside = |(healthy, full): &(Timestamp, Timestamp)| {
            *full <= healthy_since && (has_failed || *healthy <= registered_at)
        };
        let slow = before.iter().any(beside);
        begun[at] = slow.then_some(healthy_since);
        before.push((healthy_since, if slow { healthy_since + duration } else { healthy_since }));
    }
    begun
}

/// The share, 0 to 1, that a target has `elapsed` after its slow start began: it grows linearly,
/// from one hundredth so that the first request comes.
#[must_use]
pub fn share(elapsed: Duration, duration: Duration) -> f64 {
    if elapsed >= duration {
        return 1.0;
    }
    (elapsed.as_secs_f64() / duration.as_secs_f64()).max(0.01)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as `registered healthy` or `registered healthy f`, in seconds; 10 s of slow start.
    fn check(members: &str, expected: &[Option<u64>]) {
        let member = |text: &str| {
            let words: Vec<_> = text.split_whitespace().collect();
            let at = |word: &str| Timestamp::from_millis(word.parse::<u64>().unwrap() * 1000);
            let has_failed = words.get(2) == Some(&"f");
            Member { registered_at: at(words[0]), healthy_since: at(words[1]), has_failed }
        };
        let members: Vec<_> = members.split(',').map(member).collect();
        let found = begun(&members, Duration::from_secs(10));
        let seconds: Vec<_> = found.iter().map(|at| at.map(|at| at.millis() / 1000)).collect();
        assert_eq!(seconds, expected);
    }

    #[test]
    fn slow_start_needs_somebody_with_a_full_share() {
        check("0 1", &[None]);
        check("0 1, 0 2, 0 3", &[None, None, None]);
        check("0 1, 5 6", &[None, Some(6)]);
        check("5 6, 0 1", &[Some(6), None]);
        check("0 1, 5 6, 7 8", &[None, Some(6), Some(8)]);
        check("0 1, 0 20 f", &[None, Some(20)]);
        check("0 20 f", &[None]);
    }

    #[test]
    fn shares_grow_linearly() {
        let share = |elapsed| share(Duration::from_secs(elapsed), Duration::from_secs(100));
        assert_eq!([share(0), share(25), share(100), share(200)], [0.01, 0.25, 1.0, 1.0]);
    }
}
