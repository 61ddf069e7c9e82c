//! What the tests share: waiting for conditions, sizes, notes.

use std::time::Duration;

/// Generous: a test that waits this long is broken, not slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `full` with `ROADSTEAD_FULL=1`, else `quick`.
pub(crate) fn full_or(full: u64, quick: u64) -> u64 {
    if std::env::var_os("ROADSTEAD_FULL").is_some_and(|value| value == "1") { full } else { quick }
}

#[allow(clippy::print_stderr, reason = "figures are for whoever reads the test's output")]
/// A figure for whoever reads the test's output.
pub(crate) fn note(line: &str) {
    eprintln!("note: {line}");
}

/// Waits until `condition` holds, looking at it again and again.
pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(condition).await, "waited in vain for {what}");
}

/// Whether `condition` holds in time.
pub(crate) async fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.is_ok()
}

/// Whether this process may mount a file system in a namespace of its own.
pub(crate) fn may_mount() -> bool {
    let probe = ["-m", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"];
    let status = std::process::Command::new("unshare").args(probe).status();
    status.is_ok_and(|status| status.success())
}

/// Says that a case cannot run here. Under `CI` nothing may be missing.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run under CI: {why}");
    note(&format!("skipped: {why}"));
}

pub(crate) mod aws;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod mock_engine;
pub(crate) mod registry;
pub(crate) mod trust;
pub(crate) mod world;

/// As [`until`], for a condition that has to ask somebody.
pub(crate) async fn until_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "waited in vain for {what}");
}

/// What Prometheus would see.
pub(crate) async fn scrape(metrics: std::net::SocketAddr) -> String {
    client::get(metrics, "/metrics").await.map(|answer| answer.body).unwrap_or_default()
}
