//! The only unsafe code: system calls that neither the standard library nor tokio offers.
//!
//! Here: process descriptors, signals to process groups, sessions, pipes between sockets, constants
//! of the system. Not here: anything that decides, anything that waits, anything that reads `/proc`
//! (that needs no unsafe code).
//! **Invariant:** every function is safe to call with any arguments: each unsafe block says why it
//! is sound.
#![allow(
    unsafe_code,
    reason = "this file is where unsafe code lives; each block states its reason"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// A signal that this crate sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Nothing is sent; tells whether somebody is there.
    Probe,
    Terminate,
    Kill,
}

impl Signal {
    const fn number(self) -> libc::c_int {
        match self {
            Self::Probe => 0,
            Self::Terminate => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its status, or 128 + the signal's number, as shells and Docker count.
    Code(i32),
    /// It has not ended yet.
    NotYet,
    /// Not our child: only [`PidFd::reaped_code`] may know.
    NotOurs,
}

/// A process descriptor: names one process for ever, whatever becomes of its number.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: u32,
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `pidfd_send_signal` to the group that the process leads or led (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The part of the kernel's `struct pidfd_info` that its first version has: 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// In and out: asks for, and says that there is, an exit code (Linux 6.15).
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl =
    ((3 << 30) | (size_of::<PidFdInfo>() << 16) | (0xFF << 8) | 11) as libc::Ioctl;
const _: () = assert!(size_of::<PidFdInfo>() == 64);

impl PidFd {
    /// The descriptor of process `pid`. Whoever knows the process by more than its number (a start
    /// time) checks that after this call: from here on the number cannot come to mean another
    /// process unnoticed.
    pub fn open(pid: u32) -> io::Result<Self> {
        let number = pid_t(pid)?;
        // SAFETY: takes two integers, returns a new descriptor or -1; no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made `fd` for us; nobody else owns it. It is close-on-exec by
        // definition.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, pid })
    }

    /// Readable once the process has ended. Call it inside a tokio runtime. On failure the
    /// descriptor comes back.
    pub fn watched(self) -> Result<AsyncFd<Self>, (Self, io::Error)> {
        // SAFETY: the descriptor is owned by `self`, never replaced and never lent mutably, so it
        // stays open and the same for as long as the registration that holds it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }
            .map_err(AsyncFdRegisterError::into_parts)
    }

    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Signals the process itself; `NotFound` when it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, 0)
    }

    /// Signals the whole process group that this process leads, or led: members outlive their
    /// leader. `NotFound` when the group is empty. A leader that nobody waited for yet counts as a
    /// member.
    ///
    /// Kernels before 6.9 know the group by number only. The number stays taken while the leader is
    /// not waited for or a member lives, so there the caller must know that one of both is the
    /// case.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        match self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let group = pid_t(self.pid)?;
                // SAFETY: takes two integers; no memory is involved.
                check(unsafe { libc::kill(-group, signal.number()) })
            }
            other => other,
        }
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        // SAFETY: the descriptor is ours and open; the kernel allows a null `siginfo`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal.number(),
                std::ptr::null::<libc::siginfo_t>(),
                flags,
            )
        };
        if result == 0 { Ok(()) } else { Err(not_found(io::Error::last_os_error())) }
    }

    /// How a child of ours ended, without taking it from the process table: its number, and with it
    /// its group's, stays its own until [`Self::reap`].
    pub fn peek(&self) -> io::Result<Ended> {
        self.wait(libc::WNOWAIT)
    }

    /// As [`Self::peek`], and the process leaves the process table.
    pub fn reap(&self) -> io::Result<Ended> {
        self.wait(0)
    }

    /// As [`Self::reap`], and waits for the end of a child that was killed just now.
    pub fn reap_dying(&self) -> io::Result<Ended> {
        self.wait_with(libc::WEXITED)
    }

    fn wait(&self, more: libc::c_int) -> io::Result<Ended> {
        self.wait_with(libc::WEXITED | libc::WNOHANG | more)
    }

    fn wait_with(&self, options: libc::c_int) -> io::Result<Ended> {
        let id = libc::id_t::try_from(self.fd.as_raw_fd()).map_err(io::Error::other)?;
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        loop {
            // SAFETY: `info` is a writable siginfo_t that lives over the call.
            let result = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), options) };
            match check(result) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    return Ok(Ended::NotOurs);
                }
                Err(error) => return Err(error),
            }
        }
        // SAFETY: zeroed is a valid siginfo_t, and waitid leaves it zero or fills the fields of
        // SIGCHLD.
        let (pid, code, status) = unsafe {
            let info = info.assume_init();
            (info.si_pid(), info.si_code, info.si_status())
        };
        Ok(match (pid, code) {
            (0, _) => Ended::NotYet,
            (_, libc::CLD_EXITED) => Ended::Code(status),
            _ => Ended::Code(128 + status),
        })
    }

    /// The exit code of a process that was somebody else's child, once that somebody has waited for
    /// it. None: the kernel cannot tell (before 6.15), or not yet.
    #[must_use]
    pub fn reaped_code(&self) -> Option<i32> {
        let mut info = PidFdInfo { mask: PIDFD_INFO_EXIT, ..PidFdInfo::default() };
        // SAFETY: the request's size field says 64 bytes, which is the size of `info` (asserted
        // above).
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        if result != 0 || info.mask & PIDFD_INFO_EXIT == 0 {
            return None;
        }
        let status = info.exit_code;
        Some(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// Makes the command's process the leader of a new session and process group, without a terminal.
pub fn new_session(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `setsid` is one, and
    // reading errno allocates nothing.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// As [`new_session`], with the terminal that is its standard input.
pub fn new_terminal_session(command: &mut Command) {
    // SAFETY: as in `new_session`; `ioctl` with TIOCSCTTY takes two integers and touches no memory.
    unsafe {
        command.pre_exec(|| {
            let taken = libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1;
            if taken { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
}

/// Both ends of a new terminal (pty(7)): ours, which does not block, and the one of its programs.
///
/// # Errors
/// The system has no terminal left, or no `/dev/ptmx`.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes an integer, returns a new descriptor or -1.
    let own = owned(unsafe { libc::posix_openpt(flags | libc::O_NONBLOCK) })?;
    // SAFETY: both take a descriptor, which is ours and open.
    if unsafe { libc::grantpt(own.as_raw_fd()) | libc::unlockpt(own.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the request takes flags, and returns a new descriptor or -1 (ioctl_tty(2)).
    let theirs = owned(unsafe { libc::ioctl(own.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    Ok((own, theirs))
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller has it from a call that makes a descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Tells a terminal its size in rows and columns; its programs get SIGWINCH.
///
/// # Errors
/// It is no terminal.
pub fn set_terminal_size(terminal: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one struct, which is ours.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

/// A terminal's rows and columns.
///
/// # Errors
/// It is no terminal.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes one struct, which is ours.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// A terminal in raw mode, which is as it was once this is dropped (termios(3)).
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: libc::termios,
}

impl std::fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Raw").field(&self.terminal).finish()
    }
}

impl<'a> Raw<'a> {
    /// # Errors
    /// It is no terminal.
    pub fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let fd = terminal.as_raw_fd();
        let mut before = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: writes one struct, which is ours.
        check(unsafe { libc::tcgetattr(fd, before.as_mut_ptr()) })?;
        // SAFETY: the call above has filled it.
        let before = unsafe { before.assume_init() };
        let mut raw = before;
        // SAFETY: changes one struct, which is ours.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // SAFETY: reads one struct, which is ours.
        check(unsafe { libc::tcsetattr(fd, libc::TCSADRAIN, &raw const raw) })?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // SAFETY: reads one struct, which is ours; the descriptor is borrowed for as long.
        unsafe {
            libc::tcsetattr(self.terminal.as_raw_fd(), libc::TCSADRAIN, &raw const self.before);
        }
    }
}

/// Clock ticks in a second, the unit of the times in `/proc/PID/stat`.
#[must_use]
pub fn ticks_per_second() -> u64 {
    system_constant(libc::_SC_CLK_TCK).unwrap_or(100)
}

/// Bytes in a page, the unit of `/proc/PID/statm`.
#[must_use]
pub fn page_size() -> u64 {
    system_constant(libc::_SC_PAGESIZE).unwrap_or(4096)
}

/// Bytes of memory that this machine has; 0: it does not tell.
#[must_use]
pub fn memory() -> u64 {
    system_constant(libc::_SC_PHYS_PAGES).unwrap_or(0).saturating_mul(page_size())
}

/// Our effective user.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

fn system_constant(name: libc::c_int) -> Option<u64> {
    // SAFETY: takes an integer, returns an integer.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn pid_t(pid: u32) -> io::Result<libc::pid_t> {
    // 0 and 1 would mean "our own group" and "everybody" once negated.
    match libc::pid_t::try_from(pid) {
        Ok(number) if number > 1 => Ok(number),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "process number out of range")),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(not_found(io::Error::last_os_error())) }
}

/// ESRCH has no kind of its own.
fn not_found(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) {
        io::Error::new(io::ErrorKind::NotFound, error)
    } else {
        error
    }
}

/// Raises the limit of open files to the most that this process may have; returns it. Children
/// inherit it.
///
/// # Errors
/// The system refuses.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes one struct, which is ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit(2) reads one struct, which is ours.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(limit.rlim_max),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends both directions of a connection that somebody else owns; its owner reads the end and closes
/// it.
///
/// `fd` must be open and be a socket of the caller's choosing: an fd that was closed and used again
/// would end a stranger's connection. Memory is safe in any case.
///
/// # Errors
/// Not a socket, or not connected.
pub fn shutdown_connection(fd: RawFd) -> io::Result<()> {
    shutdown(fd, libc::SHUT_RDWR)
}

/// The same of what comes: what its owner writes still goes.
///
/// # Errors
/// Not a socket, or not connected.
pub fn shutdown_reading(fd: RawFd) -> io::Result<()> {
    shutdown(fd, libc::SHUT_RD)
}

fn shutdown(fd: RawFd, how: libc::c_int) -> io::Result<()> {
    // SAFETY: shutdown(2) takes two integers and touches no memory of ours.
    match unsafe { libc::shutdown(fd, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pipe for what passes from one socket to another without coming into this process (splice(2)).
/// Filled only when it is empty: so "would block" always speaks of the socket, and never means that
/// the pipe is full. With sockets that do not block, no call of it blocks.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// One that holds `size` bytes.
    ///
    /// # Errors
    /// No file descriptors are left, or this user has as much in pipes as the system allows
    /// (`fs.pipe-user-pages-soft`).
    pub fn new(size: usize) -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: room for two numbers is all that it writes to.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just made, and nobody else knows them.
        let (read, write) =
            unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // SAFETY: no memory is passed.
        if unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { read, write, held: 0 })
    }

    /// Bytes in it.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Takes what `from` has, `most` bytes at most; nothing where the pipe is not empty. 0: `from`
    /// has ended.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where `from` has nothing.
    pub fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        if self.held > 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.held = splice(from, self.write.as_fd(), most)?;
        Ok(self.held)
    }

    /// Gives `to` what it takes of what is held.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where `to` takes nothing.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let count = splice(self.read.as_fd(), to, self.held)?;
        self.held -= count;
        Ok(count)
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK);
    // SAFETY: without offsets no memory of ours is read or written.
    let count = unsafe { libc::splice(from, none, to, none, most, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    fn shell(script: &str) -> (std::process::Child, PidFd) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped());
        new_session(&mut command);
        let child = command.spawn().unwrap();
        let fd = PidFd::open(child.id()).unwrap();
        (child, fd)
    }

    fn ended(fd: &PidFd, ask: impl Fn(&PidFd) -> io::Result<Ended>) -> Ended {
        for _ in 0..2000 {
            match ask(fd).unwrap() {
                Ended::NotYet => std::thread::sleep(std::time::Duration::from_millis(5)),
                ended => return ended,
            }
        }
        panic!("the process did not end");
    }

    #[test]
    fn peeked_child_stays_until_reaped() {
        let (_child, fd) = shell("exit 7");
        assert_eq!(ended(&fd, PidFd::peek), Ended::Code(7));
        assert!(fd.signal_group(Signal::Probe).is_ok());
        assert_eq!(fd.reap().unwrap(), Ended::Code(7));
        assert_eq!(fd.peek().unwrap(), Ended::NotOurs);
        let gone = fd.signal_group(Signal::Probe).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn signal_counts_from_128() {
        let (_child, fd) = shell("read line");
        assert_eq!(fd.peek().unwrap(), Ended::NotYet);
        fd.signal_group(Signal::Kill).unwrap();
        assert_eq!(ended(&fd, PidFd::reap), Ended::Code(137));
    }

    #[test]
    fn code_of_a_process_waited_for_by_another_is_known_where_the_kernel_tells() {
        let (mut child, fd) = shell("read line; exit 9");
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert_eq!(status.into_raw() >> 8, 9);
        assert!(matches!(fd.reaped_code(), Some(9) | None));
    }

    #[test]
    fn process_numbers_that_mean_everybody_are_refused() {
        for pid in [0, 1, u32::MAX] {
            assert_eq!(PidFd::open(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
