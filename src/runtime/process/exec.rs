//! A further command of a container: a child with its environment, folder and user.
//!
//! It carries no marker, so it is never taken for the container's own. **Invariant:** it ends, with
//! every process of its group, when the container ends and when its session is dropped.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch as channel};

use super::{Entry, spawn};
use crate::runtime::exec::{self, PIECE, Work};
use crate::runtime::{Exec, Input, Output, RuntimeError, Session, Size};
use crate::sys::{self, Ended, PidFd, Signal};

/// What a command leaves behind may hold its output open for so long without a word (ours).
const LINGER: Duration = Duration::from_millis(500);
/// More than a pipe holds (pipe(7)): bytes of a command that has ended are told, bytes of what it
/// leaves behind are not.
const PIPE: usize = 2 * 64 * 1024;
/// What Docker tells programs of its terminals.
const TERM: &str = "xterm";
/// End of input on a terminal (termios(3), VEOF).
const END_OF_INPUT: &[u8] = &[4];

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Our ends of what the command reads and writes.
struct Ends {
    input: Option<Writer>,
    output: Reader,
    /// None: a terminal has one output.
    errors: Option<Reader>,
    terminal: Option<OwnedFd>,
}

/// Kills what is left of the command's group when dropped.
struct Group(AsyncFd<PidFd>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.get_ref();
        // Not waited for yet, so the group's number is still its own.
        let killed = group.signal_group(Signal::Kill).and_then(|()| group.reap());
        if let Err(error) = killed.map(drop)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(pid = group.pid(), %error, "cannot end a command");
        }
    }
}

/// Starts the command; a task of its own carries it.
pub(super) fn start(entry: &Arc<Entry>, asked: &Exec) -> Result<Session, RuntimeError> {
    let record = entry.lock().record.clone();
    if record.process.is_none() || record.exit.is_some() {
        let text = format!("container {} does not run", record.container);
        return Err(RuntimeError::CannotExecute(text));
    }
    let refused = |error: RuntimeError| RuntimeError::CannotExecute(error.to_string());
    let mut command = spawn::command(&record, &asked.command, None).map_err(refused)?;
    if asked.terminal.is_some() && !record.environment.contains_key("TERM") {
        command.env("TERM", TERM);
    }
    let program = asked.command.first().cloned().unwrap_or_default();
    let failed = move |error: io::Error| RuntimeError::CannotExecute(format!("{program}: {error}"));
    let (group, ends) = spawn(command, asked.terminal).map_err(failed)?;
    let (session, work) = exec::session();
    tokio::spawn(carry(group, ends, work, entry.gone.subscribe()));
    Ok(session)
}

fn spawn(mut command: Command, terminal: Option<Size>) -> io::Result<(Group, Ends)> {
    let Some(size) = terminal else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::new_session(&mut command);
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = watched(child)?;
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let ends = Ends {
            input: Some(Box::new(tokio::process::ChildStdin::from_std(input)?)),
            output: Box::new(tokio::process::ChildStdout::from_std(output)?),
            errors: Some(Box::new(tokio::process::ChildStderr::from_std(errors)?)),
            terminal: None,
        };
        return Ok((group, ends));
    };
    let (own, theirs) = sys::terminal()?;
    resize(&own, size)?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    sys::new_terminal_session(&mut command);
    let group = watched(command.spawn()?)?;
    // It holds their end; nothing is told as ended while we do.
    drop(command);
    let ends = Ends {
        input: Some(Box::new(pipe::Sender::from_owned_fd_unchecked(own.try_clone()?)?)),
        output: Box::new(pipe::Receiver::from_owned_fd_unchecked(own.try_clone()?)?),
        errors: None,
        terminal: Some(own),
    };
    Ok((group, ends))
}

fn watched(mut child: Child) -> io::Result<Group> {
    // Nobody else waits for it.
    let group = PidFd::open(child.id()).and_then(|fd| fd.watched().map_err(|(_, error)| error));
    if group.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    group.map(Group)
}

