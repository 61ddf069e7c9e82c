//! HPACK (RFC 7541): what a client's field sections are decoded by, and how ours are written.
//!
//! Ours are written without a table that changes, as HAProxy writes its own: the client has nothing
//! to keep, and heads may be made before it is their turn. **Invariant:** a section is read to its
//! end, or its connection ends: what comes next depends on it.

use std::collections::VecDeque;

use super::super::fields;
use super::{HEADER_LIST, KEPT, huffman};

/// RFC 9113, section 6.5.2: what clients may make us keep; the default.
const TABLE: usize = 4096;
/// What an entry counts beside its bytes: RFC 7541, section 4.1.
pub(super) const ENTRY: usize = 32;

/// What a section may become, as it counts (ours: whoever names long entries often makes much work
/// of few bytes; what is longer than [`HEADER_LIST`] alone is answered).
const MOST: usize = 4 * HEADER_LIST;

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
/// The first status in [`STATIC`], counted from 1.
const STATUS: u8 = 8;

/// A field section that cannot be read: RFC 7541 calls it a decoding error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// One connection's, from its client to us.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first: names and values, and where those begin.
    entries: VecDeque<(Box<[u8]>, usize)>,
    /// Of the entries, as they count.
    size: usize,
    most: usize,
    /// A field that is being read.
    field: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE, field: Vec::new() }
    }
}

impl Decoder {
    /// Calls `each` with the names and values of a section's fields, in order.
    ///
    /// # Errors
    /// It cannot be read; the connection is good for nothing any more.
    pub(super) fn decode(
        &mut self,
        mut section: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Undecodable> {
        let (mut begins, mut size) = (true, 0);
        while let Some(first) = section.first().copied() {
            if first & 0xe0 == 0x20 {
                // RFC 7541, section 4.2: at the beginning alone.
                let most = integer(&mut section, 5)?;
                if !begins || most > TABLE {
                    return Err(Undecodable);
                }
                self.most = most;
                self.evict(0);
                continue;
            }
            begins = false;
            if first & 0x80 != 0 {
                let index = integer(&mut section, 7)?;
                let (name, value) = self.get(index)?;
                size += name.len() + value.len() + ENTRY;
                if size > MOST {
                    return Err(Undecodable);
                }
                each(name, value);
                continue;
            }
            let is_kept = first & 0x40 != 0;
            let index = integer(&mut section, if is_kept { 6 } else { 4 })?;
            let value_at = self.read_field(index, &mut section)?;
            size += self.field.len() + ENTRY;
            if size > MOST {
                return Err(Undecodable);
            }
            each(&self.field[..value_at], &self.field[value_at..]);
            if is_kept {
                self.keep(value_at);
            }
        }
        Ok(())
    }

    /// Gives memory back that is of no use to a connection that rests.
    pub(super) fn rest(&mut self) {
        if self.field.capacity() > KEPT {
            self.field = Vec::new();
        }
    }

    /// Reads a literal field. Where its value begins.
    fn read_field(&mut self, index: usize, section: &mut &[u8]) -> Result<usize, Undecodable> {
        let mut field = std::mem::take(&mut self.field);
        field.clear();
        match index {
            0 => string(section, &mut field)?,
            _ => field.extend_from_slice(self.get(index)?.0),
        }
        let value_at = field.len();
        string(section, &mut field)?;
        self.field = field;
        Ok(value_at)
    }

    /// Indices count from 1, through the static table and on through ours.
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (field, value_at) = self.entries.get(index - STATIC.len()).ok_or(Undecodable)?;
        Ok(field.split_at(*value_at))
    }

    fn keep(&mut self, value_at: usize) {
        let size = self.field.len() + ENTRY;
        self.evict(size);
        // RFC 7541, section 4.4: what is larger than the table empties it, no more.
        if size <= self.most {
            self.entries.push_front((Box::from(&self.field[..]), value_at));
            self.size += size;
        }
    }

    /// Makes room for so much.
    fn evict(&mut self, size: usize) {
        while self.size + size > self.most
            && let Some((field, _)) = self.entries.pop_back()
        {
            self.size -= field.len() + ENTRY;
        }
    }
}

/// RFC 7541, section 5.1; of a prefix of so many bits.
fn integer(bytes: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    let most = (1 << prefix) - 1;
    let (first, mut rest) = bytes.split_first().ok_or(Undecodable)?;
    let mut number = usize::from(*first) & most;
    if number == most {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first().ok_or(Undecodable)?;
            rest = behind;
            // Four of them are more than any section of ours is long.
            if shift > 21 {
                return Err(Undecodable);
            }
            number += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(number)
}

/// RFC 7541, section 5.2.
fn string(bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
    let is_coded = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(bytes, 7)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(Undecodable)?;
    *bytes = rest;
    if is_coded {
        return huffman::decode(text, out).ok_or(Undecodable);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Says that our table holds nothing (section 4.2): what a client wants to hear that makes it
/// smaller.
pub(super) const EMPTY_TABLE: u8 = 0x20;

/// The status, which is a section's first field.
pub(super) fn write_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            write_integer(STATUS.into(), 4, 0, out);
            out.push(3);
            return fields::write_number(status.into(), out);
        }
    };
    out.push(0x80 | index);
}

