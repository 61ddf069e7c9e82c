//! TLS to targets, under pingora's own connections: pingora sees a stream without it.
//!
//! Pingora knows such a stream by no fd and so cannot keep it: each serves one exchange.
//! **Invariant:** its real fd is in the table of connections as every other's is.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as Address;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::limits::{CONNECT_TIMEOUT, TARGET_HANDSHAKE};
use super::idle::Fd;
use crate::tls::{self, Alpn};

/// Connects to one target.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) target: SocketAddr,
    pub(super) made: Arc<Fd>,
}

#[async_trait]
impl L4Connect for Secure {
    async fn connect(&self, _: &Address) -> Result<Stream> {
        let late = |kind: ErrorType| move |_| Error::explain(kind, "a target took too long");
        let failed =
            |kind: ErrorType| move |error: io::Error| Error::because(kind, "a target", error);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.target));
        let tcp = connecting.await.map_err(late(ErrorType::ConnectTimedout))?;
        let tcp = tcp.map_err(failed(ErrorType::ConnectError))?;
        // Only latency is lost when it cannot be set.
        let _ = tcp.set_nodelay(true);
        let shaking = tokio::time::timeout(
            TARGET_HANDSHAKE,
            tls::connect(tcp, self.target.ip(), Alpn::Http1),
        );
        let stream = shaking.await.map_err(late(ErrorType::TLSHandshakeTimedout))?;
        let stream = stream.map_err(failed(ErrorType::TLSHandshakeFailure))?;
        self.made.set(stream.tcp().as_raw_fd());
        Ok(Stream::from(VirtualSocketStream::new(Box::new(Inside(stream)))))
    }
}

#[derive(Debug)]
struct Inside(tls::Stream);

impl VirtualSocket for Inside {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Inside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
