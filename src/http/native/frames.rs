//! Where a WebSocket's frames begin and end, so that a tunnel can be closed between two of them.
//!
//! Nothing is unmasked, kept or judged. **Invariant:** each byte is looked at once, in whatever
//! pieces it comes.

/// Close, status 1001, "going away" (RFC 6455, sections 5.5.1 and 7.4.1), as a server sends it.
pub(super) const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xe9];
/// The opcode of a Close frame.
const CLOSE: u8 = 0x8;

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The first bytes of a frame's head.
    head: [u8; 10],
    have: usize,
    /// Bytes of the mask and the payload that are still to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// `bytes` come next.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= most as u64;
                bytes = &bytes[most..];
                continue;
            }
            self.head[self.have] = first;
            self.have += 1;
            bytes = rest;
            if let Some(left) = self.length() {
                self.closed |= self.head[0] & 0x0f == CLOSE;
                (self.left, self.have) = (left, 0);
            }
        }
    }

    /// What follows a head that is whole (RFC 6455, section 5.2).
    fn length(&self) -> Option<u64> {
        let second = *self.head[..self.have].get(1)?;
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        let payload = match second & 0x7f {
            126 if self.have == 4 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 if self.have == 10 => {
                let [.., a, b, c, d, e, f, g, h] = self.head;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
            126 | 127 => return None,
            short => u64::from(short),
        };
        Some(payload.saturating_add(mask))
    }

    const fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a Close frame may follow.
    pub(super) const fn may_close(&self) -> bool {
        self.is_between() && !self.closed
    }

    /// Whether a Close frame was the last.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_between() && self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, mask: bool, length: usize) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => frame.push(bit | length),
            (_, Ok(length)) => {
                frame.push(bit | 126);
                frame.extend(length.to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length + if mask { 4 } else { 0 }, 0xff);
        frame
    }

    #[test]
    fn frames_are_told_apart_in_whatever_pieces_they_come() {
        for mask in [false, true] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let bytes = [frame(2, mask, length), frame(1, mask, 3)].concat();
                let ends = [frame(2, mask, length).len(), bytes.len()];
                for step in [1, 2, 7, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut at = 0;
                    for piece in bytes.chunks(step) {
                        frames.pass(piece);
                        at += piece.len();
                        assert_eq!(frames.may_close(), ends.contains(&at), "{at} of {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        for close in [GOING_AWAY.to_vec(), frame(8, true, 2)] {
            let mut frames = Frames::default();
            assert!(frames.may_close() && !frames.is_closed());
            frames.pass(&close);
            assert!(!frames.may_close() && frames.is_closed());
            frames.pass(&frame(9, false, 2));
            assert!(!frames.may_close());
        }
    }

    #[test]
    fn a_length_beyond_all_bounds_is_no_panic() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert!(!frames.may_close());
    }
}
