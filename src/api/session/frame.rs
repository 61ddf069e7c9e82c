//! Messages of a session's data channel.
//!
//! All numbers are big endian: the length of the head, a kind of 32 bytes filled up with spaces, a
//! version, the time in ms, a sequence number, flags, an id (a UUID, its low half first), SHA-256
//! of the payload, the payload's type and length, the payload. Source: the `message` package of
//! AWS's session-manager-plugin. **Invariant:** no bytes make the reader panic, and what it gives
//! back has the digest that it came with.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Of the head, in bytes; the payload's length follows it.
const HEAD: usize = 116;
const KIND: usize = 32;
const VERSION: u32 = 1;
/// SYN and FIN: a message that is its own stream.
pub(super) const ALONE: u64 = 3;

/// What a client sends.
pub(super) const INPUT: &str = "input_stream_data";
/// What the far side of a client sends.
pub(super) const OUTPUT: &str = "output_stream_data";
pub(super) const ACKNOWLEDGE: &str = "acknowledge";
pub(super) const CLOSED: &str = "channel_closed";

/// What a payload is.
pub(super) mod payload {
    /// Bytes of either direction.
    pub(in super::super) const BYTES: u32 = 1;
    /// `{"cols": 80, "rows": 24}`
    pub(in super::super) const SIZE: u32 = 3;
    pub(in super::super) const REQUEST: u32 = 5;
    pub(in super::super) const RESPONSE: u32 = 6;
    pub(in super::super) const COMPLETE: u32 = 7;
    /// A number of four bytes.
    pub(in super::super) const FLAG: u32 = 10;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: String,
    /// In ms since 1970.
    pub(super) created: u64,
    pub(super) sequence: i64,
    pub(super) flags: u64,
    pub(super) id: [u8; 16],
    pub(super) payload_type: u32,
    pub(super) payload: Bytes,
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the data channel {0}")]
pub(super) struct Bad(&'static str);

impl Frame {
    pub(super) fn write(&self) -> Bytes {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let mut wire = Vec::with_capacity(HEAD + 4 + self.payload.len());
        wire.extend(number(HEAD));
        wire.extend(format!("{:KIND$}", self.kind).as_bytes());
        wire.extend(VERSION.to_be_bytes());
        wire.extend(self.created.to_be_bytes());
        wire.extend(self.sequence.to_be_bytes());
        wire.extend(self.flags.to_be_bytes());
        let (high, low) = self.id.split_at(8);
        wire.extend(low);
        wire.extend(high);
        wire.extend(Sha256::digest(&self.payload));
        wire.extend(self.payload_type.to_be_bytes());
        wire.extend(number(self.payload.len()));
        wire.extend(&self.payload);
        wire.into()
    }

    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(wire: &Bytes) -> Result<Self, Bad> {
        let mut rest = &wire[..];
        let head = u32::from_be_bytes(take(&mut rest)?);
        let kind: [u8; KIND] = take(&mut rest)?;
        let kind = std::str::from_utf8(&kind).map_err(|_| Bad("has no kind"))?;
        if u32::from_be_bytes(take(&mut rest)?) != VERSION {
            return Err(Bad("is of another version"));
        }
        let created = u64::from_be_bytes(take(&mut rest)?);
        let sequence = i64::from_be_bytes(take(&mut rest)?);
        let flags = u64::from_be_bytes(take(&mut rest)?);
        let (low, high): ([u8; 8], [u8; 8]) = (take(&mut rest)?, take(&mut rest)?);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high);
        id[8..].copy_from_slice(&low);
        let digest: [u8; 32] = take(&mut rest)?;
        let payload_type = u32::from_be_bytes(take(&mut rest)?);
        // The head may be longer than what is known of it.
        let behind = usize::try_from(head).ok().filter(|head| *head >= HEAD);
        let mut rest = behind.and_then(|head| wire.get(head..)).ok_or(Bad("has no head"))?;
        let length = u32::from_be_bytes(take(&mut rest)?);
        if usize::try_from(length) != Ok(rest.len()) {
            return Err(Bad("has a payload of another length"));
        }
        if !rest.is_empty() && Sha256::digest(rest)[..] != digest {
            return Err(Bad("has a payload of another digest"));
        }
        let kind = kind.trim_matches(['\0', ' ']).to_owned();
        let payload = wire.slice_ref(rest);
        Ok(Self { kind, created, sequence, flags, id, payload_type, payload })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Bad> {
    let (taken, rest) = from.split_first_chunk().ok_or(Bad("is too short"))?;
    *from = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &'static [u8]) -> Frame {
        Frame {
            kind: INPUT.to_owned(),
            created: 0x0102,
            sequence: 7,
            flags: ALONE,
            id: *b"ABCDEFGHIJKLMNOP",
            payload_type: payload::BYTES,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn frames_lie_as_the_plugin_lays_them() {
        let wire = frame(b"ls\n").write();
        assert_eq!(&wire[..4], [0, 0, 0, 116]);
        assert_eq!(&wire[4..36], b"input_stream_data               ");
        assert_eq!(&wire[36..40], [0, 0, 0, 1]);
        assert_eq!(&wire[40..48], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(&wire[48..56], [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(&wire[56..64], [0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(&wire[64..80], b"IJKLMNOPABCDEFGH");
        assert_eq!(&wire[80..112], &Sha256::digest(b"ls\n")[..]);
        assert_eq!(&wire[112..], b"\0\0\0\x01\0\0\0\x03ls\n");
    }

    #[test]
    fn frames_that_are_cut_or_changed_are_refused() {
        let wire = frame(b"ls\n").write();
        for end in 0..wire.len() {
            assert!(Frame::read(&wire.slice(..end)).is_err(), "{end}");
        }
        let changed = |at: usize, to: u8| {
            let mut wire = wire.to_vec();
            wire[at] = to;
            Frame::read(&wire.into())
        };
        assert_eq!(changed(3, 115), Err(Bad("has no head")));
        assert_eq!(changed(5, 0xff), Err(Bad("has no kind")));
        assert_eq!(changed(39, 2), Err(Bad("is of another version")));
        assert_eq!(changed(90, 0), Err(Bad("has a payload of another digest")));
        assert_eq!(changed(120, b'L'), Err(Bad("has a payload of another digest")));
        assert_eq!(changed(119, 2), Err(Bad("has a payload of another length")));
        // What comes without a payload may come without its digest.
        let mut empty = frame(b"").write().to_vec();
        empty[80..112].fill(0);
        assert_eq!(Frame::read(&empty.into()), Ok(frame(b"")));
    }

    proptest! {
        #[test]
        fn frames_read_back_what_was_written(
            kind in "[a-z_]{1,32}", created: u64, sequence: i64, flags: u64, id: [u8; 16],
            payload_type: u32, payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let payload = Bytes::from(payload);
            let frame = Frame { kind, created, sequence, flags, id, payload_type, payload };
            prop_assert_eq!(Frame::read(&frame.write()), Ok(frame));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(
            noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..124_usize, by: u8,
        ) {
            let _ = Frame::read(&noise.into());
            let mut wire = frame(b"some").write().to_vec();
            wire[at] ^= by;
            let _ = Frame::read(&wire.into());
        }
    }
}
