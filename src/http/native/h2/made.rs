//! A response's head on its way from a target's lines to HTTP/2's fields, as they are sent.

use super::hpack;

#[derive(Debug, Default)]
pub(in super::super) struct Made {
    section: Vec<u8>,
    is_tunnel: bool,
}

impl Made {
    /// A head begins, with its status.
    pub(in super::super) fn status(&mut self, status: u16) {
        self.is_tunnel = status == 101;
        self.section.clear();
        self.section.reserve(256);
        // RFC 8441, section 5: a tunnel begins with a 200.
        hpack::write_status(if self.is_tunnel { 200 } else { status }, &mut self.section);
    }

    /// One more field, of a target or of ours; its text fits HTTP/1.
    pub(in super::super) fn field(&mut self, name: &str, value: &[u8]) {
        // It answers a key that the client does not have.
        let is_ours = self.is_tunnel && name.eq_ignore_ascii_case("sec-websocket-accept");
        if !is_ours {
            hpack::write_field(name.as_bytes(), value, &mut self.section);
        }
    }

    pub(in super::super) fn length(&mut self, length: u64) {
        self.field("content-length", itoa::Buffer::new().format(length).as_bytes());
    }

    /// What there is to send.
    pub(super) fn section(&self) -> &[u8] {
        &self.section
    }

    /// It is sent, or never to be.
    pub(super) fn clear(&mut self) {
        self.section.clear();
    }
}
