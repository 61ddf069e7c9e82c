//! Frames: what their headers say, and how ours are written (RFC 9113, sections 4 and 6).

use h2::Reason;

/// Length of a frame's header: RFC 9113, section 4.1.
pub(super) const HEADER: usize = 9;
/// What a frame may hold, theirs and ours: the least that is allowed, and the default.
pub(super) const MOST: usize = 16_384;

// Kinds: RFC 9113, section 6.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 32;

/// Settings: RFC 9113, section 6.5.2, and RFC 8441, section 3.
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(in super::super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// A frame that has come whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    flags: u8,
    /// 0: the connection.
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes`; none as long as it is not whole.
    ///
    /// # Errors
    /// It is larger than we take (section 4.2).
    pub(super) fn first(bytes: &'a [u8]) -> Result<Option<Self>, Reason> {
        let Some(([a, b, c, kind, flags, stream @ ..], rest)) = bytes.split_first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if length > MOST {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        let payload = rest.get(..length);
        Ok(payload.map(|payload| Self { kind: *kind, flags: *flags, stream, payload }))
    }

    pub(super) const fn size(&self) -> usize {
        HEADER + self.payload.len()
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without its padding (section 6.1).
    pub(super) fn content(&self) -> Result<&'a [u8], Reason> {
        if !self.has(PADDED) {
            return Ok(self.payload);
        }
        let (padding, rest) = self.payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        let length = rest.len().checked_sub(usize::from(*padding));
        Ok(&rest[..length.ok_or(Reason::PROTOCOL_ERROR)?])
    }

    /// The payload of a kind that has always the same length.
    pub(super) fn fixed<const N: usize>(&self) -> Result<[u8; N], Reason> {
        self.payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)
    }
}

/// Writes a frame's header.
pub(super) fn begin(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    let [_, _, _, _, _, a, b, c] = (length as u64).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Writes a frame.
pub(super) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    begin(kind, flags, stream, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Writes a field section.
pub(super) fn write_section(stream: u32, ends: bool, section: &[u8], out: &mut Vec<u8>) {
    let flags = if ends { END_STREAM } else { 0 };
    if section.len() <= MOST {
        return write(HEADERS, flags | END_HEADERS, stream, section, out);
    }
    let (first, mut rest) = section.split_at(MOST);
    write(HEADERS, flags, stream, first, out);
    while rest.len() > MOST {
        let (next, behind) = rest.split_at(MOST);
        write(CONTINUATION, 0, stream, next, out);
        rest = behind;
    }
    write(CONTINUATION, END_HEADERS, stream, rest, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let mut out = Vec::new();
        write(DATA, END_STREAM, 0x8000_0005, b"abc", &mut out);
        for length in 0..out.len() {
            assert!(Frame::first(&out[..length]).unwrap().is_none());
        }
        let frame = Frame::first(&out).unwrap().unwrap();
        assert_eq!((frame.kind, frame.stream, frame.size()), (DATA, 5, 12));
        assert!(frame.has(END_STREAM) && !frame.has(PADDED));
        assert_eq!(frame.content(), Ok(&b"abc"[..]));
        let large = [0, 0x40, 1, 0, 0, 0, 0, 0, 1];
        assert_eq!(Frame::first(&large).unwrap_err(), Reason::FRAME_SIZE_ERROR);
    }

    #[test]
    fn padding_is_taken_off() {
        let content = |payload: &[u8]| {
            Frame { kind: DATA, flags: PADDED, stream: 1, payload }.content().map(<[u8]>::to_vec)
        };
        assert_eq!(content(&[2, b'a', 0, 0]), Ok(b"a".to_vec()));
        assert_eq!(content(&[0]), Ok(Vec::new()));
        assert_eq!(content(&[1]), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(content(&[]), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn long_sections_go_in_pieces() {
        let mut out = Vec::new();
        write_section(1, true, &[7; 2 * MOST + 5], &mut out);
        let (mut at, mut seen) = (0, Vec::new());
        while let Some(frame) = Frame::first(&out[at..]).unwrap() {
            seen.push((frame.kind, frame.flags, frame.payload.len()));
            at += frame.size();
        }
        let expected = [(HEADERS, END_STREAM, MOST), (CONTINUATION, 0, MOST)];
        assert_eq!(seen, [&expected[..], &[(CONTINUATION, END_HEADERS, 5)]].concat());
    }
}
