//! One end of a connection, by hand: HTTP/1 as it is written.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::PATIENCE;
use crate::tls::Stream;

/// A response, or what a target got.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) head: String,
    pub(super) body: String,
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| {
            line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        let line = self.head.lines().skip(1).find(|line| named(line))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// One end of a connection, by hand.
pub(super) struct Client {
    pub(super) stream: Stream,
    buffer: BytesMut,
}

impl Client {
    pub(super) fn new(stream: impl Into<Stream>) -> Self {
        let stream = stream.into();
        stream.tcp().set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    pub(super) async fn connect(address: std::net::SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub(super) fn port(&self) -> u16 {
        self.stream.tcp().local_addr().unwrap().port()
    }

    /// The other end may be gone already.
    pub(super) async fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Closes this half.
    pub(super) async fn shut(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Whether these bytes come before the end.
    pub(super) async fn until_bytes(&mut self, bytes: &[u8]) -> bool {
        while !self.buffer.windows(bytes.len()).any(|window| window == bytes) {
            if !self.more().await {
                return false;
            }
        }
        true
    }

    pub(super) async fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.response().await
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) -> Response {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.response().await
    }

    pub(super) async fn response(&mut self) -> Response {
        self.message().await.expect("the connection ended without a response")
    }

    /// False: the stream has ended.
    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("nothing came").is_ok_and(|count| count > 0)
    }

    /// A head without a body.
    pub(super) async fn head(&mut self) -> Option<Response> {
        let end = loop {
            let found = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = found {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = self.buffer.split_to(end + 4);
        Some(Response { head: String::from_utf8(head.to_vec()).unwrap(), body: String::new() })
    }

    /// A whole message, framed by length, chunks, or (responses alone) the end of the stream.
    pub(super) async fn message(&mut self) -> Option<Response> {
        let mut message = self.head().await?;
        if let Some(length) = message.header("content-length") {
            message.body = self.take(length.parse().unwrap()).await?;
        } else if message.header("transfer-encoding").is_some() {
            loop {
                let size = self.line().await?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                if size == 0 {
                    // Trailers, if any, and the empty line.
                    while !self.line().await?.trim().is_empty() {}
                    break;
                }
                message.body += &self.take(size).await?;
                self.line().await?;
            }
        } else if message.head.starts_with("HTTP/")
            && message.status() >= 200
            && message.status() != 204
        {
            message.body = self.rest().await;
        }
        Some(message)
    }

    pub(super) async fn take(&mut self, count: usize) -> Option<String> {
        Some(String::from_utf8(self.take_bytes(count).await?).unwrap())
    }

    pub(super) async fn take_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.split_to(count).to_vec())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return self.take(end + 1).await;
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Everything until the end of the stream.
    pub(super) async fn rest(&mut self) -> String {
        String::from_utf8(self.rest_bytes().await).unwrap()
    }

    pub(super) async fn rest_bytes(&mut self) -> Vec<u8> {
        while self.more().await {}
        self.buffer.split().to_vec()
    }

    /// Waits for the end; true when nothing came before it.
    pub(super) async fn ended(&mut self) -> bool {
        self.rest().await.is_empty()
    }

    pub(super) async fn echo(&mut self) {
        loop {
            let bytes = self.buffer.split();
            let _ = self.stream.write_all(&bytes).await;
            let read = self.stream.read_buf(&mut self.buffer).await;
            if !read.is_ok_and(|count| count > 0) {
                return;
            }
        }
    }
}
