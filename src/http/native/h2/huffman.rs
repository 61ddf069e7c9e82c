//! HPACK's code for strings (RFC 7541, section 5.2 and appendix B), as far as a server reads it.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, so
//! that the lengths are all there is to know. What is common has up to eight bits and is found at
//! once, the rest by its length. **Invariant:** what is not the code of some bytes is refused.

/// Bits of each byte's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, //
    30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, //
    8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, //
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, //
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, //
    22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, //
    22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, //
    22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, //
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, //
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// The longest code's.
const MOST: usize = 30;
/// Up to here codes are found at once.
const SHORT: u32 = 8;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    first: u32,
    count: u32,
    /// Where the first one's symbol stands in [`ORDER`].
    at: usize,
}

/// Bytes in the order of their codes.
const ORDER: [u8; 256] = {
    let (mut order, mut at, mut length) = ([0; 256], 0, 0);
    while length <= MOST {
        let mut byte = 0_u8;
        loop {
            if LENGTHS[byte as usize] as usize == length {
                order[at] = byte;
                at += 1;
            }
            if byte == u8::MAX {
                break;
            }
            byte += 1;
        }
        length += 1;
    }
    order
};

const ROWS: [Row; MOST + 1] = {
    let mut rows = [Row { first: 0, count: 0, at: 0 }; MOST + 1];
    let (mut next, mut at, mut length) = (0, 0, 1);
    while length <= MOST {
        next <<= 1;
        let (mut count, mut byte) = (0, 0);
        while byte < LENGTHS.len() {
            if LENGTHS[byte] as usize == length {
                count += 1;
            }
            byte += 1;
        }
        rows[length] = Row { first: next, count, at };
        next += count;
        at += count as usize;
        length += 1;
    }
    rows
};

/// By the first eight bits: a byte and the length of its code; 0: it is longer.
const COMMON: [(u8, u8); 1 << SHORT] = {
    let mut common = [(0, 0); 1 << SHORT];
    let mut length = 1;
    while length <= SHORT {
        let (row, mut index) = (ROWS[length as usize], 0);
        while index < row.count {
            let begin = (row.first + index) << (SHORT - length);
            let mut behind = 0;
            while behind < 1 << (SHORT - length) {
                let symbol = ORDER[row.at + index as usize];
                common[(begin + behind) as usize] = (symbol, LENGTHS[symbol as usize]);
                behind += 1;
            }
            index += 1;
        }
        length += 1;
    }
    common
};

/// Appends what `coded` stands for. None: it is not the code of any bytes.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.reserve(coded.len() * 8 / 5 + 1);
    let (mut rest, mut bits, mut have) = (coded.iter(), 0_u64, 0_u32);
    loop {
        while have <= 48
            && let Some(byte) = rest.next()
        {
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        // The next 32 bits; behind the end ones, as it is padded.
        let next = match have.checked_sub(32) {
            Some(behind) => bits >> behind,
            None => (bits << (32 - have)) | ((1 << (32 - have)) - 1),
        };
        let next = u32::try_from(next & u64::from(u32::MAX)).ok()?;
        let (byte, length) = match COMMON[(next >> (32 - SHORT)) as usize] {
            (_, 0) => rare(next)?,
            (byte, length) => (byte, u32::from(length)),
        };
        if length > have {
            // Less than a byte, all ones.
            return (have < 8 && next == u32::MAX).then_some(());
        }
        out.push(byte);
        have -= length;
    }
}

/// The byte whose long code these bits begin with. None: the end of all strings, which no string
/// has in it (but padding looks like its beginning).
fn rare(next: u32) -> Option<(u8, u32)> {
    for (length, row) in (0..).zip(&ROWS).skip(SHORT as usize + 1) {
        let index = (next >> (32 - length)).wrapping_sub(row.first);
        if index < row.count {
            return Some((ORDER[row.at + index as usize], length));
        }
    }
    // Longer than whatever may be left.
    (next == u32::MAX).then_some((0, u32::MAX))
}

#[cfg(test)]
pub(super) fn encode(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut have) = (Vec::new(), 0_u64, 0);
    for byte in bytes {
        let length = LENGTHS[usize::from(*byte)];
        let row = ROWS[usize::from(length)];
        let index = ORDER[row.at..].iter().position(|own| own == byte).unwrap();
        bits = bits << length | (u64::from(row.first) + index as u64);
        have += length;
        while have >= 8 {
            have -= 8;
            out.push(u8::try_from(bits >> have & 0xff).unwrap());
        }
    }
    if have > 0 {
        let padding = (1 << (8 - have)) - 1;
        out.push(u8::try_from((bits << (8 - have) | padding) & 0xff).unwrap());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(coded: &[u8], expected: Option<&[u8]>) {
        let mut out = Vec::new();
        let decoded = decode(coded, &mut out);
        assert_eq!(decoded.map(|()| &out[..]), expected, "{coded:x?}");
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541, appendix C.4 and C.6.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        check(&host, Some(b"www.example.com"));
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], Some(b"no-cache"));
        check(&[0xae, 0xc3, 0x77, 0x1a, 0x4b], Some(b"private"));
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        check(&date, Some(b"Mon, 21 Oct 2013 20:13:21 GMT"));
        check(&[], Some(b""));
    }

    #[test]
    fn what_ends_in_any_other_way_is_refused() {
        // A whole byte of padding, padding of zeros, the end of all strings.
        check(&[0xff], None);
        check(&[0x1f, 0xff], None);
        check(&[0x18], None);
        for length in 1..24 {
            check(&[0xff].repeat(length), None);
        }
        check(&[0xff, 0xff, 0xff, 0xfc], None);
    }

    proptest! {
        #[test]
        fn all_bytes_are_read_as_they_were_written(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut out = Vec::new();
            prop_assert_eq!(decode(&encode(&bytes), &mut out), Some(()));
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn what_is_read_is_the_only_way_to_write_it(
            coded in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut out = Vec::new();
            if decode(&coded, &mut out).is_some() {
                prop_assert_eq!(encode(&out), coded);
            }
        }
    }
}
