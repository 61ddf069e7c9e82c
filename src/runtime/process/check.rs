//! The checks of a process container: a command beside it, now and then, and what comes of it.
//!
//! Docker's rules, which are ECS's: the next check begins an interval after the last one ended;
//! failures in the start period do not count until the first pass. **Invariant:** a check ends with
//! its timeout, and so does every process that it began.

use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::record::Record;
use super::{Entry, Inner, spawn};
use crate::clock::instant;
use crate::model::{ContainerCheck, ContainerHealth};
use crate::runtime::START_INTERVAL;
use crate::sys::{self, PidFd, Signal};

/// What the checks have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pulse {
    health: ContainerHealth,
    /// In a row, as far as they count.
    failures: u32,
}

impl Pulse {
    fn after(self, passed: bool, is_starting: bool, retries: u32) -> Self {
        if passed {
            return Self { health: ContainerHealth::Healthy, failures: 0 };
        }
        if is_starting && self.health == ContainerHealth::Unknown {
            return self;
        }
        let failures = self.failures.saturating_add(1);
        let health = if failures >= retries { ContainerHealth::Unhealthy } else { self.health };
        Self { health, failures }
    }
}

/// Checks for as long as the process runs; never ends.
pub(super) async fn run(inner: Weak<Inner>, entry: Arc<Entry>) {
    let record = entry.lock().record.clone();
    if let Some(check) = &record.check {
        follow(&inner, &entry, &record, check).await;
    }
    std::future::pending().await
}

async fn follow(inner: &Weak<Inner>, entry: &Entry, record: &Record, check: &ContainerCheck) {
    let start_ends = instant() + check.start_period.unwrap_or_default();
    let mut pulse = Pulse::default();
    loop {
        let is_starting = instant() < start_ends;
        let hurry = is_starting && pulse.health == ContainerHealth::Unknown;
        tokio::time::sleep(if hurry { START_INTERVAL } else { check.interval }).await;
        let is_starting = instant() < start_ends;
        let passed = passes(record, check).await;
        let Some(inner) = inner.upgrade() else { return };
        pulse = pulse.after(passed, is_starting, check.retries);
        let has_changed = {
            let mut live = entry.lock();
            if live.record.exit.is_some() {
                return;
            }
            std::mem::replace(&mut live.health, pulse.health) != pulse.health
        };
        if has_changed {
            inner.changed(&entry.key);
        }
    }
}

async fn passes(record: &Record, check: &ContainerCheck) -> bool {
    let arguments: Vec<String> = match check.command.split_first() {
        Some((kind, line)) if kind == "CMD-SHELL" => ["/bin/sh".to_owned(), "-c".to_owned()]
            .into_iter()
            .chain(line.first().cloned())
            .collect(),
        Some((_, arguments)) => arguments.to_vec(),
        None => return false,
    };
    match execute(record, &arguments, check.timeout).await {
        Ok(passed) => passed,
        Err(error) => {
            tracing::debug!(task = %record.task, container = record.container, error, "check");
            false
        }
    }
}

async fn execute(record: &Record, arguments: &[String], within: Duration) -> Result<bool, String> {
    let mut command = spawn::command(record, arguments, None).map_err(|e| e.to_string())?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::new_session(&mut command);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().map_err(|e| e.to_string())?;
    // Not waited for yet, so the number is still its own.
    let group = child.id().and_then(|pid| PidFd::open(pid).ok());
    let ended = tokio::time::timeout(within, child.wait()).await;
    match ended {
        Ok(status) => status.map(|status| status.success()).map_err(|e| e.to_string()),
        Err(_) => {
            if let Some(group) = group {
                let _ = group.signal_group(Signal::Kill);
            }
            let _ = child.wait().await;
            Err(format!("took longer than {within:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks, `+` passed and `-` failed, `(` to `)` in the start period; then the health after
    /// each.
    fn check(checks: &str, expected: &str) {
        let (mut pulse, mut is_starting, mut told) = (Pulse::default(), false, String::new());
        for c in checks.chars() {
            match c {
                '(' => is_starting = true,
                ')' => is_starting = false,
                c => {
                    pulse = pulse.after(c == '+', is_starting, 3);
                    told.push_str(&pulse.health.as_str()[..3]);
                    told.push(' ');
                }
            }
        }
        assert_eq!(told.trim_end(), expected, "{checks}");
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_pass_healthy() {
        check("---", "UNK UNK UNH");
        check("+--+---+", "HEA HEA HEA HEA HEA HEA UNH HEA");
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_the_first_pass() {
        check("(-----)---", "UNK UNK UNK UNK UNK UNK UNK UNH");
        check("(-+---)", "UNK HEA HEA HEA UNH");
    }
}
