//! The data directory: one process at a time, and the name its containers carry.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;

/// Held for as long as the process lives.
const LOCK: &str = "lock";
/// A process that was killed may leave a child that has not begun its own program yet, and that
/// holds what its parent held: for so long the lock is waited for (ours; blocking, at a start).
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Marks the containers of this directory's State, so that two of them never touch each other's.
const UID: &str = "uid";

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("data directory {0} is in use by another roadstead")]
    InUse(PathBuf),
}

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    uid: String,
    _lock: File,
}

impl DataDir {
    /// Creates the directory (0700) where it is missing, and locks it.
    ///
    /// # Errors
    /// It cannot be made or written, or another process holds it.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(io)?;
        let last = clock::instant() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if clock::instant() < last => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        let uid = uid(&path.join(UID)).map_err(io)?;
        Ok(Self { path: path.to_owned(), uid, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sixteen hexadecimal digits, made at first use.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

fn uid(path: &Path) -> std::io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 16 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let uid = format!("{:016x}", fastrand::u64(..));
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(uid.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_and_keeps_its_uid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er");
        let first = DataDir::lock(&path).unwrap();
        assert!(matches!(DataDir::lock(&path), Err(DataDirError::InUse(_))));
        let uid = first.uid().to_owned();
        drop(first);
        assert_eq!(DataDir::lock(&path).unwrap().uid(), uid);
    }
    #[test]
    fn a_lock_about_to_be_given_up_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        assert!(DataDir::lock(dir.path()).is_ok());
        ending.join().unwrap();
    }
}
