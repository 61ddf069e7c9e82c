//! The exec socket: a client asks for a command in a container, and has its bytes carried.
//!
//! A unix socket in the data directory, for whoever may read that. Frames both ways: a byte for the
//! kind, four for the length, the rest. **Invariant:** the last frame of a session says how it
//! ended; a client that goes away ends it, and so does the end of this process's control side.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::exec::{Desk, ENDS};
use crate::net::ACCEPT_REST;
use crate::runtime::exec::PIECE;
use crate::runtime::{Exec, Input, Output, Session, Size};

/// Sessions at once (ours); more wait in the backlog.
const SESSIONS: usize = 64;
/// The longest frame, in bytes (ours: a command with its arguments).
const FRAME: usize = 1 << 20;
/// For a client to be told that its session ends with the process (ours).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a client asks for first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// An id, the beginning of one, or an ARN.
    pub task: String,
    /// None: the only one.
    pub container: Option<String>,
    pub exec: Exec,
}

/// One piece of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Ask(Ask),
    Input(Input),
    Output(Output),
    /// Nothing was executed, or not to its end; why.
    Refused(String),
}

impl Frame {
    /// # Errors
    /// What cannot be written.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let size = |size: &Size| [size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat();
        let (kind, body) = match self {
            Self::Ask(ask) => (0, serde_json::to_vec(ask)?.into()),
            Self::Input(Input::Bytes(bytes)) => (1, bytes.clone()),
            Self::Input(Input::End) => (2, Bytes::new()),
            Self::Input(Input::Resize(to)) => (3, size(to).into()),
            Self::Output(Output::Out(bytes)) => (4, bytes.clone()),
            Self::Output(Output::Err(bytes)) => (5, bytes.clone()),
            Self::Output(Output::Ended(code)) => (6, code.to_be_bytes().to_vec().into()),
            Self::Refused(why) => (7, why.clone().into_bytes().into()),
        };
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = vec![kind];
        frame.extend(length.to_be_bytes());
        frame.extend(body);
        to.write_all(&frame).await
    }

    /// None: there is nothing more.
    ///
    /// # Errors
    /// What cannot be read, or is no frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let mut head = [0; 5];
        match from.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).ok().filter(|length| *length <= FRAME);
        let mut body = vec![0; length.ok_or_else(bad)?];
        from.read_exact(&mut body).await?;
        let body = Bytes::from(body);
        Ok(Some(match head[0] {
            0 => Self::Ask(serde_json::from_slice(&body)?),
            1 => Self::Input(Input::Bytes(body)),
            2 => Self::Input(Input::End),
            3 => {
                let &[a, b, c, d] = &*body else { return Err(bad()) };
                let (rows, columns) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Self::Input(Input::Resize(Size { rows, columns }))
            }
            4 => Self::Output(Output::Out(body)),
            5 => Self::Output(Output::Err(body)),
            6 => {
                let code = <[u8; 4]>::try_from(&*body).map_err(|_| bad())?;
                Self::Output(Output::Ended(i32::from_be_bytes(code)))
            }
            7 => Self::Refused(String::from_utf8_lossy(&body).into_owned()),
            _ => return Err(bad()),
        }))
    }
}

/// Serves sessions until `stop`, and ends those that are open then.
pub(super) async fn serve(listener: UnixListener, desk: Desk, stop: CancellationToken) {
    let (places, sessions) = (Arc::new(Semaphore::new(SESSIONS)), TaskTracker::new());
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            };
            let (desk, stop) = (desk.clone(), stop.clone());
            sessions.spawn(async move {
                if let Err(error) = carry(&desk, stream, &stop).await {
                    tracing::debug!(%error, "a client of the exec socket");
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    sessions.close();
    sessions.wait().await;
}

async fn carry(desk: &Desk, stream: UnixStream, stop: &CancellationToken) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    tokio::select! {
        done = converse(desk, &mut read, &mut write) => return done,
        () = stop.cancelled() => {}
    }
    let last = Frame::Refused(ENDS.to_owned());
    // A client that reads nothing does not keep the process.
    let _ = tokio::time::timeout(LAST_WORDS, last.write(&mut write)).await;
    Ok(())
}

async fn converse(
    desk: &Desk,
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let Some(Frame::Ask(ask)) = Frame::read(read).await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let session = match desk.open(&ask.task, ask.container.as_deref(), &ask.exec).await {
        Ok(session) => session,
        Err(why) => return Frame::Refused(why).write(write).await,
    };
    let Session { input, output } = session;
    tokio::select! {
        told = tell(output, write) => told,
        heard = hear(read, input) => heard,
    }
}

async fn tell(mut from: mpsc::Receiver<Output>, to: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Some(said) = from.recv().await {
        Frame::Output(said).write(to).await?;
    }
    Ok(())
}

/// Ends when the client goes away.
async fn hear(from: &mut OwnedReadHalf, to: mpsc::Sender<Input>) -> io::Result<()> {
    while let Some(Frame::Input(told)) = Frame::read(from).await? {
        if to.send(told).await.is_err() {
            // It takes nothing more, and may still say something.
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// Reads pieces of `from` for as long as somebody takes them, and says when there are no more.
pub(crate) async fn pieces(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Frame>) {
    let mut piece = vec![0; PIECE];
    loop {
        let told = match from.read(&mut piece).await {
            Ok(count @ 1..) => Input::Bytes(Bytes::copy_from_slice(&piece[..count])),
            _ => Input::End,
        };
        let is_last = told == Input::End;
        if to.send(Frame::Input(told)).await.is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_read_back_what_was_written() {
        let exec = Exec {
            command: vec!["sh".to_owned(), "-c".to_owned()],
            terminal: Some(Size { rows: 24, columns: 300 }),
        };
        let ask = Ask { task: "t".to_owned(), container: None, exec };
        let bytes = || Bytes::from_static(b"\0\x01more");
        let frames = [
            Frame::Ask(ask),
            Frame::Input(Input::Bytes(bytes())),
            Frame::Input(Input::End),
            Frame::Input(Input::Resize(Size { rows: 1, columns: 65535 })),
            Frame::Output(Output::Out(bytes())),
            Frame::Output(Output::Err(Bytes::new())),
            Frame::Output(Output::Ended(-1)),
            Frame::Refused("no".to_owned()),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(&mut wire).await.unwrap();
        }
        let mut wire = wire.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read(&mut wire).await.unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut wire).await.unwrap(), None);
        for bad in
            [&b"\x09\0\0\0\0"[..], b"\x06\0\0\0\x01!", b"\x03\0\0\0\0", b"\0\xff\xff\xff\xff"]
        {
            assert!(Frame::read(&mut &*bad).await.is_err(), "{bad:?}");
        }
    }
}
