//! The health-check log: one line per probe.
//!
//! Fields: AWS, "Health check logs for your Application Load Balancer". **Invariant:** a probe
//! never waits for the log.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::verdict::{Outcome, reason};
use crate::clock::Timestamp;
use crate::logs::{Counts, Lines};
use crate::metrics::{Metrics, names};
use crate::model::{Protocol, TargetReason};

/// Queues lines for the writer thread. Clones share it.
#[derive(Clone, Debug)]
pub struct HealthLog {
    lines: Lines,
    /// The cell of the control runtime.
    control: usize,
}

/// One probe. What does not apply is `-`.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    pub protocol: Protocol,
    /// When it began.
    pub time: Timestamp,
    pub latency: Duration,
    pub target: SocketAddr,
    /// The target group's id.
    pub group: &'a str,
    pub outcome: Outcome,
    /// Of the answer.
    pub code: Option<u16>,
}

impl HealthLog {
    /// Opens `path` for appending and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn open(path: &Path, metrics: &Metrics) -> io::Result<Self> {
        let control = metrics.control();
        let counts = Counts {
            written: metrics.counter(&names::HEALTH_LOG_LINES, &[]),
            dropped: metrics.counter(&names::HEALTH_LOG_DROPPED, &[]),
            control,
        };
        Ok(Self { lines: Lines::open(path, "health log", counts)?, control })
    }

    /// Queues one line; drops and counts it when the queue is full.
    pub fn log(&self, probed: &Probed<'_>) {
        self.lines.push(self.control, format!("{probed}\n"));
    }

    /// Closes the file and opens its path anew: it was moved away.
    pub fn reopen(&self) {
        self.lines.reopen();
    }
}

/// `type time latency target_addr target_group_id status status_code reason_code`.
impl fmt::Display for Probed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, latency) = (self.protocol.as_str().to_ascii_lowercase(), self.latency);
        write!(f, "{kind} {} {:.6} ", self.time, latency.as_secs_f64())?;
        let (status, reason) = match self.outcome {
            Outcome::Passed => ("PASS", "-"),
            Outcome::NotSent => ("UNKNOWN", "Elb.InternalError"),
            failed => ("FAIL", TargetReason::as_str(reason(failed))),
        };
        write!(f, "{} {} {status} ", self.target, self.group)?;
        match self.code {
            Some(code) => write!(f, "{code} {reason}"),
            None => write!(f, "- {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: Outcome, code: Option<u16>, expected: &str) {
        let probed = Probed {
            protocol: Protocol::Http,
            time: Timestamp(1_530_570_980_186_641),
            latency: Duration::from_micros(19_584),
            target: ([10, 0, 0, 1], 80).into(),
            group: "73e2d6bc24d8a067",
            outcome,
            code,
        };
        let head = "http 2018-07-02T22:36:20.186641Z 0.019584 10.0.0.1:80 73e2d6bc24d8a067";
        assert_eq!(probed.to_string(), format!("{head} {expected}"));
    }

    #[test]
    fn probes_are_told_with_their_reason() {
        check(Outcome::Passed, Some(200), "PASS 200 -");
        check(Outcome::WrongCode(503), Some(503), "FAIL 503 Target.ResponseCodeMismatch");
        check(Outcome::TimedOut, None, "FAIL - Target.Timeout");
        check(Outcome::Failed, None, "FAIL - Target.FailedHealthChecks");
        check(Outcome::NotSent, None, "UNKNOWN - Elb.InternalError");
    }
}
