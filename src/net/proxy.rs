//! The PROXY protocol, versions 1 and 2: who a connection is of, told by the proxy before us.
//!
//! Source: HAProxy's "The PROXY protocol", 2020/03/05. Strict: a byte that the text does not allow
//! refuses the connection, since what follows would be read as something it is not. Not here: which
//! listeners ask for it. **Invariant:** no byte behind the header is taken from the socket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::model::Pool;

/// For a header to be there as a whole (ours; the proxy sends it at once, the text asks for at
/// least 3 s, which is one retransmission).
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Section 2.1: the longest header of version 1, its CRLF included.
const LONGEST_1: usize = 107;
/// Of version 2 (ours; the text allows 64 KiB, and asks for what fits one segment).
const LONGEST_2: usize = 4096;
const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_2: usize = 16;
/// Section 2.2.3: the checksum of the whole header.
const TLV_CRC32C: u8 = 3;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("its source may not speak for others")]
    Untrusted,
    #[error("its header did not come in time")]
    Timeout,
    #[error("it ended within its header")]
    Closed,
    #[error("it does not begin with a header")]
    Malformed,
}

impl Refused {
    pub const ALL: [Self; 4] = [Self::Untrusted, Self::Timeout, Self::Closed, Self::Malformed];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
        }
    }
}

/// A header as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// In bytes.
    pub length: usize,
    /// None: the proxy speaks for itself, or does not know.
    pub client: Option<SocketAddr>,
}

/// Takes the header off a connection of `peer`; who it is of.
///
/// # Errors
/// It is to be closed.
pub async fn accept(
    stream: &mut TcpStream,
    peer: SocketAddr,
    trusted: &[Pool],
) -> Result<SocketAddr, Refused> {
    let source = peer.ip().to_canonical();
    if !trusted.iter().any(|pool| pool.contains(source)) {
        return Err(Refused::Untrusted);
    }
    match tokio::time::timeout(TIMEOUT, read(stream)).await {
        Ok(header) => Ok(header?.client.unwrap_or(peer)),
        Err(_) => Err(Refused::Timeout),
    }
}

async fn read(stream: &mut TcpStream) -> Result<Header, Refused> {
    let mut taken = Vec::new();
    let mut ahead = vec![0; LONGEST_2];
    loop {
        let room = ahead.len() - taken.len();
        let count = stream.peek(&mut ahead[..room]).await.map_err(|_| Refused::Closed)?;
        if count == 0 {
            return Err(Refused::Closed);
        }
        let before = taken.len();
        taken.extend_from_slice(&ahead[..count]);
        let header = parse(&taken).ok_or(Refused::Malformed)?;
        // Without a whole header all that has come is a part of it.
        let end = header.map_or(taken.len(), |header| header.length);
        let read = stream.read_exact(&mut ahead[..end - before]).await;
        read.map_err(|_| Refused::Closed)?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// Reads a header at the beginning of `bytes`. `Some(None)`: it has begun, and more has to come.
/// None: it is no header.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Option<Header>> {
    let begins = |signature: &[u8]| {
        let both = bytes.len().min(signature.len());
        bytes[..both] == signature[..both]
    };
    if begins(SIGNATURE_1) {
        return version_1(bytes);
    }
    begins(SIGNATURE_2).then(|| version_2(bytes)).flatten()
}

/// Section 2.1.
fn version_1(bytes: &[u8]) -> Option<Option<Header>> {
    let seen = &bytes[..bytes.len().min(LONGEST_1)];
    let Some(end) = seen.windows(2).position(|window| window == b"\r\n") else {
        return (bytes.len() < LONGEST_1 && !seen.contains(&b'\n')).then_some(None);
    };
    let length = end + 2;
    let line = std::str::from_utf8(&seen[..end]).ok()?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Some(Header { length, client: None }));
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, _) = (port(words.next()?)?, port(words.next()?)?);
    let client = Some(SocketAddr::new(source, source_port));
    words.next().is_none().then_some(Some(Header { length, client }))
}

/// A decimal number without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| plain && shortest)
}

/// Section 2.2.
fn version_2(bytes: &[u8]) -> Option<Option<Header>> {
    let command = bytes.get(12).copied();
    if command.is_some_and(|command| !matches!(command, 0x20 | 0x21)) {
        return None;
    }
    let family = bytes.get(13).copied();
    // Unspecified; TCP over IPv4, over IPv6; a stream over a Unix socket.
    if family.is_some_and(|family| !matches!(family, 0x00 | 0x11 | 0x21 | 0x31)) {
        return None;
    }
    let Some(&[high, low]) = bytes.get(14..FIXED_2) else { return Some(None) };
    let length = FIXED_2 + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_2 {
        return None;
    }
    let Some(header) = bytes.get(..length) else { return Some(None) };
    let body = &header[FIXED_2..];
    let known = match family {
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        _ => 0,
    };
    let (addresses, more) = body.split_at_checked(known)?;
    // With addresses that nobody names nothing is known of what follows them.
    if known > 0 && !are_good(more, header) {
        return None;
    }
    let client = match (command, addresses.len()) {
        (Some(0x20), _) => None,
        (_, 12) => {
            let source: [u8; 4] = addresses[..4].try_into().ok()?;
            Some((source, u16::from_be_bytes([addresses[8], addresses[9]])).into())
        }
        (_, 36) => {
            let source: [u8; 16] = addresses[..16].try_into().ok()?;
            Some((source, u16::from_be_bytes([addresses[32], addresses[33]])).into())
        }
        _ => None,
    };
    Some(Some(Header { length, client }))
}

/// Whether the TLVs fill what is left of the header, and its checksum, where there is one, is
/// right.
fn are_good(mut more: &[u8], header: &[u8]) -> bool {
    while !more.is_empty() {
        let Some((&[kind, high, low], behind)) = more.split_first_chunk() else { return false };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = behind.split_at_checked(length) else { return false };
        if kind == TLV_CRC32C {
            let Ok(sum) = <[u8; 4]>::try_from(value) else { return false };
            let at = header.len() - rest.len() - 4;
            let zeroed = header[..at].iter().chain(&[0; 4]).chain(&header[at + 4..]);
            if crc32c(zeroed) != u32::from_be_bytes(sum) {
                return false;
            }
        }
        more = rest;
    }
    true
}

/// RFC 3720, section 12.1: Castagnoli's polynomial, the bits of each byte reversed.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests;
