//! A connection, with or without TLS.
//!
//! Reads are as large as a socket's: what comes is taken in one system call and decrypted from
//! memory. A write encrypts all it is given and hands it to the kernel in one vectored call.
//! **Invariant:** a write that was not ready has taken its bytes: whoever polls again does so with
//! the same ones, and is told then that they are written.

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::server::Alpn;

/// Taken from the socket in one read (ours: a record and its frame, so that a full one is never
/// cut in two).
const READ: usize = 17 * 1024;
/// Encrypted and not yet taken by the kernel, at most (ours: four full records).
const WRITE: usize = 64 * 1024;

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Session {
    /// `TLSv1.3`
    pub protocol: &'static str,
    /// As OpenSSL calls it.
    pub cipher: &'static str,
    /// What the client asked for, lower case.
    pub server_name: Option<String>,
    /// The ARN of the certificate that was presented. Empty on connections to targets.
    pub certificate: Arc<str>,
    /// Header lines that tell targets about the client's certificate; empty: it showed none. None:
    /// it was not asked for one.
    pub mutual: Option<String>,
    pub alpn: Option<Alpn>,
    /// An earlier session went on: no certificate was shown.
    pub resumed: bool,
}

#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection whose handshake is over, or under way.
pub struct TlsStream {
    pub(super) tcp: TcpStream,
    pub(super) connection: Connection,
    pub(super) session: Option<Arc<Session>>,
    /// What was read and `connection` has not taken.
    pub(super) raw: Vec<u8>,
    /// Bytes that were taken of a write that is not on the wire yet.
    taken: usize,
    /// The other side sends no more.
    ended: bool,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).field("session", &self.session).finish()
    }
}

impl Stream {
    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.tcp,
        }
    }

    /// The socket, where what goes over it is what is said.
    #[must_use]
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }

    /// None: without TLS.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.session.as_ref(),
        }
    }

    /// Whether bytes of a write that has not ended are encrypted already: the same ones have to be
    /// given again.
    #[must_use]
    pub fn has_taken(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.taken > 0)
    }

    /// Ready: a read is worth a buffer.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Nothing to read: neither the end nor bytes that nobody asked for. No system call as long as
    /// the reactor has seen nothing.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => {
                let read = tcp.try_read(&mut [0; 1]);
                read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            // What comes may be tickets, which are no bytes of the other side's answer.
            Self::Tls(stream) => {
                let (mut byte, mut cx) = ([0; 1], Context::from_waker(Waker::noop()));
                stream.poll_plaintext(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl TlsStream {
    pub(super) fn new(tcp: TcpStream, mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(WRITE));
        Self { tcp, connection, session: None, raw: Vec::new(), taken: 0, ended: false }
    }

    /// Hands `bytes` to the connection until `stop` says so. Returns what it did not take.
    fn feed<'b>(
        &mut self,
        mut bytes: &'b [u8],
        mut stop: impl FnMut(&mut Connection) -> io::Result<bool>,
    ) -> io::Result<&'b [u8]> {
        while !bytes.is_empty() && !self.ended {
            if self.connection.read_tls(&mut bytes)? == 0 {
                // Nothing counts behind the other side's goodbye.
                self.ended = true;
                break;
            }
            if let Err(error) = self.connection.process_new_packets() {
                // The alert that says why.
                let _ = self.connection.write_tls(&mut Blind(&self.tcp));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if stop(&mut self.connection)? {
                break;
            }
        }
        Ok(bytes)
    }

    /// Reads from the socket once and hands it on. Ready: false at the end of the stream.
    fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        stop: impl FnMut(&mut Connection) -> io::Result<bool>,
    ) -> Poll<io::Result<bool>> {
        let mut chunk = [MaybeUninit::uninit(); READ];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            self.ended = true;
            // So that the connection knows whether it was a proper end.
            self.connection.read_tls(&mut io::empty())?;
            return Poll::Ready(Ok(false));
        }
        let rest = self.feed(chunk.filled(), stop)?;
        self.raw.extend_from_slice(rest);
        Poll::Ready(Ok(true))
    }

    /// One step of a handshake: sends what there is to send, then reads. Ready: whether it goes
    /// on.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.raw.is_empty() {
                let raw = std::mem::take(&mut self.raw);
                let rest = self.feed(&raw, |connection| Ok(!connection.is_handshaking()))?;
                self.raw = rest.to_vec();
            }
            // TLS 1.3's tickets go with the first answer instead of alone.
            let waits = self.connection.is_handshaking() || !self.is_1_3();
            if waits && self.connection.wants_write() {
                ready!(self.poll_encrypted(cx))?;
            }
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_feed(cx, |connection| Ok(!connection.is_handshaking())))?;
        }
    }

    fn is_1_3(&self) -> bool {
        self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// Gives the kernel what is encrypted.
    fn poll_encrypted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let mut socket = Socket { tcp: &mut self.tcp, cx };
            match self.connection.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let nothing = self.connection.reader().fill_buf().is_err_and(waits);
        if !nothing || !self.raw.is_empty() || self.ended {
            return Poll::Ready(Ok(()));
        }
        self.send_what_rests(cx)?;
        self.tcp.poll_read_ready(cx)
    }

    /// Tickets that no answer took along, or an answer to the other side's new keys.
    fn send_what_rests(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.taken == 0 && self.connection.wants_write() {
            let _ = self.poll_encrypted(cx)?;
        }
        Ok(())
    }

    fn poll_plaintext(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let mut ended = take(&mut self.connection, out)?;
        loop {
            if out.remaining() == 0 || ended {
                return Poll::Ready(Ok(()));
            }
            if !self.raw.is_empty() {
                let raw = std::mem::take(&mut self.raw);
                let rest = self.feed(&raw, |connection| {
                    ended = take(connection, out)?;
                    Ok(ended || out.remaining() == 0)
                })?;
                self.raw = rest.to_vec();
                continue;
            }
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                // A goodbye is the end; without one it was cut.
                let mut end = [0; 1];
                return Poll::Ready(self.connection.reader().read(&mut end).map(|_| ()));
            }
            let fed = self.poll_feed(cx, |connection| {
                ended = take(connection, out)?;
                Ok(ended || out.remaining() == 0)
            })?;
            if fed.is_pending() {
                self.send_what_rests(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// `write` encrypts as much as fits.
    fn poll_plain_write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Connection) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            self.taken = write(&mut self.connection)?;
        }
        ready!(self.poll_encrypted(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }
}

/// Moves what is decrypted to `out`. Whether the other side has said goodbye and all is taken.
fn take(connection: &mut Connection, out: &mut ReadBuf<'_>) -> io::Result<bool> {
    while out.remaining() > 0 {
        match connection.reader().read(out.initialize_unfilled()) {
            Ok(0) => return Ok(true),
            Ok(count) => out.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A socket as rustls writes to it; wakes when it takes more.
struct Socket<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

fn now(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(written) => written,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.tcp).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is written to once and never waited for.
struct Blind<'a>(&'a TcpStream);

impl io::Write for Blind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => stream.poll_plaintext(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => {
                stream.poll_plain_write(cx, |connection| connection.writer().write(buf))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => {
                stream.poll_plain_write(cx, |connection| connection.writer().write_vectored(bufs))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => stream.poll_encrypted(cx),
        }
    }

    /// Says goodbye, then closes our half (RFC 8446, section 6.1).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => {
                stream.connection.send_close_notify();
                ready!(stream.poll_encrypted(cx))?;
                Pin::new(&mut stream.tcp).poll_shutdown(cx)
            }
        }
    }
}