/// A field, whatever the case of its name.
pub(super) fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 8);
    match index(name) {
        Some(index) => write_integer(index, 4, 0, out),
        None => {
            out.push(0);
            write_integer(name.len(), 7, 0, out);
            let begin = out.len();
            out.extend_from_slice(name);
            out[begin..].make_ascii_lowercase();
        }
    }
    write_integer(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

/// Where a name that responses have stands in the static table; the tests hold the numbers.
fn index(name: &[u8]) -> Option<usize> {
    let mut lower = [0; "access-control-allow-origin".len()];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let is = |index: usize| (STATIC[index - 1].0.as_bytes() == &*lower).then_some(index);
    match (lower.len(), lower.first()?) {
        (3, b'a') => is(21),
        (3, b'v') => is(60),
        (4, b'd') => is(33),
        (4, b'e') => is(34),
        (4, b'l') => is(45),
        (4, b'v') => is(59),
        (5, b'a') => is(22),
        (6, b's') => is(54),
        (7, b'e') => is(36),
        (8, b'l') => is(46),
        (10, b's') => is(55),
        (11, b'r') => is(53),
        (12, b'c') => is(31),
        (13, b'a') => is(18),
        (13, b'c') => is(24).or_else(|| is(30)),
        (13, b'l') => is(44),
        (14, b'c') => is(28),
        (16, b'c') => is(26).or_else(|| is(27)).or_else(|| is(29)),
        (16, b'w') => is(61),
        (19, b'c') => is(25),
        (25, b's') => is(56),
        (27, b'a') => is(20),
        _ => None,
    }
}

/// RFC 7541, section 5.1: behind `head`, which leaves so many bits of its byte.
fn write_integer(number: usize, prefix: u32, head: u8, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    let low = |number: usize| u8::try_from(number & 0xff).unwrap_or_default();
    if number < most {
        return out.push(head | low(number));
    }
    out.push(head | low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(decoder: &mut Decoder, section: &[u8]) -> Result<String, Undecodable> {
        let mut text = String::new();
        decoder.decode(section, |name, value| {
            let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            text += &format!("{}={} ", part(name), part(value));
        })?;
        Ok(text)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    /// Sections of one connection, with what they say and the size of the table behind them.
    fn check(sections: &[(&str, &str, usize)]) {
        let mut decoder = Decoder::default();
        for (hex, expected, size) in sections {
            assert_eq!(read(&mut decoder, &bytes(hex)).as_deref(), Ok(*expected), "{hex}");
            assert_eq!(decoder.size, *size, "{hex}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541, appendix C.3 and C.4.
        let first = ":method=GET :scheme=http :path=/ :authority=www.example.com ";
        let second = format!("{first}cache-control=no-cache ");
        let third = ":method=GET :scheme=https :path=/index.html :authority=www.example.com \
                     custom-key=custom-value ";
        check(&[
            ("828684410f7777772e6578616d706c652e636f6d", first, 57),
            ("828684be58086e6f2d6361636865", &second, 110),
            ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", third, 164),
        ]);
        check(&[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", first, 57),
            ("828684be5886a8eb10649cbf", &second, 110),
            ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", third, 164),
        ]);
        // C.2.1 to C.2.3.
        check(&[("040c2f73616d706c652f70617468", ":path=/sample/path ", 0)]);
        check(&[("100870617373776f726406736563726574", "password=secret ", 0)]);
    }

    #[test]
    fn the_table_is_as_large_as_its_client_says_and_no_larger_than_we_say() {
        // "a: b" has 34 of them.
        check(&[("3f03 4001610162", "a=b ", 34), ("4001610163 be", "a=c a=c ", 34)]);
        check(&[("4001610162", "a=b ", 34), ("20", "", 0)]);
        check(&[("20 4001610162", "a=b ", 0)]);
        for bad in ["3fe21f", "4001610162 20", "be", "80", "ff", "41", "4001", "400161", "0085"] {
            let got = read(&mut Decoder::default(), &bytes(bad));
            assert_eq!(got, Err(Undecodable), "{bad}");
        }
        assert_eq!(read(&mut Decoder::default(), &bytes("7fffffffffff7f")), Err(Undecodable));
        // A long name that is named often.
        let name = [&[0x40, 0x7f, 0xa1, 0x1e][..], &[b'a'; 4000], &[0]].concat();
        let often = |count: usize| [&name[..], &[0x0f, 47, 0].repeat(count)].concat();
        assert!(read(&mut Decoder::default(), &often(80)).is_ok());
        assert_eq!(read(&mut Decoder::default(), &often(100)), Err(Undecodable));
    }

    #[test]
    fn names_are_found_in_the_static_table_by_what_they_are() {
        let mut found = 0;
        for (at, (name, _)) in STATIC.iter().enumerate() {
            if let Some(index) = index(name.to_ascii_uppercase().as_bytes()) {
                assert_eq!(index, at + 1, "{name}");
                found += 1;
            }
        }
        assert_eq!(found, 25);
        assert_eq!(index(b"dat"), None);
        assert_eq!(index(b""), None);
    }

    proptest! {
        #[test]
        fn what_we_write_is_read_again(
            status in 100u16..1000,
            fields in prop::collection::vec(("[A-Za-z-]{1,140}|Date|ETag", "[ -~]{0,300}"), 0..20),
        ) {
            let (mut out, mut expected) = (Vec::new(), format!(":status={status} "));
            write_status(status, &mut out);
            for (name, value) in &fields {
                write_field(name.as_bytes(), value.as_bytes(), &mut out);
                expected += &format!("{}={value} ", name.to_ascii_lowercase());
            }
            prop_assert_eq!(read(&mut Decoder::default(), &out), Ok(expected));
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_too_much(
            sections in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        ) {
            let mut decoder = Decoder::default();
            for section in &sections {
                let _ = read(&mut decoder, section);
                let size = decoder.entries.iter().map(|(field, _)| field.len() + ENTRY);
                prop_assert_eq!(size.sum::<usize>(), decoder.size);
                prop_assert!(decoder.size <= decoder.most);
            }
        }
    }
}
