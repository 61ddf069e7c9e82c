//! `roadstead exec`: a command in a container of a running task, with this terminal or pipe as its
//! own.
//!
//! Asks the `serve` that holds the data directory, over its exec socket. **Invariant:** the
//! terminal is left as it was found, however the session ends.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Place;
use crate::app::EXEC_SOCKET;
use crate::app::exec::{Ask, Frame, pieces};
use crate::runtime::{Exec, Input, Output, Size};
use crate::sys::{self, Raw};

/// Frames on their way to the socket (ours).
const FRAMES: usize = 16;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The task: its id, the beginning of it, or its ARN.
    #[arg(value_name = "TASK")]
    task: String,
    /// The container, where the task has more than one.
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// What to execute, behind `--`.
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
}

/// The command's exit code.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let socket = options.place.data_dir()?.join(EXEC_SOCKET);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stream = UnixStream::connect(&socket).await;
        let stream =
            stream.with_context(|| format!("no roadstead answers at {}", socket.display()))?;
        session(options, stream).await
    });
    // A thread may still wait for input that nobody wants any more.
    runtime.shutdown_background();
    let code = outcome?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

async fn session(options: &Options, stream: UnixStream) -> anyhow::Result<i32> {
    let (mut read, mut write) = stream.into_split();
    let terminal = std::io::stdin();
    let is_terminal = terminal.is_terminal() && std::io::stdout().is_terminal();
    let size = || {
        let (rows, columns) = sys::terminal_size(terminal.as_fd()).ok()?;
        Some(Size { rows, columns })
    };
    let asked = Exec {
        command: options.command.clone(),
        terminal: is_terminal.then(|| size().unwrap_or(Size { rows: 24, columns: 80 })),
    };
    let ask = Ask { task: options.task.clone(), container: options.container.clone(), exec: asked };
    Frame::Ask(ask).write(&mut write).await?;
    let raw = is_terminal.then(|| Raw::enter(terminal.as_fd())).transpose()?;
    let (sender, mut frames) = mpsc::channel(FRAMES);
    tokio::spawn(pieces(tokio::io::stdin(), sender.clone()));
    let mut resized = signal(SignalKind::window_change())?;
    let telling = async {
        loop {
            let frame = tokio::select! {
                Some(frame) = frames.recv() => frame,
                _ = resized.recv(), if is_terminal => match size() {
                    Some(size) => Frame::Input(Input::Resize(size)),
                    None => continue,
                },
            };
            if frame.write(&mut write).await.is_err() {
                // What it still says is read.
                std::future::pending::<()>().await;
            }
        }
    };
    let outcome = tokio::select! {
        outcome = hear(&mut read) => outcome,
        () = telling => unreachable!("it goes on for ever"),
    };
    drop((raw, sender));
    outcome
}

/// Writes what the command says; its exit code.
async fn hear(from: &mut OwnedReadHalf) -> anyhow::Result<i32> {
    loop {
        match Frame::read(from).await? {
            Some(Frame::Output(Output::Out(bytes))) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush())?;
            }
            Some(Frame::Output(Output::Err(bytes))) => std::io::stderr().write_all(&bytes)?,
            Some(Frame::Output(Output::Ended(code))) => return Ok(code),
            Some(Frame::Refused(why)) => anyhow::bail!(why),
            Some(Frame::Ask(_) | Frame::Input(_)) => anyhow::bail!("an answer of another version"),
            None => anyhow::bail!("roadstead went away"),
        }
    }
}
