//! What `/proc` tells of processes: who they are, who belongs to whom, what they use.
//!
//! Not here: deciding, signalling. **Invariant:** a process that ends while it is being read is no
//! error; it is left out. Everything here blocks: call it off the runtime's threads.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;

use super::record::Identity;
use super::{Key, MARKER};
use crate::clock;
use crate::model::Usage;
use crate::runtime::stats::Reading;
use crate::sys;

/// Processes of one container that [`usage`] adds up at most.
const MAX_TREE: usize = 4096;

/// Part of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) group: u32,
    pub(super) session: u32,
    /// User and system time, its own and that of the children it has waited for.
    pub(super) ticks: u64,
    pub(super) start: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may hold blanks and brackets
        // itself.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let small = |field: usize| u32::try_from(number(field)?).ok();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            group: small(5)?,
            session: small(6)?,
            ticks: number(14)? + number(15)? + number(16)? + number(17)?,
            start: number(22)?,
        })
    }

    /// Ended, and only waiting to be waited for.
    pub(super) const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Changes with every boot, where process numbers and start times begin again.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Every process number there is.
fn pids() -> io::Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// A process that carries the marker of a container of ours.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    pub(super) key: Key,
    pub(super) process: Identity,
    /// It began the container's session, so it is the one that was started.
    pub(super) is_leader: bool,
    /// Its `ADDRESS`.
    pub(super) address: Option<IpAddr>,
}

/// All processes whose environment says that they belong to cluster `cluster_uid`.
pub(super) fn marked(cluster_uid: &str, boot: &str) -> io::Result<Vec<Marked>> {
    let prefix = format!("{MARKER}={cluster_uid}/");
    let mut found = Vec::new();
    for pid in pids()? {
        // Of another user, or just gone: not ours either way.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let Some(name) = variable(&environment, prefix.as_bytes()) else { continue };
        let Some((task, container)) = name.split_once('/') else { continue };
        let Some(stat) = Stat::read(pid) else { continue };
        let address = variable(&environment, b"ADDRESS=").and_then(|text| text.parse().ok());
        found.push(Marked {
            key: (task.into(), container.to_owned()),
            process: Identity { pid, start: stat.start, boot: boot.to_owned() },
            is_leader: stat.session == pid && stat.group == pid,
            address,
        });
    }
    Ok(found)
}

fn variable<'a>(environment: &'a [u8], prefix: &[u8]) -> Option<&'a str> {
    let value = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(prefix))?;
    std::str::from_utf8(value).ok()
}

/// Who lives in a process group that began with its own session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) alive: usize,
    /// One of them carries the marker: the group's number has not been given to somebody else.
    pub(super) is_marked: bool,
}

pub(super) fn group(leader: u32, marker: &str) -> io::Result<Group> {
    let mut group = Group::default();
    for pid in pids()? {
        let Some(stat) = Stat::read(pid) else { continue };
        if stat.group != leader || stat.session != leader || stat.is_dead() {
            continue;
        }
        group.alive += 1;
        if !group.is_marked {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            group.is_marked = environment.split(|byte| *byte == 0).any(|x| x == marker.as_bytes());
        }
    }
    Ok(group)
}

/// What the leader and its descendants use. Memory that they share counts once for each of them; a
/// descendant whose parent ended before it belongs to nobody's tree any more and does not count.
pub(super) fn usage(leader: u32) -> Usage {
    let mut seen = BTreeSet::from([leader]);
    let mut open = vec![leader];
    let (mut ticks, mut pages) = (0, 0);
    while let Some(pid) = open.pop() {
        let Some(stat) = Stat::read(pid) else { continue };
        ticks += stat.ticks;
        pages += resident_pages(pid).unwrap_or(0);
        for child in children(pid) {
            if seen.len() < MAX_TREE && seen.insert(child) {
                open.push(child);
            }
        }
    }
    Usage {
        cpu_micros: ticks.saturating_mul(1_000_000) / sys::ticks_per_second(),
        memory_bytes: pages.saturating_mul(sys::page_size()),
    }
}

/// What they use now, beside what passes on the machine meanwhile.
pub(super) fn reading(leader: u32) -> Reading {
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = u128::from(system_ticks(&system));
    let nanos = ticks * 1_000_000_000 / u128::from(sys::ticks_per_second());
    Reading {
        at: clock::now(),
        usage: usage(leader),
        system_nanos: u64::try_from(nanos).unwrap_or(u64::MAX),
    }
}

/// Ticks of all cores together (proc_stat(5)): user to steal; what guests used is part of user.
fn system_ticks(stat: &str) -> u64 {
    let all = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let numbers = all.unwrap_or_default().split_ascii_whitespace().take(8);
    numbers.filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn resident_pages(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Every thread lists the children that it made.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    lists.flat_map(|list| parse_numbers(&list)).collect()
}

fn parse_numbers(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets() {
        let text = "77 (a) b (c)) S 1 70 69 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9001 1 2";
        let stat = Stat { state: b'S', group: 70, session: 69, ticks: 26, start: 9001 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("77 (a) S 1"), None);
    }

    #[test]
    fn variable_is_found_by_its_whole_name() {
        let environment = b"XADDRESS=1\0ADDRESS=127.0.0.9\0";
        assert_eq!(variable(environment, b"ADDRESS="), Some("127.0.0.9"));
        assert_eq!(variable(environment, b"PORT="), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = usage(std::process::id());
        assert!(usage.memory_bytes > 0);
    }
}
