//! A further command in a container: Docker's exec, on a connection of our own.
//!
//! The client library reads a terminal's output as if it had headers when it begins with certain
//! bytes, so the upgraded connection is ours (Engine API, "ContainerAttach", stream format).
//! Docker keeps no handle to end a command by: when its session is dropped, its input ends and its
//! output is closed. **Invariant:** nothing is taken for the command's end but Docker's word.

use std::io;
use std::time::Duration;

use bollard::models::{ExecConfig, ExecStartConfig};
use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Docker;
use super::engine::{Engine, Failure, STATS};
use crate::runtime::exec::{self, PIECE, Work};
use crate::runtime::{Exec, Input, Output, RuntimeError, Session, Size};

/// For each request of a session (ours).
const REQUEST: Duration = Duration::from_secs(30);
/// The answer's head, in bytes (ours).
const HEAD: usize = 16 * 1024;
/// Stream, three zeros, length.
const FRAME: usize = 8;
/// Docker's own, for a command whose end it does not tell.
const UNKNOWN: i32 = 255;
/// A moment after its output has ended, Docker knows how a command ended: so often it is asked …
const ASKS: u32 = 50;
/// … with this pause (ours).
const ASK_PAUSE: Duration = Duration::from_millis(100);

impl Docker {
    /// Runs the command in the container of this id.
    pub(super) async fn execute(&self, id: &str, asked: &Exec) -> Result<Session, RuntimeError> {
        let refused = |failure: Failure| failure.into_error(RuntimeError::CannotExecute);
        let is_terminal = asked.terminal.is_some();
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(is_terminal),
            cmd: Some(asked.command.clone()),
            ..ExecConfig::default()
        };
        let made =
            self.engine.call(REQUEST, |client| async move { client.create_exec(id, config).await });
        let exec = made.await.map_err(refused)?.id;
        let started =
            tokio::time::timeout(REQUEST, upgrade(self.engine.socket(), &exec, is_terminal));
        let (stream, early) = match started.await {
            Ok(started) => started?,
            Err(_) => return Err(RuntimeError::Timeout("docker: no answer".to_owned())),
        };
        let (session, work) = exec::session();
        let run = Run { engine: std::sync::Arc::clone(&self.engine), exec, is_terminal };
        if let Some(size) = asked.terminal {
            run.resize(size).await;
        }
        tokio::spawn(run.carry(stream, early, work));
        Ok(session)
    }
}

