//! One probe: a fresh connection, for HTTP one GET or one gRPC call on it, and what came of it.
//!
//! Not here: when to probe, what an outcome means. **Invariant:** a probe ends within its timeout
//! plus [`LINGER`], and holds at most [`LARGEST_HEAD`] bytes, whatever the target does.

mod http_2;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::verdict::Outcome;
use crate::model::{HealthCheck, Protocol};
use crate::tls::{self, Alpn, Stream};

/// ALB: response headers are at most 32 KiB.
const LARGEST_HEAD: usize = 32 * 1024;
/// How much of a body is read, so that closing does not reset a target that has just answered.
const LARGEST_BODY: usize = 64 * 1024;
/// How long that reading may take; the outcome is known by then.
const LINGER: Duration = Duration::from_millis(50);
/// What ALB calls itself.
const USER_AGENT: &str = "ELB-HealthChecker/2.0";

/// What one probe came to, and the code of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub outcome: Outcome,
    pub code: Option<u16>,
}

/// Probes `target` as `check` says; `check.port`, where given, is the caller's to respect.
pub async fn probe(target: SocketAddr, check: &HealthCheck) -> Probe {
    let without = |outcome| Probe { outcome, code: None };
    let is_http_2 = check.version.is_http_2() && check.protocol.is_http();
    let exchange = async {
        let stream = TcpStream::connect(target).await?;
        let alpn = if is_http_2 { Alpn::H2 } else { Alpn::Http1 };
        let stream = match check.protocol.is_secure() {
            true => tls::connect(stream, target.ip(), alpn).await?,
            false => Stream::Plain(stream),
        };
        match check.protocol {
            Protocol::Tcp | Protocol::Tls => Ok((None, None)),
            Protocol::Http | Protocol::Https if is_http_2 => {
                Ok((Some(http_2::ask(stream, target, check).await?), None))
            }
            Protocol::Http | Protocol::Https => ask(stream, target, &check.path).await,
        }
    };
    let (code, stream) = match tokio::time::timeout(check.timeout, exchange).await {
        Err(_) => return without(Outcome::TimedOut),
        Ok(Err(error)) => {
            tracing::debug!(%target, %error, "probe failed");
            return without(if is_ours(&error) { Outcome::NotSent } else { Outcome::Failed });
        }
        Ok(Ok(answer)) => answer,
    };
    let Some(code) = code else { return without(Outcome::Passed) };
    if let Some(stream) = stream {
        let _ = tokio::time::timeout(LINGER, drain(stream)).await;
    }
    let passed = check.matcher.iter().any(|codes| codes.contains(&code));
    let outcome = if passed { Outcome::Passed } else { Outcome::WrongCode(code) };
    Probe { outcome, code: Some(code) }
}

async fn ask(
    stream: Stream,
    target: SocketAddr,
    path: &str,
) -> std::io::Result<(Option<u16>, Option<Stream>)> {
    let (host, more) = (target.to_string(), "Accept-Encoding: gzip, compressed\r\n");
    let asked = Get { host: &host, path, agent: USER_AGENT, more };
    get(stream, &asked).await.map(|answer| (Some(answer.code), Some(answer.stream)))
}

/// What a probe asks for.
pub(super) struct Get<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) agent: &'a str,
    /// Further header lines.
    pub(super) more: &'a str,
}

/// A final answer's code, and where the rest of it is.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) stream: Stream,
    /// What has been read of the body.
    pub(super) rest: Vec<u8>,
}

/// One GET. The caller limits the time.
pub(super) async fn get(mut stream: Stream, asked: &Get<'_>) -> std::io::Result<Answer> {
    let Get { host, path, agent, more } = asked;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{more}\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    loop {
        while let Some(end) = head_end(&head) {
            let code = status(&head[..end]).ok_or_else(|| invalid("the answer is no HTTP/1.x"))?;
            // RFC 9110 section 15.2: any number of interim responses may come first.
            if code >= 200 {
                return Ok(Answer { code, stream, rest: head.split_off(end) });
            }
            head.drain(..end);
        }
        if head.len() >= LARGEST_HEAD {
            return Err(invalid("the response's head is too large"));
        }
        if !could_be_http(&head) {
            return Err(invalid("the answer is no HTTP/1.x"));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether this machine, not the target, is to blame: no descriptor, buffer or port was left.
pub(super) fn is_ours(error: &std::io::Error) -> bool {
    let out_of = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| out_of.contains(&code))
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// The length of the first head in `bytes`, its empty line included. RFC 9112 section 2.2 lets a
/// lone LF end a line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    lines.map(|(at, _)| at).find_map(|at| match &bytes[at + 1..] {
        [b'\r', b'\n', ..] => Some(at + 3),
        [b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

const VERSION: &[u8] = b"HTTP/1.";

fn could_be_http(bytes: &[u8]) -> bool {
    bytes.iter().zip(VERSION).all(|(byte, expected)| byte == expected)
}

/// The code of a status line: `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(VERSION)?;
    let [b'0' | b'1', b' ', code @ ..] = rest else { return None };
    let (code, rest) = code.split_at_checked(3)?;
    let ends = matches!(rest.first(), Some(b' ' | b'\r' | b'\n'));
    let code = std::str::from_utf8(code).ok()?;
    let digits = code.bytes().all(|b| b.is_ascii_digit());
    let code = code.parse().ok().filter(|code| (100..=599).contains(code));
    code.filter(|_| ends && digits)
}

async fn drain(mut stream: Stream) -> std::io::Result<()> {
    let mut left = LARGEST_BODY;
    let mut buffer = [0; 4096];
    while left > 0 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
