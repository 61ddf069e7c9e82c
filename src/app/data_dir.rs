//! The data directory: one process at a time, and the name its containers carry.

use std::fmt;
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

/// A secret of this directory's, and its length.
const KEY: &str = "metadata.key";
const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("data directory {0} is in use by another roadstead")]
    InUse(PathBuf),
}

/// A locked data directory.
pub struct DataDir {
    path: PathBuf,
    uid: String,
    key: [u8; KEY_BYTES],
    _lock: File,
}

/// Without the key.
impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, uid, .. } = self;
        f.debug_struct("DataDir").field("path", path).field("uid", uid).finish_non_exhaustive()
    }
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
        let key = key(&path.join(KEY)).map_err(io)?;
        Ok(Self { path: path.to_owned(), uid, key, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From which the ids follow by which containers ask about themselves; made at first use.
    #[must_use]
    pub const fn metadata_key(&self) -> [u8; KEY_BYTES] {
        self.key
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
    write(path, uid.as_bytes())?;
    Ok(uid)
}

fn key(path: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    match fs::read(path).map(<[u8; KEY_BYTES]>::try_from) {
        Ok(Ok(key)) => return Ok(key),
        Ok(Err(_)) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    write(path, &key)?;
    Ok(key)
}

/// All of it or nothing, for us alone.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
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
        let (uid, key) = (first.uid().to_owned(), first.metadata_key());
        drop(first);
        let again = DataDir::lock(&path).unwrap();
        assert_eq!((again.uid(), again.metadata_key()), (uid.as_str(), key));
        let other = DataDir::lock(&dir.path().join("other")).unwrap();
        assert_ne!(other.metadata_key(), key);
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
