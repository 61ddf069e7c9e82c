//! After a restart: what was written down against what really runs.
//!
//! A process is believed by number, start time and boot. One whose file was never written (we ended
//! between starting it and writing so) is found by the marker in its environment. **Invariant:**
//! afterwards every living process of ours is known as a container, or has been killed because its
//! container ended before.

use std::collections::BTreeMap;
use std::path::Path;

use super::Key;
use super::proc_fs::{self, Marked, Stat};
use super::record::{self, Exit, Identity, Record};
use crate::runtime::RuntimeError;
use crate::sys::{PidFd, Signal};

/// A container as found, with its process when that lives.
pub(super) type Found = (Record, Option<PidFd>);

pub(super) fn adopt(
    directory: &Path,
    cluster_uid: &str,
    boot: &str,
) -> Result<Vec<Found>, RuntimeError> {
    let unavailable = |what: &str, error| RuntimeError::Unavailable(format!("{what}: {error}"));
    let records =
        record::load(directory).map_err(|e| unavailable(&directory.display().to_string(), e))?;
    let mut marked: BTreeMap<Key, Vec<Marked>> = BTreeMap::new();
    for process in proc_fs::marked(cluster_uid, boot).map_err(|e| unavailable("/proc", e))? {
        marked.entry(process.key.clone()).or_default().push(process);
    }
    let mut found: Vec<Found> = Vec::new();
    for record in records {
        let processes = marked.remove(&record.key()).unwrap_or_default();
        let before = record.clone();
        let one = one(record, &processes, boot);
        if one.0 != before {
            save(directory, &one.0);
        }
        found.push(one);
    }
    for (key, processes) in marked {
        let Some(leader) = leader_of(&processes) else {
            // What a container left behind that ended and was removed.
            processes.iter().for_each(kill);
            continue;
        };
        let record = Record::found(&key, leader.process.clone(), leader.address);
        tracing::info!(task = %key.0, container = key.1, "adopted a process without a file");
        save(directory, &record);
        found.push(one(record, &processes, boot));
    }
    Ok(found)
}

fn save(directory: &Path, record: &Record) {
    if let Err(error) = record.save(directory) {
        tracing::warn!(%error, "cannot write the container file");
    }
}

fn one(mut record: Record, processes: &[Marked], boot: &str) -> Found {
    let mut fd = None;
    if record.exit.is_none() {
        if record.process.is_none() {
            record.process = leader_of(processes).map(|leader| leader.process.clone());
        }
        fd = record.process.as_ref().and_then(|process| open(process, boot));
        let has_started = record.process.is_some() || !processes.is_empty();
        if fd.is_none() && has_started {
            record.exit = Some(Exit { code: None, out_of_memory: false });
        }
    }
    if fd.is_none() {
        // The leader ended while nobody was there to end the rest.
        processes.iter().for_each(kill);
    }
    (record, fd)
}

/// The oldest, should a container's process have begun further sessions.
fn leader_of(processes: &[Marked]) -> Option<&Marked> {
    processes.iter().filter(|p| p.is_leader).min_by_key(|p| (p.process.start, p.process.pid))
}

/// The descriptor of exactly this process. One that has ended and was not waited for counts: its
/// code is still there.
fn open(process: &Identity, boot: &str) -> Option<PidFd> {
    if process.boot != boot {
        return None;
    }
    let fd = PidFd::open(process.pid).ok()?;
    (Stat::read(process.pid)?.start == process.start).then_some(fd)
}

fn kill(process: &Marked) {
    if let Some(fd) = open(&process.process, &process.process.boot)
        && let Err(error) = fd.signal(Signal::Kill)
    {
        tracing::warn!(pid = fd.pid(), %error, "cannot kill a process left behind");
    }
}