fn resize(terminal: &OwnedFd, size: Size) -> io::Result<()> {
    sys::set_terminal_size(terminal.as_fd(), (size.rows, size.columns))
}

/// Moves bytes until the command has ended and said everything, or has to end.
async fn carry(group: Group, ends: Ends, work: Work, mut gone: channel::Receiver<bool>) {
    let Ends { input, output, errors, terminal } = ends;
    let told = Told::default();
    let saying = async {
        let errors = async {
            if let Some(errors) = errors {
                tell(errors, (&work.output, &told), Output::Err).await;
            }
        };
        tokio::join!(tell(output, (&work.output, &told), Output::Out), errors);
    };
    let hearing = async {
        hear(input, terminal, work.input).await;
        // More is not asked for; it goes on to its end.
        std::future::pending::<()>().await;
    };
    let living = async {
        // Who is left behind may hold the output open; the exit is what counts.
        let exited = async {
            let _ = group.0.readable().await;
            told.quiet().await;
        };
        tokio::select! {
            () = saying => drop(group.0.readable().await),
            () = exited => {}
        }
    };
    tokio::select! {
        () = living => {}
        () = hearing => {}
        () = work.output.closed() => {}
        _ = gone.wait_for(|gone| *gone) => {}
    }
    let _ = group.0.get_ref().signal_group(Signal::Kill);
    let _ = group.0.readable().await;
    let code = match group.0.get_ref().peek() {
        Ok(Ended::Code(code)) => code,
        other => {
            tracing::warn!(?other, "how a command ended is not known");
            255
        }
    };
    drop(group);
    let _ = work.output.send(Output::Ended(code)).await;
}

/// How far its output has been told.
#[derive(Debug, Default)]
struct Told {
    bytes: AtomicUsize,
    /// Pieces that somebody has yet to take.
    waiting: AtomicUsize,
}

impl Told {
    /// Once a command that has ended has nothing more to say, however slowly it is taken.
    async fn quiet(&self) {
        let before = self.bytes.load(Relaxed);
        loop {
            let last = self.bytes.load(Relaxed);
            tokio::time::sleep(LINGER).await;
            let said = self.bytes.load(Relaxed);
            if self.waiting.load(Relaxed) == 0 && (said == last || said - before > PIPE) {
                return;
            }
        }
    }
}

/// What the command says, piece by piece.
async fn tell(
    mut from: Reader,
    (to, told): (&mpsc::Sender<Output>, &Told),
    kind: fn(Bytes) -> Output,
) {
    let mut piece = vec![0; PIECE];
    // A terminal that nobody holds open any more fails to be read.
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        told.waiting.fetch_add(1, Relaxed);
        let sent = to.send(kind(Bytes::copy_from_slice(&piece[..count]))).await;
        told.waiting.fetch_sub(1, Relaxed);
        told.bytes.fetch_add(count, Relaxed);
        if sent.is_err() {
            return;
        }
    }
}

/// What the command is told, until nobody tells it anything any more.
async fn hear(
    mut input: Option<Writer>,
    terminal: Option<OwnedFd>,
    mut from: mpsc::Receiver<Input>,
) {
    while let Some(told) = from.recv().await {
        let written = match (&mut input, told) {
            (Some(to), Input::Bytes(bytes)) => to.write_all(&bytes).await,
            (Some(to), Input::End) if terminal.is_some() => to.write_all(END_OF_INPUT).await,
            (_, Input::End) => {
                input = None;
                Ok(())
            }
            (_, Input::Resize(size)) => match &terminal {
                Some(terminal) => resize(terminal, size),
                None => Ok(()),
            },
            (None, Input::Bytes(_)) => Ok(()),
        };
        // It reads no more, and may still say something.
        if written.is_err() {
            input = None;
        }
    }
}
