//! A line's fields, one after the other, each with a space behind it, and what they are made of.
//!
//! Without `fmt`: a line has thirty fields, and a request should cost more than to tell of it.
//! **Invariant:** no text of somebody else ends its field or the line.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::clock::Timestamp;

/// Text of a client that gets into one field; the rest is cut off (ours: ALB's longest request
/// line).
const FIELD: usize = 16 * 1024;

thread_local! {
    /// The last second that was written, and how: most lines are of the same.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Writes an address as its `Display` does, in a tenth of the time.
pub fn push_ipv4(address: Ipv4Addr, out: &mut String) {
    for (place, part) in address.octets().into_iter().enumerate() {
        out.push_str(if place > 0 { "." } else { "" });
        out.push_str(itoa::Buffer::new().format(part));
    }
}

#[derive(Debug)]
pub(super) struct Line<'a>(pub(super) &'a mut String);

impl Line<'_> {
    /// What is written as it is; `-` in place of nothing.
    pub(super) fn word(&mut self, word: Option<&str>) {
        self.0.push_str(word.unwrap_or("-"));
        self.0.push(' ');
    }

    pub(super) fn number(&mut self, number: u64) {
        self.digits(number);
        self.0.push(' ');
    }

    pub(super) fn digits(&mut self, number: u64) {
        self.0.push_str(itoa::Buffer::new().format(number));
    }

    /// Seconds with milliseconds, -1 in place of none.
    pub(super) fn seconds(&mut self, time: Option<Duration>) {
        match time {
            Some(time) => {
                let millis = (time + Duration::from_micros(500)).as_millis();
                let (seconds, part) = (millis / 1000, millis % 1000);
                self.digits(u64::try_from(seconds).unwrap_or(u64::MAX));
                self.padded('.', u32::try_from(part).unwrap_or_default(), 100);
            }
            None => self.0.push_str("-1"),
        }
        self.0.push(' ');
    }

    /// `lead`, then as many digits as `highest` has.
    fn padded(&mut self, lead: char, number: u32, highest: u32) {
        self.0.push(lead);
        let mut place = highest;
        while place > 1 && number < place {
            self.0.push('0');
            place /= 10;
        }
        self.digits(number.into());
    }

    /// RFC 3339 with microseconds in UTC, as [`Timestamp`] is shown.
    pub(super) fn time(&mut self, at: Timestamp) {
        let (second, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
        SECOND.with_borrow_mut(|(last, text)| {
            if *last != second {
                *last = second;
                text.clear();
                let _ = write!(text, "{}", Timestamp(second * 1_000_000));
                // Its point, its digits and its zone.
                text.truncate(text.find('.').unwrap_or(text.len()));
            }
            self.0.push_str(text);
        });
        self.padded('.', u32::try_from(micros).unwrap_or_default(), 100_000);
        self.0.push_str("Z ");
    }

    pub(super) fn address(&mut self, address: Option<SocketAddr>) {
        self.socket(address);
        self.0.push(' ');
    }

    /// `-` in place of nothing.
    pub(super) fn socket(&mut self, address: Option<SocketAddr>) {
        match address {
            Some(SocketAddr::V4(address)) => {
                push_ipv4(*address.ip(), self.0);
                self.0.push(':');
                self.digits(address.port().into());
            }
            Some(address) => _ = write!(self.0, "{address}"),
            None => self.0.push('-'),
        }
    }

    /// What `write` writes, in quotes.
    pub(super) fn quoted(&mut self, write: impl FnOnce(&mut Self)) {
        self.0.push('"');
        write(self);
        self.0.push_str("\" ");
    }

    pub(super) fn quoted_text(&mut self, text: Option<&str>) {
        self.quoted(|line| line.text(text));
    }

    /// Ends the line in place of the space behind its last field.
    pub(super) fn end(self) {
        self.0.pop();
        self.0.push('\n');
    }

    /// Of somebody else: what could end the field or the line is written as `\xNN`; `-` in place of
    /// nothing.
    pub(super) fn text(&mut self, text: Option<&str>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return self.0.push('-') };
        let text = &text[..text.floor_char_boundary(FIELD)];
        let is_special = |b: u8| !(b' '..=b'~').contains(&b) || b == b'"' || b == b'\\';
        // All of them, not the first: that goes sixteen at a time.
        if !text.bytes().fold(false, |found, byte| found | is_special(byte)) {
            return self.0.push_str(text);
        }
        for byte in text.bytes() {
            if is_special(byte) {
                let _ = write!(self.0, "\\x{byte:02X}");
            } else {
                self.0.push(char::from(byte));
            }
        }
    }
}
