//! The machine: its cores and who runs on which, what it is.

use std::fs;
use std::process::{Command, Stdio};

use super::{Program, show};

/// Open files that a bench with thousands of connections needs, on both ends.
const OPEN_FILES: u64 = 20_000;

/// Who runs where. None: one core for everything, nothing is pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) program: Option<usize>,
    pub(crate) load: Option<usize>,
    /// The load's core again where there are only two.
    pub(crate) targets: Option<usize>,
}

impl Cores {
    /// The first cores that this process may use.
    pub(crate) fn get() -> Self {
        match *allowed().as_slice() {
            [] | [_] => Self { program: None, load: None, targets: None },
            [program, load] => {
                Self { program: Some(program), load: Some(load), targets: Some(load) }
            }
            [program, load, targets, ..] => {
                Self { program: Some(program), load: Some(load), targets: Some(targets) }
            }
        }
    }
}

fn allowed_list() -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}

/// `0-2,5` as numbers.
fn allowed() -> Vec<usize> {
    let list = allowed_list();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The bench's own threads are on the load's core while this lives.
#[derive(Debug)]
pub(crate) struct LoadCore {
    before: String,
}

impl LoadCore {
    pub(crate) fn enter(cores: &Cores) -> Self {
        let before = allowed_list();
        if let Some(core) = cores.load {
            move_to(&core.to_string());
        }
        Self { before }
    }
}

impl Drop for LoadCore {
    fn drop(&mut self) {
        move_to(&self.before);
    }
}

fn move_to(list: &str) {
    let pid = std::process::id().to_string();
    let arguments = ["--all-tasks", "--cpu-list", "--pid", list, &pid];
    let _ = Command::new("taskset").args(arguments).stdout(Stdio::null()).status();
}

/// For this process and those it starts from here on.
pub(crate) fn raise_open_files() {
    let (pid, limit) = (std::process::id().to_string(), format!("--nofile={OPEN_FILES}:"));
    let _ = Command::new("prlimit").args(["--pid", &pid, &limit]).stderr(Stdio::null()).status();
}

/// What a figure is worth nothing without.
pub(crate) fn show_machine() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("unknown").trim_start_matches(['\t', ' ', ':']).to_owned();
    let kernel = read("/proc/sys/kernel/osrelease");
    let at = roadstead::clock::now().to_string();
    let (cores, day) = (allowed().len(), at.get(..10).unwrap_or_default());
    show(&format!("{day}, {model}, {cores} cores, Linux {kernel}"));
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for program in Program::ALL {
        match program.find() {
            Some(_) => found.push(program.version()),
            None => missing.push(program.package()),
        }
    }
    show(&format!("with {}", found.join(", ")));
    if !missing.is_empty() {
        show(&format!("left out, not installed (Debian packages): {}", missing.join(", ")));
    }
}
