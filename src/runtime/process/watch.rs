//! One task per live process: it sends the signals, sees the exit, and clears up what the leader
//! leaves behind.
//!
//! **Invariant:** a group is signalled only while its number cannot mean another group: before its
//! leader was waited for, or, of a leader that was not our child, while a member carries the
//! marker.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::record::Exit;
use super::{Entry, Inner, proc_fs};
use crate::clock::{Instant, instant};
use crate::runtime::RuntimeEvent;
use crate::sys::{Ended, PidFd, Signal};

/// How long init may take to wait for a process that we adopted; its exit code is known after that.
const REAPED_WITHIN: Duration = Duration::from_millis(500);
const REAPED_POLL: Duration = Duration::from_millis(5);
/// While the members of a group end by themselves: first and longest pause between two looks.
const GROUP_POLL: Duration = Duration::from_millis(10);
const GROUP_POLL_MAX: Duration = Duration::from_millis(250);
/// After SIGKILL only a process inside a system call that cannot be interrupted lives on.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(30);

/// What is asked of a live process. Moves forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    /// Asked to stop; killed at this moment.
    Stop(Instant),
    /// Over its memory limit.
    KillForMemory,
}

impl Order {
    const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Stop(deadline) => Some(deadline),
            Self::Run | Self::KillForMemory => None,
        }
    }
}

pub(super) async fn watch(inner: Weak<Inner>, entry: Arc<Entry>, fd: AsyncFd<PidFd>) {
    let mut orders = entry.order.subscribe();
    until_exit(&fd, &mut orders).await;
    let Some(inner) = inner.upgrade() else { return };
    // At once, so that its endpoint is out of every pick while the exit code is still looked for.
    let died = RuntimeEvent::Died { task: entry.key.0.clone(), container: entry.key.1.clone() };
    inner.send(died);
    let (code, is_child) = exit_code(fd.get_ref()).await;
    let exit = Exit { code, out_of_memory: *orders.borrow() == Order::KillForMemory };
    entry.lock().record.exit = Some(exit);
    let (task, container) = entry.key.clone();
    inner.send(RuntimeEvent::Changed { task, container });
    save(&inner, &entry).await;
    end_group(&inner, &entry, fd.get_ref(), is_child, &mut orders).await;
    if is_child && let Err(error) = fd.get_ref().reap() {
        tracing::warn!(pid = fd.get_ref().pid(), %error, "cannot wait for process");
    }
    entry.gone.send_replace(true);
}

async fn until_exit(fd: &AsyncFd<PidFd>, orders: &mut watch::Receiver<Order>) {
    let mut asked = false;
    loop {
        let order = *orders.borrow_and_update();
        if order == Order::KillForMemory {
            signal(fd.get_ref(), Signal::Kill);
        } else if order.deadline().is_some() && !asked {
            asked = true;
            signal(fd.get_ref(), Signal::Terminate);
        }
        tokio::select! {
            biased;
            ended = fd.readable() => match ended {
                Ok(mut ready) if matches!(fd.get_ref().peek(), Ok(Ended::NotYet)) => {
                    ready.clear_ready();
                }
                Ok(_) => return,
                // The reactor is going away, and this task with it.
                Err(_) => std::future::pending().await,
            },
            changed = orders.changed() => if changed.is_err() {
                std::future::pending().await
            },
            () = until(order.deadline()) => {
                signal(fd.get_ref(), Signal::Kill);
                // Readable for good once it has ended; nothing more can be asked of it.
                let _ = fd.readable().await;
                return;
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The exit code, and whether the process is our child.
async fn exit_code(fd: &PidFd) -> (Option<i32>, bool) {
    match fd.peek() {
        Ok(Ended::Code(code)) => return (Some(code), true),
        Ok(Ended::NotYet) | Err(_) => return (None, true),
        Ok(Ended::NotOurs) => {}
    }
    let deadline = instant() + REAPED_WITHIN;
    loop {
        let code = fd.reaped_code();
        if code.is_some() || instant() >= deadline {
            return (code, false);
        }
        tokio::time::sleep(REAPED_POLL).await;
    }
}

/// A container ends with its first process, as in Docker: what is left of the group is killed at
/// once. Only when the container was asked to stop do the others have their grace, too.
async fn end_group(
    inner: &Inner,
    entry: &Entry,
    fd: &PidFd,
    is_child: bool,
    orders: &mut watch::Receiver<Order>,
) {
    if is_child && orders.borrow().deadline().is_none() {
        // Nobody can fork out of a SIGKILL, so there is nothing to look for afterwards.
        signal(fd, Signal::Kill);
        return;
    }
    let mut pause = GROUP_POLL;
    let mut killed_at: Option<Instant> = None;
    loop {
        let (leader, marker) = (fd.pid(), inner.marker(&entry.key));
        let look = tokio::task::spawn_blocking(move || proc_fs::group(leader, &marker)).await;
        let group = look.map_err(io::Error::other).and_then(|group| group);
        let is_over = match &group {
            Ok(group) => group.alive == 0 || !(is_child || group.is_marked),
            Err(error) => {
                tracing::warn!(%error, "cannot read /proc");
                false
            }
        };
        if is_over {
            return;
        }
        let now = instant();
        match killed_at {
            Some(at) if now >= at + KILL_WAIT => return,
            Some(_) => {}
            None if orders.borrow().deadline().is_none_or(|deadline| now >= deadline) => {
                signal(fd, Signal::Kill);
                killed_at = Some(now);
                pause = GROUP_POLL;
            }
            None => {}
        }
        let until = orders.borrow().deadline().filter(|_| killed_at.is_none());
        let wake = now + pause;
        tokio::time::sleep_until(until.map_or(wake, |until| until.min(wake))).await;
        pause = (pause * 2).min(GROUP_POLL_MAX);
    }
}

fn signal(fd: &PidFd, signal: Signal) {
    match fd.signal_group(signal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(pid = fd.pid(), ?signal, %error, "cannot signal process group");
        }
        _ => {}
    }
}

async fn save(inner: &Arc<Inner>, entry: &Arc<Entry>) {
    let (inner, entry) = (Arc::clone(inner), Arc::clone(entry));
    let saved = tokio::task::spawn_blocking(move || {
        let record = entry.lock().record.clone();
        record.save(&inner.directory)
    });
    match saved.await {
        Ok(Ok(())) => {}
        // After a restart the process is found to be gone all the same, only its code is not known
        // then.
        Ok(Err(error)) => tracing::warn!(%error, "cannot write the container file"),
        Err(error) => tracing::warn!(%error, "cannot write the container file"),
    }
}
