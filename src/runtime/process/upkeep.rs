//! What has to be done from time to time: turn logs over, hold memory limits, forget old logs.
//!
//! **Invariant:** each pass does a bounded amount of work, off the runtime's threads.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::watch::Order;
use super::{Inner, proc_fs, record};
use crate::model::TaskId;

/// The suffix of a container's log.
pub(super) const LOG: &str = "log";
/// A log longer than this is copied to `.1` and cut.
const LOG_LENGTH: u64 = 16 << 20;
/// The log itself, and `.1` to `.3`.
const LOG_FILES: u32 = 4;
/// Logs turned over in one pass: at most 64 MiB are copied.
const TURNED_PER_PASS: usize = 4;
/// Logs are kept after their container; of this many tasks at most, the youngest.
const KEPT_TASKS: usize = 100;

/// How often memory is compared with its limits.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at the lengths of logs.
const LOG_TICKS: u64 = 5;
/// Ticks between two sweeps of old logs.
const SWEEP_TICKS: u64 = 60;

/// Runs until the runtime is dropped.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 1_u64.. {
        interval.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let pass = tokio::task::spawn_blocking(move || {
            hold_memory(&inner);
            if tick % LOG_TICKS == 0 {
                turn_logs(&inner);
            }
            if tick % SWEEP_TICKS == 0 {
                sweep(&inner);
            }
        });
        if let Err(error) = pass.await {
            tracing::error!(%error, "upkeep of processes failed");
        }
    }
}

/// Without control groups a limit is held by looking: a process that grows faster than a second is
/// killed late.
fn hold_memory(inner: &Inner) {
    for entry in inner.entries() {
        let (limit, pid) = {
            let live = entry.lock();
            let pid = live.record.process.as_ref().map(|process| process.pid);
            (live.record.memory_mib, pid.filter(|_| live.record.exit.is_none()))
        };
        let (Some(limit), Some(pid)) = (limit, pid) else { continue };
        if proc_fs::usage(pid).memory_bytes > u64::from(limit) << 20 {
            tracing::warn!(task = %entry.key.0, container = entry.key.1, limit, "out of memory");
            entry.order.send_replace(Order::KillForMemory);
        }
    }
}

fn turn_logs(inner: &Inner) {
    let mut turned = 0;
    for entry in inner.entries() {
        if entry.lock().record.exit.is_some() {
            continue;
        }
        let log = record::path(&inner.directory, &entry.key.0, &entry.key.1, LOG);
        match turn(&log, LOG_LENGTH) {
            Ok(true) => turned += 1,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(path = %log.display(), %error, "cannot turn the log over");
            }
        }
        if turned == TURNED_PER_PASS {
            return;
        }
    }
}

/// Copies the log's last `length` bytes away and cuts it, when it is longer than that. What is
/// written between the last read and the cut is lost, as with every copy-and-truncate; the writer
/// needs to know nothing of it.
fn turn(log: &Path, length: u64) -> io::Result<bool> {
    let mut source = match OpenOptions::new().read(true).write(true).open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let now = source.metadata()?.len();
    if now <= length {
        return Ok(false);
    }
    let new = numbered(log, &"new");
    let copied = File::create(&new).and_then(|mut copy| {
        source.seek(SeekFrom::Start(now - length))?;
        // A writer in full flight could keep us copying for ever.
        io::copy(&mut (&source).take(2 * length), &mut copy)
    });
    if copied.is_err() {
        // On a full disk the cut comes first: the newest lines are worth less than the disk.
        let _ = fs::remove_file(&new);
    } else {
        for number in (1..LOG_FILES - 1).rev() {
            rename(&numbered(log, &number), &numbered(log, &(number + 1)))?;
        }
        rename(&new, &numbered(log, &1))?;
    }
    source.set_len(0)?;
    copied.map(|_| true)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn numbered(log: &Path, number: &dyn std::fmt::Display) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn sweep(inner: &Inner) {
    let kept: BTreeSet<TaskId> =
        inner.entries().into_iter().map(|entry| entry.key.0.clone()).collect();
    if let Err(error) = forget(&inner.directory, &kept, KEPT_TASKS) {
        tracing::warn!(%error, "cannot sweep old logs");
    }
}

/// Deletes the folders of all but the youngest `youngest` tasks that are not in `kept`.
fn forget(directory: &Path, kept: &BTreeSet<TaskId>, youngest: usize) -> io::Result<()> {
    let mut old: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in fs::read_dir(directory)? {
        let folder = folder?;
        let name = folder.file_name();
        let is_kept = name.to_str().is_none_or(|name| kept.contains(&TaskId::from(name)));
        if !is_kept && folder.file_type()?.is_dir() {
            old.push((folder.metadata()?.modified()?, folder.path()));
        }
    }
    old.sort();
    let surplus = old.len().saturating_sub(youngest);
    for (_, folder) in old.into_iter().take(surplus) {
        // A container of this task may have been created meanwhile.
        let has_record = fs::read_dir(&folder)?.any(|file| {
            file.is_ok_and(|file| file.path().extension().is_some_and(|e| e == "json"))
        });
        if !has_record {
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn log_is_turned_over_under_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("app.log");
        let mut writer = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert!(!turn(&directory.path().join("none.log"), 10).unwrap());
        for round in 1..=5 {
            write!(writer, "0123456789-{round}").unwrap();
            assert!(turn(&log, 10).unwrap());
            assert_eq!(read(&log), "");
            assert_eq!(read(&numbered(&log, &1)), format!("23456789-{round}"));
        }
        assert_eq!(read(&numbered(&log, &3)), "23456789-3");
        assert!(!numbered(&log, &4).exists());
        write!(writer, "0123456789").unwrap();
        assert!(!turn(&log, 10).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    }

    #[test]
    fn only_the_youngest_old_logs_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for (age, task) in ["kept", "d", "c", "b", "a"].iter().enumerate() {
            let folder = directory.path().join(task);
            fs::create_dir(&folder).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age as u64);
            File::open(&folder).unwrap().set_modified(at).unwrap();
        }
        forget(directory.path(), &BTreeSet::from(["kept".into()]), 2).unwrap();
        let left = fs::read_dir(directory.path()).unwrap();
        let mut left: Vec<_> =
            left.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["c", "d", "kept"]);
    }
}
