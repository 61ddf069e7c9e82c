//! From a record to a running process.
//!
//! **Invariant:** the process gets a small base of our environment, its own variables and the
//! marker, nothing else; no descriptor of ours but its log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::MARKER;
use super::record::{Identity, Record, path};
use super::{proc_fs, upkeep};
use crate::runtime::RuntimeError;
use crate::sys::{self, PidFd, Signal};

/// What a process inherits of our environment.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// A program of this name that is not in PATH is our own: the sample task needs no installation.
const OWN_NAME: &str = "roadstead";
/// Ourselves, even when the file was replaced by a newer one since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// execvp(3)'s path when there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
const LOG_MODE: u32 = 0o640;

/// Starts the record's process. Blocks until the program runs or could not be executed.
pub(super) fn spawn(
    record: &Record,
    directory: &Path,
    marker: &str,
    boot: &str,
) -> Result<(PidFd, Identity), RuntimeError> {
    let failed = |what: String| RuntimeError::CannotStart(what);
    let mut command = command(record, &record.arguments, Some(marker))?;
    let log = open_log(record, directory)?;
    let again = log.try_clone().map_err(|error| failed(format!("log: {error}")))?;
    command.stdin(Stdio::null()).stdout(log).stderr(again);
    sys::new_session(&mut command);
    let child = command.spawn().map_err(|error| {
        failed(format!("cannot run {}: {error}", Path::new(command.get_program()).display()))
    })?;
    // Nobody else waits for it, so the number stays its own until we do.
    let pid = child.id();
    let opened = PidFd::open(pid).map_err(|error| failed(format!("process {pid}: {error}")));
    let process = opened.and_then(|fd| match proc_fs::Stat::read(pid) {
        Some(stat) => Ok((fd, Identity { pid, start: stat.start, boot: boot.to_owned() })),
        None => {
            let _ = fd.signal_group(Signal::Kill);
            Err(failed(format!("/proc/{pid}/stat: unreadable")))
        }
    });
    if process.is_err() {
        let mut child = child;
        let _ = child.kill();
        let _ = child.wait();
    }
    process
}

/// `arguments` with the environment, folder and user of the record's process. Without a marker it
/// is no part of the container.
pub(super) fn command(
    record: &Record,
    arguments: &[String],
    marker: Option<&str>,
) -> Result<Command, RuntimeError> {
    let mut environment: BTreeMap<OsString, OsString> = INHERITED
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    let user = record.user.as_deref().filter(|user| !user.is_empty());
    let user = user.map(|user| User::find(user).map_err(RuntimeError::CannotStart)).transpose()?;
    if let Some(home) = user.as_ref().and_then(|user| user.home.clone()) {
        environment.insert("HOME".into(), home.into());
    }
    for (name, value) in &record.environment {
        environment.insert(name.into(), value.into());
    }
    if let Some(marker) = marker {
        environment.insert(MARKER.into(), marker[MARKER.len() + 1..].into());
    }

    let path = environment.get(std::ffi::OsStr::new("PATH"));
    let path = path.cloned().unwrap_or_else(|| DEFAULT_PATH.into());
    let Some((name, arguments)) = arguments.split_first() else {
        return Err(RuntimeError::CannotStart("command: empty".to_owned()));
    };
    let own = name == OWN_NAME && !is_in_path(name, &path);
    let mut command = Command::new(if own { own_program() } else { name.into() });
    command.arg0(name).args(arguments).env_clear().envs(environment);
    if let Some(directory) = record.working_directory.as_deref().filter(|d| !d.is_empty()) {
        match fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => command.current_dir(directory),
            Ok(_) => return Err(no_directory(directory, "not a directory")),
            Err(error) => return Err(no_directory(directory, &error.to_string())),
        };
    }
    // Only root may, and nobody else needs to: `find` saw to that.
    if let Some(user) = user.filter(|_| sys::effective_user() == 0) {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(command)
}

fn no_directory(directory: &str, why: &str) -> RuntimeError {
    RuntimeError::CannotStart(format!("working directory {directory}: {why}"))
}

fn own_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from(OWN_PROGRAM),
    }
}

fn is_in_path(name: &str, path: &OsString) -> bool {
    std::env::split_paths(path).any(|directory| {
        fs::metadata(directory.join(name))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn open_log(record: &Record, directory: &Path) -> Result<File, RuntimeError> {
    let path = path(directory, &record.task, &record.container, upkeep::LOG);
    let mut options = fs::OpenOptions::new();
    // Appending is what makes copy-and-truncate work: each write goes to wherever the end is then.
    options.append(true).create(true).mode(LOG_MODE);
    options
        .open(&path)
        .map_err(|error| RuntimeError::CannotStart(format!("log {}: {error}", path.display())))
}

/// A task definition's `user`: `USER`, `USER:GROUP`, each a name or a number.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    home: Option<String>,
}

impl User {
    fn find(text: &str) -> Result<Self, String> {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let user = Self::parse(text, &read("/etc/passwd"), &read("/etc/group"))?;
        let own = user.uid == sys::effective_user() && !text.contains(':');
        if !own && sys::effective_user() != 0 {
            return Err(format!("user {text}: only root may start processes of another user"));
        }
        Ok(user)
    }

    fn parse(text: &str, passwd: &str, groups: &str) -> Result<Self, String> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let row = row(passwd, name);
        let number = |field: usize| row.as_ref()?.get(field)?.parse().ok();
        let uid = number(2)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("user {name}: not in /etc/passwd"))?;
        let gid = match group {
            // Docker's rule: a user that no file knows is in group 0.
            None => number(3).unwrap_or(0),
            Some(group) => self::row(groups, group)
                .and_then(|row| row.get(2)?.parse().ok())
                .or_else(|| group.parse().ok())
                .ok_or_else(|| format!("group {group}: not in /etc/group"))?,
        };
        let home = row.and_then(|row| row.get(5).map(|home| (*home).to_owned()));
        Ok(Self { uid, gid, home })
    }
}

/// The line of `file` (fields between colons) whose name or number is `name`.
fn row<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = || file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    rows()
        .find(|row| row.first() == Some(&name))
        .or_else(|| rows().find(|row| row.get(2) == Some(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/false\n";
    const GROUPS: &str = "root:x:0:\nstaff:x:50:\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let check = |text, expected: Result<(u32, u32), &str>| {
            let found = User::parse(text, PASSWD, GROUPS).map(|user| (user.uid, user.gid));
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        check("web", Ok((33, 34)));
        check("33", Ok((33, 34)));
        check("web:staff", Ok((33, 50)));
        check("1000", Ok((1000, 0)));
        check("1000:1001", Ok((1000, 1001)));
        check("nobody", Err("user nobody: not in /etc/passwd"));
        check("web:sales", Err("group sales: not in /etc/group"));
    }

    #[test]
    fn programs_are_looked_for_in_the_childs_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().to_owned();
        assert!(!is_in_path("tool", &path));
        let file = directory.path().join("tool");
        fs::write(&file, "").unwrap();
        assert!(!is_in_path("tool", &path), "not executable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_in_path("tool", &path));
    }
}
