//! Tells when the configuration file, or a file that it names, has changed.
//!
//! Looks at the files themselves; the system's notices of their folders only make it look sooner,
//! so renames by editors, replaced symlinks and lost notices all end well. **Invariant:** a
//! change that stays is told, and nothing is told before the files have been quiet for [`QUIET`].

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long files have to stay as they are: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// Files that never are quiet are told after this many looks.
const MOST_LOOKS: usize = 40;
/// The files are looked at this often without any notice.
const LOOK: Duration = Duration::from_secs(2);

/// What of a file changes with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    written: (i64, i64),
}

/// None: there is no such file, or it cannot be looked at.
fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: (data.dev(), data.ino()),
        length: data.size(),
        written: (data.mtime(), data.mtime_nsec()),
    })
}

/// Watches some files. Make it before they are read, so that no change falls in between.
#[derive(Debug)]
pub struct Watch {
    /// As last told. None within: the file was not there.
    known: BTreeMap<PathBuf, Option<Stamp>>,
    watcher: Option<notify::RecommendedWatcher>,
    nudges: mpsc::Receiver<()>,
}

impl Watch {
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        // One waiting nudge stands for all.
        let (sender, nudges) = mpsc::channel(1);
        let nudge = move |_| {
            let _ = sender.try_send(());
        };
        let watcher = notify::recommended_watcher(nudge)
            .inspect_err(|error| tracing::warn!(%error, "no notices of changed files; looking"))
            .ok();
        let mut watch = Self { known: BTreeMap::new(), watcher, nudges };
        watch.set_paths(paths);
        // What is there now is about to be read.
        watch.known = watch.look();
        watch
    }

    /// Watches these files from now on. One that is new to it counts as changed.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        self.known.retain(|path, _| paths.contains(path));
        for path in paths {
            self.follow(&path);
            self.known.entry(path).or_insert(None);
        }
    }

    /// Asks for notices of the folder that `path` is in, and of the one that it is a link to.
    fn follow(&mut self, path: &Path) {
        let target = std::fs::canonicalize(path).ok();
        for file in [Some(path.to_owned()), target].into_iter().flatten() {
            let folder = match file.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => continue,
            };
            let Some(watcher) = &mut self.watcher else { continue };
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %folder.display(), "cannot watch; looking");
            }
        }
    }

    fn look(&self) -> BTreeMap<PathBuf, Option<Stamp>> {
        self.known.keys().map(|path| (path.clone(), stamp(path))).collect()
    }

    /// Returns when some file has changed. Losing the call (in a `select!`) loses no change.
    pub async fn changed(&mut self) {
        loop {
            let mut seen = self.look();
            if seen == self.known {
                // Closed only without a watcher: then looking is all there is.
                let nudge = async {
                    if self.nudges.recv().await.is_none() {
                        std::future::pending::<()>().await;
                    }
                };
                let _ = tokio::time::timeout(LOOK, nudge).await;
                // However busy the folder is, the files are looked at no more often than this.
                tokio::time::sleep(QUIET).await;
                continue;
            }
            for _ in 0..MOST_LOOKS {
                tokio::time::sleep(QUIET).await;
                let now = self.look();
                if now == seen {
                    break;
                }
                seen = now;
            }
            if seen != self.known {
                let paths: Vec<PathBuf> = seen.keys().cloned().collect();
                self.known = seen;
                // A link may lead elsewhere now.
                paths.iter().for_each(|path| self.follow(path));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Generous; a look comes every two seconds at the latest.
    const DEADLINE: Duration = Duration::from_secs(30);

    async fn told(watch: &mut Watch) {
        tokio::time::timeout(DEADLINE, watch.changed()).await.unwrap();
    }

    async fn quiet(watch: &mut Watch) {
        let waiting = tokio::time::timeout(QUIET * 6, watch.changed());
        assert!(waiting.await.is_err(), "told without a change");
    }

    #[tokio::test]
    async fn writes_renames_and_removals_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.toml"), folder.path().join("b"));
        fs::write(&path, "1").unwrap();
        let mut watch = Watch::new([path.clone()]);
        quiet(&mut watch).await;
        fs::write(&path, "22").unwrap();
        told(&mut watch).await;
        fs::write(&other, "another file").unwrap();
        quiet(&mut watch).await;
        fs::rename(&other, &path).unwrap();
        told(&mut watch).await;
        fs::remove_file(&path).unwrap();
        told(&mut watch).await;
        fs::write(&path, "back").unwrap();
        told(&mut watch).await;
        quiet(&mut watch).await;
    }

    #[tokio::test]
    async fn replaced_link_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("a.toml"), name).unwrap();
        }
        std::os::unix::fs::symlink(at("one"), at("data")).unwrap();
        let mut watch = Watch::new([at("data").join("a.toml")]);
        std::os::unix::fs::symlink(at("two"), at("new")).unwrap();
        fs::rename(at("new"), at("data")).unwrap();
        told(&mut watch).await;
        fs::write(at("two").join("a.toml"), "changed").unwrap();
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn file_that_is_new_to_the_watch_counts_as_changed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| fs::write(path, "1").unwrap());
        let mut watch = Watch::new([paths[0].clone()]);
        watch.set_paths(paths.clone());
        told(&mut watch).await;
        quiet(&mut watch).await;
    }
}