/// Starts a made exec. What came behind the answer's head belongs to the stream.
async fn upgrade(
    socket: &str,
    exec: &str,
    is_terminal: bool,
) -> Result<(UnixStream, BytesMut), RuntimeError> {
    let broken = |error: io::Error| RuntimeError::Unavailable(format!("docker: {error}"));
    let mut stream = UnixStream::connect(socket).await.map_err(broken)?;
    let config = ExecStartConfig {
        detach: Some(false),
        tty: Some(is_terminal),
        ..ExecStartConfig::default()
    };
    let body = serde_json::to_string(&config).map_err(|error| broken(error.into()))?;
    let request = format!(
        "POST /exec/{exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut bytes = BytesMut::with_capacity(HEAD);
    loop {
        if stream.read_buf(&mut bytes).await.map_err(broken)? == 0 || bytes.len() > HEAD {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(&bytes).map_err(|error| broken(io::Error::other(error)))?;
        let httparse::Status::Complete(length) = parsed else { continue };
        let code = head.code.unwrap_or_default();
        bytes.advance(length);
        // Old daemons say 200 and upgrade all the same.
        if code == 101 || code == 200 {
            return Ok((stream, bytes));
        }
        return Err(RuntimeError::CannotExecute(reason(code, &bytes)));
    }
}

/// What a refusal says, as far as it came with its head.
fn reason(code: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json = text.find('{').and_then(|at| {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter();
        values.next()?.ok()
    });
    let message =
        json.and_then(|json: serde_json::Value| Some(json["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| format!("docker answered {code}"))
}

/// A started command.
struct Run {
    engine: std::sync::Arc<Engine>,
    exec: String,
    is_terminal: bool,
}

impl Run {
    async fn carry(self, stream: UnixStream, early: BytesMut, work: Work) {
        let (read, write) = stream.into_split();
        let Work { input, output } = work;
        let hearing = async {
            self.hear(write, input).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = tell(read, early, self.is_terminal, &output) => {}
            () = hearing => {}
            () = output.closed() => return,
        }
        let _ = output.send(Output::Ended(self.code().await)).await;
    }

    async fn hear(&self, mut to: OwnedWriteHalf, mut from: mpsc::Receiver<Input>) {
        while let Some(told) = from.recv().await {
            let written = match told {
                Input::Bytes(bytes) => to.write_all(&bytes).await,
                Input::End => to.shutdown().await,
                Input::Resize(size) => {
                    self.resize(size).await;
                    Ok(())
                }
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// A size that is not taken changes only how it looks. A command that has only just been
    /// started has no terminal yet.
    async fn resize(&self, size: Size) {
        let (exec, rows, columns) = (&self.exec, size.rows.into(), size.columns.into());
        for _ in 0..ASKS {
            let options = ResizeExecOptionsBuilder::default().h(rows).w(columns).build();
            let resized = self
                .engine
                .call(REQUEST, |client| async move { client.resize_exec(exec, options).await });
            match resized.await {
                Ok(()) => return,
                Err(Failure::Gone(_)) => break,
                Err(failure) => tracing::debug!(exec, ?failure, "a terminal is not resized yet"),
            }
            tokio::time::sleep(ASK_PAUSE / 10).await;
        }
    }

    async fn code(&self) -> i32 {
        for _ in 0..ASKS {
            let exec = &self.exec;
            let asked =
                self.engine.call(STATS, |client| async move { client.inspect_exec(exec).await });
            match asked.await {
                Ok(told) if told.running != Some(true) => {
                    let code = told.exit_code.and_then(|code| i32::try_from(code).ok());
                    return code.unwrap_or(UNKNOWN);
                }
                Ok(_) => {}
                Err(failure) => tracing::debug!(exec, ?failure, "how it ended is not known yet"),
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
        UNKNOWN
    }
}

/// What the command says, until it says nothing more.
async fn tell(
    mut from: OwnedReadHalf,
    mut bytes: BytesMut,
    is_terminal: bool,
    to: &mpsc::Sender<Output>,
) {
    let mut frames = Frames::default();
    loop {
        let said = if is_terminal { whole(&mut bytes) } else { frames.next(&mut bytes) };
        if let Some(said) = said {
            if to.send(said).await.is_err() {
                return;
            }
            continue;
        }
        bytes.reserve(PIECE);
        if !matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

/// A terminal's output has no frames.
fn whole(bytes: &mut BytesMut) -> Option<Output> {
    (!bytes.is_empty()).then(|| Output::Out(bytes.split().freeze()))
}

/// Output and errors on one stream, told apart by frames.
#[derive(Debug, Default)]
struct Frames {
    is_error: bool,
    /// Bytes of the frame that are still to come.
    left: usize,
}

impl Frames {
    /// None: more has to be read first.
    fn next(&mut self, bytes: &mut BytesMut) -> Option<Output> {
        while self.left == 0 {
            if bytes.len() < FRAME {
                return None;
            }
            self.is_error = bytes[0] == 2;
            let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            self.left = usize::try_from(length).unwrap_or(usize::MAX);
            bytes.advance(FRAME);
        }
        let some: Bytes = bytes.split_to(self.left.min(bytes.len())).freeze();
        self.left -= some.len();
        let kind = if self.is_error { Output::Err } else { Output::Out };
        (!some.is_empty()).then(|| kind(some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_wherever_they_are_cut() {
        let stream = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\0\
                       \x01\0\0\0\0\0\0\x01!";
        for cut in 1..stream.len() {
            let (mut frames, mut bytes) = (Frames::default(), BytesMut::new());
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                bytes.extend_from_slice(piece);
                while let Some(said) = frames.next(&mut bytes) {
                    match said {
                        Output::Out(some) => out.extend(some),
                        Output::Err(some) => err.extend(some),
                        Output::Ended(_) => panic!("nothing ends here"),
                    }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"out!"[..], &b"err"[..]), "{cut}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let check = |body: &str, expected: &str| assert_eq!(reason(409, body.as_bytes()), expected);
        check("{\"message\":\"it is paused\"}\n", "it is paused");
        check("1a\r\n{\"message\":\"it is paused\"}\r\n0\r\n", "it is paused");
        check("no", "docker answered 409");
        check("", "docker answered 409");
    }
}
