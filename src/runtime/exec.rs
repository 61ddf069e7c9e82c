//! A command beside a container's own: what is asked, and the two ends of its session.
//!
//! Not here: who may ask (`api::ecs`), how its bytes travel (`app`). **Invariant:** both queues are
//! bounded, so whoever reads slowly slows the command down; the last thing that a session says is
//! how the command ended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Pieces of input or output under way (ours).
const PIECES: usize = 16;
/// The longest piece, in bytes (ours).
pub const PIECE: usize = 16 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub command: Vec<String>,
    /// It gets a terminal of this size. None: three pipes.
    pub terminal: Option<Size>,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Bytes(Bytes),
    /// The end of its standard input.
    End,
    Resize(Size),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Out(Bytes),
    Err(Bytes),
    /// Its status, or 128 + the signal's number.
    Ended(i32),
}

/// A running command, for whoever asked for it. Dropping it ends the command.
#[derive(Debug)]
pub struct Session {
    pub input: mpsc::Sender<Input>,
    pub output: mpsc::Receiver<Output>,
}

/// The same, for the runtime.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) input: mpsc::Receiver<Input>,
    pub(super) output: mpsc::Sender<Output>,
}

pub(super) fn session() -> (Session, Work) {
    let (to, input) = mpsc::channel(PIECES);
    let (output, from) = mpsc::channel(PIECES);
    (Session { input: to, output: from }, Work { input, output })
}
