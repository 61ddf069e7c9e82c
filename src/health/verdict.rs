//! From outcomes of probes to a verdict: ALB's thresholds.
//!
//! Pure. Not here: when a probe is made (the checker), what it does (`probe`). **Invariant:**
//! only probes of the regular interval ever count as failures; the extra ones while `initial` can
//! only pass.

use crate::model::{HealthCheck, TargetReason, VerdictState};

/// What one probe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// An HTTP answer whose code does not match.
    WrongCode(u16),
    TimedOut,
    /// Refused, reset, closed too early, or no HTTP.
    Failed,
    /// This machine could not send it: says nothing of the target.
    NotSent,
}

/// Why a probe was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Extra, because nothing has passed yet.
    Early,
    /// Its interval was over.
    Regular,
}

/// A verdict to record: a new state, or another reason for the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub state: VerdictState,
    pub reason: Option<TargetReason>,
    pub description: String,
}

/// The counts of one registration.
#[derive(Clone, Debug)]
pub struct Machine {
    state: VerdictState,
    /// Passes in a row.
    passes: u32,
    /// Regular failures in a row.
    failures: u32,
    /// What the last failure was, where it is the verdict's reason.
    because: Option<Outcome>,
}

impl Machine {
    /// Starts from what is recorded; from `Initial` where nothing is.
    #[must_use]
    pub const fn new(state: VerdictState) -> Self {
        Self { state, passes: 0, failures: 0, because: None }
    }

    #[must_use]
    pub const fn state(&self) -> VerdictState {
        self.state
    }

    /// Counts one outcome; says what it changes.
    pub fn observe(
        &mut self,
        outcome: Outcome,
        occasion: Occasion,
        check: &HealthCheck,
    ) -> Option<Change> {
        match outcome {
            Outcome::Passed => self.pass(check),
            Outcome::NotSent => None,
            _ => self.fail(outcome, occasion, check),
        }
    }

    fn pass(&mut self, check: &HealthCheck) -> Option<Change> {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        let enough = match self.state {
            // ALB: a newly registered target needs one pass.
            VerdictState::Initial => true,
            VerdictState::Unhealthy => self.passes >= check.healthy_threshold,
            VerdictState::Healthy => false,
        };
        enough.then(|| {
            self.state = VerdictState::Healthy;
            self.because = None;
            Change { state: self.state, reason: None, description: String::new() }
        })
    }

    fn fail(
        &mut self,
        outcome: Outcome,
        occasion: Occasion,
        check: &HealthCheck,
    ) -> Option<Change> {
        if occasion == Occasion::Early {
            return None;
        }
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        let new =
            self.state != VerdictState::Unhealthy && self.failures >= check.unhealthy_threshold;
        let other = self.state == VerdictState::Unhealthy && self.because != Some(outcome);
        (new || other).then(|| {
            self.state = VerdictState::Unhealthy;
            self.because = Some(outcome);
            let (reason, description) = explain(outcome);
            Change { state: self.state, reason: Some(reason), description }
        })
    }
}

/// ELB's code for a failure.
pub(super) const fn reason(outcome: Outcome) -> TargetReason {
    match outcome {
        Outcome::WrongCode(_) => TargetReason::ResponseCodeMismatch,
        Outcome::TimedOut => TargetReason::Timeout,
        Outcome::Failed | Outcome::Passed | Outcome::NotSent => TargetReason::FailedHealthChecks,
    }
}

/// ELB's words.
fn explain(outcome: Outcome) -> (TargetReason, String) {
    let words = match outcome {
        Outcome::WrongCode(code) => format!("Health checks failed with these codes: [{code}]"),
        Outcome::TimedOut => "Request timed out".to_owned(),
        Outcome::Failed | Outcome::Passed | Outcome::NotSent => "Health checks failed".to_owned(),
    };
    (reason(outcome), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    /// `p` passes, `s` answers 503, `t` times out, `f` fails; capitals for early probes. Output:
    /// what the verdict became and after which probe.
    fn check(start: VerdictState, probes: &str, expected: &str) {
        let mut check = HealthCheck::defaults(Protocol::Http);
        (check.healthy_threshold, check.unhealthy_threshold) = (3, 2);
        let mut machine = Machine::new(start);
        let mut changes = Vec::new();
        for (index, letter) in probes.chars().enumerate() {
            let outcome = match letter.to_ascii_lowercase() {
                'p' => Outcome::Passed,
                's' => Outcome::WrongCode(503),
                't' => Outcome::TimedOut,
                'n' => Outcome::NotSent,
                _ => Outcome::Failed,
            };
            let early = letter.is_ascii_uppercase();
            let occasion = if early { Occasion::Early } else { Occasion::Regular };
            if let Some(change) = machine.observe(outcome, occasion, &check) {
                let reason = change.reason.map_or("", TargetReason::as_str);
                changes.push(format!("{} {} {reason}", index + 1, change.state.as_str()));
            }
        }
        let changes: Vec<_> = changes.iter().map(|change| change.trim_end()).collect();
        assert_eq!(changes.join(", "), expected, "{start:?} {probes}");
    }

    #[test]
    fn new_target_needs_one_pass() {
        check(VerdictState::Initial, "p", "1 healthy");
        check(VerdictState::Initial, "P", "1 healthy");
        check(VerdictState::Initial, "fp", "2 healthy");
    }

    #[test]
    fn probe_that_could_not_be_sent_says_nothing() {
        check(VerdictState::Healthy, "nnnn", "");
        check(VerdictState::Healthy, "fnf", "3 unhealthy Target.FailedHealthChecks");
    }

    #[test]
    fn early_failures_never_count() {
        check(VerdictState::Initial, "FFFFFFFF", "");
        check(VerdictState::Initial, "FfFFF", "");
        check(VerdictState::Initial, "FfFFf", "5 unhealthy Target.FailedHealthChecks");
    }

    #[test]
    fn failures_have_to_be_consecutive() {
        check(VerdictState::Healthy, "fpfpfp", "");
        check(VerdictState::Healthy, "ff", "2 unhealthy Target.FailedHealthChecks");
        check(VerdictState::Healthy, "ss", "2 unhealthy Target.ResponseCodeMismatch");
        check(VerdictState::Healthy, "st", "2 unhealthy Target.Timeout");
    }

    #[test]
    fn unhealthy_target_needs_its_passes_in_a_row() {
        check(VerdictState::Unhealthy, "ppp", "3 healthy");
        let reason = "3 unhealthy Target.FailedHealthChecks, 6 healthy";
        check(VerdictState::Unhealthy, "ppfppp", reason);
    }

    #[test]
    fn another_reason_is_told_once() {
        let reasons = "2 unhealthy Target.FailedHealthChecks, 4 unhealthy Target.Timeout";
        check(VerdictState::Healthy, "ffftt", reasons);
    }

    #[test]
    fn reasons_are_told_in_elb_words() {
        assert_eq!(
            explain(Outcome::WrongCode(503)).1,
            "Health checks failed with these codes: [503]"
        );
        assert_eq!(explain(Outcome::TimedOut).1, "Request timed out");
        assert_eq!(explain(Outcome::Failed).1, "Health checks failed");
    }
}
