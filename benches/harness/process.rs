//! A program as a child: pinned, measured through `/proc`, ended by its own number.
//!
//! **Invariant:** dropping it ends it, and so does the end of the bench itself (`setpriv
//! --pdeathsig`), however that came about.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use roadstead::clock;
use roadstead::sys::{self, PidFd, Signal};

use super::progress;

/// From SIGTERM to SIGKILL: longer than quickstart's drains.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// CPU time of a process and everything below it, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    cpu: Duration,
    at: Instant,
}

impl Usage {
    /// CPU seconds and wall seconds since `self`.
    pub(crate) fn since(self, earlier: Self) -> (f64, f64) {
        let cpu = self.cpu.saturating_sub(earlier.cpu);
        (cpu.as_secs_f64(), (self.at - earlier.at).as_secs_f64())
    }
}

/// `program` on `core`, in a group of its own so that Ctrl-C reaches it once, as SIGTERM, when the
/// bench is gone.
pub(super) fn pinned(program: &Path, core: Option<usize>) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).process_group(0);
    if let Some(core) = core {
        command.args(["taskset", "--cpu-list", &core.to_string()]);
    }
    command.arg(program);
    command
}

impl Running {
    /// Starts `program` with its output in `dir/NAME.log`.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        core: Option<usize>,
        dir: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let child = pinned(program, core)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log })
    }

    /// Fails with the end of its log when it has ended.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        anyhow::bail!("{} ended with {status}: {}", self.name, self.last_words())
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" / ")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn usage(&self) -> Usage {
        let ticks: u64 = tree(self.pid()).into_iter().map(ticks).sum();
        let per_second = sys::ticks_per_second().max(1);
        Usage {
            cpu: Duration::from_millis(ticks * 1000 / per_second),
            at: clock::instant().into_std(),
        }
    }

    /// Bytes resident, of the process and everything below it.
    pub(crate) fn resident(&self) -> u64 {
        tree(self.pid()).into_iter().map(resident).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let terminated = PidFd::open(self.pid()).and_then(|fd| fd.signal(Signal::Terminate));
        let since = clock::instant();
        while terminated.is_ok() && since.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        progress(&format!("{} is killed", self.name));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `pid` and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let numbers = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(numbers)
        .filter_map(|pid| Some((pid, fields(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// The fields of `/proc/PID/stat` from the state on: those before may hold blanks.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// utime and stime, of all its threads.
fn ticks(pid: u32) -> u64 {
    let fields = fields(pid).unwrap_or_default();
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// VmRSS.
pub(super) fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
