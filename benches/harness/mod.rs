//! What the benches share: programs under test, load, figures.
//!
//! **Invariant:** figures go to stdout, everything else to stderr.

mod figures;
mod fleet;
mod load;
mod machine;
mod network;
mod process;
mod programs;
mod proxies;

use std::io::Write as _;
use std::time::Duration;

pub(crate) use figures::{Latencies, Sample, Table, alternate, beside, median, millis, ratio};
pub(crate) use fleet::Fleet;
pub(crate) use load::{
    Connections, Rate, WARM_UP, bulk, dnsperf, h2load_table, rate_table, target_of_bulk,
    wrk_beside, wrk_table, wrk_tables,
};
pub(crate) use machine::{Cores, LoadCore, raise_open_files, show_machine};
pub(crate) use network::{Network, alone, answers_http, answers_with, is_alone, until};
pub(crate) use process::Running;
pub(crate) use programs::{Program, roadstead};
pub(crate) use proxies::{Contestant, Kind, Site, proxies, with_rules};

/// How much a bench may take.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) quick: bool,
    pub(crate) access_log: bool,
    /// Of each program's one listener for HTTP; no bench but `http1` sets it.
    pub(crate) rules: usize,
}

impl Options {
    pub(crate) fn run(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// A line of results.
pub(crate) fn show(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for whoever waits.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "# {line}");
}

/// A folder that goes with its owner.
pub(crate) fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("roadstead-bench-").tempdir()
}
