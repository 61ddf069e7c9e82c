//! Bodies that pass from a target's socket to a client's without coming into this process.
//!
//! Only long ones of known length that go on as they come, and only between sockets without TLS.
//! Which those are, the relay says. **Invariant:** a pipe that still holds something is never used
//! for another body, and no more of them exist than [`MOST`] per data thread.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys::Pipe;

/// What a shorter body saves is not worth a pipe (ours: it is through in a few reads).
pub(super) const LONG: u64 = 256 * 1024;
/// What one pipe holds, and one look at a socket takes (ours).
const SIZE: usize = 256 * 1024;
/// What passes in a row before others get their turn (ours: as of a TCP connection, a fraction of a
/// millisecond).
const BURST: usize = 1024 * 1024;
/// Pipes of one data thread (ours: 32 MiB in the kernel, 256 file descriptors). Who finds none
/// copies.
const MOST: usize = 128;

/// The pipes of one data thread. Never waited for: all connections of a data thread run on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipes(Arc<Mutex<Spare>>);

#[derive(Debug, Default)]
struct Spare {
    kept: Vec<Pipe>,
    /// Those in use as well.
    made: usize,
}

impl Pipes {
    /// One for a body of which `left` bytes are to come; none where there are too many.
    pub(super) fn take(&self, left: u64) -> Option<Through> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = match spare.kept.pop() {
            Some(pipe) => pipe,
            None if spare.made < MOST => {
                let pipe = Pipe::new(SIZE).ok()?;
                spare.made += 1;
                pipe
            }
            None => return None,
        };
        drop(spare);
        Some(Through { pipe: Some(pipe), left, burst: 0, pipes: self.clone() })
    }
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Through {
    /// Some until it is dropped.
    pipe: Option<Pipe>,
    /// Bytes that the target has still to say.
    left: u64,
    /// Bytes since it rested last.
    burst: usize,
    pipes: Pipes,
}

impl Through {
    /// Bytes that the client has still to take.
    pub(super) fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::held)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.held() == 0
    }

    /// Whether it is the others' turn.
    pub(super) const fn is_tired(&self) -> bool {
        self.burst >= BURST
    }

    pub(super) const fn rest(&mut self) {
        self.burst = 0;
    }

    /// Takes what the target says. Ready: 0 at its end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        target: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(0)) };
        let most = usize::try_from(self.left).unwrap_or(SIZE).min(SIZE);
        loop {
            ready!(target.poll_read_ready(cx))?;
            match target.try_io(Interest::READABLE, || pipe.fill(target.as_fd(), most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => {
                    let count = *filled.as_ref().unwrap_or(&0);
                    self.left -= count as u64;
                    self.burst += count;
                    return Poll::Ready(filled);
                }
            }
        }
    }

    /// Gives the client what it takes.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        client: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(client.poll_write_ready(cx))?;
            match client.try_io(Interest::WRITABLE, || pipe.drain(client.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                drained => return Poll::Ready(drained),
            }
        }
    }
}

impl Drop for Through {
    fn drop(&mut self) {
        let mut spare = self.pipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pipe.take().filter(|pipe| pipe.held() == 0) {
            Some(pipe) => spare.kept.push(pipe),
            None => spare.made -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(connecting, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn all_of_a_body_and_nothing_behind_it_comes_through() {
        let ((mut target, ours), (theirs, mut client)) = (pair().await, pair().await);
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let sent = [&body[..], b"next"].concat();
        let sending = tokio::spawn(async move {
            target.write_all(&sent).await.unwrap();
            target
        });
        let pipes = Pipes::default();
        let mut through = pipes.take(body.len() as u64).unwrap();
        let passing = async {
            while !through.is_over() {
                if through.held() == 0 {
                    std::future::poll_fn(|cx| through.poll_fill(cx, &ours)).await.unwrap();
                }
                std::future::poll_fn(|cx| through.poll_drain(cx, &theirs)).await.unwrap();
            }
        };
        let mut got = vec![0; body.len()];
        let ((), read) = tokio::join!(passing, client.read_exact(&mut got));
        read.unwrap();
        assert!(got == body);
        let mut behind = [0; 4];
        let mut ours = ours;
        ours.read_exact(&mut behind).await.unwrap();
        assert_eq!(&behind, b"next");
        drop(sending.await.unwrap());
        drop(through);
        let mut through = pipes.take(1).unwrap();
        let ended = std::future::poll_fn(|cx| through.poll_fill(cx, &ours));
        assert_eq!(ended.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn pipes_are_few_and_one_that_holds_something_is_not_used_again() {
        let (mut target, ours) = pair().await;
        target.write_all(b"abc").await.unwrap();
        let pipes = Pipes::default();
        let made = || pipes.0.lock().unwrap().made;
        let mut through = pipes.take(9).unwrap();
        std::future::poll_fn(|cx| through.poll_fill(cx, &ours)).await.unwrap();
        assert_eq!((through.held(), made()), (3, 1));
        drop(through);
        assert_eq!(made(), 0);
        let all: Vec<_> = (0..MOST).map(|_| pipes.take(1).unwrap()).collect();
        assert!(pipes.take(1).is_none());
        drop(all);
        assert!(pipes.take(1).is_some() && made() == MOST);
    }
}
